/* SPDX-License-Identifier: MIT */
/* doppel version: which one this is. */
#include "cmd/cmd.h"

#define VERSION "0.1.0"

COMMAND(version, .summary = "Prints the version");

static int do_version(int argc, char **argv)
{
	int status = command_options(&version_command, NULL, argc, argv);
	if (status < 0) {
		puts("doppel " VERSION);
		status = EXIT_OK;
	}
	return status;
}
