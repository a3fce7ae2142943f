/* SPDX-License-Identifier: MIT */
/* Debug facilities as 32-bit code has them: breakpoints are linear addresses whatever the segment is, lengths and alignment, I/O of every
 * width, several at once, RF, single step and what it skips, ICEBP, the general detect fault, DR4 and DR5. SDM 3B chapter 17 */
#include "legacy/lib/legacy.h"

enum { CODE = FREE_SEL, DATA = FREE_SEL + 8 };
#define EXECUTE 0u
#define WRITES 1u
#define IO 2u
#define ACCESSES 3u

static uint8_t bytes[64] __attribute__((aligned(64)));

/* Breakpoint n; length as DR7 has it: 0, 1, 3 are 1, 2, 4 bytes. */
static void set(unsigned n, uint32_t at, unsigned kind, unsigned length)
{
	switch (n) {
	case 0: WRITE_DR(0, at); break;
	case 1: WRITE_DR(1, at); break;
	case 2: WRITE_DR(2, at); break;
	default: WRITE_DR(3, at); break;
	}
	WRITE_DR(7, (READ_DR(7) & ~(0xfu << (16 + 4 * n))) | 1u << 2 * n | kind << (16 + 4 * n) | length << (18 + 4 * n));
}

static void clear(void)
{
	WRITE_DR(7, 0x400);
	WRITE_DR(6, 0xffff0ff0);
}

static void met(unsigned breakpoints, const char *name)
{
	check(caught.vector == (breakpoints ? DB : NONE) && (!breakpoints || (caught.dr6 & 0xf) == breakpoints), name);
	clear();
}

static void test_data(void)
{
	uint32_t at = (uint32_t)bytes;
	set(0, at, WRITES, 3);
	TRY("movl $1, (%0)", : "r"(bytes));
	check_caught(DB, 0, try_end, "a write breakpoint is a trap");
	met(1, "DR6.B0");
	set(0, at + 2, WRITES, 3); /* not aligned: the low bits do not count */
	TRY("movb $1, (%0)", : "r"(bytes + 1));
	met(1, "a breakpoint is aligned to its length");
	set(1, at + 8, ACCESSES, 1);
	TRY("movl $1, (%0)", : "r"(bytes + 5));
	met(2, "an access that overlaps it by a byte");
	set(1, at + 8, WRITES, 1);
	TRY("cmpl $1, (%0)", : "r"(bytes + 8));
	met(0, "a write breakpoint and a read");
	set(0, at, WRITES, 0);
	set(2, at + 1, ACCESSES, 0);
	set(3, at + 7, WRITES, 0);
	TRY("movw $1, (%0)", : "r"(bytes));
	met(5, "two breakpoints at once, and one that is not met");
	/* Linear addresses, whatever the segment is. */
	gdt[DATA / 8] = descriptor(at, 0xfff, 0x93, 4);
	asm volatile("mov %0, %%fs" : : "r"(DATA));
	set(0, at + 4, WRITES, 3);
	TRY("movl $1, %%fs:4", :);
	met(1, "through a segment with a base");
	asm volatile("mov %0, %%fs" : : "r"(0));
	set(0, at + 4, WRITES, 3);
	TRY("push %0; pop (%1)", : "r"(1), "r"(bytes + 4));
	met(1, "POP to memory");
	set(0, at + 4, ACCESSES, 3);
	TRY("lock addl $1, (%0)", : "r"(bytes + 4));
	met(1, "a locked read-modify-write");
	/* Enabled globally, it outlives a task; here just: both enables work. */
	WRITE_DR(0, at);
	WRITE_DR(7, 0x402 | WRITES << 16);
	TRY("movb $1, (%0)", : "r"(bytes));
	met(1, "the global enable");
	WRITE_DR(7, 0x400 | WRITES << 16);
	TRY("movb $1, (%0)", : "r"(bytes));
	met(0, "neither enable");
}

static unsigned hits;
/* The handler sets RF itself. SDM 3B 17.3.1.1 */
static bool count_hits(struct frame *f)
{
	hits++;
	f->eflags |= FLAG_RF;
	return f->vector == DB && hits < 10;
}

extern uint8_t break_at[], seg_code[], seg_break[];
asm(".pushsection .text; .balign 16; seg_code: nop; seg_break: mov $0x55, %eax; lret; .popsection");

static void test_code(void)
{
	uint32_t value = 0;
	set(1, (uint32_t)break_at, EXECUTE, 0);
	hits = 0;
	trap_handler = count_hits;
	asm volatile("break_at: inc %0" : "+r"(value) : : "memory", "cc");
	check(hits == 1 && value == 1 && caught.frame.eip == (uint32_t)break_at, "an instruction breakpoint is a fault; RF lets the instruction run once");
	clear();
	gdt[CODE / 8] = descriptor((uint32_t)seg_code, 0xff, 0x9b, 4);
	set(1, (uint32_t)seg_break, EXECUTE, 0);
	static const struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) far = { 0, CODE };
	hits = 0;
	asm volatile("lcall *%1" : "=a"(value) : "m"(far) : "memory");
	check(hits == 1 && value == 0x55, "it is a linear address: through a code segment with a base");
	trap_handler = NULL;
	clear();
}

static void test_io(void)
{
	WRITE_CR(4, READ_CR(4) | CR4_DE);
	set(0, 0x82, IO, 0);
	TRY("outb %%al, $0x82", : "a"(0));
	met(1, "OUT of a byte");
	set(0, 0x82, IO, 0);
	TRY("outb %%al, $0x80", : "a"(0));
	met(0, "OUT to another port");
	set(0, 0x82, IO, 0);
	TRY("outl %%eax, $0x80", : "a"(0));
	met(1, "OUT of four ports, of which it is one");
	set(0, 0x80, IO, 3);
	uint32_t value;
	TRY("inb $0x83, %%al", "=a"(value) :);
	met(1, "IN within its four ports");
	set(0, (uint32_t)bytes, IO, 0);
	TRY("movb $1, (%0)", : "r"(bytes));
	met(0, "memory of that address");
	uint32_t esi = (uint32_t)bytes, ecx = 3;
	set(0, 0x80, IO, 0);
	TRY("rep outsb", "+S"(esi), "+c"(ecx) : "d"(0x80));
	check(caught.vector == DB && caught.frame.ecx == 2 && caught.frame.eip == try_at, "REP OUTS stops behind the first");
	clear();
	TRY("mov %%dr4, %0", "=r"(value) :);
	check_caught(UD, 0, try_at, "#UD DR4 with CR4.DE");
	WRITE_CR(4, READ_CR(4) & ~CR4_DE);
	TRY("mov %%dr5, %0", "=r"(value) :);
	check(caught.vector == NONE && value == READ_DR(7), "DR5 is DR7 without CR4.DE");
}

/* --- single step --- */

static uint32_t steps[16];
static bool note_step(struct frame *f)
{
	if (f->vector != DB)
		return false;
	if (hits < ARRAY_SIZE(steps))
		steps[hits] = f->eip;
	hits++;
	return true;
}

extern uint8_t step_first[], step_pop[], step_behind[], step_int[], step_end[];

static void test_step(void)
{
	hits = 0;
	trap_handler = note_step;
	asm volatile("pushf; orl $0x100, (%%esp); popf\n"
		     "step_first: nop\n"
		     "mov %%ss, %%eax; mov %%eax, %%ss\n"
		     "step_pop: nop\n" /* its trap is the next: that behind MOV SS is held off, and lost */
		     "step_behind: pushf; andl $~0x100, (%%esp); popf\n"
		     "step_end: nop"
		     : : : "eax", "memory", "cc");
	trap_handler = NULL;
	bool lost = true;
	for (unsigned n = 0; n < hits && n < ARRAY_SIZE(steps); n++)
		lost &= steps[n] != (uint32_t)step_pop;
	check(hits == 6 && steps[0] == (uint32_t)step_first + 1 && lost, "single steps; none between MOV SS and the next instruction");
	check_equal(READ_DR(6) & 0x4000, 0x4000, "DR6.BS");
	check(!(caught.frame.eflags & FLAG_RF), "a trap pushes no RF");
	clear();
	TRY("pushf; orl $0x100, (%%esp); popf; int1", :);
	check_vector(caught.vector, DB, "ICEBP");
	clear();
	TRY(".byte 0xf1", :);
	check_caught(DB, 0, try_end, "ICEBP is a trap");
	check_equal(caught.dr6 & 0x600f, 0, "and sets no bit of DR6");
	/* What MOV SS holds back is told of by the #DB that comes in its shadow, and not again. */
	uint16_t ss;
	asm("mov %%ss, %0" : "=m"(ss));
	hits = 0;
	trap_handler = note_step;
	set(0, (uint32_t)&ss, ACCESSES, 1);
	asm volatile("mov %0, %%ss; .byte 0xf1" : : "m"(ss) : "memory");
	check(hits == 1 && (READ_DR(6) & 0xf) == 1, "ICEBP behind MOV SS from watched memory: one #DB");
	trap_handler = NULL;
	clear();
	/* General detect. SDM 3B 17.2.4 */
	WRITE_DR(7, 0x400 | 1 << 13);
	TRY("mov %0, %%dr3", : "r"(0));
	check_caught(DB, 0, try_at, "DR7.GD: a MOV to a debug register is a fault");
	check(caught.dr6 & 0x2000, "DR6.BD");
	clear();
}

static NAKED void u_debug(void)
{
	asm("mov %dr7, %eax; ret");
}
static NAKED void u_write(void)
{
	asm("movb $1, (%eax); u_write_end: ret");
}
extern uint8_t u_write_end[];

static void test_user(void)
{
	user(u_debug, 0);
	check_caught(GP, 0, (uint32_t)u_debug, "#GP a debug register in ring 3");
	set(0, (uint32_t)bytes, WRITES, 0);
	user(u_write, (uint32_t)bytes);
	check_caught(DB, 0, (uint32_t)u_write_end, "a breakpoint in ring 3");
	clear();
	user_flags(u_write, (uint32_t)bytes, FLAG_TF);
	check_caught(DB, 0, (uint32_t)u_write_end, "a single step in ring 3");
	clear();
}

int main(void)
{
	clear();
	test_data();
	test_code();
	test_io();
	test_step();
	test_user();
	return 0;
}
