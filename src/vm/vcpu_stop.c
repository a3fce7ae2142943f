/* SPDX-License-Identifier: MIT */
/* The safe point: all processors stand between two instructions, outside their engines.
 *
 * Each vCPU is inside or outside; it goes outside to sleep in HLT, when it sees that somebody wants the safe point, and for good when it
 * ends; it comes in only while nobody has the safe point. Who wants it counts itself as the owner, kicks everyone, and waits until
 * all are outside. A vCPU that wants it goes outside first, also while it waits for another owner: two that want it
 * at once do not wait for each other. vm->lock guards all of it and is the innermost lock but for the clock's.
 *
 * A pause is a safe point that lasts, and that nobody owns: while it does, vCPUs stay outside, and whoever wants the safe point has it at
 * once. */
#include "vm/vcpu.h"

/* With one thread for all vCPUs they are outside together. */
static void mark_locked(struct vcpu *vcpu, bool outside)
{
	struct vm *vm = vcpu->vm;

	if (!vm->taking_turns) {
		if (vcpu->parked != outside)
			vm->vcpus_outside += outside ? 1u : -1u;
		vcpu->parked = outside;
		return;
	}
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vm->vcpu[i]->parked = outside;
	vm->vcpus_outside = outside ? vm->config.cpus : 0;
}

void vcpu_leave(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	pthread_mutex_lock(&vm->lock);
	mark_locked(vcpu, true);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}

bool vcpu_enter(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	bool in;

	pthread_mutex_lock(&vm->lock);
	while ((vm->stop_count || vm->paused) && !vm->end)
		pthread_cond_wait(&vm->changed, &vm->lock);
	in = !vm->end;
	if (in)
		mark_locked(vcpu, false);
	pthread_mutex_unlock(&vm->lock);
	return in;
}

static struct vcpu *self(struct vm *vm)
{
	struct vcpu *vcpu = vcpu_current();

	return vcpu && vcpu->vm == vm ? vcpu : NULL;
}

void vcpu_stop_all(struct vm *vm)
{
	struct vcpu *me = self(vm);

	pthread_mutex_lock(&vm->lock);
	if (vm->stop_count && pthread_equal(vm->stop_owner, pthread_self())) {
		vm->stop_count++;
		goto out;
	}
	if (me) {
		mark_locked(me, true);
		pthread_cond_broadcast(&vm->changed);
	}
	while (vm->stop_count)
		pthread_cond_wait(&vm->changed, &vm->lock);
	vm->stop_owner = pthread_self();
	vm->stop_count = 1;
	for (unsigned i = 0; i < vm->config.cpus; i++)
		if (!vm->vcpu[i]->parked)
			vcpu_kick(vm->vcpu[i]);
	while (vm->vcpus_outside < vm->config.cpus)
		pthread_cond_wait(&vm->changed, &vm->lock);
out:
	pthread_mutex_unlock(&vm->lock);
}

void vcpu_resume_all(struct vm *vm)
{
	struct vcpu *me = self(vm);

	pthread_mutex_lock(&vm->lock);
	if (--vm->stop_count == 0) {
		pthread_cond_broadcast(&vm->changed);
		/* The machine may have been paused meanwhile: while we waited for another owner. */
		while (me && (vm->stop_count || (vm->paused && !vm->end)))
			pthread_cond_wait(&vm->changed, &vm->lock);
		if (me)
			mark_locked(me, false);
	}
	pthread_mutex_unlock(&vm->lock);
}

/* The devices stand still, too: what a timer does belongs wholly before the pause, or after it. */
bool vm_pause(struct vm *vm)
{
	bool paused;

	loop_pause(vm);
	vcpu_stop_all(vm);
	paused = vm->paused;
	if (!paused) {
		irq_home(vm);
		doorbells_settle(vm);
		clock_freeze(vm);
	}
	vm->paused = true;
	vcpu_resume_all(vm);
	loop_resume(vm);
	return !paused;
}

/* Where the host's TSC is the clock, an engine has programmed the distance between the two, which is another one now. */
bool vm_unpause(struct vm *vm)
{
	bool paused;

	loop_pause(vm);
	vcpu_stop_all(vm);
	paused = vm->paused;
	if (paused)
		clock_thaw(vm);
	for (unsigned i = 0; i < vm->config.cpus && paused; i++) {
		vcpu_state(vm->vcpu[i], X86_MSRS);
		vcpu_changed(vm->vcpu[i], X86_MSRS);
	}
	vm->paused = false;
	vcpu_resume_all(vm);
	loop_resume(vm);
	return paused;
}
