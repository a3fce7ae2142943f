/* SPDX-License-Identifier: MIT */
/* Exceptions: vector, error code, RIP (fault or trap), restart after the cause is mended. gates.c has how they are delivered. SDM 3A chapter 6. */
#include "lib/guest.h"

#define NONCANONICAL 0x8000000000000000ULL

static uint8_t bytes[64] __attribute__((aligned(64)));

/* --- a handler that mends --- */

static unsigned mended;

static bool mend_divisor(struct frame *f)
{
	mended++;
	f->rcx = 7;
	return f->vector == DE;
}

static void test_divide(void)
{
	uint32_t quotient, rest;
	TRY("div %%ecx", "=a"(quotient), "=d"(rest) : "a"(1), "d"(0), "c"(0));
	check_caught(DE, 0, try_at, "#DE division by zero is a fault");
	check(caught.frame.rflags & FLAG_RF, "a fault pushes RF set");
	TRY("div %%ecx", "=a"(quotient), "=d"(rest) : "a"(5), "d"(9), "c"(9));
	check_caught(DE, 0, try_at, "#DE quotient too large");
	check_equal((uint64_t)quotient << 32 | rest, 5ULL << 32 | 9, "#DE leaves EAX and EDX alone");
	TRY("idiv %%ecx", "=a"(quotient), "=d"(rest) : "a"(0x80000000), "d"(0xffffffff), "c"(-1));
	check_caught(DE, 0, try_at, "#DE IDIV of the smallest number by -1");
	trap_handler = mend_divisor;
	TRY("div %%ecx", "=a"(quotient), "=d"(rest) : "a"(100), "d"(0), "c"(0));
	trap_handler = NULL;
	check(mended == 1 && quotient == 14 && rest == 2, "#DE restarted after the handler mended the divisor");
}

static void test_undefined(void)
{
	TRY("ud2", :);
	check_caught(UD, 0, try_at, "#UD UD2");
	TRY(".byte 0xf0, 0x89, 0xc0", :); /* lock mov eax, eax */
	check_caught(UD, 0, try_at, "#UD LOCK with a register destination");
	TRY(".byte 0xf0, 0x8b, 0x05; .long 0", :); /* lock mov eax, [rip] */
	check_caught(UD, 0, try_at, "#UD LOCK on an instruction that cannot");
	TRY(".byte 0xce", :); /* INTO */
	check_caught(UD, 0, try_at, "#UD INTO in 64-bit mode");
	TRY(".byte 0x06", :); /* push es */
	check_caught(UD, 0, try_at, "#UD PUSH ES in 64-bit mode");
	TRY("mov %0, %%cr5", : "r"(0ULL));
	check_caught(UD, 0, try_at, "#UD CR5");
	TRY(".byte 0x8e, 0xc8", :); /* mov cs, eax */
	check_caught(UD, 0, try_at, "#UD MOV to CS");
	TRY(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90", :);
	check_caught(NONE, 0, 0, "an instruction of 15 bytes runs");
	TRY(".byte 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90", :);
	check_caught(GP, 0, try_at, "#GP an instruction of 16 bytes");
}

static void test_traps(void)
{
	TRY("int3", :);
	check_caught(BP, 0, try_end, "#BP is a trap");
	check(!(caught.frame.rflags & FLAG_RF), "a trap pushes RF clear");
	TRY("int $3", :);
	check_caught(BP, 0, try_end, "INT 3 with two bytes is a trap");
	TRY("int $0x91", :);
	check_caught(0x91, 0, try_end, "INT n");
	WRITE_DR(6, 0);
	TRY(".byte 0xf1", :);
	check_caught(DB, 0, try_end, "INT1 is a trap");
	check(!(caught.dr6 & BIT(14)), "INT1 leaves DR6.BS alone");
}

/* --- #DB --- */

static uint64_t steps[8];
static unsigned step_count;
static bool step_flag; /* each trap pushed TF, but for the last */

static bool record_step(struct frame *f)
{
	if (f->vector != DB)
		return false;
	step_flag &= step_count == 3 || f->rflags & FLAG_TF;
	if (step_count < ARRAY_SIZE(steps))
		steps[step_count++] = f->rip;
	return true;
}

extern uint8_t step_a[], step_b[], step_c[];

static void test_single_step(void)
{
	WRITE_DR(6, 0);
	step_count = 0;
	step_flag = true;
	trap_handler = record_step;
	asm volatile("pushfq; orl $0x100, (%%rsp); popfq\n"
		     "step_a: nop\n"
		     "step_b: pushfq; andl $~0x100, (%%rsp)\n"
		     "popfq\n"
		     "step_c: nop"
		     : : : "memory", "cc");
	trap_handler = NULL;
	check_equal(step_count, 4, "single step: POPF itself is not stepped when it sets TF, but when it clears it");
	check_equal(steps[0], (uint64_t)step_b, "single step traps behind the instruction");
	check_equal(steps[3], (uint64_t)step_c, "single step: last trap");
	check(caught.dr6 & BIT(14), "single step sets DR6.BS");
	check(step_flag, "single step pushes TF");
}

static bool count_debug(struct frame *f)
{
	step_count++;
	f->rflags |= FLAG_RF;
	return f->vector == DB;
}

extern uint8_t break_here[];

static void test_breakpoints(void)
{
	uint64_t value;
	WRITE_DR(6, 0);
	WRITE_DR(0, (uint64_t)bytes);
	WRITE_DR(7, 0x400 | 1 << 0 | 1 << 16 | 3 << 18); /* L0: write, 4 bytes */
	TRY("mov %%eax, %0", "=m"(*(uint32_t *)bytes) : "a"(5));
	check_caught(DB, 0, try_end, "write breakpoint is a trap");
	check_equal(caught.dr6 & 0xf, 1, "write breakpoint sets DR6.B0");
	check_equal(*(uint32_t *)bytes, 5, "write breakpoint: the write happened");
	WRITE_DR(6, 0);
	TRY("mov %1, %%eax", "=a"(value) : "m"(*(uint32_t *)bytes));
	check_caught(NONE, 0, 0, "write breakpoint ignores a read");
	TRY("movb $1, %0", "=m"(bytes[4]) :);
	check_caught(NONE, 0, 0, "write breakpoint ignores the next byte");
	TRY("movb $1, %0", "=m"(bytes[3]) :);
	check_caught(DB, 0, try_end, "write breakpoint covers its length");
	WRITE_DR(7, 0x400 | 1 << 0 | 3 << 16 | 0 << 18); /* read or write, 1 byte */
	TRY("mov %1, %%rax", "=a"(value) : "m"(*(uint64_t *)bytes));
	check_caught(DB, 0, try_end, "read breakpoint");

	WRITE_DR(7, 0x400);
	WRITE_DR(6, 0);
	WRITE_DR(1, (uint64_t)break_here);
	WRITE_DR(7, 0x400 | 1 << 2); /* L1: execution */
	step_count = 0;
	trap_handler = count_debug;
	value = 0;
	asm volatile("break_here: inc %0" : "+r"(value) : : "memory", "cc");
	trap_handler = NULL;
	WRITE_DR(7, 0x400);
	check(step_count == 1 && value == 1, "instruction breakpoint: RF lets the instruction run once");
	check_equal(caught.frame.rip, (uint64_t)break_here, "instruction breakpoint is a fault");
	check_equal(caught.dr6 & 0xf, 2, "instruction breakpoint sets DR6.B1");

	WRITE_DR(6, 0);
	WRITE_DR(7, 0x400 | BIT(13));
	TRY("mov %%dr0, %0", "=r"(value) :);
	check_caught(DB, 0, try_at, "DR7.GD: access to a debug register is a fault");
	check(caught.dr6 & BIT(13), "DR7.GD sets DR6.BD");
	check(!(READ_DR(7) & BIT(13)), "DR7.GD is cleared on the way to the handler");

	WRITE_DR(6, 0);
	WRITE_CR(4, READ_CR(4) | CR4_DE);
	WRITE_DR(2, 0x80);
	WRITE_DR(7, 0x400 | 1 << 4 | 2 << 24); /* L2: I/O */
	TRY("out %%al, $0x80", : "a"(0));
	check_caught(DB, 0, try_end, "I/O breakpoint is a trap");
	check_equal(caught.dr6 & 0xf, 4, "I/O breakpoint sets DR6.B2");
	WRITE_DR(7, 0x400);
	TRY("mov %%dr4, %0", "=r"(value) :);
	check_caught(UD, 0, try_at, "CR4.DE: DR4 is #UD");
	WRITE_CR(4, READ_CR(4) & ~CR4_DE);
	WRITE_DR(6, 0);
	TRY("mov %%dr4, %0", "=r"(value) :);
	check_equal(value, READ_DR(6), "without CR4.DE DR4 is DR6");
	TRY("mov %0, %%dr7", : "r"(BIT(32)));
	check_caught(GP, 0, try_at, "#GP upper half of DR7");
	WRITE_DR(7, 0x400);
}

/* --- #NM, #MF, #XM --- */

static void test_floating(void)
{
	uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
	static const uint16_t all_masked = 0x37f, divide_unmasked = 0x37b;
	static const uint32_t mxcsr = 0x1f80, mxcsr_divide = 0x1d80, mxcsr_reserved = 0x10000;
	WRITE_CR(0, cr0 | CR0_TS);
	TRY("fninit", :);
	check_caught(NM, 0, try_at, "#NM x87 with CR0.TS");
	TRY("xorps %%xmm0, %%xmm0", :);
	check_caught(NM, 0, try_at, "#NM SSE with CR0.TS");
	TRY("fwait", :);
	check_caught(NM, 0, try_at, "#NM WAIT with CR0.TS and CR0.MP");
	WRITE_CR(0, (cr0 | CR0_TS) & ~(uint64_t)CR0_MP);
	TRY("fwait", :);
	check_caught(NONE, 0, 0, "WAIT with CR0.TS without CR0.MP");
	asm volatile("clts");
	WRITE_CR(0, cr0 | CR0_EM);
	TRY("fninit", :);
	check_caught(NM, 0, try_at, "#NM x87 with CR0.EM");
	TRY("xorps %%xmm0, %%xmm0", :);
	check_caught(UD, 0, try_at, "#UD SSE with CR0.EM");
	TRY("pxor %%mm0, %%mm0", :);
	check_caught(UD, 0, try_at, "#UD MMX with CR0.EM");
	WRITE_CR(0, cr0);
	WRITE_CR(4, cr4 & ~(uint64_t)CR4_OSFXSR);
	TRY("xorps %%xmm0, %%xmm0", :);
	check_caught(UD, 0, try_at, "#UD SSE without CR4.OSFXSR");
	WRITE_CR(4, cr4);

	asm volatile("fninit; fldcw %0" : : "m"(divide_unmasked));
	TRY("fld1; fldz; fdivrp", :);
	check_caught(NONE, 0, 0, "x87 division by zero is not reported by the division");
	TRY("fnop", :);
	check_caught(MF, 0, try_at, "#MF at the next x87 instruction");
	TRY("fwait", :);
	check_caught(MF, 0, try_at, "#MF at WAIT");
	TRY("fnclex", :);
	check_caught(NONE, 0, 0, "FNCLEX does not wait");
	TRY("fwait", :);
	check_caught(NONE, 0, 0, "no #MF after FNCLEX");
	asm volatile("fninit; fldcw %0" : : "m"(all_masked));

	asm volatile("ldmxcsr %0" : : "m"(mxcsr_divide));
	asm volatile("movd %0, %%xmm0; xorps %%xmm1, %%xmm1" : : "r"(0x3f800000));
	TRY("divss %%xmm1, %%xmm0", :);
	check_caught(XM, 0, try_at, "#XM division by zero is a fault");
	WRITE_CR(4, cr4 & ~(uint64_t)CR4_OSXMMEXCPT);
	TRY("divss %%xmm1, %%xmm0", :);
	check_caught(UD, 0, try_at, "#UD instead of #XM without CR4.OSXMMEXCPT");
	WRITE_CR(4, cr4);
	asm volatile("ldmxcsr %0" : : "m"(mxcsr));
	TRY("ldmxcsr %0", : "m"(mxcsr_reserved));
	check_caught(GP, 0, try_at, "#GP reserved bits of MXCSR");
	TRY("movaps %0, %%xmm0", : "m"(bytes[1]));
	check_caught(GP, 0, try_at, "#GP MOVAPS at a misaligned address");
}

/* --- #GP, #SS, #NP by address and selector --- */

static NAKED void k_read_rbp(void *argument)
{
	asm("mov %rdi, %rbp; k_read_rbp_at: mov (%rbp), %rax; ret");
}
static NAKED void k_push(void *argument)
{
	asm("mov %rdi, %rsp; k_push_at: push %rax; ud2");
}
extern uint8_t k_read_rbp_at[], k_push_at[];

static void test_addresses(void)
{
	uint64_t value;
	TRY("mov (%1), %0", "=r"(value) : "a"(NONCANONICAL));
	check_caught(GP, 0, try_at, "#GP read at a non-canonical address");
	TRY("movb $1, (%0)", : "a"(0x7fffffffffff));
	check_vector(caught.vector, PF, "#PF write at the last canonical byte of the lower half");
	TRY("mov %%rax, (%0)", : "a"(0x7ffffffffff9ULL));
	check_caught(GP, 0, try_at, "#GP write across the end of the lower half");
	attempt(k_read_rbp, (void *)NONCANONICAL);
	check_caught(SS, 0, (uint64_t)k_read_rbp_at, "#SS read at a non-canonical address with base RBP");
	/* With RSP non-canonical the exception cannot be pushed either. */
	attempt(k_push, (void *)NONCANONICAL);
	check_caught(DF, 0, (uint64_t)k_push_at, "#DF when the stack is non-canonical");
	TRY("jmp *%0", : "r"(NONCANONICAL));
	check_caught(GP, 0, try_at, "#GP jump to a non-canonical address is a fault of the jump");
}

static void test_selectors(void)
{
	gdt[FREE_SEL / 8] = descriptor(0, 0xfffff, 0x13, 0xc);     /* data, not present */
	gdt[FREE_SEL / 8 + 1] = descriptor(0, 0xfffff, 0x99, 0xa); /* execute-only code */
	gdt[FREE_SEL / 8 + 2] = descriptor(0, 0xfffff, 0x90, 0xc); /* read-only data, not accessed */
	const uint32_t free = FREE_SEL;
	TRY("mov %0, %%ds", : "r"(free));
	check_caught(NP, FREE_SEL, try_at, "#NP DS with a segment that is not present");
	TRY("mov %0, %%ss", : "r"(free));
	check_caught(SS, FREE_SEL, try_at, "#SS SS with a segment that is not present");
	TRY("mov %0, %%ds", : "r"(free + 8));
	check_caught(GP, FREE_SEL + 8, try_at, "#GP DS with an execute-only segment");
	TRY("mov %0, %%ss", : "r"(free + 16));
	check_caught(GP, FREE_SEL + 16, try_at, "#GP SS with a read-only segment");
	TRY("mov %0, %%ss", : "r"(0));
	check_caught(NONE, 0, 0, "SS may be null in ring 0 of 64-bit mode");
	asm volatile("mov %0, %%ss" : : "r"(KDS));
	TRY("mov %0, %%ss", : "r"(3));
	check_caught(GP, 0, try_at, "#GP SS null with RPL 3 in ring 0");
	TRY("mov %0, %%ds", : "r"(GDT_ENTRIES * 8 + 3));
	check_caught(GP, GDT_ENTRIES * 8, try_at, "#GP selector behind the GDT's limit");
	asm volatile("lldt %w0" : : "r"(0));
	TRY("mov %0, %%ds", : "r"(0xc));
	check_caught(GP, 0xc, try_at, "#GP selector in an LDT that there is not: the error code has TI");
	TRY("mov %0, %%ds", : "r"(TSS_SEL));
	check_caught(GP, TSS_SEL, try_at, "#GP DS with a system segment");
	TRY("mov %0, %%ds", : "r"(free + 16));
	check_caught(NONE, 0, 0, "DS with a read-only segment");
	check_equal(gdt[FREE_SEL / 8 + 2] >> 40 & 1, 1, "loading a segment sets its accessed bit");
	asm volatile("mov %0, %%ds" : : "r"(KDS));
	TRY("ltr %w0", : "r"(TSS_SEL));
	check_caught(GP, TSS_SEL, try_at, "#GP LTR with a busy TSS");
	TRY("lldt %w0", : "r"(KDS));
	check_caught(GP, KDS, try_at, "#GP LLDT with a data segment");
}

static void test_control(void)
{
	uint64_t cr0 = READ_CR(0), cr4 = READ_CR(4);
	TRY("mov %0, %%cr0", : "r"(cr0 & ~(uint64_t)CR0_PE));
	check_caught(GP, 0, try_at, "#GP CR0.PG without CR0.PE");
	TRY("mov %0, %%cr0", : "r"((cr0 | CR0_NW) & ~(uint64_t)CR0_CD));
	check_caught(GP, 0, try_at, "#GP CR0.NW without CR0.CD");
	TRY("mov %0, %%cr0", : "r"(cr0 | BIT(32)));
	check_caught(GP, 0, try_at, "#GP upper half of CR0");
	TRY("mov %0, %%cr4", : "r"(cr4 & ~(uint64_t)CR4_PAE));
	check_caught(GP, 0, try_at, "#GP CR4.PAE cleared in long mode");
	TRY("mov %0, %%cr4", : "r"(cr4 | BIT(31)));
	check_caught(GP, 0, try_at, "#GP reserved bit of CR4");
	TRY("mov %0, %%cr3", : "r"(READ_CR(3) | BIT(60)));
	check_caught(GP, 0, try_at, "#GP reserved bit of CR3");
	TRY("mov %0, %%cr8", : "r"(16ULL));
	check_caught(GP, 0, try_at, "#GP reserved bit of CR8");
	check_equal(READ_CR(0), cr0, "a faulting MOV to CR0 changes nothing");
	check_vector(try_wrmsr(MSR_EFER, rdmsr(MSR_EFER) & ~(uint64_t)EFER_LME), GP, "#GP EFER.LME cleared under paging");
	check_vector(try_wrmsr(0xc0000100, NONCANONICAL), GP, "#GP FS base non-canonical");
	check_vector(try_wrmsr(0xc0000082, NONCANONICAL), GP, "#GP LSTAR non-canonical");
}

int main(void)
{
	test_divide();
	test_undefined();
	test_traps();
	test_single_step();
	test_breakpoints();
	test_floating();
	test_addresses();
	test_selectors();
	test_control();
	return 0;
}
