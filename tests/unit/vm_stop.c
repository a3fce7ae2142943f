/* SPDX-License-Identifier: MIT */
/* Kicks, safe points, HLT, INIT and SIPI, NMI, reset, from several threads at once: with an engine that spins until it is kicked. */
#include <signal.h>
#include <unistd.h>
#include "vm_test.h"

#define CPUS 4
#define SECONDS_MAX 120

static _Atomic unsigned inside;
static atomic_bool violated, safe;
static _Atomic uint64_t reset_calls;

/* What a processor shall do next in this engine. */
static _Atomic enum { SPIN, HALT, NATIVE } plan;
static bool use_pause;

static int spin_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct x86_cpu *cpu = &vcpu->core.cpu;
	unsigned rounds = 0;

	inside++;
	exit->reason = VM_EXIT_KICK;
	if (cpu->nmi_pending)
		cpu->nmi_pending = 0, cpu->tsc_aux++;
	while (!vcpu->kicked) {
		if (safe)
			violated = true;
		if (plan == HALT && ++rounds > 10) {
			cpu->activity = X86_HALTED;
			exit->reason = VM_EXIT_HALT;
			break;
		}
		if (use_pause) { /* as a system call that only a signal ends */
			struct timespec long_time = { .tv_sec = 10 };
			sigset_t kick, old;
			sigemptyset(&kick);
			sigaddset(&kick, VCPU_SIGNAL);
			pthread_sigmask(SIG_BLOCK, &kick, &old);
			if (!vcpu->kicked) {
				sigset_t open = old;
				sigdelset(&open, VCPU_SIGNAL);
				pselect(0, NULL, NULL, NULL, &long_time, &open);
			}
			pthread_sigmask(SIG_SETMASK, &old, NULL);
		} else {
			__builtin_ia32_pause();
			if (++rounds % 64 == 0)
				sched_yield();
		}
	}
	vcpu->core.icount++;
	inside--;
	return 0;
}

static struct engine spinning;

static struct vm *spinning_vm(unsigned cpus)
{
	struct vm *vm = test_vm_engine("null", CLOCK_HOST, 16 * MiB, cpus);

	spinning = null_engine;
	spinning.run = spin_run;
	spinning.kick_suffices = false;
	test_engine(vm, &spinning);
	for (unsigned i = 0; i < cpus; i++) {
		vm->vcpu[i]->engine = &spinning;
		vm->vcpu[i]->core.cpu.activity = X86_RUNNING;
	}
	plan = SPIN;
	safe = violated = use_pause = false;
	return vm;
}

static bool soon(bool (*condition)(struct vm *), struct vm *vm)
{
	for (unsigned i = 0; i < 5000 && !condition(vm); i++)
		usleep(1000);
	return condition(vm);
}

struct stopper {
	struct vm *vm;
	unsigned rounds, seed;
};

static atomic_uint owners;

static void *stop_often(void *arg)
{
	struct stopper *s = arg;

	for (unsigned i = 0; i < s->rounds; i++) {
		vcpu_stop_all(s->vm);
		if (owners++ || inside)
			violated = true;
		safe = true;
		if (i % 3 == 0) { /* nested */
			vcpu_stop_all(s->vm);
			vcpu_resume_all(s->vm);
		}
		if (inside)
			violated = true;
		safe = false;
		owners--;
		vcpu_resume_all(s->vm);
		if (i % 7 == s->seed % 7)
			usleep(50);
	}
	return NULL;
}

static void *kick_often(void *arg)
{
	struct stopper *s = arg;

	for (unsigned i = 0; i < s->rounds * 10; i++) {
		vcpu_kick(s->vm->vcpu[(i + s->seed) % s->vm->config.cpus]);
		vcpu_interrupt(s->vm->vcpu[i % s->vm->config.cpus], i & 1);
		if (i % 64 == 0)
			usleep(10);
	}
	return NULL;
}

static void stress(struct vm *vm, unsigned rounds)
{
	struct stopper s[6];
	pthread_t threads[6];

	for (unsigned i = 0; i < 6; i++) {
		s[i] = (struct stopper){ vm, rounds, i };
		pthread_create(&threads[i], NULL, i < 4 ? stop_often : kick_often, &s[i]);
	}
	for (unsigned i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
}

static bool all_inside(struct vm *vm)
{
	return inside == vm->config.cpus;
}

static bool none_inside(struct vm *vm)
{
	return inside == 0;
}

static void test_stress(void)
{
	struct vm *vm = spinning_vm(CPUS);

	vm_start(vm);
	ok(soon(all_inside, vm), "all processors run");
	stress(vm, 300);
	ok(!violated, "no processor ran at a safe point, with one owner at a time");
	ok(soon(all_inside, vm), "and afterwards all run again");
	plan = HALT;
	for (unsigned i = 0; i < CPUS; i++)
		vcpu_kick(vm->vcpu[i]);
	ok(soon(none_inside, vm), "they halt");
	stress(vm, 300);
	ok(!violated, "safe points with halted processors");
	plan = SPIN;
	use_pause = true;
	for (unsigned i = 0; i < CPUS; i++) {
		vm->vcpu[i]->core.cpu.nmi_blocked = 0;
		vcpu_nmi(vm->vcpu[i]);
	}
	ok(soon(all_inside, vm), "an NMI ends a HLT");
	stress(vm, 100);
	ok(!violated, "safe points with processors that wait in the host's kernel");
	vm_finish(vm, VM_STOPPED, 3);
	ok(vm_wait(vm) == VM_STOPPED && vm->end_value == 3 && !inside, "and all end");
	vm_destroy(vm);
}

/* Processors stop each other: as split locks do. */
static int stopping_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct vm *vm = vcpu->vm;

	inside++;
	for (unsigned i = 0; i < 50; i++)
		__builtin_ia32_pause();
	inside--;
	if (vcpu->core.icount++ < 500) {
		vcpu_stop_all(vm);
		if (inside || owners++)
			violated = true;
		owners--;
		vcpu_resume_all(vm);
	}
	exit->reason = VM_EXIT_KICK;
	return 0;
}

static bool all_done(struct vm *vm)
{
	for (unsigned i = 0; i < vm->config.cpus; i++)
		if (*(volatile uint64_t *)&vm->vcpu[i]->core.icount < 500)
			return false;
	return true;
}

static void test_mutual(void)
{
	struct vm *vm = spinning_vm(CPUS);
	struct stopper s = { vm, 200, 1 };

	spinning.run = stopping_run;
	vm_start(vm);
	stop_often(&s);
	ok(soon(all_done, vm) && !violated, "processors that stop each other do not wait for each other");
	vm_finish(vm, VM_STOPPED, 0);
	vm_wait(vm);
	vm_destroy(vm);
}

static bool stopped_by_processors(struct vm *vm)
{
	return vm->vcpu[0]->core.icount > 50;
}

/* A pause while the processors themselves fight for the safe point: none comes back before its end. */
static void test_pause(void)
{
	struct vm *vm = spinning_vm(CPUS);
	uint64_t now, counts[CPUS];
	bool stands = true;

	ok(vm_pause(vm), "a machine can be paused before it starts");
	vm_start(vm);
	usleep(20000);
	ok(!inside && clock_now(vm) == clock_now(vm), "then nothing runs, nor does time");
	ok(vm_unpause(vm) && soon(all_inside, vm), "and it starts when it is resumed");
	ok(!vm_unpause(vm), "once");
	spinning.run = stopping_run;
	for (unsigned i = 0; i < CPUS; i++) {
		vm->vcpu[i]->core.icount = 0;
		vcpu_kick(vm->vcpu[i]);
	}
	ok(soon(stopped_by_processors, vm), "processors stop each other");
	for (unsigned round = 0; round < 50 && stands; round++) {
		stands = vm_pause(vm) && !vm_pause(vm) && !inside;
		now = clock_now(vm);
		for (unsigned i = 0; i < CPUS; i++)
			counts[i] = vm->vcpu[i]->core.icount;
		usleep(500);
		vcpu_stop_all(vm); /* the safe point is to be had */
		for (unsigned i = 0; i < CPUS; i++)
			stands &= counts[i] == vm->vcpu[i]->core.icount;
		vcpu_resume_all(vm);
		stands &= clock_now(vm) == now && !inside && vm_unpause(vm);
	}
	ok(stands, "50 pauses meanwhile: nothing moves, and time stands");
	ok(!violated, "and their safe points stay safe");
	vm_pause(vm);
	vm_finish(vm, VM_STOPPED, 0);
	ok(vm_wait(vm) == VM_STOPPED, "a paused machine can be ended");
	vm_destroy(vm);
}

static bool second_runs(struct vm *vm)
{
	return inside == 2;
}

static bool first_only(struct vm *vm)
{
	return inside == 1;
}

static int boot_again(struct vm *vm, void *arg)
{
	reset_calls++;
	return 0;
}

static bool was_reset(struct vm *vm)
{
	return reset_calls == 1;
}

static void test_requests(void)
{
	struct vm *vm = spinning_vm(2);
	struct x86_cpu *second = &vm->vcpu[1]->core.cpu;

	second->activity = X86_WAIT_SIPI;
	vm->boot = boot_again;
	vm_start(vm);
	ok(soon(first_only, vm), "an application processor waits");
	vcpu_init(vm->vcpu[1]);
	vcpu_sipi(vm->vcpu[1], 0x9a);
	ok(soon(second_runs, vm), "until INIT and SIPI");
	vcpu_stop_all(vm);
	ok(second->seg[SEG_CS].selector == 0x9a00 && second->seg[SEG_CS].base == 0x9a000 && second->gpr[X86_GPR_RIP] == 0, "it starts where the SIPI says");
	vcpu_resume_all(vm);
	vcpu_sipi(vm->vcpu[1], 0x10);
	usleep(20000);
	vcpu_stop_all(vm);
	ok(second->seg[SEG_CS].selector == 0x9a00, "a SIPI to a processor that runs is ignored");
	vcpu_resume_all(vm);
	vcpu_init(vm->vcpu[1]);
	ok(soon(first_only, vm), "INIT stops it");
	vm_reset_request(vm);
	ok(soon(was_reset, vm), "a reset runs the loader again");
	vcpu_stop_all(vm);
	ok(second->activity == X86_WAIT_SIPI && vm->vcpu[0]->core.cpu.gpr[X86_GPR_RIP] == 0xfff0, "and resets the processors");
	ok(clock_tsc(vm) + vm->vcpu[0]->core.cpu.tsc_offset < vm->clock.tsc_hz * 60, "and their TSC");
	vcpu_resume_all(vm);
	vm->config.reset_ends = true;
	vm_reset_request(vm);
	ok(vm_wait(vm) == VM_POWERED_OFF, "with --no-reboot it powers off");
	vm_destroy(vm);
}

static void *end_it(void *arg)
{
	vm_kill(arg, "reason %d", 5);
	return NULL;
}

static void test_end(void)
{
	struct vm *vm = spinning_vm(2);
	pthread_t thread;

	vm_start(vm);
	soon(all_inside, vm);
	vcpu_stop_all(vm);
	pthread_create(&thread, NULL, end_it, vm);
	pthread_join(thread, NULL);
	vm_finish(vm, VM_POWERED_OFF, 0);
	vcpu_resume_all(vm);
	ok(vm_wait(vm) == VM_KILLED && !strcmp(vm->end_reason, "reason 5"), "the first reason is kept, also at a safe point");
	vm_destroy(vm);
	vm = spinning_vm(1);
	vm_start(vm);
	vm_destroy(vm);
	ok(true, "a machine that runs can be destroyed");
}

int main(void)
{
	alarm(SECONDS_MAX);
	test_stress();
	test_mutual();
	test_pause();
	test_requests();
	test_end();
	return done();
}
