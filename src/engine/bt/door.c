/* SPDX-License-Identifier: MIT */
/* How a block is entered by the jump table: by code that looks whether R15 holds the address that was meant.
 *
 * A block for one address has that in front of it. A block for any address of its page, as code of shared libraries is that each process has
 * elsewhere, has doors: one for each address, which also notes the page that the block runs at (bt_state.page). */
#include "engine/bt/emit.h"

uint32_t bt_check_emit(struct emit *e, uint64_t rip)
{
	uint32_t wrong = e->at, entry, right;

	emit_jump_through(e, state_at(BT_DISPATCH));
	entry = e->at;
	if (fits32(-(int64_t)rip)) {
		emit_lea(e, HOST_X, operand_at(HOST_T, (int32_t)-(int64_t)rip));
	} else {
		emit_constant(e, HOST_X, -rip);
		emit_lea(e, HOST_X, operand_sum(HOST_X, HOST_T, 0, 0));
	}
	right = emit_short(e, 0xe3);
	emit_patch_short(e, emit_short(e, 0xeb), wrong);
	emit_patch_short(e, right, e->at);
	return entry;
}

/* A program that runs again after others has the door that it had, if that is among the last ones. */
static struct bt_door *find(struct bt *bt, const struct bt_block *b, uint64_t rip)
{
	uint32_t at = b->doors;

	for (unsigned n = 0; at && n < 4; n++, at = bt->door[at - 1].next)
		if (bt->door[at - 1].rip == rip)
			return &bt->door[at - 1];
	return NULL;
}

uint32_t bt_door_get(struct bt *bt, struct bt_block *b, uint64_t rip)
{
	struct bt_door *door = find(bt, b, rip);
	struct emit e = { .base = bt->code, .at = bt->code_used };

	if (door)
		return door->code;
	if (bt->doors == BT_DOORS_MAX || bt->code_used + BT_DOOR_ROOM > BT_CODE_SIZE)
		return 0;
	door = &bt->door[bt->doors++];
	*door = (struct bt_door){ .rip = rip, .block = (uint32_t)(b - bt->block), .next = b->doors };
	b->doors = bt->doors;
	door->code = bt_check_emit(&e, rip);
	emit_lea(&e, HOST_X, operand_at(HOST_T, -(int)(b->gpa & ~X86_PAGE_MASK)));
	emit_store(&e, state_at(BT_PAGE), HOST_X);
	door->patch = emit_jump(&e, -1);
	emit_patch(&e, door->patch, b->entry);
	bt->code_used = (uint32_t)align_up(e.at, 16);
	bt->stat.doors++;
	return door->code;
}

void bt_doors_lead(struct bt *bt, const struct bt_block *b)
{
	struct emit e = { .base = bt->code };

	for (uint32_t at = b->doors; at; at = bt->door[at - 1].next)
		emit_patch(&e, bt->door[at - 1].patch, b->entry);
}

void bt_doors_close(struct bt *bt, struct bt_block *b)
{
	for (uint32_t at = b->doors; at; at = bt->door[at - 1].next) {
		void **jump = &bt->state->jumps[0][bt_jump_slot(bt->door[at - 1].rip)];
		if (*jump == bt->code + bt->door[at - 1].code)
			*jump = (void *)(uintptr_t)bt_dispatch_entry;
	}
	b->doors = 0;
}
