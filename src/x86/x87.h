/* SPDX-License-Identifier: MIT */
/* The x87 FPU: its state in the FXSAVE image, and how the host's FPU works on it. SDM volume 1, chapter 8. */
#pragma once
#include "x86/features.h"
#include "x86/vector.h"

#define FCW_FIXED BIT(6) /* reads as one */
#define FCW_WRITABLE 0x1f3fu
#define FCW_INIT 0x037fu

/* x87.c -- Changes the control word; exceptions that are flagged become pending or cease to be (FSW.ES, FSW.B). */
void x87_set_control(struct x86_fxsave *, uint16_t fcw);
/* FNINIT: SDM volume 1, table 8-1 and volume 2. The registers keep their contents, but are empty. */
void x87_init(struct x86_fxsave *);
/* The tag word in full, two bits for each physical register, and back. */
uint16_t x87_tags(const struct x86_fxsave *);
uint8_t x87_abridged(uint16_t tags);

/* Are FCS and FDS saved, or zeros in their place? SDM volume 1, 8.1.8. */
static inline bool x87_has_selectors(const struct x86_core *core)
{
	return !x86_has(core, FEATURE_NO_FCS_FDS);
}
/* Are they kept? In real and virtual-8086 mode they are part of linear addresses. */
static inline bool x87_keeps_selectors(const struct x86_core *core)
{
	return !(core->mode & MODE_PROTECTED) || x87_has_selectors(core);
}

/* FIP, FDP and FOP are those of the last instruction that is not a control instruction. Code that is not 64-bit also
 * leaves its selectors, in bits 47:32 of FIP and FDP, where the 32-bit layout of FXSAVE has them. */
static inline void x87_note(struct x86_core *core, const struct insn *i)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	uint64_t rip = core->cpu.gpr[X86_GPR_RIP] + i->offset;
	x->fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
	x->fip = rip;
	if ((core->mode & MODE_CODE) != MODE_CODE64)
		x->fip = (uint32_t)rip | (x87_keeps_selectors(core) ? (uint64_t)core->cpu.seg[SEG_CS].selector << 32 : 0);
}
static inline void x87_note_memory(struct x86_core *core, const struct insn *i)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	uint64_t offset = *x86_gpr_at(core, i->base) + (*x86_gpr_at(core, i->scaled) << i->scale) + (uint64_t)i->disp;
	unsigned seg = i->seg != SEG_FLAT ? i->seg : i->flags & INSN_STACK_SEG ? SEG_SS : SEG_DS;
	x87_note(core, i);
	x->fdp = offset & size_mask(i->asize);
	if ((core->mode & MODE_CODE) != MODE_CODE64 && x87_keeps_selectors(core))
		x->fdp |= (uint64_t)core->cpu.seg[seg].selector << 32;
}

/* The 108 bytes of FNSAVE in the 32-bit protected-mode format, which is what the host's FNSAVE and FRSTOR use. */
struct x87_image {
	uint32_t fcw, fsw, tags, fip;
	uint16_t fcs, fop;
	uint32_t fdp, fds;
	uint8_t st[8][10];
} __attribute__((packed));
void x87_to_image(struct x87_image *, const struct x86_fxsave *);
void x87_from_image(struct x86_fxsave *, const struct x87_image *);
/* The host's x87 instruction with this opcode and ModR/M byte, register or memory form (operand at rdi), and a RET. */
const char *x87_stub(uint8_t opcode, uint8_t modrm, bool memory);
/* Runs it on the image, with the image's exceptions masked or not: an unmasked one just leaves FSW.ES set. `flags` are
 * RFLAGS in the AX form, in (FCMOV) and out (FCOMI). */
void x87_run(struct x87_image *, uint8_t opcode, uint8_t modrm, void *memory, uint16_t *flags);
