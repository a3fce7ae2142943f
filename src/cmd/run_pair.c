/* SPDX-License-Identifier: MIT */
/* doppel run --verify: two machines of one command line, one by the engine in question and one by the interpreter, for verify.c to compare. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "cmd/verify.h"
#include "util/log.h"

struct pair {
	struct machine verified, reference;
	const struct machine *like; /* what both start as */
	const struct run_options *options;
};

static int make_pair(void *arg, struct vm *vm[2], bool quiet)
{
	struct pair *p = arg;
	struct run_options silent = *p->options, loud = *p->options;
	silent.serial = (struct option_list){ { "none" }, 1 };
	silent.debugcon = silent.bios_log = NULL;
	p->verified = p->reference = *p->like;
	p->reference.config.engine = VERIFY_REFERENCE;
	int status = machine_read(&p->verified, p->options);
	if (!status)
		status = machine_set_up(&p->verified, quiet ? &silent : &loud);
	if (!status)
		status = machine_read(&p->reference, p->options);
	if (!status)
		status = machine_set_up(&p->reference, &silent);
	vm[0] = p->verified.vm;
	vm[1] = p->reference.vm;
	return status;
}

static void unmake_pair(void *arg)
{
	struct pair *p = arg;
	machine_tear_down(&p->verified);
	machine_tear_down(&p->reference);
}

/* Standard input stays out of it: it would come to one machine only. */
int run_pair(const struct machine *m, const struct run_options *o)
{
	struct pair p = { .like = m, .options = o };
	const struct verify_maker maker = { make_pair, unmake_pair, &p };
	enum vm_end end = VM_KILLED;
	uint64_t value = 0;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0) {
		log_error("/dev/null: %s", strerror(errno));
		return EXIT_HOST;
	}
	close(null);
	int status = verify_run(&maker, o->verify_every, &end, &value);
	if (!status)
		status = end == VM_DEBUG_EXIT ? (int)(value & 0xff) : end == VM_CRASHED ? EXIT_CRASHED : end == VM_KILLED ? EXIT_KILLED : EXIT_OK;
	unmake_pair(&p);
	return status;
}
