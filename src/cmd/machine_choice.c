/* SPDX-License-Identifier: MIT */
/* Which engine and which processor model a command line asks for. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cmd/cmd.h"
#include "cmd/machine.h"
#include "engine/engine.h"
#include "util/log.h"

int machine_choose_engine(struct machine *m, const struct run_options *o)
{
	const struct engine *engine;
	const char *options = o->engine ? strchr(o->engine, ',') : NULL;
	char why[400] = "", name[64] = "auto";
	if (o->engine)
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(o->engine, ","), o->engine);
	if (strcmp(name, "auto")) {
		engine = engine_find(name);
	} else {
		engine = engine_default(o->cpus, (enum clock_mode)o->clock, why, sizeof(why));
		if (!engine) {
			log_error("%s", why);
			return EXIT_HOST;
		}
	}
	if (!engine) {
		const char *names[16];
		unsigned count = 0;
		for (const struct engine *e = engine_next(NULL); e && count < ARRAY_SIZE(names); e = engine_next(e))
			names[count++] = e->name;
		const char *nearest = option_nearest(name, names, count);
		log_error("there is no engine %s; %s%s%s", name, nearest ? "did you mean " : "\"doppel engines\" lists them",
			  nearest ? nearest : "", nearest ? "?" : "");
		return EXIT_USAGE;
	}
	if (options && !engine->check_options) {
		log_error("engine %s has no options, so there is nothing for %s to say", engine->name, options);
		return EXIT_USAGE;
	}
	if (options && engine->check_options(options + 1))
		return EXIT_USAGE;
	struct engine_report report;
	int error = engine_require(engine, (unsigned)o->cpus, (enum clock_mode)o->clock, &report);
	if (error)
		return command_status(error);
	if (why[0] && (o->engine || o->verbose || isatty(STDERR_FILENO))) /* who asks, or looks on, wants to know; a script's output stays what it was */
		log_info("engine %s", why);
	else if (o->verbose)
		log_info("engine %s: %s", engine->name, report.why);
	m->config.engine = engine->name;
	m->config.engine_options = options ? options + 1 : NULL;
	return EXIT_OK;
}

static void list_models(void)
{
	for (unsigned i = 0; i < x86_model_count; i++)
		printf("%-10s %s\n", x86_models[i].name, x86_models[i].summary);
	printf("\n+FEATURE adds one, -FEATURE takes one away, as in v2,-sse4.2,+aes:\n");
	unsigned column = 0;
	const char *text;
	for (unsigned row = 0; (text = x86_feature_text(&row));) {
		column += (unsigned)printf("%s%s", column ? " " : "  ", text);
		if (column > 70) {
			printf("\n");
			column = 0;
		}
	}
	printf("\n");
}

int machine_choose_model(struct machine *m, const struct run_options *o)
{
	char why[256];

	if (!strcmp(o->cpu, "help")) {
		list_models();
		return EXIT_OK;
	}
	m->config.model = &m->model;
	if (!x86_model_parse(&m->model, o->cpu, why, sizeof(why))) {
		if (*why)
			log_info("%s", why);
		return EXIT_OK;
	}
	log_error("%s", why);
	return EXIT_USAGE;
}
