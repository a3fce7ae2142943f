/* SPDX-License-Identifier: MIT */
/* Translations under attack by number and by speed: one page at thousands of addresses, code that is written as often as it runs, rights that
 * change at each access, and page tables that another processor changes while they are in use. SDM 3A 4.10, 8.1.3 */
#include "lib/smp.h"

#define VA 0x8200000000ULL
#define ALIASES 3000
#define SHARED_VA 0x8300000000ULL
#define VECTOR_SHOOT 0x41
#define ROUNDS 300

static uint32_t call(uint64_t code)
{
	uint32_t value;
	asm volatile("call *%1" : "=a"(value) : "r"(code) : "memory", "cc", "rcx", "rdx");
	return value;
}

/* mov eax, imm32; ret */
static void put_return(uint64_t at, uint32_t value)
{
	*(volatile uint8_t *)at = 0xb8;
	*(volatile uint32_t *)(at + 1) = value;
	*(volatile uint8_t *)(at + 5) = 0xc3;
}

static int try_store(uint64_t at, uint64_t value)
{
	return TRY("mov %1, (%0)", : "r"(at), "r"(value));
}

static int try_load(uint64_t at)
{
	uint64_t value;
	return TRY("mov (%1), %0", "=r"(value) : "r"(at));
}

/* --- one page everywhere --- */

static void test_everywhere(void)
{
	uint8_t *page = page_alloc();
	unsigned wrong = 0;

	for (unsigned n = 0; n < ALIASES; n++)
		map(VA + n * PAGE, (uint64_t)page, PTE_P | PTE_W, 1);
	for (unsigned n = 0; n < ALIASES; n++) {
		*(volatile uint32_t *)(VA + n * PAGE + 64) = n;
		wrong += *(volatile uint32_t *)(page + 64) != n || *(volatile uint32_t *)(VA + (ALIASES - 1 - n) * PAGE + 64) != n;
	}
	check_equal(wrong, 0, "one page at 3000 addresses: each write is seen at all");
	wrong = 0;
	for (unsigned n = 0; n < ALIASES; n++) { /* now that every address may write, it becomes code */
		put_return(VA + n * PAGE, n);
		wrong += call(VA + (n * 7 % ALIASES) * PAGE) != n;
	}
	check_equal(wrong, 0, "code in it, written by one address and run by another");
	for (unsigned n = 0; n < ALIASES; n++) {
		*entry_of(VA + n * PAGE, 1) = 0;
		invlpg(VA + n * PAGE);
	}
	wrong = 0;
	for (unsigned n = 0; n < ALIASES; n++)
		wrong += try_load(VA + n * PAGE) != PF || caught.cr2 != VA + n * PAGE || try_store(VA + n * PAGE + 8, n) != PF;
	check_equal(wrong, 0, "once unmapped, it is at none of them");
}

/* --- storms of faults --- */

static void test_code_and_data(void)
{
	uint64_t at = VA + 0x10000000;
	unsigned wrong = 0;

	map(at, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	for (unsigned n = 0; n < 5000; n++) {
		put_return(at, n);
		*(volatile uint64_t *)(at + 2048) += 1; /* and data on the same page */
		wrong += call(at) != n;
	}
	check(!wrong && *(volatile uint64_t *)(at + 2048) == 5000, "5000 times: code written, data beside it written, code run");
}

static void test_rights(void)
{
	uint64_t at = VA + 0x11000000;
	uint64_t *entry, page = (uint64_t)page_alloc();
	unsigned wrong = 0;

	map(at, page, PTE_P | PTE_W, 1);
	entry = entry_of(at, 1);
	for (unsigned n = 0; n < 3000; n++) {
		bool writable = n * 0x9e3779b9u >> 31;
		*entry = page | PTE_P | (writable ? PTE_W : 0);
		invlpg(at);
		wrong += try_store(at, n) != (writable ? NONE : PF) || try_load(at) != NONE;
		if (!writable)
			continue;
		wrong += !(*entry & PTE_D) || *(volatile uint64_t *)page != n;
	}
	check_equal(wrong, 0, "3000 times: a page becomes writable or read-only");
	wrong = 0;
	*entry = page | PTE_P;
	invlpg(at);
	for (unsigned n = 0; n < 1000; n++) {
		bool protect = n * 0x9e3779b9u >> 31;
		WRITE_CR(0, protect ? READ_CR(0) | CR0_WP : READ_CR(0) & ~(uint64_t)CR0_WP);
		wrong += try_store(at, n) != (protect ? PF : NONE);
	}
	WRITE_CR(0, READ_CR(0) | CR0_WP);
	check_equal(wrong, 0, "1000 times: CR0.WP is set or cleared");
	if (!HAS_SMAP) {
		skip("SMAP", "this processor has none");
		return;
	}
	wrong = 0;
	for (unsigned n = 0; n < 1000; n++) {
		unsigned bits = n * 0x9e3779b9u >> 30;
		WRITE_CR(4, bits & 1 ? READ_CR(4) | CR4_SMAP : READ_CR(4) & ~(uint64_t)CR4_SMAP);
		if (bits & 2)
			asm volatile("stac");
		else
			asm volatile("clac");
		int got = try_load(USER(page)), want = bits == 1 ? PF : NONE;
		asm volatile("clac");
		wrong += got != want;
	}
	WRITE_CR(4, READ_CR(4) & ~(uint64_t)CR4_SMAP);
	check_equal(wrong, 0, "1000 times: SMAP and AC change");
}

/* mov eax, imm32 begins two bytes before the page end. */
static void test_second_page(void)
{
	uint64_t at = VA + 0x12000000, second[2] = { (uint64_t)page_alloc(), (uint64_t)page_alloc() };
	unsigned wrong = 0;

	map(at, (uint64_t)page_alloc(), PTE_P | PTE_W, 1);
	map(at + PAGE, second[0], PTE_P | PTE_W, 1);
	for (unsigned n = 0; n < 2; n++) {
		((volatile uint8_t *)second[n])[0] = (uint8_t)(0x10 + n);
		((volatile uint8_t *)second[n])[3] = 0xc3;
	}
	*(volatile uint8_t *)(at + PAGE - 2) = 0xb8;
	*(volatile uint8_t *)(at + PAGE - 1) = 0;
	for (unsigned n = 0; n < 500; n++) {
		unsigned which = n * 0x9e3779b9u >> 31;
		*entry_of(at + PAGE, 1) = second[which] | PTE_P | PTE_W;
		invlpg(at + PAGE);
		wrong += call(at + PAGE - 2) != (0x10 + which) << 8;
	}
	check_equal(wrong, 0, "500 times: the second page of an instruction is mapped anew");
}

/* --- another processor's page tables --- */

static volatile uint32_t acknowledged, stop, stopped;
static volatile uint64_t faults;

static bool on_worker(struct frame *f)
{
	if (f->vector == PF) { /* it is tried again until the page is back */
		faults++;
		return true;
	}
	if (f->vector != VECTOR_SHOOT)
		return false;
	invlpg(SHARED_VA);
	apic_write(APIC_EOI, 0);
	acknowledged = 1;
	return true;
}

static void worker(unsigned cpu)
{
	uint64_t n = 0;

	asm volatile("sti");
	while (!stop)
		*(volatile uint64_t *)SHARED_VA = ++n;
	asm volatile("cli");
	stopped = 1;
}

static bool shoot(void)
{
	acknowledged = 0;
	smp_send(1, ICR_ASSERT | VECTOR_SHOOT);
	return smp_await(&acknowledged, 1);
}

static void test_shootdown(void)
{
	uint64_t frame[2] = { (uint64_t)page_alloc(), (uint64_t)page_alloc() };
	unsigned wrong = 0, silent = 0, now = 0;
	uint64_t *entry;

	map(SHARED_VA, frame[0], PTE_P | PTE_W, 1);
	entry = entry_of(SHARED_VA, 1);
	trap_handler = on_worker;
	if (smp_start(2, worker) != 2) {
		check(false, "the second processor starts");
		return;
	}
	for (unsigned n = 0; n < ROUNDS; n++) {
		unsigned left = now;
		switch (n % 3) {
		case 0: __atomic_store_n(entry, frame[now ^= 1] | PTE_P | PTE_W, __ATOMIC_SEQ_CST); break;
		case 1: __atomic_store_n(entry, frame[now] | PTE_P, __ATOMIC_SEQ_CST); break; /* read-only */
		default: __atomic_store_n(entry, 0, __ATOMIC_SEQ_CST); break;
		}
		silent += !shoot();
		uint64_t before = *(volatile uint64_t *)frame[left];
		smp_delay(20000);
		wrong += *(volatile uint64_t *)frame[left] != before;
		__atomic_store_n(entry, frame[now] | PTE_P | PTE_W, __ATOMIC_SEQ_CST);
		before = *(volatile uint64_t *)frame[now];
		uint64_t start = rdtsc();
		while (*(volatile uint64_t *)frame[now] == before && rdtsc() - start < 20000000000)
			asm volatile("pause");
		silent += *(volatile uint64_t *)frame[now] == before;
	}
	stop = 1;
	check_equal(silent, 0, "the other processor answers each time, and goes on writing");
	check_equal(wrong, 0, "once it has, it writes no page that it was to forget");
	check(faults >= ROUNDS / 3, "it faulted where it was to");
	smp_await(&stopped, 1);
	trap_handler = NULL;
}

int main(void)
{
	test_everywhere();
	test_code_and_data();
	test_rights();
	test_second_page();
	test_shootdown();
	guest_end();
}
