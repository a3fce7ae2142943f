/* SPDX-License-Identifier: MIT */
/* PUSH POP PUSHA POPA ENTER LEAVE: SDM volume 2, and volume 1 chapter 6. */
#include "x86/hostop.h"

/* The value is read before RSP moves, so that PUSH RSP stores the old one; nothing moves if the store faults. */
#define PUSH_SIZE(size, type, suffix, reg, dummy)                                                                      \
	static inline void push##size(struct x86_core *core, const struct insn *i, type value)                         \
	{                                                                                                              \
		STORE_##size(core, i, x86_stack_address(core, i, -size, size, ACCESS_WRITE), value);                   \
		x86_stack_move(core, -size);                                                                           \
	}                                                                                                              \
	EXEC(push_r##size)                                                                                             \
	{                                                                                                              \
		push##size(core, i, *REG_PTR(size, i->dst));                                                           \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(push_m##size)                                                                                             \
	{                                                                                                              \
		type v = LOAD_##size(core, i, x86_address(core, i, size, ACCESS_READ));                                \
		x86_stack_canonical(core, i, core->cpu.gpr[RSP] - size, size);                                         \
		push##size(core, i, v);                                                                                \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(pop_r##size)                                                                                              \
	{                                                                                                              \
		type v = LOAD_##size(core, i, x86_stack_address(core, i, 0, size, ACCESS_READ));                       \
		x86_stack_move(core, size);                                                                            \
		REG_SET(size, i->dst, v);                                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	/* POP to memory computes an address by RSP with the RSP after the pop. */                                     \
	EXEC_FRAME(pop_m##size)                                                                                              \
	{                                                                                                              \
		x86_stack_canonical(core, i, core->cpu.gpr[RSP], size);                                                \
		type v = LOAD_##size(core, i, x86_stack_address(core, i, 0, size, ACCESS_READ));                       \
		struct insn moved = *i;                                                                                \
		if (i->base == RSP * 8)                                                                                \
			moved.disp += size;                                                                            \
		STORE_##size(core, i, x86_address(core, &moved, size, ACCESS_WRITE), v);                               \
		x86_stack_move(core, size);                                                                            \
	}
HOST_WIDE(PUSH_SIZE, 0)

/* An immediate is pushed with the effective operand size. */
EXEC(push_i)
{
	switch (i->osize) {
	case 2: push2(core, i, (uint16_t)i->imm); break;
	case 4: push4(core, i, (uint32_t)i->imm); break;
	default: push8(core, i, i->imm); break;
	}
	X86_NEXT(core, i);
}
#define WIDE(prefix) { NULL, prefix##2, prefix##4, prefix##8 }
const struct x86_forms x86_push = {
	.by = { [FORM_R] = WIDE(push_r), [FORM_M] = WIDE(push_m), [FORM_I] = { push_i, push_i, push_i, push_i } },
};
const struct x86_forms x86_pop = { .by = { [FORM_R] = WIDE(pop_r), [FORM_M] = WIDE(pop_m) } };

EXEC(pusha)
{
	unsigned size = i->osize;
	uint64_t value[8];
	for (unsigned r = 0; r < 8; r++)
		value[r] = core->cpu.gpr[r];
	for (unsigned r = 0; r < 8; r++) /* all eight are checked before the first is stored */
		x86_check_write(core, i, x86_stack_address(core, i, -(int)((r + 1) * size), size, ACCESS_WRITE), size);
	for (unsigned r = 0; r < 8; r++)
		x86_store(core, i, x86_stack_address(core, i, -(int)((r + 1) * size), size, ACCESS_WRITE), size, value[r]);
	x86_stack_move(core, -(int)(8 * size));
	X86_NEXT(core, i);
}
EXEC(popa)
{
	unsigned size = i->osize;
	uint64_t value[8];
	for (unsigned r = 0; r < 8; r++)
		value[7 - r] = x86_load(core, i, x86_stack_address(core, i, (int)(r * size), size, ACCESS_READ), size);
	x86_stack_move(core, (int)(8 * size));
	for (unsigned r = 0; r < 8; r++)
		if (r != RSP)
			x86_reg_set(core, r * 8, size, value[r]);
	X86_NEXT(core, i);
}
const struct x86_forms x86_pusha = { .any = pusha }, x86_popa = { .any = popa };

/* The stack pointer `delta` bytes away from another register's value, wrapped as SS.B says. */
static uint64_t stack_wrap(struct x86_core *core, uint64_t value)
{
	uint32_t width = core->mode & MODE_STACK;
	return width == MODE_STACK64 ? value : width == MODE_STACK32 ? (uint32_t)value
								      : (core->cpu.gpr[RSP] & ~0xffffULL) | (uint16_t)value;
}

EXEC(enter)
{
	unsigned size = i->osize, level = (i->imm >> 16) & 31, locals = i->imm & 0xffff;
	int64_t delta = -(int64_t)size;
	uint64_t rbp = core->cpu.gpr[RBP], rsp = core->cpu.gpr[RSP];
	x86_store(core, i, x86_stack_address(core, i, delta, size, ACCESS_WRITE), size, rbp);
	uint64_t frame = stack_wrap(core, rsp + (uint64_t)delta);
	for (unsigned n = 1; n < level; n++) {
		gva_t from = x86_stack_address(core, i, (int64_t)(rbp - n * size - rsp), size, ACCESS_READ);
		uint64_t link = x86_load(core, i, from, size); /* of the caller's display */
		delta -= size;
		x86_store(core, i, x86_stack_address(core, i, delta, size, ACCESS_WRITE), size, link);
	}
	if (level) {
		delta -= size;
		x86_store(core, i, x86_stack_address(core, i, delta, size, ACCESS_WRITE), size, frame);
	}
	delta -= locals;
	/* The new top must be writable, though nothing is written (SDM 2, ENTER). */
	x86_check_write(core, i, x86_stack_address(core, i, delta, size, ACCESS_WRITE), size);
	x86_stack_move(core, delta);
	x86_reg_set(core, RBP * 8, size, frame);
	X86_NEXT(core, i);
}
const struct x86_forms x86_enter = { .any = enter };

EXEC(leave)
{
	int64_t delta = (int64_t)(core->cpu.gpr[RBP] - core->cpu.gpr[RSP]);
	unsigned size = i->osize;
	uint64_t rbp = x86_load(core, i, x86_stack_address(core, i, delta, size, ACCESS_READ), size);
	x86_stack_move(core, delta + size);
	x86_reg_set(core, RBP * 8, size, rbp);
	X86_NEXT(core, i);
}
const struct x86_forms x86_leave_ = { .any = leave };
