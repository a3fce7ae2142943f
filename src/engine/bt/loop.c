/* SPDX-License-Identifier: MIT */
/* The engine's loop. Events, single steps and what cannot be translated go to the interpreter, one instruction at a time. */
#include <setjmp.h>
#include "engine/bt/fpu.h"

#define STRETCH 500 /* instructions that the interpreter runs while the stack is not aligned */

static bool event_due(const struct vcpu *vcpu)
{
	const struct x86_cpu *cpu = &vcpu->core.cpu;

	return cpu->event_pending || cpu->pending_debug || (cpu->nmi_pending && !cpu->nmi_blocked) ||
	       (vcpu->intr_pending && (cpu->rflags & FLAG_IF));
}

static bool must_step(const struct bt *bt, const struct run_limit *limit)
{
	const struct vcpu *vcpu = bt->vcpu;
	const struct x86_cpu *cpu = &vcpu->core.cpu;

	return event_due(vcpu) || bt->interpret || (cpu->rflags & FLAG_TF) || (cpu->dr[7] & 0xff) ||
	       limit->icount - vcpu->core.icount <= BT_BLOCK_MAX || (cpu->interrupt_shadow && (vcpu->intr_pending || cpu->nmi_pending));
}

/* True when run() shall return. */
static bool interpret(struct bt *bt, const struct run_limit *limit, struct vm_exit *exit, jmp_buf *unwind, int *error)
{
	bt_fp_leave(bt);
	bt->interpret = false;
	bt->stat.steps++;
	bt_phase_set(bt, BT_INTERPRETING);
	*error = interp_engine.run(bt->vcpu, limit, exit);
	bt_phase_set(bt, BT_ENGINE);
	bt->vcpu->core.unwind = unwind;
	return *error || exit->reason != VM_EXIT_LIMIT;
}

static void translated(struct bt *bt, const struct run_limit *limit)
{
	struct vcpu *vcpu = bt->vcpu;
	struct x86_core *core = &vcpu->core;
	struct bt_block *b;

	core->chain_limit = UINT64_MAX;
	bt->state->run_mask = BIT(63);
	atomic_thread_fence(memory_order_seq_cst); /* a kick after this point zeroes both; one before it is seen here */
	if (vcpu->kicked || bt->holder.has_changes)
		return;
	if (!bt->counting && limit->icount != UINT64_MAX) {
		bt->counting = true; /* from now on */
		bt_cache_flush(bt, BT_FLUSH_COUNTING);
	}
	bt->limit = core->icount + MIN(limit->icount - core->icount - BT_BLOCK_MAX, BIT(62));
	bt->state->count = core->icount - bt->limit;
	b = bt_block_get(bt, NULL);
	if (!b) {
		bt->interpret = true;
		return;
	}
	bt_enter(bt->state, bt_start(bt, b));
}

static int rounds(struct bt *bt, const struct run_limit *limit, struct vm_exit *exit, jmp_buf *unwind)
{
	struct vcpu *vcpu = bt->vcpu;
	struct x86_core *core = &vcpu->core;
	struct x86_cpu *cpu = &core->cpu;
	int error = 0;

	for (;;) {
		struct run_limit part = { .icount = limit->icount, .step = true };
		exit->reason = VM_EXIT_KICK;
		if (vcpu->changed)
			break;
		code_holder_catch_up(&bt->holder);
		if (cpu->activity != X86_RUNNING) {
			exit->reason = cpu->activity == X86_SHUTDOWN ? VM_EXIT_SHUTDOWN : VM_EXIT_HALT;
			break;
		}
		if (vcpu->kicked)
			break;
		exit->reason = VM_EXIT_LIMIT;
		if (core->icount >= limit->icount)
			break;
		if (limit->step || core->want_exclusive || must_step(bt, limit)) {
			if (interpret(bt, &part, exit, unwind, &error) || limit->step)
				break;
			continue;
		}
		exit->reason = VM_EXIT_MODE;
		if (!bt_fits(core))
			break;
		if (!bt_stack_fits(core)) {
			part = (struct run_limit){ .icount = MIN(limit->icount, core->icount + STRETCH) };
			if (interpret(bt, &part, exit, unwind, &error))
				break;
			continue;
		}
		translated(bt, limit);
	}
	return error;
}

int bt_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct bt *bt = bt_of(vcpu);
	jmp_buf unwind;
	int error;

	bt_signals_thread(bt);
	vcpu->core.unwind = &unwind;
	bt->reason.why = BT_NO_REASON;
	switch (setjmp(unwind)) {
	case UNWIND_FAULT:
		bt_reason_end(bt, true);
		bt_fpu_settle(bt, bt->state);
		x86_deliver_fault(&vcpu->core);
		break;
	default: /* begun, or begun again: what was to be counted is not */
		bt->reason.why = BT_NO_REASON;
	}
	bt_phase_set(bt, BT_ENGINE);
	error = rounds(bt, limit, exit, &unwind);
	bt_fp_leave(bt);
	bt_phase_set(bt, BT_OUTSIDE);
	return error;
}
