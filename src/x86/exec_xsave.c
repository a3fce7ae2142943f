/* SPDX-License-Identifier: MIT */
/* FXSAVE, FXRSTOR; XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS in the standard and the compacted format, components x87, SSE and
 * AVX. SDM volume 1 chapter 13, 10.5; volume 2.
 *
 * The image in struct x86_cpu is the 64-bit format; FCS and FDS are in it where the 32-bit format has them, if they are kept (x87.h). AVX
 * is the only component beyond the header, so it lies at the same place in both formats. There are no supervisor components: IA32_XSS is
 * zero. A component counts as in use when it differs from its initial state. */
#include <string.h>
#include "x86/exec_system.h"
#include "x86/x87.h"

#define LEGACY_SIZE 512
#define MXCSR_OFFSET 24    /* with its mask behind it */
#define ST_OFFSET 32
#define XMM_OFFSET 160     /* bytes 416 to 511 belong to software */
#define HEADER_OFFSET 512
#define AREA_SIZE 576
#define AVX_SIZE 256       /* behind the header, in both formats */
#define MXCSR_VALID 0xffffu
#define MXCSR_INIT 0x1f80u

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

/* What is moved of FIP and FDP: 64 bits; or 32, and a selector behind them. */
static uint64_t pointer_bits(const struct x86_core *core, const struct insn *i)
{
	if (x86_in_64bit(core))
		return i->flags & INSN_REX_W ? UINT64_MAX : UINT32_MAX;
	return x87_has_selectors(core) ? BIT(48) - 1 : UINT32_MAX;
}

/* The x87 part of the image: bytes 0 to 23, and the registers in 32 to 159. */
static void to_image(struct x86_core *core, const struct insn *i, struct x86_fxsave *m)
{
	const struct x86_fxsave *f = &core->cpu.xsave.legacy;

	m->fcw = f->fcw;
	m->fsw = f->fsw;
	m->ftw = f->ftw;
	m->reserved = 0;
	m->fop = f->fop & 0x7ff;
	m->fip = f->fip & pointer_bits(core, i);
	m->fdp = f->fdp & pointer_bits(core, i);
	for (unsigned n = 0; n < 8; n++) {
		memcpy(m->st[n], f->st[n], 10);
		memset(m->st[n] + 10, 0, 6);
	}
}

static void from_image(struct x86_core *core, const struct insn *i, const struct x86_fxsave *m)
{
	struct x86_fxsave *f = &core->cpu.xsave.legacy;

	f->fcw = m->fcw | 0x40;
	f->fsw = m->fsw;
	f->ftw = m->ftw;
	f->fop = m->fop & 0x7ff;
	f->fip = m->fip & pointer_bits(core, i);
	f->fdp = m->fdp & pointer_bits(core, i);
	for (unsigned n = 0; n < 8; n++) {
		memcpy(f->st[n], m->st[n], 10);
		memset(f->st[n] + 10, 0, 6);
	}
	/* The summary bit follows the exceptions that are pending and not masked. */
	bool pending = f->fsw & ~f->fcw & 0x3f;
	f->fsw = (uint16_t)(pending ? f->fsw | 0x8080 : f->fsw & ~0x8080);
}

static void x87_initial(struct x86_fxsave *f)
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

EXEC_FRAME(fxsave)
{
	const struct x86_fxsave *f = &core->cpu.xsave.legacy;
	gva_t at = area_address(core, i, LEGACY_SIZE, 16, ACCESS_WRITE);
	struct x86_fxsave m;

	to_image(core, i, &m);
	m.mxcsr = f->mxcsr;
	m.mxcsr_mask = MXCSR_VALID;
	memcpy(m.xmm, f->xmm, sizeof(m.xmm));
	x86_check_write(core, i, at, LEGACY_SIZE);
	x86_store_bytes(core, i, at, &m, XMM_OFFSET + 16 * xmm_count(core));
}

EXEC_FRAME(fxrstor)
{
	struct x86_fxsave *f = &core->cpu.xsave.legacy, m;
	gva_t at = area_address(core, i, LEGACY_SIZE, 16, ACCESS_READ);

	x86_load_bytes(core, i, at, &m, LEGACY_SIZE);
	if (m.mxcsr & ~MXCSR_VALID)
		x86_raise_error(core, i, VECTOR_GP, 0);
	from_image(core, i, &m);
	f->mxcsr = m.mxcsr;
	memcpy(f->xmm, m.xmm, 16 * xmm_count(core));
	x87_error_gone(core);
}

struct header {
	uint64_t xstate_bv, xcomp_bv, reserved[6];
};
#define XCOMP_COMPACTED BIT(63)

/* The requested features that are enabled. */
static uint64_t requested(const struct x86_core *core)
{
	const struct x86_cpu *cpu = &core->cpu;
	return cpu->xcr0 & ((uint32_t)cpu->gpr[RAX] | cpu->gpr[RDX] << 32);
}

static bool avx_in_use(const struct x86_core *core)
{
	static const uint8_t zeros[16 * 16];
	return memcmp(core->cpu.xsave.ymm_high, zeros, 16u * xmm_count(core)) != 0;
}

uint64_t x86_xinuse(const struct x86_core *core)
{
	return (x87_in_use(&core->cpu.xsave.legacy) ? XCR0_X87 : 0) | (sse_in_use(core) ? XCR0_SSE : 0) |
	       (avx_in_use(core) ? XCR0_AVX : 0);
}

static unsigned area_size(uint64_t components)
{
	return AREA_SIZE + (components & XCR0_AVX ? AVX_SIZE : 0);
}

enum save_kind { SAVE_ALL, SAVE_OPTIMISED, SAVE_COMPACTED };

/* What is not written keeps its old content: so the pieces are stored one by one, after a check that all can be. */
static void save(struct x86_core *core, const struct insn *i, enum save_kind kind)
{
	const struct x86_fxsave *f = &core->cpu.xsave.legacy;
	uint64_t rfbm = requested(core), used = x86_xinuse(core), write;
	struct x86_fxsave m;
	struct header h;

	check_available(core, i);
	gva_t at = area_address(core, i, area_size(rfbm), 64, ACCESS_WRITE);
	x86_check_write(core, i, at, area_size(rfbm));
	if (kind == SAVE_COMPACTED && f->mxcsr != MXCSR_INIT)
		used |= XCR0_SSE; /* there it is part of the component; else it is saved with either SSE or AVX */
	write = kind == SAVE_ALL ? rfbm : rfbm & used;
	bool mxcsr = kind == SAVE_COMPACTED ? write & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);

	if (kind == SAVE_COMPACTED) {
		h = (struct header){ .xstate_bv = write, .xcomp_bv = rfbm | XCOMP_COMPACTED };
	} else {
		h.xstate_bv = x86_load64(core, i, at + HEADER_OFFSET);
		h.xstate_bv = (h.xstate_bv & ~rfbm) | (rfbm & used);
	}
	if (write & XCR0_X87) {
		to_image(core, i, &m);
		x86_store_bytes(core, i, at, &m, MXCSR_OFFSET);
		x86_store_bytes(core, i, at + ST_OFFSET, m.st, sizeof(m.st));
	}
	if (mxcsr)
		x86_store64(core, i, at + MXCSR_OFFSET, f->mxcsr | (uint64_t)MXCSR_VALID << 32);
	if (write & XCR0_SSE)
		x86_store_bytes(core, i, at + XMM_OFFSET, f->xmm, 16 * xmm_count(core));
	if (write & XCR0_AVX)
		x86_store_bytes(core, i, at + AREA_SIZE, core->cpu.xsave.ymm_high, 16 * xmm_count(core));
	x86_store_bytes(core, i, at + HEADER_OFFSET, &h, kind == SAVE_COMPACTED ? 16 : 8);
}

EXEC(xsave)
{
	save(core, i, SAVE_ALL);
	X86_NEXT(core, i);
}

EXEC(xsaveopt)
{
	save(core, i, SAVE_OPTIMISED);
	X86_NEXT(core, i);
}

EXEC(xsavec)
{
	save(core, i, SAVE_COMPACTED);
	X86_NEXT(core, i);
}

EXEC(xsaves)
{
	check_available(core, i);
	PRIVILEGED(core, i);
	save(core, i, SAVE_COMPACTED);
	X86_NEXT(core, i);
}

static void check_header(struct x86_core *core, const struct insn *i, const struct header *h)
{
	bool compacted = h->xcomp_bv & XCOMP_COMPACTED, bad;

	if (compacted) {
		uint64_t layout = h->xcomp_bv & ~XCOMP_COMPACTED, rest = 0;
		for (unsigned n = 0; n < ARRAY_SIZE(h->reserved); n++)
			rest |= h->reserved[n];
		bad = !x86_has(core, FEATURE_XSAVEC) || (layout & ~core->cpu.xcr0) || (h->xstate_bv & ~layout) || rest;
	} else {
		bad = (h->xstate_bv & ~core->cpu.xcr0) || h->xcomp_bv || h->reserved[0];
	}
	if (bad)
		x86_raise_error(core, i, VECTOR_GP, 0);
}

static void restore(struct x86_core *core, const struct insn *i)
{
	struct x86_fxsave *f = &core->cpu.xsave.legacy;
	struct {
		struct x86_fxsave legacy;
		struct header header;
		uint8_t ymm_high[16][16];
	} m;
	const struct header *h = &m.header;
	uint64_t rfbm = requested(core);

	x86_load_bytes(core, i, area_address(core, i, AREA_SIZE, 64, ACCESS_READ), &m, AREA_SIZE);
	check_header(core, i, h);
	uint64_t load = rfbm & h->xstate_bv;
	bool compacted = h->xcomp_bv & XCOMP_COMPACTED;
	bool mxcsr = compacted ? load & XCR0_SSE : rfbm & (XCR0_SSE | XCR0_AVX);
	if (mxcsr && (m.legacy.mxcsr & ~MXCSR_VALID))
		x86_raise_error(core, i, VECTOR_GP, 0);
	memset(m.ymm_high, 0, sizeof(m.ymm_high));
	if (load & XCR0_AVX)
		x86_load_bytes(core, i, x86_address(core, i, AREA_SIZE + AVX_SIZE, ACCESS_READ) + AREA_SIZE, m.ymm_high,
			       16 * xmm_count(core));

	if (load & XCR0_X87)
		from_image(core, i, &m.legacy);
	else if (rfbm & XCR0_X87)
		x87_initial(f);
	if (mxcsr)
		f->mxcsr = m.legacy.mxcsr;
	else if (compacted && (rfbm & XCR0_SSE))
		f->mxcsr = MXCSR_INIT;
	if (load & XCR0_SSE)
		memcpy(f->xmm, m.legacy.xmm, 16 * xmm_count(core));
	else if (rfbm & XCR0_SSE)
		memset(f->xmm, 0, 16 * xmm_count(core));
	if (rfbm & XCR0_AVX)
		memcpy(core->cpu.xsave.ymm_high, m.ymm_high, 16 * xmm_count(core));
	x87_error_gone(core);
}

EXEC(xrstor)
{
	check_available(core, i);
	restore(core, i);
	X86_NEXT(core, i);
}

EXEC(xrstors)
{
	uint64_t xcomp_bv;

	check_available(core, i);
	PRIVILEGED(core, i);
	gva_t at = area_address(core, i, AREA_SIZE, 64, ACCESS_READ);
	xcomp_bv = x86_load64(core, i, at + HEADER_OFFSET + 8);
	if (!(xcomp_bv & XCOMP_COMPACTED))
		x86_raise_error(core, i, VECTOR_GP, 0);
	restore(core, i);
	X86_NEXT(core, i);
}

const struct x86_forms x86_fxsave = { .any = fxsave };
const struct x86_forms x86_fxrstor = { .any = fxrstor };
const struct x86_forms x86_xsave = { .any = xsave };
const struct x86_forms x86_xsaveopt = { .any = xsaveopt };
const struct x86_forms x86_xrstor = { .any = xrstor };
const struct x86_forms x86_xsavec = { .any = xsavec };
const struct x86_forms x86_xsaves = { .any = xsaves };
const struct x86_forms x86_xrstors = { .any = xrstors };
