/* SPDX-License-Identifier: MIT */
/* Pictures: memory for them, and files. A format is a row of the set; PPM (Netpbm's "P6") is always there. */
#include "backend/picture.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

int picture_resize(struct picture *p, unsigned width, unsigned height)
{
	size_t want = (size_t)width * height;
	if (want > p->room) {
		uint32_t *pixels = realloc(p->pixels, want * sizeof(*pixels));
		if (!pixels)
			return -ENOMEM;
		p->pixels = pixels;
		p->room = want;
	}
	p->width = width;
	p->height = height;
	return 0;
}

void picture_free(struct picture *p)
{
	free(p->pixels);
	*p = (struct picture){ 0 };
}

static const struct picture_format *format_of(const char *name)
{
	size_t length = strlen(name);
	SET_FOREACH(struct picture_format, format, picture_formats) {
		size_t suffix = strlen(format->suffix);
		if (length >= suffix && !strcmp(name + length - suffix, format->suffix))
			return format;
	}
	return NULL;
}

static void say_formats(const char *name)
{
	char list[64] = "";
	SET_FOREACH(struct picture_format, format, picture_formats) {
		size_t used = strlen(list);
		snprintf(list + used, sizeof(list) - used, " %s", format->suffix);
	}
	log_error("%s: the end of a picture's name says its format; there are:%s%s", name, list,
		  strstr(list, ".png") ? "" : " (not .png: this doppel was built without libpng)");
}

int picture_check_name(const char *name)
{
	if (format_of(name))
		return 0;
	say_formats(name);
	return -EINVAL;
}

int picture_encode(const struct picture *p, const char *name, char **data, size_t *size)
{
	const struct picture_format *format = format_of(name);
	int error;
	*data = NULL;
	if (!format)
		return picture_check_name(name);
	FILE *file = open_memstream(data, size);
	if (!file)
		return -errno;
	error = format->write(p, file);
	if (fclose(file) && !error)
		error = -ENOMEM;
	if (error)
		log_error("%s: %s", name, strerror(-error));
	return error;
}

static int write_ppm(const struct picture *p, FILE *file)
{
	size_t count = (size_t)p->width * p->height;
	fprintf(file, "P6\n%u %u\n255\n", p->width, p->height);
	for (size_t i = 0; i < count; i++) {
		putc_unlocked(p->pixels[i] >> 16 & 0xff, file);
		putc_unlocked(p->pixels[i] >> 8 & 0xff, file);
		putc_unlocked(p->pixels[i] & 0xff, file);
	}
	return ferror(file) ? -EIO : 0;
}

static const struct picture_format ppm = { .suffix = ".ppm", .write = write_ppm };
PICTURE_FORMAT(ppm);
