/* SPDX-License-Identifier: MIT */
/* Images with threads: many requests at once, draining, and a machine that pauses when a write fails. The format is the test's own. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/block.h"
#include "backend/image.h"
#include "machine.h"

#define SIZE (1 * MiB)
#define REQUESTS 64

static uint8_t medium[SIZE];
static _Atomic int failure;      /* what writes give */
static _Atomic unsigned writes, answers, errors;

static int memory_open(struct block **b, const char *path, unsigned flags)
{
	*b = calloc(1, sizeof(**b));
	(*b)->size = SIZE;
	return 0;
}

static void memory_close(struct block *b)
{
	free(b);
}

static int memory_read(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	for (unsigned i = 0; i < count; offset += iov[i++].iov_len)
		memcpy(iov[i].iov_base, medium + offset, iov[i].iov_len);
	return 0;
}

static int memory_write(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	writes++;
	if (failure)
		return failure;
	for (unsigned i = 0; i < count; offset += iov[i++].iov_len)
		memcpy(medium + offset, iov[i].iov_base, iov[i].iov_len);
	return 0;
}

static int memory_flush(struct block *b)
{
	return 0;
}

static bool memory_claims(const char *path)
{
	return !strcmp(path, "memory:");
}

static const struct block_format memory_format = {
	.name = "memory", .claims = memory_claims, .open = memory_open, .close = memory_close, .read = memory_read, .write = memory_write,
	.flush = memory_flush,
};
BLOCK_FORMAT(memory_format);

static void user_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	const struct image_done *done = data;
	answers++;
	errors += done->error != 0;
}

static const struct device_class user_class = { .name = "user", .size = sizeof(struct device), .event = user_event };
static const struct device_place place = { .class = &user_class, .name = "user", .irq = -1 };
static struct vm *vm;
static struct device *user;
static struct image *image;

static void start(const char *spec)
{
	struct vm_config config = { .name = "test", .engine = "null", .memory = 16 * MiB, .cpus = 1, .clock = CLOCK_HOST };
	answers = errors = writes = 0;
	failure = 0;
	if (vm_create(&vm, &config) || !(user = device_create(vm, &place)) || image_open(&image, spec, IMAGE_WORDS) || image_attach(image, user, 0))
		exit(1);
}

static void stop(void)
{
	image_detach(image);
	image_close(image);
	vm_destroy(vm);
}

static bool reach(_Atomic unsigned *counter, unsigned value)
{
	for (unsigned i = 0; i < 2000 && *counter < value; i++)
		usleep(10000);
	return *counter >= value;
}

static bool paused(bool wanted)
{
	for (unsigned i = 0; i < 2000 && vm->paused != wanted; i++)
		usleep(10000);
	return vm->paused == wanted;
}

static void many(void)
{
	static uint8_t data[REQUESTS][4096];
	struct iovec iov[REQUESTS];
	start("memory:");
	for (unsigned i = 0; i < REQUESTS; i++) {
		memset(data[i], (int)i + 1, sizeof(data[i]));
		iov[i] = (struct iovec){ data[i], sizeof(data[i]) };
		pthread_mutex_lock(&user->lock);
		image_request(image, IMAGE_WRITE, i, i * 4096, 4096, &iov[i], 1);
		image_kick(image);
		pthread_mutex_unlock(&user->lock);
	}
	ok(reach(&answers, REQUESTS) && !errors, "image: many writes at once");
	bool good = true;
	for (unsigned i = 0; i < REQUESTS; i++)
		good &= medium[i * 4096] == i + 1 && medium[i * 4096 + 4095] == i + 1;
	ok(good, "image: are all there");
	pthread_mutex_lock(&user->lock);
	for (unsigned i = 0; i < REQUESTS; i++)
		image_request(image, IMAGE_READ, i, i * 4096, 4096, &iov[i], 1);
	image_drain(image);
	memset(data, 0xee, sizeof(data));
	pthread_mutex_unlock(&user->lock);
	usleep(20000);
	good = true;
	for (unsigned i = 0; i < REQUESTS; i++)
		good &= data[i][0] == 0xee;
	ok(good, "image: once drained, nothing is written to the guest's memory");
	stop();
}

static void failing(void)
{
	start("memory:");
	failure = -ENOSPC;
	pthread_mutex_lock(&user->lock);
	image_write(image, 1, 0, "x", 1);
	pthread_mutex_unlock(&user->lock);
	ok(reach(&answers, 1) && errors == 1 && !vm->paused, "image: a failed write is reported");
	stop();
	start("memory:,on-error=pause");
	failure = -ENOSPC;
	pthread_mutex_lock(&user->lock);
	image_write(image, 1, 0, "a", 1);
	image_write(image, 2, 1, "b", 1);
	pthread_mutex_unlock(&user->lock);
	ok(paused(true) && !answers, "image: or the machine pauses");
	for (unsigned i = 0; i < 10 && writes < 3; i++) { /* each of the two writes may pause it anew */
		vm_unpause(vm);
		paused(true);
	}
	ok(writes >= 3 && paused(true) && !answers, "image: again, if it is no better");
	failure = 0;
	for (unsigned i = 0; i < 2000 && answers < 2; i++) {
		vm_unpause(vm);
		usleep(10000);
	}
	ok(answers == 2 && !errors && medium[0] == 'a' && medium[1] == 'b' && !vm->paused, "image: then all is written, and nothing lost");
	failure = -EIO;
	pthread_mutex_lock(&user->lock);
	image_write(image, 3, 0, "c", 1);
	pthread_mutex_unlock(&user->lock);
	paused(true);
	pthread_mutex_lock(&user->lock);
	image_drain(image);
	pthread_mutex_unlock(&user->lock);
	vm_unpause(vm);
	ok(answers == 2, "image: a reset meanwhile forgets it");
	failure = -EIO;
	pthread_mutex_lock(&user->lock);
	image_write(image, 4, 0, "d", 1);
	pthread_mutex_unlock(&user->lock);
	paused(true);
	stop();
	ok(true, "image: the end of a machine that is paused");
}

int main(void)
{
	many();
	failing();
	return done();
}
