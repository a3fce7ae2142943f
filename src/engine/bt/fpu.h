/* SPDX-License-Identifier: MIT */
/* The last x87 instruction, which FIP, FOP and FDP tell of: translated code notes which one it was and where its operand, and the selectors are looked at
 * before any of them changes. SDM volume 1, 8.1.8. */
#pragma once
#include "engine/bt/bt.h"

/* fpu_last.c -- There is something to tell. */
__attribute__((cold)) void bt_fpu_tell(struct bt *);

/* The core has FIP, FOP and FDP behind this, as x87_note and x87_note_memory leave them. To be called before a segment register is loaded while x87 state may
 * be in the processor; uses no vector registers (quick.c). */
static inline void bt_fpu_settle(struct bt *bt, const struct bt_state *s)
{
	if (unlikely(s->fpu_last != BT_FPU_NONE)) /* else there is no such state, or nothing to tell of */
		bt_fpu_tell(bt);
}
