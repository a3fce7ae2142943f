/* SPDX-License-Identifier: MIT */
/* How a block is entered by a jump table: by code that looks whether R15 holds the address that was meant.
 *
 * A block for one address has that in front of it. A block for any address of its page, as code of shared libraries is that each process has
 * elsewhere, has doors: one for each address, which also notes the page that the block runs at (bt_state.page). By the second jump table any block is entered through a
 * door, which knows where to look when it was not meant. */
#include "engine/bt/emit.h"

uint32_t bt_check_emit(struct emit *e, uint64_t rip, int32_t otherwise)
{
	uint32_t wrong = e->at, entry, right;

	emit_jump_through(e, state_at(otherwise));
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
static struct bt_door *find(struct bt *bt, const struct bt_block *b, uint64_t rip, bool second)
{
	uint32_t at = b->doors;

	for (unsigned n = 0; at && n < 4; n++, at = bt->door[at - 1].next)
		if (bt_door_is(&bt->door[at - 1], rip, second))
			return &bt->door[at - 1];
	return NULL;
}

uint32_t bt_door_get(struct bt *bt, struct bt_block *b, uint64_t rip, bool second)
{
	struct bt_door *door = find(bt, b, rip, second);
	struct emit e = { .base = bt->code, .at = bt->code_used };

	if (door)
		return door->code;
	if (bt->doors == bt->end.door || bt->code_used + BT_DOOR_ROOM > bt->end.code)
		return 0;
	door = &bt->door[bt->doors++];
	*door = (struct bt_door){ .rip = rip, .block = (uint32_t)(b - bt->block), .next = b->doors, .second = second };
	b->doors = bt->doors;
	door->code = bt_check_emit(&e, rip, second ? BT_UNKNOWN : BT_DISPATCH);
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

static void forget(struct bt *bt, const struct bt_door *door)
{
	unsigned which = bt->block[door->block].mode & MODE_USER ? 0 : 1;
	void **first = &bt->state->jumps[which][bt_jump_slot(door->rip)], **second = &bt->state->seconds[which][bt_second_slot(door->rip)];

	if (!door->second && *first == bt->code + door->code)
		*first = (void *)(uintptr_t)bt_dispatch_entry;
	if (door->second && *second == bt->code + door->code)
		*second = (void *)(uintptr_t)bt_unknown_entry;
}

void bt_doors_close(struct bt *bt, struct bt_block *b)
{
	for (uint32_t at = b->doors; at; at = bt->door[at - 1].next) {
		forget(bt, &bt->door[at - 1]);
		bt->door[at - 1].block = BT_NO_BLOCK;
	}
	b->doors = 0;
}

/* What is newer comes earlier in a block's list: the oldest part's doors end it. */
void bt_doors_evict(struct bt *bt, uint32_t first, uint32_t end)
{
	for (uint32_t n = first; n < end; n++) {
		if (bt->door[n].block == BT_NO_BLOCK)
			continue;
		uint32_t *at = &bt->block[bt->door[n].block].doors;
		while (*at && (*at <= first || *at > end))
			at = &bt->door[*at - 1].next;
		for (uint32_t old = *at; old; old = bt->door[old - 1].next) {
			forget(bt, &bt->door[old - 1]);
			bt->door[old - 1].block = BT_NO_BLOCK;
		}
		*at = 0;
	}
}
