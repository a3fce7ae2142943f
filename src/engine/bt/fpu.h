/* SPDX-License-Identifier: MIT */
/* The last x87 instruction, which FIP, FOP and FDP tell of: translated code notes which one it was and where its operand, and the selectors are looked at
 * before any of them changes. SDM volume 1, 8.1.8. */
#pragma once
#include "engine/bt/bt.h"
#include "x86/x87.h"

/* Out of the way of those who have nothing to tell. */
static __attribute__((noinline, cold)) void bt_fpu_tell(struct bt *bt)
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

/* The core has FIP, FOP and FDP behind this, as x87_note and x87_note_memory leave them. To be called before a segment register is loaded while x87 state may
 * be in the processor; uses no vector registers (quick.c). */
static inline void bt_fpu_settle(struct bt *bt, const struct bt_state *s)
{
	if (unlikely(s->fpu_last != BT_FPU_NONE)) /* else there is no such state, or nothing to tell of */
		bt_fpu_tell(bt);
}
