/* SPDX-License-Identifier: MIT */
/* A file or block device of the host under an image.
 *
 * Locks are those of QEMU and its tools, so that both respect each other: an open file description holds a shared lock on byte
 * 100 + n if it uses right n, and on byte 200 + n if it wants nobody else to use right n; who opens checks for the other kind. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backend/block.h"
#include "util/log.h"

#define DIRECT_ALIGN 4096u
#define LOCK_USED 100
#define LOCK_REFUSED 200
enum right { RIGHT_READ = 0, RIGHT_WRITE = 1, RIGHT_RESIZE = 3, RIGHTS = 4 };

static int refuse(const char *path, int error)
{
	if (error == -ENOENT && strchr(path, ','))
		log_error("%s: %s (words behind a comma that are no options are part of the name)", path, strerror(-error));
	else if (error == -EACCES || error == -EROFS || error == -EPERM)
		log_error("%s: %s; if it is only to be read, say ,readonly behind its name", path, strerror(-error));
	else
		log_error("%s: %s", path, strerror(-error));
	return error;
}

/* ---- Locks -------------------------------------------------------------------------------------------------------------- */

/* A host without such locks (some network file systems) does not stop us. */
static bool others_hold(int fd, off_t at)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
	return !fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK;
}

static void hold(int fd, off_t at)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1 };
	(void)!fcntl(fd, F_OFD_SETLK, &lock);
}

static int lock_file(int fd, const char *path, bool readonly)
{
	static const enum right refused[] = { RIGHT_WRITE, RIGHT_RESIZE };
	bool busy = false;
	hold(fd, LOCK_USED + RIGHT_READ);
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		if (!readonly)
			hold(fd, LOCK_USED + refused[i]);
		hold(fd, LOCK_REFUSED + refused[i]);
	}
	busy |= others_hold(fd, LOCK_REFUSED + RIGHT_READ);
	for (unsigned i = 0; i < ARRAY_SIZE(refused); i++) {
		busy |= !readonly && others_hold(fd, LOCK_REFUSED + refused[i]);
		busy |= others_hold(fd, LOCK_USED + refused[i]);
	}
	if (!busy)
		return 0;
	log_error("%s is in use by another machine, or for another disk of this one%s", path, readonly ? ", which writes it" : "");
	return -EBUSY;
}

/* ---- Opening ------------------------------------------------------------------------------------------------------------ */

static int check(struct block_file *f, const char *path)
{
	struct stat status;
	if (fstat(f->fd, &status))
		return refuse(path, -errno);
	if (S_ISDIR(status.st_mode))
		return refuse(path, -EISDIR);
	if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
		log_error("%s cannot be an image: it is neither a file nor a block device", path);
		return -EINVAL;
	}
	off_t size = lseek(f->fd, 0, SEEK_END);
	if (size < 0)
		return refuse(path, -errno);
	if (!size) {
		log_error("%s cannot be an image: it is empty", path);
		return -EINVAL;
	}
	f->size = (uint64_t)size;
	f->device = S_ISBLK(status.st_mode);
	return lock_file(f->fd, path, f->readonly);
}

static int open_direct(struct block_file *f, const char *path, int flags)
{
	f->direct = open(path, flags | O_DIRECT);
	if (f->direct >= 0)
		return 0;
	if (errno != EINVAL)
		return refuse(path, -errno);
	log_error("%s: its file system has no way past the page cache; leave ,cache=none out", path);
	return -EINVAL;
}

int block_file_open(struct block_file *f, const char *path, unsigned flags)
{
	bool readonly = flags & (BLOCK_READONLY | BLOCK_BACKING);
	int how = (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	*f = (struct block_file){ .fd = open(path, how), .direct = -1, .readonly = readonly };
	if (f->fd < 0)
		return refuse(path, -errno);
	int error = check(f, path);
	if (!error && (flags & BLOCK_DIRECT))
		error = open_direct(f, path, how);
	if (error)
		block_file_close(f);
	return error;
}

void block_file_close(struct block_file *f)
{
	if (f->fd >= 0)
		close(f->fd);
	if (f->direct >= 0)
		close(f->direct);
	f->fd = f->direct = -1;
}

/* ---- Transfers ---------------------------------------------------------------------------------------------------------- */

static bool aligned(const struct iovec *iov, unsigned count, uint64_t offset)
{
	uint64_t all = offset;
	for (unsigned i = 0; i < count; i++)
		all |= (uint64_t)(uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return !(all % DIRECT_ALIGN);
}

static void clear_rest(const struct iovec *iov, unsigned count, uint64_t offset)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t skip = MIN(offset, (uint64_t)iov[i].iov_len);
		memset((uint8_t *)iov[i].iov_base + skip, 0, iov[i].iov_len - skip);
		offset -= skip;
	}
}

/* The rest of an interrupted or short transfer is asked for again. What cannot go past the page cache goes through it: the host keeps
 * both in step. */
static int transfer(struct block_file *f, bool write, uint64_t offset, const struct iovec *iov, unsigned count)
{
	int fd = f->direct >= 0 && aligned(iov, count, offset) ? f->direct : f->fd;
	uint64_t size = block_iov_size(iov, count), at = 0;
	struct iovec part[IOV_MAX];
	while (at < size) {
		unsigned pieces = block_iov_part(part, iov, MIN(count, (unsigned)IOV_MAX), at, size - at);
		if (!pieces) { /* more pieces than one call takes */
			uint64_t taken = block_iov_size(iov, IOV_MAX);
			return transfer(f, write, offset + taken, iov + IOV_MAX, count - IOV_MAX);
		}
		ssize_t n = write ? pwritev(fd, part, (int)pieces, (off_t)(offset + at)) : preadv(fd, part, (int)pieces, (off_t)(offset + at));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && fd == f->direct) {
			fd = f->fd;
			continue;
		}
		if (n < 0)
			return -errno;
		if (!n && write)
			return -EIO;
		if (!n) {
			clear_rest(iov, count, at);
			return 0;
		}
		at += (uint64_t)n;
	}
	return 0;
}

int block_file_read(struct block_file *f, uint64_t offset, const struct iovec *iov, unsigned count)
{
	return transfer(f, false, offset, iov, count);
}

int block_file_write(struct block_file *f, uint64_t offset, const struct iovec *iov, unsigned count)
{
	return f->readonly ? -EROFS : transfer(f, true, offset, iov, count);
}

int block_file_read_bytes(struct block_file *f, uint64_t offset, void *data, size_t size)
{
	struct iovec iov = { data, size };
	return block_file_read(f, offset, &iov, 1);
}

int block_file_write_bytes(struct block_file *f, uint64_t offset, const void *data, size_t size)
{
	struct iovec iov = { (void *)data, size };
	return block_file_write(f, offset, &iov, 1);
}

int block_file_flush(struct block_file *f)
{
	return f->readonly || !fdatasync(f->fd) ? 0 : -errno;
}

static int punch(struct block_file *f, int mode, uint64_t offset, uint64_t length)
{
	if (f->readonly)
		return -EROFS;
	while (fallocate(f->fd, mode, (off_t)offset, (off_t)length))
		if (errno != EINTR)
			return errno == ENOSYS || errno == ENODEV ? -EOPNOTSUPP : -errno;
	return 0;
}

/* A hole reads as zeros, on a block device too (or it is refused). */
int block_file_zero(struct block_file *f, uint64_t offset, uint64_t length, bool unmap)
{
	int error = unmap ? punch(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) : -EOPNOTSUPP;
	return error == -EOPNOTSUPP ? punch(f, FALLOC_FL_ZERO_RANGE, offset, length) : error;
}

int block_file_discard(struct block_file *f, uint64_t offset, uint64_t length)
{
	int error = punch(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
	return error == -EOPNOTSUPP ? 0 : error;
}
