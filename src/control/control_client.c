/* SPDX-License-Identifier: MIT */
/* The asking side of the control socket: for sub-commands. The protocol is docs/control.md's. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "control/control.h"
#include "util/log.h"
#include "util/options.h"

#define ANSWER_LONGEST (1 * GiB) /* beyond any picture; what is at the other end need not be a doppel */
#define NAMES 64

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits for events until `deadline` (-1: for ever). */
static int wait_for(int fd, short events, int64_t deadline)
{
	for (;;) {
		int64_t left = deadline < 0 ? -1 : MAX(deadline - now_ms(), 0);
		struct pollfd p = { .fd = fd, .events = events };
		int n = poll(&p, 1, (int)MIN(left, INT32_MAX));

		if (n > 0)
			return 0;
		if (n == 0 && left >= 0 && left <= INT32_MAX)
			return -ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

int control_ask(int fd, const char *line)
{
	size_t size = strlen(line) + 1;
	char text[CONTROL_LINE_LONGEST];
	int64_t deadline = now_ms() + 10000;

	if (size > sizeof(text) || strchr(line, '\n'))
		return -EINVAL;
	memcpy(text, line, size - 1);
	text[size - 1] = '\n';
	for (size_t done = 0; done < size;) {
		ssize_t n = send(fd, text + done, size - done, MSG_NOSIGNAL);
		int error = 0;

		if (n > 0)
			done += (size_t)n;
		else if (errno == EAGAIN)
			error = wait_for(fd, POLLOUT, deadline);
		else if (errno != EINTR)
			error = -errno;
		if (error)
			return error;
	}
	return 0;
}

static int hear_bytes(int fd, char *to, size_t size, int64_t deadline)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = recv(fd, to + done, size - done, 0);
		int error = 0;

		if (n > 0)
			done += (size_t)n;
		else if (!n)
			return -ECONNRESET;
		else if (errno == EAGAIN)
			error = wait_for(fd, POLLIN, deadline);
		else if (errno != EINTR)
			error = -errno;
		if (error)
			return error;
	}
	return 0;
}

/* The first line, byte by byte: what follows is not ours to take. */
static int hear_line(int fd, char *line, size_t size, int64_t deadline)
{
	for (size_t at = 0; at < size; at++) {
		int error = hear_bytes(fd, &line[at], 1, deadline);
		if (error)
			return error;
		if (line[at] == '\n') {
			line[at] = 0;
			return 0;
		}
	}
	return -EPROTO;
}

int control_hear(int fd, int timeout, char **text, size_t *size)
{
	char line[1300];
	int64_t deadline = timeout < 0 ? -1 : now_ms() + timeout;
	uint64_t length = 0;
	int error;

	*text = NULL;
	*size = 0;
	error = hear_line(fd, line, sizeof(line), deadline);
	if (error)
		return error;
	if (!strncmp(line, "error ", 6)) {
		*text = strdup(line + 6);
		*size = *text ? strlen(*text) : 0;
		return *text ? 1 : -ENOMEM;
	}
	if (strncmp(line, "ok ", 3) || option_number(line + 3, &length) || length > ANSWER_LONGEST)
		return -EPROTO;
	*text = malloc(length + 1);
	if (!*text)
		return -ENOMEM;
	(*text)[length] = 0;
	*size = length;
	error = hear_bytes(fd, *text, length, deadline);
	if (error) {
		free(*text);
		*text = NULL;
	}
	return error;
}

int control_peer(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) ? 0 : peer.pid;
}

struct names {
	char *name[NAMES];
	unsigned count;
};

static void collect(const char *name, int fd, void *arg)
{
	struct names *n = arg;

	if (fd >= 0)
		close(fd);
	if (n->count < NAMES)
		n->name[n->count++] = strdup(name);
}

static void nobody(const char *name)
{
	struct names n = { .count = 0 };
	const char *nearest = NULL;

	control_each(collect, &n);
	if (control_name_valid(name))
		nearest = option_nearest(name, (const char *const *)n.name, n.count);
	if (nearest)
		log_error("no machine named %s runs; did you mean %s?", name, nearest);
	else
		log_error("no machine named %s runs; \"doppel list\" shows those that do", name);
	for (unsigned i = 0; i < n.count; i++)
		free(n.name[i]);
}

static void failed(const char *name, int pid, int error)
{
	if (error == -ETIMEDOUT)
		log_error("machine %s does not answer (process %d); is it stopped?", name, pid);
	else if (error == -ECONNRESET || error == -EPIPE)
		log_error("machine %s has ended", name);
	else
		log_error("machine %s: %s", name, strerror(-error));
}

int control_call(const char *name, int timeout, char **text, size_t *size, const char *format, ...)
{
	char line[CONTROL_LINE_LONGEST];
	va_list args;
	int fd, n, error;

	*text = NULL;
	*size = 0;
	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(line) || strchr(line, '\n')) {
		log_error("that is too long, or not one line");
		return -EINVAL;
	}
	fd = control_dial(name);
	if (fd == -ENOENT) {
		nobody(name);
		return fd;
	}
	if (fd < 0) {
		failed(name, 0, fd);
		return fd;
	}
	error = control_ask(fd, line);
	if (!error)
		error = control_hear(fd, timeout, text, size);
	if (error > 0) {
		log_error("machine %s: %s", name, *text);
		error = -EREMOTEIO;
	} else if (error) {
		failed(name, control_peer(fd), error);
	}
	close(fd);
	return error;
}
