/* SPDX-License-Identifier: MIT */
/* Text modes: characters in plane 0, attributes in plane 1, fonts in plane 2. IBM PS/2 hardware interface technical reference,
 * video subsystem, alphanumeric modes; and the same screen as text, in UTF-8. */
#include "device/vga.h"
#include <stdlib.h>
#include <string.h>

#define GLYPH_SIZE 32                  /* bytes that a font has for each character */
#define LINE_FIRST 0xc0                /* line graphics: the ninth dot is the eighth */
#define LINE_LAST 0xdf
#define ATTRIBUTE_BLINK 0x80
#define ATTRIBUTE_FONT 0x08
#define UNDERLINE 0x1f
#define CURSOR_FRAMES 8u               /* on, then as long off */
#define BLINK_FRAMES 16u
#define UTF8_MOST 3

/* Where in plane 2 the font of an attribute is. */
static unsigned font_at(const struct vga_regs *r, uint8_t attribute)
{
	uint8_t select = r->seq[SEQ_FONT];
	unsigned a = (select >> 3 & 4) | (select >> 2 & 3), b = (select >> 2 & 4) | (select & 3);
	unsigned font = attribute & ATTRIBUTE_FONT ? a : b;
	return (font & 3) * 0x4000 + (font & 4 ? 0x2000 : 0);
}

static bool cursor_in(const struct vga_regs *r, const struct vga_scan *s, unsigned column)
{
	unsigned at = r->crtc[CRTC_CURSOR_HIGH] << 8 | r->crtc[CRTC_CURSOR_LOW];
	unsigned start = r->crtc[CRTC_CURSOR_START] & 0x1f, end = r->crtc[CRTC_CURSOR_END] & 0x1f;
	return !(r->crtc[CRTC_CURSOR_START] & CRTC_CURSOR_OFF) && at == ((s->address + column) & 0xffff) && s->row >= start &&
	       s->row <= end;
}

void vga_text_line(const struct vga_scan *s, const uint8_t *memory, const uint32_t *colours, unsigned frame, unsigned columns,
	uint32_t *to)
{
	const struct vga_regs *r = s->r;
	uint8_t mode = r->ac[AC_MODE];
	bool nine = !(r->seq[SEQ_CLOCKING] & SEQ_CLOCKING_8_DOTS);
	bool cursor_on = !(frame & CURSOR_FRAMES), blink_on = !(frame & BLINK_FRAMES);
	for (unsigned x = 0; x < columns; x++) {
		const uint8_t *cell = memory + VGA_PLANES * vga_scan_plane_address(s, x);
		uint8_t character = cell[0], attribute = cell[1];
		unsigned glyph = font_at(r, attribute) + character * GLYPH_SIZE + s->row;
		uint8_t dots = memory[VGA_PLANES * (glyph % (unsigned)VGA_PLANE_SIZE) + 2];
		uint8_t paper = attribute >> 4, ink = attribute & 0x0f;
		if (mode & AC_MODE_BLINK) {
			paper &= 7;
			if ((attribute & ATTRIBUTE_BLINK) && !blink_on)
				dots = 0;
		}
		if ((mode & AC_MODE_MONO) && (attribute & 7) == 1 && s->row == (r->crtc[CRTC_UNDERLINE] & UNDERLINE))
			dots = 0xff;
		bool line = (mode & AC_MODE_LINE) && character >= LINE_FIRST && character <= LINE_LAST;
		unsigned wide = dots << 1 | (line || ((mode & AC_MODE_MONO) && dots == 0xff) ? dots & 1 : 0);
		if (cursor_on && cursor_in(r, s, x))
			wide = 0x1ff;
		for (unsigned bit = 0; bit < (nine ? 9 : 8); bit++)
			*to++ = colours[wide & 0x100 >> bit ? ink : paper];
	}
}

/* What the PC's characters are in Unicode (code page 437). */
static const uint16_t unicode_low[32] = {
	0x0020, 0x263a, 0x263b, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25d8, 0x25cb, 0x25d9, 0x2642, 0x2640, 0x266a, 0x266b, 0x263c,
	0x25ba, 0x25c4, 0x2195, 0x203c, 0x00b6, 0x00a7, 0x25ac, 0x21a8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221f, 0x2194, 0x25b2, 0x25bc,
};
static const uint16_t unicode_high[129] = {
	0x2302,
	0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7, 0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5,
	0x00c9, 0x00e6, 0x00c6, 0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5, 0x20a7, 0x0192,
	0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf, 0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb,
	0x2591, 0x2592, 0x2593, 0x2502, 0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b, 0x2510,
	0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567,
	0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
	0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9, 0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229,
	0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321, 0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0,
};

static char *put_character(char *to, uint8_t character)
{
	unsigned code = character < 32 ? unicode_low[character] : character < 127 ? character : unicode_high[character - 127];
	if (code < 0x80) {
		*to++ = (char)code;
	} else if (code < 0x800) {
		*to++ = (char)(0xc0 | code >> 6);
		*to++ = (char)(0x80 | (code & 0x3f));
	} else {
		*to++ = (char)(0xe0 | code >> 12);
		*to++ = (char)(0x80 | (code >> 6 & 0x3f));
		*to++ = (char)(0x80 | (code & 0x3f));
	}
	return to;
}

static char *put_row(char *to, const struct vga_scan *s, const uint8_t *memory, unsigned columns)
{
	char *end = to; /* behind the last that is not a space */
	for (unsigned x = 0; x < columns; x++) {
		char *from = to;
		to = put_character(to, memory[VGA_PLANES * vga_scan_plane_address(s, x)]);
		if (*from != ' ')
			end = to;
	}
	*end++ = '\n';
	return end;
}

char *vga_text(const struct vga_regs *r, const uint8_t *memory)
{
	struct vga_size size = vga_size(r);
	struct vga_scan s;
	unsigned rows = 0;
	for (vga_scan_begin(&s, r); s.y < size.lines; vga_scan_next(&s))
		rows += !s.y || (!s.row && !s.second);
	char *text = malloc(rows * (size.columns * UTF8_MOST + 1) + 1), *to = text;
	if (!text)
		return NULL;
	for (vga_scan_begin(&s, r); s.y < size.lines; vga_scan_next(&s))
		if (!s.y || (!s.row && !s.second))
			to = put_row(to, &s, memory, size.columns);
	*to = 0;
	return text;
}
