/* SPDX-License-Identifier: MIT */
/* The decoded instruction, and the table of operations (insn.def) that it points into.
 *
 * Bytes become a struct insn in decode.c; an engine keeps it as long as the bytes and the mode hold. The form it
 * has (which operands are registers, memory, immediate) and the operand size choose the C function that runs it,
 * so that nothing is looked up again when it runs. */
#pragma once
#include <string.h>
#include "x86/regs.h"

struct x86_core;
struct insn;

/* Runs one instruction and then goes on to the next, i[1]: see exec.h for the contract. */
typedef void x86_exec_fn(struct x86_core *, const struct insn *i);

/* Operands, destination first. R: register, M: memory, I: immediate. A count in CL is the register operand CL.
 * For vector operations R is a vector register; a third register is insn.src2, a fourth is in insn.imm. A gather is RMR: its mask is insn.src,
 * and insn.src2 is the vector of indices. */
enum x86_form {
	FORM_NONE, FORM_R, FORM_M, FORM_I, FORM_RR, FORM_RM, FORM_MR, FORM_RI, FORM_MI,
	FORM_RRI, FORM_RMI, FORM_MRI, FORM_MRR, FORM_RRR, FORM_RRM, FORM_RMR, FORM_RRRI, FORM_RRMI,
	FORM_RRRR, FORM_RRMR, FORM_COUNT
};

/* What a monitor must know of an operation (Popek and Goldberg 1974). Bits: a far return is control flow, and tells the CPL. */
enum x86_class {
	CLASS_INNOCUOUS = 0,       /* same result at any privilege: may run natively */
	CLASS_CONTROL = BIT(0),    /* sets RIP itself */
	CLASS_PRIVILEGED = BIT(1), /* traps outside ring 0 */
	CLASS_SENSITIVE = BIT(2),  /* reads or changes the machine, but does not trap at ring 3: the classical hole of x86 */
	CLASS_IO = BIT(3),         /* IN, OUT, INS, OUTS: traps by IOPL and the permission bitmap */
};

/* How a binary translator may treat it. */
enum x86_translate {
	XLATE_NATIVE, /* copy; rewrite the memory operand, if there is one */
	XLATE_BRANCH, /* control flow the translator turns into its own */
	XLATE_CALL,   /* call the exec function */
	XLATE_END,    /* call the exec function, and end the block: it may change the mode or the mapping */
};

/* The functions of one operation. `by[form][log2 of operand size]` where it is specialised, else `any`; if a register
 * operand is a vector register, the column is enum x86_vector_column instead of the size.
 * A form with neither cannot be encoded for this operation, and decodes as #UD. */
enum x86_vector_column { /* GPR: another register operand is a general one. No operation has MMX and YMM forms */
	BY_MMX, BY_XMM, BY_MMX_GPR, BY_XMM_GPR, BY_YMM = BY_MMX, BY_YMM_GPR = BY_MMX_GPR
};
struct x86_forms {
	x86_exec_fn *any;
	x86_exec_fn *by[FORM_COUNT][4];
	const struct x86_forms *locked; /* with a LOCK prefix, where that is another function */
};

enum x86_op {
	X86_OP_INVALID, /* undefined opcode: #UD */
#define OP(mnemonic, forms, klass, translate) X86_OP_##mnemonic,
#include "x86/insn.def"
	X86_OP_COUNT
};

struct x86_op_info {
	const char *name;
	const struct x86_forms *forms;
	uint8_t klass;     /* enum x86_class */
	uint8_t translate; /* enum x86_translate */
};
extern const struct x86_op_info x86_ops[X86_OP_COUNT];

enum { /* insn.flags */
	INSN_LOCK = BIT(0),
	INSN_REP = BIT(1),    /* F3 */
	INSN_REPNE = BIT(2),  /* F2 */
	INSN_ADDRESS = BIT(3),/* the address needs more than a sum: 16-bit size, limit checks */
	INSN_REX_W = BIT(4),
	INSN_STACK_SEG = BIT(5), /* faults on the memory operand are #SS, not #GP */
	INSN_SEG_PREFIX = BIT(6), /* has an explicit segment override */
	INSN_MOFFS = BIT(7),
	INSN_MMX = BIT(8),    /* a register operand is an MMX register */
	INSN_XMM = BIT(9),    /* a register operand is an XMM register */
	INSN_GPR = BIT(10),   /* a register operand is a general register */
	INSN_YMM = BIT(12),   /* an operand is a YMM register, or 32 bytes of memory; or so wide is a gather */
	INSN_ADDRESS32 = BIT(11), /* the sum is truncated to 32 bits, and nothing more: flat segments, or 64-bit code with a 67h prefix */
};

/* Register operands are byte offsets into x86_cpu.gpr (so AH is 1, RCX is 8, the zero slot 128), vector registers
 * byte offsets into fxsave.xmm (16 each); MMX, x87, segment, control and debug registers are plain numbers. */
struct insn {
	x86_exec_fn *exec;
	uint64_t imm;     /* sign-extended to 64 bits; for a relative branch the displacement from the next
	                     instruction; far pointer: offset, the selector in disp; ENTER: size | level << 16;
	                     a second immediate in disp where there is no memory operand; the fourth
	                     register of VBLENDVPS and friends */
	int64_t disp;     /* of the address; RIP-relative ones count from the start of the trace */
	uint16_t op;      /* enum x86_op */
	uint16_t offset;  /* of the first byte, from the start of the trace */
	uint16_t flags;   /* INSN_* */
	uint8_t length;   /* in bytes, 1 to 15 */
	uint8_t index;    /* position in the trace */
	uint8_t form;     /* enum x86_form */
	uint8_t size;     /* of the first operand, in bytes; where there is none, the effective operand size */
	uint8_t ssize;    /* of the second operand, in bytes; with VEX, of the third where that is memory or a general register */
	uint8_t dst, src, src2;  /* register operands: the first, the second, the third */
	uint8_t base, scaled, scale; /* address = gpr[base] + (gpr[scaled] << scale) + disp */
	uint8_t seg;      /* of the memory operand: enum x86_seg or SEG_FLAT */
	uint8_t asize;    /* address size in bytes: 2, 4, 8 */
	uint8_t osize;    /* effective operand size in bytes: 2, 4, 8 */
	uint8_t opcode;   /* the last opcode byte: holds the condition in its low 4 bits */
	uint8_t modrm;
	uint8_t modrm_reg; /* modrm.reg with REX.R, plain number */
};

/* The processor mode as far as it changes what bytes mean or which function runs them: part of every cache key. */
enum {
	MODE_CODE16 = 0, MODE_CODE32 = 1, MODE_CODE64 = 2, MODE_CODE = 3, /* default sizes of code */
	MODE_STACK16 = 0 << 2, MODE_STACK32 = 1 << 2, MODE_STACK64 = 2 << 2, MODE_STACK = 3 << 2, /* stack pointer width */
	MODE_FLAT = BIT(4),      /* ES, CS, SS, DS have base 0 and limit 4 GiB (always set in 64-bit code) */
	MODE_PROTECTED = BIT(5), /* CR0.PE and not virtual-8086 */
	MODE_V86 = BIT(6),
	MODE_X87_NM = BIT(7),    /* x87 raises #NM (CR0.EM or TS) */
	MODE_WAIT_NM = BIT(8),   /* FWAIT raises #NM (CR0.MP and TS) */
	MODE_MMX_UD = BIT(9),    /* MMX raises #UD (CR0.EM) */
	MODE_SSE_UD = BIT(10),   /* SSE raises #UD (CR0.EM, or CR4.OSFXSR clear) */
	MODE_SSE_NM = BIT(11),   /* MMX and SSE raise #NM (CR0.TS) */
	MODE_AVX_UD = BIT(12),   /* VEX raises #UD (CR4.OSXSAVE clear, XCR0 without AVX, not protected) */
	MODE_LONG = BIT(13),     /* EFER.LMA: 64-bit or compatibility mode */
	MODE_USER = BIT(14),     /* CPL 3: decides which pages can be fetched from, not what bytes mean */
};

/* Code is read from memory that other processors may write to at this moment: in aligned units of 8 bytes, so that an aligned store of theirs
 * is seen whole or not at all (SDM 3A 9.1.1), and once, so that the decoder sees one instruction however often it looks. Copies up to 15
 * bytes; returns how many. `from` is guest memory, `available` ends with its page at the latest. */
static inline unsigned x86_code_copy(uint8_t to[15], const uint8_t *from, unsigned available)
{
	unsigned skip = (uintptr_t)from & 7, n = available < 15 ? available : 15;
	const uint64_t *unit = (const uint64_t *)(from - skip);
	uint64_t copy[3];

	for (unsigned u = 0; u * 8 < skip + n; u++)
		copy[u] = __atomic_load_n(unit + u, __ATOMIC_RELAXED);
	memcpy(to, (const uint8_t *)copy + skip, n);
	return n;
}

/* decode.c -- Decodes the instruction in bytes[0..available) for `mode` (MODE_*). Fills all of *i except index and
 * offset, which the caller sets *before* (RIP-relative displacements use the offset). Returns the length; 0 when
 * `available` bytes are not enough to tell (fetch more; never with 15 or more). What is no valid instruction for
 * this processor becomes one whose exec raises #UD, or #GP when longer than 15 bytes; i->length is then how many bytes tell.
 * What `model` lacks is #UD, or decodes as what older processors make of it (TZCNT is BSF); NULL: everything is there.
 * Thread-safe. */
struct x86_model;
unsigned x86_decode(struct insn *i, const uint8_t *bytes, unsigned available, uint32_t mode,
		    const struct x86_model *model);
/* decode_model.c -- The feature (features.h) that the model lacks for the instruction at these bytes; FEATURE_NONE: it lacks none. For messages. */
unsigned x86_decode_lacks(const uint8_t *bytes, unsigned available, uint32_t mode, const struct x86_model *model);
/* disassemble.c -- Writes Intel syntax for the bytes into text. Returns their length, 0 when they are no instruction. */
unsigned x86_disassemble(char *text, size_t size, const uint8_t *bytes, unsigned available, uint32_t mode, uint64_t rip);
