/* SPDX-License-Identifier: MIT */
/* Random page tables in all paging modes, against a model written from the manual alone (SDM 3A, sections cited at each function): is
 * the access allowed, where does it go, with which error code does it fault, and which accessed and dirty bits are set.
 *
 *   system_pages [CASES]      SEED: where to begin; a failure prints its seed, and
 *   system_pages -c SEED      runs that case alone, with its tables */
#include <stdlib.h>
#include "flat.h"
#include "test.h"

#define TABLES 0x100000ULL /* page tables: 16 pages from here */
#define TABLE_PAGES 16u
#define DEFAULT_CASES 200000u
#define CODE 0x4000ULL

enum paging { BITS32, PAE, LEVEL4, PAGINGS };
static const char *const paging_names[] = { "32-bit", "PAE", "4-level" };
enum kind { READ, WRITE, FETCH };

struct situation {
	enum paging paging;
	bool wp, pse, nxe, smep, smap, ac, user;
	enum kind kind;
	uint64_t linear, cr3;
};

struct result {
	bool fault;
	uint32_t error;
	uint64_t physical;
};

static uint64_t state;
static uint8_t before[TABLE_PAGES * X86_PAGE_SIZE], expected[sizeof(before)];

static uint64_t next(void) /* splitmix64 */
{
	uint64_t z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}
static bool one_of(unsigned n)
{
	return next() % n == 0;
}

/* --- the model --- */

#define MAXPHYADDR 40u /* what the processor model says */
#define BITS(high, low) ((BIT((high) - (low) + 1) - 1) << (low))

static uint64_t entry_get(uint64_t at, unsigned size)
{
	uint64_t value = 0;
	memcpy(&value, expected + (at - TABLES), size);
	return value;
}
static void entry_or(uint64_t at, uint64_t bits)
{
	expected[at - TABLES] |= (uint8_t)bits;
}

/* 4.3 to 4.5, tables 4-4 to 4-6, 4-8 to 4-11, 4-14 to 4-20: bits that must be 0 in an entry that is present. */
static uint64_t reserved(const struct situation *s, unsigned level, bool large, bool pdpte, uint64_t entry)
{
	uint64_t bits = BITS(51, MAXPHYADDR);

	if (s->paging == BITS32)
		return large ? BIT(21) : 0; /* PSE-36: bits 20:13 are bits 39:32 of the address, MAXPHYADDR being 40 */
	if (!s->nxe)
		bits |= BIT(63);
	if (s->paging == PAE)
		bits |= BITS(62, 52);
	if (pdpte)
		bits |= BITS(63, 63) | BITS(8, 5) | BITS(2, 1);
	if (level == 4)
		bits |= BIT(7);
	if (large)
		bits |= level == 3 ? BITS(29, 13) : BITS(20, 13);
	return bits;
}

/* 4.6.1: rights of an access to an address whose translation has these combined rights. */
static bool allowed(const struct situation *s, bool u, bool w, bool nx)
{
	if (s->kind == FETCH) {
		if (s->paging != BITS32 && s->nxe && nx)
			return false;
		return s->user ? u : !(s->smep && u);
	}
	if (s->user)
		return u && (s->kind == READ || w);
	if (u && s->smap && !s->ac) /* explicit supervisor-mode accesses */
		return false;
	return s->kind == READ || w || !s->wp;
}

/* 4.7 */
static uint32_t error_code(const struct situation *s, bool present, bool rsvd)
{
	uint32_t error = (present ? 1 : 0) | (s->kind == WRITE ? 2 : 0) | (s->user ? 4 : 0) | (rsvd ? 8 : 0);

	if (s->kind == FETCH && (s->smep || (s->nxe && s->paging != BITS32)))
		error |= 16;
	return error;
}

/* 4.3, 4.4.2, 4.5.4 (walks), 4.8 (accessed and dirty). The PDPTEs of PAE paging were loaded with CR3 (4.4.1), and have no accessed bit. */
static struct result model(const struct situation *s)
{
	unsigned levels = s->paging == BITS32 ? 2 : s->paging == PAE ? 3 : 4, size = s->paging == BITS32 ? 4 : 8;
	unsigned width = s->paging == BITS32 ? 10 : 9;
	uint64_t table = s->cr3 & ~0xfffULL, used[4], entry = 0;
	bool u = true, w = true, nx = false;
	unsigned count = 0, shift = 12;

	if (s->paging == PAE)
		table = s->cr3 & ~0x1fULL;
	for (unsigned level = levels; level; level--) {
		bool pdpte = s->paging == PAE && level == 3;
		shift = 12 + width * (level - 1);
		uint64_t at = table + (s->linear >> shift & (pdpte ? 3 : BIT(width) - 1)) * size;
		entry = entry_get(at, size);
		if (!(entry & PTE_P))
			return (struct result){ .fault = true, .error = error_code(s, false, false) };
		bool large = !pdpte && (entry & PTE_PS) && (level == 2 || level == 3) && (s->paging != BITS32 || s->pse);
		if (entry & reserved(s, level, large, pdpte, entry))
			return (struct result){ .fault = true, .error = error_code(s, true, true) };
		if (!pdpte) {
			u &= !!(entry & PTE_U);
			w &= !!(entry & PTE_W);
			nx |= entry >> 63;
			used[count++] = at;
		}
		if (large)
			break;
		table = entry & BITS(51, 12) & (s->paging == BITS32 ? 0xfffff000 : ~0ULL);
	}
	if (!allowed(s, u, w, nx))
		return (struct result){ .fault = true, .error = error_code(s, true, false) };
	for (unsigned n = 0; n < count; n++)
		entry_or(used[n], PTE_A | (n + 1 == count && s->kind == WRITE ? PTE_D : 0));
	uint64_t mask = BIT(shift) - 1, frame = entry & BITS(51, 12) & ~mask;
	if (s->paging == BITS32)
		frame = (entry & 0xfffff000 & ~mask) | (shift == 22 ? (entry >> 13 & 0xff) << 32 : 0);
	return (struct result){ .physical = frame | (s->linear & mask) };
}

/* --- cases --- */

/* An entry of a table of this level: mostly such that the walk goes on, and ends in RAM. */
static uint64_t random_entry(const struct situation *s, unsigned level, bool leaf)
{
	uint64_t entry = next() & 0xf7e; /* W, U, PWT, PCD, A, D, G, and bits that are the system's */
	uint64_t target = leaf ? (next() % (FLAT_RAM / X86_PAGE_SIZE / 2)) << 12 : TABLES + (next() % TABLE_PAGES) * X86_PAGE_SIZE;
	bool pdpte = s->paging == PAE && level == 3;

	if (!one_of(12))
		entry |= PTE_P;
	if (!one_of(3))
		entry |= PTE_U;
	if (!one_of(3))
		entry |= PTE_W;
	entry &= ~(uint64_t)PTE_PS;
	if (level > 1 && !pdpte && leaf) {
		entry |= PTE_PS;
		target &= ~(BIT(s->paging == BITS32 ? 22 : 12 + 9 * (level - 1)) - 1);
	}
	if (level == 1 && one_of(2))
		entry |= PTE_PS; /* PAT */
	if (pdpte && !one_of(20))
		entry &= ~0x1e6ULL;
	entry |= target;
	if (s->paging != BITS32 && one_of(6))
		entry |= PTE_NX;
	if (one_of(20))
		entry |= BIT(next() % (s->paging == BITS32 ? 32 : 63)); /* reserved, perhaps */
	return entry;
}

/* Puts entries on the way of the address; all else stays from before. */
static void build(struct situation *s)
{
	unsigned levels = s->paging == BITS32 ? 2 : s->paging == PAE ? 3 : 4, size = s->paging == BITS32 ? 4 : 8;
	unsigned width = s->paging == BITS32 ? 10 : 9;
	uint64_t table = s->cr3;

	for (unsigned level = levels; level; level--) {
		bool pdpte = s->paging == PAE && level == 3;
		uint64_t at = table + (s->linear >> (12 + width * (level - 1)) & (pdpte ? 3 : BIT(width) - 1)) * size;
		bool leaf = level == 1 || (level == 2 && one_of(4)) || (level == 3 && s->paging == LEVEL4 && one_of(8));
		uint64_t entry = random_entry(s, level, leaf);
		if (pdpte)
			for (unsigned n = 0; n < 4; n++) /* CR3 is loaded, so the others must not be bad ones */
				flat_put(s->cr3 + 8 * n, 8, 0);
		flat_put(at, size, entry);
		if (leaf && level > 1 && (s->paging != BITS32 || s->pse))
			return;
		table = entry & 0xffffff000;
		if (table < TABLES || table >= TABLES + sizeof(before))
			return; /* a bit too many: the model sees */
	}
}

static void make(struct situation *s, uint64_t seed)
{
	uint64_t bits;

	state = seed;
	bits = next();
	*s = (struct situation){ .paging = next() % PAGINGS, .kind = next() % 3, .wp = bits & 1, .pse = bits & 2, .nxe = bits & 4, .smep = bits & 8,
				 .smap = bits & 16, .ac = bits & 32, .user = bits & 64 };
	s->linear = next() & ~7ULL;
	s->linear = s->paging == LEVEL4 ? (uint64_t)((int64_t)(s->linear << 16) >> 16) : (uint32_t)s->linear;
	s->cr3 = TABLES + (next() % TABLE_PAGES) * X86_PAGE_SIZE;
	for (unsigned n = 0; n < sizeof(before); n += 8)
		flat_put(TABLES + n, 8, 0);
	build(s);
	memcpy(before, flat_ram + TABLES, sizeof(before));
	memcpy(expected, before, sizeof(before));
}

/* Is it for the processor and not for us to say what happens: a walk through what are no tables, an end outside of RAM, a data access to the
 * tables themselves, PDPTEs that a MOV to CR3 refuses. */
static bool outside(const struct situation *s, const struct result *r)
{
	if (!r->fault && (r->physical >= FLAT_ROM || (r->physical >= TABLES && r->physical < TABLES + sizeof(before))))
		return true;
	return false;
}
static bool walks_outside(const struct situation *s)
{
	unsigned levels = s->paging == BITS32 ? 2 : s->paging == PAE ? 3 : 4, size = s->paging == BITS32 ? 4 : 8;
	unsigned width = s->paging == BITS32 ? 10 : 9;
	uint64_t table = s->cr3;

	for (unsigned level = levels; level; level--) {
		bool pdpte = s->paging == PAE && level == 3;
		uint64_t entry = entry_get(table + (s->linear >> (12 + width * (level - 1)) & (pdpte ? 3 : BIT(width) - 1)) * size, size);
		bool large = !pdpte && (entry & PTE_PS) && level > 1 && level < 4 && (s->paging != BITS32 || s->pse);
		if (pdpte && (entry & PTE_P) && (entry & reserved(s, 3, false, true, entry)))
			return true;
		if (!(entry & PTE_P) || large || level == 1 || (entry & reserved(s, level, large, pdpte, entry)))
			return false;
		table = entry & BITS(51, 12) & (s->paging == BITS32 ? 0xfffff000 : ~0ULL);
		if (table < TABLES || table >= TABLES + sizeof(before))
			return true;
	}
	return false;
}

static struct flat *f;

static void enter(const struct situation *s)
{
	struct x86_cpu *cpu = &f->core.cpu;

	flat_mode(f, s->paging == LEVEL4 ? FLAT_LONG : FLAT_PROTECTED32, s->user ? 3 : 0);
	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG | (s->wp ? CR0_WP : 0);
	cpu->cr4 = (s->paging == BITS32 ? 0 : CR4_PAE) | (s->pse ? CR4_PSE : 0) | (s->smep ? CR4_SMEP : 0) | (s->smap ? CR4_SMAP : 0);
	cpu->efer = (s->nxe ? EFER_NXE : 0) | (s->paging == LEVEL4 ? EFER_LME | EFER_LMA : 0);
	cpu->cr3 = s->cr3;
	cpu->rflags = FLAG_FIXED | (s->ac ? FLAG_AC : 0);
	for (unsigned n = 0; n < 4; n++)
		cpu->pdpte[n] = flat_get(s->cr3 + 8 * n, 8);
	x86_core_loaded(&f->core);
}

/* What really happens, by an instruction whose bytes are given to the decoder, or by the fetch of one. */
static struct result run(const struct situation *s, bool *consistent)
{
	struct result r = { 0 };
	struct x86_walk walk;
	volatile uint64_t at = 0;
	volatile int vector = -1;

	enter(s);
	f->core.cpu.gpr[RBX] = s->linear;
	f->core.cpu.gpr[RAX] = 0x5a;
	*consistent = true;
	if (s->kind == FETCH) {
		if (flat_catch(f) == 0) {
			const struct fetch_entry *e = x86_fetch_page(&f->core, s->linear);
			at = e->page + s->linear % X86_PAGE_SIZE;
		} else {
			vector = f->core.fault.vector;
		}
	} else {
		vector = flat_run(f, CODE, s->kind == READ ? "\x8a\x03" : "\x88\x03", 2);
	}
	if (vector != -1) {
		r = (struct result){ .fault = true, .error = f->core.fault.error };
		*consistent = vector == VECTOR_PF && f->core.cpu.cr2 == s->linear;
		return r;
	}
	if (s->kind != FETCH) {
		*consistent = x86_walk(&f->core, s->linear, s->kind == READ ? ACCESS_READ : ACCESS_WRITE, s->user, false, &walk);
		at = walk.gpa;
		*consistent &= s->kind == READ ? (f->core.cpu.gpr[RAX] & 0xff) == flat_ram[at] : flat_ram[at] == 0x5a;
	}
	r.physical = at;
	return r;
}

static void print(const struct situation *s, uint64_t seed, const struct result *is, const struct result *want)
{
	static const char *const kinds[] = { "read", "write", "fetch" };

	printf("# system_pages -c %lu: %s paging, %s of %lx, CPL %u, WP %u PSE %u NXE %u SMEP %u SMAP %u AC %u, CR3 %lx\n", seed,
	       paging_names[s->paging], kinds[s->kind], s->linear, s->user ? 3 : 0, s->wp, s->pse, s->nxe, s->smep, s->smap, s->ac, s->cr3);
	printf("#   fault %u error %x address %lx; by the manual: fault %u error %x address %lx\n", is->fault, is->error, is->physical, want->fault,
	       want->error, want->physical);
	for (unsigned n = 0; n < sizeof(before); n += 8) {
		uint64_t a, b;
		memcpy(&a, before + n, 8);
		memcpy(&b, expected + n, 8);
		if (a || b)
			printf("#   [%llx] %016lx, now %016lx, by the manual %016lx\n", TABLES + n, a, flat_get(TABLES + n, 8), b);
	}
}

/* 1: as the manual says, 0: not, -1: not for us to say. */
static int one(uint64_t seed, bool show, struct situation *s, struct result *want)
{
	struct result is;
	bool consistent;

	make(s, seed);
	if (walks_outside(s))
		return -1;
	*want = model(s);
	if (outside(s, want))
		return -1;
	is = run(s, &consistent);
	bool good = consistent && is.fault == want->fault && is.error == want->error && is.physical == want->physical &&
		    !memcmp(flat_ram + TABLES, expected, sizeof(expected));
	if (!good || show)
		print(s, seed, &is, want);
	return good;
}

int main(int argc, char **argv)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
	unsigned long cases = argc == 2 ? strtoul(argv[1], NULL, 0) : DEFAULT_CASES, ran[PAGINGS][3][2] = { 0 }, bad = 0, total = 0;
	struct situation s;
	struct result want;

	f = flat_new("max");
	if (argc == 3)
		return one(strtoull(argv[2], NULL, 0), true, &s, &want) == 0;
	printf("# seed %lu\n", seed);
	for (unsigned long n = 0; n < cases && bad < 5; n++) {
		int result = one(seed + n, false, &s, &want);
		if (result < 0)
			continue;
		bad += !result;
		total++;
		ran[s.paging][s.kind][want.fault]++;
	}
	ok(!bad, "%lu accesses through random page tables, as the manual says", total);
	for (unsigned p = 0; p < PAGINGS; p++)
		for (unsigned k = 0; k < 3; k++)
			ok(ran[p][k][0] && ran[p][k][1], "%s paging, kind %u: %lu pass, %lu fault", paging_names[p], k, ran[p][k][0], ran[p][k][1]);
	return done();
}
