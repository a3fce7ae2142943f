/* SPDX-License-Identifier: MIT */
/* The last x87 instruction, from what translated code has noted: fpu.h. Compiled without vector registers, since quick.c calls it. */
#include "engine/bt/fpu.h"
#include "x86/x87.h"

void bt_fpu_tell(struct bt *bt)
{
	struct bt_state *s = bt->state;
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	struct x86_fxsave *guest = &cpu->xsave.legacy;
	const struct bt_insn *rec = &bt->insn[s->fpu_last];
	const struct bt_block *b = &bt->block[rec->block];
	bool selectors = (b->mode & MODE_CODE) != MODE_CODE64 && x87_has_selectors(&bt->vcpu->core);
	const struct insn *i = bt_insn_kept(bt, rec);

	guest->fop = (uint16_t)((i->opcode & 7) << 8 | i->modrm);
	guest->fip = (b->anywhere ? s->fpu_page + (b->gpa & ~X86_PAGE_MASK) : b->rip) + rec->offset;
	if (selectors)
		guest->fip |= (uint64_t)cpu->seg[SEG_CS].selector << 32;
	s->fpu_last = BT_FPU_NONE;
	if (s->fpu_last_memory == BT_FPU_NONE)
		return;
	i = bt_insn_kept(bt, &bt->insn[s->fpu_last_memory]);
	unsigned seg = i->seg != SEG_FLAT ? i->seg : i->flags & INSN_STACK_SEG ? SEG_SS : SEG_DS;
	guest->fdp = s->fpu_operand & size_mask(i->asize);
	if (selectors)
		guest->fdp |= (uint64_t)cpu->seg[seg].selector << 32;
	s->fpu_last_memory = BT_FPU_NONE;
}
