/* SPDX-License-Identifier: MIT */
/* Command-line options: parsing by a const table, sizes and lists, and suggestions for misspelt words. */
#include "util/options.h"
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

#define OPTIONS_MAX 40
#define NAME_MAX_LENGTH 31

int option_number(const char *text, uint64_t *value)
{
	/* strtoull takes signs and spaces; a number does not. */
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 0);
	if (*end)
		return -EINVAL;
	if (errno)
		return -ERANGE;
	*value = number;
	return 0;
}

int option_size(const char *text, uint64_t *value)
{
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 0);
	if (errno)
		return -ERANGE;
	static const char units[] = "KMGT";
	unsigned shift = 0;
	const char *unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if (*end == 'i' && (end[1] == 'B' || end[1] == 'b'))
			end++;
	}
	if (*end == 'B' || *end == 'b')
		end++;
	if (*end)
		return -EINVAL;
	if (number > UINT64_MAX >> shift)
		return -ERANGE;
	*value = (uint64_t)number << shift;
	return 0;
}

char *option_size_text(char text[24], uint64_t bytes)
{
	static const char units[] = "\0KMGT";
	unsigned unit = 0;
	while (unit < 4 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		unit++;
	}
	char suffix[2] = { units[unit], 0 };
	snprintf(text, 24, "%llu%s", (unsigned long long)bytes, suffix);
	return text;
}

bool option_word(const char **list, char *word, size_t size)
{
	if (!*list || !**list)
		return false;
	size_t length = strcspn(*list, ","), kept = MIN(length, size - 1);
	memcpy(word, *list, kept);
	word[kept] = 0;
	*list += length + ((*list)[length] == ',');
	return true;
}

/* Edits (insert, delete, replace, swap of neighbours) between two words: the optimal string alignment distance. */
static unsigned distance(const char *a, const char *b)
{
	unsigned rows[3][NAME_MAX_LENGTH + 2];
	size_t la = strlen(a), lb = strlen(b);
	if (la > NAME_MAX_LENGTH || lb > NAME_MAX_LENGTH)
		return UINT32_MAX;
	for (unsigned j = 0; j <= lb; j++)
		rows[0][j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3], *above2 = rows[(i + 1) % 3];
		row[0] = i;
		for (unsigned j = 1; j <= lb; j++) {
			unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
			best = MIN(best, above[j] + 1);
			best = MIN(best, row[j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = MIN(best, above2[j - 2] + 1);
			row[j] = best;
		}
	}
	return rows[la % 3][lb];
}

const char *option_nearest(const char *word, const char *const *candidates, unsigned count)
{
	const char *nearest = NULL;
	unsigned best = (unsigned)strlen(word) / 3 + 2; /* further away is another word */
	for (unsigned i = 0; i < count; i++) {
		unsigned d = distance(word, candidates[i]);
		if (d < best) {
			best = d;
			nearest = candidates[i];
		}
	}
	return nearest;
}

/* What stands before a row's name in messages. */
static _Thread_local const char *before = "--", *between = " ";

static int wrong_range(const struct option_row *row, const char *text)
{
	char low[24], high[24];
	if (row->type == OPTION_SIZE)
		log_error("%s%s%s%s: it must be between %s and %s", before, row->name, between, text, option_size_text(low, row->min),
			  option_size_text(high, row->max));
	else
		log_error("%s%s%s%s: it must be between %llu and %llu", before, row->name, between, text, (unsigned long long)row->min,
			  (unsigned long long)row->max);
	return -EINVAL;
}

static int store_number(const struct option_row *row, uint64_t *value, const char *text)
{
	int error = row->type == OPTION_SIZE ? option_size(text, value) : option_number(text, value);
	if (error == -EINVAL) {
		log_error("%s%s%s%s: this is no %s", before, row->name, between, text,
			  row->type == OPTION_SIZE ? "size; write it as 512M or 2G" : "number");
		return -EINVAL;
	}
	if (error || *value < row->min || *value > row->max)
		return wrong_range(row, text);
	return 0;
}

static int store_choice(const struct option_row *row, int *value, const char *text)
{
	size_t length = strlen(text);
	const char *word = row->argument;
	for (int index = 0; word; index++) {
		size_t word_length = strcspn(word, "|");
		if (word_length == length && !memcmp(word, text, length)) {
			*value = index;
			return 0;
		}
		word = word[word_length] ? word + word_length + 1 : NULL;
	}
	log_error("%s%s%s%s: it must be one of %s", before, row->name, between, text, row->argument);
	return -EINVAL;
}

static int store(const struct option_row *row, void *object, const char *text)
{
	void *value = (char *)object + row->offset;
	switch (row->type) {
	case OPTION_FLAG:
		*(bool *)value = true;
		return 0;
	case OPTION_STRING:
		*(const char **)value = text;
		return 0;
	case OPTION_NUMBER:
	case OPTION_SIZE:
		return store_number(row, value, text);
	case OPTION_CHOICE:
		return store_choice(row, value, text);
	case OPTION_LIST: {
		struct option_list *list = value;
		if (list->count >= MIN(row->max, (uint64_t)OPTION_LIST_MAX)) {
			log_error("%s%s can be given %llu times at most", before, row->name, (unsigned long long)row->max);
			return -EINVAL;
		}
		list->item[list->count++] = text;
		return 0;
	}
	case OPTION_END:
		break;
	}
	return -EINVAL;
}

static int unknown(const struct option_row *rows, const char *word)
{
	const char *names[OPTIONS_MAX];
	unsigned count = 0;
	for (const struct option_row *row = rows; row->type != OPTION_END && count < OPTIONS_MAX - 1; row++)
		names[count++] = row->name;
	names[count++] = "help";
	char name[NAME_MAX_LENGTH + 1];
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(word, "="), word);
	const char *nearest = option_nearest(name + strspn(name, "-"), names, count);
	if (nearest)
		log_error("there is no option %s; did you mean --%s?", word, nearest);
	else
		log_error("there is no option %s; --help lists them", word);
	return -EINVAL;
}

int options_parse_operands(const struct option_row *rows, void *object, int argc, char **argv, const char **operands, unsigned operand_max,
			   unsigned *operand_count)
{
	enum { HELP = 1000 };
	struct option longs[OPTIONS_MAX + 1] = { 0 };
	unsigned count = 0;
	for (; rows[count].type != OPTION_END && count < OPTIONS_MAX - 1; count++)
		longs[count] = (struct option){ rows[count].name, rows[count].type == OPTION_FLAG ? no_argument : required_argument, NULL,
						HELP + 1 + (int)count };
	longs[count] = (struct option){ "help", no_argument, NULL, HELP };

	optind = 0; /* a fresh start, also for a second call */
	opterr = 0;
	for (;;) {
		int found = getopt_long(argc, argv, ":h", longs, NULL);
		if (found == -1)
			break;
		if (found == HELP || found == 'h')
			return OPTIONS_HELP;
		if (found == ':') {
			log_error("%s wants a value behind it; --help tells more", argv[optind - 1]);
			return -EINVAL;
		}
		if (found == '?') {
			char letter[3] = { '-', (char)optopt, 0 };
			if (optopt > HELP) {
				log_error("%s: this option takes no value", argv[optind - 1]);
				return -EINVAL;
			}
			return unknown(rows, optopt ? letter : argv[optind - 1]);
		}
		int error = store(&rows[found - HELP - 1], object, optarg);
		if (error)
			return error;
	}
	unsigned given = (unsigned)(argc - optind);
	if (given > operand_max) {
		log_error("%s: this word is not understood here; --help lists the options", argv[optind + (int)operand_max]);
		return -EINVAL;
	}
	for (unsigned i = 0; i < given; i++)
		operands[i] = argv[optind + (int)i];
	if (operand_count)
		*operand_count = given;
	return 0;
}

int options_parse(const struct option_row *rows, void *object, int argc, char **argv)
{
	return options_parse_operands(rows, object, argc, argv, NULL, 0, NULL);
}

static const struct option_row *word_row(const struct option_row *rows, const char *word)
{
	size_t length = strcspn(word, "=");
	for (const struct option_row *row = rows; row->type != OPTION_END; row++)
		if (strlen(row->name) == length && !memcmp(row->name, word, length) && !word[length] == (row->type == OPTION_FLAG))
			return row;
	return NULL;
}

int option_words(const char *option, const struct option_row *rows, void *object, char *text)
{
	enum { WORDS_MAX = 32 };
	char *words[WORDS_MAX], name[NAME_MAX_LENGTH + 8];
	unsigned count = 0;
	int error = 0;
	for (char *comma; count < WORDS_MAX && (comma = strrchr(text, ',')) && word_row(rows, comma + 1); count++) {
		words[count] = comma + 1;
		*comma = 0;
	}
	snprintf(name, sizeof(name), "%s ...,", option);
	before = name;
	between = "=";
	while (count-- && !error) {
		const struct option_row *row = word_row(rows, words[count]);
		error = store(row, object, words[count] + strlen(row->name) + (row->type != OPTION_FLAG));
	}
	before = "--";
	between = " ";
	return error;
}

void options_print(const struct option_row *rows, FILE *to)
{
	enum { COLUMN = 34 };
	for (const struct option_row *row = rows; row->type != OPTION_END; row++) {
		char left[128];
		int width = snprintf(left, sizeof(left), "  --%s%s%s", row->name, row->argument ? " " : "", row->argument ? row->argument : "");
		fputs(left, to);
		if (width >= COLUMN) {
			fputc('\n', to);
			width = 0;
		}
		fprintf(to, "%*s", COLUMN - width, "");
		for (const char *c = row->help; *c; c++) {
			fputc(*c, to);
			if (*c == '\n')
				fprintf(to, "%*s", COLUMN, "");
		}
		fputc('\n', to);
	}
	fprintf(to, "  --help%*sthis text\n", COLUMN - 8, "");
}
