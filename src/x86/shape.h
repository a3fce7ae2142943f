/* SPDX-License-Identifier: MIT */
/* How an instruction is encoded and what it touches: what a translator needs to write it down again with other registers and
 * another memory operand. SDM volume 2, chapter 2. */
#pragma once
#include "x86/insn.h"

enum shape_kind {
	SHAPE_NONE,   /* no register there: an opcode extension, or nothing */
	SHAPE_GPR,
	SHAPE_VECTOR, /* XMM or YMM */
	SHAPE_FPU,    /* x87 or MMX */
	SHAPE_OTHER,  /* segment, control, debug */
};

struct shape_register {
	uint16_t kind : 3;    /* enum shape_kind */
	uint16_t number : 4;  /* 0 to 15; of AH to BH that of the whole register; of SHAPE_NONE the bits that stand in the encoding */
	bool high : 1;        /* AH, CH, DH, BH */
	bool byte : 1;        /* any 8-bit register */
	bool written : 1;
	uint16_t zero : 6;
};

struct x86_shape {         /* small: there are many of them */
	uint16_t map : 2;      /* opcode map: 0 one byte, 1 0F, 2 0F38, 3 0F3A */
	uint16_t prefix : 4;   /* SHAPE_66, ... that belong to the encoding */
	bool vex : 1;
	bool w : 1, l : 1;     /* REX.W or VEX.W; VEX.L */
	bool has_modrm : 1;
	bool has_memory : 1;   /* modrm.rm is memory */
	bool has_vvvv : 1;
	bool in_opcode : 1;    /* a register in the low bits of the opcode: op */
	bool memory_read : 1, memory_written : 1;
	bool other_memory : 1; /* it reaches memory that no operand in modrm names, or by more than one address */
	uint8_t opcode;
	uint8_t tail, tail_size; /* offset and size of what follows the displacement: immediates */
	uint8_t memory_size;     /* in bytes */
	struct shape_register reg, rm, vvvv, op;
	uint16_t implied;    /* general registers that it uses without naming them, bit n: register n */
	uint16_t implied_written; /* those of them that it writes, or may write */
};
enum { SHAPE_66 = 1, SHAPE_F2 = 2, SHAPE_F3 = 4, SHAPE_LOCK = 8 };

/* decode_shape.c -- Of the same bytes, mode and model as x86_decode, which must have accepted them. False: an encoding that no translator
 * need care for. */
bool x86_decode_shape(struct x86_shape *, const uint8_t *bytes, unsigned length, uint32_t mode, const struct x86_model *);
