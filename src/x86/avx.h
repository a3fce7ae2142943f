/* SPDX-License-Identifier: MIT */
/* What the AVX operations are made of: registers of 256 bits, memory operands of any alignment, and shapes of functions.
 *
 * An operation is the host's own VEX instruction on the guest's operands, as in vector.h. A shape macro makes the exec functions for each
 * form and each width of an operation, so a family's exec_avx_*.c is mostly a list of names by shape. These files are compiled with -mavx
 * (Makefile): the compiler then holds 256 bits in a register, and puts VZEROUPPER where it calls or leaves. Nothing in them may run on a
 * host without AVX, and nothing does: decoding refuses what the model lacks, and a model has AVX only where the host has.
 *
 * The halves of a register lie apart, as in an XSAVE area: XMM in the legacy region, the upper half in component 2. An operation
 * of 128 bits clears the upper half of its destination. Follows the Intel SDM volume 1, chapter 14, volume 2, 2.3. */
#pragma once
#include "x86/vector.h"

typedef long long v256 __attribute__((vector_size(32), may_alias));
typedef long long v256_any __attribute__((vector_size(32), may_alias, aligned(1)));

/* --- operands of 128 and 256 bits: get and set registers, load and store memory ---
 * The slow half of a memory access may change the upper halves of the host's registers, and the compiler does not know. So addresses
 * and loads come first, in statements of their own, and register operands after them. */

static inline v128 *ymm_high(struct x86_core *core, unsigned at)
{
	return (v128 *)((char *)core->cpu.xsave.ymm_high + at);
}
static inline v128 low_half(v256 value)
{
	return __builtin_shufflevector(value, value, 0, 1);
}
static inline v128 high_half(v256 value)
{
	return __builtin_shufflevector(value, value, 2, 3);
}
static inline v128 get128(struct x86_core *core, unsigned at)
{
	return *xmm(core, at);
}
static inline v256 get256(struct x86_core *core, unsigned at)
{
	return __builtin_shufflevector(*xmm(core, at), *ymm_high(core, at), 0, 1, 2, 3);
}
static inline void set128(struct x86_core *core, unsigned at, v128 value)
{
	*xmm(core, at) = value;
	*ymm_high(core, at) = ZERO128;
}
static inline void set256(struct x86_core *core, unsigned at, v256 value)
{
	*xmm(core, at) = low_half(value);
	*ymm_high(core, at) = high_half(value);
}

static inline __attribute__((always_inline)) v256 x86_load256(struct x86_core *core, const struct insn *i, gva_t gva)
{
	const void *p = tlb_hit(core->tlb->read, gva, 32);
	if (unlikely(!p))
		p = (const void *)(uintptr_t)X86_SLOW(x86_load_wide, core, i, gva, 32, 0);
	return *(const volatile v256_any *)p;
}
static inline void x86_store256(struct x86_core *core, const struct insn *i, gva_t gva, v256 value)
{
	void *p = tlb_hit(core->tlb->write, gva, 32);
	if (likely(p)) {
		*(volatile v256_any *)p = value;
	} else {
		*(v256 *)core->wide = value;
		X86_SLOW(x86_store_wide, core, i, gva, 32, 0);
	}
}
static inline __attribute__((always_inline)) v256 source256(struct x86_core *core, const struct insn *i)
{
	return x86_load256(core, i, x86_address(core, i, 32, ACCESS_READ));
}
static inline v128 source8(struct x86_core *core, const struct insn *i)
{
	return (v128){ x86_load8(core, i, x86_address(core, i, 1, ACCESS_READ)), 0 };
}
#define load128 source128_any
#define load256 source256

/* --- under the guest's MXCSR --- */

/* Runs `host` under the guest's MXCSR, and raises what is not masked. With unmasked underflow it runs twice: see sse_float_um. */
#define UNDER_GUEST_MXCSR(core, i, host, output, ...)                                                                  \
	do {                                                                                                           \
		uint32_t control_ = (core)->cpu.xsave.legacy.mxcsr, tiny_ = 0;                                         \
		if (unlikely(!(control_ & MXCSR_UM))) {                                                                \
			control_ &= ~MXCSR_FTZ;                                                                        \
			UNDER_MXCSR(host, core, control_ | MXCSR_FTZ, output, __VA_ARGS__);                            \
			tiny_ = (core)->mxcsr_after & MXCSR_UE;                                                        \
		}                                                                                                      \
		UNDER_MXCSR(host, core, control_, output, __VA_ARGS__);                                                \
		if (unlikely(tiny_))                                                                                   \
			(core)->mxcsr_after |= tiny_;                                                                  \
		sse_flags(core, i);                                                                                    \
	} while (0)
/* The same for `result = STUB(...)`. */
#define STUB_UNDER_GUEST_MXCSR(core, i, result, call)                                                                  \
	do {                                                                                                           \
		uint32_t control_ = (core)->cpu.xsave.legacy.mxcsr, tiny_ = 0;                                         \
		if (unlikely(!(control_ & MXCSR_UM))) {                                                                \
			control_ &= ~MXCSR_FTZ;                                                                        \
			sse_begin(core, control_ | MXCSR_FTZ);                                                         \
			result = call;                                                                                 \
			sse_end(core);                                                                                 \
			tiny_ = (core)->mxcsr_after & MXCSR_UE;                                                        \
		}                                                                                                      \
		sse_begin(core, control_);                                                                             \
		result = call;                                                                                         \
		sse_end(core);                                                                                         \
		(core)->mxcsr_after |= tiny_;                                                                          \
		sse_flags(core, i);                                                                                    \
	} while (0)

/* --- what an operation computes: NAME_vW(core, i, operands). W is the operation's width, D that of the destination (and the first of two
 * sources), S that of the last source --- */

#define VEX_VALUE1(name, W, D, S)                                                                                      \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##S a)                            \
	{                                                                                                              \
		v##D d;                                                                                                \
		asm(#name " %1, %0" : "=x"(d) : "x"(a));                                                               \
		return d;                                                                                              \
	}
#define VEX_VALUE2(name, W, D, S)                                                                                      \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##D a, v##S b)                    \
	{                                                                                                              \
		v##D d;                                                                                                \
		asm(#name " %2, %1, %0" : "=x"(d) : "x"(a), "x"(b));                                                   \
		return d;                                                                                              \
	}
#define VEX_FLOAT1(name, W, D, S)                                                                                      \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##S a)                            \
	{                                                                                                              \
		v##D d;                                                                                                \
		UNDER_GUEST_MXCSR(core, i, #name " %[a], %[d]", [d] "=x"(d), [a] "x"(a));                              \
		return d;                                                                                              \
	}
#define VEX_FLOAT2(name, W, D, S)                                                                                      \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##D a, v##S b)                    \
	{                                                                                                              \
		v##D d;                                                                                                \
		UNDER_GUEST_MXCSR(core, i, #name " %[b], %[a], %[d]", [d] "=x"(d), [a] "x"(a), [b] "x"(b));            \
		return d;                                                                                              \
	}
/* With an immediate: tables of 256 host functions, as IMMEDIATE_STUBS; `operands` are those behind it. */
#define VEX_STUB(name, W, D, S) ((v##D (*)(v##D, v##S))(uintptr_t)(name##W##_stubs + 8 * (i->imm & 0xff)))
#define VEX_STUB1(name, W, D, S) ((v##D (*)(v##S))(uintptr_t)(name##W##_stubs + 8 * (i->imm & 0xff)))
#define VEX_IMM_VALUE1(name, W, D, S, operands)                                                                        \
	IMMEDIATE_STUBS(name##W, #name " $imm, " operands)                                                             \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##S a)                            \
	{                                                                                                              \
		return VEX_STUB1(name, W, D, S)(a);                                                                    \
	}
#define VEX_IMM_VALUE2(name, W, D, S, operands)                                                                        \
	IMMEDIATE_STUBS(name##W, #name " $imm, " operands)                                                             \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##D a, v##S b)                    \
	{                                                                                                              \
		return VEX_STUB(name, W, D, S)(a, b);                                                                  \
	}
#define VEX_IMM_FLOAT1(name, W, D, S, operands)                                                                        \
	IMMEDIATE_STUBS(name##W, #name " $imm, " operands)                                                             \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##S a)                            \
	{                                                                                                              \
		v##D d;                                                                                                \
		STUB_UNDER_GUEST_MXCSR(core, i, d, VEX_STUB1(name, W, D, S)(a));                                       \
		return d;                                                                                              \
	}
#define VEX_IMM_FLOAT2(name, W, D, S, operands)                                                                        \
	IMMEDIATE_STUBS(name##W, #name " $imm, " operands)                                                             \
	static inline v##D name##_v##W(struct x86_core *core, const struct insn *i, v##D a, v##S b)                    \
	{                                                                                                              \
		v##D d;                                                                                                \
		STUB_UNDER_GUEST_MXCSR(core, i, d, VEX_STUB(name, W, D, S)(a, b));                                     \
		return d;                                                                                              \
	}

/* --- exec functions NAME_regW and NAME_memW: of one source, of two, and of two and the destination --- */

#define VEX_EXEC1(name, W, D, S, LOAD)                                                                                 \
	EXEC(name##_reg##W)                                                                                            \
	{                                                                                                              \
		set##D(core, i->dst, name##_v##W(core, i, get##S(core, i->src)));                                      \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##W)                                                                                            \
	{                                                                                                              \
		v##S s = LOAD(core, i);                                                                                \
		set##D(core, i->dst, name##_v##W(core, i, s));                                                         \
		X86_NEXT(core, i);                                                                                     \
	}
#define VEX_EXEC2(name, W, D, S, LOAD)                                                                                 \
	EXEC(name##_reg##W)                                                                                            \
	{                                                                                                              \
		set##D(core, i->dst, name##_v##W(core, i, get##D(core, i->src), get##S(core, i->src2)));               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##W)                                                                                            \
	{                                                                                                              \
		v##S s = LOAD(core, i);                                                                                \
		set##D(core, i->dst, name##_v##W(core, i, get##D(core, i->src), s));                                   \
		X86_NEXT(core, i);                                                                                     \
	}

#define VEX_FORMS(name, REG, MEM)                                                                                      \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [REG] = { [BY_XMM] = name##_reg128, [BY_YMM] = name##_reg256 },                                \
			[MEM] = { [BY_XMM] = name##_mem128, [BY_YMM] = name##_mem256 } },                              \
	};
#define VEX_FORMS128(name, REG, MEM)                                                                                   \
	const struct x86_forms x86_##name = { .by = { [REG][BY_XMM] = name##_reg128, [MEM][BY_XMM] = name##_mem128 } };
#define VEX_FORMS256(name, REG, MEM)                                                                                   \
	const struct x86_forms x86_##name = { .by = { [REG][BY_YMM] = name##_reg256, [MEM][BY_YMM] = name##_mem256 } };

/* --- whole operations. KIND is VALUE or FLOAT --- */

/* One and two sources of full width. */
#define VEX_OP1(KIND, name)                                                                                            \
	VEX_##KIND##1(name, 128, 128, 128)                                                                             \
	VEX_##KIND##1(name, 256, 256, 256)                                                                             \
	VEX_EXEC1(name, 128, 128, 128, load128)                                                                        \
	VEX_EXEC1(name, 256, 256, 256, load256)                                                                        \
	VEX_FORMS(name, FORM_RR, FORM_RM)
#define VEX_OP2(KIND, name)                                                                                            \
	VEX_##KIND##2(name, 128, 128, 128)                                                                             \
	VEX_##KIND##2(name, 256, 256, 256)                                                                             \
	VEX_EXEC2(name, 128, 128, 128, load128)                                                                        \
	VEX_EXEC2(name, 256, 256, 256, load256)                                                                        \
	VEX_FORMS(name, FORM_RRR, FORM_RRM)
/* The last source is of other sizes: in memory what LOAD128 and LOAD256 load, S256 bits wide for a destination of 256. */
#define VEX_WIDEN_OP1(KIND, name, LOAD128, S256, LOAD256)                                                              \
	VEX_##KIND##1(name, 128, 128, 128)                                                                             \
	VEX_##KIND##1(name, 256, 256, S256)                                                                            \
	VEX_EXEC1(name, 128, 128, 128, LOAD128)                                                                        \
	VEX_EXEC1(name, 256, 256, S256, LOAD256)                                                                       \
	VEX_FORMS(name, FORM_RR, FORM_RM)
/* 256 bits become 128. */
#define VEX_NARROW_OP1(KIND, name)                                                                                     \
	VEX_##KIND##1(name, 128, 128, 128)                                                                             \
	VEX_##KIND##1(name, 256, 128, 256)                                                                             \
	VEX_EXEC1(name, 128, 128, 128, load128)                                                                        \
	VEX_EXEC1(name, 256, 128, 256, load256)                                                                        \
	VEX_FORMS(name, FORM_RR, FORM_RM)
/* One width only. */
#define VEX_SCALAR_OP2(KIND, name, LOAD)                                                                               \
	VEX_##KIND##2(name, 128, 128, 128)                                                                             \
	VEX_EXEC2(name, 128, 128, 128, LOAD)                                                                           \
	VEX_FORMS128(name, FORM_RRR, FORM_RRM)
#define VEX_128_OP1(KIND, name)                                                                                        \
	VEX_##KIND##1(name, 128, 128, 128)                                                                             \
	VEX_EXEC1(name, 128, 128, 128, load128)                                                                        \
	VEX_FORMS128(name, FORM_RR, FORM_RM)
#define VEX_256_OP2(KIND, name)                                                                                        \
	VEX_##KIND##2(name, 256, 256, 256)                                                                             \
	VEX_EXEC2(name, 256, 256, 256, load256)                                                                        \
	VEX_FORMS256(name, FORM_RRR, FORM_RRM)

/* The same with an immediate. */
#define VEX_IMM_OP1(KIND, name)                                                                                        \
	VEX_IMM_##KIND##1(name, 128, 128, 128, "%xmm0, %xmm0")                                                         \
	VEX_IMM_##KIND##1(name, 256, 256, 256, "%ymm0, %ymm0")                                                         \
	VEX_EXEC1(name, 128, 128, 128, load128)                                                                        \
	VEX_EXEC1(name, 256, 256, 256, load256)                                                                        \
	VEX_FORMS(name, FORM_RRI, FORM_RMI)
#define VEX_IMM_OP2(KIND, name)                                                                                        \
	VEX_IMM_##KIND##2(name, 128, 128, 128, "%xmm1, %xmm0, %xmm0")                                                  \
	VEX_IMM_##KIND##2(name, 256, 256, 256, "%ymm1, %ymm0, %ymm0")                                                  \
	VEX_EXEC2(name, 128, 128, 128, load128)                                                                        \
	VEX_EXEC2(name, 256, 256, 256, load256)                                                                        \
	VEX_FORMS(name, FORM_RRRI, FORM_RRMI)
#define VEX_SCALAR_IMM_OP2(KIND, name, LOAD)                                                                           \
	VEX_IMM_##KIND##2(name, 128, 128, 128, "%xmm1, %xmm0, %xmm0")                                                  \
	VEX_EXEC2(name, 128, 128, 128, LOAD)                                                                           \
	VEX_FORMS128(name, FORM_RRRI, FORM_RRMI)
#define VEX_128_IMM_OP1(KIND, name)                                                                                    \
	VEX_IMM_##KIND##1(name, 128, 128, 128, "%xmm0, %xmm0")                                                         \
	VEX_EXEC1(name, 128, 128, 128, load128)                                                                        \
	VEX_FORMS128(name, FORM_RRI, FORM_RMI)
#define VEX_256_IMM_OP1(KIND, name)                                                                                    \
	VEX_IMM_##KIND##1(name, 256, 256, 256, "%ymm0, %ymm0")                                                         \
	VEX_EXEC1(name, 256, 256, 256, load256)                                                                        \
	VEX_FORMS256(name, FORM_RRI, FORM_RMI)
#define VEX_256_IMM_OP2(KIND, name, S, source, LOAD)                                                                   \
	VEX_IMM_##KIND##2(name, 256, 256, S, source ", %ymm0, %ymm0")                                                  \
	VEX_EXEC2(name, 256, 256, S, LOAD)                                                                             \
	VEX_FORMS256(name, FORM_RRRI, FORM_RRMI)
