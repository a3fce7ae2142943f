/* SPDX-License-Identifier: MIT */
/* Code that another processor has changed, of which this one is not told yet, when its block becomes hot: the old code goes on, whole, and no mixture
 * of the two is written down. SDM volume 3, 9.1.3. */
#include "engine/bt/bt.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x1000
#define WARM (BT_HEAT / 2)
#define RUNS (5 * BT_HEAT)

static const uint8_t loop[] = {
	0x83, 0xc0, 0x05, /* 1: add eax, 5 */
	0x49,             /*    dec ecx */
	0x75, 0xfa,       /*    jnz 1b */
	0xf4,             /*    hlt */
};
static struct vm *vm;

static void prepare(void)
{
	loop_prepare(vm, CODE, loop, sizeof(loop));
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
}

static void run(unsigned count)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	cpu->gpr[RAX] = cpu->gpr[RDX] = 0;
	cpu->gpr[RCX] = count;
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->activity = X86_RUNNING;
	vcpu_changed(vcpu, X86_GPRS);
	loop_run(vcpu);
}

/* Byte `at` of the loop becomes `value`; the new loop adds 5 or `value` to EAX or EDX. */
static void changes(const char *what, unsigned at, uint8_t value, uint32_t eax, uint32_t edx)
{
	const struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	const struct bt *bt = bt_of(vm->vcpu[0]);
	uint64_t hot;

	prepare();
	run(WARM);
	hot = bt->stat.hot;
	*((uint8_t *)memory_host(vm, CODE, sizeof(loop)) + at) = value;
	run(RUNS);
	ok(cpu->gpr[RAX] == 5 * RUNS && !cpu->gpr[RDX] && bt->stat.hot == hot + 1, "%s: nobody told the processor, which runs the old code", what);
	guest_write(vm, CODE + at, &value, 1);
	run(RUNS);
	ok(cpu->gpr[RAX] == eax * RUNS && cpu->gpr[RDX] == edx * RUNS && bt->stat.hot == hot + 2, "%s: it was told, and runs the new", what);
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	changes("another immediate", 2, 7, 7, 0);
	changes("another register", 1, 0xc2, 0, 5);
	vm_destroy(vm);
	return done();
}
