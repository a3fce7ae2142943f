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
	struct module module[BOOT_MODULES];
	struct map_entry map[E820_MAX];
	struct flat32_tables tables;
	char strings[]; /* command line, NUL, the modules' strings with a NUL each */
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

static void fill(struct block *b, gpa_t at, const struct layout *l, const struct boot_request *request, const gpa_t *modules)
{
	b->info = (struct start_info){ .magic = START_MAGIC, .version = START_VERSION, .cmdline = at + offsetof(struct block, strings),
				       .rsdp = request->rsdp, .map = at + offsetof(struct block, map), .map_entries = l->map.count };
	char *string = stpcpy(b->strings, request->append) + 1;
	b->info.modules = request->modules;
	b->info.module_list = request->modules ? at + offsetof(struct block, module) : 0;
	for (unsigned i = 0; i < request->modules; i++) {
		const struct boot_module *m = &request->module[i];
		b->module[i] = (struct module){ .at = modules[i], .size = m->file.size };
		if (!m->text)
			continue;
		b->module[i].cmdline = at + (uint64_t)(string - (char *)b);
		string = stpcpy(string, m->text) + 1;
	}
	for (unsigned i = 0; i < l->map.count; i++)
		b->map[i] = (struct map_entry){ l->map.entry[i].start, l->map.entry[i].size, l->map.entry[i].type, 0 };
	flat32_tables(&b->tables, at + offsetof(struct block, tables));
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
	gpa_t modules[BOOT_MODULES];
	error = layout_modules(&l, request, modules);
	if (error)
		return error;
	size_t block_size = sizeof(struct block) + strlen(request->append) + 1;
	for (unsigned i = 0; i < request->modules; i++)
		block_size += request->module[i].text ? strlen(request->module[i].text) + 1 : 0;
	gpa_t at = layout_room(&l, 0, block_size, X86_PAGE_SIZE);
	struct block *block = at ? calloc(1, block_size) : NULL;
	if (!block) {
		log_error("%s: no memory left for the start information", path);
		return -ENOMEM;
	}
	fill(block, at, &l, request, modules);
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
