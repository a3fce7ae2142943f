/* SPDX-License-Identifier: MIT */
/* SSE4.2 string comparison, PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM, and their VEX forms: SDM volume 1, 12.12, volume 2, 4.1. Their
 * memory operand need not be aligned. */
#include <string.h>
#include "x86/vector.h"

/* The stubs compare xmm1 with xmm2; the result is in ecx or xmm0, and in the flags. Explicit lengths are in rax and
 * rdx: 32-bit ones are sign-extended, which means the same. */
IMMEDIATE_STUBS(pcmpestri, ".byte 0x66, 0x48, 0x0f, 0x3a, 0x61, 0xca, imm")
IMMEDIATE_STUBS(pcmpestrm, ".byte 0x66, 0x48, 0x0f, 0x3a, 0x60, 0xca, imm")
IMMEDIATE_STUBS(pcmpistri, ".byte 0x66, 0x0f, 0x3a, 0x63, 0xca, imm")
IMMEDIATE_STUBS(pcmpistrm, ".byte 0x66, 0x0f, 0x3a, 0x62, 0xca, imm")

enum result { INDEX, MASK, VEX_MASK /* clears the upper half of YMM0 */ };

static inline void compare(struct x86_core *core, const struct insn *i, const char *stubs, v128 s, enum result result)
{
	const char *stub = stubs + 8 * (i->imm & 0xff);
	int64_t rax = (int64_t)core->cpu.gpr[RAX], rdx = (int64_t)core->cpu.gpr[RDX];
	uint64_t rcx;
	register v128 mask asm("xmm0");
	register v128 first asm("xmm1") = *xmm(core, i->dst);
	register v128 second asm("xmm2") = s;
	if (!(i->flags & INSN_REX_W)) { /* or VEX.W */
		rax = (int32_t)rax;
		rdx = (int32_t)rdx;
	}
	asm("lea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\tlahf\n\tseto %%al\n\tlea 128(%%rsp), %%rsp"
	    : "+a"(rax), "=&c"(rcx), "=&x"(mask)
	    : "d"(rdx), "x"(first), "x"(second), [stub] "r"(stub) : "cc");
	core->aflags = (uint16_t)rax;
	if (result == INDEX)
		core->cpu.gpr[RCX] = (uint32_t)rcx;
	else
		*xmm(core, 0) = mask;
	if (result == VEX_MASK)
		memset(core->cpu.xsave.ymm_high[0], 0, 16);
}

#define STRING_OP(name, stubs, result)                                                                                         \
	EXEC(name##_rri)                                                                                               \
	{                                                                                                              \
		compare(core, i, stubs, *xmm(core, i->src), result);                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rmi)                                                                                               \
	{                                                                                                              \
		v128 s = source128_any(core, i);                                                                       \
		compare(core, i, stubs, s, result);                                                                     \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRI][BY_XMM] = name##_rri, [FORM_RMI][BY_XMM] = name##_rmi },                            \
	};
STRING_OP(pcmpestri, pcmpestri_stubs, INDEX)
STRING_OP(pcmpestrm, pcmpestrm_stubs, MASK)
STRING_OP(pcmpistri, pcmpistri_stubs, INDEX)
STRING_OP(pcmpistrm, pcmpistrm_stubs, MASK)
STRING_OP(vpcmpestrm, pcmpestrm_stubs, VEX_MASK)
STRING_OP(vpcmpistrm, pcmpistrm_stubs, VEX_MASK)
