/* SPDX-License-Identifier: MIT */
/* The decode cache: building, finding and dropping traces. See trace.h for the idea. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "engine/interp/trace.h"
#include "util/log.h"
#include "x86/exec.h"
#include "vm/debugger.h"

/* Decoded code of one processor: 24 MiB, which is what a boot of Linux with its first programs decodes. Further processors add 8 MiB each, and
 * all share alike: they run much the same code, and the monitor shall stay small. */
#define ARENA_FIRST (24 * MiB)
#define ARENA_FURTHER (8 * MiB)

/* Guest-physical addresses have up to 48 bits here, modes 15. */
static uint64_t trace_tag(gpa_t gpa, uint32_t mode)
{
	return gpa | (uint64_t)mode << 48;
}

static struct trace_bucket *bucket_of(struct interp *in, uint64_t tag)
{
	return &in->hash[tag * 0x9e3779b97f4a7c15ULL >> (64 - HASH_BITS)];
}

static struct code_page **page_slot(struct interp *in, gpa_t page)
{
	struct code_page **at = &in->pages[(page >> X86_PAGE_SHIFT) & ((1 << PAGE_HASH_BITS) - 1)];
	while (*at && (*at)->page != page)
		at = &(*at)->next;
	return at;
}

int trace_cache_init(struct interp *in, struct vcpu *vcpu)
{
	in->vcpu = vcpu;
	in->size = align_down((ARENA_FIRST + ARENA_FURTHER * (vcpu->vm->config.cpus - 1)) / vcpu->vm->config.cpus, X86_PAGE_SIZE);
	in->arena = mmap(NULL, in->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (in->arena == MAP_FAILED)
		return -ENOMEM;
	code_holder_init(&in->holder, vcpu->vm->engine_data[INTERP_SLOT], vcpu);
	return 0;
}

void trace_cache_fini(struct interp *in)
{
	code_holder_fini(&in->holder);
	munmap(in->arena, in->size);
}

static void *arena_take(struct interp *in, size_t size)
{
	size = align_up(size, 16);
	if (in->used + size > in->size)
		return NULL;
	void *p = in->arena + in->used;
	in->used += size;
	return p;
}

/* Forgets everything. Only where no trace runs: the memory is used again at once. */
void trace_flush(struct interp *in)
{
	for (unsigned n = 0; n < ARRAY_SIZE(in->pages); n++)
		for (struct code_page *p = in->pages[n]; p; p = p->next)
			code_holder_remove(&in->holder, p->page);
	memset(in->jump, 0, sizeof(in->jump));
	memset(in->hash, 0, sizeof(in->hash));
	memset(in->pages, 0, sizeof(in->pages));
	in->used = 0;
	in->stat.flushes++;
	trace(code, "decode cache of vcpu %u flushed", in->vcpu->index);
}

/* The bookkeeping of a page; NULL when the arena is full. */
static struct code_page *page_get(struct interp *in, gpa_t page)
{
	struct code_page **slot = page_slot(in, page), *p = *slot;
	if (!p) {
		p = arena_take(in, sizeof(*p));
		if (!p)
			return NULL;
		*p = (struct code_page){ .page = page };
		*slot = p;
	}
	return p;
}

static uint64_t lines_of(uint64_t first, uint64_t last)
{
	first >>= 6, last >>= 6;
	return (~0ULL << first) & (~0ULL >> (63 - last));
}

/* Bytes at RIP that continue behind the page end: up to 15, from both pages. Returns how many there are. */
static unsigned fetch_across(struct interp *in, uint64_t rip, const struct fetch_entry *entry, uint8_t *bytes, gpa_t *second)
{
	struct x86_core *core = &in->vcpu->core;
	unsigned offset = rip & (X86_PAGE_SIZE - 1), n = MIN(15, (unsigned)X86_PAGE_SIZE - offset);
	if (entry->host)
		x86_code_copy(bytes, entry->host + offset, n);
	else
		memset(bytes, 0xff, n);
	*second = ~0ULL;
	if (n == 15)
		return n;
	/* Only an instruction that needs the next page may fault there. */
	struct insn probe = { .offset = 0 };
	if (x86_decode(&probe, bytes, n, core->mode, core->model))
		return n;
	uint64_t next = (rip | (X86_PAGE_SIZE - 1)) + 1;
	if ((core->mode & MODE_CODE) != MODE_CODE64)
		next = (uint32_t)next;
	const struct fetch_entry *more = x86_fetch_page(core, next);
	*second = more->page;
	if (more->host)
		x86_code_copy(bytes + n, more->host, 15 - n);
	else
		memset(bytes + n, 0xff, 15 - n);
	return 15;
}

/* Where the next instruction byte is: RIP, with the base of CS outside 64-bit code. #GP beyond the limit. */
static uint64_t linear_rip(struct x86_core *core)
{
	uint64_t rip = core->cpu.gpr[X86_GPR_RIP];
	if ((core->mode & MODE_CODE) == MODE_CODE64)
		return rip;
	if (rip > core->cpu.seg[SEG_CS].limit)
		x86_raise_error(core, NULL, VECTOR_GP, 0);
	return (uint32_t)(rip + core->cpu.seg[SEG_CS].base);
}

/* How many bytes may be decoded from RIP on: outside 64-bit code a trace stops at the limit of CS, and what is behind it raises. */
static uint64_t code_room(const struct x86_core *core)
{
	if ((core->mode & MODE_CODE) == MODE_CODE64)
		return X86_PAGE_SIZE;
	return (uint64_t)core->cpu.seg[SEG_CS].limit - core->cpu.gpr[X86_GPR_RIP] + 1;
}

void trace_decode_one(struct interp *in, struct insn *i)
{
	struct x86_core *core = &in->vcpu->core;
	uint64_t at = linear_rip(core);
	const struct fetch_entry *entry = x86_fetch_page(core, at);
	uint8_t bytes[16];
	gpa_t second;
	unsigned n = fetch_across(in, at, entry, bytes, &second);
	code_holder_settle(&in->holder);
	i->offset = 0;
	i->index = 0;
	if (x86_decode(i, bytes, n, core->mode, core->model) > code_room(core))
		x86_raise_error(core, NULL, VECTOR_GP, 0);
}

static void link_trace(struct interp *in, struct trace *t, struct code_page *page, struct code_page *second)
{
	unsigned first = t->gpa & (X86_PAGE_SIZE - 1);
	struct trace_bucket *bucket = bucket_of(in, t->tag);
	t->same_hash = bucket->first;
	*bucket = (struct trace_bucket){ t->tag, t };
	t->same_page = page->first;
	page->first = t;
	page->lines |= lines_of(first, MIN(first + t->bytes, X86_PAGE_SIZE) - 1);
	if (second) {
		t->same_second = second->seconds;
		second->seconds = t;
		second->lines |= lines_of(0, first + t->bytes - X86_PAGE_SIZE - 1);
	}
}

static bool ends_trace(const struct insn *i)
{
	const struct x86_op_info *op = &x86_ops[i->op];
	return (op->klass & CLASS_CONTROL) || op->translate == XLATE_END || i->op == X86_OP_INVALID;
}

/* One instruction that continues on the next page, or where there is no memory. */
static void build_crossing(struct interp *in, struct trace *t, uint64_t at, const struct fetch_entry *entry)
{
	struct x86_core *core = &in->vcpu->core;
	struct fetch_entry first = *entry;
	uint8_t buffer[16];
	unsigned n;
	bool again;

	/* Looking at the second page marks it accessed, and its page table entry may lie in the first: what was decoded there is then
	 * given up. Both pages must be watched before the bytes are read. */
	do {
		n = fetch_across(in, at, &first, buffer, &t->second);
		again = first.host && code_holder_add(&in->holder, first.page);
		again |= t->second != ~0ULL && code_holder_add(&in->holder, t->second);
	} while (again);
	t->bytes = (uint16_t)x86_decode(&t->insn[0], buffer, n, core->mode, core->model);
	if (t->bytes > code_room(core))
		x86_raise_error(core, NULL, VECTOR_GP, 0);
	t->count = 1;
	t->crosses = (at & (X86_PAGE_SIZE - 1)) + t->bytes > X86_PAGE_SIZE;
}

/* As many instructions as the page, the mode and TRACE_MAX allow; maybe none. */
static void build_straight(struct trace *t, const struct x86_core *core, const uint8_t *host, uint64_t at)
{
	const struct vm *vm = container_of(core, struct vcpu, core)->vm;
	unsigned offset = at & (X86_PAGE_SIZE - 1);
	uint64_t room = code_room(core);
	bool ends = false;

	while (t->count < TRACE_MAX && !ends && offset + t->bytes < X86_PAGE_SIZE && t->bytes < room) {
		struct insn *i = &t->insn[t->count];
		if (unlikely(vm->debugger != NULL) && t->count && debugger_between(vm, at + t->bytes, at + t->bytes + 1))
			break;
		i->offset = t->bytes;
		i->index = t->count;
		uint8_t bytes[15];
		unsigned n = x86_code_copy(bytes, host + offset + t->bytes, (unsigned)X86_PAGE_SIZE - offset - t->bytes);
		n = x86_decode(i, bytes, n, core->mode, core->model);
		if (!n || t->bytes + n > room)
			break;
		t->bytes += (uint16_t)n;
		t->count++;
		ends = ends_trace(i);
	}
}

/* Decodes from RIP on. The result is not linked when its page cannot be watched for writes (no RAM or ROM): it then runs once. */
static struct trace *build(struct interp *in, uint64_t at, const struct fetch_entry *entry)
{
	struct x86_core *core = &in->vcpu->core;
	unsigned offset = at & (X86_PAGE_SIZE - 1);
	gpa_t page = entry->page;
	bool ram = entry->host != NULL;

	if (in->used + sizeof(struct trace) + (TRACE_MAX + 1) * sizeof(struct insn) + 3 * sizeof(struct code_page) > in->size)
		trace_flush(in);
	if (ram) /* watched first, then read: a write in between is seen */
		code_holder_add(&in->holder, page);
	struct trace *t = (struct trace *)(in->arena + in->used);
	memset(t, 0, sizeof(*t));
	t->gpa = page + offset;
	t->mode = core->mode & ~(uint32_t)MODE_USER;
	t->tag = trace_tag(t->gpa, t->mode);
	t->insn[0].offset = t->insn[0].index = 0;
	if (ram)
		build_straight(t, core, entry->host, at);
	if (!t->count)
		build_crossing(in, t, at, entry);
	code_holder_settle(&in->holder);

	struct insn *end = &t->insn[t->count];
	memset(end, 0, sizeof(*end));
	end->exec = x86_ops[t->insn[t->count - 1].op].klass & CLASS_CONTROL ? interp_chain : interp_fall;
	end->offset = t->bytes;
	end->index = t->count;
	in->stat.decoded += t->count;
	in->stat.traces++;
	if (!ram || (t->crosses && !memory_find(in->vcpu->vm, t->second)))
		return t; /* in the arena's free room: good until the next one is built */
	in->used += align_up(sizeof(*t) + (t->count + 1u) * sizeof(struct insn), 16);
	link_trace(in, t, page_get(in, page), t->crosses ? page_get(in, t->second) : NULL);
	t->linked = true;
	return t;
}

/* Does t, which was decoded from these bytes in this mode, still hold here? */
static bool fits(struct x86_core *core, const struct trace *t, uint64_t at)
{
	bool code64 = (t->mode & MODE_CODE) == MODE_CODE64;
	if (t->crosses) {
		uint64_t next = (at | (X86_PAGE_SIZE - 1)) + 1;
		if (x86_fetch_page(core, code64 ? next : (uint32_t)next)->page != t->second)
			return false;
	}
	const struct vm *vm = container_of(core, struct vcpu, core)->vm;
	if (unlikely(vm->debugger != NULL) && debugger_between(vm, at + 1, at + t->bytes))
		return false; /* decoded through another mapping, where there is no breakpoint */
	/* One that was decoded under a larger limit of CS is not this one. */
	return code64 || core->cpu.gpr[X86_GPR_RIP] + t->bytes - 1 <= core->cpu.seg[SEG_CS].limit;
}

struct trace *trace_get(struct interp *in)
{
	struct x86_core *core = &in->vcpu->core;
	uint64_t at = linear_rip(core);
	const struct fetch_entry *entry = x86_fetch_page(core, at);
	uint64_t tag = trace_tag(entry->page + (at & (X86_PAGE_SIZE - 1)), core->mode & ~(uint32_t)MODE_USER);
	struct trace_bucket *bucket = bucket_of(in, tag);
	in->stat.lookups++;
	for (struct trace **link = &bucket->first, *t; (t = *link); link = &t->same_hash) {
		if ((t == bucket->first ? bucket->tag : t->tag) != tag)
			continue;
		uint64_t before = in->stat.invalidated;
		bool holds = fits(core, t, at);
		if (in->stat.invalidated != before)
			return trace_get(in); /* marking its second page accessed was a write to code: the list is another */
		if (!holds)
			continue;
		*link = t->same_hash; /* to the front: it will be asked for again */
		t->same_hash = bucket->first;
		*bucket = (struct trace_bucket){ tag, t };
		in->stat.hash_hits++;
		return t;
	}
	return build(in, at, x86_fetch_page(core, at));
}

static void dead(struct x86_core *core, const struct insn *i)
{
	/* Its trace was dropped while, or before, it ran: RIP becomes exact, the engine looks again. */
	core->cpu.gpr[X86_GPR_RIP] += i->offset;
	core->icount += i->index;
}

static void dead_end(struct x86_core *core, const struct insn *i)
{
	core->icount += i->index; /* behind a branch, RIP is set */
}

static void kill_trace(struct interp *in, struct trace *t)
{
	struct trace_bucket *bucket = bucket_of(in, t->tag);
	struct trace **at = &bucket->first;
	while (*at && *at != t)
		at = &(*at)->same_hash;
	if (*at)
		*at = t->same_hash;
	bucket->tag = bucket->first ? bucket->first->tag : 0;
	for (unsigned n = 0; n < t->count; n++)
		t->insn[n].exec = dead;
	if (t->insn[t->count].exec == interp_chain)
		t->insn[t->count].exec = dead_end;
	else
		t->insn[t->count].exec = dead;
	t->linked = false;
	in->stat.invalidated++;
}

static void remove_from(struct trace **list, struct trace *t, bool second)
{
	while (*list && *list != t)
		list = second ? &(*list)->same_second : &(*list)->same_page;
	if (*list)
		*list = second ? t->same_second : t->same_page;
}

static void invalidate_in_page(struct interp *in, struct code_page *p, uint64_t first, uint64_t last)
{
	if (!(p->lines & lines_of(first, last)))
		return;
	struct trace **at = &p->first, *t;
	uint64_t lines = 0;
	while ((t = *at)) {
		uint64_t start = t->gpa & (X86_PAGE_SIZE - 1), end = MIN(start + t->bytes, X86_PAGE_SIZE) - 1;
		if (start <= last && end >= first) {
			*at = t->same_page;
			if (t->crosses)
				remove_from(&(*page_slot(in, t->second))->seconds, t, true);
			kill_trace(in, t);
		} else {
			lines |= lines_of(start, end);
			at = &t->same_page;
		}
	}
	at = &p->seconds;
	while ((t = *at)) {
		uint64_t end = (t->gpa & (X86_PAGE_SIZE - 1)) + t->bytes - X86_PAGE_SIZE - 1;
		if (end >= first) {
			*at = t->same_second;
			remove_from(&(*page_slot(in, align_down(t->gpa, X86_PAGE_SIZE)))->first, t, false);
			kill_trace(in, t);
		} else {
			lines |= lines_of(0, end);
			at = &t->same_second;
		}
	}
	p->lines = lines;
	trace(code, "page %#lx: bytes %#lx to %#lx changed", p->page, first, last);
}

void trace_invalidate(struct interp *in, gpa_t gpa, uint64_t len)
{
	while (len) {
		gpa_t page = align_down(gpa, X86_PAGE_SIZE);
		uint64_t first = gpa - page, n = MIN(len, X86_PAGE_SIZE - first);
		struct code_page *p = *page_slot(in, page);
		if (p)
			invalidate_in_page(in, p, first, first + n - 1);
		if (!p || !p->lines)
			code_holder_remove(&in->holder, page); /* it is written at full speed again, once nobody holds code of it */
		gpa += n;
		len -= n;
	}
}
