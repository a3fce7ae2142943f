/* SPDX-License-Identifier: MIT */
/* The processor in motion: the architectural state plus what the semantics derive from it (arithmetic flags in the
 * host's form, mode, software TLB), and the surroundings through callbacks.
 *
 * While instructions run, cpu.gpr[X86_GPR_RIP] is the RIP of the *start of the trace* that runs, and the current
 * instruction is at RIP + i->offset; so no instruction pays for moving RIP along. Whoever leaves a trace makes RIP
 * exact again: x86_raise, x86_leave, and the functions that end a trace. */
#pragma once
#include <setjmp.h>
#include "x86/cpu.h"
#include "x86/insn.h"

enum x86_access { ACCESS_READ, ACCESS_WRITE, ACCESS_FETCH };

enum x86_space { SPACE_MEMORY, SPACE_PORT };

enum x86_flush {
	FLUSH_ALL,        /* everything, global pages too */
	FLUSH_NONGLOBAL,  /* a MOV to CR3 */
	FLUSH_PAGE,       /* INVLPG: one address, in every PCID's global and this PCID's entries */
	FLUSH_PCID,       /* INVPCID type 1: one PCID, without globals */
	FLUSH_SWITCH,     /* a MOV to CR3 that keeps the entries of the PCID it switches to */
	FLUSH_WRITES,     /* no translation changed: the right to write straight to memory ended */
};

/* What stands around a processor. All calls come from the thread that runs the core. */
struct x86_env {
	/* Host address of the guest-physical page at `gpa` (page-aligned) when `access` can go straight to memory, else
	 * NULL (device, hole, write to ROM). For a write the page is marked dirty. *traced is set when each write
	 * must be reported by written(), and must not enter the TLB: the page holds decoded code. */
	uint8_t *(*page)(struct x86_core *, gpa_t gpa, enum x86_access access, bool *traced);
	/* `size` bytes at gpa were written through a traced page. */
	void (*written)(struct x86_core *, gpa_t gpa, unsigned size);
	/* Device access of 1, 2, 4 or 8 bytes (ports: 1, 2, 4). Reads of nothing give all ones. */
	uint64_t (*io_read)(struct x86_core *, enum x86_space, uint64_t address, unsigned size);
	void (*io_write)(struct x86_core *, enum x86_space, uint64_t address, unsigned size, uint64_t value);
	uint64_t (*tsc)(struct x86_core *);              /* the clock's TSC, without tsc_offset */
	uint64_t (*random)(struct x86_core *);
	/* MSRs that do not live in struct x86_cpu (APIC, TSC deadline, ...): false if there is none such, or the value is
	 * not allowed: then #GP. */
	bool (*rdmsr)(struct x86_core *, uint32_t index, uint64_t *value);
	bool (*wrmsr)(struct x86_core *, uint32_t index, uint64_t value);
	uint64_t (*cr8_read)(struct x86_core *);
	void (*cr8_write)(struct x86_core *, uint64_t value);
	/* CR0.NE is clear, and an unmasked x87 exception waits (FERR# is asserted), or does not any more. True: it is to be ignored (IGNNE#), and the
	 * instruction runs; false: the processor waits for the interrupt that comes of it. NULL: there are no such pins. */
	bool (*fpu_error)(struct x86_core *, bool pending);
	/* A translation changed; the core's own TLB is flushed already. For engines with tables of their own. */
	void (*tlb_flush)(struct x86_core *, enum x86_flush, unsigned pcid, gva_t);
};

/* Software TLB. A hit gives a host address: host = gva + delta. A tag is the page's address, so that one compare of
 * (gva + size - 1) & PAGE_MASK also catches accesses that cross into the next page. */
#define TLB_BITS 10
#define TLB_ENTRIES (1u << TLB_BITS)
#define TLB_LOG 256
#define TLB_INVALID 1ULL /* never equals a page address */
struct tlb_entry {
	gva_t tag;
	uint64_t delta;
};
struct tlb_set {
	struct tlb_entry read[TLB_ENTRIES], write[TLB_ENTRIES];
	/* Which indices were filled in since the last flush, so that it costs what was; beyond TLB_LOG of them it clears all. [1]: those of global pages,
	 * which a MOV to CR3 keeps, and so need not look at. */
	struct { uint16_t filled, index[TLB_LOG]; } log[2];
	uint64_t global_read[TLB_ENTRIES / 64], global_write[TLB_ENTRIES / 64]; /* entries of global pages: their indices are in log[1] */
};
/* Rights differ by privilege, so each has a set of its own; a change of privilege changes one pointer. */
enum tlb_kind {
	TLB_SUPERVISOR,
	TLB_SUPERVISOR_AC, /* supervisor with EFLAGS.AC: SMAP suspended */
	TLB_USER,
	TLB_USER_ALIGN,    /* user with alignment checks on: stays empty, every access takes the slow path */
	TLB_KINDS
};
struct fetch_entry {
	gva_t tag;     /* page address, | 1 for user, TLB_INVALID | 2 if empty */
	gpa_t page;
	uint8_t *host; /* NULL: not RAM or ROM */
	bool global;   /* of a global page */
};
#define FETCH_ENTRIES 256
#define FETCH_FILTER_WORDS 64

struct x86_fault {
	uint8_t vector;
	bool has_error;
	uint32_t error;
};

struct x86_watch {
	gva_t at;
	uint64_t len;
	bool read, write;
};

struct x86_core {
	struct x86_cpu cpu;

	/* Arithmetic flags as the host's LAHF;SETO leave them in AX: SF ZF AF PF CF in bits 15, 14, 12, 10, 8; OF in
	 * bit 0. The bits of cpu.rflags below are stale while instructions run: x86_flags_get/set translate. */
	uint16_t aflags;
	uint8_t cpl;
	uint32_t mxcsr_run, mxcsr_after; /* an SSE operation runs under the first and leaves its flags in the second (vector.h) */
	uint8_t wide[32] __attribute__((aligned(32))); /* vector operands of slow memory accesses pass through here (vector.h) */
	uint32_t mode;       /* MODE_*, derived by x86_mode_update */
	struct tlb_set *tlb; /* &tlbs[kind for CPL, AC, CR0.AM] */

	uint64_t icount;        /* instructions retired since creation */
	uint64_t chain_limit;   /* a trace's end leaves to the engine when icount has reached it; 0 asks to leave soon */

	const struct x86_env *env;
	const struct x86_model *model; /* cpuid.h: what CPUID offers and decoding allows */
	uint32_t tsc_khz;              /* of the guest's TSC, for CPUID leaf 15h */
	uint32_t cpus;                 /* processors in the machine, for CPUID topology */
	jmp_buf *unwind;               /* where x86_raise and x86_leave_now go */
	const struct x86_watch *watch; /* watchpoints of a debugger outside, as DR7's but that they raise nothing: a hit is noted below */
	unsigned watches;
	bool watch_hit;
	gva_t watch_address;
	struct x86_fault fault;        /* what was raised */
	bool lack_told;                /* what the model lacks for an instruction of the guest's kernel was said once */
	bool want_exclusive;           /* the instruction at RIP needs the other processors to stand still (split lock) */
	bool exclusive;                /* they do */
	/* A store to a page that holds decoded code is under way: others may see it, and have not been told of it by env->written. They wait for
	 * the end of it after they have read code anew (engine/code_pages.h). Written by the processor's own thread. */
	bool storing;
	bool step_decided;             /* the instruction itself said whether a single-step trap follows it: see x86_step_decided */
	uint64_t mapping_generation;   /* counts flushes and changes of CS that may change what code a RIP means */
	/* The same for code of CPL 0 to 2, which a change of address space leaves alone as long as all of it lies in global pages. */
	uint64_t supervisor_generation;
	bool supervisor_local;         /* some of it does not */
	uint64_t code_key;             /* generation << 32 | mode: equal keys and equal RIPs mean equal code */
	uint64_t code_base;            /* of CS, as far as it counts in the present mode; kept to see changes */
	uint32_t code_limit;

	struct {
		uint64_t tlb_miss, tlb_flush, walk, mmio, port_io, smc_write, pause;
		uint64_t exception[32], interrupt;
	} stat;

	struct fetch_entry fetch[FETCH_ENTRIES];
	/* Which linear pages were fetched from since mapping_generation last moved (hashed, one bit each): INVLPG of another page
	 * leaves code alone. */
	uint64_t fetch_filter[2][FETCH_FILTER_WORDS]; /* [1]: of global pages, whose code outlives a MOV to CR3 */
	uint64_t large_filter[2]; /* which GiB regions (hashed) hold parts of large pages, [1] global ones: INVLPG drops all parts */
	struct tlb_set tlbs[TLB_KINDS];
};

/* core.c -- Sets the pointers and derives mode, TLB and flags from cpu. Call after cpu was written from outside
 * (reset, restore, another engine); flushes the TLB. */
void x86_core_init(struct x86_core *, const struct x86_env *, const struct x86_model *, uint32_t apic_id);
void x86_core_loaded(struct x86_core *);
/* Derives `mode`, `cpl` and `tlb` from the state; whoever changes CS, SS, CR0, CR4, EFER, XCR0 or RFLAGS.VM/AC calls it.
 * Bumps mapping_generation when the base or limit of code has changed. */
void x86_mode_update(struct x86_core *);
/* Derives code_key from mode and generations. */
static inline void x86_code_key_update(struct x86_core *core)
{
	core->code_key = (core->mode & MODE_USER ? core->mapping_generation : core->supervisor_generation) << 32 | core->mode;
}
/* RFLAGS with the arithmetic flags in place, and back. x86_flags_set stores all bits given (the caller masks what may
 * not change) and updates the mode when VM or AC change. */
uint64_t x86_flags_get(const struct x86_core *);
void x86_flags_set(struct x86_core *, uint64_t rflags);

/* Single step goes by TF from before the instruction. Some go another way: software interrupts swallow the trap, SYSCALL and SYSRET
 * go by the TF that they leave. They call this; the engine, which clears step_decided before each stepped instruction, then
 * adds no DR6_BS to pending_debug. */
static inline void x86_step_decided(struct x86_core *core, bool trap)
{
	core->step_decided = true;
	if (trap)
		core->cpu.pending_debug |= DR6_BS;
}

/* fault.c -- Raises an exception out of instruction i (NULL: RIP is exact already): makes RIP point to i, counts the
 * instructions before it, and longjmps to core->unwind, where the engine calls x86_deliver_fault. */
_Noreturn void x86_raise(struct x86_core *, const struct insn *i, enum x86_vector);
_Noreturn void x86_raise_error(struct x86_core *, const struct insn *i, enum x86_vector, uint32_t error);
/* Leaves to the engine after (completed) or before instruction i, without an exception. RIP becomes exact. Returns:
 * the exec function then simply returns, and does not go on to i[1]. */
void x86_leave(struct x86_core *, const struct insn *i, bool completed);
/* exec_common.c -- Leaves before instruction i from any depth: longjmps to core->unwind with UNWIND_RESTART. */
_Noreturn void x86_restart(struct x86_core *, const struct insn *i);
enum { UNWIND_FAULT = 1, UNWIND_RESTART = 2 }; /* what setjmp(*core->unwind) returns */

enum x86_event_type { EVENT_INTERRUPT = 0, EVENT_NMI = 2, EVENT_EXCEPTION = 3, EVENT_SOFT_INT = 4, EVENT_ICEBP = 5, EVENT_SOFT_EXCEPTION = 6 };
/* Delivers through the IDT (IVT in real mode), SDM 3A 6.8 to 6.14: frames, stack switches, task gates, double and triple
 * fault (activity becomes X86_SHUTDOWN). RIP must be exact. Catches faults of its own: never longjmps to the caller. */
void x86_deliver_fault(struct x86_core *);                        /* what x86_raise left in core->fault */
void x86_deliver_interrupt(struct x86_core *, uint8_t vector);    /* external; clears X86_HALTED */
void x86_deliver_nmi(struct x86_core *);
/* INT n, INT3, INTO, INT1 out of an instruction; the return address is behind it. May raise. */
void x86_soft_interrupt(struct x86_core *, const struct insn *i, uint8_t vector, enum x86_event_type);
/* Delivers the event that another engine left half way in cpu.event_*, if there is one; true if it did. */
bool x86_deliver_pending(struct x86_core *);
/* An instruction breakpoint at RIP: delivers its #DB (a fault, before the instruction) and returns true. To be asked before each
 * instruction while DR7 enables any; EFLAGS.RF suppresses it, and the engine clears RF after the next instruction. */
bool x86_deliver_breakpoint(struct x86_core *);
/* Delivers the single-step or breakpoint trap in cpu.pending_debug, if there is one; true if it did. */
bool x86_deliver_debug(struct x86_core *);

/* paging.c -- */
struct x86_walk {
	gpa_t gpa;            /* of the address itself, not of the page */
	uint64_t page_size;   /* 4 KiB, 2 MiB, 4 MiB, 1 GiB */
	bool writable, user, global, dirty; /* combined rights; dirty: D is set, a write needs no further walk */
	bool nx;
	uint32_t error;       /* #PF error code when the walk fails */
};
/* Translates a linear address with the current paging mode. `user`: with user rights. Sets A and D bits (D for a write) when
 * `commit`. False: not allowed, walk->error tells. Without paging it is the identity. */
bool x86_walk(struct x86_core *, gva_t, enum x86_access, bool user, bool commit, struct x86_walk *);
/* For debuggers and traces: reads memory by linear address with no side effect; false if some of it is not mapped RAM. */
bool x86_peek(struct x86_core *, gva_t, void *data, size_t size);
/* tlb.c */
void x86_tlb_flush(struct x86_core *, enum x86_flush, unsigned pcid, gva_t);
/* Forgets write entries, so that pages are marked dirty or reported as code again; x86_tlb_drop_writes: without telling engines. */
void x86_tlb_flush_writes(struct x86_core *);
void x86_tlb_drop_writes(struct x86_core *);
/* The page that the linear address `rip` (CS.base + RIP) is in, for fetching: fills the entry's page and host; raises #PF / #GP with
 * i == NULL. The entry is valid until mapping_generation moves. */
const struct fetch_entry *x86_fetch_page(struct x86_core *, gva_t rip);
/* Loads the PAE PDPTEs from CR3; false if a reserved bit is set (then #GP). */
bool x86_load_pdptes(struct x86_core *, uint64_t cr3);

/* tlb.c -- the slow halves of mem.h; they fill the TLB, cross pages, reach devices, raise faults for i. */
uint64_t x86_load_slow(struct x86_core *, const struct insn *i, gva_t, unsigned size);
void x86_store_slow(struct x86_core *, const struct insn *i, gva_t, unsigned size, uint64_t value);
/* Any number of bytes, with all checks before the first byte is written. For frames, XSAVE areas, descriptors. */
void x86_load_bytes(struct x86_core *, const struct insn *i, gva_t, void *data, unsigned size);
void x86_store_bytes(struct x86_core *, const struct insn *i, gva_t, const void *data, unsigned size);
/* Loads and stores with supervisor rights whatever CPL is (descriptor tables, TSS), SDM 3A 4.6.1 */
uint64_t x86_load_system(struct x86_core *, const struct insn *i, gva_t, unsigned size);
void x86_store_system(struct x86_core *, const struct insn *i, gva_t, unsigned size, uint64_t value);
/* Host address of `size` bytes for a read-modify-write (write rights checked), or NULL if they cross a page or are no RAM:
 * then load, compute, and store. *written must be called with after the write when it is not zero: x86_rmw_done. */
void *x86_rmw_begin(struct x86_core *, const struct insn *i, gva_t, unsigned size, gpa_t *traced);
void x86_rmw_done(struct x86_core *, gpa_t traced, unsigned size);
/* Checks that a write of size bytes would succeed; raises if not. For instructions that must not fault half way. */
void x86_check_write(struct x86_core *, const struct insn *i, gva_t, unsigned size);

static inline unsigned x86_cpl(const struct x86_core *core)
{
	return core->cpl;
}
