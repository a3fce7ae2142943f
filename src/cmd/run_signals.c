/* SPDX-License-Identifier: MIT */
/* One thread waits for the signals that the others hold off, so that their handling needs no care for what may be called. SIGALRM is how we
 * tell it to end. */
#include "cmd/run_signals.h"
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "backend/chardev.h"
#include "cmd/cmd.h"
#include "cmd/screen.h"
#include "util/log.h"

#define SIGNAL_ECHO (200 * 1000 * 1000) /* ns */

static uint64_t monotonic(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *signal_thread(void *arg)
{
	struct signals *s = arg;
	bool ending = false;
	uint64_t first = 0;
	for (;;) {
		int signal;
		if (sigwait(&s->set, &signal) || signal == SIGALRM)
			return NULL;
		if (signal == SIGTSTP) {
			/* From another terminal: our own Ctrl-Z belongs to the guest. */
			terminal_suspend();
			kill(getpid(), SIGSTOP);
			continue;
		}
		if (signal == SIGCONT) {
			terminal_resume();
			continue;
		}
		if (signal == SIGUSR2) {
			screen_save(s->screen, s->options->screenshot, s->options->screen_text);
			continue;
		}
		/* timeout(1) signals its child, and then the group that the child is in: one request, not two. */
		uint64_t now = monotonic();
		if (ending && now - first < SIGNAL_ECHO)
			continue;
		if (ending) { /* asked twice: the output that is still owed is given up */
			terminal_restore();
			_exit(EXIT_SIGNAL + signal);
		}
		ending = true;
		first = now;
		vm_finish(s->vm, VM_STOPPED, (uint64_t)(EXIT_SIGNAL + signal));
	}
}

void signals_hold(struct signals *s)
{
	static const int held[] = { SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGUSR2, SIGALRM };
	sigemptyset(&s->set);
	for (unsigned i = 0; i < ARRAY_SIZE(held); i++)
		sigaddset(&s->set, held[i]);
	pthread_sigmask(SIG_BLOCK, &s->set, NULL);
}

int signals_start(struct signals *s, struct vm *vm, const struct run_options *o, const struct screen *screen)
{
	s->options = o;
	s->screen = screen;
	s->vm = vm;
	int error = pthread_create(&s->thread, NULL, signal_thread, s);
	if (error)
		log_error("no thread for signals: %s", strerror(error));
	return -error;
}

void signals_stop(struct signals *s)
{
	pthread_kill(s->thread, SIGALRM);
	pthread_join(s->thread, NULL);
}
