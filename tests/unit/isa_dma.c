/* SPDX-License-Identifier: MIT */
/* The two 8237s and the page registers: programming, every mode, boundaries, masks, status, state. */
#include "device/i8237.h"
#include "machine.h"

static const struct device_place places[] = { { .class = &i8237_class, .name = "dma", .irq = -1 } };
static struct vm *vm;
static struct device *dma;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 1);
	dma = device_find(vm, "dma");
}

static const uint8_t page_port[8] = { 0x87, 0x83, 0x81, 0x82, 0x8f, 0x8b, 0x89, 0x8a };
enum { VERIFY = 0x40, WRITE = 0x44, READ = 0x48, AUTO = 0x10, DOWN = 0x20, CASCADE = 0xc0 };

/* As a driver: mask, mode, address, count, page, unmask. Of channels 5 to 7 address and count are in words. */
static void program(unsigned channel, uint8_t mode, uint8_t page, uint16_t address, uint16_t count)
{
	uint16_t base = channel < 4 ? 0 : 0xc0;
	unsigned step = channel < 4 ? 1 : 2, at = channel % 4;
	out8(vm, (uint16_t)(base + 10 * step), (uint8_t)(4 | at));
	out8(vm, (uint16_t)(base + 12 * step), 0);
	out8(vm, (uint16_t)(base + 11 * step), (uint8_t)(mode | at));
	out8(vm, (uint16_t)(base + 2 * at * step), (uint8_t)address);
	out8(vm, (uint16_t)(base + 2 * at * step), (uint8_t)(address >> 8));
	out8(vm, (uint16_t)(base + (2 * at + 1) * step), (uint8_t)count);
	out8(vm, (uint16_t)(base + (2 * at + 1) * step), (uint8_t)(count >> 8));
	out8(vm, page_port[channel], page);
	out8(vm, (uint16_t)(base + 10 * step), (uint8_t)at);
}

static uint16_t half_pair(uint16_t port)
{
	out8(vm, port < 0xc0 ? 0x0c : 0xd8, 0);
	uint8_t low = in8(vm, port);
	return (uint16_t)(low | in8(vm, port) << 8);
}

static uint8_t peek(gpa_t at)
{
	uint8_t value = 0;
	guest_read(vm, at, &value, 1);
	return value;
}

static void moving(void)
{
	uint8_t data[600], back[600];
	bool tc;
	fresh();
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3 + 1);
	ok(i8237_to_memory(dma, 2, data, 512, &tc) == 0 && !tc && (in8(vm, 8) & 0x40), "dma: a closed channel takes nothing, and shows the request");
	program(2, WRITE, 0x12, 0x3400, 511);
	ok(i8237_to_memory(dma, 2, data, 200, &tc) == 200 && !tc, "dma: a part");
	ok(half_pair(4) == 0x3400 + 200 && half_pair(5) == 511 - 200, "dma: the current address and count");
	ok(i8237_to_memory(dma, 2, data + 200, 400, &tc) == 312 && tc, "dma: the rest, up to the terminal count");
	guest_read(vm, 0x123400, back, 512);
	ok(!memcmp(back, data, 512) && !peek(0x123600), "dma: it is in memory");
	ok((in8(vm, 8) & 0x0f) == 4 && (in8(vm, 8) & 0x0f) == 0, "dma: status tells of the end, once");
	ok((in8(vm, 15) & 4) && i8237_to_memory(dma, 2, data, 1, &tc) == 0, "dma: then the channel is closed");
	ok(half_pair(5) == 0xffff, "dma: the count has wrapped");
	program(2, READ, 0x12, 0x3400, 9);
	ok(i8237_from_memory(dma, 2, back, 600, &tc) == 10 && tc && !memcmp(back, data, 10), "dma: from memory");
	program(2, VERIFY, 0x12, 0x3400, 9);
	memset(back, 0xee, sizeof(back));
	ok(i8237_to_memory(dma, 2, data + 100, 10, &tc) == 10 && tc && peek(0x123400) == data[0], "dma: verify only counts");
	program(2, WRITE, 0x12, 0x3400, 9);
	ok(i8237_from_memory(dma, 2, back, 10, &tc) == 10 && !back[0] && !back[9], "dma: the other direction gives zeros");
	program(2, WRITE | AUTO, 0x05, 0x0000, 3);
	ok(i8237_to_memory(dma, 2, data, 4, &tc) == 4 && tc && half_pair(4) == 0 && half_pair(5) == 3, "dma: initializes itself again");
	ok(i8237_to_memory(dma, 2, data + 4, 4, &tc) == 4 && tc && peek(0x50000) == data[4], "dma: and goes on");
	program(1, WRITE | DOWN, 0x05, 0x1003, 3);
	ok(i8237_to_memory(dma, 1, data, 4, &tc) == 4 && tc && peek(0x51003) == data[0] && peek(0x51000) == data[3], "dma: downwards");
	program(3, WRITE, 0x06, 0xfffe, 3);
	ok(i8237_to_memory(dma, 3, data, 4, &tc) == 4 && peek(0x6ffff) == data[1] && peek(0x60000) == data[2] && !peek(0x70000),
	   "dma: an address wraps within its 64K");
	program(5, WRITE, 0x05, 0x8000, 1);
	ok(i8237_to_memory(dma, 5, data, 6, &tc) == 4 && tc && peek(0x50000) == data[0] && peek(0x50003) == data[3],
	   "dma: words: bit 0 of the page is not used");
	program(6, WRITE, 0x08, 0x0010, 1);
	ok(i8237_to_memory(dma, 6, data, 4, &tc) == 4 && peek(0x80020) == data[0] && peek(0x80023) == data[3], "dma: words: the address counts words");
}

static void gates(void)
{
	uint8_t data[16] = { 0x5a };
	bool tc;
	fresh();
	program(2, WRITE, 0, 0x1000, 15);
	out8(vm, 0xd4, 4); /* channel 4, the cascade, closes */
	ok(i8237_to_memory(dma, 2, data, 1, &tc) == 0, "dma: the first chip reaches the bus through the second");
	out8(vm, 0xd4, 0);
	ok(i8237_to_memory(dma, 2, data, 1, &tc) == 1, "dma: when its channel 0 is open");
	out8(vm, 8, 4);
	ok(i8237_to_memory(dma, 2, data, 1, &tc) == 0, "dma: the controller is disabled");
	out8(vm, 8, 0);
	out8(vm, 11, CASCADE | 2);
	ok(i8237_to_memory(dma, 2, data, 1, &tc) == 0, "dma: a channel in cascade mode moves nothing");
	program(2, WRITE, 0, 0x1000, 15);
	out8(vm, 15, 0x0f);
	ok(i8237_to_memory(dma, 2, data, 1, &tc) == 0 && in8(vm, 15) == 0xff, "dma: all masked");
	out8(vm, 14, 0);
	ok(i8237_to_memory(dma, 2, data, 1, &tc) == 1 && in8(vm, 15) == 0xf0, "dma: all masks cleared");
	out8(vm, 9, 4 | 3);
	ok((in8(vm, 8) & 0x80), "dma: a software request shows");
	out8(vm, 13, 0);
	ok(in8(vm, 15) == 0xff && !(in8(vm, 8) & 0xf0) && in8(vm, 13) == 0, "dma: master clear");
	out8(vm, 0x80, 0x77);
	ok(in8(vm, 0x80) == 0x77 && in8(vm, 9) == 0xff && in8(vm, 10) == 0xff, "dma: port 80h is a spare page; some registers cannot be read");
}

static void edges(void)
{
	static uint8_t data[128 * 1024];
	bool tc;
	fresh();
	memset(data, 0x33, sizeof(data));
	program(1, WRITE, 0xff, 0, 0xffff);
	ok(i8237_to_memory(dma, 1, data, sizeof(data), &tc) == 65536 && tc, "dma: 64K, the most");
	program(1, WRITE, 0xf0, 0xfff8, 15);
	ok(i8237_to_memory(dma, 1, data, 16, &tc) == 16 && tc, "dma: over the end of a page there");
	program(7, WRITE, 0x10, 0, 0xffff);
	ok(i8237_to_memory(dma, 7, data, sizeof(data), &tc) == sizeof(data) && tc && peek(0x10ffff + 0x10000) == 0x33, "dma: 128K by words");
	program(7, WRITE, 0x10, 0, 0xffff);
	ok(i8237_to_memory(dma, 7, data, 3, &tc) == 2, "dma: half a word waits");
	ok(i8237_to_memory(dma, 2, data, 0, &tc) == 0 && !tc, "dma: nothing");
}

static void use(struct vm *used)
{
	uint8_t data[64] = { 0 };
	bool tc;
	for (unsigned channel = 0; channel < 8; channel++) {
		i8237_to_memory(dma, channel, data, sizeof(data), &tc);
		i8237_from_memory(dma, channel, data, sizeof(data), &tc);
	}
	for (uint16_t port = 0; port < 16; port++)
		in8(used, port);
}

static void saving(void)
{
	uint8_t data[100];
	bool tc;
	fresh();
	memset(data, 0x44, sizeof(data));
	program(2, WRITE, 0x02, 0x0000, 99);
	i8237_to_memory(dma, 2, data, 40, &tc);
	out8(vm, 4, 0x12); /* half of an address */
	struct vm *first = vm, *next = machine(1, places, 1);
	ok(copy_state(first, next) && same_state(first, next), "dma: saved in the middle of a transfer");
	vm = next;
	out8(vm, 4, 0x00);
	ok(half_pair(4) == 0x0012 && i8237_to_memory(device_find(vm, "dma"), 2, data, 100, &tc) == 60 && tc && peek(0x20012) == 0x44,
	   "dma: goes on in the other");
	vm_destroy(next);
	vm = first;
	abuse_state(vm, "dma", use);
}

int main(void)
{
	moving();
	gates();
	edges();
	saving();
	vm_destroy(vm);
	return done();
}
