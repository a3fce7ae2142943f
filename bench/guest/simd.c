// SPDX-License-Identifier: MIT
// Vectors: integers and floats in SSE2, integers in SSE4.1, a dot product in AVX2 with FMA.

#include <immintrin.h>

#include "bench.h"

enum { COUNT = 4096, PASSES = 16 };

typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));
typedef float f32x4 __attribute__((vector_size(16)));

static union {
        u32x4 u[COUNT / 4];
        i32x4 i[COUNT / 4];
        uint32_t word[COUNT];
} ints;

static union {
        f32x4 f[COUNT / 4];
        __m256 wide[COUNT / 8];
        float item[COUNT];
} left, right;

static void ints_setup(void)
{
        uint32_t state = 1;

        for (int i = 0; i < COUNT; i++)
                ints.word[i] = next_random(&state);
}

/* Small whole numbers: a sum of their products is exact in whatever order it is made. */
static void floats_setup(void)
{
        uint32_t state = 1;

        for (int i = 0; i < COUNT; i++) {
                left.item[i] = (int)(next_random(&state) % 17) - 8;
                right.item[i] = (int)(next_random(&state) % 17) - 8;
        }
}

static uint64_t sum_of(u32x4 v)
{
        return (uint64_t)v[0] << 32 ^ (uint64_t)v[1] << 21 ^ (uint64_t)v[2] << 10 ^ v[3];
}

/* Shifts, logic, additions, a shuffle. */
static uint64_t sse2_int(void)
{
        u32x4 sum = {1, 2, 3, 4};

        for (int pass = 0; pass < PASSES; pass++) {
                for (int i = 0; i < COUNT / 4; i++) {
                        u32x4 x = ints.u[i] + sum;

                        x ^= x << 13;
                        x ^= x >> 17;
                        x ^= x << 5;
                        sum = __builtin_shuffle(sum + x, (u32x4){1, 2, 3, 0});
                }
        }
        return sum_of(sum);
}

static uint64_t sse2_float(void)
{
        f32x4 sum = {0, 0, 0, 0};

        for (int pass = 0; pass < PASSES; pass++)
                for (int i = 0; i < COUNT / 4; i++)
                        sum += left.f[i] * right.f[i];
        return (int64_t)(sum[0] + sum[1] + sum[2] + sum[3]);
}

/* 32-bit multiplications and maxima, which SSE4.1 brought. */
__attribute__((target("sse4.1"))) static uint64_t sse4_int(void)
{
        __m128i sum = _mm_setr_epi32(1, 2, 3, 4), low = _mm_set1_epi32(77);

        for (int pass = 0; pass < PASSES; pass++) {
                for (int i = 0; i < COUNT / 4; i++) {
                        __m128i x = _mm_max_epi32((__m128i)ints.i[i], low);

                        sum = _mm_add_epi32(_mm_mullo_epi32(sum, x), low);
                }
        }
        return sum_of((u32x4)sum);
}

__attribute__((target("avx2,fma"))) static uint64_t avx2_fma(void)
{
        __m256 a = _mm256_setzero_ps(), b = a, c = a, d = a;
        float part[8], sum = 0;

        for (int pass = 0; pass < PASSES; pass++) {
                for (int i = 0; i < COUNT / 8; i += 4) {
                        a = _mm256_fmadd_ps(left.wide[i], right.wide[i], a);
                        b = _mm256_fmadd_ps(left.wide[i + 1], right.wide[i + 1], b);
                        c = _mm256_fmadd_ps(left.wide[i + 2], right.wide[i + 2], c);
                        d = _mm256_fmadd_ps(left.wide[i + 3], right.wide[i + 3], d);
                }
        }
        _mm256_storeu_ps(part, _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
        for (int i = 0; i < 8; i++)
                sum += part[i];
        return (int64_t)sum;
}

static const char *lacks_sse4(void)
{
        return __builtin_cpu_supports("sse4.1") ? 0 : "no SSE4.1";
}

static const char *lacks_avx2(void)
{
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? 0 : "no AVX2 with FMA";
}

const struct bench simd_benches[] = {
        {"sse2-int", "simd", COUNT * PASSES, MEGA, sse2_int, 0xd11c638636711952, ints_setup, 0, 0},
        {"sse2-float", "simd", COUNT * PASSES, MEGA, sse2_float, -9776, floats_setup, 0, 0},
        {"sse4-int", "simd", COUNT * PASSES, MEGA, sse4_int, 0xcaa235416edf106d, ints_setup, 0, lacks_sse4},
        {"avx2-fma", "simd", COUNT * PASSES, MEGA, avx2_fma, -9776, floats_setup, 0, lacks_avx2},
        {0},
};
