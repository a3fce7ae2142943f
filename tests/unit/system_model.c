/* SPDX-License-Identifier: MIT */
/* The model: what the manual says, with the section at each function. It shares nothing with src/x86 but names of bits. */
#include "system_model.h"

/* --- the model's processor --- */

struct model m;
jmp_buf faulted;
struct model_fault fault;

_Noreturn void raise_(unsigned vector, uint32_t error)
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
void mov_sreg(unsigned n, uint16_t selector)
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
void ask(enum question q, uint16_t selector)
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
void lldt(uint16_t selector)
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
void ltr(uint16_t selector)
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
void far_transfer(bool call, uint16_t selector, uint64_t offset, unsigned size, uint64_t next)
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

void far_return(bool iret, unsigned size, unsigned release)
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
void interrupt(unsigned vector, bool has_error, uint32_t error, uint32_t ext, uint64_t return_ip, bool rf)
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
bool deliver(unsigned vector, uint32_t error)
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
