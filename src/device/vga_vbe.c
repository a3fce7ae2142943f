/* SPDX-License-Identifier: MIT */
/* Bochs's VBE interface ("dispi"), by which software sets modes that the VGA does not have: an index at 1CEh, 16 bits of data at 1CFh.
 *
 * Registers keep what was written. What it comes to is computed where a picture is drawn, so nothing a guest can write
 * is dangerous. */
#include "device/vga.h"
#include <string.h>

#define ID_FIRST 0xb0c0u
#define ID_LAST 0xb0c5u
#define XRES_MAX 4096u
#define YRES_MAX 2304u
#define BPP_MAX 32u
#define MEMORY_UNIT (64 * KiB)

static unsigned bytes_of(unsigned bpp)
{
	return bpp == 15 ? 2 : bpp / 8;
}

static bool possible(unsigned bpp)
{
	return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

bool vga_vbe_mode(const struct vga_regs *r, struct vbe_mode *m)
{
	unsigned virtual_width = MAX(r->vbe[VBE_WIDTH], r->vbe[VBE_XRES]);
	*m = (struct vbe_mode){ r->vbe[VBE_XRES], r->vbe[VBE_YRES], r->vbe[VBE_BPP], 0, 0 };
	if (!(r->vbe[VBE_ENABLE] & VBE_ENABLED) || !possible(m->bpp))
		return false;
	if (!m->width || m->width > XRES_MAX || !m->height || m->height > YRES_MAX)
		return false;
	uint64_t memory = m->bpp == 4 ? VGA_MEMORY_SIZE / VGA_PLANES : VGA_MEMORY_SIZE;
	if (m->bpp == 4) {
		m->stride = virtual_width / 8;
		m->start = r->vbe[VBE_Y] * m->stride + r->vbe[VBE_X] / 8;
	} else {
		m->stride = (uint64_t)virtual_width * bytes_of(m->bpp);
		m->start = r->vbe[VBE_Y] * m->stride + (uint64_t)r->vbe[VBE_X] * bytes_of(m->bpp);
	}
	uint64_t line = m->bpp == 4 ? m->width / 8 : (uint64_t)m->width * bytes_of(m->bpp);
	return m->start + (m->height - 1) * m->stride + line <= memory;
}

void vga_vbe_reset(struct vga_regs *r)
{
	memset(r->vbe, 0, sizeof(r->vbe));
	r->vbe_index = 0;
	r->vbe[VBE_ID] = ID_LAST;
	r->vbe[VBE_BPP] = 8;
	r->vbe[VBE_MEMORY] = (uint16_t)(VGA_MEMORY_SIZE / MEMORY_UNIT);
}

/* How many lines of the virtual width there is memory for. */
static uint16_t virtual_height(const struct vga_regs *r)
{
	uint64_t bits = (uint64_t)MAX(r->vbe[VBE_WIDTH], 1) * (r->vbe[VBE_BPP] == 15 ? 16 : MAX(r->vbe[VBE_BPP], 1));
	return (uint16_t)MIN(VGA_MEMORY_SIZE * 8 / bits, 0xffffULL);
}

static void enable(struct vga *v, uint16_t value)
{
	struct vga_regs *r = &v->r;
	bool begins = (value & VBE_ENABLED) && !(r->vbe[VBE_ENABLE] & VBE_ENABLED);
	r->vbe[VBE_ENABLE] = value;
	if (!(value & VBE_ENABLED))
		r->vbe[VBE_BANK] = 0;
	if (!begins)
		return;
	r->vbe[VBE_WIDTH] = r->vbe[VBE_XRES];
	r->vbe[VBE_HEIGHT] = virtual_height(r);
	r->vbe[VBE_X] = r->vbe[VBE_Y] = r->vbe[VBE_BANK] = 0;
	struct vbe_mode mode;
	if ((value & VBE_KEEP) || !vga_vbe_mode(r, &mode))
		return;
	uint64_t size = mode.stride * mode.height * (mode.bpp == 4 ? VGA_PLANES : 1);
	memset(v->host.memory, 0, size);
	vga_written(v, 0, size);
}

static uint16_t vbe_read(const struct vga_regs *r, unsigned index)
{
	bool limits = r->vbe[VBE_ENABLE] & VBE_CAPS;
	if (index >= VBE_COUNT)
		return 0;
	if (limits && index == VBE_XRES)
		return XRES_MAX;
	if (limits && index == VBE_YRES)
		return YRES_MAX;
	if (limits && index == VBE_BPP)
		return BPP_MAX;
	return r->vbe[index];
}

static void vbe_write(struct vga *v, unsigned index, uint16_t value)
{
	struct vga_regs *r = &v->r;
	switch (index) {
	case VBE_ID:
		if (value >= ID_FIRST && value <= ID_LAST)
			r->vbe[index] = value;
		break;
	case VBE_ENABLE:
		enable(v, value);
		break;
	case VBE_WIDTH:
		r->vbe[index] = MAX(value, r->vbe[VBE_XRES]);
		r->vbe[VBE_HEIGHT] = virtual_height(r);
		break;
	case VBE_XRES:
	case VBE_YRES:
	case VBE_BPP:
	case VBE_BANK:
	case VBE_X:
	case VBE_Y:
		r->vbe[index] = value;
		break;
	}
}

static uint64_t port_read(struct device *d, uint64_t offset, unsigned size)
{
	const struct vga_regs *r = &vga_of(d)->r;
	return offset ? vbe_read(r, r->vbe_index) : r->vbe_index;
}

static void port_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct vga *v = vga_of(d);
	if (offset)
		vbe_write(v, v->r.vbe_index, (uint16_t)value);
	else
		v->r.vbe_index = (uint16_t)value;
}

const struct bus_ops vga_vbe_port_ops = { .read = port_read, .write = port_write, .max_size = 2 };
