/* SPDX-License-Identifier: MIT */
/* The delta tables: from a linear page to what must be added to reach its host memory. docs/bt.md has the proof that nothing else is
 * reached.
 *
 * One table for each kind of rights. It is indexed by PEXT of bits 47 to 12 of the address, which is exact: two addresses with the same
 * index differ by a multiple of 2^48, so that the wrong one of them gives an address that is not canonical, and faults. An
 * access of 2, 4 or 8 bytes that must be aligned has its low bits as the upper bits of the index: if they are not zero,
 * the entry lies in a part of the table that is never filled. So an empty entry, which is zero, is what translated
 * code tests for (JRCXZ, which needs no flags), and tells a miss and a misaligned access at once.
 *
 * The right to write is told by which of two views of guest memory a delta leads to: the monitor's, or one that is mapped read-only.
 * A write through the latter faults, and the fault is where a clean page becomes dirty and a write to code is noticed. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/bt/bt.h"
#include "x86/paging.h"

#define TABLE_SIZE (BIT(36 + 3) * 8)
#define GUARD (64 * KiB)
#define EMPTY_MISSES_MAX 100000u     /* each may have made the host map a page of zeros */
#define SEVERAL ~0ULL

/* In front of each table is a view of struct bt_state, so that RSP, which is where they meet, reaches both. */
static int reserve(struct bt *bt, unsigned kind, int fd)
{
	uint8_t *p = mmap(NULL, GUARD + BT_STATE_SIZE + TABLE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	bt->view[kind] = (struct bt_state *)(p + GUARD);
	bt->table[kind] = (uint64_t *)(bt->view[kind] + 1);
	if (mmap(bt->view[kind], BT_STATE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) == MAP_FAILED ||
	    mprotect(bt->table[kind], TABLE_SIZE, PROT_READ | PROT_WRITE))
		return -errno;
	madvise(bt->table[kind], TABLE_SIZE, MADV_DONTDUMP);
	madvise(bt->table[kind], TABLE_SIZE, MADV_NOHUGEPAGE);
	return 0;
}

unsigned bt_table_room(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *p[BT_CPUS_MAX];
	unsigned room = 0;

	while (room < BT_CPUS_MAX && (p[room] = mmap(NULL, BT_KINDS * TABLE_SIZE, PROT_READ | PROT_WRITE, flags, -1, 0)) != MAP_FAILED)
		room++;
	for (unsigned n = 0; n < room; n++)
		munmap(p[n], BT_KINDS * TABLE_SIZE);
	return room;
}

static int reserve_all(struct bt *bt)
{
	int fd = memfd_create("doppel-bt", MFD_CLOEXEC), error = 0;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, BT_STATE_SIZE))
		error = -errno;
	for (unsigned kind = 0; !error && kind < BT_KINDS; kind++)
		error = reserve(bt, kind, fd);
	close(fd);
	bt->state = bt->view[0];
	return error;
}

int bt_table_init(struct bt *bt)
{
	struct memory *m = &bt->vcpu->vm->memory;
	int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, error = reserve_all(bt);

	if (error)
		return error;
	bt->local.entry = calloc(BT_LOG_MAX, sizeof(uint64_t));
	bt->global.entry = calloc(BT_LOG_MAX, sizeof(uint64_t));
	bt->writers_size = m->size / X86_PAGE_SIZE * sizeof(uint64_t);
	bt->writers = mmap(NULL, bt->writers_size, protection, flags, -1, 0);
	if (bt->writers == MAP_FAILED)
		bt->writers = NULL;
	bt->seen = calloc(m->size / MEMORY_POPULATED / 64 + 1, sizeof(uint64_t));
	return bt->local.entry && bt->global.entry && bt->writers && bt->seen ? 0 : -ENOMEM;
}

void bt_table_fini(struct bt *bt)
{
	for (unsigned kind = 0; kind < BT_KINDS; kind++)
		if (bt->view[kind])
			munmap((uint8_t *)bt->view[kind] - GUARD, GUARD + BT_STATE_SIZE + TABLE_SIZE);
	if (bt->writers)
		munmap(bt->writers, bt->writers_size);
	free(bt->local.entry);
	free(bt->global.entry);
	free(bt->seen);
}

static uint64_t index_of(gva_t gva)
{
	return gva >> X86_PAGE_SHIFT & (BIT(36) - 1);
}

static gva_t address_of(uint64_t index)
{
	return (gva_t)((int64_t)(index << 28) >> 16);
}

static uint64_t *entry_at(struct bt *bt, uint64_t logged)
{
	return &bt->table[logged & 3][logged >> 2];
}

static unsigned large_of(gva_t gva)
{
	return (unsigned)(gva >> 21 ^ gva >> 33) & (BT_LARGE_BITS - 1);
}

/* Everything, with what the host keeps for it. */
static void flush_all(struct bt *bt)
{
	bool release = bt->local.count == BT_LOG_MAX || bt->global.count == BT_LOG_MAX || bt->empty_misses >= EMPTY_MISSES_MAX;

	for (unsigned n = 0; !release && n < bt->local.count; n++)
		*entry_at(bt, bt->local.entry[n]) = 0;
	for (unsigned n = 0; !release && n < bt->global.count; n++)
		*entry_at(bt, bt->global.entry[n]) = 0;
	for (unsigned kind = 0; release && kind < BT_KINDS; kind++)
		madvise(bt->table[kind], TABLE_SIZE, MADV_DONTNEED);
	if (release)
		bt->empty_misses = 0;
	bt->local.count = bt->global.count = 0;
	memset(bt->large, 0, sizeof(bt->large));
	bt->huge = 0;
	bt->beyond_4g = false;
	bt->stat.table_flushes++;
}

static void flush_local(struct bt *bt)
{
	for (unsigned n = 0; n < bt->local.count; n++)
		*entry_at(bt, bt->local.entry[n]) = 0;
	bt->local.count = 0;
	bt->stat.table_flushes++;
}

void bt_table_flush(struct bt *bt, enum x86_flush what, gva_t gva)
{
	uint64_t first = index_of(gva), count = 1;

	if (what == FLUSH_ALL || what == FLUSH_WRITES || (what == FLUSH_PAGE && (bt->huge & BIT(gva >> 30 & 63)))) {
		flush_all(bt);
	} else if (what == FLUSH_PAGE) {
		if (bt->large[large_of(gva) / 64] & BIT(large_of(gva) % 64))
			first &= ~511ULL, count = 512;
		for (unsigned kind = 0; kind < BT_KINDS; kind++)
			for (uint64_t n = 0; n < count; n++)
				if (bt->table[kind][first + n])
					bt->table[kind][first + n] = 0;
		bt->stat.page_flushes++;
	} else {
		flush_local(bt);
	}
}

/* Does the entry let its page be written, where `page` is the host address of that in the monitor's view? */
static bool leads_to(struct bt *bt, uint64_t logged, const uint8_t *page)
{
	return *entry_at(bt, logged) + address_of(logged >> 2) == (uint64_t)(uintptr_t)page;
}

static void protect_in(struct bt *bt, const struct bt_log *log, const uint8_t *page)
{
	for (unsigned n = 0; n < log->count; n++)
		if (leads_to(bt, log->entry[n], page))
			*entry_at(bt, log->entry[n]) = 0;
}

void bt_table_protect(struct bt *bt, uint64_t number)
{
	const uint8_t *page = bt->vcpu->vm->memory.host + number * X86_PAGE_SIZE;
	uint64_t writer = bt->writers[number];

	if (writer == SEVERAL) {
		protect_in(bt, &bt->local, page);
		protect_in(bt, &bt->global, page);
	} else if (writer && leads_to(bt, writer - 1, page)) {
		*entry_at(bt, writer - 1) = 0;
	}
	bt->writers[number] = 0;
}

static void note_writer(struct bt *bt, uint64_t logged, const uint8_t *page)
{
	uint64_t *writer = &bt->writers[memory_offset(&bt->vcpu->vm->memory, page) >> X86_PAGE_SHIFT];

	if (*writer == logged + 1 || *writer == SEVERAL)
		return;
	*writer = *writer && leads_to(bt, *writer - 1, page) ? SEVERAL : logged + 1;
}

static void set(struct bt *bt, uint64_t logged, const uint8_t *page, bool global)
{
	struct bt_log *log = global ? &bt->global : &bt->local;
	uint64_t *entry = entry_at(bt, logged);

	if (!*entry) { /* else it is in a log already */
		if (log->count == BT_LOG_MAX)
			flush_all(bt);
		log->entry[log->count++] = logged;
	}
	bt->beyond_4g |= logged >> 2 >= BIT(32 - X86_PAGE_SHIFT);
	*entry = (uint64_t)(uintptr_t)page - address_of(logged >> 2);
}

/* As memory_populate, for the view that cannot be written. */
static void populate(struct bt *bt, uint64_t offset)
{
	uint64_t chunk = offset / MEMORY_POPULATED, *word = &bt->seen[chunk / 64], size = bt->vcpu->vm->memory.size - chunk * MEMORY_POPULATED;

	if (*word & BIT(chunk % 64))
		return;
	*word |= BIT(chunk % 64);
	madvise(bt->shared->ro + chunk * MEMORY_POPULATED, MIN(MEMORY_POPULATED, size), MADV_POPULATE_READ);
}

bool bt_table_fill(struct bt *bt, gva_t gva, bool write, bool *upgraded)
{
	struct x86_core *core = &bt->vcpu->core;
	struct memory *m = &bt->vcpu->vm->memory;
	enum tlb_kind kind = x86_tlb_kind(core);
	uint64_t logged = index_of(gva) << 2 | kind, old;
	struct x86_walk w;
	uint8_t *host;
	bool traced = false, may_write = write;

	*upgraded = bt->indirect = false;
	if (++bt->empty_misses >= EMPTY_MISSES_MAX)
		flush_all(bt);
	old = kind < BT_KINDS ? *entry_at(bt, logged) : 0;
	if (kind == TLB_USER && (gva & BIT(47)))
		return false; /* there lie the indices of 16-byte accesses of user code whose address ends in 1: docs/bt.md */
	if (kind >= BT_KINDS || !x86_reachable(core, gva) || !x86_walk_as(core, gva, write ? ACCESS_WRITE : ACCESS_READ, kind, true, &w))
		return false;
	host = core->env->page(core, w.gpa & X86_PAGE_MASK, write ? ACCESS_WRITE : ACCESS_READ, &traced);
	bt->indirect = write && (!host || traced);
	if (!host || bt->indirect)
		return false;
	/* A page that was written before is likely to be written again: then the right comes along. */
	if (!write && w.writable && w.dirty) {
		const struct memory_region *r = w.gpa - m->plain_start < m->plain_size ? NULL : memory_find(bt->vcpu->vm, w.gpa);
		uint64_t number = memory_offset(m, host) >> X86_PAGE_SHIFT;
		may_write = (!r || r->kind == MEMORY_RAM) &&
			    (page_bits_get(m, number) & (PAGE_DIRTY | PAGE_CODE | PAGE_TRANSLATED | PAGE_TRACED)) == PAGE_DIRTY;
	}
	if (w.page_size > X86_PAGE_SIZE)
		bt->large[large_of(gva) / 64] |= BIT(large_of(gva) % 64);
	if (w.page_size > 2 * MiB)
		bt->huge |= BIT(gva >> 30 & 63);
	if (may_write)
		memory_populate(m, memory_offset(m, host), 1);
	else
		populate(bt, memory_offset(m, host));
	set(bt, logged, may_write ? host : bt->shared->ro + memory_offset(m, host), w.global);
	if (may_write)
		note_writer(bt, logged, host);
	*upgraded = write && old && old != *entry_at(bt, logged);
	bt->empty_misses--;
	bt->stat.fills++;
	return true;
}
