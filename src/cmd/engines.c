/* SPDX-License-Identifier: MIT */
/* doppel engines: which engines there are, and what this host says to each. */
#include <string.h>
#include "cmd/cmd.h"
#include "engine/engine.h"
#include "engine/measure.h"
#include "util/log.h"

COMMAND(engines, .summary = "Lists the engines, and which of them this host can run",
	.notes = "One line an engine: its name, \"yes\" or \"no\", its speed, and what it is or what it lacks here.\n"
		 "The speed is measured, a tenth of a second each: million instructions a second of a loop\n"
		 "in 64-bit code. The last line says which one \"doppel run\" takes by itself, and why.\n");

static int do_engines(int argc, char **argv)
{
	int status = command_options(&engines_command, NULL, argc, argv), width = 0;
	char why[400];
	if (status >= 0)
		return status;
	for (const struct engine *e = engine_next(NULL); e; e = engine_next(e))
		width = MAX(width, (int)strlen(e->name));
	for (const struct engine *e = engine_next(NULL); e; e = engine_next(e)) {
		struct engine_report report = { 0 };
		char speed[24] = "";
		if (e->probe(&report))
			report.usable = false;
		if (report.usable && report.mips)
			snprintf(speed, sizeof(speed), "%.0f MIPS", engine_measure(e, NULL));
		printf("%-*s  %-3s  %10s  %s\n", width, e->name, report.usable ? "yes" : "no", speed, report.why[0] ? report.why : e->summary);
		fflush(stdout);
	}
	if (engine_default(1, CLOCK_HOST, why, sizeof(why)))
		printf("\ndoppel run takes %s\n", why);
	return EXIT_OK;
}
