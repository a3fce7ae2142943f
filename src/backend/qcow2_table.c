/* SPDX-License-Identifier: MIT */
/* qcow2: tables of the file that are kept in memory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backend/qcow2.h"
#include "util/log.h"

#define CACHE_BYTES (8 * MiB)
#define CACHE_LEAST 8

int qcow2_cache_init(struct qcow2 *q, struct qcow2_cache *c)
{
	c->count = (unsigned)MAX(CACHE_BYTES / q->cluster_size, (uint64_t)CACHE_LEAST);
	c->count = MIN(c->count, 256u);
	c->table = calloc(c->count, sizeof(c->table[0]));
	return c->table ? 0 : -ENOMEM;
}

void qcow2_cache_fini(struct qcow2_cache *c)
{
	for (unsigned i = 0; c->table && i < c->count; i++)
		free(c->table[i].entry);
	free(c->table);
}

int qcow2_corrupt(struct qcow2 *q, const char *what, uint64_t offset)
{
	if (!q->broken)
		log_error("%s is damaged: %s (%#lx); it is not written any more. \"qemu-img check -r all\" may repair it", q->path, what, offset);
	q->broken = true;
	return -EIO;
}

static int write_table(struct qcow2 *q, struct qcow2_table *t)
{
	int error = block_file_write_bytes(&q->file, t->offset, t->entry, q->cluster_size);
	if (!error)
		t->dirty = false;
	return error;
}

int qcow2_write_dirty(struct qcow2 *q, struct qcow2_cache *c)
{
	int error = 0;
	for (unsigned i = 0; i < c->count && !error; i++)
		if (c->table[i].offset && c->table[i].dirty)
			error = write_table(q, &c->table[i]);
	return error;
}

/* The place of the table that was not used for longest; clean ones first, since a dirty one has all tables written. */
static struct qcow2_table *oldest(struct qcow2_cache *c)
{
	struct qcow2_table *best = NULL;
	for (unsigned i = 0; i < c->count; i++) {
		struct qcow2_table *t = &c->table[i];
		if (!t->offset)
			return t;
		if (!best || t->dirty < best->dirty || (t->dirty == best->dirty && t->used < best->used))
			best = t;
	}
	return best;
}

int qcow2_table(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, bool fresh, struct qcow2_table **result)
{
	struct qcow2_table *t = NULL;
	for (unsigned i = 0; i < c->count && !t; i++)
		if (c->table[i].offset == offset)
			t = &c->table[i];
	if (!t || fresh) {
		int error = 0;
		t = t ? t : oldest(c);
		if (t->offset != offset && t->offset && t->dirty)
			error = qcow2_flush_tables(q);
		if (!error && t->offset != offset && t->dirty) /* a count block, made dirty by what was released meanwhile */
			error = write_table(q, t);
		if (!error && !t->entry && !(t->entry = malloc(q->cluster_size)))
			error = -ENOMEM;
		if (error)
			return error;
		t->offset = 0;
		if (fresh)
			memset(t->entry, 0, q->cluster_size);
		else
			error = block_file_read_bytes(&q->file, offset, t->entry, q->cluster_size);
		if (error)
			return error;
		t->offset = offset;
		t->dirty = fresh;
	}
	t->used = ++c->clock;
	*result = t;
	return 0;
}
