/* SPDX-License-Identifier: MIT */
/* SYSCALL and SYSRET, SYSENTER and SYSEXIT, SWAPGS: what they load, save, mask and refuse. SDM volume 2; 3A 5.8.7, 5.8.8 */
#include "lib/guest.h"

#define NONCANONICAL 0x8000000000000000ULL
enum { MSR_STAR = 0xc0000081, MSR_LSTAR = 0xc0000082, MSR_CSTAR = 0xc0000083, MSR_SFMASK = 0xc0000084, MSR_SYSENTER_CS = 0x174,
       MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176, MSR_FS_BASE = 0xc0000100, MSR_GS_BASE = 0xc0000101, MSR_KERNEL_GS_BASE = 0xc0000102 };

/* What the kernel side saw. */
uint64_t seen_rcx, seen_r11, seen_rsp, seen_flags, seen_selectors, return_rcx, return_r11, change_return, entry_stack;

/* SYSCALL lands here: notes everything, and returns with SYSRET to 64-bit code. */
static NAKED void syscall_entry(void *argument)
{
	asm("mov %rcx, seen_rcx(%rip); mov %r11, seen_r11(%rip); mov %rsp, seen_rsp(%rip)\n"
	    "mov entry_stack(%rip), %rsp\n"
	    "pushfq; popq seen_flags(%rip)\n"
	    "mov %cs, %edx; shl $16, %edx; mov %ss, %dx; mov %rdx, seen_selectors(%rip)\n"
	    "mov seen_rsp(%rip), %rsp\n"
	    "cmpq $0, change_return(%rip); je 1f\n"
	    "mov return_rcx(%rip), %rcx; mov return_r11(%rip), %r11\n"
	    "1: .globl sysret_at\n"
	    "sysret_at: sysretq");
}
extern uint8_t sysret_at[], u_syscall_next[];

static NAKED void u_syscall(void *argument)
{
	asm("push %rdi; popfq; mov $0x1234, %r11d; mov $0x5678, %ecx\n"
	    "syscall\n"
	    "u_syscall_next: pushfq; pop %rax\n"
	    "mov %cs, %edx; shl $16, %edx; mov %ss, %dx; ret");
}
static NAKED void u_syscall_at(void *argument)
{
	asm("syscall; ret");
}
static NAKED void u_sysret(void *argument)
{
	asm("sysretq");
}

static void test_syscall(void)
{
	const uint64_t flags = 0xc00 | FLAG_CF | FLAG_AC | FLAG_ID | 2; /* OF, DF, CF, AC, ID */
	wrmsr(MSR_STAR, (uint64_t)(UCS32 | 3) << 48 | (uint64_t)KCS << 32);
	wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
	wrmsr(MSR_SFMASK, FLAG_DF | FLAG_IF | FLAG_AC | FLAG_TF);
	entry_stack = (uint64_t)test_stack + sizeof(test_stack);
	check_vector(user(u_syscall, flags), NONE, "SYSCALL and SYSRET");
	check_equal(seen_rcx, USER(u_syscall_next), "SYSCALL puts the next RIP into RCX");
	check_equal(seen_r11, flags, "SYSCALL puts RFLAGS into R11");
	check_equal(seen_flags, flags & ~(FLAG_DF | FLAG_AC), "SYSCALL clears the flags that SFMASK names");
	check_equal(seen_selectors, (uint64_t)KCS << 16 | KDS, "SYSCALL loads CS and SS");
	check_equal(seen_rsp, USER(user_stack + sizeof(user_stack) - 8), "SYSCALL leaves RSP alone");
	check_equal(caught.frame.rax, flags, "SYSRET loads RFLAGS from R11");
	check_equal(caught.frame.rdx, (uint64_t)UCS << 16 | UDS, "SYSRET loads CS and SS");

	change_return = 1;
	return_rcx = USER(u_syscall_next);
	return_r11 = 0x3d7fd7 & ~FLAG_TF & ~FLAG_IF;
	user(u_syscall, flags);
	check_equal(caught.frame.rax & ~FLAG_RF, 0x247cd7 | (caught.frame.rax & 0x180000), "SYSRET clears RF and VM, and what is reserved");
	return_r11 = FLAG_TF | 2;
	user(u_syscall, flags);
	check_caught(DB, 0, USER(u_syscall_next), "SYSRET that sets TF: the trap comes before the next instruction");
	if (IS_INTEL) {
		return_rcx = NONCANONICAL;
		return_r11 = 2;
		user(u_syscall, flags);
		check_caught(GP, 0, (uint64_t)sysret_at, "#GP SYSRET to a non-canonical RIP, in ring 0");
		check_equal(caught.frame.cs, KCS, "the SYSRET that faulted was in ring 0");
	}
	change_return = 0;

	user_flags(u_syscall_at, 0, FLAG_TF);
	check_caught(DB, 0, USER(u_syscall_at) + 2, "SYSCALL with TF masked is not stepped inside; R11 brings TF back");
	user(u_sysret, 0);
	check_caught(GP, 0, USER(u_sysret), "#GP SYSRET in ring 3");
	uint64_t efer = rdmsr(MSR_EFER);
	wrmsr(MSR_EFER, efer & ~(uint64_t)EFER_SCE);
	user(u_syscall_at, 0);
	check_caught(UD, 0, USER(u_syscall_at), "#UD SYSCALL without EFER.SCE");
	TRY("sysretq", :);
	check_caught(UD, 0, try_at, "#UD SYSRET without EFER.SCE");
	wrmsr(MSR_EFER, efer);
}

/* --- SYSENTER, SYSEXIT: only Intel's processors have them in long mode --- */

static NAKED void sysenter_entry(void *argument)
{
	asm("mov %rsp, seen_rsp(%rip); pushfq; popq seen_flags(%rip)\n"
	    "mov %cs, %eax; shl $16, %eax; mov %ss, %ax; mov %rax, seen_selectors(%rip)\n"
	    "mov return_rcx(%rip), %rdx; mov %rdi, %rcx\n"
	    ".globl sysexit_at\n"
	    "sysexit_at: rex.w sysexit");
}
extern uint8_t sysexit_at[], u_sysenter_next[];

static NAKED void u_sysenter(void *argument)
{
	asm("lea -64(%rsp), %rdi; mov %rsp, %rbx; stc\n"
	    "sysenter\n"
	    "u_sysenter_next: mov %rsp, %rsi; mov %rbx, %rsp\n"
	    "mov %cs, %eax; shl $16, %eax; mov %ss, %ax; ret");
}
static NAKED void u_sysenter_at(void *argument)
{
	asm("sysenter; ret");
}

static void test_sysenter(void)
{
	if (!IS_INTEL) {
		skip("SYSENTER", "only Intel's processors have it in long mode");
		return;
	}
	wrmsr(MSR_SYSENTER_CS, 0);
	user(u_sysenter_at, 0);
	check_caught(GP, 0, USER(u_sysenter_at), "#GP SYSENTER with a null SYSENTER_CS");
	TRY("rex.w sysexit", : "c"(0ULL), "d"(0ULL));
	check_caught(GP, 0, try_at, "#GP SYSEXIT with a null SYSENTER_CS");
	wrmsr(MSR_SYSENTER_CS, KCS);
	wrmsr(MSR_SYSENTER_EIP, (uint64_t)sysenter_entry);
	wrmsr(MSR_SYSENTER_ESP, entry_stack);
	return_rcx = USER(u_sysenter_next);
	check_vector(user_flags(u_sysenter, 0, FLAG_IF), NONE, "SYSENTER and SYSEXIT");
	check_equal(seen_rsp, entry_stack, "SYSENTER loads RSP");
	check_equal(seen_flags & (FLAG_IF | FLAG_CF), FLAG_CF, "SYSENTER clears IF and nothing else");
	check_equal(seen_selectors, (uint64_t)KCS << 16 | KDS, "SYSENTER loads CS and SS");
	check_equal(caught.frame.rax, (uint64_t)UCS << 16 | UDS64, "SYSEXIT loads CS and SS");
	check_equal(caught.frame.rsi, caught.frame.rdi, "SYSEXIT loads RSP from RCX");
	return_rcx = NONCANONICAL;
	user(u_sysenter, 0);
	check_caught(GP, 0, (uint64_t)sysexit_at, "#GP SYSEXIT to a non-canonical RIP");
	check_vector(try_wrmsr(MSR_SYSENTER_EIP, NONCANONICAL), GP, "#GP SYSENTER_EIP non-canonical");
}

/* --- FS, GS, SWAPGS --- */

static NAKED void u_swapgs(void *argument)
{
	asm("swapgs; ret");
}
static NAKED void u_rdfsbase(void *argument)
{
	asm("rdfsbase %rax; ret");
}

static void test_bases(void)
{
	uint64_t value;
	static uint64_t words[2] = { 0x1111, 0x2222 };
	wrmsr(MSR_GS_BASE, (uint64_t)words);
	wrmsr(MSR_KERNEL_GS_BASE, (uint64_t)(words + 1));
	asm volatile("mov %%gs:0, %0" : "=r"(value));
	check_equal(value, 0x1111, "GS base");
	asm volatile("swapgs; mov %%gs:0, %0" : "=r"(value));
	check_equal(value, 0x2222, "SWAPGS");
	check_equal(rdmsr(MSR_KERNEL_GS_BASE), (uint64_t)words, "SWAPGS exchanges");
	asm volatile("swapgs");
	user(u_swapgs, 0);
	check_caught(GP, 0, USER(u_swapgs), "#GP SWAPGS in ring 3");
	wrmsr(MSR_FS_BASE, 0x123456789abc);
	check_equal(rdmsr(MSR_FS_BASE), 0x123456789abc, "FS base is kept");
	asm volatile("mov %0, %%fs" : : "r"(UDS));
	check_equal(rdmsr(MSR_FS_BASE), 0, "loading FS loads the descriptor's base");
	asm volatile("mov %0, %%fs" : : "r"(0));

	uint64_t cr4 = READ_CR(4);
	TRY("rdfsbase %0", "=r"(value) :);
	check_caught(UD, 0, try_at, "#UD RDFSBASE without CR4.FSGSBASE");
	if (!HAS_FSGSBASE) {
		skip("FSGSBASE", "CPUID does not offer it");
		TRY("mov %0, %%cr4", : "r"(cr4 | CR4_FSGSBASE));
		check_caught(GP, 0, try_at, "#GP CR4.FSGSBASE without FSGSBASE");
		return;
	}
	WRITE_CR(4, cr4 | CR4_FSGSBASE);
	asm volatile("wrfsbase %0" : : "r"(0x7654321000));
	check_equal(rdmsr(MSR_FS_BASE), 0x7654321000, "WRFSBASE");
	user(u_rdfsbase, 0);
	check_equal(caught.frame.rax, 0x7654321000, "RDFSBASE in ring 3");
	asm volatile("wrgsbase %0; rdgsbase %1" : : "r"(0xffff800000001000), "r"(value));
	check_equal(rdmsr(MSR_GS_BASE), 0xffff800000001000, "WRGSBASE");
	TRY("wrfsbase %0", : "r"(NONCANONICAL));
	check_caught(GP, 0, try_at, "#GP WRFSBASE non-canonical");
	asm volatile("wrfsbase %0" : : "r"(0x123456789abcULL));
	asm volatile("wrfsbase %k0" : : "r"(~0ULL));
	check_equal(rdmsr(MSR_FS_BASE), 0xffffffff, "WRFSBASE with 32 bits clears the upper half");
	wrmsr(MSR_FS_BASE, 0);
	WRITE_CR(4, cr4);
}

int main(void)
{
	test_syscall();
	test_sysenter();
	test_bases();
	return 0;
}
