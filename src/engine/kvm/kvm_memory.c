/* SPDX-License-Identifier: MIT */
/* Guest memory as KVM's slots: a slot for each region of the map, all in a view of the memfd of its own. What stays where it was when the
 * map changes keeps its slot, since making one costs the kernel a walk over all it derived from memory. */
#include "engine/kvm/kvm.h"
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include "util/log.h"

static int tell(struct kvm_vm *k, const struct kvm_slot *s, uint64_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = (uint32_t)(s - k->slot), .guest_phys_addr = s->start, .memory_size = size,
		.userspace_addr = (uintptr_t)(k->view + s->offset),
		.flags = (s->readonly ? KVM_MEM_READONLY : 0) | (s->logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
	};

	return kvm_call(k->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static bool same(const struct kvm_slot *s, const struct memory_region *r)
{
	return s->size && s->start == r->start && s->size == r->size && s->offset == r->offset && s->readonly == (r->kind != MEMORY_RAM);
}

static bool still_there(const struct kvm_slot *s, const struct memory_map *map)
{
	for (unsigned i = 0; i < map->count; i++)
		if (same(s, &map->region[i]))
			return true;
	return false;
}

static int drop_stale(struct kvm_vm *k, const struct memory_map *map)
{
	int error = 0;

	for (struct kvm_slot *s = k->slot; s < k->slot + KVM_REGIONS && error >= 0; s++) {
		if (!s->size || still_there(s, map))
			continue;
		error = tell(k, s, 0);
		s->size = 0;
	}
	return error;
}

static int add(struct kvm_vm *k, const struct memory_region *r)
{
	struct kvm_slot *s, *free = NULL;
	int error;

	for (s = k->slot; s < k->slot + KVM_REGIONS; s++) {
		if (same(s, r))
			return 0;
		if (!s->size && !free)
			free = s;
	}
	if (!free)
		return -E2BIG;
	*free = (struct kvm_slot){ r->start, r->size, r->offset, r->kind != MEMORY_RAM, k->logging && r->kind == MEMORY_RAM };
	error = tell(k, free, r->size);
	if (error < 0)
		free->size = 0;
	return error;
}

int kvm_memory_changed(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);
	const struct memory_map *map = vm->memory.map;
	int error;

	if (!k || !map)
		return 0;
	error = drop_stale(k, map);
	for (unsigned i = 0; i < map->count && error >= 0; i++)
		error = add(k, &map->region[i]);
	return MIN(error, 0);
}

/* Asking for the first time starts the log: until then every page may have been written. */
static int start_log(struct kvm_vm *k)
{
	int error = 0;

	k->logging = true;
	for (struct kvm_slot *s = k->slot; s < k->slot + KVM_REGIONS && error >= 0; s++) {
		if (!s->size || s->readonly)
			continue;
		s->logged = true;
		error = tell(k, s, s->size);
	}
	return MIN(error, 0);
}

int kvm_dirty_log(struct vm *vm, const struct memory_region *r, uint64_t *bitmap)
{
	struct kvm_vm *k = kvm_of(vm);
	uint64_t words = (r->size / X86_PAGE_SIZE + 63) / 64;

	if (!k->logging) {
		int error = start_log(k);
		memset(bitmap, 0xff, words * sizeof(*bitmap));
		return error;
	}
	for (struct kvm_slot *s = k->slot; s < k->slot + KVM_REGIONS; s++) {
		struct kvm_dirty_log log = { .slot = (uint32_t)(s - k->slot), .dirty_bitmap = bitmap };
		if (same(s, r) && s->logged)
			return MIN(kvm_call(k->fd, KVM_GET_DIRTY_LOG, &log), 0);
	}
	memset(bitmap, 0, words * sizeof(*bitmap));
	return r->kind == MEMORY_RAM ? -ENOENT : 0;
}

/* When a slot goes, the kernel drops all that it derived from memory. One comes and goes where nothing else is; one at a time. */
int kvm_forget_tables(struct vm *vm)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct kvm_vm *k = kvm_of(vm);
	struct kvm_userspace_memory_region region = {
		.slot = KVM_REGIONS, .guest_phys_addr = BIT(39) - X86_PAGE_SIZE, .memory_size = X86_PAGE_SIZE, .userspace_addr = (uintptr_t)k->view,
	};
	int error;

	pthread_mutex_lock(&lock);
	error = kvm_call(k->fd, KVM_SET_USER_MEMORY_REGION, &region);
	region.memory_size = 0;
	if (error >= 0)
		error = kvm_call(k->fd, KVM_SET_USER_MEMORY_REGION, &region);
	pthread_mutex_unlock(&lock);
	return error;
}

int kvm_memory_init(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);

	k->view = mmap(NULL, vm->memory.size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->memory.fd, 0);
	if (k->view == MAP_FAILED) {
		k->view = NULL;
		return -errno;
	}
	return kvm_memory_changed(vm);
}

void kvm_memory_fini(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);

	if (k->view)
		munmap(k->view, vm->memory.size);
}
