/* SPDX-License-Identifier: MIT */
/* The 82077 floppy controller: reset and polling, every command, with DMA and without, how transfers end, errors, read-only and short
 * disks, state in the middle of a sector, hostile state. */
#include "device/i82077.h"
#include "media.h"
#include "util/log.h"

#define SECTORS 2880
enum { DOR = 0x3f2, TDR = 0x3f3, MSR = 0x3f4, FIFO = 0x3f5, DIR = 0x3f7 };
enum { RQM = 0x80, DIO = 0x40, NDMA = 0x20, BUSY = 0x10 };
#define LINE 6

static struct medium disk, locked;
static struct i82077_config config;
static struct device_place places[2];
static struct vm *vm;

static struct vm *floppy_machine(void)
{
	places[0] = (struct device_place){ .class = &i8237_class, .name = "dma", .irq = -1 };
	places[1] = (struct device_place){ .class = &i82077_class, .name = "fdc", .base = 0x3f0, .irq = LINE, .config = &config };
	return machine(1, places, 2);
}

static void wait_ms(unsigned ms)
{
	clock_step(vm, ms * MILLISECOND);
}

static void put(uint8_t byte)
{
	out8(vm, FIFO, byte);
}

static void command(const uint8_t *bytes, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		put(bytes[i]);
}
#define COMMAND(...) command((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* Waits for the result and takes it; how many bytes it had. */
static uint8_t result[16];
static unsigned results(void)
{
	unsigned count = 0;
	wait_ms(600);
	memset(result, 0xee, sizeof(result));
	while ((in8(vm, MSR) & (RQM | DIO | BUSY)) == (RQM | DIO | BUSY) && count < sizeof(result))
		result[count++] = in8(vm, FIFO);
	return count;
}

static bool ends_with(uint8_t st0, uint8_t st1, uint8_t st2)
{
	return results() == 7 && result[0] == st0 && result[1] == st1 && result[2] == st2;
}

static bool next_is(uint8_t c, uint8_t h, uint8_t r)
{
	return result[3] == c && result[4] == h && result[5] == r && result[6] == 2;
}

/* Out of reset, with drive `drive`'s motor on, DMA, 500 kb/s. */
static void start(unsigned drive)
{
	if (vm)
		vm_destroy(vm);
	vm = floppy_machine();
	out8(vm, DOR, 0);
	out8(vm, DOR, (uint8_t)(0x0c | 0x10 << drive | drive));
	for (unsigned i = 0; i < 4; i++) {
		put(0x08);
		results();
	}
	out8(vm, DIR, 0);
	COMMAND(0x03, 0xdf, 0x02);
}

static void dma(uint8_t mode, uint32_t address, unsigned bytes)
{
	out8(vm, 0x0a, 6);
	out8(vm, 0x0c, 0);
	out8(vm, 0x0b, (uint8_t)(mode | 2));
	out8(vm, 4, (uint8_t)address);
	out8(vm, 4, (uint8_t)(address >> 8));
	out8(vm, 5, (uint8_t)(bytes - 1));
	out8(vm, 5, (uint8_t)((bytes - 1) >> 8));
	out8(vm, 0x81, (uint8_t)(address >> 16));
	out8(vm, 0x0a, 2);
}

static bool memory_is(gpa_t at, uint32_t first, uint32_t count)
{
	bool same = true;
	for (uint32_t i = 0; i < count; i++) {
		uint8_t data[512], wanted[512];
		medium_sector(wanted, first + i);
		guest_read(vm, at + i * 512, data, 512);
		same &= !memcmp(data, wanted, 512);
	}
	return same;
}

static bool seek_to(uint8_t drive, uint8_t cylinder)
{
	COMMAND(0x0f, drive, cylinder);
	wait_ms(200);
	put(0x08);
	return results() == 2 && result[0] == (0x20 | drive) && result[1] == cylinder;
}

static void reset(void)
{
	if (vm)
		vm_destroy(vm);
	vm = floppy_machine();
	ok(in8(vm, MSR) == 0, "fdc: in reset nothing is ready");
	put(0x10);
	out8(vm, DOR, 0x1c);
	ok(in8(vm, MSR) == RQM && line_level[LINE], "fdc: out of reset it interrupts");
	bool good = true;
	for (unsigned i = 0; i < 4; i++) {
		put(0x08);
		good &= results() == 2 && result[0] == (0xc0 | i) && result[1] == 0;
	}
	ok(good && !line_level[LINE], "fdc: polling: all four drives have changed");
	put(0x08);
	ok(results() == 1 && result[0] == 0x80, "fdc: sense interrupt status with none is invalid");
	put(0x10);
	ok(results() == 1 && result[0] == 0x90, "fdc: version: an 82077");
	put(0x18);
	ok(results() == 1 && result[0] == 0x80, "fdc: an unknown command is invalid");
	COMMAND(0x13, 0, 0x57, 0x11);
	COMMAND(0x12, 0x87);
	put(0x0e);
	ok(results() == 10 && result[8] == 0x57 && result[9] == 0x11 && result[7] == 0x07, "fdc: configure, perpendicular mode, dumpreg");
	put(0x94);
	ok(results() == 1 && result[0] == 0x10, "fdc: lock");
	out8(vm, MSR, 0x80);
	put(0x0e);
	ok(results() == 10 && result[8] == 0x57 && (result[7] & 0x80), "fdc: spares the configuration from a software reset");
	put(0x14);
	results();
	out8(vm, MSR, 0x80);
	put(0x0e);
	ok(results() == 10 && result[8] == 0x20, "fdc: without it the configuration is the default");
	out8(vm, DOR, 0x18);
	out8(vm, DOR, 0x14);
	ok(!line_level[LINE], "fdc: without the DMA gate no interrupt gets out");
	out8(vm, DOR, 0x1c);
	ok(line_level[LINE] && in8(vm, DOR) == 0x1c, "fdc: with it, it does");
	COMMAND(0x13, 0, 0x10, 0);
	put(0x94);
	results();
	out8(vm, DOR, 0x18);
	out8(vm, DOR, 0x1c);
	ok(!line_level[LINE], "fdc: no polling where it was switched off");
	out8(vm, TDR, 0xff);
	ok(in8(vm, TDR) == 3 && in8(vm, 0x3f0) == 0xff && in8(vm, 0x3f1) == 0xff, "fdc: tape drive register; status A and B are not there");
}

static void seeking(void)
{
	start(0);
	ok(in8(vm, DIR) == 0x80, "seek: the disk changed");
	COMMAND(0x0f, 0, 40);
	ok(in8(vm, MSR) == (RQM | 1), "seek: the drive is busy, the chip is not");
	wait_ms(200);
	ok(line_level[LINE], "seek: interrupts at its end");
	put(0x08);
	ok(results() == 2 && result[0] == 0x20 && result[1] == 40 && !line_level[LINE], "seek: where it is");
	ok(in8(vm, DIR) == 0, "seek: a step clears the change line");
	COMMAND(0x04, 0);
	ok(results() == 1 && result[0] == 0x28, "seek: sense drive status: not at track 0");
	COMMAND(0xcf, 4, 5);
	wait_ms(200);
	put(0x08);
	ok(results() == 2 && result[0] == 0x24 && result[1] == 45, "seek: relative, inwards");
	COMMAND(0x8f, 0, 200);
	wait_ms(200);
	put(0x08);
	ok(results() == 2 && result[1] == 0, "seek: relative, outwards, not beyond track 0");
	ok(seek_to(0, 79), "seek: the last cylinder");
	COMMAND(0x07, 0);
	wait_ms(200);
	put(0x08);
	ok(results() == 2 && result[0] == 0x20 && result[1] == 0, "recalibrate");
	COMMAND(0x04, 4);
	ok(results() == 1 && result[0] == 0x3c, "recalibrate: track 0");
	COMMAND(0x07, 3);
	wait_ms(200);
	put(0x08);
	ok(results() == 2 && result[0] == (0x70 | 3), "recalibrate: a drive that is not there has no track 0");
	COMMAND(0x0f, 0, 10);
	COMMAND(0x0f, 1, 20);
	wait_ms(200);
	put(0x08);
	bool first = results() == 2 && result[0] == 0x20 && result[1] == 10 && line_level[LINE];
	put(0x08);
	ok(first && results() == 2 && result[0] == 0x21 && result[1] == 20 && !line_level[LINE], "seek: two at once, told of one after the other");
	COMMAND(0x04, 1);
	ok(results() == 1 && (result[0] & 0x40), "sense drive status: write protected");
}

static void with_dma(void)
{
	start(0);
	dma(0x44, 0x20000, 512);
	COMMAND(0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(in8(vm, MSR) == BUSY && !line_level[LINE], "read: busy");
	ok(ends_with(0, 0, 0) && next_is(0, 0, 2) && memory_is(0x20000, 0, 1), "read: one sector by terminal count");
	dma(0x44, 0x20000, 36 * 512);
	COMMAND(0xe6, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(4, 0, 0) && next_is(1, 0, 1) && memory_is(0x20000, 0, 36), "read: both sides of a cylinder");
	ok(seek_to(0, 79), "read: the last cylinder");
	dma(0x44, 0x20000, 1024);
	COMMAND(0x46, 4, 79, 1, 17, 2, 18, 0x1b, 0xff);
	ok(ends_with(4, 0, 0) && next_is(80, 1, 1) && memory_is(0x20000, SECTORS - 2, 2), "read: the last sectors");
	dma(0x44, 0x20000, 2048);
	COMMAND(0x46, 4, 79, 1, 17, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x44, 0x80, 0) && memory_is(0x20000, SECTORS - 2, 2), "read: no terminal count: end of cylinder");
	uint8_t data[1024];
	for (unsigned i = 0; i < 2; i++)
		medium_sector(data + 512 * i, 9000 + i);
	guest_write(vm, 0x30000, data, 1024);
	ok(seek_to(0, 3), "write: another cylinder");
	dma(0x48, 0x30000, 1024);
	COMMAND(0xc5, 0, 3, 0, 4, 2, 18, 0x1b, 0xff);
	ok(ends_with(0, 0, 0) && next_is(3, 0, 6) && medium_holds(&disk, 3 * 36 + 3, data) && medium_holds(&disk, 3 * 36 + 4, data + 512), "write: two sectors");
	dma(0x48, 0x30000, 100);
	COMMAND(0xc5, 0, 3, 0, 4, 2, 18, 0x1b, 0xff);
	memset(data + 100, 0, 412);
	ok(ends_with(0, 0, 0) && medium_holds(&disk, 3 * 36 + 3, data), "write: what a terminal count cuts off is zeros");
	COMMAND(0x56, 0, 3, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0, 0, 0), "verify: to the end of the track");
	COMMAND(0x56, 0x80, 3, 0, 1, 2, 18, 0x1b, 5);
	ok(ends_with(0, 0, 0) && next_is(3, 0, 6), "verify: five sectors");
	dma(0x44, 0x20000, 512);
	COMMAND(0x4c, 0, 3, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0, 0, 0x40) || result[2] == 0x40, "read deleted data: the mark is another");
	COMMAND(0x6c, 0, 3, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0x40), "read deleted data, skipping: there is none");
	dma(0x44, 0x20000, 18 * 512);
	COMMAND(0x42, 0, 3, 0, 7, 2, 18, 0x1b, 0xff);
	ok(results() == 7 && !(result[0] & 0xc0) && memory_is(0x20000, 3 * 36, 3), "read track: from the index hole on");
	COMMAND(0x4a, 0);
	ok(ends_with(0, 0, 0) && result[3] == 3 && result[4] == 0 && result[5] >= 1 && result[5] <= 18, "read id");
	uint8_t ids[72], filled[512];
	for (unsigned i = 0; i < 18; i++)
		memcpy(ids + 4 * i, (uint8_t[]){ 5, 1, (uint8_t)(i + 1), 2 }, 4);
	guest_write(vm, 0x30000, ids, sizeof(ids));
	memset(filled, 0xf6, sizeof(filled));
	seek_to(0, 5);
	dma(0x48, 0x30000, 72);
	COMMAND(0x4d, 4, 2, 18, 0x50, 0xf6);
	ok(ends_with(4, 0, 0) && medium_holds(&disk, 5 * 36 + 18, filled) && medium_holds(&disk, 5 * 36 + 35, filled), "format: a track");
	uint8_t kept[512];
	medium_sector(kept, 5 * 36 + 17);
	ok(medium_holds(&disk, 5 * 36 + 17, kept), "format: and no other");
	COMMAND(0x13, 0, 0x60, 0);
	dma(0x44, 0x20000, 512);
	COMMAND(0x46, 0, 60, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0, 0, 0) && memory_is(0x20000, 60 * 36, 1), "read: with an implied seek");
}

static void failures(void)
{
	start(0);
	dma(0x44, 0x20000, 512);
	COMMAND(0x46, 0, 1, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0x10), "errors: another cylinder: wrong cylinder");
	COMMAND(0x46, 0, 0, 0, 19, 2, 19, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0), "errors: sector 19 of 18: no data");
	COMMAND(0x46, 0, 0, 0, 0, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0), "errors: sector 0");
	COMMAND(0x46, 0, 0, 1, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0), "errors: a head that is not the selected one");
	COMMAND(0x46, 0, 0, 0, 1, 3, 9, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0), "errors: sectors of 1024 bytes");
	COMMAND(0x06, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 1, 0), "errors: FM: missing address mark");
	out8(vm, DIR, 2);
	COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 1, 0), "errors: another data rate: missing address mark");
	COMMAND(0x4a, 0);
	ok(ends_with(0x40, 1, 0), "errors: read id, too");
	out8(vm, DIR, 0);
	ok(seek_to(0, 80), "errors: a cylinder that the disk does not have");
	COMMAND(0x46, 0, 80, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 1, 0), "errors: has nothing on it");
	out8(vm, 0x0a, 6);
	seek_to(0, 0);
	COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 0x10, 0), "errors: a DMA channel that stays closed: overrun");
	out8(vm, DOR, 0x0c); /* the motor is off */
	COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(results() == 0 && in8(vm, MSR) == BUSY, "errors: no motor: it waits ...");
	out8(vm, MSR, 0x80);
	ok(in8(vm, MSR) == RQM, "errors: ... until a reset");
	out8(vm, DOR, 0x4e); /* drive 2 */
	COMMAND(0x4a, 2);
	ok(results() == 0 && in8(vm, MSR) == BUSY, "errors: a drive that is not there");
	start(1);
	dma(0x48, 0x30000, 512);
	COMMAND(0x45, 1, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x41, 2, 0), "errors: write to a protected disk");
	COMMAND(0x4d, 1, 2, 18, 0x50, 0xf6);
	ok(ends_with(0x41, 2, 0), "errors: format of one");
	start(0);
	seek_to(0, 70);
	dma(0x48, 0x30000, 512);
	host_full(70 * 36);
	COMMAND(0x45, 0, 70, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 0x20, 0x20), "errors: the host cannot write: data error");
	host_full(0);
}

/* Waits for its byte; without DMA each has an interrupt or may be polled. */
static bool ready(uint8_t direction)
{
	for (unsigned i = 0; i < 100 && !(in8(vm, MSR) & RQM); i++)
		wait_ms(1);
	return (in8(vm, MSR) & (RQM | DIO | NDMA | BUSY)) == (RQM | NDMA | BUSY | direction);
}

static void without_dma(void)
{
	uint8_t data[1024], wanted[512];
	start(0);
	COMMAND(0x03, 0xdf, 0x03);
	COMMAND(0x46, 0, 0, 0, 17, 2, 18, 0x1b, 0xff);
	bool good = true;
	for (unsigned i = 0; i < 1024; i++) {
		good &= ready(DIO);
		data[i] = in8(vm, FIFO);
	}
	medium_sector(wanted, 17);
	ok(good && !memcmp(data + 512, wanted, 512), "pio: two sectors, byte for byte");
	ok(ends_with(0x40, 0x80, 0), "pio: the end is that of the track");
	COMMAND(0x45, 0, 0, 0, 18, 2, 18, 0x1b, 0xff);
	medium_sector(wanted, 8000);
	good = true;
	for (unsigned i = 0; i < 512; i++) {
		good &= ready(0);
		put(wanted[i]);
	}
	ok(good && ends_with(0x40, 0x80, 0) && medium_holds(&disk, 17, wanted), "pio: write");
	COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	ok(ready(DIO) && line_level[LINE], "pio: an interrupt asks");
	in8(vm, FIFO);
	put(0x55);
	out8(vm, DOR, 0x18);
	out8(vm, DOR, 0x1c);
	ok(in8(vm, MSR) == RQM, "pio: a reset in the middle of a sector");
}

static void formats(void)
{
	static const struct { uint32_t kib; uint8_t type; } known[] = {
		{ 160, 1 }, { 180, 1 }, { 320, 1 }, { 360, 1 }, { 720, 3 }, { 1200, 2 }, { 1440, 4 }, { 1680, 4 }, { 2880, 5 }, { 1, 4 }, { 1500, 5 },
	};
	uint8_t type;
	bool good = true;
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++)
		good &= i82077_drive_type(known[i].kib * KiB, &type) && type == known[i].type;
	ok(good, "formats: known by their size; shorter ones are the next larger");
	ok(!i82077_drive_type(2881 * KiB, &type) && !type, "formats: none is larger than 2880K");
	struct medium shorter = medium_make(5, 0);
	config.image[0] = shorter.image;
	start(0);
	uint8_t data[1024], zeros[512] = { 0 };
	dma(0x44, 0x20000, 1024);
	COMMAND(0x46, 0, 0, 0, 5, 2, 18, 0x1b, 0xff);
	bool read = ends_with(0, 0, 0) && memory_is(0x20000, 4, 1);
	guest_read(vm, 0x20200, data, 512);
	ok(read && !memcmp(data, zeros, 512), "short: what the file does not have is zeros");
	dma(0x48, 0x20000, 512);
	COMMAND(0x45, 0, 0, 0, 6, 2, 18, 0x1b, 0xff);
	ok(ends_with(0x40, 4, 0), "short: and cannot be written");
	vm_destroy(vm);
	vm = NULL;
	medium_free(&shorter);
	config.image[0] = disk.image;
}

static void use(struct vm *used)
{
	static unsigned turn;
	vm = used;
	for (unsigned i = 0; i < 8; i++) {
		in8(vm, MSR);
		put((uint8_t)(turn * 7 + i));
		wait_ms(turn % 3);
		in8(vm, FIFO);
	}
	in8(vm, DIR);
	if (++turn % 4 == 0)
		out8(vm, DOR, turn & 8 ? 0x1c : 0x00);
	wait_ms(40);
}

static void saving(void)
{
	uint8_t data[512], wanted[512];
	start(0);
	struct vm *first = vm;
	COMMAND(0x03, 0xdf, 0x03);
	COMMAND(0x46, 0, 0, 0, 2, 2, 2, 0x1b, 0xff);
	bool good = true;
	for (unsigned i = 0; i < 100; i++) {
		good &= ready(DIO);
		data[i] = in8(vm, FIFO);
	}
	struct i82077_config here = config, there = config;
	struct medium copy = medium_make(SECTORS, 0), other = medium_make(SECTORS, IMAGE_READONLY);
	there.image[0] = copy.image;
	there.image[1] = other.image;
	config = there;
	struct vm *next = floppy_machine();
	ok(copy_state(first, next) && same_state(first, next), "saving: in the middle of a sector");
	vm = next;
	for (unsigned i = 100; i < 512; i++) {
		good &= ready(DIO);
		data[i] = in8(vm, FIFO);
	}
	medium_sector(wanted, 1);
	ok(good && !memcmp(data, wanted, 512) && ends_with(0x40, 0x80, 0), "saving: goes on at the same byte");
	vm_destroy(next);
	config = here;
	vm = first;
	start(0);
	first = vm;
	dma(0x44, 0x20000, 4 * 512);
	COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	clock_step(vm, 420000); /* the first sector is asked for */
	COMMAND(0x0f, 1, 9);
	config = there;
	next = floppy_machine();
	ok(copy_state(first, next), "saving: while the image is asked, and a command is half written");
	vm = next;
	ok(ends_with(0, 0, 0) && memory_is(0x20000, 0, 4), "saving: the other goes on");
	vm_destroy(next);
	config = here;
	vm = first;
	start(0);
	dma(0x44, 0x20000, 30 * 512);
	COMMAND(0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff);
	wait_ms(1);
	abuse_state(vm, "fdc", use);
	medium_free(&copy);
	medium_free(&other);
}

int main(void)
{
	static char said[4096];
	log_divert(said, sizeof(said));
	disk = medium_make(SECTORS, 0);
	locked = medium_make(SECTORS, IMAGE_READONLY);
	config = (struct i82077_config){ .image = { disk.image, locked.image }, .dma = "dma" };
	reset();
	seeking();
	with_dma();
	failures();
	without_dma();
	formats();
	saving();
	vm_destroy(vm);
	medium_free(&disk);
	medium_free(&locked);
	return done();
}
