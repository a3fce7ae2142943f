/* SPDX-License-Identifier: MIT */
/* Loads a Linux bzImage as a boot loader would, and enters it by its 64-bit entry where it offers one, else by the 32-bit one; the
 * real-mode setup code is not run. Follows Linux's Documentation/arch/x86/boot.rst, protocol 2.06 and later.
 *
 * Every field of the header is hostile. check() refuses what cannot be; plan() finds places for kernel and initrd that fit
 * into RAM and do not overlap; only then memory is written. */
#include "boot/linux.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "board/text_mode.h"
#include "boot/boot.h"
#include "util/log.h"
#include "util/options.h"
#include "x86/features.h"

/* Where things lie in conventional memory, below the EBDA. The kernel copies what it wants before it uses that memory. */
enum {
	GDT_AT = 0x6000,
	ZERO_PAGE_AT = 0x7000,
	TABLES_AT = 0x10000,   /* six pages: identity mapping of the first 4 GiB */
	CMDLINE_AT = 0x20000,
	CMDLINE_ROOM = 0x60000,
	STACK_AT = 0x6000,     /* grows down from here: the protocol promises none, but an early fault may push */
};
#define INITRD_ALIGN 4
enum { BOOT_CS = 0x10, BOOT_DS = 0x18 }; /* the selectors that the protocol names */

struct plan {
	const struct boot_request *request;
	struct linux_header header;
	size_t code_at, code_size; /* protected-mode code in the file */
	uint64_t load, load_end;   /* where it goes; end of what it needs before it knows the memory map */
	uint64_t initrd;           /* 0: none */
	uint64_t initrd_size;      /* of all of them, one behind the other */
	bool long_mode;            /* by the 64-bit entry */
	bool bios;                 /* by the 16-bit entry, with a BIOS beneath */
};

static bool probe(const struct boot_image *image)
{
	uint32_t magic;
	size_t at = LINUX_HEADER_AT + offsetof(struct linux_header, magic);
	if (image->size < at + sizeof(magic))
		return false;
	memcpy(&magic, image->data + at, sizeof(magic));
	return magic == LINUX_MAGIC;
}

/* The header is as long as its own jump says; what an older protocol lacks reads as zero. */
static int read_header(struct plan *p)
{
	const struct boot_image *kernel = &p->request->kernel;
	struct linux_header *h = &p->header;
	size_t end = LINUX_HEADER_END_BASE + kernel->data[LINUX_HEADER_AT + offsetof(struct linux_header, jump) + 1];
	size_t need = LINUX_HEADER_AT + (p->bios ? offsetof(struct linux_header, initrd_addr_max) : offsetof(struct linux_header, hardware_subarch));
	if (kernel->size < end || end < need) {
		log_error("%s: the setup header ends at byte %zu; the file has %zu, and the protocol needs %zu", kernel->path, end,
			  kernel->size, need);
		return -ENOEXEC;
	}
	memcpy(h, kernel->data + LINUX_HEADER_AT, MIN(end - LINUX_HEADER_AT, sizeof(*h)));
	return 0;
}

static int check(struct plan *p)
{
	const struct boot_image *kernel = &p->request->kernel;
	struct linux_header *h = &p->header;
	int error = read_header(p);
	if (error)
		return error;
	if (h->boot_flag != LINUX_BOOT_FLAG) {
		log_error("%s: the boot flag is %04x instead of aa55: the file is damaged", kernel->path, h->boot_flag);
		return -ENOEXEC;
	}
	uint16_t oldest = p->bios ? LINUX_OLDEST_16 : LINUX_OLDEST;
	if (h->version < oldest) {
		log_error("%s: boot protocol %u.%02u is too old; %u.%02u is the oldest that can be booted%s", kernel->path, h->version >> 8,
			  h->version & 0xff, oldest >> 8, oldest & 0xff, p->bios ? "" : " without --bios seabios");
		return -ENOEXEC;
	}
	if (!(h->loadflags & LOADFLAG_HIGH)) {
		log_error("%s is a zImage (loaded below 1 MiB); only a bzImage can be booted", kernel->path);
		return -ENOEXEC;
	}
	unsigned sectors = (h->setup_sects ? h->setup_sects : 4) + 1;
	p->code_at = (size_t)sectors * 512;
	if (kernel->size <= p->code_at) {
		log_error("%s: the setup header says %u sectors but the file has %zu", kernel->path, sectors, kernel->size / 512);
		return -ENOEXEC;
	}
	/* Behind the code there may be a signature; the last paragraph may be cut short. */
	uint64_t said = (uint64_t)h->syssize * 16;
	size_t rest = kernel->size - p->code_at;
	if (said > rest + 15) {
		log_error("%s: the setup header says %llu bytes of kernel but the file has %zu: it is cut off", kernel->path,
			  (unsigned long long)said, rest);
		return -ENOEXEC;
	}
	p->code_size = said ? MIN((size_t)said, rest) : rest;
	uint32_t said_longest = p->bios ? MAX(h->cmdline_size, (uint32_t)LINUX_CMDLINE_OLD) : h->cmdline_size;
	size_t length = strlen(p->request->append), longest = MIN(said_longest, (uint32_t)CMDLINE_ROOM - 1);
	if (length > longest) {
		log_error("the command line (--append) has %zu characters, %s takes %zu", length, kernel->path, longest);
		return -E2BIG;
	}
	return 0;
}

/* What --memory should say so that `bytes` of RAM are there, rounded up to something that reads well. */
static const char *memory_hint(char text[24], uint64_t bytes)
{
	return option_size_text(text, align_up(bytes, 64 * MiB));
}

/* A relocatable kernel could lie anywhere, but moves itself up to pref_address when it finds itself below; so that is where it goes. */
static int plan_kernel(struct plan *p, uint64_t low_end)
{
	const struct linux_header *h = &p->header;
	const char *path = p->request->kernel.path;
	bool modern = h->version >= 0x020a;
	p->load = modern ? h->pref_address : MAX(h->code32_start, (uint32_t)MiB);
	if (modern && h->relocatable_kernel && h->kernel_alignment) {
		uint64_t alignment = h->kernel_alignment;
		if (alignment & (alignment - 1)) {
			log_error("%s: the kernel's alignment of %llu bytes is no power of two: the file is damaged", path,
				  (unsigned long long)alignment);
			return -ENOEXEC;
		}
		if (p->load < UINT32_MAX)
			p->load = align_up(MAX(p->load, MiB), alignment);
	}
	uint64_t size = MAX(modern ? (uint64_t)h->init_size : 0, (uint64_t)p->code_size);
	if (p->load < MiB || p->load >= RAM_HOLE_START || size > RAM_HOLE_START - p->load) {
		log_error("%s: the setup header wants %llu bytes at address %llx, where no RAM can be", path, (unsigned long long)size,
			  (unsigned long long)p->load);
		return -ENOEXEC;
	}
	p->load_end = p->load + size;
	if (p->load_end > low_end) {
		char have[24], want[24];
		log_error("%s needs more than %s of RAM to start: use --memory %s", path, option_size_text(have, low_end),
			  memory_hint(want, p->load_end + p->load_end / 4));
		return -ENOMEM;
	}
	return 0;
}

/* Several make one, as boot loaders do it: the kernel finds an archive behind the other at multiples of four. */
static int measure_initrds(struct plan *p)
{
	for (unsigned i = 0; i < p->request->modules; i++) {
		const struct boot_module *m = &p->request->module[i];
		if (m->text) {
			log_error("%s: words behind the name of an initrd (\"%s\") are for Multiboot and PVH kernels; Linux has only --append",
				  m->file.path, m->text);
			return -EINVAL;
		}
		p->initrd_size = align_up(p->initrd_size, INITRD_ALIGN) + m->file.size;
	}
	return 0;
}

static int write_initrds(struct vm *vm, const struct plan *p)
{
	uint64_t at = p->initrd;
	int error = 0;
	for (unsigned i = 0; i < p->request->modules && !error; i++) {
		const struct boot_image *file = &p->request->module[i].file;
		at = align_up(at, INITRD_ALIGN);
		error = guest_write(vm, at, file->data, file->size);
		at += file->size;
	}
	return error;
}

/* As high as the kernel and the RAM allow, so that it is not in the way of what the kernel unpacks. */
static int plan_initrd(struct plan *p, uint64_t ram)
{
	int error = measure_initrds(p);
	if (error || !p->initrd_size)
		return error;
	const struct boot_image *initrd = &p->request->module[0].file;
	uint64_t low_end = e820_low_end(ram), high_end = e820_high_end(ram), size = p->initrd_size;
	uint64_t allowed = MIN(low_end, (uint64_t)p->header.initrd_addr_max + 1);
	if (size <= allowed && align_down(allowed - size, X86_PAGE_SIZE) >= p->load_end) {
		p->initrd = align_down(allowed - size, X86_PAGE_SIZE);
		return 0;
	}
	if (p->long_mode && (p->header.xloadflags & XLF_ABOVE_4G) && high_end > RAM_HOLE_END && size <= high_end - RAM_HOLE_END) {
		p->initrd = align_down(high_end - size, X86_PAGE_SIZE);
		return 0;
	}
	char text[24], have[24], want[24];
	uint64_t need = p->load_end + size;
	option_size_text(text, align_up(size, size < MiB ? KiB : MiB));
	if (need > low_end && need <= MIN(RAM_HOLE_START, (uint64_t)p->header.initrd_addr_max + 1))
		log_error("%s: an initrd of %s does not fit in %s of RAM: use --memory %s", initrd->path, text, option_size_text(have, ram),
			  memory_hint(want, need + need / 4));
	else
		log_error("%s: an initrd of %s does not fit behind the kernel; this kernel takes it only below %llx", initrd->path, text,
			  (unsigned long long)MIN(RAM_HOLE_START, (uint64_t)p->header.initrd_addr_max + 1));
	return -ENOMEM;
}

static int write_zero_page(struct vm *vm, const struct plan *p)
{
	struct linux_zero_page *page = calloc(1, sizeof(*page));
	if (!page)
		return -ENOMEM;
	struct e820 map;
	e820_build(&map, vm->memory.ram_size);
	page->header = p->header;
	page->header.type_of_loader = LINUX_LOADER_OTHER;
	page->header.ext_loader_type = page->header.ext_loader_ver = 0;
	page->header.code32_start = (uint32_t)p->load;
	page->header.cmd_line_ptr = CMDLINE_AT;
	page->header.setup_data = 0;
	page->header.hardware_subarch = 0; /* a PC */
	page->header.vid_mode = 0xffff;    /* "normal" */
	page->header.ramdisk_image = page->header.ramdisk_size = 0;
	if (p->initrd) {
		uint64_t size = p->initrd_size;
		page->header.ramdisk_image = (uint32_t)p->initrd;
		page->header.ramdisk_size = (uint32_t)size;
		page->ext_ramdisk_image = (uint32_t)(p->initrd >> 32);
		page->ext_ramdisk_size = (uint32_t)(size >> 32);
	}
	page->screen = (struct linux_screen){ .mode = 3, .columns = TEXT_MODE_COLUMNS, .rows = TEXT_MODE_ROWS,
		.is_vga = LINUX_SCREEN_VGA_TEXT, .character_lines = TEXT_MODE_GLYPH };
	page->acpi_rsdp_addr = p->request->rsdp;
	page->alt_mem_k = (uint32_t)((e820_low_end(vm->memory.ram_size) - MiB) / KiB);
	page->e820_entries = (uint8_t)map.count;
	memcpy(page->e820, map.entry, map.count * sizeof(map.entry[0]));
	int error = guest_write(vm, ZERO_PAGE_AT, page, sizeof(*page));
	free(page);
	return error;
}

/* One PML4, one PDPT, four page directories of 2 MiB pages. */
static int write_page_tables(struct vm *vm)
{
	enum { ENTRIES = 512, DIRECTORIES = 4 };
	const uint64_t table = PTE_P | PTE_W;
	uint64_t *t = calloc(2 + DIRECTORIES, X86_PAGE_SIZE);
	if (!t)
		return -ENOMEM;
	t[0] = (TABLES_AT + X86_PAGE_SIZE) | table;
	for (unsigned d = 0; d < DIRECTORIES; d++) {
		t[ENTRIES + d] = (TABLES_AT + (2 + d) * X86_PAGE_SIZE) | table;
		for (unsigned i = 0; i < ENTRIES; i++)
			t[(2 + d) * ENTRIES + i] = ((uint64_t)(d * ENTRIES + i) << 21) | PTE_PS | table;
	}
	int error = guest_write(vm, TABLES_AT, t, (2 + DIRECTORIES) * X86_PAGE_SIZE);
	free(t);
	return error;
}

static struct x86_segment flat(uint16_t selector, uint32_t attr)
{
	return (struct x86_segment){ .limit = UINT32_MAX, .attr = attr | SEGA_P | SEGA_S | SEGA_G | SEGA_ACCESSED, .selector = selector };
}

static uint64_t descriptor(const struct x86_segment *s)
{
	return 0xffffULL | (uint64_t)(s->attr & 0xff) << 40 | 0xfULL << 48 | (uint64_t)(s->attr & 0xf000) << 40;
}

/* The processor's state at the entry: boot.rst "32-bit boot protocol" and "64-bit boot protocol". */
static int enter(struct vm *vm, const struct plan *p)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	int error = vcpu_state(vcpu, X86_ALL_GROUPS);
	if (error)
		return error;
	struct x86_segment code = flat(BOOT_CS, SEGA_CODE | SEGA_READABLE | (p->long_mode ? SEGA_L : SEGA_DB));
	struct x86_segment data = flat(BOOT_DS, SEGA_WRITABLE | SEGA_DB);
	uint64_t gdt[] = { 0, 0, descriptor(&code), descriptor(&data) };
	error = guest_write(vm, GDT_AT, gdt, sizeof(gdt));
	if (error)
		return error;

	for (unsigned i = 0; i < 16; i++)
		cpu->gpr[i] = 0;
	cpu->gpr[RSI] = ZERO_PAGE_AT;
	cpu->gpr[RSP] = STACK_AT;
	cpu->rflags = FLAG_FIXED;
	for (unsigned i = 0; i < SEG_COUNT; i++)
		cpu->seg[i] = i == SEG_CS ? code : data;
	cpu->gdtr = (struct x86_table){ .base = GDT_AT, .limit = sizeof(gdt) - 1 };
	cpu->idtr = (struct x86_table){ .base = 0, .limit = 0 };
	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
	*x86_rip(cpu) = p->load;
	if (p->long_mode) {
		cpu->cr0 |= CR0_PG;
		cpu->cr3 = TABLES_AT;
		cpu->cr4 = CR4_PAE;
		cpu->efer = EFER_LME | EFER_LMA;
		*x86_rip(cpu) = p->load + LINUX_ENTRY64;
	}
	cpu->activity = X86_RUNNING;
	x86_core_loaded(&vcpu->core);
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	return 0;
}

static int load(struct vm *vm, const struct boot_request *request)
{
	struct plan p = { .request = request };
	uint64_t ram = vm->memory.ram_size;
	int error = check(&p);
	if (error)
		return error;
	p.long_mode = p.header.version >= 0x020c && (p.header.xloadflags & XLF_KERNEL_64) && p.code_size > LINUX_ENTRY64 &&
		      x86_has(&vm->vcpu[0]->core, FEATURE_LM);
	error = plan_kernel(&p, e820_low_end(ram));
	if (!error)
		error = plan_initrd(&p, ram);
	if (error)
		return error;

	const char *append = request->append;
	error = guest_write(vm, p.load, request->kernel.data + p.code_at, p.code_size);
	if (!error && p.initrd)
		error = write_initrds(vm, &p);
	if (!error)
		error = guest_write(vm, CMDLINE_AT, append, strlen(append) + 1);
	if (!error)
		error = write_zero_page(vm, &p);
	if (!error && p.long_mode)
		error = write_page_tables(vm);
	if (!error)
		error = enter(vm, &p);
	if (error) {
		log_error("%s: loading failed: %s", request->kernel.path, strerror(-error));
		return error;
	}
	trace(boot, "kernel %llx-%llx (needs up to %llx), %s entry", (unsigned long long)p.load,
	      (unsigned long long)(p.load + p.code_size), (unsigned long long)p.load_end, p.long_mode ? "64-bit" : "32-bit");
	if (p.initrd)
		trace(boot, "initrd %llx-%llx", (unsigned long long)p.initrd, (unsigned long long)(p.initrd + p.initrd_size));
	return 0;
}

/* ---- For a BIOS --------------------------------------------------------------------------------------------------------- */

/* What a boot loader of old does: real-mode code and its heap in one segment, the command line in the next, the rest above 1 MiB. */
enum { SETUP_AT = 0x10000, SETUP_ROOM = 0xfe00, BIOS_OWN = 2 * MiB /* that it keeps at the end of RAM for tables */ };

bool linux_needs_bios(const struct boot_image *image)
{
	uint16_t version;
	if (!probe(image))
		return false;
	memcpy(&version, image->data + LINUX_HEADER_AT + offsetof(struct linux_header, version), sizeof(version));
	return version < LINUX_WITHOUT_BIOS;
}

static int plan_for_bios(struct plan *p, uint64_t ram)
{
	const char *path = p->request->kernel.path;
	uint64_t low_end = e820_low_end(ram);
	if (low_end < BIOS_OWN + MiB || p->code_size > low_end - BIOS_OWN - MiB || p->code_at > SETUP_ROOM) {
		log_error("%s does not fit into %llu MiB of RAM with a BIOS", path, (unsigned long long)(ram / MiB));
		return -ENOMEM;
	}
	int error = measure_initrds(p);
	if (error || !p->initrd_size)
		return error;
	uint64_t most = p->header.version >= 0x0203 ? p->header.initrd_addr_max : LINUX_INITRD_MAX_OLD;
	uint64_t end = MIN(low_end - BIOS_OWN, most + 1);
	if (p->initrd_size > end || end - p->initrd_size < MiB + p->code_size) {
		log_error("%s: an initrd of %llu bytes does not fit behind the kernel; use more --memory", p->request->module[0].file.path,
			  (unsigned long long)p->initrd_size);
		return -ENOMEM;
	}
	p->initrd = align_down(end - p->initrd_size, X86_PAGE_SIZE);
	return 0;
}

static void fill_for_bios(struct plan *p, uint8_t *setup, uint8_t *initrd)
{
	struct linux_header *h = &p->header;
	h->type_of_loader = LINUX_LOADER_OTHER;
	h->loadflags |= LOADFLAG_HEAP;
	h->heap_end_ptr = SETUP_ROOM;
	h->cmd_line_ptr = CMDLINE_AT;
	h->ramdisk_image = (uint32_t)p->initrd;
	h->ramdisk_size = (uint32_t)p->initrd_size;
	h->vid_mode = 0xffff; /* "normal" */
	memcpy(setup, p->request->kernel.data, p->code_at);
	/* Not a byte more than the oldest header has: behind it there may be code. */
	memcpy(setup + LINUX_HEADER_AT, h, offsetof(struct linux_header, initrd_addr_max));
	size_t at = 0;
	for (unsigned i = 0; i < p->request->modules; i++) {
		const struct boot_image *file = &p->request->module[i].file;
		at = align_up(at, INITRD_ALIGN);
		memcpy(initrd + at, file->data, file->size);
		at += file->size;
	}
}

int linux_for_bios(struct board_kernel *k, const struct boot_request *request, uint64_t ram)
{
	struct plan p = { .request = request, .bios = true };
	*k = (struct board_kernel){ 0 };
	if (!probe(&request->kernel)) {
		log_error("%s: firmware starts Linux kernels (bzImage) only; leave --bios out", request->kernel.path);
		return -ENOEXEC;
	}
	int error = check(&p);
	if (!error)
		error = plan_for_bios(&p, ram);
	if (error)
		return error;
	uint8_t *setup = malloc(p.code_at), *initrd = calloc(1, p.initrd_size + 1);
	k->setup = (struct board_blob){ setup, p.code_at, SETUP_AT };
	k->code = (struct board_blob){ request->kernel.data + p.code_at, p.code_size, MiB };
	k->initrd = (struct board_blob){ initrd, p.initrd_size, (uint32_t)p.initrd };
	k->cmdline = (struct board_blob){ (const uint8_t *)request->append, strlen(request->append) + 1, CMDLINE_AT };
	if (!setup || !initrd) {
		log_error("%s: %s", request->kernel.path, strerror(ENOMEM));
		return -ENOMEM;
	}
	fill_for_bios(&p, setup, initrd);
	return 0;
}

void linux_for_bios_free(struct board_kernel *k)
{
	free((uint8_t *)k->setup.data);
	free((uint8_t *)k->initrd.data);
	*k = (struct board_kernel){ 0 };
}

static const struct loader linux_loader = {
	.name = "linux",
	.summary = "a Linux bzImage (vmlinuz)",
	.probe = probe,
	.load = load,
};
LOADER(linux_loader);
