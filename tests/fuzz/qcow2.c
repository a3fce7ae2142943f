/* SPDX-License-Identifier: MIT */
/* Fuzz target: any bytes as a qcow2 image, and as the operations on it. The start is a valid header, since few inputs would get past it. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "backend/block.h"

#define OPERATIONS 8
#define LARGEST 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t word(const uint8_t *data, size_t size, size_t at)
{
	uint32_t value = 0;
	if (at + sizeof(value) <= size)
		memcpy(&value, data + at, sizeof(value));
	return value;
}

static void use(struct block *b, const uint8_t *data, size_t size)
{
	static uint8_t buffer[LARGEST];
	for (unsigned i = 0; i < OPERATIONS; i++) {
		uint32_t what = word(data, size, 4 * i);
		uint64_t offset = (uint64_t)(what >> 4) * 512 % b->size, length = MIN(b->size - offset, (uint64_t)LARGEST);
		struct iovec iov = { buffer, length };
		switch (what & 7) {
		case 0: b->format->flush(b); break;
		case 1: b->format->discard(b, offset, length); break;
		case 2: block_zero(b, offset, length, true); break;
		case 3: case 4: b->format->write(b, offset, &iov, 1); break;
		default: b->format->read(b, offset, &iov, 1);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* version 3, clusters of 512 bytes, 64 KiB, L1 at 600h, counts at 200h */
	static const uint8_t start[112] = { 'Q', 'F', 'I', 0xfb, [7] = 3, [23] = 9, [29] = 1, [39] = 2, [46] = 6, [54] = 2, [59] = 1,
		[99] = 4, [103] = 104 };
	struct block *b;
	char path[32];
	int fd = memfd_create("fuzz", MFD_CLOEXEC), quiet = -1, log = dup(2);
	if (size < 1)
		goto out;
	(void)!write(fd, data, size);
	if (data[0] & 1)
		(void)!pwrite(fd, start, sizeof(start), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	quiet = memfd_create("log", MFD_CLOEXEC);
	dup2(quiet, 2);
	if (!block_open(&b, path, "qcow2", data[0] & 2 ? BLOCK_READONLY : 0)) {
		use(b, data, size);
		block_close(b);
	}
	dup2(log, 2);
out:
	close(fd);
	close(log);
	if (quiet >= 0)
		close(quiet);
	return 0;
}
