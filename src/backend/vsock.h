/* SPDX-License-Identifier: MIT */
/* The host side of vsock: Unix sockets in place of the host's ports, as Firecracker and Cloud Hypervisor have them.
 *
 * A guest that connects to port P of the host reaches who listens at the Unix socket PATH_P. A program of the host connects to PATH, and
 * says "CONNECT P\n": when the guest has taken the connection, the answer is "OK Q\n" (Q: the port that it comes from), and then the bytes
 * are the guest's; when nobody listens there, the connection ends.
 *
 * A connection is a stream, named by a number that does not come again soon. What happens to streams comes as events of the device. */
#pragma once
#include <sys/uio.h>
#include "util/bits.h"

#define VSOCK_STREAMS 512     /* connections at once, both directions */
#define VSOCK_READ_MAX (64 * KiB)

struct vsock;
struct device;

struct vsock_news { /* an event's data; INPUT: the bytes follow */
	uint32_t stream;
	uint32_t port;         /* of the guest: ASKED */
};
enum vsock_event {
	VSOCK_ASKED,           /* somebody wants to connect to the guest: vsock_accept or vsock_drop */
	VSOCK_OPEN,            /* the connection that the guest asked for stands */
	VSOCK_INPUT,
	VSOCK_END,             /* the host sends no more */
	VSOCK_WRITABLE,        /* vsock_write takes more */
	VSOCK_GONE,            /* nothing goes either way any more; or, before OPEN: there is nobody */
};

/* vsock.c -- spec: "PATH[,cid=N][,slot=N]". 0 or -errno, after an error. */
int vsock_open(struct vsock **, const char *spec);
void vsock_close(struct vsock *);  /* after the device is gone; NULL is fine */
uint32_t vsock_cid(const struct vsock *);
unsigned vsock_slot(const struct vsock *); /* 0: not said */
/* From the device's init and fini: whose the events are. 0 or -errno, after an error. */
int vsock_start(struct vsock *, struct device *);
void vsock_stop(struct vsock *);
/* The rest with the device's lock held; none waits. A stream that is gone is nothing to any of them. */
/* To the host's port, which OPEN or GONE answers. The stream; 0: there are too many. */
uint32_t vsock_connect(struct vsock *, uint32_t port);
/* The guest took the connection that was ASKED for, which comes from this port. */
void vsock_accept(struct vsock *, uint32_t stream, uint32_t from);
/* Returns how many bytes were taken; less than there are: WRITABLE comes. */
size_t vsock_write(struct vsock *, uint32_t stream, const struct iovec *, unsigned count);
/* INPUT may come up to so many bytes from the stream's beginning. At first none may. */
void vsock_allow(struct vsock *, uint32_t stream, uint64_t total);
/* The guest sends no more (output), or reads no more. */
void vsock_finish(struct vsock *, uint32_t stream, bool output);
/* Ends the stream; no more is heard of it, but for an event that is on its way. */
void vsock_drop(struct vsock *, uint32_t stream);
