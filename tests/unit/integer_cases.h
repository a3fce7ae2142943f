/* SPDX-License-Identifier: MIT */
/* Random integer instructions with the state that they need: encodings per row of insn_integer.def. SDM volume 2.
 *
 * An encoding is a line of words, much as the manual writes it:
 *   XX          opcode byte (hexadecimal); the last may have a register added by +r
 *   !66 !f2 !f3 mandatory prefix            v.MAP.PP  VEX with a register in vvvv, w.MAP.PP without (PP 1: 66, 2: F3, 3: F2)
 *   /r /0../7   ModRM byte                  m         its operand must be memory
 *   ib iw iz iv immediate; mo: address of MOV's A0-A3; rel8 relz: branch displacement; lv: ENTER's level
 *   l           LOCK is allowed             no66      no operand size prefix in 64-bit code
 *   32 64       not in 64-bit code, only there         W  with REX.W
 * and what the operands must be for more than faults to come of it:
 *   stk bp      stack pointer, frame pointer into the data      str xlat   string operands, table
 *   bit         bit offset near             div     quotients that mostly fit
 *   cmpx cmpp   rAX, rDX:rAX as in the destination, half of the time      a16   operand aligned to 16 bytes
 *   tgt ret     the operand, the top of the stack is a branch target      cnt   small count in rCX */
#pragma once
#include "hostrun.h"

#define CASE_BYTES 32 /* encodings that are too long may come out */

struct integer_row {
	const char *group;     /* rows of one group are together */
	const char *name;      /* as in insn_integer.def */
	const char *encodings; /* separated by ';' */
	int feature;           /* CPUID bit that the host must have, FEATURE_* of features.h; -1: none */
};
extern const struct integer_row integer_rows[];
extern const unsigned integer_row_count;

struct integer_case {
	uint8_t bytes[CASE_BYTES];
	unsigned length;
	struct host_state state;
	unsigned fill;               /* what the data is filled with: integer_fill */
	uint64_t poke_at, poke[2];  /* 16 bytes that are put into the data then, unless poke_at is 0 */
};

/* Makes a random instance of one of the row's encodings for `mode`; false when it has none there. */
bool integer_case_make(struct integer_case *, const struct integer_row *, uint32_t mode);
/* Fills the writable data: the same for the same case. */
void integer_case_fill(const struct integer_case *);

void random_seed(uint64_t seed);
uint64_t random_next(void);
static inline unsigned random_below(unsigned n)
{
	return (unsigned)((random_next() >> 32) * n >> 32);
}
static inline bool one_in(unsigned n)
{
	return !random_below(n);
}
