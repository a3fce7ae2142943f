/* SPDX-License-Identifier: MIT */
/* The gate of address line 20, after the IBM PC AT technical reference: while it is closed, the second MiB is the first one again, as on an 8086,
 * whose addresses end there. The keyboard controller and port 92h drive it; what was written last counts.
 *
 * Closed, the second MiB is no memory but accesses to the bus, which come here and go to the first one. So a page of RAM is at one address
 * only, and nobody else has to know. Not modelled: higher odd MiB, code that runs there while the gate is closed, and bus masters, who
 * would not care. Open after a reset, as a BIOS leaves it. */
#include "device/chips.h"

#define SECOND_MIB MiB

struct a20 {
	struct device device;
	bool open;
	struct memory_window window;
};

static struct a20 *of(struct device *d)
{
	return container_of(d, struct a20, device);
}

static uint64_t a20_read(struct device *d, uint64_t offset, unsigned size)
{
	uint64_t value = 0;
	return guest_read(d->vm, offset, &value, size) ? UINT64_MAX : value;
}

static void a20_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	(void)guest_write(d->vm, offset, &value, size); /* what is not RAM there keeps nothing */
}

static void show(struct a20 *a)
{
	static const struct memory_region hole = { .start = SECOND_MIB, .size = MiB, .kind = MEMORY_HOLE, .name = "a20" };
	memory_window_set(a->device.vm, &a->window, a->open ? NULL : &hole);
	memory_commit(a->device.vm);
}

void a20_set(struct device *d, bool open)
{
	if (!d)
		return;
	struct a20 *a = of(d);
	pthread_mutex_lock(&d->lock);
	if (a->open != open) {
		a->open = open;
		show(a);
	}
	pthread_mutex_unlock(&d->lock);
}

static void a20_reset(struct device *d, enum reset_kind kind)
{
	struct a20 *a = of(d);
	bool was = a->open;
	a->open = true;
	if (!was)
		show(a);
}

static int a20_post_load(struct device *d, uint32_t version)
{
	show(of(d));
	return 0;
}

static int a20_init(struct device *d)
{
	static const struct bus_ops ops = { .read = a20_read, .write = a20_write, .max_size = 8 };
	of(d)->open = true;
	memory_window_add(d->vm, &of(d)->window);
	return bus_add(d->vm, BUS_MEMORY, SECOND_MIB, MiB, &ops, d);
}

static const struct field fields[] = {
	FIELD_BOOL(struct a20, open),
	FIELD_END,
};

const struct device_class a20_class = {
	.name = "a20", .summary = "gate of address line 20", .size = sizeof(struct a20), .init = a20_init, .reset = a20_reset,
	.fields = fields, .version = 1, .post_load = a20_post_load,
};
DEVICE_CLASS(a20_class);
