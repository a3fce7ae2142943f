/* SPDX-License-Identifier: MIT */
/* AES-NI, PCLMULQDQ, SHA and GFNI: SDM volume 1, 12.13 and 12.14, volume 2. A model offers them only where the host has
 * them. */
#include "x86/vector.h"

XMM_OP(aesenc, "aesenc", source128)
XMM_OP(aesenclast, "aesenclast", source128)
XMM_OP(aesdec, "aesdec", source128)
XMM_OP(aesdeclast, "aesdeclast", source128)
XMM_OP(aesimc, "aesimc", source128)
XMM_IMMEDIATE_OP(aeskeygenassist, "aeskeygenassist $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(pclmulqdq, "pclmulqdq $imm, %xmm1, %xmm0", source128)

XMM_OP(gf2p8mulb, "gf2p8mulb", source128)
XMM_IMMEDIATE_OP(gf2p8affineqb, "gf2p8affineqb $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(gf2p8affineinvqb, "gf2p8affineinvqb $imm, %xmm1, %xmm0", source128)

XMM_OP(sha1msg1, "sha1msg1", source128)
XMM_OP(sha1msg2, "sha1msg2", source128)
XMM_OP(sha1nexte, "sha1nexte", source128)
XMM_OP(sha256msg1, "sha256msg1", source128)
XMM_OP(sha256msg2, "sha256msg2", source128)
XMM_IMMEDIATE_OP(sha1rnds4, "sha1rnds4 $(imm & 3), %xmm1, %xmm0", source128)

/* The two words of message and constants are in XMM0. */
static inline v128 sha256rnds2_v(struct x86_core *core, v128 d, v128 s)
{
	asm("sha256rnds2 %%xmm0, %1, %0" : "+x"(d) : "x"(s), "Yz"(*xmm(core, 0)));
	return d;
}
EXEC(sha256rnds2_rr)
{
	v128 *d = xmm(core, i->dst);
	*d = sha256rnds2_v(core, *d, *xmm(core, i->src));
	X86_NEXT(core, i);
}
EXEC(sha256rnds2_rm)
{
	v128 s = source128(core, i), *d = xmm(core, i->dst);
	*d = sha256rnds2_v(core, *d, s);
	X86_NEXT(core, i);
}
const struct x86_forms x86_sha256rnds2 = {
	.by = { [FORM_RR][BY_XMM] = sha256rnds2_rr, [FORM_RM][BY_XMM] = sha256rnds2_rm },
};
