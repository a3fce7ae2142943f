/* SPDX-License-Identifier: MIT */
/* Lockstep: two machines from the same start, one with the engine in question and one with the interpreter, which must stay the same.
 *
 * With time counted in instructions a machine is a function of its start and of what comes in from outside. Each of the two has
 * a timer that fires at the same counts, where its processors stand between two instructions, and there the two threads meet. The second
 * to come compares: the processors by their field tables, and the pages that either wrote since. What may differ is named in
 * verify_compare.c, and counted. What came in since the last meeting goes to both there, and into a log (verify_input.c). While both sleep, time jumps to
 * their next timer; but where somebody may type, that long is waited for it.
 *
 * An engine that runs whole blocks may be wrong only when it does, so a difference is not sought by single steps: the machines
 * are made again, run to where they were last equal, and meet next after half the distance, until the first count is found at which they
 * differ. What the interpreter ran between the two is printed at last. That the machines can be made again and run the same way, with the log, is all it
 * takes; saved states would make it faster, not different. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "cmd/cmd.h"
#include "cmd/lockstep.h"
#include "engine/engine.h"
#include "util/log.h"

#define WAIT_NS 20000000
#define NAP_NS 1000000000 /* the longest wait for an input: then the machines look around */

/* --- meetings --- */

static void stop(struct lockstep *l)
{
	vm_finish(l->vm[0], VM_STOPPED, 0);
	vm_finish(l->vm[1], VM_STOPPED, 0);
}

/* Where a run by a plan meets next. */
static uint64_t planned(const struct lockstep *l, uint64_t now)
{
	uint64_t low = 0, high = l->as_before ? l->met_count : 0, next = l->plan_from > now ? l->plan_from : l->plan_to;

	while (low < high) { /* the first meeting behind this one */
		uint64_t middle = low + (high - low) / 2;
		if (l->met[middle] > now)
			high = middle;
		else
			low = middle + 1;
	}
	return l->as_before && low < l->met_count ? MIN(l->met[low], next) : next;
}

static void plan_next(struct lockstep *l, uint64_t onward)
{
	uint64_t now = l->next;

	if (!l->plan_to)
		l->next = now + onward;
	else if (now < l->plan_to)
		l->next = planned(l, now);
	else
		stop(l);
}

/* Without memory for it, the run cannot be repeated as it was. */
static void note_meeting(struct lockstep *l)
{
	bool full = !(l->met_count & (l->met_count - 1)) || !l->met_count; /* a power of two */
	uint64_t *met = full ? realloc(l->met, MAX(2 * l->met_count, 1) * sizeof(*met)) : l->met;

	if (!met)
		return;
	l->met = met;
	l->met[l->met_count++] = l->next;
}

/* All processors are halted: nothing but a timer or an input can wake them. */
static bool asleep(struct vm *vm)
{
	for (unsigned c = 0; c < vm->config.cpus; c++)
		if (vm->vcpu[c]->kicked || vcpu_runnable(vm->vcpu[c]))
			return false;
	return true;
}

static bool disturbed(struct lockstep *l)
{
	return l->pending || l->vm[0]->end || l->vm[1]->end || l->vm[0]->vcpu[0]->kicked || l->vm[1]->vcpu[0]->kicked;
}

static uint64_t wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void wait_until(struct lockstep *l, uint64_t wall)
{
	struct timespec t = { .tv_sec = (time_t)(wall / 1000000000), .tv_nsec = (long)(wall % 1000000000) };

	pthread_cond_timedwait(&l->moved, &l->lock, &t);
}

/* Both sleep: as long as they would, or until somebody comes in. Returns how long it was, in ns. */
static uint64_t doze(struct lockstep *l, uint64_t longest)
{
	uint64_t began = wall_ns(), now = began;

	while (!disturbed(l) && now - began < MIN(longest, NAP_NS)) {
		wait_until(l, MIN(began + longest, now + WAIT_NS));
		now = wall_ns();
	}
	return now - began;
}

/* How far they go to the next meeting, in instructions, or ns while they sleep. */
static uint64_t stretch(struct lockstep *l)
{
	uint64_t due, longest;

	if (l->plan_to || l->pending || !asleep(l->vm[0]))
		return l->every;
	due = l->vm[0]->clock.next;
	longest = due - l->next; /* without a timer a long time */
	if (l->awaits) {
		uint64_t waited = doze(l, longest);
		return MAX(MIN(longest, waited), l->every);
	}
	if (due != TIMER_OFF)
		return MAX(longest, l->every);
	l->idle = true;
	stop(l);
	return l->every;
}

static void meet(struct lockstep *l)
{
	l->meetings++;
	if (!l->replays)
		note_meeting(l);
	lockstep_compare_processors(l);
	lockstep_compare_memory(l, false);
	if (l->different) {
		l->different_at = l->next;
		stop(l);
		return;
	}
	l->equal_at = l->next;
	uint64_t onward = stretch(l);
	if (!l->replays)
		lockstep_give_inputs(l);
	plan_next(l, onward);
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
		lockstep_differ(l, "the machine of %s %s%s%s, the other goes on", other->engine->name, ends[end], end == VM_KILLED ? ": " : "",
		       end == VM_KILLED ? other->end_reason : "");
		l->different_at = l->next;
	}
	vm_finish(l->vm[me], VM_STOPPED, other->end_value);
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
	lockstep_replay(s, me);
	bool steps = l->stepping && me && s->at >= l->plan_from && s->at < l->plan_to;
	if (steps)
		list(l);
	if (steps ? s->at != l->plan_from || !l->plan_from : s->at < l->next) { /* no meeting */
		arm(s, steps ? s->at + 1 : MIN(l->next, lockstep_replay_next(s)));
		pthread_mutex_unlock(&l->lock);
		return;
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
			wait_until(l, wall_ns() + WAIT_NS);
	}
	if (!l->vm[me]->end)
		arm(s, l->stepping && me && s->at >= l->plan_from ? MIN(l->next, s->at + 1) : MIN(l->next, lockstep_replay_next(s)));
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
		l->side[n]->input = l->replays ? l->log : NULL;
		timer_init(&l->side[n]->timer, &l->side[n]->device, "verify", arrive, l->side[n]);
		arm(l->side[n], l->stepping && n && !l->plan_from ? 1 : MIN(l->next, lockstep_replay_next(l->side[n])));
	}
	return EXIT_OK;
}

/* One run of both machines, to their ends, or to a difference, or to the end of the plan. */
static int run_both(struct lockstep *l, const struct verify_maker *maker, enum vm_end *end, uint64_t *value)
{
	const struct input_taker taker = { lockstep_take_input, l };
	int status = maker->make(maker->arg, l->vm, l->replays ? NULL : &taker);

	l->different = false;
	l->arrived = l->texts = 0;
	l->listed_count = 0;
	l->next = l->plan_to ? planned(l, 0) : l->every;
	if (!status)
		status = join(l);
	if (!status && (vm_start(l->vm[0]) || vm_start(l->vm[1])))
		status = EXIT_HOST;
	if (!status) {
		*end = vm_wait(l->vm[0]);
		enum vm_end other = vm_wait(l->vm[1]);
		if (!l->replays && maker->drain)
			maker->drain(maker->arg);
		if (!l->different && *end == other && *end != VM_STOPPED) {
			lockstep_compare_processors(l);
			lockstep_compare_memory(l, true);
			l->different_at = l->next;
		}
		*value = l->vm[0]->end_value;
	}
	return status;
}

/* --- finding the place --- */

/* Runs both again, to meet at these counts at last. */
static int run_plan(struct lockstep *l, const struct verify_maker *maker, uint64_t from, uint64_t to)
{
	uint64_t value;
	enum vm_end end;

	l->replays = true;
	l->awaits = false;
	l->plan_from = from;
	l->plan_to = to;
	l->stepping = to - from <= 1;
	maker->unmake(maker->arg);
	return run_both(l, maker, &end, &value);
}

/* The earliest count at which they differ: when it returns, and they do, they are equal at l->plan_from, and l->text says how they differ one instruction
 * later, or as few as the engine shows. */
static int halve(struct lockstep *l, const struct verify_maker *maker, uint64_t low, uint64_t high)
{
	int status = 0;

	for (bool last = false; !last && !status;) {
		uint64_t to = high - low <= 1 ? high : low + (high - low) / 2;
		last = to == high;
		status = run_plan(l, maker, low, to);
		if (l->different && l->different_at <= low) { /* where they were equal */
			l->different = false;
			break;
		}
		*(l->different ? &high : &low) = to;
	}
	return status;
}

/* A run that meets elsewhere is not quite the same: an engine's blocks of code begin where it was stopped. So what does not come again then is tried with the first
 * run's meetings, too, up to where the machines were last equal. */
static int narrow(struct lockstep *l, const struct verify_maker *maker)
{
	uint64_t low = l->equal_at, high = l->different_at;
	int status = halve(l, maker, low, high);

	if (status || l->different)
		return status;
	l->as_before = true;
	status = run_plan(l, maker, low, high);
	if (status)
		return status;
	if (!l->different || l->different_at <= low) {
		l->different = false;
		log_warn("the difference does not come again in the same run: something besides the engine changes from run to run");
		return EXIT_OK;
	}
	status = halve(l, maker, low, high);
	l->elsewhere = !l->different;
	return l->elsewhere && !status ? run_plan(l, maker, low, high) : status;
}

static void report(const struct lockstep *l)
{
	log_error("%s and interp differ after %lu instructions, and are equal after %lu", l->vm[0]->engine->name, l->plan_to, l->plan_from);
	for (unsigned n = 0; n < l->texts; n++)
		log_info("  %s", l->text[n]);
	if (l->texts == DIFFERENCES)
		log_info("  and more");
	if (l->elsewhere)
		log_info("where in between is not known: they are equal if they meet there, since the engine's blocks of code begin where it is stopped");
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
	l->awaits = maker->awaits;
	l->log_end = &l->log;
	l->pending_end = &l->pending;
	status = run_both(l, maker, end, end_value);
	if (!status && l->different) {
		char first[sizeof(l->text[0])];
		memcpy(first, l->text[0], sizeof(first));
		log_info("different after %lu instructions (%s); looking for the first place", l->different_at, first);
		status = narrow(l, maker);
		if (!status && l->different)
			report(l);
		*end = VM_KILLED;
	} else if (!status) {
		if (*end == VM_KILLED)
			log_error("both machines were stopped: %s", l->vm[0]->end_reason);
		log_info("%s and interp were equal at each of %lu meetings, one in %lu instructions; inputs: %lu, excused: %lu%s",
			 l->vm[0]->engine->name, l->meetings, every, l->inputs, l->excused,
			 l->idle ? "; both wait for input now, of which there is none" : "");
	}
	pthread_cond_destroy(&l->moved);
	maker->unmake(maker->arg); /* from here on nothing comes in */
	pthread_mutex_destroy(&l->lock);
	lockstep_inputs_free(l);
	free(l->met);
	free(l);
	return status;
}
