/* SPDX-License-Identifier: MIT */
/* The machine's screen, to files: what --screenshot and --screen-text write. */
#include "cmd/screen.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/file.h"
#include "util/log.h"

static int save_picture(const struct screen *screen, const char *path)
{
	struct picture picture = { 0 };
	char *data = NULL;
	size_t size;
	int error = screen->draw(screen->adapter, &picture, true);
	if (error)
		log_error("%s: %s", path, strerror(-error));
	else
		error = picture_encode(&picture, path, &data, &size);
	if (!error)
		error = file_replace(path, data, size);
	free(data);
	picture_free(&picture);
	return error;
}

static int save_text(const struct screen *screen, const char *path)
{
	char *text = screen->text(screen->adapter);
	int error = text ? file_replace(path, text, strlen(text)) : -ENOMEM;
	free(text);
	return error;
}

int screen_save(const struct screen *screen, const char *picture, const char *text)
{
	int error = picture ? save_picture(screen, picture) : 0, other = text ? save_text(screen, text) : 0;
	return error ? error : other;
}
