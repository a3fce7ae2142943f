/* SPDX-License-Identifier: MIT */
/* Delivery of interrupts and exceptions in all modes: frames, stack switches, faults on the way, task gates, INT n,
 * IRET. SDM 3A chapter 6. */
#include "flat.h"
#include "test.h"

#define HANDLER 0x5000
#define STACK0 0x9000 /* of privilege 0, in the TSS */

static struct flat *f;
static struct x86_core *core;
static struct x86_cpu *cpu;

static void start(enum flat_mode mode, unsigned cpl)
{
	f = flat_new("v2");
	core = &f->core;
	cpu = &core->cpu;
	flat_mode(f, mode, cpl);
	cpu->gpr[X86_GPR_RIP] = 0x4000;
	if (mode == FLAT_LONG) {
		flat_put(FLAT_TSS + 4, 8, STACK0 + 8); /* not aligned: the processor aligns */
		flat_put(FLAT_TSS + 36, 8, 0xa000);    /* IST 1 */
		flat_put(FLAT_TSS + 44, 8, 0x0123000000000000); /* IST 2: not canonical */
	} else {
		flat_put(FLAT_TSS + 4, 4, STACK0);
		flat_put(FLAT_TSS + 8, 2, FLAT_DATA0);
	}
}

static void interrupt(uint8_t vector)
{
	x86_deliver_interrupt(core, vector);
}

static void fault(uint8_t vector, bool has_error, uint32_t error)
{
	core->fault = (struct x86_fault){ vector, has_error, error };
	x86_deliver_fault(core);
}

static uint64_t frame(unsigned n, unsigned size)
{
	return flat_get(cpu->gpr[RSP] + n * size, size);
}

static void real(void)
{
	start(FLAT_REAL, 0);
	cpu->seg[SEG_CS].selector = 0x123;
	flat_put(4 * 0x21, 4, 0x20001234);
	x86_flags_set(core, FLAG_IF | FLAG_TF | FLAG_CF);
	interrupt(0x21);
	ok(cpu->seg[SEG_CS].selector == 0x2000 && cpu->seg[SEG_CS].base == 0x20000 && cpu->gpr[X86_GPR_RIP] == 0x1234,
	   "real: CS:IP");
	ok(cpu->gpr[RSP] == 0x7ffa && frame(0, 2) == 0x4000 && frame(1, 2) == 0x123 && frame(2, 2) == 0x303,
	   "real: the frame");
	ok(!(x86_flags_get(core) & (FLAG_IF | FLAG_TF)), "real: IF and TF are clear");
	ok(flat_run(f, cpu->gpr[X86_GPR_RIP], "\xcf", 1) == -1 && cpu->gpr[X86_GPR_RIP] == 0x4000 &&
		   cpu->seg[SEG_CS].selector == 0x123 &&
		   x86_flags_get(core) == (FLAG_IF | FLAG_TF | FLAG_CF | FLAG_FIXED) && cpu->gpr[RSP] == 0x8000,
	   "real: IRET");
	cpu->idtr.limit = 0x20;
	interrupt(0x21);
	ok(cpu->activity == X86_SHUTDOWN, "real: a table without #GP and #DF ends in shutdown");
}

static void protected(void)
{
	start(FLAT_PROTECTED32, 0);
	flat_set_gate(f, 0x30, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	flat_set_gate(f, 13, FLAT_CODE0, HANDLER + 1, SYS_TRAP, 0, 0);
	x86_flags_set(core, FLAG_IF | FLAG_NT);
	interrupt(0x30);
	ok(cpu->gpr[X86_GPR_RIP] == HANDLER && cpu->gpr[RSP] == 0x7ff4 && frame(0, 4) == 0x4000 &&
		   frame(1, 4) == FLAT_CODE0 && frame(2, 4) == (FLAG_IF | FLAG_NT | FLAG_FIXED),
	   "32-bit, same privilege: the frame");
	ok(!(x86_flags_get(core) & (FLAG_IF | FLAG_NT)), "an interrupt gate clears IF");

	start(FLAT_PROTECTED32, 3);
	flat_set_gate(f, 13, FLAT_CODE0, HANDLER, SYS_TRAP, 0, 0);
	x86_flags_set(core, FLAG_IF);
	fault(VECTOR_GP, true, 0x1230);
	ok(core->cpl == 0 && cpu->gpr[RSP] == STACK0 - 24 && cpu->seg[SEG_SS].selector == FLAT_DATA0 &&
		   cpu->seg[SEG_CS].selector == FLAT_CODE0,
	   "32-bit, to privilege 0: stack and code");
	ok(frame(0, 4) == 0x1230 && frame(1, 4) == 0x4000 && frame(2, 4) == (FLAT_CODE3 | 3) &&
		   frame(3, 4) == (FLAG_RF | FLAG_IF | FLAG_FIXED) && frame(4, 4) == 0x8000 &&
		   frame(5, 4) == (FLAT_DATA3 | 3),
	   "32-bit, to privilege 0: the frame, with RF");
	ok(x86_flags_get(core) & FLAG_IF, "a trap gate keeps IF");
	cpu->gpr[RSP] += 4;
	ok(flat_run(f, HANDLER, "\xcf", 1) == -1 && core->cpl == 3 && cpu->gpr[RSP] == 0x8000 &&
		   cpu->gpr[X86_GPR_RIP] == 0x4000 && cpu->seg[SEG_SS].selector == (FLAT_DATA3 | 3),
	   "IRET to privilege 3");

	start(FLAT_PROTECTED32, 3);
	flat_set_gate(f, 0x40, FLAT_CODE0, 0x12345678, SYS_INT16, 3, 0);
	cpu->seg[SEG_DS] = (struct x86_segment) { .limit = 0xffffffff,
						  .attr = SEGA_P | SEGA_S | SEGA_WRITABLE,
						  .selector = FLAT_DATA0 };
	ok(flat_run(f, 0x4000, "\xcd\x40", 2) == -1 && cpu->gpr[X86_GPR_RIP] == 0x5678 &&
		   cpu->gpr[RSP] == STACK0 - 10 && frame(0, 2) == 0x4002 && frame(4, 2) == (FLAT_DATA3 | 3),
	   "INT through a 16-bit gate");
	cpu->gpr[X86_GPR_RIP] = 0x5678;
	flat_run(f, 0x5678, "\x66\xcf", 2);
	ok(core->cpl == 3 && cpu->gpr[X86_GPR_RIP] == 0x4002 && (cpu->seg[SEG_DS].attr & SEGA_UNUSABLE) &&
		   !cpu->seg[SEG_DS].selector,
	   "a 16-bit IRET; DS of privilege 0 became null");
	flat_set_gate(f, 0x41, FLAT_CODE0, 0, SYS_INT, 0, 0);
	ok(flat_run(f, 0x4000, "\xcd\x41", 2) == VECTOR_GP && core->fault.error == (0x41 << 3 | 2) &&
		   cpu->gpr[X86_GPR_RIP] == 0x4000 && core->cpl == 3,
	   "INT through a gate of privilege 0");
	ok(flat_run(f, 0x4000, "\xcd\xff", 2) == VECTOR_GP && core->fault.error == (0xff << 3 | 2),
	   "INT without a gate");
	flat_put(FLAT_TSS + 8, 2, FLAT_DATA3);
	ok(flat_run(f, 0x4000, "\xcd\x40", 2) == VECTOR_TS && core->fault.error == FLAT_DATA3, "a bad SS in the TSS");
	flat_put(FLAT_TSS + 8, 2, 0);
	ok(flat_run(f, 0x4000, "\xcd\x40", 2) == VECTOR_TS && core->fault.error == 0, "a null SS in the TSS");
}

static void nested(void)
{
	start(FLAT_PROTECTED32, 3);
	flat_set_gate(f, VECTOR_NP, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	flat_put(FLAT_IDT + 8 * 0x30, 8, flat_gate(FLAT_CODE0, 0, SYS_INT, 0) & ~BIT(47));
	interrupt(0x30);
	ok(cpu->gpr[X86_GPR_RIP] == HANDLER && frame(0, 4) == (0x30 << 3 | 3) && frame(1, 4) == 0x4000,
	   "an absent gate is #NP, with EXT");

	start(FLAT_PROTECTED32, 3);
	flat_set_gate(f, VECTOR_DF, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	fault(VECTOR_GP, true, 0);
	ok(cpu->gpr[X86_GPR_RIP] == HANDLER && frame(0, 4) == 0 && frame(1, 4) == 0x4000,
	   "#GP without a gate is a double fault");
	ok(core->stat.exception[VECTOR_GP] == 1 && core->stat.exception[VECTOR_DF] == 1, "both are counted");
	start(FLAT_PROTECTED32, 3);
	fault(VECTOR_GP, true, 0);
	ok(cpu->activity == X86_SHUTDOWN && cpu->gpr[X86_GPR_RIP] == 0x4000, "and without that gate, shutdown");
	start(FLAT_PROTECTED32, 3);
	flat_set_gate(f, VECTOR_GP, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	fault(VECTOR_UD, false, 0);
	ok(cpu->gpr[X86_GPR_RIP] == HANDLER && frame(0, 4) == (VECTOR_UD << 3 | 3), "#UD without a gate is #GP");
	jmp_buf outer;
	core->unwind = &outer;
	interrupt(0x77);
	ok(core->unwind == &outer, "the caller's way to unwind is kept");
}

static void long_mode(void)
{
	start(FLAT_LONG, 3);
	flat_set_gate(f, 14, FLAT_CODE64, 0x0000123400005000, SYS_INT, 0, 0);
	cpu->cr2 = 0x77;
	fault(VECTOR_PF, true, 7);
	ok(cpu->gpr[X86_GPR_RIP] == 0x123400005000 && core->cpl == 0 && cpu->seg[SEG_SS].selector == 0 &&
		   cpu->gpr[RSP] == STACK0 - 48,
	   "64-bit: entry, null SS, aligned stack");
	ok(frame(0, 8) == 7 && frame(1, 8) == 0x4000 && frame(2, 8) == (FLAT_CODE64_3 | 3) &&
		   frame(3, 8) == (FLAG_RF | FLAG_FIXED) && frame(4, 8) == 0x8000 && frame(5, 8) == (FLAT_DATA3 | 3),
	   "64-bit: the frame");
	cpu->gpr[RSP] += 8;
	ok(flat_run(f, HANDLER, "\x48\xcf", 2) == -1 && core->cpl == 3 && cpu->gpr[RSP] == 0x8000 &&
		   cpu->gpr[X86_GPR_RIP] == 0x4000,
	   "IRETQ");

	start(FLAT_LONG, 0);
	flat_set_gate(f, 0x30, FLAT_CODE64, HANDLER, SYS_INT, 0, 1);
	flat_set_gate(f, 0x31, FLAT_CODE64, HANDLER, SYS_INT, 0, 2);
	flat_set_gate(f, 0x32, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	flat_set_gate(f, 0x33, FLAT_CODE64, HANDLER, SYS_INT, 0, 0);
	flat_set_gate(f, VECTOR_SS, FLAT_CODE64, HANDLER + 1, SYS_INT, 0, 0);
	flat_set_gate(f, VECTOR_GP, FLAT_CODE64, HANDLER + 2, SYS_INT, 0, 0);
	cpu->gpr[RSP] = 0x8005;
	interrupt(0x33);
	ok(cpu->gpr[RSP] == 0x8000 - 40 && frame(3, 8) == 0x8005, "64-bit, same privilege: RSP is aligned and saved");
	interrupt(0x30);
	ok(cpu->gpr[RSP] == 0xa000 - 40 && cpu->seg[SEG_SS].selector == FLAT_DATA0, "an interrupt stack");
	interrupt(0x31);
	ok(cpu->gpr[X86_GPR_RIP] == HANDLER + 1 && frame(0, 8) == 1,
	   "an interrupt stack that is not canonical: #SS, EXT");
	interrupt(0x32);
	ok(cpu->gpr[X86_GPR_RIP] == HANDLER + 2 && frame(0, 8) == (FLAT_CODE0 | 1),
	   "a 32-bit handler in long mode: #GP");
	start(FLAT_COMPAT32, 3);
	flat_set_gate(f, 0x80, FLAT_CODE64, HANDLER, SYS_INT, 3, 0);
	flat_put(FLAT_TSS + 4, 8, STACK0);
	ok(flat_run(f, 0x4000, "\xcd\x80", 2) == -1 && (core->mode & MODE_CODE) == MODE_CODE64 &&
		   frame(0, 8) == 0x4002 && frame(3, 8) == 0x8000,
	   "INT out of compatibility mode");
	ok(flat_run(f, HANDLER, "\x48\xcf", 2) == -1 && (core->mode & MODE_CODE) == MODE_CODE32 && core->cpl == 3,
	   "and back");
	cpu->activity = X86_HALTED;
	x86_deliver_nmi(core);
	ok(cpu->activity != X86_HALTED && cpu->nmi_blocked, "an NMI wakes, and blocks others");
}

static void v86(void)
{
	start(FLAT_PROTECTED32, 0);
	uint32_t iret_frame[] = { 0x100, 0x2000, FLAG_VM | FLAG_IOPL | FLAG_IF | 2, 0xfff0, 0x3000, 0x11, 0x22,
				  0x33,	 0x44 };
	memcpy(flat_ram + 0x8000, iret_frame, sizeof(iret_frame));
	ok(flat_run(f, 0x4000, "\xcf", 1) == -1 && (core->mode & MODE_V86) && core->cpl == 3 &&
		   cpu->gpr[RSP] == 0xfff0 && cpu->gpr[X86_GPR_RIP] == 0x100 && cpu->seg[SEG_CS].base == 0x20000 &&
		   cpu->seg[SEG_SS].base == 0x30000 && cpu->seg[SEG_ES].selector == 0x11 &&
		   cpu->seg[SEG_DS].selector == 0x22 && cpu->seg[SEG_FS].selector == 0x33 &&
		   cpu->seg[SEG_GS].selector == 0x44,
	   "IRET to virtual-8086 mode");
	flat_set_gate(f, 0x30, FLAT_CODE0, HANDLER, SYS_INT, 3, 0);
	interrupt(0x30);
	ok(!(core->mode & MODE_V86) && core->cpl == 0 && cpu->gpr[RSP] == STACK0 - 36 && frame(0, 4) == 0x100 &&
		   frame(1, 4) == 0x2000 && (frame(2, 4) & FLAG_VM) && frame(3, 4) == 0xfff0 && frame(4, 4) == 0x3000 &&
		   frame(5, 4) == 0x11 && frame(8, 4) == 0x44,
	   "an interrupt out of it");
	ok(!cpu->seg[SEG_DS].selector && (cpu->seg[SEG_DS].attr & SEGA_UNUSABLE), "the data segments are null");
	ok(flat_run(f, HANDLER, "\xcf", 1) == -1 && (core->mode & MODE_V86) && cpu->seg[SEG_GS].selector == 0x44,
	   "and back");
	ok(flat_run(f, 0x100, "\xcd\x30", 2) == -1 && frame(0, 4) == 0x102, "INT n with IOPL 3");
	flat_run(f, HANDLER, "\xcf", 1);
	cpu->rflags &= ~FLAG_IOPL;
	ok(flat_run(f, 0x100, "\xcd\x30", 2) == VECTOR_GP && flat_run(f, 0x100, "\xfa", 1) == VECTOR_GP &&
		   flat_run(f, 0x100, "\x9c", 1) == VECTOR_GP && flat_run(f, 0x100, "\x9d", 1) == VECTOR_GP &&
		   flat_run(f, 0x100, "\xcf", 1) == VECTOR_GP,
	   "IOPL 0: INT, CLI, PUSHF, POPF, IRET are #GP");
}

#define VIRTUAL(mode_flags) (FLAG_FIXED | FLAG_VM | (mode_flags))

/* Virtual-8086 code at 2000h:100h, IOPL 0, with CR4.VME: SDM 3A 20.3 */
static void start_vme(uint64_t flags)
{
	start(FLAT_PROTECTED32, 0);
	uint32_t iret_frame[] = { 0x100, 0x2000, (uint32_t)VIRTUAL(flags), 0xfff0, 0x3000, 0, 0, 0, 0 };
	memcpy(flat_ram + 0x8000, iret_frame, sizeof(iret_frame));
	cpu->cr4 |= CR4_VME;
	flat_put(FLAT_TSS + TSS_IO_MAP_BASE, 2, 0x88); /* the redirection bitmap at 68h */
	cpu->tr.limit = 0x200;
	flat_run(f, 0x4000, "\xcf", 1);
}

static uint64_t v86_word(unsigned n)
{
	return flat_get(0x30000 + cpu->gpr[RSP] + 2 * n, 2);
}

static void vme(void)
{
	start_vme(FLAG_IF);
	ok(flat_run(f, 0x100, "\xfb", 1) == -1 && (x86_flags_get(core) & (FLAG_VIF | FLAG_IF)) == (FLAG_VIF | FLAG_IF) && !cpu->interrupt_shadow,
	   "VME: STI sets VIF");
	ok(flat_run(f, 0x100, "\x9c", 1) == -1 && v86_word(0) == (FLAG_IF | FLAG_IOPL | FLAG_FIXED), "VME: PUSHF shows VIF as IF, and IOPL 3");
	ok(flat_run(f, 0x100, "\xfa", 1) == -1 && (x86_flags_get(core) & (FLAG_VIF | FLAG_IF)) == FLAG_IF, "VME: CLI clears VIF, not IF");
	ok(flat_run(f, 0x100, "\x9d", 1) == -1 && (x86_flags_get(core) & (FLAG_VIF | FLAG_IF | FLAG_IOPL)) == (FLAG_VIF | FLAG_IF) &&
		   cpu->gpr[RSP] == 0xfff0,
	   "VME: POPF puts IF into VIF, and leaves IOPL alone");
	ok(flat_run(f, 0x100, "\x66\x9c", 2) == VECTOR_GP && flat_run(f, 0x100, "\x66\x9d", 2) == VECTOR_GP &&
		   flat_run(f, 0x100, "\x66\xcf", 2) == VECTOR_GP,
	   "VME: the 32-bit forms are #GP");
	flat_put(0x3fff0, 2, FLAG_TF);
	ok(flat_run(f, 0x100, "\x9d", 1) == VECTOR_GP, "VME: POPF of TF is #GP");
	flat_put(0x3fff0, 2, FLAG_IF);
	cpu->rflags |= FLAG_VIP;
	ok(flat_run(f, 0x100, "\x9d", 1) == VECTOR_GP && flat_run(f, 0x100, "\xfb", 1) == VECTOR_GP, "VME: VIP makes setting VIF #GP");

	start_vme(FLAG_IF | FLAG_VIF);
	flat_put(4 * 0x21, 4, 0x24001234);
	ok(flat_run(f, 0x100, "\xcd\x21", 2) == -1 && (core->mode & MODE_V86) && cpu->seg[SEG_CS].base == 0x24000 &&
		   cpu->gpr[X86_GPR_RIP] == 0x1234 && v86_word(0) == 0x102 && v86_word(1) == 0x2000 &&
		   v86_word(2) == (FLAG_IF | FLAG_IOPL | FLAG_FIXED) && (x86_flags_get(core) & (FLAG_VIF | FLAG_IF)) == FLAG_IF,
	   "VME: INT n goes to the 8086 program's handler, VIF becomes clear");
	ok(flat_run(f, 0x1234, "\xcf", 1) == -1 && cpu->gpr[X86_GPR_RIP] == 0x102 && cpu->seg[SEG_CS].selector == 0x2000 &&
		   (x86_flags_get(core) & (FLAG_VIF | FLAG_IF | FLAG_IOPL)) == (FLAG_VIF | FLAG_IF),
	   "VME: and IRET comes back, with VIF");
	flat_put(FLAT_TSS + 0x68 + 0x21 / 8, 1, 1 << (0x21 & 7));
	ok(flat_run(f, 0x100, "\xcd\x21", 2) == VECTOR_GP, "VME: a bit of the redirection bitmap, with IOPL 0, is #GP");
	cpu->rflags |= FLAG_IOPL;
	flat_set_gate(f, 0x21, FLAT_CODE0, HANDLER, SYS_INT, 3, 0);
	ok(flat_run(f, 0x100, "\xcd\x21", 2) == -1 && !(core->mode & MODE_V86) && frame(0, 4) == 0x102, "VME: with IOPL 3 it goes through the IDT");

	start(FLAT_PROTECTED32, 3);
	ok(flat_run(f, 0x4000, "\xfb", 1) == VECTOR_GP, "STI at CPL 3");
	cpu->cr4 |= CR4_PVI;
	ok(flat_run(f, 0x4000, "\xfb", 1) == -1 && (x86_flags_get(core) & (FLAG_VIF | FLAG_IF)) == FLAG_VIF, "PVI: STI sets VIF");
	ok(flat_run(f, 0x4000, "\xfa", 1) == -1 && !(x86_flags_get(core) & FLAG_VIF), "PVI: CLI clears it");
	cpu->rflags |= FLAG_VIP;
	ok(flat_run(f, 0x4000, "\xfb", 1) == VECTOR_GP, "PVI: VIP makes STI #GP");
}

static void tasks(void)
{
	start(FLAT_PROTECTED32, 0);
	unsigned tss2 = 0x3400, sel = FLAT_FREE;
	flat_put(FLAT_GDT + sel, 8, flat_descriptor(tss2, 0x67, SEGA_P | SYS_TSS));
	flat_put(tss2 + 0x20, 4, 0x6000);  /* EIP */
	flat_put(tss2 + 0x24, 4, 2);
	flat_put(tss2 + 0x28, 4, 0xaaaa);  /* EAX */
	flat_put(tss2 + 0x38, 4, 0x7000);  /* ESP */
	flat_put(tss2 + 0x4c, 2, FLAT_CODE0);
	for (unsigned at = 0x48; at <= 0x5c; at += 4)
		if (at != 0x4c)
			flat_put(tss2 + at, 2, FLAT_DATA0);
	flat_put(FLAT_IDT + 8 * VECTOR_DF, 8, flat_gate((uint16_t)sel, 0, SYS_TASK_GATE, 0));
	cpu->gpr[RAX] = 0x1111;
	fault(VECTOR_GP, true, 5);
	ok(cpu->tr.selector == sel && cpu->gpr[RAX] == 0xaaaa && cpu->gpr[X86_GPR_RIP] == 0x6000 &&
		   cpu->gpr[RSP] == 0x6ffc && frame(0, 4) == 0,
	   "a double fault through a task gate");
	ok((cpu->cr0 & CR0_TS) && (x86_flags_get(core) & FLAG_NT) && flat_get(tss2, 2) == FLAT_TR,
	   "nested: TS, NT, back link");
	ok(flat_get(FLAT_TSS + 0x20, 4) == 0x4000 && flat_get(FLAT_TSS + 0x28, 4) == 0x1111 &&
		   (flat_get(FLAT_GDT + sel + 5, 1) & 2),
	   "old state saved, new task busy");
	ok(flat_run(f, 0x6000, "\xcf", 1) == -1 && cpu->tr.selector == FLAT_TR && cpu->gpr[RAX] == 0x1111 &&
		   cpu->gpr[X86_GPR_RIP] == 0x4000 && !(flat_get(FLAT_GDT + sel + 5, 1) & 2) &&
		   !(x86_flags_get(core) & FLAG_NT),
	   "IRET goes back");
	uint8_t jump[] = { 0xea, 0, 0, 0, 0, sel, 0 };
	ok(flat_run(f, 0x4000, jump, 7) == -1 && cpu->tr.selector == sel && flat_get(FLAT_TSS + 0x20, 4) == 0x4007 &&
	   !(flat_get(FLAT_GDT + FLAT_TR + 5, 1) & 2), "JMP to a task");
	ok(core->icount == 2, "instructions are counted once: %lu", core->icount);
	ok(flat_run(f, 0x6000, jump, 7) == VECTOR_GP && core->fault.error == sel, "a busy task is #GP");
}

static void debug(void)
{
	start(FLAT_PROTECTED32, 0);
	flat_set_gate(f, VECTOR_DB, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	ok(!x86_deliver_debug(core), "no debug exception is due");
	cpu->pending_debug = DR6_BS | 1;
	cpu->dr[7] |= DR7_GD;
	ok(x86_deliver_debug(core) && cpu->dr[6] == (DR6_FIXED | DR6_BS | 1) && !(cpu->dr[7] & DR7_GD) &&
		   frame(2, 4) == FLAG_FIXED,
	   "a single step: DR6, GD cleared, no RF");
	cpu->pending_debug = DR6_BS;
	cpu->interrupt_shadow = X86_SHADOW_MOV_SS;
	ok(!x86_deliver_debug(core) && !cpu->pending_debug, "a single step behind MOV SS is lost");
	cpu->interrupt_shadow = 0;
	cpu->dr[1] = 0x4000;
	cpu->dr[7] = DR7_FIXED | 4;
	cpu->gpr[X86_GPR_RIP] = 0x4000;
	cpu->rflags |= FLAG_RF;
	ok(!x86_deliver_breakpoint(core), "RF suppresses an instruction breakpoint");
	cpu->rflags &= ~FLAG_RF;
	ok(x86_deliver_breakpoint(core) && (cpu->dr[6] & 0xf) == 2 && frame(0, 4) == 0x4000,
	   "an instruction breakpoint");
	cpu->dr[7] = DR7_FIXED | DR7_GD;
	ok(flat_run(f, 0x4000, "\x0f\x21\xc0", 3) == VECTOR_DB && (cpu->dr[6] & DR6_BD), "general detect");
}

int main(void)
{
	real();
	protected();
	nested();
	long_mode();
	v86();
	vme();
	tasks();
	debug();
	return done();
}
