/* SPDX-License-Identifier: MIT */
/* Who holds code decoded from a page: a bit a processor, for each page of the memfd.
 *
 * PAGE_CODE makes every write to a page slow, so it must go when the last trace of the page goes, and a write must disturb only the
 * processors that hold some. Taking and giving up are under one lock: between "nobody holds it" and the clearing of PAGE_CODE
 * no other processor can become a holder. Processors 64 and up share the bits of 0 and up: such a machine never clears. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "engine/interp/trace.h"

int holders_get(struct interp *in)
{
	struct vm *vm = in->vcpu->vm;
	struct interp *other = NULL;

	for (unsigned n = 0; n < vm->config.cpus && !other; n++)
		other = vm->vcpu[n] && vm->vcpu[n] != in->vcpu ? vm->vcpu[n]->engine_data[INTERP_SLOT] : NULL;
	if (other) {
		in->holders = other->holders;
		in->holders->users++;
		return 0;
	}
	struct holders *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->size = vm->memory.size / X86_PAGE_SIZE * sizeof(*h->mask);
	h->mask = mmap(NULL, h->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (h->mask == MAP_FAILED) {
		free(h);
		return -ENOMEM;
	}
	pthread_mutex_init(&h->lock, NULL);
	h->users = 1;
	in->holders = h;
	return 0;
}

void holders_put(struct interp *in)
{
	struct holders *h = in->holders;

	if (!h || --h->users)
		return;
	munmap(h->mask, h->size);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static uint64_t bit_of(const struct interp *in)
{
	return BIT(in->vcpu->index & 63);
}

/* Number of the page in the memfd; false where there is no memory. */
static bool number_of(struct vm *vm, gpa_t page, uint64_t *number)
{
	const struct memory_region *r = memory_find(vm, page);

	if (r)
		*number = (r->offset + (page - r->start)) >> X86_PAGE_SHIFT;
	return r;
}

/* Write entries of a TLB that was filled before the page held code would bypass the tracing. With several processors they all
 * stand still while the bit is set. */
static void watch(struct interp *in, uint64_t number)
{
	struct vm *vm = in->vcpu->vm;

	if (vm->config.cpus > 1)
		vcpu_stop_all(vm);
	page_bits_set(&vm->memory, number, PAGE_CODE);
	for (unsigned n = 0; n < vm->config.cpus; n++)
		x86_tlb_flush_writes(&vm->vcpu[n]->core);
	if (vm->config.cpus > 1)
		vcpu_resume_all(vm);
	if (in->vcpu->changed) /* the machine was reset meanwhile */
		longjmp(*in->vcpu->core.unwind, UNWIND_RESTART);
}

bool holders_add(struct interp *in, gpa_t page)
{
	struct vm *vm = in->vcpu->vm;
	struct holders *h = in->holders;
	uint64_t number, before;
	bool watched;

	if (!number_of(vm, page, &number))
		return false;
	if ((h->mask[number] & bit_of(in)) && (page_bits_get(&vm->memory, number) & PAGE_CODE))
		return false;
	pthread_mutex_lock(&h->lock);
	before = atomic_fetch_or(&h->mask[number], bit_of(in));
	watched = page_bits_get(&vm->memory, number) & PAGE_CODE;
	pthread_mutex_unlock(&h->lock);
	if (!watched)
		watch(in, number);
	return !watched || !(before & bit_of(in));
}

static void give_up(struct interp *in, uint64_t number)
{
	struct vm *vm = in->vcpu->vm;
	struct holders *h = in->holders;

	if (vm->config.cpus > 64 || !(h->mask[number] & bit_of(in)))
		return;
	pthread_mutex_lock(&h->lock);
	if (!(atomic_fetch_and(&h->mask[number], ~bit_of(in)) & ~bit_of(in)))
		page_bits_clear(&vm->memory, number, PAGE_CODE);
	pthread_mutex_unlock(&h->lock);
}

void holders_remove(struct interp *in, gpa_t page)
{
	uint64_t number;

	if (number_of(in->vcpu->vm, page, &number))
		give_up(in, number);
}

bool holders_has(const struct interp *in, const uint8_t *host)
{
	const struct memory *m = &in->vcpu->vm->memory;

	return !host || (in->holders->mask[memory_offset(m, host) >> X86_PAGE_SHIFT] & bit_of(in));
}
