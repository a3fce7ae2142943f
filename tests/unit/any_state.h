/* SPDX-License-Identifier: MIT */
/* Random states that a processor can be in, in each kind of mode. */
#pragma once
#include "vm/vcpu.h"
#include "vm/vm.h"

enum kind { REAL, V86, FLAT, PAGED, PAE, LONG, LONG_USER, COMPATIBLE, KINDS };
extern const char *const any_state_names[KINDS];
extern uint64_t any_state_seed; /* not zero; what the next one comes from */

/* any_state.c -- The first processor of the machine is in one. quiet: nothing happens but what the code at RIP does. */
void any_state(struct vm *, enum kind, bool quiet);
