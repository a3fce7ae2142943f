/* SPDX-License-Identifier: MIT */
/* The vCPU loop: requests from outside, HLT, and turns of the engine in between. SDM 3A 8.4 (INIT and SIPI), 9.1 (RESET), 10.4.
 *
 * A kick is never lost. Whoever wants something stores what it wants, then sets `kicked`, then has the engine told, and at last sends
 * the signal or wakes the sleeper. The loop clears `kicked` first and looks for requests afterwards; the engine tests it once it is committed
 * to run. So either the loop sees the request, or the engine, or the sleeper, sees the kick. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "engine/engine.h"
#include "util/log.h"
#include "util/signals.h"
#include "vm/debugger.h"

/* Instructions that the interpreter runs before the engine is asked again: each time that it refuses, twice as many. */
#define FALLBACK_STRETCH 2000
#define FALLBACK_STRETCH_MOST 256000
#define MODE_GROUPS (X86_CONTROL | X86_SEGMENTS | X86_FLAGS) /* what decides whether an engine can run it */
#define RANDOM_SEED 0x9e3779b97f4a7c15ULL

static _Thread_local struct vcpu *current;

struct vcpu *vcpu_current(void)
{
	return current;
}

static void on_kick(int signal)
{
}

static bool falls_back(const struct vm *vm)
{
	return vm->engine != &interp_engine;
}

int vcpu_create(struct vm *vm, unsigned index)
{
	struct sigaction action = { .sa_handler = on_kick, .sa_flags = SA_ONSTACK };
	struct vcpu *vcpu = aligned_alloc(64, align_up(sizeof(*vcpu), 64));
	int error;

	if (!vcpu)
		return -ENOMEM;
	memset(vcpu, 0, sizeof(*vcpu));
	vm->vcpu[index] = vcpu;
	vcpu->vm = vm;
	vcpu->index = index;
	vcpu->parked = true;
	vcpu->fallback = FALLBACK_STRETCH;
	vcpu->random_state = RANDOM_SEED * (index + 1);
	vm->vcpus_outside++;
	vcpu->core.tsc_khz = (uint32_t)((vm->clock.tsc_hz + 500) / 1000);
	vcpu->core.cpus = vm->config.cpus;
	x86_core_init(&vcpu->core, &vcpu_env, vm->config.model, index);
	vcpu_reset(vcpu, false);
	sigaction(VCPU_SIGNAL, &action, NULL);
	error = vcpu_engines_init(vcpu);
	if (!error)
		vcpu->engine = vm->engine;
	return error;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	struct vm *vm;

	if (!vcpu)
		return;
	vm = vcpu->vm;
	vcpu_engines_fini(vcpu);
	if (current == vcpu)
		current = NULL;
	vm->vcpu[vcpu->index] = NULL;
	free(vcpu);
}

int vcpu_state(struct vcpu *vcpu, unsigned groups)
{
	const struct engine *engine = vcpu->engine;
	int error;

	groups &= vcpu->held;
	if (!groups || !engine || !engine->store_state)
		return 0;
	error = engine->store_state(vcpu, groups);
	if (error)
		vm_kill(vcpu->vm, "engine %s cannot store the state of cpu%u: %s", engine->name, vcpu->index, strerror(-error));
	else
		vcpu->held &= ~groups;
	return error;
}

void vcpu_changed(struct vcpu *vcpu, unsigned groups)
{
	vcpu->changed |= groups;
	vcpu->held &= ~groups;
	vcpu->idle = true;
}

void vcpu_reset(struct vcpu *vcpu, bool init)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;

	if (init)
		vcpu_state(vcpu, X86_ALL_GROUPS);
	else
		vcpu->held = 0;
	x86_cpu_reset(cpu, init);
	if (!init) {
		cpu->tsc_offset = vcpu->vm->tsc_is_host ? vcpu->vm->clock.origin : -vcpu->vm->reset_tsc; /* RESET clears the TSC, of all processors at once */
		vcpu->init_pending = false;
	}
	if (vcpu->index)
		cpu->activity = X86_WAIT_SIPI;
	vcpu->nmi_pending = false;
	if (!init)
		vcpu->sipi_vector = -1;
	vcpu->core.want_exclusive = false;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
}

/* --- requests, from any thread --- */

static void futex(_Atomic uint32_t *word, int operation, uint32_t value)
{
	syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

void vcpu_kick(struct vcpu *vcpu)
{
	const struct engine *engine;
	struct vcpu *sleeper = vcpu->vm->taking_turns ? vcpu->vm->vcpu[0] : vcpu;

	__atomic_fetch_add(&vcpu->stat.kicks, 1, __ATOMIC_RELAXED);
	atomic_store(&vcpu->kicked, true);
	engine = vcpu->engine;
	if (engine && engine->kick)
		engine->kick(vcpu);
	if (vcpu == current)
		return;
	if (vcpu->running && !engine->kick_suffices)
		syscall(SYS_tgkill, getpid(), vcpu->tid, VCPU_SIGNAL);
	if (sleeper->sleeping) {
		sleeper->wake++;
		futex(&sleeper->wake, FUTEX_WAKE, INT_MAX);
	}
}

void vcpu_unseen(struct vcpu *vcpu, bool unseen)
{
	struct vm *vm = vcpu->vm;

	if (vcpu->unseen == unseen || vm->config.cpus == 1)
		return;
	vcpu->unseen = unseen;
	if (!unseen) {
		vm->unseen--;
		return;
	}
	vm->unseen++;
	for (unsigned n = 0; n < vm->config.cpus; n++)
		if (n != vcpu->index && !vm->vcpu[n]->unseen)
			vcpu_kick(vm->vcpu[n]); /* away from the code that it has decoded */
}

void vcpu_interrupt(struct vcpu *vcpu, bool pending)
{
	if (!pending)
		vcpu->intr_pending = false;
	else if (!atomic_exchange(&vcpu->intr_pending, true))
		vcpu_kick(vcpu);
}

void vcpu_nmi(struct vcpu *vcpu)
{
	vcpu->nmi_pending = true;
	vcpu_kick(vcpu);
}

void vcpu_init(struct vcpu *vcpu)
{
	vcpu->sipi_vector = -1; /* one that came before is for the processor as it was */
	vcpu->init_pending = true;
	vcpu_kick(vcpu);
}

void vcpu_sipi(struct vcpu *vcpu, uint8_t vector)
{
	vcpu->sipi_vector = vector;
	vcpu_kick(vcpu);
}

/* --- the loop --- */

/* A startup IPI counts only for a processor that waits for one. */
static void take_sipi(struct vcpu *vcpu, int vector)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;

	vcpu_state(vcpu, X86_ALL_GROUPS);
	if (vector < 0 || cpu->activity != X86_WAIT_SIPI)
		return;
	cpu->seg[SEG_CS].selector = (uint16_t)(vector << 8);
	cpu->seg[SEG_CS].base = (uint64_t)vector << 12;
	cpu->gpr[X86_GPR_RIP] = 0;
	cpu->activity = X86_RUNNING;
	vcpu_changed(vcpu, X86_GPRS | X86_SEGMENTS | X86_EVENTS);
}

static void take_nmi(struct vcpu *vcpu)
{
	vcpu_state(vcpu, X86_EVENTS);
	vcpu->core.cpu.nmi_pending = 1;
	vcpu_changed(vcpu, X86_EVENTS);
}

/* What concerns the whole machine, at an instruction boundary of this processor. False when the VM has ended. */
static bool serve_machine(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	if (vm->stop_count || vm->paused) {
		vcpu_leave(vcpu);
		if (!vcpu_enter(vcpu))
			return false;
	}
	if (unlikely(vm->reset_requested) && atomic_exchange(&vm->reset_requested, false)) {
		if (vm->config.reset_ends) {
			vm_finish(vm, VM_POWERED_OFF, 0);
			return false;
		}
		vcpu_stop_all(vm);
		vm_reset(vm);
		vcpu_resume_all(vm);
	}
	if (unlikely(memory_pending(&vm->memory))) {
		vcpu_stop_all(vm);
		memory_apply(vm);
		vcpu_resume_all(vm);
	}
	if (unlikely(vm->bus.garbage >= BUS_GARBAGE)) {
		vcpu_stop_all(vm);
		bus_reclaim(vm);
		vcpu_resume_all(vm);
	}
	return !vm->end;
}

static void serve_processor(struct vcpu *vcpu)
{
	if (unlikely(vcpu->init_pending) && atomic_exchange(&vcpu->init_pending, false)) {
		const struct irq *irq = &vcpu->vm->irq;
		if (irq->controller && irq->controller->init)
			irq->controller->init(irq->controller_device, vcpu);
		vcpu_reset(vcpu, true);
	}
	if (unlikely(vcpu->sipi_vector >= 0))
		take_sipi(vcpu, atomic_exchange(&vcpu->sipi_vector, -1));
	if (unlikely(vcpu->nmi_pending) && atomic_exchange(&vcpu->nmi_pending, false))
		take_nmi(vcpu);
}

/* What ends a HLT, SDM volume 2 HLT; INIT and RESET were served before. */
static bool ends_halt(const struct vcpu *vcpu)
{
	const struct x86_cpu *cpu = &vcpu->core.cpu;

	return (vcpu->intr_pending && (cpu->rflags & FLAG_IF)) || (cpu->nmi_pending && !cpu->nmi_blocked) || cpu->event_pending ||
	       cpu->pending_debug;
}

bool vcpu_runnable(struct vcpu *vcpu)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;

	if (!vcpu->idle)
		return true;
	if (vcpu_state(vcpu, X86_EVENTS | X86_FLAGS))
		return false;
	if (cpu->activity == X86_HALTED && ends_halt(vcpu)) {
		cpu->activity = X86_RUNNING;
		cpu->interrupt_shadow = 0; /* HLT was the instruction that STI shadowed */
		vcpu_changed(vcpu, X86_EVENTS);
	}
	vcpu->idle = cpu->activity != X86_RUNNING;
	return !vcpu->idle;
}

static bool anyone_kicked(struct vcpu *vcpu, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (vcpu->vm->vcpu[vcpu->index + i]->kicked)
			return true;
	return vcpu->vm->end;
}

static uint64_t monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

void vcpu_sleep(struct vcpu *vcpu, unsigned count)
{
	uint64_t began = monotonic();

	vcpu->sleeping = true;
	for (;;) {
		uint32_t seen = vcpu->wake;
		if (anyone_kicked(vcpu, count))
			break;
		futex(&vcpu->wake, FUTEX_WAIT, seen);
	}
	vcpu->sleeping = false;
	vcpu->stat.ns_halted += monotonic() - began;
}

/* Hands the state from the engine that has it to another. */
static int switch_engine(struct vcpu *vcpu, const struct engine *to)
{
	const struct engine *from = vcpu->engine;
	int error;

	if (from == to)
		return 0;
	error = vcpu_state(vcpu, X86_ALL_GROUPS);
	if (error)
		return error;
	if (from && from->writes_unseen && to->memory_changed)
		error = to->memory_changed(vcpu->vm);
	if (error)
		return error;
	if (!to->writes_unseen)
		vcpu_unseen(vcpu, false);
	vcpu->engine = to;
	vcpu->changed = X86_ALL_GROUPS;
	return 0;
}

/* The VM's engine if it can run the processor as it is now, else the interpreter. Asked only when the answer may have changed. The
 * interpreter also runs what needs the other processors to stand still. */
static int choose_engine(struct vcpu *vcpu)
{
	const struct engine *engine = vcpu->vm->engine;
	bool elsewhere = vcpu->engine != engine;
	int error;

	if (!falls_back(vcpu->vm))
		return 0;
	if (vcpu->core.want_exclusive || debugger_wants(vcpu))
		return switch_engine(vcpu, &interp_engine);
	if (!elsewhere && (!engine->can_run || !(vcpu->changed & MODE_GROUPS)))
		return 0;
	error = vcpu_state(vcpu, MODE_GROUPS);
	if (error)
		return error;
	x86_mode_update(&vcpu->core);
	return switch_engine(vcpu, !engine->can_run || engine->can_run(vcpu) ? engine : &interp_engine);
}

static int load(struct vcpu *vcpu)
{
	const struct engine *engine = vcpu->engine;
	unsigned groups = vcpu->changed;
	int error;

	if (!groups)
		return 0;
	/* What is derived from the flags is derived anew: they must be current even if only others were changed. */
	error = vcpu_state(vcpu, X86_FLAGS);
	vcpu->changed = 0;
	return !error && engine->load_state ? engine->load_state(vcpu, groups) : error;
}

static void shut_down(struct vcpu *vcpu)
{
	vcpu_dump(vcpu);
	vm_finish(vcpu->vm, VM_CRASHED, vcpu->index);
}

static bool handle_exit(struct vcpu *vcpu, const struct vm_exit *exit)
{
	static const char *const names[VM_EXIT_REASONS] = {
		[VM_EXIT_KICK] = "kick", [VM_EXIT_LIMIT] = "limit", [VM_EXIT_HALT] = "halt",
		[VM_EXIT_SHUTDOWN] = "shutdown", [VM_EXIT_DEBUG] = "debug", [VM_EXIT_MODE] = "mode",
	};

	vcpu->stat.exits[exit->reason]++;
	trace(exit, "cpu%u %s: %s, %lu instructions", vcpu->index, ((const struct engine *)vcpu->engine)->name, names[exit->reason],
	      vcpu->core.icount);
	switch (exit->reason) {
	case VM_EXIT_HALT:
		vcpu->stat.halts++;
		vcpu->idle = true;
		return true;
	case VM_EXIT_SHUTDOWN:
		shut_down(vcpu);
		return false;
	case VM_EXIT_MODE:
		return !switch_engine(vcpu, &interp_engine);
	default:
		return true;
	}
}

/* After a turn of a processor that is debugged: stands still where the debugger wants it. False when the VM has ended. */
static bool debug(struct vcpu *vcpu, const struct vm_exit *exit, uint64_t from)
{
	struct x86_core *core = &vcpu->core;
	bool hit = core->watch_hit;

	if (exit->reason == VM_EXIT_SHUTDOWN)
		return true;
	core->watch_hit = false;
	if (hit)
		return debugger_stand(vcpu, DEBUG_WATCHPOINT, core->watch_address);
	if (exit->reason == VM_EXIT_DEBUG)
		return debugger_stand(vcpu, DEBUG_BREAKPOINT, 0);
	if (vcpu->debug_step && (exit->reason == VM_EXIT_LIMIT || core->icount != from))
		return debugger_stand(vcpu, DEBUG_STEPPED, 0);
	return true;
}

static bool run(struct vcpu *vcpu, const struct run_limit *limit)
{
	struct vm *vm = vcpu->vm;
	struct run_limit stretch = *limit;
	struct vm_exit exit = { 0 };
	const struct engine *engine;
	int error = choose_engine(vcpu);

	uint64_t from = vcpu->core.icount;

	if (!error)
		error = load(vcpu);
	stretch.step |= vcpu->debug_step;
	engine = vcpu->engine;
	if (engine != vm->engine) {
		stretch.icount = MIN(stretch.icount, vcpu->core.icount + vcpu->fallback);
		vcpu->fallback = MIN(vcpu->fallback * 2, FALLBACK_STRETCH_MOST);
	} else {
		vcpu->fallback = FALLBACK_STRETCH;
	}
	if (!error) {
		if (vm->clock.mode == CLOCK_INSTRUCTIONS)
			clock_count(vm, &vcpu->core);
		if (engine->writes_unseen)
			vcpu_unseen(vcpu, true);
		vcpu->held = engine->store_state ? X86_ALL_GROUPS : 0; /* it may stand still in the middle of run() */
		vcpu->running = true;
		error = engine->run(vcpu, &stretch, &exit);
		vcpu->running = false;
		if (vm->clock.mode == CLOCK_INSTRUCTIONS)
			clock_count(vm, NULL);
		vcpu->held = engine->store_state ? X86_ALL_GROUPS & ~vcpu->changed : 0;
	}
	if (error) {
		vm_kill(vm, "engine %s cannot run cpu%u: %s", engine->name, vcpu->index, strerror(-error));
		return false;
	}
	if (unlikely(vm->debugger != NULL) && !debug(vcpu, &exit, from))
		return false;
	return handle_exit(vcpu, &exit) && !vm->end;
}

bool vcpu_run_once(struct vcpu *vcpu, const struct run_limit *limit)
{
	current = vcpu;
	if (vcpu->parked && !vcpu_enter(vcpu))
		return false;
	atomic_store(&vcpu->kicked, false); /* first: see the top */
	if (!serve_machine(vcpu))
		return false;
	serve_processor(vcpu);
	if (vcpu->waits_inside || vcpu_runnable(vcpu))
		return run(vcpu, limit);
	if (vcpu->thread_running) {
		vcpu_leave(vcpu);
		vcpu_sleep(vcpu, 1);
		return vcpu_enter(vcpu);
	}
	return !vcpu->vm->end;
}

void vcpu_thread_begin(struct vcpu *vcpu)
{
	sigset_t all_but_kick;

	signals_of_others(&all_but_kick);
	sigdelset(&all_but_kick, VCPU_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all_but_kick, NULL);
	vcpu->tid = (int)syscall(SYS_gettid);
	current = vcpu;
}

void *vcpu_thread(void *arg)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };
	struct vcpu *vcpu = arg;

	vcpu_thread_begin(vcpu);
	while (vcpu_run_once(vcpu, &no_limit))
		;
	vcpu_leave(vcpu);
	return NULL;
}
