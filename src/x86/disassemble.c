/* SPDX-License-Identifier: MIT */
/* Bytes to text. */
#include <stdio.h>
#include "x86/decode.h"

unsigned x86_disassemble(char *text, size_t size, const uint8_t *bytes, unsigned available, uint32_t mode, uint64_t rip)
{
	ZydisDecoder decoder = decode_decoder(mode, NULL);
	ZydisFormatter formatter;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE, ZYDIS_PADDING_DISABLED);
	ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, available, &z, ops)) ||
	    !ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &z, ops, z.operand_count_visible, text, size, rip, NULL))) {
		snprintf(text, size, "(bad)");
		return 0;
	}
	return z.length;
}
