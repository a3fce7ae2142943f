/* SPDX-License-Identifier: MIT */
/* Signals and threads: requests from outside are for the main thread; what a thread does wrong stays its own. */
#pragma once
#include <signal.h>

/* All signals but those that an instruction of the thread itself raises. If those were blocked, a crash would end the program without its
 * handlers, which give the terminal back. For the mask of every thread but the main one. */
static inline void signals_of_others(sigset_t *set)
{
	static const int own[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP };

	sigfillset(set);
	for (unsigned i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(set, own[i]);
}
