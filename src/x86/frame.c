/* SPDX-License-Identifier: MIT */
/* Stack frames of transfers between privileges: the stack a TSS names, pushing and popping before registers change.
 * SDM 3A 5.8.5, 6.12.1, 6.14. */
#include "x86/segment.h"

static uint64_t stack_mask(const struct x86_core *core, const struct x86_segment *ss, bool stack64)
{
	return stack64 ? ~0ULL : ss->attr & SEGA_DB ? 0xffffffffULL : 0xffffULL;
}

struct x86_frame x86_frame_current(struct x86_core *core, const struct insn *i, uint32_t error)
{
	const struct x86_segment *ss = &core->cpu.seg[SEG_SS];

	return (struct x86_frame){
		.i = i,
		.ss = *ss,
		.sp = core->cpu.gpr[RSP],
		.mask = stack_mask(core, ss, (core->mode & MODE_STACK) == MODE_STACK64),
		.kind = x86_tlb_kind(core),
		.error = error,
	};
}

struct x86_frame x86_frame_new(struct x86_core *core, const struct insn *i, struct x86_segment ss, uint64_t sp,
			       unsigned cpl, uint32_t error)
{
	return (struct x86_frame){
		.i = i,
		.ss = ss,
		.sp = sp,
		.mask = stack_mask(core, &ss, core->mode & MODE_LONG && ss.attr & SEGA_UNUSABLE),
		.kind = cpl == 3 ? TLB_USER : TLB_SUPERVISOR,
		.error = error,
	};
}

static gva_t linear(struct x86_core *core, const struct x86_frame *f, uint64_t sp, unsigned size)
{
	if (f->mask == ~0ULL) {
		if (!x86_canonical(sp) || !x86_canonical(sp + size - 1))
			x86_raise_error(core, f->i, VECTOR_SS, f->error);
		return sp;
	}
	if (!x86_limit_ok(&f->ss, (uint32_t)sp, size))
		x86_raise_error(core, f->i, VECTOR_SS, f->error);
	return (uint32_t)(f->ss.base + sp);
}

void x86_frame_push(struct x86_core *core, struct x86_frame *f, unsigned size, uint64_t value)
{
	uint64_t sp = (f->sp - size) & f->mask;

	x86_store_as(core, f->i, linear(core, f, sp, size), size, value, f->kind);
	f->sp = (f->sp & ~f->mask) | sp;
}

uint64_t x86_frame_pop(struct x86_core *core, struct x86_frame *f, unsigned size)
{
	uint64_t sp = f->sp & f->mask;
	uint64_t value = x86_load_as(core, f->i, linear(core, f, sp, size), size, f->kind);

	f->sp = (f->sp & ~f->mask) | ((sp + size) & f->mask);
	return value;
}

void x86_frame_commit(struct x86_core *core, const struct x86_frame *f)
{
	uint64_t *rsp = &core->cpu.gpr[RSP];

	*rsp = f->mask == 0xffff ? (*rsp & ~0xffffULL) | (f->sp & 0xffff) : f->sp & f->mask;
}

static struct x86_segment long_mode_stack(struct x86_core *core, const struct insn *i, unsigned cpl, unsigned ist,
					  uint32_t ext, uint64_t *sp)
{
	const struct x86_segment *tr = &core->cpu.tr;
	uint32_t at = ist ? 36 + 8 * (ist - 1) : 4 + 8 * cpl;

	if (at + 7 > tr->limit)
		x86_raise_error(core, i, VECTOR_TS, x86_selector_error(tr->selector) | ext);
	*sp = x86_load_system(core, i, tr->base + at, 8);
	if (!x86_canonical(*sp))
		x86_raise_error(core, i, VECTOR_SS, ext);
	return x86_segment_null((uint16_t)cpl, cpl);
}

struct x86_segment x86_tss_stack(struct x86_core *core, const struct insn *i, unsigned cpl, unsigned ist, uint32_t ext,
				 uint64_t *sp)
{
	const struct x86_segment *tr = &core->cpu.tr;
	struct x86_descriptor d;
	uint16_t selector;

	if (core->mode & MODE_LONG)
		return long_mode_stack(core, i, cpl, ist, ext, sp);
	bool wide = (tr->attr & SEGA_TYPE) >= SYS_TSS;
	uint32_t at = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
	if (at + (wide ? 5 : 3) > tr->limit)
		x86_raise_error(core, i, VECTOR_TS, x86_selector_error(tr->selector) | ext);
	*sp = x86_load_system(core, i, tr->base + at, wide ? 4 : 2);
	selector = (uint16_t)x86_load_system(core, i, tr->base + at + (wide ? 4 : 2), 2);
	if (x86_selector_null(selector))
		x86_raise_error(core, i, VECTOR_TS, ext);
	if (!x86_descriptor_read(core, i, selector, &d))
		x86_raise_error(core, i, VECTOR_TS, x86_selector_error(selector) | ext);
	unsigned vector = x86_check_stack(d.raw, selector, cpl);
	if (vector)
		x86_raise_error(core, i, vector == VECTOR_GP ? VECTOR_TS : vector, x86_selector_error(selector) | ext);
	x86_descriptor_touch(core, i, &d);
	return x86_segment_of(&d, selector);
}
