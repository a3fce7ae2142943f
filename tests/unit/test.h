/* SPDX-License-Identifier: MIT */
/* What the unit tests share: one line a check, "ok TEXT", "not ok TEXT (FILE:LINE)" or "skip TEXT". */
#pragma once
#include <stdbool.h>
#include <stdio.h>

static unsigned test_failures;

#define ok(condition, ...) test_result((condition), __FILE__, __LINE__, __VA_ARGS__)
#define skip(...) (printf("skip "), printf(__VA_ARGS__), printf("\n"))

__attribute__((format(printf, 4, 5), unused)) static bool test_result(bool passed, const char *file, int line, const char *format, ...)
{
	__builtin_va_list args;
	__builtin_va_start(args, format);
	fputs(passed ? "ok " : "not ok ", stdout);
	vprintf(format, args);
	__builtin_va_end(args);
	if (passed)
		printf("\n");
	else
		printf(" (%s:%d)\n", file, line);
	fflush(stdout);
	test_failures += !passed;
	return passed;
}

/* What main returns. */
__attribute__((unused)) static int done(void)
{
	return test_failures ? 1 : 0;
}
