/* SPDX-License-Identifier: MIT */
/* doppel engines: which engines there are, and what this host says to each. */
#include <string.h>
#include "cmd/cmd.h"
#include "engine/engine.h"
#include "util/log.h"

static const struct option_row options[] = { { .type = OPTION_END } };
static int engines(int argc, char **argv);
static const struct command engines_command = {
	.name = "engines",
	.summary = "Lists the engines, and which of them this host can run",
	.usage = "",
	.options = options,
	.notes = "One line an engine: its name, \"yes\" or \"no\", and what it is or what it lacks here.\n"
		 "The first one with a \"yes\" is the one that \"doppel run\" takes by itself.\n",
	.run = engines,
};
COMMAND(engines_command);

static int engines(int argc, char **argv)
{
	int status = command_options(&engines_command, NULL, argc, argv), width = 0;
	if (status >= 0)
		return status;
	for (const struct engine *e = engine_next(NULL); e; e = engine_next(e))
		width = MAX(width, (int)strlen(e->name));
	for (const struct engine *e = engine_next(NULL); e; e = engine_next(e)) {
		struct engine_report report = { 0 };
		if (e->probe(&report))
			report.usable = false;
		printf("%-*s  %-3s  %s\n", width, e->name, report.usable ? "yes" : "no", report.why[0] ? report.why : e->summary);
	}
	return EXIT_OK;
}
