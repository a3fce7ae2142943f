/* SPDX-License-Identifier: MIT */
/* PCMPISTRI and PCMPESTRI, whose result is in RCX, a scratch register of translated code: plain and hot, they come to what they do under interp, and need no exec
 * function but where an operand crosses a page. SDM volume 2, 4.1. */
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x20000
#define DATA 0x30000
#define COPY 0x38000
#define STACK 0x40000
#define RUNS (2 * BT_HEAT)
#define MEMORY (2 * MiB)

#define AGAIN(back) \
	"\x9c\x5b"         /* pushfq; pop rbx */ \
	"\x49\x01\xd9"     /* add r9, rbx */ \
	"\x49\xc1\xc1\x05" /* rol r9, 5 */ \
	"\x49\x01\xc9"     /* add r9, rcx */ \
	"\x48\xff\xc6"     /* inc rsi */ \
	"\x41\xff\xc8"     /* dec r8d */ \
	"\x75" back "\xf4"
static const struct { const char *what, *code; unsigned size, op; } programs[] = {
#define PROGRAM(what, op, code) { what, code, sizeof(code) - 1, op }
	PROGRAM("pcmpistri xmm1, [rsi]", X86_OP_PCMPISTRI, "\x66\x0f\x3a\x63\x0e\x0c" AGAIN("\xe6")),
	PROGRAM("pcmpistri xmm1, xmm2", X86_OP_PCMPISTRI, "\xf3\x0f\x6f\x16" "\x66\x0f\x3a\x63\xca\x1a" AGAIN("\xe2")), /* movdqu xmm2, [rsi] */
	PROGRAM("pcmpestri xmm1, [rsi]", X86_OP_PCMPESTRI, "\x66\x0f\x3a\x61\x0e\x00" AGAIN("\xe6")),
	PROGRAM("pcmpestri xmm1, [rsi] with REX.W", X86_OP_PCMPESTRI, "\x66\x48\x0f\x3a\x61\x0e\x44" AGAIN("\xe5")),
	PROGRAM("in the midst of a copy", X86_OP_PCMPISTRI, /* mov rbx, [rsi]; mov r9, [rsi + 8]; mov [rdi], rbx; pcmpistri xmm1, xmm2; mov [rdi + 8], r9; mov [rdi + 16], rcx */
		"\x48\x8b\x1e\x4c\x8b\x4e\x08\x48\x89\x1f" "\x66\x0f\x3a\x63\xca\x08" "\x4c\x89\x4f\x08\x48\x89\x4f\x10" "\x41\xff\xc8\x75\xe3\xf4"),
#undef PROGRAM
};

static void run(struct vm *vm, struct flat *f, unsigned program)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &f->core.cpu;
	uint32_t state = 1;

	memset(flat_ram, 0, MEMORY);
	flat_mode(f, FLAT_LONG, 0);
	memcpy(flat_ram + CODE, programs[program].code, programs[program].size);
	for (unsigned n = 0; n < RUNS + 16; n++) {
		state = state * 1664525 + 1013904223;
		flat_put(DATA + n, 1, state >> 28 ? 'a' + (state >> 24 & 7) : 0);
	}
	memcpy(&cpu->xsave.legacy.xmm[1], "abcdeabbacghfaa", 16);
	cpu->gpr[RAX] = 0x100000007, cpu->gpr[RDX] = 0x20000000c;
	cpu->gpr[RCX] = ~0ULL;
	cpu->gpr[R8] = RUNS;
	cpu->gpr[RSI] = DATA;
	cpu->gpr[RDI] = COPY;
	cpu->gpr[RSP] = STACK;
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->cr4 |= CR4_OSFXSR;
	flat_give(vm, f, MEMORY);
	loop_run(vcpu);
	vcpu_state(vcpu, X86_ALL_GROUPS);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	struct vm *want = test_vm_engine("interp", CLOCK_HOST, 4 * MiB, 1), *got = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	const struct x86_cpu *a = &want->vcpu[0]->core.cpu, *b = &got->vcpu[0]->core.cpu;
	const struct bt *bt = bt_of(got->vcpu[0]);
	struct flat *f = flat_new("max");

	for (unsigned n = 0; n < ARRAY_SIZE(programs); n++) {
		uint64_t hot = bt->stat.hot, exec = bt->stat.exec[programs[n].op], faults = bt->stat.faults - bt->stat.upgrades;
		run(want, f, n);
		run(got, f, n);
		exec = bt->stat.exec[programs[n].op] - exec;
		ok(!memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && a->rflags == b->rflags && !a->gpr[R8] &&
		   !memcmp(memory_host(want, 0, MEMORY), memory_host(got, 0, MEMORY), MEMORY), "%s: as under interp", programs[n].what);
		faults = bt->stat.faults - bt->stat.upgrades - faults; /* as what takes the result for a host address does */
		ok(bt->stat.hot > hot && exec < RUNS / 50 && !faults, "%s: in line (%lu times not), with %lu faults", programs[n].what, exec, faults);
	}
	vm_destroy(want);
	vm_destroy(got);
	return done();
}
