/* SPDX-License-Identifier: MIT */
/* Model-specific registers: a table of those that are plain fields of struct x86_cpu or constants, and functions for
 * the few whose writes do something. What lives in a device (APIC, TSC deadline) is asked of the surroundings. SDM
 * volume 4. */
#include "x86/exec_system.h"
#include "x86/features.h"
#include "x86/paging.h"

#define ALWAYS 0xffff /* as feature */
#define NO_FIELD 0xffff

enum check { CHECK_MASK, CHECK_CANONICAL, CHECK_PAT, CHECK_MTRR_TYPES, CHECK_MTRR_RANGE, CHECK_MTRR_TYPE, CHECK_IGNORE };

struct row {
	uint32_t index, count;  /* a run of MSRs, in consecutive fields */
	uint16_t field;         /* offset in struct x86_cpu; NO_FIELD: reads as `value` */
	uint16_t feature;       /* FEATURE_*, or ALWAYS */
	uint64_t writable;      /* other bits must be zero in a write; 0: any write is #GP, unless ignored */
	uint64_t value;         /* ORed into what is read */
	enum check check;
};

#define FIELD(name) offsetof(struct x86_cpu, name)
#define ANY (~0ULL)

/* What an interpreter and this processor's speculation-free model are not vulnerable to: RDCL_NO, IBRS_ALL,
 * SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO,
 * GDS_NO, RFDS_NO, ITS_NO. */
#define ARCH_CAPABILITIES                                                                                              \
	(BIT(0) | BIT(1) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(8) | BIT(13) | BIT(14) | BIT(15) | BIT(20) |        \
	 BIT(24) | BIT(26) | BIT(27) | BIT(62))
#define SPEC_CTRL_BITS (BIT(0) | BIT(1) | BIT(2) | BIT(10)) /* IBRS, STIBP, SSBD, BHI_DIS_S */
#define MTRRCAP (8 | BIT(8) | BIT(10)) /* eight variable ranges, fixed ranges, write combining */
#define MICROCODE_REVISION BIT(32)
#define PHYSICAL_MASK (BIT(40) - 1)

static const struct row rows[] = {
	{ MSR_PLATFORM_ID, 1, NO_FIELD, FEATURE_MSR, 0, 0, CHECK_MASK },
	{ MSR_FEATURE_CONTROL, 1, FIELD(feature_control), ALWAYS, 0, 0, CHECK_MASK },
	{ MSR_SPEC_CTRL, 1, FIELD(spec_ctrl), FEATURE_SPEC_CTRL, SPEC_CTRL_BITS, 0, CHECK_MASK },
	{ MSR_BIOS_SIGN_ID, 1, NO_FIELD, FEATURE_MSR, ANY, MICROCODE_REVISION, CHECK_IGNORE },
	{ MSR_MTRRCAP, 1, NO_FIELD, FEATURE_MTRR, 0, MTRRCAP, CHECK_MASK },
	{ MSR_ARCH_CAPABILITIES, 1, NO_FIELD, FEATURE_ARCH_CAPABILITIES, 0, ARCH_CAPABILITIES, CHECK_MASK },
	{ MSR_SYSENTER_CS, 1, FIELD(sysenter_cs), FEATURE_SEP, 0xffffffff, 0, CHECK_MASK },
	{ MSR_SYSENTER_ESP, 1, FIELD(sysenter_esp), FEATURE_SEP, ANY, 0, CHECK_CANONICAL },
	{ MSR_SYSENTER_EIP, 1, FIELD(sysenter_eip), FEATURE_SEP, ANY, 0, CHECK_CANONICAL },
	{ MSR_MCG_CAP, 1, NO_FIELD, FEATURE_MCA, 0, 0, CHECK_MASK },
	{ MSR_MCG_STATUS, 1, NO_FIELD, FEATURE_MCA, ANY, 0, CHECK_IGNORE },
	{ MSR_MISC_ENABLE, 1, FIELD(misc_enable), FEATURE_PAT, ANY, 0x1800, CHECK_MASK },
	{ MSR_DEBUGCTL, 1, FIELD(debugctl), FEATURE_SEP, DEBUGCTL_LBR | DEBUGCTL_BTF, 0, CHECK_MASK },
	{ MSR_MTRR_PHYSBASE0, 16, FIELD(mtrr_var), FEATURE_MTRR, PHYSICAL_MASK & ~0x700ULL, 0, CHECK_MTRR_RANGE },
	{ MSR_MTRR_FIX64K, 1, FIELD(mtrr_fixed[0]), FEATURE_MTRR, ANY, 0, CHECK_MTRR_TYPES },
	{ MSR_MTRR_FIX16K_80000, 2, FIELD(mtrr_fixed[1]), FEATURE_MTRR, ANY, 0, CHECK_MTRR_TYPES },
	{ MSR_MTRR_FIX4K, 8, FIELD(mtrr_fixed[3]), FEATURE_MTRR, ANY, 0, CHECK_MTRR_TYPES },
	{ MSR_PAT, 1, FIELD(pat), FEATURE_PAT, ANY, 0, CHECK_PAT },
	{ MSR_MTRR_DEF_TYPE, 1, FIELD(mtrr_def_type), FEATURE_MTRR, 0xcff, 0, CHECK_MTRR_TYPE },
	{ MSR_STAR, 1, FIELD(star), FEATURE_LM, ANY, 0, CHECK_MASK },
	{ MSR_LSTAR, 1, FIELD(lstar), FEATURE_LM, ANY, 0, CHECK_CANONICAL },
	{ MSR_CSTAR, 1, FIELD(cstar), FEATURE_LM, ANY, 0, CHECK_CANONICAL },
	{ MSR_SFMASK, 1, FIELD(sfmask), FEATURE_LM, 0xffffffff, 0, CHECK_MASK },
	{ MSR_FS_BASE, 1, FIELD(seg[SEG_FS].base), FEATURE_LM, ANY, 0, CHECK_CANONICAL },
	{ MSR_GS_BASE, 1, FIELD(seg[SEG_GS].base), FEATURE_LM, ANY, 0, CHECK_CANONICAL },
	{ MSR_KERNEL_GS_BASE, 1, FIELD(kernel_gs_base), FEATURE_LM, ANY, 0, CHECK_CANONICAL },
	{ MSR_TSC_AUX, 1, FIELD(tsc_aux), FEATURE_RDTSCP, 0xffffffff, 0, CHECK_MASK },
};

static bool has(const struct x86_core *core, uint16_t feature)
{
	return feature == ALWAYS || x86_has(core, feature);
}

static const struct row *find(const struct x86_core *core, uint32_t index)
{
	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++)
		if (index - rows[n].index < rows[n].count)
			return has(core, rows[n].feature) ? &rows[n] : NULL;
	return NULL;
}

static uint64_t *field(struct x86_core *core, const struct row *r, uint32_t index)
{
	return (uint64_t *)((char *)&core->cpu + r->field) + (index - r->index);
}

/* Memory types in each byte: UC, WC, WT, WP, WB; the PAT has UC- too. */
static bool types_ok(uint64_t value, bool pat)
{
	for (unsigned n = 0; n < 8; n++) {
		unsigned type = value >> (8 * n) & 0xff;
		if (type > 7 || type == 2 || type == 3 || (type == 7 && !pat))
			return false;
	}
	return true;
}

static bool row_write(struct x86_core *core, const struct row *r, uint32_t index, uint64_t value)
{
	if (!r->writable || (value & ~r->writable))
		return false;
	switch (r->check) {
	case CHECK_IGNORE: return true;
	case CHECK_CANONICAL:
		if (!x86_canonical(value))
			return false;
		break;
	case CHECK_PAT:
		if (!types_ok(value, true))
			return false;
		break;
	case CHECK_MTRR_TYPES:
		if (!types_ok(value, false))
			return false;
		break;
	case CHECK_MTRR_RANGE: /* base and mask in turn; the mask has no type, the base no valid bit (11) */
		if ((index - r->index) & 1 ? (value & 0xff) : (value & BIT(11)) || !types_ok(value & 0xff, false))
			return false;
		break;
	case CHECK_MTRR_TYPE:
		if (!types_ok(value & 0xff, false))
			return false;
		break;
	case CHECK_MASK: break;
	}
	*field(core, r, index) = value;
	return true;
}

static bool write_efer(struct x86_core *core, uint64_t value)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t offered = (x86_has(core, FEATURE_LM) ? EFER_LME | EFER_LMA : 0) |
			   (x86_has(core, FEATURE_SYSCALL) ? EFER_SCE : 0) | (x86_has(core, FEATURE_NX) ? EFER_NXE : 0);
	uint64_t changed;

	if (value & ~offered)
		return false;
	value = (value & ~EFER_LMA) | (cpu->efer & EFER_LMA); /* LMA follows CR0.PG */
	changed = value ^ cpu->efer;
	if ((changed & EFER_LME) && (cpu->cr0 & CR0_PG))
		return false;
	cpu->efer = value;
	if (changed & EFER_NXE)
		x86_tlb_flush(core, FLUSH_ALL, 0, 0);
	x86_mode_update(core);
	return true;
}

/* A write of the TSC moves TSC_ADJUST by as much, and the other way round. */
static void move_tsc(struct x86_core *core, uint64_t by)
{
	core->cpu.tsc_offset += by;
	core->cpu.tsc_adjust += by;
}

static bool special_read(struct x86_core *core, uint32_t index, uint64_t *value)
{
	switch (index) {
	case MSR_TSC: *value = core->env->tsc(core) + core->cpu.tsc_offset; return x86_has(core, FEATURE_TSC);
	case MSR_TSC_ADJUST: *value = core->cpu.tsc_adjust; return x86_has(core, FEATURE_TSC_ADJUST);
	case MSR_XSS: *value = 0; return x86_has(core, FEATURE_XSAVES);
	case MSR_EFER: *value = core->cpu.efer; return x86_has(core, FEATURE_SYSCALL) || x86_has(core, FEATURE_NX);
	default: return core->env->rdmsr && core->env->rdmsr(core, index, value);
	}
}

static bool special_write(struct x86_core *core, uint32_t index, uint64_t value)
{
	switch (index) {
	case MSR_TSC:
		if (!x86_has(core, FEATURE_TSC))
			return false;
		move_tsc(core, value - (core->env->tsc(core) + core->cpu.tsc_offset));
		return true;
	case MSR_TSC_ADJUST:
		if (!x86_has(core, FEATURE_TSC_ADJUST))
			return false;
		move_tsc(core, value - core->cpu.tsc_adjust);
		return true;
	case MSR_PRED_CMD: /* IBPB: there is no prediction to forget */
		return x86_has(core, FEATURE_SPEC_CTRL) && !(value & ~1ULL);
	case MSR_XSS: /* there are no supervisor components */
		return x86_has(core, FEATURE_XSAVES) && !value;
	case MSR_EFER:
		return (x86_has(core, FEATURE_SYSCALL) || x86_has(core, FEATURE_NX)) && write_efer(core, value);
	default:
		return core->env->wrmsr && core->env->wrmsr(core, index, value);
	}
}

bool x86_msr_read(struct x86_core *core, uint32_t index, uint64_t *value)
{
	const struct row *r = find(core, index);

	if (!r)
		return special_read(core, index, value);
	*value = (r->field == NO_FIELD ? 0 : *field(core, r, index)) | r->value;
	return true;
}

bool x86_msr_write(struct x86_core *core, uint32_t index, uint64_t value)
{
	const struct row *r = find(core, index);

	return r ? row_write(core, r, index, value) : special_write(core, index, value);
}
