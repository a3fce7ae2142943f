/* SPDX-License-Identifier: MIT */
/* Hardware task switches through 16- and 32-bit task state segments. SDM 3A chapter 7.
 *
 * The order is the manual's (7.3): everything about both TSS segments is checked before the old task's state is
 * written; then the new state is loaded into the registers, and only after that are its segment selectors checked:
 * what is wrong with them faults in the new task, with #TS. */
#include "x86/segment.h"
#include "util/log.h"

struct layout { /* offsets in a TSS */
	uint8_t size;      /* of a register */
	uint8_t minimum;   /* least limit */
	uint8_t ip, flags, gpr, seg, segs, ldt, cr3;
};
static const struct layout layout16 = { 2, 0x2b, 0x0e, 0x10, 0x12, 0x22, 4, 0x2a, 0 };
static const struct layout layout32 = { 4, 0x67, 0x20, 0x24, 0x28, 0x48, 6, 0x60, 0x1c };
#define TSS_TRAP 0x64 /* bit 0: debug exception on entry */

/* A register image read from the new TSS. */
struct image {
	uint64_t cr3;
	uint32_t ip, flags, gpr[8];
	uint16_t selector[SEG_COUNT], ldt;
	bool trap;
};

static const struct layout *layout_of(unsigned type)
{
	return type & 8 ? &layout32 : &layout16;
}

static struct image read_image(struct x86_core *core, const struct insn *i, const struct x86_segment *tss)
{
	const struct layout *l = layout_of(tss->attr & SEGA_TYPE);
	struct image m = { 0 };

	m.ip = (uint32_t)x86_load_system(core, i, tss->base + l->ip, l->size);
	m.flags = (uint32_t)x86_load_system(core, i, tss->base + l->flags, l->size);
	for (unsigned n = 0; n < 8; n++) {
		m.gpr[n] = (uint32_t)x86_load_system(core, i, tss->base + l->gpr + n * l->size, l->size);
		if (l->size == 2)
			m.gpr[n] |= 0xffff0000;
	}
	for (unsigned n = 0; n < l->segs; n++)
		m.selector[n] = (uint16_t)x86_load_system(core, i, tss->base + l->seg + n * l->size, 2);
	m.ldt = (uint16_t)x86_load_system(core, i, tss->base + l->ldt, 2);
	if (l->cr3) {
		m.cr3 = x86_load_system(core, i, tss->base + l->cr3, 4);
		m.trap = x86_load_system(core, i, tss->base + TSS_TRAP, 2) & 1;
	}
	return m;
}

static void save_image(struct x86_core *core, const struct insn *i, const struct x86_segment *tss, uint64_t back,
		       uint64_t flags)
{
	const struct layout *l = layout_of(tss->attr & SEGA_TYPE);
	const struct x86_cpu *cpu = &core->cpu;

	x86_store_system(core, i, tss->base + l->ip, l->size, back);
	x86_store_system(core, i, tss->base + l->flags, l->size, flags);
	for (unsigned n = 0; n < 8; n++)
		x86_store_system(core, i, tss->base + l->gpr + n * l->size, l->size, cpu->gpr[n]);
	for (unsigned n = 0; n < l->segs; n++)
		x86_store_system(core, i, tss->base + l->seg + n * l->size, 2, cpu->seg[n].selector);
}

/* Finds the new TSS: descriptor and register form, with all checks. */
static struct x86_segment read_tss(struct x86_core *core, const struct insn *i, uint16_t selector,
				   enum x86_task_switch how, uint32_t ext, struct x86_descriptor *d)
{
	uint32_t error = x86_selector_error(selector) | ext;
	enum x86_vector bad = how == TASK_IRET ? VECTOR_TS : VECTOR_GP;

	if (x86_selector_null(selector) || (selector & 4) || !x86_descriptor_read(core, i, selector, d))
		x86_raise_error(core, i, bad, error);
	unsigned type = x86_descriptor_system(d->raw), busy = how == TASK_IRET ? 2 : 0;
	if (type != (SYS_TSS16 | busy) && type != (SYS_TSS | busy))
		x86_raise_error(core, i, bad, error);
	if (!(x86_descriptor_attr(d->raw) & SEGA_P))
		x86_raise_error(core, i, VECTOR_NP, error);
	struct x86_segment tss = x86_segment_of(d, selector);
	if (tss.limit < layout_of(type)->minimum)
		x86_raise_error(core, i, VECTOR_TS, error);
	return tss;
}

static _Noreturn void bad_segment(struct x86_core *core, enum x86_vector vector, uint16_t selector, uint32_t ext)
{
	x86_raise_error(core, NULL, vector, x86_selector_error(selector) | ext);
}

static void load_ldt(struct x86_core *core, uint16_t selector, uint32_t ext)
{
	struct x86_descriptor d;

	if (x86_selector_null(selector))
		return;
	if ((selector & 4) || !x86_descriptor_read(core, NULL, selector, &d) ||
	    x86_descriptor_system(d.raw) != SYS_LDT || !(x86_descriptor_attr(d.raw) & SEGA_P))
		bad_segment(core, VECTOR_TS, selector, ext);
	core->cpu.ldtr = x86_segment_of(&d, selector);
}

static void load_code(struct x86_core *core, uint16_t selector, uint32_t ext)
{
	struct x86_descriptor d;
	unsigned rpl = selector & 3;

	if (x86_selector_null(selector) || !x86_descriptor_read(core, NULL, selector, &d))
		bad_segment(core, VECTOR_TS, selector, ext);
	uint32_t attr = x86_descriptor_attr(d.raw);
	unsigned dpl = x86_descriptor_dpl(d.raw);
	if (!x86_attr_is_code(attr) || (attr & SEGA_CONFORMING ? dpl > rpl : dpl != rpl))
		bad_segment(core, VECTOR_TS, selector, ext);
	if (!(attr & SEGA_P))
		bad_segment(core, VECTOR_NP, selector, ext);
	x86_descriptor_touch(core, NULL, &d);
	core->cpu.seg[SEG_CS] = x86_segment_of(&d, selector);
}

static void load_stack(struct x86_core *core, uint16_t selector, unsigned cpl, uint32_t ext)
{
	struct x86_descriptor d;

	if (x86_selector_null(selector) || !x86_descriptor_read(core, NULL, selector, &d))
		bad_segment(core, VECTOR_TS, selector, ext);
	unsigned vector = x86_check_stack(d.raw, selector, cpl);
	if (vector)
		bad_segment(core, vector == VECTOR_GP ? VECTOR_TS : vector, selector, ext);
	x86_descriptor_touch(core, NULL, &d);
	x86_segment_set(core, SEG_SS, x86_segment_of(&d, selector));
}

static void load_data(struct x86_core *core, unsigned seg, uint16_t selector, unsigned cpl, uint32_t ext)
{
	struct x86_descriptor d;

	if (x86_selector_null(selector))
		return;
	if (!x86_descriptor_read(core, NULL, selector, &d))
		bad_segment(core, VECTOR_TS, selector, ext);
	unsigned vector = x86_check_data(d.raw, selector, cpl);
	if (vector)
		bad_segment(core, vector == VECTOR_GP ? VECTOR_TS : vector, selector, ext);
	x86_descriptor_touch(core, NULL, &d);
	x86_segment_set(core, seg, x86_segment_of(&d, selector));
}

/* The new task runs: its selectors are loaded, each fault is its own. */
static void load_segments(struct x86_core *core, const struct image *m, uint32_t ext)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct x86_cpu *cpu = &core->cpu;
	unsigned cpl = m->flags & FLAG_VM ? 3 : m->selector[SEG_CS] & 3;

	/* Until each is loaded it holds only its selector. SS keeps the CPL. */
	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = m->flags & FLAG_VM ? x86_segment_real(&cpu->seg[s], m->selector[s], true)
						 : x86_segment_null(m->selector[s], s == SEG_SS ? cpl : 0);
	cpu->ldtr = x86_segment_null(m->ldt, 0);
	x86_mode_update(core);
	load_ldt(core, m->ldt, ext);
	if (m->flags & FLAG_VM)
		return;
	load_stack(core, m->selector[SEG_SS], cpl, ext);
	load_code(core, m->selector[SEG_CS], ext);
	for (unsigned n = 0; n < ARRAY_SIZE(data); n++)
		load_data(core, data[n], m->selector[data[n]], cpl, ext);
}

void x86_task_switch(struct x86_core *core, const struct insn *i, uint16_t selector, enum x86_task_switch how,
		     uint32_t ext, uint64_t back)
{
	struct x86_cpu *cpu = &core->cpu;
	struct x86_segment old = cpu->tr;
	struct x86_descriptor d, old_d;
	struct x86_segment tss = read_tss(core, i, selector, how, ext, &d);
	bool nested = how == TASK_CALL || how == TASK_GATE;
	const struct layout *l = layout_of(tss.attr & SEGA_TYPE), *old_l = layout_of(old.attr & SEGA_TYPE);
	uint64_t flags = x86_flags_get(core);

	/* The manual demands that both TSSs and both descriptors be accessible before anything changes. */
	x86_check_as(core, i, old.base + old_l->ip, old_l->ldt - old_l->ip, ACCESS_WRITE, TLB_SUPERVISOR);
	if (nested)
		x86_check_as(core, i, tss.base, 2, ACCESS_WRITE, TLB_SUPERVISOR);
	struct image m = read_image(core, i, &tss);
	if (!x86_descriptor_read(core, i, old.selector, &old_d))
		x86_raise_error(core, i, VECTOR_TS, x86_selector_error(old.selector) | ext);
	x86_check_as(core, i, d.at + 5, 1, ACCESS_WRITE, TLB_SUPERVISOR);
	x86_check_as(core, i, old_d.at + 5, 1, ACCESS_WRITE, TLB_SUPERVISOR);
	if (how == TASK_IRET)
		flags &= ~FLAG_NT;
	save_image(core, i, &old, back, flags);
	m = read_image(core, i, &tss); /* again: it may be the same segment, or overlap */
	if (!nested)
		x86_descriptor_busy(core, i, &old_d, false);
	else
		x86_store_system(core, i, tss.base, 2, old.selector);
	if (how != TASK_IRET)
		x86_descriptor_busy(core, i, &d, true);

	/* From here on it is the new task. */
	core->icount += i ? i->index : 0;
	cpu->gpr[X86_GPR_RIP] = m.ip;
	for (unsigned n = 0; n < 8; n++)
		cpu->gpr[n] = m.gpr[n];
	cpu->cr0 |= CR0_TS;
	cpu->dr[7] &= ~0x155ULL; /* local breakpoints end with the task */
	cpu->tr = x86_segment_of(&d, selector);
	cpu->tr.attr |= 2;
	if (l->cr3 && (cpu->cr0 & CR0_PG) && m.cr3 != cpu->cr3) {
		cpu->cr3 = m.cr3;
		if ((cpu->cr4 & CR4_PAE) && !x86_load_pdptes(core, m.cr3))
			x86_raise_error(core, NULL, VECTOR_GP, ext);
		x86_tlb_flush(core, FLUSH_NONGLOBAL, 0, 0);
	} else if (l->cr3 && (cpu->cr0 & CR0_PG)) {
		x86_tlb_flush(core, FLUSH_NONGLOBAL, 0, 0);
	}
	if (l->size == 2) /* a 16-bit image has no VM, RF, AC */
		m.flags &= 0xffff;
	x86_flags_set(core, (m.flags & 0x3f7fd7) | (nested ? FLAG_NT : 0));
	load_segments(core, &m, ext);
	if (m.ip > cpu->seg[SEG_CS].limit)
		x86_raise_error(core, NULL, VECTOR_GP, ext);
	if (m.trap)
		cpu->pending_debug |= DR6_BT;
	trace(exception, "task switch from %#x to %#x, RIP %#x", old.selector, selector, m.ip);
}
