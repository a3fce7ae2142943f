/* SPDX-License-Identifier: MIT */
/* How soon an interrupt is taken by a processor that runs a tight loop: instructions of the loop between the moment at which another processor
 * asks for it and its handler, by a counter that the loop keeps in memory. A translator that chains blocks must leave them for it. */
#include "lib/smp.h"

#define VECTOR 0x41
#define SAMPLES 500

static volatile uint64_t count; /* of iterations */
static volatile uint32_t taken, stop, stopped;
static volatile uint64_t taken_at, taken_tsc;
static void (*volatile loop)(void);

/* 3 instructions an iteration */
static NAKED void loop_tight(void)
{
	asm volatile("1: incq count(%rip); cmpl $0, stop(%rip); je 1b; ret");
}

/* 11 instructions an iteration, by calls, returns and an indirect jump */
static NAKED void loop_calls(void)
{
	asm volatile("1: incq count(%rip); lea 3f(%rip), %rax; call 2f; cmpl $0, stop(%rip); je 1b; ret\n"
		     "2: nop; jmp *%rax; nop\n"
		     "3: nop; nop; ret");
}

/* 122 instructions an iteration, one block behind the other without a jump */
static NAKED void loop_long(void)
{
	asm volatile("1: incq count(%rip)\n .rept 120\n add $1, %eax\n .endr\n cmpl $0, stop(%rip); je 1b; ret");
}

static bool on_interrupt(struct frame *f)
{
	if (f->vector != VECTOR)
		return false;
	taken_at = count;
	taken_tsc = rdtsc();
	apic_write(APIC_EOI, 0);
	taken = 1;
	return true;
}

static void worker(unsigned cpu)
{
	asm volatile("sti");
	loop();
	asm volatile("cli");
	stopped = 1;
}

static void sort(uint64_t *a, unsigned n)
{
	for (unsigned i = 1; i < n; i++)
		for (unsigned k = i; k && a[k - 1] > a[k]; k--) {
			uint64_t t = a[k];
			a[k] = a[k - 1];
			a[k - 1] = t;
		}
}

static void measure(void (*function)(void), unsigned instructions, const char *name)
{
	static uint64_t delay[SAMPLES], cycles[SAMPLES];
	unsigned n;

	loop = function;
	count = stop = stopped = 0;
	if (smp_start(2, worker) != 2) {
		check(false, "the second processor starts");
		return;
	}
	while (count < 1000)
		asm volatile("pause");
	for (n = 0; n < SAMPLES; n++) {
		taken = 0;
		smp_delay(20000 + n * 37 % 5000);
		uint64_t tsc = rdtsc(), at = count;
		smp_send(1, ICR_ASSERT | VECTOR);
		if (!smp_await(&taken, 1))
			break;
		delay[n] = (taken_at - at) * instructions;
		cycles[n] = taken_tsc - tsc;
	}
	stop = 1;
	check(n == SAMPLES && smp_await(&stopped, 1), join(name, ": each interrupt is taken"));
	sort(delay, n);
	sort(cycles, n);
	print("# %s: instructions until an interrupt is taken: median %d, 99th percentile %d; cycles of the TSC: %d, %d\n", name, (int)delay[n / 2],
	      (int)delay[n * 99 / 100], (int)cycles[n / 2], (int)cycles[n * 99 / 100]);
	/* The 99th percentile also tells of hosts that are busy: that is for people to read. */
	check(delay[n / 2] <= 10000, join(name, ": the median is within 10000 instructions"));
}

int main(void)
{
	trap_handler = on_interrupt;
	measure(loop_tight, 3, "a tight loop");
	measure(loop_calls, 11, "a loop of calls and indirect jumps");
	measure(loop_long, 123, "a loop of long blocks");
	guest_end();
}
