/* SPDX-License-Identifier: MIT */
/* The control command that hands a machine's processors to another engine while the guest runs. */
#include <errno.h>
#include <string.h>
#include "control/control.h"
#include "engine/engine.h"
#include "util/options.h"

#define NAMES 16

static int unknown(const char *name, struct control_answer *answer)
{
	const char *names[NAMES];
	const char *nearest;
	unsigned count = 0;

	for (const struct engine *e = engine_next(NULL); e && count < NAMES; e = engine_next(e))
		names[count++] = e->name;
	nearest = option_nearest(name, names, count);
	if (nearest)
		return control_fail(answer, -ENOENT, "there is no engine %s; did you mean %s?", name, nearest);
	return control_fail(answer, -ENOENT, "there is no engine %s; \"doppel engines\" lists them", name);
}

static int engine(struct control *c, const char *arguments, struct control_answer *answer)
{
	const char *options = strchr(arguments, ',');
	char name[64];
	const struct engine *from = c->vm->engine, *to;
	uint64_t ns;
	int error;

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(arguments, ","), arguments);
	to = engine_find(name);
	if (!arguments[0]) {
		fprintf(answer->out, "%s\n", from->name);
		return 0;
	}
	if (!to)
		return unknown(name, answer);
	error = vm_engine_switch_with(c->vm, to, options ? options + 1 : NULL, &ns);
	if (error == -EALREADY)
		return control_fail(answer, error, "it runs with engine %s already", to->name);
	if (!error)
		fprintf(answer->out, "engine %s, was %s; nothing ran for %.3f ms\n", to->name, from->name, (double)ns / 1e6);
	return error;
}
static const struct control_command engine_command = { "engine", "[NAME[,OPTION...]]", "which engine it has; with a name: hands the processors to another", engine };
CONTROL_COMMAND(engine_command);
