/* SPDX-License-Identifier: MIT */
/* A folder of the host, shared by the 9P2000.L protocol: messages in, messages out.
 *
 * The guest gets what is beneath the folder, and nothing else: each name is one component, looked up beneath its directory's descriptor
 * (openat2, RESOLVE_BENEATH), and no symbolic link is ever followed here; the guest follows them itself, in its own tree. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "util/bits.h"

#define NINEP_MSIZE_MAX (512 * KiB)
#define NINEP_HEADER 7u /* size, type, tag */

struct ninep;
struct device;

/* ninep.c -- spec: "PATH,tag=NAME[,readonly]". 0 or -errno, after an error. */
int ninep_open(struct ninep **, const char *spec);
void ninep_close(struct ninep *); /* NULL is fine */
const char *ninep_tag(const struct ninep *);
unsigned ninep_slot(const struct ninep *); /* 0: not said */
/* Forgets all of a client. Nobody may be answering. */
void ninep_reset(struct ninep *);
/* Answers one message: returns the size of what it wrote to `reply`, which has NINEP_MSIZE_MAX bytes; 0: that was no message. One thread at a
 * time. */
size_t ninep_answer(struct ninep *, const uint8_t *message, size_t size, uint8_t *reply);

/* ninep_server.c -- A thread that answers, so that no processor waits for the host's files. With the device's lock held, as in image.h: a
 * request is copied; the answer comes as an event of the device (a uint32_t, the tag, then the message). Where time does not come from
 * the host it comes at once, before ninep_ask returns. */
struct ninep_server;
int ninep_start(struct ninep_server **, struct ninep *, struct device *, unsigned event);
void ninep_stop(struct ninep_server *);
void ninep_ask(struct ninep_server *, uint32_t tag, const uint8_t *message, size_t size);
/* Forgets what was not begun, waits for what was, and resets the folder's state. An answer of before may still come. */
void ninep_drain(struct ninep_server *);
