// SPDX-License-Identifier: MIT
// Memory: a chase of pointers through 4 MiB, and copying.

#include <string.h>

#include "bench.h"

enum { NODES = 1 << 16, LINE = 64, STEPS = 50000, BLOCK = 1 << 18, SAMPLE = 4093 };

/* A node fills a cache line. */
static struct node {
        struct node *next;
        char rest[LINE - sizeof(struct node *)];
} nodes[NODES];

/* Sattolo's shuffle: the pointers form one circle through all nodes. */
static void chase_setup(void)
{
        static uint32_t order[NODES];
        uint32_t state = 1;

        for (uint32_t i = 0; i < NODES; i++)
                order[i] = i;
        for (uint32_t i = NODES - 1; i > 0; i--) {
                uint32_t j = next_random(&state) % i, other = order[i];

                order[i] = order[j];
                order[j] = other;
        }
        for (uint32_t i = 0; i < NODES; i++)
                nodes[order[i]].next = &nodes[order[(i + 1) % NODES]];
}

static uint64_t chase(void)
{
        const struct node *node = nodes;

        for (int i = 0; i < STEPS; i++)
                node = node->next;
        return node - nodes;
}

static _Alignas(uint64_t) uint8_t from[BLOCK], to[BLOCK];
static uint8_t round_mark;

static void mark_block(void)
{
        round_mark++;
        for (int i = 0; i < BLOCK; i += SAMPLE)
                from[i] = round_mark + i;
}

static uint64_t wrong_bytes(void)
{
        uint64_t wrong = 0;

        for (int i = 0; i < BLOCK; i += SAMPLE)
                wrong += to[i] != (uint8_t)(round_mark + i);
        return wrong;
}

/* As the C library does it on this processor: large blocks often by one REP MOVSB. */
static uint64_t copy(void)
{
        volatile size_t size = BLOCK;

        mark_block();
        memcpy(to, from, size);
        return wrong_bytes();
}

/* Word by word. The empty statement keeps the compiler from seeing a memcpy in it. */
static uint64_t copy_words(void)
{
        const uint64_t *source = (const uint64_t *)from;
        uint64_t *target = (uint64_t *)to;

        mark_block();
        for (size_t i = 0; i < BLOCK / sizeof(*source); i++) {
                target[i] = source[i];
                __asm__ volatile("" : : : "memory");
        }
        return wrong_bytes();
}

const struct bench memory_benches[] = {
        {"pointer-chase", "integer", STEPS, MEGA, chase, 0xfa41, chase_setup, 0, 0},
        {"memcpy", "memory", BLOCK, MBYTE, copy, 0, 0, 0, 0},
        {"copy-loop", "memory", BLOCK, MBYTE, copy_words, 0, 0, 0, 0},
        {0},
};
