/* SPDX-License-Identifier: MIT */
/* How an instruction stops in its middle: exceptions and leaving to the engine. SDM 3A 6.5. */
#include "x86/segment.h"

/* RIP becomes that of instruction i, and the instructions before it in the trace are counted. */
static void exact(struct x86_core *core, const struct insn *i, unsigned completed_bytes)
{
	uint64_t *rip = x86_rip(&core->cpu);

	*rip += i->offset + completed_bytes;
	if ((core->mode & MODE_CODE) != MODE_CODE64)
		*rip = (uint32_t)*rip;
	core->icount += i->index;
}

_Noreturn static void raise(struct x86_core *core, const struct insn *i, struct x86_fault fault)
{
	if (i)
		exact(core, i, 0);
	core->fault = fault;
	longjmp(*core->unwind, 1);
}

_Noreturn void x86_raise(struct x86_core *core, const struct insn *i, enum x86_vector vector)
{
	raise(core, i, (struct x86_fault){ .vector = (uint8_t)vector });
}

_Noreturn void x86_raise_error(struct x86_core *core, const struct insn *i, enum x86_vector vector, uint32_t error)
{
	raise(core, i, (struct x86_fault){ .vector = (uint8_t)vector, .has_error = true, .error = error });
}

void x86_leave(struct x86_core *core, const struct insn *i, bool completed)
{
	exact(core, i, completed ? i->length : 0);
	core->icount += completed;
}

void x86_leave_at(struct x86_core *core, const struct insn *i, uint64_t rip)
{
	*x86_rip(&core->cpu) = rip;
	core->icount += i->index + 1u;
}
