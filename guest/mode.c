/* SPDX-License-Identifier: MIT */
/* Modes and segments: compatibility mode and its segment limits, far transfers, call gates, the LDT, and an excursion from long mode through
 * protected mode into real mode and back. SDM 3A chapters 3, 5, 9.8, 9.9 */
#include "lib/guest.h"

/* What code of other widths leaves here; it lies in this image, below 4 GiB. */
uint32_t results[2];


/* --- a call into compatibility mode: far call, and far return --- */

/* Calls 32-bit code at `code` in ring 0, with `argument` in EAX; what is in EAX when it returns. */
static uint32_t call32(const void *code, uint32_t argument)
{
	struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) target = { (uint32_t)(uint64_t)code, KCS32 };
	uint64_t value = argument;
	asm volatile("mov %%rsp, %%rbx; mov %1, %%rsp\n"
		     "lcall *%2\n"
		     "mov %%rbx, %%rsp"
		     : "+a"(value) : "r"(test_stack + 8192), "m"(target) : "rbx", "rcx", "rdx", "rsi", "rdi", "memory", "cc");
	return (uint32_t)value;
}

/* 32-bit code, with its entry points */
extern uint8_t c_inc[], c_wrap[], c_flags[], c_into[], c_bound[], c_regs[], c_into_at[], c_bound_at[], c_limit[], c_arpl[], c_stack[];
asm(".pushsection .text\n.code32\n"
    "c_inc: inc %eax\n lret\n" /* 40h: REX in 64-bit mode */
    "c_wrap: mov $0xffffffff, %ecx; mov 2(%ecx,%eax), %eax\n lret\n"
    "c_flags: pushf; pop %eax\n lret\n"
    "c_into: mov $0x7fffffff, %ecx; inc %ecx; c_into_at: into; mov $1, %eax\n lret\n"
    "c_bound: c_bound_at: bound %eax, bounds\n lret\n"
    "c_regs: mov $0xffffffff, %ecx; inc %ecx; mov $-1, %edx; lret\n"
    "c_arpl: mov $0x10, %ecx; mov $3, %edx; arpl %dx, %cx; movzx %cx, %eax; lret\n"
    "c_stack: mov %esp, %eax; pusha; popa; sub %esp, %eax; aaa; das; .byte 0xd6; mov $0x1234, %ax; lret\n"
    "c_limit: mov %fs:(%eax), %eax\n lret\n"
    ".balign 4\nbounds: .long 10, 20\n"
    ".code64\n.popsection");

struct call {
	const void *code;
	uint32_t argument;
};

static void make_call(void *argument)
{
	const struct call *c = argument;
	call32(c->code, c->argument);
}

static int try32(const void *code, uint32_t argument)
{
	struct call c = { code, argument };
	caught.vector = NONE;
	return attempt(make_call, &c);
}

static void test_compat(void)
{
	check_equal(call32(c_inc, 41), 42, "far call into compatibility mode, and far return");
	*(uint32_t *)0x5000 = 0xabcdef01;
	check_equal(call32(c_wrap, 0x4fff), 0xabcdef01, "addresses wrap at 4 GiB in compatibility mode");
	check_equal(call32(c_flags, 0) & 2, 2, "PUSHF of 32 bits");
	check_equal(call32(c_arpl, 0), 0x13, "ARPL");
	check_equal(call32(c_stack, 0) & 0xffff, 0x1234, "PUSHA, POPA, AAA, DAS, SALC");
	uint64_t wide = 0x1122334455667788, high;
	struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) target = { (uint32_t)(uint64_t)c_regs, KCS32 };
	asm volatile("mov %2, %%r15; mov %%rsp, %%rbx; mov %1, %%rsp; lcall *%3; mov %%rbx, %%rsp; mov %%r15, %0"
		     : "=&r"(high) : "r"(test_stack + 8192), "r"(wide), "m"(target) : "rax", "rbx", "rcx", "rdx", "r15", "memory", "cc");
	check_equal(high, wide, "R8 to R15 live through compatibility mode");
	try32(c_into, 0);
	check_caught(OF, 0, (uint64_t)c_into_at + 1, "#OF INTO in compatibility mode is a trap");
	check_equal(caught.frame.cs, KCS32, "an exception pushes the compatibility mode CS");
	try32(c_bound, 5);
	check_caught(BR, 0, (uint64_t)c_bound_at, "#BR BOUND is a fault");
	check_vector(try32(c_bound, 15), NONE, "BOUND within its bounds");
}

static void set_fs(uint16_t selector)
{
	asm volatile("mov %w0, %%fs" : : "r"(selector));
}

static void test_limits(void)
{
	uint16_t free = FREE_SEL;
	gdt[free / 8] = descriptor(0x5000, 0xfff, 0x93, 0x4);     /* expand up, 4 KiB */
	gdt[free / 8 + 1] = descriptor(0x5000, 0xfff, 0x97, 0x4); /* expand down: offsets above FFFh */
	gdt[free / 8 + 2] = descriptor(0x5000, 0, 0x93, 0xc);     /* limit in pages */
	gdt[free / 8 + 3] = descriptor(0x5000, 0xfff, 0x97, 0x0); /* expand down, up to FFFFh */
	set_fs(free);
	check_vector(try32(c_limit, 0xffc), NONE, "the last bytes within a limit");
	check_vector(try32(c_limit, 0xffd), GP, "#GP across a limit");
	check_equal(caught.frame.error, 0, "#GP of a limit: error code");
	check_vector(try32(c_limit, 0xffffffff), GP, "#GP an offset that wraps");
	uint64_t value;
	asm volatile("mov %%fs:0x2000, %0" : "=r"(value));
	check(true, "no limits in 64-bit mode");
	*(uint32_t *)0x5010 = 77;
	asm volatile("mov %%fs:0x10, %k0" : "=r"(value));
	check_equal(value, 77, "FS has its descriptor's base in 64-bit mode");
	set_fs(free + 8);
	check_vector(try32(c_limit, 0xfff), GP, "#GP an expand-down segment below its limit");
	check_vector(try32(c_limit, 0x1000), NONE, "an expand-down segment above its limit");
	set_fs(free + 16);
	check_vector(try32(c_limit, 0xffc), NONE, "a limit in pages: last bytes");
	check_vector(try32(c_limit, 0xffd), GP, "#GP beyond a limit in pages");
	set_fs(free + 24);
	check_vector(try32(c_limit, 0xfffc), NONE, "a 16-bit expand-down segment: last bytes");
	check_vector(try32(c_limit, 0xfffd), GP, "#GP beyond a 16-bit expand-down segment");
	set_fs(0);
	check_vector(try32(c_limit, 0), GP, "#GP through a null selector in compatibility mode");
}

/* --- far transfers in 64-bit mode, call gates, LDT --- */

struct far {
	uint64_t offset;
	uint16_t selector;
} __attribute__((packed));

extern uint8_t far_target[], gate_target[];
asm(".pushsection .text\n"
    "far_target: mov $0x77, %eax; lretq\n"
    "gate_target: mov %rsp, %rax; mov %cs, %ecx; mov %ss, %edx; lretq\n"
    ".popsection");

static NAKED void u_gate(void *argument)
{
	asm("mov %rsp, %rbx; rex.w lcall *(%rdi); mov %cs, %esi; mov %rsp, %rdi; ret");
}

static void set_call_gate(uint16_t selector, uint64_t target, uint16_t code, unsigned access)
{
	gdt[selector / 8] = (target & 0xffff) | (uint64_t)code << 16 | (uint64_t)access << 40 | (target >> 16 & 0xffff) << 48;
	gdt[selector / 8 + 1] = target >> 32;
}

static void test_far(void)
{
	uint64_t value;
	struct far to = { (uint64_t)far_target, KCS };
	asm volatile("rex.w lcall *%1" : "=a"(value) : "m"(to) : "memory");
	check_equal(value, 0x77, "far call of 64 bits, and far return");
	to.selector = 0;
	TRY("rex.w lcall *%0", : "m"(to));
	check_caught(GP, 0, try_at, "#GP far call to a null selector");
	to.selector = KDS;
	TRY("rex.w ljmp *%0", : "m"(to));
	check_caught(GP, KDS, try_at, "#GP far jump to a data segment");
	to.selector = UCS;
	TRY("rex.w ljmp *%0", : "m"(to));
	check_caught(GP, UCS & ~3, try_at, "#GP far jump outward");
	gdt[FREE_SEL / 8] = descriptor(0, 0xfffff, 0x1b, 0xa);
	to.selector = FREE_SEL;
	TRY("rex.w ljmp *%0", : "m"(to));
	check_caught(NP, FREE_SEL, try_at, "#NP far jump to a segment that is not present");
	gdt[FREE_SEL / 8] = descriptor(0, 0xfffff, 0x9b, 0xe); /* L and D */
	TRY("rex.w ljmp *%0", : "m"(to));
	check_caught(GP, FREE_SEL, try_at, "#GP far jump to a segment with L and D");
	gdt[FREE_SEL / 8] = descriptor(0, 0xfffff, 0x9f, 0xa); /* conforming */
	to.offset = (uint64_t)far_target;
	asm volatile("rex.w lcall *%1" : "=a"(value) : "m"(to) : "memory");
	check_equal(value, 0x77, "far call to a conforming segment");
	to.selector = TSS_SEL;
	TRY("rex.w ljmp *%0", : "m"(to));
	check_caught(GP, TSS_SEL, try_at, "#GP far jump to a TSS in long mode");

	set_call_gate(FREE_SEL, (uint64_t)gate_target, KCS, 0xec); /* DPL 3 */
	static struct far gate = { 0, FREE_SEL | 3 };
	user(u_gate, USER(&gate));
	check_caught(NONE, 0, 0, "call gate from ring 3 and back");
	check_equal(caught.frame.rax, tss.rsp[0] - 32, "call gate: RSP0, four words pushed");
	check_equal(caught.frame.rcx << 16 | caught.frame.rdx, (uint64_t)KCS << 16, "call gate: CS of ring 0 and a null SS");
	check_equal(caught.frame.rsi << 32 | (uint32_t)(caught.frame.rdi - caught.frame.rbx), (uint64_t)UCS << 32, "call gate: far return restores CS and RSP");
	set_call_gate(FREE_SEL, (uint64_t)gate_target, KCS, 0x8c); /* DPL 0 */
	user(u_gate, USER(&gate));
	check(caught.vector == GP && caught.frame.error == FREE_SEL, "#GP call gate with DPL 0 from ring 3");
	set_call_gate(FREE_SEL, (uint64_t)gate_target, KCS, 0x6c);
	user(u_gate, USER(&gate));
	check(caught.vector == NP && caught.frame.error == FREE_SEL, "#NP call gate that is not present");
	set_call_gate(FREE_SEL, (uint64_t)gate_target, KCS32, 0xec);
	user(u_gate, USER(&gate));
	check(caught.vector == GP && caught.frame.error == KCS32, "#GP call gate to a 32-bit segment");
	gdt[FREE_SEL / 8 + 1] |= BIT(41);
	set_call_gate(FREE_SEL, (uint64_t)gate_target, KCS, 0xec);
	gdt[FREE_SEL / 8 + 1] |= BIT(40);
	user(u_gate, USER(&gate));
	check(caught.vector == GP && caught.frame.error == FREE_SEL, "#GP call gate whose upper half has a type");
}

static void test_ldt(void)
{
	static uint64_t ldt[4] __attribute__((aligned(16)));
	ldt[1] = descriptor(0x6000, 0xfffff, 0x93, 0xc);
	*(uint32_t *)0x6004 = 0x600d;
	gdt[LDT_SEL / 8] = descriptor((uint32_t)(uint64_t)ldt, sizeof(ldt) - 1, 0x82, 0);
	gdt[LDT_SEL / 8 + 1] = 0;
	check_vector(TRY("lldt %w0", : "r"(LDT_SEL)), NONE, "LLDT");
	uint64_t value = 0;
	asm volatile("sldt %w0" : "+r"(value));
	check_equal(value, LDT_SEL, "SLDT");
	set_fs(0xc);
	asm volatile("mov %%fs:4, %k0" : "=r"(value));
	check_equal(value, 0x600d, "a segment of the LDT");
	TRY("mov %w0, %%fs", : "r"(0x24));
	check_caught(GP, 0x24, try_at, "#GP a selector behind the LDT's limit");
	uint64_t limit = 0, rights = 0;
	bool zf;
	asm volatile("lsl %2, %k0; setz %1" : "+r"(limit), "=q"(zf) : "r"(0xc) : "cc");
	check(zf && limit == 0xffffffff, "LSL");
	asm volatile("lar %2, %k0; setz %1" : "+r"(rights), "=q"(zf) : "r"(0xc) : "cc");
	check(zf && (rights & ~0xf0000ULL) == 0xc09300, "LAR");
	asm volatile("lar %2, %k0; setz %1" : "+r"(rights), "=q"(zf) : "r"(0x24) : "cc");
	check(!zf, "LAR of a selector behind the limit");
	asm volatile("verw %w1; setz %0" : "=q"(zf) : "r"(0xc) : "cc");
	check(zf, "VERW of a writable segment");
	asm volatile("verw %w1; setz %0" : "=q"(zf) : "r"(KCS) : "cc");
	check(!zf, "VERW of a code segment");
	set_fs(0);
	asm volatile("lldt %w0" : : "r"(0));
	TRY("mov %w0, %%fs", : "r"(0xc));
	check_caught(GP, 0xc, try_at, "#GP a selector in the LDT when it is null");
}

/* --- out of long mode and back --- */

/* Identity-mapped below 1 MiB, where real mode can run it: copied there. */
enum { LOW = 0x8000, GDT_LOW = 0x9000, STACK_LOW = 0xa000, KCS16 = FREE_SEL, KDS16 = FREE_SEL + 8 };
extern uint8_t low_start[], low_end[];


/* Entered in 32-bit compatibility mode by a far call. Switches paging, long mode, protection off; runs in real mode; and back. */
asm(".pushsection .text\n"
    "low_start:\n"
    ".code32\n"
    "mov $0x10, %eax; mov %eax, %ds; mov %eax, %es\n" /* an IRET to ring 3 has cleared them */
    "mov %cr0, %eax; and $0x7fffffff, %eax; mov %eax, %cr0\n" /* paging off: protected mode */
    "mov $0xc0000080, %ecx; rdmsr; mov %eax, %edi; and $~0x100, %eax; wrmsr; rdmsr; mov %eax, results+4\n"
    "mov %cr0, %eax; mov %eax, results\n"
    "mov $0x60+8, %eax; mov %eax, %ds; mov %eax, %ss\n" /* KDS16 */
    "ljmp $0x60, $(low16 - low_start + 0x8000)\n" /* KCS16 */
    ".code16\n"
    "low16: mov %cr0, %eax; and $~1, %eax; mov %eax, %cr0\n"
    "ljmp $0, $(real - low_start + 0x8000)\n"
    "real: xor %ax, %ax; mov %ax, %ds; mov %ax, %ss; mov $0xa000, %esp\n"
    "mov $0x1234, %ax; mov %ax, %es; mov %es, %cx; mov %cx, 0x7000\n"
    "movl $0x5678, %es:4\n"                       /* linear 12344h */
    "push $0x7654; pop %dx; mov %dx, 0x7002\n"
    "lidtl low_idt - low_start + 0x8000\n"        /* the vectors at 0 */
    "movw $(handler - low_start + 0x8000), 0x21*4; movw $0, 0x21*4+2\n"
    "mov $5, %ax; int $0x21; mov %ax, 0x7004\n"
    "pushf; pop %ax; mov %ax, 0x7006\n"
    "mov $0xffff, %bx; mov $0x11, %al; mov %al, 1(%bx)\n" /* 16-bit offsets wrap: 0 */
    "mov 0, %al; mov %al, 0x7008\n"
    /* back: protection, then 32 bits, then paging */
    "mov %cr0, %eax; or $1, %eax; mov %eax, %cr0\n"
    "ljmpl $0x38, $(back32 - low_start + 0x8000)\n" /* KCS32 */
    "handler: add $37, %ax; iret\n"
    ".balign 4\nlow_idt: .word 0x3ff; .long 0\n"
    ".code32\n"
    "back32: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss\n"
    "mov $0xc0000080, %ecx; xor %edx, %edx; mov %edi, %eax; wrmsr\n"
    "mov %cr0, %eax; or $0x80000000, %eax; mov %eax, %cr0\n"
    "mov %ebp, %esp; lret\n"
    "low_end:\n"
    ".code64\n.popsection");

static void test_real_mode(void)
{
	struct descriptor_table idtr;
	static const struct {
		uint32_t offset;
		uint16_t selector;
	} __attribute__((packed)) target = { LOW, KCS32 };
	gdt[KCS16 / 8] = descriptor(0, 0xffff, 0x9b, 0);
	gdt[KDS16 / 8] = descriptor(0, 0xffff, 0x93, 0);
	memcpy((void *)LOW, low_start, (size_t)(low_end - low_start));
	memset((void *)0x7000, 0, 16);
	asm volatile("sidt %0" : "=m"(idtr));
	uint64_t efer = rdmsr(MSR_EFER), cr0 = READ_CR(0);
	asm volatile("push %%rbp; mov %%rsp, %%r12; mov %0, %%rsp; lea -8(%%rsp), %%ebp\n"
		     "lcall *%1\n"
		     "mov %%r12, %%rsp; pop %%rbp"
		     : : "r"(test_stack + 8192), "m"(target) : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r12", "memory", "cc");
	asm volatile("lidt %0" : : "m"(idtr));
	asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%ss" : : "r"(KDS));
	const uint16_t *seen = (uint16_t *)0x7000;
	check_equal(results[0] & CR0_PG, 0, "CR0.PG cleared in compatibility mode");
	check_equal(results[1] & (EFER_LMA | EFER_LME), 0, "EFER.LMA follows CR0.PG, EFER.LME can be cleared");
	check_equal(seen[0], 0x1234, "real mode: a segment register takes any value");
	check_equal(*(uint32_t *)0x12344, 0x5678, "real mode: base is selector times 16");
	check_equal(seen[1], 0x7654, "real mode: PUSH and POP of 16 bits");
	check_equal(seen[2], 42, "real mode: INT through the vector table, IRET");
	check_equal(seen[3] & 0x202, 2, "real mode: PUSHF");
	check_equal(seen[4] & 0xff, 0x11, "real mode: 16-bit offsets wrap");
	check_equal(rdmsr(MSR_EFER), efer, "back in long mode: EFER");
	check_equal(READ_CR(0), cr0, "back in long mode: CR0");
	check_vector(TRY("ud2", :), UD, "back in long mode: exceptions");
}

int main(void)
{
	test_compat();
	test_limits();
	test_far();
	test_ldt();
	test_real_mode();
	return 0;
}
