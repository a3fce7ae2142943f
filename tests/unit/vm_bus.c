/* SPDX-License-Identifier: MIT */
/* The bus: overlaps, splitting, addresses that nobody claims, changes while it is used. */
#include <errno.h>
#include "vm_test.h"

static uint64_t note_read(struct device *d, uint64_t offset, unsigned size)
{
	struct probe *p = probe_of(d);

	p->offset[p->count % 64] = offset;
	p->size[p->count++ % 64] = size;
	return 0x8877665544332211ULL >> (8 * (offset & 7));
}

static void note_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct probe *p = probe_of(d);

	p->value[p->count % 64] = value;
	note_read(d, offset, size);
}

static const struct bus_ops bytes = { .read = note_read, .write = note_write, .max_size = 1 };
static const struct bus_ops words = { .read = note_read, .write = note_write, .max_size = 4 };
static const struct bus_ops deaf = { .max_size = 4 };

static void test_ranges(struct vm *vm, struct probe *a, struct probe *b)
{
	ok(!bus_add(vm, BUS_PORT, 0x3f8, 8, &bytes, &a->device), "a range");
	ok(bus_add(vm, BUS_PORT, 0x3ff, 1, &bytes, &b->device) == -EEXIST, "one that overlaps its end is refused");
	ok(bus_add(vm, BUS_PORT, 0x3f0, 9, &bytes, &b->device) == -EEXIST, "one that overlaps its start is refused");
	ok(bus_add(vm, BUS_PORT, 0, 0x10000, &bytes, &b->device) == -EEXIST, "one around it is refused");
	ok(!bus_add(vm, BUS_PORT, 0x400, 8, &words, &b->device), "one right behind it");
	ok(bus_add(vm, BUS_PORT, 5, 0, &bytes, &b->device) == -EINVAL, "an empty one is refused");
	ok(bus_add(vm, BUS_MEMORY, UINT64_MAX, 2, &bytes, &b->device) == -EINVAL, "one that wraps around is refused");
	ok(!bus_add(vm, BUS_MEMORY, 0x3f8, 8, &words, &b->device), "memory and ports are apart");
	ok(!bus_add_at(vm, BUS_PORT, 0x61, 1, &bytes, &a->device, 100), "one with an offset of its own");
}

static void test_access(struct vm *vm, struct probe *a, struct probe *b)
{
	a->count = b->count = 0;
	ok(bus_read(vm, BUS_PORT, 0x3f9, 1) == 0x22 && a->count == 1 && a->offset[0] == 1 && a->size[0] == 1, "a byte");
	a->count = 0;
	ok(bus_read(vm, BUS_PORT, 0x3f8, 4) == 0x44332211 && a->count == 4 && a->offset[0] == 0 && a->offset[3] == 3,
	   "a wide access to a narrow chip goes in bytes, low one first");
	a->count = 0;
	bus_write(vm, BUS_PORT, 0x3fa, 2, 0xffffbeef);
	ok(a->count == 2 && a->value[0] == 0xef && a->value[1] == 0xbe && a->offset[1] == 3, "so does a write");
	a->count = b->count = 0;
	bus_read(vm, BUS_PORT, 0x3fe, 4);
	ok(a->count == 2 && b->count == 1 && b->size[0] == 2 && b->offset[0] == 0, "an access across two chips reaches both");
	b->count = 0;
	ok(bus_read(vm, BUS_PORT, 0x406, 4) == 0xffff8877 && b->count == 1 && b->size[0] == 2, "what lies behind a chip reads as ones");
	b->count = 0;
	ok(bus_read(vm, BUS_MEMORY, 0x3f8, 8) == 0x8877665544332211 && b->count == 2 && b->size[0] == 4, "eight bytes in two");
	b->count = 0;
	ok(bus_read(vm, BUS_MEMORY, 0x3f6, 4) == 0x2211ffff && b->count == 1, "what lies before a chip reads as ones");
	ok(bus_read(vm, BUS_PORT, 0x5000, 1) == 0xff && bus_read(vm, BUS_PORT, 0x5000, 2) == 0xffff &&
	   bus_read(vm, BUS_PORT, 0x5000, 4) == 0xffffffff && bus_read(vm, BUS_MEMORY, 0x5000, 8) == UINT64_MAX, "nobody answers: all ones");
	bus_write(vm, BUS_MEMORY, 0x5000, 8, 1);
	ok(vm->bus.unclaimed_writes[BUS_MEMORY] == 1, "a write to nobody is counted and ignored");
	a->count = 0;
	bus_read(vm, BUS_PORT, 0x61, 1);
	ok(a->offset[0] == 100, "the range's own offset is added");
	ok(bus_read(vm, BUS_PORT, 0xffff, 4) == 0xffffffff && bus_read(vm, BUS_MEMORY, UINT64_MAX, 8) == UINT64_MAX, "the ends of the spaces");
}

static void test_changes(struct vm *vm, struct probe *a, struct probe *b)
{
	unsigned garbage;

	ok(bus_remove(vm, BUS_PORT, 0x1234) == -ENOENT, "a range that is not there cannot be removed");
	for (unsigned i = 0; i < 100; i++) {
		bus_add(vm, BUS_MEMORY, 0xe0000000 + i * 4096, 4096, &words, i & 1 ? &a->device : &b->device);
		bus_read(vm, BUS_MEMORY, 0xe0000000 + i * 4096, 4);
		if (i)
			bus_remove(vm, BUS_MEMORY, 0xe0000000 + (i - 1) * 4096);
	}
	a->count = b->count = 0;
	bus_read(vm, BUS_MEMORY, 0xe0000000 + 99 * 4096, 4);
	ok(a->count == 1 && bus_read(vm, BUS_MEMORY, 0xe0000000 + 98 * 4096, 4) == 0xffffffff, "ranges come and go");
	garbage = vm->bus.garbage;
	bus_reclaim(vm);
	ok(garbage >= BUS_GARBAGE && !vm->bus.garbage, "and what they leave behind is freed");
	bus_remove(vm, BUS_MEMORY, 0xe0000000 + 99 * 4096);
	ok(bus_read(vm, BUS_MEMORY, 0xe0000000 + 99 * 4096, 4) == 0xffffffff, "the last hit is forgotten with its range");
	bus_add(vm, BUS_PORT, 0x80, 1, &deaf, &a->device);
	ok(bus_read(vm, BUS_PORT, 0x80, 1) == 0xff, "a chip without a read handler");
	bus_write(vm, BUS_PORT, 0x80, 1, 0);
}

int main(void)
{
	struct vm *vm = test_vm();
	struct probe *a = probe_new(vm, &place_a), *b = probe_new(vm, &place_b);

	ok(!device_create(vm, &place_a), "two devices of one name are refused");
	test_ranges(vm, a, b);
	test_access(vm, a, b);
	test_changes(vm, a, b);
	vm_destroy(vm);
	return done();
}
