/* SPDX-License-Identifier: MIT */
/* The local APICs' state on its way to whoever runs them elsewhere, and back: as the register page that programs see, SDM 3A 10.4.1. */
#include "device/lapic.h"

#define ID_SHIFT 24

static void take_one(struct lapic *p, unsigned cpu, struct state_lapic *s)
{
	const struct lapic_cpu *c = &p->cpu[cpu];
	uint64_t value;

	lapic_timer_settle(p, cpu);
	*s = (struct state_lapic){ .base = c->base, .tsc_deadline = c->tsc_deadline };
	for (unsigned reg = 0; reg < ARRAY_SIZE(s->reg); reg++)
		if (lapic_read_reg(p, cpu, reg, &value))
			s->reg[reg] = (uint32_t)value;
	s->reg[APIC_ID] = cpu << ID_SHIFT;
	s->reg[APIC_ICR_HIGH] = (uint32_t)(c->icr >> 32);
	p->cpu[cpu].timer_at = TIMER_OFF;
}

void lapic_take(struct device *d, struct irq_chips *chips)
{
	struct lapic *p = lapic_of(d);

	pthread_mutex_lock(&d->lock);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++) {
		take_one(p, cpu, &chips->lapic[cpu]);
		p->host.told[cpu] = false;
	}
	pthread_mutex_unlock(&d->lock);
}

static void give_one(struct lapic *p, unsigned cpu, const struct state_lapic *s)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	uint64_t now = clock_now(p->device.vm);

	c->base = s->base;
	c->icr = (uint64_t)s->reg[APIC_ICR_HIGH] << 32 | s->reg[APIC_ICR];
	for (unsigned n = 0; n < 8; n++) {
		c->irr[n] = s->reg[APIC_IRR + n];
		c->isr[n] = s->reg[APIC_ISR + n];
		c->tmr[n] = s->reg[APIC_TMR + n];
	}
	c->tpr = s->reg[APIC_TPR];
	c->ldr = s->reg[APIC_LDR];
	c->dfr = s->reg[APIC_DFR];
	c->svr = s->reg[APIC_SVR];
	c->esr = s->reg[APIC_ESR];
	c->errors = 0;
	c->extint = false;
	for (unsigned n = 0; n < LVT_COUNT; n++)
		c->lvt[n] = s->reg[APIC_LVT + n];
	c->divide = s->reg[APIC_DIVIDE];
	lapic_cpu_valid(c);
	c->timer_at = TIMER_OFF;
	c->tsc_deadline = 0;
	c->initial_count = s->reg[APIC_INITIAL_COUNT];
	c->counting = s->reg[APIC_CURRENT_COUNT] != 0;
	c->timer_start = now - (uint64_t)(c->initial_count - MIN(s->reg[APIC_CURRENT_COUNT], c->initial_count)) * lapic_divisor(c);
	if (lapic_timer_mode(c) == TIMER_TSC_DEADLINE)
		lapic_set_deadline(p, cpu, s->tsc_deadline);
	else
		lapic_timer_schedule(p, cpu, now);
}

void lapic_give(struct device *d, const struct irq_chips *chips)
{
	struct lapic *p = lapic_of(d);

	pthread_mutex_lock(&d->lock);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		give_one(p, cpu, &chips->lapic[cpu]);
	lapic_place(p);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		lapic_update(p, cpu);
	pthread_mutex_unlock(&d->lock);
}
