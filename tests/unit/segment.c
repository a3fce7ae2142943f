/* SPDX-License-Identifier: MIT */
/* Segmentation: loads with their checks, limits, far transfers through gates, questions about descriptors. SDM 3A
 * chapters 3 and 5. */
#include "flat.h"
#include "test.h"
#include "x86/segment.h"

#define DATA (SEGA_P | SEGA_S | SEGA_WRITABLE)
#define CODE (SEGA_P | SEGA_S | SEGA_CODE)
#define DPL(n) ((n) << SEGA_DPL_SHIFT)

static struct flat *f;
static struct x86_core *core;
static struct x86_cpu *cpu;

static void start(enum flat_mode mode, unsigned cpl)
{
	f = flat_new("v2");
	core = &f->core;
	cpu = &core->cpu;
	flat_mode(f, mode, cpl);
}

/* MOV sreg, AX. Returns the vector, or -1; on a fault the error code must be `error`. */
static int move(unsigned seg, uint16_t selector)
{
	uint8_t code[2] = { 0x8e, (uint8_t)(0xc0 | seg << 3) };

	cpu->gpr[RAX] = selector;
	return flat_run(f, 0x4000, code, 2);
}

static void descriptor(unsigned selector, uint32_t base, uint32_t limit, uint32_t attr)
{
	flat_put(FLAT_GDT + selector, 8, flat_descriptor(base, limit, attr));
}

static bool faults(unsigned seg, uint16_t selector, int vector)
{
	int got = move(seg, selector);
	return got == vector && core->fault.error == (selector & ~3u);
}

static void data_loads(void)
{
	unsigned s = FLAT_FREE;

	start(FLAT_PROTECTED32, 3);
	descriptor(s, 0x12345678, 0xfffff, DATA | SEGA_G | SEGA_DB | DPL(3));
	ok(move(SEG_DS, (uint16_t)(s | 3)) == -1 && cpu->seg[SEG_DS].base == 0x12345678 &&
		   cpu->seg[SEG_DS].limit == 0xffffffff && cpu->seg[SEG_DS].selector == (s | 3),
	   "a data segment, with granularity");
	ok(flat_get(FLAT_GDT + s + 5, 1) & SEGA_ACCESSED, "the accessed bit is set");
	ok(move(SEG_ES, 0) == -1 && (cpu->seg[SEG_ES].attr & SEGA_UNUSABLE), "a null selector");
	ok(flat_run(f, 0x4000, "\x26\xa1\x00\x00\x00\x00", 6) == VECTOR_GP && core->fault.error == 0,
	   "an access through it");
	ok(faults(SEG_ES, 0x3ff8, VECTOR_GP), "beyond the table");
	ok(faults(SEG_ES, 0xc, VECTOR_GP), "in an LDT that is none");
	descriptor(s, 0, 0xffff, DATA | DPL(2));
	ok(faults(SEG_ES, (uint16_t)s, VECTOR_GP), "CPL above DPL");
	descriptor(s, 0, 0xffff, (DATA | DPL(3)) & ~SEGA_P);
	ok(faults(SEG_ES, (uint16_t)(s | 3), VECTOR_NP), "a data segment that is not present");
	descriptor(s, 0, 0xffff, CODE | DPL(3));
	ok(faults(SEG_ES, (uint16_t)(s | 3), VECTOR_GP), "code that cannot be read");
	descriptor(s, 0, 0xffff, CODE | SEGA_READABLE | SEGA_CONFORMING);
	ok(move(SEG_ES, (uint16_t)(s | 3)) == -1, "conforming code at any privilege");
	descriptor(s, 0, 0xffff, SEGA_P | SYS_LDT | DPL(3));
	ok(faults(SEG_ES, (uint16_t)(s | 3), VECTOR_GP), "a system segment");
	start(FLAT_PROTECTED32, 0);
	descriptor(s, 0, 0xffff, DATA);
	ok(faults(SEG_ES, (uint16_t)(s | 1), VECTOR_GP), "RPL above DPL");
	ok(flat_run(f, 0x4000, "\x8e\xc8", 2) == VECTOR_UD, "MOV CS");
}

static void stack_loads(void)
{
	unsigned s = FLAT_FREE;

	start(FLAT_PROTECTED32, 0);
	descriptor(s, 0, 0xffff, DATA);
	ok(move(SEG_SS, (uint16_t)s) == -1 && cpu->interrupt_shadow == X86_SHADOW_MOV_SS &&
		   (core->mode & MODE_STACK) == MODE_STACK16,
	   "SS: shadow, stack width");
	ok(faults(SEG_SS, 0, VECTOR_GP), "a null SS");
	ok(faults(SEG_SS, (uint16_t)(s | 1), VECTOR_GP), "SS with another RPL");
	descriptor(s, 0, 0xffff, DATA | DPL(1));
	ok(faults(SEG_SS, (uint16_t)s, VECTOR_GP), "SS with another DPL");
	descriptor(s, 0, 0xffff, (DATA & ~SEGA_WRITABLE));
	ok(faults(SEG_SS, (uint16_t)s, VECTOR_GP), "SS that cannot be written");
	descriptor(s, 0, 0xffff, DATA & ~SEGA_P);
	ok(faults(SEG_SS, (uint16_t)s, VECTOR_SS), "SS that is not present");
	start(FLAT_LONG, 0);
	ok(move(SEG_SS, 0) == -1 && core->cpl == 0, "a null SS in 64-bit code");
	ok(move(SEG_SS, 3) == VECTOR_GP, "but with RPL = CPL");
	start(FLAT_LONG, 3);
	ok(move(SEG_SS, 3) == VECTOR_GP, "and not at CPL 3");
}

/* Does a read or write of size bytes at offset pass through DS? */
static int access_ds(uint32_t offset, unsigned size, bool write)
{
	uint8_t code[7] = { 0x66, 0xa1 };

	code[1] = (uint8_t)(0xa0 | (size > 1) | (write ? 2 : 0));
	memcpy(code + 2, &offset, 4);
	return size == 2 ? flat_run(f, 0x4000, code, 6) : flat_run(f, 0x4000, code + 1, 5);
}

static void limits(void)
{
	start(FLAT_PROTECTED32, 0);
	cpu->seg[SEG_DS] = (struct x86_segment){ .limit = 0xfff, .attr = DATA };
	x86_mode_update(core);
	ok(access_ds(0xffc, 4, false) == -1 && access_ds(0xffd, 4, false) == VECTOR_GP &&
		   access_ds(0xfff, 1, true) == -1 && access_ds(0x1000, 1, true) == VECTOR_GP &&
		   access_ds(0xffffffff, 4, false) == VECTOR_GP,
	   "expand-up");
	cpu->seg[SEG_DS].attr = DATA | SEGA_EXPAND_DOWN;
	ok(access_ds(0xfff, 1, false) == VECTOR_GP && access_ds(0x1000, 1, false) == -1 &&
		   access_ds(0xfffe, 2, true) == -1 && access_ds(0xffff, 2, true) == VECTOR_GP &&
		   access_ds(0x10000, 1, false) == VECTOR_GP,
	   "expand-down, 16-bit");
	cpu->seg[SEG_DS].attr = DATA | SEGA_EXPAND_DOWN | SEGA_DB;
	ok(access_ds(0x10000, 1, false) == -1 && access_ds(0xffe, 4, false) == VECTOR_GP, "expand-down, 32-bit");
	cpu->seg[SEG_DS].attr = DATA & ~SEGA_WRITABLE;
	cpu->seg[SEG_DS].limit = 0xffffffff;
	x86_mode_update(core);
	ok(access_ds(0, 1, false) == -1 && access_ds(0, 1, true) == VECTOR_GP, "read-only data");
	start(FLAT_REAL, 0);
	ok(flat_run(f, 0x4000, "\xa1\xff\xff", 3) == VECTOR_GP && flat_run(f, 0x4000, "\xa1\xfe\xff", 3) == -1,
	   "real mode: a word at the end");
	cpu->gpr[RSP] = 1;
	ok(flat_run(f, 0x4000, "\x50", 1) == VECTOR_SS, "real mode: a push at SP 1");
	cpu->gpr[RSP] = 0xabcd0000;
	ok(flat_run(f, 0x4000, "\x50", 1) == -1 && cpu->gpr[RSP] == 0xabcdfffe, "real mode: SP wraps alone");
	ok(move(SEG_DS, 0x1234) == -1 && cpu->seg[SEG_DS].base == 0x12340, "real mode: MOV DS");
}

static void call_gates(void)
{
	unsigned gate = FLAT_FREE;
	uint8_t call[] = { 0x9a, 0, 0, 0, 0, (uint8_t)(gate | 3), 0 };

	start(FLAT_PROTECTED32, 3);
	flat_put(FLAT_TSS + 4, 4, 0x9000);
	flat_put(FLAT_TSS + 8, 2, FLAT_DATA0);
	flat_put(FLAT_GDT + gate, 8, flat_gate(FLAT_CODE0, 0x5000, SYS_CALL, 3) | 2ULL << 32);
	flat_put(0x8000, 8, 0x2222222211111111);
	ok(flat_run(f, 0x4000, call, 7) == -1 && core->cpl == 0 && cpu->gpr[X86_GPR_RIP] == 0x5000 &&
		   cpu->gpr[RSP] == 0x9000 - 24,
	   "a call gate");
	ok(flat_get(0x8fe8, 4) == 0x4007 && flat_get(0x8fec, 4) == (FLAT_CODE3 | 3) &&
		   flat_get(0x8ff0, 8) == 0x2222222211111111 && flat_get(0x8ff8, 4) == 0x8000 &&
		   flat_get(0x8ffc, 4) == (FLAT_DATA3 | 3),
	   "return address, parameters, old stack");
	ok(flat_run(f, 0x5000, "\xca\x08\x00", 3) == -1 && core->cpl == 3 && cpu->gpr[RSP] == 0x8008 &&
		   cpu->gpr[X86_GPR_RIP] == 0x4007,
	   "RET 8 to privilege 3 releases on both stacks");
	flat_put(FLAT_GDT + gate, 8, flat_gate(FLAT_CODE0, 0x5000, SYS_CALL, 2));
	ok(flat_run(f, 0x4000, call, 7) == VECTOR_GP && core->fault.error == gate, "a gate of another privilege");
	flat_put(FLAT_GDT + gate, 8, flat_gate(FLAT_CODE0, 0x5000, SYS_CALL, 3) & ~BIT(47));
	ok(flat_run(f, 0x4000, call, 7) == VECTOR_NP && core->fault.error == gate, "an absent gate");
	flat_put(FLAT_GDT + gate, 8, flat_gate(FLAT_CODE0, 0x5000, SYS_CALL, 3));
	call[0] = 0xea;
	ok(flat_run(f, 0x4000, call, 7) == VECTOR_GP && core->fault.error == FLAT_CODE0, "JMP cannot change privilege");
	uint8_t direct[] = { 0xea, 0, 0x60, 0, 0, FLAT_CODE3 | 3, 0 };
	ok(flat_run(f, 0x4000, direct, 7) == -1 && cpu->gpr[X86_GPR_RIP] == 0x6000 && core->icount == 3,
	   "a direct far JMP");
	direct[5] = FLAT_CODE0;
	ok(flat_run(f, 0x4000, direct, 7) == VECTOR_GP && core->fault.error == FLAT_CODE0,
	   "a direct far JMP to privilege 0");

	start(FLAT_LONG, 0);
	flat_put(0x8000, 8, 0x6000);
	flat_put(0x8008, 8, FLAT_CODE0);
	ok(flat_run(f, 0x4000, "\x48\xcb", 2) == -1 && (core->mode & MODE_CODE) == MODE_CODE32 &&
		   (core->mode & MODE_LONG),
	   "a far RET to compatibility mode");
	uint64_t generation = core->mapping_generation;
	uint8_t back[] = { 0xea, 0, 0x70, 0, 0, FLAT_CODE64, 0 };
	ok(flat_run(f, 0x6000, back, 7) == -1 && (core->mode & MODE_CODE) == MODE_CODE64, "and back");
	ok(core->mapping_generation == generation, "code that stays where it was keeps its generation");
	start(FLAT_REAL, 0);
	generation = core->mapping_generation;
	ok(flat_run(f, 0x4000, "\xea\x00\x10\x34\x12", 5) == -1 && cpu->seg[SEG_CS].base == 0x12340 &&
		   cpu->gpr[X86_GPR_RIP] == 0x1000,
	   "real mode: far JMP");
	ok(core->mapping_generation != generation, "another base of CS is a new generation");
}

static void questions(void)
{
	unsigned s = FLAT_FREE;

	start(FLAT_PROTECTED32, 3);
	descriptor(s, 0, 0x12345, DATA | DPL(3) | SEGA_AVL);
	cpu->gpr[RAX] = s;
	ok(flat_run(f, 0x4000, "\x0f\x02\xd8", 3) == -1 && (core->aflags & AF_ZF) && cpu->gpr[RBX] == 0x11f200,
	   "LAR %#lx", cpu->gpr[RBX]);
	ok(flat_run(f, 0x4000, "\x0f\x03\xd8", 3) == -1 && (core->aflags & AF_ZF) && cpu->gpr[RBX] == 0x12345, "LSL");
	ok(flat_run(f, 0x4000, "\x0f\x00\xe0", 3) == -1 && (core->aflags & AF_ZF), "VERR");
	ok(flat_run(f, 0x4000, "\x0f\x00\xe8", 3) == -1 && (core->aflags & AF_ZF), "VERW");
	descriptor(s, 0, 0x12345, CODE);
	ok(flat_run(f, 0x4000, "\x0f\x02\xd8", 3) == -1 && !(core->aflags & AF_ZF), "LAR of what is not visible");
	cpu->gpr[RAX] = 0x10;
	cpu->gpr[RCX] = 3;
	ok(flat_run(f, 0x4000, "\x63\xc8", 2) == -1 && (core->aflags & AF_ZF) && cpu->gpr[RAX] == 0x13, "ARPL");
	cpu->cr4 |= CR4_UMIP;
	ok(flat_run(f, 0x4000, "\x0f\x01\x05\x00\x60\x00\x00", 7) == VECTOR_GP &&
		   flat_run(f, 0x4000, "\x0f\x00\xc8", 3) == VECTOR_GP,
	   "UMIP: SGDT, STR");
	start(FLAT_LONG, 0);
	flat_put(FLAT_GDT + s, 8, flat_descriptor(0x1000, 0xff, SEGA_P | SYS_LDT));
	flat_put(FLAT_GDT + s + 8, 8, 0xffff8000);
	cpu->gpr[RAX] = s;
	ok(flat_run(f, 0x4000, "\x0f\x00\xd0", 3) == -1 && cpu->ldtr.base == 0xffff800000001000, "LLDT in long mode");
	ok(flat_run(f, 0x4000, "\x0f\x00\xd8", 3) == VECTOR_GP && core->fault.error == s, "LTR of an LDT");
	cpu->gpr[RAX] = FLAT_TR;
	ok(flat_run(f, 0x4000, "\x0f\x00\xd8", 3) == VECTOR_GP, "LTR of a busy TSS");
	flat_put(FLAT_GDT + FLAT_TR, 8, flat_descriptor(FLAT_TSS, 0x67, SEGA_P | SYS_TSS));
	ok(flat_run(f, 0x4000, "\x0f\x00\xd8", 3) == -1 && (flat_get(FLAT_GDT + FLAT_TR + 5, 1) & 2) &&
		   cpu->tr.limit == 0x67,
	   "LTR");
}

int main(void)
{
	data_loads();
	stack_loads();
	limits();
	call_gates();
	questions();
	return done();
}
