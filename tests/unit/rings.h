/* SPDX-License-Identifier: MIT */
/* Random programs with a kernel, in code of each kind, for tests that compare bt with interp: what is written into flat_ram, and two machines that run it. */
#pragma once
#include "flat_vm.h"
#include "vm/memory.h"
#include "vm_test.h"

enum kind { KERNEL32, USER32, COMPATIBLE, KERNEL64, USER64, KINDS };
static const char *const kind_names[KINDS] = { "32-bit kernel", "32-bit user", "compatibility mode", "64-bit kernel", "64-bit user" };
static const enum flat_mode kind_modes[KINDS] = { FLAT_PROTECTED32, FLAT_PROTECTED32, FLAT_COMPAT32, FLAT_LONG, FLAT_LONG };
static inline bool is_64(enum kind kind) { return kind == KERNEL64 || kind == USER64; }
static inline bool is_long(enum kind kind) { return kind >= COMPATIBLE; }
static inline unsigned cpl_of(enum kind kind) { return kind == KERNEL32 || kind == KERNEL64 ? 0 : 3; }

#define RINGS_MEMORY (4 * MiB)

static uint64_t random_state;

static unsigned any(unsigned below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned)(random_state >> 33) % below;
}

/* --- code --- */

static uint8_t *at; /* in flat_ram */

static void put_bytes(const char *code, unsigned size)
{
	memcpy(at, code, size);
	at += size;
}
#define PUT(code) put_bytes(code, sizeof(code) - 1)

static void put32(uint32_t value)
{
	memcpy(at, &value, 4);
	at += 4;
}

static uint32_t here(void)
{
	return (uint32_t)(at - flat_ram);
}

/* --- both machines --- */

static bool rings_same(struct vm *a, struct vm *b)
{
	const struct x86_cpu *x = &a->vcpu[0]->core.cpu, *y = &b->vcpu[0]->core.cpu;

	vcpu_state(a->vcpu[0], X86_ALL_GROUPS);
	vcpu_state(b->vcpu[0], X86_ALL_GROUPS);
	return !memcmp(x->gpr, y->gpr, sizeof(x->gpr)) && x->rflags == y->rflags && !memcmp(x->seg, y->seg, SEG_COUNT * sizeof(x->seg[0])) &&
	       !memcmp(&x->xsave.legacy, &y->xsave.legacy, sizeof(x->xsave.legacy)) && x->cr2 == y->cr2 && !memcmp(x->dr, y->dr, sizeof(x->dr));
}

static bool rings_same_memory(struct vm *a, struct vm *b)
{
	return !memcmp(memory_host(a, 0, RINGS_MEMORY), memory_host(b, 0, RINGS_MEMORY), RINGS_MEMORY);
}

static bool rings_runs(const struct vm *vm)
{
	return vm->vcpu[0]->core.cpu.activity == X86_RUNNING && !vm->end;
}

/* So many instructions, or until it halts. */
static void rings_run(struct vm *vm, unsigned count)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct run_limit limit = { .icount = vcpu->core.icount + count };

	while (vcpu->core.icount < limit.icount && rings_runs(vm) && vcpu_run_once(vcpu, &limit))
		;
}
