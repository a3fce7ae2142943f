/* SPDX-License-Identifier: MIT */
/* ADD OR ADC SBB AND SUB XOR CMP TEST, INC DEC NEG NOT: SDM volume 2. The host's own instruction does each. */
#include "x86/hostop.h"

/* The functions of a two-operand operation for one size. CARRY is CARRY_IN for those that use it. */
#define ALU_SIZE(size, type, suffix, reg, name, mnemonic, CARRY)                                                       \
	static inline type name##_v##size(struct x86_core *core, type d, type s)                                       \
	{                                                                                                              \
		uint16_t f = core->aflags;                                                                             \
		asm(CARRY mnemonic suffix " %[s], %[d]" FLAGS_OUT                                                      \
		    : [d] "+" reg(d), "=&a"(core->aflags) : [s] reg(s), [f] "r"(f) : "cc");                            \
		return d;                                                                                              \
	}                                                                                                              \
	static void name##_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                 \
	{                                                                                                              \
		type s = (type)src;                                                                                    \
		uint16_t f = core->aflags;                                                                             \
		asm volatile(CARRY mnemonic suffix " %[s], %[d]" FLAGS_OUT                                             \
			     : [d] "+m"(*(type *)p), "=&a"(core->aflags) : [s] reg(s), [f] "r"(f) : "cc", "memory");   \
	}                                                                                                              \
	static void name##_l##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                 \
	{                                                                                                              \
		type s = (type)src;                                                                                    \
		uint16_t f = core->aflags;                                                                             \
		asm volatile(CARRY "lock; " mnemonic suffix " %[s], %[d]" FLAGS_OUT                                    \
			     : [d] "+m"(*(type *)p), "=&a"(core->aflags) : [s] reg(s), [f] "r"(f) : "cc", "memory");   \
	}                                                                                                              \
	EXEC(name##_rr##size)                                                                                          \
	{                                                                                                              \
		REG_SET(size, i->dst, name##_v##size(core, *REG_PTR(size, i->dst), *REG_PTR(size, i->src)));           \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_ri##size)                                                                                          \
	{                                                                                                              \
		REG_SET(size, i->dst, name##_v##size(core, *REG_PTR(size, i->dst), (type)i->imm));                     \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm##size)                                                                                          \
	{                                                                                                              \
		type s = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		REG_SET(size, i->dst, name##_v##size(core, *REG_PTR(size, i->dst), s));                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mr##size)                                                                                          \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, *REG_PTR(size, i->src));                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mi##size)                                                                                          \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, i->imm);                                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_lmr##size)                                                                                         \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_l##size, *REG_PTR(size, i->src));                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_lmi##size)                                                                                         \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_l##size, i->imm);                                                                \
		X86_NEXT(core, i);                                                                                     \
	}

#define FOUR(prefix) { prefix##1, prefix##2, prefix##4, prefix##8 }
#define ALU(name, mnemonic, CARRY)                                                                                     \
	HOST_SIZES(ALU_SIZE, name, mnemonic, CARRY)                                                                    \
	static const struct x86_forms name##_locked = {                                                                \
		.by = { [FORM_MR] = FOUR(name##_lmr), [FORM_MI] = FOUR(name##_lmi) },                                  \
	};                                                                                                             \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR] = FOUR(name##_rr), [FORM_RI] = FOUR(name##_ri), [FORM_RM] = FOUR(name##_rm),         \
			[FORM_MR] = FOUR(name##_mr), [FORM_MI] = FOUR(name##_mi) },                                    \
		.locked = &name##_locked,                                                                              \
	};

ALU(add, "add", "")
ALU(or, "or", "")
ALU(adc, "adc", CARRY_IN)
ALU(sbb, "sbb", CARRY_IN)
ALU(and, "and", "")
ALU(sub, "sub", "")
ALU(xor, "xor", "")

/* CMP and TEST write only flags. */
#define COMPARE_SIZE(size, type, suffix, reg, name, mnemonic)                                                          \
	static inline void name##_v##size(struct x86_core *core, type d, type s)                                       \
	{                                                                                                              \
		asm(mnemonic suffix " %[s], %[d]" FLAGS_OUT : "=&a"(core->aflags) : [d] reg(d), [s] reg(s) : "cc");    \
	}                                                                                                              \
	EXEC(name##_rr##size)                                                                                          \
	{                                                                                                              \
		name##_v##size(core, *REG_PTR(size, i->dst), *REG_PTR(size, i->src));                                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_ri##size)                                                                                          \
	{                                                                                                              \
		name##_v##size(core, *REG_PTR(size, i->dst), (type)i->imm);                                            \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mr##size)                                                                                          \
	{                                                                                                              \
		type d = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		name##_v##size(core, d, *REG_PTR(size, i->src));                                                       \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mi##size)                                                                                          \
	{                                                                                                              \
		type d = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		name##_v##size(core, d, (type)i->imm);                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}
#define COMPARE_LOAD(size, type, suffix, reg, name)                                                                    \
	EXEC(name##_rm##size)                                                                                          \
	{                                                                                                              \
		type s = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		name##_v##size(core, *REG_PTR(size, i->dst), s);                                                       \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_SIZES(COMPARE_SIZE, cmp, "cmp")
HOST_SIZES(COMPARE_LOAD, cmp)
HOST_SIZES(COMPARE_SIZE, test, "test")
const struct x86_forms x86_cmp = {
	.by = { [FORM_RR] = FOUR(cmp_rr), [FORM_RI] = FOUR(cmp_ri), [FORM_RM] = FOUR(cmp_rm), [FORM_MR] = FOUR(cmp_mr),
		[FORM_MI] = FOUR(cmp_mi) },
};
const struct x86_forms x86_test = {
	.by = { [FORM_RR] = FOUR(test_rr), [FORM_RI] = FOUR(test_ri), [FORM_MR] = FOUR(test_mr), [FORM_MI] = FOUR(test_mi) },
};

/* One operand. INC and DEC keep CF, which CARRY_IN puts in place; NOT keeps all flags. */
#define UNARY_SIZE(size, type, suffix, reg, name, mnemonic)                                                            \
	static void name##_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                 \
	{                                                                                                              \
		uint16_t f = core->aflags;                                                                             \
		asm volatile(CARRY_IN mnemonic suffix " %[d]" FLAGS_OUT                                                \
			     : [d] "+m"(*(type *)p), "=&a"(core->aflags) : [f] "r"(f) : "cc", "memory");               \
	}                                                                                                              \
	static void name##_l##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                 \
	{                                                                                                              \
		uint16_t f = core->aflags;                                                                             \
		asm volatile(CARRY_IN "lock; " mnemonic suffix " %[d]" FLAGS_OUT                                       \
			     : [d] "+m"(*(type *)p), "=&a"(core->aflags) : [f] "r"(f) : "cc", "memory");               \
	}                                                                                                              \
	EXEC(name##_r##size)                                                                                           \
	{                                                                                                              \
		type d = *REG_PTR(size, i->dst);                                                                       \
		uint16_t f = core->aflags;                                                                             \
		asm(CARRY_IN mnemonic suffix " %[d]" FLAGS_OUT                                                         \
		    : [d] "+" reg(d), "=&a"(core->aflags) : [f] "r"(f) : "cc");                                        \
		REG_SET(size, i->dst, d);                                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##size)                                                                                         \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, 0);                                                                     \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_lmem##size)                                                                                        \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_l##size, 0);                                                                     \
		X86_NEXT(core, i);                                                                                     \
	}
#define UNARY(name, mnemonic)                                                                                          \
	HOST_SIZES(UNARY_SIZE, name, mnemonic)                                                                         \
	static const struct x86_forms name##_locked = { .by = { [FORM_M] = FOUR(name##_lmem) } };                      \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_R] = FOUR(name##_r), [FORM_M] = FOUR(name##_mem) }, .locked = &name##_locked,            \
	};
UNARY(inc, "inc")
UNARY(dec, "dec")
UNARY(neg, "neg")

#define NOT_SIZE(size, type, suffix, reg, dummy)                                                                       \
	static void not_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                    \
	{                                                                                                              \
		asm volatile("not" suffix " %0" : "+m"(*(type *)p) : : "memory");                                      \
	}                                                                                                              \
	static void not_l##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                    \
	{                                                                                                              \
		asm volatile("lock; not" suffix " %0" : "+m"(*(type *)p) : : "memory");                                \
	}                                                                                                              \
	EXEC(not_r##size)                                                                                              \
	{                                                                                                              \
		REG_SET(size, i->dst, (type)~*REG_PTR(size, i->dst));                                                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(not_mem##size)                                                                                            \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, not_m##size, 0);                                                                        \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(not_lmem##size)                                                                                           \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, not_l##size, 0);                                                                        \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_SIZES(NOT_SIZE, 0)
static const struct x86_forms not_locked = { .by = { [FORM_M] = FOUR(not_lmem) } };
const struct x86_forms x86_not = { .by = { [FORM_R] = FOUR(not_r), [FORM_M] = FOUR(not_mem) }, .locked = &not_locked };
