/* SPDX-License-Identifier: MIT */
/* Virtio socket device: VIRTIO 1.2, section 5.10: stream connections between programs of the guest and of the host, where
 * backend/vsock.h has who is there. Guests are not connected to each other.
 *
 * What is to be sent to the guest is a property of its connections (vsock_link_next), and is made into a packet when there is a buffer for it.
 * Only answers to what belongs to no connection are queued; while that queue is full no packets are taken from the guest, so it cannot grow.
 * Connections do not survive a load: the guest hears of that by an event. */
#include <errno.h>
#include <string.h>
#include "device/virtio_devices.h"
#include "device/virtio_vsock.h"
#include "util/log.h"

#define QUEUE_SIZE 128
#define CLASS 0x078000
#define F_STREAM BIT(0)
#define TYPE_STREAM 1
#define EVENT_TRANSPORT_RESET 0u
#define FIRST_PORT 0x40000000u   /* of connections from the host: no program of the guest asks for these */
enum { QUEUE_RECEIVE, QUEUE_SEND, QUEUE_EVENT, QUEUES };

static struct vsock_card *of(struct virtio *v)
{
	return container_of(v, struct vsock_card, virtio);
}

/* ---- To the guest ------------------------------------------------------------------------------------------------------- */

/* False: the device is broken. */
static bool put_packet(struct vsock_card *c, struct virtq_chain *chain, const struct vsock_packet *p, const uint8_t *data)
{
	if (chain->in_size < sizeof(*p) + (p->op == VSOCK_OP_RW)) {
		virtio_break(&c->virtio, "a buffer of %lu bytes has no room for a packet", chain->in_size);
		virtq_drop(chain);
		return false;
	}
	virtq_write(chain, 0, p, sizeof(*p));
	virtq_write(chain, sizeof(*p), data, p->len);
	virtq_push(chain, sizeof(*p) + p->len);
	return true;
}

static bool put_link(struct vsock_card *c, struct vsock_link *l, enum vsock_op op)
{
	struct vsock_packet p = { .src_cid = VSOCK_HOST, .dst_cid = c->cid, .type = TYPE_STREAM };
	struct virtq_chain *chain = virtq_pop(&c->virtio.queue[QUEUE_RECEIVE]);
	const uint8_t *data = NULL;
	if (!chain)
		return false;
	vsock_link_fill(l, op, &p, chain->in_size > sizeof(p) ? chain->in_size - sizeof(p) : 0, &data);
	if (!put_packet(c, chain, &p, data))
		return false;
	vsock_link_sent(c, l, &p);
	return true;
}

static bool put_reply(struct vsock_card *c, const struct vsock_reply *r)
{
	struct vsock_packet p = {
		.src_cid = r->cid, .dst_cid = c->cid, .src_port = r->port, .dst_port = r->guest_port, .type = r->type, .op = VSOCK_OP_RST,
	};
	struct virtq_chain *chain = virtq_pop(&c->virtio.queue[QUEUE_RECEIVE]);
	return chain && put_packet(c, chain, &p, NULL);
}

static void give_replies(struct vsock_card *c)
{
	unsigned given = 0;
	while (given < c->replies && put_reply(c, &c->reply[given]))
		given++;
	c->replies -= given;
	memmove(c->reply, c->reply + given, c->replies * sizeof(c->reply[0]));
}

/* One packet of each connection in turn, so that none has to wait for another's end. */
static void give_links(struct vsock_card *c)
{
	bool more = true;
	while (more) {
		more = false;
		for (struct vsock_link *l = c->links, *next; l; l = next) {
			enum vsock_op op = vsock_link_next(c, l);
			next = l->next;
			if (op && !put_link(c, l, op))
				return;
			more |= op != 0;
		}
	}
}

static void give(struct vsock_card *c)
{
	give_replies(c);
	if (!c->replies)
		give_links(c);
	virtq_interrupt(&c->virtio.queue[QUEUE_RECEIVE]);
}

static void give_event(struct vsock_card *c)
{
	struct virtq *q = &c->virtio.queue[QUEUE_EVENT];
	uint32_t event = EVENT_TRANSPORT_RESET;
	struct virtq_chain *chain = c->lost ? virtq_pop(q) : NULL;
	if (!chain)
		return;
	virtq_push(chain, virtq_write(chain, 0, &event, sizeof(event)));
	virtq_interrupt(q);
	c->lost = false;
}

/* ---- From the guest ----------------------------------------------------------------------------------------------------- */

static void refuse(struct vsock_card *c, const struct vsock_packet *p)
{
	if (p->op != VSOCK_OP_RST)
		c->reply[c->replies++] = (struct vsock_reply){ p->dst_cid, p->dst_port, p->src_port, p->type };
}

static void requested(struct vsock_card *c, const struct vsock_packet *p)
{
	struct vsock_link *l = vsock_link_make(c, LINK_HOST_ASKED, p->dst_port, p->src_port);
	if (!l) {
		refuse(c, p);
		return;
	}
	l->peer_room = p->buf_alloc;
	l->peer_taken = p->fwd_cnt;
	l->stream = vsock_connect(c->vsock, p->dst_port);
	if (!l->stream)
		vsock_link_kill(c, l);
}

static void got_packet(struct vsock_card *c, struct virtq_chain *chain)
{
	struct vsock_packet p;
	if (virtq_read(chain, 0, &p, sizeof(p)) < sizeof(p) || p.len > chain->out_size - sizeof(p)) {
		virtio_break(&c->virtio, "a packet that is shorter than it says");
		return;
	}
	trace(virtio, "%s: op %u, port %u to port %u, %u bytes", c->virtio.device.name, p.op, p.src_port, p.dst_port, p.len);
	if (p.src_cid != c->cid)
		return; /* it is for nobody to answer */
	struct vsock_link *l = vsock_link_find(c, p.dst_port, p.src_port);
	if (p.type != TYPE_STREAM || p.dst_cid != VSOCK_HOST)
		refuse(c, &p);
	else if (l)
		vsock_link_got(c, l, &p, chain);
	else if (p.op == VSOCK_OP_REQUEST)
		requested(c, &p);
	else
		refuse(c, &p);
}

static void take(struct vsock_card *c)
{
	struct virtq *q = &c->virtio.queue[QUEUE_SEND];
	struct virtq_chain *chain;
	while (c->replies < VSOCK_REPLIES && (chain = virtq_pop(q))) {
		got_packet(c, chain);
		virtq_push(chain, 0);
	}
	virtq_interrupt(q);
}

/* What was taken asks for answers, and what was answered makes room to take more. */
static void work(struct vsock_card *c)
{
	do {
		take(c);
		give(c);
	} while (c->replies < VSOCK_REPLIES && virtq_waiting(&c->virtio.queue[QUEUE_SEND]));
}

static void card_notify(struct virtio *v, unsigned queue)
{
	if (queue == QUEUE_EVENT)
		give_event(of(v));
	else
		work(of(v));
}

/* ---- From the host ------------------------------------------------------------------------------------------------------ */

static void asked(struct vsock_card *c, uint32_t stream, uint32_t port)
{
	while (vsock_link_find(c, c->next_port, port))
		c->next_port++;
	struct vsock_link *l = virtio_is_ready(&c->virtio) ? vsock_link_make(c, LINK_GUEST_ASKED, c->next_port, port) : NULL;
	if (!l) {
		vsock_drop(c->vsock, stream);
		return;
	}
	c->next_port = c->next_port == UINT32_MAX - 1 ? FIRST_PORT : c->next_port + 1;
	l->stream = stream;
	l->due = (uint8_t)BIT(VSOCK_OP_REQUEST);
}

static void card_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct vsock_card *c = of(virtio_of(d));
	struct vsock_news news;
	if (len < sizeof(news))
		return;
	memcpy(&news, data, sizeof(news));
	struct vsock_link *l = vsock_link_of(c, news.stream);
	if (kind == VSOCK_ASKED)
		asked(c, news.stream, news.port);
	else if (l)
		vsock_link_news(c, l, kind, (const uint8_t *)data + sizeof(news), len - sizeof(news));
	work(c);
}

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

static void config_read(struct virtio *v, unsigned offset, void *data, unsigned size)
{
	memcpy(data, (const uint8_t *)&of(v)->cid + offset, size);
}

static void drop_links(struct vsock_card *c)
{
	while (c->links)
		vsock_link_free(c, c->links);
	c->replies = 0;
}

static void card_model_reset(struct virtio *v)
{
	drop_links(of(v));
	of(v)->lost = false;
	of(v)->next_port = FIRST_PORT;
}

static const struct virtio_model model = {
	.type = VIRTIO_VSOCK, .class = CLASS, .features = F_STREAM, .config_read = config_read, .notify = card_notify, .quick = true,
	.reset = card_model_reset,
};

static int card_init(struct device *d)
{
	struct vsock_card *c = of(virtio_of(d));
	const struct virtio_vsock_config *config = d->place->config;
	c->cid = vsock_cid(config->vsock);
	c->virtio.model = &model;
	c->virtio.queues = QUEUES;
	c->virtio.config_size = sizeof(c->cid);
	int error = virtio_init(&c->virtio, QUEUE_SIZE);
	if (error)
		return error;
	c->vsock = config->vsock;
	return vsock_start(c->vsock, d);
}

static void card_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int card_post_load(struct device *d, uint32_t version)
{
	struct vsock_card *c = of(virtio_of(d));
	drop_links(c);
	c->lost = true;
	int error = virtio_loaded(&c->virtio);
	if (!error)
		give_event(c);
	return error;
}

static void card_fini(struct device *d)
{
	struct vsock_card *c = of(virtio_of(d));
	if (!c->vsock)
		return;
	drop_links(c);
	vsock_stop(c->vsock);
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct vsock_card),
	FIELD_BOOL(struct vsock_card, lost),
	FIELD_U32(struct vsock_card, next_port),
	FIELD_END,
};

const struct device_class virtio_vsock_class = {
	.name = "virtio-vsock", .summary = "virtio sockets between guest and host", .size = sizeof(struct vsock_card), .init = card_init,
	.reset = card_reset, .fini = card_fini, .event = card_event, .fields = fields, .version = 1, .post_load = card_post_load,
};
DEVICE_CLASS(virtio_vsock_class);
