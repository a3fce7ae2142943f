/* SPDX-License-Identifier: MIT */
/* Doorbells: see doorbell.h. The list only grows while the machine is made; where each one is changes with its device's lock held, by a processor
 * or at a safe point, and engines come at a safe point: so no lock of its own is needed. */
#include "vm/doorbell.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "engine/engine.h"

/* The device looks if it was rung. */
static void look(struct doorbell *b)
{
	uint64_t times;

	if (read(b->ready.fd, &times, sizeof(times)) != sizeof(times))
		return; /* somebody else was faster */
	pthread_mutex_lock(&b->device->lock);
	b->device->vm->stat.doorbells += times;
	b->ring(b->device, b->which);
	pthread_mutex_unlock(&b->device->lock);
}

static void ready(struct loop_fd *fd, uint32_t events)
{
	look(fd->arg);
}

struct doorbell *doorbell_add(struct device *device, enum bus_space space, void (*ring)(struct device *, unsigned which), unsigned which)
{
	struct vm *vm = device->vm;
	struct doorbell *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	*b = (struct doorbell){ .device = device, .ring = ring, .which = which, .space = space, .next = vm->doorbells };
	b->ready = (struct loop_fd){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), .ready = ready, .arg = b };
	if (b->ready.fd < 0 || loop_add(vm, &b->ready, EPOLLIN)) {
		if (b->ready.fd >= 0)
			close(b->ready.fd);
		free(b);
		return NULL;
	}
	vm->doorbells = b;
	return b;
}

static void tell(struct doorbell *b)
{
	struct vm *vm = b->device->vm;

	for (unsigned slot = 0; slot < ENGINE_SLOTS; slot++) {
		const struct engine *engine = vm->engines[slot];
		if (engine && engine->doorbell)
			engine->doorbell(vm, b);
	}
}

void doorbell_place(struct doorbell *b, bool placed, uint64_t address)
{
	if (!b || (b->placed == placed && (!placed || b->address == address)))
		return;
	if (b->placed) {
		b->placed = false;
		tell(b);
	}
	if (!placed)
		return;
	b->address = address;
	b->placed = true;
	tell(b);
}

void doorbells_show(struct vm *vm, const struct engine *engine)
{
	for (struct doorbell *b = vm->doorbells; b && engine->doorbell; b = b->next)
		if (b->placed)
			engine->doorbell(vm, b);
}

void doorbells_settle(struct vm *vm)
{
	for (struct doorbell *b = vm->doorbells; b; b = b->next)
		look(b);
}

void doorbells_fini(struct vm *vm)
{
	while (vm->doorbells) {
		struct doorbell *b = vm->doorbells;
		vm->doorbells = b->next;
		close(b->ready.fd);
		free(b);
	}
}
