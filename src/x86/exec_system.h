/* SPDX-License-Identifier: MIT */
/* What the families of system instructions share. */
#pragma once
#include "x86/exec.h"

struct x86_descriptor;

/* The forms of the rows in insn_system.def: defined where the functions are, declared by the row. */
#define OP(mnemonic, forms, klass, translate) extern const struct x86_forms x86_##forms;
#define OP_VARIANT OP
#include "x86/insn_system.def"
#undef OP
#undef OP_VARIANT

/* exec_far.c -- the checks of a far return's CS, of the outer SS, and then of RIP (SDM 2B RET has this order), which RET and IRET share; raise
 * for i. */
void x86_return_code(struct x86_core *, const struct insn *i, uint16_t selector, struct x86_descriptor *cs);
void x86_check_offset(struct x86_core *, const struct insn *i, const struct x86_descriptor *cs, uint64_t offset);
struct x86_segment x86_return_stack(struct x86_core *, const struct insn *i, uint16_t selector, unsigned cpl,
				    bool to64);
/* Sets the stack pointer popped with this size, once CS and SS are loaded. */
void x86_return_stack_pointer(struct x86_core *, uint64_t sp, unsigned size);

/* exec_xsave.c -- The components (XCR0_*) that are not in their initial state. */
uint64_t x86_xinuse(const struct x86_core *);

/* x87.c -- The x87 state was replaced or its exceptions cleared: tells the board, where CR0.NE is clear, that no error waits any more. */
void x87_error_gone(struct x86_core *);

/* exec_control.c -- MOV to CR0 by MOV, LMSW, CLTS; XCR0. */
/* Bits that CR4 has on this model. */
uint64_t x86_cr4_mask(const struct x86_core *);

/* exec_iret.c -- FLAGS as virtual-8086 code with a VIF sees them (IF is VIF, IOPL is 3), and what it pops: #GP for TF, and for IF while VIP is
 * set. SDM 3A 20.3.3 */
uint64_t x86_flags_virtual(uint64_t flags);
uint64_t x86_flags_from_virtual(struct x86_core *, const struct insn *i, uint64_t popped);

/* msr.c -- false: no such MSR, or the value is not allowed (#GP). */
bool x86_msr_read(struct x86_core *, uint32_t index, uint64_t *value);
bool x86_msr_write(struct x86_core *, uint32_t index, uint64_t value);

/* Code that may not touch IF (its CPL is above IOPL) has a virtual interrupt flag instead: with CR4.VME in virtual-8086 mode, with CR4.PVI
 * in protected mode at CPL 3. SDM 3A 20.3, 20.4. */
static inline bool x86_virtual_if(const struct x86_core *core)
{
	return core->mode & MODE_V86 ? core->cpu.cr4 & CR4_VME : core->cpl == 3 && (core->cpu.cr4 & CR4_PVI);
}

static inline bool x86_in_64bit(const struct x86_core *core)
{
	return (core->mode & MODE_CODE) == MODE_CODE64;
}
