/* SPDX-License-Identifier: MIT */
/* PNG, by libpng. Not built where that is missing. */
#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include "backend/picture.h"

static void put_row(uint8_t *to, const uint32_t *from, unsigned width)
{
	for (unsigned x = 0; x < width; x++, to += 3) {
		to[0] = (uint8_t)(from[x] >> 16);
		to[1] = (uint8_t)(from[x] >> 8);
		to[2] = (uint8_t)from[x];
	}
}

static int write_png(const struct picture *p, FILE *file)
{
	png_image image = { .version = PNG_IMAGE_VERSION, .width = p->width, .height = p->height, .format = PNG_FORMAT_RGB };
	uint8_t *rows = malloc((size_t)p->width * p->height * 3);
	int error = 0;
	if (!rows)
		return -ENOMEM;
	for (unsigned y = 0; y < p->height; y++)
		put_row(rows + (size_t)y * p->width * 3, p->pixels + (size_t)y * p->width, p->width);
	if (!png_image_write_to_stdio(&image, file, 0, rows, 0, NULL))
		error = -EIO;
	free(rows);
	return error;
}

static const struct picture_format png = { .suffix = ".png", .write = write_png };
PICTURE_FORMAT(png);
