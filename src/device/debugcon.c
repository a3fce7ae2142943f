/* SPDX-License-Identifier: MIT */
/* Debug console: each byte written to the port goes to the host. No chip; the convention of Bochs's port E9h,
 * where a read of E9h tells a guest that it is there. What the backend has no room for is lost: the port has no
 * way to say "wait". */
#include "device/chips.h"
#include "backend/chardev.h"

#define PRESENT 0xe9u

static const struct debugcon_config *config_of(struct device *d)
{
	return d->place->config;
}

static struct chardev *backend(struct device *d)
{
	return config_of(d) ? config_of(d)->chardev : NULL;
}

static uint64_t debugcon_read(struct device *d, uint64_t offset, unsigned size)
{
	return PRESENT;
}

static void debugcon_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	uint8_t byte = value;
	if (backend(d))
		backend(d)->ops->write(backend(d), &byte, 1);
}

static void debugcon_reset(struct device *d, enum reset_kind kind)
{
}

/* There is no input: what the backend has to say is not listened to. */
static void debugcon_event(struct device *d, unsigned kind, const void *data, size_t len)
{
}

static int debugcon_init(struct device *d)
{
	static const struct bus_ops ops = { .read = debugcon_read, .write = debugcon_write, .max_size = 1 };
	int error = bus_add(d->vm, BUS_PORT, d->place->base, 1, &ops, d);
	if (error || !backend(d))
		return error;
	backend(d)->sink = d;
	return backend(d)->ops->start ? backend(d)->ops->start(backend(d), d->vm) : 0;
}

static void debugcon_fini(struct device *d)
{
	if (backend(d) && backend(d)->ops->stop)
		backend(d)->ops->stop(backend(d));
}

const struct device_class debugcon_class = {
	.name = "debugcon", .summary = "debug console port", .size = sizeof(struct device), .init = debugcon_init,
	.reset = debugcon_reset, .fini = debugcon_fini, .event = debugcon_event,
};
DEVICE_CLASS(debugcon_class);
