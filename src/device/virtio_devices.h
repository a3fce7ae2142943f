/* SPDX-License-Identifier: MIT */
/* The virtio devices and what a board configures of them. Each is a PCI function: place->base is PCI_AT(slot, function). */
#pragma once
#include "device/virtio.h"

struct image;
struct net;
struct chardev;
struct ninep;
struct vsock;

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

/* virtio_net.c -- a network card. */
#define VIRTIO_NET_PAIRS_MAX 16
struct virtio_net_config {
	struct net *net;
	unsigned pairs;       /* of queues; 0: one */
};
extern const struct device_class virtio_net_class;

/* virtio_console.c -- terminals and channels. */
#define VIRTIO_CONSOLE_PORTS 16
struct virtio_console_config {
	struct virtio_console_port {
		struct chardev *chardev;
		const char *name; /* a channel of that name; NULL: a terminal */
	} port[VIRTIO_CONSOLE_PORTS];
	unsigned ports;
};
extern const struct device_class virtio_console_class;

/* virtio_balloon.c -- Event: how many bytes the guest is to give back (a uint64_t). */
enum { VIRTIO_BALLOON_TARGET = 0 };
extern const struct device_class virtio_balloon_class;
uint64_t virtio_balloon_size(struct device *); /* any thread: how many it has given */

/* virtio_9p.c -- a shared folder. */
struct virtio_9p_config {
	struct ninep *folder;
};
extern const struct device_class virtio_9p_class;

/* virtio_vsock.c -- connections between programs of the guest and of the host. */
struct virtio_vsock_config {
	struct vsock *vsock;
};
extern const struct device_class virtio_vsock_class;
