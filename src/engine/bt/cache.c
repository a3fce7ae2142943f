/* SPDX-License-Identifier: MIT */
/* The code cache of a processor: finding, linking and dropping blocks. Host code is written one block after the other until the cache is full;
 * then the oldest goes (evict.c). A dropped block can no longer be found, but its code stays until then, so that what runs may end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "engine/bt/emit.h"
#include "util/log.h"
#include "util/pages.h"

int bt_cache_init(struct bt *bt)
{
	const int rw = PROT_READ | PROT_WRITE;

	/* Writable and executable at once: blocks are linked while they run, by the thread that runs them, and a second mapping for writing
	 * would be as writable for whoever could write here. */
	bt->code = pages_map(BT_CACHE_SIZE, rw | PROT_EXEC);
	if (bt->code && mprotect(bt->code + BT_CODE_SIZE, BT_CACHE_SIZE - BT_CODE_SIZE, rw))
		return -errno;
	bt->heat = bt->code ? (uint32_t *)(bt->code + BT_CODE_SIZE) : NULL;
	bt->target = bt->code ? (uint64_t *)(bt->heat + BT_BLOCKS_MAX) : NULL;
	bt->fast = pages_map(BT_FASTS_MAX * sizeof(*bt->fast), rw);
	bt->place = pages_map(BT_PLACES_MAX * sizeof(*bt->place), rw);
	bt->member = pages_map(BT_MEMBERS_MAX * sizeof(*bt->member), rw);
	bt->insn = pages_map(BT_INSNS_MAX * sizeof(*bt->insn), rw);
	bt->block = pages_map(BT_BLOCKS_MAX * sizeof(*bt->block), rw);
	bt->exit = pages_map(BT_EXITS_MAX * sizeof(*bt->exit), rw);
	bt->door = pages_map(BT_DOORS_MAX * sizeof(*bt->door), rw);
	bt->part_size = (uint32_t)align_down(bt->shared->cache_size / BT_PARTS, X86_PAGE_SIZE);
	bt_parts_begin(bt);
	bt->memo = x86_memo_new(bt->vcpu->core.model);
	return bt->memo && bt->code && bt->insn && bt->block && bt->exit && bt->door && bt->fast && bt->place && bt->member ? 0 : -ENOMEM;
}

static void free_pages(struct bt *bt)
{
	for (unsigned n = 0; n < ARRAY_SIZE(bt->pages); n++)
		for (struct bt_page *p; (p = bt->pages[n]);) {
			bt->pages[n] = p->next;
			free(p);
		}
}

void bt_cache_fini(struct bt *bt)
{
	free_pages(bt);
	x86_memo_free(bt->memo);
	pages_unmap(bt->code, BT_CACHE_SIZE);
	pages_unmap(bt->fast, BT_FASTS_MAX * sizeof(*bt->fast));
	pages_unmap(bt->place, BT_PLACES_MAX * sizeof(*bt->place));
	pages_unmap(bt->member, BT_MEMBERS_MAX * sizeof(*bt->member));
	pages_unmap(bt->insn, BT_INSNS_MAX * sizeof(*bt->insn));
	pages_unmap(bt->block, BT_BLOCKS_MAX * sizeof(*bt->block));
	pages_unmap(bt->exit, BT_EXITS_MAX * sizeof(*bt->exit));
	pages_unmap(bt->door, BT_DOORS_MAX * sizeof(*bt->door));
}

/* --- pages --- */

static struct bt_page **page_slot(struct bt *bt, gpa_t page)
{
	struct bt_page **at = &bt->pages[(page >> X86_PAGE_SHIFT) & (ARRAY_SIZE(bt->pages) - 1)];

	while (*at && (*at)->page != page)
		at = &(*at)->next;
	return at;
}

/* `host`: where a block is to be made from. */
static struct bt_page *page_get(struct bt *bt, gpa_t page, const uint8_t *host)
{
	struct bt_page **slot = page_slot(bt, page), *p = *slot;

	if (!p) {
		*slot = p = calloc(1, sizeof(*p));
		if (!p)
			return NULL;
		p->page = page;
	}
	p->host = !p->lines || p->host == host ? host : NULL;
	return p;
}

static uint64_t lines_of(uint64_t first, uint64_t last)
{
	first >>= 6, last >>= 6;
	return (~0ULL << first) & (~0ULL >> (63 - last));
}

/* --- finding --- */

static uint32_t *bucket_of(struct bt *bt, gpa_t gpa)
{
	return &bt->hash[bt_bucket(gpa)];
}

/* What a block may be like: for any address of its page, for this one only, or either. */
enum wanted { EITHER, HERE, ANYWHERE };

static uint64_t linear_of(const struct x86_core *core, uint64_t rip)
{
	return (core->mode & MODE_CODE) == MODE_CODE64 ? rip : (uint32_t)rip; /* flat: the base of CS is 0 */
}

/* The block at this address; *elsewhere: the same code was seen at another one. */
static struct bt_block *look_up(struct bt *bt, gpa_t gpa, uint64_t rip, uint32_t mode, enum wanted wanted, bool *elsewhere)
{
	struct x86_core *core = &bt->vcpu->core;

	for (uint32_t at = *bucket_of(bt, gpa); at; at = bt->block[at - 1].same_hash) {
		struct bt_block *b = &bt->block[at - 1];
		if (b->gpa != gpa || b->mode != mode)
			continue;
		*elsewhere |= b->rip != rip;
		if (b->anywhere ? wanted == HERE : b->rip != rip || wanted == ANYWHERE)
			continue;
		if (b->second != ~0ULL && x86_fetch_page(core, linear_of(core, (rip | (X86_PAGE_SIZE - 1)) + 1))->page != b->second)
			continue;
		return b->dead ? NULL : b; /* looking at its second page may have written a page table, and so code */
	}
	return NULL;
}

struct bt_block *bt_block_beside(struct bt *bt, const struct bt_block *from, uint64_t rip)
{
	gpa_t gpa = align_down(from->gpa, X86_PAGE_SIZE) | (rip & (X86_PAGE_SIZE - 1));

	for (uint32_t at = *bucket_of(bt, gpa); at; at = bt->block[at - 1].same_hash) {
		struct bt_block *b = &bt->block[at - 1];
		if (b->gpa == gpa && b->mode == from->mode && b->second == ~0ULL && b->anywhere == from->anywhere && b->rip == rip)
			return b->dead ? NULL : b;
	}
	return NULL;
}

void bt_cache_flush(struct bt *bt, enum bt_flush_cause cause)
{
	bt_fp_leave(bt); /* x87 state may name an instruction */
	for (unsigned n = 0; n < ARRAY_SIZE(bt->pages); n++)
		for (struct bt_page *p = bt->pages[n]; p; p = p->next)
			code_holder_remove(&bt->holder, p->page);
	free_pages(bt);
	memset(bt->hash, 0, sizeof(bt->hash));
	bt_jumps_clear_all(bt);
	bt_parts_begin(bt);
	bt->stat.flushes++;
	bt->stat.flushed_cache[cause]++;
	trace(code, "translations of cpu%u flushed", bt->vcpu->index);
}

static void insert(struct bt *bt, struct bt_block *b, struct bt_page *first, struct bt_page *second)
{
	uint32_t number = (uint32_t)(b - bt->block) + 1, *bucket = bucket_of(bt, b->gpa);
	unsigned offset = b->gpa & (X86_PAGE_SIZE - 1);

	bt->stat.guest_bytes += b->bytes;
	b->same_hash = *bucket;
	*bucket = number;
	b->same_page = first->first;
	if (b->same_page)
		bt->block[b->same_page - 1].before_page = number;
	first->first = number;
	first->lines |= lines_of(offset, MIN(offset + b->bytes, X86_PAGE_SIZE) - 1);
	if (second) {
		b->same_second = second->seconds;
		if (b->same_second)
			bt->block[b->same_second - 1].before_second = number;
		second->seconds = number;
		second->lines |= lines_of(0, MAX(offset + b->bytes, X86_PAGE_SIZE + 1) - X86_PAGE_SIZE - 1);
	}
}

static bool full(const struct bt *bt)
{
	return bt->code_used + BT_BLOCK_ROOM > bt->end.code || bt->insns + BT_BLOCK_INSNS > bt->end.insn || bt->blocks == bt->end.block ||
	       bt->exits + 2 * BT_BLOCK_MAX > bt->end.exit || bt->doors == bt->end.door;
}

/* The instruction at RIP continues on the next page. */
static struct bt_block *build_crossing(struct bt *bt, struct bt_block *b, const struct fetch_entry *first)
{
	struct x86_core *core = &bt->vcpu->core;
	unsigned offset = b->gpa & (X86_PAGE_SIZE - 1), n = (unsigned)X86_PAGE_SIZE - offset;
	struct fetch_entry second = *x86_fetch_page(core, linear_of(core, (core->cpu.gpr[X86_GPR_RIP] | (X86_PAGE_SIZE - 1)) + 1));
	uint8_t bytes[32] __attribute__((aligned(8)));

	if (!second.host || !memory_find(bt->vcpu->vm, second.page))
		return NULL;
	code_holder_add(&bt->holder, second.page);
	code_holder_add(&bt->holder, first->page); /* the fetch may have written to it, and it was given up */
	x86_code_copy(bytes, first->host + offset, n);
	x86_code_copy(bytes + n, second.host, 15);
	b->second = second.page;
	struct bt_page *p = page_get(bt, first->page, first->host), *q = page_get(bt, second.page, second.host);
	if (!p || !q || !bt_translate(bt, b, bytes, n + 15))
		return NULL;
	bt->blocks++;
	insert(bt, b, p, q);
	return b;
}

static struct bt_block *build(struct bt *bt, const struct fetch_entry *entry, gpa_t gpa, enum wanted wanted, bool elsewhere)
{
	struct x86_core *core = &bt->vcpu->core;
	unsigned offset = gpa & (X86_PAGE_SIZE - 1);

	code_holder_add(&bt->holder, entry->page); /* watched first, then read */
	struct bt_block *b = &bt->block[bt->blocks];
	*b = (struct bt_block){ .gpa = gpa, .second = ~0ULL, .rip = core->cpu.gpr[X86_GPR_RIP], .mode = (uint16_t)core->mode };
	struct bt_page *page = page_get(bt, entry->page, entry->host);
	if (!page)
		return NULL;
	page->anywhere |= wanted != HERE && elsewhere;
	b->anywhere = wanted == ANYWHERE || (wanted == EITHER && page->anywhere);
	if (b->anywhere) {
		page->linear = page->linear ? page->linear : b->rip & X86_PAGE_MASK;
		b->rip = page->linear + offset;
	}
	bt->stat.anywhere += b->anywhere;
	if (!bt_translate(bt, b, entry->host + offset, (unsigned)X86_PAGE_SIZE - offset))
		return build_crossing(bt, b, entry);
	bt->blocks++;
	insert(bt, b, page, NULL);
	return b;
}

struct bt_block *bt_block_get(struct bt *bt, const struct bt_block *from)
{
	struct x86_core *core = &bt->vcpu->core;
	uint64_t rip = core->cpu.gpr[X86_GPR_RIP], at = linear_of(core, rip);
	struct fetch_entry entry = *x86_fetch_page(core, at);
	gpa_t gpa = entry.page + (at & (X86_PAGE_SIZE - 1));
	uint32_t mode = core->mode;
	enum wanted wanted = !bt_may_float(rip, mode) ? HERE : !from ? EITHER : from->anywhere ? ANYWHERE : HERE;
	bool elsewhere = false;
	struct bt_block *b;

	__builtin_prefetch(entry.host + (at & (X86_PAGE_SIZE - 1)));
	if (full(bt))
		bt_parts_advance(bt);
	b = look_up(bt, gpa, rip, mode, wanted, &elsewhere);
	if (b)
		return b;
	if (!entry.host || !memory_find(bt->vcpu->vm, entry.page))
		return NULL;
	bt_phase_set(bt, BT_TRANSLATING);
	b = build(bt, &entry, gpa, wanted, elsewhere);
	bt_phase_set(bt, BT_ENGINE);
	return b;
}

static struct bt_insn *insn_in_fast(struct bt *bt, unsigned part, uint32_t offset)
{
	uint32_t low = bt_part_start(bt, part).fast, high = bt_part_end(bt, part).fast;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (bt->fast[middle].code <= offset)
			low = middle;
		else
			high = middle;
	}
	if (high <= low || offset < bt->fast[low].code || offset >= bt->fast[low].code_end)
		return NULL;
	for (unsigned n = bt->fast[low].places; n--;)
		if (bt->place[bt->fast[low].place + n].code <= offset)
			return &bt->insn[bt->place[bt->fast[low].place + n].insn];
	return NULL;
}

static struct bt_insn *insn_in_plain(struct bt *bt, unsigned part, uint32_t offset)
{
	uint32_t low = bt_part_start(bt, part).block, high = bt_part_end(bt, part).block;

	while (high - low > 1) {
		uint32_t middle = low + (high - low) / 2;
		if (bt->block[middle].code <= offset)
			low = middle;
		else
			high = middle;
	}
	if (high <= low || offset >= bt->block[low].code_end)
		return NULL;
	for (unsigned n = bt->block[low].count; n--;)
		if (bt->insn[bt->block[low].insn + n].code <= offset)
			return &bt->insn[bt->block[low].insn + n];
	return NULL;
}

struct bt_insn *bt_insn_at(struct bt *bt, uint32_t offset)
{
	unsigned part = offset / bt->part_size;
	struct bt_insn *rec = part < BT_PARTS ? insn_in_fast(bt, part, offset) : NULL;

	return rec || part >= BT_PARTS ? rec : insn_in_plain(bt, part, offset);
}

/* --- linking --- */

static void patch(struct bt *bt, uint32_t where, uint32_t target)
{
	struct emit e = { .base = bt->code };
	emit_patch(&e, where, target);
}

/* Who goes on ahead comes to an end of it, so only what leads back looks whether it shall leave. */
static void lead(struct bt *bt, const struct bt_exit *exit, const struct bt_block *to)
{
	patch(bt, exit->patch, bt->counting || exit->polls || to->gpa <= bt->block[exit->block].gpa ? to->entry : to->body);
}

void bt_exit_link(struct bt *bt, struct bt_exit *exit, struct bt_block *to)
{
	exit->to = (uint32_t)(to - bt->block) + 1;
	exit->next = to->incoming;
	to->incoming = (uint32_t)(exit - bt->exit) + 1;
	lead(bt, exit, to);
	bt->stat.links++;
}

void bt_entries_set(struct bt *bt, struct bt_block *b, uint32_t jump_entry, uint32_t entry, uint32_t body)
{
	void **jump = &bt->state->jumps[b->mode & MODE_USER ? 0 : 1][bt_jump_slot(b->rip)];

	if (b->in_table && *jump == bt->code + b->jump_entry)
		*jump = bt->code + jump_entry;
	b->jump_entry = jump_entry;
	b->entry = entry;
	b->body = body;
	for (uint32_t at = b->incoming; at; at = bt->exit[at - 1].next)
		lead(bt, &bt->exit[at - 1], b);
	bt_doors_lead(bt, b);
}

/* --- dropping --- */

void bt_exit_unlink(struct bt *bt, uint32_t exit)
{
	uint32_t *at;

	if (!bt->exit[exit].to)
		return;
	for (at = &bt->block[bt->exit[exit].to - 1].incoming; *at != exit + 1; at = &bt->exit[*at - 1].next)
		;
	*at = bt->exit[exit].next;
	bt->exit[exit].to = 0;
}

/* Exits in this range go as well, and need not lead elsewhere. */
static void kill_block(struct bt *bt, struct bt_block *b, const struct bt_fill *first, const struct bt_fill *end)
{
	void **jump = &bt->state->jumps[b->mode & MODE_USER ? 0 : 1][bt_jump_slot(b->rip)];
	uint32_t *bucket = bucket_of(bt, b->gpa), number = (uint32_t)(b - bt->block) + 1;

	while (*bucket != number)
		bucket = &bt->block[*bucket - 1].same_hash;
	*bucket = b->same_hash;
	for (uint32_t at = b->incoming; at; at = bt->exit[at - 1].next) {
		bt->exit[at - 1].to = 0;
		if (at - 1 < first->exit || at - 1 >= end->exit)
			patch(bt, bt->exit[at - 1].patch, bt->exit[at - 1].stub);
	}
	b->incoming = 0;
	bt_traces_drop(bt, b);
	bt_doors_close(bt, b);
	if (b->in_table && *jump == bt->code + b->jump_entry)
		*jump = (void *)(uintptr_t)bt_dispatch_entry;
	b->dead = true;
}

static void remove_from_pages(struct bt *bt, struct bt_block *b)
{
	struct bt_page *first = *page_slot(bt, align_down(b->gpa, X86_PAGE_SIZE)), *second = b->second == ~0ULL ? NULL : *page_slot(bt, b->second);

	*(b->before_page ? &bt->block[b->before_page - 1].same_page : &first->first) = b->same_page;
	if (b->same_page)
		bt->block[b->same_page - 1].before_page = b->before_page;
	if (!second)
		return;
	*(b->before_second ? &bt->block[b->before_second - 1].same_second : &second->seconds) = b->same_second;
	if (b->same_second)
		bt->block[b->same_second - 1].before_second = b->before_second;
}

/* How many went. */
static unsigned drop_in_page(struct bt *bt, struct bt_page *p, uint64_t first, uint64_t last)
{
	const struct bt_fill none = { 0 };
	unsigned dropped = 0;

	p->lines = 0;
	for (uint32_t at = p->first, next; at; at = next) {
		struct bt_block *b = &bt->block[at - 1];
		uint64_t start = b->gpa & (X86_PAGE_SIZE - 1), end = MIN(start + b->bytes, X86_PAGE_SIZE) - 1;
		next = b->same_page;
		if (start > last || end < first) {
			p->lines |= lines_of(start, end);
			continue;
		}
		remove_from_pages(bt, b);
		kill_block(bt, b, &none, &none);
		dropped++;
	}
	for (uint32_t at = p->seconds, next; at; at = next) {
		struct bt_block *b = &bt->block[at - 1];
		uint64_t start = b->gpa & (X86_PAGE_SIZE - 1), end = MAX(start + b->bytes, X86_PAGE_SIZE + 1) - X86_PAGE_SIZE - 1;
		next = b->same_second;
		if (end < first) {
			p->lines |= lines_of(0, end);
			continue;
		}
		remove_from_pages(bt, b);
		kill_block(bt, b, &none, &none);
		dropped++;
	}
	p->anywhere &= p->lines != 0;
	return dropped;
}

static void forget_if_empty(struct bt *bt, gpa_t page)
{
	struct bt_page **slot = page_slot(bt, page), *p = *slot;

	if (!p || p->first || p->seconds)
		return;
	code_holder_remove(&bt->holder, page);
	*slot = p->next;
	free(p);
}

void bt_block_evict(struct bt *bt, struct bt_block *b, const struct bt_fill *first, const struct bt_fill *end)
{
	remove_from_pages(bt, b);
	kill_block(bt, b, first, end);
	bt->stat.evicted++;
	forget_if_empty(bt, align_down(b->gpa, X86_PAGE_SIZE));
	if (b->second != ~0ULL)
		forget_if_empty(bt, b->second);
}

void bt_invalidate(struct bt *bt, gpa_t gpa, uint64_t len)
{
	while (len) {
		gpa_t page = align_down(gpa, X86_PAGE_SIZE);
		uint64_t first = gpa - page, n = MIN(len, X86_PAGE_SIZE - first);
		struct bt_page *p = *page_slot(bt, page);
		if (p && (p->lines & lines_of(first, first + n - 1))) {
			bt->stat.invalidated += drop_in_page(bt, p, first, first + n - 1);
			trace(code, "page %#lx: bytes %#lx to %#lx changed", page, first, first + n - 1);
		}
		if (!p || !p->lines)
			code_holder_remove(&bt->holder, page);
		gpa += n;
		len -= n;
	}
}

/* What is held was watched all the time. If somebody wrote to memory between two changes of the map, one of which may have undone the other, all goes instead. */
void bt_pages_moved(struct bt *bt)
{
	for (unsigned n = 0; n < ARRAY_SIZE(bt->pages); n++)
		for (struct bt_page *p = bt->pages[n]; p; p = p->next)
			if (!p->host || p->host != memory_host(bt->vcpu->vm, p->page, X86_PAGE_SIZE) || !code_holder_has(&bt->holder, p->page))
				bt_invalidate(bt, p->page, X86_PAGE_SIZE);
	bt->stat.maps++;
}
