// SPDX-License-Identifier: MIT
// dbench: runs the benchmarks one after the other, checks each result, and prints a line "NAME VALUE UNIT" for each.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

static const struct bench *const tables[] = {
        integer_benches, memory_benches, fp_benches, simd_benches, kernel_benches,
};

static const struct {
        const char *name;
        double size;
} units[] = {
        [MEGA] = {"M/s", 1e6},
        [MBYTE] = {"MB/s", 1e6},
        [KILO] = {"k/s", 1e3},
};

static bool all_right = true;

void need(bool condition, const char *what)
{
        if (condition)
                return;
        perror(what);
        exit(1);
}

static double now(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec + t.tv_nsec * 1e-9;
}

/* Iterates; returns false, with a message, at the first wrong checksum. */
static bool iterate(const struct bench *bench, uint64_t count)
{
        while (count--) {
                uint64_t sum = bench->once();

                if (sum != bench->sum) {
                        printf("%s wrong checksum %#llx instead of %#llx\n", bench->name, (unsigned long long)sum,
                               (unsigned long long)bench->sum);
                        all_right = false;
                        return false;
                }
        }
        return true;
}

/*
 * The first iteration warms up, and counts only if it alone takes the whole time. Then come batches, each as large as
 * what is left of the time suggests but at most double, so that the clock, which may be slow, is seldom read.
 */
static void measure(const struct bench *bench, double seconds)
{
        double begin = now(), spent;
        uint64_t done = 1, batch = 1;

        if (!iterate(bench, 1))
                return;
        spent = now() - begin;
        if (spent < seconds) {
                done = 0;
                begin = now();
                do {
                        double rest;

                        if (!iterate(bench, batch))
                                return;
                        done += batch;
                        spent = now() - begin;
                        rest = spent > 0 ? (seconds - spent) * done / spent + 1 : done;
                        batch = rest < done ? (rest > 1 ? rest : 1) : done;
                } while (spent < seconds);
        }
        printf("%s %.6g %s\n", bench->name, done * bench->work / spent / units[bench->unit].size,
               units[bench->unit].name);
}

/* With a count there is no timing: exactly so many iterations. */
static void run(const struct bench *bench, double seconds, uint64_t count)
{
        const char *lack = bench->lacks ? bench->lacks() : 0;

        if (lack) {
                printf("%s skip %s\n", bench->name, lack);
                return;
        }
        if (bench->setup)
                bench->setup();
        if (count) {
                if (iterate(bench, count))
                        printf("%s %llu iterations\n", bench->name, (unsigned long long)count);
        } else {
                measure(bench, seconds);
        }
        if (bench->teardown)
                bench->teardown();
}

static void list(void)
{
        for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
                for (const struct bench *bench = tables[i]; bench->name; bench++)
                        printf("%s %s %s %.0f %g\n", bench->name, bench->group, units[bench->unit].name,
                               units[bench->unit].size, bench->work);
}

static void usage(FILE *to)
{
        fputs("usage: dbench [--seconds S] [--only NAME]...    measure each for at least S seconds (0.5)\n"
              "       dbench --count NAME N                    run N iterations, measure nothing\n"
              "       dbench --list                            name, group, unit, its size, work in an iteration\n",
              to);
}

static const struct bench *find(const char *name)
{
        for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
                for (const struct bench *bench = tables[i]; bench->name; bench++)
                        if (!strcmp(bench->name, name))
                                return bench;
        fprintf(stderr, "dbench: there is no benchmark '%s'\n", name);
        exit(2);
}

int main(int argc, char **argv)
{
        const struct bench **only = calloc(argc, sizeof(*only));
        double seconds = 0.5;
        int chosen = 0, i;

        need(only, "calloc");
        setvbuf(stdout, 0, _IOLBF, 0);
        for (i = 1; i < argc; i++) {
                if (!strcmp(argv[i], "--exit"))
                        return 9;
                if (!strcmp(argv[i], "--list"))
                        return list(), 0;
                if (!strcmp(argv[i], "--help"))
                        return usage(stdout), 0;
                if (!strcmp(argv[i], "--seconds") && i + 1 < argc && (seconds = atof(argv[i + 1])) > 0) {
                        i++;
                } else if (!strcmp(argv[i], "--only") && i + 1 < argc) {
                        only[chosen++] = find(argv[++i]);
                } else if (!strcmp(argv[i], "--count") && i + 2 < argc && atoll(argv[i + 2]) > 0) {
                        run(find(argv[i + 1]), 0, atoll(argv[i + 2]));
                        return !all_right;
                } else {
                        return usage(stderr), 2;
                }
        }
        for (i = 0; i < chosen; i++)
                run(only[i], seconds, 0);
        for (size_t t = 0; !chosen && t < sizeof(tables) / sizeof(tables[0]); t++)
                for (const struct bench *bench = tables[t]; bench->name; bench++)
                        run(bench, seconds, 0);
        return !all_right;
}
