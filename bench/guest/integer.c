// SPDX-License-Identifier: MIT
// Integer loops: prime sieve, sorting, checksum, indirect and recursive calls.

#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum { SIEVE = 1 << 20, ITEMS = 1000000, BYTES = 1 << 16, CALLS = 100000, FIB = 25, FIB_CALLS = 242785 };

static uint8_t composite[SIEVE];

/* Returns the number of primes below SIEVE. */
static uint64_t sieve(void)
{
        uint64_t primes = 0;

        memset(composite, 0, sizeof(composite));
        for (uint32_t i = 2; i < SIEVE; i++) {
                if (composite[i])
                        continue;
                primes++;
                for (uint64_t j = (uint64_t)i * i; j < SIEVE; j += i)
                        composite[j] = 1;
        }
        return primes;
}

static uint32_t items[ITEMS];

static void fill_items(void)
{
        uint32_t state = 1;

        for (int i = 0; i < ITEMS; i++)
                items[i] = next_random(&state);
}

/* Depends on each item's place; nothing that is out of order passes. */
static uint64_t items_sum(void)
{
        uint64_t sum = 0;

        for (int i = 0; i < ITEMS; i++) {
                if (i && items[i - 1] > items[i])
                        return 0;
                sum = sum * 31 + items[i];
        }
        return sum;
}

static int compare(const void *a, const void *b)
{
        uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

        return (x > y) - (x < y);
}

static uint64_t quick(void)
{
        fill_items();
        qsort(items, ITEMS, sizeof(items[0]), compare);
        return items_sum();
}

static uint64_t shell(void)
{
        int gap = 1;

        fill_items();
        while (gap < ITEMS / 3)
                gap = 3 * gap + 1;
        for (; gap; gap /= 3) {
                for (int i = gap; i < ITEMS; i++) {
                        uint32_t item = items[i];
                        int j = i;

                        for (; j >= gap && items[j - gap] > item; j -= gap)
                                items[j] = items[j - gap];
                        items[j] = item;
                }
        }
        return items_sum();
}

static uint32_t crc_table[256];
static uint8_t crc_bytes[BYTES];

static void crc_setup(void)
{
        uint32_t state = 1;

        for (uint32_t i = 0; i < 256; i++) {
                uint32_t remainder = i;

                for (int bit = 0; bit < 8; bit++)
                        remainder = remainder >> 1 ^ (remainder & 1 ? 0xedb88320 : 0);
                crc_table[i] = remainder;
        }
        for (int i = 0; i < BYTES; i++)
                crc_bytes[i] = next_random(&state);
}

static uint64_t crc(void)
{
        uint32_t crc = 0xffffffff;

        for (int i = 0; i < BYTES; i++)
                crc = crc >> 8 ^ crc_table[(crc ^ crc_bytes[i]) & 0xff];
        return ~crc;
}

#define STEP(name, expression)                                       \
        __attribute__((noipa)) static uint32_t name(uint32_t x)      \
        {                                                            \
                return expression;                                   \
        }

STEP(step0, x * 1664525 + 1013904223)
STEP(step1, (x >> 3 | x << 29) + 0x9e3779b9)
STEP(step2, x ^ x << 13 ^ 0x55555555)
STEP(step3, x - (x >> 7) + 12345)
STEP(step4, ~x * 9)
STEP(step5, x + (x << 5) + 1)
STEP(step6, x ^ x >> 11 ^ 0x5bd1e995)
STEP(step7, 0x80000001 - x)

static uint32_t (*const steps[])(uint32_t) = {step0, step1, step2, step3, step4, step5, step6, step7};

static uint64_t indirect(void)
{
        uint32_t x = 1;

        for (int i = 0; i < CALLS; i++)
                x = steps[x >> 16 & 7](x);
        return x;
}

__attribute__((noipa)) static uint32_t fib(uint32_t n)
{
        return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t recursive(void)
{
        return fib(FIB);
}

const struct bench integer_benches[] = {
        {"sieve", "integer", SIEVE, MEGA, sieve, 82025, 0, 0, 0},
        {"qsort", "integer", ITEMS, MEGA, quick, 0xff788a3ec23d8f49, 0, 0, 0},
        {"shellsort", "integer", ITEMS, MEGA, shell, 0xff788a3ec23d8f49, 0, 0, 0},
        {"crc32", "integer", BYTES, MBYTE, crc, 0x82960a6d, crc_setup, 0, 0},
        {"indirect-calls", "integer", CALLS, MEGA, indirect, 0x491857ed, 0, 0, 0},
        {"recursive-calls", "integer", FIB_CALLS, MEGA, recursive, 75025, 0, 0, 0},
        {0},
};
