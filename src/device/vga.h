/* SPDX-License-Identifier: MIT */
/* What the files of the VGA adapter share: its registers, and what is where in them.
 *
 * Video memory is four planes side by side: byte p of doubleword a is address a of plane p. So a latch is one doubleword, and the same
 * memory is the linear frame buffer. */
#pragma once
#include "backend/picture.h"
#include "device/chips.h"
#include "device/pci.h"

#define VGA_PLANES 4
#define VGA_PLANE_SIZE (64 * KiB)     /* addresses of a plane that the VGA itself reaches */
#define VGA_DAC 256
#define VGA_MEMORY_SIZE (16 * MiB)

#define VGA_BAR_FRAME 0

enum { /* sequencer, 3C4h/3C5h */
	SEQ_RESET, SEQ_CLOCKING, SEQ_MAP_MASK, SEQ_FONT, SEQ_MEMORY, SEQ_COUNT = 8,
	SEQ_CLOCKING_8_DOTS = 0x01, SEQ_CLOCKING_HALF = 0x08, SEQ_CLOCKING_OFF = 0x20,
	SEQ_MEMORY_SEQUENTIAL = 0x04 /* not odd/even */, SEQ_MEMORY_CHAIN4 = 0x08,
};
enum { /* graphics controller, 3CEh/3CFh */
	GC_SET_RESET, GC_ENABLE_SET_RESET, GC_COMPARE, GC_ROTATE, GC_READ_MAP, GC_MODE, GC_MISC, GC_IGNORE, GC_BIT_MASK,
	GC_COUNT,
	GC_MODE_READ_COMPARE = 0x08, GC_MODE_ODD_EVEN = 0x10, GC_MODE_INTERLEAVE = 0x20, GC_MODE_256 = 0x40,
	GC_MISC_GRAPHICS = 0x01,
};
enum { /* CRT controller, 3D4h/3D5h */
	CRTC_H_TOTAL = 0x00, CRTC_H_END = 0x01, CRTC_H_BLANK_START = 0x02, CRTC_H_RETRACE = 0x04, CRTC_V_TOTAL = 0x06,
	CRTC_OVERFLOW = 0x07, CRTC_PRESET = 0x08, CRTC_MAX_SCAN = 0x09, CRTC_CURSOR_START = 0x0a,
	CRTC_CURSOR_END = 0x0b, CRTC_START_HIGH = 0x0c, CRTC_START_LOW = 0x0d, CRTC_CURSOR_HIGH = 0x0e,
	CRTC_CURSOR_LOW = 0x0f, CRTC_V_RETRACE_START = 0x10, CRTC_V_RETRACE_END = 0x11, CRTC_V_END = 0x12,
	CRTC_OFFSET = 0x13, CRTC_UNDERLINE = 0x14, CRTC_MODE = 0x17, CRTC_LINE_COMPARE = 0x18, CRTC_COUNT = 0x19,
	CRTC_MAX_SCAN_DOUBLE = 0x80, CRTC_CURSOR_OFF = 0x20, CRTC_PROTECT = 0x80, CRTC_UNDERLINE_DWORD = 0x40,
	CRTC_MODE_ROW_A13 = 0x01 /* 0: address bit 13 is the row's */, CRTC_MODE_ROW_A14 = 0x02, CRTC_MODE_WRAP = 0x20,
	CRTC_MODE_BYTE = 0x40,
};
enum { /* attribute controller, 3C0h */
	AC_MODE = 0x10, AC_OVERSCAN, AC_PLANES, AC_PAN, AC_COLOUR_SELECT, AC_COUNT,
	AC_INDEX_SHOWS = 0x20 /* of the index: the palette is the screen's, not the processor's */,
	AC_MODE_MONO = 0x02, AC_MODE_LINE = 0x04, AC_MODE_BLINK = 0x08, AC_MODE_PAN_TOP = 0x20, AC_MODE_SELECT = 0x80,
};
#define MISC_COLOUR 0x01u             /* the CRTC is at 3D4h, not 3B4h */
#define MISC_MEMORY 0x02u             /* video memory answers: not looked at, see vga_memory.c */
#define MISC_CLOCK_28 0x04u

enum { /* Bochs's VBE interface, 1CEh/1CFh */
	VBE_ID, VBE_XRES, VBE_YRES, VBE_BPP, VBE_ENABLE, VBE_BANK, VBE_WIDTH, VBE_HEIGHT, VBE_X, VBE_Y, VBE_MEMORY, VBE_COUNT,
	VBE_ENABLED = 0x01, VBE_CAPS = 0x02, VBE_8BIT_DAC = 0x20, VBE_LINEAR = 0x40, VBE_KEEP = 0x80,
};
#define VBE_BANK_SIZE (64 * KiB)

struct vga_regs {
	uint8_t misc;                  /* written at 3C2h, read at 3CCh */
	uint8_t feature;               /* written at 3DAh, read at 3CAh; without effect */
	uint8_t enable;                /* 3C3h, bit 0: the adapter answers */
	uint8_t seq_index, seq[SEQ_COUNT];
	uint8_t gc_index, gc[GC_COUNT];
	uint8_t crtc_index, crtc[CRTC_COUNT];
	uint8_t ac_index, ac[AC_COUNT];
	bool ac_data;                  /* the next write to 3C0h is data */
	uint8_t dac[VGA_DAC * 3];      /* red, green, blue: 6 bits each, or 8 */
	uint8_t dac_mask;              /* 3C6h */
	uint8_t dac_read, dac_write;   /* index, as written at 3C7h, 3C8h */
	uint8_t dac_part;              /* which of the three comes next */
	bool dac_reading;              /* 3C7h was written last */
	uint8_t dac_latch[3];          /* a colour is stored whole */
	uint32_t latch;
	uint16_t vbe_index, vbe[VBE_COUNT];
};
extern const struct field vga_regs_fields[];

struct vga {
	struct device device;
	struct pci_function pci;
	struct vga_regs r;
	struct {
		uint8_t *memory;
		uint64_t offset;           /* of it, in the memfd */
		struct pci_model model;    /* with a ROM, or without */
	} host;
};

static inline struct vga *vga_of(struct device *d)
{
	return container_of(d, struct vga, device);
}

/* vga_ports.c -- The registers at 3B4h to 3DAh, offset from 3B0h; device lock held, as in all that follows. */
#define VGA_PORTS 0x3b0
extern const struct bus_ops vga_port_ops;

/* vga_memory.c -- The window at A0000h to BFFFFh, offset from there. */
#define VGA_WINDOW 0xa0000
#define VGA_WINDOW_SIZE (128 * KiB)
extern const struct bus_ops vga_window_ops;
/* What who writes video memory owes to those who watch it. */
void vga_written(struct vga *, uint64_t at, uint64_t size);

/* vga_vbe.c -- The interface's ports. */
#define VBE_PORTS 0x1ce
extern const struct bus_ops vga_vbe_port_ops;
void vga_vbe_reset(struct vga_regs *);
/* What the registers come to, whatever they hold: all pixels lie within memory. False: the mode is off, or impossible. */
struct vbe_mode {
	unsigned width, height, bpp;
	uint64_t stride, start; /* bytes; with 4 bits a pixel, addresses of a plane */
};
bool vga_vbe_mode(const struct vga_regs *, struct vbe_mode *);

/* vga_scan.c -- How the CRTC goes through memory, line by line. */
struct vga_scan {
	const struct vga_regs *r;
	unsigned y;                    /* of the line */
	uint16_t address;              /* of the line's first character: counts characters */
	unsigned row;                  /* line in the row of characters */
	bool second;                   /* this line was shown already: they are doubled */
	bool below;                    /* the line of the split is passed */
};
struct vga_size {
	unsigned columns;              /* in characters, 8 or 9 dots each */
	unsigned dots;                 /* of a character */
	unsigned wide;                 /* pixels that a dot has: 2 with half the dot clock */
	unsigned lines;
};
struct vga_size vga_size(const struct vga_regs *);
bool vga_is_text(const struct vga_regs *);
bool vga_is_blank(const struct vga_regs *);
void vga_scan_begin(struct vga_scan *, const struct vga_regs *);
void vga_scan_next(struct vga_scan *);
/* Address in each plane of character `column` of the line. */
unsigned vga_scan_plane_address(const struct vga_scan *, unsigned column);

/* vga_draw.c -- Draws what the registers and the memory say. Pure: knows no device. `frame` counts since power-on: what blinks is
 * shown by it. 0 or -ENOMEM. */
#define VGA_FRAME_STEADY 0u           /* what blinks is on */
int vga_draw(const struct vga_regs *, const uint8_t *memory, unsigned frame, struct picture *);
/* vga_text.c -- One line of a text screen. colours: of the 16 attributes. Draws `columns` characters, 8 or 9 dots each. */
void vga_text_line(const struct vga_scan *, const uint8_t *memory, const uint32_t *colours, unsigned frame, unsigned columns,
	uint32_t *to);
/* The whole screen: see struct screen. */
char *vga_text(const struct vga_regs *, const uint8_t *memory);
