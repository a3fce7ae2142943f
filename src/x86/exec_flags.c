/* SPDX-License-Identifier: MIT */
/* The flags as a whole: PUSHF, POPF, CLI, STI, STAC, CLAC. SDM volume 2; 3A 20.2.7 for virtual-8086 mode. */
#include "x86/exec_system.h"
#include "x86/features.h"

#define POPF_ANY (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT)

static unsigned iopl(const struct x86_core *core)
{
	return (unsigned)(core->cpu.rflags & FLAG_IOPL) >> 12;
}

static unsigned stack_size(const struct x86_core *core, const struct insn *i)
{
	return x86_in_64bit(core) && i->osize == 4 ? 8 : i->osize;
}

/* Sensitive to IOPL in virtual-8086 mode, so that a monitor can keep an interrupt flag of its own; true: VIF is it, which the 16-bit forms of
 * PUSHF and POPF show as IF. */
static bool shows_vif(struct x86_core *core, const struct insn *i)
{
	if (!(core->mode & MODE_V86) || iopl(core) == 3)
		return false;
	if (!(core->cpu.cr4 & CR4_VME) || i->osize != 2)
		x86_raise_error(core, i, VECTOR_GP, 0);
	return true;
}

EXEC(pushf)
{
	unsigned size = stack_size(core, i);
	bool vif = shows_vif(core, i);
	uint64_t flags = x86_flags_get(core) & ~(FLAG_VM | FLAG_RF);

	if (vif)
		flags = x86_flags_virtual(flags);
	x86_store(core, i, x86_stack_address(core, i, -(int64_t)size, size, ACCESS_WRITE), size, flags);
	x86_stack_move(core, -(int64_t)size);
	X86_NEXT(core, i);
}

EXEC(popf)
{
	unsigned size = stack_size(core, i);
	uint64_t old = x86_flags_get(core), mask = POPF_ANY, value;
	bool vif = shows_vif(core, i);

	value = x86_load(core, i, x86_stack_address(core, i, 0, size, ACCESS_READ), size);
	if (vif) {
		value = x86_flags_from_virtual(core, i, value);
		mask |= FLAG_VIF;
	}
	if (size > 2)
		mask |= FLAG_AC | FLAG_ID;
	if (core->cpl <= iopl(core))
		mask |= FLAG_IF;
	if (core->cpl == 0)
		mask |= FLAG_IOPL;
	x86_stack_move(core, size);
	value = (old & ~mask & ~FLAG_RF) | (value & mask);
	if (core->cpl == 0 && size > 2 && !(core->mode & MODE_V86))
		value &= ~(FLAG_VIP | FLAG_VIF);
	x86_flags_set(core, value);
	/* Interrupts may be due now, or a single step; AC changes rights. */
	if ((value ^ old) & (FLAG_IF | FLAG_TF | FLAG_AC | FLAG_NT | FLAG_IOPL)) {
		x86_leave(core, i, true);
		return;
	}
	X86_NEXT(core, i);
}

/* CLI and STI that may not touch IF: true when VIF was meant, and changed. */
static bool set_vif(struct x86_core *core, const struct insn *i, bool on)
{
	struct x86_cpu *cpu = &core->cpu;

	if (core->cpl <= iopl(core))
		return false;
	if (!x86_virtual_if(core) || (on && (cpu->rflags & FLAG_VIP)))
		x86_raise_error(core, i, VECTOR_GP, 0);
	cpu->rflags = on ? cpu->rflags | FLAG_VIF : cpu->rflags & ~FLAG_VIF;
	return true;
}

EXEC(cli)
{
	if (!set_vif(core, i, false))
		core->cpu.rflags &= ~FLAG_IF;
	X86_NEXT(core, i);
}

EXEC(sti)
{
	struct x86_cpu *cpu = &core->cpu;

	if (set_vif(core, i, true) || (cpu->rflags & FLAG_IF))
		X86_NEXT(core, i);
	cpu->rflags |= FLAG_IF;
	cpu->interrupt_shadow = X86_SHADOW_STI;
	x86_leave(core, i, true);
}

static void set_ac(struct x86_core *core, const struct insn *i, bool ac)
{
	struct x86_cpu *cpu = &core->cpu;

	if (core->cpl || !x86_has(core, FEATURE_SMAP))
		x86_raise(core, i, VECTOR_UD);
	cpu->rflags = ac ? cpu->rflags | FLAG_AC : cpu->rflags & ~FLAG_AC;
	x86_mode_update(core);
}

EXEC(stac)
{
	set_ac(core, i, true);
	X86_NEXT(core, i);
}

EXEC(clac)
{
	set_ac(core, i, false);
	X86_NEXT(core, i);
}

const struct x86_forms x86_pushf = { .any = pushf };
const struct x86_forms x86_popf = { .any = popf };
const struct x86_forms x86_cli = { .any = cli };
const struct x86_forms x86_sti = { .any = sti };
const struct x86_forms x86_stac = { .any = stac };
const struct x86_forms x86_clac = { .any = clac };
