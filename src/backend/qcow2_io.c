/* SPDX-License-Identifier: MIT */
/* qcow2: reads and writes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backend/qcow2.h"
#include "util/log.h"

enum kind { KIND_ABSENT, KIND_ZERO, KIND_DATA, KIND_COMPRESSED };

struct run { /* of clusters that are alike, and follow each other in the file too */
	enum kind kind;
	uint64_t entry;      /* of the first */
	uint64_t host;       /* KIND_DATA: where the first byte is */
	uint64_t size;       /* bytes from the guest's offset on */
	bool in_place;       /* all may be written where they are */
};

static struct qcow2 *of(struct block *b)
{
	return container_of(b, struct qcow2, block);
}

static enum kind kind_of(const struct qcow2 *q, uint64_t entry)
{
	if (entry & L2_COMPRESSED)
		return KIND_COMPRESSED;
	if (q->version >= 3 && (entry & L2_ZERO))
		return KIND_ZERO;
	return entry & L2_OFFSET ? KIND_DATA : KIND_ABSENT;
}

/* Is it a place where data may be? Not over the header and the tables that are always there. */
static bool place_for_data(const struct qcow2 *q, uint64_t offset)
{
	uint64_t end = offset + q->cluster_size;
	bool on_l1 = offset < q->l1_offset + q->l1_size * sizeof(uint64_t) && end > q->l1_offset;
	bool on_counts = offset < q->counts_offset + q->counts_size * sizeof(uint64_t) && end > q->counts_offset;
	return offset >= q->cluster_size && !(offset % q->cluster_size) && !on_l1 && !on_counts;
}

/* With the lock held. What stands at this offset, and how far it goes on like that, up to `size` bytes. */
static int look(struct qcow2 *q, uint64_t offset, uint64_t size, struct run *r)
{
	struct qcow2_table *t;
	uint64_t index, within = offset % q->cluster_size;
	int error = qcow2_find(q, offset, false, &t, &index);
	if (error)
		return error;
	uint64_t most = MIN(size, (q->l2_entries - index) * q->cluster_size - within);
	if (!t) {
		*r = (struct run){ .kind = KIND_ABSENT, .size = most };
		return 0;
	}
	uint64_t first = be64(t->entry[index]), host = first & L2_OFFSET;
	*r = (struct run){ .kind = kind_of(q, first), .entry = first, .host = host + within, .size = q->cluster_size - within,
		.in_place = first & L2_COPIED };
	if (r->kind == KIND_DATA && !place_for_data(q, host))
		return qcow2_corrupt(q, "data at an impossible place", host);
	while (r->kind != KIND_COMPRESSED && r->size < most) {
		uint64_t entry = be64(t->entry[++index]);
		host += q->cluster_size;
		if (kind_of(q, entry) != r->kind || !(entry & L2_COPIED) != !r->in_place)
			break;
		if (r->kind == KIND_DATA && ((entry & L2_OFFSET) != host || !place_for_data(q, host)))
			break;
		r->size += q->cluster_size;
	}
	r->size = MIN(r->size, most);
	return 0;
}

static const struct qcow2_unpacker *unpacker(uint8_t type)
{
	SET_FOREACH(struct qcow2_unpacker, u, qcow2_unpackers)
		if (u->type == type)
			return u;
	return NULL;
}

/* Not the image's fault: it is told once, and stays as it is. */
static int no_unpacker(struct qcow2 *q)
{
	if (!q->broken)
		log_error("%s has compressed clusters, and this doppel was built without %s", q->path, q->compression ? "libzstd" : "zlib");
	q->broken = true;
	return -ENOTSUP;
}

/* With the lock held: the cluster of a compressed entry is in q->unpacked. */
static int unpack(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset, size;
	qcow2_compressed_place(q, entry, &offset, &size);
	if (q->unpacked_of == entry)
		return 0;
	const struct qcow2_unpacker *u = unpacker(q->compression);
	if (!u)
		return no_unpacker(q);
	q->unpacked_of = 0;
	uint8_t *packed = malloc(size);
	if (!packed)
		return -ENOMEM;
	int error = block_file_read_bytes(&q->file, offset, packed, size);
	if (!error) {
		error = u->unpack(packed, size, q->unpacked, q->cluster_size);
		if (error)
			error = qcow2_corrupt(q, "a compressed cluster cannot be unpacked", offset);
	}
	free(packed);
	if (!error)
		q->unpacked_of = entry;
	return error;
}

static void clear(const struct iovec *iov, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

static void scatter(const struct iovec *iov, unsigned count, const uint8_t *from)
{
	for (unsigned i = 0; i < count; from += iov[i++].iov_len)
		memcpy(iov[i].iov_base, from, iov[i].iov_len);
}

static void gather(const struct iovec *iov, unsigned count, uint8_t *to)
{
	for (unsigned i = 0; i < count; to += iov[i++].iov_len)
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
}

/* What an image without a cluster shows: what is below, and zeros behind its end. */
static int read_below(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned count, uint64_t size)
{
	uint64_t there = q->backing && offset < q->backing->size ? MIN(size, q->backing->size - offset) : 0;
	struct iovec part[count];
	int error = 0;
	if (there) {
		unsigned n = block_iov_part(part, iov, count, 0, there);
		error = q->backing->format->read(q->backing, offset, part, n);
	}
	clear(part, block_iov_part(part, iov, count, there, size - there));
	return error;
}

int qcow2_read(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct qcow2 *q = of(b);
	uint64_t size = block_iov_size(iov, count);
	struct iovec *part = malloc((count + 1) * sizeof(*part));
	int error = part ? 0 : -ENOMEM;
	for (uint64_t at = 0; at < size && !error;) {
		struct run r;
		unsigned n = 0;
		pthread_mutex_lock(&q->lock);
		error = look(q, offset + at, size - at, &r);
		if (!error)
			n = block_iov_part(part, iov, count, at, r.size);
		if (!error && r.kind == KIND_COMPRESSED) {
			error = unpack(q, r.entry);
			if (!error)
				scatter(part, n, q->unpacked + (offset + at) % q->cluster_size);
		}
		pthread_mutex_unlock(&q->lock);
		if (!error && r.kind == KIND_DATA)
			error = block_file_read(&q->file, r.host, part, n);
		else if (!error && r.kind == KIND_ABSENT)
			error = read_below(q, offset + at, part, n, r.size);
		else if (!error && r.kind == KIND_ZERO)
			clear(part, n);
		at += error ? 0 : r.size;
	}
	free(part);
	return error;
}

/* ---- Writing ------------------------------------------------------------------------------------------------------------ */

/* With the lock held: what the whole cluster holds now, into `to`. */
static int old_contents(struct qcow2 *q, uint64_t guest, const struct run *r, uint8_t *to)
{
	struct iovec iov = { to, q->cluster_size };
	int error = 0;
	switch (r->kind) {
	case KIND_ABSENT:
		return read_below(q, guest, &iov, 1, q->cluster_size);
	case KIND_ZERO:
		memset(to, 0, q->cluster_size);
		return 0;
	case KIND_DATA:
		return block_file_read(&q->file, r->entry & L2_OFFSET, &iov, 1);
	case KIND_COMPRESSED:
		error = unpack(q, r->entry);
		if (!error)
			memcpy(to, q->unpacked, q->cluster_size);
		return error;
	}
	return -EIO;
}

/* How many whole clusters from here on have to be allocated, in this table: they are taken in a row. Not so many that the blocks of
 * counts, which lie between, leave no such row. */
static uint64_t whole_clusters(struct qcow2 *q, const struct qcow2_table *t, uint64_t index, uint64_t size)
{
	uint64_t n = 0, most = MIN(q->block_counts / 2, 64UL);
	while ((n + 1) * q->cluster_size <= size && index + n < q->l2_entries && n < most) {
		uint64_t entry = be64(t->entry[index + n]);
		if (kind_of(q, entry) == KIND_DATA && (entry & L2_COPIED))
			break;
		n++;
	}
	return n;
}

/* With the lock held: a write to where nothing may be written in place. *done: how many bytes. */
static int write_new(struct qcow2 *q, uint64_t offset, const struct iovec *iov, unsigned count, uint64_t size, const struct run *r,
		     uint64_t *done)
{
	struct qcow2_table *t;
	uint64_t index, host, within = offset % q->cluster_size, clusters = 1;
	bool fresh;
	int error = qcow2_find(q, offset, true, &t, &index);
	if (error)
		return error;
	bool whole = !within && size >= q->cluster_size;
	if (whole)
		clusters = whole_clusters(q, t, index, size);
	error = qcow2_allocate(q, clusters, &host, &fresh);
	if (error)
		return error;
	*done = whole ? clusters * q->cluster_size : MIN(size, q->cluster_size - within);
	struct iovec part[count];
	unsigned n = block_iov_part(part, iov, count, 0, *done);
	bool zeros_around = r->kind == KIND_ZERO || (r->kind == KIND_ABSENT && (!q->backing || offset - within >= q->backing->size));
	if (whole || (fresh && zeros_around)) {
		error = block_file_write(&q->file, host + within, part, n);
	} else {
		error = old_contents(q, offset - within, r, q->scratch);
		gather(part, n, q->scratch + within);
		if (!error)
			error = block_file_write_bytes(&q->file, host, q->scratch, q->cluster_size);
	}
	/* The table may have left memory meanwhile. */
	if (!error)
		error = qcow2_find(q, offset, true, &t, &index);
	if (error) {
		qcow2_release_later(q, host, clusters * q->cluster_size);
		return error;
	}
	for (uint64_t i = 0; i < clusters; i++) {
		uint64_t old = be64(t->entry[index + i]);
		qcow2_set_entry(t, index + i, (host + i * q->cluster_size) | L2_COPIED);
		qcow2_release_entry(q, old);
	}
	return 0;
}

int qcow2_write(struct block *b, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct qcow2 *q = of(b);
	uint64_t size = block_iov_size(iov, count);
	struct iovec *part = malloc((count + 1) * sizeof(*part));
	int error = part ? 0 : -ENOMEM;
	for (uint64_t at = 0; at < size && !error;) {
		struct run r;
		uint64_t done = 0;
		pthread_mutex_lock(&q->lock);
		error = q->broken ? -EIO : q->block.readonly ? -EROFS : look(q, offset + at, size - at, &r);
		bool in_place = !error && r.kind == KIND_DATA && r.in_place;
		if (!error && !in_place) {
			unsigned n = block_iov_part(part, iov, count, at, size - at);
			error = write_new(q, offset + at, part, n, size - at, &r, &done);
		}
		pthread_mutex_unlock(&q->lock);
		if (in_place) {
			unsigned n = block_iov_part(part, iov, count, at, r.size);
			error = block_file_write(&q->file, r.host, part, n);
			done = r.size;
		}
		at += done;
	}
	free(part);
	return error;
}

/* Whole clusters get the entry `value`; the rest is left. */
static int clear_clusters(struct qcow2 *q, uint64_t offset, uint64_t length, bool keep_absent)
{
	uint64_t end = (offset + length) & ~(q->cluster_size - 1);
	int error = 0;
	for (uint64_t at = align_up(offset, q->cluster_size); at < end && !error; at += q->cluster_size) {
		struct qcow2_table *t;
		uint64_t index;
		error = qcow2_find(q, at, false, &t, &index);
		uint64_t old = t && !error ? be64(t->entry[index]) : 0;
		bool below = q->backing && at < q->backing->size;
		if (error || (!old && (keep_absent || !below)))
			continue;
		error = qcow2_find(q, at, true, &t, &index);
		if (!error)
			qcow2_set_entry(t, index, below ? L2_ZERO : 0);
		if (!error)
			error = qcow2_release_entry(q, old);
	}
	return error;
}

static int write_zeros(struct block *b, uint64_t offset, uint64_t length)
{
	struct iovec iov = { calloc(1, length), length };
	int error = !length ? 0 : iov.iov_base ? qcow2_write(b, offset, &iov, 1) : -ENOMEM;
	free(iov.iov_base);
	return error;
}

static bool clears(const struct qcow2 *q)
{
	return q->version >= 3 || !q->backing; /* only these can hide what is below without a cluster */
}

int qcow2_zero(struct block *b, uint64_t offset, uint64_t length, bool unmap)
{
	struct qcow2 *q = of(b);
	uint64_t end = offset + length, first = MIN(align_up(offset, q->cluster_size), end);
	uint64_t last = MAX(end & ~(q->cluster_size - 1), first);
	if (!clears(q))
		return -EOPNOTSUPP;
	int error = write_zeros(b, offset, first - offset);
	if (!error)
		error = write_zeros(b, last, end - last);
	if (error)
		return error;
	pthread_mutex_lock(&q->lock);
	error = q->broken ? -EIO : clear_clusters(q, first, last - first, false);
	pthread_mutex_unlock(&q->lock);
	return error;
}

int qcow2_discard(struct block *b, uint64_t offset, uint64_t length)
{
	struct qcow2 *q = of(b);
	if (!clears(q))
		return 0;
	pthread_mutex_lock(&q->lock);
	int error = q->broken ? -EIO : clear_clusters(q, offset, length, true);
	pthread_mutex_unlock(&q->lock);
	return error;
}

int qcow2_flush(struct block *b)
{
	struct qcow2 *q = of(b);
	if (q->block.readonly)
		return 0;
	pthread_mutex_lock(&q->lock);
	int error = q->broken ? -EIO : qcow2_flush_tables(q);
	pthread_mutex_unlock(&q->lock);
	return error || q->temporary ? error : block_file_flush(&q->file);
}
