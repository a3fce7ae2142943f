/* SPDX-License-Identifier: MIT */
/* x87 state and the host's FPU. See x87.h; SDM volume 1, 8.1, volume 2 FNSAVE, FNSTENV.
 *
 * Every x87 instruction can be run exactly, also with unmasked exceptions, stack faults and odd operands: FRSTOR gives
 * the host's FPU the guest's state, the instruction itself runs, FNSAVE takes the state back. x87 exceptions are
 * deferred: one that is unmasked does the unmasked response and sets FSW.ES, and only the next waiting instruction
 * would raise #MF; FNSAVE does not wait, so the host never faults. The host's instruction is one of 512 register forms
 * and 64 memory forms: a stub each. */
#include <string.h>
#include "x86/exec_system.h"
#include "x86/x87.h"

void x87_set_top(struct x86_fxsave *x, unsigned top)
{
	uint8_t old[8][16];
	unsigned moved = top - x87_top(x);
	memcpy(old, x->st, sizeof(old));
	for (unsigned k = 0; k < 8; k++)
		memcpy(x->st[k], old[(k + moved) & 7], 16);
	x->fsw = (uint16_t)((x->fsw & ~FSW_TOP) | top << FSW_TOP_SHIFT);
}

/* With CR0.NE clear a PC reports the error by the FERR# pin, which comes back as IRQ 13. Until an interrupt comes the processor
 * stands still before the instruction. SDM volume 1, 8.7.2 and appendix D. */
void x87_pending(struct x86_core *core, const struct insn *i)
{
	if ((core->cpu.cr0 & CR0_NE) || !core->env->fpu_error)
		x86_raise(core, i, VECTOR_MF);
	if (core->env->fpu_error(core, true))
		return;
	core->cpu.activity = X86_HALTED;
	x86_restart(core, i);
}

void x87_error_gone(struct x86_core *core)
{
	const struct x86_fxsave *x = &core->cpu.xsave.legacy;

	if (!(core->cpu.cr0 & CR0_NE) && core->env->fpu_error && !(x->fsw & ~x->fcw & FSW_EXCEPTIONS))
		core->env->fpu_error(core, false);
}

void x87_set_control(struct x86_fxsave *x, uint16_t fcw)
{
	x->fcw = (uint16_t)((fcw & FCW_WRITABLE) | FCW_FIXED);
	x->fsw &= (uint16_t)~(FSW_ES | FSW_B);
	if (x->fsw & ~x->fcw & FSW_EXCEPTIONS)
		x->fsw |= FSW_ES | FSW_B;
}

void x87_init(struct x86_fxsave *x)
{
	x87_set_top(x, 0);
	x->fcw = FCW_INIT;
	x->fsw = 0;
	x->ftw = 0;
	x->fop = 0;
	x->fip = x->fdp = 0;
}

enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

uint16_t x87_tags(const struct x86_fxsave *x)
{
	uint16_t tags = 0;
	for (unsigned k = 0; k < 8; k++) {
		const uint8_t *st = x->st[(k - x87_top(x)) & 7];
		uint64_t significand = *(const any64 *)st;
		unsigned exponent = *(const any16 *)(st + 8) & 0x7fff, tag = TAG_VALID;
		if (!(x->ftw >> k & 1))
			tag = TAG_EMPTY;
		else if (!exponent && !significand)
			tag = TAG_ZERO;
		else if (exponent == 0 || exponent == 0x7fff || !(significand >> 63))
			tag = TAG_SPECIAL;
		tags |= (uint16_t)(tag << 2 * k);
	}
	return tags;
}

uint8_t x87_abridged(uint16_t tags)
{
	uint8_t ftw = 0;
	for (unsigned k = 0; k < 8; k++)
		ftw |= (uint8_t)(((tags >> 2 * k & 3) != TAG_EMPTY) << k);
	return ftw;
}

/* --- the host's FPU --- */

static unsigned waiting(const struct x86_fxsave *x)
{
	return x->fsw & ~x->fcw & FSW_EXCEPTIONS;
}

void x87_to_image(struct x87_image *image, const struct x86_fxsave *x)
{
	/* An exception that waits is one that IGNNE# has ignored: the host, which has no such pin, must not see it. */
	*image = (struct x87_image){ .fcw = x->fcw, .fsw = (uint16_t)(x->fsw & ~(waiting(x) | FSW_ES | FSW_B)) };
	for (unsigned k = 0; k < 8; k++) {
		image->tags |= (x->ftw >> k & 1 ? TAG_VALID : TAG_EMPTY) << 2 * k; /* FRSTOR looks for empty only */
		memcpy(image->st[k], x->st[k], 10);
	}
}

void x87_from_image(struct x86_fxsave *x, const struct x87_image *image)
{
	unsigned waits = waiting(x);
	x->fsw = (uint16_t)(image->fsw | waits | (waits ? FSW_ES | FSW_B : 0));
	x->ftw = x87_abridged((uint16_t)image->tags);
	for (unsigned k = 0; k < 8; k++)
		memcpy(x->st[k], image->st[k], 10);
}

asm(".pushsection .text\n"
    ".balign 64\n"
    "x87_register_stubs:\n" /* 4 bytes each */
    ".set n, 0\n"
    ".rept 512\n"
    ".byte 0xd8 + n / 64, 0xc0 + n % 64\n"
    "ret\n"
    "nop\n"
    ".set n, n + 1\n"
    ".endr\n"
    "x87_memory_stubs:\n" /* the operand is at (%rdi) */
    ".set n, 0\n"
    ".rept 64\n"
    ".byte 0xd8 + n / 8, n % 8 * 8 + 7\n"
    "ret\n"
    "nop\n"
    ".set n, n + 1\n"
    ".endr\n"
    ".popsection");
extern const char x87_register_stubs[] __attribute__((visibility("hidden")));
extern const char x87_memory_stubs[] __attribute__((visibility("hidden")));

const char *x87_stub(uint8_t opcode, uint8_t modrm, bool memory)
{
	unsigned row = opcode & 7;
	return memory ? x87_memory_stubs + 4 * (row * 8 + (modrm >> 3 & 7))
		      : x87_register_stubs + 4 * (row * 64 + (modrm & 0x3f));
}

void x87_run(struct x87_image *image, uint8_t opcode, uint8_t modrm, void *memory, uint16_t *flags)
{
	const char *stub = x87_stub(opcode, modrm, memory);
	uint16_t ax = *flags;
	asm volatile("frstor %[image]\n\t"
		     "lea -128(%%rsp), %%rsp\n\t"
		     "addb $127, %%al\n\t" /* OF, which SAHF does not set */
		     "sahf\n\t"
		     "call *%[stub]\n\t"
		     "lahf\n\t"
		     "seto %%al\n\t"
		     "lea 128(%%rsp), %%rsp\n\t"
		     "fnsave %[image]"
		     : [image] "+m"(*image), "+a"(ax) : [stub] "r"(stub), "D"(memory) : "cc", "memory");
	*flags = ax;
}
