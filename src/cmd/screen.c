/* SPDX-License-Identifier: MIT */
/* The machine's screen, to files: what --screenshot and --screen-text write. */
#include "cmd/screen.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/log.h"

static int save_picture(const struct screen *screen, const char *path)
{
	struct picture picture = { 0 };
	int error = screen->draw(screen->adapter, &picture, true);
	if (error)
		log_error("%s: %s", path, strerror(-error));
	else
		error = picture_save(&picture, path);
	picture_free(&picture);
	return error;
}

static int save_text(const struct screen *screen, const char *path)
{
	char *text = screen->text(screen->adapter), *fresh = NULL;
	int error = 0;
	if (!text || asprintf(&fresh, "%s.new", path) < 0) {
		free(text);
		return -ENOMEM;
	}
	FILE *file = fopen(fresh, "we");
	if (!file) {
		error = -errno;
	} else {
		if (fputs(text, file) < 0)
			error = -errno;
		if (fclose(file) && !error)
			error = -errno;
		if (!error && rename(fresh, path))
			error = -errno;
		if (error)
			unlink(fresh);
	}
	if (error)
		log_error("%s: %s", path, strerror(-error));
	free(fresh);
	free(text);
	return error;
}

int screen_save(const struct screen *screen, const char *picture, const char *text)
{
	int error = picture ? save_picture(screen, picture) : 0, other = text ? save_text(screen, text) : 0;
	return error ? error : other;
}
