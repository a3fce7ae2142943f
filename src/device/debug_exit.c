/* SPDX-License-Identifier: MIT */
/* Debug exit: a port through which a test program ends its machine with a result. No chip; the protocol of QEMU's
 * isa-debug-exit. */
#include "device/chips.h"

#define PORTS 4

static uint64_t debug_exit_read(struct device *d, uint64_t offset, unsigned size)
{
	return 0;
}

static void debug_exit_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	vm_finish(d->vm, VM_DEBUG_EXIT, (value & size_mask(size)) << 1 | 1);
}

static void debug_exit_reset(struct device *d, enum reset_kind kind)
{
}

static int debug_exit_init(struct device *d)
{
	static const struct bus_ops ops = { .read = debug_exit_read, .write = debug_exit_write, .max_size = 4 };
	return bus_add(d->vm, BUS_PORT, d->place->base, PORTS, &ops, d);
}

const struct device_class debug_exit_class = {
	.name = "debug-exit", .summary = "port that ends the machine with a value", .size = sizeof(struct device),
	.init = debug_exit_init, .reset = debug_exit_reset,
};
DEVICE_CLASS(debug_exit_class);
