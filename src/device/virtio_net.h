/* SPDX-License-Identifier: MIT */
/* Inside virtio-net: the card (virtio_net.c: frames, queues) and what its driver controls (virtio_net_control.c: which frames it wants, and by
 * which queues). */
#pragma once
#include "device/net_backlog.h"
#include "device/virtio_devices.h"

#define VIRTIO_NET_FLOWS 256
#define VIRTIO_NET_ADDRESSES 64  /* that a driver can ask for; with more it gets all */
#define VIRTIO_NET_VLANS 4096

enum { /* features, 5.1.3 */
	VIRTIO_NET_CSUM = BIT(0), VIRTIO_NET_GUEST_CSUM = BIT(1), VIRTIO_NET_MAC = BIT(5), VIRTIO_NET_GUEST_TSO4 = BIT(7),
	VIRTIO_NET_GUEST_TSO6 = BIT(8), VIRTIO_NET_HOST_TSO4 = BIT(11), VIRTIO_NET_HOST_TSO6 = BIT(12), VIRTIO_NET_MRG_RXBUF = BIT(15),
	VIRTIO_NET_STATUS = BIT(16), VIRTIO_NET_CTRL_VQ = BIT(17), VIRTIO_NET_CTRL_RX = BIT(18), VIRTIO_NET_CTRL_VLAN = BIT(19),
	VIRTIO_NET_CTRL_RX_EXTRA = BIT(20), VIRTIO_NET_ANNOUNCE = BIT(21), VIRTIO_NET_MQ = BIT(22), VIRTIO_NET_CTRL_MAC = BIT(23),
};
enum { VIRTIO_NET_LINK_UP = 1, VIRTIO_NET_SAY_HELLO = 2 }; /* status: the latter asks the driver to make itself known to its network */

struct virtio_net_settings { /* 5.1.4 */
	uint8_t mac[NET_MAC];
	uint16_t status, max_pairs;
};

enum { /* modes of 5.1.6.5.1, by their commands */
	RX_PROMISC, RX_ALLMULTI, RX_ALLUNI, RX_NOMULTI, RX_NOUNI, RX_NOBCAST, RX_MODES,
};
struct virtio_net_filter {       /* which frames the driver wants */
	uint8_t mode[RX_MODES];
	uint8_t count[2];        /* addresses of one station, of groups */
	uint8_t all[2];          /* there were too many of them */
	uint8_t address[VIRTIO_NET_ADDRESSES][NET_MAC];
	uint8_t vlan[VIRTIO_NET_VLANS / 8];
};

struct virtio_net_card {
	struct virtio virtio;
	struct net *net;
	struct virtio_net_settings config;
	struct virtio_net_filter filter;
	uint16_t pairs;          /* of queues, that the driver uses */
	uint8_t flow[VIRTIO_NET_FLOWS]; /* the pair by which a flow was sent last; not saved */
	struct net_backlog backlog;
};
extern const struct field virtio_net_filter_fields[];

/* virtio_net_control.c -- With the device's lock held. The filter of a driver that said nothing yet. */
void virtio_net_control_reset(struct virtio_net_card *);
/* The driver has commands in the control queue. */
void virtio_net_control(struct virtio_net_card *, struct virtq *);
bool virtio_net_wants(const struct virtio_net_card *, const uint8_t *frame, size_t size);
/* The flow that a frame belongs to, in either direction: below VIRTIO_NET_FLOWS. */
unsigned virtio_net_flow(const uint8_t *frame, size_t size);
/* False: no card can have that state. */
bool virtio_net_filter_sane(const struct virtio_net_filter *);
