/* SPDX-License-Identifier: MIT */
/* From registers and video memory to a picture: IBM PS/2 hardware interface technical reference, video subsystem; packed pixels as
 * the Bochs VBE interface has them.
 *
 * A pixel of the picture is a dot of the signal, so that modes with half the resolution are as large as on a monitor. The border
 * is not drawn. */
#include "device/vga.h"
#include <stdlib.h>
#include <string.h>

#define DOTS 9                          /* of a character, at most */
#define COLUMNS 257                     /* at most; one more than shown, which comes in when the picture is panned */
#define PAN_9 8                         /* with 9 dots: no panning */

/* Colours, found once a picture. */
struct ink {
	uint32_t of16[16];                  /* of the attribute controller's pixels */
	uint32_t of256[256];
};

static uint8_t level(const struct vga_regs *r, uint8_t value)
{
	value &= r->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? 0xff : 0x3f;
	return r->vbe[VBE_ENABLE] & VBE_8BIT_DAC ? value : (uint8_t)(value << 2 | value >> 4);
}

static void find_colours(const struct vga_regs *r, struct ink *ink)
{
	uint8_t select = r->ac[AC_COLOUR_SELECT];
	for (unsigned i = 0; i < ARRAY_SIZE(ink->of256); i++) {
		const uint8_t *c = &r->dac[(i & r->dac_mask) * 3];
		ink->of256[i] = (uint32_t)(level(r, c[0]) << 16 | level(r, c[1]) << 8 | level(r, c[2]));
	}
	for (unsigned i = 0; i < ARRAY_SIZE(ink->of16); i++) {
		uint8_t colour = r->ac[i & r->ac[AC_PLANES] & 0xf] & 0x3f;
		if (r->ac[AC_MODE] & AC_MODE_SELECT)
			colour = (uint8_t)((colour & 0xf) | (select & 3) << 4);
		ink->of16[i] = ink->of256[colour | (select & 0xc) << 4];
	}
}

/* Eight pixels from a byte of each plane. */
static uint32_t *draw_planar(const uint8_t *plane, const struct ink *ink, uint32_t *to)
{
	for (int bit = 7; bit >= 0; bit--) {
		unsigned pixel = (plane[0] >> bit & 1) | (plane[1] >> bit & 1) << 1 | (plane[2] >> bit & 1) << 2 | (plane[3] >> bit & 1) << 3;
		*to++ = ink->of16[pixel];
	}
	return to;
}

/* Two bits a pixel, as on the CGA: four from planes 0 and 2, four from 1 and 3. */
static uint32_t *draw_interleaved(const uint8_t *plane, const struct ink *ink, uint32_t *to)
{
	for (unsigned half = 0; half < 2; half++)
		for (int shift = 6; shift >= 0; shift -= 2)
			*to++ = ink->of16[(plane[half] >> shift & 3) | (plane[half + 2] >> shift & 3) << 2];
	return to;
}

/* Four pixels, two dots wide each. */
static uint32_t *draw_256(const uint8_t *plane, const struct ink *ink, uint32_t *to)
{
	for (unsigned p = 0; p < VGA_PLANES; p++, to += 2)
		to[0] = to[1] = ink->of256[plane[p]];
	return to;
}

static void draw_graphics_line(const struct vga_scan *s, const uint8_t *memory, const struct ink *ink, unsigned columns, uint32_t *to)
{
	uint8_t mode = s->r->gc[GC_MODE];
	for (unsigned x = 0; x < columns; x++) {
		const uint8_t *plane = memory + VGA_PLANES * vga_scan_plane_address(s, x);
		if (mode & GC_MODE_256)
			to = draw_256(plane, ink, to);
		else if (mode & GC_MODE_INTERLEAVE)
			to = draw_interleaved(plane, ink, to);
		else
			to = draw_planar(plane, ink, to);
	}
}

/* Dots by which a line is moved to the left. */
static unsigned panned(const struct vga_scan *s, const struct vga_size *size)
{
	unsigned pan = s->r->ac[AC_PAN] & 0xf;
	if (s->below && (s->r->ac[AC_MODE] & AC_MODE_PAN_TOP))
		return 0;
	if (size->dots == DOTS)
		return pan >= PAN_9 ? 0 : pan + 1;
	return pan & 7;
}

static int draw_vga(const struct vga_regs *r, const uint8_t *memory, unsigned frame, struct picture *picture)
{
	struct vga_size size = vga_size(r);
	unsigned width = size.columns * size.dots;
	struct vga_scan s;
	struct ink ink;
	if (picture_resize(picture, width * size.wide, size.lines))
		return -1;
	if (vga_is_blank(r)) {
		memset(picture->pixels, 0, (size_t)picture->width * picture->height * sizeof(picture->pixels[0]));
		return 0;
	}
	uint32_t *line = malloc(COLUMNS * DOTS * sizeof(*line)), *to = picture->pixels;
	if (!line)
		return -1;
	find_colours(r, &ink);
	for (vga_scan_begin(&s, r); s.y < size.lines; vga_scan_next(&s)) {
		if (vga_is_text(r))
			vga_text_line(&s, memory, ink.of16, frame, size.columns + 1, line);
		else
			draw_graphics_line(&s, memory, &ink, size.columns + 1, line);
		const uint32_t *from = line + panned(&s, &size);
		for (unsigned x = 0; x < width; x++)
			for (unsigned n = 0; n < size.wide; n++)
				*to++ = from[x];
	}
	free(line);
	return 0;
}

/* Five or six bits of colour to eight. */
static uint32_t widen(unsigned value, unsigned bits)
{
	value &= (1u << bits) - 1;
	return value << (8 - bits) | value >> (2 * bits - 8);
}

static void draw_packed_line(const struct vbe_mode *m, const uint8_t *from, const struct ink *ink, uint32_t *to)
{
	for (unsigned x = 0; x < m->width; x++, to++) {
		unsigned pixel = 0;
		switch (m->bpp) {
		case 8:
			*to = ink->of256[from[x]];
			break;
		case 15:
			pixel = from[2 * x] | (unsigned)from[2 * x + 1] << 8;
			*to = widen(pixel >> 10, 5) << 16 | widen(pixel >> 5, 5) << 8 | widen(pixel, 5);
			break;
		case 16:
			pixel = from[2 * x] | (unsigned)from[2 * x + 1] << 8;
			*to = widen(pixel >> 11, 5) << 16 | widen(pixel >> 5, 6) << 8 | widen(pixel, 5);
			break;
		case 24:
			*to = from[3 * x] | (uint32_t)from[3 * x + 1] << 8 | (uint32_t)from[3 * x + 2] << 16;
			break;
		default:
			memcpy(&pixel, from + 4 * x, sizeof(pixel));
			*to = pixel & 0xffffff;
		}
	}
}

static int draw_vbe(const struct vga_regs *r, const struct vbe_mode *m, const uint8_t *memory, struct picture *picture)
{
	struct ink ink;
	if (picture_resize(picture, m->width, m->height))
		return -1;
	find_colours(r, &ink);
	for (unsigned y = 0; y < m->height; y++) {
		uint32_t *to = picture->pixels + (size_t)y * m->width;
		uint64_t start = m->start + y * m->stride;
		if (m->bpp != 4) {
			draw_packed_line(m, memory + start, &ink, to);
			continue;
		}
		for (unsigned x = 0; x + 8 <= m->width; x += 8)
			to = draw_planar(memory + VGA_PLANES * (start + x / 8), &ink, to);
		memset(to, 0, m->width % 8 * sizeof(*to));
	}
	return 0;
}

int vga_draw(const struct vga_regs *r, const uint8_t *memory, unsigned frame, struct picture *picture)
{
	struct vbe_mode mode;
	return vga_vbe_mode(r, &mode) ? draw_vbe(r, &mode, memory, picture) : draw_vga(r, memory, frame, picture);
}
