/* SPDX-License-Identifier: MIT */
/* Formats of floppy disks, recognised by size. */
#include "device/i82077.h"

enum { RATE_500 = 0, RATE_250 = 2, RATE_1000 = 3 };
enum { DRIVE_360K = 1, DRIVE_1200K = 2, DRIVE_720K = 3, DRIVE_1440K = 4, DRIVE_2880K = 5 };

static const struct fdc_media formats[] = {
	{ 160, 40, 1, 8, RATE_250, DRIVE_360K },   { 180, 40, 1, 9, RATE_250, DRIVE_360K },
	{ 320, 40, 2, 8, RATE_250, DRIVE_360K },   { 360, 40, 2, 9, RATE_250, DRIVE_360K },
	{ 720, 80, 2, 9, RATE_250, DRIVE_720K },   { 1200, 80, 2, 15, RATE_500, DRIVE_1200K },
	{ 1440, 80, 2, 18, RATE_500, DRIVE_1440K }, { 1680, 80, 2, 21, RATE_500, DRIVE_1440K },
	{ 1722, 82, 2, 21, RATE_500, DRIVE_1440K }, { 2880, 80, 2, 36, RATE_1000, DRIVE_2880K },
};

static const struct fdc_media *by_kib(uint64_t kib)
{
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		if (formats[i].kib == kib)
			return &formats[i];
	return NULL;
}

/* A file that ends early is a disk whose rest is empty: programs that make boot floppies leave that away. */
const struct fdc_media *fdc_media_by_size(uint64_t bytes)
{
	const struct fdc_media *exact = bytes % KiB ? NULL : by_kib(bytes / KiB);
	if (exact)
		return exact;
	return bytes < 1440 * KiB ? by_kib(1440) : bytes < 2880 * KiB ? by_kib(2880) : NULL;
}

bool i82077_drive_type(uint64_t bytes, uint8_t *type)
{
	const struct fdc_media *media = fdc_media_by_size(bytes);
	*type = media ? media->drive : 0;
	return media;
}
