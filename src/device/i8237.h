/* SPDX-License-Identifier: MIT */
/* ISA DMA as a device on the bus sees it: the chip takes bytes to memory, or brings them, while its channel is open. */
#pragma once
#include "vm/vm.h"

/* i8237.c -- A request (DREQ) for up to `size` bytes; on channels 5 to 7 a multiple of two. With the requesting device's lock held; takes the
 * 8237's. Returns how many went: 0 while the channel is masked; fewer than size when it came to its end. *terminal_count: it
 * did. What does not come from RAM is all ones; what does not go to RAM is lost; a channel that is set to the other direction, or to verify, only
 * counts (a device then gets zeros). */
size_t i8237_to_memory(struct device *, unsigned channel, const void *data, size_t size, bool *terminal_count);
size_t i8237_from_memory(struct device *, unsigned channel, void *data, size_t size, bool *terminal_count);
