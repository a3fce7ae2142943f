/* SPDX-License-Identifier: MIT */
/* Periodic ticks of the 8254, the MC146818 and the local APIC when the host was busy: what is owed comes later, at half the period, up to
 * TICKS_OWED, and the rest is dropped (device/ticks.h). The clock is the test's. */
#include "device/i8254.h"
#include "device/lapic.h"
#include "device/ticks.h"
#include "machine.h"

#define LAPIC 0xfee00000ULL
#define IOAPIC 0xfec00000ULL
static const struct lapic_config wire = { .virtual_wire = true };
static const struct ioapic_config ioapic_config = { .id = 1 };
static const struct device_place places[] = {
	{ .class = &i8259_class, .name = "pic", .irq = -1 },
	{ .class = &lapic_class, .name = "lapic", .base = LAPIC, .irq = -1, .config = &wire },
	{ .class = &ioapic_class, .name = "ioapic", .base = IOAPIC, .irq = -1, .config = &ioapic_config },
	{ .class = &i8254_class, .name = "pit", .base = 0x40, .irq = 0 },
	{ .class = &mc146818_class, .name = "rtc", .base = 0x70, .irq = 8 },
};
static struct vm *vm;
enum { PIC_VECTOR = 0x20, IOAPIC_VECTOR = 0x50, TIMER_VECTOR = 0x60 };

static void lapic_write(unsigned reg, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, LAPIC + reg * 16, 4, value);
}

static void ioapic_write(unsigned reg, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, reg);
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x10, 4, value);
}

static void pic_mask(uint8_t master, uint8_t slave)
{
	out8(vm, 0x21, master);
	out8(vm, 0xa1, slave);
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, ARRAY_SIZE(places));
	for (unsigned gsi = 0; gsi < 16; gsi += 8) {
		vm->irq.line[gsi].sinks = 0; /* the chips only, no sink that cannot tell */
		irq_connect(vm, gsi, device_find(vm, "pic"), i8259_set, gsi);
		irq_connect(vm, gsi, device_find(vm, "ioapic"), ioapic_set, gsi ? gsi : 2);
		irq_connect_request(vm, gsi, device_find(vm, "pic"), i8259_request);
		irq_connect_request(vm, gsi, device_find(vm, "ioapic"), ioapic_request);
	}
	for (unsigned chip = 0; chip < 2; chip++) {
		out8(vm, chip ? 0xa0 : 0x20, 0x11);
		out8(vm, chip ? 0xa1 : 0x21, PIC_VECTOR + 8 * chip);
		out8(vm, chip ? 0xa1 : 0x21, chip ? 2 : 4);
		out8(vm, chip ? 0xa1 : 0x21, 1);
	}
	pic_mask(0xff, 0xff);
	clock_step(vm, 10 * MICROSECOND);
}

/* What a guest's handler does for each source. */
static void end_pit(void)
{
	out8(vm, 0x20, 0x20);
}
static void end_rtc(void)
{
	out8(vm, 0x70, 0x0c);
	in8(vm, 0x71);
	out8(vm, 0xa0, 0x20);
	out8(vm, 0x20, 0x20);
}
static void end_apic(void)
{
	lapic_write(APIC_EOI, 0);
}

static void start_pit(void)
{
	out8(vm, 0x43, 0x34);
	out8(vm, 0x40, 1193 & 255);
	out8(vm, 0x40, 1193 >> 8);
	pic_mask(0xfe, 0xff);
}
static void start_pit_ioapic(void)
{
	start_pit();
	pic_mask(0xff, 0xff);
	lapic_write(APIC_SVR, 0x1ff);
	ioapic_write(0x11 + 4, 0);
	ioapic_write(0x10 + 4, IOAPIC_VECTOR);
}
static void start_rtc(void)
{
	out8(vm, 0x70, 0x0a), out8(vm, 0x71, 0x26);
	out8(vm, 0x70, 0x0b), out8(vm, 0x71, 0x42);
	out8(vm, 0x70, 0x0c), in8(vm, 0x71);
	pic_mask(0xfb, 0xfe);
}
static void start_lapic(void)
{
	lapic_write(APIC_SVR, 0x1ff);
	lapic_write(APIC_DIVIDE, 0xb);
	lapic_write(APIC_LVT, TIMER_VECTOR | TIMER_PERIODIC << LVT_TIMER_SHIFT);
	lapic_write(APIC_INITIAL_COUNT, 1000000);
}

static void mask_pit(void) { pic_mask(0xff, 0xff); }
static void mask_pit_ioapic(void) { ioapic_write(0x10 + 4, IOAPIC_VECTOR | 0x10000); }
static void mask_lapic(void) { lapic_write(APIC_LVT, TIMER_VECTOR | TIMER_PERIODIC << LVT_TIMER_SHIFT | LVT_MASKED); }
static void open_lapic(void) { lapic_write(APIC_LVT, TIMER_VECTOR | TIMER_PERIODIC << LVT_TIMER_SHIFT); }
static void open_pit(void) { pic_mask(0xfe, 0xff); }
static void open_pit_ioapic(void) { ioapic_write(0x10 + 4, IOAPIC_VECTOR); }
static void open_rtc(void) { pic_mask(0xfb, 0xfe); }

static const struct source {
	const char *name;
	void (*start)(void), (*end)(void), (*mask)(void), (*open)(void);
	int vector;
	uint64_t num, den; /* the period is num / den ns */
} sources[] = {
	{ "8254 by the 8259", start_pit, end_pit, mask_pit, open_pit, PIC_VECTOR, 1193 * SECOND, I8254_HZ },
	{ "8254 by the I/O APIC", start_pit_ioapic, end_apic, mask_pit_ioapic, open_pit_ioapic, IOAPIC_VECTOR, 1193 * SECOND, I8254_HZ },
	{ "MC146818", start_rtc, end_rtc, mask_pit, open_rtc, PIC_VECTOR + 8, SECOND, 1024 },
	{ "local APIC timer", start_lapic, end_apic, mask_lapic, open_lapic, TIMER_VECTOR, MILLISECOND, 1 },
};
static const struct source *s;
static uint64_t period;

static bool take(void)
{
	struct irq *irq = &vm->irq;
	int vector;

	if (!vm->vcpu[0] || (vector = irq->controller->acknowledge(irq->controller_device, vm->vcpu[0])) != s->vector)
		return false;
	s->end();
	return true;
}

/* For this many periods the guest takes what there is; returns how many it took. Looks often enough to see how close they are. */
static unsigned run(unsigned periods, uint64_t *closest)
{
	unsigned taken = 0;
	uint64_t last = 0;

	for (unsigned n = 0; n < 16 * periods; n++) {
		clock_step(vm, s->num * (n + 1) / (16 * s->den) - s->num * n / (16 * s->den));
		if (!take())
			continue;
		if (closest && last)
			*closest = MIN(*closest, clock_now(vm) - last);
		last = clock_now(vm);
		taken++;
	}
	return taken;
}

static void begin(const struct source *source)
{
	s = source;
	period = s->num / s->den;
	fresh();
	s->start();
	clock_step(vm, period / 4);
	take();
}

static void check(const struct source *source)
{
	uint64_t closest = UINT64_MAX;
	unsigned n;

	begin(source);
	n = run(1000, NULL);
	ok(n >= 999 && n <= 1001, "%s: as many ticks as periods (%u of 1000)", s->name, n);
	for (unsigned late = 0; late < 2; late++) {
		const char *how = late ? "the timer's thread was late" : "the guest did not run";
		begin(source);
		late ? clock_jump(vm, 100 * period) : clock_step(vm, 100 * period);
		n = take();
		ok(n == 1, "%s: %s: one tick waits", s->name, how);
		n += run(2, NULL); /* a late one may be close before the next */
		n += run(48, &closest);
		ok(n > 75 && n < 105, "%s: %s: not all at once (%u in 50 periods)", s->name, how, n);
		ok(closest > period * 3 / 8, "%s: %s: half a period apart (%lu of %lu ns)", s->name, how, closest, period);
		n += run(150, NULL);
		ok(n >= 298 && n <= 302, "%s: %s: none is lost (%u of 300)", s->name, how, n);
		begin(source);
		late ? clock_jump(vm, 100000 * period) : clock_step(vm, 2000 * period);
		n = take() + run(1000, NULL);
		ok(n >= 1000 + TICKS_OWED - 2 && n <= 1000 + TICKS_OWED + 2, "%s: %s: beyond %u they are dropped (%u in 1000)", s->name, how, TICKS_OWED,
		   n - 1000);
		n = run(1000, NULL);
		ok(n >= 999 && n <= 1001, "%s: %s: then it is in step again", s->name, how);
	}
	begin(source);
	s->mask();
	clock_step(vm, 100 * period);
	s->open();
	take(), take();
	n = run(100, NULL);
	ok(n >= 99 && n <= 101, "%s: masked ones are not owed (%u of 100)", s->name, n);
	begin(source);
	vm->clock.mode = CLOCK_INSTRUCTIONS;
	clock_step(vm, 100 * period);
	n = take() + run(100, NULL);
	vm->clock.mode = CLOCK_STEPPED;
	ok(n >= 100 && n <= 102, "%s: time that waits for the guest owes nothing (%u of 100)", s->name, n);
}

static void round_trip(void)
{
	begin(&sources[3]);
	clock_step(vm, 100 * period + period / 3);
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	ok(copy_state(one, two), "a debt does not disturb saved state");
	vm = two;
	unsigned n = take() + run(100, NULL);
	ok(n >= 100 && n <= 102, "and stays behind (%u of 100)", n);
	vm_destroy(two);
	vm = one;
}

int main(void)
{
	for (unsigned n = 0; n < ARRAY_SIZE(sources); n++)
		check(&sources[n]);
	round_trip();
	vm_destroy(vm);
	return done();
}
