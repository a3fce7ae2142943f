/* SPDX-License-Identifier: MIT */
/* Guest-physical memory: the memfd, the monitor's view of it, the map of regions, and the checked ways to it.
 *
 * A writer stores first and marks the page dirty afterwards; who reads the log clears the mark first and copies
 * afterwards. So a write is never lost, at worst copied twice. The same order serves decoded code: an engine marks
 * a page CODE first and reads it afterwards, so either it sees the new bytes or the writer sees the mark. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include "engine/engine.h"
#include "util/log.h"
#include "util/options.h"

#define PAGE_SIZE X86_PAGE_SIZE
#define GUARD (64 * KiB) /* before and behind the view: no single access reaches across */

/* A size that this host can give, for the error message: at most half of what is free, and of what was asked
 * for: limits other than the host's memory (ulimit) may have been in the way. */
static uint64_t affordable(uint64_t less_than)
{
	struct sysinfo info;
	uint64_t size = 64 * MiB, free_bytes = 0;

	if (!sysinfo(&info))
		free_bytes = (uint64_t)(info.freeram + info.bufferram) * info.mem_unit;
	while (size < 512 * MiB && size * 2 <= free_bytes / 2)
		size *= 2;
	return MIN(size, less_than / 2);
}

static int refuse(uint64_t size, const char *why)
{
	char want[24], can[24];

	log_error("cannot get %s of memory: %s; try --memory %s", option_size_text(want, size), why,
		  option_size_text(can, affordable(size)));
	return -ENOMEM;
}

/* RAM is handed out on first touch, so the kernel would promise anything and kill the monitor later: say no now. */
static int check_size(uint64_t ram)
{
	struct sysinfo info;
	uint64_t total;
	char why[80], has[24];

	if (!ram || ram % PAGE_SIZE) {
		log_error("the size of memory must be a multiple of 4K, and not 0; try --memory 512M");
		return -EINVAL;
	}
	if (sysinfo(&info))
		return 0;
	total = ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
	if (ram <= total)
		return 0;
	snprintf(why, sizeof(why), "the host has %s", option_size_text(has, align_down(total, MiB)));
	return refuse(ram, why);
}

static int map_view(struct memory *m)
{
	const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, shared = MAP_SHARED | MAP_FIXED | MAP_NORESERVE;
	uint8_t *reserved = mmap(NULL, m->size + 2 * GUARD, PROT_NONE, anonymous, -1, 0);

	if (reserved == MAP_FAILED)
		return -errno;
	m->host = reserved + GUARD;
	if (mmap(m->host, m->size, PROT_READ | PROT_WRITE, shared, m->fd, 0) == MAP_FAILED)
		return -errno;
	/* A crash dump of the monitor need not hold the guest. */
	madvise(m->host, m->size, MADV_DONTDUMP);
	return 0;
}

static int make_memfd(struct memory *m)
{
	m->fd = memfd_create("doppel-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0)
		return -errno;
	if (ftruncate(m->fd, (off_t)m->size))
		return -errno;
	/* Nobody whom it is handed to can make it shorter, and so kill the monitor with SIGBUS. */
	if (fcntl(m->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
		return -errno;
	return 0;
}

static struct memory_map *map_ram(const struct memory *m)
{
	struct memory_map *map = calloc(1, sizeof(*map) + 2 * sizeof(map->region[0]));

	if (!map)
		return NULL;
	map->region[map->count++] = (struct memory_region){ .size = m->low_ram, .kind = MEMORY_RAM, .name = "ram" };
	if (m->ram_size > m->low_ram)
		map->region[map->count++] = (struct memory_region){
			.start = RAM_HOLE_END, .size = m->ram_size - m->low_ram, .offset = m->low_ram, .kind = MEMORY_RAM,
			.name = "ram-high",
		};
	return map;
}

int memory_init(struct vm *vm, uint64_t ram, uint64_t rom_size)
{
	struct memory *m = &vm->memory;
	struct memory_map *map;
	void *bits;
	int error = check_size(ram);

	*m = (struct memory){ .fd = -1, .ram_size = ram, .size = ram + align_up(rom_size, PAGE_SIZE),
		.low_ram = MIN(ram, RAM_HOLE_START) };
	pthread_mutex_init(&m->lock, NULL);
	if (error)
		return error;
	error = make_memfd(m);
	if (!error)
		error = map_view(m);
	if (error)
		goto fail;
	bits = mmap(NULL, m->size / PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		    -1, 0);
	if (bits == MAP_FAILED) {
		error = -errno;
		goto fail;
	}
	m->page_bits = bits;
	m->populated = calloc(m->size / MEMORY_POPULATED / 64 + 1, sizeof(*m->populated));
	if (!m->populated) {
		error = -ENOMEM;
		goto fail;
	}
	map = map_ram(m);
	if (!map) {
		error = -ENOMEM;
		goto fail;
	}
	m->fixed = map;
	map = memory_flatten(m);
	if (!map) {
		error = -ENOMEM;
		goto fail;
	}
	m->next = map;
	memory_apply(vm);
	return 0;
fail:
	refuse(ram, strerror(-error));
	memory_fini(vm);
	return error;
}

void memory_fini(struct vm *vm)
{
	struct memory *m = &vm->memory;
	struct memory_map *map;

	free(m->fixed);
	free(atomic_load(&m->map));
	free(atomic_load(&m->next));
	while ((map = m->retired)) {
		m->retired = map->older;
		free(map);
	}
	free(m->populated);
	pthread_mutex_destroy(&m->lock);
	if (m->page_bits)
		munmap((void *)m->page_bits, m->size / PAGE_SIZE);
	if (m->host)
		munmap(m->host - GUARD, m->size + 2 * GUARD);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct memory){ .fd = -1 };
}

void memory_populate(struct memory *m, uint64_t offset, uint64_t len)
{
	for (uint64_t at = align_down(offset, MEMORY_POPULATED); at < offset + len; at += MEMORY_POPULATED) {
		uint64_t chunk = at / MEMORY_POPULATED;
		if (atomic_load_explicit(&m->populated[chunk / 64], memory_order_relaxed) & BIT(chunk % 64))
			continue;
		atomic_fetch_or_explicit(&m->populated[chunk / 64], BIT(chunk % 64), memory_order_relaxed);
		madvise(m->host + at, MIN(MEMORY_POPULATED, m->size - at), MADV_POPULATE_WRITE);
	}
}

static int insert(struct vm *vm, const struct memory_region *region)
{
	struct memory *m = &vm->memory;
	struct memory_map *old = m->fixed, *map;
	unsigned at = 0;

	for (unsigned i = 0; i < old->count; i++) {
		const struct memory_region *r = &old->region[i];
		if (region->start < r->start + r->size && r->start < region->start + region->size) {
			log_error("memory '%s' at %#lx overlaps '%s'", region->name, region->start, r->name);
			return -EEXIST;
		}
		at += r->start < region->start;
	}
	map = malloc(sizeof(*map) + (old->count + 1) * sizeof(map->region[0]));
	if (!map)
		return -ENOMEM;
	map->count = old->count + 1;
	memcpy(map->region, old->region, at * sizeof(map->region[0]));
	map->region[at] = *region;
	memcpy(map->region + at + 1, old->region + at, (old->count - at) * sizeof(map->region[0]));
	pthread_mutex_lock(&m->lock);
	m->fixed = map;
	pthread_mutex_unlock(&m->lock);
	free(old);
	return memory_commit(vm);
}

int memory_reserve(struct vm *vm, const void *data, uint64_t size, const char *name, uint64_t *offset)
{
	struct memory *m = &vm->memory;

	*offset = m->ram_size + m->rom_used;
	if (!size || size % PAGE_SIZE) {
		log_error("memory '%s' is not whole pages", name);
		return -EINVAL;
	}
	if (size > m->size - *offset) {
		log_error("no room for '%s' of %lu bytes in the ROM part of memory", name, size);
		return -ENOSPC;
	}
	if (data)
		memcpy(m->host + *offset, data, size);
	m->rom_used += size;
	return 0;
}

int memory_add_rom(struct vm *vm, gpa_t start, const void *data, uint64_t size, const char *name)
{
	struct memory_region region = { .start = start, .size = size, .kind = MEMORY_ROM, .name = name };
	int error;

	if (start % PAGE_SIZE || start + size < start) {
		log_error("memory '%s' at %#lx is not whole pages", name, start);
		return -EINVAL;
	}
	error = memory_reserve(vm, data, size, name, &region.offset);
	if (error)
		return error;
	error = insert(vm, &region);
	if (error)
		vm->memory.rom_used -= size;
	return error;
}

const struct memory_region *memory_find(struct vm *vm, gpa_t gpa)
{
	const struct memory_map *map = atomic_load(&vm->memory.map);
	unsigned low = 0, high = map->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		const struct memory_region *r = &map->region[middle];
		if (gpa < r->start)
			high = middle;
		else if (gpa - r->start >= r->size)
			low = middle + 1;
		else
			return r;
	}
	return NULL;
}

/* Other threads than vCPUs' do not stand still at a safe point, so they say when they look at a map. The order of
 * both counts: who comes after the reclaimer looked finds the new map. */
static bool reader_enters(struct memory *m)
{
	if (vcpu_current())
		return false;
	atomic_fetch_add(&m->readers, 1);
	return true;
}

static void reader_leaves(struct memory *m, bool entered)
{
	if (entered)
		atomic_fetch_sub(&m->readers, 1);
}

/* The longest piece from gpa on, at most len bytes, that lies in one region; NULL when there is none (or it is not
 * RAM, where the guest's memory is to be written). */
static uint8_t *piece(struct vm *vm, gpa_t gpa, uint64_t len, bool write, uint64_t *size)
{
	struct memory *m = &vm->memory;
	bool reader = reader_enters(m);
	const struct memory_region *r = memory_find(vm, gpa);
	uint8_t *host = NULL;

	*size = 0;
	if (r && (!write || r->kind == MEMORY_RAM || r->kind == MEMORY_SHADOW)) {
		*size = MIN(len, r->size - (gpa - r->start));
		host = m->host + (write && r->kind == MEMORY_SHADOW ? r->shadow : r->offset) + (gpa - r->start);
	}
	reader_leaves(m, reader);
	return host;
}

uint8_t *memory_host(struct vm *vm, gpa_t gpa, uint64_t len)
{
	uint64_t size;
	uint8_t *host = piece(vm, gpa, len, false, &size);

	return size < len ? NULL : host;
}

static bool all_there(struct vm *vm, gpa_t gpa, uint64_t len, bool write)
{
	uint64_t size;

	if (len && gpa + (len - 1) < gpa)
		return false;
	for (; len; gpa += size, len -= size)
		if (!piece(vm, gpa, len, write, &size))
			return false;
	return true;
}

/* What a processor reads or writes as one unit, other processors must see as one: rings and flags are of 1 to 8
 * aligned bytes. */
static void copy(void *to, const void *from, uint64_t len)
{
	uintptr_t both = (uintptr_t)to | (uintptr_t)from;

	if (len == 8 && !(both & 7))
		*(volatile uint64_t *)to = *(const volatile uint64_t *)from;
	else if (len == 4 && !(both & 3))
		*(volatile uint32_t *)to = *(const volatile uint32_t *)from;
	else if (len == 2 && !(both & 1))
		*(volatile uint16_t *)to = *(const volatile uint16_t *)from;
	else
		memcpy(to, from, len);
}

int guest_read(struct vm *vm, gpa_t gpa, void *data, uint64_t len)
{
	uint8_t *to = data;
	uint64_t size;

	if (!all_there(vm, gpa, len, false))
		return -EFAULT;
	for (; len; gpa += size, to += size, len -= size) {
		const uint8_t *host = piece(vm, gpa, len, false, &size);
		copy(to, host, size);
	}
	return 0;
}

int guest_write(struct vm *vm, gpa_t gpa, const void *data, uint64_t len)
{
	const uint8_t *from = data;
	gpa_t at = gpa;
	uint64_t left = len, size;

	if (!all_there(vm, gpa, len, true))
		return -EFAULT;
	for (; left; at += size, from += size, left -= size) {
		uint8_t *host = piece(vm, at, left, true, &size);
		if (size >= MEMORY_POPULATED)
			memory_populate(&vm->memory, memory_offset(&vm->memory, host), size);
		copy(host, from, size);
	}
	memory_written(vm, gpa, len);
	return 0;
}

int guest_iov_begin(struct vm *vm, gpa_t gpa, uint64_t len, bool to_guest, struct iovec *iov, unsigned max)
{
	unsigned count = 0;
	uint64_t size;

	if (!all_there(vm, gpa, len, to_guest))
		return -EFAULT;
	for (; len; gpa += size, len -= size) {
		uint8_t *host = piece(vm, gpa, len, to_guest, &size);
		if (count == max)
			return -E2BIG;
		iov[count++] = (struct iovec){ .iov_base = host, .iov_len = size };
	}
	return (int)count;
}

void guest_iov_end(struct vm *vm, gpa_t gpa, uint64_t done, bool to_guest)
{
	if (to_guest)
		memory_written(vm, gpa, done);
}

/* The interpreter may hold decoded code whichever engine runs, since it steps in for all of them; and so may those that were left. */
static void code_changed(struct vm *vm, gpa_t gpa, uint64_t len)
{
	trace(code, "write to code at %#lx, %lu bytes", gpa, len);
	for (unsigned slot = 0; slot < ENGINE_SLOTS; slot++) {
		const struct engine *engine = vm->engines[slot];
		if (engine && engine->code_changed)
			engine->code_changed(vm, gpa, len);
	}
}

void memory_written(struct vm *vm, gpa_t gpa, uint64_t len)
{
	struct memory *m = &vm->memory;
	uint64_t size;

	atomic_thread_fence(memory_order_seq_cst); /* the bytes before the bits: see the top */
	for (; len; gpa += size, len -= size) {
		uint8_t *host = piece(vm, gpa, len, true, &size);
		if (!host)
			return;
		size = MIN(size, PAGE_SIZE - (gpa & ~X86_PAGE_MASK));
		uint64_t page = memory_offset(m, host) / PAGE_SIZE;
		page_bits_set(m, page, PAGE_DIRTY);
		if (page_bits_get(m, page) & (PAGE_CODE | PAGE_TRANSLATED | PAGE_TRACED))
			code_changed(vm, gpa, size);
	}
}

void memory_discard(struct vm *vm, gpa_t gpa, uint64_t len)
{
	struct memory *m = &vm->memory;
	uint64_t size;

	for (; len; gpa += size, len -= size) {
		uint8_t *host = piece(vm, gpa, len, true, &size);
		if (!host) { /* not RAM: on to the next page */
			size = MIN(len, PAGE_SIZE - (gpa & ~X86_PAGE_MASK));
			continue;
		}
		uint64_t at = memory_offset(m, host), start = align_up(at, PAGE_SIZE), end = align_down(at + size, PAGE_SIZE);
		if (start < end && !fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)(end - start)))
			memory_written(vm, gpa + (start - at), end - start);
	}
}
