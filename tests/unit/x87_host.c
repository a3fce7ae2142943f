/* SPDX-License-Identifier: MIT */
/* Every row of insn_x87.def against the host's processor: every opcode and ModR/M byte from D8 to DF with special and
 * random operands, stack depths and control words, also with unmasked exceptions, pending ones and memory operands that
 * fault. */
#include <stdlib.h>
#include <string.h>
#include "chance.h"
#include "hostrun.h"
#include "test.h"

#define ROUNDS 400 /* of each encoding */
#define AREA 128   /* bytes of memory around the operand that are compared */

static const struct row {
	uint16_t op;
	const char *name;
} rows[] = {
#define OP(mnemonic, forms, klass, translate) { X86_OP_##mnemonic, #mnemonic },
#include "x86/insn_x87.def"
#undef OP
};
static struct result {
	unsigned runs, failures;
	char why[500];
} results[X86_OP_COUNT];

#define SAY(text, ...) (snprintf(text, sizeof(text), __VA_ARGS__), text)

struct extended {
	uint64_t significand;
	uint16_t exponent;
};

static struct extended value80(void)
{
	static const struct extended special[] = {
		{ 0, 0 }, { 0, 0x8000 }, { 1, 0 }, { 0x7fffffffffffffff, 0x8000 }, { 0x8000000000000000, 0 }, /* pseudo-denormal */
		{ 0x8000000000000000, 1 }, { 0x8000000000000001, 0x8001 }, { 0xffffffffffffffff, 0x7ffe }, { 0x8000000000000000, 0xfffe },
		{ 0x8000000000000000, 0x7fff }, { 0x8000000000000000, 0xffff }, /* infinities */
		{ 0xc000000000000000, 0xffff }, { 0xe000000000000123, 0x7fff }, { 0x8000000000000001, 0x7fff }, { 0xa000000000000000, 0xffff },
		{ 0, 0x7fff }, { 0x4000000000000000, 0x7fff }, { 0x4000000000000000, 0x3fff }, { 0, 0x4000 }, /* unsupported formats */
		{ 0x8000000000000000, 0x3fff }, { 0x8000000000000000, 0xbfff }, { 0x8000000000000000, 0x3ffe }, { 0xc000000000000000, 0x4000 },
		{ 0xc90fdaa22168c235, 0x4000 }, { 0xffffffffffffffff, 0x403d }, { 0x8000000000000000, 0x403e }, { 0x8000000000000000, 0xc03e },
		{ 0xffffff0000000000, 0x407e }, { 0xffffff8000000000, 0x407e }, { 0xfffffffffffff800, 0x43fe }, { 0x8000000000000000, 0x3f81 },
		{ 0x8000000000000001, 0x3f6a }, { 0x8000000000000000, 0x3c01 }, { 0x8000000000000001, 0x3bcd }, { 0x8000000000000000, 0x3f00 },
		{ 0xde0b6b3a763fffff, 0x403a }, { 0xde0b6b3a76400000, 0x403a }, { 0xffff000000000000, 0x400d }, { 0xfffe8000, 0x401e },
	};
	struct extended e;
	switch (below(5)) {
	case 0: return (struct extended){ chance(), (uint16_t)chance() };
	case 1: return (struct extended){ chance() | BIT(63), (uint16_t)(0x3fff - 66 + below(132)) | (uint16_t)(below(2) << 15) };
	case 2: return (struct extended){ chance() | BIT(63), (uint16_t)(0x3ff8 + below(12)) };
	case 3:
		e.significand = 1 + below(2000); /* an integer */
		e.exponent = (uint16_t)(0x3fff + 63 - __builtin_clzll(e.significand));
		e.significand <<= __builtin_clzll(e.significand);
		return e;
	default: return special[below(ARRAY_SIZE(special))];
	}
}

static void put_memory(uint8_t *at, unsigned size)
{
	static const uint32_t single[] = { 0, 0x80000000, 1, 0x807fffff, 0x00800000, 0x7f7fffff, 0x7f800000, 0xff800000, 0x7fc00000,
					   0x7f800001, 0x3f800000, 0xbf800000, 0x40490fdb, 0x4f000000 };
	static const uint64_t wide[] = { 0, 0x8000000000000000, 1, 0x800fffffffffffff, 0x0010000000000000, 0x7fefffffffffffff,
					 0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000, 0xfff0000000000001,
					 0x3ff0000000000000, 0xc000000000000000, 0xffffffffffffffff, 0x7fffffffffffffff };
	struct extended e = value80();
	uint64_t v;
	for (unsigned n = 0; n < size; n += 8) {
		v = below(3) ? chance() : below(300);
		memcpy(at + n, &v, 8);
	}
	switch (below(5)) {
	case 0: memcpy(at, &single[below(ARRAY_SIZE(single))], 4); break;
	case 1: memcpy(at, &wide[below(ARRAY_SIZE(wide))], 8); break;
	case 2: memcpy(at, &e.significand, 8), memcpy(at + 8, &e.exponent, 2); break;
	case 3: /* packed decimal */
		for (unsigned n = 0; n < 9; n++)
			at[n] = (uint8_t)(below(10) << 4 | below(10));
		at[9] = (uint8_t)(below(2) << 7);
		break;
	default: break;
	}
}

static void make_state(struct host_state *s)
{
	struct x86_fxsave *x = &s->fx;
	memset(s, 0, sizeof(*s));
	for (unsigned r = 0; r < 16; r++)
		s->gpr[r] = chance();
	s->gpr[RSP] = HOST_DATA + 0x800;
	s->rip = HOST_CODE + 0x100;
	s->rflags = FLAG_FIXED | FLAG_IF | (chance() & FLAGS_ARITH);
	x->mxcsr = 0x1f80;
	unsigned masks = below(2) ? 0x3f : below(0x40), precision = below(2) ? 3 : below(4), rounding = below(2) ? 0 : below(4);
	x->fcw = (uint16_t)(0x40 | masks | precision << 8 | rounding << 10 | below(2) << 12);
	x->fsw = (uint16_t)(below(8) << 11 | (below(2) ? chance() & 0x477f : 0));
	if (below(20))
		x->fsw &= (uint16_t)(0xff40 | x->fcw); /* nothing is pending */
	if (x->fsw & ~x->fcw & 0x3f)
		x->fsw |= 0x8080;
	x->ftw = (uint8_t)(below(2) ? 0xff : below(4) ? chance() : 0);
	for (unsigned r = 0; r < 8; r++) {
		struct extended e = value80();
		memcpy(x->st[r], &e.significand, 8);
		memcpy(x->st[r] + 8, &e.exponent, 2);
	}
}

static const char *difference(const struct host_state *host, const struct host_state *twin)
{
	static char text[200];
	const struct x86_fxsave *h = &host->fx, *t = &twin->fx;
	/* FCOMI clears C1 by the SDM; AMD's processors leave it as it was. */
	unsigned op = hosttwin_insn.op, unknown = op >= X86_OP_FCOMI && op <= X86_OP_FUCOMIP ? BIT(9) : 0;
	if ((h->fsw | unknown) != (t->fsw | unknown) || h->fcw != t->fcw || h->ftw != t->ftw)
		return SAY(text, "fsw fcw ftw: host %x %x %x, twin %x %x %x",
				   h->fsw, h->fcw, h->ftw, t->fsw, t->fcw, t->ftw);
	for (unsigned r = 0; r < 8; r++)
		if (memcmp(h->st[r], t->st[r], 10)) {
			uint64_t a, b;
			uint16_t c, d;
			memcpy(&a, h->st[r], 8), memcpy(&b, t->st[r], 8), memcpy(&c, h->st[r] + 8, 2), memcpy(&d, t->st[r] + 8, 2);
			return SAY(text, "st%u: host %04x %016lx, twin %04x %016lx",
				   r, c, a, d, b);
		}
	for (unsigned r = 0; r < 16; r++)
		if (host->gpr[r] != twin->gpr[r])
			return SAY(text, "gpr %u: host %lx, twin %lx",
				   r, host->gpr[r], twin->gpr[r]);
	if (host->rip != twin->rip)
		return SAY(text, "rip: host %lx, twin %lx",
				   host->rip, twin->rip);
	if ((host->rflags ^ twin->rflags) & FLAGS_ARITH)
		return SAY(text, "rflags: host %lx, twin %lx",
				   host->rflags, twin->rflags);
	return NULL;
}

static void run_one(const uint8_t *bytes, unsigned length, bool memory)
{
	static uint8_t before[HOST_DATA_SIZE], after[HOST_DATA_SIZE];
	uint8_t *data = (uint8_t *)HOST_DATA;
	struct host_state start, host, twin;
	uint64_t at = HOST_DATA + 256 + below(32);

	make_state(&start);
	if (!below(16))
		at = HOST_READONLY - below(20) + (below(2) ? 0 : below(2) ? X86_PAGE_SIZE : -X86_PAGE_SIZE);
	if (memory)
		start.gpr[RDI] = at;
	uint64_t from = MIN(at, HOST_READONLY - 1) - HOST_DATA, size = MIN(AREA, HOST_DATA_SIZE - from);
	put_memory(before, AREA);
	memcpy(data + from, before, size);
	host = twin = start;
	struct host_end h = hostrun(&host, bytes, length, MODE_CODE64);
	memcpy(after, data + from, size);
	memcpy(data + from, before, size);
	struct host_end t = hosttwin_run(&twin, bytes, length, MODE_CODE64);
	struct result *result = &results[hosttwin_insn.op];
	if (hosttwin_insn.op == X86_OP_FNSTENV || hosttwin_insn.op == X86_OP_FNSAVE) { /* FIP, FDP and FOP are our own */
		bool narrow = hosttwin_insn.osize == 2;
		if (size == AREA)
			memcpy(after + (narrow ? 6 : 12), data + from + (narrow ? 6 : 12), narrow ? 8 : 16);
	}
	result->runs++;
	const char *why = NULL;
	char text[120];
	if (hosttwin_insn.size > 10) /* which of its pieces an environment faults on is the processor's own business */
		h.address &= X86_PAGE_MASK, t.address &= X86_PAGE_MASK;
	if (h.vector != t.vector || (h.vector == VECTOR_PF && (h.address != t.address || h.error != t.error))) {
		why = SAY(text, "end: host %d error %x at %lx, twin %d error %x at %lx",
			  h.vector, h.error, h.address,
			  t.vector, t.error, t.address);
	} else if (memcmp(after, data + from, size)) {
		why = "memory differs";
	} else {
		why = difference(&host, &twin);
	}
	if (!why)
		return;
	result->failures++;
	if (!result->why[0]) {
		int n = snprintf(result->why, sizeof(result->why), "%s; bytes", why);
		for (unsigned k = 0; k < length; k++)
			n += snprintf(result->why + n, sizeof(result->why) - (unsigned)n, " %02x", bytes[k]);
		uint64_t st[2];
		uint16_t exponent[2];
		for (unsigned k = 0; k < 2; k++)
			memcpy(&st[k], start.fx.st[k], 8), memcpy(&exponent[k], start.fx.st[k] + 8, 2);
		snprintf(result->why + n, sizeof(result->why) - (unsigned)n,
			 " fcw %x fsw %x ftw %x st0 %04x %016lx st1 %04x %016lx rdi %lx", start.fx.fcw, start.fx.fsw, start.fx.ftw, exponent[0], st[0], exponent[1], st[1], start.gpr[RDI]);
	}
}

static bool wanted(const struct insn *i)
{
	for (unsigned r = 0; r < ARRAY_SIZE(rows); r++)
		if (rows[r].op == i->op)
			return true;
	return false;
}

int main(void)
{
	if (!hostrun_init())
		return 1;
	const struct x86_core *core = hosttwin_init();
	for (unsigned opcode = 0xd8; opcode <= 0xdf; opcode++)
		for (unsigned modrm = 0; modrm < 0x100; modrm++) {
			bool memory = modrm < 0xc0;
			if (memory && (modrm & 0xc7) != 7) /* [rdi] is enough */
				continue;
			for (unsigned round = 0; round < ROUNDS * (memory ? 4u : 1u); round++) {
				uint8_t bytes[4] = { 0x66, (uint8_t)opcode, (uint8_t)modrm };
				bool prefix = !below(4);
				struct insn i = { 0 };
				if (x86_decode(&i, bytes + !prefix, 2 + prefix, core->mode, core->model) && wanted(&i))
					run_one(bytes + !prefix, 2 + prefix, memory);
			}
		}
	for (unsigned round = 0; round < ROUNDS; round++)
		run_one((const uint8_t *)"\x9b", 1, false);
	for (unsigned r = 0; r < ARRAY_SIZE(rows); r++) {
		struct result *result = &results[rows[r].op];
		ok(result->runs && !result->failures, "%s: %u runs, %u differ%s%s", rows[r].name, result->runs, result->failures,
		   result->why[0] ? ": " : "", result->why);
	}
	return done();
}
