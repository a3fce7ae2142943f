/* SPDX-License-Identifier: MIT */
/* doppel list: the machines of this user that run, one a line. All are asked first and heard then, so that one that stands still does not keep
 * the others waiting. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd.h"
#include "control/control.h"
#include "util/log.h"

#define PATIENCE 1000 /* ms for an answer */
#define MACHINES_STEP 16

COMMAND(list, .summary = "Lists the machines that run", .notes = "The other commands take the name in the first column.\n");

struct row {
	char name[CONTROL_NAME_LONGEST + 1];
	int fd;              /* or -errno */
	char pid[24], engine[24], cpus[24], memory[24], state[24], uptime[24];
};

struct rows {
	struct row *row;
	size_t count, room;
};

static void add(const char *name, int fd, void *arg)
{
	struct rows *rows = arg;
	struct row row = { .fd = fd, .pid = "-", .engine = "-", .cpus = "-", .memory = "-", .state = "no answer", .uptime = "-" };

	snprintf(row.name, sizeof(row.name), "%s", name);
	if (fd >= 0) {
		snprintf(row.pid, sizeof(row.pid), "%d", control_peer(fd));
		control_ask(fd, "status");
	}
	if (rows->count == rows->room) {
		struct row *more = realloc(rows->row, (rows->room + MACHINES_STEP) * sizeof(row));
		if (!more) {
			if (fd >= 0)
				close(fd);
			return;
		}
		rows->row = more;
		rows->room += MACHINES_STEP;
	}
	rows->row[rows->count++] = row;
}

static void size_text(char *to, size_t size, const char *bytes)
{
	uint64_t value;
	char text[24];

	snprintf(to, size, "%s", option_number(bytes, &value) ? bytes : option_size_text(text, value));
}

static void time_text(char *to, size_t size, const char *seconds)
{
	uint64_t s = strtoull(seconds, NULL, 10);

	if (s < 24 * 3600)
		snprintf(to, size, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
	else
		snprintf(to, size, "%lud %lu:%02lu", s / 86400, s / 3600 % 24, s / 60 % 60);
}

/* "KEY VALUE" lines; what is not known is of a later version. */
static void parse(struct row *row, char *text)
{
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		char *value = strchr(line, ' ');
		if (!value)
			continue;
		*value++ = 0;
		if (!strcmp(line, "pid"))
			snprintf(row->pid, sizeof(row->pid), "%s", value);
		else if (!strcmp(line, "engine"))
			snprintf(row->engine, sizeof(row->engine), "%s", value);
		else if (!strcmp(line, "cpus"))
			snprintf(row->cpus, sizeof(row->cpus), "%s", value);
		else if (!strcmp(line, "memory"))
			size_text(row->memory, sizeof(row->memory), value);
		else if (!strcmp(line, "state"))
			snprintf(row->state, sizeof(row->state), "%s", value);
		else if (!strcmp(line, "uptime"))
			time_text(row->uptime, sizeof(row->uptime), value);
	}
}

/* False for one that ended meanwhile. */
static bool hear(struct row *row)
{
	char *text = NULL;
	size_t size;
	int error = row->fd < 0 ? row->fd : control_hear(row->fd, PATIENCE, &text, &size);

	if (!error)
		parse(row, text);
	free(text);
	if (row->fd >= 0)
		close(row->fd);
	return error != -ECONNRESET;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct row *)a)->name, ((const struct row *)b)->name);
}

static int do_list(int argc, char **argv)
{
	static const char format[] = "%-*s  %7s  %-8s %4s  %7s  %-9s  %s\n";
	struct rows rows = { .count = 0 };
	int status = command_options(&list_command, NULL, argc, argv), width = 4;
	size_t kept = 0;

	if (status >= 0)
		return status;
	control_each(add, &rows);
	for (size_t i = 0; i < rows.count; i++)
		if (hear(&rows.row[i]))
			rows.row[kept++] = rows.row[i];
	rows.count = kept;
	if (rows.count)
		qsort(rows.row, rows.count, sizeof(rows.row[0]), by_name);
	for (size_t i = 0; i < rows.count; i++)
		width = MAX(width, (int)strlen(rows.row[i].name));
	printf(format, width, "NAME", "PID", "ENGINE", "CPUS", "MEMORY", "STATE", "UPTIME");
	for (size_t i = 0; i < rows.count; i++) {
		const struct row *r = &rows.row[i];
		printf(format, width, r->name, r->pid, r->engine, r->cpus, r->memory, r->state, r->uptime);
	}
	free(rows.row);
	return EXIT_OK;
}
