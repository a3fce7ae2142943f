/* SPDX-License-Identifier: MIT */
/* See any_state.h. SDM volume 3, chapters 2 to 6. */
#include "any_state.h"
#include "engine/kvm/kvm.h"
#include "vm/memory.h"
#include "x86/exec_system.h"
#include "x86/features.h"

#define TABLES 0x180000    /* of pages, one to one, up to 2 MiB; beyond the code */
#define PDPTES 0x184000
#define CODE_BASE 0x100000 /* of CS, at most so much above 0 */

const char *const any_state_names[KINDS] = { "real mode", "virtual-8086 mode", "protected mode", "paging of 32 bits", "PAE paging", "64-bit mode",
					  "64-bit user mode", "compatibility mode" };

uint64_t any_state_seed;

static uint64_t any(void)
{
	any_state_seed ^= any_state_seed << 13;
	any_state_seed ^= any_state_seed >> 7;
	return any_state_seed ^= any_state_seed << 17;
}

static uint64_t canonical(void)
{
	return (uint64_t)((int64_t)(any() << 16) >> 16);
}

static void any_bytes(void *to, size_t size)
{
	for (size_t n = 0; n < size; n++)
		((uint8_t *)to)[n] = (uint8_t)any();
}

static bool is_long(enum kind kind)
{
	return kind >= LONG;
}

static bool is_user(enum kind kind)
{
	return kind == LONG_USER || kind == COMPATIBLE || kind == V86;
}

static struct x86_segment segment(unsigned attr, bool wide)
{
	struct x86_segment s = { .base = wide ? canonical() : (uint32_t)any(), .limit = (uint32_t)any(), .selector = (uint16_t)any(), .attr = attr };

	if (attr & SEGA_G)
		s.limit |= 0xfff;
	else
		s.limit &= 0xfffff;
	s.selector = (uint16_t)((s.selector & ~3u) | (attr & SEGA_DPL) >> SEGA_DPL_SHIFT);
	return s;
}

static struct x86_segment real_segment(unsigned attr)
{
	uint16_t selector = (uint16_t)any();

	return (struct x86_segment){ .base = (uint32_t)selector << 4, .limit = 0xffff, .selector = selector,
				     .attr = SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_WRITABLE | attr };
}

/* Data segments of all sorts, and null selectors; unreal ones, too. */
static struct x86_segment data_segment(enum kind kind, unsigned seg, unsigned dpl)
{
	static const unsigned sorts[] = { SEGA_WRITABLE, 0, SEGA_EXPAND_DOWN | SEGA_WRITABLE, SEGA_EXPAND_DOWN, SEGA_CODE | SEGA_READABLE };
	unsigned attr = SEGA_P | SEGA_S | SEGA_ACCESSED | dpl | (any() & (SEGA_G | SEGA_DB | SEGA_AVL));

	if (seg == SEG_SS)
		return segment(attr | SEGA_WRITABLE, false);
	if (any() % 4 == 0) {
		struct x86_segment null = { .attr = SEGA_UNUSABLE, .base = is_long(kind) && seg >= SEG_FS ? canonical() : 0 };
		return null;
	}
	return segment(attr | sorts[any() % ARRAY_SIZE(sorts)], is_long(kind) && seg >= SEG_FS);
}

static void segments(struct x86_cpu *cpu, enum kind kind)
{
	unsigned dpl = is_user(kind) ? SEGA_DPL : 0;
	bool is64 = kind == LONG || kind == LONG_USER;

	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = kind == V86 ? real_segment(SEGA_DPL) : kind == REAL ? real_segment(s == SEG_CS ? SEGA_CODE : 0) : data_segment(kind, s, dpl);
	if (kind != V86 && kind != REAL) {
		struct x86_segment *cs = &cpu->seg[SEG_CS];
		*cs = segment(SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_CODE | SEGA_READABLE | SEGA_G | dpl | (is64 ? SEGA_L : SEGA_DB), false);
		cs->base = is64 ? 0 : any() % CODE_BASE;
		cs->limit = 0xffffffff;
	} else {
		cpu->seg[SEG_CS].base &= 0x7ffff;
		cpu->seg[SEG_CS].selector = (uint16_t)(cpu->seg[SEG_CS].base >> 4);
	}
	cpu->tr = segment((is_long(kind) || any() & 1 ? SYS_TSS_BUSY : 3) | SEGA_P, is_long(kind));
	cpu->tr.limit = 0x67;
	cpu->tr.selector &= ~7u;
	cpu->ldtr = any() & 1 ? segment(SYS_LDT | SEGA_P, is_long(kind)) : (struct x86_segment){ .attr = SEGA_UNUSABLE };
	if (!(cpu->ldtr.attr & SEGA_UNUSABLE)) {
		cpu->ldtr.limit &= 0xffff;
		cpu->ldtr.selector &= ~7u;
	}
	cpu->gdtr = (struct x86_table){ .base = is_long(kind) ? canonical() : (uint32_t)any(), .limit = (uint16_t)any() };
	cpu->idtr = (struct x86_table){ .base = is_long(kind) ? canonical() : (uint32_t)any(), .limit = (uint16_t)any() };
}

/* What translates addresses is there; rights that would keep code of user pages from running are not taken away. */
static void control(struct x86_core *core, enum kind kind)
{
	struct x86_cpu *cpu = &core->cpu;
	uint64_t cr4 = any() & x86_cr4_mask(core) & ~(CR4_PAE | CR4_SMEP | CR4_SMAP | CR4_PCIDE | CR4_UMIP);

	cpu->cr0 = CR0_ET | (any() & (CR0_NE | CR0_MP | CR0_WP | CR0_AM));
	if (any() % 4 == 0)
		cpu->cr0 |= CR0_CD | (any() & CR0_NW);
	if (any() % 4 == 0)
		cpu->cr0 |= any() & (CR0_TS | CR0_EM);
	cpu->cr2 = is_long(kind) ? any() : (uint32_t)any();
	cpu->cr3 = 0;
	cpu->efer = is_long(kind) ? any() & (EFER_SCE | EFER_NXE) : 0;
	if (kind != REAL)
		cpu->cr0 |= CR0_PE;
	if (kind >= PAGED) {
		cpu->cr0 |= CR0_PG;
		cpu->cr3 = kind == PAGED ? TABLES + 0x3000 : kind == PAE ? PDPTES : TABLES;
		cr4 |= kind == PAGED ? CR4_PSE : CR4_PAE;
	}
	if (is_long(kind))
		cpu->efer |= EFER_LME | EFER_LMA;
	if (is_long(kind) && (x86_cr4_mask(core) & CR4_PCIDE) && any() & 1) {
		cr4 |= CR4_PCIDE;
		cpu->cr3 |= any() & 0xfff;
	}
	if (any() % 4 == 0)
		cr4 |= CR4_SMEP & x86_cr4_mask(core) & (is_user(kind) ? ~0ULL : 0);
	cpu->cr4 = cr4;
	cpu->cr8 = any() & 15;
	cpu->xcr0 = x86_has(core, FEATURE_XSAVE) ? XCR0_X87 | (any() & 1 ? XCR0_SSE | (any() & core->model->xcr0 & XCR0_AVX) : 0) : cpu->xcr0;
}

/* Not what is in memory, but what it was when CR3 was loaded. */
static void tables(struct vm *vm, struct x86_cpu *cpu)
{
	static const uint64_t levels[3] = { TABLES + 0x1000 + 7, TABLES + 0x2000 + 7, 0xe7 }; /* PML4, PDPT, a page of 2 MiB */
	uint32_t large = 0xe7;

	for (unsigned n = 0; n < 3; n++)
		guest_write(vm, TABLES + 0x1000 * n, &levels[n], sizeof(levels[n]));
	guest_write(vm, TABLES + 0x3000, &large, sizeof(large));
	for (unsigned n = 0; n < 4; n++) {
		uint64_t entry = (n ? 0x190000 + 0x1000 * n : TABLES + 0x2000) | PTE_P, other = entry + 0x8000;
		cpu->pdpte[n] = entry;
		guest_write(vm, PDPTES + 8 * n, kvm_find_out()->error ? &other : &entry, sizeof(entry));
	}
}

static void fpu(struct x86_core *core)
{
	struct x86_fxsave *x = &core->cpu.xsave.legacy;

	for (unsigned n = 0; n < 8; n++)
		any_bytes(x->st[n], 10);
	any_bytes(x->xmm, sizeof(x->xmm));
	x->fcw = 0x40 | (any() & 0xf3f);
	x->fsw = any() & 0x7f7f;
	if (x->fsw & ~x->fcw & 0x3f)
		x->fsw |= 0x8080;
	x->ftw = (uint8_t)any();
	x->fop = any() & 0x7ff;
	x->fip = canonical();
	x->fdp = canonical();
	x->mxcsr = any() & 0xffff;
	if (core->cpu.xcr0 & XCR0_AVX)
		any_bytes(core->cpu.xsave.ymm_high, sizeof(core->cpu.xsave.ymm_high));
}

static void msrs(struct x86_core *core)
{
	static const uint8_t types[] = { 0, 1, 4, 5, 6 };
	struct x86_cpu *cpu = &core->cpu;

	cpu->star = any();
	cpu->lstar = canonical();
	cpu->cstar = canonical();
	cpu->sfmask = (uint32_t)any();
	cpu->kernel_gs_base = canonical();
	cpu->sysenter_cs = (uint16_t)any();
	cpu->sysenter_esp = canonical();
	cpu->sysenter_eip = canonical();
	cpu->pat = 0;
	for (unsigned n = 0; n < 8; n++)
		cpu->pat |= (uint64_t)(any() & 1 ? 7 : types[any() % ARRAY_SIZE(types)]) << 8 * n;
	if (kvm_find_out()->error || kvm_find_out()->tsc_moves)
		cpu->tsc_offset += any() & 0xffffff;
	cpu->tsc_adjust = any();
	if (x86_has(core, FEATURE_RDTSCP))
		cpu->tsc_aux = (uint32_t)any();
	cpu->mtrr_def_type = types[any() % ARRAY_SIZE(types)] | (any() & 0xc00);
	for (unsigned n = 0; n < 16; n += 2) {
		cpu->mtrr_var[n] = (any() & 0xffffff000ULL) | types[any() % ARRAY_SIZE(types)];
		cpu->mtrr_var[n + 1] = any() & 0xffffff800ULL;
	}
	for (unsigned n = 0; n < 11; n++)
		for (unsigned b = 0; b < 8; b++)
			((uint8_t *)&cpu->mtrr_fixed[n])[b] = types[any() % ARRAY_SIZE(types)];
}

/* An event that was under way, or what holds events off. A processor that sleeps has neither. */
static void events(struct x86_cpu *cpu)
{
	static const uint8_t with_error[] = { 8, 10, 11, 12, 13, 14, 17 }, without[] = { 0, 1, 3, 4, 5, 6, 7, 16, 18, 19 };
	static const uint8_t sorts[] = { EVENT_INTERRUPT, EVENT_NMI, EVENT_EXCEPTION, EVENT_SOFT_INT, EVENT_ICEBP, EVENT_SOFT_EXCEPTION };

	cpu->nmi_blocked = any() & 1;
	cpu->nmi_pending = any() & 1;
	cpu->interrupt_shadow = any() % 3;
	switch (any() % 4) {
	case 0:
		cpu->event_pending = 1;
		cpu->event_type = sorts[any() % ARRAY_SIZE(sorts)];
		cpu->event_vector = cpu->event_type == EVENT_NMI ? VECTOR_NMI : cpu->event_type == EVENT_ICEBP ? VECTOR_DB
				  : cpu->event_type == EVENT_SOFT_EXCEPTION ? VECTOR_BP : (uint8_t)(32 + any() % 224);
		if (cpu->event_type != EVENT_EXCEPTION)
			break;
		cpu->event_has_error = any() & 1;
		cpu->event_vector = cpu->event_has_error ? with_error[any() % ARRAY_SIZE(with_error)] : without[any() % ARRAY_SIZE(without)];
		cpu->event_error = cpu->event_has_error ? (uint16_t)any() : 0;
		break;
	case 1:
		cpu->pending_debug = any() & (DR6_BS | 0xf);
		break;
	case 2:
		cpu->interrupt_shadow = 0;
		cpu->activity = any() & 1 ? X86_HALTED : X86_WAIT_SIPI;
	}
}

void any_state(struct vm *vm, enum kind kind, bool quiet)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	vcpu_reset(vcpu, false);
	for (unsigned r = 0; r < 16; r++)
		cpu->gpr[r] = is_long(kind) ? any() : (uint32_t)any();
	for (unsigned r = 8; r < 16 && !is_long(kind); r++)
		cpu->gpr[r] = 0;
	cpu->gpr[X86_GPR_RIP] = any() & 0x7ff0;
	cpu->rflags = FLAG_FIXED | (any() & (FLAGS_ARITH | FLAG_DF | FLAG_IF | FLAG_AC | FLAG_ID | FLAG_IOPL | FLAG_NT | FLAG_RF));
	if (kind == V86)
		cpu->rflags |= FLAG_VM;
	for (unsigned n = 0; n < 4; n++)
		cpu->dr[n] = is_long(kind) ? canonical() : (uint32_t)any();
	cpu->dr[6] = DR6_FIXED | (any() & (DR6_BS | 0xf));
	cpu->dr[7] = DR7_FIXED | (any() & (quiet ? 0xffff0300 : 0xffff03ff));
	segments(cpu, kind);
	control(&vcpu->core, kind);
	tables(vm, cpu);
	if (kind != PAE)
		memset(cpu->pdpte, 0, sizeof(cpu->pdpte));
	fpu(&vcpu->core);
	msrs(&vcpu->core);
	if (quiet) {
		cpu->cr0 &= ~(uint64_t)(CR0_TS | CR0_EM);
		cpu->cr4 |= CR4_OSFXSR;
		cpu->xsave.legacy.fsw &= 0x7f40;
		cpu->interrupt_shadow = any() % 3;
		cpu->nmi_blocked = any() & 1;
		cpu->seg[SEG_SS].attr |= SEGA_DB;
	} else {
		cpu->rflags |= any() & FLAG_TF;
		events(cpu);
	}
	vcpu_changed(vcpu, X86_ALL_GROUPS);
}
