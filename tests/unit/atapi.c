/* SPDX-License-Identifier: MIT */
/* The CD-ROM drive on the IDE controller: packets, byte counts of blocks, sense data, tray and lock, state in the middle of a read, hostile
 * packets and state. */
#include "ide.h"
#include "util/log.h"

#define BLOCKS 300
#define CD SECONDARY
#define LIMIT 0xfe00

static struct medium disc;
static struct ide_config config;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	config = (struct ide_config){ .drive = { [2] = { disc.image, true } } };
	vm = ide_machine(&config);
}

/* Sends a packet of up to 12 bytes with a byte count limit; the status when its data are there, or its end. */
static uint8_t packet_limited(uint16_t limit, const uint8_t *bytes, unsigned count)
{
	uint8_t packet[12] = { 0 };
	memcpy(packet, bytes, count);
	put(CD, DEVICE, 0xa0);
	put(CD, ERROR, 0);
	put(CD, MID, (uint8_t)limit);
	put(CD, HIGH, (uint8_t)(limit >> 8));
	put(CD, STATUS, 0xa0);
	if (alternate(CD) != (READY | DRQ) || get(CD, COUNT) != 1)
		return 0xff; /* it does not ask for the packet */
	give(CD, packet, 12);
	return settle(CD);
}
#define PACKET(...) packet_limited(LIMIT, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

static unsigned byte_count(void)
{
	return get(CD, MID) | get(CD, HIGH) << 8;
}

/* Takes all of a reply; returns its bytes. Checks the reason and the end. */
static unsigned reply(uint8_t *data, unsigned room)
{
	unsigned total = 0;
	memset(data, 0, room);
	while (alternate(CD) == (READY | DRQ)) {
		unsigned count = byte_count();
		if (get(CD, COUNT) != 2 || !line_level[15] || total + count > room)
			return 0;
		get(CD, STATUS);
		take(CD, data + total, count);
		total += count;
		settle(CD);
	}
	return alternate(CD) == READY && get(CD, COUNT) == 3 ? total : 0;
}

static bool sense_is(uint8_t key, uint8_t asc)
{
	uint8_t data[18];
	return PACKET(0x03, 0, 0, 0, 18) == (READY | DRQ) && reply(data, 18) == 18 && data[0] == 0x70 && data[2] == key && data[12] == asc;
}

static bool refused(uint8_t status, uint8_t key, uint8_t asc)
{
	return status == (READY | ERR) && get(CD, ERROR) >> 4 == key && sense_is(key, asc);
}

static bool block_is(const uint8_t *data, uint32_t block)
{
	bool good = true;
	for (unsigned i = 0; i < 4; i++) {
		uint8_t wanted[512];
		medium_sector(wanted, block * 4 + i);
		good &= !memcmp(data + 512 * i, wanted, 512);
	}
	return good;
}

static bool blocks_are(const uint8_t *data, uint32_t first, uint32_t count)
{
	bool good = true;
	for (uint32_t i = 0; i < count; i++)
		good &= block_is(data + 2048 * i, first + i);
	return good;
}

static void start(void)
{
	uint8_t data[512];
	fresh();
	ok(get(CD, STATUS) == 0 && get(CD, MID) == 0x14 && get(CD, HIGH) == 0xeb, "atapi: the signature; not ready before its first command");
	put(CD, DEVICE, 0xa0);
	put(CD, STATUS, 0xec);
	ok(alternate(CD) == (READY | ERR) && get(CD, ERROR) == 4 && get(CD, MID) == 0x14 && get(CD, HIGH) == 0xeb,
	   "atapi: IDENTIFY DEVICE is aborted, with the signature");
	put(CD, STATUS, 0xa1);
	ok(alternate(CD) == (READY | DRQ), "atapi: IDENTIFY PACKET DEVICE");
	take(CD, data, 512);
	ok(data[0] == 0xc0 && data[1] == 0x85 && (data[99] & 3) == 3 && alternate(CD) == READY, "atapi: a CD-ROM drive with LBA and DMA");
	ok(refused(PACKET(0x00), 6, 0x29), "atapi: the first command tells of the reset ...");
	ok(PACKET(0x00) == READY, "atapi: ... once");
	fresh();
	ok(PACKET(0x12, 0, 0, 0, 36) == (READY | DRQ) && reply(data, 512) == 36 && data[0] == 5 && data[1] == 0x80, "atapi: INQUIRY works before");
	ok(!memcmp(data + 8, "DOPPEL  DOPPEL DVD-ROM", 22), "atapi: its name");
	ok(sense_is(6, 0x29) && sense_is(0, 0), "atapi: REQUEST SENSE tells of the reset, too");
	ok(PACKET(0x12, 0, 0, 0, 5) == (READY | DRQ) && reply(data, 512) == 5, "atapi: a reply is cut to what the host has room for");
	ok(PACKET(0x12, 0, 0, 0, 0) == READY, "atapi: or is none");
	ok(refused(PACKET(0x12, 1, 0x80, 0, 36), 5, 0x24), "atapi: no vital product data");
}

static void reading(void)
{
	static uint8_t data[BLOCKS * 2048];
	PACKET(0x00);
	ok(PACKET(0x25) == (READY | DRQ) && reply(data, 16) == 8 && data[2] == (BLOCKS - 1) >> 8 && data[3] == (uint8_t)(BLOCKS - 1) && data[6] == 8,
	   "read: the capacity");
	ok(PACKET(0x28, 0, 0, 0, 0, 7, 0, 0, 1) == (READY | DRQ) && reply(data, 4096) == 2048 && block_is(data, 7), "read 10: a block");
	ok(PACKET(0xa8, 0, 0, 0, 0, 100, 0, 0, 0, 200) == (READY | DRQ) && reply(data, sizeof(data)) == 200 * 2048 && blocks_are(data, 100, 200),
	   "read 12: 200 blocks");
	static const uint16_t limits[] = { 2048, 0xfc00, 0xfffe, 0xffff, 0, 512, 3, 2, 4094 };
	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++) {
		const uint8_t read_64[] = { 0x28, 0, 0, 0, 0, 0, 0, 0, 64 };
		unsigned largest = limits[i] && limits[i] < 0xfffe ? limits[i] & ~1u : 0xfffe;
		bool fits = packet_limited(limits[i], read_64, sizeof(read_64)) == (READY | DRQ) && byte_count() <= largest;
		ok(fits && reply(data, sizeof(data)) == 64 * 2048 && blocks_are(data, 0, 64), "read 10: with blocks of up to %u bytes", limits[i]);
	}
	ok(PACKET(0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0x10) == (READY | DRQ) && reply(data, 8192) == 4096 && blocks_are(data, 3, 2), "read CD: user data");
	ok(PACKET(0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0) == READY, "read CD: of nothing");
	ok(refused(PACKET(0xbe, 0, 0, 0, 0, 3, 0, 0, 2, 0xf8), 5, 0x24), "read CD: no raw sectors");
	ok(refused(PACKET(0xbe, 4, 0, 0, 0, 3, 0, 0, 2, 0x10), 5, 0x24), "read CD: no audio");
	ok(PACKET(0x28, 0, 0, 0, 0, 0, 0, 0, 0) == READY, "read 10: no blocks");
	ok(refused(PACKET(0x28, 0, 0, 0, BLOCKS >> 8, (uint8_t)BLOCKS, 0, 0, 1), 5, 0x21), "read 10: beyond the end");
	ok(refused(PACKET(0x28, 0, 0, 0, 0, 1, 0, BLOCKS >> 8, (uint8_t)BLOCKS), 5, 0x21), "read 10: over the end");
	ok(refused(PACKET(0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), 5, 0x21), "read 12: everything");
	ok(PACKET(0x2b, 0, 0, 0, 0, 9) == READY && refused(PACKET(0x2b, 0, 0xff), 5, 0x21), "seek");
}

static void replies(void)
{
	uint8_t data[512];
	fresh();
	PACKET(0x00);
	ok(PACKET(0x43, 0, 0, 0, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) == 20 && data[1] == 18 && data[5] == 0x14 && data[14] == 0xaa &&
		   data[18] == BLOCKS >> 8 && data[19] == (uint8_t)BLOCKS, "toc: a track and the lead-out");
	ok(PACKET(0x43, 2, 0, 0, 0, 0, 0xaa, 1, 0) == (READY | DRQ) && reply(data, 512) == 12 && data[9] == 0 && data[10] == 6 && data[11] == 0,
	   "toc: the lead-out, in minutes");
	ok(PACKET(0x43, 0, 1, 0, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) == 12 && data[2] == 1, "toc: sessions");
	ok(PACKET(0x43, 0, 0, 0, 0, 0, 0, 1, 0, 0x80) == (READY | DRQ) && reply(data, 512) == 48, "toc: raw");
	ok(refused(PACKET(0x43, 0, 5, 0, 0, 0, 0, 1, 0), 5, 0x24) && refused(PACKET(0x43, 0, 0, 0, 0, 0, 2, 1, 0), 5, 0x24),
	   "toc: no CD-TEXT; no second track");
	ok(PACKET(0x42, 0, 0x40, 1, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) == 16 && data[1] == 0x15, "sub-channel: no audio");
	ok(refused(PACKET(0x42, 0, 0x40, 2, 0, 0, 0, 1, 0), 5, 0x24), "sub-channel: no catalogue number");
	ok(PACKET(0x51, 0, 0, 0, 0, 0, 0, 0, 34) == (READY | DRQ) && reply(data, 512) == 34 && data[2] == 0x0e, "disc information");
	ok(PACKET(0x46, 0, 0, 0, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) == 52 && data[7] == 8, "configuration: a CD-ROM");
	ok(PACKET(0x46, 2, 0, 0x10, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) == 20 && data[9] == 0x10, "configuration: one feature");
	ok(PACKET(0x5a, 0, 0x2a, 0, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) == 28 && data[8] == 0x2a && data[1] == 26, "mode sense 10");
	ok(PACKET(0x1a, 0, 0x3f, 0, 255) == (READY | DRQ) && reply(data, 512) == 40 && data[0] == 39, "mode sense 6: all pages");
	ok(PACKET(0x1a, 0, 0x41, 0, 255) == (READY | DRQ) && reply(data, 512) == 12 && !data[7], "mode sense 6: nothing can be changed");
	ok(refused(PACKET(0x1a, 0, 0xc1, 0, 255), 5, 0x39) && refused(PACKET(0x1a, 0, 0x08, 0, 255), 5, 0x24), "mode sense: no saved values; no caching");
	ok(PACKET(0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8) == (READY | DRQ) && reply(data, 512) == 8 && !data[1], "mechanism status");
	ok(PACKET(0x35) == READY && PACKET(0xbb) == READY, "synchronize cache, set speed");
	ok(refused(PACKET(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), 5, 0x20) && refused(PACKET(0xff), 5, 0x20), "writing, and what is unknown, is refused");
}

static void tray(void)
{
	uint8_t data[512];
	fresh();
	PACKET(0x00);
	ok(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == (READY | DRQ) && reply(data, 512) == 8 && data[4] == 0 && data[5] == 2, "events: none; a disc");
	ok(refused(PACKET(0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8), 5, 0x24), "events: only when asked");
	ok(PACKET(0x4a, 1, 0, 0, 0x02, 0, 0, 0, 8) == (READY | DRQ) && reply(data, 512) == 4 && data[2] == 0x80, "events: of no other class");
	ok(PACKET(0x1e, 0, 0, 0, 1) == READY && refused(PACKET(0x1b, 0, 0, 0, 2), 5, 0x53), "tray: locked");
	ok(PACKET(0x1e, 0, 0, 0, 0) == READY && PACKET(0x1b, 0, 0, 0, 2) == READY, "tray: opens");
	ok(refused(PACKET(0x00), 2, 0x3a) && refused(PACKET(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 2, 0x3a), "tray: no medium");
	ok(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == (READY | DRQ) && reply(data, 512) == 8 && data[4] == 3 && data[5] == 1, "events: taken out");
	ok(PACKET(0x46, 0, 0, 0, 0, 0, 0, 1, 0) == (READY | DRQ) && reply(data, 512) && !data[7], "configuration: no profile");
	ok(PACKET(0x1b, 0, 0, 0, 3) == READY && PACKET(0x00) == READY, "tray: closes");
	ok(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == (READY | DRQ) && reply(data, 512) == 8 && data[4] == 2, "events: a new medium");
	ok(PACKET(0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8) == (READY | DRQ) && reply(data, 512) == 8 && data[4] == 0, "events: told once");
}

static void commands(void)
{
	uint8_t data[2048];
	static const uint8_t fine[] = { 0xe0, 0xe1, 0xe5, 0xe6, 0xe7 }, unknown[] = { 0x00, 0x20, 0x30, 0x90 + 1, 0xc4, 0xff };
	bool good = true;
	fresh();
	for (unsigned i = 0; i < ARRAY_SIZE(fine); i++) {
		put(CD, STATUS, fine[i]);
		good &= settle(CD) == READY;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++) {
		put(CD, STATUS, unknown[i]);
		good &= settle(CD) == (READY | ERR) && get(CD, ERROR) == 4;
	}
	ok(good, "atapi: power modes; disks' commands are aborted");
	put(CD, ERROR, 1);
	put(CD, STATUS, 0xa0);
	ok(alternate(CD) == (READY | DRQ), "atapi: a packet whose data go by DMA");
	fresh();
	PACKET(0x00);
	put(CD, ERROR, 3);
	put(CD, COUNT, 0x0c);
	put(CD, STATUS, 0xef);
	good = alternate(CD) == READY;
	put(CD, COUNT, 0x23);
	put(CD, STATUS, 0xef);
	ok(good && alternate(CD) == (READY | ERR), "atapi: PIO 4, no multiword DMA 3");
	PACKET(0x00);
	PACKET(0x28, 0, 0, 0, 0, 0, 0, 0, 3);
	take(CD, data, 100);
	put(CD, STATUS, 0x08);
	ok(alternate(CD) == 0 && get(CD, MID) == 0x14, "atapi: DEVICE RESET ends a read");
	ok(bus_read(vm, BUS_PORT, CD, 2) == 0xffff, "atapi: there is nothing more to read");
	put(CD, STATUS, 0xa0);
	give(CD, data, 4);
	put(CD, STATUS, 0xa1);
	ok(alternate(CD) == (READY | DRQ), "atapi: a command ends the wait for a packet");
}

/* Into another machine with the same disc: `vm` is that one then. */
static struct vm *first;
static struct ide_config there;

static bool move(void)
{
	first = vm;
	there = (struct ide_config){ .drive = { [2] = { .cdrom = true } } };
	if (image_open(&there.drive[2].image, disc.path, IMAGE_READONLY))
		return false;
	struct vm *next = ide_machine(&there);
	bool good = copy_state(first, next) && same_state(first, next);
	vm = next;
	return good;
}

static void back(void)
{
	vm_destroy(vm);
	image_close(there.drive[2].image);
	vm = first;
}

static void saving(void)
{
	static uint8_t data[40 * 2048];
	const uint8_t read_40[] = { 0x28, 0, 0, 0, 0, 60, 0, 0, 40 };
	fresh();
	PACKET(0x00);
	packet_limited(4096, read_40, sizeof(read_40));
	take(CD, data, 5000 & ~1);
	ok(move(), "saving: in the middle of a block");
	take(CD, data + 5000, 8192 - 5000);
	ok(reply(data + 8192, sizeof(data) - 8192) == sizeof(data) - 8192 && blocks_are(data, 60, 40), "saving: goes on at the same byte");
	back();
	put(CD, STATUS, 0xa0);
	give(CD, read_40, 6);
	ok(move(), "saving: in the middle of a packet");
	give(CD, (const uint8_t[]){ 0, 0, 40, 0, 0, 0 }, 6);
	settle(CD);
	ok(reply(data, sizeof(data)) == sizeof(data) && blocks_are(data, 60, 40), "saving: the rest of it comes to the other");
	back();
}

/* Any packet, any limit. */
static void use(struct vm *machine_used)
{
	static uint32_t random = 7;
	uint8_t bytes[12];
	vm = machine_used;
	for (unsigned i = 0; i < sizeof(bytes); i++) {
		random = random * 1664525 + 1013904223;
		bytes[i] = random >> 24;
	}
	static const uint8_t codes[] = { 0x28, 0xa8, 0x43, 0x46, 0x1a, 0x5a, 0x12, 0xbe, 0x42, 0x4a, 0x51, 0xbd, 0x03 };
	if (random & 0x10000)
		bytes[0] = codes[(random >> 17) % ARRAY_SIZE(codes)];
	if (random & 0x8000)
		memset(bytes + 2, 0, 3);
	packet_limited((uint16_t)random, bytes, sizeof(bytes));
	for (unsigned i = 0; i < 600; i++)
		bus_read(vm, BUS_PORT, CD, random & 0x4000 ? 4 : 2);
	settle(CD);
	get(CD, STATUS);
}

int main(void)
{
	static char said[4096];
	log_divert(said, sizeof(said));
	disc = medium_make(BLOCKS * 4, IMAGE_READONLY);
	start();
	reading();
	replies();
	tray();
	commands();
	saving();
	fresh();
	for (unsigned i = 0; i < 20000; i++)
		use(vm);
	ok(!vm->end, "atapi: 20000 packets of any kind");
	PACKET(0x00);
	PACKET(0x28, 0, 0, 0, 0, 0, 0, 0, 60);
	abuse_state(vm, "ide", use);
	vm_destroy(vm);
	medium_free(&disc);
	return done();
}
