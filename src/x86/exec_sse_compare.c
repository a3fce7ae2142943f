/* SPDX-License-Identifier: MIT */
/* SSE floating-point comparisons: into masks (CMPxx) and into RFLAGS (COMISx, UCOMISx). SDM volume 2. */
#include "x86/vector.h"

#define PREDICATE 7 /* legacy encodings use three bits of the immediate */
FLOAT_IMMEDIATE_OP(cmpps, "cmpps $(imm & 7), %xmm1, %xmm0", PREDICATE, source128)
FLOAT_IMMEDIATE_OP(cmppd, "cmppd $(imm & 7), %xmm1, %xmm0", PREDICATE, source128)
FLOAT_IMMEDIATE_OP(cmpss, "cmpss $(imm & 7), %xmm1, %xmm0", PREDICATE, source32)
FLOAT_IMMEDIATE_OP(cmpsd_sse, "cmpsd $(imm & 7), %xmm1, %xmm0", PREDICATE, source64)

#define FLAGS_OP(name, host, SOURCE)                                                                                   \
	static inline void name##_v(struct x86_core *core, const struct insn *i, v128 d, v128 s)                       \
	{                                                                                                              \
		uint16_t result;                                                                                       \
		UNDER_MXCSR(host " %[s], %[d]\n\tlahf\n\tseto %%al", core, core->cpu.xsave.legacy.mxcsr,               \
			    "=&a"(result), [d] "x"(d), [s] "x"(s));                                                    \
		sse_flags(core, i);                                                                                    \
		core->aflags = result;                                                                                 \
	}                                                                                                              \
	EXEC(name##_rr)                                                                                                \
	{                                                                                                              \
		name##_v(core, i, *xmm(core, i->dst), *xmm(core, i->src));                                             \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm)                                                                                                \
	{                                                                                                              \
		v128 s = SOURCE(core, i);                                                                              \
		name##_v(core, i, *xmm(core, i->dst), s);                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR][BY_XMM] = name##_rr, [FORM_RM][BY_XMM] = name##_rm },                                \
	};
FLAGS_OP(comiss, "comiss", source32)
FLAGS_OP(comisd, "comisd", source64)
FLAGS_OP(ucomiss, "ucomiss", source32)
FLAGS_OP(ucomisd, "ucomisd", source64)
