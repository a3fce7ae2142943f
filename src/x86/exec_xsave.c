/* SPDX-License-Identifier: MIT */
/* FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XRSTOR: the standard format, components x87 and SSE. SDM volume 1 chapter 13,
 * 10.5; volume 2.
 *
 * The image in struct x86_cpu is the 64-bit format. FCS and FDS are never saved (CPUID.7:EBX[13]): the 32-bit format
 * has zeros there. The compacted format is not offered. */
#include <string.h>
#include "x86/exec_system.h"
#include "x86/features.h"

#define LEGACY_SIZE 512
#define LEGACY_WRITTEN 416 /* bytes 416 to 511 belong to software */
#define XMM_OFFSET 160
#define HEADER_OFFSET 512
#define AREA_SIZE 576
#define MXCSR_VALID 0xffffu
#define FCW_INIT 0x37f

static void check_available(struct x86_core *core, const struct insn *i)
{
	if (!(core->cpu.cr4 & CR4_OSXSAVE))
		x86_raise(core, i, VECTOR_UD);
	if (core->cpu.cr0 & CR0_TS)
		x86_raise(core, i, VECTOR_NM);
}

static gva_t area_address(struct x86_core *core, const struct insn *i, unsigned size, unsigned alignment,
			  enum x86_access access)
{
	gva_t at = x86_address(core, i, size, access);

	if (at & (alignment - 1))
		x86_raise_error(core, i, VECTOR_GP, 0);
	return at;
}

static unsigned xmm_count(const struct x86_core *core)
{
	return x86_in_64bit(core) ? 16 : 8;
}

static bool wide_pointers(const struct x86_core *core, const struct insn *i)
{
	return x86_in_64bit(core) && (i->flags & INSN_REX_W);
}

/* The x87 part of the image: bytes 0 to 23, and the registers in 32 to 159. */
static void x87_to_image(struct x86_core *core, const struct insn *i, struct x86_fxsave *m)
{
	const struct x86_fxsave *f = &core->cpu.xsave.legacy;

	m->fcw = f->fcw;
	m->fsw = f->fsw;
	m->ftw = f->ftw;
	m->reserved = 0;
	m->fop = f->fop & 0x7ff;
	m->fip = wide_pointers(core, i) ? f->fip : (uint32_t)f->fip;
	m->fdp = wide_pointers(core, i) ? f->fdp : (uint32_t)f->fdp;
	for (unsigned n = 0; n < 8; n++) {
		memcpy(m->st[n], f->st[n], 10);
		memset(m->st[n] + 10, 0, 6);
	}
}

static void x87_from_image(struct x86_core *core, const struct insn *i, const struct x86_fxsave *m)
{
	struct x86_fxsave *f = &core->cpu.xsave.legacy;

	f->fcw = m->fcw | 0x40;
	f->fsw = m->fsw;
	f->ftw = m->ftw;
	f->fop = m->fop & 0x7ff;
	f->fip = wide_pointers(core, i) ? m->fip : (uint32_t)m->fip;
	f->fdp = wide_pointers(core, i) ? m->fdp : (uint32_t)m->fdp;
	for (unsigned n = 0; n < 8; n++) {
		memcpy(f->st[n], m->st[n], 10);
		memset(f->st[n] + 10, 0, 6);
	}
	/* The summary bit follows the exceptions that are pending and not masked. */
	bool pending = f->fsw & ~f->fcw & 0x3f;
	f->fsw = (uint16_t)(pending ? f->fsw | 0x8080 : f->fsw & ~0x8080);
}

static void x87_init(struct x86_fxsave *f)
{
	f->fcw = FCW_INIT;
	f->fsw = f->fop = 0;
	f->ftw = 0;
	f->fip = f->fdp = 0;
	memset(f->st, 0, sizeof(f->st));
}

static bool x87_in_use(const struct x86_fxsave *f)
{
	static const uint8_t zeros[sizeof(f->st)];
	return f->fcw != FCW_INIT || f->fsw || f->ftw || f->fop || f->fip || f->fdp ||
	       memcmp(f->st, zeros, sizeof(zeros));
}

/* MXCSR does not count: it is saved with either component. */
static bool sse_in_use(const struct x86_core *core)
{
	static const uint8_t zeros[16 * 16];
	return memcmp(core->cpu.xsave.legacy.xmm, zeros, 16u * xmm_count(core)) != 0;
}

EXEC(fxsave)
{
	const struct x86_fxsave *f = &core->cpu.xsave.legacy;
	gva_t at = area_address(core, i, LEGACY_SIZE, 16, ACCESS_WRITE);
	struct x86_fxsave m;

	x87_to_image(core, i, &m);
	m.mxcsr = f->mxcsr;
	m.mxcsr_mask = MXCSR_VALID;
	memcpy(m.xmm, f->xmm, sizeof(m.xmm));
	x86_check_write(core, i, at, LEGACY_SIZE);
	x86_store_bytes(core, i, at, &m, XMM_OFFSET + 16 * xmm_count(core));
	X86_NEXT(core, i);
}

EXEC(fxrstor)
{
	struct x86_fxsave *f = &core->cpu.xsave.legacy, m;
	gva_t at = area_address(core, i, LEGACY_SIZE, 16, ACCESS_READ);

	x86_load_bytes(core, i, at, &m, LEGACY_SIZE);
	if (m.mxcsr & ~MXCSR_VALID)
		x86_raise_error(core, i, VECTOR_GP, 0);
	x87_from_image(core, i, &m);
	f->mxcsr = m.mxcsr;
	memcpy(f->xmm, m.xmm, 16 * xmm_count(core));
	X86_NEXT(core, i);
}

/* The requested features that are enabled. */
static uint64_t requested(const struct x86_core *core)
{
	const struct x86_cpu *cpu = &core->cpu;
	return cpu->xcr0 & ((uint32_t)cpu->gpr[RAX] | cpu->gpr[RDX] << 32);
}

static void save(struct x86_core *core, const struct insn *i, bool optimise)
{
	const struct x86_fxsave *f = &core->cpu.xsave.legacy;
	uint64_t rfbm = requested(core), used = 0, bv;
	struct x86_fxsave m;

	check_available(core, i);
	gva_t at = area_address(core, i, AREA_SIZE, 64, ACCESS_WRITE);
	x86_check_write(core, i, at, AREA_SIZE);
	used |= x87_in_use(f) ? XCR0_X87 : 0;
	used |= sse_in_use(core) ? XCR0_SSE : 0;
	bv = x86_load64(core, i, at + HEADER_OFFSET);
	uint64_t write = optimise ? rfbm & used : rfbm;
	x86_load_bytes(core, i, at, &m, LEGACY_WRITTEN);
	if (write & XCR0_X87)
		x87_to_image(core, i, &m);
	if (rfbm & XCR0_SSE) {
		m.mxcsr = f->mxcsr;
		m.mxcsr_mask = MXCSR_VALID;
	}
	if (write & XCR0_SSE)
		memcpy(m.xmm, f->xmm, 16 * xmm_count(core));
	x86_store_bytes(core, i, at, &m, LEGACY_WRITTEN);
	x86_store64(core, i, at + HEADER_OFFSET, (bv & ~rfbm) | (rfbm & used));
}

EXEC(xsave)
{
	save(core, i, false);
	X86_NEXT(core, i);
}

EXEC(xsaveopt)
{
	save(core, i, true);
	X86_NEXT(core, i);
}

EXEC(xrstor)
{
	struct x86_fxsave *f = &core->cpu.xsave.legacy;
	struct {
		struct x86_fxsave legacy;
		uint64_t xstate_bv, xcomp_bv, reserved[6];
	} m;
	uint64_t rfbm = requested(core);

	check_available(core, i);
	x86_load_bytes(core, i, area_address(core, i, AREA_SIZE, 64, ACCESS_READ), &m, AREA_SIZE);
	if ((m.xstate_bv & ~core->cpu.xcr0) || m.xcomp_bv || m.reserved[0])
		x86_raise_error(core, i, VECTOR_GP, 0);
	if ((rfbm & (XCR0_SSE | XCR0_AVX)) && (m.legacy.mxcsr & ~MXCSR_VALID))
		x86_raise_error(core, i, VECTOR_GP, 0);
	if (rfbm & XCR0_X87) {
		if (m.xstate_bv & XCR0_X87)
			x87_from_image(core, i, &m.legacy);
		else
			x87_init(f);
	}
	if (rfbm & XCR0_SSE) {
		f->mxcsr = m.legacy.mxcsr;
		if (m.xstate_bv & XCR0_SSE)
			memcpy(f->xmm, m.legacy.xmm, 16 * xmm_count(core));
		else
			memset(f->xmm, 0, 16 * xmm_count(core));
	}
	X86_NEXT(core, i);
}

const struct x86_forms x86_fxsave = { .any = fxsave };
const struct x86_forms x86_fxrstor = { .any = fxrstor };
const struct x86_forms x86_xsave = { .any = xsave };
const struct x86_forms x86_xsaveopt = { .any = xsaveopt };
const struct x86_forms x86_xrstor = { .any = xrstor };
