/* SPDX-License-Identifier: MIT */
/* Break and watch points of a debugger outside the guest, and single steps, under every engine and without touching guest memory.
 *
 * While there is any, the interpreter runs the processors: it cuts its traces at breakpoints, and steps while there is a watchpoint. A
 * processor that meets one stands still outside, and whoever debugs is told; he pauses the machine, looks, and lets it go on. */
#pragma once
#include <stdatomic.h>
#include "vm/vcpu.h"

enum debug_kind { DEBUG_EXECUTE, DEBUG_WRITE, DEBUG_READ, DEBUG_ACCESS };
enum debug_reason { DEBUG_NOTHING, DEBUG_STEPPED, DEBUG_BREAKPOINT, DEBUG_WATCHPOINT };

#define DEBUG_POINTS 128

struct debugger {
	struct { gva_t at; } breakpoint[DEBUG_POINTS];
	unsigned breakpoints;
	struct x86_watch watch[DEBUG_POINTS];
	unsigned watches;
	void (*notify)(void *arg);   /* vCPU thread, holding vm->lock: a processor stands still. It shall only wake somebody */
	void *arg;
	/* Of the one that stood still first since debugger_resume; guarded by vm->lock. */
	struct vcpu *stopped;
	enum debug_reason reason;
	gva_t address;               /* of a watchpoint: what was accessed */
};

/* debugger.c -- Before vm_start: the machine has a debugger, which must outlive it. */
void debugger_attach(struct vm *, struct debugger *);
/* While the machine is paused. Adding: 0, -EINVAL, -ENOSPC; removing: -ENOENT when there is none such. */
int debugger_add(struct vm *, enum debug_kind, gva_t at, uint64_t len);
int debugger_remove(struct vm *, enum debug_kind, gva_t at, uint64_t len);
void debugger_remove_all(struct vm *);
/* While the machine is paused: who stood still goes on when it is resumed; `step`: this one runs one instruction and then stands still. */
void debugger_resume(struct vm *, struct vcpu *step);

/* For the vCPU loop and the interpreter. */
static inline bool debugger_wants(const struct vcpu *vcpu)
{
	const struct debugger *d = vcpu->vm->debugger;
	return unlikely(d != NULL) && (d->breakpoints || d->watches || vcpu->debug_step);
}
/* Is there a breakpoint in [from, to)? */
bool debugger_between(const struct vm *, gva_t from, gva_t to);
/* Own thread, outside run(): stands still until debugger_resume. False when the VM has ended. */
bool debugger_stand(struct vcpu *, enum debug_reason, gva_t address);
