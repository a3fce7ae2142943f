/* SPDX-License-Identifier: MIT */
/* AVX and AVX2 integer arithmetic, logic, comparison, shifts and packing, and the tests into RFLAGS: SDM volume 1, chapter 14, and
 * volume 2. */
#include "x86/avx.h"

#define OP2(name) VEX_OP2(VALUE, name)
OP2(vpaddb)
OP2(vpaddw)
OP2(vpaddd)
OP2(vpaddq)
OP2(vpaddsb)
OP2(vpaddsw)
OP2(vpaddusb)
OP2(vpaddusw)
OP2(vpsubb)
OP2(vpsubw)
OP2(vpsubd)
OP2(vpsubq)
OP2(vpsubsb)
OP2(vpsubsw)
OP2(vpsubusb)
OP2(vpsubusw)
OP2(vpmaddwd)
OP2(vpmaddubsw)
OP2(vpmulhuw)
OP2(vpmulhw)
OP2(vpmulhrsw)
OP2(vpmullw)
OP2(vpmulld)
OP2(vpmuldq)
OP2(vpmuludq)
OP2(vpsadbw)
OP2(vpavgb)
OP2(vpavgw)
OP2(vpmaxsb)
OP2(vpmaxsw)
OP2(vpmaxsd)
OP2(vpmaxub)
OP2(vpmaxuw)
OP2(vpmaxud)
OP2(vpminsb)
OP2(vpminsw)
OP2(vpminsd)
OP2(vpminub)
OP2(vpminuw)
OP2(vpminud)
OP2(vpand)
OP2(vpandn)
OP2(vpor)
OP2(vpxor)
OP2(vpcmpeqb)
OP2(vpcmpeqw)
OP2(vpcmpeqd)
OP2(vpcmpeqq)
OP2(vpcmpgtb)
OP2(vpcmpgtw)
OP2(vpcmpgtd)
OP2(vpcmpgtq)
OP2(vpacksswb)
OP2(vpackssdw)
OP2(vpackuswb)
OP2(vpackusdw)
OP2(vphaddw)
OP2(vphaddd)
OP2(vphaddsw)
OP2(vphsubw)
OP2(vphsubd)
OP2(vphsubsw)
OP2(vpsignb)
OP2(vpsignw)
OP2(vpsignd)
OP2(vpsllvd)
OP2(vpsllvq)
OP2(vpsravd)
OP2(vpsrlvd)
OP2(vpsrlvq)
VEX_OP1(VALUE, vpabsb)
VEX_OP1(VALUE, vpabsw)
VEX_OP1(VALUE, vpabsd)
VEX_128_OP1(VALUE, vphminposuw)
VEX_IMM_OP2(VALUE, vmpsadbw)

/* Shifts: the count is 16 bytes wide for both widths, and an immediate one is the same as that count in a register. */
#define SHIFT_WIDTH(name, W)                                                                                           \
	VEX_VALUE2(name, W, W, 128)                                                                                    \
	VEX_EXEC2(name, W, W, 128, load128)                                                                            \
	EXEC(name##_imm##W)                                                                                            \
	{                                                                                                              \
		v128 count = { (uint8_t)i->imm, 0 };                                                                   \
		set##W(core, i->dst, name##_v##W(core, i, get##W(core, i->src), count));                               \
		X86_NEXT(core, i);                                                                                     \
	}
#define SHIFT_OP(name)                                                                                                 \
	SHIFT_WIDTH(name, 128)                                                                                         \
	SHIFT_WIDTH(name, 256)                                                                                         \
	const struct x86_forms x86_##name = {                                                                          \
		.by = { [FORM_RRR] = { [BY_XMM] = name##_reg128, [BY_YMM] = name##_reg256 },                           \
			[FORM_RRM] = { [BY_XMM] = name##_mem128, [BY_YMM] = name##_mem256 },                           \
			[FORM_RRI] = { [BY_XMM] = name##_imm128, [BY_YMM] = name##_imm256 } },                         \
	};
SHIFT_OP(vpsllw)
SHIFT_OP(vpslld)
SHIFT_OP(vpsllq)
SHIFT_OP(vpsrlw)
SHIFT_OP(vpsrld)
SHIFT_OP(vpsrlq)
SHIFT_OP(vpsraw)
SHIFT_OP(vpsrad)

#define BYTE_SHIFT_WIDTH(name, W, operands)                                                                            \
	VEX_IMM_VALUE1(name, W, W, W, operands)                                                                        \
	EXEC(name##_imm##W)                                                                                            \
	{                                                                                                              \
		set##W(core, i->dst, name##_v##W(core, i, get##W(core, i->src)));                                      \
		X86_NEXT(core, i);                                                                                     \
	}
#define BYTE_SHIFT_OP(name)                                                                                            \
	BYTE_SHIFT_WIDTH(name, 128, "%xmm0, %xmm0")                                                                    \
	BYTE_SHIFT_WIDTH(name, 256, "%ymm0, %ymm0")                                                                    \
	const struct x86_forms x86_##name = { .by = { [FORM_RRI] = { [BY_XMM] = name##_imm128, [BY_YMM] = name##_imm256 } } };
BYTE_SHIFT_OP(vpslldq)
BYTE_SHIFT_OP(vpsrldq)

#define TEST_WIDTH(name, W)                                                                                            \
	static inline void name##_v##W(struct x86_core *core, v##W a, v##W b)                                          \
	{                                                                                                              \
		asm(#name " %2, %1\n\tlahf\n\tseto %%al" : "=a"(core->aflags) : "x"(a), "x"(b) : "cc");                \
	}                                                                                                              \
	EXEC(name##_reg##W)                                                                                            \
	{                                                                                                              \
		name##_v##W(core, get##W(core, i->dst), get##W(core, i->src));                                         \
		X86_NEXT(core, i);                                                                                     \
	}                                                                                                              \
	EXEC(name##_mem##W)                                                                                            \
	{                                                                                                              \
		v##W b = load##W(core, i);                                                                             \
		name##_v##W(core, get##W(core, i->dst), b);                                                            \
		X86_NEXT(core, i);                                                                                     \
	}
#define TEST_OP(name)                                                                                                  \
	TEST_WIDTH(name, 128)                                                                                          \
	TEST_WIDTH(name, 256)                                                                                          \
	VEX_FORMS(name, FORM_RR, FORM_RM)
TEST_OP(vptest)
TEST_OP(vtestps)
TEST_OP(vtestpd)
