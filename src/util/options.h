/* SPDX-License-Identifier: MIT */
/* Command-line options: one const table says what a sub-command takes, parses it, and prints its help. */
#pragma once
#include <stdio.h>
#include "util/bits.h"

enum option_type {
	OPTION_END,
	OPTION_FLAG,   /* bool, no argument */
	OPTION_STRING, /* const char * */
	OPTION_NUMBER, /* uint64_t between min and max; decimal, 0x or 0 prefix */
	OPTION_SIZE,   /* uint64_t bytes between min and max: "512M", "1G", plain bytes */
	OPTION_LIST,   /* struct option_list: may be given several times */
	OPTION_CHOICE, /* int: index of the word in `argument`, "one|two|three" */
};

#define OPTION_LIST_MAX 8
struct option_list {
	const char *item[OPTION_LIST_MAX];
	unsigned count;
};

struct option_row {
	const char *name;     /* without the dashes */
	const char *argument; /* what the help calls it; OPTION_CHOICE: the words */
	const char *help;     /* one line, "\n" goes on in the next */
	enum option_type type;
	size_t offset;        /* of the value in the object */
	uint64_t min, max;    /* NUMBER, SIZE; max of LIST: how many */
};

/* options.c -- Stores the values of argv[1..] into *object by the rows (ended by an OPTION_END), in which --help is
 * understood. Returns 0, OPTIONS_HELP when help was asked for, or -EINVAL after an error that says which word is wrong. Operands are
 * refused unless `operands` is not NULL: then up to `operand_max` of them go there, *operand_count says how many. */
enum { OPTIONS_HELP = 1 };
int options_parse(const struct option_row *, void *object, int argc, char **argv);
int options_parse_operands(const struct option_row *, void *object, int argc, char **argv, const char **operands, unsigned operand_max,
			   unsigned *operand_count);
/* The words behind what an option names, as in "FILE,readonly,bus=ide": takes them off the end of the text as long as they are names of
 * rows (FLAG alone, all others with "=value"), and stores them; what is left may hold commas. Strings point into the text. `option` is for
 * messages, as "--disk". 0 or -EINVAL, after an error. */
int option_words(const char *option, const struct option_row *, void *object, char *text);
void options_print(const struct option_row *, FILE *);

/* "512M" (K, M, G, T; powers of 1024; optional B or iB), or plain bytes. 0, -EINVAL for what is no size, -ERANGE for what does not fit. */
int option_size(const char *text, uint64_t *value);
/* An unsigned number, C notation. 0, -EINVAL or -ERANGE. */
int option_number(const char *text, uint64_t *value);
/* Writes a size the way option_size reads it, with the largest unit that is exact. Returns text. */
char *option_size_text(char text[24], uint64_t bytes);
/* Walks "a,b,c": copies the next word (cut to size - 1) and moves *list behind it; false at the end. */
bool option_word(const char **list, char *word, size_t size);
/* The candidate that a misspelt word most likely meant, or NULL when none is near. */
const char *option_nearest(const char *word, const char *const *candidates, unsigned count);
