/* SPDX-License-Identifier: MIT */
/* Every register group goes through every engine, and from each to each other, bit for bit: random states that a processor can be in, in each kind
 * of mode, are handed over and come back; and engines that run some instructions which change nothing leave nothing changed.
 *     engine_state [STATES [SEED]]   states for each pair of engines */
#include "any_state.h"
#include "engine/kvm/kvm.h"
#include "vm_test.h"
#include "x86/features.h"

#define STATES 1000
#define ENGINES 8

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
		uint64_t number = any_state_seed;

		if (change(vm, a))
			break;
		any_state(vm, kind, n & 8);
		want = vcpu->core.cpu;
		snprintf(what, sizeof(what), "%s to %s, %s, state %#lx", a->name, b->name, any_state_names[kind], number);
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
		uint64_t number = any_state_seed, rip;
		char what[100];

		if (change(vm, a))
			break;
		any_state(vm, kind, true);
		from = vcpu->core.cpu;
		rip = from.gpr[X86_GPR_RIP];
		for (unsigned i = 0; i < repeats; i++)
			guest_write(vm, from.seg[SEG_CS].base + rip + i * sizeof(neutral), neutral, sizeof(neutral));
		snprintf(what, sizeof(what), "%s, then %s, in %s, state %#lx", a->name, b->name, any_state_names[kind], number);
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

	any_state_seed = (argc > 2 ? strtoull(argv[2], NULL, 0) : 1) * 0x9e3779b97f4a7c15ULL | 1;
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
