/* SPDX-License-Identifier: MIT */
/* Messages to the person at the terminal. Everything goes to stderr; the guest's console owns stdout. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* log.c -- callable from any thread. Each prints one line "doppel: ..."; while a terminal is raw the line end
 * is "\r\n" (log_raw_terminal tells). An error says what went wrong and what the user can do. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_raw_terminal(bool raw);
/* What log_error says on this thread is added to text instead, a sentence behind the other; NULL: to stderr again. For who acts for a person
 * elsewhere. */
void log_divert(char *text, size_t size);

/* Events a user asked for with --trace LIST ("exit,irq,io", "all"). A trace point costs one test of a flag. */
enum trace_event {
#define TRACE(name, help) TRACE_##name,
#include "util/trace.def"
	TRACE_COUNT
};
extern unsigned trace_mask; /* bit i: event i is wanted; trace_set may write it at any time */

#define trace_on(event) __builtin_expect(__atomic_load_n(&trace_mask, __ATOMIC_RELAXED) & (1u << TRACE_##event), 0)
#define trace(event, ...)                                                                                              \
	do {                                                                                                           \
		if (trace_on(event))                                                                                   \
			trace_print(TRACE_##event, __VA_ARGS__);                                                       \
	} while (0)
void trace_print(enum trace_event, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Parses "exit,irq", or "all", into a mask; returns 0, or -EINVAL after an error that names the events there are. */
int trace_parse(const char *list, unsigned *mask);
/* Any thread: these events from now on. */
void trace_set(unsigned mask);
