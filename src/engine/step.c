/* SPDX-License-Identifier: MIT */
/* The engine that runs one instruction at a time: each is fetched and decoded anew, nothing is cached but what the processor's own TLB is. Slow,
 * and as simple as can be: to see whether an error comes from what another engine keeps, and to change engines with. */
#include "engine/engine.h"

static int step_probe(struct engine_report *report)
{
	*report = (struct engine_report){ .usable = true, .capabilities = ENGINE_COUNTS | ENGINE_STEPS | ENGINE_SMP, .mips = 2,
					  .why = "runs everywhere, one instruction at a time, without caches; for debugging" };
	return 0;
}

static int step_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	const struct run_limit one = { .icount = limit->icount, .step = true };
	int error;

	do
		error = interp_engine.run(vcpu, &one, exit);
	while (!error && exit->reason == VM_EXIT_LIMIT && !limit->step && vcpu->core.icount < limit->icount && !vcpu->changed);
	return error;
}

static void step_kick(struct vcpu *vcpu)
{
	interp_engine.kick(vcpu);
}

static int step_load_state(struct vcpu *vcpu, unsigned groups)
{
	return interp_engine.load_state(vcpu, groups);
}

static int step_store_state(struct vcpu *vcpu, unsigned groups)
{
	return interp_engine.store_state(vcpu, groups);
}

const struct engine step_engine = {
	.name = "step",
	.summary = "interpretation of one instruction at a time, without caches",
	.slot = 6,
	.preference = 0,
	.kick_suffices = true,
	.probe = step_probe,
	.run = step_run,
	.kick = step_kick,
	.load_state = step_load_state,
	.store_state = step_store_state,
};
ENGINE(step_engine);
