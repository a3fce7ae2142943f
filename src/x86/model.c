/* SPDX-License-Identifier: MIT */
/* Processor models with features added and taken away: "v2,-sse4.2,+aes".
 *
 * A feature brings those that it needs, and takes those along that need it, so that no model comes out that no software
 * expects. What "max" does not have here cannot be added: the semantics do not execute it, or the host lacks it. */
#include <stdio.h>
#include <string.h>
#include "util/options.h"
#include "x86/features.h"

struct row {
	const char *name, *text;
	uint16_t feature, needs;
};

static const struct row rows[] = {
#define FEATURE(name, text, word, bit, needs) { #name, text, FEATURE_##name, FEATURE_##needs },
#include "x86/features.def"
#undef FEATURE
};

static bool has(const struct x86_model *m, unsigned feature)
{
	return m->features[feature >> 5] >> (feature & 31) & 1;
}

static const struct row *row_of(unsigned feature)
{
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (rows[n].feature == feature)
			return &rows[n];
	return NULL;
}

const char *x86_feature_name(unsigned feature)
{
	const struct row *r = row_of(feature);

	return !r ? "?" : r->text ? r->text : r->name;
}

const char *x86_feature_text(unsigned *row)
{
	while (*row < ARRAY_SIZE(rows) && !rows[*row].text)
		(*row)++;
	return *row < ARRAY_SIZE(rows) ? rows[(*row)++].text : NULL;
}

static void add(struct x86_model *m, const struct row *r)
{
	for (; r; r = row_of(r->needs))
		m->features[r->feature >> 5] |= 1u << (r->feature & 31);
}

static void take(struct x86_model *m, const struct row *r)
{
	m->features[r->feature >> 5] &= ~(1u << (r->feature & 31));
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (rows[n].needs == r->feature && has(m, rows[n].feature))
			take(m, &rows[n]);
}

/* A family before 6 has CPUID leaves 0 and 1 only: the rest could not be announced. */
static bool announced(const struct x86_model *m)
{
	bool good = true;

	for (unsigned word = FEAT_1_ECX + 1; word < FEAT_WORDS; word++)
		good &= !m->features[word];
	return good || m->family >= 6;
}

static int change(struct x86_model *m, const char *word, char *why, size_t size)
{
	const struct x86_model *max = x86_model_find("max");
	const char *names[ARRAY_SIZE(rows)], *nearest;
	const struct row *r = NULL;
	unsigned count = 0;

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		if (!rows[n].text)
			continue;
		names[count++] = rows[n].text;
		if (!strcmp(rows[n].text, word + 1))
			r = &rows[n];
	}
	if ((*word != '+' && *word != '-') || !r) {
		nearest = option_nearest(*word == '+' || *word == '-' ? word + 1 : word, names, count);
		snprintf(why, size, "%s is no feature with + or - in front%s%s%s; --cpu help lists them", word,
			 nearest ? *word == '-' ? "; did you mean -" : "; did you mean +" : "", nearest ? nearest : "", nearest ? "?" : "");
		return -1;
	}
	if (*word == '-') {
		take(m, r);
		return 0;
	}
	for (const struct row *need = r; need; need = row_of(need->needs)) {
		if (has(max, need->feature))
			continue;
		snprintf(why, size, "%s cannot be had on this host", x86_feature_name(need->feature));
		return -1;
	}
	add(m, r);
	if (announced(m))
		return 0;
	snprintf(why, size, "the CPUID of a %s has no leaf for %s; take a later model, such as v1", m->name, r->text);
	return -1;
}

int x86_model_parse(struct x86_model *m, const char *text, char *why, size_t size)
{
	const struct x86_model *base;
	const char *all = text;
	char word[32];

	*why = 0;
	if (*text == ',' || strstr(text, ",,") || (*text && text[strlen(text) - 1] == ',')) {
		snprintf(why, size, "%s: a word is missing beside a comma", text);
		return -1;
	}
	if (!option_word(&text, word, sizeof(word)) || !(base = x86_model_find(word))) {
		const char *names[16], *nearest;
		unsigned count = 0;
		for (; count < x86_model_count && count < ARRAY_SIZE(names); count++)
			names[count] = x86_models[count].name;
		nearest = option_nearest(word, names, count);
		snprintf(why, size, "there is no processor model %s; %s%s%s", word,
			 nearest ? "did you mean " : "--cpu help lists them", nearest ? nearest : "", nearest ? "?" : "");
		return -1;
	}
	*m = *base;
	if (strcmp(base->name, "max") && x86_model_limited(base))
		snprintf(why, size, "this host's processor lacks a part of model %s, so the guest's does too", base->name);
	while (option_word(&text, word, sizeof(word)))
		if (change(m, word, why, size))
			return -1;
	m->name = all;
	if (has(m, FEATURE_XSAVE))
		m->xcr0 |= XCR0_X87 | (has(m, FEATURE_SSE) ? XCR0_SSE : 0) | (has(m, FEATURE_AVX) ? XCR0_AVX : 0);
	if (!has(m, FEATURE_XSAVE))
		m->xcr0 = 0;
	if (!has(m, FEATURE_SSE))
		m->xcr0 &= ~(uint64_t)XCR0_SSE;
	if (!has(m, FEATURE_AVX) || !has(m, FEATURE_SSE))
		m->xcr0 &= ~(uint64_t)XCR0_AVX;
	if (has(m, FEATURE_PAE))
		m->physical_bits = MAX(m->physical_bits, 36);
	return 0;
}
