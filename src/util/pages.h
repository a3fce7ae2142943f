/* SPDX-License-Identifier: MIT */
/* Large tables that are looked up all over. */
#pragma once
#include <stddef.h>
#include <sys/mman.h>
#include "util/bits.h"

#define PAGES_HUGE (2u << 20)

/* Zeros, in huge pages where the host has them to give: each fault and each miss of its TLB costs, most of all where it is a guest itself.
 * NULL: there is no memory. Any thread. */
static inline void *pages_map(size_t size, int protection)
{
	void *p = mmap(NULL, align_up(size, PAGES_HUGE), protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, align_up(size, PAGES_HUGE), MADV_HUGEPAGE);
	return p;
}

/* What pages_map gave for this size, or NULL. */
static inline void pages_unmap(void *p, size_t size)
{
	if (p)
		munmap(p, align_up(size, PAGES_HUGE));
}
