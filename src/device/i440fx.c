/* SPDX-License-Identifier: MIT */
/* The host bridge of the 82441FX (440FX) chip set, after its datasheet (Intel 290549), section 3.2: which accesses
 * below 1 MiB go to RAM and which to the PCI bus.
 *
 * Behind RAM between C0000h and FFFFFh lies what PCI and ISA answer there: the end of the BIOS ROM, and nothing else
 * here. The seven PAM registers send reads and writes of 13 segments to the one or the other, apart from each other:
 * a BIOS reads its ROM while it writes the copy. A0000h to BFFFFh is the PCI bus's (a video card's), unless SMRAM is
 * open. There is no system management mode, so that is the only time when SMRAM is reached. The DRAM row registers
 * are memory without a meaning: RAM is as large as the board says.
 *
 * The subsystem ID is the one that firmware for emulated machines knows them by. */
#include "device/pci.h"
#include <errno.h>
#include <string.h>
#include "device/chips.h"
#include "util/log.h"

enum { PAM = 0x59, PAM_LAST = 0x5f, SMRAM = 0x72 };
#define PAM_READ 1u  /* of the four bits of a segment: reads go to RAM */
#define PAM_WRITE 2u
#define SMRAM_OPEN 0x40u
#define SMRAM_LOCK 0x10u
#define SMRAM_ENABLE 0x08u
#define SMRAM_BASE 0x02u /* at A0000h: no other is possible */
#define SMRAM_WRITABLE 0x78u

#define BELOW_1M 0xc0000ULL      /* to FFFFFh: what PCI answers, when RAM does not */
#define BELOW_1M_SIZE (256 * KiB)
#define BIOS_BELOW_1M (128 * KiB)
#define VIDEO 0xa0000ULL
#define VIDEO_SIZE (128 * KiB)
#define SEGMENTS 13
#define SEGMENT_SIZE (16 * KiB)
#define ABSENT 0xff

struct i440fx {
	struct device device;
	struct pci_function pci;
	struct {
		uint64_t bus;               /* offset in the memfd of what PCI answers from BELOW_1M on */
		struct memory_window segment[SEGMENTS], video;
		uint8_t pam[SEGMENTS];      /* what the windows show now */
		bool smram;
	} host;
};

static struct i440fx *of(struct device *d)
{
	return container_of(d, struct i440fx, device);
}

/* Segment 0 is the BIOS area, whose bits are the upper half of the first register; 1 to 12 follow from C0000h on. */
static uint8_t pam_of(const struct i440fx *b, unsigned segment)
{
	uint8_t value = b->pci.config[PAM + (segment + 1) / 2];
	return (segment & 1 ? value : value >> 4) & (PAM_READ | PAM_WRITE);
}

static void show_segment(struct i440fx *b, unsigned segment)
{
	uint64_t start = segment ? BELOW_1M + (segment - 1) * SEGMENT_SIZE : 0xf0000;
	uint64_t bus = b->host.bus + (start - BELOW_1M);
	struct memory_region r = { .start = start, .size = segment ? SEGMENT_SIZE : 4 * SEGMENT_SIZE,
		.kind = MEMORY_ROM, .name = "pam" };
	switch (b->host.pam[segment]) {
	case 0:
		r.offset = bus;
		break;
	case PAM_READ:
		r.offset = start;
		break;
	case PAM_WRITE:
		r.kind = MEMORY_SHADOW;
		r.offset = bus;
		r.shadow = start;
		break;
	default: /* RAM as below */
		memory_window_set(b->device.vm, &b->host.segment[segment], NULL);
		return;
	}
	memory_window_set(b->device.vm, &b->host.segment[segment], &r);
}

static void show_video(struct i440fx *b)
{
	static const struct memory_region hole = { .start = VIDEO, .size = VIDEO_SIZE, .kind = MEMORY_HOLE,
		.name = "video" };
	memory_window_set(b->device.vm, &b->host.video, b->host.smram ? NULL : &hole);
}

/* Brings the windows to what the registers say. */
static void update(struct i440fx *b)
{
	uint8_t *smram = &b->pci.config[SMRAM];
	bool changed = false, open;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		uint8_t pam = pam_of(b, i);
		if (b->host.pam[i] == pam)
			continue;
		b->host.pam[i] = pam;
		show_segment(b, i);
		changed = true;
	}
	if (*smram & SMRAM_LOCK)
		*smram &= (uint8_t)~SMRAM_OPEN;
	open = (*smram & (SMRAM_OPEN | SMRAM_ENABLE)) == (SMRAM_OPEN | SMRAM_ENABLE);
	if (open != b->host.smram) {
		b->host.smram = open;
		show_video(b);
		changed = true;
	}
	if (changed)
		memory_commit(b->device.vm);
}

static void written(struct device *d, unsigned at, unsigned size)
{
	struct i440fx *b = of(d);
	update(b);
	/* Once locked, the register holds until the next reset. */
	b->pci.writable[SMRAM] = b->pci.config[SMRAM] & SMRAM_LOCK ? 0 : SMRAM_WRITABLE;
}

static void i440fx_reset(struct device *d, enum reset_kind kind)
{
	pci_function_reset(&of(d)->pci);
}

static int i440fx_post_load(struct device *d, uint32_t version)
{
	struct i440fx *b = of(d);
	b->pci.writable[SMRAM] = SMRAM_WRITABLE;
	pci_function_loaded(&b->pci);
	return 0;
}

static int fill_bus(struct i440fx *b)
{
	const struct i440fx_config *config = b->device.place->config;
	struct memory *m = &b->device.vm->memory;
	int error = memory_reserve(b->device.vm, NULL, BELOW_1M_SIZE, b->device.name, &b->host.bus);
	if (error)
		return error;
	uint8_t *bytes = m->host + b->host.bus;
	memset(bytes, ABSENT, BELOW_1M_SIZE);
	if (config && config->bios) {
		size_t size = MIN(config->bios_size, (size_t)BIOS_BELOW_1M);
		memcpy(bytes + BELOW_1M_SIZE - size, config->bios + config->bios_size - size, size);
	}
	return 0;
}

static const struct pci_register registers[] = {
	{ .at = 0x50, .size = 2, .writable = 0xffff },                  /* PMCCFG: stored */
	{ .at = 0x53, .size = 1, .reset = 0x80, .writable = 0xff },     /* DBC */
	{ .at = 0x57, .size = 1, .reset = 0x01, .writable = 0xff },     /* DRAMC */
	{ .at = 0x58, .size = 1, .writable = 0xff },                    /* DRAMT */
	{ .at = PAM, .size = 1, .writable = 0x30 },
	{ .at = PAM + 1, .size = 4, .writable = 0x33333333 },
	{ .at = PAM + 5, .size = 2, .writable = 0x3333 },
	{ .at = 0x60, .size = 4, .reset = 0x01010101, .writable = ~0u }, /* DRB, rows 0 to 3: stored */
	{ .at = 0x64, .size = 4, .reset = 0x01010101, .writable = ~0u },
	{ .at = 0x68, .size = 1, .writable = 0xff },                    /* FDHC: there is no hole */
	{ .at = SMRAM, .size = 1, .reset = SMRAM_BASE, .writable = SMRAM_WRITABLE },
	{ .at = 0x93, .size = 1, .writable = 0xff },                    /* TRC: the PIIX3 resets, not this */
};

static const struct pci_model model = {
	.vendor = 0x8086, .device = 0x1237, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class = 0x060000,
	.revision = 2,
	.command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, .status = 0x0280, .registers = registers,
	.register_count = ARRAY_SIZE(registers), .written = written,
};

static int i440fx_init(struct device *d)
{
	struct i440fx *b = of(d);
	if (d->vm->memory.low_ram < MiB) {
		log_error("%s: a machine with this chip set has 1 MiB of RAM at least", d->name);
		return -EINVAL;
	}
	int error = fill_bus(b);
	if (!error)
		error = pci_function_init(&b->pci, d, &model);
	if (error)
		return error;
	for (unsigned i = 0; i < SEGMENTS; i++) {
		memory_window_add(d->vm, &b->host.segment[i]);
		show_segment(b, i);
	}
	memory_window_add(d->vm, &b->host.video);
	show_video(b);
	return memory_commit(d->vm);
}

static const struct field fields[] = {
	FIELD_STRUCT(struct i440fx, pci, pci_function_fields, struct pci_function),
	FIELD_END,
};

const struct device_class i440fx_class = {
	.name = "i440fx", .summary = "440FX host bridge: shadow RAM", .size = sizeof(struct i440fx),
	.init = i440fx_init,
	.reset = i440fx_reset, .fields = fields, .version = 1, .post_load = i440fx_post_load,
};
DEVICE_CLASS(i440fx_class);
