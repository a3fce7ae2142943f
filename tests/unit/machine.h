/* SPDX-License-Identifier: MIT */
/* A small machine for device tests: the engine that runs nothing, a clock that only the test moves, and the
 * devices that the test puts in. `wired` counts what arrives on the interrupt lines. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include "device/chips.h"
#include "test.h"
#include "vm/vcpu.h"
#include "x86/cpuid.h"

#define VERSION_BYTES 4 /* a device's state starts with its version */
#define MICROSECOND 1000ULL
#define MILLISECOND 1000000ULL
#define SECOND 1000000000ULL

static unsigned line_edges[IRQ_LINES]; /* rising edges */
static bool line_level[IRQ_LINES];

static void line_set(struct device *d, unsigned pin, bool level)
{
	line_edges[pin] += level;
	line_level[pin] = level;
}

/* All lines end in a sink of the test's own, besides where it connects them. */
__attribute__((unused)) static struct vm *machine(unsigned cpus, const struct device_place *places, unsigned count)
{
	struct vm_config config = { .name = "test", .engine = "null", .memory = 64 * MiB, .cpus = cpus,
		.clock = CLOCK_STEPPED };
	struct vm *vm;
	config.model = x86_model_find("v2");
	if (vm_create(&vm, &config)) {
		ok(false, "a machine can be made");
		exit(1);
	}
	for (unsigned i = 0; i < count; i++)
		if (!device_create(vm, &places[i])) {
			ok(false, "%s can be made", places[i].name);
			exit(1);
		}
	memset(line_edges, 0, sizeof(line_edges));
	memset(line_level, 0, sizeof(line_level));
	for (unsigned i = 0; i < IRQ_LINES; i++)
		irq_connect(vm, i, vm->devices, line_set, i);
	device_reset_all(vm, RESET_COLD);
	return vm;
}

__attribute__((unused)) static uint8_t in8(struct vm *vm, uint16_t port)
{
	return bus_read(vm, BUS_PORT, port, 1);
}

__attribute__((unused)) static void out8(struct vm *vm, uint16_t port, uint8_t value)
{
	bus_write(vm, BUS_PORT, port, 1, value);
}

/* The state of all devices from one machine into another, with the time; false if something refuses. */
__attribute__((unused)) static bool copy_state(struct vm *from, struct vm *to)
{
	bool good = true;
	clock_step(to, clock_now(from) - clock_now(to));
	for (struct device *d = from->devices; d; d = d->next) {
		struct buffer b = { 0 };
		struct device *other = device_find(to, d->name);
		good &= other && !device_save(d, &b) && !device_load(other, &b);
		buffer_fini(&b);
	}
	return good;
}

__attribute__((unused)) static bool same_state(struct vm *one, struct vm *two)
{
	bool same = true;
	for (struct device *d = one->devices; d; d = d->next) {
		struct buffer a = { 0 }, b = { 0 };
		device_save(d, &a);
		device_save(device_find(two, d->name), &b);
		same &= a.size == b.size && !memcmp(a.data, b.data, a.size);
		buffer_fini(&a);
		buffer_fini(&b);
	}
	return same;
}

/* Feeds the device its own state with bytes cut off and changed; after each, `use` may do with it what a guest
 * can. A device whose load failed may not be used (the machine is thrown away): it gets the good state again. */
__attribute__((unused)) static void abuse_state(struct vm *vm, const char *name, void (*use)(struct vm *))
{
	struct device *d = device_find(vm, name);
	struct buffer good = { 0 };
	uint32_t random = 12345;
	bool intact = true;
	device_save(d, &good);
	for (unsigned round = 0; round < 4000; round++) {
		struct buffer bad = { 0 };
		size_t size = round < 1000 ? good.size * round / 1000 : good.size;
		buffer_put(&bad, good.data, size);
		for (unsigned i = 0; round >= 1000 && i < 1 + round % 16; i++) {
			random = random * 1664525 + 1013904223;
			bad.data[VERSION_BYTES + (random >> 8) % (bad.size - VERSION_BYTES)] = random >> 24;
		}
		if (device_load(d, &bad)) {
			good.at = good.error = 0;
			intact &= !device_load(d, &good);
		}
		use(vm);
		buffer_fini(&bad);
	}
	buffer_fini(&good);
	ok(intact, "%s survives broken state", name);
}
