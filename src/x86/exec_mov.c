/* SPDX-License-Identifier: MIT */
/* Data movement: MOV MOVZX MOVSX MOVBE LEA XCHG BSWAP CMOVcc SETcc, sign extensions, XLAT, LAHF and SAHF. SDM volume 2. */
#include "x86/hostop.h"

#define MOV_SIZE(size, type, suffix, reg, dummy)                                                                       \
	EXEC(mov_rr##size)                                                                                             \
	{                                                                                                              \
		REG_SET(size, i->dst, *REG_PTR(size, i->src));                                                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(mov_ri##size)                                                                                             \
	{                                                                                                              \
		REG_SET(size, i->dst, (type)i->imm);                                                                   \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(mov_rm##size)                                                                                             \
	{                                                                                                              \
		REG_SET(size, i->dst, LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ)));                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(mov_mr##size)                                                                                             \
	{                                                                                                              \
		STORE_##size(core, i, x86_address(core, i, size, ACCESS_WRITE), *REG_PTR(size, i->src));               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(mov_mi##size)                                                                                             \
	{                                                                                                              \
		STORE_##size(core, i, x86_address(core, i, size, ACCESS_WRITE), (type)i->imm);                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(xchg_rr##size)                                                                                            \
	{                                                                                                              \
		type d = *REG_PTR(size, i->dst), s = *REG_PTR(size, i->src);                                           \
		REG_SET(size, i->dst, s);                                                                              \
		REG_SET(size, i->src, d);                                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	static void xchg_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                   \
	{                                                                                                              \
		type s = (type)src;                                                                                    \
		asm volatile("xchg" suffix " %0, %1" : "+" reg(s), "+m"(*(type *)p) : : "memory");                     \
		REG_SET(size, i->src, s);                                                                              \
	}                                                                                                              \
	EXEC(xchg_mr##size)                                                                                            \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, xchg_m##size, *REG_PTR(size, i->src));                                                  \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_SIZES(MOV_SIZE, 0)
#define FOUR(prefix) { prefix##1, prefix##2, prefix##4, prefix##8 }
const struct x86_forms x86_mov = {
	.by = { [FORM_RR] = FOUR(mov_rr), [FORM_RI] = FOUR(mov_ri), [FORM_RM] = FOUR(mov_rm), [FORM_MR] = FOUR(mov_mr),
		[FORM_MI] = FOUR(mov_mi) },
};

/* XCHG with memory is a locked access with or without the prefix: decode.c sets INSN_LOCK. */
const struct x86_forms x86_xchg = { .by = { [FORM_RR] = FOUR(xchg_rr), [FORM_MR] = FOUR(xchg_mr) } };

#define LEA_SIZE(size, type, suffix, reg, dummy)                                                                       \
	EXEC(lea##size)                                                                                                \
	{                                                                                                              \
		uint64_t ea = *x86_gpr_at(core, i->base) + (*x86_gpr_at(core, i->scaled) << i->scale) + (uint64_t)i->disp; \
		REG_SET(size, i->dst, (type)(ea & size_mask(i->asize)));                                               \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_WIDE(LEA_SIZE, 0)
#define WIDE(prefix) { NULL, prefix##2, prefix##4, prefix##8 }
const struct x86_forms x86_lea = { .by = { [FORM_RM] = WIDE(lea) } };

/* MOVZX, MOVSX: source size x destination size. */
#define EXTEND(name, dsize, ssize_, dtype, stype)                                                                      \
	EXEC(name##_rr##dsize##ssize_)                                                                                 \
	{                                                                                                              \
		REG_SET(dsize, i->dst, (dtype)(stype)*REG_PTR(ssize_, i->src));                                        \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm##dsize##ssize_)                                                                                 \
	{                                                                                                              \
		REG_SET(dsize, i->dst, (dtype)(stype)LOAD_##ssize_(core, i, x86_address(core, i, ssize_, ACCESS_READ)));  \
		X86_NEXT(core, i);                                                                                     \
	}
#define EXTENDS(name, s)                                                                                               \
	EXTEND(name, 2, 1, uint16_t, s##8_t) EXTEND(name, 4, 1, uint32_t, s##8_t) EXTEND(name, 8, 1, uint64_t, s##8_t)    \
	EXTEND(name, 2, 2, uint16_t, s##16_t) EXTEND(name, 4, 2, uint32_t, s##16_t) EXTEND(name, 8, 2, uint64_t, s##16_t)
EXTENDS(movzx, uint)
EXTENDS(movsx, int)
EXTEND(movsxd, 2, 2, uint16_t, int16_t)
EXTEND(movsxd, 4, 4, uint32_t, int32_t)
EXTEND(movsxd, 8, 4, uint64_t, int32_t)

/* The table is indexed by the size of the destination only. */
#define EXTEND_PICK(name, form)                                                                                        \
	EXEC(name##_##form##2) { if (i->ssize == 1) name##_##form##21(core, i); else name##_##form##22(core, i); }    \
	EXEC(name##_##form##4) { if (i->ssize == 1) name##_##form##41(core, i); else name##_##form##42(core, i); }    \
	EXEC(name##_##form##8) { if (i->ssize == 1) name##_##form##81(core, i); else name##_##form##82(core, i); }
EXTEND_PICK(movzx, rr)
EXTEND_PICK(movzx, rm)
EXTEND_PICK(movsx, rr)
EXTEND_PICK(movsx, rm)
const struct x86_forms x86_movzx = { .by = { [FORM_RR] = WIDE(movzx_rr), [FORM_RM] = WIDE(movzx_rm) } };
const struct x86_forms x86_movsx = { .by = { [FORM_RR] = WIDE(movsx_rr), [FORM_RM] = WIDE(movsx_rm) } };
const struct x86_forms x86_movsxd = {
	.by = { [FORM_RR] = { NULL, movsxd_rr22, movsxd_rr44, movsxd_rr84 },
		[FORM_RM] = { NULL, movsxd_rm22, movsxd_rm44, movsxd_rm84 } },
};

/* CMOVcc reads its memory operand, and clears the upper half of a 32-bit destination, whatever the condition. */
#define CMOV_SIZE(size, type, suffix, reg, cc)                                                                         \
	EXEC(cmov##cc##_rr##size)                                                                                      \
	{                                                                                                              \
		type s = *REG_PTR(size, i->src), d = *REG_PTR(size, i->dst);                                           \
		REG_SET(size, i->dst, x86_condition(core, cc) ? s : d);                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(cmov##cc##_rm##size)                                                                                      \
	{                                                                                                              \
		type s = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ)), d = *REG_PTR(size, i->dst);    \
		REG_SET(size, i->dst, x86_condition(core, cc) ? s : d);                                                \
		X86_NEXT(core, i);                                                                                     \
	}
#define CONDITIONAL(cc)                                                                                                \
	HOST_WIDE(CMOV_SIZE, cc)                                                                                       \
	const struct x86_forms x86_cmov##cc = { .by = { [FORM_RR] = WIDE(cmov##cc##_rr), [FORM_RM] = WIDE(cmov##cc##_rm) } }; \
	EXEC(set##cc##_r)                                                                                              \
	{                                                                                                              \
		*reg8(core, i->dst) = x86_condition(core, cc);                                                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(set##cc##_m)                                                                                              \
	{                                                                                                              \
		x86_store8(core, i, x86_address(core, i, 1, ACCESS_WRITE), x86_condition(core, cc));                   \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_set##cc = { .by = { [FORM_R] = { set##cc##_r }, [FORM_M] = { set##cc##_m } } };
CONDITIONAL(0) CONDITIONAL(1) CONDITIONAL(2) CONDITIONAL(3) CONDITIONAL(4) CONDITIONAL(5) CONDITIONAL(6) CONDITIONAL(7)
CONDITIONAL(8) CONDITIONAL(9) CONDITIONAL(10) CONDITIONAL(11) CONDITIONAL(12) CONDITIONAL(13) CONDITIONAL(14)
CONDITIONAL(15)

static uint64_t swapped(uint64_t value, unsigned size)
{
	return size == 2 ? __builtin_bswap16((uint16_t)value) : size == 4 ? __builtin_bswap32((uint32_t)value)
							       : __builtin_bswap64(value);
}

EXEC(bswap)
{
	uint64_t v = *reg64(core, i->dst);
	/* With a 16-bit operand the manual says undefined; processors clear the register's low half. */
	if (i->size == 2)
		*reg16(core, i->dst) = 0;
	else
		x86_reg_set(core, i->dst, i->size, swapped(v, i->size));
	X86_NEXT(core, i);
}
const struct x86_forms x86_bswap = { .any = bswap };

EXEC(movbe)
{
	if (i->form == FORM_RM)
		x86_reg_set(core, i->dst, i->size, swapped(x86_src_load(core, i), i->size));
	else
		x86_dst_store(core, i, swapped(x86_reg(core, i->src, i->size), i->size));
	X86_NEXT(core, i);
}
const struct x86_forms x86_movbe = { .any = movbe };

EXEC(cbw) { *reg16(core, RAX * 8) = (uint16_t)(int8_t)*reg8(core, RAX * 8); X86_NEXT(core, i); }
EXEC(cwde) { *reg64(core, RAX * 8) = (uint32_t)(int16_t)*reg16(core, RAX * 8); X86_NEXT(core, i); }
EXEC(cdqe) { *reg64(core, RAX * 8) = (uint64_t)(int32_t)*reg32(core, RAX * 8); X86_NEXT(core, i); }
EXEC(cwd) { *reg16(core, RDX * 8) = (int16_t)*reg16(core, RAX * 8) < 0 ? 0xffff : 0; X86_NEXT(core, i); }
EXEC(cdq) { *reg64(core, RDX * 8) = (int32_t)*reg32(core, RAX * 8) < 0 ? 0xffffffff : 0; X86_NEXT(core, i); }
EXEC(cqo) { *reg64(core, RDX * 8) = (int64_t)*reg64(core, RAX * 8) < 0 ? ~0ULL : 0; X86_NEXT(core, i); }
const struct x86_forms x86_cbw = { .any = cbw }, x86_cwde = { .any = cwde }, x86_cdqe = { .any = cdqe };
const struct x86_forms x86_cwd = { .any = cwd }, x86_cdq = { .any = cdq }, x86_cqo = { .any = cqo };

EXEC(xlat)
{
	uint64_t offset = (core->cpu.gpr[RBX] + *reg8(core, RAX * 8)) & size_mask(i->asize);
	gva_t gva = i->flags & INSN_ADDRESS ? x86_address_checked(core, i, offset, 1, ACCESS_READ)
					    : offset + core->cpu.seg[i->seg].base;
	*reg8(core, RAX * 8) = x86_load8(core, i, gva);
	X86_NEXT(core, i);
}
const struct x86_forms x86_xlat = { .any = xlat };

EXEC(lahf)
{
	*reg8(core, 1) = (uint8_t)(((core->aflags & (AF_ALL & ~AF_OF)) >> 8) | FLAG_FIXED);
	X86_NEXT(core, i);
}
EXEC(sahf)
{
	core->aflags = (uint16_t)((core->aflags & AF_OF) | (((unsigned)*reg8(core, 1) << 8) & (AF_ALL & ~AF_OF)));
	X86_NEXT(core, i);
}
EXEC(clc) { core->aflags &= (uint16_t)~AF_CF; X86_NEXT(core, i); }
EXEC(stc) { core->aflags |= AF_CF; X86_NEXT(core, i); }
EXEC(cmc) { core->aflags ^= AF_CF; X86_NEXT(core, i); }
EXEC(cld) { core->cpu.rflags &= ~FLAG_DF; X86_NEXT(core, i); }
EXEC(std_) { core->cpu.rflags |= FLAG_DF; X86_NEXT(core, i); }
EXEC(salc) { *reg8(core, RAX * 8) = core->aflags & AF_CF ? 0xff : 0; X86_NEXT(core, i); }
const struct x86_forms x86_lahf = { .any = lahf }, x86_sahf = { .any = sahf }, x86_clc = { .any = clc };
const struct x86_forms x86_stc = { .any = stc }, x86_cmc = { .any = cmc }, x86_cld = { .any = cld };
const struct x86_forms x86_std = { .any = std_ }, x86_salc = { .any = salc };
