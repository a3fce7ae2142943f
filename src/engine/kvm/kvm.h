/* SPDX-License-Identifier: MIT */
/* Inside the KVM engine: what its files share. Follows Linux's Documentation/virt/kvm/api.rst. */
#pragma once
#include <linux/kvm.h>
#include "engine/engine.h"

#define KVM_SLOT 1        /* vcpu->engine_data[] */
#define KVM_MAX_SLOTS 64  /* memory regions that the kernel is told of */

struct kvm_vm {
	int system, fd;                /* /dev/kvm, the VM */
	size_t run_size;               /* of struct kvm_run's mapping */
	unsigned slots;                /* memory slots in use */
	gpa_t slot_start[KVM_MAX_SLOTS];
};

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;           /* shared with the kernel */
	bool completion;               /* an I/O exit was answered: the kernel finishes the instruction at the next entry */
	bool give_up;                  /* the kernel cannot run the next instruction: the interpreter's turn */
	bool tsc_attribute;            /* the kernel lets us set the TSC's offset */
	struct {
		uint64_t io, mmio, msr, emulation_failed, window, interrupted, reentered;
	} stat;
};

static inline struct kvm_vm *kvm_of(struct vm *vm)
{
	return vm->engine_data;
}
static inline struct kvm_vcpu *kvm_vcpu_of(const struct vcpu *vcpu)
{
	return vcpu->engine_data[KVM_SLOT];
}

/* ioctl that restarts after EINTR; 0 or more, or -errno. */
int kvm_call(int fd, unsigned long request, const void *argument);

/* kvm_state.c -- the engine's load_state and store_state. */
int kvm_load_state(struct vcpu *, unsigned groups);
int kvm_store_state(struct vcpu *, unsigned groups);
/* Lets the kernel finish an instruction whose I/O was answered, without running another. */
int kvm_complete(struct vcpu *);

/* kvm_run.c */
int kvm_run_vcpu(struct vcpu *, const struct run_limit *, struct vm_exit *);
void kvm_kick(struct vcpu *);

/* kvm_probe.c -- what /dev/kvm is, and how fast. */
int kvm_probe(struct engine_report *);
