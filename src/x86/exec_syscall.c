/* SPDX-License-Identifier: MIT */
/* Fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT. SDM volume 2B; they load fixed flat segments without a
 * descriptor.
 *
 * With TF, processors trap behind SYSCALL and SYSRET by the flags that these leave, not by those from before: a kernel that masks TF is
 * not stepped on its entry, and a SYSRET that sets TF traps before the first instruction of the user. */
#include "x86/exec_system.h"
#include "x86/segment.h"
#include "x86/syscall.h"

static void load_flat(struct x86_core *core, uint16_t cs, uint16_t ss, unsigned cpl, bool code64)
{
	x86_load_flat(&core->cpu, cs, ss, cpl, code64);
	x86_mode_update(core);
}

EXEC(syscall)
{
	struct x86_cpu *cpu = &core->cpu;
	uint16_t selector = (uint16_t)(cpu->star >> 32 & 0xfffc);

	if (!x86_in_64bit(core) || !(cpu->efer & EFER_SCE))
		x86_raise(core, i, VECTOR_UD);
	uint64_t flags = x86_flags_get(core) & ~FLAG_RF;
	cpu->gpr[RCX] = x86_next_rip(core, i);
	cpu->gpr[R11] = flags;
	x86_flags_set(core, flags & ~cpu->sfmask);
	load_flat(core, selector, (uint16_t)(selector + 8), 0, true);
	x86_step_decided(core, cpu->rflags & FLAG_TF);
	x86_leave_at(core, i, cpu->lstar);
}

EXEC(sysret)
{
	struct x86_cpu *cpu = &core->cpu;
	uint16_t selector = (uint16_t)(cpu->star >> 48);
	bool to64 = i->flags & INSN_REX_W;

	if (!x86_in_64bit(core) || !(cpu->efer & EFER_SCE))
		x86_raise(core, i, VECTOR_UD);
	PRIVILEGED(core, i);
	if (to64 && !x86_canonical(cpu->gpr[RCX]))
		x86_raise_error(core, i, VECTOR_GP, 0);
	x86_flags_set(core, (cpu->gpr[R11] & SYSRET_FLAGS) | FLAG_FIXED);
	load_flat(core, (uint16_t)((selector + (to64 ? 16 : 0)) | 3), (uint16_t)((selector + 8) | 3), 3, to64);
	x86_step_decided(core, cpu->rflags & FLAG_TF);
	x86_leave_at(core, i, to64 ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX]);
}

EXEC(sysenter)
{
	struct x86_cpu *cpu = &core->cpu;
	uint16_t selector = (uint16_t)(cpu->sysenter_cs & 0xfffc);
	bool lma = cpu->efer & EFER_LMA;

	if (!(cpu->cr0 & CR0_PE) || !selector)
		x86_raise_error(core, i, VECTOR_GP, 0);
	x86_flags_set(core, x86_flags_get(core) & ~(FLAG_VM | FLAG_IF | FLAG_RF));
	cpu->gpr[RSP] = lma ? cpu->sysenter_esp : (uint32_t)cpu->sysenter_esp;
	load_flat(core, selector, (uint16_t)(selector + 8), 0, lma);
	x86_leave_at(core, i, lma ? cpu->sysenter_eip : (uint32_t)cpu->sysenter_eip);
}

EXEC(sysexit)
{
	struct x86_cpu *cpu = &core->cpu;
	uint16_t selector = (uint16_t)(cpu->sysenter_cs & 0xfffc);
	bool to64 = x86_in_64bit(core) && (i->flags & INSN_REX_W);

	if (!(core->mode & MODE_PROTECTED) || !selector || core->cpl)
		x86_raise_error(core, i, VECTOR_GP, 0);
	if (to64 && (!x86_canonical(cpu->gpr[RCX]) || !x86_canonical(cpu->gpr[RDX])))
		x86_raise_error(core, i, VECTOR_GP, 0);
	uint64_t rip = to64 ? cpu->gpr[RDX] : (uint32_t)cpu->gpr[RDX];
	cpu->gpr[RSP] = to64 ? cpu->gpr[RCX] : (uint32_t)cpu->gpr[RCX];
	load_flat(core, (uint16_t)((selector + (to64 ? 32 : 16)) | 3), (uint16_t)((selector + (to64 ? 40 : 24)) | 3), 3,
		  to64);
	x86_leave_at(core, i, rip);
}

const struct x86_forms x86_syscall = { .any = syscall };
const struct x86_forms x86_sysret = { .any = sysret };
const struct x86_forms x86_sysenter = { .any = sysenter };
const struct x86_forms x86_sysexit = { .any = sysexit };
