/* SPDX-License-Identifier: MIT */
/* What the kernel does at each entry and exit, in line. SDM volume 2. What leaves for an exec function each time, but needs no vector register for its
 * work, is in quick.c. */
#include "engine/bt/translate.h"
#include "x86/cpuid.h"
#include "x86/features.h"

static void add_field(struct emit *e, int32_t field)
{
	emit_load(e, HOST_X, state_at(field));
	emit_lea(e, HOST_T, operand_sum(HOST_T, HOST_X, 0, 0));
}

static bool pushf(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (i->osize != t->width)
		return false;
	emit8(e, 0x9c); /* PUSHF; POP R15: there is room for that before struct bt_state */
	emit8(e, 0x41);
	emit8(e, 0x5f);
	emit_pext(e, HOST_T, HOST_T, state_at(BT_ARITH_MASK));
	emit_pdep(e, HOST_T, HOST_T, state_at(BT_ARITH_MASK));
	add_field(e, BT_RFLAGS);
	add_field(e, BT_IF);
	add_field(e, BT_AC);
	emit_store(e, state_at(BT_SAVED), HOST_T);
	struct operand top = memory_stack(t, -(int)t->width, t->width, true, ALIGNED);
	emit_lea(e, HOST_X, top);
	emit_load(e, HOST_T, state_at(BT_SAVED));
	emit_op(e, t->width == 8, 0x89, HOST_T, operand_at(HOST_X, 0));
	emit_op(e, t->width == 8, 0x8d, HOST_GUEST_RSP, operand_at(HOST_GUEST_RSP, -(int)t->width));
	return true;
}

/* The instruction behind it runs before any interrupt: there must be one in this block, where none is taken. What waits for
 * the interrupt flag is a case for the exec function. */
static bool sti(struct translation *t, const struct insn *i)
{
	if (t->id + 1 == t->block->insn + t->block->count)
		return false;
	emit_load(&t->e, HOST_X, state_at(BT_NO_EVENT));
	memory_exec_if_zero(t);
	emit_store_constant(&t->e, BT_IF, FLAG_IF);
	return true;
}

static bool swapgs(struct translation *t)
{
	struct emit *e = &t->e;
	struct operand kernel = operand_at(HOST_T, offsetof(struct x86_core, cpu.kernel_gs_base));

	emit_load(e, HOST_T, state_at(BT_CORE));
	emit_load(e, HOST_X, kernel);
	emit_store(e, state_at(BT_SAVED), HOST_X);
	emit_load(e, HOST_X, state_at(BT_GS_BASE));
	emit_store(e, kernel, HOST_X);
	emit_load(e, HOST_X, state_at(BT_SAVED));
	emit_store(e, operand_at(HOST_T, offsetof(struct x86_core, cpu.seg[SEG_GS].base)), HOST_X);
	emit_store(e, state_at(BT_GS_BASE), HOST_X);
	return true;
}

static bool set_ac(struct translation *t, bool ac)
{
	struct emit *e = &t->e;

	if (!x86_has(&t->bt->vcpu->core, FEATURE_SMAP))
		return false;
	emit_load(e, HOST_STATE, state_at(BT_RSPS + 8 * ac));
	emit_store(e, state_at(BT_RSP), HOST_STATE);
	emit_store_constant(e, BT_AC, ac ? FLAG_AC : 0);
	return true;
}

/* DF is clear but where the guest runs a string backwards: then the exec function does it. */
static bool cld(struct translation *t)
{
	struct emit *e = &t->e;
	uint32_t clear;

	emit_load(e, HOST_X, state_at(BT_RFLAGS));
	emit_constant(e, HOST_T, FLAG_DF);
	emit_pext(e, HOST_X, HOST_X, operand_reg(HOST_T));
	clear = emit_short(e, 0xe3);
	memory_exec(t);
	emit_patch_short(e, clear, e->at);
	return true;
}

/* MOV from CR0, CR2, CR3 and CR4. */
static bool from_control(struct translation *t, const struct insn *i)
{
	static const uint32_t at[16] = {
		offsetof(struct x86_core, cpu.cr0), 0, offsetof(struct x86_core, cpu.cr2), offsetof(struct x86_core, cpu.cr3),
		offsetof(struct x86_core, cpu.cr4),
	};
	unsigned host = guest_host(i->dst / 8), from = i->modrm_reg & 15;

	if (host == HOST_NONE || host == HOST_GUEST_RSP || from == 1 || from > 4)
		return false;
	emit_load(&t->e, HOST_T, state_at(BT_CORE));
	emit_op(&t->e, t->width == 8, 0x8b, host, operand_at(HOST_T, (int32_t)at[from]));
	return true;
}

/* With HOST_T: struct x86_core */
static struct operand selector_at(unsigned seg)
{
	return operand_at(HOST_T, (int32_t)(offsetof(struct x86_core, cpu.seg) + seg * sizeof(struct x86_segment) +
					    offsetof(struct x86_segment, selector)));
}

/* MOV from a segment register */
static bool from_segment(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;
	struct operand selector = selector_at(i->src);
	unsigned host = i->form == FORM_MR ? HOST_T : guest_host(i->dst / 8);
	struct ea ea;

	if (host == HOST_NONE || host == HOST_GUEST_RSP || (i->form == FORM_MR && !memory_address(t, i, &ea)))
		return false;
	if (i->form != FORM_MR) {
		emit_load(e, HOST_T, state_at(BT_CORE));
		if (i->size == 2)
			emit8(e, 0x66);
		if (i->size == 2)
			emit_op(e, false, 0x8b, host, selector);
		else
			emit_op0f(e, false, 0xb7, host, selector); /* MOVZX */
		return true;
	}
	struct operand rm = memory_access(t, &ea, 2, true, memory_aligned(t, i, &ea, 2) ? ALIGNED : CHECKED);
	memory_free(t, &rm);
	emit_load(e, HOST_T, state_at(BT_CORE));
	emit_op0f(e, false, 0xb7, HOST_T, selector);
	emit8(e, 0x66);
	emit_op(e, false, 0x89, HOST_T, rm);
	return true;
}

/* As the processor does it: 16 bits are written. */
static bool push_segment(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (t->width != 4 || i->osize != 4)
		return false;
	struct operand top = memory_stack(t, -4, 2, true, ALIGNED);
	memory_free(t, &top);
	emit_load(e, HOST_T, state_at(BT_CORE));
	emit_op0f(e, false, 0xb7, HOST_T, selector_at(i->dst));
	emit8(e, 0x66);
	emit_op(e, false, 0x89, HOST_T, top);
	emit_op(e, false, 0x8d, HOST_GUEST_RSP, operand_at(HOST_GUEST_RSP, -4));
	return true;
}

/* MOV and POP to ES, DS, FS and GS: the selector goes to quick.c, in R15. */
static bool to_segment(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;
	struct ea ea;

	if (i->dst == SEG_CS || i->dst == SEG_SS)
		return false;
	if (i->op == X86_OP_POP_SREG) {
		if (t->width != 4 || i->osize != 4)
			return false;
		struct operand top = memory_stack(t, 0, 2, false, ALIGNED);
		emit_op0f(e, false, 0xb7, HOST_T, top);
	} else if (i->form == FORM_RM) {
		if (!memory_address(t, i, &ea))
			return false;
		struct operand rm = memory_access(t, &ea, 2, false, memory_aligned(t, i, &ea, 2) ? ALIGNED : CHECKED);
		emit_op0f(e, false, 0xb7, HOST_T, rm);
	} else {
		unsigned host = guest_host(i->src / 8);
		emit_op0f(e, false, 0xb7, HOST_T, host == HOST_NONE ? guest_slot(i->src / 8) : operand_reg(host));
	}
	emit_constant(e, HOST_X, t->id);
	emit_jump_through(e, state_at(BT_QUICK));
	t->rec->calls_exec = true;
	return true;
}

/* What changes more than arithmetic flags is for the exec function. RFLAGS and the value are compared by a sum, which changes no flags: value + ~RFLAGS + 1,
 * but that the value lacks what is always set. Behind that they may change. */
static bool popf(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;
	uint32_t same;

	if (i->osize != t->width)
		return false;
	struct operand top = memory_stack(t, 0, t->width, false, ALIGNED);
	emit_op(e, t->width == 8, 0x8b, HOST_T, top);
	emit_store(e, state_at(BT_SAVED), HOST_T);
	emit_load(e, HOST_T, state_at(BT_RFLAGS));
	add_field(e, BT_IF);
	add_field(e, BT_AC);
	emit_op(e, true, 0xf7, 2, operand_reg(HOST_T)); /* NOT */
	emit_load(e, HOST_X, state_at(BT_SAVED));
	emit_pext(e, HOST_X, HOST_X, state_at(BT_POPF_MASK));
	emit_pdep(e, HOST_X, HOST_X, state_at(BT_POPF_MASK));
	emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 1 + FLAG_FIXED));
	same = emit_short(e, 0xe3);
	memory_exec(t);
	emit_patch_short(e, same, e->at);
	memory_room_for(t, 50);
	emit_load(e, HOST_T, state_at(BT_SAVED));
	emit_mov(e, HOST_X, RAX);
	emit_lea32(e, RAX, operand_at(HOST_T, 0));
	emit8(e, 0xc1); /* SHR EAX, 11: OF */
	emit8(e, 0xe8);
	emit8(e, 11);
	emit8(e, 0x83); /* AND EAX, 1 */
	emit8(e, 0xe0);
	emit8(e, 1);
	emit_op(e, false, 0xc1, 4, operand_reg(HOST_T)); /* SHL R15D, 8 */
	emit8(e, 8);
	emit_op(e, false, 0x0b, RAX, operand_reg(HOST_T)); /* OR: AH has the others */
	emit_flags_from_ax(e);
	emit_mov(e, RAX, HOST_X);
	emit_op(e, t->width == 8, 0x8d, HOST_GUEST_RSP, operand_at(HOST_GUEST_RSP, (int)t->width));
	return true;
}

bool system_emit(struct translation *t, const struct insn *i)
{
	bool supervisor = !(t->block->mode & MODE_USER); /* CPL 0: see bt_fits */

	if (i->op == X86_OP_PUSHFQ || i->op == X86_OP_PUSHFD)
		return pushf(t, i);
	if (i->op == X86_OP_CLD)
		return cld(t);
	switch (i->op) {
	case X86_OP_MOV_FROM_SREG: return from_segment(t, i);
	case X86_OP_PUSH_SREG: return push_segment(t, i);
	case X86_OP_MOV_TO_SREG:
	case X86_OP_POP_SREG: return to_segment(t, i);
	case X86_OP_POPFQ:
	case X86_OP_POPFD: return popf(t, i);
	default: break;
	}
	if (!supervisor)
		return false;
	switch (i->op) {
	case X86_OP_CLI: return emit_store_constant(&t->e, BT_IF, 0), true;
	case X86_OP_STI: return sti(t, i);
	case X86_OP_SWAPGS: return t->width == 8 && swapgs(t);
	case X86_OP_STAC: return set_ac(t, true);
	case X86_OP_CLAC: return set_ac(t, false);
	case X86_OP_MOV_FROM_CR: return from_control(t, i);
	default: return false;
	}
}
