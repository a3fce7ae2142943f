/* SPDX-License-Identifier: MIT */
/* qcow2: reference counts, and with them which clusters are free. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/qcow2.h"
#include "util/log.h"

#define RELEASES_START 64
#define FILE_MOST BIT(56)       /* what an entry can name */
#define COUNTS_OFFSET (~511ULL)

static uint64_t clusters_in(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes + q->cluster_size - 1) >> q->cluster_bits;
}

/* ---- One count ---------------------------------------------------------------------------------------------------------- */

static uint64_t get_in_block(const struct qcow2 *q, const struct qcow2_table *t, uint64_t i)
{
	const uint8_t *bytes = (const uint8_t *)t->entry;
	unsigned bits = 1u << q->refcount_order;
	uint64_t value = 0;
	if (bits < 8)
		return bytes[i * bits / 8] >> i * bits % 8 & ((1u << bits) - 1);
	for (unsigned b = 0; b < bits / 8; b++)
		value = value << 8 | bytes[i * (bits / 8) + b];
	return value;
}

static void set_in_block(const struct qcow2 *q, struct qcow2_table *t, uint64_t i, uint64_t value)
{
	uint8_t *bytes = (uint8_t *)t->entry;
	unsigned bits = 1u << q->refcount_order;
	if (bits < 8) {
		unsigned shift = (unsigned)(i * bits % 8), mask = (1u << bits) - 1;
		uint8_t *byte = &bytes[i * bits / 8];
		*byte = (uint8_t)((*byte & ~(mask << shift)) | value << shift);
		return;
	}
	for (unsigned b = bits / 8; b--; value >>= 8)
		bytes[i * (bits / 8) + b] = (uint8_t)value;
}

static uint64_t count_limit(const struct qcow2 *q)
{
	return q->refcount_order == 6 ? UINT64_MAX : BIT(1u << q->refcount_order) - 1;
}

/* The block with a cluster's count; *t NULL: there is none, all its counts are 0. */
static int find_block(struct qcow2 *q, uint64_t cluster, struct qcow2_table **t)
{
	uint64_t index = cluster / q->block_counts;
	*t = NULL;
	uint64_t offset = index < q->counts_size ? be64(q->counts[index]) & COUNTS_OFFSET : 0;
	if (!offset)
		return 0;
	if (offset % q->cluster_size)
		return qcow2_corrupt(q, "a block of reference counts at an odd place", offset);
	return qcow2_table(q, &q->blocks, offset, false, t);
}

int qcow2_count(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
	struct qcow2_table *t;
	int error = find_block(q, cluster, &t);
	*count = !error && t ? get_in_block(q, t, cluster % q->block_counts) : 0;
	return error;
}

/* ---- The table of blocks ------------------------------------------------------------------------------------------------ */

static int write_counts_entry(struct qcow2 *q, uint64_t index)
{
	return block_file_write_bytes(&q->file, q->counts_offset + index * sizeof(uint64_t), &q->counts[index], sizeof(uint64_t));
}

/* A place in the header: where the table is, and its size in clusters. */
static int write_counts_place(struct qcow2 *q, uint64_t offset, uint32_t clusters)
{
	struct {
		uint64_t offset;
		uint32_t clusters;
	} __attribute__((packed)) place = { be64(offset), __builtin_bswap32(clusters) };
	return block_file_write_bytes(&q->file, 48, &place, sizeof(place));
}

/* A block of counts where there was none: it takes the cluster `cluster`, one of those it counts, which is free. In the file before the
 * table names it. */
static int new_block(struct qcow2 *q, uint64_t cluster)
{
	struct qcow2_table *t;
	uint64_t offset = cluster << q->cluster_bits, index = cluster / q->block_counts;
	int error = qcow2_table(q, &q->blocks, offset, true, &t);
	if (error)
		return error;
	set_in_block(q, t, cluster % q->block_counts, 1);
	q->file_end = MAX(q->file_end, offset + q->cluster_size);
	error = block_file_write_bytes(&q->file, offset, t->entry, q->cluster_size);
	if (!error)
		error = block_file_flush(&q->file);
	if (error) {
		t->offset = 0;
		return error;
	}
	t->dirty = false;
	q->counts[index] = be64(offset);
	return write_counts_entry(q, index);
}

/* Twice the size, in new clusters behind everything. The old one is given up. The entries of the new one cover themselves. */
static int grow_table(struct qcow2 *q, uint64_t wanted)
{
	uint64_t old_offset = q->counts_offset, old_size = q->counts_size, at = clusters_in(q, q->file_end);
	uint64_t clusters = clusters_in(q, MAX(old_size * 2, wanted + 1) * sizeof(uint64_t)), size;
	size = clusters * q->cluster_size / sizeof(uint64_t);
	/* Behind the table come the blocks that count it and them. */
	uint64_t first_block = at + clusters, blocks = (clusters + q->block_counts) / q->block_counts + 2;
	if ((at + clusters + blocks) / q->block_counts >= size)
		return -EFBIG;
	uint64_t *bigger = calloc(size, sizeof(*bigger));
	if (!bigger)
		return -ENOMEM;
	memcpy(bigger, q->counts, old_size * sizeof(*bigger));
	free(q->counts);
	q->counts = bigger;
	q->counts_size = size;
	int error = 0;
	uint64_t next = first_block;
	for (uint64_t c = at; c < next && !error; c++) {
		struct qcow2_table *t;
		error = find_block(q, c, &t);
		if (!error && !t) { /* as new_block, but the place may be counted by another one */
			uint64_t offset = next++ << q->cluster_bits;
			error = qcow2_table(q, &q->blocks, offset, true, &t);
			if (!error)
				q->counts[c / q->block_counts] = be64(offset);
		}
		if (!error) {
			set_in_block(q, t, c % q->block_counts, 1);
			t->dirty = true;
		}
	}
	q->file_end = next << q->cluster_bits;
	if (!error)
		error = qcow2_write_dirty(q, &q->blocks);
	if (!error)
		error = block_file_write_bytes(&q->file, at << q->cluster_bits, q->counts, size * sizeof(uint64_t));
	if (!error)
		error = block_file_flush(&q->file);
	if (!error)
		error = write_counts_place(q, at << q->cluster_bits, (uint32_t)clusters);
	if (!error)
		error = block_file_flush(&q->file);
	if (error)
		return qcow2_corrupt(q, "its table of reference counts could not be moved", old_offset);
	q->counts_offset = at << q->cluster_bits;
	return qcow2_release_later(q, old_offset, old_size * sizeof(uint64_t));
}

int qcow2_set_count(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	struct qcow2_table *t;
	int error = 0;
	if (count > count_limit(q))
		return -E2BIG;
	if (cluster / q->block_counts >= q->counts_size)
		error = grow_table(q, cluster / q->block_counts);
	if (!error)
		error = find_block(q, cluster, &t);
	if (error)
		return error;
	if (!t)
		return count ? qcow2_corrupt(q, "a cluster has no reference count", cluster << q->cluster_bits) : 0;
	set_in_block(q, t, cluster % q->block_counts, count);
	t->dirty = true;
	if (!count)
		q->free_hint = MIN(q->free_hint, cluster);
	return 0;
}

/* ---- Allocation --------------------------------------------------------------------------------------------------------- */

/* Is it free? Makes the block that counts it, if need be, which may take it. */
static int try_cluster(struct qcow2 *q, uint64_t cluster, bool *is_free)
{
	struct qcow2_table *t;
	*is_free = false;
	if (cluster >= FILE_MOST >> q->cluster_bits)
		return -EFBIG;
	if (cluster / q->block_counts >= q->counts_size) {
		int error = grow_table(q, cluster / q->block_counts);
		if (error)
			return error;
	}
	int error = find_block(q, cluster, &t);
	if (!error && !t)
		error = new_block(q, cluster);
	else if (!error)
		*is_free = !get_in_block(q, t, cluster % q->block_counts);
	return error;
}

static int extend_file(struct qcow2 *q, uint64_t end)
{
	if (end <= q->file_end)
		return 0;
	while (ftruncate(q->file.fd, (off_t)end))
		if (errno != EINTR)
			return -errno;
	q->file_end = end;
	return 0;
}

int qcow2_allocate(struct qcow2 *q, uint64_t count, uint64_t *offset, bool *fresh)
{
	uint64_t first = q->free_hint, found = 0;
	int error = 0;
	while (found < count && !error) {
		bool is_free;
		error = try_cluster(q, first + found, &is_free);
		if (is_free) {
			found++;
			continue;
		}
		first += found + 1;
		found = 0;
	}
	if (!error) {
		*fresh = first << q->cluster_bits >= q->file_end;
		error = extend_file(q, (first + count) << q->cluster_bits);
	}
	for (uint64_t i = 0; i < count && !error; i++)
		error = qcow2_set_count(q, first + i, 1);
	if (error)
		return error;
	if (count == 1 || first == q->free_hint)
		q->free_hint = first + count;
	*offset = first << q->cluster_bits;
	return 0;
}

int qcow2_release_later(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset >> q->cluster_bits, last = (offset + bytes - 1) >> q->cluster_bits;
	struct qcow2_release *r = q->releases ? &q->release[q->releases - 1] : NULL;
	if (r && r->cluster + r->count == first) {
		r->count += last - first + 1;
		return 0;
	}
	if (q->releases == q->release_room) {
		size_t room = MAX(2 * q->release_room, (size_t)RELEASES_START);
		r = realloc(q->release, room * sizeof(*r));
		if (!r)
			return -ENOMEM; /* the clusters are lost, no more */
		q->release = r;
		q->release_room = room;
	}
	q->release[q->releases++] = (struct qcow2_release){ first, last - first + 1 };
	return 0;
}

int qcow2_release_now(struct qcow2 *q)
{
	int error = 0;
	size_t count = q->releases;
	q->releases = 0; /* nothing below adds one */
	for (size_t i = 0; i < count && !error; i++) {
		struct qcow2_release r = q->release[i];
		for (uint64_t c = r.cluster; c < r.cluster + r.count && !error; c++) {
			uint64_t old;
			error = qcow2_count(q, c, &old);
			if (!error && !old)
				error = qcow2_corrupt(q, "a cluster in use has no reference", c << q->cluster_bits);
			if (!error)
				error = qcow2_set_count(q, c, old - 1);
			if (!error && old == 1)
				block_file_discard(&q->file, c << q->cluster_bits, q->cluster_size);
		}
	}
	return error;
}

/* ---- Counting anew ------------------------------------------------------------------------------------------------------ */

struct recount {
	struct qcow2 *q;
	uint64_t *count;
	uint64_t clusters;
};

static int refer(struct recount *r, uint64_t offset, uint64_t bytes)
{
	uint64_t first = offset >> r->q->cluster_bits, last = (offset + bytes - 1) >> r->q->cluster_bits;
	if (!bytes)
		return 0;
	if (last >= r->clusters)
		return qcow2_corrupt(r->q, "a reference behind the end of the file", offset);
	for (uint64_t c = first; c <= last; c++)
		r->count[c]++;
	return 0;
}

static int refer_l1(struct recount *r, const uint64_t *l1, uint64_t size)
{
	struct qcow2 *q = r->q;
	int error = 0;
	for (uint64_t i = 0; i < size && !error; i++) {
		struct qcow2_table *t;
		uint64_t offset = be64(l1[i]) & L2_OFFSET, at, bytes;
		if (!offset)
			continue;
		if (offset % q->cluster_size)
			return qcow2_corrupt(q, "a table at an odd place", offset);
		error = refer(r, offset, q->cluster_size);
		if (!error)
			error = qcow2_table(q, &q->l2, offset, false, &t);
		for (uint64_t e = 0; e < q->l2_entries && !error; e++) {
			uint64_t entry = be64(t->entry[e]);
			if (entry & L2_COMPRESSED) {
				qcow2_compressed_place(q, entry, &at, &bytes);
				error = refer(r, at, bytes);
			} else if (entry & L2_OFFSET) {
				error = refer(r, entry & L2_OFFSET, q->cluster_size);
			}
		}
	}
	return error;
}

static int set_counts(struct recount *r)
{
	struct qcow2 *q = r->q;
	int error = 0;
	for (uint64_t c = 0; c < r->clusters && !error; c++) {
		struct qcow2_table *t;
		if (c / q->block_counts >= q->counts_size)
			return r->count[c] ? -EFBIG : 0;
		error = find_block(q, c, &t);
		if (!error && !t && r->count[c]) { /* at the end of the file, where the next call counts it */
			bool fresh;
			uint64_t place = r->clusters + c / q->block_counts;
			error = qcow2_table(q, &q->blocks, place << q->cluster_bits, true, &t);
			fresh = !error;
			if (fresh) {
				q->counts[c / q->block_counts] = be64(place << q->cluster_bits);
				error = write_counts_entry(q, c / q->block_counts);
				q->file_end = MAX(q->file_end, (place + 1) << q->cluster_bits);
			}
		}
		if (!error && t) {
			set_in_block(q, t, c % q->block_counts, MIN(r->count[c], count_limit(q)));
			t->dirty = true;
		}
	}
	return error ? error : qcow2_write_dirty(q, &q->blocks);
}

static int recount_once(struct qcow2 *q)
{
	struct recount r = { q, NULL, clusters_in(q, q->file_end) };
	r.count = calloc(r.clusters, sizeof(r.count[0]));
	if (!r.count)
		return -ENOMEM;
	int error = refer(&r, 0, q->cluster_size);
	if (!error)
		error = refer(&r, q->l1_offset, q->l1_size * sizeof(uint64_t));
	if (!error)
		error = refer(&r, q->counts_offset, q->counts_size * sizeof(uint64_t));
	for (uint64_t i = 0; i < q->counts_size && !error; i++)
		if (be64(q->counts[i]) & COUNTS_OFFSET)
			error = refer(&r, be64(q->counts[i]) & COUNTS_OFFSET, q->cluster_size);
	if (!error)
		error = refer_l1(&r, q->l1, q->l1_size);
	if (!error)
		error = set_counts(&r);
	free(r.count);
	return error;
}

int qcow2_recount(struct qcow2 *q)
{
	if (q->snapshots) {
		log_error("%s was not closed, and has snapshots: repair it with \"qemu-img check -r all\"", q->path);
		return -EIO;
	}
	uint64_t before;
	int error;
	do { /* blocks that had to be added are counted next time */
		before = q->file_end;
		error = recount_once(q);
	} while (!error && q->file_end != before);
	return error ? error : block_file_flush(&q->file);
}
