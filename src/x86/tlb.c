/* SPDX-License-Identifier: MIT */
/* The software TLB: filling, flushing, and the slow halves of the accesses in mem.h. SDM 3A 4.10, 4.6.
 *
 * The TLB has one set for each kind of rights, so an entry means "this access, with these rights, goes to this host
 * address". It is not tagged with a PCID: to keep less than the guest allows is always right. Entries of global
 * pages (the kernel's) stay when the address space changes. A flush must be cheap, since every such change is one: a
 * set logs the indices that were filled, those of global pages by themselves, and a flush looks only at those that it drops.
 *
 * What never enters the TLB, and so always comes here: devices, writes to ROM and to traced pages (decoded code),
 * first writes to a page whose D bit is clear, pages with a data breakpoint, and everything that needs an alignment
 * check. */
#include <string.h>
#include "x86/debug.h"
#include "x86/mem.h"
#include "x86/paging.h"

#define FETCH_EMPTY (TLB_INVALID | 2)
#define TRACED_VALID BIT(63) /* tells the gpa 0 from "not traced" in x86_rmw_begin */

/* Where one access, or the part of it that lies in one page, goes. */
struct target {
	uint8_t *host; /* NULL: a device */
	gpa_t gpa;
	bool traced;
};

static _Noreturn void page_fault(struct x86_core *core, const struct insn *i, gva_t gva, uint32_t error)
{
	core->cpu.cr2 = gva;
	x86_raise_error(core, i, VECTOR_PF, error);
}

static _Noreturn void not_canonical(struct x86_core *core, const struct insn *i)
{
	x86_raise_error(core, i, i && (i->flags & INSN_STACK_SEG) ? VECTOR_SS : VECTOR_GP, 0);
}

static unsigned index_of(gva_t gva)
{
	return (gva >> X86_PAGE_SHIFT) & (TLB_ENTRIES - 1);
}

static bool bit_of(const uint64_t *bitmap, unsigned index)
{
	return bitmap[index / 64] >> (index % 64) & 1;
}

static void note(struct tlb_set *set, bool global, unsigned index)
{
	if (global && (bit_of(set->global_read, index) || bit_of(set->global_write, index)))
		return;
	if (set->log[global].filled < TLB_LOG)
		set->log[global].index[set->log[global].filled] = (uint16_t)index;
	if (set->log[global].filled <= TLB_LOG)
		set->log[global].filled++;
}

static void fill(struct x86_core *core, enum tlb_kind kind, gva_t gva, bool write, bool global, uint8_t *page)
{
	struct tlb_set *set = &core->tlbs[kind];
	unsigned index = index_of(gva);
	struct tlb_entry *e = write ? &set->write[index] : &set->read[index];
	uint64_t *globals = write ? set->global_write : set->global_read, bit = BIT(index % 64);

	note(set, global, index);
	globals[index / 64] = global ? globals[index / 64] | bit : globals[index / 64] & ~bit;
	e->tag = gva & X86_PAGE_MASK;
	e->delta = (uint64_t)(uintptr_t)page - e->tag;
}

/* Of the filters, half the bits are for each half of the address space: a page of a program must not look like one of the kernel, whose code
 * costs more to lose. */
static uint64_t large_bit(gva_t gva)
{
	return BIT((gva >> 30 & 31) | gva >> 63 << 5);
}

/* Finds the target of an access within one page, with all checks but alignment; fills the TLB where it may. */
static void resolve(struct x86_core *core, const struct insn *i, gva_t gva, enum x86_access access, enum tlb_kind kind,
		    struct target *t)
{
	gva_t page = gva & X86_PAGE_MASK;
	struct x86_walk w;

	if (!x86_reachable(core, gva))
		not_canonical(core, i);
	if (!x86_walk_as(core, gva, access, kind, true, &w))
		page_fault(core, i, gva, w.error);
	t->gpa = w.gpa;
	t->traced = false;
	t->host = core->env->page(core, w.gpa & X86_PAGE_MASK, access, &t->traced);
	if (t->host && kind != TLB_USER_ALIGN && !(x86_debug_armed(core) && x86_debug_in_page(core, page))) {
		if (w.page_size > X86_PAGE_SIZE)
			core->large_filter[w.global] |= large_bit(gva);
		if (access == ACCESS_READ || !t->traced)
			fill(core, kind, gva, access != ACCESS_READ, w.global, t->host);
	}
	if (t->host)
		t->host += gva & ~X86_PAGE_MASK;
}

static bool crosses(gva_t gva, unsigned size)
{
	return (gva & ~X86_PAGE_MASK) + size > X86_PAGE_SIZE;
}

/* How many of the bytes lie in the page that gva is in. */
static unsigned in_page(gva_t gva, unsigned size)
{
	return (unsigned)MIN(size, X86_PAGE_SIZE - (gva & ~X86_PAGE_MASK));
}

static void check_alignment(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, enum tlb_kind kind)
{
	if (kind == TLB_USER_ALIGN && size <= 8 && (gva & (size - 1)))
		x86_raise_error(core, i, VECTOR_AC, 0);
}

/* Devices get accesses of 1, 2, 4 or 8 bytes only: other sizes (halves of page-crossing accesses, byte strings) go
 * in the largest aligned pieces. */
static unsigned piece(gpa_t gpa, unsigned size)
{
	unsigned part = 8;

	if (size == 8 || size == 4 || size == 2 || size == 1)
		return size;
	while (part > size || (gpa & (part - 1)))
		part >>= 1;
	return part;
}

static void target_read(struct x86_core *core, const struct target *t, void *data, unsigned size)
{
	if (t->host) {
		memcpy(data, t->host, size);
		return;
	}
	for (unsigned at = 0, part; at < size; at += part) {
		part = piece(t->gpa + at, size - at);
		core->stat.mmio++;
		uint64_t value = core->env->io_read(core, SPACE_MEMORY, t->gpa + at, part);
		memcpy((uint8_t *)data + at, &value, part);
	}
}

/* Around a store to a traced page: nothing in between may fault. */
static void storing(struct x86_core *core)
{
	__atomic_store_n(&core->storing, true, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* before the store itself, as the processor has it (SDM 3A 8.2.2) */
}

static void written(struct x86_core *core, gpa_t gpa, unsigned size)
{
	core->stat.smc_write++;
	core->env->written(core, gpa, size);
	__atomic_store_n(&core->storing, false, __ATOMIC_RELEASE);
}

static void target_write(struct x86_core *core, const struct target *t, const void *data, unsigned size)
{
	if (t->host) {
		if (t->traced)
			storing(core);
		memcpy(t->host, data, size);
		if (t->traced)
			written(core, t->gpa, size);
		return;
	}
	for (unsigned at = 0, part; at < size; at += part) {
		uint64_t value = 0;
		part = piece(t->gpa + at, size - at);
		memcpy(&value, (const uint8_t *)data + at, part);
		core->stat.mmio++;
		core->env->io_write(core, SPACE_MEMORY, t->gpa + at, part, value);
	}
}

/* One host access, so that other processors never see half of an aligned one. */
static uint64_t host_load(const void *at, unsigned size)
{
	switch (size) {
	case 1: return *(const volatile uint8_t *)at;
	case 2: return *(const volatile any16 *)at;
	case 4: return *(const volatile any32 *)at;
	default: return *(const volatile any64 *)at;
	}
}

static void host_store(void *at, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: *(volatile uint8_t *)at = (uint8_t)value; break;
	case 2: *(volatile any16 *)at = (uint16_t)value; break;
	case 4: *(volatile any32 *)at = (uint32_t)value; break;
	default: *(volatile any64 *)at = value; break;
	}
}

static void look(struct x86_core *core, gva_t gva, unsigned size, enum x86_access access)
{
	if (unlikely(x86_debug_armed(core)))
		x86_debug_access(core, gva, size, access);
}

/* An access that runs out of the canonical addresses is refused for that, whatever its first page says. */
static void check_end(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	if (!x86_reachable(core, x86_linear_wrap(core, gva + size - 1)))
		not_canonical(core, i);
}

uint64_t x86_load_as(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, enum tlb_kind kind)
{
	struct target t, next;
	uint64_t value = 0;

	gva = x86_linear_wrap(core, gva);
	void *hit = tlb_hit(core->tlbs[kind].read, gva, size);
	if (hit)
		return host_load(hit, size);
	core->stat.tlb_miss++;
	check_alignment(core, i, gva, size, kind);
	check_end(core, i, gva, size);
	resolve(core, i, gva, ACCESS_READ, kind, &t);
	if (likely(!crosses(gva, size))) {
		if (t.host)
			value = host_load(t.host, size);
		else
			target_read(core, &t, &value, size);
	} else {
		unsigned first = in_page(gva, size);
		resolve(core, i, x86_linear_wrap(core, gva + first), ACCESS_READ, kind, &next);
		target_read(core, &t, &value, first);
		target_read(core, &next, (uint8_t *)&value + first, size - first);
	}
	look(core, gva, size, ACCESS_READ);
	return value;
}

void x86_store_as(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, uint64_t value,
		  enum tlb_kind kind)
{
	struct target t, next;

	gva = x86_linear_wrap(core, gva);
	void *hit = tlb_hit(core->tlbs[kind].write, gva, size);
	if (hit) {
		host_store(hit, size, value);
		return;
	}
	core->stat.tlb_miss++;
	check_alignment(core, i, gva, size, kind);
	check_end(core, i, gva, size);
	resolve(core, i, gva, ACCESS_WRITE, kind, &t);
	if (likely(!crosses(gva, size))) {
		if (!t.host) {
			target_write(core, &t, &value, size);
		} else {
			if (t.traced)
				storing(core);
			host_store(t.host, size, value);
			if (t.traced)
				written(core, t.gpa, size);
		}
	} else {
		unsigned first = in_page(gva, size);
		resolve(core, i, x86_linear_wrap(core, gva + first), ACCESS_WRITE, kind, &next);
		target_write(core, &t, &value, first);
		target_write(core, &next, (uint8_t *)&value + first, size - first);
	}
	look(core, gva, size, ACCESS_WRITE);
}

uint64_t x86_load_slow(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	return x86_load_as(core, i, gva, size, x86_tlb_kind(core));
}

void x86_store_slow(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, uint64_t value)
{
	x86_store_as(core, i, gva, size, value, x86_tlb_kind(core));
}

uint64_t x86_load_system(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	return x86_load_as(core, i, gva, size, TLB_SUPERVISOR);
}

void x86_store_system(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, uint64_t value)
{
	x86_store_as(core, i, gva, size, value, TLB_SUPERVISOR);
}

void x86_check_as(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, enum x86_access access,
		  enum tlb_kind kind)
{
	struct target t;
	unsigned part;

	if (size)
		check_end(core, i, gva, size);
	for (; size; gva += part, size -= part) {
		gva = x86_linear_wrap(core, gva);
		part = in_page(gva, size);
		if (!tlb_hit(access == ACCESS_WRITE ? core->tlbs[kind].write : core->tlbs[kind].read, gva, part))
			resolve(core, i, gva, access, kind, &t);
	}
}

void x86_check_write(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	x86_check_as(core, i, gva, size, ACCESS_WRITE, x86_tlb_kind(core));
}

void x86_load_bytes(struct x86_core *core, const struct insn *i, gva_t gva, void *data, unsigned size)
{
	enum tlb_kind kind = x86_tlb_kind(core);
	gva_t from = gva = x86_linear_wrap(core, gva);
	struct target t;

	if (crosses(gva, size)) /* a device must not be read when the next page faults */
		x86_check_as(core, i, gva, size, ACCESS_READ, kind);
	for (unsigned at = 0, part; at < size; at += part) {
		part = in_page(gva, size - at);
		t.host = tlb_hit(core->tlbs[kind].read, gva, part);
		if (!t.host)
			resolve(core, i, gva, ACCESS_READ, kind, &t);
		target_read(core, &t, (uint8_t *)data + at, part);
		gva = x86_linear_wrap(core, gva + part);
	}
	look(core, from, size, ACCESS_READ);
}

void x86_store_bytes(struct x86_core *core, const struct insn *i, gva_t gva, const void *data, unsigned size)
{
	enum tlb_kind kind = x86_tlb_kind(core);
	gva_t from = gva = x86_linear_wrap(core, gva);
	struct target t;

	if (crosses(gva, size))
		x86_check_as(core, i, gva, size, ACCESS_WRITE, kind);
	for (unsigned at = 0, part; at < size; at += part) {
		part = in_page(gva, size - at);
		t.traced = false;
		t.host = tlb_hit(core->tlbs[kind].write, gva, part);
		if (!t.host)
			resolve(core, i, gva, ACCESS_WRITE, kind, &t);
		target_write(core, &t, (const uint8_t *)data + at, part);
		gva = x86_linear_wrap(core, gva + part);
	}
	look(core, from, size, ACCESS_WRITE);
}

void *x86_rmw_begin_as(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, gpa_t *traced,
		       enum tlb_kind kind)
{
	struct target t;

	*traced = 0;
	gva = x86_linear_wrap(core, gva);
	void *hit = tlb_hit(core->tlbs[kind].write, gva, size);
	if (hit)
		return hit;
	check_alignment(core, i, gva, size, kind);
	if (crosses(gva, size)) {
		x86_check_as(core, i, gva, size, ACCESS_WRITE, kind);
		return NULL;
	}
	core->stat.tlb_miss++;
	resolve(core, i, gva, ACCESS_WRITE, kind, &t);
	if (!t.host)
		return NULL;
	look(core, gva, size, ACCESS_WRITE);
	if (t.traced) {
		*traced = t.gpa | TRACED_VALID;
		storing(core);
	}
	return t.host;
}

void *x86_rmw_begin(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size, gpa_t *traced)
{
	return x86_rmw_begin_as(core, i, gva, size, traced, x86_tlb_kind(core));
}

void x86_rmw_done(struct x86_core *core, gpa_t traced, unsigned size)
{
	if (traced)
		written(core, traced & ~TRACED_VALID, size);
}

/* Fetching */

static unsigned filter_bit(gva_t gva)
{
	uint64_t page = gva >> X86_PAGE_SHIFT;
	return (unsigned)((page ^ page >> 10 ^ page >> 20) & (FETCH_FILTER_WORDS * 32 - 1)) + (unsigned)(gva >> 63) * FETCH_FILTER_WORDS * 32;
}

static void filter_add(struct x86_core *core, gva_t gva, bool global)
{
	core->fetch_filter[global][filter_bit(gva) / 64] |= BIT(filter_bit(gva) % 64);
}

static bool filter_has(const struct x86_core *core, gva_t gva, bool global)
{
	return core->fetch_filter[global][filter_bit(gva) / 64] & BIT(filter_bit(gva) % 64);
}

const struct fetch_entry *x86_fetch_page(struct x86_core *core, gva_t rip)
{
	gva_t page = rip & X86_PAGE_MASK, tag = page | (core->cpl == 3);
	struct fetch_entry *e = &core->fetch[(rip >> X86_PAGE_SHIFT) & (FETCH_ENTRIES - 1)];
	struct x86_walk w;
	bool traced = false;

	if (likely(e->tag == tag))
		return e;
	if (!x86_reachable(core, rip))
		x86_raise_error(core, NULL, VECTOR_GP, 0);
	if (!x86_walk_as(core, rip, ACCESS_FETCH, core->cpl == 3 ? TLB_USER : TLB_SUPERVISOR, true, &w))
		page_fault(core, NULL, rip, w.error);
	if (w.page_size > X86_PAGE_SIZE)
		core->large_filter[w.global] |= large_bit(rip);
	filter_add(core, rip, w.global);
	e->page = w.gpa & X86_PAGE_MASK;
	e->host = core->env->page(core, e->page, ACCESS_FETCH, &traced);
	e->global = w.global;
	core->supervisor_local |= !w.global && core->cpl != 3;
	e->tag = tag;
	return e;
}

/* Flushing */

static void drop(struct tlb_set *set, unsigned index, bool keep_global)
{
	if (!keep_global || !bit_of(set->global_read, index))
		set->read[index].tag = TLB_INVALID;
	if (!keep_global || !bit_of(set->global_write, index))
		set->write[index].tag = TLB_INVALID;
}

static void flush_log(struct tlb_set *set, bool global, bool keep_global)
{
	bool overflow = set->log[global].filled > TLB_LOG;
	unsigned looked_at = overflow ? TLB_ENTRIES : set->log[global].filled;

	for (unsigned n = 0; n < looked_at; n++)
		drop(set, overflow ? n : set->log[global].index[n], keep_global);
	set->log[global].filled = 0;
}

static void flush_set(struct tlb_set *set, bool keep_global)
{
	flush_log(set, false, keep_global);
	if (keep_global)
		return;
	flush_log(set, true, false);
	memset(set->global_read, 0, sizeof(set->global_read));
	memset(set->global_write, 0, sizeof(set->global_write));
}

static void flush_sets(struct x86_core *core, bool keep_global)
{
	for (unsigned kind = 0; kind < TLB_KINDS; kind++)
		flush_set(&core->tlbs[kind], keep_global);
	core->large_filter[0] = 0;
	if (!keep_global)
		core->large_filter[1] = 0;
}

static void flush_fetch(struct x86_core *core, bool keep_global)
{
	/* The filter of global pages stays with their code: an entry may have been evicted long before its code is. */
	memset(core->fetch_filter, 0, keep_global ? sizeof(core->fetch_filter[0]) : sizeof(core->fetch_filter));
	for (unsigned n = 0; n < FETCH_ENTRIES; n++)
		if (!keep_global || !core->fetch[n].global)
			core->fetch[n].tag = FETCH_EMPTY;
	core->mapping_generation++;
	if (!keep_global || core->supervisor_local)
		core->supervisor_generation++;
	core->supervisor_local = false;
	x86_code_key_update(core);
}

static void flush_page(struct x86_core *core, gva_t gva)
{
	for (unsigned kind = 0; kind < TLB_KINDS; kind++) {
		core->tlbs[kind].read[index_of(gva)].tag = TLB_INVALID;
		core->tlbs[kind].write[index_of(gva)].tag = TLB_INVALID;
	}
	if (filter_has(core, gva, true))
		flush_fetch(core, false);
	else if (filter_has(core, gva, false))
		flush_fetch(core, true);
}

void x86_tlb_flush(struct x86_core *core, enum x86_flush what, unsigned pcid, gva_t gva)
{
	bool elsewhere = (core->cpu.cr4 & CR4_PCIDE) && pcid != (core->cpu.cr3 & CR3_PCID);
	bool large = (core->large_filter[0] | core->large_filter[1]) & large_bit(gva);
	bool keep_global = what != FLUSH_ALL && what != FLUSH_PAGE;

	core->stat.tlb_flush++;
	if (elsewhere && (what == FLUSH_PAGE || what == FLUSH_PCID)) {
		/* This TLB holds nothing of other PCIDs: each switch to one flushes. */
	} else if (what == FLUSH_PAGE && !large) {
		flush_page(core, gva);
	} else {
		flush_sets(core, keep_global);
		flush_fetch(core, keep_global);
	}
	if (core->env->tlb_flush)
		core->env->tlb_flush(core, what, pcid, gva);
}

void x86_tlb_flush_writes(struct x86_core *core)
{
	x86_tlb_drop_writes(core);
	if (core->env->tlb_flush)
		core->env->tlb_flush(core, FLUSH_WRITES, 0, 0);
}

static void drop_writes(struct tlb_set *set, bool global)
{
	bool overflow = set->log[global].filled > TLB_LOG;
	unsigned looked_at = overflow ? TLB_ENTRIES : set->log[global].filled;

	for (unsigned n = 0; n < looked_at; n++)
		set->write[overflow ? n : set->log[global].index[n]].tag = TLB_INVALID;
}

void x86_tlb_drop_writes(struct x86_core *core)
{
	for (unsigned kind = 0; kind < TLB_KINDS; kind++) {
		drop_writes(&core->tlbs[kind], false);
		drop_writes(&core->tlbs[kind], true);
	}
}
