/* SPDX-License-Identifier: MIT */
/* AVX floating-point arithmetic, logic and comparison, and FMA: SDM volume 1, 14.1 to 14.5, and volume 2. */
#include "x86/avx.h"

#define ARITHMETIC(name)                                                                                               \
	VEX_OP2(FLOAT, name##ps)                                                                                       \
	VEX_OP2(FLOAT, name##pd)                                                                                       \
	VEX_SCALAR_OP2(FLOAT, name##ss, source32)                                                                      \
	VEX_SCALAR_OP2(FLOAT, name##sd, source64)
ARITHMETIC(vadd)
ARITHMETIC(vsub)
ARITHMETIC(vmul)
ARITHMETIC(vdiv)
ARITHMETIC(vmin)
ARITHMETIC(vmax)
VEX_OP1(FLOAT, vsqrtps)
VEX_OP1(FLOAT, vsqrtpd)
VEX_SCALAR_OP2(FLOAT, vsqrtss, source32)
VEX_SCALAR_OP2(FLOAT, vsqrtsd, source64)
VEX_OP2(FLOAT, vaddsubps)
VEX_OP2(FLOAT, vaddsubpd)
VEX_OP2(FLOAT, vhaddps)
VEX_OP2(FLOAT, vhaddpd)
VEX_OP2(FLOAT, vhsubps)
VEX_OP2(FLOAT, vhsubpd)
VEX_IMM_OP2(FLOAT, vdpps)
VEX_SCALAR_IMM_OP2(FLOAT, vdppd, load128)
VEX_IMM_OP1(FLOAT, vroundps)
VEX_IMM_OP1(FLOAT, vroundpd)
VEX_SCALAR_IMM_OP2(FLOAT, vroundss, source32)
VEX_SCALAR_IMM_OP2(FLOAT, vroundsd, source64)
VEX_IMM_OP2(FLOAT, vcmpps)
VEX_IMM_OP2(FLOAT, vcmppd)
VEX_SCALAR_IMM_OP2(FLOAT, vcmpss, source32)
VEX_SCALAR_IMM_OP2(FLOAT, vcmpsd, source64)

/* Approximations and logic depend on nothing and raise nothing. */
VEX_OP1(VALUE, vrcpps)
VEX_OP1(VALUE, vrsqrtps)
VEX_SCALAR_OP2(VALUE, vrcpss, source32)
VEX_SCALAR_OP2(VALUE, vrsqrtss, source32)
VEX_OP2(VALUE, vandps)
VEX_OP2(VALUE, vandpd)
VEX_OP2(VALUE, vandnps)
VEX_OP2(VALUE, vandnpd)
VEX_OP2(VALUE, vorps)
VEX_OP2(VALUE, vorpd)
VEX_OP2(VALUE, vxorps)
VEX_OP2(VALUE, vxorpd)

/* --- FMA: the destination is a source too --- */

#define FMA_WIDTH(name, W, LOAD)                                                                                       \
	static inline v##W name##_v##W(struct x86_core *core, const struct insn *i, v##W a, v##W b, v##W c)            \
	{                                                                                                              \
		v##W d;                                                                                                \
		UNDER_GUEST_MXCSR(core, i, #name " %[c], %[b], %[d]", [d] "=&x"(d), "0"(a), [b] "x"(b), [c] "x"(c));   \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_reg##W)                                                                                            \
	{                                                                                                              \
		v##W a = get##W(core, i->dst), b = get##W(core, i->src), c = get##W(core, i->src2);                    \
		set##W(core, i->dst, name##_v##W(core, i, a, b, c));                                                   \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##W)                                                                                            \
	{                                                                                                              \
		v##W c = LOAD(core, i), a = get##W(core, i->dst), b = get##W(core, i->src);                            \
		set##W(core, i->dst, name##_v##W(core, i, a, b, c));                                                   \
		X86_NEXT(core, i);                                                                                     \
	}
#define FMA_PACKED(name)                                                                                               \
	FMA_WIDTH(name, 128, load128)                                                                                  \
	FMA_WIDTH(name, 256, load256)                                                                                  \
	VEX_FORMS(name, FORM_RRR, FORM_RRM)
#define FMA_SCALAR(name, LOAD)                                                                                         \
	FMA_WIDTH(name, 128, LOAD)                                                                                     \
	VEX_FORMS128(name, FORM_RRR, FORM_RRM)
#define FMA_PACKED6(name)                                                                                              \
	FMA_PACKED(name##132ps)                                                                                        \
	FMA_PACKED(name##213ps)                                                                                        \
	FMA_PACKED(name##231ps)                                                                                        \
	FMA_PACKED(name##132pd)                                                                                        \
	FMA_PACKED(name##213pd)                                                                                        \
	FMA_PACKED(name##231pd)
#define FMA_ALL(name)                                                                                                  \
	FMA_PACKED6(name)                                                                                              \
	FMA_SCALAR(name##132ss, source32)                                                                              \
	FMA_SCALAR(name##213ss, source32)                                                                              \
	FMA_SCALAR(name##231ss, source32)                                                                              \
	FMA_SCALAR(name##132sd, source64)                                                                              \
	FMA_SCALAR(name##213sd, source64)                                                                              \
	FMA_SCALAR(name##231sd, source64)
FMA_ALL(vfmadd)
FMA_ALL(vfmsub)
FMA_ALL(vfnmadd)
FMA_ALL(vfnmsub)
FMA_PACKED6(vfmaddsub)
FMA_PACKED6(vfmsubadd)
