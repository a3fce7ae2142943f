/* SPDX-License-Identifier: MIT */
/* The reset control register at port CF9h, after the 82371SB (PIIX3) datasheet, section 2.5.5. Every reset is a
 * full one. */
#include "device/chips.h"

#define SYS_RST 0x02u  /* the reset will be a hard one */
#define RST_CPU 0x04u  /* 0 to 1: reset */
#define FULL_RST 0x08u /* later chips: with a power cycle */

struct cf9 {
	struct device device;
	uint8_t value; /* RC, read/write */
};

static struct cf9 *of(struct device *d)
{
	return container_of(d, struct cf9, device);
}

static uint64_t cf9_read(struct device *d, uint64_t offset, unsigned size)
{
	return of(d)->value;
}

static void cf9_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct cf9 *c = of(d);
	bool reset = value & ~c->value & RST_CPU;
	c->value = value & (SYS_RST | RST_CPU | FULL_RST);
	if (reset)
		vm_reset_request(d->vm);
}

static void cf9_reset(struct device *d, enum reset_kind kind)
{
	of(d)->value = 0;
}

static int cf9_post_load(struct device *d, uint32_t version)
{
	of(d)->value &= SYS_RST | RST_CPU | FULL_RST;
	return 0;
}

const struct bus_ops cf9_ops = { .read = cf9_read, .write = cf9_write, .max_size = 1 };

static int cf9_init(struct device *d)
{
	return d->place->base ? bus_add(d->vm, BUS_PORT, d->place->base, 1, &cf9_ops, d) : 0;
}

static const struct field fields[] = {
	FIELD_U8(struct cf9, value),
	FIELD_END,
};

const struct device_class cf9_class = {
	.name = "cf9", .summary = "reset control register", .size = sizeof(struct cf9), .init = cf9_init,
	.reset = cf9_reset,
	.fields = fields, .version = 1, .post_load = cf9_post_load,
};
DEVICE_CLASS(cf9_class);
