/* SPDX-License-Identifier: MIT */
/* Groups of memory accesses: one look at the delta table for several.
 *
 * Code that runs often gets a fast copy (hot.c). In it the addresses of memory operands are followed symbolically: a register's value is a symbol
 * plus a constant; additions of constants, pushes and pops, and copies keep the symbol, everything else makes a new one. Accesses whose addresses
 * differ by a constant form a group. Where its first access is, one look at the delta table gives the host address of the group's lowest
 * byte, after a check that the group as a whole lies within a page; the others go from there, with no check of their own. A loop that comes back
 * to its block's start is written down several rounds in a row, so that a group may reach over rounds.
 *
 * Nothing in the fast copy can change the table between two accesses of a group: what could is an exec function, and behind
 * that the plain copy goes on, in which each access looks for itself. */
#include "engine/bt/translate.h"

#define RANGE_MAX 1024            /* of a group */
#define TABLE_MAX 2048            /* of one whose accesses have an index that is known to be small */
#define SLOTS ARRAY_SIZE(((struct bt_state *)0)->group)

enum { SYMBOL_NONE = 16, SYMBOL_RIP, SYMBOL_NEW };

struct value {                /* (symbol << scale) + offset, modulo 2^64 */
	unsigned symbol;
	uint8_t scale;
	uint64_t offset;
	uint32_t limit;       /* what it is below, for sure; 0: not known */
};

struct place {                /* (base << base_scale) + (index << scale), but for a constant */
	unsigned base, index;
	uint8_t base_scale, scale, seg;
};

struct open_group {           /* while accesses are collected */
	struct place place;
	uint64_t low;         /* first byte */
	unsigned size, count, epoch;
	bool same, table;
};

struct analysis {
	const struct translation *t;
	struct plan *plan;
	struct value reg[16], after[16]; /* now; after the first round of a loop */
	unsigned symbols, epoch;
	struct open_group group[GROUPS_MAX];
	uint64_t at[STEPS_MAX][ACCESSES]; /* the constants */
	uint16_t size[STEPS_MAX][ACCESSES]; /* how far it may reach from there */
};

/* --- what an instruction accesses --- */

/* An index register that is known to be small enough: the access is somewhere in a range. */
static uint32_t small(const struct analysis *a, uint8_t reg, unsigned scale)
{
	uint32_t limit = reg < 16 * 8 && guest_host(reg / 8) != HOST_NONE ? a->reg[reg / 8].limit : 0;

	return limit << scale <= TABLE_MAX ? limit : 0;
}

/* Where it begins, but for the index; how far that may reach. */
static bool place_of(const struct analysis *a, const struct bt_block *b, const struct insn *i, struct place *p, uint64_t *at, uint32_t *reach)
{
	bool base = i->base < 16 * 8, index = i->scaled < 16 * 8;

	if (i->asize != a->t->width || (i->seg != SEG_FLAT && i->seg != SEG_FS && i->seg != SEG_GS))
		return false;
	*p = (struct place){ .base = i->base == X86_GPR_RIP * 8 ? SYMBOL_RIP : SYMBOL_NONE, .index = SYMBOL_NONE, .seg = i->seg };
	*at = (uint64_t)i->disp + (i->base == X86_GPR_RIP * 8 ? b->rip : 0);
	*reach = 0;
	if (index && small(a, i->scaled, i->scale)) {
		*reach = (small(a, i->scaled, i->scale) - 1) << i->scale;
		index = false;
	} else if (base && !index && small(a, i->base, 0)) {
		*reach = small(a, i->base, 0) - 1;
		base = false;
	}
	if (base) {
		p->base = a->reg[i->base / 8].symbol;
		p->base_scale = a->reg[i->base / 8].scale;
		*at += a->reg[i->base / 8].offset;
	}
	if (index) {
		p->index = a->reg[i->scaled / 8].symbol;
		p->scale = p->index == SYMBOL_NONE ? 0 : (uint8_t)(a->reg[i->scaled / 8].scale + i->scale);
		*at += a->reg[i->scaled / 8].offset << i->scale;
	}
	return true;
}

/* Where it accesses the stack, from RSP; false: it does not. */
static bool stack_of(const struct analysis *a, const struct insn *i, int *at)
{
	int width = (int)a->t->width;

	if (i->osize != a->t->width)
		return false;
	switch (i->op) {
	case X86_OP_PUSH:
	case X86_OP_CALL:
	case X86_OP_PUSHFQ:
	case X86_OP_PUSHFD:
	case X86_OP_PUSH_SREG:
		*at = -width;
		return true;
	case X86_OP_POP:
	case X86_OP_POPFQ:
	case X86_OP_POPFD:
	case X86_OP_RET:
		*at = 0;
		return true;
	default:
		return false;
	}
}

static bool same_place(const struct place *p, const struct place *q)
{
	return p->base == q->base && p->base_scale == q->base_scale && p->index == q->index && p->scale == q->scale && p->seg == q->seg;
}

/* The access joins a group of its place that is near, or opens one. */
static unsigned join(struct analysis *a, const struct place *p, uint64_t at, unsigned size, bool table, unsigned step)
{
	struct plan *plan = a->plan;

	for (unsigned n = plan->groups; n--;) {
		struct open_group *g = &a->group[n];
		if (!same_place(&g->place, p) || g->epoch != a->epoch)
			continue;
		int64_t from = (int64_t)(at - g->low); /* modulo 2^64, as the processor adds */
		if (from < -TABLE_MAX || from > TABLE_MAX)
			continue; /* another array, by the same register */
		int64_t low = MIN(from, 0), high = MAX(from + size, (int64_t)g->size);
		if (high - low > (g->table || table ? TABLE_MAX : RANGE_MAX))
			continue;
		g->same &= !from && size == g->size && !table;
		g->table |= table;
		g->low += (uint64_t)low;
		g->size = (unsigned)(high - low);
		g->count++;
		plan->group[n].last = (uint16_t)step;
		return n;
	}
	if (plan->groups == GROUPS_MAX)
		return GROUP_NONE;
	a->group[plan->groups] = (struct open_group){ .place = *p, .low = at, .size = size, .count = 1, .epoch = a->epoch,
							       .same = !table, .table = table };
	plan->group[plan->groups] = (struct group){ .first = (uint16_t)step, .last = (uint16_t)step };
	return plan->groups++;
}

static void collect(struct analysis *a, const struct bt_block *b, const struct insn *i, const struct x86_shape *s, unsigned step)
{
	struct step *to = &a->plan->step[step];
	struct place p;
	uint32_t reach;
	uint64_t at;
	int disp;

	bool push = i->op == X86_OP_PUSH && i->form == FORM_M && i->osize == a->t->width;
	unsigned size = push ? a->t->width : s && again_plain_operand(i, s) ? s->memory_size : 0;

	if (size && place_of(a, b, i, &p, &at, &reach) && reach + size <= TABLE_MAX) {
		a->at[step][ACCESS_OPERAND] = at;
		a->size[step][ACCESS_OPERAND] = (uint16_t)(reach + size);
		to->indexed = reach;
		to->group[ACCESS_OPERAND] = (uint8_t)join(a, &p, at, reach + size, reach, step);
	}
	if (stack_of(a, i, &disp)) {
		p = (struct place){ .base = a->reg[RSP].symbol, .base_scale = a->reg[RSP].scale, .index = SYMBOL_NONE, .seg = SEG_FLAT };
		a->at[step][ACCESS_STACK] = a->reg[RSP].offset + (uint64_t)disp;
		a->size[step][ACCESS_STACK] = (uint16_t)a->t->width;
		to->group[ACCESS_STACK] = (uint8_t)join(a, &p, a->at[step][ACCESS_STACK], a->t->width, false, step);
	}
}

/* --- what an instruction does to registers --- */

static void renew(struct analysis *a, unsigned reg)
{
	a->reg[reg] = (struct value){ .symbol = a->symbols++ };
}

/* Register operand of the whole width; else 16. */
static unsigned whole(const struct analysis *a, const struct insn *i, uint8_t at)
{
	return i->size == a->t->width && at < 16 * 8 && !(at & 7) ? at / 8 : 16;
}

/* A constant is an offset from no symbol. */
static bool constant(struct analysis *a, const struct insn *i)
{
	bool zero = (i->op == X86_OP_XOR || i->op == X86_OP_SUB) && i->form == FORM_RR && i->dst == i->src;

	if (i->size < 4 || i->dst >= 16 * 8 || !(zero || (i->op == X86_OP_MOV && i->form == FORM_RI && i->imm < BIT(31))))
		return false;
	a->reg[i->dst / 8] = (struct value){ .symbol = SYMBOL_NONE, .offset = zero ? 0 : i->imm };
	return true;
}

/* What it was below, it may be no more. */
static void add(struct analysis *a, unsigned reg, uint64_t by)
{
	a->reg[reg].offset += by;
	a->reg[reg].limit = 0;
}

static struct value shifted(struct value v, unsigned by, int64_t disp)
{
	v.scale = v.symbol == SYMBOL_NONE ? 0 : (uint8_t)(v.scale + by);
	v.offset = (v.offset << by) + (uint64_t)disp;
	v.limit = 0;
	return v;
}

/* It sets a register to a value that is known: true. */
static bool follow(struct analysis *a, const struct insn *i, const struct x86_shape *s)
{
	unsigned to = whole(a, i, i->dst), width = a->t->width;

	if (constant(a, i))
		return true;
	if (to == 16)
		return false;
	switch (i->op) {
	case X86_OP_ADD:
	case X86_OP_SUB:
		if (i->form != FORM_RI)
			return false;
		add(a, to, i->op == X86_OP_ADD ? i->imm : -i->imm);
		return true;
	case X86_OP_INC:
	case X86_OP_DEC:
		if (i->form != FORM_R)
			return false;
		add(a, to, i->op == X86_OP_INC ? 1 : ~0ULL);
		return true;
	case X86_OP_MOV:
		if (i->form != FORM_RR || i->src >= 16 * 8 || s->reg.kind != SHAPE_GPR || s->rm.kind != SHAPE_GPR)
			return false;
		a->reg[to] = a->reg[i->src / 8];
		return true;
	case X86_OP_LEA:
		if (i->asize != width || (i->base >= 16 * 8) == (i->scaled >= 16 * 8) || i->base == X86_GPR_RIP * 8)
			return false;
		a->reg[to] = i->base < 16 * 8 ? shifted(a->reg[i->base / 8], 0, i->disp) : shifted(a->reg[i->scaled / 8], i->scale, i->disp);
		return a->reg[to].scale < 32;
	case X86_OP_SHL:
		if (i->form != FORM_RI || i->imm > 8)
			return false;
		a->reg[to] = shifted(a->reg[to], (unsigned)i->imm, 0);
		return a->reg[to].scale < 32;
	default:
		return false;
	}
}

/* What the register is below after the instruction, which writes all of it; 0: anything. */
static uint32_t limit_of(const struct analysis *a, const struct insn *i)
{
	if (i->size < 4 || i->dst >= 16 * 8)
		return 0;
	switch (i->op) {
	case X86_OP_MOVZX:
		return i->ssize == 1 ? 256 : 0;
	case X86_OP_AND:
		return i->form == FORM_RI && i->imm < TABLE_MAX ? (uint32_t)i->imm + 1 : 0;
	case X86_OP_SHR:
		return i->form == FORM_RI && i->size == 4 && (i->imm & 31) > 20 ? 1u << (32 - (i->imm & 31)) : 0;
	case X86_OP_MOV: /* 32 bits of a small value are all of it */
		return i->form == FORM_RR && i->src < 16 * 8 && !(i->src & 7) ? a->reg[i->src / 8].limit : 0;
	default:
		return 0;
	}
}

static void effect(struct analysis *a, const struct insn *i, const struct x86_shape *s)
{
	uint64_t width = a->t->width;

	switch (i->op) {
	case X86_OP_PUSH:
	case X86_OP_CALL:
	case X86_OP_PUSHFQ:
	case X86_OP_PUSHFD:
	case X86_OP_PUSH_SREG:
		add(a, RSP, -width);
		return;
	case X86_OP_POPFQ:
	case X86_OP_POPFD:
		add(a, RSP, width);
		return;
	case X86_OP_RET:
		add(a, RSP, width + (i->form == FORM_I ? i->imm & 0xffff : 0));
		return;
	case X86_OP_POP:
		add(a, RSP, width);
		renew(a, i->dst / 8 & 15);
		return;
	case X86_OP_LEAVE:
		a->reg[RSP] = shifted(a->reg[RBP], 0, (int64_t)width);
		renew(a, RBP);
		return;
	case X86_OP_STI:
	case X86_OP_CLI:
		return;
	case X86_OP_STAC: /* another table */
	case X86_OP_CLAC:
	case X86_OP_SWAPGS:
		a->epoch++;
		return;
	default:
		break;
	}
	uint32_t limit = limit_of(a, i);
	if (follow(a, i, s))
		return;
	const struct shape_register *r[] = { &s->reg, &s->rm, &s->vvvv, &s->op };
	for (unsigned n = 0; n < ARRAY_SIZE(r); n++)
		if (r[n]->kind == SHAPE_GPR && r[n]->written)
			renew(a, r[n]->number);
	for (unsigned n = 0; n < 16; n++)
		if (s->implied_written & BIT(n))
			renew(a, n);
	if (limit)
		a->reg[i->dst / 8].limit = limit;
}

/* --- the plan --- */

/* What the group costs without being one, and with it: host instructions. In 32-bit code each address has to be cut off. */
static bool pays(const struct open_group *g, bool stack, unsigned width)
{
	return g->same ? g->count >= 2 : g->count >= (stack && width == 8 ? 4 : 3);
}

/* How much a symbol that is known when the loop begins grows in a round. False: it is not known, or not constant. */
static bool grows(const struct analysis *a, unsigned symbol, unsigned scale, uint64_t *by)
{
	if (symbol == SYMBOL_NONE || symbol == SYMBOL_RIP)
		return true;
	if (symbol >= SYMBOL_NEW || a->after[symbol].symbol != symbol || a->after[symbol].scale)
		return false;
	*by += a->after[symbol].offset << scale;
	return true;
}

/* The bytes that the group's accesses reach in these steps, from its lowest byte on, less `by` for each round. */
struct extent { int64_t low, high; };
static struct extent extent(const struct analysis *a, unsigned group, unsigned steps, int64_t by)
{
	const struct plan *plan = a->plan;
	struct extent x = { INT64_MAX, INT64_MIN };

	for (unsigned s = 0; s < steps; s++)
		for (unsigned which = 0; which < ACCESSES; which++) {
			int64_t at = (int64_t)(a->at[s][which] - a->group[group].low) - by * (int64_t)(s / plan->round);
			if (plan->step[s].group[which] != group)
				continue;
			x.low = MIN(x.low, at);
			x.high = MAX(x.high, at + a->size[s][which]);
		}
	return x;
}

/* The group as it is when a round of the loop begins, if its address is known then and moves by a constant, and every round accesses what the first
 * one does, so much farther. */
static bool stream_of(const struct analysis *a, unsigned group, struct stream *m)
{
	const struct place *p = &a->group[group].place;
	const struct plan *plan = a->plan;
	bool swapped = p->base_scale; /* a sum has a scale for its second register only */
	unsigned base = swapped ? p->index : p->base, index = swapped ? p->base : p->index, scale = swapped ? p->base_scale : p->scale;
	uint64_t by = 0;

	if (!plan->round || a->epoch || p->seg != SEG_FLAT || scale > 3 || (swapped && p->scale))
		return false;
	if (!grows(a, p->base, p->base_scale, &by) || !grows(a, p->index, p->scale, &by) || by + STREAM_BY_MAX > 2 * STREAM_BY_MAX)
		return false;
	struct extent first = extent(a, group, plan->round, 0), all = extent(a, group, plan->steps, (int64_t)by);
	if (first.low > first.high || all.low != first.low || all.high != first.high)
		return false;
	uint64_t disp = a->group[group].low + (uint64_t)first.low - (base == SYMBOL_RIP ? a->t->block->rip : 0);
	*m = (struct stream){ .by = (int32_t)by, .base = NO_REGISTER, .scaled = NO_REGISTER,
			      .disp = a->t->width == 4 ? (int32_t)disp : (int64_t)disp,
			      .at = (uint16_t)first.low, .range = (uint16_t)(first.high - first.low) };
	if (base == SYMBOL_RIP)
		m->base = X86_GPR_RIP * 8;
	else if (base < 16)
		m->base = (uint8_t)(base * 8);
	if (index < 16) {
		m->scaled = (uint8_t)(index * 8);
		m->scale = (uint8_t)scale;
	}
	return fits32(m->disp);
}

static void choose_one(struct analysis *a, unsigned n, int busy[SLOTS])
{
	const struct open_group *o = &a->group[n];
	struct group *g = &a->plan->group[n];
	unsigned slot = 0;

	while (slot < SLOTS && busy[slot] >= g->first)
		slot++;
	if (slot == SLOTS)
		return;
	busy[slot] = g->last;
	g->slot = (uint8_t)slot;
	g->count = (uint16_t)o->count;
	g->range = (uint16_t)o->size;
	g->same = o->same;
}

/* Groups whose host address may have to wait get a slot each, as long as they live; those that live as long as a loop come first. */
static void choose(struct analysis *a)
{
	struct plan *plan = a->plan;
	unsigned streams = 0;
	int busy[SLOTS];

	for (unsigned n = 0; n < SLOTS; n++)
		busy[n] = -1;
	for (unsigned n = 0; n < plan->groups && streams < STREAMS_MAX; n++) {
		struct group *g = &plan->group[n];
		if (!pays(&a->group[n], false, a->t->width) || !stream_of(a, n, &g->stream))
			continue;
		g->first = 0;
		g->last = (uint16_t)(plan->steps - 1);
		g->streams = true;
		streams++;
		choose_one(a, n, busy);
	}
	for (unsigned n = 0; n < plan->groups; n++) {
		const struct open_group *o = &a->group[n];
		if (!plan->group[n].streams && pays(o, o->place.index == SYMBOL_NONE && o->place.base == RSP, a->t->width))
			choose_one(a, n, busy);
	}
	if (!streams)
		plan->round = 0;
	for (unsigned s = 0; s < plan->steps; s++)
		for (unsigned which = 0; which < ACCESSES; which++) {
			uint8_t *n = &plan->step[s].group[which];
			if (*n == GROUP_NONE || !plan->group[*n].count)
				*n = GROUP_NONE;
			else
				plan->step[s].at[which] = (uint16_t)(a->at[s][which] - a->group[*n].low);
		}
}

void group_plan(const struct translation *t, struct plan *plan)
{
	struct analysis a = { .t = t, .plan = plan, .symbols = SYMBOL_NEW };

	for (unsigned n = 0; n < 16; n++)
		a.reg[n].symbol = n;
	for (unsigned n = 0; n < plan->steps; n++) {
		if (n == plan->round)
			memcpy(a.after, a.reg, sizeof(a.after));
		const struct bt_insn *rec = &t->bt->insn[plan->step[n].id];
		const struct x86_shape *s = t->shaped[n] ? &t->shapes[n] : NULL;
		plan->step[n].group[ACCESS_OPERAND] = plan->step[n].group[ACCESS_STACK] = GROUP_NONE;
		collect(&a, &t->bt->block[rec->block], &t->insns[n], s, n);
		if (s)
			effect(&a, &t->insns[n], s);
		else
			for (unsigned r = 0; r < 16; r++)
				renew(&a, r);
	}
	choose(&a);
}
