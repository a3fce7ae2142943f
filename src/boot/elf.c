/* SPDX-License-Identifier: MIT */
/* ELF files as boot loaders see them: segments and notes, ELF32 and ELF64, of x86. System V gABI, chapters 4 and 5.
 *
 * The file is hostile: no field is used before it was compared with what the file holds, and no sum is made that may wrap. */
#include "boot/elf.h"
#include <errno.h>
#include <string.h>

enum { CLASS_AT = 4, DATA_AT = 5, VERSION_AT = 6, MACHINE_AT = 18 };
enum { CLASS_32 = 1, CLASS_64 = 2, LITTLE_ENDIAN_DATA = 1, CURRENT = 1, MACHINE_386 = 3, MACHINE_X86_64 = 62 };
enum { HEADER_32 = 52, HEADER_64 = 64, SEGMENT_32 = 32, SEGMENT_64 = 56 };
enum { NOTE_HEADER = 12 };

static uint64_t field(const uint8_t *at, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, at, size); /* little endian on both sides */
	return value;
}

bool elf_probe(const uint8_t *data, size_t size)
{
	return size >= HEADER_32 && !memcmp(data, "\x7f" "ELF", 4);
}

const char *elf_open(struct elf *elf, const uint8_t *data, size_t size)
{
	if (!elf_probe(data, size))
		return "it is no ELF file";
	if ((data[CLASS_AT] != CLASS_32 && data[CLASS_AT] != CLASS_64) || data[DATA_AT] != LITTLE_ENDIAN_DATA || data[VERSION_AT] != CURRENT)
		return "it is an ELF file of an unknown kind";
	uint64_t machine = field(data + MACHINE_AT, 2);
	if (machine != MACHINE_386 && machine != MACHINE_X86_64)
		return "it is an ELF file for another processor than x86";
	*elf = (struct elf){ .data = data, .size = size, .is64 = data[CLASS_AT] == CLASS_64 };
	if (elf->is64 && size < HEADER_64)
		return "its ELF header is cut off";
	elf->entry = elf->is64 ? field(data + 24, 8) : field(data + 24, 4);
	elf->table = elf->is64 ? field(data + 32, 8) : field(data + 28, 4);
	elf->stride = (unsigned)field(data + (elf->is64 ? 54 : 42), 2);
	elf->segments = (unsigned)field(data + (elf->is64 ? 56 : 44), 2);
	if (elf->segments && elf->stride < (elf->is64 ? SEGMENT_64 : SEGMENT_32))
		return "its ELF program headers are too small";
	if (elf->table > size || (uint64_t)elf->segments * elf->stride > size - elf->table)
		return "its ELF program headers lie outside the file";
	return NULL;
}

bool elf_segment(const struct elf *elf, unsigned index, struct elf_segment *s)
{
	const uint8_t *p = elf->data + elf->table + (uint64_t)index * elf->stride;
	if (elf->is64)
		*s = (struct elf_segment){ .type = (uint32_t)field(p, 4), .offset = field(p + 8, 8), .linear = field(p + 16, 8),
					   .physical = field(p + 24, 8), .file_size = field(p + 32, 8), .size = field(p + 40, 8),
					   .align = field(p + 48, 8) };
	else
		*s = (struct elf_segment){ .type = (uint32_t)field(p, 4), .offset = field(p + 4, 4), .linear = field(p + 8, 4),
					   .physical = field(p + 12, 4), .file_size = field(p + 16, 4), .size = field(p + 20, 4),
					   .align = field(p + 28, 4) };
	return s->offset <= elf->size && s->file_size <= elf->size - s->offset;
}

/* Looks through the notes in [at, at + size). Name and description are each padded to a multiple of `align`. */
static bool find_note(const uint8_t *at, uint64_t size, unsigned align, const char *owner, uint32_t type, const uint8_t **desc,
		      uint32_t *desc_size)
{
	uint64_t owner_size = strlen(owner) + 1;
	while (size >= NOTE_HEADER) {
		uint64_t name = field(at, 4), description = field(at + 4, 4);
		uint64_t desc_at = align_up(NOTE_HEADER + name, align), next = align_up(desc_at + description, align);
		if (desc_at > size || description > size - desc_at)
			return false;
		if (field(at + 8, 4) == type && name == owner_size && !memcmp(at + NOTE_HEADER, owner, owner_size)) {
			*desc = at + desc_at;
			*desc_size = (uint32_t)description;
			return true;
		}
		if (next > size)
			return false;
		at += next;
		size -= next;
	}
	return false;
}

bool elf_note(const struct elf *elf, const char *owner, uint32_t type, const uint8_t **desc, uint32_t *desc_size)
{
	for (unsigned i = 0; i < elf->segments; i++) {
		struct elf_segment s;
		if (elf_segment(elf, i, &s) && s.type == ELF_NOTE &&
		    find_note(elf->data + s.offset, s.file_size, s.align == 8 ? 8 : 4, owner, type, desc, desc_size))
			return true;
	}
	return false;
}

int elf_layout(const struct elf *elf, struct layout *layout)
{
	unsigned before = layout->count;
	for (unsigned i = 0; i < elf->segments; i++) {
		struct elf_segment s;
		bool whole = elf_segment(elf, i, &s);
		if (s.type != ELF_LOAD)
			continue;
		if (!whole)
			return -ENOEXEC;
		int error = layout_add(layout, s.physical, s.size, elf->data + s.offset, s.file_size);
		if (error)
			return error;
	}
	return layout->count > before ? 0 : -ENOEXEC;
}

uint64_t elf_entry_physical(const struct elf *elf)
{
	for (unsigned i = 0; i < elf->segments; i++) {
		struct elf_segment s;
		if (elf_segment(elf, i, &s) && s.type == ELF_LOAD && elf->entry >= s.linear && elf->entry - s.linear < s.size)
			return elf->entry - s.linear + s.physical;
	}
	return elf->entry;
}
