/* SPDX-License-Identifier: MIT */
/* A bit of everything that a processor has to carry on when another engine takes over between any two instructions: integer and string
 * instructions with their flags, x87 and SSE with registers and control words that live across the rounds, page tables that change, timer
 * interrupts, HLT, faults that are expected, a call gate and system calls from ring 3, single steps, code that rewrites itself. All of it goes into one
 * sum, which is the same on any processor and however long anything takes. With the word "plain" on the command line single steps and the way through rings are
 * left out, which some hosts' kernels do not emulate. */
#include "lib/apic.h"

#define ROUNDS 150
#define SUM 0x319948f5b51e22a
#define SUM_PLAIN 0x4e66749cc6e13a3e
#define PROGRESS_PORT 0x5f0 /* where the number of the round goes: nobody need listen */
#define WINDOW 0x8000000000ULL
#define V_TICK 0x41
#define GATE_SEL FREE_SEL

static uint64_t sum = 0xcbf29ce484222325ULL, random_state = 88172645463325252ULL;
static volatile uint64_t ticks;

static void add(uint64_t value)
{
	for (unsigned n = 0; n < 8; n++, value >>= 8)
		sum = (sum ^ (value & 0xff)) * 0x100000001b3ULL;
}

static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

/* --- integers and flags --- */

#define ARITH 0xd5u /* SF ZF AF PF CF: OF is undefined after a rotate by more than 1 */

static void integers(void)
{
	uint64_t a = any(), b = any() | 1, c = any(), high, low, flags, old;

	for (unsigned n = 0; n < 24; n++) {
		asm volatile("add %4, %0; adc %5, %1; sbb %4, %2; rol $7, %0; rcr $3, %1; bswap %2; pushfq; pop %3"
			     : "+r"(a), "+r"(b), "+r"(c), "=&r"(flags) : "r"(a ^ n), "r"(b + n) : "cc");
		add(flags & ARITH);
		asm volatile("mul %3" : "=a"(low), "=d"(high) : "a"(a), "r"(b) : "cc");
		add(low ^ high);
		asm volatile("xor %%edx, %%edx; div %3" : "=&a"(low), "=&d"(high) : "0"(c), "r"(b | 1) : "cc");
		add(low + high);
		old = low;
		asm volatile("lock cmpxchg %2, %1; setz %%al" : "+a"(old), "+m"(low) : "r"(a) : "cc", "memory");
		add(low ^ (old & 0xff));
		asm volatile("bsf %1, %0" : "=r"(low) : "r"(a | BIT(60)) : "cc");
		asm volatile("shld $9, %2, %0; bt %3, %1; setc %b0" : "+r"(a), "+r"(b) : "r"(c), "r"((uint64_t)n) : "cc");
		add(low + a);
	}
}

static uint8_t from[512], to[600];

static void strings(void)
{
	uint64_t count, di, si;

	for (unsigned n = 0; n < sizeof(from); n += 8) {
		uint64_t value = any();
		memcpy(from + n, &value, 8);
	}
	si = (uint64_t)from;
	di = (uint64_t)to + any() % 32;
	count = 400 + any() % 100;
	asm volatile("rep movsb" : "+S"(si), "+D"(di), "+c"(count) : : "memory");
	si = (uint64_t)to + 63 * 8, di = si + 8, count = 40; /* it overlaps, and goes down */
	asm volatile("std; rep movsq; cld" : "+S"(si), "+D"(di), "+c"(count) : : "memory");
	for (unsigned n = 0; n < sizeof(to) / 8; n++)
		add(((uint64_t *)to)[n]);
	di = (uint64_t)to, count = sizeof(to);
	asm volatile("repne scasb" : "+D"(di), "+c"(count) : "a"(from[300]) : "cc", "memory");
	add(count);
	si = (uint64_t)from, di = (uint64_t)to, count = 64;
	asm volatile("repe cmpsw" : "+S"(si), "+D"(di), "+c"(count) : : "cc", "memory");
	add(count);
	di = (uint64_t)to + any() % 8, count = 50;
	asm volatile("rep stosl" : "+D"(di), "+c"(count) : "a"((uint32_t)sum) : "memory");
}

/* --- x87 and SSE: what is in the registers stays there from round to round --- */

static struct { uint8_t image[512]; } __attribute__((aligned(16))) area;

static void floating_begin(void)
{
	asm volatile("fninit; fld1; fldpi; fldl2e; fldlg2");
	asm volatile("xorps %xmm8, %xmm8; pcmpeqd %xmm9, %xmm9; psrlq $12, %xmm9");
}

/* ST0 to ST3 go round; never a signal that traps. */
static void floating(void)
{
	static const uint16_t controls[] = { 0x37f, 0xb7f, 0x77f, 0xf7f, 0x27f, 0x07f }; /* precision and rounding */
	uint16_t control = controls[any() % 6];
	uint32_t mxcsr = 0x1f80 | (any() & 3) << 13;
	uint64_t bits = (any() >> 12) | 0x3ff0000000000000ULL;

	asm volatile("fldcw %0; fldl %1; fmul %%st(2), %%st; fadd %%st(1), %%st; fsqrt; fxch %%st(3); fstp %%st(0); fscale"
		     : : "m"(control), "m"(bits));
	asm volatile("fld %st(2); fprem; fstp %st(3); fxtract; fstp %st(0); fld1; faddp; fincstp; fdecstp");
	asm volatile("ldmxcsr %0; movq %1, %%xmm0; sqrtsd %%xmm0, %%xmm1; mulsd %%xmm0, %%xmm1; addsd %%xmm1, %%xmm8"
		     : : "m"(mxcsr), "m"(bits));
	asm volatile("movq %0, %%xmm2; punpcklbw %%xmm9, %%xmm2; paddd %%xmm2, %%xmm9; pshufd $0x39, %%xmm9, %%xmm9; cvtdq2ps %%xmm9, %%xmm10"
		     : : "m"(bits));
	asm volatile("divps %xmm9, %xmm10; xorps %xmm10, %xmm11; psadbw %xmm9, %xmm12; paddq %xmm11, %xmm12");
}

static void floating_sum(void)
{
	asm volatile("fxsave64 %0" : "=m"(area));
	/* Control and status without C0 to C3, tags, MXCSR, ST0 to ST7, XMM. What else there is processors keep differently. */
	for (unsigned n = 0; n < 416; n += 8) {
		uint64_t value;
		memcpy(&value, area.image + n, 8);
		add(n == 0 ? value & 0xffb8ffffffULL : n == 8 || n == 16 ? 0 : n == 24 ? value & 0xffffffff : value);
	}
	memset(area.image + 16, 0, 8); /* FDP: whoever compares all of memory would see it */
}

/* --- pages --- */

static uint64_t *page_a, *page_b;

static void pages(void)
{
	volatile uint64_t *window = (volatile uint64_t *)WINDOW;
	uint64_t flags = any() & PTE_G ? PTE_P | PTE_W | PTE_G : PTE_P | PTE_W;
	unsigned at = any() % 512;
	uint64_t low, high;

	page_a[at] = any();
	page_b[at] = any();
	map(WINDOW, (uint64_t)page_a, flags, 1);
	add(window[at]);
	map(WINDOW, (uint64_t)page_b, flags & ~PTE_W, 1);
	add(window[at]);
	add(*entry_of(WINDOW, 1) & (PTE_A | PTE_D));
	caught.vector = NONE;
	add((uint64_t)(int64_t)TRY("movq $1, (%0)", : "r"(&window[at])));
	add(caught.frame.error + caught.cr2);
	map(WINDOW, (uint64_t)page_b, flags, 1);
	window[at] += 3;
	add(page_b[at] + (*entry_of(WINDOW, 1) & (PTE_A | PTE_D)));
	*entry_of(WINDOW, 1) = 0;
	invlpg(WINDOW);
	add((uint64_t)(int64_t)TRY("movq (%1), %0", "=r"(low) : "r"(&window[at])));
	add(caught.frame.error + caught.cr2);
	WRITE_CR(3, READ_CR(3));
	add((uint64_t)(int64_t)TRY("ud2", :));
	add((uint64_t)(int64_t)TRY("div %2", "=a"(low), "=d"(high) : "r"(0), "a"(1), "d"(0)));
}

/* --- ring 3, gates, system calls --- */

static volatile uint64_t gate_calls __attribute__((used)), syscalls __attribute__((used));

static NAKED void gate_target(void)
{
	asm("lock incq gate_calls(%rip); lea 5(%rdi,%rdi,2), %rax; lretq");
}

static NAKED void syscall_target(void)
{
	asm("incq syscalls(%rip); mov %rdi, %rax; not %rax; sysretq");
}

static struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) gate_pointer __attribute__((used, aligned(8))) = { 0, GATE_SEL | 3 };

static NAKED void in_ring3(void *argument)
{
	asm("mov $20, %r8d\n"
	    "1: lcall *gate_pointer(%rip)\n"
	    "mov %rax, %rdi\n"
	    "syscall\n"
	    "lea 1(%rax,%r8), %rdi\n"
	    "push %rdi; pop %rax\n"
	    "dec %r8d; jnz 1b\n"
	    "ret");
}

static void rings(void)
{
	int vector = user(in_ring3, any() & 0xffffff);

	add((uint64_t)(int64_t)vector);
	add(caught.frame.rax + gate_calls + syscalls);
	vector = user_flags(in_ring3, 7, FLAG_IF);
	add((uint64_t)(int64_t)vector + caught.frame.rax);
}

static void rings_begin(void)
{
	uint64_t target = (uint64_t)gate_target;

	/* A 64-bit call gate, SDM 3A figure 5-8: DPL 3, to ring 0. */
	gdt[GATE_SEL / 8] = (target & 0xffff) | (uint64_t)KCS << 16 | 0xecULL << 40 | (target >> 16 & 0xffff) << 48;
	gdt[GATE_SEL / 8 + 1] = target >> 32;
	wrmsr(0xc0000081, (uint64_t)KCS << 32 | (uint64_t)UCS32 << 48);
	wrmsr(0xc0000082, (uint64_t)syscall_target);
	wrmsr(0xc0000084, FLAG_IF | FLAG_TF);
}

/* --- single steps --- */

static unsigned stepped;
static uint64_t steps_sum;
static volatile uint64_t watched __attribute__((used));

static uint64_t ticks_seen;

static bool on_trap(struct frame *f)
{
	if (f->vector == V_TICK) {
		ticks++;
		apic_write(APIC_EOI, 0);
		return true;
	}
	if (f->vector != DB || try_at)
		return false;
	stepped++;
	steps_sum += f->rax;
	return true;
}

static void steps(void)
{
	try_at = 0;
	asm volatile("xor %%eax, %%eax; pushfq; orq $0x100, (%%rsp); popfq\n"
		     "mov $5, %%eax; 1: add $3, %%rax; push %%rax; pop %%rcx; dec %%eax; cmp $20, %%eax; jb 1b\n"
		     "pushfq; andq $~0x100, (%%rsp); popfq"
		     : : : "rax", "rcx", "memory", "cc");
	add(stepped + steps_sum);
	/* And a breakpoint on data, of 8 bytes, for writing. */
	WRITE_DR(0, &watched);
	WRITE_DR(7, 0x400 | 0x1 | 0x90000);
	asm volatile("xor %%eax, %%eax; incq watched(%%rip); movb $3, watched+5(%%rip); mov watched(%%rip), %%rcx" : : : "rax", "rcx", "memory", "cc");
	WRITE_DR(7, 0x400);
	add(stepped + steps_sum + watched);
}

/* --- bases of FS and GS --- */

static void bases(void)
{
	uint64_t value;

	wrmsr(0xc0000100, (uint64_t)from);
	wrmsr(0xc0000101, (uint64_t)to);
	wrmsr(0xc0000102, (uint64_t)from + 64);
	asm volatile("mov %%fs:8, %0; swapgs; add %%gs:8, %0; swapgs; add %0, %%gs:16; xor %%gs:16, %0" : "=&r"(value) : : "memory", "cc");
	add(value);
}

/* --- code that changes --- */

static uint8_t *code;

static uint32_t call_code(void)
{
	uint32_t value;
	asm volatile("call *%1" : "=a"(value) : "r"(code) : "memory", "cc");
	return value;
}

static void rewriting(void)
{
	for (unsigned n = 0; n < 12; n++) {
		uint32_t value = (uint32_t)any();
		unsigned room = any() % 8;
		memset(code, 0x90, room);
		code[room] = 0xb8; /* mov eax, imm32; ret */
		memcpy(code + room + 1, &value, 4);
		code[room + 5] = 0xc3;
		add(call_code());
		code[room + 2] ^= 0x55;
		add(call_code());
	}
}

/* --- interrupts --- */

static void interrupts_begin(void)
{
	apic_enable();
	trap_handler = on_trap;
	apic_write(APIC_DIVIDE, 0xb);
	apic_write(APIC_TIMER, LVT_PERIODIC | V_TICK);
	apic_write(APIC_INITIAL, 200000);
}

static void interrupts(void)
{
	uint64_t before = ticks, value = any(), copy = value, loops = 0;

	/* Everything must be as it was around interrupts that come anywhere. */
	asm volatile("sti");
	for (unsigned n = 0; n < 200; n++)
		asm volatile("rol $1, %0; xor $0x55, %0; xor $0x55, %0; ror $1, %0; inc %1" : "+r"(copy), "+r"(loops) : : "cc");
	asm volatile("cli");
	add(value ^ copy ^ loops);
	asm volatile("sti; hlt; cli" : : : "memory");
	ticks_seen += ticks > before;
	add(ticks > before); /* HLT ends by nothing else */
}

extern uint64_t boot_info;

/* PVH: cmdline_paddr of struct hvm_start_info. */
static bool word_plain(void)
{
	const char *words = *(const char **)(boot_info + 24);
	return words && !memcmp(words, "plain", 5);
}

int main(void)
{
	bool plain = word_plain();

	page_a = page_alloc();
	page_b = page_alloc();
	code = page_alloc();
	rings_begin();
	floating_begin();
	interrupts_begin();
	for (unsigned round = 0; round < ROUNDS; round++) {
		integers();
		floating();
		strings();
		pages();
		floating();
		if (!plain) {
			rings();
			steps();
		}
		bases();
		rewriting();
		if (round % 8 == 0)
			interrupts();
		floating_sum();
		asm volatile("outl %0, %w1" : : "a"(round), "d"(PROGRESS_PORT));
	}
	apic_write(APIC_INITIAL, 0);
	check(ticks_seen == (ROUNDS + 7) / 8, "each HLT ended by the timer");
	check(plain || (gate_calls == 40 * ROUNDS && syscalls == 40 * ROUNDS), "all calls through the gate and SYSCALL came");
	check_equal(sum, plain ? SUM_PLAIN : SUM, "the sum of all results");
	return 0;
}
