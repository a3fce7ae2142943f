/* SPDX-License-Identifier: MIT */
/* Raw images: a byte of the file is a byte of the medium. */
#include <errno.h>
#include <stdlib.h>
#include "backend/block.h"

struct raw {
	struct block block;
	struct block_file file;
};

static struct raw *of(struct block *b)
{
	return container_of(b, struct raw, block);
}

static int raw_open(struct block **b, const char *path, unsigned flags)
{
	struct raw *r = calloc(1, sizeof(*r));
	int error = r ? block_file_open(&r->file, path, flags) : -ENOMEM;
	if (error) {
		free(r);
		return error;
	}
	r->block.size = r->file.size;
	r->block.readonly = r->file.readonly;
	*b = &r->block;
	return 0;
}

static void raw_close(struct block *b)
{
	block_file_close(&of(b)->file);
	free(of(b));
}

static int raw_read(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	return block_file_read(&of(b)->file, offset, iov, count);
}

static int raw_write(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	return block_file_write(&of(b)->file, offset, iov, count);
}

static int raw_flush(struct block *b)
{
	return block_file_flush(&of(b)->file);
}

static int raw_zero(struct block *b, uint64_t offset, uint64_t length, bool unmap)
{
	return block_file_zero(&of(b)->file, offset, length, unmap);
}

static int raw_discard(struct block *b, uint64_t offset, uint64_t length)
{
	return block_file_discard(&of(b)->file, offset, length);
}

/* Past the page cache each request may need another way. */
static int raw_descriptor(struct block *b)
{
	return of(b)->file.direct >= 0 ? -1 : of(b)->file.fd;
}

static const struct block_format raw_format = {
	.name = "raw", .open = raw_open, .close = raw_close, .read = raw_read, .write = raw_write, .flush = raw_flush, .zero = raw_zero,
	.discard = raw_discard, .descriptor = raw_descriptor,
};
BLOCK_FORMAT(raw_format);
