/* SPDX-License-Identifier: MIT */
/* Pseudo-random numbers for tests, the same in each run unless chance_seed is changed first. */
#pragma once
#include <stdint.h>

static uint64_t chance_seed = 0x9e3779b97f4a7c15; /* never 0 */

static inline uint64_t chance(void) /* xorshift64*, Vigna 2016 */
{
	chance_seed ^= chance_seed << 13;
	chance_seed ^= chance_seed >> 7;
	chance_seed ^= chance_seed << 17;
	return chance_seed * 0x2545f4914f6cdd1d;
}

static inline unsigned below(unsigned n)
{
	return (unsigned)(chance() >> 33) % n;
}
