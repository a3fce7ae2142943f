/* SPDX-License-Identifier: MIT */
/* The interpreter: decoded traces run as chains of tail calls. It runs every mode of the processor, and is the
 * reference for all other engines. */
#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "engine/interp/trace.h"
#include "util/log.h"
#include "vm/debugger.h"
#include "x86/exec.h"

/* Sanitizers keep frames, so that a chain without end would exhaust the stack: then each trace returns to the loop. */
#ifndef TAIL_CALLS
#define TAIL_CALLS 1
#endif

static struct interp *interp_of(struct vcpu *vcpu)
{
	return vcpu->engine_data[INTERP_SLOT];
}

static inline uint64_t jump_key(const struct x86_core *core)
{
	return core->code_key | JUMP_VALID;
}

static inline struct jump_entry *jump_at(struct interp *in, uint64_t rip)
{
	return &in->jump[(rip ^ rip >> JUMP_BITS) & ((1 << JUMP_BITS) - 1)];
}

/* A breakpoint of the debugger at RIP, which is exact; not when it is where the processor went on from. */
static bool at_breakpoint(const struct vcpu *vcpu)
{
	const struct x86_core *core = &vcpu->core;
	uint64_t at = core->cpu.gpr[X86_GPR_RIP] + core->cpu.seg[SEG_CS].base;
	return unlikely(vcpu->vm->debugger != NULL) && core->icount != vcpu->debug_from && debugger_between(vcpu->vm, at, at + 1);
}

/* The trace at RIP, which is exact, through the page tables. May raise the fault of a fetch. */
static const struct insn *find_trace(struct interp *in, struct x86_core *core)
{
	struct trace *t = trace_get(in);
	uint64_t rip = core->cpu.gpr[X86_GPR_RIP];
	const struct vcpu *vcpu = vcpu_of(core);
	bool stops = unlikely(vcpu->vm->debugger != NULL) && debugger_between(vcpu->vm, rip + core->cpu.seg[SEG_CS].base, rip + core->cpu.seg[SEG_CS].base + 1);
	if (t->linked && !stops)
		*jump_at(in, rip) = (struct jump_entry){ rip, jump_key(core), t };
	return t->insn;
}

/* Out of line, and a tail call, so that the hot path needs no frame. */
static __attribute__((noinline)) void chain_miss(struct x86_core *core, const struct insn *i)
{
	if (at_breakpoint(vcpu_of(core)))
		return;
	const struct insn *next = find_trace(interp_of(vcpu_of(core)), core);
	return next->exec(core, next);
}

/* The end of a trace: count, see whether the engine is wanted, find the next trace, go on there. This is the hot
 * path between traces. */
void interp_chain(struct x86_core *core, const struct insn *i)
{
	core->icount += i->index;
	if (unlikely(core->icount >= *(volatile uint64_t *)&core->chain_limit) || !TAIL_CALLS)
		return;
	uint64_t rip = core->cpu.gpr[X86_GPR_RIP];
	struct jump_entry *e = jump_at(interp_of(vcpu_of(core)), rip);
	if (unlikely(e->rip != rip || e->key != jump_key(core) || !e->trace->linked))
		return chain_miss(core, i);
	const struct insn *next = e->trace->insn;
	return next->exec(core, next);
}

void interp_fall(struct x86_core *core, const struct insn *i)
{
	core->cpu.gpr[X86_GPR_RIP] += i->offset;
	return interp_chain(core, i);
}

/* Runs one instruction outside the cache: for exact limits, single step, shadows and split locks. With TF it is followed by a trap; with
 * DEBUGCTL.BTF only if it branched (SDM 3B 17.4.3). */
static void step(struct vcpu *vcpu)
{
	struct x86_core *core = &vcpu->core;
	struct x86_cpu *cpu = &core->cpu;
	struct interp *in = interp_of(vcpu);
	bool shadow = cpu->interrupt_shadow, trap = cpu->rflags & FLAG_TF, branches = cpu->debugctl & DEBUGCTL_BTF;
	struct insn i;

	trace_decode_one(in, &i);
	in->stat.steps++;
	uint64_t next = x86_next_rip(core, &i);
	cpu->rflags &= ~FLAG_RF; /* it serves one instruction, which may be the IRET that sets it for the next */
	core->step_decided = false;
	core->chain_limit = UINT64_MAX;
	atomic_thread_fence(memory_order_seq_cst); /* a kick is seen here, or zeroes chain_limit: a REP leaves between two iterations */
	if (vcpu->kicked)
		core->chain_limit = 0;
	x86_exec_one(core, &i);
	if (shadow)
		cpu->interrupt_shadow = 0;
	if (trap && !core->step_decided && (!branches || cpu->gpr[X86_GPR_RIP] != next))
		cpu->pending_debug |= DR6_BS;
}

static void run_traces(struct vcpu *vcpu)
{
	const struct insn *i = find_trace(interp_of(vcpu), &vcpu->core);
	i->exec(&vcpu->core, i);
}

/* Delivers one event that is due before the next instruction; true if there was one: then the next may be due at once. */
static bool take_event(struct vcpu *vcpu)
{
	struct x86_core *core = &vcpu->core;
	struct x86_cpu *cpu = &core->cpu;

	if (unlikely(cpu->event_pending) && x86_deliver_pending(core))
		return true;
	if (cpu->pending_debug && x86_deliver_debug(core))
		return true;
	if (cpu->interrupt_shadow)
		return false;
	if (cpu->nmi_pending && !cpu->nmi_blocked) {
		cpu->nmi_pending = 0;
		x86_deliver_nmi(core);
		return true;
	}
	if (!vcpu->intr_pending || !(cpu->rflags & FLAG_IF))
		return false;
	struct irq *irq = &vcpu->vm->irq;
	int vector = irq->controller ? irq->controller->acknowledge(irq->controller_device, vcpu) : -1;
	if (vector >= 0)
		x86_deliver_interrupt(core, (uint8_t)vector);
	return vector >= 0;
}

static bool must_step(const struct vcpu *vcpu, const struct run_limit *limit)
{
	const struct x86_cpu *cpu = &vcpu->core.cpu;
	return limit->step || vcpu->core.exclusive || (cpu->rflags & (FLAG_TF | FLAG_RF)) || (cpu->dr[7] & 0xff) || vcpu->core.watches ||
	       limit->icount - vcpu->core.icount <= TRACE_MAX || vcpu->vm->unseen ||
	       (cpu->interrupt_shadow && (vcpu->intr_pending || cpu->nmi_pending));
}

/* One round: events, then instructions until something wants attention. True when run() shall return. */
static bool round_once(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct x86_core *core = &vcpu->core;
	struct x86_cpu *cpu = &core->cpu;
	struct interp *in = interp_of(vcpu);

	code_holder_catch_up(&in->holder);
	if (cpu->activity != X86_RUNNING)
		return exit->reason = cpu->activity == X86_SHUTDOWN ? VM_EXIT_SHUTDOWN : VM_EXIT_HALT, true;
	if (vcpu->kicked)
		return exit->reason = VM_EXIT_KICK, true;
	if (core->icount >= limit->icount)
		return exit->reason = VM_EXIT_LIMIT, true;
	if (take_event(vcpu) || cpu->activity != X86_RUNNING)
		return false;

	if (at_breakpoint(vcpu))
		return exit->reason = VM_EXIT_DEBUG, true;
	if (must_step(vcpu, limit)) {
		if (x86_deliver_breakpoint(core))
			return false;
		step(vcpu);
		if (core->watch_hit)
			return exit->reason = VM_EXIT_DEBUG, true;
		if (limit->step)
			return exit->reason = VM_EXIT_LIMIT, true;
		return false;
	}
	core->chain_limit = limit->icount - TRACE_MAX;
	atomic_thread_fence(memory_order_seq_cst); /* a kick after this point zeroes chain_limit; one before it is seen here */
	if (vcpu->kicked || in->holder.has_changes)
		return false;
	cpu->interrupt_shadow = 0; /* only now: the instruction that it guards runs before anything else happens */
	run_traces(vcpu);
	return false;
}

/* A split lock: the other processors stand still for one instruction. */
static void run_exclusive(struct vcpu *vcpu)
{
	vcpu->core.want_exclusive = false;
	vcpu_stop_all(vcpu->vm);
	if (!vcpu->changed) { /* else the machine was reset meanwhile */
		vcpu->core.exclusive = true;
		step(vcpu);
		vcpu->core.exclusive = false;
	}
	vcpu_resume_all(vcpu->vm);
}

static int interp_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct x86_core *core = &vcpu->core;
	jmp_buf unwind;
	core->unwind = &unwind;
	if (setjmp(unwind) == UNWIND_FAULT) {
		bool exclusive = core->exclusive;
		core->exclusive = false;
		x86_deliver_fault(core);
		if (exclusive) /* only now: others may do to the processor what is done between two instructions */
			vcpu_resume_all(vcpu->vm);
		if (limit->step) {
			exit->reason = VM_EXIT_LIMIT;
			return 0;
		}
	}
	if (core->want_exclusive)
		run_exclusive(vcpu);
	if (vcpu->changed) { /* by another thread, while this one stood still in the middle of run() */
		exit->reason = VM_EXIT_KICK;
		return 0;
	}
	while (!round_once(vcpu, limit, exit))
		;
	return 0;
}

static void interp_kick(struct vcpu *vcpu)
{
	*(volatile uint64_t *)&vcpu->core.chain_limit = 0;
}

/* --- code that changes --- */

static struct code_holder *holder_of(struct vcpu *vcpu)
{
	return interp_of(vcpu) ? &interp_of(vcpu)->holder : NULL;
}

static void protect(struct vcpu *vcpu, uint64_t number)
{
	x86_tlb_flush_writes(&vcpu->core);
}

static void drop(struct vcpu *vcpu, gpa_t gpa, uint64_t len)
{
	trace_invalidate(interp_of(vcpu), gpa, len);
}

static void drop_all(struct vcpu *vcpu)
{
	trace_flush(interp_of(vcpu));
}

static const struct code_pages_model pages_model = {
	.bit = PAGE_CODE, .holder = holder_of, .protect = protect, .drop = drop, .drop_all = drop_all, .kick = interp_kick,
};

static void interp_code_changed(struct vm *vm, gpa_t gpa, uint64_t len)
{
	code_pages_changed(vm->engine_data[INTERP_SLOT], gpa, len);
}

/* Traces are found by guest-physical address. */
static int interp_memory_changed(struct vm *vm)
{
	code_pages_changed_all(vm->engine_data[INTERP_SLOT]);
	return 0;
}

/* --- set-up --- */

static void interp_vm_fini(struct vm *vm)
{
	struct code_pages *pages = vm->engine_data[INTERP_SLOT];

	if (!pages)
		return;
	code_pages_fini(pages);
	free(pages);
	vm->engine_data[INTERP_SLOT] = NULL;
}

static int interp_vm_init(struct vm *vm)
{
	struct code_pages *pages = calloc(1, sizeof(*pages));
	int error;

	if (!pages)
		return -ENOMEM;
	vm->engine_data[INTERP_SLOT] = pages;
	error = code_pages_init(pages, vm, &pages_model);
	if (error)
		interp_vm_fini(vm);
	return error;
}

static int interp_vcpu_init(struct vcpu *vcpu)
{
	struct interp *in = calloc(1, sizeof(*in));
	if (!in)
		return -ENOMEM;
	int error = trace_cache_init(in, vcpu);
	if (error) {
		free(in);
		return error;
	}
	vcpu->engine_data[INTERP_SLOT] = in;
	return 0;
}

static void interp_vcpu_fini(struct vcpu *vcpu)
{
	struct interp *in = interp_of(vcpu);
	if (!in)
		return;
	trace_cache_fini(in);
	free(in);
	vcpu->engine_data[INTERP_SLOT] = NULL;
}

/* The state lives in core.cpu all the time, but for the arithmetic flags. */
static int interp_load_state(struct vcpu *vcpu, unsigned groups)
{
	struct x86_core *core = &vcpu->core;
	if (groups & ~(unsigned)(X86_XSAVE | X86_EVENTS))
		x86_core_loaded(core);
	return 0;
}

static int interp_store_state(struct vcpu *vcpu, unsigned groups)
{
	struct x86_core *core = &vcpu->core;
	if (groups & X86_FLAGS)
		core->cpu.rflags = x86_flags_get(core);
	return 0;
}

/* Pages whose code another engine will not run are written at full speed again. At the safe point no thread is between building a trace and
 * leaving run() (see engine/code_pages.c). */
static int interp_hand_over(struct vm *vm)
{
	for (unsigned n = 0; n < vm->config.cpus; n++)
		trace_flush(interp_of(vm->vcpu[n]));
	return 0;
}

static bool interp_can_run(const struct vcpu *vcpu)
{
	return true;
}

static int interp_probe(struct engine_report *report)
{
	report->usable = true;
	report->capabilities = ENGINE_COUNTS | ENGINE_STEPS | ENGINE_SMP;
	report->mips = 400; /* on integer loops, on the kind of host that the benchmarks name */
	snprintf(report->why, sizeof(report->why), "runs everywhere; the reference for all other engines");
	return 0;
}

static void interp_stats(struct vm *vm, FILE *out)
{
	struct interp sum = { 0 };
	for (unsigned n = 0; n < vm->config.cpus; n++) {
		struct interp *in = interp_of(vm->vcpu[n]);
		sum.stat.decoded += in->stat.decoded;
		sum.stat.traces += in->stat.traces;
		sum.stat.lookups += in->stat.lookups;
		sum.stat.hash_hits += in->stat.hash_hits;
		sum.stat.flushes += in->stat.flushes;
		sum.stat.invalidated += in->stat.invalidated;
		sum.stat.steps += in->stat.steps;
		sum.used += in->used;
	}
	fprintf(out, "interp.decoded %lu\n", sum.stat.decoded);
	fprintf(out, "interp.traces %lu\n", sum.stat.traces);
	fprintf(out, "interp.lookups %lu\n", sum.stat.lookups);
	fprintf(out, "interp.lookup_hits %lu\n", sum.stat.hash_hits);
	fprintf(out, "interp.cache_flushes %lu\n", sum.stat.flushes);
	fprintf(out, "interp.cache_bytes %zu\n", sum.used);
	fprintf(out, "interp.invalidated %lu\n", sum.stat.invalidated);
	fprintf(out, "interp.single_steps %lu\n", sum.stat.steps);
}

const struct engine interp_engine = {
	.name = "interp",
	.summary = "interpretation: decoded traces run as chains of C functions",
	.slot = INTERP_SLOT,
	.preference = 10,
	.probe = interp_probe,
	.vm_init = interp_vm_init,
	.vm_fini = interp_vm_fini,
	.vcpu_init = interp_vcpu_init,
	.vcpu_fini = interp_vcpu_fini,
	.hand_over = interp_hand_over,
	.can_run = interp_can_run,
	.run = interp_run,
	.kick = interp_kick,
	.kick_suffices = true,
	.load_state = interp_load_state,
	.store_state = interp_store_state,
	.code_changed = interp_code_changed,
	.memory_changed = interp_memory_changed,
	.stats = interp_stats,
};
ENGINE(interp_engine);
