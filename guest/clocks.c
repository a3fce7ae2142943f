/* SPDX-License-Identifier: MIT */
/* The clocks of the machine against each other: 8254, MC146818 (periodic interrupt and the time of day), local APIC timer, PM timer and TSC, for a
 * minute where the machine's time is its instructions (the TSC then runs at 1 GHz exactly) or the command line says "minute", else for three seconds.
 * Each is to be within a thousandth of the TSC, and one count at the ends. Datasheets of the 8254 and MC146818; SDM 3A 10.5.4; ACPI 4.8.2.1 */
#include "lib/apic.h"
#include "lib/guest.h"

enum { PIT = 0x20, RTC = 0x28, TIMER = 0x60 }; /* vectors */
#define PIT_HZ 1193182ULL
#define PIT_COUNT 11932ULL /* 100 Hz */
#define RTC_HZ 64
#define TIMER_HZ 100
#define PM_PORT 0x608
#define PM_HZ 3579545ULL

static volatile uint64_t ticks[256];
static uint64_t pm_total;
static uint32_t pm_last, pm_mask;

static uint8_t cmos(uint8_t index)
{
	outb(0x70, index);
	return inb(0x71);
}

static bool tick(struct frame *f)
{
	switch (f->vector) {
	case RTC:
		cmos(0x0c);
		outb(0xa0, 0x20);
		/* fallthrough */
	case PIT:
		outb(0x20, 0x20);
		break;
	case TIMER:
		apic_write(APIC_EOI, 0);
		break;
	default:
		return false;
	}
	ticks[f->vector]++;
	return true;
}

static void pm_read(void)
{
	uint32_t now = inl(PM_PORT);
	pm_total += (now - pm_last) & pm_mask;
	pm_last = now;
}

/* Seconds of the hour, when the clock does not change. */
static unsigned time_of_day(void)
{
	while (cmos(0x0a) & 0x80)
		;
	unsigned seconds = cmos(0), minutes = cmos(2), binary = cmos(0x0b) & 4;
	if (!binary) {
		seconds = (seconds >> 4) * 10 + (seconds & 15);
		minutes = (minutes >> 4) * 10 + (minutes & 15);
	}
	return minutes * 60 + seconds;
}

static uint64_t tsc_hz(void)
{
	struct cpuid c = { 0 };
	if (cpuid(0, 0).eax >= 0x15)
		c = cpuid(0x15, 0);
	if (c.eax && c.ebx && c.ecx)
		return (uint64_t)c.ecx * c.ebx / c.eax;
	return cpuid(0x40000000, 0).eax >= 0x40000010 ? cpuid(0x40000010, 0).eax * 1000ULL : 0;
}

static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t low, high;
	asm("mul %3; div %4" : "=&a"(low), "=&d"(high) : "0"(a), "r"(b), "r"(c) : "cc");
	return low;
}

/* To the beginning of a second: by the update-ended interrupt, since instructions would be many. */
static void await_second(void)
{
	outb(0x20, 0x11), outb(0x21, PIT), outb(0x21, 4), outb(0x21, 1), outb(0x21, 0xfa);
	outb(0xa0, 0x11), outb(0xa1, RTC), outb(0xa1, 2), outb(0xa1, 1), outb(0xa1, 0xfe);
	outb(0x70, 0x0a), outb(0x71, 0x2a);
	outb(0x70, 0x0b), outb(0x71, (cmos(0x0b) & 0x0f) | 0x10);
	cmos(0x0c);
	apic_enable();
	apic_write(APIC_LINT0, LVT_EXTINT);
	while (!ticks[RTC])
		asm volatile("sti; hlt; cli" : : : "memory");
	ticks[RTC] = 0;
}

static void start(void)
{
	outb(0x70, 0x0b), outb(0x71, (cmos(0x0b) & 0x0f) | 0x40);
	cmos(0x0c);
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, LVT_PERIODIC | TIMER);
	outb(0x43, 0x34), outb(0x40, PIT_COUNT & 255), outb(0x40, PIT_COUNT >> 8);
	apic_write(APIC_INITIAL, 1000000000 / TIMER_HZ);
}

static void stop(void)
{
	outb(0x21, 0xff);
	apic_write(APIC_TIMER, LVT_MASKED);
	outb(0x70, 0x0b), outb(0x71, cmos(0x0b) & 0x0f);
}

/* `count` at `hz`, nanoseconds by the TSC; `slack` counts may be missing or too many at the ends. */
static void agree(uint64_t count, uint64_t hz_times, uint64_t times, uint64_t ns, unsigned slack, const char *name)
{
	uint64_t want = mul_div(ns, hz_times, times * 1000000000), off = count > want ? count - want : want - count;
	if (off <= slack + want / 1000)
		print("# %s: %lx, by the TSC %lx\n", name, (word_t)count, (word_t)want);
	check(off <= slack + want / 1000, name);
	if (off > slack + want / 1000)
		print("# it counted %lx, and by the TSC it should be %lx\n", (word_t)count, (word_t)want);
}

int main(void)
{
	uint64_t hz = tsc_hz(), from, to, ns;
	bool counted = hz == 1000000000;
	unsigned seconds = counted || asked_for("minute", 6) ? 60 : 3, day;
	unsigned slack = seconds == 60 ? 1 : 20; /* of three, what is owed may still be to come, with time that is the host's */

	if (!hz) {
		skip("clocks", "CPUID does not say how fast the TSC is");
		guest_end();
	}
	trap_handler = tick;
	await_second();
	day = time_of_day();
	pm_last = inl(PM_PORT);
	pm_mask = 0xffffff;
	from = rdtsc();
	start();
	do {
		asm volatile("sti; hlt; cli" : : : "memory");
		pm_read();
	} while (rdtsc() - from < seconds * hz);
	to = rdtsc();
	pm_read();
	uint64_t pit = ticks[PIT], rtc = ticks[RTC], timer = ticks[TIMER];
	stop();
	unsigned gone = (time_of_day() + 3600 - day) % 3600;
	ns = mul_div(to - from, 1000000000, hz);
	print("# %d seconds\n", seconds);
	agree(pm_total, PM_HZ, 1, ns, 100, "the PM timer agrees with the TSC");
	agree(pit, PIT_HZ, PIT_COUNT, ns, slack, "the 8254 agrees with the TSC");
	agree(rtc, RTC_HZ, 1, ns, slack, "the MC146818's periodic interrupt agrees with the TSC");
	agree(timer, TIMER_HZ, 1, ns, slack, "the local APIC timer agrees with the TSC");
	agree(gone, 1, 1, ns, 1, "the time of day agrees with the TSC");
	guest_end();
}
