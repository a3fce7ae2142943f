/* SPDX-License-Identifier: MIT */
/* Protection in 32-bit protected mode: far transfers, call gates of 16 and 32 bits, interrupt and trap gates, conforming code, IRET to outer
 * rings, limits and types of segments, accessed bits, LAR/LSL/VERR/VERW/ARPL, the I/O permission bitmap, SYSENTER. SDM 3A chapters 3, 5,
 * 6; volume 1 chapter 19 */
#include "legacy/lib/legacy.h"

enum { CODE16 = FREE_SEL, DATA = FREE_SEL + 8, CONFORMING = FREE_SEL + 16, GATE = FREE_SEL + 24, CS1 = FREE_SEL + 32, SS1 = FREE_SEL + 40,
       ODD = FREE_SEL + 48, CODE32 = FREE_SEL + 56 };
enum { VECTOR = 0x90, STOP = 0x91 };

uint32_t seen[16];
struct {
	uint32_t offset;
	uint16_t selector;
} __attribute__((packed)) far;

/* What runs behind gates leaves its stack here, and returns, or stops. */
extern uint8_t far32[], far16[], gate_look[], gate_stop[], int16_stop[], conforming[], conforming_int[], ring1[], look_flags[];
asm(".pushsection .text\n"
    "far32: mov $0x77, %eax; lret\n"
    ".balign 16\n"
    "far16: .code16\n mov $0x10000, %ebx; mov $0x1234, %bx; lea 1(%bx), %eax; data32 lret\n.code32\n"
    "gate_look: mov (%esp), %eax; mov %eax, seen; mov 4(%esp), %eax; mov %eax, seen+4; mov 8(%esp), %eax; mov %eax, seen+8\n"
    "  mov 12(%esp), %eax; mov %eax, seen+12; mov 16(%esp), %eax; mov %eax, seen+16; mov 20(%esp), %eax; mov %eax, seen+20\n"
    "  mov %cs, %eax; mov %eax, seen+24; mov %ss, %eax; mov %eax, seen+28; mov %esp, seen+32; lret $8\n"
    ".balign 16\n"
    "gate_stop: int $0x91\n"
    "conforming: mov %cs, %eax; mov %esp, %ecx; lret\n"
    "conforming_int: mov %cs, %eax; mov (%esp), %ecx; iret\n"
    "look_flags: pushf; pop %eax; iret\n"
    "ring1: mov %cs, %eax; int $0x91\n"
    ".popsection");

static NAKED void u_gate(void)
{
	asm("mov %esp, %ebx; push $0x11; push $0x22; lcall *far; u_gate_back: mov %esp, %edx; sub %ebx, %edx; mov %cs, %ecx; mov %ds, %esi; mov %ebx, %esp; ret");
}
static NAKED void u_far(void)
{
	asm("mov %esp, %ebx; lcall *far; u_far_back: mov %ebx, %esp; ret");
}
static NAKED void u_jump(void)
{
	asm("ljmp *far");
}
extern uint8_t u_gate_back[];

static void set_far(uint16_t selector, uint32_t offset)
{
	far.selector = selector;
	far.offset = offset;
}

/* SDM 2A CALL, JMP, "far calls in protected mode" */
static void test_far(void)
{
	uint32_t value, esp[2];
	set_far(KCS, (uint32_t)far32);
	asm volatile("mov %%esp, %1; lcall *far; mov %%esp, %2" : "=&a"(value), "=m"(esp[0]), "=m"(esp[1]) : : "memory");
	check(value == 0x77 && esp[0] == esp[1], "far CALL and RET of 32 bits");
	gdt[CODE16 / 8] = descriptor((uint32_t)far16, 0xff, 0x9b, 0);
	set_far(CODE16, 0);
	asm volatile("lcall *far" : "=a"(value) : : "ebx", "memory");
	check_equal(value, 0x1235, "far CALL into a 16-bit segment: its addresses have 16 bits");
	set_far(CODE16, 0x100);
	TRY("lcall *far", :);
	check_caught(GP, 0, try_at, "#GP far CALL beyond the limit");
	set_far(0, 0);
	TRY("ljmp *far", :);
	check_caught(GP, 0, try_at, "#GP far JMP to a null selector");
	set_far(KDS, 0);
	TRY("ljmp *far", :);
	check_caught(GP, KDS, try_at, "#GP far JMP to a data segment");
	set_far(UCS, (uint32_t)far32);
	TRY("ljmp *far", :);
	check_caught(GP, UCS & ~3, try_at, "#GP far JMP outward");
	set_far(KCS | 3, (uint32_t)far32);
	TRY("ljmp *far", :);
	check_caught(GP, KCS, try_at, "#GP far JMP with RPL above CPL");
	set_far(GDT_ENTRIES * 8, 0);
	TRY("ljmp *far", :);
	check_caught(GP, GDT_ENTRIES * 8, try_at, "#GP far JMP to a selector behind the GDT");
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x1b, 0xc);
	set_far(ODD, (uint32_t)far32);
	TRY("ljmp *far", :);
	check_caught(NP, ODD, try_at, "#NP far JMP to a segment that is not present");
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x9a, 0xc);
	set_far(ODD, (uint32_t)far32);
	asm volatile("lcall *far" : "=a"(value) : : "memory");
	check(gdt[ODD / 8] >> 40 & 1, "a far CALL sets the accessed bit of the code segment");
	gdt[CONFORMING / 8] = descriptor(0, 0xfffff, 0x9f, 0xc);
	set_far(CONFORMING, (uint32_t)conforming);
	user(u_far, 0);
	check_caught(NONE, 0, 0, "far CALL from ring 3 to a conforming segment of DPL 0, and back");
	check_equal(caught.frame.eax & 0xffff, CONFORMING | 3, "conforming code runs with the caller's CPL");
	set_far(KCS, (uint32_t)far32);
	user(u_far, 0);
	check(caught.vector == GP && caught.frame.error == KCS, "#GP far CALL from ring 3 to ring 0 code");
}

/* SDM 3A 5.8.3 to 5.8.6 */
static void test_call_gates(void)
{
	gdt[GATE / 8] = gate(KCS, (uint32_t)gate_look, 0xec, 2);
	set_far(GATE | 3, 0xdead); /* the offset does not count */
	memset(seen, 0, sizeof(seen));
	user(u_gate, 0);
	check_caught(NONE, 0, 0, "a 32-bit call gate from ring 3 and back");
	check(seen[0] == (uint32_t)u_gate_back && seen[1] == UCS, "call gate: return address");
	check(seen[2] == 0x22 && seen[3] == 0x11, "call gate: two parameters are copied");
	check(seen[4] == caught.frame.ebx - 8 && seen[5] == UDS, "call gate: the caller's stack");
	check(seen[6] == KCS && seen[7] == KDS && seen[8] == tss.esp0 - 24, "call gate: the stack is that of the TSS");
	check(caught.frame.edx == 0 && caught.frame.ecx == UCS, "RET n to ring 3 releases the parameters on both stacks");
	check_equal(caught.frame.esi & 0xffff, UDS, "RET to ring 3 keeps a DS of DPL 3");

	gdt[CODE32 / 8] = descriptor((uint32_t)gate_stop, 0xffff, 0x9b, 4);
	gdt[GATE / 8] = gate(CODE32, 0, 0xe4, 1);
	user(u_gate, 0);
	const uint16_t *words = (const uint16_t *)(tss.esp0 - 10);
	check(caught.vector == STOP && caught.frame_at == tss.esp0 - 10 - 16, "a 16-bit call gate pushes words");
	check(words[0] == (uint16_t)(uint32_t)u_gate_back && words[1] == UCS && words[2] == 0x22 && words[4] == UDS, "16-bit call gate: IP, CS, a parameter, SP, SS");

	gdt[GATE / 8] = gate(KCS, (uint32_t)gate_look, 0x8c, 0);
	user(u_far, 0);
	check(caught.vector == GP && caught.frame.error == GATE, "#GP call gate with DPL 0 from ring 3");
	gdt[GATE / 8] = gate(KCS, (uint32_t)gate_look, 0x6c, 0);
	user(u_far, 0);
	check(caught.vector == NP && caught.frame.error == GATE, "#NP call gate that is not present");
	gdt[GATE / 8] = gate(0, (uint32_t)gate_look, 0xec, 0);
	user(u_far, 0);
	check(caught.vector == GP && caught.frame.error == 0, "#GP call gate to a null selector");
	gdt[GATE / 8] = gate(KDS, (uint32_t)gate_look, 0xec, 0);
	user(u_far, 0);
	check(caught.vector == GP && caught.frame.error == KDS, "#GP call gate to a data segment");
	gdt[GATE / 8] = gate(KCS, (uint32_t)gate_look, 0xec, 0);
	user(u_jump, 0);
	check(caught.vector == GP && caught.frame.error == KCS, "#GP JMP through a call gate to an inner ring");
	gdt[GATE / 8] = gate(KCS, (uint32_t)far32, 0x8c, 0);
	set_far(GATE, 0);
	uint32_t value;
	asm volatile("lcall *far" : "=a"(value) : : "memory");
	check_equal(value, 0x77, "a call gate within ring 0 pushes no stack");

	/* To ring 1, whose stack may be bad while ring 0's is good. SDM 3A 5.8.5, 6.13 */
	gdt[CS1 / 8] = descriptor(0, 0xfffff, 0xbb, 0xc);
	gdt[SS1 / 8] = descriptor(0, 0xfffff, 0xb3, 0xc);
	gdt[GATE / 8] = gate(CS1, (uint32_t)ring1, 0xec, 0);
	set_far(GATE | 3, 0);
	tss.ss1 = SS1 | 1;
	tss.esp1 = (uint32_t)test_stack + 4096;
	idt[STOP] = gate(KCS, trap_stub(STOP), GATE_INTERRUPT | GATE_DPL3, 0);
	user(u_far, 0);
	check(caught.vector == STOP && caught.frame.cs == (CS1 | 1) && caught.frame.ss == (SS1 | 1) && caught.frame.esp == tss.esp1 - 16, "a call gate to ring 1");
	tss.ss1 = 0;
	user(u_far, 0);
	check(caught.vector == TS && caught.frame.error == 0, "#TS null SS in the TSS");
	tss.ss1 = SS1;
	user(u_far, 0);
	check(caught.vector == TS && caught.frame.error == SS1, "#TS SS in the TSS with another RPL");
	tss.ss1 = CS1 | 1;
	user(u_far, 0);
	check(caught.vector == TS && caught.frame.error == CS1, "#TS SS in the TSS is a code segment");
	gdt[SS1 / 8] = descriptor(0, 0xfffff, 0x33, 0xc);
	tss.ss1 = SS1 | 1;
	user(u_far, 0);
	check(caught.vector == SS && caught.frame.error == SS1, "#SS the stack segment in the TSS is not present");
	gdt[SS1 / 8] = descriptor(0, 7, 0xb3, 4);
	tss.esp1 = 8;
	user(u_far, 0);
	check(caught.vector == SS && caught.frame.error == SS1, "#SS the new stack has no room");
}

static NAKED void u_int(void)
{
	asm("int $0x90; u_int_end: ret");
}
static NAKED void u_conforming_int(void)
{
	asm("mov %esp, %ebx; int $0x90; u_cint_end: cmp %esp, %ebx; jne 1f; ret; 1: ud2");
}
extern uint8_t u_int_end[], u_cint_end[];

/* SDM 3A 6.12 */
static void test_interrupt_gates(void)
{
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), GATE_INTERRUPT | GATE_DPL3, 0);
	user_flags(u_int, 0, FLAG_IF);
	check_caught(VECTOR, 0, (uint32_t)u_int_end, "INT n from ring 3 through an interrupt gate");
	check(caught.frame.cs == UCS && caught.frame.ss == UDS && caught.frame.eflags == (FLAG_IF | 2) && caught.frame_at == tss.esp0 - 24, "the frame out of ring 3");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), GATE_INTERRUPT, 0);
	user(u_int, 0);
	check_caught(GP, VECTOR * 8 + 2, (uint32_t)u_int, "#GP INT n from ring 3 through a gate with DPL 0");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), 0x0e, 0);
	TRY("int $0x90", :);
	check_caught(NP, VECTOR * 8 + 2, try_at, "#NP INT n through a gate that is not present");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), 0x8c, 0);
	TRY("int $0x90", :);
	check_caught(GP, VECTOR * 8 + 2, try_at, "#GP a call gate in the IDT");
	idt[VECTOR] = gate(0, trap_stub(VECTOR), GATE_INTERRUPT, 0);
	TRY("int $0x90", :);
	check_caught(GP, 0, try_at, "#GP an interrupt gate to a null selector");
	idt[VECTOR] = gate(UCS, trap_stub(VECTOR), GATE_INTERRUPT, 0);
	TRY("int $0x90", :);
	check_caught(GP, UCS & ~3, try_at, "#GP an interrupt gate to an outer ring");
	gdt[CODE32 / 8] = descriptor((uint32_t)gate_stop, 0xffff, 0x9b, 4);
	idt[VECTOR] = gate(CODE32, 0, 0x86, 0);
	attempt(u_int, 0);
	const uint16_t *words = (const uint16_t *)(caught.frame_at + 16);
	check(caught.vector == STOP && words[0] == (uint16_t)(uint32_t)u_int_end && words[1] == KCS && (words[2] & 2), "a 16-bit interrupt gate pushes words");

	gdt[CONFORMING / 8] = descriptor(0, 0xfffff, 0x9f, 0xc);
	idt[VECTOR] = gate(CONFORMING, (uint32_t)conforming_int, GATE_INTERRUPT | GATE_DPL3, 0);
	user(u_conforming_int, 0);
	check_caught(NONE, 0, 0, "INT n from ring 3 to conforming code, and IRET");
	check((caught.frame.eax & 0xffff) == (CONFORMING | 3) && caught.frame.ecx == (uint32_t)u_cint_end, "it stays in ring 3, on its stack");

	const struct {
		uint16_t limit;
		void *base;
	} __attribute__((packed)) small = { VECTOR * 8 + 6, idt }, full = { sizeof(idt) - 1, idt };
	asm volatile("lidt %0" : : "m"(small));
	TRY("int $0x90", :);
	asm volatile("lidt %0" : : "m"(full));
	check_caught(GP, VECTOR * 8 + 2, try_at, "#GP INT n behind the IDT's limit");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), GATE_INTERRUPT, 0);

	/* Trap gates leave IF alone. SDM 3A 6.12.1.3 */
	uint32_t flags[2];
	for (unsigned n = 0; n < 2; n++) {
		idt[STOP] = gate(KCS, (uint32_t)look_flags, n ? GATE_TRAP : GATE_INTERRUPT, 0);
		outb(0x21, 0xff); /* no interrupts, please */
		outb(0xa1, 0xff);
		asm volatile("sti; nop; int $0x91; cli" : "=a"(flags[n]) : : "memory", "cc");
	}
	check(!(flags[0] & FLAG_IF) && (flags[1] & FLAG_IF), "an interrupt gate clears IF, a trap gate does not");
	idt[STOP] = gate(KCS, trap_stub(STOP), GATE_INTERRUPT | GATE_DPL3, 0);
}

/* --- IRET and far RET outward; SDM 2A IRET --- */

static NAKED void k_iret(void)
{
	asm("mov %eax, %esp; k_iret_at: iret");
}
static NAKED void k_look(void)
{
	asm("mov %ds, %eax; shl $16, %eax; mov %es, %ax; mov %fs, %ecx; int $0x91");
}
extern uint8_t k_iret_at[];

static void iret_to(uint32_t eip, uint32_t cs, uint32_t flags, uint32_t esp, uint32_t ss)
{
	static uint32_t room[512] __attribute__((aligned(16)));
	uint32_t *frame = room + 256;
	frame[0] = eip, frame[1] = cs, frame[2] = flags | 2, frame[3] = esp, frame[4] = ss;
	caught.vector = NONE;
	attempt(k_iret, (uint32_t)frame);
}

static void test_iret(void)
{
	uint32_t stack = (uint32_t)test_stack + 4096, look = (uint32_t)k_look;
	asm volatile("mov %0, %%ds; mov %1, %%es; mov %2, %%fs" : : "r"(KDS), "r"(UDS), "r"(KDS));
	iret_to(look, UCS, 0, stack, UDS);
	asm volatile("mov %0, %%ds; mov %0, %%es; mov %1, %%fs" : : "r"(KDS), "r"(0));
	check(caught.vector == STOP && caught.frame.cs == UCS && caught.frame.esp == stack, "IRET to ring 3");
	check(caught.frame.eax == UDS && !(caught.frame.ecx & 0xffff), "it makes data segments of inner rings null");
	iret_to(look, CS1 | 1, 0, stack, UDS);
	check_caught(GP, UDS & ~3, (uint32_t)k_iret_at, "#GP IRET to ring 1 with an SS of ring 3");
	gdt[SS1 / 8] = descriptor(0, 0xfffff, 0xb3, 0xc);
	iret_to(look, CS1 | 1, 3 * FLAG_IOPL, stack, SS1 | 1);
	check(caught.vector == STOP && caught.frame.cs == (CS1 | 1) && (caught.frame.eflags & 3 * FLAG_IOPL) == 3 * FLAG_IOPL, "IRET to ring 1, with IOPL 3");
	iret_to(look, 0, 0, stack, UDS);
	check_caught(GP, 0, (uint32_t)k_iret_at, "#GP IRET to a null CS");
	iret_to(look, UCS & ~3, 0, stack, UDS);
	check_caught(GP, UCS & ~3, (uint32_t)k_iret_at, "#GP IRET to a CS whose DPL is not its RPL");
	iret_to(look, UCS, 0, stack, 0);
	check_caught(GP, 0, (uint32_t)k_iret_at, "#GP IRET to ring 3 with a null SS");
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x73, 0xc);
	iret_to(look, UCS, 0, stack, ODD | 3);
	check_caught(SS, ODD, (uint32_t)k_iret_at, "#SS IRET to an SS that is not present");
	gdt[ODD / 8] = descriptor(0, 0x1000, 0xfb, 4);
	iret_to(0x1001, ODD | 3, 0, stack, UDS);
	check_caught(GP, 0, (uint32_t)k_iret_at, "#GP IRET beyond the limit of CS");
}

/* --- segments; SDM 3A 3.4.5.1, 5.3, 5.4, 5.5 --- */

static NAKED void k_read(void)
{
	asm("movb %fs:(%eax), %al; ret");
}
static NAKED void k_read4(void)
{
	asm("movl %fs:(%eax), %eax; ret");
}
static NAKED void k_write(void)
{
	asm("movb $0, %fs:(%eax); ret");
}
static NAKED void k_push16(void) /* with SS = DATA, SP = EAX */
{
	asm("mov %esp, %ebx; mov $0x38, %ecx; mov %ecx, %ss; mov %eax, %esp; push $0x1234; mov %esp, %eax; mov $0x10, %ecx; mov %ecx, %ss; mov %eax, seen; mov %ebx, %esp; ret");
}
static NAKED void k_beyond(void)
{
	asm("ljmp $0x60, $0"); /* ODD */
}

static int with_fs(uint64_t segment, void (*function)(void), uint32_t at)
{
	gdt[DATA / 8] = segment;
	asm volatile("mov %w0, %%fs" : : "r"(DATA));
	caught.vector = NONE;
	return attempt(function, at);
}

static void test_segments(void)
{
	uint32_t base = (uint32_t)test_stack;
	check_vector(with_fs(descriptor(base, 0xfff, 0x93, 4), k_read4, 0xffc), NONE, "the last bytes within a limit");
	check_vector(with_fs(descriptor(base, 0xfff, 0x93, 4), k_read4, 0xffd), GP, "#GP across a limit");
	check_vector(with_fs(descriptor(base, 0xfff, 0x93, 4), k_read4, 0xffffffff), GP, "#GP an offset that wraps");
	check_vector(with_fs(descriptor(base, 0, 0x93, 0xc), k_read, 0xfff), NONE, "a limit in pages: last byte");
	check_vector(with_fs(descriptor(base, 0, 0x93, 0xc), k_read, 0x1000), GP, "#GP beyond a limit in pages");
	check_vector(with_fs(descriptor(base, 0xfff, 0x97, 4), k_read, 0xfff), GP, "#GP expand down: at the limit");
	check_vector(with_fs(descriptor(base, 0xfff, 0x97, 4), k_read, 0x1000), NONE, "expand down: above the limit");
	check_vector(with_fs(descriptor(base, 0xfff, 0x97, 0), k_read4, 0xfffc), NONE, "expand down, 16 bits: up to FFFFh");
	check_vector(with_fs(descriptor(base, 0xfff, 0x97, 0), k_read4, 0xfffd), GP, "#GP expand down, 16 bits: beyond FFFFh");
	check_vector(with_fs(descriptor(base, 0xfff, 0x91, 4), k_write, 0), GP, "#GP a write to a read-only segment");
	check_vector(with_fs(descriptor(base, 0xfff, 0x9b, 4), k_read, 0), NONE, "a read of a readable code segment");
	check_vector(with_fs(descriptor(base, 0xfff, 0x9b, 4), k_write, 0), GP, "#GP a write to a code segment");
	asm volatile("mov %w0, %%fs" : : "r"(0));
	check_vector(attempt(k_read, 0), GP, "#GP through a null selector");
	TRY("movb $0, %%cs:seen", :);
	check_caught(GP, 0, try_at, "#GP a write through CS");
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x99, 0xc);
	TRY("mov %w0, %%fs", : "r"(ODD));
	check_caught(GP, ODD, try_at, "#GP an execute-only segment in FS");
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x13, 0xc);
	TRY("mov %w0, %%fs", : "r"(ODD));
	check_caught(NP, ODD, try_at, "#NP a data segment that is not present");
	TRY("mov %w0, %%ss", : "r"(ODD));
	check_caught(SS, ODD, try_at, "#SS a stack segment that is not present");
	TRY("mov %w0, %%ss", : "r"(0));
	check_caught(GP, 0, try_at, "#GP a null SS");
	TRY("mov %w0, %%ss", : "r"(UDS));
	check_caught(GP, UDS & ~3, try_at, "#GP an SS of ring 3");
	TRY("mov %w0, %%fs", : "r"(TSS_SEL));
	check_caught(GP, TSS_SEL, try_at, "#GP a TSS in FS");
	gdt[ODD / 8] = descriptor(0, 0xfffff, 0x92, 0xc);
	asm volatile("mov %w0, %%fs" : : "r"(ODD) : "memory");
	check(gdt[ODD / 8] >> 40 & 1, "loading a data segment sets its accessed bit");

	/* Stacks of 16 bits wrap within 64 KiB, stacks that expand down have a floor. SDM 3A 3.4.5, 5.3.1; DATA is 38h here */
	gdt[DATA / 8] = descriptor(base, 0xffff, 0x93, 0);
	*(uint16_t *)(base + 0x10) = 0;
	attempt(k_push16, 0xabcd0012);
	check(caught.vector == NONE && *(uint32_t *)(base + 0xe) == 0x1234 && seen[0] == 0xabcd000e, "PUSH on a 16-bit stack: SP only");
	gdt[DATA / 8] = descriptor(base, 0xfff, 0x97, 4);
	attempt(k_push16, 0x1004);
	check_vector(caught.vector, NONE, "PUSH on a stack that expands down: above the limit");
	gdt[ODD / 8] = descriptor((uint32_t)far32, 0, 0x9b, 4); /* its first instruction is longer than the segment */
	attempt(k_beyond, 0);
	check(caught.vector == GP && caught.frame.error == 0 && caught.frame.eip == 0 && caught.frame.cs == ODD, "#GP an instruction across the limit of CS");
}

static void test_table_instructions(void)
{
	uint32_t value;
	bool zf;
	gdt[ODD / 8] = descriptor(0x1234, 0x56789, 0xf2, 0xd);
	asm volatile("lar %2, %0; setz %1" : "=r"(value), "=q"(zf) : "r"(ODD) : "cc");
	check(zf && (value & ~0xf0000u) == 0x00d0f200, "LAR: rights");
	asm volatile("lsl %2, %0; setz %1" : "=r"(value), "=q"(zf) : "r"(ODD) : "cc");
	check(zf && value == 0x56789fff, "LSL: the limit in bytes");
	asm volatile("lar %2, %0; setz %1" : "=r"(value), "=q"(zf) : "r"(TSS_SEL) : "cc");
	check(zf && (value & 0xff00) == 0x8b00, "LAR of the busy TSS");
	gdt[ODD / 8] = gate(KCS, 0, 0x8e, 0);
	asm volatile("lar %2, %0; setz %1" : "=r"(value), "=q"(zf) : "r"(ODD) : "cc");
	check(!zf, "LAR of an interrupt gate");
	gdt[ODD / 8] = gate(KCS, 0, 0x8c, 0);
	asm volatile("lar %2, %0; setz %1" : "=r"(value), "=q"(zf) : "r"(ODD) : "cc");
	check(zf, "LAR of a call gate");
	asm volatile("lsl %2, %0; setz %1" : "=r"(value), "=q"(zf) : "r"(ODD) : "cc");
	check(!zf, "LSL of a call gate");
	asm volatile("verr %w1; setz %0" : "=q"(zf) : "r"(KCS) : "cc");
	check(zf, "VERR of a readable code segment");
	asm volatile("verw %w1; setz %0" : "=q"(zf) : "r"(KCS) : "cc");
	check(!zf, "VERW of a code segment");
	asm volatile("verw %w1; setz %0" : "=q"(zf) : "r"(KDS | 3) : "cc");
	check(!zf, "VERW with an RPL above the DPL");
	asm volatile("verr %w1; setz %0" : "=q"(zf) : "r"(0) : "cc");
	check(!zf, "VERR of a null selector");
	value = 0x10;
	asm volatile("arpl %w2, %w0; setz %1" : "+r"(value), "=q"(zf) : "r"(3) : "cc");
	check(zf && value == 0x13, "ARPL raises the RPL");
	asm volatile("arpl %w2, %w0; setz %1" : "+r"(value), "=q"(zf) : "r"(1) : "cc");
	check(!zf && value == 0x13, "ARPL does not lower it");
}

/* --- the I/O permission bitmap; SDM 1, 19.5.2 --- */

static NAKED void u_in(void)
{
	asm("mov %eax, %edx; in %dx, %al; ret");
}
static NAKED void u_in4(void)
{
	asm("mov %eax, %edx; in %dx, %eax; ret");
}

static void set_tss_limit(uint32_t limit)
{
	gdt[TSS_SEL / 8] = descriptor((uint32_t)&tss, limit, 0x89, 0);
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
}

static void test_io_bitmap(void)
{
	tss.io_map = offsetof(struct tss, bitmap);
	memset(tss.bitmap, 0xff, sizeof(tss.bitmap));
	user(u_in, 0x80);
	check_vector(caught.vector, GP, "#GP IN in ring 3 of a port whose bit is set");
	tss.bitmap[0x80 / 8] = 0xfe;
	check_vector(user(u_in, 0x80), NONE, "IN of a port whose bit is clear");
	check_vector(user(u_in4, 0x80), GP, "#GP IN of four ports, of which one is clear");
	tss.bitmap[0x80 / 8] = 0x3f;
	tss.bitmap[0x88 / 8] = 0xfc;
	check_vector(user(u_in4, 0x86), NONE, "IN of four ports across two bytes of the bitmap");
	tss.bitmap[0x88 / 8] = 0xfd;
	check_vector(user(u_in4, 0x86), GP, "#GP one of them is set");
	check_vector(user_flags(u_in4, 0x86, 3 * FLAG_IOPL), NONE, "IOPL 3 does not ask the bitmap");
	memset(tss.bitmap, 0, sizeof(tss.bitmap));
	set_tss_limit(offsetof(struct tss, bitmap) + 0x80 / 8);
	check_vector(user(u_in, 0x80), GP, "#GP the second byte is behind the TSS's limit");
	set_tss_limit(offsetof(struct tss, bitmap) + 0x80 / 8 + 1);
	check_vector(user(u_in, 0x80), NONE, "it is within");
	tss.io_map = 0xffff;
	check_vector(user(u_in, 0), GP, "#GP there is no bitmap");
	tss.io_map = sizeof(tss);
	set_tss_limit(TSS_LIMIT);
}

/* --- SYSENTER, SYSEXIT; SDM 2B --- */

extern uint8_t sysenter_target[];
asm(".pushsection .text; sysenter_target: mov %cs, %eax; shl $16, %eax; mov %ss, %ax; pushf; pop %esi; mov %ecx, %edi; mov $u_sysexit_back, %edx; mov %edi, %ecx; mov %eax, %ebx; mov %esp, %ebp; sysexit; .popsection");
static NAKED void u_sysenter(void)
{
	asm("mov %esp, %ecx; stc; sysenter; u_sysexit_back: mov %cs, %eax; mov %ss, %edx; cmp %esp, %ecx; jne 1f; ret; 1: ud2");
}

static void test_sysenter(void)
{
	if (!HAS_1_EDX(11)) {
		skip("SYSENTER", "the processor has none");
		return;
	}
	wrmsr(0x174, 0);
	user(u_sysenter, 0);
	check(caught.vector == GP && caught.frame.error == 0, "#GP SYSENTER with a null SYSENTER_CS");
	wrmsr(0x174, KCS);
	wrmsr(0x175, (uint32_t)test_stack + 4096);
	wrmsr(0x176, (uint32_t)sysenter_target);
	user_flags(u_sysenter, 0, FLAG_IF);
	check_caught(NONE, 0, 0, "SYSENTER and SYSEXIT");
	check(caught.frame.ebx == (KCS << 16 | KDS) && caught.frame.ebp == (uint32_t)test_stack + 4096 && !(caught.frame.esi & FLAG_IF), "SYSENTER: CS, SS, ESP, IF clear");
	check((caught.frame.eax & 0xffff) == UCS && (caught.frame.edx & 0xffff) == UDS, "SYSEXIT: CS and SS of ring 3");
	wrmsr(0x174, 0);
}

int main(void)
{
	test_far();
	test_call_gates();
	test_interrupt_gates();
	test_iret();
	test_segments();
	test_table_instructions();
	test_io_bitmap();
	test_sysenter();
	return 0;
}
