/* SPDX-License-Identifier: MIT */
/* Character device backends by name: what "--serial SPEC" means. */
#include "backend/chardev.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "backend/chardev_fd.h"
#include "util/log.h"
#include "util/options.h"

static bool stdio_taken; /* one console only: two readers would share the keys between them by chance */

static int open_stdio(struct chardev **chardev)
{
	if (stdio_taken) {
		log_error("only one device can have stdio; give the other one pty, file:PATH or none");
		return -EINVAL;
	}
	unsigned flags = isatty(STDIN_FILENO) ? CHARDEV_FD_TERMINAL : 0;
	int error = chardev_fd_create(chardev, STDIN_FILENO, STDOUT_FILENO, flags, "stdout");
	stdio_taken = !error;
	return error;
}

static int open_file(struct chardev **chardev, const char *path)
{
	int error, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	if (fd < 0) {
		error = -errno;
		log_error("%s: %s", path, strerror(-error));
		return error;
	}
	error = chardev_fd_create(chardev, -1, fd, CHARDEV_FD_CLOSE, path);
	if (error)
		close(fd);
	return error;
}

/* The slave is opened once, to make it raw, and closed: from then on the master reports a hang-up whenever nobody has it
 * open, which is how the writer knows that the cable is unplugged. */
static int open_pty(struct chardev **chardev)
{
	char name[64];
	struct termios mode;
	int error, slave = -1, master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (master < 0 || grantpt(master) || unlockpt(master) || ptsname_r(master, name, sizeof(name)))
		goto failed;
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(slave, &mode))
		goto failed;
	cfmakeraw(&mode);
	if (tcsetattr(slave, TCSANOW, &mode) || fcntl(master, F_SETFL, O_NONBLOCK))
		goto failed;
	close(slave);
	slave = -1;
	error = chardev_fd_create(chardev, master, master, CHARDEV_FD_CLOSE | CHARDEV_FD_PTY, name);
	if (error) {
		close(master);
		return error;
	}
	log_info("a serial line is at %s", name);
	return 0;
failed:
	error = -errno;
	log_error("no pseudo-terminal: %s", strerror(-error));
	if (slave >= 0)
		close(slave);
	if (master >= 0)
		close(master);
	return error;
}

int chardev_open(struct chardev **chardev, const char *spec)
{
	static const char *const names[] = { "stdio", "pty", "none", "file:PATH" };
	*chardev = NULL;
	if (!strcmp(spec, "none"))
		return 0;
	if (!strcmp(spec, "stdio"))
		return open_stdio(chardev);
	if (!strcmp(spec, "pty"))
		return open_pty(chardev);
	if (!strncmp(spec, "file:", 5) && spec[5])
		return open_file(chardev, spec + 5);
	const char *nearest = option_nearest(spec, names, ARRAY_SIZE(names));
	log_error("there is no backend %s; did you mean %s? There are stdio, pty, file:PATH and none", spec, nearest ? nearest : "file:PATH");
	return -EINVAL;
}

int chardev_open_silent(struct chardev **chardev, const char *spec)
{
	*chardev = NULL;
	return strcmp(spec, "none") ? chardev_fd_create(chardev, -1, -1, 0, "nobody") : 0;
}

void chardev_close(struct chardev *chardev)
{
	if (chardev)
		chardev_fd_destroy(chardev);
}
