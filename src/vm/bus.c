/* SPDX-License-Identifier: MIT */
/* Port and memory-mapped I/O: finds who answers, splits what is too wide, and counts.
 *
 * Lookups take no lock: each change publishes a new sorted array. What it replaces is freed at a safe point, where no
 * vCPU is inside a lookup. Programs poll one register many times, so each thread remembers its last hit. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"
#include "vm/vm.h"

static _Atomic uint64_t generations;

static _Thread_local struct {
	uint64_t generation;
	struct bus_range *range;
} last_hit[BUS_SPACES];

static struct bus_map *map_new(unsigned count)
{
	struct bus_map *map = calloc(1, sizeof(*map) + count * sizeof(map->range[0]));

	if (map) {
		map->count = count;
		map->generation = atomic_fetch_add(&generations, 1) + 1;
	}
	return map;
}

int bus_init(struct vm *vm)
{
	struct bus *bus = &vm->bus;

	pthread_mutex_init(&bus->lock, NULL);
	for (unsigned s = 0; s < BUS_SPACES; s++) {
		struct bus_map *map = map_new(0);
		if (!map)
			return -ENOMEM;
		atomic_store(&bus->map[s], map);
	}
	return 0;
}

void bus_fini(struct vm *vm)
{
	struct bus *bus = &vm->bus;

	bus_reclaim(vm);
	for (unsigned s = 0; s < BUS_SPACES; s++) {
		struct bus_map *map = atomic_load(&bus->map[s]);
		for (unsigned i = 0; map && i < map->count; i++)
			free(map->range[i]);
		free(map);
		atomic_store(&bus->map[s], NULL);
	}
	pthread_mutex_destroy(&bus->lock);
}

void bus_reclaim(struct vm *vm)
{
	struct bus *bus = &vm->bus;

	pthread_mutex_lock(&bus->lock);
	while (bus->retired) {
		struct bus_map *map = bus->retired;
		bus->retired = map->older;
		free(map);
	}
	while (bus->removed) {
		struct bus_range *range = bus->removed;
		bus->removed = range->older;
		free(range);
	}
	bus->garbage = 0;
	pthread_mutex_unlock(&bus->lock);
}

static void publish(struct bus *bus, enum bus_space space, struct bus_map *map)
{
	struct bus_map *old = atomic_exchange(&bus->map[space], map);

	old->older = bus->retired;
	bus->retired = old;
	bus->garbage++;
}

/* Where a range that starts at `start` belongs in the map. */
static unsigned position(const struct bus_map *map, uint64_t start)
{
	unsigned at = 0;

	while (at < map->count && map->range[at]->start < start)
		at++;
	return at;
}

static const char *owner(const struct bus_range *range)
{
	return range->device->name;
}

/* Ends are inclusive here, so that a range may reach the end of the address space. */
static const struct bus_range *overlap(const struct bus_map *map, uint64_t start, uint64_t last)
{
	for (unsigned i = 0; i < map->count; i++) {
		const struct bus_range *r = map->range[i];
		if (start <= r->start + (r->size - 1) && r->start <= last)
			return r;
	}
	return NULL;
}

static int add_locked(struct bus *bus, enum bus_space space, struct bus_range *range, bool quiet)
{
	struct bus_map *old = atomic_load(&bus->map[space]), *map;
	const struct bus_range *other = overlap(old, range->start, range->start + (range->size - 1));
	unsigned at;

	if (other && quiet)
		return -EEXIST;
	if (other) {
		log_error("%s %s at %#lx, %lu bytes, would overlap %s's at %#lx", owner(range),
			  space == BUS_PORT ? "ports" : "memory range", range->start, range->size, owner(other),
			  other->start);
		return -EEXIST;
	}
	map = map_new(old->count + 1);
	if (!map)
		return -ENOMEM;
	at = position(old, range->start);
	memcpy(map->range, old->range, at * sizeof(map->range[0]));
	map->range[at] = range;
	memcpy(map->range + at + 1, old->range + at, (old->count - at) * sizeof(map->range[0]));
	publish(bus, space, map);
	return 0;
}

static int add(struct vm *vm, enum bus_space space, uint64_t start, uint64_t size, const struct bus_ops *ops,
	       struct device *device, uint64_t offset, bool quiet)
{
	struct bus_range *range;
	int error;

	if (!size || start + (size - 1) < start) {
		log_error("%s asks for an impossible range at %#lx", device->name, start);
		return -EINVAL;
	}
	range = calloc(1, sizeof(*range));
	if (!range)
		return -ENOMEM;
	range->start = start;
	range->size = size;
	range->ops = ops;
	range->device = device;
	range->offset = offset;
	pthread_mutex_lock(&vm->bus.lock);
	error = add_locked(&vm->bus, space, range, quiet);
	pthread_mutex_unlock(&vm->bus.lock);
	if (error)
		free(range);
	return error;
}

int bus_add_at(struct vm *vm, enum bus_space space, uint64_t start, uint64_t size, const struct bus_ops *ops,
	       struct device *device, uint64_t offset)
{
	return add(vm, space, start, size, ops, device, offset, false);
}

int bus_claim(struct vm *vm, enum bus_space space, uint64_t start, uint64_t size, const struct bus_ops *ops,
	      struct device *device, uint64_t offset)
{
	return add(vm, space, start, size, ops, device, offset, true);
}

int bus_add(struct vm *vm, enum bus_space space, uint64_t start, uint64_t size, const struct bus_ops *ops,
	    struct device *device)
{
	return bus_add_at(vm, space, start, size, ops, device, 0);
}

static int remove_locked(struct bus *bus, enum bus_space space, uint64_t start)
{
	struct bus_map *old = atomic_load(&bus->map[space]), *map;
	unsigned at = position(old, start);
	struct bus_range *range;

	if (at == old->count || old->range[at]->start != start)
		return -ENOENT;
	range = old->range[at];
	map = map_new(old->count - 1);
	if (!map)
		return -ENOMEM;
	memcpy(map->range, old->range, at * sizeof(map->range[0]));
	memcpy(map->range + at, old->range + at + 1, (map->count - at) * sizeof(map->range[0]));
	publish(bus, space, map);
	range->older = bus->removed;
	bus->removed = range;
	bus->garbage++;
	return 0;
}

int bus_remove(struct vm *vm, enum bus_space space, uint64_t start)
{
	int error;

	pthread_mutex_lock(&vm->bus.lock);
	error = remove_locked(&vm->bus, space, start);
	pthread_mutex_unlock(&vm->bus.lock);
	return error;
}

static struct bus_range *search(const struct bus_map *map, uint64_t address)
{
	unsigned low = 0, high = map->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		struct bus_range *r = map->range[middle];
		if (address < r->start)
			high = middle;
		else if (address - r->start >= r->size)
			low = middle + 1;
		else
			return r;
	}
	return NULL;
}

static struct bus_range *find(struct bus *bus, enum bus_space space, uint64_t address)
{
	struct bus_map *map = atomic_load_explicit(&bus->map[space], memory_order_acquire);
	struct bus_range *r = last_hit[space].range;

	if (likely(last_hit[space].generation == map->generation && address - r->start < r->size))
		return r;
	r = search(map, address);
	if (r) {
		last_hit[space].generation = map->generation;
		last_hit[space].range = r;
	}
	return r;
}

/* Can the handler take it as it is? Else it goes in halves, down to single bytes at the edge of a range. */
static bool fits(const struct bus_range *r, uint64_t address, unsigned size)
{
	return size == 1 || (size <= r->ops->max_size && size <= r->size - (address - r->start));
}

/* The same question where nobody answers at the first byte: somebody may further on. */
static bool nobody(struct bus *bus, enum bus_space space, uint64_t address, unsigned size)
{
	for (unsigned i = 1; i < size; i++)
		if (find(bus, space, address + i))
			return false;
	return true;
}

static uint64_t read_range(struct bus_range *r, uint64_t address, unsigned size)
{
	uint64_t offset = address - r->start + r->offset, value;

	atomic_fetch_add_explicit(&r->reads, 1, memory_order_relaxed);
	if (!r->ops->read)
		return size_mask(size);
	if (r->ops->unlocked)
		return r->ops->read(r->device, offset, size) & size_mask(size);
	pthread_mutex_lock(&r->device->lock);
	value = r->ops->read(r->device, offset, size) & size_mask(size);
	pthread_mutex_unlock(&r->device->lock);
	return value;
}

static void write_range(struct bus_range *r, uint64_t address, unsigned size, uint64_t value)
{
	uint64_t offset = address - r->start + r->offset;

	atomic_fetch_add_explicit(&r->writes, 1, memory_order_relaxed);
	if (!r->ops->write)
		return;
	if (r->ops->unlocked) {
		r->ops->write(r->device, offset, size, value);
		return;
	}
	pthread_mutex_lock(&r->device->lock);
	r->ops->write(r->device, offset, size, value);
	pthread_mutex_unlock(&r->device->lock);
}

static void show(enum bus_space space, const char *what, const struct bus_range *r, uint64_t address, unsigned size,
	uint64_t value)
{
	const char *name = r ? owner(r) : "nobody";

	if (space == BUS_PORT)
		trace(io, "%s %#06lx.%u %s %#lx (%s)", what, address, size, *what == 'r' ? "->" : "<-", value, name);
	else
		trace(mmio, "%s %#lx.%u %s %#lx (%s)", what, address, size, *what == 'r' ? "->" : "<-", value, name);
}

static bool shown(enum bus_space space)
{
	return space == BUS_PORT ? trace_on(io) : trace_on(mmio);
}

uint64_t bus_read(struct vm *vm, enum bus_space space, uint64_t address, unsigned size)
{
	struct bus *bus = &vm->bus;
	struct bus_range *r = find(bus, space, address);
	uint64_t value;

	if (r ? !fits(r, address, size) : !nobody(bus, space, address, size)) {
		unsigned half = size / 2;
		value = bus_read(vm, space, address, half);
		return value | bus_read(vm, space, address + half, half) << (8 * half);
	}
	if (r) {
		value = read_range(r, address, size);
	} else {
		value = size_mask(size);
		atomic_fetch_add_explicit(&bus->unclaimed_reads[space], 1, memory_order_relaxed);
	}
	if (unlikely(shown(space)))
		show(space, "read", r, address, size, value);
	return value;
}

void bus_write(struct vm *vm, enum bus_space space, uint64_t address, unsigned size, uint64_t value)
{
	struct bus *bus = &vm->bus;
	struct bus_range *r = find(bus, space, address);

	value &= size_mask(size);
	if (r ? !fits(r, address, size) : !nobody(bus, space, address, size)) {
		unsigned half = size / 2;
		bus_write(vm, space, address, half, value);
		bus_write(vm, space, address + half, half, value >> (8 * half));
		return;
	}
	if (unlikely(shown(space)))
		show(space, "write", r, address, size, value);
	if (r)
		write_range(r, address, size, value);
	else
		atomic_fetch_add_explicit(&bus->unclaimed_writes[space], 1, memory_order_relaxed);
}
