/* SPDX-License-Identifier: MIT */
/* Local APIC: acceptance, priority and end of interrupts, after the Intel SDM 3A, sections 10.5.3 and 10.8. */
#include "device/lapic.h"

#define FIRST_VECTOR 16 /* below: exceptions, not allowed */

static int highest(const uint32_t set[8])
{
	for (int i = 7; i >= 0; i--)
		if (set[i])
			return 32 * i + 31 - __builtin_clz(set[i]);
	return -1;
}

static bool test(const uint32_t set[8], uint8_t vector)
{
	return set[vector >> 5] >> (vector & 31) & 1;
}

static void assign(uint32_t set[8], uint8_t vector, bool value)
{
	uint32_t bit = 1u << (vector & 31);
	set[vector >> 5] = value ? set[vector >> 5] | bit : set[vector >> 5] & ~bit;
}

/* 10.8.3.1 */
uint32_t lapic_ppr(const struct lapic_cpu *c)
{
	int in_service = highest(c->isr);
	uint32_t class = in_service < 0 ? 0 : in_service & 0xf0;
	return (c->tpr & 0xf0) >= class ? c->tpr : class;
}

/* The vector that the processor would take now, or -1. */
static int pending(const struct lapic_cpu *c)
{
	int vector = lapic_enabled(c) ? highest(c->irr) : -1;
	return vector >= 0 && (unsigned)vector >> 4 > lapic_ppr(c) >> 4 ? vector : -1;
}

static unsigned delivery(uint32_t lvt)
{
	return lvt >> LVT_DELIVERY_SHIFT & 7;
}

/* The 8259 asks, and this processor listens: through LINT0, by a message of the IOAPIC, or because its APIC is
 * switched off and the pin is INTR (10.4.3; INTR is the boot processor's). */
static bool extint_pending(const struct lapic *p, unsigned cpu)
{
	const struct lapic_cpu *c = &p->cpu[cpu];
	uint32_t lint0 = c->lvt[LVT_LINT0];
	if (!atomic_load(&p->device.vm->irq.extint.level))
		return false;
	if (!lapic_enabled(c))
		return cpu == 0;
	return c->extint || (!(lint0 & LVT_MASKED) && delivery(lint0) == DELIVER_EXTINT);
}

void lapic_update(struct lapic *p, unsigned cpu)
{
	struct vcpu **vcpu = p->device.vm->vcpu;
	bool wanted = pending(&p->cpu[cpu]) >= 0 || extint_pending(p, cpu);
	if (wanted == p->host.told[cpu] || !vcpu || !vcpu[cpu])
		return;
	p->host.told[cpu] = wanted;
	vcpu_interrupt(vcpu[cpu], wanted);
}

void lapic_accept(struct lapic *p, unsigned cpu, uint8_t vector, bool level)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	if (!lapic_enabled(c) || !(c->svr & SVR_ENABLED))
		return;
	if (vector < FIRST_VECTOR) {
		lapic_error(p, cpu, ESR_RECEIVE_ILLEGAL_VECTOR);
		return;
	}
	assign(c->irr, vector, true);
	assign(c->tmr, vector, level);
	lapic_update(p, cpu);
}

void lapic_local(struct lapic *p, unsigned cpu, enum lapic_lvt which)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	struct vcpu **vcpu = p->device.vm->vcpu;
	uint32_t lvt = c->lvt[which];
	if (!lapic_enabled(c) || (lvt & LVT_MASKED))
		return;
	if (delivery(lvt) == DELIVER_FIXED)
		lapic_accept(p, cpu, lvt & LVT_VECTOR, false);
	else if (delivery(lvt) == DELIVER_NMI && vcpu && vcpu[cpu])
		vcpu_nmi(vcpu[cpu]);
}

/* 10.5.3: an error that is new since the last write of ESR interrupts. */
void lapic_error(struct lapic *p, unsigned cpu, uint32_t bit)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	if (c->errors & bit)
		return;
	c->errors |= bit;
	lapic_local(p, cpu, LVT_ERROR);
}

int lapic_eoi(struct lapic *p, unsigned cpu)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	int vector = highest(c->isr);
	if (vector < 0)
		return -1;
	assign(c->isr, vector, false);
	lapic_update(p, cpu);
	return test(c->tmr, vector) && !(c->svr & SVR_NO_BROADCAST) ? vector : -1;
}

/* As ExtINT the level is what counts; as fixed or NMI input, the edge. */
void lapic_lint0(struct lapic *p)
{
	bool level = atomic_load(&p->device.vm->irq.extint.level);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++) {
		if (level)
			lapic_local(p, cpu, LVT_LINT0);
		lapic_update(p, cpu);
	}
}

enum irq_request lapic_timer_request(const struct lapic_cpu *c)
{
	uint32_t lvt = c->lvt[LVT_TIMER];

	if (!lapic_enabled(c) || !(c->svr & SVR_ENABLED) || (lvt & LVT_MASKED))
		return IRQ_UNHEARD;
	return delivery(lvt) == DELIVER_FIXED && test(c->irr, lvt & LVT_VECTOR) ? IRQ_WAITS : IRQ_TAKEN;
}

bool lapic_requested(struct device *d, uint8_t vector)
{
	struct lapic *p = lapic_of(d);
	bool waits = false;

	pthread_mutex_lock(&d->lock);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		waits |= test(p->cpu[cpu].irr, vector);
	pthread_mutex_unlock(&d->lock);
	return waits;
}

/* ExtINT has no priority here; the 8259 goes first, so that a stream of vectors cannot starve it. */
int lapic_acknowledge(struct device *d, struct vcpu *vcpu)
{
	struct lapic *p = lapic_of(d);
	unsigned cpu = vcpu->index;
	struct lapic_cpu *c = &p->cpu[cpu];
	int vector;

	pthread_mutex_lock(&d->lock);
	if (extint_pending(p, cpu)) {
		c->extint = false;
		pthread_mutex_unlock(&d->lock);
		vector = d->vm->irq.extint.acknowledge(d->vm->irq.extint.device);
		pthread_mutex_lock(&d->lock);
	} else {
		vector = pending(c);
		if (vector >= 0) {
			assign(c->irr, vector, false);
			assign(c->isr, vector, true);
		}
	}
	lapic_update(p, cpu);
	pthread_mutex_unlock(&d->lock);
	return vector;
}
