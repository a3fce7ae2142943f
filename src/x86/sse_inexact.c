/* SPDX-License-Identifier: MIT */
/* MXCSR.PE beside an unmasked overflow or underflow: whether the result is inexact with an exponent that has no bounds (SDM volume 1, 4.9.1.5,
 * 4.9.1.6; there is no result then). What ran with these exceptions masked tells of the infinity or the denormal instead.
 *
 * The x87 knows: its precision control rounds to 24 or 53 bits, and its exponent reaches farther than that of any result of two
 * numbers of these formats. So each element that over- or underflowed is computed again there; the others keep what the host's
 * instruction says of them alone. Of DPPS and DPPD, which are several operations, the masked PE stays. */
#include "x86/vector.h"
#include "x86/x87.h"

enum kind { NONE, ADD, SUB, MUL, DIV, NARROW };

static const struct row {
	uint16_t op;
	uint8_t kind, odd;    /* of the elements with even and with odd number */
	uint8_t size, count;  /* bytes of an element, elements */
	bool horizontal;      /* an element's operands are neighbours: first those of the destination */
} rows[] = {
#define FOUR(name, kind)                                                                                               \
	{ X86_OP_##name##PS, kind, kind, 4, 4, false }, { X86_OP_##name##PD, kind, kind, 8, 2, false },                 \
	{ X86_OP_##name##SS, kind, kind, 4, 1, false }, { X86_OP_##name##SD, kind, kind, 8, 1, false }
	FOUR(ADD, ADD), FOUR(SUB, SUB), FOUR(MUL, MUL), FOUR(DIV, DIV),
	{ X86_OP_ADDSUBPS, SUB, ADD, 4, 4, false }, { X86_OP_ADDSUBPD, SUB, ADD, 8, 2, false },
	{ X86_OP_HADDPS, ADD, ADD, 4, 4, true }, { X86_OP_HADDPD, ADD, ADD, 8, 2, true },
	{ X86_OP_HSUBPS, SUB, SUB, 4, 4, true }, { X86_OP_HSUBPD, SUB, SUB, 8, 2, true },
	{ X86_OP_CVTSD2SS, NARROW, NARROW, 8, 1, false }, { X86_OP_CVTPD2PS, NARROW, NARROW, 8, 2, false },
#undef FOUR
};

static const struct row *row_of(unsigned op)
{
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (rows[n].op == op)
			return &rows[n];
	return NULL;
}

/* The flags of one element under this control, all masked. */
static uint32_t element_flags(unsigned kind, unsigned size, uint64_t a, uint64_t b, uint32_t control)
{
	v128 d = { (long long)a, 0 }, s = { (long long)b, 0 };
	uint32_t after;

#define CASE(kind_, size_, host)                                                                                       \
	case kind_ << 4 | size_:                                                                                       \
		asm volatile("ldmxcsr %[run]\n\t" host "\n\tstmxcsr %[after]\n\tldmxcsr %[normal]"                     \
			     : [d] "+x"(d), [after] "=m"(after) : [s] "x"(s), [run] "m"(control), [normal] "m"(mxcsr_host)); \
		break
	switch (kind << 4 | size) {
	CASE(ADD, 4, "addss %[s], %[d]");
	CASE(ADD, 8, "addsd %[s], %[d]");
	CASE(SUB, 4, "subss %[s], %[d]");
	CASE(SUB, 8, "subsd %[s], %[d]");
	CASE(MUL, 4, "mulss %[s], %[d]");
	CASE(MUL, 8, "mulsd %[s], %[d]");
	CASE(DIV, 4, "divss %[s], %[d]");
	CASE(DIV, 8, "divsd %[s], %[d]");
	CASE(NARROW, 8, "cvtsd2ss %[s], %[d]");
	default: return 0;
	}
#undef CASE
	return after & MXCSR_FLAGS;
}

static const uint16_t host_control = FCW_INIT;

/* Is the result inexact, rounded to the format but with the x87's exponent? */
static bool inexact(unsigned kind, unsigned size, uint64_t a, uint64_t b, uint32_t control)
{
	uint16_t fcw = (uint16_t)(0x7f | (control >> 13 & 3) << 10 | (size == 8 && kind != NARROW ? 2 : 0) << 8), sw;
	static const double one = 1;

#define CASE(kind_, size_, load, host)                                                                                 \
	case kind_ << 4 | size_:                                                                                       \
		asm volatile("fnclex\n\tfldcw %[fcw]\n\t" load "\n\t" host "\n\tfnstsw %[sw]\n\tfstp %%st(0)\n\tfldcw %[normal]" \
			     : [sw] "=a"(sw) : [a] "m"(a), [b] "m"(b), [one] "m"(one), [fcw] "m"(fcw), [normal] "m"(host_control)); \
		break
#define LOAD4 "flds %[a]"
#define LOAD8 "fldl %[a]"
	switch (kind << 4 | size) {
	CASE(ADD, 4, LOAD4, "fadds %[b]");
	CASE(ADD, 8, LOAD8, "faddl %[b]");
	CASE(SUB, 4, LOAD4, "fsubs %[b]");
	CASE(SUB, 8, LOAD8, "fsubl %[b]");
	CASE(MUL, 4, LOAD4, "fmuls %[b]");
	CASE(MUL, 8, LOAD8, "fmull %[b]");
	CASE(DIV, 4, LOAD4, "fdivs %[b]");
	CASE(DIV, 8, LOAD8, "fdivl %[b]");
	CASE(NARROW, 8, "fldl %[b]", "fmull %[one]");
	default: return false;
	}
#undef CASE
	return sw & FSW_PE;
}

/* MXCSR.DAZ: a denormal operand is a zero of its sign. */
static uint64_t operand(uint64_t bits, unsigned size, uint32_t control)
{
	uint64_t sign = BIT(8 * size - 1), exponent = size == 8 ? 0x7ffULL << 52 : 0xffULL << 23;

	return (control & MXCSR_DAZ) && !(bits & exponent) ? bits & sign : bits;
}

union operands {
	v128 v;
	uint32_t w[4];
	uint64_t q[2];
};

static union operands source_of(struct x86_core *core, const struct insn *i, const struct row *r)
{
	unsigned bytes = (unsigned)r->size * r->count;
	union operands s = { .v = ZERO128 };

	if (i->form == FORM_RR)
		s.v = *xmm(core, i->src);
	else if (bytes == 16)
		s.v = source128(core, i);
	else
		s.q[0] = x86_load(core, i, x86_address(core, i, bytes, ACCESS_READ), bytes);
	return s;
}

static uint64_t element(const union operands *o, const struct row *r, unsigned n)
{
	return r->size == 4 ? o->w[n] : o->q[n];
}

uint32_t sse_unbounded_flags(struct x86_core *core, const struct insn *i, uint32_t flags)
{
	const struct row *r = row_of(i->op);
	uint32_t control = core->cpu.xsave.legacy.mxcsr, masks = control >> MXCSR_MASK_SHIFT, result = flags & ~MXCSR_PE;
	uint32_t run = (control & ~(MXCSR_FLAGS | MXCSR_FTZ)) | MXCSR_MASKS;

	if (!r || (i->form != FORM_RR && i->form != FORM_RM))
		return flags;
	union operands d = { .v = *xmm(core, i->dst) }, s = source_of(core, i, r);
	for (unsigned n = 0; n < r->count; n++) {
		unsigned kind = n & 1 ? r->odd : r->kind, pair = 2 * n % r->count;
		const union operands *from = 2 * n < r->count ? &d : &s;
		uint64_t a = r->horizontal ? element(from, r, pair) : element(&d, r, n);
		uint64_t b = r->horizontal ? element(from, r, pair + 1) : element(&s, r, n);
		uint32_t own = element_flags(kind, r->size, a, b, run);
		uint32_t tiny = element_flags(kind, r->size, a, b, run | MXCSR_FTZ) & MXCSR_UE;
		bool unbounded = ((own & MXCSR_OE) | tiny) & ~masks;
		if (unbounded ? inexact(kind, r->size, operand(a, r->size, control), operand(b, r->size, control), control) : own & MXCSR_PE)
			result |= MXCSR_PE;
	}
	return result;
}
