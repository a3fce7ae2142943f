/* SPDX-License-Identifier: MIT */
/* Random programs of functions that call each other: direct and indirect calls and jumps with all kinds of operands, recursion, returns that release, that skip,
 * that go elsewhere, frames and stacks that are switched, and what is left in the middle of it; with calls at a page's very end, and code that changes itself. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* Where they are in flat_ram. */
#define CALL_CODE 0x20000u
#define CALL_PAGES 3u
#define CALL_OTHERS 0x24000u /* pages with other immediates, which may be in their places */
#define CALL_DATA 0x30000u   /* what functions are called by, counters, words; and: */
#define CALL_FUEL (CALL_DATA + 0x00)   /* calls, until functions only return */
#define CALL_RANDOM (CALL_DATA + 0x08)
#define CALL_ROUND (CALL_DATA + 0x10)  /* rounds of the main part; then INT CALL_END */
#define CALL_STACK 0xf0000u  /* the top of one; two more are above it, a page each */

#define CALL_END 0x81
#define CALL_REMAP 0x82      /* INT of this and the next two: pages may change */

struct call_program {
	uint64_t linear[2];   /* where the code is; it calls both */
	bool wide;            /* 64-bit code */
	bool wild;            /* it does what no program should, too, and is to be begun again then */
};

/* From now on numbers are those of this seed. */
void call_seed(uint64_t);
uint32_t call_any(uint32_t below);
/* Puts one into flat_ram. */
void call_generate(const struct call_program *);
