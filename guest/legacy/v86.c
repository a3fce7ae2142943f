/* SPDX-License-Identifier: MIT */
/* Virtual-8086 mode: into it by IRET and by a task switch, out of it by everything; what IOPL makes sensitive; ports; addresses; and the
 * virtual interrupt flag of VME and PVI, where there is one. SDM 3A chapter 20 */
#include "legacy/lib/legacy.h"

enum { STACK = 0x1000, DATA = 0x1100 }; /* segments */
enum { VECTOR = 0x90, TASK = FREE_SEL };

/* 16-bit code, by entry points; all ends in something that the monitor gets: HLT is #GP. */
extern uint8_t code16[], code16_end[], c_regs[], c_hlt[], c_cli[], c_sti[], c_pushf[], c_popf[], c_iret[], c_int[], c_int3[], c_in[], c_in4[], c_wrap[],
	c_limit[], c_far[], c_pushfd[], c_lgdt[], c_arpl[], c_push[], c_step[], c_page[], c_vme_int[], c_vme_handler[];
asm(".pushsection .text\n.balign 16\n.code16\n"
    "code16:\n"
    "c_regs: mov %cs, %ax; mov %ds, %bx; mov %es, %cx; mov %ss, %dx\n"
    "c_hlt: hlt\n"
    "c_cli: cli; hlt\n"
    "c_sti: sti; hlt\n"
    "c_pushf: pushf; pop %ax; hlt\n"
    "c_popf: push %bx; popf; hlt\n"
    "c_iret: push %bx; push %cs; push $(c_hlt - code16); iret\n"
    "c_int: int $0x90; hlt\n"
    "c_int3: int3; hlt\n"
    "c_in: mov $0x80, %dx; in %dx, %al; hlt\n"
    "c_in4: mov $0x7e, %dx; in %dx, %eax; hlt\n"
    "c_wrap: mov $0xffff, %bx; mov 1(%bx), %al; hlt\n"
    "c_limit: mov $0xffff, %bx; mov (%bx), %ax; hlt\n"
    "c_far: lcall $0x801, $(1f - code16 - 16); hlt\n1: mov %cs, %ax; lret\n"
    "c_pushfd: pushfl; hlt\n"
    "c_lgdt: lgdt 0; hlt\n"
    "c_arpl: arpl %ax, %bx; hlt\n"
    "c_push: push %ax; pushl $0x12345678; mov %esp, %eax; hlt\n"
    "c_step: nop; hlt\n"
    "c_page: mov %al, 0; hlt\n"
    "c_vme_int: int $0x21; mov %ax, %bx; hlt\n"
    "c_vme_handler: mov %sp, %bp; mov 4(%bp), %ax; pushf; pop %cx; iret\n"
    "code16_end:\n"
    ".code32\n.popsection");
#define OFFSET(label) ((uint32_t)((label) - code16))

static struct v86 start(const uint8_t *at, uint32_t flags)
{
	return (struct v86){ .eip = OFFSET(at), .cs = LOW_SEGMENT, .eflags = flags, .esp = 0x800, .ss = STACK, .es = 0x1234, .ds = DATA, .fs = 0x22, .gs = 0x33 };
}

static int run(const uint8_t *at, uint32_t flags, uint32_t ebx)
{
	struct v86 s = start(at, flags);
	s.ebx = ebx;
	return v86(&s);
}

/* It ended at this label (plus offset) with this vector. */
static bool ended(int vector, const uint8_t *at, uint32_t offset)
{
	return caught.vector == vector && caught.frame.eip == OFFSET(at) + offset && caught.frame.eflags & FLAG_VM;
}

#define IOPL3 (3 * FLAG_IOPL)

static void test_transitions(void)
{
	run(c_regs, IOPL3, 0);
	check(ended(GP, c_hlt, 0) && caught.frame.error == 0, "into virtual-8086 mode by IRET; HLT is #GP");
	check(caught.frame.eax == LOW_SEGMENT && (caught.frame.ebx & 0xffff) == DATA && (caught.frame.ecx & 0xffff) == 0x1234 &&
		      (caught.frame.edx & 0xffff) == STACK, "its segment registers");
	check(caught.frame.cs == LOW_SEGMENT && caught.frame.ss == STACK && caught.frame.esp == 0x800, "the frame: CS, SS, ESP");
	check(caught.frame.v86_es == 0x1234 && caught.frame.v86_ds == DATA && caught.frame.v86_fs == 0x22 && caught.frame.v86_gs == 0x33, "the frame: data segments");
	check(caught.frame_at == tss.esp0 - 36 - 4, "the stack is that of the TSS, and holds nine words and the error code");
	check((caught.frame.ds | caught.frame.es | caught.frame.fs | caught.frame.gs) == 0, "the handler finds its data segments null");
	run(c_int, IOPL3, 0);
	check(caught.vector == GP && caught.frame.error == VECTOR * 8 + 2, "#GP INT n through a gate with DPL 0");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), GATE_INTERRUPT | GATE_DPL3, 0);
	run(c_int, IOPL3, 0);
	check(ended(VECTOR, c_int, 2), "INT n with IOPL 3 goes through the IDT");
	run(c_int3, 0, 0);
	check(ended(BP, c_int3, 1), "INT3 whatever IOPL is");
	/* The handler of virtual-8086 code must be in ring 0. SDM 3A 20.3.1.1 */
	gdt[FREE_SEL / 8 + 8] = descriptor(0, 0xfffff, 0x9f, 0xc);
	idt[VECTOR] = gate(FREE_SEL + 64, trap_stub(VECTOR), GATE_INTERRUPT | GATE_DPL3, 0);
	run(c_int, IOPL3, 0);
	check(caught.vector == GP && caught.frame.error == FREE_SEL + 64, "#GP INT n to conforming code");
	idt[VECTOR] = gate(KCS, trap_stub(VECTOR), GATE_INTERRUPT | GATE_DPL3, 0);
	run(c_lgdt, IOPL3, 0);
	check(ended(GP, c_lgdt, 0), "#GP a privileged instruction");
	run(c_arpl, IOPL3, 0);
	check(ended(UD, c_arpl, 0), "#UD ARPL");
	run(c_far, IOPL3, 0);
	check(ended(GP, c_far, 5) && (caught.frame.eax & 0xffff) == LOW_SEGMENT + 1, "far CALL and RET as in real mode");
	run(c_push, IOPL3, 0);
	check((caught.frame.eax & 0xffff) == 0x800 - 6, "PUSH of 16 and 32 bits");
	run(c_step, IOPL3 | FLAG_TF, 0);
	check(ended(DB, c_step, 1) && (caught.dr6 & 0x4000), "a single step");
}

static void test_sensitive(void)
{
	static const struct { const uint8_t *at; const char *name; unsigned offset; } rows[] = {
		{ c_cli, "CLI", 0 }, { c_sti, "STI", 0 }, { c_pushf, "PUSHF", 0 }, { c_popf, "POPF", 1 }, { c_int, "INT n", 0 }, { c_pushfd, "PUSHFD", 0 },
	};
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		run(rows[n].at, 0, 2);
		check(ended(GP, rows[n].at, rows[n].offset) && caught.frame.error == 0, join("#GP with IOPL 0: ", rows[n].name));
	}
	run(c_iret, 0, 2);
	check(caught.vector == GP && caught.frame.eip != OFFSET(c_hlt), "#GP with IOPL 0: IRET");
	run(c_cli, IOPL3 | FLAG_IF, 0);
	check(ended(GP, c_cli, 1) && !(caught.frame.eflags & FLAG_IF), "CLI with IOPL 3");
	run(c_pushf, IOPL3, 0);
	check(ended(GP, c_pushf, 2) && (caught.frame.eax & 0x7002) == (IOPL3 | 2), "PUSHF with IOPL 3");
	run(c_popf, IOPL3, FLAG_IF);
	check((caught.frame.eflags & (FLAG_IF | IOPL3)) == (FLAG_IF | IOPL3), "POPF with IOPL 3 changes IF, not IOPL");
	run(c_iret, IOPL3, FLAG_IF);
	check(ended(GP, c_hlt, 0) && (caught.frame.eflags & (FLAG_IF | IOPL3)) == (FLAG_IF | IOPL3), "IRET with IOPL 3");
}

static void test_addresses(void)
{
	*(uint8_t *)(DATA * 16) = 0x5a;
	run(c_wrap, IOPL3, 0);
	check(ended(GP, c_wrap, 6) && (caught.frame.eax & 0xff) == 0x5a, "16-bit offsets wrap");
	run(c_limit, IOPL3, 0);
	check(ended(GP, c_limit, 3), "#GP an access across FFFFh");
	memset(tss.bitmap, 0xff, sizeof(tss.bitmap));
	tss.io_map = offsetof(struct tss, bitmap);
	run(c_in, IOPL3, 0);
	check(ended(GP, c_in, 3), "#GP IN asks the bitmap even with IOPL 3");
	tss.bitmap[16] = 0xfe;
	run(c_in, 0, 0);
	check(ended(GP, c_in, 4), "IN of a port whose bit is clear");
	tss.bitmap[15] = 0x3f;
	run(c_in4, 0, 0);
	check(ended(GP, c_in4, 3), "#GP one of four ports is not");
}

/* With paging: a fault's frame and CR2. Linear 0 to 4 MiB by 4 KiB pages. */
static void test_paging(void)
{
	uint32_t *directory = page_alloc(), *table = page_alloc();
	for (unsigned n = 0; n < 1024; n++)
		table[n] = n << 12 | 7;
	directory[0] = (uint32_t)table | 7;
	uint32_t *table2 = page_alloc();
	for (unsigned n = 0; n < 1024; n++)
		table2[n] = (32u << 20) + (n << 12) + 3;
	directory[8] = (uint32_t)table2 | 3;
	table[DATA >> 8] &= ~2u;
	WRITE_CR(3, directory);
	WRITE_CR(0, READ_CR(0) | CR0_PG);
	run(c_page, IOPL3, 0);
	uint32_t cr2 = caught.cr2;
	WRITE_CR(0, READ_CR(0) & ~CR0_PG);
	check(ended(PF, c_page, 0) && caught.frame.error == 7 && cr2 == DATA * 16, "#PF out of virtual-8086 mode is one of a user");
}

static NAKED void jump_to_task(void)
{
	asm("ljmp *(%eax)");
}

static void test_task(void)
{
	static struct tss task;
	static const struct { uint32_t offset; uint16_t selector; } __attribute__((packed)) far = { 0, TASK };
	memset(&task, 0, 104);
	task.eip = OFFSET(c_regs), task.cs = LOW_SEGMENT, task.ss = STACK, task.esp = 0x800, task.ds = DATA, task.es = 0x1234;
	task.eflags = FLAG_VM | IOPL3 | 2;
	task.ss0 = KDS, task.esp0 = tss.esp0, task.io_map = sizeof(task);
	gdt[TASK / 8] = descriptor((uint32_t)&task, TSS_LIMIT, 0x89, 0);
	attempt(jump_to_task, (uint32_t)&far);
	check(ended(GP, c_hlt, 0) && caught.frame.eax == LOW_SEGMENT && (caught.frame.ebx & 0xffff) == DATA, "into virtual-8086 mode by a task switch");
	gdt[TSS_SEL / 8] = descriptor((uint32_t)&tss, TSS_LIMIT, 0x89, 0);
	asm volatile("ltr %w0" : : "r"(TSS_SEL));
}

static NAKED void u_sti(void)
{
	asm("sti; ret");
}
static NAKED void u_cli(void)
{
	asm("cli; ret");
}

static void test_vme(void)
{
	if (!HAS_1_EDX(1)) {
		skip("VME, PVI", "the processor has none");
		return;
	}
	WRITE_CR(4, READ_CR(4) | CR4_VME);
	tss.io_map = offsetof(struct tss, bitmap) + 32;
	memset(tss.bitmap, 0, sizeof(tss.bitmap));
	run(c_sti, FLAG_IF, 0);
	check(ended(GP, c_sti, 1) && (caught.frame.eflags & FLAG_VIF), "VME: STI sets VIF");
	run(c_cli, FLAG_IF | FLAG_VIF, 0);
	check(ended(GP, c_cli, 1) && (caught.frame.eflags & (FLAG_VIF | FLAG_IF)) == FLAG_IF, "VME: CLI clears VIF, and not IF");
	run(c_sti, FLAG_IF | FLAG_VIP, 0);
	check(ended(GP, c_sti, 0), "VME: #GP STI while VIP is set");
	run(c_pushf, FLAG_IF, 0);
	check(ended(GP, c_pushf, 2) && (caught.frame.eax & (IOPL3 | FLAG_IF)) == IOPL3, "VME: PUSHF shows VIF as IF, and IOPL 3");
	run(c_popf, FLAG_IF, FLAG_IF | 2);
	check(ended(GP, c_popf, 2) && (caught.frame.eflags & (FLAG_VIF | FLAG_IF | IOPL3)) == (FLAG_VIF | FLAG_IF), "VME: POPF sets VIF");
	run(c_popf, FLAG_IF, FLAG_TF | 2);
	check(ended(GP, c_popf, 1), "VME: #GP POPF of TF");
	run(c_popf, FLAG_IF | FLAG_VIP, FLAG_IF | 2);
	check(ended(GP, c_popf, 1), "VME: #GP POPF of IF while VIP is set");
	run(c_pushfd, FLAG_IF, 0);
	check(ended(GP, c_pushfd, 0), "VME: #GP PUSHFD");
	run(c_iret, FLAG_IF, FLAG_IF | 2);
	check(ended(GP, c_hlt, 0) && (caught.frame.eflags & FLAG_VIF), "VME: IRET sets VIF");
	uint32_t *ivt;
	asm volatile("" : "=r"(ivt) : "0"(0)); /* the compiler knows nothing at address 0 */
	uint32_t old = ivt[0x21];
	ivt[0x21] = LOW_SEGMENT << 16 | OFFSET(c_vme_handler);
	run(c_vme_int, FLAG_IF | FLAG_VIF, 0);
	check(ended(GP, c_vme_int, 4) && (caught.frame.ebx & (FLAG_IF | IOPL3)) == (FLAG_IF | IOPL3), "VME: INT n is redirected, with VIF and IOPL 3 in the pushed FLAGS");
	check(!(caught.frame.ecx & FLAG_IF) && (caught.frame.eflags & FLAG_VIF), "VME: the handler runs with VIF clear, and IRET sets it again");
	tss.bitmap[0x21 / 8] = 1 << (0x21 & 7);
	run(c_vme_int, FLAG_IF, 0);
	check(ended(GP, c_vme_int, 0), "VME: #GP INT n whose bit is set, with IOPL 0");
	idt[0x21] = gate(KCS, trap_stub(0x21), GATE_INTERRUPT | GATE_DPL3, 0);
	run(c_vme_int, IOPL3, 0);
	check(ended(0x21, c_vme_int, 2), "VME: with IOPL 3 it goes through the IDT");
	ivt[0x21] = old;
	WRITE_CR(4, (READ_CR(4) & ~CR4_VME) | CR4_PVI);
	check(user(u_sti, 0) == NONE && (caught.frame.eflags & FLAG_VIF), "PVI: STI in ring 3 sets VIF");
	check(user_flags(u_cli, 0, FLAG_VIF) == NONE && !(caught.frame.eflags & FLAG_VIF), "PVI: CLI clears it");
	check_vector(user_flags(u_sti, 0, FLAG_VIP), GP, "PVI: #GP STI while VIP is set");
	WRITE_CR(4, READ_CR(4) & ~CR4_PVI);
	check_vector(user(u_sti, 0), GP, "#GP STI in ring 3 without PVI");
}

int main(void)
{
	low_copy(code16, code16_end);
	test_transitions();
	test_sensitive();
	test_addresses();
	test_paging();
	test_task();
	test_vme();
	return 0;
}
