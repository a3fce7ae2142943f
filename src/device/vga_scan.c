/* SPDX-License-Identifier: MIT */
/* How the CRT controller goes through memory: IBM PS/2 hardware interface technical reference, video subsystem, CRT controller.
 *
 * It counts characters, from the start address on; a row of them has as many lines as the maximum scan line says. What becomes of the
 * count on its way to memory is the byte, word and doubleword mode; the CGA's and the Hercules card's interleaved lines come from the line's
 * number in place of an address bit. */
#include "device/vga.h"

#define LINE_COMPARE_OVERFLOW 0x10u
#define LINE_COMPARE_MAX_SCAN 0x40u
#define MAX_SCAN 0x1fu
#define PRESET_ROW 0x1fu

static unsigned line_compare(const uint8_t *crtc)
{
	return crtc[CRTC_LINE_COMPARE] | (crtc[CRTC_OVERFLOW] & LINE_COMPARE_OVERFLOW) << 4 |
	       (crtc[CRTC_MAX_SCAN] & LINE_COMPARE_MAX_SCAN) << 3;
}

bool vga_is_text(const struct vga_regs *r)
{
	return !(r->gc[GC_MISC] & GC_MISC_GRAPHICS);
}

bool vga_is_blank(const struct vga_regs *r)
{
	return !r->enable || !(r->ac_index & AC_INDEX_SHOWS) || (r->seq[SEQ_CLOCKING] & SEQ_CLOCKING_OFF);
}

struct vga_size vga_size(const struct vga_regs *r)
{
	const uint8_t *crtc = r->crtc;
	return (struct vga_size){
		.columns = crtc[CRTC_H_END] + 1u,
		.dots = vga_is_text(r) && !(r->seq[SEQ_CLOCKING] & SEQ_CLOCKING_8_DOTS) ? 9 : 8,
		.wide = r->seq[SEQ_CLOCKING] & SEQ_CLOCKING_HALF ? 2 : 1,
		.lines = (crtc[CRTC_V_END] | (crtc[CRTC_OVERFLOW] & 0x02) << 7 | (crtc[CRTC_OVERFLOW] & 0x40) << 3) + 1u,
	};
}

void vga_scan_begin(struct vga_scan *s, const struct vga_regs *r)
{
	unsigned panned = r->crtc[CRTC_PRESET] >> 5 & 3;
	*s = (struct vga_scan){ .r = r, .row = r->crtc[CRTC_PRESET] & PRESET_ROW };
	s->address = (uint16_t)((r->crtc[CRTC_START_HIGH] << 8 | r->crtc[CRTC_START_LOW]) + panned);
}

void vga_scan_next(struct vga_scan *s)
{
	const uint8_t *crtc = s->r->crtc;
	bool doubled = crtc[CRTC_MAX_SCAN] & CRTC_MAX_SCAN_DOUBLE;
	if (s->y++ == line_compare(crtc)) {
		s->address = 0;
		s->row = 0;
		s->second = false;
		s->below = true;
		return;
	}
	s->second = doubled && !s->second;
	if (s->second)
		return;
	if (s->row == (crtc[CRTC_MAX_SCAN] & MAX_SCAN)) {
		s->row = 0;
		s->address = (uint16_t)(s->address + 2 * crtc[CRTC_OFFSET]);
	} else {
		s->row = (s->row + 1) & MAX_SCAN;
	}
}

unsigned vga_scan_plane_address(const struct vga_scan *s, unsigned column)
{
	const uint8_t *crtc = s->r->crtc;
	unsigned count = (s->address + column) & 0xffff, at = count;
	if (crtc[CRTC_UNDERLINE] & CRTC_UNDERLINE_DWORD)
		at = count << 2 | (count >> 12 & 3);
	else if (!(crtc[CRTC_MODE] & CRTC_MODE_BYTE))
		at = count << 1 | (count >> (crtc[CRTC_MODE] & CRTC_MODE_WRAP ? 15 : 13) & 1);
	if (!(crtc[CRTC_MODE] & CRTC_MODE_ROW_A13))
		at = (at & ~(1u << 13)) | (s->row & 1) << 13;
	if (!(crtc[CRTC_MODE] & CRTC_MODE_ROW_A14))
		at = (at & ~(1u << 14)) | (s->row >> 1 & 1) << 14;
	return at % (unsigned)VGA_PLANE_SIZE;
}
