/* SPDX-License-Identifier: MIT */
/* Frames from the guest: Intel 317453, 3.3 to 3.5. A packet is gathered from its descriptors, its checksums are filled in or it is cut into
 * segments, and it goes out. The head moves on once the last descriptor of a packet is there, so that nothing of one is ever held
 * between two looks at the ring. */
#include <string.h>
#include "device/e1000.h"

struct descriptor {
	uint64_t address;               /* of a context: six fields, as in struct context_words */
	uint32_t command;               /* legacy: length, checksum offset, command; else length, type, command */
	uint8_t status;
	uint8_t options;                /* legacy: where the checksum starts; of a context: bytes of headers */
	uint16_t special;               /* VLAN tag; of a context: payload of a segment */
};
_Static_assert(sizeof(struct descriptor) == E1000_DESCRIPTOR, "a descriptor");
struct context_words {
	uint8_t ip_start, ip_offset;
	uint16_t ip_end;
	uint8_t data_start, data_offset;
	uint16_t data_end;
};
_Static_assert(sizeof(struct context_words) == sizeof(uint64_t), "a context's first half");

enum { /* command, bits 31:24 */
	COMMAND_EOP = BIT(24), COMMAND_IC = BIT(26), COMMAND_TSE = BIT(26), COMMAND_RS = BIT(27), COMMAND_RPS = BIT(28), COMMAND_DEXT = BIT(29),
	COMMAND_VLE = BIT(30),
};
enum { CONTEXT_TCP = BIT(24), CONTEXT_IPV4 = BIT(25) };
enum { OPTION_IXSM = BIT(0), OPTION_TXSM = BIT(1) };
enum { TYPE = 20, TYPE_CONTEXT = 0, TYPE_DATA = 1 };
#define STATUS_DD BIT(0)
#define LEGACY_LENGTH 0xffffu
#define LENGTH 0xfffffu
#define STATUS_AT 12            /* offset in a descriptor */
#define TAG_AT 12               /* in a frame */
#define IPV6_HEADER 40u
#define TCP_FLAGS 13
#define TCP_FIN_PSH 0x09

struct packet {
	uint8_t data[NET_FRAME_MAX];
	uint32_t size;
	bool lost;                      /* it does not fit, or part of it is no memory */
	bool started, legacy, cut;
	uint8_t options;                /* of its first descriptor */
	uint32_t last;                  /* command of its last one */
	uint8_t last_offset, last_start;
	uint16_t special;
};

static bool is_context(const struct descriptor *d)
{
	return (d->command & COMMAND_DEXT) && (d->command >> TYPE & 15) == TYPE_CONTEXT;
}

static void take_context(struct e1000 *e, const struct descriptor *d)
{
	struct context_words w;
	memcpy(&w, &d->address, sizeof(w));
	struct e1000_context *c = d->command & COMMAND_TSE ? &e->r.segmentation : &e->r.context;
	*c = (struct e1000_context){ .ip_start = w.ip_start, .ip_offset = w.ip_offset, .ip_end = w.ip_end, .data_start = w.data_start,
		.data_offset = w.data_offset, .data_end = w.data_end, .header = d->options, .mss = d->special,
		.tcp = d->command & CONTEXT_TCP, .ipv4 = d->command & CONTEXT_IPV4 };
}

static void gather(struct e1000 *e, struct packet *p, const struct descriptor *d)
{
	uint32_t size = d->command & (d->command & COMMAND_DEXT ? LENGTH : LEGACY_LENGTH);
	if (!p->started) {
		p->started = true;
		p->legacy = !(d->command & COMMAND_DEXT);
		p->cut = !p->legacy && (d->command & COMMAND_TSE);
		p->options = d->options;
	}
	p->last = d->command;
	p->last_offset = (uint8_t)(d->command >> 16);
	p->last_start = d->options;
	p->special = d->special;
	if (size > sizeof(p->data) - E1000_VLAN_TAG - p->size || guest_read(e->device.vm, d->address, p->data + p->size, size))
		p->lost = true;
	else
		p->size += size;
}

/* ---- Checksums ---------------------------------------------------------------------------------------------------------- */

/* Over bytes start to end (the last one; 0: to the frame's), to offset. What does not fit is left as it is. */
static void put_checksum(uint8_t *frame, uint32_t size, uint32_t start, uint32_t offset, uint32_t end)
{
	uint32_t limit = end && end < size ? end + 1 : size;
	if (start >= limit || offset + 2 > size)
		return;
	uint16_t sum = (uint16_t)~net_sum(frame + start, limit - start);
	memcpy(frame + offset, &sum, sizeof(sum));
}

static void put_checksums(const struct e1000_context *c, uint8_t options, uint8_t *frame, uint32_t size)
{
	if (options & OPTION_TXSM)
		put_checksum(frame, size, c->data_start, c->data_offset, c->data_end);
	if (options & OPTION_IXSM)
		put_checksum(frame, size, c->ip_start, c->ip_offset, c->ip_end);
}

/* ---- Segments ----------------------------------------------------------------------------------------------------------- */

static uint32_t get_be(const uint8_t *at, unsigned bytes)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static void put_be(uint8_t *at, unsigned bytes, uint32_t value)
{
	for (unsigned i = bytes; i--; value >>= 8)
		at[i] = (uint8_t)value;
}

/* The driver's pseudo header has no length, which is not the same for all. */
static void add_length(uint8_t *field, uint32_t length)
{
	uint32_t sum = get_be(field, 2) + length;
	put_be(field, 2, (sum & 0xffff) + (sum >> 16));
}

/* 3.5.6: what changes in the headers from segment to segment. */
static void fix_headers(const struct e1000_context *c, uint8_t options, uint8_t *frame, uint32_t size, uint32_t nth, uint32_t offset, bool last)
{
	uint8_t *ip = frame + c->ip_start, *data = frame + c->data_start;
	if (c->ipv4) {
		put_be(ip + 2, 2, size - c->ip_start);
		put_be(ip + 4, 2, get_be(ip + 4, 2) + nth);
	} else {
		put_be(ip + 4, 2, size - c->ip_start - IPV6_HEADER);
	}
	if (c->tcp) {
		put_be(data + 4, 4, get_be(data + 4, 4) + offset);
		if (!last)
			data[TCP_FLAGS] &= (uint8_t)~TCP_FIN_PSH;
	} else {
		put_be(data + 4, 2, size - c->data_start);
	}
	if (options & OPTION_TXSM)
		add_length(frame + c->data_offset, size - c->data_start);
}

/* The headers must hold the fields that are changed in them. */
static bool can_cut(const struct e1000_context *c, uint32_t size)
{
	return c->mss && c->header < size && c->ip_start + (c->ipv4 ? 20u : IPV6_HEADER) <= c->header &&
	       c->data_start + (c->tcp ? 20u : 8u) <= c->header && c->data_offset + 2u <= c->header && c->ip_offset + 2u <= c->header;
}

/* ---- Out ---------------------------------------------------------------------------------------------------------------- */

/* To the card itself, where nobody waits for buffers. */
static void come_back(struct e1000 *e, const struct iovec *iov, unsigned count, uint32_t size)
{
	uint8_t frame[sizeof(struct net_offload) + NET_FRAME_MAX] = { 0 };
	uint32_t at = sizeof(struct net_offload);
	if (size > NET_FRAME_MAX || !e1000_can_receive(e))
		return;
	for (unsigned i = 0; i < count; i++) {
		memcpy(frame + at, iov[i].iov_base, iov[i].iov_len);
		at += (uint32_t)iov[i].iov_len;
	}
	e1000_receive(e, frame, at);
}

static void put_out(struct e1000 *e, const struct packet *p, uint8_t *frame, uint32_t size)
{
	struct net_offload none = { 0 };
	uint8_t tag[E1000_VLAN_TAG];
	struct iovec iov[] = { { frame, MIN(size, TAG_AT) }, { tag, 0 }, { frame + MIN(size, TAG_AT), size - MIN(size, TAG_AT) } };
	if ((p->last & COMMAND_VLE) && (e->r.ctrl & CTRL_VME) && size >= TAG_AT) {
		put_be(tag, 2, e->r.vet);
		put_be(tag + 2, 2, p->special);
		iov[1].iov_len = sizeof(tag);
		size += sizeof(tag);
	}
	if (size && e1000_is_looped(e))
		come_back(e, iov, ARRAY_SIZE(iov), size);
	else if (size)
		net_send(e->host.net, &none, iov, ARRAY_SIZE(iov), size);
	e1000_count(e, STAT_TPT, 1);
	e1000_count(e, STAT_GPTC, 1);
	e1000_count_bytes(e, STAT_GOTC, size);
	e1000_count_bytes(e, STAT_TOT, size);
}

static void put_segments(struct e1000 *e, struct packet *p)
{
	const struct e1000_context *c = &e->r.segmentation;
	uint8_t frame[UINT8_MAX + UINT16_MAX];
	uint32_t payload = p->size - c->header;
	for (uint32_t nth = 0, at = 0; at < payload; nth++, at += c->mss) {
		uint32_t here = MIN(payload - at, c->mss), size = c->header + here;
		memcpy(frame, p->data, c->header);
		memcpy(frame + c->header, p->data + c->header + at, here);
		fix_headers(c, p->options, frame, size, nth, at, at + here == payload);
		put_checksums(c, p->options, frame, size);
		put_out(e, p, frame, size);
	}
}

static void finish(struct e1000 *e, struct packet *p)
{
	if (p->lost || !p->size)
		return;
	if (p->cut) {
		if (can_cut(&e->r.segmentation, p->size))
			put_segments(e, p);
		return;
	}
	if (!p->legacy)
		put_checksums(&e->r.context, p->options, p->data, p->size);
	else if (p->last & COMMAND_IC)
		put_checksum(p->data, p->size, p->last_start, p->last_offset, 0);
	put_out(e, p, p->data, p->size);
}

/* Descriptors that asked for it are marked done; how many did. */
static unsigned report(struct e1000 *e, uint32_t count)
{
	struct e1000_ring *ring = &e->r.tx;
	unsigned reports = 0;
	for (; count; count--) {
		gpa_t at = e1000_ring_at(ring, ring->head);
		struct descriptor d;
		if (!guest_read(e->device.vm, at, &d, sizeof(d)) && (d.command & (COMMAND_RS | COMMAND_RPS))) {
			d.status |= STATUS_DD;
			guest_write(e->device.vm, at + STATUS_AT, &d.status, sizeof(d.status));
			reports++;
		}
		ring->head = (ring->head + 1) % e1000_ring_size(ring);
	}
	return reports;
}

/* The packet, or context, at the head: into p. Returns how many descriptors it has, 0: its last one is not there yet. */
static uint32_t look(struct e1000 *e, struct packet *p)
{
	struct e1000_ring *ring = &e->r.tx;
	uint32_t size = e1000_ring_size(ring), count = 0;
	p->size = 0;
	p->started = p->lost = false;
	for (uint32_t at = ring->head; at != ring->tail; at = (at + 1) % size) {
		struct descriptor d;
		if (guest_read(e->device.vm, e1000_ring_at(ring, at), &d, sizeof(d)))
			return 0;
		count++;
		if (is_context(&d)) {
			take_context(e, &d);
			if (!p->started)
				return count;
			continue;
		}
		gather(e, p, &d);
		if (d.command & COMMAND_EOP)
			return count;
	}
	return 0;
}

void e1000_send(struct e1000 *e)
{
	struct e1000_ring *ring = &e->r.tx;
	struct packet p;
	uint32_t size = e1000_ring_size(ring), count;
	unsigned reports = 0;
	bool any = false;
	if (!(e->r.tctl & TCTL_EN) || !pci_is_master(&e->pci) || ring->head >= size || ring->tail >= size)
		return;
	while ((count = look(e, &p))) {
		if (p.started)
			finish(e, &p);
		reports += report(e, count);
		any = true;
	}
	if (any)
		e1000_cause(e, (reports ? ICR_TXDW : 0) | (ring->head == ring->tail ? ICR_TXQE : 0));
}
