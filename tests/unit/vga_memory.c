/* SPDX-License-Identifier: MIT */
/* The VGA's memory, in every way that it is reached. */
#include "vga_driver.h"

static void planar(void)
{
	fresh();
	out(0x3c2, MISC_COLOUR | MISC_MEMORY);
	seq(SEQ_MAP_MASK, 0x0f);
	seq(SEQ_MEMORY, SEQ_MEMORY_SEQUENTIAL | 2);
	gc(GC_MISC, 0x05);
	gc(GC_BIT_MASK, 0xff);
	gc(GC_IGNORE, 0x0f);
}

static bool holds(uint32_t at, uint8_t a, uint8_t b, uint8_t c, uint8_t d)
{
	return plane(0, at) == a && plane(1, at) == b && plane(2, at) == c && plane(3, at) == d;
}

static void test_write_modes(void)
{
	planar();
	poke(1, 0x81);
	ok(holds(1, 0x81, 0x81, 0x81, 0x81), "write mode 0: to all planes");
	seq(SEQ_MAP_MASK, 0x05);
	poke(1, 0x3c);
	ok(holds(1, 0x3c, 0x81, 0x3c, 0x81), "write mode 0: the map mask");
	seq(SEQ_MAP_MASK, 0x0f);
	gc(GC_ROTATE, 3);
	poke(2, 0x81);
	ok(holds(2, 0x30, 0x30, 0x30, 0x30), "write mode 0: rotation to the right");
	gc(GC_ROTATE, 0);
	gc(GC_SET_RESET, 0x09);
	gc(GC_ENABLE_SET_RESET, 0x0b);
	poke(3, 0x55);
	ok(holds(3, 0xff, 0x00, 0x55, 0xff), "write mode 0: set/reset where it is enabled");
	gc(GC_ENABLE_SET_RESET, 0);
	gc(GC_BIT_MASK, 0x0f);
	peek(1);
	poke(4, 0xf5);
	ok(holds(4, 0x35, 0x85, 0x35, 0x85), "write mode 0: the bit mask keeps the latches");
	gc(GC_BIT_MASK, 0xff);
	static const uint8_t results[4] = { 0xf0, 0x30, 0xfc, 0xcc };
	for (unsigned function = 0; function < 4; function++) {
		gc(GC_ROTATE, (uint8_t)(function << 3));
		peek(1);
		poke(5, 0xf0);
		ok(plane(0, 5) == results[function], "write mode 0: function %u with the latches", function);
	}
	gc(GC_ROTATE, 0);
	gc(GC_MODE, 1);
	peek(1);
	poke(6, 0xee);
	ok(holds(6, 0x3c, 0x81, 0x3c, 0x81), "write mode 1: the latches as they are");
	gc(GC_MODE, 2);
	gc(GC_BIT_MASK, 0xf0);
	peek(1);
	poke(7, 0x05);
	ok(holds(7, 0xfc, 0x01, 0xfc, 0x01), "write mode 2: a colour, under the bit mask");
	gc(GC_MODE, 3);
	gc(GC_SET_RESET, 0x06);
	gc(GC_BIT_MASK, 0x3c);
	peek(1);
	poke(8, 0xf0);
	ok(holds(8, 0x0c, 0xb1, 0x3c, 0x81), "write mode 3: data and bit mask choose, set/reset is the colour");
	gc(GC_MODE, 0);
	gc(GC_BIT_MASK, 0xff);
	bus_write(vm, BUS_MEMORY, WINDOW + 16, 8, 0x8877665544332211);
	ok(plane(2, 16) == 0x11 && plane(2, 23) == 0x88 && bus_read(vm, BUS_MEMORY, WINDOW + 16, 8) == 0x8877665544332211,
	   "eight bytes in one access");
}

static void test_read_modes(void)
{
	planar();
	for (unsigned p = 0; p < VGA_PLANES; p++) {
		seq(SEQ_MAP_MASK, (uint8_t)(1 << p));
		poke(9, (uint8_t)(0x10 + p));
	}
	bool good = true;
	for (unsigned p = 0; p < VGA_PLANES; p++) {
		gc(GC_READ_MAP, (uint8_t)p);
		good &= peek(9) == 0x10 + p;
	}
	ok(good && vga->r.latch == 0x13121110, "read mode 0: each plane, and the latches");
	gc(GC_MODE, GC_MODE_READ_COMPARE);
	/* Pixels: 5 5 5 5 0 1 2 3. */
	memcpy(vga->host.memory + 40, (uint8_t[]){ 0xf5, 0x03, 0xf0, 0x00 }, 4);
	gc(GC_COMPARE, 5);
	ok(peek(10) == 0xf0, "read mode 1: the pixels of a colour");
	gc(GC_IGNORE, 0x01);
	ok(peek(10) == 0xf5, "read mode 1: by the planes that count");
	gc(GC_IGNORE, 0);
	ok(peek(10) == 0xff, "read mode 1: none counts, all match");
}

static void test_windows(void)
{
	static const struct {
		uint8_t misc;
		uint32_t first, last;
	} maps[] = { { 0x01, 0, 0x1ffff }, { 0x05, 0, 0xffff }, { 0x09, 0x10000, 0x17fff }, { 0x0d, 0x18000, 0x1ffff } };
	planar();
	for (unsigned i = 0; i < 4; i++) {
		gc(GC_MISC, maps[i].misc);
		bool good = true;
		for (uint32_t at = 0; at < 0x20000; at += 0x1000) {
			bool there = at >= maps[i].first && at <= maps[i].last;
			poke(at, 0x77);
			good &= peek(at) == (there ? 0x77 : 0xff);
			poke(at, 0);
		}
		poke(maps[i].last, 0x11);
		ok(good && plane(0, (maps[i].last - maps[i].first) & 0xffff) == 0x11, "the window, map %u", i);
	}
	out(0x3c2, MISC_COLOUR);
	ok(peek(maps[3].last) == 0x11, "it is open when the miscellaneous register says that memory is off, too");
}

static void test_chaining(void)
{
	planar();
	seq(SEQ_MEMORY, SEQ_MEMORY_CHAIN4 | SEQ_MEMORY_SEQUENTIAL | 2);
	for (uint32_t i = 0; i < 8; i++)
		poke(i, (uint8_t)(0x40 + i));
	ok(holds(0, 0x40, 0x41, 0x42, 0x43) && holds(4, 0x44, 0x45, 0x46, 0x47), "chain 4: a plane a byte");
	poke(0xfffe, 0x99);
	ok(plane(2, 0xfffc | 3) == 0x99 && peek(0xfffe) == 0x99, "chain 4: the two highest bits come in below");
	seq(SEQ_MAP_MASK, 0x0d);
	poke(1, 0);
	ok(plane(1, 0) == 0x41, "chain 4: the map mask counts");

	planar();
	seq(SEQ_MEMORY, 2);
	seq(SEQ_MAP_MASK, 0x03);
	gc(GC_MODE, GC_MODE_ODD_EVEN);
	gc(GC_MISC, 0x0e);
	bus_write(vm, BUS_MEMORY, 0xb8000 + 10, 2, 0x1f41);
	ok(holds(10, 0x41, 0x1f, 0, 0) && holds(11, 0, 0, 0, 0), "odd/even: characters and attributes");
	ok(bus_read(vm, BUS_MEMORY, 0xb8000 + 10, 2) == 0x1f41, "odd/even: reads back");
	gc(GC_READ_MAP, 2);
	vga->host.memory[10 * VGA_PLANES + 2] = 0x66;
	ok(bus_read(vm, BUS_MEMORY, 0xb8000 + 10, 1) == 0x66, "odd/even: the read map's upper bit chooses the pair");
	gc(GC_MODE, 0);
	seq(SEQ_MAP_MASK, 0x04);
	bus_write(vm, BUS_MEMORY, 0xb8000 + 20, 2, 0x4433);
	ok(plane(2, 20) == 0x33 && plane(2, 21) == 0x44, "a font is loaded with the graphics controller's bit only");
}

int main(void)
{
	test_write_modes();
	test_read_modes();
	test_windows();
	test_chaining();
	picture_free(&picture);
	vm_destroy(vm);
	return done();
}
