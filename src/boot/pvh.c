/* SPDX-License-Identifier: MIT */
/* Loads an ELF kernel by its PVH entry: the note XEN_ELFNOTE_PHYS32_ENTRY names a 32-bit entry point, which gets a struct
 * hvm_start_info. Follows Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h, version 1. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "boot/boot.h"
#include "boot/elf.h"
#include "boot/flat32.h"
#include "util/log.h"

#define NOTE_PHYS32_ENTRY 18
#define START_MAGIC 0x336ec578u
#define START_VERSION 1

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, cmdline, rsdp;
	uint64_t map;               /* version 1 */
	uint32_t map_entries, reserved;
} __attribute__((packed));

struct module {
	uint64_t at, size, cmdline, reserved;
} __attribute__((packed));

struct map_entry { /* types are those of E820 */
	uint64_t start, size;
	uint32_t type, reserved;
} __attribute__((packed));

struct block { /* all that the kernel is told, in one piece */
	struct start_info info;
	struct module module;
	struct map_entry map[E820_MAX];
	struct flat32_tables tables;
	char cmdline[];
} __attribute__((packed));

static bool find_entry(const struct boot_image *image, struct elf *elf, uint64_t *entry)
{
	const uint8_t *desc;
	uint32_t size;
	if (elf_open(elf, image->data, image->size) || !elf_note(elf, "Xen", NOTE_PHYS32_ENTRY, &desc, &size) || (size != 4 && size != 8))
		return false;
	*entry = 0;
	memcpy(entry, desc, size);
	return true;
}

static bool probe(const struct boot_image *image)
{
	struct elf elf;
	uint64_t entry;
	return find_entry(image, &elf, &entry);
}

static void fill(struct block *b, gpa_t at, const struct layout *l, const struct boot_request *request, gpa_t initrd)
{
	b->info = (struct start_info){ .magic = START_MAGIC, .version = START_VERSION, .cmdline = at + offsetof(struct block, cmdline),
				       .rsdp = request->rsdp, .map = at + offsetof(struct block, map), .map_entries = l->map.count };
	if (initrd) {
		b->info.modules = 1;
		b->info.module_list = at + offsetof(struct block, module);
		b->module = (struct module){ .at = initrd, .size = request->initrd.size };
	}
	for (unsigned i = 0; i < l->map.count; i++)
		b->map[i] = (struct map_entry){ l->map.entry[i].start, l->map.entry[i].size, l->map.entry[i].type, 0 };
	flat32_tables(&b->tables, at + offsetof(struct block, tables));
	strcpy(b->cmdline, request->append);
}

static int load(struct vm *vm, const struct boot_request *request)
{
	const char *path = request->kernel.path;
	struct layout l;
	struct elf elf;
	uint64_t entry;
	if (!find_entry(&request->kernel, &elf, &entry))
		return -ENOEXEC;
	layout_init(&l, vm->memory.ram_size);
	int error = elf_layout(&elf, &l);
	if (error) {
		log_error("%s: a segment of the ELF file %s", path, layout_error(error));
		return error;
	}
	if (entry > UINT32_MAX) {
		log_error("%s: the PVH entry %llx lies above 4 GiB", path, (unsigned long long)entry);
		return -ENOEXEC;
	}
	gpa_t initrd = 0;
	if (request->initrd.data) {
		uint64_t size = request->initrd.size;
		initrd = layout_room(&l, MAX(layout_end(&l), PC_BIOS_END), MAX(size, 1ULL), X86_PAGE_SIZE);
		if (!initrd || layout_add(&l, initrd, size, request->initrd.data, size)) {
			log_error("%s: an initrd of %llu bytes does not fit behind the kernel; use more --memory", request->initrd.path,
				  (unsigned long long)size);
			return -ENOMEM;
		}
	}
	size_t block_size = sizeof(struct block) + strlen(request->append) + 1;
	gpa_t at = layout_room(&l, 0, block_size, X86_PAGE_SIZE);
	struct block *block = at ? calloc(1, block_size) : NULL;
	if (!block) {
		log_error("%s: no memory left for the start information", path);
		return -ENOMEM;
	}
	fill(block, at, &l, request, initrd);
	error = layout_write(vm, &l);
	if (!error)
		error = guest_write(vm, at, block, block_size);
	if (!error)
		error = flat32_enter(vm, at + offsetof(struct block, tables), (uint32_t)entry, 0, (uint32_t)at);
	free(block);
	if (error)
		log_error("%s: loading failed: %s", path, strerror(-error));
	trace(boot, "PVH entry %llx, start information at %llx", (unsigned long long)entry, (unsigned long long)at);
	return error;
}

static const struct loader pvh_loader = {
	.name = "pvh",
	.summary = "an ELF kernel with a PVH entry (vmlinux)",
	.probe = probe,
	.load = load,
};
LOADER(pvh_loader);
