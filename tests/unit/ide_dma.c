/* SPDX-License-Identifier: MIT */
/* The bus masters of the IDE controller: disks and a CD by DMA, tables of regions good and bad, interrupts, state in the middle of a
 * transfer, hostile state. */
#include "ide.h"

#define SECTORS 2051
#define BLOCKS 300
#define LBA 0xe0
#define PORTS 0xc000u
#define TABLE 0x100000u
#define DATA_AT 0x200000u
#define LAST 0x80000000u
enum { BM_COMMAND = 0, BM_STATUS = 2, BM_TABLE = 4, BM_SECOND = 8 };
enum { START = 1, TO_MEMORY = 8 };
enum { ACTIVE = 1, ERROR_BIT = 2, INTERRUPT = 4 };

static struct medium disk, disc;
static struct ide_config config;
static uint8_t data[512 * KiB];

static void config_write(unsigned at, unsigned size, uint32_t value)
{
	bus_write(vm, BUS_PORT, 0xcf8, 4, 0x80000000u | PCI_AT(1, 1) << 8 | at);
	bus_write(vm, BUS_PORT, 0xcfc, size, value);
}

static void master(bool on)
{
	config_write(PCI_BAR + 16, 4, PORTS);
	config_write(PCI_COMMAND, 2, PCI_COMMAND_IO | (on ? PCI_COMMAND_MASTER : 0));
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	config = (struct ide_config){ .drive = { [0] = { disk.image, false }, [2] = { disc.image, true } } };
	vm = ide_machine(&config);
	master(true);
}

static void region(unsigned index, uint32_t at, uint32_t count)
{
	uint32_t entry[2] = { at, count };
	guest_write(vm, TABLE + 8 * index, entry, sizeof(entry));
}

static uint8_t bm(unsigned reg)
{
	return in8(vm, (uint16_t)(PORTS + reg));
}

/* As drivers do it: table, direction, the two bits cleared, then the drive's command, and start. */
static void prepare(unsigned channel, uint8_t direction)
{
	bus_write(vm, BUS_PORT, PORTS + channel + BM_TABLE, 4, TABLE);
	out8(vm, (uint16_t)(PORTS + channel + BM_COMMAND), direction);
	out8(vm, (uint16_t)(PORTS + channel + BM_STATUS), ERROR_BIT | INTERRUPT);
}

static void start(unsigned channel, uint8_t direction)
{
	out8(vm, (uint16_t)(PORTS + channel + BM_COMMAND), direction | START);
}

static void command(uint8_t code, uint32_t lba, uint16_t count)
{
	put(PRIMARY, DEVICE, 0x40);
	put(PRIMARY, COUNT, (uint8_t)(count >> 8));
	put(PRIMARY, LOW, (uint8_t)(lba >> 24));
	put(PRIMARY, MID, 0);
	put(PRIMARY, HIGH, 0);
	put(PRIMARY, COUNT, (uint8_t)count);
	put(PRIMARY, LOW, (uint8_t)lba);
	put(PRIMARY, MID, (uint8_t)(lba >> 8));
	put(PRIMARY, HIGH, (uint8_t)(lba >> 16));
	put(PRIMARY, STATUS, code);
}

static void wait_all(void)
{
	for (unsigned i = 0; i < 20; i++)
		settle(PRIMARY);
}

static bool has_sectors(const uint8_t *got, uint32_t first, uint32_t count)
{
	uint8_t wanted[512];
	bool good = true;
	for (uint32_t i = 0; i < count; i++) {
		medium_sector(wanted, first + i);
		good &= !memcmp(got + 512 * i, wanted, 512);
	}
	return good;
}

static bool ended(uint8_t status)
{
	bool line = line_level[14];
	bool good = bm(BM_STATUS) == status && get(PRIMARY, STATUS) == READY && line && !line_level[14];
	out8(vm, PORTS + BM_STATUS, ERROR_BIT | INTERRUPT);
	start(0, 0);
	out8(vm, PORTS + BM_COMMAND, 0);
	return good;
}

static void registers(void)
{
	fresh();
	ok(!bm(BM_COMMAND) && !bm(BM_STATUS) && !bm(BM_TABLE), "bus master: registers after a reset");
	bus_write(vm, BUS_PORT, PORTS + BM_TABLE, 4, 0x12345677);
	ok(bus_read(vm, BUS_PORT, PORTS + BM_TABLE, 4) == 0x12345674, "bus master: the table's address has no bits 1 and 0");
	bus_write(vm, BUS_PORT, PORTS + BM_SECOND + BM_TABLE + 2, 2, 0xabcd);
	ok(bus_read(vm, BUS_PORT, PORTS + BM_SECOND + BM_TABLE, 4) == 0xabcd0000, "bus master: it is written in halves, too");
	out8(vm, PORTS + BM_STATUS, 0xff);
	ok(bm(BM_STATUS) == 0x60, "bus master: two bits say what drives can do");
	out8(vm, PORTS + BM_COMMAND, 0xff & ~START);
	ok(bm(BM_COMMAND) == TO_MEMORY, "bus master: the command's bits");
	start(0, TO_MEMORY);
	ok(bm(BM_STATUS) == (0x60 | ACTIVE), "bus master: active once it is started");
	out8(vm, PORTS + BM_COMMAND, 0);
	ok(bm(BM_STATUS) == 0x60, "bus master: not when it is stopped");
	uint8_t words[512];
	put(PRIMARY, ERROR, 3);
	put(PRIMARY, COUNT, 0x42);
	put(PRIMARY, STATUS, 0xef);
	ok(get(PRIMARY, STATUS) == READY, "ata: Ultra DMA 2 can be set");
	put(PRIMARY, STATUS, 0xec);
	take(PRIMARY, words, 512);
	ok((words[99] & 1) && words[126] == 7 && words[176] == 0x3f && words[177] == 4 && !words[127] && (words[106] & 4),
	   "ata: IDENTIFY DEVICE tells of DMA, its modes, and which one is set");
	static const uint8_t bad[] = { 0x02, 0x0d, 0x10, 0x18, 0x23, 0x30, 0x46, 0x48, 0xff };
	bool refused = true;
	for (unsigned i = 0; i < sizeof(bad); i++) {
		put(PRIMARY, ERROR, 3);
		put(PRIMARY, COUNT, bad[i]);
		put(PRIMARY, STATUS, 0xef);
		refused &= get(PRIMARY, STATUS) == (READY | ERR);
	}
	ok(refused, "ata: modes that there are not are refused");
}

static void disks(void)
{
	fresh();
	region(0, DATA_AT, 512 * 3 | LAST);
	prepare(0, TO_MEMORY);
	command(0x25, 100, 3);
	start(0, TO_MEMORY);
	settle(PRIMARY);
	bool good = ended(INTERRUPT);
	guest_read(vm, DATA_AT, data, 512 * 3);
	ok(good && has_sectors(data, 100, 3), "dma: READ DMA EXT of three sectors");
	ok(get(PRIMARY, LOW) == 102 && !get(PRIMARY, COUNT), "dma: the registers hold the last sector");
	/* Regions of all sizes, at addresses all over; a count of 0 is 64 KiB. 700 sectors are several requests to the image. */
	region(0, DATA_AT + 0x10002, 0);
	region(1, DATA_AT + 0x40000, 2);
	region(2, DATA_AT + 0x50000, 0x1000);
	region(3, DATA_AT + 0x60ffe, 0xff00);
	uint32_t rest = 700 * 512 - 0x10000 - 2 - 0x1000 - 0xff00;
	region(4, DATA_AT + 0x80000, 0);
	region(5, DATA_AT + 0x90000, 0);
	region(6, DATA_AT + 0xa0000, 0);
	region(7, DATA_AT + 0xb0000, (rest - 0x30000) | LAST);
	prepare(0, TO_MEMORY);
	start(0, TO_MEMORY); /* before the command */
	command(0x25, 1, 700);
	wait_all();
	good = ended(INTERRUPT);
	guest_read(vm, DATA_AT + 0x10002, data, 0x10000);
	guest_read(vm, DATA_AT + 0x40000, data + 0x10000, 2);
	guest_read(vm, DATA_AT + 0x50000, data + 0x10002, 0x1000);
	guest_read(vm, DATA_AT + 0x60ffe, data + 0x11002, 0xff00);
	guest_read(vm, DATA_AT + 0x80000, data + 0x20f02, rest);
	ok(good && has_sectors(data, 1, 700), "dma: 700 sectors into regions of all sizes");
	for (unsigned i = 0; i < 300; i++)
		medium_sector(data + 512 * i, 5000 + i);
	guest_write(vm, DATA_AT, data, 300 * 512);
	for (unsigned i = 0; i < 3; i++)
		region(i, DATA_AT + 0xc800 * i, 0xc800 | (i == 2 ? LAST : 0));
	prepare(0, 0);
	command(0x35, 50, 300);
	start(0, 0);
	wait_all();
	ok(ended(INTERRUPT), "dma: WRITE DMA EXT of 300 sectors");
	ok(medium_holds(&disk, 50, data) && medium_holds(&disk, 349, data + 512 * 299), "dma: the file has them");
	for (unsigned i = 0; i < 300; i++)
		medium_sector(data + 512 * i, 50 + i);
	guest_write(vm, DATA_AT, data, 300 * 512);
	static const uint8_t codes[] = { 0xca, 0xcb };
	for (unsigned i = 0; i < 2; i++) {
		prepare(0, 0);
		put(PRIMARY, DEVICE, LBA);
		put(PRIMARY, COUNT, 150);
		put(PRIMARY, LOW, (uint8_t)(50 + 150 * i));
		put(PRIMARY, MID, 0);
		put(PRIMARY, HIGH, 0);
		region(0, DATA_AT + 0x12c00 * i, 0);
		region(1, DATA_AT + 0x12c00 * i + 0x10000, 0x2c00 | LAST);
		put(PRIMARY, STATUS, codes[i]);
		start(0, 0);
		wait_all();
		ended(INTERRUPT);
	}
	ok(medium_holds(&disk, 50, data) && medium_holds(&disk, 349, data + 512 * 299), "dma: WRITE DMA, with 28 bits, and the old one");
}

static void packets(void)
{
	static const uint8_t read_10[12] = { 0x28, 0, 0, 0, 0, 7, 0, 0, 70 }, sense[12] = { 0x03, 0, 0, 0, 18 };
	fresh();
	uint8_t status = 0;
	for (unsigned i = 0; i < 2; i++) {
		region(0, DATA_AT, i ? 0 : 18 | LAST);
		region(1, DATA_AT + 0x10000, 0);
		region(2, DATA_AT + 0x20000, (70 * 2048 - 0x20000) | LAST);
		prepare(BM_SECOND, TO_MEMORY);
		put(SECONDARY, ERROR, 1);
		put(SECONDARY, STATUS, 0xa0);
		give(SECONDARY, i ? read_10 : sense, 12);
		start(BM_SECOND, TO_MEMORY);
		wait_all();
		status = get(SECONDARY, STATUS);
		if (!i) {
			guest_read(vm, DATA_AT, data, 18);
			ok(status == READY && bm(BM_SECOND + BM_STATUS) == INTERRUPT && data[0] == 0x70 && data[2] == 6, "atapi: sense data by DMA");
		}
		out8(vm, PORTS + BM_SECOND + BM_COMMAND, 0);
	}
	guest_read(vm, DATA_AT, data, 70 * 2048);
	ok(status == READY && has_sectors(data, 7 * 4, 70 * 4), "atapi: 70 blocks by DMA");
	ok(get(SECONDARY, COUNT) == 3, "atapi: the interrupt reason at the end");
	uint8_t words[512];
	put(SECONDARY, STATUS, 0xa1);
	take(SECONDARY, words, 512);
	ok((words[99] & 1) && words[126] == 7 && words[176] == 0x3f, "atapi: IDENTIFY PACKET DEVICE tells of DMA");
}

static void bad_tables(void)
{
	fresh();
	region(0, DATA_AT, 512);
	region(1, DATA_AT + 0x1000, 512 | LAST);
	region(2, DATA_AT + 0x2000, 512 | LAST);
	prepare(0, TO_MEMORY);
	command(0x25, 10, 3);
	start(0, TO_MEMORY);
	wait_all();
	ok(!bm(BM_STATUS) && alternate(PRIMARY) == (READY | DRQ) && !line_level[14], "table: too short: the bus master stops, the drive waits");
	out8(vm, PORTS + BM_COMMAND, 0);
	bus_write(vm, BUS_PORT, PORTS + BM_TABLE, 4, TABLE + 16);
	start(0, TO_MEMORY);
	guest_read(vm, DATA_AT, data, 512);
	guest_read(vm, DATA_AT + 0x1000, data + 512, 512);
	guest_read(vm, DATA_AT + 0x2000, data + 1024, 512);
	ok(ended(INTERRUPT) && has_sectors(data, 10, 3), "table: the rest goes to another");
	region(0, DATA_AT, 0 | LAST);
	prepare(0, TO_MEMORY);
	command(0x25, 10, 3);
	start(0, TO_MEMORY);
	wait_all();
	ok(ended(INTERRUPT | ACTIVE), "table: too long: it stays active, and interrupts");
	static const uint32_t nowhere[] = { 64 * MiB, 64 * MiB - 512, 0xfffffe00, 0xa0000000 };
	bool good = true;
	for (unsigned i = 0; i < ARRAY_SIZE(nowhere); i++) {
		for (unsigned way = 0; way < 2; way++) {
			region(0, nowhere[i], 1024 | LAST);
			prepare(0, way ? 0 : TO_MEMORY);
			command(way ? 0x35 : 0x25, 0, 2);
			start(0, way ? 0 : TO_MEMORY);
			wait_all();
			good &= bm(BM_STATUS) == ERROR_BIT && alternate(PRIMARY) == (READY | DRQ) && !line_level[14];
			out8(vm, PORTS + BM_COMMAND, 0);
			out8(vm, CONTROL_OF(PRIMARY), 4);
			out8(vm, CONTROL_OF(PRIMARY), 0);
		}
	}
	ok(good, "table: regions beyond memory are errors, and nothing moves");
	uint8_t wanted[512];
	medium_sector(wanted, 0);
	ok(medium_holds(&disk, 0, wanted), "table: nor is anything written");
	prepare(0, TO_MEMORY);
	bus_write(vm, BUS_PORT, PORTS + BM_TABLE, 4, 0xfffffffc);
	command(0x25, 0, 1);
	start(0, TO_MEMORY);
	settle(PRIMARY);
	ok(bm(BM_STATUS) == ERROR_BIT, "table: itself beyond memory");
	out8(vm, PORTS + BM_COMMAND, 0);
	for (unsigned i = 0; i < 0x10000 / 8; i++)
		region(i, DATA_AT | 1, 3);
	prepare(0, TO_MEMORY);
	bus_write(vm, BUS_PORT, PORTS + BM_TABLE, 4, TABLE + 0xfff8);
	command(0x25, 0, 3);
	start(0, TO_MEMORY);
	wait_all();
	guest_read(vm, DATA_AT, data, 2);
	medium_sector(wanted, 2);
	ok(ended(INTERRUPT | ACTIVE) && !memcmp(data, wanted + 510, 2), "table: without an end, at odd addresses: it goes round within 64 KiB");
	region(0, DATA_AT, 512 | LAST);
	prepare(0, 0);
	command(0x25, 0, 1);
	start(0, 0);
	wait_all();
	ok(bm(BM_STATUS) == ACTIVE && alternate(PRIMARY) == (READY | DRQ), "bus master: the wrong direction moves nothing");
	out8(vm, PORTS + BM_COMMAND, 0);
	fresh();
	master(false);
	region(0, DATA_AT, 512 | LAST);
	prepare(0, TO_MEMORY);
	command(0x25, 5, 1);
	start(0, TO_MEMORY);
	settle(PRIMARY);
	ok(bm(BM_STATUS) == ACTIVE && !line_level[14], "bus master: it waits until the bus is its");
	master(true);
	guest_read(vm, DATA_AT, data, 512);
	ok(ended(INTERRUPT) && has_sectors(data, 5, 1), "bus master: and goes on then");
	put(PRIMARY, DEVICE, LBA);
	command(0x25, SECTORS, 1);
	ok(get(PRIMARY, STATUS) == (READY | ERR) && (bm(BM_STATUS) & INTERRUPT), "dma: beyond the end: an error, with an interrupt");
}

static void saving(void)
{
	struct medium copy = medium_make(SECTORS, 0), copy_disc = medium_make(BLOCKS * 4, IMAGE_READONLY);
	struct ide_config there = { .drive = { [0] = { copy.image, false }, [2] = { copy_disc.image, true } } };
	static const char *const when[] = { "a read under way", "a write under way", "a table that was too short" };
	for (unsigned i = 0; i < ARRAY_SIZE(when); i++) {
		bool in = i != 1;
		fresh();
		for (unsigned n = 0; n < 200; n++)
			medium_sector(data + 512 * n, 9000 + n);
		guest_write(vm, DATA_AT, data, 200 * 512);
		region(0, DATA_AT, i == 2 ? 0x8000 | LAST : 0);
		region(1, DATA_AT + 0x10000, 0x9000 | LAST);
		prepare(0, in ? TO_MEMORY : 0);
		command(in ? 0x25 : 0x35, 20, 200);
		start(0, in ? TO_MEMORY : 0);
		if (i == 2)
			wait_all();
		struct vm *first = vm, *second = ide_machine(&there);
		guest_read(first, DATA_AT, data, 200 * 512);
		guest_write(second, DATA_AT, data, 200 * 512);
		bool good = copy_state(first, second) && same_state(first, second);
		vm = second;
		region(0, DATA_AT, 0);
		region(1, DATA_AT + 0x10000, 0x9000 | LAST);
		if (i == 2) {
			out8(vm, PORTS + BM_COMMAND, 0);
			region(0, DATA_AT + 0x8000, 0);
			region(1, DATA_AT + 0x18000, 0x1000 | LAST);
			start(0, TO_MEMORY);
		}
		wait_all();
		guest_read(vm, DATA_AT, data, 200 * 512);
		good &= bm(BM_STATUS) == INTERRUPT && get(PRIMARY, STATUS) == READY;
		good &= in ? has_sectors(data, 20, 200) : medium_holds(&copy, 20, data) && medium_holds(&copy, 219, data + 512 * 199);
		ok(good, "saving: %s goes on in another machine", when[i]);
		for (unsigned n = 0; n < 200; n++) { /* as it was, for the next */
			medium_sector(data + 512 * n, 20 + n);
		}
		guest_write(vm, DATA_AT, data, 200 * 512);
		region(0, DATA_AT, 0);
		region(1, DATA_AT + 0x10000, 0x9000 | LAST);
		prepare(0, 0);
		command(0x35, 20, 200);
		start(0, 0);
		wait_all();
		vm_destroy(second);
		vm = first;
		wait_all();
		guest_write(vm, DATA_AT, data, 200 * 512);
		prepare(0, 0);
		start(0, 0);
		command(0x35, 20, 200);
		wait_all();
	}
	medium_free(&copy);
	medium_free(&copy_disc);
}

/* What a guest can do, with a device in any state. */
static void use(struct vm *machine_used)
{
	static const uint8_t codes[] = { 0x25, 0x35, 0xc8, 0xca };
	static unsigned turn;
	vm = machine_used;
	master(true);
	start(0, turn & 4 ? 0 : TO_MEMORY);
	clock_step(vm, REQUEST_NS);
	get(PRIMARY, STATUS);
	for (unsigned i = 0; i < 20; i++)
		bus_write(vm, BUS_PORT, PRIMARY, 2, i);
	put(PRIMARY, STATUS, codes[turn++ % ARRAY_SIZE(codes)]);
	out8(vm, PORTS + BM_COMMAND, 0);
	start(0, turn & 4 ? 0 : TO_MEMORY);
	clock_step(vm, REQUEST_NS);
}

int main(void)
{
	disk = medium_make(SECTORS, 0);
	disc = medium_make(BLOCKS * 4, IMAGE_READONLY);
	registers();
	disks();
	packets();
	bad_tables();
	saving();
	fresh();
	region(0, DATA_AT, 0);
	region(1, DATA_AT, 0);
	region(2, DATA_AT, 0 | LAST);
	prepare(0, TO_MEMORY);
	command(0x25, 3, 400);
	start(0, TO_MEMORY);
	settle(PRIMARY);
	abuse_state(vm, "ide", use);
	vm_destroy(vm);
	medium_free(&disk);
	medium_free(&disc);
	return done();
}
