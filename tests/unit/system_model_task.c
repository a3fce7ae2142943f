/* SPDX-License-Identifier: MIT */
/* The model's task switches: SDM 3A 7.3 (the order), table 7-1 (what is checked), figures 7-2 and 7-10 (the two kinds of TSS), 2A JMP, CALL, INT n
 * and IRET (who is refused how). The order among the checks of the new task's selectors is one processor's: a case in which two of them are bad
 * is skipped. */
#include "system_model.h"

struct tss { /* offsets */
	unsigned size, ip, flags, gpr, seg, segs, ldt, least; /* least: the smallest limit */
};
static const struct tss kinds[2] = {
	{ 2, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a, 0x2b },
	{ 4, 0x20, 0x24, 0x28, 0x48, 6, 0x60, 0x67 },
};
static const struct tss *kind_of(const struct x86_segment *tr)
{
	return &kinds[tr->attr >> 3 & 1];
}

/* The first of what is wrong in the new task's selectors. */
static struct { unsigned vector, count; uint32_t error;
} wrong;

static void is_wrong(unsigned vector, uint16_t selector, uint32_t ext)
{
	if (!wrong.count++) {
		wrong.vector = vector;
		wrong.error = SEL(selector) | ext;
	}
}

static struct x86_segment task_data(uint16_t selector, unsigned cpl, uint32_t ext)
{
	struct desc d;
	unsigned rpl = selector & 3;

	if (model_is_null(selector))
		return model_null(selector);
	if (!model_find(selector, &d, 8) || !d.readable || (!d.conforming && (d.dpl < cpl || d.dpl < rpl)))
		return is_wrong(VECTOR_TS, selector, ext), model_null(selector);
	if (!d.p)
		return is_wrong(VECTOR_NP, selector, ext), model_null(selector);
	return model_loaded(&d, selector);
}

static struct x86_segment task_stack(uint16_t selector, unsigned cpl, uint32_t ext)
{
	struct desc d;

	if (model_is_null(selector) || !model_find(selector, &d, 8) || !d.writable || (selector & 3u) != cpl || d.dpl != cpl)
		return is_wrong(VECTOR_TS, selector, ext), model_null(selector);
	if (!d.p)
		return is_wrong(VECTOR_SS, selector, ext), model_null(selector);
	return model_loaded(&d, selector);
}

static struct x86_segment task_code(uint16_t selector, uint32_t ext)
{
	struct desc d;
	unsigned rpl = selector & 3;

	if (model_is_null(selector) || !model_find(selector, &d, 8) || !d.code || (d.conforming ? d.dpl > rpl : d.dpl != rpl))
		return is_wrong(VECTOR_TS, selector, ext), model_null(selector);
	if (!d.p)
		return is_wrong(VECTOR_NP, selector, ext), model_null(selector);
	return model_loaded(&d, selector);
}

static struct x86_segment task_ldt(uint16_t selector, uint32_t ext)
{
	struct desc d;

	if (model_is_null(selector))
		return model_null(selector);
	if (selector & 4 || !model_find(selector, &d, 8) || d.s || d.type != SYS_LDT || !d.p)
		return is_wrong(VECTOR_TS, selector, ext), model_null(selector);
	return model_loaded(&d, selector);
}

static void save(const struct tss *k, uint64_t base, uint64_t next, uint64_t flags)
{
	model_put(base + k->ip, k->size, next);
	model_put(base + k->flags, k->size, flags);
	for (unsigned n = 0; n < 8; n++)
		model_put(base + k->gpr + n * k->size, k->size, m.gpr[n]);
	for (unsigned n = 0; n < k->segs; n++)
		model_put(base + k->seg + n * k->size, 2, m.seg[n].selector);
}

static void load(const struct tss *k, uint64_t base, uint32_t ext)
{
	uint16_t selector[6] = { 0 };
	uint64_t ldt = model_get(base + k->ldt, 2);

	m.rip = model_get(base + k->ip, k->size);
	for (unsigned n = 0; n < 8; n++)
		m.gpr[n] = model_get(base + k->gpr + n * k->size, k->size);
	for (unsigned n = 0; n < k->segs; n++)
		selector[n] = (uint16_t)model_get(base + k->seg + n * k->size, 2);
	m.in_new_task = true;
	m.cpl = selector[SEG_CS] & 3;
	wrong.count = 0;
	m.ldtr = task_ldt((uint16_t)ldt, ext);
	m.seg[SEG_CS] = task_code(selector[SEG_CS], ext);
	m.seg[SEG_SS] = task_stack(selector[SEG_SS], m.cpl, ext);
	for (unsigned n = 0; n < 6; n++)
		if (n != SEG_CS && n != SEG_SS)
			m.seg[n] = task_data(selector[n], m.cpl, ext);
	if (wrong.count > 1)
		model_skip();
	if (wrong.count)
		raise_(wrong.vector, wrong.error);
	if (m.rip > m.seg[SEG_CS].limit)
		GP(ext);
}

void task_switch(uint16_t selector, enum task_cause cause, uint32_t ext, uint64_t next)
{
	const struct tss *old = kind_of(&m.tr), *k;
	uint16_t from = m.tr.selector;
	struct desc d, old_d;
	bool nested = cause == BY_CALL || cause == BY_GATE;
	unsigned bad = cause == BY_RETURN ? VECTOR_TS : VECTOR_GP;

	if (m.tr.limit < old->least)
		model_skip(); /* what then becomes of the old task's state is not said */
	if (selector & 4 || !model_find(selector, &d, 8) || d.s || (d.type & 7) != (cause == BY_RETURN ? 3 : 1))
		raise_(bad, SEL(selector) | ext);
	if (!d.p)
		raise_(VECTOR_NP, SEL(selector) | ext);
	k = &kinds[d.type >> 3];
	if (model_limit(d.raw) < k->least)
		TS(SEL(selector) | ext);
	save(old, m.tr.base, next, cause == BY_RETURN ? m.flags & ~(uint64_t)FLAG_NT : m.flags);
	if (!model_find(from, &old_d, 8))
		model_skip();
	if (!nested)
		model_put(old_d.at + 5, 1, (old_d.raw & ~BIT(41)) >> 40 & 0xff);
	d.raw |= BIT(41);
	if (cause != BY_RETURN)
		model_put(d.at + 5, 1, d.raw >> 40 & 0xff);
	m.tr = model_loaded(&d, selector);
	if (nested)
		model_put(m.tr.base, 2, from);
	m.flags = (model_get(m.tr.base + k->flags, k->size) & 0x3f7fd7) | FLAG_FIXED | (nested ? FLAG_NT : 0);
	if (m.flags & FLAG_VM)
		model_skip();
	if (k->size == 4 && m.cr0 & CR0_PG)
		m.cr3 = model_get(m.tr.base + 0x1c, 4);
	m.cr0 |= CR0_TS;
	m.small_task = k->size == 2;
	load(k, m.tr.base, ext);
}

/* 3A 6.13: "The error code is pushed on the stack as a doubleword or word (depending on the default interrupt, trap, or task gate size)". */
void task_error(uint32_t error, uint32_t ext)
{
	struct stack s = model_current(ext);

	if (m.small_task && s.ss.attr & SEGA_DB)
		model_skip(); /* the upper half of its stack pointer is not said */
	model_push(&s, m.small_task ? 2 : 4, error);
	m.gpr[RSP] = s.sp;
}
