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
	char why[200];        /* usable: what it is; not usable: what is missing and what helps */
};

struct engine {
	const char *name, *summary;
	unsigned slot;                                /* index into vcpu.engine_data, unique */
	unsigned preference;                          /* the default is the usable engine with the highest one; 0: only by name */
	bool writes_unseen;                           /* what its guest stores passes by PAGE_CODE: decoded code is stale after it ran */
	bool kick_suffices;                           /* kick() alone makes run() return: no signal is sent along */
	int (*probe)(struct engine_report *);         /* 0; fills the report */
	int (*vm_init)(struct vm *);
	void (*vm_fini)(struct vm *);
	int (*vcpu_init)(struct vcpu *);
	void (*vcpu_fini)(struct vcpu *);
	bool (*can_run)(const struct vcpu *);         /* this processor mode, now */
	/* Runs until the core is needed or the limit; fills the exit. vCPU thread. 0 or -errno (then the VM is
	 * killed). */
	int (*run)(struct vcpu *, const struct run_limit *, struct vm_exit *);
	void (*kick)(struct vcpu *);                  /* any thread, vcpu->kicked is set already: make run() return soon */
	int (*load_state)(struct vcpu *, unsigned groups);
	int (*store_state)(struct vcpu *, unsigned groups);
	void (*tlb_flush)(struct vcpu *, enum x86_flush, unsigned pcid, gva_t);
	/* A page that carries PAGE_CODE, PAGE_TRANSLATED or PAGE_TRACED was written by someone else (DMA, another vCPU, the
	 * loader). Any thread. */
	void (*code_changed)(struct vm *, gpa_t, uint64_t len);
	/* The map of regions is another: whatever was derived from the old one is to be dropped. At a safe point,
	 * or before the VM runs. 0 or -errno (then the VM is killed). */
	int (*memory_changed)(struct vm *);
	int (*dirty_log)(struct vm *, const struct memory_region *, uint64_t *bitmap);
	void (*stats)(struct vm *, FILE *);
};

SET_DECLARE(struct engine, engines);
#define ENGINE(object) SET_ADD(struct engine, engines, object)

/* engine.c -- NULL if there is none of that name. */
const struct engine *engine_find(const char *name);
/* The best usable engine; *why says in one line what was chosen and why. */
const struct engine *engine_default(char *why, size_t size);
/* Walks the engines in a fixed order: by preference, then name. */
const struct engine *engine_next(const struct engine *previous);
extern const struct engine interp_engine, null_engine;
