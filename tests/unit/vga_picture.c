/* SPDX-License-Identifier: MIT */
/* What the VGA shows: pictures of known contents, in text and graphics modes and through the VBE interface. */
#include "vga_driver.h"

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
	test_text();
	test_characters();
	test_graphics();
	test_vbe_registers();
	test_vbe_depths();
	test_vbe_impossible();
	test_font();
	picture_free(&picture);
	vm_destroy(vm);
	return done();
}
