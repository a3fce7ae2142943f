/* SPDX-License-Identifier: MIT */
/* Inside of the qcow2 format: QEMU's docs/interop/qcow2.txt, versions 2 and 3.
 *
 * What the guest's clusters are is found through two levels of tables, and each cluster of the file has a reference count. New data go to
 * new clusters; the tables that name them are changed in memory and reach the file in qcow2_flush_tables, in an order in which a power cut
 * leaves at worst clusters that nobody uses:
 *     data and counts that rise - barrier - second-level tables - barrier - first-level table - barrier - counts that fall
 * So a cluster that was given up is not used again before no table in the file names it.
 *
 * One lock guards all tables. A write that allocates holds it to its end; reads and writes of clusters that are there hold it only
 * while they look. */
#pragma once
#include <pthread.h>
#include "backend/block.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */
#define L2_COPIED BIT(63)       /* reference count is 1: may be written in place; in L1 entries too */
#define L2_COMPRESSED BIT(62)
#define L2_ZERO BIT(0)          /* version 3 */
#define L2_OFFSET 0x00fffffffffffe00ULL
#define QCOW2_BACKING_MAX 16    /* files on each other */

struct qcow2_table { /* a cluster of the file that is kept in memory */
	uint64_t offset;        /* 0: this place is free */
	uint64_t *entry;        /* as in the file: big-endian */
	bool dirty;
	uint64_t used;          /* when: larger is later */
};
struct qcow2_cache {
	struct qcow2_table *table;
	unsigned count;
	uint64_t clock;
};

struct qcow2_release { /* clusters that nobody uses once the tables are in the file */
	uint64_t cluster, count;
};

struct qcow2 {
	struct block block;
	struct block_file file;
	char *path;
	struct block *backing;
	unsigned version, cluster_bits, refcount_order;
	uint64_t cluster_size, l2_entries;
	uint64_t l1_offset, l1_size;   /* entries */
	uint64_t *l1;                  /* as in the file */
	bool l1_dirty;
	uint64_t counts_offset;        /* the table of reference count blocks */
	uint64_t counts_size;          /* entries */
	uint64_t *counts;              /* as in the file */
	uint64_t block_counts;         /* reference counts in one block */
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint8_t compression;           /* 0: deflate, 1: zstd */
	struct qcow2_cache l2, blocks;
	uint64_t free_hint;            /* no free cluster lies before this one */
	uint64_t file_end;             /* bytes; behind it the file was never written */
	struct qcow2_release *release;
	size_t releases, release_room;
	uint8_t *unpacked;             /* a cluster, from the compressed one of entry `unpacked_of` */
	uint64_t unpacked_of;
	uint8_t *scratch;              /* a cluster */
	bool broken;                   /* a table makes no sense: nothing is written any more */
	bool temporary;
	pthread_mutex_t lock;
};

static inline uint64_t be64(uint64_t value) { return __builtin_bswap64(value); }

/* qcow2_table.c -- With the lock held, as in all that follows. */
int qcow2_cache_init(struct qcow2 *, struct qcow2_cache *);
void qcow2_cache_fini(struct qcow2_cache *);
/* The table at this offset of the file, read if it is not in memory; fresh: it is new, and filled with zeros. */
int qcow2_table(struct qcow2 *, struct qcow2_cache *, uint64_t offset, bool fresh, struct qcow2_table **);
int qcow2_write_dirty(struct qcow2 *, struct qcow2_cache *);
/* The file says what cannot be: tells the user once, and -EIO. */
int qcow2_corrupt(struct qcow2 *, const char *what, uint64_t offset);

/* qcow2_count.c -- reference counts. */
int qcow2_count(struct qcow2 *, uint64_t cluster, uint64_t *count);
int qcow2_set_count(struct qcow2 *, uint64_t cluster, uint64_t count);
/* So many clusters in a row, with a count of 1. *fresh: they lie behind what was ever written, and read as zeros. */
int qcow2_allocate(struct qcow2 *, uint64_t count, uint64_t *offset, bool *fresh);
/* Once the tables are in the file: one reference less to each. */
int qcow2_release_later(struct qcow2 *, uint64_t offset, uint64_t bytes);
int qcow2_release_now(struct qcow2 *);
/* Counts all anew, after a machine that kept no counts was cut off. */
int qcow2_recount(struct qcow2 *);

/* qcow2_map.c -- The second-level table for a guest address, and the index in it; *table NULL: there is none. for_write: makes one, or copies
 * one that is shared. */
int qcow2_find(struct qcow2 *, uint64_t guest, bool for_write, struct qcow2_table **table, uint64_t *index);
void qcow2_set_entry(struct qcow2_table *, uint64_t index, uint64_t value);
/* All in order, see the top. */
int qcow2_flush_tables(struct qcow2 *);
/* Where a compressed cluster lies, and in how many bytes. */
void qcow2_compressed_place(const struct qcow2 *, uint64_t entry, uint64_t *offset, uint64_t *size);
/* The clusters that an entry names, given up. */
int qcow2_release_entry(struct qcow2 *, uint64_t entry);

/* qcow2_io.c -- for the format's table. */
int qcow2_read(struct block *, uint64_t offset, const struct iovec *, unsigned count);
int qcow2_write(struct block *, uint64_t offset, const struct iovec *, unsigned count);
int qcow2_zero(struct block *, uint64_t offset, uint64_t length, bool unmap);
int qcow2_discard(struct block *, uint64_t offset, uint64_t length);
int qcow2_flush(struct block *);

/* qcow2.c -- An image in a temporary file, on top of `backing`, which it takes over: what is written is gone at the end. 0 or -errno, after an
 * error. */
int qcow2_overlay(struct block **, struct block *backing);

struct qcow2_unpacker { /* of compressed clusters; one for each library that is there */
	uint8_t type;
	/* Exactly `out` bytes, or -EIO. */
	int (*unpack)(const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size);
};
SET_DECLARE(struct qcow2_unpacker, qcow2_unpackers);
#define QCOW2_UNPACKER(object) SET_ADD(struct qcow2_unpacker, qcow2_unpackers, object)
