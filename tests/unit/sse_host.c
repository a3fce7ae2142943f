/* SPDX-License-Identifier: MIT */
/* Every row of insn_sse.def and insn_avx.def against the host's processor: all its encodings, register and memory forms, with random and
 * special operands under random MXCSR, also with unmasked exceptions and with addresses that fault. SEED in the environment makes other
 * operands. */
#include <stdlib.h>
#include <string.h>
#include "chance.h"
#include "hostrun.h"
#include "operands.h"
#include "test.h"
#include "x86/features.h"

#define ROUNDS 150 /* of each encoding and form */
#define AREA 64    /* bytes of memory around the operand that are compared */

static const struct row {
	uint16_t op;
	const char *name;
} rows[] = {
#define OP(mnemonic, forms, klass, translate) { X86_OP_##mnemonic, #mnemonic },
#include "x86/insn_sse.def"
#include "x86/insn_avx.def"
#undef OP
};
static struct result {
	unsigned encodings, runs;
	char why[400];
} results[X86_OP_COUNT];

static unsigned gather_index = 16; /* the register of indices; 16: it is no gather */
#define SAY(text, ...) (snprintf(text, sizeof(text), __VA_ARGS__), text)

/* Two singles or a double (the same special values lie near each other's), or bits. */
static uint64_t operand(void)
{
	switch (below(6)) {
	case 0: return chance();
	case 1: return (uint64_t)special_single[below(ARRAY_SIZE(special_single))] << 32 | special_single[below(ARRAY_SIZE(special_single))];
	case 2: return special_wide[below(ARRAY_SIZE(special_wide))];
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
			uint64_t value = operand(), high = operand();
			memcpy(x->xmm[r] + 8 * half, &value, 8);
			memcpy(s->avx.ymm_high[r] + 8 * half, &high, 8);
		}
	for (unsigned r = 0; r < 8; r++) {
		uint64_t value = operand();
		uint16_t top = (uint16_t)chance();
		memcpy(x->st[r], &value, 8);
		memcpy(x->st[r] + 8, &top, 2);
	}
}

/* The mask of a gather that faulted: AMD's processors leave the elements that are still to come as they were, the SDM makes them all
 * ones or all zeros at once. Only their sign bits count when it goes on. */
static void excuse_gather_mask(struct host_state *s)
{
	unsigned r = hosttwin_insn.src / 16, size = hosttwin_insn.flags & INSN_REX_W ? 8 : 4; /* of the elements */
	uint32_t mask[8];

	memcpy(mask, s->fx.xmm[r], 16);
	memcpy(mask + 4, s->avx.ymm_high[r], 16);
	for (unsigned n = 0; n < 8; n++)
		mask[n] = mask[size == 8 ? n | 1 : n] & 0x80000000;
	memcpy(s->fx.xmm[r], mask, 16);
	memcpy(s->avx.ymm_high[r], mask + 4, 16);
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
	for (unsigned r = 0; host_has_avx && r < 16; r++)
		if (memcmp(host->avx.ymm_high[r], twin->avx.ymm_high[r], 16)) {
			uint64_t a[2], b[2];
			memcpy(a, host->avx.ymm_high[r], 16), memcpy(b, twin->avx.ymm_high[r], 16);
			return SAY(text, "ymm%u's upper half: host %016lx%016lx, twin %016lx%016lx",
				   r, a[1], a[0], b[1], b[0]);
		}
	if (host->rip != twin->rip)
		return SAY(text, "rip: host %lx, twin %lx",
				   host->rip, twin->rip);
	if ((host->rflags ^ twin->rflags) & FLAGS_ARITH)
		return SAY(text, "rflags: host %lx, twin %lx",
				   host->rflags, twin->rflags);
	/* DPPS and DPPD: which steps' flags are there beside an unmasked exception; ours are as AMD's. */
	uint32_t unknown = 0;
	if (faulted && !__builtin_cpu_is("amd") && (hosttwin_insn.op == X86_OP_DPPS || hosttwin_insn.op == X86_OP_DPPD || hosttwin_insn.op == X86_OP_VDPPS ||
			hosttwin_insn.op == X86_OP_VDPPD))
		unknown = 0x3f;
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

/* A vector of indices for a gather, most of which reach memory that is there. */
static void make_indices(struct host_state *s, unsigned r)
{
	for (unsigned n = 0; n < 4; n++) {
		int64_t index = (int64_t)below(below(4) ? 64 : 4096) - 32;
		memcpy((n < 2 ? s->fx.xmm[r] : s->avx.ymm_high[r]) + 8 * (n & 1), &index, 8);
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
	if (gather_index < 16)
		make_indices(&start, gather_index);
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
	if (gather_index < 16 && h.vector != HOST_COMPLETED && t.vector == h.vector) {
		excuse_gather_mask(&host);
		excuse_gather_mask(&twin);
	}
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

/* The opcode maps of VEX. Its prefix holds what varies: R, X and B, the register vvvv, and the width L. */
static void run_vex(const struct x86_core *core, unsigned map, unsigned prefix, unsigned wide, unsigned opcode, bool memory)
{
	bool vsib = map == 2 && opcode >= 0x90 && opcode <= 0x93;
	uint8_t bytes[16] = { 0xc4 };
	for (unsigned round = 0; round < 2 * ROUNDS; round++) {
		unsigned vvvv = below(2) ? 15 : below(16), index = below(8), total;
		struct insn i = { 0 };
		bytes[1] = (uint8_t)(map | (below(2) ? 0x80 : 0) | 0x40 | (memory || below(2) ? 0x20 : 0));
		bytes[2] = (uint8_t)(wide << 7 | vvvv << 3 | below(2) << 2 | prefix);
		bytes[3] = (uint8_t)opcode;
		bytes[4] = (uint8_t)((memory ? vsib ? 0x04 : 0x07 : 0xc0 | below(8)) | below(8) << 3);
		bytes[5] = (uint8_t)(vsib ? 0x07 | index << 3 | below(4) << 6 : chance());
		total = x86_decode(&i, bytes, 7, core->mode, core->model);
		if (!total || !wanted(&i))
			continue;
		results[i.op].encodings += !round;
		gather_index = vsib ? index : 16;
		run_one(&results[i.op], bytes, total, memory || i.op == X86_OP_VMASKMOVDQU, false);
	}
	gather_index = 16;
}

static void each_vex(const struct x86_core *core)
{
	for (unsigned map = 1; map <= 3; map++)
		for (unsigned n = 0; n < 4 * 2 * 2 * 256; n++)
			run_vex(core, map, n & 3, n >> 2 & 1, n >> 4, n >> 3 & 1);
}

int main(void)
{
	if (getenv("SEED"))
		chance_seed += strtoull(getenv("SEED"), NULL, 0) << 20;
	if (!hostrun_init())
		return 1;
	const struct x86_core *core = hosttwin_init();
	for (unsigned prefix = 0; prefix < 4; prefix++)
		for (unsigned map = 0; map < 3; map++)
			for (unsigned wide = 0; wide < 2; wide++)
				each_encoding(core, prefix, map, wide);
	if (host_has_avx)
		each_vex(core);
	for (unsigned r = 0; r < ARRAY_SIZE(rows); r++) {
		struct result *result = &results[rows[r].op];
		if (rows[r].op == X86_OP_EMMS && !result->runs)
			for (unsigned round = 0; round < ROUNDS; round++)
				run_one(result, (const uint8_t *)"\x0f\x77", 2, false, false);
		if (!result->runs && rows[r].op >= X86_OP_VADDPD && !x86_has(core, FEATURE_AVX2)) {
			skip("%s: this host has no AVX2", rows[r].name);
			continue;
		}
		ok(result->runs && !result->why[0], "%s: %u runs%s%s", rows[r].name, result->runs,
		   result->why[0] ? ": " : "", result->why);
	}
	return done();
}
