/* SPDX-License-Identifier: MIT */
/* Start and meeting of further processors. */
#include "lib/smp.h"

enum { ICR_INIT = 5 << 8, ICR_SIPI = 6 << 8 };

extern uint8_t trampoline[], trampoline_end[];
uint8_t ap_stacks[CPUS_MAX][AP_STACK] __attribute__((aligned(4096)));
static uint8_t ap_ist[CPUS_MAX][2][PAGE] __attribute__((aligned(4096)));
static struct tss ap_tss[CPUS_MAX] __attribute__((aligned(64)));
static void (*volatile ap_function)(unsigned);
static volatile uint32_t ap_up;
static unsigned started; /* by smp_start, the first included */

static void load_tss(unsigned cpu)
{
	struct tss *t = &ap_tss[cpu];
	unsigned slot = FREE_SEL / 8 + 2 * cpu;
	t->ist[IST_DF - 1] = (uint64_t)(ap_ist[cpu][0] + PAGE);
	t->ist[IST_NMI - 1] = (uint64_t)(ap_ist[cpu][1] + PAGE);
	t->io_map = sizeof(*t);
	gdt[slot] = descriptor((uint32_t)(uint64_t)t, sizeof(*t) - 1, 0x89, 0);
	gdt[slot + 1] = 0;
	asm volatile("ltr %w0" : : "r"(8 * slot));
}

_Noreturn void ap_main(unsigned cpu);
_Noreturn void ap_main(unsigned cpu)
{
	const struct descriptor_table idtr = { sizeof(idt) - 1, (uint64_t)idt };
	asm volatile("lidt %0" : : "m"(idtr));
	load_tss(cpu);
	apic_enable();
	__atomic_fetch_add(&ap_up, 1, __ATOMIC_SEQ_CST);
	ap_function(cpu);
	for (;;)
		asm volatile("cli; hlt");
}

void smp_delay(uint64_t cycles)
{
	uint64_t start = rdtsc();
	while (rdtsc() - start < cycles)
		asm volatile("pause");
}

bool smp_await(const volatile uint32_t *value, uint32_t want)
{
	/* The TSC's rate is not known: 1 to 5 GHz. */
	uint64_t start = rdtsc();
	while (*value != want) {
		if (rdtsc() - start > 20000000000)
			return false;
		asm volatile("pause");
	}
	return true;
}

void smp_send(uint8_t destination, uint32_t icr)
{
	apic_write(APIC_ICR_HIGH, (uint32_t)destination << 24);
	apic_write(APIC_ICR, icr);
	while (apic_read(APIC_ICR) & 1 << 12) /* delivery status */
		asm volatile("pause");
}

void smp_init(unsigned cpu)
{
	smp_send((uint8_t)cpu, ICR_INIT | ICR_ASSERT);
}

void smp_sipi(unsigned cpu, uint64_t page)
{
	smp_send((uint8_t)cpu, ICR_SIPI | ICR_ASSERT | (uint32_t)(page / PAGE));
}

unsigned smp_start(unsigned count, void (*function)(unsigned))
{
	memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
	apic_enable();
	ap_function = function;
	ap_up = 0;
	started = count;
	for (unsigned cpu = 1; cpu < count; cpu++)
		smp_init(cpu);
	smp_delay(1000000);
	for (unsigned cpu = 1; cpu < count; cpu++)
		smp_sipi(cpu, TRAMPOLINE);
	smp_await(&ap_up, count - 1);
	return ap_up + 1;
}

void smp_meet(unsigned count)
{
	static volatile uint32_t arrived, round;
	uint32_t mine = round;
	if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == count) {
		arrived = 0;
		__atomic_store_n(&round, mine + 1, __ATOMIC_SEQ_CST);
	}
	while (round == mine)
		asm volatile("pause");
}

/* --- one job after another --- */

static void (*volatile job)(unsigned cpu);

void smp_work(unsigned cpu)
{
	for (;;) {
		smp_meet(started);
		job(cpu);
		smp_meet(started);
	}
}

void smp_begin(void (*function)(unsigned))
{
	job = function;
	smp_meet(started);
}

void smp_end(void)
{
	smp_meet(started);
}

void smp_run(void (*function)(unsigned))
{
	smp_begin(function);
	function(0);
	smp_end();
}
