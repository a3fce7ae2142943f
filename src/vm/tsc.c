/* SPDX-License-Identifier: MIT */
/* The frequency of the host's TSC: SDM volume 2A CPUID leaves 15h, 80000007h, and the hypervisors' timing leaf 40000010h, believed when a
 * short look at the clock agrees, else measured. Leaf 16h is a marketing frequency in MHz: not exact enough for a clock. */
#include <cpuid.h>
#include <pthread.h>
#include <time.h>
#include <x86intrin.h>
#include "util/bits.h"
#include "vm/clock.h"

#define NS 1000000000ULL
#define LOOK_NS (2 * 1000 * 1000ULL)     /* enough to tell right from wrong */
#define MEASURE_NS (20 * 1000 * 1000ULL) /* enough for kHz */
#define TOLERANCE 500                    /* a claim may differ from the look by 1/500 */
#define TRIES 16

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint64_t host_hz;
static bool host_invariant;

struct sample {
	uint64_t ns, tsc;
};

/* A reading of both clocks at one moment: of several the one that was interrupted least. */
static struct sample sample(void)
{
	struct sample best = { 0 };
	uint64_t best_width = UINT64_MAX;

	for (unsigned i = 0; i < TRIES; i++) {
		struct timespec t;
		uint64_t before = __rdtsc(), after;
		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = __rdtsc();
		if (after - before < best_width) {
			best_width = after - before;
			best.ns = (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
			best.tsc = before + (after - before) / 2;
		}
	}
	return best;
}

static uint64_t measure(uint64_t ns)
{
	struct sample a = sample(), b;
	struct timespec pause = { .tv_nsec = (long)ns };

	while (nanosleep(&pause, &pause))
		;
	b = sample();
	return (uint64_t)((unsigned __int128)(b.tsc - a.tsc) * NS / (b.ns - a.ns));
}

static uint64_t claimed(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid_count(0x15, 0, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a;
	__cpuid(1, a, b, c, d);
	if (c & BIT(31)) { /* under a hypervisor */
		__cpuid(0x40000000, a, b, c, d);
		if (a >= 0x40000010 && a < 0x40010000) {
			__cpuid(0x40000010, a, b, c, d);
			return (uint64_t)a * 1000;
		}
	}
	return 0;
}

static void find_out(void)
{
	unsigned a, b, c, d;
	uint64_t claim = claimed();

	host_invariant = __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & BIT(8));
	if (claim) {
		uint64_t seen = measure(LOOK_NS), off = seen > claim ? seen - claim : claim - seen;
		if (off < claim / TOLERANCE) {
			host_hz = claim;
			return;
		}
	}
	host_hz = (measure(MEASURE_NS) + 500) / 1000 * 1000;
}

uint64_t tsc_host_hz(bool *invariant)
{
	pthread_once(&once, find_out);
	*invariant = host_invariant;
	return host_hz;
}
