/* SPDX-License-Identifier: MIT */
/* The engine that runs nothing: its processors are halted from the start. Device tests drive the bus and step the clock with it. */
#include "engine/engine.h"

static int null_probe(struct engine_report *report)
{
	*report = (struct engine_report){ .usable = true, .capabilities = ENGINE_COUNTS | ENGINE_STEPS | ENGINE_SMP,
					  .why = "runs nothing; for tests of devices" };
	return 0;
}

static int null_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	vcpu->core.cpu.activity = X86_HALTED;
	vcpu->core.cpu.rflags &= ~FLAG_IF; /* nothing would take the interrupt that ends the HLT */
	exit->reason = vcpu->kicked ? VM_EXIT_KICK : VM_EXIT_HALT;
	return 0;
}

const struct engine null_engine = {
	.name = "null",
	.summary = "runs nothing, for tests of devices",
	.slot = 7,
	.preference = 0,
	.kick_suffices = true,
	.probe = null_probe,
	.run = null_run,
};
ENGINE(null_engine);
