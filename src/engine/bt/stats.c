/* SPDX-License-Identifier: MIT */
/* The translator's counters: what --stats prints of it.
 *
 * Where the time goes is told by sampling: with --stats a thread looks, 500 times a second, at what each processor says that it is doing
 * (bt->phase, a store at each change), and gives the time since it last looked to that. So the phases sum up to the time that passed, processors that
 * the host does not let run included. */
#include <signal.h>
#include <time.h>
#include "engine/bt/bt.h"
#include "util/signals.h"

#define PERIOD_NS 2000000

/* --- where the time goes --- */

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void look(struct bt *bt, uint64_t passed)
{
	unsigned phase = *(volatile uint8_t *)&bt->phase;

	if (phase == BT_OUTSIDE && *(volatile uint8_t *)&bt->vcpu->core.cpu.activity != X86_RUNNING)
		phase = BT_HALTED;
	bt->stat.ns[phase] += passed;
}

static void *sample(void *arg)
{
	struct bt_sampler *s = arg;
	const struct timespec period = { 0, PERIOD_NS };
	uint64_t last = now();

	pthread_setname_np(pthread_self(), "bt-sampler");
	while (!s->quit) {
		nanosleep(&period, NULL);
		uint64_t at = now();
		pthread_mutex_lock(&s->lock);
		for (unsigned n = 0; n < BT_CPUS_MAX; n++)
			if (s->cpu[n])
				look(s->cpu[n], at - last);
		pthread_mutex_unlock(&s->lock);
		last = at;
	}
	return NULL;
}

void bt_sampler_start(struct bt_sampler *s)
{
	sigset_t all, old;

	pthread_mutex_init(&s->lock, NULL);
	signals_of_others(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	s->running = !pthread_create(&s->thread, NULL, sample, s); /* without it there are no such rows */
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void bt_sampler_stop(struct bt_sampler *s)
{
	if (!s->running)
		return;
	s->quit = true;
	pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->lock);
	s->running = false;
}

void bt_sampler_watch(struct bt_sampler *s, unsigned index, struct bt *bt)
{
	if (!s->running)
		return;
	pthread_mutex_lock(&s->lock);
	s->cpu[index] = bt;
	pthread_mutex_unlock(&s->lock);
}

/* --- why translated code was left --- */

void bt_reason_begin(struct bt *bt, enum bt_why why, enum bt_cause cause)
{
	bt->reason.why = why;
	bt->reason.cause = cause;
	bt->reason.mmio = bt->vcpu->core.stat.mmio;
	bt->reason.code = bt->vcpu->core.stat.smc_write;
}

void bt_reason_end(struct bt *bt, bool faulted)
{
	enum bt_cause cause = bt->reason.cause;

	if (bt->reason.why == BT_NO_REASON)
		return;
	if (faulted)
		cause = BT_GUEST_FAULT;
	else if (bt->vcpu->core.stat.mmio != bt->reason.mmio)
		cause = BT_DEVICE;
	else if (bt->vcpu->core.stat.smc_write != bt->reason.code)
		cause = BT_CODE_WRITE;
	bt->stat.left[bt->reason.why][cause]++;
	bt->reason.why = BT_NO_REASON;
}

/* --- printing --- */

#define SUM(field)                                                                                                     \
	({                                                                                                             \
		uint64_t sum_ = 0;                                                                                     \
		for (unsigned n_ = 0; n_ < vm->config.cpus; n_++)                                                      \
			sum_ += bt_of(vm->vcpu[n_])->stat.field;                                                       \
		sum_;                                                                                                  \
	})

static void row(FILE *out, const char *group, const char *name, uint64_t value)
{
	if (value)
		fprintf(out, "bt.%s%s %lu\n", group, name, value);
}

static void print_reasons(const struct vm *vm, FILE *out)
{
	static const char *const causes[BT_CAUSES] = {
		[BT_FILLED] = "empty_entry", [BT_CLEAN_PAGE] = "clean_page", [BT_CODE_WRITE] = "code_write", [BT_DEVICE] = "device",
		[BT_CROSSING] = "page_crossing", [BT_MISALIGNED] = "misaligned", [BT_GUEST_FAULT] = "guest_fault", [BT_ELSE] = "else",
	};

	for (unsigned c = 0; c < BT_CAUSES; c++)
		row(out, "miss.", causes[c], SUM(left[BT_MISSED][c]));
	for (unsigned c = 0; c < BT_CAUSES; c++)
		row(out, "fault.", causes[c], SUM(left[BT_FAULTED][c]));
}

static void print_flushes(const struct vm *vm, FILE *out)
{
	static const char *const tables[] = {
		[FLUSH_ALL] = "all", [FLUSH_NONGLOBAL] = "cr3", [FLUSH_PAGE] = "page", [FLUSH_PCID] = "pcid", [FLUSH_SWITCH] = "switch",
		[FLUSH_WRITES] = "writes",
	};
	static const char *const caches[BT_FLUSH_CAUSES] = {
		[BT_FLUSH_CHANGES] = "changes", [BT_FLUSH_ENGINE] = "engine", [BT_FLUSH_COUNTING] = "counting",
	};

	uint64_t most = 0;

	for (unsigned n = 0; n < vm->config.cpus; n++)
		most = MAX(most, bt_of(vm->vcpu[n]) ? bt_of(vm->vcpu[n])->stat.evicting_ns_most : 0);
	for (unsigned n = 0; n < ARRAY_SIZE(tables); n++)
		row(out, "table_flush.", tables[n], SUM(flushed_table[n]));
	for (unsigned n = 0; n < BT_FLUSH_CAUSES; n++)
		row(out, "cache_flush.", caches[n], SUM(flushed_cache[n]));
	row(out, "", "maps", SUM(maps));
	row(out, "", "evicted", SUM(evicted));
	row(out, "evicted.", "parts", SUM(evicted_parts));
	row(out, "evicted.", "ns", SUM(evicting_ns));
	row(out, "evicted.", "ns_most", most);
}

static void print_times(const struct vm *vm, FILE *out)
{
	static const char *const phases[BT_PHASES] = {
		[BT_OUTSIDE] = "outside", [BT_HALTED] = "halted", [BT_TRANSLATED] = "translated", [BT_TRANSLATING] = "translating",
		[BT_FILLING] = "filling", [BT_EXECUTING] = "exec", [BT_INTERPRETING] = "interpreter", [BT_ENGINE] = "engine",
	};

	for (unsigned n = 0; n < BT_PHASES; n++)
		row(out, "ns.", phases[n], SUM(ns[n]));
}

static uint64_t astray(const struct vm *vm)
{
	uint64_t sum = 0;

	for (unsigned n = 0; n < vm->config.cpus; n++)
		sum += bt_of(vm->vcpu[n])->state->astrays;
	return sum;
}

void bt_stats(struct vm *vm, FILE *out)
{
	fprintf(out, "bt.blocks %lu\nbt.instructions %lu\nbt.native %lu\nbt.guest_bytes %lu\nbt.host_bytes %lu\n", SUM(blocks), SUM(insns), SUM(native),
		SUM(guest_bytes), SUM(bytes));
	fprintf(out, "bt.anywhere %lu\nbt.doors %lu\n", SUM(anywhere), SUM(doors));
	row(out, "", "hot", SUM(hot));
	row(out, "", "hot_bytes", SUM(hot_bytes));
	row(out, "", "hot_loops", SUM(hot_loops));
	fprintf(out, "bt.dispatches %lu\nbt.links %lu\nbt.invalidated %lu\nbt.cache_flushes %lu\n", SUM(dispatches), SUM(links),
		SUM(invalidated), SUM(flushes));
	fprintf(out, "bt.misses %lu\nbt.fills %lu\nbt.faults %lu\nbt.upgrades %lu\n", SUM(misses), SUM(fills), SUM(faults), SUM(upgrades));
	row(out, "", "undefined_again", SUM(undefined));
	fprintf(out, "bt.table_flushes %lu\nbt.page_flushes %lu\nbt.interpreted %lu\n", SUM(table_flushes), SUM(page_flushes), SUM(steps));
	row(out, "", "quick", SUM(quick));
	row(out, "", "quick_dispatches", SUM(quick_dispatches));
	row(out, "", "astray", astray(vm));
	print_reasons(vm, out);
	print_flushes(vm, out);
	print_times(vm, out);
	for (unsigned op = 0; op < X86_OP_COUNT; op++)
		if (SUM(exec[op]))
			fprintf(out, "bt.exec.%s %lu\n", x86_ops[op].name, SUM(exec[op]));
}
