// SPDX-License-Identifier: MIT
// Scalar floating point: bodies that attract each other (SSE2 doubles), a series (x87 long doubles).

#include <math.h>
#include <string.h>

#include "bench.h"

enum { BODIES = 5, TIME_STEPS = 200, PAIRS = BODIES * (BODIES - 1) / 2, TERMS = 10000 };

struct body {
        double x[3], v[3], mass;
};

static const struct body start[BODIES] = {
        {{0, 0, 0}, {0, 0, 0}, 40},
        {{4, 1, 0.5}, {-0.5, 3, 0.1}, 0.04},
        {{-7, 3, 1}, {-1, -2, 0}, 0.01},
        {{10, -9, -0.25}, {1.25, 1.5, 0}, 0.002},
        {{-1, 15, 2}, {-1.5, 0.25, -0.125}, 0.003},
};

static void pull(struct body *a, struct body *b, double dt)
{
        double d[3], square = 0, force;

        for (int i = 0; i < 3; i++) {
                d[i] = a->x[i] - b->x[i];
                square += d[i] * d[i];
        }
        force = dt / (square * sqrt(square));
        for (int i = 0; i < 3; i++) {
                a->v[i] -= d[i] * b->mass * force;
                b->v[i] += d[i] * a->mass * force;
        }
}

/* Every operation is exact to the bit by IEEE 754, so the result is. */
static uint64_t bodies(void)
{
        struct body body[BODIES];
        uint64_t sum = 0;
        const double dt = 0.01;

        memcpy(body, start, sizeof(body));
        for (int step = 0; step < TIME_STEPS; step++) {
                for (int i = 0; i < BODIES; i++)
                        for (int j = i + 1; j < BODIES; j++)
                                pull(&body[i], &body[j], dt);
                for (int i = 0; i < BODIES; i++)
                        for (int k = 0; k < 3; k++)
                                body[i].x[k] += dt * body[i].v[k];
        }
        for (int i = 0; i < BODIES; i++) {
                uint64_t bits;

                memcpy(&bits, &body[i].x[0], sizeof(bits));
                sum = sum * 31 + bits;
        }
        return sum;
}

/* The sum of 1/k^2, from the small terms to the large. */
static uint64_t series(void)
{
        long double sum = 0;
        uint64_t mantissa;

        for (int k = TERMS; k > 0; k--)
                sum += 1.0L / ((long double)k * k);
        memcpy(&mantissa, &sum, sizeof(mantissa));
        return mantissa;
}

const struct bench fp_benches[] = {
        {"n-body", "fp", TIME_STEPS * PAIRS, MEGA, bodies, 0xfbddd7de53950ad9, 0, 0, 0},
        {"x87-series", "fp", TERMS, MEGA, series, 0xd289ec40f78b0cfe, 0, 0, 0},
        {0},
};
