/* SPDX-License-Identifier: MIT */
/* Where the pieces of a guest's first program go. The sizes come out of a hostile file: nothing is added before it is compared. */
#include "boot/layout.h"
#include <errno.h>
#include "util/log.h"
#include "x86/regs.h"

void layout_init(struct layout *l, uint64_t ram)
{
	e820_build(&l->map, ram);
	l->count = 0;
}

static bool is_free_ram(const struct layout *l, gpa_t at, uint64_t size)
{
	for (unsigned i = 0; i < l->map.count; i++) {
		const struct e820_entry *e = &l->map.entry[i];
		if (e->type == E820_RAM && at >= e->start && at - e->start < e->size && size <= e->size - (at - e->start))
			return true;
	}
	return false;
}

int layout_add(struct layout *l, gpa_t at, uint64_t size, const uint8_t *data, uint64_t data_size)
{
	if (data_size > size || size > UINT64_MAX - at)
		return -EINVAL;
	if (!size)
		return 0;
	if (!is_free_ram(l, at, size))
		return -EFAULT;
	if (l->count == LAYOUT_PIECES)
		return -ENOSPC;
	l->piece[l->count++] = (struct layout_piece){ at, size, data, data_size };
	return 0;
}

/* A piece that overlaps [at, at + size), or NULL. Neither sum wraps: both ends were found in RAM. */
static const struct layout_piece *overlap(const struct layout *l, gpa_t at, uint64_t size)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->piece[i].at < at + size && at < l->piece[i].at + l->piece[i].size)
			return &l->piece[i];
	return NULL;
}

gpa_t layout_room(const struct layout *l, gpa_t from, uint64_t size, uint64_t align)
{
	for (unsigned i = 0; i < l->map.count; i++) {
		const struct e820_entry *e = &l->map.entry[i];
		uint64_t end = e->start + e->size;
		if (e->type != E820_RAM || end <= from || end > RAM_HOLE_END)
			continue;
		/* Page 0 stays free: address 0 means "none" in boot protocols. */
		gpa_t at = align_up(MAX(MAX(e->start, from), X86_PAGE_SIZE), align);
		const struct layout_piece *p;
		while (at < end && size <= end - at && (p = overlap(l, at, size)))
			at = align_up(p->at + p->size, align);
		if (at < end && size <= end - at)
			return at;
	}
	return 0;
}

gpa_t layout_end(const struct layout *l)
{
	gpa_t end = 0;
	for (unsigned i = 0; i < l->count; i++)
		if (l->piece[i].at < RAM_HOLE_END)
			end = MAX(end, l->piece[i].at + l->piece[i].size);
	return end;
}

int layout_modules(struct layout *l, const struct boot_request *request, gpa_t at[BOOT_MODULES])
{
	for (unsigned i = 0; i < request->modules; i++) {
		const struct boot_image *file = &request->module[i].file;
		at[i] = layout_room(l, MAX(layout_end(l), PC_BIOS_END), MAX(file->size, 1ULL), X86_PAGE_SIZE);
		if (!at[i] || layout_add(l, at[i], file->size, file->data, file->size)) {
			log_error("%s: a module of %zu bytes does not fit behind the kernel; use more --memory", file->path, file->size);
			return -ENOMEM;
		}
	}
	return 0;
}

const char *layout_error(int error)
{
	switch (error) {
	case -EINVAL:
		return "has more bytes in the file than in memory, or an address that wraps around";
	case -EFAULT:
		return "does not lie in RAM; more --memory may help";
	case -ENOSPC:
		return "is one segment too many";
	}
	return "cannot be loaded";
}

static int clear(struct vm *vm, gpa_t at, uint64_t size)
{
	static const uint8_t zeros[64 * KiB];
	while (size) {
		uint64_t n = MIN(size, sizeof(zeros));
		int error = guest_write(vm, at, zeros, n);
		if (error)
			return error;
		at += n;
		size -= n;
	}
	return 0;
}

int layout_write(struct vm *vm, const struct layout *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		const struct layout_piece *p = &l->piece[i];
		int error = p->data_size ? guest_write(vm, p->at, p->data, p->data_size) : 0;
		if (!error)
			error = clear(vm, p->at + p->data_size, p->size - p->data_size);
		if (error)
			return error;
	}
	return 0;
}
