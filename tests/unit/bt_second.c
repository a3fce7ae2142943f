/* SPDX-License-Identifier: MIT */
/* Two functions whose addresses have the same place in the first jump table, called in turns: one of them is found by the second table, without C code,
 * through a door that goes with its block. */
#include "engine/bt/bt.h"
#include "vm_test.h"
#include "bt_doors.h"
#include "x86/paging.h"
#include "bt_loop.h"

#define CODE 0x1000
#define FIRST 0x20123
#define ROUNDS 20000
#define FEW 200 /* calls of C code: until all is translated and has become hot */

static struct vm *vm;

static const uint8_t loop[] = {
	0xff, 0xd6, /* 1: call esi */
	0xff, 0xd7, /*    call edi */
	0x49,       /*    dec ecx */
	0x75, 0xf9, /*    jnz 1b */
	0xf4,       /*    hlt */
};
static const uint8_t function[] = {
	0x83, 0xc0, 0x01, /* add eax, 1 */
	0xc3,             /* ret */
};

/* Another address with the same place in the first table. */
static uint32_t beside(uint32_t address)
{
	uint32_t other = address + (uint32_t)X86_PAGE_SIZE;

	while (bt_jump_slot(other) != bt_jump_slot(address))
		other++;
	return other;
}

static void put(uint32_t address, uint8_t adds)
{
	uint8_t bytes[sizeof(function)];

	memcpy(bytes, function, sizeof(bytes));
	bytes[2] = adds;
	guest_write(vm, address, bytes, sizeof(bytes));
}

/* What the functions add up to. */
static uint32_t run(uint32_t second, uint32_t rounds)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	cpu->gpr[RAX] = 0;
	cpu->gpr[RCX] = rounds;
	cpu->gpr[RSP] = 0x8000;
	cpu->gpr[RSI] = FIRST;
	cpu->gpr[RDI] = second;
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->activity = X86_RUNNING;
	vcpu_changed(vcpu, X86_GPRS);
	loop_run(vcpu);
	return (uint32_t)cpu->gpr[RAX];
}

/* 1: the second table has this address, 0: not; -1: it has something that is gone. */
static int leads(const struct bt *bt, uint32_t address)
{
	bool found = false;

	for (unsigned slot = 0; slot < BT_SECOND_COUNT; slot++) {
		const void *to = bt->state->seconds[1][slot];
		const struct bt_door *door = to == (void *)(uintptr_t)bt_unknown_entry ? NULL : door_at(bt, to);
		if (to == (void *)(uintptr_t)bt_unknown_entry)
			continue;
		if (!door || !door->second || door->block == BT_NO_BLOCK || bt->block[door->block].dead || bt_second_slot(door->rip) != slot)
			return -1;
		found |= door->rip == address;
	}
	return found;
}

static uint64_t calls(const struct bt *bt)
{
	return bt->stat.dispatches + bt->stat.quick_dispatches;
}

int main(void)
{
	uint32_t second = beside(FIRST);

	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 64 * MiB, 1);
	struct bt *bt = bt_of(vm->vcpu[0]);
	loop_prepare(vm, CODE, loop, sizeof(loop));
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	put(FIRST, 1);
	put(second, 10);
	ok(run(second, ROUNDS) == ROUNDS * 11u, "both functions are called");
	ok(calls(bt) < FEW && leads(bt, second) == 1 && bt->state->supervisor, "the second table has one of them: C code was called %lu times", calls(bt));
	put(second, 20);
	ok(leads(bt, second) == 0, "a function that changes is in it no more");
	ok(run(second, ROUNDS) == ROUNDS * 21u && leads(bt, second) == 1, "it is called as it is now");
	put(FIRST, 2);
	ok(run(second, 10) == 220, "the other one changes");
	bt_jumps_clear(bt, 1);
	ok(leads(bt, second) == 0 && run(second, ROUNDS) == ROUNDS * 22u, "what addresses mean has changed: both tables are empty");
	bt_cache_flush(bt, BT_FLUSH_CHANGES);
	ok(leads(bt, second) == 0 && run(second, ROUNDS) == ROUNDS * 22u, "so they are without any code");
	vm_destroy(vm);
	return done();
}
