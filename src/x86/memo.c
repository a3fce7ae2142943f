/* SPDX-License-Identifier: MIT */
/* Decoding with a memory: memo.h has the idea.
 *
 * What is kept of a beginning is a decoded instruction, and where and how displacement and immediate are put into it. That is tried before it is
 * believed: a second instruction with the same beginning and other values is decoded, and must be what the copy would be. So nothing here
 * needs to know which opcodes look at their immediate in other ways (the fourth register of VBLENDVPS, a far pointer): they are
 * found out, and always decoded. SDM volume 2, chapter 2; which opcodes have a ModRM byte: appendix A. */
#include <string.h>
#include "util/pages.h"
#include "x86/cpu.h"
#include "x86/exec.h"
#include "x86/memo.h"

#define MEMO_BITS 15

enum { SIGN_EXTENDED, ZERO_EXTENDED, USELESS }; /* the immediate; or nothing may be copied */

/* As much as a line of the host's cache: that it is mostly not there is what decoding costs. Of the instruction all but its values is kept from
 * `op` on; its function as the distance from another one. */
#define INSN_REST offsetof(struct insn, op)

struct memo_entry {
	uint64_t begin;     /* the bytes, behind them zeros */
	uint16_t mode;
	uint8_t size;       /* how many; 0: an empty entry */
	uint8_t disp, imm;  /* sizes */
	uint8_t kind;
	int16_t value;      /* the immediate of what has none, as of a shift by 1 */
	int32_t exec;
	struct x86_shape shape;
	uint8_t rest[sizeof(struct insn) - INSN_REST];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct memo_entry) == 64 && INSN_REST == 3 * sizeof(uint64_t), "memo_entry");

struct x86_memo {
	const struct x86_model *model;
	uint64_t misses;
	struct { uint64_t bytes; uint32_t mode; unsigned size, rest; } ahead; /* what beginning() says of the bytes that follow, perhaps */
	struct memo_entry entry[2 << MEMO_BITS];
};

struct x86_memo *x86_memo_new(const struct x86_model *model)
{
	struct x86_memo *memo = pages_map(sizeof(*memo), PROT_READ | PROT_WRITE);

	if (memo)
		memo->model = model;
	return memo;
}

void x86_memo_free(struct x86_memo *memo)
{
	pages_unmap(memo, sizeof(*memo));
}

uint64_t x86_memo_misses(const struct x86_memo *memo)
{
	return memo->misses;
}

/* --- the beginning of an instruction --- */

/* Opcodes of one byte, and those behind 0F, that have a ModRM byte: bit n of row m is opcode 16 m + n. Behind 0F38 and 0F3A all have. */
static const uint16_t has_modrm[2][16] = {
	{ 0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0, 0, 0x0a08, 0, 0xffff, 0, 0, 0, 0x00c3, 0xff0f, 0, 0xc0c0 },
	{ 0x200f, 0xffff, 0xff0f, 0, 0xffff, 0xffff, 0xffff, 0xf37f, 0, 0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff },
};

/* In the same way, those with an immediate of 1 byte, and of 4. */
static const uint16_t has_imm8[2][16] = {
	{ 0x1010, 0x1010, 0x1010, 0x1010, 0, 0, 0x0c00, 0xffff, 0x000d, 0, 0x0100, 0x00ff, 0x2043, 0x0030, 0x08ff, 0 },
	{ 0, 0, 0, 0, 0, 0, 0, 0x000f, 0, 0, 0x1010, 0x0400, 0x0074, 0, 0, 0 },
};
static const uint16_t has_imm32[2][16] = {
	{ 0x2020, 0x2020, 0x2020, 0x2020, 0, 0, 0x0300, 0, 0x0002, 0, 0x0200, 0xff00, 0x0080, 0, 0x0300, 0 },
	{ 0, 0, 0, 0, 0, 0, 0, 0, 0xffff, 0, 0, 0, 0, 0, 0, 0 },
};

static bool is_prefix(uint8_t byte)
{
	return byte == 0x66 || (byte & 0xfe) == 0xf2 || byte == 0xf0 || (byte & 0xe7) == 0x26 || (byte & 0xfe) == 0x64;
}

/* How many bytes stand before displacement and immediate; 0: more than are kept, or it is of a kind that is always decoded. To be wrong
 * about an opcode costs time, no more: see learn(). *rest: how many there may be of these two, a guess. Reads 8 bytes. */
static unsigned beginning(const uint8_t *bytes, uint32_t mode, unsigned *rest)
{
	bool code64 = (mode & MODE_CODE) == MODE_CODE64, modrm;
	unsigned n = 0, map = 0;
	uint8_t first;

	if ((mode & MODE_CODE) == MODE_CODE16)
		return 0;
	while (n < 4 && is_prefix(bytes[n]))
		n++;
	if (code64 && (bytes[n] & 0xf0) == 0x40)
		n++;
	first = bytes[n++];
	switch (first) {
	case 0x62: case 0x67: case 0x8f: case 0xa0: case 0xa1: case 0xa2: case 0xa3:
		return 0;
	case 0x0f:
		map = bytes[n] == 0x38 || bytes[n] == 0x3a ? 2 : 1;
		n += map - 1;
		first = bytes[n++];
		if (map == 1 && first == 0x0f)
			return 0;
		break;
	case 0xc4: case 0xc5:
		if (n > 1 || (!code64 && bytes[n] < 0xc0))
			return 0;
		n += first == 0xc4 ? 2 : 1;
		map = bytes[n++] == 0x77 ? 3 : 2;
		break;
	default:
		break;
	}
	modrm = map > 1 ? map == 2 : has_modrm[map][first >> 4] >> (first & 15) & 1;
	*rest = map > 1 ? 0 : (has_imm8[map][first >> 4] >> (first & 15) & 1u) + (has_imm32[map][first >> 4] >> (first & 15) & 1u) * 4;
	if (modrm && n >= 8)
		return 0;
	if (modrm) {
		uint8_t byte = bytes[n++];
		n += byte < 0xc0 && (byte & 7) == 4; /* SIB */
		*rest += byte >= 0xc0 ? 0 : byte >= 0x80 || (byte & 0xc7) == 5 ? 4 : byte >= 0x40;
	}
	return n <= 8 ? n : 0;
}

static uint64_t load_begin(const uint8_t *bytes, unsigned n)
{
	uint64_t value;

	memcpy(&value, bytes, 8);
	return value & ~0ULL >> (64 - 8 * n);
}

/* Two entries side by side, the later one first. */
static struct memo_entry *pair_of(struct x86_memo *memo, uint64_t begin, uint32_t mode)
{
	return &memo->entry[((begin ^ (uint64_t)mode << 45) * 0x9e3779b97f4a7c15ULL) >> (64 - MEMO_BITS) << 1];
}

static bool is(const struct memo_entry *e, uint64_t begin, unsigned size, uint32_t mode)
{
	return e->begin == begin && e->mode == mode && e->size == size;
}

/* --- copies --- */

static int64_t load_value(const uint8_t *at, unsigned size, bool zero_extended)
{
	int64_t value = 0;

	memcpy(&value, at, size);
	if (zero_extended || size == 8)
		return value;
	return (int64_t)((uint64_t)value << (64 - 8 * size)) >> (64 - 8 * size);
}

static unsigned length_of(const struct memo_entry *e)
{
	return e->rest[offsetof(struct insn, length) - INSN_REST];
}

static void copy(const struct memo_entry *e, struct insn *i, const uint8_t *bytes)
{
	uint16_t offset = i->offset;
	uint8_t index = i->index;

	memcpy((char *)i + INSN_REST, e->rest, sizeof(e->rest));
	i->offset = offset;
	i->index = index;
	i->exec = (x86_exec_fn *)((uintptr_t)x86_exec_ud + (uintptr_t)(intptr_t)e->exec);
	i->disp = e->disp ? load_value(bytes + e->size, e->disp, false) : 0;
	if (e->disp && i->base == X86_GPR_RIP * 8)
		i->disp += offset + i->length;
	i->imm = (uint64_t)(e->imm ? load_value(bytes + e->size + e->disp, e->imm, e->kind == ZERO_EXTENDED) : e->value);
}

static bool holds(const struct memo_entry *e, const struct insn *decoded, const uint8_t *bytes)
{
	struct insn copied = { .offset = decoded->offset, .index = decoded->index };

	copy(e, &copied, bytes);
	return !memcmp(decoded, &copied, sizeof(copied));
}

/* Fills the entry from the instruction at these bytes, which are all there. */
static void learn(const struct x86_memo *memo, struct memo_entry *e, const struct insn *i, const struct x86_shape *shape, const uint8_t *bytes)
{
	unsigned values = i->length - e->size;
	struct insn second = { .offset = 100, .index = 3 };
	struct x86_shape second_shape;
	uint8_t other[15];

	e->kind = USELESS;
	e->value = (int16_t)i->imm;
	e->exec = (int32_t)((intptr_t)i->exec - (intptr_t)x86_exec_ud);
	e->shape = *shape;
	memcpy(e->rest, (const char *)i + INSN_REST, sizeof(e->rest));
	if (i->length < e->size || shape->tail < e->size)
		return;
	e->disp = e->shape.tail - e->size;
	e->imm = e->shape.tail_size;
	if ((e->disp & (e->disp - 1)) || e->disp > 4 || (e->imm & (e->imm - 1)) || e->imm > 8)
		return;
	memcpy(other, bytes, i->length);
	for (unsigned n = 0; n < values; n++)
		other[e->size + n] = (uint8_t)(~other[e->size + n] | (n + 1u == e->disp || n + 1 == values ? 0x80 : 0));
	memset(&second_shape, 0, sizeof(second_shape));
	if (x86_decode(&second, other, i->length, e->mode, memo->model) != i->length ||
	    !x86_decode_shape(&second_shape, other, i->length, e->mode, memo->model) || memcmp(&second_shape, &e->shape, sizeof(second_shape)))
		return;
	for (e->kind = SIGN_EXTENDED; e->kind < USELESS; e->kind++)
		if (holds(e, i, bytes) && holds(e, &second, other))
			return;
}

static unsigned decode(const struct x86_memo *memo, struct insn *i, struct x86_shape *shape, bool *has_shape, const uint8_t *bytes,
		       unsigned available, uint32_t mode)
{
	unsigned length = x86_decode(i, bytes, available, mode, memo->model);

	memset(shape, 0, sizeof(*shape)); /* so that they can be compared */
	*has_shape = length && i->op != X86_OP_INVALID && x86_decode_shape(shape, bytes, length, mode, memo->model);
	return length;
}

/* Most beginnings are in none of the host's fast caches: that of the next instruction is asked for before this one is looked at. */
static void look_ahead(struct x86_memo *memo, const uint8_t *bytes, unsigned length, unsigned available, uint32_t mode)
{
	if (length + sizeof(memo->ahead.bytes) > available)
		return;
	memcpy(&memo->ahead.bytes, bytes + length, sizeof(memo->ahead.bytes));
	memo->ahead.mode = mode;
	memo->ahead.size = beginning(bytes + length, mode, &memo->ahead.rest);
	if (memo->ahead.size)
		__builtin_prefetch(pair_of(memo, load_begin(bytes + length, memo->ahead.size), mode));
}

unsigned x86_memo_decode(struct x86_memo *memo, struct insn *i, struct x86_shape *shape, bool *has_shape, const uint8_t *bytes, unsigned available,
			 uint32_t mode)
{
	uint8_t first[8] = { 0 };
	struct memo_entry *e;
	unsigned size, length, rest = 0;
	uint64_t begin;
	bool known;

	memcpy(first, bytes, MIN(available, sizeof(first)));
	if (!memcmp(first, &memo->ahead.bytes, sizeof(first)) && mode == memo->ahead.mode) {
		size = memo->ahead.size;
		rest = memo->ahead.rest;
	} else {
		size = beginning(first, mode, &rest);
	}
	if (!size || size > available) {
		memo->misses++;
		return decode(memo, i, shape, has_shape, bytes, available, mode);
	}
	begin = load_begin(first, size);
	e = pair_of(memo, begin, mode);
	look_ahead(memo, bytes, size + rest, available, mode);
	known = is(e, begin, size, mode) || is(++e, begin, size, mode);
	if (known && e->kind < USELESS && length_of(e) <= available) {
		copy(e, i, bytes);
		*shape = e->shape;
		*has_shape = true;
		return length_of(e);
	}
	memo->misses++;
	length = decode(memo, i, shape, has_shape, bytes, available, mode);
	if (length && !known) {
		*e = e[-1];
		*--e = (struct memo_entry){ .begin = begin, .mode = (uint16_t)mode, .size = (uint8_t)size, .kind = USELESS };
		if (*has_shape)
			learn(memo, e, i, shape, bytes);
	}
	return length;
}
