/* SPDX-License-Identifier: MIT */
/* Page table walks: no paging, 32-bit with PSE and PSE-36, PAE, and 4-level with 1 GiB pages. SDM 3A chapter 4.
 *
 * All modes are one loop. A mode is a table of levels: which address bits index the level, whether a large page may
 * end the walk there, and which bits of an entry must be zero. The rights of the levels are combined on the way
 * down; only when the access is allowed are the accessed and dirty bits written, each by one compare-exchange on the
 * host's view of the entry: when another processor or the guest changed an entry meanwhile, the walk starts again. */
#include <string.h>
#include "x86/paging.h"
#include "x86/features.h"

#define MAX_LEVELS 4

struct level {
	uint8_t shift, bits;   /* of the part of the address that indexes the table */
	bool may_be_large;     /* PS ends the walk here */
	uint64_t reserved;     /* bits of an entry that refers to a table, or to a 4 KiB page */
	uint64_t large_reserved;
};

struct step { /* one entry that a walk used */
	uint8_t *host;         /* NULL: not in memory */
	gpa_t gpa;
	uint64_t value;
	bool traced;
};

static uint64_t entry_read(struct x86_core *core, gpa_t gpa, unsigned size, struct step *s)
{
	s->gpa = gpa;
	s->traced = false;
	s->host = core->env->page(core, gpa & X86_PAGE_MASK, ACCESS_READ, &s->traced);
	if (!s->host)
		return s->value = core->env->io_read(core, SPACE_MEMORY, gpa, size);
	s->host += gpa & ~X86_PAGE_MASK;
	if (size == 8)
		s->value = __atomic_load_n((uint64_t *)s->host, __ATOMIC_RELAXED);
	else
		s->value = __atomic_load_n((uint32_t *)s->host, __ATOMIC_RELAXED);
	return s->value;
}

/* Sets bits in an entry. False: it changed since it was read. */
static bool entry_mark(struct x86_core *core, struct step *s, unsigned size, uint64_t bits)
{
	uint64_t wanted = s->value | bits;
	bool done;

	if (wanted == s->value || !s->host)
		return true;
	uint8_t *page = core->env->page(core, s->gpa & X86_PAGE_MASK, ACCESS_WRITE, &s->traced);
	if (!page)
		return true; /* page tables in ROM: the write is lost, as on a bus */
	void *at = page + (s->gpa & ~X86_PAGE_MASK);
	if (size == 8) {
		done = __atomic_compare_exchange_n((uint64_t *)at, &s->value, wanted, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	} else {
		uint32_t old = (uint32_t)s->value;
		done = __atomic_compare_exchange_n((uint32_t *)at, &old, (uint32_t)wanted, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	}
	if (done && s->traced)
		core->env->written(core, s->gpa, size);
	return done;
}

/* Address bits from the processor's width up to 51 do not exist. */
static uint64_t beyond_physical(const struct x86_core *core)
{
	return (BIT(52) - 1) & ~(BIT(core->model->physical_bits) - 1);
}

/* Fills levels from the root down, and the address of the root table. Returns how many there are. */
static unsigned levels_of(struct x86_core *core, struct level *l, gpa_t *root)
{
	const struct x86_cpu *cpu = &core->cpu;
	uint64_t reserved = beyond_physical(core) | (cpu->efer & EFER_NXE ? 0 : PTE_NX);

	if (!(cpu->cr4 & CR4_PAE)) {
		bool pse = cpu->cr4 & CR4_PSE;
		unsigned high = x86_has(core, FEATURE_PSE36) && core->model->physical_bits > 32
					? MIN(core->model->physical_bits, 40) - 32
					: 0;
		*root = cpu->cr3 & 0xfffff000;
		l[0] = (struct level){ 22, 10, pse, 0, 0x3fe000 & ~((BIT(high) - 1) << 13) };
		l[1] = (struct level){ 12, 10, false, 0, 0 };
		return 2;
	}
	if (!(cpu->efer & EFER_LMA)) {
		reserved |= 0x7ffULL << 52;
		l[0] = (struct level){ 21, 9, true, reserved, reserved | 0x1fe000 };
		l[1] = (struct level){ 12, 9, false, reserved, 0 };
		return 2;
	}
	bool huge = x86_has(core, FEATURE_PDPE1GB);
	*root = cpu->cr3 & (BIT(core->model->physical_bits) - 1) & X86_PAGE_MASK;
	l[0] = (struct level){ 39, 9, false, reserved | PTE_PS, 0 };
	l[1] = (struct level){ 30, 9, huge, reserved | (huge ? 0 : PTE_PS), reserved | 0x3fffe000 };
	l[2] = (struct level){ 21, 9, true, reserved, reserved | 0x1fe000 };
	l[3] = (struct level){ 12, 9, false, reserved, 0 };
	return 4;
}

/* The address that a leaf maps to, without the offset. */
static gpa_t leaf_address(uint64_t entry, unsigned shift, bool legacy)
{
	if (!legacy)
		return entry & (BIT(52) - 1) & ~(BIT(shift) - 1);
	if (shift == 22) /* PSE-36: address bits 39:32 stand in bits 20:13 */
		return (entry & 0xffc00000) | bits_get(entry, 13, 8) << 32;
	return entry & 0xfffff000;
}

static bool allowed(const struct x86_core *core, const struct x86_walk *w, enum x86_access access, enum tlb_kind kind)
{
	bool user = kind == TLB_USER || kind == TLB_USER_ALIGN;

	if (user && !w->user)
		return false;
	if (access == ACCESS_FETCH)
		return !w->nx && !(!user && w->user && (core->cpu.cr4 & CR4_SMEP));
	if (!user && w->user && kind == TLB_SUPERVISOR && (core->cpu.cr4 & CR4_SMAP))
		return false;
	return access == ACCESS_READ || w->writable || (!user && !(core->cpu.cr0 & CR0_WP));
}

static uint32_t error_of(const struct x86_core *core, enum x86_access access, enum tlb_kind kind)
{
	const struct x86_cpu *cpu = &core->cpu;
	uint32_t error = 0;

	if (access == ACCESS_WRITE)
		error |= PF_WRITE;
	if (kind == TLB_USER || kind == TLB_USER_ALIGN)
		error |= PF_USER;
	if (access == ACCESS_FETCH && ((cpu->cr4 & CR4_SMEP) || ((cpu->cr4 & CR4_PAE) && (cpu->efer & EFER_NXE))))
		error |= PF_FETCH;
	return error;
}

enum walk_result { WALK_OK, WALK_FAULT, WALK_AGAIN };

static enum walk_result walk_once(struct x86_core *core, gva_t gva, enum x86_access access, enum tlb_kind kind,
				  bool commit, struct x86_walk *w)
{
	bool legacy = !(core->cpu.cr4 & CR4_PAE), nxe = core->cpu.efer & EFER_NXE;
	unsigned size = legacy ? 4 : 8, depth = 0;
	struct level level[MAX_LEVELS];
	struct step step[MAX_LEVELS];
	gpa_t table = 0;
	unsigned levels = levels_of(core, level, &table);

	*w = (struct x86_walk){ .writable = true, .user = true };
	if (!legacy && !(core->cpu.efer & EFER_LMA)) {
		uint64_t pdpte = core->cpu.pdpte[gva >> 30 & 3];
		if (!(pdpte & PTE_P))
			goto not_present;
		table = pdpte & (BIT(52) - 1) & X86_PAGE_MASK;
	}
	for (;; depth++) {
		const struct level *l = &level[depth];
		uint64_t e = entry_read(core, table + bits_get(gva, l->shift, l->bits) * size, size, &step[depth]);
		bool large = l->may_be_large && (e & PTE_PS);

		if (!(e & PTE_P))
			goto not_present;
		if (e & (large ? l->large_reserved : l->reserved)) {
			w->error = PF_PRESENT | PF_RESERVED | error_of(core, access, kind);
			return WALK_FAULT;
		}
		w->writable &= !!(e & PTE_W);
		w->user &= !!(e & PTE_U);
		w->nx |= !legacy && nxe && (e & PTE_NX);
		if (large || depth == levels - 1) {
			w->page_size = BIT(l->shift);
			w->gpa = leaf_address(e, l->shift, legacy) | (gva & (w->page_size - 1));
			w->global = (e & PTE_G) && (core->cpu.cr4 & CR4_PGE);
			break;
		}
		table = legacy ? e & 0xfffff000 : e & (BIT(52) - 1) & X86_PAGE_MASK;
	}
	if (!allowed(core, w, access, kind)) {
		w->error = PF_PRESENT | error_of(core, access, kind);
		return WALK_FAULT;
	}
	w->dirty = step[depth].value & PTE_D;
	if (!commit)
		return WALK_OK;
	for (unsigned d = 0; d <= depth; d++)
		if (!entry_mark(core, &step[d], size, PTE_A | (d == depth && access == ACCESS_WRITE ? PTE_D : 0)))
			return WALK_AGAIN;
	w->dirty |= access == ACCESS_WRITE;
	return WALK_OK;

not_present:
	w->error = error_of(core, access, kind);
	return WALK_FAULT;
}

bool x86_walk_as(struct x86_core *core, gva_t gva, enum x86_access access, enum tlb_kind kind, bool commit,
		 struct x86_walk *w)
{
	enum walk_result result;

	if (!(core->cpu.cr0 & CR0_PG)) {
		*w = (struct x86_walk){ .gpa = (uint32_t)gva, .page_size = X86_PAGE_SIZE };
		w->writable = w->user = w->dirty = true;
		return true;
	}
	core->stat.walk++;
	do
		result = walk_once(core, gva, access, kind, commit, w);
	while (result == WALK_AGAIN);
	return result == WALK_OK;
}

bool x86_walk(struct x86_core *core, gva_t gva, enum x86_access access, bool user, bool commit, struct x86_walk *w)
{
	bool ac = core->cpl < 3 && (core->cpu.rflags & FLAG_AC);
	return x86_walk_as(core, gva, access, user ? TLB_USER : ac ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR, commit, w);
}

bool x86_peek(struct x86_core *core, gva_t gva, void *data, size_t size)
{
	uint8_t *to = data;

	while (size) {
		unsigned part = (unsigned)MIN(size, X86_PAGE_SIZE - (gva & ~X86_PAGE_MASK));
		struct x86_walk w;
		bool traced;
		if (!x86_reachable(core, gva) || !x86_walk_as(core, gva, ACCESS_READ, TLB_SUPERVISOR_AC, false, &w))
			return false;
		const uint8_t *page = core->env->page(core, w.gpa & X86_PAGE_MASK, ACCESS_READ, &traced);
		if (!page)
			return false;
		memcpy(to, page + (w.gpa & ~X86_PAGE_MASK), part);
		gva = x86_linear_wrap(core, gva + part);
		to += part;
		size -= part;
	}
	return true;
}

bool x86_load_pdptes(struct x86_core *core, uint64_t cr3)
{
	uint64_t reserved = beyond_physical(core) | 0x7ffULL << 52 | PTE_NX | 0x1e6, entry[4];
	struct step s;

	for (unsigned n = 0; n < 4; n++) {
		entry[n] = entry_read(core, (cr3 & 0xffffffe0) + 8 * n, 8, &s);
		if ((entry[n] & PTE_P) && (entry[n] & reserved))
			return false;
	}
	memcpy(core->cpu.pdpte, entry, sizeof(entry));
	return true;
}
