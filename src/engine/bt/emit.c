/* SPDX-License-Identifier: MIT */
/* The instruction encoder. SDM volume 2, chapter 2, and appendix B for opcodes. */
#include <assert.h>
#include <string.h>
#include "engine/bt/emit.h"

void emit_modrm(struct emit *e, unsigned reg, const struct operand *rm)
{
	unsigned mod, sib = rm->index != HOST_NONE || (rm->base & 7) == RSP;

	reg = (reg & 7) << 3;
	if (!rm->memory) {
		emit8(e, 0xc0 | reg | (rm->reg & 7));
		return;
	}
	if (rm->base == HOST_NONE) { /* SIB without base: always 32 bits of displacement */
		emit8(e, reg | 4);
		emit8(e, (unsigned)rm->scale << 6 | (rm->index == HOST_NONE ? 4u : rm->index & 7u) << 3 | 5);
		emit32(e, (uint32_t)rm->disp);
		return;
	}
	mod = !rm->disp && (rm->base & 7) != RBP ? 0 : rm->disp == (int8_t)rm->disp ? 1 : 2;
	emit8(e, mod << 6 | reg | (sib ? 4u : rm->base & 7u));
	if (sib)
		emit8(e, (unsigned)rm->scale << 6 | (rm->index == HOST_NONE ? 4u : rm->index & 7u) << 3 | (rm->base & 7u));
	if (mod == 1)
		emit8(e, (uint8_t)rm->disp);
	else if (mod == 2)
		emit32(e, (uint32_t)rm->disp);
}

static unsigned high(unsigned reg)
{
	return reg != HOST_NONE && reg & 8;
}

static unsigned rex_of(bool w, unsigned reg, const struct operand *rm)
{
	unsigned x = rm->memory && high(rm->index), b = rm->memory ? high(rm->base) : high(rm->reg);

	return (unsigned)w << 3 | (high(reg) ? 4u : 0) | (x ? 2u : 0) | (b ? 1u : 0);
}

static void emit_rex(struct emit *e, unsigned rex)
{
	if (rex)
		emit8(e, 0x40 | rex);
}

/* What translation itself writes. A guest instruction that is written again and writes one of these registers is noted where it gets it (again.c). */
void emit_writes(struct emit *e, unsigned reg)
{
	e->wrote |= reg == HOST_T;
	e->wrote_x |= reg == HOST_X;
}

void emit_op(struct emit *e, bool w, unsigned opcode, unsigned reg, struct operand rm)
{
	emit_writes(e, reg);
	emit_rex(e, rex_of(w, reg, &rm));
	emit8(e, opcode);
	emit_modrm(e, reg, &rm);
}

void emit_op0f(struct emit *e, bool w, unsigned opcode, unsigned reg, struct operand rm)
{
	emit_writes(e, reg);
	emit_rex(e, rex_of(w, reg, &rm));
	emit8(e, 0x0f);
	emit8(e, opcode);
	emit_modrm(e, reg, &rm);
}

void emit_mov(struct emit *e, unsigned to, unsigned from) { emit_op(e, true, 0x8b, to, operand_reg(from)); }
void emit_load(struct emit *e, unsigned to, struct operand from) { emit_op(e, true, 0x8b, to, from); }
void emit_load32(struct emit *e, unsigned to, struct operand from) { emit_op(e, false, 0x8b, to, from); }
void emit_store(struct emit *e, struct operand to, unsigned from) { emit_op(e, true, 0x89, from, to); }
void emit_lea(struct emit *e, unsigned to, struct operand from) { emit_op(e, true, 0x8d, to, from); }
void emit_lea32(struct emit *e, unsigned to, struct operand from) { emit_op(e, false, 0x8d, to, from); }

void emit_constant(struct emit *e, unsigned to, uint64_t value)
{
	emit_writes(e, to);
	if (value == (uint32_t)value) {
		emit_rex(e, high(to) ? 1 : 0);
		emit8(e, 0xb8 | (to & 7));
		emit32(e, (uint32_t)value);
	} else if (fits32((int64_t)value)) {
		emit_op(e, true, 0xc7, 0, operand_reg(to));
		emit32(e, (uint32_t)value);
	} else {
		emit_rex(e, 8 | (high(to) ? 1 : 0));
		emit8(e, 0xb8 | (to & 7));
		emit64(e, value);
	}
}

static void emit_vex(struct emit *e, unsigned map, unsigned pp, bool w, bool l, unsigned reg, unsigned vvvv, const struct operand *rm)
{
	unsigned rex = rex_of(false, reg, rm);

	emit8(e, 0xc4);
	emit8(e, (rex & 4 ? 0u : 0x80u) | (rex & 2 ? 0u : 0x40u) | (rex & 1 ? 0u : 0x20u) | map);
	emit8(e, (w ? 0x80u : 0) | (~vvvv & 15) << 3 | (l ? 4u : 0) | pp);
}

void emit_pext(struct emit *e, unsigned to, unsigned from, struct operand mask)
{
	emit_writes(e, to);
	emit_vex(e, 2, 2, true, false, to, from, &mask);
	emit8(e, 0xf5);
	emit_modrm(e, to, &mask);
}

void emit_pdep(struct emit *e, unsigned to, unsigned from, struct operand mask)
{
	emit_writes(e, to);
	emit_vex(e, 2, 3, true, false, to, from, &mask);
	emit8(e, 0xf5);
	emit_modrm(e, to, &mask);
}

static void rorx(struct emit *e, bool w, unsigned to, unsigned from, unsigned count)
{
	struct operand rm = operand_reg(from);

	emit_writes(e, to);
	emit_vex(e, 3, 3, w, false, to, 0, &rm);
	emit8(e, 0xf0);
	emit_modrm(e, to, &rm);
	emit8(e, count);
}

void emit_rorx(struct emit *e, unsigned to, unsigned from, unsigned count) { rorx(e, true, to, from, count); }
void emit_rorx32(struct emit *e, unsigned to, unsigned from, unsigned count) { rorx(e, false, to, from, count); }

static void shift(struct emit *e, unsigned pp, bool w, unsigned to, unsigned from, unsigned count_reg)
{
	struct operand rm = operand_reg(from);

	emit_writes(e, to);
	emit_vex(e, 2, pp, w, false, to, count_reg, &rm);
	emit8(e, 0xf7);
	emit_modrm(e, to, &rm);
}

void emit_sarx(struct emit *e, bool w, unsigned to, unsigned from, unsigned count_reg) { shift(e, 2, w, to, from, count_reg); }
void emit_shrx32(struct emit *e, unsigned to, unsigned from, unsigned count_reg) { shift(e, 3, false, to, from, count_reg); }

void emit_crc32(struct emit *e, unsigned to, unsigned from)
{
	struct operand rm = operand_reg(from);

	emit_writes(e, to);
	emit8(e, 0xf2);
	emit_rex(e, rex_of(true, to, &rm));
	emit8(e, 0x0f);
	emit8(e, 0x38);
	emit8(e, 0xf1);
	emit_modrm(e, to, &rm);
}

void emit_table(struct emit *e, unsigned to, unsigned index, bool scaled)
{
	emit_load(e, to, operand_sum(HOST_STATE, index, scaled ? 3 : 0, 0));
}

void emit_flags_from_ax(struct emit *e)
{
	emit8(e, 0x04); /* ADD AL, 127: OF */
	emit8(e, 127);
	emit8(e, 0x9e); /* SAHF */
}

void emit_store_constant(struct emit *e, int32_t field, uint32_t value)
{
	emit_op(e, false, 0xc7, 0, state_at(field));
	emit32(e, value);
}

void emit_rip(struct emit *e, bool w, unsigned opcode, unsigned reg, uint32_t where)
{
	emit_rex(e, (w ? 8u : 0) | (reg >= 8 ? 4u : 0));
	emit8(e, opcode);
	emit8(e, (reg & 7) << 3 | 5);
	emit32(e, where - (e->at + 4));
}

void emit_jump_through(struct emit *e, struct operand rm) { emit_op(e, false, 0xff, 4, rm); }
void emit_call_through(struct emit *e, struct operand rm) { emit_op(e, false, 0xff, 2, rm); }
void emit_push(struct emit *e, struct operand rm) { emit_op(e, false, 0xff, 6, rm); }
void emit_pop(struct emit *e, struct operand rm) { emit_op(e, false, 0x8f, 0, rm); }

uint32_t emit_call(struct emit *e)
{
	emit8(e, 0xe8);
	emit32(e, 0);
	return e->at - 4;
}

uint32_t emit_jump(struct emit *e, int cc)
{
	if (cc >= 0) {
		emit8(e, 0x0f);
		emit8(e, 0x80 | (unsigned)cc);
	} else {
		emit8(e, 0xe9);
	}
	emit32(e, 0);
	return e->at - 4;
}

void emit_patch(struct emit *e, uint32_t where, uint32_t target)
{
	int32_t displacement = (int32_t)(target - (where + 4));
	memcpy(e->base + where, &displacement, 4);
}

uint32_t emit_short(struct emit *e, unsigned opcode)
{
	emit8(e, opcode);
	emit8(e, 0);
	return e->at - 1;
}

void emit_patch_short(struct emit *e, uint32_t where, uint32_t target)
{
	int32_t displacement = (int32_t)(target - (where + 1));
	assert(displacement == (int8_t)displacement);
	e->base[where] = (uint8_t)displacement;
}

/* An 8-bit register that only a REX prefix tells from AH to BH. */
static bool wants_rex(const struct shape_register *s, unsigned reg)
{
	return s->kind == SHAPE_GPR && s->byte && !s->high && reg >= RSP && reg <= RDI;
}

static unsigned encoded(const struct shape_register *s, unsigned reg)
{
	return s->kind == SHAPE_GPR && s->high ? reg + 4 : reg;
}

bool emit_again(struct emit *e, const struct x86_shape *s, const uint8_t *tail, unsigned reg, struct operand rm, unsigned vvvv, unsigned op)
{
	bool high_byte = s->reg.high || s->rm.high || s->op.high;
	bool force = wants_rex(&s->reg, reg) || wants_rex(&s->op, op) || (!rm.memory && wants_rex(&s->rm, rm.reg));
	unsigned rex;

	reg = encoded(&s->reg, reg);
	op = encoded(&s->op, op);
	if (!rm.memory)
		rm.reg = (uint8_t)encoded(&s->rm, rm.reg);
	if (s->vex) {
		static const uint8_t pp[] = { [0] = 0, [SHAPE_66] = 1, [SHAPE_F3] = 2, [SHAPE_F2] = 3 };
		emit_vex(e, s->map, pp[s->prefix & (SHAPE_66 | SHAPE_F2 | SHAPE_F3)], s->w, s->l, reg, s->has_vvvv ? vvvv : 0, &rm);
		emit8(e, s->opcode);
		if (s->has_modrm) /* VZEROUPPER has none */
			emit_modrm(e, reg, &rm);
		goto immediate;
	}
	rex = s->has_modrm ? rex_of(s->w, reg, &rm) : (s->w ? 8u : 0) | (s->in_opcode && high(op) ? 1u : 0);
	if (high_byte && (rex || force))
		return false;
	if (s->prefix & SHAPE_LOCK)
		emit8(e, 0xf0);
	if (s->prefix & SHAPE_66)
		emit8(e, 0x66);
	if (s->prefix & SHAPE_F2)
		emit8(e, 0xf2);
	if (s->prefix & SHAPE_F3)
		emit8(e, 0xf3);
	if (rex || force)
		emit8(e, 0x40 | rex);
	if (s->map)
		emit8(e, 0x0f);
	if (s->map > 1)
		emit8(e, s->map == 2 ? 0x38 : 0x3a);
	emit8(e, s->in_opcode ? (s->opcode & 0xf8u) | (op & 7) : s->opcode);
	if (s->has_modrm)
		emit_modrm(e, reg, &rm);
immediate:
	memcpy(e->base + e->at, tail, s->tail_size);
	e->at += s->tail_size;
	return true;
}
