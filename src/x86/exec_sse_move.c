/* SPDX-License-Identifier: MIT */
/* SSE data movement: loads, stores and copies, also those between vector, MMX and general registers; MXCSR. Follows the
 * Intel SDM volume 1, 10.4.1, 11.4.1, 12.8, and volume 2. Non-temporal hints have no effect on the result. */
#include "x86/vector.h"

/* --- whole registers --- */

EXEC(mov_rr)
{
	*xmm(core, i->dst) = *xmm(core, i->src);
	X86_NEXT(core, i);
}
EXEC(mov_rm_aligned)
{
	*xmm(core, i->dst) = source128(core, i);
	X86_NEXT(core, i);
}
EXEC(mov_mr_aligned)
{
	x86_store128(core, i, x86_address_aligned(core, i, ACCESS_WRITE), *xmm(core, i->src));
	X86_NEXT(core, i);
}
EXEC(mov_rm_any)
{
	*xmm(core, i->dst) = source128_any(core, i);
	X86_NEXT(core, i);
}
EXEC(mov_mr_any)
{
	x86_store128(core, i, x86_address(core, i, 16, ACCESS_WRITE), *xmm(core, i->src));
	X86_NEXT(core, i);
}
const struct x86_forms x86_mova = {
	.by = { [FORM_RR][BY_XMM] = mov_rr, [FORM_RM][BY_XMM] = mov_rm_aligned, [FORM_MR][BY_XMM] = mov_mr_aligned },
};
const struct x86_forms x86_movu = {
	.by = { [FORM_RR][BY_XMM] = mov_rr, [FORM_RM][BY_XMM] = mov_rm_any, [FORM_MR][BY_XMM] = mov_mr_any },
};
const struct x86_forms x86_lddqu = { .by = { [FORM_RM][BY_XMM] = mov_rm_any } };
const struct x86_forms x86_movnt = { .by = { [FORM_MR][BY_XMM] = mov_mr_aligned } };
const struct x86_forms x86_movntdqa = { .by = { [FORM_RM][BY_XMM] = mov_rm_aligned } };

EXEC(movnti_4)
{
	x86_store32(core, i, x86_address(core, i, 4, ACCESS_WRITE), *reg32(core, i->src));
	X86_NEXT(core, i);
}
EXEC(movnti_8)
{
	x86_store64(core, i, x86_address(core, i, 8, ACCESS_WRITE), *reg64(core, i->src));
	X86_NEXT(core, i);
}
const struct x86_forms x86_movnti = { .by = { [FORM_MR] = { [2] = movnti_4, [3] = movnti_8 } } };

/* --- scalars: a load clears the rest of the register, a copy keeps it --- */

EXEC(movss_rr)
{
	*xmm32(core, i->dst) = *xmm32(core, i->src);
	X86_NEXT(core, i);
}
EXEC(load32)
{
	*xmm(core, i->dst) = source32(core, i);
	X86_NEXT(core, i);
}
EXEC(store32)
{
	x86_store32(core, i, x86_address(core, i, 4, ACCESS_WRITE), *xmm32(core, i->src));
	X86_NEXT(core, i);
}
const struct x86_forms x86_movss = {
	.by = { [FORM_RR][BY_XMM] = movss_rr, [FORM_RM][BY_XMM] = load32, [FORM_MR][BY_XMM] = store32 },
};

EXEC(movsd_rr)
{
	*xmm64(core, i->dst) = *xmm64(core, i->src);
	X86_NEXT(core, i);
}
EXEC(load64)
{
	*xmm(core, i->dst) = source64(core, i);
	X86_NEXT(core, i);
}
EXEC(store64)
{
	x86_store64(core, i, x86_address(core, i, 8, ACCESS_WRITE), *xmm64(core, i->src));
	X86_NEXT(core, i);
}
const struct x86_forms x86_movsd_sse = {
	.by = { [FORM_RR][BY_XMM] = movsd_rr, [FORM_RM][BY_XMM] = load64, [FORM_MR][BY_XMM] = store64 },
};

/* --- halves --- */

EXEC(load_low)
{
	*xmm64(core, i->dst) = x86_load64(core, i, x86_address(core, i, 8, ACCESS_READ));
	X86_NEXT(core, i);
}
EXEC(load_high)
{
	xmm64(core, i->dst)[1] = x86_load64(core, i, x86_address(core, i, 8, ACCESS_READ));
	X86_NEXT(core, i);
}
EXEC(store_high)
{
	x86_store64(core, i, x86_address(core, i, 8, ACCESS_WRITE), xmm64(core, i->src)[1]);
	X86_NEXT(core, i);
}
EXEC(high_to_low)
{
	*xmm64(core, i->dst) = xmm64(core, i->src)[1];
	X86_NEXT(core, i);
}
EXEC(low_to_high)
{
	xmm64(core, i->dst)[1] = *xmm64(core, i->src);
	X86_NEXT(core, i);
}
const struct x86_forms x86_movlp = { .by = { [FORM_RM][BY_XMM] = load_low, [FORM_MR][BY_XMM] = store64 } };
const struct x86_forms x86_movhp = { .by = { [FORM_RM][BY_XMM] = load_high, [FORM_MR][BY_XMM] = store_high } };
const struct x86_forms x86_movhlps = { .by = { [FORM_RR][BY_XMM] = high_to_low } };
const struct x86_forms x86_movlhps = { .by = { [FORM_RR][BY_XMM] = low_to_high } };

/* --- MOVD and MOVQ, between any two kinds of register; opcode 7E is the direction from a vector register to a general
 * one --- */

#define OPCODE_FROM_VECTOR 0x10

EXEC(movd_xmm_gpr)
{
	if (i->opcode & OPCODE_FROM_VECTOR)
		*reg64(core, i->dst) = *xmm32(core, i->src);
	else
		*xmm(core, i->dst) = (v128){ *reg32(core, i->src), 0 };
	X86_NEXT(core, i);
}
EXEC(movq_xmm_gpr)
{
	if (i->opcode & OPCODE_FROM_VECTOR)
		*reg64(core, i->dst) = *xmm64(core, i->src);
	else
		*xmm(core, i->dst) = (v128){ (long long)*reg64(core, i->src), 0 };
	X86_NEXT(core, i);
}
EXEC(movq_rr)
{
	*xmm(core, i->dst) = (v128){ (long long)*xmm64(core, i->src), 0 };
	X86_NEXT(core, i);
}
EXEC(movd_mmx_gpr)
{
	x87_wait(core, i);
	mmx_enter(core);
	if (i->opcode & OPCODE_FROM_VECTOR)
		*reg64(core, i->dst) = (uint32_t)mmx_get(core, i->src);
	else
		mmx_set(core, i->dst, *reg32(core, i->src));
	X86_NEXT(core, i);
}
EXEC(movq_mmx_gpr)
{
	x87_wait(core, i);
	mmx_enter(core);
	if (i->opcode & OPCODE_FROM_VECTOR)
		*reg64(core, i->dst) = mmx_get(core, i->src);
	else
		mmx_set(core, i->dst, *reg64(core, i->src));
	X86_NEXT(core, i);
}
EXEC(movq_mmx)
{
	x87_wait(core, i);
	mmx_enter(core);
	mmx_set(core, i->dst, mmx_get(core, i->src));
	X86_NEXT(core, i);
}
EXEC(mmx_load32)
{
	x87_wait(core, i);
	uint64_t value = x86_load32(core, i, x86_address(core, i, 4, ACCESS_READ));
	mmx_enter(core);
	mmx_set(core, i->dst, value);
	X86_NEXT(core, i);
}
EXEC(mmx_load64)
{
	x87_wait(core, i);
	uint64_t value = x86_load64(core, i, x86_address(core, i, 8, ACCESS_READ));
	mmx_enter(core);
	mmx_set(core, i->dst, value);
	X86_NEXT(core, i);
}
EXEC(mmx_store32)
{
	x87_wait(core, i);
	x86_store32(core, i, x86_address(core, i, 4, ACCESS_WRITE), (uint32_t)mmx_get(core, i->src));
	mmx_enter(core);
	X86_NEXT(core, i);
}
EXEC(mmx_store64)
{
	x87_wait(core, i);
	x86_store64(core, i, x86_address(core, i, 8, ACCESS_WRITE), mmx_get(core, i->src));
	mmx_enter(core);
	X86_NEXT(core, i);
}
const struct x86_forms x86_movd = {
	.by = { [FORM_RR] = { [BY_MMX_GPR] = movd_mmx_gpr, [BY_XMM_GPR] = movd_xmm_gpr },
		[FORM_RM] = { [BY_MMX] = mmx_load32, [BY_XMM] = load32 },
		[FORM_MR] = { [BY_MMX] = mmx_store32, [BY_XMM] = store32 } },
};
const struct x86_forms x86_movq = {
	.by = { [FORM_RR] = { [BY_MMX] = movq_mmx, [BY_XMM] = movq_rr, [BY_MMX_GPR] = movq_mmx_gpr,
			      [BY_XMM_GPR] = movq_xmm_gpr },
		[FORM_RM] = { [BY_MMX] = mmx_load64, [BY_XMM] = load64 },
		[FORM_MR] = { [BY_MMX] = mmx_store64, [BY_XMM] = store64 } },
};
const struct x86_forms x86_movntq = { .by = { [FORM_MR][BY_MMX] = mmx_store64 } };

/* --- sign masks --- */

#define MASK_OP(name, host)                                                                                            \
	EXEC(name##_rr)                                                                                                \
	{                                                                                                              \
		uint32_t mask;                                                                                         \
		asm(host " %1, %0" : "=r"(mask) : "x"(*xmm(core, i->src)));                                            \
		*reg64(core, i->dst) = mask;                                                                           \
		X86_NEXT(core, i);                                                                                     \
	}
MASK_OP(movmskps, "movmskps")
MASK_OP(movmskpd, "movmskpd")
MASK_OP(pmovmskb, "pmovmskb")
EXEC(pmovmskb_mm)
{
	uint32_t mask;
	x87_wait(core, i);
	mmx_enter(core);
	asm("pmovmskb %1, %0" : "=r"(mask) : "x"((v128){ (long long)mmx_get(core, i->src), 0 }));
	*reg64(core, i->dst) = mask;
	X86_NEXT(core, i);
}
const struct x86_forms x86_movmskps = { .by = { [FORM_RR][BY_XMM_GPR] = movmskps_rr } };
const struct x86_forms x86_movmskpd = { .by = { [FORM_RR][BY_XMM_GPR] = movmskpd_rr } };
const struct x86_forms x86_pmovmskb = {
	.by = { [FORM_RR] = { [BY_MMX_GPR] = pmovmskb_mm, [BY_XMM_GPR] = pmovmskb_rr } },
};

/* --- MASKMOVDQU: the bytes whose mask bit is set go to DS:rDI. Faults of the others may be signaled, and are --- */

static void store_masked(struct x86_core *core, const struct insn *i, const uint8_t *data, const uint8_t *mask,
			 unsigned size)
{
	gva_t gva = x86_address(core, i, size, ACCESS_WRITE);
	x86_check_write(core, i, gva, size);
	for (unsigned k = 0; k < size; k++)
		if (mask[k] & 0x80)
			x86_store8(core, i, gva + k, data[k]);
}
EXEC(maskmovdqu_rr)
{
	store_masked(core, i, (uint8_t *)xmm(core, i->dst), (uint8_t *)xmm(core, i->src), 16);
	X86_NEXT(core, i);
}
static __attribute__((noinline)) void maskmovq(struct x86_core *core, const struct insn *i)
{
	uint64_t data = mmx_get(core, i->dst), mask = mmx_get(core, i->src);
	store_masked(core, i, (uint8_t *)&data, (uint8_t *)&mask, 8);
}
EXEC(maskmovq_mm)
{
	x87_wait(core, i);
	maskmovq(core, i);
	mmx_enter(core);
	X86_NEXT(core, i);
}
const struct x86_forms x86_maskmovdqu = { .by = { [FORM_RR][BY_XMM] = maskmovdqu_rr } };
const struct x86_forms x86_maskmovq = { .by = { [FORM_RR][BY_MMX] = maskmovq_mm } };

/* --- MXCSR --- */

EXEC(ldmxcsr_m)
{
	uint32_t value = x86_load32(core, i, x86_address(core, i, 4, ACCESS_READ));
	if (value & MXCSR_RESERVED)
		x86_raise_error(core, i, VECTOR_GP, 0);
	core->cpu.xsave.legacy.mxcsr = value;
	X86_NEXT(core, i);
}
EXEC(stmxcsr_m)
{
	x86_store32(core, i, x86_address(core, i, 4, ACCESS_WRITE), core->cpu.xsave.legacy.mxcsr);
	X86_NEXT(core, i);
}
const struct x86_forms x86_ldmxcsr = { .any = ldmxcsr_m };
const struct x86_forms x86_stmxcsr = { .any = stmxcsr_m };
