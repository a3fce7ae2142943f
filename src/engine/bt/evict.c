/* SPDX-License-Identifier: MIT */
/* A full code cache loses its oldest part. The cache, and what belongs to it (blocks, their instructions, exits, doors, fast copies), is in BT_PARTS
 * parts, which are filled one after the other, and again from the first one: there the oldest code is. What leads into a part is undone before it is
 * written again; docs/bt.md has the list of what that is, and why there is nothing else. */
#include <time.h>
#include "engine/bt/bt.h"
#include "util/log.h"

struct bt_fill bt_part_start(const struct bt *bt, unsigned part)
{
	uint32_t code = part * bt->part_size;

	return (struct bt_fill){ .code = code, .insn = code / (BT_CODE_SIZE / BT_INSNS_MAX), .block = code / (BT_CODE_SIZE / BT_BLOCKS_MAX),
				 .exit = code / (BT_CODE_SIZE / BT_EXITS_MAX), .door = code / (BT_CODE_SIZE / BT_DOORS_MAX),
				 .fast = code / (BT_CODE_SIZE / BT_FASTS_MAX), .place = code / (BT_CODE_SIZE / BT_PLACES_MAX),
				 .member = code / (BT_CODE_SIZE / BT_MEMBERS_MAX) };
}

static struct bt_fill now(const struct bt *bt)
{
	return (struct bt_fill){ .code = bt->code_used, .insn = bt->insns, .block = bt->blocks, .exit = bt->exits, .door = bt->doors,
				 .fast = bt->fasts, .place = bt->places, .member = bt->members };
}

struct bt_fill bt_part_end(const struct bt *bt, unsigned part)
{
	return part == bt->part ? now(bt) : bt->filled[part];
}

/* An empty part is the one to be filled. */
static void fill(struct bt *bt, unsigned part)
{
	struct bt_fill at = bt_part_start(bt, part);

	bt->part = part;
	bt->end = bt_part_start(bt, part + 1);
	bt->code_used = at.code;
	bt->insns = at.insn;
	bt->blocks = at.block;
	bt->exits = at.exit;
	bt->doors = at.door;
	bt->fasts = at.fast;
	bt->places = at.place;
	bt->members = at.member;
	bt->evictions++;
}

void bt_parts_begin(struct bt *bt)
{
	for (unsigned part = 0; part < BT_PARTS; part++)
		bt->filled[part] = bt_part_start(bt, part);
	fill(bt, 0);
}

/* Blocks first: what leads to them goes, and their fast copies. Then what the part has of blocks in other ones. */
static void evict(struct bt *bt, const struct bt_fill *first, const struct bt_fill *end)
{
	bt_fp_leave(bt); /* x87 state may name an instruction */
	for (uint32_t n = first->block; n < end->block; n++)
		if (!bt->block[n].dead)
			bt_block_evict(bt, &bt->block[n], first, end);
	bt_fasts_evict(bt, first, end);
	for (uint32_t n = first->exit; n < end->exit; n++)
		bt_exit_unlink(bt, n);
	bt_doors_evict(bt, first->door, end->door);
	bt_returns_clear(bt, 0);
	bt_returns_clear(bt, 1);
}

static uint64_t processor_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

void bt_parts_advance(struct bt *bt)
{
	unsigned part = (bt->part + 1) % BT_PARTS;
	struct bt_fill first = bt_part_start(bt, part), end = bt->filled[part];
	uint64_t before = processor_ns(), took;

	bt->filled[bt->part] = now(bt);
	if (end.code != first.code) {
		evict(bt, &first, &end);
		took = processor_ns() - before;
		bt->stat.evicted_parts++;
		bt->stat.evicting_ns += took;
		bt->stat.evicting_ns_most = MAX(bt->stat.evicting_ns_most, took);
		trace(code, "part %u of the translations of cpu%u evicted in %lu ns", part, bt->vcpu->index, took);
	}
	bt->filled[part] = first;
	fill(bt, part);
}
