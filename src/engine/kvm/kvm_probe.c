/* SPDX-License-Identifier: MIT */
/* What /dev/kvm is worth here. It exists on hosts without hardware behind it, where a software module stands in for the processor
 * and may be slower than an interpreter, so a guest of a few bytes is timed: a loop in real mode, then in 32-bit protected mode. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "engine/kvm/kvm.h"

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct trial {
	int system, vm, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_size;
};

static void trial_end(struct trial *t)
{
	if (t->run != MAP_FAILED)
		munmap(t->run, t->run_size);
	if (t->memory != MAP_FAILED)
		munmap(t->memory, 4096);
	if (t->vcpu >= 0)
		close(t->vcpu);
	if (t->vm >= 0)
		close(t->vm);
	if (t->system >= 0)
		close(t->system);
}

static int trial_begin(struct trial *t)
{
	*t = (struct trial){ -1, -1, -1, MAP_FAILED, MAP_FAILED, 0 };
	t->system = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (t->system < 0)
		return -errno;
	if (kvm_call(t->system, KVM_GET_API_VERSION, NULL) != KVM_API_VERSION)
		return -ENOSYS;
	t->vm = kvm_call(t->system, KVM_CREATE_VM, NULL);
	if (t->vm < 0)
		return t->vm;
	kvm_call(t->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL);
	t->memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region region = {
		.guest_phys_addr = 0x1000, .memory_size = 4096, .userspace_addr = (uintptr_t)t->memory,
	};
	if (t->memory == MAP_FAILED || kvm_call(t->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -EIO;
	t->vcpu = kvm_call(t->vm, KVM_CREATE_VCPU, NULL);
	t->run_size = (size_t)kvm_call(t->system, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (t->vcpu < 0)
		return t->vcpu;
	t->run = mmap(NULL, t->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
	return t->run == MAP_FAILED ? -errno : 0;
}

/* Runs `count` turns of a loop of two instructions in flat 32-bit code without paging; returns the seconds it took, or -1. */
static double trial_run(struct trial *t, uint32_t count)
{
	static const uint8_t loop[] = { 0x49, 0x75, 0xfd, 0xf4 }; /* 1: dec ecx; jnz 1b; hlt */
	struct kvm_sregs s = { 0 };
	struct kvm_regs r = { .rip = 0x1000, .rcx = count, .rflags = 2, .rsp = 0x1f00 };
	double began = seconds();

	memcpy(t->memory, loop, sizeof(loop));
	if (kvm_call(t->vcpu, KVM_GET_SREGS, &s) < 0)
		return -1;
	struct kvm_segment flat = { .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1 };
	s.cs = flat;
	flat.type = 3;
	flat.selector = 16;
	s.ds = s.es = s.ss = s.fs = s.gs = flat;
	s.cr0 |= CR0_PE;
	if (kvm_call(t->vcpu, KVM_SET_SREGS, &s) < 0 || kvm_call(t->vcpu, KVM_SET_REGS, &r) < 0)
		return -1;
	for (;;) {
		if (ioctl(t->vcpu, KVM_RUN, 0) < 0 && errno != EINTR)
			return -1;
		if (t->run->exit_reason == KVM_EXIT_HLT)
			return seconds() - began;
		if (t->run->exit_reason != KVM_EXIT_INTR)
			return -1;
	}
}

/* The loop is made longer until it takes long enough to be told from the way in and out. */
static unsigned trial_mips(struct trial *t)
{
	for (uint32_t count = 1000; count <= 256000000; count *= 4) {
		double took = trial_run(t, count);
		if (took < 0)
			return 0;
		if (took > 0.02)
			return (unsigned)(2 * count / took / 1e6) + 1;
	}
	return 0;
}

int kvm_probe(struct engine_report *report)
{
	struct trial t;
	int error = trial_begin(&t);

	*report = (struct engine_report){ .capabilities = ENGINE_SMP | ENGINE_DIRTY_LOG };
	if (error == -ENOENT) {
		snprintf(report->why, sizeof(report->why), "there is no /dev/kvm: no hardware virtualization, or modprobe kvm_intel / kvm_amd");
	} else if (error == -EACCES || error == -EPERM) {
		snprintf(report->why, sizeof(report->why), "no rights on /dev/kvm: join its group, usermod -aG kvm $USER, and log in again");
	} else if (error) {
		snprintf(report->why, sizeof(report->why), "/dev/kvm does not work: %s", strerror(-error));
	} else {
		report->mips = trial_mips(&t);
		report->usable = report->mips > 0;
		snprintf(report->why, sizeof(report->why),
			 !report->usable      ? "/dev/kvm cannot run a loop of two instructions"
			 : report->mips >= 500 ? "the processor's own virtualization"
					       : "/dev/kvm without hardware behind it: each instruction is emulated by the kernel");
	}
	trial_end(&t);
	return 0;
}
