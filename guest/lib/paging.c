/* SPDX-License-Identifier: MIT */
/* Page tables in our guests: an allocator that only gives, and four levels. SDM 3A 4.5 */
#include "lib/guest.h"

#define POOL_START (32 * MIB) /* behind any image, below what the smallest machine of a test has */
#define POOL_END (62 * MIB)
#define ADDRESS_MASK 0x000ffffffffff000ULL

static uint64_t pool = POOL_START;

void *page_alloc(void)
{
	if (pool == POOL_END) {
		check(false, "the guest has enough pages");
		guest_end();
	}
	void *page = (void *)pool;
	pool += PAGE;
	return memset(page, 0, PAGE);
}

uint64_t *entry_of(uint64_t linear, unsigned level)
{
	uint64_t *table = (uint64_t *)(READ_CR(3) & ADDRESS_MASK);
	for (unsigned l = 4;; l--) {
		uint64_t *entry = &table[linear >> (3 + 9 * l) & 511];
		if (l == level)
			return entry;
		if (!(*entry & PTE_P) || *entry & (l < 4 ? PTE_PS : 0))
			return NULL;
		table = (uint64_t *)(*entry & ADDRESS_MASK);
	}
}

void map(uint64_t linear, uint64_t physical, uint64_t flags, unsigned level)
{
	for (unsigned l = 4; l > level; l--) {
		uint64_t *entry = entry_of(linear, l);
		if (!(*entry & PTE_P))
			*entry = (uint64_t)page_alloc() | PTE_P | PTE_W | PTE_U;
	}
	*entry_of(linear, level) = physical | flags | (level > 1 ? PTE_PS : 0);
	invlpg(linear);
}

bool canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

bool byte_at(uint64_t address, bool write, bool ring3, unsigned *error, uint8_t **byte)
{
	uint64_t *entry = NULL;
	unsigned level;

	*error = (write ? 2 : 0) | (ring3 ? 4 : 0);
	for (level = 4; level; level--) {
		entry = entry_of(address, level);
		if (!(*entry & PTE_P))
			return false;
		if ((ring3 && !(*entry & PTE_U)) || (write && !(*entry & PTE_W))) {
			*error |= 1;
			return false;
		}
		if (level == 1 || (level < 4 && (*entry & PTE_PS)))
			break;
	}
	uint64_t mask = (1ULL << (3 + 9 * level)) - 1;
	*byte = (uint8_t *)((*entry & 0x000ffffffffff000ULL & ~mask) + (address & mask));
	return true;
}
