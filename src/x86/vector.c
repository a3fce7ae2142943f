/* SPDX-License-Identifier: MIT */
/* The rare halves of vector.h: operands of 16 and 32 bytes that miss the TLB, and SIMD floating-point exceptions, SDM volume 1,
 * 11.5. */
#include "x86/vector.h"

uint64_t x86_load_wide(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	x86_load_bytes(core, i, gva, core->wide, size);
	return (uintptr_t)core->wide;
}

void x86_store_wide(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	x86_store_bytes(core, i, gva, core->wide, size);
}

/* An unmasked exception that is found before the computation keeps it from happening, so the flags that only the masked
 * computation could set do not appear. With an unmasked overflow or underflow PE tells whether the result is inexact with an unbounded
 * exponent. */
void sse_raise(struct x86_core *core, const struct insn *i, uint32_t flags)
{
	uint32_t *mxcsr = &core->cpu.xsave.legacy.mxcsr;
	if (i->op == X86_OP_DPPS || i->op == X86_OP_DPPD || i->op == X86_OP_VDPPS || i->op == X86_OP_VDPPD)
		flags = sse_unmasked_flags(core, i, flags);
	else if (flags & MXCSR_PRECOMPUTATION & ~(*mxcsr >> MXCSR_MASK_SHIFT))
		flags &= MXCSR_PRECOMPUTATION;
	else if (flags & (MXCSR_OE | MXCSR_UE) & ~(*mxcsr >> MXCSR_MASK_SHIFT))
		flags = sse_unmasked_flags(core, i, flags);
	*mxcsr |= flags;
	x86_raise(core, i, core->cpu.cr4 & CR4_OSXMMEXCPT ? VECTOR_XM : VECTOR_UD);
}

v128 sse_float_um(struct x86_core *core, const struct insn *i, sse_float_fn *run, v128 d, v128 s)
{
	uint32_t control = core->cpu.xsave.legacy.mxcsr & ~MXCSR_FTZ; /* FTZ has no effect while UE is unmasked */
	(void)run(core, i, d, s, control | MXCSR_FTZ);
	uint32_t tiny = core->mxcsr_after & MXCSR_UE;
	v128 result = run(core, i, d, s, control);
	core->mxcsr_after |= tiny;
	sse_flags(core, i);
	return result;
}
