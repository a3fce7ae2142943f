/* SPDX-License-Identifier: MIT */
/* The code of random loops: SDM volume 2, chapter 2. */
#include "lib/loop_emit.h"

#define SPOTS 400
#define FILLS 16

const struct loop *loop;
uint8_t *at;
bool byte_regs, in_function;
static uint64_t seed;
static uint8_t *spot[SPOTS]; /* immediates of the code */
static unsigned spots;
static uint8_t *fill[FILLS]; /* stores to one of them */
static unsigned fills;

void loop_seed(uint64_t value)
{
	seed = value * 0x2545f4914f6cdd1dULL + 0x1234567;
	for (unsigned n = 0; n < 20; n++)
		loop_pick(2);
}

uint32_t loop_pick(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % n;
}
uint64_t loop_register(unsigned number)
{
	for (unsigned n = 0; n < ARRAY_SIZE(pointers); n++)
		if (pointers[n] == number)
			return LOOP_VA + 0x1000 * pick(4) + pick(2) * 0xf80 + pick(128);
	return (uint64_t)pick(1u << 30) * pick(1u << 30);
}

void rm_(unsigned size, uint32_t op, unsigned reg, unsigned tail, bool lock, unsigned prefix)
{
	unsigned base = pointer(), index = RSP, scale = 0;
	int32_t disp = pick(3) ? (int32_t)pick(64) - 24 : (int32_t)pick(300) - 150;
	unsigned kind = pick(10);
	bool device = !pick(12);
	uint32_t address = device ? LOOP_APIC + 0x80 : LOOP_VA + 0x1000 * pick(4) + 0xfe0 + pick(48);

	if (kind == 0 && !in_function) {
		base = RSP;
		disp = (int)pick(8) * 8 - 16 + (pick(4) ? 0 : (int)pick(8));
	}
	if (kind == 1) {
		index = data();
		scale = pick(4);
		if (pick(100)) { /* it is small */
			byte_regs = true;
			rr(4, 0x0fb6, index, any_data());
			byte_regs = false;
		}
	}
	if (!pick(12) && base != RSP && !(kind == 2 && device)) /* what is beyond the stack, or the device, is not the loop's */
		b(0x64 | pick(2)); /* FS, GS */
	if (lock)
		b(0xf0);
	if (size == 2)
		b(0x66);
	if (prefix)
		b(prefix);
	rex(size, reg, index, kind == 2 ? 0 : base, byte_regs);
	opcode(op);
	if (kind == 2) {
		absolute(reg, address);
	} else {
		bool far = disp != (int8_t)disp;
		b((far ? 0x80 : 0x40) | (reg & 7) << 3 | 4);
		b(scale << 6 | (index & 7) << 3 | (base & 7));
		if (far)
			d((uint32_t)disp);
		else
			b((uint8_t)disp);
	}
	for (unsigned n = 0; n < tail; n++)
		b(pick(256));
}
unsigned width(void)
{
	static const uint8_t sizes[] = { 8, 8, 8, 4, 4, 2 };
	unsigned size = ONE(sizes);
	return size == 8 && !loop->wide ? 4 : size;
}

void mask(unsigned r)
{
	rr(4, 0x81, 4, r), d(SPACE);             /* and r32, SPACE */
	rex(8, r, 0, r, false), b(0x8d), b(0x80 | (r & 7) << 3 | (r & 7)); /* lea r, [r + VA] */
	if ((r & 7) == 4)
		b(0x24);
	d(LOOP_VA);
}

void fix(unsigned r)
{
	for (unsigned n = 0; n < ARRAY_SIZE(pointers); n++)
		if (pointers[n] == r && pick(60))
			mask(r);
}

static void memory(void)
{
	unsigned r = any_data();
	static const uint16_t alu[] = { 0x03, 0x01, 0x33, 0x31, 0x3b, 0x39, 0x2b, 0x29, 0x13, 0x0b, 0x21, 0x85 };

	if (pick(3))
		r = data();
	unsigned which = pick(26);
	if (which == 24 && pick(20))
		which = 0;
	if ((which == 20 || which == 21) && in_function)
		which = 4;
	switch (which) {
	case 0: case 1: case 2: case 3: rm_(width(), 0x8b, data(), 0, false, 0); break;
	case 4: case 5: case 6: case 7: rm_(width(), 0x89, r, 0, false, 0); break;
	case 8: case 9: rm_(width(), ONE(alu), r, 0, false, 0); break;
	case 10: rm_(width(), pick(2) ? 0x0fb6 : 0x0fbe, r, 0, false, 0); break;
	case 11: rm_(4, pick(2) ? 0x0fb7 : 0x0fbf, r, 0, false, 0); break;
	case 12: rm_(width(), 0x87, data(), 0, false, 0); break;
	case 13: rm_(width(), 0x0fc1, r, 0, pick(2), 0); break;
	case 14: rm_(width(), 0x0fb1, r, 0, pick(2), 0); break;
	case 15: rm_(width(), 0xff, pick(2), 0, pick(2), 0); break;
	case 16: rm_(width(), 0xf7, 4 + pick(2), 0, false, 0); break;
	case 17: rm_(width(), 0xc1, pick(2) ? 4 : 5, 1, false, 0); break;
	case 18: rm_(width(), 0x0f40 + pick(16), r, 0, false, 0); break;
	case 19: byte_regs = true; rm_(1, pick(2) ? 0x88 : 0x8a, data(), 0, false, 0); byte_regs = false; break;
	case 20: rm_(4, 0xff, 6, 0, false, 0); break;
	case 21: rm_(4, 0x8f, 0, 0, false, 0); break;
	case 22: rm_(4, pick(2) ? 0x0f10 : 0x0f11, pick(8), 0, false, 0); break;
	case 23: rm_(4, pick(2) ? 0x0f6f : 0x0f7f, pick(8), 0, false, 0xf3); break;
	case 24: rm_(loop->wide ? 8 : 4, 0x0fc7, 1, 0, pick(2), 0); break; /* CMPXCHG16B, CMPXCHG8B */
	case 25: rm_(width(), 0xd3, 4 + pick(2), 0, false, 0); break;
	}
	fix(r);
}

static void registers(void)
{
	unsigned r = any_data(), s = any_data(), p = pointer(), q = pointer(), whole = loop->wide ? 8 : 4;
	static const uint16_t alu[] = { 0x01, 0x03, 0x31, 0x29, 0x11, 0x09, 0x21, 0x39, 0x85, 0x89, 0x8b };

	switch (pick(loop->wide ? 26 : 24)) {
	case 0: case 1: rr(whole, 0x83, pick(2) ? 0 : 5, p), spot[spots++ % SPOTS] = at, b(pick(32)); break;
	case 2: rr(whole, pick(2) ? 0x89 : 0x8b, p, q); break;
	case 3: rr(whole, 0xff, pick(2), p); break;
	case 4: rex(8, p, 0, q, false), b(0x8d), b(0x44 | (p & 7) << 3), b(0x20 | (q & 7)), b(pick(64)); break;
	case 5: rr(width(), 0x87, p, q); break;
	case 6: rr(width(), 0x0fc1, p, q); break;
	case 7: rr(width(), 0x0fb1, p, q); break;
	case 8: rr(width(), 0x0f40 + pick(16), p, q); break;
	case 9: rr(4, 0x83, pick(2) ? 0 : 5, p), b(pick(32)); break;
	case 10: rr(2, 0x83, pick(2) ? 0 : 5, p), b(pick(32)); break;
	case 11: byte_regs = true; rr(1, 0x80, pick(2) ? 0 : 5, p), b(pick(16)); byte_regs = false; break;
	case 12: rr(width(), ONE(alu), r, data()); break;
	case 13: rr(width(), ONE(alu), s, data()); break;
	case 14: byte_regs = true; rr(4, 0x0fb6, data(), s); byte_regs = false; break;
	case 15: { unsigned x = data(); rr(4, 0x83, 4, x), b(pick(0x80)); break; }
	case 16: { unsigned x = data(); rr(4, 0xc1, 5, x), b(20 + pick(12)); break; }
	case 17: rr(width(), 0xf7, 4 + pick(2), s); break;
	case 18: rex(pick(2) ? 8 : 4, 0, 0, s, false), b(0x0f), b(0xc8 | (s & 7)); break;
	case 19: b(0x99); break;
	case 20: rr(width(), 0x0faf, data(), s); break;
	case 21: rr(1, 0x88, pick(8), pick(4)); break; /* AH and friends as a source */
	case 22: rr(1, 0x00, pick(4), 4 + pick(4)); break; /* ... and as a target */
	case 23: b(0xc4), b(0xe2), b((loop->wide ? 0x83 : 0x03) | (~RCX & 15) << 3), b(0xf6), b(0xc0 | RDX << 3 | RSI), mask(RSI); break; /* MULX */
	case 24: rr(width(), ONE(alu), ONE(slotted), ONE(slotted)); break;
	case 25: rr(width(), 0xf7, 2 + pick(2), ONE(slotted)); break;
	}
	fix(r);
	fix(s);
}

/* [base + (index << scale) + disp], for a few accesses in a row. */
static void indexed(unsigned size, uint32_t op, unsigned reg, unsigned base, unsigned index, unsigned scale, int disp)
{
	if (size == 2)
		b(0x66);
	rex(size, reg, index, base, byte_regs);
	opcode(op);
	b(0x40 | (reg & 7) << 3 | 4);
	b(scale << 6 | (index & 7) << 3 | (base & 7));
	b((uint8_t)disp);
}

/* Makes an index, which is below 0x1000, smaller, in a way that all of the register shows, or only a part of it. */
static void cut(unsigned x)
{
	unsigned size = pick(2) ? 1 : 1u << pick(loop->wide ? 4 : 3), other = data();
	bool byte = size == 1;

	if (byte && !loop->wide && x > RBX)
		return;
	byte_regs = byte;
	switch (pick(5)) {
	case 0: rr(byte ? 4 : size, 0x0fb6, x, RAX + pick(4)); break;                     /* movzx */
	case 1: rr(size, byte ? 0x80 : 0x83, 4, x), b(pick(0x80)); break;                 /* and */
	case 2: rr(size, byte ? 0xc0 : 0xc1, 5, x), b(byte ? pick(8) : pick(32)); break;  /* shr */
	case 3:
		rr(4, 0x0fb6, other, RAX + pick(4));
		rr(size, byte ? 0x8a : 0x8b, x, other);                                    /* mov */
		break;
	case 4: rr(4, 0x81, 4, x), d(pick(0x900)); break;
	}
	byte_regs = false;
}

/* Accesses that are somewhere in a table, by an index that is small, as far as is known. What is reached is within the six pages, in any case. */
static void table(void)
{
	unsigned base = pointer(), index = data(), scales = pick(3) ? 2 : 4, scale = pick(scales), sizes = width();

	if (pick(2))
		rr(4, 0x81, 1, base), d(pick(2) ? 0xe00 : 0xfc0); /* near the end of its page */
	rr(4, 0x81, 4, index), d(scales == 2 ? 0xfff : 0x3ff);
	for (unsigned count = 3 + pick(4), n = count; n--;) {
		unsigned reg = data();
		if (n + 1 == count || !pick(3))
			cut(index);
		if (reg == index)
			reg = RAX + (index == RAX);
		indexed(pick(3) ? sizes : width(), pick(3) ? 0x8b : 0x89, reg, base, index, pick(6) ? scale : pick(scales), (int)pick(64) - 16);
	}
}

/* Pushes and pops, of memory too, that stay where they are. */
static void stack(void)
{
	unsigned count = 3 + pick(4);

	for (unsigned n = count; n--;) {
		unsigned r = any_data();
		if (pick(2))
			rm_(4, 0xff, 6, 0, false, 0);
		else
			rex(4, 0, 0, r, false), b(0x50 | (r & 7));
	}
	for (unsigned n = count; n--;) {
		unsigned r = data();
		rex(4, 0, 0, r, false), b(0x58 | (r & 7));
	}
}

/* --- what happens in one round only --- */

static void remap(void)
{
	unsigned n = pick(6), k = pick(LOOP_FRAMES + 1);
	unsigned rights = pick(5) ? 3 : pick(2) ? 1 : 0, user = loop->smap && pick(3) ? 4 : 0;

	w(), b(0xc7), absolute(0, loop->entry[n]); /* mov [entry], frame | flags */
	d((k < LOOP_FRAMES ? loop->frame[k] | rights : LOOP_IOAPIC | 1) | user);
	b(0x0f), b(0x01), absolute(7, LOOP_VA + n * LOOP_PAGE); /* invlpg */
}

static void store_to_code(void)
{
	fill[fills++] = at;
	b(0xc6), absolute(0, 0), b(pick(64));
}

static void single_step(void)
{
	b(0x9c), b(0x81), b(0x0c), b(0x24), d(0x100), b(0x9d); /* pushf; or dword [rsp], TF; popf */
}

static void breakpoint(void)
{
	static const uint8_t kind[] = { 1, 3, 13, 15 }; /* writes of 1 byte, any access of 1 byte, writes of 4, any of 4 */

	b(0x50);                                       /* push rax */
	b(0xb8), d(LOOP_VA + 0x1000 * pick(4) + 4 * pick(1024));
	b(0x0f), b(0x23), b(0xc0);                     /* mov dr0, rax */
	b(0xb8), d(0x401 | (uint32_t)ONE(kind) << 16);
	b(0x0f), b(0x23), b(0xf8);                     /* mov dr7, rax */
	b(0x58);
	rr(4, 0x31, RAX, RAX);                         /* MOV to a debug register leaves flags undefined */
}

static void other_base(void)
{
	b(0x50), b(0xb8), d(pick(0x1800));
	b(0xf3), b(0x48), b(0x0f), b(0xae), b(0xd0 | pick(2) << 3); /* wrfsbase rax, wrgsbase */
	b(0x58);
}

static void event(void)
{
	uint32_t round = pick(3) ? 1 + pick(LOOP_ROUNDS - 10) : 1 + pick(40);
	uint8_t *jump;

	if (loop->wide)
		b(0x41), b(0x81), b(0xfd);             /* cmp r13d, round */
	else
		b(0x81), absolute(7, LOOP_COUNT);
	d(round);
	b(0x75), b(0), jump = at;
	switch (pick(10)) {
	case 0: single_step(); break;
	case 1:
		if (!loop->ring3)
			breakpoint();
		break;
	case 2:
		if (loop->bases)
			other_base();
		break;
	case 3: case 4: case 5: case 6:
		if (loop->remaps && !loop->ring3) {
			remap();
			break;
		} /* fallthrough */
	default:
		if (fills < FILLS)
			store_to_code();
	}
	jump[-1] = (uint8_t)(at - jump);
}

/* What a kernel does. */
static void system_instruction(void)
{
	switch (loop->ring3 ? 0 : loop->smap && pick(3) ? 5 : pick(6)) {
	case 0: case 1: b(0x9c), b(0x58 | pick(3)); break; /* pushf; pop rax, rcx or rdx */
	case 2: b(0xfa); break;                                             /* cli */
	case 3: b(0xfb); break;                                             /* sti */
	case 4:
		if (loop->wide)
			b(0x0f), b(0x01), b(0xf8);                           /* swapgs */
		break;
	case 5:
		if (loop->smap)
			b(0x0f), b(0x01), b(0xca + pick(2));                 /* clac, stac */
		break;
	}
}

static void branch(void)
{
	uint8_t *jump;

	b(0x70 + pick(16)), b(0);
	jump = at;
	some(1 + pick(4), 3);
	if (at - jump > 127) /* too long: nothing is jumped over */
		jump[-2] = 0x90, jump[-1] = 0x90;
	else
		jump[-1] = (uint8_t)(at - jump);
}

static void function(void)
{
	uint8_t *start;

	b(0xe9), d(0);
	start = at;
	in_function = true;
	some(1 + pick(4), 3);
	in_function = false;
	b(0xc3);
	uint32_t over = (uint32_t)(at - start);
	memcpy(start - 4, &over, 4);
	b(0xe8), d((uint32_t)(start - (at + 4)));
}

void some(unsigned n, unsigned depth)
{
	while (n-- && at < loop->code + LOOP_LARGEST) {
		unsigned k = pick(in_function ? 33 : 48);
		unsigned r = any_data();
		if (!in_function && !pick(12))
			event();
		if (loop->forms && pick(2))
			loop_form(depth);
		else if (k < 20)
			memory();
		else if (k < 30)
			registers();
		else if (k < 33)
			table();
		else if (k < 35)
			rex(4, 0, 0, r, false), b(0x50 | (r & 7));
		else if (k < 37)
			r = data(), rex(4, 0, 0, r, false), b(0x58 | (r & 7));
		else if (k < 38)
			rr(loop->wide ? 8 : 4, 0x83, pick(2) ? 0 : 5, RSP), b(8 * pick(3));
		else if (k < 39)
			mask(pointer());
		else if (k < 40)
			w(), b(0x89), b(0xe5), b(0x51), b(0xc9), mask(RBP); /* mov rbp, rsp; push rcx; leave */
		else if (k < 42)
			system_instruction();
		else if (k < 44)
			stack();
		else if (depth < 3) {
			if (k < 47)
				branch();
			else
				function();
		}
	}
}

/* --- the loop --- */

static void begin(void)
{
	if (loop->wide) {
		b(0x49), b(0x89), b(0xe6);                     /* mov r14, rsp: the stack, way up */
		b(0x49), b(0x81), b(0xee), d(0x1000);          /* sub r14, 0x1000 */
	} else {
		b(0x89), absolute(RSP, LOOP_STACK);
		b(0x81), absolute(5, LOOP_STACK), d(0x1000);
		b(0xb8), d(loop->fs), b(0x8e), b(0xe0);        /* mov fs, eax */
		b(0xb8), d(loop->gs), b(0x8e), b(0xe8);
	}
	if (loop->smap && pick(4))
		b(0x0f), b(0x01), b(0xcb);
	if (!loop->ring3)
		b(0xfb);
	for (unsigned n = 0; n < (loop->wide ? 16 : 8); n++)
		if (n != RSP && n != R14)
			rex(8, n, 0, 0, false), b(0x8b), absolute(n, LOOP_SHARED + 8 * n);
}

static void top_of_stack(void)
{
	if (loop->wide)
		b(0x4c), b(0x89), b(0xf4);                     /* mov rsp, r14 */
	else
		b(0x8b), absolute(RSP, LOOP_STACK);
}

static void end(const uint8_t *head)
{
	if (loop->wide)
		b(0x49), b(0xff), b(0xcd);                     /* dec r13 */
	else
		b(0xff), absolute(1, LOOP_COUNT);
	b(0x0f), b(0x84), d(5);
	b(0xe9), d((uint32_t)(head - (at + 4)));
	top_of_stack();
	w(), b(0x81), b(0xc4), d(0x1000);
	for (unsigned n = 0; n < (loop->wide ? 16 : 8); n++)
		rex(8, n, 0, 0, false), b(0x89), absolute(n, LOOP_SHARED + 8 * (16 + n));
	b(0x9c), b(0x8f), absolute(0, LOOP_SHARED + 8 * 32);
	b(0xc3);
}

void loop_generate(const struct loop *l)
{
	uint8_t *head;

	loop = l;
	at = l->code;
	spots = fills = 0;
	if (l->forms && !pick(4)) { /* it crosses the end of the page */
		uint32_t skip = LOOP_PAGE - 5 - pick(1500);
		b(0xe9), d(skip), at += skip;
	}
	begin();
	head = at;
	top_of_stack();
	for (unsigned n = 0; n < (l->wide ? 5u : 4u); n++)
		mask(pointers[n]);
	if (l->forms)
		loop_theme();
	some(l->forms && pick(2) ? 2 + pick(4) : 6 + pick(28), 0);
	end(head);
	for (unsigned n = 0; n < fills; n++) {
		uint32_t to = LOOP_CODE + (uint32_t)((spots ? spot[pick(spots < SPOTS ? spots : SPOTS)] : l->code + LOOP_PAGE + 0xf00) - l->code);
		memcpy(fill[n] + 3, &to, 4);
	}
}
