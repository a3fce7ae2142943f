/* SPDX-License-Identifier: MIT */
/* The virtio network card: frames both ways, over several buffers, offloads that were and were not agreed on, and what waits for buffers. The
 * backend is the test's own. */
#include "backend/net.h"
#include "virtio_driver.h"

#define RECEIVE 0
#define SEND 1
#define HEADER 12
enum {
	F_CSUM = BIT(0), F_GUEST_CSUM = BIT(1), F_MAC = BIT(5), F_GUEST_TSO4 = BIT(7), F_HOST_TSO4 = BIT(11), F_MRG = BIT(15),
	F_STATUS = BIT(16),
};

static struct net net = { .mac = { 0x52, 0x54, 0, 1, 2, 3 } };
static unsigned sent, resumed;
static uint8_t last[NET_FRAME_MAX];
static size_t last_size;
static struct net_offload last_offload;

static int fake_start(struct net *n)
{
	return 0;
}

static void fake_stop(struct net *n)
{
}

static void fake_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
	sent++;
	last_offload = *offload;
	last_size = iov_read(iov, count, 0, last, sizeof(last));
}

static void fake_resume(struct net *n)
{
	resumed++;
}

static const struct net_kind fake = { .name = "fake", .start = fake_start, .stop = fake_stop, .send = fake_send, .resume = fake_resume };
static const struct virtio_net_config config = { .net = &net };
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_net_class, .name = "net", .base = DRIVER_AT, .irq = -1, .config = &config },
};

static void fresh(unsigned offload, uint64_t features)
{
	if (vm)
		vm_destroy(vm);
	net.kind = &fake;
	net.offload = offload;
	net.full = false;
	sent = resumed = 0;
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	driver_start(features, 2);
}

static void come(const uint8_t *frame, size_t size, struct net_offload offload)
{
	uint8_t buffer[sizeof(offload) + NET_FRAME_MAX];
	memcpy(buffer, &offload, sizeof(offload));
	memcpy(buffer + sizeof(offload), frame, size);
	net_receive(&net, buffer, sizeof(offload) + size);
}

static void buffer_at(unsigned i, uint32_t size)
{
	put_desc(RECEIVE, i, BUFFERS + 0x10000 * i, size, D_WRITE, 0);
	offer(RECEIVE, (uint16_t)i);
	kick(RECEIVE);
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
	uint64_t plain = F_MAC | F_STATUS | F_MRG;
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
	come(frame, 1000, (struct net_offload){ 0 });
	ok(take_used(RECEIVE, &length) == 0 && length == HEADER + 1000 && byte_at(BUFFERS + 10) == 1 && byte_at(BUFFERS + HEADER + 999) == frame[999],
	   "net: a frame, behind its header");
	ok(line_level[DRIVER_LINE], "net: with an interrupt");
	buffer_at(0, 500);
	come(frame, 1000, (struct net_offload){ 0 });
	ok(!used_count(RECEIVE), "net: one that does not fit is lost");
	buffer_at(1, 1526);
	come(frame, 400, (struct net_offload){ 0 });
	ok(take_used(RECEIVE, NULL) == 0, "net: and its buffer is used for the next");
	come(frame, 300, (struct net_offload){ 0 });
	for (unsigned i = 0; i < 3; i++)
		come(frame, 100 + i, (struct net_offload){ 0 });
	ok(take_used(RECEIVE, NULL) == 1 && take_used(RECEIVE, NULL) == -1, "net: without buffers they wait");
	buffer_at(2, 1526);
	buffer_at(3, 1526);
	ok(take_used(RECEIVE, &length) == 2 && length == HEADER + 100 && take_used(RECEIVE, &length) == 3 && length == HEADER + 101,
	   "net: and come in order");
	for (unsigned i = 0; i < 1000; i++)
		come(frame, 60, (struct net_offload){ 0 });
	ok(net.full && !resumed, "net: the backend is told to hold back");
	for (unsigned i = 0; i < 2000 && !resumed; i++) {
		buffer_at(i % 16, 1526);
		take_used(RECEIVE, NULL);
	}
	ok(resumed == 1 && !net.full, "net: and to go on");

	fresh(0, F_MRG);
	buffer_at(0, 1024);
	buffer_at(1, 1024);
	come(frame, 3000, (struct net_offload){ 0 });
	ok(!used_count(RECEIVE), "net: merged: not before all have room");
	buffer_at(2, 1024);
	ok(used_count(RECEIVE) == 3 && byte_at(BUFFERS + 10) == 3, "net: merged: three buffers, and their number");
	ok(take_used(RECEIVE, &length) == 0 && length == 1024 && take_used(RECEIVE, &length) == 1 && length == 1024 &&
	   take_used(RECEIVE, &length) == 2 && length == HEADER + 3000 - 2048, "net: merged: how much is in each");
	ok(byte_at(BUFFERS + 0x20000 + length - 1) == frame[2999], "net: merged: to the end");
	buffer_at(0, 8);
	come(frame, 100, (struct net_offload){ 0 });
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
	come(frame, sizeof(frame), o);
	ok(byte_at(BUFFERS) == NET_NEEDS_CSUM && byte_at(BUFFERS + 6) == 20 && byte_at(BUFFERS + HEADER + 22) == 0x12, "net: the checksum is left to a driver that agreed");
	fresh(NET_GIVES_CSUM, 0);
	buffer_at(0, 1526);
	come(frame, sizeof(frame), o);
	uint32_t sum = 0x1234 + 0xabcd + 0x7700;
	sum = ~((sum & 0xffff) + (sum >> 16)) & 0xffff;
	ok(byte_at(BUFFERS) == 0 && byte_at(BUFFERS + HEADER + 22) == sum >> 8 && byte_at(BUFFERS + HEADER + 23) == (sum & 0xff),
	   "net: and filled in for one that did not");
	buffer_at(1, 1526);
	o.csum_start = 63;
	come(frame, sizeof(frame), o);
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
	ok(sent == 1 && last_size == 100 && last[99] == (uint8_t)(99 * 3) && take_used(SEND, NULL) == 0, "net: a frame goes out");
	put_frame(csum, 1500);
	ok(sent == 2 && last_offload.csum_start == 34, "net: with its checksum to be filled in");
	put_frame(segment, 2000);
	ok(sent == 3 && last_offload.gso_size == 1448, "net: a segment to be cut");
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
	ok(sent == 1 && last_size == 60, "net: a header in two parts");
	put_desc(SEND, 0, BUFFERS, 12, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	ok(sent == 1 && !is_broken(), "net: an empty frame is nothing");
	put_desc(SEND, 0, BUFFERS, 11, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	ok(is_broken(), "net: half a header breaks it");
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
	come(frame, sizeof(frame), (struct net_offload){ 0 });
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
	come(frame, sizeof(frame), (struct net_offload){ 0 });
}

int main(void)
{
	configuration();
	receiving();
	offloads();
	sending();
	round_trip();
	abuse_state(vm, "net", use);
	vm_destroy(vm);
	return done();
}
