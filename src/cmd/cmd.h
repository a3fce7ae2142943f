/* SPDX-License-Identifier: MIT */
/* Sub-commands: each is one file in src/cmd/, which puts its struct command into a linker set. */
#pragma once
#include <errno.h>
#include "util/options.h"
#include "util/set.h"

enum exit_status { /* of the program; a guest's debug-exit gives odd numbers of its own */
	EXIT_OK = 0,
	EXIT_HOST = 1,      /* the host could not do what was asked */
	EXIT_USAGE = 2,     /* the command line is wrong */
	EXIT_CRASHED = 3,   /* the guest: triple fault */
	EXIT_KILLED = 4,    /* the monitor could not go on with this guest */
	EXIT_SIGNAL = 128,  /* + the signal that ended us */
};

/* The status for an error of opening what an option names: are the option's words wrong (-EINVAL), or does the host not give what they name? */
static inline int command_status(int error)
{
	return !error ? EXIT_OK : error == -EINVAL ? EXIT_USAGE : EXIT_HOST;
}

struct command {
	const char *name, *summary;
	const char *usage;                /* what follows the name: "[OPTION]..."; NULL: nothing */
	const struct option_row *options; /* NULL: only --help */
	const char *notes;                /* printed below the options; NULL: none */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};
SET_DECLARE(struct command, commands);
/* COMMAND(pause, .summary = "Pauses a machine", ...): the command, which do_pause(argc, argv) carries out; itself it is pause_command. */
#define COMMAND(name_, ...)                                                                                            \
	static int do_##name_(int argc, char **argv);                                                                  \
	static const struct command name_##_command = { .name = #name_, .run = do_##name_, __VA_ARGS__ };              \
	SET_ADD(struct command, commands, name_##_command)

/* help.c -- NULL after an error with a suggestion. */
const struct command *command_find(const char *name);
/* What `doppel help COMMAND` shows. */
void command_help(const struct command *);
/* What `doppel help` shows. */
void command_overview(FILE *);
/* For a command's run: parses, without operands, or with so many of them, which go to `words`; those that are not given are NULL. Returns -1 to go on,
 * or the exit status (after --help or an error). */
int command_options(const struct command *, void *object, int argc, char **argv);
int command_operands(const struct command *, void *object, int argc, char **argv, const char **words, unsigned least, unsigned most);
