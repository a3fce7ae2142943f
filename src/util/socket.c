/* SPDX-License-Identifier: MIT */
/* See socket.h. */
#include "util/socket.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/log.h"

/* 0: the path is free now. */
static int make_room(const char *what, const struct sockaddr_un *address)
{
	struct stat status;
	if (lstat(address->sun_path, &status))
		return 0;
	if (!S_ISSOCK(status.st_mode)) {
		log_error("%s: there is something of that name already, which is no socket: take it away, or give another name", what);
		return -EEXIST;
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool left_behind = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) && errno == ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	if (left_behind && !unlink(address->sun_path))
		return 0;
	log_error("%s: somebody else listens there: end that one, or give another name", what);
	return -EADDRINUSE;
}

int socket_listen(const char *what, const char *path, int backlog)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!*path || strlen(path) >= sizeof(address.sun_path)) {
		log_error("%s: the path of a socket has 1 to %zu bytes", what, sizeof(address.sun_path) - 1);
		return -EINVAL;
	}
	strcpy(address.sun_path, path);
	int error = make_room(what, &address);
	if (error)
		return error;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	mode_t mask = umask(077);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) || listen(fd, backlog))
		error = -errno;
	umask(mask);
	if (!error)
		return fd;
	log_error("%s: %s", what, strerror(-error));
	if (fd >= 0)
		close(fd);
	return error;
}
