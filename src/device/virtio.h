/* SPDX-License-Identifier: MIT */
/* What all virtio devices share: Virtual I/O Device (VIRTIO) Version 1.2, chapters 2 to 4.1.
 *
 * A device of this family begins with a struct virtio, and has a const struct virtio_model that says what it is. Its init fills
 * `model` and what differs from instance to instance, and calls virtio_init; reset calls virtio_reset, post_load
 * virtio_loaded; its field table has the row VIRTIO_FIELDS(struct x). The core has the registers, negotiates features, and walks
 * the rings; the device sees chains of buffers.
 *
 * A driver that breaks a rule (a chain that loops, a buffer beyond RAM, an index that jumps) breaks its device: it asks for
 * a reset (DEVICE_NEEDS_RESET), and does nothing more until then. */
#pragma once
#include <sys/uio.h>
#include "device/pci.h"

#define VIRTQ_SIZE_MAX 256
#define VIRTIO_QUEUES_MAX 34
#define VIRTIO_NO_VECTOR 0xffffu

enum virtio_type {
	VIRTIO_NET = 1, VIRTIO_BLK = 2, VIRTIO_CONSOLE = 3, VIRTIO_RNG = 4, VIRTIO_BALLOON = 5, VIRTIO_9P = 9, VIRTIO_VSOCK = 19,
};
enum { /* device status, 2.1 */
	VIRTIO_ACKNOWLEDGE = 1, VIRTIO_DRIVER = 2, VIRTIO_DRIVER_OK = 4, VIRTIO_FEATURES_OK = 8, VIRTIO_NEEDS_RESET = 0x40,
	VIRTIO_FAILED = 0x80,
};
/* Features of the transport and the rings, chapter 6: every device offers them. */
#define VIRTIO_F_ANY_LAYOUT BIT(27)
#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX BIT(29)
#define VIRTIO_F_VERSION_1 BIT(32)
#define VIRTIO_F_RING_RESET BIT(40)

struct virtio;

struct virtq {
	bool enabled;
	uint16_t size;               /* number of descriptors; what the driver chose */
	uint16_t vector;             /* of its interrupts */
	uint64_t desc, avail, used;  /* guest addresses of the three parts */
	uint16_t next;               /* index of the available ring: what is taken next */
	uint16_t put;                /* index of the used ring: what is given back next */
	uint16_t told;               /* of it: what the driver was interrupted for */
	uint64_t busy[VIRTQ_SIZE_MAX / 64]; /* bit i: the chain that begins at descriptor i is the device's */
	struct virtio *virtio;
	uint16_t index, size_max;
	struct doorbell *doorbell;   /* NULL: none */
};

/* A chain of descriptors: first what the driver wrote, then what the device is to write. Pieces are in the monitor's memory. */
struct virtq_chain {
	struct virtq *queue;
	uint16_t head;
	unsigned out, in;            /* number of pieces */
	uint64_t out_size, in_size;  /* bytes of each kind */
	gpa_t *in_at;                /* guest addresses of the `in` pieces */
	void *owner;                 /* the device's own */
	struct iovec iov[];          /* out, then in */
};

struct virtio_model {
	enum virtio_type type;
	uint32_t class;              /* PCI class, sub-class, interface */
	uint64_t features;           /* of this kind of device; an instance may take some away: virtio->features */
	const char *const *queue_names;
	/* Bytes of the device's own configuration; lock held, as in all that follow. NULL: none. */
	void (*config_read)(struct virtio *, unsigned offset, void *data, unsigned size);
	void (*config_write)(struct virtio *, unsigned offset, const void *data, unsigned size);
	/* The driver says that a queue has something. Only after DRIVER_OK. A processor waits for it; or, with `quick`, the event loop, where the
	 * engine has doorbells: then it must not wait for anything. */
	void (*notify)(struct virtio *, unsigned queue);
	bool quick;
	/* DRIVER_OK was set: queues and features are known. May be NULL. */
	void (*ready)(struct virtio *);
	/* The driver, or the machine, resets the device: what is its own. May be NULL. */
	void (*reset)(struct virtio *);
	/* Forgets the chains of a queue that it has (virtq_drop); from here on the host touches none of their memory. With
	 * v->status 0 all queues go. NULL: it never keeps one. */
	void (*forget)(struct virtio *, unsigned queue);
	/* After a load: a chain that was the device's when the state was saved. NULL: there is never one. */
	void (*resume)(struct virtio *, struct virtq_chain *);
};

struct virtio {
	struct device device;
	struct pci_function pci;
	struct pci_msix msix;
	uint32_t device_select, driver_select;   /* which half of the features is shown */
	uint64_t driver_features;                /* what the driver accepted */
	uint16_t config_vector, queue_select;
	uint8_t status, generation, isr;
	bool legacy;                             /* the driver came by the legacy interface */
	struct virtq queue[VIRTIO_QUEUES_MAX];
	/* Set-up: */
	const struct virtio_model *model;
	struct pci_model pci_model;
	uint64_t features;                       /* what is offered */
	unsigned queues;
	unsigned config_size;                    /* bytes of the device's own configuration */
	unsigned window_at;                      /* the capability by which configuration space reaches the registers */
};
extern const struct field virtio_fields[];
#define VIRTIO_FIELDS(type) FIELD_STRUCT(type, virtio, virtio_fields, struct virtio)

static inline struct virtio *virtio_of(struct device *d)
{
	return container_of(d, struct virtio, device);
}
static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
	return v->driver_features & feature;
}
/* 3.1.2: drivers of the legacy interface often use the device before they set DRIVER_OK. */
static inline bool virtio_is_ready(const struct virtio *v)
{
	uint8_t needed = v->legacy ? VIRTIO_DRIVER : VIRTIO_DRIVER_OK;
	return (v->status & (needed | VIRTIO_NEEDS_RESET)) == needed;
}

/* virtio.c -- From the device's init. v->model, queues, config_size and features (0: the model's) are set before. 0 or -errno. */
int virtio_init(struct virtio *, unsigned queue_size);
void virtio_reset(struct virtio *);
/* 0, or -EPROTO for a state that no device can have. */
int virtio_loaded(struct virtio *);
/* The driver broke a rule; says which one to whoever traces. */
void virtio_break(struct virtio *, const char *why, ...) __attribute__((format(printf, 2, 3)));
/* The device's configuration changed: tells the driver. */
void virtio_config_changed(struct virtio *);
/* For the transport. */
void virtio_set_status(struct virtio *, uint8_t status);
void virtio_queue_enable(struct virtio *, unsigned queue);
void virtio_queue_reset(struct virtio *, unsigned queue);
void virtio_notified(struct virtio *, unsigned queue);

/* virtio_pci.c -- Registers and interrupts, chapter 4.1. */
int virtio_pci_init(struct virtio *);
void virtio_pci_interrupt(struct virtio *, uint16_t vector, uint8_t isr);
/* For both interfaces: reads the interrupt status, which clears it; what becomes of a vector that a driver chooses. */
uint8_t virtio_pci_isr(struct virtio *);
uint16_t virtio_pci_vector(const struct virtio *, uint16_t vector);

/* virtio_legacy.c -- The legacy interface, 4.1.4.10: the ports behind BAR 0. It is for kinds of devices that were there before version 1. */
#define VIRTIO_LEGACY_BAR 0
bool virtio_legacy_exists(const struct virtio *);
/* Set-up: makes the function one that both kinds of drivers know. */
void virtio_legacy_init(const struct virtio *, struct pci_model *);
/* The features that a driver of either interface may accept. */
uint64_t virtio_offered(const struct virtio *);

/* virtqueue.c -- With the device's lock held. Takes the next chain; NULL: there is none, or the device is broken. */
struct virtq_chain *virtq_pop(struct virtq *);
/* Is there one? Does not take it, and asks to be notified of the next one if there is none. */
bool virtq_waiting(struct virtq *);
/* Gives a chain back to the driver, with so many bytes written into it, and frees it. In two steps for chains that must appear
 * together: fill (the nth of them), and commit all. */
void virtq_push(struct virtq_chain *, uint64_t written);
void virtq_fill(struct virtq_chain *, uint64_t written, unsigned nth);
void virtq_commit(struct virtq *, unsigned count);
/* Interrupts the driver, if it wants to know of what was given back. */
void virtq_interrupt(struct virtq *);
/* Puts the chain that was taken last back, as if it had not been; frees it. */
void virtq_unpop(struct virtq_chain *);
/* Forgets a chain; frees it. */
void virtq_drop(struct virtq_chain *);
/* Copies out of what the driver wrote, from this offset on, or into what the device writes. Returns how many bytes there were. */
size_t virtq_read(const struct virtq_chain *, uint64_t offset, void *, size_t);
size_t virtq_write(struct virtq_chain *, uint64_t offset, const void *, size_t);
/* For the core, after a load: the chain at a descriptor that is busy. NULL: its memory makes no sense any more. */
struct virtq_chain *virtq_resume(struct virtq *, uint16_t head);
/* Copies between a list of pieces, from this offset on, and memory. Returns how many bytes there were. */
size_t iov_read(const struct iovec *, unsigned count, uint64_t offset, void *, size_t);
size_t iov_write(const struct iovec *, unsigned count, uint64_t offset, const void *, size_t);
