/* SPDX-License-Identifier: MIT */
/* Processor models: features added and taken away, and what each lets decode: an instruction that a model lacks is #UD, or what
 * older processors make of it. SDM volume 2. */
#include "flat.h"
#include "test.h"
#include "x86/features.h"

#define LONG64 (MODE_CODE64 | MODE_STACK64 | MODE_PROTECTED | MODE_LONG | MODE_FLAT)
#define FLAT32 (MODE_CODE32 | MODE_STACK32 | MODE_PROTECTED | MODE_FLAT)

static struct x86_model model;
static char why[256];

static bool has(unsigned feature)
{
	return model.features[feature >> 5] >> (feature & 31) & 1;
}

static bool parsed(const char *text)
{
	return !x86_model_parse(&model, text, why, sizeof(why));
}

static void check_parse(void)
{
	ok(parsed("v2") && has(FEATURE_SSE42) && !has(FEATURE_AES) && model.xcr0 == 3, "v2");
	ok(parsed("v2,-sse4.2") && !strcmp(model.name, "v2,-sse4.2") && !has(FEATURE_SSE42) && has(FEATURE_SSE41), "-sse4.2");
	ok(parsed("v2,-sse3") && !has(FEATURE_SSE3) && !has(FEATURE_SSSE3) && !has(FEATURE_SSE42) && has(FEATURE_SSE2),
	   "-sse3 takes what needs it along");
	ok(parsed("v2,-xsave") && !has(FEATURE_XSAVE) && !has(FEATURE_XSAVEOPT) && !model.xcr0, "-xsave leaves no XCR0");
	ok(parsed("v1,+xsave") && has(FEATURE_XSAVE) && model.xcr0 == 3, "+xsave brings XCR0");
	ok(parsed("486,+sse") && has(FEATURE_FXSR) && has(FEATURE_SSE), "+sse brings fxsr");
	ok(parsed("v2,-lm") && !has(FEATURE_SYSCALL) && !has(FEATURE_CX16) && has(FEATURE_PAE), "-lm");
	ok(parsed("pentium,+pae") && model.physical_bits == 36, "+pae widens physical addresses");
	ok(!parsed("pentium,+lm") && strstr(why, "no leaf"), "a pentium cannot announce lm: %s", why);
	ok(!parsed("v2,") && !parsed(",v2") && !parsed("v2,,+aes") && strstr(why, "missing"), "a word is missing: %s", why);
	ok(!parsed("v2,+nonsense") && strstr(why, "no feature"), "an unknown feature: %s", why);
	ok(!parsed("v2,aes") && strstr(why, "+aes"), "a feature without a sign: %s", why);
	ok(!parsed("v4") && strstr(why, "did you mean v"), "an unknown model: %s", why);
	ok(parsed("v3") && has(FEATURE_AVX) == !!(model.xcr0 & 4), "v3 has AVX, in XCR0 too, or neither");
	ok(parsed("v3,-xsave") && !has(FEATURE_AVX) && !has(FEATURE_FMA) && !has(FEATURE_AVX2), "-xsave takes AVX along");
	ok(!parsed("v2,-fpu"), "what is not to be switched");
	ok(!parsed(""), "nothing at all");
}

/* Every feature of every model is one that "max" executes, or stands for something that no instruction needs the host for. */
static void check_subset(void)
{
	const struct x86_model *max = x86_model_find("max");
	unsigned beyond = 0;

	for (unsigned n = 0; n < x86_model_count; n++)
		for (unsigned word = 0; word < FEAT_WORDS && strcmp(x86_models[n].name, "max"); word++)
			beyond += (x86_models[n].features[word] & ~max->features[word]) != 0;
	ok(!beyond, "no model has what max does not have");
}

/* What becomes of the bytes with and without the feature: the name of the operation, "" for #UD. */
static const struct {
	const char *feature, *bytes;
	unsigned size;
	uint32_t mode;
	const char *with, *without;
} rows[] = {
#define ROW(feature, mode, bytes, with, without) { feature, bytes, sizeof(bytes) - 1, mode, with, without }
	ROW("tsc", FLAT32, "\x0f\x31", "RDTSC", ""),
	ROW("msr", FLAT32, "\x0f\x32", "RDMSR", ""),
	ROW("msr", FLAT32, "\x0f\x30", "WRMSR", ""),
	ROW("cx8", FLAT32, "\x0f\xc7\x08", "CMPXCHG8B", ""),
	ROW("sep", FLAT32, "\x0f\x34", "SYSENTER", ""),
	ROW("sep", FLAT32, "\x0f\x35", "SYSEXIT", ""),
	ROW("cmov", FLAT32, "\x0f\x44\xc1", "CMOVZ", ""),
	ROW("cmov", FLAT32, "\xda\xc1", "FCMOVB", ""),
	ROW("cmov", FLAT32, "\xdb\xf1", "FCOMI", ""),
	ROW("cmov", FLAT32, "\x0f\x1f\x00", "NOP", ""),
	ROW("cmov", FLAT32, "\xf3\x0f\x1e\xfb", "NOP", ""), /* ENDBR32 */
	ROW("mmx", FLAT32, "\x0f\xfc\xc1", "PADDB", ""),
	ROW("mmx", FLAT32, "\x0f\x77", "EMMS", ""),
	ROW("fxsr", FLAT32, "\x0f\xae\x00", "FXSAVE", ""),
	ROW("sse", FLAT32, "\x0f\x58\xc1", "ADDPS", ""),
	ROW("sse", FLAT32, "\x0f\xae\x10", "LDMXCSR", ""),
	ROW("sse", FLAT32, "\x0f\xae\xf8", "SFENCE", ""),
	ROW("sse", FLAT32, "\x0f\xe0\xc1", "PAVGB", ""), /* of MMX registers */
	ROW("sse2", FLAT32, "\x66\x0f\x58\xc1", "ADDPD", ""),
	ROW("sse2", FLAT32, "\x0f\xae\xf0", "MFENCE", ""),
	ROW("sse2", FLAT32, "\x0f\xc3\x00", "MOVNTI", ""),
	ROW("sse2", FLAT32, "\x0f\xd4\xc1", "PADDQ", ""), /* of MMX registers */
	ROW("clflush", FLAT32, "\x0f\xae\x38", "CLFLUSH", ""),
	ROW("sse3", FLAT32, "\xf2\x0f\x7c\xc1", "HADDPS", ""),
	ROW("sse3", FLAT32, "\xdf\x08", "FISTTP", ""),
	ROW("ssse3", FLAT32, "\x66\x0f\x38\x00\xc1", "PSHUFB", ""),
	ROW("ssse3", FLAT32, "\x0f\x38\x00\xc1", "PSHUFB", ""), /* of MMX registers */
	ROW("sse4.1", FLAT32, "\x66\x0f\x38\x40\xc1", "PMULLD", ""),
	ROW("sse4.2", FLAT32, "\x66\x0f\x3a\x63\xc1\x00", "PCMPISTRI", ""),
	ROW("sse4.2", FLAT32, "\xf2\x0f\x38\xf1\xc1", "CRC32", ""),
	ROW("popcnt", FLAT32, "\xf3\x0f\xb8\xc1", "POPCNT", ""),
	ROW("cx16", LONG64, "\x48\x0f\xc7\x08", "CMPXCHG16B", ""),
	ROW("lahf", LONG64, "\x9f", "LAHF", ""),
	ROW("lahf", FLAT32, "\x9f", "LAHF", "LAHF"),
	ROW("syscall", LONG64, "\x0f\x05", "SYSCALL", ""),
	ROW("rdtscp", LONG64, "\x0f\x01\xf9", "RDTSCP", ""),
	ROW("fsgsbase", LONG64, "\xf3\x0f\xae\xc0", "RDFSBASE", ""),
	ROW("rdrand", FLAT32, "\x0f\xc7\xf0", "RDRAND", ""),
	ROW("rdseed", FLAT32, "\x0f\xc7\xf8", "RDSEED", ""),
	ROW("invpcid", LONG64, "\x66\x0f\x38\x82\x00", "INVPCID", ""),
	ROW("smap", FLAT32, "\x0f\x01\xcb", "STAC", ""),
	ROW("xsave", FLAT32, "\x0f\x01\xd0", "XGETBV", ""),
	ROW("xsave", FLAT32, "\x0f\xae\x20", "XSAVE", ""),
	ROW("xsaveopt", FLAT32, "\x0f\xae\x30", "XSAVEOPT", ""),
	ROW("prefetchw", FLAT32, "\x0f\x0d\x08", "PREFETCHW", "PREFETCHW"), /* a NOP where there is long mode */
	ROW("movbe", FLAT32, "\x0f\x38\xf0\x00", "MOVBE", ""),
	ROW("aes", FLAT32, "\x66\x0f\x38\xdc\xc1", "AESENC", ""),
	ROW("pclmulqdq", FLAT32, "\x66\x0f\x3a\x44\xc1\x00", "PCLMULQDQ", ""),
	ROW("sha", FLAT32, "\x0f\x38\xc8\xc1", "SHA1NEXTE", ""),
	ROW("adx", FLAT32, "\x66\x0f\x38\xf6\xc1", "ADCX", ""),
	ROW("bmi1", FLAT32, "\xf3\x0f\xbc\xc1", "TZCNT", "BSF"),
	ROW("bmi1", FLAT32, "\xc4\xe2\x78\xf2\xc1", "ANDN", ""),
	ROW("bmi2", FLAT32, "\xc4\xe2\x7b\xf5\xc1", "PDEP", ""),
	ROW("lzcnt", FLAT32, "\xf3\x0f\xbd\xc1", "LZCNT", "BSR"),
	ROW("clflushopt", FLAT32, "\x66\x0f\xae\x38", "CLFLUSHOPT", ""),
	ROW("clwb", FLAT32, "\x66\x0f\xae\x30", "CLWB", ""),
	ROW("rdpid", LONG64, "\xf3\x0f\xc7\xf8", "RDPID", ""),
#undef ROW
};

static const char *decoded(unsigned n)
{
	struct insn i = { 0 };

	x86_decode(&i, (const uint8_t *)rows[n].bytes, rows[n].size, rows[n].mode, &model);
	return i.exec == x86_exec_ud ? "" : x86_ops[i.op].name;
}

static void check_gates(void)
{
	char text[64];

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		snprintf(text, sizeof(text), "max,+%s", rows[n].feature);
		if (!parsed(text)) {
			skip("%s: %s", rows[n].feature, why);
			continue;
		}
		const char *with = decoded(n);
		snprintf(text, sizeof(text), "max,-%s", rows[n].feature);
		bool good = parsed(text);
		const char *without = decoded(n);
		unsigned lacks = x86_decode_lacks((const uint8_t *)rows[n].bytes, rows[n].size, rows[n].mode, &model);
		good &= *without || !strcmp(x86_feature_name(lacks), rows[n].feature);
		ok(good && !strcmp(with, rows[n].with) && !strcmp(without, rows[n].without), "%s: %s, without it %s", rows[n].feature, with,
		   *without ? without : "#UD");
	}
}

/* What no model ever lacks. */
static void check_always(void)
{
	static const struct { const char *bytes; unsigned size; const char *name; } always[] = {
		{ "\xf3\x90", 2, "PAUSE" }, { "\x0f\xa2", 2, "CPUID" }, { "\x0f\xb1\x08", 3, "CMPXCHG" }, { "\x0f\xc1\x08", 3, "XADD" },
		{ "\x0f\xc8", 2, "BSWAP" }, { "\x0f\x01\x38", 3, "INVLPG" }, { "\xd8\xc1", 2, "FADD" },
	};
	bool good = parsed("486");

	for (unsigned n = 0; n < ARRAY_SIZE(always); n++) {
		struct insn i = { 0 };
		x86_decode(&i, (const uint8_t *)always[n].bytes, always[n].size, FLAT32, &model);
		good &= i.exec != x86_exec_ud && !strcmp(x86_ops[i.op].name, always[n].name);
	}
	ok(good, "what a 486 has");
}

int main(void)
{
	check_parse();
	check_subset();
	check_gates();
	check_always();
	return done();
}
