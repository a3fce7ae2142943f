/* SPDX-License-Identifier: MIT */
/* Running: entries into the guest, and what its exits want. The interrupt controller is asked before each entry. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "engine/kvm/kvm.h"
#include "util/log.h"

/* The flag first (it is set by now), then immediate_exit, then the core sends the signal: whether the thread is before, in or
 * after the ioctl, it comes back. */
void kvm_kick(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (k)
		__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

int kvm_complete(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (!k->completion)
		return 0;
	k->run->immediate_exit = 1;
	if (ioctl(k->fd, KVM_RUN, 0) < 0 && errno != EINTR && errno != EAGAIN)
		return -errno;
	k->completion = false;
	return 0;
}

static uint64_t value_of(const void *data, unsigned size)
{
	uint64_t value = 0;

	memcpy(&value, data, MIN(size, 8u));
	return value;
}

static void handle_io(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	k->stat.io++;
	for (uint32_t n = 0; n < run->io.count; n++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			vcpu_env.io_write(&vcpu->core, SPACE_PORT, run->io.port, run->io.size, value_of(data, run->io.size));
		} else {
			uint64_t value = vcpu_env.io_read(&vcpu->core, SPACE_PORT, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		}
	}
	k->completion = true;
}

/* The kernel hands over any length up to 8: odd ones come from accesses that cross a page. */
static void handle_mmio(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;

	k->stat.mmio++;
	for (uint32_t at = 0, size; at < run->mmio.len; at += size) {
		uint64_t address = run->mmio.phys_addr + at;
		for (size = 8; size > run->mmio.len - at || (size > 1 && size != run->mmio.len && (address & (size - 1))); size /= 2)
			;
		if (run->mmio.is_write) {
			vcpu_env.io_write(&vcpu->core, SPACE_MEMORY, address, size, value_of(run->mmio.data + at, size));
		} else {
			uint64_t value = vcpu_env.io_read(&vcpu->core, SPACE_MEMORY, address, size);
			memcpy(run->mmio.data + at, &value, size);
		}
	}
	k->completion = true;
}

static void handle_msr(struct vcpu *vcpu, struct kvm_vcpu *k, bool write)
{
	struct kvm_run *run = k->run;
	uint64_t value = run->msr.data;
	bool ok = write ? vcpu_env.wrmsr(&vcpu->core, run->msr.index, value) : vcpu_env.rdmsr(&vcpu->core, run->msr.index, &value);

	k->stat.msr++;
	trace(msr, "cpu%u %s %#x: %#lx%s", vcpu->index, write ? "wrmsr" : "rdmsr", run->msr.index, value, ok ? "" : " #GP");
	run->msr.data = value;
	run->msr.error = !ok; /* the kernel raises #GP */
	k->completion = true;
}

/* Injects an interrupt if the guest can take one now, else asks to be told when it can. */
static int offer_interrupt(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	struct irq *irq = &vcpu->vm->irq;
	struct kvm_run *run = k->run;

	run->request_interrupt_window = 0;
	if (!vcpu->intr_pending)
		return 0;
	if (!run->ready_for_interrupt_injection) {
		run->request_interrupt_window = 1;
		return 0;
	}
	int vector = irq->controller ? irq->controller->acknowledge(irq->controller_device, vcpu) : -1;
	if (vector < 0)
		return 0;
	struct kvm_interrupt interrupt = { .irq = (uint32_t)vector };
	vcpu->core.stat.interrupt++;
	run->ready_for_interrupt_injection = 0;
	run->request_interrupt_window = vcpu->intr_pending;
	return kvm_call(k->fd, KVM_INTERRUPT, &interrupt);
}

static int give_up(struct vcpu *vcpu, struct kvm_vcpu *k, struct vm_exit *exit)
{
	k->stat.emulation_failed++;
	k->give_up = true;
	k->completion = false;
	exit->reason = VM_EXIT_MODE;
	trace(exit, "cpu%u kvm: the kernel cannot emulate an instruction", vcpu->index);
	return 1;
}

/* 0: enter again; 1: return to the core; or -errno. */
static int handle_exit(struct vcpu *vcpu, struct kvm_vcpu *k, struct vm_exit *exit)
{
	struct kvm_run *run = k->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu, k);
		return 0;
	case KVM_EXIT_MMIO:
		handle_mmio(vcpu, k);
		return 0;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		handle_msr(vcpu, k, run->exit_reason == KVM_EXIT_X86_WRMSR);
		return 0;
	case KVM_EXIT_HLT:
		vcpu->core.cpu.activity = X86_HALTED;
		exit->reason = VM_EXIT_HALT;
		return 1;
	case KVM_EXIT_SHUTDOWN:
		vcpu->core.cpu.activity = X86_SHUTDOWN;
		exit->reason = VM_EXIT_SHUTDOWN;
		return 1;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		k->stat.window++;
		return 0;
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_INTR:
		return 0;
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION || run->internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV)
			return give_up(vcpu, k, exit);
		log_error("kvm: internal error %u", run->internal.suberror);
		return -EIO;
	case KVM_EXIT_FAIL_ENTRY:
		log_error("kvm: the processor refused to enter the guest, reason %#llx", run->fail_entry.hardware_entry_failure_reason);
		return -EIO;
	default:
		log_error("kvm: exit %u that nobody expects", run->exit_reason);
		return -EIO;
	}
}

/* CR8 and the task priority are one register: the LAPIC has it. */
static void cr8_out(struct vcpu *vcpu, struct kvm_vcpu *k, uint64_t before)
{
	if (k->run->cr8 != before)
		vcpu_env.cr8_write(&vcpu->core, k->run->cr8);
}

int kvm_run_vcpu(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	struct x86_cpu *cpu = &vcpu->core.cpu;
	int result = 0;

	k->run->immediate_exit = 0;
	atomic_thread_fence(memory_order_seq_cst); /* a kick from here on sets it again; one before it is seen below */
	if (cpu->nmi_pending) {
		cpu->nmi_pending = 0;
		result = kvm_call(k->fd, KVM_NMI, NULL);
	}
	while (!result) {
		uint64_t cr8;
		int entered;

		if (vcpu->kicked) {
			exit->reason = VM_EXIT_KICK;
			return 0;
		}
		result = offer_interrupt(vcpu, k);
		if (result)
			break;
		k->run->cr8 = cr8 = vcpu_env.cr8_read(&vcpu->core);
		entered = ioctl(k->fd, KVM_RUN, 0);
		k->completion = false;
		k->stat.reentered++;
		cr8_out(vcpu, k, cr8);
		if (entered < 0 && (errno == EINTR || errno == EAGAIN)) {
			k->stat.interrupted++;
			continue;
		}
		if (entered < 0)
			return -errno;
		result = handle_exit(vcpu, k, exit);
	}
	return MIN(result, 0);
}
