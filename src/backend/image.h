/* SPDX-License-Identifier: MIT */
/* The host side of disks, CDs and floppies: an image whose bytes are read and written by requests that complete later.
 *
 * A device asks with its lock held and goes on; the answer comes as an event of the device (struct image_done). The host's asynchronous
 * interface or threads of the image do the work, so that a processor never waits for the host's disk. Where time must not depend on the
 * host (--clock instructions, tests) the work is done at once and the event comes a fixed time later. Either a request owns its data
 * (image_read, image_write), and a device that was reset in the meantime drops the answer; or they go straight to and from the guest's
 * memory (image_request), and the device calls image_drain before it gives that up. */
#pragma once
#include <sys/uio.h>
#include "util/bits.h"

struct image;
struct device;

#define IMAGE_SECTOR 512u

struct image_done {       /* data of the event */
	uint32_t tag;     /* the request's */
	int32_t error;    /* 0 or -errno */
	uint32_t length;  /* of data: what image_read read, all that was asked for; else, and after an error, 0 */
	uint8_t data[];
};

enum image_op { IMAGE_READ, IMAGE_WRITE, IMAGE_FLUSH, IMAGE_DISCARD, IMAGE_ZERO, IMAGE_ZERO_UNMAP };

/* image.c -- Opens an image, "FILE" or, if IMAGE_WORDS, "FILE,WORD...": a regular file or a block device. 0 or -errno, after an error that
 * says what is wrong; -EINVAL: the words. Nobody else can open an image that somebody writes. */
#define IMAGE_READONLY BIT(0)
#define IMAGE_WORDS BIT(1)
int image_open(struct image **, const char *spec, unsigned flags);
void image_close(struct image *); /* after the device is gone; NULL is fine */
uint64_t image_size(const struct image *); /* bytes */
bool image_is_readonly(const struct image *);

/* What the words said of the device in front of it: see struct image_words. */
enum image_bus { IMAGE_BUS_ANY, IMAGE_BUS_IDE, IMAGE_BUS_VIRTIO };
struct image_words {
	const char *format, *serial;
	bool readonly, snapshot;
	int cache;             /* 0: writeback, 1: none */
	int on_error;          /* 0: report, 1: pause */
	int bus;               /* enum image_bus */
	uint64_t slot, queues; /* 0: not said */
};
const struct image_words *image_words(const struct image *);

/* Set-up: whose the image is, and the kind of its event. 0 or -errno. Detach, from the device's fini, waits for what is under way. */
int image_attach(struct image *, struct device *, unsigned event);
void image_detach(struct image *);

/* With the device's lock held. Reading beyond the end gives zeros; writing there is -ENOSPC. A flush comes back when all writes that came
 * back before are on the host's disk. */
void image_read(struct image *, uint32_t tag, uint64_t offset, uint32_t length);
void image_write(struct image *, uint32_t tag, uint64_t offset, const void *data, uint32_t length);
void image_flush(struct image *, uint32_t tag);
/* The pieces must last until the answer, or until image_drain. The request may wait until image_kick. */
void image_request(struct image *, enum image_op, uint32_t tag, uint64_t offset, uint64_t length, const struct iovec *, unsigned count);
void image_kick(struct image *);
/* With the device's lock held: gives up what was not begun, waits for what was. From here on no answer of before is worth anything, though one
 * may still come. */
void image_drain(struct image *);
