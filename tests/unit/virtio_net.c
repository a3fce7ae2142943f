/* SPDX-License-Identifier: MIT */
/* The virtio network card: frames both ways, over several buffers, offloads that were and were not agreed on, and what waits for buffers. The
 * backend is the test's own. */
#include "device/virtio_net.h"
#include "net_test.h"
#include "virtio_driver.h"

#define RECEIVE 0
#define SEND 1
#define HEADER 12
enum {
	F_CSUM = BIT(0), F_GUEST_CSUM = BIT(1), F_MAC = BIT(5), F_GUEST_TSO4 = BIT(7), F_HOST_TSO4 = BIT(11), F_MRG = BIT(15),
	F_STATUS = BIT(16),
};
#define CONTROL (VIRTIO_NET_CTRL_VQ | VIRTIO_NET_CTRL_RX | VIRTIO_NET_CTRL_RX_EXTRA | VIRTIO_NET_CTRL_VLAN | VIRTIO_NET_CTRL_MAC | VIRTIO_NET_ANNOUNCE)
#define COMMANDS (BUFFERS + 0x200000) /* where they are, and their answers */

static struct virtio_net_config config = { .net = &net };
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_net_class, .name = "net", .base = DRIVER_AT, .irq = -1, .config = &config },
};

static void fresh(unsigned offload, uint64_t features)
{
	if (vm)
		vm_destroy(vm);
	net_fresh();
	net.offload = offload;
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	driver_start(features, (unsigned)reg(NUM_QUEUES, 2));
}

static void buffer_for(unsigned queue, unsigned i, uint32_t size)
{
	put_desc(queue, i, BUFFERS + 0x10000 * i, size, D_WRITE, 0);
	offer(queue, (uint16_t)i);
	kick(queue);
}

static void buffer_at(unsigned i, uint32_t size)
{
	buffer_for(RECEIVE, i, size);
}

static uint8_t byte_at(gpa_t at)
{
	uint8_t byte = 0;
	guest_read(vm, at, &byte, 1);
	return byte;
}

static void configuration(void)
{
	fresh(0, 0);
	ok(bus_read(vm, BUS_MEMORY, drv.device, 4) == 0x01005452 && bus_read(vm, BUS_MEMORY, drv.device + 4, 2) == 0x0302, "net: address");
	ok(bus_read(vm, BUS_MEMORY, drv.device + 6, 2) == 1, "net: the link is up");
	uint64_t plain = F_MAC | F_STATUS | F_MRG | CONTROL;
	ok((offered() & 0xffffff) == plain, "net: a plain backend, plain features");
	fresh(NET_TAKES_CSUM | NET_TAKES_SEGMENTS | NET_GIVES_CSUM | NET_GIVES_SEGMENTS, 0);
	ok((offered() & 0xffffff) == (plain | F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | BIT(8) | F_HOST_TSO4 | BIT(12)), "net: all offloads");
}

static void receiving(void)
{
	uint8_t frame[3000];
	uint32_t length;
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (uint8_t)(i * 7);
	fresh(0, 0);
	buffer_at(0, 1526);
	come(frame, 1000);
	ok(take_used(RECEIVE, &length) == 0 && length == HEADER + 1000 && byte_at(BUFFERS + 10) == 1 && byte_at(BUFFERS + HEADER + 999) == frame[999],
	   "net: a frame, behind its header");
	ok(line_level[DRIVER_LINE], "net: with an interrupt");
	buffer_at(0, 500);
	come(frame, 1000);
	ok(!used_count(RECEIVE), "net: one that does not fit is lost");
	buffer_at(1, 1526);
	come(frame, 400);
	ok(take_used(RECEIVE, NULL) == 0, "net: and its buffer is used for the next");
	come(frame, 300);
	for (unsigned i = 0; i < 3; i++)
		come(frame, 100 + i);
	ok(take_used(RECEIVE, NULL) == 1 && take_used(RECEIVE, NULL) == -1, "net: without buffers they wait");
	buffer_at(2, 1526);
	buffer_at(3, 1526);
	ok(take_used(RECEIVE, &length) == 2 && length == HEADER + 100 && take_used(RECEIVE, &length) == 3 && length == HEADER + 101,
	   "net: and come in order");
	for (unsigned i = 0; i < 1000; i++)
		come(frame, 60);
	ok(net.full && !resumed, "net: the backend is told to hold back");
	for (unsigned i = 0; i < 2000 && !resumed; i++) {
		buffer_at(i % 16, 1526);
		take_used(RECEIVE, NULL);
	}
	ok(resumed == 1 && !net.full, "net: and to go on");

	fresh(0, F_MRG);
	buffer_at(0, 1024);
	buffer_at(1, 1024);
	come(frame, 3000);
	ok(!used_count(RECEIVE), "net: merged: not before all have room");
	buffer_at(2, 1024);
	ok(used_count(RECEIVE) == 3 && byte_at(BUFFERS + 10) == 3, "net: merged: three buffers, and their number");
	ok(take_used(RECEIVE, &length) == 0 && length == 1024 && take_used(RECEIVE, &length) == 1 && length == 1024 &&
	   take_used(RECEIVE, &length) == 2 && length == HEADER + 3000 - 2048, "net: merged: how much is in each");
	ok(byte_at(BUFFERS + 0x20000 + length - 1) == frame[2999], "net: merged: to the end");
	buffer_at(0, 8);
	come(frame, 100);
	buffer_at(1, 1024);
	ok(true, "net: merged: a buffer that is shorter than the header");
}

static void offloads(void)
{
	/* Ethernet, then 8 bytes, a checksum that stands for the pseudo header, data */
	uint8_t frame[64] = { [22] = 0x12, [23] = 0x34, [24] = 0xab, [25] = 0xcd, [40] = 0x77 };
	struct net_offload o = { .flags = NET_NEEDS_CSUM, .csum_start = 20, .csum_offset = 2 };
	fresh(NET_GIVES_CSUM, F_GUEST_CSUM);
	buffer_at(0, 1526);
	come_with(frame, sizeof(frame), o);
	ok(byte_at(BUFFERS) == NET_NEEDS_CSUM && byte_at(BUFFERS + 6) == 20 && byte_at(BUFFERS + HEADER + 22) == 0x12, "net: the checksum is left to a driver that agreed");
	fresh(NET_GIVES_CSUM, 0);
	buffer_at(0, 1526);
	come_with(frame, sizeof(frame), o);
	uint32_t sum = 0x1234 + 0xabcd + 0x7700;
	sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
	ok(byte_at(BUFFERS) == 0 && byte_at(BUFFERS + HEADER + 22) == sum >> 8 && byte_at(BUFFERS + HEADER + 23) == (sum & 0xff),
	   "net: and filled in for one that did not");
	buffer_at(1, 1526);
	o.csum_start = 63;
	come_with(frame, sizeof(frame), o);
	ok(used_count(RECEIVE) == 1, "net: a checksum beyond the frame: it is lost");
}

static void put_frame(struct net_offload offload, uint32_t size)
{
	uint8_t frame[2048] = { 0 };
	memcpy(frame, &offload, sizeof(offload));
	for (unsigned i = 0; i < size; i++)
		frame[HEADER + i] = (uint8_t)(i * 3);
	guest_write(vm, BUFFERS, frame, HEADER + size);
	put_desc(SEND, 0, BUFFERS, HEADER + size, 0, 0);
	offer(SEND, 0);
	kick(SEND);
}

static void sending(void)
{
	struct net_offload none = { 0 }, csum = { .flags = NET_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16 };
	struct net_offload segment = { .flags = NET_NEEDS_CSUM, .gso_type = NET_GSO_TCPV4, .gso_size = 1448 };
	fresh(NET_TAKES_CSUM | NET_TAKES_SEGMENTS, F_CSUM | F_HOST_TSO4);
	put_frame(none, 100);
	ok(sent == 1 && last_out()->size == 100 && last_out()->data[99] == (uint8_t)(99 * 3) && take_used(SEND, NULL) == 0, "net: a frame goes out");
	put_frame(csum, 1500);
	ok(sent == 2 && last_out()->offload.csum_start == 34, "net: with its checksum to be filled in");
	put_frame(segment, 2000);
	ok(sent == 3 && last_out()->offload.gso_size == 1448, "net: a segment to be cut");
	segment.flags = 0;
	put_frame(segment, 2000);
	segment.gso_type = 9;
	put_frame(segment, 2000);
	ok(sent == 3 && used_count(SEND) == 4, "net: one that makes no sense is lost");
	fresh(NET_TAKES_CSUM | NET_TAKES_SEGMENTS, 0);
	put_frame(csum, 100);
	ok(!sent && used_count(SEND) == 1, "net: what was not agreed on is lost");
	guest_write(vm, BUFFERS, "", 1);
	put_desc(SEND, 0, BUFFERS, 5, D_NEXT, 1);
	put_desc(SEND, 1, BUFFERS + 5, 7, D_NEXT, 2);
	put_desc(SEND, 2, BUFFERS + 0x100, 60, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	ok(sent == 1 && last_out()->size == 60, "net: a header in two parts");
	put_desc(SEND, 0, BUFFERS, 12, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	ok(sent == 1 && !is_broken(), "net: an empty frame is nothing");
	put_desc(SEND, 0, BUFFERS, 11, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	ok(is_broken(), "net: half a header breaks it");
}

/* ---- The control queue -------------------------------------------------------------------------------------------------- */

static unsigned control = 2;

/* A command in two parts; its answer, or -1. */
static int command(uint8_t class, uint8_t what, const void *data, uint32_t size)
{
	uint8_t head[2] = { class, what }, answer = 99;
	uint32_t length;
	guest_write(vm, COMMANDS, head, sizeof(head));
	guest_write(vm, COMMANDS + 16, data, size);
	put_desc(control, 0, COMMANDS, sizeof(head), D_NEXT, 1);
	put_desc(control, 1, COMMANDS + 16, size, D_NEXT, 2);
	put_desc(control, 2, COMMANDS + 0x1000, 1, D_WRITE, 0);
	offer(control, 0);
	kick(control);
	if (take_used(control, &length) != 0 || length != 1)
		return -1;
	guest_read(vm, COMMANDS + 0x1000, &answer, 1);
	return answer;
}

static int mode(uint8_t which, uint8_t on)
{
	return command(0, which, &on, 1);
}

/* Does a frame to this address, on this VLAN (0: none), reach the guest? */
static bool comes(const char *mac, uint16_t vlan)
{
	uint8_t frame[60] = { 0 };
	memcpy(frame, mac, NET_MAC);
	if (vlan)
		memcpy(frame + 12, (uint8_t[]){ 0x81, 0, (uint8_t)(vlan >> 8), (uint8_t)vlan }, 4);
	buffer_at(0, 1526);
	come(frame, sizeof(frame));
	bool came = take_used(RECEIVE, NULL) == 0;
	if (!came) { /* it goes to the buffer that waits, so that the next one has it */
		mode(RX_PROMISC, 1);
		memset(frame + 12, 0, 4);
		come(frame, sizeof(frame));
		take_used(RECEIVE, NULL);
		mode(RX_PROMISC, 0);
	}
	return came;
}

#define MINE "\x52\x54\x00\x01\x02\x03"
#define OTHER "\x52\x54\x00\x09\x09\x09"
#define GROUP "\x01\x00\x5e\x01\x02\x03"
#define GROUP_2 "\x33\x33\x00\x00\x00\x01"
#define ALL "\xff\xff\xff\xff\xff\xff"

static void filters(void)
{
	static const uint8_t table[] = { 1, 0, 0, 0, 0x52, 0x54, 0, 9, 9, 9, 1, 0, 0, 0, 1, 0, 0x5e, 1, 2, 3 }, empty[8] = { 0 };
	fresh(0, CONTROL);
	ok(comes(OTHER, 0) && comes(GROUP, 0) && comes(ALL, 0), "control: who asks for nothing gets all");
	ok(mode(RX_PROMISC, 0) == 0 && comes(MINE, 0) && comes(ALL, 0) && !comes(OTHER, 0) && !comes(GROUP, 0), "control: not promiscuous");
	ok(mode(RX_ALLMULTI, 1) == 0 && comes(GROUP, 0) && !comes(OTHER, 0), "control: all groups");
	ok(mode(RX_NOMULTI, 1) == 0 && !comes(GROUP, 0) && comes(ALL, 0), "control: none");
	ok(mode(RX_NOMULTI, 0) == 0 && mode(RX_ALLMULTI, 0) == 0 && mode(RX_ALLUNI, 1) == 0 && comes(OTHER, 0) && !comes(GROUP, 0), "control: all stations");
	ok(mode(RX_ALLUNI, 0) == 0 && mode(RX_NOUNI, 1) == 0 && !comes(MINE, 0) && mode(RX_NOUNI, 0) == 0, "control: none");
	ok(mode(RX_NOBCAST, 1) == 0 && !comes(ALL, 0) && mode(RX_NOBCAST, 0) == 0, "control: no broadcasts");
	ok(command(1, 0, table, sizeof(table)) == 0 && comes(OTHER, 0) && comes(GROUP, 0) && !comes(GROUP_2, 0), "control: a table of addresses");
	ok(command(1, 0, table, sizeof(table) - 1) == 1 && comes(GROUP, 0), "control: half a table is refused");
	static uint8_t large[8 + 70 * NET_MAC] = { [4 + 0] = 0 };
	large[4] = 70;
	ok(command(1, 0, large, sizeof(large)) == 0 && !comes(OTHER, 0) && comes(GROUP_2, 0), "control: a large table is all");
	ok(command(1, 0, empty, sizeof(empty)) == 0 && !comes(GROUP_2, 0), "control: an empty one");
	ok(command(1, 1, OTHER, NET_MAC) == 0 && comes(OTHER, 0) && !comes(MINE, 0), "control: another address");
	ok(bus_read(vm, BUS_MEMORY, drv.device + 4, 2) == 0x0909, "control: which the configuration has, too");
	uint16_t vlan = 5;
	ok(!comes(OTHER, 5) && command(2, 0, &vlan, 2) == 0 && comes(OTHER, 5) && !comes(OTHER, 6) && comes(OTHER, 0), "control: a VLAN");
	ok(command(2, 1, &vlan, 2) == 0 && !comes(OTHER, 5), "control: no more");
	vlan = 4096;
	ok(command(2, 0, &vlan, 2) == 1 && command(2, 2, &vlan, 2) == 1 && command(2, 0, &vlan, 1) == 1, "control: a VLAN that is none");
	ok(mode(RX_MODES, 1) == 1 && command(9, 0, "", 1) == 1 && command(1, 2, "", 1) == 1 && command(4, 0, "\1", 2) == 1, "control: what is not known");
	fresh(0, CONTROL);
	ok(comes(OTHER, 0) && bus_read(vm, BUS_MEMORY, drv.device + 4, 2) == 0x0302, "control: a reset forgets all that");
	fresh(0, VIRTIO_NET_CTRL_VQ);
	ok(mode(RX_PROMISC, 0) == 1 && command(1, 0, empty, sizeof(empty)) == 1 && command(1, 1, OTHER, NET_MAC) == 1 && command(2, 0, &vlan, 2) == 1 &&
	   command(3, 0, "", 1) == 1, "control: what was not agreed on is refused");
	ok(comes(OTHER, 5), "control: and does nothing");
	put_desc(control, 0, COMMANDS, 1, 0, 0);
	offer(control, 0);
	kick(control);
	ok(take_used(control, NULL) == 0 && !is_broken(), "control: half a command, without room for an answer");
}

/* A TCP segment between two ports. */
static void segment_of(uint8_t *frame, uint16_t from, uint16_t to)
{
	memset(frame, 0, 60);
	memcpy(frame, MINE, NET_MAC);
	memcpy(frame + 12, (uint8_t[]){ 8, 0, 0x45 }, 3);
	frame[23] = 6;
	memcpy(frame + 34, (uint8_t[]){ (uint8_t)(from >> 8), (uint8_t)from, (uint8_t)(to >> 8), (uint8_t)to }, 4);
}

static void pairs(void)
{
	uint8_t frame[HEADER + 60] = { 0 };
	uint16_t count = 3;
	config.pairs = 4;
	fresh(0, CONTROL | VIRTIO_NET_MQ);
	ok(reg(NUM_QUEUES, 2) == 9 && bus_read(vm, BUS_MEMORY, drv.device + 8, 2) == 4 && (offered() & VIRTIO_NET_MQ), "pairs: four of them");
	control = 8;
	for (unsigned pair = 0; pair < 4; pair++)
		buffer_for(2 * pair, pair, 1526);
	segment_of(frame + HEADER, 1000, 80);
	guest_write(vm, COMMANDS + 0x2000, frame, sizeof(frame));
	put_desc(5, 0, COMMANDS + 0x2000, sizeof(frame), 0, 0);
	offer(5, 0);
	kick(5);
	ok(!sent, "pairs: at first the driver uses one");
	ok(command(4, 0, &count, 2) == 0, "pairs: it takes three");
	kick(5);
	ok(sent == 1, "pairs: what it sends by the third goes out");
	segment_of(frame, 80, 1000);
	come(frame, 60);
	ok(used_count(4) == 1 && !used_count(0), "pairs: and the answer comes by that");
	segment_of(frame, 80, 1001);
	come(frame, 60);
	ok(used_count(0) == 1, "pairs: what belongs to nothing, by the first");
	count = 5;
	ok(command(4, 0, &count, 2) == 1, "pairs: more than there are");
	count = 0;
	ok(command(4, 0, &count, 2) == 1, "pairs: none");
	count = 1;
	ok(command(4, 0, &count, 2) == 0, "pairs: one again");
	buffer_for(0, 5, 1526);
	segment_of(frame, 80, 1000);
	come(frame, 60);
	ok(used_count(0) == 2, "pairs: by which all comes");
	control = 2;
	fresh(0, CONTROL);
	ok(mode(RX_PROMISC, 1) == 0, "pairs: without them the control queue is the third");
	config.pairs = 0;
}

static void announces(void)
{
	fresh(0, CONTROL);
	ok(mode(RX_PROMISC, 0) == 0 && command(1, 1, OTHER, NET_MAC) == 0, "net: a filter");
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	ok(copy_state(one, two), "net: is loaded");
	vm = two;
	ok(comes(OTHER, 0) && !comes(MINE, 0), "net: and holds");
	ok(bus_read(vm, BUS_MEMORY, drv.device + 6, 2) == 3 && command(3, 0, "", 0) == 0 && bus_read(vm, BUS_MEMORY, drv.device + 6, 2) == 1,
	   "net: the driver is asked to announce itself, once");
	vm_destroy(one);
	net.device = device_find(vm, "net");
}

static void round_trip(void)
{
	uint8_t frame[100] = { 0 };
	fresh(0, F_MRG);
	buffer_at(0, 1526);
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	ok(copy_state(one, two) && same_state(one, two), "net: state loads");
	vm = two; /* whose card was made last: the backend's is this one */
	come(frame, sizeof(frame));
	ok(take_used(RECEIVE, NULL) == 0, "net: and receives");
	vm_destroy(one);
	net.device = device_find(vm, "net");
}

static void use(struct vm *v)
{
	uint8_t frame[100] = { 0 };
	vm = v;
	drv.size[0] = drv.size[1] = 16;
	put_frame((struct net_offload){ 0 }, 100);
	buffer_at(1, 1526);
	come(frame, sizeof(frame));
}

int main(void)
{
	configuration();
	receiving();
	offloads();
	sending();
	filters();
	pairs();
	announces();
	round_trip();
	abuse_state(vm, "net", use);
	vm_destroy(vm);
	return done();
}
