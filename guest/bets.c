/* SPDX-License-Identifier: MIT */
/* Hot code whose addresses are not what somebody who follows registers from instruction to instruction may take them for: a stack pointer that was made
 * small and then moved, constants that add up beyond the range of their type. What it reads is compared with what stands there. Pages that follow each
 * other do not in memory, so that what is read at a distance from another page shows. */
#include "lib/guest.h"

#define VA 0x23480000000ULL /* a multiple of 2^31: far() shifts it together */
#define BEFORE 24           /* pages */
#define BEHIND 4
#define HOT 6000

static struct {
	uint64_t start, stack;
} work;

/* RSP is below 0x400, and is moved; then three words are summed by FS, whose base is VA. */
#define SUNK(name, moves, at)                                                                                          \
	static NAKED void name(void *work)                                                                             \
	{                                                                                                              \
		asm volatile("mov %rsp, 8(%rdi); mov (%rdi), %rsp; and $0x3f8, %rsp\n\t" moves                         \
			     "\n\tmov %fs:" at "(%rsp), %rax; add %fs:" at "+8(%rsp), %rax; add %fs:" at "+16(%rsp), %rax\n\t" \
			     "mov 8(%rdi), %rsp; ret; 2: ret $0x1000");                                                \
	}
SUNK(pushed, "push %rcx; push $5; pushf; push %rdx; push (%rdi)", "0")
SUNK(called, "call 1f; 1: call 1f; 1: call 1f; 1: call 1f; 1: call 1f; 1:", "0")
SUNK(popped, "pop %rcx; pop %rcx; pop %rcx; pop %rcx; pop %rcx; pop %rcx", "0xbe8")
SUNK(returned, "call 2f", "0xbe8")

/* RAX becomes VA, by an addition that overflows; words are summed before and behind it. */
static NAKED void far(void *work)
{
	asm volatile("mov (%rdi), %rcx; add $0x40000000, %rcx; add $0x40000000, %rcx; add $0x40000000, %rcx; add $0x40000000, %rcx\n\t"
		     "shl $8, %rcx; shl $8, %rcx; shl $8, %rcx; shl $7, %rcx\n\t"
		     "mov 0x100(%rcx), %rax; add 0x108-0x10000(%rcx), %rax; add 0x100-0x18000(%rcx), %rax; ret");
}

static uint64_t word(uint64_t at) { return (at - VA) * 0x9e3779b97f4a7c15ULL; }

static uint64_t run(void (*code)(void *), uint64_t start)
{
	uint64_t sum;

	work.start = start;
	asm volatile("call *%1" : "=a"(sum) : "r"(code), "D"(&work) : "rcx", "rdx", "cc", "memory");
	return sum;
}

static void check_sunk(void (*code)(void *), int64_t by, uint64_t at, const char *name)
{
	unsigned right = 0;

	for (unsigned n = 0; n < HOT; n++) {
		uint64_t start = n % 128 * 8;
		uint64_t from = VA + start + (uint64_t)by + at;
		right += run(code, start) == word(from) + word(from + 8) + word(from + 16);
	}
	check_equal(right, HOT, name);
}

int main(void)
{
	for (int n = -BEFORE; n < BEHIND; n++) {
		uint64_t *page = page_alloc(), at = VA + (uint64_t)n * PAGE;
		page_alloc();
		for (unsigned k = 0; k < PAGE / 8; k++)
			page[k] = word(at + 8 * k);
		map(at, (uint64_t)page, PTE_P | PTE_W, 1);
	}
	map(0ULL - PAGE, (uint64_t)page_alloc(), PTE_P | PTE_W, 1); /* the stack goes there from 0 */
	wrmsr(0xc0000100, VA);
	check_sunk(pushed, -40, 0, "a small stack pointer, and pushes");
	check_sunk(called, -40, 0, "a small stack pointer, and calls");
	check_sunk(popped, 48, 0xbe8, "a small stack pointer, and pops");
	check_sunk(returned, 0x1000, 0xbe8, "a small stack pointer, and a return");

	unsigned right = 0;
	for (unsigned n = 0; n < HOT; n++)
		right += run(far, (VA >> 31) + BIT(32)) == word(VA + 0x100) + word(VA + 0x108 - 0x10000) + word(VA + 0x100 - 0x18000);
	check_equal(right, HOT, "a register and a constant of 2^63");
	guest_end();
}
