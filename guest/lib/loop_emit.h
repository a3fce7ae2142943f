/* SPDX-License-Identifier: MIT */
/* How the code of random loops is written: loops.c and loop_forms.c. SDM volume 2, chapter 2. */
#pragma once
#include "lib/loops.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define SPACE 0x3fff     /* the part of the pages that pointers are put back into */

extern const struct loop *loop;
extern uint8_t *at;
extern bool byte_regs;   /* a REX prefix even where it is empty: SIL, not DH */
extern bool in_function; /* which leaves the stack alone */

static const uint8_t pointers[] = { RSI, RDI, RBX, RBP, R12 };
static const uint8_t all_data[] = { RAX, RCX, RDX, R8, R9, R10, R11, R15, RSI, RDI, RBX, RBP, R12 };
static const uint8_t slotted[] = { R10, R11, R15 }; /* bt has them in memory */
static const uint8_t all_data32[] = { RAX, RCX, RDX, RSI, RDI, RBX, RBP };

#define pick loop_pick
#define ONE(a) (a[pick(ARRAY_SIZE(a))])
static inline unsigned pointer(void) { return loop->wide ? ONE(pointers) : pointers[pick(4)]; }
static inline unsigned any_data(void) { return loop->wide ? ONE(all_data) : ONE(all_data32); }
static inline unsigned data(void) { return all_data[pick(loop->wide ? 8 : 3)]; } /* not one that addresses are made of */
static inline unsigned slot(void) { return ONE(slotted); }

static inline void b(unsigned v) { *at++ = (uint8_t)v; }
static inline void d(uint32_t v)
{
	memcpy(at, &v, 4);
	at += 4;
}
static inline void w(void) /* REX.W, where there is one */
{
	if (loop->wide)
		b(0x48);
}
static inline void opcode(uint32_t op)
{
	if (op > 0xffff)
		b(op >> 16);
	if (op > 0xff)
		b(op >> 8 & 0xff);
	b(op & 0xff);
}
static inline void rex(unsigned size, unsigned reg, unsigned x, unsigned rm, bool force)
{
	unsigned r = (size == 8 ? 8 : 0) | (reg >> 3) << 2 | (x >> 3) << 1 | rm >> 3;
	if (loop->wide && (r || force))
		b(0x40 | r);
}
static inline void rr(unsigned size, uint32_t op, unsigned reg, unsigned rm)
{
	if (size == 2)
		b(0x66);
	rex(size, reg, 0, rm, byte_regs);
	opcode(op);
	b(0xc0 | (reg & 7) << 3 | (rm & 7));
}
static inline void absolute(unsigned reg, uint32_t address)
{
	b((reg & 7) << 3 | 4);
	b(0x25);
	d(address);
}

static inline void displaced(unsigned reg, unsigned base, int disp)
{
	bool near = disp == (int8_t)disp && pick(8);

	b((near ? 0x40 : 0x80) | (reg & 7) << 3 | (base & 7));
	if ((base & 7) == RSP)
		b(0x24);
	if (near)
		b((uint8_t)disp);
	else
		d((uint32_t)disp);
}

static inline void op_at(unsigned size, unsigned prefix, uint32_t op, unsigned reg, unsigned base, int disp)
{
	if (size == 2)
		b(0x66);
	if (prefix)
		b(prefix);
	rex(size, reg, 0, base, byte_regs);
	opcode(op);
	displaced(reg, base, disp);
}

static inline void op_sum(unsigned size, uint32_t op, unsigned reg, unsigned base, unsigned index, unsigned scale, int disp)
{
	rex(size, reg, index, base, false);
	opcode(op);
	b(0x80 | (reg & 7) << 3 | 4);
	b(scale << 6 | (index & 7) << 3 | (base & 7));
	d((uint32_t)disp);
}

static inline unsigned whole(void) { return loop->wide ? 8 : 4; }
static inline int near(void) { return (int)pick(80) - 32; }

/* loops.c */
/* An operand in memory, of any form. tail: bytes of an immediate. */
void rm_(unsigned size, uint32_t op, unsigned reg, unsigned tail, bool lock, unsigned prefix);
unsigned width(void);
/* The pointer is within SPACE again. */
void mask(unsigned r);
/* The instruction before this may have made a number of a pointer. */
void fix(unsigned r);
void some(unsigned n, unsigned depth);

/* loop_forms.c */
/* Loads, stores and arithmetic, by one register. */
void accesses(unsigned base, unsigned n);
/* loop_operands.c -- Instructions with operands that are not plain words. */
void integers(void);
void bmi(void);
void vectors(void);
void x87(void);
/* loop_strides.c */
void strides(void);
/* loop_forms.c -- Some instructions of a form that compilers, or kernels, are fond of. */
void loop_form(unsigned depth);
/* A loop begins. */
void loop_theme(void);
