/* SPDX-License-Identifier: MIT */
/* doppel pause, resume, reset, stats, balloon, engine, trace, stop, screen, screenshot, keys: ask a machine that runs to do something, through its control socket. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backend/picture.h"
#include "cmd/cmd.h"
#include "control/control.h"
#include "util/file.h"
#include "util/log.h"

#define PATIENCE 30000 /* ms for an answer: every request is answered at once, but a host may be busy */
#define STOP_PATIENCE 60
#define TIMEOUT_MOST 1000000

/* Prints the answer. */
static int call(const char *name, const char *request, const char *argument)
{
	char *text;
	size_t size;
	int error = control_call(name, PATIENCE, &text, &size, "%s%s%s", request, argument ? " " : "", argument ? argument : "");

	if (!error)
		fwrite(text, 1, size, stdout);
	free(text);
	return error ? EXIT_HOST : EXIT_OK;
}

static int simple(const struct command *command, int argc, char **argv)
{
	const char *name;
	int status = command_operands(command, NULL, argc, argv, &name, 1, 1);

	return status >= 0 ? status : call(name, command->name, NULL);
}

#define SIMPLE(name_, ...)                                                                                             \
	COMMAND(name_, .usage = "NAME", __VA_ARGS__);                                                                  \
	static int do_##name_(int argc, char **argv)                                                                   \
	{                                                                                                              \
		return simple(&name_##_command, argc, argv);                                                           \
	}

SIMPLE(pause, .summary = "Pauses a machine",
       .notes = "Its processors and devices stand still, and so does its time: when it is resumed, it does not notice.\n")
SIMPLE(resume, .summary = "Resumes a machine that is paused")
SIMPLE(reset, .summary = "Resets a machine",
       .notes = "As the reset button of a computer does: the guest is not asked. A machine that is paused does it when it is resumed.\n")
SIMPLE(stats, .summary = "Prints the counters of a machine", .notes = "The same as \"doppel run --stats\" prints at the end.\n")
SIMPLE(screen, .summary = "Prints the text on a machine's screen",
       .notes = "UTF-8, a line for each row. In a graphics mode there is one line in parentheses, which says so.\n")

/* --- screenshot --- */

COMMAND(screenshot, .summary = "Takes a picture of a machine's screen", .usage = "NAME FILE",
	.notes = "The end of the file's name says its format: .png or .ppm.\n");

static int do_screenshot(int argc, char **argv)
{
	const char *words[2], *dot;
	char *data = NULL;
	size_t size;
	int status = command_operands(&screenshot_command, NULL, argc, argv, words, 2, 2), error;

	if (status >= 0)
		return status;
	if (picture_check_name(words[1]))
		return EXIT_USAGE;
	dot = strrchr(words[1], '.');
	error = control_call(words[0], PATIENCE, &data, &size, "screenshot %s", dot);
	if (!error)
		error = file_replace(words[1], data, size);
	free(data);
	return error ? EXIT_HOST : EXIT_OK;
}

/* --- keys --- */

COMMAND(keys, .summary = "Types on a machine's keyboard", .usage = "NAME TEXT",
	.notes = "A key is a character of a US keyboard, or a name in angle brackets: <ret>, <esc>, <tab>, <bs>, <del>, <up>, <f2>, <lt> for\n"
		 "\"<\", ...; with c-, a-, s- or w- before it Ctrl, Alt, Shift or the Windows key is held: <c-a-del>, <c-x>.\n"
		 "They are typed as fast as the guest takes them.\n");

/* A request is one line, without blanks around its arguments. */
static char *one_line(const char *text)
{
	char *line = NULL;
	size_t size;
	FILE *out = open_memstream(&line, &size);

	for (; out && *text; text++) {
		if (*text == ' ')
			fputs("<spc>", out);
		else if (*text == '\n')
			fputs("<ret>", out);
		else if (*text == '\t')
			fputs("<tab>", out);
		else
			putc(*text, out);
	}
	if (out)
		fclose(out);
	return line;
}

static int do_keys(int argc, char **argv)
{
	const char *words[2];
	int status = command_operands(&keys_command, NULL, argc, argv, words, 2, 2);
	char *line;

	if (status >= 0)
		return status;
	line = one_line(words[1]);
	status = line ? call(words[0], "keys", line) : EXIT_HOST;
	free(line);
	return status;
}

/* --- balloon --- */

COMMAND(balloon, .summary = "Asks a machine's guest to give memory back", .usage = "NAME [SIZE]",
	.notes = "SIZE is how much of its memory the guest is to do without, as 256M; 0: it gets all back. Without SIZE: how many bytes it has given.\n"
		 "The machine must have been started with --balloon.\n");

static int do_balloon(int argc, char **argv)
{
	const char *words[2] = { NULL };
	int status = command_operands(&balloon_command, NULL, argc, argv, words, 1, 2);

	return status >= 0 ? status : call(words[0], "balloon", words[1]);
}

/* --- engine --- */

COMMAND(engine, .summary = "Hands a machine's processors to another engine while it runs", .usage = "NAME [ENGINE[,OPTION...]]",
	.notes = "Prints for how long nothing ran. \"doppel engines\" lists them; without ENGINE: which one the machine has.\n"
		 "Options are those of \"doppel run --engine\", when the machine comes to that engine for the first time.\n");

static int do_engine(int argc, char **argv)
{
	const char *words[2] = { NULL };
	int status = command_operands(&engine_command, NULL, argc, argv, words, 1, 2);

	return status >= 0 ? status : call(words[0], "engine", words[1]);
}

/* --- trace --- */

COMMAND(trace, .summary = "Has a machine print events as they happen", .usage = "NAME LIST",
	.notes = "As \"doppel run --trace LIST\" does, to the standard error of that; \"off\" ends it.\n");

static int do_trace(int argc, char **argv)
{
	const char *words[2];
	int status = command_operands(&trace_command, NULL, argc, argv, words, 2, 2);

	return status >= 0 ? status : call(words[0], "trace", words[1]);
}

/* --- stop --- */

struct stop_options {
	uint64_t timeout;
	bool now;
};

#define AT(member) offsetof(struct stop_options, member)
static const struct option_row stop_options[] = {
	{ "now", NULL, "at once, as if it were unplugged", OPTION_FLAG, AT(now), 0, 0 },
	{ "timeout", "SECONDS", "wait so long for the guest, then end it at once\n(default: wait 60 s, then give up)", OPTION_NUMBER, AT(timeout), 0,
	  TIMEOUT_MOST },
	{ .type = OPTION_END },
};
#undef AT
COMMAND(stop, .summary = "Shuts a machine down", .usage = "NAME [OPTION]...",
	.options = stop_options,
	.notes = "Presses the power button, and returns when the machine has ended.\n");

/* The guest had its time. It may end by itself just now. */
static void end_at_once(const char *name)
{
	char *text = NULL;
	size_t size;
	int fd = control_dial(name);

	if (fd < 0)
		return;
	if (!control_ask(fd, "stop now"))
		control_hear(fd, PATIENCE, &text, &size);
	free(text);
	close(fd);
}

/* 0: it has ended; 1: it has not; or -errno after log_error. */
static int await_end(int fd, int timeout)
{
	char *text;
	size_t size;
	int error = control_hear(fd, timeout, &text, &size);

	free(text);
	return error == -ECONNRESET ? 0 : error == -ETIMEDOUT ? 1 : error;
}

static int do_stop(int argc, char **argv)
{
	struct stop_options o = { .timeout = UINT64_MAX };
	const char *name;
	int status = command_operands(&stop_command, &o, argc, argv, &name, 1, 1), fd, error;
	bool forced = o.now;

	if (status >= 0)
		return status;
	fd = control_dial(name);
	if (fd >= 0)
		control_ask(fd, "wait"); /* first: the machine may end faster than we can ask */
	status = call(name, "stop", forced ? "now" : NULL);
	if (status && fd >= 0 && !forced && o.timeout != UINT64_MAX) { /* the guest cannot be asked, so it needs no time */
		o.timeout = 0;
		status = EXIT_OK;
	}
	if (status || fd < 0)
		goto out;
	error = await_end(fd, 1000 * (int)(forced || o.timeout == UINT64_MAX ? STOP_PATIENCE : o.timeout));
	if (error == 1 && !forced && o.timeout != UINT64_MAX) {
		forced = true;
		end_at_once(name);
		error = await_end(fd, 1000 * STOP_PATIENCE);
	}
	if (error) {
		status = EXIT_HOST;
		if (error == 1)
			log_error("machine %s still runs after %d s%s", name, STOP_PATIENCE, forced ? "" : "; --now ends it at once");
		else
			log_error("machine %s: %s", name, strerror(-error));
	}
out:
	if (fd >= 0)
		close(fd);
	return status;
}
