/* SPDX-License-Identifier: MIT */
/* The power management function of the 82371AB (PIIX4), after its datasheet (Intel 290562), section 7.1: where the
 * ports of the ACPI block are, which is acpi_pm.c.
 *
 * There is no SMBus: its enable bit reads as 0. There is no system management mode: the bit that says that writes
 * to the APM control port make an SMI is set from the start, by which firmware knows that somebody else has that
 * mode in hand. */
#include "device/pci.h"
#include <errno.h>
#include "device/chips.h"
#include "util/log.h"

#define PORTS_BAR 1u                /* read only: these are ports */
#define PM_BASE_WRITABLE 0xffc0u
#define DEVACTB 0x58
#define DEVACTB_APMC_EN BIT(25)
#define SMBUS_BASE 0x90
#define SMBUS_BASE_WRITABLE 0xfff0u

struct piix4_pm {
	struct device device;
	struct pci_function pci;
	struct device *block;
};

static struct piix4_pm *of(struct device *d)
{
	return container_of(d, struct piix4_pm, device);
}

static void written(struct device *d, unsigned at, unsigned size)
{
	struct piix4_pm *p = of(d);
	const uint8_t *config = p->pci.config;
	uint16_t base = (uint16_t)((config[PIIX4_PM_BASE] | config[PIIX4_PM_BASE + 1] << 8) & PM_BASE_WRITABLE);
	acpi_pm_place(p->block, config[PIIX4_PM_MISC] & PIIX4_PM_ENABLE ? base : 0);
}

static const struct pci_register registers[] = {
	{ .at = PIIX4_PM_BASE, .size = 4, .reset = PORTS_BAR, .writable = PM_BASE_WRITABLE },
	{ .at = 0x44, .size = 4, .writable = ~0u },                                   /* CNTA, CNTB: idle timers */
	{ .at = 0x48, .size = 4, .writable = ~0u },
	{ .at = 0x4c, .size = 4, .writable = ~0u },                                   /* GPICTL */
	{ .at = 0x50, .size = 4, .writable = ~0u },                                   /* DEVRESD */
	{ .at = 0x54, .size = 4, .writable = ~0u },                                   /* DEVACTA */
	{ .at = DEVACTB, .size = 4, .reset = DEVACTB_APMC_EN, .writable = ~0u },
	/* DEVRESA to DEVRESJ: what is decoded */
	{ .at = 0x5c, .size = 4, .writable = ~0u },
	/* the datasheet's: serial ports present */
	{ .at = 0x60, .size = 4, .reset = 0x90000000, .writable = ~0u },
	{ .at = 0x64, .size = 4, .writable = ~0u },
	{ .at = 0x68, .size = 4, .writable = ~0u },
	{ .at = 0x6c, .size = 4, .writable = ~0u },
	{ .at = 0x70, .size = 4, .writable = ~0u },
	{ .at = 0x74, .size = 4, .writable = ~0u },
	{ .at = 0x78, .size = 4, .writable = ~0u },
	{ .at = 0x7c, .size = 4, .writable = ~0u },
	{ .at = PIIX4_PM_MISC, .size = 1, .writable = PIIX4_PM_ENABLE },
	{ .at = SMBUS_BASE, .size = 4, .reset = PORTS_BAR, .writable = SMBUS_BASE_WRITABLE },
};

static const struct pci_model model = {
	.vendor = 0x8086, .device = 0x7113, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class = 0x068000,
	.revision = 3, .pin = 1,
	.command = PCI_COMMAND_IO, .status = 0x0280, .registers = registers, .register_count = ARRAY_SIZE(registers),
	.written = written,
};

static void piix4_pm_reset(struct device *d, enum reset_kind kind)
{
	pci_function_reset(&of(d)->pci);
}

static int piix4_pm_post_load(struct device *d, uint32_t version)
{
	pci_function_loaded(&of(d)->pci);
	return 0;
}

static int piix4_pm_init(struct device *d)
{
	const struct piix4_pm_config *config = d->place->config;
	struct piix4_pm *p = of(d);
	p->block = config ? device_find(d->vm, config->block) : NULL;
	if (!p->block || p->block->class != &acpi_pm_class) {
		log_error("board: %s needs an acpi-pm", d->name);
		return -ENODEV;
	}
	return pci_function_init(&p->pci, d, &model);
}

static const struct field fields[] = {
	FIELD_STRUCT(struct piix4_pm, pci, pci_function_fields, struct pci_function),
	FIELD_END,
};

const struct device_class piix4_pm_class = {
	.name = "piix4-pm", .summary = "PIIX4 power management function", .size = sizeof(struct piix4_pm),
	.init = piix4_pm_init,
	.reset = piix4_pm_reset, .fields = fields, .version = 1, .post_load = piix4_pm_post_load,
};
DEVICE_CLASS(piix4_pm_class);
