/* SPDX-License-Identifier: MIT */
/* For the tests of the VGA: the machine with one, its registers and memory, the picture that it shows. */
#pragma once
#include "device/vga.h"
#include <sys/mman.h>
#include "backend/screen.h"
#include "board/text_mode.h"
#include "machine.h"

#define VGA PCI_AT(2, 0)
#define FRAME_AT 0xe0000000u
#define WINDOW 0xa0000u
#define GREY 0xaaaaaau

static const uint8_t rom[4096] = { 0x55, 0xaa, 0x08 };
static const struct vga_config config = { rom, sizeof(rom) };
static const struct pci_config pci_place_config = { .reset_control = "cf9" };
static const struct device_place places[] = {
	{ .class = &cf9_class, .name = "cf9", .irq = -1 },
	{ .class = &pci_class, .name = "pci", .irq = -1, .config = &pci_place_config },
	{ .class = &vga_class, .name = "vga", .base = VGA, .irq = -1, .config = &config },
};
static struct vm *vm;
static struct vga *vga;
static struct picture picture;

__attribute__((unused)) static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, ARRAY_SIZE(places));
	vga = vga_of(device_find(vm, "vga"));
	memset(vga->host.memory, 0, VGA_PLANES * VGA_PLANE_SIZE);
}

__attribute__((unused)) static void out(uint16_t port, uint8_t value)
{
	out8(vm, port, value);
}

__attribute__((unused)) static uint8_t in(uint16_t port)
{
	return in8(vm, port);
}

__attribute__((unused)) static void set(uint16_t port, uint8_t index, uint8_t value)
{
	out(port, index);
	out(port + 1, value);
}

__attribute__((unused)) static uint8_t get(uint16_t port, uint8_t index)
{
	out(port, index);
	return in(port + 1);
}

__attribute__((unused)) static void seq(uint8_t index, uint8_t value) { set(0x3c4, index, value); }
__attribute__((unused)) static void gc(uint8_t index, uint8_t value) { set(0x3ce, index, value); }
__attribute__((unused)) static void crtc(uint8_t index, uint8_t value) { set(0x3d4, index, value); }

__attribute__((unused)) static void ac(uint8_t index, uint8_t value)
{
	in(0x3da);
	out(0x3c0, index);
	out(0x3c0, value);
	out(0x3c0, AC_INDEX_SHOWS);
}

__attribute__((unused)) static void poke(uint32_t at, uint8_t value)
{
	bus_write(vm, BUS_MEMORY, WINDOW + at, 1, value);
}

__attribute__((unused)) static uint8_t peek(uint32_t at)
{
	return (uint8_t)bus_read(vm, BUS_MEMORY, WINDOW + at, 1);
}

__attribute__((unused)) static uint8_t plane(unsigned p, uint32_t at)
{
	return vga->host.memory[VGA_PLANES * at + p];
}

__attribute__((unused)) static uint32_t dot(unsigned x, unsigned y)
{
	return x < picture.width && y < picture.height ? picture.pixels[(size_t)y * picture.width + x] : ~0u;
}

__attribute__((unused)) static void draw(unsigned frame)
{
	if (vga_draw(&vga->r, vga->host.memory, frame, &picture))
		picture.width = 0;
}

__attribute__((unused)) static void vbe(uint16_t index, uint16_t value)
{
	bus_write(vm, BUS_PORT, 0x1ce, 2, index);
	bus_write(vm, BUS_PORT, 0x1cf, 2, value);
}

__attribute__((unused)) static uint16_t vbe_get(uint16_t index)
{
	bus_write(vm, BUS_PORT, 0x1ce, 2, index);
	return (uint16_t)bus_read(vm, BUS_PORT, 0x1cf, 2);
}

__attribute__((unused)) static void vbe_mode(uint16_t width, uint16_t height, uint16_t bpp)
{
	vbe(VBE_ENABLE, 0);
	vbe(VBE_XRES, width);
	vbe(VBE_YRES, height);
	vbe(VBE_BPP, bpp);
	vbe(VBE_ENABLE, VBE_ENABLED | VBE_LINEAR);
}
