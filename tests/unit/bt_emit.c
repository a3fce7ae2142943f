/* SPDX-License-Identifier: MIT */
/* The translator's encoder: instructions that are written down again with the registers they have are the same instructions. */
#include <string.h>
#include "engine/bt/emit.h"
#include "test.h"

#define MODE (MODE_CODE64 | MODE_STACK64 | MODE_FLAT | MODE_PROTECTED | MODE_LONG)

static const struct {
	const char *name;
	uint8_t length, bytes[15];
} rows[] = {
	{ "add rbx, [rax+8]", 4, { 0x48, 0x03, 0x58, 0x08 } },
	{ "lock xadd [r13], ecx", 6, { 0xf0, 0x41, 0x0f, 0xc1, 0x4d, 0x00 } },
	{ "mov [r12+rcx*4-1], sil", 5, { 0x41, 0x88, 0x74, 0x8c, 0xff } },
	{ "mov ah, [rbx]", 2, { 0x8a, 0x23 } },
	{ "movzx eax, dh", 3, { 0x0f, 0xb6, 0xc6 } },
	{ "mov r9, imm64", 10, { 0x49, 0xb9, 1, 2, 3, 4, 5, 6, 7, 8 } },
	{ "xchg r8w, ax", 3, { 0x66, 0x41, 0x90 } },
	{ "bswap r14", 3, { 0x49, 0x0f, 0xce } },
	{ "shld [rdi+1234h], edx, 5", 8, { 0x0f, 0xa4, 0x97, 0x34, 0x12, 0, 0, 5 } },
	{ "tzcnt r10, rbx", 5, { 0xf3, 0x4c, 0x0f, 0xbc, 0xd3 } },
	{ "crc32 ecx, byte [rbp]", 6, { 0xf2, 0x0f, 0x38, 0xf0, 0x4d, 0x00 } },
	{ "movbe [rsi], r8", 5, { 0x4c, 0x0f, 0x38, 0xf1, 0x06 } },
	{ "movdqu xmm9, [rax]", 5, { 0xf3, 0x44, 0x0f, 0x6f, 0x08 } },
	{ "pshufb xmm1, [rbx]", 5, { 0x66, 0x0f, 0x38, 0x00, 0x0b } },
	{ "palignr xmm2, xmm11, 3", 7, { 0x66, 0x41, 0x0f, 0x3a, 0x0f, 0xd3, 3 } },
	{ "cvtsi2sd xmm3, rcx", 5, { 0xf2, 0x48, 0x0f, 0x2a, 0xd9 } },
	{ "paddb mm1, [rax]", 3, { 0x0f, 0xfc, 0x08 } },
	{ "emms", 2, { 0x0f, 0x77 } },
	{ "fadd st0, st3", 2, { 0xd8, 0xc3 } },
	{ "fistp qword [rbx]", 2, { 0xdf, 0x3b } },
	{ "fld1", 2, { 0xd9, 0xe8 } },
	{ "vzeroupper", 3, { 0xc5, 0xf8, 0x77 } },
	{ "vpaddd ymm8, ymm1, [rax]", 4, { 0xc5, 0x75, 0xfe, 0x00 } },
	{ "vpblendvb ymm1, ymm2, ymm3, ymm4", 6, { 0xc4, 0xe3, 0x6d, 0x4c, 0xcb, 0x40 } },
	{ "vfmadd231pd ymm9, ymm10, [r12]", 6, { 0xc4, 0x42, 0xad, 0xb8, 0x0c, 0x24 } },
	{ "andn r9, rbx, [rax]", 5, { 0xc4, 0x62, 0xe0, 0xf2, 0x08 } },
	{ "blsr rcx, r12", 5, { 0xc4, 0xc2, 0xf0, 0xf3, 0xcc } },
	{ "rorx eax, ebx, 7", 6, { 0xc4, 0xe3, 0x7b, 0xf0, 0xc3, 7 } },
	{ "shlx rax, [rdi], r15", 5, { 0xc4, 0xe2, 0x81, 0xf7, 0x07 } },
};

static unsigned plain(uint8_t at)
{
	return at < 16 * 8 ? at / 8 : HOST_NONE;
}

static void is(struct emit *e, const char *want)
{
	char text[128];

	x86_disassemble(text, sizeof(text), e->base, e->at, MODE, 0);
	ok(!strcmp(text, want), "'%s' is '%s'", text, want);
	e->at = 0;
}

/* The instructions that translation itself needs. */
static void own(void)
{
	uint8_t out[32];
	struct emit e = { .base = out };

	emit_crc32(&e, HOST_X, HOST_T);
	is(&e, "crc32 rcx, r15");
	emit_rorx(&e, HOST_X, HOST_T, 3);
	is(&e, "rorx rcx, r15, 0x03");
	emit_rorx32(&e, HOST_X, HOST_T, 2);
	is(&e, "rorx ecx, r15d, 0x02");
	emit_sarx(&e, true, HOST_X, RAX, HOST_X);
	is(&e, "sarx rcx, rax, rcx");
	emit_shrx32(&e, HOST_X, HOST_T, HOST_SHIFT_12);
	is(&e, "shrx ecx, r15d, r14d");
	ok(bt_jump_slot(0x123456789abcdef0) == 0x2b3e, "what it hashes to: %#x", bt_jump_slot(0x123456789abcdef0));
}

int main(void)
{
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		uint8_t out[32];
		char before[128], after[128];
		struct emit e = { .base = out };
		struct x86_shape s;
		struct insn i = { .offset = 0 };

		x86_decode(&i, rows[n].bytes, rows[n].length, MODE, NULL);
		ok(x86_decode_shape(&s, rows[n].bytes, rows[n].length, MODE, NULL), "%s has a shape", rows[n].name);
		struct operand rm = s.has_memory ? operand_sum(plain(i.base), plain(i.scaled), i.scale, (int32_t)i.disp) : operand_reg(s.rm.number);
		ok(emit_again(&e, &s, rows[n].bytes + s.tail, s.reg.number, rm, s.vvvv.number, s.op.number), "%s is encoded", rows[n].name);
		x86_disassemble(before, sizeof(before), rows[n].bytes, rows[n].length, MODE, 0);
		x86_disassemble(after, sizeof(after), out, e.at, MODE, 0);
		ok(!strcmp(before, after), "%s: '%s' is '%s'", rows[n].name, before, after);
		x86_decode(&i, out, sizeof(out), MODE, NULL);
		ok(i.length == e.at, "%s: %u bytes, of which %u were meant", rows[n].name, e.at, i.length);
	}
	own();
	return done();
}
