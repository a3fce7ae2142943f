/* SPDX-License-Identifier: MIT */
/* The IDE function of the 82371SB (PIIX3), after its datasheet (Intel 290550), section 2.3, in compatibility mode: two channels at 1F0h, 3F6h and
 * 170h, 376h with interrupts 14 and 15, two drives on each.
 *
 * Each channel has a bus master (ide_dma.h), behind BAR 4. Not modelled: timing; the timing registers are stored. What is on a cable without
 * drives floats, with bit 7 pulled down, so that nobody waits for BSY to go. Of a missing drive 1 drive 0 answers: ATA8-APT. */
#include <errno.h>
#include <string.h>
#include "device/ata.h"
#include "device/chips.h"
#include "device/ide_dma.h"
#include "device/pci.h"
#include "util/log.h"

#define CHANNELS 2
#define DRIVES 2               /* on a channel */
#define FLOATING 0x7fu
#define SLAVE_TIMING 0x44
#define BAR_DMA 4
#define COMMAND_PORTS 8
#define CONTROL 8              /* offset of the device control register here */
#define CHANNEL 16             /* offset of the second channel */
#define COMMAND_DEVICE_RESET 0x08
#define COMMAND_DIAGNOSTIC 0x90

static const uint16_t command_port[CHANNELS] = { 0x1f0, 0x170 }, control_port[CHANNELS] = { 0x3f6, 0x376 };
static const unsigned lines[CHANNELS] = { 14, 15 };

struct channel {
	uint8_t control;       /* nIEN, SRST, HOB; write only */
	uint8_t selected;      /* drive */
};

struct ide {
	struct device device;
	struct pci_function pci;
	struct channel channel[CHANNELS];
	struct ide_dma dma[CHANNELS];
	struct ata_drive drive[CHANNELS * DRIVES];
	struct {
		struct irq_pin pin[CHANNELS];
	} host;
};

static struct ide *of(struct device *d)
{
	return container_of(d, struct ide, device);
}

static struct ata_drive *drive_at(struct ide *p, unsigned channel, unsigned number)
{
	struct ata_drive *d = &p->drive[channel * DRIVES + number];
	return d->host.kind ? d : NULL;
}

static struct ata_drive *selected(struct ide *p, unsigned channel)
{
	return drive_at(p, channel, p->channel[channel].selected);
}

static bool level(struct ide *p, unsigned channel)
{
	const struct ata_drive *d = selected(p, channel);
	return d && d->r.intrq && !(p->channel[channel].control & ATA_NIEN);
}

static void update(struct ide *p, unsigned channel)
{
	bool was = p->host.pin[channel].level, is = level(p, channel);
	if (!was && is)
		ide_dma_interrupt(&p->dma[channel]);
	irq_set(&p->host.pin[channel], is);
}

static void run_dma(struct ide *p, unsigned channel)
{
	if (pci_is_master(&p->pci))
		ide_dma_run(&p->dma[channel], p->device.vm, selected(p, channel));
	update(p, channel);
}

static bool decodes(const struct ide *p, unsigned channel)
{
	return p->pci.config[IDE_TIMING + 2 * channel + 1] & IDE_TIMING_DECODE >> 8;
}

/* ---- Registers -------------------------------------------------------------------------------------------------------- */

static uint8_t read_register(struct ide *p, unsigned channel, unsigned reg)
{
	struct ata_drive *d = selected(p, channel);
	bool status = reg == ATA_STATUS_COMMAND || reg == CONTROL;
	if (!d) {
		d = p->channel[channel].selected ? drive_at(p, channel, 0) : NULL;
		if (!d)
			return FLOATING;
		if (status)
			return 0;
	}
	unsigned which = p->channel[channel].control & ATA_HOB ? BEFORE : NOW;
	switch (reg) {
	case ATA_ERROR_FEATURES:
		return d->r.error;
	case ATA_COUNT:
		return d->r.count[which];
	case ATA_LBA_LOW:
		return d->r.lba_low[which];
	case ATA_LBA_MID:
		return d->r.lba_mid[which];
	case ATA_LBA_HIGH:
		return d->r.lba_high[which];
	case ATA_DEVICE:
		return d->r.device;
	case ATA_STATUS_COMMAND:
		d->r.intrq = false;
		update(p, channel);
		break;
	}
	return d->r.status;
}

static void push(uint8_t pair[2], uint8_t value)
{
	pair[BEFORE] = pair[NOW];
	pair[NOW] = value;
}

static void write_drive(struct ata_drive *d, unsigned reg, uint8_t value)
{
	if (d->r.status & ATA_BSY)
		return;
	switch (reg) {
	case ATA_ERROR_FEATURES:
		push(d->r.features, value);
		break;
	case ATA_COUNT:
		push(d->r.count, value);
		break;
	case ATA_LBA_LOW:
		push(d->r.lba_low, value);
		break;
	case ATA_LBA_MID:
		push(d->r.lba_mid, value);
		break;
	case ATA_LBA_HIGH:
		push(d->r.lba_high, value);
		break;
	case ATA_DEVICE:
		d->r.device = value;
		break;
	}
}

static void each(struct ide *p, unsigned channel, void (*what)(struct ata_drive *))
{
	for (unsigned i = 0; i < DRIVES; i++)
		if (drive_at(p, channel, i))
			what(drive_at(p, channel, i));
}

/* Both drives do it, and drive 0 reports. */
static void diagnose(struct ide *p, unsigned channel)
{
	for (unsigned i = 0; i < DRIVES; i++)
		if (drive_at(p, channel, i)) {
			ata_command(drive_at(p, channel, i), COMMAND_DIAGNOSTIC);
			drive_at(p, channel, i)->r.device = 0;
		}
	p->channel[channel].selected = 0;
}

static void write_command(struct ide *p, unsigned channel, uint8_t value)
{
	struct ata_drive *d = selected(p, channel);
	p->channel[channel].control &= (uint8_t)~ATA_HOB;
	if (value == COMMAND_DIAGNOSTIC)
		diagnose(p, channel);
	else if (d && (!(d->r.status & ATA_BSY) || value == COMMAND_DEVICE_RESET))
		ata_command(d, value);
	run_dma(p, channel);
}

static void hold_in_reset(struct ata_drive *d)
{
	ata_reset(d);
	d->r.device = 0;
	d->r.status = ATA_BSY;
}

static void write_control(struct ide *p, unsigned channel, uint8_t value)
{
	bool was = p->channel[channel].control & ATA_SRST, is = value & ATA_SRST;
	p->channel[channel].control = value & (ATA_HOB | ATA_SRST | ATA_NIEN);
	if (!was && is) {
		p->channel[channel].selected = 0;
		each(p, channel, hold_in_reset);
	} else if (was && !is) {
		each(p, channel, ata_reset);
	}
	update(p, channel);
}

static void write_register(struct ide *p, unsigned channel, unsigned reg, uint8_t value)
{
	struct channel *c = &p->channel[channel];
	if (reg == CONTROL) {
		write_control(p, channel, value);
		return;
	}
	if (c->control & ATA_SRST)
		return;
	if (reg == ATA_STATUS_COMMAND) {
		write_command(p, channel, value);
		return;
	}
	c->control &= (uint8_t)~ATA_HOB;
	for (unsigned i = 0; i < DRIVES; i++)
		if (drive_at(p, channel, i))
			write_drive(drive_at(p, channel, i), reg, value);
	if (reg == ATA_DEVICE) {
		c->selected = value & ATA_DEV ? 1 : 0;
		run_dma(p, channel);
	}
}

static uint64_t ide_read(struct device *device, uint64_t offset, unsigned size)
{
	struct ide *p = of(device);
	unsigned channel = (unsigned)offset / CHANNEL, reg = (unsigned)offset % CHANNEL;
	uint64_t value = 0;
	if (!decodes(p, channel))
		return UINT64_MAX;
	if (reg == ATA_DATA) {
		struct ata_drive *d = selected(p, channel);
		value = d ? ata_data_read(d, size) : UINT64_MAX;
		update(p, channel);
		return value;
	}
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)read_register(p, channel, reg + i) << 8 * i;
	return value;
}

static void ide_write(struct device *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct ide *p = of(device);
	unsigned channel = (unsigned)offset / CHANNEL, reg = (unsigned)offset % CHANNEL;
	if (!decodes(p, channel))
		return;
	if (reg == ATA_DATA) {
		struct ata_drive *d = selected(p, channel);
		if (d)
			ata_data_write(d, (uint32_t)value, size);
		run_dma(p, channel);
		return;
	}
	for (unsigned i = 0; i < size; i++)
		write_register(p, channel, reg + i, (uint8_t)(value >> 8 * i));
}

static uint64_t dma_read(struct device *device, uint64_t offset, unsigned size)
{
	const struct ide *p = of(device);
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++) {
		unsigned at = (unsigned)offset + i;
		value |= (uint64_t)ide_dma_read(&p->dma[at / IDE_DMA_PORTS], at % IDE_DMA_PORTS) << 8 * i;
	}
	return value;
}

static void dma_write(struct device *device, uint64_t offset, unsigned size, uint64_t value)
{
	struct ide *p = of(device);
	unsigned channel = (unsigned)offset / IDE_DMA_PORTS;
	for (unsigned i = 0; i < size; i++)
		ide_dma_write(&p->dma[channel], (unsigned)(offset + i) % IDE_DMA_PORTS, (uint8_t)(value >> 8 * i));
	run_dma(p, channel);
}

/* It may have been made a bus master. */
static void config_written(struct device *device, unsigned at, unsigned size)
{
	for (unsigned i = 0; i < CHANNELS; i++)
		run_dma(of(device), i);
}

/* ---- Life cycle ------------------------------------------------------------------------------------------------------- */

static void ide_event(struct device *device, unsigned kind, const void *data, size_t len)
{
	struct ide *p = of(device);
	ata_host_done(&p->drive[kind], data, len);
	run_dma(p, kind / DRIVES);
}

/* As at power on. A warm reset of the machine resets the drives too, but no tray, lock or transfer mode survives it here. */
static void ide_reset(struct device *device, enum reset_kind kind)
{
	struct ide *p = of(device);
	pci_function_reset(&p->pci);
	for (unsigned i = 0; i < CHANNELS; i++) {
		p->channel[i] = (struct channel){ 0 };
		p->dma[i] = (struct ide_dma){ 0 };
		each(p, i, ata_power_on);
		update(p, i);
	}
}

static int ide_post_load(struct device *device, uint32_t version)
{
	struct ide *p = of(device);
	pci_function_loaded(&p->pci);
	for (unsigned i = 0; i < ARRAY_SIZE(p->drive); i++) {
		int error = ata_loaded(&p->drive[i]);
		if (error)
			return error;
	}
	for (unsigned i = 0; i < CHANNELS; i++) {
		p->channel[i].selected &= 1;
		irq_pin_restore(&p->host.pin[i], level(p, i));
	}
	return 0;
}

static int attach(struct ide *p, unsigned number, const struct ide_drive *config)
{
	struct ata_drive *d = &p->drive[number];
	d->host.device = &p->device;
	d->host.number = number;
	if (!config->image)
		return 0;
	d->host.image = config->image;
	d->host.blocks = image_size(config->image) / (config->cdrom ? CD_BLOCK : ATA_SECTOR);
	if (!d->host.blocks) {
		log_error("an image of %lu bytes is too small for a %s", image_size(config->image), config->cdrom ? "CD" : "disk");
		return -EINVAL;
	}
	d->host.kind = config->cdrom ? &ata_cdrom : &ata_disk;
	return image_attach(config->image, &p->device, number);
}

static const struct pci_register registers[] = {
	/* Of the chip both channels are off after a reset. Of the virtual machines that firmware knows with this chip they are on, and OVMF does not
	 * switch them on. */
	{ .at = IDE_TIMING, .size = 4, .reset = IDE_TIMING_DECODE << 16 | IDE_TIMING_DECODE, .writable = ~0u },
	{ .at = SLAVE_TIMING, .size = 1, .writable = 0xff },
};
static const struct bus_ops dma_ops = { .read = dma_read, .write = dma_write, .max_size = 4 };
static const struct pci_model model = {
	.vendor = 0x8086, .device = 0x7010, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class = 0x010180, .decodes = PCI_COMMAND_IO,
	.status = 0x0280, .registers = registers, .register_count = ARRAY_SIZE(registers), .written = config_written,
	.bar = { [BAR_DMA] = { .kind = PCI_BAR_IO, .size = CHANNELS * IDE_DMA_PORTS, .ops = &dma_ops } },
};

static int ide_init(struct device *device)
{
	static const struct bus_ops ops = { .read = ide_read, .write = ide_write, .max_size = 4 };
	const struct ide_config *config = device->place->config;
	struct ide *p = of(device);
	int error = pci_function_init(&p->pci, device, &model);
	for (unsigned i = 0; i < CHANNELS && !error; i++) {
		irq_pin_init(&p->host.pin[i], device->vm, lines[i]);
		error = bus_add_at(device->vm, BUS_PORT, command_port[i], COMMAND_PORTS, &ops, device, i * CHANNEL);
		if (!error)
			error = bus_add_at(device->vm, BUS_PORT, control_port[i], 1, &ops, device, i * CHANNEL + CONTROL);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(p->drive) && !error; i++)
		error = attach(p, i, &config->drive[i]);
	return error;
}

static void ide_fini(struct device *device)
{
	struct ide *p = of(device);
	for (unsigned i = 0; i < ARRAY_SIZE(p->drive); i++)
		if (p->drive[i].host.image)
			image_detach(p->drive[i].host.image);
}

static const struct field channel_fields[] = {
	FIELD_U8(struct channel, control),
	FIELD_U8(struct channel, selected),
	FIELD_END,
};

static const struct field drive_fields[] = {
	FIELD_STRUCT(struct ata_drive, r, ata_fields, struct ata_regs),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct ide, pci, pci_function_fields, struct pci_function),
	FIELD_STRUCT(struct ide, channel, channel_fields, struct channel),
	FIELD_STRUCT(struct ide, dma, ide_dma_fields, struct ide_dma),
	FIELD_STRUCT(struct ide, drive, drive_fields, struct ata_drive),
	FIELD_END,
};

const struct device_class ide_class = {
	.name = "ide", .summary = "PIIX3 IDE controller with ATA disks and CD-ROM drives", .size = sizeof(struct ide), .init = ide_init,
	.reset = ide_reset, .fini = ide_fini, .event = ide_event, .fields = fields, .version = 1, .post_load = ide_post_load,
};
DEVICE_CLASS(ide_class);
