/* SPDX-License-Identifier: MIT */
/* Lockstep: an engine's machine beside one that the interpreter runs, compared as they go. */
#pragma once
#include "cmd/machine.h"

#define VERIFY_REFERENCE "interp" /* the engine that all others are compared with */

struct verify_maker { /* the caller's way to two equal machines */
	/* Makes both machines, with CLOCK_INSTRUCTIONS and without any input: pair[0] with the engine that is verified, pair[1] with interp. With
	 * `quiet` neither has an output. 0, or an exit status after an error message. */
	int (*make)(void *arg, struct vm *pair[2], bool quiet);
	void (*unmake)(void *arg);
	void *arg;
};

/* verify.c -- Runs both, comparing each `every` instructions, until they end or differ. A difference is narrowed down by running
 * them again from the start, and reported on stderr with what the interpreter ran there. *end says how the machines ended: VM_KILLED when they
 * differ. 0, or an exit status of `make`. Main thread. */
int verify_run(const struct verify_maker *, uint64_t every, enum vm_end *end, uint64_t *end_value);

/* run_pair.c -- The same for a command line: `like` is what both machines start as. An exit status. Takes standard input away. Main thread. */
int run_pair(const struct machine *like, const struct run_options *);
