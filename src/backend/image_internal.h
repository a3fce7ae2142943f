/* SPDX-License-Identifier: MIT */
/* Inside of an image: what its parts share. */
#pragma once
#include <pthread.h>
#include "backend/block.h"
#include "backend/image.h"
#include "vm/vm.h"

#define IMAGE_THREADS 4

struct request {
	struct request *next;
	enum image_op op;
	uint64_t offset, length;
	const struct iovec *iov;
	unsigned count;
	struct iovec own;       /* iov of a request that owns its data */
	uint64_t due;           /* virtual ns, where time does not come from the host */
	struct image_done done; /* last: the data that it owns, of a write too, stand in it */
};

struct image_async;
struct image {
	struct block *block;
	struct image_words words;
	char *text;             /* what the words point into */
	bool readonly;
	bool guarded;           /* a raw image that was taken for one by looking: it stays one */
	struct device *device;
	unsigned event;
	bool threaded;          /* else requests complete by the timer */
	struct timer timer;
	const struct image_async *async; /* NULL: threads do all */
	void *async_data;
	unsigned threads;
	pthread_t thread[IMAGE_THREADS];
	pthread_mutex_t lock;   /* guards what follows */
	pthread_cond_t changed; /* more to do, or to end */
	pthread_cond_t idle;    /* running reached 0 */
	struct request *first, **last;
	unsigned running;       /* requests that a thread works on */
	bool stalled;           /* the machine is paused for a failed write: nothing is taken from the queue */
	bool quit;
};

/* The host's asynchronous interface, where there is one. All with image->lock held, but for init and fini. */
struct image_async {
	int (*init)(struct image *);            /* 0 or -errno: threads will do */
	void (*fini)(struct image *);
	bool (*submit)(struct image *, struct request *); /* false: not this one, or not now */
	void (*kick)(struct image *);
	void (*drain)(struct image *);          /* waits for all, and frees them */
};
SET_DECLARE(struct image_async, image_asyncs);
#define IMAGE_ASYNC(object) SET_ADD(struct image_async, image_asyncs, object)

/* image.c -- Does the request, on this thread. */
void image_work(struct image *, struct request *);
bool image_would_change_format(const struct image *, const struct request *);
/* Is this failed request one for which the machine is to pause? Then it is put back: with the lock held. */
bool image_pauses(const struct image *, const struct request *);
void image_again(struct image *, struct request *);
/* Tells the device, and frees it. Holding no lock. */
void image_complete(struct image *, struct request *);
