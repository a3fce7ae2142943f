/* SPDX-License-Identifier: MIT */
/* Descriptor table registers: LGDT, LIDT, SGDT, SIDT, LLDT, SLDT, LTR, STR. SDM volume 2. */
#include "x86/exec_system.h"
#include "x86/segment.h"

/* User-mode instruction prevention: what SGDT and its kind tell is none of CPL 3's business. */
static void check_umip(struct x86_core *core, const struct insn *i)
{
	if (core->cpl && (core->cpu.cr4 & CR4_UMIP))
		x86_raise_error(core, i, VECTOR_GP, 0);
}

static struct x86_table load_table(struct x86_core *core, const struct insn *i)
{
	bool wide = x86_in_64bit(core);
	struct x86_table t = { 0 };

	PRIVILEGED(core, i);
	gva_t at = x86_address(core, i, wide ? 10 : 6, ACCESS_READ);
	t.limit = x86_load16(core, i, at);
	t.base = x86_load(core, i, at + 2, wide ? 8 : 4);
	if (!wide && i->osize == 2)
		t.base &= 0xffffff;
	if (wide && !x86_canonical(t.base))
		x86_raise_error(core, i, VECTOR_GP, 0);
	return t;
}

EXEC(lgdt)
{
	core->cpu.gdtr = load_table(core, i);
	X86_NEXT(core, i);
}

EXEC(lidt)
{
	core->cpu.idtr = load_table(core, i);
	X86_NEXT(core, i);
}

static void store_table(struct x86_core *core, const struct insn *i, const struct x86_table *t)
{
	unsigned size = x86_in_64bit(core) ? 10 : 6;
	uint8_t image[10];

	check_umip(core, i);
	*(any16 *)image = t->limit;
	*(any64 *)(image + 2) = t->base;
	x86_store_bytes(core, i, x86_address(core, i, size, ACCESS_WRITE), image, size);
}

EXEC(sgdt)
{
	store_table(core, i, &core->cpu.gdtr);
	X86_NEXT(core, i);
}

EXEC(sidt)
{
	store_table(core, i, &core->cpu.idtr);
	X86_NEXT(core, i);
}

static uint16_t selector_operand(struct x86_core *core, const struct insn *i)
{
	if (!(core->mode & MODE_PROTECTED))
		x86_raise(core, i, VECTOR_UD);
	PRIVILEGED(core, i);
	return i->form == FORM_M ? x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ)) : *reg16(core, i->dst);
}

/* A system segment from the GDT; in long mode its descriptor has 16 bytes. */
static struct x86_descriptor system_descriptor(struct x86_core *core, const struct insn *i, uint16_t selector,
					       uint64_t types)
{
	uint32_t error = x86_selector_error(selector);
	struct x86_descriptor d;

	if ((selector & 4) || !x86_descriptor_read(core, i, selector, &d))
		x86_raise_error(core, i, VECTOR_GP, error);
	if (!(types >> x86_descriptor_system(d.raw) & 1))
		x86_raise_error(core, i, VECTOR_GP, error);
	if (!(x86_descriptor_attr(d.raw) & SEGA_P))
		x86_raise_error(core, i, VECTOR_NP, error);
	if ((core->mode & MODE_LONG) &&
	    (!x86_descriptor_read_high(core, i, selector, &d) || !x86_canonical(x86_segment_of(&d, 0).base)))
		x86_raise_error(core, i, VECTOR_GP, error);
	return d;
}

EXEC(lldt)
{
	uint16_t selector = selector_operand(core, i);
	struct x86_descriptor d;

	if (x86_selector_null(selector)) {
		core->cpu.ldtr = x86_segment_null(selector, 0);
	} else {
		d = system_descriptor(core, i, selector, BIT(SYS_LDT));
		core->cpu.ldtr = x86_segment_of(&d, selector);
	}
	X86_NEXT(core, i);
}

EXEC_FRAME(ltr)
{
	uint16_t selector = selector_operand(core, i);
	struct x86_descriptor d;

	if (x86_selector_null(selector))
		x86_raise_error(core, i, VECTOR_GP, 0);
	d = system_descriptor(core, i, selector, core->mode & MODE_LONG ? BIT(SYS_TSS) : BIT(SYS_TSS) | BIT(SYS_TSS16));
	x86_descriptor_busy(core, i, &d, true);
	core->cpu.tr = x86_segment_of(&d, selector);
}

static void store_selector(struct x86_core *core, const struct insn *i, uint16_t selector)
{
	if (!(core->mode & MODE_PROTECTED))
		x86_raise(core, i, VECTOR_UD);
	check_umip(core, i);
	if (i->form == FORM_M)
		x86_store16(core, i, x86_address(core, i, 2, ACCESS_WRITE), selector);
	else
		x86_reg_set(core, i->dst, i->size, selector);
}

EXEC(sldt)
{
	store_selector(core, i, core->cpu.ldtr.selector);
	X86_NEXT(core, i);
}

EXEC(str)
{
	store_selector(core, i, core->cpu.tr.selector);
	X86_NEXT(core, i);
}

EXEC(smsw)
{
	check_umip(core, i);
	if (i->form == FORM_M)
		x86_store16(core, i, x86_address(core, i, 2, ACCESS_WRITE), (uint16_t)core->cpu.cr0);
	else
		x86_reg_set(core, i->dst, i->size, core->cpu.cr0);
	X86_NEXT(core, i);
}

const struct x86_forms x86_lgdt = { .any = lgdt };
const struct x86_forms x86_lidt = { .any = lidt };
const struct x86_forms x86_sgdt = { .any = sgdt };
const struct x86_forms x86_sidt = { .any = sidt };
const struct x86_forms x86_lldt = { .any = lldt };
const struct x86_forms x86_ltr = { .any = ltr };
const struct x86_forms x86_sldt = { .any = sldt };
const struct x86_forms x86_str = { .any = str };
const struct x86_forms x86_smsw = { .any = smsw };
