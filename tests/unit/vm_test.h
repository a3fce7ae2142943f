/* SPDX-License-Identifier: MIT */
/* A machine for tests of the core: no board, and a device class whose instances do what the test says. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include "engine/engine.h"
#include "test.h"

struct probe { /* a device that records */
	struct device device;
	struct irq_pin pin;
	struct timer timer[3];
	uint64_t offset[64], value[64];
	unsigned size[64];
	_Atomic unsigned count;
	uint32_t registers[4];
};

static inline struct probe *probe_of(struct device *d)
{
	return (struct probe *)d;
}

static struct vm *test_vm_engine(const char *engine, enum clock_mode clock, uint64_t memory, unsigned cpus)
{
	struct vm_config config = { .name = "test", .engine = engine, .memory = memory, .cpus = cpus, .clock = clock };
	struct vm *vm = NULL;

	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine %s", engine);
		exit(1);
	}
	return vm;
}

/* Has the VM use an engine of the test's own: one made from null_engine. */
__attribute__((unused)) static void test_engine(struct vm *vm, const struct engine *engine)
{
	vm->engine = engine;
	vm->engines[engine->slot] = engine;
}

__attribute__((unused)) static struct vm *test_vm(void)
{
	return test_vm_engine("null", CLOCK_STEPPED, 64 * MiB, 1);
}

static void probe_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct probe *p = probe_of(d);
	uint64_t value = 0;

	memcpy(&value, data, MIN(len, sizeof(value)));
	p->offset[p->count % 64] = kind;
	p->value[p->count % 64] = value;
	p->size[p->count % 64] = (unsigned)len;
	p->count++; /* last: who waits for it reads the rest */
}

static const struct field probe_fields[] = { FIELD_U32(struct probe, registers), FIELD_END };
static const struct device_class probe_class = {
	.name = "probe", .summary = "records", .size = sizeof(struct probe), .event = probe_event, .fields = probe_fields, .version = 2,
};

__attribute__((unused)) static struct probe *probe_new(struct vm *vm, const struct device_place *place)
{
	struct device *d = device_create(vm, place);

	if (!d) {
		ok(false, "device %s", place->name);
		exit(1);
	}
	return probe_of(d);
}

static const struct device_place place_a __attribute__((unused)) = { .class = &probe_class, .name = "a", .irq = -1 };
static const struct device_place place_b __attribute__((unused)) = { .class = &probe_class, .name = "b", .irq = -1 };
