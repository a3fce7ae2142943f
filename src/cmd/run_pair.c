/* SPDX-License-Identifier: MIT */
/* doppel run --verify: two machines of one command line, one by the engine in question and one by the interpreter, for verify.c to compare.
 *
 * The first has what the host has to give: the terminal, networks, a display, the control socket. The second, and both when they run again to find
 * a difference, look the same to the guest, but nobody hears them, and what comes in is what the first was given. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "backend/net.h"
#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "cmd/run_signals.h"
#include "cmd/screen.h"
#include "cmd/verify.h"
#include "control/control.h"
#include "util/log.h"
#include "vm/stats.h"

struct pair {
	struct machine verified, reference;
	const struct machine *like; /* what both start as */
	const struct run_options *options;
	unsigned offload[CARD_EACH]; /* what the first machine's networks take and give */
	struct control control;
	struct signals signals;
	bool open, watched;          /* control and signals are there */
};

static int make_one(struct machine *m, const struct run_options *o)
{
	int status = machine_read(m, o);
	return status ? status : machine_set_up(m, o);
}

/* What comes from outside may come from here on. */
static int open_up(struct pair *p)
{
	struct machine *m = &p->verified;
	const struct run_options *o = p->options;
	char why[512];
	if (o->name) {
		p->open = true;
		if (control_open(&p->control, m->vm, o->name))
			return EXIT_HOST;
	} else {
		log_divert(why, sizeof(why));
		p->open = !control_open(&p->control, m->vm, m->config.name);
		log_divert(NULL, 0);
	}
	if (o->paused)
		vm_pause(m->vm);
	p->watched = !signals_start(&p->signals, m->vm, o, &m->screen);
	return !p->watched || display_start(m->display, &m->screen, m->config.name) ? EXIT_HOST : EXIT_OK;
}

static int make_pair(void *arg, struct vm *vm[2], const struct input_taker *taker)
{
	struct pair *p = arg;
	struct run_options silent = *p->options;
	silent.display = NULL;
	silent.cards.offload = p->offload;
	p->verified = p->reference = *p->like;
	p->reference.config.engine = VERIFY_REFERENCE;
	p->reference.config.engine_options = NULL;
	if (taker)
		p->verified.config.taker = *taker;
	int status = make_one(&p->verified, taker ? p->options : &silent);
	for (unsigned n = 0; n < CARD_EACH && taker && !status; n++)
		p->offload[n] = p->verified.cards.net[n] ? p->verified.cards.net[n]->offload : 0;
	if (!status)
		status = make_one(&p->reference, &silent);
	vm[0] = p->verified.vm;
	vm[1] = p->reference.vm;
	return !status && taker ? open_up(p) : status;
}

static void drain_pair(void *arg)
{
	struct pair *p = arg;
	machine_drain(&p->verified);
	if (p->options->stats)
		stats_print(p->verified.vm, stderr);
	if (p->options->hash)
		fprintf(stderr, "hash %016lx\n", vm_hash(p->verified.vm));
	screen_save(&p->verified.screen, p->options->screenshot, p->options->screen_text);
}

static void unmake_pair(void *arg)
{
	struct pair *p = arg;
	if (p->watched) {
		signals_stop(&p->signals);
		pthread_sigmask(SIG_UNBLOCK, &p->signals.set, NULL); /* the search for a difference ends by Ctrl-C at once */
	}
	if (p->open)
		control_close(&p->control);
	p->watched = p->open = false;
	machine_tear_down(&p->verified);
	machine_tear_down(&p->reference);
	p->verified = p->reference = (struct machine){ 0 };
}

/* May anything come in but by the control socket? Standard input may be a terminal, or what another program writes to. */
static bool may_hear(const struct run_options *o)
{
	struct stat s;
	bool reads = !o->serial.count;
	for (unsigned n = 0; n < o->serial.count; n++) {
		if (!strcmp(o->serial.item[n], "pty"))
			return true;
		reads |= !strcmp(o->serial.item[n], "stdio");
	}
	if (o->name || o->cards.net.count || o->cards.console.count || (o->display && strcmp(o->display, "none")))
		return true;
	return reads && !fstat(STDIN_FILENO, &s) && (isatty(STDIN_FILENO) || S_ISFIFO(s.st_mode) || S_ISSOCK(s.st_mode));
}

int run_pair(const struct machine *m, const struct run_options *o)
{
	struct pair p = { .like = m, .options = o };
	const struct verify_maker maker = { .make = make_pair, .drain = drain_pair, .unmake = unmake_pair, .arg = &p, .awaits = may_hear(o) };
	enum vm_end end = VM_KILLED;
	uint64_t value = 0;
	signals_hold(&p.signals);
	int status = verify_run(&maker, o->verify_every, &end, &value);
	if (!status)
		status = end == VM_DEBUG_EXIT || end == VM_STOPPED ? (int)(value & 0xff)
			 : end == VM_CRASHED ? EXIT_CRASHED : end == VM_KILLED ? EXIT_KILLED : EXIT_OK;
	return status;
}
