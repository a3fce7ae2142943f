/* SPDX-License-Identifier: MIT */
/* What an engine is: a way to run a processor. Engines know no device, devices know no engine. */
#pragma once
#include <stdio.h>
#include "util/set.h"
#include "vm/vcpu.h"

enum engine_capability {
	ENGINE_COUNTS = BIT(0),        /* counts instructions exactly, honours run_limit.icount */
	ENGINE_STEPS = BIT(1),         /* honours run_limit.step */
	ENGINE_DIRTY_LOG = BIT(2),
	ENGINE_SMP = BIT(3),
	ENGINE_IN_KERNEL_IRQ = BIT(4),
};

struct engine_report {
	bool usable;
	unsigned capabilities;
	unsigned mips;        /* rough speed: million instructions a second, measured or known; 0 if it runs nothing */
	unsigned cpus_max;    /* of processors that a machine may have here; 0: as many as there are */
	char why[200];        /* usable: what it is; not usable: what is missing and what helps */
};

struct engine {
	const char *name, *summary;
	unsigned slot;                                /* index into vm.engine_data and vcpu.engine_data, unique, below ENGINE_SLOTS */
	unsigned preference;                          /* the default is the usable engine with the highest one; 0: only by name */
	bool counts_if_asked;                         /* instructions are counted only where time or a limit depends on it */
	/* "NAME,OPTION,...": 0, or -EINVAL after log_error if those are none of its options. vm_init finds them in vm.engine_options[slot]. NULL: it has
	 * none. */
	int (*check_options)(const char *options);
	bool writes_unseen;                           /* what its guest stores passes by PAGE_CODE: decoded code is stale after it ran */
	bool kick_suffices;                           /* kick() alone makes run() return: no signal is sent along */
	int (*probe)(struct engine_report *);         /* 0; fills the report */
	int (*vm_init)(struct vm *);
	void (*vm_fini)(struct vm *);
	int (*vcpu_init)(struct vcpu *);
	void (*vcpu_fini)(struct vcpu *);             /* like vm_fini also after an init that failed, or did not come to it */
	/* The processors go to another engine / come from one, at a safe point at which the devices stand still, too. The processors' state is
	 * core.cpu's then; what else of the machine the engine keeps (interrupt chips in the kernel, a log of dirty pages) goes out to where it
	 * belongs, or comes in. hand_over also gives up what costs others, such as code from pages that are watched for it. take_over may
	 * be called to undo a hand_over. 0 or -errno: then all is as before. NULL: nothing to do. Neither is called when
	 * the interpreter merely steps in. */
	int (*hand_over)(struct vm *);
	int (*take_over)(struct vm *);
	bool (*can_run)(const struct vcpu *);         /* this processor mode, now */
	/* Runs until the core is needed or the limit; fills the exit. vCPU thread. 0 or -errno (then the VM is
	 * killed). Where it has waited for a safe point in the middle, vcpu->changed may be set afterwards: then the
	 * processor is another's, and it leaves without touching its state. */
	int (*run)(struct vcpu *, const struct run_limit *, struct vm_exit *);
	void (*kick)(struct vcpu *);                  /* any thread, vcpu->kicked is set already: make run() return soon */
	/* The groups from core.cpu to where it keeps them, and back. Outside run(): its own thread, or any at a safe point. What was derived
	 * from a group that is loaded, such as translations, counts no more. */
	int (*load_state)(struct vcpu *, unsigned groups);
	int (*store_state)(struct vcpu *, unsigned groups);
	void (*tlb_flush)(struct vcpu *, enum x86_flush, unsigned pcid, gva_t);
	/* A page that carries PAGE_CODE, PAGE_TRANSLATED or PAGE_TRACED was written by someone else (DMA, another vCPU, the
	 * loader). Any thread. */
	void (*code_changed)(struct vm *, gpa_t, uint64_t len);
	/* The map of regions is another, or bytes were written unseen: whatever was derived from the old ones is to be dropped. At a safe point,
	 * or before the VM runs. 0 or -errno (then the VM is killed). */
	int (*memory_changed)(struct vm *);
	/* The same where it is the map alone: what was derived from pages that are where they were may stay. NULL: as memory_changed. */
	int (*map_changed)(struct vm *);
	/* A doorbell (vm/doorbell.h) is somewhere else now, or nowhere. Its device's lock is held, or it is a safe point. NULL: writes come over the bus. */
	void (*doorbell)(struct vm *, const struct doorbell *);
	int (*dirty_log)(struct vm *, const struct memory_region *, uint64_t *bitmap);
	void (*stats)(struct vm *, FILE *);
};

SET_DECLARE(struct engine, engines);
#define ENGINE(object) SET_ADD(struct engine, engines, object)

/* engine.c -- NULL if there is none of that name. */
const struct engine *engine_find(const char *name);
/* Can this host run it, and can it run such a machine? 0; -ENODEV: not this host; -EINVAL: not such a machine. Then report->why says so. */
int engine_check(const struct engine *, unsigned cpus, enum clock_mode, struct engine_report *);
/* The same, with log_error. */
int engine_require(const struct engine *, unsigned cpus, enum clock_mode, struct engine_report *);
/* The best one that can; *why says in one line what was chosen and why. */
const struct engine *engine_default(unsigned cpus, enum clock_mode, char *why, size_t size);
/* Walks the engines in a fixed order: by preference, then name. */
const struct engine *engine_next(const struct engine *previous);
extern const struct engine interp_engine, step_engine, null_engine;
