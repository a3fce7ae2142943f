/* SPDX-License-Identifier: MIT */
/* 9P2000.L: the messages that change files of the host. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backend/ninep_internal.h"

enum { SET_MODE = 0x1, SET_UID = 0x2, SET_GID = 0x4, SET_SIZE = 0x8, SET_ATIME = 0x10, SET_MTIME = 0x20, SET_ATIME_TO = 0x80,
	SET_MTIME_TO = 0x100 };

int ninep_write(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
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
	struct ninep_fid *f = ninep_get_fid(p, r);
	char name[NINEP_STRING];
	bool good = ninep_get_name(r, name);
	int flags = (int)ninep_get(r, 4) & (NINEP_OPEN_FLAGS | O_EXCL) & ~O_DIRECTORY;
	uint64_t mode = ninep_get(r, 4);
	if (r->bad || !f || f->fd >= 0)
		return -EBADF;
	if (!good)
		return -EINVAL;
	int fd = ninep_open_beneath(f->node->fd, name, flags | O_CREAT | O_NONBLOCK | O_NOCTTY, ninep_permissions(mode, false));
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
	int fd = ninep_open_beneath(f->node->fd, name, O_PATH, 0);
	int error = fd < 0 ? fd : ninep_put_qid(w, fd);
	if (fd >= 0)
		close(fd);
	return error;
}

int ninep_symlink(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	char name[NINEP_STRING], target[NINEP_STRING];
	bool good = ninep_get_name(r, name);
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
	struct ninep_fid *f = ninep_get_fid(p, r);
	char name[NINEP_STRING];
	bool good = ninep_get_name(r, name);
	mode_t mode = (mode_t)ninep_get(r, 4);
	if (r->bad || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EPERM;
	return mknodat(f->node->fd, name, (mode & S_IFMT) | ninep_permissions(mode, false), 0) ? -errno : made(f, name, w);
}

int ninep_mkdir(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	char name[NINEP_STRING];
	bool good = ninep_get_name(r, name);
	uint64_t mode = ninep_get(r, 4);
	if (r->bad || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	return mkdirat(f->node->fd, name, ninep_permissions(mode, true)) ? -errno : made(f, name, w);
}

int ninep_link(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *folder = ninep_get_fid(p, r), *f = ninep_get_fid(p, r);
	char name[NINEP_STRING], path[NINEP_PROC_PATH];
	bool good = ninep_get_name(r, name);
	if (r->bad || !folder || !f)
		return -EBADF;
	if (!good)
		return -EINVAL;
	return linkat(AT_FDCWD, ninep_proc_path(path, f->node->fd), folder->node->fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

static int rename_node(struct ninep_node *from, const char *old, struct ninep_node *to, const char *new)
{
	return renameat(from->fd, old, to->fd, new) ? -errno : 0;
}

int ninep_rename(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r), *folder = ninep_get_fid(p, r);
	char name[NINEP_STRING];
	bool good = ninep_get_name(r, name);
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
	struct ninep_fid *from = ninep_get_fid(p, r);
	bool good = ninep_get_name(r, old);
	struct ninep_fid *to = ninep_get_fid(p, r);
	good &= ninep_get_name(r, new);
	if (r->bad || !from || !to)
		return -EBADF;
	return good ? rename_node(from->node, old, to->node, new) : -EINVAL;
}

int ninep_unlinkat(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
	char name[NINEP_STRING];
	bool good = ninep_get_name(r, name);
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
	int error = ninep_type(n->fd, &mode);
	if (error)
		return error;
	return unlinkat(n->parent->fd, n->name, S_ISDIR(mode) ? AT_REMOVEDIR : 0) ? -errno : 0;
}

static int set_size(struct ninep_fid *f, uint64_t size)
{
	int fd = f->fd >= 0 ? f->fd : ninep_open_node(f->node, O_WRONLY), error = 0;
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
	char path[NINEP_PROC_PATH];
	mode_t type;
	int error = ninep_type(f->node->fd, &type);
	if (error)
		return error;
	if (S_ISLNK(type))
		return -EOPNOTSUPP;
	return chmod(ninep_proc_path(path, f->node->fd), ninep_permissions(mode, S_ISDIR(type))) ? -errno : 0;
}

int ninep_setattr(struct ninep *p, struct ninep_reader *r, struct ninep_writer *w)
{
	struct ninep_fid *f = ninep_get_fid(p, r);
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
