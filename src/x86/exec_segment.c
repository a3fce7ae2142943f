/* SPDX-License-Identifier: MIT */
/* Segment registers: MOV, PUSH, POP, LDS and its kind; asking about descriptors: LAR, LSL, VERR, VERW, ARPL. SDM
 * volume 2. */
#include "x86/exec_system.h"
#include "x86/segment.h"

/* Goes on, unless what follows was decoded for a mode that ended with this instruction. */
#define NEXT_IN_MODE(core, i, before)                                                                                  \
	do {                                                                                                           \
		if (likely((core)->mode == (before)))                                                                  \
			X86_NEXT(core, i);                                                                             \
		x86_leave(core, i, true);                                                                              \
		return;                                                                                                \
	} while (0)

EXEC(mov_from_sreg)
{
	if (i->form == FORM_MR)
		x86_store16(core, i, x86_address(core, i, 2, ACCESS_WRITE), core->cpu.seg[i->src].selector);
	else
		x86_reg_set(core, i->dst, i->size, core->cpu.seg[i->src].selector);
	X86_NEXT(core, i);
}

EXEC(mov_to_sreg)
{
	uint32_t before = core->mode;
	uint16_t selector =
		i->form == FORM_RM ? x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ)) : *reg16(core, i->src);

	if (i->dst == SEG_CS)
		x86_raise(core, i, VECTOR_UD);
	x86_segment_set(core, i->dst, x86_segment_prepare(core, i, i->dst, selector));
	if (i->dst == SEG_SS) {
		core->cpu.interrupt_shadow = X86_SHADOW_MOV_SS;
		x86_leave(core, i, true);
		return;
	}
	NEXT_IN_MODE(core, i, before);
}

static unsigned stack_size(const struct x86_core *core, const struct insn *i)
{
	return x86_in_64bit(core) && i->osize == 4 ? 8 : i->osize;
}

EXEC(push_sreg)
{
	unsigned size = stack_size(core, i);
	uint16_t selector = core->cpu.seg[i->dst].selector;
	gva_t at = x86_stack_address(core, i, -(int64_t)size, size, ACCESS_WRITE);

	/* With 32 bits the processor moves the stack pointer by 4, but writes 16 bits. */
	x86_store(core, i, at, size == 4 ? 2 : size, selector);
	x86_stack_move(core, -(int64_t)size);
	X86_NEXT(core, i);
}

EXEC(pop_sreg)
{
	unsigned size = stack_size(core, i);
	uint32_t before = core->mode;
	gva_t at = x86_stack_address(core, i, 0, size, ACCESS_READ);
	uint16_t selector = (uint16_t)x86_load(core, i, at, size == 4 ? 2 : size);
	struct x86_segment value = x86_segment_prepare(core, i, i->dst, selector);

	x86_stack_move(core, size);
	x86_segment_set(core, i->dst, value);
	if (i->dst == SEG_SS) {
		core->cpu.interrupt_shadow = X86_SHADOW_MOV_SS;
		x86_leave(core, i, true);
		return;
	}
	NEXT_IN_MODE(core, i, before);
}

static unsigned segment_of(const struct insn *i)
{
	switch (i->op) {
	case X86_OP_LDS: return SEG_DS;
	case X86_OP_LES: return SEG_ES;
	case X86_OP_LSS: return SEG_SS;
	case X86_OP_LFS: return SEG_FS;
	default: return SEG_GS;
	}
}

EXEC(load_far)
{
	unsigned seg = segment_of(i);
	uint32_t before = core->mode;
	gva_t at = x86_address(core, i, i->size + 2u, ACCESS_READ);
	uint64_t offset = x86_load(core, i, at, i->size);
	uint16_t selector = x86_load16(core, i, at + i->size);
	struct x86_segment value = x86_segment_prepare(core, i, seg, selector);

	x86_reg_set(core, i->dst, i->size, offset);
	x86_segment_set(core, seg, value);
	NEXT_IN_MODE(core, i, before);
}

/* The instructions below do not exist in real and virtual-8086 mode. */
static void need_protected(struct x86_core *core, const struct insn *i)
{
	if (!(core->mode & MODE_PROTECTED))
		x86_raise(core, i, VECTOR_UD);
}

static void set_zf(struct x86_core *core, bool zf)
{
	core->aflags = (uint16_t)(zf ? core->aflags | AF_ZF : core->aflags & ~AF_ZF);
}

static uint16_t selector_operand(struct x86_core *core, const struct insn *i)
{
	if (i->form == FORM_RM || i->form == FORM_M)
		return x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ));
	return *reg16(core, i->form == FORM_R ? i->dst : i->src);
}

/* Would the descriptor be visible to code with this CPL and RPL? Conforming code always is. */
static bool visible(const struct x86_core *core, uint16_t selector, uint64_t raw)
{
	uint32_t attr = x86_descriptor_attr(raw);

	if (x86_attr_is_code(attr) && (attr & SEGA_CONFORMING))
		return true;
	return MAX(core->cpl, selector & 3u) <= x86_descriptor_dpl(raw);
}

/* System descriptor types that LAR and LSL know: a bit for each type. */
#define LAR_TYPES (BIT(1) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(9) | BIT(11) | BIT(12))
#define LAR_TYPES_LONG (BIT(2) | BIT(9) | BIT(11) | BIT(12))
#define LSL_TYPES (BIT(1) | BIT(2) | BIT(3) | BIT(9) | BIT(11))
#define LSL_TYPES_LONG (BIT(2) | BIT(9) | BIT(11))

static bool look_up(struct x86_core *core, const struct insn *i, uint64_t types, struct x86_descriptor *d)
{
	uint16_t selector = selector_operand(core, i);

	if (x86_selector_null(selector) || !x86_descriptor_read(core, i, selector, d))
		return false;
	if (!(d->raw & BIT(44)) && !(types >> x86_descriptor_system(d->raw) & 1))
		return false;
	return visible(core, selector, d->raw);
}

EXEC_FRAME(lar)
{
	struct x86_descriptor d;

	need_protected(core, i);
	bool found = look_up(core, i, core->mode & MODE_LONG ? LAR_TYPES_LONG : LAR_TYPES, &d);
	if (found)
		x86_reg_set(core, i->dst, i->size, (d.raw >> 32) & (i->size == 2 ? 0xff00 : 0xffff00));
	set_zf(core, found);
}

EXEC_FRAME(lsl)
{
	struct x86_descriptor d;

	need_protected(core, i);
	bool found = look_up(core, i, core->mode & MODE_LONG ? LSL_TYPES_LONG : LSL_TYPES, &d);
	if (found)
		x86_reg_set(core, i->dst, i->size, x86_segment_of(&d, 0).limit);
	set_zf(core, found);
}

static bool verify(struct x86_core *core, const struct insn *i, bool write)
{
	struct x86_descriptor d;

	need_protected(core, i);
	if (!look_up(core, i, 0, &d))
		return false;
	uint32_t attr = x86_descriptor_attr(d.raw);
	if (attr & SEGA_CODE)
		return !write && (attr & SEGA_READABLE);
	return !write || (attr & SEGA_WRITABLE);
}

EXEC(verr)
{
	set_zf(core, verify(core, i, false));
	X86_NEXT(core, i);
}

EXEC(verw)
{
	set_zf(core, verify(core, i, true));
	X86_NEXT(core, i);
}

EXEC(arpl)
{
	need_protected(core, i);
	bool memory = i->form == FORM_MR; /* it is read first, and written only when it changes */
	gva_t at = memory ? x86_address(core, i, 2, ACCESS_READ) : 0;
	uint16_t value = memory ? x86_load16(core, i, at) : *reg16(core, i->dst), rpl = *reg16(core, i->src) & 3;
	bool raise = (value & 3) < rpl;
	if (raise) {
		value = (uint16_t)((value & ~3u) | rpl);
		if (memory)
			x86_store16(core, i, x86_address(core, i, 2, ACCESS_WRITE), value);
		else
			*reg16(core, i->dst) = value;
	}
	set_zf(core, raise);
	X86_NEXT(core, i);
}

const struct x86_forms x86_mov_from_sreg = { .any = mov_from_sreg };
const struct x86_forms x86_mov_to_sreg = { .any = mov_to_sreg };
const struct x86_forms x86_push_sreg = { .any = push_sreg };
const struct x86_forms x86_pop_sreg = { .any = pop_sreg };
const struct x86_forms x86_load_far = { .any = load_far };
const struct x86_forms x86_lar = { .any = lar };
const struct x86_forms x86_lsl = { .any = lsl };
const struct x86_forms x86_verr = { .any = verr };
const struct x86_forms x86_verw = { .any = verw };
const struct x86_forms x86_arpl = { .any = arpl };
