/* SPDX-License-Identifier: MIT */
/* System control port A at 92h, after the IBM PS/2 hardware interface technical reference: fast A20 and fast reset.
 * It comes up with A20 set, as a BIOS leaves it. */
#include "device/chips.h"

#define FAST_RESET 0x01u /* 0 to 1: reset of the processor */
#define FAST_A20 0x02u
#define STORED 0xcbu     /* activity lights, security lock, A20, reset; bits 2, 4, 5 read as 0 */

struct port92 {
	struct device device;
	uint8_t value; /* port 92h, read/write */
	struct device *a20;
};

static struct port92 *of(struct device *d)
{
	return container_of(d, struct port92, device);
}

static uint64_t port92_read(struct device *d, uint64_t offset, unsigned size)
{
	return of(d)->value;
}

static void port92_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct port92 *p = of(d);
	bool reset = value & ~p->value & FAST_RESET;
	p->value = value & STORED;
	a20_set(p->a20, value & FAST_A20);
	if (reset)
		vm_reset_request(d->vm);
}

static void port92_reset(struct device *d, enum reset_kind kind)
{
	of(d)->value = FAST_A20;
}

static int port92_post_load(struct device *d, uint32_t version)
{
	of(d)->value &= STORED;
	return 0;
}

static int port92_init(struct device *d)
{
	static const struct bus_ops ops = { .read = port92_read, .write = port92_write, .max_size = 1 };
	of(d)->a20 = device_find(d->vm, A20_NAME);
	return bus_add(d->vm, BUS_PORT, d->place->base, 1, &ops, d);
}

static const struct field fields[] = {
	FIELD_U8(struct port92, value),
	FIELD_END,
};

const struct device_class port92_class = {
	.name = "port92", .summary = "system control port A: A20 and reset", .size = sizeof(struct port92),
	.init = port92_init,
	.reset = port92_reset, .fields = fields, .version = 1, .post_load = port92_post_load,
};
DEVICE_CLASS(port92_class);
