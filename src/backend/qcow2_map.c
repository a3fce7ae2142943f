/* SPDX-License-Identifier: MIT */
/* qcow2: from a guest address to the entry that says where its cluster is. */
#include <errno.h>
#include <string.h>
#include "backend/qcow2.h"

#define SECTOR 512u

void qcow2_compressed_place(const struct qcow2 *q, uint64_t entry, uint64_t *offset, uint64_t *size)
{
	unsigned shift = 62 - (q->cluster_bits - 8);
	*offset = entry & (BIT(shift) - 1);
	*size = ((entry >> shift & (BIT(q->cluster_bits - 8) - 1)) + 1) * SECTOR - *offset % SECTOR;
}

int qcow2_release_entry(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & L2_OFFSET, size = q->cluster_size;
	if (entry & L2_COMPRESSED)
		qcow2_compressed_place(q, entry, &offset, &size);
	return offset ? qcow2_release_later(q, offset, size) : 0;
}

void qcow2_set_entry(struct qcow2_table *t, uint64_t index, uint64_t value)
{
	t->entry[index] = be64(value);
	t->dirty = true;
}

static void set_l1(struct qcow2 *q, uint64_t i, uint64_t offset)
{
	q->l1[i] = be64(offset | L2_COPIED);
	q->l1_dirty = true;
}

static int new_table(struct qcow2 *q, uint64_t i, struct qcow2_table **t)
{
	uint64_t offset;
	bool fresh;
	int error = qcow2_allocate(q, 1, &offset, &fresh);
	if (!error)
		error = qcow2_table(q, &q->l2, offset, true, t);
	if (!error)
		set_l1(q, i, offset);
	return error;
}

/* A snapshot has the table too: what it names stays counted, and is no longer to be written in place. */
static int copy_table(struct qcow2 *q, uint64_t i, uint64_t old, struct qcow2_table **t)
{
	uint64_t offset;
	bool fresh;
	int error = qcow2_allocate(q, 1, &offset, &fresh);
	if (!error)
		error = qcow2_table(q, &q->l2, old, false, t);
	if (error)
		return error;
	memcpy(q->scratch, (*t)->entry, q->cluster_size);
	error = qcow2_table(q, &q->l2, offset, true, t);
	if (error)
		return error;
	memcpy((*t)->entry, q->scratch, q->cluster_size);
	set_l1(q, i, offset);
	return qcow2_release_later(q, old, q->cluster_size);
}

int qcow2_find(struct qcow2 *q, uint64_t guest, bool for_write, struct qcow2_table **t, uint64_t *index)
{
	uint64_t cluster = guest >> q->cluster_bits, i = cluster / q->l2_entries;
	*t = NULL;
	*index = cluster % q->l2_entries;
	if (i >= q->l1_size)
		return for_write ? -ENOSPC : 0;
	uint64_t entry = be64(q->l1[i]), offset = entry & L2_OFFSET;
	if (offset % q->cluster_size)
		return qcow2_corrupt(q, "a table at an odd place", offset);
	if (!offset)
		return for_write ? new_table(q, i, t) : 0;
	if (for_write && !(entry & L2_COPIED))
		return copy_table(q, i, offset, t);
	return qcow2_table(q, &q->l2, offset, false, t);
}

/* See the top of qcow2.h. Where nothing depends on what goes before, there is no barrier. */
int qcow2_flush_tables(struct qcow2 *q)
{
	bool tables = q->l1_dirty || q->releases;
	int error = qcow2_write_dirty(q, &q->blocks);
	for (unsigned i = 0; i < q->l2.count; i++)
		tables |= q->l2.table[i].offset && q->l2.table[i].dirty;
	if (error || !tables)
		return error;
	if (!q->temporary)
		error = block_file_flush(&q->file);
	if (!error)
		error = qcow2_write_dirty(q, &q->l2);
	if (!error && q->l1_dirty && !q->temporary)
		error = block_file_flush(&q->file);
	if (!error && q->l1_dirty)
		error = block_file_write_bytes(&q->file, q->l1_offset, q->l1, q->l1_size * sizeof(uint64_t));
	if (error)
		return error;
	q->l1_dirty = false;
	if (!q->releases)
		return 0;
	if (!q->temporary)
		error = block_file_flush(&q->file);
	return error ? error : qcow2_release_now(q);
}
