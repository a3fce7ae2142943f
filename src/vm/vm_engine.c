/* SPDX-License-Identifier: MIT */
/* A VM's engines: which it starts with, and how the processors go from one to another while the guest runs.
 *
 * All state that counts is architectural (struct x86_cpu), in guest memory, or in the devices; so a change of engine is a safe point, at which the one
 * stores what it holds, and the other loads it. What is merely derived, such as decoded code and translations of addresses, is made anew. An
 * engine that was left is kept as it is, for two reasons: to go back to it is quick; and a processor's thread may stand still in the
 * middle of its run() (it waits for the safe point itself, for a split lock). That one finds vcpu->changed set, and leaves.
 *
 * Whatever fails, the machine goes on as before: nothing of the old engine is given up before the new one has loaded all. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "engine/engine.h"
#include "util/log.h"
#include "vm/irq_chips.h"

static uint64_t monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static int check(const struct vm *vm, const struct engine *engine)
{
	struct engine_report report;

	return engine_require(engine, vm->config.cpus, vm->config.clock, &report);
}

int vm_engine_choose(struct vm *vm)
{
	char why[400] = "";

	vm->engine = vm->config.engine ? engine_find(vm->config.engine) : engine_default(vm->config.cpus, vm->config.clock, why, sizeof(why));
	if (vm->engine)
		return check(vm, vm->engine);
	if (vm->config.engine)
		log_error("there is no engine '%s'; 'doppel engines' lists them", vm->config.engine);
	else
		log_error("%s", why);
	return -ENOENT;
}

/* --- set-up --- */

static void tear_down(struct vm *vm, const struct engine *engine)
{
	vm->engines[engine->slot] = NULL;
	if (engine->vm_fini)
		engine->vm_fini(vm);
}


static int set_up(struct vm *vm, const struct engine *engine)
{
	int error = engine->vm_init ? engine->vm_init(vm) : 0;

	if (error)
		log_error("engine %s cannot be set up: %s", engine->name, strerror(-error));
	if (error)
		return error;
	vm->engines[engine->slot] = engine;
	doorbells_show(vm, engine);
	return 0;
}

static int keep_options(struct vm *vm, const struct engine *engine, const char *options)
{
	vm->engine_options[engine->slot] = options ? strdup(options) : NULL;
	return options && !vm->engine_options[engine->slot] ? -ENOMEM : 0;
}

static void drop_options(struct vm *vm, const struct engine *engine)
{
	free(vm->engine_options[engine->slot]);
	vm->engine_options[engine->slot] = NULL;
}

int vm_engines_init(struct vm *vm)
{
	int error = keep_options(vm, vm->engine, vm->config.engine_options);

	if (!error)
		error = set_up(vm, vm->engine);

	return !error && vm->engine != &interp_engine ? set_up(vm, &interp_engine) : error;
}

void vm_engines_fini(struct vm *vm)
{
	for (unsigned slot = 0; slot < ENGINE_SLOTS; slot++) {
		if (vm->engines[slot])
			tear_down(vm, vm->engines[slot]);
		free(vm->engine_options[slot]);
		vm->engine_options[slot] = NULL;
	}
}

int vcpu_engines_init(struct vcpu *vcpu)
{
	int error = 0;

	for (unsigned slot = 0; slot < ENGINE_SLOTS && !error; slot++) {
		const struct engine *engine = vcpu->vm->engines[slot];
		if (engine && engine->vcpu_init)
			error = engine->vcpu_init(vcpu);
	}
	return error;
}

void vcpu_engines_fini(struct vcpu *vcpu)
{
	for (unsigned slot = 0; slot < ENGINE_SLOTS; slot++) {
		const struct engine *engine = vcpu->vm->engines[slot];
		if (engine && engine->vcpu_fini)
			engine->vcpu_fini(vcpu);
	}
}

/* For a machine that has its processors already. */
static void retire(struct vm *vm, const struct engine *engine)
{
	for (unsigned i = 0; engine->vcpu_fini && i < vm->config.cpus; i++)
		engine->vcpu_fini(vm->vcpu[i]);
	tear_down(vm, engine);
}

static int enlist(struct vm *vm, const struct engine *engine)
{
	int error = set_up(vm, engine);

	if (error)
		return error;
	for (unsigned i = 0; engine->vcpu_init && i < vm->config.cpus && !error; i++)
		error = engine->vcpu_init(vm->vcpu[i]);
	if (error) {
		log_error("engine %s cannot be set up: %s", engine->name, strerror(-error));
		retire(vm, engine);
	}
	return error;
}

/* --- a change --- */

/* As vcpu_state, but nothing is lost when it fails: the engine holds it still. */
static int store_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vcpu *vcpu = vm->vcpu[i];
		const struct engine *engine = vcpu->engine;
		int error = vcpu->held && engine->store_state ? engine->store_state(vcpu, vcpu->held) : 0;

		if (error) {
			log_error("engine %s cannot store the state of cpu%u: %s", engine->name, i, strerror(-error));
			return error;
		}
		vcpu->held = 0;
	}
	return 0;
}

/* All is to be loaded before the next run; whoever stands in the middle of run() sees by it that he has to leave. */
static void give(struct vcpu *vcpu, const struct engine *engine)
{
	if (!engine->writes_unseen)
		vcpu_unseen(vcpu, false);
	vcpu->engine = engine;
	vcpu->held = 0;
	vcpu->changed = X86_ALL_GROUPS;
	vcpu->idle = true;
}

/* Loads now, though the vCPU would do it by itself: an engine that does not take the state shall say so while there is a way back. What it
 * cannot run at present the interpreter begins with, as ever. */
static int load_all(struct vm *vm, const struct engine *to)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vcpu *vcpu = vm->vcpu[i];
		const struct engine *engine;
		int error;

		x86_mode_update(&vcpu->core);
		engine = !to->can_run || to->can_run(vcpu) ? to : &interp_engine;
		error = engine->load_state ? engine->load_state(vcpu, X86_ALL_GROUPS) : 0;
		if (error) {
			log_error("engine %s cannot load the state of cpu%u: %s", engine->name, i, strerror(-error));
			return error;
		}
		give(vcpu, engine);
	}
	return 0;
}

/* Decoded code is told of every store but those of an engine that runs them natively. */
static int forget_code(struct vm *vm, const struct engine *writer)
{
	int error = 0;

	for (unsigned slot = 0; slot < ENGINE_SLOTS && !error && writer->writes_unseen; slot++) {
		const struct engine *engine = vm->engines[slot];
		if (engine && engine != writer && engine->memory_changed)
			error = engine->memory_changed(vm);
	}
	return error;
}

static void go_back(struct vm *vm, const struct engine *from)
{
	int error;

	vm->engine = from;
	error = from->take_over ? from->take_over(vm) : 0;
	if (error)
		vm_kill(vm, "engine %s cannot go on with the machine: %s", from->name, strerror(-error));
	for (unsigned i = 0; i < vm->config.cpus; i++)
		give(vm->vcpu[i], from);
}

/* Options are for an engine that is not set up yet: a thread may stand still inside one that is. */
static int take_options(struct vm *vm, const struct engine *to, const char *options)
{
	const char *has = vm->engine_options[to->slot];

	if (!options)
		return 0;
	if (!vm->engines[to->slot])
		return keep_options(vm, to, options);
	if (has && !strcmp(has, options))
		return 0;
	log_error("engine %s has been set up for this machine with %s%s; its options cannot change while the machine lives", to->name,
		  has ? "options " : "its defaults", has ? has : "");
	return -EBUSY;
}

static int change(struct vm *vm, const struct engine *from, const struct engine *to)
{
	bool fresh = !vm->engines[to->slot];
	int error;

	irq_home(vm);
	doorbells_settle(vm);
	error = vm->end ? -ESHUTDOWN : store_all(vm);
	if (!error && fresh) {
		error = enlist(vm, to);
		fresh = !error;
	}
	if (error)
		return error;
	error = from->hand_over ? from->hand_over(vm) : 0;
	if (!error)
		error = forget_code(vm, from);
	if (!error) {
		vm->engine = to;
		error = to->take_over ? to->take_over(vm) : 0;
	}
	if (error)
		log_error("engine %s cannot take the machine over from %s: %s", to->name, from->name, strerror(-error));
	else
		error = load_all(vm, to);
	if (!error)
		return 0;
	go_back(vm, from);
	if (fresh)
		retire(vm, to);
	return error;
}

int vm_engine_switch(struct vm *vm, const struct engine *to, uint64_t *ns)
{
	return vm_engine_switch_with(vm, to, NULL, ns);
}

int vm_engine_switch_with(struct vm *vm, const struct engine *to, const char *options, uint64_t *ns)
{
	const struct engine *from;
	uint64_t began;
	int error = 0;

	*ns = 0;
	if (options && !to->check_options) {
		log_error("engine %s has no options", to->name);
		error = -EINVAL;
	} else if (options) {
		error = to->check_options(options);
	}
	if (!error)
		error = check(vm, to);
	if (!error && to == &null_engine) {
		log_error("engine null runs nothing, and a guest would not bear that");
		error = -EINVAL;
	}
	if (error)
		return error;
	loop_pause(vm);
	vcpu_stop_all(vm);
	began = monotonic();
	from = vm->engine;
	if (vm->end) {
		log_error("the machine has ended");
		error = -ESHUTDOWN;
	} else {
		error = take_options(vm, to, options);
		if (!error)
			error = from == to ? -EALREADY : change(vm, from, to);
		if (!vm->engines[to->slot])
			drop_options(vm, to);
	}
	*ns = monotonic() - began;
	if (!error) {
		vm->stat.switches++;
		vm->stat.ns_switching += *ns;
		trace(exit, "engine %s, was %s: %lu ns", to->name, from->name, *ns);
	}
	vcpu_resume_all(vm);
	loop_resume(vm);
	return error;
}
