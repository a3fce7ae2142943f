/* SPDX-License-Identifier: MIT */
/* Virtio network card: VIRTIO 1.2, section 5.1: checksums and segments as far as the backend takes or gives them, frames that are spread over
 * several buffers, several pairs of queues; what the driver controls is virtio_net_control.c's.
 *
 * Frames that find no buffer wait in a backlog. A frame comes by the pair of queues by which its flow was sent last. */
#include <errno.h>
#include <string.h>
#include "device/virtio_net.h"

#define QUEUE_SIZE 256
#define CLASS 0x020000
#define PAIRS_MAX ((VIRTIO_QUEUES_MAX - 1) / 2)
#define FLOW_BYTES 128           /* of a frame: enough to tell its flow */
_Static_assert(VIRTIO_NET_PAIRS_MAX == PAIRS_MAX, "as many as there is room for");

struct header { /* 5.1.6 */
	struct net_offload offload;
	uint16_t num_buffers;
};
_Static_assert(sizeof(struct header) == 12, "the header of version 1");

static struct virtio_net_card *of(struct virtio *v)
{
	return container_of(v, struct virtio_net_card, virtio);
}

/* 5.1.2: pairs of queues, to receive and to send, then the one for control. */
static unsigned control_queue(const struct virtio_net_card *c)
{
	return virtio_has(&c->virtio, VIRTIO_NET_MQ) ? 2u * c->config.max_pairs : 2;
}

/* 5.1.6.1: a legacy driver that merges no buffers has none of their number. */
static size_t header_size(const struct virtio_net_card *c)
{
	return c->virtio.driver_features & (VIRTIO_F_VERSION_1 | VIRTIO_NET_MRG_RXBUF) ? sizeof(struct header) : sizeof(struct net_offload);
}

/* ---- To the guest ------------------------------------------------------------------------------------------------------- */

/* What the driver did not agree to is taken off: a checksum filled in, the hint that it is right dropped. */
static bool suit(struct virtio_net_card *c, struct header *h, uint8_t *frame, size_t size)
{
	if (virtio_has(&c->virtio, VIRTIO_NET_GUEST_CSUM))
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

static struct virtq *receiver(struct virtio_net_card *c, const uint8_t *frame, size_t size)
{
	unsigned pair = c->pairs > 1 ? c->flow[virtio_net_flow(frame, size)] : 0;
	struct virtq *q = &c->virtio.queue[2 * pair];
	return q->enabled ? q : &c->virtio.queue[0];
}

/* A frame takes as many buffers as it needs if they may be merged, else it must fit into one. */
static enum result put_frame(struct virtio_net_card *c, struct header *h, const uint8_t *frame, size_t size)
{
	struct virtq *q = receiver(c, frame, size);
	struct virtq_chain *chain[QUEUE_SIZE];
	size_t header = header_size(c), total = header + size, room = 0;
	unsigned count = 0, most = virtio_has(&c->virtio, VIRTIO_NET_MRG_RXBUF) ? QUEUE_SIZE : 1;
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

static enum result receive(struct virtio_net_card *c, const uint8_t *data, size_t size)
{
	struct header h = { .num_buffers = 1 };
	uint8_t frame[NET_FRAME_MAX];
	memcpy(&h.offload, data, sizeof(h.offload));
	data += sizeof(h.offload);
	size -= sizeof(h.offload);
	if (!virtio_net_wants(c, data, size))
		return LOST;
	if (virtio_has(&c->virtio, VIRTIO_NET_GUEST_CSUM) || !(h.offload.flags & NET_NEEDS_CSUM)) {
		suit(c, &h, NULL, 0);
		return put_frame(c, &h, data, size);
	}
	memcpy(frame, data, size);
	return suit(c, &h, frame, size) ? put_frame(c, &h, frame, size) : LOST;
}

static void interrupt_receivers(struct virtio_net_card *c)
{
	for (unsigned i = 0; i < c->pairs; i++)
		virtq_interrupt(&c->virtio.queue[2 * i]);
}

static void buffers_came(struct virtio_net_card *c)
{
	while (c->backlog.first && receive(c, c->backlog.first->data, c->backlog.first->size) != NO_ROOM)
		net_backlog_drop_first(&c->backlog);
	interrupt_receivers(c);
	net_backlog_eased(&c->backlog, c->net);
}

static void card_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct virtio_net_card *c = of(virtio_of(d));
	if (len < sizeof(struct net_offload) || len > sizeof(struct net_offload) + NET_FRAME_MAX)
		return;
	if (!virtio_is_ready(&c->virtio) || !c->virtio.queue[0].enabled)
		return; /* nobody listens */
	if (c->backlog.first || receive(c, data, len) == NO_ROOM)
		net_backlog_keep(&c->backlog, c->net, data, len);
	interrupt_receivers(c);
}

/* ---- From the guest ----------------------------------------------------------------------------------------------------- */

/* Only what was agreed on may be asked of the backend. */
static bool sane(const struct virtio_net_card *c, const struct net_offload *o)
{
	if ((o->flags & NET_NEEDS_CSUM) && !virtio_has(&c->virtio, VIRTIO_NET_CSUM))
		return false;
	switch (o->gso_type & ~NET_GSO_ECN) {
	case NET_GSO_NONE:
		return true;
	case NET_GSO_TCPV4:
		return virtio_has(&c->virtio, VIRTIO_NET_HOST_TSO4) && (o->flags & NET_NEEDS_CSUM);
	case NET_GSO_TCPV6:
		return virtio_has(&c->virtio, VIRTIO_NET_HOST_TSO6) && (o->flags & NET_NEEDS_CSUM);
	}
	return false;
}

static void send_chain(struct virtio_net_card *c, struct virtq_chain *chain)
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
	if (c->pairs > 1) {
		uint8_t start[FLOW_BYTES];
		size_t known = iov_read(iov, count, 0, start, sizeof(start));
		c->flow[virtio_net_flow(start, known)] = (uint8_t)(chain->queue->index / 2);
	}
	if (size && size <= NET_FRAME_MAX && sane(c, &h.offload))
		net_send(c->net, &h.offload, iov, count, size);
}

static void card_notify(struct virtio *v, unsigned queue)
{
	struct virtio_net_card *c = of(v);
	struct virtq_chain *chain;
	if (queue == control_queue(c)) {
		virtio_net_control(c, &v->queue[queue]);
		return;
	}
	if (queue / 2 >= c->pairs)
		return;
	if (queue % 2 == 0) {
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

/* 5.1.4.2: a legacy driver that cannot send a command writes its address here. */
static void config_write(struct virtio *v, unsigned offset, const void *data, unsigned size)
{
	if (v->legacy && offset + size <= NET_MAC)
		memcpy(of(v)->config.mac + offset, data, size);
}

static void card_model_reset(struct virtio *v)
{
	struct virtio_net_card *c = of(v);
	virtio_net_control_reset(c);
	memcpy(c->config.mac, c->net->mac, NET_MAC);
	c->config.status = VIRTIO_NET_LINK_UP;
	net_backlog_drop(&of(v)->backlog, of(v)->net);
}

#define CONTROL (VIRTIO_NET_CTRL_VQ | VIRTIO_NET_CTRL_RX | VIRTIO_NET_CTRL_RX_EXTRA | VIRTIO_NET_CTRL_VLAN | VIRTIO_NET_CTRL_MAC | VIRTIO_NET_ANNOUNCE)

static const struct virtio_model model = {
	.type = VIRTIO_NET, .class = CLASS, .features = VIRTIO_NET_MAC | VIRTIO_NET_STATUS | VIRTIO_NET_MRG_RXBUF | CONTROL,
	.config_read = config_read, .config_write = config_write, .notify = card_notify, .quick = true, .reset = card_model_reset,
};

static uint64_t features(const struct net *n, unsigned pairs)
{
	uint64_t f = model.features;
	f |= n->offload & NET_TAKES_CSUM ? VIRTIO_NET_CSUM : 0;
	f |= n->offload & NET_TAKES_SEGMENTS ? VIRTIO_NET_HOST_TSO4 | VIRTIO_NET_HOST_TSO6 : 0;
	f |= n->offload & NET_GIVES_CSUM ? VIRTIO_NET_GUEST_CSUM : 0;
	f |= n->offload & NET_GIVES_SEGMENTS ? VIRTIO_NET_GUEST_TSO4 | VIRTIO_NET_GUEST_TSO6 : 0;
	f |= pairs > 1 ? VIRTIO_NET_MQ : 0;
	return f;
}

static int card_init(struct device *d)
{
	struct virtio_net_card *c = of(virtio_of(d));
	const struct virtio_net_config *config = d->place->config;
	net_backlog_init(&c->backlog);
	c->config.max_pairs = (uint16_t)MIN(MAX(config->pairs, 1u), PAIRS_MAX);
	c->virtio.model = &model;
	c->virtio.features = features(config->net, c->config.max_pairs);
	c->virtio.queues = 2u * c->config.max_pairs + 1;
	c->virtio.config_size = sizeof(struct virtio_net_settings);
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
	struct virtio_net_card *c = of(virtio_of(d));
	net_backlog_drop(&c->backlog, c->net);
	memset(c->flow, 0, sizeof(c->flow));
	if (!virtio_net_filter_sane(&c->filter) || !c->pairs || c->pairs > c->config.max_pairs)
		return -EPROTO;
	int error = virtio_loaded(&c->virtio);
	if (error || !virtio_has(&c->virtio, VIRTIO_NET_ANNOUNCE))
		return error;
	c->config.status |= VIRTIO_NET_SAY_HELLO; /* it may be somewhere else now */
	virtio_config_changed(&c->virtio);
	return 0;
}

static void card_fini(struct device *d)
{
	struct virtio_net_card *c = of(virtio_of(d));
	if (c->net)
		net_stop(c->net);
	c->net = NULL;
	net_backlog_drop(&c->backlog, NULL);
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct virtio_net_card),
	FIELD_BYTES(struct virtio_net_card, config.mac),
	FIELD_STRUCT(struct virtio_net_card, filter, virtio_net_filter_fields, struct virtio_net_filter),
	FIELD_U16(struct virtio_net_card, pairs),
	FIELD_END,
};

const struct device_class virtio_net_class = {
	.name = "virtio-net", .summary = "virtio network card", .size = sizeof(struct virtio_net_card), .init = card_init, .reset = card_reset,
	.fini = card_fini, .event = card_event, .fields = fields, .version = 1, .post_load = card_post_load,
};
DEVICE_CLASS(virtio_net_class);
