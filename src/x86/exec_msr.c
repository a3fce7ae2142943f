/* SPDX-License-Identifier: MIT */
/* Instructions that read and write what is no general register: MSRs, CPUID, time, FS and GS bases, random numbers.
 * SDM volume 2. */
#include "util/log.h"
#include "x86/exec_system.h"
#include "x86/cpuid.h"
#include "x86/paging.h"

static void set_edx_eax(struct x86_core *core, uint64_t value)
{
	x86_reg_set(core, RAX * 8, 4, value);
	x86_reg_set(core, RDX * 8, 4, value >> 32);
}

EXEC_FRAME(rdmsr)
{
	uint32_t index = (uint32_t)core->cpu.gpr[RCX];
	uint64_t value = 0;

	PRIVILEGED(core, i);
	if (!x86_msr_read(core, index, &value)) {
		trace(msr, "RDMSR %#x: none such", index);
		x86_raise_error(core, i, VECTOR_GP, 0);
	}
	trace(msr, "RDMSR %#x = %#llx", index, (unsigned long long)value);
	set_edx_eax(core, value);
}

EXEC(wrmsr)
{
	uint32_t index = (uint32_t)core->cpu.gpr[RCX];
	uint64_t value = (uint32_t)core->cpu.gpr[RAX] | core->cpu.gpr[RDX] << 32;

	PRIVILEGED(core, i);
	if (!x86_msr_write(core, index, value)) {
		trace(msr, "WRMSR %#x = %#llx: not allowed", index, (unsigned long long)value);
		x86_raise_error(core, i, VECTOR_GP, 0);
	}
	trace(msr, "WRMSR %#x = %#llx", index, (unsigned long long)value);
	x86_leave(core, i, true);
}

EXEC(cpuid)
{
	struct x86_cpu *cpu = &core->cpu;
	struct x86_cpuid_leaf leaf = x86_cpuid(core, (uint32_t)cpu->gpr[RAX], (uint32_t)cpu->gpr[RCX]);

	cpu->gpr[RAX] = leaf.eax;
	cpu->gpr[RBX] = leaf.ebx;
	cpu->gpr[RCX] = leaf.ecx;
	cpu->gpr[RDX] = leaf.edx;
	X86_NEXT(core, i);
}

/* After all loads before it, as RDTSCP has it. So have LFENCE, CPUID and IRET in front of RDTSC, none of which is the host's own: without
 * the fence the host's RDTSC would pass them, and time go back between processors. */
static uint64_t read_tsc(struct x86_core *core, const struct insn *i)
{
	if (core->cpl && (core->cpu.cr4 & CR4_TSD))
		x86_raise_error(core, i, VECTOR_GP, 0);
	__builtin_ia32_lfence();
	core->icount += i->index; /* where time is the count of instructions, it is exact here, wherever an engine's traces begin */
	uint64_t tsc = core->env->tsc(core);
	core->icount -= i->index;
	return tsc + core->cpu.tsc_offset;
}

EXEC(rdtsc)
{
	set_edx_eax(core, read_tsc(core, i));
	X86_NEXT(core, i);
}

EXEC(rdtscp)
{
	set_edx_eax(core, read_tsc(core, i));
	x86_reg_set(core, RCX * 8, 4, core->cpu.tsc_aux);
	X86_NEXT(core, i);
}

/* There are no performance counters: every index is one too many. */
EXEC(rdpmc)
{
	x86_raise_error(core, i, VECTOR_GP, 0);
}

EXEC(swapgs)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t base = cpu->seg[SEG_GS].base;

	PRIVILEGED(core, i);
	cpu->seg[SEG_GS].base = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
	X86_NEXT(core, i);
}

static void check_fsgsbase(struct x86_core *core, const struct insn *i)
{
	if (!x86_in_64bit(core) || !(core->cpu.cr4 & CR4_FSGSBASE))
		x86_raise(core, i, VECTOR_UD);
}

static void read_base(struct x86_core *core, const struct insn *i, unsigned seg)
{
	check_fsgsbase(core, i);
	x86_reg_set(core, i->dst, i->size, core->cpu.seg[seg].base);
}

static void write_base(struct x86_core *core, const struct insn *i, unsigned seg)
{
	uint64_t value = x86_reg(core, i->dst, i->size);

	check_fsgsbase(core, i);
	if (!x86_canonical(value))
		x86_raise_error(core, i, VECTOR_GP, 0);
	core->cpu.seg[seg].base = value;
}

EXEC(rdfsbase)
{
	read_base(core, i, SEG_FS);
	X86_NEXT(core, i);
}

EXEC(rdgsbase)
{
	read_base(core, i, SEG_GS);
	X86_NEXT(core, i);
}

EXEC(wrfsbase)
{
	write_base(core, i, SEG_FS);
	X86_NEXT(core, i);
}

EXEC(wrgsbase)
{
	write_base(core, i, SEG_GS);
	X86_NEXT(core, i);
}

EXEC(rdpid)
{
	x86_reg_set(core, i->dst, x86_in_64bit(core) ? 8 : 4, core->cpu.tsc_aux);
	X86_NEXT(core, i);
}

/* There is always a number: CF is set, the other flags are cleared. */
EXEC(rdrand)
{
	x86_reg_set(core, i->dst, i->size, core->env->random(core));
	core->aflags = AF_CF;
	X86_NEXT(core, i);
}

const struct x86_forms x86_rdmsr = { .any = rdmsr };
const struct x86_forms x86_wrmsr = { .any = wrmsr };
const struct x86_forms x86_cpuid_insn = { .any = cpuid };
const struct x86_forms x86_rdtsc = { .any = rdtsc };
const struct x86_forms x86_rdtscp = { .any = rdtscp };
const struct x86_forms x86_rdpmc = { .any = rdpmc };
const struct x86_forms x86_swapgs = { .any = swapgs };
const struct x86_forms x86_rdfsbase = { .any = rdfsbase };
const struct x86_forms x86_rdgsbase = { .any = rdgsbase };
const struct x86_forms x86_wrfsbase = { .any = wrfsbase };
const struct x86_forms x86_wrgsbase = { .any = wrgsbase };
const struct x86_forms x86_rdpid = { .any = rdpid };
const struct x86_forms x86_rdrand = { .any = rdrand };
const struct x86_forms x86_rdseed = { .any = rdrand };
