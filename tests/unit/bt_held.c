/* SPDX-License-Identifier: MIT */
/* Instructions with two accesses in hot 64-bit code, PUSH and CALL of memory: the first one overwrites a register that held the host address of the second one's
 * group. What it loads, a pointer, is the address of memory of this test, which must stay as it is: no host fault need tell that a pointer of the guest was taken
 * for a host address. */
#include "engine/bt/translate.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x20000
#define FUNCTION (CODE + 0x100)
#define DATA 0x30000
#define STACK 0x40000
#define RUNS (3 * BT_HEAT)
#define MEMORY (2 * MiB)
#define PDPT 0x14000 /* of the pages below */

/* At this address the guest's memory is a second time, for the guest. */
static uint8_t bait[MEMORY] __attribute__((aligned(2 * MiB)));

static const struct { const char *what, *code; unsigned size; } programs[] = {
#define PROGRAM(what, code) { what, code, sizeof(code) - 1 }
#define PUSHES "\x50\x52\x55\x57"         /* push rax, rdx, rbp, rdi */
#define POPS "\x5f\x5d\x5a\x58"
#define AGAIN(back) "\xff\xc9\x75" back "\xf4" /* dec ecx; jnz; hlt */
	PROGRAM("push [rsi]", PUSHES "\xff\x36" "\x41\x59" POPS "\x48\x01\xd0" AGAIN("\xed")), /* pop r9; add rax, rdx */
	PROGRAM("push [rsi + rbx * 8]", PUSHES "\xff\x34\xde" "\x41\x59" POPS "\x48\x01\xd0" AGAIN("\xec")),
	PROGRAM("push [r10]", PUSHES "\x41\xff\x32" "\x41\x59" POPS "\x48\x01\xd0" AGAIN("\xec")),
	PROGRAM("two of them", PUSHES "\xff\x36\x41\xff\x32" "\x41\x59\x41\x58" POPS "\x48\x01\xd0" AGAIN("\xe8")),
	PROGRAM("push [rsi] at another address each time", PUSHES "\xff\x36" "\x4c\x01\xe6" "\x41\x59" POPS "\x48\x01\xd0" AGAIN("\xea")), /* add rsi, r12 */
	PROGRAM("push [rsi + rbx * 8] at another address each time", PUSHES "\xff\x34\xde" "\x4c\x01\xe6" "\x41\x59" POPS "\x48\x01\xd0" AGAIN("\xe9")),
	PROGRAM("call [rsi]", PUSHES "\xff\x16" POPS "\x48\x01\xd0" AGAIN("\xef")),
	PROGRAM("call [rsi + rbx * 8]", PUSHES "\xff\x14\xde" POPS "\x48\x01\xd0" AGAIN("\xee")),
	PROGRAM("call [r10]", PUSHES "\x41\xff\x12" POPS "\x48\x01\xd0" AGAIN("\xee")),
#undef PROGRAM
};

static void load(struct vm *vm, struct flat *f, unsigned program)
{
	uint64_t base = (uint64_t)(uintptr_t)bait;
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &f->core.cpu;

	memset(flat_ram, 0, MEMORY);
	flat_mode(f, FLAT_LONG, 0);
	flat_put(FLAT_PML4 + 8 * (base >> 39 & 511), 8, PDPT | PTE_P | PTE_W);
	flat_put(PDPT + 8 * (base >> 30 & 511), 8, (PDPT + 0x1000) | PTE_P | PTE_W);
	flat_put(PDPT + 0x1000 + 8 * (base >> 21 & 511), 8, PTE_P | PTE_W | PTE_PS);
	memcpy(flat_ram + CODE, programs[program].code, programs[program].size);
	flat_put(FUNCTION, 1, 0xc3);
	for (unsigned n = 0; n < 16; n++)
		flat_put(DATA + 8 * n, 8, base + FUNCTION);
	cpu->gpr[RAX] = 1, cpu->gpr[RDX] = 2, cpu->gpr[RBP] = 3, cpu->gpr[RDI] = 4, cpu->gpr[RBX] = 1;
	cpu->gpr[RCX] = RUNS;
	cpu->gpr[RSI] = base + DATA;
	cpu->gpr[R10] = base + DATA + 0x40;
	cpu->gpr[RSP] = base + STACK;
	cpu->gpr[X86_GPR_RIP] = base + CODE;
	flat_give(vm, f, MEMORY);
	loop_run(vcpu);
	vcpu_state(vcpu, X86_ALL_GROUPS);
}

static unsigned looks(const struct bt *bt, uint32_t from, uint32_t to)
{
	unsigned count = 0;

	for (; from + 4 <= to; from++)
		count += !memcmp(bt->code + from, "\x48\x8b\x0c\xcc", 4);
	return count;
}

/* Is the stack access of the instruction in a group of its fast copy? Then the copy has fewer looks at the table (MOV RCX, [RSP + RCX * 8]) than the plain code of
 * its instructions. */
static bool is_grouped(const struct bt *bt)
{
	unsigned fast = 0, plain = 0;

	for (uint32_t n = bt_part_start(bt, bt->part).fast; n < bt->fasts; n++) {
		const struct bt_fast *f = &bt->fast[n];
		const struct bt_block *b = &bt->block[f->block];
		if (b->dead || (b->gpa & (X86_PAGE_SIZE - 1)))
			continue;
		fast += looks(bt, f->code, f->code_end);
		for (unsigned p = 0; p < f->places; p++) {
			const struct bt_insn *rec = &bt->insn[bt->place[f->place + p].insn];
			plain += looks(bt, rec[0].code, rec[1].code);
		}
	}
	return fast && fast < plain;
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	struct vm *want = test_vm_engine("interp", CLOCK_HOST, 4 * MiB, 1), *got = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	struct flat *f = flat_new("max");
	struct bt *bt = bt_of(got->vcpu[0]);

	for (unsigned n = 0; n < ARRAY_SIZE(programs); n++) {
		const struct x86_cpu *a = &want->vcpu[0]->core.cpu, *b = &got->vcpu[0]->core.cpu;
		uint64_t hot = bt->stat.hot, faults = bt->stat.faults - bt->stat.upgrades;
		unsigned touched = 0;
		load(want, f, n);
		load(got, f, n);
		for (unsigned k = 0; k < MEMORY; k++)
			touched += bait[k] != 0;
		ok(!memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && !memcmp(memory_host(want, 0, MEMORY), memory_host(got, 0, MEMORY), MEMORY) && !want->end,
		   "%s: as under interp", programs[n].what);
		ok(!touched && bt->stat.faults - bt->stat.upgrades == faults && bt->stat.hot > hot && is_grouped(bt), "%s: in groups, and nothing else is written to", programs[n].what);
		memset(bait, 0, MEMORY);
	}
	vm_destroy(want);
	vm_destroy(got);
	return done();
}
