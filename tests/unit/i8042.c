/* SPDX-License-Identifier: MIT */
/* The keyboard controller with its keyboard and mouse: commands, translation, queues, interrupts; and the other
 * ways to reset. */
#include "backend/screen.h"
#include "device/ps2.h"
#include "machine.h"

enum { KBD_IRQ = 1, AUX_IRQ = 12 };
static const struct device_place places[] = {
	{ .class = &i8042_class, .name = "kbd", .base = 0x60, .irq = KBD_IRQ },
	{ .class = &port92_class, .name = "port92", .base = 0x92, .irq = -1 },
	{ .class = &cf9_class, .name = "cf9", .base = 0xcf9, .irq = -1 },
};
static struct vm *vm;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 3);
}

static uint8_t status(void)
{
	return in8(vm, 0x64);
}

/* The next byte, as soon as it is there; -1 after 10 ms without one. */
static int next(void)
{
	for (unsigned i = 0; i < 100; i++) {
		if (status() & 1)
			return in8(vm, 0x60);
		clock_step(vm, 100 * MICROSECOND);
	}
	return -1;
}

static bool comes(const char *bytes, size_t len)
{
	bool same = true;
	for (size_t i = 0; i < len; i++)
		same &= next() == (uint8_t)bytes[i];
	return same && next() == -1;
}
#define COMES(text) comes(text, sizeof(text) - 1)

static void command(uint8_t value)
{
	out8(vm, 0x64, value);
}

static void data(uint8_t value)
{
	out8(vm, 0x60, value);
}

static void control(uint8_t ctr)
{
	command(0x60);
	data(ctr);
}

static void mouse(uint8_t value)
{
	command(0xd4);
	data(value);
}

static void keys(const char *codes, size_t len)
{
	event_post(device_find(vm, "kbd"), INPUT_KEY, codes, len);
}
#define KEYS(text) keys(text, sizeof(text) - 1)

static void move(int dx, int dy, int wheel, unsigned buttons)
{
	struct input_mouse m = { dx, dy, wheel, buttons };
	event_post(device_find(vm, "kbd"), INPUT_MOUSE, &m, sizeof(m));
}

static bool reset_asked(void)
{
	return atomic_exchange(&vm->reset_requested, false);
}

static void controller(void)
{
	fresh();
	ok(status() == 0x14, "i8042: empty, unlocked, self-test passed");
	command(0xaa);
	ok(status() == 0x1d && in8(vm, 0x60) == 0x55 && status() == 0x1c, "i8042: self-test; the status follows");
	command(0x20);
	ok(in8(vm, 0x60) == 0x65, "i8042: command byte");
	control(0x47);
	command(0x20);
	ok(in8(vm, 0x60) == 0x47 && line_edges[KBD_IRQ] && !line_level[KBD_IRQ], "i8042: written and read");
	command(0x7f);
	data(0x5a);
	command(0x3f);
	ok(in8(vm, 0x60) == 0x5a, "i8042: the RAM");
	command(0xab);
	bool good = in8(vm, 0x60) == 0;
	command(0xa9);
	ok(good && in8(vm, 0x60) == 0, "i8042: line tests");
	command(0xad);
	command(0xa7);
	command(0x20);
	ok(in8(vm, 0x60) == 0x77, "i8042: both interfaces off");
	command(0xae);
	command(0xa8);
	command(0x20);
	ok(in8(vm, 0x60) == 0x47, "i8042: and on");
	command(0xd0);
	ok(in8(vm, 0x60) == 0xc3, "i8042: output port, A20 on");
	command(0xd1);
	data(0xdd);
	command(0xd0);
	ok(in8(vm, 0x60) == 0xc1 && !reset_asked(), "i8042: A20 off");
	command(0xd2);
	data(0xab);
	ok(status() == 0x15 && line_level[KBD_IRQ] && in8(vm, 0x60) == 0xab, "i8042: a byte as if from the keyboard");
	command(0xd3);
	data(0xcd);
	ok(status() == 0x35 && line_level[AUX_IRQ] && !line_level[KBD_IRQ] && in8(vm, 0x60) == 0xcd,
	   "i8042: and as if from the mouse");
	command(0xc0);
	ok(in8(vm, 0x60) == 0x80, "i8042: input port");
	command(0xff);
	ok(!reset_asked(), "i8042: a pulse of no line");
	command(0xfe);
	ok(reset_asked(), "i8042: pulse of the reset line");
	command(0xd1);
	data(0x02);
	ok(reset_asked(), "i8042: reset by the output port");
}

static void keyboard(void)
{
	fresh();
	data(0xff);
	ok(COMES("\xfa\xaa"), "keyboard: reset");
	data(0xf2);
	ok(COMES("\xfa\xab\x41"), "keyboard: identify, translated");
	control(0x05);
	data(0xf2);
	ok(COMES("\xfa\xab\x83"), "keyboard: identify");
	data(0xee);
	ok(COMES("\xee"), "keyboard: echo");
	data(0xfe);
	ok(COMES("\xee"), "keyboard: resend");
	data(0xed);
	bool acked = next() == 0xfa;
	data(0x07);
	ok(acked && COMES("\xfa"), "keyboard: lights");
	data(0xf3);
	acked = next() == 0xfa;
	data(0x20);
	ok(acked && COMES("\xfa"), "keyboard: typematic");
	data(0xf0);
	acked = next() == 0xfa;
	data(0x00);
	ok(acked && COMES("\xfa\x02"), "keyboard: which scan-code set");
	data(0x05);
	ok(COMES("\xfe"), "keyboard: what it does not know it asks for again");
	KEYS("\x1c\xf0\x1c\xe0\x75\xe0\xf0\x75");
	ok(COMES("\x1c\xf0\x1c\xe0\x75\xe0\xf0\x75"), "keyboard: set 2");
	control(0x45);
	KEYS("\x1c\xf0\x1c\xe0\x75\xe0\xf0\x75\x83\xf0\x83");
	ok(COMES("\x1e\x9e\xe0\x48\xe0\xc8\x41\xc1"), "keyboard: translated to set 1");
	control(0x05);
	data(0xf0);
	acked = next() == 0xfa;
	data(0x01);
	ok(acked && COMES("\xfa"), "keyboard: choose set 1");
	KEYS("\x1c\xf0\x1c\xe0\x75\xe0\xf0\x75");
	ok(COMES("\x1e\x9e\xe0\x48\xe0\xc8"), "keyboard: set 1 of its own");
	data(0xf6);
	ok(COMES("\xfa"), "keyboard: defaults");
	data(0xf5);
	acked = COMES("\xfa");
	KEYS("\x1c");
	ok(acked && next() == -1, "keyboard: disabled");
	data(0xf4);
	ok(COMES("\xfa"), "keyboard: enabled");
	for (unsigned i = 0; i < 20; i++)
		KEYS("\x1c");
	ok(COMES("\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x1c\x00"),
	   "keyboard: the queue of 16 ends with an overrun");

	KEYS("\x1c\x1b");
	clock_step(vm, 659 * MICROSECOND);
	bool early = status() & 1;
	clock_step(vm, MICROSECOND);
	unsigned edges = line_edges[KBD_IRQ];
	ok(!early && (status() & 1) && line_level[KBD_IRQ], "keyboard: a byte takes its time");
	in8(vm, 0x60);
	ok(!line_level[KBD_IRQ] && in8(vm, 0x60) == 0x1c, "keyboard: read again it is still there");
	clock_step(vm, MILLISECOND);
	ok(line_edges[KBD_IRQ] == edges + 1 && in8(vm, 0x60) == 0x1b, "keyboard: the next byte is a new edge");
	command(0xad);
	KEYS("\x1c");
	ok(next() == -1, "keyboard: the controller holds it off");
	command(0x20);
	in8(vm, 0x60);
	data(0xee);
	command(0x20);
	ok(!(next() & 0x10), "keyboard: a byte to it switches the interface on");
	ok(COMES("\xee\x1c"), "keyboard: the answer overtakes the key");
}

static void rate(uint8_t value)
{
	mouse(0xf3);
	next();
	mouse(value);
	next();
}

static void pointing(void)
{
	fresh();
	control(0x47);
	mouse(0xff);
	clock_step(vm, MILLISECOND);
	ok(status() == 0x35 && line_level[AUX_IRQ] && !line_level[KBD_IRQ],
	   "mouse: its bytes are marked, and are IRQ 12");
	ok(COMES("\xfa\xaa\x00"), "mouse: reset");
	mouse(0xf2);
	ok(COMES("\xfa\x00"), "mouse: identify");
	mouse(0xe9);
	ok(COMES("\xfa\x00\x02\x64"), "mouse: status");
	move(5, 5, 0, 0);
	ok(next() == -1, "mouse: reports nothing before it is enabled");
	mouse(0xf4);
	ok(COMES("\xfa"), "mouse: enabled");
	move(5, -3, 1, 1);
	ok(COMES("\x29\x05\xfd"), "mouse: a report of three bytes");
	move(0, 0, 0, 0);
	ok(COMES("\x08\x00\x00"), "mouse: the button is released");
	rate(200), rate(100), rate(80);
	mouse(0xf2);
	ok(COMES("\xfa\x03"), "mouse: the knock finds the wheel");
	move(-300, 0, -2, 6);
	ok(COMES("\x1e\x01\x00\xfe\x1e\xd3\x00\x00"), "mouse: four bytes; a long way takes two reports");
	for (unsigned i = 0; i < 1000; i++)
		move(1, 1, 0, 0);
	int sum = 0, byte;
	for (unsigned i = 0; (byte = next()) >= 0; i++)
		sum += i % 4 == 1 ? byte : 0;
	ok(sum == 1000, "mouse: what does not fit adds up");
	mouse(0xe9);
	ok(COMES("\xfa\x20\x02\x50"), "mouse: status, enabled");
	mouse(0xf0);
	bool acked = COMES("\xfa");
	move(7, 0, 0, 0);
	bool quiet = next() == -1;
	mouse(0xeb);
	ok(acked && quiet && COMES("\xfa\x08\x07\x00\x00"), "mouse: remote mode");
	mouse(0xee);
	acked = COMES("\xfa");
	mouse(0x55);
	ok(acked && COMES("\x55"), "mouse: wrap mode");
	mouse(0xec);
	ok(COMES("\xfa"), "mouse: wrap mode ends");
	mouse(0xe8);
	acked = next() == 0xfa;
	mouse(0x03);
	ok(acked && COMES("\xfa"), "mouse: resolution");
	mouse(0x12);
	ok(COMES("\xfe"), "mouse: what it does not know it asks for again");
	mouse(0xf6);
	ok(COMES("\xfa"), "mouse: defaults");
}

static void other_ports(void)
{
	fresh();
	ok(in8(vm, 0x92) == 0x02, "port 92h: A20 on");
	out8(vm, 0x92, 0x00);
	ok(in8(vm, 0x92) == 0x00 && !reset_asked(), "port 92h: A20 off");
	out8(vm, 0x92, 0x03);
	ok(reset_asked() && in8(vm, 0x92) == 0x03, "port 92h: fast reset");
	out8(vm, 0x92, 0x03);
	ok(!reset_asked(), "port 92h: only on the edge");
	out8(vm, 0xcf9, 0x02);
	ok(!reset_asked() && in8(vm, 0xcf9) == 0x02, "port CF9h: the kind of reset");
	out8(vm, 0xcf9, 0x06);
	ok(reset_asked(), "port CF9h: reset");
	device_reset_all(vm, RESET_COLD);
	ok(in8(vm, 0xcf9) == 0 && in8(vm, 0x92) == 0x02, "ports CF9h and 92h after reset");
}

static void round_trip(void)
{
	fresh();
	control(0x65);
	KEYS("\x1c\xf0\x1c\x1b");
	clock_step(vm, MILLISECOND);
	data(0xed);
	mouse(0xf4);
	command(0xd1);
	struct vm *one = vm, *two = machine(1, places, 3);
	ok(copy_state(one, two) && same_state(one, two), "i8042: state loads");
	ok(line_level[KBD_IRQ], "i8042: the line is driven again");
	vm = two;
	data(0xdd);
	ok(next() == 0x1e, "i8042: the byte in the buffer");
	ok(next() == 0xfa && next() == 0x9e, "i8042: the answer and the keys behind it");
	data(0x02);
	ok(COMES("\xfa\x1f"), "keyboard: the argument finds its command");
	command(0xa8);
	ok(COMES("\xfa"), "mouse: the answer that waited");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	KEYS("\xe0\xf0\x75\x1c");
	move(3, -3, 1, 7);
	for (unsigned i = 0; i < 10; i++) {
		clock_step(vm, MILLISECOND);
		in8(vm, 0x60);
	}
	data(0xed);
	data(3);
	mouse(0xf3);
	mouse(80);
	mouse(0xeb);
	command(0x21);
	clock_step(vm, MILLISECOND);
}

/* A hundred keys at once, to a guest that takes its time. */
static void typing(void)
{
	enum { KEYS_TYPED = 100, BYTES = 3 * KEYS_TYPED };
	uint8_t codes[BYTES], got[2 * KEYS_TYPED];
	unsigned count = 0;
	fresh();
	for (unsigned i = 0; i < KEYS_TYPED; i++)
		memcpy(codes + 3 * i, i % 2 ? "\x1c\xf0\x1c" : "\x32\xf0\x32", 3);
	ok(i8042_type_room(device_find(vm, "kbd")) == PS2_TYPED, "typing: room");
	event_post(device_find(vm, "kbd"), INPUT_TYPE, codes, sizeof(codes));
	for (unsigned ms = 0; ms < 10000 && count < sizeof(got); ms++, clock_step(vm, MILLISECOND))
		if (ms % 7 == 0 && (status() & 1))
			got[count++] = in8(vm, 0x60);
	bool good = count == sizeof(got);
	for (unsigned i = 0; i < count; i++)
		good &= got[i] == ((i / 2 % 2 ? 0x1e : 0x30) | (i % 2 ? 0x80 : 0));
	ok(good && next() == -1, "typing: none is lost (%u of %zu)", count, sizeof(got));

	uint64_t before = clock_now(vm);
	event_post(device_find(vm, "kbd"), INPUT_TYPE, codes, 6);
	for (count = 0; count < 4 && clock_now(vm) - before < SECOND; clock_step(vm, 100 * MICROSECOND))
		if (status() & 1)
			got[count++] = in8(vm, 0x60);
	ok(count == 4 && clock_now(vm) - before >= 3 * PS2_TYPE_NS, "typing: not faster than a BIOS can be");

	data(0xf5);
	ok(COMES("\xfa"), "typing: the keyboard is switched off");
	event_post(device_find(vm, "kbd"), INPUT_TYPE, "\xe0\x75", 2);
	ok(next() == -1, "typing: it waits");
	struct vm *other = machine(1, places, 3);
	ok(copy_state(vm, other) && same_state(vm, other), "typing: is saved");
	vm_destroy(vm);
	vm = other;
	data(0xf4);
	ok(COMES("\xfa\xe0\x48"), "typing: a whole code comes when it is on again");
	event_post(device_find(vm, "kbd"), INPUT_TYPE, codes, 3);
	clock_step(vm, 2 * MILLISECOND);
	in8(vm, 0x60);
	other = machine(1, places, 3);
	ok(copy_state(vm, other) && same_state(vm, other), "typing: is saved between two codes");
	vm_destroy(vm);
	vm = other;
	clock_step(vm, SECOND);
	ok(line_level[KBD_IRQ] && in8(vm, 0x60) == 0xb0, "typing: and goes on without being asked");
	uint8_t flood[PS2_TYPED + 1];
	memset(flood, 0xe0, sizeof(flood)); /* prefixes without an end */
	event_post(device_find(vm, "kbd"), INPUT_TYPE, flood, sizeof(flood));
	ok(i8042_type_room(device_find(vm, "kbd")) == PS2_TYPED, "typing: what does not fit is dropped as a whole");
	event_post(device_find(vm, "kbd"), INPUT_TYPE, flood, PS2_TYPED);
	for (unsigned i = 0; i < 20000; i++) {
		clock_step(vm, MILLISECOND);
		in8(vm, 0x60);
	}
	ok(i8042_type_room(device_find(vm, "kbd")) == PS2_TYPED, "typing: nonsense passes, too");
}

int main(void)
{
	controller();
	keyboard();
	typing();
	pointing();
	other_ports();
	round_trip();
	fresh();
	KEYS("\x1c\xf0\x1c\x1b");
	mouse(0xf4);
	abuse_state(vm, "kbd", use);
	abuse_state(vm, "port92", use);
	abuse_state(vm, "cf9", use);
	vm_destroy(vm);
	return done();
}
