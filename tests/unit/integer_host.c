/* SPDX-License-Identifier: MIT */
/* The integer semantics against the host's processor, in bulk: every row of insn_integer.def in 64-, 32- and
 * 16-bit code, random encodings, operands, flags and faults. Registers, flags (those that the manual calls
 * undefined too), memory, RIP and exceptions must be the same. Usage: integer_host [seed [cases per row [row]]];
 * or SEED in the environment. */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include "integer_cases.h"
#include "test.h"
#include "x86/features.h"

#define SHOWN 3 /* failures per row that are printed in full */

static const char *const row_names[] = {
#define OP(mnemonic, forms, klass, translate) #mnemonic,
#include "x86/insn_integer.def"
#undef OP
};

static struct code_mode {
	const char *name;
	uint32_t mode;
	bool works; /* the host lets us run such code */
} modes[] = { { "64-bit", MODE_CODE64, true }, { "32-bit", MODE_CODE32, false }, { "16-bit", MODE_CODE16, false } };
static bool all_modes = true;

/* The functions that ran, so that none is left out. */
#define SEEN 4096u
static x86_exec_fn *seen[SEEN];
static bool see(x86_exec_fn *fn, bool add)
{
	unsigned n = (unsigned)((uintptr_t)fn >> 4) % SEEN;
	while (seen[n] && seen[n] != fn)
		n = (n + 1) % SEEN;
	if (add)
		seen[n] = fn;
	return seen[n];
}

/* How the two sides ended, for one case. */
struct outcome {
	struct host_state state;
	struct host_end end;
	uint8_t data[HOST_DATA_SIZE];
};

static bool same(const struct outcome *a, const struct outcome *b, uint32_t mode)
{
	unsigned registers = mode == MODE_CODE64 ? 16 : 8;
	uint64_t mask = mode == MODE_CODE64
				? ~0ULL
				: 0xffffffff; /* an interrupt changes the upper half of a 16-bit stack's pointer */
	bool error = a->end.vector == VECTOR_PF || a->end.vector == VECTOR_GP || a->end.vector == VECTOR_SS;

	for (unsigned r = 0; r < registers; r++)
		if ((a->state.gpr[r] ^ b->state.gpr[r]) & mask)
			return false;
	return a->end.vector == b->end.vector && a->state.rip == b->state.rip && a->state.rflags == b->state.rflags &&
	       (!error || a->end.error == b->end.error) &&
	       (a->end.vector != VECTOR_PF || a->end.address == b->end.address) &&
	       !memcmp(a->data, b->data, sizeof(a->data));
}

/* Where processors differ among themselves, and the host may do otherwise than we. */
static bool loop_prefix(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	for (unsigned n = 0; n < c->length - 2; n++)
		if (c->bytes[n] == 0xf2 || c->bytes[n] == 0xf3)
			return true;
	return false;
}
static bool call_order(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	return ours->end.vector == VECTOR_GP && (host->end.vector == VECTOR_PF || host->end.vector == VECTOR_SS);
}
static bool half_stored(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	struct outcome stored = *ours;
	memcpy(stored.data, host->data, sizeof(stored.data));
	return ours->end.vector != HOST_COMPLETED && same(host, &stored, MODE_CODE32);
}
static bool both_faulted(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	return ours->end.vector == host->end.vector && ours->end.vector != HOST_COMPLETED &&
	       ours->end.address == host->end.address;
}
static bool undefined_flags(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	bool base = hosttwin_insn.op == X86_OP_AAM || hosttwin_insn.op == X86_OP_AAD;
	uint64_t defined = base ? FLAG_SF | FLAG_ZF | FLAG_PF : FLAG_AF | FLAG_CF;
	struct outcome fixed = *ours;

	fixed.state.rflags = host->state.rflags;
	return !((ours->state.rflags ^ host->state.rflags) & defined) && same(host, &fixed, MODE_CODE32);
}
static bool wide_source(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	return hosttwin_insn.size == 2 && host->end.vector == VECTOR_PF && ours->end.vector == HOST_COMPLETED;
}/* Both operands of CMPS can fault, and here do: the manual does not say which one is told of. A #GP of the destination is one beyond
 * the limit of 16-bit code's segments. */
static bool other_operand(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	uint64_t destination = ours->state.gpr[RDI] & size_mask(hosttwin_insn.asize);
	uint16_t from_destination = (uint16_t)(host->end.address - destination); /* whatever the segment's base */
	bool beyond = destination + hosttwin_insn.size - 1 > 0xffff;
	struct outcome told = *ours;

	told.end = host->end;
	return ours->end.vector != HOST_COMPLETED &&
	       (host->end.vector == VECTOR_PF ? from_destination < hosttwin_insn.size : host->end.vector == VECTOR_GP && beyond) &&
	       same(host, &told, MODE_CODE64);
}

static struct excuse {
	uint16_t op;
	bool (*applies)(const struct integer_case *, const struct outcome *host, const struct outcome *ours);
	const char *reason;
	unsigned count;
} excuses[] = {
	{ X86_OP_LOOPE, loop_prefix, "AMD processors take the condition of LOOPE and LOOPNE from a REP prefix", 0 },
	{ X86_OP_LOOPNE, loop_prefix, "AMD processors take the condition of LOOPE and LOOPNE from a REP prefix", 0 },
	{ X86_OP_CALL, call_order,
	  "AMD processors store the return address before they look at the target (SDM: after)", 0 },
	{ X86_OP_PUSHA, half_stored, "AMD processors store up to the fault", 0 },
	{ X86_OP_PUSHAD, half_stored, "AMD processors store up to the fault", 0 },
	{ X86_OP_POPA, both_faulted, "AMD processors load registers up to the fault (SDM 3A 6.5: none)", 0 },
	{ X86_OP_POPAD, both_faulted, "AMD processors load registers up to the fault (SDM 3A 6.5: none)", 0 },
	{ X86_OP_MOVSXD, wide_source, "AMD processors read 32 bits for 16 (SDM 2, MOVSXD r16, r/m16)", 0 },
	{ X86_OP_CMPSB, other_operand, "some AMD processors tell of the destination's fault before the source's", 0 },
	{ X86_OP_CMPSW, other_operand, "some AMD processors tell of the destination's fault before the source's", 0 },
	{ X86_OP_CMPSD, other_operand, "some AMD processors tell of the destination's fault before the source's", 0 },
	{ X86_OP_CMPSQ, other_operand, "some AMD processors tell of the destination's fault before the source's", 0 },
	{ X86_OP_AAA, undefined_flags, "the host leaves the undefined flags in another way", 0 },
	{ X86_OP_AAS, undefined_flags, "the host leaves the undefined flags in another way", 0 },
	{ X86_OP_AAM, undefined_flags, "the host leaves the undefined flags in another way", 0 },
	{ X86_OP_AAD, undefined_flags, "the host leaves the undefined flags in another way", 0 },
	{ X86_OP_DAA, undefined_flags, "the host leaves the undefined flags in another way", 0 },
	{ X86_OP_DAS, undefined_flags, "the host leaves the undefined flags in another way", 0 },
};

static bool excused(const struct integer_case *c, const struct outcome *host, const struct outcome *ours)
{
	for (unsigned n = 0; n < ARRAY_SIZE(excuses); n++)
		if (excuses[n].op == hosttwin_insn.op && excuses[n].applies(c, host, ours)) {
			excuses[n].count++;
			return true;
		}
	return false;
}

static void print_end(const char *who, const struct outcome *o)
{
	printf("# %s: ", who);
	if (o->end.vector == HOST_COMPLETED)
		printf("completed");
	else
		printf("vector %d error %x address %llx", o->end.vector, o->end.error,
		       (unsigned long long)o->end.address);
	printf(", RIP %llx, flags %llx\n", (unsigned long long)o->state.rip, (unsigned long long)o->state.rflags);
}

static void print_case(const struct integer_case *c, const struct code_mode *m, const struct outcome *host,
		       const struct outcome *ours)
{
	static const char *const names[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
	char text[128];

	x86_disassemble(text, sizeof(text), c->bytes, c->length, m->mode | MODE_LONG, c->state.rip);
	printf("#\n# %s code, at %llx:", m->name, (unsigned long long)c->state.rip);
	for (unsigned n = 0; n < c->length; n++)
		printf(" %02x", c->bytes[n]);
	printf("  %s\n# before: flags %llx", text, (unsigned long long)c->state.rflags);
	for (unsigned r = 0; r < (m->mode == MODE_CODE64 ? 16 : 8); r++)
		printf("%s%s %016llx", r % 4 ? " " : "\n#   ", names[r], (unsigned long long)c->state.gpr[r]);
	printf("\n");
	print_end("host", host);
	print_end("ours", ours);
	for (unsigned r = 0; r < 16; r++)
		if (host->state.gpr[r] != ours->state.gpr[r])
			printf("#   %s: host %016llx, ours %016llx\n", names[r], (unsigned long long)host->state.gpr[r],
			       (unsigned long long)ours->state.gpr[r]);
	for (unsigned n = 0, shown = 0; n < HOST_DATA_SIZE && shown < 16; n++)
		if (host->data[n] != ours->data[n]) {
			printf("#   [%llx]: host %02x, ours %02x\n", HOST_DATA + n, host->data[n], ours->data[n]);
			shown++;
		}
}

/* The host may run only what can reach nothing but the test's memory; our side says where the case goes. */
static bool is_safe(const struct integer_case *c, const struct outcome *ours, uint32_t mode)
{
	const struct x86_op_info *op = &x86_ops[hosttwin_insn.op];
	uint64_t rip = ours->state.rip + (mode == MODE_CODE16 ? HOST_CODE : 0);

	if (hosttwin_insn.op > X86_OP_SCASQ)
		return false; /* not one of our rows */
	if (ours->end.vector == VECTOR_PF)
		return ours->end.address - HOST_HOLE < HOST_HOLE_SIZE;
	if (ours->end.vector == HOST_COMPLETED && op->klass == CLASS_CONTROL &&
	    ours->state.rip != c->state.rip + c->length) {
		if (rip - HOST_CODE < HOST_CODE_SIZE)
			return ours->state.rip + 48 < c->state.rip || ours->state.rip > c->state.rip + 48;
		return rip - HOST_HOLE < HOST_HOLE_SIZE || (int64_t)rip < 0 || rip < 0x10000;
	}
	return true;
}

static unsigned long ran, unsteady; /* cases; those of which the host gave two results */

/* Runs a case on both sides. 1: the same, 0: not, -1: not run. */
static int run_case(struct x86_core *core, const struct integer_case *c, const struct code_mode *m,
		    struct outcome *host, struct outcome *ours)
{
	integer_case_fill(c);
	if (one_in(16))
		x86_tlb_flush(core, FLUSH_ALL, 0, 0); /* the slow paths */
	ours->state = host->state = c->state;
	ours->end = hosttwin_run(&ours->state, c->bytes, c->length, m->mode);
	memcpy(ours->data, (void *)HOST_DATA, HOST_DATA_SIZE);
	if (!is_safe(c, ours, m->mode))
		return -1;
	see(hosttwin_insn.exec, true);
	for (unsigned n = 0; n < HOST_TRIES; n++) {
		integer_case_fill(c);
		host->state = c->state;
		host->end = hostrun(&host->state, c->bytes, c->length, m->mode);
		memcpy(host->data, (void *)HOST_DATA, HOST_DATA_SIZE);
		if (same(host, ours, m->mode) || excused(c, host, ours)) {
			unsteady += n > 0;
			return 1;
		}
	}
	return 0;
}

/* What a row's cases came to. */
struct tally {
	unsigned run, failed, skipped;
	unsigned of_row; /* that ran as the row's operation */
};

static void run_row(struct x86_core *core, const struct integer_row *row, const struct code_mode *m, unsigned cases,
		    struct tally *t)
{
	static struct outcome host, ours;
	static struct integer_case c;

	c.state.fx.fcw = 0x37f;
	c.state.fx.mxcsr = 0x1f80;
	for (unsigned n = 0; n < cases; n++) {
		if (!integer_case_make(&c, row, m->mode))
			continue;
		int result = run_case(core, &c, m, &host, &ours);
		t->run += result >= 0;
		ran += result >= 0;
		t->skipped += result < 0;
		t->of_row += result >= 0 && !strcmp(x86_ops[hosttwin_insn.op].name, row->name);
		if (result == 0 && t->failed++ < SHOWN)
			print_case(&c, m, &host, &ours);
	}
}

static bool host_has(int feature)
{
	unsigned a, b, c, d, words[FEAT_WORDS] = { 0 };

	if (feature < 0)
		return true;
	__cpuid(1, a, b, words[FEAT_1_ECX], words[FEAT_1_EDX]);
	__cpuid_count(7, 0, a, words[FEAT_7_EBX], c, d);
	__cpuid(0x80000001, a, b, words[FEAT_80000001_ECX], d);
	return words[feature >> 5] >> (feature & 31) & 1;
}

/* A host may come without the segments of 32-bit programs, or without LDTs. */
static bool mode_works(uint32_t mode)
{
	struct host_state s = { .gpr = { [RSP] = 0x100 },
				.rip = (mode == MODE_CODE16 ? 0 : HOST_CODE) + 0x100,
				.rflags = FLAG_FIXED };
	s.fx.mxcsr = 0x1f80;
	return hostrun(&s, (const uint8_t *)"\x90", 1, mode).vector == HOST_COMPLETED;
}

static void run_group(struct x86_core *core, unsigned from, unsigned to, unsigned cases, const char *only)
{
	struct tally total = { 0 };
	char bad[512] = "";

	for (unsigned n = from; n < to; n++) {
		const struct integer_row *row = &integer_rows[n];
		struct tally t = { 0 };
		if (!host_has(row->feature)) {
			skip("%s: the host has no such instruction", row->name);
			continue;
		}
		if (only && strcmp(only, row->name))
			continue;
		for (unsigned m = 0; m < ARRAY_SIZE(modes); m++)
			if (modes[m].works)
				run_row(core, row, &modes[m], m ? cases / 2 : cases, &t);
		if (t.failed || (!t.of_row && all_modes)) {
			size_t used = strlen(bad);
			snprintf(bad + used, sizeof(bad) - used, " %s (%u of %u failed)", row->name, t.failed,
				 t.of_row);
		}
		total.run += t.run;
		total.skipped += t.skipped;
		if (only)
			printf("# %s: run %u, as %s %u, skipped %u, failed %u\n", row->name, t.run, row->name, t.of_row,
			       t.skipped, t.failed);
	}
	ok(!bad[0], "%s as on the host, %u rows, %u cases%s%s", integer_rows[from].group, to - from, total.run,
	   bad[0] ? " -" : "", bad);
}

static void check_rows(void)
{
	for (unsigned n = 0; n < ARRAY_SIZE(row_names); n++) {
		bool found = false;
		for (unsigned k = 0; k < integer_row_count; k++)
			found |= !strcmp(integer_rows[k].name, row_names[n]);
		if (!found)
			ok(false, "row %s has no case", row_names[n]);
	}
}

/* Each function of each row must have run, in its plain and its locked form. */
static unsigned check_forms(const char *name, const struct x86_forms *forms, const char *kind)
{
	unsigned missing = 0;
	for (unsigned form = 0; form < FORM_COUNT; form++)
		for (unsigned k = 0; k < 4; k++)
			if (forms->by[form][k] && !see(forms->by[form][k], false)) {
				printf("# %s%s: no case ran form %u, column %u\n", kind, name, form, k);
				missing++;
			}
	return missing;
}
static void check_functions(void)
{
	unsigned missing = 0;
	for (unsigned n = 0; n < integer_row_count; n++) {
		unsigned op = X86_OP_INVALID + 1;
		while (strcmp(x86_ops[op].name, integer_rows[n].name))
			op++;
		if (!host_has(integer_rows[n].feature))
			continue;
		missing += check_forms(integer_rows[n].name, x86_ops[op].forms, "");
		if (x86_ops[op].forms->locked)
			missing += check_forms(integer_rows[n].name, x86_ops[op].forms->locked, "LOCK ");
	}
	ok(!missing, "every function of every row ran");
}

int main(int argc, char **argv)
{
	const char *given = argc > 1 ? argv[1] : getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
	unsigned cases = argc > 2 ? (unsigned)atoi(argv[2]) : 1500;
	const char *only = argc > 3 ? argv[3] : NULL;

	printf("# seed %llu\n", (unsigned long long)seed);
	random_seed(seed);
	check_rows();
	if (!hostrun_init()) {
		skip("integer instructions against the host");
		return done();
	}
	hostrun_init16();
	for (unsigned m = 1; m < ARRAY_SIZE(modes); m++) {
		modes[m].works = mode_works(modes[m].mode);
		if (!modes[m].works) {
			skip("%s code: this host does not run it", modes[m].name);
			all_modes = false;
		}
	}
	struct x86_core *core = hosttwin_init();
	for (unsigned from = 0, to; from < integer_row_count; from = to) {
		for (to = from; to < integer_row_count && !strcmp(integer_rows[to].group, integer_rows[from].group);
		     to++)
			;
		run_group(core, from, to, cases, only);
	}
	if (!only && all_modes)
		check_functions();
	for (unsigned n = 0; n < ARRAY_SIZE(excuses); n++)
		if (excuses[n].count)
			printf("# %u cases of %s excused: %s\n", excuses[n].count, x86_ops[excuses[n].op].name,
			       excuses[n].reason);
	ok(hostrun_steady(unsteady, ran), "the host gives one result for one case");
	return done();
}
