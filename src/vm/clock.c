/* SPDX-License-Identifier: MIT */
/* The virtual clock and its timers. The local APIC's timer, the 8254, the ACPI timer and the TSC are all views of it.
 *
 * Everything is derived from one count of ticks. With CLOCK_HOST and an invariant TSC a tick is one of the TSC, and ns = ticks x 10^9 / Hz,
 * computed in 128 bits, so that nothing drifts however long the VM runs; else a tick is a nanosecond, and the TSC is computed from it.
 *
 * A timer fires with its owner's lock held and the clock's not. It is taken off the list only once the owner's lock is held and
 * it is still due: so an owner that cancels or moves a timer under its lock never sees it fire afterwards. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>
#include "util/log.h"
#include "vm/vcpu.h"

#define NS 1000000000ULL
#define COUNTED_HZ NS                       /* TSC of the modes that do not follow the host */
#define COUNTED_WALL (1704067200LL * 1000000000LL) /* 1 January 2024: two runs see the same date */
/* The host's clocks differ by some parts per million, so long sleeps end early by 1/1000, and sleep again. */
#define EARLY_BY 1000
#define EARLY_FROM (10 * 1000 * 1000ULL)

static uint64_t host_time(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

/* The largest multiplier of 64 bits for y = x * to / from. Its error is less than 2^-63 of the ratio. */
static struct clock_ratio ratio(uint64_t to, uint64_t from)
{
	unsigned shift = 0;

	while (shift < 127 && ((unsigned __int128)to << (shift + 1)) / from <= UINT64_MAX)
		shift++;
	return (struct clock_ratio){ .mul = (uint64_t)(((unsigned __int128)to << shift) / from), .shift = shift };
}

static uint64_t scale(struct clock_ratio r, uint64_t x)
{
	return (uint64_t)((unsigned __int128)x * r.mul >> r.shift);
}

static uint64_t host_ticks(const struct clock *c)
{
	return c->tsc_direct ? __rdtsc() : host_time(CLOCK_MONOTONIC);
}

/* Ticks since virtual time 0. */
static uint64_t ticks(struct vm *vm)
{
	struct clock *c = &vm->clock;
	struct x86_core *core;

	if (atomic_load_explicit(&c->frozen, memory_order_acquire))
		return atomic_load_explicit(&c->frozen_at, memory_order_relaxed);
	if (c->mode == CLOCK_HOST)
		return host_ticks(c) - atomic_load_explicit(&c->origin, memory_order_relaxed);
	core = atomic_load_explicit(&c->counting, memory_order_relaxed);
	if (core && vcpu_current()) /* other threads see the time at which the slice began */
		return c->counted + (core->icount - c->counting_from);
	return c->counted;
}

static uint64_t ticks_to_ns(const struct clock *c, uint64_t t)
{
	return c->tsc_direct ? scale(c->tsc_to_ns, t) : t;
}

int clock_init(struct vm *vm, enum clock_mode mode)
{
	struct clock *c = &vm->clock;

	*c = (struct clock){ .mode = mode, .next = TIMER_OFF, .tsc_hz = COUNTED_HZ, .wall_offset = COUNTED_WALL, .timerfd = -1 };
	pthread_mutex_init(&c->lock, NULL);
	if (mode == CLOCK_HOST) {
		c->tsc_hz = tsc_host_hz(&c->tsc_direct);
		c->wall_offset = (int64_t)host_time(CLOCK_REALTIME);
		c->origin = host_ticks(c);
		c->timerfd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (c->timerfd < 0) {
			int error = -errno;
			log_error("cannot get a timer from the host: %s", strerror(-error));
			return error;
		}
	}
	c->tsc_to_ns = ratio(NS, c->tsc_hz);
	return 0;
}

void clock_fini(struct vm *vm)
{
	struct clock *c = &vm->clock;

	if (c->timerfd >= 0)
		close(c->timerfd);
	c->timerfd = -1;
	pthread_mutex_destroy(&c->lock);
}

uint64_t clock_now(struct vm *vm)
{
	return ticks_to_ns(&vm->clock, ticks(vm));
}

uint64_t clock_tsc(struct vm *vm)
{
	uint64_t t = ticks(vm);

	return vm->clock.tsc_direct ? t : clock_ns_to_tsc(vm, t);
}

uint64_t clock_ns_to_tsc(struct vm *vm, uint64_t ns)
{
	uint64_t hz = vm->clock.tsc_hz;

	return hz == NS ? ns : (uint64_t)((unsigned __int128)ns * hz / NS);
}

/* Rounded up, so that the TSC has got there when the clock says that the time has come. */
uint64_t clock_tsc_to_ns(struct vm *vm, uint64_t tsc)
{
	uint64_t hz = vm->clock.tsc_hz;
	unsigned __int128 ns;

	if (hz == NS)
		return tsc;
	ns = ((unsigned __int128)tsc * NS + hz - 1) / hz;
	return ns < TIMER_OFF ? (uint64_t)ns : TIMER_OFF;
}

int64_t clock_wall(struct vm *vm)
{
	return (int64_t)clock_now(vm) + vm->clock.wall_offset;
}

/* Has the loop thread woken when the first timer is due. */
static void program_locked(struct vm *vm)
{
	struct clock *c = &vm->clock;
	struct itimerspec when = { 0 };
	uint64_t deadline = c->timers ? c->timers->deadline : TIMER_OFF;

	c->next = deadline;
	if (c->timerfd < 0)
		return;
	if (deadline != TIMER_OFF && !c->frozen) {
		uint64_t now = clock_now(vm), wait = deadline > now ? deadline - now : 0, at;
		if (wait > EARLY_FROM)
			wait -= wait / EARLY_BY;
		at = host_time(CLOCK_MONOTONIC) + MIN(wait, INT64_MAX / 2);
		when.it_value.tv_sec = (time_t)(at / NS);
		when.it_value.tv_nsec = (long)(at % NS);
	}
	timerfd_settime(c->timerfd, TFD_TIMER_ABSTIME, &when, NULL);
}

void clock_freeze(struct vm *vm)
{
	struct clock *c = &vm->clock;

	pthread_mutex_lock(&c->lock);
	if (!c->frozen) {
		c->frozen_at = ticks(vm);
		c->frozen = true;
		program_locked(vm);
	}
	pthread_mutex_unlock(&c->lock);
}

void clock_thaw(struct vm *vm)
{
	struct clock *c = &vm->clock;

	pthread_mutex_lock(&c->lock);
	if (c->frozen) {
		if (c->mode == CLOCK_HOST)
			c->origin = host_ticks(c) - c->frozen_at;
		c->frozen = false;
		program_locked(vm);
	}
	pthread_mutex_unlock(&c->lock);
}

void clock_set(struct vm *vm, uint64_t ns)
{
	struct clock *c = &vm->clock;
	uint64_t t = c->tsc_direct ? clock_ns_to_tsc(vm, ns) : ns;

	pthread_mutex_lock(&c->lock);
	if (c->mode == CLOCK_HOST)
		c->origin = host_ticks(c) - t;
	else
		c->counted = t;
	if (c->frozen)
		c->frozen_at = t;
	program_locked(vm);
	pthread_mutex_unlock(&c->lock);
}

static void unlink_locked(struct clock *c, struct timer *t)
{
	for (struct timer **at = &c->timers; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			break;
		}
	}
	t->next = NULL;
	t->deadline = TIMER_OFF;
}

/* Behind those of the same deadline: first armed, first fired. */
static void link_locked(struct clock *c, struct timer *t, uint64_t deadline)
{
	struct timer **at = &c->timers;

	while (*at && (*at)->deadline <= deadline)
		at = &(*at)->next;
	t->deadline = deadline;
	t->next = *at;
	*at = t;
}

void timer_init(struct timer *t, struct device *owner, const char *name, void (*fire)(struct device *, void *), void *arg)
{
	*t = (struct timer){ .vm = owner->vm, .owner = owner, .fire = fire, .arg = arg, .deadline = TIMER_OFF, .name = name };
}

void timer_arm(struct timer *t, uint64_t deadline)
{
	struct clock *c = &t->vm->clock;
	uint64_t first;

	pthread_mutex_lock(&c->lock);
	first = c->next;
	if (t->deadline != TIMER_OFF)
		unlink_locked(c, t);
	if (deadline != TIMER_OFF)
		link_locked(c, t, deadline);
	c->next = c->timers ? c->timers->deadline : TIMER_OFF;
	if (c->next < first) { /* else the loop wakes early enough, and looks again */
		program_locked(t->vm);
		/* A processor that counts runs to what was the next deadline: it must look again. */
		if (c->mode == CLOCK_INSTRUCTIONS && vcpu_current())
			vcpu_kick(vcpu_current());
	}
	pthread_mutex_unlock(&c->lock);
	trace(timer, "%s armed for %" PRIu64, t->name, deadline);
}

void timer_cancel(struct timer *t)
{
	if (t->vm)
		timer_arm(t, TIMER_OFF);
}

/* The first timer that is due at `now`, or NULL. */
static struct timer *due(struct clock *c, uint64_t now)
{
	struct timer *t;

	pthread_mutex_lock(&c->lock);
	t = c->timers && c->timers->deadline <= now ? c->timers : NULL;
	pthread_mutex_unlock(&c->lock);
	return t;
}

static void fire(struct clock *c, struct timer *t, uint64_t now)
{
	bool still;

	pthread_mutex_lock(&t->owner->lock);
	pthread_mutex_lock(&c->lock);
	still = t->deadline <= now;
	if (still) {
		unlink_locked(c, t);
		c->next = c->timers ? c->timers->deadline : TIMER_OFF;
	}
	pthread_mutex_unlock(&c->lock);
	if (still) {
		trace(timer, "%s fires at %" PRIu64, t->name, now);
		t->fire(t->owner, t->arg);
	}
	pthread_mutex_unlock(&t->owner->lock);
}

uint64_t clock_run(struct vm *vm)
{
	struct clock *c = &vm->clock;
	struct timer *t;
	uint64_t next, now;

	while (!c->frozen && (t = due(c, now = clock_now(vm))))
		fire(c, t, now);
	pthread_mutex_lock(&c->lock);
	program_locked(vm);
	next = c->next;
	pthread_mutex_unlock(&c->lock);
	return next;
}

/* Moves counted time to `end`, and stops at each deadline on the way. */
static void advance(struct vm *vm, uint64_t end)
{
	struct clock *c = &vm->clock;

	while (!c->frozen) {
		uint64_t next = c->next;
		if (next > end)
			break;
		c->counted = MAX(c->counted, next);
		clock_run(vm);
	}
	if (!c->frozen)
		c->counted = MAX(c->counted, end);
}

void clock_step(struct vm *vm, uint64_t ns)
{
	advance(vm, vm->clock.counted + ns);
}

void clock_jump(struct vm *vm, uint64_t ns)
{
	vm->clock.counted += ns;
	clock_run(vm);
}

void clock_advance_to(struct vm *vm, uint64_t ns)
{
	clock_count(vm, NULL);
	advance(vm, ns);
}

uint64_t clock_count(struct vm *vm, struct x86_core *core)
{
	struct clock *c = &vm->clock;
	struct x86_core *before = atomic_load_explicit(&c->counting, memory_order_relaxed);

	if (before)
		c->counted += before->icount - c->counting_from;
	if (core)
		c->counting_from = core->icount;
	atomic_store_explicit(&c->counting, core, memory_order_relaxed);
	return c->counted;
}
