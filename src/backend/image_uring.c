/* SPDX-License-Identifier: MIT */
/* Images through io_uring, the host's asynchronous interface: reads, writes and flushes of raw images.
 *
 * What is done is told by an eventfd that the loop waits for. Whoever reaps does it with the image's lock held, into a list, and tells the
 * device without it. A transfer that comes back short is finished by hand; that is rare enough. */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "backend/image_internal.h"

#define DEPTH 256u

struct uring {
	struct io_uring ring;
	int fd, event;             /* the image's file; what tells of completions */
	unsigned under_way, waiting; /* submitted; of these not yet told to the kernel */
	struct loop_fd ready;
	struct request *done, **last;
};

static void finish(struct image *image, struct request *r, int result)
{
	uint64_t size = r->op == IMAGE_FLUSH ? 0 : r->length;
	if (result < 0 && result != -EAGAIN && result != -EINTR)
		r->done.error = result;
	else if (r->op != IMAGE_FLUSH && (uint64_t)MAX(result, 0) == size)
		r->done.length = r->op == IMAGE_READ && r->iov == &r->own ? (uint32_t)size : 0;
	else if (r->op != IMAGE_FLUSH || result < 0)
		image_work(image, r); /* all of it again: short transfers are those that end behind the file's end */
}

/* Moves what is done to the list. */
static void reap(struct image *image, struct uring *u)
{
	struct io_uring_cqe *cqe;
	while (!io_uring_peek_cqe(&u->ring, &cqe)) {
		struct request *r = io_uring_cqe_get_data(cqe);
		finish(image, r, cqe->res);
		io_uring_cqe_seen(&u->ring, cqe);
		u->under_way--;
		if (image_pauses(image, r)) { /* a thread does it again, and pauses the machine if it must */
			image_again(image, r);
			continue;
		}
		r->next = NULL;
		*u->last = r;
		u->last = &r->next;
	}
}

static struct request *take_done(struct uring *u)
{
	struct request *list = u->done;
	u->done = NULL;
	u->last = &u->done;
	return list;
}

static void completed(struct loop_fd *f, uint32_t events)
{
	struct image *image = f->arg;
	struct uring *u = image->async_data;
	uint64_t count;
	(void)!read(u->event, &count, sizeof(count));
	pthread_mutex_lock(&image->lock);
	reap(image, u);
	struct request *list = take_done(u);
	pthread_mutex_unlock(&image->lock);
	while (list) {
		struct request *r = list;
		list = r->next;
		image_complete(image, r);
	}
}

static int uring_init(struct image *image)
{
	int fd = image->block->format->descriptor ? image->block->format->descriptor(image->block) : -1;
	struct uring *u = fd < 0 ? NULL : calloc(1, sizeof(*u));
	if (!u)
		return -ENOTSUP;
	u->fd = fd;
	u->last = &u->done;
	u->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int error = u->event < 0 ? -errno : io_uring_queue_init(DEPTH, &u->ring, 0);
	if (error)
		goto no_ring;
	error = io_uring_register_eventfd(&u->ring, u->event);
	u->ready = (struct loop_fd){ .fd = u->event, .ready = completed, .arg = image };
	if (!error)
		error = loop_add(image->device->vm, &u->ready, EPOLLIN);
	if (error)
		goto no_loop;
	image->async_data = u;
	return 0;
no_loop:
	io_uring_queue_exit(&u->ring);
no_ring:
	if (u->event >= 0)
		close(u->event);
	free(u);
	return error;
}

static void tell_kernel(struct uring *u)
{
	while (u->waiting) {
		int n = io_uring_submit(&u->ring);
		if (n < 0 && n != -EINTR && n != -EAGAIN && n != -EBUSY)
			break;
		u->waiting -= n > 0 ? MIN((unsigned)n, u->waiting) : 0;
	}
}

static void uring_kick(struct image *image)
{
	tell_kernel(image->async_data);
}

static bool within(const struct image *image, const struct request *r)
{
	return r->offset <= image->block->size && r->length <= image->block->size - r->offset;
}

static bool uring_submit(struct image *image, struct request *r)
{
	struct uring *u = image->async_data;
	bool simple = r->op == IMAGE_READ || (!image->readonly && (r->op == IMAGE_WRITE || r->op == IMAGE_FLUSH));
	struct io_uring_sqe *sqe;
	if (!simple || !within(image, r) || image_would_change_format(image, r) || u->under_way == DEPTH || !(sqe = io_uring_get_sqe(&u->ring)))
		return false;
	if (r->op == IMAGE_FLUSH)
		io_uring_prep_fsync(sqe, u->fd, IORING_FSYNC_DATASYNC);
	else if (r->op == IMAGE_READ)
		io_uring_prep_readv(sqe, u->fd, r->iov, r->count, r->offset);
	else
		io_uring_prep_writev(sqe, u->fd, r->iov, r->count, r->offset);
	io_uring_sqe_set_data(sqe, r);
	u->under_way++;
	u->waiting++;
	return true;
}

static void uring_drain(struct image *image)
{
	struct uring *u = image->async_data;
	struct io_uring_cqe *cqe;
	tell_kernel(u);
	while (u->under_way) {
		io_uring_wait_cqe(&u->ring, &cqe);
		reap(image, u);
	}
	for (struct request *r = take_done(u), *next; r; r = next) {
		next = r->next;
		free(r);
	}
}

static void uring_fini(struct image *image)
{
	struct uring *u = image->async_data;
	loop_remove(image->device->vm, &u->ready);
	pthread_mutex_lock(&image->lock);
	uring_drain(image);
	pthread_mutex_unlock(&image->lock);
	io_uring_queue_exit(&u->ring);
	close(u->event);
	free(u);
	image->async_data = NULL;
}

static const struct image_async uring_async = {
	.init = uring_init, .fini = uring_fini, .submit = uring_submit, .kick = uring_kick, .drain = uring_drain,
};
IMAGE_ASYNC(uring_async);
