/* SPDX-License-Identifier: MIT */
/* The host side's event loop: one thread, epoll, timers of the virtual clock, and the gate through which input enters. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "util/bits.h"

struct vm;
struct device;

struct loop_fd { /* caller's storage, lives as long as it is added */
	int fd;
	void (*ready)(struct loop_fd *, uint32_t epoll_events); /* loop thread */
	void *arg;
	struct loop_fd *next; /* loop.c's */
};

struct event; /* a queued input */

/* Who has inputs from outside first, in place of the machine, where the clock counts instructions: lockstep. `device` NULL: a request for a reset. Called on the poster's thread. */
struct input_taker {
	void (*take)(void *arg, struct device *, unsigned kind, const void *data, size_t len);
	void *arg;
};

struct loop {
	int epoll, wake; /* wake: eventfd */
	pthread_t thread;
	bool running;
	atomic_bool quit;
	pthread_mutex_t dispatch;    /* recursive; held while a callback runs: guards fds */
	struct loop_fd *fds;         /* what is added */
	struct loop_fd wake_fd, timer_fd;
	pthread_mutex_t lock;        /* guards the queue */
	struct event *first, **last; /* CLOCK_INSTRUCTIONS: inputs that wait for a vCPU boundary */
	_Atomic unsigned queued;
};

/* loop.c */
int loop_init(struct vm *);
void loop_fini(struct vm *);
int loop_start(struct vm *);
void loop_stop(struct vm *);
void loop_wake(struct vm *); /* any thread: look at the timers again */
/* Any thread that holds no lock which a ready() takes. After loop_remove ready() runs no more (unless it is ready() that removes). 0 or
 * -errno, without a message. */
int loop_add(struct vm *, struct loop_fd *, uint32_t epoll_events);
int loop_change(struct vm *, struct loop_fd *, uint32_t epoll_events);
void loop_remove(struct vm *, struct loop_fd *);
/* Between them no callback of the loop runs, no timer and no ready(): for safe points that need the devices to stand still. Nests. */
void loop_pause(struct vm *);
void loop_resume(struct vm *);

/* Every input from the host (a character, a packet, a completed request, a key, wall time) enters the machine here and nowhere else. Any
 * thread, holding no device lock. The device's class->event is called with its lock held: with CLOCK_HOST and CLOCK_STEPPED at
 * once, on this thread; with CLOCK_INSTRUCTIONS on the vCPU thread at an instruction boundary, stamped with the
 * count. Data is copied. */
void event_post(struct device *, unsigned kind, const void *data, size_t len);
/* CLOCK_INSTRUCTIONS: what a taker was given comes in at the next boundary. Any thread. */
void event_queue(struct device *, unsigned kind, const void *data, size_t len);
/* Gives an input to the taker: false if there is none, or the caller is a vCPU's thread, whose posts are the machine's own doing. */
bool event_taken(struct vm *, struct device *, unsigned kind, const void *data, size_t len);
/* vCPU thread, at a boundary: delivers what is queued. */
void event_drain(struct vm *, uint64_t icount);
