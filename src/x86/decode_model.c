/* SPDX-License-Identifier: MIT */
/* Which instructions a processor has: those of its model, in its mode. Zydis knows every instruction there is; what this
 * processor does not have becomes #UD here, so that the functions themselves need not ask. */
#include "x86/decode.h"
#include "x86/features.h"

/* CPUID feature that an instruction set extension needs, plus one; 0: none. */
#define NEEDS(set, feature) [ZYDIS_ISA_SET_##set] = FEATURE_##feature + 1
static const uint16_t needs[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
	NEEDS(ADOX_ADCX, ADX), NEEDS(AES, AES), NEEDS(BMI1, BMI1), NEEDS(BMI2, BMI2), NEEDS(CLFLUSHOPT, CLFLUSHOPT),
	NEEDS(CLFSH, CLFSH), NEEDS(CLWB, CLWB), NEEDS(CMOV, CMOV), NEEDS(CMPXCHG16B, CX16), NEEDS(F16C, F16C),
	NEEDS(FAT_NOP, CMOV), NEEDS(FCMOV, CMOV), NEEDS(FXSAVE, FXSR), NEEDS(FXSAVE64, FXSR),
	NEEDS(INVPCID, INVPCID), NEEDS(LAHF, LAHF64), NEEDS(LZCNT, LZCNT), NEEDS(MOVBE, MOVBE),
	NEEDS(PCLMULQDQ, PCLMUL), NEEDS(PENTIUMMMX, MMX), NEEDS(POPCNT, POPCNT), NEEDS(PPRO, CMOV), NEEDS(PREFETCH_NOP, PREFETCHW),
	NEEDS(RDPID, RDPID), NEEDS(RDPMC, MMX), NEEDS(RDRAND, RDRAND), NEEDS(RDSEED, RDSEED), NEEDS(RDTSCP, RDTSCP),
	NEEDS(RDWRFSGS, FSGSBASE), NEEDS(SHA, SHA), NEEDS(SMAP, SMAP), NEEDS(SSE, SSE), NEEDS(SSEMXCSR, SSE),
	NEEDS(SSE_PREFETCH, CMOV), NEEDS(SSE2, SSE2), NEEDS(SSE2MMX, SSE2), NEEDS(SSE3, SSE3), NEEDS(SSE3X87, SSE3),
	NEEDS(SSE4, SSE41), NEEDS(SSE42, SSE42), NEEDS(SSSE3, SSSE3), NEEDS(SSSE3MMX, SSSE3), NEEDS(XSAVE, XSAVE),
	NEEDS(XSAVEOPT, XSAVEOPT), NEEDS(XSAVEC, XSAVEC), NEEDS(XSAVES, XSAVES), NEEDS(AVX, AVX), NEEDS(AVXAES, AES), NEEDS(AVX2, AVX2),
	NEEDS(AVX2GATHER, AVX2), NEEDS(FMA, FMA), NEEDS(GFNI, GFNI), NEEDS(AVX_GFNI, GFNI), NEEDS(VAES, VAES),
	NEEDS(VPCLMULQDQ, VPCLMULQDQ),
};
#undef NEEDS

/* The same for instructions that Zydis counts to a set with another feature, or with none. PPRO is also the hint NOPs, which the sixth
 * family brought (with CMOV), among them what later became ENDBR. */
static unsigned decode_need_of(const ZydisDecodedInstruction *z, uint32_t mode)
{
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_RDTSC: return FEATURE_TSC + 1;
	case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_WRMSR: return FEATURE_MSR + 1;
	case ZYDIS_MNEMONIC_CMPXCHG8B: return FEATURE_CX8 + 1;
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSEXIT: return FEATURE_SEP + 1;
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSRET: return FEATURE_SYSCALL + 1;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2: return 0;
	case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF: return (mode & MODE_CODE) == MODE_CODE64 ? FEATURE_LAHF64 + 1 : 0;
	/* SSE brought these for MMX registers too */
	case ZYDIS_MNEMONIC_PSHUFW:
	case ZYDIS_MNEMONIC_PINSRW:
	case ZYDIS_MNEMONIC_PEXTRW:
	case ZYDIS_MNEMONIC_PAVGB:
	case ZYDIS_MNEMONIC_PAVGW:
	case ZYDIS_MNEMONIC_PMAXSW:
	case ZYDIS_MNEMONIC_PMAXUB:
	case ZYDIS_MNEMONIC_PMINSW:
	case ZYDIS_MNEMONIC_PMINUB:
	case ZYDIS_MNEMONIC_PMULHUW:
	case ZYDIS_MNEMONIC_PSADBW:
	case ZYDIS_MNEMONIC_PMOVMSKB:
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MOVNTQ:
		if (z->meta.isa_set == ZYDIS_ISA_SET_PENTIUMMMX)
			return FEATURE_SSE + 1;
		break;
	default: break;
	}
	return needs[z->meta.isa_set];
}

static bool model_has(const struct x86_model *model, unsigned feature)
{
	return !model || (model->features[feature >> 5] >> (feature & 31) & 1);
}

bool decode_offered(const ZydisDecodedInstruction *z, uint32_t mode, const struct x86_model *model)
{
	unsigned need = decode_need_of(z, mode);
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return false; /* XOP, 3DNow, EVEX, MVEX */
	if (decode_vector_vex(z) && !model_has(model, FEATURE_AVX))
		return false; /* whatever else it came with */
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && !need)
		return false; /* AVX-512's mask instructions, AMX, Knights Corner's TZCNT and POPCNT, ... */
	if (z->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ && !model_has(model, FEATURE_PCLMUL))
		return false;
	if (z->meta.isa_set == ZYDIS_ISA_SET_PREFETCH_NOP && model_has(model, FEATURE_LM))
		return true; /* all with long mode know it, if only as a NOP */
	return !need || model_has(model, need - 1);
}

ZydisDecoder decode_decoder(uint32_t mode, const struct x86_model *model)
{
	static const uint8_t machine[] = { ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32,
					   ZYDIS_MACHINE_MODE_LONG_64 };
	static const uint8_t compat[] = { ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
					  ZYDIS_MACHINE_MODE_LONG_64 };
	static const uint8_t stack[] = { ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64 };
	ZydisDecoder d;
	unsigned code = mode & MODE_CODE, width = (mode & MODE_STACK) / MODE_STACK32;
	if (code == MODE_CODE64)
		width = 2;
	else if (width == 2)
		width = 1;
	ZydisDecoderInit(&d, (mode & MODE_LONG) ? compat[code] : machine[code], stack[width]);
	/* What older processors do with these: CET's ENDBR is a NOP by encoding, TZCNT is BSF, LZCNT is BSR. */
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
	ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
	if (model) {
		ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_TZCNT, model->features[FEAT_7_EBX] >> 3 & 1);
		ZydisDecoderEnableMode(&d, ZYDIS_DECODER_MODE_LZCNT, model->features[FEAT_80000001_ECX] >> 5 & 1);
	}
	return d;
}

x86_exec_fn *decode_forbidden(const ZydisDecodedInstruction *z, uint32_t mode)
{
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && (mode & MODE_CODE) != MODE_CODE64 && !(mode & MODE_PROTECTED))
		return x86_exec_ud; /* real and virtual-8086 mode know no VEX */
	if (decode_vector_vex(z)) {
		if (mode & MODE_AVX_UD)
			return x86_exec_ud;
		return mode & MODE_SSE_NM ? x86_exec_nm : NULL;
	}
	if (z->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return mode & MODE_WAIT_NM ? x86_exec_nm : NULL;
	/* by opcode, since FCOMI and FISTTP count as Pentium Pro and SSE3 instructions */
	if (z->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && z->opcode >= 0xd8 && z->opcode <= 0xdf)
		return mode & MODE_X87_NM ? x86_exec_nm : NULL;
	switch (z->meta.isa_set) {
	case ZYDIS_ISA_SET_FXSAVE:
	case ZYDIS_ISA_SET_FXSAVE64:
		return mode & MODE_X87_NM ? x86_exec_nm : NULL;
	case ZYDIS_ISA_SET_PENTIUMMMX:
		return mode & MODE_MMX_UD ? x86_exec_ud : mode & MODE_SSE_NM ? x86_exec_nm : NULL;
	case ZYDIS_ISA_SET_SSE:
	case ZYDIS_ISA_SET_SSE2:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
	case ZYDIS_ISA_SET_SSEMXCSR:
	case ZYDIS_ISA_SET_SSE3:
	case ZYDIS_ISA_SET_SSSE3:
	case ZYDIS_ISA_SET_SSE4:
	case ZYDIS_ISA_SET_SSE42:
	case ZYDIS_ISA_SET_AES:
	case ZYDIS_ISA_SET_PCLMULQDQ:
	case ZYDIS_ISA_SET_SHA:
	case ZYDIS_ISA_SET_GFNI:
		break;
	default:
		return NULL;
	}
	switch (z->mnemonic) { /* integer and cache instructions that came with SSE: SDM 2, "no OS support needed" */
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_SFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_PAUSE:
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_POPCNT:
	case ZYDIS_MNEMONIC_PREFETCHNTA:
	case ZYDIS_MNEMONIC_PREFETCHT0:
	case ZYDIS_MNEMONIC_PREFETCHT1:
	case ZYDIS_MNEMONIC_PREFETCHT2:
		return NULL;
	default:
		break;
	}
	/* MMX forms of SSE instructions need no OSFXSR */
	if (z->attributes & ZYDIS_ATTRIB_FPU_STATE_CR && !(z->attributes & ZYDIS_ATTRIB_XMM_STATE_CR))
		return mode & MODE_MMX_UD ? x86_exec_ud : mode & MODE_SSE_NM ? x86_exec_nm : NULL;
	return mode & MODE_SSE_UD ? x86_exec_ud : mode & MODE_SSE_NM ? x86_exec_nm : NULL;
}

unsigned x86_decode_lacks(const uint8_t *bytes, unsigned available, uint32_t mode, const struct x86_model *model)
{
	ZydisDecoder decoder = decode_decoder(mode, model);
	ZydisDecodedInstruction z;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, MIN(available, 15), &z)) || !decode_variant_of(&z) ||
	    z.encoding > ZYDIS_INSTRUCTION_ENCODING_VEX || decode_offered(&z, mode, model))
		return FEATURE_NONE;
	return decode_need_of(&z, mode) - 1;
}
