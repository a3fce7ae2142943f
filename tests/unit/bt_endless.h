/* SPDX-License-Identifier: MIT */
/* Programs that go round for ever, for tests of whether they are left when somebody wants the processor. */
#pragma once
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include "vm/vcpu.h"

#define PATIENCE_S 20 /* for one program, on a busy host */

struct kicker {
	struct vcpu *vcpu;
	unsigned after_us;
	_Atomic bool left;
};

/* Once, but that on a busy host it may be before the processor is about to run. */
static void *endless_kick(void *arg)
{
	struct kicker *k = arg;

	do {
		usleep(k->after_us);
		vcpu_kick(k->vcpu);
	} while (!k->left);
	return NULL;
}

/* This thread is the processor's, and SIGALRM may end it. */
static void endless_begin(struct vcpu *vcpu)
{
	sigset_t alarms;

	vcpu_thread_begin(vcpu);
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &alarms, NULL); /* nobody else would take it */
}

/* Runs the program that the processor is at, until it is kicked after so many microseconds; a program that is not left then ends the test. Its first instruction is run singly. */
static void endless_run(struct vcpu *vcpu, unsigned after_us)
{
	struct kicker kicker = { .vcpu = vcpu, .after_us = after_us };
	pthread_t thread;

	vcpu_run_once(vcpu, &(struct run_limit){ .icount = UINT64_MAX, .step = true });
	alarm(PATIENCE_S);
	pthread_create(&thread, NULL, endless_kick, &kicker);
	vcpu_run_once(vcpu, &(struct run_limit){ .icount = UINT64_MAX });
	kicker.left = true;
	pthread_join(thread, NULL);
	alarm(0);
}
