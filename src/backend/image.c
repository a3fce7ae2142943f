/* SPDX-License-Identifier: MIT */
/* Images: requests, who works on them, and how their completion comes back. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "backend/image_internal.h"
#include "backend/qcow2.h"
#include "util/log.h"
#include "util/options.h"
#include "util/signals.h"

#define FIXED_NS 50000 /* what a request takes where time does not come from the host */
#define QUEUES_MAX 16
#define STALL_POLL_NS 100000000
#define SLOT_MAX 31

/* ---- Opening and closing ------------------------------------------------------------------------------------------------ */

#define AT(member) offsetof(struct image_words, member)
static const struct option_row rows[] = {
	{ "format", "NAME", "", OPTION_STRING, AT(format), 0, 0 },
	{ "serial", "TEXT", "", OPTION_STRING, AT(serial), 0, 0 },
	{ "readonly", NULL, "", OPTION_FLAG, AT(readonly), 0, 0 },
	{ "snapshot", NULL, "", OPTION_FLAG, AT(snapshot), 0, 0 },
	{ "cache", "writeback|none", "", OPTION_CHOICE, AT(cache), 0, 0 },
	{ "on-error", "report|pause", "", OPTION_CHOICE, AT(on_error), 0, 0 },
	{ "bus", "any|ide|virtio", "", OPTION_CHOICE, AT(bus), 0, 0 },
	{ "slot", "N", "", OPTION_NUMBER, AT(slot), 1, SLOT_MAX },
	{ "queues", "N", "", OPTION_NUMBER, AT(queues), 1, QUEUES_MAX },
	{ .type = OPTION_END },
};
#undef AT

static int open_block(struct image *image)
{
	unsigned flags = (image->readonly || image->words.snapshot ? BLOCK_READONLY : 0) | (image->words.cache ? BLOCK_DIRECT : 0);
	int error = block_open(&image->block, image->text, image->words.format, flags);
	if (error)
		return error;
	image->guarded = !image->words.format && !image->block->format->probe;
	if (image->words.snapshot && !image->readonly)
		return qcow2_overlay(&image->block, image->block);
	image->readonly |= image->block->readonly;
	return 0;
}

int image_open(struct image **result, const char *spec, unsigned flags)
{
	struct image *image = calloc(1, sizeof(*image));
	int error = -ENOMEM;
	if (!image)
		return error;
	image->text = strdup(spec);
	if (!image->text)
		goto failed;
	error = flags & IMAGE_WORDS ? option_words("--disk", rows, &image->words, image->text) : 0;
	image->readonly = image->words.readonly || (flags & IMAGE_READONLY);
	if (!error && image->words.format && !block_named(image->words.format))
		error = -EINVAL;
	if (!error) {
		error = open_block(image);
		error = error == -EINVAL ? -EIO : error; /* it is not how it was asked for */
	}
	if (error)
		goto failed;
	image->last = &image->first;
	pthread_mutex_init(&image->lock, NULL);
	pthread_cond_init(&image->changed, NULL);
	pthread_cond_init(&image->idle, NULL);
	*result = image;
	return 0;
failed:
	free(image->text);
	free(image);
	return error;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	block_close(image->block);
	pthread_mutex_destroy(&image->lock);
	pthread_cond_destroy(&image->changed);
	pthread_cond_destroy(&image->idle);
	free(image->text);
	free(image);
}

uint64_t image_size(const struct image *image)
{
	return image->block->size;
}

bool image_is_readonly(const struct image *image)
{
	return image->readonly;
}

const struct image_words *image_words(const struct image *image)
{
	return &image->words;
}

/* ---- Work --------------------------------------------------------------------------------------------------------------- */

static int read_some(struct image *image, struct request *r, uint64_t there)
{
	struct iovec part[r->count ? r->count : 1];
	unsigned count = block_iov_part(part, r->iov, r->count, 0, there);
	int error = there ? image->block->format->read(image->block, r->offset, part, count) : 0;
	count = block_iov_part(part, r->iov, r->count, there, r->length - there);
	for (unsigned i = 0; i < count && !error; i++)
		memset(part[i].iov_base, 0, part[i].iov_len);
	return error;
}

/* A guest could make a raw image look like one of another format, that names files of the host, and would get those with the next start.
 * Only where the format was found by looking. */
bool image_would_change_format(const struct image *image, const struct request *r)
{
	uint8_t start[IMAGE_SECTOR];
	if (!image->guarded || r->op != IMAGE_WRITE || r->offset)
		return false;
	struct iovec part[r->count ? r->count : 1];
	unsigned count = block_iov_part(part, r->iov, r->count, 0, sizeof(start));
	size_t size = 0;
	for (unsigned i = 0; i < count; size += part[i++].iov_len)
		memcpy(start + size, part[i].iov_base, part[i].iov_len);
	SET_FOREACH(struct block_format, f, block_formats)
		if (f->probe && f->probe(start, size))
			return true;
	return false;
}

static int do_work(struct image *image, struct request *r)
{
	struct block *b = image->block;
	uint64_t there = r->offset < b->size ? MIN(r->length, b->size - r->offset) : 0;
	if (r->op == IMAGE_READ)
		return read_some(image, r, there);
	if (r->op == IMAGE_FLUSH)
		return image->readonly ? 0 : b->format->flush(b);
	if (image->readonly)
		return -EROFS;
	if (there < r->length)
		return -ENOSPC;
	if (image_would_change_format(image, r))
		return -EPERM;
	switch (r->op) {
	case IMAGE_WRITE:
		return b->format->write(b, r->offset, r->iov, r->count);
	case IMAGE_DISCARD:
		return b->format->discard ? b->format->discard(b, r->offset, r->length) : 0;
	case IMAGE_ZERO:
	case IMAGE_ZERO_UNMAP:
		return block_zero(b, r->offset, r->length, r->op == IMAGE_ZERO_UNMAP);
	default:
		return -EINVAL;
	}
}

void image_work(struct image *image, struct request *r)
{
	r->done.error = do_work(image, r);
	r->done.length = r->op == IMAGE_READ && r->iov == &r->own && !r->done.error ? (uint32_t)r->length : 0;
}

static size_t event_size(const struct request *r)
{
	return sizeof(r->done) + r->done.length;
}

/* A completion is one of the loop's callbacks: none comes while a safe point has them stopped. */
void image_complete(struct image *image, struct request *r)
{
	struct vm *vm = image->device->vm;
	loop_pause(vm);
	event_post(image->device, image->event, &r->done, event_size(r));
	loop_resume(vm);
	free(r);
}

static struct request *take(struct image *image)
{
	struct request *r = image->first;
	if (r) {
		image->first = r->next;
		if (!image->first)
			image->last = &image->first;
	}
	return r;
}

static void put(struct image *image, struct request *r)
{
	r->next = NULL;
	*image->last = r;
	image->last = &r->next;
}

bool image_pauses(const struct image *image, const struct request *r)
{
	return image->words.on_error && r->done.error && r->op != IMAGE_READ && !image->readonly;
}

void image_again(struct image *image, struct request *r)
{
	r->done.error = 0;
	put(image, r);
	pthread_cond_signal(&image->changed);
}

/* The host's disk is full, or worse: the machine stands still until somebody has put that right, and the request is done again. With the lock held,
 * which it gives up meanwhile. Nobody waits for a request that is in the queue again, so the processors can stop. */
static void stall(struct image *image, struct request *r)
{
	struct vm *vm = image->device->vm;
	int error = r->done.error;
	image_again(image, r);
	if (image->stalled)
		return;
	image->stalled = true;
	pthread_mutex_unlock(&image->lock);
	log_error("%s: %s; the machine is paused. Put it right, then \"doppel resume NAME\"", image->text, strerror(-error));
	vm_pause(vm);
	pthread_mutex_lock(&image->lock);
	while (vm->paused && !image->quit) {
		struct timespec until;
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += STALL_POLL_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&image->changed, &image->lock, &until);
	}
	image->stalled = false;
	pthread_cond_broadcast(&image->changed);
}

static void *image_thread(void *arg)
{
	struct image *image = arg;
	pthread_mutex_lock(&image->lock);
	for (;;) {
		struct request *r = image->stalled ? NULL : take(image);
		if (!r && image->quit)
			break;
		if (!r) {
			pthread_cond_wait(&image->changed, &image->lock);
			continue;
		}
		image->running++;
		pthread_mutex_unlock(&image->lock);
		image_work(image, r);
		pthread_mutex_lock(&image->lock);
		if (!--image->running)
			pthread_cond_broadcast(&image->idle);
		if (image_pauses(image, r) && !image->quit) {
			stall(image, r);
			continue;
		}
		pthread_mutex_unlock(&image->lock);
		image_complete(image, r);
		pthread_mutex_lock(&image->lock);
	}
	pthread_mutex_unlock(&image->lock);
	return NULL;
}

/* With the device's lock held, as an event has it. */
static void timer_fired(struct device *device, void *arg)
{
	struct image *image = arg;
	while (image->first && image->first->due <= clock_now(device->vm)) {
		struct request *r = take(image);
		device->class->event(device, image->event, &r->done, event_size(r));
		free(r);
	}
	timer_arm(&image->timer, image->first ? image->first->due : TIMER_OFF);
}

/* ---- Whose it is --------------------------------------------------------------------------------------------------------- */

static int start_threads(struct image *image)
{
	sigset_t all, old;
	int error = 0;
	signals_of_others(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (image->threads < IMAGE_THREADS && !error) {
		error = pthread_create(&image->thread[image->threads], NULL, image_thread, image);
		if (!error)
			pthread_setname_np(image->thread[image->threads++], "doppel-image");
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return image->threads ? 0 : -error;
}

int image_attach(struct image *image, struct device *device, unsigned event)
{
	image->device = device;
	image->event = event;
	timer_init(&image->timer, device, "image", timer_fired, image);
	image->threaded = device->vm->clock.mode == CLOCK_HOST;
	if (!image->threaded)
		return 0;
	SET_FOREACH(struct image_async, a, image_asyncs) {
		if (!image->async && !a->init(image))
			image->async = a;
	}
	return start_threads(image);
}

static void forget_all(struct image *image)
{
	for (struct request *r; (r = take(image));)
		free(r);
}

void image_detach(struct image *image)
{
	if (!image->device)
		return;
	pthread_mutex_lock(&image->lock);
	image->quit = true;
	pthread_cond_broadcast(&image->changed);
	pthread_mutex_unlock(&image->lock);
	while (image->threads)
		pthread_join(image->thread[--image->threads], NULL);
	if (image->async)
		image->async->fini(image);
	timer_cancel(&image->timer);
	forget_all(image);
	image->async = NULL;
	image->device = NULL;
	image->threaded = image->quit = false;
}

/* ---- Requests ------------------------------------------------------------------------------------------------------------ */

static struct request *make(struct image *image, enum image_op op, uint32_t tag, uint64_t offset, uint64_t length, uint32_t owned)
{
	struct request *r = malloc(sizeof(*r) + owned);
	if (!r) {
		vm_kill(image->device->vm, "out of memory for a request of %s", image->device->name);
		return NULL;
	}
	*r = (struct request){ .op = op, .offset = offset, .length = length, .done.tag = tag };
	r->own = (struct iovec){ r->done.data, owned };
	r->iov = &r->own;
	r->count = owned ? 1 : 0;
	return r;
}

static void submit(struct image *image, struct request *r)
{
	struct vm *vm = image->device->vm;
	if (image->threaded) {
		pthread_mutex_lock(&image->lock);
		if (!image->async || !image->async->submit(image, r)) {
			put(image, r);
			pthread_cond_signal(&image->changed);
		}
		pthread_mutex_unlock(&image->lock);
		return;
	}
	image_work(image, r);
	r->due = clock_now(vm) + FIXED_NS;
	put(image, r);
	if (image->first == r)
		timer_arm(&image->timer, r->due);
}

void image_kick(struct image *image)
{
	if (!image->async)
		return;
	pthread_mutex_lock(&image->lock);
	image->async->kick(image);
	pthread_mutex_unlock(&image->lock);
}

void image_request(struct image *image, enum image_op op, uint32_t tag, uint64_t offset, uint64_t length, const struct iovec *iov,
		   unsigned count)
{
	struct request *r = make(image, op, tag, offset, length, 0);
	if (!r)
		return;
	r->iov = iov;
	r->count = count;
	submit(image, r);
}

void image_drain(struct image *image)
{
	if (!image->device)
		return;
	pthread_mutex_lock(&image->lock);
	forget_all(image);
	if (image->async)
		image->async->drain(image);
	while (image->running)
		pthread_cond_wait(&image->idle, &image->lock);
	pthread_mutex_unlock(&image->lock);
	if (!image->threaded)
		timer_cancel(&image->timer);
}

void image_read(struct image *image, uint32_t tag, uint64_t offset, uint32_t length)
{
	struct request *r = make(image, IMAGE_READ, tag, offset, length, length);
	if (!r)
		return;
	submit(image, r);
	image_kick(image);
}

void image_write(struct image *image, uint32_t tag, uint64_t offset, const void *data, uint32_t length)
{
	struct request *r = make(image, IMAGE_WRITE, tag, offset, length, length);
	if (!r)
		return;
	memcpy(r->done.data, data, length);
	submit(image, r);
	image_kick(image);
}

void image_flush(struct image *image, uint32_t tag)
{
	struct request *r = make(image, IMAGE_FLUSH, tag, 0, 0, 0);
	if (!r)
		return;
	submit(image, r);
	image_kick(image);
}
