/* SPDX-License-Identifier: MIT */
/* Which door of bt's the host code at an address is. */
#pragma once
#include "engine/bt/bt.h"

/* NULL: none. */
static const struct bt_door *door_at(const struct bt *bt, const void *code)
{
	for (unsigned part = 0; part < BT_PARTS; part++)
		for (uint32_t n = bt_part_start(bt, part).door; n < bt_part_end(bt, part).door; n++)
			if (bt->code + bt->door[n].code == code)
				return &bt->door[n];
	return NULL;
}
