/* SPDX-License-Identifier: MIT */
/* The qcow2 format: random writes, zeros, discards and flushes on images of every kind that qemu-img makes, compared byte by byte, here
 * and by qemu-img; and images that are broken. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backend/block.h"
#include "backend/qcow2.h"
#include "test.h"

#define SIZE (5UL * 1024 * 1024 + 512 * 3)
#define LARGEST (300 * KiB)

static char in_memory[] = "/dev/shm/doppel-qcow2.XXXXXX", on_disk[] = "/tmp/doppel-qcow2.XXXXXX", *folder = in_memory;
static uint8_t *expected, *buffer;
static uint32_t seed = 1;

static uint32_t chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

__attribute__((format(printf, 1, 2))) static int shell(const char *format, ...)
{
	char command[1024], *with_folder;
	va_list args;
	va_start(args, format);
	vsnprintf(command, sizeof(command), format, args);
	va_end(args);
	if (asprintf(&with_folder, "cd %s && (%s) >log 2>&1", folder, command) < 0)
		return -1;
	int status = system(with_folder);
	free(with_folder);
	return status;
}

static const char *at(const char *name)
{
	static char path[4][128];
	static unsigned next;
	next = (next + 1) % 4;
	snprintf(path[next], sizeof(path[0]), "%s/%s", folder, name);
	return path[next];
}

static void store(const char *name, const uint8_t *data, size_t size)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	(void)!write(fd, data, size);
	close(fd);
}

static void noise(uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(1 + chance(255));
}

static bool same(struct block *b)
{
	memset(buffer, 0xee, SIZE);
	return !block_read(b, 0, buffer, SIZE) && !memcmp(buffer, expected, SIZE);
}

static int some_write(struct block *b, uint64_t offset, uint64_t size)
{
	static uint8_t data[LARGEST];
	struct iovec iov[3];
	noise(data, 64);
	for (uint64_t i = 64; i < size; i++)
		data[i] = data[i - 61];
	memcpy(expected + offset, data, size);
	uint64_t one = chance((uint32_t)size + 1), two = chance((uint32_t)(size - one) + 1);
	iov[0] = (struct iovec){ data, one };
	iov[1] = (struct iovec){ data + one, two };
	iov[2] = (struct iovec){ data + one + two, size - one - two };
	return b->format->write(b, offset, iov, 3);
}

static int some_operation(struct block *b)
{
	uint64_t size = 512 * (1 + chance(chance(4) ? 16 : LARGEST / 512 - 1)), offset = 512 * (uint64_t)chance((uint32_t)((SIZE - size) / 512));
	switch (chance(12)) {
	case 0:
		memset(expected + offset, 0, size);
		return block_zero(b, offset, size, chance(2));
	case 1: { /* what it holds then is not told: it is read */
		int error = b->format->discard(b, offset, size);
		return error ? error : block_read(b, offset, expected + offset, size);
	}
	case 2:
		return b->format->flush(b);
	case 3: {
		int error = block_read(b, offset, buffer, size);
		return error ? error : memcmp(buffer, expected + offset, size) ? -EILSEQ : 0;
	}
	default:
		return some_write(b, offset, size);
	}
}

static void exercise(const char *name, unsigned rounds)
{
	struct block *b;
	int error = 0;
	for (unsigned session = 0; session < 3 && !error; session++) {
		error = block_open(&b, at("image"), NULL, 0);
		if (error)
			break;
		if (!same(b))
			error = -EILSEQ;
		for (unsigned i = 0; i < rounds && !error; i++)
			error = some_operation(b);
		if (!error && !same(b))
			error = -EILSEQ;
		block_close(b);
	}
	ok(!error, "qcow2: %s: %s", name, error ? strerror(-error) : "reads what was written");
	ok(!shell("qemu-img check image"), "qcow2: %s: qemu-img finds nothing wrong", name);
	store("expected", expected, SIZE);
	ok(!shell("qemu-img convert -O raw image out && cmp out expected"), "qcow2: %s: qemu-img reads the same", name);
}

static void kinds(void)
{
	static const struct { const char *name, *make; bool full; } kind[] = {
		{ "version 3", "qemu-img create -f qcow2 image %lu", false },
		{ "version 2", "qemu-img create -f qcow2 -o compat=0.10 image %lu", false },
		{ "clusters of 512 bytes", "qemu-img create -f qcow2 -o cluster_size=512 image %lu", false },
		{ "clusters of 2 MiB", "qemu-img create -f qcow2 -o cluster_size=2M image %lu", false },
		{ "counts of 1 bit", "qemu-img create -f qcow2 -o refcount_bits=1 image %lu", false },
		{ "allocated before", "qemu-img create -f qcow2 -o preallocation=metadata image %lu", false },
		{ "deflate", "qemu-img convert -c -O qcow2 base image", true },
		{ "zstd", "qemu-img convert -c -O qcow2 -o compression_type=zstd base image", true },
		{ "a raw file below, version 2", "qemu-img create -f qcow2 -o compat=0.10 -b base -F raw image %lu", true },
		{ "two files below", "qemu-img create -f qcow2 -b base -F raw middle && qemu-img create -f qcow2 -b middle -F qcow2 -o cluster_size=4k image", true },
		{ "a smaller file below", "head -c 1000000 base >small && qemu-img create -f qcow2 -b small -F raw image %lu", true },
		{ "a snapshot inside", "qemu-img convert -O qcow2 base image && qemu-img snapshot -c one image", true },
	};
	uint8_t *base = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++) /* compressible, with holes */
		base[i] = i / 200000 % 3 ? (uint8_t)(i / 37 ^ i >> 13) : 0;
	for (unsigned i = 0; i < ARRAY_SIZE(kind); i++) {
		bool small = strstr(kind[i].make, "small");
		store("base", base, SIZE);
		memset(expected, 0, SIZE);
		if (kind[i].full)
			memcpy(expected, base, small ? 1000000 : SIZE);
		char make[512];
		snprintf(make, sizeof(make), kind[i].make, SIZE);
		if (shell("rm -f image; %s", make)) {
			ok(false, "qcow2: %s: qemu-img makes it", kind[i].name);
			shell("cat log >&2");
			continue;
		}
		exercise(kind[i].name, 150);
		if (strstr(kind[i].name, "snapshot"))
			ok(!shell("qemu-img convert -l one -O raw image out && cmp out base"), "qcow2: the snapshot inside is untouched");
		else if (kind[i].full && !small)
			ok(!shell("test $(stat -c %%s base) = %lu", SIZE), "qcow2: %s: what is below is untouched", kind[i].name);
	}
	free(base);
}

static void growing(void)
{
	struct block *b;
	ok(!shell("rm -f image; qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 image 64M"), "qcow2: an image of small clusters");
	int error = block_open(&b, at("image"), NULL, 0);
	if (error) {
		ok(false, "qcow2: opens");
		return;
	}
	uint8_t *data = malloc(MiB);
	noise(data, MiB);
	for (unsigned i = 0; i < 24 && !error; i++) {
		struct iovec iov = { data, MiB };
		error = b->format->write(b, i * MiB, &iov, 1);
	}
	block_close(b);
	ok(!error && !shell("qemu-img check image"), "qcow2: the table of counts grows: %s", strerror(-error));
	free(data);
}

static void overlay(void)
{
	struct block *below, *b;
	uint8_t byte;
	noise(expected, SIZE);
	store("base", expected, SIZE);
	ok(!block_open(&below, at("base"), "raw", BLOCK_READONLY) && !qcow2_overlay(&b, below), "qcow2: a temporary image");
	int error = 0;
	for (unsigned i = 0; i < 400 && !error; i++)
		error = some_operation(b);
	ok(!error && same(b), "qcow2: keeps what is written");
	block_close(b);
	store("expected", expected, SIZE);
	ok(shell("cmp base expected"), "qcow2: and the image below does not have it");
	ok(!block_open(&below, at("base"), "raw", 0) && !block_read(below, 0, &byte, 1), "qcow2: which is free again");
	block_close(below);
}

/* ---- Broken images ------------------------------------------------------------------------------------------------------ */

static void patch(uint64_t offset, const void *data, size_t size)
{
	int fd = open(at("image"), O_WRONLY);
	(void)!pwrite(fd, data, size, (off_t)offset);
	close(fd);
}

static void patch32(uint64_t offset, uint32_t value)
{
	value = __builtin_bswap32(value);
	patch(offset, &value, sizeof(value));
}

static void patch64(uint64_t offset, uint64_t value)
{
	value = __builtin_bswap64(value);
	patch(offset, &value, sizeof(value));
}

/* A good one, again. */
static void make_image(void)
{
	static uint8_t *good;
	static size_t size;
	struct stat status;
	if (!good) {
		shell("rm -f image; qemu-img create -f qcow2 image %lu && qemu-io -c 'write -P 7 0 200k' image", SIZE);
		int fd = open(at("image"), O_RDONLY);
		fstat(fd, &status);
		size = (size_t)status.st_size;
		good = malloc(size);
		(void)!pread(fd, good, size, 0);
		close(fd);
	}
	unlink(at("image"));
	store("image", good, size);
}

static bool refused(void)
{
	struct block *b;
	if (block_open(&b, at("image"), "qcow2", 0))
		return true;
	block_close(b);
	return false;
}

/* Opens, and every use fails or works, but ends. */
static bool usable(bool read_fails, bool write_fails)
{
	struct block *b;
	uint8_t data[512] = { 1 };
	struct iovec iov = { data, sizeof(data) };
	if (block_open(&b, at("image"), "qcow2", 0))
		return false;
	int read = block_read(b, 0, data, sizeof(data)), write = b->format->write(b, 0, &iov, 1);
	b->format->flush(b);
	block_close(b);
	return !!read == read_fails && !!write == write_fails;
}

static void broken(void)
{
	static const struct { uint64_t offset; unsigned size; uint64_t value; const char *name; } header[] = {
		{ 4, 4, 4, "version 4" }, { 20, 4, 8, "clusters of 256 bytes" }, { 20, 4, 22, "clusters of 4 MiB" },
		{ 20, 4, 0xffffffff, "clusters of no size" }, { 24, 8, 0, "no size" }, { 24, 8, UINT64_MAX, "a negative size" },
		{ 24, 8, 1ULL << 50, "more than its table covers" }, { 32, 4, 1, "encrypted" }, { 36, 4, 0, "no first-level table" },
		{ 36, 4, 0xffffffff, "a huge first-level table" }, { 40, 8, 0, "a first-level table at 0" },
		{ 40, 8, 0x30001, "a first-level table at an odd place" }, { 48, 8, 0, "counts at 0" },
		{ 48, 8, 0x10001, "counts at an odd place" }, { 56, 4, 0, "no counts" }, { 56, 4, 0x7fffffff, "a huge table of counts" },
		{ 72, 8, 2, "marked as damaged" }, { 72, 8, 4, "an external file" }, { 72, 8, 16, "extended entries" },
		{ 72, 8, 1ULL << 40, "an unknown feature" }, { 96, 4, 7, "counts of 128 bits" }, { 100, 4, 8, "a short header" },
		{ 100, 4, 0xffffffff, "a long header" }, { 8, 8, 0xffff, "a name below that is outside" },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(header); i++) {
		make_image();
		if (header[i].size == 4)
			patch32(header[i].offset, (uint32_t)header[i].value);
		else
			patch64(header[i].offset, header[i].value);
		if (header[i].offset == 8)
			patch32(16, 100);
		ok(refused(), "qcow2: refused: %s", header[i].name);
	}
	make_image();
	ok(!truncate(at("image"), 100) && refused(), "qcow2: refused: a file that was cut");
	shell("rm -f image; qemu-img create -f qcow2 -b missing -F raw -u image 1M");
	ok(refused(), "qcow2: refused: what is below is missing");
	shell("rm -f image; qemu-img create -f qcow2 -b image -F qcow2 -u image 1M");
	ok(refused(), "qcow2: refused: it is below itself");
	shell("rm -f image; qemu-img create -f qcow2 -b other -F qcow2 -u image 1M; qemu-img create -f qcow2 -b image -F qcow2 -u other 1M");
	ok(refused(), "qcow2: refused: two that are below each other");
	shell("rm -f image; qemu-img create -f qcow2 -b base -F nonsense -u image 1M");
	ok(refused(), "qcow2: refused: below is a format that is none");

	make_image(); /* 64 KiB clusters: header, counts, block of counts, L1, L2, data */
	patch64(0x30000, 0x40001ULL << 9 | L2_COPIED);
	ok(usable(true, true), "qcow2: a second-level table at an odd place");
	make_image();
	patch64(0x30000, 0x00ffffffffff0000ULL | L2_COPIED);
	ok(usable(false, false) || usable(true, true), "qcow2: a second-level table far behind the end");
	make_image();
	patch64(0x40000, 0x30000ULL | L2_COPIED);
	ok(usable(true, true), "qcow2: data over the first-level table");
	make_image();
	patch64(0x40000, 0x10000ULL | L2_COPIED);
	ok(usable(true, true), "qcow2: data over the counts");
	make_image();
	patch64(0x40000, 0x200ULL);
	ok(usable(true, true), "qcow2: data over the header");
	make_image();
	patch64(0x40000, BIT(62) | 0x50000);
	ok(usable(true, true), "qcow2: a compressed cluster that is none");
	make_image();
	patch64(0x40000, BIT(62) | ((1ULL << 54) - 1));
	ok(usable(true, true), "qcow2: a compressed cluster far behind the end");
	make_image();
	patch64(0x10000, 0x20001ULL << 9);
	ok(usable(false, false) || usable(false, true), "qcow2: counts at an odd place");
	make_image();
	patch64(0x40000, 0x50000); /* not COPIED: a write allocates */
	uint8_t ones[64];
	memset(ones, 0xff, sizeof(ones));
	patch(0x20000, ones, sizeof(ones));
	ok(usable(false, false), "qcow2: counts that are all used");
	make_image();
	patch64(72, 1);
	memset(ones, 0, sizeof(ones));
	patch(0x20000, ones, sizeof(ones));
	ok(usable(false, false) && !shell("qemu-img check image"), "qcow2: not closed: counted anew");
}

int main(void)
{
	expected = malloc(SIZE);
	buffer = malloc(SIZE);
	if (!mkdtemp(folder))
		folder = mkdtemp(on_disk);
	if (!folder || shell("qemu-img --version")) {
		skip("qcow2 - needs qemu-img (Debian's package qemu-utils)");
		rmdir(folder);
		return 0;
	}
	kinds();
	growing();
	overlay();
	broken();
	shell("rm -r %s", folder);
	free(expected);
	free(buffer);
	return done();
}
