/* SPDX-License-Identifier: MIT */
/* Doorbells as the kernel's ioeventfds: a guest's write there costs it a look into the kernel, and no way to the monitor and back. There is no part for
 * irqfd: an interrupt that the monitor itself raises is one system call either way (KVM_IRQ_LINE, KVM_SIGNAL_MSI); it is for those that the
 * kernel raises on behalf of others (vhost, VFIO), which doppel does not use. */
#include <string.h>
#include "engine/kvm/kvm.h"
#include "util/log.h"

void kvm_doorbell(struct vm *vm, const struct doorbell *b)
{
	const struct kvm_vm *k = kvm_of(vm);
	struct kvm_ioeventfd e = {
		.addr = b->address, .fd = b->ready.fd, /* of any length, with any value */
		.flags = (b->space == BUS_PORT ? KVM_IOEVENTFD_FLAG_PIO : 0) | (b->placed ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};
	int error;

	if (!kvm_has(k->fd, KVM_CAP_IOEVENTFD_ANY_LENGTH))
		return;
	error = kvm_call(k->fd, KVM_IOEVENTFD, &e);
	if (error < 0 && b->placed) /* it works without, too */
		trace(mmio, "kvm: no ioeventfd at %#lx: %s", b->address, strerror(-error));
}
