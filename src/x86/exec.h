/* SPDX-License-Identifier: MIT */
/* What every exec function is made of.
 *
 * The contract. An exec function runs instruction i and then either
 *   - goes on:    X86_NEXT(core, i), a tail call of i[1]. Whoever holds the instruction puts what shall happen next there:
 *                 the following instruction, or a terminator that ends a trace. RIP is not touched.
 *   - branches:   (rows of CLASS_CONTROL) sets RIP to the target by x86_jump, then X86_NEXT: i[1] is a terminator.
 *   - leaves:     x86_leave(core, i, completed); return;  after a change of mode, of interrupt or paging state, or
 *                 anything else the engine must look at before the next instruction.
 *   - raises:     x86_raise*(core, i, ...), which does not return.
 * A faulting instruction must leave the state as it found it (SDM 3A 6.5: restartable), so: loads and checks first,
 * then stores, then registers. A repeated string instruction may stop between two iterations by
 * x86_leave(core, i, false) with its registers advanced.
 *
 * Where the host has the same instruction, the function runs it, through the asm templates here; results and flags are
 * then the processor's own, also where the manual says undefined. Flags are kept as LAHF;SETO leave them in AX. */
#pragma once
#include "x86/mem.h"

#define X86_NEXT(core, i) TAIL_CALL return (i)[1].exec((core), (i) + 1)
#define EXEC(name) static void name(struct x86_core *core, const struct insn *i)
/* One with a local variable whose address is taken, and without X86_NEXT: the compiler would keep its frame while all that follows runs, so that a loop would
 * use up the host's stack. */
#define EXEC_FRAME(name)                                                                                               \
	static void name##_frame(struct x86_core *, const struct insn *);                                              \
	EXEC(name)                                                                                                     \
	{                                                                                                              \
		name##_frame(core, i);                                                                                 \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	static __attribute__((noinline)) void name##_frame(struct x86_core *core, const struct insn *i)

/* Flags in the AX form */
#define AF_CF 0x0100u
#define AF_PF 0x0400u
#define AF_AF 0x1000u
#define AF_ZF 0x4000u
#define AF_SF 0x8000u
#define AF_OF 0x0001u
#define AF_ALL (AF_CF | AF_PF | AF_AF | AF_ZF | AF_SF | AF_OF)

static inline bool x86_condition(const struct x86_core *core, unsigned cc)
{
	unsigned f = core->aflags;
	bool r;
	switch (cc >> 1 & 7) {
	case 0: r = f & AF_OF; break;
	case 1: r = f & AF_CF; break;
	case 2: r = f & AF_ZF; break;
	case 3: r = f & (AF_CF | AF_ZF); break;
	case 4: r = f & AF_SF; break;
	case 5: r = f & AF_PF; break;
	case 6: r = !(f & AF_SF) != !(f & AF_OF); break;
	default: r = (f & AF_ZF) || !(f & AF_SF) != !(f & AF_OF); break;
	}
	return r ^ (cc & 1);
}

/* Register operands by byte offset (insn.dst, src, src2). A 32-bit write clears the upper half. */
static inline uint8_t *reg8(struct x86_core *core, unsigned at) { return (uint8_t *)core->cpu.gpr + at; }
static inline any16 *reg16(struct x86_core *core, unsigned at) { return (any16 *)((char *)core->cpu.gpr + at); }
static inline any32 *reg32(struct x86_core *core, unsigned at) { return (any32 *)((char *)core->cpu.gpr + at); }
static inline any64 *reg64(struct x86_core *core, unsigned at) { return (any64 *)((char *)core->cpu.gpr + at); }

static inline uint64_t x86_reg(struct x86_core *core, unsigned at, unsigned size)
{
	switch (size) {
	case 1: return *reg8(core, at);
	case 2: return *reg16(core, at);
	case 4: return *reg32(core, at);
	default: return *reg64(core, at);
	}
}

static inline void x86_reg_set(struct x86_core *core, unsigned at, unsigned size, uint64_t value)
{
	switch (size) {
	case 1: *reg8(core, at) = (uint8_t)value; break;
	case 2: *reg16(core, at) = (uint16_t)value; break;
	case 4: *reg64(core, at) = (uint32_t)value; break;
	default: *reg64(core, at) = value; break;
	}
}

/* The form tells where the memory operand is, if there is one. */
static inline bool x86_dst_is_memory(const struct insn *i)
{
	return i->form == FORM_M || i->form == FORM_MR || i->form == FORM_MI || i->form == FORM_MRI || i->form == FORM_MRR;
}
static inline bool x86_src_is_memory(const struct insn *i)
{
	return i->form == FORM_RM || i->form == FORM_RMI;
}

/* The general, not specialised way to operands: for operations that are not hot. */
static inline uint64_t x86_dst_load(struct x86_core *core, const struct insn *i)
{
	return x86_dst_is_memory(i) ? x86_load(core, i, x86_address(core, i, i->size, ACCESS_READ), i->size)
				    : x86_reg(core, i->dst, i->size);
}
static inline void x86_dst_store(struct x86_core *core, const struct insn *i, uint64_t value)
{
	if (x86_dst_is_memory(i))
		x86_store(core, i, x86_address(core, i, i->size, ACCESS_WRITE), i->size, value);
	else
		x86_reg_set(core, i->dst, i->size, value);
}
/* The second operand: register, memory or immediate. */
static inline uint64_t x86_src_load(struct x86_core *core, const struct insn *i)
{
	if (x86_src_is_memory(i))
		return x86_load(core, i, x86_address(core, i, i->ssize, ACCESS_READ), i->ssize);
	if (i->form == FORM_RI || i->form == FORM_MI || i->form == FORM_I)
		return i->imm;
	return x86_reg(core, i->src, i->ssize);
}

/* The stack address of an instruction that has a memory operand too: a miss would blame that one's segment. What reaches only the stack
 * has INSN_STACK_SEG and needs no check. */
static inline void x86_stack_canonical(struct x86_core *core, const struct insn *i, gva_t gva, unsigned size)
{
	gva_t last = gva + size - 1;
	if (unlikely((gva_t)((int64_t)(gva << 16) >> 16) != gva || (gva_t)((int64_t)(last << 16) >> 16) != last) &&
	    (core->mode & MODE_STACK) == MODE_STACK64)
		x86_raise_error(core, i, VECTOR_SS, 0);
}

/* Linear RIP of the instruction behind i. */
static inline uint64_t x86_next_rip(struct x86_core *core, const struct insn *i)
{
	return core->cpu.gpr[X86_GPR_RIP] + i->offset + i->length;
}
/* Sets RIP to a branch target, truncated to the operand size; raises #GP when it is beyond the limit of CS or not canonical. In 64-bit
 * code a non-canonical target of a near branch is #GP of the branch (SDM 2 JMP, CALL, RET). */
void x86_jump_checked(struct x86_core *, const struct insn *i, uint64_t target); /* exec_flow.c */
static inline void x86_jump(struct x86_core *core, const struct insn *i, uint64_t target)
{
	if (likely((core->mode & MODE_CODE) == MODE_CODE64 && (uint64_t)((int64_t)(target << 16) >> 16) == target))
		core->cpu.gpr[X86_GPR_RIP] = target;
	else if ((core->mode & MODE_CODE) == MODE_CODE32 && i->osize == 4 && (uint32_t)target <= core->cpu.seg[SEG_CS].limit)
		core->cpu.gpr[X86_GPR_RIP] = (uint32_t)target;
	else
		X86_SLOW(x86_jump_checked, core, i, target, 0, 0);
}

/* exec_common.c -- what decoding puts in for instructions that cannot run. */
x86_exec_fn x86_exec_ud, x86_exec_nm, x86_exec_gp;
/* The terminators that any holder of single instructions may put behind one: a function that just returns. x86_exec_stop moves RIP over
 * the instructions before it and counts them; x86_exec_stop_jump only counts, RIP was set by the branch before it. */
x86_exec_fn x86_exec_stop, x86_exec_stop_jump;
/* Runs one decoded instruction (offset 0, index 0, RIP exact) and returns with RIP exact. May longjmp to core->unwind. */
void x86_exec_one(struct x86_core *, const struct insn *);

/* Split locks and read-modify-writes that the host cannot do atomically in place. */
#define PRIVILEGED(core, i)                                                                                            \
	do {                                                                                                           \
		if (unlikely((core)->cpl))                                                                             \
			x86_raise_error(core, i, VECTOR_GP, 0);                                                        \
	} while (0)
