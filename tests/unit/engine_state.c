/* SPDX-License-Identifier: MIT */
/* Every register group goes through every engine, and from each to each other, bit for bit: random states that a processor can be in, in each kind
 * of mode, are handed over and come back; and engines that run some instructions which change nothing leave nothing changed.
 *     engine_state [STATES [SEED]]   states for each pair of engines */
#include "board/board.h"
#include "engine/kvm/kvm.h"
#include "vm_test.h"
#include "x86/cpuid.h"
#include "x86/exec_system.h"
#include "x86/features.h"

#define STATES 1000
#define ENGINES 8
#define TABLES 0x180000    /* of pages, one to one, up to 2 MiB; beyond the code */
#define PDPTES 0x184000
#define CODE_BASE 0x100000 /* of CS, at most so much above 0 */

static uint64_t random_state;

static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
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

/* --- states --- */

enum kind { REAL, V86, FLAT, PAGED, PAE, LONG, LONG_USER, COMPATIBLE, KINDS };
static const char *const names[KINDS] = { "real mode", "virtual-8086 mode", "protected mode", "paging of 32 bits", "PAE paging", "64-bit mode",
					  "64-bit user mode", "compatibility mode" };

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

/* quiet: nothing happens but what the code at RIP does. */
static void make_state(struct vm *vm, enum kind kind, bool quiet)
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

/* --- what may differ, by name --- */

static unsigned normalised[5];
enum { GRANULARITY, SHADOW, POINTERS, NULL_SEGMENT, GAPS };
static const char *const normalisation[] = {
	"the granularity bit of a hidden part, which an SVM processor does not keep: it is what the limit wants",
	"MOV SS or STI, which are one shadow to an SVM processor",
	"FIP, FDP and FOP, where the host's processor does not keep them",
	"what is in the hidden part of a null selector, but for its base and DPL",
	"the reserved bytes behind the x87 registers, where the host's FXSAVE leaves them as they are",
};

/* What the host's FXSAVE gives back of what FXRSTOR took when no exception is pending, into memory that was all ones. */
static struct x86_fxsave host_saved(void)
{
	static struct x86_fxsave __attribute__((aligned(64))) image, saved, before;

	__builtin_ia32_fxsave64(&before);
	image = before;
	image.fip = 0x123456;
	image.fsw = 0;
	memset(&saved, 0xff, sizeof(saved));
	__builtin_ia32_fxrstor64(&image);
	__builtin_ia32_fxsave64(&saved);
	__builtin_ia32_fxrstor64(&before);
	return saved;
}

static bool host_keeps_pointers(void)
{
	return host_saved().fip == 0x123456;
}

static bool host_leaves_gaps(void)
{
	return host_saved().st[0][15] == 0xff;
}

static void normalise_segment(struct x86_segment *s, bool svm)
{
	if (s->attr & SEGA_UNUSABLE) {
		s->attr &= SEGA_UNUSABLE | SEGA_DPL;
		s->limit = 0;
	} else if (svm) {
		s->attr &= ~SEGA_G;
	}
}

enum keeper { MONITOR, KERNEL }; /* who has the state in between */

/* The state as the engine may leave it. */
static void normalise(struct x86_cpu *cpu, enum keeper keeper)
{
	bool svm = !strcmp(kvm_find_out()->driver, "kvm_amd");
	struct x86_cpu was = *cpu;

	if (host_leaves_gaps()) {
		for (unsigned n = 0; n < 8; n++)
			memset(cpu->xsave.legacy.st[n] + 10, 0, 6);
		normalised[GAPS]++;
	}
	if (keeper != KERNEL)
		return;
	if (!host_keeps_pointers()) {
		cpu->xsave.legacy.fip = cpu->xsave.legacy.fdp = cpu->xsave.legacy.fop = 0;
		normalised[POINTERS]++;
	}
	for (unsigned s = 0; s < SEG_COUNT; s++)
		normalise_segment(&cpu->seg[s], svm);
	normalise_segment(&cpu->tr, svm);
	normalise_segment(&cpu->ldtr, svm);
	if (memcmp(was.seg, cpu->seg, sizeof(was.seg)))
		normalised[svm ? GRANULARITY : NULL_SEGMENT]++;
	if (svm && cpu->interrupt_shadow == X86_SHADOW_MOV_SS) {
		cpu->interrupt_shadow = X86_SHADOW_STI;
		normalised[SHADOW]++;
	}
}

/* The first fields that differ are told. */
static bool same(const struct x86_cpu *got, const struct x86_cpu *want, enum keeper keeper, const char *what)
{
	struct x86_cpu a = *got, b = *want;
	unsigned wrong = 0;

	a.seg[SEG_FLAT] = b.seg[SEG_FLAT]; /* no segment register */
	normalise(&a, keeper);
	normalise(&b, keeper);
	for (const struct field *f = x86_cpu_fields; f->type != FIELD_TYPE_END; f++) {
		const uint8_t *x = (const uint8_t *)&a + f->offset, *y = (const uint8_t *)&b + f->offset;
		for (uint32_t n = 0; n < f->count * f->size && wrong < 8; n++)
			if (x[n] != y[n]) {
				printf("%s: %s is another from byte %u on: %02x, not %02x\n", what, f->name, n, x[n], y[n]);
				wrong++;
				break;
			}
	}
	return !wrong;
}

/* --- through the engines --- */

static bool is_kernel(const struct engine *engine)
{
	return engine == &kvm_engine;
}

static enum keeper keeper_of(const struct engine *a, const struct engine *b)
{
	return is_kernel(a) || is_kernel(b) ? KERNEL : MONITOR;
}

static int change(struct vm *vm, const struct engine *to)
{
	uint64_t ns;

	return vm->engine == to ? 0 : vm_engine_switch(vm, to, &ns);
}

/* The engine has the state, and core.cpu is rubbish. One that works in core.cpu is given its turn without an instruction. */
static void hold(struct vcpu *vcpu)
{
	static const struct run_limit limit = { .icount = 0 };
	struct vm_exit exit = { 0 };
	struct x86_cpu *cpu = &vcpu->core.cpu;

	if (is_kernel(vcpu->engine)) {
		kvm_vcpu_of(vcpu)->completion = true; /* an entry that runs nothing: what comes back is the kernel's */
		memset(cpu->gpr, 0xa5, 16 * sizeof(cpu->gpr[0]));
		cpu->gpr[X86_GPR_RIP] = cpu->rflags = cpu->cr0 = cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = cpu->star = cpu->lstar = 0xa5;
		memset(cpu->seg, 0xa5, SEG_COUNT * sizeof(cpu->seg[0]));
		memset(&cpu->xsave.legacy, 0xa5, offsetof(struct x86_fxsave, mxcsr_mask));
		memset(cpu->xsave.legacy.st, 0xa5, sizeof(cpu->xsave.legacy.st) + sizeof(cpu->xsave.legacy.xmm));
		for (unsigned n = 0; n < 8; n++)
			memset(cpu->xsave.legacy.st[n] + 10, 0, 6);
		cpu->interrupt_shadow = cpu->nmi_blocked = cpu->nmi_pending = cpu->event_pending = 3;
	} else {
		vcpu->kicked = true;
		((const struct engine *)vcpu->engine)->run(vcpu, &limit, &exit);
		vcpu->kicked = false;
	}
	vcpu->changed = 0;
	vcpu->held = X86_ALL_GROUPS;
}

static void carry(struct vm *vm, const struct engine *a, const struct engine *b, unsigned states)
{
	struct vcpu *vcpu = vm->vcpu[0];
	unsigned right = 0;

	for (unsigned n = 0; n < states; n++) {
		enum kind kind = n % KINDS;
		struct x86_cpu want;
		char what[100];
		uint64_t number = random_state;

		if (change(vm, a))
			break;
		make_state(vm, kind, n & 8);
		want = vcpu->core.cpu;
		snprintf(what, sizeof(what), "%s to %s, %s, state %#lx", a->name, b->name, names[kind], number);
		if (change(vm, b) || (n & 8 ? hold(vcpu) : (void)0, change(vm, a)))
			break;
		if (n & 8)
			hold(vcpu);
		vcpu_state(vcpu, X86_ALL_GROUPS);
		right += same(&vcpu->core.cpu, &want, keeper_of(a, b), what);
	}
	ok(right == states, "%u states from %s to %s and back", right, a->name, b->name);
}

/* --- through engines that run --- */

static const uint8_t neutral[] = {
	0x90,             /* nop */
	0x88, 0xc0,       /* mov al, al */
	0x0f, 0x28, 0xdb, /* movaps xmm3, xmm3 */
	0x88, 0xe4,       /* mov ah, ah */
	0x90,
	0xd9, 0xd0,       /* fnop: last, as an emulator in a kernel may not know it */
};
#define INSTRUCTIONS 6
#define REPEATS 80 /* more than a translator leaves to the interpreter because the limit is near; a kernel takes single steps, a few */

static bool run_some(struct vcpu *vcpu, unsigned instructions)
{
	struct run_limit limit = { .icount = vcpu->core.icount + instructions };

	if (!is_kernel(vcpu->vm->engine)) {
		while (vcpu->core.icount < limit.icount)
			if (!vcpu_run_once(vcpu, &limit))
				return false;
		return true;
	}
	limit.step = true;
	for (unsigned n = 0, tries = 2 * instructions; n < instructions && tries; tries--) {
		uint64_t rip = (vcpu_state(vcpu, X86_GPRS), vcpu->core.cpu.gpr[X86_GPR_RIP]);
		if (!vcpu_run_once(vcpu, &limit) || vcpu_state(vcpu, X86_GPRS))
			return false;
		n += vcpu->core.cpu.gpr[X86_GPR_RIP] != rip; /* else the kernel gave up on it: the interpreter is next */
	}
	return true;
}

/* From a state to where `a` and then `b` take it. */
static bool run_by(struct vm *vm, const struct x86_cpu *from, const struct engine *a, const struct engine *b, unsigned repeats, struct x86_cpu *to)
{
	struct vcpu *vcpu = vm->vcpu[0];

	if (change(vm, a))
		return false;
	vcpu_reset(vcpu, false);
	memcpy(&vcpu->core.cpu, from, sizeof(*from));
	vcpu_changed(vcpu, X86_ALL_GROUPS);
	x86_mode_update(&vcpu->core);
	if (kvm_vcpu_of(vcpu))
		kvm_vcpu_of(vcpu)->interp_until = 0; /* what the kernel gave up on before does not count */
	if (!run_some(vcpu, repeats * INSTRUCTIONS / 2) || change(vm, b) || !run_some(vcpu, repeats * INSTRUCTIONS / 2))
		return false;
	vcpu_state(vcpu, X86_ALL_GROUPS);
	memcpy(to, &vcpu->core.cpu, sizeof(*to));
	return true;
}

static uint64_t entries(const struct vcpu *vcpu)
{
	return kvm_vcpu_of(vcpu) ? kvm_vcpu_of(vcpu)->stat.runs : 0;
}

static void run(struct vm *vm, const struct engine *a, const struct engine *b, unsigned states)
{
	struct vcpu *vcpu = vm->vcpu[0];
	uint64_t entered = entries(vcpu);
	unsigned right = 0, repeats = keeper_of(a, b) == KERNEL ? 1 : REPEATS;

	for (unsigned n = 0; n < states; n++) {
		enum kind kind = n % KINDS;
		struct x86_cpu from, want, got;
		uint64_t number = random_state, rip;
		char what[100];

		if (change(vm, a))
			break;
		make_state(vm, kind, true);
		from = vcpu->core.cpu;
		rip = from.gpr[X86_GPR_RIP];
		for (unsigned i = 0; i < repeats; i++)
			guest_write(vm, from.seg[SEG_CS].base + rip + i * sizeof(neutral), neutral, sizeof(neutral));
		snprintf(what, sizeof(what), "%s, then %s, in %s, state %#lx", a->name, b->name, names[kind], number);
		if (!run_by(vm, &from, &interp_engine, &interp_engine, repeats, &want) || !run_by(vm, &from, a, b, repeats, &got))
			break;
		from.gpr[X86_GPR_RIP] += repeats * sizeof(neutral);
		from.rflags &= ~(uint64_t)FLAG_RF;
		from.interrupt_shadow = 0;
		memcpy(&from.xsave.legacy.fop, &want.xsave.legacy.fop, offsetof(struct x86_fxsave, mxcsr) - offsetof(struct x86_fxsave, fop));
		right += same(&want, &from, MONITOR, "interp alone") && same(&got, &want, keeper_of(a, b), what);
	}
	ok(right == states, "%u states in which %s, then %s runs what changes nothing", right, a->name, b->name);
	if (keeper_of(a, b) == KERNEL)
		ok(entries(vcpu) - entered >= states / KINDS, "the kernel ran %lu steps of these", entries(vcpu) - entered);
}

int main(int argc, char **argv)
{
	struct engine_report report = { 0 };
	const struct engine *engines[ENGINES];
	unsigned count = 0, states = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : STATES;
	bool kvm = !kvm_engine.probe(&report) && report.usable;
	/* Where the kernel's processors can do less than the model, the machine is to be made with that. */
	struct vm_config config = { .name = "test", .engine = kvm ? "kvm" : "interp", .engine_options = kvm ? "irqchip=user,modes=all" : NULL,
				    .memory = 8 * MiB, .cpus = 1, .model = x86_model_find("max") };
	struct vm *vm;

	random_state = (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) * 0x9e3779b97f4a7c15ULL | 1;
	for (const struct engine *e = engine_next(NULL); e && count < ENGINES; e = engine_next(e)) {
		if (e == &null_engine)
			continue;
		if (!e->probe(&report) && report.usable)
			engines[count++] = e;
		else
			skip("%s - %s", e->name, report.why);
	}
	if (vm_create(&vm, &config)) {
		ok(false, "a machine");
		return done();
	}
	for (unsigned a = 0; a < count; a++)
		for (unsigned b = 0; b < count; b++) {
			if (a != b)
				carry(vm, engines[a], engines[b], states);
			run(vm, engines[a], engines[b], states);
		}
	for (unsigned n = 0; n < ARRAY_SIZE(normalised); n++)
		if (normalised[n])
			printf("normalised %u times: %s\n", normalised[n], normalisation[n]);
	vm_destroy(vm);
	return done();
}
