/* SPDX-License-Identifier: MIT */
/* A loop of 32-bit code, without paging, for tests of what bt makes of it. */
#pragma once
#include "engine/engine.h"
#include "test.h"
#include "x86/cpu.h"
#include "vm/vm.h"

/* Can the engine run on this host? If not, a result says why the test is left out. */
static bool loop_possible(const char *engine)
{
	struct engine_report report = { 0 };

	if (!engine_find(engine)->probe(&report) && report.usable)
		return true;
	skip("%s - %s", engine, report.why);
	return false;
}

/* The code is in place, and the processor is in flat protected mode. Registers are the caller's to set, and to tell of (vcpu_changed). */
__attribute__((unused)) static void loop_prepare(struct vm *vm, gpa_t at, const uint8_t *code, size_t size)
{
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	const unsigned attr = SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_G | SEGA_DB;

	vcpu_reset(vm->vcpu[0], false);
	guest_write(vm, at, code, size);
	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = (struct x86_segment){ .limit = 0xffffffff, .selector = 0x10, .attr = attr | SEGA_WRITABLE };
	cpu->seg[SEG_CS] = (struct x86_segment){ .limit = 0xffffffff, .selector = 0x08, .attr = attr | SEGA_CODE | SEGA_READABLE };
	cpu->cr0 = CR0_PE | CR0_NE | CR0_ET;
}

/* Until it halts. */
__attribute__((unused)) static void loop_run(struct vcpu *vcpu)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };

	while (!vcpu->idle || vcpu->core.cpu.activity == X86_RUNNING)
		if (!vcpu_run_once(vcpu, &no_limit))
			return;
	vcpu_state(vcpu, X86_GPRS);
}
