/* SPDX-License-Identifier: MIT */
/* SSE conversions among single, double and integer: SDM volume 1, 11.4.1.6, and volume 2. Those with MMX registers are
 * in exec_mmx.c. */
#include "x86/vector.h"

FLOAT_OP(cvtps2pd, "cvtps2pd", source64)
FLOAT_OP(cvtpd2ps, "cvtpd2ps", source128)
FLOAT_OP(cvtss2sd, "cvtss2sd", source32)
FLOAT_OP(cvtsd2ss, "cvtsd2ss", source64)
FLOAT_OP(cvtdq2ps, "cvtdq2ps", source128)
FLOAT_OP(cvtps2dq, "cvtps2dq", source128)
FLOAT_OP(cvttps2dq, "cvttps2dq", source128)
FLOAT_OP(cvtpd2dq, "cvtpd2dq", source128)
FLOAT_OP(cvttpd2dq, "cvttpd2dq", source128)
XMM_OP(cvtdq2pd, "cvtdq2pd", source64)

/* --- from a general register or integer in memory of 4 or 8 bytes --- */

#define FROM_INTEGER_OP(name)                                                                                          \
	static inline v128 name##_v(struct x86_core *core, const struct insn *i, v128 d, uint64_t s)                   \
	{                                                                                                              \
		uint32_t control = core->cpu.xsave.legacy.mxcsr;                                                       \
		if (i->ssize == 8)                                                                                     \
			UNDER_MXCSR(#name "q %[s], %[d]", core, control, [d] "+x"(d), [s] "r"(s));                    \
		else                                                                                                   \
			UNDER_MXCSR(#name "l %k[s], %[d]", core, control, [d] "+x"(d), [s] "r"(s));                   \
		sse_flags(core, i);                                                                                    \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_rr)                                                                                                \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = name##_v(core, i, *d, *reg64(core, i->src));                                                      \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm)                                                                                                \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		gva_t gva = x86_address(core, i, i->ssize, ACCESS_READ);                                               \
		*d = name##_v(core, i, *d, i->ssize == 8 ? x86_load64(core, i, gva) : x86_load32(core, i, gva));       \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR][BY_XMM_GPR] = name##_rr, [FORM_RM][BY_XMM] = name##_rm },                            \
	};
FROM_INTEGER_OP(cvtsi2ss)
FROM_INTEGER_OP(cvtsi2sd)

/* --- to a general register of 4 or 8 bytes --- */

#define TO_INTEGER_OP(name, SOURCE)                                                                                    \
	static inline uint64_t name##_v(struct x86_core *core, const struct insn *i, v128 s)                           \
	{                                                                                                              \
		uint32_t control = core->cpu.xsave.legacy.mxcsr;                                                       \
		uint64_t d;                                                                                            \
		if (i->size == 8)                                                                                      \
			UNDER_MXCSR(#name " %[s], %[d]", core, control, [d] "=&r"(d), [s] "x"(s));                    \
		else                                                                                                   \
			UNDER_MXCSR(#name " %[s], %k[d]", core, control, [d] "=&r"(d), [s] "x"(s));                   \
		sse_flags(core, i);                                                                                    \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_rr)                                                                                                \
	{                                                                                                              \
		*reg64(core, i->dst) = name##_v(core, i, *xmm(core, i->src));                                          \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm)                                                                                                \
	{                                                                                                              \
		v128 s = SOURCE(core, i);                                                                              \
		*reg64(core, i->dst) = name##_v(core, i, s);                                                           \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR][BY_XMM_GPR] = name##_rr,                                                             \
			[FORM_RM] = { [2] = name##_rm, [3] = name##_rm } },                                            \
	};
TO_INTEGER_OP(cvtss2si, source32)
TO_INTEGER_OP(cvttss2si, source32)
TO_INTEGER_OP(cvtsd2si, source64)
TO_INTEGER_OP(cvttsd2si, source64)
