/* SPDX-License-Identifier: MIT */
/* ELF files as boot loaders see them: segments and notes, ELF32 and ELF64, of x86. System V gABI, chapters 4 and 5. */
#pragma once
#include "boot/layout.h"

struct elf {
	const uint8_t *data;
	size_t size;
	bool is64;
	uint64_t entry;        /* linear address of the entry point, as the file says */
	uint64_t table;        /* offset of the program headers; all of them lie in the file */
	unsigned segments, stride;
};

enum elf_segment_type { ELF_LOAD = 1, ELF_NOTE = 4 };

struct elf_segment {
	uint32_t type;
	uint64_t offset, file_size, linear, physical, size, align;
};

/* elf.c -- Does it begin like an ELF file? */
bool elf_probe(const uint8_t *data, size_t size);
/* Checks the header. NULL, or what is wrong with it. */
const char *elf_open(struct elf *, const uint8_t *data, size_t size);
/* Reads one program header, index < elf->segments. False if the segment's bytes do not lie in the file. */
bool elf_segment(const struct elf *, unsigned index, struct elf_segment *);
/* Finds the first note with this owner and type: its description of *desc_size bytes at *desc, in the file. */
bool elf_note(const struct elf *, const char *owner, uint32_t type, const uint8_t **desc, uint32_t *desc_size);
/* Adds all PT_LOAD segments at their physical addresses. 0; -ENOEXEC for a file that is damaged or has none, or what layout_add says. */
int elf_layout(const struct elf *, struct layout *);
/* Where the entry point is in physical memory: the linear address moved as its segment is, or unchanged if it is in none. */
uint64_t elf_entry_physical(const struct elf *);
