/* SPDX-License-Identifier: MIT */
/* Code that runs often. A block counts its runs where it begins; at BT_HEAT it gets a fast copy, to which everything that leads to the block leads from
 * then on. That has no count, and goes on into the blocks that most often follow in the page, along calls and jumps, and round a
 * loop several times; in it accesses are in groups (group.c).
 *
 * The fast copy is a bet that may be lost at any instruction: a jump goes the other way, an entry of the table is empty, a group crosses a page,
 * something faults. Then the plain copy goes on, at that same instruction; and behind each exec function. So whatever C code does, it never
 * comes back into a fast copy but at the start. */
#include <assert.h>
#include <string.h>
#include "engine/bt/translate.h"
#include "util/log.h"

static void place(struct translation *t, unsigned *places)
{
	t->bt->place[t->bt->places + *places] = (struct bt_place){ t->e.at, t->id };
	++*places;
}

/* Somebody may want the processor: ways back between blocks look (bt_exit_link), and so does the first one in the path that is not to its own
 * head. Whoever goes another one has passed it; whoever went to the head only is not before it where he leaves, and comes there again by a way back. */
static void poll(struct translation *t, const struct bt_block *next)
{
	if (t->polled || next->gpa > t->block->gpa || next == &t->bt->block[t->plan->path[0]])
		return;
	t->polled = true;
	emit_load(&t->e, HOST_X, state_at(BT_RUN_MASK));
	memory_jump_if_zero(t, (struct stub){ .kind = STUB_POLL, .exit = next->insn });
}

/* --- calls that are open --- */

/* By how much an instruction moves RSP; false: that is not known. (It is a guess: nothing depends on it but what the host's processor expects.) */
static bool stack_moves(const struct translation *t, const struct insn *i, int64_t *by)
{
	int width = (int)t->width;

	*by = 0;
	switch (i->op) {
	case X86_OP_PUSH: case X86_OP_CALL: case X86_OP_PUSHFQ: case X86_OP_PUSHFD: case X86_OP_PUSH_SREG: *by = -width; return true;
	case X86_OP_POP: *by = width; return i->dst != RSP * 8;
	case X86_OP_POPFQ: case X86_OP_POPFD: *by = width; return true;
	case X86_OP_RET: *by = flow_released(t, i); return true;
	case X86_OP_LEAVE: case X86_OP_ENTER: case X86_OP_XCHG: return false;
	case X86_OP_CMP: case X86_OP_TEST: return true;
	default: break;
	}
	if (i->dst != RSP * 8 || i->form == FORM_MR || i->form == FORM_MI)
		return true;
	if (i->op == X86_OP_LEA && i->base == RSP * 8 && i->scaled >= 16 * 8)
		*by = i->disp;
	else if (i->form == FORM_RI && (i->op == X86_OP_ADD || i->op == X86_OP_SUB))
		*by = i->op == X86_OP_ADD ? (int64_t)i->imm : -(int64_t)i->imm;
	else
		return false;
	return true;
}

/* The processor, and the guest's returns, expect to come back to the calls that are open: the path is left. `moved`: by how much the path has moved RSP. */
static void expect_returns(struct translation *t, unsigned open, int64_t moved)
{
	struct bt_block *block = t->block;
	unsigned last[OPEN_MAX], count = 0;

	for (; open != OPEN_NONE && count < OPEN_MAX; open = t->open[open].outer)
		last[count++] = open;
	while (count--) {
		const struct open_call *o = &t->open[last[count]];
		t->block = &t->bt->block[o->block];
		flow_expect_return(t, o->next, (int32_t)(o->at - moved));
	}
	t->block = block;
}

void hot_leave(struct translation *t, const struct stub *s)
{
	struct bt_block *block = t->block;

	t->id = s->insn;
	t->block = &t->bt->block[s->exit];
	if (s->kind == STUB_LEAVE) {
		expect_returns(t, s->open, s->moved);
		flow_exit(t, -1, s->rip);
	} else if (s->open != OPEN_NONE) {
		flow_save_target(t);
		expect_returns(t, s->open, s->moved);
		flow_elsewhere(t, true);
	} else {
		flow_elsewhere(t, false);
	}
	t->block = block;
}

static struct stub leaving(const struct translation *t, enum stub_kind kind, uint64_t target)
{
	return (struct stub){ .kind = (uint8_t)kind, .open = (uint8_t)t->inner, .moved = (int32_t)t->moved, .rip = target,
			      .exit = (uint32_t)(t->block - t->bt->block) };
}

/* The path is left if that condition holds. */
static void leave_if(struct translation *t, int cc, uint64_t target)
{
	if (t->inner == OPEN_NONE) {
		flow_exit(t, cc, target);
		return;
	}
	unsigned stub = stub_add(t, leaving(t, STUB_LEAVE, target));
	t->stub[stub].fix = emit_jump(&t->e, cc);
}

/* What an instruction of the path does to RSP, and to the calls that are open. */
static void follow_stack(struct translation *t, const struct insn *i)
{
	int64_t by;

	if (i->op == X86_OP_RET && t->inner != OPEN_NONE)
		t->inner = t->open[t->inner].outer;
	if (!stack_moves(t, i, &by) || !fits32(t->moved + by)) {
		t->inner = OPEN_NONE; /* they are where nobody knows */
		by = 0;
	}
	t->moved += by;
	if (i->op != X86_OP_CALL || t->opened == ARRAY_SIZE(t->open))
		return;
	t->open[t->opened] = (struct open_call){ .block = (uint32_t)(t->block - t->bt->block), .next = flow_next(t, i), .at = t->moved, .outer = (uint8_t)t->inner };
	t->inner = t->opened++;
}

/* --- the copy --- */

/* The branch from one block of the path to the next. */
static void go_on(struct translation *t, const struct bt_block *next)
{
	const struct insn *i = t->insn;

	t->tight = t->too_far = false;
	follow_stack(t, i);
	memory_room_for(t, 80); /* nobody looks behind this whether the short jumps reach an island */
	if (t->rec->resumes)
		translate_insn(t);
	else if (!flow_is_branch(i))
		flow_go_on(t, i, next->rip, leaving(t, STUB_ELSEWHERE, 0));
	else if (bt_block_beside(t->bt, t->block, flow_target(t, i)) == next)
		leave_if(t, (i->opcode & 15) ^ 1, flow_next(t, i));
	else
		leave_if(t, i->opcode & 15, flow_target(t, i));
	assert(!t->too_far);
}

/* And behind it. */
static void arrive(struct translation *t, const struct bt_block *next)
{
	memory_room_for(t, 40);
	if (t->bt->counting)
		translate_count(t, next);
	else
		poll(t, next);
	assert(!t->too_far);
}

/* False: the last instruction leaves. */
static bool write_steps(struct translation *t, unsigned *places, unsigned count)
{
	const struct plan *plan = t->plan;
	const uint32_t *path = plan->path;
	bool goes_on = true;

	for (t->step = 0; t->step < count; t->step++) {
		const struct step *s = &plan->step[t->step];
		bool again = plan->round && t->step + 1 == count; /* a loop's head follows, which is all that there is on its path */
		struct bt_insn rec = t->bt->insn[s->id];
		t->id = s->id;
		t->rec = &rec; /* the original is of the plain copy */
		t->block = &t->bt->block[rec.block];
		t->insn = &t->insns[t->step];
		t->bytes = bt_block_bytes(t->bt, t->block) + rec.offset;
		t->shape = t->shaped[t->step] ? &t->shapes[t->step] : NULL;
		t->e.wrote = t->e.wrote_x = false;
		place(t, places);
		if (s->last || again) {
			go_on(t, &t->bt->block[again ? *path : *++path]);
		} else {
			if (t->step + 1 == count && t->inner != OPEN_NONE) {
				memory_island(t, true);
				assert(!t->too_far);
				expect_returns(t, t->inner, t->moved);
				t->held = t->second = GROUP_NONE;
			}
			goes_on = translate_insn(t);
			follow_stack(t, t->insn);
		}
		if (s->last && !again)
			arrive(t, &t->bt->block[*path]);
		if (t->e.wrote)
			t->held = GROUP_NONE;
		if (t->e.wrote_x)
			t->second = GROUP_NONE;
	}
	t->tight = false;
	return goes_on;
}

static void write_path(struct translation *t, unsigned *places)
{
	struct bt_block *head = t->block;

	if (write_steps(t, places, t->plan->steps) && bt_block_last(t->bt, t->block)->resumes) {
		memory_room(t);
		flow_exit(t, -1, flow_next(t, t->insn));
	}
	t->block = head;
}

/* The field becomes less by `by`; unless it is zero then, the loop goes on at `to`. */
static void again(struct translation *t, int32_t field, int32_t by, uint32_t to)
{
	struct emit *e = &t->e;
	uint32_t zero;

	emit_load(e, HOST_X, state_at(field));
	if (by) {
		emit_lea(e, HOST_X, operand_at(HOST_X, -by));
		emit_store(e, state_at(field), HOST_X);
	}
	zero = emit_short(e, 0xe3);
	arrive(t, t->block);
	emit_patch(e, emit_jump(e, -1), to);
	memory_island(t, false);
	emit_patch_short(e, zero, e->at);
}

/* Rounds of a loop: several at once, while there are so many, then single ones. Then from the start: so somebody looks whether the processor is wanted. */
static void write_loop(struct translation *t, unsigned *places)
{
	const struct plan *plan = t->plan;
	struct bt_block *head = t->block;
	struct bt_insn rec = t->bt->insn[head->insn];
	struct emit *e = &t->e;
	uint32_t none, several, top, single;

	t->id = head->insn;
	t->rec = &rec;
	t->insn = t->insns;
	stream_begin(t, plan->blocks);
	emit_load(e, HOST_X, state_at(BT_PASSES));
	none = emit_short(e, 0xe3);
	several = emit_jump(e, -1);
	emit_patch_short(e, none, e->at);
	single = e->at;
	stream_round(t);
	write_steps(t, places, plan->round);
	stream_advance(t, 1);
	again(t, BT_ROUNDS, 1, single);
	flow_exit(t, -1, head->rip);
	emit_patch(e, several, e->at);
	top = e->at;
	stream_round(t);
	t->polled = false;
	write_steps(t, places, plan->steps);
	stream_advance(t, plan->blocks);
	again(t, BT_PASSES, 1, top);
	again(t, BT_ROUNDS, 0, single);
	flow_exit(t, -1, head->rip);
}

/* As often as it takes to learn which host addresses are looked for in their slots; that is mostly twice. */
static void write_copy(struct translation *t, struct bt_fast *f)
{
	uint32_t exits = t->bt->exits;

	t->wanted = 0;
	do {
		t->kept = t->wanted;
		t->e.at = t->bt->code_used;
		t->bt->exits = exits;
		t->stubs = t->shorts = t->ready = 0;
		t->polled = false;
		t->held = t->second = GROUP_NONE;
		t->opened = 0;
		t->inner = OPEN_NONE;
		t->moved = 0;
		f->places = 0;
		translate_prologue(t);
		if (t->plan->round)
			write_loop(t, &f->places);
		else
			write_path(t, &f->places);
		stubs_emit(t);
	} while (t->wanted != t->kept);
}

bool bt_heat_room(const struct bt *bt)
{
	return bt->code_used + BT_FAST_ROOM <= bt->end.code && bt->exits + 2 * STEPS_MAX <= bt->end.exit && bt->fasts < bt->end.fast &&
	       bt->places + STEPS_MAX <= bt->end.place && bt->members + PATH_MAX <= bt->end.member;
}

static void note_members(struct bt *bt, const struct plan *plan)
{
	for (unsigned n = 1; n < plan->blocks; n++) {
		struct bt_block *b = &bt->block[plan->path[n]];
		if (b->members && bt->member[b->members - 1].fast == bt->fasts)
			continue;
		bt->member[bt->members++] = (struct bt_member){ .fast = bt->fasts, .next = b->members, .block = plan->path[n] };
		b->members = bt->members;
	}
}

bool bt_heat_up(struct bt *bt, struct bt_block *b)
{
	struct translation t; /* some fields are large */
	struct bt_fast *f = &bt->fast[bt->fasts];
	struct bt_block before = *b;
	struct plan plan;

	bt->heat[b - bt->block] = BT_HEAT_NEVER;
	if (b->dead || b->second != ~0ULL || !bt_heat_room(bt))
		return false;
	bt_phase_set(bt, BT_TRANSLATING);
	t.e = (struct emit){ .base = bt->code };
	t.bt = bt;
	t.block = b;
	t.width = (b->mode & MODE_CODE) == MODE_CODE64 ? 8 : 4;
	t.narrow = bt_mode_narrow(b->mode);
	*f = (struct bt_fast){ .block = (uint32_t)(b - bt->block), .code = bt->code_used, .place = bt->places,
			       .jump_entry = b->jump_entry, .entry = b->entry, .body = b->body };
	bool found = path_find(&t, &plan);
	before.trips = b->trips;
	if (!found) {
		bt->heat[b - bt->block] = 1;
		return false;
	}
	group_plan(&t, &plan);
	t.plan = &plan;
	write_copy(&t, f);
	f->code_end = t.e.at;
	assert(f->code_end <= bt->end.code); /* what is beyond may be running still */
	uint32_t jump_entry = b->jump_entry, entry = b->entry, body = b->body;
	*b = before;
	note_members(bt, &plan);
	b->fast = ++bt->fasts;
	bt->places += f->places;
	bt->code_used = (uint32_t)align_up(t.e.at, 16);
	bt_entries_set(bt, b, jump_entry, entry, body);
	bt->stat.hot++;
	bt->stat.hot_loops += plan.round > 0;
	bt->stat.hot_bytes += f->code_end - f->code;
	if (trace_on(bt))
		bt_trace_fast(bt, f);
	return true;
}

/* Its entries lead to its plain copy. */
static void cool_down(struct bt *bt, struct bt_block *b)
{
	const struct bt_fast *f = &bt->fast[b->fast - 1];

	b->fast = 0;
	bt->heat[b - bt->block] = bt->counting ? BT_HEAT_COUNTING : BT_HEAT;
	bt_entries_set(bt, b, f->jump_entry, f->entry, f->body);
}

void bt_traces_drop(struct bt *bt, struct bt_block *b)
{
	for (uint32_t n = b->members; n; n = bt->member[n - 1].next) {
		struct bt_block *head = &bt->block[bt->fast[bt->member[n - 1].fast].block];
		if (head->fast == bt->member[n - 1].fast + 1)
			cool_down(bt, head);
	}
	b->members = 0;
	if (b->fast)
		cool_down(bt, b);
}

void bt_fasts_evict(struct bt *bt, const struct bt_fill *first, const struct bt_fill *end)
{
	for (uint32_t n = first->fast; n < end->fast; n++) {
		struct bt_block *head = &bt->block[bt->fast[n].block];
		if (head->fast == n + 1)
			cool_down(bt, head);
	}
	/* Of a block that is gone, the list is another's, or empty: this is not in it. */
	for (uint32_t n = first->member; n < end->member; n++) {
		uint32_t *at = &bt->block[bt->member[n].block].members;
		while (*at && *at != n + 1)
			at = &bt->member[*at - 1].next;
		if (*at)
			*at = bt->member[n].next;
	}
}
