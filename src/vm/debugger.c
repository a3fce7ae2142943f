/* SPDX-License-Identifier: MIT */
/* Break and watch points of a debugger, and processors that stand still for it. */
#include "vm/debugger.h"
#include <errno.h>
#include "engine/engine.h"

void debugger_attach(struct vm *vm, struct debugger *d)
{
	vm->debugger = d;
	for (unsigned n = 0; n < vm->config.cpus; n++)
		vm->vcpu[n]->core.watch = d->watch;
}

/* What was decoded or translated knows nothing of the new points. */
static void changed(struct vm *vm)
{
	struct debugger *d = vm->debugger;

	for (unsigned n = 0; n < vm->config.cpus; n++) {
		vm->vcpu[n]->core.watches = d->watches;
		x86_tlb_flush(&vm->vcpu[n]->core, FLUSH_ALL, 0, 0);
	}
	if (interp_engine.memory_changed)
		interp_engine.memory_changed(vm);
}

int debugger_add(struct vm *vm, enum debug_kind kind, gva_t at, uint64_t len)
{
	struct debugger *d = vm->debugger;

	if (kind == DEBUG_EXECUTE) {
		if (d->breakpoints == DEBUG_POINTS)
			return -ENOSPC;
		d->breakpoint[d->breakpoints++].at = at;
	} else {
		if (!len || len > X86_PAGE_SIZE || at + len < at)
			return -EINVAL;
		if (d->watches == DEBUG_POINTS)
			return -ENOSPC;
		d->watch[d->watches++] = (struct x86_watch){ at, len, kind != DEBUG_WRITE, kind != DEBUG_READ };
	}
	changed(vm);
	return 0;
}

int debugger_remove(struct vm *vm, enum debug_kind kind, gva_t at, uint64_t len)
{
	struct debugger *d = vm->debugger;
	int error = -ENOENT;

	for (unsigned n = 0; kind == DEBUG_EXECUTE && n < d->breakpoints && error; n++) {
		if (d->breakpoint[n].at != at)
			continue;
		d->breakpoint[n] = d->breakpoint[--d->breakpoints];
		error = 0;
	}
	for (unsigned n = 0; kind != DEBUG_EXECUTE && n < d->watches && error; n++) {
		const struct x86_watch *w = &d->watch[n];
		if (w->at != at || w->len != len || w->read != (kind != DEBUG_WRITE) || w->write != (kind != DEBUG_READ))
			continue;
		d->watch[n] = d->watch[--d->watches];
		error = 0;
	}
	if (!error)
		changed(vm);
	return error;
}

void debugger_remove_all(struct vm *vm)
{
	vm->debugger->breakpoints = vm->debugger->watches = 0;
	changed(vm);
}

bool debugger_between(const struct vm *vm, gva_t from, gva_t to)
{
	const struct debugger *d = vm->debugger;

	for (unsigned n = 0; d && n < d->breakpoints; n++)
		if (d->breakpoint[n].at >= from && d->breakpoint[n].at < to)
			return true;
	return false;
}

bool debugger_stand(struct vcpu *vcpu, enum debug_reason reason, gva_t address)
{
	struct vm *vm = vcpu->vm;
	struct debugger *d = vm->debugger;

	vcpu_leave(vcpu);
	pthread_mutex_lock(&vm->lock);
	vcpu->debug_step = false;
	vcpu->debug_stands = true;
	if (!d->stopped) {
		d->stopped = vcpu;
		d->reason = reason;
		d->address = address;
	}
	d->notify(d->arg);
	while (vcpu->debug_stands && !vm->end)
		pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	return vcpu_enter(vcpu);
}

void debugger_resume(struct vm *vm, struct vcpu *step)
{
	pthread_mutex_lock(&vm->lock);
	vm->debugger->stopped = NULL;
	vm->debugger->reason = DEBUG_NOTHING;
	for (unsigned n = 0; n < vm->config.cpus; n++) {
		struct vcpu *vcpu = vm->vcpu[n];
		vcpu->debug_stands = false;
		vcpu->debug_step = vcpu == step;
		vcpu->debug_from = vcpu->core.icount;
	}
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
}
