/* SPDX-License-Identifier: MIT */
/* Random descriptor tables, gates and stacks, and one instruction on them, against a model written from the manual's operation sections
 * alone (cited at each function): segment loads, LAR and its kin, LLDT and LTR, far JMP, CALL, RET and IRET through all kinds of descriptors,
 * INT n, and the delivery of whatever fault comes out, with the faults of that: double and triple ones. 32- and 16-bit protected
 * mode, compatibility mode and 64-bit mode, CPL 0 to 3.
 *
 *   system_random [CASES]      SEED: where to begin; a failure prints its seed, and
 *   system_random -c SEED      runs that case alone
 *
 * Task switches and virtual-8086 mode are left to the guests (guest/legacy). What the manual leaves open is not compared: which
 * accessed bits a transfer sets before it faults, and how much of a frame is written before #SS. */
#include <stdlib.h>
#include "system_model.h"
#include "test.h"

#define DEFAULT_CASES 200000u

/* --- cases --- */

static uint64_t state;
static uint64_t rnd(void) /* splitmix64 */
{
	uint64_t z = state += 0x9e3779b97f4a7c15;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}
static bool one_of(unsigned n)
{
	return rnd() % n == 0;
}
static uint16_t random_selector(void)
{
	if (one_of(20))
		return (uint16_t)(rnd() & 3);
	if (one_of(30))
		return (uint16_t)rnd();
	if (one_of(4))
		return (uint16_t)((rnd() % LDT_ENTRIES) << 3 | 4 | (rnd() & 3));
	return (uint16_t)((rnd() % GDT_ENTRIES) << 3 | (rnd() & 3));
}
static uint64_t random_offset(bool lma)
{
	if (lma && one_of(12))
		return 0x800000000000 + rnd() % 0x1000;
	return one_of(10) ? rnd() & 0xfffff : 0x5000 + rnd() % 0x1000;
}
static uint64_t gate(unsigned type, uint64_t offset)
{
	return (offset & 0xffff) | (uint64_t)random_selector() << 16 | (uint64_t)(rnd() & 7 & (one_of(2) ? 7 : 0)) << 32 |
	       (uint64_t)(type | (rnd() & 3) << 5 | (one_of(10) ? 0 : 0x80)) << 40 | (offset >> 16 & 0xffff) << 48;
}
static uint64_t random_descriptor(bool lma)
{
	static const uint32_t limits[] = { 0xfffff, 0xfffff, 0xffff, 0x8fff, 0x4fff, 0x100, 0 };
	uint32_t limit = limits[rnd() % ARRAY_SIZE(limits)], base = one_of(4) ? (uint32_t)(rnd() % 0x800) : 0, attr;

	if (one_of(4)) {
		unsigned type = one_of(3) ? rnd() & 15 : 12;
		if (type != SYS_LDT && (type & 5) != 1)
			return gate(type, random_offset(lma));
		return flat_descriptor(base, limit & 0xffff, type | (uint32_t)(rnd() & 0x60) | (one_of(8) ? 0 : SEGA_P));
	}
	attr = SEGA_S | (uint32_t)(rnd() & 0x6f) | (one_of(10) ? 0 : SEGA_P) | (one_of(3) ? 0 : SEGA_DB) | (one_of(2) ? SEGA_G : 0);
	if (!(attr & SEGA_CODE) && !one_of(4))
		attr = (attr | SEGA_WRITABLE) & ~(uint32_t)SEGA_EXPAND_DOWN;
	if (lma && attr & SEGA_CODE && !one_of(3))
		attr = (attr | SEGA_L) & ~(one_of(10) ? 0 : (uint32_t)SEGA_DB);
	return flat_descriptor(base, limit, attr);
}

enum what { MOV_SREG, ASK, TABLE_REGISTER, JUMP, CALL, RETURN, IRETURN, INT_N, EXCEPTION, WHATS };
static const char *const what_names[] = { "MOV sreg", "LAR, LSL, VERR, VERW", "LLDT, LTR", "far JMP", "far CALL", "far RET", "IRET", "INT n",
					  "an exception" };
struct instruction {
	enum what what;
	enum flat_mode mode;
	uint8_t bytes[12];
	unsigned length, n, size;
	uint16_t selector;
	uint64_t offset;
};
static struct flat *f;

static void build(struct instruction *i, uint64_t seed)
{
	struct x86_cpu *cpu = &f->core.cpu;
	bool lma;

	state = seed;
	*i = (struct instruction){ .what = rnd() % WHATS, .mode = FLAT_PROTECTED16 + rnd() % 4 };
	memset(flat_ram, 0, MEM);
	unsigned cpl = one_of(2) ? 3 : rnd() & 3;
	flat_mode(f, i->mode, cpl ? 3 : 0);
	lma = i->mode == FLAT_COMPAT32 || i->mode == FLAT_LONG;
	for (unsigned n = FLAT_FREE / 8; n < GDT_ENTRIES; n++)
		flat_put(FLAT_GDT + 8 * n, 8, lma && n & 1 && one_of(2) ? 0 : random_descriptor(lma));
	for (unsigned n = 0; n < LDT_ENTRIES; n++)
		flat_put(LDT + 8 * n, 8, random_descriptor(lma));
	for (unsigned n = 0; n < IDT_VECTORS; n++) {
		static const unsigned types[] = { 14, 15, 14, 15, 6, 7, 5, 12 };
		uint64_t raw = gate(one_of(20) ? rnd() & 31 : types[rnd() % (lma ? 4 : 8)], random_offset(lma));
		if (one_of(2)) /* so that delivery often succeeds */
			raw = (raw & ~0xffff0000ULL) | (uint64_t)(lma ? FLAT_CODE64 : FLAT_CODE0) << 16;
		flat_put(FLAT_IDT + (lma ? 16 : 8) * n, 8, raw);
	}
	for (unsigned n = 0; n < 0x68; n += 4)
		flat_put(FLAT_TSS + n, 4, STACK + 0x800 + (rnd() & 0x3fc));
	for (unsigned n = 0; n < 3 && !lma; n++)
		flat_put(FLAT_TSS + 8 + 8 * n, 4, one_of(3) ? random_selector() : FLAT_DATA0);
	for (unsigned at = 4; at < 0x5c && lma; at += 8)
		flat_put(FLAT_TSS + at, 8, one_of(12) ? 0x8000000000000000 : STACK + 0x800 + (rnd() & 0x3ff));
	cpu->gdtr.limit = GDT_ENTRIES * 8 - 1;
	cpu->idtr.limit = IDT_VECTORS * 8 - 1;
	cpu->ldtr = one_of(5) ? (struct x86_segment){ .attr = SEGA_UNUSABLE }
			      : (struct x86_segment){ .base = LDT, .limit = LDT_ENTRIES * 8 - 1, .attr = SEGA_P | SYS_LDT, .selector = 0x48 };
	cpu->tr = (struct x86_segment){ .base = FLAT_TSS, .limit = one_of(8) ? 0x10 : 0x1ff, .selector = FLAT_TR,
					.attr = SEGA_P | (!lma && one_of(3) ? SYS_TSS16_BUSY : SYS_TSS_BUSY) };
	for (unsigned s = SEG_CS; s <= SEG_SS; s++) {
		cpu->seg[s].attr = (cpu->seg[s].attr & ~SEGA_DPL) | cpl << SEGA_DPL_SHIFT;
		cpu->seg[s].selector = (uint16_t)((cpu->seg[s].selector & ~3u) | cpl);
	}
	cpu->gpr[RSP] = i->mode == FLAT_LONG && one_of(20) ? 0x800000000000 : STACK + (rnd() & 0x3f0);
	cpu->rflags = FLAG_FIXED | (rnd() & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_DF)) | (one_of(20) ? FLAG_NT : 0);
	i->selector = random_selector();
	i->offset = random_offset(lma);
	i->size = i->mode == FLAT_PROTECTED16 ? 2 : 4;
	i->n = (unsigned)rnd();
	for (unsigned at = 0; at < 0x40; at += 2) /* what RET and IRET find: selectors, offsets, flags */
		flat_put(STACK + 0x3f0 + at, 2, 0);
	x86_core_loaded(&f->core);
}

/* The bytes, and the frame for returns. */
static void encode(struct instruction *i)
{
	static const unsigned sregs[] = { SEG_ES, SEG_SS, SEG_DS, SEG_FS, SEG_GS };
	struct x86_cpu *cpu = &f->core.cpu;
	uint64_t sp = cpu->gpr[RSP];
	uint8_t *b = i->bytes;
	bool swap = one_of(3), long_mode = i->mode == FLAT_LONG;

	if (swap && i->what >= JUMP && i->what <= IRETURN) {
		i->size = long_mode ? 8 : 6 - i->size;
		*b++ = long_mode ? 0x48 : 0x66;
	}
	switch (i->what) {
	case MOV_SREG:
		i->n = sregs[i->n % 5];
		cpu->gpr[RAX] = i->selector;
		*b++ = 0x8e, *b++ = (uint8_t)(0xc0 | i->n << 3);
		break;
	case ASK:
		i->n %= 4;
		cpu->gpr[RAX] = i->selector;
		cpu->gpr[RDX] = 0x12345678;
		if (i->mode == FLAT_PROTECTED16 && i->n <= LSL)
			*b++ = 0x66;
		*b++ = 0x0f, *b++ = i->n == LAR ? 2 : i->n == LSL ? 3 : 0;
		*b++ = i->n == LAR || i->n == LSL ? 0xd0 : i->n == VERR ? 0xe0 : 0xe8;
		break;
	case TABLE_REGISTER:
		i->n %= 2;
		cpu->gpr[RAX] = i->selector;
		*b++ = 0x0f, *b++ = 0, *b++ = i->n ? 0xd8 : 0xd0;
		break;
	case JUMP:
	case CALL:
		if (!long_mode) {
			*b++ = i->what == JUMP ? 0xea : 0x9a;
			memcpy(b, &i->offset, i->size);
			memcpy(b + i->size, &i->selector, 2);
			b += i->size + 2;
		} else {
			flat_put(POINTER, i->size, i->offset);
			flat_put(POINTER + i->size, 2, i->selector);
			cpu->gpr[RBX] = POINTER;
			*b++ = 0xff, *b++ = i->what == JUMP ? 0x2b : 0x1b;
		}
		i->offset &= size_mask(i->size);
		break;
	case RETURN:
	case IRETURN:
		i->n = i->what == RETURN && one_of(2) ? (unsigned)(rnd() & 0x1c) : 0;
		if (sp < MEM - 0x100) {
			flat_put(sp, i->size, i->offset);
			flat_put(sp + i->size, 2, i->selector);
			unsigned at = 2 * i->size;
			if (i->what == IRETURN) {
				flat_put(sp + at, i->size, rnd() & (FLAGS_ARITH | FLAG_IF | FLAG_IOPL | FLAG_DF | FLAG_NT | FLAG_AC | FLAG_ID | FLAG_FIXED));
				at += i->size;
			}
			at += i->n;
			flat_put(sp + at, i->size, STACK + 0x600 + (rnd() & 0xf0));
			flat_put(sp + at + i->size, 2, one_of(3) ? FLAT_DATA3 | 3 : one_of(2) ? (i->selector & 3u) | (random_selector() & ~3u) : random_selector());
		}
		if (i->what == IRETURN) {
			*b++ = 0xcf;
		} else if (i->n) {
			*b++ = 0xca;
			*b++ = (uint8_t)i->n, *b++ = 0;
		} else {
			*b++ = 0xcb;
		}
		break;
	case INT_N:
		i->n %= IDT_VECTORS + 4;
		*b++ = 0xcd, *b++ = (uint8_t)i->n;
		break;
	default:
		*b++ = 0x0f, *b++ = 0x0b; /* UD2 */
	}
	i->length = (unsigned)(b - i->bytes);
}

static void take(void)
{
	const struct x86_cpu *cpu = &f->core.cpu;

	memset(&m, 0, sizeof(m) - sizeof(m.mem));
	memcpy(m.gpr, cpu->gpr, sizeof(m.gpr));
	memcpy(m.seg, cpu->seg, sizeof(m.seg));
	m.ldtr = cpu->ldtr;
	m.tr = cpu->tr;
	m.rip = CODE;
	m.flags = x86_flags_get(&f->core);
	m.cpl = f->core.cpl;
	m.lma = cpu->efer & EFER_LMA;
	m.code64 = m.lma && cpu->seg[SEG_CS].attr & SEGA_L;
	memcpy(m.mem, flat_ram, MEM);
}

static void run_model(const struct instruction *i)
{
	uint64_t next = CODE + i->length;

	switch (i->what) {
	case MOV_SREG: mov_sreg(i->n, i->selector); break;
	case ASK: ask(i->n, i->selector); break;
	case TABLE_REGISTER: i->n ? ltr(i->selector) : lldt(i->selector); break;
	case JUMP: far_transfer(false, i->selector, i->offset, i->size, next); return;
	case CALL: far_transfer(true, i->selector, i->offset, i->size, next); return;
	case RETURN: far_return(false, i->size, i->n); return;
	case IRETURN: far_return(true, i->size, 0); return;
	case INT_N: interrupt(i->n, false, 0, 0, next, false); return;
	default: raise_(VECTOR_UD, 0);
	}
	m.rip = next;
}

static bool same_segment(const struct x86_segment *a, const struct x86_segment *b, bool wide)
{
	if (a->selector != b->selector || !(a->attr & SEGA_UNUSABLE) != !(b->attr & SEGA_UNUSABLE))
		return false;
	if (a->attr & SEGA_UNUSABLE)
		return true;
	return a->attr == b->attr && (wide || (a->base == b->base && a->limit == b->limit));
}

/* Without the accessed bits of code and data descriptors, if the instruction faulted. */
static bool same_memory(bool bits)
{
	for (unsigned at = 0; at < MEM; at++) {
		uint8_t a = flat_ram[at], b = m.mem[at];
		bool table = (at >= FLAT_GDT && at < FLAT_GDT + GDT_ENTRIES * 8) || (at >= LDT && at < LDT + LDT_ENTRIES * 8);
		if (a != b && !(bits && table && at % 8 == 5 && (a ^ b) == 1) && !(m.loose && at >= STACK - 0x1000 && at < STACK + 0x1000))
			return false;
	}
	return true;
}

static void show(const struct instruction *i, uint64_t seed, int vector, uint32_t error, int want, uint32_t want_error)
{
	static const char *const modes[] = { "real", "16-bit protected", "32-bit protected", "compatibility", "64-bit" };
	const struct x86_cpu *cpu = &f->core.cpu;

	printf("# system_random -c %lu: %s mode: %s %u, selector %x, offset %lx, size %u\n", seed, modes[i->mode], what_names[i->what], i->n, i->selector,
	       i->offset, i->size);
	printf("#   vector %d error %x; by the manual vector %d error %x\n", vector, error, want, want_error);
	printf("#   rip %lx %lx rsp %lx %lx flags %lx %lx cpl %u %u shutdown %u %u rdx %lx %lx\n", cpu->gpr[X86_GPR_RIP], m.rip, cpu->gpr[RSP], m.gpr[RSP],
	       x86_flags_get(&f->core), m.flags, f->core.cpl, m.cpl, cpu->activity == X86_SHUTDOWN, m.shutdown, cpu->gpr[RDX], m.gpr[RDX]);
	for (unsigned s = 0; s < 8; s++) {
		const struct x86_segment *a = s < 6 ? &cpu->seg[s] : s == 6 ? &cpu->ldtr : &cpu->tr, *b = s < 6 ? &m.seg[s] : s == 6 ? &m.ldtr : &m.tr;
		if (!same_segment(a, b, false))
			printf("#   segment %u: %x %lx %x %x; by the manual %x %lx %x %x\n", s, a->selector, a->base, a->limit, a->attr, b->selector, b->base,
			       b->limit, b->attr);
	}
	for (unsigned at = 0, shown = 0; at < MEM && shown < 12; at++)
		if (flat_ram[at] != m.mem[at] && ++shown)
			printf("#   [%x] %02x, by the manual %02x\n", at, flat_ram[at], m.mem[at]);
}

/* 1: as the manual says, 0: not, -1: not run. */
static int one(uint64_t seed, bool print, struct instruction *i, int *outcome)
{
	volatile int want = -1;
	volatile uint32_t want_error = 0;
	static struct model before;
	int vector;
	uint32_t error;

	build(i, seed);
	encode(i);
	take();
	before = m;
	if (!setjmp(faulted)) {
		run_model(i);
	} else {
		bool loose = m.loose;
		if (fault.vector == SKIP)
			return -1;
		want = (int)fault.vector;
		want_error = fault.error;
		m = before;
		m.loose = loose;
	}
	if (want >= 0 && !deliver((unsigned)want, want_error))
		return -1;
	vector = flat_run(f, CODE, i->bytes, i->length);
	error = vector >= VECTOR_TS ? f->core.fault.error : 0;
	if (vector >= 0)
		x86_deliver_fault(&f->core);
	const struct x86_cpu *cpu = &f->core.cpu;
	bool good = vector == want && (want < VECTOR_TS || error == want_error) && (cpu->activity == X86_SHUTDOWN) == m.shutdown;
	if (good && !m.shutdown) {
		if (i->what == ASK && i->n == LAR) /* bits 19:16 are undefined */
			m.gpr[RDX] = (m.gpr[RDX] & ~0xf0000ULL) | (cpu->gpr[RDX] & 0xf0000);
		good = cpu->gpr[X86_GPR_RIP] == m.rip && !memcmp(cpu->gpr, m.gpr, sizeof(m.gpr)) && x86_flags_get(&f->core) == m.flags &&
		       f->core.cpl == m.cpl && same_memory(want >= 0);
		for (unsigned s = 0; s < 6; s++)
			good &= same_segment(&cpu->seg[s], &m.seg[s], s == SEG_CS && m.code64);
		good &= same_segment(&cpu->ldtr, &m.ldtr, false) && same_segment(&cpu->tr, &m.tr, false);
	}
	if (!good || print)
		show(i, seed, vector, error, want, want_error);
	*outcome = m.shutdown ? 2 : want >= 0;
	return good;
}

int main(int argc, char **argv)
{
	const char *given = getenv("SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;
	unsigned long cases = argc == 2 ? strtoul(argv[1], NULL, 0) : DEFAULT_CASES, ran[WHATS][3] = { 0 }, bad[WHATS] = { 0 };
	struct instruction i;
	int outcome;

	f = flat_new("max");
	if (argc == 3)
		return one(strtoull(argv[2], NULL, 0), true, &i, &outcome) == 0;
	printf("# seed %lu\n", seed);
	for (unsigned long n = 0; n < cases; n++) {
		state = seed + n;
		if (bad[rnd() % WHATS] >= 3)
			continue; /* it is known not to work */
		int result = one(seed + n, false, &i, &outcome);
		if (result < 0)
			continue;
		bad[i.what] += !result;
		ran[i.what][outcome]++;
	}
	for (unsigned w = 0; w < WHATS; w++)
		ok(!bad[w] && (w == ASK || ran[w][1]) && (w == EXCEPTION || ran[w][0]), "%s: %lu cases pass, %lu fault, %lu end in shutdown, as the manual says",
		   what_names[w], ran[w][0], ran[w][1], ran[w][2]);
	return done();
}
