/* SPDX-License-Identifier: MIT */
/* Forms of code for random loops: addresses from constants, shifts and scaled indexes, frames, returns that release, loops within the loop, strings,
 * indirect jumps, segment registers, prefixes that do not count. */
#include "lib/loop_emit.h"

#define COUNTERS (LOOP_SHARED + 8 * 34) /* of loops within the loop */
#define COUNTERS_MAX 5

static unsigned counters; /* in use */

/* --- addresses --- */

void accesses(unsigned base, unsigned n)
{
	static const uint16_t alu[] = { 0x8b, 0x89, 0x8b, 0x89, 0x03, 0x01, 0x33, 0x31, 0x3b, 0x2b };

	while (n--) {
		unsigned reg = data();
		if (reg == base)
			continue;
		if (pick(4))
			op_at(width(), 0, ONE(alu), reg, base, near());
		else
			op_at(4, 0, pick(2) ? 0x0fb6 : 0x0fb7, reg, base, near());
	}
}

static uint32_t constant(void) { return LOOP_VA + 0x1000 * pick(4) + (pick(2) ? 0xf80 : 0) + pick(128); }

static void move_constant(unsigned r, uint32_t value)
{
	rex(4, 0, 0, r, false), b(0xb8 | (r & 7)), d(value);
}

static void change(unsigned r)
{
	switch (pick(6)) {
	case 0: rr(whole(), 0x83, 0, r), b(pick(64)); break;
	case 1: rr(whole(), 0x83, 5, r), b(pick(64)); break;
	case 2: rr(whole(), 0xff, pick(2), r); break;
	case 3: op_at(whole(), 0, 0x8d, r, r, near()); break;
	case 4: rr(4, 0x81, pick(2) ? 0 : 5, r), d(pick(64)); break;
	default: break;
	}
}

static void constants(void)
{
	unsigned r = data(), by = 1 + pick(8);
	uint32_t value = constant();

	switch (pick(4)) {
	case 0: move_constant(r, value); break;
	case 1: rr(whole(), pick(2) ? 0x31 : 0x29, r, r), op_at(whole(), 0, 0x8d, r, r, (int)value); break;
	default:
		move_constant(r, value >> by);
		if (pick(2))
			rr(whole(), 0xff, pick(2), r);
		rr(whole(), 0xc1, 4, r), b(by);
	}
	accesses(r, 2 + pick(3));
	change(r);
	accesses(r, 2 + pick(3));
}

/* Something below 256, as far as instructions tell. */
static void make_small(unsigned x, unsigned other)
{
	byte_regs = true;
	switch (pick(4)) {
	case 0: rr(pick(2) ? whole() : 4, 0x0fb6, x, loop->wide ? any_data() : pick(4)); break;
	case 1: rr(4, 0x81, 4, x), d(0x3f << pick(3)); break;
	case 2: rr(4, 0xc1, 5, x), b(24 + pick(8)); break;
	case 3: rr(4, 0x0fb6, other, RAX + pick(4)), rr(pick(2) ? whole() : 4, 0x8b, x, other); break;
	}
	byte_regs = false;
}

/* It grows, or becomes a part of what it was. */
static void grow(unsigned x)
{
	switch (pick(8)) {
	case 0: rr(pick(3) ? whole() : 4, 0x83, 0, x), b(pick(128)); break;
	case 1: rr(whole(), 0x81, 0, x), d(pick(0x400)); break;
	case 2: rr(whole(), 0xc1, 4, x), b(1 + pick(3)); break;
	case 3: op_at(pick(3) ? whole() : 4, 0, 0x8d, x, x, (int)pick(0x300)); break;
	case 4: op_sum(whole(), 0x8d, x, x, x, pick(3), 0); break;
	case 5: rr(2, 0x83, 0, x), b(pick(128)); break;
	case 6: rr(2, 0xc1, 4, x), b(pick(3)); break;
	case 7: rr(pick(2) ? whole() : 4, 0xff, 0, x); break;
	}
}

/* An index that is small, and grows, by a pointer that is near the end of a page or by a constant. */
static void indexes(void)
{
	unsigned x = data(), y = data(), base = pointer(), scale = pick(pick(2) ? 1 : 4), grown = 0;

	if (pick(4)) {
		rr(4, 0x81, 4, base), d(0xfffff03f);
		rr(4, 0x81, 1, base), d(0xe00 + 0x40 * pick(7));
	}
	make_small(x, y);
	for (unsigned n = 4 + pick(5); n--;) {
		unsigned reg = data();
		if (grown < 3 && !pick(3))
			grow(x), grown++;
		if (!pick(5) && x != y) {
			rr(pick(2) ? whole() : 4, 0x89, x, y);
			unsigned z = x;
			x = y, y = z;
		}
		if (reg == x || reg == y)
			continue;
		if (pick(3)) {
			op_sum(width() == 8 ? 8 : 4, pick(3) ? 0x8b : 0x89, reg, base, x, scale, near());
		} else { /* no base */
			rex(4, reg, x, 0, false);
			b(pick(3) ? 0x8b : 0x89), b((reg & 7) << 3 | 4), b(scale << 6 | (x & 7) << 3 | 5);
			d(LOOP_VA + 0xf00 + (uint32_t)near());
		}
	}
}

/* From one register others come, by as many ways, and all are used side by side. */
static void derive(unsigned to, unsigned from, uint32_t end)
{
	unsigned by = pick(4);

	switch (pick(5)) {
	case 0:
		rex(whole(), to, from, 0, false);
		b(0x8d), b((to & 7) << 3 | 4), b(by << 6 | (from & 7) << 3 | 5), d(end + pick(32));
		break;
	case 1: rr(whole(), 0x89, from, to), rr(whole(), 0xc1, 4, to), b(by), rr(whole(), 0x81, 0, to), d(end + pick(32)); break;
	case 2: op_at(whole(), 0, 0x8d, to, from, (int)end + near()); break;
	case 3: rr(4, 0x89, from, to), rr(whole(), 0x81, 5, to), d(0 - end - pick(32)); break;
	case 4: op_at(4, 0, 0x8d, to, from, (int)end + near()), rr(pick(2) ? whole() : 4, 0xff, pick(2), to); break;
	}
}

static void families(void)
{
	unsigned x = data(), y = data(), z = data();
	uint32_t end = LOOP_VA + (pick(2) ? 0x1000 * pick(3) + 0xf00 : 0x200);

	if (x == y || x == z || y == z)
		return;
	rr(4, 0x81, 4, x), d(pick(2) ? 0x7f : 0x1f);
	derive(y, x, end);
	derive(z, x, end);
	for (unsigned n = 4 + pick(5); n--;) {
		unsigned of = pick(2) ? y : z, reg = pointer();
		if (!pick(4))
			change(of);
		op_at(width(), 0, pick(2) ? 0x8b : 0x89, reg, of, near());
		mask(reg);
	}
}

/* An index that is below zero when the loop has run for some time: 32 bits of it are not all. */
static void negatives(void)
{
	unsigned x = data(), p = pointer();

	if (!loop->wide)
		return;
	rr(4, 0x89, R13, x), rr(4, 0xc1, 5, x), b(8);
	rr(8, 0x83, 5, x), b(pick(24));
	for (unsigned n = 3 + pick(3); n--;) {
		unsigned reg = data();
		if (reg == x)
			continue;
		if (!pick(4))
			rr(pick(2) ? 8 : 4, 0x83, 0, x), b(pick(24));
		if (!pick(5))
			rr(pick(2) ? 8 : 4, 0x89, x, x);
		op_sum(pick(2) ? 8 : 4, pick(2) ? 0x8b : 0x89, reg, p, x, 0, near());
	}
}

/* --- the stack --- */

static void frame(void)
{
	unsigned k = 1 + pick(6), x = data();

	b(0x55), w(), b(0x89), b(0xe5);                            /* push rbp; mov rbp, rsp */
	rr(whole(), 0x83, 5, RSP), b(8 * k);
	if (pick(2))
		rr(whole(), 0x83, 4, RSP), b((uint8_t)-(8 << pick(4)));
	if (!pick(3)) {
		rr(4, 0x83, 4, x), b(pick(8) ? 0x38 : 0x3f);
		rr(whole(), pick(2) ? 0x29 : 0x01, x, RSP);
	}
	for (unsigned n = 2 + pick(5); n--;)
		if (pick(2))
			accesses(RBP, 1);
		else
			op_at(width(), 0, pick(2) ? 0x8b : 0x89, data(), RSP, 8 * (int)pick(6));
	switch (pick(3)) {
	case 0: b(0xc9); break;
	case 1: w(), b(0x89), b(0xec), b(0x5d); break;
	default: w(), b(0x8d), b(0x65), b(0), b(0x5d); break;      /* lea rsp, [rbp]; pop rbp */
	}
	mask(RBP);
}

static void stack_forms(void)
{
	unsigned r = data();

	switch (pick(10)) {
	case 0: b(0x6a), b(pick(256)), accesses(RSP, 1), b(0x58); break;
	case 1: b(0x68), d(pick(1u << 31)), b(0x58); break;
	case 2: b(0x54), b(0x5c); break;                           /* push rsp; pop rsp */
	case 3: b(0x50), op_at(whole(), 0, 0x87, r, RSP, 0), b(0x59); break;
	case 4: b(0x50), b(0x51), op_at(4, 0, 0x8f, 0, RSP, pick(2) ? 0 : 8), b(0x5a); break;
	case 5: b(0xc8), b(8 * pick(6)), b(0), b(0), accesses(RBP, 1), b(0xc9), mask(RBP); break;
	case 6: b(0x66), b(0x50), b(0x66), b(0x58); break;
	case 7: rr(whole(), 0x89, RSP, r), b(0x50), b(0x51), rr(whole(), 0x89, r, RSP); break;
	case 8: op_at(whole(), 0, 0x8d, RSP, RSP, 8 * ((int)pick(9) - 4)), accesses(RSP, 2); break;
	case 9: b(0x9c), b(0x9d); break;
	}
}

/* A call whose return releases what was pushed, or goes elsewhere. */
static void releasing(void)
{
	unsigned n = pick(4), r = data();
	uint8_t *over;

	b(0xeb), b(0), over = at;
	uint8_t *start = at;
	for (unsigned k = pick(3); k--;) /* loads: it is to return */
		op_at(width(), 0, 0x8b, data(), RSP, near());
	if (!pick(4)) /* to a copy of the return address */
		rex(4, 0, 0, r, false), b(0x58 | (r & 7)), rex(4, 0, 0, r, false), b(0x50 | (r & 7));
	if (n)
		b(0xc2), b(n * whole()), b(0);
	else
		b(0xc3);
	over[-1] = (uint8_t)(at - over);
	for (unsigned k = 0; k < n; k++)
		b(0x50 | pick(3));
	b(0xe8), d((uint32_t)(start - (at + 4)));
}

/* To one of two places, by a jump or a return. */
static void indirect(void)
{
	unsigned r = data(), x = data();
	uint8_t *from;

	if (x == r)
		return;
	rr(4, 0x83, 4, x), b(1);
	b(0xe8), d(0), from = at;
	rex(4, 0, 0, r, false), b(0x58 | (r & 7));
	uint8_t *lea = at;
	op_sum(whole(), 0x8d, r, r, x, 3, 0);
	switch (pick(3)) {
	case 0: rex(4, 0, 0, r, false), b(0xff), b(0xe0 | (r & 7)); break;
	case 1: rex(4, 0, 0, r, false), b(0x50 | (r & 7)), b(0xc3); break;
	default: rex(4, 0, 0, r, false), b(0xff), b(0xd0 | (r & 7)); break; /* a call that does not return */
	}
	uint32_t to = (uint32_t)(at - from);
	memcpy(lea + (loop->wide ? 4 : 3), &to, 4);
	b(0x0f), b(0x1f), b(0x80), d(0), b(0x90);
	accesses(pointer(), 1 + pick(2));
}

/* --- a loop within the loop --- */

static void inner(unsigned depth)
{
	uint32_t counter = COUNTERS + 8 * counters;
	unsigned p = pointer(), q = pointer(), x = data(), stride = 1u << pick(5), rounds = pick(3) ? 2 + pick(12) : 20 + pick(300);
	bool by_index = pick(2);
	uint8_t *head;

	if (counters == COUNTERS_MAX || depth > 2)
		return;
	counters++;
	b(0xc7), absolute(0, counter), d(rounds);
	if (by_index)
		rr(4, 0x31, x, x);
	head = at;
	for (unsigned n = 1 + pick(3); n--;) {
		unsigned reg = data();
		if (by_index && reg != x)
			op_sum(width() == 8 ? 8 : 4, pick(2) ? 0x8b : 0x89, reg, pick(2) ? p : q, x, pick(4), near());
		else
			accesses(pick(2) ? p : q, 1);
	}
	bool before = in_function;
	in_function = true; /* nor is the stack moved in each of the rounds */
	if (!pick(4))
		some(1, 3);
	in_function = before;
	if (by_index) {
		rr(4, 0x83, 0, x), b(pick(2) ? 1 : stride);
		rr(4, 0x81, 4, x), d(0x3ff);
	} else if (pick(2)) {
		rr(whole(), 0x83, 0, p), b(stride);
	} else {
		op_at(whole(), 0, 0x8d, p, p, (int)stride);
	}
	if (!by_index)
		rr(4, 0x81, 4, p), d(LOOP_VA | SPACE);
	b(0xff), absolute(1, counter);
	b(0x0f), b(0x85), d((uint32_t)(head - (at + 4)));
	mask(p);
	counters--;
}

/* --- what else there is --- */

static void strings(void)
{
	static const uint8_t op[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xa4, 0xa5, 0xab, 0xaa, 0xae, 0xa6 };
	unsigned k = ONE(op);
	bool repeats = pick(3), back = !pick(12);

	if (repeats)
		move_constant(RCX, pick(4) ? pick(48) : pick(3000));
	if (repeats && (k & 1)) /* words: not so many */
		rr(4, 0x83, 4, RCX), b(0x7f);
	if (back)
		b(0xfd);
	if (!pick(6))
		b(loop->wide ? 0x67 : 0x3e);
	if (!pick(10) && k != 0xaa && k != 0xab && k < 0xae)
		b(0x64 | pick(2));
	if (!pick(8) && (k & 1))
		b(0x66);
	if (repeats)
		b(0xf2 | (pick(4) ? 1 : 0));
	if (loop->wide && (k & 1) && pick(2))
		b(0x48);
	b(k);
	if (back)
		b(0xfc);
	mask(RSI);
	mask(RDI);
}

static void segments(void)
{
	unsigned r = pick(3), seg = pick(2) ? 3 : 0;

	switch (pick(6)) {
	case 0: rr(pick(2) ? 4 : 2, 0x8c, pick(6), r); break;      /* mov r, segment register */
	case 1: op_at(4, 0, 0x8c, pick(4), pointer(), near()); break;
	case 2: rr(4, 0x8c, seg, r), rr(4, 0x8e, seg, r); break;
	case 3:
		if (!loop->wide && !in_function)
			b(seg ? 0x1e : 0x06), accesses(RSP, 1), b(seg ? 0x1f : 0x07);
		break;
	case 4:
		if (!loop->wide)
			move_constant(RAX, loop->fs), rr(4, 0x8e, 4, RAX);
		break;
	default:
		if (!loop->wide)
			op_at(4, 0, 0x8c, 4, pointer(), 0x40), op_at(4, 0, 0x8e, 4, pointer(), 0x40);
	}
}

/* Prefixes that mean nothing, before an access. */
static void prefixes(void)
{
	static const uint8_t any[] = { 0x26, 0x36, 0x3e };
	unsigned p = pointer(), r = data();

	for (unsigned n = pick(4); n--;)
		b(loop->wide && !pick(3) ? 0x2e : ONE(any));
	if (loop->wide && !pick(3))
		b(0x41 + pick(15)), b(0x3e);                         /* REX not right before the opcode */
	if (loop->wide && pick(2))
		b(0x67);
	op_at(pick(2) ? 4 : 2, 0, pick(3) ? 0x8b : 0x89, r, p, near());
	if (!loop->wide)
		b(0x67), b(0x8d), b(0x40 | data() << 3 | pick(8)), b(pick(256)); /* lea by 16 bits */
}

static void flags(void)
{
	unsigned r = data();

	switch (pick(9)) {
	case 0: b(0x9f); break;                                     /* lahf */
	case 1: b(0x9e); break;                                     /* sahf */
	case 2: b(pick(3) ? 0xf8 + pick(2) : 0xf5); break;          /* clc, stc, cmc */
	case 3: byte_regs = true, rr(1, 0x0f90 + pick(16), 0, r), byte_regs = false; break;
	case 4: w(), b(0x98 + pick(2)); break;
	case 5: rr(4, 0x31, RDX, RDX), rr(4, 0x83, 1, RCX), b(1), rr(4, 0xf7, 6, RCX); break; /* div */
	case 6: rr(width(), 0x0fa5 + 8 * pick(2), data(), r); break;
	case 7: rr(width(), 0xd3, pick(8), loop->wide && pick(2) ? slot() : r); break;
	default: rr(width(), pick(2) ? 0xd1 : 0xf7, pick(2) ? 4 : 5, r); break;
	}
}

static unsigned theme; /* the form that most of a loop has; from FORMS on: none */
#define FORMS 22
#define FORMS_ANYWHERE 12

void loop_theme(void)
{
	theme = pick(2 * FORMS);
	counters = 0;
}

void loop_form(unsigned depth)
{
	unsigned k = pick(in_function ? FORMS_ANYWHERE : FORMS);

	if (theme < (in_function ? FORMS_ANYWHERE : FORMS) && pick(4))
		k = theme;
	switch (k) {
	case 0: constants(); break;
	case 1: pick(3) ? indexes() : negatives(); break;
	case 2: indexes(); break;
	case 3: families(); break;
	case 4: case 5: integers(); break;
	case 6: bmi(); break;
	case 7: vectors(); break;
	case 8: x87(); break;
	case 9: strings(); break;
	case 10: prefixes(); break;
	case 11: flags(); break;
	case 12: frame(); break;
	case 13: case 14: stack_forms(); break;
	case 15: releasing(); break;
	case 16: indirect(); break;
	case 17: case 18: inner(depth); break;
	case 19: segments(); break;
	case 20: case 21: strides(); break;
	}
	if (k < 12)
		fix(pointer());
}
