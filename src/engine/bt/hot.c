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

#define ROUNDS_MAX 8u
#define STREAM_TRIPS 16u /* with fewer it is not worth it to look how far a loop may go on */
#define LOOP_ROOM 8u     /* steps, for what is in front of such a loop */

/* --- the path --- */

static const struct bt_insn *last_of(const struct bt *bt, const struct bt_block *b)
{
	return &bt->insn[b->insn + b->count - 1u];
}

static struct insn last_insn(const struct translation *t, const struct bt_block *b)
{
	struct insn i;

	bt_insn_get(t->bt, last_of(t->bt, b), &i);
	return i;
}

static bool is_branch(const struct insn *i)
{
	return i->op >= X86_OP_JO && i->op <= X86_OP_JNLE;
}

/* The block at the address that a direct jump at the end of t->block leads to, or NULL. */
static struct bt_block *at(const struct translation *t, uint64_t rip)
{
	return flow_in_page(t, rip) ? bt_block_beside(t->bt, t->block, rip) : NULL;
}

/* Where a loop of one block goes on; NULL: it is none, or that is not known. */
static struct bt_block *loop_exit(struct translation *t, struct bt_block *b)
{
	struct bt_block *before = t->block, *exit = NULL;
	struct insn i = last_insn(t, b);

	t->block = b;
	if (is_branch(&i) && !last_of(t->bt, b)->calls_exec && i.imm == -(uint64_t)b->bytes)
		exit = at(t, flow_next(t, &i));
	t->block = before;
	return exit;
}

static bool is_loop(const struct translation *t, const struct bt_block *b)
{
	struct insn i = last_insn(t, b);

	return is_branch(&i) && i.imm == -(uint64_t)b->bytes;
}

/* When a loop has become hot, what is behind it has run as often as it was left. True: it goes round often enough to look what its page has left. */
static bool count_trips(struct translation *t, struct bt_block *b)
{
	uint32_t all = t->bt->counting ? BT_HEAT_COUNTING : BT_HEAT;
	struct bt_block *exit = loop_exit(t, b);
	uint32_t left = exit ? t->bt->heat[exit - t->bt->block] : all, runs = left < all ? all - left : 0;

	if (runs && all / runs < ROUNDS_MAX)
		b->trips = (uint8_t)((all + runs / 2) / runs);
	return !runs || all / runs >= STREAM_TRIPS;
}

/* Runs that are missing until it is hot. One that is part of a fast copy is: its runs there are not counted. */
static uint32_t cold(const struct bt *bt, const struct bt_block *b)
{
	uint32_t runs = b ? bt->heat[b - bt->block] : UINT32_MAX;

	return runs == BT_HEAT_NEVER || (b && b->members) ? 0 : runs; /* it has been, and may be the one at hand */
}

/* How far RSP is from where it was when the path began, before its last instruction; false: that is not known. */
static bool stack_moved(const struct translation *t, const struct plan *plan, int64_t *by)
{
	int width = (int)t->width;

	*by = 0;
	for (unsigned n = 0; n + 1 < plan->steps; n++) {
		const struct insn *i = &t->insns[n];
		switch (i->op) {
		case X86_OP_PUSH: case X86_OP_CALL: case X86_OP_PUSHFQ: case X86_OP_PUSHFD: case X86_OP_PUSH_SREG: *by -= width; break;
		case X86_OP_POP: case X86_OP_POPFQ: case X86_OP_POPFD: *by += width; break;
		case X86_OP_RET: *by += width + (i->form == FORM_I ? (int)(i->imm & 0xffff) : 0); break;
		case X86_OP_ADD: case X86_OP_SUB:
			if (i->dst == RSP * 8 && i->form != FORM_MR && i->form != FORM_MI) {
				if (i->form != FORM_RI)
					return false;
				*by += i->op == X86_OP_ADD ? (int64_t)i->imm : -(int64_t)i->imm;
			}
			break;
		case X86_OP_LEAVE: case X86_OP_ENTER: case X86_OP_XCHG:
			return false;
		default:
			if (i->dst == RSP * 8 && (i->op == X86_OP_MOV || i->op == X86_OP_LEA || i->op == X86_OP_AND))
				return false;
		}
	}
	return true;
}

/* Where the return at the path's end will lead: back to its call, or to what is on the stack now. A guess: 0, if there is none. */
static uint64_t returns_to(const struct translation *t, const struct plan *plan)
{
	uint64_t rsp = t->bt->vcpu->core.cpu.gpr[RSP], value = 0;
	unsigned depth = 0;
	int64_t by;

	for (unsigned n = plan->steps - 1; n--;) {
		const struct bt_insn *rec = &t->bt->insn[plan->step[n].id];
		const struct bt_block *b = &t->bt->block[rec->block];
		depth += t->insns[n].op == X86_OP_RET;
		if (t->insns[n].op == X86_OP_CALL && !depth--)
			return b->rip + b->bytes;
	}
	if (!stack_moved(t, plan, &by) || !bt_table_peek(t->bt, (rsp + (uint64_t)by) & size_mask(t->width), t->width, &value))
		return 0;
	return t->block->anywhere ? t->block->rip + (value - bt_block_rip(t->bt, t->block)) : value;
}

/* Where t->block most often goes on, as far as that is known; NULL: it ends there. */
static struct bt_block *successor(const struct translation *t, const struct plan *plan)
{
	const struct bt_insn *last = last_of(t->bt, t->block);
	const struct insn *i = &t->insns[plan->steps - 1];
	struct bt_block *taken, *next;

	if (last->calls_exec || last->trouble & BT_SITE_GIVEN_UP)
		return NULL;
	next = at(t, flow_next(t, i));
	if (last->resumes)
		return next;
	if (i->op == X86_OP_RET)
		return at(t, returns_to(t, plan));
	if (i->form != FORM_I || !(is_branch(i) || i->op == X86_OP_JMP || i->op == X86_OP_CALL))
		return NULL;
	taken = at(t, flow_target(t, i));
	return is_branch(i) && cold(t->bt, next) < cold(t->bt, taken) ? next : taken;
}

static unsigned times(const struct plan *plan, uint32_t block)
{
	unsigned count = 0;

	for (unsigned n = 0; n < plan->blocks; n++)
		count += plan->path[n] == block;
	return count;
}

/* Of the bytes that the plain copy was made of. False: behind it the plain copy goes on. */
static bool add_steps(struct translation *t, struct plan *plan, const struct bt_block *b)
{
	const struct bt *bt = t->bt;

	plan->path[plan->blocks++] = (uint32_t)(b - bt->block);
	for (unsigned n = 0; n < b->count; n++) {
		const struct bt_insn *rec = &bt->insn[b->insn + n];
		unsigned at = plan->steps++;
		plan->step[at] = (struct step){ .id = b->insn + n };
		t->insns[at] = (struct insn){ .offset = rec->offset, .index = (uint8_t)n };
		x86_memo_decode(bt->memo, &t->insns[at], &t->shapes[at], &t->shaped[at], bt_block_bytes(bt, b) + rec->offset, b->bytes - rec->offset,
				b->mode);
		if (rec->calls_exec || rec->trouble & BT_SITE_GIVEN_UP)
			return false;
	}
	return true;
}

/* As many as there is room for. */
static unsigned steps_most(const struct bt *bt)
{
	return MIN(STEPS_MAX, (bt->end.code - bt->code_used) / BT_STEP_ROOM);
}

/* A loop of one block is a path of its own. In another path it goes round as often as it mostly does, if that is known. Any other loop is
 * followed wherever it is met: so its groups are those of the code around it. */
static void find_path(struct translation *t, struct plan *plan)
{
	struct bt *bt = t->bt;
	struct bt_block *head = t->block, *next;
	unsigned rounds = 1, trips = 1, most = steps_most(bt);

	plan->blocks = plan->steps = plan->groups = 0;
	while (add_steps(t, plan, t->block)) {
		next = is_loop(t, t->block) && t->block != head ? trips++ < t->block->trips ? t->block : loop_exit(t, t->block) : successor(t, plan);
		if (!next || cold(bt, next) > BT_HEAT || plan->blocks == PATH_MAX || plan->steps + next->count > most)
			break;
		if (is_loop(t, head) ? next != head : is_loop(t, next) && !next->trips)
			break;
		if (next == head && rounds++ == (is_loop(t, head) && head->trips ? head->trips : ROUNDS_MAX))
			break;
		if (next != head && next != t->block && times(plan, (uint32_t)(next - bt->block)) >= ROUNDS_MAX)
			break;
		if (next != t->block)
			trips = 1;
		plan->step[plan->steps - 1].last = true;
		t->block = next;
	}
	t->block = head;
}

/* A loop that mostly goes round often: several rounds at once, as many as a power of two, and single ones. */
static void find_rounds(const struct translation *t, struct plan *plan)
{
	unsigned round = t->block->count, most = steps_most(t->bt), rounds = ROUNDS_MAX;
	const struct bt_insn *last = last_of(t->bt, t->block);

	if (!is_loop(t, t->block) || t->block->trips || last->calls_exec || last->trouble & BT_SITE_GIVEN_UP)
		return;
	while (rounds * round > plan->steps || (rounds + 1) * round + LOOP_ROOM > most)
		rounds /= 2;
	if (rounds < 2)
		return;
	plan->blocks = rounds;
	plan->steps = rounds * round;
	plan->step[plan->steps - 1].last = false;
	plan->round = round;
}

/* --- the copy --- */

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

/* The branch from one block of the path to the next. */
static void go_on(struct translation *t, const struct bt_block *next)
{
	const struct insn *i = t->insn;

	t->tight = t->too_far = false;
	memory_room_for(t, 80); /* nobody looks behind this whether the short jumps reach an island */
	if (t->rec->resumes)
		translate_insn(t);
	else if (i->op == X86_OP_CALL)
		flow_push_next(t, i);
	else if (i->op == X86_OP_RET)
		flow_return_to(t, i, next->rip);
	else if (i->op != X86_OP_JMP && bt_block_beside(t->bt, t->block, flow_target(t, i)) == next)
		flow_exit(t, (i->opcode & 15) ^ 1, flow_next(t, i));
	else if (i->op != X86_OP_JMP)
		flow_exit(t, i->opcode & 15, flow_target(t, i));
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
		if (s->last || again)
			go_on(t, &t->bt->block[again ? *path : *++path]);
		else
			goes_on = translate_insn(t);
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

	if (write_steps(t, places, t->plan->steps) && last_of(t->bt, t->block)->resumes) {
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
	bool often = count_trips(&t, b);
	before.trips = b->trips;
	find_path(&t, &plan);
	plan.round = 0;
	if (often)
		find_rounds(&t, &plan);
	if (bt->holder.has_changes) {
		bt->heat[b - bt->block] = 1;
		return false;
	}
	group_plan(&t, &plan);
	t.plan = &plan;
	write_copy(&t, f);
	f->code_end = t.e.at;
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
