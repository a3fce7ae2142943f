/* SPDX-License-Identifier: MIT */
/* The local APIC through its page, as a source of interrupts. SDM 3A chapter 10 */
#pragma once
#include "lib/guest.h"

#define APIC_BASE 0xfee00000ULL
enum {
	APIC_ID = 0x20, APIC_VERSION = 0x30, APIC_TPR = 0x80, APIC_EOI = 0xb0, APIC_SVR = 0xf0, APIC_ISR = 0x100, APIC_IRR = 0x200,
	APIC_ICR = 0x300, APIC_ICR_HIGH = 0x310, APIC_TIMER = 0x320, APIC_LINT0 = 0x350, APIC_INITIAL = 0x380, APIC_CURRENT = 0x390,
	APIC_DIVIDE = 0x3e0,
};
enum { ICR_SELF = 1 << 18, ICR_ASSERT = 1 << 14, ICR_NMI = 4 << 8, LVT_MASKED = 1 << 16, LVT_PERIODIC = 1 << 17, LVT_DEADLINE = 2 << 17, LVT_EXTINT = 7 << 8 };
enum { SPURIOUS = 0xff };

static inline uint32_t apic_read(unsigned at)
{
	return *(volatile uint32_t *)(APIC_BASE + at);
}
static inline void apic_write(unsigned at, uint32_t value)
{
	*(volatile uint32_t *)(APIC_BASE + at) = value;
}
static inline void apic_enable(void)
{
	apic_write(APIC_SVR, 0x100 | SPURIOUS);
	apic_write(APIC_TPR, 0);
}
/* The interrupt is pending when this returns. */
static inline void apic_self(uint8_t vector)
{
	apic_write(APIC_ICR, ICR_SELF | ICR_ASSERT | vector);
	while (!(apic_read(APIC_IRR + vector / 32 * 16) >> vector % 32 & 1) && !(flags_get() & FLAG_IF))
		;
}
static inline void apic_self_nmi(void)
{
	apic_write(APIC_ICR_HIGH, apic_read(APIC_ID));
	apic_write(APIC_ICR, ICR_NMI | ICR_ASSERT);
}
