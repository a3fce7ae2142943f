/* SPDX-License-Identifier: MIT */
/* Inside of the decoder: what its files share. Zydis is included here only. */
#pragma once
#include <Zydis/Zydis.h>
#include "x86/exec.h"

/* decode_model.c: which instructions there are in a mode (MODE_...) and a model (NULL: all) */
ZydisDecoder decode_decoder(uint32_t mode, const struct x86_model *);
bool decode_offered(const ZydisDecodedInstruction *, uint32_t mode, const struct x86_model *);
/* #UD and #NM that CR0, CR4 and XCR0 ask for whatever the operands are; NULL: the instruction may run. */
x86_exec_fn *decode_forbidden(const ZydisDecodedInstruction *, uint32_t mode);

/* decode.c */
/* The operation, X86_OP_...: a mnemonic may name several. 0: none that we know. */
unsigned decode_variant_of(const ZydisDecodedInstruction *);
/* Byte offset of a general register in x86_cpu.gpr, of a vector register in fxsave.xmm, or the plain number. */
uint8_t decode_register(ZydisRegister);

/* All of VEX but BMI, which works on general registers. */
static inline bool decode_vector_vex(const ZydisDecodedInstruction *z)
{
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && z->meta.category != ZYDIS_CATEGORY_BMI1 &&
	       z->meta.category != ZYDIS_CATEGORY_BMI2;
}
