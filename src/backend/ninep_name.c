/* SPDX-License-Identifier: MIT */
/* 9P2000.L: names, descriptors and qids of the host's files. See ninep.h for why nothing here leaves the shared folder. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend/ninep_internal.h"

#define PERMISSIONS 07777u

int ninep_open_beneath(int folder, const char *name, int flags, mode_t mode)
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
	int fd = ninep_open_beneath(n->fd, name, O_PATH, 0);
	if (fd < 0)
		return fd;
	*result = ninep_node_new(n, name, fd);
	return *result ? 0 : -ENOMEM;
}

const char *ninep_proc_path(char text[NINEP_PROC_PATH], int fd)
{
	snprintf(text, NINEP_PROC_PATH, "/proc/self/fd/%d", fd);
	return text;
}

int ninep_type(int fd, mode_t *mode)
{
	struct stat status;
	if (fstatat(fd, "", &status, AT_EMPTY_PATH))
		return -errno;
	*mode = status.st_mode;
	return 0;
}

int ninep_open_node(const struct ninep_node *n, int flags)
{
	char path[NINEP_PROC_PATH];
	mode_t mode;
	int error = ninep_type(n->fd, &mode);
	if (error)
		return error;
	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return -ENXIO;
	if (!ninep_descriptor_free())
		return -EMFILE;
	int fd = open(ninep_proc_path(path, n->fd), flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

int ninep_probe(struct ninep_node *root)
{
	int fd = ninep_open_beneath(root->fd, ".", O_PATH, 0);
	if (fd < 0)
		return fd;
	close(fd);
	fd = ninep_open_node(root, O_RDONLY | O_DIRECTORY);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

void ninep_put_status_qid(struct ninep_writer *w, const struct stat *s)
{
	uint8_t type = S_ISDIR(s->st_mode) ? NINEP_QID_DIR : S_ISLNK(s->st_mode) ? NINEP_QID_LINK : 0;
	ninep_put(w, 1, type);
	ninep_put(w, 4, (uint32_t)s->st_mtim.tv_sec ^ (uint32_t)s->st_mtim.tv_nsec);
	ninep_put(w, 8, s->st_ino ^ (uint64_t)s->st_dev << 48); /* folders of several file systems */
}

int ninep_put_qid(struct ninep_writer *w, int fd)
{
	struct stat status;
	if (fstatat(fd, "", &status, AT_EMPTY_PATH))
		return -errno;
	ninep_put_status_qid(w, &status);
	return 0;
}

bool ninep_get_name(struct ninep_reader *r, char name[NINEP_STRING])
{
	ninep_get_string(r, name);
	return !r->bad && good_name(name);
}

mode_t ninep_permissions(uint64_t mode, bool folder)
{
	return (mode_t)(mode & (folder ? PERMISSIONS & ~(unsigned)S_ISUID : 0777u | S_ISVTX));
}
