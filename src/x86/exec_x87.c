/* SPDX-License-Identifier: MIT */
/* x87 arithmetic, comparison, constants, loads and stores: everything but the control instructions
 * (exec_x87_control.c). SDM volume 1, 8.3, and volume 2.
 *
 * The host's FPU does the work, in one of two ways. The exact one gives it the whole guest state (x87.c). It is always
 * right, and slow: FRSTOR and FNSAVE take a few hundred cycles. The quick one loads the one or two operands only, and
 * serves what programs mostly do: all exceptions masked, no stack fault. Nothing depends on the operands that decoding
 * found but the size of a memory operand. */
#include <string.h>
#include "x86/x87.h"

/* --- the exact way --- */

static __attribute__((noinline)) void exact_register(struct x86_core *core, const struct insn *i, bool sets_flags)
{
	struct x87_image image;
	uint16_t flags = core->aflags;
	x87_to_image(&image, &core->cpu.xsave.legacy);
	x87_run(&image, i->opcode, i->modrm, NULL, &flags);
	x87_from_image(&core->cpu.xsave.legacy, &image);
	if (sets_flags)
		core->aflags = flags;
}

static __attribute__((noinline)) void exact_load(struct x86_core *core, const struct insn *i)
{
	struct x87_image image;
	uint16_t flags = 0;
	uint8_t operand[16];
	x86_load_bytes(core, i, x86_address(core, i, i->size, ACCESS_READ), operand, i->size);
	x87_to_image(&image, &core->cpu.xsave.legacy);
	x87_run(&image, i->opcode, i->modrm, operand, &flags);
	x87_from_image(&core->cpu.xsave.legacy, &image);
}

/* Stores before it changes any state. An unmasked invalid operation, overflow or underflow leaves memory as it is. */
static __attribute__((noinline)) void exact_store(struct x86_core *core, const struct insn *i)
{
	struct x87_image image;
	uint16_t flags = 0;
	uint8_t operand[16];
	gva_t gva = x86_address(core, i, i->size, ACCESS_WRITE);
	x87_to_image(&image, &core->cpu.xsave.legacy);
	x87_run(&image, i->opcode, i->modrm, operand, &flags);
	if (image.fsw & ~image.fcw & (FSW_IE | FSW_OE | FSW_UE))
		x86_check_write(core, i, gva, i->size);
	else
		x86_store_bytes(core, i, gva, operand, i->size);
	x87_from_image(&core->cpu.xsave.legacy, &image);
}

/* --- the quick way --- */

#define ST(n) (1u << (n))

/* All exceptions are masked, the registers in `full` are not empty, those in `empty` are. Bit n means ST(n). */
static inline bool quick(const struct x86_fxsave *x, unsigned full, unsigned empty)
{
	unsigned used = (unsigned)(x->ftw | x->ftw << 8) >> x87_top(x);
	return likely((x->fcw & FSW_EXCEPTIONS) == FSW_EXCEPTIONS && (used & full) == full && !(used & empty));
}

/* New value of FSW: the host's exceptions are added, the condition codes in `conditions` are the host's. */
static inline void merge(struct x86_fxsave *x, unsigned host, unsigned conditions)
{
	x->fsw = (uint16_t)((x->fsw & ~conditions) | (host & (conditions | FSW_EXCEPTIONS)));
}

static inline void push(struct x86_fxsave *x)
{
	v128 *st = (v128 *)x->st;
	unsigned top = (x87_top(x) - 1) & 7;
	for (unsigned k = 7; k; k--)
		st[k] = st[k - 1];
	x->fsw = (uint16_t)((x->fsw & ~FSW_TOP) | top << FSW_TOP_SHIFT);
	x->ftw |= (uint8_t)(1u << top);
}

static inline void pop(struct x86_fxsave *x)
{
	v128 *st = (v128 *)x->st, old = st[0];
	unsigned top = x87_top(x);
	for (unsigned k = 0; k < 7; k++)
		st[k] = st[k + 1];
	st[7] = old;
	x->ftw &= (uint8_t)~(1u << top);
	x->fsw = (uint16_t)((x->fsw & ~FSW_TOP) | ((top + 1) & 7) << FSW_TOP_SHIFT);
}

/* Runs the instruction of i between loads and stores of host registers, under the guest's control word; gives the
 * host's FSW. In the asm text a and b are pointers to register slots, and `flags` gets RFLAGS when `after` puts them
 * there. The host's exception flags are sticky too, and clearing them is expensive: it is done only if one is set that
 * the guest's FSW does not have. */
#define QUICK(x, stub, memory, a, b, flags, loads, after, stores)                                                      \
	({                                                                                                             \
		uint32_t sw_;                                                                                          \
		asm volatile("fnstsw %%ax\n\t"                                                                         \
			     "testb %b[fresh], %%al\n\t"                                                               \
			     "jz 1f\n\t"                                                                               \
			     "fnclex\n"                                                                                \
			     "1:\tfldcw %[guest]\n\t" loads "lea -128(%%rsp), %%rsp\n\t"                               \
			     "call *%[code]\n\t"                                                                       \
			     "lea 128(%%rsp), %%rsp\n\t" after "fnstsw %%ax\n\t" stores "fldcw %[normal]"              \
			     : "=&a"(sw_), [f] "=&r"(flags)                                                            \
			     : [code] "r"(stub), [fresh] "q"(~(x)->fsw & FSW_EXCEPTIONS), [guest] "m"((x)->fcw),       \
			       [normal] "m"(host_control), "D"(memory), [pa] "r"(a), [pb] "r"(b)                       \
			     : "cc", "memory");                                                                        \
		sw_;                                                                                                   \
	})
static const uint16_t host_control = FCW_INIT;
#define LOAD_A "fldt (%[pa])\n\t"
#define LOAD_BA "fldt (%[pb])\n\tfldt (%[pa])\n\t"
#define STORE_A "fstpt (%[pa])\n\t"
#define STORE_AB "fstpt (%[pa])\n\tfstpt (%[pb])\n\t"
#define STORE_B "fstpt (%[pb])\n\t"
#define DROP "fstp %%st(0)\n\t"
#define FLAGS_OUT "lahf\n\tseto %%al\n\tmov %%eax, %[f]\n\t"

/* Operations on ST(0) and ST(n). The host sees them as ST(0) and ST(1). The one with itself is left to the exact way.
 * `pops` of the operands leave the stack; what is kept is written back. */
#define TWO_EXEC(name, conditions, after, stores, pops, FINISH)                                                        \
	EXEC(name)                                                                                                     \
	{                                                                                                              \
		struct x86_fxsave *x = &core->cpu.xsave.legacy;                                                        \
		unsigned n = i->modrm & 7;                                                                             \
		x87_wait(core, i);                                                                                     \
		if (n && quick(x, ST(0) | ST(n), 0)) {                                                                 \
			uint32_t flags;                                                                                \
			const char *stub = x87_stub(i->opcode, (i->modrm & 0xf8) | 1, false);                          \
			unsigned sw = QUICK(x, stub, NULL, x->st[0], x->st[n], flags, LOAD_BA, after, stores);         \
			merge(x, sw, conditions);                                                                      \
			if ((pops) > 0)                                                                                \
				pop(x);                                                                                \
			if ((pops) > 1)                                                                                \
				pop(x);                                                                                \
			FINISH;                                                                                        \
		} else {                                                                                               \
			exact_register(core, i, after[0]);                                                             \
			if (after[0]) /* SDM 2 FCOMI; AMD's processors leave C1 */                                     \
				x->fsw &= (uint16_t)~FSW_C1;                                                           \
		}                                                                                                      \
		x87_note(core, i);                                                                                     \
		X86_NEXT(core, i);                                                                                     \
	}
TWO_EXEC(arith, FSW_C1, "", STORE_AB, 0, )
TWO_EXEC(arith_pop, FSW_C1, "", STORE_B, 1, )
TWO_EXEC(compare, FSW_CONDITIONS, "", DROP DROP, 0, )
TWO_EXEC(compare_pop, FSW_CONDITIONS, "", DROP, 1, )
TWO_EXEC(compare_pop2, FSW_CONDITIONS, "", "", 2, )
TWO_EXEC(compare_flags, FSW_C1, FLAGS_OUT, DROP DROP, 0, core->aflags = (uint16_t)flags)
TWO_EXEC(compare_flags_pop, FSW_C1, FLAGS_OUT, DROP, 1, core->aflags = (uint16_t)flags)

EXEC(unary)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	x87_wait(core, i);
	if (quick(x, ST(0), 0)) {
		uint32_t flags;
		const char *stub = x87_stub(i->opcode, i->modrm, false);
		unsigned sw = QUICK(x, stub, NULL, x->st[0], NULL, flags, LOAD_A, "", STORE_A);
		merge(x, sw, FSW_C1);
	} else {
		exact_register(core, i, false);
	}
	x87_note(core, i);
	X86_NEXT(core, i);
}
EXEC(constant)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	x87_wait(core, i);
	if (quick(x, 0, ST(7))) {
		uint32_t flags;
		const char *stub = x87_stub(i->opcode, i->modrm, false);
		push(x);
		unsigned sw = QUICK(x, stub, NULL, x->st[0], NULL, flags, "", "", STORE_A);
		merge(x, sw, FSW_C1);
	} else {
		exact_register(core, i, false);
	}
	x87_note(core, i);
	X86_NEXT(core, i);
}
/* What needs no speed, or whose condition codes tell more. */
EXEC(other)
{
	x87_wait(core, i);
	exact_register(core, i, false);
	x87_note(core, i);
	X86_NEXT(core, i);
}

/* --- moves among registers --- */

EXEC(fld_r)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	unsigned n = i->modrm & 7;
	x87_wait(core, i);
	if (quick(x, ST(n), ST(7))) {
		v128 value = *(v128 *)x->st[n];
		push(x);
		*(v128 *)x->st[0] = value;
		merge(x, 0, FSW_C1);
	} else {
		exact_register(core, i, false);
	}
	x87_note(core, i);
	X86_NEXT(core, i);
}
EXEC(fxch_r)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	unsigned n = i->modrm & 7;
	x87_wait(core, i);
	if (quick(x, ST(0) | ST(n), 0)) {
		v128 a = *(v128 *)x->st[0], b = *(v128 *)x->st[n];
		*(v128 *)x->st[0] = b;
		*(v128 *)x->st[n] = a;
		merge(x, 0, FSW_C1);
	} else {
		exact_register(core, i, false);
	}
	x87_note(core, i);
	X86_NEXT(core, i);
}
static inline void copy_down(struct x86_core *core, const struct insn *i, bool pops)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	unsigned n = i->modrm & 7;
	x87_wait(core, i);
	if (quick(x, ST(0), 0)) {
		*(v128 *)x->st[n] = *(v128 *)x->st[0];
		x->ftw |= (uint8_t)(1u << ((x87_top(x) + n) & 7));
		merge(x, 0, FSW_C1);
		if (pops)
			pop(x);
	} else {
		exact_register(core, i, false);
	}
	x87_note(core, i);
}
EXEC(fst_r)
{
	copy_down(core, i, false);
	X86_NEXT(core, i);
}
EXEC(fstp_r)
{
	copy_down(core, i, true);
	X86_NEXT(core, i);
}
EXEC(fcmov_r)
{
	static const uint8_t conditions[4] = { 2, 4, 6, 10 }; /* B, E, BE, U (parity): numbered as in Jcc */
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	unsigned n = i->modrm & 7, not = i->opcode & 1;
	x87_wait(core, i);
	if (quick(x, ST(0) | ST(n), 0)) {
		if (x86_condition(core, conditions[i->modrm >> 3 & 3] | not))
			*(v128 *)x->st[0] = *(v128 *)x->st[n];
	} else {
		exact_register(core, i, false);
	}
	x87_note(core, i);
	X86_NEXT(core, i);
}

/* --- memory operands: the host's instruction reads or writes guest memory in place, if it is within a page of RAM
 * --- */

enum { ARITH, COMPARE, COMPARE_POP };

static __attribute__((noinline)) void quick_load(struct x86_core *core, const struct insn *i, unsigned kind)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	const char *stub = x87_stub(i->opcode, i->modrm, true);
	uint8_t copy[16];
	uint32_t flags;
	gva_t gva = x86_address(core, i, i->size, ACCESS_READ);
	void *operand = tlb_hit(core->tlb->read, gva, i->size);
	if (unlikely(!operand)) {
		x86_load_bytes(core, i, gva, copy, i->size);
		operand = copy;
	}
	switch (kind) {
	case ARITH:
		merge(x, QUICK(x, stub, operand, x->st[0], NULL, flags, LOAD_A, "", STORE_A), FSW_C1);
		break;
	case COMPARE:
		merge(x, QUICK(x, stub, operand, x->st[0], NULL, flags, LOAD_A, "", DROP), FSW_CONDITIONS);
		break;
	default:
		merge(x, QUICK(x, stub, operand, x->st[0], NULL, flags, LOAD_A, "", ""), FSW_CONDITIONS);
		pop(x);
		break;
	}
}

static __attribute__((noinline)) void quick_push(struct x86_core *core, const struct insn *i)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	const char *stub = x87_stub(i->opcode, i->modrm, true);
	uint8_t copy[16];
	uint32_t flags;
	gva_t gva = x86_address(core, i, i->size, ACCESS_READ);
	void *operand = tlb_hit(core->tlb->read, gva, i->size);
	if (unlikely(!operand)) {
		x86_load_bytes(core, i, gva, copy, i->size);
		operand = copy;
	}
	push(x);
	merge(x, QUICK(x, stub, operand, x->st[0], NULL, flags, "", "", STORE_A), FSW_C1);
}

static __attribute__((noinline)) void quick_store(struct x86_core *core, const struct insn *i, bool pops)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	const char *stub = x87_stub(i->opcode, i->modrm, true);
	uint8_t copy[16];
	uint32_t flags;
	unsigned sw;
	gva_t gva = x86_address(core, i, i->size, ACCESS_WRITE);
	void *host = tlb_hit(core->tlb->write, gva, i->size), *operand = likely(host) ? host : copy;
	if (pops)
		sw = QUICK(x, stub, operand, x->st[0], NULL, flags, LOAD_A, "", "");
	else
		sw = QUICK(x, stub, operand, x->st[0], NULL, flags, LOAD_A, "", DROP);
	if (unlikely(!host))
		x86_store_bytes(core, i, gva, copy, i->size);
	merge(x, sw, FSW_C1);
	if (pops)
		pop(x);
}

#define MEMORY_EXEC(name, full, empty, QUICK_CALL, exact)                                                              \
	EXEC(name)                                                                                                     \
	{                                                                                                              \
		x87_wait(core, i);                                                                                     \
		if (quick(&core->cpu.xsave.legacy, full, empty))                                                       \
			QUICK_CALL;                                                                                    \
		else                                                                                                   \
			exact(core, i);                                                                                \
		x87_note_memory(core, i);                                                                              \
		X86_NEXT(core, i);                                                                                     \
	}
MEMORY_EXEC(load_arith, ST(0), 0, quick_load(core, i, ARITH), exact_load)
MEMORY_EXEC(load_compare, ST(0), 0, quick_load(core, i, COMPARE), exact_load)
MEMORY_EXEC(load_compare_pop, ST(0), 0, quick_load(core, i, COMPARE_POP), exact_load)
MEMORY_EXEC(load_push, 0, ST(7), quick_push(core, i), exact_load)
MEMORY_EXEC(store, ST(0), 0, quick_store(core, i, false), exact_store)
MEMORY_EXEC(store_pop, ST(0), 0, quick_store(core, i, true), exact_store)

#define ALL(fn) { fn, fn, fn, fn }
#define X87_FORMS(name, register_fn, memory_fn)                                                                        \
	const struct x86_forms x86_x87_##name = { .any = register_fn, .by = { [FORM_M] = ALL(memory_fn) } };
X87_FORMS(arith, arith, load_arith)
X87_FORMS(arith_pop, arith_pop, NULL)
X87_FORMS(compare, compare, load_compare)
X87_FORMS(compare_pop, compare_pop, load_compare_pop)
X87_FORMS(compare_pop2, compare_pop2, NULL)
X87_FORMS(compare_flags, compare_flags, NULL)
X87_FORMS(compare_flags_pop, compare_flags_pop, NULL)
X87_FORMS(unary, unary, NULL)
X87_FORMS(constant, constant, NULL)
X87_FORMS(other, other, NULL)
X87_FORMS(load, fld_r, load_push)
X87_FORMS(store, fst_r, store)
X87_FORMS(store_pop, fstp_r, store_pop)
X87_FORMS(exchange, fxch_r, NULL)
X87_FORMS(move, fcmov_r, NULL)
