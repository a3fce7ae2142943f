/* SPDX-License-Identifier: MIT */
/* doppel help: what there is, and how each sub-command is used. */
#include <stdlib.h>
#include <string.h>
#include "cmd/cmd.h"
#include "util/log.h"

#define COMMANDS_MAX 32

const struct command *command_find(const char *name)
{
	const char *names[COMMANDS_MAX];
	unsigned count = 0;
	SET_FOREACH(struct command, command, commands) {
		if (!strcmp(command->name, name))
			return command;
		if (count < COMMANDS_MAX)
			names[count++] = command->name;
	}
	const char *nearest = option_nearest(name, names, count);
	if (nearest)
		log_error("there is no command %s; did you mean \"doppel %s\"?", name, nearest);
	else
		log_error("there is no command %s; \"doppel help\" lists them", name);
	return NULL;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct command *const *)a)->name, (*(const struct command *const *)b)->name);
}

/* In the order of names: that of the set is the linker's. */
void command_overview(FILE *to)
{
	const struct command *all[COMMANDS_MAX];
	unsigned count = 0;
	SET_FOREACH(struct command, command, commands) {
		if (count < COMMANDS_MAX)
			all[count++] = command;
	}
	qsort(all, count, sizeof(all[0]), by_name);
	fputs("Usage: doppel COMMAND [OPTION]...\n\nRuns x86 virtual machines.\n\n", to);
	for (unsigned i = 0; i < count; i++)
		fprintf(to, "  %-10s %s\n", all[i]->name, all[i]->summary);
	fputs("\n\"doppel help COMMAND\" tells more.\n", to);
}

static const struct option_row *options_of(const struct command *command)
{
	static const struct option_row none[] = { { .type = OPTION_END } };

	return command->options ? command->options : none;
}

void command_help(const struct command *command)
{
	printf("Usage: doppel %s %s\n\n%s.\n\n", command->name, command->usage ? command->usage : "", command->summary);
	options_print(options_of(command), stdout);
	if (command->notes)
		printf("\n%s", command->notes);
}

int command_options(const struct command *command, void *object, int argc, char **argv)
{
	return command_operands(command, object, argc, argv, NULL, 0, 0);
}

int command_operands(const struct command *command, void *object, int argc, char **argv, const char **words, unsigned least, unsigned most)
{
	unsigned count = 0;
	int result = options_parse_operands(options_of(command), object, argc, argv, words, most, &count);
	if (result == OPTIONS_HELP) {
		command_help(command);
		return EXIT_OK;
	}
	if (result)
		return EXIT_USAGE;
	for (unsigned i = count; i < most; i++)
		words[i] = NULL;
	if (count >= least)
		return -1;
	log_error("%s wants %s; usage: doppel %s %s", command->name, count ? "more" : "the name of a machine (\"doppel list\" shows them)",
		  command->name, command->usage);
	return EXIT_USAGE;
}

COMMAND(help, .summary = "Shows how commands are used", .usage = "[COMMAND]");

static int do_help(int argc, char **argv)
{
	const char *name;
	int status = command_operands(&help_command, NULL, argc, argv, &name, 0, 1);
	if (status >= 0)
		return status;
	if (!name) {
		command_overview(stdout);
		return EXIT_OK;
	}
	const struct command *command = command_find(name);
	if (!command)
		return EXIT_USAGE;
	command_help(command);
	return EXIT_OK;
}
