/* SPDX-License-Identifier: MIT */
/* Four processors at once: start-up, atomic instructions, ordering. What they do to each other is in ipi.c. SDM 3A chapter 8 */
#include "lib/smp.h"

#define CPUS 4
#define BSP BIT(8)
#define MSR_APIC_BASE 0x1b
#define CROSSING 0x8000000000ULL /* two pages side by side that are not so in memory */

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
	check_equal(smp_start(CPUS, smp_work), CPUS, "all can be started again");
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
		smp_run(tests[t].job);
		check_equal(shared.count, CPUS * ROUNDS, join(tests[t].name, ": every one counts"));
	}
	/* 10000 additions each to eight bytes, none of which carries into the next: 10000 mod 256 is 16 */
	shared.count = 0;
	smp_run(job_bytes);
	check_equal(shared.count, 0x0101010101010101 * (CPUS * ROUNDS / 8 % 256), "LOCK ADD to bytes side by side");
	shared.pair[0] = 0;
	shared.pair[1] = 0;
	smp_run(job_cmpxchg16);
	check(shared.pair[0] == CPUS * ROUNDS && shared.pair[1] == -(uint64_t)CPUS * ROUNDS, "LOCK CMPXCHG16B: every one counts in both halves");
	/* Both pages beside each other, but not in memory. */
	void *second = page_alloc(), *first = page_alloc();
	map(CROSSING, (uint64_t)first, PTE_P | PTE_W, 1);
	map(CROSSING + PAGE, (uint64_t)second, PTE_P | PTE_W, 1);
	split = (volatile uint64_t *)(line + 61);
	smp_run(job_split);
	check_equal(*split, CPUS * (ROUNDS / 10), "a lock across cache lines: every one counts");
	for (unsigned bytes = 1; bytes < 8; bytes += 3) {
		split = (volatile uint64_t *)(CROSSING + PAGE - bytes);
		*split = 0xffff; /* it carries across the border */
		smp_run(job_split);
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
		smp_run(tests[t].job);
		check_equal(shared.torn, 0, tests[t].name);
	}
}

int main(void)
{
	test_start();
	test_atomic();
	test_order();
	return 0;
}
