/* SPDX-License-Identifier: MIT */
/* What the semantics derive from the architectural state: mode, privilege, flags in the host's form. SDM 3A chapter
 * 2. */
#include "x86/core.h"
#include "x86/cpuid.h"

#define LIMIT_4G 0xffffffffu

void x86_core_init(struct x86_core *core, const struct x86_env *env, const struct x86_model *model, uint32_t apic_id)
{
	core->env = env;
	core->model = model;
	core->cpu.apic_id = apic_id;
	for (unsigned kind = 0; kind < TLB_KINDS; kind++)
		core->tlbs[kind].log[0].filled = TLB_LOG + 1; /* memory that was never a TLB: the first flush fills all of it */
	if (!core->tsc_khz)
		core->tsc_khz = 1000000;
	if (!core->cpus)
		core->cpus = 1;
	x86_cpu_reset(&core->cpu, false);
	x86_core_loaded(core);
}

void x86_core_loaded(struct x86_core *core)
{
	struct x86_cpu *cpu = &core->cpu;

	cpu->gpr[X86_GPR_ZERO] = 0;
	cpu->seg[SEG_FLAT] =
		(struct x86_segment){ .limit = LIMIT_4G, .attr = SEGA_P | SEGA_S | SEGA_WRITABLE | SEGA_G | SEGA_DB };
	cpu->rflags |= FLAG_FIXED;
	x86_flags_set(core, cpu->rflags);
	x86_mode_update(core);
	x86_tlb_flush(core, FLUSH_ALL, 0, 0);
}

/* A segment through which no access of 32-bit code can fail, and whose base adds nothing. */
static bool flat(const struct x86_segment *s, bool code)
{
	uint32_t want = code ? SEGA_CODE | SEGA_READABLE : SEGA_WRITABLE;
	uint32_t mask = code ? SEGA_CODE | SEGA_READABLE : SEGA_CODE | SEGA_WRITABLE | SEGA_EXPAND_DOWN;
	return s->base == 0 && s->limit == LIMIT_4G && (s->attr & (mask | SEGA_UNUSABLE)) == want;
}

static uint32_t code_mode(const struct x86_cpu *cpu)
{
	const struct x86_segment *seg = cpu->seg;
	uint32_t mode = 0;

	if (cpu->efer & EFER_LMA) {
		mode |= MODE_LONG;
		if (seg[SEG_CS].attr & SEGA_L)
			return mode | MODE_CODE64 | MODE_STACK64 | MODE_FLAT;
	}
	mode |= seg[SEG_CS].attr & SEGA_DB ? MODE_CODE32 : MODE_CODE16;
	mode |= seg[SEG_SS].attr & SEGA_DB ? MODE_STACK32 : MODE_STACK16;
	if (flat(&seg[SEG_CS], true) && flat(&seg[SEG_ES], false) && flat(&seg[SEG_SS], false) &&
	    flat(&seg[SEG_DS], false))
		mode |= MODE_FLAT;
	return mode;
}

static uint32_t vector_mode(const struct x86_cpu *cpu, bool protected)
{
	uint32_t mode = 0;

	if (cpu->cr0 & (CR0_EM | CR0_TS))
		mode |= MODE_X87_NM;
	if ((cpu->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		mode |= MODE_WAIT_NM;
	if (cpu->cr0 & CR0_EM)
		mode |= MODE_MMX_UD;
	if ((cpu->cr0 & CR0_EM) || !(cpu->cr4 & CR4_OSFXSR))
		mode |= MODE_SSE_UD;
	if (cpu->cr0 & CR0_TS)
		mode |= MODE_SSE_NM;
	if (!(cpu->cr4 & CR4_OSXSAVE) || (cpu->xcr0 & (XCR0_SSE | XCR0_AVX)) != (XCR0_SSE | XCR0_AVX) || !protected)
		mode |= MODE_AVX_UD;
	return mode;
}

/* Code that the engine found by RIP alone lies elsewhere once CS has another base. */
static void code_update(struct x86_core *core)
{
	const struct x86_segment *cs = &core->cpu.seg[SEG_CS];
	bool code64 = (core->mode & MODE_CODE) == MODE_CODE64;
	uint64_t base = code64 ? 0 : cs->base;
	uint32_t limit = code64 ? LIMIT_4G : cs->limit;

	if (base != core->code_base || limit != core->code_limit) {
		core->mapping_generation++;
		core->supervisor_generation++;
	}
	core->code_base = base;
	core->code_limit = limit;
	x86_code_key_update(core);
}

void x86_mode_update(struct x86_core *core)
{
	struct x86_cpu *cpu = &core->cpu;
	bool pe = cpu->cr0 & CR0_PE, vm = pe && (cpu->rflags & FLAG_VM), ac = cpu->rflags & FLAG_AC;
	enum tlb_kind kind;

	core->mode = code_mode(cpu) | vector_mode(cpu, pe && !vm) | (pe ? vm ? MODE_V86 : MODE_PROTECTED : 0);
	/* SS.DPL is the CPL, also when SS holds a null selector: whoever loads SS keeps it so (as in the VMCS, SDM
	 * 3C 24.4.1). */
	core->cpl = vm ? 3 : pe ? (cpu->seg[SEG_SS].attr & SEGA_DPL) >> SEGA_DPL_SHIFT : 0;
	if (core->cpl == 3)
		core->mode |= MODE_USER;
	code_update(core);
	if (core->cpl == 3)
		kind = ac && (cpu->cr0 & CR0_AM) ? TLB_USER_ALIGN : TLB_USER;
	else
		kind = ac && (cpu->cr4 & CR4_SMAP) ? TLB_SUPERVISOR_AC : TLB_SUPERVISOR;
	core->tlb = &core->tlbs[kind];
}

uint64_t x86_flags_get(const struct x86_core *core)
{
	return (core->cpu.rflags & ~FLAGS_ARITH) | FLAG_FIXED | (core->aflags >> 8 & (FLAGS_ARITH & 0xff)) |
	       (core->aflags & 1 ? FLAG_OF : 0);
}

void x86_flags_set(struct x86_core *core, uint64_t rflags)
{
	uint64_t changed = core->cpu.rflags ^ rflags;

	core->cpu.rflags = rflags | FLAG_FIXED;
	core->aflags = (uint16_t)((rflags & FLAGS_ARITH & 0xff) << 8 | (rflags & FLAG_OF ? 1 : 0));
	if (changed & (FLAG_VM | FLAG_AC))
		x86_mode_update(core);
}
