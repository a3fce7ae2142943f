/* SPDX-License-Identifier: MIT */
/* A picture of a screen. */
#pragma once
#include <stdio.h>
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
/* Does the end of a file's name (".png") tell a format? 0, or -EINVAL after log_error. */
int picture_check_name(const char *name);
/* The bytes of such a file; to be freed. 0 or -errno, after log_error. */
int picture_encode(const struct picture *, const char *name, char **data, size_t *size);

/* How a format is written: chosen by the end of the file's name. */
struct picture_format {
	const char *suffix; /* ".png" */
	int (*write)(const struct picture *, FILE *); /* 0 or -errno */
};
SET_DECLARE(struct picture_format, picture_formats);
#define PICTURE_FORMAT(object) SET_ADD(struct picture_format, picture_formats, object)
