/* SPDX-License-Identifier: MIT */
/* The coprocessor error of a PC/AT, as the PIIX3 has it (82371SB datasheet, 2.5.6; SDM volume 1, appendix D): FERR# becomes IRQ 13, and a write to
 * port F0h takes the interrupt back and asserts IGNNE#, so that the handler can use the x87 until it has cleared the error.
 *
 * For programs that leave CR0.NE clear, as under DOS; all others get #MF. */
#include "device/chips.h"

struct fpu_error {
	struct device device;
	struct irq_pin irq;
	bool ferr;    /* FERR#: an unmasked exception waits */
	bool ignne;   /* IGNNE#: it is to be ignored */
	bool latched; /* IRQ 13 is up, until port F0h is written */
};

static struct fpu_error *of(struct device *d)
{
	return container_of(d, struct fpu_error, device);
}

/* The processor's pins: irq.fpu. */
static bool signal_error(struct device *d, bool pending)
{
	struct fpu_error *f = of(d);
	bool ignore;

	pthread_mutex_lock(&d->lock);
	f->ferr = pending;
	if (!pending)
		f->ignne = false;
	ignore = f->ignne;
	f->latched |= pending && !ignore;
	irq_set(&f->irq, f->latched);
	pthread_mutex_unlock(&d->lock);
	return ignore;
}

static uint64_t port_read(struct device *d, uint64_t offset, unsigned size)
{
	return 0xff;
}

static void port_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct fpu_error *f = of(d);

	if (offset)
		return;
	f->latched = false;
	irq_lower(&f->irq);
	f->ignne = f->ferr;
}

static void fpu_error_reset(struct device *d, enum reset_kind kind)
{
	of(d)->ferr = of(d)->ignne = of(d)->latched = false;
	irq_lower(&of(d)->irq);
}

static int fpu_error_post_load(struct device *d, uint32_t version)
{
	irq_pin_restore(&of(d)->irq, of(d)->latched);
	return 0;
}

static int fpu_error_init(struct device *d)
{
	static const struct bus_ops ops = { .read = port_read, .write = port_write, .max_size = 1 };

	irq_pin_init(&of(d)->irq, d->vm, (unsigned)d->place->irq);
	d->vm->irq.fpu.device = d;
	d->vm->irq.fpu.error = signal_error;
	return bus_add(d->vm, BUS_PORT, d->place->base, 2, &ops, d);
}

static const struct field fields[] = {
	FIELD_BOOL(struct fpu_error, ferr),
	FIELD_BOOL(struct fpu_error, ignne),
	FIELD_BOOL(struct fpu_error, latched),
	FIELD_END,
};

const struct device_class fpu_error_class = {
	.name = "fpu-error", .summary = "coprocessor error: FERR# to IRQ 13, port F0h", .size = sizeof(struct fpu_error),
	.init = fpu_error_init,
	.reset = fpu_error_reset, .fields = fields, .version = 1, .post_load = fpu_error_post_load,
};
DEVICE_CLASS(fpu_error_class);
