/* SPDX-License-Identifier: MIT */
/* Instructions that are written down again as they are: which host registers stand for the guest's, and what stands for a memory operand. */
#include "engine/bt/translate.h"

bool is_nop(const struct insn *i)
{
	return x86_ops[i->op].forms == x86_ops[X86_OP_NOP].forms;
}

bool reads_rcx(const struct insn *i)
{
	return i->op == X86_OP_CMPXCHG8B || i->op == X86_OP_CMPXCHG16B || i->op == X86_OP_SHL || i->op == X86_OP_SHR || i->op == X86_OP_SAR || i->op == X86_OP_ROL || i->op == X86_OP_ROR ||
	       i->op == X86_OP_RCL || i->op == X86_OP_RCR || i->op == X86_OP_SHLD || i->op == X86_OP_SHRD;
}

bool gives_rcx(const struct insn *i)
{
	return i->op == X86_OP_PCMPISTRI || i->op == X86_OP_PCMPESTRI || i->op == X86_OP_VPCMPISTRI || i->op == X86_OP_VPCMPESTRI;
}

bool again_differs(const struct insn *i, const struct x86_shape *s)
{
	return s->has_memory && (i->op == X86_OP_CVTPI2PS || (i->op >= X86_OP_SHA1MSG1 && i->op <= X86_OP_SHA256RNDS2));
}

/* Legacy SSE insists on alignment of 16-byte operands, but for these; and VEX does in these only. */
bool again_any_alignment(const struct insn *i, const struct x86_shape *s)
{
	const struct x86_forms *forms = x86_ops[i->op].forms;

	if (i->op == X86_OP_VMOVAPS || i->op == X86_OP_VMOVAPD || i->op == X86_OP_VMOVDQA)
		return false;
	return s->vex || forms == x86_ops[X86_OP_MOVUPS].forms || i->op == X86_OP_LDDQU || i->op == X86_OP_PCMPISTRI ||
	       i->op == X86_OP_PCMPISTRM || i->op == X86_OP_PCMPESTRI || i->op == X86_OP_PCMPESTRM;
}

/* Do FIP and its kind tell of it? Not of control instructions, nor of those of the 8087 and 80287 that do nothing. */
static bool is_noted(unsigned op)
{
	return op != X86_OP_FLDCW && op != X86_OP_FNSTCW && op != X86_OP_FNSTSW && x86_ops[op].forms != x86_ops[X86_OP_FENI8087_NOP].forms;
}

static bool uses_fpu(const struct insn *i, const struct x86_shape *s)
{
	return shape_is_x87(s) || (i->flags & INSN_MMX) || i->op == X86_OP_EMMS || i->op == X86_OP_FWAIT;
}

/* Which host register stands for a register operand; the ones in memory are loaded into scratch registers. */
struct assignment {
	unsigned scratch[2], used; /* free scratch registers */
	uint8_t guest[2];          /* in scratch[n] */
	bool borrowed;             /* guest RCX is in HOST_X, for the sake of a high byte register */
	bool fresh;                /* what is written need not be loaded */
	bool failed;
};

static unsigned assign(struct translation *t, struct assignment *a, const struct shape_register *r)
{
	if (r->kind != SHAPE_GPR)
		return r->number;
	if (a->borrowed && r->number == RCX)
		return HOST_X;
	if (guest_host(r->number) != HOST_NONE)
		return guest_host(r->number);
	for (unsigned n = 0; n < a->used; n++)
		if (a->guest[n] == r->number)
			return a->scratch[n];
	if (a->used == 2 || a->scratch[a->used] == HOST_NONE) {
		a->failed = true;
		return 0;
	}
	a->guest[a->used] = r->number;
	if (a->fresh && r->written)
		emit_writes(&t->e, a->scratch[a->used]);
	else
		emit_load(&t->e, a->scratch[a->used], guest_slot(r->number));
	return a->scratch[a->used++];
}

/* Is all of the one register that is written new, and none of it read? */
static bool writes_anew(const struct insn *i, const struct x86_shape *s)
{
	if (i->op != X86_OP_MOV && i->op != X86_OP_MOVZX && i->op != X86_OP_MOVSX && i->op != X86_OP_MOVSXD)
		return false;
	if ((s->prefix & SHAPE_66) || (s->reg.written && s->reg.byte) || (s->rm.written && s->rm.byte) || (s->op.written && s->op.byte))
		return false;
	return !(s->reg.kind == SHAPE_GPR && s->rm.kind == SHAPE_GPR && s->reg.number == s->rm.number);
}

static bool names(const struct x86_shape *s, unsigned guest)
{
	const struct shape_register *r[] = { &s->reg, &s->rm, &s->vvvv, &s->op };

	for (unsigned n = 0; n < ARRAY_SIZE(r); n++)
		if (r[n]->kind == SHAPE_GPR && r[n]->number == guest)
			return true;
	return false;
}

static bool in_slot(const struct x86_shape *s)
{
	return names(s, R10) || names(s, R11) || names(s, R15);
}

bool again_plain_operand(const struct insn *i, const struct x86_shape *s)
{
	if (x86_ops[i->op].translate != XLATE_NATIVE || x86_ops[i->op].klass || is_nop(i) || shape_is_x87(s) || !s->has_memory || s->other_memory ||
	    bt_is_bit_string(i) || again_differs(i, s))
		return false;
	switch (i->op) {
	case X86_OP_LEA: case X86_OP_PUSH: case X86_OP_POP: case X86_OP_LEAVE:
		return false;
	case X86_OP_MOV:
		if (s->reg.kind == SHAPE_GPR && s->reg.written && s->reg.number == RSP)
			return false;
		break;
	default:
		break;
	}
	return s->memory_size && s->memory_size <= 32 && !(s->memory_size & (s->memory_size - 1));
}

/* Operations whose operands in registers may as well be in memory: the same bytes are read and written, and flags are the same. */
static bool indifferent(unsigned op)
{
	switch (op) {
	case X86_OP_ADD: case X86_OP_OR: case X86_OP_ADC: case X86_OP_SBB: case X86_OP_AND: case X86_OP_SUB: case X86_OP_XOR: case X86_OP_CMP:
	case X86_OP_TEST: case X86_OP_MOV: case X86_OP_INC: case X86_OP_DEC: case X86_OP_NEG: case X86_OP_NOT: case X86_OP_IMUL:
	case X86_OP_MOVZX: case X86_OP_MOVSX: case X86_OP_MOVSXD: case X86_OP_SHL: case X86_OP_SHR: case X86_OP_SAR:
		return true;
	default:
		return op >= X86_OP_CMOVO && op <= X86_OP_CMOVNLE;
	}
}

/* ADD to CMP, TEST and MOV exist with their operands in either order. */
static void turn(struct x86_shape *s)
{
	struct shape_register reg = s->reg;
	bool either = s->opcode < 0x40 && (s->opcode & 7) < 4, mov = (s->opcode & ~3) == 0x88, test = (s->opcode & ~1) == 0x84;

	if (s->map || s->vex || !(either || mov || test))
		return;
	s->opcode ^= test ? 0 : 2;
	s->reg = s->rm;
	s->rm = reg;
}

/* Is the register in modrm.rm used in its slot, without a way through a scratch register? 32 bits that are written clear the upper half, which
 * a write to memory does not. */
static bool stays_in_slot(const struct insn *i, struct x86_shape *s)
{
	if (s->has_memory || s->rm.kind != SHAPE_GPR || !indifferent(i->op))
		return false;
	if (guest_host(s->rm.number) != HOST_NONE && s->reg.kind == SHAPE_GPR && guest_host(s->reg.number) == HOST_NONE)
		turn(s);
	if (s->rm.written && (i->size == 4 || (s->reg.kind == SHAPE_GPR && s->reg.number == s->rm.number)))
		return false;
	return guest_host(s->rm.number) == HOST_NONE;
}

bool again_emit(struct translation *t, const struct insn *i, struct x86_shape *s)
{
	struct emit *e = &t->e;
	bool high = s->reg.high || s->rm.high || s->op.high, by_rcx = reads_rcx(i) && (s->implied & BIT(RCX));
	struct assignment a = { .scratch = { HOST_T, HOST_X }, .fresh = writes_anew(i, s) };
	struct operand rm;
	struct ea ea;

	if (uses_fpu(i, s))
		memory_want_fpu(t);
	if (s->has_memory) {
		unsigned size = s->memory_size;
		if ((high || by_rcx) && in_slot(s))
			return false;
		if (high && (names(s, RCX) || by_rcx))
			return false;
		bool grouped = group_operand(t, i, ACCESS_OPERAND, 0, high || in_slot(s) ? HOST_X : by_rcx ? HOST_T : HOST_NONE, &rm);
		if (!grouped && !memory_address(t, i, &ea))
			return false;
		if (grouped)
			;
		else if ((size == 10 || (size >= 16 && again_any_alignment(i, s))) && !(ea.kind == EA_CONST && memory_aligned(t, i, &ea, size)))
			rm = memory_access_wide(t, &ea, size, s->memory_written);
		else if (ea.kind == EA_CONST && (ea.constant & ~X86_PAGE_MASK) + size > X86_PAGE_SIZE)
			return false;
		else
			rm = memory_access(t, &ea, size, s->memory_written, size >= 16 || memory_aligned(t, i, &ea, size) ? ALIGNED : CHECKED);
		if (grouped) {
			;
		} else if (by_rcx) {
			emit_lea(e, HOST_T, rm);
			rm = operand_at(HOST_T, 0);
		} else if (high || in_slot(s)) {
			emit_lea(e, HOST_X, rm);
			rm = operand_at(HOST_X, 0);
		}
		a.scratch[1] = HOST_NONE;
		if (by_rcx)
			a.scratch[0] = HOST_NONE;
	} else {
		a.borrowed = high && names(s, RCX);
		if (a.borrowed || by_rcx)
			a.scratch[1] = HOST_NONE;
		rm = stays_in_slot(i, s) ? guest_slot(s->rm.number) : operand_reg(assign(t, &a, &s->rm));
	}
	if (by_rcx || a.borrowed)
		emit_mov(e, HOST_X, HOST_GUEST_RCX);
	unsigned reg = assign(t, &a, &s->reg), vvvv = assign(t, &a, &s->vvvv), op = assign(t, &a, &s->op);
	if (i->op >= X86_OP_FCOMI && i->op <= X86_OP_FUCOMIP)
		emit32(e, 0xf7d9f6d9); /* FDECSTP, FINCSTP: they clear C1, as it does by the manual, which AMD's processors do not follow */
	if (a.failed || !emit_again(e, s, t->bytes + s->tail, reg, rm, vvvv, op))
		return false;
	if (gives_rcx(i)) {
		emit_op(e, false, 0x8b, HOST_GUEST_RCX, operand_reg(HOST_X));
		e->wrote_x = true; /* the host address of a group that was there */
	}
	if (shape_is_x87(s) && is_noted(i->op))
		fpu_note(t, i, s->has_memory ? &ea : NULL);
	for (unsigned n = 0; n < a.used; n++)
		if (shape_writes(&s->reg, a.guest[n]) || shape_writes(&s->rm, a.guest[n]) || shape_writes(&s->vvvv, a.guest[n]) || shape_writes(&s->op, a.guest[n]))
			emit_store(e, guest_slot(a.guest[n]), a.scratch[n]);
	if (a.borrowed && (shape_writes(&s->reg, RCX) || shape_writes(&s->rm, RCX) || shape_writes(&s->op, RCX)))
		emit_mov(e, HOST_GUEST_RCX, HOST_X);
	return true;
}
