/* SPDX-License-Identifier: MIT */
/* The control queue of virtio-net: VIRTIO 1.2, 5.1.6.5: filters by address and VLAN, the card's own address, the number of queues; and 5.1.5 for
 * what a driver gets that asked for nothing: everything. */
#include <string.h>
#include "device/virtio_net.h"

enum { CLASS_RX, CLASS_MAC, CLASS_VLAN, CLASS_ANNOUNCE, CLASS_MQ };
enum { MAC_TABLE_SET, MAC_ADDR_SET };
enum { VLAN_ADD, VLAN_DEL };
enum { OK, ERROR };
enum { STATION, GROUP };
#define ETHERTYPE 12
#define ETHER_HEADER 14
#define ETHER_VLAN 0x8100
#define ETHER_IP 0x0800
#define ETHER_IP6 0x86dd
#define VLAN_MASK 0xfff

struct command {
	uint8_t class, command;
};

const struct field virtio_net_filter_fields[] = {
	FIELD_BYTES(struct virtio_net_filter, mode),
	FIELD_BYTES(struct virtio_net_filter, count),
	FIELD_BYTES(struct virtio_net_filter, all),
	FIELD_BYTES(struct virtio_net_filter, address),
	FIELD_BYTES(struct virtio_net_filter, vlan),
	FIELD_END,
};

bool virtio_net_filter_sane(const struct virtio_net_filter *f)
{
	return f->count[STATION] + f->count[GROUP] <= VIRTIO_NET_ADDRESSES;
}

void virtio_net_control_reset(struct virtio_net_card *c)
{
	c->filter = (struct virtio_net_filter){ .mode[RX_PROMISC] = 1 };
	c->pairs = 1;
	memset(c->flow, 0, sizeof(c->flow));
}

/* ---- Commands ----------------------------------------------------------------------------------------------------------- */

static bool set_mode(struct virtio_net_card *c, uint8_t mode, const struct virtq_chain *chain, uint64_t at)
{
	uint8_t on;
	if (!virtio_has(&c->virtio, mode <= RX_ALLMULTI ? VIRTIO_NET_CTRL_RX : VIRTIO_NET_CTRL_RX_EXTRA) || mode >= RX_MODES ||
	    virtq_read(chain, at, &on, 1) != 1)
		return false;
	c->filter.mode[mode] = on != 0;
	return true;
}

/* Two lists of addresses, each with its length in front. */
static bool set_table(struct virtio_net_card *c, const struct virtq_chain *chain, uint64_t at)
{
	struct virtio_net_filter new = c->filter;
	unsigned total = 0;
	for (unsigned kind = STATION; kind <= GROUP; kind++) {
		uint32_t count;
		if (virtq_read(chain, at, &count, sizeof(count)) != sizeof(count) || count > (chain->out_size - at - sizeof(count)) / NET_MAC)
			return false;
		at += sizeof(count);
		new.all[kind] = count > VIRTIO_NET_ADDRESSES - total;
		new.count[kind] = new.all[kind] ? 0 : (uint8_t)count;
		virtq_read(chain, at, new.address[total], (size_t)new.count[kind] * NET_MAC);
		total += new.count[kind];
		at += (uint64_t)count * NET_MAC;
	}
	c->filter = new;
	return true;
}

static bool set_address(struct virtio_net_card *c, const struct virtq_chain *chain, uint64_t at)
{
	uint8_t mac[NET_MAC];
	if (!virtio_has(&c->virtio, VIRTIO_NET_CTRL_MAC) || virtq_read(chain, at, mac, sizeof(mac)) != sizeof(mac))
		return false;
	memcpy(c->config.mac, mac, sizeof(mac));
	return true;
}

static bool set_vlan(struct virtio_net_card *c, uint8_t command, const struct virtq_chain *chain, uint64_t at)
{
	uint16_t id;
	if (!virtio_has(&c->virtio, VIRTIO_NET_CTRL_VLAN) || command > VLAN_DEL || virtq_read(chain, at, &id, sizeof(id)) != sizeof(id) ||
	    id >= VIRTIO_NET_VLANS)
		return false;
	uint8_t bit = (uint8_t)BIT(id % 8);
	c->filter.vlan[id / 8] = (uint8_t)((c->filter.vlan[id / 8] & ~bit) | (command == VLAN_ADD ? bit : 0));
	return true;
}

static bool set_pairs(struct virtio_net_card *c, const struct virtq_chain *chain, uint64_t at)
{
	uint16_t pairs;
	if (!virtio_has(&c->virtio, VIRTIO_NET_MQ) || virtq_read(chain, at, &pairs, sizeof(pairs)) != sizeof(pairs) || !pairs ||
	    pairs > c->config.max_pairs)
		return false;
	c->pairs = pairs;
	memset(c->flow, 0, sizeof(c->flow)); /* none by a pair that is not used any more */
	return true;
}

static bool obey(struct virtio_net_card *c, const struct virtq_chain *chain)
{
	struct command command;
	uint64_t at = sizeof(command);
	if (virtq_read(chain, 0, &command, sizeof(command)) != sizeof(command))
		return false;
	switch (command.class) {
	case CLASS_RX:
		return set_mode(c, command.command, chain, at);
	case CLASS_MAC:
		if (command.command == MAC_TABLE_SET)
			return virtio_has(&c->virtio, VIRTIO_NET_CTRL_RX) && set_table(c, chain, at);
		return command.command == MAC_ADDR_SET && set_address(c, chain, at);
	case CLASS_VLAN:
		return set_vlan(c, command.command, chain, at);
	case CLASS_ANNOUNCE:
		c->config.status &= (uint16_t)~VIRTIO_NET_SAY_HELLO;
		return command.command == 0 && virtio_has(&c->virtio, VIRTIO_NET_ANNOUNCE);
	case CLASS_MQ:
		return command.command == 0 && set_pairs(c, chain, at);
	}
	return false;
}

void virtio_net_control(struct virtio_net_card *c, struct virtq *q)
{
	struct virtq_chain *chain;
	while ((chain = virtq_pop(q))) {
		uint8_t answer = obey(c, chain) ? OK : ERROR;
		virtq_push(chain, virtq_write(chain, 0, &answer, sizeof(answer)));
	}
	virtq_interrupt(q);
}

/* ---- Frames ------------------------------------------------------------------------------------------------------------- */

static unsigned word(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

static bool listed(const struct virtio_net_filter *f, unsigned kind, const uint8_t *address)
{
	unsigned first = kind == GROUP ? f->count[STATION] : 0;
	for (unsigned i = first; i < first + f->count[kind]; i++)
		if (!memcmp(f->address[i], address, NET_MAC))
			return true;
	return false;
}

static bool wants_vlan(const struct virtio_net_card *c, const uint8_t *frame, size_t size)
{
	if (!virtio_has(&c->virtio, VIRTIO_NET_CTRL_VLAN) || size < ETHER_HEADER + 2 || word(frame + ETHERTYPE) != ETHER_VLAN)
		return true;
	unsigned id = word(frame + ETHER_HEADER) & VLAN_MASK;
	return c->filter.vlan[id / 8] & BIT(id % 8);
}

bool virtio_net_wants(const struct virtio_net_card *c, const uint8_t *frame, size_t size)
{
	static const uint8_t everybody[NET_MAC] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct virtio_net_filter *f = &c->filter;
	if (size < NET_MAC || !wants_vlan(c, frame, size))
		return false;
	if (f->mode[RX_PROMISC])
		return true;
	if (!memcmp(frame, everybody, NET_MAC))
		return !f->mode[RX_NOBCAST];
	if (frame[0] & 1)
		return !f->mode[RX_NOMULTI] && (f->mode[RX_ALLMULTI] || f->all[GROUP] || listed(f, GROUP, frame));
	return !f->mode[RX_NOUNI] &&
	       (f->mode[RX_ALLUNI] || f->all[STATION] || !memcmp(frame, c->config.mac, NET_MAC) || listed(f, STATION, frame));
}

/* Source and destination enter alike, so both directions are one flow. */
static uint32_t fold(const uint8_t *addresses, unsigned size)
{
	uint32_t sum = 0;
	for (unsigned i = 0; i < size; i += 2)
		sum = (sum << 1 | sum >> 31) ^ (word(addresses + i) ^ word(addresses + size + i));
	return sum;
}

unsigned virtio_net_flow(const uint8_t *frame, size_t size)
{
	enum { IP_PROTOCOL = 9, IP_SOURCE = 12, IP_BYTES = 20, IP6_NEXT = 6, IP6_SOURCE = 8, IP6_BYTES = 40, TCP = 6, UDP = 17 };
	const uint8_t *packet = frame + ETHER_HEADER;
	unsigned type = size >= ETHER_HEADER ? word(frame + ETHERTYPE) : 0, protocol = 0, ports = 0;
	uint32_t hash = 0;
	if (type == ETHER_IP && size >= ETHER_HEADER + IP_BYTES) {
		hash = fold(packet + IP_SOURCE, 4);
		protocol = packet[IP_PROTOCOL];
		ports = ETHER_HEADER + (packet[0] & 15u) * 4;
		if (word(packet + 6) & 0x3fff)
			protocol = 0; /* a fragment: the others have no ports */
	} else if (type == ETHER_IP6 && size >= ETHER_HEADER + IP6_BYTES) {
		hash = fold(packet + IP6_SOURCE, 16);
		protocol = packet[IP6_NEXT];
		ports = ETHER_HEADER + IP6_BYTES;
	}
	if ((protocol == TCP || protocol == UDP) && size >= ports + 4)
		hash ^= word(frame + ports) ^ word(frame + ports + 2);
	return (hash * 0x9e3779b1u) >> 24;
}
