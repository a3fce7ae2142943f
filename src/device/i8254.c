/* SPDX-License-Identifier: MIT */
/* 8254 programmable interval timer, after the Intel 8254 datasheet (order number 231164), and port 61h of a PC,
 * through which counter 2's gate and output, the speaker and the refresh toggle (counter 1) are reached.
 *
 * Nothing counts. A counter remembers the CLK pulse at which it was loaded, and everything that a program can see
 * (count, OUT) follows from how many pulses have passed; i8254_count.c has the arithmetic of the six modes. Pulses
 * are numbered from virtual time 0, so that rounding never adds up. Only counter 0, which drives IRQ 0, has a
 * timer, for the edges of OUT. */
#include "device/i8254.h"
#include <errno.h>
#include <string.h>
#include "device/chips.h"
#include "device/ticks.h"

enum { CONTROL = 3, PORTS = 4 };
#define PORT_61 0x61
#define OFFSET_61 PORTS

/* Control word: SC in bits 7:6, RW 5:4, mode 3:1, BCD 0 */
#define CONTROL_BCD 0x01u
#define CONTROL_READ_BACK 3
#define READ_BACK_NO_COUNT 0x20u
#define READ_BACK_NO_STATUS 0x10u
#define STATUS_OUT 0x80u
#define STATUS_NULL_COUNT 0x40u

/* Port 61h */
#define P61_GATE2 0x01u
#define P61_SPEAKER 0x02u
#define P61_WRITABLE 0x0fu /* with the two enables of NMI sources that never fire */
#define P61_REFRESH 0x10u
#define P61_OUT2 0x20u
#define REFRESH_PULSES 18 /* CLK pulses from one refresh to the next: 15 us */

/* Edges of IRQ 0 closer than this (10 us) are left out: no guest could take that many interrupts, and the host
 * need not try. */
#define MIN_PULSES (I8254_HZ / 100000)

struct i8254 {
	struct device device;
	struct i8254_counter counter[I8254_COUNTERS];
	uint8_t port61; /* bits 3:0, read/write */
	struct {
		struct irq_pin pin;
		struct timer timer;
		uint64_t due;       /* CLK pulse of the next edge of IRQ 0, I8254_NEVER */
		struct ticks ticks; /* edges that were due and are not shown yet */
	} host;
};

static struct i8254 *of(struct device *d)
{
	return container_of(d, struct i8254, device);
}

static uint64_t pulse_now(struct i8254 *p)
{
	return i8254_ns_to_pulse(clock_now(p->device.vm));
}

/* IRQ 0 follows counter 0's OUT in modes 0 and 1. In the others only the rising edges are shown, each when it is
 * due; the low phases, which the 8259 can tell only by a request that was not acknowledged for so long, are not. */
static bool pin_level(struct i8254 *p, uint64_t pulse)
{
	return p->counter[0].mode >= 2 || i8254_out(&p->counter[0], pulse);
}

static void schedule(struct i8254 *p, uint64_t pulse)
{
	uint64_t next = p->host.due = i8254_next_edge(&p->counter[0], pulse, MIN_PULSES);
	if (p->host.ticks.owed && next - p->counter[0].count / 2 > pulse)
		next -= p->counter[0].count / 2;
	timer_arm(&p->host.timer, next == I8254_NEVER ? TIMER_OFF : i8254_pulse_to_ns(next));
}

static void fired(struct device *d, void *arg)
{
	struct i8254 *p = of(d);
	struct i8254_counter *c = &p->counter[0];
	uint64_t pulse = pulse_now(p), due = pulse >= p->host.due;
	bool show = due;
	i8254_sync(c, pulse);
	if (i8254_periodic(c) && c->count) {
		due += due ? (pulse - p->host.due) / c->count : 0;
		show = ticks_show(&p->host.ticks, d->vm, due, i8254_pulse_to_ns(c->count), irq_request(&p->host.pin));
	}
	if (show) {
		irq_lower(&p->host.pin);
		irq_set(&p->host.pin, pin_level(p, pulse));
	}
	schedule(p, pulse);
}

/* After counter 0 was written. */
static void changed(struct i8254 *p, unsigned n, uint64_t pulse)
{
	if (n)
		return;
	p->host.ticks.owed = 0;
	irq_set(&p->host.pin, pin_level(p, pulse));
	schedule(p, pulse);
}

static void latch_count(struct i8254_counter *c, uint64_t pulse)
{
	if (c->latched) /* the first one stands until it is read */
		return;
	c->latch = i8254_count(c, pulse);
	c->latched = c->rw == I8254_RW_BOTH ? 2 : 1;
}

static void latch_status(struct i8254_counter *c, uint64_t pulse)
{
	if (c->status_latched)
		return;
	c->status = (i8254_out(c, pulse) ? STATUS_OUT : 0) | (c->null_count ? STATUS_NULL_COUNT : 0);
	c->status |= c->rw << 4 | c->mode << 1 | c->bcd;
	c->status_latched = true;
}

static void write_control(struct i8254 *p, uint8_t value)
{
	uint64_t pulse = pulse_now(p);
	unsigned n = value >> 6, rw = value >> 4 & 3;
	for (unsigned i = 0; i < I8254_COUNTERS; i++)
		i8254_sync(&p->counter[i], pulse);
	if (n == CONTROL_READ_BACK) {
		for (unsigned i = 0; i < I8254_COUNTERS; i++) {
			if (!(value & 2u << i))
				continue;
			if (!(value & READ_BACK_NO_COUNT))
				latch_count(&p->counter[i], pulse);
			if (!(value & READ_BACK_NO_STATUS))
				latch_status(&p->counter[i], pulse);
		}
		return;
	}
	if (!rw) {
		latch_count(&p->counter[n], pulse);
		return;
	}
	i8254_program(&p->counter[n], value >> 1 & 7, rw, value & CONTROL_BCD, pulse);
	changed(p, n, pulse);
}

static void write_count(struct i8254 *p, unsigned n, uint8_t value)
{
	struct i8254_counter *c = &p->counter[n];
	uint64_t pulse = pulse_now(p);
	i8254_sync(c, pulse);
	if (c->rw == I8254_RW_BOTH && !c->write_high) {
		c->write_low = value;
		c->write_high = true;
		i8254_first_byte(c, pulse);
	} else {
		uint16_t count = c->rw == I8254_RW_LOW ? value : value << 8;
		if (c->rw == I8254_RW_BOTH)
			count |= c->write_low;
		c->write_high = false;
		i8254_load(c, count, pulse);
	}
	changed(p, n, pulse);
}

/* Latched status first, then the latched count, then the count as it runs. */
static uint8_t read_count(struct i8254 *p, unsigned n)
{
	struct i8254_counter *c = &p->counter[n];
	uint64_t pulse = pulse_now(p);
	i8254_sync(c, pulse);
	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	bool latched = c->latched;
	uint16_t count = latched ? c->latch : i8254_count(c, pulse);
	if (latched)
		c->latched--;
	if (c->rw == I8254_RW_LOW)
		return count;
	if (c->rw == I8254_RW_HIGH)
		return count >> 8;
	c->read_high = !c->read_high;
	return c->read_high ? count : count >> 8;
}

static uint8_t read_61(struct i8254 *p)
{
	uint64_t pulse = pulse_now(p);
	i8254_sync(&p->counter[2], pulse);
	uint8_t refresh = pulse / REFRESH_PULSES & 1 ? P61_REFRESH : 0;
	return p->port61 | refresh | (i8254_out(&p->counter[2], pulse) ? P61_OUT2 : 0);
}

static void write_61(struct i8254 *p, uint8_t value)
{
	uint64_t pulse = pulse_now(p);
	i8254_sync(&p->counter[2], pulse);
	i8254_gate(&p->counter[2], value & P61_GATE2, pulse);
	p->port61 = value & P61_WRITABLE;
}

static uint64_t i8254_read(struct device *d, uint64_t offset, unsigned size)
{
	struct i8254 *p = of(d);
	if (offset == OFFSET_61)
		return read_61(p);
	return offset == CONTROL ? 0xff : read_count(p, offset);
}

static void i8254_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8254 *p = of(d);
	if (offset == OFFSET_61)
		write_61(p, value);
	else if (offset == CONTROL)
		write_control(p, value);
	else
		write_count(p, offset, value);
}

/* The chip has no reset: undefined until a control word comes. We say mode 0 without a count, which is silent. */
static void i8254_reset(struct device *d, enum reset_kind kind)
{
	struct i8254 *p = of(d);
	memset(p->counter, 0, sizeof(p->counter));
	for (unsigned i = 0; i < I8254_COUNTERS; i++) {
		p->counter[i].rw = I8254_RW_BOTH;
		p->counter[i].gate = i != 2;
		p->counter[i].edge = I8254_NEVER;
	}
	p->port61 = 0;
	changed(p, 0, pulse_now(p));
}

static int i8254_post_load(struct device *d, uint32_t version)
{
	struct i8254 *p = of(d);
	uint64_t pulse = pulse_now(p);
	for (unsigned i = 0; i < I8254_COUNTERS; i++)
		if (!i8254_valid(&p->counter[i]))
			return -EINVAL;
	p->port61 &= P61_WRITABLE;
	irq_pin_restore(&p->host.pin, pin_level(p, pulse));
	p->host.ticks.owed = 0;
	schedule(p, pulse);
	return 0;
}

/* Who runs it elsewhere starts the counters anew: the phase within a period is lost. */
static void take(struct device *d, struct irq_chips *chips)
{
	struct i8254 *p = of(d);

	pthread_mutex_lock(&d->lock);
	timer_cancel(&p->host.timer);
	for (unsigned i = 0; i < I8254_COUNTERS; i++) {
		struct i8254_counter *c = &p->counter[i];
		i8254_sync(c, pulse_now(p));
		chips->i8254.counter[i] = (struct state_i8254_counter){
			.reload = c->reload, .latch = c->latch, .mode = c->mode, .rw = c->null_count || c->reload ? c->rw : 0, .latched = c->latched, .status = c->status,
			.write_low = c->write_low, .bcd = c->bcd, .gate = c->gate, .status_latched = c->status_latched,
			.write_high = c->write_high, .read_high = c->read_high,
		};
	}
	chips->i8254.speaker = p->port61 & P61_SPEAKER;
	irq_lower(&p->host.pin);
	pthread_mutex_unlock(&d->lock);
}

static void give(struct device *d, const struct irq_chips *chips)
{
	struct i8254 *p = of(d);
	uint64_t pulse = pulse_now(p);

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < I8254_COUNTERS; i++) {
		const struct state_i8254_counter *s = &chips->i8254.counter[i];
		struct i8254_counter *c = &p->counter[i];
		i8254_program(c, s->mode, s->rw ? s->rw & 3 : I8254_RW_BOTH, s->bcd, pulse);
		c->null_count = s->rw;
		c->gate = s->gate;
		if (s->reload)
			i8254_load(c, (uint16_t)(s->bcd ? i8254_bcd(s->reload) : s->reload), pulse);
		c->latch = s->latch;
		c->latched = MIN(s->latched, 2);
		c->status = s->status;
		c->status_latched = s->status_latched;
		c->write_low = s->write_low;
		c->write_high = s->write_high;
		c->read_high = s->read_high;
	}
	p->port61 = (p->port61 & ~(P61_GATE2 | P61_SPEAKER)) | (p->counter[2].gate ? P61_GATE2 : 0) | (chips->i8254.speaker ? P61_SPEAKER : 0);
	changed(p, 0, pulse);
	pthread_mutex_unlock(&d->lock);
}

static int i8254_init(struct device *d)
{
	static const struct bus_ops ops = { .read = i8254_read, .write = i8254_write, .max_size = 1 };
	struct i8254 *p = of(d);
	irq_pin_init(&p->host.pin, d->vm, d->place->irq);
	timer_init(&p->host.timer, d, d->name, fired, NULL);
	irq_movable(d->vm, IRQ_CHIP_I8254, d, take, give);
	int error = bus_add(d->vm, BUS_PORT, d->place->base, PORTS, &ops, d);
	return error ? error : bus_add_at(d->vm, BUS_PORT, PORT_61, 1, &ops, d, OFFSET_61);
}

static void i8254_fini(struct device *d)
{
	timer_cancel(&of(d)->host.timer);
}

static const struct field fields[] = {
	FIELD_STRUCT(struct i8254, counter, i8254_counter_fields, struct i8254_counter),
	FIELD_U8(struct i8254, port61),
	FIELD_END,
};

const struct device_class i8254_class = {
	.name = "i8254", .summary = "8254 interval timer and port 61h", .size = sizeof(struct i8254),
	.init = i8254_init,
	.reset = i8254_reset, .fini = i8254_fini, .fields = fields, .version = 1, .post_load = i8254_post_load,
};
DEVICE_CLASS(i8254_class);
