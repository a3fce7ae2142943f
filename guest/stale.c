/* SPDX-License-Identifier: MIT */
/* Code whose translation or bytes change behind the back of whoever keeps it decoded: pages evicted from small caches, page tables that
 * lie in code pages, idle loops against timers, split locks under single step. SDM 3A 4.10.4, 6.8.3 and 11.6. */
#include "lib/guest.h"

#define VA 0x8140000000ULL
#define CALLS 20000

static uint32_t call(uint64_t code)
{
	uint32_t value;
	asm volatile("call *%1" : "=a"(value) : "r"(code) : "memory", "cc", "rcx", "rdx");
	return value;
}

/* mov eax, imm32; ret */
static void put_return(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = 0xc3;
}

/* As an operating system has it: all supervisor code lies in global pages, which a MOV to CR3 keeps. */
static void make_global(void)
{
	WRITE_CR(4, READ_CR(4) | BIT(7));
	for (uint64_t at = 0; at < 0x40000000ULL; at += 0x200000) {
		uint64_t *large = entry_of(at, 2);
		if (large && (*large & PTE_P) && (*large & PTE_PS)) {
			*large |= PTE_G;
			continue;
		}
		for (uint64_t small = at; small < at + 0x200000; small += PAGE) {
			uint64_t *entry = entry_of(small, 1);
			if (entry && (*entry & PTE_P))
				*entry |= PTE_G;
		}
	}
	uint64_t *huge = entry_of(0, 3);
	if (huge && (*huge & PTE_PS))
		*huge |= PTE_G;
	WRITE_CR(4, READ_CR(4) & ~BIT(7));
	WRITE_CR(4, READ_CR(4) | BIT(7));
}

static void test_evicted(void)
{
	uint8_t *first = page_alloc(), *other = page_alloc(), *far = page_alloc();

	put_return(first, 1);
	put_return(other, 2);
	put_return(far, 3);
	make_global();
	map(VA, (uint64_t)first, PTE_P | PTE_W | PTE_G, 1);
	map(VA + 256 * PAGE, (uint64_t)far, PTE_P | PTE_W | PTE_G, 1);
	WRITE_CR(3, READ_CR(3));
	check_equal(call(VA), 1, "code of a global page");
	check_equal(call(VA + 256 * PAGE), 3, "code of another one, which evicts it");
	WRITE_CR(3, READ_CR(3));
	*entry_of(VA, 1) = (uint64_t)other | PTE_P | PTE_W | PTE_G;
	invlpg(VA);
	check_equal(call(VA), 2, "INVLPG drops global code that was evicted before a MOV to CR3");
}

/* The page table itself ends with the first half of an instruction, and maps the page that holds the second. */
static void test_table_of_itself(void)
{
	uint64_t base = VA + 0x40000000;
	map(base, 0x200000, PTE_P | PTE_W, 1);
	uint64_t *table = entry_of(base, 1);
	uint8_t *bytes = (uint8_t *)table, *end = bytes + PAGE - 3, *second = page_alloc();
	uint32_t value = 0;

	end[0] = 0xb8; /* mov eax, 42; ret */
	end[1] = 42;
	end[2] = 0;
	second[0] = second[1] = 0;
	second[2] = 0xc3;
	table[0] = (uint64_t)bytes | PTE_P | PTE_W;
	table[1] = (uint64_t)second | PTE_P | PTE_W;
	WRITE_CR(3, READ_CR(3));
	for (unsigned n = 0; n < 3; n++) {
		value = call(base + PAGE - 3);
		table[1] &= ~(uint64_t)PTE_A;
		invlpg(base + PAGE);
	}
	check_equal(value, 42, "an instruction whose second page's entry lies in its first page");
	end[1] = 43;
	check_equal(call(base + PAGE - 3), 43, "and the same, rewritten");
}

static volatile uint32_t *const apic = (void *)(VA + 0x80000000);
static volatile unsigned ticks, between, traps;
extern uint8_t idle_hlt[];

static bool on_tick(struct frame *f)
{
	if (f->vector != 0x40)
		return false;
	ticks++;
	between += f->rip == (uint64_t)idle_hlt;
	apic[0xb0 / 4] = 0;
	f->rip = (uint64_t)idle_hlt + 1;
	return true;
}

/* An idle loop's STI; HLT: an interrupt between the two would be slept through. */
static void test_idle(void)
{
	map((uint64_t)apic, 0xfee00000, PTE_P | PTE_W, 1);
	trap_handler = on_tick;
	apic[0xf0 / 4] = 0x1ff;
	apic[0x3e0 / 4] = 0xb;
	apic[0x320 / 4] = 0x40;
	for (unsigned n = 0; n < CALLS; n++) {
		apic[0x380 / 4] = 1 + n * 37 % 40000;
		for (volatile unsigned k = 0; k < n % 50; k++)
			;
		asm volatile("sti\nidle_hlt: hlt\ncli" : : : "memory");
		asm volatile("cli");
	}
	check(ticks >= CALLS, "every timer ends its HLT");
	check(!between, "no interrupt between STI and the next instruction");
}

static bool on_trap(struct frame *f)
{
	traps += f->vector == DB;
	return f->vector == DB;
}

static void test_split_step(void)
{
	uint64_t base = VA + 0xc0000000;
	uint8_t *page = page_alloc();

	trap_handler = on_trap;
	map(base, (uint64_t)page, PTE_P | PTE_W, 1);
	map(base + PAGE, (uint64_t)page, PTE_P | PTE_W, 1);
	asm volatile("pushfq; orl $0x100, (%%rsp); popfq\n\t"
		     "lock incl (%0); lock incl (%1); nop; pushfq; andl $~0x100, (%%rsp); popfq"
		     : : "r"(base + 0x10), "r"(base + PAGE - 2) : "memory", "cc");
	check_equal(traps, 6, "single step traps behind a split lock, too");
}

int main(void)
{
	test_evicted();
	test_table_of_itself();
	test_idle();
	test_split_step();
	guest_end();
}
