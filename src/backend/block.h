/* SPDX-License-Identifier: MIT */
/* What an image is made of: formats that stand on each other (a qcow2 file on its backing file), at the bottom a file of the host.
 *
 * Everything here takes its time: it is called by the threads of an image (image.c), not by a processor's. Errors at opening are told
 * once, in words, with the name of the file; later ones are returned. */
#pragma once
#include <sys/uio.h>
#include "util/bits.h"
#include "util/set.h"

enum { BLOCK_READONLY = 1, BLOCK_DIRECT = 2 /* past the host's page cache */, BLOCK_BACKING = 4 /* stands under another: never written */ };

struct block {
	const struct block_format *format;
	uint64_t size;             /* bytes that the guest sees */
	bool readonly;
};

struct block_format {
	const char *name;
	/* Is it of this format, by the first bytes of a file? NULL: only when it is asked for by name, or nothing else fits. */
	bool (*probe)(const uint8_t *start, size_t size);
	/* By its name instead, as "nbd://": NULL for files. */
	bool (*claims)(const char *path);
	int (*open)(struct block **, const char *path, unsigned flags);
	void (*close)(struct block *);
	/* What follows may be called by several threads at once. All of it or -errno; within the size. */
	int (*read)(struct block *, uint64_t offset, const struct iovec *, unsigned count);
	int (*write)(struct block *, uint64_t offset, const struct iovec *, unsigned count);
	/* What was written before is on the host's disk. */
	int (*flush)(struct block *);
	/* Zeros from here on; `unmap`: gives the space back if that is possible. NULL: zeros are written. */
	int (*zero)(struct block *, uint64_t offset, uint64_t length, bool unmap);
	/* The contents do not matter any more. NULL: nothing happens. */
	int (*discard)(struct block *, uint64_t offset, uint64_t length);
	/* A descriptor whose bytes are the image's, for the host's asynchronous interface; NULL, or -1: there is none. */
	int (*descriptor)(struct block *);
};
SET_DECLARE(struct block_format, block_formats);
#define BLOCK_FORMAT(object) SET_ADD(struct block_format, block_formats, object)

/* block.c -- The format of that name; NULL after an error that says which there are. */
const struct block_format *block_named(const char *name);
/* format NULL: found by looking. 0 or -errno, after an error. */
int block_open(struct block **, const char *path, const char *format, unsigned flags);
void block_close(struct block *);
int block_read(struct block *, uint64_t offset, void *, size_t);
int block_zero(struct block *, uint64_t offset, uint64_t length, bool unmap);
/* Total of a list of pieces; the part of one that begins `offset` bytes in and has `size` bytes: returns how many pieces `to` got. */
uint64_t block_iov_size(const struct iovec *, unsigned count);
unsigned block_iov_part(struct iovec *to, const struct iovec *, unsigned count, uint64_t offset, uint64_t size);

/* block_file.c -- A file or block device of the host, locked against everybody who writes it when we read, or uses it when we write (QEMU's
 * tools too). Flags as above. 0 or -errno, after an error. */
struct block_file {
	int fd, direct;            /* direct: opened past the page cache, -1: is not */
	uint64_t size;
	bool readonly, device;
};
int block_file_open(struct block_file *, const char *path, unsigned flags);
void block_file_close(struct block_file *);
/* All of it or -errno. Beyond the end: reads give zeros, writes make the file longer. */
int block_file_read(struct block_file *, uint64_t offset, const struct iovec *, unsigned count);
int block_file_write(struct block_file *, uint64_t offset, const struct iovec *, unsigned count);
int block_file_read_bytes(struct block_file *, uint64_t offset, void *, size_t);
int block_file_write_bytes(struct block_file *, uint64_t offset, const void *, size_t);
int block_file_flush(struct block_file *);
int block_file_zero(struct block_file *, uint64_t offset, uint64_t length, bool unmap);
int block_file_discard(struct block_file *, uint64_t offset, uint64_t length);
