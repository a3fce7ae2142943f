/* SPDX-License-Identifier: MIT */
/* The VGA: registers, video memory in every way that it is reached, pictures of known contents, the VBE interface; and that nothing a guest
 * writes reaches beyond video memory. */
#include "device/vga.h"
#include <sys/mman.h>
#include "backend/screen.h"
#include "board/text_mode.h"
#include "machine.h"

#define VGA PCI_AT(2, 0)
#define FRAME_AT 0xe0000000u
#define WINDOW 0xa0000u
#define GREY 0xaaaaaau

static const uint8_t rom[4096] = { 0x55, 0xaa, 0x08 };
static const struct vga_config config = { rom, sizeof(rom) };
static const struct pci_config pci_place_config = { .reset_control = "cf9" };
static const struct device_place places[] = {
	{ .class = &cf9_class, .name = "cf9", .irq = -1 },
	{ .class = &pci_class, .name = "pci", .irq = -1, .config = &pci_place_config },
	{ .class = &vga_class, .name = "vga", .base = VGA, .irq = -1, .config = &config },
};
static struct vm *vm;
static struct vga *vga;
static struct picture picture;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, ARRAY_SIZE(places));
	vga = vga_of(device_find(vm, "vga"));
	memset(vga->host.memory, 0, VGA_PLANES * VGA_PLANE_SIZE);
}

static void out(uint16_t port, uint8_t value)
{
	out8(vm, port, value);
}

static uint8_t in(uint16_t port)
{
	return in8(vm, port);
}

static void set(uint16_t port, uint8_t index, uint8_t value)
{
	out(port, index);
	out(port + 1, value);
}

static uint8_t get(uint16_t port, uint8_t index)
{
	out(port, index);
	return in(port + 1);
}

static void seq(uint8_t index, uint8_t value) { set(0x3c4, index, value); }
static void gc(uint8_t index, uint8_t value) { set(0x3ce, index, value); }
static void crtc(uint8_t index, uint8_t value) { set(0x3d4, index, value); }

static void ac(uint8_t index, uint8_t value)
{
	in(0x3da);
	out(0x3c0, index);
	out(0x3c0, value);
	out(0x3c0, AC_INDEX_SHOWS);
}

static void poke(uint32_t at, uint8_t value)
{
	bus_write(vm, BUS_MEMORY, WINDOW + at, 1, value);
}

static uint8_t peek(uint32_t at)
{
	return (uint8_t)bus_read(vm, BUS_MEMORY, WINDOW + at, 1);
}

static uint8_t plane(unsigned p, uint32_t at)
{
	return vga->host.memory[VGA_PLANES * at + p];
}

static uint32_t dot(unsigned x, unsigned y)
{
	return x < picture.width && y < picture.height ? picture.pixels[(size_t)y * picture.width + x] : ~0u;
}

static void draw(unsigned frame)
{
	if (vga_draw(&vga->r, vga->host.memory, frame, &picture))
		picture.width = 0;
}

static void vbe(uint16_t index, uint16_t value)
{
	bus_write(vm, BUS_PORT, 0x1ce, 2, index);
	bus_write(vm, BUS_PORT, 0x1cf, 2, value);
}

static uint16_t vbe_get(uint16_t index)
{
	bus_write(vm, BUS_PORT, 0x1ce, 2, index);
	return (uint16_t)bus_read(vm, BUS_PORT, 0x1cf, 2);
}

static void vbe_mode(uint16_t width, uint16_t height, uint16_t bpp)
{
	vbe(VBE_ENABLE, 0);
	vbe(VBE_XRES, width);
	vbe(VBE_YRES, height);
	vbe(VBE_BPP, bpp);
	vbe(VBE_ENABLE, VBE_ENABLED | VBE_LINEAR);
}

/* --- registers --- */

/* Every index of a pair: what bits it keeps; the last `count` of them are not there. */
static void test_pair(const char *name, uint16_t port, unsigned indices, const uint8_t *mask, unsigned count)
{
	bool good = true;
	for (unsigned i = 0; i < indices; i++) {
		uint8_t want = i < count ? mask[i] : 0;
		set(port, (uint8_t)i, 0xff);
		good &= get(port, (uint8_t)i) == want && in(port) == i;
		set(port, (uint8_t)i, 0);
		good &= get(port, (uint8_t)i) == 0;
	}
	ok(good, "%s: every register, every bit", name);
}

static void test_registers(void)
{
	static const uint8_t seq_bits[] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
	static const uint8_t gc_bits[] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
	fresh();
	out(0x3c2, MISC_COLOUR | MISC_MEMORY);
	ok(in(0x3cc) == (MISC_COLOUR | MISC_MEMORY), "miscellaneous output is read at 3CCh");
	test_pair("sequencer", 0x3c4, 8, seq_bits, 5);
	test_pair("graphics controller", 0x3ce, 16, gc_bits, 9);
	uint8_t all[CRTC_COUNT];
	memset(all, 0xff, sizeof(all));
	all[CRTC_V_RETRACE_END] = 0x7f;
	bool good = true;
	for (unsigned i = 0; i < 0x40; i++) {
		crtc((uint8_t)i, i == CRTC_V_RETRACE_END ? 0x7f : 0xff);
		good &= get(0x3d4, (uint8_t)i) == (i < CRTC_COUNT ? all[i] : 0);
		crtc((uint8_t)i, 0);
	}
	ok(good, "CRT controller: every register");
	crtc(CRTC_V_RETRACE_END, CRTC_PROTECT);
	crtc(CRTC_H_END, 0x55);
	crtc(CRTC_OVERFLOW, 0xff);
	crtc(CRTC_MAX_SCAN, 0x12);
	ok(!get(0x3d4, CRTC_H_END) && get(0x3d4, CRTC_OVERFLOW) == 0x10 && get(0x3d4, CRTC_MAX_SCAN) == 0x12,
	   "CRT controller: registers 0 to 7 are protected but for bit 8 of the line compare");
	ok(in(0x3b4) == 0xff && in(0x3ba) == 0xff, "nobody at the monochrome addresses");
	out(0x3c2, MISC_MEMORY);
	ok(in(0x3b4) == CRTC_MAX_SCAN && get(0x3b4, CRTC_MAX_SCAN) == 0x12 && in(0x3d4) == 0xff, "and the other way round");
	out(0x3da, 3);
	ok(!in(0x3ca), "feature control is not at the colour address then");
	out(0x3ba, 3);
	ok(in(0x3ca) == 3, "but at the monochrome one");
	out(0x3c2, MISC_COLOUR);
	out(0x3c3, 0);
	ok(in(0x3c4) == 0xff && in(0x3c3) == 0, "the adapter can be switched off");
	out(0x3c4, 3);
	out(0x3c3, 1);
	ok(in(0x3c4) != 3, "and takes nothing while it is");
}

static void test_attributes(void)
{
	bool good = true;
	fresh();
	out(0x3c2, MISC_COLOUR);
	for (unsigned i = 0; i < 0x20; i++) {
		uint8_t mask = i < 0x10 ? 0x3f : i == 0x10 ? 0xef : i == 0x11 ? 0xff : i == 0x12 ? 0x3f : i < AC_COUNT ? 0x0f : 0;
		in(0x3da);
		out(0x3c0, (uint8_t)i);
		out(0x3c0, 0xff);
		out(0x3c0, (uint8_t)i);
		good &= in(0x3c1) == mask && in(0x3c0) == i;
	}
	ok(good, "attribute controller: every register, every bit");
	in(0x3da);
	out(0x3c0, AC_INDEX_SHOWS | 3);
	out(0x3c0, 0x15);
	out(0x3c0, AC_INDEX_SHOWS | AC_PAN);
	out(0x3c0, 0x5);
	ok(vga->r.ac[3] == 0x3f && vga->r.ac[AC_PAN] == 5, "the palette cannot be written while it is shown, the rest can");
	out(0x3c0, 7);
	in(0x3da);
	out(0x3c0, 9);
	ok((vga->r.ac_index & 0x1f) == 9, "reading the status makes the next write an index");
}

static void test_dac(void)
{
	fresh();
	out(0x3c2, MISC_COLOUR);
	out(0x3c8, 0xff);
	for (unsigned i = 0; i < 6; i++)
		out(0x3c9, (uint8_t)(0xc0 + i));
	ok(in(0x3c8) == 1 && !in(0x3c7), "DAC: three bytes a colour, then the next, around the end");
	out(0x3c7, 0xff);
	bool good = in(0x3c7) == 3;
	for (unsigned i = 0; i < 6; i++)
		good &= in(0x3c9) == i;
	ok(good, "DAC: reads back, six bits each");
	out(0x3c8, 5);
	out(0x3c9, 1);
	out(0x3c9, 2);
	ok(!vga->r.dac[15] && !vga->r.dac[16], "DAC: a colour changes whole");
	vbe(VBE_ENABLE, VBE_8BIT_DAC);
	out(0x3c8, 5);
	for (unsigned i = 0; i < 3; i++)
		out(0x3c9, (uint8_t)(0xf0 + i));
	ok(vga->r.dac[15] == 0xf0 && vga->r.dac[17] == 0xf2, "DAC: eight bits, when asked for");
	out(0x3c6, 0x0f);
	ok(in(0x3c6) == 0x0f, "DAC: the mask");
}

/* Mode 3: 449 lines at 28.322 MHz / 900, retrace in lines 412 and 413. */
static void test_retrace(void)
{
	const uint64_t line = 900 * 1000000000ULL / 28322000;
	unsigned lines_in_retrace = 0, lines_disabled = 0;
	fresh();
	text_mode_set(vm, NULL, 0);
	/* To the begin of a frame, a little into the line. */
	clock_step(vm, line / 8);
	for (unsigned y = 0; y < 449; y++, clock_step(vm, line)) {
		uint8_t status = in(0x3da);
		lines_in_retrace += !!(status & 8);
		lines_disabled += status & 1;
		if (y < 400 && (status & 9))
			lines_disabled += 1000;
	}
	ok(lines_in_retrace == 2, "retrace: two lines of a frame, by the clock (%u)", lines_in_retrace);
	ok(lines_disabled >= 48 && lines_disabled <= 49, "the picture is off below it (%u)", lines_disabled);
	clock_step(vm, line * 85 / 100);
	ok(in(0x3da) == 1, "and right of it");
	/* Hostile: the shortest frame there can be. */
	crtc(CRTC_V_RETRACE_END, 0);
	for (unsigned i = 0; i < CRTC_COUNT; i++)
		crtc((uint8_t)i, 0);
	for (unsigned i = 0; i < 100; i++, clock_step(vm, 333))
		in(0x3da);
	ok(true, "the shortest frame divides by nothing");
}

/* --- memory --- */

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
	ok(peek(0x18000) == 0xff, "the window is closed when memory is off");
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
}

/* --- pictures --- */

static void test_text(void)
{
	fresh();
	text_mode_set(vm, NULL, 0);
	ok(!vga->r.ac_data && vga_is_text(&vga->r) && !vga_is_blank(&vga->r), "text mode is on");
	/* A glyph of our own for 'A' and for a line: rows 0 and 15. */
	memset(vga->host.memory + VGA_PLANES * ('A' * 32) + 2, 0x81, 1);
	memset(vga->host.memory + VGA_PLANES * (0xc4 * 32 + 15) + 2, 0xff, 1);
	bus_write(vm, BUS_MEMORY, 0xb8000, 4, 0x1fc41e41);             /* yellow A and white line, both on blue */
	bus_write(vm, BUS_MEMORY, 0xb8000 + 160 * 24 + 158, 2, 0x4c41); /* the last cell: light red on red */
	crtc(CRTC_CURSOR_HIGH, 0);
	crtc(CRTC_CURSOR_LOW, 81);
	draw(0);
	ok(picture.width == 720 && picture.height == 400, "text: 720 by 400");
	ok(dot(0, 0) == 0xffff55 && dot(1, 0) == 0x0000aa && dot(7, 0) == 0xffff55 && dot(8, 0) == 0x0000aa && dot(0, 1) == 0x0000aa,
	   "text: a character, nine dots wide");
	ok(dot(9, 15) == 0xffffff && dot(17, 15) == 0xffffff && dot(9, 14) == 0x0000aa, "text: a line runs through the ninth dot");
	ok(dot(711, 384) == 0xff5555 && dot(719, 384) == 0xaa0000, "text: the last cell");
	ok(dot(9, 16 + 13) == GREY && dot(17, 16 + 14) == GREY && !dot(9, 16 + 12) && !dot(9, 16 + 15), "text: the cursor, lines 13 and 14");
	draw(8);
	ok(!dot(9, 16 + 13), "text: the cursor blinks");
	crtc(CRTC_CURSOR_START, CRTC_CURSOR_OFF | 13);
	draw(0);
	ok(!dot(9, 16 + 13), "text: the cursor is off");
	bus_write(vm, BUS_MEMORY, 0xb8001, 1, 0x9e);
	draw(0);
	ok(dot(0, 0) == 0xffff55 && dot(1, 0) == 0x0000aa, "text: a blinking character, on");
	draw(16);
	ok(dot(0, 0) == 0x0000aa, "text: a blinking character, off");
	ac(AC_MODE, AC_MODE_LINE);
	draw(16);
	ok(dot(0, 0) == 0xffff55 && dot(1, 0) == 0x5555ff, "text: without blinking, sixteen colours of paper");
	seq(SEQ_CLOCKING, SEQ_CLOCKING_8_DOTS);
	draw(0);
	ok(picture.width == 640 && dot(8, 15) == 0xffffff, "text: eight dots");
	seq(SEQ_FONT, 0x01); /* map B: font 1 */
	draw(0);
	ok(dot(8, 15) == 0xffffff, "text: attribute bit 3 takes font A");
	bus_write(vm, BUS_MEMORY, 0xb8003, 1, 0x17);
	draw(0);
	ok(dot(8, 15) == 0x0000aa, "text: without it, font B");
	crtc(CRTC_START_LOW, 80);
	seq(SEQ_FONT, 0);
	bus_write(vm, BUS_MEMORY, 0xb8000 + 160, 2, 0x0f41);
	draw(0);
	ok(dot(0, 0) == 0xffffff, "text: the start address");
	seq(SEQ_CLOCKING, SEQ_CLOCKING_8_DOTS | SEQ_CLOCKING_HALF);
	draw(0);
	ok(picture.width == 1280 && dot(1, 0) == 0xffffff && !dot(2, 0), "text: half the dot clock, dots twice as wide");
	seq(SEQ_CLOCKING, SEQ_CLOCKING_OFF);
	draw(0);
	ok(!dot(0, 0), "the screen is off");
}

static void test_characters(void)
{
	static const uint8_t line[] = { 'D', 'o', 0x20, 0x81, 0xc9, 0x00, 0x01, 0x9e, 0xff, 0x20, 0x20 };
	fresh();
	text_mode_set(vm, NULL, 0);
	for (unsigned i = 0; i < sizeof(line); i++)
		bus_write(vm, BUS_MEMORY, 0xb8000 + 160 * 2 + 2 * i, 1, line[i]);
	bus_write(vm, BUS_MEMORY, 0xb8000 + 160 * 24, 1, 'Z');
	char *text = vga_screen_text(&vga->device);
	ok(text && !strncmp(text, "\n\nDo ü╔ ☺₧\u00a0\n\n", strlen("\n\nDo ü╔ ☺₧\u00a0\n\n")), "the screen as text: UTF-8, rows, no spaces at the end");
	ok(text && strlen(text) > 2 && !strcmp(text + strlen(text) - 3, "\nZ\n"), "the screen as text: the last of 25 rows");
	free(text);
	gc(GC_MISC, 0x05);
	text = vga_screen_text(&vga->device);
	ok(text && !strcmp(text, "(graphics, 640x400)\n"), "the screen as text: graphics say so");
	free(text);
	vbe_mode(800, 600, 16);
	text = vga_screen_text(&vga->device);
	ok(text && !strcmp(text, "(graphics, 800x600, 16 bits a pixel)\n"), "the screen as text: so does the VBE interface");
	free(text);
}

/* Registers in which a mode of the VGA's BIOS differs from mode 3; IBM's manual again. */
static void graphics(uint8_t gc_mode, uint8_t gc_misc, uint8_t seq_memory, uint8_t clocking, uint8_t max_scan, uint8_t offset, uint8_t underline,
	uint8_t mode)
{
	fresh();
	text_mode_set(vm, NULL, 0);
	memset(vga->host.memory, 0, VGA_PLANES * VGA_PLANE_SIZE);
	crtc(CRTC_V_RETRACE_END, 0x0e);
	seq(SEQ_CLOCKING, clocking);
	seq(SEQ_MAP_MASK, 0x0f);
	seq(SEQ_MEMORY, seq_memory);
	gc(GC_MODE, gc_mode);
	gc(GC_MISC, gc_misc);
	crtc(CRTC_MAX_SCAN, max_scan);
	crtc(CRTC_OFFSET, offset);
	crtc(CRTC_UNDERLINE, underline);
	crtc(CRTC_MODE, mode);
	ac(AC_MODE, 0x01);
	ac(AC_PAN, 0);
}

static void test_graphics(void)
{
	graphics(0x40, 0x05, 0x0e, 0x01, 0x41, 0x28, 0x40, 0xa3); /* mode 13h */
	ac(AC_MODE, 0x41);
	poke(0, 4);
	poke(319, 2);
	poke(320 * 199 + 319, 1);
	poke(320 * 100, 7);
	draw(0);
	ok(picture.width == 640 && picture.height == 400, "mode 13h: each of 320 by 200 is two by two dots");
	ok(dot(0, 0) == 0xaa0000 && dot(1, 1) == 0xaa0000 && !dot(2, 0) && dot(639, 0) == 0x00aa00 && dot(639, 399) == 0x0000aa,
	   "mode 13h: the corners");
	ok(dot(0, 200) == GREY && !dot(0, 199) && !dot(0, 202), "mode 13h: a line in the middle");

	seq(SEQ_MEMORY, 0x06); /* the same, unchained: "mode X" */
	crtc(CRTC_UNDERLINE, 0);
	crtc(CRTC_MODE, 0xe3);
	memset(vga->host.memory, 0, VGA_PLANES * VGA_PLANE_SIZE);
	seq(SEQ_MAP_MASK, 0x04);
	poke(80 * 3 + 1, 4);
	draw(0);
	ok(dot(12, 6) == 0xaa0000 && !dot(14, 6) && !dot(12, 8), "unchained 256 colours: plane 2 of the second byte is pixel 6");
	crtc(CRTC_START_LOW, 80);
	draw(0);
	ok(dot(12, 4) == 0xaa0000, "unchained 256 colours: the start address");
	ac(AC_PAN, 4);
	draw(0);
	ok(dot(8, 4) == 0xaa0000, "unchained 256 colours: panning");

	graphics(0x00, 0x05, 0x06, 0x01, 0x40, 0x28, 0x00, 0xe3); /* mode 12h, with 400 lines */
	seq(SEQ_MAP_MASK, 0x05);
	poke(80 * 10 + 2, 0x40);
	draw(0);
	ok(dot(17, 10) == 0xaa00aa && !dot(16, 10) && !dot(17, 11), "640 by 400, 16 colours: a pixel");
	ac(AC_PLANES, 0x0b);
	draw(0);
	ok(dot(17, 10) == 0x0000aa, "16 colours: planes can be switched off");
	ac(AC_PLANES, 0x0f);
	crtc(CRTC_LINE_COMPARE, 99); /* bits 8 and 9 are 0 */
	crtc(CRTC_OVERFLOW, 0x0f);
	crtc(CRTC_MAX_SCAN, 0x00);
	draw(0);
	ok(dot(17, 110) == 0xaa00aa && dot(17, 10) == 0xaa00aa && !dot(17, 109), "the split: from line 100 on, memory from 0");
	ac(AC_COLOUR_SELECT, 0x04);
	out(0x3c8, 0x45);
	for (unsigned i = 0; i < 3; i++)
		out(0x3c9, (uint8_t)(0x3f - i));
	draw(0);
	ok(dot(17, 10) == 0xfffbf7, "16 colours: colour select");

	graphics(0x30, 0x0f, 0x02, 0x09, 0xc1, 0x14, 0x00, 0xa2); /* mode 4 */
	crtc(CRTC_H_END, 39);
	seq(SEQ_MAP_MASK, 0x03);
	bus_write(vm, BUS_MEMORY, 0xb8000, 1, 0xc0);
	bus_write(vm, BUS_MEMORY, 0xb8001, 1, 0x03);
	bus_write(vm, BUS_MEMORY, 0xba000, 1, 0x20);
	bus_write(vm, BUS_MEMORY, 0xb8050, 1, 0x40);
	draw(0);
	ok(picture.width == 640 && picture.height == 400, "mode 4: 320 by 200, doubled");
	ok(dot(0, 0) == 0x00aaaa && dot(1, 1) == 0x00aaaa && dot(14, 0) == 0x00aaaa && !dot(2, 0), "mode 4: two bits a pixel, two bytes");
	ok(dot(2, 2) == 0x00aa00 && dot(0, 4) == 0x0000aa, "mode 4: odd lines from 8 KiB on");
}

/* --- VBE --- */

static void test_vbe_registers(void)
{
	fresh();
	ok(vbe_get(VBE_ID) == 0xb0c5, "VBE: the newest of the known versions");
	vbe(VBE_ID, 0xb0c2);
	ok(vbe_get(VBE_ID) == 0xb0c2, "VBE: an older one on request");
	vbe(VBE_ID, 0x1234);
	ok(vbe_get(VBE_ID) == 0xb0c2, "VBE: no other");
	ok(vbe_get(VBE_MEMORY) == 256, "VBE: 16 MiB in units of 64 KiB");
	vbe(VBE_ENABLE, VBE_CAPS);
	ok(vbe_get(VBE_XRES) >= 1920 && vbe_get(VBE_YRES) >= 1200 && vbe_get(VBE_BPP) == 32, "VBE: limits");
	vbe_mode(640, 480, 32);
	ok(vbe_get(VBE_WIDTH) == 640 && vbe_get(VBE_HEIGHT) == 16 * MiB / (640 * 4), "VBE: the virtual size");
	vbe(VBE_WIDTH, 1024);
	ok(vbe_get(VBE_WIDTH) == 1024 && vbe_get(VBE_HEIGHT) == 4096, "VBE: a wider one is less high");
	vbe(VBE_WIDTH, 100);
	ok(vbe_get(VBE_WIDTH) == 640, "VBE: not narrower than the screen");
	ok(!vbe_get(VBE_COUNT) && !vbe_get(0xffff), "VBE: no other register");
}

static void test_vbe_depths(void)
{
	static const struct {
		unsigned bpp, bytes;
		uint32_t pixel, colour;
	} depths[] = {
		{ 8, 1, 0x04, 0xaa0000 }, { 15, 2, 0x7c1f, 0xff00ff }, { 16, 2, 0x07e1, 0x00ff08 }, { 24, 3, 0x123456, 0x123456 },
		{ 32, 4, 0x99abcdef, 0xabcdef },
	};
	fresh();
	text_mode_set(vm, NULL, 0);
	pci_write(vm, VGA, PCI_BAR, 4, FRAME_AT);
	pci_write(vm, VGA, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	for (unsigned i = 0; i < ARRAY_SIZE(depths); i++) {
		unsigned bytes = depths[i].bytes;
		vbe_mode(640, 480, (uint16_t)depths[i].bpp);
		uint32_t zero = 0, at = (640 * 479 + 639) * bytes;
		bool written = !guest_write(vm, FRAME_AT + 640 * bytes, &depths[i].pixel, bytes) &&
			       !guest_write(vm, FRAME_AT + at, &depths[i].pixel, bytes);
		draw(0);
		ok(written && picture.width == 640 && picture.height == 480 && dot(0, 1) == depths[i].colour && dot(639, 479) == depths[i].colour &&
		   dot(1, 1) == 0, "VBE: %u bits a pixel, through the frame buffer", depths[i].bpp);
		vbe(VBE_BANK, (uint16_t)(at >> 16));
		ok(peek(at & 0xffff) == (depths[i].pixel & 0xff), "VBE: %u bits, through the bank", depths[i].bpp);
		vbe(VBE_WIDTH, 700);
		vbe(VBE_X, 32);
		vbe(VBE_Y, 2);
		poke((2 * 700 + 32) * bytes & 0xffff, 0);
		vbe(VBE_BANK, 0);
		bus_write(vm, BUS_MEMORY, WINDOW + (2 * 700 + 32) * bytes, 4, depths[i].pixel);
		draw(0);
		ok(dot(0, 0) == depths[i].colour, "VBE: %u bits, a part of a wider screen", depths[i].bpp);
		guest_write(vm, FRAME_AT, &zero, 4);
	}
	vbe_mode(640, 480, 4);
	seq(SEQ_MAP_MASK, 0x02);
	seq(SEQ_MEMORY, 0x06);
	gc(GC_MODE, 0);
	gc(GC_MISC, 0x05);
	poke(80 * 5 + 1, 0x80);
	draw(0);
	ok(dot(8, 5) == 0x00aa00 && !dot(9, 5), "VBE: 4 bits a pixel are planes");
	vbe_mode(640, 480, 32);
	guest_write(vm, FRAME_AT, &depths[4].pixel, 4);
	vbe(VBE_ENABLE, 0);
	vbe(VBE_ENABLE, VBE_ENABLED | VBE_KEEP);
	draw(0);
	ok(dot(0, 0) == 0xabcdef, "VBE: memory is kept when asked for");
	vbe(VBE_ENABLE, 0);
	vbe(VBE_ENABLE, VBE_ENABLED);
	draw(0);
	ok(!dot(0, 0), "VBE: else it is cleared");
	page_bits_clear(&vm->memory, vga->host.offset / 4096, PAGE_DIRTY);
	poke(0, 1);
	ok(page_bits_get(&vm->memory, vga->host.offset / 4096) & PAGE_DIRTY, "a write through the window marks the page dirty");
	uint8_t byte = 0;
	ok(!guest_read(vm, FRAME_AT + 16 * MiB - 1, &byte, 1) && guest_read(vm, FRAME_AT + 16 * MiB, &byte, 1), "the frame buffer has 16 MiB");
	pci_write(vm, VGA, PCI_ROM_BAR, 4, 0xd0000000u | PCI_ROM_ENABLE);
	uint16_t signature = 0;
	ok(!guest_read(vm, 0xd0000000u, &signature, 2) && signature == 0xaa55, "the ROM appears where its base address register says");
}

static void test_vbe_impossible(void)
{
	static const uint16_t modes[][3] = { { 0, 480, 8 }, { 640, 0, 8 }, { 640, 480, 7 }, { 640, 480, 0 }, { 65535, 65535, 32 }, { 4096, 2304, 32 },
		{ 640, 480, 65535 } };
	bool good = true;
	struct vbe_mode mode;
	fresh();
	text_mode_set(vm, NULL, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(modes); i++) {
		vbe_mode(modes[i][0], modes[i][1], modes[i][2]);
		good &= !vga_vbe_mode(&vga->r, &mode);
		draw(0);
		good &= picture.width == 720;
	}
	ok(good, "VBE: a mode that cannot be is none");
	vbe_mode(2048, 2048, 32);
	ok(vga_vbe_mode(&vga->r, &mode), "VBE: one that fills memory is");
	vbe(VBE_Y, 1);
	ok(!vga_vbe_mode(&vga->r, &mode), "VBE: not a line further down");
}

/* --- state and enemies --- */

static uint32_t random_state = 4711;
static uint32_t any(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

static void test_state(void)
{
	struct vm *first, *second = machine(1, places, ARRAY_SIZE(places));
	fresh();
	text_mode_set(vm, NULL, 0);
	pci_write(vm, VGA, PCI_BAR, 4, FRAME_AT);
	pci_write(vm, VGA, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	peek(0x18000);
	out(0x3c8, 7);
	out(0x3c9, 1);
	out(0x3c0, 5); /* an index, and no data yet */
	first = vm;
	ok(copy_state(first, second) && same_state(first, second), "state: in the middle of a colour and of an attribute");
	vm = second;
	vga = vga_of(device_find(vm, "vga"));
	out(0x3c9, 2);
	out(0x3c9, 3);
	out(0x3c0, 0x2a);
	ok(vga->r.dac[21] == 1 && vga->r.dac[23] == 3 && vga->r.ac[5] == 0x2a, "state: the other machine goes on with both");
	uint32_t word = 0x55;
	ok(!guest_write(vm, FRAME_AT + 64, &word, 4) && vga->host.memory[64] == 0x55, "state: and has the frame buffer");
	device_reset_all(vm, RESET_COLD);
	ok(guest_write(vm, FRAME_AT, &word, 4), "a reset takes it away");
	vm_destroy(first);
}

/* Random contents of all registers, with memory that ends where it ends. */
static void test_hostile_pictures(void)
{
	const size_t guard = MiB;
	uint8_t *area = mmap(NULL, VGA_MEMORY_SIZE + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct vga_regs r;
	unsigned sizes = 0;
	mprotect(area + guard, VGA_MEMORY_SIZE, PROT_READ | PROT_WRITE);
	for (unsigned round = 0; round < 600; round++) {
		for (size_t i = 0; i < sizeof(r); i++)
			((uint8_t *)&r)[i] = (uint8_t)any();
		r.ac_data = any() & 1;
		r.dac_reading = any() & 1;
		r.enable = 1;
		r.ac_index |= AC_INDEX_SHOWS;
		r.seq[SEQ_CLOCKING] &= ~SEQ_CLOCKING_OFF;
		if (round % 3)
			r.vbe[VBE_ENABLE] &= ~VBE_ENABLED;
		else
			for (unsigned i = VBE_XRES; i < VBE_COUNT; i++)
				r.vbe[i] = (uint16_t)(any() % (i == VBE_BPP ? 33 : round % 2 ? 65536 : 2100));
		sizes += !vga_draw(&r, area + guard, any(), &picture) && picture.width && picture.height;
		if (vga_is_text(&r))
			free(vga_text(&r, area + guard));
	}
	ok(sizes == 600, "hostile registers: every picture is drawn within video memory");
	munmap(area, VGA_MEMORY_SIZE + 2 * guard);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* Random accesses to everything that the adapter has. RAM before its memory, and what lies behind, must not change. */
static void test_hostile_accesses(void)
{
	static const uint16_t ports[] = { 0x3b4, 0x3b5, 0x3c0, 0x3c2, 0x3c4, 0x3c5, 0x3c7, 0x3c8, 0x3c9, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da };
	fresh();
	out(0x3c2, MISC_COLOUR | MISC_MEMORY);
	for (unsigned round = 0; round < 300000; round++) {
		unsigned size = 1u << any() % 4;
		switch (any() % 4) {
		case 0:
			bus_write(vm, BUS_PORT, ports[any() % ARRAY_SIZE(ports)], 1u << any() % 2, any() | (round % 2 ? MISC_COLOUR | MISC_MEMORY : 0));
			break;
		case 1:
			vbe((uint16_t)(any() % (VBE_COUNT + 1)), (uint16_t)(any() % (any() % 2 ? 65536 : 34)));
			break;
		case 2:
			bus_write(vm, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), size, any() * 0x100000001ULL);
			break;
		default:
			bus_read(vm, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), size);
			bus_read(vm, BUS_PORT, ports[any() % ARRAY_SIZE(ports)], 1);
		}
		if (round % 16384 == 0)
			draw(any());
	}
	const uint8_t *behind = vga->host.memory + VGA_MEMORY_SIZE + sizeof(rom);
	ok(is_zero(vm->memory.host, vm->memory.ram_size), "hostile accesses: RAM is untouched");
	ok(!memcmp(behind - sizeof(rom), rom, sizeof(rom)) && is_zero(behind, (size_t)(vm->memory.host + vm->memory.size - behind)),
	   "hostile accesses: so is what lies behind video memory");
}

static void use(struct vm *machine)
{
	draw(any());
	free(vga_screen_text(&vga->device));
	for (unsigned i = 0; i < 16; i++) {
		bus_write(machine, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), 8, any());
		bus_read(machine, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), 8);
		in8(machine, (uint16_t)(0x3c0 + any() % 32));
	}
}

static void test_font(void)
{
	uint8_t bios[8192] = { 0 };
	static const uint8_t face[] = { 0x00, 0x00, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e };
	ok(!text_mode_font(NULL, 0) && !text_mode_font(bios, sizeof(bios)), "no font where there is none");
	memcpy(bios + 1016, face, sizeof(face));
	ok(text_mode_font(bios, sizeof(bios)) == bios + 1000, "the font in a BIOS");
	ok(!text_mode_font(bios, 1000 + 4095) && text_mode_font(bios, 1000 + 4096), "one that is cut off is none");
}

int main(void)
{
	test_registers();
	test_attributes();
	test_dac();
	test_retrace();
	test_write_modes();
	test_read_modes();
	test_windows();
	test_chaining();
	test_text();
	test_characters();
	test_graphics();
	test_vbe_registers();
	test_vbe_depths();
	test_vbe_impossible();
	test_font();
	test_state();
	test_hostile_pictures();
	test_hostile_accesses();
	fresh();
	text_mode_set(vm, NULL, 0);
	abuse_state(vm, "vga", use);
	picture_free(&picture);
	vm_destroy(vm);
	return done();
}
