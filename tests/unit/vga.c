/* SPDX-License-Identifier: MIT */
/* The VGA: its registers; its state; and that nothing a guest writes reaches beyond video memory. */
#include "vga_driver.h"

/* --- registers --- */

/* Every index of a pair: what bits it keeps; the last `count` of them are not there. */
static void test_pair(const char *name, uint16_t port, unsigned indices, const uint8_t *mask, unsigned count)
{
	bool good = true;
	for (unsigned i = 0; i < indices; i++) {
		uint8_t want = i < count ? mask[i] : 0;
		set(port, (uint8_t)i, 0xff);
		good &= get(port, (uint8_t)i) == want && in(port) == i;
		set(port, (uint8_t)i, 0);
		good &= get(port, (uint8_t)i) == 0;
	}
	ok(good, "%s: every register, every bit", name);
}

static void test_registers(void)
{
	static const uint8_t seq_bits[] = { 0x03, 0x3d, 0x0f, 0x3f, 0x0e };
	static const uint8_t gc_bits[] = { 0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff };
	fresh();
	out(0x3c2, MISC_COLOUR | MISC_MEMORY);
	ok(in(0x3cc) == (MISC_COLOUR | MISC_MEMORY), "miscellaneous output is read at 3CCh");
	test_pair("sequencer", 0x3c4, 8, seq_bits, 5);
	test_pair("graphics controller", 0x3ce, 16, gc_bits, 9);
	uint8_t all[CRTC_COUNT];
	memset(all, 0xff, sizeof(all));
	all[CRTC_V_RETRACE_END] = 0x7f;
	bool good = true;
	for (unsigned i = 0; i < 0x40; i++) {
		crtc((uint8_t)i, i == CRTC_V_RETRACE_END ? 0x7f : 0xff);
		good &= get(0x3d4, (uint8_t)i) == (i < CRTC_COUNT ? all[i] : 0);
		crtc((uint8_t)i, 0);
	}
	ok(good, "CRT controller: every register");
	crtc(CRTC_V_RETRACE_END, CRTC_PROTECT);
	crtc(CRTC_H_END, 0x55);
	crtc(CRTC_OVERFLOW, 0xff);
	crtc(CRTC_MAX_SCAN, 0x12);
	ok(!get(0x3d4, CRTC_H_END) && get(0x3d4, CRTC_OVERFLOW) == 0x10 && get(0x3d4, CRTC_MAX_SCAN) == 0x12,
	   "CRT controller: registers 0 to 7 are protected but for bit 8 of the line compare");
	ok(in(0x3b4) == 0xff && in(0x3ba) == 0xff, "nobody at the monochrome addresses");
	out(0x3c2, MISC_MEMORY);
	ok(in(0x3b4) == CRTC_MAX_SCAN && get(0x3b4, CRTC_MAX_SCAN) == 0x12 && in(0x3d4) == 0xff, "and the other way round");
	out(0x3da, 3);
	ok(!in(0x3ca), "feature control is not at the colour address then");
	out(0x3ba, 3);
	ok(in(0x3ca) == 3, "but at the monochrome one");
	out(0x3c2, MISC_COLOUR);
	out(0x3c3, 0);
	ok(in(0x3c4) == 0xff && in(0x3c3) == 0, "the adapter can be switched off");
	out(0x3c4, 3);
	out(0x3c3, 1);
	ok(in(0x3c4) != 3, "and takes nothing while it is");
}

static void test_attributes(void)
{
	bool good = true;
	fresh();
	out(0x3c2, MISC_COLOUR);
	for (unsigned i = 0; i < 0x20; i++) {
		uint8_t mask = i < 0x10 ? 0x3f : i == 0x10 ? 0xef : i == 0x11 ? 0xff : i == 0x12 ? 0x3f : i < AC_COUNT ? 0x0f : 0;
		in(0x3da);
		out(0x3c0, (uint8_t)i);
		out(0x3c0, 0xff);
		out(0x3c0, (uint8_t)i);
		good &= in(0x3c1) == mask && in(0x3c0) == i;
	}
	ok(good, "attribute controller: every register, every bit");
	in(0x3da);
	out(0x3c0, AC_INDEX_SHOWS | 3);
	out(0x3c0, 0x15);
	out(0x3c0, AC_INDEX_SHOWS | AC_PAN);
	out(0x3c0, 0x5);
	ok(vga->r.ac[3] == 0x3f && vga->r.ac[AC_PAN] == 5, "the palette cannot be written while it is shown, the rest can");
	out(0x3c0, 7);
	in(0x3da);
	out(0x3c0, 9);
	ok((vga->r.ac_index & 0x1f) == 9, "reading the status makes the next write an index");
}

static void test_dac(void)
{
	fresh();
	out(0x3c2, MISC_COLOUR);
	out(0x3c8, 0xff);
	for (unsigned i = 0; i < 6; i++)
		out(0x3c9, (uint8_t)(0xc0 + i));
	ok(in(0x3c8) == 1 && !in(0x3c7), "DAC: three bytes a colour, then the next, around the end");
	out(0x3c7, 0xff);
	bool good = in(0x3c7) == 3;
	for (unsigned i = 0; i < 6; i++)
		good &= in(0x3c9) == i;
	ok(good, "DAC: reads back, six bits each");
	out(0x3c8, 5);
	out(0x3c9, 1);
	out(0x3c9, 2);
	ok(!vga->r.dac[15] && !vga->r.dac[16], "DAC: a colour changes whole");
	vbe(VBE_ENABLE, VBE_8BIT_DAC);
	out(0x3c8, 5);
	for (unsigned i = 0; i < 3; i++)
		out(0x3c9, (uint8_t)(0xf0 + i));
	ok(vga->r.dac[15] == 0xf0 && vga->r.dac[17] == 0xf2, "DAC: eight bits, when asked for");
	out(0x3c6, 0x0f);
	ok(in(0x3c6) == 0x0f, "DAC: the mask");
}

/* Mode 3: 449 lines at 28.322 MHz / 900, retrace in lines 412 and 413. */
static void test_retrace(void)
{
	const uint64_t line = 900 * 1000000000ULL / 28322000;
	unsigned lines_in_retrace = 0, lines_disabled = 0;
	fresh();
	text_mode_set(vm, NULL, 0);
	/* To the begin of a frame, a little into the line. */
	clock_step(vm, line / 8);
	for (unsigned y = 0; y < 449; y++, clock_step(vm, line)) {
		uint8_t status = in(0x3da);
		lines_in_retrace += !!(status & 8);
		lines_disabled += status & 1;
		if (y < 400 && (status & 9))
			lines_disabled += 1000;
	}
	ok(lines_in_retrace == 2, "retrace: two lines of a frame, by the clock (%u)", lines_in_retrace);
	ok(lines_disabled >= 48 && lines_disabled <= 49, "the picture is off below it (%u)", lines_disabled);
	clock_step(vm, line * 85 / 100);
	ok(in(0x3da) == 1, "and right of it");
	/* Hostile: the shortest frame there can be. */
	crtc(CRTC_V_RETRACE_END, 0);
	for (unsigned i = 0; i < CRTC_COUNT; i++)
		crtc((uint8_t)i, 0);
	for (unsigned i = 0; i < 100; i++, clock_step(vm, 333))
		in(0x3da);
	ok(true, "the shortest frame divides by nothing");
}

/* --- state and enemies --- */

static uint32_t random_state = 4711;
static uint32_t any(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

static void test_state(void)
{
	struct vm *first, *second = machine(1, places, ARRAY_SIZE(places));
	fresh();
	text_mode_set(vm, NULL, 0);
	pci_write(vm, VGA, PCI_BAR, 4, FRAME_AT);
	pci_write(vm, VGA, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	peek(0x18000);
	out(0x3c8, 7);
	out(0x3c9, 1);
	out(0x3c0, 5); /* an index, and no data yet */
	first = vm;
	ok(copy_state(first, second) && same_state(first, second), "state: in the middle of a colour and of an attribute");
	vm = second;
	vga = vga_of(device_find(vm, "vga"));
	out(0x3c9, 2);
	out(0x3c9, 3);
	out(0x3c0, 0x2a);
	ok(vga->r.dac[21] == 1 && vga->r.dac[23] == 3 && vga->r.ac[5] == 0x2a, "state: the other machine goes on with both");
	uint32_t word = 0x55;
	ok(!guest_write(vm, FRAME_AT + 64, &word, 4) && vga->host.memory[64] == 0x55, "state: and has the frame buffer");
	device_reset_all(vm, RESET_COLD);
	ok(guest_write(vm, FRAME_AT, &word, 4), "a reset takes it away");
	vm_destroy(first);
}

/* Random contents of all registers, with memory that ends where it ends. */
static void test_hostile_pictures(void)
{
	const size_t guard = MiB;
	uint8_t *area = mmap(NULL, VGA_MEMORY_SIZE + 2 * guard, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct vga_regs r;
	unsigned sizes = 0;
	mprotect(area + guard, VGA_MEMORY_SIZE, PROT_READ | PROT_WRITE);
	for (unsigned round = 0; round < 600; round++) {
		for (size_t i = 0; i < sizeof(r); i++)
			((uint8_t *)&r)[i] = (uint8_t)any();
		r.ac_data = any() & 1;
		r.dac_reading = any() & 1;
		r.enable = 1;
		r.ac_index |= AC_INDEX_SHOWS;
		r.seq[SEQ_CLOCKING] &= ~SEQ_CLOCKING_OFF;
		if (round % 3)
			r.vbe[VBE_ENABLE] &= ~VBE_ENABLED;
		else
			for (unsigned i = VBE_XRES; i < VBE_COUNT; i++)
				r.vbe[i] = (uint16_t)(any() % (i == VBE_BPP ? 33 : round % 2 ? 65536 : 2100));
		sizes += !vga_draw(&r, area + guard, any(), &picture) && picture.width && picture.height;
		if (vga_is_text(&r))
			free(vga_text(&r, area + guard));
	}
	ok(sizes == 600, "hostile registers: every picture is drawn within video memory");
	munmap(area, VGA_MEMORY_SIZE + 2 * guard);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* Random accesses to everything that the adapter has. RAM before its memory, and what lies behind, must not change. */
static void test_hostile_accesses(void)
{
	static const uint16_t ports[] = { 0x3b4, 0x3b5, 0x3c0, 0x3c2, 0x3c4, 0x3c5, 0x3c7, 0x3c8, 0x3c9, 0x3ce, 0x3cf, 0x3d4, 0x3d5, 0x3da };
	fresh();
	out(0x3c2, MISC_COLOUR | MISC_MEMORY);
	for (unsigned round = 0; round < 300000; round++) {
		unsigned size = 1u << any() % 4;
		switch (any() % 4) {
		case 0:
			bus_write(vm, BUS_PORT, ports[any() % ARRAY_SIZE(ports)], 1u << any() % 2, any() | (round % 2 ? MISC_COLOUR | MISC_MEMORY : 0));
			break;
		case 1:
			vbe((uint16_t)(any() % (VBE_COUNT + 1)), (uint16_t)(any() % (any() % 2 ? 65536 : 34)));
			break;
		case 2:
			bus_write(vm, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), size, any() * 0x100000001ULL);
			break;
		default:
			bus_read(vm, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), size);
			bus_read(vm, BUS_PORT, ports[any() % ARRAY_SIZE(ports)], 1);
		}
		if (round % 16384 == 0)
			draw(any());
	}
	const uint8_t *behind = vga->host.memory + VGA_MEMORY_SIZE + sizeof(rom);
	ok(is_zero(vm->memory.host, vm->memory.ram_size), "hostile accesses: RAM is untouched");
	ok(!memcmp(behind - sizeof(rom), rom, sizeof(rom)) && is_zero(behind, (size_t)(vm->memory.host + vm->memory.size - behind)),
	   "hostile accesses: so is what lies behind video memory");
}

static void use(struct vm *machine)
{
	draw(any());
	free(vga_screen_text(&vga->device));
	for (unsigned i = 0; i < 16; i++) {
		bus_write(machine, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), 8, any());
		bus_read(machine, BUS_MEMORY, WINDOW + any() % (VGA_WINDOW_SIZE - 7), 8);
		in8(machine, (uint16_t)(0x3c0 + any() % 32));
	}
}

int main(void)
{
	test_registers();
	test_attributes();
	test_dac();
	test_retrace();
	test_state();
	test_hostile_pictures();
	test_hostile_accesses();
	fresh();
	text_mode_set(vm, NULL, 0);
	abuse_state(vm, "vga", use);
	picture_free(&picture);
	vm_destroy(vm);
	return done();
}
