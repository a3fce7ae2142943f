/* SPDX-License-Identifier: MIT */
/* What every machine can be asked through its control socket: how it is, to stand still and go on, to end, to start anew. */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "control/control.h"
#include "device/chips.h"
#include "engine/engine.h"
#include "util/log.h"
#include "vm/stats.h"

#define PM1_ENABLE 2      /* offset of PM1a_EN in the event block, ACPI 6.3, 4.8.3.1 */
#define PM1_PWRBTN BIT(8) /* PWRBTN_EN */

static uint64_t seconds_since(uint64_t began)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return ((uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec - began) / 1000000000ULL;
}

static int help(struct control *c, const char *arguments, struct control_answer *answer)
{
	SET_FOREACH(struct control_command, command, control_commands)
		fprintf(answer->out, "%s%s%s: %s\n", command->name, command->usage[0] ? " " : "", command->usage, command->summary);
	return 0;
}
static const struct control_command help_command = { "help", "", "what there is to be asked", help };
CONTROL_COMMAND(help_command);

static int status(struct control *c, const char *arguments, struct control_answer *answer)
{
	struct vm *vm = c->vm;

	fprintf(answer->out, "name %s\npid %d\nengine %s\ncpus %u\nmemory %lu\nstate %s\nuptime %lu\n", c->name, getpid(), vm->engine->name,
		vm->config.cpus, vm->config.memory, vm->end ? "ended" : vm->paused ? "paused" : "running", seconds_since(c->began));
	return 0;
}
static const struct control_command status_command = { "status", "", "name, process, engine, processors, bytes of memory, state, seconds since the start",
	status };
CONTROL_COMMAND(status_command);

static int pause_machine(struct control *c, const char *arguments, struct control_answer *answer)
{
	return vm_pause(c->vm) ? 0 : control_fail(answer, -EALREADY, "it is paused already");
}
static const struct control_command pause_command = { "pause", "", "stops processors, devices and time", pause_machine };
CONTROL_COMMAND(pause_command);

static int resume(struct control *c, const char *arguments, struct control_answer *answer)
{
	return vm_unpause(c->vm) ? 0 : control_fail(answer, -EALREADY, "it is not paused");
}
static const struct control_command resume_command = { "resume", "", "goes on after a pause", resume };
CONTROL_COMMAND(resume_command);

static int reset(struct control *c, const char *arguments, struct control_answer *answer)
{
	vm_reset_request(c->vm);
	return 0;
}
static const struct control_command reset_command = { "reset", "", "starts the machine anew, as its reset button does", reset };
CONTROL_COMMAND(reset_command);

/* A guest that has not enabled the event never sees the button. */
static bool button_heard(struct vm *vm, const struct device *power)
{
	uint16_t base = acpi_pm_base(power);
	uint64_t enabled;

	vcpu_stop_all(vm);
	enabled = base ? bus_read(vm, BUS_PORT, base + ACPI_PM1_EVENT + PM1_ENABLE, 2) : 0;
	vcpu_resume_all(vm);
	return enabled & PM1_PWRBTN;
}

static int stop(struct control *c, const char *arguments, struct control_answer *answer)
{
	struct device *power = device_find(c->vm, "acpi-pm");

	if (!strcmp(arguments, "now")) {
		vm_finish(c->vm, VM_STOPPED, 0);
		return 0;
	}
	if (arguments[0])
		return control_fail(answer, -EINVAL, "stop takes nothing, or \"now\"");
	if (c->vm->paused)
		return control_fail(answer, -EAGAIN, "it is paused, and nobody can press its power button; resume it, or stop it at once (--now)");
	if (!power || !button_heard(c->vm, power))
		return control_fail(answer, -ENOTSUP, "the guest does not listen to its power button: it runs no ACPI driver, or not yet; "
				    "stop it at once (--now)");
	event_post(power, ACPI_POWER_BUTTON, NULL, 0);
	return 0;
}
static const struct control_command stop_command = { "stop", "[now]", "presses the power button; now: ends the machine at once", stop };
CONTROL_COMMAND(stop_command);

static int wait_for_end(struct control *c, const char *arguments, struct control_answer *answer)
{
	control_answer_at_end(c);
	return 0;
}
static const struct control_command wait_command = { "wait", "", "answers when the machine has ended: how", wait_for_end };
CONTROL_COMMAND(wait_command);

static int stats(struct control *c, const char *arguments, struct control_answer *answer)
{
	vcpu_stop_all(c->vm);
	stats_print(c->vm, answer->out);
	vcpu_resume_all(c->vm);
	return 0;
}
static const struct control_command stats_command = { "stats", "", "the counters of run --stats", stats };
CONTROL_COMMAND(stats_command);

static int trace_events(struct control *c, const char *arguments, struct control_answer *answer)
{
	unsigned mask = 0;

	if (!arguments[0])
		return control_fail(answer, -EINVAL, "trace wants a list of events, as \"exit,irq\", or \"all\", or \"off\"");
	if (strcmp(arguments, "off") && trace_parse(arguments, &mask))
		return -EINVAL;
	trace_set(mask);
	return 0;
}
static const struct control_command trace_command = { "trace", "LIST", "prints these events to the machine's standard error from now on; \"off\": none", trace_events };
CONTROL_COMMAND(trace_command);
