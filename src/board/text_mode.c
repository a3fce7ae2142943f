/* SPDX-License-Identifier: MIT */
/* The screen as a BIOS leaves it (mode 3: 80 columns, 25 lines, 9 by 16 dots, 16 colours), set through the VGA's registers as a program would.
 * Register values are those of IBM's video BIOS, PS/2 hardware interface technical reference.
 *
 * The font is not ours: the VGA's BIOS has it, 256 characters of 16 bytes. It is found there by its beginning, which has been the
 * same since the first PC: nothing, then a face. */
#include "board/text_mode.h"
#include <string.h>
#include "board/pc.h"

#define MISC_WRITE 0x3c2
#define SEQ 0x3c4
#define CRTC 0x3d4
#define GC 0x3ce
#define AC 0x3c0
#define STATUS1 0x3da
#define DAC_MASK 0x3c6
#define DAC_WRITE 0x3c8
#define DAC_DATA 0x3c9

#define MISC_MODE3 0x67
#define AC_SHOW 0x20           /* index: the palette is the screen's from now on */
#define FONT_PLACE 32          /* bytes from one character to the next in plane 2 */
#define FONT_CHARACTERS 256
#define BLANK 0x0720           /* a space, light grey on black */

static const uint8_t crtc[] = { 0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0x00, 0x00, 0x00, 0x00, 0x9c, 0x8e, 0x8f, 0x28,
	0x1f, 0x96, 0xb9, 0xa3, 0xff };
static const uint8_t seq[] = { 0x03, 0x00, 0x03, 0x00, 0x02 };
static const uint8_t gc[] = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0e, 0x0f, 0xff };
static const uint8_t ac[] = { 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x14, 0x07, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f, 0x0c, 0x00, 0x0f, 0x08,
	0x00 };

static void out(struct vm *vm, uint16_t port, uint8_t value)
{
	bus_write(vm, BUS_PORT, port, 1, value);
}

static void set(struct vm *vm, uint16_t port, uint8_t index, uint8_t value)
{
	out(vm, port, index);
	out(vm, port + 1, value);
}

static void set_all(struct vm *vm, uint16_t port, const uint8_t *values, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		set(vm, port, (uint8_t)i, values[i]);
}

/* Bits 5 to 3 of a colour are red, green and blue of one third, bits 2 to 0 of two thirds. */
static void set_colours(struct vm *vm)
{
	out(vm, DAC_MASK, 0xff);
	out(vm, DAC_WRITE, 0);
	for (unsigned colour = 0; colour < 64; colour++)
		for (int part = 2; part >= 0; part--)
			out(vm, DAC_DATA, (uint8_t)((colour >> part & 1) * 0x2a + (colour >> (part + 3) & 1) * 0x15));
}

const uint8_t *text_mode_font(const uint8_t *vga_bios, size_t size)
{
	static const uint8_t begin[2 * TEXT_MODE_GLYPH] = {
		[TEXT_MODE_GLYPH] = 0x00, 0x00, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e,
	};
	const uint8_t *font = vga_bios ? memmem(vga_bios, size, begin, sizeof(begin)) : NULL;
	return font && size - (size_t)(font - vga_bios) >= FONT_CHARACTERS * TEXT_MODE_GLYPH ? font : NULL;
}

/* Plane 2 alone, without odd/even, at A0000h. */
static void load_font(struct vm *vm, const uint8_t *font)
{
	set(vm, SEQ, 2, 0x04);
	set(vm, SEQ, 4, 0x06);
	set(vm, GC, 5, 0x00);
	set(vm, GC, 6, 0x04);
	for (unsigned c = 0; c < FONT_CHARACTERS; c++)
		for (unsigned row = 0; row < TEXT_MODE_GLYPH; row++)
			bus_write(vm, BUS_MEMORY, PC_VGA_START + c * FONT_PLACE + row, 1, font[c * TEXT_MODE_GLYPH + row]);
}

void text_mode_set(struct vm *vm, const uint8_t *vga_bios, size_t size)
{
	const uint8_t *font = text_mode_font(vga_bios, size);
	out(vm, MISC_WRITE, MISC_MODE3);
	set(vm, CRTC, 0x11, 0); /* takes the protection off registers 0 to 7 */
	set_all(vm, CRTC, crtc, ARRAY_SIZE(crtc));
	set_all(vm, GC, gc, ARRAY_SIZE(gc));
	set_all(vm, SEQ, seq, ARRAY_SIZE(seq));
	set_colours(vm);
	if (font)
		load_font(vm, font);
	set_all(vm, GC, gc, ARRAY_SIZE(gc));
	set_all(vm, SEQ, seq, ARRAY_SIZE(seq));
	for (unsigned i = 0; i < TEXT_MODE_COLUMNS * TEXT_MODE_ROWS; i++)
		bus_write(vm, BUS_MEMORY, PC_TEXT_START + 2 * i, 2, BLANK);
	bus_read(vm, BUS_PORT, STATUS1, 1); /* the next write to the attribute controller is an index */
	for (unsigned i = 0; i < ARRAY_SIZE(ac); i++) {
		out(vm, AC, (uint8_t)i);
		out(vm, AC, ac[i]);
	}
	out(vm, AC, AC_SHOW);
	bus_read(vm, BUS_PORT, STATUS1, 1);
}
