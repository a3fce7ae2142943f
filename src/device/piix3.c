/* SPDX-License-Identifier: MIT */
/* The ISA bridge of the 82371SB (PIIX3), after its datasheet (Intel 290550), section 2.2: which ISA interrupt each of
 * PIRQ A to D is.
 *
 * Its other parts are chips of their own here: 8259 with ELCR, 8254, reset control (CF9h). The registers that tune
 * the ISA bus, its X-bus chip selects and its SMIs are stored and have no effect. */
#include "device/pci.h"
#include "device/chips.h"

#define ROUTE_IRQ 0x0fu
#define ROUTE_WRITABLE 0x8f8f8f8fu
#define ROUTE_RESET 0x80808080u
/* IRQs that a PIRQ can be: not the timer, keyboard, cascade, RTC and coprocessor. */
#define ROUTABLE (0xffffu & ~(BIT(0) | BIT(1) | BIT(2) | BIT(8) | BIT(13)))

struct piix3 {
	struct device device;
	struct pci_function pci;
};

static struct piix3 *of(struct device *d)
{
	return container_of(d, struct piix3, device);
}

static void written(struct device *d, unsigned at, unsigned size)
{
	struct pci_function *f = &of(d)->pci;
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		uint8_t route = f->config[PIIX3_PIRQ_ROUTE + i], irq = route & ROUTE_IRQ;
		pci_pirq_route(f->pci, i, !(route & PIIX3_NO_ROUTE) && (ROUTABLE & BIT(irq)) ? irq : PCI_UNROUTED);
	}
}

static const struct pci_register registers[] = {
	{ .at = 0x4c, .size = 1, .reset = 0x4d, .writable = 0x7f },              /* IORT: I/O recovery */
	{ .at = 0x4e, .size = 2, .reset = 0x0003, .writable = 0x01ff },          /* XBCS: X-bus chip selects */
	{ .at = PIIX3_PIRQ_ROUTE, .size = 4, .reset = ROUTE_RESET, .writable = ROUTE_WRITABLE },
	/* TOM: top of memory for ISA masters */
	{ .at = 0x69, .size = 1, .reset = 0x02, .writable = 0xfe },
	{ .at = 0x6a, .size = 2, .writable = 0x8015 },                           /* MSTAT */
	{ .at = 0x70, .size = 1, .reset = 0x80, .writable = 0xaf },              /* MBIRQ0: motherboard devices */
	{ .at = 0x76, .size = 2, .reset = 0x0c0c, .writable = 0x8f8f },          /* MBDMA */
	{ .at = 0x78, .size = 2, .reset = 0x0002, .writable = 0xffff },          /* PCSC */
	{ .at = 0x80, .size = 1, .writable = 0x7f },                             /* APICBASE */
	{ .at = 0x82, .size = 1, .writable = 0x0f },                             /* DLC */
	{ .at = 0xa0, .size = 1, .reset = 0x08, .writable = 0x1f },              /* SMICNTL */
	{ .at = 0xa2, .size = 2, .writable = 0x01ff },                           /* SMIEN */
	{ .at = 0xa4, .size = 4, .writable = ~0u },                              /* SEE */
	{ .at = 0xa8, .size = 1, .reset = 0x0f, .writable = 0xff },              /* FTMR */
	{ .at = 0xaa, .size = 2, .clear = 0x01ff },                              /* SMIREQ */
	{ .at = 0xac, .size = 1, .writable = 0xff },                             /* CTLTMR */
	{ .at = 0xae, .size = 1, .writable = 0xff },                             /* CTHTMR */
};

static const struct pci_model model = {
	.vendor = 0x8086, .device = 0x7000, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class = 0x060100,
	.command = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, .status = 0x0200, .registers = registers,
	.register_count = ARRAY_SIZE(registers), .written = written,
};

static void piix3_reset(struct device *d, enum reset_kind kind)
{
	pci_function_reset(&of(d)->pci);
}

static int piix3_post_load(struct device *d, uint32_t version)
{
	pci_function_loaded(&of(d)->pci);
	return 0;
}

static int piix3_init(struct device *d)
{
	return pci_function_init(&of(d)->pci, d, &model);
}

static const struct field fields[] = {
	FIELD_STRUCT(struct piix3, pci, pci_function_fields, struct pci_function),
	FIELD_END,
};

const struct device_class piix3_class = {
	.name = "piix3", .summary = "PIIX3 ISA bridge: PCI interrupt routing", .size = sizeof(struct piix3),
	.init = piix3_init,
	.reset = piix3_reset, .fields = fields, .version = 1, .post_load = piix3_post_load,
};
DEVICE_CLASS(piix3_class);
