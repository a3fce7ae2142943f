/* SPDX-License-Identifier: MIT */
/* AVX and AVX2 instructions that rearrange: unpack, shuffle, permute, blend, broadcast, extend, insert and extract. SDM volume 1,
 * chapter 14, and volume 2. Extraction to a general register or memory touches no other vector register, and is that of SSE. */
#include "x86/avx.h"

VEX_OP2(VALUE, vpunpcklbw)
VEX_OP2(VALUE, vpunpcklwd)
VEX_OP2(VALUE, vpunpckldq)
VEX_OP2(VALUE, vpunpcklqdq)
VEX_OP2(VALUE, vpunpckhbw)
VEX_OP2(VALUE, vpunpckhwd)
VEX_OP2(VALUE, vpunpckhdq)
VEX_OP2(VALUE, vpunpckhqdq)
VEX_OP2(VALUE, vunpcklps)
VEX_OP2(VALUE, vunpckhps)
VEX_OP2(VALUE, vunpcklpd)
VEX_OP2(VALUE, vunpckhpd)
VEX_OP2(VALUE, vpshufb)
VEX_256_OP2(VALUE, vpermd)
VEX_256_OP2(VALUE, vpermps)
VEX_OP1(VALUE, vmovshdup)
VEX_OP1(VALUE, vmovsldup)
VEX_WIDEN_OP1(VALUE, vmovddup, source64, 256, load256)

VEX_WIDEN_OP1(VALUE, vpmovsxbw, source64, 128, load128)
VEX_WIDEN_OP1(VALUE, vpmovsxbd, source32, 128, source64)
VEX_WIDEN_OP1(VALUE, vpmovsxbq, source16, 128, source32)
VEX_WIDEN_OP1(VALUE, vpmovsxwd, source64, 128, load128)
VEX_WIDEN_OP1(VALUE, vpmovsxwq, source32, 128, source64)
VEX_WIDEN_OP1(VALUE, vpmovsxdq, source64, 128, load128)
VEX_WIDEN_OP1(VALUE, vpmovzxbw, source64, 128, load128)
VEX_WIDEN_OP1(VALUE, vpmovzxbd, source32, 128, source64)
VEX_WIDEN_OP1(VALUE, vpmovzxbq, source16, 128, source32)
VEX_WIDEN_OP1(VALUE, vpmovzxwd, source64, 128, load128)
VEX_WIDEN_OP1(VALUE, vpmovzxwq, source32, 128, source64)
VEX_WIDEN_OP1(VALUE, vpmovzxdq, source64, 128, load128)

VEX_WIDEN_OP1(VALUE, vpbroadcastb, source8, 128, source8)
VEX_WIDEN_OP1(VALUE, vpbroadcastw, source16, 128, source16)
VEX_WIDEN_OP1(VALUE, vpbroadcastd, source32, 128, source32)
VEX_WIDEN_OP1(VALUE, vpbroadcastq, source64, 128, source64)

VEX_IMM_OP1(VALUE, vpshufd)
VEX_IMM_OP1(VALUE, vpshufhw)
VEX_IMM_OP1(VALUE, vpshuflw)
VEX_IMM_OP2(VALUE, vshufps)
VEX_IMM_OP2(VALUE, vshufpd)
VEX_IMM_OP2(VALUE, vblendps)
VEX_IMM_OP2(VALUE, vblendpd)
VEX_IMM_OP2(VALUE, vpblendw)
VEX_IMM_OP2(VALUE, vpblendd)
VEX_IMM_OP2(VALUE, vpalignr)
VEX_256_IMM_OP1(VALUE, vpermq)
VEX_256_IMM_OP1(VALUE, vpermpd)
VEX_256_IMM_OP2(VALUE, vperm2f128, 256, "%ymm1", load256)
VEX_256_IMM_OP2(VALUE, vperm2i128, 256, "%ymm1", load256)
VEX_256_IMM_OP2(VALUE, vinsertf128, 128, "%xmm1", load128)
VEX_256_IMM_OP2(VALUE, vinserti128, 128, "%xmm1", load128)

/* --- broadcasts: VBROADCASTSS from a register came with AVX2, but the model has both or none --- */

VEX_WIDEN_OP1(VALUE, vbroadcastss, source32, 128, source32)
VEX_VALUE1(vbroadcastsd, 256, 256, 128)
VEX_EXEC1(vbroadcastsd, 256, 256, 128, source64)
VEX_FORMS256(vbroadcastsd, FORM_RR, FORM_RM)
EXEC(broadcast128)
{
	v128 s = load128(core, i);
	*xmm(core, i->dst) = s;
	*ymm_high(core, i->dst) = s;
	X86_NEXT(core, i);
}
const struct x86_forms x86_vbroadcast128 = { .by = { [FORM_RM][BY_YMM] = broadcast128 } };

/* --- VPERMILPS, VPERMILPD: by a register, or by an immediate --- */

#define PERMIL_WIDTH(name, W, operands)                                                                                \
	VEX_VALUE2(name, W, W, W)                                                                                      \
	VEX_EXEC2(name, W, W, W, load##W)                                                                              \
	IMMEDIATE_STUBS(name##W, #name " $imm, " operands)                                                             \
	EXEC(name##_regimm##W)                                                                                         \
	{                                                                                                              \
		set##W(core, i->dst, VEX_STUB1(name, W, W, W)(get##W(core, i->src)));                                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_memimm##W)                                                                                         \
	{                                                                                                              \
		v##W s = load##W(core, i);                                                                             \
		set##W(core, i->dst, VEX_STUB1(name, W, W, W)(s));                                                     \
		X86_NEXT(core, i);                                                                                     \
	}
#define PERMIL_OP(name)                                                                                                \
	PERMIL_WIDTH(name, 128, "%xmm0, %xmm0")                                                                        \
	PERMIL_WIDTH(name, 256, "%ymm0, %ymm0")                                                                        \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRR] = { [BY_XMM] = name##_reg128, [BY_YMM] = name##_reg256 },                           \
			[FORM_RRM] = { [BY_XMM] = name##_mem128, [BY_YMM] = name##_mem256 },                           \
			[FORM_RRI] = { [BY_XMM] = name##_regimm128, [BY_YMM] = name##_regimm256 },                     \
			[FORM_RMI] = { [BY_XMM] = name##_memimm128, [BY_YMM] = name##_memimm256 } },                   \
	};
PERMIL_OP(vpermilps)
PERMIL_OP(vpermilpd)

/* --- blends by a mask in a fourth register, whose offset is the immediate --- */

#define BLENDV_WIDTH(name, W)                                                                                          \
	static inline v##W name##_v##W(v##W a, v##W b, v##W mask)                                                      \
	{                                                                                                              \
		v##W d;                                                                                                \
		asm(#name " %3, %2, %1, %0" : "=x"(d) : "x"(a), "x"(b), "x"(mask));                                    \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_reg##W)                                                                                            \
	{                                                                                                              \
		v##W a = get##W(core, i->src), b = get##W(core, i->src2), mask = get##W(core, (uint8_t)i->imm);        \
		set##W(core, i->dst, name##_v##W(a, b, mask));                                                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##W)                                                                                            \
	{                                                                                                              \
		v##W b = load##W(core, i), a = get##W(core, i->src), mask = get##W(core, (uint8_t)i->imm);             \
		set##W(core, i->dst, name##_v##W(a, b, mask));                                                         \
		X86_NEXT(core, i);                                                                                     \
	}
#define BLENDV_OP(name)                                                                                                \
	BLENDV_WIDTH(name, 128)                                                                                        \
	BLENDV_WIDTH(name, 256)                                                                                        \
	VEX_FORMS(name, FORM_RRRR, FORM_RRMR)
BLENDV_OP(vblendvps)
BLENDV_OP(vblendvpd)
BLENDV_OP(vpblendvb)

/* --- extract the upper or lower half --- */

static inline v128 half_of(struct x86_core *core, const struct insn *i)
{
	return i->imm & 1 ? *ymm_high(core, i->src) : *xmm(core, i->src);
}
EXEC(extract128_rri)
{
	set128(core, i->dst, half_of(core, i));
	X86_NEXT(core, i);
}
EXEC(extract128_mri)
{
	gva_t gva = x86_address(core, i, 16, ACCESS_WRITE);
	x86_store128(core, i, gva, half_of(core, i));
	X86_NEXT(core, i);
}
const struct x86_forms x86_vextract128 = {
	.by = { [FORM_RRI][BY_YMM] = extract128_rri, [FORM_MRI][BY_YMM] = extract128_mri },
};

/* --- insert an element: the immediate counts modulo the number of elements --- */

#define INSERT_OP(name, type, bits)                                                                                    \
	static inline void name##_v(struct x86_core *core, const struct insn *i, type value)                           \
	{                                                                                                              \
		set128(core, i->dst, get128(core, i->src));                                                            \
		((type *)xmm(core, i->dst))[i->imm % (16 / sizeof(type))] = value;                                     \
	}                                                                                                              \
	EXEC(name##_rrri)                                                                                              \
	{                                                                                                              \
		name##_v(core, i, (type)*reg64(core, i->src2));                                                        \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rrmi)                                                                                              \
	{                                                                                                              \
		name##_v(core, i, x86_load##bits(core, i, x86_address(core, i, bits / 8, ACCESS_READ)));               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRRI][BY_XMM_GPR] = name##_rrri, [FORM_RRMI][BY_XMM] = name##_rrmi },                    \
	};
INSERT_OP(vpinsrb, uint8_t, 8)
INSERT_OP(vpinsrw, any16, 16)
INSERT_OP(vpinsrd, any32, 32)
INSERT_OP(vpinsrq, any64, 64)

/* VINSERTPS: bits 7:6 choose the source element, of a register only. */
VEX_IMM_VALUE2(vinsertps, 128, 128, 128, "%xmm1, %xmm0, %xmm0")
EXEC(vinsertps_reg128)
{
	set128(core, i->dst, vinsertps_v128(core, i, get128(core, i->src), get128(core, i->src2)));
	X86_NEXT(core, i);
}
EXEC(vinsertps_mem128)
{
	v128 s = source32(core, i), a = get128(core, i->src);
	set128(core, i->dst, ((v128 (*)(v128, v128))(uintptr_t)(vinsertps128_stubs + 8 * (i->imm & 0x3f)))(a, s));
	X86_NEXT(core, i);
}
VEX_FORMS128(vinsertps, FORM_RRRI, FORM_RRMI)
