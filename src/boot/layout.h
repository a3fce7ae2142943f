/* SPDX-License-Identifier: MIT */
/* Where the pieces of a guest's first program go: each must lie in RAM, and what the loader adds must not overlap them. */
#pragma once
#include "boot/boot.h"
#include "boot/e820.h"

#define LAYOUT_PIECES 64

struct layout_piece {
	gpa_t at;
	uint64_t size;        /* in memory; what the data does not cover is cleared */
	const uint8_t *data;
	uint64_t data_size;
};

struct layout {
	struct e820 map;      /* of the machine: what is RAM that firmware does not claim */
	struct layout_piece piece[LAYOUT_PIECES];
	unsigned count;
};

/* layout.c -- For a machine with `ram` bytes of RAM. */
void layout_init(struct layout *, uint64_t ram);
/* Adds a piece; `data` must live until layout_write. 0; -EINVAL if there is more data than room or the addresses wrap around, -EFAULT if
 * some of it is not free RAM, -ENOSPC if there are too many. A piece of no size is dropped. */
int layout_add(struct layout *, gpa_t at, uint64_t size, const uint8_t *data, uint64_t data_size);
/* The lowest free place at or above `from`, below 4 GiB, with `size` bytes at a multiple of `align` (a power of two); 0 if there is none. */
gpa_t layout_room(const struct layout *, gpa_t from, uint64_t size, uint64_t align);
/* Places for all modules of a request behind what is there, on pages, below 4 GiB. 0, or -errno after an error. */
int layout_modules(struct layout *, const struct boot_request *, gpa_t at[BOOT_MODULES]);
/* First byte behind all pieces below 4 GiB. */
gpa_t layout_end(const struct layout *);
/* What went wrong in layout_add, for the user. */
const char *layout_error(int error);
/* Copies all pieces into guest memory. 0 or -errno. */
int layout_write(struct vm *, const struct layout *);
