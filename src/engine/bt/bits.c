/* SPDX-License-Identifier: MIT */
/* BT, BTS, BTR and BTC of a bit string in memory: the number of the bit, in a register, reaches beyond the operand, in either direction. Kernels have
 * many of these, in bitmaps. SDM volume 2A, BT.
 *
 * The word that holds the bit is found first, and then the bit in it: the host would reach as far as the guest. No flag is changed before. */
#include "engine/bt/translate.h"

static bool is_bit_operation(const struct insn *i)
{
	return i->op == X86_OP_BT || i->op == X86_OP_BTS || i->op == X86_OP_BTR || i->op == X86_OP_BTC;
}

bool bt_is_bit_string(const struct insn *i)
{
	return is_bit_operation(i) && i->form == FORM_MR;
}

bool bits_emit(struct translation *t, const struct insn *i, const struct x86_shape *s)
{
	bool wide = i->size == 8, write = i->op != X86_OP_BT;
	unsigned number = s->reg.kind == SHAPE_GPR ? guest_host(s->reg.number) : HOST_NONE;
	struct emit *e = &t->e;
	struct ea ea;

	if (i->size < 4 || i->asize != t->width || number == HOST_NONE || !memory_address(t, i, &ea))
		return false;
	if (ea.kind == EA_CONST)
		emit_constant(e, HOST_T, ea.constant);
	else if (ea.kind == EA_BASE)
		emit_lea(e, HOST_T, operand_at(ea.base, ea.disp));
	emit_constant(e, HOST_X, wide ? 6 : 5);
	emit_sarx(e, wide, HOST_X, number, HOST_X);
	if (!wide && t->width == 8)
		emit_op(e, true, 0x63, HOST_X, operand_reg(HOST_X)); /* MOVSXD */
	emit_op(e, t->width == 8, 0x8d, HOST_T, operand_sum(HOST_T, HOST_X, wide ? 3 : 2, 0));
	ea = (struct ea){ .kind = EA_T };
	struct operand word = memory_access(t, &ea, i->size, write, CHECKED);
	emit_lea(e, HOST_T, word);
	emit_constant(e, HOST_X, wide ? 63 : 31);
	emit_pext(e, HOST_X, number, operand_reg(HOST_X));
	if (s->prefix & SHAPE_LOCK)
		emit8(e, 0xf0);
	emit_op0f(e, wide, s->opcode, HOST_X, operand_at(HOST_T, 0));
	return true;
}
