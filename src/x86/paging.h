/* SPDX-License-Identifier: MIT */
/* Linear addresses with rights that are not those of the running code: what the processor itself reads and writes. */
#pragma once
#include "x86/core.h"

static inline bool x86_canonical(uint64_t address)
{
	return (uint64_t)((int64_t)(address << 16) >> 16) == address;
}
/* In long mode an address beyond 48 bits exists but reaches nothing; elsewhere linear addresses have 32 bits. */
static inline bool x86_reachable(const struct x86_core *core, gva_t gva)
{
	return !(core->mode & MODE_LONG) || x86_canonical(gva);
}
static inline gva_t x86_linear_wrap(const struct x86_core *core, gva_t gva)
{
	return core->mode & MODE_LONG ? gva : (uint32_t)gva;
}

/* paging.c -- x86_walk with the rights of one TLB set: TLB_SUPERVISOR has no right to user pages under SMAP, as with
 * the implicit accesses to descriptor tables and the TSS (SDM 3A 4.6.1). */
bool x86_walk_as(struct x86_core *, gva_t, enum x86_access, enum tlb_kind, bool commit, struct x86_walk *);

/* tlb.c -- 1 to 8 bytes with the rights of one TLB set. All checks come before the first byte is written. */
uint64_t x86_load_as(struct x86_core *, const struct insn *i, gva_t, unsigned size, enum tlb_kind);
void x86_store_as(struct x86_core *, const struct insn *i, gva_t, unsigned size, uint64_t value, enum tlb_kind);
void x86_check_as(struct x86_core *, const struct insn *i, gva_t, unsigned size, enum x86_access, enum tlb_kind);
/* x86_rmw_begin with the rights of one TLB set. */
void *x86_rmw_begin_as(struct x86_core *, const struct insn *i, gva_t, unsigned size, gpa_t *traced, enum tlb_kind);
static inline enum tlb_kind x86_tlb_kind(const struct x86_core *core)
{
	return (enum tlb_kind)(core->tlb - core->tlbs);
}
