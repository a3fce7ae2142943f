/* SPDX-License-Identifier: MIT */
/* Local APIC: the register file, in xAPIC and x2APIC form, after the Intel SDM 3A, sections 10.4 to 10.12. */
#include <string.h>
#include "device/lapic.h"

/* Version 14h with six LVT entries, and EOI-broadcast suppression. */
#define VERSION (0x14u | (LVT_COUNT - 1) << 16 | 1u << 24)

#define SVR_BITS (0xffu | SVR_ENABLED | SVR_NO_BROADCAST)
#define DFR_FIXED 0x0fffffffu
#define LDR_BITS 0xff000000u
#define DIVIDE_BITS 0x0bu
#define ICR_LOW_BITS 0x000ccfffu
#define LVT_READ_ONLY 0x5000u /* delivery status, remote IRR */
static const uint32_t lvt_bits[LVT_COUNT] = {
	[LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERFORMANCE] = 0x107ff, [LVT_LINT0] = 0x1a7ff,
	[LVT_LINT1] = 0x1a7ff,
	[LVT_ERROR] = 0x100ff,
};

void lapic_reset_cpu(struct lapic *p, unsigned cpu)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	uint64_t base = c->base;
	lapic_timer_stop(p, cpu);
	memset(c, 0, sizeof(*c));
	c->base = base;
	c->timer_at = TIMER_OFF;
	c->dfr = 0xffffffff;
	c->svr = 0xff;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		c->lvt[i] = LVT_MASKED;
	if (lapic_x2apic(c)) /* 10.12.10.2 */
		c->ldr = (cpu & ~0xfu) << 12 | 1u << (cpu & 0xf);
	lapic_update(p, cpu);
}

bool lapic_read_reg(struct lapic *p, unsigned cpu, unsigned reg, uint64_t *value)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	bool x2apic = lapic_x2apic(c);
	switch (reg) {
	case APIC_ID:
		*value = x2apic ? cpu : cpu << 24;
		return true;
	case APIC_VERSION:
		*value = VERSION;
		return true;
	case APIC_TPR:
		*value = c->tpr;
		return true;
	case APIC_APR:
	case APIC_RRD: /* of processors with an APIC bus */
	case APIC_EOI:
		*value = 0;
		return !x2apic;
	case APIC_PPR:
		*value = lapic_ppr(c);
		return true;
	case APIC_LDR:
		*value = c->ldr;
		return true;
	case APIC_DFR:
		*value = c->dfr;
		return !x2apic;
	case APIC_SVR:
		*value = c->svr;
		return true;
	case APIC_ISR ... APIC_ISR + 7:
		*value = c->isr[reg - APIC_ISR];
		return true;
	case APIC_TMR ... APIC_TMR + 7:
		*value = c->tmr[reg - APIC_TMR];
		return true;
	case APIC_IRR ... APIC_IRR + 7:
		*value = c->irr[reg - APIC_IRR];
		return true;
	case APIC_ESR:
		*value = c->esr;
		return true;
	case APIC_ICR:
		*value = x2apic ? c->icr : (uint32_t)c->icr;
		return true;
	case APIC_ICR_HIGH:
		*value = c->icr >> 32;
		return !x2apic;
	case APIC_LVT ... APIC_LVT_LAST:
		*value = c->lvt[reg - APIC_LVT];
		return true;
	case APIC_INITIAL_COUNT:
		*value = c->initial_count;
		return true;
	case APIC_CURRENT_COUNT:
		*value = lapic_current_count(p, cpu);
		return true;
	case APIC_DIVIDE:
		*value = c->divide;
		return true;
	}
	*value = 0;
	return false;
}

/* 10.12.1.2, table 10-6: what may be written in x2APIC mode; reserved bits must be 0. */
static bool x2apic_allows(unsigned reg, uint64_t value)
{
	switch (reg) {
	case APIC_TPR:
	case APIC_SELF_IPI:
		return value <= 0xff;
	case APIC_EOI:
	case APIC_ESR:
		return !value;
	case APIC_SVR:
		return !(value & ~(uint64_t)SVR_BITS);
	case APIC_ICR:
		return !((uint32_t)value & ~ICR_LOW_BITS);
	case APIC_LVT ... APIC_LVT_LAST:
		return !(value & ~(uint64_t)(lvt_bits[reg - APIC_LVT] | LVT_READ_ONLY));
	case APIC_INITIAL_COUNT:
		return value <= UINT32_MAX;
	case APIC_DIVIDE:
		return !(value & ~(uint64_t)DIVIDE_BITS);
	}
	return false;
}

static void write_svr(struct lapic *p, unsigned cpu, uint32_t value)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	c->svr = value & SVR_BITS;
	if (!(c->svr & SVR_ENABLED)) /* 10.4.7.2 */
		for (unsigned i = 0; i < LVT_COUNT; i++)
			c->lvt[i] |= LVT_MASKED;
	lapic_update(p, cpu);
}

static void write_lvt(struct lapic *p, unsigned cpu, enum lapic_lvt which, uint32_t value)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	unsigned mode = lapic_timer_mode(c);
	c->lvt[which] = value & lvt_bits[which];
	if (!(c->svr & SVR_ENABLED))
		c->lvt[which] |= LVT_MASKED;
	if (which == LVT_TIMER)
		lapic_timer_mode_changed(p, cpu, mode);
	lapic_update(p, cpu);
}

/* A write to what is read only is nothing in xAPIC mode. */
bool lapic_write_reg(struct lapic *p, unsigned cpu, unsigned reg, uint64_t value, int *eoi)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	bool x2apic = lapic_x2apic(c);
	if (x2apic && !x2apic_allows(reg, value))
		return false;
	switch (reg) {
	case APIC_TPR:
		c->tpr = value & 0xff;
		lapic_update(p, cpu);
		return true;
	case APIC_EOI:
		*eoi = lapic_eoi(p, cpu);
		return true;
	case APIC_LDR:
		c->ldr = value & LDR_BITS;
		return true;
	case APIC_DFR:
		c->dfr = value | DFR_FIXED;
		return true;
	case APIC_SVR:
		write_svr(p, cpu, value);
		return true;
	case APIC_ESR:
		c->esr = c->errors;
		c->errors = 0;
		return true;
	case APIC_ICR:
		c->icr = (x2apic ? value & ~0xffffffffULL : c->icr & ~0xffffffffULL) | (value & ICR_LOW_BITS);
		lapic_send(p, cpu);
		return true;
	case APIC_ICR_HIGH:
		c->icr = (uint32_t)c->icr | (value & 0xff000000) << 32;
		return true;
	case APIC_LVT ... APIC_LVT_LAST:
		write_lvt(p, cpu, reg - APIC_LVT, value);
		return true;
	case APIC_INITIAL_COUNT:
		lapic_set_initial_count(p, cpu, value);
		return true;
	case APIC_DIVIDE:
		lapic_set_divide(p, cpu, value & DIVIDE_BITS);
		return true;
	case APIC_SELF_IPI:
		if (x2apic)
			lapic_self_ipi(p, cpu, value);
		return x2apic;
	}
	uint64_t read_only;
	return lapic_read_reg(p, cpu, reg, &read_only);
}

bool lapic_cpu_valid(struct lapic_cpu *c)
{
	const uint64_t base_bits = APIC_BASE_BSP | APIC_BASE_X2APIC | APIC_BASE_ENABLE | 0x000ffffffffff000ULL;
	if ((c->base & ~base_bits) || ((c->base & APIC_BASE_X2APIC) && !lapic_enabled(c)))
		return false;
	c->irr[0] &= 0xffff0000;
	c->isr[0] &= 0xffff0000;
	c->tpr &= 0xff;
	c->dfr |= DFR_FIXED;
	c->svr &= SVR_BITS;
	c->divide &= DIVIDE_BITS;
	for (unsigned i = 0; i < LVT_COUNT; i++)
		c->lvt[i] &= lvt_bits[i];
	return true;
}

const struct field lapic_cpu_fields[] = {
	FIELD_U64(struct lapic_cpu, base),
	FIELD_U64(struct lapic_cpu, icr),
	FIELD_U64(struct lapic_cpu, timer_start),
	FIELD_U64(struct lapic_cpu, timer_at),
	FIELD_U64(struct lapic_cpu, tsc_deadline),
	FIELD_U32(struct lapic_cpu, irr),
	FIELD_U32(struct lapic_cpu, isr),
	FIELD_U32(struct lapic_cpu, tmr),
	FIELD_U32(struct lapic_cpu, tpr),
	FIELD_U32(struct lapic_cpu, ldr),
	FIELD_U32(struct lapic_cpu, dfr),
	FIELD_U32(struct lapic_cpu, svr),
	FIELD_U32(struct lapic_cpu, esr),
	FIELD_U32(struct lapic_cpu, errors),
	FIELD_U32(struct lapic_cpu, lvt),
	FIELD_U32(struct lapic_cpu, initial_count),
	FIELD_U32(struct lapic_cpu, divide),
	FIELD_BOOL(struct lapic_cpu, counting),
	FIELD_BOOL(struct lapic_cpu, extint),
	FIELD_END,
};
