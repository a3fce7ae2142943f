/* SPDX-License-Identifier: MIT */
/* The model's interrupts and exceptions, and the faults of their delivery. */
#include "system_model.h"

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
	raw = model_get(at, 8);
	struct desc gate = model_parse(raw, at);
	if (gate.s || (m.lma ? gate.type < 14 : gate.type != 5 && gate.type != 6 && gate.type != 7 && gate.type != 14 && gate.type != 15))
		GP(where);
	if (!ext && gate.dpl < m.cpl)
		GP(where);
	if (!gate.p)
		NP(where);
	if (gate.type == 5) {
		task_switch((uint16_t)(raw >> 16), BY_GATE, ext, return_ip);
		if (has_error)
			task_error(error, ext);
		return;
	}
	size = m.lma ? 8 : gate.type & 8 ? 4 : 2;
	target = (raw & 0xffff) | (raw >> 48) << 16;
	if (m.lma)
		target |= model_get(at + 8, 8) << 32;
	if (size == 2)
		target &= 0xffff;
	uint16_t code = (uint16_t)(raw >> 16);
	if (model_is_null(code))
		GP(ext);
	if (!model_find(code, &cs, 8) || !cs.code || cs.dpl > m.cpl)
		GP(SEL(code) | ext);
	if (!cs.p)
		NP(SEL(code) | ext);
	if (m.lma && (!cs.l || cs.d)) /* "not 64-bit code": before or after "not present" is not said */
		GP(SEL(code) | ext);
	bool inner = !cs.conforming && cs.dpl < m.cpl;
	unsigned ist = m.lma ? raw >> 32 & 7 : 0;
	if (inner || ist) {
		s = model_inner(inner ? cs.dpl : m.cpl, ist, ext);
		if (!inner)
			s.ss = m.seg[SEG_SS];
	} else {
		s = model_current(ext);
	}
	if (m.lma) {
		s.wide = true;
		s.sp &= ~15ULL;
		s.error = ext;
	}
	model_check_ip(&cs, target, ext);
	if (inner || m.lma) {
		model_push(&s, size, old_ss);
		model_push(&s, size, old_sp);
	}
	model_push(&s, size, flags);
	model_push(&s, size, old_cs);
	model_push(&s, size, return_ip);
	if (has_error)
		model_push(&s, size, error);
	if (inner)
		m.seg[SEG_SS] = s.ss;
	m.gpr[RSP] = s.sp;
	model_set_cs(&cs, code, inner ? cs.dpl : m.cpl);
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
		if (fault.vector == SKIP || m.in_new_task)
			return false;
		m = start;
		m.loose = loose;
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
