/* SPDX-License-Identifier: MIT */
/* Split virtqueues: VIRTIO 1.2, section 2.7.
 *
 * The driver owns all three parts of a ring and may change any byte at any time, so each is read once, checked, and then used.
 * A chain becomes a list of pieces of host memory when it is taken; every limit is checked there: its length against the size of
 * the queue, the order of readable and writable parts, each address against RAM. */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "device/virtio.h"

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
#define AVAIL_NO_INTERRUPT 1u
#define RING_FLAGS 0
#define RING_INDEX 2
#define RING_ENTRIES 4
#define PIECES_MAX (VIRTQ_SIZE_MAX + 16) /* a few more than descriptors: one may lie across two regions of RAM */
#define CHAIN_BYTES_MAX (UINT32_MAX - 1) /* what the used ring can count */

struct desc {
	uint64_t at;
	uint32_t length;
	uint16_t flags, next;
};

struct used {
	uint32_t head, length;
};

struct walk { /* a chain that is being taken */
	struct iovec iov[PIECES_MAX];
	gpa_t in_at[PIECES_MAX];
	unsigned out, in;
	uint64_t out_size, in_size;
};

static struct vm *vm_of(const struct virtq *q)
{
	return q->virtio->device.vm;
}

static bool read_ring(struct virtq *q, gpa_t at, void *data, unsigned size)
{
	if (!guest_read(vm_of(q), at, data, size))
		return true;
	virtio_break(q->virtio, "queue %u is not in RAM", q->index);
	return false;
}

static bool write_ring(struct virtq *q, gpa_t at, const void *data, unsigned size)
{
	if (!guest_write(vm_of(q), at, data, size))
		return true;
	virtio_break(q->virtio, "queue %u is not in RAM", q->index);
	return false;
}

static bool is_busy(const struct virtq *q, uint16_t head)
{
	return q->busy[head / 64] & BIT(head % 64);
}

/* ---- Taking a chain ----------------------------------------------------------------------------------------------------- */

static const char *add_piece(struct virtq *q, struct walk *w, const struct desc *d)
{
	bool in = d->flags & DESC_WRITE;
	unsigned used = w->out + w->in;
	if (!in && w->in)
		return "a part for the device to read follows one to write";
	uint64_t *size = in ? &w->in_size : &w->out_size;
	if (*size + d->length > CHAIN_BYTES_MAX)
		return "a chain is too long";
	*size += d->length;
	if (!d->length)
		return NULL;
	int count = guest_iov_begin(vm_of(q), d->at, d->length, in, w->iov + used, PIECES_MAX - used);
	if (count < 0)
		return count == -E2BIG ? "a chain has too many pieces" : "a buffer is not in RAM";
	gpa_t at = d->at;
	for (int i = 0; i < count; i++) {
		if (in)
			w->in_at[w->in++] = at;
		else
			w->out++;
		at += w->iov[used + (unsigned)i].iov_len;
	}
	return NULL;
}

/* A table of `size` descriptors, from number i on. *left: how many more a chain may have, which ends every loop. */
static const char *walk_table(struct virtq *q, struct walk *w, gpa_t table, unsigned size, unsigned i, unsigned *left, bool indirect)
{
	for (;;) {
		struct desc d;
		if (i >= size)
			return "a descriptor has a number that is none";
		if (!*left)
			return "a chain is longer than its queue, or loops";
		--*left;
		if (guest_read(vm_of(q), table + i * sizeof(d), &d, sizeof(d)))
			return "a table of descriptors is not in RAM";
		if (d.flags & DESC_INDIRECT) {
			if (indirect || !virtio_has(q->virtio, VIRTIO_F_INDIRECT_DESC))
				return "an indirect table where none may be";
			if (d.flags & DESC_NEXT)
				return "an indirect table with a next descriptor";
			if (!d.length || d.length % sizeof(d) || d.length / sizeof(d) > UINT16_MAX)
				return "an indirect table of an impossible size";
			*left = q->size;
			return walk_table(q, w, d.at, d.length / sizeof(d), 0, left, true);
		}
		const char *wrong = add_piece(q, w, &d);
		if (wrong || !(d.flags & DESC_NEXT))
			return wrong;
		i = d.next;
	}
}

static struct virtq_chain *make_chain(struct virtq *q, uint16_t head, const struct walk *w)
{
	unsigned pieces = w->out + w->in;
	struct virtq_chain *c = malloc(sizeof(*c) + pieces * sizeof(c->iov[0]) + w->in * sizeof(c->in_at[0]));
	if (!c) {
		vm_kill(vm_of(q), "out of memory for a request of %s", q->virtio->device.name);
		return NULL;
	}
	*c = (struct virtq_chain){ .queue = q, .head = head, .out = w->out, .in = w->in, .out_size = w->out_size, .in_size = w->in_size };
	c->in_at = (gpa_t *)&c->iov[pieces];
	memcpy(c->iov, w->iov, pieces * sizeof(c->iov[0]));
	memcpy(c->in_at, w->in_at, w->in * sizeof(c->in_at[0]));
	return c;
}

static struct virtq_chain *take(struct virtq *q, uint16_t head)
{
	struct walk w;
	unsigned left = q->size;
	w.out = w.in = 0;
	w.out_size = w.in_size = 0;
	const char *wrong = walk_table(q, &w, q->desc, q->size, head, &left, false);
	if (wrong) {
		virtio_break(q->virtio, "queue %u: %s", q->index, wrong);
		return NULL;
	}
	q->busy[head / 64] |= BIT(head % 64);
	return make_chain(q, head, &w);
}

struct virtq_chain *virtq_resume(struct virtq *q, uint16_t head)
{
	return is_busy(q, head) ? take(q, head) : NULL;
}

/* The driver is to tell of everything after what was seen. */
static bool ask_for_notification(struct virtq *q)
{
	if (virtio_has(q->virtio, VIRTIO_F_EVENT_IDX) &&
	    !write_ring(q, q->used + RING_ENTRIES + q->size * sizeof(struct used), &q->next, sizeof(q->next)))
		return false;
	atomic_thread_fence(memory_order_seq_cst);
	return true;
}

/* How many chains wait; false: the device is broken. */
static bool count_waiting(struct virtq *q, uint16_t *count)
{
	uint16_t index;
	if (!read_ring(q, q->avail + RING_INDEX, &index, sizeof(index)))
		return false;
	*count = (uint16_t)(index - q->next);
	if (*count > q->size) {
		virtio_break(q->virtio, "queue %u: the driver's index jumps to %u from %u", q->index, index, q->next);
		return false;
	}
	return true;
}

bool virtq_waiting(struct virtq *q)
{
	uint16_t count;
	if (!q->enabled || !virtio_is_ready(q->virtio) || !count_waiting(q, &count))
		return false;
	if (count)
		return true;
	return ask_for_notification(q) && count_waiting(q, &count) && count;
}

struct virtq_chain *virtq_pop(struct virtq *q)
{
	uint16_t head;
	if (!virtq_waiting(q))
		return NULL;
	atomic_thread_fence(memory_order_acquire); /* the index before the entry */
	if (!read_ring(q, q->avail + RING_ENTRIES + 2u * (q->next & (q->size - 1)), &head, sizeof(head)))
		return NULL;
	if (head >= q->size || is_busy(q, head)) {
		virtio_break(q->virtio, "queue %u: descriptor %u is %s", q->index, head, head < q->size ? "in use already" : "none");
		return NULL;
	}
	struct virtq_chain *c = take(q, head);
	if (c)
		q->next++;
	return c;
}

void virtq_drop(struct virtq_chain *c)
{
	c->queue->busy[c->head / 64] &= ~BIT(c->head % 64);
	free(c);
}

void virtq_unpop(struct virtq_chain *c)
{
	c->queue->next--;
	virtq_drop(c);
}

/* ---- Giving it back ----------------------------------------------------------------------------------------------------- */

static void mark_written(struct virtq_chain *c, uint64_t written)
{
	for (unsigned i = 0; i < c->in && written; i++) {
		uint64_t size = MIN(written, c->iov[c->out + i].iov_len);
		guest_iov_end(vm_of(c->queue), c->in_at[i], size, true);
		written -= size;
	}
}

void virtq_fill(struct virtq_chain *c, uint64_t written, unsigned nth)
{
	struct virtq *q = c->queue;
	written = MIN(written, c->in_size);
	struct used entry = { c->head, (uint32_t)written };
	uint16_t at = (uint16_t)(q->put + nth) & (q->size - 1);
	mark_written(c, written);
	if (q->enabled && virtio_is_ready(q->virtio))
		write_ring(q, q->used + RING_ENTRIES + at * sizeof(entry), &entry, sizeof(entry));
	virtq_drop(c);
}

void virtq_commit(struct virtq *q, unsigned count)
{
	if (!q->enabled || !virtio_is_ready(q->virtio))
		return;
	q->put = (uint16_t)(q->put + count);
	atomic_thread_fence(memory_order_release); /* the entries before the index */
	write_ring(q, q->used + RING_INDEX, &q->put, sizeof(q->put));
}

void virtq_push(struct virtq_chain *c, uint64_t written)
{
	struct virtq *q = c->queue;
	virtq_fill(c, written, 0);
	virtq_commit(q, 1);
}

/* 2.7.10: has the index that the driver asked to be told of been passed? */
static bool wants_interrupt(struct virtq *q)
{
	uint16_t event, flags;
	if (!virtio_has(q->virtio, VIRTIO_F_EVENT_IDX))
		return read_ring(q, q->avail + RING_FLAGS, &flags, sizeof(flags)) && !(flags & AVAIL_NO_INTERRUPT);
	if (!read_ring(q, q->avail + RING_ENTRIES + 2u * q->size, &event, sizeof(event)))
		return false;
	return (uint16_t)(q->put - event - 1) < (uint16_t)(q->put - q->told);
}

void virtq_interrupt(struct virtq *q)
{
	if (!q->enabled || !virtio_is_ready(q->virtio) || q->put == q->told)
		return;
	atomic_thread_fence(memory_order_seq_cst); /* the index before the question */
	bool wanted = wants_interrupt(q);
	q->told = q->put;
	if (wanted)
		virtio_pci_interrupt(q->virtio, q->vector, 1);
}

/* ---- Copies ------------------------------------------------------------------------------------------------------------- */

static size_t copy(const struct iovec *iov, unsigned count, uint64_t offset, void *to, const void *from, size_t size)
{
	size_t done = 0;
	for (unsigned i = 0; i < count && done < size; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		uint8_t *here = (uint8_t *)iov[i].iov_base + offset;
		size_t n = MIN(size - done, iov[i].iov_len - offset);
		if (to)
			memcpy((uint8_t *)to + done, here, n);
		else
			memcpy(here, (const uint8_t *)from + done, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned count, uint64_t offset, void *data, size_t size)
{
	return size ? copy(iov, count, offset, data, NULL, size) : 0;
}

size_t iov_write(const struct iovec *iov, unsigned count, uint64_t offset, const void *data, size_t size)
{
	return size ? copy(iov, count, offset, NULL, data, size) : 0;
}

size_t virtq_read(const struct virtq_chain *c, uint64_t offset, void *data, size_t size)
{
	return iov_read(c->iov, c->out, offset, data, size);
}

size_t virtq_write(struct virtq_chain *c, uint64_t offset, const void *data, size_t size)
{
	return iov_write(c->iov + c->out, c->in, offset, data, size);
}
