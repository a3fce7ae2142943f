/* SPDX-License-Identifier: MIT */
/* The MC146818A against its datasheet: formats, the update cycle with UIP, SET, divider, alarm, periodic rates,
 * flags, CMOS. */
#include "machine.h"

#define IRQ 8
static const struct device_place places[] = { { .class = &mc146818_class, .name = "rtc", .base = 0x70, .irq = IRQ } };
static struct vm *vm;

enum { SEC, SEC_ALARM, MIN_, MIN_ALARM, HOUR, HOUR_ALARM, WEEKDAY, DAY, MONTH, YEAR, A, B, C, D, CENTURY = 0x32 };

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 1);
}

static uint8_t get(uint8_t index)
{
	out8(vm, 0x70, index);
	return in8(vm, 0x71);
}

static void put(uint8_t index, uint8_t value)
{
	out8(vm, 0x70, index | 0x80);
	out8(vm, 0x71, value);
}

static bool is(uint8_t century, uint8_t year, uint8_t month, uint8_t day, uint8_t hour, uint8_t minute, uint8_t second)
{
	return get(CENTURY) == century && get(YEAR) == year && get(MONTH) == month && get(DAY) == day &&
		get(HOUR) == hour &&
	       get(MIN_) == minute && get(SEC) == second;
}

static void set(uint8_t century, uint8_t year, uint8_t month, uint8_t day, uint8_t hour, uint8_t minute, uint8_t second)
{
	uint8_t b = get(B);
	put(B, b | 0x80);
	put(CENTURY, century), put(YEAR, year), put(MONTH, month), put(DAY, day), put(HOUR, hour), put(MIN_, minute),
		put(SEC, second);
	put(B, b);
}

static void reading(void)
{
	fresh();
	ok(is(0x20, 0x24, 0x01, 0x01, 0, 0, 0) && get(WEEKDAY) == 2, "rtc: the date, Monday 1 January 2024");
	ok(get(A) == 0x26 && get(B) == 0x02 && get(D) == 0x80 && in8(vm, 0x70) == 0xff,
	   "rtc: registers after power-up");
	clock_step(vm, 59 * SECOND);
	ok(is(0x20, 0x24, 0x01, 0x01, 0, 0, 0x59), "rtc: BCD");
	clock_step(vm, SECOND);
	ok(get(SEC) == 0 && get(MIN_) == 1, "rtc: a minute");
	put(B, 0x06);
	clock_step(vm, 13ULL * 3600 * SECOND + 44 * 60 * SECOND);
	ok(is(20, 24, 1, 1, 13, 45, 0), "rtc: binary");
	put(B, 0x04);
	ok(get(HOUR) == 0x81, "rtc: binary, 12 hours: 1 PM");
	put(B, 0x00);
	clock_step(vm, 11 * 3600 * SECOND);
	ok(get(HOUR) == 0x12 && get(DAY) == 2, "rtc: BCD, 12 hours: 12 AM");
	clock_step(vm, 12 * 3600 * SECOND);
	ok(get(HOUR) == 0x92, "rtc: 12 PM");
}

static void setting(void)
{
	fresh();
	set(0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59);
	ok(is(0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x59), "rtc: set");
	clock_step(vm, SECOND);
	ok(is(0x20, 0x24, 0x02, 0x29, 0, 0, 0), "rtc: a leap year");
	set(0x20, 0x99, 0x12, 0x31, 0x23, 0x59, 0x59);
	clock_step(vm, SECOND);
	ok(is(0x21, 0x00, 0x01, 0x01, 0, 0, 0), "rtc: the century");
	set(0x19, 0x00, 0x02, 0x28, 0x23, 0x59, 0x59);
	clock_step(vm, SECOND);
	ok(is(0x19, 0x00, 0x03, 0x01, 0, 0, 0), "rtc: 1900 is no leap year");
	put(B, 0x82);
	clock_step(vm, 10 * SECOND);
	ok(get(SEC) == 0 && !(get(A) & 0x80), "rtc: SET holds it");
	put(SEC, 0x30);
	clock_step(vm, 10 * SECOND);
	ok(get(SEC) == 0x30, "rtc: and takes writes");
	put(B, 0x02);
	clock_step(vm, 2 * SECOND);
	ok(get(SEC) == 0x32, "rtc: it goes on from there");
	put(WEEKDAY, 7);
	clock_step(vm, 24ULL * 3600 * SECOND);
	ok(get(WEEKDAY) == 1, "rtc: the weekday is the guest's");
	put(A, 0x76);
	uint8_t second = get(SEC);
	clock_step(vm, 5 * SECOND);
	ok(get(SEC) == second, "rtc: the divider in reset stops it");
	put(A, 0x26);
	clock_step(vm, SECOND / 2 - 1);
	bool before = get(SEC) == second;
	clock_step(vm, 1);
	ok(before && get(SEC) == second + 1, "rtc: the first update comes half a second after");
	set(0x99, 0x99, 0x99, 0x99, 0x99, 0x99, 0x99);
	clock_step(vm, 3 * SECOND);
	get(SEC);
	ok(true, "rtc: nonsense is survived");
}

static void updates(void)
{
	fresh();
	get(C);
	clock_step(vm, SECOND - 2228001);
	ok(!(get(A) & 0x80), "rtc: 2228 us before the update UIP is clear");
	clock_step(vm, 1);
	ok((get(A) & 0x80) && get(SEC) == 0, "rtc: then it is set");
	clock_step(vm, 2227999);
	ok(get(A) & 0x80 && !(get(C) & 0x10), "rtc: until the end of the update");
	clock_step(vm, 1);
	ok(!(get(A) & 0x80) && get(SEC) == 1 && get(C) == 0x50, "rtc: UF is set without its interrupt (PF too)");
	ok(get(C) == 0 && !line_level[IRQ], "rtc: C is cleared by reading");
	put(B, 0x12);
	clock_step(vm, SECOND);
	ok(line_level[IRQ] && (get(C) & 0x90) == 0x90 && !line_level[IRQ], "rtc: update-ended interrupt");
	put(B, 0x92);
	ok(get(B) == 0x82, "rtc: SET clears UIE");
	put(B, 0x02);
}

static void alarms(void)
{
	fresh();
	set(0x20, 0x24, 0x05, 0x05, 0x10, 0x00, 0x00);
	put(SEC_ALARM, 0x05), put(MIN_ALARM, 0x01), put(HOUR_ALARM, 0x10);
	put(B, 0x22);
	get(C);
	clock_step(vm, 64 * SECOND);
	ok(!line_edges[IRQ] && !(get(C) & 0x20), "rtc: not yet");
	clock_step(vm, SECOND);
	ok(line_level[IRQ] && (get(C) & 0xa0) == 0xa0, "rtc: alarm at 10:01:05");
	put(MIN_ALARM, 0xff), put(HOUR_ALARM, 0xc0);
	unsigned before = line_edges[IRQ];
	for (unsigned i = 0; i < 180; i++) {
		clock_step(vm, SECOND);
		get(C);
	}
	ok(line_edges[IRQ] == before + 3, "rtc: once a minute, with don't care bytes");
}

static void periodic(void)
{
	static const unsigned hz[16] = { 0, 256, 128, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 8, 4, 2 };
	bool exact = true;
	for (unsigned rate = 1; rate < 16; rate++) {
		fresh();
		put(A, 0x20 | rate);
		put(B, 0x42);
		unsigned before = line_edges[IRQ];
		for (unsigned i = 0; i < 2 * hz[rate]; i++) {
			clock_step(vm, (i + 1) * SECOND / hz[rate] + 1 - clock_now(vm));
			exact &= (get(C) & 0xc0) == 0xc0;
		}
		exact &= line_edges[IRQ] - before == 2 * hz[rate];
	}
	ok(exact, "rtc: fifteen periodic rates");
	put(A, 0x20);
	put(B, 0x42);
	get(C);
	clock_step(vm, SECOND / 2);
	ok(!(get(C) & 0x40), "rtc: rate 0 is none");
	put(A, 0x2f);
	put(B, 0x02);
	get(C);
	clock_step(vm, SECOND);
	ok((get(C) & 0xc0) == 0x40 && !line_level[IRQ], "rtc: PF without PIE");
	put(B, 0x72);
	clock_step(vm, 2 * SECOND);
	device_reset_all(vm, RESET_WARM);
	ok(get(B) == 0x02 && !line_level[IRQ] && get(C) == 0, "rtc: reset disables the interrupts, and only them");
}

static void memory(void)
{
	fresh();
	ok(get(0x15) == 0x80 && get(0x16) == 0x02, "rtc: 640 KiB of base memory");
	ok((get(0x17) | get(0x18) << 8) == 63 * 1024 && (get(0x30) | get(0x31) << 8) == 63 * 1024,
	   "rtc: extended memory");
	ok((get(0x34) | get(0x35) << 8) == 48 * 16, "rtc: memory above 16 MiB");
	unsigned sum = 0;
	for (unsigned i = 0x10; i < 0x2e; i++)
		sum += get(i);
	ok(get(0x2e) == sum >> 8 && get(0x2f) == (sum & 0xff), "rtc: checksum");
	put(0x7f, 0xa5);
	put(0x0e, 0x11);
	device_reset_all(vm, RESET_COLD);
	ok(get(0x7f) == 0xa5 && get(0x0e) == 0x11, "rtc: the RAM keeps through a reset");
}

static void round_trip(void)
{
	fresh();
	set(0x20, 0x30, 0x06, 0x07, 0x08, 0x09, 0x10);
	put(SEC_ALARM, 0x15), put(MIN_ALARM, 0xc0), put(HOUR_ALARM, 0xc0);
	put(A, 0x2f);
	put(B, 0x62);
	clock_step(vm, 300 * MILLISECOND);
	out8(vm, 0x70, SEC);
	struct vm *one = vm, *two = machine(1, places, 1);
	ok(copy_state(one, two) && same_state(one, two), "rtc: state loads");
	vm = two;
	ok(in8(vm, 0x71) == 0x10, "rtc: the index and the time");
	clock_step(vm, 200 * MILLISECOND);
	ok(line_level[IRQ] && get(C) == 0xc0, "rtc: the period goes on");
	clock_step(vm, 4499 * MILLISECOND);
	ok(!(get(C) & 0x20), "rtc: the alarm of the old machine");
	clock_step(vm, MILLISECOND);
	ok(get(C) & 0x20, "rtc: rings in the new one");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned i = 0; i < 16; i++)
		get(i);
	clock_step(vm, MILLISECOND);
	put(B, 0x02);
	clock_step(vm, 3 * SECOND);
	put(B, 0x82);
	put(B, 0x42);
	clock_step(vm, 10 * MILLISECOND);
	get(CENTURY);
}

int main(void)
{
	reading();
	setting();
	updates();
	alarms();
	periodic();
	memory();
	round_trip();
	fresh();
	abuse_state(vm, "rtc", use);
	vm_destroy(vm);
	return done();
}
