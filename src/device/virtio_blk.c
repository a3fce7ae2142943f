/* SPDX-License-Identifier: MIT */
/* Virtio block device: VIRTIO 1.2, section 5.2: reads, writes, flushes, discards and zeroes on several queues, in any order.
 *
 * Data go straight between the image and the guest's memory. A request that is under way when the state is saved is begun again
 * after a load. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backend/image.h"
#include "device/virtio_devices.h"
#include "util/log.h"

#define QUEUE_SIZE 256
#define QUEUES_MAX 16
#define QUEUES_AUTO 4
#define SLOTS (QUEUES_MAX * QUEUE_SIZE)
#define SLOT_BITS 12
#define SEGMENTS_MAX (QUEUE_SIZE - 2)      /* header and status take one descriptor each */
#define DISCARD_SECTORS_MAX (1u << 22)     /* 2 GiB */
#define DISCARD_SEGMENTS_MAX 1u
#define PAGE_SECTORS 8
#define CLASS 0x010000
_Static_assert(SLOTS == 1 << SLOT_BITS, "a slot's number is part of a tag");

enum {
	F_SEG_MAX = BIT(2), F_RO = BIT(5), F_BLK_SIZE = BIT(6), F_FLUSH = BIT(9), F_TOPOLOGY = BIT(10), F_CONFIG_WCE = BIT(11),
	F_MQ = BIT(12), F_DISCARD = BIT(13), F_WRITE_ZEROES = BIT(14),
};
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
#define ZEROES_UNMAP 1u

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};
struct range { /* of a discard or write zeroes */
	uint64_t sector;
	uint32_t sectors, flags;
};
struct config { /* 5.2.4 */
	uint64_t capacity;              /* sectors of 512 bytes */
	uint32_t size_max, seg_max;
	struct { uint16_t cylinders; uint8_t heads, sectors; } geometry;
	uint32_t blk_size;
	struct { uint8_t physical_block_exp, alignment_offset; uint16_t min_io_size; uint32_t opt_io_size; } topology;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));

struct request {
	struct virtq_chain *chain;
	uint32_t tag;
	uint64_t written;               /* bytes of data, when it went well */
	bool sync;                      /* a write that is not done before it is on the disk */
	struct iovec data[];            /* the chain's, without header and status */
};

struct blk {
	struct virtio virtio;
	uint8_t writeback;              /* the driver's choice: saved */
	struct image *image;
	struct config config;
	char serial[VIRTIO_BLK_SERIAL];
	struct request *slot[SLOTS];
	uint16_t free_slot[SLOTS];
	unsigned free_slots;
	uint32_t generation;            /* of tags: an answer to a request of before a reset finds nobody */
};

static struct blk *of(struct virtio *v)
{
	return container_of(v, struct blk, virtio);
}

static struct blk *of_device(struct device *d)
{
	return of(virtio_of(d));
}

/* ---- Requests ----------------------------------------------------------------------------------------------------------- */

static void answer(struct virtq_chain *c, uint64_t written, uint8_t status)
{
	struct virtq *q = c->queue;
	virtq_write(c, c->in_size - 1, &status, 1);
	virtq_push(c, status == S_OK ? written + 1 : c->in_size);
	virtq_interrupt(q);
}

/* The slot of a new request; there are as many as descriptors. */
static struct request *make(struct blk *b, struct virtq_chain *c)
{
	struct request *r = malloc(sizeof(*r) + (c->out + c->in) * sizeof(r->data[0]));
	if (!r || !b->free_slots) {
		vm_kill(b->virtio.device.vm, "out of memory for a request of %s", b->virtio.device.name);
		free(r);
		return NULL;
	}
	unsigned slot = b->free_slot[--b->free_slots];
	*r = (struct request){ .chain = c, .tag = b->generation++ << SLOT_BITS | slot };
	b->slot[slot] = r;
	return r;
}

static void release(struct blk *b, struct request *r)
{
	unsigned slot = r->tag % SLOTS;
	b->slot[slot] = NULL;
	b->free_slot[b->free_slots++] = (uint16_t)slot;
	free(r);
}

/* Copies the pieces of [offset, offset + size) of those of one direction. */
static unsigned data_pieces(struct iovec *to, const struct iovec *from, unsigned count, uint64_t offset, uint64_t size)
{
	unsigned pieces = 0;
	for (unsigned i = 0; i < count && size; i++) {
		uint64_t skip = MIN(offset, (uint64_t)from[i].iov_len), here = MIN(size, from[i].iov_len - skip);
		offset -= skip;
		if (here)
			to[pieces++] = (struct iovec){ (uint8_t *)from[i].iov_base + skip, here };
		size -= here;
	}
	return pieces;
}

static bool in_range(const struct blk *b, uint64_t sector, uint64_t bytes)
{
	return !(bytes % IMAGE_SECTOR) && sector <= b->config.capacity && bytes / IMAGE_SECTOR <= b->config.capacity - sector;
}

static void transfer(struct blk *b, struct virtq_chain *c, const struct header *h, bool write)
{
	uint64_t size = write ? c->out_size - sizeof(*h) : c->in_size - 1;
	if (!in_range(b, h->sector, size) || (write && image_is_readonly(b->image))) {
		answer(c, 0, S_IOERR);
		return;
	}
	struct request *r = make(b, c);
	if (!r)
		return;
	unsigned pieces = write ? data_pieces(r->data, c->iov, c->out, sizeof(*h), size) : data_pieces(r->data, c->iov + c->out, c->in, 0, size);
	r->written = write ? 0 : size;
	r->sync = write && !b->writeback;
	image_request(b->image, write ? IMAGE_WRITE : IMAGE_READ, r->tag, h->sector * IMAGE_SECTOR, size, r->data, pieces);
}

static void clear(struct blk *b, struct virtq_chain *c, bool zero)
{
	struct range range;
	bool one = c->out_size == sizeof(struct header) + sizeof(range);
	if (!one) {
		answer(c, 0, S_UNSUPP);
		return;
	}
	virtq_read(c, sizeof(struct header), &range, sizeof(range));
	uint64_t bytes = (uint64_t)range.sectors * IMAGE_SECTOR;
	if ((range.flags & ~ZEROES_UNMAP) || (!zero && range.flags)) {
		answer(c, 0, S_UNSUPP);
	} else if (image_is_readonly(b->image) || range.sectors > DISCARD_SECTORS_MAX || !in_range(b, range.sector, bytes)) {
		answer(c, 0, S_IOERR);
	} else {
		struct request *r = make(b, c);
		enum image_op op = !zero ? IMAGE_DISCARD : range.flags & ZEROES_UNMAP ? IMAGE_ZERO_UNMAP : IMAGE_ZERO;
		if (r)
			image_request(b->image, op, r->tag, range.sector * IMAGE_SECTOR, bytes, NULL, 0);
	}
}

static void get_id(struct blk *b, struct virtq_chain *c)
{
	size_t size = MIN(c->in_size - 1, sizeof(b->serial));
	virtq_write(c, 0, b->serial, size);
	answer(c, size, S_OK);
}

static void flush(struct blk *b, struct virtq_chain *c)
{
	struct request *r = make(b, c);
	if (r)
		image_request(b->image, IMAGE_FLUSH, r->tag, 0, 0, NULL, 0);
}

static void begin(struct blk *b, struct virtq_chain *c)
{
	struct header h;
	if (virtq_read(c, 0, &h, sizeof(h)) < sizeof(h) || !c->in_size) {
		virtio_break(&b->virtio, "a request without header or status");
		virtq_drop(c);
		return;
	}
	trace(disk, "%s: type %u, sector %lu, %lu bytes out, %lu in", b->virtio.device.name, h.type, h.sector, c->out_size, c->in_size);
	switch (h.type) {
	case T_IN:
		transfer(b, c, &h, false);
		break;
	case T_OUT:
		transfer(b, c, &h, true);
		break;
	case T_FLUSH:
		flush(b, c);
		break;
	case T_GET_ID:
		get_id(b, c);
		break;
	case T_DISCARD:
		clear(b, c, false);
		break;
	case T_WRITE_ZEROES:
		clear(b, c, true);
		break;
	default:
		answer(c, 0, S_UNSUPP);
	}
}

static void blk_notify(struct virtio *v, unsigned queue)
{
	struct virtq_chain *c;
	while ((c = virtq_pop(&v->queue[queue])))
		begin(of(v), c);
	image_kick(of(v)->image);
}

static void blk_resume(struct virtio *v, struct virtq_chain *c)
{
	begin(of(v), c);
	image_kick(of(v)->image);
}

static void blk_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct blk *b = of_device(d);
	const struct image_done *done = data;
	struct request *r = b->slot[done->tag % SLOTS];
	if (!r || r->tag != done->tag)
		return;
	if (r->sync && !done->error) { /* written, now to the disk */
		r->sync = false;
		image_request(b->image, IMAGE_FLUSH, r->tag, 0, 0, NULL, 0);
		image_kick(b->image);
		return;
	}
	struct virtq_chain *c = r->chain;
	uint64_t written = r->written;
	release(b, r);
	answer(c, written, done->error ? S_IOERR : S_OK);
}

/* All queues' requests wait for the same image: those of others are begun again. */
static void blk_forget(struct virtio *v, unsigned queue)
{
	struct blk *b = of(v);
	if (b->free_slots == SLOTS)
		return;
	image_drain(b->image);
	for (unsigned i = 0; i < SLOTS; i++) {
		struct request *r = b->slot[i];
		if (!r)
			continue;
		struct virtq_chain *c = r->chain;
		release(b, r);
		if (c->queue->index == queue || !v->status)
			virtq_drop(c);
		else
			begin(b, c);
	}
	image_kick(b->image);
}

/* ---- Configuration ------------------------------------------------------------------------------------------------------ */

static void config_read(struct virtio *v, unsigned offset, void *data, unsigned size)
{
	of(v)->config.writeback = of(v)->writeback;
	memcpy(data, (const uint8_t *)&of(v)->config + offset, size);
}

static void config_write(struct virtio *v, unsigned offset, const void *data, unsigned size)
{
	if (offset == offsetof(struct config, writeback) && size == 1 && virtio_has(v, F_CONFIG_WCE))
		of(v)->writeback = *(const uint8_t *)data & 1;
}

static void fill_config(struct blk *b, unsigned queues)
{
	b->config = (struct config){
		.capacity = image_size(b->image) / IMAGE_SECTOR, .seg_max = SEGMENTS_MAX, .blk_size = IMAGE_SECTOR,
		.topology = { .physical_block_exp = 3, .min_io_size = PAGE_SECTORS }, .num_queues = (uint16_t)queues,
		.max_discard_sectors = DISCARD_SECTORS_MAX, .max_discard_seg = DISCARD_SEGMENTS_MAX,
		.discard_sector_alignment = PAGE_SECTORS, .max_write_zeroes_sectors = DISCARD_SECTORS_MAX,
		.max_write_zeroes_seg = DISCARD_SEGMENTS_MAX, .write_zeroes_may_unmap = 1,
	};
}

/* 5.2.5.2: without FLUSH nobody could empty a cache, so there is none. */
static void blk_ready(struct virtio *v)
{
	if (!virtio_has(v, F_FLUSH))
		of(v)->writeback = 0;
}

static void blk_model_reset(struct virtio *v)
{
	of(v)->writeback = 1;
}

static const struct virtio_model model = {
	.type = VIRTIO_BLK, .class = CLASS,
	.features = F_SEG_MAX | F_BLK_SIZE | F_FLUSH | F_TOPOLOGY | F_CONFIG_WCE | F_MQ | F_DISCARD | F_WRITE_ZEROES,
	.config_read = config_read, .config_write = config_write, .notify = blk_notify, .quick = true, .ready = blk_ready, .reset = blk_model_reset,
	.forget = blk_forget, .resume = blk_resume,
};

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

static int blk_init(struct device *d)
{
	struct blk *b = of_device(d);
	const struct virtio_blk_config *config = d->place->config;
	unsigned queues = config->queues ? MIN(config->queues, QUEUES_MAX) : MIN(d->vm->config.cpus, QUEUES_AUTO);
	b->image = config->image;
	if (image_size(b->image) < IMAGE_SECTOR) {
		log_error("an image of %lu bytes is too small for a disk", image_size(b->image));
		b->image = NULL;
		return -EINVAL;
	}
	while (b->free_slots < SLOTS) {
		b->free_slot[b->free_slots] = (uint16_t)(SLOTS - 1 - b->free_slots);
		b->free_slots++;
	}
	const char *serial = config->serial ? config->serial : d->name;
	memcpy(b->serial, serial, MIN(strlen(serial), sizeof(b->serial)));
	fill_config(b, queues);
	b->writeback = 1;
	b->virtio.model = &model;
	b->virtio.features = model.features | (image_is_readonly(b->image) ? F_RO : 0);
	b->virtio.queues = queues;
	b->virtio.config_size = sizeof(struct config);
	int error = image_attach(b->image, d, 0);
	return error ? error : virtio_init(&b->virtio, QUEUE_SIZE);
}

static void blk_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int blk_post_load(struct device *d, uint32_t version)
{
	of_device(d)->writeback &= 1;
	return virtio_loaded(virtio_of(d));
}

static void blk_fini(struct device *d)
{
	struct blk *b = of_device(d);
	if (b->image)
		image_detach(b->image);
	for (unsigned i = 0; i < SLOTS; i++) {
		if (!b->slot[i])
			continue;
		free(b->slot[i]->chain);
		free(b->slot[i]);
	}
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct blk),
	FIELD_U8(struct blk, writeback),
	FIELD_END,
};

const struct device_class virtio_blk_class = {
	.name = "virtio-blk", .summary = "virtio disk", .size = sizeof(struct blk), .init = blk_init, .reset = blk_reset, .fini = blk_fini,
	.event = blk_event, .fields = fields, .version = 1, .post_load = blk_post_load,
};
DEVICE_CLASS(virtio_blk_class);
