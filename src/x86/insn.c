/* SPDX-License-Identifier: MIT */
/* The table of operations, made from insn.def. */
#include "x86/insn.h"

#define OP(mnemonic, forms, klass, translate) extern const struct x86_forms x86_##forms;
#include "x86/insn.def"

const struct x86_op_info x86_ops[X86_OP_COUNT] = {
	[X86_OP_INVALID] = { "invalid", NULL, CLASS_INNOCUOUS, XLATE_CALL },
#define OP(mnemonic, forms, klass, translate) [X86_OP_##mnemonic] = { #mnemonic, &x86_##forms, klass, translate },
#include "x86/insn.def"
};
