/* SPDX-License-Identifier: MIT */
/* How two outcomes of a case of the bulk comparison are compared: the host's, and ours. */
#pragma once
#include "hostrun.h"

struct bulk_outcome {
	struct host_state state;
	struct host_end end;
	uint8_t data[HOST_DATA_SIZE];
};

/* bulk_excuse.c -- The same, as far as code of this mode can see. */
bool bulk_same(const struct bulk_outcome *, const struct bulk_outcome *, uint32_t mode);
/* The same, once all that is excused of `ours` is as on the host; of the instruction that ran last (hosttwin_insn). `count`: who was needed. */
bool bulk_excused(const struct bulk_outcome *host, const struct bulk_outcome *ours, uint32_t mode, bool count);
/* Who was. */
void bulk_excuses_print(void);
