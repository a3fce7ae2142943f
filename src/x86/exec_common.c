/* SPDX-License-Identifier: MIT */
/* What decoding and engines put around instructions: functions for those that cannot run, and terminators. */
#include "x86/hostop.h"

void x86_exec_ud(struct x86_core *core, const struct insn *i)
{
	x86_raise(core, i, VECTOR_UD);
}

void x86_exec_nm(struct x86_core *core, const struct insn *i)
{
	x86_raise(core, i, VECTOR_NM);
}

void x86_exec_gp(struct x86_core *core, const struct insn *i)
{
	x86_raise_error(core, i, VECTOR_GP, 0);
}

void x86_exec_stop(struct x86_core *core, const struct insn *i)
{
	core->cpu.gpr[X86_GPR_RIP] += i->offset;
	core->icount += i->index;
}

void x86_exec_stop_jump(struct x86_core *core, const struct insn *i)
{
	core->icount += i->index;
}

void x86_exec_one(struct x86_core *core, const struct insn *i)
{
	struct insn pair[2] = { *i };
	pair[1].exec = x86_ops[i->op].klass & CLASS_CONTROL ? x86_exec_stop_jump : x86_exec_stop;
	pair[1].offset = i->length;
	pair[1].index = 1;
	pair[0].exec(core, pair);
}

_Noreturn void x86_restart(struct x86_core *core, const struct insn *i)
{
	x86_leave(core, i, false);
	longjmp(*core->unwind, UNWIND_RESTART);
}

void x86_rmw_slow(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, x86_rmw_fn *op, uint64_t src)
{
	gpa_t traced = 0;
	void *host = x86_rmw_begin(core, i, gva, size, &traced);
	if (host) {
		op(core, i, host, src);
		if (traced)
			x86_rmw_done(core, traced, size);
		return;
	}
	if ((i->flags & INSN_LOCK) && core->cpus > 1 && !core->exclusive) {
		core->want_exclusive = true;
		x86_restart(core, i);
	}
	uint64_t copy[2] __attribute__((aligned(16)));
	x86_check_write(core, i, gva, size);
	x86_load_bytes(core, i, gva, copy, size);
	op(core, i, copy, src);
	x86_store_bytes(core, i, gva, copy, size);
}
