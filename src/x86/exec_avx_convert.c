/* SPDX-License-Identifier: MIT */
/* AVX and F16C conversions among half, single, double and integer: SDM volume 1, 14.4, and volume 2. Those into general registers
 * touch no vector register, and are the ones of SSE (insn_avx.def). */
#include "x86/avx.h"

VEX_OP1(FLOAT, vcvtdq2ps)
VEX_OP1(FLOAT, vcvtps2dq)
VEX_OP1(FLOAT, vcvttps2dq)
VEX_NARROW_OP1(FLOAT, vcvtpd2ps)
VEX_NARROW_OP1(FLOAT, vcvtpd2dq)
VEX_NARROW_OP1(FLOAT, vcvttpd2dq)
VEX_WIDEN_OP1(FLOAT, vcvtps2pd, source64, 128, load128)
VEX_WIDEN_OP1(VALUE, vcvtdq2pd, source64, 128, load128)
VEX_SCALAR_OP2(FLOAT, vcvtss2sd, source32)
VEX_SCALAR_OP2(FLOAT, vcvtsd2ss, source64)

/* --- from a general register or integer in memory of 4 or 8 bytes --- */

#define FROM_INTEGER_OP(name)                                                                                          \
	static inline v128 name##_v(struct x86_core *core, const struct insn *i, v128 a, uint64_t s)                   \
	{                                                                                                              \
		uint32_t control = core->cpu.xsave.legacy.mxcsr;                                                       \
		v128 d;                                                                                                \
		if (i->ssize == 8)                                                                                     \
			UNDER_MXCSR(#name "q %[s], %[a], %[d]", core, control, [d] "=x"(d), [a] "x"(a), [s] "r"(s));  \
		else                                                                                                   \
			UNDER_MXCSR(#name "l %k[s], %[a], %[d]", core, control, [d] "=x"(d), [a] "x"(a), [s] "r"(s)); \
		sse_flags(core, i);                                                                                    \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_rrr)                                                                                               \
	{                                                                                                              \
		set128(core, i->dst, name##_v(core, i, get128(core, i->src), *reg64(core, i->src2)));                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rrm)                                                                                               \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, i->ssize, ACCESS_READ);                                               \
		uint64_t s = i->ssize == 8 ? x86_load64(core, i, gva) : x86_load32(core, i, gva);                      \
		set128(core, i->dst, name##_v(core, i, get128(core, i->src), s));                                      \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRR][BY_XMM_GPR] = name##_rrr, [FORM_RRM][BY_XMM] = name##_rrm },                        \
	};
FROM_INTEGER_OP(vcvtsi2ss)
FROM_INTEGER_OP(vcvtsi2sd)

/* --- half precision: the result of VCVTPS2PH is 8 or 16 bytes, and may go to memory. It knows no FTZ, so that the second run that finds
 * tiny results elsewhere finds none; but those that the masked run does not tell of are exact, and can be seen --- */

VEX_WIDEN_OP1(FLOAT, vcvtph2ps, source64, 128, load128)

static inline bool has_denormal_half(v128 value)
{
	bool found = false;
	for (unsigned n = 0; n < 8; n++) {
		uint16_t half = (uint16_t)((uint64_t)value[n / 4] >> 16 * (n % 4));
		found |= !(half & 0x7c00) && (half & 0x3ff);
	}
	return found;
}

#define HALF_VALUE(W)                                                                                                  \
	IMMEDIATE_STUBS(vcvtps2ph##W, "vcvtps2ph $imm, " HALF_SOURCE_##W ", %xmm0")                                    \
	static inline v128 vcvtps2ph_v##W(struct x86_core *core, const struct insn *i, v##W a)                         \
	{                                                                                                              \
		uint32_t control = core->cpu.xsave.legacy.mxcsr;                                                       \
		sse_begin(core, control);                                                                              \
		v128 d = VEX_STUB1(vcvtps2ph, W, 128, W)(a);                                                           \
		sse_end(core);                                                                                         \
		if (unlikely(!(control & MXCSR_UM)) && has_denormal_half(d))                                           \
			core->mxcsr_after |= MXCSR_UE;                                                                 \
		sse_flags(core, i);                                                                                    \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(vcvtps2ph_reg##W)                                                                                         \
	{                                                                                                              \
		set128(core, i->dst, vcvtps2ph_v##W(core, i, get##W(core, i->src)));                                   \
		X86_NEXT(core, i);                                                                                     \
	}
#define HALF_SOURCE_128 "%xmm0"
#define HALF_SOURCE_256 "%ymm0"
HALF_VALUE(128)
HALF_VALUE(256)
EXEC(vcvtps2ph_mem128)
{
	gva_t gva = x86_address(core, i, 8, ACCESS_WRITE);
	x86_check_write(core, i, gva, 8); /* a page fault comes before the exceptions of the computation */
	v128 d = vcvtps2ph_v128(core, i, get128(core, i->src));
	x86_store64(core, i, gva, (uint64_t)d[0]);
	X86_NEXT(core, i);
}
EXEC(vcvtps2ph_mem256)
{
	gva_t gva = x86_address(core, i, 16, ACCESS_WRITE);
	x86_check_write(core, i, gva, 16);
	v128 d = vcvtps2ph_v256(core, i, get256(core, i->src));
	x86_store128(core, i, gva, d);
	X86_NEXT(core, i);
}
VEX_FORMS(vcvtps2ph, FORM_RRI, FORM_MRI)
