/* SPDX-License-Identifier: MIT */
/* Bytes to struct insn, on the Zydis library, which nothing else includes. Follows the Intel SDM volume 2, chapter 2.
 *
 * Zydis says what the instruction and its operands are; this file turns the operands into a form, registers into byte
 * offsets, and picks the function. What Zydis accepts but this processor (its mode, its model) does not becomes #UD
 * here, so that the functions themselves need not ask. */
#include <stdio.h>
#include <string.h>
#include <Zydis/Zydis.h>
#include "x86/exec.h"
#include "x86/features.h"
#include "x86/shape.h"

static const uint16_t op_of[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define OP(mnemonic, forms, klass, translate) [ZYDIS_MNEMONIC_##mnemonic] = X86_OP_##mnemonic,
#define OP_VARIANT(mnemonic, forms, klass, translate)
#include "x86/insn.def"
};

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
static unsigned need_of(const ZydisDecodedInstruction *z, uint32_t mode)
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

/* All of VEX but BMI, which works on general registers. */
static bool is_vector_vex(const ZydisDecodedInstruction *z)
{
	return z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && z->meta.category != ZYDIS_CATEGORY_BMI1 &&
	       z->meta.category != ZYDIS_CATEGORY_BMI2;
}

static bool offered(const ZydisDecodedInstruction *z, uint32_t mode, const struct x86_model *model)
{
	unsigned need = need_of(z, mode);
	if (z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY && z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
		return false; /* XOP, 3DNow, EVEX, MVEX */
	if (is_vector_vex(z) && !model_has(model, FEATURE_AVX))
		return false; /* whatever else it came with */
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && !need)
		return false; /* AVX-512's mask instructions, AMX, Knights Corner's TZCNT and POPCNT, ... */
	if (z->mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ && !model_has(model, FEATURE_PCLMUL))
		return false;
	if (z->meta.isa_set == ZYDIS_ISA_SET_PREFETCH_NOP && model_has(model, FEATURE_LM))
		return true; /* all with long mode know it, if only as a NOP */
	return !need || model_has(model, need - 1);
}

static ZydisDecoder decoder_for(uint32_t mode, const struct x86_model *model)
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

/* Byte offset of a general register in x86_cpu.gpr, of a vector register in fxsave.xmm, or the plain number. */
static uint8_t register_at(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH)
			return (uint8_t)((r - ZYDIS_REGISTER_AH) * 8 + 1);
		if (r >= ZYDIS_REGISTER_SPL)
			return (uint8_t)((r - ZYDIS_REGISTER_SPL + RSP) * 8);
		return (uint8_t)((r - ZYDIS_REGISTER_AL) * 8);
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		return (uint8_t)(ZydisRegisterGetId(r) * 8);
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
		return (uint8_t)(ZydisRegisterGetId(r) * 16);
	case ZYDIS_REGCLASS_IP:
		return X86_GPR_RIP * 8;
	case ZYDIS_REGCLASS_INVALID:
		return X86_GPR_ZERO * 8;
	default:
		return (uint8_t)ZydisRegisterGetId(r);
	}
}

static uint16_t register_kind(ZydisRegister r)
{
	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_MMX: return INSN_MMX;
	case ZYDIS_REGCLASS_XMM: return INSN_XMM;
	case ZYDIS_REGCLASS_YMM: return INSN_YMM;
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64: return INSN_GPR;
	default: return 0;
	}
}

static unsigned segment_of(ZydisRegister r, uint32_t mode)
{
	unsigned seg = (unsigned)(r - ZYDIS_REGISTER_ES);
	if ((mode & MODE_CODE) == MODE_CODE64)
		return seg < SEG_FS ? SEG_FLAT : seg;
	return (mode & MODE_FLAT) && seg < SEG_FS && seg != SEG_CS ? SEG_FLAT : seg; /* a code segment cannot be written */
}

/* Zydis 4.0 takes R13D for the base where SIB and MOD say that there is none but 32 bits of displacement (SDM 2, table 2-3). */
static bool has_no_base(const ZydisDecodedInstruction *z)
{
	return (z->attributes & ZYDIS_ATTRIB_HAS_SIB) && z->raw.modrm.mod == 0 && z->raw.sib.base == 5;
}

static void set_memory(struct insn *i, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op, uint32_t mode)
{
	i->base = register_at(op->mem.base);
	if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		i->src2 = register_at(op->mem.index); /* of vector registers; i->scaled stays that of none */
	else
		i->scaled = register_at(op->mem.index);
	i->scale = (uint8_t)(op->mem.scale ? __builtin_ctz(op->mem.scale) : 0);
	i->disp = op->mem.disp.has_displacement ? op->mem.disp.value : 0;
	if (has_no_base(z)) {
		i->base = X86_GPR_ZERO * 8;
		i->disp = z->raw.disp.value;
	}
	if (i->base == X86_GPR_RIP * 8)
		i->disp += i->offset + i->length;
	i->seg = (uint8_t)segment_of(op->mem.segment, mode);
	if (op->mem.segment == ZYDIS_REGISTER_SS)
		i->flags |= INSN_STACK_SEG;
}

/* DS, or what a prefix says, for memory operands that are implied. */
static void set_string_segment(struct insn *i, const ZydisDecodedInstruction *z, uint32_t mode)
{
	ZydisRegister seg = z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS ? ZYDIS_REGISTER_CS
			  : z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS ? ZYDIS_REGISTER_SS
			  : z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES ? ZYDIS_REGISTER_ES
			  : z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS ? ZYDIS_REGISTER_FS
			  : z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS ? ZYDIS_REGISTER_GS
									 : ZYDIS_REGISTER_DS;
	i->seg = (uint8_t)segment_of(seg, mode);
	if (seg == ZYDIS_REGISTER_SS)
		i->flags |= INSN_STACK_SEG;
}

/* String instructions and XLAT name their memory by fixed registers; only the segment of the source can change. */
static void set_string(struct insn *i, const ZydisDecodedInstruction *z, uint32_t mode)
{
	i->form = FORM_NONE;
	set_string_segment(i, z, mode);
	i->size = i->opcode & 1 ? (uint8_t)(z->operand_width / 8) : 1;
	if (z->meta.category == ZYDIS_CATEGORY_IOSTRINGOP && i->size == 8)
		i->size = 4;
}

/* Operations that share their mnemonic with another one. */
static unsigned variant_of(const ZydisDecodedInstruction *z)
{
	bool far = z->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR, two_byte = z->opcode_map == ZYDIS_OPCODE_MAP_0F;
	bool string = z->meta.category == ZYDIS_CATEGORY_STRINGOP;
	switch (z->mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		if (!two_byte)
			return z->opcode == 0x8c ? X86_OP_MOV_FROM_SREG : z->opcode == 0x8e ? X86_OP_MOV_TO_SREG : X86_OP_MOV;
		return z->opcode == 0x20 ? X86_OP_MOV_FROM_CR : z->opcode == 0x21 ? X86_OP_MOV_FROM_DR
		     : z->opcode == 0x22 ? X86_OP_MOV_TO_CR : X86_OP_MOV_TO_DR;
	case ZYDIS_MNEMONIC_PUSH:
		if (two_byte || (z->opcode & 0xe7) == 0x06)
			return X86_OP_PUSH_SREG;
		break;
	case ZYDIS_MNEMONIC_POP:
		if (two_byte || (z->opcode & 0xe7) == 0x07)
			return X86_OP_POP_SREG;
		break;
	case ZYDIS_MNEMONIC_JMP: return far ? X86_OP_JMP_FAR : X86_OP_JMP;
	case ZYDIS_MNEMONIC_CALL: return far ? X86_OP_CALL_FAR : X86_OP_CALL;
	case ZYDIS_MNEMONIC_RET: return far ? X86_OP_RET_FAR : X86_OP_RET;
	case ZYDIS_MNEMONIC_MOVSD: return string ? X86_OP_MOVSB : op_of[z->mnemonic];
	case ZYDIS_MNEMONIC_CMPSD: return string ? X86_OP_CMPSB : op_of[z->mnemonic];
	default: break;
	}
	return op_of[z->mnemonic];
}

/* The only memory that it reaches is the stack. What also has a memory operand looks at the stack address itself. */
static bool is_stack_only(const struct insn *i, const ZydisDecodedInstruction *z)
{
	bool stack = z->meta.category == ZYDIS_CATEGORY_PUSH || z->meta.category == ZYDIS_CATEGORY_POP ||
		     z->meta.category == ZYDIS_CATEGORY_CALL || z->meta.category == ZYDIS_CATEGORY_RET ||
		     z->mnemonic == ZYDIS_MNEMONIC_ENTER || z->mnemonic == ZYDIS_MNEMONIC_LEAVE;
	return stack && !x86_dst_is_memory(i);
}

/* Forms by operand kinds, a base-4 digit an operand. */
enum { KIND_R = 1, KIND_M = 2, KIND_I = 3 };
#define KINDS1(a) KIND_##a
#define KINDS2(a, b) (KINDS1(a) * 4 + KIND_##b)
#define KINDS3(a, b, c) (KINDS2(a, b) * 4 + KIND_##c)
#define KINDS4(a, b, c, d) (KINDS3(a, b, c) * 4 + KIND_##d)
#define NO_FORM 0 /* where it is not FORM_NONE for want of operands */
static const uint8_t form_of[256] = {
	[KINDS1(R)] = FORM_R, [KINDS1(M)] = FORM_M, [KINDS1(I)] = FORM_I,
	[KINDS2(R, R)] = FORM_RR, [KINDS2(R, M)] = FORM_RM, [KINDS2(M, R)] = FORM_MR, [KINDS2(R, I)] = FORM_RI,
	[KINDS2(M, I)] = FORM_MI, [KINDS2(I, I)] = FORM_I, /* ENTER */
	[KINDS3(R, R, I)] = FORM_RRI, [KINDS3(R, M, I)] = FORM_RMI, [KINDS3(M, R, I)] = FORM_MRI, [KINDS3(M, R, R)] = FORM_MRR,
	[KINDS3(R, R, R)] = FORM_RRR, [KINDS3(R, R, M)] = FORM_RRM, [KINDS3(R, M, R)] = FORM_RMR, [KINDS3(R, I, I)] = FORM_RI,
	[KINDS4(R, R, R, I)] = FORM_RRRI, [KINDS4(R, R, M, I)] = FORM_RRMI,
	[KINDS4(R, R, R, R)] = FORM_RRRR, [KINDS4(R, R, M, R)] = FORM_RRMR,
};

static void set_immediate(struct insn *i, const ZydisDecodedOperand *op, unsigned nth)
{
	if (nth == 0)
		i->imm = op->imm.is_signed ? (uint64_t)op->imm.value.s : op->imm.value.u;
	else if (i->op == X86_OP_ENTER)
		i->imm |= op->imm.value.u << 16;
	else
		i->disp = (int64_t)op->imm.value.u;
}

/* What VEX adds: 32 bytes of memory, or a gather so wide, count as YMM; and the size of a third operand. */
static void set_vex(struct insn *i, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops, unsigned n)
{
	for (unsigned k = 0; k < n; k++) {
		bool memory = ops[k].type == ZYDIS_OPERAND_TYPE_MEMORY;
		if (memory && (ops[k].size == 256 || (ops[k].mem.type == ZYDIS_MEMOP_TYPE_VSIB && z->avx.vector_length == 256)))
			i->flags |= INSN_YMM;
		bool general = ops[k].type == ZYDIS_OPERAND_TYPE_REGISTER && register_kind(ops[k].reg.value) == INSN_GPR;
		if (k == 2 && (memory || general))
			i->ssize = (uint8_t)(ops[k].size / 8);
	}
}

static bool set_operands(struct insn *i, const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops, uint32_t mode)
{
	uint8_t *slots[] = { &i->dst, &i->src, &i->src2 };
	unsigned kinds = 0, immediates = 0, n = z->operand_count_visible;
	/* A memory destination takes no register slot. */
	unsigned registers = n && ops[0].type == ZYDIS_OPERAND_TYPE_MEMORY ? 1 : 0;

	i->size = (uint8_t)((n ? ops[0].size : z->operand_width) / 8);
	i->ssize = (uint8_t)(n > 1 ? ops[1].size / 8 : 0);
	for (unsigned k = 0; k < n && k < 4; k++) {
		const ZydisDecodedOperand *op = &ops[k];
		if (k == 2 && op->visibility == ZYDIS_OPERAND_VISIBILITY_IMPLICIT && op->reg.value == ZYDIS_REGISTER_XMM0)
			break; /* the implicit mask of BLENDVPS and friends */
		kinds *= 4;
		switch (op->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			if (k == 3)
				i->imm = register_at(op->reg.value);
			else
				*slots[registers++] = register_at(op->reg.value);
			i->flags |= register_kind(op->reg.value);
			kinds += KIND_R;
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			set_memory(i, z, op, mode);
			kinds += KIND_M;
			break;
		case ZYDIS_OPERAND_TYPE_POINTER:
			i->imm = op->ptr.offset;
			i->disp = op->ptr.segment;
			kinds += KIND_I;
			break;
		default:
			set_immediate(i, op, immediates++);
			kinds += KIND_I;
			break;
		}
	}
	if (is_vector_vex(z))
		set_vex(i, z, ops, n);
	i->form = form_of[kinds];
	if (i->form == FORM_RI)
		i->src = i->dst;
	return i->form != NO_FORM || !kinds || kinds == KINDS2(I, R); /* OUT imm8, AL */
}

/* #UD and #NM that CR0, CR4 and XCR0 ask for whatever the operands are; NULL: the instruction may run. */
static x86_exec_fn *forbidden(const ZydisDecodedInstruction *z, uint32_t mode)
{
	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && (mode & MODE_CODE) != MODE_CODE64 && !(mode & MODE_PROTECTED))
		return x86_exec_ud; /* real and virtual-8086 mode know no VEX */
	if (is_vector_vex(z)) {
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

static x86_exec_fn *function_of(const struct insn *i)
{
	const struct x86_forms *forms = x86_ops[i->op].forms;
	unsigned width = i->size <= 1 ? 0 : i->size == 2 ? 1 : i->size == 4 ? 2 : 3;
	if (i->flags & (INSN_MMX | INSN_XMM | INSN_YMM))
		width = (i->flags & INSN_MMX ? BY_MMX : i->flags & INSN_YMM ? BY_YMM : BY_XMM) +
			(i->flags & INSN_GPR ? BY_MMX_GPR - BY_MMX : 0);
	if ((i->flags & INSN_LOCK) && forms->locked)
		forms = forms->locked;
	x86_exec_fn *fn = forms->by[i->form][width];
	return fn ? fn : forms->any ? forms->any : x86_exec_ud;
}

/* How much work the address of the memory operand is: see x86_address. */
static uint16_t address_kind(const struct insn *i, uint32_t mode)
{
	bool code64 = (mode & MODE_CODE) == MODE_CODE64;
	if (code64 && i->asize == 8)
		return 0;
	return i->asize == 4 && (code64 || i->seg == SEG_FLAT) ? INSN_ADDRESS32 : INSN_ADDRESS;
}

/* 90 with REX.B is XCHG R8, RAX, with F3 too; Zydis takes F3 for PAUSE all the same. A prefix that means nothing instead of F3 makes it right. */
static unsigned decode_exchange(struct insn *i, const uint8_t *bytes, unsigned length, uint32_t mode, const struct x86_model *model)
{
	uint8_t copy[15];

	for (unsigned n = 0; n < length; n++)
		copy[n] = bytes[n] == 0xf3 ? 0x3e : bytes[n];
	return x86_decode(i, copy, length, mode, model);
}

static unsigned invalid(struct insn *i, x86_exec_fn *fn, unsigned length)
{
	i->op = X86_OP_INVALID;
	i->exec = fn;
	i->form = FORM_NONE;
	i->length = (uint8_t)length;
	return length;
}

unsigned x86_decode(struct insn *i, const uint8_t *bytes, unsigned available, uint32_t mode,
		    const struct x86_model *model)
{
	ZydisDecoder decoder = decoder_for(mode, model);
	ZydisDecoderContext context;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT_VISIBLE];
	uint16_t offset = i->offset;
	uint8_t index = i->index;
	memset(i, 0, sizeof(*i));
	i->offset = offset;
	i->index = index;
	i->base = i->scaled = X86_GPR_ZERO * 8;
	i->seg = SEG_FLAT;

	ZyanStatus status = ZydisDecoderDecodeInstruction(&decoder, &context, bytes, MIN(available, 15), &z);
	if (status == ZYDIS_STATUS_NO_MORE_DATA && available < 15)
		return 0;
	if (status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA)
		return invalid(i, x86_exec_gp, 15);
	if (!ZYAN_SUCCESS(status))
		return invalid(i, x86_exec_ud, 1);
	if (z.mnemonic == ZYDIS_MNEMONIC_PAUSE && z.raw.rex.B)
		return decode_exchange(i, bytes, z.length, mode, model);

	i->length = z.length;
	i->opcode = z.opcode;
	i->modrm = (uint8_t)(z.raw.modrm.mod << 6 | z.raw.modrm.reg << 3 | z.raw.modrm.rm);
	bool vex = z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX; /* raw.rex and raw.vex share their memory */
	i->modrm_reg = (uint8_t)(z.raw.modrm.reg | (vex ? 0 : z.raw.rex.R << 3));
	i->asize = (uint8_t)(z.address_width / 8);
	i->osize = (uint8_t)(z.operand_width / 8);
	i->flags = (uint16_t)((z.attributes & ZYDIS_ATTRIB_HAS_LOCK ? INSN_LOCK : 0) |
			     (z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE) ? INSN_REP : 0) |
			     (z.attributes & ZYDIS_ATTRIB_HAS_REPNE ? INSN_REPNE : 0) |
			     ((vex ? z.raw.vex.W && z.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 : z.raw.rex.W) ? INSN_REX_W : 0) |
			     (z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT ? INSN_SEG_PREFIX : 0));

	bool string = z.meta.category == ZYDIS_CATEGORY_STRINGOP || z.meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
	i->op = (uint16_t)variant_of(&z);
	if (!i->op || !offered(&z, mode, model))
		return invalid(i, x86_exec_ud, z.length);
	if (string || z.mnemonic == ZYDIS_MNEMONIC_XLAT) {
		set_string(i, &z, mode);
	} else {
		status = ZydisDecoderDecodeOperands(&decoder, &context, &z, ops, z.operand_count_visible);
		if (!ZYAN_SUCCESS(status) || !set_operands(i, &z, ops, mode))
			return invalid(i, x86_exec_ud, z.length);
	}
	if (z.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT || z.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR) {
		i->osize = (mode & MODE_CODE) == MODE_CODE64 ? 8 : i->osize; /* a 66 prefix is ignored there */
		i->size = i->osize;
	}
	if (i->op == X86_OP_XCHG && i->form == FORM_MR)
		i->flags |= INSN_LOCK; /* with or without the prefix */
	if (z.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ || z.mnemonic == ZYDIS_MNEMONIC_MASKMOVDQU ||
	    z.mnemonic == ZYDIS_MNEMONIC_VMASKMOVDQU) {
		i->base = RDI * 8; /* the memory operand is implied */
		set_string_segment(i, &z, mode);
	}
	if (is_stack_only(i, &z))
		i->flags |= INSN_STACK_SEG;
	i->flags |= address_kind(i, mode);
	x86_exec_fn *no = forbidden(&z, mode);
	i->exec = no ? no : function_of(i);
	return i->length;
}

unsigned x86_decode_lacks(const uint8_t *bytes, unsigned available, uint32_t mode, const struct x86_model *model)
{
	ZydisDecoder decoder = decoder_for(mode, model);
	ZydisDecodedInstruction z;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, MIN(available, 15), &z)) || !variant_of(&z) ||
	    z.encoding > ZYDIS_INSTRUCTION_ENCODING_VEX || offered(&z, mode, model))
		return FEATURE_NONE;
	return need_of(&z, mode) - 1;
}

static struct shape_register shape_register(const ZydisDecodedOperand *op)
{
	ZydisRegister r = op->reg.value;
	struct shape_register s = { .kind = SHAPE_OTHER, .written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE };

	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		s.byte = true;
		s.high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
		s.kind = SHAPE_GPR;
		s.number = register_at(r) / 8;
		break;
	case ZYDIS_REGCLASS_GPR16:
	case ZYDIS_REGCLASS_GPR32:
	case ZYDIS_REGCLASS_GPR64:
		s.kind = SHAPE_GPR;
		s.number = (uint8_t)ZydisRegisterGetId(r);
		break;
	case ZYDIS_REGCLASS_XMM:
	case ZYDIS_REGCLASS_YMM:
		s.kind = SHAPE_VECTOR;
		s.number = (uint8_t)ZydisRegisterGetId(r);
		break;
	case ZYDIS_REGCLASS_X87:
	case ZYDIS_REGCLASS_MMX:
		s.kind = SHAPE_FPU;
		s.number = (uint8_t)ZydisRegisterGetId(r);
		break;
	default:
		break;
	}
	return s;
}

static void shape_operand(struct x86_shape *s, const ZydisDecodedOperand *op)
{
	if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (op->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM || op->mem.type == ZYDIS_MEMOP_TYPE_VSIB || s->has_memory)
			s->other_memory = true;
		s->has_memory = true;
		s->memory_size = (uint8_t)(op->mem.type == ZYDIS_MEMOP_TYPE_MEM ? op->size / 8 : 0);
		s->memory_read |= op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
		s->memory_written |= op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	} else if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		struct shape_register r = shape_register(op);
		switch (op->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG: s->reg = r; break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM: s->rm = r; break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD: s->vvvv = r, s->has_vvvv = true; break;
		case ZYDIS_OPERAND_ENCODING_OPCODE: s->op = r, s->in_opcode = true; break;
		case ZYDIS_OPERAND_ENCODING_IS4: break; /* a vector register, which stays as it is */
		default:
			if (r.kind == SHAPE_GPR)
				s->implied |= (uint16_t)(1u << r.number);
			if (r.kind == SHAPE_GPR && r.written)
				s->implied_written |= (uint16_t)(1u << r.number);
			break;
		}
	}
}

bool x86_decode_shape(struct x86_shape *s, const uint8_t *bytes, unsigned length, uint32_t mode, const struct x86_model *model)
{
	ZydisDecoder decoder = decoder_for(mode, model);
	ZydisDecoderContext context;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, &context, bytes, length, &z)) ||
	    z.encoding > ZYDIS_INSTRUCTION_ENCODING_VEX || z.encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoder, &context, &z, ops, z.operand_count)))
		return false;
	*s = (struct x86_shape){ .vex = z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX, .opcode = z.opcode };
	switch (z.opcode_map) {
	case ZYDIS_OPCODE_MAP_DEFAULT: s->map = 0; break;
	case ZYDIS_OPCODE_MAP_0F: s->map = 1; break;
	case ZYDIS_OPCODE_MAP_0F38: s->map = 2; break;
	case ZYDIS_OPCODE_MAP_0F3A: s->map = 3; break;
	default: return false;
	}
	if (s->vex) {
		static const uint8_t prefix[] = { 0, SHAPE_66, SHAPE_F3, SHAPE_F2 };
		s->w = z.raw.vex.W;
		s->l = z.raw.vex.L;
		s->prefix = prefix[z.raw.vex.pp & 3];
	} else {
		s->w = z.raw.rex.W;
		for (unsigned n = 0; n < z.raw.prefix_count; n++) {
			bool mandatory = z.raw.prefixes[n].type == ZYDIS_PREFIX_TYPE_MANDATORY;
			bool counts = z.raw.prefixes[n].type != ZYDIS_PREFIX_TYPE_IGNORED;
			switch (z.raw.prefixes[n].value) {
			case 0x66: s->prefix |= counts ? SHAPE_66 : 0; break;
			case 0xf2: s->prefix |= mandatory ? SHAPE_F2 : 0; break;
			case 0xf3: s->prefix |= mandatory ? SHAPE_F3 : 0; break;
			case 0xf0: s->prefix |= SHAPE_LOCK; break;
			default: break;
			}
		}
	}
	s->has_modrm = z.attributes & ZYDIS_ATTRIB_HAS_MODRM;
	s->reg.number = z.raw.modrm.reg;
	s->rm.number = z.raw.modrm.rm;
	for (unsigned n = 0; n < z.operand_count; n++)
		shape_operand(s, &ops[n]);
	s->tail = z.length;
	if (z.raw.imm[0].size) {
		s->tail = z.raw.imm[0].offset;
		s->tail_size = (uint8_t)(z.length - s->tail);
	}
	return true;
}

unsigned x86_disassemble(char *text, size_t size, const uint8_t *bytes, unsigned available, uint32_t mode, uint64_t rip)
{
	ZydisDecoder decoder = decoder_for(mode, NULL);
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
