/* SPDX-License-Identifier: MIT */
/* What a system call takes: SYSCALL, SYSRET, and the RDTSC by which Linux moves its stack. SDM volume 2.
 *
 * An exec function may use vector registers, so all of the guest's are saved before, and loaded again behind it. This file is
 * compiled without them, calls nothing that is not, and so need not. It does the common cases, as the exec functions do them; for the others it
 * changes nothing and says so. */
#include "engine/bt/bt.h"
#include "x86/paging.h"
#include "x86/syscall.h"

/* The jump tables are good for what the processor is now, and would be in this mode: see keys_check in run.c. */
static bool keys_hold(const struct bt *bt, unsigned which, uint32_t mode)
{
	const struct x86_core *core = &bt->vcpu->core;

	return bt->generation[0] == core->mapping_generation && bt->generation[1] == core->supervisor_generation && bt->mode[which] == mode;
}

static uint64_t arithmetic(const struct bt_state *s)
{
	return (s->aflags >> 8 & (FLAGS_ARITH & 0xff)) | (s->aflags & 1 ? FLAG_OF : 0);
}

/* To 64-bit code of another privilege, at s->address, with these flags, of which AC is clear and TF too. */
static void *change_privilege(struct bt *bt, unsigned cpl, uint16_t cs, uint16_t ss, uint64_t flags)
{
	enum tlb_kind kind = cpl ? TLB_USER : TLB_SUPERVISOR;
	struct x86_core *core = &bt->vcpu->core;
	struct bt_state *s = bt->state = bt->view[kind];

	core->cpu.rflags = flags | FLAG_FIXED;
	s->aflags = core->aflags = (uint16_t)((flags & FLAGS_ARITH & 0xff) << 8 | (flags & FLAG_OF ? 1 : 0));
	s->if_flag = flags & FLAG_IF;
	s->ac_flag = 0;
	s->rflags = (flags & ~(FLAGS_ARITH | FLAG_IF)) | FLAG_FIXED;
	x86_load_flat(&core->cpu, cs, ss, cpl, true);
	core->cpl = (uint8_t)cpl;
	core->mode ^= MODE_USER;
	core->tlb = &core->tlbs[kind];
	x86_code_key_update(core);
	s->rsp = s + 1;
	bt->stat.quick++;
	return s->jumps[cpl ? 0 : 1][bt_jump_slot(s->address)];
}

static void *syscall_(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	struct bt_state *s = bt->state;
	uint32_t mode = bt->vcpu->core.mode & ~(uint32_t)MODE_USER;
	uint64_t flags = (cpu->rflags & ~(FLAGS_ARITH | FLAG_IF | FLAG_AC | FLAG_RF)) | FLAG_FIXED | s->if_flag | s->ac_flag | arithmetic(s);
	uint16_t selector = (uint16_t)(cpu->star >> 32 & 0xfffc);

	if (!(cpu->efer & EFER_SCE) || !(bt->vcpu->core.mode & MODE_USER) || !keys_hold(bt, 1, mode) || (flags & ~cpu->sfmask & FLAG_AC))
		return NULL;
	cpu->gpr[RCX] = bt_block_rip(bt, &bt->block[rec->block]) + rec->insn.offset + rec->insn.length;
	cpu->gpr[R11] = flags;
	s->address = cpu->lstar;
	return change_privilege(bt, 0, selector, (uint16_t)(selector + 8), flags & ~cpu->sfmask);
}

static void *sysret(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	uint64_t flags = (cpu->gpr[R11] & SYSRET_FLAGS) | FLAG_FIXED;
	uint32_t mode = bt->vcpu->core.mode | MODE_USER;
	uint16_t selector = (uint16_t)(cpu->star >> 48);

	if (!(cpu->efer & EFER_SCE) || (bt->vcpu->core.mode & MODE_USER) || !(rec->insn.flags & INSN_REX_W) || !x86_canonical(cpu->gpr[RCX]) ||
	    !keys_hold(bt, 0, mode) || (flags & (FLAG_AC | FLAG_TF)) || ((flags & FLAG_IF) && (bt->vcpu->intr_pending || cpu->nmi_pending)))
		return NULL;
	bt->state->address = cpu->gpr[RCX];
	return change_privilege(bt, 3, (uint16_t)((selector + 16) | 3), (uint16_t)((selector + 8) | 3), flags);
}

static void *rdtsc(struct bt *bt, const struct bt_insn *rec)
{
	struct x86_cpu *cpu = &bt->vcpu->core.cpu;
	const struct clock *clock = &bt->vcpu->vm->clock;

	if (((bt->vcpu->core.mode & MODE_USER) && (cpu->cr4 & CR4_TSD)) || clock->mode != CLOCK_HOST || !clock->tsc_direct || clock->frozen || !rec->resumes)
		return NULL;
	uint64_t value = __builtin_ia32_rdtsc() - atomic_load_explicit(&clock->origin, memory_order_relaxed) + cpu->tsc_offset;
	cpu->gpr[RAX] = (uint32_t)value;
	cpu->gpr[RDX] = value >> 32;
	bt->stat.quick++;
	return bt->code + rec[1].code;
}

void *bt_quick(struct bt_state *s, uint32_t insn)
{
	struct bt *bt = bt_of(vcpu_of(s->core));
	const struct bt_insn *rec = &bt->insn[insn];

	if ((s->core->mode & MODE_CODE) != MODE_CODE64)
		return NULL;
	switch (rec->insn.op) {
	case X86_OP_SYSCALL: return syscall_(bt, rec);
	case X86_OP_SYSRET: return sysret(bt, rec);
	case X86_OP_RDTSC: return rdtsc(bt, rec);
	default: return NULL;
	}
}
