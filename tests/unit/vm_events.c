/* SPDX-License-Identifier: MIT */
/* All processors on one thread: turns, timers at exact counts, inputs in order, and time that jumps while all are halted. With an engine
 * that counts and does nothing else, so that what happens when is plain to see. */
#include <unistd.h>
#include "vm_test.h"

#define HALT_AT 50000 /* instructions after which each processor halts, for good unless it is kicked on */
#define NOTES 256
#define TURN 10007 /* as in vcpu_turns.c */

static struct { unsigned cpu; uint64_t from, to, time; } run_note[NOTES];
static unsigned runs;
static uint64_t fired_at[NOTES], tsc_seen;
static unsigned fired;

static int count_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct x86_core *core = &vcpu->core;
	uint64_t from = core->icount, to = MIN(limit->icount, HALT_AT);

	if (vcpu->index && core->cpu.activity == X86_WAIT_SIPI) {
		exit->reason = VM_EXIT_HALT;
		return 0;
	}
	if (from < 1234 && to > 1234) {
		core->icount = 1234;
		tsc_seen = core->env->tsc(core);
	}
	core->icount = MAX(from, to);
	run_note[runs % NOTES].cpu = vcpu->index;
	run_note[runs % NOTES].from = from;
	run_note[runs % NOTES].to = core->icount;
	run_note[runs++ % NOTES].time = clock_now(vcpu->vm);
	if (core->icount >= HALT_AT) {
		core->cpu.activity = X86_HALTED;
		exit->reason = VM_EXIT_HALT;
	} else {
		exit->reason = core->icount >= limit->icount ? VM_EXIT_LIMIT : VM_EXIT_KICK;
	}
	return 0;
}

static void note_fire(struct device *d, void *arg)
{
	fired_at[fired++ % NOTES] = clock_now(d->vm);
	if (arg)
		vm_finish(d->vm, VM_DEBUG_EXIT, 7);
}

static struct engine counting;

static struct vm *counting_vm(unsigned cpus)
{
	struct vm *vm = test_vm_engine("null", CLOCK_INSTRUCTIONS, 16 * MiB, cpus);

	counting = null_engine;
	counting.run = count_run;
	test_engine(vm, &counting);
	for (unsigned i = 0; i < cpus; i++) {
		vm->vcpu[i]->engine = &counting;
		vm->vcpu[i]->core.cpu.activity = X86_RUNNING;
	}
	runs = fired = 0;
	return vm;
}

static void test_turns(void)
{
	struct vm *vm = counting_vm(2);
	struct probe *p = probe_new(vm, &place_a);
	uint64_t total[2] = { 0 };
	bool exact = true, one_turn = true;

	for (unsigned i = 0; i < 3; i++)
		timer_init(&p->timer[i], &p->device, "t", note_fire, i == 2 ? p : NULL);
	timer_arm(&p->timer[0], 777);
	timer_arm(&p->timer[1], 33333);
	timer_arm(&p->timer[2], 5000000);
	ok(!vm_start(vm) && vm_wait(vm) == VM_DEBUG_EXIT && vm->end_value == 7, "runs, and ends when the last timer says so");
	for (unsigned i = 0; i < runs; i++) {
		total[run_note[i].cpu] += run_note[i].to - run_note[i].from;
		one_turn &= run_note[i].to - run_note[i].from <= TURN;
	}
	exact = fired == 3 && fired_at[0] == 777 && fired_at[1] == 33333 && fired_at[2] == 5000000;
	ok(exact, "timers fire at their exact counts");
	ok(run_note[0].to == 777 && run_note[1].cpu == 0 && run_note[1].to == TURN, "a turn is cut where a timer is due, and goes on");
	ok(run_note[2].cpu == 1 && run_note[2].from == 0 && run_note[2].time == 2 * TURN, "then the next processor has its turn");
	ok(one_turn && total[0] == HALT_AT && total[1] == HALT_AT, "each runs until it halts");
	ok(clock_now(vm) == 5000000, "halted, time jumps to the timer");
	ok(tsc_seen == TURN + 1234, "the TSC within a turn is exact");
	vm_destroy(vm);
}

static void *post_many(void *arg)
{
	struct probe *p = arg;

	for (uint64_t i = 0; i < 20; i++)
		event_post(&p->device, (unsigned)i, &i, sizeof(i));
	return NULL;
}

/* Waits until `count` inputs have come, at most some seconds. */
static bool arrived(struct probe *p, unsigned count)
{
	for (unsigned i = 0; i < 5000 && p->count < count; i++)
		usleep(1000);
	return p->count == count;
}

static void test_inputs(void)
{
	struct vm *vm = counting_vm(1);
	struct probe *p = probe_new(vm, &place_a);
	pthread_t thread;
	bool order = true;

	event_post(&p->device, 100, "x", 1);
	ok(p->count == 0, "an input waits for the processor's boundary");
	vm_start(vm);
	ok(arrived(p, 1) && p->offset[0] == 100 && p->size[0] == 1, "and arrives there");
	usleep(20000); /* halted with no timer: it sleeps */
	pthread_create(&thread, NULL, post_many, p);
	pthread_join(thread, NULL);
	ok(arrived(p, 21), "inputs wake a machine that sleeps without a timer");
	for (unsigned i = 0; i < 20; i++)
		order &= p->offset[i + 1] == i && p->value[i + 1] == i;
	ok(order, "in the order in which they were posted");
	vcpu_stop_all(vm);
	event_post(&p->device, 1, NULL, 0);
	usleep(10000);
	ok(p->count == 21, "none arrives at a safe point");
	vcpu_resume_all(vm);
	ok(arrived(p, 22), "but after it");
	vm_finish(vm, VM_STOPPED, 0);
	ok(vm_wait(vm) == VM_STOPPED, "it ends while it sleeps");
	vm_destroy(vm);
}

static void test_immediate(void)
{
	struct vm *vm = test_vm();
	struct probe *p = probe_new(vm, &place_a);

	event_post(&p->device, 3, "ab", 2);
	ok(p->count == 1 && p->offset[0] == 3 && p->value[0] == ('a' | 'b' << 8), "with another clock an input arrives at once");
	vm_destroy(vm);
}

int main(void)
{
	alarm(60);
	test_turns();
	test_inputs();
	test_immediate();
	return done();
}
