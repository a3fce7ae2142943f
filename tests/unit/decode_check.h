/* SPDX-License-Identifier: MIT */
/* What must hold for x86_decode of any bytes: shared by the unit test and the fuzzer. SDM volume 2, chapter 2. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include <Zydis/Zydis.h>
#include "x86/exec.h"

/* What Zydis says of the bytes: its decoder for the mode, without our switches of optional instruction sets. */
static inline ZyanStatus zydis_length(const uint8_t *bytes, unsigned available, uint32_t mode, unsigned *length)
{
	static const uint8_t machine[2][3] = {
		{ ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64 },
		{ ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_MACHINE_MODE_LONG_64 },
	};
	unsigned code = mode & MODE_CODE, stack = code == MODE_CODE64 ? 2 : mode & MODE_STACK32 ? 1 : 0;
	ZydisDecoder decoder;
	ZydisDecodedInstruction z;

	ZydisDecoderInit(&decoder, machine[!!(mode & MODE_LONG)][code], (ZydisStackWidth)stack);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	ZyanStatus status = ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, available, &z);
	*length = z.length;
	return status;
}

/* A register operand is a byte offset that an exec function may use without looking: all must lie in the register file. */
static inline bool register_inside(unsigned at)
{
	return at <= X86_GPR_RIP * 8;
}

/* NULL, or what is wrong with the instruction in itself. */
static inline const char *decode_problem(const struct insn *i)
{
	if (!i->exec)
		return "no function";
	if (i->length < 1 || i->length > 15)
		return "length";
	if (i->op >= X86_OP_COUNT || i->form >= FORM_COUNT)
		return "operation or form";
	if (i->seg >= SEG_SLOTS)
		return "segment";
	if (!register_inside(i->base) || !register_inside(i->scaled) || i->base % 8 || i->scaled % 8 || i->scale > 3)
		return "address";
	if (i->dst > 15 * 16 || i->src > 15 * 16 || i->src2 > 15 * 16)
		return "register";
	if (i->op == X86_OP_INVALID && i->exec != x86_exec_ud && i->exec != x86_exec_gp)
		return "invalid, but runs";
	return NULL;
}

/* Decodes bytes[0..size) in `mode`, whole and cut short: NULL, or what is wrong. */
static inline const char *decode_check(const uint8_t *bytes, unsigned size, uint32_t mode, struct insn *i)
{
	unsigned expected = 0, length;
	const char *problem;

	memset(i, 0, sizeof(*i));
	length = x86_decode(i, bytes, size, mode, NULL);
	ZyanStatus status = zydis_length(bytes, MIN(size, 15u), mode, &expected);
	if (status == ZYDIS_STATUS_NO_MORE_DATA && size < 15)
		return length ? "decoded less than an instruction" : NULL;
	if (!length)
		return "asks for more than there is in an instruction";
	if ((problem = decode_problem(i)))
		return problem;
	if (length != i->length)
		return "lengths differ";
	if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA)
		return i->exec == x86_exec_gp ? NULL : "too long, but no #GP";
	if (!ZYAN_SUCCESS(status))
		return i->exec == x86_exec_ud ? NULL : "invalid, but no #UD";
	if (length != expected)
		return "not Zydis's length";
	for (unsigned cut = 1; cut < length;
	     cut++) { /* no byte behind the instruction may count, and each in it must */
		struct insn part = { 0 };
		uint8_t *copy = malloc(cut); /* exactly as long, so that a sanitizer sees a read beyond */
		memcpy(copy, bytes, cut);
		unsigned got = x86_decode(&part, copy, cut, mode, NULL);
		free(copy);
		if (got)
			return "decoded from too few bytes";
	}
	struct insn exact = { 0 };
	if (x86_decode(&exact, bytes, length, mode, NULL) != length || memcmp(&exact, i, sizeof(exact)))
		return "depends on the bytes behind it";
	return NULL;
}

/* The modes in which bytes can mean something else, by number. */
#define DECODE_MODES 12u
static inline uint32_t decode_mode(unsigned n)
{
	static const uint32_t code[] = {
		MODE_CODE16 | MODE_STACK16,
		MODE_CODE16 | MODE_STACK16 | MODE_V86,
		MODE_CODE16 | MODE_STACK32 | MODE_PROTECTED,
		MODE_CODE32 | MODE_STACK16 | MODE_PROTECTED,
		MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED | MODE_FLAT,
		MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED,
		MODE_CODE16 | MODE_STACK16 | MODE_PROTECTED | MODE_LONG,
		MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED | MODE_LONG | MODE_FLAT,
		MODE_CODE64 | MODE_STACK64 | MODE_PROTECTED | MODE_LONG | MODE_FLAT,
		MODE_CODE64 | MODE_STACK64 | MODE_PROTECTED | MODE_LONG | MODE_FLAT | MODE_USER,
		MODE_CODE64 | MODE_STACK64 | MODE_PROTECTED | MODE_LONG | MODE_FLAT | MODE_X87_NM | MODE_SSE_NM |
			MODE_AVX_UD,
		MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED | MODE_FLAT | MODE_MMX_UD | MODE_SSE_UD | MODE_WAIT_NM |
			MODE_AVX_UD,
	};
	return code[n % ARRAY_SIZE(code)];
}
