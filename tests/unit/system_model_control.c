/* SPDX-License-Identifier: MIT */
/* The model's fast system calls (SDM 2B SYSCALL, SYSRET, SYSENTER, SYSEXIT) and control registers (2B MOV to and from control registers, LMSW, SMSW,
 * 2A CLTS; 3A 2.5 and 9.8.5: which combinations there are). */
#include "system_model.h"
#include "x86/features.h"

/* --- system calls --- */

/* Both segments are what the instruction says, whatever a descriptor says. */
static void flat(uint16_t cs, uint16_t ss, unsigned cpl, bool code64)
{
	uint32_t common = SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_G | cpl << SEGA_DPL_SHIFT;

	m.seg[SEG_CS] = (struct x86_segment){ .limit = 0xffffffff, .selector = cs,
					      .attr = common | SEGA_CODE | SEGA_READABLE | (code64 ? SEGA_L : SEGA_DB) };
	m.seg[SEG_SS] = (struct x86_segment){ .limit = 0xffffffff, .selector = ss, .attr = common | SEGA_WRITABLE | SEGA_DB };
	m.cpl = cpl;
	m.code64 = code64;
}

void fast_call(enum fast_call call, bool wide, uint64_t next)
{
	uint16_t sys = (uint16_t)(m.sysenter_cs & 0xfffc);

	switch (call) {
	case FAST_SYSCALL:
		if (!m.code64 || !(m.efer & EFER_SCE))
			raise_(VECTOR_UD, 0);
		m.gpr[RCX] = next;
		m.gpr[R11] = m.flags;
		m.rip = m.lstar;
		m.flags &= ~m.sfmask;
		m.flags |= FLAG_FIXED;
		flat((uint16_t)(m.star >> 32 & 0xfffc), (uint16_t)((m.star >> 32 & 0xfffc) + 8), 0, true);
		return;
	case FAST_SYSRET:
		if (!m.code64 || !(m.efer & EFER_SCE))
			raise_(VECTOR_UD, 0);
		if (m.cpl || (wide && !model_canonical(m.gpr[RCX])))
			GP(0);
		m.rip = wide ? m.gpr[RCX] : (uint32_t)m.gpr[RCX];
		m.flags = (m.gpr[R11] & 0x3c7fd7) | FLAG_FIXED;
		flat((uint16_t)(((m.star >> 48) + (wide ? 16 : 0)) | 3), (uint16_t)(((m.star >> 48) + 8) | 3), 3, wide);
		return;
	case FAST_SYSENTER:
		if (!sys)
			GP(0);
		m.flags &= ~(uint64_t)(FLAG_VM | FLAG_IF);
		m.gpr[RSP] = m.lma ? m.sysenter_esp : (uint32_t)m.sysenter_esp;
		m.rip = m.lma ? m.sysenter_eip : (uint32_t)m.sysenter_eip;
		flat(sys, (uint16_t)(sys + 8), 0, m.lma);
		return;
	default:
		if (!sys || m.cpl || (wide && (!model_canonical(m.gpr[RCX]) || !model_canonical(m.gpr[RDX]))))
			GP(0);
		m.gpr[RSP] = wide ? m.gpr[RCX] : (uint32_t)m.gpr[RCX];
		m.rip = wide ? m.gpr[RDX] : (uint32_t)m.gpr[RDX];
		flat((uint16_t)((sys + (wide ? 32 : 16)) | 3), (uint16_t)((sys + (wide ? 40 : 24)) | 3), 3, wide);
	}
}

/* --- control registers --- */

static unsigned physical_bits = 40; /* CPUID.80000008H:EAX of every model with long mode */

/* 3A 4.4.1: PAE paging has four registers, loaded when CR3 is, or what changes how it is read. Bits 2:1, 8:5 and those beyond the physical
 * address are reserved. */
static void load_pdptes(uint64_t cr3)
{
	for (unsigned n = 0; n < 4; n++) {
		uint64_t entry = flat_get((cr3 & 0xffffffe0) + 8 * n, 8);
		if (entry & PTE_P && entry & (0x1e6 | ~(BIT(physical_bits) - 1)))
			GP(0);
		m.pdpte[n] = entry;
	}
}

static void write_cr0(uint64_t value)
{
	uint64_t known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG, changed;
	bool starts, ends;

	if (value >> 32 || (value & CR0_PG && !(value & CR0_PE)) || (value & CR0_NW && !(value & CR0_CD)))
		GP(0);
	value = (value & known) | CR0_ET;
	changed = value ^ m.cr0;
	starts = value & ~m.cr0 & CR0_PG;
	ends = m.cr0 & ~value & CR0_PG;
	if (starts && m.efer & EFER_LME && (!(m.cr4 & CR4_PAE) || m.seg[SEG_CS].attr & SEGA_L || !(m.tr.attr & 8)))
		GP(0); /* 9.8.5 */
	if (ends && (m.code64 || m.cr4 & CR4_PCIDE))
		GP(0);
	if (value & CR0_PG && m.cr4 & CR4_PAE && !(m.efer & EFER_LME) && changed & (CR0_CD | CR0_NW | CR0_PG))
		load_pdptes(m.cr3);
	m.cr0 = value;
	if (starts && m.efer & EFER_LME)
		m.efer |= EFER_LMA;
	if (ends)
		m.efer &= ~(uint64_t)EFER_LMA;
	m.lma = m.efer & EFER_LMA;
	m.code64 = m.lma && m.seg[SEG_CS].attr & SEGA_L;
}

static void write_cr3(uint64_t value)
{
	if (m.cr4 & CR4_PCIDE)
		value &= ~BIT(63); /* "no flush", and not stored */
	if (value & ~(BIT(physical_bits) - 1))
		GP(0);
	if (m.cr0 & CR0_PG && m.cr4 & CR4_PAE && !m.lma)
		load_pdptes(value);
	m.cr3 = value;
}

static void write_cr4(uint64_t value, bool (*has)(unsigned))
{
	static const struct { uint64_t bit; unsigned feature;
	} bits[] = {
		{ CR4_VME, FEATURE_VME }, { CR4_PVI, FEATURE_VME }, { CR4_TSD, FEATURE_TSC }, { CR4_DE, FEATURE_DE }, { CR4_PSE, FEATURE_PSE },
		{ CR4_PAE, FEATURE_PAE }, { CR4_MCE, FEATURE_MCE }, { CR4_PGE, FEATURE_PGE }, { CR4_PCE, FEATURE_MMX }, { CR4_OSFXSR, FEATURE_FXSR },
		{ CR4_OSXMMEXCPT, FEATURE_SSE }, { CR4_UMIP, FEATURE_UMIP }, { CR4_FSGSBASE, FEATURE_FSGSBASE }, { CR4_PCIDE, FEATURE_PCID },
		{ CR4_OSXSAVE, FEATURE_XSAVE }, { CR4_SMEP, FEATURE_SMEP }, { CR4_SMAP, FEATURE_SMAP },
	};
	uint64_t known = 0, changed = value ^ m.cr4;

	for (unsigned n = 0; n < ARRAY_SIZE(bits); n++)
		known |= has(bits[n].feature) ? bits[n].bit : 0;
	if (value & ~known || (m.lma && !(value & CR4_PAE)))
		GP(0);
	if (value & changed & CR4_PCIDE && (!m.lma || m.cr3 & 0xfff))
		GP(0);
	if (m.cr0 & CR0_PG && value & CR4_PAE && !m.lma && changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP))
		load_pdptes(m.cr3);
	m.cr4 = value;
}

void control(enum control what, unsigned cr, unsigned reg, uint16_t value, bool (*has)(unsigned), uint64_t next)
{
	uint64_t from = m.code64 ? m.gpr[reg] : (uint32_t)m.gpr[reg], to;

	if (what <= READ_CR && cr != 0 && cr != 2 && cr != 3 && cr != 4 && cr != 8)
		raise_(VECTOR_UD, 0);
	if (what == SMSW) { /* without a prefix, to a register: bits 31:16 are those of CR0 on all processors that we know */
		if (m.cpl && m.cr4 & CR4_UMIP) /* 3A 2.5 */
			GP(0);
		m.gpr[reg] = (uint32_t)m.cr0;
		m.rip = next;
		return;
	}
	if (m.cpl)
		GP(0);
	m.rip = next;
	switch (what) {
	case WRITE_CR:
		if (cr == 8 && from >> 4)
			GP(0);
		if (cr == 0)
			write_cr0(from);
		else if (cr == 3)
			write_cr3(from);
		else if (cr == 4)
			write_cr4(from, has);
		else
			*(cr == 2 ? &m.cr2 : &m.cr8) = from;
		return;
	case READ_CR:
		to = cr == 0 ? m.cr0 : cr == 2 ? m.cr2 : cr == 3 ? m.cr3 : cr == 4 ? m.cr4 : m.cr8;
		m.gpr[reg] = m.code64 ? to : (uint32_t)to;
		return;
	case LMSW: /* "can set PE, but not clear it" */
		m.cr0 = (m.cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (value & 15);
		return;
	default:
		m.cr0 &= ~(uint64_t)CR0_TS;
	}
}
