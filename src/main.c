/* SPDX-License-Identifier: MIT */
/* The program: finds the sub-command and runs it. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "cmd/cmd.h"
#include "util/log.h"

/* A standard descriptor that is closed would be given to the next file that is opened, guest memory for one, and what is meant for the
 * terminal would land there. The stand-in cannot be written to, so that output is still missed where it matters. */
static void fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", O_RDONLY);
}

int main(int argc, char **argv)
{
	fill_standard_descriptors();
	/* A reader of our output that goes away is a write error, which is handled where it is seen. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* beyond ulimit -f, which counts for the guest's RAM, too: the call says so */
	if (argc < 2) {
		command_overview(stderr);
		return EXIT_USAGE;
	}
	const char *name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	else if (!strcmp(name, "--version"))
		name = "version";
	else if (name[0] == '-') {
		log_error("%s: a command comes first, as in \"doppel run\"; \"doppel help\" lists them", name);
		return EXIT_USAGE;
	}
	const struct command *command = command_find(name);
	if (!command)
		return EXIT_USAGE;
	int status = command->run(argc - 1, argv + 1);
	if (fflush(stdout) && !status) {
		log_error("standard output: %m");
		return EXIT_HOST;
	}
	return status;
}
