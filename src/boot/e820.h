/* SPDX-License-Identifier: MIT */
/* The memory map that firmware gives to a loader's guest: ACPI 15, "System Address Map Interfaces" (INT 15h, E820h). */
#pragma once
#include "board/pc.h"
#include "vm/vm.h"

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_entry {
	uint64_t start, size;
	uint32_t type;
} __attribute__((packed));

#define E820_MAX 16
struct e820 {
	struct e820_entry entry[E820_MAX];
	unsigned count;
};

/* e820.c -- The map of a PC with `ram` bytes of RAM, sorted, without overlaps. */
void e820_build(struct e820 *, uint64_t ram);
/* First byte behind the RAM that begins at 1 MiB and lies below 4 GiB; and behind all RAM (at least 4 GiB if some lies there). */
uint64_t e820_low_end(uint64_t ram);
uint64_t e820_high_end(uint64_t ram);
