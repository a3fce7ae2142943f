/* SPDX-License-Identifier: MIT */
/* The 8254 against its datasheet (231164): six modes with counts and OUT at each pulse, gates, BCD, latches,
 * read-back, and port 61h. */
#include "device/i8254.h"
#include "machine.h"

static const struct device_place places[] = { { .class = &i8254_class, .name = "pit", .base = 0x40, .irq = 0 } };
enum { C0 = 0x40, C2 = 0x42, CONTROL = 0x43, P61 = 0x61 };

static struct vm *vm;

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 1);
	clock_step(vm, 10 * MICROSECOND);
}

/* To the first nanosecond of the n-th pulse from now. */
static void pulses(uint64_t n)
{
	uint64_t now = clock_now(vm);
	clock_step(vm, i8254_pulse_to_ns(i8254_ns_to_pulse(now) + n) - now);
}

static void program(unsigned counter, unsigned mode, unsigned count, bool bcd)
{
	pulses(1);
	out8(vm, CONTROL, counter << 6 | 0x30 | mode << 1 | bcd);
	out8(vm, C0 + counter, count);
	out8(vm, C0 + counter, count >> 8);
}

static unsigned count(unsigned counter)
{
	out8(vm, CONTROL, counter << 6);
	unsigned low = in8(vm, C0 + counter);
	return low | in8(vm, C0 + counter) << 8;
}

static uint8_t status(unsigned counter)
{
	out8(vm, CONTROL, 0xe0 | 2 << counter);
	return in8(vm, C0 + counter);
}

static bool out(unsigned counter)
{
	return status(counter) & 0x80;
}

/* OUT for the next n pulses, as a string of 0 and 1, the first for the present one. */
static const char *wave(unsigned counter, unsigned n)
{
	static char text[64];
	for (unsigned i = 0; i < n; i++) {
		text[i] = out(counter) ? '1' : '0';
		if (i + 1 < n)
			pulses(1);
	}
	text[n] = 0;
	return text;
}

static void gate(bool level)
{
	out8(vm, P61, level);
}

static void mode0(void)
{
	fresh();
	program(0, 0, 4, false);
	ok(!strcmp(wave(0, 8), "00000111"), "pit: mode 0: OUT rises N + 1 pulses after the write");
	ok(count(0) == 0xfffe, "pit: mode 0: it counts on");
	ok(line_level[0] && line_edges[0] == 1, "pit: IRQ 0 follows");
	out8(vm, CONTROL, 0x30);
	ok(!line_level[0] && (status(0) & 0xc0) == 0x40, "pit: mode 0: a control word lowers OUT; null count");
	out8(vm, C0, 10);
	ok(!out(0), "pit: mode 0: the first byte keeps it low");
	out8(vm, C0, 0);
	pulses(1);
	ok(count(0) == 10 && !(status(0) & 0x40), "pit: mode 0: loaded with the next pulse");
	pulses(9);
	ok(count(0) == 1 && !line_level[0], "pit: mode 0: one before the end");
	pulses(1);
	ok(count(0) == 0 && line_level[0], "pit: mode 0: the end");

	gate(true);
	program(2, 0, 8, false);
	pulses(4);
	ok(count(2) == 5, "pit: mode 0: counter 2 counts with its gate");
	gate(false);
	pulses(10);
	ok(count(2) == 5 && !out(2), "pit: mode 0: GATE low stops the count");
	gate(true);
	pulses(5);
	ok(count(2) == 0 && out(2) && (in8(vm, P61) & 0x20), "pit: mode 0: and it goes on; port 61h shows OUT2");
}

static void mode1(void)
{
	fresh();
	gate(false);
	program(2, 1, 3, false);
	ok(out(2), "pit: mode 1: OUT is high");
	gate(true);
	ok(!strcmp(wave(2, 6), "100011"), "pit: mode 1: a trigger gives a pulse of N");
	gate(false);
	gate(true);
	pulses(2);
	gate(false);
	gate(true);
	ok(!strcmp(wave(2, 6), "000011"), "pit: mode 1: retriggered, it is longer");
	gate(false);
	out8(vm, C2, 2);
	out8(vm, C2, 0);
	ok(status(2) & 0x40, "pit: mode 1: a new count waits for the next trigger");
	gate(true);
	ok(!strcmp(wave(2, 5), "10011"), "pit: mode 1: and counts from there");
}

static void mode2(void)
{
	fresh();
	program(0, 2, 4, false);
	ok(!strcmp(wave(0, 11), "11110111011"), "pit: mode 2: low for the last of N pulses");
	ok(count(0) == 3, "pit: mode 2: count");
	pulses(1);
	ok(count(0) == 2, "pit: mode 2: counts down");
	out8(vm, C0, 3);
	out8(vm, C0, 0);
	ok(status(0) & 0x40, "pit: mode 2: a new count waits");
	ok(!strcmp(wave(0, 9), "101101101"), "pit: mode 2: for the end of the cycle");

	gate(true);
	program(2, 2, 5, false);
	pulses(5);
	ok(!out(2), "pit: mode 2: at 1 OUT is low");
	gate(false);
	ok(out(2), "pit: mode 2: GATE low sets it high at once");
	pulses(7);
	gate(true);
	pulses(1);
	ok(count(2) == 5, "pit: mode 2: GATE's edge reloads");
	ok(!strcmp(wave(2, 6), "111101"), "pit: mode 2: synchronized to the gate");

	fresh();
	program(0, 2, 1193, false);
	unsigned before = line_edges[0];
	clock_step(vm, 60 * SECOND);
	unsigned ticks = line_edges[0] - before;
	ok(ticks == 60 * I8254_HZ / 1193, "pit: mode 2: %u interrupts in a minute: no drift", ticks);
}

static void mode3(void)
{
	fresh();
	program(0, 3, 6, false);
	ok(!strcmp(wave(0, 11), "11110001110"), "pit: mode 3: even");
	program(0, 3, 5, false);
	ok(!strcmp(wave(0, 11), "11110011100"), "pit: mode 3: odd is one longer high");
	program(0, 3, 6, false);
	pulses(1);
	unsigned a = count(0);
	pulses(1);
	unsigned b = count(0);
	pulses(2);
	ok(a == 6 && b == 4 && count(0) == 6, "pit: mode 3: counts down by two, twice a cycle");
	program(0, 3, 5, false);
	pulses(1);
	a = count(0);
	pulses(2);
	b = count(0);
	pulses(1);
	ok(a == 4 && b == 0 && count(0) == 4, "pit: mode 3: odd counts are loaded less one");
	program(0, 3, 8, false);
	pulses(2);
	out8(vm, C0, 4);
	out8(vm, C0, 0);
	ok(!strcmp(wave(0, 10), "1110011001"), "pit: mode 3: a new count starts with the next half");
	fresh();
	program(0, 3, 0, false);
	clock_step(vm, 10 * SECOND);
	ok(line_edges[0] == 1 + 10 * I8254_HZ / 65536, "pit: mode 3: count 0 is 65536, 18.2 Hz");
}

static void mode45(void)
{
	fresh();
	program(0, 4, 3, false);
	ok(!strcmp(wave(0, 8), "11110111"), "pit: mode 4: a strobe N + 1 after the write");
	unsigned before = line_edges[0];
	program(0, 4, 3, false);
	pulses(4);
	ok(line_edges[0] == before, "pit: mode 4: no interrupt before the strobe ends");
	pulses(1);
	ok(line_edges[0] == before + 1, "pit: mode 4: interrupt");
	program(0, 4, 5, false);
	pulses(3);
	out8(vm, C0, 5);
	out8(vm, C0, 0);
	ok(!strcmp(wave(0, 8), "11111101"), "pit: mode 4: a write retriggers");
	gate(false);
	program(2, 5, 3, false);
	pulses(9);
	ok(out(2), "pit: mode 5: waits for the gate");
	gate(true);
	ok(!strcmp(wave(2, 7), "1111011"), "pit: mode 5: strobe N + 1 after the trigger");
	gate(false);
	gate(true);
	pulses(2);
	gate(false);
	gate(true);
	ok(!strcmp(wave(2, 7), "1111011"), "pit: mode 5: retriggered");
}

static void reading(void)
{
	fresh();
	program(0, 2, 0x1234, true);
	pulses(1);
	ok(count(0) == 0x1234, "pit: BCD");
	pulses(35);
	ok(count(0) == 0x1199, "pit: BCD borrows");
	program(0, 0, 0, true);
	pulses(2);
	ok(count(0) == 0x9999, "pit: BCD 0 is 10000");
	out8(vm, CONTROL, 0x14);
	out8(vm, C0, 100);
	pulses(11);
	ok(in8(vm, C0) == 90 && in8(vm, C0) == 90, "pit: low byte only");
	out8(vm, CONTROL, 0x00);
	pulses(10);
	out8(vm, CONTROL, 0x00);
	ok(in8(vm, C0) == 90 && in8(vm, C0) == 80, "pit: the first latch stands until it is read");
	out8(vm, CONTROL, 0x24);
	out8(vm, C0, 2);
	pulses(1);
	ok(in8(vm, C0) == 2, "pit: high byte only");
	program(0, 2, 0x1000, false);
	pulses(0x11);
	out8(vm, CONTROL, 0xc2);
	pulses(5);
	uint8_t s = in8(vm, C0), low = in8(vm, C0), high = in8(vm, C0);
	ok(s == 0xb4 && low == 0xf0 && high == 0x0f, "pit: read-back gives status, then count");
	ok(in8(vm, C0) == 0xeb && in8(vm, C0) == 0x0f, "pit: then the count as it runs");
	ok(in8(vm, CONTROL) == 0xff, "pit: the control port cannot be read");
	uint8_t before = in8(vm, P61) & 0x10;
	pulses(18);
	ok((in8(vm, P61) & 0x10) != before, "pit: refresh toggles");
	out8(vm, P61, 0xff);
	ok((in8(vm, P61) & 0xcf) == 0x0f, "pit: port 61h");
}

static void round_trip(void)
{
	fresh();
	gate(true);
	program(0, 3, 1000, false);
	program(2, 0, 500, true);
	pulses(123);
	out8(vm, CONTROL, 0x00);
	in8(vm, C0);
	out8(vm, C0, 77);
	struct vm *one = vm, *two = machine(1, places, 1);
	ok(copy_state(one, two) && same_state(one, two), "pit: state loads");
	vm = two;
	memset(line_edges, 0, sizeof(line_edges));
	pulses(876);
	ok(!line_edges[0], "pit: the cycle goes on");
	pulses(1 + 2);
	ok(line_edges[0] == 1, "pit: and ends as it would have");
	out8(vm, C0, 0);
	ok(in8(vm, C0) == 0x02, "pit: the half-read latch too");
	pulses(2000);
	ok(line_edges[0] > 20, "pit: the half-written count too");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned i = 0; i < 4; i++)
		in8(vm, C0 + i);
	status(0), status(1), status(2);
	gate(false);
	gate(true);
	clock_step(vm, 100 * MICROSECOND);
	in8(vm, P61);
	for (unsigned i = 0; i < 6; i++)
		program(i % 3, i, 3, i & 1);
	clock_step(vm, 100 * MICROSECOND);
}

int main(void)
{
	mode0();
	mode1();
	mode2();
	mode3();
	mode45();
	reading();
	round_trip();
	fresh();
	program(0, 2, 2, false);
	unsigned before = line_edges[0];
	clock_step(vm, SECOND / 10);
	ok(line_edges[0] - before <= 12000, "pit: a hostile rate is bounded");
	abuse_state(vm, "pit", use);
	vm_destroy(vm);
	return done();
}
