/* SPDX-License-Identifier: MIT */
/* How an instruction is encoded, for those that write it down again: see shape.h. */
#include "x86/decode.h"
#include "x86/shape.h"

static struct shape_register shape_register(const ZydisDecodedOperand *op)
{
	ZydisRegister r = op->reg.value;
	struct shape_register s = { .kind = SHAPE_OTHER, .written = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE };

	switch (ZydisRegisterGetClass(r)) {
	case ZYDIS_REGCLASS_GPR8:
		s.byte = true;
		s.high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
		s.kind = SHAPE_GPR;
		s.number = decode_register(r) / 8;
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

/* It is written down again in 64-bit code: is it the same there? Other code ignores VEX.W where that makes a general register, named or not (VPCMPESTRI),
 * or what would be one but is in memory, one of 64 bits, and the fourth bit of a register in an immediate. SDM 2, 2.3.5.4 and 2.3.8 */
static bool same_in_64bit(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *ops, const uint8_t *bytes, const struct x86_model *model)
{
	ZydisDecoder decoder = decode_decoder(MODE_CODE64 | MODE_LONG, model);
	ZydisDecodedOperand wide_ops[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction wide;

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, z->length, &wide, wide_ops)) || wide.length != z->length ||
	    wide.mnemonic != z->mnemonic || wide.operand_count_visible != z->operand_count_visible || wide.operand_count != z->operand_count)
		return false;
	for (unsigned n = 0; n < z->operand_count; n++) {
		bool flags = ops[n].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(ops[n].reg.value) == ZYDIS_REGCLASS_FLAGS;
		if (wide_ops[n].size != ops[n].size && !flags)
			return false;
		if (ops[n].encoding == ZYDIS_OPERAND_ENCODING_IS4 && wide_ops[n].reg.value != ops[n].reg.value)
			return false;
	}
	return true;
}

bool x86_decode_shape(struct x86_shape *s, const uint8_t *bytes, unsigned length, uint32_t mode, const struct x86_model *model)
{
	ZydisDecoder decoder = decode_decoder(mode, model);
	ZydisDecoderContext context;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];

	if (!ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, &context, bytes, length, &z)) ||
	    z.encoding > ZYDIS_INSTRUCTION_ENCODING_VEX || z.encoding == ZYDIS_INSTRUCTION_ENCODING_3DNOW ||
	    !ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoder, &context, &z, ops, z.operand_count)))
		return false;
	if (z.mnemonic == ZYDIS_MNEMONIC_PAUSE && z.raw.rex.B) /* it is XCHG: decode.c */
		return false;
	if (z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && (mode & MODE_CODE) != MODE_CODE64 && !same_in_64bit(&z, ops, bytes, model))
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
