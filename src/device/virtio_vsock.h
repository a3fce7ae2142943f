/* SPDX-License-Identifier: MIT */
/* Inside virtio-vsock: the device (virtio_vsock.c: packets, rings) and its connections (vsock_link.c: what each packet does to one). */
#pragma once
#include "backend/vsock.h"
#include "device/virtio.h"

#define VSOCK_HOST 2u            /* the host's CID */
#define VSOCK_LINKS VSOCK_STREAMS
#define VSOCK_OUT_ROOM (128 * KiB) /* bytes that a connection may have on their way to the host; the guest knows */
#define VSOCK_IN_ROOM (64 * KiB) /* bytes that wait for buffers of the guest's */
#define VSOCK_REPLIES 64

enum vsock_op { /* 5.10.6 */
	VSOCK_OP_REQUEST = 1, VSOCK_OP_RESPONSE, VSOCK_OP_RST, VSOCK_OP_SHUTDOWN, VSOCK_OP_RW, VSOCK_OP_CREDIT_UPDATE, VSOCK_OP_CREDIT_REQUEST,
};
enum { VSOCK_SHUT_RECEIVE = 1, VSOCK_SHUT_SEND = 2, VSOCK_SHUT_BOTH = 3 }; /* flags of SHUTDOWN: what its sender does no more */

struct vsock_packet { /* 5.10.6, its header */
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct vsock_packet) == 44, "the header of a packet");

enum link_state {
	LINK_HOST_ASKED,  /* the guest asked, the host did not answer yet */
	LINK_GUEST_ASKED, /* the other way round */
	LINK_OPEN,
	LINK_DEAD,        /* but the guest was not told yet */
};

struct vsock_link { /* a connection */
	struct vsock_link *next;
	enum link_state state;
	uint32_t host_port, guest_port;
	uint32_t stream;             /* the backend's; 0: gone */
	uint8_t due;                 /* bit i: a packet with op i is to be sent */
	uint8_t host_shut, host_shut_told, guest_shut; /* VSOCK_SHUT_... */
	uint32_t sent, peer_room, peer_taken; /* to the guest: bytes, its buffer, what of them left the buffer */
	uint32_t taken, told;        /* from the guest: bytes that the host has, and what the guest knows of that */
	uint64_t seen;               /* bytes that came from the backend */
	uint8_t *in, *out;           /* what waits for the guest, for the host; NULL: nothing ever did */
	size_t in_at, in_size, out_at, out_size;
};

struct vsock_card {
	struct virtio virtio;
	struct vsock *vsock;
	uint64_t cid;                /* configuration */
	bool lost;                   /* the guest is to hear that all its connections are gone; saved */
	uint32_t next_port;          /* that a connection from the host gets */
	struct vsock_link *links;
	unsigned count;
	struct vsock_reply {         /* RST to what belongs to no connection */
		uint64_t cid;
		uint32_t port, guest_port;
		uint16_t type;
	} reply[VSOCK_REPLIES];
	unsigned replies;
};

/* vsock_link.c -- All with the device's lock held. NULL: there are too many. */
struct vsock_link *vsock_link_make(struct vsock_card *, enum link_state, uint32_t host_port, uint32_t guest_port);
struct vsock_link *vsock_link_find(struct vsock_card *, uint32_t host_port, uint32_t guest_port);
struct vsock_link *vsock_link_of(struct vsock_card *, uint32_t stream);
/* Ends the stream; the guest is told by an RST, and then the link is freed. */
void vsock_link_kill(struct vsock_card *, struct vsock_link *);
void vsock_link_free(struct vsock_card *, struct vsock_link *);
/* A packet of the guest's; its data is the chain's, behind the header. The link may be gone afterwards. */
void vsock_link_got(struct vsock_card *, struct vsock_link *, const struct vsock_packet *, struct virtq_chain *);
/* What happened to its stream. The link may be gone afterwards. */
void vsock_link_news(struct vsock_card *, struct vsock_link *, enum vsock_event, const uint8_t *data, size_t size);
/* The op of the packet that is to be sent next; 0: none. */
enum vsock_op vsock_link_next(struct vsock_card *, struct vsock_link *);
/* Makes that packet, with up to `room` bytes of data, which are `*data`. */
void vsock_link_fill(struct vsock_link *, enum vsock_op, struct vsock_packet *, size_t room, const uint8_t **data);
/* It was sent. The link may be gone afterwards. */
void vsock_link_sent(struct vsock_card *, struct vsock_link *, const struct vsock_packet *);
