/* SPDX-License-Identifier: MIT */
/* Inside of the 9P server: fids, and what reads and writes messages. */
#pragma once
#include <sys/stat.h>
#include "backend/ninep.h"

#define NINEP_STRING 4096
#define NINEP_WALK_MAX 16
#define NINEP_BUCKETS 256
#define NINEP_PROC_PATH 32
#define NINEP_OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC | O_DIRECTORY) /* of what a client may ask */
enum ninep_qid { NINEP_QID_DIR = 0x80, NINEP_QID_LINK = 0x02 };

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

/* ninep_name.c */
int ninep_probe(struct ninep_node *root); /* 0, or -errno: this host lacks something */
int ninep_lookup(struct ninep_node *, const char *name, struct ninep_node **);
/* A descriptor or -errno. The name is one component; no symbolic link is followed. */
int ninep_open_beneath(int folder, const char *name, int flags, mode_t mode);
/* What a descriptor names, opened: files and folders only. What else there is the guest opens in its own kernel. */
int ninep_open_node(const struct ninep_node *, int flags);
/* The path by which the host's calls reach what a descriptor names, in text. */
const char *ninep_proc_path(char text[NINEP_PROC_PATH], int fd);
int ninep_type(int fd, mode_t *mode);
void ninep_put_status_qid(struct ninep_writer *, const struct stat *);
int ninep_put_qid(struct ninep_writer *, int fd);
/* A name for a new entry, or for one that goes. */
bool ninep_get_name(struct ninep_reader *, char name[NINEP_STRING]);
/* Of what a client wants. No file of the host gets more rights through its owner than the guest has. */
mode_t ninep_permissions(uint64_t mode, bool folder);
static inline struct ninep_fid *ninep_get_fid(struct ninep *p, struct ninep_reader *r)
{
	return ninep_fid(p, (uint32_t)ninep_get(r, 4));
}

/* ninep_file.c: read, open, lock */
ninep_handler ninep_statfs, ninep_lopen, ninep_readlink, ninep_getattr, ninep_read, ninep_readdir, ninep_fsync, ninep_lock, ninep_getlock;

/* ninep_change.c: write, create, name, remove */
int ninep_remove_node(struct ninep *, struct ninep_node *);
ninep_handler ninep_write, ninep_lcreate, ninep_symlink, ninep_mknod, ninep_mkdir, ninep_link, ninep_rename, ninep_renameat, ninep_unlinkat,
	ninep_setattr;
