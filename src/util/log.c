/* SPDX-License-Identifier: MIT */
/* Messages and traces: each is one line, written to stderr with one system call, so that threads do not mix theirs. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/bits.h"
#include "util/log.h"
#include "util/options.h"

#define LINE_MAX_BYTES 2048

unsigned trace_mask;
static atomic_bool raw_terminal;

static const char *const trace_names[] = {
#define TRACE(name, help) #name,
#include "util/trace.def"
};
static const char *const trace_help[] = {
#define TRACE(name, help) help,
#include "util/trace.def"
};

void log_raw_terminal(bool raw)
{
	raw_terminal = raw;
}

static _Thread_local char *diverted; /* log_error's text, or NULL */
static _Thread_local size_t diverted_size;

void log_divert(char *text, size_t size)
{
	diverted = text;
	diverted_size = size;
	if (text && size)
		text[0] = 0;
}

static void divert(const char *format, va_list args)
{
	size_t used = strlen(diverted);

	if (used)
		used += (size_t)snprintf(diverted + used, diverted_size - used, "; ");
	if (used < diverted_size)
		vsnprintf(diverted + used, diverted_size - used, format, args);
}

static void line(const char *prefix, const char *format, va_list args)
{
	char text[LINE_MAX_BYTES];
	size_t room = sizeof(text) - 2, used; /* the line end fits always */
	int n;

	used = (size_t)snprintf(text, room, "%s", prefix);
	n = vsnprintf(text + used, room - used, format, args);
	if (n > 0)
		used += MIN((size_t)n, room - used - 1);
	if (raw_terminal)
		text[used++] = '\r';
	text[used++] = '\n';
	for (size_t done = 0; done < used;) {
		ssize_t wrote = write(STDERR_FILENO, text + done, used - done);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return; /* nobody left to tell */
		done += (size_t)wrote;
	}
}

void log_error(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (diverted)
		divert(format, args);
	else
		line("doppel: ", format, args);
	va_end(args);
}

#define LOG_FUNCTION(name, prefix)                                                                                     \
	void name(const char *format, ...)                                                                             \
	{                                                                                                              \
		va_list args;                                                                                          \
		va_start(args, format);                                                                                \
		line(prefix, format, args);                                                                            \
		va_end(args);                                                                                          \
	}
LOG_FUNCTION(log_warn, "doppel: warning: ")
LOG_FUNCTION(log_info, "doppel: ")
#undef LOG_FUNCTION

void trace_print(enum trace_event event, const char *format, ...)
{
	char prefix[32];
	va_list args;

	snprintf(prefix, sizeof(prefix), "%s: ", trace_names[event]);
	va_start(args, format);
	line(prefix, format, args);
	va_end(args);
}

static void list_events(void)
{
	for (unsigned e = 0; e < TRACE_COUNT; e++)
		log_error("  %-10s %s", trace_names[e], trace_help[e]);
	log_error("  %-10s %s", "all", "all of them");
}

void trace_set(unsigned mask)
{
	__atomic_store_n(&trace_mask, mask, __ATOMIC_RELAXED);
}

int trace_parse(const char *list, unsigned *wanted)
{
	char word[32];
	unsigned mask = 0;

	while (option_word(&list, word, sizeof(word))) {
		unsigned e = 0;

		if (!strcmp(word, "all")) {
			mask = ~0u;
			continue;
		}
		while (e < TRACE_COUNT && strcmp(word, trace_names[e]))
			e++;
		if (e == TRACE_COUNT) {
			log_error("--trace knows no event '%s'; there are:", word);
			list_events();
			return -EINVAL;
		}
		mask |= 1u << e;
	}
	*wanted = mask;
	return 0;
}
