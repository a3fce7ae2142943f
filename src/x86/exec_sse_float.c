/* SPDX-License-Identifier: MIT */
/* SSE floating-point arithmetic and logic: SDM volume 1, 10.4.1, 11.4.1, 12.3, 12.7, 12.9, and volume 2. */
#include "x86/vector.h"

#define FLOAT_OP4(name)                                                                                                \
	FLOAT_OP(name##ps, #name "ps", source128)                                                                      \
	FLOAT_OP(name##pd, #name "pd", source128)                                                                      \
	FLOAT_OP(name##ss, #name "ss", source32)                                                                       \
	FLOAT_OP(name##sd, #name "sd", source64)
FLOAT_OP4(add)
FLOAT_OP4(sub)
FLOAT_OP4(mul)
FLOAT_OP4(div)
FLOAT_OP4(min)
FLOAT_OP4(max)
FLOAT_OP4(sqrt)

FLOAT_OP(addsubps, "addsubps", source128)
FLOAT_OP(addsubpd, "addsubpd", source128)
FLOAT_OP(haddps, "haddps", source128)
FLOAT_OP(haddpd, "haddpd", source128)
FLOAT_OP(hsubps, "hsubps", source128)
FLOAT_OP(hsubpd, "hsubpd", source128)
FLOAT_IMMEDIATE_OP(dpps, "dpps $imm, %xmm1, %xmm0", 0xff, source128)
FLOAT_IMMEDIATE_OP(dppd, "dppd $imm, %xmm1, %xmm0", 0xff, source128)
FLOAT_IMMEDIATE_OP(roundps, "roundps $imm, %xmm1, %xmm0", 0xf, source128)
FLOAT_IMMEDIATE_OP(roundpd, "roundpd $imm, %xmm1, %xmm0", 0xf, source128)
FLOAT_IMMEDIATE_OP(roundss, "roundss $imm, %xmm1, %xmm0", 0xf, source32)
FLOAT_IMMEDIATE_OP(roundsd, "roundsd $imm, %xmm1, %xmm0", 0xf, source64)

/* Approximations and logic depend on nothing and raise nothing. */
XMM_OP(rcpps, "rcpps", source128)
XMM_OP(rcpss, "rcpss", source32)
XMM_OP(rsqrtps, "rsqrtps", source128)
XMM_OP(rsqrtss, "rsqrtss", source32)
XMM_OP(andps, "andps", source128)
XMM_OP(andpd, "andpd", source128)
XMM_OP(andnps, "andnps", source128)
XMM_OP(andnpd, "andnpd", source128)
XMM_OP(orps, "orps", source128)
XMM_OP(orpd, "orpd", source128)
XMM_OP(xorps, "xorps", source128)
XMM_OP(xorpd, "xorpd", source128)
