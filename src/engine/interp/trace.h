/* SPDX-License-Identifier: MIT */
/* The interpreter's decode cache: traces, straight runs of decoded instructions, found by guest-physical address and mode.
 *
 * The problem: decoding costs a hundred times what running a decoded instruction costs. So code is decoded once, into a
 * trace: the instructions up to the first branch (or change of mode, or page end), and a terminator that finds the next
 * trace. Running a trace is a chain of tail calls, from function to function, without returning to a loop.
 *
 * A trace stays valid as long as its bytes do: its page carries PAGE_CODE, so that any write to it reaches
 * interp_code_changed, and the trace is unlinked and its functions are replaced by one that leaves. Where a linear RIP leads depends on the page
 * tables: the jump cache remembers (RIP, mapping generation, mode) -> trace, and any TLB flush starts a new generation.
 *
 * One cache per vCPU: no locks, and no other thread ever frees what runs. */
#pragma once
#include "engine/code_pages.h"
#include "engine/engine.h"

#define INTERP_SLOT 0 /* vm->engine_data[]: struct code_pages; vcpu->engine_data[]: struct interp */
#define TRACE_MAX 48 /* instructions, without the terminator */

struct trace {
	gpa_t gpa;              /* of the first byte */
	uint64_t tag;           /* gpa and mode in one word: trace_tag */
	uint32_t mode;          /* MODE_*, without MODE_USER */
	uint16_t bytes;
	uint8_t count;          /* instructions */
	bool linked;            /* can be found: not dropped, and its memory is watched for writes */
	bool crosses;           /* one instruction, its end on the page second */
	gpa_t second;
	struct trace *same_hash;
	struct trace *same_page, *same_second;
	struct insn insn[];     /* count, and the terminator */
};

struct code_page {
	gpa_t page;             /* address, or ~0 for a free slot */
	uint64_t lines;         /* bit n: bytes 64n to 64n + 63 hold decoded code */
	struct trace *first;    /* by same_page */
	struct trace *seconds;  /* traces whose only instruction ends here, by same_second */
	struct code_page *next; /* same hash */
};

struct jump_entry {
	uint64_t rip;
	uint64_t key;           /* core->code_key | JUMP_VALID */
	struct trace *trace;
};

#define JUMP_BITS 14
#define JUMP_VALID BIT(31)
#define HASH_BITS 16
#define PAGE_HASH_BITS 12

struct trace_bucket {           /* the tag of the first spares most look-ups the way to a trace that is another */
	uint64_t tag;
	struct trace *first;    /* by same_hash */
};

struct interp { /* one vCPU's */
	struct vcpu *vcpu;
	struct jump_entry jump[1 << JUMP_BITS];
	struct trace_bucket hash[1 << HASH_BITS];
	struct code_page *pages[1 << PAGE_HASH_BITS];
	struct code_holder holder;
	uint8_t *arena;
	size_t used, size;

	struct {
		uint64_t decoded, traces, lookups, hash_hits, flushes, invalidated, steps;
	} stat;
};

/* trace.c -- on the vCPU's thread. */
int trace_cache_init(struct interp *, struct vcpu *);
void trace_cache_fini(struct interp *);
/* The trace for the present RIP and mode, decoding it if needed. Raises the fault of a fetch. */
struct trace *trace_get(struct interp *);
/* Drops what was decoded from these bytes; if the trace that runs is among it, it ends after the present instruction. */
void trace_invalidate(struct interp *, gpa_t, uint64_t len);
void trace_flush(struct interp *);
/* Decodes the instruction at RIP, without the cache, into *i. Raises the fault of a fetch. */
void trace_decode_one(struct interp *, struct insn *i);

/* interp.c -- the terminators: behind a branch, and behind an instruction that just ends the trace. */
x86_exec_fn interp_chain, interp_fall;
