/* SPDX-License-Identifier: MIT */
/* A program for tests/boot/verify.sh that the system puts elsewhere each time it starts. Prints a number that is always the same, and where it is. */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	return *(const unsigned *)a < *(const unsigned *)b ? -1 : *(const unsigned *)a > *(const unsigned *)b;
}

static unsigned one(unsigned x) { return x * 2654435761u; }
static unsigned two(unsigned x) { return x ^ x >> 7; }
static unsigned three(unsigned x) { return x + (unsigned)strlen("some text that is found relative to RIP"); }
static unsigned (*const functions[])(unsigned) = { one, two, three };

static jmp_buf home;

static void away(unsigned n)
{
	if (n > 20)
		longjmp(home, (int)n);
	away(n + 1);
}

int main(void)
{
	static unsigned values[500];
	unsigned sum = 1;
	long double x = 1;
	char text[64];

	for (unsigned n = 0; n < 500; n++) {
		sum = functions[n % 3](sum + n);
		values[n] = sum;
		x = x * 1.01L + sqrtl((long double)n);
	}
	qsort(values, 500, sizeof(*values), compare);
	for (unsigned n = 0; n < 500; n++)
		sum = sum * 31 + values[n];
	snprintf(text, sizeof(text), "%.12Lg %g", x, (double)x / 3);
	for (const char *c = text; *c; c++)
		sum = sum * 31 + (unsigned char)*c;
	if (!setjmp(home))
		away(0);
	printf("%u %p\n", sum, (void *)main);
	return 0;
}
