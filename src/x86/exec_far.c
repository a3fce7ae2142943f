/* SPDX-License-Identifier: MIT */
/* Far JMP, CALL and RET, with call gates and task switches. SDM 2A JMP, CALL; 2B RET; 3A 5.8.
 *
 * Each runs in three steps: find the target with all checks, push or pop with all checks, set the registers. */
#include "x86/exec_system.h"
#include "x86/segment.h"

struct target {
	struct x86_descriptor cs;
	uint16_t selector;
	uint64_t offset;
	unsigned cpl;      /* that it will run with */
	unsigned size;     /* of what CALL pushes */
	unsigned params;   /* that a call gate copies */
	bool gate;
};

static _Noreturn void bad(struct x86_core *core, const struct insn *i, enum x86_vector vector, uint16_t selector)
{
	x86_raise_error(core, i, vector, x86_selector_error(selector));
}

static uint64_t next_rip(struct x86_core *core, const struct insn *i)
{
	uint64_t next = x86_next_rip(core, i);
	return (core->mode & MODE_CODE) == MODE_CODE64 ? next : (uint32_t)next;
}

/* The far pointer: immediate, or offset then selector in memory. */
static uint64_t read_pointer(struct x86_core *core, const struct insn *i, uint16_t *selector)
{
	uint64_t offset;

	if (i->form == FORM_I) {
		*selector = (uint16_t)i->disp;
		return i->imm & size_mask(i->osize);
	}
	gva_t at = x86_address(core, i, i->osize + 2, ACCESS_READ);
	offset = x86_load(core, i, at, i->osize);
	*selector = (uint16_t)x86_load16(core, i, at + i->osize);
	return offset;
}

/* Real and virtual-8086 mode. */
static void transfer_real(struct x86_core *core, const struct insn *i, uint16_t selector, uint64_t offset)
{
	struct x86_segment *cs = &core->cpu.seg[SEG_CS];

	x86_segment_set(core, SEG_CS, x86_segment_real(cs, selector, core->mode & MODE_V86));
	x86_leave_at(core, i, offset);
}

static void check_real_offset(struct x86_core *core, const struct insn *i, uint64_t offset)
{
	uint32_t limit = core->mode & MODE_V86 ? 0xffff : core->cpu.seg[SEG_CS].limit;

	if (offset > limit)
		x86_raise_error(core, i, VECTOR_GP, 0);
}

/* A code segment as the direct target of a JMP or CALL. */
static void check_direct(struct x86_core *core, const struct insn *i, struct target *t)
{
	uint32_t attr = x86_descriptor_attr(t->cs.raw);
	unsigned dpl = x86_descriptor_dpl(t->cs.raw);

	if (!x86_attr_is_code(attr))
		bad(core, i, VECTOR_GP, t->selector);
	if (attr & SEGA_CONFORMING ? dpl > core->cpl : (t->selector & 3u) > core->cpl || dpl != core->cpl)
		bad(core, i, VECTOR_GP, t->selector);
	if ((core->mode & MODE_LONG) && (attr & (SEGA_L | SEGA_DB)) == (SEGA_L | SEGA_DB))
		bad(core, i, VECTOR_GP, t->selector);
	if (!(attr & SEGA_P))
		bad(core, i, VECTOR_NP, t->selector);
	t->cpl = core->cpl;
	t->size = i->osize;
}

/* The code segment behind a call gate. */
static void check_gate(struct x86_core *core, const struct insn *i, struct target *t, uint64_t gate, uint64_t high,
		       bool call)
{
	bool wide = core->mode & MODE_LONG;
	unsigned type = x86_descriptor_system(gate);

	t->gate = true;
	t->selector = x86_gate_selector(gate);
	t->offset = x86_gate_offset(gate) | high << 32;
	if (type == SYS_CALL16)
		t->offset &= 0xffff;
	t->size = wide ? 8 : type == SYS_CALL16 ? 2 : 4;
	t->params = wide ? 0 : (unsigned)(gate >> 32) & 31;
	if (x86_selector_null(t->selector))
		x86_raise_error(core, i, VECTOR_GP, 0);
	if (!x86_descriptor_read(core, i, t->selector, &t->cs))
		bad(core, i, VECTOR_GP, t->selector);
	uint32_t attr = x86_descriptor_attr(t->cs.raw);
	unsigned dpl = x86_descriptor_dpl(t->cs.raw);
	if (!x86_attr_is_code(attr) || dpl > core->cpl)
		bad(core, i, VECTOR_GP, t->selector);
	if (!call && !(attr & SEGA_CONFORMING) && dpl != core->cpl)
		bad(core, i, VECTOR_GP, t->selector);
	if (wide && (attr & (SEGA_L | SEGA_DB)) != SEGA_L)
		bad(core, i, VECTOR_GP, t->selector);
	if (!(attr & SEGA_P))
		bad(core, i, VECTOR_NP, t->selector);
	t->cpl = attr & SEGA_CONFORMING ? core->cpl : dpl;
}

/* A system descriptor as the target. Returns true when it was a task, which runs now. */
static bool through_system(struct x86_core *core, const struct insn *i, struct target *t, bool call)
{
	uint16_t selector = t->selector;
	uint64_t gate = t->cs.raw;
	unsigned type = x86_descriptor_system(gate), dpl = x86_descriptor_dpl(gate);
	bool wide = core->mode & MODE_LONG;

	if (wide ? type != SYS_CALL
		 : type != SYS_CALL && type != SYS_CALL16 && type != SYS_TASK_GATE && type != SYS_TSS16 &&
			    type != SYS_TSS)
		bad(core, i, VECTOR_GP, selector);
	if (dpl < core->cpl || dpl < (selector & 3u))
		bad(core, i, VECTOR_GP, selector);
	if (wide && !x86_descriptor_read_high(core, i, selector, &t->cs))
		bad(core, i, VECTOR_GP, selector);
	if (!(x86_descriptor_attr(gate) & SEGA_P))
		bad(core, i, VECTOR_NP, selector);
	if (type == SYS_CALL || type == SYS_CALL16) {
		check_gate(core, i, t, gate, t->cs.high, call);
		return false;
	}
	if (type == SYS_TASK_GATE)
		selector = x86_gate_selector(gate);
	uint64_t retired = core->icount + i->index + 1u;
	x86_task_switch(core, i, selector, call ? TASK_CALL : TASK_JUMP, 0, next_rip(core, i));
	core->icount = retired;
	return true;
}

void x86_check_offset(struct x86_core *core, const struct insn *i, const struct x86_descriptor *cs, uint64_t offset)
{
	if (!x86_code_offset_ok(core, cs->raw, offset))
		x86_raise_error(core, i, VECTOR_GP, 0);
}

/* Finds and checks the target in protected mode. True: a task switch did it all. */
static bool find_target(struct x86_core *core, const struct insn *i, uint16_t selector, uint64_t offset, bool call,
			struct target *t)
{
	*t = (struct target){ .selector = selector, .offset = offset };
	if (x86_selector_null(selector))
		x86_raise_error(core, i, VECTOR_GP, 0);
	if (!x86_descriptor_read(core, i, selector, &t->cs))
		bad(core, i, VECTOR_GP, selector);
	if (x86_descriptor_attr(t->cs.raw) & SEGA_S)
		check_direct(core, i, t);
	else if (through_system(core, i, t, call))
		return true;
	if (t->cpl == core->cpl) /* else once the new stack is found: SDM 2A CALL, "more privilege" */
		x86_check_offset(core, i, &t->cs, t->offset);
	x86_descriptor_touch(core, i, &t->cs);
	return false;
}

EXEC(jmp_far)
{
	struct target t;
	uint16_t selector;
	uint64_t offset = read_pointer(core, i, &selector);

	if (!(core->mode & MODE_PROTECTED)) {
		check_real_offset(core, i, offset);
		transfer_real(core, i, selector, offset);
		return;
	}
	if (find_target(core, i, selector, offset, false, &t))
		return;
	x86_segment_set_code(core, &t.cs, t.selector, t.cpl);
	x86_leave_at(core, i, t.offset);
}

static void call_real(struct x86_core *core, const struct insn *i, uint16_t selector, uint64_t offset)
{
	struct x86_frame f = x86_frame_current(core, i, 0);

	check_real_offset(core, i, offset);
	x86_frame_push(core, &f, i->osize, core->cpu.seg[SEG_CS].selector);
	x86_frame_push(core, &f, i->osize, next_rip(core, i));
	x86_frame_commit(core, &f);
	transfer_real(core, i, selector, offset);
}

/* Through a gate to an inner privilege: a new stack, on which the old one's pointer and the parameters go. */
static struct x86_frame call_inner(struct x86_core *core, const struct insn *i, const struct target *t)
{
	const struct x86_cpu *cpu = &core->cpu;
	struct x86_frame old = x86_frame_current(core, i, 0), f;
	uint64_t sp, param[31];
	struct x86_segment ss = x86_tss_stack(core, i, t->cpl, 0, 0, &sp);

	x86_check_offset(core, i, &t->cs, t->offset);
	f = x86_frame_new(core, i, ss, sp, t->cpl, core->mode & MODE_LONG ? 0 : x86_selector_error(ss.selector));
	for (unsigned n = 0; n < t->params; n++)
		param[n] = x86_frame_pop(core, &old, t->size);
	x86_frame_push(core, &f, t->size, cpu->seg[SEG_SS].selector);
	x86_frame_push(core, &f, t->size, cpu->gpr[RSP]);
	for (unsigned n = t->params; n--;)
		x86_frame_push(core, &f, t->size, param[n]);
	return f;
}

EXEC(call_far)
{
	struct target t;
	struct x86_frame f;
	uint16_t selector;
	uint64_t offset = read_pointer(core, i, &selector);

	if (!(core->mode & MODE_PROTECTED)) {
		call_real(core, i, selector, offset);
		return;
	}
	if (find_target(core, i, selector, offset, true, &t))
		return;
	bool inner = t.cpl != core->cpl;
	f = inner ? call_inner(core, i, &t) : x86_frame_current(core, i, 0);
	if (t.gate && (core->mode & MODE_LONG))
		f.mask = ~0ULL; /* it ends in 64-bit code, whatever the mode of the caller */
	x86_frame_push(core, &f, t.size, core->cpu.seg[SEG_CS].selector);
	x86_frame_push(core, &f, t.size, next_rip(core, i));
	if (inner)
		core->cpu.seg[SEG_SS] = f.ss;
	x86_frame_commit(core, &f);
	x86_segment_set_code(core, &t.cs, t.selector, t.cpl);
	x86_leave_at(core, i, t.offset);
}

void x86_return_code(struct x86_core *core, const struct insn *i, uint16_t selector, struct x86_descriptor *cs)
{
	unsigned rpl = selector & 3;

	if (x86_selector_null(selector))
		x86_raise_error(core, i, VECTOR_GP, 0);
	if (!x86_descriptor_read(core, i, selector, cs))
		bad(core, i, VECTOR_GP, selector);
	uint32_t attr = x86_descriptor_attr(cs->raw);
	unsigned dpl = x86_descriptor_dpl(cs->raw);
	if (!x86_attr_is_code(attr) || rpl < core->cpl || (attr & SEGA_CONFORMING ? dpl > rpl : dpl != rpl))
		bad(core, i, VECTOR_GP, selector);
	if ((core->mode & MODE_LONG) && (attr & (SEGA_L | SEGA_DB)) == (SEGA_L | SEGA_DB))
		bad(core, i, VECTOR_GP, selector);
	if (!(attr & SEGA_P))
		bad(core, i, VECTOR_NP, selector);
}

struct x86_segment x86_return_stack(struct x86_core *core, const struct insn *i, uint16_t selector, unsigned cpl,
				    bool to64)
{
	struct x86_descriptor d;

	if (x86_selector_null(selector)) {
		if (!to64 || cpl == 3 || (selector & 3u) != cpl)
			x86_raise_error(core, i, VECTOR_GP, 0);
		return x86_segment_null(selector, cpl);
	}
	if (!x86_descriptor_read(core, i, selector, &d))
		bad(core, i, VECTOR_GP, selector);
	unsigned vector = x86_check_stack(d.raw, selector, cpl);
	if (vector)
		bad(core, i, vector, selector);
	x86_descriptor_touch(core, i, &d);
	return x86_segment_of(&d, selector);
}

void x86_return_stack_pointer(struct x86_core *core, uint64_t sp, unsigned size)
{
	uint64_t *rsp = &core->cpu.gpr[RSP];

	if ((core->mode & MODE_STACK) == MODE_STACK16)
		*rsp = (*rsp & ~0xffffULL) | (sp & 0xffff);
	else
		*rsp = (core->mode & MODE_STACK) == MODE_STACK64 && size == 8 ? sp : (uint32_t)sp;
}

EXEC(ret_far)
{
	struct x86_frame f = x86_frame_current(core, i, 0);
	uint64_t release = i->form == FORM_I ? i->imm & 0xffff : 0;
	uint64_t offset = x86_frame_pop(core, &f, i->osize);
	uint16_t selector = (uint16_t)x86_frame_pop(core, &f, i->osize);
	struct x86_descriptor cs;

	f.sp = (f.sp & ~f.mask) | ((f.sp + release) & f.mask);
	if (!(core->mode & MODE_PROTECTED)) {
		check_real_offset(core, i, offset);
		x86_frame_commit(core, &f);
		transfer_real(core, i, selector, offset);
		return;
	}
	unsigned cpl = selector & 3;
	x86_return_code(core, i, selector, &cs);
	if (cpl == core->cpl) {
		x86_check_offset(core, i, &cs, offset);
		x86_descriptor_touch(core, i, &cs);
		x86_frame_commit(core, &f);
		x86_segment_set_code(core, &cs, selector, cpl);
		x86_leave_at(core, i, offset);
		return;
	}
	bool to64 = (core->mode & MODE_LONG) && (x86_descriptor_attr(cs.raw) & SEGA_L);
	uint64_t sp = x86_frame_pop(core, &f, i->osize);
	uint16_t ss_selector = (uint16_t)x86_frame_pop(core, &f, i->osize);
	struct x86_segment ss = x86_return_stack(core, i, ss_selector, cpl, to64);
	x86_check_offset(core, i, &cs, offset);
	x86_descriptor_touch(core, i, &cs);
	core->cpu.seg[SEG_SS] = ss;
	x86_segment_set_code(core, &cs, selector, cpl);
	x86_return_stack_pointer(core, sp, i->osize);
	x86_stack_move(core, (int64_t)release);
	x86_segments_lower(core);
	x86_leave_at(core, i, offset);
}

const struct x86_forms x86_jmp_far = { .any = jmp_far };
const struct x86_forms x86_call_far = { .any = call_far };
const struct x86_forms x86_ret_far = { .any = ret_far };
