/* SPDX-License-Identifier: MIT */
/* Loads a Multiboot 1 kernel: ELF, or anything that its header places in memory ("a.out kludge"). Each --initrd becomes a module.
 * Follows the Multiboot specification 0.6.96. No video mode is set: a kernel that asks for one finds no framebuffer information. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "boot/boot.h"
#include "boot/elf.h"
#include "boot/flat32.h"
#include "util/log.h"

#define HEADER_WITHIN 8192 /* bytes from the start of the file, 3.1 */
#define HEADER_MAGIC 0x1badb002u
#define INFO_MAGIC 0x2badb002u

enum { /* header flags: requirements (bits 0 to 15; unknown ones forbid booting) and facts */
	WANT_PAGE_ALIGN = 1 << 0, WANT_MEMORY = 1 << 1, WANT_VIDEO = 1 << 2, WANT_ALL = 0xffff, HAS_ADDRESSES = 1 << 16,
};

struct header { /* 3.1.1 */
	uint32_t magic, flags, checksum;
	uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr; /* with HAS_ADDRESSES */
} __attribute__((packed));
#define HEADER_SHORT offsetof(struct header, header_addr)

enum { INFO_MEMORY = 1 << 0, INFO_CMDLINE = 1 << 2, INFO_MODULES = 1 << 3, INFO_MAP = 1 << 6, INFO_LOADER_NAME = 1 << 9 };

struct info { /* 3.3 */
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, boot_loader_name, apm_table;
	uint8_t vbe[16], framebuffer[28];
} __attribute__((packed));

struct module {
	uint32_t start, end, string, reserved;
} __attribute__((packed));

struct map_entry { /* types are those of E820 */
	uint32_t size; /* of the rest */
	uint64_t start, length;
	uint32_t type;
} __attribute__((packed));

struct block { /* all that the kernel is told, in one piece */
	struct info info;
	struct module module[BOOT_MODULES];
	struct map_entry map[E820_MAX];
	struct flat32_tables tables;
	char loader_name[8];
	char strings[]; /* command line, NUL, the modules' strings with a NUL each */
} __attribute__((packed));

/* Finds the header and its offset; what it does not have reads as zero. */
static bool find_header(const struct boot_image *image, struct header *h, uint64_t *at)
{
	uint64_t within = MIN(image->size, (size_t)HEADER_WITHIN);
	for (*at = 0; *at + HEADER_SHORT <= within; *at += 4) {
		*h = (struct header){ 0 };
		memcpy(h, image->data + *at, HEADER_SHORT);
		if (h->magic != HEADER_MAGIC || h->magic + h->flags + h->checksum)
			continue;
		if (!(h->flags & HAS_ADDRESSES))
			return true;
		if (*at + sizeof(*h) <= within) {
			memcpy(h, image->data + *at, sizeof(*h));
			return true;
		}
	}
	return false;
}

static bool probe(const struct boot_image *image)
{
	struct header h;
	uint64_t at;
	return find_header(image, &h, &at);
}

/* The file from load_addr's place on goes to load_addr, up to load_end_addr or the end of the file; then come zeros up to bss_end_addr. */
static int layout_addresses(const struct boot_image *image, const struct header *h, uint64_t header_at, struct layout *l)
{
	if (h->load_addr > h->header_addr || h->header_addr - h->load_addr > header_at)
		return -ENOEXEC;
	uint64_t from = header_at - (h->header_addr - h->load_addr), size = image->size - from;
	if (h->load_end_addr) {
		if (h->load_end_addr < h->load_addr || h->load_end_addr - h->load_addr > size)
			return -ENOEXEC;
		size = h->load_end_addr - h->load_addr;
	}
	uint64_t whole = size;
	if (h->bss_end_addr) {
		if (h->bss_end_addr < h->load_addr || h->bss_end_addr - h->load_addr < size)
			return -ENOEXEC;
		whole = h->bss_end_addr - h->load_addr;
	}
	return layout_add(l, h->load_addr, whole, image->data + from, size);
}

static int layout_kernel(const struct boot_image *image, struct layout *l, uint64_t *entry)
{
	struct header h;
	struct elf elf;
	uint64_t at;
	if (!find_header(image, &h, &at))
		return -ENOEXEC;
	uint32_t unknown = h.flags & WANT_ALL & ~(WANT_PAGE_ALIGN | WANT_MEMORY | WANT_VIDEO);
	if (unknown) {
		log_error("%s: its Multiboot header demands what is unknown here (flags %x)", image->path, unknown);
		return -ENOTSUP;
	}
	int error;
	if (h.flags & HAS_ADDRESSES) {
		*entry = h.entry_addr;
		error = layout_addresses(image, &h, at, l);
		if (error)
			log_error("%s: what its Multiboot header says of addresses %s", image->path,
				  error == -ENOEXEC ? "does not fit the file" : layout_error(error));
		return error;
	}
	const char *wrong = elf_open(&elf, image->data, image->size);
	if (wrong) {
		log_error("%s has a Multiboot header without addresses, but %s", image->path, wrong);
		return -ENOEXEC;
	}
	*entry = elf_entry_physical(&elf);
	error = elf_layout(&elf, l);
	if (error)
		log_error("%s: a segment of the ELF file %s", image->path, layout_error(error));
	else if (*entry > UINT32_MAX) {
		log_error("%s: the entry point %llx lies above 4 GiB", image->path, (unsigned long long)*entry);
		error = -ENOEXEC;
	}
	return error;
}

/* By custom the first word of a string is the file's name: kernels skip it. Returns the size with its NUL; to NULL, only counts. */
static size_t put_string(char *to, size_t room, const char *path, const char *words)
{
	return (size_t)snprintf(to, room, "%s%s%s", boot_base_name(path), *words ? " " : "", words) + 1;
}

static size_t strings_size(const struct boot_request *request)
{
	size_t size = put_string(NULL, 0, request->kernel.path, request->append);
	for (unsigned i = 0; i < request->modules; i++)
		size += put_string(NULL, 0, request->module[i].file.path, request->module[i].text ?: "");
	return size;
}

static void fill(struct block *b, gpa_t at, const struct layout *l, const struct boot_request *request, uint64_t ram, const gpa_t *modules)
{
	size_t room = strings_size(request), used = put_string(b->strings, room, request->kernel.path, request->append);
	b->info = (struct info){
		.flags = INFO_MEMORY | INFO_CMDLINE | INFO_MODULES | INFO_MAP | INFO_LOADER_NAME,
		.mem_lower = PC_EBDA / KiB,
		.mem_upper = (uint32_t)((MAX(e820_low_end(ram), PC_BIOS_END) - PC_BIOS_END) / KiB),
		.cmdline = (uint32_t)(at + offsetof(struct block, strings)),
		.mmap_addr = (uint32_t)(at + offsetof(struct block, map)),
		.mmap_length = (uint32_t)(l->map.count * sizeof(struct map_entry)),
		.boot_loader_name = (uint32_t)(at + offsetof(struct block, loader_name)),
	};
	b->info.mods_count = request->modules;
	b->info.mods_addr = request->modules ? (uint32_t)(at + offsetof(struct block, module)) : 0;
	for (unsigned i = 0; i < request->modules; i++) {
		const struct boot_module *m = &request->module[i];
		b->module[i] = (struct module){ .start = (uint32_t)modules[i], .end = (uint32_t)(modules[i] + m->file.size),
						.string = b->info.cmdline + (uint32_t)used };
		used += put_string(b->strings + used, room - used, m->file.path, m->text ?: "");
	}
	for (unsigned i = 0; i < l->map.count; i++)
		b->map[i] = (struct map_entry){ sizeof(struct map_entry) - sizeof(uint32_t), l->map.entry[i].start, l->map.entry[i].size,
						l->map.entry[i].type };
	flat32_tables(&b->tables, at + offsetof(struct block, tables));
	strcpy(b->loader_name, "doppel");
}

static int load(struct vm *vm, const struct boot_request *request)
{
	const char *path = request->kernel.path;
	uint64_t ram = vm->memory.ram_size, entry;
	struct layout l;
	layout_init(&l, ram);
	int error = layout_kernel(&request->kernel, &l, &entry);
	if (error)
		return error;
	gpa_t modules[BOOT_MODULES];
	error = layout_modules(&l, request, modules);
	if (error)
		return error;
	size_t block_size = sizeof(struct block) + strings_size(request);
	gpa_t at = layout_room(&l, 0, block_size, X86_PAGE_SIZE);
	struct block *block = at ? calloc(1, block_size) : NULL;
	if (!block) {
		log_error("%s: no memory left for the Multiboot information", path);
		return -ENOMEM;
	}
	fill(block, at, &l, request, ram, modules);
	error = layout_write(vm, &l);
	if (!error)
		error = guest_write(vm, at, block, block_size);
	if (!error)
		error = flat32_enter(vm, at + offsetof(struct block, tables), (uint32_t)entry, INFO_MAGIC, (uint32_t)at);
	free(block);
	if (error)
		log_error("%s: loading failed: %s", path, strerror(-error));
	trace(boot, "multiboot entry %llx, information at %llx", (unsigned long long)entry, (unsigned long long)at);
	return error;
}

static const struct loader multiboot_loader = {
	.name = "multiboot",
	.summary = "a Multiboot 1 kernel",
	.probe = probe,
	.load = load,
};
LOADER(multiboot_loader);
