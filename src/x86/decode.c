/* SPDX-License-Identifier: MIT */
/* Bytes to struct insn, on the Zydis library. Follows the Intel SDM volume 2, chapter 2.
 *
 * Zydis says what the instruction and its operands are; this file turns the operands into a form, registers into byte
 * offsets, and picks the function. What Zydis accepts but this processor does not, decode_model.c says. */
#include <string.h>
#include "x86/decode.h"

static const uint16_t op_of[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
#define OP(mnemonic, forms, klass, translate) [ZYDIS_MNEMONIC_##mnemonic] = X86_OP_##mnemonic,
#define OP_VARIANT(mnemonic, forms, klass, translate)
#include "x86/insn.def"
};

uint8_t decode_register(ZydisRegister r)
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
	i->base = decode_register(op->mem.base);
	if (op->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		i->src2 = decode_register(op->mem.index); /* of vector registers; i->scaled stays that of none */
	else
		i->scaled = decode_register(op->mem.index);
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
	if (op->mem.segment == ZYDIS_REGISTER_ES && z->meta.category == ZYDIS_CATEGORY_X87_ALU && (mode & MODE_CODE) != MODE_CODE64)
		i->seg = SEG_ES; /* whose selector is to become FDS */
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
unsigned decode_variant_of(const ZydisDecodedInstruction *z)
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
				i->imm = decode_register(op->reg.value);
			else
				*slots[registers++] = decode_register(op->reg.value);
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
	if (decode_vector_vex(z))
		set_vex(i, z, ops, n);
	i->form = form_of[kinds];
	if (i->form == FORM_RI)
		i->src = i->dst;
	return i->form != NO_FORM || !kinds || kinds == KINDS2(I, R); /* OUT imm8, AL */
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

/* How many of the bytes it takes to see that they are no instruction: others there may make one. */
static unsigned invalid_length(const ZydisDecoder *decoder, const uint8_t *bytes, unsigned available)
{
	ZydisDecodedInstruction z;
	unsigned n = 1;

	while (n < available && ZydisDecoderDecodeInstruction(decoder, NULL, bytes, n, &z) == ZYDIS_STATUS_NO_MORE_DATA)
		n++;
	return n;
}

unsigned x86_decode(struct insn *i, const uint8_t *bytes, unsigned available, uint32_t mode,
		    const struct x86_model *model)
{
	ZydisDecoder decoder = decode_decoder(mode, model);
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
		return invalid(i, x86_exec_ud, invalid_length(&decoder, bytes, MIN(available, 15)));
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
	i->op = (uint16_t)decode_variant_of(&z);
	if (!i->op || !decode_offered(&z, mode, model))
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
	x86_exec_fn *no = decode_forbidden(&z, mode);
	i->exec = no ? no : function_of(i);
	return i->length;
}
