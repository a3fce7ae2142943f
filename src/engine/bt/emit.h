/* SPDX-License-Identifier: MIT */
/* Writing host instructions: the few that translation itself needs, and any guest instruction once more with other operands. None
 * of the former touches flags. SDM volume 2, chapter 2. */
#pragma once
#include "engine/bt/bt.h"

/* Host registers with a purpose: docs/bt.md. */
enum { HOST_X = RCX, HOST_T = R15, HOST_GUEST_RCX = R10, HOST_GUEST_RSP = R11, HOST_STATE = RSP, HOST_NONE = 16 };
/* And in code outside of long mode, which has no use for them (translation.narrow): host addresses of groups, a value for a moment, what to shift
 * by. */
enum { HOST_GROUP0 = R8, HOST_GROUP1 = R9, HOST_SAVED = R12, HOST_SHIFT_10 = R13, HOST_SHIFT_12 = R14 };

struct emit {
	uint8_t *base;   /* of the code cache */
	uint32_t at;
	bool wrote, wrote_x; /* HOST_T, HOST_X may have been written since these were cleared */
};

struct operand {         /* modrm.rm: a register, or memory at base + (index << scale) + disp */
	bool memory;
	uint8_t reg;
	uint8_t base, index, scale; /* HOST_NONE: none */
	int32_t disp;
};

static inline void emit8(struct emit *e, unsigned v) { e->base[e->at++] = (uint8_t)v; }
static inline void emit32(struct emit *e, uint32_t v)
{
	memcpy(e->base + e->at, &v, 4);
	e->at += 4;
}
static inline void emit64(struct emit *e, uint64_t v)
{
	memcpy(e->base + e->at, &v, 8);
	e->at += 8;
}
static inline bool fits32(int64_t v) { return v == (int32_t)v; }

static inline struct operand operand_reg(unsigned reg) { return (struct operand){ .reg = (uint8_t)reg }; }
static inline struct operand operand_at(unsigned base, int32_t disp)
{
	return (struct operand){ .memory = true, .base = (uint8_t)base, .index = HOST_NONE, .disp = disp };
}
static inline struct operand operand_sum(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
	return (struct operand){ .memory = true, .base = (uint8_t)base, .index = (uint8_t)index, .scale = (uint8_t)scale, .disp = disp };
}
/* A field of struct bt_state. */
static inline struct operand state_at(int32_t offset) { return operand_at(HOST_STATE, offset); }

/* emit.c -- Notes that this host register is written. */
void emit_writes(struct emit *, unsigned reg);
void emit_modrm(struct emit *, unsigned reg, const struct operand *rm);
/* op with optional REX.W: one-byte opcode, or with 0F before it. */
void emit_op(struct emit *, bool w, unsigned opcode, unsigned reg, struct operand rm);
void emit_op0f(struct emit *, bool w, unsigned opcode, unsigned reg, struct operand rm);
void emit_mov(struct emit *, unsigned to, unsigned from);
void emit_load(struct emit *, unsigned to, struct operand from);
void emit_load32(struct emit *, unsigned to, struct operand from);
void emit_store(struct emit *, struct operand to, unsigned from);
void emit_lea(struct emit *, unsigned to, struct operand from);
void emit_lea32(struct emit *, unsigned to, struct operand from);
void emit_constant(struct emit *, unsigned to, uint64_t value);
void emit_pext(struct emit *, unsigned to, unsigned from, struct operand mask);
void emit_pdep(struct emit *, unsigned to, unsigned from, struct operand mask);
/* to = CRC32 of the 8 bytes in `from`, begun with what `to` holds */
void emit_crc32(struct emit *, unsigned to, unsigned from);
void emit_rorx(struct emit *, unsigned to, unsigned from, unsigned count);
/* Of the lower 32 bits */
void emit_rorx32(struct emit *, unsigned to, unsigned from, unsigned count);
void emit_sarx(struct emit *, bool w, unsigned to, unsigned from, unsigned count_reg);
void emit_shrx32(struct emit *, unsigned to, unsigned from, unsigned count_reg);
/* An entry of the delta table: to = [rsp + index * 8], or [rsp + index] */
void emit_table(struct emit *, unsigned to, unsigned index, bool scaled);
/* The flags out of AX, where LAHF and SETO AL have put them. */
void emit_flags_from_ax(struct emit *);
/* MOV of 32 bits to a field of struct bt_state */
void emit_store_constant(struct emit *, int32_t field, uint32_t value);
/* An operand at this offset from the start of the code cache, RIP-relative */
void emit_rip(struct emit *, bool w, unsigned opcode, unsigned reg, uint32_t where);
void emit_jump_through(struct emit *, struct operand);
void emit_call_through(struct emit *, struct operand);
/* Of 8 bytes in memory */
void emit_push(struct emit *, struct operand);
void emit_pop(struct emit *, struct operand);
/* CALL with a displacement of 32 bits; returns where that stands, for emit_patch */
uint32_t emit_call(struct emit *);
/* A jump with a displacement of 32 bits; returns where that stands. cc: a condition, or < 0 */
uint32_t emit_jump(struct emit *, int cc);
void emit_patch(struct emit *, uint32_t where, uint32_t target);
/* A jump with a displacement of 8 bits. opcode: EB, E3 (JRCXZ), 70 + cc */
uint32_t emit_short(struct emit *, unsigned opcode);
void emit_patch_short(struct emit *, uint32_t where, uint32_t target);
/* door.c -- "If R15 holds rip, go on behind this, else where this field of struct bt_state leads"; returns where that begins. */
uint32_t bt_check_emit(struct emit *, uint64_t rip, int32_t otherwise);
/* The guest's instruction with these registers. False: it cannot be encoded so (a high byte register beside a REX prefix). */
bool emit_again(struct emit *, const struct x86_shape *, const uint8_t *tail, unsigned reg, struct operand rm, unsigned vvvv, unsigned op);
