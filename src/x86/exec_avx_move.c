/* SPDX-License-Identifier: MIT */
/* AVX data movement: loads, stores and copies, sign masks, VZEROUPPER and VZEROALL, and the string comparisons with a vector result.
 * SDM volume 1, chapter 14, and volume 2. Non-temporal hints have no effect on the result. */
#include "x86/avx.h"

/* --- whole registers: any alignment, or that of the operand's size --- */

static inline gva_t address_aligned(struct x86_core *core, const struct insn *i, unsigned size, enum x86_access access)
{
	gva_t gva = x86_address(core, i, size, access);
	if (unlikely(gva & (size - 1)))
		x86_raise_error(core, i, VECTOR_GP, 0);
	return gva;
}

#define MOVE_WIDTH(W)                                                                                                  \
	EXEC(mov_reg##W)                                                                                               \
	{                                                                                                              \
		set##W(core, i->dst, get##W(core, i->src));                                                            \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(load_any##W)                                                                                              \
	{                                                                                                              \
		v##W s = load##W(core, i);                                                                             \
		set##W(core, i->dst, s);                                                                               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(load_aligned##W)                                                                                          \
	{                                                                                                              \
		v##W s = x86_load##W(core, i, address_aligned(core, i, W / 8, ACCESS_READ));                           \
		set##W(core, i->dst, s);                                                                               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(store_any##W)                                                                                             \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, W / 8, ACCESS_WRITE);                                                 \
		x86_store##W(core, i, gva, get##W(core, i->src));                                                      \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(store_aligned##W)                                                                                         \
	{                                                                                                              \
		gva_t gva = address_aligned(core, i, W / 8, ACCESS_WRITE);                                             \
		x86_store##W(core, i, gva, get##W(core, i->src));                                                      \
		X86_NEXT(core, i);                                                                                     \
	}
MOVE_WIDTH(128)
MOVE_WIDTH(256)
#define BOTH(name) { [BY_XMM] = name##128, [BY_YMM] = name##256 }
const struct x86_forms x86_vmova = {
	.by = { [FORM_RR] = BOTH(mov_reg), [FORM_RM] = BOTH(load_aligned), [FORM_MR] = BOTH(store_aligned) },
};
const struct x86_forms x86_vmovu = {
	.by = { [FORM_RR] = BOTH(mov_reg), [FORM_RM] = BOTH(load_any), [FORM_MR] = BOTH(store_any) },
};
const struct x86_forms x86_vlddqu = { .by = { [FORM_RM] = BOTH(load_any) } };
const struct x86_forms x86_vmovnt = { .by = { [FORM_MR] = BOTH(store_aligned) } };
const struct x86_forms x86_vmovntdqa = { .by = { [FORM_RM] = BOTH(load_aligned) } };

/* --- scalars: a load clears the rest, a copy takes it from the first source. Stores are those of SSE --- */

EXEC(load_scalar32)
{
	v128 s = source32(core, i);
	set128(core, i->dst, s);
	X86_NEXT(core, i);
}
EXEC(load_scalar64)
{
	v128 s = source64(core, i);
	set128(core, i->dst, s);
	X86_NEXT(core, i);
}
EXEC(store_scalar32)
{
	x86_store32(core, i, x86_address(core, i, 4, ACCESS_WRITE), *xmm32(core, i->src));
	X86_NEXT(core, i);
}
EXEC(store_scalar64)
{
	x86_store64(core, i, x86_address(core, i, 8, ACCESS_WRITE), *xmm64(core, i->src));
	X86_NEXT(core, i);
}
EXEC(store_high64)
{
	x86_store64(core, i, x86_address(core, i, 8, ACCESS_WRITE), xmm64(core, i->src)[1]);
	X86_NEXT(core, i);
}
#define MERGE_VALUE(name, host)                                                                                        \
	static inline v128 name##_v128(struct x86_core *core, const struct insn *i, v128 a, v128 b)                    \
	{                                                                                                              \
		v128 d;                                                                                                \
		asm(host " %2, %1, %0" : "=x"(d) : "x"(a), "x"(b));                                                    \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_rrr)                                                                                               \
	{                                                                                                              \
		set128(core, i->dst, name##_v128(core, i, get128(core, i->src), get128(core, i->src2)));               \
		X86_NEXT(core, i);                                                                                     \
	}
MERGE_VALUE(vmovss, "vmovss")
MERGE_VALUE(vmovsd, "vmovsd")
MERGE_VALUE(vmovhlps, "vmovhlps")
MERGE_VALUE(vmovlhps, "vmovlhps")
const struct x86_forms x86_vmovss = {
	.by = { [FORM_RRR][BY_XMM] = vmovss_rrr, [FORM_RM][BY_XMM] = load_scalar32, [FORM_MR][BY_XMM] = store_scalar32 },
};
const struct x86_forms x86_vmovsd = {
	.by = { [FORM_RRR][BY_XMM] = vmovsd_rrr, [FORM_RM][BY_XMM] = load_scalar64, [FORM_MR][BY_XMM] = store_scalar64 },
};
const struct x86_forms x86_vmovhlps = { .by = { [FORM_RRR][BY_XMM] = vmovhlps_rrr } };
const struct x86_forms x86_vmovlhps = { .by = { [FORM_RRR][BY_XMM] = vmovlhps_rrr } };

EXEC(load_low)
{
	v128 s = source64(core, i), a = get128(core, i->src);
	set128(core, i->dst, (v128){ s[0], a[1] });
	X86_NEXT(core, i);
}
EXEC(load_high)
{
	v128 s = source64(core, i), a = get128(core, i->src);
	set128(core, i->dst, (v128){ a[0], s[0] });
	X86_NEXT(core, i);
}
const struct x86_forms x86_vmovlp = { .by = { [FORM_RRM][BY_XMM] = load_low, [FORM_MR][BY_XMM] = store_scalar64 } };
const struct x86_forms x86_vmovhp = { .by = { [FORM_RRM][BY_XMM] = load_high, [FORM_MR][BY_XMM] = store_high64 } };

/* --- VMOVD and VMOVQ, also to and from general registers: opcode 7E is the direction from a vector register --- */

#define OPCODE_FROM_VECTOR 0x10

EXEC(vmovd_gpr)
{
	if (i->opcode & OPCODE_FROM_VECTOR)
		*reg64(core, i->dst) = *xmm32(core, i->src);
	else
		set128(core, i->dst, (v128){ *reg32(core, i->src), 0 });
	X86_NEXT(core, i);
}
EXEC(vmovq_gpr)
{
	if (i->opcode & OPCODE_FROM_VECTOR)
		*reg64(core, i->dst) = *xmm64(core, i->src);
	else
		set128(core, i->dst, (v128){ (long long)*reg64(core, i->src), 0 });
	X86_NEXT(core, i);
}
EXEC(vmovq_reg)
{
	set128(core, i->dst, (v128){ (long long)*xmm64(core, i->src), 0 });
	X86_NEXT(core, i);
}
const struct x86_forms x86_vmovd = {
	.by = { [FORM_RR][BY_XMM_GPR] = vmovd_gpr, [FORM_RM][BY_XMM] = load_scalar32, [FORM_MR][BY_XMM] = store_scalar32 },
};
const struct x86_forms x86_vmovq = {
	.by = { [FORM_RR] = { [BY_XMM] = vmovq_reg, [BY_XMM_GPR] = vmovq_gpr },
		[FORM_RM][BY_XMM] = load_scalar64, [FORM_MR][BY_XMM] = store_scalar64 },
};

/* --- sign masks --- */

#define MASK_WIDTH(name, W)                                                                                            \
	EXEC(name##_##W)                                                                                               \
	{                                                                                                              \
		uint32_t mask;                                                                                         \
		asm(#name " %1, %0" : "=r"(mask) : "x"(get##W(core, i->src)));                                         \
		*reg64(core, i->dst) = mask;                                                                           \
		X86_NEXT(core, i);                                                                                     \
	}
#define MASK_OP(name)                                                                                                  \
	MASK_WIDTH(name, 128)                                                                                          \
	MASK_WIDTH(name, 256)                                                                                          \
	const struct x86_forms x86_##name = { .by = { [FORM_RR] = { [BY_XMM_GPR] = name##_128, [BY_YMM_GPR] = name##_256 } } };
MASK_OP(vmovmskps)
MASK_OP(vmovmskpd)
MASK_OP(vpmovmskb)

/* --- VZEROUPPER, VZEROALL: the registers that the mode has --- */

static unsigned registers(const struct x86_core *core)
{
	return (core->mode & MODE_CODE) == MODE_CODE64 ? 16 : 8;
}
EXEC(vzeroupper)
{
	for (unsigned r = 0; r < registers(core); r++)
		*ymm_high(core, 16 * r) = ZERO128;
	X86_NEXT(core, i);
}
EXEC(vzeroall)
{
	for (unsigned r = 0; r < registers(core); r++)
		set128(core, 16 * r, ZERO128);
	X86_NEXT(core, i);
}
const struct x86_forms x86_vzeroupper = { .any = vzeroupper };
const struct x86_forms x86_vzeroall = { .any = vzeroall };
