/* SPDX-License-Identifier: MIT */
/* The VGA's window to video memory, A0000h to BFFFFh: planes, latches, write modes 0 to 3 and read modes 0 and 1, odd/even and chain-4
 * addressing. IBM PS/2 hardware interface technical reference, video subsystem, graphics controller and display memory.
 *
 * Every write, chained or not, goes one way: a mask of planes, an address in them, and the data path. In a packed mode of the
 * VBE interface the window is a bank of the frame buffer instead. */
#include "device/vga.h"
#include <stdatomic.h>
#include <string.h>
#include "x86/regs.h"

#define NOWHERE 0xff        /* what a read of nobody gives */

/* Bit p of a mask of planes, in all bits of byte p. */
static uint32_t planes(unsigned mask)
{
	uint32_t wide = 0;
	for (unsigned p = 0; p < VGA_PLANES; p++)
		wide |= mask & 1u << p ? 0xffu << 8 * p : 0;
	return wide;
}

static uint32_t each_plane(uint8_t byte)
{
	return byte * 0x01010101u;
}

/* The address within the part of the window that the adapter answers in. By the book it does so only while MISC_MEMORY is set; but other virtual machines never
 * looked at that, and GRUB as firmware, which is for them, clears it and goes on to draw. Only programs for two adapters in a PC turn one's memory off. */
static bool mapped(const struct vga_regs *r, uint64_t *offset)
{
	static const struct {
		uint32_t start, size;
	} maps[] = { { 0, 0x20000 }, { 0, 0x10000 }, { 0x10000, 0x8000 }, { 0x18000, 0x8000 } };
	unsigned map = r->gc[GC_MISC] >> 2 & 3;
	if (!r->enable || *offset < maps[map].start || *offset - maps[map].start >= maps[map].size)
		return false;
	*offset -= maps[map].start;
	return true;
}

/* Where a byte of the window is: the planes that it can be in, and the address there. What an address bit that selects planes
 * leaves free, the highest ones fill, so that the CRTC finds it in its doubleword mode. */
struct place {
	unsigned planes;
	uint32_t address;
};

static struct place chained4(uint32_t at)
{
	return (struct place){ 1u << (at & 3), (at & 0xfffc) | (at >> 14 & 3) };
}

static struct place odd_even(uint32_t at)
{
	return (struct place){ at & 1 ? 0xa : 0x5, at & 0xfffe };
}

/* With 4 bits a pixel the VBE interface has more than 64 KiB a plane, in banks. */
static struct place sequential(const struct vga_regs *r, uint32_t at)
{
	uint32_t bank = r->vbe[VBE_ENABLE] & VBE_ENABLED ? r->vbe[VBE_BANK] * (uint32_t)VBE_BANK_SIZE : 0;
	return (struct place){ 0xf, (bank + (at & 0xffff)) % (uint32_t)(VGA_MEMORY_SIZE / VGA_PLANES) };
}

/* By the book the sequencer's bit alone decides for writes, and the graphics controller's for reads; they are to be set alike. GRUB as firmware loads its font with
 * the latter only, as it gets away with elsewhere. */
static struct place place_to_write(const struct vga_regs *r, uint32_t at)
{
	bool alternate = !(r->seq[SEQ_MEMORY] & SEQ_MEMORY_SEQUENTIAL) && (r->gc[GC_MODE] & GC_MODE_ODD_EVEN);

	if (r->seq[SEQ_MEMORY] & SEQ_MEMORY_CHAIN4)
		return chained4(at);
	return alternate ? odd_even(at) : sequential(r, at);
}

static struct place place_to_read(const struct vga_regs *r, uint32_t at)
{
	if (r->seq[SEQ_MEMORY] & SEQ_MEMORY_CHAIN4)
		return chained4(at);
	return r->gc[GC_MODE] & GC_MODE_ODD_EVEN ? odd_even(at) : sequential(r, at);
}

static uint8_t rotated(const struct vga_regs *r, uint8_t value)
{
	unsigned count = r->gc[GC_ROTATE] & 7;
	return (uint8_t)(value >> count | value << (8 - count));
}

static uint32_t combine(const struct vga_regs *r, uint32_t data)
{
	switch (r->gc[GC_ROTATE] >> 3 & 3) {
	case 1: return data & r->latch;
	case 2: return data | r->latch;
	case 3: return data ^ r->latch;
	default: return data;
	}
}

/* What the four planes are to hold. */
static uint32_t data_path(const struct vga_regs *r, uint8_t value)
{
	uint32_t set = planes(r->gc[GC_SET_RESET]), enable = planes(r->gc[GC_ENABLE_SET_RESET]), data;
	uint32_t mask = each_plane(r->gc[GC_BIT_MASK]);
	switch (r->gc[GC_MODE] & 3) {
	case 1:
		return r->latch;
	case 2:
		data = planes(value & 0xf);
		break;
	case 3:
		mask &= each_plane(rotated(r, value));
		data = set;
		break;
	default:
		data = (each_plane(rotated(r, value)) & ~enable) | (set & enable);
	}
	return (combine(r, data) & mask) | (r->latch & ~mask);
}

static uint32_t load(const struct vga *v, uint32_t address)
{
	uint32_t value;
	memcpy(&value, v->host.memory + (uint64_t)address * VGA_PLANES, sizeof(value));
	return value;
}

void vga_written(struct vga *v, uint64_t at, uint64_t size)
{
	struct memory *m = &v->device.vm->memory;
	const struct pci_bar *bar = &v->pci.bar[VGA_BAR_FRAME];
	uint64_t page = (v->host.offset + at) >> X86_PAGE_SHIFT, last = (v->host.offset + at + size - 1) >> X86_PAGE_SHIFT;
	atomic_thread_fence(memory_order_seq_cst); /* the bytes before the bits */
	for (; page <= last; page++) {
		page_bits_set(m, page, PAGE_DIRTY);
		if ((page_bits_get(m, page) & (PAGE_CODE | PAGE_TRACED)) && bar->mapped)
			memory_written(v->device.vm, bar->address + at, size);
	}
}

static void write_byte(struct vga *v, uint32_t at, uint8_t value)
{
	struct place place = place_to_write(&v->r, at);
	uint32_t mask = planes(place.planes & v->r.seq[SEQ_MAP_MASK]);
	uint32_t data = (data_path(&v->r, value) & mask) | (load(v, place.address) & ~mask);
	uint64_t offset = (uint64_t)place.address * VGA_PLANES;
	memcpy(v->host.memory + offset, &data, sizeof(data));
	vga_written(v, offset, sizeof(data));
}

static uint8_t read_byte(struct vga *v, uint32_t at)
{
	struct vga_regs *r = &v->r;
	struct place place = place_to_read(r, at);
	unsigned plane = r->gc[GC_READ_MAP];
	r->latch = load(v, place.address);
	if (r->gc[GC_MODE] & GC_MODE_READ_COMPARE) {
		uint32_t differs = (r->latch ^ planes(r->gc[GC_COMPARE])) & planes(r->gc[GC_IGNORE]);
		return (uint8_t)~(differs | differs >> 8 | differs >> 16 | differs >> 24);
	}
	if (place.planes != 0xf)
		plane = r->seq[SEQ_MEMORY] & SEQ_MEMORY_CHAIN4 ? at & 3 : (plane & 2) | (at & 1);
	return (uint8_t)(r->latch >> 8 * plane);
}

/* The window's bytes in a packed mode of the VBE interface: -1, they are the VGA's. */
static int64_t banked(const struct vga_regs *r, uint64_t offset)
{
	bool packed = (r->vbe[VBE_ENABLE] & VBE_ENABLED) && r->vbe[VBE_BPP] != 4;
	return packed && offset < VBE_BANK_SIZE ? (int64_t)((r->vbe[VBE_BANK] * VBE_BANK_SIZE + offset) % VGA_MEMORY_SIZE) : -1;
}

static uint64_t window_read(struct device *d, uint64_t offset, unsigned size)
{
	struct vga *v = vga_of(d);
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++) {
		uint64_t at = offset + i;
		uint8_t byte = NOWHERE;
		int64_t bank = banked(&v->r, at);
		if (bank >= 0)
			byte = v->host.memory[bank];
		else if (mapped(&v->r, &at))
			byte = read_byte(v, (uint32_t)at);
		value |= (uint64_t)byte << 8 * i;
	}
	return value;
}

static void window_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct vga *v = vga_of(d);
	for (unsigned i = 0; i < size; i++) {
		uint64_t at = offset + i;
		uint8_t byte = (uint8_t)(value >> 8 * i);
		int64_t bank = banked(&v->r, at);
		if (bank >= 0) {
			v->host.memory[bank] = byte;
			vga_written(v, (uint64_t)bank, 1);
		} else if (mapped(&v->r, &at)) {
			write_byte(v, (uint32_t)at, byte);
		}
	}
}

const struct bus_ops vga_window_ops = { .read = window_read, .write = window_write, .max_size = 8 };
