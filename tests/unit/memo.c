/* SPDX-License-Identifier: MIT */
/* Decoding with a memory gives what decoding gives: random bytes that begin alike and go on otherwise, in all modes, and the code of this program.
 * SDM volume 2, chapter 2. Usage: memo [seed]; or SEED in the environment. */
#include "decode_check.h"
#include "integer_cases.h"
#include "test.h"
#include "x86/cpuid.h"
#include "x86/memo.h"

#define CASES 60000u
#define LIKE_EACH 6
#define SHOWN 5u
#define LONG64 (MODE_CODE64 | MODE_STACK64 | MODE_PROTECTED | MODE_LONG | MODE_FLAT)

extern const uint8_t __executable_start[], etext[];

static bool same_shape(const struct x86_shape *a, const struct x86_shape *b)
{
	const struct shape_register *r[] = { &a->reg, &a->rm, &a->vvvv, &a->op }, *s[] = { &b->reg, &b->rm, &b->vvvv, &b->op };

	for (unsigned n = 0; n < ARRAY_SIZE(r); n++)
		if (r[n]->kind != s[n]->kind || r[n]->number != s[n]->number || r[n]->high != s[n]->high || r[n]->byte != s[n]->byte ||
		    r[n]->written != s[n]->written)
			return false;
	return a->vex == b->vex && a->map == b->map && a->opcode == b->opcode && a->prefix == b->prefix && a->w == b->w && a->l == b->l &&
	       a->has_modrm == b->has_modrm && a->has_memory == b->has_memory && a->has_vvvv == b->has_vvvv && a->in_opcode == b->in_opcode &&
	       a->tail == b->tail && a->tail_size == b->tail_size && a->memory_size == b->memory_size && a->memory_read == b->memory_read &&
	       a->memory_written == b->memory_written && a->other_memory == b->other_memory && a->implied == b->implied;
}

/* The length, or 0 when something differs. */
static unsigned same(struct x86_memo *memo, const struct x86_model *model, const uint8_t *bytes, unsigned available, uint32_t mode)
{
	struct insn plain = { .offset = 0x123, .index = 7 }, copy = plain;
	struct x86_shape plain_shape, copy_shape;
	bool shaped, has_shape;
	unsigned length = x86_decode(&plain, bytes, available, mode, model);

	shaped = length && plain.op != X86_OP_INVALID && x86_decode_shape(&plain_shape, bytes, length, mode, model);
	if (x86_memo_decode(memo, &copy, &copy_shape, &has_shape, bytes, available, mode) != length)
		return 0;
	if (length && memcmp(&plain, &copy, sizeof(plain)))
		return 0;
	if (has_shape != shaped || (shaped && !same_shape(&plain_shape, &copy_shape)))
		return 0;
	return length ? length : 1;
}

static void alike(const struct x86_model *model, const char *name)
{
	static const uint8_t front[] = { 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x64, 0x48, 0x4f, 0x0f, 0x0f, 0xc4, 0xc5, 0x0f, 0x0f };
	struct x86_memo *memo = x86_memo_new(model);
	unsigned failed = 0;

	for (unsigned n = 0; n < CASES; n++) {
		uint32_t mode = decode_mode(n);
		uint8_t bytes[20];
		for (unsigned k = 0; k < sizeof(bytes); k++)
			bytes[k] = (uint8_t)random_next();
		for (unsigned k = 0; k < n % 4; k++)
			bytes[k] = front[random_below(sizeof(front))];
		for (unsigned like = 0; like < LIKE_EACH; like++) {
			unsigned available = one_in(16) ? random_below(16) : 15;
			if (!same(memo, model, bytes, available, mode) && failed++ < SHOWN) {
				printf("# mode %x, %u bytes:", mode, available);
				for (unsigned k = 0; k < available; k++)
					printf(" %02x", bytes[k]);
				printf("\n");
			}
			for (unsigned k = 2 + random_below(6); k < sizeof(bytes); k++)
				bytes[k] = one_in(4) ? (uint8_t)-random_below(2) : (uint8_t)random_next();
		}
	}
	ok(!failed, "%u instructions, %s, %u failed", CASES * LIKE_EACH, name, failed);
	x86_memo_free(memo);
}

static void own_code(void)
{
	struct x86_memo *memo = x86_memo_new(NULL);
	const uint8_t *at = (const uint8_t *)(const void *)&own_code, *end = etext;
	unsigned count = 0, length;

	while (at + 16 < end && (length = same(memo, NULL, at, 15, LONG64))) {
		at += length;
		count++;
	}
	ok(at + 16 >= end, "the %u instructions of this program from here on", count);
	ok(x86_memo_misses(memo) < count / 4, "of which %lu had to be decoded", x86_memo_misses(memo));
	x86_memo_free(memo);
}

int main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;

	printf("# seed %llu\n", (unsigned long long)seed);
	random_seed(seed);
	alike(NULL, "a processor that has everything");
	alike(x86_model_find("v1"), "one of the first with 64 bits");
	own_code();
	return done();
}
