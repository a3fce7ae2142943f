/* SPDX-License-Identifier: MIT */
/* The guest's x87, MMX and vector state, and MXCSR, between the core and the processor; and what translated code notes for FIP, FOP and FDP. */
#include "engine/bt/fpu.h"
#include "engine/bt/translate.h"

static const uint32_t mxcsr_default = 0x1f80;

/* x87 and MMX state is loaded by the first instruction that wants it, and stays until something else does. FIP, FDP and FOP are those
 * of the guest's last instruction, which translated code notes; what the host would tell of its own is not looked at. */
void bt_fpu_enter(struct bt *bt)
{
	struct x86_fxsave image __attribute__((aligned(16)));

	bt_fp_leave(bt);
	image = bt->vcpu->core.cpu.xsave.legacy;
	image.fip = image.fdp = image.fop = 0;
	image.mxcsr = mxcsr_default;
	asm volatile("fxrstor64 %0" : : "m"(image));
	bt->state->fpu_live = 1;
	bt->state->fpu_last = bt->state->fpu_last_memory = BT_FPU_NONE;
}

static void fpu_leave(struct bt *bt)
{
	struct x86_fxsave image __attribute__((aligned(16))), *guest = &bt->vcpu->core.cpu.xsave.legacy;

	asm volatile("fxsave64 %0\n\tfninit" : "=m"(image));
	guest->fcw = image.fcw;
	guest->fsw = image.fsw;
	guest->ftw = image.ftw;
	memcpy(guest->st, image.st, sizeof(guest->st));
	bt_fpu_settle(bt, bt->state);
	bt->state->fpu_live = 0;
}

void bt_fp_leave(struct bt *bt)
{
	if (bt->state->fpu_live)
		fpu_leave(bt);
	if (!bt->state->mxcsr_live)
		return;
	__builtin_ia32_ldmxcsr(({ bt->vcpu->core.cpu.xsave.legacy.mxcsr = __builtin_ia32_stmxcsr(); mxcsr_default; }));
	bt->state->mxcsr_live = 0;
}

void fpu_note(struct translation *t, const struct insn *i, const struct ea *ea)
{
	struct emit *e = &t->e;

	bt_insn_keep(t->bt, t->rec, i);
	memory_room_for(t, i->seg == SEG_FLAT ? 60 : 80);
	emit_store_constant(e, BT_FPU_LAST, t->id);
	if (t->block->anywhere) {
		emit_load(e, HOST_X, state_at(BT_PAGE));
		emit_store(e, state_at(BT_FPU_PAGE), HOST_X);
	}
	if (!ea)
		return;
	if (ea->kind == EA_BASE)
		emit_lea(e, HOST_T, operand_at(ea->base, ea->disp));
	if (i->seg != SEG_FLAT) { /* FDP is the offset. No flags are touched */
		emit_load(e, HOST_X, state_at(i->seg == SEG_FS ? BT_FS_BASE : BT_GS_BASE));
		emit_op(e, true, 0xf7, 2, operand_reg(HOST_X)); /* NOT */
		emit_lea(e, HOST_T, operand_sum(HOST_T, HOST_X, 0, 1));
	}
	emit_store(e, state_at(BT_FPU_OPERAND), HOST_T);
	emit_store_constant(e, BT_FPU_LAST_MEMORY, t->id);
}
