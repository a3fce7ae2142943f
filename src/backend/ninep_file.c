/* SPDX-License-Identifier: MIT */
/* 9P2000.L: the messages that read files of the host, open them and lock them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend/ninep_internal.h"

#define QID_SIZE 13
#define GETATTR_BASIC 0x7ffULL
#define LOCK_SUCCESS 0
#define LOCK_FREE 2
#define STATFS_TYPE 0x01021997u /* V9FS_MAGIC */

int ninep_statfs(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	struct statfs s;
	if (r->bad || !f)
		return -EBADF;
	if (fstatfs(f->node->fd, &s))
		return -errno;
	ninep_put(w, 4, STATFS_TYPE);
	ninep_put(w, 4, (uint64_t)s.f_bsize);
	ninep_put(w, 8, s.f_blocks);
	ninep_put(w, 8, s.f_bfree);
	ninep_put(w, 8, s.f_bavail);
	ninep_put(w, 8, s.f_files);
	ninep_put(w, 8, s.f_ffree);
	ninep_put(w, 8, 0);
	ninep_put(w, 4, (uint64_t)s.f_namelen);
	return 0;
}

int ninep_lopen(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	int flags = (int)ninep_get(r, 4) & NINEP_OPEN_FLAGS;
	if (r->bad || !f || f->fd >= 0)
		return -EBADF;
	if (p->words.readonly && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
		return -EROFS;
	int fd = ninep_open_node(f->node, flags);
	if (fd < 0)
		return fd;
	f->fd = fd;
	ninep_descriptors(1);
	int error = ninep_put_qid(w, f->node->fd);
	ninep_put(w, 4, 0); /* the unit is the client's to choose */
	return error;
}

int ninep_readlink(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	char text[NINEP_STRING];
	if (r->bad || !f)
		return -EBADF;
	ssize_t n = readlinkat(f->node->fd, "", text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = 0;
	ninep_put_string(w, text);
	return 0;
}

int ninep_getattr(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	struct stat s;
	if (r->bad || !f)
		return -EBADF;
	if (fstatat(f->node->fd, "", &s, AT_EMPTY_PATH))
		return -errno;
	const struct timespec *times[] = { &s.st_atim, &s.st_mtim, &s.st_ctim };
	ninep_put(w, 8, GETATTR_BASIC);
	ninep_put_status_qid(w, &s);
	ninep_put(w, 4, s.st_mode);
	ninep_put(w, 4, s.st_uid);
	ninep_put(w, 4, s.st_gid);
	ninep_put(w, 8, s.st_nlink);
	ninep_put(w, 8, s.st_rdev);
	ninep_put(w, 8, (uint64_t)s.st_size);
	ninep_put(w, 8, (uint64_t)s.st_blksize);
	ninep_put(w, 8, (uint64_t)s.st_blocks);
	for (unsigned i = 0; i < ARRAY_SIZE(times); i++) {
		ninep_put(w, 8, (uint64_t)times[i]->tv_sec);
		ninep_put(w, 8, (uint64_t)times[i]->tv_nsec);
	}
	for (unsigned i = 0; i < 4; i++) /* birth time, generation, data version: not known */
		ninep_put(w, 8, 0);
	return 0;
}

int ninep_read(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	uint64_t offset = ninep_get(r, 8);
	uint32_t count = (uint32_t)ninep_get(r, 4);
	if (r->bad || !f || f->fd < 0)
		return -EBADF;
	if (offset > INT64_MAX || w->room - w->size < 4)
		return -EINVAL;
	count = (uint32_t)MIN((uint64_t)count, w->room - w->size - 4);
	ssize_t n = pread(f->fd, w->data + w->size + 4, count, (off_t)offset);
	if (n < 0)
		return -errno;
	ninep_put(w, 4, (uint64_t)n);
	w->size += (size_t)n;
	return 0;
}

struct entry { /* of getdents64 */
	uint64_t ino;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
};

/* The number of the entry's file suffices: the client looks names up before it trusts them. */
static void put_entry(struct ninep_writer *w, const struct entry *e)
{
	ninep_put(w, 1, e->type == DT_DIR ? NINEP_QID_DIR : e->type == DT_LNK ? NINEP_QID_LINK : 0);
	ninep_put(w, 4, 0);
	ninep_put(w, 8, strcmp(e->name, "..") ? e->ino : 0);
	ninep_put(w, 8, (uint64_t)e->next);
	ninep_put(w, 1, e->type);
	ninep_put_string(w, e->name);
}

int ninep_readdir(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	uint64_t offset = ninep_get(r, 8), count = ninep_get(r, 4);
	_Alignas(8) char buffer[16 * KiB];
	size_t count_at = w->size, room = w->room;
	if (r->bad || !f || f->fd < 0)
		return -EBADF;
	if (offset > INT64_MAX || lseek(f->fd, (off_t)offset, SEEK_SET) < 0)
		return -EINVAL;
	ninep_put(w, 4, 0);
	w->room = MIN(room, w->size + count);
	bool more = true;
	while (more) {
		long n = syscall(SYS_getdents64, f->fd, buffer, sizeof(buffer));
		if (n < 0)
			return -errno;
		more = n > 0;
		for (long at = 0; at < n && more;) {
			const struct entry *e = (const struct entry *)(buffer + at);
			size_t before = w->size;
			put_entry(w, e);
			at += e->size;
			if (w->full) { /* it comes with the next message */
				w->size = before;
				w->full = false;
				more = false;
			}
		}
	}
	uint32_t bytes = (uint32_t)(w->size - count_at - 4);
	w->room = room;
	memcpy(w->data + count_at, &bytes, sizeof(bytes));
	return 0;
}

int ninep_fsync(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	uint32_t data_only = (uint32_t)ninep_get(r, 4);
	if (!f || f->fd < 0)
		return -EBADF;
	return (data_only ? fdatasync(f->fd) : fsync(f->fd)) ? -errno : 0;
}

/* There is one client, which keeps its own locks. */
int ninep_lock(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	if (!ninep_get_fid(p, r))
		return -EBADF;
	ninep_put(w, 1, LOCK_SUCCESS);
	return 0;
}

int ninep_getlock(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	char client[NINEP_STRING];
	struct ninep_fid *f = ninep_get_fid(p, r);
	ninep_get(r, 1);
	uint64_t start = ninep_get(r, 8), length = ninep_get(r, 8), process = ninep_get(r, 4);
	ninep_get_string(r, client);
	if (r->bad || !f)
		return -EBADF;
	ninep_put(w, 1, LOCK_FREE);
	ninep_put(w, 8, start);
	ninep_put(w, 8, length);
	ninep_put(w, 4, process);
	ninep_put_string(w, client);
	return 0;
}
