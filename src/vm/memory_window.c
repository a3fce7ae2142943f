/* SPDX-License-Identifier: MIT */
/* Windows of guest-physical memory, and how a map is replaced while the machine runs.
 *
 * A map is computed whole: first the windows that lie under RAM and ROM, then those, then the windows over them,
 * each cutting its place out of what is there. It waits in `next` for a safe point, where nobody runs on what was
 * derived from the old one. An old map can be freed at once, unless a thread that does not stand still there (the
 * loop's, a backend's) is just looking at it: then it is freed at the next change. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include "engine/engine.h"
#include "util/log.h"

#define RETIREES_MAX 64 /* so many changes with an unlucky reader each: wait for it */

static void put(struct memory_map *map, struct memory_region region)
{
	map->region[map->count++] = region;
}

/* The part of a region from `start` on, `size` bytes. */
static struct memory_region part(const struct memory_region *r, gpa_t start, uint64_t size)
{
	struct memory_region p = *r;

	p.offset += start - r->start;
	p.shadow += start - r->start;
	p.start = start;
	p.size = size;
	return p;
}

/* Lays a region over the map: what it covers of others is gone. Inclusive ends, so that a region may reach the end
 * of the address space. */
static void lay(struct memory_map *map, const struct memory_region *region, struct memory_map *spare)
{
	gpa_t first = region->start, last = region->start + (region->size - 1);
	bool placed = region->kind == MEMORY_HOLE;

	spare->count = 0;
	for (unsigned i = 0; i < map->count; i++) {
		const struct memory_region *r = &map->region[i];
		gpa_t end = r->start + (r->size - 1);
		if (r->start < first)
			put(spare, part(r, r->start, MIN(end, first - 1) - r->start + 1));
		if (end <= last)
			continue;
		if (!placed)
			put(spare, *region);
		placed = true;
		put(spare, part(r, MAX(r->start, last + 1), end - MAX(r->start, last + 1) + 1));
	}
	if (!placed)
		put(spare, *region);
	map->count = spare->count;
	memcpy(map->region, spare->region, spare->count * sizeof(map->region[0]));
}

static bool continues(const struct memory_region *a, const struct memory_region *b)
{
	return a->kind == b->kind && a->start + a->size == b->start && a->offset + a->size == b->offset &&
	       (a->kind != MEMORY_SHADOW || a->shadow + a->size == b->shadow);
}

static void join(struct memory_map *map)
{
	unsigned last = 0;

	for (unsigned i = 1; i < map->count; i++) {
		if (continues(&map->region[last], &map->region[i]))
			map->region[last].size += map->region[i].size;
		else
			map->region[++last] = map->region[i];
	}
	map->count = map->count ? last + 1 : 0;
}

struct memory_map *memory_flatten(struct memory *m)
{
	unsigned room = m->fixed->count;
	struct memory_map *map, *spare;
	size_t size;

	for (const struct memory_window *w = m->windows; w; w = w->next)
		room++;
	size = sizeof(*map) + (2 * room + 1) * sizeof(map->region[0]); /* each cuts at most one other in two */
	map = calloc(1, size);
	spare = calloc(1, size);
	if (!map || !spare) {
		free(map);
		free(spare);
		return NULL;
	}
	for (const struct memory_window *w = m->windows; w; w = w->next)
		if (w->under && w->region.size)
			lay(map, &w->region, spare);
	for (unsigned i = 0; i < m->fixed->count; i++)
		lay(map, &m->fixed->region[i], spare);
	for (const struct memory_window *w = m->windows; w; w = w->next)
		if (!w->under && w->region.size)
			lay(map, &w->region, spare);
	free(spare);
	join(map);
	return map;
}

void memory_window_add(struct vm *vm, struct memory_window *window)
{
	struct memory_window **at = &vm->memory.windows;

	pthread_mutex_lock(&vm->memory.lock);
	while (*at)
		at = &(*at)->next;
	*at = window;
	pthread_mutex_unlock(&vm->memory.lock);
}

void memory_window_set(struct vm *vm, struct memory_window *window, const struct memory_region *region)
{
	pthread_mutex_lock(&vm->memory.lock);
	window->region = region ? *region : (struct memory_region){ 0 };
	pthread_mutex_unlock(&vm->memory.lock);
}

/* Does nobody run on the present map? */
static bool stands_still(struct vm *vm)
{
	struct vcpu *me = vcpu_current();
	bool mine;

	if (me && me->vm == vm && me->running)
		return false;
	pthread_mutex_lock(&vm->lock);
	mine = vm->stop_count && pthread_equal(vm->stop_owner, pthread_self());
	pthread_mutex_unlock(&vm->lock);
	return mine || !vm->started;
}

int memory_commit(struct vm *vm)
{
	struct memory *m = &vm->memory;
	struct memory_map *map;

	pthread_mutex_lock(&m->lock);
	map = memory_flatten(m);
	if (map)
		free(atomic_exchange(&m->next, map));
	pthread_mutex_unlock(&m->lock);
	if (!map) {
		vm_kill(vm, "out of memory for the map of the guest's memory");
		return -ENOMEM;
	}
	if (stands_still(vm))
		memory_apply(vm);
	else
		vcpu_kick(vcpu_current() ? vcpu_current() : vm->vcpu[0]);
	return 0;
}

static void find_plain(struct memory *m, const struct memory_map *map)
{
	m->plain_size = 0;
	m->shadowing = false;
	for (unsigned i = 0; i < map->count; i++) {
		const struct memory_region *r = &map->region[i];
		m->shadowing |= r->kind == MEMORY_SHADOW;
		if (r->kind != MEMORY_RAM || r->start != r->offset || r->size <= m->plain_size)
			continue;
		m->plain_start = r->start;
		m->plain_size = r->size;
	}
}

static void free_retired(struct memory *m)
{
	struct memory_map *map;

	while (m->retirees > RETIREES_MAX && atomic_load(&m->readers))
		sched_yield();
	if (atomic_load(&m->readers))
		return;
	while ((map = m->retired)) {
		m->retired = map->older;
		free(map);
	}
	m->retirees = 0;
}

static void tell(struct vm *vm, const struct engine *engine)
{
	int (*changed)(struct vm *) = engine->map_changed ? engine->map_changed : engine->memory_changed;
	int error = changed ? changed(vm) : 0;

	if (error)
		vm_kill(vm, "engine %s cannot take the new map of memory: %s", engine->name, strerror(-error));
}

void memory_apply(struct vm *vm)
{
	struct memory *m = &vm->memory;
	struct memory_map *old, *map;

	pthread_mutex_lock(&m->lock);
	map = atomic_exchange(&m->next, NULL);
	if (map) {
		old = atomic_exchange(&m->map, map);
		if (old) {
			old->older = m->retired;
			m->retired = old;
			m->retirees++;
		}
		find_plain(m, map);
		free_retired(m);
	}
	pthread_mutex_unlock(&m->lock);
	if (!map)
		return;
	for (unsigned i = 0; vm->vcpu && i < vm->config.cpus; i++)
		if (vm->vcpu[i])
			x86_tlb_flush(&vm->vcpu[i]->core, FLUSH_ALL, 0, 0);
	trace(boot, "the map of memory has %u regions", map->count);
	for (unsigned slot = 0; slot < ENGINE_SLOTS; slot++)
		if (vm->engines[slot])
			tell(vm, vm->engines[slot]);
}
