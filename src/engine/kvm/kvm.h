/* SPDX-License-Identifier: MIT */
/* Inside the KVM engine: what its files share. Follows Linux's Documentation/virt/kvm/api.rst.
 *
 * /dev/kvm is not one thing. With hardware behind it all modes of the processor run natively. Old hardware leaves real mode to an
 * emulator in the kernel; a host that is itself a virtual machine without nested virtualization may have a stand-in that
 * emulates all but 64-bit user mode, a hundred times slower than the interpreter, and gives up on what that emulator does not know. So each
 * mode is tried once, in a guest of a few bytes (kvm_trial.c), and kvm_modes.c decides by what was found. */
#pragma once
#include <linux/kvm.h>
#include "engine/engine.h"

#define KVM_SLOT 1        /* engine_data[] */
#define KVM_REGIONS 64    /* memory regions that the kernel is told of */
#define KVM_MSR_ROOM 64

/* The modes that are tried apart: hosts differ in them. */
enum kvm_mode { KVM_REAL, KVM_V86, KVM_FLAT, KVM_PAGED, KVM_PAGED_USER, KVM_LONG, KVM_LONG_USER, KVM_COMPATIBLE, KVM_MODES };
extern const char *const kvm_mode_names[KVM_MODES];

/* What /dev/kvm is, found by trial. */
struct kvm_found {
	int error;                     /* it cannot be used: -errno */
	double mips[KVM_MODES];        /* million instructions a second of a loop, by processor time; 0: the mode does not work */
	unsigned native;               /* bit by enum kvm_mode: so fast that the host's processor itself runs the loop */
	bool keeps_tables;             /* it does not see changes of page tables that others than the guest make */
	bool tsc_moves;                /* the guest's TSC may be another than the host's */
	bool hardware;                 /* all modes that a kernel of today uses are native */
	char driver[24];               /* the module behind it: kvm_intel, kvm_amd, ... or empty */
};

struct kvm_slot {
	gpa_t start;
	uint64_t size, offset;         /* in the memfd; size 0: the slot is free */
	bool readonly, logged;
};

struct kvm_vm {
	int system, fd;                /* /dev/kvm, the VM */
	size_t run_size;               /* of struct kvm_run's mapping */
	size_t xsave_size;             /* of the XSAVE area that the kernel takes and gives */
	bool sync_regs, sregs2, tsc_offset, insn_bytes;
	bool all_modes;                /* --engine kvm,modes=all: the slow ones too */
	uint64_t swap;                 /* --engine kvm,swap=N: the interpreter gets a stretch after N entries, to test the change */
	bool irqchip;                  /* the interrupt chips are in the kernel while it runs processors */
	bool chips_inside;             /* they are there now; changes at safe points */
	uint64_t chips_out_until;      /* host ns: so long they stay outside */
	uint64_t chips_moves;
	const struct kvm_found *found;
	unsigned runs;                 /* bit by enum kvm_mode: it is worth running */
	uint8_t *view;                 /* the memfd as the kernel's slots see it */
	struct kvm_slot slot[KVM_REGIONS];
	bool logging;                  /* slots have a dirty log */
	uint32_t msr[KVM_MSR_ROOM];    /* those in struct x86_cpu that this kernel keeps; msr_at: where */
	uint16_t msr_at[KVM_MSR_ROOM];
	unsigned msrs;
};

#define KVM_FAILURE_NAMES 48

struct kvm_vcpu {
	int fd;
	struct kvm_run *run;           /* shared with the kernel */
	bool completion;               /* an I/O exit was answered: the kernel finishes the instruction at the next entry */
	bool flush;                    /* translations changed while the kernel did not look */
	bool current;                  /* run->s.regs has the registers as they are */
	unsigned refused;              /* groups that the kernel would not take when they were loaded: core.cpu has them */
	uint64_t interp_until;         /* instructions; until then the interpreter goes on */
	uint64_t stretch;              /* how many it is given after a failure */
	uint64_t entered;              /* host time when run() was entered, ns */
	struct {
		uint64_t runs, io, mmio, msr, window, interrupted, failed, left[KVM_MODES], tsc, other;
		struct { const char *name; uint64_t count; } failure[KVM_FAILURE_NAMES]; /* by mnemonic */
	} stat;
};

static inline struct kvm_vm *kvm_of(struct vm *vm)
{
	return vm->engine_data[KVM_SLOT];
}
static inline struct kvm_vcpu *kvm_vcpu_of(const struct vcpu *vcpu)
{
	return vcpu->engine_data[KVM_SLOT];
}

extern const struct engine kvm_engine;

/* kvm.c -- ioctl that restarts after EINTR; 0 or more, or -errno. */
int kvm_call(int fd, unsigned long request, const void *argument);
int kvm_has(int fd, int capability);

/* kvm_memory.c -- the map of memory as slots. At a safe point. */
int kvm_memory_init(struct vm *);
void kvm_memory_fini(struct vm *);
int kvm_memory_changed(struct vm *);
/* Any time: the kernel forgets the page tables that it made after the guest's. */
int kvm_forget_tables(struct vm *);
int kvm_dirty_log(struct vm *, const struct memory_region *, uint64_t *bitmap);

/* kvm_doorbell.c -- The kernel answers writes there without leaving to us. */
void kvm_doorbell(struct vm *, const struct doorbell *);

/* kvm_vcpu.c */
int kvm_vcpu_init(struct vcpu *);
void kvm_vcpu_fini(struct vcpu *);
/* Takes out of the model what this kernel cannot do. -ENOTSUP, after an error, when the machine has it already. */
int kvm_limit_model(struct vm *);

/* kvm_state.c -- the engine's load_state and store_state. */
int kvm_load_state(struct vcpu *, unsigned groups);
int kvm_store_state(struct vcpu *, unsigned groups);
void kvm_tlb_flush(struct vcpu *, enum x86_flush, unsigned pcid, gva_t);
/* Lets the kernel finish an instruction whose I/O was answered, without running another. */
int kvm_complete(struct vcpu *);

/* kvm_msr.c -- finds out which this kernel keeps; moves them, and the TSC. */
void kvm_msr_init(struct vcpu *);
int kvm_load_msrs(struct vcpu *);
int kvm_store_msrs(struct vcpu *);

/* kvm_run.c */
int kvm_run_vcpu(struct vcpu *, const struct run_limit *, struct vm_exit *);
void kvm_kick(struct vcpu *);

/* kvm_modes.c -- can_run, and what follows a failure. */
void kvm_modes_init(struct kvm_vm *);
enum kvm_mode kvm_mode_of(const struct x86_cpu *);
bool kvm_can_run(const struct vcpu *);
uint64_t kvm_now(void); /* host ns */
void kvm_entered(struct kvm_vcpu *);
/* The interpreter's turn, for some thousand instructions. */
void kvm_swap(struct vcpu *);
/* The kernel gave up on the instruction at RIP: counts it by name, and gives the interpreter a stretch. */
void kvm_failed(struct vcpu *);
void kvm_stats(struct vm *, FILE *);

/* kvm_chips.c -- the interrupt chips in the kernel. Before the first processor is made. */
int kvm_chips_create(struct kvm_vm *);
/* The vCPU's own thread, outside run(), no lock held: brings them in, unless they came out just now. False: they are outside. */
bool kvm_chips_in(struct vcpu *);
/* As kvm_chips_in, or at a safe point: they come out. */
void kvm_chips_out(struct vm *);

/* kvm_trial.c -- what /dev/kvm is, and how fast; found once per process. kvm_probe.c */
const struct kvm_found *kvm_find_out(void);
int kvm_probe(struct engine_report *);
