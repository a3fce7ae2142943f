/* SPDX-License-Identifier: MIT */
/* The virtio disk: every request, what is wrong about one, the configuration, and requests that are under way at a reset, a save or the end. */
#include <fcntl.h>
#include <unistd.h>
#include "backend/image.h"
#include "virtio_driver.h"

#define SECTORS 64
#define QUEUES 2
#define HEADER BUFFERS
#define DATA (BUFFERS + 0x1000)
#define STATUS_AT (BUFFERS + 0x800)
#define DONE_NS 60000           /* a request takes 50 us where the clock is stepped */
#define FEATURES (BIT(5) | BIT(6) | BIT(9) | BIT(11) | BIT(12) | BIT(13) | BIT(14))
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_NONE = 0xee };

static char path[] = "/tmp/doppel-blk.XXXXXX";
static struct image *image;
static struct virtio_blk_config config = { .serial = "a serial number of more than twenty", .queues = QUEUES };
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_blk_class, .name = "disk", .base = DRIVER_AT, .irq = -1, .config = &config },
};

static void close_all(void)
{
	if (vm)
		vm_destroy(vm);
	vm = NULL;
	image_close(image);
	image = NULL;
}

static void fill_file(void)
{
	int fd = open(path, O_RDWR | O_TRUNC);
	for (unsigned i = 0; i < SECTORS; i++) {
		uint8_t sector[512];
		memset(sector, (int)i + 1, sizeof(sector));
		(void)!write(fd, sector, sizeof(sector));
	}
	close(fd);
}

static void fresh(unsigned flags)
{
	close_all();
	fill_file();
	image_open(&image, path, flags);
	config.image = image;
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	driver_start(FEATURES & offered(), QUEUES);
}

static void header(gpa_t at, uint32_t type, uint64_t sector)
{
	struct { uint32_t type, reserved; uint64_t sector; } h = { type, 0, sector };
	guest_write(vm, at, &h, sizeof(h));
}

/* A request in three descriptors from 3 * n on: header, data, status. */
static void begin(unsigned queue, unsigned n, uint32_t type, uint64_t sector, uint32_t bytes)
{
	gpa_t head = HEADER + 0x20 * n, data = DATA + 0x1000 * n, status = STATUS_AT + n;
	uint8_t none = S_NONE;
	bool out = type == T_OUT || type == T_DISCARD || type == T_ZEROES;
	header(head, type, sector);
	guest_write(vm, status, &none, 1);
	put_desc(queue, 3 * n, head, 16, D_NEXT, (uint16_t)(3 * n + (bytes ? 1 : 2)));
	put_desc(queue, 3 * n + 1, data, bytes, D_NEXT | (out ? 0 : D_WRITE), (uint16_t)(3 * n + 2));
	put_desc(queue, 3 * n + 2, status, 1, D_WRITE, 0);
	offer(queue, (uint16_t)(3 * n));
}

static uint8_t byte_at(gpa_t at)
{
	uint8_t byte = 0;
	guest_read(vm, at, &byte, 1);
	return byte;
}

static uint8_t status_of(unsigned n)
{
	return byte_at(STATUS_AT + n);
}

static uint8_t run(uint32_t type, uint64_t sector, uint32_t bytes, uint32_t *length)
{
	uint32_t ignored;
	begin(0, 0, type, sector, bytes);
	kick(0);
	clock_step(vm, DONE_NS);
	return take_used(0, length ? length : &ignored) == 0 ? status_of(0) : S_NONE;
}

static uint8_t file_byte(uint64_t at)
{
	uint8_t byte = 0;
	int fd = open(path, O_RDONLY);
	(void)!pread(fd, &byte, 1, (off_t)at);
	close(fd);
	return byte;
}

static void set_data(uint8_t value, uint32_t bytes)
{
	uint8_t data[8192];
	memset(data, value, sizeof(data));
	guest_write(vm, DATA, data, bytes);
}

static void configuration(void)
{
	fresh(0);
	uint64_t capacity = bus_read(vm, BUS_MEMORY, drv.device, 4) | bus_read(vm, BUS_MEMORY, drv.device + 4, 4) << 32;
	ok(capacity == SECTORS && bus_read(vm, BUS_MEMORY, drv.device + 20, 4) == 512, "blk: capacity and block size");
	ok(bus_read(vm, BUS_MEMORY, drv.device + 34, 2) == QUEUES && reg(NUM_QUEUES, 2) == QUEUES, "blk: queues");
	ok(!(offered() & BIT(5)), "blk: not read only");
	ok(bus_read(vm, BUS_MEMORY, drv.device + 32, 1) == 1, "blk: write back");
	bus_write(vm, BUS_MEMORY, drv.device + 32, 1, 0);
	ok(bus_read(vm, BUS_MEMORY, drv.device + 32, 1) == 0, "blk: write through, as the driver wants");
	set_data(0x99, 512);
	begin(0, 0, T_OUT, 1, 512);
	kick(0);
	clock_step(vm, DONE_NS);
	ok(!used_count(0), "blk: then a write takes a flush too");
	clock_step(vm, DONE_NS);
	ok(used_count(0) == 1 && status_of(0) == S_OK && file_byte(512) == 0x99, "blk: and ends");
	bus_write(vm, BUS_MEMORY, drv.device, 4, 0);
	ok(bus_read(vm, BUS_MEMORY, drv.device, 4) == SECTORS, "blk: the rest is read only");
	for (unsigned at = 0; at < 0x100; at++)
		bus_read(vm, BUS_MEMORY, drv.device + at, 4);
	driver_start(0, QUEUES);
	ok(bus_read(vm, BUS_MEMORY, drv.device + 32, 1) == 0, "blk: a driver that cannot flush has no cache");
}

static void requests(void)
{
	uint32_t length;
	fresh(0);
	ok(run(T_IN, 5, 1024, &length) == S_OK && length == 1025 && byte_at(DATA) == 6 && byte_at(DATA + 1023) == 7, "blk: read");
	set_data(0xab, 1024);
	ok(run(T_OUT, 10, 1024, &length) == S_OK && length == 1 && file_byte(10 * 512) == 0xab && file_byte(12 * 512 - 1) == 0xab &&
	   file_byte(12 * 512) == 13, "blk: write");
	ok(run(T_FLUSH, 0, 0, &length) == S_OK && length == 1, "blk: flush");
	ok(run(T_GET_ID, 0, 20, &length) == S_OK && length == 21 && byte_at(DATA) == 'a' && byte_at(DATA + 19) == 'm', "blk: serial number");
	struct { uint64_t sector; uint32_t sectors, flags; } range = { 20, 8, 0 };
	guest_write(vm, DATA, &range, sizeof(range));
	ok(run(T_ZEROES, 0, sizeof(range), NULL) == S_OK && !file_byte(20 * 512) && !file_byte(28 * 512 - 1) && file_byte(28 * 512) == 29,
	   "blk: write zeroes");
	range.flags = 1;
	range.sector = 40;
	guest_write(vm, DATA, &range, sizeof(range));
	ok(run(T_ZEROES, 0, sizeof(range), NULL) == S_OK && !file_byte(40 * 512), "blk: write zeroes, unmap");
	ok(run(T_DISCARD, 0, sizeof(range), NULL) == S_UNSUPP, "blk: discard with a flag that is none");
	range.flags = 0;
	guest_write(vm, DATA, &range, sizeof(range));
	ok(run(T_DISCARD, 0, sizeof(range), NULL) == S_OK, "blk: discard");
	range.sector = SECTORS - 1;
	guest_write(vm, DATA, &range, sizeof(range));
	ok(run(T_DISCARD, 0, sizeof(range), NULL) == S_IOERR && run(T_ZEROES, 0, sizeof(range), NULL) == S_IOERR, "blk: beyond the end");
	range.sector = UINT64_MAX;
	guest_write(vm, DATA, &range, sizeof(range));
	ok(run(T_DISCARD, 0, sizeof(range), NULL) == S_IOERR, "blk: far beyond the end");
	ok(run(T_DISCARD, 0, 8, NULL) == S_UNSUPP && run(T_DISCARD, 0, 32, NULL) == S_UNSUPP, "blk: a discard of no or two ranges");
	ok(run(T_IN, SECTORS, 512, NULL) == S_IOERR && run(T_IN, SECTORS - 1, 1024, NULL) == S_IOERR &&
	   run(T_OUT, UINT64_MAX, 512, NULL) == S_IOERR && run(T_IN, UINT64_MAX / 512, 512, NULL) == S_IOERR, "blk: transfers beyond the end");
	ok(run(T_IN, 0, 100, NULL) == S_IOERR, "blk: half a sector");
	ok(run(99, 0, 512, NULL) == S_UNSUPP && run(2, 0, 0, NULL) == S_UNSUPP, "blk: a request that is none");
	begin(1, 1, T_IN, 3, 512);
	begin(0, 2, T_IN, 4, 512);
	kick(1);
	kick(0);
	clock_step(vm, DONE_NS);
	ok(take_used(1, NULL) == 3 && take_used(0, NULL) == 6 && byte_at(DATA + 0x1000) == 4 && byte_at(DATA + 0x2000) == 5, "blk: two queues");
}

static void layouts(void)
{
	uint32_t length;
	fresh(0);
	header(HEADER, T_IN, 2); /* the header in two parts, data in three, the status behind data in one */
	put_desc(0, 0, HEADER, 7, D_NEXT, 1);
	put_desc(0, 1, HEADER + 7, 9, D_NEXT, 2);
	put_desc(0, 2, DATA, 100, D_NEXT | D_WRITE, 3);
	put_desc(0, 3, DATA + 0x1000, 400, D_NEXT | D_WRITE, 4);
	put_desc(0, 4, DATA + 0x2000, 13, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	clock_step(vm, DONE_NS);
	ok(take_used(0, &length) == 0 && length == 513 && byte_at(DATA + 99) == 3 && byte_at(DATA + 0x1000 + 399) == 3 &&
	   byte_at(DATA + 0x2000 + 11) == 3 && byte_at(DATA + 0x2000 + 12) == S_OK, "blk: a request in any pieces");
	set_data(0x77, 512);
	header(DATA - 16, T_OUT, 9);
	put_desc(0, 0, DATA - 16, 16 + 512, D_NEXT, 1);
	put_desc(0, 1, STATUS_AT, 1, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	clock_step(vm, DONE_NS);
	ok(take_used(0, NULL) == 0 && status_of(0) == S_OK && file_byte(9 * 512) == 0x77 && file_byte(10 * 512 - 1) == 0x77,
	   "blk: header and data in one piece");
	put_desc(0, 0, HEADER, 15, D_NEXT, 1);
	put_desc(0, 1, STATUS_AT, 1, D_WRITE, 0);
	offer(0, 0);
	kick(0);
	ok(is_broken(), "blk: a short header breaks it");
	driver_start(0, QUEUES);
	put_desc(0, 0, HEADER, 16, 0, 0);
	offer(0, 0);
	kick(0);
	ok(is_broken(), "blk: so does no place for the status");
	driver_start(0, QUEUES);
	begin(0, 0, T_IN, 0, 512);
	begin(0, 0, T_IN, 0, 512);
	kick(0);
	ok(is_broken(), "blk: and a chain that is under way already");
	clock_step(vm, DONE_NS);
	ok(!used_count(0), "blk: broken, it gives nothing back");
}

static void read_only(void)
{
	fresh(IMAGE_READONLY);
	ok(offered() & BIT(5), "blk: read only is told");
	set_data(0xab, 512);
	ok(run(T_IN, 5, 512, NULL) == S_OK && run(T_OUT, 10, 512, NULL) == S_IOERR && run(T_FLUSH, 0, 0, NULL) == S_OK &&
	   file_byte(10 * 512) == 11, "blk: and kept");
	struct { uint64_t sector; uint32_t sectors, flags; } range = { 20, 8, 0 };
	guest_write(vm, DATA, &range, sizeof(range));
	ok(run(T_DISCARD, 0, sizeof(range), NULL) == S_IOERR && run(T_ZEROES, 0, sizeof(range), NULL) == S_IOERR, "blk: in all ways");
}

static void under_way(void)
{
	fresh(0);
	begin(0, 0, T_IN, 5, 512);
	begin(1, 1, T_IN, 6, 512);
	kick(0);
	kick(1);
	driver_start(0, QUEUES);
	clock_step(vm, DONE_NS);
	ok(!used_count(0) && !used_count(1) && status_of(0) == S_NONE, "blk: a reset forgets what was under way");
	ok(run(T_IN, 7, 512, NULL) == S_OK && byte_at(DATA) == 8, "blk: and goes on");
	driver_accept(VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET);
	for (unsigned i = 0; i < QUEUES; i++)
		driver_queue(i, 16);
	driver_ok();
	begin(0, 0, T_IN, 5, 512);
	begin(1, 1, T_IN, 6, 512);
	kick(0);
	kick(1);
	set_reg(QUEUE_SELECT, 2, 0);
	set_reg(QUEUE_RESET, 2, 1);
	clock_step(vm, DONE_NS);
	ok(!used_count(0) && take_used(1, NULL) == 3 && status_of(1) == S_OK && byte_at(DATA + 0x1000) == 7,
	   "blk: a queue's reset leaves the other's alone");
	begin(1, 2, T_IN, 6, 512);
	kick(1);
	close_all();
	ok(true, "blk: the end with a request under way");
}

static void round_trip(void)
{
	fresh(0);
	set_data(0x5c, 512);
	begin(0, 0, T_OUT, 30, 512);
	begin(0, 1, T_IN, 5, 512);
	begin(1, 2, T_IN, 6, 512);
	kick(0);
	kick(1);
	struct vm *one = vm;
	struct image *first = image, *second = NULL;
	image_open(&second, path, IMAGE_READONLY);
	ok(!second, "blk: an image that is written cannot be opened again");
	char copy[] = "/tmp/doppel-blk.XXXXXX";
	int fd = mkstemp(copy);
	ok(!ftruncate(fd, SECTORS * 512), "blk: another image");
	close(fd);
	image_open(&second, copy, 0);
	config.image = second;
	struct vm *two = machine(1, places, ARRAY_SIZE(places));
	memcpy(two->memory.host, one->memory.host, 16 * MiB);
	ok(copy_state(one, two) && same_state(one, two), "blk: state loads");
	vm = two;
	clock_step(vm, DONE_NS);
	ok(used_count(0) == 2 && used_count(1) == 1 && status_of(0) == S_OK && status_of(1) == S_OK && !byte_at(DATA + 0x1000),
	   "blk: what was under way is done there");
	uint8_t byte = 0;
	fd = open(copy, O_RDONLY);
	ok(pread(fd, &byte, 1, 30 * 512) == 1 && byte == 0x5c, "blk: on its image");
	close(fd);
	vm_destroy(two);
	image_close(second);
	unlink(copy);
	vm = one;
	image = first;
	config.image = first;
	clock_step(vm, DONE_NS);
	ok(used_count(0) == 2 && status_of(2) == S_OK, "blk: and here too");
}

static void use(struct vm *v)
{
	vm = v;
	drv.size[0] = drv.size[1] = 16;
	begin(0, 0, T_IN, 5, 512);
	kick(0);
	clock_step(vm, DONE_NS);
	bus_read(vm, BUS_MEMORY, drv.device + 32, 1);
}

static void abuse(void)
{
	fresh(0);
	begin(0, 0, T_IN, 5, 512);
	begin(1, 1, T_IN, 6, 512);
	kick(0);
	kick(1);
	abuse_state(vm, "disk", use);
}

int main(void)
{
	close(mkstemp(path));
	configuration();
	requests();
	layouts();
	read_only();
	under_way();
	round_trip();
	abuse();
	close_all();
	unlink(path);
	return done();
}
