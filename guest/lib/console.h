/* SPDX-License-Identifier: MIT */
/* Output on port E9h, checks, and the end through the debug-exit port: what guests of 32 and of 64 bits share. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long word_t; /* of the guest's width */

/* Knows %s, %d and %lx. */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* One check. A failure tells what was got and wanted. */
void check(bool holds, const char *name);
void check_equal(word_t got, word_t want, const char *name);
void check_vector(int got, int want, const char *name);
/* Counts a check whose line the caller prints. */
void check_count(bool holds);
/* a followed by b, in a buffer that lasts for the next two calls. */
const char *join(const char *a, const char *b);
/* Says that a check is left out, and why. */
void skip(const char *name, const char *why);
/* The decimal number that the text goes on with, behind spaces; moves the text on behind it. 0: there is none. */
word_t take_number(const char **text);
_Noreturn void guest_end(void);
void *memset(void *, int, size_t);
void *memcpy(void *, const void *, size_t);
int memcmp(const void *, const void *, size_t);

static inline void outb(uint16_t port, uint8_t value)
{
	asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
	uint8_t value;
	asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
static inline void outl(uint16_t port, uint32_t value)
{
	asm volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
static inline uint32_t inl(uint16_t port)
{
	uint32_t value;
	asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}
