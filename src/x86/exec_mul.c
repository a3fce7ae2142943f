/* SPDX-License-Identifier: MIT */
/* MUL IMUL DIV IDIV, and the BCD adjustments AAA AAS AAM AAD DAA DAS. SDM volume 2. */
#include "x86/hostop.h"

#define FOUR(prefix) { prefix##1, prefix##2, prefix##4, prefix##8 }
#define WIDE(prefix) { NULL, prefix##2, prefix##4, prefix##8 }

/* One operand: rDX:rAX = rAX * operand; bytes: AX = AL * operand. */
#define MUL_SIZE(size, type, suffix, reg, name, mnemonic)                                                              \
	static inline void name##_v##size(struct x86_core *core, type s)                                               \
	{                                                                                                              \
		uint64_t a = core->cpu.gpr[RAX], d = core->cpu.gpr[RDX];                                               \
		uint16_t f = core->aflags;                                                                             \
		asm("xchgw %%ax, %w[f]\n\t" FLAGS_IN "xchgw %%ax, %w[f]\n\t" mnemonic suffix " %[s]\n\t"                \
		    "xchgq %%rax, %q[f]" FLAGS_OUT "\n\txchgq %%rax, %q[f]"                                            \
		    : [f] "+r"(f), "+a"(a), "+d"(d) : [s] reg(s) : "cc");                                              \
		core->aflags = f;                                                                                      \
		MUL_RESULT_##size                                                                                      \
	}                                                                                                              \
	EXEC(name##_r##size)                                                                                           \
	{                                                                                                              \
		name##_v##size(core, *REG_PTR(size, i->dst));                                                          \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_m##size)                                                                                           \
	{                                                                                                              \
		name##_v##size(core, LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ)));                   \
		X86_NEXT(core, i);                                                                                     \
	}
#define MUL_RESULT_1 *reg16(core, RAX * 8) = (uint16_t)a;
#define MUL_RESULT_2 *reg16(core, RAX * 8) = (uint16_t)a; *reg16(core, RDX * 8) = (uint16_t)d;
#define MUL_RESULT_4 core->cpu.gpr[RAX] = (uint32_t)a; core->cpu.gpr[RDX] = (uint32_t)d;
#define MUL_RESULT_8 core->cpu.gpr[RAX] = a; core->cpu.gpr[RDX] = d;
HOST_SIZES(MUL_SIZE, mul, "mul")
HOST_SIZES(MUL_SIZE, imul1, "imul")
const struct x86_forms x86_mul = { .by = { [FORM_R] = FOUR(mul_r), [FORM_M] = FOUR(mul_m) } };

/* IMUL with two and three operands. */
#define IMUL_SIZE(size, type, suffix, reg, dummy)                                                                      \
	static inline type imul_v##size(struct x86_core *core, type d, type s)                                         \
	{                                                                                                              \
		asm(FLAGS_IN "imul" suffix " %[s], %[d]" FLAGS_OUT : [d] "+r"(d), "+a"(core->aflags) : [s] "r"(s) : "cc"); \
		return d;                                                                                              \
	}                                                                                                              \
	EXEC(imul_rr##size)                                                                                            \
	{                                                                                                              \
		REG_SET(size, i->dst, imul_v##size(core, *REG_PTR(size, i->dst), *REG_PTR(size, i->src)));             \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(imul_rm##size)                                                                                            \
	{                                                                                                              \
		type s = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		REG_SET(size, i->dst, imul_v##size(core, *REG_PTR(size, i->dst), s));                                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(imul_rri##size)                                                                                           \
	{                                                                                                              \
		REG_SET(size, i->dst, imul_v##size(core, *REG_PTR(size, i->src), (type)i->imm));                       \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(imul_rmi##size)                                                                                           \
	{                                                                                                              \
		type s = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		REG_SET(size, i->dst, imul_v##size(core, s, (type)i->imm));                                            \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_WIDE(IMUL_SIZE, 0)
const struct x86_forms x86_imul = {
	.by = { [FORM_R] = FOUR(imul1_r), [FORM_M] = FOUR(imul1_m), [FORM_RR] = WIDE(imul_rr), [FORM_RM] = WIDE(imul_rm),
		[FORM_RRI] = WIDE(imul_rri), [FORM_RMI] = WIDE(imul_rmi) },
};

/* Divisions: what the host would refuse with #DE is found out first, then the host divides (its flags, undefined
 * by the manual, are the guest's). Volatile keeps the compiler from dividing before the check. */
static bool div_fits(unsigned size, uint64_t high, uint64_t divisor)
{
	return (high & size_mask(size)) < (divisor & size_mask(size));
}

static bool idiv_fits(unsigned size, uint64_t high, uint64_t low, uint64_t divisor)
{
	__int128 dividend = size == 8 ? (__int128)((unsigned __int128)high << 64 | low)
				      : sign_extend((high & size_mask(size)) << (8 * size) | (low & size_mask(size)), 16 * size);
	__int128 by = sign_extend(divisor, 8 * size), limit = (__int128)1 << (8 * size - 1);
	if (!by || (size == 8 && by == -1 && (unsigned __int128)dividend == (unsigned __int128)1 << 127))
		return false;
	__int128 quotient = dividend / by;
	return quotient >= -limit && quotient < limit;
}

#define DIV_SIZE(size, type, suffix, reg, name, mnemonic, FITS)                                                        \
	static inline void name##_v##size(struct x86_core *core, const struct insn *i, type s)                         \
	{                                                                                                              \
		uint64_t a = core->cpu.gpr[RAX], d = core->cpu.gpr[RDX];                                               \
		uint64_t high = size == 1 ? a >> 8 & 0xff : d;                                                         \
		uint16_t f = core->aflags;                                                                             \
		if (!FITS)                                                                                             \
			x86_raise(core, i, VECTOR_DE);                                                                 \
		asm volatile("xchgw %%ax, %w[f]\n\t" FLAGS_IN "xchgw %%ax, %w[f]\n\t" mnemonic suffix " %[s]\n\t"                \
		    "xchgq %%rax, %q[f]" FLAGS_OUT "\n\txchgq %%rax, %q[f]"                                            \
		    : [f] "+r"(f), "+a"(a), "+d"(d) : [s] reg(s) : "cc");                                              \
		core->aflags = f;                                                                                      \
		MUL_RESULT_##size                                                                                      \
	}                                                                                                              \
	EXEC(name##_r##size)                                                                                           \
	{                                                                                                              \
		name##_v##size(core, i, *REG_PTR(size, i->dst));                                                       \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_m##size)                                                                                           \
	{                                                                                                              \
		name##_v##size(core, i, LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ)));                \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_SIZES(DIV_SIZE, div, "div", div_fits(sizeof(s), high, s))
HOST_SIZES(DIV_SIZE, idiv, "idiv", idiv_fits(sizeof(s), high, sizeof(s) == 1 ? a & 0xff : a, s))
const struct x86_forms x86_div = { .by = { [FORM_R] = FOUR(div_r), [FORM_M] = FOUR(div_m) } };
const struct x86_forms x86_idiv = { .by = { [FORM_R] = FOUR(idiv_r), [FORM_M] = FOUR(idiv_m) } };

/* BCD adjustments exist on the host only in 32-bit code, so these few are written out. Each ends in an addition
 * or subtraction, whose flags it leaves where the manual says undefined: found on AMD processors, where AAA and
 * AAS add to all of AX. */
static uint8_t add_flags(struct x86_core *core, uint8_t a, uint8_t b)
{
	asm("addb %[b], %[a]" FLAGS_OUT : [a] "+q"(a), "=&a"(core->aflags) : [b] "q"(b) : "cc");
	return a;
}
static uint8_t sub_flags(struct x86_core *core, uint8_t a, uint8_t b)
{
	asm("subb %[b], %[a]" FLAGS_OUT : [a] "+q"(a), "=&a"(core->aflags) : [b] "q"(b) : "cc");
	return a;
}

/* A carry or borrow that goes out of the low digit: AF and CF say the same. */
static void ascii_carry(struct x86_core *core, bool carry)
{
	core->aflags = (uint16_t)((core->aflags & ~(AF_AF | AF_CF)) | (carry ? AF_AF | AF_CF : 0));
}
EXEC(aaa)
{
	uint16_t ax = *reg16(core, RAX * 8), by = (ax & 15) > 9 || (core->aflags & AF_AF) ? 0x106 : 0;
	asm("addw %[by], %[ax]" FLAGS_OUT : [ax] "+r"(ax), "=&a"(core->aflags) : [by] "r"(by) : "cc");
	ascii_carry(core, by);
	*reg16(core, RAX * 8) = ax & 0xff0f;
	X86_NEXT(core, i);
}
EXEC(aas)
{
	uint16_t ax = *reg16(core, RAX * 8), by = (ax & 15) > 9 || (core->aflags & AF_AF) ? 0x106 : 0;
	asm("subw %[by], %[ax]" FLAGS_OUT : [ax] "+r"(ax), "=&a"(core->aflags) : [by] "r"(by) : "cc");
	ascii_carry(core, by);
	*reg16(core, RAX * 8) = ax & 0xff0f;
	X86_NEXT(core, i);
}

EXEC(aam)
{
	uint8_t al = *reg8(core, RAX * 8), base = (uint8_t)i->imm;
	if (!base)
		x86_raise(core, i, VECTOR_DE);
	*reg16(core, RAX * 8) = (uint16_t)((al / base) << 8 | al % base);
	add_flags(core, al % base, 0);
	X86_NEXT(core, i);
}
EXEC(aad)
{
	uint16_t ax = *reg16(core, RAX * 8);
	*reg16(core, RAX * 8) = add_flags(core, (uint8_t)ax, (uint8_t)((ax >> 8) * i->imm));
	X86_NEXT(core, i);
}

static void decimal_adjust(struct x86_core *core, int sign)
{
	uint8_t al = *reg8(core, RAX * 8);
	bool low = (al & 15) > 9 || (core->aflags & AF_AF), high = al > 0x99 || (core->aflags & AF_CF);
	bool borrow = sign < 0 && low && al < 6; /* DAS: a borrow out of the low digit sets CF too */
	uint8_t by = (uint8_t)((low ? 6 : 0) + (high ? 0x60 : 0));
	*reg8(core, RAX * 8) = sign > 0 ? add_flags(core, al, by) : sub_flags(core, al, by);
	core->aflags = (uint16_t)((core->aflags & ~(AF_AF | AF_CF)) | (low ? AF_AF : 0) | (high || borrow ? AF_CF : 0));
}
EXEC(daa) { decimal_adjust(core, 1); X86_NEXT(core, i); }
EXEC(das) { decimal_adjust(core, -1); X86_NEXT(core, i); }
const struct x86_forms x86_aaa = { .any = aaa }, x86_aas = { .any = aas }, x86_aam = { .any = aam };
const struct x86_forms x86_aad = { .any = aad }, x86_daa = { .any = daa }, x86_das = { .any = das };
