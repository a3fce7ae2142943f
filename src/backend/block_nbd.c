/* SPDX-License-Identifier: MIT */
/* Disks of other hosts by NBD, through libnbd: nbd://HOST[:PORT]/EXPORT, nbds:// and nbd+unix:///EXPORT?socket=PATH, as in the NBD URI
 * specification. Servers are qemu-nbd and nbdkit, among others.
 *
 * A connection serves one request at a time; there are as many as an image has threads if the server says that they see each other's
 * writes (multi-conn), else one. */
#include <errno.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "backend/block.h"
#include "util/log.h"

#define CONNECTIONS 4
#define TRANSFER_MAX (32 * MiB)  /* what every server takes */

struct nbd {
	struct block block;
	struct {
		struct nbd_handle *handle;
		pthread_mutex_t lock;
		uint8_t *bounce;   /* for requests of several pieces */
		size_t room;
	} connection[CONNECTIONS];
	unsigned connections;
	_Atomic unsigned turn;
	bool flushes, zeroes, trims;
};

static struct nbd *of(struct block *b)
{
	return container_of(b, struct nbd, block);
}

static bool nbd_claims(const char *path)
{
	static const char *const starts[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://" };
	for (unsigned i = 0; i < ARRAY_SIZE(starts); i++)
		if (!strncmp(path, starts[i], strlen(starts[i])))
			return true;
	return false;
}

static int failed(void)
{
	int error = nbd_get_errno();
	return error ? -error : -EIO;
}

static int refuse(const char *path)
{
	int error = failed();
	log_error("%s: %s", path, nbd_get_error());
	return error;
}

static void nbd_close_all(struct block *b)
{
	struct nbd *n = of(b);
	for (unsigned i = 0; i < n->connections; i++) {
		if (n->connection[i].handle)
			nbd_close(n->connection[i].handle);
		pthread_mutex_destroy(&n->connection[i].lock);
		free(n->connection[i].bounce);
	}
	free(n);
}

static int dial(struct nbd *n, const char *path)
{
	struct nbd_handle *h = nbd_create();
	pthread_mutex_init(&n->connection[n->connections].lock, NULL);
	n->connection[n->connections++].handle = h;
	/* A name from a file below another image is no leave to start programs, or to read files of the host. */
	if (!h || nbd_set_uri_allow_local_file(h, false) || nbd_connect_uri(h, path))
		return refuse(path);
	return 0;
}

static int nbd_open_uri(struct block **b, const char *path, unsigned flags)
{
	struct nbd *n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	int error = dial(n, path);
	struct nbd_handle *h = n->connection[0].handle;
	int64_t size = error ? 0 : nbd_get_size(h);
	if (!error && size <= 0) {
		log_error("%s cannot be an image: it is empty", path);
		error = -EINVAL;
	}
	if (!error && nbd_is_read_only(h) == 1 && !(flags & (BLOCK_READONLY | BLOCK_BACKING))) {
		log_error("%s: the server gives it to be read only; say ,readonly behind its name", path);
		error = -EROFS;
	}
	if (!error && nbd_can_multi_conn(h) == 1)
		while (n->connections < CONNECTIONS && !error)
			error = dial(n, path);
	if (error) {
		nbd_close_all(&n->block);
		return error;
	}
	n->flushes = nbd_can_flush(h) == 1;
	n->zeroes = nbd_can_zero(h) == 1;
	n->trims = nbd_can_trim(h) == 1;
	n->block.size = (uint64_t)size;
	n->block.readonly = flags & (BLOCK_READONLY | BLOCK_BACKING);
	*b = &n->block;
	return 0;
}

/* ---- Requests ----------------------------------------------------------------------------------------------------------- */

static unsigned take_connection(struct nbd *n)
{
	unsigned i = n->turn++ % n->connections;
	pthread_mutex_lock(&n->connection[i].lock);
	return i;
}

static void give_connection(struct nbd *n, unsigned i)
{
	pthread_mutex_unlock(&n->connection[i].lock);
}

static void gather(uint8_t *to, const struct iovec *iov, unsigned count, bool back)
{
	for (unsigned i = 0; i < count; to += iov[i++].iov_len)
		memcpy(back ? iov[i].iov_base : to, back ? to : iov[i].iov_base, iov[i].iov_len);
}

static int transfer_part(struct nbd *n, unsigned i, bool write, uint64_t offset, const struct iovec *iov, unsigned count, size_t size)
{
	struct nbd_handle *h = n->connection[i].handle;
	uint8_t *data = count == 1 ? iov[0].iov_base : NULL;
	if (!data && size > n->connection[i].room) {
		uint8_t *more = realloc(n->connection[i].bounce, size);
		if (!more)
			return -ENOMEM;
		n->connection[i].bounce = more;
		n->connection[i].room = size;
	}
	if (!data) {
		data = n->connection[i].bounce;
		if (write)
			gather(data, iov, count, false);
	}
	if (write ? nbd_pwrite(h, data, size, offset, 0) : nbd_pread(h, data, size, offset, 0))
		return failed();
	if (!write && count > 1)
		gather(data, iov, count, true);
	return 0;
}

static int transfer(struct block *b, bool write, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct nbd *n = of(b);
	uint64_t size = block_iov_size(iov, count);
	struct iovec *part = malloc((count + 1) * sizeof(*part));
	int error = part ? 0 : -ENOMEM;
	unsigned i = take_connection(n);
	for (uint64_t at = 0; at < size && !error;) {
		uint64_t here = MIN(size - at, TRANSFER_MAX);
		unsigned pieces = block_iov_part(part, iov, count, at, here);
		error = transfer_part(n, i, write, offset + at, part, pieces, here);
		at += here;
	}
	give_connection(n, i);
	free(part);
	return error;
}

static int nbd_block_read(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	return transfer(b, false, offset, iov, count);
}

static int nbd_block_write(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	return transfer(b, true, offset, iov, count);
}

static int nbd_block_flush(struct block *b)
{
	struct nbd *n = of(b);
	if (!n->flushes)
		return 0;
	unsigned i = take_connection(n);
	int error = nbd_flush(n->connection[i].handle, 0) ? failed() : 0;
	give_connection(n, i);
	return error;
}

static int nbd_block_zero(struct block *b, uint64_t offset, uint64_t length, bool unmap)
{
	struct nbd *n = of(b);
	if (!n->zeroes)
		return -EOPNOTSUPP;
	unsigned i = take_connection(n);
	int error = 0;
	for (uint64_t at = 0; at < length && !error; at += TRANSFER_MAX)
		if (nbd_zero(n->connection[i].handle, MIN(length - at, TRANSFER_MAX), offset + at, unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE))
			error = failed();
	give_connection(n, i);
	return error;
}

static int nbd_block_discard(struct block *b, uint64_t offset, uint64_t length)
{
	struct nbd *n = of(b);
	if (!n->trims)
		return 0;
	unsigned i = take_connection(n);
	int error = 0;
	for (uint64_t at = 0; at < length && !error; at += TRANSFER_MAX)
		if (nbd_trim(n->connection[i].handle, MIN(length - at, TRANSFER_MAX), offset + at, 0))
			error = failed();
	give_connection(n, i);
	return error;
}

static const struct block_format nbd_format = {
	.name = "nbd", .claims = nbd_claims, .open = nbd_open_uri, .close = nbd_close_all, .read = nbd_block_read, .write = nbd_block_write,
	.flush = nbd_block_flush, .zero = nbd_block_zero, .discard = nbd_block_discard,
};
BLOCK_FORMAT(nbd_format);
