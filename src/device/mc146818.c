/* SPDX-License-Identifier: MIT */
/* MC146818A real-time clock with 128 bytes of CMOS RAM, after the Motorola datasheet (1984) and, for what a PC keeps
 * where, the IBM AT technical reference.
 *
 * The time is not counted: it is the wall clock (clock_wall) plus what the guest set it apart by, written out into
 * the registers when they are looked at. While the guest holds it (SET, or the divider in reset) the registers are
 * plain memory. A timer makes the update cycle at each full second, another the periodic interrupt when it is
 * enabled. Not modelled: daylight saving (DSE), the square wave, and the NMI that port 70h bit 7 masks: nothing
 * raises it. */
#include "device/mc146818.h"
#include <errno.h>
#include <string.h>
#include "device/chips.h"
#include "device/ticks.h"

struct mc146818 {
	struct device device;
	struct mc146818_regs r;
	struct {
		struct irq_pin pin;
		struct timer update, periodic;
		struct ticks ticks; /* periodic ones that were due and not shown */
	} host;
};

static struct mc146818 *of(struct device *d)
{
	return container_of(d, struct mc146818, device);
}

/* Datasheet, table 5: the update cycle takes 1984 us at 32.768 kHz; UIP is set 244 us before. */
#define UIP_NS (244000 + 1984000)
/* Nobody can take periodic interrupts faster than 8192 a second; that is also the fastest that there is. */
#define CRYSTAL_HZ 32768

static bool held(const struct mc146818 *c)
{
	return (c->r.cmos[RTC_B] & RTC_B_SET) || (c->r.cmos[RTC_A] & RTC_A_DV_RESET) == RTC_A_DV_RESET;
}

/* Seconds since 1970 as this clock counts them, and ns into the second. */
static int64_t seconds_now(const struct mc146818 *c, uint32_t *phase)
{
	int64_t ns = clock_wall(c->device.vm) + c->r.phase;
	int64_t seconds = ns / RTC_NS - (ns % RTC_NS < 0);
	if (phase)
		*phase = ns - seconds * RTC_NS;
	return seconds + c->r.offset;
}

static void refresh(struct mc146818 *c)
{
	if (!held(c))
		mc146818_from_seconds(&c->r, seconds_now(c, NULL));
}

static bool irqf(const struct mc146818 *c)
{
	return c->r.flags & c->r.cmos[RTC_B] & RTC_INTERRUPTS;
}

static void update_irq(struct mc146818 *c)
{
	irq_set(&c->host.pin, irqf(c));
}

/* How many periodic ticks of the present rate there were since virtual time 0; 0 when there are none. */
static uint64_t periodic_ticks(const struct mc146818 *c)
{
	unsigned pulses = mc146818_period(c->r.cmos[RTC_A]);
	return pulses ? (uint64_t)((unsigned __int128)clock_now(c->device.vm) * CRYSTAL_HZ / RTC_NS) / pulses : 0;
}

static uint64_t period_ns(const struct mc146818 *c)
{
	return mc146818_period(c->r.cmos[RTC_A]) * RTC_NS / CRYSTAL_HZ;
}

/* With PF set the guest has not read register C since the last one. */
static void show_periodic(struct mc146818 *c, uint64_t due)
{
	bool enabled = c->r.cmos[RTC_B] & RTC_B_PIE;
	enum irq_request request = enabled ? irq_request(&c->host.pin) : IRQ_UNHEARD;
	if (request != IRQ_UNHEARD)
		request = c->r.flags & RTC_PF ? IRQ_WAITS : IRQ_TAKEN;
	if (ticks_show(&c->host.ticks, c->device.vm, due, period_ns(c), request))
		c->r.flags |= RTC_PF;
}

/* PF is set by each tick, enabled or not: found out when somebody looks. */
static void sync_periodic(struct mc146818 *c)
{
	uint64_t ticks = periodic_ticks(c), due = ticks - c->r.ticks;
	c->r.ticks = ticks;
	if (due)
		show_periodic(c, due);
}

static void schedule_periodic(struct mc146818 *c)
{
	unsigned pulses = mc146818_period(c->r.cmos[RTC_A]);
	uint64_t deadline = TIMER_OFF;
	if (pulses && (c->r.cmos[RTC_B] & RTC_B_PIE)) {
		unsigned __int128 at = (unsigned __int128)(c->r.ticks + 1) * pulses * RTC_NS;
		deadline = (at + CRYSTAL_HZ - 1) / CRYSTAL_HZ;
		if (c->host.ticks.owed && !(c->r.flags & RTC_PF) && deadline - period_ns(c) / 2 > clock_now(c->device.vm))
			deadline -= period_ns(c) / 2;
	}
	timer_arm(&c->host.periodic, deadline);
}

static void periodic_fired(struct device *d, void *arg)
{
	struct mc146818 *c = of(d);
	if (periodic_ticks(c) != c->r.ticks)
		sync_periodic(c);
	else
		show_periodic(c, 0);
	schedule_periodic(c);
	update_irq(c);
}

static uint32_t to_next_second(const struct mc146818 *c)
{
	uint32_t phase;
	seconds_now(c, &phase);
	return RTC_NS - phase;
}

static void schedule_update(struct mc146818 *c)
{
	timer_arm(&c->host.update, held(c) ? TIMER_OFF : clock_now(c->device.vm) + to_next_second(c));
}

/* The end of an update cycle. An alarm byte from C0h up matches everything. */
static void update_fired(struct device *d, void *arg)
{
	struct mc146818 *c = of(d);
	static const uint8_t pairs[][2] = {
		{ RTC_SECONDS, RTC_SECONDS_ALARM }, { RTC_MINUTES, RTC_MINUTES_ALARM }, { RTC_HOURS, RTC_HOURS_ALARM },
	};
	bool alarm = true;
	refresh(c);
	for (unsigned i = 0; i < ARRAY_SIZE(pairs); i++) {
		uint8_t wanted = c->r.cmos[pairs[i][1]];
		alarm &= wanted >= RTC_ALARM_ANY || wanted == c->r.cmos[pairs[i][0]];
	}
	c->r.flags |= RTC_UF | (alarm ? RTC_AF : 0);
	schedule_update(c);
	update_irq(c);
}

/* Takes the time from the registers, with this many ns gone of the second. */
static void set_time(struct mc146818 *c, uint32_t phase)
{
	uint32_t present;
	seconds_now(c, &present);
	c->r.phase = (c->r.phase + RTC_NS + phase - present) % RTC_NS;
	c->r.offset = 0;
	c->r.offset = mc146818_to_seconds(&c->r) - seconds_now(c, NULL);
}

/* A or B changed: the clock was stopped, or goes on from the registers. The divider runs on while SET holds the
 * registers, and takes half a second to the first update when it comes out of reset. */
static void write_control(struct mc146818 *c, unsigned index, uint8_t value)
{
	refresh(c);
	sync_periodic(c);
	bool was_held = held(c), was_reset = (c->r.cmos[RTC_A] & RTC_A_DV_RESET) == RTC_A_DV_RESET;
	uint32_t phase = RTC_NS - to_next_second(c);
	if (index == RTC_A) {
		c->r.cmos[RTC_A] = value & ~RTC_A_UIP;
	} else {
		if (value & RTC_B_SET)
			value &= ~RTC_B_UIE;
		c->r.cmos[RTC_B] = value;
	}
	if (was_reset && (c->r.cmos[RTC_A] & RTC_A_DV_RESET) != RTC_A_DV_RESET)
		phase = RTC_NS / 2;
	if (was_held)
		set_time(c, phase);
	c->r.ticks = periodic_ticks(c);
	c->host.ticks.owed = 0;
	schedule_update(c);
	schedule_periodic(c);
	update_irq(c);
}

static void write_data(struct mc146818 *c, uint8_t value)
{
	unsigned index = c->r.index & RTC_INDEX;
	switch (index) {
	case RTC_A:
	case RTC_B:
		write_control(c, index, value);
		return;
	case RTC_C:
	case RTC_D:
		return; /* read only */
	}
	bool is_time = mc146818_is_time(index);
	if (is_time)
		refresh(c);
	c->r.cmos[index] = value;
	if (is_time && !held(c)) {
		set_time(c, RTC_NS - to_next_second(c));
		schedule_update(c);
	}
}

static uint8_t read_c(struct mc146818 *c)
{
	sync_periodic(c);
	uint8_t value = c->r.flags | (irqf(c) ? RTC_C_IRQF : 0);
	c->r.flags = 0;
	update_irq(c);
	if (c->host.ticks.owed)
		schedule_periodic(c);
	return value;
}

static uint8_t read_data(struct mc146818 *c)
{
	unsigned index = c->r.index & RTC_INDEX;
	switch (index) {
	case RTC_A:
		return c->r.cmos[RTC_A] | (!held(c) && to_next_second(c) <= UIP_NS ? RTC_A_UIP : 0);
	case RTC_C:
		return read_c(c);
	case RTC_D:
		return RTC_D_VRT;
	}
	if (mc146818_is_time(index))
		refresh(c);
	return c->r.cmos[index];
}

static uint64_t mc146818_read(struct device *d, uint64_t offset, unsigned size)
{
	return offset ? read_data(of(d)) : 0xff; /* the index cannot be read on a PC */
}

static void mc146818_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct mc146818 *c = of(d);
	if (offset)
		write_data(c, value);
	else
		c->r.index = value;
}

/* The RESET pin: interrupts are disabled and forgotten; time and RAM are on the battery. */
static void mc146818_reset(struct device *d, enum reset_kind kind)
{
	struct mc146818 *c = of(d);
	c->r.cmos[RTC_B] &= ~(RTC_INTERRUPTS | RTC_B_SQWE);
	c->r.flags = 0;
	c->r.index = 0;
	c->r.ticks = periodic_ticks(c);
	c->host.ticks.owed = 0;
	schedule_update(c);
	schedule_periodic(c);
	update_irq(c);
}

static int mc146818_post_load(struct device *d, uint32_t version)
{
	struct mc146818 *c = of(d);
	c->r.cmos[RTC_A] &= ~RTC_A_UIP;
	c->r.flags &= RTC_INTERRUPTS;
	if (c->r.weekday_shift > 6 || c->r.phase >= RTC_NS || c->r.offset > RTC_MAX_OFFSET ||
		c->r.offset < -RTC_MAX_OFFSET)
		return -EINVAL;
	sync_periodic(c);
	c->host.ticks.owed = 0;
	schedule_update(c);
	schedule_periodic(c);
	irq_pin_restore(&c->host.pin, irqf(c));
	return 0;
}

static int mc146818_init(struct device *d)
{
	static const struct bus_ops ops = { .read = mc146818_read, .write = mc146818_write, .max_size = 1 };
	struct mc146818 *c = of(d);
	irq_pin_init(&c->host.pin, d->vm, d->place->irq);
	timer_init(&c->host.update, d, "rtc update", update_fired, NULL);
	timer_init(&c->host.periodic, d, "rtc periodic", periodic_fired, NULL);
	mc146818_setup(&c->r, &d->vm->config, d->place->config);
	return bus_add(d->vm, BUS_PORT, d->place->base, 2, &ops, d);
}

static void mc146818_fini(struct device *d)
{
	timer_cancel(&of(d)->host.update);
	timer_cancel(&of(d)->host.periodic);
}

static const struct field regs_fields[] = {
	FIELD_U8(struct mc146818_regs, cmos),
	FIELD_U8(struct mc146818_regs, index),
	FIELD_U8(struct mc146818_regs, flags),
	FIELD_U8(struct mc146818_regs, weekday_shift),
	FIELD_U64(struct mc146818_regs, offset),
	FIELD_U32(struct mc146818_regs, phase),
	FIELD_U64(struct mc146818_regs, ticks),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct mc146818, r, regs_fields, struct mc146818_regs),
	FIELD_END,
};

const struct device_class mc146818_class = {
	.name = "mc146818", .summary = "MC146818 real-time clock and CMOS RAM", .size = sizeof(struct mc146818),
	.init = mc146818_init, .reset = mc146818_reset, .fini = mc146818_fini, .fields = fields, .version = 1,
	.post_load = mc146818_post_load,
};
DEVICE_CLASS(mc146818_class);
