/* SPDX-License-Identifier: MIT */
/* Which blocks a fast copy goes on into, as far as that is known when its first one has become hot: from how often each has run, where indirect jumps last led, and
 * which calls the path has seen. */
#include "engine/bt/translate.h"

#define ROUNDS_MAX 8u
#define STREAM_TRIPS 16u /* with fewer it is not worth it to look how far a loop may go on */
#define LOOP_ROOM 8u     /* steps, for what is in front of such a loop */

static struct insn last_insn(const struct translation *t, const struct bt_block *b)
{
	struct insn i;

	bt_insn_get(t->bt, bt_block_last(t->bt, b), &i);
	return i;
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
	if (flow_is_branch(&i) && !bt_block_last(t->bt, b)->calls_exec && i.imm == -(uint64_t)b->bytes)
		exit = at(t, flow_next(t, &i));
	t->block = before;
	return exit;
}

static bool is_loop(const struct translation *t, const struct bt_block *b)
{
	struct insn i = last_insn(t, b);

	return flow_is_branch(&i) && i.imm == -(uint64_t)b->bytes;
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

/* Where the return at the path's end leads if its call is on the path; else 0. */
static uint64_t returns_to(const struct translation *t, const struct plan *plan)
{
	unsigned depth = 0;

	for (unsigned n = plan->steps - 1; n--;) {
		const struct bt_block *b = &t->bt->block[t->bt->insn[plan->step[n].id].block];
		depth += t->insns[n].op == X86_OP_RET;
		if (t->insns[n].op == X86_OP_CALL && !depth--)
			return b->rip + b->bytes;
	}
	return 0;
}

/* Where the indirect jump or call at the end of t->block leads, if that is mostly the same block. The last time it was this one, and this runs about as often. */
static struct bt_block *leads_to(const struct translation *t)
{
	const struct bt *bt = t->bt;
	uint64_t to = bt->target[t->block - bt->block];
	struct bt_block *b = at(t, t->block->rip + (to - bt_block_rip(bt, t->block)));

	return b && cold(bt, b) < (bt->counting ? BT_HEAT_COUNTING : BT_HEAT) / 4 ? b : NULL;
}

/* Where t->block most often goes on, as far as that is known; NULL: it ends there. */
static struct bt_block *successor(const struct translation *t, const struct plan *plan)
{
	const struct bt_insn *last = bt_block_last(t->bt, t->block);
	const struct insn *i = &t->insns[plan->steps - 1];
	struct bt_block *taken, *next;

	if (last->calls_exec || last->trouble & BT_SITE_GIVEN_UP)
		return NULL;
	next = at(t, flow_next(t, i));
	if (last->resumes)
		return next;
	if (i->op == X86_OP_RET)
		return at(t, returns_to(t, plan));
	if (!(flow_is_branch(i) || i->op == X86_OP_JMP || i->op == X86_OP_CALL))
		return NULL;
	if (i->form != FORM_I)
		return leads_to(t);
	taken = at(t, flow_target(t, i));
	return flow_is_branch(i) && cold(t->bt, next) < cold(t->bt, taken) ? next : taken;
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

/* Is there room for a path of so many? */
static bool fits(const struct bt *bt, unsigned steps, unsigned blocks)
{
	return steps <= STEPS_MAX && blocks <= PATH_MAX && steps * BT_STEP_ROOM + blocks * BT_LEAVE_ROOM <= bt->end.code - bt->code_used;
}

/* A loop of one block is a path of its own. In another path it goes round as often as it mostly does, if that is known. Any other loop is
 * followed wherever it is met: so its groups are those of the code around it. */
static void follow(struct translation *t, struct plan *plan)
{
	struct bt *bt = t->bt;
	struct bt_block *head = t->block, *next;
	unsigned rounds = 1, trips = 1;

	plan->blocks = plan->steps = plan->groups = 0;
	while (add_steps(t, plan, t->block)) {
		next = is_loop(t, t->block) && t->block != head ? trips++ < t->block->trips ? t->block : loop_exit(t, t->block) : successor(t, plan);
		if (!next || cold(bt, next) > BT_HEAT || !fits(bt, plan->steps + next->count, plan->blocks + 1))
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
	unsigned round = t->block->count, rounds = ROUNDS_MAX;
	const struct bt_insn *last = bt_block_last(t->bt, t->block);

	if (!is_loop(t, t->block) || t->block->trips || last->calls_exec || last->trouble & BT_SITE_GIVEN_UP)
		return;
	while (rounds * round > plan->steps || !fits(t->bt, (rounds + 1) * round + LOOP_ROOM, rounds + 1))
		rounds /= 2;
	if (rounds < 2)
		return;
	plan->blocks = rounds;
	plan->steps = rounds * round;
	plan->step[plan->steps - 1].last = false;
	plan->round = round;
}

bool path_find(struct translation *t, struct plan *plan)
{
	bool often = count_trips(t, t->block);

	follow(t, plan);
	plan->round = 0;
	if (often)
		find_rounds(t, plan);
	return !t->bt->holder.has_changes;
}
