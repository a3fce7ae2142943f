/* SPDX-License-Identifier: MIT */
/* Small bit and integer helpers that every layer uses. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest-physical address */
typedef uint64_t gva_t; /* guest-linear address (after segmentation) */

#define BIT(n) (1ULL << (n))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* In front of a return of a call: it becomes a jump. (clang keeps the frame of a function with a local variable whose address is taken, though nobody has it any
 * more; gcc 12, which has no such attribute, mostly does not: see EXEC_FRAME.) */
#if __has_attribute(musttail)
#define TAIL_CALL __attribute__((musttail))
#else
#define TAIL_CALL
#endif
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define KiB (1ULL << 10)
#define MiB (1ULL << 20)
#define GiB (1ULL << 30)

static inline uint64_t bits_get(uint64_t value, unsigned low, unsigned count)
{
	return (value >> low) & (count < 64 ? BIT(count) - 1 : ~0ULL);
}

/* Sign-extends the low `bits` bits of `value`; 1 <= bits <= 64. */
static inline int64_t sign_extend(uint64_t value, unsigned bits)
{
	return (int64_t)(value << (64 - bits)) >> (64 - bits);
}

static inline uint64_t align_down(uint64_t value, uint64_t to)
{
	return value & ~(to - 1);
}

static inline uint64_t align_up(uint64_t value, uint64_t to)
{
	return (value + to - 1) & ~(to - 1);
}

/* All ones in the low `size` bytes; size is 1, 2, 4 or 8. */
static inline uint64_t size_mask(unsigned size)
{
	return ~0ULL >> (64 - 8 * size);
}
