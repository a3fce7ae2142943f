/* SPDX-License-Identifier: MIT */
/* Functions at addresses that are in each other's way where an engine looks up jump targets by a CRC32 of the address: they are called in turns, in both rings, while
 * their code changes and other pages come to their addresses. */
#include "lib/guest.h"

#define PLACES 4
#define BASE (BIT(46) + 0x123000)
#define OFFSET 0x45
#define ROUNDS 3000

static uint8_t *frames[PLACES];
static uint64_t place[PLACES];

/* As the instruction does, begun with 0. It is linear: that of a ^ b is that of a ^ that of b. */
static uint32_t crc32(uint64_t value)
{
	uint32_t crc = 0;

	for (unsigned n = 0; n < 64; n++, value >>= 1) {
		crc ^= value & 1;
		crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

/* Bits of a page's address that may all be turned without changing these bits of the CRC32. */
static uint64_t no_matter(uint32_t of)
{
	uint32_t image[32];
	uint64_t bits[32];
	unsigned count = 0;

	for (unsigned bit = 12; bit < 46; bit++) {
		uint32_t crc = crc32(BIT(bit)) & of;
		uint64_t turned = BIT(bit);
		for (unsigned n = 0; n < count; n++)
			if (crc & image[n] & -image[n]) {
				crc ^= image[n];
				turned ^= bits[n];
			}
		if (!crc)
			return turned;
		image[count] = crc;
		bits[count++] = turned;
	}
	return 0;
}

static struct { uint64_t rounds, function[PLACES]; } order;

/* Calls them in turns; they add to RAX. */
static NAKED void rotate(void *order)
{
	asm("push %rbx; xor %eax, %eax; mov (%rdi), %rbx\n"
	    "1: call *8(%rdi); call *16(%rdi); call *24(%rdi); call *32(%rdi)\n"
	    "dec %rbx; jnz 1b\n"
	    "pop %rbx; ret");
}

static uint64_t in_ring0(void)
{
	uint64_t (*function)(void *) = (uint64_t (*)(void *))(uint64_t)rotate;

	return function(&order);
}

static uint64_t in_ring3(void)
{
	return user(rotate, USER(&order)) == NONE ? caught.frame.rax : 0;
}

static uint8_t *code(unsigned n)
{
	return frames[n] + OFFSET;
}

/* add rax, VALUE; ret */
static void adds(unsigned n, uint8_t value)
{
	memcpy(code(n), (uint8_t[]){ 0x48, 0x83, 0xc0, value, 0xc3 }, 5);
}

static void test_turns(void)
{
	for (unsigned n = 0; n < 2; n++) {
		check_equal(in_ring0(), 15 * ROUNDS, "in turns, ring 0");
		check_equal(in_ring3(), 15 * ROUNDS, "in turns, ring 3");
	}
}

static void test_changes(void)
{
	bool good = true;

	order.rounds = 20;
	for (unsigned n = 0; n < 100; n++) {
		adds(n % PLACES, 100);
		uint64_t expected = 20 * (115 - BIT(n % PLACES));
		good &= in_ring0() == expected && in_ring3() == expected;
		adds(n % PLACES, (uint8_t)BIT(n % PLACES));
		good &= in_ring3() == 300 && in_ring0() == 300;
	}
	check(good, "their code changes");
	order.rounds = ROUNDS;
}

/* By INVLPG, or by MOV to CR3. */
static void test_pages(bool cr3)
{
	bool good = true;

	order.rounds = 20;
	for (unsigned n = 0; n < 100; n++) {
		unsigned from = n % PLACES, to = (n + n / PLACES) % PLACES;
		*entry_of(place[from], 1) = (uint64_t)frames[to] | PTE_P | PTE_W | PTE_U;
		if (cr3)
			WRITE_CR(3, READ_CR(3));
		else
			invlpg(place[from]);
		uint64_t expected = 20 * (15 - BIT(from) + BIT(to));
		good &= (n & 1 || in_ring0() == expected) && in_ring3() == expected && in_ring0() == expected;
		map(place[from], (uint64_t)frames[from], PTE_P | PTE_W | PTE_U, 1);
	}
	check(good, cr3 ? "other pages at their addresses, MOV to CR3" : "other pages at their addresses, INVLPG");
	order.rounds = ROUNDS;
}

/* What ring 0 may do there, ring 3 may not: CLI. Nothing else is called in between that an engine would have to look for. */
static void test_rings(void)
{
	order.rounds = 3;
	for (unsigned n = 1; n < PLACES; n++) {
		bool good = true;
		memcpy(code(n), (uint8_t[]){ 0xfa, 0xc3 }, 2);
		for (unsigned k = 1; k < PLACES; k++)
			order.function[k] = place[n] + OFFSET;
		for (unsigned turn = 0; turn < 50; turn++) {
			good &= in_ring0() == 3;
			user(rotate, USER(&order));
			good &= caught.vector == GP && caught.frame.rip == place[n] + OFFSET && (caught.frame.cs & 3) == 3;
		}
		check(good, "what only ring 0 may do");
		adds(n, (uint8_t)BIT(n));
	}
	for (unsigned n = 0; n < PLACES; n++)
		order.function[n] = place[n] + OFFSET;
	order.rounds = ROUNDS;
}

int main(void)
{
	asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0)); /* what ring 3 could use must be its own, for an engine to be quick */
	uint64_t first = no_matter(0xffff), both = no_matter(0x3fffffff);

	check(first && both && !(crc32(first) & 0xffff) && !(crc32(both) & 0x3fffffff) && crc32(first) & 0x3fff0000, "addresses in each other's way");
	for (unsigned n = 0; n < PLACES; n++) {
		frames[n] = page_alloc();
		place[n] = BASE ^ (n & 1 ? first : 0) ^ (n & 2 ? both : 0);
		order.function[n] = place[n] + OFFSET;
		adds(n, (uint8_t)BIT(n));
		map(place[n], (uint64_t)frames[n], PTE_P | PTE_W | PTE_U, 1);
	}
	order.rounds = ROUNDS;
	test_turns();
	test_changes();
	test_pages(false);
	test_pages(true);
	test_rings();
	test_turns();
	return 0;
}
