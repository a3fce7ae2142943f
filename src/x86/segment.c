/* SPDX-License-Identifier: MIT */
/* Segmentation: descriptors, the checks of loading a segment register, and addresses through limits. SDM 3A chapters
 * 3 and 5.
 *
 * A load has three steps, so that a faulting instruction changes nothing: read and check the descriptor, do what
 * else may fault, set the register. */
#include "x86/segment.h"

#define DESCRIPTOR_ACCESSED BIT(40)
#define DESCRIPTOR_BUSY BIT(41)
#define ATTR_V86 (SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_ACCESSED | 3 << SEGA_DPL_SHIFT)

/* Descriptors */

static bool in_table(struct x86_core *core, uint16_t selector, unsigned size, gva_t *at)
{
	const struct x86_cpu *cpu = &core->cpu;
	uint32_t offset = selector & 0xfff8u, limit = cpu->gdtr.limit;
	uint64_t base = cpu->gdtr.base;

	if (selector & 4) {
		if (cpu->ldtr.attr & SEGA_UNUSABLE || !(cpu->ldtr.attr & SEGA_P))
			return false;
		limit = cpu->ldtr.limit;
		base = cpu->ldtr.base;
	}
	*at = base + offset;
	return offset + size - 1 <= limit;
}

bool x86_descriptor_read(struct x86_core *core, const struct insn *i, uint16_t selector, struct x86_descriptor *d)
{
	d->high = 0;
	if (!in_table(core, selector, 8, &d->at))
		return false;
	d->raw = x86_load_system(core, i, d->at, 8);
	return true;
}

bool x86_descriptor_read_high(struct x86_core *core, const struct insn *i, uint16_t selector, struct x86_descriptor *d)
{
	gva_t at;

	if (!in_table(core, selector, 16, &at))
		return false;
	d->high = x86_load_system(core, i, at + 8, 8);
	return !bits_get(d->high, 40, 5); /* a type there would make it two descriptors of 8 bytes */
}

/* Changes one byte of a descriptor in one locked operation: another processor may load it now. */
static void change_type(struct x86_core *core, const struct insn *i, gva_t at, uint8_t clear, uint8_t set)
{
	gpa_t traced;
	uint8_t *byte = x86_rmw_begin_as(core, i, at + 5, 1, &traced, TLB_SUPERVISOR);

	if (!byte) {
		uint64_t old = x86_load_system(core, i, at + 5, 1);
		x86_store_system(core, i, at + 5, 1, (old & ~(uint64_t)clear) | set);
		return;
	}
	if (clear)
		__atomic_fetch_and(byte, (uint8_t)~clear, __ATOMIC_SEQ_CST);
	else
		__atomic_fetch_or(byte, set, __ATOMIC_SEQ_CST);
	x86_rmw_done(core, traced, 1);
}

void x86_descriptor_touch(struct x86_core *core, const struct insn *i, struct x86_descriptor *d)
{
	if (d->raw & DESCRIPTOR_ACCESSED)
		return;
	change_type(core, i, d->at, 0, 1);
	d->raw |= DESCRIPTOR_ACCESSED;
}

void x86_descriptor_busy(struct x86_core *core, const struct insn *i, struct x86_descriptor *d, bool busy)
{
	change_type(core, i, d->at, busy ? 0 : 2, busy ? 2 : 0);
	d->raw = busy ? d->raw | DESCRIPTOR_BUSY : d->raw & ~DESCRIPTOR_BUSY;
}

struct x86_segment x86_segment_real(const struct x86_segment *old, uint16_t selector, bool v86)
{
	return (struct x86_segment){
		.base = (uint64_t)selector << 4,
		.limit = v86 || (old->attr & SEGA_UNUSABLE) ? 0xffff : old->limit,
		.attr = v86 ? ATTR_V86 : (old->attr & SEGA_UNUSABLE ? ATTR_V86 & ~SEGA_DPL : old->attr & ~SEGA_DPL),
		.selector = selector,
	};
}

/* Loads */

struct x86_segment x86_segment_prepare(struct x86_core *core, const struct insn *i, unsigned seg, uint16_t selector)
{
	unsigned cpl = core->cpl, vector;
	struct x86_descriptor d;

	if (!(core->mode & MODE_PROTECTED))
		return x86_segment_real(&core->cpu.seg[seg], selector, core->mode & MODE_V86);
	if (x86_selector_null(selector)) {
		bool code64 = (core->mode & MODE_CODE) == MODE_CODE64;
		if (seg == SEG_SS && !(code64 && cpl < 3 && (selector & 3u) == cpl))
			x86_raise_error(core, i, VECTOR_GP, 0);
		return x86_segment_null(selector, seg == SEG_SS ? cpl : 0);
	}
	if (!x86_descriptor_read(core, i, selector, &d))
		x86_raise_error(core, i, VECTOR_GP, x86_selector_error(selector));
	vector = seg == SEG_SS ? x86_check_stack(d.raw, selector, cpl) : x86_check_data(d.raw, selector, cpl);
	if (vector)
		x86_raise_error(core, i, vector, x86_selector_error(selector));
	x86_descriptor_touch(core, i, &d);
	return x86_segment_of(&d, selector);
}

void x86_segment_set(struct x86_core *core, unsigned seg, struct x86_segment value)
{
	core->cpu.seg[seg] = value;
	x86_mode_update(core);
}

void x86_segment_set_code(struct x86_core *core, const struct x86_descriptor *d, uint16_t selector, unsigned cpl)
{
	x86_segment_set(core, SEG_CS, x86_segment_of(d, (uint16_t)((selector & ~3u) | cpl)));
}

void x86_segments_lower(struct x86_core *core)
{
	static const uint8_t data[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned n = 0; n < ARRAY_SIZE(data); n++) {
		struct x86_segment *s = &core->cpu.seg[data[n]];
		bool conforming = x86_attr_is_code(s->attr) && (s->attr & SEGA_CONFORMING);
		/* A register that is null already keeps its base (FS and GS have one from an MSR), but loses its RPL: Linux's 32-bit sigreturn
		 * test sees that on processors. */
		if (s->attr & SEGA_UNUSABLE) {
			s->selector = 0;
		} else if (!conforming && core->cpl > (s->attr & SEGA_DPL) >> SEGA_DPL_SHIFT) {
			s->selector = 0;
			s->attr |= SEGA_UNUSABLE;
		}
	}
	x86_mode_update(core);
}

bool x86_code_offset_ok(const struct x86_core *core, uint64_t raw, uint64_t offset)
{
	struct x86_descriptor d = { .raw = raw };

	if ((core->cpu.efer & EFER_LMA) && (x86_descriptor_attr(raw) & SEGA_L))
		return x86_canonical(offset);
	return offset <= x86_segment_of(&d, 0).limit;
}

/* Addresses */

bool x86_limit_ok(const struct x86_segment *s, uint32_t offset, unsigned size)
{
	uint64_t last = (uint64_t)offset + size - 1;

	if ((s->attr & (SEGA_CODE | SEGA_EXPAND_DOWN)) == SEGA_EXPAND_DOWN)
		return offset > s->limit && last <= (s->attr & SEGA_DB ? 0xffffffffu : 0xffffu);
	return last <= s->limit || s->limit == 0xffffffff; /* a full segment wraps */
}

static bool type_ok(const struct x86_segment *s, enum x86_access access)
{
	if (s->attr & SEGA_UNUSABLE)
		return false;
	if (s->attr & SEGA_CODE)
		return access != ACCESS_WRITE && (s->attr & SEGA_READABLE);
	return access != ACCESS_WRITE || (s->attr & SEGA_WRITABLE);
}

gva_t x86_address_checked(struct x86_core *core, const struct insn *i, uint64_t offset, unsigned size,
			  enum x86_access access)
{
	const struct x86_segment *s = &core->cpu.seg[i->seg];

	offset &= size_mask(i->asize);
	if ((core->mode & MODE_CODE) == MODE_CODE64)
		return offset + (i->seg == SEG_FS || i->seg == SEG_GS ? s->base : 0);
	/* Real mode has limits, but no types. */
	if (unlikely(!x86_limit_ok(s, (uint32_t)offset, size) ||
		     ((core->mode & MODE_PROTECTED) && !type_ok(s, access))))
		x86_raise_error(core, i, i->flags & INSN_STACK_SEG ? VECTOR_SS : VECTOR_GP, 0);
	return (uint32_t)(s->base + offset);
}

gva_t x86_address_unchecked(struct x86_core *core, const struct insn *i)
{
	uint64_t offset = *x86_gpr_at(core, i->base) + (*x86_gpr_at(core, i->scaled) << i->scale) + (uint64_t)i->disp;

	offset &= size_mask(i->asize);
	if ((core->mode & MODE_CODE) == MODE_CODE64)
		return offset + (i->seg == SEG_FS || i->seg == SEG_GS ? core->cpu.seg[i->seg].base : 0);
	return (uint32_t)(core->cpu.seg[i->seg].base + offset);
}

gva_t x86_stack_address_checked(struct x86_core *core, const struct insn *i, int64_t delta, unsigned size,
				enum x86_access access)
{
	const struct x86_segment *ss = &core->cpu.seg[SEG_SS];
	uint64_t sp = core->cpu.gpr[RSP] + (uint64_t)delta;

	if ((core->mode & MODE_STACK) == MODE_STACK64)
		return sp;
	sp &= (core->mode & MODE_STACK) == MODE_STACK32 ? 0xffffffff : 0xffff;
	if (unlikely(!x86_limit_ok(ss, (uint32_t)sp, size) || ((core->mode & MODE_PROTECTED) && !type_ok(ss, access))))
		x86_raise_error(core, i, VECTOR_SS, 0);
	return (uint32_t)(ss->base + sp);
}
