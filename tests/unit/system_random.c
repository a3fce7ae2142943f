/* SPDX-License-Identifier: MIT */
/* Random descriptor tables, gates, tasks, stacks and control registers, and one instruction on them, against a model written from the manual's
 * operation sections alone (cited at each function): segment loads, LAR and its kin, LLDT and LTR, far JMP, CALL, RET and IRET through all kinds of
 * descriptors, task switches, INT n, fast system calls, MOV to and from control registers; and the delivery of whatever fault comes out, with the
 * faults of that: double and triple ones. 32- and 16-bit protected mode, compatibility mode and 64-bit mode, CPL 0 to 3.
 *
 *   system_random [CASES]              SEED: where to begin
 *   system_random -c SEED [-p PLAIN]   runs that case alone: a failing one is made smaller and printed so
 *
 * Virtual-8086 mode is left to the guests (guest/legacy). system_engines.c has the engines run the same cases. */
#include <stdlib.h>
#include <unistd.h>
#include "system_case.h"
#include "test.h"

#define DEFAULT_CASES 200000u
#define SHOWN 3 /* failures of a kind that are printed */

static struct flat *f;

/* 1: as the manual says, 0: not, -1: not run. */
static int one(uint64_t seed, uint64_t plain, bool print, struct system_case *c, struct system_want *want)
{
	int vector;
	uint32_t error;
	bool good;

	system_build(f, c, seed, plain);
	if (!system_expect(f, c, want))
		return -1;
	vector = flat_run(f, CODE, c->bytes, c->length);
	error = vector >= VECTOR_TS ? f->core.fault.error : 0;
	if (vector >= 0 && !want->task_fault)
		x86_deliver_fault(&f->core);
	good = vector == want->vector && (vector < VECTOR_TS || error == want->error) && system_same(c, want, &f->core, flat_ram);
	if (print) {
		system_show(c, want, &f->core, flat_ram);
		printf("#   here vector %d error %x: %s\n", vector, error, good ? "the same" : "different");
	}
	return good;
}

/* Takes out of a failing case what it fails without. */
static void shrink(uint64_t seed)
{
	struct system_case c;
	struct system_want want;
	uint64_t plain = 0;

	for (unsigned bit = 0; bit < PLAIN_BITS; bit++)
		if (one(seed, plain | BIT(bit), false, &c, &want) == 0)
			plain |= BIT(bit);
	one(seed, plain, true, &c, &want);
}

int main(int argc, char **argv)
{
	const char *given = getenv("SEED"), *single = NULL;
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1, plain = 0;
	unsigned long ran[SYSTEM_WHATS][3] = { 0 }, bad[SYSTEM_WHATS] = { 0 };
	struct system_case c;
	struct system_want want;

	for (int option; (option = getopt(argc, argv, "c:p:")) != -1;) {
		if (option == '?')
			return 2;
		*(option == 'c' ? &single : &given) = optarg;
		plain = option == 'p' ? strtoull(optarg, NULL, 0) : plain;
	}
	f = flat_new("max");
	if (single)
		return one(strtoull(single, NULL, 0), plain, true, &c, &want) == 0;
	unsigned long cases = optind < argc ? strtoul(argv[optind], NULL, 0) : DEFAULT_CASES;
	printf("# seed %lu\n", seed);
	for (unsigned long n = 0; n < cases; n++) {
		enum system_what what = system_what_of(seed + n);
		if (bad[what] >= SHOWN)
			continue; /* it is known not to work */
		int result = one(seed + n, 0, false, &c, &want);
		if (result == 0 && bad[what]++ < SHOWN)
			shrink(seed + n);
		if (result >= 0)
			ran[what][m.shutdown ? 2 : want.vector >= 0]++;
	}
	for (unsigned w = 0; w < SYSTEM_WHATS; w++)
		ok(!bad[w] && (w == ASK || ran[w][1]) && (w == EXCEPTION || ran[w][0]),
		   "%s: %lu cases pass, %lu fault, %lu end in shutdown, as the manual says", system_names[w], ran[w][0], ran[w][1], ran[w][2]);
	return done();
}
