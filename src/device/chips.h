/* SPDX-License-Identifier: MIT */
/* The PC's chips as a board sees them: the classes, what each reads from its struct device_place, and their inputs.
 *
 * Unless said, place->base is the first port, place->irq the GSI of the interrupt output, and place->config may be
 * NULL. */
#pragma once
#include "vm/vm.h"

struct chardev;
struct image;

/* ns16550.c -- base: 8 ports (3F8h, 2F8h, 3E8h, 2E8h); irq; config: the backend. Events: enum chardev_event. */
struct ns16550_config {
	struct chardev *chardev; /* NULL: not connected, what is sent is lost */
};
extern const struct device_class ns16550_class;

/* i8259.c -- both chips, at 20h, A0h and 4D0h. Inputs 0 to 15 (2 is the cascade): irq_connect(vm, gsi, pic,
 * i8259_set, pin). Becomes the VM's interrupt controller unless a LAPIC is or comes there. */
extern const struct device_class i8259_class;
void i8259_set(struct device *, unsigned pin, bool level);
enum irq_request i8259_request(struct device *, unsigned pin); /* for irq_connect_request */

/* i8254.c -- base 40h and, fixed, port 61h; irq: counter 0's output (0). */
extern const struct device_class i8254_class;

/* mc146818.c -- base 70h; irq 8. Sizes in CMOS come from vm->config.memory. */
struct mc146818_config { /* NULL: no floppy drive; disk, CD, floppy */
	uint8_t floppies;     /* CMOS 10h: type of drive A in bits 7:4, of B in 3:0; 0 none, 4 of 1.44M, 5 of 2.88M */
	/* four bits each, the first in the lowest: 1 floppy, 2 disk, 3 CD, 4 network; 0 ends it. None: disk, CD, floppy */
	uint16_t boot_order;
	/* CMOS 39h: how a BIOS counts the cylinders of IDE drives, two bits each, the first lowest: 0 as is, 1 by LBA */
	uint8_t translation;
};
extern const struct device_class mc146818_class;

/* i8042.c, ps2.c -- ports 60h and 64h; irq: keyboard (1). Events: enum input_event. */
struct i8042_config {
	int mouse_irq; /* 12; without a config it is 12 */
};
extern const struct device_class i8042_class;
size_t i8042_type_room(struct device *); /* for struct screen */

/* fpu_error.c -- base F0h: FERR# to IRQ 13, and IGNNE#. */
extern const struct device_class fpu_error_class;
/* a20.c -- Comes before the chips that drive it. */
#define A20_NAME "a20"
extern const struct device_class a20_class;
/* Opens or closes the gate; with the caller's lock held. NULL: the machine has none. */
void a20_set(struct device *, bool open);

/* port92.c -- base 92h: fast A20 and reset. */
extern const struct device_class port92_class;

/* cf9.c -- base CF9h (one port): the reset control register. With base 0 it takes no port: the PCI host bridge, whose
 * CONFIG_ADDRESS lies around it, hands byte accesses on through cf9_ops, with this device's lock held. */
extern const struct device_class cf9_class;
extern const struct bus_ops cf9_ops;

/* lapic.c -- base FEE00000h; the local APICs of all vCPUs, and the VM's interrupt controller. */
struct lapic_config {
	/* after reset the boot processor's LINT0 is ExtINT, as firmware leaves it: MP 1.4, 3.6.2.2 */
	bool virtual_wire;
};
extern const struct device_class lapic_class;

/* ioapic.c -- base FEC00000h. Inputs: irq_connect(vm, gsi, ioapic, ioapic_set, pin); GSI 0 goes to pin 2 on a PC. */
#define IOAPIC_PINS 24
struct ioapic_config {
	uint8_t id; /* APIC ID after reset */
};
extern const struct device_class ioapic_class;
void ioapic_set(struct device *, unsigned pin, bool level);
enum irq_request ioapic_request(struct device *, unsigned pin);

/* i440fx.c -- PCI function 00:00.0, the host bridge: switches shadow RAM and SMRAM. */
struct i440fx_config {
	const uint8_t *bios; /* the ROM of which the last 128 KiB appear below 1 MiB; NULL: none */
	size_t bios_size;    /* whole pages */
};
extern const struct device_class i440fx_class;

/* piix3.c -- PCI function 00:01.0, the ISA bridge: routes PIRQ A to D. */
#define PIIX3_PIRQ_ROUTE 0x60 /* four bytes of configuration space, A to D: bits 3:0 the IRQ, bit 7 no route */
#define PIIX3_NO_ROUTE 0x80u
extern const struct device_class piix3_class;

/* e1000.c -- a network card, a PCI function. */
struct net;
struct e1000_config {
	struct net *net;
};
extern const struct device_class e1000_class;

/* ide.c -- PCI function 00:01.1: ports 1F0h, 3F6h, 170h, 376h; interrupts 14 and 15. */
#define IDE_TIMING 0x40        /* in configuration space: 16 bits a channel */
#define IDE_TIMING_DECODE 0x8000u /* the channel's ports answer */
struct ide_config {
	struct ide_drive {
		struct image *image; /* NULL: there is no drive */
		bool cdrom;
	} drive[4];            /* primary master and slave, secondary master and slave */
};
extern const struct device_class ide_class;

/* piix4_pm.c -- PCI function 00:01.3, power management: says where the ports of an acpi_pm are. */
#define PIIX4_PM_BASE 0x40    /* in configuration space: PMBA */
#define PIIX4_PM_MISC 0x80    /* PMREGMISC */
#define PIIX4_PM_ENABLE BIT(0)
struct piix4_pm_config {
	const char *block; /* name of the acpi_pm, which has no ports of its own */
};
extern const struct device_class piix4_pm_class;

/* acpi_pm.c -- base: ACPI_PM_SIZE ports (ACPI_PM_BASE), or 0 until acpi_pm_place; and the SMI command port; irq:
 * the SCI (9). */
#define ACPI_PM_BASE 0x600
#define ACPI_PM_SIZE 0x40
#define ACPI_PM1_EVENT 0x00   /* offset of PM1a_EVT_BLK, PM1_EVT_LEN 4 */
#define ACPI_PM1_CONTROL 0x04 /* of PM1a_CNT_BLK, PM1_CNT_LEN 2 */
#define ACPI_PM_TIMER 0x08    /* of PM_TMR_BLK, PM_TMR_LEN 4 */
#define ACPI_GPE0 0x0c        /* of GPE0_BLK, GPE0_BLK_LEN 4: two bytes of status, two of enable */
#define ACPI_GPE0_LENGTH 4
#define ACPI_SCI_IRQ 9        /* level, active high */
#define ACPI_SMI_COMMAND 0xb2
#define ACPI_ENABLE_VALUE 0xa1
#define ACPI_DISABLE_VALUE 0xa0
#define ACPI_S5_TYPE 0        /* SLP_TYPa in \_S5: soft off in the 82371AB (PIIX4), and what OVMF writes without asking */
struct acpi_pm_config {
	bool timer_24bit; /* the PM timer counts 24 bits; else 32, with TMR_VAL_EXT in the FADT */
};
enum acpi_pm_event { ACPI_POWER_BUTTON = 0 };
extern const struct device_class acpi_pm_class;
/* Moves the ports; 0: they answer nowhere. One caller at a time. */
void acpi_pm_place(struct device *, uint16_t base);
/* Where they are; 0: nowhere. */
uint16_t acpi_pm_base(const struct device *);

/* i8237.c -- Both chips and the page registers, at 00h, C0h and 80h; what devices call is in i8237.h. */
extern const struct device_class i8237_class;

/* i82077.c -- base 3F0h: ports 3F0h to 3F5h and 3F7h; irq (6); DMA channel 2. A drive is there if it has an image. */
struct i82077_config {
	struct image *image[2];
	const char *dma;      /* name of the i8237 */
};
extern const struct device_class i82077_class;
/* i82077_media.c -- The CMOS type of a drive for a disk of this many bytes; false: no floppy disk is that large. */
bool i82077_drive_type(uint64_t bytes, uint8_t *type);

/* vga.c and what it names -- PCI function 1234:1111, a VGA with Bochs's VBE interface and 16 MiB of memory. */
struct vga_config {
	const uint8_t *rom;   /* its BIOS, copied; NULL: none */
	size_t rom_size;
};
extern const struct device_class vga_class;
/* For struct screen. */
struct picture;
int vga_screen_draw(struct device *, struct picture *, bool steady);
char *vga_screen_text(struct device *);

/* debug_exit.c -- base: four ports (F4h or 501h): a write of v ends the VM with VM_DEBUG_EXIT, value (v << 1) | 1. */
extern const struct device_class debug_exit_class;

/* debugcon.c -- base: one port (E9h): what is written goes to the backend, a read gives E9h. */
struct debugcon_config {
	struct chardev *chardev;
};
extern const struct device_class debugcon_class;
