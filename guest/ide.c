/* SPDX-License-Identifier: MIT */
/* An IDE disk by its bus master, which writes to memory while the processor runs: also to code that has run often, in the middle of an instruction. Each 16 bytes of
 * the disk are their number, in 15 digits and a line end. ATA/ATAPI-6 8.25; "Programming Interface for Bus Master IDE Controller". */
#include "lib/pci.h"

enum { CLASS_IDE = 0x0101 };
enum { COUNT = 0x1f2, LBA = 0x1f3, DRIVE = 0x1f6, COMMAND = 0x1f7, STATUS = 0x1f7 };
enum { BUSY = 0x80, READY = 0x40, REQUEST = 0x08, FAILED = 0x01, LBA_MODE = 0xe0, READ_DMA = 0xc8 };
enum { MASTER_COMMAND = 0, MASTER_STATUS = 2, MASTER_TABLE = 4 };
enum { START = 1, TO_MEMORY = 8, ACTIVE = 1, MASTER_ERROR = 2, INTERRUPT = 4 };
#define LAST BIT(31)
#define SECTORS 8 /* of one request */

static uint16_t master;
static volatile struct { uint32_t at, count; } table[4] __attribute__((aligned(32)));
static uint8_t data[SECTORS * 512] __attribute__((aligned(4)));

static bool find_disk(void)
{
	for (unsigned function = 0; function < 256; function++) {
		if (pci_read(function, PCI_CLASS + 2) != CLASS_IDE)
			continue;
		master = (uint16_t)(pci_read(function, PCI_BARS + 16) & ~3u);
		pci_write(function, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
		outb(DRIVE, LBA_MODE);
		return master && (inb(STATUS) & (BUSY | READY)) == READY;
	}
	return false;
}

static void region(unsigned n, const void *at, uint32_t count)
{
	table[n].at = (uint32_t)(uint64_t)at;
	table[n].count = count;
}

/* The regions are in the table. It runs when this returns. */
static void request(uint32_t sector, unsigned sectors)
{
	outl(master + MASTER_TABLE, (uint32_t)(uint64_t)table);
	outb(master + MASTER_COMMAND, TO_MEMORY);
	outb(master + MASTER_STATUS, MASTER_ERROR | INTERRUPT);
	outb(COUNT, (uint8_t)sectors);
	for (unsigned n = 0; n < 3; n++)
		outb(LBA + n, (uint8_t)(sector >> 8 * n));
	outb(DRIVE, LBA_MODE | sector >> 24);
	outb(COMMAND, READ_DMA);
	outb(master + MASTER_COMMAND, START | TO_MEMORY);
}

static bool done(void)
{
	return inb(master + MASTER_STATUS) & (INTERRUPT | MASTER_ERROR);
}

/* Was all well? */
static bool finish(void)
{
	uint8_t was = inb(master + MASTER_STATUS);

	outb(master + MASTER_COMMAND, TO_MEMORY);
	return (was & (ACTIVE | MASTER_ERROR | INTERRUPT)) == INTERRUPT && !(inb(STATUS) & (BUSY | REQUEST | FAILED));
}

static char digit(uint64_t number, unsigned at)
{
	while (at++ < 14)
		number /= 10;
	return (char)('0' + number % 10);
}

static bool right(uint32_t sector)
{
	for (unsigned n = 0; n < sizeof(data); n++)
		if (data[n] != (n % 16 == 15 ? '\n' : digit(sector * 32ULL + n / 16, n % 16)))
			return false;
	return true;
}

static void test_data(uint32_t sectors)
{
	unsigned wrong = 0;

	for (uint32_t sector = 0; sector + SECTORS <= sectors; sector += SECTORS) {
		memset(data, 0, sizeof(data));
		region(0, data, 100);
		region(1, data + 100, sizeof(data) - 100 - 2);
		region(2, data + sizeof(data) - 2, 2 | LAST);
		request(sector, SECTORS);
		while (!done())
			asm volatile("pause" : : : "memory");
		wrong += !finish() || !right(sector);
	}
	check(!wrong, "every sector is what it shall be");
}

/* The last digit of a sector's first number, and the line end, go into the immediate of an addition that is run again and again. The bus master moves words: they
 * are at an even address. */
static void test_code(uint32_t sectors)
{
	static const uint8_t loop[] = { 0xb9, 0x10, 0x27, 0, 0, 0x31, 0xc0, 0x05, 0, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf7, 0xc3 };
	enum { IMMEDIATE = 8, ROUNDS = 10000, TIMES = 60 }; /* mov ecx, ROUNDS; xor eax, eax; 1: add eax, 0; dec ecx; jnz 1b; ret */
	uint8_t *code = page_alloc();
	unsigned right = 0;

	memcpy(code, loop, sizeof(loop));
	for (unsigned n = 0; n < TIMES; n++) {
		uint32_t sector = n * 7 % sectors, sum;
		region(0, data, 14);
		region(1, code + IMMEDIATE, 2);
		region(2, data, (512 - 16) | LAST);
		request(sector, 1);
		do { /* it runs meanwhile */
			asm volatile("call *%0" : : "r"(code) : "rax", "rcx", "cc", "memory");
		} while (!done());
		bool well = finish();
		asm volatile("call *%1" : "=a"(sum) : "r"(code) : "rcx", "cc", "memory");
		right += well && sum == ROUNDS * (unsigned)(digit(sector * 32ULL, 14) | '\n' << 8);
	}
	check_equal(right, TIMES, "code that has run often is read from the disk");
}

int main(void)
{
	if (!find_disk()) {
		skip("an IDE disk", "this machine has none");
		guest_end();
	}
	test_data(128);
	test_code(128);
	guest_end();
}
