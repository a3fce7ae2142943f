/* SPDX-License-Identifier: MIT */
/* Software interrupts, bounds, undefined opcodes, halting, and the hints that do nothing. SDM volume 2. */
#include <sched.h>
#include "x86/exec_system.h"
#include "x86/paging.h"

#define PATIENCE 128 /* PAUSEs before the host's processor is given away */

EXEC(int_n)
{
	x86_soft_interrupt(core, i, (uint8_t)i->imm, EVENT_SOFT_INT);
}

EXEC(int1)
{
	x86_soft_interrupt(core, i, VECTOR_DB, EVENT_ICEBP);
}

EXEC(int3)
{
	x86_soft_interrupt(core, i, VECTOR_BP, EVENT_SOFT_EXCEPTION);
}

EXEC(into)
{
	if (core->aflags & AF_OF)
		x86_soft_interrupt(core, i, VECTOR_OF, EVENT_SOFT_EXCEPTION);
	else
		x86_leave(core, i, true);
}

EXEC(bound)
{
	gva_t at = x86_address(core, i, 2u * i->size, ACCESS_READ);
	unsigned bits = 8u * i->size;
	int64_t low = sign_extend(x86_load(core, i, at, i->size), bits);
	int64_t high = sign_extend(x86_load(core, i, at + i->size, i->size), bits);
	int64_t index = sign_extend(x86_reg(core, i->dst, i->size), bits);

	if (index < low || index > high)
		x86_raise(core, i, VECTOR_BR);
	X86_NEXT(core, i);
}

EXEC(hlt)
{
	PRIVILEGED(core, i);
	core->cpu.activity = X86_HALTED;
	x86_leave(core, i, true);
}

/* Not offered by CPUID. */
EXEC(monitor)
{
	x86_raise(core, i, VECTOR_UD);
}

EXEC(nop)
{
	X86_NEXT(core, i);
}

/* A processor that waits for another one in a loop may keep that one from running, where the host has fewer: it makes room now and then. */
EXEC(pause)
{
	if (unlikely(++core->stat.pause % PATIENCE == 0))
		sched_yield();
	X86_NEXT(core, i);
}

EXEC(fence)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	X86_NEXT(core, i);
}

/* Needs the rights of a load, and nothing else: there is no cache to flush. */
EXEC(clflush)
{
	/* Checked like a load, but nothing is read: a device must not notice. */
	x86_check_as(core, i, x86_address(core, i, 1, ACCESS_READ), 1, ACCESS_READ, x86_tlb_kind(core));
	X86_NEXT(core, i);
}

const struct x86_forms x86_int_n = { .any = int_n };
const struct x86_forms x86_int1 = { .any = int1 };
const struct x86_forms x86_int3 = { .any = int3 };
const struct x86_forms x86_into = { .any = into };
const struct x86_forms x86_bound = { .any = bound };
const struct x86_forms x86_ud = { .any = x86_exec_ud };
const struct x86_forms x86_hlt = { .any = hlt };
const struct x86_forms x86_monitor = { .any = monitor };
const struct x86_forms x86_pause = { .any = pause };
const struct x86_forms x86_nop = { .any = nop };
const struct x86_forms x86_fence = { .any = fence };
const struct x86_forms x86_clflush = { .any = clflush };
