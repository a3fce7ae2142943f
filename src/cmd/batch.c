/* SPDX-License-Identifier: MIT */
/* doppel control: many requests to a machine over one connection, for scripts. The requests are those of docs/control.md. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd.h"
#include "control/control.h"
#include "util/log.h"

#define PATIENCE 30000 /* ms for an answer */

COMMAND(control, .summary = "Sends a machine requests that come on standard input", .usage = "NAME",
	.notes = "One request a line, such as \"engine interp\" or \"status\"; \"help\" lists them. Each is answered before the next one is\n"
		 "read: with its text on standard output, or with its error on standard error.\n"
		 "The exit status is 0 if there was no error.\n");

/* The status so far, or EXIT_HOST; -1: the machine is gone, or does not answer. */
static int serve(int fd, const char *name, const char *request)
{
	char *text = NULL;
	size_t size;
	int error = control_ask(fd, request);

	if (!error)
		error = control_hear(fd, strcmp(request, "wait") ? PATIENCE : -1, &text, &size);
	if (!error)
		fwrite(text, 1, size, stdout);
	else if (error == 1)
		log_error("machine %s: %s: %s", name, request, text);
	else
		log_error("machine %s: %s: %s", name, request, error == -ECONNRESET || error == -EPIPE ? "it has ended" : strerror(-error));
	fflush(stdout);
	free(text);
	return error < 0 ? -1 : error ? EXIT_HOST : EXIT_OK;
}

static int do_control(int argc, char **argv)
{
	const char *name;
	char *line = NULL;
	size_t room = 0;
	ssize_t length;
	int fd, result, status = command_operands(&control_command, NULL, argc, argv, &name, 1, 1);

	if (status >= 0)
		return status;
	status = EXIT_OK;
	fd = control_dial(name);
	if (fd < 0) {
		log_error("no machine named %s can be asked: %s; \"doppel list\" shows those that run", name, strerror(-fd));
		return EXIT_HOST;
	}
	while ((length = getline(&line, &room, stdin)) >= 0) {
		while (length && (line[length - 1] == '\n' || line[length - 1] == '\r'))
			line[--length] = 0;
		result = length ? serve(fd, name, line) : EXIT_OK;
		if (result)
			status = EXIT_HOST;
		if (result < 0)
			break;
	}
	free(line);
	close(fd);
	return status;
}
