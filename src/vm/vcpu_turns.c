/* SPDX-License-Identifier: MIT */
/* All processors on one thread, in turns of a fixed count of instructions: time is the count of instructions, so two runs are the same.
 *
 * A turn ends early with HLT. It is cut where a timer is due, and goes on after the timer has fired. A kick from another thread
 * cuts it too, wherever it happens to come, but then the turn goes on with what is left: so kicks alone change nothing. When all
 * processors are halted, time jumps to the next timer. */
#include "vm/vcpu.h"

#define TURN 10007 /* a prime: no loop is always cut in one place, where it may hold the lock that others wait for */
#define FOREVER (UINT64_MAX / 2)

static bool turn(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	uint64_t left = vm->config.cpus > 1 ? TURN : FOREVER; /* one alone runs until it halts */

	do {
		uint64_t now, next, before = vcpu->core.icount, ran;

		event_drain(vm, clock_now(vm));
		now = clock_now(vm);
		next = vm->clock.next;
		if (next > now) { /* else a timer is late: it fires below */
			struct run_limit limit = { .icount = before + MIN(left, next - now) };
			if (!vcpu_run_once(vcpu, &limit))
				return false;
		}
		ran = vcpu->core.icount - before;
		left -= MIN(left, ran);
		clock_advance_to(vm, clock_now(vm));
	} while (left && !vcpu->idle);
	return true;
}

static bool all_idle(struct vm *vm)
{
	for (unsigned i = 0; i < vm->config.cpus; i++)
		if (vm->vcpu[i]->kicked || vcpu_runnable(vm->vcpu[i]))
			return false;
	return !vm->loop.queued;
}

static bool idle(struct vm *vm)
{
	struct vcpu *first = vm->vcpu[0];
	uint64_t next = vm->clock.next;

	if (next != TIMER_OFF) {
		first->stat.ns_halted += next - clock_now(vm);
		clock_advance_to(vm, next);
		return true;
	}
	vcpu_leave(first);
	vcpu_sleep(first, vm->config.cpus);
	return vcpu_enter(first);
}

void *vcpu_turns_thread(void *arg)
{
	struct vm *vm = arg;
	int tid;

	vcpu_thread_begin(vm->vcpu[0]);
	tid = vm->vcpu[0]->tid;
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vm->vcpu[i]->tid = tid;
	while (!vm->end) {
		for (unsigned i = 0; i < vm->config.cpus; i++)
			if (!turn(vm->vcpu[i]))
				goto out;
		if (all_idle(vm) && !idle(vm))
			break;
	}
out:
	vcpu_leave(vm->vcpu[0]);
	return NULL;
}
