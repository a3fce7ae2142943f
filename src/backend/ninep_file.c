/* SPDX-License-Identifier: MIT */
/* 9P2000.L: what its messages do to files of the host. See ninep.h for why nothing here leaves the shared folder. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend/ninep_internal.h"

#define QID_DIR 0x80
#define QID_LINK 0x02
#define QID_SIZE 13
#define GETATTR_BASIC 0x7ffULL
#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC | O_DIRECTORY) /* of what a client may ask */
#define PERMISSIONS 07777u
#define LOCK_SUCCESS 0
#define LOCK_FREE 2
#define STATFS_TYPE 0x01021997u /* V9FS_MAGIC */
#define PROC_PATH 32
enum { SET_MODE = 0x1, SET_UID = 0x2, SET_GID = 0x4, SET_SIZE = 0x8, SET_ATIME = 0x10, SET_MTIME = 0x20, SET_ATIME_TO = 0x80,
	SET_MTIME_TO = 0x100 };

/* ---- Names and descriptors ---------------------------------------------------------------------------------------------- */

static int open_beneath(int folder, const char *name, int flags, mode_t mode)
{
	if (!ninep_descriptor_free())
		return -EMFILE;
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW), .mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	long fd = syscall(SYS_openat2, folder, name, &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

/* One component, that is not the folder itself or the one above. */
static bool good_name(const char *name)
{
	return name[0] && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/');
}

int ninep_lookup(struct ninep_node *n, const char *name, struct ninep_node **result)
{
	if (!strcmp(name, "..") || !strcmp(name, ".")) {
		*result = name[1] && n->parent ? n->parent : n;
		(*result)->references++;
		return 0;
	}
	if (!good_name(name))
		return -EINVAL;
	int fd = open_beneath(n->fd, name, O_PATH, 0);
	if (fd < 0)
		return fd;
	*result = ninep_node_new(n, name, fd);
	return *result ? 0 : -ENOMEM;
}

static const char *proc_path(char text[PROC_PATH], int fd)
{
	snprintf(text, PROC_PATH, "/proc/self/fd/%d", fd);
	return text;
}

static int type_of(int fd, mode_t *mode)
{
	struct stat status;
	if (fstatat(fd, "", &status, AT_EMPTY_PATH))
		return -errno;
	*mode = status.st_mode;
	return 0;
}

/* What a descriptor names, opened: files and folders only. What else there is the guest opens in its own kernel. */
static int open_node(const struct ninep_node *n, int flags)
{
	char path[PROC_PATH];
	mode_t mode;
	int error = type_of(n->fd, &mode);
	if (error)
		return error;
	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return -ENXIO;
	if (!ninep_descriptor_free())
		return -EMFILE;
	int fd = open(proc_path(path, n->fd), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

int ninep_probe(struct ninep_node *root)
{
	int fd = open_beneath(root->fd, ".", O_PATH, 0);
	if (fd < 0)
		return fd;
	close(fd);
	fd = open_node(root, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static void put_qid(struct ninep_writer *w, const struct stat *s)
{
	uint8_t type = S_ISDIR(s->st_mode) ? QID_DIR : S_ISLNK(s->st_mode) ? QID_LINK : 0;
	ninep_put(w, 1, type);
	ninep_put(w, 4, (uint32_t)s->st_mtim.tv_sec ^ (uint32_t)s->st_mtim.tv_nsec);
	ninep_put(w, 8, s->st_ino ^ (uint64_t)s->st_dev << 48); /* folders of several file systems */
}

int ninep_put_qid(struct ninep_writer *w, int fd)
{
	struct stat status;
	if (fstatat(fd, "", &status, AT_EMPTY_PATH))
		return -errno;
	put_qid(w, &status);
	return 0;
}

static struct ninep_fid *get_fid(struct ninep *p, struct ninep_reader *r)
{
	return ninep_fid(p, (uint32_t)ninep_get(r, 4));
}

/* A name for a new entry, or for one that goes. */
static bool get_name(struct ninep_reader *r, char name[NINEP_STRING])
{
	ninep_get_string(r, name);
	return !r->bad && good_name(name);
}

/* No file of the host gets more rights through its owner than the guest has. */
static mode_t permissions(uint64_t mode, bool folder)
{
	return (mode_t)(mode & (folder ? PERMISSIONS & ~(unsigned)S_ISUID : 0777u | S_ISVTX));
}

/* ---- Reading ------------------------------------------------------------------------------------------------------------ */

int ninep_statfs(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
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
	struct ninep_fid *f = get_fid(p, r);
	int flags = (int)ninep_get(r, 4) & OPEN_FLAGS;
	if (r->bad || !f || f->fd >= 0)
		return -EBADF;
	if (p->words.readonly && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC)))
		return -EROFS;
	int fd = open_node(f->node, flags);
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
	struct ninep_fid *f = get_fid(p, r);
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
	struct ninep_fid *f = get_fid(p, r);
	struct stat s;
	if (r->bad || !f)
		return -EBADF;
	if (fstatat(f->node->fd, "", &s, AT_EMPTY_PATH))
		return -errno;
	const struct timespec *times[] = { &s.st_atim, &s.st_mtim, &s.st_ctim };
	ninep_put(w, 8, GETATTR_BASIC);
	put_qid(w, &s);
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
	struct ninep_fid *f = get_fid(p, r);
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
	ninep_put(w, 1, e->type == DT_DIR ? QID_DIR : e->type == DT_LNK ? QID_LINK : 0);
	ninep_put(w, 4, 0);
	ninep_put(w, 8, strcmp(e->name, "..") ? e->ino : 0);
	ninep_put(w, 8, (uint64_t)e->next);
	ninep_put(w, 1, e->type);
	ninep_put_string(w, e->name);
}

int ninep_readdir(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
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
	struct ninep_fid *f = get_fid(p, r);
	uint32_t data_only = (uint32_t)ninep_get(r, 4);
	if (!f || f->fd < 0)
		return -EBADF;
	return (data_only ? fdatasync(f->fd) : fsync(f->fd)) ? -errno : 0;
}

/* There is one client, which keeps its own locks. */
int ninep_lock(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	if (!get_fid(p, r))
		return -EBADF;
	ninep_put(w, 1, LOCK_SUCCESS);
	return 0;
}

int ninep_getlock(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	char client[NINEP_STRING];
	struct ninep_fid *f = get_fid(p, r);
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

/* ---- Changing ----------------------------------------------------------------------------------------------------------- */

int ninep_write(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	uint64_t offset = ninep_get(r, 8);
	uint32_t count = (uint32_t)ninep_get(r, 4);
	if (r->bad || !f || f->fd < 0 || count > r->left)
		return -EBADF;
	if (offset > INT64_MAX)
		return -EINVAL;
	ssize_t n = pwrite(f->fd, r->at, count, (off_t)offset);
	if (n < 0)
		return -errno;
	ninep_put(w, 4, (uint64_t)n);
	return 0;
}

/* The fid becomes the new file's, open. */
int ninep_lcreate(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	char name[NINEP_STRING];
	bool good = get_name(r, name);
	int flags = (int)ninep_get(r, 4) & (OPEN_FLAGS | O_EXCL) & ~O_DIRECTORY;
	uint64_t mode = ninep_get(r, 4);
	if (r->bad || !f || f->fd >= 0)
		return -EBADF;
	if (!good)
		return -EINVAL;
	int fd = open_beneath(f->node->fd, name, flags | O_CREAT | O_NONBLOCK | O_NOCTTY, permissions(mode, false));
	struct ninep_node *node = NULL;
	int error = fd < 0 ? fd : ninep_lookup(f->node, name, &node);
	if (!error)
		error = ninep_put_qid(w, node->fd);
	if (error) {
		if (fd >= 0)
			close(fd);
		ninep_node_release(node);
		return error;
	}
	ninep_node_release(f->node);
	f->node = node;
	f->fd = fd;
	ninep_descriptors(1);
	ninep_put(w, 4, 0);
	return 0;
}

/* The answer to what makes an entry. */
static int made(struct ninep_fid *f, const char *name, struct ninep_writer *w)
{
	int fd = open_beneath(f->node->fd, name, O_PATH, 0);
	int error = fd < 0 ? fd : ninep_put_qid(w, fd);
	if (fd >= 0)
		close(fd);
	return error;
}

int ninep_symlink(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	char name[NINEP_STRING], target[NINEP_STRING];
	bool good = get_name(r, name);
	ninep_get_string(r, target);
	if (r->bad || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	return symlinkat(target, f->node->fd, name) ? -errno : made(f, name, w);
}

/* No devices: they would be the host's. */
int ninep_mknod(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	char name[NINEP_STRING];
	bool good = get_name(r, name);
	mode_t mode = (mode_t)ninep_get(r, 4);
	if (r->bad || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EPERM;
	return mknodat(f->node->fd, name, (mode & S_IFMT) | permissions(mode, false), 0) ? -errno : made(f, name, w);
}

int ninep_mkdir(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	char name[NINEP_STRING];
	bool good = get_name(r, name);
	uint64_t mode = ninep_get(r, 4);
	if (r->bad || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	return mkdirat(f->node->fd, name, permissions(mode, true)) ? -errno : made(f, name, w);
}

int ninep_link(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *folder = get_fid(p, r), *f = get_fid(p, r);
	char name[NINEP_STRING], path[PROC_PATH];
	bool good = get_name(r, name);
	if (r->bad || !folder || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	return linkat(AT_FDCWD, proc_path(path, f->node->fd), folder->node->fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int rename_node(struct ninep_node *from, const char *old, struct ninep_node *to, const char *new)
{
	return renameat(from->fd, old, to->fd, new) ? -errno : 0;
}

int ninep_rename(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r), *folder = get_fid(p, r);
	char name[NINEP_STRING];
	bool good = get_name(r, name);
	if (r->bad || !f || !folder || !f->node->parent)
		return -EBADF;
	if (!good)
		return -EINVAL;
	int error = rename_node(f->node->parent, f->node->name, folder->node, name);
	char *copy = error ? NULL : strdup(name);
	if (!copy)
		return error;
	free(f->node->name);
	f->node->name = copy;
	/* Parents are as they were last known, so the folder may seem to be beneath the file. No circle comes of it. */
	struct ninep_node *parent = folder->node, *above = parent;
	while (above && above != f->node)
		above = above->parent;
	if (above)
		parent = p->root;
	parent->references++;
	ninep_node_release(f->node->parent);
	f->node->parent = parent;
	return 0;
}

int ninep_renameat(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	char old[NINEP_STRING], new[NINEP_STRING];
	struct ninep_fid *from = get_fid(p, r);
	bool good = get_name(r, old);
	struct ninep_fid *to = get_fid(p, r);
	good &= get_name(r, new);
	if (r->bad || !from || !to)
		return -EBADF;
	return good ? rename_node(from->node, old, to->node, new) : -EINVAL;
}

int ninep_unlinkat(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	char name[NINEP_STRING];
	bool good = get_name(r, name);
	int flags = (int)ninep_get(r, 4) & AT_REMOVEDIR;
	if (r->bad || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	return unlinkat(f->node->fd, name, flags) ? -errno : 0;
}

int ninep_remove_node(struct ninep *p, struct ninep_node *n)
{
	mode_t mode;
	if (!n->parent)
		return -EBUSY;
	int error = type_of(n->fd, &mode);
	if (error)
		return error;
	return unlinkat(n->parent->fd, n->name, S_ISDIR(mode) ? AT_REMOVEDIR : 0) ? -errno : 0;
}

static int set_size(struct ninep_fid *f, uint64_t size)
{
	int fd = f->fd >= 0 ? f->fd : open_node(f->node, O_WRONLY), error = 0;
	if (fd < 0)
		return fd;
	if (size > INT64_MAX || ftruncate(fd, (off_t)size))
		error = size > INT64_MAX ? -EINVAL : -errno;
	if (fd != f->fd)
		close(fd);
	return error;
}

static int set_mode(struct ninep_fid *f, uint64_t mode)
{
	char path[PROC_PATH];
	mode_t type;
	int error = type_of(f->node->fd, &type);
	if (error)
		return error;
	if (S_ISLNK(type))
		return -EOPNOTSUPP;
	return chmod(proc_path(path, f->node->fd), permissions(mode, S_ISDIR(type))) ? -errno : 0;
}

int ninep_setattr(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = get_fid(p, r);
	uint64_t valid = ninep_get(r, 4), mode = ninep_get(r, 4), uid = ninep_get(r, 4), gid = ninep_get(r, 4), size = ninep_get(r, 8);
	struct timespec times[2];
	for (unsigned i = 0; i < 2; i++) {
		times[i].tv_sec = (time_t)ninep_get(r, 8);
		times[i].tv_nsec = (long)ninep_get(r, 8);
	}
	if (r->bad || !f)
		return -EBADF;
	int error = valid & SET_MODE ? set_mode(f, mode) : 0;
	if (!error && (valid & (SET_UID | SET_GID)) &&
	    fchownat(f->node->fd, "", valid & SET_UID ? (uid_t)uid : (uid_t)-1, valid & SET_GID ? (gid_t)gid : (gid_t)-1, AT_EMPTY_PATH))
		error = -errno;
	if (!error && (valid & SET_SIZE))
		error = set_size(f, size);
	if (error || !(valid & (SET_ATIME | SET_MTIME)))
		return error;
	const uint64_t set[] = { SET_ATIME, SET_MTIME }, to[] = { SET_ATIME_TO, SET_MTIME_TO };
	for (unsigned i = 0; i < 2; i++)
		if (!(valid & to[i]) || !(valid & set[i]))
			times[i] = (struct timespec){ .tv_nsec = valid & set[i] ? UTIME_NOW : UTIME_OMIT };
	return utimensat(f->node->fd, "", times, AT_EMPTY_PATH) ? -errno : 0;
}
