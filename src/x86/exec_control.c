/* SPDX-License-Identifier: MIT */
/* Control and debug registers, XCR0, and the instructions that invalidate translations. SDM 3A 2.5, 4.10.4, 10.1; 3B
 * 17.2. */
#include "util/log.h"
#include "x86/debug.h"
#include "x86/exec_system.h"
#include "x86/features.h"
#include "x86/segment.h"

#define CR0_BITS (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)

static _Noreturn void gp(struct x86_core *core, const struct insn *i)
{
	x86_raise_error(core, i, VECTOR_GP, 0);
}

static unsigned pcid_of(const struct x86_core *core)
{
	return core->cpu.cr4 & CR4_PCIDE ? (unsigned)(core->cpu.cr3 & CR3_PCID) : 0;
}

/* PAE paging, where the processor holds four PDPTEs of its own. */
static bool uses_pdptes(const struct x86_cpu *cpu, uint64_t cr0, uint64_t cr4)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(cpu->efer & EFER_LME);
}

/* CR0 */

static void check_long_mode(struct x86_core *core, const struct insn *i, uint64_t cr0)
{
	struct x86_cpu *cpu = &core->cpu;
	unsigned tss = cpu->tr.attr & SEGA_TYPE;

	if ((cr0 & CR0_PG) && !(cpu->cr0 & CR0_PG)) { /* it starts */
		if (!(cpu->cr4 & CR4_PAE) || (cpu->seg[SEG_CS].attr & SEGA_L) || tss == SYS_TSS16 ||
		    tss == SYS_TSS16_BUSY)
			gp(core, i);
	} else if (!(cr0 & CR0_PG) && (cpu->cr0 & CR0_PG)) { /* it ends */
		if (x86_in_64bit(core))
			gp(core, i);
	}
}

static void write_cr0(struct x86_core *core, const struct insn *i, uint64_t value)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t old = cpu->cr0, changed;

	if (value >> 32 || ((value & CR0_PG) && !(value & CR0_PE)) || ((value & CR0_NW) && !(value & CR0_CD)))
		gp(core, i);
	value = (value & CR0_BITS) | CR0_ET;
	changed = value ^ old;
	if (cpu->efer & EFER_LME)
		check_long_mode(core, i, value);
	if (!(value & CR0_PG) && (cpu->cr4 & CR4_PCIDE))
		gp(core, i);
	if (uses_pdptes(cpu, value, cpu->cr4) && (changed & (CR0_PG | CR0_CD | CR0_NW)) &&
	    !x86_load_pdptes(core, cpu->cr3))
		gp(core, i);
	trace(cr, "CR0 %#llx", (unsigned long long)value);
	cpu->cr0 = value;
	if (cpu->efer & EFER_LME)
		cpu->efer = value & CR0_PG ? cpu->efer | EFER_LMA : cpu->efer & ~EFER_LMA;
	x86_mode_update(core);
	if (changed & (CR0_PG | CR0_WP | CR0_PE))
		x86_tlb_flush(core, FLUSH_ALL, 0, 0);
}

/* CR3 */

static void write_cr3(struct x86_core *core, const struct insn *i, uint64_t value)
{
	struct x86_cpu *cpu = &core->cpu;
	bool keep = (cpu->cr4 & CR4_PCIDE) && (value & CR3_NOFLUSH);

	if (keep)
		value &= ~CR3_NOFLUSH;
	if (value & ~(BIT(core->model->physical_bits) - 1))
		gp(core, i);
	if (uses_pdptes(cpu, cpu->cr0, cpu->cr4) && !x86_load_pdptes(core, value))
		gp(core, i);
	trace(cr, "CR3 %#llx%s", (unsigned long long)value, keep ? " without a flush" : "");
	cpu->cr3 = value;
	x86_tlb_flush(core, keep ? FLUSH_SWITCH : FLUSH_NONGLOBAL, pcid_of(core), 0);
}

/* CR4 */

uint64_t x86_cr4_mask(const struct x86_core *core)
{
	static const struct { uint16_t feature; uint32_t bit;
	} rows[] = {
		{ FEATURE_VME, CR4_VME | CR4_PVI },
		{ FEATURE_TSC, CR4_TSD },	    { FEATURE_DE, CR4_DE },
		{ FEATURE_PSE, CR4_PSE },	    { FEATURE_PAE, CR4_PAE },
		{ FEATURE_MCE, CR4_MCE },	    { FEATURE_PGE, CR4_PGE },
		{ FEATURE_MMX, CR4_PCE },	    { FEATURE_FXSR, CR4_OSFXSR },
		{ FEATURE_SSE, CR4_OSXMMEXCPT },    { FEATURE_UMIP, CR4_UMIP },
		{ FEATURE_FSGSBASE, CR4_FSGSBASE }, { FEATURE_PCID, CR4_PCIDE },
		{ FEATURE_XSAVE, CR4_OSXSAVE },	    { FEATURE_SMEP, CR4_SMEP },
		{ FEATURE_SMAP, CR4_SMAP },
	};
	uint64_t mask = 0;

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (x86_has(core, rows[n].feature))
			mask |= rows[n].bit;
	return mask;
}

static void write_cr4(struct x86_core *core, const struct insn *i, uint64_t value)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t changed = value ^ cpu->cr4;
	bool lma = cpu->efer & EFER_LMA;

	if ((value & ~x86_cr4_mask(core)) || (lma && !(value & CR4_PAE)))
		gp(core, i);
	if ((changed & value & CR4_PCIDE) && (!lma || (cpu->cr3 & CR3_PCID)))
		gp(core, i);
	if (uses_pdptes(cpu, cpu->cr0, value) && (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP)) &&
	    !x86_load_pdptes(core, cpu->cr3))
		gp(core, i);
	trace(cr, "CR4 %#llx", (unsigned long long)value);
	cpu->cr4 = value;
	x86_mode_update(core);
	if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE))
		x86_tlb_flush(core, FLUSH_ALL, 0, 0);
}

static void write_cr8(struct x86_core *core, const struct insn *i, uint64_t value)
{
	if (value & ~0xfULL)
		gp(core, i);
	core->cpu.cr8 = value;
	if (core->env->cr8_write)
		core->env->cr8_write(core, value);
}

static unsigned register_size(const struct x86_core *core)
{
	return x86_in_64bit(core) ? 8 : 4;
}

EXEC(mov_to_cr)
{
	uint64_t value = x86_reg(core, i->src, register_size(core));

	PRIVILEGED(core, i);
	switch (i->dst) {
	case 0: write_cr0(core, i, value); break;
	case 2: core->cpu.cr2 = value; break;
	case 3: write_cr3(core, i, value); break;
	case 4: write_cr4(core, i, value); break;
	case 8: write_cr8(core, i, value); break;
	default: x86_raise(core, i, VECTOR_UD);
	}
	x86_leave(core, i, true);
}

EXEC(mov_from_cr)
{
	const struct x86_cpu *cpu = &core->cpu;
	uint64_t value = 0;

	PRIVILEGED(core, i);
	switch (i->src) {
	case 0: value = cpu->cr0; break;
	case 2: value = cpu->cr2; break;
	case 3: value = cpu->cr3; break;
	case 4: value = cpu->cr4; break;
	case 8: value = core->env->cr8_read ? core->env->cr8_read(core) : cpu->cr8; break;
	default: x86_raise(core, i, VECTOR_UD);
	}
	x86_reg_set(core, i->dst, register_size(core), value);
	X86_NEXT(core, i);
}

EXEC(lmsw)
{
	struct x86_cpu *cpu = &core->cpu;
	uint16_t value;

	PRIVILEGED(core, i);
	value = i->form == FORM_M ? x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ)) : *reg16(core, i->dst);
	/* It sets PE, MP, EM and TS, but cannot clear PE. */
	write_cr0(core, i, (cpu->cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | (value & (CR0_PE | CR0_MP | CR0_EM | CR0_TS)));
	x86_leave(core, i, true);
}

EXEC(clts)
{
	PRIVILEGED(core, i);
	core->cpu.cr0 &= ~CR0_TS;
	x86_mode_update(core);
	x86_leave(core, i, true);
}

/* Debug registers */

/* DR4 and DR5 are DR6 and DR7, unless debugging extensions are on. */
static unsigned debug_register(struct x86_core *core, const struct insn *i, unsigned n)
{
	if (n > 7 || ((n == 4 || n == 5) && (core->cpu.cr4 & CR4_DE)))
		x86_raise(core, i, VECTOR_UD);
	PRIVILEGED(core, i);
	if (core->cpu.dr[7] & DR7_GD) {
		core->cpu.dr[6] |= DR6_BD;
		x86_raise(core, i, VECTOR_DB);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

EXEC(mov_from_dr)
{
	unsigned n = debug_register(core, i, i->src);

	x86_reg_set(core, i->dst, register_size(core), core->cpu.dr[n]);
	X86_NEXT(core, i);
}

EXEC(mov_to_dr)
{
	unsigned n = debug_register(core, i, i->dst);
	uint64_t value = x86_reg(core, i->src, register_size(core));

	if (n >= 6) {
		if (value >> 32)
			gp(core, i);
		value = n == 6 ? (value & ~0x1000ULL) | DR6_FIXED : (value & ~0xd800ULL) | DR7_FIXED;
	}
	bool armed = x86_debug_armed(core);
	core->cpu.dr[n] = value;
	if (armed || x86_debug_armed(core))
		x86_tlb_flush(core, FLUSH_ALL, 0, 0); /* pages with data breakpoints stay out of the TLB */
	x86_leave(core, i, true);
}

/* XCR0 */

EXEC(xgetbv)
{
	if (!(core->cpu.cr4 & CR4_OSXSAVE))
		x86_raise(core, i, VECTOR_UD);
	uint32_t index = (uint32_t)core->cpu.gpr[RCX];
	if (index > (x86_has(core, FEATURE_XGETBV1) ? 1 : 0))
		gp(core, i);
	uint64_t value = core->cpu.xcr0 & (index ? x86_xinuse(core) : ~0ULL);
	x86_reg_set(core, RAX * 8, 4, value);
	x86_reg_set(core, RDX * 8, 4, value >> 32);
	X86_NEXT(core, i);
}

EXEC(xsetbv)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t value = (uint32_t)cpu->gpr[RAX] | cpu->gpr[RDX] << 32;

	if (!(cpu->cr4 & CR4_OSXSAVE))
		x86_raise(core, i, VECTOR_UD);
	PRIVILEGED(core, i);
	if ((uint32_t)cpu->gpr[RCX] || (value & ~core->model->xcr0) || !(value & XCR0_X87) ||
	    ((value & XCR0_AVX) && !(value & XCR0_SSE)))
		gp(core, i);
	cpu->xcr0 = value;
	x86_mode_update(core);
	x86_leave(core, i, true);
}

/* Translations and caches */

EXEC(invlpg)
{
	PRIVILEGED(core, i);
	gva_t gva = x86_address_unchecked(core, i);
	if (x86_reachable(core, gva))
		x86_tlb_flush(core, FLUSH_PAGE, pcid_of(core), gva);
	x86_leave(core, i, true);
}

EXEC(invpcid)
{
	enum { ONE_ADDRESS, ONE_PCID, ALL_WITH_GLOBALS, ALL };
	uint64_t type = x86_reg(core, i->dst, register_size(core)), pcid, gva;

	PRIVILEGED(core, i);
	gva_t at = x86_address(core, i, 16, ACCESS_READ);
	pcid = x86_load64(core, i, at);
	gva = x86_load64(core, i, at + 8);
	bool names_pcid = type == ONE_ADDRESS || type == ONE_PCID;
	if (type > ALL || pcid >> 12 || (names_pcid && pcid && !(core->cpu.cr4 & CR4_PCIDE)))
		gp(core, i);
	if (type == ONE_ADDRESS && !x86_canonical(gva))
		gp(core, i);
	static const uint8_t flush[] = { FLUSH_PAGE, FLUSH_PCID, FLUSH_ALL, FLUSH_NONGLOBAL };
	x86_tlb_flush(core, flush[type], (unsigned)pcid, gva);
	x86_leave(core, i, true);
}

EXEC(invd)
{
	PRIVILEGED(core, i);
	X86_NEXT(core, i);
}

const struct x86_forms x86_mov_to_cr = { .any = mov_to_cr };
const struct x86_forms x86_mov_from_cr = { .any = mov_from_cr };
const struct x86_forms x86_mov_to_dr = { .any = mov_to_dr };
const struct x86_forms x86_mov_from_dr = { .any = mov_from_dr };
const struct x86_forms x86_lmsw = { .any = lmsw };
const struct x86_forms x86_clts = { .any = clts };
const struct x86_forms x86_xgetbv = { .any = xgetbv };
const struct x86_forms x86_xsetbv = { .any = xsetbv };
const struct x86_forms x86_invlpg = { .any = invlpg };
const struct x86_forms x86_invpcid = { .any = invpcid };
const struct x86_forms x86_invd = { .any = invd };
