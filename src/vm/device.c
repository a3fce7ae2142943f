/* SPDX-License-Identifier: MIT */
/* Devices of a VM: creation, and the walks that reset, save, load and destroy them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"
#include "vm/vm.h"

struct device *device_find(struct vm *vm, const char *name)
{
	for (struct device *d = vm->devices; d; d = d->next)
		if (!strcmp(d->name, name))
			return d;
	return NULL;
}

static struct device **list_end(struct vm *vm)
{
	struct device **at = &vm->devices;

	while (*at)
		at = &(*at)->next;
	return at;
}

static void free_device(struct device *d)
{
	pthread_mutex_destroy(&d->lock);
	free(d);
}

struct device *device_create(struct vm *vm, const struct device_place *place)
{
	struct device *d, **at = list_end(vm);
	int error;

	if (device_find(vm, place->name)) {
		log_error("board: two devices are called '%s'", place->name);
		return NULL;
	}
	d = calloc(1, place->class->size);
	if (!d) {
		log_error("out of memory for device %s", place->name);
		return NULL;
	}
	d->class = place->class;
	d->place = place;
	d->name = place->name;
	d->vm = vm;
	pthread_mutex_init(&d->lock, NULL);
	*at = d;
	error = d->class->init ? d->class->init(d) : 0;
	if (!error)
		return d;
	log_error("device %s cannot be set up: %s", place->name, strerror(-error));
	/* It may have registered ranges and lines already, so it stays in the list until the VM is destroyed, but is not used. */
	return NULL;
}

void device_destroy_all(struct vm *vm)
{
	struct device *reversed = NULL, *d;

	while ((d = vm->devices)) {
		vm->devices = d->next;
		d->next = reversed;
		reversed = d;
	}
	for (d = reversed; d; d = d->next)
		if (d->class->fini)
			d->class->fini(d);
	while ((d = reversed)) {
		reversed = d->next;
		free_device(d);
	}
}

void device_reset_all(struct vm *vm, enum reset_kind kind)
{
	for (struct device *d = vm->devices; d; d = d->next) {
		if (!d->class->reset)
			continue;
		pthread_mutex_lock(&d->lock);
		d->class->reset(d, kind);
		pthread_mutex_unlock(&d->lock);
	}
}

int device_save(struct device *d, struct buffer *b)
{
	uint32_t version = d->class->version;
	int error;

	irq_home(d->vm);
	doorbells_settle(d->vm);
	pthread_mutex_lock(&d->lock);
	buffer_put(b, &version, sizeof(version));
	error = d->class->fields ? fields_save(d->class->fields, d, b) : b->error;
	pthread_mutex_unlock(&d->lock);
	return error;
}

static int load_locked(struct device *d, struct buffer *b)
{
	uint32_t version;
	int error = buffer_get(b, &version, sizeof(version));

	if (error)
		return error;
	if (version > d->class->version) {
		log_error("the state of device %s is of version %u; this doppel knows up to %u", d->name, version, d->class->version);
		return b->error = -EPROTO;
	}
	if (d->class->fields)
		error = fields_load(d->class->fields, d, b);
	if (!error && d->class->post_load)
		error = d->class->post_load(d, version);
	return error;
}

int device_load(struct device *d, struct buffer *b)
{
	int error;

	irq_home(d->vm);
	pthread_mutex_lock(&d->lock);
	error = load_locked(d, b);
	pthread_mutex_unlock(&d->lock);
	return error;
}
