/* SPDX-License-Identifier: MIT */
/* What the translator looks up for an instruction with an operand in memory is all that the host's processor accesses when it runs what was written
 * down again: each encoding runs on the last bytes of a page, with the next one missing, or read-only. A byte more would be in memory that the
 * guest has no right to. docs/bt.md, the guest cannot get out. */
#include <string.h>
#include "engine/bt/translate.h"
#include "hostrun.h"
#include "test.h"
#include "x86/cpuid.h"

#define BASE RBX

static unsigned ran, beyond, told;

static const struct x86_model *model;

static void tell(const char *how, const uint8_t *bytes, unsigned length, uint32_t mode, unsigned size)
{
	char text[128];

	beyond++;
	if (told++ > 20)
		return;
	x86_disassemble(text, sizeof(text), bytes, length, mode, 0);
	printf("# %u-bit code: %s: %u bytes are looked up, and it %s more\n", (mode & MODE_CODE) == MODE_CODE64 ? 64 : 32, text, size, how);
}

/* True: a page fault. */
static bool faults(const uint8_t *code, unsigned length, uint64_t at)
{
	static struct host_state state;

	memset(&state, 0, sizeof(state));
	state.fx.fcw = 0x37f;
	state.fx.mxcsr = 0x1f80;
	state.rip = HOST_CODE;
	state.rflags = FLAG_FIXED;
	for (unsigned n = 0; n < 16; n++)
		state.gpr[n] = 1;
	state.gpr[RSP] = HOST_DATA + X86_PAGE_SIZE;
	state.gpr[BASE] = at;
	return hostrun(&state, code, length, MODE_CODE64).vector == VECTOR_PF;
}

static void try(const uint8_t bytes[15], uint32_t mode)
{
	static uint8_t out[32];
	struct insn i = { .offset = 0 };
	unsigned length = x86_decode(&i, bytes, 15, mode, model);
	struct emit e = { .base = out };
	struct x86_shape s;

	if (!length || i.exec == x86_exec_ud || i.exec == x86_exec_nm || i.exec == x86_exec_gp || x86_ops[i.op].translate != XLATE_NATIVE ||
	    x86_ops[i.op].klass || !x86_decode_shape(&s, bytes, length, mode, model) || !s.has_memory || s.other_memory || !s.memory_size ||
	    i.op == X86_OP_LEA || i.op == X86_OP_NOP || bt_is_bit_string(&i) || s.opcode == 0x82)
		return;
	if (!emit_again(&e, &s, bytes + s.tail, s.reg.number, operand_at(BASE, 0), s.vvvv.number, s.op.number))
		return;
	ran++;
	if (faults(out, e.at, (s.memory_written ? HOST_READONLY : HOST_READONLY + X86_PAGE_SIZE) - s.memory_size))
		tell(s.memory_written ? "writes" : "reads", bytes, length, mode, s.memory_size);
}

/* Prefixes, REX, map, opcode, and [rbx] with each of eight registers or extensions. */
static void legacy(uint32_t mode)
{
	static const uint8_t prefix[][2] = { { 0 }, { 0x66 }, { 0xf2 }, { 0xf3 }, { 0x66, 0xf2 }, { 0x66, 0xf3 }, { 0xf0 }, { 0xf2, 0xf0 } };
	static const uint8_t rex[] = { 0, 0x48 };

	for (unsigned map = 0; map < 4; map++)
		for (unsigned p = 0; p < ARRAY_SIZE(prefix); p++)
			for (unsigned w = 0; w < ((mode & MODE_CODE) == MODE_CODE64 ? 2u : 1u); w++)
				for (unsigned op = 0; op < 256; op++)
					for (unsigned reg = 0; reg < 8; reg++) {
						uint8_t bytes[15] = { 0 };
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
						bytes[n++] = (uint8_t)(reg << 3 | BASE);
						try(bytes, mode);
					}
}

static void vex(uint32_t mode)
{
	for (unsigned map = 1; map < 4; map++)
		for (unsigned last = 0; last < 16; last++) /* W, L, pp */
			for (unsigned op = 0; op < 256; op++)
				for (unsigned vvvv = 0; vvvv < 2; vvvv++)
					for (unsigned reg = 0; reg < 8; reg++) {
						uint8_t bytes[15] = { 0xc4, (uint8_t)(0xe0 | map), (uint8_t)((last & 8) << 4 | (vvvv ? 0x70 : 0x78) | (last & 7)),
								      (uint8_t)op, (uint8_t)(reg << 3 | BASE) };
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
		unsigned before = ran;
		beyond = 0;
		legacy(modes[n]);
		vex(modes[n]);
		ok(!beyond && ran - before > 5000, "%u-bit code: of %u encodings %u reach beyond what is looked up", n ? 32 : 64, ran - before, beyond);
	}
	return done();
}
