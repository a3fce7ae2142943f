/* SPDX-License-Identifier: MIT */
/* What the MMX and SSE operations are made of: registers, 16-byte memory operands, the guest's MXCSR, and shapes of
 * functions.
 *
 * An operation is the host's own instruction on the guest's operands. Its C function takes and gives values in host
 * vector registers; the macros below put operand access around it, one exec function for each form, so that nothing is
 * tested when it runs. Follows the Intel SDM volume 1, chapters 9 to 12, and volume 2. */
#pragma once
#include "x86/exec.h"

typedef long long v128 __attribute__((vector_size(16), may_alias));
typedef long long v128_any __attribute__((vector_size(16), may_alias, aligned(1)));

#define ZERO128 ((v128){ 0, 0 })

static inline v128 *xmm(struct x86_core *core, unsigned at)
{
	return (v128 *)((char *)core->cpu.xsave.legacy.xmm + at);
}
static inline any32 *xmm32(struct x86_core *core, unsigned at)
{
	return (any32 *)((char *)core->cpu.xsave.legacy.xmm + at);
}
static inline any64 *xmm64(struct x86_core *core, unsigned at)
{
	return (any64 *)((char *)core->cpu.xsave.legacy.xmm + at);
}

/* --- 16 bytes of memory --- */

/* vector.c -- the slow halves, by thunk: they load `size` bytes into core->wide, and return its address; and store from there. */
uint64_t x86_load_wide(struct x86_core *, const struct insn *i, gva_t, unsigned size);
void x86_store_wide(struct x86_core *, const struct insn *i, gva_t, unsigned size);

static inline __attribute__((always_inline)) v128 x86_load128(struct x86_core *core, const struct insn *i, gva_t gva)
{
	const void *p = tlb_hit(core->tlb->read, gva, 16);
	if (unlikely(!p))
		p = (const void *)(uintptr_t)X86_SLOW(x86_load_wide, core, i, gva, 16, 0);
	return *(const volatile v128_any *)p;
}

static inline void x86_store128(struct x86_core *core, const struct insn *i, gva_t gva, v128 value)
{
	void *p = tlb_hit(core->tlb->write, gva, 16);
	if (likely(p)) {
		*(volatile v128_any *)p = value;
	} else {
		*(v128 *)core->wide = value;
		X86_SLOW(x86_store_wide, core, i, gva, 16, 0);
	}
}

/* The address of a 16-byte operand that must be aligned: legacy SSE raises #GP, whatever the segment is. */
static inline gva_t x86_address_aligned(struct x86_core *core, const struct insn *i, enum x86_access access)
{
	gva_t gva = x86_address(core, i, 16, access);
	if (unlikely(gva & 15))
		x86_raise_error(core, i, VECTOR_GP, 0);
	return gva;
}

/* The memory operand as a source value, zero-extended to 16 bytes. */
static inline __attribute__((always_inline)) v128 source128(struct x86_core *core, const struct insn *i)
{
	return x86_load128(core, i, x86_address_aligned(core, i, ACCESS_READ));
}
static inline __attribute__((always_inline)) v128 source128_any(struct x86_core *core, const struct insn *i)
{
	return x86_load128(core, i, x86_address(core, i, 16, ACCESS_READ));
}
static inline v128 source64(struct x86_core *core, const struct insn *i)
{
	return (v128){ (long long)x86_load64(core, i, x86_address(core, i, 8, ACCESS_READ)), 0 };
}
static inline v128 source32(struct x86_core *core, const struct insn *i)
{
	return (v128){ x86_load32(core, i, x86_address(core, i, 4, ACCESS_READ)), 0 };
}
static inline v128 source16(struct x86_core *core, const struct insn *i)
{
	return (v128){ x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ)), 0 };
}

/* --- MMX registers: the low 8 bytes of the physical x87 registers, SDM 3A 12.2 --- */

#define FSW_IE BIT(0) /* x87 status word, SDM volume 1, 8.1.3 */
#define FSW_DE BIT(1)
#define FSW_ZE BIT(2)
#define FSW_OE BIT(3)
#define FSW_UE BIT(4)
#define FSW_PE BIT(5)
#define FSW_EXCEPTIONS 0x3fu
#define FSW_SF BIT(6)
#define FSW_ES BIT(7)
#define FSW_C0 BIT(8)
#define FSW_C1 BIT(9)
#define FSW_C2 BIT(10)
#define FSW_C3 BIT(14)
#define FSW_CONDITIONS 0x4700u
#define FSW_TOP_SHIFT 11
#define FSW_TOP 0x3800u
#define FSW_B BIT(15)

static inline unsigned x87_top(const struct x86_fxsave *x)
{
	return (x->fsw & FSW_TOP) >> FSW_TOP_SHIFT;
}
/* x87.c -- Makes `top` the top of stack without moving the physical registers: st[] is relative to it. */
void x87_set_top(struct x86_fxsave *, unsigned top);
/* x87.c -- An x87 exception is pending at a waiting instruction: raises #MF, or with CR0.NE clear waits for IRQ 13. Returns when it is to be
 * ignored. */
void x87_pending(struct x86_core *, const struct insn *i);

/* At the start of every waiting x87 and every MMX instruction. */
static inline void x87_wait(struct x86_core *core, const struct insn *i)
{
	const struct x86_fxsave *x = &core->cpu.xsave.legacy;
	if (unlikely(x->fsw & ~x->fcw & FSW_EXCEPTIONS))
		X86_SLOW(x87_pending, core, i, 0, 0, 0);
}

/* The transition to MMX state, once nothing can fault any more: TOP is 0, all registers are valid. */
static inline void mmx_enter(struct x86_core *core)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	if (unlikely(x->fsw & FSW_TOP))
		x87_set_top(x, 0);
	x->ftw = 0xff;
}
/* Before the transition, registers are where TOP says. */
static inline uint64_t mmx_get(struct x86_core *core, unsigned n)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	return *(any64 *)x->st[(n - x87_top(x)) & 7];
}
/* After the transition. The exponent of a written register becomes all ones. */
static inline void mmx_set(struct x86_core *core, unsigned n, uint64_t value)
{
	uint8_t *st = core->cpu.xsave.legacy.st[n];
	*(any64 *)st = value;
	*(any16 *)(st + 8) = 0xffff;
}

/* --- MXCSR, SDM volume 1, 10.2.3 --- */

#define MXCSR_FLAGS 0x3fu
#define MXCSR_PRECOMPUTATION 0x07u /* IE, DE, ZE: found before anything is computed */
#define MXCSR_OE 0x08u
#define MXCSR_UE 0x10u
#define MXCSR_PE 0x20u
#define MXCSR_DAZ 0x40u
#define MXCSR_MASKS 0x1f80u
#define MXCSR_MASK_SHIFT 7
#define MXCSR_UM 0x800u
#define MXCSR_FTZ 0x8000u
#define MXCSR_HOST 0x1f80u /* what C code runs under */
#define MXCSR_RESERVED 0xffff0000u

/* vector.c -- The flags of an operation that ran with all exceptions masked meet the guest's masks: sets the flags that
 * the processor would set, and raises #XM or #UD. */
_Noreturn void sse_raise(struct x86_core *, const struct insn *i, uint32_t flags);

/* sse_inexact.c -- The flags of i, which has an unmasked overflow or underflow, with PE as the processor sets it; of DPPS and DPPD, with any
 * unmasked exception, those of the steps that were done. Its destination is not written yet. */
uint32_t sse_unmasked_flags(struct x86_core *, const struct insn *i, uint32_t flags);

/* Runs the instruction `host` under the rounding, DAZ and FTZ of `control`, all exceptions masked; its flags are then
 * in core->mxcsr_after. (In the core, since a local variable in memory costs an exec function its tail call.) */
#define UNDER_MXCSR(host, core, control, output, ...)                                                                  \
	do {                                                                                                           \
		sse_control(core, control);                                                                            \
		asm volatile("ldmxcsr %[run]\n\t" host "\n\tstmxcsr %[after]\n\tldmxcsr %[normal]"                     \
			     : output, [after] "=m"((core)->mxcsr_after)                                               \
			     : [run] "m"((core)->mxcsr_run), [normal] "m"(mxcsr_host), __VA_ARGS__ : "cc");            \
	} while (0)
static const uint32_t mxcsr_host = MXCSR_HOST;
static inline void sse_control(struct x86_core *core, uint32_t control)
{
	uint32_t run = (control & ~MXCSR_FLAGS) | MXCSR_MASKS;
	if (unlikely(core->mxcsr_run != run))
		core->mxcsr_run = run;
}

/* The same around a call of a stub. */
static inline void sse_begin(struct x86_core *core, uint32_t control)
{
	sse_control(core, control);
	asm volatile("ldmxcsr %0" : : "m"(core->mxcsr_run) : "memory");
}
static inline void sse_end(struct x86_core *core)
{
	asm volatile("stmxcsr %0\n\tldmxcsr %1" : "=m"(core->mxcsr_after) : "m"(mxcsr_host) : "memory");
}

/* What an operation that cannot underflow did to MXCSR; does not return if an unmasked exception occurred. The sticky
 * flags are mostly set already: then nothing is stored, so that the next operation has not to wait for it. */
static inline void sse_flags(struct x86_core *core, const struct insn *i)
{
	uint32_t *mxcsr = &core->cpu.xsave.legacy.mxcsr, flags = core->mxcsr_after & MXCSR_FLAGS;
	if (unlikely(flags & ~(*mxcsr & *mxcsr >> MXCSR_MASK_SHIFT))) {
		if (flags & ~(*mxcsr >> MXCSR_MASK_SHIFT))
			sse_raise(core, i, flags);
		*mxcsr |= flags;
	}
}

/* An operation: computes under `control` and leaves the flags in core->mxcsr_after. */
typedef v128 sse_float_fn(struct x86_core *, const struct insn *, v128 d, v128 s, uint32_t control);

/* vector.c -- Underflow is special. Masked, UE tells a tiny and inexact result; unmasked, every tiny result is an
 * exception (SDM volume 1, 4.9.1.5). Flush to zero, which sets UE for every tiny result, finds those: so the operation
 * runs twice. */
v128 sse_float_um(struct x86_core *, const struct insn *i, sse_float_fn *run, v128 d, v128 s);

static inline __attribute__((always_inline)) v128 sse_float(struct x86_core *core, const struct insn *i,
							    sse_float_fn *run, v128 d, v128 s)
{
	uint32_t control = core->cpu.xsave.legacy.mxcsr;
	if (unlikely(!(control & MXCSR_UM)))
		return sse_float_um(core, i, run, d, s);
	v128 result = run(core, i, d, s, control);
	sse_flags(core, i);
	return result;
}

/* --- shapes --- */

/* An operation of two operands, the first also the destination. (One that does not read it is the same.) */
#define VALUE2(name, host)                                                                                             \
	static inline v128 name##_v(v128 d, v128 s)                                                                    \
	{                                                                                                              \
		asm(host " %1, %0" : "+x"(d) : "x"(s));                                                                \
		return d;                                                                                              \
	}

/* The exec functions of an XMM operation on registers, and on memory that SOURCE loads. */
#define XMM_EXEC(name, SOURCE)                                                                                         \
	EXEC(name##_rr)                                                                                                \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = name##_v(*d, *xmm(core, i->src));                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm)                                                                                                \
	{                                                                                                              \
		v128 s = SOURCE(core, i), *d = xmm(core, i->dst);                                                      \
		*d = name##_v(*d, s);                                                                                  \
		X86_NEXT(core, i);                                                                                     \
	}

#define XMM_OP(name, host, SOURCE)                                                                                     \
	VALUE2(name, host)                                                                                             \
	XMM_EXEC(name, SOURCE)                                                                                         \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR][BY_XMM] = name##_rr, [FORM_RM][BY_XMM] = name##_rm },                                \
	};

/* The MMX operation of the same name. The host's MMX registers are its x87 registers too: EMMS gives them back. */
#define MMX_EXEC(name, host)                                                                                           \
	static inline uint64_t name##_m(uint64_t d, uint64_t s)                                                        \
	{                                                                                                              \
		asm("movq %0, %%mm0\n\tmovq %1, %%mm1\n\t" host " %%mm1, %%mm0\n\tmovq %%mm0, %0\n\temms"              \
		    : "+r"(d) : "r"(s) : "mm0", "mm1");                                                                \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(name##_mm)                                                                                                \
	{                                                                                                              \
		x87_wait(core, i);                                                                                     \
		mmx_enter(core);                                                                                       \
		mmx_set(core, i->dst, name##_m(mmx_get(core, i->dst), mmx_get(core, i->src)));                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mmem)                                                                                              \
	{                                                                                                              \
		x87_wait(core, i);                                                                                     \
		uint64_t s = x86_load(core, i, x86_address(core, i, i->ssize, ACCESS_READ), i->ssize);                 \
		mmx_enter(core);                                                                                       \
		mmx_set(core, i->dst, name##_m(mmx_get(core, i->dst), s));                                             \
		X86_NEXT(core, i);                                                                                     \
	}

/* An operation that exists for MMX and XMM registers. */
#define VECTOR_OP(name, host)                                                                                          \
	VALUE2(name, host)                                                                                             \
	XMM_EXEC(name, source128)                                                                                      \
	MMX_EXEC(name, host)                                                                                           \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR] = { [BY_MMX] = name##_mm, [BY_XMM] = name##_rr },                                    \
			[FORM_RM] = { [BY_MMX] = name##_mmem, [BY_XMM] = name##_rm } },                                \
	};

/* A floating-point operation: it runs under the guest's MXCSR. */
#define FLOAT_RUN(name, host)                                                                                          \
	static v128 name##_run(struct x86_core *core, const struct insn *i, v128 d, v128 s, uint32_t control)          \
	{                                                                                                              \
		(void)i;                                                                                               \
		UNDER_MXCSR(host " %[s], %[d]", core, control, [d] "+x"(d), [s] "x"(s));                               \
		return d;                                                                                              \
	}
#define FLOAT_EXEC(name, reg, mem, SOURCE)                                                                             \
	EXEC(name##_##reg)                                                                                             \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = sse_float(core, i, name##_run, *d, *xmm(core, i->src));                                           \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_##mem)                                                                                             \
	{                                                                                                              \
		v128 s = SOURCE(core, i), *d = xmm(core, i->dst);                                                      \
		*d = sse_float(core, i, name##_run, *d, s);                                                            \
		X86_NEXT(core, i);                                                                                     \
	}
#define FLOAT_OP(name, host, SOURCE)                                                                                   \
	FLOAT_RUN(name, host)                                                                                          \
	FLOAT_EXEC(name, rr, rm, SOURCE)                                                                               \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR][BY_XMM] = name##_rr, [FORM_RM][BY_XMM] = name##_rm },                                \
	};

/* An operation whose instruction holds an immediate: a table of 256 host functions, v128 f(v128 d, v128 s) by the
 * C calling convention (xmm0, xmm1), one for each immediate. `text` uses the symbol `imm` and xmm0 (d, result),
 * xmm1 (s). */
#define IMMEDIATE_STUBS(name, text)                                                                                    \
	asm(".pushsection .text\n"                                                                                     \
	    ".balign 64\n" #name "_stubs:\n"                                                                           \
	    ".set imm, 0\n"                                                                                            \
	    ".rept 256\n" text "\n"                                                                                    \
	    "ret\n"                                                                                                    \
	    ".balign 8\n"                                                                                              \
	    ".set imm, imm + 1\n"                                                                                      \
	    ".endr\n"                                                                                                  \
	    ".popsection");                                                                                            \
	extern const char name##_stubs[] __attribute__((visibility("hidden")));
#define IMMEDIATE_STUB(name, imm) ((v128 (*)(v128, v128))(uintptr_t)(name##_stubs + 8 * ((imm) & 0xff)))

/* The exec functions of an XMM operation with an immediate. */
#define XMM_IMMEDIATE_OP(name, text, SOURCE)                                                                           \
	IMMEDIATE_STUBS(name, text)                                                                                    \
	EXEC(name##_rri)                                                                                               \
	{                                                                                                              \
		v128 *d = xmm(core, i->dst);                                                                           \
		*d = IMMEDIATE_STUB(name, i->imm)(*d, *xmm(core, i->src));                                             \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rmi)                                                                                               \
	{                                                                                                              \
		v128 s = SOURCE(core, i), *d = xmm(core, i->dst);                                                      \
		*d = IMMEDIATE_STUB(name, i->imm)(*d, s);                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRI][BY_XMM] = name##_rri, [FORM_RMI][BY_XMM] = name##_rmi },                            \
	};

/* A floating-point operation with an immediate, of which `bits` count. */
#define FLOAT_IMMEDIATE_OP(name, text, bits, SOURCE)                                                                   \
	IMMEDIATE_STUBS(name, text)                                                                                    \
	static v128 name##_run(struct x86_core *core, const struct insn *i, v128 d, v128 s, uint32_t control)          \
	{                                                                                                              \
		sse_begin(core, control);                                                                              \
		d = IMMEDIATE_STUB(name, i->imm & (bits))(d, s);                                                       \
		sse_end(core);                                                                                         \
		return d;                                                                                              \
	}                                                                                                              \
	FLOAT_EXEC(name, rri, rmi, SOURCE)                                                                             \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRI][BY_XMM] = name##_rri, [FORM_RMI][BY_XMM] = name##_rmi },                            \
	};
