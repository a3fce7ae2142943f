/* SPDX-License-Identifier: MIT */
/* Bits: BT BTS BTR BTC, BSF BSR, TZCNT LZCNT POPCNT, the BMI1 and BMI2 sets, ADCX ADOX, CRC32. SDM volume 2. */
#include "x86/hostop.h"

#define FOUR(prefix) { prefix##1, prefix##2, prefix##4, prefix##8 }
#define WIDE(prefix) { NULL, prefix##2, prefix##4, prefix##8 }

/* A bit number in a register reaches any distance from a memory operand: the operand is the word that holds the bit. */
static gva_t bit_string(struct x86_core *core, const struct insn *i, unsigned size, enum x86_access access)
{
	int64_t bit = size == 2 ? (int16_t)*reg16(core, i->src) : size == 4 ? (int32_t)*reg32(core, i->src)
									 : (int64_t)*reg64(core, i->src);
	struct insn moved = *i;
	moved.disp += (bit >> (size == 2 ? 4 : size == 4 ? 5 : 6)) * (int64_t)size;
	return x86_address(core, &moved, size, access);
}

#define BIT_SIZE(size, type, suffix, reg, name, mnemonic, access)                                                      \
	static inline type name##_v##size(struct x86_core *core, type d, type s)                                       \
	{                                                                                                              \
		asm(FLAGS_IN mnemonic suffix " %[s], %[d]" FLAGS_OUT : [d] "+r"(d), "+a"(core->aflags) : [s] "r"(s) : "cc"); \
		return d;                                                                                              \
	}                                                                                                              \
	static void name##_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t s)                   \
	{                                                                                                              \
		type bit = (type)(s & (size * 8 - 1));                                                                 \
		asm volatile(FLAGS_IN "lock; " mnemonic suffix " %[s], %[d]" FLAGS_OUT                                 \
			     : [d] "+m"(*(type *)p), "+a"(core->aflags) : [s] "r"(bit) : "cc", "memory");              \
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
	EXEC(name##_mr##size)                                                                                          \
	{                                                                                                              \
		gva_t gva = bit_string(core, i, size, ACCESS_WRITE);                                                   \
		RMW(size, gva, name##_m##size, *REG_PTR(size, i->src));                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mi##size)                                                                                          \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, name##_m##size, i->imm);                                                                \
		X86_NEXT(core, i);                                                                                     \
	}
#define CHANGE_BIT(name, mnemonic)                                                                                     \
	HOST_WIDE(BIT_SIZE, name, mnemonic, ACCESS_WRITE)                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RR] = WIDE(name##_rr), [FORM_RI] = WIDE(name##_ri), [FORM_MR] = WIDE(name##_mr),         \
			[FORM_MI] = WIDE(name##_mi) },                                                                 \
	};
CHANGE_BIT(bts, "bts")
CHANGE_BIT(btr, "btr")
CHANGE_BIT(btc, "btc")

#define BT_SIZE(size, type, suffix, reg, dummy)                                                                        \
	static inline void bt_v##size(struct x86_core *core, type d, type s)                                           \
	{                                                                                                              \
		asm(FLAGS_IN "bt" suffix " %[s], %[d]" FLAGS_OUT : "+a"(core->aflags) : [d] "r"(d), [s] "r"(s) : "cc"); \
	}                                                                                                              \
	EXEC(bt_rr##size)                                                                                              \
	{                                                                                                              \
		bt_v##size(core, *REG_PTR(size, i->dst), *REG_PTR(size, i->src));                                      \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(bt_ri##size)                                                                                              \
	{                                                                                                              \
		bt_v##size(core, *REG_PTR(size, i->dst), (type)i->imm);                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(bt_mr##size)                                                                                              \
	{                                                                                                              \
		type d = LOAD_##size(core, i, bit_string(core, i, size, ACCESS_READ));                                 \
		bt_v##size(core, d, *REG_PTR(size, i->src));                                                           \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(bt_mi##size)                                                                                              \
	{                                                                                                              \
		type d = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		bt_v##size(core, d, (type)i->imm);                                                                     \
		X86_NEXT(core, i);                                                                                     \
	}
HOST_WIDE(BT_SIZE, 0)
const struct x86_forms x86_bt = {
	.by = { [FORM_RR] = WIDE(bt_rr), [FORM_RI] = WIDE(bt_ri), [FORM_MR] = WIDE(bt_mr), [FORM_MI] = WIDE(bt_mi) },
};

/* One source, one destination that keeps its old value where the operation says so (BSF, BSR of zero). The host runs on the
 * whole 64-bit register, so its way with the upper half is the guest's. */
#define SCAN_SIZE(size, type, suffix, reg, name, mnemonic)                                                             \
	static inline void name##_v##size(struct x86_core *core, const struct insn *i, type s)                         \
	{                                                                                                              \
		uint64_t d = *reg64(core, i->dst);                                                                     \
		asm(FLAGS_IN mnemonic " %[s], %" SCAN_D_##size "[d]" FLAGS_OUT                                         \
		    : [d] "+r"(d), "+a"(core->aflags) : [s] "r"(s) : "cc");                                            \
		*reg64(core, i->dst) = d;                                                                              \
	}                                                                                                              \
	EXEC(name##_rr##size)                                                                                          \
	{                                                                                                              \
		name##_v##size(core, i, *REG_PTR(size, i->src));                                                       \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rm##size)                                                                                          \
	{                                                                                                              \
		name##_v##size(core, i, LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ)));                \
		X86_NEXT(core, i);                                                                                     \
	}
#define SCAN_D_2 "w"
#define SCAN_D_4 "k"
#define SCAN_D_8 "q"
#define SCAN(name, mnemonic)                                                                                           \
	HOST_WIDE(SCAN_SIZE, name, mnemonic)                                                                           \
	const struct x86_forms x86_##name = { .by = { [FORM_RR] = WIDE(name##_rr), [FORM_RM] = WIDE(name##_rm) } };
SCAN(bsf, "bsf")
SCAN(bsr, "bsr")
SCAN(tzcnt, "tzcnt")
SCAN(lzcnt, "lzcnt")
SCAN(popcnt, "popcnt")

/* BMI: rare enough for one function each. The 32 and 64-bit cases run on the host; `expr` gets d, s (uint64_t, already truncated). */
#define BMI(name, mnemonic, first, second)                                                                             \
	EXEC(name)                                                                                                     \
	{                                                                                                              \
		uint64_t a = first, b = second, d;                                                                     \
		if (i->size == 4) {                                                                                    \
			uint32_t d32;                                                                                  \
			asm(FLAGS_IN mnemonic "l %k[b], %k[a], %k[d]" FLAGS_OUT                                        \
			    : [d] "=&r"(d32), "+a"(core->aflags) : [a] "r"(a), [b] "r"(b) : "cc");                     \
			d = d32;                                                                                       \
		} else {                                                                                               \
			asm(FLAGS_IN mnemonic "q %[b], %[a], %[d]" FLAGS_OUT                                           \
			    : [d] "=&r"(d), "+a"(core->aflags) : [a] "r"(a), [b] "r"(b) : "cc");                       \
		}                                                                                                      \
		x86_reg_set(core, i->dst, i->size, d);                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = { .any = name };

static uint64_t third(struct x86_core *core, const struct insn *i) /* r, r, r/m */
{
	return i->form == FORM_RRM ? x86_load(core, i, x86_address(core, i, i->size, ACCESS_READ), i->size)
				   : x86_reg(core, i->src2, i->size);
}
static uint64_t middle(struct x86_core *core, const struct insn *i) /* r, r/m, r */
{
	return i->form == FORM_RMR ? x86_load(core, i, x86_address(core, i, i->size, ACCESS_READ), i->size)
				   : x86_reg(core, i->src, i->size);
}
static uint64_t last(struct x86_core *core, const struct insn *i)
{
	return x86_reg(core, i->form == FORM_RMR ? i->src : i->src2, i->size);
}
BMI(andn, "andn", x86_reg(core, i->src, i->size), third(core, i))
BMI(pdep, "pdep", x86_reg(core, i->src, i->size), third(core, i))
BMI(pext, "pext", x86_reg(core, i->src, i->size), third(core, i))
/* AT&T order has the count or control first: swap. */
BMI(bextr, "bextr", middle(core, i), last(core, i))
BMI(bzhi, "bzhi", middle(core, i), last(core, i))
BMI(shlx, "shlx", middle(core, i), last(core, i))
BMI(shrx, "shrx", middle(core, i), last(core, i))
BMI(sarx, "sarx", middle(core, i), last(core, i))

#define BMI_UNARY(name)                                                                                                \
	EXEC(name)                                                                                                     \
	{                                                                                                              \
		uint64_t s = x86_src_load(core, i), d;                                                                 \
		if (i->size == 4) {                                                                                    \
			uint32_t d32;                                                                                  \
			asm(FLAGS_IN #name "l %k[s], %k[d]" FLAGS_OUT : [d] "=&r"(d32), "+a"(core->aflags) : [s] "r"(s) : "cc"); \
			d = d32;                                                                                       \
		} else {                                                                                               \
			asm(FLAGS_IN #name "q %[s], %[d]" FLAGS_OUT : [d] "=&r"(d), "+a"(core->aflags) : [s] "r"(s) : "cc"); \
		}                                                                                                      \
		x86_reg_set(core, i->dst, i->size, d);                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = { .any = name };
BMI_UNARY(blsi)
BMI_UNARY(blsr)
BMI_UNARY(blsmsk)

EXEC(rorx)
{
	uint64_t s = x86_src_is_memory(i) ? x86_load(core, i, x86_address(core, i, i->size, ACCESS_READ), i->size)
					  : x86_reg(core, i->src, i->size);
	unsigned width = i->size * 8, n = i->imm & (width - 1);
	x86_reg_set(core, i->dst, i->size, n ? s >> n | s << (width - n) : s);
	X86_NEXT(core, i);
}
const struct x86_forms x86_rorx = { .any = rorx };

EXEC(mulx)
{
	uint64_t s = third(core, i), d = x86_reg(core, RDX * 8, i->size);
	unsigned __int128 product = (unsigned __int128)s * d;
	/* When both destinations are the same register, it holds the high half. */
	x86_reg_set(core, i->src, i->size, (uint64_t)product);
	x86_reg_set(core, i->dst, i->size, (uint64_t)(product >> (i->size * 8)));
	X86_NEXT(core, i);
}
const struct x86_forms x86_mulx = { .any = mulx };

/* Additions that carry in CF or OF alone. */
static void add_with(struct x86_core *core, const struct insn *i, unsigned flag)
{
	uint64_t s = x86_src_load(core, i), d = x86_reg(core, i->dst, i->size);
	unsigned __int128 sum = (unsigned __int128)d + s + !!(core->aflags & flag);
	core->aflags = (uint16_t)((core->aflags & ~flag) | (sum >> (i->size * 8) ? flag : 0));
	x86_reg_set(core, i->dst, i->size, (uint64_t)sum);
}
EXEC(adcx) { add_with(core, i, AF_CF); X86_NEXT(core, i); }
EXEC(adox) { add_with(core, i, AF_OF); X86_NEXT(core, i); }
const struct x86_forms x86_adcx = { .any = adcx }, x86_adox = { .any = adox };

EXEC(crc32)
{
	uint64_t s = x86_src_load(core, i), d = *reg32(core, i->dst);
	switch (i->ssize) {
	case 1: asm("crc32b %b[s], %k[d]" : [d] "+r"(d) : [s] "q"(s)); break;
	case 2: asm("crc32w %w[s], %k[d]" : [d] "+r"(d) : [s] "r"(s)); break;
	case 4: asm("crc32l %k[s], %k[d]" : [d] "+r"(d) : [s] "r"(s)); break;
	default: asm("crc32q %[s], %[d]" : [d] "+r"(d) : [s] "r"(s)); break;
	}
	*reg64(core, i->dst) = (uint32_t)d;
	X86_NEXT(core, i);
}
const struct x86_forms x86_crc32 = { .any = crc32 };
