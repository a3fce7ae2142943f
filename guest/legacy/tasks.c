/* SPDX-License-Identifier: MIT */
/* Hardware task switches: JMP, CALL, INT, exceptions and IRET between 32- and 16-bit tasks, through TSS descriptors and task gates; busy
 * bits, back links, NT, TS, CR3, the LDT, the trap bit, breakpoints; and what is wrong before, and after, the switch. SDM 3A chapter 7 */
#include "legacy/lib/legacy.h"

enum { TASK = FREE_SEL, GATE = FREE_SEL + 8, TASK16 = FREE_SEL + 16, TASK3 = FREE_SEL + 24, LDT = FREE_SEL + 32, ODD = FREE_SEL + 40, CODE16 = FREE_SEL + 48,
       DATA16 = FREE_SEL + 56 };
enum { VECTOR = 0x90, BUSY = 0x8b, AVAILABLE = 0x89 };

struct tss16 {
	uint16_t link, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, ax, cx, dx, bx, sp, bp, si, di, es, cs, ss, ds, ldt;
};

static struct tss second;
struct tss third;
static struct tss16 small;
static uint8_t stack2[PAGE] __attribute__((aligned(16))), stack3[PAGE] __attribute__((aligned(16)));
uint32_t seen[16];
struct {
	uint32_t offset;
	uint16_t selector;
} __attribute__((packed)) far;

/* The second task: notes what it finds, then goes back as it is told by EBX: 0 IRET, 1 far JMP to the first task. It runs on from there when it is called again. */
extern uint8_t task2[], task2_error[], task2_again[], task16[], task16_end[], df_task[], task_cr3[], task_ldt[], task3[];
uint32_t df_esp;
asm(".pushsection .text\n"
    "task2: mov %eax, seen; mov %esp, seen+4; pushf; pop %ecx; mov %ecx, seen+8; str %ecx; mov %ecx, seen+12; mov %cr0, %ecx; mov %ecx, seen+16\n"
    "  mov %fs, %ecx; mov %ecx, seen+20; mov %cr3, %ecx; mov %ecx, seen+24; clts\n"
    "  cmp $1, %ebx; je 1f; \n"
    "task2_iret: iret\n"
    "task2_again: inc %eax; jmp task2\n"
    "1: ljmp $0x28, $0\n" /* TSS_SEL */
    "  jmp task2_again\n"
    "task2_error: pop %ecx; mov %ecx, seen+28; movl $error_back, tss+32; iret\n" /* EIP of the first task: behind what faulted */
    ".balign 16\n"
    "task16: .code16\n mov %ax, %es:(%bx); mov %esp, %es:4(%bx); pushf; popw %es:2(%bx); iret\n.code32\n"
    "task16_end:\n"
    "df_task: pop %eax; mov %eax, seen; mov tss+56, %eax; mov %eax, seen+4\n" /* ESP of the first task */
    "  movl $df_back, tss+32; mov df_esp, %eax; mov %eax, tss+56; iret\n"
    "task_cr3: mov 0x800000, %ecx; mov %ecx, seen+32; mov %cr3, %ecx; mov %ecx, seen+24; iret\n"
    "task3: pop %eax; mov %eax, seen+32; mov third, %eax; mov %eax, seen+36; andb $0xfd, gdt+0x28+5; ljmp $0x28, $0\n"
    "task_ldt: sldt %ecx; mov %ecx, seen; mov %fs:0, %ecx; mov %ecx, seen+4; iret\n"
    ".popsection");

static void set_task(struct tss *t, uint16_t selector, unsigned access)
{
	gdt[selector / 8] = descriptor((uint32_t)t, TSS_LIMIT, access, 0);
}

static void fresh(void)
{
	memset(&second, 0, 104);
	second.eip = (uint32_t)task2;
	second.eflags = 2;
	second.eax = 0x1234;
	second.esp = (uint32_t)stack2 + 2048;
	second.es = second.ds = second.ss = second.fs = KDS;
	second.cs = KCS;
	second.io_map = sizeof(second);
	second.cr3 = READ_CR(3);
	set_task(&second, TASK, AVAILABLE);
	memset(seen, 0, sizeof(seen));
	far.selector = TASK;
	far.offset = 0xdead;
	asm volatile("clts");
	gdt[GATE / 8] = gate(TASK, 0, 0x85, 0);
}

static unsigned access_of(uint16_t selector)
{
	return gdt[selector / 8] >> 40 & 0xff;
}

static void call(void)
{
	asm volatile("lcall *far" : : : "memory", "cc");
}
static void jump(void)
{
	asm volatile("ljmp *far" : : : "memory", "cc");
}

static void test_call(void)
{
	uint32_t flags;
	fresh();
	second.eflags = 2 | FLAG_IOPL;
	asm volatile("mov $0x5678, %%edi; lcall *far" : : : "edi", "memory", "cc");
	check_equal(seen[0], 0x1234, "CALL to a TSS: the new task has its registers");
	check_equal(seen[1], (uint32_t)stack2 + 2048, "and its stack: nothing was pushed");
	check_equal(seen[2], 2 | FLAG_IOPL | FLAG_NT, "EFLAGS from the TSS, with NT");
	check_equal(seen[3], TASK, "TR");
	check(seen[4] & CR0_TS, "CR0.TS is set");
	check_equal(seen[5], KDS, "FS from the TSS");
	check_equal(second.link, TSS_SEL, "the back link");
	check_equal(tss.edi, 0x5678, "the old task's registers are in its TSS");
	check(access_of(TASK) == AVAILABLE && access_of(TSS_SEL) == BUSY, "IRET: the called task is available again, the first one busy");
	check(!(second.eflags & FLAG_NT), "IRET saves the task's EFLAGS without NT");
	check_equal(second.eip, (uint32_t)task2_again, "and EIP behind the IRET");
	asm volatile("pushf; pop %0" : "=r"(flags));
	check(!(flags & FLAG_NT), "back in the first task without NT");
	asm volatile("str %0" : "=r"(flags));
	check_equal(flags & 0xffff, TSS_SEL, "and with its TR");
	call();
	check_equal(seen[0], 0x1235, "the next CALL goes on where the task left off");
	/* SDM 3A 7.2.2: the busy bit keeps a task from being entered twice */
	fresh();
	set_task(&second, TASK, BUSY);
	TRY("lcall *far", :);
	check_caught(GP, TASK, try_at, "#GP CALL to a busy TSS");
	far.selector = TSS_SEL;
	TRY("ljmp *far", :);
	check_caught(GP, TSS_SEL, try_at, "#GP JMP to the own TSS");
}

static void test_jump(void)
{
	fresh();
	second.ebx = 1;
	second.link = 0x4444;
	jump();
	check(seen[0] == 0x1234 && !(seen[2] & FLAG_NT), "JMP to a TSS: not nested");
	check_equal(second.link, 0x4444, "no back link is written");
	check(access_of(TASK) == AVAILABLE && access_of(TSS_SEL) == BUSY, "JMP back: the task left is available");
	fresh();
	far.selector = GATE;
	call();
	check(seen[0] == 0x1234 && (seen[2] & FLAG_NT), "CALL through a task gate");
	gdt[GATE / 8] = gate(TASK, 0, 0x05, 0);
	TRY("lcall *far", :);
	check_caught(NP, GATE, try_at, "#NP a task gate that is not present");
}

static NAKED void u_call(void)
{
	asm("lcall *far; ret");
}

static void test_privilege(void)
{
	fresh();
	far.selector = TASK | 3;
	user(u_call, 0);
	check(caught.vector == GP && caught.frame.error == TASK, "#GP CALL from ring 3 to a TSS of DPL 0");
	gdt[GATE / 8] = gate(TASK, 0, 0xe5, 0);
	far.selector = GATE | 3;
	check_vector(user(u_call, 0), NONE, "a task gate of DPL 3 lets ring 3 in, and IRET comes back to it");
	check_equal(seen[0], 0x1234, "the task ran");
	fresh();
	set_task(&second, TASK, 0xe9);
	far.selector = TASK | 3;
	check_vector(user(u_call, 0), NONE, "CALL from ring 3 to a TSS of DPL 3");
}

/* SDM 3A 6.12.2 */
static void test_interrupts(void)
{
	fresh();
	idt[VECTOR] = gate(TASK, 0, 0x85, 0);
	asm volatile("int $0x90" : : : "memory", "cc");
	check(seen[0] == 0x1234 && (seen[2] & FLAG_NT) && second.link == TSS_SEL, "INT n through a task gate");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), GATE_INTERRUPT, 0);

	fresh();
	second.eip = (uint32_t)task2_error;
	uint64_t old = idt[GP];
	idt[GP] = gate(TASK, 0, 0x85, 0);
	seen[7] = 0xdead;
	asm volatile("mov $0x7f0, %%ecx; mov %%ecx, %%fs; error_back:" : : : "ecx", "memory", "cc");
	idt[GP] = old;
	check_equal(seen[7], 0x7f0, "#GP through a task gate: the error code is on the new task's stack");
	check(!(access_of(TASK) & 2), "and IRET came back");
}

/* The classical use: #DF through a task gate, when the stack is gone. SDM 3A 6.15, interrupt 8 */
static void test_double_fault(void)
{
	uint64_t old = idt[DF];
	fresh();
	second.eip = (uint32_t)df_task;
	idt[DF] = gate(TASK, 0, 0x85, 0);
	gdt[ODD / 8] = descriptor(0, 0xfff, 0x97, 0xc); /* expand down: nothing below 16 MiB may be a stack */
	asm volatile("mov %%esp, df_esp; mov %0, %%ss; mov $8, %%esp; ud2; df_back: mov %1, %%ss" : : "r"(ODD), "r"(KDS) : "memory", "cc");
	idt[DF] = old;
	check(seen[0] == 0 && seen[1] == 8, "#DF through a task gate when no exception can be pushed");
}

static void test_cr3(void)
{
	/* The task has its own page tables: linear 8 MiB is elsewhere. SDM 3A 7.3, step 10 */
	uint32_t *one = page_alloc(), *two = page_alloc(), *mine = page_alloc(), *other = page_alloc();
	fresh();
	if (!HAS_1_EDX(3)) {
		skip("CR3 of a task", "no 4 MiB pages");
		return;
	}
	for (unsigned n = 0; n < 16; n++)
		one[n] = two[n] = n << 22 | 0x87;
	two[2] = (uint32_t)page_alloc() | 7;
	*(uint32_t *)(two[2] & ~0xfffu) = (uint32_t)other | 7;
	*mine = 0, *other = 0x600d;
	uint32_t before = *(uint32_t *)0x800000;
	*(uint32_t *)0x800000 = 0xbad;
	WRITE_CR(4, READ_CR(4) | CR4_PSE);
	WRITE_CR(3, one);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	second.eip = (uint32_t)task_cr3;
	second.cr3 = (uint32_t)two;
	tss.cr3 = (uint32_t)one;
	call();
	uint32_t after = *(volatile uint32_t *)0x800000, cr3 = READ_CR(3);
	check(seen[8] == 0x600d && seen[6] == (uint32_t)two, "a task has its CR3 and page tables");
	check(after == 0xbad && cr3 == (uint32_t)one, "and the one that it returns to has its own");
	check_equal(tss.cr3, (uint32_t)one, "CR3 is not saved in the TSS, only loaded");
	WRITE_CR(0, READ_CR(0) & ~CR0_PG);
	WRITE_CR(4, READ_CR(4) & ~CR4_PSE);
	*(uint32_t *)0x800000 = before;
	tss.cr3 = 0;
}

static void test_ldt(void)
{
	static uint64_t ldt[2];
	static uint32_t word = 0x1d71d7;
	ldt[1] = descriptor((uint32_t)&word, 3, 0x93, 4);
	gdt[LDT / 8] = descriptor((uint32_t)ldt, sizeof(ldt) - 1, 0x82, 0);
	fresh();
	second.eip = (uint32_t)task_ldt;
	second.ldt = LDT;
	second.fs = 0xc;
	call();
	uint32_t now = 0;
	asm volatile("sldt %0" : "=r"(now));
	check(seen[0] == LDT && seen[1] == 0x1d71d7 && (now & 0xffff) == 0, "a task has its LDT");
}

/* The debug trap of the T bit, and local breakpoints. SDM 3B 17.3.1.4, 3A 7.2.1 */
static void test_debug(void)
{
	fresh();
	second.trap = 1;
	WRITE_DR(6, 0xffff0ff0);
	WRITE_DR(7, 0x455); /* all local ones, at addresses where nothing is */
	attempt(call, 0);
	check(caught.vector == DB && caught.frame.eip == (uint32_t)task2 && caught.frame.cs == KCS, "the T bit: #DB before the first instruction of the task");
	check(caught.dr6 & 0x8000, "DR6.BT");
	check_equal(READ_DR(7) & 0x155, 0, "a task switch clears the local breakpoints");
	WRITE_DR(7, 0x400);
	uint32_t tr;
	asm volatile("str %0" : "=r"(tr));
	check_equal(tr & 0xffff, TASK, "it is the new task that was trapped");
	/* Back by hand. */
	set_task(&tss, TSS_SEL, AVAILABLE);
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
}

static void test_task16(void)
{
	static uint8_t code[32] __attribute__((aligned(16)));
	memcpy(code, task16, (size_t)(task16_end - task16));
	gdt[CODE16 / 8] = descriptor((uint32_t)code, 0xffff, 0x9b, 0);
	gdt[DATA16 / 8] = descriptor((uint32_t)seen, 0xffff, 0x93, 0);
	memset(seen, 0, sizeof(seen));
	gdt[ODD / 8] = descriptor((uint32_t)stack3, 0xfff, 0x93, 0);
	small = (struct tss16){ .flags = 2, .ax = 0x5a5a, .bx = 8, .sp = 0x800, .es = DATA16, .cs = CODE16, .ss = ODD, .ds = DATA16 };
	gdt[TASK16 / 8] = descriptor((uint32_t)&small, sizeof(small) - 1, 0x81, 0);
	asm volatile("clts");
	far.selector = TASK16;
	call();
	check_equal(seen[2] & 0xffff, 0x5a5a, "a 16-bit task");
	check(seen[2] >> 16 & FLAG_NT, "it is nested");
	check_equal(seen[3] & 0xffff, 0x800, "SP from its TSS");
	check(small.link == TSS_SEL && small.ip != 0 && (gdt[TASK16 / 8] >> 40 & 0xff) == 0x81, "its TSS after IRET");
	gdt[TASK16 / 8] = descriptor((uint32_t)&small, 0x2a, 0x81, 0);
	TRY("lcall *far", :);
	check_caught(TS, TASK16, try_at, "#TS a 16-bit TSS whose limit is below 2Bh");
}

/* SDM 3A 7.3, steps 1 to 8: nothing has changed yet */
static void test_before(void)
{
	fresh();
	gdt[TASK / 8] = descriptor((uint32_t)&second, 0x66, AVAILABLE, 0);
	TRY("lcall *far", :);
	check_caught(TS, TASK, try_at, "#TS a TSS whose limit is below 67h");
	set_task(&second, TASK, 0x09);
	TRY("lcall *far", :);
	check_caught(NP, TASK, try_at, "#NP a TSS that is not present");
	far.selector = TASK | 4;
	asm volatile("lldt %w0" : : "r"(0));
	TRY("lcall *far", :);
	check_caught(GP, TASK | 4, try_at, "#GP a TSS in the LDT");
	gdt[GATE / 8] = gate(KDS, 0, 0x85, 0);
	far.selector = GATE;
	TRY("lcall *far", :);
	check_caught(GP, KDS, try_at, "#GP a task gate to what is no TSS");
	/* IRET with a bad back link. SDM 3A 7.4 */
	tss.link = KDS;
	TRY("pushf; orl $0x4000, (%%esp); popf; iret", :);
	check(caught.vector == TS && caught.frame.error == KDS, "#TS IRET with a back link to what is no TSS");
	fresh();
	tss.link = TASK; /* not busy */
	TRY("pushf; orl $0x4000, (%%esp); popf; iret", :);
	check(caught.vector == TS && caught.frame.error == TASK, "#TS IRET to a task that is not busy");
	tss.link = 0;
	uint32_t tr;
	asm volatile("str %0" : "=r"(tr));
	check_equal(tr & 0xffff, TSS_SEL, "none of these switched");
	asm volatile("pushf; andl $~0x4000, (%%esp); popf" : : : "cc", "memory");
}

/* Such a fault wants a task of its own, since any segment register may be unusable (SDM 3A 6.13, interrupt 10): it notes the error code and which
 * task it interrupted, and goes to the first one. */
static void check_after(int vector, uint32_t error, const char *name)
{
	uint64_t old = idt[vector];
	memset(&third, 0, 104);
	third.eip = (uint32_t)task3;
	third.eflags = 2;
	third.esp = (uint32_t)stack3 + 2048;
	third.es = third.ds = third.ss = KDS;
	third.cs = KCS;
	set_task(&third, TASK3, AVAILABLE);
	idt[vector] = gate(TASK3, 0, 0x85, 0);
	seen[8] = seen[9] = ~0u;
	call();
	idt[vector] = old;
	asm volatile("lldt %w0; clts" : : "r"(0));
	check(seen[8] == error && seen[9] == TASK && second.eip == (uint32_t)task2, name);
}

/* SDM 3A 7.3, steps 9 on: the new task runs, what is wrong with its segments is its own fault */
static void test_after(void)
{
	fresh();
	second.cs = UCS & ~3;
	check_after(TS, UCS & ~3, "#TS CS of the new task: DPL is not RPL");
	fresh();
	second.ds = UDS, second.es = KCS | 0x700;
	check_after(TS, KCS | 0x700, "#TS ES of the new task is behind the GDT");
	fresh();
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x13, 0xc);
	second.fs = ODD;
	check_after(NP, ODD, "#NP FS of the new task is not present");
	fresh();
	second.ldt = KDS;
	check_after(TS, KDS, "#TS LDT of the new task is no LDT");
}

int main(void)
{
	test_call();
	test_jump();
	test_privilege();
	test_interrupts();
	test_double_fault();
	test_cr3();
	test_ldt();
	test_debug();
	test_task16();
	test_before();
	test_after();
	return 0;
}
