/* SPDX-License-Identifier: MIT */
/* The ELF and Multiboot loaders against hostile files: every field at its extremes, every cut of the file, random damage. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "boot/boot.h"
#include "boot/elf.h"

#define RAM (64 * MiB)
#define FILE_SIZE 512

static unsigned failures;

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		bool holds_ = (condition);                                                                             \
		printf("%s %s\n", holds_ ? "ok" : "not ok", #condition);                                               \
		failures += !holds_;                                                                                   \
	} while (0)

static void put(uint8_t *at, uint64_t value, unsigned size)
{
	memcpy(at, &value, size);
}

/* A good ELF64 file of FILE_SIZE bytes: a PT_LOAD of 256 bytes at 1 MiB (4 KiB in memory), and a PT_NOTE with a PVH entry. */
enum { LOAD_AT = 64, NOTE_AT = 120, NOTES = 200, LOADED = 256 };
static void good64(uint8_t *f)
{
	memset(f, 0, FILE_SIZE);
	memcpy(f, "\x7f" "ELF\x02\x01\x01", 7);
	put(f + 16, 2, 2);
	put(f + 18, 62, 2);
	put(f + 20, 1, 4);
	put(f + 24, 0xffffffff80100010, 8); /* e_entry */
	put(f + 32, LOAD_AT, 8);
	put(f + 54, 56, 2);
	put(f + 56, 2, 2);
	put(f + LOAD_AT, 1, 4);
	put(f + LOAD_AT + 8, LOADED, 8);
	put(f + LOAD_AT + 16, 0xffffffff80100000, 8);
	put(f + LOAD_AT + 24, MiB, 8);
	put(f + LOAD_AT + 32, 256, 8);
	put(f + LOAD_AT + 40, 4096, 8);
	put(f + NOTE_AT, 4, 4);
	put(f + NOTE_AT + 8, NOTES, 8);
	put(f + NOTE_AT + 32, 40, 8);
	put(f + NOTE_AT + 48, 4, 8);
	put(f + NOTES, 4, 4); /* a note before it, with a name that is padded */
	put(f + NOTES + 4, 2, 4);
	put(f + NOTES + 8, 18, 4);
	memcpy(f + NOTES + 12, "Abc", 4);
	put(f + NOTES + 20, 4, 4);
	put(f + NOTES + 24, 4, 4);
	put(f + NOTES + 28, 18, 4);
	memcpy(f + NOTES + 32, "Xen", 4);
	put(f + NOTES + 36, 0x100020, 4);
}

static int layout_of(const uint8_t *f, size_t size, struct layout *l)
{
	struct elf elf;
	layout_init(l, RAM);
	return elf_open(&elf, f, size) ? -ENOEXEC : elf_layout(&elf, l);
}

/* good64 with one field changed: what elf_layout says. */
static int changed(unsigned at, uint64_t value, unsigned size)
{
	uint8_t f[FILE_SIZE];
	struct layout l;
	good64(f);
	put(f + at, value, size);
	return layout_of(f, sizeof(f), &l);
}

static void test_elf(void)
{
	uint8_t f[FILE_SIZE];
	struct elf elf;
	struct layout l;
	const uint8_t *desc;
	uint32_t size;
	good64(f);
	CHECK(!layout_of(f, sizeof(f), &l));
	CHECK(l.count == 1 && l.piece[0].at == MiB && l.piece[0].size == 4096 && l.piece[0].data == f + LOADED && l.piece[0].data_size == 256);
	CHECK(!elf_open(&elf, f, sizeof(f)) && elf_entry_physical(&elf) == MiB + 16);
	CHECK(elf_note(&elf, "Xen", 18, &desc, &size) && size == 4 && desc == f + NOTES + 36);
	CHECK(!elf_note(&elf, "Xen", 17, &desc, &size) && !elf_note(&elf, "Xe", 18, &desc, &size));

	CHECK(changed(4, 3, 1) == -ENOEXEC);             /* neither 32 nor 64 bits */
	CHECK(changed(5, 2, 1) == -ENOEXEC);             /* big endian */
	CHECK(changed(18, 183, 2) == -ENOEXEC);          /* ARM */
	CHECK(changed(32, UINT64_MAX, 8) == -ENOEXEC);   /* headers outside the file */
	CHECK(changed(32, FILE_SIZE - 56, 8) == -ENOEXEC);
	CHECK(changed(54, 55, 2) == -ENOEXEC);           /* headers too small */
	CHECK(changed(54, 0xffff, 2) == -ENOEXEC);
	CHECK(changed(56, 0xffff, 2) == -ENOEXEC);
	CHECK(changed(56, 0, 2) == -ENOEXEC);            /* nothing to load */
	CHECK(changed(LOAD_AT + 8, FILE_SIZE - 255, 8) == -ENOEXEC);
	CHECK(changed(LOAD_AT + 8, UINT64_MAX - 255, 8) == -ENOEXEC);
	CHECK(changed(LOAD_AT + 32, UINT64_MAX, 8) == -ENOEXEC);
	CHECK(changed(LOAD_AT + 40, 255, 8) == -EINVAL); /* more in the file than in memory */
	CHECK(changed(LOAD_AT + 40, UINT64_MAX, 8) == -EINVAL);
	CHECK(changed(LOAD_AT + 40, UINT64_MAX - MiB, 8) == -EFAULT);
	CHECK(changed(LOAD_AT + 40, RAM, 8) == -EFAULT);
	CHECK(changed(LOAD_AT + 40, RAM - MiB, 8) == 0);
	CHECK(changed(LOAD_AT + 24, RAM - 4095, 8) == -EFAULT);
	CHECK(changed(LOAD_AT + 24, RAM_HOLE_START, 8) == -EFAULT);
	CHECK(changed(LOAD_AT + 24, PC_EBDA - 4095, 8) == -EFAULT);
	CHECK(changed(LOAD_AT + 24, MiB - 1, 8) == -EFAULT);
	CHECK(changed(LOAD_AT + 24, UINT64_MAX, 8) == -EINVAL);
}

static bool note_found(unsigned at, uint64_t value, unsigned size)
{
	uint8_t f[FILE_SIZE];
	struct elf elf;
	const uint8_t *desc;
	uint32_t desc_size;
	good64(f);
	put(f + at, value, size);
	if (elf_open(&elf, f, sizeof(f)) || !elf_note(&elf, "Xen", 18, &desc, &desc_size))
		return false;
	return desc >= f && desc + desc_size <= f + sizeof(f);
}

static void test_notes(void)
{
	CHECK(note_found(0, 0x7f, 1));
	CHECK(!note_found(NOTES, 0xffffffff, 4));
	CHECK(!note_found(NOTES + 4, 0xffffffff, 4));
	CHECK(!note_found(NOTES + 24, 0xffffffff, 4));
	CHECK(!note_found(NOTES + 24, 5, 4));
	CHECK(!note_found(NOTE_AT + 32, 39, 8));
	CHECK(!note_found(NOTE_AT + 32, UINT64_MAX, 8));
	CHECK(!note_found(NOTE_AT + 8, UINT64_MAX, 8));
	CHECK(!note_found(NOTE_AT + 32, 0, 8));
}

static void test_too_many_segments(void)
{
	unsigned n = LAYOUT_PIECES + 1, size = 64 + n * 56;
	uint8_t *f = calloc(1, size);
	struct layout l;
	good64(f); /* fits: size is larger */
	memset(f + 64, 0, size - 64);
	put(f + 56, n, 2);
	for (unsigned i = 0; i < n; i++) {
		put(f + 64 + i * 56, 1, 4);
		put(f + 64 + i * 56 + 24, MiB + i, 8);
		put(f + 64 + i * 56 + 40, 1, 8);
	}
	CHECK(layout_of(f, size, &l) == -ENOSPC);
	free(f);
}

static void test_room(void)
{
	struct layout l;
	layout_init(&l, RAM);
	CHECK(layout_room(&l, 0, 1, 4096) == 4096);
	CHECK(!layout_add(&l, 0x800, 0x1000, NULL, 0) && layout_room(&l, 0, 4096, 4096) == 0x2000);
	CHECK(layout_room(&l, 0, MiB, 4096) == MiB);
	CHECK(!layout_add(&l, MiB, RAM - MiB - 4096, NULL, 0) && layout_room(&l, MiB, 4096, 4096) == RAM - 4096);
	CHECK(layout_room(&l, MiB, 4097, 4096) == 0);
	CHECK(layout_end(&l) == RAM - 4096);
	CHECK(layout_room(&l, RAM, 1, 1) == 0);
}

static bool probed(const uint8_t *data, size_t size, const char *name)
{
	const struct boot_image image = { .path = "test", .data = data, .size = size };
	SET_FOREACH(struct loader, loader, loaders) {
		if (!strcmp(loader->name, name))
			return loader->probe(&image);
	}
	return false;
}

static void test_probes(void)
{
	uint8_t f[FILE_SIZE], *m = calloc(1, 8192);
	good64(f);
	CHECK(probed(f, sizeof(f), "pvh") && !probed(f, sizeof(f), "multiboot"));
	put(m + 8180, 0x1badb002, 4);
	put(m + 8184, 3, 4);
	put(m + 8188, 0 - 0x1badb002 - 3, 4);
	CHECK(probed(m, 8192, "multiboot") && !probed(m, 8191, "multiboot") && !probed(m, 0, "multiboot"));
	put(m + 8184, 0x10003, 4); /* the addresses would lie outside */
	put(m + 8188, 0 - 0x1badb002 - 0x10003, 4);
	CHECK(!probed(m, 8192, "multiboot"));
	free(m);
}

/* No crash, and nothing outside the file: the sanitizer build watches, the copies have the exact size. */
static void test_damage(void)
{
	uint8_t good[FILE_SIZE];
	uint64_t random = 88172645463325252ULL;
	bool inside = true;
	good64(good);
	for (unsigned round = 0; round < 20000; round++) {
		size_t size = round < FILE_SIZE ? round : FILE_SIZE;
		uint8_t *f = malloc(size ? size : 1);
		struct layout l;
		struct elf elf;
		const uint8_t *desc;
		uint32_t desc_size;
		memcpy(f, good, size);
		for (unsigned change = 0; round >= FILE_SIZE && change < 1 + round % 4; change++) {
			random ^= random << 13, random ^= random >> 7, random ^= random << 17;
			f[random % (NOTES + 40)] = (uint8_t)(random >> 32) & 1 ? 0xff : (uint8_t)(random >> 40);
		}
		layout_of(f, size, &l);
		for (unsigned i = 0; i < l.count; i++)
			inside &= l.piece[i].data_size <= size && l.piece[i].data >= f && l.piece[i].data + l.piece[i].data_size <= f + size;
		if (!elf_open(&elf, f, size)) {
			elf_entry_physical(&elf);
			if (elf_note(&elf, "Xen", 18, &desc, &desc_size))
				inside &= desc >= f && desc_size <= size && desc + desc_size <= f + size;
		}
		probed(f, size, "pvh");
		probed(f, size, "multiboot");
		free(f);
	}
	CHECK(inside);
}

int main(void)
{
	test_elf();
	test_notes();
	test_too_many_segments();
	test_room();
	test_probes();
	test_damage();
	return failures != 0;
}
