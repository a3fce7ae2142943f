/* SPDX-License-Identifier: MIT */
/* Lockstep: what is compared where two machines meet, and what may differ. */
#include <stdarg.h>
#include <string.h>
#include "cmd/lockstep.h"

void lockstep_differ(struct lockstep *l, const char *format, ...)
{
	va_list args;

	l->different = true;
	if (l->texts == DIFFERENCES)
		return;
	va_start(args, format);
	vsnprintf(l->text[l->texts++], sizeof(l->text[0]), format, args);
	va_end(args);
}

static const char *const gpr_names[X86_GPR_SLOTS] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9",
						      "r10", "r11", "r12", "r13", "r14", "r15", "zero", "rip" };

static uint64_t element(const void *at, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, at, MIN(size, sizeof(value)));
	return value;
}

static void compare_fields(struct lockstep *l, const char *where, const struct field *f, const void *a, const void *b)
{
	for (; f->type != FIELD_TYPE_END; f++) {
		for (unsigned n = 0; n < f->count; n++) {
			const uint8_t *x = (const uint8_t *)a + f->offset + n * f->size, *y = (const uint8_t *)b + f->offset + n * f->size;
			char name[64];
			if (f->type == FIELD_TYPE_STRUCT) {
				snprintf(name, sizeof(name), "%s%s[%u].", where, f->name, n);
				compare_fields(l, name, f->fields, x, y);
				continue;
			}
			if (!memcmp(x, y, f->size))
				continue;
			size_t at = 0;
			while (x[at] == y[at])
				at++;
			if (f->type == FIELD_TYPE_BYTES)
				lockstep_differ(l, "%s%s, byte %zu: %016lx, interp %016lx", where, f->name, at & ~(size_t)7,
				       element(x + (at & ~(size_t)7), 8), element(y + (at & ~(size_t)7), 8));
			else if (!strcmp(f->name, "gpr") && n < ARRAY_SIZE(gpr_names))
				lockstep_differ(l, "%s%s: %016lx, interp %016lx", where, gpr_names[n], element(x, f->size), element(y, f->size));
			else
				lockstep_differ(l, f->count > 1 ? "%s%s[%u]: %lx, interp %lx" : "%s%s%.0u: %lx, interp %lx", where, f->name, n,
				       element(x, f->size), element(y, f->size));
		}
	}
}

/* An engine that keeps a translation longer than the other does not set the accessed bit again that the guest cleared. It shows in words of page
 * tables, which look like any other memory: present, and different in bit 5 only. */
static bool only_accessed(uint64_t a, uint64_t b)
{
	return (a ^ b) == PTE_A && (a & PTE_P);
}

static void compare_page(struct lockstep *l, uint64_t page)
{
	const uint8_t *a = l->vm[0]->memory.host + page * X86_PAGE_SIZE, *b = l->vm[1]->memory.host + page * X86_PAGE_SIZE;

	if (!memcmp(a, b, X86_PAGE_SIZE))
		return;
	for (unsigned at = 0; at < X86_PAGE_SIZE; at += 8) {
		uint64_t x = element(a + at, 8), y = element(b + at, 8);
		if (x == y)
			continue;
		if (only_accessed(x, y))
			l->excused++;
		else
			lockstep_differ(l, "memory %lx: %016lx, interp %016lx", (unsigned long)(page * X86_PAGE_SIZE + at), x, y);
	}
}

/* What either machine wrote since the last meeting; with `all` also what an engine wrote without saying so. */
void lockstep_compare_memory(struct lockstep *l, bool all)
{
	struct memory *a = &l->vm[0]->memory, *b = &l->vm[1]->memory;

	for (uint64_t page = 0; page < a->size / X86_PAGE_SIZE; page++) {
		if (!all && !((page_bits_get(a, page) | page_bits_get(b, page)) & PAGE_DIRTY))
			continue;
		compare_page(l, page);
		page_bits_clear(a, page, PAGE_DIRTY);
		page_bits_clear(b, page, PAGE_DIRTY);
	}
	for (unsigned n = 0; n < 2; n++)
		for (unsigned c = 0; c < l->vm[n]->config.cpus; c++)
			x86_tlb_flush_writes(&l->vm[n]->vcpu[c]->core); /* so that the next write marks its page again */
}

void lockstep_compare_processors(struct lockstep *l)
{
	for (unsigned c = 0; c < l->vm[0]->config.cpus; c++) {
		struct vcpu *a = l->vm[0]->vcpu[c], *b = l->vm[1]->vcpu[c];
		char where[16] = "";
		if (l->vm[0]->config.cpus > 1)
			snprintf(where, sizeof(where), "cpu%u ", c);
		vcpu_state(a, X86_ALL_GROUPS);
		vcpu_state(b, X86_ALL_GROUPS);
		compare_fields(l, where, x86_cpu_fields, &a->core.cpu, &b->core.cpu);
		if (a->core.icount != b->core.icount)
			lockstep_differ(l, "%sinstructions: %lu, interp %lu", where, a->core.icount, b->core.icount);
	}
}
