/* SPDX-License-Identifier: MIT */
/* The flags beside an unmasked SIMD floating-point exception, where what ran with all of them masked tells something else.
 *
 * MXCSR.PE with an unmasked overflow or underflow: whether the result is inexact with an exponent that has no bounds (SDM volume 1, 4.9.1.5,
 * 4.9.1.6; there is no result then). The x87 knows: its precision control rounds to 24 or 53 bits, and its exponent reaches farther than that of
 * any result of two numbers of these formats. So each element that over- or underflowed is computed again there; the others keep what the
 * host's instruction says of them alone. FMA of doubles has a product that the x87 does not hold: but whether it is exact does not depend on its
 * scale, so it is computed with operands that are near one.
 *
 * DPPS and DPPD are several operations, one after the other, "exceptions are determined separately for each" (volume 2A): an unmasked one in the
 * products keeps the sums from being done. */
#include <math.h>
#include <string.h>
#include "x86/vector.h"
#include "x86/x87.h"

enum kind { NONE, ADD, SUB, MUL, DIV, NARROW, HALF, FMADD, FMSUB, FNMADD, FNMSUB };
enum shape { PAIRS, NEIGHBOURS /* first those of the first source */, ONE_SOURCE, ORDER132, ORDER213, ORDER231 };
#define FAR 200 /* exponents so far apart that the smaller number lies below all bits of the greater */

static const struct row {
	uint16_t op;
	uint8_t even, odd;    /* kinds of the elements with even and with odd number */
	uint8_t size, count;  /* bytes of an element, elements in 128 bits */
	uint8_t shape;
} rows[] = {
#define WIDTHS(name, kind, shape)                                                                                      \
	{ X86_OP_##name##PS, kind, kind, 4, 4, shape }, { X86_OP_##name##PD, kind, kind, 8, 2, shape },                 \
	{ X86_OP_##name##SS, kind, kind, 4, 1, shape }, { X86_OP_##name##SD, kind, kind, 8, 1, shape }
#define PACKED(name, even, odd, shape)                                                                                 \
	{ X86_OP_##name##PS, even, odd, 4, 4, shape }, { X86_OP_##name##PD, even, odd, 8, 2, shape }
#define BOTH(name, kind) WIDTHS(name, kind, PAIRS), WIDTHS(V##name, kind, PAIRS)
#define BOTH_PACKED(name, even, odd, shape) PACKED(name, even, odd, shape), PACKED(V##name, even, odd, shape)
#define ORDERS(name, kind) WIDTHS(name##132, kind, ORDER132), WIDTHS(name##213, kind, ORDER213), WIDTHS(name##231, kind, ORDER231)
#define ORDERS_PACKED(name, even, odd)                                                                                 \
	PACKED(name##132, even, odd, ORDER132), PACKED(name##213, even, odd, ORDER213), PACKED(name##231, even, odd, ORDER231)
	BOTH(ADD, ADD), BOTH(SUB, SUB), BOTH(MUL, MUL), BOTH(DIV, DIV),
	BOTH_PACKED(ADDSUB, SUB, ADD, PAIRS), BOTH_PACKED(HADD, ADD, ADD, NEIGHBOURS), BOTH_PACKED(HSUB, SUB, SUB, NEIGHBOURS),
	{ X86_OP_CVTSD2SS, NARROW, NARROW, 8, 1, ONE_SOURCE }, { X86_OP_VCVTSD2SS, NARROW, NARROW, 8, 1, ONE_SOURCE },
	{ X86_OP_CVTPD2PS, NARROW, NARROW, 8, 2, ONE_SOURCE }, { X86_OP_VCVTPD2PS, NARROW, NARROW, 8, 2, ONE_SOURCE },
	{ X86_OP_VCVTPS2PH, HALF, HALF, 4, 4, ONE_SOURCE },
	ORDERS(VFMADD, FMADD), ORDERS(VFMSUB, FMSUB), ORDERS(VFNMADD, FNMADD), ORDERS(VFNMSUB, FNMSUB),
	ORDERS_PACKED(VFMADDSUB, FMSUB, FMADD), ORDERS_PACKED(VFMSUBADD, FMADD, FMSUB),
	PACKED(DP, NONE, NONE, PAIRS), PACKED(VDP, NONE, NONE, PAIRS),
#undef WIDTHS
#undef PACKED
#undef BOTH
#undef BOTH_PACKED
#undef ORDERS
#undef ORDERS_PACKED
};

static const struct row *row_of(unsigned op)
{
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (rows[n].op == op)
			return &rows[n];
	return NULL;
}

/* --- one element --- */

struct step { /* a operation b, or a times b and c */
	unsigned kind, size;
	uint64_t a, b, c;
};

/* Computes it under this control: the flags, and the result. */
static uint32_t run(const struct step *t, uint32_t control, uint64_t *result)
{
	v128 d = { (long long)t->a, 0 }, s = { (long long)t->b, 0 }, c = { (long long)t->c, 0 };
	uint32_t after;

#define CASE(kind_, size_, host)                                                                                       \
	case kind_ << 4 | size_:                                                                                       \
		asm volatile("ldmxcsr %[run]\n\t" host "\n\tstmxcsr %[after]\n\tldmxcsr %[normal]"                     \
			     : [d] "+x"(d), [after] "=m"(after)                                                        \
			     : [s] "x"(s), [c] "x"(c), [run] "m"(control), [normal] "m"(mxcsr_host));                  \
		break
#define CASES(kind, name)                                                                                              \
	CASE(kind, 4, name "ss %[s], %[d]");                                                                           \
	CASE(kind, 8, name "sd %[s], %[d]")
#define FMA(kind, name)                                                                                                \
	CASE(kind, 4, name "213ss %[c], %[s], %[d]");                                                                  \
	CASE(kind, 8, name "213sd %[c], %[s], %[d]")
	switch (t->kind << 4 | t->size) {
	CASES(ADD, "add");
	CASES(SUB, "sub");
	CASES(MUL, "mul");
	CASES(DIV, "div");
	FMA(FMADD, "vfmadd");
	FMA(FMSUB, "vfmsub");
	FMA(FNMADD, "vfnmadd");
	FMA(FNMSUB, "vfnmsub");
	CASE(NARROW, 8, "cvtsd2ss %[s], %[d]");
	CASE(HALF, 4, "vcvtps2ph $4, %[s], %[d]");
	default: return 0;
	}
#undef CASE
#undef CASES
#undef FMA
	*result = t->size == 4 ? (uint32_t)d[0] : (uint64_t)d[0];
	return after & MXCSR_FLAGS;
}

static const uint16_t host_control = FCW_INIT;

/* Is the sum, difference, product or quotient inexact, rounded to the format but with the x87's exponent? */
static bool inexact_x87(const struct step *t, uint32_t control)
{
	bool wide = t->size == 8 && t->kind != NARROW;
	uint16_t fcw = (uint16_t)(0x7f | (control >> 13 & 3) << 10 | (wide ? 2 : 0) << 8), sw = 0;
	static const double one = 1;

#define CASE(kind_, size_, load, host)                                                                                 \
	case kind_ << 4 | size_:                                                                                       \
		asm volatile("fnclex\n\tfldcw %[fcw]\n\t" load "\n\t" host "\n\tfnstsw %[sw]\n\tfstp %%st(0)\n\tfldcw %[normal]" \
			     : [sw] "=a"(sw)                                                                           \
			     : [a] "m"(t->a), [b] "m"(t->b), [one] "m"(one), [fcw] "m"(fcw), [normal] "m"(host_control)); \
		break
#define CASES(kind, name)                                                                                              \
	CASE(kind, 4, "flds %[a]", name "s %[b]");                                                                     \
	CASE(kind, 8, "fldl %[a]", name "l %[b]")
	switch (t->kind << 4 | t->size) {
	CASES(ADD, "fadd");
	CASES(SUB, "fsub");
	CASES(MUL, "fmul");
	CASES(DIV, "fdiv");
	CASE(NARROW, 8, "fldl %[b]", "fmull %[one]");
	default: break;
	}
#undef CASE
#undef CASES
	return sw & FSW_PE;
}

/* To a half's eleven bits. */
static bool inexact_half(uint32_t bits)
{
	uint32_t significand = (bits & 0x7fffff) | (bits & 0x7f800000 ? 0x800000 : 0);

	return significand && significand >> __builtin_ctz(significand) > 0x7ff;
}

static double value_of(uint64_t bits, unsigned size)
{
	uint32_t low = (uint32_t)bits;
	float single;
	double wide;

	memcpy(&single, &low, sizeof(single));
	memcpy(&wide, &bits, sizeof(wide));
	return size == 4 ? (double)single : wide;
}

static uint64_t bits_of(double value)
{
	uint64_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

/* a * b + c, finite. Singles' product is a double, and their sum with one is the x87's; doubles are scaled. */
static bool inexact_fma(const struct step *t, uint32_t control)
{
	double a = value_of(t->a, t->size), b = value_of(t->b, t->size), c = value_of(t->c, t->size);
	int ea, eb, ec;
	uint64_t result;

	if (t->kind == FNMADD || t->kind == FNMSUB)
		a = -a;
	if (t->kind == FMSUB || t->kind == FNMSUB)
		c = -c;
	if (a == 0 || b == 0)
		return false;
	a = frexp(a, &ea);
	b = frexp(b, &eb);
	c = frexp(c, &ec);
	ec -= ea + eb;
	if (c != 0 && (ec > FAR || ec < -FAR))
		return true;
	c = ldexp(c, ec);
	if (t->size == 8) {
		struct step near_one = { FMADD, 8, bits_of(a), bits_of(b), bits_of(c) };
		return run(&near_one, (control & ~(MXCSR_FLAGS | MXCSR_FTZ | MXCSR_DAZ)) | MXCSR_MASKS, &result) & MXCSR_PE;
	}
	uint16_t fcw = (uint16_t)(0x7f | (control >> 13 & 3) << 10), sw;
	double product = a * b;
	asm volatile("fnclex\n\tfldcw %[fcw]\n\tfldl %[p]\n\tfaddl %[c]\n\tfnstsw %[sw]\n\tfstp %%st(0)\n\tfldcw %[normal]"
		     : [sw] "=a"(sw) : [p] "m"(product), [c] "m"(c), [fcw] "m"(fcw), [normal] "m"(host_control));
	return sw & FSW_PE;
}

/* MXCSR.DAZ: a denormal operand is a zero of its sign. */
static uint64_t operand(uint64_t bits, unsigned size, uint32_t control)
{
	uint64_t sign = BIT(8 * size - 1), exponent = size == 8 ? 0x7ffULL << 52 : 0xffULL << 23;

	return (control & MXCSR_DAZ) && !(bits & exponent) ? bits & sign : bits;
}

static bool inexact(const struct step *t, uint32_t control)
{
	struct step o = { t->kind, t->size, operand(t->a, t->size, control), operand(t->b, t->size, control), operand(t->c, t->size, control) };

	if (o.kind == HALF)
		return inexact_half((uint32_t)o.b);
	return o.kind >= FMADD ? inexact_fma(&o, control) : inexact_x87(&o, control);
}

/* --- elements that are computed at once --- */

#define STEPS 8

/* The flags that they set, as the guest's masks want it, and the results. */
static uint32_t flags_of(const struct step *t, unsigned count, uint32_t control, uint64_t *results)
{
	uint32_t masks = control >> MXCSR_MASK_SHIFT, flags = 0, precise = 0, own[STEPS] = { 0 }, tiny;
	uint32_t as = (control & ~MXCSR_FLAGS) | MXCSR_MASKS;
	uint64_t ignored;

	if (!(control & MXCSR_UM))
		as &= ~MXCSR_FTZ; /* it has no effect then */
	for (unsigned n = 0; n < count; n++) {
		own[n] = run(&t[n], as, &results[n]);
		tiny = control & MXCSR_UM || t[n].kind == HALF ? 0 : run(&t[n], as | MXCSR_FTZ, &ignored) & MXCSR_UE;
		own[n] |= tiny;
		flags |= own[n];
	}
	if (flags & MXCSR_PRECOMPUTATION & ~masks)
		return flags & MXCSR_PRECOMPUTATION;
	if (!(flags & (MXCSR_OE | MXCSR_UE) & ~masks))
		return flags;
	for (unsigned n = 0; n < count; n++)
		if (own[n] & (MXCSR_OE | MXCSR_UE) & ~masks ? inexact(&t[n], control) : own[n] & MXCSR_PE)
			precise = MXCSR_PE;
	return (flags & ~MXCSR_PE) | precise;
}

/* --- operands --- */

union operands {
	v128 v[2];
	uint32_t w[8];
	uint64_t q[4];
};

static union operands register_of(struct x86_core *core, unsigned at)
{
	union operands o;

	o.v[0] = *xmm(core, at);
	memcpy(&o.v[1], (char *)core->cpu.xsave.ymm_high + at, 16);
	return o;
}

static union operands last_source(struct x86_core *core, const struct insn *i, unsigned bytes)
{
	union operands o = { .v = { ZERO128, ZERO128 } };

	if (i->form == FORM_RR || i->form == FORM_RRI || i->form == FORM_MRI)
		return register_of(core, i->src);
	if (i->form == FORM_RRR || i->form == FORM_RRRI)
		return register_of(core, i->src2);
	gva_t at = x86_address(core, i, bytes, ACCESS_READ);
	for (unsigned n = 0; n < bytes; n += bytes < 8 ? 4 : 8)
		o.q[n / 8] = x86_load(core, i, at + n, bytes < 8 ? 4 : 8);
	return o;
}

static uint64_t element(const union operands *o, const struct row *r, unsigned n)
{
	return r->size == 4 ? o->w[n] : o->q[n];
}

static struct step step_of(const struct row *r, unsigned n, const union operands *dst, const union operands *first, const union operands *last)
{
	struct step t = { n & 1 ? r->odd : r->even, r->size, element(first, r, n), element(last, r, n), 0 };
	unsigned lane = n - n % r->count, pair = lane + 2 * (n % r->count) % r->count;
	const union operands *from = 2 * (n % r->count) < r->count ? first : last;

	switch (r->shape) {
	case NEIGHBOURS:
		t.a = element(from, r, pair);
		t.b = element(from, r, pair + 1);
		break;
	case ORDER132: /* the destination times the last, and the one between */
		t.a = element(dst, r, n);
		t.c = element(first, r, n);
		break;
	case ORDER213:
		t.b = element(dst, r, n);
		t.c = element(last, r, n);
		break;
	case ORDER231:
		t.c = element(dst, r, n);
		break;
	}
	return t;
}

/* Products, and sums of neighbours until one is left in each 128 bits. */
static uint32_t dot_flags(const struct row *r, unsigned imm, unsigned lanes, const union operands *a, const union operands *b, uint32_t control)
{
	unsigned count = r->count, where[STEPS], steps = 0;
	uint64_t values[STEPS] = { 0 }, results[STEPS];
	struct step t[STEPS];
	uint32_t flags;

	for (unsigned n = 0; n < lanes * count; n++)
		if (imm >> (4 + n % count) & 1) {
			t[steps] = (struct step){ MUL, r->size, element(a, r, n), element(b, r, n), 0 };
			where[steps++] = n;
		}
	flags = flags_of(t, steps, control, results);
	for (unsigned n = 0; n < steps; n++)
		values[where[n]] = results[n];
	for (; count > 1 && !(flags & ~(control >> MXCSR_MASK_SHIFT)); count /= 2) {
		for (unsigned n = 0; n < lanes * count / 2; n++)
			t[n] = (struct step){ ADD, r->size, values[2 * n], values[2 * n + 1], 0 };
		flags |= flags_of(t, lanes * count / 2, control, values);
	}
	return flags;
}

uint32_t sse_unmasked_flags(struct x86_core *core, const struct insn *i, uint32_t flags)
{
	const struct row *r = row_of(i->op);
	uint32_t control = core->cpu.xsave.legacy.mxcsr;
	bool vex = i->form == FORM_RRR || i->form == FORM_RRM || i->form == FORM_RRRI || i->form == FORM_RRMI;
	unsigned lanes = i->flags & INSN_YMM ? 2 : 1;
	struct step t[STEPS];
	uint64_t results[STEPS];

	if (!r)
		return flags;
	union operands last = last_source(core, i, r->size * r->count * lanes);
	union operands dst = register_of(core, i->form == FORM_MRI ? i->src : i->dst), first = vex ? register_of(core, i->src) : dst;
	if (!r->even)
		return dot_flags(r, i->imm & 0xff, lanes, &first, &last, control);
	for (unsigned n = 0; n < r->count * lanes; n++)
		t[n] = step_of(r, n, &dst, &first, &last);
	if (r->even == HALF && !(i->imm & 4))
		control = (control & ~0x6000u) | (uint32_t)(i->imm & 3) << 13;
	return (flags & ~MXCSR_PE) | (flags_of(t, r->count * lanes, control, results) & MXCSR_PE);
}
