/* SPDX-License-Identifier: MIT */
/* Command-line options: sizes, numbers, lists, the option table, suggestions. */
#include "util/options.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "test.h"

struct values {
	bool flag;
	const char *string;
	uint64_t number, size;
	struct option_list list;
	int choice;
};

#define AT(member) offsetof(struct values, member)
static const struct option_row rows[] = {
	{ "flag", NULL, "a flag", OPTION_FLAG, AT(flag), 0, 0 },
	{ "string", "TEXT", "a string\nof two lines", OPTION_STRING, AT(string), 0, 0 },
	{ "number", "N", "a number", OPTION_NUMBER, AT(number), 1, 255 },
	{ "size", "SIZE", "a size", OPTION_SIZE, AT(size), 1 * MiB, 1 * GiB },
	{ "list", "ITEM", "a list", OPTION_LIST, AT(list), 0, 2 },
	{ "choice", "host|instructions", "a choice", OPTION_CHOICE, AT(choice), 0, 0 },
	{ .type = OPTION_END },
};
#undef AT

static int parse(struct values *values, const char *const *words)
{
	char *argv[16] = { "command" };
	int argc = 1;
	while (*words)
		argv[argc++] = (char *)*words++;
	memset(values, 0, sizeof(*values));
	return options_parse(rows, values, argc, argv);
}
#define PARSE(values, ...) parse(values, (const char *const[]){ __VA_ARGS__ __VA_OPT__(, ) NULL })

static void sizes(void)
{
	static const struct {
		const char *text;
		int result;
		uint64_t value;
	} cases[] = {
		{ "0", 0, 0 }, { "512M", 0, 512 * MiB }, { "1G", 0, GiB }, { "2g", 0, 2 * GiB }, { "4096", 0, 4096 }, { "64k", 0, 64 * KiB },
		{ "1T", 0, 1024 * GiB }, { "1GiB", 0, GiB }, { "1MB", 0, MiB }, { "0x1000", 0, 4096 }, { "7B", 0, 7 },
		{ "", -EINVAL, 0 }, { "M", -EINVAL, 0 }, { "-1", -EINVAL, 0 }, { "+1", -EINVAL, 0 }, { " 1", -EINVAL, 0 }, { "1X", -EINVAL, 0 },
		{ "1MM", -EINVAL, 0 }, { "1.5G", -EINVAL, 0 }, { "1G ", -EINVAL, 0 }, { "1i", -EINVAL, 0 },
		{ "18446744073709551615", 0, UINT64_MAX }, { "18446744073709551616", -ERANGE, 0 }, { "16777216T", -ERANGE, 0 },
		{ "16777215T", 0, 16777215ULL << 40 }, { "99999999999999999999999G", -ERANGE, 0 },
	};
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t value = 0;
		int result = option_size(cases[i].text, &value);
		ok(result == cases[i].result && (result || value == cases[i].value), "size \"%s\"", cases[i].text);
	}
	char text[24];
	ok(!strcmp(option_size_text(text, 512 * MiB), "512M"), "512M is written as it is read");
	ok(!strcmp(option_size_text(text, 1536 * MiB), "1536M"), "1.5G is written as 1536M");
	ok(!strcmp(option_size_text(text, 4097), "4097"), "4097 bytes");
	ok(!strcmp(option_size_text(text, 0), "0"), "nothing");
}

static void words(void)
{
	const char *list = "exit,irq,,averylongword";
	char word[5];
	ok(option_word(&list, word, sizeof(word)) && !strcmp(word, "exit"), "first word");
	ok(option_word(&list, word, sizeof(word)) && !strcmp(word, "irq"), "second word");
	ok(option_word(&list, word, sizeof(word)) && !strcmp(word, ""), "empty word");
	ok(option_word(&list, word, sizeof(word)) && !strcmp(word, "aver"), "a long word is cut");
	ok(!option_word(&list, word, sizeof(word)), "end of the list");
}

static void nearest(void)
{
	static const char *const names[] = { "interp", "null", "kvm", "memory" };
	const char *found = option_nearest("intrep", names, ARRAY_SIZE(names));
	ok(found && !strcmp(found, "interp"), "intrep is near interp");
	found = option_nearest("memroy", names, ARRAY_SIZE(names));
	ok(found && !strcmp(found, "memory"), "memroy is near memory");
	ok(!option_nearest("xyzzy", names, ARRAY_SIZE(names)), "xyzzy is near nothing");
	ok(!option_nearest("a-word-that-is-much-longer-than-any-name-could-be", names, ARRAY_SIZE(names)), "a very long word");
}

static void table(void)
{
	struct values v;
	ok(!PARSE(&v) && !v.flag && !v.string, "no words");
	ok(!PARSE(&v, "--flag", "--string", "x y", "--number=7", "--size", "2M"), "all kinds");
	ok(v.flag && !strcmp(v.string, "x y") && v.number == 7 && v.size == 2 * MiB, "all values");
	ok(!PARSE(&v, "--list", "a", "--list", "b") && v.list.count == 2 && !strcmp(v.list.item[1], "b"), "a list keeps its order");
	ok(!PARSE(&v, "--choice", "instructions") && v.choice == 1, "a choice is its index");
	ok(PARSE(&v, "--help") == OPTIONS_HELP, "--help");
	ok(PARSE(&v, "--flag", "--help") == OPTIONS_HELP, "--help behind others");

	int quiet = dup(STDERR_FILENO), nothing = STDERR_FILENO;
	ok(freopen("/dev/null", "w", stderr) != NULL, "errors are expected from here on");
	ok(PARSE(&v, "--list", "a", "--list", "b", "--list", "c") == -EINVAL, "too long a list");
	ok(PARSE(&v, "--choice", "hos") == -EINVAL, "part of a choice's word is none");
	ok(PARSE(&v, "--nubmer", "7") == -EINVAL, "an unknown option");
	ok(PARSE(&v, "-q") == -EINVAL, "an unknown letter");
	ok(PARSE(&v, "--number") == -EINVAL, "a missing value");
	ok(PARSE(&v, "--flag=1") == -EINVAL, "a value for a flag");
	ok(PARSE(&v, "--number", "0") == -EINVAL, "below the range");
	ok(PARSE(&v, "--number", "256") == -EINVAL, "above the range");
	ok(PARSE(&v, "--number", "seven") == -EINVAL, "no number");
	ok(PARSE(&v, "--size", "2G") == -EINVAL, "too large a size");
	ok(PARSE(&v, "word") == -EINVAL, "an operand where none is taken");
	ok(PARSE(&v, "--", "--flag") == -EINVAL, "an operand behind --");
	fflush(stderr);
	dup2(quiet, nothing);
	close(quiet);
}

static bool behind(struct values *values, const char *text, const char *head)
{
	static char copy[128];
	memset(values, 0, sizeof(*values));
	strcpy(copy, text);
	return !option_words("--thing", rows, values, copy) && !strcmp(copy, head);
}

static void suffixes(void)
{
	struct values v;
	ok(behind(&v, "FILE", "FILE"), "words: none");
	ok(behind(&v, "a,b,flag,string=x=y,number=7", "a,b") && v.flag && !strcmp(v.string, "x=y") && v.number == 7,
	   "words: off the end, the name keeps its comma");
	ok(behind(&v, "x,list=1,list=2", "x") && v.list.count == 2 && !strcmp(v.list.item[0], "1"), "words: a list, in order");
	ok(behind(&v, "x,flag,odd", "x,flag,odd") && !v.flag, "words: an unknown one is part of the name");
	ok(behind(&v, "x,flag=1", "x,flag=1") && behind(&v, "x,string", "x,string"), "words: a flag has no value, all others have one");
	ok(!behind(&v, "x,number=0", "x") && !behind(&v, "x,choice=maybe", "x") && !behind(&v, "x,list=1,list=2,list=3", "x"),
	   "words: wrong values");
	ok(behind(&v, ",flag", "") && v.flag, "words: no name");
}

int main(void)
{
	sizes();
	words();
	nearest();
	table();
	suffixes();
	return done();
}
