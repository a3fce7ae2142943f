/* SPDX-License-Identifier: MIT */
/* The PC: a 440FX chip set with a PCI bus and the chips of a PC/AT, local APICs and an IOAPIC, and ACPI power
 * management.
 *
 * Lines: GSI 0 to 15 are the ISA interrupts and go to the 8259 pair and to the IOAPIC alike (whoever the system
 * programs gets them); 0, the timer, arrives at IOAPIC pin 2, since 2 is the 8259's cascade. GSI 16 to 23 reach
 * the IOAPIC only. PCI's interrupts become ISA interrupts in the PIIX3, as a system routes them. */
#include <errno.h>
#include "backend/chardev.h"
#include "backend/image.h"
#include "backend/screen.h"
#include "board/board.h"
#include "board/firmware.h"
#include "board/fw_tables.h"
#include "board/text_mode.h"
#include "device/chips.h"
#include "device/fw_cfg.h"
#include "device/pci.h"
#include "util/log.h"

enum { ISA_LINES = 16, TIMER_GSI = 0, CASCADE = 2, TIMER_PIN = 2, LARGEST_IOAPIC_ID = 14 };

static const struct lapic_config lapic_config = { .virtual_wire = true };
static const struct i8042_config i8042_config = { .mouse_irq = 12 };
#define RESET_CONTROL "cf9"
#define PM_BLOCK "acpi-pm"
#define DMA "dma"
#define KEYBOARD "kbd"
static const struct pci_config pci_config = { .reset_control = RESET_CONTROL };
static const struct piix4_pm_config pm_config = { .block = PM_BLOCK };

/* In the order in which they are created and reset. The interrupt chips come first: others drive them. */
static const struct device_place fixed[] = {
	{ .class = &i8259_class, .name = "pic", .base = 0x20, .irq = -1 },
	{ .class = &lapic_class, .name = "lapic", .base = PC_LAPIC, .irq = -1, .config = &lapic_config },
	{ .class = &a20_class, .name = A20_NAME, .irq = -1 },
	{ .class = &i8254_class, .name = "pit", .base = 0x40, .irq = 0 },
	{ .class = &i8042_class, .name = KEYBOARD, .base = 0x60, .irq = 1, .config = &i8042_config },
	{ .class = &i8237_class, .name = DMA, .irq = -1 },
	{ .class = &port92_class, .name = "port92", .base = 0x92, .irq = -1 },
	{ .class = &fpu_error_class, .name = "fpu-error", .base = 0xf0, .irq = 13 },
	{ .class = &cf9_class, .name = RESET_CONTROL, .irq = -1 },
	{ .class = &acpi_pm_class, .name = PM_BLOCK, .irq = ACPI_SCI_IRQ },
	{ .class = &pci_class, .name = "pci", .irq = -1, .config = &pci_config },
	{ .class = &piix3_class, .name = "piix3", .base = PC_ISA_BRIDGE, .irq = -1 },
	{ .class = &piix4_pm_class, .name = "piix4-pm", .base = PC_PM_FUNCTION, .irq = -1, .config = &pm_config },
};

static const struct device_place uarts[] = { /* there when connected; the first always */
	{ .class = &ns16550_class, .name = "uart0", .base = 0x3f8, .irq = 4 },
	{ .class = &ns16550_class, .name = "uart1", .base = 0x2f8, .irq = 3 },
	{ .class = &ns16550_class, .name = "uart2", .base = 0x3e8, .irq = 4 },
	{ .class = &ns16550_class, .name = "uart3", .base = 0x2e8, .irq = 3 },
};
static const struct device_place rtc = { .class = &mc146818_class, .name = "rtc", .base = 0x70, .irq = 8 };
static const struct device_place fdc = { .class = &i82077_class, .name = "fdc", .base = 0x3f0, .irq = 6 };
static const struct device_place ide = { .class = &ide_class, .name = "ide", .base = PC_IDE_FUNCTION, .irq = -1 };
static const struct device_place ioapic = { .class = &ioapic_class, .name = "ioapic", .base = PC_IOAPIC, .irq = -1 };
static const struct device_place debug_exit = { .class = &debug_exit_class, .name = "debug-exit", .irq = -1 };
static const struct device_place debugcon = { .class = &debugcon_class, .name = "debugcon", .base = PC_DEBUGCON_PORT,
	.irq = -1 };
static const struct device_place bios_log = { .class = &debugcon_class, .name = "bios-log", .base = PC_BIOS_LOG_PORT,
	.irq = -1 };
static const struct device_place host_bridge = { .class = &i440fx_class, .name = "i440fx", .base = PC_HOST_BRIDGE,
	.irq = -1 };
static const struct device_place vga = { .class = &vga_class, .name = "vga", .base = PC_VGA_FUNCTION, .irq = -1 };
static const struct device_place fw_cfg = { .class = &fw_cfg_class, .name = "fw_cfg", .base = PC_FW_CFG_PORT,
	.irq = -1 };

/* The board itself: a device without registers. It holds the places that the command line has a word in, which
 * must last as long as the chips that are put there. */
struct pc {
	struct device device;
	struct ns16550_config uart_config[ARRAY_SIZE(uarts)];
	struct debugcon_config debugcon_config, bios_log_config;
	struct ioapic_config ioapic_config;
	struct i440fx_config host_bridge_config;
	struct fw_cfg_config fw_cfg_config;
	struct mc146818_config rtc_config;
	struct i82077_config fdc_config;
	struct ide_config ide_config;
	struct vga_config vga_config;
	struct device_place uart[ARRAY_SIZE(uarts)], ioapic, debug_exit, debugcon, bios_log, host_bridge, fw_cfg, rtc, fdc,
		ide, vga, card[BOARD_CARDS];
	struct firmware_facts facts;
	struct fw_tables tables;
};

static int pc_init(struct device *d)
{
	return 0;
}

static void pc_reset(struct device *d, enum reset_kind kind)
{
}

static const struct device_class pc_class = {
	.name = "pc",
	.summary = "the mainboard: says where the chips are",
	.size = sizeof(struct pc),
	.init = pc_init,
	.reset = pc_reset,
};
DEVICE_CLASS(pc_class);
static const struct device_place pc_place = { .class = &pc_class, .name = "pc", .irq = -1 };

static void connect_lines(struct vm *vm, struct device *pic, struct device *io)
{
	for (unsigned gsi = 0; gsi < ISA_LINES; gsi++) {
		if (gsi == CASCADE)
			continue;
		irq_connect(vm, gsi, pic, i8259_set, gsi);
		irq_connect(vm, gsi, io, ioapic_set, gsi == TIMER_GSI ? TIMER_PIN : gsi);
		irq_connect_request(vm, gsi, pic, i8259_request);
		irq_connect_request(vm, gsi, io, ioapic_request);
	}
	for (unsigned gsi = ISA_LINES; gsi < IOAPIC_PINS; gsi++)
		irq_connect(vm, gsi, io, ioapic_set, gsi);
}

static int create(struct vm *vm, const struct device_place *place)
{
	return device_create(vm, place) ? 0 : -EINVAL;
}

static int create_with(struct vm *vm, struct device_place *place, const struct device_place *model, const void *config)
{
	*place = *model;
	place->config = config;
	return create(vm, place);
}

static int create_uarts(struct vm *vm, struct pc *pc, const struct board_options *options)
{
	int error = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(uarts) && !error; i++) {
		if (i && !options->serial[i])
			continue;
		pc->uart_config[i].chardev = options->serial[i];
		error = create_with(vm, &pc->uart[i], &uarts[i], &pc->uart_config[i]);
		pc->facts.uart[pc->facts.uarts].port = (uint16_t)uarts[i].base;
		pc->facts.uart[pc->facts.uarts++].irq = (uint8_t)uarts[i].irq;
	}
	return error;
}

/* The ROM, what tells it about the machine, and what it says. Where there is no screen, the first UART is what it
 * shows its messages on. */
static int create_bios(struct vm *vm, struct pc *pc, const struct board_options *options)
{
	gpa_t start = RAM_HOLE_END - options->bios_size;
	int error = memory_add_rom(vm, start, options->bios, options->bios_size, "bios");
	if (error)
		return error;
	pc->tables = (struct fw_tables){ .vm = vm, .facts = &pc->facts, .pm = device_find(vm, PM_BLOCK),
		.console_port = (uint16_t)uarts[0].base, .kernel = options->kernel };
	pc->fw_cfg_config = (struct fw_cfg_config){ .selected = fw_tables_selected, .arg = &pc->tables };
	error = create_with(vm, &pc->fw_cfg, &fw_cfg, &pc->fw_cfg_config);
	if (!error)
		error = fw_tables_fill(&pc->tables, device_find(vm, fw_cfg.name));
	if (!error && options->bios_log) {
		pc->bios_log_config.chardev = options->bios_log;
		error = create_with(vm, &pc->bios_log, &bios_log, &pc->bios_log_config);
	}
	return error;
}

/* What a BIOS reads from CMOS. A disk of up to 1024 cylinders needs no translation. */
static int create_rtc(struct vm *vm, struct pc *pc, const struct board_options *options)
{
	const uint64_t untranslated = 1024 * 16 * 63 * IMAGE_SECTOR;
	pc->rtc_config.boot_order = options->boot_order;
	for (unsigned i = 0; i < BOARD_FLOPPIES; i++) {
		uint8_t type = 0;
		if (options->floppy[i] && !i82077_drive_type(image_size(options->floppy[i]), &type))
			return -EFBIG;
		pc->rtc_config.floppies |= (uint8_t)(type << 4 * (BOARD_FLOPPIES - 1 - i));
	}
	for (unsigned i = 0; i < BOARD_DRIVES; i++)
		if (options->disk[i] && image_size(options->disk[i]) > untranslated)
			pc->rtc_config.translation |= (uint8_t)(1u << 2 * i);
	return create_with(vm, &pc->rtc, &rtc, &pc->rtc_config);
}

/* Disks from the primary master on, CDs from the secondary; who finds his places taken has the next that are free. */
static int create_drives(struct vm *vm, struct pc *pc, const struct board_options *options)
{
	struct ide_drive *drive = pc->ide_config.drive;
	unsigned count = 0;
	for (unsigned i = 0; i < BOARD_DRIVES && options->disk[i]; i++)
		drive[count++].image = options->disk[i];
	for (unsigned i = 0; i < BOARD_DRIVES && options->cdrom[i]; i++) {
		unsigned at = BOARD_DRIVES / 2;
		if (count++ == BOARD_DRIVES) {
			log_error("there is room for %u disks and CDs together", BOARD_DRIVES);
			return -ENOSPC;
		}
		while (drive[at].image)
			at = (at + 1) % BOARD_DRIVES;
		drive[at] = (struct ide_drive){ options->cdrom[i], true };
	}
	int error = count ? create_with(vm, &pc->ide, &ide, &pc->ide_config) : 0;
	pc->facts.floppy = options->floppy[0];
	if (error || !pc->facts.floppy)
		return error;
	pc->fdc_config = (struct i82077_config){ { options->floppy[0], options->floppy[1] }, DMA };
	return create_with(vm, &pc->fdc, &fdc, &pc->fdc_config);
}

/* Slots below are the chip set's and a screen's. */
static unsigned free_slot(struct vm *vm)
{
	unsigned slot = PC_FIRST_SLOT;
	while (slot < PC_SLOTS && pci_at(vm, PCI_AT(slot, 0)))
		slot++;
	return slot;
}

/* Those that asked for a slot come first, so that nobody takes it from them. */
static int create_cards(struct vm *vm, struct pc *pc, const struct board_options *options)
{
	for (unsigned pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < options->cards; i++) {
			const struct board_card *c = &options->card[i];
			unsigned slot = c->slot ? c->slot : free_slot(vm);
			if ((c->slot == 0) != pass)
				continue;
			if (slot == PC_SLOTS) {
				log_error("no PCI slot is left for %s", c->name);
				return -ENOSPC;
			}
			pc->card[i] = (struct device_place){ .class = c->class, .name = c->name, .base = PCI_AT(slot, 0), .irq = -1,
				.config = c->config };
			int error = create(vm, &pc->card[i]);
			if (error)
				return error;
		}
	}
	return 0;
}

static int build(struct vm *vm, const struct board_options *options)
{
	struct pc *pc = (struct pc *)device_create(vm, &pc_place);
	if (!pc)
		return -ENOMEM;
	/* Its own APIC ID where the register's four bits suffice: systems from before the xAPIC had one space for
	 * all. */
	pc->ioapic_config.id = vm->config.cpus <= LARGEST_IOAPIC_ID ? (uint8_t)vm->config.cpus : 0;
	pc->facts.ioapic_id = pc->ioapic_config.id;
	int error = create_with(vm, &pc->ioapic, &ioapic, &pc->ioapic_config);
	for (unsigned i = 0; i < ARRAY_SIZE(fixed) && !error; i++)
		error = create(vm, &fixed[i]);
	pc->host_bridge_config = (struct i440fx_config){ .bios = options->bios, .bios_size = options->bios_size };
	if (!error)
		error = create_with(vm, &pc->host_bridge, &host_bridge, &pc->host_bridge_config);
	if (error)
		return error;
	connect_lines(vm, device_find(vm, "pic"), device_find(vm, "ioapic"));
	pc->vga_config = (struct vga_config){ options->vga_bios, options->vga_bios_size };
	error = create_with(vm, &pc->vga, &vga, &pc->vga_config);
	if (!error)
		error = create_rtc(vm, pc, options);
	if (!error)
		error = create_drives(vm, pc, options);
	if (!error)
		error = create_cards(vm, pc, options);
	if (!error)
		error = create_uarts(vm, pc, options);
	if (!error && options->debug_exit_port >= 0) {
		pc->debug_exit = debug_exit;
		pc->debug_exit.base = (uint64_t)options->debug_exit_port;
		error = create(vm, &pc->debug_exit);
	}
	if (!error && options->debugcon) {
		pc->debugcon_config.chardev = options->debugcon;
		error = create_with(vm, &pc->debugcon, &debugcon, &pc->debugcon_config);
	}
	if (!error && options->bios)
		error = create_bios(vm, pc, options);
	return error;
}

static int firmware(struct vm *vm, gpa_t *rsdp)
{
	struct pc *pc = (struct pc *)device_find(vm, pc_place.name);
	pci_setup(vm);
	text_mode_set(vm, pc->vga_config.rom, pc->vga_config.rom_size);
	pc->facts.pm_base = acpi_pm_base(device_find(vm, PM_BLOCK));
	return firmware_install(vm, &pc->facts, rsdp);
}

static void screen(struct vm *vm, struct screen *s)
{
	*s = (struct screen){ .adapter = device_find(vm, vga.name), .input = device_find(vm, KEYBOARD), .draw = vga_screen_draw,
		.text = vga_screen_text, .type_room = i8042_type_room };
}

const struct board board_pc = { .name = "pc", .summary = "a PC with PCI, APICs and ACPI", .build = build,
	.firmware = firmware, .screen = screen };
