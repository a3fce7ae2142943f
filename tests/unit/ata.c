/* SPDX-License-Identifier: MIT */
/* ATA disks on the IDE controller: every command, addresses in all three forms, errors, resets, interrupts, state in the middle of a
 * transfer, hostile state. */
#include "ide.h"
#include "util/log.h"

#define SECTORS 2051 /* no multiple of anything */
#define LBA 0xe0

static struct medium disk, second, locked;
static struct ide_config config;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	config = (struct ide_config){ .drive = { { disk.image, false }, { second.image, false }, { locked.image, false } } };
	vm = ide_machine(&config);
}

static void address(unsigned base, uint8_t device, uint32_t lba, uint8_t count)
{
	put(base, DEVICE, (uint8_t)(device | (lba >> 24 & 0x0f)));
	put(base, COUNT, count);
	put(base, LOW, (uint8_t)lba);
	put(base, MID, (uint8_t)(lba >> 8));
	put(base, HIGH, (uint8_t)(lba >> 16));
}

static void address_48(unsigned base, uint8_t device, uint64_t lba, uint16_t count)
{
	put(base, DEVICE, device);
	put(base, COUNT, (uint8_t)(count >> 8));
	put(base, LOW, (uint8_t)(lba >> 24));
	put(base, MID, (uint8_t)(lba >> 32));
	put(base, HIGH, (uint8_t)(lba >> 40));
	put(base, COUNT, (uint8_t)count);
	put(base, LOW, (uint8_t)lba);
	put(base, MID, (uint8_t)(lba >> 8));
	put(base, HIGH, (uint8_t)(lba >> 16));
}

static void command(unsigned base, uint8_t code)
{
	put(base, STATUS, code);
}

/* A command without data; the status at its end. */
static uint8_t simple(unsigned base, uint8_t code)
{
	command(base, code);
	return settle(base);
}

static bool failed(uint8_t status, unsigned base, uint8_t error)
{
	return status == (READY | ERR) && get(base, ERROR) == error;
}

/* Takes `count` sectors from `first` on, in blocks of `block`. */
static bool reads(unsigned base, uint32_t first, uint32_t count, uint32_t block)
{
	bool good = true;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t data[512], wanted[512];
		if (i % block == 0) {
			good &= settle(base) == (READY | DRQ) && line_level[IDE_LINE(base)];
			get(base, STATUS);
			good &= !line_level[IDE_LINE(base)];
		}
		medium_sector(wanted, first + i);
		take(base, data, sizeof(data));
		good &= !memcmp(data, wanted, sizeof(data));
	}
	return good && settle(base) == READY && !line_level[IDE_LINE(base)];
}

static uint16_t word_of(const uint8_t *data, unsigned word)
{
	return (uint16_t)(data[2 * word] | data[2 * word + 1] << 8);
}

static void identify(void)
{
	uint8_t data[512];
	fresh();
	put(PRIMARY, DEVICE, 0xa0);
	command(PRIMARY, 0xec);
	ok(alternate(PRIMARY) == (READY | DRQ) && line_level[14], "ata: IDENTIFY DEVICE has data, and interrupts");
	take(PRIMARY, data, 512);
	ok(alternate(PRIMARY) == READY, "ata: and ends");
	ok(word_of(data, 60) == SECTORS && word_of(data, 100) == SECTORS && !word_of(data, 101), "ata: its size");
	ok(word_of(data, 1) == SECTORS / 16 / 63 && word_of(data, 3) == 16 && word_of(data, 6) == 63, "ata: its geometry");
	ok(!memcmp(data + 54, "ODPPLEH RADDSI K", 16), "ata: its name");
	ok((word_of(data, 49) & 0x300) == 0x300, "ata: addresses by LBA, and DMA");
	ok(word_of(data, 83) == 0x7400, "ata: 48-bit addresses and cache flushes");
	ok(word_of(data, 47) == 0x8010, "ata: blocks of 16 sectors");
	ok(bus_read(vm, BUS_PORT, PRIMARY, 2) == 0xffff, "ata: there is nothing more to read");
}

static void reading(void)
{
	fresh();
	address(PRIMARY, LBA, 5, 3);
	command(PRIMARY, 0x20);
	ok(alternate(PRIMARY) & BSY, "read: busy until the image answers");
	ok(reads(PRIMARY, 5, 3, 1), "read: three sectors by LBA");
	ok(get(PRIMARY, LOW) == 7 && get(PRIMARY, COUNT) == 0, "read: the registers hold the last sector");
	address(PRIMARY, LBA, SECTORS - 256, 0);
	command(PRIMARY, 0x21);
	ok(reads(PRIMARY, SECTORS - 256, 256, 1), "read: a count of 0 is 256");
	address_48(PRIMARY, 0x40, 1, 300);
	command(PRIMARY, 0x24);
	ok(reads(PRIMARY, 1, 300, 1), "read ext: 300 sectors");
	ok(get(PRIMARY, LOW) == (uint8_t)300 && get(PRIMARY, MID) == 1, "read ext: the registers hold the last sector");
	put(PRIMARY, COUNT, 16);
	ok(simple(PRIMARY, 0xc6) == READY, "set multiple: 16");
	address(PRIMARY, LBA, 100, 40);
	command(PRIMARY, 0xc4);
	ok(reads(PRIMARY, 100, 40, 16), "read multiple: 40 sectors in blocks of 16");
	address_48(PRIMARY, 0x40, 7, 33);
	command(PRIMARY, 0x29);
	ok(reads(PRIMARY, 7, 33, 16), "read multiple ext");
	/* Cylinder 1, head 2, sector 3 of 16 heads and 63 sectors. */
	put(PRIMARY, DEVICE, 0xa2);
	put(PRIMARY, COUNT, 70);
	put(PRIMARY, LOW, 3);
	put(PRIMARY, MID, 1);
	put(PRIMARY, HIGH, 0);
	command(PRIMARY, 0x20);
	ok(reads(PRIMARY, (1 * 16 + 2) * 63 + 2, 70, 1), "read: by cylinder, head and sector");
	ok(get(PRIMARY, DEVICE) == 0xa3 && get(PRIMARY, LOW) == 9 && get(PRIMARY, MID) == 1, "read: where it stopped, in the same form");
	put(PRIMARY, DEVICE, 0xa3);
	put(PRIMARY, COUNT, 17);
	ok(simple(PRIMARY, 0x91) == READY, "initialize parameters: 4 heads, 17 sectors");
	put(PRIMARY, DEVICE, 0xa3);
	put(PRIMARY, COUNT, 1);
	put(PRIMARY, LOW, 17);
	put(PRIMARY, MID, 2);
	command(PRIMARY, 0x20);
	ok(reads(PRIMARY, (2 * 4 + 3) * 17 + 16, 1, 1), "read: by that geometry");
	uint8_t data[512], wanted[512];
	address(PRIMARY, LBA, 9, 1);
	command(PRIMARY, 0x20);
	settle(PRIMARY);
	for (unsigned i = 0; i < 512; i += 4) {
		uint32_t four = (uint32_t)bus_read(vm, BUS_PORT, PRIMARY, 4);
		memcpy(data + i, &four, 4);
	}
	medium_sector(wanted, 9);
	ok(!memcmp(data, wanted, 512) && alternate(PRIMARY) == READY, "read: 32 bits at a time");
}

static void writing(void)
{
	uint8_t data[3][512];
	fresh();
	for (unsigned i = 0; i < 3; i++)
		medium_sector(data[i], 7000 + i);
	address(PRIMARY, LBA | SLAVE, 20, 3);
	command(PRIMARY, 0x30);
	ok(alternate(PRIMARY) == (READY | DRQ) && !line_level[14], "write: asks for the first block without an interrupt");
	bool good = true;
	for (unsigned i = 0; i < 3; i++) {
		give(PRIMARY, data[i], 512);
		good &= (alternate(PRIMARY) & BSY) != 0;
		good &= settle(PRIMARY) == (i < 2 ? READY | DRQ : READY) && line_level[14];
		get(PRIMARY, STATUS);
	}
	ok(good, "write: one interrupt a sector");
	ok(medium_holds(&second, 20, data[0]) && medium_holds(&second, 22, data[2]), "write: the file has them");
	ok(get(PRIMARY, LOW) == 22 && !get(PRIMARY, COUNT), "write: the registers hold the last sector");
	put(PRIMARY, COUNT, 4);
	simple(PRIMARY, 0xc6);
	address_48(PRIMARY, 0x40 | SLAVE, SECTORS - 3, 3);
	command(PRIMARY, 0x39);
	give(PRIMARY, data[0], 3 * 512);
	ok(settle(PRIMARY) == READY && medium_holds(&second, SECTORS - 1, data[2]), "write multiple ext: the last block is short");
	ok(simple(PRIMARY, 0xe7) == READY && simple(PRIMARY, 0xea) == READY, "flush, flush ext");
	medium_sector(data[0], 20);
	medium_sector(data[1], 21);
	medium_sector(data[2], 22);
	address(PRIMARY, LBA | SLAVE, 20, 3);
	command(PRIMARY, 0xc5);
	give(PRIMARY, data[0], 3 * 512);
	ok(settle(PRIMARY) == READY && medium_holds(&second, 21, data[1]), "write multiple: three at once");
	for (unsigned i = 0; i < 3; i++)
		medium_sector(data[i], SECTORS - 3 + i);
	address_48(PRIMARY, 0x40 | SLAVE, SECTORS - 3, 3);
	command(PRIMARY, 0x34);
	for (unsigned i = 0; i < 3; i++) {
		give(PRIMARY, data[i], 512);
		settle(PRIMARY);
	}
	ok(medium_holds(&second, SECTORS - 2, data[1]) && alternate(PRIMARY) == READY, "write ext");
	address(SECONDARY, LBA, 0, 1);
	ok(failed(simple(SECONDARY, 0x30), SECONDARY, 4), "write: to an image that may only be read: aborted");
}

static void other_commands(void)
{
	static const uint8_t fine[] = { 0x10, 0x1f, 0x94, 0x95, 0x96, 0x97, 0x99, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6 };
	fresh();
	bool good = true;
	for (unsigned i = 0; i < ARRAY_SIZE(fine); i++)
		good &= simple(PRIMARY, fine[i]) == READY;
	ok(good, "ata: recalibrate, idle, standby, sleep");
	good = simple(PRIMARY, 0xe5) == READY && get(PRIMARY, COUNT) == 0xff;
	ok(good && simple(PRIMARY, 0x98) == READY, "ata: check power mode: active");
	address(PRIMARY, LBA, 1000, 50);
	ok(simple(PRIMARY, 0x40) == READY && get(PRIMARY, LOW) == (uint8_t)1049, "ata: verify");
	address_48(PRIMARY, 0x40, 10, 2000);
	command(PRIMARY, 0x42);
	for (unsigned i = 0; i < 20; i++)
		settle(PRIMARY);
	ok(alternate(PRIMARY) == READY && !get(PRIMARY, COUNT), "ata: verify ext of 2000 sectors");
	address(PRIMARY, LBA, SECTORS - 1, 1);
	ok(simple(PRIMARY, 0x70) == READY, "ata: seek");
	address(PRIMARY, LBA, SECTORS, 1);
	ok(failed(simple(PRIMARY, 0x70), PRIMARY, 0x10), "ata: seek beyond the end");
	put(PRIMARY, DEVICE, 0xa0);
	ok(simple(PRIMARY, 0xf8) == READY && get(PRIMARY, LOW) == (uint8_t)(SECTORS - 1) && get(PRIMARY, MID) == (SECTORS - 1) >> 8,
	   "ata: read native max");
	ok(simple(PRIMARY, 0x27) == READY && get(PRIMARY, LOW) == (uint8_t)(SECTORS - 1), "ata: read native max ext");
	put(PRIMARY, ERROR, 0x03);
	put(PRIMARY, COUNT, 0x0c);
	ok(simple(PRIMARY, 0xef) == READY, "ata: set features: PIO 4");
	put(PRIMARY, COUNT, 0x0d);
	ok(failed(simple(PRIMARY, 0xef), PRIMARY, 4), "ata: set features: no such mode");
	put(PRIMARY, ERROR, 0x82);
	uint8_t data[512];
	simple(PRIMARY, 0xef);
	command(PRIMARY, 0xec);
	take(PRIMARY, data, 512);
	ok(!(word_of(data, 85) & 0x20), "ata: set features: the write cache is off");
	put(PRIMARY, ERROR, 0x99);
	ok(failed(simple(PRIMARY, 0xef), PRIMARY, 4), "ata: set features: an unknown one is aborted");
	unsigned aborted = 0;
	static const uint8_t unknown[] = { 0x00, 0x08, 0xa0, 0xa1, 0xb0, 0xc7, 0xcc, 0x26, 0x36, 0xf1, 0xff };
	for (unsigned i = 0; i < ARRAY_SIZE(unknown); i++)
		aborted += failed(simple(PRIMARY, unknown[i]), PRIMARY, 4);
	ok(aborted == ARRAY_SIZE(unknown), "ata: NOP, queued DMA, packets, SMART, security: aborted");
}

static void errors(void)
{
	fresh();
	address(PRIMARY, LBA, SECTORS - 1, 2);
	ok(failed(simple(PRIMARY, 0x20), PRIMARY, 0x10) && line_level[14], "errors: beyond the end: not found");
	address(PRIMARY, LBA, 0x0fffffff, 1);
	ok(failed(simple(PRIMARY, 0x20), PRIMARY, 0x10), "errors: the last address there is");
	address_48(PRIMARY, 0x40, 0xffffffffffff, 0);
	ok(failed(simple(PRIMARY, 0x24), PRIMARY, 0x10), "errors: the last of 48 bits, 65536 sectors");
	put(PRIMARY, DEVICE, 0xa0);
	put(PRIMARY, LOW, 0);
	ok(failed(simple(PRIMARY, 0x20), PRIMARY, 0x10), "errors: sector 0 of a track");
	put(PRIMARY, LOW, 64);
	ok(failed(simple(PRIMARY, 0x20), PRIMARY, 0x10), "errors: sector 64 of 63");
	put(PRIMARY, COUNT, 0);
	ok(failed(simple(PRIMARY, 0x91), PRIMARY, 4), "errors: a geometry without sectors");
	put(PRIMARY, COUNT, 3);
	ok(failed(simple(PRIMARY, 0xc6), PRIMARY, 4), "errors: blocks of 3 sectors");
	put(PRIMARY, COUNT, 32);
	ok(failed(simple(PRIMARY, 0xc6), PRIMARY, 4), "errors: blocks of 32");
	address(PRIMARY, LBA, 0, 1);
	ok(failed(simple(PRIMARY, 0xc4), PRIMARY, 4), "errors: read multiple before its size was set");
	address(PRIMARY, LBA, 0, 1);
	command(PRIMARY, 0x30);
	for (unsigned i = 0; i < 100; i++)
		bus_read(vm, BUS_PORT, PRIMARY, 2);
	ok(alternate(PRIMARY) == (READY | DRQ), "errors: reading while data are to be written moves nothing");
	command(PRIMARY, 0x20);
	settle(PRIMARY);
	bus_write(vm, BUS_PORT, PRIMARY, 2, 0x1234);
	ok(reads(PRIMARY, 0, 1, 1), "errors: a command ends the one before it; writing moves nothing while data are to be read");
	uint8_t data[512] = { 0 };
	fresh();
	address(PRIMARY, LBA | SLAVE, 1000, 2);
	command(PRIMARY, 0x30);
	host_full(1001);
	give(PRIMARY, data, 512);
	bool began = settle(PRIMARY) == (READY | DRQ);
	give(PRIMARY, data, 512);
	ok(began && failed(settle(PRIMARY), PRIMARY, 0x40), "errors: the host cannot write a sector");
	host_full(0);
	ok(get(PRIMARY, LOW) == (uint8_t)1001, "errors: and which one");
}

static void channels(void)
{
	fresh();
	ok(get(PRIMARY, STATUS) == READY && get(PRIMARY, ERROR) == 1, "ide: ready, and the diagnostic passed");
	ok(get(PRIMARY, COUNT) == 1 && get(PRIMARY, LOW) == 1 && !get(PRIMARY, MID) && !get(PRIMARY, HIGH), "ide: the signature of a disk");
	put(SECONDARY, DEVICE, 0xb0);
	ok(get(SECONDARY, STATUS) == 0 && alternate(SECONDARY) == 0, "ide: drive 0 answers for a missing drive 1");
	put(SECONDARY, DEVICE, 0xa0);
	put(PRIMARY, COUNT, 0x55);
	put(PRIMARY, DEVICE, 0xb0);
	ok(get(PRIMARY, COUNT) == 0x55, "ide: both drives take what is written to the registers");
	out8(vm, CONTROL_OF(PRIMARY), 0x02);
	command(PRIMARY, 0x10);
	ok(alternate(PRIMARY) == READY && !line_level[14], "ide: nIEN holds the interrupt");
	out8(vm, CONTROL_OF(PRIMARY), 0);
	ok(line_level[14], "ide: and lets it go");
	put(PRIMARY, DEVICE, 0xa0);
	ok(!line_level[14], "ide: it belongs to the selected drive");
	put(PRIMARY, DEVICE, 0xb0);
	ok(line_level[14] && get(PRIMARY, STATUS) == READY && !line_level[14], "ide: reading the status takes it away");
	put(PRIMARY, LOW, 0x11);
	put(PRIMARY, LOW, 0x22);
	out8(vm, CONTROL_OF(PRIMARY), 0x80);
	ok(get(PRIMARY, LOW) == 0x11, "ide: HOB shows what was written before");
	put(PRIMARY, COUNT, 0);
	ok(get(PRIMARY, LOW) == 0x22, "ide: a write clears it");
	address(PRIMARY, LBA, 0, 8);
	command(PRIMARY, 0x20);
	out8(vm, CONTROL_OF(PRIMARY), 0x04);
	ok(alternate(PRIMARY) == BSY, "ide: SRST: busy");
	put(PRIMARY, COUNT, 9);
	out8(vm, CONTROL_OF(PRIMARY), 0);
	ok(settle(PRIMARY) == READY && get(PRIMARY, COUNT) == 1 && !line_level[14], "ide: SRST ends a command, whose data come to nobody");
	command(PRIMARY, 0x90);
	ok(alternate(PRIMARY) == READY && get(PRIMARY, ERROR) == 1 && line_level[14], "ide: execute device diagnostic");
	struct device *pci = device_find(vm, "pci");
	ok(pci && bus_read(vm, BUS_PORT, 0x3f6, 1) == READY, "ide: the ports answer after a reset");
	bus_write(vm, BUS_PORT, 0xcf8, 4, 0x80000940);
	bus_write(vm, BUS_PORT, 0xcfc, 4, 0x80000000);
	ok(get(PRIMARY, STATUS) == 0xff && get(SECONDARY, STATUS) != 0xff, "ide: a channel can be switched off");
	vm_destroy(vm);
	config = (struct ide_config){ .drive = { [3] = { disk.image, false } } };
	vm = ide_machine(&config);
	ok(get(PRIMARY, STATUS) == 0x7f, "ide: a cable without drives floats");
	put(SECONDARY, DEVICE, 0xa0);
	ok(get(SECONDARY, STATUS) == 0x7f, "ide: nobody answers for a missing drive 0");
	put(SECONDARY, DEVICE, 0xb0);
	ok(get(SECONDARY, STATUS) == READY, "ide: drive 1 alone");
}

/* Everything goes over into another machine in the middle of something, which goes on there: `vm` is that one then. */
static struct medium copies[3];
static struct vm *first;

static bool move(void)
{
	static struct ide_config there;
	there = (struct ide_config){ .drive = { { copies[0].image, false }, { copies[1].image, false }, { copies[2].image, false } } };
	first = vm;
	struct vm *next = ide_machine(&there);
	bool good = copy_state(first, next) && same_state(first, next);
	vm = next;
	return good;
}

static void back(void)
{
	vm_destroy(vm);
	vm = first;
	settle(PRIMARY); /* a drive that is busy takes no command */
}

static void saving(void)
{
	uint8_t data[512], wanted[512];
	for (unsigned i = 0; i < 3; i++)
		copies[i] = medium_make(SECTORS, 0);
	fresh();
	address(PRIMARY, LBA, 30, 4);
	command(PRIMARY, 0x20);
	settle(PRIMARY);
	take(PRIMARY, data, 100);
	ok(move(), "saving: in the middle of a sector");
	take(PRIMARY, data + 100, 412);
	medium_sector(wanted, 30);
	ok(!memcmp(data, wanted, 512) && reads(PRIMARY, 31, 3, 1), "saving: goes on at the same byte");
	back();
	address(PRIMARY, LBA, 40, 1);
	command(PRIMARY, 0x20);
	put(PRIMARY, COUNT, 77);
	ok(get(PRIMARY, COUNT) == 1, "ata: a busy drive takes nothing");
	ok(move(), "saving: while the image is asked");
	ok(reads(PRIMARY, 40, 1, 1), "saving: the other asks again");
	back();
	medium_sector(data, 4711);
	address(PRIMARY, LBA, 50, 2);
	command(PRIMARY, 0x30);
	give(PRIMARY, data, 512);
	ok(move(), "saving: while a sector is being written");
	ok(settle(PRIMARY) == (READY | DRQ) && medium_holds(&copies[0], 50, data), "saving: the other writes it");
	give(PRIMARY, data, 512);
	ok(settle(PRIMARY) == READY && medium_holds(&copies[0], 51, data), "saving: and the next");
	back();
	medium_sector(data, 50);
	address(PRIMARY, LBA, 50, 1);
	command(PRIMARY, 0x30);
	give(PRIMARY, data, 512);
	settle(PRIMARY);
	command(PRIMARY, 0xe7);
	ok(move(), "saving: while a flush is under way");
	ok(settle(PRIMARY) == READY, "saving: the other flushes");
	back();
	for (unsigned i = 0; i < 3; i++)
		medium_free(&copies[i]);
}

/* What a guest can do, with a device in any state. */
static void use(struct vm *machine_used)
{
	static const uint8_t codes[] = { 0x20, 0x30, 0xc4, 0xec, 0x24, 0x40, 0x90, 0x08 };
	static unsigned turn;
	vm = machine_used;
	for (unsigned i = 0; i < 300; i++)
		bus_read(vm, BUS_PORT, PRIMARY, 2);
	for (unsigned i = 0; i < 300; i++)
		bus_write(vm, BUS_PORT, PRIMARY, 2, i);
	clock_step(vm, REQUEST_NS);
	get(PRIMARY, STATUS);
	command(PRIMARY, codes[turn++ % ARRAY_SIZE(codes)]);
	clock_step(vm, REQUEST_NS);
	bus_read(vm, BUS_PORT, PRIMARY, 4);
}

static void hostile(void)
{
	fresh();
	address(PRIMARY, LBA, 0, 200);
	command(PRIMARY, 0x20);
	settle(PRIMARY);
	abuse_state(vm, "ide", use);
}

int main(void)
{
	static char said[4096];
	log_divert(said, sizeof(said));
	disk = medium_make(SECTORS, 0);
	second = medium_make(SECTORS, 0);
	locked = medium_make(SECTORS, IMAGE_READONLY);
	identify();
	reading();
	writing();
	other_commands();
	errors();
	channels();
	saving();
	hostile();
	vm_destroy(vm);
	medium_free(&disk);
	medium_free(&second);
	medium_free(&locked);
	return done();
}
