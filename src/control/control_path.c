/* SPDX-License-Identifier: MIT */
/* Where the control sockets are: a private folder of the user's, and how a name in it is taken, found and given up.
 *
 * The folder is $XDG_RUNTIME_DIR/doppel (XDG Base Directory Specification), else /run/user/UID/doppel, else /tmp/doppel-UID. A machine takes
 * the first that is safe; who looks for one looks in all, since he may have another environment. Safe is a folder that is the user's own
 * and that nobody else can write to: in /tmp somebody else may have made it first.
 *
 * All work is done relative to the opened folder, which nobody can replace any more; and a socket's address is /proc/self/fd/N/FILE, which
 * always fits in the 108 bytes that an address has. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "control/control.h"
#include "util/log.h"

#define FOLDERS 3
#define SUFFIX ".sock"
#define NAME_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."
#define LOCK_TRIES 200 /* 10 ms each */
#define BACKLOG 16

bool control_name_valid(const char *name)
{
	return name[0] && name[0] != '.' && name[0] != '-' && strlen(name) <= CONTROL_NAME_LONGEST && !name[strspn(name, NAME_CHARACTERS)];
}

/* The candidates: the folder that must be there, and what is in it. */
static bool candidate(unsigned index, char *parent, size_t size, char *leaf, size_t leaf_size)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	snprintf(leaf, leaf_size, "doppel");
	switch (index) {
	case 0:
		return runtime && runtime[0] == '/' && (size_t)snprintf(parent, size, "%s", runtime) < size;
	case 1:
		snprintf(parent, size, "/run/user/%u", geteuid());
		return true;
	default:
		snprintf(parent, size, "/tmp");
		snprintf(leaf, leaf_size, "doppel-%u", geteuid());
		return true;
	}
}

static bool is_private(int fd, bool sticky)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISDIR(st.st_mode))
		return false;
	if (sticky && (st.st_mode & S_ISVTX))
		return true;
	return st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* Opens a candidate; `create` makes it if need be. The folder, or -errno: -EPERM when it is not safe. path says what was meant. */
static int folder_open(unsigned index, bool create, char path[4096 + 64])
{
	char parent[4096], leaf[32];
	int up, fd, error = 0;

	path[0] = 0;
	if (!candidate(index, parent, sizeof(parent), leaf, sizeof(leaf)))
		return -ENOENT;
	snprintf(path, 4096 + 64, "%s/%s", parent, leaf);
	up = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (up < 0)
		return -errno;
	if (!is_private(up, index == FOLDERS - 1)) {
		close(up);
		return -EPERM;
	}
	if (create && mkdirat(up, leaf, 0700) && errno != EEXIST)
		error = -errno;
	fd = openat(up, leaf, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		error = error ? error : errno == ENOTDIR || errno == ELOOP ? -EPERM : -errno;
	close(up);
	if (fd < 0)
		return error;
	if (!is_private(fd, false)) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

/* One starter or cleaner at a time. Held for moments only; whoever is stopped in between does not stop the others for ever. */
static bool folder_lock(int folder)
{
	static const struct timespec while_ = { .tv_nsec = 10 * 1000 * 1000 };

	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		if (!flock(folder, LOCK_EX | LOCK_NB))
			return true;
		nanosleep(&while_, NULL);
	}
	return false;
}

static struct sockaddr_un address(int folder, const char *file)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", folder, file);
	return a;
}

static void file_of(char *file, size_t size, const char *name)
{
	snprintf(file, size, "%s" SUFFIX, name);
}

/* The socket, connected; -ECONNREFUSED when nobody listens; -EAGAIN when too many wait to be heard, so there is somebody. */
static int dial(int folder, const char *file)
{
	struct sockaddr_un a = address(folder, file);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), error;

	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	error = -errno;
	close(fd);
	return error;
}

int control_dial(const char *name)
{
	char file[CONTROL_NAME_LONGEST + 8], path[4096 + 64];
	int result = -ENOENT;

	if (!control_name_valid(name))
		return -ENOENT;
	file_of(file, sizeof(file), name);
	for (unsigned i = 0; i < FOLDERS && result == -ENOENT; i++) {
		int folder = folder_open(i, false, path);
		if (folder < 0)
			continue;
		result = dial(folder, file);
		if (result == -ECONNREFUSED)
			result = -ENOENT;
		close(folder);
	}
	return result;
}

/* False if somebody listens. With the lock held: between bind and listen a socket looks as if it were stale. */
static bool remove_stale(int folder, const char *file)
{
	struct stat st;
	int fd = dial(folder, file);

	if (fd >= 0)
		close(fd);
	if (fd == -ECONNREFUSED && !fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) && S_ISSOCK(st.st_mode))
		unlinkat(folder, file, 0);
	return fd < 0 && fd != -EAGAIN;
}

static void each_in(int folder, void (*each)(const char *, int, void *), void *arg)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* closedir closes it */
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *entry;

	if (!d && copy >= 0)
		close(copy);
	while (d && (entry = readdir(d))) {
		char name[CONTROL_NAME_LONGEST + 8];
		size_t length = strlen(entry->d_name);
		int fd;

		if (length <= strlen(SUFFIX) || length >= sizeof(name) || strcmp(entry->d_name + length - strlen(SUFFIX), SUFFIX))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(length - strlen(SUFFIX)), entry->d_name);
		if (!control_name_valid(name))
			continue;
		fd = dial(folder, entry->d_name);
		if (fd >= 0 || fd == -EAGAIN) {
			each(name, fd, arg);
		} else if (fd == -ECONNREFUSED && folder_lock(folder)) {
			remove_stale(folder, entry->d_name);
			flock(folder, LOCK_UN);
		}
	}
	if (d)
		closedir(d);
}

void control_each(void (*each)(const char *, int, void *), void *arg)
{
	struct stat seen[FOLDERS];
	unsigned count = 0;
	char path[4096 + 64];

	for (unsigned i = 0; i < FOLDERS; i++) {
		int folder = folder_open(i, false, path);
		bool again = false;

		if (folder < 0)
			continue;
		if (!fstat(folder, &seen[count])) {
			for (unsigned n = 0; n < count; n++)
				again |= seen[n].st_dev == seen[count].st_dev && seen[n].st_ino == seen[count].st_ino;
			count++;
			if (!again)
				each_in(folder, each, arg);
		}
		close(folder);
	}
}

static int choose_folder(struct control_socket *s)
{
	char path[4096 + 64], refused[sizeof(path)] = "";
	int error = 0;

	for (unsigned i = 0; i < FOLDERS; i++) {
		s->folder = folder_open(i, true, path);
		if (s->folder >= 0) {
			snprintf(s->path, sizeof(s->path), "%.180s/%s", path, s->file);
			return 0;
		}
		/* What counts is the first that is there; else the last, which always is. */
		if (!error || error == -ENOENT) {
			error = s->folder;
			snprintf(refused, sizeof(refused), "%s", path);
		}
	}
	log_error("no folder for the control socket: %s: %s; XDG_RUNTIME_DIR can name a folder of yours for it", refused,
		  error == -EPERM ? "it is not a folder of yours alone" : strerror(-error));
	return error;
}

static int bind_locked(struct control_socket *s, const char *name)
{
	struct sockaddr_un a = address(s->folder, s->file);
	struct stat st;
	int error;

	if (!remove_stale(s->folder, s->file)) {
		log_error("a machine named %s runs already; choose another --name", name);
		return -EADDRINUSE;
	}
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&a, sizeof(a)))
		goto fail;
	if (fchmodat(s->folder, s->file, 0600, 0) || fstatat(s->folder, s->file, &st, AT_SYMLINK_NOFOLLOW) || listen(s->fd, BACKLOG)) {
		error = errno;
		unlinkat(s->folder, s->file, 0);
		errno = error;
		goto fail;
	}
	s->device = st.st_dev;
	s->inode = st.st_ino;
	return 0;
fail:
	error = -errno;
	log_error("the control socket %s: %s", s->path, strerror(-error));
	return error;
}

int control_listen(struct control_socket *s, const char *name)
{
	int other, error;

	*s = (struct control_socket){ .folder = -1, .fd = -1 };
	file_of(s->file, sizeof(s->file), name);
	other = control_dial(name); /* it may be in another of the folders */
	if (other >= 0 || other == -EAGAIN) {
		if (other >= 0)
			close(other);
		log_error("a machine named %s runs already; choose another --name", name);
		return -EADDRINUSE;
	}
	error = choose_folder(s);
	if (error)
		return error;
	if (folder_lock(s->folder)) {
		error = bind_locked(s, name);
		flock(s->folder, LOCK_UN);
	} else {
		log_error("the folder of %s is locked by another doppel, which stands still", s->path);
		error = -EBUSY;
	}
	if (error)
		control_unlisten(s);
	return error;
}

void control_unlisten(struct control_socket *s)
{
	struct stat st;

	/* Somebody may have taken it away, and another machine the name. */
	if (s->inode && folder_lock(s->folder)) {
		if (!fstatat(s->folder, s->file, &st, AT_SYMLINK_NOFOLLOW) && st.st_dev == s->device && st.st_ino == s->inode)
			unlinkat(s->folder, s->file, 0);
		flock(s->folder, LOCK_UN);
	}
	if (s->fd >= 0)
		close(s->fd);
	if (s->folder >= 0)
		close(s->folder);
	*s = (struct control_socket){ .folder = -1, .fd = -1 };
}
