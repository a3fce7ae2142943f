/* SPDX-License-Identifier: MIT */
/* Cases of the bulk comparison: bytes from a template, a state from a seed. See bulk_case.h; SDM volume 2, chapter 2. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bulk_case.h"
#include "integer_cases.h"
#include "operands.h"
#include "x86/exec.h"

#define RIP_AT 0x400u
#define POOL 8192u /* words that memory is filled from */

const uint32_t bulk_modes[3] = { MODE_CODE64, MODE_CODE32, MODE_CODE16 };
const char *const bulk_mode_names[3] = { "64", "32", "16" };

uint64_t bulk_hash(uint64_t seed, uint64_t what) /* splitmix64 */
{
	uint64_t z = seed + (what + 1) * 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

/* Eight bytes of an operand: special singles and doubles, little integers, limits, bits. */
static uint64_t operand(uint64_t seed, uint64_t what)
{
	uint64_t r = bulk_hash(seed, what), how = r >> 59, a = r & 0xffff, b = r >> 16 & 0xffff;

	switch (how % 6) {
	case 0: return bulk_hash(r, 1);
	case 1: return (uint64_t)special_single[a % ARRAY_SIZE(special_single)] << 32 | special_single[b % ARRAY_SIZE(special_single)];
	case 2: return special_wide[a % ARRAY_SIZE(special_wide)];
	case 3: return (uint64_t)(0x3f000000 + (r & 0x1ffffff)) << 32 | (0x3e000000 + (r >> 25 & 0x1ffffff));
	case 4: return 0x3fe0000000000000 + (bulk_hash(r, 1) >> 11);
	default: return a % 100;
	}
}

static void x87_state(struct x86_fxsave *x, uint64_t seed)
{
	static const uint16_t exponent[] = { 0, 0x8000, 1, 0x7ffe, 0x7fff, 0xffff, 0x3fff, 0xbfff, 0x403e, 0x4000, 0x3f6a, 0x3c01 };
	static const uint64_t significand[] = { 0, BIT(63), BIT(63) | 1, ~0ULL, 3 * BIT(62), BIT(62), 0xa000000000000000, 1 };
	uint64_t r = bulk_hash(seed, 100);
	unsigned masks = r & 1 ? 0x3f : r >> 1 & 0x3f;

	x->fcw = (uint16_t)(0x40 | masks | (r >> 8 & 1 ? 3 : r >> 9 & 3) << 8 | (r >> 11 & 3) << 10);
	x->fsw = (uint16_t)((r >> 13 & 7) << 11 | (r >> 16 & 1 ? r >> 17 & 0x477f : 0));
	if (r >> 40 & 15)
		x->fsw &= (uint16_t)(0xff40 | x->fcw); /* mostly nothing is pending */
	if (x->fsw & ~x->fcw & 0x3f)
		x->fsw |= 0x8080;
	x->ftw = (uint8_t)(r >> 44 & 1 ? 0xff : r >> 45);
	for (unsigned n = 0; n < 8; n++) {
		uint64_t v = bulk_hash(seed, 110 + n), s = v >> 60 < 5 ? significand[v % ARRAY_SIZE(significand)] : bulk_hash(v, 1) | BIT(63);
		uint16_t e = v >> 56 & 3 ? (uint16_t)(0x3fff - 66 + (v >> 8) % 132) | (v >> 7 & 1 ? 0x8000 : 0)
					 : exponent[(v >> 8) % ARRAY_SIZE(exponent)];
		memcpy(x->st[n], &s, 8);
		memcpy(x->st[n] + 8, &e, 2);
	}
}

bool bulk_has_memory(const struct insn *i)
{
	return i->form == FORM_M || i->form == FORM_RM || i->form == FORM_MR || i->form == FORM_MI || i->form == FORM_RMI ||
	       i->form == FORM_MRI || i->form == FORM_MRR || i->form == FORM_RRM || i->form == FORM_RMR || i->form == FORM_RRMI ||
	       i->form == FORM_RRMR;
}

static unsigned memory_size(const struct insn *i)
{
	bool first = i->form == FORM_M || i->form == FORM_MR || i->form == FORM_MI || i->form == FORM_MRI || i->form == FORM_MRR;
	unsigned size = first ? i->size : i->ssize;
	return size ? MIN(size, 64u) : 1;
}

/* The linear address of the operand; decides the kind. */
static uint64_t place(struct bulk_case *c, const struct insn *i)
{
	uint64_t r = bulk_hash(c->seed, 200), size = memory_size(i), part = size > 1 ? 1 + (r >> 16) % (size - 1) : 1;
	bool low = r >> 40 & 1, aligned = (r >> 41 & 3) != 0;
	uint64_t at;

	c->missing = 0;
	switch (r % 16) {
	default:
		c->kind = KIND_INSIDE;
		at = HOST_DATA + 64 + (r >> 16) % (X86_PAGE_SIZE - 256) + ((r >> 44) % HOST_DATA_PAGES) * X86_PAGE_SIZE;
		return aligned ? at & ~(size - 1 ? (1ULL << (31 - __builtin_clz((unsigned)size))) - 1 : 0) : at;
	case 8:
		c->kind = KIND_CROSS;
		return HOST_DATA + X86_PAGE_SIZE * (1 + (r >> 44) % (HOST_DATA_PAGES - 1)) - part;
	case 9:
	case 10:
		c->kind = KIND_END;
		c->missing = (unsigned)(size > 1 ? size - part : 1);
		at = low ? HOST_READONLY : HOST_DATA + HOST_SPAN;
		return at - (size > 1 ? part : 0);
	case 11:
	case 12:
		c->kind = KIND_START;
		c->missing = (unsigned)part;
		return HOST_DATA - part;
	case 13:
		c->kind = KIND_READONLY;
		return HOST_READONLY + 64 + (r >> 16) % 1024 * (aligned ? 32 : 1);
	case 14:
		c->kind = KIND_HOLE;
		return HOST_DATA + HOST_SPAN + 0x1000 + (r >> 16) % 1024 * (aligned ? 32 : 1);
	case 15:
		c->kind = KIND_FAR;
		if (c->mode == MODE_CODE16)
			return HOST_DATA + 0x10000 - part;
		if (c->mode == MODE_CODE32) {
			c->kind = KIND_HOLE;
			return HOST_DATA - 0x2000 + (r >> 16) % 1024;
		}
		return low ? BIT(47) - (r >> 20) % 33 : 0x9000000000000000 + (r >> 20) % 64;
	}
}

static uint64_t segment_base(const struct bulk_case *c, const struct insn *i)
{
	if (c->mode == MODE_CODE16)
		return i->seg == SEG_CS ? HOST_CODE : HOST_DATA;
	return c->mode == MODE_CODE64 && i->seg == SEG_FS ? host_fs_base() : c->mode == MODE_CODE64 && i->seg == SEG_GS ? HOST_GS_BASE : 0;
}

struct insn bulk_decode(const struct bulk_case *c, const struct x86_core *core)
{
	struct insn i = { 0 };
	uint32_t mode = core->mode & ~(uint32_t)(MODE_CODE | MODE_STACK | MODE_FLAT);
	mode |= c->mode | (c->mode == MODE_CODE64 ? MODE_STACK64 | MODE_FLAT : c->mode == MODE_CODE32 ? MODE_STACK32 | MODE_FLAT : MODE_STACK16);
	if (!x86_decode(&i, c->bytes, c->length, mode, core->model))
		i.op = X86_OP_INVALID;
	return i;
}

static uint64_t rip_of(const struct bulk_case *c)
{
	return (c->mode == MODE_CODE16 ? 0 : HOST_CODE) + RIP_AT;
}

/* Makes the registers point to the place. What has none but a displacement points where its bytes say. */
static void aim(struct bulk_case *c, const struct insn *i, struct host_state *s)
{
	uint64_t offset = place(c, i) - segment_base(c, i), mask = size_mask(i->asize);
	unsigned base = i->base / 8, index = i->scaled / 8;
	uint64_t sum = offset - (uint64_t)i->disp, value;

	if (base >= 16 && index >= 16)
		return;
	if (base < 16 && base == index) {
		value = sum / (1 + BIT(i->scale));
	} else if (base < 16) {
		if (index < 16 && i->asize == 8)
			s->gpr[index] = (uint64_t)(int64_t)(int32_t)s->gpr[index];
		value = sum - (index < 16 ? s->gpr[index] << i->scale : 0);
	} else {
		base = index;
		value = sum >> i->scale;
	}
	s->gpr[base] = (value & mask) | (s->gpr[base] & ~mask);
}

void bulk_state(struct bulk_case *c, struct host_state *s, const struct x86_core *core)
{
	struct insn i = bulk_decode(c, core);
	uint64_t r = bulk_hash(c->seed, 1), value;

	memset(s, 0, sizeof(*s));
	s->rip = rip_of(c);
	for (unsigned n = 0; n < (c->mode == MODE_CODE64 ? 16u : 8u); n++) {
		value = c->plain >> (PLAIN_GPR + n) & 1 ? 0 : operand(c->seed, 10 + n);
		s->gpr[n] = c->mode == MODE_CODE64 ? value : (uint32_t)value;
	}
	s->gpr[RSP] = (c->mode == MODE_CODE16 ? 0 : HOST_DATA) + 0x800;
	for (unsigned n = 0; n < 16; n++)
		for (unsigned k = 0; k < 4 && !(c->plain >> (PLAIN_VECTOR + n) & 1); k++) {
			value = operand(c->seed, 30 + 4 * n + k);
			memcpy((k < 2 ? s->fx.xmm[n] : s->avx.ymm_high[n]) + 8 * (k & 1), &value, 8);
		}
	s->rflags = FLAG_FIXED | FLAG_IF | (c->plain >> PLAIN_FLAGS & 1 ? 0 : r & FLAGS_ARITH);
	s->fx.mxcsr = c->plain >> PLAIN_MXCSR & 1 || r >> 62 == 0 ? 0x1f80 : r >> 62 == 1 ? (uint32_t)(r >> 20) & 0xffff
									     : 0x1f80 | ((uint32_t)(r >> 20) & 0xe07f);
	s->fx.fcw = 0x37f;
	if (!(c->plain >> PLAIN_X87 & 1))
		x87_state(&s->fx, c->seed);
	c->kind = KIND_REGISTER;
	if (i.form == FORM_RMR && i.src2 && i.op >= X86_OP_VADDPD) { /* a gather: indices that stay near */
		for (unsigned k = 0; k < 4; k++) {
			value = bulk_hash(c->seed, 300 + k) % (r >> 50 & 1 ? 32 : 2048) - 16;
			memcpy((k < 2 ? s->fx.xmm[i.src2 / 16] : s->avx.ymm_high[i.src2 / 16]) + 8 * (k & 1), &value, 8);
		}
	}
	if (bulk_has_memory(&i))
		aim(c, &i, s);
	if (i.op == X86_OP_MASKMOVDQU || i.op == X86_OP_VMASKMOVDQU || i.op == X86_OP_MASKMOVQ) {
		i.size = i.op == X86_OP_MASKMOVQ ? 8 : 16;
		i.form = FORM_M;
		aim(c, &i, s);
	}
	for (unsigned n = 0; n < 16 && c->mode != MODE_CODE64; n++)
		s->gpr[n] = n < 8 ? (uint32_t)s->gpr[n] : 0;
}

void bulk_memory(const struct bulk_case *c)
{
	static uint64_t pool[POOL];

	for (unsigned n = 0; n < POOL && !pool[POOL - 1]; n++) /* the first time; fixed, so that a case does not depend on others */
		pool[n] = n + 1 < POOL ? operand(1, n) : 1;
	if (c->plain >> PLAIN_MEMORY & 1)
		memset((void *)HOST_DATA, 0, HOST_DATA_SIZE);
	else
		memcpy((void *)HOST_DATA, (uint8_t *)pool + bulk_hash(c->seed, 2) % (sizeof(pool) - HOST_DATA_SIZE), HOST_DATA_SIZE);
}

/* --- bytes --- */

static void put(struct bulk_case *c, uint64_t value, unsigned size)
{
	memcpy(c->bytes + c->length, &value, size);
	c->length += size;
}

static void prefixes(struct bulk_case *c, const struct bulk_template *t)
{
	static const uint8_t segments[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 }, mandatory[] = { 0, 0x66, 0xf3, 0xf2 };
	uint8_t list[5];
	unsigned n = 0;

	if (!t->vex && mandatory[t->prefix])
		list[n++] = mandatory[t->prefix];
	if (one_in(12))
		list[n++] = 0x67;
	if (one_in(12))
		list[n++] = segments[random_below(c->mode == MODE_CODE64 ? 6 : 4)]; /* FS and GS hold null selectors */
	if (one_in(80))
		list[n++] = mandatory[1 + random_below(3)];
	if (one_in(200))
		list[n++] = 0xf0;
	while (n) {
		unsigned k = random_below(n);
		put(c, list[k], 1);
		list[k] = list[--n];
	}
}

bool bulk_make(struct bulk_case *c, const struct bulk_template *t, const struct x86_core *core)
{
	static const uint8_t escape[] = { 0, 0, 0x38, 0x3a };
	bool code64 = bulk_modes[t->mode] == MODE_CODE64;
	unsigned rxb = code64 && !one_in(3) ? random_below(8) : 0, vvvv = one_in(2) ? 0 : random_below(code64 ? 16 : 8);

	*c = (struct bulk_case){ .mode = bulk_modes[t->mode], .seed = random_next() >> 20 };
	prefixes(c, t);
	if (t->vex) {
		put(c, 0xc4, 1);
		put(c, (rxb ^ 7) << 5 | t->map, 1);
		put(c, (unsigned)t->wide << 7 | (~vvvv & 15) << 3 | (unsigned)t->l << 2 | t->prefix, 1);
	} else {
		if (code64 && (t->wide || one_in(2)))
			put(c, 0x40u | (unsigned)t->wide << 3 | rxb, 1);
		if (t->map)
			put(c, 0x0f, 1);
		if (escape[t->map])
			put(c, escape[t->map], 1);
	}
	put(c, t->opcode, 1);
	unsigned disp_at = 0;
	if (t->memory < 2) {
		unsigned mod = t->memory ? random_below(3) : 3, rm = t->memory ? random_below(8) : t->rm;
		put(c, mod << 6 | (unsigned)t->reg << 3 | rm, 1);
		if (t->memory) {
			put(c, random_next(), 1); /* SIB, displacement or immediate, as it comes */
			disp_at = c->length - 1;
		}
	}
	put(c, random_next(), 8);
	struct insn i = bulk_decode(c, core);
	if (i.op == X86_OP_INVALID && i.exec != x86_exec_ud)
		return false;
	if (i.op != X86_OP_INVALID)
		c->length = i.length;
	/* An address without registers: the displacement is the last four (16-bit: two) bytes before the immediate, if it is where we think. */
	if (i.op != X86_OP_INVALID && bulk_has_memory(&i) && i.base / 8 >= 16 && i.scaled / 8 >= 16 && t->memory == 1) {
		uint64_t want = place(c, &i) - segment_base(c, &i), rip = i.base / 8 == X86_GPR_RIP ? rip_of(c) + i.length : 0;
		unsigned size = i.asize == 2 ? 2 : 4;
		want -= rip;
		if ((c->bytes[disp_at - 1] & 7) == 4 && i.asize != 2)
			disp_at++; /* a SIB byte without a base */
		memcpy(c->bytes + disp_at, &want, size);
		struct insn again = bulk_decode(c, core);
		if (again.op != i.op || again.length != i.length)
			return false;
	}
	return true;
}

void bulk_print(const struct bulk_case *c, char text[160])
{
	int n = sprintf(text, "%s ", bulk_mode_names[c->mode == MODE_CODE64 ? 0 : c->mode == MODE_CODE32 ? 1 : 2]);
	for (unsigned k = 0; k < c->length; k++)
		n += sprintf(text + n, "%02x", c->bytes[k]);
	sprintf(text + n, " seed %llx plain %llx", (unsigned long long)c->seed, (unsigned long long)c->plain);
}

bool bulk_parse(struct bulk_case *c, const char *text)
{
	char hex[64];
	unsigned bits, byte;
	unsigned long long seed, plain;

	*c = (struct bulk_case){ 0 };
	if (sscanf(text, "%u %48[0-9a-f] seed %llx plain %llx", &bits, hex, &seed, &plain) != 4)
		return false;
	c->mode = bits == 64 ? MODE_CODE64 : bits == 32 ? MODE_CODE32 : MODE_CODE16;
	for (const char *h = hex; sscanf(h, "%2x", &byte) == 1 && h[1]; h += 2)
		c->bytes[c->length++] = (uint8_t)byte;
	c->seed = seed;
	c->plain = plain;
	return c->length > 0;
}
