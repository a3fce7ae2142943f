/* SPDX-License-Identifier: MIT */
/* Random loops, which become hot: loads, stores and arithmetic of each operand size on the registers that addresses are made of, pushes and pops,
 * calls and branches, over pages of which some may not be written or are not there; in one of their rounds a page is mapped otherwise,
 * or an immediate of the code changes. What comes of each, as a checksum of registers, memory and the exception that ended it, is compared between
 * engines (tests/boot/random.sh). Every other one runs in ring 3. The command line: the number of the first, how many. */
#include "lib/guest.h"

#define VA 0x63450000ULL /* six pages, and one before them */
#define SHARED (VA + 8 * PAGE) /* registers before and after: 16 and 17 words */
#define CODE (VA + 10 * PAGE)  /* two pages, as ring 3 sees it */
#define SPACE 0x3fff     /* the part of them that pointers are put back into */
#define ROUNDS 6000

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
static const uint8_t pointer[] = { RSI, RDI, RBX, RBP, R12 };
static const uint8_t data[] = { RAX, RCX, RDX, R8, R9, R10, R11, R15, RSI, RDI, RBX, RBP, R12 };

static uint64_t seed;
static bool byte_regs;   /* a REX prefix even where it is empty: SIL, not DH */
static bool in_function; /* which leaves the stack alone */
static uint8_t *at, *code;
static uint64_t *regs, *out;
static bool ring3;
static uint8_t *page[8];
static uint8_t *spot[400]; /* immediates of the code */
static unsigned spots;
static uint8_t *fill[16];  /* stores to one of them */
static unsigned fills;

static uint32_t pick(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % n;
}
#define ONE(a) (a[pick(ARRAY_SIZE(a))])
static void b(unsigned v) { *at++ = (uint8_t)v; }
static void d(uint32_t v)
{
	memcpy(at, &v, 4);
	at += 4;
}

/* --- instructions: SDM volume 2, chapter 2 --- */

static void opcode(uint32_t op)
{
	if (op > 0xffff)
		b(op >> 16);
	if (op > 0xff)
		b(op >> 8 & 0xff);
	b(op & 0xff);
}
static void rex(unsigned size, unsigned reg, unsigned x, unsigned rm, bool force)
{
	unsigned r = (size == 8 ? 8 : 0) | (reg >> 3) << 2 | (x >> 3) << 1 | rm >> 3;
	if (r || force)
		b(0x40 | r);
}
static void rr(unsigned size, uint32_t op, unsigned reg, unsigned rm)
{
	if (size == 2)
		b(0x66);
	rex(size, reg, 0, rm, byte_regs);
	opcode(op);
	b(0xc0 | (reg & 7) << 3 | (rm & 7));
}
static void rm_(unsigned size, uint32_t op, unsigned reg, unsigned tail, bool lock, unsigned prefix)
{
	unsigned base = ONE(pointer), index = RSP, scale = 0;
	int32_t disp = pick(3) ? (int32_t)pick(64) - 24 : (int32_t)pick(300) - 150;
	unsigned kind = pick(10);
	bool absolute = false;

	if (kind == 0 && !in_function) {
		base = RSP;
		disp = (int)pick(8) * 8 - 16 + (pick(4) ? 0 : (int)pick(8));
	}
	if (kind == 1) {
		index = data[pick(8)];
		scale = pick(4);
		if (pick(100)) { /* it is small */
			byte_regs = true;
			rr(4, 0x0fb6, index, ONE(data));
			byte_regs = false;
		}
	}
	if (kind == 2) absolute = true;
	if (lock)
		b(0xf0);
	if (size == 2)
		b(0x66);
	if (prefix)
		b(prefix);
	rex(size, reg, index, absolute ? 0 : base, byte_regs);
	opcode(op);
	if (absolute) {
		b((reg & 7) << 3 | 4);
		b(0x25);
		d((uint32_t)VA + 0x1000 * pick(4) + 0xfe0 + pick(48));
	} else {
		bool wide = disp != (int8_t)disp;
		b((wide ? 0x80 : 0x40) | (reg & 7) << 3 | 4);
		b(scale << 6 | (index & 7) << 3 | (base & 7));
		if (wide)
			d((uint32_t)disp);
		else
			b((uint8_t)disp);
	}
	for (unsigned n = 0; n < tail; n++)
		b(pick(256));
}
static unsigned width(void)
{
	static const uint8_t w[] = { 8, 8, 8, 4, 4, 2 };
	return ONE(w);
}

/* The pointer is within SPACE again. */

static void mask(unsigned r)
{
	rr(4, 0x81, 4, r), d(SPACE);             /* and r32, SPACE */
	rex(8, r, 0, r, false), b(0x8d), b(0x80 | (r & 7) << 3 | (r & 7)); /* lea r, [r + VA] */
	if ((r & 7) == 4)
		b(0x24);
	d((uint32_t)VA);
}

/* The instruction before this may have made a number of a pointer. */
static void fix(unsigned r)
{
	for (unsigned n = 0; n < ARRAY_SIZE(pointer); n++)
		if (pointer[n] == r && pick(60))
			mask(r);
}

static void memory(void)
{
	unsigned r = ONE(data);
	static const uint16_t alu[] = { 0x03, 0x01, 0x33, 0x31, 0x3b, 0x39, 0x2b, 0x29, 0x13, 0x0b, 0x21, 0x85 };

	if (pick(3))
		r = data[pick(8)];
	unsigned which = pick(26);
	if (which == 24 && pick(20))
		which = 0;
	if ((which == 20 || which == 21) && in_function)
		which = 4;
	switch (which) {
	case 0: case 1: case 2: case 3: rm_(width(), 0x8b, data[pick(8)], 0, false, 0); break;
	case 4: case 5: case 6: case 7: rm_(width(), 0x89, r, 0, false, 0); break;
	case 8: case 9: rm_(width(), ONE(alu), r, 0, false, 0); break;
	case 10: rm_(width(), pick(2) ? 0x0fb6 : 0x0fbe, r, 0, false, 0); break;
	case 11: rm_(4, pick(2) ? 0x0fb7 : 0x0fbf, r, 0, false, 0); break;
	case 12: rm_(width(), 0x87, data[pick(8)], 0, false, 0); break;
	case 13: rm_(width(), 0x0fc1, r, 0, pick(2), 0); break;
	case 14: rm_(width(), 0x0fb1, r, 0, pick(2), 0); break;
	case 15: rm_(width(), 0xff, pick(2), 0, pick(2), 0); break;
	case 16: rm_(width(), 0xf7, 4 + pick(2), 0, false, 0); break;
	case 17: rm_(width(), 0xc1, pick(2) ? 4 : 5, 1, false, 0); break;
	case 18: rm_(width(), 0x0f40 + pick(16), r, 0, false, 0); break;
	case 19: byte_regs = true; rm_(1, pick(2) ? 0x88 : 0x8a, data[pick(8)], 0, false, 0); byte_regs = false; break;
	case 20: rm_(4, 0xff, 6, 0, false, 0); break;
	case 21: rm_(4, 0x8f, 0, 0, false, 0); break;
	case 22: rm_(4, pick(2) ? 0x0f10 : 0x0f11, pick(8), 0, false, 0); break;
	case 23: rm_(4, pick(2) ? 0x0f6f : 0x0f7f, pick(8), 0, false, 0xf3); break;
	case 24: rm_(8, 0x0fc7, 1, 0, pick(2), 0); break; /* CMPXCHG16B */
	case 25: rm_(width(), 0xd3, 4 + pick(2), 0, false, 0); break;
	}
	fix(r);
}

static void registers(void)
{
	unsigned r = ONE(data), s = ONE(data), p = ONE(pointer), q = ONE(pointer);
	static const uint16_t alu[] = { 0x01, 0x03, 0x31, 0x29, 0x11, 0x09, 0x21, 0x39, 0x85, 0x89, 0x8b };

	switch (pick(24)) {
	case 0: case 1: rr(8, 0x83, pick(2) ? 0 : 5, p), spot[spots++ % 400] = at, b(pick(32)); break;
	case 2: rr(8, pick(2) ? 0x89 : 0x8b, p, q); break;
	case 3: rr(8, 0xff, pick(2), p); break;
	case 4: rex(8, p, 0, q, false), b(0x8d), b(0x44 | (p & 7) << 3), b(0x20 | (q & 7)), b(pick(64)); break;
	case 5: rr(width(), 0x87, p, q); break;
	case 6: rr(width(), 0x0fc1, p, q); break;
	case 7: rr(width(), 0x0fb1, p, q); break;
	case 8: rr(width(), 0x0f40 + pick(16), p, q); break;
	case 9: rr(4, 0x83, pick(2) ? 0 : 5, p), b(pick(32)); break;
	case 10: rr(2, 0x83, pick(2) ? 0 : 5, p), b(pick(32)); break;
	case 11: byte_regs = true; rr(1, 0x80, pick(2) ? 0 : 5, p), b(pick(16)); byte_regs = false; break;
	case 12: rr(width(), ONE(alu), r, data[pick(8)]); break;
	case 13: rr(width(), ONE(alu), s, data[pick(8)]); break;
	case 14: byte_regs = true; rr(4, 0x0fb6, data[pick(8)], s); byte_regs = false; break;
	case 15: { unsigned x = data[pick(8)]; rr(4, 0x83, 4, x), b(pick(0x80)); break; }
	case 16: { unsigned x = data[pick(8)]; rr(4, 0xc1, 5, x), b(20 + pick(12)); break; }
	case 17: rr(width(), 0xf7, 4 + pick(2), s); break;
	case 18: rex(pick(2) ? 8 : 4, 0, 0, s, false), b(0x0f), b(0xc8 | (s & 7)); break;
	case 19: b(0x99); break;
	case 20: rr(width(), 0x0faf, data[pick(8)], s); break;
	case 21: rr(1, 0x88, pick(8), pick(4)); break; /* AH and friends as a source */
	case 22: rr(1, 0x00, pick(4), 4 + pick(4)); break; /* ... and as a target */
	case 23: b(0xc4), b(0xe2), b(0x83 | (~RCX & 15) << 3), b(0xf6), b(0xc0 | RDX << 3 | RSI), mask(RSI); break; /* MULX RDX, RCX */
	}
	fix(r);
	fix(s);
}

/* In a round of its own: a page is mapped otherwise, or an immediate of the code changes. */
static void event(void)
{
	uint8_t *jump;

	b(0x41), b(0x81), b(0xfd), d(pick(3) ? 1 + pick(5990) : 1 + pick(40));
	b(0x75), b(0), jump = at;
	if (pick(2) && !ring3) {
		unsigned n = pick(6);
		b(0x48), b(0xc7), b(0x04), b(0x25), d((uint32_t)(uint64_t)entry_of(VA + n * PAGE, 1));
		d((uint32_t)(uint64_t)page[pick(8)] | (pick(5) ? 3 : pick(2) ? 1 : 0));
		b(0x0f), b(0x01), b(0x3c), b(0x25), d((uint32_t)VA + n * 4096);
	} else if (fills < 16) {
		fill[fills++] = at;
		b(0xc6), b(0x04), b(0x25), d(0), b(pick(64));
	}
	jump[-1] = (uint8_t)(at - jump);
}

static void some(unsigned n, unsigned depth)
{
	while (n--) {
		unsigned k = pick(in_function ? 30 : 40);
		unsigned r = ONE(data);
		if (!in_function && !pick(12))
			event();
		if (k < 20)
			memory();
		else if (k < 30)
			registers();
		else if (k < 32)
			rex(4, 0, 0, r, false), b(0x50 | (r & 7));
		else if (k < 34)
			r = data[pick(8)], rex(4, 0, 0, r, false), b(0x58 | (r & 7));
		else if (k < 35)
			rr(8, 0x83, pick(2) ? 0 : 5, RSP), b(8 * pick(3));
		else if (k < 36)
			mask(ONE(pointer));
		else if (k < 37)
			b(0x48), b(0x89), b(0xe5), b(0x51), b(0xc9), mask(RBP); /* mov rbp, rsp; push rcx; leave */
		else if (depth < 3) {
			uint8_t *jump;
			if (k < 39) {
				b(0x70 + pick(16)), b(0);
				jump = at;
				some(1 + pick(4), 3);
				jump[-1] = (uint8_t)(at - jump);
			} else { /* call over a function */
				b(0xeb), b(0);
				jump = at;
				in_function = true;
				some(1 + pick(4), 3);
				in_function = false;
				uint8_t *function = jump;
				b(0xc3);
				jump[-1] = (uint8_t)(at - jump);
				b(0xe8), d((uint32_t)(function - (at + 4)));
			}
		}
	}
}

static void generate(void)
{
	uint8_t *loop, *skip;

	at = code;
	spots = fills = 0;
	b(0x49), b(0x89), b(0xe6);                 /* mov r14, rsp: the stack, way up */
	b(0x49), b(0x81), b(0xee), d(0x1000);      /* sub r14, 0x1000 */
	b(0x41), b(0x54), b(0x41), b(0x54);        /* room */
	for (unsigned n = 0; n < 16; n++)          /* mov r, [regs + n] */
		if (n != RSP && n != R14)
			rex(8, n, 0, 0, false), b(0x8b), b((n & 7) << 3 | 4), b(0x25), d((uint32_t)SHARED + 8 * n);
	loop = at;
	b(0x4c), b(0x89), b(0xf4);                 /* mov rsp, r14 */
	for (unsigned n = 0; n < ARRAY_SIZE(pointer); n++)
		mask(pointer[n]);
	some(6 + pick(28), 0);
	b(0x49), b(0xff), b(0xcd);                 /* dec r13 */
	b(0x0f), b(0x84), d(5);
	skip = at;
	b(0xe9), d((uint32_t)(loop - (skip + 5)));
	b(0x4c), b(0x89), b(0xf4);
	b(0x48), b(0x81), b(0xc4), d(0x1000);
	for (unsigned n = 0; n < 16; n++)
		rex(8, n, 0, 0, false), b(0x89), b((n & 7) << 3 | 4), b(0x25), d((uint32_t)SHARED + 8 * (16 + n));
	for (unsigned n = 0; n < fills; n++) {
		uint32_t to = (uint32_t)CODE + (uint32_t)((spots ? spot[pick(spots < 400 ? spots : 400)] : code + PAGE + 0xf00) - code);
		memcpy(fill[n] + 3, &to, 4);
	}
	b(0x9c), b(0x8f), b(0x04), b(0x25), d((uint32_t)SHARED + 8 * 32);
	b(0xc3);
}

static uint64_t hash;
static void mix(uint64_t v) { hash = (hash ^ v) * 0x9e3779b97f4a7c15ULL; hash ^= hash >> 29; }

static void run_one(uint64_t which)
{
	seed = which * 0x2545f4914f6cdd1dULL + 0x1234567;
	for (unsigned n = 0; n < 20; n++)
		pick(2);
	hash = which;
	ring3 = which & 1;
	unsigned bad = pick(4);
	for (unsigned n = 0; n < 6; n++) {
		uint64_t flags = PTE_P | PTE_W | PTE_U;
		if (!bad && n && pick(2))
			flags = pick(2) ? PTE_P | PTE_U : 0;
		map(VA + n * PAGE, (uint64_t)page[pick(8)], flags, 1);
		for (unsigned k = 0; k < PAGE / 8; k++)
			((uint64_t *)page[n])[k] = (uint64_t)k * which;
	}
	map(VA - PAGE, (uint64_t)page[6], PTE_P | PTE_W | PTE_U, 1);
	generate();
	for (unsigned n = 0; n < 16; n++)
		regs[n] = (uint64_t)pick(1u << 30) * pick(1u << 30), out[n] = 0;
	for (unsigned n = 0; n < ARRAY_SIZE(pointer); n++)
		regs[pointer[n]] = VA + 0x1000 * pick(4) + pick(2) * 0xf80 + pick(128);
	regs[R13] = ROUNDS;
	caught.vector = NONE;
	int v = ring3 ? user((void (*)(void *))(CODE - USER_BASE), 0) : attempt((void (*)(void *))code, NULL);
	mix((uint64_t)v);
	if (v != NONE) {
		uint64_t *f = (uint64_t *)&caught.frame;
		for (unsigned n = 0; n < sizeof(caught.frame) / 8; n++)
			mix(f[n]);
		if (v == PF)
			mix(caught.cr2);
	} else {
		for (unsigned n = 0; n < 17; n++)
			mix(out[n]);
	}
	for (unsigned n = 0; n < 8; n++)
		for (unsigned k = 0; k < PAGE / 8; k++)
			mix(((uint64_t *)page[n])[k]);
	print("%lx %d left %lx rip %lx %lx\n", which, v, v == NONE ? 0 : caught.frame.r13, v == NONE ? 0 : caught.frame.rip, hash);
}

int main(void)
{
	extern uint64_t boot_info;
	const char *line = *(const char **)(boot_info + 24);
	uint64_t first = 0, count = 0;

	for (; line && *line >= '0' && *line <= '9'; line++)
		first = first * 10 + (uint64_t)(*line - '0');
	for (line++; *line >= '0' && *line <= '9'; line++)
		count = count * 10 + (uint64_t)(*line - '0');
	for (unsigned l = 4; l > 1; l--) { /* it is in a large page, and not for ring 3 */
		uint64_t *e = entry_of(VA, l);
		if (e)
			*e = l < 4 && (*e & PTE_PS) ? 0 : *e | PTE_U;
	}
	WRITE_CR(3, READ_CR(3));
	code = page_alloc();
	page_alloc();
	regs = page_alloc();
	out = regs + 16;
	map(SHARED, (uint64_t)regs, PTE_P | PTE_W | PTE_U, 1);
	for (unsigned n = 0; n < 2; n++)
		map(CODE + n * PAGE, (uint64_t)code + n * PAGE, PTE_P | PTE_W | PTE_U, 1);
	for (unsigned n = 0; n < 8; n++)
		page[n] = page_alloc();
	WRITE_CR(0, READ_CR(0) | BIT(16));
	WRITE_CR(4, READ_CR(4) | BIT(9) | BIT(10)); /* OSFXSR, OSXMMEXCPT */
	for (uint64_t n = first; n < first + count; n++)
		run_one(n);
	guest_end();
}
