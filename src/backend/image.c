/* SPDX-License-Identifier: MIT */
/* Raw images: a byte of the file is a byte of the medium. */
#include "backend/image.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/log.h"
#include "util/signals.h"
#include "vm/vm.h"

#define READONLY_WORD ",readonly"
#define FIXED_NS 50000 /* what a request takes where time does not come from the host */

enum op { OP_READ, OP_WRITE, OP_FLUSH };

struct request {
	struct request *next;
	enum op op;
	uint64_t offset;
	uint32_t length;
	uint64_t due;           /* virtual ns, where time does not come from the host */
	struct image_done done; /* last: the data, of a write too, stand in it */
};

struct image {
	int fd;
	uint64_t size;
	bool readonly;
	struct device *device;
	unsigned event;
	bool threaded;          /* else requests complete by the timer */
	struct timer timer;
	pthread_t thread;
	pthread_mutex_t lock;   /* guards what follows */
	pthread_cond_t changed;
	struct request *first, **last;
	bool quit;
};

/* ---- The file --------------------------------------------------------------------------------------------------------- */

static int refuse(const char *path, int error)
{
	if (error == -ENOENT && strchr(path, ','))
		log_error("%s: %s (only \"" READONLY_WORD "\" at the end is not part of the name)", path, strerror(-error));
	else if (error == -EACCES || error == -EROFS || error == -EPERM)
		log_error("%s: %s; if it is only to be read, say " READONLY_WORD " behind its name", path, strerror(-error));
	else
		log_error("%s: %s", path, strerror(-error));
	return error;
}

static int check_file(struct image *image, const char *path)
{
	struct stat status;
	if (fstat(image->fd, &status))
		return refuse(path, -errno);
	if (S_ISDIR(status.st_mode))
		return refuse(path, -EISDIR);
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
		log_error("%s cannot be an image: it is neither a file nor a block device", path);
		return -EINVAL;
	}
	off_t size = lseek(image->fd, 0, SEEK_END);
	if (size < 0)
		return refuse(path, -errno);
	if (!size) {
		log_error("%s cannot be an image: it is empty", path);
		return -EINVAL;
	}
	image->size = (uint64_t)size;
	/* A host without locks (some network file systems) does not stop us. */
	if (flock(image->fd, (image->readonly ? LOCK_SH : LOCK_EX) | LOCK_NB) && errno == EWOULDBLOCK) {
		log_error("%s is in use by another machine%s", path, image->readonly ? ", which writes it" : "");
		return -EBUSY;
	}
	return 0;
}

int image_open(struct image **result, const char *spec, unsigned flags)
{
	size_t length = strlen(spec), word = strlen(READONLY_WORD);
	bool marked = (flags & IMAGE_WORDS) && length > word && !strcmp(spec + length - word, READONLY_WORD);
	char *path = strndup(spec, marked ? length - word : length);
	struct image *image = calloc(1, sizeof(*image));
	int error = -ENOMEM;
	if (!path || !image)
		goto failed;
	image->readonly = marked || (flags & IMAGE_READONLY);
	image->fd = open(path, (image->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (image->fd < 0) {
		error = refuse(path, -errno);
		goto failed;
	}
	error = check_file(image, path);
	if (error) {
		close(image->fd);
		goto failed;
	}
	image->last = &image->first;
	pthread_mutex_init(&image->lock, NULL);
	pthread_cond_init(&image->changed, NULL);
	free(path);
	*result = image;
	return 0;
failed:
	free(path);
	free(image);
	return error;
}

void image_close(struct image *image)
{
	if (!image)
		return;
	close(image->fd);
	pthread_mutex_destroy(&image->lock);
	pthread_cond_destroy(&image->changed);
	free(image);
}

uint64_t image_size(const struct image *image)
{
	return image->size;
}

bool image_is_readonly(const struct image *image)
{
	return image->readonly;
}

/* ---- Requests --------------------------------------------------------------------------------------------------------- */

/* All of it or an error: the rest of an interrupted or short transfer is asked for again. */
static int transfer(struct image *image, struct request *r, uint64_t length)
{
	for (uint64_t at = 0; at < length;) {
		uint8_t *data = r->done.data + at;
		off_t offset = (off_t)(r->offset + at);
		ssize_t n = r->op == OP_READ ? pread(image->fd, data, length - at, offset) : pwrite(image->fd, data, length - at, offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			return -EIO; /* somebody cut the file */
		at += (uint64_t)n;
	}
	return 0;
}

static void work(struct image *image, struct request *r)
{
	uint64_t there = r->offset < image->size ? MIN(r->length, image->size - r->offset) : 0;
	switch (r->op) {
	case OP_READ:
		r->done.error = transfer(image, r, there);
		memset(r->done.data + there, 0, r->length - there);
		r->done.length = r->done.error ? 0 : r->length;
		break;
	case OP_WRITE:
		r->done.error = image->readonly ? -EROFS : there < r->length ? -ENOSPC : transfer(image, r, there);
		break;
	case OP_FLUSH:
		r->done.error = image->readonly || !fdatasync(image->fd) ? 0 : -errno;
		break;
	}
}

static size_t event_size(const struct request *r)
{
	return sizeof(r->done) + r->done.length;
}

/* A completion is one of the loop's callbacks: none comes while a safe point has them stopped. */
static void complete(struct image *image, struct request *r)
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
	*image->last = r;
	image->last = &r->next;
}

static void *image_thread(void *arg)
{
	struct image *image = arg;
	pthread_mutex_lock(&image->lock);
	for (;;) {
		struct request *r = take(image);
		if (!r && image->quit)
			break;
		if (!r) {
			pthread_cond_wait(&image->changed, &image->lock);
			continue;
		}
		pthread_mutex_unlock(&image->lock);
		work(image, r);
		complete(image, r);
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

int image_attach(struct image *image, struct device *device, unsigned event)
{
	sigset_t all, old;
	image->device = device;
	image->event = event;
	timer_init(&image->timer, device, "image", timer_fired, image);
	if (device->vm->clock.mode != CLOCK_HOST)
		return 0;
	signals_of_others(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&image->thread, NULL, image_thread, image);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!error)
		pthread_setname_np(image->thread, "doppel-image");
	image->threaded = !error;
	return -error;
}

void image_detach(struct image *image)
{
	if (!image->device)
		return;
	if (image->threaded) {
		pthread_mutex_lock(&image->lock);
		image->quit = true;
		pthread_cond_signal(&image->changed);
		pthread_mutex_unlock(&image->lock);
		pthread_join(image->thread, NULL);
	} else {
		timer_cancel(&image->timer);
		for (struct request *r; (r = take(image));)
			free(r);
	}
	image->device = NULL;
	image->threaded = image->quit = false;
}

static void submit(struct image *image, enum op op, uint32_t tag, uint64_t offset, const void *data, uint32_t length)
{
	struct vm *vm = image->device->vm;
	struct request *r = malloc(sizeof(*r) + length);
	if (!r) {
		vm_kill(vm, "out of memory for a request of %s", image->device->name);
		return;
	}
	*r = (struct request){ .op = op, .offset = offset, .length = length, .done.tag = tag };
	if (data)
		memcpy(r->done.data, data, length);
	if (image->threaded) {
		pthread_mutex_lock(&image->lock);
		put(image, r);
		pthread_cond_signal(&image->changed);
		pthread_mutex_unlock(&image->lock);
		return;
	}
	work(image, r);
	r->due = clock_now(vm) + FIXED_NS;
	put(image, r);
	if (image->first == r)
		timer_arm(&image->timer, r->due);
}

void image_read(struct image *image, uint32_t tag, uint64_t offset, uint32_t length)
{
	submit(image, OP_READ, tag, offset, NULL, length);
}

void image_write(struct image *image, uint32_t tag, uint64_t offset, const void *data, uint32_t length)
{
	submit(image, OP_WRITE, tag, offset, data, length);
}

void image_flush(struct image *image, uint32_t tag)
{
	submit(image, OP_FLUSH, tag, 0, NULL, 0);
}
