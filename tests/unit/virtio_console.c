/* SPDX-License-Identifier: MIT */
/* The virtio console: what is said about ports, input and output with a backend that is slow, several ports; and the balloon. */
#include "backend/chardev.h"
#include "virtio_driver.h"

#define PORTS 2
#define QUEUES (2 * PORTS + 2)
#define F_MULTIPORT BIT(1)
enum { IN = 0, OUT = 1, CONTROL_IN = 2, CONTROL_OUT = 3, IN_1 = 4, OUT_1 = 5 };

struct backend {
	struct chardev chardev;
	char taken[256];
	size_t size, room;       /* room: what it takes until it is full */
	size_t accepts;
};
static struct backend backend[PORTS];

static size_t slow_write(struct chardev *c, const uint8_t *data, size_t len)
{
	struct backend *b = (struct backend *)c;
	size_t n = MIN(len, b->room);
	memcpy(b->taken + b->size, data, n);
	b->size += n;
	b->room -= n;
	return n;
}

static int slow_start(struct chardev *c, struct vm *v)
{
	return 0;
}

static void slow_stop(struct chardev *c)
{
}

static void slow_accept(struct chardev *c, size_t room)
{
	((struct backend *)c)->accepts = room;
}

static const struct chardev_ops slow = { .write = slow_write, .start = slow_start, .stop = slow_stop, .accept = slow_accept };
static const struct virtio_console_config config = {
	.port = { { &backend[0].chardev, NULL }, { &backend[1].chardev, "org.test" } }, .ports = PORTS,
};
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_console_class, .name = "console", .base = DRIVER_AT, .irq = -1, .config = &config },
};
static const struct device_place balloon_places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_balloon_class, .name = "balloon", .base = DRIVER_AT, .irq = -1 },
};

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	memset(backend, 0, sizeof(backend));
	for (unsigned i = 0; i < PORTS; i++)
		backend[i] = (struct backend){ .chardev.ops = &slow, .room = 256 };
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	driver_start(F_MULTIPORT, QUEUES);
}

static void room_for(unsigned queue, unsigned i, uint32_t size)
{
	put_desc(queue, i, BUFFERS + 0x10000 * queue + 0x100 * i, size, D_WRITE, 0);
	offer(queue, (uint16_t)i);
	kick(queue);
}

static void say(uint32_t id, uint16_t event, uint16_t value)
{
	struct { uint32_t id; uint16_t event, value; } m = { id, event, value };
	guest_write(vm, BUFFERS + 0x10000 * CONTROL_OUT, &m, sizeof(m));
	put_desc(CONTROL_OUT, 0, BUFFERS + 0x10000 * CONTROL_OUT, sizeof(m), 0, 0);
	offer(CONTROL_OUT, 0);
	kick(CONTROL_OUT);
}

/* The next message of the device: "id event value text". */
static const char *heard(void)
{
	static char text[64];
	struct { uint32_t id; uint16_t event, value; } m;
	char more[16] = "";
	uint32_t length;
	int head = take_used(CONTROL_IN, &length);
	if (head < 0)
		return "";
	gpa_t at = BUFFERS + 0x10000 * CONTROL_IN + 0x100 * (unsigned)head;
	guest_read(vm, at, &m, sizeof(m));
	guest_read(vm, at + sizeof(m), more, MIN(length - sizeof(m), sizeof(more) - 1));
	snprintf(text, sizeof(text), "%u %u %u %s", m.id, m.event, m.value, more);
	return text;
}

static void ports(void)
{
	fresh();
	ok(bus_read(vm, BUS_MEMORY, drv.device + 4, 4) == PORTS && reg(NUM_QUEUES, 2) == QUEUES, "console: ports and queues");
	say(0, 0, 1);
	ok(!used_count(CONTROL_IN), "console: what is said waits for room");
	for (unsigned i = 0; i < 8; i++)
		room_for(CONTROL_IN, i, 64);
	ok(!strcmp(heard(), "0 1 1 ") && !strcmp(heard(), "1 1 1 "), "console: both ports are added");
	say(0, 3, 1);
	ok(!strcmp(heard(), "0 4 1 ") && !strcmp(heard(), "0 6 1 "), "console: the first is a terminal, and open");
	say(1, 3, 1);
	ok(!strcmp(heard(), "1 7 1 org.test") && !strcmp(heard(), "1 6 1 "), "console: the second has a name");
	say(99, 3, 1);
	say(0, 77, 1);
	ok(!strcmp(heard(), ""), "console: of ports that are not there nothing is said");
}

static void input(void)
{
	fresh();
	event_post(device_find(vm, "console"), CHARDEV_INPUT, "hello", 5);
	ok(backend[0].accepts == 4096 - 5, "console: input waits, and takes room");
	room_for(IN, 0, 3);
	room_for(IN, 1, 64);
	uint32_t length;
	char text[8] = "";
	ok(take_used(IN, &length) == 0 && length == 3 && take_used(IN, &length) == 1 && length == 2, "console: in the buffers that come");
	guest_read(vm, BUFFERS, text, 3);
	ok(!strcmp(text, "hel") && backend[0].accepts == 4096, "console: and gives its room back");
	room_for(IN_1, 2, 64);
	event_post(device_find(vm, "console"), 4 + CHARDEV_INPUT, "two", 3);
	ok(take_used(IN_1, &length) == 2 && length == 3 && !used_count(IN), "console: each port its own");
	event_post(device_find(vm, "console"), 4 * PORTS, "x", 1);
}

static void output(void)
{
	fresh();
	guest_write(vm, BUFFERS + 0x20000, "0123456789", 10);
	put_desc(OUT, 0, BUFFERS + 0x20000, 4, D_NEXT, 1);
	put_desc(OUT, 1, BUFFERS + 0x20004, 6, 0, 0);
	backend[0].room = 7;
	offer(OUT, 0);
	kick(OUT);
	ok(!used_count(OUT) && backend[0].size == 7, "console: a full backend keeps the chain");
	backend[0].room = 256;
	event_post(device_find(vm, "console"), CHARDEV_WRITABLE, NULL, 0);
	ok(take_used(OUT, NULL) == 0 && !memcmp(backend[0].taken, "0123456789", 10), "console: and gets the rest, once");
	backend[0].room = 3;
	offer(OUT, 0);
	kick(OUT);
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	backend[0].room = 0;
	ok(copy_state(one, two) && same_state(one, two), "console: state loads, with output under way");
	vm = two;
	backend[0].room = 256;
	event_post(device_find(vm, "console"), CHARDEV_WRITABLE, NULL, 0);
	ok(take_used(OUT, NULL) == 0 && !memcmp(backend[0].taken + 10, "0123456789", 10), "console: which goes on where it was");
	vm_destroy(one);
	backend[0].room = 0;
	offer(OUT, 0);
	kick(OUT);
	driver_start(F_MULTIPORT, QUEUES);
	backend[0].room = 256;
	event_post(device_find(vm, "console"), CHARDEV_WRITABLE, NULL, 0);
	ok(!used_count(OUT) && backend[0].size == 20, "console: a reset forgets it");
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned i = 0; i < QUEUES; i++)
		drv.size[i] = 16;
	backend[0].size = 0;
	backend[0].room = 100;
	put_desc(OUT, 0, BUFFERS + 0x20000, 200, 0, 0);
	offer(OUT, 0);
	kick(OUT);
	say(0, 0, 1);
	event_post(device_find(vm, "console"), CHARDEV_INPUT, "hello", 5);
	room_for(IN, 0, 3);
}

static void balloon(void)
{
	vm_destroy(vm);
	driver_find(machine(1, balloon_places, ARRAY_SIZE(balloon_places)));
	driver_start(BIT(0) | BIT(2) | BIT(5), 3);
	uint64_t bytes = 8 * MiB, value = 0x1122334455667788;
	struct device *d = device_find(vm, "balloon");
	event_post(d, VIRTIO_BALLOON_TARGET, &bytes, sizeof(bytes));
	ok(bus_read(vm, BUS_MEMORY, drv.device, 4) == 2048 && (bus_read(vm, BUS_MEMORY, drv.isr, 1) & 2) && reg(GENERATION, 1) == 1,
	   "balloon: the guest is asked");
	uint32_t frames[3] = { 0x2000, 0x2001, UINT32_MAX };
	guest_write(vm, 0x2000000, &value, 8);
	guest_write(vm, 0x2001ff8, &value, 8);
	guest_write(vm, 0x2002000, &value, 8);
	guest_write(vm, BUFFERS, frames, sizeof(frames));
	put_desc(0, 0, BUFFERS, sizeof(frames), 0, 0);
	offer(0, 0);
	kick(0);
	uint64_t one = 1, two = 1, three = 0;
	guest_read(vm, 0x2000000, &one, 8);
	guest_read(vm, 0x2001ff8, &two, 8);
	guest_read(vm, 0x2002000, &three, 8);
	ok(take_used(0, NULL) == 0 && !one && !two && three == value, "balloon: its pages go, and no other");
	bus_write(vm, BUS_MEMORY, drv.device + 4, 4, 2);
	ok(virtio_balloon_size(d) == 8192, "balloon: how much it has given");
	guest_write(vm, 0x2010800, &value, 8);
	guest_write(vm, 0x2012000, &value, 8);
	put_desc(2, 0, 0x2010800, 0x1800, D_WRITE, 0); /* half a page, and one */
	offer(2, 0);
	kick(2);
	guest_read(vm, 0x2010800, &one, 8);
	guest_read(vm, 0x2012000, &two, 8);
	ok(take_used(2, NULL) == 0 && one == value && two == value, "balloon: reported: whole pages only");
	put_desc(1, 0, BUFFERS, 8, 0, 0);
	offer(1, 0);
	kick(1);
	ok(take_used(1, NULL) == 0 && !is_broken(), "balloon: it shrinks");
}

int main(void)
{
	ports();
	input();
	output();
	abuse_state(vm, "console", use);
	balloon();
	vm_destroy(vm);
	return done();
}
