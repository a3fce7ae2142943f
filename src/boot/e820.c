/* SPDX-License-Identifier: MIT */
/* The memory map of a PC without a BIOS: RAM around the holes, firmware tables and interrupt chips reserved (ACPI 15). */
#include "boot/e820.h"
#include "x86/regs.h"

static void add(struct e820 *map, uint64_t start, uint64_t end, enum e820_type type)
{
	if (start < end && map->count < E820_MAX)
		map->entry[map->count++] = (struct e820_entry){ start, end - start, type };
}

uint64_t e820_low_end(uint64_t ram)
{
	return MIN(ram, RAM_HOLE_START);
}

uint64_t e820_high_end(uint64_t ram)
{
	return ram > RAM_HOLE_START ? RAM_HOLE_END + (ram - RAM_HOLE_START) : ram;
}

void e820_build(struct e820 *map, uint64_t ram)
{
	uint64_t low = e820_low_end(ram);
	map->count = 0;
	add(map, 0, MIN(low, PC_EBDA), E820_RAM);
	add(map, PC_EBDA, PC_VGA_START, E820_RESERVED);
	add(map, PC_BIOS_START, PC_BIOS_END, E820_RESERVED);
	add(map, PC_BIOS_END, low, E820_RAM);
	add(map, PC_IOAPIC, PC_IOAPIC + X86_PAGE_SIZE, E820_RESERVED);
	add(map, PC_LAPIC, PC_LAPIC + X86_PAGE_SIZE, E820_RESERVED);
	add(map, RAM_HOLE_END, e820_high_end(ram), E820_RAM);
}
