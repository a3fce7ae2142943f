/* SPDX-License-Identifier: MIT */
/* No interrupt comes before the instruction behind STI, not even when its block becomes hot at that moment, and goes for want of room: an NMI comes while the
 * oldest part of the code cache, which has the block, is emptied. SDM volume 2, STI. */
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "engine/bt/bt.h"
#include "flat_vm.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x20000
#define HANDLER 0x28000
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
static bool armed;

/* That the time is taken which emptying a part costs, is the moment. */
int clock_gettime(clockid_t id, struct timespec *t)
{
	if (armed && id == CLOCK_THREAD_CPUTIME_ID) {
		armed = false;
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
	behind_sti(f, false);
	bt_cache_flush(bt_of(vm->vcpu[0]), BT_FLUSH_CHANGES);
	behind_sti(f, true);
	vm_destroy(vm);
	return done();
}
