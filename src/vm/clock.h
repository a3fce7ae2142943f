/* SPDX-License-Identifier: MIT */
/* The one virtual clock: every time a guest can see derives from it.
 *
 * Virtual time is nanoseconds since the VM was created, without the pauses. With CLOCK_HOST it follows the host: the guest's TSC is
 * the host's less an offset, so that engines can read it in line, and nanoseconds are computed from it, so that the TSC, the local APIC
 * and the 8254 never drift apart; where the host's TSC is not invariant both come from CLOCK_MONOTONIC. Timers fire on the loop thread. With
 * CLOCK_INSTRUCTIONS time is the count of retired instructions (one is one nanosecond; the TSC runs at 1 GHz), timers
 * fire on the vCPU thread at an exact count, and a halted machine jumps to its next timer: two runs are the same. With CLOCK_STEPPED
 * (tests) only clock_step moves it. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "util/bits.h"

struct vm;
struct vcpu;
struct device;
struct x86_core;

enum clock_mode { CLOCK_HOST, CLOCK_INSTRUCTIONS, CLOCK_STEPPED };

struct timer {
	struct vm *vm;
	struct device *owner;        /* its lock is held around fire */
	void (*fire)(struct device *, void *arg);
	void *arg;
	uint64_t deadline;           /* virtual ns; TIMER_OFF when not armed */
	struct timer *next;          /* in the clock's sorted list */
	const char *name;
};
#define TIMER_OFF UINT64_MAX

struct clock_ratio { /* y = x * mul >> shift, never above the exact value, and below it by less than 1 */
	uint64_t mul;
	unsigned shift;
};

struct clock {
	enum clock_mode mode;
	pthread_mutex_t lock;        /* guards the list and the fields below; innermost lock */
	struct timer *timers;        /* sorted by deadline */
	_Atomic uint64_t next;       /* deadline of the first, TIMER_OFF if none */
	_Atomic bool frozen;
	_Atomic uint64_t frozen_at;  /* in ticks, while frozen */
	bool tsc_direct;             /* CLOCK_HOST: ticks are the host's TSC; engines may read it in line: guest TSC = host TSC - origin */
	_Atomic uint64_t origin;     /* CLOCK_HOST: host ticks (TSC or monotonic ns) at virtual time 0; moved by pauses */
	_Atomic uint64_t counted;    /* the other modes: virtual ns */
	_Atomic(struct x86_core *) counting; /* CLOCK_INSTRUCTIONS: the processor that runs now; time is counted + its icount - counting_from */
	uint64_t counting_from;
	uint64_t tsc_hz;             /* of the guest's TSC */
	struct clock_ratio tsc_to_ns;
	int timerfd;                 /* CLOCK_HOST: becomes readable when a timer is due; the loop waits for it. -1: none */
	int64_t wall_offset;         /* wall-clock ns at virtual time 0: real time clocks derive from it */
};

/* clock.c */
int clock_init(struct vm *, enum clock_mode);
void clock_fini(struct vm *);
uint64_t clock_now(struct vm *);                     /* virtual ns; any thread */
uint64_t clock_tsc(struct vm *);                     /* guest TSC without a vCPU's tsc_offset; any thread */
uint64_t clock_ns_to_tsc(struct vm *, uint64_t ns);
uint64_t clock_tsc_to_ns(struct vm *, uint64_t tsc); /* of a TSC value: the virtual time at which the TSC reaches it */
int64_t clock_wall(struct vm *);                     /* ns since 1970 UTC */
/* A pause freezes the clock, a resume goes on from there. At a safe point; nests not. */
void clock_freeze(struct vm *);
void clock_thaw(struct vm *);
/* A restore: time goes on from here. While frozen, or before the VM starts. */
void clock_set(struct vm *, uint64_t ns);
/* CLOCK_STEPPED: moves time on by ns, firing timers in order at their exact times, on the caller's thread. */
void clock_step(struct vm *, uint64_t ns);
/* CLOCK_STEPPED: as if the host had been busy: ns have gone, and only then what is due fires, late. */
void clock_jump(struct vm *, uint64_t ns);
/* CLOCK_INSTRUCTIONS, vCPU thread: sets the time and fires what is due, each timer at its exact time. */
void clock_advance_to(struct vm *, uint64_t ns);
/* CLOCK_INSTRUCTIONS, vCPU thread: from here on this processor's instructions are the time; NULL: time stands. Returns the time. */
uint64_t clock_count(struct vm *, struct x86_core *);
/* Fires what is due now (CLOCK_HOST: loop thread). Returns the next deadline. Holds no lock of the caller's device. */
uint64_t clock_run(struct vm *);

/* Any thread, with or without owner's lock. Arming an armed timer moves it. A callback that runs already is not waited for:
 * since it takes owner's lock, the owner sees a consistent state. */
void timer_init(struct timer *, struct device *owner, const char *name, void (*fire)(struct device *, void *), void *arg);
void timer_arm(struct timer *, uint64_t deadline);
void timer_cancel(struct timer *);
static inline bool timer_armed(const struct timer *t) { return t->deadline != TIMER_OFF; }

/* tsc.c -- The host's TSC: its frequency, found once per process; *invariant: it runs at one rate in all power states, so it
 * can be a clock. */
uint64_t tsc_host_hz(bool *invariant);
