/* SPDX-License-Identifier: MIT */
/* Groups of accesses, as they are written: one look at the delta table, then each access from the host address that came of it.
 *
 * In a loop whose groups move by a constant from round to round (streams), the look is in front of the loop. There it is also computed how many rounds the
 * page has left for all of them, and so many are run: what is within the page for sure need not be looked for again. */
#include <assert.h>
#include "engine/bt/translate.h"

#define RUN_MOST 2048u /* instructions that a loop runs before it looks whether somebody wants the processor */

/* HOST_T becomes the linear address of the group's lowest byte. */
static bool lowest(struct translation *t, const struct insn *i, int32_t disp, int32_t back, bool indexed)
{
	struct emit *e = &t->e;
	struct insn low;
	struct ea ea;

	if (!i) {
		emit_op(e, t->width == 8, 0x8d, HOST_T, operand_at(HOST_GUEST_RSP, disp - back));
		return true;
	}
	low = *i;
	low.disp -= back;
	if (indexed && i->scaled < 16 * 8)
		low.scaled = NO_REGISTER;
	else if (indexed)
		low.base = NO_REGISTER;
	if (!memory_address(t, &low, &ea))
		return false;
	if (ea.kind == EA_CONST)
		emit_constant(e, HOST_T, ea.constant);
	else if (ea.kind == EA_BASE)
		emit_lea(e, HOST_T, operand_at(ea.base, ea.disp));
	return true;
}

/* From HOST_T, a linear address, to a host address, which is good for the `range` bytes from there on, but less by `back`. */
static void locate(struct translation *t, unsigned range, bool same, bool aligned, unsigned to, int32_t back)
{
	struct emit *e = &t->e;
	struct stub plain = { .kind = STUB_PLAIN };
	unsigned low = 0;

	if (same && aligned) {
		low = 0;
	} else if (same && range <= 8) {
		low = (unsigned)__builtin_ctz(range);
	} else if (range > 1) {
		memory_within(t, range);
	}
	memory_index(t, HOST_T, low, !low);
	emit_table(e, HOST_X, HOST_X, true);
	memory_jump_if_zero(t, plain);
	emit_lea(e, to, operand_sum(HOST_T, HOST_X, 0, -back));
}

/* The register that has a group's host address as long as it lives, or HOST_NONE. */
static unsigned own_register(const struct translation *t, const struct group *g)
{
	return t->narrow && g->slot < 2 ? HOST_GROUP0 + g->slot : HOST_NONE;
}

static struct operand slot_of(const struct group *g)
{
	return state_at(BT_GROUP + 8 * g->slot);
}

bool group_operand(struct translation *t, const struct insn *i, enum access which, int32_t disp, unsigned in, struct operand *rm)
{
	struct emit *e = &t->e;
	const struct step *s = t->plan ? &t->plan->step[t->step] : NULL;
	unsigned n = s ? s->group[which] : GROUP_NONE;
	const struct group *g = n == GROUP_NONE ? NULL : &t->plan->group[n];

	if (!g)
		return false;
	unsigned own = own_register(t, g);
	if (e->wrote) /* by this instruction's first access: PUSH and CALL of memory have two */
		t->held = GROUP_NONE;
	if (e->wrote_x)
		t->second = GROUP_NONE;
	if (!(t->ready & BIT(n))) {
		if (g->first != t->step || !lowest(t, i, disp, s->at[which], s->indexed && i))
			return false;
		locate(t, g->range, g->same, !i, own == HOST_NONE ? HOST_T : own, 0);
		if (own == HOST_NONE && t->kept & BIT(n))
			emit_store(e, slot_of(g), HOST_T);
		t->ready |= (uint32_t)BIT(n);
		t->held = own == HOST_NONE ? n : GROUP_NONE;
		t->second = GROUP_NONE;
		e->wrote = false;
	}
	unsigned base = own == HOST_NONE ? HOST_T : own;
	if (own == HOST_NONE && t->held != n) {
		base = in != HOST_NONE ? in : t->held == GROUP_NONE && t->second != n ? HOST_T : HOST_X;
		if (base == HOST_T || t->second != n) {
			emit_load(e, base, slot_of(g));
			t->wanted |= (uint32_t)BIT(n);
		}
		if (base == HOST_T)
			t->held = n, e->wrote = false;
		else
			t->second = n, e->wrote_x = false;
	}
	*rm = operand_at(base, s->at[which]);
	if (i && s->indexed) {
		bool scaled = i->scaled < 16 * 8;
		*rm = operand_sum(base, guest_host((scaled ? i->scaled : i->base) / 8), scaled ? i->scale : 0, s->at[which]);
	}
	if (in == HOST_X && (base != HOST_X || rm->index != HOST_NONE)) {
		emit_lea(e, HOST_X, *rm);
		*rm = operand_at(HOST_X, 0);
	}
	return true;
}

/* --- streams --- */

/* The host address of what the first round accesses, less what other rounds access before it (with streams that go down). */
static void locate_stream(struct translation *t, const struct group *g)
{
	const struct stream *m = &g->stream;
	const struct insn first = { .base = m->base, .scaled = m->scaled, .scale = m->scale, .disp = m->disp, .seg = SEG_FLAT, .asize = (uint8_t)t->width,
				    .flags = t->width == 4 ? INSN_ADDRESS32 : 0 };
	unsigned own = own_register(t, g);

	t->too_far = false;
	memory_room_for(t, 80);
	if (!lowest(t, &first, 0, 0, false))
		__builtin_trap(); /* stream_of() has made sure */
	locate(t, m->range, g->same, false, own == HOST_NONE ? HOST_T : own, m->at);
	if (own == HOST_NONE)
		emit_store(&t->e, slot_of(g), HOST_T);
}

/* With 2^20 in it the factor's error, of less than one, does not reach the next integer; and the product is below 2^32. */
struct divisor stream_divisor(unsigned by)
{
	unsigned log = 31u - (unsigned)__builtin_clz(by);

	return by & (by - 1) ? (struct divisor){ (uint32_t)((BIT(20 + log) + by - 1) / by), 20 + log } : (struct divisor){ 1, log };
}

/* HOST_X becomes how many more rounds there are in the page, behind the first one. Changes flags. */
static void rounds_left(struct translation *t, const struct group *g)
{
	struct emit *e = &t->e;
	const struct stream *m = &g->stream;
	unsigned own = own_register(t, g);
	struct divisor by = stream_divisor((unsigned)(m->by < 0 ? -m->by : m->by));

	if (own == HOST_NONE)
		emit_load(e, HOST_X, slot_of(g));
	emit_lea32(e, HOST_X, operand_at(own == HOST_NONE ? HOST_X : own, m->at));
	if (m->by > 0)
		emit_op(e, false, 0xf7, 2, operand_reg(HOST_X)); /* NOT */
	emit_op(e, false, 0x81, 4, operand_reg(HOST_X)); /* AND */
	emit32(e, X86_PAGE_SIZE - 1);
	if (m->by > 0 && m->range > 1) {
		emit_op(e, false, 0x81, 5, operand_reg(HOST_X)); /* SUB: it is no less, as the first round fits */
		emit32(e, m->range - 1u);
	}
	if (by.factor != 1) {
		emit_op(e, false, 0x69, HOST_X, operand_reg(HOST_X)); /* IMUL */
		emit32(e, by.factor);
	}
	if (by.shift) {
		emit_op(e, false, 0xc1, 5, operand_reg(HOST_X)); /* SHR */
		emit8(e, by.shift);
	}
}

/* How often the loop goes round is in struct bt_state: several rounds at once, and then single ones. */
static void count_rounds(struct translation *t, unsigned at_once)
{
	struct emit *e = &t->e;
	const struct plan *plan = t->plan;
	unsigned most = MAX(RUN_MOST / plan->round, at_once), log = (unsigned)__builtin_ctz(at_once);
	bool moves = false;

	for (unsigned n = 0; n < plan->groups; n++)
		moves |= plan->group[n].streams && plan->group[n].stream.by;
	if (!moves) {
		emit_store_constant(e, BT_PASSES, most >> log);
		emit_store_constant(e, BT_ROUNDS, most & (at_once - 1));
		return;
	}
	emit_store(e, state_at(BT_SAVED), RAX);
	emit8(e, 0x9f); /* LAHF */
	emit_op0f(e, false, 0x90, 0, operand_reg(RAX)); /* SETO AL */
	emit_constant(e, HOST_T, most - 1);
	for (unsigned n = 0; n < plan->groups; n++) {
		if (!plan->group[n].streams || !plan->group[n].stream.by)
			continue;
		rounds_left(t, &plan->group[n]);
		emit_op(e, false, 0x3b, HOST_X, operand_reg(HOST_T)); /* CMP */
		emit_op0f(e, false, 0x42, HOST_T, operand_reg(HOST_X)); /* CMOVB */
	}
	emit_op(e, false, 0xff, 0, operand_reg(HOST_T)); /* INC */
	emit_op(e, false, 0x8b, HOST_X, operand_reg(HOST_T));
	emit_op(e, false, 0xc1, 5, operand_reg(HOST_X)); /* SHR */
	emit8(e, log);
	emit_store(e, state_at(BT_PASSES), HOST_X);
	emit_op(e, false, 0x83, 4, operand_reg(HOST_T)); /* AND */
	emit8(e, at_once - 1);
	emit_store(e, state_at(BT_ROUNDS), HOST_T);
	emit_flags_from_ax(e);
	emit_load(e, RAX, state_at(BT_SAVED));
}

void stream_begin(struct translation *t, unsigned at_once)
{
	t->tight = false;
	for (unsigned n = 0; n < t->plan->groups; n++) {
		if (!t->plan->group[n].streams)
			continue;
		locate_stream(t, &t->plan->group[n]);
		t->kept |= (uint32_t)BIT(n);
		t->wanted |= (uint32_t)BIT(n);
	}
	memory_island(t, true);
	assert(!t->too_far);
	count_rounds(t, at_once);
}

void stream_round(struct translation *t)
{
	t->held = t->second = GROUP_NONE;
	t->ready = 0;
	for (unsigned n = 0; n < t->plan->groups; n++)
		if (t->plan->group[n].streams)
			t->ready |= (uint32_t)BIT(n);
}

void stream_advance(struct translation *t, unsigned rounds)
{
	struct emit *e = &t->e;

	memory_island(t, true); /* what follows may be longer than a short jump reaches */
	for (unsigned n = 0; n < t->plan->groups; n++) {
		const struct group *g = &t->plan->group[n];
		int32_t by = g->stream.by * (int32_t)rounds;
		unsigned own = own_register(t, g);
		if (!g->streams || !by)
			continue;
		if (own != HOST_NONE) {
			emit_lea(e, own, operand_at(own, by));
			continue;
		}
		if (t->held != n)
			emit_load(e, HOST_T, slot_of(g));
		emit_lea(e, HOST_T, operand_at(HOST_T, by));
		emit_store(e, slot_of(g), HOST_T);
		t->held = GROUP_NONE;
	}
}
