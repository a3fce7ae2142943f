/* SPDX-License-Identifier: MIT */
/* Calls make the host's processor expect a return, and returns find the place: who leads there, how often not, and what is left when it is gone. */
#include "engine/bt/bt.h"
#include "vm_test.h"
#include "bt_endless.h"
#include "bt_loop.h"

#define CODE 0x1000
#define FUNCTION 0x20123
#define STACK 0x8000
#define ROUNDS 20000
#define FEW 100       /* returns that went astray: until all is translated and has become hot */
#define RUN_US 20000

static struct vm *vm;
static uint64_t astray; /* returns of the last run() that went elsewhere */

static const uint8_t calls[] = {
	0xe8, 0x1e, 0xf1, 0x01, 0x00, /* 1: call FUNCTION */
	0xff, 0xd6,                   /*    call esi */
	0x49,                         /*    dec ecx */
	0x75, 0xf6,                   /*    jnz 1b */
	0xf4,                         /*    hlt */
};
static const uint8_t calls_once[] = {
	0xe8, 0x1e, 0xf1, 0x01, 0x00, /* 1: call FUNCTION */
	0x0f, 0x0b,                   /*    ud2, which it skips */
	0x49,                         /*    dec ecx */
	0x75, 0xf6,                   /*    jnz 1b */
	0xf4,                         /*    hlt */
};
static const uint8_t returns[] = {
	0x83, 0xc0, 0x01, /* add eax, 1 */
	0xc3,             /* ret */
};
static const uint8_t skips[] = {
	0x83, 0x04, 0x24, 0x00, /* add dword [esp], 0: or what is to be skipped */
	0x40,                   /* inc eax */
	0xc3,                   /* ret */
};
/* fib(ebx), as C compilers would have it but for the sum, which is in eax. */
static const uint8_t recursive[] = {
	0x83, 0xfb, 0x02,             /* fib: cmp ebx, 2 */
	0x73, 0x02,                   /*      jae 1f */
	0x40,                         /*      inc eax */
	0xc3,                         /*      ret */
	0x53,                         /* 1:   push ebx */
	0x4b,                         /*      dec ebx */
	0xe8, 0xf2, 0xff, 0xff, 0xff, /*      call fib */
	0x8b, 0x1c, 0x24,             /*      mov ebx, [esp] */
	0x83, 0xeb, 0x02,             /*      sub ebx, 2 */
	0xe8, 0xe7, 0xff, 0xff, 0xff, /*      call fib */
	0x5b,                         /*      pop ebx */
	0xc3,                         /*      ret */
};
static const uint8_t calls_recursive[] = {
	0xe8, 0x1e, 0xf1, 0x01, 0x00, /* call FUNCTION */
	0xf4,                         /* hlt */
};
/* For ever, and never a jump back, nor another call: RET finds the same return address each time. */
static const uint8_t endless[] = {
	0x90,                         /*    nop */
	0xe8, 0x06, 0x00, 0x00, 0x00, /*    call 2f */
	0xbc, 0xfc, 0x7f, 0x00, 0x00, /* 1: mov esp, STACK - 4 */
	0xc3,                         /*    ret */
	0xc3,                         /* 2: ret */
};

static void begin(const uint8_t *code, size_t size, uint32_t rounds)
{
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;

	loop_prepare(vm, CODE, code, size);
	cpu->gpr[RAX] = 0;
	cpu->gpr[RBX] = cpu->gpr[RCX] = rounds;
	cpu->gpr[RSP] = STACK;
	cpu->gpr[RSI] = FUNCTION;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
}

/* What EAX comes to. */
static uint32_t run(const uint8_t *code, size_t size, uint32_t rounds)
{
	const struct bt_state *s = bt_of(vm->vcpu[0])->state;
	uint64_t before = s->astrays;

	begin(code, size, rounds);
	loop_run(vm->vcpu[0]);
	astray = s->astrays - before;
	return (uint32_t)vm->vcpu[0]->core.cpu.gpr[RAX];
}

/* Places where a return is expected; -1: one of them is not in the code cache. */
static int expected(const struct bt *bt)
{
	int count = 0;

	for (unsigned which = 0; which < 2; which++)
		for (unsigned n = 0; n < BT_RETURN_COUNT; n++) {
			const uint8_t *to = bt->state->returns[which][n];
			if (to == (const uint8_t *)(uintptr_t)bt_astray_entry)
				continue;
			if (to < bt->code || to >= bt->code + bt->code_used)
				return -1;
			count++;
		}
	return count;
}

static void test_endless(void)
{
	struct vcpu *vcpu = vm->vcpu[0];
	const struct bt *bt = bt_of(vcpu);
	uint64_t before = bt->state->astrays;

	begin(endless, sizeof(endless), 0);
	endless_run(vcpu, RUN_US);
	ok(bt->state->astrays - before < FEW && (uint32_t)vcpu->core.cpu.gpr[RSP] <= STACK, "returns without an end, and no call, are left");
}

int main(void)
{
	uint32_t sum;

	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 64 * MiB, 1);
	struct bt *bt = bt_of(vm->vcpu[0]);
	endless_begin(vm->vcpu[0]);
	guest_write(vm, FUNCTION, returns, sizeof(returns));
	sum = run(calls, sizeof(calls), ROUNDS);
	ok(sum == 2 * ROUNDS && astray < FEW, "returns of %d calls to another page: %lu went astray", 2 * ROUNDS, astray);
	ok(expected(bt) > 0, "they are expected");
	bt_jumps_clear(bt, 1);
	ok(!expected(bt), "what addresses mean has changed: no return is expected");
	sum = run(calls, sizeof(calls), ROUNDS);
	ok(sum == 2 * ROUNDS && astray < FEW && expected(bt) > 0, "and again they are (%lu astray)", astray);
	bt_cache_flush(bt, BT_FLUSH_CHANGES);
	ok(!expected(bt), "without any code, none is");
	guest_write(vm, FUNCTION, skips, sizeof(skips));
	sum = run(calls, sizeof(calls), ROUNDS);
	ok(sum == 2 * ROUNDS && astray < FEW, "a return address that was written again (%lu astray)", astray);
	guest_write(vm, FUNCTION + 3, (uint8_t[]){ 2 }, 1); /* over UD2 */
	sum = run(calls_once, sizeof(calls_once), ROUNDS);
	ok(sum == ROUNDS && astray >= ROUNDS - FEW, "and one that is another: %lu of %d went astray", astray, ROUNDS);
	guest_write(vm, FUNCTION, recursive, sizeof(recursive));
	sum = run(calls_recursive, sizeof(calls_recursive), 24);
	ok(sum == 75025 && astray < sum / 8, "recursive calls, fast copies of which are left where calls are open: %lu astray", astray);
	ok(expected(bt) > 0, "these are expected, too");
	test_endless();
	vm_destroy(vm);
	return done();
}
