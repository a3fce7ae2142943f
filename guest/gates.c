/* SPDX-License-Identifier: MIT */
/* Ways into the kernel and back: interrupt gates, their stacks, exceptions of ring 3, of pages, and while another one is delivered, and returns. SDM 3A
 * chapter 6, and the pages of INT n and IRET in volume 2. */
#include "lib/guest.h"

#define NONCANONICAL 0x8000000000000000ULL
#define UNMAPPED 0x200000000000ULL /* PML4 entry 64: nobody maps it */
#define TEST_VECTOR 0x90
#define GATE_ERROR(vector) ((vector) * 8 + 2) /* IDT bit, SDM 3A 6.13 */

static uint8_t bytes[64] __attribute__((aligned(64)));

/* --- interrupt gates: not present, DPL, IST, TSS limit --- */

static uint16_t handler_ss;
static bool note_ss(struct frame *f)
{
	asm volatile("mov %%ss, %0" : "=r"(handler_ss));
	return false;
}

static NAKED void u_int_test(void *argument)
{
	asm("u_int_at: int $0x90; u_int_end: ret");
}
static NAKED void u_int3(void *argument)
{
	asm("int3; u_int3_end: ret");
}
static NAKED void u_hlt(void *argument)
{
	asm("hlt; ret");
}
static NAKED void u_selectors(void *argument)
{
	asm("mov %ss, %eax; shl $16, %eax; mov %cs, %ax; ret");
}
extern uint8_t u_int_end[], u_int3_end[];

static void test_gates(void)
{
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 0, GATE_INTERRUPT & ~0x80);
	TRY("int $0x90", :);
	check_caught(NP, GATE_ERROR(TEST_VECTOR), try_at, "#NP INT n through a gate that is not present");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), 0, 0, GATE_INTERRUPT);
	TRY("int $0x90", :);
	check_caught(GP, 0, try_at, "#GP gate with a null selector");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KDS, 0, GATE_INTERRUPT);
	TRY("int $0x90", :);
	check_caught(GP, KDS, try_at, "#GP gate with a data segment");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS32, 0, GATE_INTERRUPT);
	TRY("int $0x90", :);
	check_caught(GP, KCS32, try_at, "#GP gate to a 32-bit code segment in long mode");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 0, 0x85);
	TRY("int $0x90", :);
	check_caught(GP, GATE_ERROR(TEST_VECTOR), try_at, "#GP task gate in long mode");
	idt_set(TEST_VECTOR, NONCANONICAL, KCS, 0, GATE_INTERRUPT);
	TRY("int $0x90", :);
	check_caught(GP, 0, try_at, "#GP gate to a non-canonical RIP");

	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, IST_TEST, GATE_INTERRUPT);
	TRY("int $0x90", :);
	check_caught(TEST_VECTOR, 0, try_end, "INT n through a gate with IST");
	check_equal(caught.frame_at, tss.ist[IST_TEST - 1] - 48, "IST: the frame begins at its stack's top");
	tss.ist[IST_TEST - 1] -= 8;
	TRY("int $0x90", :);
	check_equal(caught.frame_at, (tss.ist[IST_TEST - 1] & ~15ULL) - 48, "IST: the stack is aligned to 16");
	tss.ist[IST_TEST - 1] += 8;
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 0, GATE_INTERRUPT);
}

static bool pass_test_vectors(struct frame *f)
{
	return f->vector == 0x99;
}

static void test_stack_alignment(void)
{
	bool aligned = true, kept = true;
	trap_handler = pass_test_vectors;
	for (unsigned offset = 0; offset < 16; offset++) {
		uint64_t top = (uint64_t)test_stack + 8192 + offset;
		asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; int $0x99; mov %%rbx, %%rsp" : : "r"(top) : "rbx", "memory");
		aligned &= caught.frame_at == (top & ~15ULL) - 48;
		kept &= caught.frame.rsp == top;
	}
	trap_handler = NULL;
	check(aligned, "without IST the stack is aligned to 16 as well");
	check(kept, "the frame holds the RSP from before the alignment");
}

static void test_tss_limit(void)
{
	uint64_t low = gdt[TSS_SEL / 8];
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 7, GATE_INTERRUPT);
	tss.ist[6] = (uint64_t)test_stack + 8192;
	gdt[TSS_SEL / 8] = descriptor((uint32_t)(uint64_t)&tss, offsetof(struct tss, ist) + 6 * 8 - 1, 0x89, 0);
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
	TRY("int $0x90", :);
	check_caught(TS, TSS_SEL, try_at, "#TS IST entry behind the TSS's limit");
	gdt[TSS_SEL / 8] = low & ~BIT(41);
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
	tss.ist[6] = NONCANONICAL;
	TRY("int $0x90", :);
	check_vector(caught.vector, SS, "#SS IST entry non-canonical");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 0, GATE_INTERRUPT);
}

static void test_user(void)
{
	check_vector(user(u_selectors, 0), NONE, "ring 3 and back");
	check_equal(caught.frame.rax, (uint64_t)UDS << 16 | UCS, "ring 3 has its selectors");
	trap_handler = note_ss;
	user(u_int3, 0);
	trap_handler = NULL;
	check_caught(BP, 0, USER(u_int3_end), "INT3 in ring 3");
	check_equal(caught.frame.cs << 16 | caught.frame.ss, (uint64_t)UCS << 16 | UDS, "the frame holds ring 3's CS and SS");
	check_equal(handler_ss, 0, "SS is null after a change to ring 0");
	check_equal(caught.frame_at, tss.rsp[0] - 48, "ring 3's exceptions come on RSP0");
	check_equal(caught.frame.rsp, USER(user_stack + sizeof(user_stack) - 8), "the frame holds ring 3's RSP");
	user(u_int_test, 0);
	check_caught(GP, GATE_ERROR(TEST_VECTOR), USER(u_int_test), "#GP INT n in ring 3 through a gate with DPL 0");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 0, GATE_INTERRUPT | GATE_DPL3);
	user(u_int_test, 0);
	check_caught(TEST_VECTOR, 0, USER(u_int_end), "INT n in ring 3 through a gate with DPL 3");
	idt_set(TEST_VECTOR, trap_stub(TEST_VECTOR), KCS, 0, (GATE_INTERRUPT | GATE_DPL3) & ~0x80);
	user(u_int_test, 0);
	check_caught(NP, GATE_ERROR(TEST_VECTOR), USER(u_int_test), "#NP INT n in ring 3 through a gate that is not present");
	user(u_hlt, 0);
	check_caught(GP, 0, USER(u_hlt), "#GP HLT in ring 3");
	uint64_t rsp0 = tss.rsp[0];
	tss.rsp[0] = NONCANONICAL;
	user(u_hlt, 0);
	tss.rsp[0] = rsp0;
	check(caught.vector == DF && caught.frame.error == 0, "#DF when RSP0 is non-canonical");
	check_equal(caught.frame.cs, UCS, "#DF out of ring 3 pushes ring 3's CS");
}

/* --- #AC --- */

static NAKED void u_misaligned(void *argument)
{
	asm("mov 1(%rdi), %eax; ret");
}
static NAKED void u_aligned(void *argument)
{
	asm("mov 4(%rdi), %eax; mov 3(%rdi), %al; ret");
}

static void test_alignment_check(void)
{
	uint64_t cr0 = READ_CR(0);
	WRITE_CR(0, cr0 | CR0_AM);
	user_flags(u_misaligned, USER(bytes), FLAG_AC);
	check_caught(AC, 0, USER(u_misaligned), "#AC in ring 3");
	user_flags(u_aligned, USER(bytes), FLAG_AC);
	check_caught(NONE, 0, 0, "no #AC when aligned");
	user(u_misaligned, USER(bytes));
	check_caught(NONE, 0, 0, "no #AC without EFLAGS.AC");
	asm volatile("pushfq; orl $0x40000, (%%rsp); popfq; mov %0, %%eax; pushfq; andl $~0x40000, (%%rsp); popfq" : : "m"(bytes[1]) : "eax", "cc");
	check(true, "no #AC in ring 0");
	WRITE_CR(0, cr0);
	user_flags(u_misaligned, USER(bytes), FLAG_AC);
	check_caught(NONE, 0, 0, "no #AC without CR0.AM");
}

/* --- #PF --- */

static unsigned mended;

static bool mend_page(struct frame *f)
{
	if (f->vector != PF)
		return false;
	mended++;
	map(READ_CR(2) & ~(PAGE - 1), (uint64_t)page_alloc(), PTE_P | PTE_W | PTE_U, 1);
	return true;
}

static NAKED void u_read(void *argument)
{
	asm("mov (%rdi), %rax; ret");
}
static NAKED void u_write(void *argument)
{
	asm("mov %eax, (%rdi); ret");
}
static NAKED void u_jump(void *argument)
{
	asm("jmp *%rdi; ret");
}

static NAKED void k_push(void *argument)
{
	asm("mov %rdi, %rsp; k_push_at: push %rax; ud2");
}
extern uint8_t k_push_at[];

static void test_page_fault(void)
{
	uint64_t value, to;
	TRY("mov (%1), %0", "=r"(value) : "a"(UNMAPPED + 5));
	check_caught(PF, 0, try_at, "#PF read");
	check_equal(caught.cr2, UNMAPPED + 5, "#PF sets CR2");
	TRY("mov %%eax, (%0)", : "a"(UNMAPPED + 9));
	check_caught(PF, 2, try_at, "#PF write");
	TRY("addl $1, (%0)", : "a"(UNMAPPED + 9));
	check_caught(PF, 2, try_at, "#PF read-modify-write reports a write");
	TRY("cmpxchg %%ecx, (%0)", : "b"(UNMAPPED + 9), "a"(0), "c"(0));
	check_caught(PF, 2, try_at, "#PF CMPXCHG reports a write");
	user(u_read, UNMAPPED);
	check_caught(PF, 4, USER(u_read), "#PF read in ring 3");
	user(u_write, UNMAPPED);
	check_caught(PF, 6, USER(u_write), "#PF write in ring 3");
	user(u_jump, UNMAPPED);
	check_caught(PF, 0x14, UNMAPPED, "#PF fetch in ring 3: RIP is the target");
	check_equal(caught.cr2, UNMAPPED, "#PF fetch sets CR2");
	user(u_read, (uint64_t)bytes);
	check_caught(PF, 5, USER(u_read), "#PF read of a supervisor page in ring 3");

	mended = 0;
	trap_handler = mend_page;
	TRY("movq $77, (%0)", : "a"(UNMAPPED));
	check(mended == 1 && *(uint64_t *)UNMAPPED == 77, "#PF restarted after the handler mapped the page");
	user(u_read, UNMAPPED + PAGE);
	check(mended == 2 && caught.vector == NONE, "#PF in ring 3 restarted");
	/* A string copy goes on where it faulted. */
	mended = 0;
	memset(test_stack, 0x5a, sizeof(test_stack));
	to = UNMAPPED + 2 * PAGE;
	memcpy((void *)to, test_stack, sizeof(test_stack));
	trap_handler = NULL;
	check_equal(mended, 4, "REP MOVSB faults once a page");
	check(!memcmp((void *)to, test_stack, sizeof(test_stack)), "REP MOVSB goes on where it faulted");
	TRY("rep stosb", "+D"(to) : "a"(0), "c"(PAGE * 5));
	check_caught(PF, 2, try_at, "REP STOSB faults at its own RIP");
	check_equal(caught.frame.rdi, UNMAPPED + 6 * PAGE, "REP STOSB leaves RDI at what is not done");
	check_equal(caught.frame.rcx, PAGE, "REP STOSB leaves RCX at what is not done");

	/* PUSH and CALL leave RSP alone when they fault. */
	uint64_t bad = UNMAPPED + 2 * PAGE * 100;
	attempt(k_push, (void *)bad);
	check_caught(DF, 0, (uint64_t)k_push_at, "#DF when a #PF cannot be pushed for a #PF");
	check_equal(caught.frame.rsp, bad, "a PUSH that faults leaves RSP alone");
	check_equal(caught.cr2, bad - 8, "the #PF of the delivery set CR2 last");
}

static void test_double_fault(void)
{
	uint64_t gate = idt[GP].low;
	idt[GP].low &= ~BIT(47); /* not present */
	TRY("cmpb $0, (%0)", : "r"(NONCANONICAL));
	check_vector(caught.vector, DF, "#DF: #NP while #GP is delivered");
	check_equal(caught.frame.error, 0, "#DF error code");
	check_equal(caught.frame_at, tss.ist[IST_DF - 1] - 48, "#DF came on its IST");
	idt[GP].low = gate;
	gate = idt[UD].low;
	idt[UD].low &= ~BIT(47);
	TRY("ud2", :);
	check_caught(NP, GATE_ERROR(UD) + 1, try_at, "#NP, not #DF, while the benign #UD is delivered; EXT is set");
	idt[UD].low = gate;
	gate = idt[PF].low;
	idt[PF].low &= ~BIT(47);
	TRY("cmpb $0, (%0)", : "r"(UNMAPPED + 0x1000000));
	check_vector(caught.vector, DF, "#DF: #NP while #PF is delivered");
	idt[PF].low = gate;
}

/* --- IRET --- */

struct iret_frame {
	uint64_t rip, cs, rflags, rsp, ss;
};
static NAKED void iret_to(void *frame)
{
	asm("mov %rdi, %rsp; iret_at: iretq");
}
static NAKED void k_return(void *argument)
{
	asm("pushfq; pop %rax; int $0x92");
}
extern uint8_t iret_at[];

static int iret_attempt(struct iret_frame f)
{
	static uint8_t room[4096] __attribute__((aligned(16))); /* the exception is pushed below the frame */
	memcpy(room + 2048, &f, sizeof(f));
	return attempt(iret_to, room + 2048);
}
static void check_iret(struct iret_frame f, int vector, uint64_t error, const char *name)
{
	iret_attempt(f);
	check_caught(vector, error, (uint64_t)iret_at, name);
}

static void test_iret(void)
{
	const struct iret_frame good = { (uint64_t)k_return, KCS, 2, (uint64_t)test_stack + 8192, KDS };
	struct iret_frame f = good;
	iret_attempt(f);
	check_caught(0x92, 0, (uint64_t)k_return + 4, "IRETQ within ring 0");
	check_equal(caught.frame.rsp, good.rsp, "IRETQ always loads RSP");
	f = good, f.rip = NONCANONICAL;
	check_iret(f, GP, 0, "#GP IRET to a non-canonical RIP");
	f = good, f.cs = 0;
	check_iret(f, GP, 0, "#GP IRET to a null CS");
	f = good, f.cs = KDS;
	check_iret(f, GP, KDS, "#GP IRET to a data segment");
	gdt[FREE_SEL / 8] = descriptor(0, 0xfffff, 0x1b, 0xa);
	f = good, f.cs = FREE_SEL;
	check_iret(f, NP, FREE_SEL, "#NP IRET to a CS that is not present");
	f = good, f.ss = UDS;
	check_iret(f, GP, UDS & ~3, "#GP IRET to an SS with another RPL");
	f = good, f.cs = UCS, f.ss = 0;
	check_iret(f, GP, 0, "#GP IRET to ring 3 with a null SS");
	f = good, f.cs = UCS, f.ss = KDS | 3;
	check_iret(f, GP, KDS, "#GP IRET to ring 3 with an SS of DPL 0");
	gdt[FREE_SEL / 8] = descriptor(0, 0xfffff, 0x73, 0xc);
	f = good, f.cs = UCS, f.ss = FREE_SEL | 3;
	iret_attempt(f); /* Intel's manual says #NP, AMD's #SS */
	check((caught.vector == NP || caught.vector == SS) && caught.frame.error == FREE_SEL, "IRET to an SS that is not present");
	f = good, f.ss = 0;
	iret_attempt(f);
	check_vector(caught.vector, 0x92, "IRETQ to ring 0 takes a null SS in 64-bit mode");
	f = good;
	asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs" : : "r"(KDS));
	asm volatile("pushfq; orl $0x4000, (%%rsp); popfq" : : : "cc", "memory");
	int vector = iret_attempt(f);
	asm volatile("pushfq; andl $~0x4000, (%%rsp); popfq" : : : "cc", "memory");
	check(vector == GP && caught.frame.error == 0, "#GP IRET with NT in long mode");
	check(caught.frame.rflags & FLAG_NT, "an exception pushes NT");
	f = good, f.rflags = 0x3000 | FLAG_AC | FLAG_ID | FLAG_NT | 2;
	iret_attempt(f);
	check_equal(caught.frame.rax & 0x247000, 0x247000, "IRET loads IOPL, NT, AC and ID in ring 0");
}

static NAKED void u_segments(void *argument)
{
	asm("mov %ds, %eax; shl $16, %rax; mov %es, %ax; ret");
}

static void test_iret_outward(void)
{
	asm volatile("mov %0, %%ds; mov %1, %%es" : : "r"(KDS), "r"(UDS));
	user(u_segments, 0);
	uint64_t seen = caught.frame.rax;
	asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(KDS));
	check_equal(seen, UDS, "IRET to ring 3 clears DS of DPL 0 and keeps ES of DPL 3");
}

/* --- flags in ring 3 --- */

static NAKED void u_popf(void *argument)
{
	asm("push %rdi; popfq; pushfq; pop %rax; ret");
}
static NAKED void u_cli(void *argument)
{
	asm("cli; ret");
}
static NAKED void u_out(void *argument)
{
	asm("out %al, $0x80; ret");
}

static void test_user_flags(void)
{
	user(u_popf, 0x3000 | FLAG_IF | FLAG_AC | 2 | FLAG_CF);
	check_equal(caught.frame.rax & (0x3000 | FLAG_IF | FLAG_AC | FLAG_CF), FLAG_AC | FLAG_CF, "POPF in ring 3 leaves IF and IOPL alone");
	user(u_cli, 0);
	check_caught(GP, 0, USER(u_cli), "#GP CLI in ring 3 with IOPL 0");
	user_flags(u_cli, 0, 3 * FLAG_IOPL);
	check_caught(NONE, 0, 0, "CLI in ring 3 with IOPL 3");
	user(u_out, 0);
	check_caught(GP, 0, USER(u_out), "#GP OUT in ring 3 with IOPL 0");
	user_flags(u_out, 0, 3 * FLAG_IOPL);
	check_caught(NONE, 0, 0, "OUT in ring 3 with IOPL 3");
}

int main(void)
{
	test_gates();
	test_stack_alignment();
	test_tss_limit();
	test_user();
	test_alignment_check();
	test_page_fault();
	test_double_fault();
	test_iret();
	test_iret_outward();
	test_user_flags();
	return 0;
}
