/* SPDX-License-Identifier: MIT */
/* When interrupts and debug traps come: the shadows of STI and MOV SS, NMI blocking, HLT, single step over what changes TF, and the sources
 * of interrupts: self IPI, APIC timer, TSC deadline, PIT through the PIC. SDM 3A 6.8, 6.7.1, 10; 3B 17.3.1.4 */
#include "lib/apic.h"

enum { IPI = 0xa0, IPI_LOW = 0x60, TIMER = 0xb0, PIC_VECTOR = 0x30 };

static struct {
	uint64_t rip;
	int vector;
} log[16];
static unsigned logged;
static bool keep_in_service; /* no EOI */

static bool note(struct frame *f)
{
	if (f->vector < 32 && f->vector != DB)
		return false;
	if (logged < ARRAY_SIZE(log)) {
		log[logged].rip = f->rip;
		log[logged].vector = (int)f->vector;
	}
	logged++;
	if (f->vector >= PIC_VECTOR && f->vector < PIC_VECTOR + 8)
		outb(0x20, 0x20);
	else if (f->vector >= 32 && !keep_in_service)
		apic_write(APIC_EOI, 0);
	return true;
}

static void begin(void)
{
	logged = 0;
	trap_handler = note;
}

/* Exactly one event, at this RIP. */
static void check_one(int vector, const void *rip, const char *name)
{
	trap_handler = NULL;
	check(logged == 1, join(name, ": once"));
	check_vector(logged ? log[0].vector : NONE, vector, join(name, ": vector"));
	check_equal(log[0].rip, (uint64_t)rip, name);
}

extern uint8_t sti_1[], sti_2[], sti_hlt[], popf_1[], iret_1[], sti_ss_1[], sti_ss_2[];

static void test_sti(void)
{
	apic_self(IPI);
	begin();
	asm volatile("sti; nop; sti_1: nop; sti_2: nop; cli" : : : "memory");
	check_one(IPI, sti_1, "STI holds a pending interrupt off for one instruction");
	apic_self(IPI);
	begin();
	asm volatile("sti; cli; nop; nop" : : : "memory");
	check_equal(logged, 0, "STI then CLI lets no interrupt in");
	asm volatile("sti; hlt; sti_hlt: cli" : : : "memory");
	check_one(IPI, sti_hlt, "STI then HLT with a pending interrupt: it comes behind HLT");
	apic_self(IPI);
	begin();
	asm volatile("pushfq; orl $0x200, (%%rsp); popfq; popf_1: cli" : : : "memory", "cc");
	check_one(IPI, popf_1, "POPF that sets IF holds nothing off");
	apic_self(IPI);
	begin();
	asm volatile("mov %%rsp, %%rax; push %0; push %%rax; pushfq; orl $0x200, (%%rsp); push %1; lea iret_1(%%rip), %%rax; push %%rax; iretq\n"
		     "iret_1: cli"
		     : : "r"((uint64_t)KDS), "r"((uint64_t)KCS) : "rax", "memory", "cc");
	check_one(IPI, iret_1, "IRET that sets IF holds nothing off");
	apic_self(IPI);
	begin();
	asm volatile("sti; mov %0, %%ss; sti_ss_1: nop; sti_ss_2: cli" : : "r"(KDS) : "memory");
	trap_handler = NULL;
	check(logged == 1 && (log[0].rip == (uint64_t)sti_ss_1 || log[0].rip == (uint64_t)sti_ss_2), "STI then MOV SS");
}

extern uint8_t ss_1[], ss_2[], ss_3[], pop_1[], data_1[], data_2[];
static uint32_t selector_in_memory = KDS;

#define SET_TF "pushfq; orl $0x100, (%%rsp); popfq\n"
#define CLEAR_TF "pushfq; andl $~0x100, (%%rsp); popfq\n"

static void test_mov_ss(void)
{
	begin();
	asm volatile(SET_TF "mov %0, %%ss; ss_1: nop; ss_2: nop; ss_3:" CLEAR_TF : : "r"(KDS) : "memory", "cc");
	trap_handler = NULL;
	check_equal(log[0].rip, (uint64_t)ss_2, "single step: MOV SS holds its trap off for one instruction");
	check_equal(log[1].rip, (uint64_t)ss_3, "single step goes on after MOV SS");
	WRITE_DR(6, 0);
	WRITE_DR(0, (uint64_t)&selector_in_memory);
	WRITE_DR(7, 0x400 | 1 | 3 << 16 | 3 << 18);
	begin();
	asm volatile("mov %0, %%ss; data_1: nop; data_2: nop" : : "m"(selector_in_memory) : "memory");
	WRITE_DR(7, 0x400);
	check_one(DB, data_2, "data breakpoint of MOV SS comes one instruction later");
}

/* --- NMI --- */

static unsigned depth, deepest, nmis, again;
static bool inner_trap;

static bool nmi_handler(struct frame *f)
{
	if (f->vector == BP)
		return true;
	if (f->vector != NMI)
		return false;
	nmis++;
	if (++depth > deepest)
		deepest = depth;
	if (again) {
		again--;
		apic_self_nmi();
		for (unsigned n = 0; n < 100; n++)
			asm volatile("pause");
		if (inner_trap) { /* on another stack: the second NMI begins on the same IST */
			tss.ist[IST_NMI - 1] -= 8192;
			asm volatile("int3");
			for (unsigned n = 0; n < 100; n++)
				asm volatile("pause");
			tss.ist[IST_NMI - 1] += 8192;
		}
	}
	depth--;
	return true;
}

extern uint8_t nmi_hlt[];

static void test_nmi(void)
{
	trap_handler = nmi_handler;
	nmis = deepest = again = 0;
	apic_self_nmi();
	for (unsigned n = 0; n < 100; n++)
		asm volatile("pause");
	check_equal(nmis, 1, "an NMI comes with IF clear");
	check_equal(caught.frame_at, tss.ist[IST_NMI - 1] - 48, "an NMI comes on its IST");
	nmis = deepest = 0;
	again = 2;
	apic_self_nmi();
	for (unsigned n = 0; n < 100; n++)
		asm volatile("pause");
	check(nmis == 3 && deepest == 1, "an NMI waits for the IRET of the one before");
	nmis = deepest = 0;
	again = 1;
	inner_trap = true;
	apic_self_nmi();
	for (unsigned n = 0; n < 100; n++)
		asm volatile("pause");
	inner_trap = false;
	check(nmis == 2 && deepest == 2, "the IRET of an exception inside ends the blocking");
	trap_handler = NULL;
}

/* --- HLT and timers --- */

static void wait_for(unsigned count)
{
	while (logged < count)
		asm volatile("sti; hlt; cli" : : : "memory");
}

static void test_timers(void)
{
	apic_write(APIC_DIVIDE, 0xb); /* by 1 */
	apic_write(APIC_TIMER, TIMER);
	begin();
	apic_write(APIC_INITIAL, 100000);
	wait_for(1);
	check_vector(log[0].vector, TIMER, "APIC timer, once, wakes HLT");
	check_equal(apic_read(APIC_CURRENT), 0, "APIC timer, once, stays at zero");
	apic_write(APIC_TIMER, TIMER | LVT_PERIODIC);
	begin();
	apic_write(APIC_INITIAL, 100000);
	wait_for(3);
	apic_write(APIC_INITIAL, 0);
	asm volatile("sti; nop; nop; cli" : : : "memory"); /* one more may have come meanwhile */
	check(logged >= 3, "APIC timer, periodic");
	apic_write(APIC_TIMER, TIMER | LVT_MASKED);
	begin();
	apic_write(APIC_INITIAL, 1000);
	while (apic_read(APIC_CURRENT))
		asm volatile("pause");
	asm volatile("sti; nop; nop; cli" : : : "memory");
	check_equal(logged, 0, "APIC timer, masked");

	if (!HAS_1_ECX(24)) {
		skip("TSC deadline", "CPUID does not offer it");
		return;
	}
	apic_write(APIC_TIMER, TIMER | LVT_DEADLINE);
	begin();
	uint64_t deadline = rdtsc() + 1000000;
	wrmsr(0x6e0, deadline);
	wait_for(1);
	check(rdtsc() >= deadline, "TSC deadline does not come early");
	check_equal(rdmsr(0x6e0), 0, "TSC deadline is cleared when it came");
	begin();
	wrmsr(0x6e0, 1);
	wait_for(1);
	check_vector(log[0].vector, TIMER, "TSC deadline in the past comes at once");
	begin();
	wrmsr(0x6e0, rdtsc() + 3000000);
	wrmsr(0x6e0, 0);
	deadline = rdtsc() + 6000000;
	while (rdtsc() < deadline)
		asm volatile("sti; pause; cli" : : : "memory");
	check_equal(logged, 0, "TSC deadline taken back");
	apic_write(APIC_TIMER, TIMER | LVT_MASKED);
	trap_handler = NULL;
}

static void test_priority(void)
{
	begin();
	apic_self(IPI_LOW);
	apic_self(IPI);
	asm volatile("sti; nop; nop; nop; cli" : : : "memory");
	check(logged == 2 && log[0].vector == IPI && log[1].vector == IPI_LOW, "the higher vector comes first");
	begin();
	keep_in_service = true;
	apic_self(IPI);
	asm volatile("sti; nop; cli" : : : "memory");
	apic_self(IPI_LOW);
	asm volatile("sti; nop; nop; cli" : : : "memory");
	check_equal(logged, 1, "a lower vector waits for EOI");
	check(apic_read(APIC_ISR + IPI / 32 * 16) >> IPI % 32 & 1, "ISR shows what is in service");
	keep_in_service = false;
	apic_write(APIC_EOI, 0);
	asm volatile("sti; nop; nop; cli" : : : "memory");
	check(logged == 2 && log[1].vector == IPI_LOW, "EOI lets the lower vector in");
	begin();
	WRITE_CR(8, IPI >> 4);
	check_equal(apic_read(APIC_TPR), IPI & 0xf0, "CR8 is the upper half of TPR");
	apic_self(IPI);
	asm volatile("sti; nop; nop; cli" : : : "memory");
	check_equal(logged, 0, "TPR holds its class off");
	asm volatile("sti; nop" : : : "memory");
	WRITE_CR(8, 0);
	asm volatile("nop; cli" : : : "memory");
	check_equal(logged, 1, "CR8 lowered lets it in");
	apic_write(APIC_TPR, 0x20);
	check_equal(READ_CR(8), 2, "TPR is seen in CR8");
	apic_write(APIC_TPR, 0);
	trap_handler = NULL;
}

static void test_pit(void)
{
	apic_write(APIC_LINT0, LVT_EXTINT);
	outb(0x20, 0x11), outb(0x21, PIC_VECTOR), outb(0x21, 4), outb(0x21, 1);
	outb(0xa0, 0x11), outb(0xa1, PIC_VECTOR + 8), outb(0xa1, 2), outb(0xa1, 1);
	outb(0xa1, 0xff), outb(0x21, 0xfe);
	outb(0x43, 0x34), outb(0x40, 2386 & 0xff), outb(0x40, 2386 >> 8); /* 500 Hz */
	begin();
	wait_for(3);
	outb(0x21, 0xff);
	trap_handler = NULL;
	check(log[0].vector == PIC_VECTOR && log[2].vector == PIC_VECTOR, "PIT ticks come through the PIC");
	begin();
	for (unsigned n = 0; n < 1000; n++)
		asm volatile("sti; pause; cli" : : : "memory");
	check_equal(logged, 0, "the PIC's mask holds IRQ 0 off");
	trap_handler = NULL;
}

/* --- single step --- */

extern uint8_t rep_1[], rep_2[], int_1[], iret_tf_1[], iret_tf_2[], fault_1[];

static bool note_debug(struct frame *f)
{
	if (f->vector == DB || f->vector == 0x95) {
		log[logged % ARRAY_SIZE(log)].rip = f->rip;
		log[logged++ % ARRAY_SIZE(log)].vector = (int)f->vector;
		return true;
	}
	if (f->vector == UD) {
		f->rip += 2;
		log[logged % ARRAY_SIZE(log)].rip = f->rip;
		log[logged++ % ARRAY_SIZE(log)].vector = UD;
		return true;
	}
	return false;
}

static void test_single_step(void)
{
	static uint8_t room[4];
	logged = 0;
	trap_handler = note_debug;
	asm volatile("lea %0, %%rdi; mov $3, %%ecx\n" SET_TF "rep_1: rep stosb; rep_2:" CLEAR_TF : "=m"(room) : : "rdi", "rcx", "memory", "cc");
	trap_handler = NULL;
	check(log[0].rip == (uint64_t)rep_1 && log[1].rip == (uint64_t)rep_1 && log[2].rip == (uint64_t)rep_2,
	      "single step traps behind each iteration of REP");
	logged = 0;
	trap_handler = note_debug;
	asm volatile(SET_TF "int $0x95; int_1: nop\n" CLEAR_TF : : : "memory", "cc");
	trap_handler = NULL;
	check(log[0].vector == 0x95 && log[0].rip == (uint64_t)int_1, "INT n with TF: its handler is not stepped");
	check(log[1].vector == DB && log[1].rip == (uint64_t)int_1 + 1, "INT n with TF: the next trap is behind the instruction after the return");
	logged = 0;
	trap_handler = note_debug;
	asm volatile("mov %%rsp, %%rax; push %0; push %%rax; pushfq; orl $0x100, (%%rsp); push %1; lea iret_tf_1(%%rip), %%rax; push %%rax; iretq\n"
		     "iret_tf_1: nop; iret_tf_2: nop\n" CLEAR_TF
		     : : "r"((uint64_t)KDS), "r"((uint64_t)KCS) : "rax", "memory", "cc");
	trap_handler = NULL;
	check_equal(log[0].rip, (uint64_t)iret_tf_2, "IRET that sets TF: the first trap is behind the next instruction");
	logged = 0;
	trap_handler = note_debug;
	asm volatile(SET_TF "ud2; fault_1: nop\n" CLEAR_TF : : : "memory", "cc");
	trap_handler = NULL;
	check(log[0].vector == UD && log[1].vector == DB && log[1].rip == (uint64_t)fault_1 + 1, "a fault is not a step");
}

int main(void)
{
	apic_enable();
	outb(0x21, 0xff), outb(0xa1, 0xff);
	test_sti();
	test_mov_ss();
	test_nmi();
	test_priority();
	test_timers();
	test_pit();
	test_single_step();
	return 0;
}
