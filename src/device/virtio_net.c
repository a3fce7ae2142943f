/* SPDX-License-Identifier: MIT */
/* Virtio network card: VIRTIO 1.2, section 5.1, with one pair of queues: checksums and segments as far as the backend takes or gives them,
 * frames that are spread over several buffers.
 *
 * Frames that find no buffer wait in a backlog. */
#include <errno.h>
#include <string.h>
#include "device/net_backlog.h"
#include "device/virtio_devices.h"

#define QUEUE_SIZE 256
#define CLASS 0x020000
#define MTU 1500
enum { QUEUE_RECEIVE, QUEUE_SEND, QUEUES };
enum {
	F_CSUM = BIT(0), F_GUEST_CSUM = BIT(1), F_MAC = BIT(5), F_GUEST_TSO4 = BIT(7), F_GUEST_TSO6 = BIT(8), F_HOST_TSO4 = BIT(11),
	F_HOST_TSO6 = BIT(12), F_MRG_RXBUF = BIT(15), F_STATUS = BIT(16),
};
#define STATUS_LINK_UP 1

struct header { /* 5.1.6 */
	struct net_offload offload;
	uint16_t num_buffers;
};
_Static_assert(sizeof(struct header) == 12, "the header of version 1");

struct config {
	uint8_t mac[NET_MAC];
	uint16_t status;
};

struct card {
	struct virtio virtio;
	struct net *net;
	struct config config;
	struct net_backlog backlog;
};

static struct card *of(struct virtio *v)
{
	return container_of(v, struct card, virtio);
}

/* 5.1.6.1: a legacy driver that merges no buffers has none of their number. */
static size_t header_size(const struct card *c)
{
	return c->virtio.driver_features & (VIRTIO_F_VERSION_1 | F_MRG_RXBUF) ? sizeof(struct header) : sizeof(struct net_offload);
}

/* ---- To the guest ------------------------------------------------------------------------------------------------------- */

/* What the driver did not agree to is taken off: a checksum filled in, the hint that it is right dropped. */
static bool suit(struct card *c, struct header *h, uint8_t *frame, size_t size)
{
	if (virtio_has(&c->virtio, F_GUEST_CSUM))
		return true;
	bool good = net_checksum(&h->offload, frame, size);
	h->offload = (struct net_offload){ 0 };
	return good;
}

static void put_back(struct virtq_chain **chain, unsigned count)
{
	while (count--)
		virtq_unpop(chain[count]);
}

enum result { DELIVERED, NO_ROOM, LOST };

/* A frame takes as many buffers as it needs if they may be merged, else it must fit into one. */
static enum result put_frame(struct card *c, struct header *h, const uint8_t *frame, size_t size)
{
	struct virtq *q = &c->virtio.queue[QUEUE_RECEIVE];
	struct virtq_chain *chain[QUEUE_SIZE];
	size_t header = header_size(c), total = header + size, room = 0;
	unsigned count = 0, most = virtio_has(&c->virtio, F_MRG_RXBUF) ? QUEUE_SIZE : 1;
	while (room < total && count < most) {
		struct virtq_chain *next = virtq_pop(q);
		if (!next)
			break;
		chain[count++] = next;
		room += next->in_size;
	}
	if (!count || room < total || chain[0]->in_size < header) {
		bool more = count < most; /* may come */
		put_back(chain, count);
		return more ? NO_ROOM : LOST;
	}
	h->num_buffers = (uint16_t)count;
	size_t at = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t skip = i ? 0 : header;
		if (!i)
			virtq_write(chain[i], 0, h, header);
		size_t n = virtq_write(chain[i], skip, frame + at, size - at);
		virtq_fill(chain[i], skip + n, i);
		at += n;
	}
	virtq_commit(q, count);
	return DELIVERED;
}

static enum result receive(struct card *c, const uint8_t *data, size_t size)
{
	struct header h = { .num_buffers = 1 };
	uint8_t frame[NET_FRAME_MAX];
	memcpy(&h.offload, data, sizeof(h.offload));
	data += sizeof(h.offload);
	size -= sizeof(h.offload);
	if (virtio_has(&c->virtio, F_GUEST_CSUM) || !(h.offload.flags & NET_NEEDS_CSUM)) {
		suit(c, &h, NULL, 0);
		return put_frame(c, &h, data, size);
	}
	memcpy(frame, data, size);
	return suit(c, &h, frame, size) ? put_frame(c, &h, frame, size) : LOST;
}

static void buffers_came(struct card *c)
{
	while (c->backlog.first && receive(c, c->backlog.first->data, c->backlog.first->size) != NO_ROOM)
		net_backlog_drop_first(&c->backlog);
	virtq_interrupt(&c->virtio.queue[QUEUE_RECEIVE]);
	net_backlog_eased(&c->backlog, c->net);
}

static void card_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct card *c = of(virtio_of(d));
	if (len < sizeof(struct net_offload) || len > sizeof(struct net_offload) + NET_FRAME_MAX)
		return;
	if (!virtio_is_ready(&c->virtio) || !c->virtio.queue[QUEUE_RECEIVE].enabled)
		return; /* nobody listens */
	if (c->backlog.first || receive(c, data, len) == NO_ROOM)
		net_backlog_keep(&c->backlog, c->net, data, len);
	virtq_interrupt(&c->virtio.queue[QUEUE_RECEIVE]);
}

/* ---- From the guest ----------------------------------------------------------------------------------------------------- */

/* Only what was agreed on may be asked of the backend. */
static bool sane(const struct card *c, const struct net_offload *o)
{
	if ((o->flags & NET_NEEDS_CSUM) && !virtio_has(&c->virtio, F_CSUM))
		return false;
	switch (o->gso_type & ~NET_GSO_ECN) {
	case NET_GSO_NONE:
		return true;
	case NET_GSO_TCPV4:
		return virtio_has(&c->virtio, F_HOST_TSO4) && (o->flags & NET_NEEDS_CSUM);
	case NET_GSO_TCPV6:
		return virtio_has(&c->virtio, F_HOST_TSO6) && (o->flags & NET_NEEDS_CSUM);
	}
	return false;
}

static void send_chain(struct card *c, struct virtq_chain *chain)
{
	struct header h;
	struct iovec iov[chain->out + 1];
	unsigned count = 0;
	uint64_t skip = header_size(c), size = chain->out_size - skip;
	if (virtq_read(chain, 0, &h, skip) < skip) {
		virtio_break(&c->virtio, "a frame without a header");
		return;
	}
	for (unsigned i = 0; i < chain->out; i++) {
		uint64_t here = MIN(skip, (uint64_t)chain->iov[i].iov_len);
		skip -= here;
		if (chain->iov[i].iov_len > here)
			iov[count++] = (struct iovec){ (uint8_t *)chain->iov[i].iov_base + here, chain->iov[i].iov_len - here };
	}
	if (size && size <= NET_FRAME_MAX && sane(c, &h.offload))
		net_send(c->net, &h.offload, iov, count, size);
}

static void card_notify(struct virtio *v, unsigned queue)
{
	struct card *c = of(v);
	struct virtq_chain *chain;
	if (queue == QUEUE_RECEIVE) {
		buffers_came(c);
		return;
	}
	while ((chain = virtq_pop(&v->queue[queue]))) {
		send_chain(c, chain);
		virtq_push(chain, 0);
	}
	virtq_interrupt(&v->queue[queue]);
}

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

static void config_read(struct virtio *v, unsigned offset, void *data, unsigned size)
{
	memcpy(data, (const uint8_t *)&of(v)->config + offset, size);
}

static void card_model_reset(struct virtio *v)
{
	net_backlog_drop(&of(v)->backlog, of(v)->net);
}

static const struct virtio_model model = {
	.type = VIRTIO_NET, .class = CLASS, .features = F_MAC | F_STATUS | F_MRG_RXBUF, .config_read = config_read, .notify = card_notify, .quick = true,
	.reset = card_model_reset,
};

static uint64_t features(const struct net *n)
{
	uint64_t f = model.features;
	f |= n->offload & NET_TAKES_CSUM ? F_CSUM : 0;
	f |= n->offload & NET_TAKES_SEGMENTS ? F_HOST_TSO4 | F_HOST_TSO6 : 0;
	f |= n->offload & NET_GIVES_CSUM ? F_GUEST_CSUM : 0;
	f |= n->offload & NET_GIVES_SEGMENTS ? F_GUEST_TSO4 | F_GUEST_TSO6 : 0;
	return f;
}

static int card_init(struct device *d)
{
	struct card *c = of(virtio_of(d));
	const struct virtio_net_config *config = d->place->config;
	net_backlog_init(&c->backlog);
	c->config.status = STATUS_LINK_UP;
	memcpy(c->config.mac, config->net->mac, NET_MAC);
	c->virtio.model = &model;
	c->virtio.features = features(config->net);
	c->virtio.queues = QUEUES;
	c->virtio.config_size = sizeof(struct config);
	int error = virtio_init(&c->virtio, QUEUE_SIZE);
	if (error)
		return error;
	c->net = config->net;
	return net_start(c->net, d, 0);
}

static void card_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int card_post_load(struct device *d, uint32_t version)
{
	net_backlog_drop(&of(virtio_of(d))->backlog, of(virtio_of(d))->net);
	return virtio_loaded(virtio_of(d));
}

static void card_fini(struct device *d)
{
	struct card *c = of(virtio_of(d));
	if (c->net)
		net_stop(c->net);
	c->net = NULL;
	net_backlog_drop(&c->backlog, NULL);
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct card),
	FIELD_END,
};

const struct device_class virtio_net_class = {
	.name = "virtio-net", .summary = "virtio network card", .size = sizeof(struct card), .init = card_init, .reset = card_reset,
	.fini = card_fini, .event = card_event, .fields = fields, .version = 1, .post_load = card_post_load,
};
DEVICE_CLASS(virtio_net_class);
