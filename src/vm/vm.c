/* SPDX-License-Identifier: MIT */
/* A virtual machine from creation to its end. */
#include "vm/vm.h"
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "engine/engine.h"
#include "util/log.h"
#include "util/signals.h"
#include "x86/cpuid.h"

#define ROM_SIZE (64 * MiB) /* room for firmware, option ROMs and video memory; costs nothing until it is used */
#define CPUS_MAX 255        /* 8-bit APIC IDs; 255 is the broadcast */
#define DEFAULT_MODEL "v2"

static int check_config(struct vm_config *config)
{
	if (!config->cpus || config->cpus > CPUS_MAX) {
		log_error("a machine has 1 to %u processors", CPUS_MAX);
		return -EINVAL;
	}
	if (!config->model)
		config->model = x86_model_find(DEFAULT_MODEL);
	if (!config->name)
		config->name = "doppel";
	return 0;
}

static int create_vcpus(struct vm *vm)
{
	vm->vcpu = calloc(vm->config.cpus, sizeof(vm->vcpu[0]));
	if (!vm->vcpu)
		return -ENOMEM;
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		int error = vcpu_create(vm, i);
		if (error) {
			log_error("cannot make processor %u: %s", i, strerror(-error));
			return error;
		}
	}
	return 0;
}

static void destroy_vcpus(struct vm *vm)
{
	for (unsigned i = 0; vm->vcpu && i < vm->config.cpus; i++)
		vcpu_destroy(vm->vcpu[i]);
	free(vm->vcpu);
}

/* Fields that vm_destroy's parts look at before they were set up. */
static struct vm *allocate(const struct vm_config *config)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm) {
		log_error("out of memory for the machine");
		return NULL;
	}
	vm->config = *config;
	vm->taking_turns = true;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	return vm;
}

static void release(struct vm *vm)
{
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int vm_create(struct vm **out, const struct vm_config *config)
{
	struct vm *vm = allocate(config);
	int error;

	*out = NULL;
	if (!vm)
		return -ENOMEM;
	irq_init(vm);
	error = check_config(&vm->config);
	if (!error)
		error = vm_engine_choose(vm);
	if (error)
		goto fail;
	error = memory_init(vm, vm->config.memory, ROM_SIZE);
	if (error)
		goto fail;
	error = bus_init(vm);
	if (error)
		goto fail_bus;
	error = clock_init(vm, vm->config.clock);
	if (error)
		goto fail_clock;
	error = loop_init(vm);
	if (error)
		goto fail_clock;
	error = vm_engines_init(vm);
	if (error)
		goto fail_engine;
	error = create_vcpus(vm);
	if (error)
		goto fail_vcpus;
	*out = vm;
	return 0;

fail_vcpus:
	destroy_vcpus(vm);
fail_engine:
	vm_engines_fini(vm);
	loop_fini(vm);
fail_clock:
	clock_fini(vm);
fail_bus:
	bus_fini(vm);
	memory_fini(vm);
fail:
	irq_fini(vm);
	release(vm);
	return error;
}

void vm_destroy(struct vm *vm)
{
	if (!vm)
		return;
	if (vm->started) {
		vm_finish(vm, VM_STOPPED, 0);
		vm_wait(vm);
	}
	loop_stop(vm);
	device_destroy_all(vm);
	destroy_vcpus(vm);
	vm_engines_fini(vm);
	loop_fini(vm);
	doorbells_fini(vm);
	clock_fini(vm);
	bus_fini(vm);
	memory_fini(vm);
	irq_fini(vm);
	release(vm);
}

static int start_threads(struct vm *vm)
{
	if (vm->config.clock == CLOCK_INSTRUCTIONS)
		return -pthread_create(&vm->turns, NULL, vcpu_turns_thread, vm);
	vm->taking_turns = false;
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vcpu *vcpu = vm->vcpu[i];
		int error;

		vcpu->thread_running = true;
		error = -pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
		if (error) {
			vcpu->thread_running = false;
			return error;
		}
	}
	return 0;
}

static void join_threads(struct vm *vm)
{
	if (vm->taking_turns) {
		pthread_join(vm->turns, NULL);
		return;
	}
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		if (!vm->vcpu[i]->thread_running)
			continue;
		pthread_join(vm->vcpu[i]->thread, NULL);
		vm->vcpu[i]->thread_running = false;
	}
	vm->taking_turns = true; /* from here on whoever calls is the only one */
}

int vm_start(struct vm *vm)
{
	sigset_t all, old;
	int error = loop_start(vm);

	if (error)
		return error;
	/* Signals are for the main thread; a vCPU's thread lets its own in. */
	signals_of_others(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = start_threads(vm);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!error) {
		vm->started = true;
		return 0;
	}
	log_error("cannot start the threads of the processors: %s", strerror(-error));
	vm_finish(vm, VM_STOPPED, 0);
	if (!vm->taking_turns)
		join_threads(vm);
	loop_stop(vm);
	return error;
}

enum vm_end vm_wait(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	while (!vm->end)
		pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
	if (vm->started) {
		join_threads(vm);
		vm->started = false;
	}
	loop_stop(vm);
	return (enum vm_end)vm->end;
}

/* True for the first who ends it: he may add the details, vm->lock is held. */
static bool end_locked(struct vm *vm, enum vm_end end)
{
	if (vm->end)
		return false;
	vm->end = end;
	pthread_cond_broadcast(&vm->changed);
	return true;
}

static void kick_all(struct vm *vm)
{
	for (unsigned i = 0; vm->vcpu && i < vm->config.cpus; i++)
		if (vm->vcpu[i])
			vcpu_kick(vm->vcpu[i]);
}

void vm_finish(struct vm *vm, enum vm_end end, uint64_t value)
{
	pthread_mutex_lock(&vm->lock);
	if (end_locked(vm, end))
		vm->end_value = value;
	pthread_mutex_unlock(&vm->lock);
	kick_all(vm);
}

void vm_kill(struct vm *vm, const char *reason, ...)
{
	va_list args;

	pthread_mutex_lock(&vm->lock);
	if (end_locked(vm, VM_KILLED)) {
		va_start(args, reason);
		vsnprintf(vm->end_reason, sizeof(vm->end_reason), reason, args);
		va_end(args);
	}
	pthread_mutex_unlock(&vm->lock);
	kick_all(vm);
}

void vm_reset_request(struct vm *vm)
{
	if (event_taken(vm, NULL, 0, NULL, 0))
		return;
	vm->reset_requested = true;
	kick_all(vm);
}

void vm_reset(struct vm *vm)
{
	irq_home(vm);
	device_reset_all(vm, RESET_COLD);
	vm->reset_tsc = clock_tsc(vm);
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_reset(vm->vcpu[i], false);
	if (vm->boot && vm->boot(vm, vm->boot_arg))
		vm_kill(vm, "the guest cannot be loaded again after a reset");
}

#define FNV_START 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

static uint64_t fnv(uint64_t hash, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ bytes[i]) * FNV_PRIME;
	return hash;
}

static bool all_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, X86_PAGE_SIZE - 1);
}

/* A page of zeros counts as one that was never touched. What was never touched is skipped without looking, since looking would
 * make the host allocate it. */
static uint64_t hash_ram(struct memory *m, uint64_t hash)
{
	off_t at = 0;

	while ((at = lseek(m->fd, at, SEEK_DATA)) >= 0 && (uint64_t)at < m->ram_size) {
		off_t end = lseek(m->fd, at, SEEK_HOLE);
		if (end < 0 || (uint64_t)end > m->ram_size)
			end = (off_t)m->ram_size;
		for (; at < end; at += (off_t)X86_PAGE_SIZE) {
			if (all_zero(m->host + at))
				continue;
			hash = fnv(hash, &at, sizeof(at));
			hash = fnv(hash, m->host + at, X86_PAGE_SIZE);
		}
	}
	return hash;
}

uint64_t vm_hash(struct vm *vm)
{
	uint64_t hash = hash_ram(&vm->memory, FNV_START);

	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct buffer b = { 0 };
		vcpu_state(vm->vcpu[i], X86_ALL_GROUPS);
		fields_save(x86_cpu_fields, &vm->vcpu[i]->core.cpu, &b);
		hash = fnv(hash, b.data, b.size);
		buffer_fini(&b);
	}
	return hash;
}
