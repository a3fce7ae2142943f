/* SPDX-License-Identifier: MIT */
/* The emulated side of hostrun.h: a core in long mode at CPL 3 whose page tables map the data of the native side
 * to itself. The code is not mapped: decoding gets the bytes, and an operand there is none that the host may
 * touch. Segments and control registers are those that Linux gives to a user program. SDM 3A chapters 3 and 4. */
#include <stdlib.h>
#include <string.h>
#include "hostrun.h"
#include "x86/cpuid.h"
#include "x86/exec.h"

#define TABLES 16 /* pages of page tables: more than the data needs */
#define PTE_FLAGS (PTE_P | PTE_U | PTE_A | PTE_D)
#define SEGA_USER (SEGA_P | SEGA_S | SEGA_ACCESSED | 3 << SEGA_DPL_SHIFT)

struct insn hosttwin_insn;
static struct x86_core core;
static uint64_t table[TABLES][512] __attribute__((aligned(4096))); /* "physical" addresses are those of the host */
static unsigned tables = 1;

static struct x86_model everything = {
	.name = "twin",
	.vendor = "GenuineIntel",
	.physical_bits = 48,
	.linear_bits = 48,
	.features = { [0 ... FEAT_WORDS - 1] = ~0u },
};

static uint8_t *page(struct x86_core *c, gpa_t gpa, enum x86_access access, bool *traced)
{
	return (uint8_t *)(uintptr_t)gpa;
}
static uint64_t nothing_read(struct x86_core *c, enum x86_space space, uint64_t address, unsigned size)
{
	return ~0ULL;
}
static void nothing_written(struct x86_core *c, enum x86_space space, uint64_t address, unsigned size, uint64_t value)
{
}
static const struct x86_env env = { .page = page, .io_read = nothing_read, .io_write = nothing_written };

static void map_page(uint64_t at, bool writable)
{
	uint64_t *t = table[0];
	for (unsigned shift = 39; shift > 12; shift -= 9) {
		uint64_t *entry = &t[at >> shift & 511];
		if (!*entry) {
			if (tables == TABLES)
				abort();
			*entry = (uint64_t)(uintptr_t)table[tables++] | PTE_FLAGS | PTE_W;
		}
		t = (uint64_t *)(uintptr_t)(*entry & X86_PAGE_MASK);
	}
	t[at >> 12 & 511] = at | PTE_FLAGS | (writable ? PTE_W : 0);
}

static void set_segments(uint32_t mode)
{
	struct x86_segment *seg = core.cpu.seg;
	bool code16 = (mode & MODE_CODE) == MODE_CODE16, code64 = (mode & MODE_CODE) == MODE_CODE64;
	uint32_t size = code16 ? 0 : SEGA_DB | SEGA_G, limit = code16 ? 0xffff : 0xffffffff;

	seg[SEG_CS] = (struct x86_segment){ .base = code16 ? HOST_CODE : 0,
					    .limit = limit,
					    .attr = SEGA_USER | SEGA_CODE | SEGA_READABLE |
						    (code64 ? SEGA_L | SEGA_G : size) };
	seg[SEG_SS] = (struct x86_segment){ .base = code16 ? HOST_DATA : 0,
					    .limit = limit,
					    .attr = SEGA_USER | SEGA_WRITABLE | size };
	seg[SEG_DS] = seg[SEG_ES] = seg[SEG_SS];
	seg[SEG_FS] = (struct x86_segment){ .base = host_fs_base(), .attr = SEGA_UNUSABLE };
	seg[SEG_GS] = (struct x86_segment){ .base = HOST_GS_BASE, .attr = SEGA_UNUSABLE };
	x86_mode_update(&core);
}

/* What the semantics borrow from the host must be there. */
static void take_what_host_lacks(void)
{
	const struct x86_model *max = x86_model_find("max");

	for (unsigned n = 0; n < x86_model_count; n++)
		if (!strcmp(x86_models[n].name, "max"))
			for (unsigned word = 0; word < FEAT_WORDS; word++)
				everything.features[word] &= ~(x86_models[n].features[word] & ~max->features[word]);
}

struct x86_core *hosttwin_init(void)
{
	struct x86_cpu *cpu = &core.cpu;

	take_what_host_lacks();
	x86_core_init(&core, &env, &everything, 0);
	cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
	cpu->cr3 = (uint64_t)(uintptr_t)table[0];
	cpu->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
	cpu->xcr0 = XCR0_X87 | XCR0_SSE | XCR0_AVX;
	for (uint64_t at = HOST_DATA; at < HOST_DATA + HOST_SPAN; at += X86_PAGE_SIZE)
		map_page(at, at < HOST_READONLY);
	set_segments(MODE_CODE64);
	x86_core_loaded(&core);
	core.chain_limit = ~0ULL; /* no repeated instruction shall stop for attention */
	return &core;
}

/* As part of a trace that starts `offset` bytes before, so that it shows when an instruction does not make RIP exact. */
static void run_in_trace(unsigned offset)
{
	const struct insn *i = &hosttwin_insn;
	struct insn pair[2] = { *i, { .offset = (uint16_t)(offset + i->length), .index = (uint8_t)(i->index + 1) } };
	uint64_t before = core.icount;

	pair[1].exec = x86_ops[i->op].klass == CLASS_CONTROL ? x86_exec_stop_jump : x86_exec_stop;
	do {
		*x86_rip(&core.cpu) -= offset;
		core.icount = before;
		pair[0].exec(&core, pair);
	} while (core.icount == before + i->index); /* a repeated instruction that wants to be run again */
}

struct host_end hosttwin_run(struct host_state *state, const uint8_t *bytes, unsigned length, uint32_t mode)
{
	struct host_end end = { .vector = HOST_COMPLETED };
	struct x86_cpu *cpu = &core.cpu;
	jmp_buf unwind;

	if ((core.mode & MODE_CODE) != (mode & MODE_CODE))
		set_segments(mode);
	memcpy(cpu->gpr, state->gpr, sizeof(state->gpr));
	*x86_rip(cpu) = state->rip;
	x86_flags_set(&core, state->rflags);
	cpu->xsave.legacy = state->fx;
	memcpy(cpu->xsave.ymm_high, state->avx.ymm_high, sizeof(state->avx.ymm_high));
	hosttwin_insn.offset = (uint16_t)(state->rip % 8 * 8);
	hosttwin_insn.index = state->rip % 8;
	core.unwind = &unwind;
	if (!x86_decode(&hosttwin_insn, bytes, length, core.mode, core.model)) {
		end.vector = VECTOR_PF; /* the bytes do not hold a whole instruction */
	} else {
		int why = setjmp(unwind);
		if (why == UNWIND_FAULT)
			end = (struct host_end){ core.fault.vector, core.fault.error, cpu->cr2 };
		else
			run_in_trace(hosttwin_insn.offset);
	}
	memcpy(state->gpr, cpu->gpr, sizeof(state->gpr));
	state->rip = *x86_rip(cpu);
	state->rflags = x86_flags_get(&core);
	state->fx = cpu->xsave.legacy;
	memcpy(state->avx.ymm_high, cpu->xsave.ymm_high, sizeof(state->avx.ymm_high));
	return end;
}
