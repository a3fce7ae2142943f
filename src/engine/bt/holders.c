/* SPDX-License-Identifier: MIT */
/* Who holds code translated from a page: the twin of interp/holders.c, with a page bit of its own, since the interpreter steps in
 * and holds code too. */
#include <errno.h>
#include <setjmp.h>
#include <sys/mman.h>
#include "engine/bt/bt.h"

int bt_holders_init(struct bt_vm *shared, struct vm *vm)
{
	pthread_mutex_init(&shared->lock, NULL);
	shared->holders_size = vm->memory.size / X86_PAGE_SIZE * sizeof(*shared->holders);
	shared->holders = mmap(NULL, shared->holders_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (shared->holders == MAP_FAILED) {
		shared->holders = NULL;
		return -ENOMEM;
	}
	return 0;
}

void bt_holders_fini(struct bt_vm *shared)
{
	if (shared->holders)
		munmap((void *)shared->holders, shared->holders_size);
	pthread_mutex_destroy(&shared->lock);
}

static bool number_of(struct vm *vm, gpa_t page, uint64_t *number)
{
	const struct memory_region *r = memory_find(vm, page);

	if (r)
		*number = (r->offset + (page - r->start)) >> X86_PAGE_SHIFT;
	return r;
}

static uint64_t bit_of(const struct bt *bt)
{
	return BIT(bt->vcpu->index & 63);
}

/* No processor may go on writing the page through an entry that it has. */
static void watch(struct bt *bt, uint64_t number)
{
	struct vm *vm = bt->vcpu->vm;

	bt_fp_leave(bt); /* at a safe point everybody may look at the state */
	if (vm->config.cpus > 1)
		vcpu_stop_all(vm);
	page_bits_set(&vm->memory, number, PAGE_TRANSLATED);
	for (unsigned n = 0; n < vm->config.cpus; n++) {
		x86_tlb_drop_writes(&vm->vcpu[n]->core);
		if (bt_of(vm->vcpu[n]))
			bt_table_protect(bt_of(vm->vcpu[n]), number);
	}
	if (vm->config.cpus > 1)
		vcpu_resume_all(vm);
	if (bt->vcpu->changed) /* the machine was reset meanwhile */
		longjmp(*bt->vcpu->core.unwind, UNWIND_RESTART);
}

void bt_holders_add(struct bt *bt, gpa_t page)
{
	struct vm *vm = bt->vcpu->vm;
	struct bt_vm *shared = bt->shared;
	uint64_t number;
	bool watched;

	if (!number_of(vm, page, &number))
		return;
	if ((shared->holders[number] & bit_of(bt)) && (page_bits_get(&vm->memory, number) & PAGE_TRANSLATED))
		return;
	pthread_mutex_lock(&shared->lock);
	atomic_fetch_or(&shared->holders[number], bit_of(bt));
	watched = page_bits_get(&vm->memory, number) & PAGE_TRANSLATED;
	pthread_mutex_unlock(&shared->lock);
	if (!watched)
		watch(bt, number);
}

void bt_holders_remove(struct bt *bt, gpa_t page)
{
	struct vm *vm = bt->vcpu->vm;
	struct bt_vm *shared = bt->shared;
	uint64_t number;

	if (!number_of(vm, page, &number) || !(shared->holders[number] & bit_of(bt)))
		return;
	pthread_mutex_lock(&shared->lock);
	if (!(atomic_fetch_and(&shared->holders[number], ~bit_of(bt)) & ~bit_of(bt)))
		page_bits_clear(&vm->memory, number, PAGE_TRANSLATED);
	pthread_mutex_unlock(&shared->lock);
}

bool bt_holders_has(const struct bt *bt, const uint8_t *host)
{
	return !host || (bt->shared->holders[memory_offset(&bt->vcpu->vm->memory, host) >> X86_PAGE_SHIFT] & bit_of(bt));
}
