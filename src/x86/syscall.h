/* SPDX-License-Identifier: MIT */
/* The segments and flags of fast system calls, which no descriptor tells. SDM volume 2, SYSCALL, SYSRET, SYSENTER, SYSEXIT. */
#pragma once
#include "x86/cpu.h"

#define SYSRET_FLAGS 0x3c7fd7ULL /* of R11 */
#define FLAT_CODE (SEGA_P | SEGA_S | SEGA_CODE | SEGA_READABLE | SEGA_ACCESSED | SEGA_G)
#define FLAT_DATA (SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_ACCESSED | SEGA_G | SEGA_DB)

/* Loads CS and SS; the caller sees to the mode. */
static inline void x86_load_flat(struct x86_cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl, bool code64)
{
	uint32_t dpl = cpl << SEGA_DPL_SHIFT;

	cpu->seg[SEG_CS] = (struct x86_segment){ .limit = 0xffffffff, .attr = FLAT_CODE | dpl | (code64 ? SEGA_L : SEGA_DB), .selector = cs };
	cpu->seg[SEG_SS] = (struct x86_segment){ .limit = 0xffffffff, .attr = FLAT_DATA | dpl, .selector = ss };
}
