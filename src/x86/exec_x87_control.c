/* SPDX-License-Identifier: MIT */
/* x87 control instructions: control, status and tag words, environments and whole states. SDM volume 1, 8.1.10, volume
 * 2 FNSTENV, FLDENV, FNSAVE, FRSTOR. Those with N in their name do not wait for pending exceptions. */
#include <string.h>
#include "x86/exec_system.h"
#include "x86/x87.h"

EXEC(fwait_none)
{
	x87_wait(core, i);
	X86_NEXT(core, i);
}
EXEC(nop_none) /* FENI, FDISI, FSETPM: of the 8087 and 80287 only */
{
	X86_NEXT(core, i);
}
EXEC(fnop_none)
{
	x87_wait(core, i);
	x87_note(core, i);
	X86_NEXT(core, i);
}
EXEC(fninit_none)
{
	x87_init(&core->cpu.xsave.legacy);
	x87_error_gone(core);
	X86_NEXT(core, i);
}
EXEC(fnclex_none)
{
	core->cpu.xsave.legacy.fsw &= (uint16_t)~(FSW_EXCEPTIONS | FSW_SF | FSW_ES | FSW_B);
	x87_error_gone(core);
	X86_NEXT(core, i);
}
EXEC(fldcw_m)
{
	x87_wait(core, i);
	x87_set_control(&core->cpu.xsave.legacy, x86_load16(core, i, x86_address(core, i, 2, ACCESS_READ)));
	if (unlikely(!(core->cpu.cr0 & CR0_NE)))
		x87_error_gone(core);
	X86_NEXT(core, i);
}
EXEC(fnstcw_m)
{
	x86_store16(core, i, x86_address(core, i, 2, ACCESS_WRITE), core->cpu.xsave.legacy.fcw);
	X86_NEXT(core, i);
}
EXEC(fnstsw_r)
{
	*reg16(core, RAX) = core->cpu.xsave.legacy.fsw;
	X86_NEXT(core, i);
}
EXEC(fnstsw_m)
{
	x86_store16(core, i, x86_address(core, i, 2, ACCESS_WRITE), core->cpu.xsave.legacy.fsw);
	X86_NEXT(core, i);
}
const struct x86_forms x86_fwait = { .any = fwait_none };
const struct x86_forms x86_x87_nop = { .any = nop_none };
const struct x86_forms x86_fnop = { .any = fnop_none };
const struct x86_forms x86_fninit = { .any = fninit_none };
const struct x86_forms x86_fnclex = { .any = fnclex_none };
const struct x86_forms x86_fldcw = { .any = fldcw_m };
const struct x86_forms x86_fnstcw = { .any = fnstcw_m };
const struct x86_forms x86_fnstsw = { .any = fnstsw_m, .by = { [FORM_R] = { [1] = fnstsw_r } } };

/* The environment has four formats: 14 bytes for 16-bit and 28 bytes for 32-bit operand size, with selectors in
 * protected mode and with linear addresses in real and virtual-8086 mode, SDM volume 1, figures 8-9 to 8-12. */
#define ENVIRONMENT16 14
#define ENVIRONMENT32 28
#define REGISTERS 80
#define FOP_BITS 0x7ffu

struct environment {
	uint16_t fcw, fsw, tags, fop, fcs, fds;
	uint32_t fip, fdp;
};

static void put(const struct environment *e, bool selectors, uint8_t *bytes, unsigned size)
{
	if (size == ENVIRONMENT16) {
		any16 *w = (any16 *)bytes;
		w[0] = e->fcw, w[1] = e->fsw, w[2] = e->tags;
		w[3] = (uint16_t)e->fip;
		w[4] = selectors ? e->fcs : (uint16_t)((e->fip >> 16 & 0xf) << 12 | e->fop);
		w[5] = (uint16_t)e->fdp;
		w[6] = selectors ? e->fds : (uint16_t)((e->fdp >> 16 & 0xf) << 12);
		return;
	}
	any32 *d = (any32 *)bytes;
	uint32_t reserved = 0xffff0000;
	d[0] = reserved | e->fcw, d[1] = reserved | e->fsw, d[2] = reserved | e->tags;
	if (selectors) {
		d[3] = e->fip, d[4] = e->fcs | (uint32_t)e->fop << 16;
		d[5] = e->fdp, d[6] = reserved | e->fds;
	} else {
		d[3] = reserved | (uint16_t)e->fip, d[4] = e->fip >> 16 << 12 | e->fop;
		d[5] = reserved | (uint16_t)e->fdp, d[6] = e->fdp >> 16 << 12;
	}
}

static void get(struct environment *e, bool selectors, const uint8_t *bytes, unsigned size)
{
	unsigned step = size / 7;
	uint32_t f[7];
	for (unsigned k = 0; k < 7; k++)
		f[k] = step == 2 ? *(const any16 *)(bytes + 2 * k) : *(const any32 *)(bytes + 4 * k);
	*e = (struct environment){ .fcw = (uint16_t)f[0], .fsw = (uint16_t)f[1], .tags = (uint16_t)f[2] };
	if (selectors) {
		e->fip = f[3], e->fcs = (uint16_t)f[4], e->fop = f[4] >> 16 & FOP_BITS; /* 16-bit: there is no FOP */
		e->fdp = f[5], e->fds = (uint16_t)f[6];
	} else {
		e->fip = (f[4] & 0x0ffff000) << 4 | (uint16_t)f[3], e->fop = f[4] & FOP_BITS;
		e->fdp = (f[6] & 0x0ffff000) << 4 | (uint16_t)f[5];
	}
}

static void environment_store(struct x86_core *core, uint8_t *bytes, unsigned size)
{
	const struct x86_fxsave *x = &core->cpu.xsave.legacy;
	bool selectors = core->mode & MODE_PROTECTED;
	struct environment e = {
		.fcw = x->fcw, .fsw = x->fsw, .tags = x87_tags(x), .fop = x->fop & FOP_BITS, .fip = (uint32_t)x->fip, .fdp = (uint32_t)x->fdp,
	};
	if ((core->mode & MODE_CODE) != MODE_CODE64 && x87_keeps_selectors(core))
		e.fcs = (uint16_t)(x->fip >> 32), e.fds = (uint16_t)(x->fdp >> 32);
	if (!selectors) {
		e.fip += (uint32_t)e.fcs << 4;
		e.fdp += (uint32_t)e.fds << 4;
	}
	put(&e, selectors, bytes, size);
}

static void environment_load(struct x86_core *core, const uint8_t *bytes, unsigned size)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	struct environment e;
	get(&e, core->mode & MODE_PROTECTED, bytes, size);
	if (!x87_keeps_selectors(core))
		e.fcs = e.fds = 0;
	x->fsw = e.fsw;
	x->ftw = x87_abridged(e.tags);
	x->fop = e.fop;
	x->fip = e.fip | (uint64_t)e.fcs << 32;
	x->fdp = e.fdp | (uint64_t)e.fds << 32;
	x87_set_control(x, e.fcw);
}

static __attribute__((noinline)) void save(struct x86_core *core, const struct insn *i, unsigned environment,
					   unsigned size)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	uint8_t bytes[ENVIRONMENT32 + REGISTERS];
	environment_store(core, bytes, environment);
	for (unsigned k = 0; k < 8; k++)
		memcpy(bytes + environment + 10 * k, x->st[k], 10);
	x86_store_bytes(core, i, x86_address(core, i, size, ACCESS_WRITE), bytes, size);
}

static __attribute__((noinline)) void restore(struct x86_core *core, const struct insn *i, unsigned environment,
					      unsigned size)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	uint8_t bytes[ENVIRONMENT32 + REGISTERS];
	x86_load_bytes(core, i, x86_address(core, i, size, ACCESS_READ), bytes, size);
	unsigned old_top = x87_top(x);
	environment_load(core, bytes, environment);
	if (size == environment) { /* the physical registers stay: st[] is relative to TOP */
		unsigned top = x87_top(x);
		x->fsw = (uint16_t)((x->fsw & ~FSW_TOP) | old_top << FSW_TOP_SHIFT);
		x87_set_top(x, top);
		return;
	}
	for (unsigned k = 0; k < 8; k++)
		memcpy(x->st[k], bytes + environment + 10 * k, 10);
}

static inline unsigned environment_size(const struct insn *i)
{
	return i->osize == 2 ? ENVIRONMENT16 : ENVIRONMENT32;
}
EXEC(fnstenv_m)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;
	save(core, i, environment_size(i), environment_size(i));
	x87_set_control(x, x->fcw | FSW_EXCEPTIONS);
	X86_NEXT(core, i);
}
EXEC(fnsave_m)
{
	save(core, i, environment_size(i), environment_size(i) + REGISTERS);
	x87_init(&core->cpu.xsave.legacy);
	x87_error_gone(core);
	X86_NEXT(core, i);
}
EXEC(fldenv_m)
{
	x87_wait(core, i);
	restore(core, i, environment_size(i), environment_size(i));
	x87_error_gone(core);
	X86_NEXT(core, i);
}
EXEC(frstor_m)
{
	x87_wait(core, i);
	restore(core, i, environment_size(i), environment_size(i) + REGISTERS);
	x87_error_gone(core);
	X86_NEXT(core, i);
}
const struct x86_forms x86_fnstenv = { .any = fnstenv_m };
const struct x86_forms x86_fnsave = { .any = fnsave_m };
const struct x86_forms x86_fldenv = { .any = fldenv_m };
const struct x86_forms x86_frstor = { .any = frstor_m };
