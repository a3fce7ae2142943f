/* SPDX-License-Identifier: MIT */
/* The host side of network cards: what frames of the guest go out to, and where those for it come from.
 *
 * A frame may come with work left to do (struct net_offload, the fields of virtio's header): a checksum to fill in, a segment larger
 * than the link to be cut. A backend with `offload` takes and gives such frames, from the others a device keeps them away. */
#pragma once
#include <sys/uio.h>
#include "util/options.h"
#include "util/set.h"
#include "vm/vm.h"

#define NET_MAC 6
#define NET_FRAME_MAX (64 * KiB + 64) /* a segment to be cut, with its headers */
#define NET_FORWARDS OPTION_LIST_MAX

struct net_offload { /* VIRTIO 1.2, 5.1.6, without its last field; little-endian */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset;
};
enum { NET_NEEDS_CSUM = 1, NET_DATA_VALID = 2 };                        /* flags */
enum { NET_GSO_NONE = 0, NET_GSO_TCPV4 = 1, NET_GSO_TCPV6 = 4, NET_GSO_ECN = 0x80 };
enum { /* what a backend can be given to do, and what may come from it */
	NET_TAKES_CSUM = BIT(0), NET_TAKES_SEGMENTS = BIT(1), NET_GIVES_CSUM = BIT(2), NET_GIVES_SEGMENTS = BIT(3),
};

struct net_words { /* of --net KIND[=ARGUMENT],WORD... */
	const char *mac;
	struct option_list forward;
	uint64_t slot, queues; /* 0: not said */
	int model;             /* enum net_model */
};
enum net_model { NET_MODEL_VIRTIO, NET_MODEL_E1000 };

struct net {
	const struct net_kind *kind;
	struct net_words words;
	char *text;            /* what the words point into */
	const char *argument;  /* NULL: none was given */
	const char *machine;   /* name of the VM */
	uint8_t mac[NET_MAC];
	unsigned offload;      /* NET_TAKES..., NET_GIVES... */
	struct device *device;
	unsigned event;
	_Atomic bool full;     /* the device has no room: the backend holds frames back until it hears of net_resume */
};

struct net_kind {
	const char *name, *help; /* help: how it is written */
	int (*open)(struct net **);              /* allocates; 0 or -ENOMEM */
	int (*prepare)(struct net *);            /* the words are known: opens what it needs. 0 or -errno after an error */
	int (*start)(struct net *);              /* device and event are known: frames may come. 0 or -errno after an error */
	void (*stop)(struct net *);              /* none come any more */
	void (*close)(struct net *);             /* frees */
	/* With the device's lock held. The frame is gone afterwards, one way or another. */
	void (*send)(struct net *, const struct net_offload *, const struct iovec *, unsigned count, size_t size);
	void (*resume)(struct net *);            /* with the device's lock held: there is room again. May be NULL */
	void (*plain)(struct net *);             /* set-up: offloads are not wanted. May be NULL where there are none */
};
SET_DECLARE(struct net_kind, net_kinds);
#define NET_KIND(object) SET_ADD(struct net_kind, net_kinds, object)

/* net.c -- spec: "user,forward=tcp:2222:22". number: the card's, for its address. 0 or -errno, after an error. */
int net_open(struct net **, const char *spec, const char *machine, unsigned number);
/* The card of a machine that stands beside another one: what the guest sees is as with `spec`, `offload` is what that network takes and gives, and
 * nothing goes out or comes in but what event_queue is given. */
int net_open_silent(struct net **, const char *spec, const char *machine, unsigned number, unsigned offload);
void net_close(struct net *); /* after the device is gone; NULL is fine */
/* Set-up: whose it is, and the kind of its event (struct net_offload, then the frame). Stop: from the device's fini. */
int net_start(struct net *, struct device *, unsigned event);
void net_stop(struct net *);
void net_send(struct net *, const struct net_offload *, const struct iovec *, unsigned count, size_t size);
void net_resume(struct net *);
/* Set-up, before net_start: the device neither gives nor takes frames with work left to do. */
void net_plain(struct net *);
/* For backends, holding no lock: a frame for the guest. `buffer` begins with room for the struct net_offload. */
void net_receive(struct net *, const uint8_t *buffer, size_t size);
/* The sum of RFC 1071, of words in memory's order, folded and not complemented. */
uint16_t net_sum(const uint8_t *data, size_t size);
/* Fills in the checksum that the offload asks for; false: it makes no sense. */
bool net_checksum(const struct net_offload *, uint8_t *frame, size_t size);
