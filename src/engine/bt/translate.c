/* SPDX-License-Identifier: MIT */
/* The translator: an instruction of the guest becomes host code (block.c has the block around it). docs/bt.md has the register assignment.
 *
 * It is written so that the guest's state is untouched until nothing can fault any more: what faults, misses or is
 * not understood is then done by its exec function, from the state in the registers. */
#include <assert.h>
#include "engine/bt/translate.h"

#define BT_CALL_EXEC_SIZE 9

static bool is_quick(const struct insn *i)
{
	unsigned op = i->op;

	if (bt_is_move(i) || bt_is_store(i))
		return true;
	return op == X86_OP_SYSCALL || op == X86_OP_SYSRET || op == X86_OP_RDTSC || op == X86_OP_SYSENTER || op == X86_OP_SYSEXIT ||
	       op == X86_OP_INT || op == X86_OP_IRETD || op == X86_OP_IRETQ;
}

static void call_exec(struct emit *e, uint32_t id, bool quick)
{
	emit8(e, 0xb8 | HOST_X);
	emit32(e, id);
	emit_jump_through(e, state_at(quick ? BT_QUICK : BT_EXEC));
}

/* What leads into its host code from elsewhere (a stub that found the entry of a misaligned access) leads to behind the table access, and so to
 * behind what is written here. */
void bt_give_site_up(struct bt *bt, struct bt_insn *rec)
{
	struct emit e = { .base = bt->code, .at = rec->code };

	if (rec[1].code < rec->code + BT_CALL_EXEC_SIZE || rec->calls_exec)
		return;
	call_exec(&e, (uint32_t)(rec - bt->insn), false);
	rec->trouble = BT_SITE_GIVEN_UP;
	bt_traces_drop(bt, &bt->block[rec->block]);
}

/* --- the stack --- */

static void move_stack(struct translation *t, int32_t by)
{
	emit_op(&t->e, t->width == 8, 0x8d, HOST_GUEST_RSP, operand_at(HOST_GUEST_RSP, by));
}

/* The exec function does the instruction if the value in the host register is not aligned as the stack is. */
static void want_aligned(struct translation *t, unsigned host)
{
	emit_pext(&t->e, HOST_X, host, state_at(BT_LOW_MASK + (t->width == 8 ? 16 : 8)));
	uint32_t ok = emit_short(&t->e, 0xe3);
	memory_exec(t);
	emit_patch_short(&t->e, ok, t->e.at);
}

/* The value in HOST_T becomes RSP, if it is aligned. */
static void set_stack(struct translation *t)
{
	want_aligned(t, HOST_T);
	emit_op(&t->e, t->width == 8, 0x8b, HOST_GUEST_RSP, operand_reg(HOST_T));
}

static bool push(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;
	int size = (int)t->width;
	bool wide = size == 8;
	struct ea ea;

	if (i->osize != t->width || i->form == FORM_NONE)
		return false;
	if (i->form == FORM_M) {
		struct operand rm;
		if (!group_operand(t, i, ACCESS_OPERAND, 0, HOST_NONE, &rm)) {
			if (!memory_address(t, i, &ea))
				return false;
			rm = memory_access(t, &ea, t->width, false, memory_aligned(t, i, &ea, t->width) ? ALIGNED : CHECKED);
		}
		emit_op(e, wide, 0x8b, t->narrow ? HOST_SAVED : HOST_T, rm);
		if (!t->narrow)
			emit_store(e, state_at(BT_SAVED), HOST_T);
		memory_room(t);
		struct operand top = memory_stack(t, -size, t->width, true, ALIGNED);
		if (t->narrow) {
			emit_op(e, false, 0x89, HOST_SAVED, top);
		} else {
			emit_lea(e, HOST_X, top);
			emit_load(e, HOST_T, state_at(BT_SAVED));
			emit_op(e, wide, 0x89, HOST_T, operand_at(HOST_X, 0));
		}
	} else if (i->form == FORM_R) {
		unsigned host = guest_host(i->dst / 8);
		struct operand top = memory_stack(t, -size, t->width, true, ALIGNED);
		if (host == HOST_NONE) {
			memory_free(t, &top);
			emit_load(e, host = HOST_T, guest_slot(i->dst / 8));
		}
		emit_op(e, wide, 0x89, host, top);
	} else {
		struct operand top = memory_stack(t, -size, t->width, true, ALIGNED);
		emit_op(e, wide, 0xc7, 0, top);
		emit32(e, (uint32_t)i->imm);
	}
	move_stack(t, -size);
	return true;
}

static bool pop(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (i->osize != t->width || i->form != FORM_R)
		return false;
	unsigned host = guest_host(i->dst / 8);
	struct operand top = memory_stack(t, 0, t->width, false, ALIGNED);
	if (i->dst == RSP * 8) {
		emit_op(e, t->width == 8, 0x8b, HOST_T, top);
		set_stack(t);
		return true;
	}
	emit_op(e, t->width == 8, 0x8b, host == HOST_NONE ? HOST_T : host, top);
	if (host == HOST_NONE)
		emit_store(e, guest_slot(i->dst / 8), HOST_T);
	move_stack(t, (int)t->width);
	return true;
}

static bool leave(struct translation *t, const struct insn *i)
{
	struct emit *e = &t->e;
	struct ea ea = { .kind = EA_BASE, .base = RBP };
	bool wide = t->width == 8;

	if (i->osize != t->width)
		return false;
	if (!wide) {
		emit_lea32(e, HOST_T, operand_at(RBP, 0));
		ea.kind = EA_T;
	}
	struct operand frame = memory_access(t, &ea, t->width, false, STRICT);
	emit_op(e, wide, 0x8b, HOST_T, frame);
	emit_op(e, wide, 0x8d, HOST_GUEST_RSP, operand_at(RBP, (int)t->width));
	emit_mov(e, RBP, HOST_T);
	return true;
}

/* --- what can be written down again --- */

/* RSP stays aligned for sure; everything else that writes it is left to the exec function, and looked at behind it. */
static bool keeps_stack(const struct translation *t, const struct insn *i)
{
	bool whole = i->size == t->width, multiple = !(i->imm & (t->width - 1));

	if (!whole)
		return false;
	if ((i->op == X86_OP_ADD || i->op == X86_OP_SUB || i->op == X86_OP_AND) && i->form == FORM_RI)
		return multiple;
	return i->op == X86_OP_LEA && i->base == RSP * 8 && i->scaled >= 16 * 8 && !(i->disp & (t->width - 1)) && i->asize == t->width &&
	       i->seg == SEG_FLAT;
}

/* SUB of a register from RSP, and ADD: it stays aligned if the register is. */
static bool moves_stack(const struct translation *t, const struct insn *i)
{
	return (i->op == X86_OP_ADD || i->op == X86_OP_SUB) && i->form == FORM_RR && i->size == t->width && i->dst == RSP * 8 && i->src < 16 * 8 &&
	       guest_host(i->src / 8) != HOST_NONE;
}

static bool translatable(const struct translation *t, const struct insn *i, const struct x86_shape *s)
{
	const struct shape_register *r[] = { &s->reg, &s->rm, &s->vvvv, &s->op };
	uint16_t implied = s->implied, kept = BIT(RAX) | BIT(RDX) | BIT(RBX) | BIT(RBP) | BIT(RSI) | BIT(RDI);
	bool vector = false, stack = false;

	if (x86_ops[i->op].translate != XLATE_NATIVE || x86_ops[i->op].klass || i->exec == x86_exec_ud || i->exec == x86_exec_nm ||
	    i->exec == x86_exec_gp)
		return false;
	if (s->other_memory || again_differs(i, s))
		return false;
	switch (i->op) {
	case X86_OP_FNINIT: case X86_OP_FNCLEX: /* a PC's error line may have to be told */
		return false;
	case X86_OP_VZEROUPPER: case X86_OP_VZEROALL: /* of the first eight only, elsewhere */
		if (t->width != 8)
			return false;
		break;
	case X86_OP_FLDCW:
		if (!(t->bt->vcpu->core.cpu.cr0 & CR0_NE))
			return false;
		break;
	case X86_OP_CLD: case X86_OP_STD: case X86_OP_SALC: case X86_OP_LDMXCSR: case X86_OP_STMXCSR:
	case X86_OP_PAUSE: /* which makes room for other processors */
		return false;
	default:
		break;
	}
	if (reads_rcx(i) || gives_rcx(i))
		implied &= (uint16_t)~BIT(RCX);
	if (implied & ~kept)
		return false;
	for (unsigned n = 0; n < ARRAY_SIZE(r); n++) {
		if (r[n]->kind == SHAPE_OTHER)
			return false;
		vector |= r[n]->kind == SHAPE_VECTOR;
		stack |= shape_writes(r[n], RSP);
	}
	if (stack && !keeps_stack(t, i) && !moves_stack(t, i) && !(i->op == X86_OP_MOV && shape_writes(&s->reg, RSP) && i->size == t->width) &&
	    !(i->op == X86_OP_MOV && shape_writes(&s->rm, RSP) && !s->has_memory && i->size == t->width) &&
	    !(i->op == X86_OP_LEA && i->size == t->width))
		return false;
	if (s->vex && vector && !t->bt->avx)
		return false;
	return !s->has_memory || i->op == X86_OP_LEA || (shape_is_x87(s) && s->memory_size == 10) || (s->memory_size && s->memory_size <= 32 && !(s->memory_size & (s->memory_size - 1)));
}

/* MOV to RSP */
static bool mov_stack(struct translation *t, const struct insn *i, const struct x86_shape *s)
{
	struct emit *e = &t->e;
	struct ea ea;

	if (s->has_memory) {
		if (!memory_address(t, i, &ea))
			return false;
		struct operand rm = memory_access(t, &ea, t->width, false, memory_aligned(t, i, &ea, t->width) ? ALIGNED : CHECKED);
		emit_op(e, t->width == 8, 0x8b, HOST_T, rm);
	} else if (i->form == FORM_RR) {
		unsigned host = guest_host(i->src / 8);
		if (host == HOST_NONE)
			emit_load(e, HOST_T, guest_slot(i->src / 8));
		else
			emit_op(e, t->width == 8, 0x8b, HOST_T, operand_reg(host));
	} else {
		return false;
	}
	set_stack(t);
	return true;
}

/* With one instruction, and what brings registers in. */
static bool lea_direct(struct translation *t, const struct insn *i, unsigned to, bool wide)
{
	bool base = i->base < 16 * 8, index = i->scaled < 16 * 8;
	unsigned b = base ? guest_host(i->base / 8) : HOST_NONE, x = index ? guest_host(i->scaled / 8) : HOST_NONE;

	if (i->asize != t->width || i->base == X86_GPR_RIP * 8 || !(base || index) || !fits32(i->disp))
		return false;
	if (base && b == HOST_NONE)
		emit_load(&t->e, b = HOST_T, guest_slot(i->base / 8));
	if (index && x == HOST_NONE)
		emit_load(&t->e, x = b == HOST_T ? HOST_X : HOST_T, guest_slot(i->scaled / 8));
	emit_op(&t->e, wide, 0x8d, to, operand_sum(b, x, i->scale, (int32_t)i->disp));
	return true;
}

static bool lea(struct translation *t, const struct insn *i)
{
	unsigned guest = i->dst / 8, host = guest_host(guest), to = host == HOST_NONE ? HOST_T : host;
	bool stack = guest == RSP && !keeps_stack(t, i);
	bool wide = i->size == 8;
	struct insn flat = *i;
	struct ea ea;

	if (i->size < 4)
		return false;
	if (lea_direct(t, i, stack ? HOST_T : to, wide)) {
		if (stack)
			set_stack(t);
		else if (host == HOST_NONE)
			emit_store(&t->e, guest_slot(guest), HOST_T);
		return true;
	}
	flat.seg = SEG_FLAT; /* it adds no base */
	if (i->asize == t->width && t->width == 4) /* limits and bases do not matter here */
		flat.flags = (uint16_t)((flat.flags & ~INSN_ADDRESS) | INSN_ADDRESS32);
	if (!memory_address(t, &flat, &ea))
		return false;
	if (stack)
		to = HOST_T;
	if (ea.kind == EA_CONST)
		emit_constant(&t->e, to, wide ? ea.constant : (uint32_t)ea.constant);
	else
		emit_op(&t->e, wide, 0x8d, to, operand_at(ea.kind == EA_BASE ? ea.base : HOST_T, ea.kind == EA_BASE ? ea.disp : 0));
	if (stack)
		set_stack(t);
	else if (host == HOST_NONE)
		emit_store(&t->e, guest_slot(guest), HOST_T);
	return true;
}

/* What 64-bit code has no encoding for, or none with these operands, is written another way. */
static void long_forms(const struct insn *i, struct x86_shape *s)
{
	if (s->vex || s->map)
		return;
	if ((s->opcode & 0xf0) == 0x40) { /* INC, DEC */
		s->has_modrm = true;
		s->in_opcode = false;
		s->rm = s->op;
		s->op = (struct shape_register){ 0 };
		s->reg = (struct shape_register){ .number = s->opcode >> 3 & 1 };
		s->opcode = 0xff;
	} else if (s->opcode == 0x82) {
		s->opcode = 0x80;
	} else if (i->op == X86_OP_MOV && s->opcode >= 0xa0 && s->opcode <= 0xa3) { /* AL or rAX, and an address */
		s->has_modrm = true;
		s->other_memory = false;
		s->reg = (struct shape_register){ .kind = SHAPE_GPR, .number = RAX, .byte = !(s->opcode & 1), .written = s->opcode < 0xa2 };
		s->opcode = s->opcode < 0xa2 ? s->opcode - 0xa0 + 0x8a : s->opcode - 0xa2 + 0x88;
		s->tail_size = 0;
	}
}

static bool native(struct translation *t, const struct insn *i)
{
	struct x86_shape s;

	if (i->exec == x86_exec_ud || i->exec == x86_exec_nm || i->exec == x86_exec_gp)
		return false;
	if (x86_ops[i->op].translate == XLATE_BRANCH)
		return flow_emit(t, i);
	if (system_emit(t, i))
		return true;
	switch (i->op) {
	case X86_OP_PUSH: return push(t, i);
	case X86_OP_POP: return pop(t, i);
	case X86_OP_LEAVE: return leave(t, i);
	default: break;
	}
	if (is_nop(i))
		return true;
	if (!t->shape)
		return false;
	s = *t->shape;
	long_forms(i, &s);
	if (!translatable(t, i, &s))
		return false;
	if (bt_is_bit_string(i))
		return bits_emit(t, i, &s);
	if (i->op == X86_OP_LEA)
		return lea(t, i);
	if (i->op == X86_OP_MOV && (shape_writes(&s.reg, RSP) || shape_writes(&s.rm, RSP)))
		return mov_stack(t, i, &s);
	if (moves_stack(t, i))
		want_aligned(t, guest_host(i->src / 8));
	return again_emit(t, i, &s);
}

/* What was written since, is taken back. */
struct mark {
	uint32_t at, exits, ready;
	unsigned held, second;
	unsigned shorts, stubs;
	struct pending pending[SHORTS_MAX];
};

/* Word by word, as they were written: the host would wait until what it has just stored can be loaded otherwise. */
static void copy_pending(struct pending *to, const struct pending *from, unsigned count)
{
	for (unsigned n = 0; n < count; n++) {
		*(volatile uint32_t *)&to[n].where = from[n].where;
		*(volatile unsigned *)&to[n].stub = from[n].stub;
	}
}

static void mark(const struct translation *t, struct mark *m)
{
	m->at = t->e.at;
	m->exits = t->bt->exits;
	m->shorts = t->shorts;
	m->stubs = t->stubs;
	m->ready = t->ready;
	m->held = t->held;
	m->second = t->second;
	copy_pending(m->pending, t->pending, t->shorts);
}

static void take_back(struct translation *t, const struct mark *m)
{
	t->e.at = m->at;
	t->shorts = m->shorts;
	t->stubs = m->stubs;
	t->bt->exits = m->exits;
	t->ready = m->ready;
	t->held = m->held;
	t->second = m->second;
	copy_pending(t->pending, m->pending, m->shorts);
	t->rec->access = BT_NO_ACCESS;
}

bool translate_insn(struct translation *t)
{
	struct mark start;
	bool done;

	t->tight = t->too_far = false;
	memory_room(t);
	if (t->plan && (t->rec->calls_exec || t->rec->trouble & BT_SITE_GIVEN_UP)) { /* behind which the plain copy goes on anyway */
		emit_patch(&t->e, emit_jump(&t->e, -1), t->rec->code);
		return false;
	}
	for (unsigned tries = 0; tries < 2; tries++) {
		mark(t, &start);
		t->e.wrote = t->e.wrote_x = t->too_far = false;
		t->rec->code = t->e.at;
		done = native(t, t->insn);
		if (done && !t->too_far && memory_reachable(t)) {
			if (t->rec->calls_exec)
				bt_insn_keep(t->bt, t->rec, t->insn);
			return true;
		}
		take_back(t, &start);
		t->too_far = false; /* what was, is taken back: those that waited before can be reached from here */
		if (!done)
			break;
		t->tight = true;
		memory_island(t, true); /* it was too long for the jumps before it */
		assert(!t->too_far);
	}
	t->rec->code = t->e.at;
	t->rec->calls_exec = true;
	call_exec(&t->e, t->id, is_quick(t->insn));
	if (!t->plan)
		bt_insn_keep(t->bt, t->rec, t->insn);
	return false;
}
