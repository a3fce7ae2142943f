/* SPDX-License-Identifier: MIT */
/* Four processors at once: start-up, atomic instructions, ordering, code and page tables that another one changes, interrupts
 * between them, each one's timer. SDM 3A chapter 8, 10.6 */
#include "lib/smp.h"

#define CPUS 4
#define BSP BIT(8)
#define MSR_APIC_BASE 0x1b
#define CROSSING 0x8000000000ULL /* two pages side by side that are not so in memory; also what is mapped anew */

enum { V_COUNT = 0x40, V_SHOOT, V_TIMER, V_SYNC, V_LOW };
enum { LDR = 0xd0, DFR = 0xe0 };
enum { ICR_LOGICAL = 1 << 11, ICR_LOWEST = 1 << 8, ICR_ALL = 2 << 18, ICR_OTHERS = 3 << 18 };

/* --- one job after another, on all processors --- */

static void (*volatile job)(unsigned cpu);

static void work(unsigned cpu)
{
	for (;;) {
		smp_meet(CPUS);
		job(cpu);
		smp_meet(CPUS);
	}
}

static void run(void (*function)(unsigned))
{
	job = function;
	smp_meet(CPUS);
	function(0);
	smp_meet(CPUS);
}

/* --- start-up --- */

static volatile uint64_t started_base[CPUS];
static volatile uint32_t ran[CPUS];

static void report(unsigned cpu)
{
	started_base[cpu] = rdmsr(MSR_APIC_BASE);
	ran[cpu]++;
}

static volatile uint32_t turning;

static void turn(unsigned cpu)
{
	for (;;)
		turning++;
}

static void test_start(void)
{
	unsigned up = smp_start(CPUS, report);
	check_equal(up, CPUS, "INIT and SIPI start all processors");
	if (up != CPUS)
		guest_end();
	check(smp_await(&ran[1], 1) && smp_await(&ran[2], 1) && smp_await(&ran[3], 1), "each with its own APIC ID");
	check((rdmsr(MSR_APIC_BASE) & BSP) && !((started_base[1] | started_base[2] | started_base[3]) & BSP),
	      "the first one alone has the BSP flag");
	smp_sipi(1, TRAMPOLINE);
	smp_delay(10000000);
	check_equal(ran[1], 1, "SIPI does nothing to a processor that runs");
	check_equal(smp_start(2, turn), 2, "INIT stops one that halts with interrupts off");
	uint64_t start = rdtsc();
	uint32_t before = turning;
	while (turning == before && rdtsc() - start < 20000000000)
		asm volatile("pause");
	check(turning != before, "a processor runs by itself");
	smp_init(1);
	smp_delay(200000000); /* the host may have something else to do */
	before = turning;
	smp_delay(200000000);
	check_equal(turning, before, "INIT stops one that runs");
	check_equal(smp_start(CPUS, work), CPUS, "all can be started again");
}

/* --- atomic instructions --- */

#define ROUNDS 20000

static struct {
	volatile uint64_t count, pair[2] __attribute__((aligned(16)));
	volatile uint64_t torn;
} shared __attribute__((aligned(64)));
static uint8_t line[128] __attribute__((aligned(64)));

#define LOCKED(instruction, to, ...) asm volatile("lock " instruction : "+m"(to) : __VA_ARGS__ : "memory", "cc")

static void job_xadd(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t one = 1;
		asm volatile("lock xaddq %0, %1" : "+r"(one), "+m"(shared.count) : : "memory", "cc");
	}
}

static void job_inc(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS; n++)
		LOCKED("incq %0", shared.count, "r"(0));
}

static void job_bytes(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS; n++)
		LOCKED("addb %1, %0", *((volatile uint8_t *)&shared.count + (n & 7)), "q"((uint8_t)1));
}

static void job_cmpxchg(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t old = shared.count;
		bool done;
		do
			asm volatile("lock cmpxchgq %3, %1" : "+a"(old), "+m"(shared.count), "=@ccz"(done) : "r"(old + 1) : "memory");
		while (!done);
	}
}

static void job_cmpxchg16(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint64_t low = shared.pair[0], high = shared.pair[1];
		bool done;
		do
			asm volatile("lock cmpxchg16b %2"
				     : "+a"(low), "+d"(high), "+m"(shared.pair), "=@ccz"(done)
				     : "b"(low + 1), "c"(high - 1) : "memory");
		while (!done);
	}
}

static void job_cmpxchg8(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint32_t low = (uint32_t)shared.count, high = (uint32_t)(shared.count >> 32);
		bool done;
		do {
			uint64_t next = ((uint64_t)high << 32 | low) + 1;
			asm volatile("lock cmpxchg8b %2" : "+a"(low), "+d"(high), "+m"(shared.count), "=@ccz"(done)
				     : "b"((uint32_t)next), "c"((uint32_t)(next >> 32)) : "memory");
		} while (!done);
	}
}

/* The count itself is changed by plain instructions. */
static void job_xchg(unsigned cpu)
{
	static volatile uint32_t lock;
	for (unsigned n = 0; n < ROUNDS; n++) {
		uint32_t taken = 1;
		do
			asm volatile("xchgl %0, %1" : "+r"(taken), "+m"(lock) : : "memory");
		while (taken);
		shared.count = shared.count + 1;
		asm volatile("" : : : "memory");
		lock = 0;
	}
}

static void job_bts(unsigned cpu)
{
	static volatile uint32_t lock;
	for (unsigned n = 0; n < ROUNDS; n++) {
		bool taken;
		do
			asm volatile("lock btsl $7, %1" : "=@ccc"(taken), "+m"(lock) : : "memory");
		while (taken);
		shared.count = shared.count + 1;
		LOCKED("btrl $7, %0", lock, "r"(0));
	}
}

static volatile uint64_t *split;

static void job_split(unsigned cpu)
{
	for (unsigned n = 0; n < ROUNDS / 10; n++) {
		uint64_t one = 1;
		if (cpu & 1)
			LOCKED("addq %1, %0", *split, "r"(one));
		else
			asm volatile("lock xaddq %0, %1" : "+r"(one), "+m"(*split) : : "memory", "cc");
	}
}

static void test_atomic(void)
{
	static const struct {
		const char *name;
		void (*job)(unsigned);
	} tests[] = { { "LOCK XADD", job_xadd }, { "LOCK INC", job_inc }, { "LOCK CMPXCHG", job_cmpxchg }, { "LOCK CMPXCHG8B", job_cmpxchg8 },
		      { "a lock by XCHG", job_xchg }, { "a lock by LOCK BTS", job_bts } };
	for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
		shared.count = 0;
		run(tests[t].job);
		check_equal(shared.count, CPUS * ROUNDS, join(tests[t].name, ": every one counts"));
	}
	/* 10000 additions each to eight bytes, none of which carries into the next: 10000 mod 256 is 16 */
	shared.count = 0;
	run(job_bytes);
	check_equal(shared.count, 0x0101010101010101 * (CPUS * ROUNDS / 8 % 256), "LOCK ADD to bytes side by side");
	shared.pair[0] = 0;
	shared.pair[1] = 0;
	run(job_cmpxchg16);
	check(shared.pair[0] == CPUS * ROUNDS && shared.pair[1] == -(uint64_t)CPUS * ROUNDS, "LOCK CMPXCHG16B: every one counts in both halves");
	/* Both pages beside each other, but not in memory. */
	void *second = page_alloc(), *first = page_alloc();
	map(CROSSING, (uint64_t)first, PTE_P | PTE_W, 1);
	map(CROSSING + PAGE, (uint64_t)second, PTE_P | PTE_W, 1);
	split = (volatile uint64_t *)(line + 61);
	run(job_split);
	check_equal(*split, CPUS * (ROUNDS / 10), "a lock across cache lines: every one counts");
	for (unsigned bytes = 1; bytes < 8; bytes += 3) {
		split = (volatile uint64_t *)(CROSSING + PAGE - bytes);
		*split = 0xffff; /* it carries across the border */
		run(job_split);
		check_equal(*split, CPUS * (ROUNDS / 10) + 0xffff, "a lock across pages: every one counts");
	}
}

/* --- what others see, and in which order. SDM 3A 8.2 --- */

static volatile uint64_t word, flag, left, right, seen[2];

static void job_tear(unsigned cpu)
{
	if (cpu == 0) {
		for (unsigned n = 0; n < 50000; n++)
			word = n & 1 ? ~0ULL : 0;
		flag = 1;
	} else {
		while (!flag) {
			uint64_t value = word;
			if (value && value != ~0ULL)
				shared.torn = shared.torn + 1;
		}
	}
}

/* Stores are seen in their order, loads are done in theirs. */
static void job_message(unsigned cpu)
{
	if (cpu == 0) {
		for (uint64_t n = 1; n <= 50000; n++) {
			left = n;
			right = n;
		}
	} else {
		uint64_t b;
		do {
			b = right;
			if (left < b)
				shared.torn = shared.torn + 1;
		} while (b != 50000);
	}
}

/* With a fence between store and load, one of two sees the other's store. */
static void job_fence(unsigned cpu)
{
	for (unsigned n = 0; n < 5000; n++) {
		if (cpu == 0)
			left = right = 0;
		smp_meet(CPUS);
		if (cpu == 0) {
			left = 1;
			asm volatile("mfence" : : : "memory");
			seen[0] = right;
		} else if (cpu == 1) {
			right = 1;
			LOCKED("orq $0, %0", word, "r"(0));
			seen[1] = left;
		}
		smp_meet(CPUS);
		if (cpu == 0 && !seen[0] && !seen[1])
			shared.torn = shared.torn + 1;
	}
}

/* The TSC does not go back from one processor to the next. */
static void job_tsc(unsigned cpu)
{
	for (unsigned n = 0; n < 4000; n++) {
		while ((flag & 3) != cpu)
			asm volatile("pause");
		asm volatile("lfence" : : : "memory");
		uint64_t now = rdtsc();
		if (now < word)
			shared.torn = shared.torn + 1;
		word = now;
		flag = flag + 1;
	}
}

static void test_order(void)
{
	static const struct {
		const char *name;
		void (*job)(unsigned);
	} tests[] = { { "an aligned store is seen whole", job_tear }, { "stores are seen in order", job_message },
		      { "a fence orders a store before a load", job_fence }, { "time does not go back between processors", job_tsc } };
	for (unsigned t = 0; t < ARRAY_SIZE(tests); t++) {
		word = flag = left = right = shared.torn = 0;
		run(tests[t].job);
		check_equal(shared.torn, 0, tests[t].name);
	}
}

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
		invlpg(CROSSING);
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
	job = job_listen;
	smp_meet(CPUS);
	smp_await(&acknowledged, CPUS - 1);
	apic_write(LDR, 1u << 24);
	apic_write(DFR, 0xffffffff);
	asm volatile("sti");
	test();
	leave = true;
	smp_send(0, ICR_OTHERS | ICR_ASSERT | V_SYNC);
	asm volatile("cli");
	smp_meet(CPUS);
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
	job = job_cluster;
	smp_meet(CPUS);
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
	smp_meet(CPUS);
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
	run(job_storm);
	trap_handler = NULL;
	bool all = true;
	for (unsigned to = 0; to < CPUS; to++)
		for (unsigned from = 0; from < CPUS; from++)
			all &= taken[to][V_SYNC + 1 + from] == 2000 / CPUS;
	check(all, "IPIs from each to each");
}

/* --- page tables and code that another processor changes --- */

static volatile uint32_t shoot_round, stale;

/* After the others acknowledged, nobody sees the old page. */
static void job_shoot(unsigned cpu)
{
	asm volatile("sti");
	if (cpu == 0) {
		uint8_t *pages[4] = { page_alloc(), page_alloc(), page_alloc(), page_alloc() };
		for (uint32_t n = 1; n <= 500; n++) {
			*(volatile uint32_t *)pages[n & 3] = n;
			*entry_of(CROSSING, 1) = (uint64_t)pages[n & 3] | PTE_P | PTE_W;
			invlpg(CROSSING);
			acknowledged = 0;
			smp_send(0, ICR_OTHERS | ICR_ASSERT | V_SHOOT);
			if (!smp_await(&acknowledged, CPUS - 1))
				stale++;
			shoot_round = n;
		}
		flag = 1;
	} else {
		while (!flag) {
			uint32_t at_least = shoot_round;
			asm volatile("" : : : "memory");
			if (*(volatile uint32_t *)CROSSING < at_least)
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
		flag = 1;
		return;
	}
	bool end;
	do {
		end = flag;
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
	map(CROSSING, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	flag = 0;
	run(job_shoot);
	trap_handler = NULL;
	check_equal(stale, 0, "TLB shootdown by IPI");
	code = page_alloc();
	code[0] = 0xb8; /* mov eax, imm32; ret */
	code[5] = 0xc3;
	stale = 0;
	run(job_modify);
	check_equal(stale, 0, "code that another processor changed, after CPUID");
	code[3] = 0xb8;
	*(uint32_t *)(code + 4) = 0;
	code[8] = 0xc3;
	flag = 0;
	run(job_patch);
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
	run(job_timer);
	trap_handler = NULL;
	bool all = true;
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		all &= taken[cpu][V_TIMER] >= 20;
	check(all, "each processor has a timer of its own");
}

int main(void)
{
	test_start();
	test_atomic();
	test_order();
	listening(ipis);
	test_clusters();
	test_storm();
	test_changes();
	test_timers();
	return 0;
}
