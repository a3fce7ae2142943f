/* SPDX-License-Identifier: MIT */
/* What bt makes of hot code when it has no more room: for a block, for a fast copy, for what either needs of the other tables; at every amount of room that
 * is left in the cache's first part, since each is found out at another moment. And what a fast copy does with pushes of memory. */
#include "engine/bt/translate.h"
#include "vm/memory.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x1000
#define STACK 0x8000
#define DATA 0x9000
#define RUNS (3 * BT_HEAT)

/* Several blocks, with calls, branches and pushes. */
static const uint8_t loop[] = {
	0xe8, 0x0f, 0x00, 0x00, 0x00, /* 1: call 3f */
	0x83, 0xc0, 0x05,             /*    add eax, 5 */
	0xa8, 0x08,                   /*    test al, 8 */
	0x74, 0x03,                   /*    jz 2f */
	0x83, 0xc7, 0x03,             /*    add edi, 3 */
	0x49,                         /* 2: dec ecx */
	0x75, 0xee,                   /*    jnz 1b */
	0xf4,                         /*    hlt */
	0x90,
	0xff, 0x36,                   /* 3: push dword [esi] */
	0xff, 0x76, 0x04,             /*    push dword [esi + 4] */
	0xff, 0x76, 0x08,             /*    push dword [esi + 8] */
	0x9c,                         /*    pushf */
	0x5b, 0x5b,                   /*    pop ebx twice */
	0x01, 0xda,                   /*    add edx, ebx */
	0x5b,                         /*    pop ebx */
	0x01, 0xda,                   /*    add edx, ebx */
	0x5b,                         /*    pop ebx */
	0x01, 0xda,                   /*    add edx, ebx */
	0xc3,                         /*    ret */
};
static const uint32_t words[] = { 1, 20, 300 };
static struct vm *vm;

static bool run(void)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;
	uint32_t threes = 0, eax = 0;

	for (unsigned n = 0; n < RUNS; n++)
		threes += (eax += 5) & 8 ? 3 : 0;
	cpu->gpr[RAX] = cpu->gpr[RDX] = cpu->gpr[RDI] = 0;
	cpu->gpr[RCX] = RUNS;
	cpu->gpr[RSI] = DATA;
	cpu->gpr[RSP] = STACK;
	cpu->gpr[X86_GPR_RIP] = CODE;
	cpu->activity = X86_RUNNING;
	vcpu_changed(vcpu, X86_GPRS);
	loop_run(vcpu);
	return cpu->gpr[RAX] == eax && cpu->gpr[RDX] == 321 * RUNS && cpu->gpr[RDI] == threes && !cpu->gpr[RCX] && cpu->gpr[RSP] == STACK;
}

/* In this part of the cache there is room for `left` of one thing. */
static void with_room(const char *what, uint32_t *used, const uint32_t *end, uint32_t most, uint32_t step)
{
	struct bt *bt = bt_of(vm->vcpu[0]);
	unsigned wrong = 0, advanced = 0, cold = 0, times = 0;

	for (uint32_t left = 0; left <= most; left += step, times++) {
		bt_cache_flush(bt, BT_FLUSH_CHANGES);
		uint64_t hot = bt->stat.hot;
		*used = *end - left;
		wrong += !run();
		advanced += bt->part != 0;
		cold += bt->stat.hot == hot;
	}
	ok(!wrong && !cold, "%s: with room for 0 to %u left, the loop runs right, and becomes hot (%u times)", what, most, times);
	ok(advanced && advanced < times, "%s: where there was too little, it went on in the next part (%u times)", what, advanced);
}

/* How often the host's code looks at the table: MOV RCX, [RSP + RCX * 8]. */
static unsigned looks(const struct bt *bt, uint32_t from, uint32_t to)
{
	unsigned count = 0;

	for (; from + 4 <= to; from++)
		count += !memcmp(bt->code + from, "\x48\x8b\x0c\xcc", 4);
	return count;
}

static bool is_return(struct bt *bt, const struct bt_insn *rec)
{
	struct insn i;

	bt_insn_get(bt, rec, &i);
	return i.op == X86_OP_RET;
}

static void test_pushes(void)
{
	struct bt *bt = bt_of(vm->vcpu[0]);
	unsigned plain = 0, fast = 0, exec = 0, rounds = 0;
	uint64_t faults = bt->stat.faults - bt->stat.upgrades;

	bt_cache_flush(bt, BT_FLUSH_CHANGES);
	memset(bt->stat.exec, 0, sizeof(bt->stat.exec));
	ok(run(), "pushes of memory in hot code");
	for (unsigned n = 0; n < bt->blocks; n++)
		plain += looks(bt, bt->block[n].code, bt->block[n].code_end);
	for (unsigned n = 0; n < bt->fasts; n++)
		if (bt->block[bt->fast[n].block].rip == CODE) {
			fast = looks(bt, bt->fast[n].code, bt->fast[n].code_end);
			for (unsigned k = 0; k < bt->fast[n].places; k++)
				rounds += is_return(bt, &bt->insn[bt->place[bt->fast[n].place + k].insn]);
		}
	for (unsigned n = 0; n < X86_OP_COUNT; n++)
		exec += n != X86_OP_HLT && bt->stat.exec[n];
	ok(rounds > 1 && fast && fast < plain * rounds / 2, "the fast copy of %u rounds looks at the table %u times, the plain code %u times a round", rounds, fast, plain);
	ok(!exec && bt->stat.faults - bt->stat.upgrades == faults, "and no exec function is needed, nor does anything fault");
}

/* As many accesses as an 8-bit number does not hold are a group, too. */
static void test_many(void)
{
	enum { ACCESSES_MANY = 256 };
	static uint8_t code[2 * ACCESSES_MANY + 6];
	struct bt *bt = bt_of(vm->vcpu[0]);
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	unsigned fast = ACCESSES_MANY;

	for (unsigned n = 0; n < ACCESSES_MANY; n++)
		memcpy(code + 2 * n, (uint8_t[]){ 0x89, 0x06 }, 2); /* mov [esi], eax */
	memcpy(code + 2 * ACCESSES_MANY, (uint8_t[]){ 0x01, 0xee, 0x49, 0x75, 1, 0xf4 }, 6); /* add esi, ebp; dec ecx; jnz over hlt */
	guest_write(vm, CODE, code, sizeof(code));
	int32_t back = -(int32_t)sizeof(code) - 5;
	guest_write(vm, CODE + sizeof(code), (uint8_t[]){ 0xe9 }, 1);
	guest_write(vm, CODE + sizeof(code) + 1, &back, 4);
	cpu->gpr[RBP] = 0;
	bt_cache_flush(bt, BT_FLUSH_CHANGES);
	run();
	for (unsigned n = 0; n < bt->fasts; n++)
		if (bt->block[bt->fast[n].block].rip == CODE)
			fast = looks(bt, bt->fast[n].code, bt->fast[n].code_end);
	ok(fast < ACCESSES_MANY / 4, "%u accesses are a group (%u looks)", ACCESSES_MANY, fast);
}

int main(void)
{
	struct bt *bt;

	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	loop_prepare(vm, CODE, loop, sizeof(loop));
	guest_write(vm, DATA, words, sizeof(words));
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	bt = bt_of(vm->vcpu[0]);
	test_pushes();
	with_room("code", &bt->code_used, &bt->end.code, 4 * BT_FAST_ROOM, 983);
	with_room("instructions", &bt->insns, &bt->end.insn, BT_BLOCK_INSNS + 60, 1);
	with_room("blocks", &bt->blocks, &bt->end.block, 12, 1);
	with_room("exits", &bt->exits, &bt->end.exit, 3 * STEPS_MAX, 7);
	with_room("fast copies", &bt->fasts, &bt->end.fast, 6, 1);
	with_room("places", &bt->places, &bt->end.place, 2 * STEPS_MAX, 7);
	with_room("members", &bt->members, &bt->end.member, 2 * PATH_MAX, 3);
	test_many();
	vm_destroy(vm);
	return done();
}
