/* SPDX-License-Identifier: MIT */
/* The semantics against the host's processor, in bulk: all operations that do not concern the machine, in 64-, 32- and 16-bit code, with
 * any prefixes, operands, addresses, MXCSR and x87 states, and with memory that is missing at each byte of an access.
 *
 *   bulk [-s SEED] [-n CASES] [-r ROW] [-t]     -t prints the table: what ran, by row, mode, operand size and kind of fault
 *   bulk -c 'CASE'                              runs one, and prints both states
 *
 * Encodings are found by decoding: each opcode of each map in each mode, so no row can be forgotten. A cell of the table that stayed empty
 * needs a line in tests/bulk.reasons. A case that fails is made smaller and printed as a line for tests/bulk.cases, which is replayed
 * before anything else. What differs among processors is excused by name. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "bulk_case.h"
#include "bulk_excuse.h"
#include "integer_cases.h"
#include "test.h"
#include "x86/exec.h"
#include "x86/features.h"

#define SIZES 7      /* log2 of the operand's bytes */
#define SHOWN 3      /* failures of a row that are printed in full */
#define DEFAULT_CASES 200000u
#define FILL_TRIES 20000u

static const char *const kind_names[KINDS] = { "reg", "inside", "cross", "end", "start", "readonly", "hole", "far" };

static struct cell {
	uint32_t runs;
	uint64_t missing; /* KIND_END, KIND_START: which numbers of missing bytes occurred */
} cells[X86_OP_COUNT][3][SIZES][KINDS];

static struct row {
	struct bulk_template *templates;
	unsigned count, room, failures;
	uint8_t memory[3], exists[3]; /* by mode: bits of sizes */
} rows[X86_OP_COUNT];

static bool mode_works[3] = { true, false, false };
static struct x86_core *core;
static bool replaying; /* cases that are known to be harmless */

/* --- which operations --- */

/* Integer rows that need more than random operands are integer_host's. */
static bool elsewhere(unsigned op)
{
	const char *name = x86_ops[op].name;
	static const char *const patterns[] = { "PUSH*", "POP", "POPA*", "POPF*", "ENTER", "LEAVE", "MOVS[BWDQ]", "STOS?", "LODS?", "SCAS?",
						"CMPS[BWDQ]", "XLAT", "BT", "BTS", "BTR", "BTC", "STD", "AA?", "DA?", "LOCK*" };

	if (op == X86_OP_MOVSD || op == X86_OP_CMPSD)
		return false; /* those of SSE */
	for (unsigned n = 0; n < ARRAY_SIZE(patterns); n++)
		if (!fnmatch(patterns[n], name, 0))
			return true;
	return false;
}

static bool wanted(unsigned op)
{
	return op != X86_OP_INVALID && x86_ops[op].klass == CLASS_INNOCUOUS && !elsewhere(op);
}

static unsigned size_of(const struct insn *i)
{
	unsigned size = MAX(i->size, i->ssize);

	if (i->flags & INSN_YMM)
		size = 32;
	else if (i->flags & INSN_XMM)
		size = 16;
	return size ? MIN(31u - (unsigned)__builtin_clz(size), SIZES - 1u) : 0;
}

static void add_template(const struct bulk_template *t, const struct insn *i)
{
	struct row *r = &rows[i->op];

	if (r->count == r->room) {
		r->room = r->room ? 2 * r->room : 16;
		r->templates = realloc(r->templates, r->room * sizeof(r->templates[0]));
	}
	r->templates[r->count++] = *t;
	r->exists[t->mode] |= (uint8_t)(1u << size_of(i));
	if (bulk_has_memory(i))
		r->memory[t->mode] |= (uint8_t)(1u << size_of(i));
}

static void try_template(struct bulk_template t)
{
	static const uint8_t mandatory[] = { 0, 0x66, 0xf3, 0xf2 }, escape[] = { 0, 0, 0x38, 0x3a };
	static const uint32_t stack[3] = { MODE_STACK64 | MODE_FLAT, MODE_STACK32 | MODE_FLAT, MODE_STACK16 };
	uint8_t b[16] = { 0 };
	unsigned n = 0;
	struct insn i = { 0 };

	if (t.vex) {
		b[n++] = 0xc4;
		b[n++] = (uint8_t)(0xe0 | t.map);
		b[n++] = (uint8_t)(t.wide << 7 | 0x78 | t.l << 2 | t.prefix);
	} else {
		if (t.prefix)
			b[n++] = mandatory[t.prefix];
		if (t.wide)
			b[n++] = 0x48;
		if (t.map)
			b[n++] = 0x0f;
		if (escape[t.map])
			b[n++] = escape[t.map];
	}
	b[n++] = t.opcode;
	b[n++] = (uint8_t)((t.memory ? 0 : 0xc0) | t.reg << 3 | (t.memory && t.vex ? 4 : t.rm));
	b[n] = 0x07;
	uint32_t mode = (core->mode & ~(uint32_t)(MODE_CODE | MODE_STACK | MODE_FLAT)) | bulk_modes[t.mode] | stack[t.mode];
	for (unsigned vvvv = 0; vvvv < (t.vex ? 2u : 1u); vvvv++) {
		if (vvvv)
			b[2] = (uint8_t)((b[2] & ~0x78) | 0x70);
		if (x86_decode(&i, b, sizeof(b), mode, core->model) && wanted(i.op)) {
			add_template(&t, &i);
			return;
		}
	}
}

static void find_templates(void)
{
	for (unsigned mode = 0; mode < 3; mode++)
		for (unsigned vex = 0; vex < 2; vex++)
			for (unsigned map = vex; map < 4; map++)
				for (unsigned n = 0; n < 4 * 2 * 2 * 256 * 8; n++) {
					struct bulk_template t = { .mode = (uint8_t)mode, .vex = (uint8_t)vex, .map = (uint8_t)map,
								   .prefix = n & 3, .wide = n >> 2 & 1, .l = n >> 3 & 1,
								   .opcode = (uint8_t)(n >> 4), .reg = (uint8_t)(n >> 12 & 7) };
					bool x87 = !vex && !map && t.opcode >= 0xd8 && t.opcode <= 0xdf;
					if (!vex && (t.l || (t.wide && mode)))
						continue;
					t.memory = 1;
					try_template(t);
					t.memory = 0;
					for (unsigned rm = 0; rm < (x87 ? 8u : 1u); rm++) {
						t.rm = (uint8_t)(x87 ? rm : random_below(8));
						try_template(t);
					}
				}
}

/* --- running --- */

/* The host may reach nothing but the test's memory; our side says where the case goes. */
static bool is_safe(const struct bulk_outcome *ours)
{
	if (hosttwin_insn.op == X86_OP_INVALID)
		return replaying; /* undefined to us: something else to the host, perhaps */
	if (ours->end.vector == VECTOR_PF)
		return ours->end.address - HOST_HOLE < HOST_HOLE_SIZE;
	return true;
}

static unsigned long unsteady; /* cases of which the host gave two results */

/* 1: the same, 0: not, -1: not run. */
static int run_case(struct bulk_case *c, struct bulk_outcome *host, struct bulk_outcome *ours, bool count)
{
	const struct insn i = bulk_decode(c, core);
	unsigned mode = c->mode == MODE_CODE64 ? 0 : c->mode == MODE_CODE32 ? 1 : 2;

	if (!wanted(i.op) && i.exec != x86_exec_ud)
		return -1; /* prefixes made another one of it: the twin's segments, too, must stay as they are */
	bulk_state(c, &ours->state, core);
	bulk_memory(c);
	if (c->seed % 16 == 0)
		x86_tlb_flush(core, FLUSH_ALL, 0, 0); /* the slow paths */
	ours->end = hosttwin_run(&ours->state, c->bytes, c->length, c->mode);
	memcpy(ours->data, (void *)HOST_DATA, HOST_DATA_SIZE);
	if (!is_safe(ours))
		return -1;
	if (count) {
		struct cell *cell = &cells[hosttwin_insn.op][mode][size_of(&hosttwin_insn)][c->kind];
		cell->runs++;
		cell->missing |= c->missing < 64 ? BIT(c->missing) : 0;
	}
	for (unsigned n = 0; n < HOST_TRIES; n++) {
		bulk_memory(c);
		bulk_state(c, &host->state, core);
		host->end = hostrun(&host->state, c->bytes, c->length, c->mode);
		memcpy(host->data, (void *)HOST_DATA, HOST_DATA_SIZE);
		if (bulk_same(host, ours, c->mode) || bulk_excused(host, ours, c->mode, count)) {
			unsteady += n > 0;
			return 1;
		}
	}
	return 0;
}

static void print_bytes(const char *name, unsigned n, const uint8_t *host, const uint8_t *ours, unsigned size)
{
	if (!memcmp(host, ours, size))
		return;
	printf("#   %s%u: host ", name, n);
	for (unsigned k = size; k--;)
		printf("%02x", host[k]);
	printf(", ours ");
	for (unsigned k = size; k--;)
		printf("%02x", ours[k]);
	printf("\n");
}

static void print_differences(const struct bulk_case *c, const struct bulk_outcome *h, const struct bulk_outcome *o)
{
	char text[128];

	x86_disassemble(text, sizeof(text), c->bytes, c->length, c->mode | MODE_LONG, o->state.rip);
	printf("# %s: %s, memory %s\n", x86_ops[hosttwin_insn.op].name, text, kind_names[c->kind]);
	printf("#   end: host %d error %x at %lx, ours %d error %x at %lx\n", h->end.vector, h->end.error, h->end.address, o->end.vector,
	       o->end.error, o->end.address);
	for (unsigned r = 0; r < 16; r++) {
		if (h->state.gpr[r] != o->state.gpr[r])
			printf("#   register %u: host %lx, ours %lx\n", r, h->state.gpr[r], o->state.gpr[r]);
		print_bytes("xmm", r, h->state.fx.xmm[r], o->state.fx.xmm[r], 16);
		print_bytes("upper half of ymm", r, h->state.avx.ymm_high[r], o->state.avx.ymm_high[r], 16);
		if (r < 8)
			print_bytes("st", r, h->state.fx.st[r], o->state.fx.st[r], 10);
	}
	printf("#   rip %lx %lx flags %lx %lx mxcsr %x %x fcw %x %x fsw %x %x ftw %x %x\n", h->state.rip, o->state.rip, h->state.rflags,
	       o->state.rflags, h->state.fx.mxcsr, o->state.fx.mxcsr, h->state.fx.fcw, o->state.fx.fcw, h->state.fx.fsw, o->state.fx.fsw,
	       h->state.fx.ftw, o->state.fx.ftw);
	for (unsigned n = 0, shown = 0; n < HOST_DATA_SIZE && shown < 8; n++)
		if (h->data[n] != o->data[n] && ++shown)
			printf("#   [%llx]: host %02x, ours %02x\n", HOST_DATA + n, h->data[n], o->data[n]);
}

/* As plain as it can be and still fail. */
static void shrink(struct bulk_case *c)
{
	static struct bulk_outcome host, ours;

	for (unsigned bit = 0; bit < PLAIN_BITS; bit++) {
		struct bulk_case smaller = *c;
		smaller.plain |= BIT(bit);
		if (run_case(&smaller, &host, &ours, false) == 0)
			*c = smaller;
	}
	run_case(c, &host, &ours, false);
	print_differences(c, &host, &ours);
}

static void failed(const struct bulk_case *c)
{
	struct bulk_case copy = *c;
	char text[160];

	if (rows[hosttwin_insn.op].failures++ >= SHOWN)
		return;
	shrink(&copy);
	bulk_print(&copy, text);
	printf("# for tests/bulk.cases: %s\n", text);
}

static void replay(void)
{
	static struct bulk_outcome host, ours;
	FILE *file = fopen("tests/bulk.cases", "r");
	unsigned ran = 0, bad = 0, unreadable = 0;
	char line[256];

	replaying = true;
	while (file && fgets(line, sizeof(line), file)) {
		struct bulk_case c;
		if (*line == '#' || *line == '\n')
			continue;
		if (!bulk_parse(&c, line)) {
			unreadable++;
			continue;
		}
		if (!mode_works[c.mode == MODE_CODE64 ? 0 : c.mode == MODE_CODE32 ? 1 : 2])
			continue;
		int result = run_case(&c, &host, &ours, true);
		ran += result >= 0;
		if (result == 0) {
			bad++;
			print_differences(&c, &host, &ours);
		}
	}
	replaying = false;
	if (file)
		fclose(file);
	ok(file && !bad && !unreadable, "%u cases of tests/bulk.cases, that once failed%s", ran, unreadable ? ": a line cannot be read" : "");
}

/* --- the table --- */

static const struct reason {
	char row[40], mode[8], kind[16], why[160];
} *reasons;
static unsigned reason_count;

static bool read_reasons(void)
{
	static struct reason list[256];
	FILE *file = fopen("tests/bulk.reasons", "r");
	char line[300];

	while (file && fgets(line, sizeof(line), file) && reason_count < ARRAY_SIZE(list)) {
		struct reason *r = &list[reason_count];
		if (*line != '#' && sscanf(line, "%39s %7s %15s %159[^\n]", r->row, r->mode, r->kind, r->why) == 4)
			reason_count++;
	}
	if (file)
		fclose(file);
	reasons = list;
	return file;
}

static bool has_reason(const char *row, unsigned mode, const char *kind)
{
	for (unsigned n = 0; n < reason_count; n++)
		if (!fnmatch(reasons[n].row, row, 0) && !fnmatch(reasons[n].mode, bulk_mode_names[mode], 0) &&
		    !fnmatch(reasons[n].kind, kind, 0))
			return true;
	return false;
}

static unsigned check_cell(unsigned op, unsigned mode, unsigned size, unsigned kind, bool print)
{
	const struct cell *c = &cells[op][mode][size][kind];
	bool memory = rows[op].memory[mode] >> size & 1, none = kind == KIND_FAR && mode == 1;

	if (print && c->runs) {
		printf(" %s %u", kind_names[kind], c->runs);
		if (kind == KIND_END || kind == KIND_START)
			printf("(%d)", __builtin_popcountll(c->missing));
	}
	if (c->runs || none || kind == KIND_REGISTER || !memory || (kind == KIND_CROSS && !size) || has_reason(x86_ops[op].name, mode, kind_names[kind]))
		return 0;
	printf("%s%s %s-bit, %u bytes: no case of kind %s\n", print ? "\n" : "", x86_ops[op].name, bulk_mode_names[mode], 1u << size,
	       kind_names[kind]);
	return 1;
}

static void table(bool print)
{
	unsigned empty = 0;

	for (unsigned op = 1; op < X86_OP_COUNT; op++) {
		bool exists = false;
		for (unsigned mode = 0; mode < 3; mode++)
			for (unsigned size = 0; size < SIZES; size++) {
				if (!(rows[op].exists[mode] >> size & 1))
					continue;
				exists = true;
				if (!mode_works[mode])
					continue;
				if (print)
					printf("# %-16s %s-bit %2u bytes:", x86_ops[op].name, bulk_mode_names[mode], 1u << size);
				for (unsigned kind = 0; kind < KINDS; kind++)
					empty += check_cell(op, mode, size, kind, print);
				if (print)
					printf("\n");
			}
		if (!exists && !has_reason(x86_ops[op].name, 0, "row")) {
			printf("# %s: no case, and no reason\n", x86_ops[op].name);
			empty++;
		}
	}
	ok(!empty, "no cell is empty without a reason (tests/bulk.reasons)");
}

/* --- filling cells that chance left empty --- */

static void fill_cell(unsigned op, unsigned mode, unsigned size, unsigned kind)
{
	static struct bulk_outcome host, ours;
	const struct row *r = &rows[op];
	struct bulk_case c;

	for (unsigned n = 0; n < FILL_TRIES && !cells[op][mode][size][kind].runs; n++) {
		const struct bulk_template *t = &r->templates[random_below(r->count)];
		if (t->mode != mode || t->memory != 1 || !bulk_make(&c, t, core))
			continue;
		for (unsigned k = 0; k < 40; k++, c.seed++) {
			bulk_state(&c, &ours.state, core);
			if (c.kind == kind)
				break;
		}
		if (c.kind == kind && run_case(&c, &host, &ours, true) == 0)
			failed(&c);
	}
}

static void fill_cells(void)
{
	for (unsigned op = 1; op < X86_OP_COUNT; op++)
		for (unsigned mode = 0; mode < 3; mode++)
			for (unsigned size = 0; size < SIZES; size++)
				for (unsigned kind = KIND_INSIDE; kind < KINDS; kind++)
					if (mode_works[mode] && (rows[op].memory[mode] >> size & 1) && !(kind == KIND_FAR && mode == 1) &&
					    !(kind == KIND_CROSS && !size) && !has_reason(x86_ops[op].name, mode, kind_names[kind]))
						fill_cell(op, mode, size, kind);
}

/* --- */

static bool works(uint32_t mode)
{
	struct host_state s = { .gpr = { [RSP] = 0x100 }, .rip = (mode == MODE_CODE16 ? 0 : HOST_CODE) + 0x100, .rflags = FLAG_FIXED };
	s.fx.mxcsr = 0x1f80;
	return hostrun(&s, (const uint8_t *)"\x90", 1, mode).vector == HOST_COMPLETED;
}

static void run_random(unsigned long cases, const char *only)
{
	static struct bulk_outcome host, ours;
	unsigned list[X86_OP_COUNT], count = 0, bad = 0;
	unsigned long ran = 0;
	struct bulk_case c;

	for (unsigned op = 1; op < X86_OP_COUNT; op++)
		if (rows[op].count && (!only || !fnmatch(only, x86_ops[op].name, 0)))
			list[count++] = op;
	for (unsigned long n = 0; n < cases && count; n++) {
		const struct row *r = &rows[list[n % count]];
		const struct bulk_template *t = &r->templates[random_below(r->count)];
		if (!mode_works[t->mode] || !bulk_make(&c, t, core))
			continue;
		int result = run_case(&c, &host, &ours, true);
		ran += result >= 0;
		if (result == 0)
			failed(&c);
	}
	if (!only)
		fill_cells();
	for (unsigned op = 1; op < X86_OP_COUNT; op++) {
		if (rows[op].failures)
			printf("# %s: %u cases differ\n", x86_ops[op].name, rows[op].failures);
		bad += rows[op].failures;
	}
	ok(!bad, "%lu cases of %u rows as on the host, %u not", ran, count, bad);
	ok(hostrun_steady(unsteady, ran), "the host gives one result for one case");
	bulk_excuses_print();
}

static int run_given(const char *text)
{
	static struct bulk_outcome host, ours;
	struct bulk_case c;
	int result;

	replaying = true;
	if (!bulk_parse(&c, text)) {
		fprintf(stderr, "bulk: not a case: %s\n", text);
		return 2;
	}
	result = run_case(&c, &host, &ours, false);
	print_differences(&c, &host, &ours);
	printf("# %s\n", result < 0 ? "not run" : result ? "the same" : "different");
	return result == 0;
}

int main(int argc, char **argv)
{
	const char *seed = getenv("SEED"), *only = NULL, *given = NULL;
	unsigned long cases = DEFAULT_CASES;
	bool print = false;

	for (int option; (option = getopt(argc, argv, "s:n:r:c:t")) != -1;) {
		switch (option) {
		case 's': seed = optarg; break;
		case 'n': cases = strtoul(optarg, NULL, 0); break;
		case 'r': only = optarg; break;
		case 'c': given = optarg; break;
		case 't': print = true; break;
		default: return 2;
		}
	}
	if (!hostrun_init()) {
		skip("the semantics against the host in bulk");
		return done();
	}
	random_seed(seed ? strtoull(seed, NULL, 0) : 1);
	hostrun_init16();
	core = hosttwin_init();
	for (unsigned m = 1; m < 3; m++) {
		mode_works[m] = works(bulk_modes[m]);
		if (!mode_works[m])
			skip("%s-bit code: this host does not run it", bulk_mode_names[m]);
	}
	if (given)
		return run_given(given);
	read_reasons();
	find_templates();
	replay();
	run_random(cases, only);
	if (!only)
		table(print);
	return done();
}
