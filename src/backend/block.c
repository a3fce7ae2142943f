/* SPDX-License-Identifier: MIT */
/* Opening of an image in whatever format, and what the formats share. */
#include "backend/block.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/log.h"
#include "util/options.h"

#define PROBE_BYTES 512
#define FORMATS_MAX 16
#define DEFAULT_FORMAT "raw"
#define ZERO_CHUNK (1 * MiB)

static const struct block_format *by_name(const char *name)
{
	SET_FOREACH(struct block_format, f, block_formats)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

const struct block_format *block_named(const char *name)
{
	const char *names[FORMATS_MAX] = { NULL };
	unsigned count = 0;
	const struct block_format *format = by_name(name);
	if (format)
		return format;
	SET_FOREACH(struct block_format, f, block_formats)
		if (count < FORMATS_MAX)
			names[count++] = f->name;
	const char *nearest = option_nearest(name, names, count);
	char text[128] = "";
	for (unsigned i = 0, at = 0; i < count && at < sizeof(text); i++)
		at += (unsigned)snprintf(text + at, sizeof(text) - at, "%s%s", i ? ", " : "", names[i]);
	log_error("there is no image format %s%s%s", name, nearest ? "; did you mean " : "; there are ", nearest ? nearest : text);
	return NULL;
}

/* A file that cannot be looked at is opened as a raw one, which says why. */
static const struct block_format *found(const char *path)
{
	uint8_t start[PROBE_BYTES];
	SET_FOREACH(struct block_format, f, block_formats)
		if (f->claims && f->claims(path))
			return f;
	if (!strncmp(path, "nbd", 3) && strstr(path, "://")) {
		log_error("%s: this doppel was built without libnbd; install libnbd-dev and build it again", path);
		return NULL;
	}
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	ssize_t size = fd < 0 ? 0 : pread(fd, start, sizeof(start), 0);
	if (fd >= 0)
		close(fd);
	SET_FOREACH(struct block_format, f, block_formats)
		if (f->probe && size > 0 && f->probe(start, (size_t)size))
			return f;
	return by_name(DEFAULT_FORMAT);
}

int block_open(struct block **b, const char *path, const char *format, unsigned flags)
{
	const struct block_format *f = format ? block_named(format) : found(path);
	if (!f)
		return -EINVAL;
	int error = f->open(b, path, flags);
	if (!error)
		(*b)->format = f;
	return error;
}

void block_close(struct block *b)
{
	if (b)
		b->format->close(b);
}

int block_read(struct block *b, uint64_t offset, void *data, size_t size)
{
	struct iovec iov = { data, size };
	return b->format->read(b, offset, &iov, 1);
}

static int write_zeros(struct block *b, uint64_t offset, uint64_t length)
{
	static const uint8_t zeros[ZERO_CHUNK];
	int error = 0;
	while (length && !error) {
		struct iovec iov = { (void *)zeros, MIN(length, (uint64_t)sizeof(zeros)) };
		error = b->format->write(b, offset, &iov, 1);
		offset += iov.iov_len;
		length -= iov.iov_len;
	}
	return error;
}

int block_zero(struct block *b, uint64_t offset, uint64_t length, bool unmap)
{
	int error = b->format->zero ? b->format->zero(b, offset, length, unmap) : -EOPNOTSUPP;
	return error == -EOPNOTSUPP ? write_zeros(b, offset, length) : error;
}

uint64_t block_iov_size(const struct iovec *iov, unsigned count)
{
	uint64_t size = 0;
	for (unsigned i = 0; i < count; i++)
		size += iov[i].iov_len;
	return size;
}

unsigned block_iov_part(struct iovec *to, const struct iovec *iov, unsigned count, uint64_t offset, uint64_t size)
{
	unsigned pieces = 0;
	for (unsigned i = 0; i < count && size; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		uint64_t here = MIN(size, iov[i].iov_len - offset);
		to[pieces++] = (struct iovec){ (uint8_t *)iov[i].iov_base + offset, here };
		size -= here;
		offset = 0;
	}
	return pieces;
}
