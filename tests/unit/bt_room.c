/* SPDX-License-Identifier: MIT */
/* Code that needs as much out of line as there may be: a fast copy each of whose instructions has four ways to leave it. Programs of 32 bits may be made
 * of nothing else. */
#include "engine/bt/bt.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x1000
#define DATA 0x3000
#define RUNS (2 * BT_HEAT)

/* A block of as many instructions as one may have: the last two are DEC ECX and JNZ to the first. */
static const uint8_t fld[] = { 0x64, 0xdb, 0x28 }; /* fld tbyte [fs:eax]: is x87 state loaded, is FS without limit, is it in the page, is there an entry? */
static const uint8_t movq[] = { 0x64, 0x0f, 0x6f, 0x00 }; /* movq mm0, [fs:eax] */
static const uint8_t push[] = { 0x64, 0xff, 0x30 }; /* push dword [fs:eax] */

static void runs(struct vm *vm, const char *what, const uint8_t *insn, unsigned size)
{
	uint8_t code[BT_BLOCK_MAX * 15];
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	uint64_t hot = bt_of(vm->vcpu[0])->stat.hot;
	unsigned at = 0;

	for (unsigned n = 0; n < BT_BLOCK_MAX - 2; n++, at += size)
		memcpy(code + at, insn, size);
	int32_t back = -(int32_t)(at + 7);
	memcpy(code + at, "\x49\x0f\x85", 3);
	memcpy(code + at + 3, &back, 4);
	code[at + 7] = 0xf4; /* hlt */
	loop_prepare(vm, CODE, code, at + 8);
	cpu->cr4 = CR4_OSFXSR;
	cpu->xsave.legacy.fcw = 0x37f;
	cpu->gpr[RAX] = DATA;
	cpu->gpr[RCX] = RUNS;
	cpu->gpr[RSP] = 2 * MiB;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	loop_run(vm->vcpu[0]);
	ok(!cpu->gpr[RCX] && cpu->gpr[X86_GPR_RIP] == CODE + at + 8 && bt_of(vm->vcpu[0])->stat.hot > hot, "%s: hot code ran to its end", what);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	struct vm *vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	runs(vm, "x87 loads of 10 bytes through FS", fld, sizeof(fld));
	runs(vm, "MMX loads through FS", movq, sizeof(movq));
	runs(vm, "pushes of memory through FS", push, sizeof(push));
	vm_destroy(vm);
	return done();
}
