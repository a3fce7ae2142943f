/* SPDX-License-Identifier: MIT */
/* The virtual machine: what holds memory, buses, interrupt lines, clock, processors and devices together. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include "util/bits.h"
#include "vm/memory.h"
#include "vm/bus.h"
#include "vm/irq.h"
#include "vm/clock.h"
#include "vm/loop.h"
#include "vm/device.h"
#include "vm/doorbell.h"

struct engine;
struct vcpu;
struct x86_model;
struct debugger;

#define ENGINE_SLOTS 8

enum vm_end { /* why a VM stopped for good; the first reason is kept */
	VM_RUNS = 0,
	VM_POWERED_OFF,  /* ACPI S5 */
	VM_DEBUG_EXIT,   /* the guest wrote the debug-exit port: value in vm->end_value */
	VM_CRASHED,      /* triple fault, or shutdown otherwise */
	VM_KILLED,       /* the monitor cannot go on: reason in vm->end_reason */
	VM_STOPPED,      /* the user asked (Ctrl-A x, SIGTERM, stop) */
};

struct vm_config {
	const char *name;
	const char *engine;          /* name, or NULL for the default */
	const char *engine_options;  /* "irqchip=user,...", or NULL */
	uint64_t memory;             /* bytes of RAM */
	unsigned cpus;
	const struct x86_model *model;
	enum clock_mode clock;
	bool profile;                /* --stats: where the time goes is to be counted, too */
	bool reset_ends;             /* --no-reboot: a reset powers off */
	struct input_taker taker;    /* who has inputs first; take NULL: nobody */
};

struct vm {
	struct vm_config config;
	struct memory memory;
	struct bus bus;
	struct irq irq;
	struct clock clock;
	struct loop loop;
	struct doorbell *doorbells;  /* of its devices */
	struct device *devices;      /* in order of creation; reset, save, load and listing walk it */
	const struct engine *engine; /* that its processors run on, where it can; the interpreter runs the rest */
	/* By engine->slot: those that are set up for this VM, which the interpreter always is. One that was left stays, so that going back is
	 * quick; it hears of what changes. */
	const struct engine *_Atomic engines[ENGINE_SLOTS];
	char *engine_options[ENGINE_SLOTS]; /* that the engine was set up with; NULL: none */
	void *engine_data[ENGINE_SLOTS]; /* by engine->slot: the engine's own, of the VM; each vCPU has the same */
	struct vcpu **vcpu;          /* config.cpus of them */

	bool tsc_is_host;            /* an engine cannot but show the host's TSC: RESET sets the guest's to it, not to 0 */
	uint64_t reset_tsc;          /* the clock's TSC when the machine was reset: that of all processors counts from there */
	/* Plays the firmware after each reset (NULL: none): fills memory, and puts the boot processor in front of the first program. vm_reset
	 * calls it last; the owner calls it himself before vm_start. 0, or -errno after log_error (then the VM is killed). */
	int (*boot)(struct vm *, void *arg);
	void *boot_arg;

	pthread_mutex_t lock;        /* guards run state below */
	pthread_cond_t changed;
	_Atomic unsigned unseen;     /* vCPUs whose stores nobody is told of at present: see vcpu_unseen */
	_Atomic unsigned stop_count; /* vcpu_stop_all nesting */
	pthread_t stop_owner;        /* while stop_count is not 0: whose safe point it is */
	_Atomic bool paused;         /* vCPUs stay outside, and the clock stands, until vm_unpause */
	unsigned vcpus_outside;      /* vCPUs that are parked or not started */
	bool taking_turns;           /* one thread runs all vCPUs (or none was started): they are outside together */
	pthread_t turns;
	struct debugger *debugger;   /* debugger.h; NULL: none */
	bool started;
	_Atomic int end;             /* enum vm_end */
	uint64_t end_value;
	char end_reason[256];
	atomic_bool reset_requested;
	struct {
		uint64_t switches, ns_switching; /* of engines, and how long nothing ran for it */
		uint64_t doorbells;          /* rings that came by the loop */
	} stat;
};

/* vm.c -- Life cycle; all from the main thread unless said. 0 or -errno, after log_error. */
int vm_create(struct vm **, const struct vm_config *);
/* Starts a thread per vCPU (with CLOCK_INSTRUCTIONS one thread for all, taking turns) and the loop thread. */
int vm_start(struct vm *);
/* Returns when the VM has ended; every thread is joined. */
enum vm_end vm_wait(struct vm *);
void vm_destroy(struct vm *);
/* Any thread. Ends the VM; the first call wins. */
void vm_finish(struct vm *, enum vm_end, uint64_t value);
/* Any thread. Something that a guest or a stream contains makes it impossible to go on. */
void vm_kill(struct vm *, const char *reason, ...) __attribute__((format(printf, 2, 3)));
/* Any thread: reset of the whole machine at the next safe point (keyboard controller, port CF9h, triple fault is *not* one). */
void vm_reset_request(struct vm *);
/* At a safe point: resets all devices in order, then all processors. */
void vm_reset(struct vm *);
/* vm_engine.c -- Hands the processors to another engine, at a safe point. Any thread but a vCPU's, holding no lock. *ns: for how long nothing
 * ran. -EALREADY, without a message, when it is the present one; another -errno, after log_error, when the other cannot run here or
 * cannot take the machine: then it goes on as before. */
int vm_engine_switch(struct vm *, const struct engine *, uint64_t *ns);
/* As before, with options for the engine, "irqchip=user,...". -EBUSY, after log_error, when it was set up before with others: they cannot change while
 * the machine lives. NULL: as it was set up, or its defaults. */
int vm_engine_switch_with(struct vm *, const struct engine *, const char *options, uint64_t *ns);
/* For vm.c and vcpu.c: chooses by the configuration, and sets up; then the processors. 0 or -errno, after log_error. vm_engines_fini,
 * vcpu_engines_fini: after a failure, too. */
int vm_engine_choose(struct vm *);
int vm_engines_init(struct vm *);
void vm_engines_fini(struct vm *);
int vcpu_engines_init(struct vcpu *);
void vcpu_engines_fini(struct vcpu *);
/* vcpu_stop.c -- Any thread but a vCPU's, holding no lock; also before vm_start. Nothing of the machine runs and its time stands until
 * vm_unpause, without the guest noticing; inputs are taken. False if it was so already. */
bool vm_pause(struct vm *);
bool vm_unpause(struct vm *);
/* vm.c -- SHA-less hash of RAM and architectural state (64-bit FNV-1a), to compare runs. At a safe point. */
uint64_t vm_hash(struct vm *);
