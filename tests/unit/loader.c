/* SPDX-License-Identifier: MIT */
/* The Linux loader and the firmware's tables: what a good image leads to, and that every bad one is refused with a reason. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "board/firmware.h"
#include "boot/boot.h"
#include "boot/linux.h"
#include "util/log.h"
#include "test.h"
#include "x86/cpuid.h"

enum { SECTORS = 3, CODE_AT = (SECTORS + 1) * 512, CODE_SIZE = 8192, IMAGE_SIZE = CODE_AT + CODE_SIZE };

static struct vm *machine(uint64_t memory, unsigned cpus)
{
	struct vm_config config = { .name = "test", .engine = "null", .memory = memory, .cpus = cpus, .model = x86_model_find("v2"),
				    .clock = CLOCK_STEPPED };
	struct vm *vm = NULL;
	if (!config.model || vm_create(&vm, &config)) {
		ok(false, "a machine of %llu MiB", (unsigned long long)(memory / MiB));
		exit(1);
	}
	return vm;
}

/* A kernel that a build of today could have made: 64-bit entry, relocatable, wants to be at 16 MiB. */
static struct linux_header *image_header(uint8_t *image)
{
	return (struct linux_header *)(image + LINUX_HEADER_AT);
}

static void make_image(uint8_t image[IMAGE_SIZE])
{
	struct linux_header *h = image_header(image);
	memset(image, 0, CODE_AT);
	for (unsigned i = CODE_AT; i < IMAGE_SIZE; i++)
		image[i] = (uint8_t)(i * 7);
	h->setup_sects = SECTORS;
	h->syssize = CODE_SIZE / 16;
	h->boot_flag = LINUX_BOOT_FLAG;
	h->jump = 0x6aeb;
	h->magic = LINUX_MAGIC;
	h->version = 0x020f;
	h->loadflags = LOADFLAG_HIGH;
	h->code32_start = MiB;
	h->initrd_addr_max = 0x7fffffff;
	h->kernel_alignment = 2 * MiB;
	h->relocatable_kernel = 1;
	h->min_alignment = 21;
	h->xloadflags = XLF_KERNEL_64;
	h->cmdline_size = 2047;
	h->pref_address = 16 * MiB;
	h->init_size = 4 * MiB;
}

static struct boot_request request_for(uint8_t *image, size_t size)
{
	return (struct boot_request){ .kernel = { .path = "kernel.img", .data = image, .size = size }, .append = "console=ttyS0", .rsdp = 0xf0010 };
}

/* ---- The memory map --------------------------------------------------------------------------------------------------- */

static void map_of(uint64_t ram, const char *text)
{
	struct e820 map;
	uint64_t sum = 0, end = 0;
	bool sorted = true, inside = true;
	e820_build(&map, ram);
	for (unsigned i = 0; i < map.count; i++) {
		const struct e820_entry *e = &map.entry[i];
		sorted = sorted && e->size && e->start >= end;
		end = e->start + e->size;
		if (e->type != E820_RAM)
			continue;
		sum += e->size;
		inside = inside && (end <= RAM_HOLE_START || e->start >= RAM_HOLE_END);
	}
	ok(sorted, "e820 of %s: sorted, no overlap", text);
	ok(inside, "e820 of %s: no RAM in the hole", text);
	ok(sum == ram - (PC_BIOS_END - PC_EBDA), "e820 of %s: all RAM but the legacy hole is there", text);
}

static void memory_maps(void)
{
	map_of(64 * MiB, "64M");
	map_of(512 * MiB, "512M");
	map_of(3 * GiB, "3G");
	map_of(3 * GiB + 4096, "3G + 4K");
	map_of(5 * GiB, "5G");
	struct e820 map;
	e820_build(&map, 5 * GiB);
	ok(map.entry[map.count - 1].start == 4 * GiB && map.entry[map.count - 1].size == 2 * GiB, "5G: 2G are above 4G");
}

/* ---- Good images ------------------------------------------------------------------------------------------------------ */

static void good_64(void)
{
	static uint8_t image[IMAGE_SIZE];
	static const uint8_t initrd[5000] = "an initrd";
	struct vm *vm = machine(64 * MiB, 1);
	make_image(image);
	struct boot_request request = request_for(image, sizeof(image));
	request.module[0].file = (struct boot_image){ .path = "initrd", .data = initrd, .size = sizeof(initrd) };
	request.modules = 1;
	ok(!boot_load(vm, &request), "a 64-bit kernel loads");

	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	ok(*x86_rip(cpu) == 16 * MiB + LINUX_ENTRY64, "it starts at its 64-bit entry");
	ok((cpu->efer & EFER_LMA) && (cpu->cr0 & CR0_PG) && (cpu->cr4 & CR4_PAE), "in long mode");
	ok((vcpu->core.mode & MODE_CODE) == MODE_CODE64, "the core knows its mode");
	ok(!(cpu->rflags & FLAG_IF), "interrupts are off");
	struct x86_walk walk;
	bool mapped = true;
	for (gva_t at = 0; at < 4 * GiB; at += 128 * MiB + 4096)
		mapped = mapped && x86_walk(&vcpu->core, at, ACCESS_WRITE, false, false, &walk) && walk.gpa == at && walk.writable;
	ok(mapped, "the first 4 GiB are mapped to themselves");

	struct linux_zero_page page;
	char cmdline[14];
	uint8_t code[CODE_SIZE], loaded[sizeof(initrd)];
	ok(!guest_read(vm, cpu->gpr[RSI], &page, sizeof(page)), "RSI points to the zero page");
	ok(page.header.type_of_loader == 0xff && page.sentinel == 0, "the loader is named");
	ok(!guest_read(vm, page.header.cmd_line_ptr, cmdline, sizeof(cmdline)) && !strcmp(cmdline, "console=ttyS0"), "the command line is there");
	ok(page.header.ramdisk_size == sizeof(initrd) && page.header.ramdisk_image + sizeof(initrd) <= 64 * MiB &&
		   page.header.ramdisk_image >= 63 * MiB, "the initrd is at the end of RAM");
	ok(!guest_read(vm, page.header.ramdisk_image, loaded, sizeof(loaded)) && !memcmp(loaded, initrd, sizeof(initrd)), "its content is right");
	ok(!guest_read(vm, 16 * MiB, code, sizeof(code)) && !memcmp(code, image + CODE_AT, sizeof(code)), "the kernel's code is right");
	ok(page.acpi_rsdp_addr == 0xf0010, "it is told where ACPI begins");
	ok(page.e820_entries >= 4 && page.e820[0].type == E820_RAM, "it has a memory map");
	vm_destroy(vm);
}

static void good_32(void)
{
	static uint8_t image[IMAGE_SIZE];
	struct vm *vm = machine(64 * MiB, 1);
	make_image(image);
	image_header(image)->xloadflags = 0;
	struct boot_request request = request_for(image, sizeof(image));
	ok(!boot_load(vm, &request), "a 32-bit kernel loads");
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	ok(*x86_rip(cpu) == 16 * MiB && (cpu->cr0 & CR0_PE) && !(cpu->cr0 & CR0_PG), "it starts in protected mode without paging");
	ok(cpu->seg[SEG_CS].selector == 0x10 && cpu->seg[SEG_DS].selector == 0x18 && cpu->seg[SEG_DS].limit == UINT32_MAX, "flat segments");
	ok((vcpu->core.mode & MODE_CODE) == MODE_CODE32, "32-bit code");
	uint64_t gdt[4];
	ok(!guest_read(vm, cpu->gdtr.base, gdt, sizeof(gdt)) && gdt[2] == 0x00cf9b000000ffffULL && gdt[3] == 0x00cf93000000ffffULL,
	   "the GDT says the same");

	make_image(image);
	image_header(image)->version = 0x0206;
	image_header(image)->jump = 0x3aeb; /* the header ends where 2.06 ends */
	memset((uint8_t *)image_header(image) + offsetof(struct linux_header, hardware_subarch), 0xff, 0x30);
	ok(!boot_load(vm, &request) && *x86_rip(cpu) == MiB, "protocol 2.06: newer fields are not looked at");
	vm_destroy(vm);
}

static void high_initrd(void)
{
	static uint8_t image[IMAGE_SIZE];
	static const uint8_t initrd[4096] = "high";
	struct vm *vm = machine(5 * GiB, 1);
	make_image(image);
	struct linux_header *h = image_header(image);
	h->xloadflags = XLF_KERNEL_64 | XLF_ABOVE_4G;
	h->initrd_addr_max = 17 * MiB; /* in the way of the kernel: there is no place below */
	struct boot_request request = request_for(image, sizeof(image));
	request.module[0].file = (struct boot_image){ .path = "initrd", .data = initrd, .size = sizeof(initrd) };
	request.modules = 1;
	ok(!boot_load(vm, &request), "an initrd that fits only above 4 GiB");
	struct linux_zero_page page;
	char text[5];
	guest_read(vm, vm->vcpu[0]->core.cpu.gpr[RSI], &page, sizeof(page));
	uint64_t at = page.header.ramdisk_image | (uint64_t)page.ext_ramdisk_image << 32;
	ok(at == 6 * GiB - 4096 && !guest_read(vm, at, text, sizeof(text)) && !strcmp(text, "high"), "is at the end of high RAM");
	h->xloadflags = XLF_KERNEL_64;
	ok(boot_load(vm, &request) < 0, "and is refused where the kernel does not take it there");
	vm_destroy(vm);
}

/* ---- Bad images ------------------------------------------------------------------------------------------------------- */

/* Loads and gives back what was said to the user. */
static int load_quietly(struct vm *vm, const struct boot_request *request, char *text, size_t size)
{
	fflush(stderr);
	int file = memfd_create("stderr", 0), before = dup(STDERR_FILENO);
	dup2(file, STDERR_FILENO);
	int error = boot_load(vm, request);
	fflush(stderr);
	dup2(before, STDERR_FILENO);
	close(before);
	ssize_t length = pread(file, text, size - 1, 0);
	text[MAX(length, 0)] = 0;
	close(file);
	return error;
}

struct mutation {
	const char *what, *said; /* said: part of the message */
	size_t offset;           /* in the header */
	unsigned size;
	uint64_t value;
};
#define FIELD(field) offsetof(struct linux_header, field), sizeof(((struct linux_header *)0)->field)
static const struct mutation mutations[] = {
	{ "too many sectors", "says 256 sectors but the file has 20", FIELD(setup_sects), 255 },
	{ "too much code", "cut off", FIELD(syssize), 0xffffffff },
	{ "a little too much code", "cut off", FIELD(syssize), CODE_SIZE / 16 + 1 },
	{ "no boot flag", "boot flag", FIELD(boot_flag), 0 },
	{ "an old protocol", "too old", FIELD(version), 0x0205 },
	{ "a zImage", "zImage", FIELD(loadflags), 0 },
	{ "a short header", "setup header ends", FIELD(jump), 0x00eb },
	{ "no room for a command line", "command line", FIELD(cmdline_size), 5 },
	{ "an alignment that is none", "power of two", FIELD(kernel_alignment), 3 },
	{ "the largest alignment", "use --memory", FIELD(kernel_alignment), 0x80000000 },
	{ "an address beyond all", "no RAM can be", FIELD(pref_address), UINT64_MAX },
	{ "an address above 4 GiB", "no RAM can be", FIELD(pref_address), 1ULL << 40 },
	{ "an address that wraps when aligned", "no RAM can be", FIELD(pref_address), 0xfffffffe },
	{ "a size beyond all", "no RAM can be", FIELD(init_size), 0xffffffff },
	{ "a size beyond RAM", "use --memory 128M", FIELD(init_size), 60 * MiB },
	{ "an address behind RAM", "use --memory", FIELD(pref_address), 1 * GiB },
};
#undef FIELD

static void bad_images(void)
{
	static uint8_t image[IMAGE_SIZE];
	struct vm *vm = machine(64 * MiB, 1);
	char text[512];
	for (unsigned i = 0; i < ARRAY_SIZE(mutations); i++) {
		const struct mutation *m = &mutations[i];
		make_image(image);
		memcpy((uint8_t *)image_header(image) + m->offset, &m->value, m->size);
		struct boot_request request = request_for(image, sizeof(image));
		int error = load_quietly(vm, &request, text, sizeof(text));
		if (!ok(error < 0 && strstr(text, m->said), "%s: refused", m->what))
			printf("# %d, %s", error, text);
	}
	unsigned refused = 0, lengths = 0;
	for (size_t size = 0; size < IMAGE_SIZE; size += size < 0x300 ? 1 : 509, lengths++) {
		make_image(image);
		uint8_t *part = malloc(size + !size); /* of its own, so that a sanitizer sees a read behind it */
		memcpy(part, image, size);
		struct boot_request request = request_for(part, size);
		refused += load_quietly(vm, &request, text, sizeof(text)) < 0 && text[0];
		free(part);
	}
	ok(refused == lengths, "cut off anywhere: refused with a reason (%u of %u)", refused, lengths);

	/* Any bytes in the header: it may load or not, but stays within memory. */
	unsigned seed = 1, loaded = 0;
	for (unsigned round = 0; round < 2000; round++) {
		make_image(image);
		struct linux_header *h = image_header(image);
		for (unsigned i = 0; i < 1 + round % 8; i++) {
			size_t at = (size_t)rand_r(&seed) % sizeof(*h);
			if (at < offsetof(struct linux_header, magic) || at >= offsetof(struct linux_header, version))
				((uint8_t *)h)[at] = (uint8_t)rand_r(&seed);
		}
		struct boot_request request = request_for(image, sizeof(image));
		loaded += !load_quietly(vm, &request, text, sizeof(text));
	}
	ok(loaded > 0 && loaded < 2000, "2000 random headers");
	vm_destroy(vm);
}

/* By the 16-bit protocol; what the BIOS is given is what the file has, with the fields filled that a boot loader fills. */
static void for_bios(void)
{
	static uint8_t image[IMAGE_SIZE];
	static const uint8_t initrd[5000] = "an initrd";
	struct board_kernel k;
	struct linux_header h;
	char text[512] = "";
	make_image(image);
	struct boot_request request = request_for(image, sizeof(image));
	ok(!linux_needs_bios(&request.kernel), "for a BIOS: a kernel of today needs none");
	image_header(image)->version = 0x0203;
	ok(linux_needs_bios(&request.kernel), "for a BIOS: an old one does");
	request.module[0].file = (struct boot_image){ .path = "initrd", .data = initrd, .size = sizeof(initrd) };
	request.modules = 1;
	ok(!linux_for_bios(&k, &request, 64 * MiB), "for a BIOS: it is taken apart");
	memcpy(&h, k.setup.data + LINUX_HEADER_AT, sizeof(h));
	ok(k.setup.size == CODE_AT && k.setup.at == 0x10000 && h.heap_end_ptr == 0xfe00 && h.cmd_line_ptr == k.cmdline.at && h.type_of_loader == 0xff,
	   "for a BIOS: the setup code, its heap and command line");
	ok(k.code.at == MiB && k.code.size == CODE_SIZE && k.code.data == image + CODE_AT, "for a BIOS: the kernel");
	ok(h.ramdisk_image == k.initrd.at && h.ramdisk_size == 5000 && k.initrd.at + 5000 <= 62 * MiB && !memcmp(k.initrd.data, initrd, 5000),
	   "for a BIOS: the initrd");
	ok(!memcmp(k.setup.data + 0x22c, image + 0x22c, CODE_AT - 0x22c), "for a BIOS: what is behind the oldest header is not touched");
	linux_for_bios_free(&k);
	log_divert(text, sizeof(text));
	ok(linux_for_bios(&k, &request, 3 * MiB) < 0 && strstr(text, "does not fit"), "for a BIOS: too little memory");
	linux_for_bios_free(&k);
	image_header(image)->initrd_addr_max = MiB;
	ok(linux_for_bios(&k, &request, 64 * MiB) < 0 && strstr(text, "initrd of 5000 bytes"), "for a BIOS: no place for the initrd");
	linux_for_bios_free(&k);
	image_header(image)->version = 0x0201;
	ok(linux_for_bios(&k, &request, 64 * MiB) < 0 && strstr(text, "2.01 is too old"), "for a BIOS: what is older than its protocol");
	linux_for_bios_free(&k);
	request.kernel.size = 100;
	ok(linux_for_bios(&k, &request, 64 * MiB) < 0 && strstr(text, "bzImage"), "for a BIOS: anything else");
	linux_for_bios_free(&k);
	log_divert(NULL, 0);
}

static void two_initrds(void)
{
	static uint8_t image[IMAGE_SIZE];
	static const uint8_t first[] = { 'f', 'i', 'r', 's', 't' }, second[] = { 's', 'e', 'c', 'o', 'n', 'd' };
	struct vm *vm = machine(64 * MiB, 1);
	make_image(image);
	struct boot_request request = request_for(image, sizeof(image));
	request.modules = 2;
	request.module[0].file = (struct boot_image){ .path = "one", .data = first, .size = sizeof(first) };
	request.module[1].file = (struct boot_image){ .path = "two", .data = second, .size = sizeof(second) };
	ok(!boot_load(vm, &request), "two initrds");
	struct linux_zero_page page;
	char both[14];
	guest_read(vm, vm->vcpu[0]->core.cpu.gpr[RSI], &page, sizeof(page));
	ok(page.header.ramdisk_size == 14, "become one, the second at a multiple of four");
	ok(!guest_read(vm, page.header.ramdisk_image, both, 14) && !memcmp(both, "first\0\0\0second", 14), "one behind the other");
	request.module[1].text = "root=/dev/sda1";
	char text[512];
	int error = load_quietly(vm, &request, text, sizeof(text));
	ok(error < 0 && strstr(text, "--append"), "words behind an initrd are refused");
	vm_destroy(vm);
}

static void big_initrd(void)
{
	static uint8_t image[IMAGE_SIZE];
	struct vm *vm = machine(512 * MiB, 1);
	char text[512];
	size_t size = 900 * MiB;
	make_image(image);
	uint8_t *initrd = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct boot_request request = request_for(image, sizeof(image));
	request.module[0].file = (struct boot_image){ .path = "initrd.img", .data = initrd, .size = size };
	request.modules = 1;
	int error = load_quietly(vm, &request, text, sizeof(text));
	ok(error < 0 && strstr(text, "initrd of 900M does not fit in 512M of RAM: use --memory 1"), "an initrd larger than RAM");
	munmap(initrd, size);
	vm_destroy(vm);
}

static void other_files(void)
{
	static const struct {
		const char *bytes, *said;
		size_t size;
	} files[] = {
		{ "", "empty", 0 },
		{ "\x7f" "ELF\x02\x01\x01", "ELF", 64 },
		{ "\x1f\x8b\x08", "gzip", 64 },
		{ "MZ\x90", "PE file", 64 },
		{ "070701", "--initrd", 110 },
		{ "!<arch>\n", "Debian package", 64 },
		{ "hello, world\n", "is text", 13 },
		{ "\x01\x02\x03\x04", "nothing that is known", 4 },
	};
	struct vm *vm = machine(16 * MiB, 1);
	char text[512];
	for (unsigned i = 0; i < ARRAY_SIZE(files); i++) {
		uint8_t bytes[128] = { 0 };
		memcpy(bytes, files[i].bytes, MIN(files[i].size, strlen(files[i].bytes)));
		struct boot_request request = request_for(bytes, files[i].size);
		int error = load_quietly(vm, &request, text, sizeof(text));
		if (!ok(error < 0 && strstr(text, files[i].said) && strstr(text, "bzImage"), "a file that is %s", files[i].said))
			printf("# %s", text);
	}
	vm_destroy(vm);
}

/* ---- Tables ----------------------------------------------------------------------------------------------------------- */

static uint8_t *read_table(struct vm *vm, gpa_t at, const char *signature, uint32_t *length)
{
	uint8_t header[36];
	if (guest_read(vm, at, header, sizeof(header)) || memcmp(header, signature, 4))
		return NULL;
	memcpy(length, header + 4, 4);
	uint8_t *table = malloc(*length);
	if (*length < 36 || *length > 64 * KiB || guest_read(vm, at, table, *length)) {
		free(table);
		return NULL;
	}
	return table;
}

static uint8_t sum(const uint8_t *data, size_t size)
{
	uint8_t result = 0;
	while (size--)
		result += *data++;
	return result;
}

static bool table_is_good(struct vm *vm, gpa_t at, const char *signature)
{
	uint32_t length;
	uint8_t *table = read_table(vm, at, signature, &length);
	bool good = table && !sum(table, length) && at >= PC_BIOS_START && at + length <= PC_BIOS_END;
	free(table);
	return good;
}

static void disassemble(struct vm *vm, gpa_t dsdt)
{
	uint32_t length;
	uint8_t *table = read_table(vm, dsdt, "DSDT", &length);
	char folder[] = "/tmp/doppel-acpi-XXXXXX", name[64], command[512];
	if (!table || system("command -v iasl >/dev/null 2>&1")) {
		skip("iasl reads the DSDT: it is not installed (acpica-tools)");
		free(table);
		return;
	}
	if (!mkdtemp(folder))
		return;
	snprintf(name, sizeof(name), "%s/dsdt.aml", folder);
	FILE *file = fopen(name, "w");
	ok(file && fwrite(table, 1, length, file) == length && !fclose(file), "the DSDT is written out");
	/* Disassembled and compiled again: an error or warning of the compiler is one of ours. */
	snprintf(command, sizeof(command),
		 "cd %s && iasl -d dsdt.aml >log 2>&1 && iasl -p again dsdt.dsl >>log 2>&1 && grep -q '0 Errors, 0 Warnings' log && "
		 "grep -q PNP0501 dsdt.dsl && grep -q ' _S5' dsdt.dsl", folder);
	ok(!system(command), "iasl reads the DSDT and finds no fault");
	snprintf(command, sizeof(command), "rm -r %s", folder);
	ok(!system(command), "its files are gone");
	free(table);
}

static void tables(unsigned cpus)
{
	struct vm *vm = machine(64 * MiB, cpus);
	struct firmware_facts facts = { .ioapic_id = 1, .uart = { { 0x3f8, 4 }, { 0x2f8, 3 } }, .uarts = 2 };
	gpa_t rsdp_at = 0;
	ok(!firmware_install(vm, &facts, &rsdp_at), "tables for %u processors", cpus);
	uint8_t rsdp[36];
	ok(rsdp_at % 16 == 0 && rsdp_at >= 0xe0000 && !guest_read(vm, rsdp_at, rsdp, sizeof(rsdp)) && !memcmp(rsdp, "RSD PTR ", 8),
	   "the RSDP is where systems look for it");
	ok(!sum(rsdp, 20) && !sum(rsdp, sizeof(rsdp)), "both its checksums");
	uint32_t rsdt_at, length;
	uint64_t xsdt_at, dsdt = 0;
	memcpy(&rsdt_at, rsdp + 16, 4);
	memcpy(&xsdt_at, rsdp + 24, 8);
	ok(table_is_good(vm, rsdt_at, "RSDT") && table_is_good(vm, xsdt_at, "XSDT"), "RSDT and XSDT");
	uint8_t *xsdt = read_table(vm, xsdt_at, "XSDT", &length), *rsdt = read_table(vm, rsdt_at, "RSDT", &length);
	for (unsigned i = 0; xsdt && rsdt && i < (length - 36) / 4; i++) {
		uint64_t at;
		uint32_t at32;
		char signature[5] = "";
		memcpy(&at, xsdt + 36 + 8 * i, 8);
		memcpy(&at32, rsdt + 36 + 4 * i, 4);
		guest_read(vm, at, signature, 4);
		ok(at == at32 && table_is_good(vm, at, signature), "table %s", signature);
		uint8_t *table = read_table(vm, at, signature, &length);
		if (table && !strcmp(signature, "FACP")) {
			uint32_t facs;
			char text[5] = "";
			memcpy(&facs, table + 36, 4);
			memcpy(&dsdt, table + 140, 8);
			ok(facs % 64 == 0 && !guest_read(vm, facs, text, 4) && !strcmp(text, "FACS"), "the FACS is on a 64-byte boundary");
			ok(table_is_good(vm, dsdt, "DSDT"), "the DSDT");
		}
		if (table && !strcmp(signature, "APIC")) {
			unsigned found = 0, at_entry = 44;
			for (; at_entry + 1 < length && table[at_entry + 1] >= 2; at_entry += table[at_entry + 1])
				found += table[at_entry] == 0 || table[at_entry] == 9;
			ok(found == cpus && at_entry == length, "the MADT names all processors");
		}
		free(table);
		memcpy(&length, rsdt + 4, 4);
	}
	free(xsdt);
	free(rsdt);
	disassemble(vm, dsdt);

	bool mp = false;
	for (gpa_t at = 0xf0000; at < 0x100000 && !mp; at += 16) {
		uint8_t floating[16], header[44];
		uint32_t table_at;
		if (guest_read(vm, at, floating, 16) || memcmp(floating, "_MP_", 4) || sum(floating, 16))
			continue;
		memcpy(&table_at, floating + 4, 4);
		guest_read(vm, table_at, header, sizeof(header));
		uint16_t mp_length;
		memcpy(&mp_length, header + 4, 2);
		uint8_t *table = malloc(mp_length);
		mp = !guest_read(vm, table_at, table, mp_length) && !memcmp(table, "PCMP", 4) && !sum(table, mp_length);
		free(table);
	}
	ok(mp, "the MP table");
	vm_destroy(vm);
}

int main(void)
{
	memory_maps();
	good_64();
	good_32();
	high_initrd();
	bad_images();
	for_bios();
	two_initrds();
	big_initrd();
	other_files();
	tables(1);
	tables(16);
	return done();
}
