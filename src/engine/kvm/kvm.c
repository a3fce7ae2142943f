/* SPDX-License-Identifier: MIT */
/* The hardware-assisted engine, through Linux's KVM: the VM and its options. Follows Documentation/virt/kvm/api.rst. */
#include "engine/kvm/kvm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "util/log.h"
#include "util/options.h"

/* Four pages that the kernel needs on some processors for real mode, below the firmware and above all devices. */
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

int kvm_has(int fd, int capability)
{
	return MAX(kvm_call(fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability), 0);
}

static int enable(struct kvm_vm *k, unsigned capability, uint64_t argument)
{
	struct kvm_enable_cap cap = { .cap = capability, .args[0] = argument };

	return kvm_has(k->fd, (int)capability) ? kvm_call(k->fd, KVM_ENABLE_CAP, &cap) : -ENOTSUP;
}

/* MSRs that our interrupt controller answers although the kernel knows them, too; and those that the kernel does not know. */
static int route_msrs(struct kvm_vm *k)
{
	static uint8_t denied[8]; /* a clear bit denies: the access comes to us */
	static const uint32_t ours[] = { MSR_APIC_BASE, MSR_TSC_DEADLINE };
	struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	uint64_t reasons = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL | (k->irqchip ? 0 : KVM_MSR_EXIT_REASON_FILTER);
	int error = enable(k, KVM_CAP_X86_USER_SPACE_MSR, reasons);

	if (k->irqchip)
		return error == -ENOTSUP ? 0 : error; /* an older kernel answers the few that it does not know with #GP */
	if (error == -ENOTSUP || !kvm_has(k->fd, KVM_CAP_X86_MSR_FILTER)) {
		log_error("irqchip=user needs Linux 5.10 or later on this host; try --engine kvm,irqchip=kernel");
		return -ENOTSUP;
	}
	for (unsigned n = 0; n < ARRAY_SIZE(ours); n++)
		filter.ranges[n] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = ours[n], .nmsrs = 1, .bitmap = denied,
		};
	return error < 0 ? error : kvm_call(k->fd, KVM_X86_SET_MSR_FILTER, &filter);
}

static void find_capabilities(struct kvm_vm *k)
{
	int size = kvm_has(k->fd, KVM_CAP_XSAVE2);

	k->xsave_size = MAX((size_t)size, sizeof(struct kvm_xsave));
	k->sync_regs = (kvm_has(k->fd, KVM_CAP_SYNC_REGS) & KVM_SYNC_X86_VALID_FIELDS) == KVM_SYNC_X86_VALID_FIELDS;
	k->sregs2 = kvm_has(k->fd, KVM_CAP_SREGS2);
	/* Without it a failure in user mode is #UD there, although the processor has the instruction. */
	k->insn_bytes = enable(k, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1) >= 0;
}

/* "irqchip=user,modes=all" */
static int take_options(struct kvm_vm *k, const char *options)
{
	char word[64];

	while (options && option_word(&options, word, sizeof(word))) {
		if (!strcmp(word, "modes=all") || !strcmp(word, "modes=fast")) {
			k->all_modes = !strcmp(word, "modes=all");
		} else if (!strcmp(word, "irqchip=user") || !strcmp(word, "irqchip=kernel")) {
			k->irqchip = !strcmp(word, "irqchip=kernel");
		} else if (!strncmp(word, "swap=", 5) && !option_number(word + 5, &k->swap)) {
			continue; /* for tests */
		} else {
			log_error("engine kvm has no option '%s'; it has irqchip=kernel|user and modes=fast|all", word);
			return -EINVAL;
		}
	}
	return 0;
}

static int check_options(const char *options)
{
	struct kvm_vm scratch = { 0 };

	return take_options(&scratch, options);
}

static int open_vm(struct kvm_vm *k)
{
	uint64_t identity = IDENTITY_MAP_ADDRESS;
	int error;

	k->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (k->system < 0)
		return -errno;
	k->fd = error = kvm_call(k->system, KVM_CREATE_VM, NULL);
	if (error < 0)
		return error;
	error = kvm_call(k->system, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (error < 0)
		return error;
	k->run_size = (size_t)error;
	error = kvm_call(k->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	return error < 0 ? error : kvm_call(k->fd, KVM_SET_TSS_ADDR, (void *)TSS_ADDRESS);
}

static void kvm_vm_fini(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);

	if (!k)
		return;
	kvm_memory_fini(vm);
	if (k->fd >= 0)
		close(k->fd);
	if (k->system >= 0)
		close(k->system);
	free(k);
	vm->engine_data[KVM_SLOT] = NULL;
}

static int kvm_vm_init(struct vm *vm)
{
	struct kvm_vm *k = calloc(1, sizeof(*k));
	int error;

	if (!k)
		return -ENOMEM;
	k->fd = k->system = -1;
	k->found = kvm_find_out();
	vm->engine_data[KVM_SLOT] = k;
	k->irqchip = k->found->hardware; /* elsewhere processors would go in and out all the time, and the chips with them */
	error = take_options(k, vm->engine_options[KVM_SLOT]);
	if (!error)
		error = open_vm(k);
	if (error >= 0) {
		find_capabilities(k);
		error = route_msrs(k);
		if (error >= 0 && k->irqchip)
			error = kvm_chips_create(k);
	}
	if (error >= 0)
		error = kvm_memory_init(vm);
	if (error >= 0) {
		kvm_modes_init(k);
		vm->tsc_is_host = k->runs && !k->found->tsc_moves;
		error = kvm_limit_model(vm);
	}
	if (error >= 0)
		return 0;
	if (error != -EINVAL && error != -ENOTSUP)
		log_error("cannot make a VM with /dev/kvm: %s; try --engine interp", strerror(-error));
	kvm_vm_fini(vm);
	return error;
}

/* While another engine had the processors the guest changed its page tables, and the kernel did not look. With nested paging only the processors'
 * own translations are stale: they go as the state is loaded. */
static int kvm_take_over(struct vm *vm)
{
	if (kvm_of(vm)->found->keeps_tables)
		return MIN(kvm_forget_tables(vm), 0);
	for (unsigned i = 0; i < vm->config.cpus; i++)
		kvm_vcpu_of(vm->vcpu[i])->flush = true;
	return 0;
}

const struct engine kvm_engine = {
	.name = "kvm",
	.summary = "hardware assisted, through Linux's KVM",
	.slot = KVM_SLOT,
	.preference = 30,
	.check_options = check_options,
	.writes_unseen = true,
	.probe = kvm_probe,
	.vm_init = kvm_vm_init,
	.vm_fini = kvm_vm_fini,
	.vcpu_init = kvm_vcpu_init,
	.vcpu_fini = kvm_vcpu_fini,
	.take_over = kvm_take_over,
	.can_run = kvm_can_run,
	.run = kvm_run_vcpu,
	.kick = kvm_kick,
	.load_state = kvm_load_state,
	.store_state = kvm_store_state,
	.tlb_flush = kvm_tlb_flush,
	.memory_changed = kvm_memory_changed,
	.doorbell = kvm_doorbell,
	.dirty_log = kvm_dirty_log,
	.stats = kvm_stats,
};
ENGINE(kvm_engine);
