/* SPDX-License-Identifier: MIT */
/* Code that needs as much out of line as there may be: a fast copy each of whose instructions has four ways to leave it (programs of 32 bits may be made
 * of nothing else), and one each of whose instructions may leave it while calls are open, and is long itself. */
#include "engine/bt/bt.h"
#include "flat_vm.h"
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

/* --- calls that do not return --- */

#define MEMORY (4 * MiB)
#define PAGE_OF_CODE 0x20000
#define POINTERS 0x30000
#define USER_STACK 0x40000
#define END 0x50000          /* of the program: a gate leads there */
#define PDPT 0x14000         /* of the addresses below */
#define BASE 0x200000000000  /* memory is there, */
#define APART (2 * MiB)      /* and there once more, so that its code is for any address */
#define CALLS 120

static const uint8_t call[] = { 0x64, 0x43, 0xff, 0x94, 0xfb }; /* call qword [fs:r11 + r15 * 8 + ...], which leads to the next one */
static const uint8_t again[] = {
	0x48, 0x81, 0xc4, 0xc0, 0x03, 0x00, 0x00, /* add rsp, 8 * CALLS */
	0xff, 0xc9,                               /* dec ecx */
	0x0f, 0x85,                               /* jnz to the first one */
};

static void put_calls(struct vm *vm, struct flat *f)
{
	unsigned at = PAGE_OF_CODE;

	memset(flat_ram, 0, MEMORY);
	flat_mode(f, FLAT_LONG, 3);
	flat_put(FLAT_PML4 + 8 * (BASE >> 39 & 511), 8, PDPT | PTE_P | PTE_W | PTE_U);
	flat_put(PDPT + 8 * (BASE >> 30 & 511), 8, (PDPT + 0x1000) | PTE_P | PTE_W | PTE_U);
	for (unsigned n = 0; n < 2; n++)
		flat_put(PDPT + 0x1000 + 8 * ((BASE >> 21 & 511) + n), 8, PTE_P | PTE_W | PTE_U | PTE_PS);
	for (unsigned n = 0; n < CALLS; n++, at += sizeof(call) + 4) {
		memcpy(flat_ram + at, call, sizeof(call));
		flat_put(at + sizeof(call), 4, 0x200 + 8 * n);
	}
	memcpy(flat_ram + at, again, sizeof(again));
	at += sizeof(again);
	flat_put(at, 4, PAGE_OF_CODE - (at + 4));
	memcpy(flat_ram + at + 4, "\xcd\x81", 2); /* int 0x81 */
	flat_put(END, 1, 0xf4);
	flat_set_gate(f, 0x81, FLAT_CODE64, END, SYS_INT, 3, 0);
	flat_put(FLAT_TSS + 4, 8, USER_STACK + 0x1000);
	flat_give(vm, f, MEMORY);
}

static bool run_calls(struct vm *vm, const struct flat *f, uint64_t base, unsigned rounds)
{
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;

	for (unsigned n = 0; n < CALLS; n++)
		guest_write(vm, POINTERS + 0x200 + 8 * n, &(uint64_t){ base + PAGE_OF_CODE + (n + 1) * (sizeof(call) + 4) }, 8);
	vcpu_reset(vm->vcpu[0], false);
	*cpu = f->core.cpu;
	cpu->seg[SEG_FS].base = base + POINTERS;
	cpu->gpr[RCX] = rounds;
	cpu->gpr[RSP] = base + USER_STACK;
	cpu->gpr[X86_GPR_RIP] = base + PAGE_OF_CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	loop_run(vm->vcpu[0]);
	return !cpu->gpr[RCX] && !vm->end;
}

/* Steps of the longest fast copy; 0: one reaches beyond the part of the cache that it is in. */
static unsigned longest(const struct bt *bt)
{
	unsigned steps = 0;

	for (unsigned part = 0; part <= bt->part; part++)
		for (uint32_t n = bt_part_start(bt, part).fast; n < bt_part_end(bt, part).fast; n++) {
			if (bt->fast[n].code_end > bt_part_start(bt, part + 1).code)
				return 0;
			steps = MAX(steps, bt->fast[n].places);
		}
	return steps;
}

static void calls(struct vm *vm)
{
	struct bt *bt = bt_of(vm->vcpu[0]);
	struct flat *f = flat_new("max");
	unsigned wrong = 0, beyond = 0, most = 0, least = UINT32_MAX, times = 0;

	put_calls(vm, f);
	for (uint32_t left = BT_FAST_ROOM; left < 6 * BT_FAST_ROOM; left += 6007, times++) {
		bt_cache_flush(bt, BT_FLUSH_CHANGES);
		wrong += !run_calls(vm, f, BASE, 10);
		bt->code_used = bt->end.code - left;
		wrong += !run_calls(vm, f, BASE + APART, RUNS);
		unsigned steps = longest(bt);
		beyond += !steps;
		most = MAX(most, steps);
		least = MIN(least, steps);
	}
	ok(!wrong && !beyond, "calls that do not return: hot code is within its part of the cache, in %u of %u cases", times - beyond, times);
	ok(least > 1 && most >= CALLS, "it is of %u to %u instructions", least, most);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	struct vm *vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	runs(vm, "x87 loads of 10 bytes through FS", fld, sizeof(fld));
	runs(vm, "MMX loads through FS", movq, sizeof(movq));
	runs(vm, "pushes of memory through FS", push, sizeof(push));
	calls(vm);
	vm_destroy(vm);
	return done();
}
