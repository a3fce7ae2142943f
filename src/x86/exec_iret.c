/* SPDX-License-Identifier: MIT */
/* IRET in every mode: real, virtual-8086, protected to the same or an outer privilege, to virtual-8086 mode, out of
 * a nested task, and in long mode. SDM 2A IRET. */
#include "x86/exec_system.h"
#include "x86/segment.h"

#define FLAGS_ANY (FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT)
#define FLAGS_WIDE (FLAG_RF | FLAG_AC | FLAG_ID)

/* Which flags an IRET from the present privilege may change. */
static uint64_t changeable(const struct x86_core *core, unsigned size)
{
	uint64_t mask = FLAGS_ANY;
	unsigned iopl = (unsigned)(core->cpu.rflags & FLAG_IOPL) >> 12;

	if (size > 2)
		mask |= FLAGS_WIDE;
	if (core->cpl <= iopl)
		mask |= FLAG_IF;
	if (core->cpl == 0)
		mask |= FLAG_IOPL | (size > 2 ? FLAG_VIF | FLAG_VIP : 0);
	return mask;
}

static void set_flags(struct x86_core *core, uint64_t value, uint64_t mask)
{
	x86_flags_set(core, (x86_flags_get(core) & ~mask) | (value & mask));
}

uint64_t x86_flags_virtual(uint64_t flags)
{
	return (flags & ~FLAG_IF) | FLAG_IOPL | (flags & FLAG_VIF ? FLAG_IF : 0);
}

uint64_t x86_flags_from_virtual(struct x86_core *core, const struct insn *i, uint64_t popped)
{
	if ((popped & FLAG_TF) || ((popped & FLAG_IF) && (core->cpu.rflags & FLAG_VIP)))
		x86_raise_error(core, i, VECTOR_GP, 0);
	return popped & FLAG_IF ? popped | FLAG_VIF : popped & ~FLAG_VIF;
}

/* Real mode, and virtual-8086 mode with IOPL 3, or with a virtual interrupt flag. */
static void iret_real(struct x86_core *core, const struct insn *i)
{
	struct x86_segment *cs = &core->cpu.seg[SEG_CS];
	bool v86 = core->mode & MODE_V86;
	struct x86_frame f = x86_frame_current(core, i, 0);
	uint64_t mask = FLAGS_ANY | FLAG_IF | (v86 ? 0 : FLAG_IOPL) | (i->osize > 2 ? FLAGS_WIDE : 0);
	bool vif = v86 && (core->cpu.rflags & FLAG_IOPL) != FLAG_IOPL;

	if (vif && (!(core->cpu.cr4 & CR4_VME) || i->osize != 2))
		x86_raise_error(core, i, VECTOR_GP, 0);
	uint64_t offset = x86_frame_pop(core, &f, i->osize);
	uint16_t selector = (uint16_t)x86_frame_pop(core, &f, i->osize);
	uint64_t flags = x86_frame_pop(core, &f, i->osize);
	if (offset > (v86 ? 0xffff : cs->limit))
		x86_raise_error(core, i, VECTOR_GP, 0);
	if (vif) {
		flags = x86_flags_from_virtual(core, i, flags);
		mask = FLAGS_ANY | FLAG_VIF;
	}
	x86_frame_commit(core, &f);
	x86_segment_set(core, SEG_CS, x86_segment_real(cs, selector, v86));
	set_flags(core, flags, mask);
	x86_leave_at(core, i, offset);
}

/* NT is set: back to the task whose selector is in this TSS. */
static void iret_task(struct x86_core *core, const struct insn *i)
{
	uint16_t back = (uint16_t)x86_load_system(core, i, core->cpu.tr.base, 2);
	uint64_t retired = core->icount + i->index + 1u;

	x86_task_switch(core, i, back, TASK_IRET, 0, (uint32_t)x86_next_rip(core, i));
	core->icount = retired;
}

static void iret_to_v86(struct x86_core *core, const struct insn *i, struct x86_frame *f, uint64_t offset, uint16_t cs,
			uint64_t flags)
{
	static const uint8_t order[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct x86_cpu *cpu = &core->cpu;
	uint64_t sp = x86_frame_pop(core, f, 4);
	uint16_t ss = (uint16_t)x86_frame_pop(core, f, 4), data[4];

	for (unsigned n = 0; n < 4; n++)
		data[n] = (uint16_t)x86_frame_pop(core, f, 4);
	if (offset > 0xffff)
		x86_raise_error(core, i, VECTOR_GP, 0);
	cpu->seg[SEG_CS] = x86_segment_real(&cpu->seg[SEG_CS], cs, true);
	cpu->seg[SEG_SS] = x86_segment_real(&cpu->seg[SEG_SS], ss, true);
	for (unsigned n = 0; n < 4; n++)
		cpu->seg[order[n]] = x86_segment_real(&cpu->seg[order[n]], data[n], true);
	cpu->gpr[RSP] = (uint32_t)sp;
	x86_flags_set(core, flags & (FLAGS_ANY | FLAGS_WIDE | FLAG_IF | FLAG_IOPL | FLAG_VM | FLAG_VIF | FLAG_VIP));
	x86_mode_update(core);
	x86_leave_at(core, i, offset);
}

static void iret_protected(struct x86_core *core, const struct insn *i)
{
	struct x86_frame f = x86_frame_current(core, i, 0);
	bool from64 = x86_in_64bit(core);
	uint64_t offset = x86_frame_pop(core, &f, i->osize);
	uint16_t selector = (uint16_t)x86_frame_pop(core, &f, i->osize);
	uint64_t flags = x86_frame_pop(core, &f, i->osize), sp = 0;
	unsigned cpl = selector & 3;
	struct x86_descriptor cs;
	struct x86_segment ss;

	if ((flags & FLAG_VM) && i->osize == 4 && core->cpl == 0 && !(core->mode & MODE_LONG)) {
		iret_to_v86(core, i, &f, offset, selector, flags);
		return;
	}
	x86_return_code(core, i, selector, &cs);
	bool outer = cpl != core->cpl;
	if (outer || from64) {
		bool to64 = (core->mode & MODE_LONG) && (x86_descriptor_attr(cs.raw) & SEGA_L);
		sp = x86_frame_pop(core, &f, i->osize);
		uint16_t ss_selector = (uint16_t)x86_frame_pop(core, &f, i->osize);
		ss = x86_return_stack(core, i, ss_selector, cpl, to64);
	}
	x86_check_offset(core, i, &cs, offset);
	x86_descriptor_touch(core, i, &cs);

	/* Nothing can fault from here on. The flags obey the privilege before the return. */
	set_flags(core, flags, changeable(core, i->osize));
	if (outer || from64) {
		core->cpu.seg[SEG_SS] = ss;
		x86_segment_set_code(core, &cs, selector, cpl);
		x86_return_stack_pointer(core, sp, i->osize);
		if (outer)
			x86_segments_lower(core);
	} else {
		x86_frame_commit(core, &f);
		x86_segment_set_code(core, &cs, selector, cpl);
	}
	x86_leave_at(core, i, offset);
}

EXEC(iret)
{
	core->cpu.nmi_blocked = 0; /* also when the IRET faults, SDM 3A 6.7.1 */
	if (!(core->mode & MODE_PROTECTED)) {
		iret_real(core, i);
	} else if (core->cpu.rflags & FLAG_NT) {
		if (core->mode & MODE_LONG)
			x86_raise_error(core, i, VECTOR_GP, 0);
		iret_task(core, i);
	} else {
		iret_protected(core, i);
	}
}

const struct x86_forms x86_iret = { .any = iret };
