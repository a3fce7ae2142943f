/* SPDX-License-Identifier: MIT */
/* From 32-bit protected mode to 16-bit protected mode, real mode and unreal mode, and back; real mode's interrupts and limits; the x87
 * environment in its four formats; the coprocessor error that becomes IRQ 13. SDM 3A 9.9, 20.1; volume 1, 8.1.10, 8.7.2, appendix D */
#include "legacy/lib/legacy.h"

/* What 16-bit code leaves, at linear 7000h: words, by these numbers. */
enum { PROTECTED16, WRAP_SP, ESP_LOW, ESP_HIGH, REAL_ES, INT_RESULT, FLAGS, OFFSET_WRAP, LIMIT_VECTOR, LIMIT_IP, REP_CX, REP_DI, UNREAL_LOW, UNREAL_HIGH,
       LIMIT32_VECTOR, IRQ13, AFTER_FWAIT, STATUS, BOUND_VECTOR, DIVIDE_IP, WORDS };
#define RESULTS ((volatile uint16_t *)0x7000)
#define ENV_REAL16 ((volatile uint16_t *)0x7100)
#define ENV_REAL32 ((volatile uint32_t *)0x7140)
#define ENV_PROT16 ((volatile uint16_t *)0x7180)
#define UNREAL_AT 0x300000u

extern uint8_t low_start[], low_end[], x87_at[], limit_at[], divide_at[];
void to_low(void);
uint32_t old_esp;

asm(".pushsection .text\n"
    ".macro note n, reg\n mov \\reg, 0x7000 + 2 * \\n\n .endm\n"
    ".macro vector n, target\n movw $(\\target - low_start), 4 * \\n; movw $0x800, 4 * \\n + 2\n .endm\n"
    "to_low: push %ebp; push %ebx; push %esi; push %edi; mov %esp, old_esp; ljmp $0x30, $0\n"
    ".balign 16\n"
    "low_start:\n"
    ".code16\n"
    /* 16-bit protected mode; SS.B says that SP has 16 bits. SDM 3A 3.4.5 */
    "mov $0x38, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss\n"
    "mov $0xabcd0000, %esp; push $0x1616; pop %ax; note 0, %ax; mov 0xfffe, %ax; note 1, %ax; mov %esp, 0x7004\n"
    "mov $0x6000, %esp; fninit; fld1; fnstenv 0x7180\n"
    /* A segment with a limit of 4 GiB keeps it when protection is switched off: unreal mode */
    "mov $0x40, %ax; mov %ax, %fs\n"
    "mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0; ljmp $0x800, $(1f - low_start)\n"
    /* real mode */
    "1: xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $0x6000, %sp\n"
    "lidtl %cs:(real_idtr - low_start)\n"
    "mov $0x1234, %bx; mov %bx, %es; mov %es, %bx; note 4, %bx; movw $0x5678, %es:6\n"
    "mov $0x300000, %ebx; mov %fs:(%ebx), %eax; mov %eax, 0x7000 + 2 * 12\n" /* beyond 64 KiB */
    "vector 0x21, handler; mov $5, %ax; int $0x21; note 5, %ax\n"
    "stc; pushf; pop %ax; note 6, %ax\n"
    "mov $0xffff, %bx; movb $0x11, 0; mov 1(%bx), %al; note 7, %ax\n"
    /* an access across FFFFh is #GP: vector 13, no error code. SDM 3A 20.1.4 */
    "vector 13, gp; xor %cx, %cx; mov $0xffff, %bx; limit_at: mov (%bx), %ax; limit_done: note 8, %cx; note 9, %dx\n"
    "xor %cx, %cx; mov $0x10000, %ebx; gp32_at: mov (%ebx), %al; gp32_done: note 14, %cx\n"
    "vector 5, br; xor %cx, %cx; mov $9, %ax; movw $1, 0x7200; movw $4, 0x7202; br_at: bound %ax, 0x7200; br_done: note 18, %cx\n"
    "vector 0, de; xor %bl, %bl; divide_at: div %bl; de_done: note 19, %dx\n"
    /* REP in 16-bit code counts with CX */
    "xor %ax, %ax; mov %ax, %es; mov $0x10002, %ecx; mov $0x7280, %edi; mov $0x41, %al; cld; rep stosb; note 10, %cx; note 11, %di\n"
    /* x87 environments in real mode: linear addresses. The 16-bit and the 32-bit form */
    "fninit; x87_at: fld1; fnstenv 0x7100; data32 fnstenv 0x7140\n"
    /* CR0.NE clear: IRQ 13 is vector 75h here. SDM 1, D.2.1 */
    "mov %cr0, %eax; push %eax; and $~0x2c, %al; mov %eax, %cr0\n" /* NE, TS, EM */
    "vector 0x75, irq13; vector 16, mf\n"
    "mov $0x11, %al; out %al, $0x20; out %al, $0xa0; mov $8, %al; out %al, $0x21; mov $0x70, %al; out %al, $0xa1\n"
    "mov $4, %al; out %al, $0x21; mov $2, %al; out %al, $0xa1; mov $1, %al; out %al, $0x21; out %al, $0xa1\n"
    "mov $0xfb, %al; out %al, $0x21; mov $0xdf, %al; out %al, $0xa1\n"
    "xor %cx, %cx; fninit; movw $0x37b, 0x7204; fldcw 0x7204; fld1; fldz; fdivr %st(1), %st; sti\n"
    "fwait\n"
    "cli; note 15, %cx; mov $1, %ax; note 16, %ax; fnstsw %ax; note 17, %ax; fninit\n"
    "mov $0xff, %al; out %al, $0x21; out %al, $0xa1\n"
    "pop %eax; mov %eax, %cr0\n"
    /* back */
    "lgdtl %cs:(low_gdtr - low_start); lidtl %cs:(old_idtr - low_start)\n"
    "mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x08, $back32\n"
    "handler: add $37, %ax; iret\n"
    "gp: pop %dx; push $(limit_done - low_start); mov $13, %cx; cmp $(limit_at - low_start), %dx; je 1f; add $2, %sp; push $(gp32_done - low_start); 1: iret\n"
    "br: add $2, %sp; push $(br_done - low_start); mov $5, %cx; iret\n"
    "de: pop %dx; push $(de_done - low_start); iret\n"
    "irq13: inc %cx; push %ax; xor %al, %al; out %al, $0xf0; fnclex; mov $0x20, %al; out %al, $0xa0; out %al, $0x20; pop %ax; iret\n"
    "mf: mov $0x100, %cx; fnclex; iret\n"
    ".balign 4\n"
    "real_idtr: .word 0x3ff; .long 0\n"
    ".balign 4\n"
    "low_gdtr: .word 8 * 64 - 1; .long gdt\n"
    ".balign 4\n"
    ".globl old_idtr\nold_idtr: .word 0; .long 0\n"
    "low_end:\n"
    ".code32\n"
    "back32: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; xor %eax, %eax; mov %eax, %fs; mov %eax, %gs\n"
    "mov old_esp, %esp; pop %edi; pop %esi; pop %ebx; pop %ebp; ret\n"
    ".popsection");

static uint32_t offset(const uint8_t *label)
{
	return (uint32_t)(label - low_start);
}

static void excursion(void)
{
	gdt[0x30 / 8] = descriptor(LOW, 0xffff, 0x9b, 0);
	gdt[0x38 / 8] = descriptor(0, 0xffff, 0x93, 0);
	gdt[0x40 / 8] = descriptor(0, 0xfffff, 0x93, 0xc);
	*(volatile uint32_t *)UNREAL_AT = 0x0badcafe;
	for (unsigned n = 0; n < 256; n++)
		RESULTS[n] = 0;
	low_copy(low_start, low_end);
	/* IDTR is saved in the copy, which real mode reads. */
	struct { uint16_t limit; uint32_t base; } __attribute__((packed)) idtr;
	extern uint8_t old_idtr[];
	asm volatile("sidt %0" : "=m"(idtr));
	memcpy((void *)(LOW + offset(old_idtr)), &idtr, sizeof(idtr));
	to_low();
}

static void test_modes(void)
{
	check(RESULTS[PROTECTED16] == 0x1616 && RESULTS[WRAP_SP] == 0x1616, "16-bit protected mode: PUSH wraps SP to FFFEh");
	check(RESULTS[ESP_LOW] == 0 && RESULTS[ESP_HIGH] == 0xabcd, "16-bit protected mode: the upper half of ESP stays");
	check(RESULTS[REAL_ES] == 0x1234 && *(volatile uint16_t *)0x12346 == 0x5678, "real mode: a segment is 16 times its selector");
	check(RESULTS[UNREAL_LOW] == 0xcafe && RESULTS[UNREAL_HIGH] == 0x0bad, "unreal mode: a limit of 4 GiB outlives protected mode");
	check_equal(RESULTS[INT_RESULT], 42, "real mode: INT and IRET");
	check((RESULTS[FLAGS] & 0x203) == 3, "real mode: PUSHF");
	check_equal(RESULTS[OFFSET_WRAP] & 0xff, 0x11, "real mode: 16-bit offsets wrap");
	check(RESULTS[LIMIT_VECTOR] == 13 && RESULTS[LIMIT_IP] == offset(limit_at), "real mode: #GP across FFFFh pushes no error code");
	check_equal(RESULTS[LIMIT32_VECTOR], 13, "real mode: #GP a 32-bit offset beyond 64 KiB");
	check_equal(RESULTS[BOUND_VECTOR], 5, "real mode: #BR");
	check_equal(RESULTS[DIVIDE_IP], offset(divide_at), "real mode: #DE is a fault");
	check(RESULTS[REP_CX] == 0 && RESULTS[REP_DI] == 0x7282, "real mode: REP counts with CX, DI alone moves");
}

/* SDM volume 1, figures 8-9 to 8-12 */
static void test_environments(void)
{
	uint32_t linear = LOW + offset(x87_at);
	uint32_t flat[7];
	check(ENV_REAL16[0] == 0x37f && ENV_REAL16[1] == 0x3800 && ENV_REAL16[2] == 0x3fff, "x87 environment, 16-bit real: words");
	check(ENV_REAL16[3] == (uint16_t)linear && (ENV_REAL16[4] & 0xf000) == (linear >> 16) << 12, "x87 environment, 16-bit real: linear FIP");
	check((ENV_REAL16[4] & 0x7ff) == 0 || (ENV_REAL16[4] & 0x7ff) == 0x1e8, "x87 environment, 16-bit real: FOP"); /* only of an exception, on newer ones */
	check((uint16_t)ENV_REAL32[0] == 0x37f && (uint16_t)ENV_REAL32[1] == 0x3800 && (uint16_t)ENV_REAL32[2] == 0x3fff, "x87 environment, 32-bit real: words");
	check((uint16_t)ENV_REAL32[3] == (uint16_t)linear && (ENV_REAL32[4] & 0x0ffff000) == (linear >> 16) << 12, "x87 environment, 32-bit real: linear FIP");
	check(ENV_PROT16[0] == 0x37f && ENV_PROT16[1] == 0x3800 && ENV_PROT16[2] == 0x3fff, "x87 environment, 16-bit protected: words");
	check(ENV_PROT16[4] == 0x30 || ENV_PROT16[4] == 0, "x87 environment, 16-bit protected: selector"); /* 0 where FCS is not kept: CPUID.7:EBX[13] */
	asm volatile("fninit; flat_at: fld1; fnstenv %0; fninit" : "=m"(flat));
	extern uint8_t flat_at[];
	check((uint16_t)flat[0] == 0x37f && (uint16_t)flat[2] == 0x3fff && flat[3] == (uint32_t)flat_at, "x87 environment, 32-bit protected");
	check((uint16_t)flat[4] == KCS || (uint16_t)flat[4] == 0, "x87 environment, 32-bit protected: selector");
}

static void test_irq13(void)
{
	if (RESULTS[IRQ13] == 0x100) /* VT-x has no CR0.NE of 0 */
		skip("IRQ 13", "x87 exceptions are #MF here whatever CR0.NE says");
	else
		check_equal(RESULTS[IRQ13], 1, "CR0.NE clear: an x87 exception is IRQ 13, once");
	check(RESULTS[AFTER_FWAIT] == 1 && !(RESULTS[STATUS] & 0x80ff), "and FWAIT goes on when the handler has cleared it");
	uint32_t cr0 = READ_CR(0);
	static const uint16_t zero_unmasked = 0x37b;
	WRITE_CR(0, cr0 | CR0_NE);
	asm volatile("fninit; fldcw %0; fld1; fldz; fdivr %%st(1), %%st" : : "m"(zero_unmasked));
	TRY("fwait", :);
	check_caught(MF, 0, try_at, "#MF with CR0.NE set");
	asm volatile("fninit");
	WRITE_CR(0, cr0);
}

int main(void)
{
	excursion();
	test_modes();
	test_environments();
	test_irq13();
	return 0;
}
