/* SPDX-License-Identifier: MIT */
/* Breakpoints of the debug registers. */
#pragma once
#include "x86/core.h"

/* debug.c -- Does DR7 enable any breakpoint, or has a debugger outside set a watchpoint? */
static inline bool x86_debug_armed(const struct x86_core *core)
{
	return (core->cpu.dr[7] & 0xff) || core->watches;
}
/* Is there an enabled data breakpoint in this page? Then it stays out of the TLB, and each access is looked at. */
bool x86_debug_in_page(const struct x86_core *, gva_t page);
/* Notes in cpu.pending_debug which data breakpoints a (successful) access of size bytes met. */
void x86_debug_access(struct x86_core *, gva_t, unsigned size, enum x86_access);
/* The same for an I/O breakpoint, CR4.DE. */
void x86_debug_port(struct x86_core *, uint16_t port, unsigned size);
/* DR6 bits of the enabled instruction breakpoints at this linear address. */
unsigned x86_debug_code(const struct x86_core *, gva_t);
