/* SPDX-License-Identifier: MIT */
/* Images for tests of drives: temporary files whose every sector begins with its number, and the time that a request to them takes. */
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>
#include "backend/image.h"
#include "machine.h"

#define REQUEST_NS 100000 /* longer than an image takes in stepped time */

struct medium {
	char path[64];
	struct image *image;
};

/* Each sector: its number in 32 bits, then bytes that depend on number and place. */
__attribute__((unused)) static void medium_sector(uint8_t data[IMAGE_SECTOR], uint32_t number)
{
	for (unsigned i = 0; i < IMAGE_SECTOR; i++)
		data[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
	memcpy(data, &number, sizeof(number));
}

__attribute__((unused)) static struct medium medium_make(uint32_t sectors, unsigned flags)
{
	struct medium m = { .path = "/tmp/doppel-medium.XXXXXX" };
	int fd = mkstemp(m.path);
	for (uint32_t i = 0; i < sectors; i++) {
		uint8_t data[IMAGE_SECTOR];
		medium_sector(data, i);
		if (write(fd, data, sizeof(data)) != sizeof(data))
			exit(1);
	}
	close(fd);
	if (image_open(&m.image, m.path, flags))
		exit(1);
	return m;
}

/* What stands in the file now. */
__attribute__((unused)) static bool medium_holds(const struct medium *m, uint32_t sector, const uint8_t wanted[IMAGE_SECTOR])
{
	uint8_t data[IMAGE_SECTOR];
	int fd = open(m->path, O_RDONLY);
	bool same = pread(fd, data, sizeof(data), (off_t)sector * IMAGE_SECTOR) == sizeof(data) && !memcmp(data, wanted, sizeof(data));
	close(fd);
	return same;
}

/* A host that has no room: nothing is written beyond the first `sectors` of any file; 0: has it again. */
__attribute__((unused)) static void host_full(uint32_t sectors)
{
	struct rlimit limit;
	getrlimit(RLIMIT_FSIZE, &limit);
	limit.rlim_cur = sectors ? sectors * (rlim_t)IMAGE_SECTOR : limit.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
}

__attribute__((unused)) static void medium_free(struct medium *m)
{
	image_close(m->image);
	unlink(m->path);
}
