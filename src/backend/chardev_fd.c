/* SPDX-License-Identifier: MIT */
/* Character devices over file descriptors: standard input and output, files, pseudo-terminals.
 *
 * A guest must neither wait for a slow terminal nor lose what it wrote. So output goes into a bounded ring, which a writer
 * thread empties with plain blocking writes: O_NONBLOCK would be set for everyone who shares the descriptor (the shell!) and
 * would stay behind. When the ring is full the device keeps its byte, and hears CHARDEV_WRITABLE once there is room.
 * Input has a thread of its own, so that a stuck output does not keep the escape key from being heard. It reads no more than the
 * device has room for: the rest waits in the host's pipe. */
#include "backend/chardev_fd.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "util/log.h"
#include "util/signals.h"

#define RING_SIZE (64 * KiB)
#define WRITE_CHUNK 4096
#define READ_CHUNK 256
#define DRAIN_POLL_NS 20000000
#define UNPLUGGED_POLL_MS 100 /* how often an unattached pty looks whether somebody came */

struct chardev_fd {
	struct chardev chardev;
	int in, out;
	unsigned flags;
	const char *name;            /* for messages; own copy */
	struct vm *vm;
	struct terminal_escape escape;

	pthread_t reader, writer;
	bool reading, writing;       /* the threads exist */
	int wake;                    /* eventfd for the reader: room, or stop */
	atomic_bool stop;

	pthread_mutex_t lock;        /* guards what follows */
	pthread_cond_t filled, drained;
	uint8_t ring[RING_SIZE];
	size_t head, used;
	bool starved;                /* write() took less than it was given: owe a CHARDEV_WRITABLE */
	bool finish;                 /* the writer ends once the ring is empty */
	bool broken;                 /* the output failed: swallow the rest */
};

static struct chardev_fd *of(struct chardev *chardev)
{
	return container_of(chardev, struct chardev_fd, chardev);
}

/* Puts into the ring what has room there. With the lock held. */
static size_t fill(struct chardev_fd *c, const uint8_t *data, size_t len)
{
	size_t taken = MIN(len, RING_SIZE - c->used);
	for (size_t i = 0; i < taken; i++)
		c->ring[(c->head + c->used + i) % RING_SIZE] = data[i];
	c->used += taken;
	if (taken)
		pthread_cond_signal(&c->filled);
	return taken;
}

/* Waits for the writer, and looks now and then whether the machine has ended meanwhile. With the lock held. */
static void wait_drained(struct chardev_fd *c)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += DRAIN_POLL_NS;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&c->drained, &c->lock, &until);
}

static size_t fd_write(struct chardev *chardev, const uint8_t *data, size_t len)
{
	struct chardev_fd *c = of(chardev);
	const struct vm *vm = chardev->sink ? chardev->sink->vm : NULL;
	bool patient = vm && vm->clock.mode == CLOCK_INSTRUCTIONS;
	if (c->out < 0)
		return len;
	pthread_mutex_lock(&c->lock);
	size_t taken = c->broken ? len : fill(c, data, len);
	while (patient && taken < len && !c->broken && !vm->end) {
		wait_drained(c);
		taken += fill(c, data + taken, len - taken);
	}
	if (patient || c->broken)
		taken = len;
	c->starved |= taken < len;
	pthread_mutex_unlock(&c->lock);
	return taken;
}

static void fd_accept(struct chardev *chardev, size_t room)
{
	struct chardev_fd *c = of(chardev);
	size_t before = atomic_exchange(&chardev->room, room);
	if (!before && room && c->wake >= 0)
		eventfd_write(c->wake, 1);
}

/* The device may have changed its mind meanwhile (a reset), so this must not go below zero. */
static void room_take(struct chardev_fd *c, size_t len)
{
	size_t room = atomic_load(&c->chardev.room);
	while (!atomic_compare_exchange_weak(&c->chardev.room, &room, room - MIN(room, len)))
		;
}

/* One write of what a pty's other side can take. -EPIPE: there is none, the bytes fall off the open end. */
static ssize_t write_pty(struct chardev_fd *c, const uint8_t *data, size_t len)
{
	struct pollfd p = { .fd = c->out, .events = POLLOUT };
	while (!(poll(&p, 1, UNPLUGGED_POLL_MS) > 0 && p.revents)) {
		if (atomic_load(&c->stop))
			return (ssize_t)len; /* attached, but not reading; the machine is gone */
	}
	if (p.revents & (POLLHUP | POLLERR))
		return (ssize_t)len;
	return write(c->out, data, len);
}

static void output_failed(struct chardev_fd *c, int error)
{
	log_warn("%s: %s; the guest's output is dropped from here on", c->name, strerror(error));
	pthread_mutex_lock(&c->lock);
	c->broken = true;
	c->used = 0;
	pthread_mutex_unlock(&c->lock);
}

/* Takes the bytes out only after they are written, so that `used` is what is still owed. */
static void *writer(void *arg)
{
	struct chardev_fd *c = arg;
	uint8_t chunk[WRITE_CHUNK];
	pthread_mutex_lock(&c->lock);
	for (;;) {
		while (!c->used && !c->finish)
			pthread_cond_wait(&c->filled, &c->lock);
		if (!c->used)
			break;
		size_t len = MIN(c->used, (size_t)WRITE_CHUNK);
		for (size_t i = 0; i < len; i++)
			chunk[i] = c->ring[(c->head + i) % RING_SIZE];
		pthread_mutex_unlock(&c->lock);

		ssize_t done = c->flags & CHARDEV_FD_PTY ? write_pty(c, chunk, len) : write(c->out, chunk, len);
		if (done < 0 && errno == EAGAIN) {
			/* Somebody else made a shared descriptor non-blocking: wait here, as a blocking write would. */
			struct pollfd p = { .fd = c->out, .events = POLLOUT };
			poll(&p, 1, UNPLUGGED_POLL_MS);
		} else if (done < 0 && errno != EINTR) {
			output_failed(c, errno);
		}

		pthread_mutex_lock(&c->lock);
		if (done > 0 && !c->broken) {
			c->head = (c->head + (size_t)done) % RING_SIZE;
			c->used -= (size_t)done;
		}
		pthread_cond_signal(&c->drained);
		if (c->starved && c->used <= RING_SIZE / 2) {
			c->starved = false;
			pthread_mutex_unlock(&c->lock);
			event_post(c->chardev.sink, c->chardev.event + CHARDEV_WRITABLE, NULL, 0);
			pthread_mutex_lock(&c->lock);
		}
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

/* A terminal is read even when the device has no room: else a guest that reads nothing could not be left by the escape key. What is
 * then for the guest waits here. */
static void *reader(void *arg)
{
	struct chardev_fd *c = arg;
	bool terminal = c->flags & CHARDEV_FD_TERMINAL, unplugged = false;
	uint8_t held[READ_CHUNK];
	size_t held_count = 0;
	while (!atomic_load(&c->stop)) {
		size_t room = atomic_load(&c->chardev.room);
		if (held_count && room) {
			size_t len = MIN(held_count, room);
			room_take(c, len);
			event_post(c->chardev.sink, c->chardev.event + CHARDEV_INPUT, held, len);
			held_count -= len;
			memmove(held, held + len, held_count);
			continue;
		}
		size_t want = terminal ? sizeof(held) - held_count : MIN(room, sizeof(held));
		struct pollfd p[2] = { { .fd = c->wake, .events = POLLIN }, { .fd = want && !unplugged ? c->in : -1, .events = POLLIN } };
		if (poll(p, 2, unplugged ? UNPLUGGED_POLL_MS : -1) < 0 && errno != EINTR)
			break;
		unplugged = false;
		eventfd_t ignored;
		if (p[0].revents)
			eventfd_read(c->wake, &ignored);
		if (!p[1].revents || atomic_load(&c->stop))
			continue;
		uint8_t data[READ_CHUNK];
		ssize_t got = read(c->in, data, want);
		if (got > 0 && terminal) {
			for (ssize_t i = 0; i < got; i++)
				if (terminal_input(&c->escape, &c->chardev, c->vm, data[i]))
					held[held_count++] = data[i];
		} else if (got > 0) {
			room_take(c, (size_t)got);
			event_post(c->chardev.sink, c->chardev.event + CHARDEV_INPUT, data, (size_t)got);
		} else if (c->flags & CHARDEV_FD_PTY) {
			unplugged = true;
		} else if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
			continue;
		} else if (!(terminal && !got && !(p[1].revents & POLLHUP))) {
			break; /* the end of the input is not the guest's end */
		}
	}
	return NULL;
}

/* Threads of a backend take no signals: those belong to the main thread and the vCPUs. Only what a thread does wrong itself stays
 * open, so that a crash is seen (and the terminal given back). */
static int spawn(pthread_t *thread, void *(*body)(void *), struct chardev_fd *c)
{
	sigset_t all, before;
	signals_of_others(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int error = pthread_create(thread, NULL, body, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error)
		log_error("%s: no thread: %s", c->name, strerror(error));
	return -error;
}

static int fd_start(struct chardev *chardev, struct vm *vm)
{
	struct chardev_fd *c = of(chardev);
	c->vm = vm;
	if (c->in < 0 || c->reading)
		return 0;
	int error = c->flags & CHARDEV_FD_TERMINAL ? terminal_raw() : 0;
	if (!error)
		error = spawn(&c->reader, reader, c);
	c->reading = !error;
	return error;
}

static void fd_stop(struct chardev *chardev)
{
	struct chardev_fd *c = of(chardev);
	atomic_store(&c->stop, true);
	if (c->reading) {
		eventfd_write(c->wake, 1);
		pthread_join(c->reader, NULL);
		c->reading = false;
	}
	if (c->writing) {
		pthread_mutex_lock(&c->lock);
		c->finish = true;
		c->starved = false;
		pthread_cond_signal(&c->filled);
		pthread_mutex_unlock(&c->lock);
		pthread_join(c->writer, NULL);
		c->writing = false;
	}
	if (c->flags & CHARDEV_FD_TERMINAL)
		terminal_restore();
}

static const struct chardev_ops fd_ops = { .write = fd_write, .start = fd_start, .stop = fd_stop, .accept = fd_accept };

int chardev_fd_create(struct chardev **chardev, int in, int out, unsigned flags, const char *name)
{
	int error = -ENOMEM;
	struct chardev_fd *c = calloc(1, sizeof(*c));
	if (!c)
		goto failed;
	c->chardev.ops = &fd_ops;
	c->in = in;
	c->out = out;
	c->flags = flags;
	c->name = strdup(name);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->filled, NULL);
	pthread_cond_init(&c->drained, NULL);
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!c->name || c->wake < 0) {
		error = c->name ? -errno : -ENOMEM;
		goto failed;
	}
	if (out >= 0) {
		error = spawn(&c->writer, writer, c);
		if (error)
			goto failed;
		c->writing = true;
	}
	*chardev = &c->chardev;
	return 0;
failed:
	if (c) {
		if (c->wake >= 0)
			close(c->wake);
		free((char *)c->name);
		free(c);
	}
	log_error("%s: %s", name, strerror(-error));
	return error;
}

void chardev_fd_destroy(struct chardev *chardev)
{
	struct chardev_fd *c = of(chardev);
	fd_stop(chardev);
	close(c->wake);
	if (c->flags & CHARDEV_FD_CLOSE)
		close(c->out >= 0 ? c->out : c->in);
	pthread_cond_destroy(&c->filled);
	pthread_cond_destroy(&c->drained);
	pthread_mutex_destroy(&c->lock);
	free((char *)c->name);
	free(c);
}
