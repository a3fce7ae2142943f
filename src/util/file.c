/* SPDX-License-Identifier: MIT */
/* A file is replaced by writing another beside it and giving that its name. What is no plain file (/dev/stdout, a pipe) is written
 * as it is. */
#include "util/file.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/log.h"

static int write_file(const char *path, const void *data, size_t size)
{
	int error = 0;
	FILE *file = fopen(path, "we");

	if (!file)
		return -errno;
	if (fwrite(data, 1, size, file) != size)
		error = -errno;
	if (fclose(file) && !error)
		error = -errno;
	return error;
}

int file_replace(const char *path, const void *data, size_t size)
{
	struct stat status;
	bool special = !stat(path, &status) && !S_ISREG(status.st_mode);
	char *fresh = NULL;
	int error;

	if (special) {
		error = write_file(path, data, size);
	} else if (asprintf(&fresh, "%s.new", path) < 0) {
		error = -ENOMEM;
		fresh = NULL;
	} else {
		error = write_file(fresh, data, size);
		if (!error && rename(fresh, path))
			error = -errno;
		if (error)
			unlink(fresh);
	}
	if (error)
		log_error("%s: %s", path, strerror(-error));
	free(fresh);
	return error;
}

int file_can_replace(const char *path)
{
	struct stat status;
	char *fresh = NULL;
	int error = 0;

	if (!stat(path, &status) && S_ISDIR(status.st_mode))
		error = -EISDIR;
	else if (!stat(path, &status) && !S_ISREG(status.st_mode))
		error = access(path, W_OK) ? -errno : 0;
	else if (asprintf(&fresh, "%s.new", path) < 0)
		return -ENOMEM;
	else
		error = write_file(fresh, "", 0);
	if (fresh && !error)
		unlink(fresh);
	if (error)
		log_error("%s: %s", path, strerror(-error));
	free(fresh);
	return error;
}
