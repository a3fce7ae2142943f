/* SPDX-License-Identifier: MIT */
/* Cases of the bulk comparison: an instruction and a state, both from a seed, so that a case is a line of text.
 *
 *   64 c5f458c2 seed 1234 plain 0        mode, bytes, what the state is made from, what of it is plain
 *
 * Every register, MXCSR, the x87 state and memory come from the seed independently of each other. A bit of `plain` makes one of them plain:
 * zero, or the state after FNINIT and LDMXCSR 1F80h. So a case is made smaller by setting bits. */
#pragma once
#include "hostrun.h"

enum bulk_kind { /* what becomes of the memory operand */
	KIND_REGISTER, /* there is none */
	KIND_INSIDE,   /* in a page, at any alignment */
	KIND_CROSS,    /* across two pages that are there */
	KIND_END,      /* the last bytes are not there, or may not be written: each number of them */
	KIND_START,    /* the first bytes are not there */
	KIND_READONLY,
	KIND_HOLE,
	KIND_FAR,      /* not canonical; beyond the limit of 16-bit code's segment */
	KINDS
};
enum { PLAIN_GPR = 0, PLAIN_VECTOR = 16, PLAIN_MXCSR = 32, PLAIN_X87, PLAIN_FLAGS, PLAIN_MEMORY, PLAIN_BITS };

struct bulk_case {
	uint32_t mode;          /* MODE_CODE* */
	uint8_t bytes[24];
	unsigned length;
	uint64_t seed, plain;
	enum bulk_kind kind;    /* as it came out of the seed */
	unsigned missing;       /* KIND_END, KIND_START: bytes that are not there */
};

/* A way to encode an operation; what is not in it is chosen by chance. */
struct bulk_template {
	uint8_t mode;                      /* index of bulk_modes */
	uint8_t vex, map, prefix, wide, l; /* map 0 to 3: none, 0F, 0F38, 0F3A */
	uint8_t opcode, reg, rm;
	uint8_t memory;                    /* ModRM has a memory operand; 2: there is no ModRM */
};
extern const uint32_t bulk_modes[3];
extern const char *const bulk_mode_names[3];

/* bulk_case.c -- Chooses bytes and a seed for a template; false when they come out as something that is not to be run. */
bool bulk_make(struct bulk_case *, const struct bulk_template *, const struct x86_core *);
/* As the twin decodes it; X86_OP_INVALID when the bytes hold no whole instruction. */
struct insn bulk_decode(const struct bulk_case *, const struct x86_core *);
/* The state and memory of a case. */
void bulk_state(struct bulk_case *, struct host_state *, const struct x86_core *);
void bulk_memory(const struct bulk_case *);
/* To text and back; bulk_parse is false for what is no case. */
void bulk_print(const struct bulk_case *, char text[160]);
bool bulk_parse(struct bulk_case *, const char *text);
/* Has the instruction an operand in memory? */
bool bulk_has_memory(const struct insn *);
uint64_t bulk_hash(uint64_t seed, uint64_t what);
