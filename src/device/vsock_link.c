/* SPDX-License-Identifier: MIT */
/* One connection of virtio-vsock: VIRTIO 1.2, 5.10.6.
 *
 * Each side tells the other how large its buffer is (buf_alloc) and how many bytes left it since the beginning (fwd_cnt); so the other knows
 * what it may send. The device's buffer is `out`: what the host's socket did not take at once. Of the host's bytes the backend reads no more
 * than the guest has room for. Counts of bytes wrap around. */
#include <stdlib.h>
#include <string.h>
#include "device/virtio_vsock.h"

#define DUE(op) ((uint8_t)BIT(op))

static uint32_t peer_credit(const struct vsock_link *l)
{
	uint32_t under_way = l->sent - l->peer_taken;
	return under_way < l->peer_room ? l->peer_room - under_way : 0;
}

/* How much the backend may read. */
static void allow(struct vsock_card *c, struct vsock_link *l)
{
	size_t room = MIN((size_t)peer_credit(l), (size_t)VSOCK_IN_ROOM);
	if (l->state == LINK_OPEN && l->stream && room > l->in_size && !(l->guest_shut & VSOCK_SHUT_RECEIVE))
		vsock_allow(c->vsock, l->stream, l->seen + room - l->in_size);
}

struct vsock_link *vsock_link_make(struct vsock_card *c, enum link_state state, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_link *l = c->count < VSOCK_LINKS ? calloc(1, sizeof(*l)) : NULL;
	if (!l)
		return NULL;
	*l = (struct vsock_link){ .next = c->links, .state = state, .host_port = host_port, .guest_port = guest_port };
	c->links = l;
	c->count++;
	return l;
}

struct vsock_link *vsock_link_find(struct vsock_card *c, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_link *l = c->links;
	while (l && (l->host_port != host_port || l->guest_port != guest_port))
		l = l->next;
	return l;
}

struct vsock_link *vsock_link_of(struct vsock_card *c, uint32_t stream)
{
	struct vsock_link *l = c->links;
	while (l && l->stream != stream)
		l = l->next;
	return stream ? l : NULL;
}

static void end_stream(struct vsock_card *c, struct vsock_link *l)
{
	if (l->stream)
		vsock_drop(c->vsock, l->stream);
	l->stream = 0;
}

void vsock_link_kill(struct vsock_card *c, struct vsock_link *l)
{
	end_stream(c, l);
	l->state = LINK_DEAD;
	l->due = DUE(VSOCK_OP_RST);
}

void vsock_link_free(struct vsock_card *c, struct vsock_link *l)
{
	struct vsock_link **at = &c->links;
	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
	c->count--;
	end_stream(c, l);
	free(l->in);
	free(l->out);
	free(l);
}

/* ---- From the guest ----------------------------------------------------------------------------------------------------- */

/* The guest closed its end, and the host has all that came before. */
static void finish(struct vsock_card *c, struct vsock_link *l)
{
	if (l->out_size)
		return;
	if (l->guest_shut == VSOCK_SHUT_BOTH)
		vsock_link_kill(c, l);
	else if (l->guest_shut && l->stream)
		vsock_finish(c->vsock, l->stream, l->guest_shut & VSOCK_SHUT_SEND);
}

/* The guest is told of room before it has none: when it knows of less than half. */
static void took(struct vsock_link *l, size_t size)
{
	l->taken += (uint32_t)size;
	if (l->taken - l->told + l->out_size > VSOCK_OUT_ROOM / 2 && l->taken != l->told)
		l->due |= DUE(VSOCK_OP_CREDIT_UPDATE);
}

static void write_out(struct vsock_card *c, struct vsock_link *l)
{
	if (!l->out_size)
		return;
	struct iovec iov = { l->out + l->out_at, l->out_size };
	size_t n = l->stream ? vsock_write(c->vsock, l->stream, &iov, 1) : l->out_size;
	l->out_size -= n;
	l->out_at = l->out_size ? l->out_at + n : 0;
	took(l, n);
	finish(c, l);
}

/* Keeps the chain's data from this offset on. */
static bool keep_out(struct vsock_link *l, const struct virtq_chain *chain, uint64_t offset, size_t size)
{
	if (size > VSOCK_OUT_ROOM - l->out_size)
		return false; /* more than it was told of */
	if (!l->out)
		l->out = malloc(VSOCK_OUT_ROOM);
	if (!l->out)
		return false;
	if (l->out_at) {
		memmove(l->out, l->out + l->out_at, l->out_size);
		l->out_at = 0;
	}
	virtq_read(chain, offset, l->out + l->out_size, size);
	l->out_size += size;
	return true;
}

static bool take_data(struct vsock_card *c, struct vsock_link *l, const struct virtq_chain *chain, uint32_t size)
{
	struct iovec iov[chain->out + 1];
	unsigned count = 0;
	uint64_t skip = sizeof(struct vsock_packet), left = size;
	for (unsigned i = 0; i < chain->out && left; i++) {
		uint64_t over = MIN(skip, (uint64_t)chain->iov[i].iov_len), here = MIN(left, chain->iov[i].iov_len - over);
		skip -= over;
		left -= here;
		if (here)
			iov[count++] = (struct iovec){ (uint8_t *)chain->iov[i].iov_base + over, here };
	}
	size_t n = l->out_size || !l->stream || !size ? 0 : vsock_write(c->vsock, l->stream, iov, count);
	if (!l->stream)
		n = size; /* nobody reads it */
	took(l, n);
	return n == size || keep_out(l, chain, sizeof(struct vsock_packet) + n, size - n);
}

static void answered(struct vsock_card *c, struct vsock_link *l)
{
	l->state = LINK_OPEN;
	if (l->stream)
		vsock_accept(c->vsock, l->stream, l->host_port);
}

void vsock_link_got(struct vsock_card *c, struct vsock_link *l, const struct vsock_packet *p, struct virtq_chain *chain)
{
	bool good = true;
	if (p->op == VSOCK_OP_RST) {
		vsock_link_free(c, l);
		return;
	}
	if (l->state == LINK_DEAD)
		return;
	l->peer_room = p->buf_alloc;
	l->peer_taken = p->fwd_cnt;
	l->due &= (uint8_t)~DUE(VSOCK_OP_CREDIT_REQUEST);
	switch (p->op) {
	case VSOCK_OP_RESPONSE:
		good = l->state == LINK_GUEST_ASKED;
		if (good)
			answered(c, l);
		break;
	case VSOCK_OP_SHUTDOWN:
		l->guest_shut |= p->flags & VSOCK_SHUT_BOTH;
		if (l->guest_shut & VSOCK_SHUT_RECEIVE)
			l->in_size = 0;
		finish(c, l);
		break;
	case VSOCK_OP_RW:
		good = l->state == LINK_OPEN && !(l->guest_shut & VSOCK_SHUT_SEND) && take_data(c, l, chain, p->len);
		break;
	case VSOCK_OP_CREDIT_UPDATE:
		break;
	case VSOCK_OP_CREDIT_REQUEST:
		l->due |= DUE(VSOCK_OP_CREDIT_UPDATE);
		break;
	default:
		good = false;
	}
	if (good)
		allow(c, l);
	else
		vsock_link_kill(c, l);
}

/* ---- From the host ------------------------------------------------------------------------------------------------------ */

static void opened(struct vsock_card *c, struct vsock_link *l)
{
	if (l->state != LINK_HOST_ASKED)
		return;
	l->state = LINK_OPEN;
	l->due |= DUE(VSOCK_OP_RESPONSE);
	allow(c, l);
}

static bool keep_in(struct vsock_link *l, const uint8_t *data, size_t size)
{
	if (size > VSOCK_IN_ROOM - l->in_size)
		return false;
	if (!l->in)
		l->in = malloc(VSOCK_IN_ROOM);
	if (!l->in)
		return false;
	if (l->in_at) {
		memmove(l->in, l->in + l->in_at, l->in_size);
		l->in_at = 0;
	}
	memcpy(l->in + l->in_size, data, size);
	l->in_size += size;
	return true;
}

void vsock_link_news(struct vsock_card *c, struct vsock_link *l, enum vsock_event what, const uint8_t *data, size_t size)
{
	switch (what) {
	case VSOCK_ASKED:
		break;
	case VSOCK_OPEN:
		opened(c, l);
		break;
	case VSOCK_INPUT:
		l->seen += size;
		if (!(l->guest_shut & VSOCK_SHUT_RECEIVE) && !keep_in(l, data, size))
			vsock_link_kill(c, l);
		break;
	case VSOCK_END:
		l->host_shut |= VSOCK_SHUT_SEND;
		break;
	case VSOCK_WRITABLE:
		write_out(c, l);
		break;
	case VSOCK_GONE:
		l->host_shut = VSOCK_SHUT_BOTH;
		l->out_at = l->out_size = 0;
		if (l->state == LINK_OPEN)
			end_stream(c, l);
		else
			vsock_link_kill(c, l);
		break;
	}
}

/* ---- To the guest ------------------------------------------------------------------------------------------------------- */

enum vsock_op vsock_link_next(struct vsock_card *c, struct vsock_link *l)
{
	if (l->state == LINK_HOST_ASKED)
		return 0;
	if (l->due & (DUE(VSOCK_OP_REQUEST) | DUE(VSOCK_OP_RESPONSE) | DUE(VSOCK_OP_RST)))
		return (enum vsock_op)__builtin_ctz(l->due);
	if (l->state != LINK_OPEN)
		return 0;
	if (l->in_size && peer_credit(l))
		return VSOCK_OP_RW;
	if (!l->in_size && l->host_shut != l->host_shut_told)
		return VSOCK_OP_SHUTDOWN;
	return l->due ? (enum vsock_op)__builtin_ctz(l->due) : 0;
}

void vsock_link_fill(struct vsock_link *l, enum vsock_op op, struct vsock_packet *p, size_t room, const uint8_t **data)
{
	p->src_port = l->host_port;
	p->dst_port = l->guest_port;
	p->op = (uint16_t)op;
	p->buf_alloc = VSOCK_OUT_ROOM;
	p->fwd_cnt = l->taken;
	if (op == VSOCK_OP_SHUTDOWN)
		p->flags = l->host_shut;
	if (op != VSOCK_OP_RW)
		return;
	p->len = (uint32_t)MIN(MIN(room, l->in_size), (size_t)peer_credit(l));
	*data = l->in + l->in_at;
}

void vsock_link_sent(struct vsock_card *c, struct vsock_link *l, const struct vsock_packet *p)
{
	l->due &= (uint8_t)~(DUE(p->op) | DUE(VSOCK_OP_CREDIT_UPDATE)); /* each packet tells of room */
	l->told = p->fwd_cnt;
	switch (p->op) {
	case VSOCK_OP_RST:
		vsock_link_free(c, l);
		return;
	case VSOCK_OP_SHUTDOWN:
		l->host_shut_told = (uint8_t)p->flags;
		break;
	case VSOCK_OP_RW:
		l->sent += p->len;
		l->in_size -= p->len;
		l->in_at = l->in_size ? l->in_at + p->len : 0;
		if (!peer_credit(l))
			l->due |= DUE(VSOCK_OP_CREDIT_REQUEST);
		allow(c, l);
		break;
	}
}
