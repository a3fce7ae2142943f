/* SPDX-License-Identifier: MIT */
/* String instructions: MOVS STOS LODS CMPS SCAS with REP, REPE, REPNE. SDM volume 1, 7.3.9.
 *
 * A repeated instruction is restartable between iterations: registers advance as it goes, and when the engine asks for attention it
 * leaves before itself. MOVS and STOS that stay within pages of RAM run as the host's own REP, whose byte-by-byte meaning
 * (overlapping ranges) is the guest's. */
#include "x86/hostop.h"

static inline int64_t step_of(struct x86_core *core, const struct insn *i)
{
	return core->cpu.rflags & FLAG_DF ? -(int64_t)i->size : (int64_t)i->size;
}

/* Address arithmetic is a plain sum: then an iteration can be taken together with the next ones of the page. */
static inline bool plain(struct x86_core *core, const struct insn *i)
{
	return !(i->flags & INSN_ADDRESS);
}

static inline gva_t source(struct x86_core *core, const struct insn *i, enum x86_access access)
{
	uint64_t offset = core->cpu.gpr[RSI] & size_mask(i->asize);
	if (likely(!(i->flags & INSN_ADDRESS)))
		return offset + core->cpu.seg[i->seg].base;
	return x86_address_checked(core, i, offset, i->size, access);
}

/* The destination is always in ES. */
static inline gva_t destination(struct x86_core *core, const struct insn *i, enum x86_access access)
{
	uint64_t offset = core->cpu.gpr[RDI] & size_mask(i->asize);
	if (likely(!(i->flags & INSN_ADDRESS)))
		return offset;
	struct insn es = *i;
	es.seg = core->mode & MODE_FLAT ? SEG_FLAT : SEG_ES;
	es.flags &= (uint16_t)~INSN_STACK_SEG;
	return x86_address_checked(core, &es, offset, i->size, access);
}

static inline void advance(struct x86_core *core, const struct insn *i, unsigned reg, int64_t by)
{
	x86_reg_set(core, reg * 8, i->asize, core->cpu.gpr[reg] + (uint64_t)by);
}

static inline uint64_t repeats(struct x86_core *core, const struct insn *i)
{
	return i->flags & (INSN_REP | INSN_REPNE) ? core->cpu.gpr[RCX] & size_mask(i->asize) : 1;
}

/* After `done` iterations: counts them off. True when the instruction must stop here although iterations are left. */
static inline bool pause_after(struct x86_core *core, const struct insn *i, uint64_t done, uint64_t left)
{
	if (!(i->flags & (INSN_REP | INSN_REPNE)))
		return false;
	advance(core, i, RCX, -(int64_t)done);
	if (!left || !(*(volatile uint64_t *)&core->chain_limit == 0 || core->cpu.pending_debug || (core->cpu.rflags & FLAG_TF)))
		return false;
	core->cpu.rflags |= FLAG_RF; /* what is delivered between iterations pushes RF, SDM 3B 17.3.1.1 */
	return true;
}

/* How many iterations from gva stay in its page, going up. */
static inline uint64_t in_page(gva_t gva, unsigned size)
{
	return (X86_PAGE_SIZE - (gva & (X86_PAGE_SIZE - 1))) / size;
}

EXEC(movs)
{
	for (uint64_t left = repeats(core, i); left;) {
		uint64_t n = 1;
		gva_t from = source(core, i, ACCESS_READ);
		void *s = tlb_hit(core->tlb->read, from, i->size);
		uint64_t value = s ? 0 : x86_load(core, i, from, i->size); /* faults of the source come first */
		gva_t to = destination(core, i, ACCESS_WRITE);
		void *d = tlb_hit(core->tlb->write, to, i->size);
		if (left > 1 && s && d && plain(core, i) && !(core->cpu.rflags & (FLAG_DF | FLAG_TF))) {
			n = MIN(left, MIN(in_page(from, i->size), in_page(to, i->size)));
			uint64_t c = n;
			switch (i->size) {
			case 1: asm volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(c) : : "memory"); break;
			case 2: asm volatile("rep movsw" : "+S"(s), "+D"(d), "+c"(c) : : "memory"); break;
			case 4: asm volatile("rep movsl" : "+S"(s), "+D"(d), "+c"(c) : : "memory"); break;
			default: asm volatile("rep movsq" : "+S"(s), "+D"(d), "+c"(c) : : "memory"); break;
			}
		} else {
			x86_store(core, i, to, i->size, s ? x86_load(core, i, from, i->size) : value);
		}
		int64_t by = step_of(core, i) * (int64_t)n;
		advance(core, i, RSI, by);
		advance(core, i, RDI, by);
		left -= n;
		if (pause_after(core, i, n, left)) {
			x86_leave(core, i, false);
			return;
		}
	}
	X86_NEXT(core, i);
}

EXEC(stos)
{
	uint64_t value = core->cpu.gpr[RAX];
	for (uint64_t left = repeats(core, i); left;) {
		uint64_t n = 1;
		gva_t to = destination(core, i, ACCESS_WRITE);
		void *d = tlb_hit(core->tlb->write, to, i->size);
		bool up = !(core->cpu.rflags & (FLAG_DF | FLAG_TF));
		if (left > 1 && d && up && plain(core, i)) {
			n = MIN(left, in_page(to, i->size));
			uint64_t c = n;
			switch (i->size) {
			case 1: asm volatile("rep stosb" : "+D"(d), "+c"(c) : "a"(value) : "memory"); break;
			case 2: asm volatile("rep stosw" : "+D"(d), "+c"(c) : "a"(value) : "memory"); break;
			case 4: asm volatile("rep stosl" : "+D"(d), "+c"(c) : "a"(value) : "memory"); break;
			default: asm volatile("rep stosq" : "+D"(d), "+c"(c) : "a"(value) : "memory"); break;
			}
		} else {
			x86_store(core, i, to, i->size, value);
		}
		advance(core, i, RDI, step_of(core, i) * (int64_t)n);
		left -= n;
		if (pause_after(core, i, n, left)) {
			x86_leave(core, i, false);
			return;
		}
	}
	X86_NEXT(core, i);
}

EXEC(lods)
{
	for (uint64_t left = repeats(core, i); left;) {
		x86_reg_set(core, RAX * 8, i->size, x86_load(core, i, source(core, i, ACCESS_READ), i->size));
		advance(core, i, RSI, step_of(core, i));
		if (pause_after(core, i, 1, --left)) {
			x86_leave(core, i, false);
			return;
		}
	}
	X86_NEXT(core, i);
}

static inline void compare(struct x86_core *core, unsigned size, uint64_t a, uint64_t b)
{
	switch (size) {
	case 1: asm("cmpb %b[b], %b[a]" FLAGS_OUT : "=&a"(core->aflags) : [a] "q"(a), [b] "q"(b) : "cc"); break;
	case 2: asm("cmpw %w[b], %w[a]" FLAGS_OUT : "=&a"(core->aflags) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	case 4: asm("cmpl %k[b], %k[a]" FLAGS_OUT : "=&a"(core->aflags) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	default: asm("cmpq %[b], %[a]" FLAGS_OUT : "=&a"(core->aflags) : [a] "r"(a), [b] "r"(b) : "cc"); break;
	}
}

/* REPE goes on while equal, REPNE while not. */
static inline bool goes_on(struct x86_core *core, const struct insn *i)
{
	return !(core->aflags & AF_ZF) == !!(i->flags & INSN_REPNE);
}

EXEC(cmps)
{
	for (uint64_t left = repeats(core, i); left;) {
		uint64_t a = x86_load(core, i, source(core, i, ACCESS_READ), i->size);
		uint64_t b = x86_load(core, i, destination(core, i, ACCESS_READ), i->size);
		compare(core, i->size, a, b);
		advance(core, i, RSI, step_of(core, i));
		advance(core, i, RDI, step_of(core, i));
		left = goes_on(core, i) ? left - 1 : 0;
		if (pause_after(core, i, 1, left)) {
			x86_leave(core, i, false);
			return;
		}
	}
	X86_NEXT(core, i);
}

EXEC(scas)
{
	for (uint64_t left = repeats(core, i); left;) {
		uint64_t b = x86_load(core, i, destination(core, i, ACCESS_READ), i->size);
		compare(core, i->size, core->cpu.gpr[RAX], b);
		advance(core, i, RDI, step_of(core, i));
		left = goes_on(core, i) ? left - 1 : 0;
		if (pause_after(core, i, 1, left)) {
			x86_leave(core, i, false);
			return;
		}
	}
	X86_NEXT(core, i);
}

const struct x86_forms x86_movs = { .any = movs }, x86_stos = { .any = stos }, x86_lods = { .any = lods };
const struct x86_forms x86_cmps = { .any = cmps }, x86_scas = { .any = scas };
