/* SPDX-License-Identifier: MIT */
/* The registers of the VGA, after IBM's PS/2 hardware interface technical reference, video subsystem (1992): the general ones, sequencer,
 * CRT controller, graphics and attribute controller, and the DAC.
 *
 * Timing is the clock's: the retrace bits are computed from the time and the CRTC's totals when they are read. There is no
 * vertical interrupt: it is not wired on most adapters. */
#include "device/vga.h"

enum { /* offsets from 3B0h */
	MONO_CRTC = 0x04, MONO_STATUS = 0x0a, AC = 0x10, AC_READ = 0x11, MISC_WRITE = 0x12, ENABLE = 0x13, SEQ = 0x14,
	SEQ_DATA = 0x15, DAC_MASK = 0x16, DAC_READ = 0x17, DAC_WRITE = 0x18, DAC_DATA = 0x19, FEATURE = 0x1a,
	MISC_READ = 0x1c, GC = 0x1e, GC_DATA = 0x1f, COLOUR_CRTC = 0x24, COLOUR_CRTC_DATA = 0x25, COLOUR_STATUS = 0x2a,
	MONO_TO_COLOUR = COLOUR_CRTC - MONO_CRTC,
};
#define STATUS0_SWITCH 0x10u      /* a monitor is there */
#define STATUS1_DISABLED 0x01u    /* in a retrace, or beside the picture */
#define STATUS1_RETRACE 0x08u     /* in the vertical one */
#define DAC_STATE_READ 0x03u
#define DAC_MASK_6 0x3fu
#define OVERFLOW_LINE_COMPARE 0x10u /* the one bit that the write protection leaves */
#define CLOCK_25 25175000ULL      /* Hz */
#define CLOCK_28 28322000ULL
#define NS 1000000000ULL

/* Bits that exist. */
static const uint8_t seq_mask[SEQ_COUNT] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
static const uint8_t gc_mask[GC_COUNT] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
static const uint8_t ac_mask[AC_COUNT] = {
	0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0xef, 0xff, 0x3f, 0x0f, 0x0f,
};

static unsigned v_total(const uint8_t *crtc)
{
	return (crtc[CRTC_V_TOTAL] | (crtc[CRTC_OVERFLOW] & 0x01) << 8 | (crtc[CRTC_OVERFLOW] & 0x20) << 4) + 2u;
}

static unsigned v_retrace(const uint8_t *crtc)
{
	return crtc[CRTC_V_RETRACE_START] | (crtc[CRTC_OVERFLOW] & 0x04) << 6 | (crtc[CRTC_OVERFLOW] & 0x80) << 2;
}

/* Where the beam is now. */
static uint8_t status1(struct vga *v)
{
	const struct vga_regs *r = &v->r;
	struct vga_size size = vga_size(r);
	uint64_t hz = r->misc & MISC_CLOCK_28 ? CLOCK_28 : CLOCK_25, dots = size.dots * size.wide;
	uint64_t line_dots = (r->crtc[CRTC_H_TOTAL] + 5) * dots, frame_dots = line_dots * v_total(r->crtc);
	/* Dots since the second began: the sum must not overflow. A frame need not end with the second. */
	uint64_t now = clock_now(v->device.vm), frame_ns = MAX(frame_dots * NS / hz, 1);
	uint64_t at = now % frame_ns * hz / NS, line = at / line_dots, dot = at % line_dots;
	unsigned retrace = v_retrace(r->crtc), length = (r->crtc[CRTC_V_RETRACE_END] - retrace) & 0x0f;
	uint8_t status = 0;
	if (line >= size.lines || dot >= size.columns * dots)
		status |= STATUS1_DISABLED;
	if (line >= retrace && line < retrace + MAX(length, 1u))
		status |= STATUS1_RETRACE;
	return status;
}

static uint8_t dac_read(struct vga_regs *r)
{
	uint8_t value = r->dac[r->dac_read * 3 + r->dac_part % 3];
	r->dac_part = (r->dac_part + 1) % 3;
	r->dac_read += !r->dac_part;
	return value;
}

static void dac_write(struct vga_regs *r, uint8_t value)
{
	bool wide = r->vbe[VBE_ENABLE] & VBE_8BIT_DAC;
	r->dac_latch[r->dac_part % 3] = wide ? value : value & DAC_MASK_6;
	r->dac_part = (r->dac_part + 1) % 3;
	if (r->dac_part)
		return;
	for (unsigned i = 0; i < 3; i++)
		r->dac[r->dac_write * 3 + i] = r->dac_latch[i];
	r->dac_write++;
}

static void dac_select(struct vga_regs *r, bool reading, uint8_t index)
{
	r->dac_reading = reading;
	r->dac_part = 0;
	if (reading)
		r->dac_read = index;
	else
		r->dac_write = index;
}

/* While the palette is the screen's, the processor does not reach it; the other registers it does. */
static void ac_write(struct vga_regs *r, uint8_t value)
{
	unsigned index = r->ac_index & 0x1f;
	r->ac_data = !r->ac_data;
	if (r->ac_data)
		r->ac_index = value & 0x3f;
	else if (index < AC_COUNT && (index >= AC_MODE || !(r->ac_index & AC_INDEX_SHOWS)))
		r->ac[index] = value & ac_mask[index];
}

static void crtc_write(struct vga_regs *r, uint8_t value)
{
	unsigned index = r->crtc_index;
	bool protected = r->crtc[CRTC_V_RETRACE_END] & CRTC_PROTECT;
	if (index >= CRTC_COUNT)
		return;
	if (protected && index == CRTC_OVERFLOW)
		value = (r->crtc[index] & ~OVERFLOW_LINE_COMPARE) | (value & OVERFLOW_LINE_COMPARE);
	if (!protected || index >= CRTC_OVERFLOW)
		r->crtc[index] = value;
}

/* The CRTC and the status register are at 3Dxh or 3Bxh, as the miscellaneous register says; to the others nobody answers. */
static bool elsewhere(const struct vga_regs *r, uint64_t *offset)
{
	bool mono = *offset < AC, colour = *offset >= COLOUR_CRTC;
	if (mono)
		*offset += MONO_TO_COLOUR;
	return r->misc & MISC_COLOUR ? mono : colour;
}

static uint64_t port_read(struct device *d, uint64_t offset, unsigned size)
{
	struct vga *v = vga_of(d);
	struct vga_regs *r = &v->r;
	if (offset == ENABLE)
		return r->enable;
	if (!r->enable || elsewhere(r, &offset))
		return 0xff;
	switch (offset) {
	case AC:
		return r->ac_data ? r->ac_index : 0;
	case AC_READ:
		return (r->ac_index & 0x1f) < AC_COUNT ? r->ac[r->ac_index & 0x1f] : 0;
	case MISC_WRITE: /* input status 0 */
		return STATUS0_SWITCH;
	case SEQ:
		return r->seq_index;
	case SEQ_DATA:
		return r->seq[r->seq_index % SEQ_COUNT];
	case DAC_MASK:
		return r->dac_mask;
	case DAC_READ:
		return r->dac_reading ? DAC_STATE_READ : 0;
	case DAC_WRITE:
		return r->dac_write;
	case DAC_DATA:
		return dac_read(r);
	case FEATURE:
		return r->feature;
	case MISC_READ:
		return r->misc;
	case GC:
		return r->gc_index;
	case GC_DATA:
		return r->gc_index < GC_COUNT ? r->gc[r->gc_index] : 0;
	case COLOUR_CRTC:
		return r->crtc_index;
	case COLOUR_CRTC_DATA:
		return r->crtc_index < CRTC_COUNT ? r->crtc[r->crtc_index] : 0;
	case COLOUR_STATUS:
		r->ac_data = false;
		return status1(v);
	}
	return 0xff;
}

static void port_write(struct device *d, uint64_t offset, unsigned size, uint64_t wide)
{
	struct vga_regs *r = &vga_of(d)->r;
	uint8_t value = (uint8_t)wide;
	if (offset == ENABLE)
		r->enable = value & 1;
	if (!r->enable || elsewhere(r, &offset))
		return;
	switch (offset) {
	case AC:
		ac_write(r, value);
		break;
	case MISC_WRITE:
		r->misc = value & 0xef;
		break;
	case SEQ:
		r->seq_index = value % SEQ_COUNT;
		break;
	case SEQ_DATA:
		r->seq[r->seq_index % SEQ_COUNT] = value & seq_mask[r->seq_index % SEQ_COUNT];
		break;
	case DAC_MASK:
		r->dac_mask = value;
		break;
	case DAC_READ:
	case DAC_WRITE:
		dac_select(r, offset == DAC_READ, value);
		break;
	case DAC_DATA:
		dac_write(r, value);
		break;
	case GC:
		r->gc_index = value & 0x0f;
		break;
	case GC_DATA:
		if (r->gc_index < GC_COUNT)
			r->gc[r->gc_index] = value & gc_mask[r->gc_index];
		break;
	case COLOUR_CRTC:
		r->crtc_index = value & 0x3f;
		break;
	case COLOUR_CRTC_DATA:
		crtc_write(r, value);
		break;
	case COLOUR_STATUS:
		r->feature = value & 0x03;
		break;
	}
}

const struct bus_ops vga_port_ops = { .read = port_read, .write = port_write, .max_size = 1 };
