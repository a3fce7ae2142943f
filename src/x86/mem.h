/* SPDX-License-Identifier: MIT */
/* Guest memory as instructions see it: effective addresses, and loads and stores through the software TLB.
 *
 * An aligned access of 1 to 8 bytes is one host access, so other processors never see half of it. */
#pragma once
#include "x86/core.h"

/* Calls a slow half through its thunk (thunk.S), which preserves all registers but RAX: so the caller stays a leaf. */
#define X86_SLOW(function, core, i, a, b, c)                                                                           \
	({                                                                                                             \
		uint64_t result_;                                                                                      \
		register uint64_t c_ asm("r8") = (uint64_t)(c);                                                        \
		asm volatile("call " #function "_thunk"                                                                \
			     : "=a"(result_) : "D"(core), "S"(i), "d"((uint64_t)(a)), "c"((uint64_t)(b)), "r"(c_) : "memory", "cc"); \
		result_;                                                                                               \
	})

typedef uint16_t __attribute__((may_alias, aligned(1))) any16;
typedef uint32_t __attribute__((may_alias, aligned(1))) any32;
typedef uint64_t __attribute__((may_alias, aligned(1))) any64;

static inline uint64_t *x86_gpr_at(struct x86_core *core, unsigned byte_offset)
{
	return (uint64_t *)((char *)core->cpu.gpr + byte_offset);
}

/* segment.c -- the address when it is more than a 64-bit sum: truncation to 16 or 32 bits, segment limits and rights
 * (#GP or #SS for i), wrap at 4 GiB. `offset` is the effective address before truncation. */
gva_t x86_address_checked(struct x86_core *, const struct insn *i, uint64_t offset, unsigned size, enum x86_access);

/* Linear address of the memory operand, for an access of size bytes. Canonical checks come with the TLB miss. */
static inline __attribute__((always_inline)) gva_t x86_address(struct x86_core *core, const struct insn *i, unsigned size, enum x86_access access)
{
	uint64_t offset = *x86_gpr_at(core, i->base) + (*x86_gpr_at(core, i->scaled) << i->scale) + (uint64_t)i->disp;
	if (unlikely(i->flags & (INSN_ADDRESS | INSN_ADDRESS32))) {
		if (!(i->flags & INSN_ADDRESS))
			return (uint32_t)offset + core->cpu.seg[i->seg].base;
		return X86_SLOW(x86_address_checked, core, i, offset, size, access);
	}
	return offset + core->cpu.seg[i->seg].base;
}

static inline __attribute__((always_inline)) void *tlb_hit(struct tlb_entry *table, gva_t gva, unsigned size)
{
	struct tlb_entry *e = &table[(gva >> X86_PAGE_SHIFT) & (TLB_ENTRIES - 1)];
	if (unlikely(e->tag != ((gva + size - 1) & X86_PAGE_MASK)))
		return NULL;
	void *host = (void *)(uintptr_t)(gva + e->delta);
	if (!host)
		__builtin_unreachable(); /* spares the caller's test of a hit */
	return host;
}

#define X86_MEM_ACCESSORS(bits, type)                                                                                  \
	static inline uint##bits##_t x86_load##bits(struct x86_core *core, const struct insn *i, gva_t gva)            \
	{                                                                                                              \
		void *p = tlb_hit(core->tlb->read, gva, bits / 8);                                                     \
		return likely(p) ? *(volatile type *)p : (uint##bits##_t)X86_SLOW(x86_load_slow, core, i, gva, bits / 8, 0);        \
	}                                                                                                              \
	static inline void x86_store##bits(struct x86_core *core, const struct insn *i, gva_t gva, uint##bits##_t value) \
	{                                                                                                              \
		void *p = tlb_hit(core->tlb->write, gva, bits / 8);                                                    \
		if (likely(p))                                                                                         \
			*(volatile type *)p = value;                                                                   \
		else                                                                                                   \
			X86_SLOW(x86_store_slow, core, i, gva, bits / 8, value);                                       \
	}
X86_MEM_ACCESSORS(8, uint8_t)
X86_MEM_ACCESSORS(16, any16)
X86_MEM_ACCESSORS(32, any32)
X86_MEM_ACCESSORS(64, any64)
#undef X86_MEM_ACCESSORS

static inline uint64_t x86_load(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	switch (size) {
	case 1: return x86_load8(core, i, gva);
	case 2: return x86_load16(core, i, gva);
	case 4: return x86_load32(core, i, gva);
	default: return x86_load64(core, i, gva);
	}
}

static inline void x86_store(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: x86_store8(core, i, gva, (uint8_t)value); break;
	case 2: x86_store16(core, i, gva, (uint16_t)value); break;
	case 4: x86_store32(core, i, gva, (uint32_t)value); break;
	default: x86_store64(core, i, gva, value); break;
	}
}

/* Stack of the current mode. `delta` counts bytes from the stack pointer; the pointer itself is moved by x86_stack_move
 * once nothing can fault any more. stack addresses wrap at 16 or 32 bits as SS.B says, with limit checks (#SS). */
gva_t x86_stack_address_checked(struct x86_core *, const struct insn *i, int64_t delta, unsigned size, enum x86_access);
static inline gva_t x86_stack_address(struct x86_core *core, const struct insn *i, int64_t delta, unsigned size,
				      enum x86_access access)
{
	if (likely((core->mode & MODE_STACK) == MODE_STACK64))
		return core->cpu.gpr[RSP] + (uint64_t)delta;
	if ((core->mode & (MODE_STACK | MODE_FLAT)) == (MODE_STACK32 | MODE_FLAT))
		return (uint32_t)(core->cpu.gpr[RSP] + (uint64_t)delta);
	return X86_SLOW(x86_stack_address_checked, core, i, delta, size, access);
}
static inline void x86_stack_move(struct x86_core *core, int64_t delta)
{
	uint64_t *rsp = &core->cpu.gpr[RSP], moved = *rsp + (uint64_t)delta;
	switch (core->mode & MODE_STACK) {
	case MODE_STACK64: *rsp = moved; break;
	case MODE_STACK32: *rsp = (uint32_t)moved; break;
	default: *(any16 *)rsp = (uint16_t)moved; break;
	}
}
