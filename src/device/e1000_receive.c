/* SPDX-License-Identifier: MIT */
/* Frames for the guest: Intel 317453, 3.2. They pass the filters, lose a VLAN tag where that is wanted, and go into as many buffers as they
 * need. Checksums of IPv4, TCP and UDP are looked at where that is wanted (3.2.9). The check sequence behind a frame, where it is not stripped, is
 * zeros. */
#include <string.h>
#include "device/e1000.h"

struct descriptor {
	uint64_t address;
	uint16_t length, checksum;
	uint8_t status, errors;
	uint16_t special;
};
_Static_assert(sizeof(struct descriptor) == E1000_DESCRIPTOR, "a descriptor");
enum { STATUS_DD = BIT(0), STATUS_EOP = BIT(1), STATUS_IXSM = BIT(2), STATUS_VP = BIT(3), STATUS_TCPCS = BIT(5), STATUS_IPCS = BIT(6) };
enum { ERROR_TCPE = BIT(5), ERROR_IPE = BIT(6) };
enum { RXCSUM_START = 0xff, RXCSUM_IPOFLD = BIT(8), RXCSUM_TUOFLD = BIT(9) };

struct marks { /* what the last descriptor of a frame says of it */
	uint8_t status, errors;
	uint16_t checksum, tag;
};

#define ADDRESS_VALID BIT(31)
#define CHECK_SEQUENCE 4u
#define FRAME_LEAST 60u
#define FRAME_USUAL 1518u       /* without the check sequence, with a tag; more is a long packet */
#define FRAME_LONG 16384u

static bool bit_of(const uint32_t *table, unsigned index)
{
	return table[index / 32] >> index % 32 & 1;
}

static bool is_our_address(const struct e1000 *e, const uint8_t *to)
{
	uint32_t low;
	uint16_t high;
	memcpy(&low, to, sizeof(low));
	memcpy(&high, to + sizeof(low), sizeof(high));
	for (unsigned i = 0; i < ARRAY_SIZE(e->r.ra); i += 2)
		if ((e->r.ra[i + 1] & ADDRESS_VALID) && e->r.ra[i] == low && (uint16_t)e->r.ra[i + 1] == high)
			return true;
	return false;
}

/* 13.5.1: twelve bits of the address, from one of four places. */
static bool is_in_hash(const struct e1000 *e, const uint8_t *to)
{
	static const uint8_t shift[] = { 4, 3, 2, 0 };
	unsigned high = to[4] | to[5] << 8;
	return bit_of(e->r.mta, high >> shift[e->r.rctl >> RCTL_MO & 3] & 0xfff);
}

static bool is_wanted(const struct e1000 *e, const uint8_t *frame, bool tagged)
{
	static const uint8_t broadcast[NET_MAC] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	if (tagged && (e->r.rctl & RCTL_VFE) && !bit_of(e->r.vfta, (frame[14] & 0x0fu) << 8 | frame[15]))
		return false;
	if (is_our_address(e, frame))
		return true;
	if (!memcmp(frame, broadcast, NET_MAC))
		return e->r.rctl & (RCTL_BAM | RCTL_MPE);
	if (frame[0] & 1)
		return (e->r.rctl & RCTL_MPE) || is_in_hash(e, frame);
	return e->r.rctl & RCTL_UPE;
}

/* ---- Checksums ---------------------------------------------------------------------------------------------------------- */

#define ETHER_HEADER 14u
#define IP_HEADER 20u
enum { PROTOCOL_TCP = 6, PROTOCOL_UDP = 17, UDP_CHECKSUM = 6, UDP_HEADER = 8, TCP_HEADER = 20 };

static unsigned be16(const uint8_t *at)
{
	return (unsigned)at[0] << 8 | at[1];
}

/* Of a segment whose checksum is right this is all ones. */
static uint16_t segment_sum(const uint8_t *ip, const uint8_t *segment, unsigned size)
{
	uint8_t pseudo[12] = { [9] = ip[9], [10] = (uint8_t)(size >> 8), [11] = (uint8_t)size };
	memcpy(pseudo, ip + 12, 8);
	uint32_t sum = (uint32_t)net_sum(pseudo, sizeof(pseudo)) + net_sum(segment, size);
	return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

/* What it cannot tell (another protocol, a fragment, UDP without a checksum) it leaves open. */
static void look_at_segment(const uint8_t *ip, unsigned header, unsigned length, struct marks *m)
{
	const uint8_t *segment = ip + header;
	unsigned size = length - header;
	bool tcp = ip[9] == PROTOCOL_TCP, udp = ip[9] == PROTOCOL_UDP;
	if ((be16(ip + 6) & 0x3fff) || !(tcp || udp) || size < (tcp ? TCP_HEADER : UDP_HEADER) || (udp && !be16(segment + UDP_CHECKSUM)))
		return;
	m->status |= STATUS_TCPCS;
	m->errors |= segment_sum(ip, segment, size) != 0xffff ? ERROR_TCPE : 0;
}

static void look_at_checksums(const struct e1000 *e, const uint8_t *frame, size_t size, struct marks *m)
{
	const uint8_t *ip = frame + ETHER_HEADER;
	unsigned start = e->r.rxcsum & RXCSUM_START;
	m->checksum = start < size ? net_sum(frame + start, size - start) : 0;
	if ((e->r.rxcsum & (RXCSUM_IPOFLD | RXCSUM_TUOFLD)) && size >= ETHER_HEADER + IP_HEADER && be16(frame + 12) == 0x0800) {
		unsigned header = (ip[0] & 15u) * 4, length = be16(ip + 2);
		if (ip[0] >> 4 == 4 && header >= IP_HEADER && length >= header && length <= size - ETHER_HEADER) {
			if (e->r.rxcsum & RXCSUM_IPOFLD) {
				m->status |= STATUS_IPCS;
				m->errors |= net_sum(ip, header) != 0xffff ? ERROR_IPE : 0;
			}
			if (e->r.rxcsum & RXCSUM_TUOFLD)
				look_at_segment(ip, header, length, m);
		}
	}
	if (!(m->status & (STATUS_IPCS | STATUS_TCPCS)))
		m->status |= STATUS_IXSM;
}

/* ---- Into the ring ------------------------------------------------------------------------------------------------------ */

static uint32_t buffer_size(const struct e1000 *e)
{
	unsigned size = e->r.rctl >> RCTL_BSIZE & 3;
	return e->r.rctl & RCTL_BSEX && size ? 32768u >> size : 2048u >> size;
}

static uint32_t available(const struct e1000_ring *ring)
{
	uint32_t size = e1000_ring_size(ring);
	if (ring->head >= size || ring->tail >= size)
		return 0;
	return ring->tail >= ring->head ? ring->tail - ring->head : size - ring->head + ring->tail;
}

/* Fills buffers with the frame; one that is not memory is as good as lost, and marked done. */
static void put(struct e1000 *e, const uint8_t *frame, uint32_t size, const struct marks *m)
{
	struct e1000_ring *ring = &e->r.rx;
	struct vm *vm = e->device.vm;
	uint32_t room = buffer_size(e), at = 0;
	do {
		gpa_t place = e1000_ring_at(ring, ring->head);
		struct descriptor d;
		uint32_t here = MIN(size - at, room);
		if (!guest_read(vm, place, &d, sizeof(d))) {
			guest_write(vm, d.address, frame + at, here);
			at += here;
			d.length = (uint16_t)here;
			d.checksum = m->checksum;
			d.errors = at == size ? m->errors : 0;
			d.status = (uint8_t)(STATUS_DD | (at == size ? STATUS_EOP | m->status : 0));
			d.special = at == size ? m->tag : 0;
			guest_write(vm, place, &d, sizeof(d));
		} else {
			at += here;
		}
		ring->head = (ring->head + 1) % e1000_ring_size(ring);
	} while (at < size);
}

static void tell(struct e1000 *e)
{
	uint32_t left = available(&e->r.rx), few = e1000_ring_size(&e->r.rx) >> (1 + (e->r.rctl >> RCTL_RDMTS & 3));
	e1000_cause(e, ICR_RXT0 | (left <= few ? ICR_RXDMT0 : 0));
}

bool e1000_receive(struct e1000 *e, const uint8_t *data, size_t size)
{
	uint8_t frame[FRAME_LONG + CHECK_SEQUENCE];
	struct marks marks = { 0 };
	data += sizeof(struct net_offload);
	size -= sizeof(struct net_offload);
	bool tagged = size >= 18 && (data[12] << 8 | data[13]) == (int)(e->r.vet & 0xffff);
	if (size < 14 || size > (e->r.rctl & RCTL_LPE ? FRAME_LONG : FRAME_USUAL) || !is_wanted(e, data, tagged))
		return true;
	memcpy(frame, data, size);
	if (tagged && (e->r.ctrl & CTRL_VME)) {
		marks.tag = (uint16_t)(frame[14] << 8 | frame[15]);
		marks.status = STATUS_VP;
		size -= E1000_VLAN_TAG;
		memmove(frame + 12, frame + 12 + E1000_VLAN_TAG, size - 12);
	}
	uint32_t whole = MAX((uint32_t)size, FRAME_LEAST) + (e->r.rctl & RCTL_SECRC ? 0 : CHECK_SEQUENCE), room = buffer_size(e);
	memset(frame + size, 0, whole - size);
	if (available(&e->r.rx) < (whole + room - 1) / room)
		return false;
	look_at_checksums(e, frame, size, &marks);
	put(e, frame, whole, &marks);
	e1000_count(e, STAT_TPR, 1);
	e1000_count(e, STAT_GPRC, 1);
	if (frame[0] & 1)
		e1000_count(e, frame[0] == 0xff ? STAT_BPRC : STAT_MPRC, 1);
	e1000_count_bytes(e, STAT_GORC, size + CHECK_SEQUENCE);
	e1000_count_bytes(e, STAT_TOR, size + CHECK_SEQUENCE);
	tell(e);
	return true;
}

void e1000_receive_waiting(struct e1000 *e)
{
	struct net_backlog *b = &e->host.backlog;
	while (b->first && e1000_receive(e, b->first->data, b->first->size))
		net_backlog_drop_first(b);
	net_backlog_eased(b, e->host.net);
}
