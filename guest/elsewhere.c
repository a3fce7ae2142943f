/* SPDX-License-Identifier: MIT */
/* The same code of ring 3 at several addresses at once, as each process has a shared library elsewhere: what it finds relative to RIP, what its calls
 * push, where its faults are told to be, and what is stored to it by each of its addresses. SDM 2 2.2.1.6, 3A 11.6. */
#include "lib/guest.h"

#define PLACES 3
#define PLACE(n) (0x123400000000ULL + (n) * 0x56780000ULL)

/* Three pages that stand one behind the other at each place. */
asm(".balign 4096\n"
    "blob:\n"
    "	call blob_own\n"
    "1:	lea 1b(%rip), %rcx\n"
    "	sub %rcx, %rax\n" /* 0 */
    "	call blob_far\n"  /* adds 5 */
    "	lea blob_add(%rip), %rdx\n"
    "	call *%rdx\n"     /* adds 10 */
    "	mov $3, %ecx\n"
    "2:	add $100, %rax\n"
    "	dec %ecx\n"
    "	jnz 2b\n"
    "	add blob_value(%rip), %rax\n"
    "	incl blob_count(%rip)\n"
    "	lea blob(%rip), %rdx\n"
    "	add %rdx, %rax\n"
    "blob_changes: add $1, %rax\n"
    "	ret\n"
    "blob_own: mov (%rsp), %rax\n"
    "	ret\n"
    "blob_add: add $10, %rax\n"
    "	ret\n"
    "blob_store: mov %sil, blob_changes+3(%rip)\n"
    "	jmp blob\n"
    "blob_call: call *16(%rdi)\n"
    "blob_behind: ret\n"
    "blob_path: test %rsi, %rsi\n"
    "	jz 4f\n"
    "	dec %rsi\n"
    "	jz blob_third\n"
    "	jmp blob_path\n"
    "4:	ret\n"
    "blob_ud: ud2\n"
    "	ret\n"
    "blob_missing: mov blob+0x8000(%rip), %eax\n"
    "	ret\n"
    "blob_jump: jmp blob+0x8000\n"
    "blob_x87: fninit\n"
    "	fld1\n"
    "	fstp %st(0)\n"
    "blob_fip: fld1\n"
    "	ret\n"
    "blob_env: fnstenv (%rsi)\n"
    "	fninit\n"
    "	ret\n"
    "	.org blob + 4094\n"
    "blob_crossing: mov $0x11223344, %eax\n"
    "	ret\n"
    "blob_far: add $5, %rax\n"
    "	ret\n"
    "	.org blob + 8187\n"
    "blob_on: mov $7, %eax\n"
    "blob_third: ret\n"
    "	.balign 64\n"
    "blob_value: .quad 1000\n"
    "blob_count: .quad 0\n"
    "	.balign 4096\n");
extern uint8_t blob[], blob_own[], blob_call[], blob_behind[], blob_path[], blob_changes[], blob_store[], blob_ud[], blob_missing[], blob_jump[], blob_x87[], blob_fip[], blob_env[], blob_crossing[], blob_on[],
	blob_value[], blob_count[];

static uint8_t *frames[3];
static struct { uint64_t to, rsi, function; } order;

static NAKED void go(void *order)
{
	asm volatile("mov 8(%rdi), %rsi; jmp *(%rdi)");
}

/* Runs the blob from there at a place; NONE or a vector. */
static int run(unsigned place, const uint8_t *from, uint64_t rsi)
{
	order.to = PLACE(place) + (uint64_t)(from - blob);
	order.rsi = rsi;
	return user(go, USER(&order));
}

static uint8_t *own(const uint8_t *of)
{
	return frames[(of - blob) / PAGE] + (of - blob) % PAGE;
}

static bool right(unsigned place, uint64_t more)
{
	return run(place, blob, 0) == NONE && caught.frame.rax == PLACE(place) + 1315 + more;
}

static void test_places(void)
{
	bool good = true;
	for (unsigned n = 0; n < 60; n++)
		good &= right(n % PLACES, 1);
	check(good, "one after the other, 20 times");
	for (unsigned n = 0; n < 60; n++)
		good &= right(n / 20, 1);
	check(good, "20 times at each");
	good = true;
	for (unsigned n = 0; n < 60; n++) {
		order.function = PLACE(n % PLACES) + (uint64_t)(blob_own - blob);
		good &= run(n % PLACES, blob_call, 0) == NONE && caught.frame.rax == PLACE(n % PLACES) + (uint64_t)(blob_behind - blob);
	}
	check(good, "what a call through memory pushes");
	check_equal(*(uint32_t *)own(blob_count), 120, "what it stored relative to RIP");
}

/* The parts of a loop come first at one place each; when all of it has run often, it leaves for another page. */
static void test_path(void)
{
	check(run(0, blob_path, 0) == NONE && run(1, blob_path, 1) == NONE, "parts of a loop at two places");
	check(run(2, blob_path, 10000) == NONE, "the loop at a third one");
	check(run(0, blob_path, 10000) == NONE, "and at the first");
}

static void test_changes(void)
{
	bool good = true;
	for (unsigned n = 0; n < 60; n++) {
		own(blob_changes)[3] = (uint8_t)(n % 100);
		for (unsigned place = 0; place < PLACES; place++)
			good &= right((place + n) % PLACES, n % 100);
	}
	check(good, "changed by its physical address");
	for (unsigned n = 0; n < 60; n++) {
		good &= run(n % PLACES, blob_store, n) == NONE && caught.frame.rax == PLACE(n % PLACES) + 1315 + n;
		for (unsigned place = 0; place < PLACES; place++)
			good &= right(place, n);
	}
	check(good, "changed by itself at each place");
	own(blob_changes)[3] = 1;
}

static void test_faults(void)
{
	for (unsigned n = 0; n < 2 * PLACES; n++) {
		uint64_t base = PLACE(n % PLACES);
		run(n % PLACES, blob_ud, 0);
		check_caught(UD, 0, base + (uint64_t)(blob_ud - blob), "an instruction that is none");
		run(n % PLACES, blob_missing, 0);
		check_caught(PF, 4, base + (uint64_t)(blob_missing - blob), "memory that is not there, relative to RIP");
		check_equal(caught.cr2, base + 0x8000, "its address");
		run(n % PLACES, blob_jump, 0);
		check_caught(PF, 0x14, base + 0x8000, "a jump to where nothing is");
		right(n % PLACES, 1);
	}
}

static void test_x87(void)
{
	static uint32_t environment[7];
	bool good = true;
	for (unsigned n = 0; n < 10; n++) {
		unsigned place = n % PLACES;
		good &= run(place, blob_x87, 0) == NONE && right((place + 1) % PLACES, 1) && run((place + 2) % PLACES, blob_env, USER(environment)) == NONE;
		good &= environment[3] == (uint32_t)(PLACE(place) + (uint64_t)(blob_fip - blob));
	}
	check(good, "FIP is where the x87 instruction ran");
}

/* At the last place another page stands behind the first one. */
static void test_next_page(void)
{
	uint8_t *other = page_alloc();
	bool good = true;
	memcpy(other, frames[1], PAGE);
	other[2] = 0x77; /* of the immediate that begins on the page before */
	map(PLACE(2) + PAGE, (uint64_t)other, PTE_P | PTE_W | PTE_U, 1);
	for (unsigned n = 0; n < 30; n++)
		good &= run(n % PLACES, blob_crossing, 0) == NONE && caught.frame.rax == (n % PLACES == 2 ? 0x77223344 : 0x11223344);
	check(good, "an instruction that ends on another page at one place");
	other[PAGE - 4] = 8; /* of the last instruction */
	for (unsigned n = 0; n < 30; n++)
		good &= run(n % PLACES, blob_on, 0) == NONE && caught.frame.rax == (n % PLACES == 2 ? 8 : 7);
	check(good, "on to the next page");
	map(PLACE(2) + PAGE, (uint64_t)frames[1], PTE_P | PTE_W | PTE_U, 1);
	check(run(2, blob_on, 0) == NONE && caught.frame.rax == 7, "the page is the same again");
}

/* A place gets copies of the code with another value, and what was there before again. */
static void test_remap(void)
{
	uint8_t *copy[3];
	bool good = true;
	for (unsigned n = 0; n < 3; n++)
		memcpy(copy[n] = page_alloc(), frames[n], PAGE);
	copy[0][own(blob_changes) + 3 - frames[0]] = 50;
	for (unsigned n = 0; n < 20; n++) {
		for (unsigned k = 0; k < 3; k++)
			map(PLACE(1) + k * PAGE, (uint64_t)(n & 1 ? frames[k] : copy[k]), PTE_P | PTE_W | PTE_U, 1);
		for (unsigned place = 0; place < PLACES; place++)
			good &= right(place, place == 1 && !(n & 1) ? 50 : 1);
	}
	check(good, "other pages at one place, and the same again");
}

int main(void)
{
	for (unsigned n = 0; n < 3; n++)
		memcpy(frames[n] = page_alloc(), blob + n * PAGE, PAGE);
	for (unsigned place = 0; place < PLACES; place++)
		for (unsigned n = 0; n < 3; n++)
			map(PLACE(place) + n * PAGE, (uint64_t)frames[n], PTE_P | PTE_W | PTE_U, 1);
	test_places();
	test_path();
	test_changes();
	test_faults();
	test_x87();
	test_next_page();
	test_remap();
	return 0;
}
