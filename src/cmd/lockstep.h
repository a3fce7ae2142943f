/* SPDX-License-Identifier: MIT */
/* The parts of lockstep (verify.c has the idea): two machines, where they meet, what they are compared by, and the log of what came from outside. */
#pragma once
#include <pthread.h>
#include "cmd/verify.h"

#define LISTED 24       /* instructions that a report shows */
#define DIFFERENCES 12  /* and registers or bytes */

struct lockstep;
struct side { /* a device, so that its timer has a lock; a machine's part in the meetings */
	struct device device;
	struct timer timer;
	uint64_t at;             /* the count at which it fires */
	struct input *input;     /* of the log: the next that this machine gets, when it runs again */
	struct lockstep *l;
};

struct input { /* from outside, to both machines */
	struct input *next;
	uint64_t at;             /* the count at which they stood */
	char device[32];         /* its name; empty: the reset button */
	unsigned kind;
	size_t len;
	uint8_t data[];
};

struct lockstep {
	struct vm *vm[2];
	struct side *side[2];
	uint64_t every;
	bool awaits;                 /* inputs may come: what the machines sleep is waited for */
	bool replays;                /* the log is what comes in, and nothing else */
	uint64_t plan_from, plan_to; /* the next meetings are there, then no more: plan_to 0: each `every` */
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned arrived;
	uint64_t meeting, next;      /* how many there were; the count of the next one */
	uint64_t equal_at, different_at;
	bool different, stepping, idle;
	uint64_t *met, met_count;    /* the counts of the first run's meetings */
	bool as_before;              /* on the way to plan_from the machines meet there, too */
	bool elsewhere;              /* they differ if they meet as before only */
	char text[DIFFERENCES][160];
	unsigned texts;
	uint64_t excused, meetings;
	char listed[LISTED][128];    /* a ring of what the interpreter ran */
	uint64_t listed_count;
	struct input *log, **log_end, *pending, **pending_end; /* what came in; what is to come in at the next meeting */
	uint64_t inputs;
};

/* verify_compare.c -- At a meeting, with the lock held. One more line for the report: */
__attribute__((format(printf, 2, 3))) void lockstep_differ(struct lockstep *, const char *format, ...);
void lockstep_compare_processors(struct lockstep *);
/* What either machine wrote since the last meeting; with `all` also what an engine wrote without saying so. */
void lockstep_compare_memory(struct lockstep *, bool all);

/* verify_input.c -- For struct input_taker of the first machine, `arg` is the lockstep: from any thread, keeps an input until the next meeting. */
void lockstep_take_input(void *arg, struct device *, unsigned kind, const void *data, size_t len);
/* At a meeting, with the lock held: what is pending comes to both machines, and into the log. */
void lockstep_give_inputs(struct lockstep *);
/* One machine that runs again, at a count: what the log has for it there. */
void lockstep_replay(struct side *, unsigned me);
/* The count of a machine's next input in the log; UINT64_MAX: none. */
uint64_t lockstep_replay_next(const struct side *);
void lockstep_inputs_free(struct lockstep *);
