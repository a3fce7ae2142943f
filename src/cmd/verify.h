/* SPDX-License-Identifier: MIT */
/* Lockstep: an engine's machine beside one that the interpreter runs, compared as they go. */
#pragma once
#include "cmd/machine.h"

#define VERIFY_REFERENCE "interp" /* the engine that all others are compared with */

struct verify_maker { /* the caller's way to two equal machines */
	/* Makes both machines, with CLOCK_INSTRUCTIONS: pair[0] with the engine that is verified, pair[1] with interp. pair[0] may have inputs, with
	 * this taker, and outputs; where that is NULL neither has any. 0, or an exit status after an error message. */
	int (*make)(void *arg, struct vm *pair[2], const struct input_taker *);
	/* pair[0] has ended, and had outputs: writes out what it still owes. May be NULL. */
	void (*drain)(void *arg);
	/* Also after a make that failed, and at the end. */
	void (*unmake)(void *arg);
	void *arg;
	bool awaits; /* inputs may come: the machines sleep as long as they say, and do not end for want of any */
};

/* verify.c -- Runs both, comparing each `every` instructions, until they end or differ. A difference is narrowed down by running
 * them again from the start, and reported on stderr with what the interpreter ran there. *end says how the machines ended: VM_KILLED when they
 * differ. 0, or an exit status of `make`. Main thread. */
int verify_run(const struct verify_maker *, uint64_t every, enum vm_end *end, uint64_t *end_value);

/* run_pair.c -- The same for a command line: `like` is what both machines start as. An exit status. Main thread. */
int run_pair(const struct machine *like, const struct run_options *);
