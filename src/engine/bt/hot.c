/* SPDX-License-Identifier: MIT */
/* Code that runs often. A block counts its runs where it begins; at BT_HEAT it gets a fast copy, to which everything that leads to the block leads from
 * then on. That has no count, groups of accesses (group.c), and several rounds of a loop.
 *
 * The fast copy is a bet that may be lost at any instruction: an entry of the table is empty, a group crosses a page, something faults. Then the
 * plain copy goes on, at that same instruction; and behind each exec function. So whatever C code does, it never comes
 * back into a fast copy but at the start. */
#include "engine/bt/translate.h"
#include "util/log.h"

#define ROUNDS_MAX 8u

/* A conditional jump back to the start of its block? */
static bool is_loop(const struct bt *bt, const struct bt_block *b)
{
	const struct insn *i = &bt->insn[b->insn + b->count - 1u].insn;

	return i->op >= X86_OP_JO && i->op <= X86_OP_JNLE && !bt->insn[b->insn + b->count - 1u].calls_exec && i->imm == -(uint64_t)b->bytes;
}

static const uint8_t *bytes_of(struct bt *bt, const struct bt_block *b)
{
	struct x86_core *core = &bt->vcpu->core;
	bool traced;
	const uint8_t *page = core->env->page(core, align_down(b->gpa, X86_PAGE_SIZE), ACCESS_READ, &traced);

	return page ? page + (b->gpa & (X86_PAGE_SIZE - 1)) : NULL;
}

static void place(struct translation *t, unsigned *places)
{
	t->bt->place[t->bt->places + *places] = (struct bt_place){ t->e.at, t->id };
	++*places;
}

/* The jump back: out of the loop if it is not taken, else on with the next round. */
static void round_ends(struct translation *t)
{
	const struct insn *i = &t->rec->insn;
	uint64_t next = t->block->rip + t->block->bytes;

	memory_room(t);
	flow_exit(t, (i->opcode & 15) ^ 1, t->width == 8 ? next : (uint32_t)next);
	if (t->bt->counting)
		translate_count(t);
}

static void write_steps(struct translation *t, const uint8_t *bytes, unsigned *places)
{
	const struct bt_block *b = t->block;
	bool goes_on = true;

	*places = 0;
	for (t->step = 0; t->step < t->plan->steps && goes_on; t->step++) {
		unsigned n = t->plan->step[t->step].insn;
		struct bt_insn rec = t->bt->insn[b->insn + n];
		t->id = b->insn + n;
		t->rec = &rec; /* the original is of the plain copy */
		t->bytes = bytes + rec.insn.offset;
		t->shape = t->shaped[n] ? &t->shapes[n] : NULL;
		place(t, places);
		t->e.wrote = false;
		if (n + 1u == b->count && t->step + 1 < t->plan->steps)
			round_ends(t);
		else
			goes_on = translate_insn(t) && !(rec.trouble & BT_SITE_GIVEN_UP);
		if (t->e.wrote)
			t->held = GROUP_NONE;
	}
	t->id = b->insn + b->count;
	if (goes_on && t->bt->insn[t->id - 1].resumes) {
		memory_room(t);
		flow_exit(t, -1, t->width == 8 ? b->rip + b->bytes : (uint32_t)(b->rip + b->bytes));
	}
	stubs_emit(t);
}

/* Twice: at first to learn which host addresses are looked for in their slots. */
static void write_copy(struct translation *t, const uint8_t *bytes, struct bt_fast *f)
{
	uint32_t exits = t->bt->exits;

	for (unsigned pass = 0; pass < 2; pass++) {
		t->e.at = t->bt->code_used;
		t->bt->exits = exits;
		t->stubs = t->shorts = t->ready = 0;
		t->kept = t->wanted;
		t->held = GROUP_NONE;
		translate_prologue(t);
		write_steps(t, bytes, &f->places);
	}
}

static void shapes(struct translation *t, const uint8_t *bytes)
{
	for (unsigned n = 0; n < t->block->count; n++) {
		struct insn i = t->bt->insn[t->block->insn + n].insn;
		x86_memo_decode(t->bt->memo, &i, &t->shapes[n], &t->shaped[n], bytes + i.offset, i.length, t->block->mode & BT_MODE_DECODE);
	}
}

static bool room(const struct bt *bt)
{
	return bt->code_used + BT_BLOCK_ROOM <= BT_CODE_SIZE && bt->exits + 2 * BT_BLOCK_MAX <= BT_EXITS_MAX && bt->fasts < BT_FASTS_MAX &&
	       bt->places + BT_BLOCK_MAX <= BT_PLACES_MAX;
}

bool bt_heat_up(struct bt *bt, struct bt_block *b)
{
	struct translation t = { .e = { .base = bt->code }, .bt = bt, .block = b, .width = (b->mode & MODE_CODE) == MODE_CODE64 ? 8 : 4 };
	struct bt_fast *f = &bt->fast[bt->fasts];
	const uint8_t *bytes = bytes_of(bt, b);
	struct bt_block before = *b;
	struct plan plan;

	bt->heat[b - bt->block] = BT_HEAT_NEVER;
	if (b->dead || b->second != ~0ULL || !bytes || !room(bt))
		return false;
	if (bt->holder.has_changes) { /* its bytes may be others by now */
		bt->heat[b - bt->block] = 1;
		return false;
	}
	bt_phase_set(bt, BT_TRANSLATING);
	*f = (struct bt_fast){ .block = (uint32_t)(b - bt->block), .code = bt->code_used, .place = bt->places,
			       .jump_entry = b->jump_entry, .entry = b->entry, .body = b->body };
	shapes(&t, bytes);
	group_plan(&t, &plan, is_loop(bt, b) ? MAX(MIN(ROUNDS_MAX, BT_BLOCK_MAX / b->count), 1u) : 1);
	t.plan = &plan;
	write_copy(&t, bytes, f);
	f->code_end = t.e.at;
	uint32_t jump_entry = b->jump_entry, entry = b->entry, body = b->body;
	*b = before;
	b->fast = ++bt->fasts;
	bt->places += f->places;
	bt->code_used = (uint32_t)align_up(t.e.at, 16);
	bt_entries_set(bt, b, jump_entry, entry, body);
	bt->stat.hot++;
	bt->stat.hot_bytes += f->code_end - f->code;
	if (trace_on(bt))
		bt_trace_fast(bt, f, bytes);
	return true;
}

void bt_cool_down(struct bt *bt, struct bt_block *b)
{
	const struct bt_fast *f = &bt->fast[b->fast - 1];

	if (!b->fast)
		return;
	b->fast = 0;
	bt_entries_set(bt, b, f->jump_entry, f->entry, f->body);
}
