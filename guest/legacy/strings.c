/* SPDX-License-Identifier: MIT */
/* String instructions that fault in their middle: each kind, operand size and address size, upward and downward, over a page that is not there
 * until its fault is served. The registers in the fault's frame must say what is done, and the whole must come out as if there had been no
 * fault. And INS, OUTS; REP with a count of zero; segment overrides; data breakpoints between iterations. SDM 2, REP; 1, 7.3.9 */
#include "legacy/lib/legacy.h"

#define BASE 0x8000u       /* below 64 KiB, so that 16-bit addresses reach it */
#define HOLE (BASE + PAGE) /* the page that is missing */
#define SOURCE 0xc000u
#define LENGTH 0x600u      /* bytes, half before and half behind the hole's edge */

static uint32_t *table;
static unsigned served;
static struct frame at_fault;

static void present(uint32_t at, bool there)
{
	uint32_t *entry = &table[at >> 12];
	*entry = there ? *entry | 1 : *entry & ~1u;
	asm volatile("invlpg (%0)" : : "r"(at) : "memory");
}

static bool serve(struct frame *f)
{
	if (f->vector != PF)
		return false;
	served++;
	at_fault = *f;
	present(READ_CR(2) & ~(PAGE - 1), true);
	return true;
}

enum { MOVS, STOS, LODS, CMPS, SCAS, KINDS };
static const char *const kinds[KINDS] = { "MOVS", "STOS", "LODS", "CMPS", "SCAS" };

static uint8_t code[8];
struct registers {
	uint32_t eax, ecx, esi, edi;
};

static struct registers run(struct registers r, bool down)
{
	if (down)
		asm volatile("std");
	asm volatile("call *%4; cld" : "+a"(r.eax), "+c"(r.ecx), "+S"(r.esi), "+D"(r.edi) : "r"(code) : "memory", "cc");
	return r;
}

static void make(unsigned kind, unsigned size, bool address16)
{
	static const uint8_t opcode[KINDS] = { 0xa4, 0xaa, 0xac, 0xa6, 0xae };
	uint8_t *c = code;
	if (address16)
		*c++ = 0x67;
	if (size == 2)
		*c++ = 0x66;
	*c++ = 0xf3;
	*c++ = opcode[kind] | (size > 1);
	*c = 0xc3;
}

/* One run over the edge, whose faults are served; compared with what a run without faults leaves. */
static bool crosses(unsigned kind, unsigned size, bool address16, bool down)
{
	uint32_t count = LENGTH / size, first = down ? HOLE + LENGTH / 2 - size : HOLE - LENGTH / 2;
	uint32_t other = down ? SOURCE + LENGTH - size : SOURCE;
	bool from_hole = kind == LODS || kind == CMPS;
	struct registers r = { 0x41414141, count, from_hole ? first : other, from_hole ? other : first };
	if (address16) { /* the upper halves do not count, and must stay */
		r.ecx |= 0x50000, r.esi |= 0x70000, r.edi |= 0x30000;
	}
	for (unsigned n = 0; n < LENGTH; n++) {
		((volatile uint8_t *)SOURCE)[n] = kind == MOVS ? (uint8_t)(n * 7) : 0x41;
		((volatile uint8_t *)HOLE - LENGTH / 2)[n] = kind == MOVS || kind == STOS ? 0 : 0x41;
	}
	/* What lies on the side of the start is done before the fault. */
	uint32_t missing = down ? HOLE - PAGE : HOLE;
	present(missing, false);
	make(kind, size, address16);
	served = 0;
	trap_handler = serve;
	struct registers end = run(r, down);
	trap_handler = NULL;
	uint32_t half = count / 2, step = down ? -(LENGTH / 2) : LENGTH / 2, all = down ? -LENGTH : LENGTH;
	uint32_t mask = address16 ? 0xffff : 0xffffffff;
	bool si = kind != STOS && kind != SCAS, di = kind != LODS;
	bool good = served == 1 && at_fault.ecx == r.ecx - half && at_fault.eip == (uint32_t)code;
	good &= !si || at_fault.esi == ((r.esi & ~mask) | ((r.esi + step) & mask));
	good &= !di || at_fault.edi == ((r.edi & ~mask) | ((r.edi + step) & mask));
	good &= end.ecx == (r.ecx & ~mask) && (!si || end.esi == ((r.esi & ~mask) | ((r.esi + all) & mask))) &&
		(!di || end.edi == ((r.edi & ~mask) | ((r.edi + all) & mask)));
	if (kind == MOVS)
		good &= !memcmp((void *)(HOLE - LENGTH / 2), (void *)SOURCE, LENGTH);
	for (unsigned n = 0; kind == STOS && n < LENGTH; n++)
		good &= ((volatile uint8_t *)HOLE - LENGTH / 2)[n] == 0x41;
	return good;
}

static void test_faults(void)
{
	static const char *const sizes[] = { "", "B", "W", "", "D" };
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned size = 1; size <= 4; size *= 2)
			for (unsigned address16 = 0; address16 < 2; address16++)
				for (unsigned down = 0; down < 2; down++)
					check(crosses(kind, size, address16, down),
					      join(join(kinds[kind], sizes[size]), down ? address16 ? " downward, 16-bit addresses, over a fault" : " downward over a fault"
											: address16 ? " with 16-bit addresses over a fault" : " over a fault"));
}

static void test_others(void)
{
	/* A count of zero touches nothing. SDM 2, REP */
	present(HOLE, false);
	make(MOVS, 4, false);
	served = 0;
	trap_handler = serve;
	run((struct registers){ 0, 0, HOLE, HOLE }, false);
	make(MOVS, 4, true);
	run((struct registers){ 0, 0x50000, HOLE, HOLE }, false); /* CX is zero */
	check_equal(served, 0, "REP with a count of zero touches nothing");
	/* OUTS and INS check their memory before the port is touched. */
	uint32_t esi = HOLE, edi = HOLE, ecx = 3;
	asm volatile("rep outsb" : "+S"(esi), "+c"(ecx) : "d"(0x80) : "memory");
	check(served == 1 && esi == HOLE + 3 && ecx == 0, "REP OUTSB over a fault");
	present(HOLE, false);
	ecx = 3;
	asm volatile("rep insb" : "+D"(edi), "+c"(ecx) : "d"(0x80) : "memory");
	check(served == 2 && edi == HOLE + 3 && ecx == 0, "REP INSB over a fault");
	trap_handler = NULL;
	/* The source has an override, the destination is in ES. */
	gdt[FREE_SEL / 8] = descriptor(SOURCE, 0xfff, 0x93, 4);
	*(volatile uint32_t *)SOURCE = 0x600d, *(volatile uint32_t *)BASE = 0;
	asm volatile("mov %0, %%fs" : : "r"(FREE_SEL));
	uint32_t zero = 0;
	edi = BASE;
	asm volatile("fs movsl" : "+S"(zero), "+D"(edi) : : "memory");
	check_equal(*(volatile uint32_t *)BASE, 0x600d, "MOVS with a segment override");
	TRY("fs lodsl", : "S"(0xffd));
	check_caught(GP, 0, try_at, "#GP LODS across the limit of the segment of its override");
	asm volatile("mov %0, %%fs" : : "r"(0));
	/* A data breakpoint traps behind the iteration that meets it. SDM 3B 17.2.4 */
	WRITE_DR(0, SOURCE + 8);
	WRITE_DR(7, 0x400 | 1 | 1 << 16 | 3 << 18); /* writes of 4 bytes */
	TRY("rep stosl", : "D"(SOURCE), "c"(8), "a"(0));
	WRITE_DR(7, 0x400);
	check(caught.vector == DB && caught.frame.eip == try_at && caught.frame.ecx == 5 && caught.frame.edi == SOURCE + 12,
	      "a data breakpoint stops REP STOSD behind its iteration");
	/* So does a single step, behind each. */
	extern void step_stos(void);
	caught.vector = NONE;
	attempt(step_stos, SOURCE);
	check(caught.vector == DB && caught.frame.ecx == 2 && caught.frame.edi == SOURCE + 4, "a single step stops REP behind its first iteration");
	/* REPE and REPNE end with the flags of the last compare. */
	*(volatile uint32_t *)SOURCE = 0x04030201;
	edi = SOURCE, ecx = 4;
	bool zf;
	asm volatile("repne scasb; setz %2" : "+D"(edi), "+c"(ecx), "=q"(zf) : "a"(3) : "memory", "cc");
	check(zf && ecx == 1 && edi == SOURCE + 3, "REPNE SCASB ends where it finds");
	edi = SOURCE, ecx = 4;
	asm volatile("repe scasb; setz %2" : "+D"(edi), "+c"(ecx), "=q"(zf) : "a"(1) : "memory", "cc");
	check(!zf && ecx == 2 && edi == SOURCE + 2, "REPE SCASB ends where it differs");
}
asm(".pushsection .text; step_stos: mov %eax, %edi; mov $3, %ecx; pushf; orl $0x100, (%esp); popf; rep stosl; ret; .popsection");

int main(void)
{
	uint32_t *directory = page_alloc();
	table = page_alloc();
	for (unsigned n = 0; n < 1024; n++)
		table[n] = n << 12 | 7;
	directory[0] = (uint32_t)table | 7;
	uint32_t *pool = page_alloc();
	for (unsigned n = 0; n < 1024; n++)
		pool[n] = (32 * MIB + (n << 12)) | 3;
	directory[8] = (uint32_t)pool | 3;
	WRITE_CR(3, directory);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	test_faults();
	test_others();
	return 0;
}
