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
_Noreturn void model_skip(void)
{
	raise_(SKIP, 0);
}

uint64_t model_get(uint64_t at, unsigned size)
{
	uint64_t v = 0;
	if (at + size > MEM || at >= MEM)
		model_skip(); /* outside of what is compared */
	memcpy(&v, m.mem + at, size);
	return v;
}
void model_put(uint64_t at, unsigned size, uint64_t v)
{
	if (at + size > MEM || at >= MEM)
		model_skip();
	memcpy(m.mem + at, &v, size);
}

/* SDM 3A 3.4.5, figure 3-8 */
uint32_t model_limit(uint64_t raw)
{
	uint32_t limit = (uint32_t)((raw & 0xffff) | (raw >> 32 & 0xf0000));
	return raw & BIT(55) ? limit << 12 | 0xfff : limit;
}
static uint64_t desc_base(uint64_t raw)
{
	return (raw >> 16 & 0xffffff) | (raw >> 56) << 24;
}
struct desc model_parse(uint64_t raw, uint64_t at)
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
bool model_find(uint16_t selector, struct desc *d, unsigned bytes)
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
	*d = model_parse(model_get(base + at, 8), base + at);
	return true;
}
struct x86_segment model_loaded(struct desc *d, uint16_t selector)
{
	if (d->s) { /* the accessed bit */
		d->raw |= BIT(40);
		model_put(d->at + 5, 1, d->raw >> 40 & 0xff);
	}
	return (struct x86_segment){ .base = desc_base(d->raw), .limit = model_limit(d->raw), .attr = (uint32_t)(d->raw >> 40) & 0xf0ff,
				     .selector = selector };
}
struct x86_segment model_null(uint16_t selector)
{
	return (struct x86_segment){ .selector = selector, .attr = SEGA_UNUSABLE };
}
bool model_is_null(uint16_t selector)
{
	return !(selector & ~3u);
}
bool model_canonical(uint64_t a)
{
	return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* --- stacks: 3A 5.3 (limits), 6.2.3 (width), 3A 3.3.7.1 --- */

static uint64_t sp_mask(const struct stack *s)
{
	return s->wide ? ~0ULL : s->ss.attr & SEGA_DB ? 0xffffffff : 0xffff;
}
static void room(const struct stack *s, uint64_t offset, unsigned size)
{
	uint64_t last = offset + size - 1;
	if (s->wide) {
		if (!model_canonical(offset) || !model_canonical(last))
			SS(s->error);
		return;
	}
	uint64_t top = s->ss.attr & SEGA_DB ? 0xffffffff : 0xffff;
	bool down = s->ss.attr & SEGA_EXPAND_DOWN && !(s->ss.attr & SEGA_CODE);
	if (down ? offset <= s->ss.limit || last > top : last > s->ss.limit)
		SS(s->error);
}
void model_push(struct stack *s, unsigned size, uint64_t value)
{
	uint64_t sp = (s->sp - size) & sp_mask(s);
	room(s, sp, size);
	model_put(s->wide ? sp : (uint32_t)(s->ss.base + sp), size, value);
	s->sp = sp | (s->sp & ~sp_mask(s));
}
static uint64_t pop(struct stack *s, unsigned size)
{
	uint64_t sp = s->sp & sp_mask(s), v;
	room(s, sp, size);
	v = model_get(s->wide ? sp : (uint32_t)(s->ss.base + sp), size);
	s->sp = ((sp + size) & sp_mask(s)) | (s->sp & ~sp_mask(s));
	return v;
}
struct stack model_current(uint32_t error)
{
	return (struct stack){ m.seg[SEG_SS], m.gpr[RSP], m.code64, error };
}

/* 2A CALL, JMP, RET, IRET; 3A 6.12: is the offset in the new code segment? */
void model_check_ip(const struct desc *cs, uint64_t ip, uint32_t error)
{
	if (m.lma && cs->l ? !model_canonical(ip) : ip > model_limit(cs->raw))
		GP(error);
}
void model_set_cs(struct desc *d, uint16_t selector, unsigned cpl)
{
	m.seg[SEG_CS] = model_loaded(d, (uint16_t)((selector & ~3u) | cpl));
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
		if (model_is_null(selector)) {
			if (!m.code64 || m.cpl == 3 || rpl != m.cpl)
				GP(0);
			m.seg[n] = model_null(selector);
			return;
		}
		if (!model_find(selector, &d, 8) || rpl != m.cpl || !d.writable || d.dpl != m.cpl)
			GP(SEL(selector));
		if (!d.p)
			raise_(VECTOR_SS, SEL(selector));
	} else {
		if (model_is_null(selector)) {
			m.seg[n] = model_null(selector);
			return;
		}
		if (!model_find(selector, &d, 8) || !d.readable || (!d.conforming && (rpl > d.dpl || m.cpl > d.dpl)))
			GP(SEL(selector));
		if (!d.p)
			NP(SEL(selector));
	}
	m.seg[n] = model_loaded(&d, selector);
}

/* 2A LAR, LSL; 2B VERR, VERW: what is visible at this privilege */
void ask(enum question q, uint16_t selector)
{
	struct desc d;
	bool good = !model_is_null(selector) && model_find(selector, &d, 8);

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
		m.gpr[RDX] = model_limit(d.raw);
	m.flags = (m.flags & ~(uint64_t)FLAG_ZF) | (good ? FLAG_ZF : 0);
}

/* 2A LLDT, LTR */
void lldt(uint16_t selector)
{
	struct desc d;
	if (m.cpl)
		GP(0);
	if (model_is_null(selector)) {
		m.ldtr = model_null(selector);
		return;
	}
	if (selector & 4 || !model_find(selector, &d, m.lma && m.code64 ? 16 : 8) || d.s || d.type != 2)
		GP(SEL(selector));
	if (m.lma)
		model_skip(); /* the upper half of a random one */
	if (!d.p)
		NP(SEL(selector));
	m.ldtr = model_loaded(&d, selector);
}
void ltr(uint16_t selector)
{
	struct desc d;
	if (m.cpl || model_is_null(selector))
		GP(0);
	if (selector & 4 || !model_find(selector, &d, m.lma && m.code64 ? 16 : 8) || d.s || !(d.type == 9 || (d.type == 1 && !m.lma)))
		GP(SEL(selector));
	if (m.lma)
		model_skip();
	if (!d.p)
		NP(SEL(selector));
	d.raw |= BIT(41);
	model_put(d.at + 5, 1, d.raw >> 40 & 0xff);
	m.tr = model_loaded(&d, selector);
}

/* 3A 7.2.1, 7.7, 5.8.5: the stack of an inner privilege. `ext` is added to error codes. */
struct stack model_inner(unsigned cpl, unsigned ist, uint32_t ext)
{
	struct stack s = { .error = ext };
	struct desc d;

	if (m.lma) {
		unsigned at = ist ? 0x24 + 8 * (ist - 1) : 4 + 8 * cpl;
		if (at + 7 > m.tr.limit)
			TS(SEL(m.tr.selector) | ext);
		s.sp = model_get(m.tr.base + at, 8);
		if (!model_canonical(s.sp))
			SS(ext);
		s.wide = true;
		s.ss = model_null((uint16_t)cpl);
		return s;
	}
	bool wide = m.tr.attr & 8;
	unsigned at = wide ? 4 + 8 * cpl : 2 + 4 * cpl, size = wide ? 4 : 2;
	if (at + (wide ? 5 : 3) > m.tr.limit)
		TS(SEL(m.tr.selector) | ext);
	s.sp = model_get(m.tr.base + at, size);
	uint16_t selector = (uint16_t)model_get(m.tr.base + at + size, 2);
	if (model_is_null(selector))
		TS(ext);
	if (!model_find(selector, &d, 8) || (selector & 3u) != cpl || d.dpl != cpl || !d.writable)
		TS(SEL(selector) | ext);
	if (!d.p)
		SS(SEL(selector) | ext);
	s.ss = model_loaded(&d, selector);
	s.error = SEL(selector) | ext;
	return s;
}

/* 2A CALL and JMP: far, direct or by call gate */
void far_transfer(bool call, uint16_t selector, uint64_t offset, unsigned size, uint64_t next)
{
	struct desc d, cs;
	unsigned rpl = selector & 3;
	struct stack s;

	if (model_is_null(selector))
		GP(0);
	if (!model_find(selector, &d, 8))
		GP(SEL(selector));
	if (d.code) {
		if (m.lma && d.l && d.d)
			GP(SEL(selector));
		if (d.conforming ? d.dpl > m.cpl : rpl > m.cpl || d.dpl != m.cpl)
			GP(SEL(selector));
		if (!d.p)
			NP(SEL(selector));
		s = model_current(0);
		if (call) {
			model_push(&s, size, m.seg[SEG_CS].selector);
			model_push(&s, size, next);
		}
		model_check_ip(&d, offset & size_mask(size), 0);
		model_set_cs(&d, selector, m.cpl);
		m.gpr[RSP] = s.sp;
		m.rip = offset & size_mask(size);
		return;
	}
	if (d.s)
		GP(SEL(selector));
	if (!m.lma && (d.type == 5 || d.type == 1 || d.type == 9)) {
		if (d.dpl < m.cpl || d.dpl < rpl)
			GP(SEL(selector));
		if (!d.p)
			NP(SEL(selector));
		task_switch(d.type == 5 ? (uint16_t)(d.raw >> 16) : selector, call ? BY_CALL : BY_JUMP, 0, next);
		return;
	}
	if (d.type != 12 && (d.type != 4 || m.lma))
		GP(SEL(selector));
	if (d.dpl < m.cpl || d.dpl < rpl)
		GP(SEL(selector));
	struct desc upper;
	uint64_t target = (d.raw & 0xffff) | (d.raw >> 48) << 16;
	unsigned gate_size = m.lma ? 8 : d.type == 12 ? 4 : 2;
	if (m.lma) {
		if (!model_find(selector, &upper, 16) || model_get(d.at + 8, 8) >> 40 & 31)
			GP(SEL(selector));
		target |= model_get(d.at + 8, 8) << 32;
	}
	if (!d.p)
		NP(SEL(selector));
	uint16_t code = (uint16_t)(d.raw >> 16);
	if (model_is_null(code))
		GP(0);
	if (!model_find(code, &cs, 8) || !cs.code || cs.dpl > m.cpl || (!call && !cs.conforming && cs.dpl != m.cpl))
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
		s = model_inner(cs.dpl, 0, 0);
		struct stack old = model_current(0);
		model_check_ip(&cs, target, 0);
		for (unsigned n = 0; n < count; n++)
			words[n] = pop(&old, gate_size);
		model_push(&s, gate_size, old_ss.selector);
		model_push(&s, gate_size, old_sp);
		for (unsigned n = count; n--;)
			model_push(&s, gate_size, words[n]);
		model_push(&s, gate_size, m.seg[SEG_CS].selector);
		model_push(&s, gate_size, next);
		m.seg[SEG_SS] = s.ss;
		m.gpr[RSP] = s.sp;
		model_set_cs(&cs, code, cs.dpl);
	} else {
		s = model_current(0);
		if (m.lma)
			s.wide = true;
		if (call) {
			model_push(&s, gate_size, m.seg[SEG_CS].selector);
			model_push(&s, gate_size, next);
		}
		model_check_ip(&cs, target, 0);
		m.gpr[RSP] = s.sp;
		model_set_cs(&cs, code, m.cpl);
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
			*s = model_null(0);
	}
}

void far_return(bool iret, unsigned size, unsigned release, uint64_t next)
{
	struct stack s = model_current(0);
	struct desc cs, ss = { 0 };
	uint64_t ip, flags = 0;
	uint16_t code, selector = 0;
	unsigned old = m.cpl, rpl;
	bool pops_stack;

	if (iret && m.flags & FLAG_NT) {
		if (m.lma)
			GP(0);
		task_switch((uint16_t)model_get(m.tr.base, 2), BY_RETURN, 0, next);
		return;
	}
	ip = pop(&s, size);
	code = (uint16_t)pop(&s, size);
	if (iret)
		flags = pop(&s, size);
	if (iret && size == 4 && flags & FLAG_VM && !m.lma && !m.cpl)
		model_skip();
	rpl = code & 3;
	if (model_is_null(code))
		GP(0);
	if (!model_find(code, &cs, 8) || !cs.code || rpl < m.cpl || (cs.conforming ? cs.dpl > rpl : cs.dpl != rpl) || (m.lma && cs.l && cs.d))
		GP(SEL(code));
	if (!cs.p)
		NP(SEL(code));
	pops_stack = rpl > m.cpl || (iret && m.code64);
	s.sp = ((s.sp + release) & sp_mask(&s)) | (s.sp & ~sp_mask(&s));
	if (pops_stack) {
		uint64_t sp = pop(&s, size);
		selector = (uint16_t)pop(&s, size);
		if (model_is_null(selector)) {
			if (!(m.lma && cs.l) || rpl == 3)
				GP(0);
			if ((selector & 3u) != rpl)
				GP(SEL(selector));
		} else {
			if (!model_find(selector, &ss, 8) || (selector & 3u) != rpl || !ss.writable || ss.dpl != rpl)
				GP(SEL(selector));
			if (!ss.p)
				raise_(VECTOR_SS, SEL(selector));
		}
		model_check_ip(&cs, ip, 0);
		model_set_cs(&cs, code, rpl);
		m.seg[SEG_SS] = model_is_null(selector) ? model_null(selector) : model_loaded(&ss, selector);
		struct stack outer = { m.seg[SEG_SS], sp, m.code64, 0 };
		uint64_t mask = sp_mask(&outer);
		if (!iret)
			sp = ((sp + release) & mask) | (sp & ~mask);
		m.gpr[RSP] = mask == 0xffff ? (m.gpr[RSP] & ~0xffffULL) | (sp & 0xffff) : sp & mask;
		if (rpl > old)
			lower();
	} else {
		model_check_ip(&cs, ip, 0);
		model_set_cs(&cs, code, rpl);
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
