/* SPDX-License-Identifier: MIT */
/* Integer arithmetic, logic, comparison, shifts and packing on MMX and XMM registers: SDM volume 1, chapters 9 and 11
 * to 12, volume 2. MMX forms are here too, since they share the mnemonic; what exists for MMX only is in exec_mmx.c. */
#include "x86/vector.h"

VECTOR_OP(paddb, "paddb")
VECTOR_OP(paddw, "paddw")
VECTOR_OP(paddd, "paddd")
VECTOR_OP(paddq, "paddq")
VECTOR_OP(paddsb, "paddsb")
VECTOR_OP(paddsw, "paddsw")
VECTOR_OP(paddusb, "paddusb")
VECTOR_OP(paddusw, "paddusw")
VECTOR_OP(psubb, "psubb")
VECTOR_OP(psubw, "psubw")
VECTOR_OP(psubd, "psubd")
VECTOR_OP(psubq, "psubq")
VECTOR_OP(psubsb, "psubsb")
VECTOR_OP(psubsw, "psubsw")
VECTOR_OP(psubusb, "psubusb")
VECTOR_OP(psubusw, "psubusw")
VECTOR_OP(pmaddwd, "pmaddwd")
VECTOR_OP(pmulhuw, "pmulhuw")
VECTOR_OP(pmulhw, "pmulhw")
VECTOR_OP(pmullw, "pmullw")
VECTOR_OP(pmuludq, "pmuludq")
VECTOR_OP(psadbw, "psadbw")
VECTOR_OP(pavgb, "pavgb")
VECTOR_OP(pavgw, "pavgw")
VECTOR_OP(pmaxsw, "pmaxsw")
VECTOR_OP(pmaxub, "pmaxub")
VECTOR_OP(pminsw, "pminsw")
VECTOR_OP(pminub, "pminub")
VECTOR_OP(pand, "pand")
VECTOR_OP(pandn, "pandn")
VECTOR_OP(por, "por")
VECTOR_OP(pxor, "pxor")
VECTOR_OP(pcmpeqb, "pcmpeqb")
VECTOR_OP(pcmpeqw, "pcmpeqw")
VECTOR_OP(pcmpeqd, "pcmpeqd")
VECTOR_OP(pcmpgtb, "pcmpgtb")
VECTOR_OP(pcmpgtw, "pcmpgtw")
VECTOR_OP(pcmpgtd, "pcmpgtd")
VECTOR_OP(packsswb, "packsswb")
VECTOR_OP(packssdw, "packssdw")
VECTOR_OP(packuswb, "packuswb")

/* SSSE3 */
VECTOR_OP(pabsb, "pabsb")
VECTOR_OP(pabsw, "pabsw")
VECTOR_OP(pabsd, "pabsd")
VECTOR_OP(phaddw, "phaddw")
VECTOR_OP(phaddd, "phaddd")
VECTOR_OP(phaddsw, "phaddsw")
VECTOR_OP(phsubw, "phsubw")
VECTOR_OP(phsubd, "phsubd")
VECTOR_OP(phsubsw, "phsubsw")
VECTOR_OP(pmaddubsw, "pmaddubsw")
VECTOR_OP(pmulhrsw, "pmulhrsw")
VECTOR_OP(psignb, "psignb")
VECTOR_OP(psignw, "psignw")
VECTOR_OP(psignd, "psignd")

/* SSE4.1 and SSE4.2 */
XMM_OP(packusdw, "packusdw", source128)
XMM_OP(pcmpeqq, "pcmpeqq", source128)
XMM_OP(pcmpgtq, "pcmpgtq", source128)
XMM_OP(phminposuw, "phminposuw", source128)
XMM_OP(pmaxsb, "pmaxsb", source128)
XMM_OP(pmaxsd, "pmaxsd", source128)
XMM_OP(pmaxud, "pmaxud", source128)
XMM_OP(pmaxuw, "pmaxuw", source128)
XMM_OP(pminsb, "pminsb", source128)
XMM_OP(pminsd, "pminsd", source128)
XMM_OP(pminud, "pminud", source128)
XMM_OP(pminuw, "pminuw", source128)
XMM_OP(pmuldq, "pmuldq", source128)
XMM_OP(pmulld, "pmulld", source128)
XMM_IMMEDIATE_OP(mpsadbw, "mpsadbw $imm, %xmm1, %xmm0", source128)

/* Shifts: an immediate count is the same as that count in a register. */
#define SHIFT_OP(name, host)                                                                                           \
	VALUE2(name, host)                                                                                             \
	XMM_EXEC(name, source128)                                                                                      \
	MMX_EXEC(name, host)                                                                                           \
	EXEC(name##_ri)                                                                                                \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = name##_v(*d, (v128){ (uint8_t)i->imm, 0 });                                                       \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mi)                                                                                                \
	{                                                                                                              \
		x87_wait(core, i);                                                                                     \
		mmx_enter(core);                                                                                       \
		mmx_set(core, i->dst, name##_m(mmx_get(core, i->dst), (uint8_t)i->imm));                               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR] = { [BY_MMX] = name##_mm, [BY_XMM] = name##_rr },                                    \
			[FORM_RM] = { [BY_MMX] = name##_mmem, [BY_XMM] = name##_rm },                                  \
			[FORM_RI] = { [BY_MMX] = name##_mi, [BY_XMM] = name##_ri } },                                  \
	};
SHIFT_OP(psllw, "psllw")
SHIFT_OP(pslld, "pslld")
SHIFT_OP(psllq, "psllq")
SHIFT_OP(psrlw, "psrlw")
SHIFT_OP(psrld, "psrld")
SHIFT_OP(psrlq, "psrlq")
SHIFT_OP(psraw, "psraw")
SHIFT_OP(psrad, "psrad")

#define BYTE_SHIFT_OP(name, text)                                                                                      \
	IMMEDIATE_STUBS(name, text)                                                                                    \
	EXEC(name##_ri)                                                                                                \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = IMMEDIATE_STUB(name, i->imm)(*d, ZERO128);                                                        \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = { .by = { [FORM_RI][BY_XMM] = name##_ri } };
BYTE_SHIFT_OP(pslldq, "pslldq $imm, %xmm0")
BYTE_SHIFT_OP(psrldq, "psrldq $imm, %xmm0")

static inline void ptest_v(struct x86_core *core, v128 d, v128 s)
{
	asm("ptest %2, %1\n\tlahf\n\tseto %%al" : "=a"(core->aflags) : "x"(d), "x"(s) : "cc");
}
EXEC(ptest_rr)
{
	ptest_v(core, *xmm(core, i->dst), *xmm(core, i->src));
	X86_NEXT(core, i);
}
EXEC(ptest_rm)
{
	v128 s = source128(core, i);
	ptest_v(core, *xmm(core, i->dst), s);
	X86_NEXT(core, i);
}
const struct x86_forms x86_ptest = { .by = { [FORM_RR][BY_XMM] = ptest_rr, [FORM_RM][BY_XMM] = ptest_rm } };
