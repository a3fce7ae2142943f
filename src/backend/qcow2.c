/* SPDX-License-Identifier: MIT */
/* The qcow2 image format, versions 2 and 3: QEMU's docs/interop/qcow2.txt. Reading and writing, backing files, compressed clusters (read),
 * internal snapshots (kept), lazy reference counts (counted anew after a crash).
 *
 * Refused, in words: encryption, external data files, extended second-level entries, and what is not known. */
#include "backend/qcow2.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/log.h"

#define L1_BYTES_MAX (32 * MiB)
#define COUNTS_BYTES_MAX (8 * MiB)
#define BACKING_NAME_MAX 1023u
#define CLUSTER_BITS_MIN 9
#define CLUSTER_BITS_MAX 21
#define REFCOUNT_ORDER_MAX 6
#define HEADER_V2 72u
#define HEADER_V3 104u
#define EXTENSION_FORMAT 0xe2792acau
#define EXTENSIONS_MAX 64
#define FORMAT_NAME_MAX 16
#define TEMPORARY_BITS 16
enum { I_DIRTY = BIT(0), I_CORRUPT = BIT(1), I_DATA_FILE = BIT(2), I_COMPRESSION = BIT(3), I_EXTENDED_L2 = BIT(4) };

struct header { /* big-endian */
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_size, cluster_bits;
	uint64_t size;
	uint32_t crypt, l1_size;
	uint64_t l1_offset, counts_offset;
	uint32_t counts_clusters, snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear; /* from here on: version 3 */
	uint32_t refcount_order, length;
	uint8_t compression, reserved[7];
} __attribute__((packed));

static const struct block_format qcow2_format;

static struct qcow2 *of(struct block *b)
{
	return container_of(b, struct qcow2, block);
}

static uint32_t be32(uint32_t value)
{
	return __builtin_bswap32(value);
}

static int refuse(const struct qcow2 *q, const char *why)
{
	log_error("%s: this qcow2 image cannot be used: %s", q->path, why);
	return -EINVAL;
}

/* ---- The header --------------------------------------------------------------------------------------------------------- */

static int check_features(struct qcow2 *q, uint64_t incompatible)
{
	if (incompatible & I_CORRUPT && !q->block.readonly)
		return refuse(q, "it is marked as damaged; \"qemu-img check -r all\" may repair it, or say ,readonly");
	if (incompatible & I_DATA_FILE)
		return refuse(q, "its data are in another file");
	if (incompatible & I_EXTENDED_L2)
		return refuse(q, "it has extended second-level entries; \"qemu-img convert\" makes another one of it");
	if (incompatible & ~(I_DIRTY | I_CORRUPT | I_COMPRESSION))
		return refuse(q, "it has features that are not known here");
	return 0;
}

static int check_sizes(struct qcow2 *q)
{
	uint64_t covered = q->l1_size * q->l2_entries;
	if (!q->block.size || q->block.size > BIT(63) - 1)
		return refuse(q, "its size makes no sense");
	if (q->l1_size * sizeof(uint64_t) > L1_BYTES_MAX || ((q->block.size - 1) >> q->cluster_bits) >= covered)
		return refuse(q, "its first-level table does not fit its size");
	if (!q->l1_offset || q->l1_offset % q->cluster_size || q->l1_offset > BIT(56))
		return refuse(q, "its first-level table is at an impossible place");
	if (!q->counts_size || q->counts_size * sizeof(uint64_t) > COUNTS_BYTES_MAX)
		return refuse(q, "its table of reference counts has an impossible size");
	if (!q->counts_offset || q->counts_offset % q->cluster_size || q->counts_offset > BIT(56))
		return refuse(q, "its table of reference counts is at an impossible place");
	return 0;
}

static int parse(struct qcow2 *q, const struct header *h, uint64_t *incompatible)
{
	*incompatible = 0;
	q->version = be32(h->version);
	if (be32(h->magic) != QCOW2_MAGIC)
		return refuse(q, "it is none");
	if (q->version != 2 && q->version != 3)
		return refuse(q, "only versions 2 and 3 are known");
	q->cluster_bits = be32(h->cluster_bits);
	if (q->cluster_bits < CLUSTER_BITS_MIN || q->cluster_bits > CLUSTER_BITS_MAX)
		return refuse(q, "its clusters have an impossible size");
	if (be32(h->crypt))
		return refuse(q, "it is encrypted");
	q->refcount_order = 4;
	if (q->version == 3) {
		uint32_t length = be32(h->length);
		q->refcount_order = be32(h->refcount_order);
		if (length < HEADER_V3 || length > BIT(q->cluster_bits) || q->refcount_order > REFCOUNT_ORDER_MAX)
			return refuse(q, "its header makes no sense");
		*incompatible = be64(h->incompatible);
		q->compression = length > HEADER_V3 ? h->compression : 0;
	}
	if ((*incompatible & I_COMPRESSION) == 0 && q->compression)
		return refuse(q, "its compression makes no sense");
	q->cluster_size = BIT(q->cluster_bits);
	q->l2_entries = q->cluster_size / sizeof(uint64_t);
	q->block_counts = q->cluster_size * 8 >> q->refcount_order;
	q->block.size = be64(h->size);
	q->l1_size = be32(h->l1_size);
	q->l1_offset = be64(h->l1_offset);
	q->counts_offset = be64(h->counts_offset);
	q->counts_size = (uint64_t)be32(h->counts_clusters) * q->l2_entries;
	q->snapshots = be32(h->snapshots);
	q->snapshots_offset = be64(h->snapshots_offset);
	int error = check_features(q, *incompatible);
	return error ? error : check_sizes(q);
}

/* ---- The backing file --------------------------------------------------------------------------------------------------- */

/* The format that the image names for what is below. */
static int read_format(struct qcow2 *q, const struct header *h, char format[FORMAT_NAME_MAX])
{
	uint64_t at = q->version == 3 ? be32(h->length) : HEADER_V2, end = MIN(be64(h->backing_offset), q->cluster_size);
	format[0] = 0;
	for (unsigned i = 0; i < EXTENSIONS_MAX && at + 8 <= end; i++) {
		uint32_t head[2];
		int error = block_file_read_bytes(&q->file, at, head, sizeof(head));
		uint32_t type = be32(head[0]), length = be32(head[1]);
		if (error || !type)
			return error;
		if (type == EXTENSION_FORMAT && length < FORMAT_NAME_MAX) {
			format[length] = 0;
			return block_file_read_bytes(&q->file, at + 8, format, length);
		}
		at += 8 + align_up((uint64_t)length, 8);
	}
	return 0;
}

/* Names are relative to the folder of the image that has them. */
static char *beside(const char *path, const char *name)
{
	const char *slash = strrchr(path, '/');
	char *whole = NULL;
	if (name[0] == '/' || !slash || strstr(name, "://"))
		return strdup(name);
	if (asprintf(&whole, "%.*s/%s", (int)(slash - path), path, name) < 0)
		return NULL;
	return whole;
}

static int open_below(struct qcow2 *q, const char *path, const char *format, unsigned flags)
{
	static _Thread_local unsigned depth;
	struct stat mine, below;
	if (!fstat(q->file.fd, &mine) && !stat(path, &below) && mine.st_dev == below.st_dev && mine.st_ino == below.st_ino)
		return refuse(q, "it names itself as what is below it");
	if (depth == QCOW2_BACKING_MAX)
		return refuse(q, "too many files are below each other, or they go round in a circle");
	depth++;
	int error = block_open(&q->backing, path, format, (flags & BLOCK_DIRECT) | BLOCK_BACKING);
	depth--;
	if (error)
		log_error("%s needs the file %s below it", q->path, path);
	return error;
}

static int open_backing(struct qcow2 *q, const struct header *h, unsigned flags)
{
	uint32_t size = be32(h->backing_size);
	uint64_t offset = be64(h->backing_offset);
	char name[BACKING_NAME_MAX + 1], format[FORMAT_NAME_MAX];
	if (!offset)
		return 0;
	if (!size || size > BACKING_NAME_MAX || offset > q->cluster_size - size)
		return refuse(q, "the name of the file below it is at an impossible place");
	int error = block_file_read_bytes(&q->file, offset, name, size);
	if (!error)
		error = read_format(q, h, format);
	if (error)
		return error;
	name[size] = 0;
	char *path = beside(q->path, strncmp(name, "file:", 5) ? name : name + 5);
	error = path ? open_below(q, path, format[0] ? format : NULL, flags) : -ENOMEM;
	free(path);
	return error;
}

/* ---- Opening and closing ------------------------------------------------------------------------------------------------ */

static void qcow2_close(struct block *b)
{
	struct qcow2 *q = of(b);
	bool written = !q->block.readonly && !q->broken && !q->temporary && q->l1;
	int error = written ? qcow2_flush(b) : 0;
	if (!error && written)
		error = qcow2_flush(b); /* what the first released is counted now */
	if (error)
		log_error("%s: what was written last may be lost: %s", q->path, strerror(-error));
	block_close(q->backing);
	block_file_close(&q->file);
	qcow2_cache_fini(&q->l2);
	qcow2_cache_fini(&q->blocks);
	pthread_mutex_destroy(&q->lock);
	free(q->l1);
	free(q->counts);
	free(q->release);
	free(q->unpacked);
	free(q->scratch);
	free(q->path);
	free(q);
}

static int allocate(struct qcow2 *q)
{
	q->l1 = calloc(q->l1_size, sizeof(uint64_t));
	q->counts = calloc(q->counts_size, sizeof(uint64_t));
	q->unpacked = malloc(q->cluster_size);
	q->scratch = malloc(q->cluster_size);
	if (!q->l1 || !q->counts || !q->unpacked || !q->scratch)
		return -ENOMEM;
	int error = qcow2_cache_init(q, &q->l2);
	return error ? error : qcow2_cache_init(q, &q->blocks);
}

static int clear_dirty(struct qcow2 *q, uint64_t incompatible)
{
	int error = qcow2_recount(q);
	uint64_t value = be64(incompatible & ~I_DIRTY);
	return error ? error : block_file_write_bytes(&q->file, offsetof(struct header, incompatible), &value, sizeof(value));
}

static int load(struct qcow2 *q, unsigned flags)
{
	struct header h = { 0 };
	uint64_t incompatible;
	int error = block_file_read_bytes(&q->file, 0, &h, sizeof(h));
	if (!error)
		error = parse(q, &h, &incompatible);
	if (!error)
		error = allocate(q);
	if (error)
		return error;
	q->file_end = q->file.size;
	error = block_file_read_bytes(&q->file, q->l1_offset, q->l1, q->l1_size * sizeof(uint64_t));
	if (!error)
		error = block_file_read_bytes(&q->file, q->counts_offset, q->counts, q->counts_size * sizeof(uint64_t));
	if (!error)
		error = open_backing(q, &h, flags);
	if (!error && (incompatible & I_DIRTY) && !q->block.readonly)
		error = clear_dirty(q, incompatible);
	/* What knows of bits that we do not is told that we wrote. */
	uint64_t none = 0;
	if (!error && q->version == 3 && h.autoclear && !q->block.readonly)
		error = block_file_write_bytes(&q->file, offsetof(struct header, autoclear), &none, sizeof(none));
	return error;
}

static struct qcow2 *make(const char *path)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	if (!q)
		return NULL;
	q->file.fd = q->file.direct = -1;
	pthread_mutex_init(&q->lock, NULL);
	q->path = strdup(path);
	return q;
}

static int qcow2_open(struct block **b, const char *path, unsigned flags)
{
	struct qcow2 *q = make(path);
	int error = q && q->path ? block_file_open(&q->file, path, flags) : -ENOMEM;
	if (!error) {
		q->block.readonly = q->file.readonly;
		error = load(q, flags);
	}
	if (error) {
		if (q) {
			q->block.readonly = true; /* nothing of it is to be written */
			qcow2_close(&q->block);
		}
		return error;
	}
	*b = &q->block;
	return 0;
}

/* ---- Temporary images --------------------------------------------------------------------------------------------------- */

static int temporary_file(void)
{
	const char *folder = getenv("TMPDIR");
	folder = folder && *folder ? folder : "/var/tmp";
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		log_error("no temporary file for a snapshot in %s: %s; TMPDIR chooses another folder", folder, strerror(errno));
	return fd;
}

/* Header, then the table of reference counts with one block, then the first-level table: a file that can be loaded as any other. */
static int create(struct qcow2 *q, uint64_t size)
{
	uint64_t cluster = BIT(TEMPORARY_BITS), entries = cluster / sizeof(uint64_t);
	uint64_t l1_size = ((size - 1) >> TEMPORARY_BITS) / entries + 1, l1_clusters = (l1_size * sizeof(uint64_t) + cluster - 1) / cluster;
	struct header h = {
		.magic = be32(QCOW2_MAGIC), .version = be32(3), .cluster_bits = be32(TEMPORARY_BITS), .size = be64(size),
		.l1_size = be32((uint32_t)l1_size), .l1_offset = be64(3 * cluster), .counts_offset = be64(cluster),
		.counts_clusters = be32(1), .refcount_order = be32(4), .length = be32(HEADER_V3),
	};
	uint64_t first_block = be64(2 * cluster);
	uint16_t one = __builtin_bswap16(1);
	int error = ftruncate(q->file.fd, (off_t)((3 + l1_clusters) * cluster)) ? -errno : 0;
	if (!error)
		error = block_file_write_bytes(&q->file, 0, &h, sizeof(h));
	if (!error)
		error = block_file_write_bytes(&q->file, cluster, &first_block, sizeof(first_block));
	for (uint64_t i = 0; i < 3 + l1_clusters && !error; i++)
		error = block_file_write_bytes(&q->file, 2 * cluster + i * sizeof(one), &one, sizeof(one));
	q->file.size = (3 + l1_clusters) * cluster;
	return error;
}

int qcow2_overlay(struct block **b, struct block *backing)
{
	struct qcow2 *q = make("temporary snapshot");
	if (!q || !q->path) {
		block_close(backing);
		free(q);
		return -ENOMEM;
	}
	q->temporary = true;
	q->file.fd = temporary_file();
	int error = q->file.fd < 0 ? -errno : create(q, backing->size);
	if (!error)
		error = load(q, 0);
	q->backing = backing;
	q->block.format = &qcow2_format;
	if (error) {
		qcow2_close(&q->block);
		return error;
	}
	*b = &q->block;
	return 0;
}

static bool qcow2_probe(const uint8_t *start, size_t size)
{
	uint32_t magic;
	if (size < sizeof(magic))
		return false;
	memcpy(&magic, start, sizeof(magic));
	return be32(magic) == QCOW2_MAGIC;
}

static const struct block_format qcow2_format = {
	.name = "qcow2", .probe = qcow2_probe, .open = qcow2_open, .close = qcow2_close, .read = qcow2_read, .write = qcow2_write,
	.flush = qcow2_flush, .zero = qcow2_zero, .discard = qcow2_discard,
};
BLOCK_FORMAT(qcow2_format);
