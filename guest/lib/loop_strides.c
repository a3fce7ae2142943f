/* SPDX-License-Identifier: MIT */
/* Loops of a single block within random loops, in which what is accessed moves by constants: words in rows, up and down, at their own pace, over the
 * ends of pages; or stays; or follows what another register was. */
#include "lib/loop_emit.h"

static void add_constant(unsigned r, int by)
{
	if (pick(2)) {
		rr(pick(12) ? 8 : 4, 0x81, by < 0 ? 5 : 0, r), d((uint32_t)(by < 0 ? -by : by));
	} else {
		op_at(8, 0, 0x8d, r, r, by); /* LEA */
	}
}

static void word(unsigned base, unsigned index)
{
	static const uint8_t ops[] = { 0x8b, 0x8b, 0x89, 0x89, 0x03, 0x01, 0x31, 0x3b };

	unsigned size = width(), op = ONE(ops), reg = RAX + pick(2);
	int disp = (int)pick(160) - 80;

	if (index == RSP) {
		op_at(size, 0, op, reg, base, disp);
		return;
	}
	if (size == 2)
		b(0x66);
	op_sum(size, op, reg, base, index, pick(3), disp);
}

/* Counts down, or over the largest number, so that OF is seen. */
static void stride_loop(unsigned p, unsigned q, unsigned behind, unsigned index, const int by[2], unsigned rounds)
{
	unsigned count = loop->wide ? R9 : RDX, body = 1 + pick(4), first = pick(2) ? rounds : 0x80000000 - rounds / 2, old = pick(4);
	const uint8_t *head;

	rr(4, 0xc7, 0, count), d(first);
	head = at;
	if (pick(2))
		rr(4, 0x0f40 + pick(2) * pick(16), RAX, RCX); /* CMOVcc: by the flags of the round before */
	while (behind != RSP && old--)
		word(behind, RSP);
	while (body--)
		word(pick(3) ? p : q, pick(3) ? RSP : index);
	if (!pick(4))
		rex(4, 0, 0, RAX, false), b(0x50), b(0x58 | RCX);
	if (behind != RSP)
		rr(8, 0x89, p, behind); /* what p was, in the next round */
	add_constant(p, by[0]);
	if (by[1])
		add_constant(q, by[1]);
	if (index != RSP && pick(2))
		rr(8, 0xff, pick(2), index);
	rr(4, 0xff, first == rounds, count);
	if (first != rounds)
		rr(4, 0x81, 7, count), d(first + rounds);
	b(0x0f), b(0x85), d((uint32_t)(head - (at + 4)));
}

void strides(void)
{
	static const int16_t steps[] = { 1, 2, 4, 8, 8, 16, 24, 3, 40, 64, 100, 256, 600, 0, -1, -4, -8, -8, -12, -32, -200 };
	unsigned p = pointer(), q = pointer(), behind = pick(3) ? RSP : pointer(), index = loop->wide ? R8 : RBX;
	int by[2] = { ONE(steps), pick(3) ? ONE(steps) : 0 }, most = by[0] > by[1] ? by[0] : by[1], least = by[0] < by[1] ? by[0] : by[1];
	unsigned span = (unsigned)(most > -least ? most : -least), room = span ? 4000 / span + 1 : 60;

	if (behind == p || behind == q)
		behind = RSP;
	if (index == p || index == q || index == behind)
		index = RSP;
	else
		rr(4, 0x81, 4, index), d(0xff);
	if (!pick(3))
		rr(4, 0x81, 1, p), d(0xe00 | pick(2) << 3); /* the end of its page is near */
	stride_loop(p, q, behind, index, by, 16 + pick(room < 200 ? room : 200));
	mask(p);
	mask(q);
	if (behind != RSP)
		mask(behind);
}
