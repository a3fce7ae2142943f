/* SPDX-License-Identifier: MIT */
/* The legacy interface of virtio over PCI: its ports, its rings, use before DRIVER_OK, the headers and configurations that differ, and the way back
 * to the interface of today. */
#include "net_test.h"
#include "virtio_driver.h"

enum { DEVICE_FEATURES = 0, DRIVER_FEATURES = 4, ADDRESS = 8, SIZE = 12, SELECT = 14, NOTIFY = 16, L_STATUS = 18, L_ISR = 19, L_CONFIG = 20,
	L_VECTOR = 22, CONFIGURATION = 20, CONFIGURATION_MSIX = 24 };
#define PAGE 4096u
#define F_MAC BIT(5)
#define F_MRG BIT(15)
#define LAYOUT BIT(27)

static const struct virtio_net_config config = { .net = &net };
#define BRIDGE { .class = &pci_class, .name = "pci", .irq = -1 }, { .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 }
static const struct device_place rng[] = { BRIDGE, { .class = &virtio_rng_class, .name = "device", .base = DRIVER_AT, .irq = -1 } };
static const struct device_place balloon[] = { BRIDGE, { .class = &virtio_balloon_class, .name = "device", .base = DRIVER_AT, .irq = -1 } };
static const struct device_place card[] = {
	BRIDGE, { .class = &virtio_net_class, .name = "device", .base = DRIVER_AT, .irq = -1, .config = &config },
};

static uint32_t port(unsigned at, unsigned size)
{
	return (uint32_t)bus_read(vm, BUS_PORT, DRIVER_PORTS + at, size);
}

static void set_port(unsigned at, unsigned size, uint32_t value)
{
	bus_write(vm, BUS_PORT, DRIVER_PORTS + at, size, value);
}

static void fresh(const struct device_place *places)
{
	if (vm)
		vm_destroy(vm);
	net_fresh();
	driver_find(machine(1, places, 3));
}

/* As old drivers do it: features, rings, and then they are there. */
static void start(uint32_t features, unsigned queues, uint8_t status)
{
	uint8_t zeros[RING_STEP] = { 0 };
	set_port(L_STATUS, 1, 0);
	set_port(L_STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	set_port(DRIVER_FEATURES, 4, features);
	for (unsigned i = 0; i < queues; i++) {
		set_port(SELECT, 2, i);
		guest_write(vm, ring(i), zeros, sizeof(zeros));
		set_port(ADDRESS, 4, (uint32_t)(ring(i) / PAGE));
		drv.size[i] = (uint16_t)port(SIZE, 2);
		drv.avail[i] = drv.used[i] = 0;
	}
	set_port(L_STATUS, 1, status);
}

static gpa_t avail(unsigned queue)
{
	return ring(queue) + 16u * drv.size[queue];
}

static gpa_t used(unsigned queue)
{
	return align_up(avail(queue) + 6 + 2u * drv.size[queue], PAGE);
}

static void put(unsigned queue, gpa_t at, uint32_t length, uint16_t flags)
{
	put_desc(queue, 0, at, length, flags, 0);
	poke16(avail(queue) + 4 + 2 * (drv.avail[queue] % drv.size[queue]), 0);
	poke16(avail(queue) + 2, ++drv.avail[queue]);
	set_port(NOTIFY, 2, queue);
}

/* How much the device wrote; -1: it gave nothing back. */
static int got(unsigned queue)
{
	uint32_t length;
	if (peek16(used(queue) + 2) == drv.used[queue])
		return -1;
	guest_read(vm, used(queue) + 4 + 8 * (drv.used[queue]++ % drv.size[queue]) + 4, &length, sizeof(length));
	return (int)length;
}

static void registers(void)
{
	fresh(rng);
	ok(pci_read(vm, DRIVER_AT, 0, 4) == 0x10051af4 && pci_read(vm, DRIVER_AT, PCI_REVISION, 1) == 0 &&
	   pci_read(vm, DRIVER_AT, PCI_SUBSYSTEM, 2) == 4, "legacy: IDs");
	pci_write(vm, DRIVER_AT, PCI_BAR, 4, UINT32_MAX);
	ok(pci_read(vm, DRIVER_AT, PCI_BAR, 4) == 0xffffffe1, "legacy: 32 ports");
	driver_find(vm);
	ok(port(DEVICE_FEATURES, 4) == (LAYOUT | BIT(28) | BIT(29)), "legacy: features");
	set_port(DRIVER_FEATURES, 4, UINT32_MAX);
	ok(port(DRIVER_FEATURES, 4) == (LAYOUT | BIT(28) | BIT(29)), "legacy: what was not offered is dropped");
	ok(port(SIZE, 2) == 64 && port(ADDRESS, 4) == 0, "legacy: a queue");
	set_port(ADDRESS, 4, 0x123);
	ok(port(ADDRESS, 4) == 0x123, "legacy: its page");
	set_port(SELECT, 2, 1);
	ok(port(SELECT, 2) == 1 && port(SIZE, 2) == 0 && port(ADDRESS, 4) == 0, "legacy: a queue that is not there");
	set_port(ADDRESS, 4, 0x456);
	set_port(SELECT, 2, 0);
	ok(port(ADDRESS, 4) == 0x123, "legacy: and cannot be made");
	set_port(ADDRESS, 4, 0);
	ok(port(ADDRESS, 4) == 0, "legacy: page 0 takes it away");
	for (unsigned at = 0; at < 32; at++)
		for (unsigned size = 1; size <= 4; size *= 2)
			port(at, size);
	ok(port(L_STATUS, 1) == 0, "legacy: every port can be read");
}

static void requests(void)
{
	fresh(rng);
	start(0, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK);
	put(0, BUFFERS, 100, D_WRITE);
	ok(got(0) == 100 && line_level[DRIVER_LINE], "legacy: a request is served, with an interrupt");
	ok(port(L_ISR, 1) == 1 && !line_level[DRIVER_LINE] && port(L_ISR, 1) == 0, "legacy: whose reason is read once");
	ok(port(L_STATUS, 1) == 7, "legacy: status");
	start(0, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	put(0, BUFFERS, 100, D_WRITE);
	ok(got(0) == 100, "legacy: before the driver says that it is there");
	set_port(L_STATUS, 1, 0);
	put(0, BUFFERS, 100, D_WRITE);
	ok(got(0) == -1, "legacy: after a reset nothing is");
	start(0, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK);
	set_port(ADDRESS, 4, UINT32_MAX);
	put(0, BUFFERS, 100, D_WRITE);
	ok(port(L_STATUS, 1) & VIRTIO_NEEDS_RESET, "legacy: rings beyond RAM break it");
	start(BIT(28) | BIT(29), 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK);
	put(0, BUFFERS, 100, D_WRITE);
	ok(got(0) == 100 && peek16(used(0) + 4 + 8 * 64) == 1, "legacy: with event indices");
	ok(!driver_accept(0) && driver_accept(VIRTIO_F_VERSION_1), "legacy: the next driver may be a new one");
	driver_start(0, 1);
	drv.size[0] = 16;
	put_desc(0, 0, BUFFERS, 64, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	ok(take_used(0, NULL) == 0, "legacy: which is served in its own way");
}

static void vectors(void)
{
	fresh(card);
	ok(port(CONFIGURATION, 1) == 0x52 && port(CONFIGURATION + 5, 1) == 3, "legacy: configuration, in bytes");
	unsigned at = pci_read(vm, DRIVER_AT, PCI_CAPABILITIES, 1);
	while (at && pci_read(vm, DRIVER_AT, at, 1) != PCI_CAP_MSIX)
		at = pci_read(vm, DRIVER_AT, at + 1, 1);
	pci_write(vm, DRIVER_AT, at + 2, 2, 0x8000);
	ok(port(L_CONFIG, 2) == 0xffff && port(L_VECTOR, 2) == 0xffff, "legacy: with MSI-X there are vectors");
	set_port(L_CONFIG, 2, 1);
	set_port(L_VECTOR, 2, 2);
	ok(port(L_CONFIG, 2) == 1 && port(L_VECTOR, 2) == 2, "legacy: which can be chosen");
	set_port(L_VECTOR, 2, 100);
	ok(port(L_VECTOR, 2) == 0xffff, "legacy: if they are there");
	ok(port(CONFIGURATION_MSIX, 1) == 0x52, "legacy: and the configuration moves");
}

static void frames(unsigned header, uint32_t features)
{
	uint8_t frame[40], back[64];
	memset(frame, 0xab, sizeof(frame));
	fresh(card);
	start(features, 2, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_DRIVER_OK);
	put(0, BUFFERS, 1526, D_WRITE);
	come(frame, sizeof(frame));
	ok(got(0) == (int)header + 40, "legacy: a frame with a header of %u bytes", header);
	guest_read(vm, BUFFERS, back, sizeof(back));
	ok(back[header - 1] == 0 && back[header] == 0xab && back[header + 39] == 0xab, "legacy: it is behind that");
	memset(back, 0, sizeof(back));
	memset(back + header, 0xcd, 20);
	guest_write(vm, BUFFERS, back, sizeof(back));
	put(1, BUFFERS, header + 20, 0);
	ok(got(1) == 0 && sent == 1 && last_out()->size == 20 && last_out()->data[0] == 0xcd && last_out()->data[19] == 0xcd, "legacy: and one that goes out");
}

static void balloon_bytes(void)
{
	fresh(balloon);
	for (unsigned i = 0; i < 4; i++)
		set_port(CONFIGURATION + 4 + i, 1, 0x10 + i);
	ok(virtio_balloon_size(device_find(vm, "device")) == 0x13121110ULL * PAGE, "legacy: configuration is written in bytes");
	set_port(CONFIGURATION + 7, 4, 0);
	set_port(CONFIGURATION + 2, 2, 0);
	ok(port(CONFIGURATION + 4, 4) == 0x13121110, "legacy: and only where it can be");
}

static void round_trip(void)
{
	fresh(rng);
	start(BIT(28), 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
	struct vm *one = vm, *two = machine(1, rng, 3);
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	ok(copy_state(one, two) && same_state(one, two), "legacy: state loads");
	vm = two;
	put(0, BUFFERS, 100, D_WRITE);
	ok(got(0) == 100, "legacy: and goes on");
	vm_destroy(one);
}

/* Whatever a driver says to both interfaces, in whatever order: its machine can be saved and loaded. */
static void mixed(void)
{
	for (unsigned order = 0; order < 6; order++) {
		fresh(rng);
		if (order == 0) { /* today's first, then a status by the port */
			driver_start(0, 1);
			set_port(L_STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK | VIRTIO_DRIVER_OK);
		} else if (order == 1) { /* or features, once they were agreed on */
			driver_start(0, 1);
			set_port(DRIVER_FEATURES, 4, LAYOUT);
		} else if (order == 2) { /* features before any status */
			set_port(DRIVER_FEATURES, 4, LAYOUT);
		} else if (order == 3) { /* the upper half, of a legacy driver */
			start(0, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
			set_reg(DRIVER_SELECT, 4, 1);
			set_reg(DRIVER_FEATURE, 4, UINT32_MAX);
		} else { /* what was never offered */
			set_reg(STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
			set_reg(DRIVER_FEATURE, 4, UINT32_MAX);
			set_reg(STATUS, 1, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | (order == 5 ? VIRTIO_FEATURES_OK : 0));
		}
		struct vm *two = machine(1, rng, 3);
		ok(copy_state(vm, two), "legacy: a driver of both ages, order %u: its state loads", order);
		vm_destroy(two);
	}
}

static void use(struct vm *v)
{
	vm = v;
	drv.size[0] = 64;
	put(0, BUFFERS, 100, D_WRITE);
	set_port(SELECT, 2, 0);
	set_port(ADDRESS, 4, (uint32_t)(ring(0) / PAGE));
	put(0, BUFFERS, 100, D_WRITE);
}

int main(void)
{
	registers();
	requests();
	vectors();
	frames(10, F_MAC);
	frames(12, F_MAC | F_MRG);
	balloon_bytes();
	round_trip();
	mixed();
	abuse_state(vm, "device", use);
	vm_destroy(vm);
	return done();
}
