/* SPDX-License-Identifier: MIT */
/* XSAVE, XSAVEOPT, XSAVEC, XSAVES, XRSTOR, XRSTORS, XGETBV and XSETBV with the components x87, SSE and AVX, against SDM volume 1, 13.7 to
 * 13.13, and volume 2. */
#include "flat.h"
#include "test.h"

#define AREA 0x50000u
#define AT 0x40000u
#define XSTATE_BV (AREA + 512)
#define XCOMP_BV (AREA + 520)
#define YMM (AREA + 576)
#define COMPACTED BIT(63)
#define ALL (XCR0_X87 | XCR0_SSE | XCR0_AVX)

static struct flat *f;
static struct x86_cpu *cpu;

/* 0F opcode /reg with the area as its memory operand, by RDI, and the mask in EDX:EAX. */
static int run(uint8_t opcode, unsigned reg, uint64_t mask)
{
	uint8_t bytes[] = { 0x48, 0x0f, opcode, (uint8_t)(0x07 | reg << 3) };
	cpu->gpr[RDI] = AREA;
	cpu->gpr[RAX] = (uint32_t)mask;
	cpu->gpr[RDX] = mask >> 32;
	return flat_run(f, AT, bytes, sizeof(bytes));
}
#define XSAVE(mask) run(0xae, 4, mask)
#define XRSTOR(mask) run(0xae, 5, mask)
#define XSAVEOPT(mask) run(0xae, 6, mask)
#define XRSTORS(mask) run(0xc7, 3, mask)
#define XSAVEC(mask) run(0xc7, 4, mask)
#define XSAVES(mask) run(0xc7, 5, mask)

static void fill(uint8_t with)
{
	for (unsigned n = 0; n < 832; n += 8)
		flat_put(AREA + n, 8, with * 0x0101010101010101ULL);
}

static void registers(uint8_t with)
{
	memset(cpu->xsave.legacy.xmm, with, sizeof(cpu->xsave.legacy.xmm));
	memset(cpu->xsave.ymm_high, with + 1, sizeof(cpu->xsave.ymm_high));
}

static void header(uint64_t bv, uint64_t comp)
{
	for (unsigned n = 0; n < 64; n += 8)
		flat_put(XSTATE_BV + n, 8, 0);
	flat_put(XSTATE_BV, 8, bv);
	flat_put(XCOMP_BV, 8, comp);
}

static void check_save(void)
{
	fill(0xaa);
	header(BIT(5), 0);
	registers(0x11);
	cpu->xsave.legacy.fcw = 0x37f;
	ok(XSAVE(ALL) == -1 && flat_get(YMM, 8) == 0x1212121212121212, "XSAVE writes the upper halves behind the header");
	ok(flat_get(XSTATE_BV, 8) == (BIT(5) | ALL) || flat_get(XSTATE_BV, 8) == (BIT(5) | XCR0_SSE | XCR0_AVX),
	   "and changes the requested bits of XSTATE_BV only");
	ok(flat_get(AREA + 416, 8) == 0xaaaaaaaaaaaaaaaa, "bytes 416 to 511 are software's");
	fill(0xaa);
	header(0, 0);
	ok(XSAVE(XCR0_AVX) == -1 && flat_get(AREA + 160, 8) == 0xaaaaaaaaaaaaaaaa && flat_get(AREA + 24, 4) == 0x1f80,
	   "AVX alone brings MXCSR, but no XMM");
	registers(0);
	memset(cpu->xsave.ymm_high, 0, sizeof(cpu->xsave.ymm_high));
	fill(0xaa);
	header(ALL, 0);
	ok(XSAVEOPT(XCR0_SSE | XCR0_AVX) == -1 && flat_get(YMM, 8) == 0xaaaaaaaaaaaaaaaa && flat_get(XSTATE_BV, 8) == XCR0_X87,
	   "XSAVEOPT leaves out what is in its initial state");
	ok(XSAVE(XCR0_AVX) == -1 && flat_get(YMM, 8) == 0, "XSAVE writes it");
}

static void check_compacted(void)
{
	fill(0xaa);
	registers(0x21);
	ok(XSAVEC(XCR0_SSE | XCR0_AVX) == -1 && flat_get(XSTATE_BV, 8) == (XCR0_SSE | XCR0_AVX) &&
		   flat_get(XCOMP_BV, 8) == (COMPACTED | XCR0_SSE | XCR0_AVX) && flat_get(YMM, 8) == 0x2222222222222222,
	   "XSAVEC writes both words of the header");
	ok(flat_get(XCOMP_BV + 8, 8) == 0xaaaaaaaaaaaaaaaa && flat_get(AREA, 8) == 0xaaaaaaaaaaaaaaaa, "and nothing that was not asked for");
	memset(cpu->xsave.legacy.xmm, 0, sizeof(cpu->xsave.legacy.xmm));
	memset(cpu->xsave.ymm_high, 0, sizeof(cpu->xsave.ymm_high));
	cpu->xsave.legacy.mxcsr = 0x1fa0;
	ok(XSAVEC(XCR0_SSE | XCR0_AVX) == -1 && flat_get(XSTATE_BV, 8) == XCR0_SSE && flat_get(AREA + 24, 4) == 0x1fa0,
	   "an MXCSR that is not the initial one makes SSE count as in use");
	header(0, COMPACTED | ALL);
	registers(0x31);
	ok(XRSTOR(XCR0_SSE | XCR0_AVX) == -1 && cpu->xsave.legacy.mxcsr == 0x1f80 && !cpu->xsave.ymm_high[15][15] &&
		   !cpu->xsave.legacy.xmm[3][3],
	   "XRSTOR of the compacted format initialises, MXCSR too");
	ok(XSAVES(ALL) == -1 && flat_get(XCOMP_BV, 8) == (COMPACTED | ALL) && XRSTORS(ALL) == -1, "XSAVES, XRSTORS");
	header(0, 0);
	ok(XRSTORS(ALL) == VECTOR_GP, "XRSTORS of the standard format is #GP");
	flat_mode(f, FLAT_LONG, 3);
	cpu->cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
	cpu->xcr0 = ALL;
	x86_core_loaded(&f->core);
	ok(XSAVES(ALL) == VECTOR_GP && XRSTORS(ALL) == VECTOR_GP, "both are privileged");
}

static void check_restore(void)
{
	fill(0x44);
	header(XCR0_AVX, 0);
	flat_put(AREA + 24, 4, 0x1f00);
	registers(0x51);
	ok(XRSTOR(XCR0_SSE | XCR0_AVX) == -1 && cpu->xsave.ymm_high[7][0] == 0x44 && !cpu->xsave.legacy.xmm[7][0] &&
		   cpu->xsave.legacy.mxcsr == 0x1f00,
	   "XRSTOR loads AVX, initialises SSE, and loads MXCSR for either");
	registers(0x51);
	ok(XRSTOR(XCR0_X87) == -1 && cpu->xsave.ymm_high[7][0] == 0x52 && cpu->xsave.legacy.xmm[7][0] == 0x51, "what was not asked for stays");
	flat_put(AREA + 24, 4, 0x1001f80);
	ok(XRSTOR(XCR0_AVX) == VECTOR_GP, "a reserved bit of MXCSR is #GP with AVX alone");
	ok(XRSTOR(XCR0_X87) == -1, "and does not matter when it is not loaded");
	flat_put(AREA + 24, 4, 0x1f80);
	header(BIT(3), 0);
	ok(XRSTOR(ALL) == VECTOR_GP, "a component that XCR0 lacks is #GP");
	header(0, BIT(1));
	ok(XRSTOR(ALL) == VECTOR_GP, "XCOMP_BV without bit 63 is #GP");
	header(XCR0_AVX, COMPACTED | XCR0_SSE);
	ok(XRSTOR(ALL) == VECTOR_GP, "XSTATE_BV beyond XCOMP_BV is #GP");
	header(0, COMPACTED | BIT(9));
	ok(XRSTOR(ALL) == VECTOR_GP, "XCOMP_BV beyond XCR0 is #GP");
	header(XCR0_SSE, COMPACTED | XCR0_SSE);
	flat_put(XSTATE_BV + 56, 8, 1);
	ok(XRSTOR(ALL) == VECTOR_GP, "a reserved byte of the compacted header is #GP");
}

static int xgetbv(uint32_t index)
{
	cpu->gpr[RCX] = index;
	return flat_run(f, AT, "\x0f\x01\xd0", 3);
}

static int xsetbv(uint64_t value)
{
	cpu->gpr[RCX] = 0;
	cpu->gpr[RAX] = (uint32_t)value;
	cpu->gpr[RDX] = value >> 32;
	return flat_run(f, AT, "\x0f\x01\xd1", 3);
}

static void check_xcr0(void)
{
	ok(xsetbv(XCR0_X87 | XCR0_AVX) == VECTOR_GP, "AVX without SSE cannot be enabled");
	ok(xsetbv(XCR0_SSE) == VECTOR_GP && xsetbv(ALL | BIT(9)) == VECTOR_GP, "nor anything without x87, nor what there is not");
	ok(xsetbv(ALL) == -1 && !(f->core.mode & MODE_AVX_UD), "all three can, and then AVX runs");
	ok(x86_cpuid(&f->core, 0xd, 0).ebx == 832 && x86_cpuid(&f->core, 0xd, 2).ebx == 576, "CPUID leaf 0Dh knows them");
	ok(xsetbv(XCR0_X87 | XCR0_SSE) == -1 && (f->core.mode & MODE_AVX_UD), "without AVX in XCR0 it does not");
	ok(x86_cpuid(&f->core, 0xd, 0).ebx == 576 && x86_cpuid(&f->core, 0xd, 0).ecx == 832, "and the area is smaller");
	xsetbv(ALL);
	registers(0);
	memset(cpu->xsave.ymm_high, 0, sizeof(cpu->xsave.ymm_high));
	ok(xgetbv(1) == -1 && !(cpu->gpr[RAX] & (XCR0_SSE | XCR0_AVX)), "XGETBV(1): what is in use");
	cpu->xsave.ymm_high[9][0] = 1;
	ok(xgetbv(1) == -1 && (cpu->gpr[RAX] & XCR0_AVX) && xgetbv(2) == VECTOR_GP, "AVX is, and there is no XGETBV(2)");
}

int main(void)
{
	f = flat_new("max");
	cpu = &f->core.cpu;
	if (!(f->core.model->xcr0 & XCR0_AVX)) {
		skip("XSAVE with AVX: this host has no AVX");
		return done();
	}
	flat_mode(f, FLAT_LONG, 0);
	cpu->cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
	cpu->xcr0 = ALL;
	x86_core_loaded(&f->core);
	check_save();
	check_restore();
	check_xcr0();
	check_compacted();
	return done();
}
