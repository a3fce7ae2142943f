/* SPDX-License-Identifier: MIT */
/* The registers of virtio over PCI, and split rings with everything that can be wrong about them; on the simplest device, the source of
 * random numbers. */
#include "virtio_driver.h"

static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_rng_class, .name = "rng", .base = DRIVER_AT, .irq = -1 },
};

static unsigned messages;
static uint32_t last_data;

static void take_message(struct device *d, uint64_t address, uint32_t data)
{
	messages++;
	last_data = data;
}

static const struct irq_controller controller = { .message = take_message };

static struct vm *make(void)
{
	struct vm *v = machine(1, places, ARRAY_SIZE(places));
	v->irq.controller = &controller;
	return v;
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	driver_find(make());
	messages = 0;
}

static void fresh_ready(uint64_t features)
{
	fresh();
	driver_start(features, 1);
}

static void registers(void)
{
	fresh();
	ok(pci_read(vm, DRIVER_AT, 0, 4) == 0x10051af4 && pci_read(vm, DRIVER_AT, PCI_SUBSYSTEM, 2) == VIRTIO_RNG, "virtio: IDs");
	ok(drv.common && drv.notify && drv.isr && !drv.device && drv.notify_step == 4, "virtio: capabilities; no configuration, no capability");
	ok(reg(NUM_QUEUES, 2) == 1 && reg(STATUS, 1) == 0 && reg(QUEUE_SIZE_AT, 2) == 64, "virtio: after reset");
	ok(offered() == (BIT(28) | BIT(29) | BIT(32) | BIT(40)), "virtio: features");
	set_reg(DEVICE_SELECT, 4, 2);
	ok(reg(DEVICE_FEATURE, 4) == 0, "virtio: no features beyond 64");
	ok(reg(CONFIG_VECTOR, 2) == 0xffff && reg(QUEUE_VECTOR, 2) == 0xffff, "virtio: no vectors");
	set_reg(CONFIG_VECTOR, 2, 1);
	set_reg(QUEUE_VECTOR, 2, 2);
	ok(reg(CONFIG_VECTOR, 2) == 1 && reg(QUEUE_VECTOR, 2) == 0xffff, "virtio: a vector that is not there is refused");
	set_reg(QUEUE_SELECT, 2, 1);
	ok(reg(QUEUE_SELECT, 2) == 1 && reg(QUEUE_SIZE_AT, 2) == 0, "virtio: a queue that is not there has no size");
	set_reg(QUEUE_SIZE_AT, 2, 8);
	set_reg(QUEUE_ENABLE, 2, 1);
	set_reg(QUEUE_SELECT, 2, 0);
	set_reg(QUEUE_SIZE_AT, 2, 24);
	ok(reg(QUEUE_SIZE_AT, 2) == 64, "virtio: a size is a power of two");
	set_reg(QUEUE_SIZE_AT, 2, 128);
	set_reg(QUEUE_SIZE_AT, 2, 0);
	ok(reg(QUEUE_SIZE_AT, 2) == 64, "virtio: and no larger than the device's");
	set_reg(QUEUE_DESC, 8, 0x123456789abcdef0);
	ok(reg(QUEUE_DESC, 4) == 0x9abcdef0 && reg(QUEUE_DESC + 4, 4) == 0x12345678, "virtio: addresses in halves");
	set_reg(QUEUE_ENABLE, 2, 1);
	set_reg(QUEUE_DESC, 8, 0);
	set_reg(QUEUE_ENABLE, 2, 0);
	ok(reg(QUEUE_DESC, 4) == 0x9abcdef0 && reg(QUEUE_ENABLE, 2) == 1, "virtio: an enabled queue stands still");
	set_reg(STATUS, 1, 0);
	ok(!reg(QUEUE_ENABLE, 2) && !reg(QUEUE_DESC, 4), "virtio: reset by the driver");
	for (unsigned at = 0; at < 0x4000; at++)
		for (unsigned size = 1; size <= 8; size *= 2)
			bus_read(vm, BUS_MEMORY, DRIVER_BAR + at, size);
	ok(reg(GENERATION, 1) == 0, "virtio: every register can be read");
}

static void negotiation(void)
{
	fresh();
	ok(!driver_accept(0), "virtio: a driver of before version 1 is refused");
	ok(!driver_accept(VIRTIO_F_VERSION_1 | BIT(5)), "virtio: so is one that accepts what was not offered");
	set_reg(STATUS, 1, VIRTIO_DRIVER_OK);
	ok(!(reg(STATUS, 1) & VIRTIO_DRIVER_OK), "virtio: no driver before the features");
	ok(driver_accept(VIRTIO_F_VERSION_1), "virtio: agreed");
	set_reg(DRIVER_FEATURE, 4, 0xffffffff);
	ok(reg(DRIVER_FEATURE, 4) == 1, "virtio: features stand from then on");
	set_reg(STATUS, 1, 0x80 | reg(STATUS, 1));
	ok(reg(STATUS, 1) == 0x8b, "virtio: failed");
	set_reg(STATUS, 1, 0);
	ok(reg(STATUS, 1) == 0, "virtio: reset");
}

static bool filled(gpa_t at, uint32_t length)
{
	uint8_t bytes[256] = { 0 };
	unsigned set = 0;
	guest_read(vm, at, bytes, length);
	for (unsigned i = 0; i < length; i++)
		set += bytes[i] != 0;
	return set > length / 2;
}

static void chains(void)
{
	uint32_t length;
	fresh_ready(VIRTIO_F_INDIRECT_DESC);
	put_desc(0, 3, BUFFERS, 32, D_WRITE, 0);
	offer(0, 3);
	ok(!used_count(0), "ring: nothing happens before the doorbell");
	kick(0);
	ok(take_used(0, &length) == 3 && length == 32 && filled(BUFFERS, 32) && take_used(0, NULL) == -1, "ring: one buffer");
	put_desc(0, 0, BUFFERS + 0x100, 16, D_WRITE | D_NEXT, 5);
	put_desc(0, 5, BUFFERS + 0x200, 16, D_WRITE | D_NEXT, 1);
	put_desc(0, 1, BUFFERS + 0x300, 64, D_WRITE, 9999);
	offer(0, 0);
	kick(0);
	ok(take_used(0, &length) == 0 && length == 96 && filled(BUFFERS + 0x200, 16) && filled(BUFFERS + 0x300, 64), "ring: a chain of three");
	struct vdesc table[2] = { { BUFFERS + 0x400, 8, D_WRITE | D_NEXT, 1 }, { BUFFERS + 0x500, 8, D_WRITE, 0 } };
	guest_write(vm, BUFFERS + 0x1000, table, sizeof(table));
	put_desc(0, 7, BUFFERS + 0x1000, sizeof(table), D_INDIRECT, 0);
	offer(0, 7);
	kick(0);
	ok(take_used(0, &length) == 7 && length == 16 && filled(BUFFERS + 0x500, 8), "ring: an indirect table");
	put_desc(0, 2, BUFFERS + 0x600, 0, D_WRITE, 0);
	offer(0, 2);
	put_desc(0, 4, BUFFERS + 0x600, 8, 0, 0);
	offer(0, 4);
	kick(0);
	ok(take_used(0, &length) == 2 && !length && take_used(0, &length) == 4 && !length && !is_broken(), "ring: nothing to write is no fault");
	for (unsigned i = 0; i < 70000; i++) {
		offer(0, 3);
		kick(0);
		drv.used[0]++;
	}
	ok(!used_count(0) && !is_broken(), "ring: the indices wrap");
	for (unsigned i = 0; i < 16; i++) {
		put_desc(0, i, BUFFERS + 0x100 * i, 4, D_WRITE, 0);
		offer(0, (uint16_t)i);
	}
	kick(0);
	ok(used_count(0) == 16, "ring: a full ring");
}

static void interrupts(void)
{
	fresh_ready(0);
	put_desc(0, 0, BUFFERS, 8, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	ok(line_level[DRIVER_LINE], "interrupt: by the pin");
	ok(bus_read(vm, BUS_MEMORY, drv.isr, 1) == 1 && !line_level[DRIVER_LINE] && bus_read(vm, BUS_MEMORY, drv.isr, 1) == 0,
	   "interrupt: reading the cause ends it");
	poke16(ring(0) + RING_AVAIL, 1);
	offer(0, 0);
	kick(0);
	ok(!line_level[DRIVER_LINE] && used_count(0) == 2, "interrupt: not when the driver wants none");
	poke16(ring(0) + RING_AVAIL, 0);

	unsigned msix = pci_read(vm, DRIVER_AT, PCI_CAPABILITIES, 1);
	while (pci_read(vm, DRIVER_AT, msix, 1) != PCI_CAP_MSIX)
		msix = pci_read(vm, DRIVER_AT, msix + 1, 1);
	bus_write(vm, BUS_MEMORY, DRIVER_MSIX + 16, 4, 0xfee00000);
	bus_write(vm, BUS_MEMORY, DRIVER_MSIX + 24, 4, 0x41);
	bus_write(vm, BUS_MEMORY, DRIVER_MSIX + 28, 4, 0);
	pci_write(vm, DRIVER_AT, msix + 2, 2, 0x8000);
	offer(0, 0);
	kick(0);
	ok(messages == 1 && last_data == 0x41 && !line_level[DRIVER_LINE], "interrupt: by message");

	fresh_ready(VIRTIO_F_EVENT_IDX);
	gpa_t used_event = ring(0) + RING_AVAIL + 4 + 2 * 16, avail_event = ring(0) + RING_USED + 4 + 8 * 16;
	poke16(used_event, 2);
	put_desc(0, 0, BUFFERS, 8, D_WRITE, 0);
	for (unsigned i = 0; i < 2; i++) {
		offer(0, 0);
		kick(0);
	}
	ok(!line_level[DRIVER_LINE] && peek16(avail_event) == 2, "interrupt: by index: not yet");
	offer(0, 0);
	kick(0);
	ok(line_level[DRIVER_LINE], "interrupt: by index: passed");
	bus_read(vm, BUS_MEMORY, drv.isr, 1);
	offer(0, 0);
	kick(0);
	ok(!line_level[DRIVER_LINE] && used_count(0) == 4, "interrupt: by index: not again");
}

/* Each is a ring that no driver makes: the device must say that it needs a reset, tell by interrupt, do nothing more, and come
 * back after the reset. */
static void malformed(const char *what, void (*make_bad)(void))
{
	fresh_ready(VIRTIO_F_INDIRECT_DESC);
	make_bad();
	kick(0);
	ok(is_broken() && (bus_read(vm, BUS_MEMORY, drv.isr, 1) & 2), "malformed: %s", what);
	drv.avail[0] = peek16(ring(0) + RING_AVAIL + 2);
	offer(0, 0);
	unsigned before = peek16(ring(0) + RING_USED + 2);
	kick(0);
	set_reg(STATUS, 1, 0xf);
	bool still = is_broken() && peek16(ring(0) + RING_USED + 2) == before;
	driver_start(0, 1);
	put_desc(0, 0, BUFFERS, 8, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	ok(still && !is_broken() && used_count(0) == 1, "malformed: %s: after a reset it works", what);
}

static void loop_of_one(void)
{
	put_desc(0, 0, BUFFERS, 8, D_WRITE | D_NEXT, 0);
	offer(0, 0);
}
static void loop_of_two(void)
{
	put_desc(0, 0, BUFFERS, 0, D_WRITE | D_NEXT, 1);
	put_desc(0, 1, BUFFERS, 0, D_WRITE | D_NEXT, 0);
	offer(0, 0);
}
static void next_beyond(void)
{
	put_desc(0, 0, BUFFERS, 8, D_WRITE | D_NEXT, 16);
	offer(0, 0);
}
static void head_beyond(void)
{
	offer(0, 16);
}
static void buffer_beyond_ram(void)
{
	put_desc(0, 0, 64 * MiB - 4, 8, D_WRITE, 0);
	offer(0, 0);
}
static void buffer_wraps(void)
{
	put_desc(0, 0, UINT64_MAX - 3, 8, D_WRITE, 0);
	offer(0, 0);
}
static void buffer_in_a_register(void)
{
	put_desc(0, 0, DRIVER_BAR, 8, D_WRITE, 0);
	offer(0, 0);
}
static void too_long(void)
{
	for (unsigned i = 0; i < 16; i++)
		put_desc(0, i, 0, UINT32_MAX, D_WRITE | D_NEXT, (uint16_t)(i + 1));
	offer(0, 0);
}
static void read_after_write(void)
{
	put_desc(0, 0, BUFFERS, 8, D_WRITE | D_NEXT, 1);
	put_desc(0, 1, BUFFERS, 8, 0, 0);
	offer(0, 0);
}
static void index_jumps(void)
{
	poke16(ring(0) + RING_AVAIL + 2, 17);
}
static void index_goes_back(void)
{
	poke16(ring(0) + RING_AVAIL + 2, 0xffff);
}
static void indirect(uint64_t at, uint32_t length, uint16_t flags)
{
	put_desc(0, 0, at, length, D_INDIRECT | flags, 1);
	offer(0, 0);
}
static void indirect_beyond_ram(void) { indirect(64 * MiB, 32, 0); }
static void indirect_of_odd_size(void) { indirect(BUFFERS, 24, 0); }
static void indirect_of_no_size(void) { indirect(BUFFERS, 0, 0); }
static void indirect_huge(void) { indirect(BUFFERS, 0xfffffff0, 0); }
static void indirect_with_next(void) { indirect(BUFFERS, 32, D_NEXT); }
static void indirect_in_indirect(void)
{
	struct vdesc table = { BUFFERS, 16, D_INDIRECT, 0 };
	guest_write(vm, BUFFERS, &table, sizeof(table));
	indirect(BUFFERS, sizeof(table), 0);
}
static void indirect_next_beyond(void)
{
	struct vdesc table = { BUFFERS, 16, D_WRITE | D_NEXT, 1 };
	guest_write(vm, BUFFERS, &table, sizeof(table));
	indirect(BUFFERS, sizeof(table), 0);
}

static void ring_beyond_ram(void)
{
	fresh();
	driver_accept(VIRTIO_F_VERSION_1);
	set_reg(QUEUE_DESC, 8, 64 * MiB);
	set_reg(QUEUE_DRIVER, 8, 64 * MiB);
	set_reg(QUEUE_DEVICE, 8, UINT64_MAX - 1);
	set_reg(QUEUE_ENABLE, 2, 1);
	driver_ok();
	kick(0);
	ok(is_broken(), "malformed: rings beyond RAM");
}

static void not_negotiated(void)
{
	fresh_ready(0);
	indirect(BUFFERS, 16, 0);
	kick(0);
	ok(is_broken(), "malformed: an indirect table that was not agreed on");
}

static void early(void)
{
	fresh();
	driver_accept(VIRTIO_F_VERSION_1);
	driver_queue(0, 16);
	put_desc(0, 0, BUFFERS, 8, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	ok(!used_count(0), "status: nothing before DRIVER_OK");
	driver_ok();
	ok(used_count(0) == 1, "status: what was there before is taken then");
	bus_write(vm, BUS_MEMORY, drv.notify + 4, 2, 1);
	bus_write(vm, BUS_MEMORY, drv.notify + 0xffc, 4, UINT32_MAX);
	ok(!is_broken(), "doorbell: of a queue that is not there");
}

static void queue_reset(void)
{
	fresh_ready(VIRTIO_F_RING_RESET);
	put_desc(0, 0, BUFFERS, 8, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	set_reg(QUEUE_SELECT, 2, 0);
	set_reg(QUEUE_RESET, 2, 1);
	ok(!reg(QUEUE_RESET, 2) && !reg(QUEUE_ENABLE, 2) && !reg(QUEUE_DESC, 4), "queue reset: done at once");
	driver_queue(0, 32);
	put_desc(0, 20, BUFFERS, 8, D_WRITE, 0);
	offer(0, 20);
	kick(0);
	ok(take_used(0, NULL) == 20, "queue reset: used again, with another size");
}

static void window(void)
{
	fresh();
	unsigned at = pci_read(vm, DRIVER_AT, PCI_CAPABILITIES, 1);
	while (at && !(pci_read(vm, DRIVER_AT, at, 1) == PCI_CAP_VENDOR && pci_read(vm, DRIVER_AT, at + 3, 1) == 5))
		at = pci_read(vm, DRIVER_AT, at + 1, 1);
	pci_write(vm, DRIVER_AT, PCI_COMMAND, 2, 0);
	pci_write(vm, DRIVER_AT, at + 4, 1, 4);
	pci_write(vm, DRIVER_AT, at + 8, 4, NUM_QUEUES);
	pci_write(vm, DRIVER_AT, at + 12, 4, 2);
	ok(at && pci_read(vm, DRIVER_AT, at + 16, 2) == 1, "window: reads a register, with the BAR off");
	pci_write(vm, DRIVER_AT, at + 8, 4, STATUS);
	pci_write(vm, DRIVER_AT, at + 12, 4, 1);
	pci_write(vm, DRIVER_AT, at + 16, 1, 3);
	ok(pci_read(vm, DRIVER_AT, at + 16, 1) == 3, "window: writes one");
	pci_write(vm, DRIVER_AT, at + 8, 4, 0xffffffff);
	pci_read(vm, DRIVER_AT, at + 16, 4);
	pci_write(vm, DRIVER_AT, at + 12, 4, 0xffffffff);
	pci_write(vm, DRIVER_AT, at + 16, 4, 0);
	pci_write(vm, DRIVER_AT, at + 4, 1, 1);
	pci_read(vm, DRIVER_AT, at + 16, 4);
	ok(true, "window: to nowhere");
}

static void round_trip(void)
{
	fresh_ready(VIRTIO_F_EVENT_IDX);
	put_desc(0, 0, BUFFERS, 8, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	struct vm *one = vm, *two = make();
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	ok(copy_state(one, two) && same_state(one, two), "virtio: state loads");
	vm = two;
	ok(line_level[DRIVER_LINE] && bus_read(vm, BUS_MEMORY, drv.isr, 1) == 1, "virtio: with its interrupt");
	offer(0, 0);
	kick(0);
	ok(used_count(0) == 2, "virtio: and its rings");
	vm_destroy(one);
}

static void use(struct vm *v)
{
	vm = v;
	offer(0, 0);
	kick(0);
	bus_read(vm, BUS_MEMORY, drv.isr, 1);
	for (unsigned at = 0; at < 64; at += 4)
		set_reg(at, 4, reg(at, 4));
}

int main(void)
{
	registers();
	negotiation();
	chains();
	interrupts();
	early();
	malformed("a loop of one descriptor", loop_of_one);
	malformed("a loop of empty descriptors", loop_of_two);
	malformed("a next descriptor that is none", next_beyond);
	malformed("a first descriptor that is none", head_beyond);
	malformed("a buffer beyond RAM", buffer_beyond_ram);
	malformed("a buffer at the end of the address space", buffer_wraps);
	malformed("a buffer in a device's registers", buffer_in_a_register);
	malformed("more bytes than can be counted", too_long);
	malformed("a part to read behind one to write", read_after_write);
	malformed("an index that jumps", index_jumps);
	malformed("an index that goes back", index_goes_back);
	malformed("an indirect table beyond RAM", indirect_beyond_ram);
	malformed("an indirect table of an odd size", indirect_of_odd_size);
	malformed("an empty indirect table", indirect_of_no_size);
	malformed("a huge indirect table", indirect_huge);
	malformed("an indirect table with a next descriptor", indirect_with_next);
	malformed("an indirect table in another", indirect_in_indirect);
	malformed("a next descriptor beyond the table", indirect_next_beyond);
	ring_beyond_ram();
	not_negotiated();
	queue_reset();
	window();
	round_trip();
	fresh_ready(0);
	abuse_state(vm, "rng", use);
	vm_destroy(vm);
	return done();
}
