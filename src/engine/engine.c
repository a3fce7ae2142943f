/* SPDX-License-Identifier: MIT */
/* The engines that are linked in, in an order that does not depend on the linker, and the choice among them. */
#include <errno.h>
#include <string.h>
#include "engine/engine.h"
#include "util/log.h"

static bool before(const struct engine *a, const struct engine *b)
{
	return a->preference != b->preference ? a->preference > b->preference : strcmp(a->name, b->name) < 0;
}

const struct engine *engine_find(const char *name)
{
	SET_FOREACH(struct engine, e, engines)
		if (!strcmp(e->name, name))
			return e;
	return NULL;
}

const struct engine *engine_next(const struct engine *previous)
{
	const struct engine *next = NULL;

	SET_FOREACH(struct engine, e, engines)
		if ((!previous || before(previous, e)) && (!next || before(e, next)))
			next = e;
	return next;
}

int engine_check(const struct engine *engine, unsigned cpus, enum clock_mode clock, struct engine_report *report)
{
	*report = (struct engine_report){ 0 };
	if (engine->probe(report) || !report->usable)
		return -ENODEV;
	if (clock == CLOCK_INSTRUCTIONS && !(report->capabilities & ENGINE_COUNTS))
		snprintf(report->why, sizeof(report->why), "it does not count instructions, which --clock instructions needs");
	else if (cpus > 1 && clock != CLOCK_INSTRUCTIONS && !(report->capabilities & ENGINE_SMP))
		snprintf(report->why, sizeof(report->why), "it runs one processor only");
	else if (report->cpus_max && cpus > report->cpus_max)
		snprintf(report->why, sizeof(report->why), "it runs at most %u processor%s here", report->cpus_max,
			 report->cpus_max == 1 ? "" : "s");
	else
		return 0;
	return -EINVAL;
}

int engine_require(const struct engine *engine, unsigned cpus, enum clock_mode clock, struct engine_report *report)
{
	int error = engine_check(engine, cpus, clock, report);

	if (error)
		log_error(error == -ENODEV ? "engine %s cannot run here: %s" : "engine %s cannot run this machine: %s; --engine interp can", engine->name,
			  report->why);
	return error;
}

/* The preferred one, unless it turns out to be slower than another: a /dev/kvm without hardware behind it is. */
const struct engine *engine_default(unsigned cpus, enum clock_mode clock, char *why, size_t size)
{
	const struct engine *best = NULL;
	struct engine_report chosen = { 0 };
	char refused[256] = "";

	for (const struct engine *e = engine_next(NULL); e && e->preference; e = engine_next(e)) {
		struct engine_report report;
		size_t used = strlen(refused);
		bool usable = !engine_check(e, cpus, clock, &report);

		if (usable && (!best || report.mips > chosen.mips)) {
			if (best)
				snprintf(refused + used, sizeof(refused) - used, "; not %s: %s", best->name, chosen.why);
			best = e;
			chosen = report;
		} else if (!usable) {
			snprintf(refused + used, sizeof(refused) - used, "; not %s: %s", e->name, report.why);
		}
	}
	if (best)
		snprintf(why, size, "%s: %s%s", best->name, chosen.why, refused);
	else
		snprintf(why, size, "no engine can run here%s", refused);
	return best;
}
