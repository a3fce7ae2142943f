/* SPDX-License-Identifier: MIT */
/* The person's terminal: raw while a guest has it, given back under all circumstances, and an escape key (Ctrl-A) to talk
 * to the monitor. Follows termios(3). */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "backend/chardev_fd.h"
#include "util/fatal.h"
#include "util/log.h"
#include "vm/stats.h"
#include "vm/vcpu.h"

#define ESCAPE_KEY 0x01 /* Ctrl-A */

static struct termios original;       /* valid while `state` is not TERMINAL_UNTOUCHED */
static volatile sig_atomic_t state;
enum { TERMINAL_UNTOUCHED, TERMINAL_RAW, TERMINAL_SUSPENDED /* given back for a while */, TERMINAL_RESTORED };

/* Signals that end the process by our own fault or by default. Whoever installs a handler for one of them later keeps
 * ours as the next in the chain; a handler that is there already stays, and has fatal_hook for when it does not know what to do. */
static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGQUIT, SIGSYS };
static struct sigaction before[ARRAY_SIZE(fatal)];

/* At once, without waiting for output to drain: that could be stopped by Ctrl-S for ever. SIGTTOU is held off: a background process that gives
 * the terminal back shall not be stopped for it. */
static void set_mode(const struct termios *mode)
{
	sigset_t ttou, old;
	sigemptyset(&ttou);
	sigaddset(&ttou, SIGTTOU);
	pthread_sigmask(SIG_BLOCK, &ttou, &old);
	while (tcsetattr(STDIN_FILENO, TCSANOW, mode) && errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void give_back_at_once(void)
{
	if (state == TERMINAL_RAW) {
		state = TERMINAL_RESTORED;
		tcsetattr(STDIN_FILENO, TCSANOW, &original);
	}
}

static void died(int signal, siginfo_t *info, void *context)
{
	give_back_at_once();
	for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++)
		if (fatal[i] == signal)
			sigaction(signal, &before[i], NULL);
	/* A fault comes again when we return; what was sent by kill() does not. */
	raise(signal);
}

static void watch_fatal_signals(void)
{
	fatal_hook = give_back_at_once;
	for (unsigned i = 0; i < ARRAY_SIZE(fatal); i++) {
		sigaction(fatal[i], NULL, &before[i]);
		if (before[i].sa_handler != SIG_DFL)
			continue;
		struct sigaction ours = { .sa_sigaction = died, .sa_flags = SA_SIGINFO | SA_ONSTACK };
		sigfillset(&ours.sa_mask);
		sigaction(fatal[i], &ours, NULL);
	}
}

int terminal_raw(void)
{
	if (state == TERMINAL_UNTOUCHED) {
		if (tcgetattr(STDIN_FILENO, &original)) {
			int error = errno;
			log_error("the terminal: %s", strerror(error));
			return -error;
		}
		atexit(terminal_restore);
		watch_fatal_signals();
		if (isatty(STDERR_FILENO))
			log_info("the escape key is Ctrl-A: Ctrl-A h tells more, Ctrl-A x ends");
	}
	struct termios raw = original;
	cfmakeraw(&raw);
	raw.c_cc[VMIN] = 0; /* the reader polls; a byte that someone else took must not make it wait */
	raw.c_cc[VTIME] = 0;
	set_mode(&raw);
	state = TERMINAL_RAW;
	log_raw_terminal(true);
	return 0;
}

static void give_back(int new_state)
{
	if (state == TERMINAL_RAW) {
		set_mode(&original);
		log_raw_terminal(false);
	}
	if (state != TERMINAL_UNTOUCHED)
		state = new_state;
}

void terminal_restore(void)
{
	give_back(TERMINAL_RESTORED);
}

void terminal_suspend(void)
{
	if (state == TERMINAL_RAW)
		give_back(TERMINAL_SUSPENDED);
}

void terminal_resume(void)
{
	if (state == TERMINAL_SUSPENDED || state == TERMINAL_RAW)
		terminal_raw();
}

/* Reports are made of plain lines, which a raw terminal would print as a staircase. */
static void report(struct vm *vm, void (*print)(struct vm *))
{
	struct termios lines;
	bool raw = state == TERMINAL_RAW && !tcgetattr(STDIN_FILENO, &lines);
	vcpu_stop_all(vm);
	if (raw) {
		struct termios raw_mode = lines;
		lines.c_oflag |= OPOST | ONLCR;
		set_mode(&lines);
		log_raw_terminal(false);
		print(vm);
		log_raw_terminal(true);
		set_mode(&raw_mode);
	} else {
		print(vm);
	}
	vcpu_resume_all(vm);
}

static void print_stats(struct vm *vm)
{
	stats_print(vm, stderr);
}

static void print_registers(struct vm *vm)
{
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_dump(vm->vcpu[i]);
}

static void print_help(void)
{
	log_info("Ctrl-A x   end the machine");
	log_info("Ctrl-A r   reset it");
	log_info("Ctrl-A s   statistics");
	log_info("Ctrl-A d   registers of all processors");
	log_info("Ctrl-A b   send a break");
	log_info("Ctrl-A Ctrl-A   send Ctrl-A itself");
}

bool terminal_input(struct terminal_escape *escape, struct chardev *chardev, struct vm *vm, uint8_t byte)
{
	if (!escape->escaped) {
		escape->escaped = byte == ESCAPE_KEY;
		return !escape->escaped;
	}
	escape->escaped = false;
	switch (byte) {
	case ESCAPE_KEY:
		return true;
	case 'x':
		vm_finish(vm, VM_STOPPED, 0);
		break;
	case 'r':
		vm_reset_request(vm);
		break;
	case 's':
		report(vm, print_stats);
		break;
	case 'd':
		report(vm, print_registers);
		break;
	case 'b':
		event_post(chardev->sink, chardev->event + CHARDEV_BREAK, NULL, 0);
		break;
	default:
		print_help();
	}
	return false;
}
