/* SPDX-License-Identifier: MIT */
/* XADD CMPXCHG CMPXCHG8B CMPXCHG16B: SDM volume 2. On guest RAM they are host atomics, with or without LOCK. */
#include "x86/hostop.h"

#define FOUR(prefix) { prefix##1, prefix##2, prefix##4, prefix##8 }

#define ATOMIC_SIZE(size, type, suffix, reg, dummy)                                                                    \
	static void xadd_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                   \
	{                                                                                                              \
		type s = (type)src;                                                                                    \
		asm volatile("lock; xadd" suffix " %[s], %[d]" FLAGS_OUT                                               \
			     : [s] "+" reg(s), [d] "+m"(*(type *)p), "=&a"(core->aflags) : : "cc", "memory");          \
		REG_SET(size, i->src, s);                                                                              \
	}                                                                                                              \
	EXEC(xadd_mr##size)                                                                                            \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, xadd_m##size, *REG_PTR(size, i->src));                                                  \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(xadd_rr##size)                                                                                            \
	{                                                                                                              \
		type d = *REG_PTR(size, i->dst), s = *REG_PTR(size, i->src);                                           \
		asm("xadd" suffix " %[s], %[d]" FLAGS_OUT : [s] "+" reg(s), [d] "+" reg(d), "=&a"(core->aflags) : : "cc"); \
		REG_SET(size, i->src, s);                                                                              \
		REG_SET(size, i->dst, d);                                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	/* The flags are those of CMP rAX, destination. On failure rAX gets the destination, on success it is left alone. */ \
	static void cmpxchg_m##size(struct x86_core *core, const struct insn *i, void *p, uint64_t src)                \
	{                                                                                                              \
		type old = *REG_PTR(size, RAX * 8), s = (type)src;                                                     \
		uint16_t f;                                                                                            \
		asm volatile("lock; cmpxchg" suffix " %[s], %[d]\n\txchgq %%rax, %q[f]" FLAGS_OUT "\n\txchgq %%rax, %q[f]" \
			     : "+a"(old), [d] "+m"(*(type *)p), [f] "=&r"(f) : [s] reg(s) : "cc", "memory");           \
		core->aflags = f;                                                                                      \
		if (!(f & AF_ZF))                                                                                      \
			REG_SET(size, RAX * 8, old);                                                                   \
	}                                                                                                              \
	EXEC(cmpxchg_mr##size)                                                                                         \
	{                                                                                                              \
		gva_t gva = x86_address(core, i, size, ACCESS_WRITE);                                                  \
		RMW(size, gva, cmpxchg_m##size, *REG_PTR(size, i->src));                                               \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC_FRAME(cmpxchg_rr##size)                                                                                         \
	{                                                                                                              \
		type d = *REG_PTR(size, i->dst);                                                                       \
		cmpxchg_m##size(core, i, &d, *REG_PTR(size, i->src));                                                  \
		if (core->aflags & AF_ZF) /* else not even the upper half of a 32-bit destination changes */           \
			REG_SET(size, i->dst, d);                                                                      \
	}
HOST_SIZES(ATOMIC_SIZE, 0)
const struct x86_forms x86_xadd = { .by = { [FORM_RR] = FOUR(xadd_rr), [FORM_MR] = FOUR(xadd_mr) } };
const struct x86_forms x86_cmpxchg = { .by = { [FORM_RR] = FOUR(cmpxchg_rr), [FORM_MR] = FOUR(cmpxchg_mr) } };

/* Only ZF changes. */
static void set_zf(struct x86_core *core, bool zf)
{
	core->aflags = (uint16_t)((core->aflags & ~AF_ZF) | (zf ? AF_ZF : 0));
}

static void cmpxchg8b_m(struct x86_core *core, const struct insn *i, void *p, uint64_t src)
{
	uint64_t old = (uint64_t)*reg32(core, RDX * 8) << 32 | *reg32(core, RAX * 8);
	uint64_t new = (uint64_t)*reg32(core, RCX * 8) << 32 | *reg32(core, RBX * 8);
	bool same;
	asm volatile("lock; cmpxchgq %[new], %[d]" : "+a"(old), [d] "+m"(*(any64 *)p), "=@ccz"(same) : [new] "r"(new) : "memory");
	set_zf(core, same);
	if (!same) {
		core->cpu.gpr[RAX] = (uint32_t)old;
		core->cpu.gpr[RDX] = old >> 32;
	}
}
EXEC(cmpxchg8b)
{
	gva_t gva = x86_address(core, i, 8, ACCESS_WRITE);
	RMW(8, gva, cmpxchg8b_m, 0);
	X86_NEXT(core, i);
}

static void cmpxchg16b_m(struct x86_core *core, const struct insn *i, void *p, uint64_t src)
{
	uint64_t *gpr = core->cpu.gpr;
	bool same;
	asm volatile("lock; cmpxchg16b %[d]"
		     : "+a"(gpr[RAX]), "+d"(gpr[RDX]), [d] "+m"(*(unsigned __int128 *)p), "=@ccz"(same)
		     : "b"(gpr[RBX]), "c"(gpr[RCX]) : "memory");
	set_zf(core, same);
}
EXEC(cmpxchg16b)
{
	gva_t gva = x86_address(core, i, 16, ACCESS_WRITE);
	if (gva & 15)
		x86_raise_error(core, i, VECTOR_GP, 0);
	RMW(16, gva, cmpxchg16b_m, 0);
	X86_NEXT(core, i);
}
const struct x86_forms x86_cmpxchg8b = { .any = cmpxchg8b }, x86_cmpxchg16b = { .any = cmpxchg16b };
