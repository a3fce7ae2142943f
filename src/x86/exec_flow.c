/* SPDX-License-Identifier: MIT */
/* Near control flow: JMP Jcc LOOP JrCXZ CALL RET. SDM volume 1 chapter 6 and volume 2. Far transfers are in exec_far.c. */
#include "x86/hostop.h"

void x86_jump_checked(struct x86_core *core, const struct insn *i, uint64_t target)
{
	if ((core->mode & MODE_CODE) == MODE_CODE64) {
		if ((uint64_t)sign_extend(target, 48) != target)
			x86_raise_error(core, i, VECTOR_GP, 0);
	} else {
		/* A 16-bit operand size clears the upper half of EIP. */
		target &= i->osize == 2 ? 0xffff : 0xffffffff;
		if (target > core->cpu.seg[SEG_CS].limit)
			x86_raise_error(core, i, VECTOR_GP, 0);
	}
	core->cpu.gpr[X86_GPR_RIP] = target;
}

/* A branch not taken goes to the next instruction without the truncation of a taken one. */
static inline void fall_through(struct x86_core *core, const struct insn *i)
{
	uint64_t next = x86_next_rip(core, i);
	core->cpu.gpr[X86_GPR_RIP] = (core->mode & MODE_CODE) == MODE_CODE64 ? next : (uint32_t)next;
}

/* 64-bit code: RIP has 64 bits, and only a target that is not canonical needs a closer look. Decoding gives near branches of 64-bit
 * code the size 8, so these stand at [3] in the tables. */
static inline void jump64(struct x86_core *core, const struct insn *i, uint64_t target)
{
	if (unlikely((uint64_t)((int64_t)(target << 16) >> 16) != target))
		X86_SLOW(x86_jump_checked, core, i, target, 0, 0);
	core->cpu.gpr[X86_GPR_RIP] = target;
}

#define JCC(cc)                                                                                                        \
	EXEC(jcc##cc##_64)                                                                                             \
	{                                                                                                              \
		uint64_t next = x86_next_rip(core, i);                                                                 \
		if (x86_condition(core, cc))                                                                           \
			jump64(core, i, next + i->imm);                                                                \
		else                                                                                                   \
			core->cpu.gpr[X86_GPR_RIP] = next;                                                             \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(jcc##cc)                                                                                                  \
	{                                                                                                              \
		if (x86_condition(core, cc))                                                                           \
			x86_jump(core, i, x86_next_rip(core, i) + i->imm);                                             \
		else                                                                                                   \
			fall_through(core, i);                                                                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_j##cc = { .by = { [FORM_I] = { NULL, jcc##cc, jcc##cc, jcc##cc##_64 } } };
JCC(0) JCC(1) JCC(2) JCC(3) JCC(4) JCC(5) JCC(6) JCC(7) JCC(8) JCC(9) JCC(10) JCC(11) JCC(12) JCC(13) JCC(14) JCC(15)

EXEC(jmp_rel)
{
	x86_jump(core, i, x86_next_rip(core, i) + i->imm);
	X86_NEXT(core, i);
}
EXEC(jmp_rel64)
{
	jump64(core, i, x86_next_rip(core, i) + i->imm);
	X86_NEXT(core, i);
}
EXEC(jmp_r)
{
	x86_jump(core, i, x86_reg(core, i->dst, i->size));
	X86_NEXT(core, i);
}
EXEC(jmp_m)
{
	x86_jump(core, i, x86_load(core, i, x86_address(core, i, i->size, ACCESS_READ), i->size));
	X86_NEXT(core, i);
}
#define ALL_SIZES(fn) { fn, fn, fn, fn }
const struct x86_forms x86_jmp = {
	.by = { [FORM_I] = { NULL, jmp_rel, jmp_rel, jmp_rel64 }, [FORM_R] = ALL_SIZES(jmp_r), [FORM_M] = ALL_SIZES(jmp_m) },
};

/* rCX of the address size counts. */
static uint64_t count_register(struct x86_core *core, const struct insn *i)
{
	return core->cpu.gpr[RCX] & size_mask(i->asize);
}

static void branch_if(struct x86_core *core, const struct insn *i, bool taken)
{
	if (taken)
		x86_jump(core, i, x86_next_rip(core, i) + i->imm);
	else
		fall_through(core, i);
}
EXEC(jrcxz)
{
	branch_if(core, i, !count_register(core, i));
	X86_NEXT(core, i);
}
#define LOOP(name, condition)                                                                                          \
	EXEC(name)                                                                                                     \
	{                                                                                                              \
		uint64_t left = (count_register(core, i) - 1) & size_mask(i->asize);                                   \
		branch_if(core, i, left && (condition));                                                               \
		x86_reg_set(core, RCX * 8, i->asize, left);                                                            \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = { .any = name };
LOOP(loop, true)
LOOP(loope, core->aflags & AF_ZF)
LOOP(loopne, !(core->aflags & AF_ZF))
const struct x86_forms x86_jrcxz = { .any = jrcxz };

static inline void call(struct x86_core *core, const struct insn *i, uint64_t target)
{
	unsigned size = i->osize;
	uint64_t back = x86_next_rip(core, i);
	gva_t top = x86_stack_address(core, i, -(int)size, size, ACCESS_WRITE);
	/* The target is checked before the stack is written. */
	if ((target & (size == 2 ? 0xffff : 0xffffffff)) > core->cpu.seg[SEG_CS].limit)
		x86_raise_error(core, i, VECTOR_GP, 0);
	x86_store(core, i, top, size, back);
	x86_stack_move(core, -(int)size);
	x86_jump(core, i, target);
}
EXEC(call_rel)
{
	call(core, i, x86_next_rip(core, i) + i->imm);
	X86_NEXT(core, i);
}
/* The stack has 64 bits in 64-bit code; the target is checked before the return address is stored. */
static inline void call64(struct x86_core *core, const struct insn *i, uint64_t target)
{
	uint64_t back = x86_next_rip(core, i), top = core->cpu.gpr[RSP] - 8;
	if (unlikely((uint64_t)((int64_t)(target << 16) >> 16) != target))
		X86_SLOW(x86_jump_checked, core, i, target, 0, 0); /* raises */
	x86_store64(core, i, top, back);
	core->cpu.gpr[RSP] = top;
	core->cpu.gpr[X86_GPR_RIP] = target;
}
EXEC(call_rel64)
{
	call64(core, i, x86_next_rip(core, i) + i->imm);
	X86_NEXT(core, i);
}
EXEC(call_r64)
{
	call64(core, i, *reg64(core, i->dst));
	X86_NEXT(core, i);
}
EXEC(call_m64)
{
	uint64_t target = x86_load64(core, i, x86_address(core, i, 8, ACCESS_READ));
	x86_stack_canonical(core, i, core->cpu.gpr[RSP] - 8, 8);
	call64(core, i, target);
	X86_NEXT(core, i);
}
EXEC(call_r)
{
	call(core, i, x86_reg(core, i->dst, i->size));
	X86_NEXT(core, i);
}
EXEC(call_m)
{
	call(core, i, x86_load(core, i, x86_address(core, i, i->size, ACCESS_READ), i->size));
	X86_NEXT(core, i);
}
const struct x86_forms x86_call = {
	.by = { [FORM_I] = { NULL, call_rel, call_rel, call_rel64 }, [FORM_R] = { NULL, call_r, call_r, call_r64 },
		[FORM_M] = { NULL, call_m, call_m, call_m64 } },
};

static inline void ret(struct x86_core *core, const struct insn *i, unsigned release)
{
	unsigned size = (core->mode & MODE_CODE) == MODE_CODE64 ? 8 : i->osize;
	gva_t top = x86_stack_address(core, i, 0, size, ACCESS_READ);
	x86_jump(core, i, x86_load(core, i, top, size));
	x86_stack_move(core, size + release);
}
EXEC(ret_plain)
{
	ret(core, i, 0);
	X86_NEXT(core, i);
}
EXEC(ret_release)
{
	ret(core, i, i->imm & 0xffff);
	X86_NEXT(core, i);
}
EXEC(ret64)
{
	uint64_t top = core->cpu.gpr[RSP];
	jump64(core, i, x86_load64(core, i, top));
	core->cpu.gpr[RSP] = top + 8;
	X86_NEXT(core, i);
}
const struct x86_forms x86_ret = {
	.by = { [FORM_NONE] = { NULL, ret_plain, ret_plain, ret64 }, [FORM_I] = ALL_SIZES(ret_release) },
};
