/* SPDX-License-Identifier: MIT */
/* Local APIC timer: one-shot, periodic and TSC-deadline, after the Intel SDM 3A, section 10.5.4. The count runs at
 * 1 GHz (what CPUID leaves 15h and 40000010h say), so a count is a nanosecond times the divisor, and nothing is
 * rounded. */
#include "device/lapic.h"

/* A period shorter than this cannot be taken by any guest; the interrupts between are run together. */
#define MIN_PERIOD_NS 10000

/* Bits 3, 1 and 0 of the divide configuration register: 2, 4, ... 128, 1 (figure 10-10). */
unsigned lapic_divisor(const struct lapic_cpu *c)
{
	unsigned n = (c->divide & 3) | (c->divide >> 1 & 4);
	return 1u << ((n + 1) & 7);
}

unsigned lapic_timer_mode(const struct lapic_cpu *c)
{
	return c->lvt[LVT_TIMER] >> LVT_TIMER_SHIFT & 3;
}

static uint64_t period(const struct lapic_cpu *c)
{
	return (uint64_t)c->initial_count * lapic_divisor(c);
}

static void arm(struct lapic *p, unsigned cpu, uint64_t at)
{
	p->cpu[cpu].timer_at = at;
	timer_arm(&p->host.timer[cpu], at);
}

/* When the count will be 0 next. The start may be any number (it came from a stream), so only differences are taken. */
void lapic_timer_schedule(struct lapic *p, unsigned cpu, uint64_t now)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	uint64_t gone = now - c->timer_start, length = period(c), wait;
	p->host.since[cpu] = now;
	if (!c->counting || !length) {
		arm(p, cpu, TIMER_OFF);
	} else if (lapic_timer_mode(c) == TIMER_PERIODIC) {
		wait = (gone + MAX(length, MIN_PERIOD_NS)) / length * length - gone;
		arm(p, cpu, now + wait - (p->host.ticks[cpu].owed && wait > length / 2 ? length / 2 : 0));
	} else {
		arm(p, cpu, gone < length ? now + length - gone : now);
	}
}

static bool fired_periodic(struct lapic *p, unsigned cpu)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	uint64_t now = clock_now(p->device.vm), length = MAX(period(c), 1u);
	uint64_t due = (now - c->timer_start) / length - (p->host.since[cpu] - c->timer_start) / length;
	bool show = ticks_show(&p->host.ticks[cpu], p->device.vm, due, length, lapic_timer_request(c));

	lapic_timer_schedule(p, cpu, now);
	return show;
}

static void fired(struct device *d, void *arg)
{
	struct lapic *p = lapic_of(d);
	unsigned cpu = (uintptr_t)arg;
	struct lapic_cpu *c = &p->cpu[cpu];
	unsigned mode = lapic_timer_mode(c);
	if (c->timer_at == TIMER_OFF) /* it was settled meanwhile */
		return;
	c->timer_at = TIMER_OFF;
	if (mode == TIMER_PERIODIC && !fired_periodic(p, cpu))
		return;
	if (mode == TIMER_TSC_DEADLINE)
		c->tsc_deadline = 0;
	else if (mode == TIMER_ONE_SHOT)
		c->counting = false;
	lapic_local(p, cpu, LVT_TIMER);
}

void lapic_timer_settle(struct lapic *p, unsigned cpu)
{
	timer_cancel(&p->host.timer[cpu]);
	if (p->cpu[cpu].timer_at <= clock_now(p->device.vm))
		fired(&p->device, (void *)(uintptr_t)cpu);
	timer_cancel(&p->host.timer[cpu]); /* the next period's */
}

void lapic_timer_init(struct lapic *p, unsigned cpu)
{
	timer_init(&p->host.timer[cpu], &p->device, "lapic", fired, (void *)(uintptr_t)cpu);
}

uint32_t lapic_current_count(struct lapic *p, unsigned cpu)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	if (!c->counting || !c->initial_count)
		return 0;
	uint64_t ticks = (clock_now(p->device.vm) - c->timer_start) / lapic_divisor(c);
	if (lapic_timer_mode(c) == TIMER_PERIODIC)
		return c->initial_count - ticks % c->initial_count;
	return ticks < c->initial_count ? c->initial_count - ticks : 0;
}

void lapic_set_initial_count(struct lapic *p, unsigned cpu, uint32_t count)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	if (lapic_timer_mode(c) == TIMER_TSC_DEADLINE) /* 10.5.4.1: ignored */
		return;
	p->host.ticks[cpu].owed = 0;
	c->initial_count = count;
	c->counting = count != 0;
	c->timer_start = clock_now(p->device.vm);
	lapic_timer_schedule(p, cpu, c->timer_start);
}

/* The count stays, and goes on at the new rate. */
void lapic_set_divide(struct lapic *p, unsigned cpu, uint32_t divide)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	uint64_t now = clock_now(p->device.vm), ticks = (now - c->timer_start) / lapic_divisor(c);
	c->divide = divide;
	if (lapic_timer_mode(c) == TIMER_TSC_DEADLINE)
		return;
	c->timer_start = now - ticks * lapic_divisor(c);
	lapic_timer_schedule(p, cpu, now);
}

void lapic_set_deadline(struct lapic *p, unsigned cpu, uint64_t tsc)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	struct vm *vm = p->device.vm;
	uint64_t offset = vm->vcpu[cpu]->core.cpu.tsc_offset;
	if (lapic_timer_mode(c) != TIMER_TSC_DEADLINE)
		return;
	c->tsc_deadline = tsc;
	if (!tsc)
		arm(p, cpu, TIMER_OFF);
	else if (tsc <= clock_tsc(vm) + offset)
		arm(p, cpu, clock_now(vm));
	else
		arm(p, cpu, clock_tsc_to_ns(vm, tsc - offset));
}

/* 10.5.4.1: a change to or from TSC-deadline mode disarms; one-shot and periodic share the count. */
void lapic_timer_mode_changed(struct lapic *p, unsigned cpu, unsigned before)
{
	unsigned mode = lapic_timer_mode(&p->cpu[cpu]);
	if (mode == before)
		return;
	p->host.ticks[cpu].owed = 0;
	if (mode == TIMER_TSC_DEADLINE || before == TIMER_TSC_DEADLINE)
		lapic_timer_stop(p, cpu);
	else
		lapic_timer_schedule(p, cpu, clock_now(p->device.vm));
}

void lapic_timer_stop(struct lapic *p, unsigned cpu)
{
	p->cpu[cpu].counting = false;
	p->cpu[cpu].tsc_deadline = 0;
	p->host.ticks[cpu].owed = 0;
	arm(p, cpu, TIMER_OFF);
}

void lapic_timer_restore(struct lapic *p, unsigned cpu)
{
	p->host.ticks[cpu].owed = 0;
	p->host.since[cpu] = p->cpu[cpu].timer_at - 1; /* the next one counts as one */
	timer_arm(&p->host.timer[cpu], p->cpu[cpu].timer_at);
}
