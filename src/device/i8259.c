/* SPDX-License-Identifier: MIT */
/* The PC's two 8259A interrupt controllers, after the Intel 8259A datasheet (order number 231468), with the
 * edge/level control registers (ELCR) of the 82371 PIIX, section 4.2.
 *
 * Modelled: all of ICW1-4 and OCW1-3 in 8086 mode. As in the chip, a request is its input: an edge-triggered
 * request that falls before it is acknowledged is gone, and an acknowledge that finds none gives IR7. Not
 * modelled: buffered mode, the MCS-80 vectors, and ICW1.LTIM, which the ELCR replaces on a PC. */
#include "device/chips.h"
#include <errno.h>
#include <string.h>
#include "vm/vcpu.h"

enum { MASTER, SLAVE, CHIPS };
#define CASCADE 2 /* the master's input that the slave is on */
#define SPURIOUS 7

/* A0 = 0 */
#define ICW1 0x10u /* bit 4 of a write tells ICW1 */
#define ICW1_IC4 0x01u
#define ICW1_SNGL 0x02u
#define OCW3 0x08u
#define OCW3_RIS 0x01u
#define OCW3_RR 0x02u
#define OCW3_POLL 0x04u
#define OCW3_SMM 0x20u
#define OCW3_ESMM 0x40u
#define OCW2_EOI 0x20u
#define OCW2_SL 0x40u
#define OCW2_R 0x80u
/* A0 = 1 */
#define ICW4_AEOI 0x02u
#define ICW4_SFNM 0x10u

#define POLL_PENDING 0x80u

/* ELCR1: IRQ 0 to 2 are edge-triggered; ELCR2: 8 and 13. */
static const uint8_t elcr_writable[CHIPS] = { 0xf8, 0xde };

struct i8259_chip {
	uint8_t lines;     /* levels at the inputs */
	uint8_t edge;      /* edge-triggered inputs that rose and are not acknowledged yet */
	uint8_t imr;       /* OCW1: interrupt mask register, read/write */
	uint8_t isr;       /* in-service register, read by OCW3 */
	uint8_t elcr;      /* bit set: level-triggered, read/write */
	uint8_t base;      /* ICW2: bits 7:3 of the vectors */
	uint8_t icw3;      /* master: inputs with a slave; slave: its number */
	uint8_t icw4;      /* ICW4 */
	uint8_t next_icw;  /* which initialization word is due at A0 = 1: 2, 3, 4, or 0: OCW1 */
	bool want_icw4;    /* ICW1.IC4 */
	bool single;       /* ICW1.SNGL: no ICW3, no cascade */
	uint8_t lowest;    /* input of the lowest priority, moved by rotation; the next one is the highest */
	bool rotate_aeoi;  /* rotate in automatic EOI mode */
	bool special_mask; /* special mask mode */
	bool read_isr;     /* a read at A0 = 0 gives ISR, not IRR */
	bool poll;         /* the next read is a poll */
};

struct i8259 {
	struct device device;
	struct i8259_chip chip[CHIPS];
};

static struct i8259 *of(struct device *d)
{
	return container_of(d, struct i8259, device);
}

static uint8_t irr(const struct i8259_chip *c)
{
	return c->lines & (c->edge | c->elcr);
}

/* The first set bit in the order of priority, or -1. */
static int highest(const struct i8259_chip *c, uint8_t set)
{
	for (unsigned i = 1; i <= 8; i++) {
		unsigned bit = (c->lowest + i) & 7;
		if (set & BIT(bit))
			return bit;
	}
	return -1;
}

/* The input that INT is asserted for, or -1. An input in service holds off its own level and those below, unless
 * special mask mode takes it out, or it is the slave's in special fully nested mode. */
static int pending(const struct i8259 *p, unsigned chip)
{
	const struct i8259_chip *c = &p->chip[chip];
	uint8_t requests = irr(c) & ~c->imr, blocking = c->isr;
	if (c->special_mask)
		blocking &= ~c->imr;
	bool nested = chip == MASTER && (c->icw4 & ICW4_SFNM) && !c->single;
	for (unsigned i = 1; i <= 8; i++) {
		unsigned bit = (c->lowest + i) & 7;
		bool blocked = blocking & BIT(bit);
		if (blocked && nested && bit == CASCADE && (requests & BIT(bit)))
			return bit;
		if (blocked)
			return -1;
		if (requests & BIT(bit))
			return bit;
	}
	return -1;
}

static void set_line(struct i8259_chip *c, unsigned bit, bool level)
{
	uint8_t mask = BIT(bit);
	if (level && !(c->lines & mask))
		c->edge |= mask;
	if (!level)
		c->edge &= ~mask;
	c->lines = level ? c->lines | mask : c->lines & ~mask;
}

static void update(struct i8259 *p)
{
	struct irq *irq = &p->device.vm->irq;
	set_line(&p->chip[MASTER], CASCADE, pending(p, SLAVE) >= 0);
	bool level = pending(p, MASTER) >= 0;
	if (atomic_exchange(&irq->extint.level, level) != level && irq->controller->extint)
		irq->controller->extint(irq->controller_device);
}

static void end_of_interrupt(struct i8259_chip *c, int bit, bool rotate)
{
	if (bit < 0)
		return;
	c->isr &= ~BIT(bit);
	if (rotate)
		c->lowest = bit;
}

/* The chip's part of an acknowledge (INTA or poll): the request becomes in service. */
static void accept(struct i8259_chip *c, int bit)
{
	c->edge &= ~BIT(bit);
	c->isr |= BIT(bit);
	if (c->icw4 & ICW4_AEOI)
		end_of_interrupt(c, bit, c->rotate_aeoi);
}

/* The two INTA pulses: returns the vector. INT falls with them, so that what is left makes a new edge at the master. */
static uint8_t inta(struct i8259 *p, unsigned chip)
{
	struct i8259_chip *c = &p->chip[chip];
	int bit = pending(p, chip);
	if (chip == SLAVE)
		set_line(&p->chip[MASTER], CASCADE, false);
	if (bit < 0)
		return c->base | SPURIOUS;
	accept(c, bit);
	if (chip == MASTER && bit == CASCADE && !c->single)
		return inta(p, SLAVE);
	return c->base | bit;
}

static int i8259_acknowledge(struct device *d)
{
	struct i8259 *p = of(d);
	pthread_mutex_lock(&d->lock);
	uint8_t vector = inta(p, MASTER);
	update(p);
	pthread_mutex_unlock(&d->lock);
	return vector;
}

void i8259_set(struct device *d, unsigned pin, bool level)
{
	struct i8259 *p = of(d);
	if (pin >= 8 * CHIPS || pin == CASCADE)
		return;
	pthread_mutex_lock(&d->lock);
	set_line(&p->chip[pin >> 3], pin & 7, level);
	update(p);
	pthread_mutex_unlock(&d->lock);
}

enum irq_request i8259_request(struct device *d, unsigned pin)
{
	struct i8259 *p = of(d);
	const struct i8259_chip *c = &p->chip[pin >> 3 & 1];
	enum irq_request request;

	pthread_mutex_lock(&d->lock);
	request = c->imr & BIT(pin & 7) ? IRQ_UNHEARD : irr(c) & BIT(pin & 7) ? IRQ_WAITS : IRQ_TAKEN;
	pthread_mutex_unlock(&d->lock);
	return request;
}

/* "Initialization command words": what ICW1 does at once. */
static void write_icw1(struct i8259_chip *c, uint8_t value)
{
	c->edge = 0;
	c->imr = 0;
	c->isr = 0;
	c->lowest = 7;
	c->special_mask = c->read_isr = c->poll = c->rotate_aeoi = false;
	c->want_icw4 = value & ICW1_IC4;
	c->single = value & ICW1_SNGL;
	if (!c->want_icw4)
		c->icw4 = 0;
	c->next_icw = 2;
}

static void write_ocw2(struct i8259_chip *c, uint8_t value)
{
	int level = value & 7;
	bool rotate = value & OCW2_R;
	switch (value & (OCW2_R | OCW2_SL | OCW2_EOI)) {
	case OCW2_EOI: /* non-specific EOI; in special mask mode a masked level is not cleared */
	case OCW2_R | OCW2_EOI:
		end_of_interrupt(c, highest(c, c->special_mask ? c->isr & ~c->imr : c->isr), rotate);
		break;
	case OCW2_SL | OCW2_EOI:
	case OCW2_R | OCW2_SL | OCW2_EOI:
		end_of_interrupt(c, level, rotate);
		break;
	case OCW2_R | OCW2_SL: /* set priority */
		c->lowest = level;
		break;
	case OCW2_R:
	case 0: /* rotate in automatic EOI mode: set, clear */
		c->rotate_aeoi = rotate;
		break;
	}
}

static void write_ocw3(struct i8259_chip *c, uint8_t value)
{
	if (value & OCW3_ESMM)
		c->special_mask = value & OCW3_SMM;
	if (value & OCW3_POLL)
		c->poll = true;
	else if (value & OCW3_RR)
		c->read_isr = value & OCW3_RIS;
}

static void write_icw(struct i8259_chip *c, uint8_t value)
{
	switch (c->next_icw) {
	case 2:
		c->base = value & 0xf8;
		c->next_icw = !c->single ? 3 : c->want_icw4 ? 4 : 0;
		break;
	case 3:
		c->icw3 = value;
		c->next_icw = c->want_icw4 ? 4 : 0;
		break;
	case 4:
		c->icw4 = value;
		c->next_icw = 0;
		break;
	}
}

/* The handlers' offset: chip * 2 + A0; the ELCRs are 4 and 5. */
#define ELCR_OFFSET 4

static void i8259_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8259 *p = of(d);
	struct i8259_chip *c = &p->chip[offset >= ELCR_OFFSET ? offset - ELCR_OFFSET : offset >> 1];
	if (offset >= ELCR_OFFSET) {
		c->elcr = value & elcr_writable[offset - ELCR_OFFSET];
	} else if (offset & 1) {
		if (c->next_icw)
			write_icw(c, value);
		else
			c->imr = value;
	} else if (value & ICW1) {
		write_icw1(c, value);
	} else if (value & OCW3) {
		write_ocw3(c, value);
	} else {
		write_ocw2(c, value);
	}
	update(p);
}

static uint8_t poll(struct i8259 *p, unsigned chip)
{
	struct i8259_chip *c = &p->chip[chip];
	int bit = pending(p, chip);
	c->poll = false;
	if (bit < 0)
		return 0;
	if (chip == SLAVE)
		set_line(&p->chip[MASTER], CASCADE, false);
	accept(c, bit);
	update(p);
	return POLL_PENDING | bit;
}

static uint64_t i8259_read(struct device *d, uint64_t offset, unsigned size)
{
	struct i8259 *p = of(d);
	if (offset >= ELCR_OFFSET)
		return p->chip[offset - ELCR_OFFSET].elcr;
	struct i8259_chip *c = &p->chip[offset >> 1];
	if (c->poll)
		return poll(p, offset >> 1);
	if (offset & 1)
		return c->imr;
	return c->read_isr ? c->isr : irr(c);
}

/* Without a LAPIC the pair is what the processor asks. */
static int controller_acknowledge(struct device *d, struct vcpu *vcpu)
{
	if (vcpu->index || !atomic_load(&d->vm->irq.extint.level))
		return -1;
	return i8259_acknowledge(d);
}

static void controller_extint(struct device *d)
{
	if (d->vm->vcpu && d->vm->vcpu[0])
		vcpu_interrupt(d->vm->vcpu[0], atomic_load(&d->vm->irq.extint.level));
}

static const struct irq_controller controller = { .acknowledge = controller_acknowledge, .extint = controller_extint };

/* The chip has no reset pin: it comes up somehow, and ICW1 must follow. Nothing gets through until then. The
 * inputs are kept: their drivers reset themselves. */
static void i8259_reset(struct device *d, enum reset_kind kind)
{
	struct i8259 *p = of(d);
	for (unsigned i = 0; i < CHIPS; i++) {
		uint8_t lines = p->chip[i].lines;
		p->chip[i] = (struct i8259_chip){ .lines = lines, .imr = 0xff, .lowest = 7 };
	}
	update(p);
}

static int i8259_post_load(struct device *d, uint32_t version)
{
	struct i8259 *p = of(d);
	for (unsigned i = 0; i < CHIPS; i++) {
		struct i8259_chip *c = &p->chip[i];
		if (c->lowest > 7 || c->next_icw == 1 || c->next_icw > 4)
			return -EINVAL;
		c->base &= 0xf8;
		c->elcr &= elcr_writable[i];
		c->edge &= c->lines;
	}
	update(p);
	if (d->vm->irq.controller->extint) /* once more: the controller may have been loaded earlier, or later */
		d->vm->irq.controller->extint(d->vm->irq.controller_device);
	return 0;
}

static void take(struct device *d, struct irq_chips *chips)
{
	struct i8259 *p = of(d);

	for (unsigned i = 0; i < CHIPS; i++) {
		const struct i8259_chip *c = &p->chip[i];
		chips->i8259[i] = (struct state_i8259){
			.lines = c->lines, .edge = c->edge, .imr = c->imr, .isr = c->isr, .elcr = c->elcr, .base = c->base, .icw4 = c->icw4,
			.next_icw = c->next_icw, .lowest = c->lowest, .want_icw4 = c->want_icw4, .rotate_aeoi = c->rotate_aeoi,
			.special_mask = c->special_mask, .read_isr = c->read_isr, .poll = c->poll,
		};
	}
}

static void give(struct device *d, const struct irq_chips *chips)
{
	struct i8259 *p = of(d);

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < CHIPS; i++) {
		const struct state_i8259 *s = &chips->i8259[i];
		struct i8259_chip *c = &p->chip[i];
		*c = (struct i8259_chip){
			.lines = s->lines, .edge = s->edge & s->lines, .imr = s->imr, .isr = s->isr, .elcr = s->elcr & elcr_writable[i],
			.base = s->base & 0xf8, .icw3 = c->icw3, .icw4 = s->icw4, .next_icw = s->next_icw, .want_icw4 = s->want_icw4,
			.single = c->single, .lowest = s->lowest & 7, .rotate_aeoi = s->rotate_aeoi, .special_mask = s->special_mask,
			.read_isr = s->read_isr, .poll = s->poll,
		};
	}
	update(p);
	pthread_mutex_unlock(&d->lock);
}

static int i8259_init(struct device *d)
{
	static const struct bus_ops ops = { .read = i8259_read, .write = i8259_write, .max_size = 1 };
	struct irq *irq = &d->vm->irq;
	static const struct { uint16_t port; uint8_t offset; } ranges[] = {
		{ 0x20, 0 }, { 0xa0, 2 }, { 0x4d0, ELCR_OFFSET },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(ranges); i++) {
		int error = bus_add_at(d->vm, BUS_PORT, ranges[i].port, 2, &ops, d, ranges[i].offset);
		if (error)
			return error;
	}
	irq_movable(d->vm, IRQ_CHIP_I8259, d, take, give);
	irq->extint.device = d;
	irq->extint.acknowledge = i8259_acknowledge;
	if (!irq->controller) {
		irq->controller = &controller;
		irq->controller_device = d;
	}
	return 0;
}

static const struct field chip_fields[] = {
	FIELD_U8(struct i8259_chip, lines),
	FIELD_U8(struct i8259_chip, edge),
	FIELD_U8(struct i8259_chip, imr),
	FIELD_U8(struct i8259_chip, isr),
	FIELD_U8(struct i8259_chip, elcr),
	FIELD_U8(struct i8259_chip, base),
	FIELD_U8(struct i8259_chip, icw3),
	FIELD_U8(struct i8259_chip, icw4),
	FIELD_U8(struct i8259_chip, next_icw),
	FIELD_BOOL(struct i8259_chip, want_icw4),
	FIELD_BOOL(struct i8259_chip, single),
	FIELD_U8(struct i8259_chip, lowest),
	FIELD_BOOL(struct i8259_chip, rotate_aeoi),
	FIELD_BOOL(struct i8259_chip, special_mask),
	FIELD_BOOL(struct i8259_chip, read_isr),
	FIELD_BOOL(struct i8259_chip, poll),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct i8259, chip, chip_fields, struct i8259_chip),
	FIELD_END,
};

const struct device_class i8259_class = {
	.name = "i8259", .summary = "pair of 8259A interrupt controllers", .size = sizeof(struct i8259),
	.init = i8259_init,
	.reset = i8259_reset, .fields = fields, .version = 1, .post_load = i8259_post_load,
};
DEVICE_CLASS(i8259_class);
