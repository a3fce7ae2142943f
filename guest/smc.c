/* SPDX-License-Identifier: MIT */
/* Code that changes while it runs: what is stored is what runs next, by whichever address and instruction it is stored.
 * SDM 3A 11.6 (with a serializing jump in between only where the manual demands one). */
#include "lib/guest.h"

#define ALIAS 0x8000000000ULL /* the code page a second time */
#define CODE 0x8000100000ULL

static uint8_t *page, *second;

/* mov eax, imm32; ret */
static void put_return(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = 0xc3;
}

static uint32_t call(const void *code)
{
	uint32_t value;
	asm volatile("call *%1" : "=a"(value) : "r"(code) : "memory", "cc", "rcx", "rdx");
	return value;
}

static void test_rewrite(void)
{
	bool right = true;
	for (uint32_t n = 0; n < 100; n++) {
		put_return(page, n);
		right &= call(page) == n;
	}
	check(right, "a function rewritten 100 times");
	right = true;
	for (uint32_t n = 0; n < 5000; n++) {
		page[1] = (uint8_t)n;
		right &= (call(page) & 0xff) == (n & 0xff);
	}
	check(right, "one byte of an immediate rewritten 5000 times");
}

extern uint8_t next_here[], loop_here[], string_here[], overwritten[];

static __attribute__((noinline, noclone)) uint32_t store_next(uint32_t n)
{
	uint32_t value;
	asm volatile("movb %b1, next_here+1(%%rip)\n"
		     "next_here: mov $0, %0"
		     : "=a"(value) : "c"(n) : "memory");
	return value;
}

/* The store and what it changes stand side by side. Processors since the Pentium find that by themselves. */
static void test_next_instruction(void)
{
	uint32_t value;
	check_equal(store_next(1) + store_next(2) + store_next(3), 6, "a store into the next instruction");
	asm volatile("xor %%eax, %%eax; mov $50, %%ecx\n"
		     "1: incb loop_here+2(%%rip)\n" /* the immediate of the add */
		     "loop_here: add $0, %%eax\n"
		     "dec %%ecx; jnz 1b"
		     : "=a"(value) : : "rcx", "memory", "cc");
	check_equal(value, 50 * 51 / 2, "a store into the body of its own loop");
	/* ud2 becomes nop nop */
	asm volatile("movw $0x9090, overwritten(%%rip)\n"
		     "overwritten: ud2"
		     : : : "memory");
	check(true, "a store over an instruction that would fault");
}

static void test_strings(void)
{
	static const uint8_t sled[] = { 0x83, 0xc0, 0x01, 0x83, 0xc0, 0x01, 0x83, 0xc0, 0x01, 0xc3 }; /* add eax, 1 three times; ret */
	uint32_t value;
	memset(page, 0x90, 64);
	page[64] = 0xc3;
	call(page);
	memcpy(page, sled, sizeof(sled));
	asm volatile("xor %%eax, %%eax; call *%1" : "=&a"(value) : "r"(page) : "memory", "cc");
	check_equal(value, 3, "code put by REP MOVSB");
	memset(page, 0x90, 6);
	asm volatile("xor %%eax, %%eax; call *%1" : "=&a"(value) : "r"(page) : "memory", "cc");
	check_equal(value, 1, "code put by REP STOSB");
	/* REP STOSB over the instructions right behind itself */
	asm volatile("lea string_here(%%rip), %%rdi; mov $0x90, %%al; mov $2, %%ecx; mov $1, %%edx; rep stosb\n"
		     "string_here: inc %%edx" /* 2 bytes */
		     : "=d"(value) : : "rax", "rcx", "rdi", "memory", "cc");
	check_equal(value, 1, "REP STOSB over the next instruction");
	asm volatile("movups (%0), %%xmm0" : : "r"(page) : "memory");
	put_return(page, 7);
	call(page);
	asm volatile("movups %%xmm0, (%0)" : : "r"(page) : "memory");
	asm volatile("xor %%eax, %%eax; call *%1" : "=&a"(value) : "r"(page) : "memory", "cc");
	check_equal(value, 1, "code put by a 16-byte store");
	put_return(page, 1);
	call(page);
	uint64_t old = *(uint64_t *)page, new = old + 0x100;
	asm volatile("lock cmpxchg %2, %0" : "+m"(*(uint64_t *)page), "+a"(old) : "r"(new) : "cc", "memory");
	check_equal(call(page), 2, "code put by CMPXCHG");
	asm volatile("push (%0); pop (%0); addb $1, 1(%0)" : : "r"(page) : "memory", "cc");
	check_equal(call(page), 3, "code changed by ADD to memory");
	asm volatile("xchg %%bl, 1(%0)" : : "r"(page), "b"(9) : "memory");
	check_equal(call(page), 9, "code changed by XCHG");
}

static void test_alias(void)
{
	bool right = true;
	for (uint32_t n = 0; n < 20; n++) {
		put_return((uint8_t *)ALIAS + 64, n);
		right &= call(page + 64) == n;
		put_return(page + 64, n + 100);
		right &= call((void *)(ALIAS + 64)) == n + 100;
	}
	check(right, "a store through another linear address");
}

/* mov eax, imm32 lies across two pages; its second half changes. */
static void test_crossing(void)
{
	uint8_t *at = (uint8_t *)CODE + PAGE - 2;
	bool right = true;
	put_return(at, 0x11223344);
	right &= call(at) == 0x11223344;
	for (uint32_t n = 0; n < 20; n++) {
		second[2] = (uint8_t)n;
		right &= call(at) == (0x00223344 | n << 24);
		page[PAGE - 1] = (uint8_t)n;
		right &= call(at) == (0x00223300 | n << 24 | n);
		page[PAGE - 1] = 0x44;
	}
	check(right, "an instruction across two pages, changed in either");
	/* The second page goes to another frame. */
	uint8_t *other = page_alloc();
	memcpy(other, second, PAGE);
	other[2] = 0x77;
	map(CODE + PAGE, (uint64_t)other, PTE_P | PTE_W, 1);
	check_equal(call(at), 0x77223344, "an instruction across two pages, the second one mapped anew");
	map(CODE + PAGE, (uint64_t)second, PTE_P | PTE_W, 1);
}

static void test_remap(void)
{
	uint8_t *a = page_alloc(), *b = page_alloc();
	bool right = true;
	put_return(a, 1);
	put_return(b, 2);
	for (unsigned n = 0; n < 50; n++) {
		map(CODE + 8 * PAGE, (uint64_t)(n & 1 ? a : b), PTE_P | PTE_W, 1);
		right &= call((void *)(CODE + 8 * PAGE)) == (n & 1 ? 1 : 2);
	}
	check(right, "a code page that is mapped anew");
	/* Freed, used for data, used for code again. */
	for (unsigned n = 0; n < 20; n++) {
		memset(a, 0x5a, PAGE);
		for (unsigned i = 0; i < 100; i++)
			((volatile uint32_t *)a)[i] = i;
		put_return(a, n);
		right &= call(a) == n;
	}
	check(right, "a code page that was data for a while");
}

/* Data beside code on one page: many writes, and the code goes on unchanged. */
static void test_data_line(void)
{
	volatile uint64_t *data = (volatile uint64_t *)(page + 2048);
	put_return(page, 42);
	*data = 0;
	bool right = true;
	for (unsigned n = 0; n < 20000; n++) {
		right &= call(page) == 42;
		*data += 1;
	}
	check(right && *data == 20000, "data beside code: 20000 calls and writes");
	/* code that writes beside itself: inc qword [rip+2048-7-...]; ret */
	static const uint8_t inc[] = { 0x48, 0xff, 0x05, 0xf9, 0x07, 0x00, 0x00, 0xc3 }; /* inc qword [rip + 2041]: at 7 + 2041 */
	memcpy(page, inc, sizeof(inc));
	for (unsigned n = 0; n < 20000; n++)
		call(page);
	check_equal(*data, 40000, "code that writes beside itself");
}

static void test_stacks(void)
{
	/* The stack on the code page: CALL and PUSH write code. */
	uint32_t value;
	memset(page, 0x90, PAGE);
	put_return(page + 512, 5);
	asm volatile("mov %%rsp, %%rbx; mov %1, %%rsp; call *%2; mov %%rbx, %%rsp"
		     : "=a"(value) : "r"(page + 512), "r"(page + 512) : "rbx", "memory");
	check_equal(value, 5, "a stack on the code page");
	/* PUSH as the store. */
	uint8_t *slot = page + 2048;
	memset(slot - 8, 0xc3, 16);
	put_return(slot - 16, 1);
	check_equal(call(slot - 16), 1, "before the push");
	asm volatile("mov %%rsp, %%rbx; lea -8(%1), %%rsp; push %2; mov %%rbx, %%rsp"
		     : "=&a"(value) : "r"(slot), "r"(0xc3c300000002b8ULL) : "rbx", "memory");
	check_equal(call(slot - 16), 2, "code put by PUSH");
}

int main(void)
{
	page = page_alloc();
	second = page_alloc();
	map(ALIAS, (uint64_t)page, PTE_P | PTE_W, 1);
	map(CODE, (uint64_t)page, PTE_P | PTE_W, 1);
	map(CODE + PAGE, (uint64_t)second, PTE_P | PTE_W, 1);
	test_rewrite();
	test_next_instruction();
	test_strings();
	test_alias();
	test_crossing();
	test_remap();
	test_data_line();
	test_stacks();
	return 0;
}
