/* SPDX-License-Identifier: MIT */
/* SSE4.2 string comparison, PCMPESTRI PCMPESTRM PCMPISTRI PCMPISTRM: SDM volume 1, 12.12, volume 2, 4.1. Their memory
 * operand need not be aligned. */
#include "x86/vector.h"

/* The stubs compare xmm1 with xmm2; the result is in ecx or xmm0, and in the flags. Explicit lengths are in rax and
 * rdx: 32-bit ones are sign-extended, which means the same. */
IMMEDIATE_STUBS(pcmpestri, ".byte 0x66, 0x48, 0x0f, 0x3a, 0x61, 0xca, imm")
IMMEDIATE_STUBS(pcmpestrm, ".byte 0x66, 0x48, 0x0f, 0x3a, 0x60, 0xca, imm")
IMMEDIATE_STUBS(pcmpistri, ".byte 0x66, 0x0f, 0x3a, 0x63, 0xca, imm")
IMMEDIATE_STUBS(pcmpistrm, ".byte 0x66, 0x0f, 0x3a, 0x62, 0xca, imm")

static inline void compare(struct x86_core *core, const struct insn *i, const char *stubs, v128 s, bool index)
{
	const char *stub = stubs + 8 * (i->imm & 0xff);
	int64_t rax = (int64_t)core->cpu.gpr[RAX], rdx = (int64_t)core->cpu.gpr[RDX];
	uint64_t rcx;
	register v128 mask asm("xmm0");
	register v128 first asm("xmm1") = *xmm(core, i->dst);
	register v128 second asm("xmm2") = s;
	if (!(i->flags & INSN_REX_W)) {
		rax = (int32_t)rax;
		rdx = (int32_t)rdx;
	}
	asm("lea -128(%%rsp), %%rsp\n\tcall *%[stub]\n\tlahf\n\tseto %%al\n\tlea 128(%%rsp), %%rsp"
	    : "+a"(rax), "=&c"(rcx), "=&x"(mask)
	    : "d"(rdx), "x"(first), "x"(second), [stub] "r"(stub) : "cc");
	core->aflags = (uint16_t)rax;
	if (index)
		core->cpu.gpr[RCX] = (uint32_t)rcx;
	else
		*xmm(core, 0) = mask;
}

#define STRING_OP(name, index)                                                                                         \
	EXEC(name##_rri)                                                                                               \
	{                                                                                                              \
		compare(core, i, name##_stubs, *xmm(core, i->src), index);                                             \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_rmi)                                                                                               \
	{                                                                                                              \
		v128 s = source128_any(core, i);                                                                       \
		compare(core, i, name##_stubs, s, index);                                                              \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRI][BY_XMM] = name##_rri, [FORM_RMI][BY_XMM] = name##_rmi },                            \
	};
STRING_OP(pcmpestri, true)
STRING_OP(pcmpestrm, false)
STRING_OP(pcmpistri, true)
STRING_OP(pcmpistrm, false)
