/* SPDX-License-Identifier: MIT */
/* What doppel run does with the signals that it gets: an end in good order, a picture of the screen, the terminal's state. */
#pragma once
#include <pthread.h>
#include <signal.h>
#include "cmd/machine.h"

struct signals {
	struct vm *vm;
	const struct run_options *options;
	const struct screen *screen;
	pthread_t thread;
	sigset_t set;
};

/* run_signals.c -- Main thread. Holds the signals off: before any other thread starts, since they inherit the mask. */
void signals_hold(struct signals *);
/* From here on they are handled. 0 or -errno, after log_error. */
int signals_start(struct signals *, struct vm *, const struct run_options *, const struct screen *);
void signals_stop(struct signals *);
