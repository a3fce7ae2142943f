/* SPDX-License-Identifier: MIT */
/* Output on port E9h, checks, and the end through the debug-exit port. */
#include <stdarg.h>
#include "lib/console.h"

enum { CONSOLE = 0xe9, DEBUG_EXIT = 0xf4 };

static unsigned failures, checks;

void *memset(void *to, int byte, size_t size)
{
	void *at = to;
	asm volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
	return to;
}

void *memcpy(void *to, const void *from, size_t size)
{
	void *at = to;
	asm volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
	return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
	const uint8_t *x = a, *y = b;
	for (size_t i = 0; i < size; i++)
		if (x[i] != y[i])
			return x[i] - y[i];
	return 0;
}

word_t take_number(const char **text)
{
	word_t value = 0;

	while (**text == ' ')
		++*text;
	for (; **text >= '0' && **text <= '9'; ++*text)
		value = value * 10 + (word_t)(**text - '0');
	return value;
}

static void put(const char *text)
{
	while (*text)
		outb(CONSOLE, (uint8_t)*text++);
}

static void put_number(word_t value, unsigned base)
{
	char text[24], *at = text + sizeof(text) - 1;
	*at = 0;
	do {
		*--at = "0123456789abcdef"[value % base];
		value /= base;
	} while (value);
	put(at);
}

void print(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	for (; *format; format++) {
		if (*format != '%') {
			outb(CONSOLE, (uint8_t)*format);
			continue;
		}
		switch (*++format) {
		case 's':
			put(va_arg(list, const char *));
			break;
		case 'd': {
			int value = va_arg(list, int);
			if (value < 0)
				put("-");
			put_number(value < 0 ? -(word_t)value : (word_t)value, 10);
			break;
		}
		case 'l': /* %lx */
			format++;
			put_number(va_arg(list, word_t), 16);
			break;
		}
	}
	va_end(list);
}

const char *join(const char *a, const char *b)
{
	static char text[3][128];
	static unsigned next;
	char *to = text[next++ % 3], *end = to + sizeof(text[0]) - 1;
	char *at = to;
	while (*a && at < end)
		*at++ = *a++;
	while (*b && at < end)
		*at++ = *b++;
	*at = 0;
	return to;
}

void check_count(bool holds)
{
	checks++;
	failures += !holds;
}

void check(bool holds, const char *name)
{
	check_count(holds);
	print(holds ? "ok %s\n" : "not ok %s - does not hold\n", name);
}

void check_equal(word_t got, word_t want, const char *name)
{
	check_count(got == want);
	if (got == want)
		print("ok %s\n", name);
	else
		print("not ok %s - got %lx, want %lx\n", name, got, want);
}

void check_vector(int got, int want, const char *name)
{
	check_count(got == want);
	if (got == want)
		print("ok %s\n", name);
	else
		print("not ok %s - got vector %d, want %d\n", name, got, want);
}

void skip(const char *name, const char *why)
{
	print("skip %s - %s\n", name, why);
}

_Noreturn void guest_end(void)
{
	print("1..%d\n", (int)checks);
	outb(DEBUG_EXIT, failures || !checks);
	for (;;)
		asm volatile("cli; hlt");
}
