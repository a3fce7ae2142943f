/* SPDX-License-Identifier: MIT */
/* MSRs that live in struct x86_cpu and that the kernel keeps while its guest runs, and the time-stamp counter. An MSR that this kernel
 * does not know stays in struct x86_cpu, and the guest's accesses to it come to us (KVM_CAP_X86_USER_SPACE_MSR). */
#include <errno.h>
#include <string.h>
#include "engine/kvm/kvm.h"

#define FIELD(name) offsetof(struct x86_cpu, name)

static const struct { uint32_t index, count, at; } known[] = {
	{ MSR_STAR, 1, FIELD(star) }, { MSR_LSTAR, 1, FIELD(lstar) }, { MSR_CSTAR, 1, FIELD(cstar) }, { MSR_SFMASK, 1, FIELD(sfmask) },
	{ MSR_KERNEL_GS_BASE, 1, FIELD(kernel_gs_base) }, { MSR_SYSENTER_CS, 1, FIELD(sysenter_cs) },
	{ MSR_SYSENTER_ESP, 1, FIELD(sysenter_esp) }, { MSR_SYSENTER_EIP, 1, FIELD(sysenter_eip) }, { MSR_PAT, 1, FIELD(pat) },
	{ MSR_MISC_ENABLE, 1, FIELD(misc_enable) }, { MSR_TSC_AUX, 1, FIELD(tsc_aux) }, { MSR_SPEC_CTRL, 1, FIELD(spec_ctrl) },
	{ MSR_TSC_ADJUST, 1, FIELD(tsc_adjust) },
	{ MSR_MTRR_DEF_TYPE, 1, FIELD(mtrr_def_type) }, { MSR_MTRR_PHYSBASE0, 16, FIELD(mtrr_var) },
	{ MSR_MTRR_FIX64K, 1, FIELD(mtrr_fixed[0]) }, { MSR_MTRR_FIX16K_80000, 2, FIELD(mtrr_fixed[1]) },
	{ MSR_MTRR_FIX4K, 8, FIELD(mtrr_fixed[3]) },
};

union msr_list {
	struct kvm_msrs of;
	uint8_t room[sizeof(struct kvm_msrs) + KVM_MSR_ROOM * sizeof(struct kvm_msr_entry)];
};

static uint64_t *field(struct x86_cpu *cpu, const struct kvm_vm *vm, unsigned n)
{
	return (uint64_t *)((char *)cpu + vm->msr_at[n]);
}

static int move(struct vcpu *vcpu, unsigned long request, union msr_list *list)
{
	const struct kvm_vm *vm = kvm_of(vcpu->vm);

	memset(list, 0, sizeof(*list));
	list->of.nmsrs = vm->msrs;
	for (unsigned n = 0; n < vm->msrs; n++) {
		list->of.entries[n].index = vm->msr[n];
		list->of.entries[n].data = *field(&vcpu->core.cpu, vm, n);
	}
	return vm->msrs ? kvm_call(kvm_vcpu_of(vcpu)->fd, request, list) : 0;
}

static void drop(struct kvm_vm *vm, unsigned n)
{
	vm->msrs--;
	memmove(&vm->msr[n], &vm->msr[n + 1], (vm->msrs - n) * sizeof(vm->msr[0]));
	memmove(&vm->msr_at[n], &vm->msr_at[n + 1], (vm->msrs - n) * sizeof(vm->msr_at[0]));
}

/* The kernel says how many it took before the first that it does not know: that one is dropped, and all are tried again. The reset values
 * must be accepted, too. */
void kvm_msr_init(struct vcpu *vcpu)
{
	struct kvm_vm *vm = kvm_of(vcpu->vm);
	union msr_list list;
	int done;

	if (!vm->msrs)
		for (unsigned n = 0; n < ARRAY_SIZE(known); n++)
			for (unsigned i = 0; i < known[n].count; i++) {
				vm->msr[vm->msrs] = known[n].index + i;
				vm->msr_at[vm->msrs++] = (uint16_t)(known[n].at + i * sizeof(uint64_t));
			}
	while ((done = move(vcpu, KVM_GET_MSRS, &list)) >= 0 && done < (int)vm->msrs)
		drop(vm, (unsigned)done);
	while ((done = move(vcpu, KVM_SET_MSRS, &list)) >= 0 && done < (int)vm->msrs)
		drop(vm, (unsigned)done);
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	vm->tsc_offset = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_HAS_DEVICE_ATTR, &attr) >= 0;
	int khz = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_TSC_KHZ, NULL), wanted = (int)(vcpu->vm->clock.tsc_hz / 1000);
	if (!vcpu->vm->clock.tsc_direct && khz > 0 && khz != wanted)
		kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)wanted);
}

/* --- the TSC: the guest's is the clock's plus the processor's offset; the clock's is the host's minus its origin --- */

static struct kvm_device_attr offset_attribute(uint64_t *offset)
{
	return (struct kvm_device_attr){ .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset };
}

static int move_tsc(struct vcpu *vcpu, unsigned long request, uint64_t *value)
{
	union msr_list one = { .of.nmsrs = 1 };
	int done;

	one.of.entries[0] = (struct kvm_msr_entry){ .index = MSR_TSC, .data = *value };
	done = kvm_call(kvm_vcpu_of(vcpu)->fd, request, &one);
	*value = one.of.entries[0].data;
	return MIN(done, 0);
}

static bool by_offset(const struct vcpu *vcpu)
{
	const struct kvm_vm *vm = kvm_of(vcpu->vm);

	return vm->tsc_offset && vm->found->tsc_moves && vcpu->vm->clock.tsc_direct;
}

static int load_tsc(struct vcpu *vcpu)
{
	uint64_t offset = vcpu->core.cpu.tsc_offset - vcpu->vm->clock.origin, now = clock_tsc(vcpu->vm) + vcpu->core.cpu.tsc_offset;
	struct kvm_device_attr attr = offset_attribute(&offset);

	if (!kvm_of(vcpu->vm)->found->tsc_moves)
		return 0; /* nor does the guest's: see kvm_modes.c */
	return by_offset(vcpu) ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_DEVICE_ATTR, &attr) : move_tsc(vcpu, KVM_SET_MSRS, &now);
}

/* A guest that wrote its TSC moved the offset. Where there is none to read, a guest's write is lost: reading the TSC itself
 * would let the clock drift with each change of engine. */
static int store_tsc(struct vcpu *vcpu)
{
	uint64_t offset = 0;
	struct kvm_device_attr attr = offset_attribute(&offset);
	int error = by_offset(vcpu) ? kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_GET_DEVICE_ATTR, &attr) : -ENOTSUP;

	if (error >= 0)
		vcpu->core.cpu.tsc_offset = offset + vcpu->vm->clock.origin;
	return error == -ENOTSUP ? 0 : MIN(error, 0);
}

int kvm_load_msrs(struct vcpu *vcpu)
{
	union msr_list list;
	int error = move(vcpu, KVM_SET_MSRS, &list);

	return error < 0 ? error : load_tsc(vcpu);
}

int kvm_store_msrs(struct vcpu *vcpu)
{
	const struct kvm_vm *vm = kvm_of(vcpu->vm);
	union msr_list list;
	int done = move(vcpu, KVM_GET_MSRS, &list);

	for (int n = 0; n < done; n++)
		*field(&vcpu->core.cpu, vm, (unsigned)n) = list.of.entries[n].data;
	return done < 0 ? done : store_tsc(vcpu);
}
