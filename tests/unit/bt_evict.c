/* SPDX-License-Identifier: MIT */
/* More code than the code cache holds: the parts of the cache are emptied again and again, the guest's program comes to what it should, and nothing that is
 * left leads to what is gone. */
#include "engine/bt/emit.h"
#include "vm_test.h"
#include "bt_doors.h"
#include "bt_loop.h"

#define CODE 0x10000
#define PAGES 64
#define STEP 5                       /* bytes of a block: add eax, 3; jmp to the next one */
#define STEPS ((X86_PAGE_SIZE - 3 * 5) / STEP)
#define SUBROUTINE (CODE - 0x1000)
#define ROUNDS 4
#define LOOP 400                     /* so the subroutine is hot on the third page */

static struct vm *vm;
static uint32_t beside; /* has the same place in the first jump table as SUBROUTINE */

static void put_jump(uint8_t *at, uint8_t opcode, uint32_t from, uint32_t to)
{
	uint32_t by = to - (from + 5);

	at[0] = opcode;
	memcpy(at + 1, &by, 4);
}

/* Each page calls both subroutines, then goes from block to block, and on to the next page. */
static size_t write_program(uint8_t *code)
{
	uint8_t *at = code;
	uint32_t end;

	for (unsigned page = 0; page < PAGES; page++) {
		at = code + page * X86_PAGE_SIZE;
		put_jump(at, 0xe8, CODE + page * (uint32_t)X86_PAGE_SIZE, SUBROUTINE);
		put_jump(at + 5, 0xe8, CODE + page * (uint32_t)X86_PAGE_SIZE + 5, beside);
		at += 10;
		for (unsigned n = 0; n < STEPS; n++, at += STEP)
			memcpy(at, (uint8_t[]){ 0x83, 0xc0, 3, 0xeb, 0 }, STEP);
		put_jump(at, 0xe9, CODE + (uint32_t)(at - code), CODE + (page + 1) * (uint32_t)X86_PAGE_SIZE);
	}
	end = PAGES * (uint32_t)X86_PAGE_SIZE;
	at = code + end;
	*at++ = 0x49; /* dec ecx */
	*at++ = 0x74; /* jz over the jump */
	*at++ = 5;
	put_jump(at, 0xe9, CODE + end + 3, CODE);
	at[5] = 0xf4; /* hlt */
	return end + 9;
}

static const uint8_t subroutine[] = {
	0xba, LOOP & 255, LOOP >> 8, 0, 0, /*    mov edx, LOOP */
	0x40,                              /* 1: inc eax */
	0x4a,                              /*    dec edx */
	0x75, 0xfc,                        /*    jnz 1b */
	0xc3,                              /*    ret */
};
static const uint8_t short_one[] = {
	0x83, 0xc0, 7, /* add eax, 7 */
	0xc3,          /* ret */
};

static uint32_t run(void)
{
	static uint8_t code[(PAGES + 1) * X86_PAGE_SIZE];
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;

	for (beside = CODE + sizeof(code); bt_jump_slot(beside) != bt_jump_slot(SUBROUTINE); beside++)
		;
	loop_prepare(vm, CODE, code, write_program(code));
	guest_write(vm, beside, short_one, sizeof(short_one));
	guest_write(vm, SUBROUTINE, subroutine, sizeof(subroutine));
	cpu->gpr[RAX] = 0;
	cpu->gpr[RCX] = ROUNDS;
	cpu->gpr[RSP] = 0x8000;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
	loop_run(vm->vcpu[0]);
	return (uint32_t)cpu->gpr[RAX];
}

/* --- what is left --- */

static bool is_live(const struct bt *bt, uint32_t n)
{
	for (unsigned part = 0; part < BT_PARTS; part++)
		if (n >= bt_part_start(bt, part).block && n < bt_part_end(bt, part).block)
			return !bt->block[n].dead;
	return false;
}

static uint32_t leads_to(const struct bt *bt, uint32_t patch)
{
	int32_t by;

	memcpy(&by, bt->code + patch, 4);
	return patch + 4 + (uint32_t)by;
}

static unsigned wrong_exits(const struct bt *bt)
{
	unsigned wrong = 0;

	for (unsigned part = 0; part < BT_PARTS; part++)
		for (uint32_t n = bt_part_start(bt, part).exit; n < bt_part_end(bt, part).exit; n++) {
			const struct bt_exit *e = &bt->exit[n];
			uint32_t to = leads_to(bt, e->patch);
			if (e->to)
				wrong += !is_live(bt, e->to - 1) || (to != bt->block[e->to - 1].entry && to != bt->block[e->to - 1].body);
			else
				wrong += to != e->stub;
		}
	return wrong;
}

static unsigned wrong_jumps(const struct bt *bt, unsigned *right)
{
	unsigned wrong = 0;

	*right = 0;
	for (unsigned slot = 0; slot < BT_JUMP_COUNT; slot++) {
		const void *to = bt->state->jumps[1][slot];
		uint32_t block = bt->jump_block[1][slot];
		if (to == (void *)(uintptr_t)bt_dispatch_entry)
			continue;
		if (block && is_live(bt, block - 1) && to == bt->code + bt->block[block - 1].jump_entry)
			++*right;
		else
			wrong++;
	}
	return wrong;
}

static unsigned wrong_seconds(const struct bt *bt, unsigned *right)
{
	unsigned wrong = 0;

	*right = 0;
	for (unsigned slot = 0; slot < BT_SECOND_COUNT; slot++) {
		const void *to = bt->state->seconds[1][slot];
		const struct bt_door *door = to == (void *)(uintptr_t)bt_unknown_entry ? NULL : door_at(bt, to);
		if (door && door->second && door->block != BT_NO_BLOCK && is_live(bt, door->block) && bt->block[door->block].rip == door->rip)
			++*right;
		else
			wrong += to != (void *)(uintptr_t)bt_unknown_entry;
	}
	return wrong;
}

/* Returns are expected in the part that is being filled only: none was when that began. */
static unsigned wrong_returns(const struct bt *bt)
{
	unsigned wrong = 0;

	for (unsigned n = 0; n < BT_RETURN_COUNT; n++) {
		const uint8_t *to = bt->state->returns[1][n], *part = bt->code + bt_part_start(bt, bt->part).code;
		wrong += to != (const uint8_t *)(uintptr_t)bt_astray_entry && (to < part || to >= bt->code + bt->code_used);
	}
	return wrong;
}

/* Fast copies that blocks are entered by or are members of, and their instructions, must be there. */
static unsigned wrong_fasts(const struct bt *bt, unsigned *right)
{
	unsigned wrong = 0;

	*right = 0;
	for (unsigned part = 0; part < BT_PARTS; part++)
		for (uint32_t n = bt_part_start(bt, part).fast; n < bt_part_end(bt, part).fast; n++) {
			const struct bt_fast *f = &bt->fast[n];
			if (bt->block[f->block].fast != n + 1)
				continue;
			++*right;
			wrong += !is_live(bt, f->block);
			for (unsigned p = 0; p < f->places; p++)
				wrong += !is_live(bt, bt->insn[bt->place[f->place + p].insn].block);
		}
	return wrong;
}

/* Pages hold living blocks only, and each of these is in one. */
static unsigned wrong_pages(const struct bt *bt)
{
	unsigned wrong = 0, live = 0, listed = 0;

	for (unsigned part = 0; part < BT_PARTS; part++)
		for (uint32_t n = bt_part_start(bt, part).block; n < bt_part_end(bt, part).block; n++)
			live += !bt->block[n].dead;
	for (unsigned n = 0; n < ARRAY_SIZE(bt->pages); n++)
		for (const struct bt_page *p = bt->pages[n]; p; p = p->next) {
			wrong += !p->first && !p->seconds;
			for (uint32_t at = p->first; at; at = bt->block[at - 1].same_page, listed++)
				wrong += !is_live(bt, at - 1);
		}
	return wrong + (live != listed);
}

int main(void)
{
	struct vm_config config = { .name = "test", .engine = "bt", .engine_options = "cache=2M", .memory = 4 * MiB, .cpus = 1 };
	uint32_t expected = ROUNDS * PAGES * (LOOP + 3 * STEPS + 7), result;
	unsigned right, wrong;

	if (!loop_possible("bt"))
		return done();
	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine bt");
		return done();
	}
	result = run();
	const struct bt *bt = bt_of(vm->vcpu[0]);
	ok(result == expected, "the program comes to %u (%u)", expected, result);
	ok(bt->stat.evicted_parts > BT_PARTS && !bt->stat.flushed_cache[BT_FLUSH_CHANGES], "each part was emptied (%lu in all)", bt->stat.evicted_parts);
	ok(bt->stat.hot > 2, "what is hot became hot again (%lu)", bt->stat.hot);
	ok(!wrong_exits(bt), "direct jumps lead to blocks that are there, or to C");
	wrong = wrong_jumps(bt, &right);
	ok(!wrong && right, "so do the jump tables (%u)", right);
	wrong = wrong_seconds(bt, &right);
	ok(!wrong && right, "and the second one (%u)", right);
	ok(!wrong_returns(bt), "and what returns find");
	wrong = wrong_fasts(bt, &right);
	ok(!wrong && right, "fast copies are of blocks that are there (%u)", right);
	ok(!wrong_pages(bt), "pages list the blocks that are there, and no others");
	vm_destroy(vm);
	return done();
}
