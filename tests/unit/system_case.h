/* SPDX-License-Identifier: MIT */
/* Cases for comparing system state with the manual: a processor, tables in memory, and one instruction, all from a seed. */
#pragma once
#include "system_model.h"

enum system_what {
	MOV_SREG, ASK, TABLE_REGISTER, JUMP, CALL, RETURN, IRETURN, INT_N, EXCEPTION, TASK, FAST, CONTROL, SYSTEM_WHATS
};
extern const char *const system_names[SYSTEM_WHATS];

/* A bit of `plain` takes something out of a case, so that it is made smaller by setting bits: what is left matters. */
enum {
	PLAIN_GDT = 0,          /* an entry of the test's own; the tasks' descriptors stay */
	PLAIN_LDT = PLAIN_GDT + (int)(GDT_ENTRIES - FLAT_FREE / 8 - TASKS), /* an entry */
	PLAIN_IDT = PLAIN_LDT + (int)LDT_ENTRIES, /* all gates are missing */
	PLAIN_STACKS,           /* of inner privileges: flat */
	PLAIN_TASKS,            /* their images: flat segments, flags clear */
	PLAIN_FLAGS, PLAIN_RSP, PLAIN_LDTR, PLAIN_TR, PLAIN_MSRS, PLAIN_CR, PLAIN_REGISTERS, PLAIN_BITS
};

struct system_case {
	uint64_t seed, plain;
	enum system_what what;
	enum flat_mode mode;
	uint8_t bytes[12];     /* the instruction, which is at CODE */
	unsigned length, n, size, reg;
	bool wide;
	uint16_t selector;
	uint64_t offset;
};

/* Follows the instruction, and stands at each even address of the page at CODE + 1000h, where code mostly goes on: an engine that runs past the
 * instruction changes nothing. Two NOPs stand in front. */
#define JUMP_TO_ITSELF 0xfeeb
#define SYSTEM_MEMORY 0x16000u /* that a case fills: MEM bytes that are compared, and page tables */

struct system_want { /* by the manual; the state is in m */
	int vector;            /* of the instruction's fault, -1: none */
	uint32_t error;
	bool task_fault;       /* it is a new task's, and not delivered: some of the state is not said */
};

/* system_case.c -- What the case is, into the flat machine: its processor and flat_ram. */
void system_build(struct flat *, struct system_case *, uint64_t seed, uint64_t plain);
/* What the seed's case will be, without building it. */
enum system_what system_what_of(uint64_t seed);

/* system_compare.c -- Has the model run what was built, and deliver what comes of it. False: the case is to be skipped. */
bool system_expect(const struct flat *, const struct system_case *, struct system_want *);
/* Is a processor with its memory as the model says? */
bool system_same(const struct system_case *, const struct system_want *, const struct x86_core *, const uint8_t *memory);
/* Prints the case, and how the processor differs from the model. */
void system_show(const struct system_case *, const struct system_want *, const struct x86_core *, const uint8_t *memory);
