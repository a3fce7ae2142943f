/* SPDX-License-Identifier: MIT */
/* Binary translation, x86 to x86: docs/bt.md has the idea, the register assignment and the proof that guest code stays inside.
 *
 * Guest code becomes host code a block at a time, a straight run of instructions up to a branch. Most instructions are written down
 * again as they are, with registers renamed and the memory operand rewritten. What is not understood calls its exec function.
 * A block belongs to one processor: no locks, and nobody else frees what runs. */
#pragma once
#include <stddef.h>
#include <string.h>
#include "engine/bt/layout.h"
#include "engine/code_pages.h"
#include "engine/engine.h"
#include "x86/exec.h"
#include "x86/memo.h"

#define BT_SLOT 2
#define BT_BLOCK_MAX 48       /* guest instructions in a block */
#define BT_JUMP_COUNT (1u << BT_JUMP_BITS)
#define BT_SECOND_COUNT (1u << BT_SECOND_BITS)
#define BT_RETURN_COUNT (1u << BT_RETURN_BITS)
#define BT_KINDS 3            /* delta tables: TLB_SUPERVISOR, TLB_SUPERVISOR_AC, TLB_USER */
#define BT_CPUS_MAX 8         /* each takes 12 TiB of the address space */

/* What translated code sees, below RSP: the table of deltas follows. Each table has a view of the same pages in front of it. */
struct bt_state {
	void *jumps[2][BT_JUMP_COUNT];
	void *seconds[2][BT_SECOND_COUNT];
	void *returns[2][BT_RETURN_COUNT];
	uint64_t return_rips[BT_RETURN_COUNT];
	uint8_t pad[BT_OVERWRITTEN - BT_RETURN_RIPS - BT_RETURN_COUNT * sizeof(uint64_t)];
	uint64_t overwritten;
	uint64_t return_masks[2];
	void *astray;
	uint64_t astrays;
	uint64_t second_mask, supervisor;
	void *unknown;
	uint64_t popf_mask;
	uint8_t near[9][256];
	uint64_t passes, rounds;
	uint64_t group[8];
	uint64_t fs_plain, gs_plain;
	uint64_t count;               /* instructions, counted up from minus what may still run: below zero while it may */
	void *quick;
	uint64_t page, fpu_page;
	void *poll, *unaligned[3];
	uint64_t low_mask[3], offset_mask, cross_mask;
	uint64_t target, argument, address, site, saved;
	void *rsp;
	void *c_stack;
	struct x86_core *core;
	struct x86_xsave *xsave;
	uint32_t mxcsr, mxcsr_live;
	uint64_t avx;
	uint16_t aflags;
	uint8_t pad2[6];
	uint64_t if_flag, ac_flag, rflags, arith_mask, no_event;
	void *rsps[2];
	void *fpu;
	uint64_t fpu_live, fpu_last, fpu_operand;
	uint64_t page_mask16, low_mask16;
	void *unaligned16;
	uint64_t fpu_last_memory;
	uint64_t run_mask;            /* sign bit; 0: leave at the next block */
	void *hot;
	uint64_t page_mask[4];
	uint64_t spill[3];
	uint64_t fs_base, gs_base;
	void *link, *exec, *miss, *dispatch;
	uint64_t return_address;
};

/* A guest instruction of a block. Behind the last one stands one more, of which code and offset tell where the block ends; then the block's bytes, and
 * the struct insn of those that are `kept`. The others are decoded from the bytes when they are wanted: of most that is never. */
struct bt_insn {
	uint32_t code;                /* offset of its host code */
	uint32_t block;
	uint32_t kept;                /* index in bt.insn of where its struct insn stands, or 0: those of exec functions and of x87 */
	uint16_t offset : 10;         /* of its bytes */
	uint16_t access : 2;          /* enum bt_access: what a miss of its memory operand was after */
	uint16_t vector : 1;          /* its exec function looks at vector state or MXCSR */
	uint16_t calls_exec : 1;      /* its host code ends with a call of its exec function, or of quick.c; it is kept then */
	uint16_t resumes : 1;         /* after its exec function the next one may follow */
	uint16_t trouble;             /* faults of its host code by writes to code; from BT_SITE_GIVEN_UP on, runs of its exec function instead */
};
#define BT_INSN_KEPT (sizeof(struct insn) / sizeof(struct bt_insn)) /* room for one that is kept */
#define BT_NO_SITE 0xffffffffu        /* bt_state.site: the code runs on to where there can be none */
#define BT_SITE_FAULTS 4              /* so many are borne */
#define BT_SITE_GIVEN_UP 0x8000
#define BT_SITE_RUNS 0x4000           /* then its block is translated anew */
enum bt_access { BT_NO_ACCESS, BT_READ, BT_WRITE };

#define BT_FPU_NONE 0xffffffffu

struct bt_exit {                      /* a direct jump within the page: it is patched to lead to its target's block */
	uint32_t block, to;           /* index + 1 of the block that it leads to, 0: none */
	uint32_t patch;               /* offset of the 32-bit displacement */
	uint32_t stub;                /* where it leads without a block */
	uint32_t next;                /* of those that lead to the same block, index + 1 */
	bool polls;                   /* it leads to where the block looks whether somebody wants the processor, even ahead */
	uint64_t rip;
};

struct bt_block {                     /* what a search looks at is in one line of the host's cache */
	gpa_t gpa, second;            /* second: page that its only instruction continues on, or ~0 */
	uint64_t rip;
	uint16_t mode;
	bool dead;
	bool anywhere;                /* for any linear address of its page, which is in bt_state.page; rip is one of them */
	uint32_t same_hash;           /* index + 1 */
	uint32_t code, code_end;      /* offsets in the code cache */
	uint32_t jump_entry, entry;   /* by the jump table: checks RIP; by a direct jump: counts, and leaves where asked */
	uint32_t body;                /* of the first instruction */
	uint32_t insn;                /* index of the first bt_insn */
	uint16_t count, bytes;
	bool in_table;                /* the jump table may lead to it (by doors it is known from them) */
	uint8_t trips;                /* of a loop to its own start: how often it mostly goes round, if that is seldom and known; else 0 */
	uint32_t doors;               /* index + 1 */
	uint32_t same_page, same_second; /* the next one of its page, and of its second page, index + 1 */
	uint32_t before_page, before_second;
	uint32_t incoming;            /* exits that lead here, index + 1 */
	uint32_t fast;                /* index + 1 of its fast copy, which the entries above then lead to */
	uint32_t members;             /* of fast copies of other blocks, index + 1 */
} __attribute__((aligned(32)));

#define BT_NO_BLOCK 0xffffffffu
struct bt_door {                      /* how a block for any linear address is entered by a jump table, and any by the second one: for one address */
	uint64_t rip;
	uint32_t block, code;         /* BT_NO_BLOCK: it is closed */
	uint32_t patch;               /* offset of the displacement of its jump to the block */
	uint32_t next;                /* of the same block, index + 1 */
	bool second;                  /* by the second table */
};

struct bt_fast {                      /* what a block that runs often was translated to once more: hot.c */
	uint32_t block;
	uint32_t code, code_end;
	uint32_t place, places;       /* index of the first bt_place, how many */
	uint32_t jump_entry, entry, body; /* those of the plain copy */
};
struct bt_member { uint32_t fast, next, block; }; /* a block is part of a fast copy, index; and of others, index + 1 */
struct bt_place { uint32_t code, insn; }; /* from here on host code is of this bt_insn */

struct bt_fill {                      /* how far the code cache and what belongs to it are filled: evict.c */
	uint32_t code, insn, block, exit, door, fast, place, member;
};
#define BT_PARTS 32                   /* of the cache: the oldest one is emptied when room is wanted */

struct bt_page {                      /* guest-physical page that blocks were made from */
	gpa_t page;
	uint64_t lines;               /* bit n: bytes 64n to 64n + 63 were translated, and may be still */
	uint32_t first, seconds;      /* index + 1 */
	bool anywhere;                /* was seen at several linear addresses: new blocks are for any */
	const uint8_t *host;          /* where it was when they were made; NULL: not the same for all */
	uint64_t linear;              /* the page of their rip, one for all: so what is relative to RIP differs by what it seems to */
	struct bt_page *next;
};

struct bt_log {                       /* which entries of the delta tables are filled: index << 2 | kind */
	uint64_t *entry;
	unsigned count;
};

#define BT_JUMP_LOG 4096
struct bt_jump_log {                  /* which places of a jump table are filled */
	unsigned count;               /* more than BT_JUMP_LOG: not all are here */
	uint16_t slot[BT_JUMP_LOG];
};

#define BT_HASH_BITS 20
#define BT_HASH_IN_PAGE_BITS 8
#define BT_PAGE_HASH_BITS 12
#define BT_LOG_MAX 32768
#define BT_LARGE_BITS 4096u

enum bt_phase {                       /* what a processor's thread is doing; "C" is what translated code called */
	BT_OUTSIDE,                   /* not in run() */
	BT_HALTED,                    /* the same, while the guest's processor waits */
	BT_TRANSLATED,
	BT_TRANSLATING,
	BT_FILLING,                   /* delta tables */
	BT_EXECUTING,                 /* exec functions */
	BT_INTERPRETING,
	BT_ENGINE,                    /* the rest of run() */
	BT_PHASES
};

enum bt_why { BT_MISSED, BT_FAULTED, BT_WHYS, BT_NO_REASON = BT_WHYS }; /* how an access left translated code */
enum bt_cause {
	BT_FILLED,                    /* the entry was empty, and was filled */
	BT_CLEAN_PAGE,                /* the page was to be read only, until it was marked dirty */
	BT_CODE_WRITE, BT_DEVICE, BT_CROSSING,
	BT_MISALIGNED,                /* within the page, and the exec function does that */
	BT_GUEST_FAULT,               /* the guest got an exception */
	BT_ELSE,                      /* an exec function did it */
	BT_CAUSES
};
enum bt_flush_cause { BT_FLUSH_CHANGES, BT_FLUSH_ENGINE, BT_FLUSH_COUNTING, BT_FLUSH_CAUSES };

struct bt_sampler {                   /* stats.c */
	pthread_t thread;
	pthread_mutex_t lock;         /* guards cpu[] */
	struct bt *cpu[BT_CPUS_MAX];
	bool running;
	_Atomic bool quit;
};

struct bt_vm {                        /* shared by a VM's processors */
	uint64_t cache_size;          /* of each processor, bytes */
	uint8_t *ro;                  /* a second view of the memfd that cannot be written */
	void *ro_map;
	size_t ro_size;
	struct code_pages pages;
	struct bt_sampler sampler;
};

struct bt {
	struct bt_state *state;       /* one of the views below */
	struct bt_state *view[BT_KINDS]; /* of the same pages, each in front of the table of this kind */
	struct vcpu *vcpu;
	struct bt_vm *shared;
	bool counting;                /* instructions are counted; else core.icount stands still in translated code */
	bool avx;
	bool went_on;                 /* an exec function went on to the next instruction */
	uint64_t limit;               /* icount = limit + state.count */
	bool borrowed;                /* translated code has R8 to R14 for itself (translation.narrow); the guest's are in `high` meanwhile */
	uint64_t high[7];
	bool interpret;               /* the next instruction is not for translated code */
	uint64_t generation[2];       /* what the jump tables are good for: mapping and supervisor generation */
	uint32_t mode[2];

	struct x86_memo *memo;
	uint8_t *code;                /* the cache */
	uint32_t code_used;
	struct bt_insn *insn;
	uint32_t insns;
	struct bt_block *block;
	uint32_t blocks;
	uint32_t *heat;               /* behind the cache: runs of each block until it is hot */
	uint64_t *target;             /* behind that: where the indirect jump or call at its end last led */
	struct bt_fast *fast;
	uint32_t fasts;
	struct bt_place *place;
	uint32_t places;
	struct bt_member *member;
	uint32_t members;
	struct bt_exit *exit;
	uint32_t exits;
	struct bt_door *door;
	uint32_t doors;
	uint32_t part_size;           /* bytes of code; evict.c */
	unsigned part;                /* the counters above are of this one, and stay below: */
	struct bt_fill end;
	struct bt_fill filled[BT_PARTS]; /* the other parts, up to these */
	uint64_t evictions;           /* changes whenever blocks may have gone for good, and their numbers are others' */
	uint32_t hash[1 << BT_HASH_BITS];
	struct bt_page *pages[1 << BT_PAGE_HASH_BITS];
	uint32_t jump_block[2][BT_JUMP_COUNT]; /* what the jump tables lead to, index + 1, and for which address */
	uint64_t jump_rip[2][BT_JUMP_COUNT];
	struct bt_jump_log jumps_filled[2], seconds_filled[2];

	uint64_t *table[BT_KINDS];
	struct bt_log local, global;
	uint64_t *writers;            /* by page of the memfd: the entry (index << 2 | kind) + 1 that may write it, ~0: several */
	size_t writers_size;
	uint64_t *seen;               /* by MEMORY_POPULATED bytes of the memfd: the host has mapped them in the view that cannot be written */
	uint64_t large[BT_LARGE_BITS / 64]; /* 2 MiB regions (hashed) where entries are parts of large pages */
	bool indirect;                /* the last fill failed because the guest may write the page, but translated code may not: it holds code, or is no RAM */
	bool beyond_4g;               /* entries of addresses beyond 4 GiB may be filled */
	uint64_t huge;                /* GiB regions (hashed) where entries are parts of 1 GiB pages */
	unsigned empty_misses;        /* misses that touched the tables without filling them, since these were last empty */

	struct code_holder holder;

	uint8_t phase;                /* enum bt_phase; another thread looks at it */
	struct { enum bt_why why; enum bt_cause cause; uint64_t mmio, code; } reason;
	struct { uint64_t rip, ns; unsigned times; } undefined; /* the last #UD in translated code, signal.c */

	struct {
		uint64_t guest_bytes, left[BT_WHYS][BT_CAUSES], flushed_table[FLUSH_WRITES + 1], flushed_cache[BT_FLUSH_CAUSES], ns[BT_PHASES];
		uint64_t blocks, anywhere, doors, insns, native, bytes, dispatches, links, flushes, maps, invalidated, exits_, table_flushes, page_flushes;
		uint64_t evicted, evicted_parts, evicting_ns, evicting_ns_most; /* blocks; the last two: how long that took */
		uint64_t quick, quick_dispatches, misses, fills, faults, upgrades, steps, delegated, hot, hot_bytes, hot_loops, undefined;
		uint64_t exec[X86_OP_COUNT];
	} stat;
};

/* MOVS and STOS of any size, with REP or not. */
static inline bool bt_is_move(const struct insn *i) { return i->exec == x86_ops[X86_OP_MOVSB].forms->any; }
static inline bool bt_is_store(const struct insn *i) { return i->exec == x86_ops[X86_OP_STOSB].forms->any; }

/* In 32-bit code: an access through this segment has nothing to check but that its base counts. */
static inline bool bt_segment_plain(const struct x86_segment *s)
{
	return s->limit == 0xffffffff && (s->attr & (SEGA_CODE | SEGA_WRITABLE | SEGA_EXPAND_DOWN | SEGA_UNUSABLE | SEGA_P)) == (SEGA_WRITABLE | SEGA_P);
}

/* 32-bit code outside of long mode, where R8 to R15 do not exist and no address is beyond 4 GiB. */
static inline bool bt_mode_narrow(uint32_t mode)
{
	return (mode & (MODE_CODE | MODE_LONG)) == MODE_CODE32;
}

static inline struct bt *bt_of(struct vcpu *vcpu)
{
	return vcpu->engine_data[BT_SLOT];
}

/* table.c -- the delta tables: docs/bt.md. Own thread, or at a safe point. */
unsigned bt_table_room(void); /* any thread: for how many processors the host would let one be made, up to BT_CPUS_MAX */
int bt_table_init(struct bt *);
void bt_table_fini(struct bt *);
/* Fills the entry for an access that missed. False: the access does not go straight to memory, or is not allowed. `upgraded`: the entry was
 * there, but without the right to write. */
bool bt_table_fill(struct bt *, gva_t, bool write, bool *upgraded);
void bt_table_flush(struct bt *, enum x86_flush, gva_t);
/* The page of the memfd is no longer to be written by translated code. */
void bt_table_protect(struct bt *, uint64_t number);

/* cache.c -- blocks: finding, linking, dropping. Own thread. */
int bt_cache_init(struct bt *);
void bt_cache_fini(struct bt *);
/* May a block at this address be for any? Then its direct jumps lead to canonical addresses wherever it is. */
static inline bool bt_may_float(uint64_t rip, uint32_t mode)
{
	return (mode & MODE_USER) && (mode & MODE_CODE) == MODE_CODE64 && rip >= 4 * GiB && rip < BIT(47) - 4 * GiB;
}
/* The block at RIP, which is exact, translated if need be. Raises the fault of a fetch. NULL: what is there has to be interpreted.
 * from: the block in the same page that a jump from is to be linked, or NULL. */
struct bt_block *bt_block_get(struct bt *, const struct bt_block *from);
/* Where the block runs now, or begins to with RIP as it is: both are the same while it is the one that runs. */
static inline uint64_t bt_block_rip(const struct bt *bt, const struct bt_block *b)
{
	return b->anywhere ? bt->state->page + (b->gpa & (X86_PAGE_SIZE - 1)) : b->rip;
}
/* The block at this address in the same page as the other one, if there is one that a jump from there may lead to; else NULL. Blocks for any address
 * must have been met at the same one: what a copy of both computes from their `rip` is then the same. */
struct bt_block *bt_block_beside(struct bt *, const struct bt_block *, uint64_t rip);
/* Makes the exit lead to the block. */
void bt_exit_link(struct bt *, struct bt_exit *, struct bt_block *);
/* The block has these entries from now on; what leads to it leads there. */
void bt_entries_set(struct bt *, struct bt_block *, uint32_t jump_entry, uint32_t entry, uint32_t body);
void bt_invalidate(struct bt *, gpa_t, uint64_t len);
/* The map of memory is another: drops the blocks of pages that are elsewhere. */
void bt_pages_moved(struct bt *);
/* Drops the block, whose part of the cache this is, and forgets a page that has none left. */
void bt_block_evict(struct bt *, struct bt_block *, const struct bt_fill *first, const struct bt_fill *end);
/* The exit leads nowhere any more. */
void bt_exit_unlink(struct bt *, uint32_t exit);
void bt_cache_flush(struct bt *, enum bt_flush_cause);
/* The instruction whose host code is at this offset; NULL: none. */
struct bt_insn *bt_insn_at(struct bt *, uint32_t offset);
/* Of the blocks at this address: index into bt.hash. A page's are side by side, since what is wanted next is mostly near. */
static inline unsigned bt_bucket(gpa_t gpa)
{
	unsigned page = (unsigned)((gpa >> X86_PAGE_SHIFT) * 0x9e3779b97f4a7c15ULL >> (64 + BT_HASH_IN_PAGE_BITS - BT_HASH_BITS));

	return page << BT_HASH_IN_PAGE_BITS | (gpa & ~X86_PAGE_MASK) >> (X86_PAGE_SHIFT - BT_HASH_IN_PAGE_BITS);
}

/* evict.c -- The parts of the cache. Empty, and to be filled from the front: */
void bt_parts_begin(struct bt *);
/* Goes on in the next part, and drops what is in it. A block that was dropped is `dead`, and nothing may run it, until its number is given to another one.
 * Own thread, where no translated code is to go on but from the start of a block that is found afterwards. */
void bt_parts_advance(struct bt *);
/* Of the code cache's bytes, and what else is there at this index, in a part. */
struct bt_fill bt_part_start(const struct bt *, unsigned part);
struct bt_fill bt_part_end(const struct bt *, unsigned part); /* as far as it is filled */

/* door.c -- Offset of the code by which the jump table leads to a block for any address, at this one, or the second table to any block; 0: there is no
 * room. */
uint32_t bt_door_get(struct bt *, struct bt_block *, uint64_t rip, bool second);
/* This door leads there, by this table? */
static inline bool bt_door_is(const struct bt_door *door, uint64_t rip, bool second) { return door->rip == rip && door->second == second; }
/* The block has another entry. */
void bt_doors_lead(struct bt *, const struct bt_block *);
/* The jump table leads to the block no more. */
void bt_doors_close(struct bt *, struct bt_block *);
/* These doors are no more. */
void bt_doors_evict(struct bt *, uint32_t first, uint32_t end);

/* The last instruction of a block. */
static inline const struct bt_insn *bt_block_last(const struct bt *bt, const struct bt_block *b)
{
	return &bt->insn[b->insn + b->count - 1u];
}
/* A block's bytes, as they were when it was translated. */
static inline uint8_t *bt_block_bytes(const struct bt *bt, const struct bt_block *b)
{
	return (uint8_t *)&bt->insn[b->insn + b->count + 1u];
}
/* What is kept of an instruction, which must be. */
static inline struct insn *bt_insn_kept(const struct bt *bt, const struct bt_insn *rec)
{
	return (struct insn *)&bt->insn[rec->kept];
}
/* block.c -- The instruction, kept or decoded. */
void bt_insn_get(struct bt *, const struct bt_insn *, struct insn *);
/* From now on its struct insn is kept. */
void bt_insn_keep(struct bt *, struct bt_insn *, const struct insn *);
/* Translates the block whose fields up to mode are set, from guest memory, of which `available` bytes may be used; false: nothing
 * could be. */
bool bt_translate(struct bt *, struct bt_block *, const uint8_t *memory, unsigned available);
/* bits.c -- BT, BTS, BTR or BTC of a bit in memory whose number is in a register? */
bool bt_is_bit_string(const struct insn *);
/* hot.c -- Makes the fast copy of a block, which the block's entries then lead to. False: not now. */
bool bt_heat_up(struct bt *, struct bt_block *);
/* Is there room for one in this part of the cache? */
bool bt_heat_room(const struct bt *);
/* These fast copies are no more, nor that blocks are members of them. */
void bt_fasts_evict(struct bt *, const struct bt_fill *first, const struct bt_fill *end);
/* No fast copy that the block is in is entered any more. */
void bt_traces_drop(struct bt *, struct bt_block *);
/* stats.c -- Counters. The sampler's thread; bt NULL: look at that processor no more. */
void bt_stats(struct vm *, FILE *);
void bt_sampler_start(struct bt_sampler *);
void bt_sampler_stop(struct bt_sampler *);
void bt_sampler_watch(struct bt_sampler *, unsigned index, struct bt *);
/* An access left translated code, and its cause is this unless the exec function finds another; then what came of it. */
void bt_reason_begin(struct bt *, enum bt_why, enum bt_cause);
void bt_reason_end(struct bt *, bool faulted);
static inline void bt_phase_set(struct bt *bt, enum bt_phase phase) { *(volatile uint8_t *)&bt->phase = (uint8_t)phase; }

/* trace.c -- Prints a block that was just translated: --trace bt. */
void bt_trace_block(const struct bt *, const struct bt_block *);
void bt_trace_fast(const struct bt *, const struct bt_fast *);
/* From now on the instruction is done by its exec function. */
void bt_give_site_up(struct bt *, struct bt_insn *);
/* Room that a block needs at most. */
#define BT_BLOCK_ROOM 24576
#define BT_DOOR_ROOM 80
#define BT_CODE_SIZE (128u * MiB)     /* the most */
#define BT_CODE_DEFAULT (64u * MiB)
#define BT_CODE_LEAST (2u * MiB)      /* BT_FAST_ROOM has to be in a part */
#define BT_INSNS_MAX (BT_CODE_SIZE / 16)
#define BT_BLOCKS_MAX (BT_CODE_SIZE / 128)
#define BT_EXITS_MAX (BT_BLOCKS_MAX * 2)
#define BT_DOORS_MAX (BT_CODE_SIZE / 128)
#define BT_FASTS_MAX (BT_BLOCKS_MAX / 2)
#define BT_PLACES_MAX (BT_CODE_SIZE / 32)
#define BT_BLOCK_INSNS (BT_BLOCK_MAX * (2 + BT_INSN_KEPT) + 1) /* that a block takes at most, with its bytes and what is kept */
#define BT_MEMBERS_MAX BT_BLOCKS_MAX
#define BT_STEP_ROOM 512              /* an instruction of a fast copy needs less, */
#define BT_LEAVE_ROOM 600             /* and what leaves it at the end of a block, where calls are open */
#define BT_FAST_ROOM (96 * BT_STEP_ROOM) /* with less there is none; it is as long as there is room for */
#define BT_CACHE_SIZE (BT_CODE_SIZE + BT_BLOCKS_MAX * (sizeof(uint32_t) + sizeof(uint64_t))) /* with what is behind it */
#define BT_HEAT 4000                  /* runs until a block is hot */
#define BT_HEAT_COUNTING 20           /* with instructions counted, which is how engines are compared: few, so that this is compared too */
#define BT_HEAT_NEVER 0x7fffffff

/* run.c -- called by enter.S; they return where to go on, or NULL to leave to bt_run. */
void *bt_c_exec(struct bt_state *, uint32_t insn), *bt_c_miss(struct bt_state *, uint32_t what), *bt_c_segv(struct bt_state *, uint32_t insn);
void *bt_c_dispatch(struct bt_state *), *bt_c_link(struct bt_state *, uint32_t exit), *bt_c_poll(struct bt_state *, uint32_t insn),
	*bt_c_fpu(struct bt_state *, uint32_t insn), *bt_c_hot(struct bt_state *, uint32_t insn);
/* Can the processor, as it is now, run translated code? */
bool bt_fits(const struct x86_core *);
/* And its stack? RSP is aligned while translated code runs. */
bool bt_stack_fits(const struct x86_core *);
/* Makes everything ready to enter the block, which is at RIP; returns where. */
void *bt_start(struct bt *, struct bt_block *);
/* loop.c */
int bt_run(struct vcpu *, const struct run_limit *, struct vm_exit *);

/* fpu.c -- x87 and MMX state is the guest's afterwards. */
void bt_fpu_enter(struct bt *);
/* Vector, x87 and MXCSR state is in the core afterwards, and the host's own in the processor. */
void bt_fp_leave(struct bt *);

/* quick.c -- Called by enter.S as well, but with the guest's vector registers in place, which it leaves alone. NULL: bt_c_exec is to be called. */
void *bt_quick(struct bt_state *, uint32_t insn);
/* The same for a jump to an address that the jump tables have nothing for. NULL: bt_c_dispatch. */
void *bt_quick_dispatch(struct bt_state *);

/* signal.c -- Takes SIGSEGV, SIGBUS and SIGFPE of translated code. */
void bt_signals_init(void);
/* Makes the calling thread's signals run on a stack of their own. */
void bt_signals_thread(struct bt *);

/* enter.S */
void bt_enter(struct bt_state *, void *host);
void bt_exec_entry(void), bt_miss_entry(void), bt_dispatch_entry(void), bt_astray_entry(void), bt_unknown_entry(void), bt_link_entry(void), bt_poll_entry(void), bt_segv_entry(void),
	bt_fpu_entry(void), bt_hot_entry(void), bt_quick_entry(void);
void bt_unaligned2(void), bt_unaligned4(void), bt_unaligned8(void), bt_unaligned16(void);

/* jump.c -- The block that the first jump table has for RIP, or NULL. */
struct bt_block *bt_jump_find(struct bt *, uint64_t rip);
/* A jump table leads to the block for this address, if there is room. */
void bt_jump_set(struct bt *, struct bt_block *, uint64_t rip);
/* 0: those of user code, 1: of supervisor code; and what returns go by. */
void bt_jumps_clear(struct bt *, unsigned which);
void bt_jumps_clear_all(struct bt *);
/* Only that. */
void bt_returns_clear(struct bt *, unsigned which);
/* By CRC32, which changes no flags, so that translated code can do the same. (A host with BMI2 has it.) */
static inline uint32_t bt_jump_hash(uint64_t rip)
{
	uint64_t crc = 0;

	asm("crc32q %1, %0" : "+r"(crc) : "r"(rip));
	return (uint32_t)crc;
}
static inline unsigned bt_jump_slot(uint64_t rip) { return (uint16_t)bt_jump_hash(rip); }
/* In the second table */
static inline unsigned bt_second_slot(uint64_t rip) { return bt_jump_hash(rip) >> 16 & (BT_SECOND_COUNT - 1); }
/* Its place in the first table is another address's. */
static inline bool bt_jump_taken(const struct bt *bt, unsigned which, uint64_t rip)
{
	unsigned slot = bt_jump_slot(rip);

	return bt->state->jumps[which][slot] != (void *)(uintptr_t)bt_dispatch_entry && bt->jump_rip[which][slot] != rip;
}
/* As bt_jump_set, with the block's entry, or that of its door; that is a must for the second table. */
static inline void bt_jump_put(struct bt *bt, struct bt_block *b, uint64_t rip, uint32_t code, bool second)
{
	unsigned which = b->mode & MODE_USER ? 0 : 1, slot = second ? bt_second_slot(rip) : bt_jump_slot(rip);
	struct bt_jump_log *log = second ? &bt->seconds_filled[which] : &bt->jumps_filled[which];
	void **jump = second ? &bt->state->seconds[which][slot] : &bt->state->jumps[which][slot];

	if (*jump == bt->code + code)
		return;
	*jump = bt->code + code;
	if (!second) {
		bt->jump_block[which][slot] = (uint32_t)(b - bt->block) + 1;
		bt->jump_rip[which][slot] = rip;
		b->in_table = !b->anywhere;
	}
	if (log->count < BT_JUMP_LOG)
		log->slot[log->count] = (uint16_t)slot;
	if (log->count <= BT_JUMP_LOG)
		log->count++;
}
