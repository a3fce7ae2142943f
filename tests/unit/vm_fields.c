/* SPDX-License-Identifier: MIT */
/* Field tables: round trips, and streams that are cut off, garbled, or from another version. Run it with sanitizers too. */
#include <errno.h>
#include "vm_test.h"

struct inner {
	uint16_t a;
	bool b[2];
};
struct outer {
	uint8_t u8;
	uint32_t u32[3];
	uint64_t u64;
	bool flag;
	uint8_t bytes[10];
	struct inner inner[2];
	uint32_t guard;
};
static const struct field inner_fields[] = { FIELD_U16(struct inner, a), FIELD_BOOL(struct inner, b), FIELD_END };
static const struct field outer_fields[] = {
	FIELD_U8(struct outer, u8), FIELD_U32(struct outer, u32), FIELD_U64(struct outer, u64), FIELD_BOOL(struct outer, flag),
	FIELD_BYTES(struct outer, bytes), FIELD_STRUCT(struct outer, inner, inner_fields, struct inner), FIELD_END,
};
/* What an older version knew: fewer fields, a shorter array. */
struct older {
	uint32_t u32[2];
	uint64_t u64;
};
static const struct field older_fields[] = { FIELD_U64(struct older, u64), FIELD_U32(struct older, u32), FIELD_END };

static const struct outer sample = {
	.u8 = 1, .u32 = { 2, 3, 4 }, .u64 = 5, .flag = true, .bytes = "abcdefghi", .inner = { { 6, { true, false } }, { 7, { false, true } } },
};

static void test_round_trip(void)
{
	struct buffer b = { 0 };
	struct outer back = { .guard = 99 };
	struct older old = { { 8, 9 }, 10 };

	ok(!fields_save(outer_fields, &sample, &b), "saved");
	ok(!fields_load(outer_fields, &back, &b) && b.at == b.size, "loaded, to the end");
	ok(back.u8 == 1 && back.u32[2] == 4 && back.u64 == 5 && back.flag && !memcmp(back.bytes, sample.bytes, 10) && back.inner[1].a == 7 &&
	   back.inner[0].b[0] && !back.inner[0].b[1] && back.inner[1].b[1] && back.guard == 99, "all values are back");
	b.at = 0;
	ok(fields_load(older_fields, &old, &b) == -EPROTO, "an array that is longer than ours is refused");
	buffer_fini(&b);
	fields_save(older_fields, &(struct older){ { 20, 21 }, 22 }, &b);
	back = sample;
	ok(!fields_load(outer_fields, &back, &b) && back.u32[1] == 21 && back.u32[2] == 4 && back.u64 == 22 && back.u8 == 1,
	   "what a stream does not have stays as it was");
	buffer_fini(&b);
}

static void test_types(void)
{
	static const struct field as_u64[] = { FIELD_U64(struct outer, u64), FIELD_END };
	static const struct field as_bytes[] = { { "u64", FIELD_TYPE_BYTES, offsetof(struct outer, u64), 1, 8, 0 }, FIELD_END };
	struct buffer b = { 0 };
	struct outer back = { 0 };

	fields_save(as_u64, &sample, &b);
	ok(fields_load(as_bytes, &back, &b) == -EPROTO, "a field of another type is refused");
	buffer_fini(&b);
	fields_save(outer_fields, &sample, &b);
	ok(!fields_load(as_u64, &back, &b) && back.u64 == 5 && b.at == b.size, "unknown fields are skipped");
	buffer_fini(&b);
	buffer_put(&b, "\xee\x01x", 3);
	ok(fields_load(as_u64, &back, &b) == -EPROTO, "an unknown type is refused");
	buffer_fini(&b);
}

static void test_truncated(void)
{
	struct buffer b = { 0 };
	bool refused = true;

	fields_save(outer_fields, &sample, &b);
	for (size_t n = 0; n < b.size; n++) {
		uint8_t *exact = malloc(n ? n : 1);
		struct buffer cut = { .data = exact, .size = n, .room = n };
		struct outer back = { 0 };
		memcpy(exact, b.data, n);
		refused &= fields_load(outer_fields, &back, &cut) == -EPROTO;
		free(exact);
	}
	ok(refused, "a stream cut anywhere is refused");
	buffer_fini(&b);
}

static bool sound(const struct outer *o)
{
	const uint8_t *flag = (const uint8_t *)&o->flag, *b = (const uint8_t *)o->inner[0].b, *c = (const uint8_t *)o->inner[1].b;

	return o->guard == 99 && *flag <= 1 && b[0] <= 1 && b[1] <= 1 && c[0] <= 1 && c[1] <= 1;
}

static void test_garbage(void)
{
	struct buffer b = { 0 };
	uint64_t state = 1;
	bool fine = true;

	fields_save(outer_fields, &sample, &b);
	for (unsigned round = 0; round < 20000; round++) {
		uint8_t *copy = malloc(b.size);
		struct buffer bad = { .data = copy, .size = b.size, .room = b.size };
		struct outer back = { .guard = 99 };
		memcpy(copy, b.data, b.size);
		for (unsigned i = 0; i < 1 + round % 5; i++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			copy[(state >> 33) % b.size] = (uint8_t)(state >> 56);
		}
		fields_load(outer_fields, &back, &bad);
		fine &= sound(&back);
		free(copy);
	}
	ok(fine, "garbled streams write nothing but valid values, and nothing beyond the fields");
	buffer_fini(&b);
}

static void test_device(void)
{
	struct vm *vm = test_vm();
	struct probe *a = probe_new(vm, &place_a), *other = probe_new(vm, &place_b);
	struct buffer b = { 0 };
	uint32_t future = 3;

	a->registers[3] = 42;
	ok(!device_save(&a->device, &b) && !device_load(&other->device, &b) && other->registers[3] == 42, "a device's state moves to another");
	memcpy(b.data, &future, sizeof(future));
	b.at = 0;
	ok(device_load(&other->device, &b) == -EPROTO, "a version from the future is refused");
	buffer_fini(&b);
	fields_save(x86_cpu_fields, &vm->vcpu[0]->core.cpu, &b);
	struct x86_cpu *cpu = calloc(1, sizeof(*cpu) + 64);
	ok(!fields_load(x86_cpu_fields, cpu, &b) && cpu->gpr[X86_GPR_RIP] == 0xfff0 && cpu->seg[SEG_CS].base == 0xffff0000, "a processor's state");
	free(cpu);
	buffer_fini(&b);
	vm_destroy(vm);
}

int main(void)
{
	test_round_trip();
	test_types();
	test_truncated();
	test_garbage();
	test_device();
	return done();
}
