/* SPDX-License-Identifier: MIT */
/* Shifts and rotates: SHL SHR SAR ROL ROR RCL RCR SHLD SHRD. SDM volume 2. The host masks the count and leaves flags alone when it
 * is zero, so all the guest's flags go in before and come out after. */
#include "x86/hostop.h"

#define SHIFT_SIZE(size, type, suffix, reg, name, mnemonic)                                                            \
	static inline type name##_v##size(struct x86_core *core, type d, uint8_t count)                                \
	{                                                                                                              \
		asm(FLAGS_IN mnemonic suffix " %%cl, %[d]" FLAGS_OUT                                                   \
		    : [d] "+" reg(d), "+a"(core->aflags) : "c"(count) : "cc");                                         \
		return d;                                                                                              \
	}                                                                                                              \
	static void name##_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t count)               \
	{                                                                                                              \
		*(type *)p = name##_v##size(core, *(type *)p, (uint8_t)count);                                         \
	}                                                                                                              \
	EXEC(name##_rr##size)                                                                                          \
	{                                                                                                              \
		REG_SET(size, i->dst, name##_v##size(core, *REG_PTR(size, i->dst), *reg8(core, i->src)));              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_ri##size)                                                                                          \
	{                                                                                                              \
		REG_SET(size, i->dst, name##_v##size(core, *REG_PTR(size, i->dst), (uint8_t)i->imm));                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mr##size)                                                                                          \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, *reg8(core, i->src));                                                   \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mi##size)                                                                                          \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, i->imm);                                                                \
		X86_NEXT(core, i);                                                                                     \
	}
#define FOUR(prefix) { prefix##1, prefix##2, prefix##4, prefix##8 }
#define SHIFT(name, mnemonic)                                                                                          \
	HOST_SIZES(SHIFT_SIZE, name, mnemonic)                                                                         \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR] = FOUR(name##_rr), [FORM_RI] = FOUR(name##_ri), [FORM_MR] = FOUR(name##_mr),         \
			[FORM_MI] = FOUR(name##_mi) },                                                                 \
	};
SHIFT(shl, "shl")
SHIFT(shr, "shr")
SHIFT(sar, "sar")
SHIFT(rol, "rol")
SHIFT(ror, "ror")
SHIFT(rcl, "rcl")
SHIFT(rcr, "rcr")

#define DOUBLE_SIZE(size, type, suffix, reg, name, mnemonic)                                                           \
	static inline type name##_v##size(struct x86_core *core, type d, type s, uint8_t count)                        \
	{                                                                                                              \
		asm(FLAGS_IN mnemonic suffix " %%cl, %[s], %[d]" FLAGS_OUT                                             \
		    : [d] "+r"(d), "+a"(core->aflags) : [s] "r"(s), "c"(count) : "cc");                                \
		return d;                                                                                              \
	}                                                                                                              \
	static void name##_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t count)               \
	{                                                                                                              \
		*(type *)p = name##_v##size(core, *(type *)p, *REG_PTR(size, i->src), (uint8_t)count);                 \
	}                                                                                                              \
	EXEC(name##_reg##size)                                                                                         \
	{                                                                                                              \
		uint8_t count = i->form == FORM_RRI ? (uint8_t)i->imm : *reg8(core, RCX * 8);                          \
		REG_SET(size, i->dst, name##_v##size(core, *REG_PTR(size, i->dst), *REG_PTR(size, i->src), count));    \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##size)                                                                                         \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, i->form == FORM_MRI ? i->imm : *reg8(core, RCX * 8));                   \
		X86_NEXT(core, i);                                                                                     \
	}
#define WIDE(prefix) { NULL, prefix##2, prefix##4, prefix##8 }
#define DOUBLE(name, mnemonic)                                                                                         \
	HOST_WIDE(DOUBLE_SIZE, name, mnemonic)                                                                         \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRI] = WIDE(name##_reg), [FORM_RRR] = WIDE(name##_reg), [FORM_MRI] = WIDE(name##_mem),   \
			[FORM_MRR] = WIDE(name##_mem) },                                                               \
	};
DOUBLE(shld, "shld")
DOUBLE(shrd, "shrd")
