/* SPDX-License-Identifier: MIT */
/* The virtio devices and what a board configures of them. Each is a PCI function: place->base is PCI_AT(slot, function). */
#pragma once
#include "device/virtio.h"

struct image;

/* virtio_blk.c -- a disk. */
#define VIRTIO_BLK_SERIAL 20
struct virtio_blk_config {
	struct image *image;
	const char *serial;   /* NULL: the device's name; what is longer than VIRTIO_BLK_SERIAL is cut */
	unsigned queues;      /* 0: one for each processor, up to four */
};
extern const struct device_class virtio_blk_class;

/* virtio_rng.c -- random numbers of the host; where two runs are to be the same, of a generator with a fixed start. */
extern const struct device_class virtio_rng_class;
