/* SPDX-License-Identifier: MIT */
/* SSE instructions that rearrange: unpack, shuffle, blend, extend, insert and extract. SDM volume 1, 10.4.4, 11.4.1,
 * 12.6, 12.10, and volume 2. */
#include "x86/vector.h"

/* The memory operand of a low unpack on MMX registers has 4 bytes, on XMM registers 16. */
VECTOR_OP(punpcklbw, "punpcklbw")
VECTOR_OP(punpcklwd, "punpcklwd")
VECTOR_OP(punpckldq, "punpckldq")
VECTOR_OP(punpckhbw, "punpckhbw")
VECTOR_OP(punpckhwd, "punpckhwd")
VECTOR_OP(punpckhdq, "punpckhdq")
VECTOR_OP(pshufb, "pshufb")
XMM_OP(punpcklqdq, "punpcklqdq", source128)
XMM_OP(punpckhqdq, "punpckhqdq", source128)
XMM_OP(unpcklps, "unpcklps", source128)
XMM_OP(unpckhps, "unpckhps", source128)
XMM_OP(unpcklpd, "unpcklpd", source128)
XMM_OP(unpckhpd, "unpckhpd", source128)
XMM_OP(movddup, "movddup", source64)
XMM_OP(movshdup, "movshdup", source128)
XMM_OP(movsldup, "movsldup", source128)

XMM_OP(pmovsxbw, "pmovsxbw", source64)
XMM_OP(pmovsxbd, "pmovsxbd", source32)
XMM_OP(pmovsxbq, "pmovsxbq", source16)
XMM_OP(pmovsxwd, "pmovsxwd", source64)
XMM_OP(pmovsxwq, "pmovsxwq", source32)
XMM_OP(pmovsxdq, "pmovsxdq", source64)
XMM_OP(pmovzxbw, "pmovzxbw", source64)
XMM_OP(pmovzxbd, "pmovzxbd", source32)
XMM_OP(pmovzxbq, "pmovzxbq", source16)
XMM_OP(pmovzxwd, "pmovzxwd", source64)
XMM_OP(pmovzxwq, "pmovzxwq", source32)
XMM_OP(pmovzxdq, "pmovzxdq", source64)

XMM_IMMEDIATE_OP(pshufd, "pshufd $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(pshufhw, "pshufhw $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(pshuflw, "pshuflw $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(shufps, "shufps $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(shufpd, "shufpd $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(blendps, "blendps $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(blendpd, "blendpd $imm, %xmm1, %xmm0", source128)
XMM_IMMEDIATE_OP(pblendw, "pblendw $imm, %xmm1, %xmm0", source128)

/* The mask of these is XMM0. */
#define BLENDV_OP(name, host)                                                                                          \
	static inline v128 name##_v(struct x86_core *core, v128 d, v128 s)                                             \
	{                                                                                                              \
		asm(host " %%xmm0, %1, %0" : "+x"(d) : "x"(s), "Yz"(*xmm(core, 0)));                                   \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_rr)                                                                                                \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = name##_v(core, *d, *xmm(core, i->src));                                                           \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm)                                                                                                \
	{                                                                                                              \
		v128 s = source128(core, i), *d = xmm(core, i->dst);                                                   \
		*d = name##_v(core, *d, s);                                                                            \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR][BY_XMM] = name##_rr, [FORM_RM][BY_XMM] = name##_rm },                                \
	};
BLENDV_OP(blendvps, "blendvps")
BLENDV_OP(blendvpd, "blendvpd")
BLENDV_OP(pblendvb, "pblendvb")

/* --- PSHUFW: PSHUFLW on the low half --- */

EXEC(pshufw_mm)
{
	x87_wait(core, i);
	mmx_enter(core);
	v128 s = { (long long)mmx_get(core, i->src), 0 };
	mmx_set(core, i->dst, (uint64_t)IMMEDIATE_STUB(pshuflw, i->imm)(s, s)[0]);
	X86_NEXT(core, i);
}
EXEC(pshufw_mmem)
{
	x87_wait(core, i);
	v128 s = source64(core, i);
	mmx_enter(core);
	mmx_set(core, i->dst, (uint64_t)IMMEDIATE_STUB(pshuflw, i->imm)(s, s)[0]);
	X86_NEXT(core, i);
}
const struct x86_forms x86_pshufw = { .by = { [FORM_RRI][BY_MMX] = pshufw_mm, [FORM_RMI][BY_MMX] = pshufw_mmem } };

/* --- PALIGNR: the bytes of d:s from position imm on; the MMX one is a shift of 16 bytes --- */

IMMEDIATE_STUBS(palignr, "palignr $imm, %xmm1, %xmm0")
EXEC(palignr_rri)
{
	v128 *d = xmm(core, i->dst);
	*d = IMMEDIATE_STUB(palignr, i->imm)(*d, *xmm(core, i->src));
	X86_NEXT(core, i);
}
EXEC(palignr_rmi)
{
	v128 s = source128(core, i), *d = xmm(core, i->dst);
	*d = IMMEDIATE_STUB(palignr, i->imm)(*d, s);
	X86_NEXT(core, i);
}
static inline uint64_t palignr_m(uint64_t d, uint64_t s, uint8_t bytes)
{
	return bytes < 16 ? (uint64_t)(((unsigned __int128)d << 64 | s) >> (8 * bytes)) : 0;
}
EXEC(palignr_mm)
{
	x87_wait(core, i);
	mmx_enter(core);
	mmx_set(core, i->dst, palignr_m(mmx_get(core, i->dst), mmx_get(core, i->src), (uint8_t)i->imm));
	X86_NEXT(core, i);
}
EXEC(palignr_mmem)
{
	x87_wait(core, i);
	uint64_t s = x86_load64(core, i, x86_address(core, i, 8, ACCESS_READ));
	mmx_enter(core);
	mmx_set(core, i->dst, palignr_m(mmx_get(core, i->dst), s, (uint8_t)i->imm));
	X86_NEXT(core, i);
}
const struct x86_forms x86_palignr = {
	.by = { [FORM_RRI] = { [BY_MMX] = palignr_mm, [BY_XMM] = palignr_rri },
		[FORM_RMI] = { [BY_MMX] = palignr_mmem, [BY_XMM] = palignr_rmi } },
};

/* --- INSERTPS: bits 7:6 choose the source element, of a register only --- */

IMMEDIATE_STUBS(insertps, "insertps $imm, %xmm1, %xmm0")
EXEC(insertps_rri)
{
	v128 *d = xmm(core, i->dst);
	*d = IMMEDIATE_STUB(insertps, i->imm)(*d, *xmm(core, i->src));
	X86_NEXT(core, i);
}
EXEC(insertps_rmi)
{
	v128 s = source32(core, i), *d = xmm(core, i->dst);
	*d = IMMEDIATE_STUB(insertps, i->imm & 0x3f)(*d, s);
	X86_NEXT(core, i);
}
const struct x86_forms x86_insertps = {
	.by = { [FORM_RRI][BY_XMM] = insertps_rri, [FORM_RMI][BY_XMM] = insertps_rmi },
};

/* --- insert and extract an element; the immediate counts modulo the number of elements --- */

#define ELEMENT(type, at, imm) ((type *)xmm(core, at))[(imm) % (16 / sizeof(type))]
#define EXTRACT_EXEC(name, type, bits)                                                                                 \
	EXEC(name##_rri)                                                                                               \
	{                                                                                                              \
		*reg64(core, i->dst) = ELEMENT(type, i->src, i->imm);                                                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mri)                                                                                               \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, bits / 8, ACCESS_WRITE);                                              \
		x86_store##bits(core, i, gva, ELEMENT(type, i->src, i->imm));                                          \
		X86_NEXT(core, i);                                                                                     \
	}
#define INSERT_EXEC(name, type, bits)                                                                                  \
	EXEC(name##_rri)                                                                                               \
	{                                                                                                              \
		ELEMENT(type, i->dst, i->imm) = (type)*reg64(core, i->src);                                            \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rmi)                                                                                               \
	{                                                                                                              \
		type value = x86_load##bits(core, i, x86_address(core, i, bits / 8, ACCESS_READ));                     \
		ELEMENT(type, i->dst, i->imm) = value;                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}
EXTRACT_EXEC(pextrb, uint8_t, 8)
EXTRACT_EXEC(pextrw, any16, 16)
EXTRACT_EXEC(pextrd, any32, 32)
EXTRACT_EXEC(pextrq, any64, 64)
INSERT_EXEC(pinsrb, uint8_t, 8)
INSERT_EXEC(pinsrw, any16, 16)
INSERT_EXEC(pinsrd, any32, 32)
INSERT_EXEC(pinsrq, any64, 64)

static inline uint64_t insert16(uint64_t d, uint16_t value, uint64_t imm)
{
	unsigned shift = 16 * (imm & 3);
	return (d & ~(0xffffULL << shift)) | (uint64_t)value << shift;
}
EXEC(pextrw_mm)
{
	x87_wait(core, i);
	mmx_enter(core);
	*reg64(core, i->dst) = (uint16_t)(mmx_get(core, i->src) >> 16 * (i->imm & 3));
	X86_NEXT(core, i);
}
EXEC(pinsrw_mm)
{
	x87_wait(core, i);
	mmx_enter(core);
	mmx_set(core, i->dst, insert16(mmx_get(core, i->dst), *reg16(core, i->src), i->imm));
	X86_NEXT(core, i);
}
EXEC(pinsrw_mmem)
{
	x87_wait(core, i);
	uint16_t value = x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ));
	mmx_enter(core);
	mmx_set(core, i->dst, insert16(mmx_get(core, i->dst), value, i->imm));
	X86_NEXT(core, i);
}
const struct x86_forms x86_pextrb = { .by = { [FORM_RRI][BY_XMM_GPR] = pextrb_rri, [FORM_MRI][BY_XMM] = pextrb_mri } };
const struct x86_forms x86_pextrd = { .by = { [FORM_RRI][BY_XMM_GPR] = pextrd_rri, [FORM_MRI][BY_XMM] = pextrd_mri } };
const struct x86_forms x86_pextrq = { .by = { [FORM_RRI][BY_XMM_GPR] = pextrq_rri, [FORM_MRI][BY_XMM] = pextrq_mri } };
const struct x86_forms x86_pextrw = {
	.by = { [FORM_RRI] = { [BY_MMX_GPR] = pextrw_mm, [BY_XMM_GPR] = pextrw_rri }, [FORM_MRI][BY_XMM] = pextrw_mri },
};
const struct x86_forms x86_pinsrb = { .by = { [FORM_RRI][BY_XMM_GPR] = pinsrb_rri, [FORM_RMI][BY_XMM] = pinsrb_rmi } };
const struct x86_forms x86_pinsrd = { .by = { [FORM_RRI][BY_XMM_GPR] = pinsrd_rri, [FORM_RMI][BY_XMM] = pinsrd_rmi } };
const struct x86_forms x86_pinsrq = { .by = { [FORM_RRI][BY_XMM_GPR] = pinsrq_rri, [FORM_RMI][BY_XMM] = pinsrq_rmi } };
const struct x86_forms x86_pinsrw = {
	.by = { [FORM_RRI] = { [BY_MMX_GPR] = pinsrw_mm, [BY_XMM_GPR] = pinsrw_rri },
		[FORM_RMI] = { [BY_MMX] = pinsrw_mmem, [BY_XMM] = pinsrw_rmi } },
};
