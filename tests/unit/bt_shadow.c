/* SPDX-License-Identifier: MIT */
/* No interrupt comes before the instruction behind STI, not even when its block becomes hot at that moment, and goes for want of room: an NMI comes while the
 * oldest part of the code cache, which has the block, is emptied. SDM volume 2, STI. Nor when the block is not to be had again, because its page is at a hole in
 * memory by then, and the processor has found that out. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x20000
#define HANDLER 0x28000  /* of NMI */
#define UNDEFINED 0x28010 /* of #UD */
#define DIRECTORY 0x40000
#define TABLE 0x41000
#define HOLE 0xd0000000u
#define LIMIT 100000

static const uint8_t code[] = {
	0x40,             /* 1: inc eax */
	0xeb, 0x00,       /*    jmp on */
	0x49,             /*    dec ecx */
	0x75, 0xfa,       /*    jnz 1b */
	0xf4,             /*    hlt */
};
static const uint8_t handler[] = { 0xf4 };
static struct vm *vm;
static bool armed, moves; /* the code's page, then */

static uint32_t *word_at(gpa_t gpa)
{
	return (uint32_t *)memory_host(vm, gpa, 4);
}

/* Without INVLPG: a processor may forget a translation whenever it likes. */
static void move(struct x86_core *core)
{
	*word_at(TABLE + CODE / X86_PAGE_SIZE * 4) = HOLE | 3;
	core->fetch[CODE / X86_PAGE_SIZE % FETCH_ENTRIES].tag = TLB_INVALID | 2;
}

/* That the time is taken which emptying a part costs, is the moment. */
int clock_gettime(clockid_t id, struct timespec *t)
{
	if (armed && id == CLOCK_THREAD_CPUTIME_ID) {
		armed = false;
		if (moves)
			move(&vm->vcpu[0]->core);
		vm->vcpu[0]->core.cpu.nmi_pending = 1;
		vcpu_kick(vm->vcpu[0]);
	}
	return (int)syscall(SYS_clock_gettime, id, t);
}

static void run(unsigned shadow, unsigned rounds, bool counting)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	struct run_limit limit = { .icount = counting ? vcpu->core.icount + LIMIT : UINT64_MAX };

	cpu->activity = X86_RUNNING;
	cpu->interrupt_shadow = (uint8_t)shadow;
	cpu->gpr[RAX] = 0;
	cpu->gpr[RCX] = rounds;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	while (cpu->activity == X86_RUNNING && vcpu_run_once(vcpu, &limit))
		;
	vcpu_state(vcpu, X86_ALL_GROUPS);
}

static void prepare(struct flat *f)
{
	flat_mode(f, FLAT_PROTECTED32, 0);
	flat_set_gate(f, VECTOR_NMI, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	memcpy(flat_ram + CODE, code, sizeof(code));
	memcpy(flat_ram + HANDLER, handler, sizeof(handler));
	flat_set_gate(f, VECTOR_UD, FLAT_CODE0, UNDEFINED, SYS_INT, 0, 0);
	flat_put(DIRECTORY, 4, TABLE | 3);
	for (unsigned n = 0; n < 1024; n++)
		flat_put(TABLE + 4 * n, 4, n * X86_PAGE_SIZE | 3);
	f->core.cpu.cr3 = DIRECTORY;
	f->core.cpu.cr0 |= CR0_PG;
	flat_give(vm, f, 2 * MiB);
}

/* The block is in the first part, and the last one is being filled: there is no room, and the first is next. The block lacks one run. */
static bool set_up(struct bt *bt)
{
	uint32_t n = bt_part_start(bt, 0).block;

	while (n < bt_part_end(bt, 0).block && bt->block[n].rip != CODE)
		n++;
	if (n == bt_part_end(bt, 0).block)
		return false;
	while (bt->part != BT_PARTS - 1)
		bt_parts_advance(bt);
	bt->heat[n] = 1;
	bt->code_used = bt->end.code - BT_FAST_ROOM / 2;
	return true;
}

static void behind_sti(struct flat *f, bool counting)
{
	const struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	struct bt *bt = bt_of(vm->vcpu[0]);

	prepare(f);
	run(0, 2, counting);
	if (!ok(cpu->gpr[RAX] == 2 && set_up(bt), "the block is in the oldest part"))
		return;
	uint64_t before = vm->vcpu[0]->core.icount;
	armed = true;
	run(X86_SHADOW_STI, 1000, counting);
	ok(!armed && bt->part == 0 && bt->counting == counting, "it went when it became hot, and an NMI came");
	if (moves) {
		ok(!cpu->gpr[RAX] && *word_at(cpu->gpr[RSP]) == UNDEFINED && *word_at(cpu->gpr[RSP] + 12) == CODE,
		   "%s: the instruction behind STI is one of a hole, #UD, and the NMI comes then", counting ? "instructions are counted" : "they are not");
		return;
	}
	ok(cpu->gpr[RAX] == 1, "%s: the instruction behind STI ran first, and no more than its block (%lu)",
	   counting ? "instructions are counted" : "they are not", cpu->gpr[RAX]);
	if (counting)
		ok(vm->vcpu[0]->core.icount - before == 3, "that is two instructions, and HLT in the handler (%lu)", vm->vcpu[0]->core.icount - before);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	struct flat *f = flat_new("max");
	for (unsigned n = 0; n < 4; n++) {
		moves = n & 1;
		behind_sti(f, n & 2);
		bt_cache_flush(bt_of(vm->vcpu[0]), BT_FLUSH_CHANGES);
	}
	vm_destroy(vm);
	return done();
}
