/* SPDX-License-Identifier: MIT */
/* The jump tables: from an address to the host code of its block, for jumps that do not lead straight to one.
 *
 * The first one, for user code and for supervisor code, is looked at where such a jump is (flow.c). What it leads to looks whether it was meant (door.c). If not, or
 * if there is nothing, enter.S looks at the second one, by other bits of the hash, and that is for addresses whose place in the first one is taken: two that are both
 * wanted all the time would else drive each other out, and each time C code would be called. (Of ten thousand addresses, one in seven is in such a pair.) */
#include "engine/bt/bt.h"

void bt_jump_set(struct bt *bt, struct bt_block *b, uint64_t rip)
{
	bool second = bt_jump_taken(bt, b->mode & MODE_USER ? 0 : 1, rip);
	uint32_t code = second || b->anywhere ? bt_door_get(bt, b, rip, second) : b->jump_entry;

	if (code)
		bt_jump_put(bt, b, rip, code, second);
}

static void clear(void **jump, unsigned size, const struct bt_jump_log *log, void *empty)
{
	bool overflow = log->count > ARRAY_SIZE(log->slot);
	unsigned count = overflow ? size : log->count;

	for (unsigned n = 0; n < count; n++)
		jump[overflow ? n : log->slot[n]] = empty;
}

void bt_returns_clear(struct bt *bt, unsigned which)
{
	for (unsigned n = 0; n < BT_RETURN_COUNT; n++)
		bt->state->returns[which][n] = (void *)(uintptr_t)bt_astray_entry;
}

void bt_jumps_clear(struct bt *bt, unsigned which)
{
	bt_returns_clear(bt, which);
	clear(bt->state->jumps[which], BT_JUMP_COUNT, &bt->jumps_filled[which], (void *)(uintptr_t)bt_dispatch_entry);
	clear(bt->state->seconds[which], BT_SECOND_COUNT, &bt->seconds_filled[which], (void *)(uintptr_t)bt_unknown_entry);
	bt->jumps_filled[which].count = bt->seconds_filled[which].count = 0;
}

void bt_jumps_clear_all(struct bt *bt)
{
	for (unsigned which = 0; which < 2; which++) {
		bt->jumps_filled[which].count = bt->seconds_filled[which].count = BT_JUMP_LOG + 1;
		bt_jumps_clear(bt, which);
	}
}

struct bt_block *bt_jump_find(struct bt *bt, uint64_t rip)
{
	unsigned which = bt->vcpu->core.mode & MODE_USER ? 0 : 1, slot = bt_jump_slot(rip);

	if (bt->state->jumps[which][slot] == (void *)(uintptr_t)bt_dispatch_entry || bt->jump_rip[which][slot] != rip)
		return NULL;
	return &bt->block[bt->jump_block[which][slot] - 1];
}
