/* SPDX-License-Identifier: MIT */
/* Lockstep: two machines from the same start, one with the engine in question and one with the interpreter, which must stay the same.
 *
 * With time counted in instructions and no input from outside, a machine is a function of its start. So it needs no log: each of the two has
 * a timer that fires at the same counts, where its processors stand between two instructions, and there the two threads meet. The second
 * to come compares: the processors by their field tables, and the pages that either wrote since. What may differ is named in
 * `excuses`, and counted.
 *
 * An engine that runs whole blocks may be wrong only when it does, so a difference is not sought by single steps: the machines
 * are made again, run to where they were last equal, and meet next after half the distance, until the first count is found at which they
 * differ. What the interpreter ran between the two is printed at last. That the machines can be made again and run the same way is all it takes;
 * saved states would make it faster, not different. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "engine/engine.h"
#include "util/log.h"

#define LISTED 24       /* instructions that a report shows */
#define DIFFERENCES 12  /* and registers or bytes */
#define WAIT_NS 20000000

struct side { /* a device, so that its timer has a lock; a machine's part in the meetings */
	struct device device;
	struct timer timer;
	uint64_t at;             /* the count at which it fires */
	struct lockstep *l;
};

struct lockstep {
	struct vm *vm[2];
	struct side *side[2];
	uint64_t every;
	uint64_t plan_from, plan_to; /* the next meetings are there, then no more: plan_to 0: each `every` */
	pthread_mutex_t lock;
	pthread_cond_t moved;
	unsigned arrived;
	uint64_t meeting, next;      /* how many there were; the count of the next one */
	uint64_t equal_at, different_at;
	bool different, stepping, idle;
	char text[DIFFERENCES][160];
	unsigned texts;
	uint64_t excused, meetings;
	char listed[LISTED][128];    /* a ring of what the interpreter ran */
	uint64_t listed_count;
};

/* --- comparing --- */

__attribute__((format(printf, 2, 3))) static void differ(struct lockstep *l, const char *format, ...)
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

/* What may differ. FIP, FDP and FOP are for x87 exception handlers, and processors differ in which instructions set them; an engine may leave
 * them to the host. */
static bool excused_byte(const struct field *f, size_t at)
{
	return !strcmp(f->name, "xsave") && ((at >= offsetof(struct x86_fxsave, fop) && at < offsetof(struct x86_fxsave, mxcsr)));
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
			while (at < f->size && (x[at] == y[at] || excused_byte(f, at)))
				at++;
			if (at == f->size) {
				l->excused++;
				continue;
			}
			if (f->type == FIELD_TYPE_BYTES)
				differ(l, "%s%s, byte %zu: %016lx, interp %016lx", where, f->name, at & ~(size_t)7,
				       element(x + (at & ~(size_t)7), 8), element(y + (at & ~(size_t)7), 8));
			else if (!strcmp(f->name, "gpr") && n < ARRAY_SIZE(gpr_names))
				differ(l, "%s%s: %016lx, interp %016lx", where, gpr_names[n], element(x, f->size), element(y, f->size));
			else
				differ(l, f->count > 1 ? "%s%s[%u]: %lx, interp %lx" : "%s%s%.0u: %lx, interp %lx", where, f->name, n,
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
			differ(l, "memory %lx: %016lx, interp %016lx", (unsigned long)(page * X86_PAGE_SIZE + at), x, y);
	}
}

/* What either machine wrote since the last meeting; with `all` also what an engine wrote without saying so. */
static void compare_memory(struct lockstep *l, bool all)
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

static void compare_processors(struct lockstep *l)
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
			differ(l, "%sinstructions: %lu, interp %lu", where, a->core.icount, b->core.icount);
	}
}

/* --- meetings --- */

static void stop(struct lockstep *l)
{
	vm_finish(l->vm[0], VM_STOPPED, 0);
	vm_finish(l->vm[1], VM_STOPPED, 0);
}

static void plan_next(struct lockstep *l)
{
	uint64_t now = l->next;

	if (!l->plan_to)
		l->next = now + l->every;
	else if (now < l->plan_from)
		l->next = l->plan_from;
	else if (now < l->plan_to)
		l->next = l->plan_to;
	else
		stop(l);
}

/* Both are halted, and no timer is due: nothing but an input could wake them, and there is none. */
static bool asleep(struct vm *vm)
{
	for (unsigned c = 0; c < vm->config.cpus; c++)
		if (vm->vcpu[c]->kicked || vcpu_runnable(vm->vcpu[c]))
			return false;
	return vm->clock.next == TIMER_OFF;
}

static void meet(struct lockstep *l)
{
	l->meetings++;
	compare_processors(l);
	compare_memory(l, false);
	if (l->different) {
		l->different_at = l->next;
		stop(l);
		return;
	}
	l->equal_at = l->next;
	if (asleep(l->vm[0])) {
		l->idle = true;
		stop(l);
	}
	plan_next(l);
}

/* The other machine went no further than where it ended; or it was stopped from outside. */
static void other_ended(struct lockstep *l, unsigned me)
{
	static const char *const ends[] = {
		[VM_POWERED_OFF] = "powered off", [VM_DEBUG_EXIT] = "wrote the debug-exit port", [VM_CRASHED] = "crashed: triple fault",
		[VM_KILLED] = "was killed", [VM_STOPPED] = "was stopped",
	};
	struct vm *other = l->vm[!me];
	int end = other->end;

	if (end != VM_STOPPED && !l->different) {
		differ(l, "the machine of %s %s%s%s, the other goes on", other->engine->name, ends[end], end == VM_KILLED ? ": " : "",
		       end == VM_KILLED ? other->end_reason : "");
		l->different_at = l->next;
	}
	vm_finish(l->vm[me], VM_STOPPED, other->end_value);
}

static void wait_a_while(struct lockstep *l)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += WAIT_NS;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&l->moved, &l->lock, &t);
}

static void arm(struct side *s, uint64_t at)
{
	s->at = at;
	timer_arm(&s->timer, at);
}

/* For the report: the instruction that the interpreter is about to run. With several processors it would take more to tell whose turn it is. */
static void list(struct lockstep *l)
{
	struct vcpu *vcpu = l->vm[1]->vcpu[0];
	uint64_t rip = vcpu->core.cpu.gpr[X86_GPR_RIP];
	uint8_t bytes[15];
	char text[100];
	unsigned got = 0;

	if (l->vm[1]->config.cpus > 1)
		return;
	vcpu_state(vcpu, X86_ALL_GROUPS);
	while (got < sizeof(bytes) && x86_peek(&vcpu->core, rip + vcpu->core.cpu.seg[SEG_CS].base + got, bytes + got, 1))
		got++;
	x86_disassemble(text, sizeof(text), bytes, got, vcpu->core.mode, rip);
	snprintf(l->listed[l->listed_count++ % LISTED], sizeof(l->listed[0]), "%016lx  %s", rip, text);
}

static void arrive(struct device *device, void *arg)
{
	struct side *s = arg;
	struct lockstep *l = s->l;
	unsigned me = s == l->side[1];

	pthread_mutex_lock(&l->lock);
	if (l->stepping && me && s->at < l->plan_to) {
		if (s->at >= l->plan_from)
			list(l);
		if (s->at != l->plan_from || !l->plan_from) { /* there both meet */
			arm(s, s->at + 1);
			pthread_mutex_unlock(&l->lock);
			return;
		}
	}
	uint64_t meeting = l->meeting;
	if (++l->arrived == 2) {
		meet(l);
		l->arrived = 0;
		l->meeting++;
		pthread_cond_broadcast(&l->moved);
	}
	while (l->meeting == meeting && !l->vm[me]->end) {
		if (l->vm[!me]->end)
			other_ended(l, me);
		else
			wait_a_while(l);
	}
	if (!l->vm[me]->end)
		arm(s, l->stepping && me ? MIN(l->next, s->at + 1) : l->next);
	pthread_mutex_unlock(&l->lock);
}

static const struct device_class verify_class = {
	.name = "verify", .summary = "where two machines meet", .size = sizeof(struct side), .version = 1,
};
static const struct device_place verify_place = { .class = &verify_class, .name = "verify", .irq = -1 };

static int join(struct lockstep *l)
{
	for (unsigned n = 0; n < 2; n++) {
		l->side[n] = (struct side *)device_create(l->vm[n], &verify_place);
		if (!l->side[n])
			return EXIT_HOST;
		l->side[n]->l = l;
		timer_init(&l->side[n]->timer, &l->side[n]->device, "verify", arrive, l->side[n]);
		arm(l->side[n], l->stepping && n && !l->plan_from ? 1 : l->next);
	}
	return EXIT_OK;
}

/* One run of both machines, to their ends, or to a difference, or to the end of the plan. */
static int run_both(struct lockstep *l, const struct verify_maker *maker, bool quiet, enum vm_end *end, uint64_t *value)
{
	int status = maker->make(maker->arg, l->vm, quiet);

	l->different = false;
	l->arrived = l->texts = 0;
	l->listed_count = 0;
	l->next = l->plan_to ? (l->plan_from ? l->plan_from : l->plan_to) : l->every;
	if (!status)
		status = join(l);
	if (!status && (vm_start(l->vm[0]) || vm_start(l->vm[1])))
		status = EXIT_HOST;
	if (!status) {
		*end = vm_wait(l->vm[0]);
		enum vm_end other = vm_wait(l->vm[1]);
		if (!l->different && !l->plan_to && *end == other && *end != VM_STOPPED) {
			compare_processors(l);
			compare_memory(l, true);
			l->different_at = l->next;
		}
		*value = l->vm[0]->end_value;
	}
	return status;
}

/* --- finding the place --- */

/* The earliest count at which they differ: when it returns, they are equal at l->equal_at, and l->text says how they differ one instruction
 * later, or as few as the engine shows. */
static int narrow(struct lockstep *l, const struct verify_maker *maker)
{
	uint64_t low = l->equal_at, high = l->different_at, value;
	enum vm_end end;

	for (bool last = false; !last;) {
		last = high - low <= 1;
		l->plan_from = low;
		l->plan_to = last ? high : low + (high - low) / 2;
		l->stepping = last;
		maker->unmake(maker->arg);
		int status = run_both(l, maker, true, &end, &value);
		if (status)
			return status;
		if (l->different ? l->different_at <= low : last) {
			log_warn("the difference does not come again: something besides the engine changes from run to run");
			return EXIT_OK;
		}
		*(l->different ? &high : &low) = l->plan_to;
	}
	return EXIT_OK;
}

static void report(const struct lockstep *l)
{
	log_error("%s and interp differ after %lu instructions, and are equal after %lu", l->vm[0]->engine->name, l->plan_to, l->plan_from);
	for (unsigned n = 0; n < l->texts; n++)
		log_info("  %s", l->text[n]);
	if (l->texts == DIFFERENCES)
		log_info("  and more");
	if (l->listed_count)
		log_info("what interp ran in between:");
	for (uint64_t n = l->listed_count > LISTED ? l->listed_count - LISTED : 0; n < l->listed_count; n++)
		log_info("  %s", l->listed[n % LISTED]);
}

int verify_run(const struct verify_maker *maker, uint64_t every, enum vm_end *end, uint64_t *end_value)
{
	struct lockstep *l = calloc(1, sizeof(*l));
	int status;

	if (!l)
		return EXIT_HOST;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->moved, NULL);
	l->every = every;
	status = run_both(l, maker, false, end, end_value);
	if (!status && l->different) {
		char first[sizeof(l->text[0])];
		memcpy(first, l->text[0], sizeof(first));
		log_info("different after %lu instructions (%s); looking for the first place", l->different_at, first);
		status = narrow(l, maker);
		if (!status && l->different)
			report(l);
		*end = VM_KILLED;
	} else if (!status) {
		log_info("%s and interp were equal at each of %lu meetings, one in %lu instructions; excused: %lu%s", l->vm[0]->engine->name,
			 l->meetings, every, l->excused, l->idle ? "; both wait for input now, of which there is none" : "");
	}
	pthread_cond_destroy(&l->moved);
	pthread_mutex_destroy(&l->lock);
	free(l);
	return status;
}
