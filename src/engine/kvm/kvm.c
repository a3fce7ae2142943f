/* SPDX-License-Identifier: MIT */
/* The hardware-assisted engine, through Linux's KVM: the VM, its memory slots, CPUID. The interrupt chips stay in this process, so that
 * they are the same devices under every engine. Follows Documentation/virt/kvm/api.rst. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "engine/kvm/kvm.h"
#include "util/log.h"
#include "x86/cpuid.h"

/* Three pages that the kernel needs on some processors for real mode, below the firmware and above all devices. */
#define TSS_ADDRESS 0xfffbd000UL
#define IDENTITY_MAP_ADDRESS 0xfffbc000ULL

int kvm_call(int fd, unsigned long request, const void *argument)
{
	int result;

	do
		result = ioctl(fd, request, argument);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : result;
}

/* --- memory --- */

static int set_slot(struct kvm_vm *k, unsigned slot, const struct memory_region *r, struct memory *m)
{
	struct kvm_userspace_memory_region region = { .slot = slot };

	if (r) {
		region.guest_phys_addr = r->start;
		region.memory_size = r->size;
		region.userspace_addr = (uintptr_t)(m->host + r->offset);
		region.flags = r->kind == MEMORY_RAM ? 0 : KVM_MEM_READONLY;
	}
	return kvm_call(k->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

/* The memory map changed: at a safe point. All slots are made anew, since regions may have been split. */
static int kvm_memory_changed(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);
	const struct memory_map *map = vm->memory.map;
	int error = 0;

	if (!k || !map)
		return 0;
	for (; k->slots && error >= 0; k->slots--)
		error = set_slot(k, k->slots - 1, NULL, NULL);
	if (map->count > KVM_MAX_SLOTS)
		return -E2BIG;
	for (; k->slots < map->count && error >= 0; k->slots++)
		error = set_slot(k, k->slots, &map->region[k->slots], &vm->memory);
	return MIN(error, 0);
}

/* --- the VM --- */

/* MSRs that our interrupt controller answers although the kernel knows them, too. */
static int route_msrs(struct kvm_vm *k)
{
	static uint8_t denied[8] = { 0 }; /* a clear bit denies: the access comes to us */
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_INVAL,
	};
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	static const uint32_t ours[] = { MSR_APIC_BASE, MSR_TSC_DEADLINE };
	int error = kvm_call(k->fd, KVM_ENABLE_CAP, &cap);

	for (unsigned n = 0; n < ARRAY_SIZE(ours); n++)
		filter.ranges[n] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = ours[n], .nmsrs = 1, .bitmap = denied,
		};
	return error < 0 ? error : kvm_call(k->fd, KVM_X86_SET_MSR_FILTER, &filter);
}

static int kvm_vm_init(struct vm *vm)
{
	struct kvm_vm *k = calloc(1, sizeof(*k));
	uint64_t identity = IDENTITY_MAP_ADDRESS;
	int error;

	if (!k)
		return -ENOMEM;
	k->fd = -1;
	k->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	error = k->system < 0 ? -errno : kvm_call(k->system, KVM_CREATE_VM, NULL);
	if (error < 0)
		goto fail;
	k->fd = error;
	error = kvm_call(k->system, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (error < 0)
		goto fail;
	k->run_size = (size_t)error;
	error = kvm_call(k->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (error >= 0)
		error = kvm_call(k->fd, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS);
	if (error >= 0)
		error = route_msrs(k);
	if (error < 0)
		goto fail;
	vm->engine_data = k;
	error = kvm_memory_changed(vm);
	if (error < 0) {
		vm->engine_data = NULL;
		goto fail;
	}
	return 0;
fail:
	log_error("cannot make a VM with /dev/kvm: %s; try --engine interp", strerror(-error));
	if (k->fd >= 0)
		close(k->fd);
	if (k->system >= 0)
		close(k->system);
	free(k);
	return error;
}

static void kvm_vm_fini(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);

	if (!k)
		return;
	close(k->fd);
	close(k->system);
	free(k);
	vm->engine_data = NULL;
}

/* --- processors --- */

/* Leaves with their subleaves, from the same model as every other engine's. */
static unsigned add_leaf(struct x86_core *core, struct kvm_cpuid_entry2 *e, unsigned n, unsigned room, uint32_t leaf, uint32_t subleaves)
{
	for (uint32_t sub = 0; sub < MAX(subleaves, 1u) && n < room; sub++) {
		struct x86_cpuid_leaf l = x86_cpuid(core, leaf, sub);
		e[n++] = (struct kvm_cpuid_entry2){
			.function = leaf, .index = sub, .flags = subleaves ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = l.eax, .ebx = l.ebx, .ecx = l.ecx, .edx = l.edx,
		};
	}
	return n;
}

#define CPUID_ROOM 100

static int set_cpuid(struct vcpu *vcpu)
{
	static const uint32_t bases[] = { 0, 0x40000000, 0x80000000 };
	struct kvm_cpuid2 *list = calloc(1, sizeof(*list) + CPUID_ROOM * sizeof(list->entries[0]));
	unsigned n = 0;
	int error;

	if (!list)
		return -ENOMEM;
	for (unsigned b = 0; b < ARRAY_SIZE(bases); b++) {
		uint32_t last = x86_cpuid(&vcpu->core, bases[b], 0).eax;
		for (uint32_t leaf = bases[b]; leaf <= last && leaf - bases[b] < 0x40; leaf++)
			n = add_leaf(&vcpu->core, list->entries, n, CPUID_ROOM, leaf,
				     leaf == 4 ? 5 : leaf == 7 ? 1 : leaf == 0xb ? 3 : leaf == 0xd ? 3 : 0);
	}
	list->nent = n;
	error = kvm_call(kvm_vcpu_of(vcpu)->fd, KVM_SET_CPUID2, list);
	free(list);
	return error;
}

static int kvm_vcpu_init(struct vcpu *vcpu)
{
	struct kvm_vm *vm = kvm_of(vcpu->vm);
	struct kvm_vcpu *k = calloc(1, sizeof(*k));
	int error;

	if (!k)
		return -ENOMEM;
	vcpu->engine_data[KVM_SLOT] = k;
	k->run = MAP_FAILED;
	k->fd = error = kvm_call(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)vcpu->index);
	if (error < 0)
		goto fail;
	k->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (k->run == MAP_FAILED) {
		error = -errno;
		goto fail;
	}
	error = set_cpuid(vcpu);
	if (error < 0)
		goto fail;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
	k->tsc_attribute = kvm_call(k->fd, KVM_HAS_DEVICE_ATTR, &attr) >= 0;
	return 0;
fail:
	log_error("cannot make processor %u with /dev/kvm: %s; try --engine interp", vcpu->index, strerror(-error));
	return error;
}

static void kvm_vcpu_fini(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (!k)
		return;
	if (k->run != MAP_FAILED)
		munmap(k->run, kvm_of(vcpu->vm)->run_size);
	if (k->fd >= 0)
		close(k->fd);
	free(k);
	vcpu->engine_data[KVM_SLOT] = NULL;
}

/* Every mode; not the instruction that the kernel just gave up on. Asked once after that, the answer is no: the interpreter
 * then runs a stretch. */
static bool kvm_can_run(const struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	bool can = !k->give_up;

	k->give_up = false;
	return can;
}

static void kvm_stats(struct vm *vm, FILE *out)
{
	struct kvm_vcpu sum = { 0 };

	for (unsigned n = 0; n < vm->config.cpus; n++) {
		struct kvm_vcpu *k = kvm_vcpu_of(vm->vcpu[n]);
		sum.stat.io += k->stat.io;
		sum.stat.mmio += k->stat.mmio;
		sum.stat.msr += k->stat.msr;
		sum.stat.emulation_failed += k->stat.emulation_failed;
		sum.stat.window += k->stat.window;
		sum.stat.interrupted += k->stat.interrupted;
		sum.stat.reentered += k->stat.reentered;
	}
	fprintf(out, "kvm.io %lu\n", sum.stat.io);
	fprintf(out, "kvm.mmio %lu\n", sum.stat.mmio);
	fprintf(out, "kvm.msr %lu\n", sum.stat.msr);
	fprintf(out, "kvm.emulation_failed %lu\n", sum.stat.emulation_failed);
	fprintf(out, "kvm.interrupt_window %lu\n", sum.stat.window);
	fprintf(out, "kvm.interrupted %lu\n", sum.stat.interrupted);
	fprintf(out, "kvm.reentered %lu\n", sum.stat.reentered);
}

const struct engine kvm_engine = {
	.name = "kvm",
	.summary = "hardware assisted, through Linux's KVM",
	.slot = KVM_SLOT,
	.preference = 30,
	.probe = kvm_probe,
	.vm_init = kvm_vm_init,
	.vm_fini = kvm_vm_fini,
	.vcpu_init = kvm_vcpu_init,
	.vcpu_fini = kvm_vcpu_fini,
	.can_run = kvm_can_run,
	.run = kvm_run_vcpu,
	.kick = kvm_kick,
	.load_state = kvm_load_state,
	.store_state = kvm_store_state,
	.memory_changed = kvm_memory_changed,
	.stats = kvm_stats,
};
ENGINE(kvm_engine);
