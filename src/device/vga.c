/* SPDX-License-Identifier: MIT */
/* The VGA adapter: a PCI function with the registers and the memory of IBM's VGA, Bochs's VBE interface, and a linear frame buffer. The IDs
 * are those of QEMU's standard VGA, for which systems and firmware have drivers. Its second base address register (the same registers as
 * memory, and an EDID) is not there: where it is, SeaBIOS's VGA BIOS reads the EDID with 32-bit addresses in real mode, which
 * is #GP under anyone who has not lifted the segments' limits first, as U-Boot has not.
 *
 *   vga_ports.c    registers, retrace          vga_scan.c   how the CRTC goes through memory
 *   vga_memory.c   the window at A0000h        vga_draw.c   a picture of it
 *   vga_vbe.c      the VBE interface           vga_text.c   characters
 *
 * Video memory is memory of the machine: engines map the frame buffer as they map RAM, and it is saved with RAM, not as a field. Who draws a picture copies the registers and reads the
 * memory without a lock, as a CRT controller does: it may see half of a change, and sees the rest in the next frame. */
#include "device/vga.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/screen.h"
#include "util/log.h"
#include "x86/regs.h"

#define FRAME_NS (1000000000 / 70)

static const struct pci_model model = {
	.vendor = 0x1234, .device = 0x1111, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class = 0x030000,
	.decodes = PCI_COMMAND_IO | PCI_COMMAND_MEMORY,
	.bar = {
		[VGA_BAR_FRAME] = { .kind = PCI_BAR_MEMORY, .prefetchable = true, .size = VGA_MEMORY_SIZE },
	},
};

static int add_ranges(struct device *d)
{
	static const struct {
		enum bus_space space;
		uint64_t start, size, offset;
		const struct bus_ops *ops;
	} ranges[] = {
		{ BUS_PORT, 0x3b4, 2, 0x04, &vga_port_ops },
		{ BUS_PORT, 0x3ba, 1, 0x0a, &vga_port_ops },
		{ BUS_PORT, 0x3c0, 16, 0x10, &vga_port_ops },
		{ BUS_PORT, 0x3d4, 2, 0x24, &vga_port_ops },
		{ BUS_PORT, 0x3da, 1, 0x2a, &vga_port_ops },
		{ BUS_PORT, VBE_PORTS, 3, 0, &vga_vbe_port_ops }, /* a doublet at 1CFh reaches into 1D0h */
		{ BUS_MEMORY, VGA_WINDOW, VGA_WINDOW_SIZE, 0, &vga_window_ops },
	};
	int error = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(ranges) && !error; i++)
		error = bus_add_at(d->vm, ranges[i].space, ranges[i].start, ranges[i].size, ranges[i].ops, d, ranges[i].offset);
	return error;
}

/* Sizes of base address registers are powers of two. */
static int add_rom(struct vga *v, const struct vga_config *config)
{
	uint64_t size = X86_PAGE_SIZE, offset;
	while (size < config->rom_size)
		size *= 2;
	int error = memory_reserve(v->device.vm, NULL, size, "vga-bios", &offset);
	if (error)
		return error;
	memcpy(v->device.vm->memory.host + offset, config->rom, config->rom_size);
	v->host.model.bar[PCI_ROM] = (struct pci_bar_model){ .kind = PCI_BAR_ROM, .size = size };
	pci_bar_memory(&v->pci, PCI_ROM, offset, MEMORY_ROM);
	return 0;
}

static int vga_init(struct device *d)
{
	struct vga *v = vga_of(d);
	const struct vga_config *config = d->place->config;
	v->pci.device = d; /* for pci_bar_memory */
	v->host.model = model;
	int error = memory_reserve(d->vm, NULL, VGA_MEMORY_SIZE, d->name, &v->host.offset);
	if (error)
		return error;
	v->host.memory = d->vm->memory.host + v->host.offset;
	pci_bar_memory(&v->pci, VGA_BAR_FRAME, v->host.offset, MEMORY_RAM);
	if (config && config->rom_size)
		error = add_rom(v, config);
	if (!error)
		error = pci_function_init(&v->pci, d, &v->host.model);
	return error ? error : add_ranges(d);
}

/* The memory keeps what it holds. */
static void vga_reset(struct device *d, enum reset_kind kind)
{
	struct vga *v = vga_of(d);
	memset(&v->r, 0, sizeof(v->r));
	v->r.enable = 1;
	v->r.dac_mask = 0xff;
	v->r.ac[AC_PLANES] = 0x0f; /* this and the next as in text modes: GRUB as firmware leaves them as they are */
	v->r.crtc[CRTC_MODE] = 0xa3;
	vga_vbe_reset(&v->r);
	pci_function_reset(&v->pci);
}

/* Whatever else a stream says of the registers, they are used within bounds; the indices are trusted. */
static int vga_post_load(struct device *d, uint32_t version)
{
	struct vga *v = vga_of(d);
	v->r.seq_index %= SEQ_COUNT;
	v->r.gc_index &= 0x0f;
	v->r.crtc_index &= 0x3f;
	v->r.dac_part %= 3;
	v->r.gc[GC_READ_MAP] %= VGA_PLANES;
	pci_function_loaded(&v->pci);
	return 0;
}

static struct vga_regs registers(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	struct vga_regs r = vga_of(d)->r;
	pthread_mutex_unlock(&d->lock);
	return r;
}

int vga_screen_draw(struct device *d, struct picture *picture, bool steady)
{
	struct vga_regs r = registers(d);
	unsigned frame = steady ? VGA_FRAME_STEADY : (unsigned)(clock_now(d->vm) / FRAME_NS);
	return vga_draw(&r, vga_of(d)->host.memory, frame, picture);
}

char *vga_screen_text(struct device *d)
{
	struct vga_regs r = registers(d);
	struct vga_size size = vga_size(&r);
	struct vbe_mode mode;
	char *text = NULL;
	if (vga_vbe_mode(&r, &mode))
		return asprintf(&text, "(graphics, %ux%u, %u bits a pixel)\n", mode.width, mode.height, mode.bpp) < 0 ? NULL : text;
	if (!vga_is_text(&r))
		return asprintf(&text, "(graphics, %ux%u)\n", size.columns * size.dots * size.wide, size.lines) < 0 ? NULL : text;
	return vga_text(&r, vga_of(d)->host.memory);
}

const struct field vga_regs_fields[] = {
	FIELD_U8(struct vga_regs, misc),
	FIELD_U8(struct vga_regs, feature),
	FIELD_U8(struct vga_regs, enable),
	FIELD_U8(struct vga_regs, seq_index),
	FIELD_U8(struct vga_regs, seq),
	FIELD_U8(struct vga_regs, gc_index),
	FIELD_U8(struct vga_regs, gc),
	FIELD_U8(struct vga_regs, crtc_index),
	FIELD_U8(struct vga_regs, crtc),
	FIELD_U8(struct vga_regs, ac_index),
	FIELD_U8(struct vga_regs, ac),
	FIELD_BOOL(struct vga_regs, ac_data),
	FIELD_U8(struct vga_regs, dac),
	FIELD_U8(struct vga_regs, dac_mask),
	FIELD_U8(struct vga_regs, dac_read),
	FIELD_U8(struct vga_regs, dac_write),
	FIELD_U8(struct vga_regs, dac_part),
	FIELD_BOOL(struct vga_regs, dac_reading),
	FIELD_U8(struct vga_regs, dac_latch),
	FIELD_U32(struct vga_regs, latch),
	FIELD_U16(struct vga_regs, vbe_index),
	FIELD_U16(struct vga_regs, vbe),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct vga, r, vga_regs_fields, struct vga_regs),
	FIELD_STRUCT(struct vga, pci, pci_function_fields, struct pci_function),
	FIELD_END,
};

const struct device_class vga_class = {
	.name = "vga", .summary = "VGA with Bochs's VBE interface", .size = sizeof(struct vga), .init = vga_init, .reset = vga_reset,
	.fields = fields, .version = 1, .post_load = vga_post_load,
};
DEVICE_CLASS(vga_class);
