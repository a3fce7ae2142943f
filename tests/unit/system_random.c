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
#include "flat.h"
#include "test.h"

#define MEM 0x10000u
#define GDT_ENTRIES 40u
#define LDT 0x1800u
#define LDT_ENTRIES 16u
#define IDT_VECTORS 32u
#define CODE 0x4000u
#define STACK 0x8000u
#define POINTER 0x6000u
#define DEFAULT_CASES 200000u
enum { SKIP = 100 };

/* --- the model's processor --- */

struct model {
	uint64_t gpr[16], rip, flags;
	struct x86_segment seg[6], ldtr, tr;
	unsigned cpl;
	bool lma, code64, shutdown, loose; /* loose: #SS may have written some of a frame */
	uint8_t mem[MEM];
};
static struct model m;
static jmp_buf faulted;
static struct { unsigned vector; uint32_t error; } fault;

static _Noreturn void raise_(unsigned vector, uint32_t error)
{
	fault.vector = vector;
	fault.error = error;
	longjmp(faulted, 1);
}
#define GP(e) raise_(VECTOR_GP, (uint32_t)(e))
#define NP(e) raise_(VECTOR_NP, (uint32_t)(e))
#define TS(e) raise_(VECTOR_TS, (uint32_t)(e))
#define SS(e) (m.loose = true, raise_(VECTOR_SS, (uint32_t)(e)))
#define SEL(s) ((s) & 0xfffcu)
static _Noreturn void skip_case(void)
{
	raise_(SKIP, 0);
}

static uint64_t get(uint64_t at, unsigned size)
{
	uint64_t v = 0;
	if (at + size > MEM || at >= MEM)
		skip_case(); /* outside of what is compared */
	memcpy(&v, m.mem + at, size);
	return v;
}
static void put(uint64_t at, unsigned size, uint64_t v)
{
	if (at + size > MEM || at >= MEM)
		skip_case();
	memcpy(m.mem + at, &v, size);
}

/* SDM 3A 3.4.5, figure 3-8 */
struct desc {
	uint64_t raw, at;
	unsigned type, dpl;
	bool s, p, l, d, code, conforming, readable, writable;
};
static uint32_t desc_limit(uint64_t raw)
{
	uint32_t limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
	return raw & BIT(55) ? limit << 12 | 0xfff : limit;
}
static uint64_t desc_base(uint64_t raw)
{
	return (raw >> 16 & 0xffffff) | (raw >> 56) << 24;
}
static struct desc parse(uint64_t raw, uint64_t at)
{
	struct desc d = { .raw = raw, .at = at, .type = raw >> 40 & 15, .s = raw >> 44 & 1, .dpl = raw >> 45 & 3, .p = raw >> 47 & 1,
			  .l = raw >> 53 & 1, .d = raw >> 54 & 1 };
	d.code = d.s && d.type & 8;
	d.conforming = d.code && d.type & 4;
	d.readable = d.s && (!(d.type & 8) || d.type & 2);
	d.writable = d.s && !(d.type & 8) && d.type & 2;
	return d;
}
/* 3A 3.5.1; false: the selector is beyond its table */
static bool find(uint16_t selector, struct desc *d, unsigned bytes)
{
	uint64_t base = FLAT_GDT, limit = GDT_ENTRIES * 8 - 1, at = selector & ~7u;
	if (selector & 4) {
		if (m.ldtr.attr & SEGA_UNUSABLE)
			return false;
		base = m.ldtr.base;
		limit = m.ldtr.limit;
	}
	if (at + bytes - 1 > limit)
		return false;
	*d = parse(get(base + at, 8), base + at);
	return true;
}
static struct x86_segment loaded(struct desc *d, uint16_t selector)
{
	if (d->s) { /* the accessed bit */
		d->raw |= BIT(40);
		put(d->at + 5, 1, d->raw >> 40 & 0xff);
	}
	return (struct x86_segment){ .base = desc_base(d->raw), .limit = desc_limit(d->raw), .attr = (uint32_t)(d->raw >> 40) & 0xf0ff,
				     .selector = selector };
}
static struct x86_segment null_segment(uint16_t selector)
{
	return (struct x86_segment){ .selector = selector, .attr = SEGA_UNUSABLE };
}
static bool is_null(uint16_t selector)
{
	return !(selector & ~3u);
}
static bool canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* --- stacks: 3A 5.3 (limits), 6.2.3 (width), 3A 3.3.7.1 --- */

struct stack {
	struct x86_segment ss;
	uint64_t sp;
	bool wide;      /* 64-bit mode: no limit */
	uint32_t error; /* of #SS */
};
static uint64_t sp_mask(const struct stack *s)
{
	return s->wide ? ~0ULL : s->ss.attr & SEGA_DB ? 0xffffffff : 0xffff;
}
static void room(const struct stack *s, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;
	if (s->wide) {
		if (!canonical(offset) || !canonical(last))
			SS(s->error);
		return;
	}
	uint64_t top = s->ss.attr & SEGA_DB ? 0xffffffff : 0xffff;
	bool down = s->ss.attr & SEGA_EXPAND_DOWN && !(s->ss.attr & SEGA_CODE);
	if (down ? offset <= s->ss.limit || last > top : last > s->ss.limit)
		SS(s->error);
}
static void push(struct stack *s, unsigned size, uint64_t value)
{
	uint64_t sp = (s->sp - size) & sp_mask(s);
	room(s, sp, size);
	put(s->wide ? sp : (uint32_t)(s->ss.base + sp), size, value);
	s->sp = sp | (s->sp & ~sp_mask(s));
}
static uint64_t pop(struct stack *s, unsigned size)
{
	uint64_t sp = s->sp & sp_mask(s), v;
	room(s, sp, size);
	v = get(s->wide ? sp : (uint32_t)(s->ss.base + sp), size);
	s->sp = ((sp + size) & sp_mask(s)) | (s->sp & ~sp_mask(s));
	return v;
}
static struct stack current(uint32_t error)
{
	return (struct stack){ m.seg[SEG_SS], m.gpr[RSP], m.code64, error };
}

/* 2A CALL, JMP, RET, IRET; 3A 6.12: is the offset in the new code segment? */
static void check_ip(const struct desc *cs, uint64_t ip, uint32_t error)
{
	if (m.lma && cs->l ? !canonical(ip) : ip > desc_limit(cs->raw))
		GP(error);
}
static void set_cs(struct desc *d, uint16_t selector, unsigned cpl)
{
	m.seg[SEG_CS] = loaded(d, (uint16_t)((selector & ~3u) | cpl));
	m.cpl = cpl;
	m.code64 = m.lma && d->l;
}

/* --- instructions --- */

/* 2B MOV, operation "loading a segment register" */
static void mov_sreg(unsigned n, uint16_t selector)
{
	struct desc d;
	unsigned rpl = selector & 3;

	if (n == SEG_SS) {
		if (is_null(selector)) {
			if (!m.code64 || m.cpl == 3 || rpl != m.cpl)
				GP(0);
			m.seg[n] = null_segment(selector);
			return;
		}
		if (!find(selector, &d, 8) || rpl != m.cpl || !d.writable || d.dpl != m.cpl)
			GP(SEL(selector));
		if (!d.p)
			raise_(VECTOR_SS, SEL(selector));
	} else {
		if (is_null(selector)) {
			m.seg[n] = null_segment(selector);
			return;
		}
		if (!find(selector, &d, 8) || !d.readable || (!d.conforming && (rpl > d.dpl || m.cpl > d.dpl)))
			GP(SEL(selector));
		if (!d.p)
			NP(SEL(selector));
	}
	m.seg[n] = loaded(&d, selector);
}

/* 2A LAR, LSL; 2B VERR, VERW: what is visible at this privilege */
enum question { LAR, LSL, VERR, VERW };
static void ask(enum question q, uint16_t selector)
{
	struct desc d;
	bool good = !is_null(selector) && find(selector, &d, 8);

	if (good && !d.s) {
		unsigned types = m.lma ? (q == LAR ? 0x1a04 : 0x0a04) : q == LAR ? 0x1a3e : 0x0a0e; /* tables 3-53 and 3-59 */
		good = q <= LSL && types >> d.type & 1;
	}
	if (good && !d.conforming && (m.cpl > d.dpl || (selector & 3u) > d.dpl))
		good = false;
	if (good && q == VERR)
		good = d.readable;
	if (good && q == VERW)
		good = d.writable;
	if (good && q == LAR)
		m.gpr[RDX] = d.raw >> 32 & 0xffff00;
	if (good && q == LSL)
		m.gpr[RDX] = desc_limit(d.raw);
	m.flags = (m.flags & ~(uint64_t)FLAG_ZF) | (good ? FLAG_ZF : 0);
}

/* 2A LLDT, LTR */
static void lldt(uint16_t selector)
{
	struct desc d;
	if (m.cpl)
		GP(0);
	if (is_null(selector)) {
		m.ldtr = null_segment(selector);
		return;
	}
	if (selector & 4 || !find(selector, &d, m.lma && m.code64 ? 16 : 8) || d.s || d.type != 2)
		GP(SEL(selector));
	if (m.lma)
		skip_case(); /* the upper half of a random one */
	if (!d.p)
		NP(SEL(selector));
	m.ldtr = loaded(&d, selector);
}
static void ltr(uint16_t selector)
{
	struct desc d;
	if (m.cpl || is_null(selector))
		GP(0);
	if (selector & 4 || !find(selector, &d, m.lma && m.code64 ? 16 : 8) || d.s || !(d.type == 9 || (d.type == 1 && !m.lma)))
		GP(SEL(selector));
	if (m.lma)
		skip_case();
	if (!d.p)
		NP(SEL(selector));
	d.raw |= BIT(41);
	put(d.at + 5, 1, d.raw >> 40 & 0xff);
	m.tr = loaded(&d, selector);
}

/* 3A 7.2.1, 7.7, 5.8.5: the stack of an inner privilege. `ext` is added to error codes. */
static struct stack inner_stack(unsigned cpl, unsigned ist, uint32_t ext)
{
	struct stack s = { .error = ext };
	struct desc d;

	if (m.lma) {
		unsigned at = ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl;
		if (at + 7 > m.tr.limit)
			TS(SEL(m.tr.selector) | ext);
		s.sp = get(m.tr.base + at, 8);
		if (!canonical(s.sp))
			SS(ext);
		s.wide = true;
		s.ss = null_segment((uint16_t)cpl);
		return s;
	}
	bool wide = m.tr.attr & 8;
	unsigned at = wide ? 4 + 8 * cpl : 2 + 4 * cpl, size = wide ? 4 : 2;
	if (at + (wide ? 5 : 3) > m.tr.limit)
		TS(SEL(m.tr.selector) | ext);
	s.sp = get(m.tr.base + at, size);
	uint16_t selector = (uint16_t)get(m.tr.base + at + size, 2);
	if (is_null(selector))
		TS(ext);
	if (!find(selector, &d, 8) || (selector & 3u) != cpl || d.dpl != cpl || !d.writable)
		TS(SEL(selector) | ext);
	if (!d.p)
		SS(SEL(selector) | ext);
	s.ss = loaded(&d, selector);
	s.error = SEL(selector) | ext;
	return s;
}

/* 2A CALL and JMP: far, direct or by call gate */
static void far_transfer(bool call, uint16_t selector, uint64_t offset, unsigned size, uint64_t next)
{
	struct desc d, cs;
	unsigned rpl = selector & 3;
	struct stack s;

	if (is_null(selector))
		GP(0);
	if (!find(selector, &d, 8))
		GP(SEL(selector));
	if (d.code) {
		if (m.lma && d.l && d.d)
			GP(SEL(selector));
		if (d.conforming ? d.dpl > m.cpl : rpl > m.cpl || d.dpl != m.cpl)
			GP(SEL(selector));
		if (!d.p)
			NP(SEL(selector));
		s = current(0);
		if (call) {
			push(&s, size, m.seg[SEG_CS].selector);
			push(&s, size, next);
		}
		check_ip(&d, offset & size_mask(size), 0);
		set_cs(&d, selector, m.cpl);
		m.gpr[RSP] = s.sp;
		m.rip = offset & size_mask(size);
		return;
	}
	if (d.s)
		GP(SEL(selector));
	if (!m.lma && (d.type == 5 || d.type == 1 || d.type == 9))
		skip_case(); /* a task switch, or its checks */
	if (d.type != 12 && (d.type != 4 || m.lma))
		GP(SEL(selector));
	if (d.dpl < m.cpl || d.dpl < rpl)
		GP(SEL(selector));
	struct desc upper;
	uint64_t target = (d.raw & 0xffff) | (d.raw >> 48) << 16;
	unsigned gate_size = m.lma ? 8 : d.type == 12 ? 4 : 2;
	if (m.lma) {
		if (!find(selector, &upper, 16) || get(d.at + 8, 8) >> 40 & 31)
			GP(SEL(selector));
		target |= get(d.at + 8, 8) << 32;
	}
	if (!d.p)
		NP(SEL(selector));
	uint16_t code = (uint16_t)(d.raw >> 16);
	if (is_null(code))
		GP(0);
	if (!find(code, &cs, 8) || !cs.code || cs.dpl > m.cpl || (!call && !cs.conforming && cs.dpl != m.cpl))
		GP(SEL(code));
	if (m.lma && (!cs.l || cs.d))
		GP(SEL(code));
	if (!cs.p)
		NP(SEL(code));
	if (gate_size == 2)
		target &= 0xffff;
	if (call && !cs.conforming && cs.dpl < m.cpl) { /* to an inner privilege */
		unsigned count = m.lma ? 0 : d.raw >> 32 & 31;
		uint64_t words[32];
		struct x86_segment old_ss = m.seg[SEG_SS];
		uint64_t old_sp = m.gpr[RSP];
		s = inner_stack(cs.dpl, 0, 0);
		struct stack old = current(0);
		check_ip(&cs, target, 0);
		for (unsigned n = 0; n < count; n++)
			words[n] = pop(&old, gate_size);
		push(&s, gate_size, old_ss.selector);
		push(&s, gate_size, old_sp);
		for (unsigned n = count; n--;)
			push(&s, gate_size, words[n]);
		push(&s, gate_size, m.seg[SEG_CS].selector);
		push(&s, gate_size, next);
		m.seg[SEG_SS] = s.ss;
		m.gpr[RSP] = s.sp;
		set_cs(&cs, code, cs.dpl);
	} else {
		s = current(0);
		if (m.lma)
			s.wide = true;
		if (call) {
			push(&s, gate_size, m.seg[SEG_CS].selector);
			push(&s, gate_size, next);
		}
		check_ip(&cs, target, 0);
		m.gpr[RSP] = s.sp;
		set_cs(&cs, code, m.cpl);
	}
	m.rip = target;
}

/* 2B RET (far), 2A IRET: "segments that the outer privilege must not use" */
static void lower(void)
{
	static const unsigned data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	for (unsigned n = 0; n < 4; n++) {
		struct x86_segment *s = &m.seg[data[n]];
		bool conforming = (s->attr & 0x1c) == 0x1c;
		if (!(s->attr & SEGA_UNUSABLE) && !conforming && (s->attr >> SEGA_DPL_SHIFT & 3) < m.cpl)
			*s = null_segment(0);
	}
}

static void far_return(bool iret, unsigned size, unsigned release)
{
	struct stack s = current(0);
	struct desc cs, ss = { 0 };
	uint64_t ip, flags = 0;
	uint16_t code, selector = 0;
	unsigned old = m.cpl, rpl;
	bool pops_stack;

	if (iret && m.flags & FLAG_NT) {
		if (m.lma)
			GP(0);
		skip_case();
	}
	ip = pop(&s, size);
	code = (uint16_t)pop(&s, size);
	if (iret)
		flags = pop(&s, size);
	if (iret && size == 4 && flags & FLAG_VM && !m.lma && !m.cpl)
		skip_case();
	rpl = code & 3;
	if (is_null(code))
		GP(0);
	if (!find(code, &cs, 8) || !cs.code || rpl < m.cpl || (cs.conforming ? cs.dpl > rpl : cs.dpl != rpl) || (m.lma && cs.l && cs.d))
		GP(SEL(code));
	if (!cs.p)
		NP(SEL(code));
	pops_stack = rpl > m.cpl || (iret && m.code64);
	s.sp = ((s.sp + release) & sp_mask(&s)) | (s.sp & ~sp_mask(&s));
	if (pops_stack) {
		uint64_t sp = pop(&s, size);
		selector = (uint16_t)pop(&s, size);
		if (is_null(selector)) {
			if (!(m.lma && cs.l) || rpl == 3)
				GP(0);
			if ((selector & 3u) != rpl)
				GP(SEL(selector));
		} else {
			if (!find(selector, &ss, 8) || (selector & 3u) != rpl || !ss.writable || ss.dpl != rpl)
				GP(SEL(selector));
			if (!ss.p)
				raise_(VECTOR_SS, SEL(selector));
		}
		check_ip(&cs, ip, 0);
		set_cs(&cs, code, rpl);
		m.seg[SEG_SS] = is_null(selector) ? null_segment(selector) : loaded(&ss, selector);
		struct stack outer = { m.seg[SEG_SS], sp, m.code64, 0 };
		uint64_t mask = sp_mask(&outer);
		if (!iret)
			sp = ((sp + release) & mask) | (sp & ~mask);
		m.gpr[RSP] = mask == 0xffff ? (m.gpr[RSP] & ~0xffffULL) | (sp & 0xffff) : sp & mask;
		if (rpl > old)
			lower();
	} else {
		check_ip(&cs, ip, 0);
		set_cs(&cs, code, rpl);
		m.gpr[RSP] = s.sp;
	}
	if (iret) {
		uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT;
		if (size > 2)
			mask |= FLAG_RF | FLAG_AC | FLAG_ID;
		if (old <= (m.flags >> 12 & 3))
			mask |= FLAG_IF;
		if (!old)
			mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
		m.flags = (m.flags & ~mask) | (flags & mask);
	}
	m.rip = ip;
}

/* 3A 6.12, 6.14; 2A INT n. `ext` 1: not by INT n. */
static void interrupt(unsigned vector, bool has_error, uint32_t error, uint32_t ext, uint64_t return_ip, bool rf)
{
	uint64_t at = FLAT_IDT + vector * (m.lma ? 16u : 8u), raw, target, flags = m.flags | (rf ? FLAG_RF : 0), old_sp = m.gpr[RSP];
	uint32_t where = vector * 8 + 2 + ext;
	uint16_t old_cs = m.seg[SEG_CS].selector, old_ss = m.seg[SEG_SS].selector;
	struct desc cs;
	struct stack s;
	unsigned size;

	if ((vector + 1) * (m.lma ? 16u : 8u) > IDT_VECTORS * 8)
		GP(where);
	raw = get(at, 8);
	struct desc gate = parse(raw, at);
	if (gate.s || (m.lma ? gate.type < 14 : gate.type != 5 && gate.type != 6 && gate.type != 7 && gate.type != 14 && gate.type != 15))
		GP(where);
	if (!ext && gate.dpl < m.cpl)
		GP(where);
	if (!gate.p)
		NP(where);
	if (gate.type == 5)
		skip_case();
	size = m.lma ? 8 : gate.type & 8 ? 4 : 2;
	target = (raw & 0xffff) | (raw >> 48) << 16;
	if (m.lma)
		target |= get(at + 8, 8) << 32;
	if (size == 2)
		target &= 0xffff;
	uint16_t code = (uint16_t)(raw >> 16);
	if (is_null(code))
		GP(ext);
	if (!find(code, &cs, 8) || !cs.code || cs.dpl > m.cpl)
		GP(SEL(code) | ext);
	if (!cs.p)
		NP(SEL(code) | ext);
	if (m.lma && (!cs.l || cs.d)) /* "not 64-bit code": before or after "not present" is not said */
		GP(SEL(code) | ext);
	bool inner = !cs.conforming && cs.dpl < m.cpl;
	unsigned ist = m.lma ? raw >> 32 & 7 : 0;
	if (inner || ist) {
		s = inner_stack(inner ? cs.dpl : m.cpl, ist, ext);
		if (!inner)
			s.ss = m.seg[SEG_SS];
	} else {
		s = current(ext);
	}
	if (m.lma) {
		s.wide = true;
		s.sp &= ~15ULL;
		s.error = ext;
	}
	check_ip(&cs, target, ext);
	if (inner || m.lma) {
		push(&s, size, old_ss);
		push(&s, size, old_sp);
	}
	push(&s, size, flags);
	push(&s, size, old_cs);
	push(&s, size, return_ip);
	if (has_error)
		push(&s, size, error);
	if (inner)
		m.seg[SEG_SS] = s.ss;
	m.gpr[RSP] = s.sp;
	set_cs(&cs, code, inner ? cs.dpl : m.cpl);
	m.rip = target;
	m.flags &= ~(uint64_t)(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
	if (!(gate.type & 1))
		m.flags &= ~(uint64_t)FLAG_IF;
}

/* 3A 6.15, table 6-4: contributory exceptions; table 6-5: what becomes of a fault while another one is delivered. */
static bool contributory(unsigned v)
{
	return v == VECTOR_DE || (v >= VECTOR_TS && v <= VECTOR_GP);
}
static bool deliver(unsigned vector, uint32_t error) /* false: to be skipped */
{
	static struct model start;
	volatile unsigned v = vector;
	volatile uint32_t e = error;

	start = m;
	for (;;) {
		bool has_error = v == VECTOR_DF || (v >= VECTOR_TS && v <= VECTOR_PF);
		if (!setjmp(faulted)) {
			interrupt(v, has_error, e, 1, m.rip, v != VECTOR_DF);
			return true;
		}
		bool loose = m.loose;
		m = start;
		m.loose = loose;
		if (fault.vector == SKIP)
			return false;
		if (v == VECTOR_DF) {
			m.shutdown = true;
			return true;
		}
		if (contributory(v) && contributory(fault.vector)) {
			v = VECTOR_DF;
			e = 0;
		} else {
			v = fault.vector;
			e = fault.error;
		}
	}
}

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
