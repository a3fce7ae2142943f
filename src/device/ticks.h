/* SPDX-License-Identifier: MIT */
/* Periodic ticks that could not be shown when they were due.
 *
 * A guest that counts time by ticks (8254, MC146818, local APIC timer in periodic mode) falls behind for good with each one that it does not
 * see. On a real machine that is so when it keeps interrupts off for a whole period. Here the host may also be at fault: it ran the timer's
 * thread late, or did not run the processor's. So a tick that is due while the one before still waits to be taken, or that was
 * missed, is owed: it is shown later, in the middle between two others, so that the guest's time runs at double speed until it has caught up.
 * More than TICKS_OWED are not owed: the rest is dropped, since a guest that was away for long shall not be drowned when it comes back.
 *
 * Nothing is owed where the guest masks the interrupt, nor with --clock instructions, whose time waits for the guest. Debts are the host's, and
 * no part of the saved state. */
#pragma once
#include "vm/vm.h"

#define TICKS_OWED 250u
#define TICKS_SHORTEST 100000u /* ns; faster ones are not made up for */

struct ticks {
	unsigned owed;
};

/* `due` ticks fell due now and before, none if it is only time for one that is owed. Is one to be shown? */
static inline bool ticks_show(struct ticks *t, const struct vm *vm, uint64_t due, uint64_t period_ns, enum irq_request request)
{
	if (request == IRQ_UNHEARD || vm->clock.mode == CLOCK_INSTRUCTIONS || period_ns < TICKS_SHORTEST) {
		t->owed = 0;
		return due;
	}
	t->owed = (unsigned)MIN(t->owed + due, (uint64_t)TICKS_OWED);
	if (request == IRQ_WAITS || !t->owed)
		return false;
	t->owed--;
	return true;
}
