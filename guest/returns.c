/* SPDX-License-Identifier: MIT */
/* Calls and returns, for an engine that expects a return where the call was: code at two addresses calls functions that return in every way there is, and elsewhere,
 * in both rings, while its pages and its bytes change between the call and the return. */
#include "lib/guest.h"

#define BASE (BIT(46) + 0x543000)
#define APART 0x111000         /* the two addresses of the page */
#define CALLER 0x100
#define BEHIND (CALLER + 2)    /* where the call returns to */
#define ADDED (CALLER + 12)    /* a byte of what is added there */
#define OTHER (CALLER + 0x200) /* what it may return to as well */
#define ROUNDS 12000           /* until it is hot, and longer */
#define FEW 300

static struct order {
	uint64_t rounds, caller[2], function, elsewhere;
	uint64_t at, change;   /* what the function changes between call and return */
} order;

static uint8_t *frame[2];

/* Calls the function, and gives where it is and a number. */
static void put_caller(uint8_t *page, uint8_t number)
{
	memcpy(page + CALLER, (uint8_t[]){
		0xff, 0xd6,                 /* call *%rsi */
		0x48, 0x8d, 0x05, 0, 0, 0, 0, /* lea 0(%rip), %rax */
		0x48, 0x83, 0xc0, number,   /* add $number, %rax */
		0xc3,                       /* ret */
	}, 14);
	memcpy(page + OTHER, (uint8_t[]){ 0x48, 0x8d, 0x05, 0, 0, 0, 0, 0xc3 }, 8); /* lea 0(%rip), %rax; ret */
}

static uint64_t mixed(uint64_t sum, uint64_t value) { return sum * 3 + value; }

/* Calls both callers in turns; RAX: of what they give. */
static NAKED void drive(void *order)
{
	asm("push %rbx; push %rbp; push %r12; xor %r12d, %r12d; mov (%rdi), %rbx\n"
	    "1: mov 24(%rdi), %rsi; mov 32(%rdi), %rdx; call *8(%rdi)\n"
	    "lea (%r12, %r12, 2), %r12; add %rax, %r12\n"
	    "mov 24(%rdi), %rsi; mov 32(%rdi), %rdx; call *16(%rdi)\n"
	    "lea (%r12, %r12, 2), %r12; add %rax, %r12\n"
	    "dec %rbx; jnz 1b\n"
	    "mov %r12, %rax; pop %r12; pop %rbp; pop %rbx; ret");
}

/* --- functions that return, each in its way; they may change RAX, RCX and RDX --- */

static NAKED void plainly(void *order) { asm("ret"); }
static NAKED void to_elsewhere(void *order) { asm("mov %rdx, (%rsp); ret"); }
static NAKED void by_jump(void *order) { asm("pop %rcx; jmp *%rcx"); }
static NAKED void by_two(void *order) { asm("call 1f; 1: ret"); } /* the first time to itself */
static NAKED void by_retpoline(void *order) { asm("call 2f; 1: ud2; 2: lea 3f(%rip), %rax; mov %rax, (%rsp); ret; 3: ret"); }
static NAKED void by_chain(void *order) { asm("lea 1f(%rip), %rax; push %rax; push %rax; push %rax; 1: ret"); }
static NAKED void by_release(void *order) { asm("push %rdx; push %rdx; call 1f; ret; 1: ret $16"); }
/* Its call's return address is a page below its own. */
static NAKED void from_deep(void *order) { asm("push %rbp; mov %rsp, %rbp; sub $4080, %rsp; call 1f; mov %rbp, %rsp; pop %rbp; ret; 1: ret"); }
static NAKED void recursively(void *order)
{
	asm("mov $6, %ecx\n"
	    "1: push %rcx; dec %ecx; jz 2f; call 1b; mov (%rsp), %ecx; dec %ecx; jz 2f; dec %ecx; jz 2f; call 1b\n"
	    "2: pop %rcx; ret");
}
/* The return address of a call before is still there, and taken again. */
static NAKED void twice(void *order)
{
	asm("call 2f; lea 1f(%rip), %rax; mov %rax, -8(%rsp); sub $8, %rsp; ret; ud2; 1: ret\n"
	    "2: ret");
}
/* From another stack: the return address is written there by hand. */
static NAKED void from_elsewhere(void *order)
{
	asm("mov %rsp, %rcx; mov (%rsp), %rax; lea -4096(%rsp), %rsp; mov %rax, (%rsp); lea 8(%rcx), %rdx; lea 1f(%rip), %rax; push %rax; ret\n"
	    "1: lea 8(%rsp), %rsp; mov -8(%rsp), %rax; mov %rdx, %rsp; jmp *%rax");
}
/* Something is another value when the caller goes on. */
static NAKED void changes(void *order) { asm("mov 40(%rdi), %rcx; mov 48(%rdi), %rax; xor %rax, (%rcx); ret"); }
static NAKED void changes_page(void *order)
{
	asm("mov 40(%rdi), %rcx; mov 48(%rdi), %rax; xor %rax, (%rcx); mov 8(%rdi), %rcx; invlpg (%rcx); ret");
}
static NAKED void changes_pages(void *order)
{
	asm("mov 40(%rdi), %rcx; mov 48(%rdi), %rax; xor %rax, (%rcx); mov %cr3, %rcx; mov %rcx, %cr3; ret");
}

/* --- checks --- */

static uint64_t run(void (*function)(void *), bool ring3)
{
	uint64_t (*driver)(void *) = (uint64_t (*)(void *))(uint64_t)drive;

	order.function = ring3 ? USER(function) : (uint64_t)function;
	if (!ring3)
		return driver(&order);
	return user(drive, USER(&order)) == NONE ? caught.frame.rax : 0;
}

static uint64_t given(unsigned n, uint8_t number) { return BASE + n * APART + BEHIND + 7 + number; }

/* first, second: the addresses at which the callers go on; number[n]: what they add in round n, by turns. */
static uint64_t expected(unsigned first, unsigned second, const uint8_t number[2][2])
{
	uint64_t sum = 0;

	for (unsigned n = 0; n < order.rounds; n++)
		sum = mixed(mixed(sum, given(first, number[0][n & 1])), given(second, number[1][n & 1]));
	return sum;
}

static void test(void (*function)(void *), const char *name)
{
	static const uint8_t numbers[2][2] = { { 1, 1 }, { 1, 1 } };
	bool good = true;

	good &= run(function, false) == expected(0, 1, numbers) && run(function, true) == expected(0, 1, numbers);
	good &= run(function, false) == expected(0, 1, numbers) && run(function, true) == expected(0, 1, numbers);
	check(good, name);
}

static void test_elsewhere(void)
{
	static const uint8_t numbers[2][2] = { { 1, 1 }, { 1, 1 } };
	bool good = true;

	for (unsigned n = 0; n < 4; n++) {
		order.elsewhere = BASE + (n / 2) * APART + BEHIND;
		good &= run(to_elsewhere, n & 1) == expected(n / 2, n / 2, numbers);
	}
	check(good, "RET to the other address of the page");
	good = true;
	for (unsigned n = 0; n < 4; n++) {
		uint64_t sum = 0;
		order.elsewhere = BASE + (n / 2) * APART + OTHER;
		for (unsigned k = 0; k < order.rounds; k++)
			sum = mixed(mixed(sum, order.elsewhere + 7), order.elsewhere + 7);
		good &= run(to_elsewhere, n & 1) == sum;
	}
	check(good, "RET to another place in it");
}

/* What is written has its effect on the call that is open. */
static void test_bytes(void)
{
	static const uint8_t numbers[2][2] = { { 1 ^ 6, 1 ^ 6 }, { 1, 1 } };
	bool good = true;

	order.rounds = FEW;
	for (unsigned n = 0; n < 4; n++) {
		order.at = BASE + ADDED, order.change = 6;
		good &= run(changes, n & 1) == expected(0, 1, numbers);
	}
	check(good, "the caller's code changes during the call");
	order.rounds = ROUNDS;
}

/* The caller of the first address goes on in another frame: where it was called in one, it returns in the other. */
static void test_frames(void (*function)(void *), const char *name)
{
	static const uint8_t numbers[2][2] = { { 2, 1 }, { 1, 1 } };
	bool good = true;

	order.rounds = FEW;
	order.at = (uint64_t)entry_of(BASE, 1), order.change = (uint64_t)frame[0] ^ (uint64_t)frame[1];
	order.caller[1] = BASE + APART + OTHER; /* which calls nothing */
	for (unsigned n = 0; n < 4; n++) {
		uint64_t sum = 0;
		for (unsigned k = 0; k < order.rounds; k++)
			sum = mixed(mixed(sum, given(0, numbers[0][k & 1])), order.caller[1] + 7);
		good &= run(function, false) == sum;
	}
	check(good, name);
	order.caller[1] = BASE + APART + CALLER;
	order.rounds = ROUNDS;
}

int main(void)
{
	asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0)); /* what ring 3 could use must be its own, for an engine to be quick */
	for (unsigned n = 0; n < 2; n++) {
		frame[n] = page_alloc();
		put_caller(frame[n], (uint8_t)(n + 1));
		map(BASE + n * APART, (uint64_t)frame[0], PTE_P | PTE_W | PTE_U, 1);
		order.caller[n] = BASE + n * APART + CALLER;
	}
	order.rounds = ROUNDS;
	test(plainly, "RET");
	test_elsewhere();
	test(by_jump, "a jump to the return address");
	test(by_two, "a call of itself");
	test(by_retpoline, "RET to a function");
	test(by_chain, "a chain of RETs");
	test(by_release, "RET that releases");
	test(from_deep, "a call from far down the stack");
	test(recursively, "recursive calls");
	test(twice, "a return address that is used again");
	test(from_elsewhere, "return addresses on another stack");
	test_bytes();
	test_frames(changes_page, "the caller's page is another one, INVLPG");
	test_frames(changes_pages, "the caller's page is another one, MOV to CR3");
	test(plainly, "RET again");
	return 0;
}
