/* SPDX-License-Identifier: MIT */
/* Runs one instruction natively with all registers given: hostrun.h.
 *
 * The entry loads every register, RSP too, and jumps to the instruction: 64-bit code by a near jump, since there are hypervisors under which
 * the host's kernel does not survive a fault of the processor's own reading of a descriptor. What follows the instruction in memory
 * jumps to the exit, which stores them. Everywhere else the code is INT3, so a branch ends in a signal, as a
 * fault does; the handler, on a stack of its own, takes the registers from the signal frame and has it return to
 * the exit's second half. */
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>
#include "hostrun.h"

#define USER_CS64 0x33   /* Linux's selectors, arch/x86/include/asm/segment.h */
#define USER_CS32 0x23
#define USER_DS 0x2b
#define LDT_CODE16 0x07  /* entries of the LDT, ring 3 */
#define LDT_DATA16 0x0f
#define INT3 0xcc
#define FAR_EXIT (HOST_CODE + HOST_CODE_SIZE) /* a page behind the code: 32- and 16-bit code jumps there */

_Static_assert(offsetof(struct host_state, rflags) == 128, "the assembly below knows it");
_Static_assert(offsetof(struct host_state, fx) == 192, "the assembly below knows it");
_Static_assert(offsetof(struct host_state, avx) == 704, "the assembly below knows it");

/* Between the assembly and the rest */
struct host_state hostrun_state;
struct x86_fxsave hostrun_own __attribute__((aligned(64))); /* vector state of the C code */
uint64_t hostrun_rsp, hostrun_target;
bool host_has_avx;
struct __attribute__((packed)) {
	uint32_t offset;
	uint16_t code, stack, data; /* selectors */
} hostrun_entry;
void hostrun_enter(void), hostrun_exit(void), hostrun_exit_fault(void);

#define EACH_GPR(X)                                                                                                    \
	X("rcx", "8") X("rdx", "16") X("rbx", "24") X("rbp", "40") X("rsi", "48") X("rdi", "56") X("r8", "64")         \
	X("r9", "72") X("r10", "80") X("r11", "88") X("r12", "96") X("r13", "104") X("r14", "112") X("r15", "120")
#define LOAD(name, at) "mov hostrun_state+" at "(%rip), %" name "\n"
#define STORE(name, at) "mov %" name ", hostrun_state+" at "(%rip)\n"
asm(".text\n"
    ".globl hostrun_enter, hostrun_exit, hostrun_exit_fault\n"
    "hostrun_enter:\n"
    "push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n pushfq\n"
    "mov %rsp, hostrun_rsp(%rip)\n"
    "fxsave64 hostrun_own(%rip)\n"
    "cmpb $0, host_has_avx(%rip)\n je 1f\n"
    "mov $4, %eax\n xor %edx, %edx\n xrstor64 hostrun_state+704(%rip)\n" /* before FXRSTOR: it loads MXCSR too */
    "1:\n"
    "fxrstor64 hostrun_state+192(%rip)\n"
    "cmpw $0x33, hostrun_entry+4(%rip)\n jne 1f\n"
    "push hostrun_state+128(%rip)\n popfq\n" /* 64-bit code: no descriptor is loaded */
    EACH_GPR(LOAD)
    "mov hostrun_state+0(%rip), %rax\n"
    "mov hostrun_state+32(%rip), %rsp\n"
    "jmp *hostrun_target(%rip)\n"
    "1:\n"
    "push hostrun_state+128(%rip)\n popfq\n"
    "mov hostrun_entry+8(%rip), %ds\n mov hostrun_entry+8(%rip), %es\n"
    EACH_GPR(LOAD)
    "mov hostrun_state+0(%rip), %rax\n"
    "mov hostrun_entry+6(%rip), %ss\n"
    "mov hostrun_state+32(%rip), %rsp\n"
    "ljmp *hostrun_entry(%rip)\n"
    "hostrun_exit:\n"
    STORE("rsp", "32")
    "mov hostrun_rsp(%rip), %rsp\n"
    "pushfq\n popq hostrun_state+128(%rip)\n"
    "mov %rax, hostrun_state+0(%rip)\n"
    EACH_GPR(STORE)
    "cmpw $0x33, hostrun_entry+4(%rip)\n je hostrun_exit_fault\n"
    "mov $0x2b, %eax\n mov %eax, %ss\n"
    "hostrun_exit_fault:\n" /* the handler stored the registers, and set RSP */
    "fxsave64 hostrun_state+192(%rip)\n"
    "cmpb $0, host_has_avx(%rip)\n je 1f\n"
    "mov $4, %eax\n xor %edx, %edx\n xsave64 hostrun_state+704(%rip)\n vzeroupper\n"
    "1:\n"
    "fxrstor64 hostrun_own(%rip)\n"
    "popfq\n pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n ret\n");

static volatile bool running;
static struct host_end end;

static void on_signal(int number, siginfo_t *info, void *context)
{
	static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					   REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	if (!running) { /* a bug of the test's own: die of it */
		signal(number, SIG_DFL);
		return;
	}
	for (unsigned r = 0; r < 16; r++)
		hostrun_state.gpr[r] = (uint64_t)g[order[r]];
	hostrun_state.rflags = (uint64_t)g[REG_EFL] & ~FLAG_RF;
	hostrun_state.rip = (uint64_t)g[REG_RIP];
	end = (struct host_end){ (int)g[REG_TRAPNO], (uint32_t)g[REG_ERR], (uint64_t)g[REG_CR2] };
	if (end.vector == VECTOR_BP) { /* a branch arrived */
		hostrun_state.rip--;
		end.vector = HOST_COMPLETED;
	}
	if (end.vector == VECTOR_PF && end.address == hostrun_state.rip) /* one arrived where nothing is mapped */
		end.vector = HOST_COMPLETED;
	g[REG_RSP] = (greg_t)hostrun_rsp;
	g[REG_RIP] = (greg_t)hostrun_exit_fault;
	g[REG_CSGSFS] = (greg_t)(((uint64_t)g[REG_CSGSFS] & 0x0000ffffffff0000) | USER_CS64 | (uint64_t)USER_DS << 48);
	g[REG_EFL] = FLAG_FIXED | FLAG_IF;
}

static bool catch_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
	static uint8_t stack[65536];
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (sigaltstack(&alternate, NULL))
		return false;
	for (unsigned n = 0; n < ARRAY_SIZE(signals); n++)
		if (sigaction(signals[n], &action, NULL))
			return false;
	return true;
}

static bool map(uint64_t at, uint64_t size, int protection)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
	return mmap((void *)at, size, protection, flags, -1, 0) == (void *)at;
}

static bool set_ldt(unsigned entry, uint64_t base, unsigned contents)
{
	struct user_desc d = { .entry_number = entry, .base_addr = (unsigned)base, .limit = 0xffff, .useable = 1 };

	d.contents = contents & 3;
	return !syscall(SYS_modify_ldt, 1, &d, sizeof(d));
}

/* jmp *next; next: the address */
static unsigned near_exit(uint8_t *at)
{
	uint64_t target = (uint64_t)(uintptr_t)hostrun_exit;
	memcpy(at, "\xff\x25\0\0\0\0", 6);
	memcpy(at + 6, &target, 8);
	return 14;
}

/* A far jump with an offset of 32 bits. */
static unsigned far_exit(uint8_t *at, bool code16)
{
	uint32_t offset = FAR_EXIT;
	uint16_t selector = USER_CS64;
	if (code16)
		*at++ = 0x66;
	*at++ = 0xea;
	memcpy(at, &offset, 4);
	memcpy(at + 4, &selector, 2);
	return 7 + code16;
}

bool hostrun_init(void)
{
	if (!map(HOST_CODE, HOST_CODE_SIZE + X86_PAGE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
	    !map(HOST_HOLE, HOST_HOLE_SIZE, PROT_NONE) ||
	    mprotect((void *)HOST_DATA, HOST_SPAN, PROT_READ | PROT_WRITE)) {
		perror("# this host does not let us map the test's memory");
		return false;
	}
	host_has_avx = __builtin_cpu_supports("avx");
	memset((void *)HOST_CODE, INT3, HOST_CODE_SIZE);
	near_exit((uint8_t *)FAR_EXIT);
	for (unsigned n = 0; n < HOST_SPAN; n++)
		((uint8_t *)HOST_DATA)[n] = (uint8_t)(n * 37);
	mprotect((void *)HOST_READONLY, X86_PAGE_SIZE, PROT_READ);
	if (syscall(SYS_arch_prctl, ARCH_SET_GS, HOST_GS_BASE) || !catch_signals()) {
		perror("# this host does not let us set GS or catch signals");
		return false;
	}
	return true;
}

bool hostrun_init16(void)
{
	return set_ldt(LDT_CODE16 >> 3, HOST_CODE, MODIFY_LDT_CONTENTS_CODE) &&
	       set_ldt(LDT_DATA16 >> 3, HOST_DATA, MODIFY_LDT_CONTENTS_DATA);
}

uint64_t host_fs_base(void)
{
	uint64_t base = 0;
	syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
	return base;
}

static void enter(const struct host_state *state, unsigned length)
{
	hostrun_state = *state;
	hostrun_state.rip += length;
	memset(hostrun_state.avx.header, 0, sizeof(hostrun_state.avx.header));
	hostrun_state.avx.header[0] = XCR0_AVX;
	end.vector = HOST_COMPLETED;
	running = true;
	hostrun_enter();
	running = false;
}

struct host_end hostrun(struct host_state *state, const uint8_t *bytes, unsigned length, uint32_t mode)
{
	uint32_t code = mode & MODE_CODE;
	uint8_t *at = (uint8_t *)(uintptr_t)(state->rip + (code == MODE_CODE16 ? HOST_CODE : 0));
	unsigned stub;

	memcpy(at, bytes, length);
	stub = code == MODE_CODE64 ? near_exit(at + length) : far_exit(at + length, code == MODE_CODE16);
	hostrun_target = state->rip;
	hostrun_entry.offset = (uint32_t)state->rip;
	hostrun_entry.code = code == MODE_CODE64 ? USER_CS64 : code == MODE_CODE32 ? USER_CS32 : LDT_CODE16;
	hostrun_entry.stack = hostrun_entry.data = code == MODE_CODE16 ? LDT_DATA16 : USER_DS;
	enter(state, length);
	/* Where the host is itself a guest of a software hypervisor, code that was just written has raised #UD now and then, about once in
	 * 100000 times. So that one, which leaves no trace, is believed only when it comes again. */
	for (unsigned n = 0; n < 2 && end.vector == VECTOR_UD; n++)
		enter(state, length);
	*state = hostrun_state;
	memset(at, INT3, length + stub);
	return end;
}

bool hostrun_steady(unsigned long unsteady, unsigned long cases)
{
	if (unsteady)
		printf("# %lu of %lu cases came out in two ways on the host itself, one of them ours\n", unsteady, cases);
	return unsteady <= 10 || unsteady <= cases / 1000;
}
