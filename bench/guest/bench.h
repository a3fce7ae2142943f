// SPDX-License-Identifier: MIT
// What a benchmark is. Each file beside this one holds a family of them; main.c runs them.

#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdint.h>

enum unit {
        MEGA,  /* million operations a second */
        MBYTE, /* million bytes a second */
        KILO,  /* thousand operations a second */
};

struct bench {
        const char *name;        /* as given to --only; a table ends with an empty row */
        const char *group;       /* what it is averaged with */
        double work;             /* operations, or bytes, in one iteration */
        enum unit unit;          /* how the result is given */
        uint64_t (*once)(void);  /* one iteration; returns its checksum */
        uint64_t sum;            /* the right checksum, the same for every iteration */
        void (*setup)(void);     /* before the first iteration, or null */
        void (*teardown)(void);  /* after the last, or null */
        const char *(*lacks)(void); /* what this machine lacks for it, else null; or null */
};

extern const struct bench integer_benches[], memory_benches[], fp_benches[], simd_benches[], kernel_benches[];

/* A sequence of numbers that is the same everywhere. */
static inline uint32_t next_random(uint32_t *state)
{
        *state = *state * 1664525u + 1013904223u;
        return *state >> 8;
}

/* Ends the program with a message when a call to the kernel fails. */
void need(bool condition, const char *what);

#endif
