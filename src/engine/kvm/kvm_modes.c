/* SPDX-License-Identifier: MIT */
/* What KVM runs, and what is left to the interpreter.
 *
 * A mode is worth running when the trial found it native: then the host's processor runs it. Elsewhere the kernel emulates each instruction,
 * at a hundredth of the interpreter's speed. And when the kernel gives up on an instruction, the interpreter gets not only that one: a change
 * of engines costs as much as some ten thousand interpreted instructions, so it goes on for a stretch. The stretch doubles while the kernel
 * gives up again at once, and shrinks where it runs for long in between. */
#include "engine/kvm/kvm.h"
#include <string.h>
#include <time.h>
#include "util/log.h"
#include "x86/cpuid.h"

#define STRETCH_MIN 2000
#define STRETCH_MAX (1u << 22)
#define SOON_NS 2000000

const char *const kvm_mode_names[KVM_MODES] = {
	[KVM_REAL] = "real", [KVM_V86] = "virtual_8086", [KVM_FLAT] = "unpaged", [KVM_PAGED] = "paged", [KVM_PAGED_USER] = "paged_user",
	[KVM_LONG] = "long", [KVM_LONG_USER] = "long_user", [KVM_COMPATIBLE] = "compatibility",
};

enum kvm_mode kvm_mode_of(const struct x86_cpu *cpu)
{
	bool user = (cpu->seg[SEG_SS].attr & SEGA_DPL) == SEGA_DPL;

	if (!(cpu->cr0 & CR0_PE))
		return KVM_REAL;
	if (cpu->rflags & FLAG_VM) /* not in long mode */
		return KVM_V86;
	if (!(cpu->cr0 & CR0_PG))
		return KVM_FLAT;
	if (!(cpu->efer & EFER_LMA))
		return user ? KVM_PAGED_USER : KVM_PAGED;
	if (!(cpu->seg[SEG_CS].attr & SEGA_L))
		return KVM_COMPATIBLE;
	return user ? KVM_LONG_USER : KVM_LONG;
}

void kvm_modes_init(struct kvm_vm *k)
{
	k->runs = k->found->native;
	/* Native user mode is of no use where the kernel's part is emulated. */
	if (!k->found->hardware)
		k->runs &= ~(unsigned)(BIT(KVM_LONG_USER) | BIT(KVM_PAGED_USER) | BIT(KVM_COMPATIBLE));
	for (unsigned m = 0; m < KVM_MODES && k->all_modes; m++)
		if (k->found->mips[m] > 0)
			k->runs |= BIT(m);
}

/* States that the kernel's interface has no words for. What an instruction of the guest's raises comes again when that runs again. */
static bool expressible(const struct x86_cpu *cpu)
{
	return !cpu->pending_debug && !(cpu->event_pending && cpu->event_type >= EVENT_SOFT_INT);
}

/* Is the guest's TSC what the kernel will show it? */
static bool tsc_agrees(const struct vcpu *vcpu)
{
	return kvm_of(vcpu->vm)->found->tsc_moves || (vcpu->vm->clock.tsc_direct && vcpu->core.cpu.tsc_offset == vcpu->vm->clock.origin);
}

static bool allowed(const struct vcpu *vcpu, struct kvm_vcpu *k)
{
	const struct x86_cpu *cpu = &vcpu->core.cpu;
	enum kvm_mode mode = kvm_mode_of(cpu);

	if (!(kvm_of(vcpu->vm)->runs & BIT(mode))) {
		k->stat.left[mode]++;
		return false;
	}
	if (!tsc_agrees(vcpu)) {
		k->stat.tsc++;
		return false;
	}
	if (!expressible(cpu)) {
		k->stat.other++;
		return false;
	}
	return true;
}

/* Where the chips are in the kernel, all processors are there, or none is. One that waits to be started has no mode yet. */
bool kvm_can_run(const struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	bool can = vcpu->core.icount >= k->interp_until && (vcpu->core.cpu.activity == X86_WAIT_SIPI || allowed(vcpu, k));

	if (!kvm_of(vcpu->vm)->irqchip)
		return can;
	if (!can)
		kvm_chips_out(vcpu->vm);
	return can && kvm_chips_in(vcpu->vm->vcpu[vcpu->index]);
}

uint64_t kvm_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

void kvm_entered(struct kvm_vcpu *k)
{
	k->entered = kvm_now();
}

static void count(struct kvm_vcpu *k, const char *name, uint64_t times)
{
	unsigned n;

	k->stat.failed += times;
	for (n = 0; n < KVM_FAILURE_NAMES - 1 && k->stat.failure[n].name && strcmp(k->stat.failure[n].name, name); n++)
		;
	if (!k->stat.failure[n].name)
		k->stat.failure[n].name = n < KVM_FAILURE_NAMES - 1 ? name : "others";
	k->stat.failure[n].count += times;
}

/* The kernel hands over the bytes that it fetched; where it does not, they are looked up. */
static const char *name_of(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	const struct kvm_run *run = k->run;
	struct x86_core *core = &vcpu->core;
	uint8_t bytes[15];
	unsigned length = 0;
	struct insn i = { 0 };

	if (run->exit_reason == KVM_EXIT_SHUTDOWN)
		return "triple_fault";
	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		return "entry";
	if (run->internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV)
		return "event_delivery";
	if (run->internal.ndata >= 3 && (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		length = MIN(run->emulation_failure.insn_size, (uint8_t)sizeof(bytes));
		memcpy(bytes, run->emulation_failure.insn_bytes, length);
	}
	if (!length) {
		uint64_t at = core->cpu.gpr[X86_GPR_RIP] + core->cpu.seg[SEG_CS].base;
		while (length < sizeof(bytes) && x86_peek(core, at + length, &bytes[length], 1))
			length++;
	}
	if (!length || !x86_decode(&i, bytes, length, core->mode, core->model))
		return "unknown";
	return i.op < X86_OP_COUNT && x86_ops[i.op].name ? x86_ops[i.op].name : "unknown";
}

void kvm_failed(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	bool soon = kvm_now() - k->entered < SOON_NS;

	vcpu_state(vcpu, X86_GPRS | X86_FLAGS | X86_SEGMENTS | X86_CONTROL);
	x86_mode_update(&vcpu->core);
	count(k, name_of(vcpu, k), 1);
	k->stretch = soon ? MIN(MAX(k->stretch * 2, STRETCH_MIN), STRETCH_MAX) : MAX(k->stretch / 2, STRETCH_MIN);
	k->interp_until = vcpu->core.icount + k->stretch;
	if (kvm_of(vcpu->vm)->irqchip)
		kvm_chips_out(vcpu->vm);
	trace(exit, "cpu%u kvm: the kernel gives up at rip %#lx, %lu instructions for the interpreter", vcpu->index,
	      vcpu->core.cpu.gpr[X86_GPR_RIP], k->stretch);
}

void kvm_swap(struct vcpu *vcpu)
{
	kvm_vcpu_of(vcpu)->interp_until = vcpu->core.icount + STRETCH_MIN;
	if (kvm_of(vcpu->vm)->irqchip)
		kvm_chips_out(vcpu->vm);
}

/* --- counters --- */

#define SUM(member)                                                                                                    \
	({                                                                                                             \
		uint64_t sum_ = 0;                                                                                     \
		for (unsigned v_ = 0; v_ < vm->config.cpus; v_++)                                                      \
			sum_ += kvm_vcpu_of(vm->vcpu[v_])->stat.member;                                                \
		sum_;                                                                                                  \
	})

static void row(FILE *out, const char *name, uint64_t value)
{
	if (value)
		fprintf(out, "kvm.%s %lu\n", name, value);
}

/* By name, all processors together. */
static void failures(struct vm *vm, FILE *out)
{
	struct kvm_vcpu sum = { 0 };

	for (unsigned v = 0; v < vm->config.cpus; v++) {
		const struct kvm_vcpu *k = kvm_vcpu_of(vm->vcpu[v]);
		for (unsigned n = 0; n < KVM_FAILURE_NAMES && k->stat.failure[n].name; n++)
			count(&sum, k->stat.failure[n].name, k->stat.failure[n].count);
	}
	for (unsigned n = 0; n < KVM_FAILURE_NAMES && sum.stat.failure[n].name; n++)
		fprintf(out, "kvm.failed.%s %lu\n", sum.stat.failure[n].name, sum.stat.failure[n].count);
}

void kvm_stats(struct vm *vm, FILE *out)
{
	row(out, "entries", SUM(runs));
	row(out, "io", SUM(io));
	row(out, "mmio", SUM(mmio));
	row(out, "msr", SUM(msr));
	row(out, "interrupt_window", SUM(window));
	row(out, "interrupted", SUM(interrupted));
	row(out, "chips_moved", kvm_of(vm)->chips_moves);
	row(out, "failed", SUM(failed));
	failures(vm, out);
	for (unsigned m = 0; m < KVM_MODES; m++)
		fprintf(out, "kvm.trial_mips.%s %.1f\n", kvm_mode_names[m], kvm_of(vm)->found->mips[m]);
	for (unsigned m = 0; m < KVM_MODES; m++) {
		char name[48];
		snprintf(name, sizeof(name), "left_to_interp.%s", kvm_mode_names[m]);
		row(out, name, SUM(left[m]));
	}
	row(out, "left_to_interp.tsc", SUM(tsc));
	row(out, "left_to_interp.inexpressible", SUM(other));
}
