/* SPDX-License-Identifier: MIT */
/* Instructions with operands of other kinds, for random loops: bits, BMI, MMX, SSE, AVX and x87. SDM volume 2, appendix A. */
#include "lib/loop_emit.h"

void integers(void)
{
	static const struct { uint32_t op; uint8_t prefix, tail; } forms[] = {
		{ 0x0f90, 0, 0 }, { 0x0f95, 0, 0 }, { 0x0fbc, 0, 0 }, { 0x0fbd, 0, 0 }, { 0x0fb8, 0xf3, 0 }, { 0x0fbc, 0xf3, 0 }, { 0x0fbd, 0xf3, 0 },
		{ 0x0fa4, 0, 1 }, { 0x0fa5, 0, 0 }, { 0x0fac, 0, 1 }, { 0x0fad, 0, 0 }, { 0x0f38f0, 0, 0 }, { 0x0f38f1, 0, 0 }, { 0x6b, 0, 1 },
		{ 0x0fb0, 0, 0 }, { 0x0fc0, 0, 0 }, { 0x86, 0, 0 }, { 0x0fc3, 0, 0 }, { 0x0f9f, 0, 0 }, { 0x0f38f0, 0xf2, 0 }, { 0x0faf, 0, 0 },
	};
	unsigned k = pick(ARRAY_SIZE(forms) + 5), size = forms[k % ARRAY_SIZE(forms)].op == 0x0fc3 ? 4 : width(), x = data();

	switch (k - ARRAY_SIZE(forms)) {
	case 0: rm_(size, 0x0fba, 4 + pick(4), 1, false, 0); return;
	case 1: rm_(size, 0xc1, pick(4), 1, false, 0); return;
	case 2: rm_(size, 0xf7, 2 + pick(2), 0, pick(2), 0); return;
	case 3: rm_(size, 0x83, pick(8), 1, false, 0); return;
	case 4: /* a bit of a string */
		rr(4, 0x81, 4, x), d(0x3ff);
		if (pick(2))
			rr(pick(2) ? whole() : 4, 0x81, 5, x), d(0x200);
		op_at(size, 0, 0x0fa3 + 8 * pick(4), x, pointer(), near());
		return;
	default: break;
	}
	unsigned r = data();
	byte_regs = true;
	if (size != 2 || !forms[k].prefix)
		rm_(size, forms[k].op, r, forms[k].tail, false, forms[k].prefix);
	byte_regs = false;
}

static void vex(unsigned map, unsigned pp, unsigned wide, unsigned l, uint32_t op, unsigned reg, unsigned v, unsigned base, int disp)
{
	b(0xc4), b((reg & 8 ? 0 : 0x80) | 0x40 | (base & 8 ? 0 : 0x20) | map);
	b(wide << 7 | (~v & 15) << 3 | l << 2 | pp), b(op);
	displaced(reg, base, disp);
}

void bmi(void)
{
	static const struct { uint8_t pp, op; } forms[] = { { 0, 0xf2 }, { 0, 0xf7 }, { 2, 0xf7 }, { 1, 0xf7 }, { 3, 0xf7 }, { 3, 0xf5 }, { 2, 0xf5 }, { 0, 0xf5 }, { 3, 0xf6 } };
	unsigned k = pick(ARRAY_SIZE(forms)), wide = loop->wide && pick(2);

	vex(2, forms[k].pp, wide, 0, forms[k].op, data(), data(), pointer(), near());
}

/* Those that want it get an aligned address. */
void vectors(void)
{
	static const struct { uint32_t op; uint8_t prefix, tail; bool aligned; } forms[] = {
		{ 0x0f10, 0xf2, 0, 0 }, { 0x0f11, 0xf2, 0, 0 }, { 0x0f10, 0xf3, 0, 0 }, { 0x0f11, 0xf3, 0, 0 }, { 0x0f12, 0, 0, 0 }, { 0x0f13, 0, 0, 0 },
		{ 0x0f16, 0x66, 0, 0 }, { 0x0f17, 0x66, 0, 0 }, { 0x0f58, 0xf2, 0, 0 }, { 0x0f58, 0xf3, 0, 0 }, { 0x0f6e, 0x66, 0, 0 }, { 0x0f7e, 0x66, 0, 0 },
		{ 0x0f7e, 0xf3, 0, 0 }, { 0x0fd6, 0x66, 0, 0 }, { 0x0fc4, 0x66, 1, 0 }, { 0x0f3a16, 0x66, 1, 0 }, { 0x0f3a22, 0x66, 1, 0 }, { 0x0f3a14, 0x66, 1, 0 },
		{ 0x0f6f, 0, 0, 0 }, { 0x0f7f, 0, 0, 0 }, { 0x0ffc, 0, 0, 0 }, { 0x0f2a, 0xf2, 0, 0 }, { 0x0f3820, 0x66, 0, 0 }, { 0x0ff0, 0xf2, 0, 0 },
		{ 0x0f6f, 0x66, 0, 1 }, { 0x0f7f, 0x66, 0, 1 }, { 0x0f28, 0, 0, 1 }, { 0x0f29, 0, 0, 1 }, { 0x0fef, 0x66, 0, 1 }, { 0x0fd4, 0x66, 0, 1 },
		{ 0x0f58, 0, 0, 1 }, { 0x0f3800, 0x66, 0, 1 }, { 0x0f3810, 0x66, 0, 1 }, { 0x0fe7, 0x66, 0, 1 }, { 0x0f382a, 0x66, 0, 1 }, { 0x0f3a0f, 0x66, 1, 1 },
		{ 0x0f2d, 0xf2, 0, 0 }, { 0x0f2c, 0xf3, 0, 0 }, { 0x0f3a63, 0x66, 1, 0 }, { 0x0f10, 0, 0, 0 }, { 0x0f11, 0, 0, 0 },
	};
	static const struct { uint8_t map, pp, op; bool tail; } wide[] = {
		{ 1, 2, 0x6f, 0 }, { 1, 2, 0x7f, 0 }, { 1, 0, 0x58, 0 }, { 1, 1, 0xef, 0 }, { 2, 1, 0x18, 0 }, { 2, 1, 0x2c, 0 }, { 2, 1, 0x2e, 0 }, { 3, 1, 0x19, 1 },
		{ 3, 1, 0x18, 1 }, { 1, 0, 0x10, 0 }, { 1, 0, 0x11, 0 }, { 2, 1, 0x58, 0 }, { 2, 1, 0x33, 0 }, { 1, 3, 0x58, 0 }, { 1, 1, 0xd4, 0 }, { 2, 1, 0x8c, 0 },
		{ 2, 1, 0x8e, 0 }, { 2, 1, 0x98, 0 }, { 3, 1, 0x06, 1 }, { 1, 0, 0x14, 0 },
	};
	unsigned p = pointer();
	bool general;

	for (unsigned n = 1 + pick(4); n--;) {
		unsigned k = pick(ARRAY_SIZE(forms)), reg = pick(loop->wide ? 16 : 8);
		bool avx = loop->avx && !pick(3);
		if (avx) {
			unsigned v = pick(loop->wide ? 16 : 8);
			k = pick(ARRAY_SIZE(wide));
			bool alone = wide[k].op == 0x6f || wide[k].op == 0x7f || wide[k].op == 0x19 || wide[k].op == 0x10 || wide[k].op == 0x11 ||
				     (wide[k].map == 2 && (wide[k].op == 0x18 || wide[k].op == 0x58 || wide[k].op == 0x33));
			bool always = wide[k].map == 3;
			vex(wide[k].map, wide[k].pp, 0, always || pick(2), wide[k].op, reg, alone ? 0 : v, p, near());
			if (wide[k].tail)
				b(pick(2));
			continue;
		}
		if (forms[k].aligned)
			rr(4, 0x83, 4, p), b(0xf0);
		general = forms[k].op == 0x0f2d || forms[k].op == 0x0f2c;
		if (general)
			reg = data();
		op_at(4, forms[k].prefix, forms[k].op, reg & (forms[k].op == 0x0f6f || forms[k].op == 0x0f7f || forms[k].op == 0x0ffc ? 7 : 15), p,
		      forms[k].aligned ? 16 * ((int)pick(8) - 3) : near());
		if (forms[k].tail)
			b(pick(16));
	}
}

void x87(void)
{
	static const struct { uint8_t op, reg; } forms[] = {
		{ 0xd9, 0 }, { 0xdd, 0 }, { 0xdb, 5 }, { 0xdb, 0 }, { 0xdf, 5 }, { 0xd9, 3 }, { 0xdd, 3 }, { 0xdb, 7 }, { 0xdf, 7 }, { 0xdb, 3 },
		{ 0xd8, 0 }, { 0xdc, 1 }, { 0xda, 4 }, { 0xd9, 7 }, { 0xdd, 7 }, { 0xd9, 6 }, { 0xdf, 6 }, { 0xdf, 4 }, { 0xdb, 1 }, { 0xdd, 2 },
	};
	static const uint16_t alone[] = { 0xd9e8, 0xd9ee, 0xd9e1, 0xdec1, 0xdde1, 0xd9c9, 0xd9f7, 0xdbe3, 0x0f77, 0xddc3, 0xdff1, 0xdfe0, 0xd9fe };

	for (unsigned n = 1 + pick(4); n--;) {
		unsigned k = pick(ARRAY_SIZE(forms)), p = pointer();
		if (!pick(10))
			b(pick(4) ? 0x64 | pick(2) : loop->wide ? 0x3e : 0x26);
		rex(4, 0, 0, p, false), b(forms[k].op), displaced(forms[k].reg, p, near());
		if (!pick(3)) {
			unsigned op = ONE(alone);
			b(op >> 8), b(op & 0xff);
		}
	}
}
