/* SPDX-License-Identifier: MIT */
/* Inside of the 9P server: fids, and what reads and writes messages. */
#pragma once
#include "backend/ninep.h"

#define NINEP_STRING 4096
#define NINEP_WALK_MAX 16
#define NINEP_BUCKETS 256

struct ninep_reader {
	const uint8_t *at;
	size_t left;
	bool bad;                  /* a field was not there */
};
struct ninep_writer {
	uint8_t *data;
	size_t size, room;
	bool full;                 /* something did not fit */
};

struct ninep_node { /* a file, by a descriptor that only names it (O_PATH) */
	int fd;
	unsigned references;
	char *name;                /* in the parent; as it was last known */
	struct ninep_node *parent; /* NULL: the shared folder */
};
struct ninep_fid {
	struct ninep_fid *next;
	uint32_t id;
	struct ninep_node *node;
	int fd;                    /* opened; -1: not */
};

struct ninep_words {
	const char *tag;
	bool readonly;
	uint64_t slot;
};
struct ninep {
	struct ninep_words words;
	char *text;                /* what the words point into */
	struct ninep_node *root;
	uint32_t msize;
	struct ninep_fid *fids[NINEP_BUCKETS];
};

/* 0, or -errno for the client. */
typedef int ninep_handler(struct ninep *, struct ninep_reader *, struct ninep_writer *);

/* ninep.c */
uint64_t ninep_get(struct ninep_reader *, unsigned size);
const char *ninep_get_string(struct ninep_reader *, char text[NINEP_STRING]);
void ninep_put(struct ninep_writer *, unsigned size, uint64_t value);
void ninep_put_string(struct ninep_writer *, const char *);
struct ninep_fid *ninep_fid(struct ninep *, uint32_t id);
/* Takes over fd, whatever happens; holds the parent. NULL: out of memory. */
struct ninep_node *ninep_node_new(struct ninep_node *parent, const char *name, int fd);
void ninep_node_release(struct ninep_node *); /* NULL is fine */
/* May one more be opened? Who opens one for a fid counts it, and who closes it. */
bool ninep_descriptor_free(void);
void ninep_descriptors(int change);

/* ninep_file.c */
int ninep_probe(struct ninep_node *root); /* 0, or -errno: this host lacks something */
int ninep_lookup(struct ninep_node *, const char *name, struct ninep_node **);
int ninep_put_qid(struct ninep_writer *, int fd);
int ninep_remove_node(struct ninep *, struct ninep_node *);
ninep_handler ninep_statfs, ninep_lopen, ninep_lcreate, ninep_symlink, ninep_mknod, ninep_rename, ninep_readlink, ninep_getattr, ninep_setattr,
	ninep_readdir, ninep_fsync, ninep_lock, ninep_getlock, ninep_link, ninep_mkdir, ninep_renameat, ninep_unlinkat, ninep_read, ninep_write;
