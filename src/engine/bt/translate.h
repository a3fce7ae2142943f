/* SPDX-License-Identifier: MIT */
/* What the parts of the translator share: memory.c writes accesses, translate.c and flow.c instructions, block.c what is around them. */
#pragma once
#include "engine/bt/emit.h"

/* The linear address of a memory operand, as far as it is computed. */
enum ea_kind {
	EA_BASE,  /* register + disp, still to be added */
	EA_T,     /* in HOST_T */
	EA_CONST, /* known */
};
struct ea {
	uint8_t kind, base;
	int32_t disp;
	bool in_page;      /* in HOST_T, but its low bits, up to the size of a page, are those of `constant` */
	uint64_t constant;
	bool constant_mask; /* memory_index is to load no mask */
};

enum alignment {
	ALIGNED,  /* it is, or the host's instruction insists on it */
	CHECKED,  /* by the access, which copes with what is not */
	STRICT,   /* the same, but what is not is for the exec function */
};

enum stub_kind {
	STUB_MISS,    /* the entry is empty, or the access misaligned */
	STUB_EXEC,    /* for the exec function */
	STUB_FPU,     /* x87 state has to be loaded first */
	STUB_LINK,    /* an exit that leads nowhere yet */
	STUB_FAR,     /* a jump to another page */
	STUB_PLAIN,   /* on with the plain copy */
	STUB_RANGE,   /* a group that may reach into the next page: does it? */
	STUB_POLL,    /* between two rounds of a loop: somebody wants the processor */
	STUB_LEAVE,   /* a path is left where calls are open */
	STUB_ELSEWHERE, /* the same, to an address in HOST_T */
};
struct stub {
	uint8_t kind, log_size, alignment;
	uint16_t range;
	bool write;
	uint32_t fix;       /* a 32-bit displacement that leads here, 0: none yet */
	uint32_t insn, exit;
	uint32_t back;
	struct ea ea;
	uint64_t rip;
	uint8_t open;       /* the innermost call, and RSP: struct translation */
	int32_t moved;
};

#define STEPS_MAX 384         /* of a fast copy */
#define PATH_MAX 128
#define STUBS_MAX (4 * STEPS_MAX + (OPEN_MAX + 2) * PATH_MAX + 2 * STREAMS_MAX + 8) /* four an instruction (x87 state, FS, page end, entry); where a block ends, one that leads there, and its exits: tests/unit/bt_room.c */
#define SHORTS_MAX 14

struct pending {            /* a short jump to a stub that needs an island within its reach */
	uint32_t where;
	unsigned stub;
};

/* The memory accesses of a fast copy, in groups that differ by constants: group.c. */
#define GROUPS_MAX 32
#define GROUP_NONE 0xff
enum access { ACCESS_OPERAND, ACCESS_STACK, ACCESSES };
#define NO_REGISTER (X86_GPR_ZERO * 8) /* for base and scaled, as in struct insn */
struct stream {               /* a group as it is when a round of a loop begins, in the first one */
	uint8_t base, scaled, scale; /* where it begins, as in struct insn */
	int64_t disp;
	uint16_t at, range;   /* where that is from the group's lowest byte on; and how many bytes are accessed from there on */
	int32_t by;           /* from round to round */
};
#define STREAMS_MAX 6
#define STREAM_BY_MAX 1024
struct group {
	uint16_t first, last; /* steps */
	uint8_t slot;         /* where its host address may wait */
	uint16_t count;       /* accesses: two an instruction at most */
	uint16_t range;       /* from its lowest byte on */
	bool same;            /* all are of the same bytes */
	bool streams;         /* it is looked for in front of the loop: */
	struct stream stream;
};
struct step {                 /* an instruction of a fast copy */
	uint32_t id;
	bool last;            /* of its block, and another one follows */
	bool indexed;         /* ACCESS_OPERAND is found by the group and an index register */
	uint8_t group[ACCESSES];
	uint16_t at[ACCESSES]; /* from the lowest byte of the group */
};
struct plan {
	uint32_t path[PATH_MAX]; /* the blocks, in the order in which they run */
	unsigned blocks;
	struct step step[STEPS_MAX];
	unsigned steps;
	unsigned round;          /* steps of each of its rounds, if it is a loop with streams; else 0 */
	struct group group[GROUPS_MAX];
	unsigned groups;
};

/* A call on the path of a fast copy whose return has not come yet. */
struct open_call {
	uint32_t block;
	uint8_t outer;        /* the one around it, or OPEN_NONE */
	uint64_t next;        /* where its return leads */
	int64_t at;           /* where the return address is, from where RSP was when the path began */
};
#define OPEN_NONE 0xff
#define OPEN_MAX 4u           /* so many are expected to return when the path is left */

struct translation {
	struct emit e;
	struct bt *bt;
	struct bt_block *block;
	struct bt_insn *rec;  /* of the instruction at hand */
	const struct insn *insn;
	uint32_t id;          /* its index */
	const uint8_t *bytes; /* of the instruction */
	struct x86_shape *shape; /* of the instruction, NULL: it has none that matters */
	unsigned width;       /* of addresses and the stack, in bytes: 8 or 4 */
	bool narrow;          /* outside of long mode: see bt_mode_narrow */
	struct stub stub[STUBS_MAX];
	unsigned stubs;
	struct pending pending[SHORTS_MAX];
	unsigned shorts;
	bool polled;          /* the copy has looked whether somebody wants the processor */
	bool tight;           /* islands are to come early: it did not work otherwise */
	bool too_far;         /* an island was out of reach: what was written of this instruction is no good */
	struct insn insns[STEPS_MAX]; /* by instruction, or step */
	struct x86_shape shapes[STEPS_MAX];
	bool shaped[STEPS_MAX];
	const struct plan *plan;       /* of the fast copy; NULL: this is the plain one */
	unsigned step;
	uint32_t ready;       /* groups whose host address is known */
	uint32_t kept, wanted; /* those that are to be in their slots; those that were looked for there */
	unsigned held, second; /* the groups whose host addresses are in HOST_T and in HOST_X, or GROUP_NONE */
	struct open_call open[PATH_MAX];
	unsigned opened, inner; /* calls so far; the innermost one that is open, or OPEN_NONE */
	int64_t moved;        /* how far RSP is from where it was */
};

/* memory.c */
/* Host register of a guest register, or HOST_NONE: it is in memory, at state_at(guest_slot()). */
unsigned guest_host(unsigned guest);
struct operand guest_slot(unsigned guest);
/* Computes the address of i's memory operand; uses HOST_T and HOST_X. False: it is not one that can be. */
bool memory_address(struct translation *, const struct insn *i, struct ea *);
/* From an address to the host's operand. Uses HOST_X, and HOST_T unless ea->kind is EA_BASE. */
struct operand memory_access(struct translation *, const struct ea *, unsigned size, bool write, enum alignment);
/* HOST_X becomes the index in the delta table of the linear address in `from`, with `low` bits of it that must not be set. */
void memory_index(struct translation *, unsigned from, unsigned low, bool constant);
/* As memory_access, for 16 and 32 bytes at any alignment. */
struct operand memory_access_wide(struct translation *, const struct ea *, unsigned size, bool write);
/* Whether `size` bytes from the linear address in HOST_T on are in one page; else the plain copy goes on, or, of that, the exec function. Uses HOST_X. */
void memory_within(struct translation *, unsigned size);
struct operand memory_stack(struct translation *, int32_t disp, unsigned size, bool write, enum alignment);
/* HOST_T is free behind this. */
void memory_free(struct translation *, struct operand *);
/* Is it aligned for sure? */
bool memory_aligned(const struct translation *, const struct insn *i, const struct ea *, unsigned size);
/* Short jumps reach 127 bytes: before more is written, those that wait get a long jump within reach. */
void memory_island(struct translation *, bool around);
void memory_room(struct translation *);
void memory_room_for(struct translation *, unsigned bytes);
/* Would an island written now be within reach of all that wait for one? */
bool memory_reachable(const struct translation *);
/* The exec function does the instruction: jumps there. */
void memory_exec(struct translation *);
/* The exec function does the instruction if HOST_X is zero. */
void memory_exec_if_zero(struct translation *);
/* x87 state is in the processor behind this. */
void memory_want_fpu(struct translation *);
unsigned stub_add(struct translation *, struct stub);
void stubs_emit(struct translation *);

void memory_jump_if_zero(struct translation *, struct stub); /* HOST_X */

/* group.c */
/* Finds the groups of the plan's steps, whose shapes are in the translation. */
void group_plan(const struct translation *, struct plan *);

/* locate.c */
/* The host's operand, by a group; false: the access is in none. Uses HOST_X, and HOST_T. i: the instruction; disp: from RSP, for ACCESS_STACK. The
 * operand is based on `in`, and the other one of the two is free; HOST_NONE: on either, and neither is free. */
bool group_operand(struct translation *, const struct insn *i, enum access, int32_t disp, unsigned in, struct operand *);
/* In front of a loop: where its streams are, and how often it goes round; else the plain copy goes on. */
void stream_begin(struct translation *, unsigned rounds_at_once);
/* x / by is x * factor >> shift, in 32 bits, for x below 4096 and `by` up to STREAM_BY_MAX. */
struct divisor { uint32_t factor; unsigned shift; };
struct divisor stream_divisor(unsigned by);
/* Where a round begins: the streams' host addresses are there, and nothing else. */
void stream_round(struct translation *);
/* Where so many rounds end. */
void stream_advance(struct translation *, unsigned rounds);

/* translate.c */
/* Writes the instruction at hand. False: it became a call of its exec function. */
bool translate_insn(struct translation *);

/* again.c -- Writes it down as it is, with other registers and another operand. False: that cannot be. */
bool again_emit(struct translation *, const struct insn *, struct x86_shape *);
/* With an operand in memory AMD's processors do something else than the manual says: CVTPI2PS does not go over to MMX, and those of SHA do not fault when it is
 * misaligned, so that they might reach into the next page. So their exec functions do it. */
bool again_differs(const struct insn *, const struct x86_shape *);
/* May its operand in memory of 16 bytes or more be misaligned, without a fault? */
bool again_any_alignment(const struct insn *, const struct x86_shape *);
/* Is its memory operand one that a group may find? */
bool again_plain_operand(const struct insn *, const struct x86_shape *);
/* The instruction: does nothing; reads guest RCX by implication, and no more (it is then in host RCX, too). */
bool is_nop(const struct insn *);
bool reads_rcx(const struct insn *);
/* What leaves its result, of 32 bits, in RCX: it is in host RCX then. */
bool gives_rcx(const struct insn *);
static inline bool shape_writes(const struct shape_register *r, unsigned guest)
{
	return r->kind == SHAPE_GPR && r->written && r->number == guest;
}

static inline bool shape_is_x87(const struct x86_shape *s)
{
	return !s->vex && !s->map && s->opcode >= 0xd8 && s->opcode <= 0xdf;
}

/* fpu.c -- Notes an x87 instruction that was just written. ea: of its memory operand, whose linear address is in HOST_T where it is not in its base;
 * NULL: it has none. */
void fpu_note(struct translation *, const struct insn *, const struct ea *);

/* bits.c -- Writes an operation on one bit of a string in memory; false: the exec function has to do it. */
bool bits_emit(struct translation *, const struct insn *, const struct x86_shape *);

/* block.c -- How a block, or a fast copy, is entered. */
void translate_prologue(struct translation *);
/* The next block begins, without an entry: counts its instructions, unless somebody wants the processor. */
void translate_count(struct translation *, const struct bt_block *);

/* system.c -- What a kernel needs often. False: the exec function has to do it. */
bool system_emit(struct translation *, const struct insn *i);

/* path.c -- The blocks of the fast copy of t->block, and their steps. False: code is changing. */
bool path_find(struct translation *, struct plan *);

/* hot.c -- Out of line: the path is left. */
void hot_leave(struct translation *, const struct stub *);

/* flow.c -- The end of a block, or a branch. False: the exec function has to do it. */
bool flow_emit(struct translation *, const struct insn *i);
void flow_exit(struct translation *, int cc, uint64_t target);
/* A conditional jump by flags? */
bool flow_is_branch(const struct insn *);
/* Where a direct jump or call leads; where the next instruction stands. */
uint64_t flow_target(const struct translation *, const struct insn *);
uint64_t flow_next(const struct translation *, const struct insn *);
/* Within the block's page, so that what stands there is known whatever the page is mapped at? */
bool flow_in_page(const struct translation *, uint64_t target);
/* By how much a return moves RSP. */
unsigned flow_released(const struct translation *, const struct insn *);
/* A jump, call or return that goes on behind this if it leads to this address, in the block's page: one way for calls and returns on a path. If it leads
 * elsewhere, the stub is next, with HOST_T as it is. */
void flow_go_on(struct translation *, const struct insn *, uint64_t rip, struct stub otherwise);
/* That jumps to it; meanwhile it may be saved. */
void flow_save_target(struct translation *);
void flow_elsewhere(struct translation *, bool saved);
/* A call that is on the path of a fast copy, and its return is not: makes the processor, and the guest's return, expect to come to t->block's end, where `next` stands. by: from RSP to the return
 * address. Uses HOST_T and HOST_X. */
void flow_expect_return(struct translation *, uint64_t next, int32_t by);
void flow_far(struct translation *, uint64_t target);
