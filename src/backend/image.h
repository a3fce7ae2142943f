/* SPDX-License-Identifier: MIT */
/* The host side of disks, CDs and floppies: an image whose bytes are read and written by requests that complete later.
 *
 * A device asks with its lock held and goes on; the answer comes as an event of the device (struct image_done), with what was read. A
 * thread of the image does the work, so that a processor never waits for the host's disk. Where time must not depend on the host
 * (--clock instructions, tests) the work is done at once and the event comes a fixed time later. A request owns its data: a device
 * that was reset in the meantime forgets the tag, and drops the answer. */
#pragma once
#include "util/bits.h"

struct image;
struct device;

#define IMAGE_SECTOR 512u

struct image_done {       /* data of the event */
	uint32_t tag;     /* the request's */
	int32_t error;    /* 0 or -errno */
	uint32_t length;  /* of data: what was read, all that was asked for; 0 after an error, a write or a flush */
	uint8_t data[];
};

/* image.c -- Opens a raw image, "FILE" or, if `words`, "FILE,readonly" too: a regular file or a block device. 0 or -errno, after an error that says what is
 * wrong. Nobody else can open an image that somebody writes. */
#define IMAGE_READONLY BIT(0)
#define IMAGE_WORDS BIT(1)
int image_open(struct image **, const char *spec, unsigned flags);
void image_close(struct image *); /* after the device is gone; NULL is fine */
uint64_t image_size(const struct image *); /* bytes */
bool image_is_readonly(const struct image *);

/* Set-up: whose the image is, and the kind of its event. 0 or -errno. Detach, from the device's fini, waits for what is under way. */
int image_attach(struct image *, struct device *, unsigned event);
void image_detach(struct image *);

/* With the device's lock held. Reading beyond the end gives zeros; writing there is -ENOSPC. A flush comes back when all writes before it
 * are on the host's disk. */
void image_read(struct image *, uint32_t tag, uint64_t offset, uint32_t length);
void image_write(struct image *, uint32_t tag, uint64_t offset, const void *data, uint32_t length);
void image_flush(struct image *, uint32_t tag);
