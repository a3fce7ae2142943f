/* SPDX-License-Identifier: MIT */
/* Pages that code was derived from: see code_pages.h. */
#include "engine/code_pages.h"
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include "x86/exec.h"

int code_pages_init(struct code_pages *pages, struct vm *vm, const struct code_pages_model *model)
{
	void *mask;

	pthread_mutex_init(&pages->lock, NULL);
	pages->model = model;
	pages->vm = vm;
	pages->size = vm->memory.size / X86_PAGE_SIZE * sizeof(*pages->mask);
	mask = mmap(NULL, pages->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	pages->mask = mask == MAP_FAILED ? NULL : mask;
	return pages->mask ? 0 : -ENOMEM;
}

void code_pages_fini(struct code_pages *pages)
{
	if (!pages->model)
		return;
	if (pages->mask)
		munmap((void *)pages->mask, pages->size);
	pthread_mutex_destroy(&pages->lock);
}

void code_holder_init(struct code_holder *holder, struct code_pages *pages, struct vcpu *vcpu)
{
	pthread_mutex_init(&holder->lock, NULL);
	holder->vcpu = vcpu;
	holder->pages = pages;
}

void code_holder_fini(struct code_holder *holder)
{
	if (holder->pages)
		pthread_mutex_destroy(&holder->lock);
}

/* --- taking and giving up --- */

static uint64_t bit_of(const struct code_holder *holder)
{
	return BIT(holder->vcpu->index & 63);
}

/* Number of the page in the memfd; false where there is no memory. */
static bool number_of(const struct code_holder *holder, gpa_t page, uint64_t *number)
{
	const struct memory_region *r = memory_find(holder->vcpu->vm, page);

	if (r)
		*number = (r->offset + (page - r->start)) >> X86_PAGE_SHIFT;
	return r;
}

/* Rights to write that were given before the page held code would bypass the bit. With several processors they all stand still while
 * it is set. */
static void watch(struct code_holder *holder, uint64_t number)
{
	const struct code_pages_model *model = holder->pages->model;
	struct vm *vm = holder->vcpu->vm;

	if (model->standing)
		model->standing(holder->vcpu);
	if (vm->config.cpus > 1)
		vcpu_stop_all(vm);
	page_bits_set(&vm->memory, number, (uint8_t)model->bit);
	for (unsigned n = 0; n < vm->config.cpus; n++)
		model->protect(vm->vcpu[n], number);
	if (vm->config.cpus > 1)
		vcpu_resume_all(vm);
	if (holder->vcpu->changed) /* the machine was reset meanwhile */
		longjmp(*holder->vcpu->core.unwind, UNWIND_RESTART);
}

bool code_holder_add(struct code_holder *holder, gpa_t page)
{
	struct code_pages *pages = holder->pages;
	struct memory *m = &pages->vm->memory;
	uint64_t number, before;
	bool watched;

	if (!number_of(holder, page, &number))
		return false;
	if (code_holder_has(holder, page))
		return false;
	pthread_mutex_lock(&pages->lock);
	before = atomic_fetch_or(&pages->mask[number], bit_of(holder));
	watched = page_bits_get(m, number) & pages->model->bit;
	pthread_mutex_unlock(&pages->lock);
	if (!watched)
		watch(holder, number);
	return !watched || !(before & bit_of(holder));
}

bool code_holder_has(const struct code_holder *holder, gpa_t page)
{
	const struct code_pages *pages = holder->pages;
	uint64_t number;

	return number_of(holder, page, &number) && (pages->mask[number] & bit_of(holder)) &&
	       (page_bits_get(&pages->vm->memory, number) & pages->model->bit);
}

void code_holder_remove(struct code_holder *holder, gpa_t page)
{
	struct code_pages *pages = holder->pages;
	uint64_t number;

	if (pages->vm->config.cpus > 64 || !number_of(holder, page, &number) || !(pages->mask[number] & bit_of(holder)))
		return; /* where several share a bit, it stays */
	pthread_mutex_lock(&pages->lock);
	if (!(atomic_fetch_and(&pages->mask[number], ~bit_of(holder)) & ~bit_of(holder)))
		page_bits_clear(&pages->vm->memory, number, (uint8_t)pages->model->bit);
	pthread_mutex_unlock(&pages->lock);
}

/* --- what others wrote --- */

void code_holder_settle(struct code_holder *holder)
{
	const struct vm *vm = holder->vcpu->vm;

	atomic_thread_fence(memory_order_acquire); /* the bytes first */
	for (unsigned n = 0; vm->config.cpus > 1 && n < vm->config.cpus; n++)
		while (vm->vcpu[n] && unlikely(__atomic_load_n(&vm->vcpu[n]->core.storing, __ATOMIC_ACQUIRE)))
			sched_yield();
}

void code_holder_catch_up(struct code_holder *holder)
{
	const struct code_pages_model *model = holder->pages->model;

	if (!holder->has_changes)
		return;
	pthread_mutex_lock(&holder->lock);
	if (holder->changes > CODE_CHANGES || (holder->moved && !model->drop_moved))
		model->drop_all(holder->vcpu);
	else if (holder->moved)
		model->drop_moved(holder->vcpu);
	if (holder->changes <= CODE_CHANGES)
		for (unsigned n = 0; n < holder->changes; n++)
			model->drop(holder->vcpu, holder->changed[n].gpa, holder->changed[n].len);
	holder->changes = 0;
	holder->moved = false;
	holder->has_changes = false;
	pthread_mutex_unlock(&holder->lock);
}

/* Repeated writes to a page are one entry. */
static void note(struct code_holder *holder, gpa_t gpa, uint64_t len)
{
	unsigned last = holder->changes - 1;

	if (holder->changes && holder->changes <= CODE_CHANGES &&
	    align_down(holder->changed[last].gpa, X86_PAGE_SIZE) == align_down(gpa, X86_PAGE_SIZE)) {
		uint64_t end = MAX(holder->changed[last].gpa + holder->changed[last].len, gpa + len);
		holder->changed[last].gpa = MIN(holder->changed[last].gpa, gpa);
		holder->changed[last].len = end - holder->changed[last].gpa;
		return;
	}
	if (holder->changes < CODE_CHANGES) {
		holder->changed[holder->changes].gpa = gpa;
		holder->changed[holder->changes].len = len;
	}
	holder->changes += holder->changes <= CODE_CHANGES;
}

enum post { POST_BYTES, POST_MOVED, POST_ALL };

static void post(struct code_holder *holder, enum post what, gpa_t gpa, uint64_t len)
{
	pthread_mutex_lock(&holder->lock);
	if (what == POST_BYTES)
		note(holder, gpa, len);
	else if (what == POST_MOVED)
		holder->moved = true;
	else
		holder->changes = CODE_CHANGES + 1;
	holder->has_changes = true;
	pthread_mutex_unlock(&holder->lock);
	holder->pages->model->kick(holder->vcpu);
}

static struct code_holder *holder_of(const struct code_pages *pages, unsigned n)
{
	struct vcpu *vcpu = pages->vm->vcpu ? pages->vm->vcpu[n] : NULL;

	return vcpu ? pages->model->holder(vcpu) : NULL;
}

void code_pages_changed(struct code_pages *pages, gpa_t gpa, uint64_t len)
{
	const uint8_t *host = memory_host(pages->vm, gpa, 1);
	uint64_t mask = host ? pages->mask[memory_offset(&pages->vm->memory, host) >> X86_PAGE_SHIFT] : ~0ULL;

	for (unsigned n = 0; n < pages->vm->config.cpus; n++) {
		struct code_holder *holder = holder_of(pages, n);
		if (!holder || !(mask & BIT(n & 63) || holder->moved))
			continue;
		if (holder->vcpu == vcpu_current())
			pages->model->drop(holder->vcpu, gpa, len);
		if (holder->moved) /* what was written may be what it holds at another address, or under what is read at this one */
			post(holder, POST_ALL, gpa, len);
		else if (holder->vcpu != vcpu_current())
			post(holder, POST_BYTES, gpa, len);
	}
}

static void post_to_all(struct code_pages *pages, enum post what)
{
	for (unsigned n = 0; n < pages->vm->config.cpus; n++) {
		struct code_holder *holder = holder_of(pages, n);
		if (holder)
			post(holder, what, 0, 0);
	}
}

void code_pages_changed_all(struct code_pages *pages)
{
	post_to_all(pages, POST_ALL);
}

void code_pages_moved(struct code_pages *pages)
{
	post_to_all(pages, POST_MOVED);
}
