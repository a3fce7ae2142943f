/* SPDX-License-Identifier: MIT */
/* doppel help: what there is, and how each sub-command is used. */
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

void command_overview(FILE *to)
{
	fputs("Usage: doppel COMMAND [OPTION]...\n\nRuns x86 virtual machines.\n\n", to);
	SET_FOREACH(struct command, command, commands) {
		fprintf(to, "  %-10s %s\n", command->name, command->summary);
	}
	fputs("\n\"doppel help COMMAND\" tells more.\n", to);
}

void command_help(const struct command *command)
{
	printf("Usage: doppel %s %s\n\n%s.\n\n", command->name, command->usage, command->summary);
	options_print(command->options, stdout);
	if (command->notes)
		printf("\n%s", command->notes);
}

int command_options(const struct command *command, void *object, int argc, char **argv)
{
	int result = options_parse(command->options, object, argc, argv);
	if (result == OPTIONS_HELP) {
		command_help(command);
		return EXIT_OK;
	}
	return result ? EXIT_USAGE : -1;
}

static const struct option_row options[] = { { .type = OPTION_END } };
static int help(int argc, char **argv);
static const struct command help_command = {
	.name = "help",
	.summary = "Shows how commands are used",
	.usage = "[COMMAND]",
	.options = options,
	.run = help,
};
COMMAND(help_command);

static int help(int argc, char **argv)
{
	const char *name;
	unsigned count;
	int result = options_parse_operands(options, NULL, argc, argv, &name, 1, &count);
	if (result == OPTIONS_HELP) {
		command_help(&help_command);
		return EXIT_OK;
	}
	if (result)
		return EXIT_USAGE;
	if (!count) {
		command_overview(stdout);
		return EXIT_OK;
	}
	const struct command *command = command_find(name);
	if (!command)
		return EXIT_USAGE;
	command_help(command);
	return EXIT_OK;
}
