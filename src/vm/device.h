/* SPDX-License-Identifier: MIT */
/* Devices: what a class must tell, and the walks over a VM's devices. */
#pragma once
#include <pthread.h>
#include "util/bits.h"
#include "util/set.h"
#include "vm/field.h"

struct vm;
struct device;

enum reset_kind { RESET_COLD, RESET_WARM };

/* Where a board puts an instance: read by the class's init. */
struct device_place {
	const struct device_class *class;
	const char *name;        /* unique in the VM: "uart0" */
	uint64_t base;           /* first port or address; 0 if the chip's is fixed */
	int irq;                 /* GSI, or -1 */
	const void *config;      /* the class's own set-up struct, or NULL */
};

struct device_class {
	const char *name, *summary;
	size_t size;             /* of the instance, which begins with struct device */
	int (*init)(struct device *);   /* registers ranges, pins and timers; 0 or -errno after log_error */
	void (*reset)(struct device *, enum reset_kind);
	void (*fini)(struct device *);  /* may be NULL; called after a failed init too */
	/* An input posted with event_post; lock held. */
	void (*event)(struct device *, unsigned kind, const void *data, size_t len);
	const struct field *fields;     /* saved state, ends with FIELD_END; NULL: none */
	uint32_t version;               /* of the fields */
	int (*post_load)(struct device *, uint32_t version); /* checks what was loaded (a stream is hostile), rearms, redrives */
};

struct device {
	const struct device_class *class;
	const struct device_place *place;
	const char *name;
	struct vm *vm;
	struct device *next;
	pthread_mutex_t lock;
};

SET_DECLARE(struct device_class, device_classes);
#define DEVICE_CLASS(object) SET_ADD(struct device_class, device_classes, object)

/* device.c -- set-up time, main thread. The place must outlive the VM. NULL after log_error. */
struct device *device_create(struct vm *, const struct device_place *);
void device_destroy_all(struct vm *);
struct device *device_find(struct vm *, const char *name);
void device_reset_all(struct vm *, enum reset_kind);
/* The saved state of one device, to and from a buffer; see field.h. At a safe point. */
int device_save(struct device *, struct buffer *);
int device_load(struct device *, struct buffer *);
