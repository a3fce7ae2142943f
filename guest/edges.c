/* SPDX-License-Identifier: MIT */
/* Code at the end of the canonical addresses: what runs on beyond it, and jumps and calls that lead there, from code that has run often and from code that
 * has not, after indirect jumps of many kinds, whose work must not be done again, branches by RCX, and returns. SDM 1 3.3.7.1, 3A 6.15 */
#include "lib/guest.h"

#define LAST 0x7ffffffff000ULL
#define BEYOND 0x800000000000ULL
#define HOT 6000

static uint8_t *page;

/* Code that ends where the page does. */
static void (*put(const char *code, unsigned size))(void *)
{
	memcpy(page + PAGE - size, code, size);
	return (void (*)(void *))(LAST + PAGE - size);
}
#define PUT(code) put(code, sizeof(code) - 1)

/* Indirect jumps, calls and returns: what a translator notes of them is old when the code after them runs on beyond the end. */
static NAKED void indirectly(void *code)
{
	asm volatile("lea 1f(%rip), %rax; jmp *%rax; 1: lea 2f(%rip), %rax; call *%rax; push %rdi; ret; 2: ret $0");
}
static NAKED void called(void *code)
{
	asm volatile("mov %rsp, %rbx; call *%rdi; ret");
}

/* What it calls returns to behind the end: an error of RET, which is not done then. */
static NAKED void back(void *code)
{
	asm volatile("ret");
}
static NAKED void calls_back(void *code)
{
	asm volatile("lea back(%rip), %rdx; mov %rsp, %rbx; call *%rdi; ret");
}

/* At that address the fetch fails: #GP, of an instruction that there is none of. */
static void beyond(const char *name, void (*how)(void *), void (*code)(void *), uint64_t rax)
{
	unsigned right = 0;

	for (unsigned n = 0; n < HOT; n++)
		right += attempt(how, (void *)code) == GP && caught.frame.rip == BEYOND && caught.frame.error == 0 && caught.frame.rax == rax;
	check_equal(right, HOT, name);
	if (right != HOT)
		print("vector %d, RIP %lx, error %lx, RAX %lx\n", caught.vector, caught.frame.rip, caught.frame.error, caught.frame.rax);
}

/* A branch by RCX that leads beyond the end is the fault of the branch, before it counts; one that is not taken runs on. */
static void by_count(const char *name, void (*code)(void *), uint64_t rip, uint64_t rcx)
{
	unsigned right = 0;

	for (unsigned n = 0; n < HOT; n++)
		right += attempt(called, (void *)code) == GP && caught.frame.rip == rip && caught.frame.error == 0 && caught.frame.rcx == rcx;
	check_equal(right, HOT, name);
	if (right != HOT)
		print("vector %d, RIP %lx, error %lx, RCX %lx\n", caught.vector, caught.frame.rip, caught.frame.error, caught.frame.rcx);
}

static void returns(const char *name, void (*code)(void *), uint64_t rip)
{
	unsigned right = 0;

	for (unsigned n = 0; n < HOT; n++)
		right += attempt(calls_back, (void *)code) == GP && caught.frame.rip == rip && caught.frame.error == 0 &&
			 caught.frame.rsp == caught.frame.rbx - 16;
	check_equal(right, HOT, name);
	if (right != HOT)
		print("vector %d, RIP %lx, error %lx, RSP %lx\n", caught.vector, caught.frame.rip, caught.frame.error, caught.frame.rsp);
}

int main(void)
{
	page = page_alloc();
	map(LAST, (uint64_t)page, PTE_P | PTE_W | PTE_U, 1);
	memset(page, 0x90, PAGE);
	beyond("straight on beyond the end", indirectly, PUT("\xb8\x07\x00\x00\x00"), 7);
	beyond("straight on, called", called, PUT("\xb8\x08\x00\x00\x00\x90"), 8);
	beyond("a branch that is not taken", called, PUT("\xb8\x09\x00\x00\x00\x85\xc0\x74\xf0"), 9);
	beyond("behind a loop", called, PUT("\xb8\x00\x08\x00\x00\xff\xc8\x75\xfc"), 0);
	beyond("behind a store", called, PUT("\xb8\x0a\x00\x00\x00\x89\x04\x24"), 10);
	by_count("LOOP to beyond the end", PUT("\xb9\x02\x00\x00\x00\xe2\x70"), BEYOND - 2, 2);
	by_count("LOOP that is not taken", PUT("\xb9\x01\x00\x00\x00\xe2\x70"), BEYOND, 0);
	by_count("LOOPE to beyond the end", PUT("\x31\xc9\xb1\x02\x39\xc9\xe1\x70"), BEYOND - 2, 2);
	by_count("JRCXZ to beyond the end", PUT("\xb9\x00\x00\x00\x00\xe3\x70"), BEYOND - 2, 0);
	by_count("JRCXZ that is not taken", PUT("\xb9\x01\x00\x00\x00\xe3\x70"), BEYOND, 1);
	returns("RET to beyond the end, of a call there", PUT("\xff\xd2"), (uint64_t)back);
	returns("RET to beyond the end, in the same page", PUT("\xeb\x01\xc3\xe8\xfa\xff\xff\xff"), BEYOND - 6);
	guest_end();
}
