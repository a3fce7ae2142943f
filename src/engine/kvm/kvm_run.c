/* SPDX-License-Identifier: MIT */
/* Running: entries into the guest, and what its exits want. */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include "engine/kvm/kvm.h"
#include "util/log.h"
#include "x86/exec_system.h"

/* The flag first (it is set by now), then immediate_exit, then the core sends the signal: whether the thread is before, in or
 * after the ioctl, it comes back. */
void kvm_kick(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	if (k)
		__atomic_store_n(&k->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
}

/* --- exits --- */

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
	vcpu->core.stat.port_io += run->io.count;
	for (uint32_t n = 0; n < run->io.count; n++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			vcpu_env.io_write(&vcpu->core, SPACE_PORT, run->io.port, run->io.size, value_of(data, run->io.size));
		} else {
			uint64_t value = vcpu_env.io_read(&vcpu->core, SPACE_PORT, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		}
	}
}

/* The kernel hands over any length up to 8: odd ones come from accesses that cross a page. */
static void handle_mmio(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;

	k->stat.mmio++;
	vcpu->core.stat.mmio++;
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
}

/* What the kernel does not know is in struct x86_cpu, or belongs to the interrupt controller. */
static void handle_msr(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	struct kvm_run *run = k->run;
	bool write = run->exit_reason == KVM_EXIT_X86_WRMSR;
	uint64_t value = run->msr.data;
	bool known = write ? x86_msr_write(&vcpu->core, run->msr.index, value) : x86_msr_read(&vcpu->core, run->msr.index, &value);

	if (write && known && run->msr.index == MSR_APIC_BASE && kvm_of(vcpu->vm)->sync_regs) { /* CPUID tells its enable bit */
		run->s.regs.sregs.apic_base = value;
		run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
	}
	k->stat.msr++;
	trace(msr, "cpu%u %s %#x: %#lx%s", vcpu->index, write ? "wrmsr" : "rdmsr", run->msr.index, value, known ? "" : " #GP");
	run->msr.data = value;
	run->msr.error = !known; /* the kernel raises #GP */
}

/* What the guest asked a device; the kernel finishes the instruction at the next entry. False: it is another exit. */
static bool answer(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	switch (k->run->exit_reason) {
	case KVM_EXIT_IO: handle_io(vcpu, k); break;
	case KVM_EXIT_MMIO: handle_mmio(vcpu, k); break;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR: handle_msr(vcpu, k); break;
	default: return false;
	}
	k->completion = true;
	return true;
}

static int give_up(struct vcpu *vcpu, struct vm_exit *exit)
{
	kvm_failed(vcpu);
	exit->reason = VM_EXIT_MODE;
	return 1;
}

/* 0: enter again; 1: return to the core; or -errno. */
static int handle_exit(struct vcpu *vcpu, struct kvm_vcpu *k, const struct run_limit *limit, struct vm_exit *exit)
{
	struct kvm_run *run = k->run;

	if (answer(vcpu, k))
		return 0;
	switch (run->exit_reason) {
	case KVM_EXIT_HLT:
		vcpu->core.cpu.activity = X86_HALTED;
		exit->reason = VM_EXIT_HALT;
		return 1;
	case KVM_EXIT_SHUTDOWN:
		return give_up(vcpu, exit); /* a triple fault, or the kernel's emulator is lost: the interpreter finds out */
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		k->stat.window++;
		return 0;
	case KVM_EXIT_SET_TPR:
	case KVM_EXIT_INTR:
		return 0;
	case KVM_EXIT_DEBUG:
		exit->reason = VM_EXIT_LIMIT;
		return limit->step;
	case KVM_EXIT_INTERNAL_ERROR:
		if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION || run->internal.suberror == KVM_INTERNAL_ERROR_DELIVERY_EV)
			return give_up(vcpu, exit);
		log_error("kvm: internal error %u", run->internal.suberror);
		return -EIO;
	case KVM_EXIT_FAIL_ENTRY: /* a state that the guest made, and the processor does not take */
		trace(exit, "cpu%u kvm: the processor refuses to enter the guest, reason %#llx", vcpu->index,
		      run->fail_entry.hardware_entry_failure_reason);
		return give_up(vcpu, exit);
	default:
		log_error("kvm: exit %u that nobody expects", run->exit_reason);
		return -EIO;
	}
}

/* --- entries --- */

/* A state that the kernel does not take (CS with the L bit outside long mode, say, which a processor shrugs off) is like one that the processor
 * refuses. */
static void refuse(struct kvm_vcpu *k)
{
	k->run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	k->run->fail_entry.hardware_entry_failure_reason = 0;
}

/* What the kernel does not take from the shared page stays there, and is fetched from there. */
static int enter(struct kvm_vcpu *k)
{
	int result;

	k->run->kvm_valid_regs = KVM_SYNC_X86_VALID_FIELDS;
	result = ioctl(k->fd, KVM_RUN, 0) < 0 ? -errno : 0;
	k->current = true;
	if (result == -EINVAL && k->run->kvm_dirty_regs) {
		refuse(k);
		return 0;
	}
	k->run->kvm_dirty_regs = 0;
	k->completion = false;
	return result;
}

/* Between two parts of an instruction the kernel may want another answer: a REP INS, an access that crosses a page. */
int kvm_complete(struct vcpu *vcpu)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);

	while (k->completion) {
		int error;
		k->run->immediate_exit = 1;
		error = enter(k);
		if (error == -EINTR || error == -EAGAIN)
			return 0;
		if (error)
			return error;
		if (!answer(vcpu, k))
			break;
	}
	return 0;
}

/* Could the guest take an interrupt before its next instruction? The kernel told at the last exit, unless the state was loaded since. */
static bool accepts_interrupt(const struct vcpu *vcpu, const struct kvm_vcpu *k)
{
	const struct x86_cpu *cpu = &vcpu->core.cpu;
	const struct kvm_sync_regs *s = &k->run->s.regs;

	if (!k->run->kvm_dirty_regs)
		return k->current ? k->run->ready_for_interrupt_injection
				  : (cpu->rflags & FLAG_IF) && !cpu->interrupt_shadow && !cpu->event_pending;
	return (s->regs.rflags & FLAG_IF) && !s->events.interrupt.shadow && !s->events.interrupt.injected && !s->events.exception.injected &&
	       !s->events.nmi.injected;
}

static int inject(struct vcpu *vcpu, struct kvm_vcpu *k, int vector)
{
	struct kvm_interrupt interrupt = { .irq = (uint32_t)vector };

	vcpu->core.stat.interrupt++;
	k->run->ready_for_interrupt_injection = 0;
	if (!kvm_of(vcpu->vm)->sync_regs)
		return kvm_call(k->fd, KVM_INTERRUPT, &interrupt);
	k->run->s.regs.events.interrupt.injected = 1;
	k->run->s.regs.events.interrupt.nr = (uint8_t)vector;
	k->run->s.regs.events.interrupt.soft = 0;
	k->run->s.regs.events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	k->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
	return 0;
}

/* Injects an interrupt if the guest can take one now, else asks to be told when it can. */
static int offer_interrupt(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	struct irq *irq = &vcpu->vm->irq;
	int vector, error;

	k->run->request_interrupt_window = 0;
	if (!vcpu->intr_pending || kvm_of(vcpu->vm)->chips_inside)
		return 0;
	if (k->completion || !accepts_interrupt(vcpu, k)) {
		k->run->request_interrupt_window = 1;
		return 0;
	}
	vector = irq->controller ? irq->controller->acknowledge(irq->controller_device, vcpu) : -1;
	if (vector < 0)
		return 0;
	error = inject(vcpu, k, vector);
	k->run->request_interrupt_window = vcpu->intr_pending;
	return error;
}

/* The kernel steps from where the processor is when it is told to: so registers that were loaded and not taken yet go first, by an entry that
 * runs nothing. */
static int step(struct kvm_vcpu *k, bool on)
{
	struct kvm_guest_debug debug = { .control = on ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 };
	int error = 0;

	if (on && k->run->kvm_dirty_regs) {
		k->run->immediate_exit = 1;
		error = enter(k);
	}
	return error && error != -EINTR && error != -EAGAIN ? error : kvm_call(k->fd, KVM_SET_GUEST_DEBUG, &debug);
}

/* CR8 and the task priority are one register: the LAPIC has it. */
static int enter_once(struct vcpu *vcpu, struct kvm_vcpu *k)
{
	uint64_t cr8;
	int error;

	k->stat.runs++;
	if (kvm_of(vcpu->vm)->chips_inside)
		return enter(k);
	k->run->cr8 = cr8 = vcpu_env.cr8_read(&vcpu->core);
	error = enter(k);
	if (k->run->cr8 != cr8)
		vcpu_env.cr8_write(&vcpu->core, k->run->cr8);
	return error;
}

/* The instruction that asked a device is finished first: the chips move between two instructions. */
static int swap(struct vcpu *vcpu, struct vm_exit *exit)
{
	int error = kvm_complete(vcpu);

	kvm_swap(vcpu);
	exit->reason = VM_EXIT_MODE;
	return error ? error : 1;
}

static int run_loop(struct vcpu *vcpu, struct kvm_vcpu *k, const struct run_limit *limit, struct vm_exit *exit)
{
	const struct kvm_vm *vm = kvm_of(vcpu->vm);
	int result;

	do {
		/* A kick from here on sets it again; one before it is seen below. One whose flag the core took already, while its sender had
		 * not come to this, would turn us back for ever. */
		__atomic_store_n(&k->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		atomic_thread_fence(memory_order_seq_cst);
		if (vcpu->kicked) {
			exit->reason = VM_EXIT_KICK;
			return 0;
		}
		result = offer_interrupt(vcpu, k);
		if (result)
			return result;
		result = enter_once(vcpu, k);
		if (!result) {
			result = handle_exit(vcpu, k, limit, exit);
			if (!result && unlikely(vm->swap) && k->stat.runs % vm->swap == 0)
				result = swap(vcpu, exit);
		} else if (result == -EINTR || result == -EAGAIN) {
			k->stat.interrupted++;
			result = 0;
		}
	} while (!result);
	return MIN(result, 0);
}

int kvm_run_vcpu(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	int error = 0;

	kvm_entered(k);
	if (k->refused) {
		vcpu_changed(vcpu, k->refused);
		k->refused = 0;
		refuse(k);
		give_up(vcpu, exit);
		return 0;
	}
	if (limit->step)
		error = step(k, true);
	if (error >= 0)
		error = run_loop(vcpu, k, limit, exit);
	if (limit->step)
		step(k, false);
	return MIN(error, 0);
}
