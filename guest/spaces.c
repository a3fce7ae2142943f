/* SPDX-License-Identifier: MIT */
/* Two address spaces with other pages, and other code, at the same addresses, which hot loops go back and forth between: by MOV to CR3 that flushes, by
 * such that keeps what a PCID has (bit 63), with INVPCID where something has changed. SDM 3A 4.10.1, 4.10.4.1; 2 INVPCID */
#include "lib/guest.h"

#define VA 0x23456780000ULL /* a page of data, and one of code */
#define FUNCTION (VA + PAGE)
#define HOT 4000
#define KEEP BIT(63)

static uint64_t space[2], keep; /* CR3 */
static uint64_t *data[3];
static uint8_t *code[2];

/* Sums in each round four words of one space, and four of the other. */
static uint64_t back_and_forth(uint64_t first, uint64_t second, uint64_t at, uint64_t count)
{
	uint64_t sum = 0;

	asm volatile("1: mov %1, %%cr3; add (%3), %0; add 8(%3), %0; add 16(%3), %0; add 24(%3), %0\n\t"
		     "mov %2, %%cr3; add (%3), %0; add 8(%3), %0; add 16(%3), %0; add 24(%3), %0; dec %4; jne 1b"
		     : "+r"(sum), "+r"(first), "+r"(second), "+r"(at), "+r"(count) : : "memory", "cc");
	return sum;
}

/* The same by one space only, hot without a change between. */
static uint64_t stay(uint64_t at, uint64_t count)
{
	uint64_t sum = 0;

	asm volatile("1: add (%1), %0; add 8(%1), %0; add 16(%1), %0; add 24(%1), %0; mov %0, 32(%1); dec %2; jne 1b"
		     : "+r"(sum), "+r"(at), "+r"(count) : : "memory", "cc");
	return sum;
}

static uint32_t call(uint64_t function)
{
	uint32_t value;

	asm volatile("call *%1" : "=a"(value) : "r"(function) : "memory", "cc");
	return value;
}

static void invpcid(uint64_t type, uint64_t pcid, uint64_t linear)
{
	struct { uint64_t pcid, linear; } which = { pcid, linear };

	asm volatile("invpcid %0, %1" : : "m"(which), "r"(type) : "memory");
}

static void test(const char *name)
{
	uint64_t sum = 0, calls = 0;

	check_equal(back_and_forth(space[0] | keep, space[1] | keep, VA, HOT), HOT * 404, join(name, ": data"));
	for (unsigned n = 0; n < 20; n++) {
		WRITE_CR(3, space[n & 1] | keep);
		sum += stay(VA, HOT) + 1000 * data[n & 1][4];
	}
	check_equal(sum, 10ULL * HOT * 404 * 1001, join(name, ": data in loops of their own"));
	for (unsigned n = 0; n < HOT; n++) {
		WRITE_CR(3, space[n & 1] | keep);
		calls += call(FUNCTION) == 1 + (n & 1);
	}
	check_equal(calls, HOT, join(name, ": code"));
	WRITE_CR(3, space[0]);
}

/* While the first space is in use, the second one's page becomes another. */
static void test_invalidated(uint64_t type, const char *name)
{
	uint64_t right = 0, *entry;

	WRITE_CR(3, space[1]);
	entry = entry_of(VA, 1);
	for (unsigned n = 0; n < HOT; n++) {
		unsigned now = n & 1 ? 2 : 1;
		WRITE_CR(3, space[0] | keep);
		*entry = (uint64_t)data[now] | PTE_P | PTE_W;
		invpcid(type, space[1] & 0xfff, VA);
		right += stay(VA, 3) == 3 * 4;
		WRITE_CR(3, space[1] | keep);
		right += stay(VA, 3) == 3 * 4 * (now == 2 ? 10000 : 100);
	}
	*entry = (uint64_t)data[1] | PTE_P | PTE_W;
	invpcid(2, 0, 0);
	WRITE_CR(3, space[0]);
	check_equal(right, 2 * HOT, name);
}

static void make_space(unsigned n)
{
	uint64_t *top = page_alloc();

	memcpy(top, (void *)(READ_CR(3) & ~0xfffULL), PAGE);
	top[VA >> 39 & 511] = 0;
	space[n] = (uint64_t)top;
	WRITE_CR(3, space[n]);
	map(VA, (uint64_t)data[n], PTE_P | PTE_W, 1);
	map(FUNCTION, (uint64_t)code[n], PTE_P | PTE_W, 1);
}

int main(void)
{
	static const uint64_t value[] = { 1, 100, 10000 };

	for (unsigned n = 0; n < 3; n++) {
		data[n] = page_alloc();
		for (unsigned k = 0; k < 4; k++)
			data[n][k] = value[n];
	}
	for (unsigned n = 0; n < 2; n++) { /* mov eax, n + 1; ret */
		code[n] = page_alloc();
		memcpy(code[n], "\xb8\0\0\0\0\xc3", 6);
		code[n][1] = (uint8_t)(n + 1);
	}
	make_space(0);
	make_space(1);
	WRITE_CR(3, space[0]);
	test("each change flushes");
	if (!HAS_PCID) {
		skip("PCIDs", "this processor has none");
		guest_end();
	}
	WRITE_CR(4, READ_CR(4) | CR4_PCIDE);
	space[0] |= 1, space[1] |= 2;
	test("PCIDs, and each change flushes");
	keep = KEEP;
	test("PCIDs, and nothing is flushed");
	if (!HAS_INVPCID) {
		skip("INVPCID", "this processor has none");
		guest_end();
	}
	test_invalidated(0, "INVPCID of an address in the other space");
	test_invalidated(1, "INVPCID of the other space");
	test_invalidated(2, "INVPCID of all");
	test_invalidated(3, "INVPCID of all but global pages");
	guest_end();
}
