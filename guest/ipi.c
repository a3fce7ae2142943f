/* SPDX-License-Identifier: MIT */
/* Four processors: interrupts between them, page tables and code that another one changes, each one's timer. SDM 3A chapter 8, 10.6 */
#include "lib/smp.h"

#define CPUS 4
#define REMAPPED 0x8000000000ULL /* a page that is at other places by and by */

enum { V_COUNT = 0x40, V_SHOOT, V_TIMER, V_SYNC, V_LOW };
enum { LDR = 0xd0, DFR = 0xe0 };
enum { ICR_LOGICAL = 1 << 11, ICR_LOWEST = 1 << 8, ICR_ALL = 2 << 18, ICR_OTHERS = 3 << 18 };

/* --- interrupts --- */

static volatile uint32_t taken[CPUS][256];
static volatile uint32_t acknowledged;

static bool on_interrupt(struct frame *f)
{
	unsigned cpu = cpu_index();
	if (f->vector == NMI) {
		taken[cpu][NMI]++;
		return true;
	}
	if (f->vector < 32 || f->vector == VECTOR_RETURN)
		return false;
	taken[cpu][f->vector]++;
	if (f->vector == V_SHOOT)
		invlpg(REMAPPED);
	if (f->vector == V_SHOOT || f->vector == V_SYNC)
		__atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
	if (f->vector != SPURIOUS)
		apic_write(APIC_EOI, 0);
	return true;
}

static volatile bool leave;

/* Waits for interrupts until told to leave: half of the processors asleep, half running. */
static void job_listen(unsigned cpu)
{
	apic_write(LDR, 1u << (24 + cpu));
	apic_write(DFR, 0xffffffff);
	asm volatile("sti");
	__atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
	while (!leave) {
		if (cpu & 1)
			asm volatile("cli; cmpb $0, %0; jne 1f; sti; hlt; 1: sti" : : "m"(leave) : "cc");
		else
			asm volatile("pause");
	}
	asm volatile("cli");
}

/* With the others in job_listen: a test on processor 0, which also takes interrupts. */
static void listening(void (*test)(void))
{
	acknowledged = 0;
	leave = false;
	trap_handler = on_interrupt;
	smp_begin(job_listen);
	smp_await(&acknowledged, CPUS - 1);
	apic_write(LDR, 1u << 24);
	apic_write(DFR, 0xffffffff);
	asm volatile("sti");
	test();
	leave = true;
	smp_send(0, ICR_OTHERS | ICR_ASSERT | V_SYNC);
	asm volatile("cli");
	smp_end();
	trap_handler = NULL;
}

static uint32_t total(unsigned vector)
{
	uint32_t sum = 0;
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		sum += taken[cpu][vector];
	return sum;
}

/* Sends often; each processor of `mask` must take each one. */
static void expect(uint8_t destination, uint32_t icr, unsigned mask, const char *name)
{
	unsigned vector = icr & 0x700 ? NMI : V_COUNT, times = 200, here = 0, got = 0, wanted = 0;
	memset((void *)taken, 0, sizeof(taken));
	for (unsigned n = 1; n <= times; n++) {
		smp_send(destination, icr | ICR_ASSERT | (vector == NMI ? 0 : vector));
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			if (mask >> cpu & 1 && !smp_await(&taken[cpu][vector], n))
				n = times;
	}
	smp_delay(1000000);
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		here += taken[cpu][vector];
		wanted += mask >> cpu & 1;
		got |= (unsigned)(taken[cpu][vector] == times) << cpu;
	}
	check(got == mask && here == times * wanted, name);
}

static void ipis(void)
{
	expect(0, 0, 1, "IPI to the physical ID 0");
	expect(1, 0, 2, "IPI to the physical ID 1");
	expect(2, 0, 4, "IPI to the physical ID 2");
	expect(3, 0, 8, "IPI to the physical ID 3");
	expect(0xff, 0, 15, "IPI to all by the physical ID 255");
	expect(0, ICR_SELF, 1, "IPI by the shorthand: self");
	expect(0, ICR_ALL, 15, "IPI by the shorthand: all");
	expect(0, ICR_OTHERS, 14, "IPI by the shorthand: all but self");
	expect(0x01, ICR_LOGICAL, 1, "IPI to a logical destination: one");
	expect(0x0a, ICR_LOGICAL, 10, "IPI to a logical destination: two");
	expect(0xff, ICR_LOGICAL, 15, "IPI to a logical destination: all");
	expect(1, ICR_NMI, 2, "NMI to one that sleeps");
	expect(2, ICR_NMI, 4, "NMI to one that runs");
	expect(0, ICR_NMI | ICR_OTHERS, 14, "NMI to all others");
	memset((void *)taken, 0, sizeof(taken));
	for (unsigned n = 1; n <= 200; n++) {
		uint64_t start = rdtsc();
		smp_send(0x0e, ICR_LOGICAL | ICR_LOWEST | ICR_ASSERT | V_LOW);
		while (total(V_LOW) != n && rdtsc() - start < 5000000000)
			asm volatile("pause");
	}
	smp_delay(1000000);
	check(total(V_LOW) == 200 && !taken[0][V_LOW], "lowest priority: one of those that are named takes it");
	memset((void *)taken, 0, sizeof(taken));
	smp_send(0x10, ICR_LOGICAL | ICR_ASSERT | V_COUNT);
	smp_send(0x60, ICR_ASSERT | V_COUNT);
	smp_delay(1000000);
	check_equal(total(V_COUNT), 0, "IPI to nobody");
}

/* The cluster model: four clusters of four. SDM 3A 10.6.2.2 */
static void job_cluster(unsigned cpu)
{
	apic_write(DFR, 0x0fffffff);
	apic_write(LDR, (cpu / 2 << 4 | 1u << cpu % 2) << 24);
	asm volatile("sti");
	__atomic_fetch_add(&acknowledged, 1, __ATOMIC_SEQ_CST);
	while (!leave)
		asm volatile("pause");
	asm volatile("cli");
	apic_write(DFR, 0xffffffff);
}

static void test_clusters(void)
{
	acknowledged = 0;
	leave = false;
	trap_handler = on_interrupt;
	smp_begin(job_cluster);
	smp_await(&acknowledged, CPUS - 1);
	apic_write(DFR, 0x0fffffff);
	apic_write(LDR, 0x01 << 24);
	asm volatile("sti");
	expect(0x03, ICR_LOGICAL, 3, "IPI to both of the first cluster");
	expect(0x12, ICR_LOGICAL, 8, "IPI to one of the second cluster");
	expect(0x13, ICR_LOGICAL, 12, "IPI to both of the second cluster");
	expect(0xff, ICR_LOGICAL, 15, "IPI to all clusters");
	leave = true;
	asm volatile("cli");
	smp_end();
	apic_write(DFR, 0xffffffff);
	trap_handler = NULL;
}

/* Each sends to each, all at once. */
static void job_storm(unsigned cpu)
{
	asm volatile("sti");
	for (unsigned n = 0; n < 2000; n++) {
		unsigned to = (cpu + n) % CPUS;
		uint32_t before = taken[to][V_SYNC + 1 + cpu];
		smp_send((uint8_t)to, ICR_ASSERT | (V_SYNC + 1 + cpu));
		smp_await(&taken[to][V_SYNC + 1 + cpu], before + 1);
	}
	smp_meet(CPUS);
	asm volatile("cli");
}

static void test_storm(void)
{
	memset((void *)taken, 0, sizeof(taken));
	trap_handler = on_interrupt;
	smp_run(job_storm);
	trap_handler = NULL;
	bool all = true;
	for (unsigned to = 0; to < CPUS; to++)
		for (unsigned from = 0; from < CPUS; from++)
			all &= taken[to][V_SYNC + 1 + from] == 2000 / CPUS;
	check(all, "IPIs from each to each");
}

/* --- page tables and code that another processor changes --- */

static volatile uint32_t shoot_round, stale;
static volatile bool over;

/* After the others acknowledged, nobody sees the old page. */
static void job_shoot(unsigned cpu)
{
	asm volatile("sti");
	if (cpu == 0) {
		uint8_t *pages[4] = { page_alloc(), page_alloc(), page_alloc(), page_alloc() };
		for (uint32_t n = 1; n <= 500; n++) {
			*(volatile uint32_t *)pages[n & 3] = n;
			*entry_of(REMAPPED, 1) = (uint64_t)pages[n & 3] | PTE_P | PTE_W;
			invlpg(REMAPPED);
			acknowledged = 0;
			smp_send(0, ICR_OTHERS | ICR_ASSERT | V_SHOOT);
			if (!smp_await(&acknowledged, CPUS - 1))
				stale++;
			shoot_round = n;
		}
		over = true;
	} else {
		while (!over) {
			uint32_t at_least = shoot_round;
			asm volatile("" : : : "memory");
			if (*(volatile uint32_t *)REMAPPED < at_least)
				__atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
		}
	}
	asm volatile("cli");
}

static uint8_t *code;
static volatile uint32_t version, done[CPUS];

static void job_modify(unsigned cpu)
{
	for (uint32_t n = 1; n <= 1000; n++) {
		uint32_t value;
		if (cpu == 0) {
			*(volatile uint32_t *)(code + 1) = n;
			__atomic_store_n(&version, n, __ATOMIC_SEQ_CST);
		} else {
			smp_await(&version, n);
		}
		cpuid(0, 0); /* SDM 3A 8.1.3: the one that runs it serializes */
		asm volatile("call *%1" : "=a"(value) : "r"(code) : "memory");
		if (value != n)
			__atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
		smp_meet(CPUS);
	}
}

/* Nobody waits: what runs is the old or the new, and in the end the new. Half of one and half of the other shows, too. */
static void job_patch(unsigned cpu)
{
	uint32_t value, last = 0;
	if (cpu == 0) {
		for (uint32_t n = 1; n <= 20000; n++)
			*(volatile uint32_t *)(code + 4) = n << 16 | n; /* aligned: the immediate stands at 4 */
		over = true;
		return;
	}
	bool end;
	do {
		end = over;
		cpuid(0, 0);
		asm volatile("call *%1" : "=a"(value) : "r"(code + 3) : "memory");
		if (value < last || value >> 16 != (value & 0xffff) || (end && (value & 0xffff) != 20000))
			__atomic_fetch_add(&stale, 1, __ATOMIC_SEQ_CST);
		last = value;
	} while (!end);
}

static void test_changes(void)
{
	trap_handler = on_interrupt;
	map(REMAPPED, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	over = false;
	smp_run(job_shoot);
	trap_handler = NULL;
	check_equal(stale, 0, "TLB shootdown by IPI");
	code = page_alloc();
	code[0] = 0xb8; /* mov eax, imm32; ret */
	code[5] = 0xc3;
	stale = 0;
	smp_run(job_modify);
	check_equal(stale, 0, "code that another processor changed, after CPUID");
	code[3] = 0xb8;
	*(uint32_t *)(code + 4) = 0;
	code[8] = 0xc3;
	over = false;
	smp_run(job_patch);
	check_equal(stale, 0, "code that changes while it runs is old or new");
}

/* --- timers --- */

static void job_timer(unsigned cpu)
{
	asm volatile("sti");
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, V_TIMER);
	apic_write(APIC_INITIAL, 100000 * (cpu + 1));
	smp_await(&taken[cpu][V_TIMER], 1);
	apic_write(APIC_TIMER, V_TIMER | LVT_PERIODIC);
	apic_write(APIC_INITIAL, 100000 * (cpu + 1));
	/* asleep, all at once */
	while (taken[cpu][V_TIMER] < 20)
		asm volatile("cli; cmpl $20, %0; jae 1f; sti; hlt; 1: sti" : : "m"(taken[cpu][V_TIMER]) : "cc");
	apic_write(APIC_TIMER, V_TIMER | LVT_MASKED);
	apic_write(APIC_INITIAL, 0);
	asm volatile("cli");
}

static void test_timers(void)
{
	memset((void *)taken, 0, sizeof(taken));
	trap_handler = on_interrupt;
	smp_run(job_timer);
	trap_handler = NULL;
	bool all = true;
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		all &= taken[cpu][V_TIMER] >= 20;
	check(all, "each processor has a timer of its own");
}

int main(void)
{
	unsigned up = smp_start(CPUS, smp_work);

	check_equal(up, CPUS, "INIT and SIPI start all processors");
	if (up != CPUS)
		guest_end();
	listening(ipis);
	test_clusters();
	test_storm();
	test_changes();
	test_timers();
	return 0;
}
