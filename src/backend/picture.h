/* SPDX-License-Identifier: MIT */
/* A picture of a screen. */
#pragma once
#include "util/bits.h"
#include "util/set.h"

struct picture {
	unsigned width, height;
	uint32_t *pixels;      /* rows from the top, each from the left: 00rrggbb */
	size_t room;           /* pixels that fit */
};

/* picture.c -- Makes it this large; what it shows is undefined then. 0 or -ENOMEM (it is as before). */
int picture_resize(struct picture *, unsigned width, unsigned height);
void picture_free(struct picture *);
/* Writes a file in the format that the end of its name tells; the file is there whole, or as it was before. 0 or -errno,
 * after log_error. */
int picture_save(const struct picture *, const char *path);

/* How a format is written: chosen by the end of the file's name. */
struct picture_format {
	const char *suffix; /* ".png" */
	int (*write)(const struct picture *, void *file); /* a FILE; 0 or -errno */
};
SET_DECLARE(struct picture_format, picture_formats);
#define PICTURE_FORMAT(object) SET_ADD(struct picture_format, picture_formats, object)
