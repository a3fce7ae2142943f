/* SPDX-License-Identifier: MIT */
/* The clock: timers in order and at their exact times, arming inside a callback, freezing, and that TSC and nanoseconds are one clock. */
#include <unistd.h>
#include "vm_test.h"

static uint64_t fired_at[64];
static unsigned fired_id[64];
static _Atomic unsigned fired;

static void note(struct device *d, void *arg)
{
	fired_at[fired % 64] = clock_now(d->vm);
	fired_id[fired % 64] = (unsigned)(uintptr_t)arg;
	fired++; /* last: who waits for it reads the rest */
}

static void again(struct device *d, void *arg)
{
	note(d, arg);
	if (fired < 4)
		timer_arm(&probe_of(d)->timer[0], clock_now(d->vm) + 10);
}

static void cancel_other(struct device *d, void *arg)
{
	note(d, arg);
	timer_cancel(&probe_of(d)->timer[1]);
}

static void test_stepped(struct vm *vm, struct probe *p)
{
	for (unsigned i = 0; i < 3; i++)
		timer_init(&p->timer[i], &p->device, "t", note, (void *)(uintptr_t)i);
	timer_arm(&p->timer[0], 300);
	timer_arm(&p->timer[1], 100);
	timer_arm(&p->timer[2], 100);
	clock_step(vm, 99);
	ok(fired == 0 && clock_now(vm) == 99, "nothing fires early");
	clock_step(vm, 1);
	ok(fired == 2 && fired_id[0] == 1 && fired_id[1] == 2, "two of one time fire in the order of arming");
	ok(!timer_armed(&p->timer[1]) && timer_armed(&p->timer[0]), "a timer fires once");
	timer_arm(&p->timer[0], 500);
	clock_step(vm, 250);
	ok(fired == 2, "an armed timer can be moved");
	clock_step(vm, 1000);
	ok(fired == 3 && fired_at[2] == 500 && clock_now(vm) == 1350, "it fires at its exact time within a long step");
	timer_arm(&p->timer[0], 2000);
	timer_cancel(&p->timer[0]);
	timer_cancel(&p->timer[0]);
	clock_step(vm, 1000);
	ok(fired == 3 && clock_now(vm) == 2350, "a cancelled one does not");
	timer_arm(&p->timer[0], 5);
	clock_step(vm, 0);
	ok(fired == 4, "one in the past fires at once");
}

static void test_callbacks(struct vm *vm, struct probe *p)
{
	uint64_t start = clock_now(vm);

	fired = 0;
	timer_init(&p->timer[0], &p->device, "again", again, NULL);
	timer_arm(&p->timer[0], start + 10);
	clock_step(vm, 1000);
	ok(fired == 4 && fired_at[0] == start + 10 && fired_at[3] == start + 40, "a timer that arms itself fires at each time");
	fired = 0;
	timer_init(&p->timer[0], &p->device, "cancel", cancel_other, NULL);
	start = clock_now(vm);
	timer_arm(&p->timer[0], start + 10);
	timer_arm(&p->timer[1], start + 10);
	clock_step(vm, 100);
	ok(fired == 1, "one that cancels another of the same time");
	clock_freeze(vm);
	timer_arm(&p->timer[1], clock_now(vm) + 10);
	start = clock_now(vm);
	fired = 0;
	clock_step(vm, 100);
	ok(fired == 0 && clock_now(vm) == start, "a frozen clock does not step");
	clock_thaw(vm);
	clock_step(vm, 100);
	ok(fired == 1 && clock_now(vm) == start + 100, "a thawed one goes on");
}

/* A clock of a frequency as odd as a host's. */
static void test_scale(struct vm *vm)
{
	uint64_t hz[] = { 1000000, 999999937, 1000000000, 2400000001, 3999999979, 5100000000 };
	bool back = true, reached = true;

	for (unsigned i = 0; i < ARRAY_SIZE(hz); i++) {
		vm->clock.tsc_hz = hz[i];
		for (uint64_t tsc = 1; tsc < UINT64_MAX / 16; tsc = tsc * 3 + 7) {
			uint64_t ns = clock_tsc_to_ns(vm, tsc);
			if (ns > UINT64_MAX / 16)
				break;
			reached &= clock_ns_to_tsc(vm, ns) >= tsc;
			back &= hz[i] < 1000000000 || (ns && clock_ns_to_tsc(vm, ns - 1) < tsc);
		}
	}
	ok(reached, "when the clock reaches the time of a TSC value, the TSC has reached the value");
	ok(back, "and not a nanosecond earlier");
	vm->clock.tsc_hz = 3000000000;
	ok(clock_tsc_to_ns(vm, UINT64_MAX) == 6148914691236517205ULL, "no overflow at the end of the TSC");
	vm->clock.tsc_hz = 1000;
	ok(clock_tsc_to_ns(vm, UINT64_MAX) == TIMER_OFF, "a time beyond all times is never");
}

static void test_host(void)
{
	struct vm *vm = test_vm_engine("null", CLOCK_HOST, 16 * MiB, 1);
	struct probe *p = probe_new(vm, &place_a);
	uint64_t before, after, tsc, worst = 0, wait;
	bool agree = true;

	printf("# tsc %lu Hz, %s\n", vm->clock.tsc_hz, vm->clock.tsc_direct ? "read directly" : "computed");
	ok(vm->clock.tsc_hz > 100000000 && vm->clock.tsc_hz < 10000000000, "the TSC's frequency makes sense");
	for (unsigned i = 0; i < 10000; i++) {
		before = clock_now(vm);
		tsc = clock_tsc(vm);
		after = clock_now(vm);
		agree &= clock_tsc_to_ns(vm, tsc) + 1 >= before && clock_ns_to_tsc(vm, after) + 4 >= tsc && before <= after;
	}
	ok(agree, "TSC and nanoseconds are the same clock");
	vm->clock.origin -= vm->clock.tsc_direct ? vm->clock.tsc_hz * 86400 * 365 : 86400 * 365 * 1000000000ULL;
	before = clock_now(vm);
	tsc = clock_tsc(vm);
	after = clock_now(vm);
	ok(clock_tsc_to_ns(vm, tsc) + 1 >= before && clock_ns_to_tsc(vm, after) + 4 >= tsc, "also after a year");

	fired = 0;
	timer_init(&p->timer[0], &p->device, "host", note, NULL);
	loop_start(vm);
	for (unsigned i = 0; i < 20; i++) {
		uint64_t deadline = clock_now(vm) + 1000000;
		timer_arm(&p->timer[0], deadline);
		for (wait = 0; fired == i && wait < 1000; wait++)
			usleep(200);
		agree &= fired == i + 1 && fired_at[i] >= deadline;
		worst = MAX(worst, fired_at[i] - deadline);
	}
	ok(agree, "the loop fires timers, never early");
	printf("# at most %lu us late\n", worst / 1000);
	clock_freeze(vm);
	before = clock_now(vm);
	tsc = clock_tsc(vm);
	timer_arm(&p->timer[0], before + 1000000);
	usleep(20000);
	ok(fired == 20 && clock_now(vm) == before && clock_tsc(vm) == tsc, "while frozen nothing moves and nothing fires");
	clock_thaw(vm);
	ok(clock_now(vm) - before < 15000000, "a pause leaves no gap");
	for (wait = 0; fired == 20 && wait < 1000; wait++)
		usleep(200);
	ok(fired == 21, "after it timers fire again");
	clock_freeze(vm);
	clock_set(vm, 5000000000);
	ok(clock_now(vm) >= 4999999999 && clock_now(vm) <= 5000000000, "a restored clock shows the time that was set");
	clock_thaw(vm);
	vm_destroy(vm);
}

int main(void)
{
	struct vm *vm = test_vm();
	struct probe *p = probe_new(vm, &place_a);

	test_stepped(vm, p);
	test_callbacks(vm, p);
	test_scale(vm);
	vm_destroy(vm);
	test_host();
	return done();
}
