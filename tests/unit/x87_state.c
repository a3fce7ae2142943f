/* SPDX-License-Identifier: MIT */
/* What sse_host.c and x87_host.c cannot compare with the host: environments in all four formats, FIP, FDP and FOP,
 * where exceptions go, and the turn from x87 to MMX registers. SDM volume 1, 8.1.8 to 8.1.10, 8.7, 9.5, 11.5. */
#include "flat.h"
#include "test.h"

#define CODE 0x5000
#define DATA 0x6000 /* RDI points there */
#define RUN(f, bytes) flat_run(f, CODE, bytes, sizeof(bytes) - 1)

static struct flat *fresh(const char *model, enum flat_mode mode)
{
	struct flat *f = flat_new(model);
	flat_mode(f, mode, 0);
	f->core.cpu.cr0 |= CR0_NE | CR0_MP;
	f->core.cpu.cr0 &= ~(CR0_EM | CR0_TS);
	f->core.cpu.cr4 |= CR4_OSFXSR | CR4_OSXMMEXCPT;
	x86_mode_update(&f->core);
	f->core.cpu.gpr[RDI] = DATA;
	f->core.cpu.xsave.legacy.mxcsr = 0x1f80;
	ok(RUN(f, "\xdb\xe3") == -1, "fninit");
	return f;
}

/* After FLD1; FADD m64 at DATA: FOP is that of DC /0 with [di] or [edi]. */
static struct flat *after_fadd(const char *model, enum flat_mode mode)
{
	struct flat *f = fresh(model, mode);
	bool wide = mode != FLAT_REAL && mode != FLAT_PROTECTED16;
	flat_put(DATA, 8, 0x4000000000000000); /* 2.0 */
	ok(RUN(f, "\xd9\xe8") == -1, "fld1");
	ok((wide ? RUN(f, "\xdc\x07") : RUN(f, "\xdc\x05")) == -1, "fadd m64");
	return f;
}

static void environments(void) /* FCS and FDS are as of old where CPUID.7:EBX[13] is clear */
{
	struct flat *f = after_fadd("v1", FLAT_PROTECTED32);
	uint64_t cs = f->core.cpu.seg[SEG_CS].selector;

	f->core.cpu.gpr[RDI] = DATA + 0x100;
	ok(RUN(f, "\xd9\x37") == -1, "fnstenv, 32-bit protected");
	ok(flat_get(DATA + 0x100, 4) == 0xffff037f && flat_get(DATA + 0x104, 4) == 0xffff3800, "fcw, fsw");
	ok(flat_get(DATA + 0x108, 4) == 0xffff3fff, "tags: register 7 is valid");
	ok(flat_get(DATA + 0x10c, 4) == CODE && flat_get(DATA + 0x110, 2) == cs, "fip, fcs");
	ok(flat_get(DATA + 0x112, 2) == 0x407 && flat_get(DATA + 0x114, 4) == DATA, "fop, fdp");
	ok(f->core.cpu.xsave.legacy.fcw == 0x37f, "exceptions are masked");
	flat_put(DATA + 0x100, 2, 0x027f);
	ok(RUN(f, "\xd9\x27") == -1 && f->core.cpu.xsave.legacy.fcw == 0x27f, "fldenv loads it again");
	ok((uint32_t)f->core.cpu.xsave.legacy.fip == CODE && f->core.cpu.xsave.legacy.ftw == 0x80, "with fip and tags");
	f->core.cpu.seg[SEG_ES].selector = FLAT_DATA3;
	f->core.cpu.gpr[RDI] = DATA;
	ok(RUN(f, "\x26\xdc\x07") == -1 && f->core.cpu.xsave.legacy.fdp == (DATA | (uint64_t)FLAT_DATA3 << 32), "fds is the selector of ES, if that is named");
	f->core.cpu.gpr[RDI] = DATA + 0x100;

	ok(RUN(f, "\x66\xd9\x37") == -1, "fnstenv, 16-bit protected");
	ok(flat_get(DATA + 0x106, 2) == CODE && flat_get(DATA + 0x108, 2) == cs && flat_get(DATA + 0x10a, 2) == DATA, "fip, fcs, fdp");
	f->core.cpu.gpr[RDI] = DATA + 0x100;
	ok(RUN(f, "\x0f\xae\x07") == -1 && flat_get(DATA + 0x108, 6) == (CODE | cs << 32) && flat_get(DATA + 0x110, 6) == (DATA | (uint64_t)FLAT_DATA3 << 32), "fxsave has them, too");
	memset(flat_ram + DATA + 0x100, 0, 28);
	ok(RUN(f, "\xd9\x27") == -1 && !f->core.cpu.xsave.legacy.fip && !f->core.cpu.xsave.legacy.fdp, "fldenv of zeros");
	flat_put(DATA + 0x10c, 8, CODE | 0x1234ULL << 32), flat_put(DATA + 0x114, 8, DATA | 0x5678ULL << 32);
	ok(RUN(f, "\xd9\x27") == -1 && RUN(f, "\xd9\x37") == -1 && flat_get(DATA + 0x110, 2) == 0x1234 && flat_get(DATA + 0x118, 2) == 0x5678, "fldenv, fnstenv: the same");
}

static void no_selectors(void)
{
	struct flat *f = after_fadd("max", FLAT_PROTECTED32);

	ok(f->core.cpu.xsave.legacy.fip == CODE && f->core.cpu.xsave.legacy.fdp == DATA, "where CPUID.7:EBX[13] is set, no selectors are kept");
	f->core.cpu.gpr[RDI] = DATA + 0x100;
	ok(RUN(f, "\x0f\xae\x07") == -1 && flat_get(DATA + 0x108, 8) == CODE && flat_get(DATA + 0x110, 8) == DATA, "fxsave");
	ok(RUN(f, "\xd9\x37") == -1 && flat_get(DATA + 0x10c, 8) == (CODE | 0x407ULL << 48) && flat_get(DATA + 0x114, 8) == (DATA | 0xffffULL << 48), "fnstenv");
	flat_put(DATA + 0x110, 2, 0x1234), flat_put(DATA + 0x118, 2, 0x5678);
	ok(RUN(f, "\xd9\x27") == -1 && f->core.cpu.xsave.legacy.fip == CODE && f->core.cpu.xsave.legacy.fdp == DATA, "fldenv");
	ok(RUN(f, "\x66\xd9\x37") == -1 && !flat_get(DATA + 0x108, 2) && !flat_get(DATA + 0x10c, 2), "fnstenv, 16-bit");
	f->core.cpu.xsave.legacy.fip = CODE | 0x1234ULL << 32; /* of real mode */
	ok(RUN(f, "\xd9\x37") == -1 && !flat_get(DATA + 0x110, 2) && RUN(f, "\x0f\xae\x07") == -1 && flat_get(DATA + 0x108, 8) == CODE, "nor those of real mode told of");
}

/* Linear addresses, which the selector is part of in any case. */
static void real_mode(const char *model)
{
	struct flat *f = after_fadd(model, FLAT_REAL);

	f->core.cpu.seg[SEG_ES].selector = 0x30;
	ok(RUN(f, "\x26\xdc\x05") == -1 && f->core.cpu.xsave.legacy.fdp == (DATA | 0x30ULL << 32), "real mode keeps them");
	f->core.cpu.xsave.legacy.fip = 0x5000 | 0x1234ULL << 32; /* as if CS had been 0x1234: linear 17340 */
	f->core.cpu.gpr[RDI] = DATA + 0x100;
	ok(RUN(f, "\xd9\x35") == -1, "fnstenv, 16-bit real");
	ok(flat_get(DATA + 0x106, 2) == 0x7340 && flat_get(DATA + 0x108, 2) == 0x1405, "fip 15:0; fip 19:16 and fop");
	ok(RUN(f, "\xd9\x25") == -1 && f->core.cpu.xsave.legacy.fip == 0x17340 && f->core.cpu.xsave.legacy.fop == 0x405, "fldenv");
	ok(RUN(f, "\x66\xd9\x35") == -1, "fnstenv, 32-bit real");
	ok(flat_get(DATA + 0x10c, 2) == 0x7340 && flat_get(DATA + 0x110, 4) == 0x1405, "fip 15:0; fip 31:16 and fop");
	ok(RUN(f, "\x66\xdd\x35") == -1 && flat_get(DATA + 0x100 + 28 + 8, 2) == 0x4001, "fnsave: st0 is 5.0");
	ok(f->core.cpu.xsave.legacy.ftw == 0 && f->core.cpu.xsave.legacy.fcw == 0x37f, "and fninit");
	ok(RUN(f, "\x66\xdd\x25") == -1 && f->core.cpu.xsave.legacy.ftw == 0x80, "frstor");
}

static void exceptions(void)
{
	struct flat *f = fresh("max", FLAT_LONG);
	struct x86_fxsave *x = &f->core.cpu.xsave.legacy;

	flat_put(DATA, 2, 0x37b); /* ZM clear */
	ok(RUN(f, "\xd9\x2f") == -1 && RUN(f, "\xd9\xe8") == -1 && RUN(f, "\xd9\xee") == -1, "fldcw, fld1, fldz");
	ok(RUN(f, "\xd8\xf9") == -1, "1/0 does not fault yet");
	ok((x->fsw & 0x8084) == 0x8084, "but is pending");
	ok(RUN(f, "\xdf\xe0") == -1 && (uint16_t)f->core.cpu.gpr[RAX] == x->fsw, "fnstsw does not wait");
	ok(RUN(f, "\xd9\xe8") == VECTOR_MF && RUN(f, "\x9b") == VECTOR_MF && RUN(f, "\x0f\xfc\xc1") == VECTOR_MF, "fld1, fwait, paddb do");
	ok(RUN(f, "\xdb\xe2") == -1 && RUN(f, "\x9b") == -1, "fnclex ends it");

	ok(RUN(f, "\xdb\xe3") == -1 && RUN(f, "\xd9\xe8") == -1, "st0 is in register 7");
	ok(RUN(f, "\x0f\x6f\xc7") == -1, "movq mm0, mm7");
	ok(x->fsw == 0 && x->ftw == 0xff, "top 0, all valid");
	ok(*(uint64_t *)x->st[0] == BIT(63) && *(uint64_t *)x->st[7] == BIT(63), "mm7 was st0");
	ok(x->st[0][9] == 0xff && x->st[7][9] == 0x3f, "only what was written has exponent ones");
	ok(RUN(f, "\x0f\x77") == -1 && x->ftw == 0, "emms");

	x->mxcsr = 0x1f80 & ~0x200u; /* ZM clear */
	memset(x->xmm, 0, 32);
	x->xmm[0][3] = 0x3f;
	ok(RUN(f, "\x0f\x5e\xc1") == VECTOR_XM && x->mxcsr == (0x1d80 | 5) && x->xmm[0][3] == 0x3f, "divps: #XM, flags set, register kept");
	f->core.cpu.cr4 &= ~CR4_OSXMMEXCPT;
	ok(RUN(f, "\x0f\x5e\xc1") == VECTOR_UD, "#UD without CR4.OSXMMEXCPT");
	f->core.cpu.gpr[RDI] = DATA + 8;
	ok(RUN(f, "\x0f\x28\x07") == VECTOR_GP && RUN(f, "\x0f\x10\x07") == -1, "movaps wants alignment, movups does not");
	flat_put(DATA + 8, 4, 0x10000);
	ok(RUN(f, "\x0f\xae\x17") == VECTOR_GP, "ldmxcsr: reserved bits");
}

int main(void)
{
	environments();
	no_selectors();
	real_mode("v1");
	real_mode("max");
	exceptions();
	return done();
}
