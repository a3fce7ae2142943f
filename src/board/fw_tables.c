/* SPDX-License-Identifier: MIT */
/* The machine as a BIOS learns of it: sizes, the memory map, and the ACPI tables with the script by which they are
 * put into memory, after QEMU's table loader interface (a sequence of commands of 128 bytes: allocate a file, add
 * one's address to a pointer in another, sum up).
 *
 * Firmware says where the ports of the ACPI block are, and a table must name them, so the tables are made anew
 * when firmware first looks at them. */
#include "board/fw_tables.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "board/acpi.h"
#include "board/board.h"
#include "board/smbios.h"
#include "boot/e820.h"
#include "device/chips.h"
#include "device/fw_cfg.h"
#include "util/log.h"

#define TABLES "etc/acpi/tables"
#define RSDP "etc/acpi/rsdp"
#define SCRIPT "etc/table-loader"
#define RSDP_ALIGN 16

enum command { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };
enum zone { ZONE_HIGH = 1, ZONE_FSEG = 2 };

struct step {
	uint32_t command;
	union {
		struct {
			char file[FW_CFG_NAME_SIZE];
			uint32_t align;
			uint8_t zone;
		} __attribute__((packed)) allocate;
		struct {
			char in[FW_CFG_NAME_SIZE], to[FW_CFG_NAME_SIZE];
			uint32_t at;
			uint8_t size;
		} __attribute__((packed)) pointer;
		struct {
			char file[FW_CFG_NAME_SIZE];
			uint32_t at, start, length;
		} __attribute__((packed)) sum;
		uint8_t room[124];
	};
} __attribute__((packed));
_Static_assert(sizeof(struct step) == 128, "a command of the table loader");

#define STEPS_MAX (2 + ACPI_POINTERS_MAX + ACPI_SUMS_MAX + 4)
struct script {
	struct step step[STEPS_MAX];
	unsigned count;
};

static void allocate(struct script *s, const char *file, uint32_t align, enum zone zone)
{
	struct step *step = &s->step[s->count++];
	step->command = ALLOCATE;
	strcpy(step->allocate.file, file);
	step->allocate.align = align;
	step->allocate.zone = zone;
}

static void add_pointer(struct script *s, const char *in, uint32_t at, uint8_t size)
{
	struct step *step = &s->step[s->count++];
	step->command = ADD_POINTER;
	strcpy(step->pointer.in, in);
	strcpy(step->pointer.to, TABLES);
	step->pointer.at = at;
	step->pointer.size = size;
}

static void add_sum(struct script *s, const char *file, uint32_t at, uint32_t start, uint32_t length)
{
	struct step *step = &s->step[s->count++];
	step->command = ADD_CHECKSUM;
	strcpy(step->sum.file, file);
	step->sum.at = at;
	step->sum.start = start;
	step->sum.length = length;
}

static void write_script(struct script *s, const struct acpi_block *b)
{
	allocate(s, TABLES, ACPI_ALIGN, ZONE_HIGH);
	allocate(s, RSDP, RSDP_ALIGN, ZONE_FSEG);
	for (unsigned i = 0; i < b->pointers; i++)
		add_pointer(s, TABLES, b->pointer[i].at, b->pointer[i].size);
	for (unsigned i = 0; i < b->sums; i++)
		add_sum(s, TABLES, b->sum[i].at, b->sum[i].start, b->sum[i].length);
	add_pointer(s, RSDP, offsetof(struct acpi_rsdp, rsdt), sizeof(b->rsdp.rsdt));
	add_pointer(s, RSDP, offsetof(struct acpi_rsdp, xsdt), sizeof(b->rsdp.xsdt));
	add_sum(s, RSDP, offsetof(struct acpi_rsdp, checksum), 0, ACPI_RSDP_V1_SIZE);
	add_sum(s, RSDP, offsetof(struct acpi_rsdp, extended_checksum), 0, sizeof(b->rsdp));
}

static int put_acpi(struct fw_tables *t, struct device *fw_cfg)
{
	struct script *script = calloc(1, sizeof(*script));
	struct acpi_block b;
	t->facts->pm_base = acpi_pm_base(t->pm) ? acpi_pm_base(t->pm) : ACPI_PM_BASE;
	int error = acpi_build(&b, t->vm, t->facts);
	if (!error && !script)
		error = -ENOMEM;
	if (error)
		log_error("the ACPI tables cannot be made: %s", strerror(-error));
	if (!error) {
		write_script(script, &b);
		error = fw_cfg_put_file(fw_cfg, TABLES, b.data, b.size);
	}
	if (!error)
		error = fw_cfg_put_file(fw_cfg, RSDP, &b.rsdp, sizeof(b.rsdp));
	if (!error)
		error = fw_cfg_put_file(fw_cfg, SCRIPT, script->step, script->count * sizeof(script->step[0]));
	acpi_free(&b);
	free(script);
	return error;
}

void fw_tables_selected(struct device *fw_cfg, const char *file, void *tables)
{
	struct fw_tables *t = tables;
	uint16_t now = acpi_pm_base(t->pm);
	bool acpi = !strcmp(file, TABLES) || !strcmp(file, RSDP) || !strcmp(file, SCRIPT);
	if (acpi && now && now != t->facts->pm_base && put_acpi(t, fw_cfg))
		vm_kill(t->vm, "no memory for the ACPI tables");
}

/* RAM only: what else there is firmware knows better. */
static int put_map(struct fw_tables *t, struct device *fw_cfg)
{
	uint64_t ram = t->vm->memory.ram_size, low = e820_low_end(ram), high = e820_high_end(ram);
	const struct e820_entry map[] = { { 0, low, E820_RAM },
		{ RAM_HOLE_END, high - MIN(high, RAM_HOLE_END), E820_RAM } };
	return fw_cfg_put_file(fw_cfg, "etc/e820", map, map[1].size ? sizeof(map) : sizeof(map[0]));
}

/* Number of nodes, then for each processor the one that it is in. */
static int put_numa(struct fw_tables *t, struct device *fw_cfg)
{
	size_t size = (1 + t->vm->config.cpus) * sizeof(uint64_t);
	uint64_t *nodes = calloc(1, size);
	int error = nodes ? fw_cfg_put(fw_cfg, FW_CFG_NUMA, nodes, size) : -ENOMEM;
	free(nodes);
	return error;
}

/* The boot ROM that asks for these items again (kernel_rom.S), and makes itself the first thing to boot. */
extern const uint8_t kernel_rom[], kernel_rom_end[];

static int put_rom(struct device *fw_cfg)
{
	static const char order[] = "/rom@genroms/kernel.bin\nHALT";
	size_t size = (size_t)(kernel_rom_end - kernel_rom);
	uint8_t *rom = malloc(size);
	if (!rom)
		return -ENOMEM;
	memcpy(rom, kernel_rom, size);
	rom[size - 1] = firmware_checksum(rom, size);
	int error = fw_cfg_put_file(fw_cfg, "genroms/kernel.bin", rom, size);
	free(rom);
	return error ? error : fw_cfg_put_file(fw_cfg, "bootorder", order, sizeof(order));
}

static int put_kernel(const struct board_kernel *k, struct device *fw_cfg)
{
	const struct {
		uint16_t data, size, at;
		const struct board_blob *blob;
	} items[] = {
		{ FW_CFG_SETUP_DATA, FW_CFG_SETUP_SIZE, FW_CFG_SETUP_ADDR, &k->setup },
		{ FW_CFG_KERNEL_DATA, FW_CFG_KERNEL_SIZE, FW_CFG_KERNEL_ADDR, &k->code },
		{ FW_CFG_INITRD_DATA, FW_CFG_INITRD_SIZE, FW_CFG_INITRD_ADDR, &k->initrd },
		{ FW_CFG_CMDLINE_DATA, FW_CFG_CMDLINE_SIZE, FW_CFG_CMDLINE_ADDR, &k->cmdline },
	};
	int error = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(items) && !error; i++) {
		error = fw_cfg_put(fw_cfg, items[i].data, items[i].blob->data, items[i].blob->size);
		if (!error)
			error = fw_cfg_put_number(fw_cfg, items[i].size, items[i].blob->size, 4);
		if (!error)
			error = fw_cfg_put_number(fw_cfg, items[i].at, items[i].blob->at, 4);
	}
	return error ? error : put_rom(fw_cfg);
}

/* Firmware fills in the address, and its own structure. */
static int put_smbios(struct fw_tables *t, struct device *fw_cfg)
{
	struct smbios s;
	smbios_build(&s, t->vm);
	struct smbios_entry entry = smbios_entry(&s, 0);
	int error = fw_cfg_put_file(fw_cfg, "etc/smbios/smbios-tables", s.data, s.size);
	return error ? error : fw_cfg_put_file(fw_cfg, "etc/smbios/smbios-anchor", &entry, sizeof(entry));
}

int fw_tables_fill(struct fw_tables *t, struct device *fw_cfg)
{
	static const uint8_t no_uuid[16];
	const struct {
		uint16_t key;
		uint64_t value;
		unsigned size;
	} numbers[] = {
		{ FW_CFG_RAM_SIZE, t->vm->memory.ram_size, 8 },
		{ FW_CFG_NO_GRAPHIC, 0, 2 },
		{ FW_CFG_CPUS, t->vm->config.cpus, 2 },
		{ FW_CFG_CPUS_MAX, t->vm->config.cpus, 2 },
		{ FW_CFG_BOOT_MENU, 0, 2 },
		{ FW_CFG_IRQ0_OVERRIDE, 1, 4 },
	};
	int error = fw_cfg_put(fw_cfg, FW_CFG_UUID, no_uuid, sizeof(no_uuid));
	for (unsigned i = 0; i < ARRAY_SIZE(numbers) && !error; i++)
		error = fw_cfg_put_number(fw_cfg, numbers[i].key, numbers[i].value, numbers[i].size);
	if (!error)
		error = put_numa(t, fw_cfg);
	if (!error)
		error = put_map(t, fw_cfg);
	if (!error && t->console_port)
		error = fw_cfg_put_file(fw_cfg, "etc/sercon-port", &t->console_port, sizeof(t->console_port));
	if (!error)
		error = put_smbios(t, fw_cfg);
	if (!error && t->kernel)
		error = put_kernel(t->kernel, fw_cfg);
	return error ? error : put_acpi(t, fw_cfg);
}
