/* SPDX-License-Identifier: MIT */
/* What processors do differently, and what we do not know: excuses of the bulk comparison. */
#include <stdio.h>
#include <string.h>
#include "bulk_excuse.h"
#include "x86/exec.h"

static bool faulted(const struct bulk_outcome *ours)
{
	return ours->end.vector != HOST_COMPLETED;
}
static bool is_amd(void)
{
	return __builtin_cpu_is("amd");
}
static bool dot_product(unsigned op)
{
	return op == X86_OP_DPPS || op == X86_OP_DPPD || op == X86_OP_VDPPS || op == X86_OP_VDPPD;
}
static void copy_mxcsr(uint32_t bits, const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	ours->state.fx.mxcsr = (ours->state.fx.mxcsr & ~bits) | (host->state.fx.mxcsr & bits);
}

/* Each makes `ours` what it would be if it did as the host, where that is excused; the comparison decides. */
static void excuse_dot_product(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (ours->end.vector == VECTOR_XM && dot_product(hosttwin_insn.op) && !is_amd())
		copy_mxcsr(0x3f, host, ours);
}
static void excuse_mmx_fault(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (faulted(ours) && hosttwin_insn.flags & INSN_MMX) {
		ours->state.fx.fsw = host->state.fx.fsw;
		ours->state.fx.ftw = host->state.fx.ftw;
		memcpy(ours->state.fx.st, host->state.fx.st, sizeof(host->state.fx.st));
	}
}
static void excuse_cvtpi2ps(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (hosttwin_insn.op != X86_OP_CVTPI2PS || !is_amd() || hosttwin_insn.form != FORM_RM)
		return;
	if (ours->end.vector == VECTOR_MF) {
		*ours = *host;
	} else {
		ours->state.fx.fsw = host->state.fx.fsw;
		ours->state.fx.ftw = host->state.fx.ftw;
		memcpy(ours->state.fx.st, host->state.fx.st, sizeof(host->state.fx.st));
	}
}
static void excuse_gather(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	const struct insn *i = &hosttwin_insn;
	unsigned r = i->src / 16, step = i->ssize; /* the size of an element */

	if (!faulted(ours) || i->form != FORM_RMR || i->op < X86_OP_VADDPD)
		return;
	for (unsigned n = step - 1; n < 32; n += step) { /* signs equal: then as the host */
		uint8_t a = n < 16 ? host->state.fx.xmm[r][n] : host->state.avx.ymm_high[r][n - 16];
		uint8_t b = n < 16 ? ours->state.fx.xmm[r][n] : ours->state.avx.ymm_high[r][n - 16];
		if ((a ^ b) & 0x80)
			return;
	}
	memcpy(ours->state.fx.xmm[r], host->state.fx.xmm[r], 16);
	memcpy(ours->state.avx.ymm_high[r], host->state.avx.ymm_high[r], 16);
}
static void excuse_fcomi(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (hosttwin_insn.op >= X86_OP_FCOMI && hosttwin_insn.op <= X86_OP_FUCOMIP && is_amd())
		ours->state.fx.fsw = (uint16_t)((ours->state.fx.fsw & ~BIT(9)) | (host->state.fx.fsw & BIT(9)));
}
static void excuse_x87_pointers(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	const struct insn *i = &hosttwin_insn;
	unsigned size = i->osize == 2 ? 8 : 16;
	uint64_t at;

	if (i->op != X86_OP_FNSTENV && i->op != X86_OP_FNSAVE)
		return;
	for (at = 0; at < HOST_DATA_SIZE && host->data[at] == ours->data[at]; at++)
		;
	if (at < HOST_DATA_SIZE) /* the pointers are one piece, in which the first difference lies */
		for (unsigned n = 0; n < size && at + n < HOST_DATA_SIZE; n++)
			ours->data[at + n] = host->data[at + n];
}
/* Ten bytes and more are several accesses, and so are BOUND's two limits: a later one can fault where the whole is refused first, or the other
 * way round. */
static void excuse_pieces(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	unsigned op = hosttwin_insn.op, size = MAX(hosttwin_insn.size, hosttwin_insn.ssize);
	bool several = op == X86_OP_BOUND || (op >= X86_OP_FADD && op <= X86_OP_FRSTOR && size >= 10);

	if (several && faulted(ours) && (faulted(host) || hosttwin_insn.asize == 2)) /* or it goes on at the start of the segment */
		*ours = *host;
}
static void excuse_alignment_first(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (ours->end.vector == VECTOR_SS && host->end.vector == VECTOR_GP && hosttwin_insn.op >= X86_OP_EMMS)
		ours->end.vector = VECTOR_GP;
}
static void excuse_vex_w(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	bool dword = hosttwin_insn.op == X86_OP_VPEXTRD || hosttwin_insn.op == X86_OP_VPINSRD;

	if (dword && is_amd() && host->end.vector == VECTOR_UD)
		*ours = *host;
}
static void excuse_prefetch_register(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (hosttwin_insn.op == X86_OP_NOP && hosttwin_insn.opcode == 0x0d && is_amd() && host->end.vector == VECTOR_UD)
		*ours = *host;
}
static void excuse_environment_fault(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (hosttwin_insn.size > 10 && hosttwin_insn.op >= X86_OP_FADD && host->end.vector == VECTOR_PF && ours->end.vector == VECTOR_PF &&
	    !((host->end.address ^ ours->end.address) & X86_PAGE_MASK)) {
		ours->end.address = host->end.address;
		memcpy(ours->data, host->data, sizeof(host->data));
	}
}
static void excuse_sha(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (hosttwin_insn.op >= X86_OP_SHA1MSG1 && hosttwin_insn.op <= X86_OP_SHA256RNDS2 && is_amd() && ours->end.vector == VECTOR_GP)
		*ours = *host;
}
static void excuse_masked_fault(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	bool maskmov = hosttwin_insn.op == X86_OP_MASKMOVQ || hosttwin_insn.op == X86_OP_MASKMOVDQU || hosttwin_insn.op == X86_OP_VMASKMOVDQU;

	if (maskmov && (faulted(ours) || faulted(host)))
		*ours = *host;
}
static void excuse_masked_wrap(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	unsigned op = hosttwin_insn.op;
	bool masked = op == X86_OP_VMASKMOVPS || op == X86_OP_VMASKMOVPD || op == X86_OP_VPMASKMOVD || op == X86_OP_VPMASKMOVQ;
	bool limit = host->end.vector == VECTOR_GP || host->end.vector == VECTOR_SS;

	if (masked && is_amd() && limit && hosttwin_insn.asize != 8 && ours->end.vector == HOST_COMPLETED)
		*ours = *host;
}
static void excuse_wide_source(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	if (hosttwin_insn.op == X86_OP_MOVSXD && hosttwin_insn.size == 2 && host->end.vector == VECTOR_PF)
		*ours = *host;
}
static void excuse_misaligned_mode(const struct bulk_outcome *host, struct bulk_outcome *ours)
{
	bool load = hosttwin_insn.op == X86_OP_LDMXCSR || hosttwin_insn.op == X86_OP_VLDMXCSR;

	if (load && ours->end.vector == VECTOR_GP && host->end.vector == HOST_COMPLETED && host->state.fx.mxcsr >> 16 == 2)
		*ours = *host;
}

static struct excuse {
	const char *name;
	void (*as_host)(const struct bulk_outcome *host, struct bulk_outcome *ours);
	unsigned count;
} excuses[] = {
	{ "DPPS, DPPD: the flags of which steps are there beside an unmasked exception (as on AMD's; SDM: open)", excuse_dot_product, 0 },
	{ "whether registers became MMX registers before a fault: the manual leaves it open", excuse_mmx_fault, 0 },
	{ "CVTPI2PS from memory neither enters MMX state nor waits for x87 exceptions (AMD; SDM: it does)", excuse_cvtpi2ps, 0 },
	{ "the mask of a gather that faulted: AMD leaves elements that are to come as they were (SDM: all ones)", excuse_gather, 0 },
	{ "FCOMI and its kin leave C1 (AMD; SDM: cleared)", excuse_fcomi, 0 },
	{ "FIP, FDP and FOP in an environment: AMD restores them with an exception only, and saves selectors (our models do not)", excuse_x87_pointers, 0 },
	{ "which bytes of an environment are written before it faults, and which is told of", excuse_environment_fault, 0 },
	{ "operands of several accesses: which of them is refused first", excuse_pieces, 0 },
	{ "an operand that is unaligned and beyond the limit of SS: #GP for the one or #SS for the other", excuse_alignment_first, 0 },
	{ "VPEXTRD, VPINSRD with VEX.W in 32- and 16-bit code: #UD (AMD; SDM: W is ignored)", excuse_vex_w, 0 },
	{ "0F 0D with a register: #UD (AMD; Intel: a NOP)", excuse_prefetch_register, 0 },
	{ "SHA with an unaligned operand: AMD allows it (SDM: #GP)", excuse_sha, 0 },
	{ "MASKMOVQ, MASKMOVDQU: bytes that are masked out may fault (SDM: implementation-specific)", excuse_masked_fault, 0 },
	{ "VMASKMOVPS and its kin: masked elements around the end of a segment of 64 KiB are beyond the limit (AMD, Zen 5), or at its start (Zen 4)", excuse_masked_wrap, 0 },
	{ "LDMXCSR of bit 17: MXCSR.MM (AMD's misaligned SSE mode, which no model offers; SDM: #GP)", excuse_misaligned_mode, 0 },
	{ "MOVSXD r16 reads 32 bits (AMD; SDM: 16)", excuse_wide_source, 0 },
};

bool bulk_same(const struct bulk_outcome *a, const struct bulk_outcome *b, uint32_t mode)
{
	unsigned registers = mode == MODE_CODE64 ? 16 : 8;
	const struct x86_fxsave *x = &a->state.fx, *y = &b->state.fx;
	bool error = a->end.vector == VECTOR_PF || a->end.vector == VECTOR_GP || a->end.vector == VECTOR_SS;

	for (unsigned r = 0; r < registers; r++)
		if (mode == MODE_CODE64 ? a->state.gpr[r] != b->state.gpr[r] : (uint32_t)a->state.gpr[r] != (uint32_t)b->state.gpr[r])
			return false;
	for (unsigned r = 0; r < 8; r++)
		if (memcmp(x->st[r], y->st[r], 10))
			return false;
	return a->end.vector == b->end.vector && a->state.rip == b->state.rip && a->state.rflags == b->state.rflags &&
	       (!error || a->end.error == b->end.error) && (a->end.vector != VECTOR_PF || a->end.address == b->end.address) &&
	       !memcmp(x->xmm, y->xmm, sizeof(x->xmm)) && x->mxcsr == y->mxcsr && x->fcw == y->fcw && x->fsw == y->fsw && x->ftw == y->ftw &&
	       (!host_has_avx || !memcmp(a->state.avx.ymm_high, b->state.avx.ymm_high, sizeof(a->state.avx.ymm_high))) &&
	       !memcmp(a->data, b->data, sizeof(a->data));
}

bool bulk_excused(const struct bulk_outcome *host, const struct bulk_outcome *ours, uint32_t mode, bool count)
{
	static struct bulk_outcome o;

	o = *ours;
	for (unsigned n = 0; n < ARRAY_SIZE(excuses); n++)
		excuses[n].as_host(host, &o);
	if (!bulk_same(host, &o, mode))
		return false;
	for (unsigned n = 0; n < ARRAY_SIZE(excuses) && count; n++) {
		o = *ours;
		excuses[n].as_host(host, &o);
		excuses[n].count += memcmp(&o, ours, sizeof(o)) != 0;
	}
	return true;
}

void bulk_excuses_print(void)
{
	for (unsigned n = 0; n < ARRAY_SIZE(excuses); n++)
		if (excuses[n].count)
			printf("# %u excused: %s\n", excuses[n].count, excuses[n].name);
}
