/* SPDX-License-Identifier: MIT */
/* doppel version: which one this is. */
#include "cmd/cmd.h"

#define VERSION "0.1.0"

static const struct option_row options[] = { { .type = OPTION_END } };
static int version(int argc, char **argv);
static const struct command version_command = {
	.name = "version",
	.summary = "Prints the version",
	.usage = "",
	.options = options,
	.run = version,
};
COMMAND(version_command);

static int version(int argc, char **argv)
{
	int status = command_options(&version_command, NULL, argc, argv);
	if (status < 0) {
		puts("doppel " VERSION);
		status = EXIT_OK;
	}
	return status;
}
