/* SPDX-License-Identifier: MIT */
/* Sub-commands: each is one file in src/cmd/, which puts its struct command into a linker set. */
#pragma once
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

struct command {
	const char *name, *summary;
	const char *usage;                /* what follows the name: "[OPTION]..." */
	const struct option_row *options; /* for --help */
	const char *notes;                /* printed below the options; NULL: none */
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};
SET_DECLARE(struct command, commands);
#define COMMAND(object) SET_ADD(struct command, commands, object)

/* help.c -- NULL after an error with a suggestion. */
const struct command *command_find(const char *name);
/* What `doppel help COMMAND` shows. */
void command_help(const struct command *);
/* What `doppel help` shows. */
void command_overview(FILE *);
/* For a command's run: parses without operands. Returns -1 to go on, or the exit status (after --help or an error). */
int command_options(const struct command *, void *object, int argc, char **argv);
