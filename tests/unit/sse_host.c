/* SPDX-License-Identifier: MIT */
/* Every row of insn_sse.def against the host's processor: all its encodings, register and memory forms, with random and
 * special operands under random MXCSR, also with unmasked exceptions and with addresses that fault. */
#include <stdlib.h>
#include <string.h>
#include "hostrun.h"
#include "test.h"

#define ROUNDS 150 /* of each encoding and form */
#define AREA 64    /* bytes of memory around the operand that are compared */

static const struct row {
	uint16_t op;
	const char *name;
} rows[] = {
#define OP(mnemonic, forms, klass, translate) { X86_OP_##mnemonic, #mnemonic },
#include "x86/insn_sse.def"
#undef OP
};
static struct result {
	unsigned encodings, runs;
	char why[400];
} results[X86_OP_COUNT];

static uint64_t seed = 0x9e3779b97f4a7c15;
#define SAY(text, ...) (snprintf(text, sizeof(text), __VA_ARGS__), text)

static uint64_t chance(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d;
}
static unsigned below(unsigned n)
{
	return (unsigned)(chance() >> 33) % n;
}

/* Two singles or a double (the same special values lie near each other's), or bits. */
static uint64_t operand(void)
{
	static const uint32_t single[] = {
		0, 0x80000000, 1, 0x80000001, 0x007fffff, 0x00800000, 0x00800001, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
		0x7fc00000, 0xffc00001, 0x7f800001, 0xffa12345, 0x3f800000, 0xbf800000, 0x3f000000, 0x3fc00000, 0x4b000001,
		0x4f000000, 0xcf000000, 0x4effffff, 0x5f000000, 0xdf000000, 0x34000000, 0x20000000, 0x1fffffff, 0x60000000,
	};
	static const uint64_t wide[] = {
		0, 0x8000000000000000, 1, 0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff, 0x7ff0000000000000,
		0xfff0000000000000, 0x7ff8000000000000, 0xfff8000000000001, 0x7ff0000000000001, 0xfff4000000000000,
		0x3ff0000000000000, 0xbff0000000000000, 0x3fe0000000000000, 0x4330000000000001, 0x41dfffffffc00000,
		0x41e0000000000000, 0xc1e0000000200000, 0x43e0000000000000, 0xc3e0000000000000, 0x36a0000000000001,
		0x380fffffe0000000, 0x3800000000000000, 0x47efffffe0000000, 0x47effffff0000000, 0x1ff0000000000000, 0x2000000000000001,
		0xffffffffffffffff, 0x8080808080808080, 0x0102030405060708, 16, 64, 0x7fff8000ffff0001,
	};
	switch (below(6)) {
	case 0: return chance();
	case 1: return (uint64_t)single[below(ARRAY_SIZE(single))] << 32 | single[below(ARRAY_SIZE(single))];
	case 2: return wide[below(ARRAY_SIZE(wide))];
	case 3: return (uint64_t)(0x3f000000 + below(0x2000000)) << 32 | (0x3e000000 + below(0x3000000));
	case 4: return 0x3fe0000000000000 + (chance() >> 11);
	default: return below(100);
	}
}

static void make_state(struct host_state *s)
{
	struct x86_fxsave *x = &s->fx;
	memset(s, 0, sizeof(*s));
	for (unsigned r = 0; r < 16; r++)
		s->gpr[r] = below(4) ? operand() : below(40);
	s->gpr[RSP] = HOST_DATA + 0x800;
	s->rip = HOST_CODE + 0x100;
	s->rflags = FLAG_FIXED | FLAG_IF | (chance() & FLAGS_ARITH);
	x->fcw = 0x37f;
	x->fsw = (uint16_t)(below(2) ? below(8) << 11 | below(0x40) | below(2) << 14 : 0);
	x->ftw = (uint8_t)(below(2) ? chance() : 0);
	x->mxcsr = below(3) ? 0x1f80 : below(3) ? 0x1f80 | ((uint32_t)chance() & 0xe07f) : (uint32_t)chance() & 0xffff;
	for (unsigned r = 0; r < 16; r++)
		for (unsigned half = 0; half < 2; half++) {
			uint64_t value = operand();
			memcpy(x->xmm[r] + 8 * half, &value, 8);
		}
	for (unsigned r = 0; r < 8; r++) {
		uint64_t value = operand();
		uint16_t top = (uint16_t)chance();
		memcpy(x->st[r], &value, 8);
		memcpy(x->st[r] + 8, &top, 2);
	}
}

static const char *difference(const struct host_state *host, const struct host_state *twin, bool faulted)
{
	static char text[160];
	const struct x86_fxsave *h = &host->fx, *t = &twin->fx;
	for (unsigned r = 0; r < 16; r++)
		if (host->gpr[r] != twin->gpr[r])
			return SAY(text, "gpr %u: host %lx, twin %lx",
				   r, host->gpr[r], twin->gpr[r]);
	for (unsigned r = 0; r < 16; r++)
		if (memcmp(h->xmm[r], t->xmm[r], 16)) {
			uint64_t a[2], b[2];
			memcpy(a, h->xmm[r], 16), memcpy(b, t->xmm[r], 16);
			return SAY(text, "xmm%u: host %016lx%016lx, twin %016lx%016lx",
				   r, a[1], a[0], b[1], b[0]);
		}
	if (host->rip != twin->rip)
		return SAY(text, "rip: host %lx, twin %lx",
				   host->rip, twin->rip);
	if ((host->rflags ^ twin->rflags) & FLAGS_ARITH)
		return SAY(text, "rflags: host %lx, twin %lx",
				   host->rflags, twin->rflags);
	/* With an unmasked overflow or underflow, PE tells of the result with unbounded exponent, which we do not know:
	 * sse_raise. */
	uint32_t unknown = faulted && h->mxcsr & ~(h->mxcsr >> 7) & 0x18 ? 0x20 : 0;
	if ((h->mxcsr | unknown) != (t->mxcsr | unknown))
		return SAY(text, "mxcsr: host %x, twin %x",
				   h->mxcsr, t->mxcsr);
	/* Whether the x87 registers became MMX registers before a fault is the processor's own business. AMD's do not
	 * become so by CVTPI2PS from memory; the SDM, and we, make no such exception. */
	if (faulted || hosttwin_insn.op == X86_OP_CVTPI2PS)
		return NULL;
	if (h->fsw != t->fsw || h->fcw != t->fcw || h->ftw != t->ftw)
		return SAY(text, "fsw fcw ftw: host %x %x %x, twin %x %x %x",
				   h->fsw, h->fcw, h->ftw, t->fsw, t->fcw, t->ftw);
	for (unsigned r = 0; r < 8; r++)
		if (memcmp(h->st[r], t->st[r], 10))
			return SAY(text, "st%u",
				   r);
	return NULL;
}

/* Where the memory operand shall be: mostly aligned, else not, across pages, or where it faults. */
static uint64_t place(void)
{
	switch (below(12)) {
	case 0: return HOST_DATA + 128 + below(64);
	case 1: return HOST_DATA + X86_PAGE_SIZE - below(20);
	case 2: return HOST_READONLY - below(20) * (below(2) ? 1 : 16);
	case 3: return HOST_READONLY + X86_PAGE_SIZE - below(20);
	case 4: return below(2) ? HOST_READONLY + 64 : 0x8000000000000000;
	default: return HOST_DATA + 256 + 16 * below(8);
	}
}

static void run_one(struct result *result, const uint8_t *bytes, unsigned length, bool memory, bool aligned)
{
	static uint8_t before[HOST_DATA_SIZE], after[HOST_DATA_SIZE];
	uint8_t *data = (uint8_t *)HOST_DATA;
	struct host_state start, host, twin;
	uint64_t at = place(), from, value;

	make_state(&start);
	if (aligned)
		at &= ~15ULL;
	if (memory)
		start.gpr[RDI] = at;
	from = at - HOST_DATA < HOST_DATA_SIZE ? align_down(at - HOST_DATA, 16) : 0;
	uint64_t size = MIN(AREA, HOST_DATA_SIZE - from);
	for (unsigned n = 0; n < size; n += 8) {
		value = operand();
		memcpy(data + from + n, &value, 8);
	}
	memcpy(before, data + from, size);
	host = twin = start;
	struct host_end h = hostrun(&host, bytes, length, MODE_CODE64);
	memcpy(after, data + from, size);
	memcpy(data + from, before, size);
	struct host_end t = hosttwin_run(&twin, bytes, length, MODE_CODE64);
	result->runs++;
	const char *why = NULL;
	char text[120];
	if (h.vector != t.vector || (h.vector == VECTOR_PF && (h.address != t.address || h.error != t.error))) {
		why = SAY(text, "end: host %d error %x at %lx, twin %d error %x at %lx",
			  h.vector, h.error, h.address,
			  t.vector, t.error, t.address);
	} else if (memcmp(after, data + from, size)) {
		why = "memory differs";
	} else {
		why = difference(&host, &twin, h.vector != HOST_COMPLETED);
	}
	if (why && !result->why[0]) {
		int n = snprintf(result->why, sizeof(result->why), "%s; bytes", why);
		for (unsigned k = 0; k < length; k++)
			n += snprintf(result->why + n, sizeof(result->why) - (unsigned)n, " %02x", bytes[k]);
		snprintf(result->why + n, sizeof(result->why) - (unsigned)n, " mxcsr %x fsw %x rdi %lx", start.fx.mxcsr,
			 start.fx.fsw, start.gpr[RDI]);
	}
}

static bool wanted(const struct insn *i)
{
	for (unsigned r = 0; r < ARRAY_SIZE(rows); r++)
		if (rows[r].op == i->op)
			return true;
	return false;
}

/* AMD's processors let the memory operand of these be anywhere; the SDM, and we, raise #GP. */
static bool unaligned_on_amd(unsigned op)
{
	return op >= X86_OP_SHA1MSG1 && op <= X86_OP_SHA256RNDS2;
}

/* All rounds of an encoding: the ModR/M byte's fixed part is `reg` where it is part of the opcode. */
static void run_encoding(const uint8_t *head, unsigned length, const struct x86_core *core, int reg, bool memory,
			 unsigned rex)
{
	uint8_t bytes[16];
	struct insn i = { 0 };
	unsigned op = 0;
	for (unsigned round = 0; round < ROUNDS; round++) {
		memcpy(bytes, head, length);
		bytes[rex] |= (uint8_t)(below(2) ? below(2) << 2 | (memory ? 0 : below(2)) : 0);
		unsigned field = reg >= 0 ? (unsigned)reg : below(8);
		bytes[length] = (uint8_t)((memory ? 0x07 : 0xc0 | below(8)) | field << 3);
		bytes[length + 1] = (uint8_t)chance();
		unsigned total = x86_decode(&i, bytes, length + 2, core->mode, core->model);
		if (!total || !wanted(&i))
			continue;
		op = i.op;
		bool implied = op == X86_OP_MASKMOVQ || op == X86_OP_MASKMOVDQU;
		run_one(&results[op], bytes, total, memory || implied, unaligned_on_amd(op));
	}
	results[op].encodings++;
}

static void each_encoding(const struct x86_core *core, unsigned prefix, unsigned map, bool wide)
{
	static const uint8_t prefixes[] = { 0, 0x66, 0xf3, 0xf2 };
	uint8_t head[8];
	unsigned n = 0, rex;
	if (prefixes[prefix])
		head[n++] = prefixes[prefix];
	rex = n;
	head[n++] = 0x40 | wide << 3;
	head[n++] = 0x0f;
	if (map)
		head[n++] = map == 1 ? 0x38 : 0x3a;
	for (unsigned opcode = 0; opcode < 256; opcode++) {
		bool group = !map && ((opcode >= 0x71 && opcode <= 0x73) || opcode == 0xae);
		head[n] = (uint8_t)opcode;
		for (int reg = group ? 0 : -1; reg < (group ? 8 : 0); reg++)
			for (unsigned memory = 0; memory < 2; memory++) {
				uint8_t bytes[16];
				struct insn i = { 0 };
				memcpy(bytes, head, n + 1);
				bytes[n + 1] = (uint8_t)((memory ? 0x07 : 0xc0) | (reg > 0 ? reg << 3 : 0));
				bytes[n + 2] = 0;
				if (x86_decode(&i, bytes, n + 3, core->mode, core->model) && wanted(&i))
					run_encoding(head, n + 1, core, reg, memory, rex);
			}
	}
}

int main(void)
{
	if (!hostrun_init())
		return 1;
	const struct x86_core *core = hosttwin_init();
	for (unsigned prefix = 0; prefix < 4; prefix++)
		for (unsigned map = 0; map < 3; map++)
			for (unsigned wide = 0; wide < 2; wide++)
				each_encoding(core, prefix, map, wide);
	for (unsigned r = 0; r < ARRAY_SIZE(rows); r++) {
		struct result *result = &results[rows[r].op];
		if (rows[r].op == X86_OP_EMMS && !result->runs)
			for (unsigned round = 0; round < ROUNDS; round++)
				run_one(result, (const uint8_t *)"\x0f\x77", 2, false, false);
		ok(result->runs && !result->why[0], "%s: %u runs%s%s", rows[r].name, result->runs,
		   result->why[0] ? ": " : "", result->why);
	}
	return done();
}
