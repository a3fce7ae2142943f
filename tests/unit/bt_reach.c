/* SPDX-License-Identifier: MIT */
/* Each encoding, as the translator writes it down again, run natively. It must do what it did as it was, in code of its own mode, with random
 * registers and memory. And what the translator looks up for an operand in memory must be all that the processor accesses: it runs on the last bytes of a page,
 * with the next one missing, or read-only. A byte more would be in memory that the guest has no right to: docs/bt.md, the guest cannot get out. */
#include <string.h>
#include "engine/bt/translate.h"
#include "hostrun.h"
#include "test.h"
#include "x86/cpuid.h"

#define BASE RBX
#define OPERAND (HOST_DATA + 64)
#define OPERAND_SIZE 64
#define SHOWN 20

struct encoding {
	uint32_t mode;
	const uint8_t *bytes;  /* of the guest */
	unsigned length;
	uint8_t again[32];
	unsigned again_length;
	struct insn insn;
	struct x86_shape shape;
};

static const struct x86_model *model;
static unsigned ran, with_memory, beyond, differ, aligned, misaligned, told;

static bool is_code64(const struct encoding *e)
{
	return (e->mode & MODE_CODE) == MODE_CODE64;
}

static void tell(const struct encoding *e, const char *what)
{
	char text[128];

	if (told++ >= SHOWN)
		return;
	x86_disassemble(text, sizeof(text), e->bytes, e->length, e->mode, 0);
	printf("# %u-bit code: %s, written down again, %s\n", is_code64(e) ? 64 : 32, text, what);
}

/* --- as far as it was looked up --- */

static void host_start(struct host_state *state, uint64_t operand)
{
	memset(state, 0, sizeof(*state));
	state->fx.fcw = 0x37f;
	state->fx.mxcsr = 0x1f80;
	state->rip = HOST_CODE;
	state->rflags = FLAG_FIXED;
	for (unsigned n = 0; n < 16; n++)
		state->gpr[n] = 1;
	state->gpr[RSP] = HOST_DATA + X86_PAGE_SIZE;
	state->gpr[BASE] = operand;
}

static bool faults(const struct encoding *e, uint64_t end)
{
	static struct host_state state;

	host_start(&state, end - e->shape.memory_size);
	return hostrun(&state, e->again, e->again_length, MODE_CODE64).vector == VECTOR_PF;
}

static void reach(const struct encoding *e)
{
	with_memory++;
	if (!faults(e, e->shape.memory_written ? HOST_READONLY : HOST_READONLY + X86_PAGE_SIZE))
		return;
	beyond++;
	tell(e, "accesses more than is looked up");
}

/* What is not looked at for its alignment, the processor must refuse: else it would go on in the next page. */
static void refused(const struct encoding *e)
{
	static struct host_state state;

	if (e->shape.memory_size < 16 || again_any_alignment(&e->insn, &e->shape) || again_differs(&e->insn, &e->shape))
		return;
	aligned++;
	host_start(&state, OPERAND + 8);
	if (hostrun(&state, e->again, e->again_length, MODE_CODE64).vector == VECTOR_GP)
		return;
	misaligned++;
	tell(e, "does not want its operand aligned");
}

/* --- the same --- */

static uint64_t chance(void)
{
	static uint64_t seed = 88172645463325252ULL;

	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void random_bytes(void *to, size_t size)
{
	for (uint8_t *at = to; size--; at++)
		*at = (uint8_t)(chance() >> 32);
}

static void random_state(struct host_state *s, bool code64)
{
	memset(s, 0, sizeof(*s));
	s->fx.fcw = 0x37f;
	s->fx.mxcsr = 0x1f80;
	s->fx.ftw = 0x0f;
	s->rip = HOST_CODE;
	s->rflags = FLAG_FIXED | (chance() & FLAGS_ARITH);
	random_bytes(s->gpr, sizeof(s->gpr));
	for (unsigned n = 0; !code64 && n < 16; n++)
		s->gpr[n] = n < 8 ? (uint32_t)s->gpr[n] : 0;
	s->gpr[RSP] = HOST_DATA + X86_PAGE_SIZE;
	s->gpr[BASE] = OPERAND;
	random_bytes(s->fx.xmm, sizeof(s->fx.xmm));
	random_bytes(s->avx.ymm_high, sizeof(s->avx.ymm_high));
	random_bytes(s->fx.st, sizeof(s->fx.st));
}

/* FIP and the like aside */
static bool equal(const struct host_state *a, const struct host_state *b)
{
	return !memcmp(a->gpr, b->gpr, sizeof(a->gpr)) && !((a->rflags ^ b->rflags) & FLAGS_ARITH) && a->fx.mxcsr == b->fx.mxcsr &&
	       !memcmp(a->fx.xmm, b->fx.xmm, sizeof(a->fx.xmm)) && !memcmp(a->avx.ymm_high, b->avx.ymm_high, sizeof(a->avx.ymm_high)) &&
	       !memcmp(a->fx.st, b->fx.st, sizeof(a->fx.st)) && a->fx.fsw == b->fx.fsw && a->fx.ftw == b->fx.ftw;
}

static void same(const struct encoding *e)
{
	static struct host_state a, b;
	uint8_t before[OPERAND_SIZE], after[OPERAND_SIZE], *operand = (uint8_t *)OPERAND;

	random_state(&a, is_code64(e));
	b = a;
	random_bytes(before, sizeof(before));
	memcpy(operand, before, sizeof(before));
	int first = hostrun(&a, e->bytes, e->length, e->mode).vector;
	memcpy(after, operand, sizeof(after));
	memcpy(operand, before, sizeof(before));
	int second = hostrun(&b, e->again, e->again_length, MODE_CODE64).vector;
	if (!is_code64(e)) { /* it has no more of these */
		memcpy(a.gpr + 8, b.gpr + 8, 8 * sizeof(*a.gpr));
		memcpy(a.fx.xmm + 8, b.fx.xmm + 8, 8 * sizeof(*a.fx.xmm));
		memcpy(a.avx.ymm_high + 8, b.avx.ymm_high + 8, 8 * sizeof(*a.avx.ymm_high));
	}
	if (first == second && (first != HOST_COMPLETED || (equal(&a, &b) && !memcmp(after, operand, sizeof(after)))))
		return;
	differ++;
	tell(e, "does something else");
}

/* --- the encodings --- */

/* Not those that are rewritten, or done by exec functions. */
static bool is_written_again(const struct encoding *e)
{
	const struct shape_register *r[] = { &e->shape.reg, &e->shape.rm, &e->shape.vvvv, &e->shape.op };
	bool plain = !e->shape.vex && !e->shape.map;

	switch (e->insn.op) {
	case X86_OP_LEA: case X86_OP_NOP: case X86_OP_PUSH: case X86_OP_POP: case X86_OP_LEAVE: case X86_OP_PAUSE:
	case X86_OP_LDMXCSR: case X86_OP_STMXCSR: case X86_OP_SALC:
		return false;
	default:
		break;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(r); n++)
		if (r[n]->kind == SHAPE_OTHER || (r[n]->kind == SHAPE_GPR && r[n]->number == RSP && r[n]->written))
			return false;
	if (!is_code64(e) && plain && ((e->shape.opcode & 0xf0) == 0x40 || e->shape.opcode == 0x82 || (e->shape.opcode & ~3) == 0xa0))
		return false; /* long_forms() in translate.c */
	return !e->shape.has_memory || (e->shape.memory_size && !bt_is_bit_string(&e->insn) && e->insn.base == BASE * 8 && e->insn.scaled >= 16 * 8 &&
					!e->insn.disp && e->insn.seg == SEG_FLAT);
}

static void try(const uint8_t bytes[15], uint32_t mode)
{
	static struct encoding e;
	struct x86_shape *s = &e.shape;
	struct emit emit = { .base = e.again };

	e = (struct encoding){ .mode = mode, .bytes = bytes };
	e.length = x86_decode(&e.insn, bytes, 15, mode, model);
	if (!e.length || e.insn.exec == x86_exec_ud || e.insn.exec == x86_exec_nm || e.insn.exec == x86_exec_gp ||
	    x86_ops[e.insn.op].translate != XLATE_NATIVE || x86_ops[e.insn.op].klass || !x86_decode_shape(s, bytes, e.length, mode, model) ||
	    s->other_memory || !is_written_again(&e))
		return;
	struct operand rm = s->has_memory ? operand_at(BASE, 0) : operand_reg(s->rm.number);
	if (!emit_again(&emit, s, bytes + s->tail, s->reg.number, rm, s->vvvv.number, s->op.number))
		return;
	e.again_length = emit.at;
	ran++;
	same(&e);
	if (s->has_memory)
		reach(&e), refused(&e);
}

#define FILLER 0x13 /* in immediates */

static uint8_t modrm(unsigned reg)
{
	return (uint8_t)((reg & 8 ? 0xc0 : 0) | (reg & 7) << 3 | BASE);
}

/* Prefixes, REX, map, opcode, and RBX or [rbx] with each of eight registers or extensions. */
static void legacy(uint32_t mode)
{
	static const uint8_t prefix[][2] = { { 0 }, { 0x66 }, { 0xf2 }, { 0xf3 }, { 0x66, 0xf2 }, { 0x66, 0xf3 }, { 0xf0 }, { 0xf2, 0xf0 } };
	static const uint8_t rex[] = { 0, 0x48 };

	for (unsigned map = 0; map < 4; map++)
		for (unsigned p = 0; p < ARRAY_SIZE(prefix); p++)
			for (unsigned w = 0; w < ((mode & MODE_CODE) == MODE_CODE64 ? 2u : 1u); w++)
				for (unsigned op = 0; op < 256; op++)
					for (unsigned reg = 0; reg < 16; reg++) {
						uint8_t bytes[15];
						memset(bytes, FILLER, sizeof(bytes));
						unsigned n = 0;
						for (unsigned each = 0; each < 2; each++)
							if (prefix[p][each])
								bytes[n++] = prefix[p][each];
						if (rex[w])
							bytes[n++] = rex[w];
						if (map)
							bytes[n++] = 0x0f;
						if (map > 1)
							bytes[n++] = map == 2 ? 0x38 : 0x3a;
						bytes[n++] = (uint8_t)op;
						bytes[n++] = modrm(reg);
						try(bytes, mode);
					}
}

static void vex(uint32_t mode)
{
	for (unsigned map = 1; map < 4; map++)
		for (unsigned last = 0; last < 16; last++) /* W, L, pp */
			for (unsigned op = 0; op < 256; op++)
				for (unsigned vvvv = 0; vvvv < 2; vvvv++)
					for (unsigned reg = 0; reg < 16; reg++) {
						uint8_t last_byte = (uint8_t)((last & 8) << 4 | (vvvv ? 0x70 : 0x78) | (last & 7));
						uint8_t bytes[15] = { 0xc4, (uint8_t)(0xe0 | map), last_byte, (uint8_t)op, modrm(reg),
								      FILLER, FILLER, FILLER, FILLER };
						try(bytes, mode);
					}
}

int main(void)
{
	static const uint32_t modes[] = { MODE_CODE64 | MODE_STACK64 | MODE_FLAT | MODE_PROTECTED | MODE_LONG,
					  MODE_CODE32 | MODE_STACK32 | MODE_FLAT | MODE_PROTECTED };

	model = x86_model_find("max");
	if (!hostrun_init())
		return done();
	for (unsigned n = 0; n < ARRAY_SIZE(modes); n++) {
		ran = with_memory = beyond = differ = aligned = misaligned = 0;
		legacy(modes[n]);
		vex(modes[n]);
		ok(!differ && ran > 40000, "%u-bit code: %u of %u encodings do something else when they are written down again", n ? 32 : 64,
		   differ, ran);
		ok(!beyond && with_memory > 15000, "%u-bit code: %u of %u encodings reach beyond what is looked up", n ? 32 : 64, beyond,
		   with_memory);
		ok(!misaligned && aligned > 1000, "%u-bit code: %u of %u encodings, whose alignment is not looked at, need none", n ? 32 : 64, misaligned, aligned);
	}
	return done();
}
