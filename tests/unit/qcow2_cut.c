/* SPDX-License-Identifier: MIT */
/* Power cuts under qcow2: what reaches the file is logged, and the file is put together again as a cut at any moment could leave it: all that
 * was before the last barrier, and of what came after it any sectors. The tables must make sense (qemu-img check: lost clusters are no
 * harm), and the guest must find every write that it had flushed, or a later one. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "backend/block.h"
#include "test.h"

#define SIZE (2UL * 1024 * 1024)
#define SECTOR 512u
#define SECTORS (SIZE / SECTOR)
#define OPERATIONS 250
#define CUTS 25
#define LARGEST 64 /* sectors */

enum kind { WRITE, CUT_OFF, PUNCH, BARRIER, BEGUN, FLUSHED };
struct entry {
	enum kind kind;
	uint64_t offset, length;
	uint8_t *data;
};

static char in_memory[] = "/dev/shm/doppel-cut.XXXXXX", on_disk[] = "/tmp/doppel-cut.XXXXXX", *folder = in_memory;
static struct entry *log_;
static size_t entries, room;
static bool logging;
static uint32_t seed = 1;
static struct { uint64_t first, count; bool zero; } operation[OPERATIONS + 1];

static uint32_t chance(uint32_t below)
{
	seed = seed * 1664525 + 1013904223;
	return (uint32_t)((uint64_t)(seed >> 4) * below >> 28);
}

/* ---- What the image does to its file: instead of the C library's -------------------------------------------------------- */

static void note(enum kind kind, uint64_t offset, uint64_t length, uint8_t *data)
{
	if (!logging)
		return;
	if (entries == room)
		log_ = realloc(log_, (room = 2 * room + 1024) * sizeof(*log_));
	log_[entries++] = (struct entry){ kind, offset, length, data };
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	uint64_t size = block_iov_size(iov, (unsigned)count), at = 0;
	uint8_t *copy = malloc(size + 1);
	for (int i = 0; i < count; at += iov[i++].iov_len)
		memcpy(copy + at, iov[i].iov_base, iov[i].iov_len);
	ssize_t n = syscall(SYS_pwrite64, fd, copy, size, offset);
	if (logging)
		note(WRITE, (uint64_t)offset, size, copy);
	else
		free(copy);
	return n;
}

int ftruncate(int fd, off_t length)
{
	note(CUT_OFF, 0, (uint64_t)length, NULL);
	return (int)syscall(SYS_ftruncate, fd, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	note(PUNCH, (uint64_t)offset, (uint64_t)length, NULL);
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

int fdatasync(int fd)
{
	note(BARRIER, 0, 0, NULL);
	return 0;
}

/* ---- The guest ---------------------------------------------------------------------------------------------------------- */

__attribute__((format(printf, 1, 2))) static int shell(const char *format, ...)
{
	char text[512], command[640];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	snprintf(command, sizeof(command), "cd %s && (%s) >out 2>&1", folder, text);
	return WEXITSTATUS(system(command));
}

static const char *at(const char *name)
{
	static char path[2][128];
	static unsigned next;
	snprintf(path[next ^= 1], sizeof(path[0]), "%s/%s", folder, name);
	return path[next];
}

/* Each sector that an operation writes holds the operation's number. */
static int run_guest(struct block *b)
{
	static uint64_t data[LARGEST * SECTOR / 8];
	int error = 0;
	for (unsigned i = 1; i <= OPERATIONS && !error; i++) {
		operation[i].count = 1 + chance(LARGEST);
		operation[i].first = chance((uint32_t)(SECTORS - operation[i].count));
		operation[i].zero = !chance(8);
		note(BEGUN, i, 0, NULL);
		for (unsigned w = 0; w < operation[i].count * SECTOR / 8; w++)
			data[w] = i;
		struct iovec iov = { data, operation[i].count * SECTOR };
		if (operation[i].zero)
			error = block_zero(b, operation[i].first * SECTOR, iov.iov_len, true);
		else
			error = b->format->write(b, operation[i].first * SECTOR, &iov, 1);
		if (!error && !chance(6)) {
			error = b->format->flush(b);
			note(FLUSHED, i, 0, NULL);
		}
	}
	return error;
}

/* ---- A cut -------------------------------------------------------------------------------------------------------------- */

static void apply(int fd, const struct entry *e, bool whole)
{
	static const uint8_t zeros[SECTOR];
	if (e->kind == CUT_OFF && (whole || chance(2))) {
		struct stat status;
		if (!fstat(fd, &status) && (uint64_t)status.st_size < e->length)
			(void)!syscall(SYS_ftruncate, fd, e->length);
	}
	if (e->kind != WRITE && e->kind != PUNCH)
		return;
	for (uint64_t i = 0; i < e->length; i += SECTOR) {
		uint64_t size = MIN(e->length - i, (uint64_t)SECTOR);
		if (whole || chance(2))
			(void)!syscall(SYS_pwrite64, fd, e->data ? e->data + i : zeros, size, e->offset + i);
	}
}

static bool holds(const uint8_t *disk, uint64_t sector, uint32_t flushed, uint32_t begun)
{
	uint64_t found;
	uint32_t last = 0;
	memcpy(&found, disk + sector * SECTOR, sizeof(found));
	for (uint32_t i = 1; i <= begun; i++) {
		if (sector < operation[i].first || sector >= operation[i].first + operation[i].count)
			continue;
		if (i <= flushed)
			last = operation[i].zero ? 0 : i;
		else if (found == (operation[i].zero ? 0 : i))
			return true;
	}
	return found == last;
}

static void cut(const char *name, size_t where)
{
	static uint8_t disk[SIZE];
	size_t barrier = 0;
	uint32_t flushed = 0, begun = 0;
	shell("cp start image");
	int fd = open(at("image"), O_RDWR), bad = 0;
	for (size_t i = 0; i < where; i++) {
		barrier = log_[i].kind == BARRIER ? i : barrier;
		flushed = log_[i].kind == FLUSHED ? (uint32_t)log_[i].offset : flushed;
		begun = log_[i].kind == BEGUN ? (uint32_t)log_[i].offset : begun;
	}
	for (size_t i = 0; i < where; i++)
		apply(fd, &log_[i], i < barrier);
	close(fd);
	int status = shell("qemu-img check image");
	struct block *b;
	int error = block_open(&b, at("image"), NULL, BLOCK_READONLY);
	if (!error) {
		error = block_read(b, 0, disk, SIZE);
		block_close(b);
	}
	for (uint64_t s = 0; s < SECTORS && !error; s++)
		bad += !holds(disk, s, flushed, begun);
	ok((status == 0 || status == 3) && !error && !bad, "power cut: %s: after %zu of %zu: check %d, %s, %d sectors lost, %u of %u operations flushed", name,
	   where, entries, status, error ? strerror(-error) : "readable", bad, flushed, begun);
}

static void image(const char *name, const char *make)
{
	struct block *b;
	if (shell("rm -f image start; head -c %lu /dev/zero >base; %s && cp image start", SIZE, make) || block_open(&b, at("image"), NULL, 0)) {
		ok(false, "power cut: %s: an image", name);
		return;
	}
	logging = true;
	int error = run_guest(b);
	logging = false;
	ok(!error, "power cut: %s: the guest's writes", name);
	block_close(b);
	for (unsigned i = 0; i < CUTS; i++)
		cut(name, 1 + chance((uint32_t)entries));
	while (entries)
		free(log_[--entries].data);
}

int main(void)
{
	if (!mkdtemp(folder))
		folder = mkdtemp(on_disk);
	if (!folder || shell("qemu-img --version")) {
		skip("power cut - needs qemu-img (Debian's package qemu-utils)");
		return 0;
	}
	image("clusters of 4 KiB", "qemu-img create -f qcow2 -o cluster_size=4k image 2M");
	image("clusters of 512 bytes", "qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 image 2M");
	image("a snapshot inside", "qemu-img convert -O qcow2 -o cluster_size=4k -S 0 base image && qemu-img snapshot -c one image");
	shell("cd /; rm -r %s", folder);
	free(log_);
	return done();
}
