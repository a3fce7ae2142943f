/* SPDX-License-Identifier: MIT */
/* What /dev/kvm is worth here, by trial: a guest of one page runs a loop of two instructions in each mode, and tells that it is through by an
 * OUT; in virtual-8086 mode, which may ask a bitmap for that, by a store where no memory is. By processor time, so that other work on the host does not count. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "engine/kvm/kvm.h"

#define MEMORY 0x10000
#define CODE 0x1000
#define TABLES 0x2000   /* of pages: three levels, or one */
#define OTHER_TABLE 0x6000
#define EMULATED_MIPS 5 /* at most, by an emulator that is not to be tried again */
#define TRIES 4
#define NATIVE_MIPS 30  /* an emulator in the kernel reaches a few, a processor thousands, one under a translator at least a hundred */
#define LOOK 300        /* turns of the loop to begin with */
#define MEASURE 1000000 /* turns at most */
#define ENOUGH 0.0005   /* seconds that turns must take to be told from the way in and out */
#define TIMES 3         /* each is timed so often, and the shortest counts: what else the host does only adds */
#define DONE_PORT 0x42
#define SIGNATURE 0x12345 /* CPUID.1:EAX, no processor's */
#define CODE_SELECTOR 0x48 /* no host's */
#define CPUID_ROOM 256
#define SINCE_ZERO BIT(36) /* TSC: some seconds */

struct trial {
	int system, vm, vcpu;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_size;
	uint64_t flags; /* RFLAGS that the code starts with */
};

static void trial_end(struct trial *t)
{
	if (t->run != MAP_FAILED)
		munmap(t->run, t->run_size);
	if (t->memory != MAP_FAILED)
		munmap(t->memory, MEMORY);
	if (t->vcpu >= 0)
		close(t->vcpu);
	if (t->vm >= 0)
		close(t->vm);
}

static int trial_begin(struct trial *t)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };
	int size = kvm_call(t->system, KVM_GET_VCPU_MMAP_SIZE, NULL);

	t->vcpu = -1;
	t->flags = FLAG_FIXED | FLAG_IOPL; /* user code may do the OUT */
	t->run = MAP_FAILED;
	t->memory = MAP_FAILED;
	t->vm = kvm_call(t->system, KVM_CREATE_VM, NULL);
	if (t->vm < 0 || size < 0)
		return MIN(t->vm, size);
	kvm_call(t->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL);
	t->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (t->memory == MAP_FAILED)
		return -errno;
	region.userspace_addr = (uintptr_t)t->memory;
	if (kvm_call(t->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -EIO;
	t->vcpu = kvm_call(t->vm, KVM_CREATE_VCPU, NULL);
	t->run_size = (size_t)size;
	if (t->vcpu < 0)
		return t->vcpu;
	t->run = mmap(NULL, t->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
	return t->run == MAP_FAILED ? -errno : 0;
}

static struct kvm_segment segment(uint16_t selector, bool code, bool user, bool db, bool l)
{
	return (struct kvm_segment){ .limit = 0xffffffff, .selector = selector | (user ? 3 : 0), .type = code ? 11 : 3, .present = 1,
				     .dpl = user ? 3 : 0, .db = db, .l = l, .s = 1, .g = 1 };
}

/* Pages one to one, and for everybody. */
static void make_tables(struct trial *t, bool four_levels)
{
	uint64_t entry[3] = { TABLES + 0x1000 + 7, TABLES + 0x2000 + 7, 0x87 };
	uint32_t large = 0x87;

	if (!four_levels)
		memcpy(t->memory + TABLES, &large, sizeof(large));
	for (unsigned level = 0; level < 3 && four_levels; level++)
		memcpy(t->memory + TABLES + level * 0x1000, &entry[level], sizeof(entry[0]));
}

static bool is_user(enum kvm_mode mode)
{
	return mode == KVM_PAGED_USER || mode == KVM_LONG_USER || mode == KVM_COMPATIBLE;
}

/* Where code is 16 bits wide. */
static bool is_8086(enum kvm_mode mode)
{
	return mode == KVM_REAL || mode == KVM_V86;
}

/* SDM 3C 26.3.1.2: what a processor asks of the segments in virtual-8086 mode. */
static int enter_v86(struct trial *t, struct kvm_sregs *s)
{
	s->cs = s->ss = s->ds = s->es = s->fs = s->gs =
		(struct kvm_segment){ .limit = 0xffff, .type = 3, .present = 1, .dpl = 3, .s = 1 };
	s->es.selector = MEMORY >> 4;
	s->es.base = MEMORY;
	s->tr = (struct kvm_segment){ .limit = 0x67, .selector = 0x18, .type = SYS_TSS_BUSY, .present = 1 };
	s->cr0 |= CR0_PE | CR0_NE;
	t->flags |= FLAG_VM;
	return kvm_call(t->vcpu, KVM_SET_SREGS, s);
}

static int enter_mode(struct trial *t, enum kvm_mode mode)
{
	bool user = is_user(mode), is64 = mode == KVM_LONG || mode == KVM_LONG_USER;
	struct kvm_sregs s = { 0 };
	int error = kvm_call(t->vcpu, KVM_GET_SREGS, &s);

	if (error < 0)
		return error;
	if (mode == KVM_REAL) {
		s.cs.base = s.cs.selector = 0;
		return kvm_call(t->vcpu, KVM_SET_SREGS, &s);
	}
	if (mode == KVM_V86)
		return enter_v86(t, &s);
	s.cs = segment(CODE_SELECTOR, true, user, !is64, is64);
	s.ss = s.ds = s.es = s.fs = s.gs = segment(0x10, false, user, true, false);
	s.tr = (struct kvm_segment){ .limit = 0x67, .selector = 0x18, .type = SYS_TSS_BUSY, .present = 1 };
	s.cr0 |= CR0_PE | CR0_NE;
	if (mode >= KVM_PAGED) {
		make_tables(t, mode >= KVM_LONG);
		s.cr3 = TABLES;
		s.cr4 |= mode >= KVM_LONG ? CR4_PAE : CR4_PSE;
		s.efer |= mode >= KVM_LONG ? EFER_LME | EFER_LMA : 0;
		s.cr0 |= CR0_PG;
	}
	return kvm_call(t->vcpu, KVM_SET_SREGS, &s);
}

static double processor_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool is_through(const struct kvm_run *run)
{
	return (run->exit_reason == KVM_EXIT_IO && run->io.port == DONE_PORT) || (run->exit_reason == KVM_EXIT_MMIO && run->mmio.phys_addr == MEMORY);
}

/* Enters the guest at `code` until it is through. */
static int run_code(struct trial *t, const uint8_t *code, size_t size, uint32_t rcx)
{
	static const uint8_t out[] = { 0xe6, DONE_PORT }, store[] = { 0x26, 0xa2, 0, 0 }; /* out DONE_PORT, al; mov es:[0], al */
	bool v86 = t->flags & FLAG_VM;
	struct kvm_regs r = { .rip = CODE, .rcx = rcx, .rflags = t->flags, .rsp = CODE };

	memcpy(t->memory + CODE, code, size);
	memcpy(t->memory + CODE + size, v86 ? store : out, v86 ? sizeof(store) : sizeof(out));
	if (kvm_call(t->vcpu, KVM_SET_REGS, &r) < 0)
		return -EIO;
	for (unsigned tries = 0; tries < 1000; tries++) {
		if (ioctl(t->vcpu, KVM_RUN, 0) < 0 && errno != EINTR && errno != EAGAIN)
			return -errno;
		if (is_through(t->run))
			return 0;
		if (t->run->exit_reason != KVM_EXIT_INTR)
			return -EIO;
	}
	return -EIO;
}

/* `turns` of the loop; the processor time it took, or -1 when the guest did not get through. */
static double run_loop(struct trial *t, enum kvm_mode mode, uint32_t turns)
{
	static const uint8_t code32[] = { 0x49, 0x75, 0xfd };       /* 1: dec ecx; jnz 1b */
	static const uint8_t code64[] = { 0xff, 0xc9, 0x75, 0xfc }; /* the same in 64-bit code */
	bool is64 = mode == KVM_LONG || mode == KVM_LONG_USER;
	double began = processor_seconds();

	if (run_code(t, is64 ? code64 : code32, is64 ? sizeof(code64) : sizeof(code32), turns))
		return -1;
	return MAX(processor_seconds() - began, 1e-9);
}

/* Is the guest shown the processor that was set up, or the host's? A stand-in may run user code where nothing traps. */
static bool faithful(struct trial *t, enum kvm_mode mode)
{
	static const uint8_t real[] = { 0x66, 0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x8c, 0xca }; /* mov eax,1; cpuid; mov dx,cs */
	struct kvm_regs r = { 0 };
	uint16_t selector = is_8086(mode) ? 0 : CODE_SELECTOR | (is_user(mode) ? 3 : 0);

	if (run_code(t, is_8086(mode) ? real : real + 1, sizeof(real) - !is_8086(mode), 0) || kvm_call(t->vcpu, KVM_GET_REGS, &r) < 0)
		return false;
	return (uint32_t)r.rax == SIGNATURE && (uint16_t)r.rdx == selector && (r.rflags & FLAG_VM) == (t->flags & FLAG_VM);
}

static int set_cpuid(struct trial *t)
{
	static union { struct kvm_cpuid2 of; uint8_t room[sizeof(struct kvm_cpuid2) + CPUID_ROOM * sizeof(struct kvm_cpuid_entry2)]; } list;

	list.of.nent = CPUID_ROOM;
	if (kvm_call(t->system, KVM_GET_SUPPORTED_CPUID, &list) < 0)
		return -EIO;
	for (unsigned n = 0; n < list.of.nent; n++)
		if (list.of.entries[n].function == 1)
			list.of.entries[n].eax = SIGNATURE;
	return kvm_call(t->vcpu, KVM_SET_CPUID2, &list);
}

static double mips(double turns, double seconds)
{
	return seconds > 0 ? 2 * turns / seconds / 1e6 : 0;
}

/* The shortest of some runs; -1 when the guest did not get through. */
static double shortest(struct trial *t, enum kvm_mode mode, uint32_t turns)
{
	double least = run_loop(t, mode, turns);

	for (unsigned n = 1; n < TIMES && least >= 0; n++) {
		double again = run_loop(t, mode, turns);
		least = again < 0 ? again : MIN(least, again);
	}
	return least;
}

/* The way in and out is in the time, too, and may cost as much as a million instructions (where this host is itself a guest): it is taken
 * off, and there are more turns until what remains is long enough. The kernel makes its tables in the first run. */
static double speed_of(struct trial *t, enum kvm_mode mode)
{
	uint32_t most = is_8086(mode) ? 60000 : MEASURE, turns = LOOK;
	double way = shortest(t, mode, 1), seconds = shortest(t, mode, turns);

	while (way >= 0 && seconds >= 0 && seconds - way < ENOUGH && turns < most) {
		turns = MIN(turns * 8, most);
		seconds = shortest(t, mode, turns);
	}
	return way >= 0 && seconds >= 0 ? mips(turns, MAX(seconds - way, 1e-7)) : 0;
}

/* A mode in which the guest sees another processor than it shall does not work. */
static double try_mode(int system, enum kvm_mode mode, int *error)
{
	struct trial t = { .system = system };
	double speed = 0;

	*error = trial_begin(&t);
	if (*error < 0)
		goto out;
	if (set_cpuid(&t) < 0 || enter_mode(&t, mode) < 0 || !faithful(&t, mode))
		goto out;
	speed = speed_of(&t, mode);
	for (unsigned n = 0; n < TRIES && speed > EMULATED_MIPS && speed < NATIVE_MIPS; n++) /* a busy host is no emulator */
		speed = MAX(speed, speed_of(&t, mode));
out:
	trial_end(&t);
	return speed;
}

/* Without nested page tables the kernel keeps tables of its own, and learns of a change only when the guest makes it: what the interpreter
 * changes goes by unseen. A stand-in may have some for user code only. */
static bool keeps_tables(int system, enum kvm_mode mode)
{
	static const uint8_t code[] = { 0x8b, 0x04, 0x25, 0, 0, 0x20, 0 }; /* mov eax, [200000h] */
	struct trial t = { .system = system };
	struct kvm_regs before = { 0 }, after = { 0 };
	struct kvm_sregs s = { 0 };
	bool stale = false;

	if (trial_begin(&t) < 0 || set_cpuid(&t) < 0 || enter_mode(&t, mode) < 0 || kvm_call(t.vcpu, KVM_GET_SREGS, &s) < 0)
		goto out;
	uint64_t *directory = (uint64_t *)(t.memory + TABLES + 0x2000), *table = (uint64_t *)(t.memory + OTHER_TABLE);
	directory[1] = OTHER_TABLE + 7;
	table[0] = 0x7007;
	memset(t.memory + 0x7000, 0x77, 4);
	memset(t.memory + 0x8000, 0x88, 4);
	if (run_code(&t, code, sizeof(code), 0) || kvm_call(t.vcpu, KVM_GET_REGS, &before) < 0)
		goto out;
	table[0] = 0x8007;
	s.cr3 ^= PTE_PWT;
	kvm_call(t.vcpu, KVM_SET_SREGS, &s);
	s.cr3 ^= PTE_PWT;
	kvm_call(t.vcpu, KVM_SET_SREGS, &s);
	if (!run_code(&t, code, sizeof(code), 0) && kvm_call(t.vcpu, KVM_GET_REGS, &after) >= 0)
		stale = before.rax == after.rax;
out:
	trial_end(&t);
	return stale;
}

/* A stand-in may run guests with the host's TSC, whatever it is told: so a guest is asked, too. The offset stays as it is set only where the
 * host's own TSC is stable; else, and with an older kernel, the TSC itself is written. */
static bool tsc_moves(int system)
{
	static const uint8_t code[] = { 0x0f, 0x31 }; /* rdtsc */
	uint64_t wanted = -__builtin_ia32_rdtsc(), got = 0;
	struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&wanted };
	union { struct kvm_msrs of; uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)]; } tsc = { .of.nmsrs = 1 };
	struct trial t = { .system = system };
	struct kvm_regs r = { 0 };
	bool moves = false;

	tsc.of.entries[0] = (struct kvm_msr_entry){ .index = MSR_TSC };
	if (trial_begin(&t) < 0 || set_cpuid(&t) < 0 || enter_mode(&t, KVM_LONG) < 0)
		goto out;
	if (kvm_call(t.vcpu, KVM_SET_DEVICE_ATTR, &attr) >= 0) {
		attr.addr = (uintptr_t)&got;
		moves = kvm_call(t.vcpu, KVM_GET_DEVICE_ATTR, &attr) >= 0 && got == wanted;
	}
	if (!moves && kvm_call(t.vcpu, KVM_SET_MSRS, &tsc) == 1)
		moves = kvm_call(t.vcpu, KVM_GET_MSRS, &tsc) == 1 && tsc.of.entries[0].data < SINCE_ZERO;
	moves = moves && !run_code(&t, code, sizeof(code), 0) && kvm_call(t.vcpu, KVM_GET_REGS, &r) >= 0 &&
		((r.rdx & 0xffffffff) << 32 | (r.rax & 0xffffffff)) < SINCE_ZERO;
out:
	trial_end(&t);
	return moves;
}

/* The module that stands behind /dev/kvm; those that are built in are listed, too. */
static void find_driver(char *name, size_t size)
{
	static const char *const drivers[] = { "kvm_intel", "kvm_amd", "kvm_pvm", "kvm_hv" };

	for (unsigned n = 0; n < ARRAY_SIZE(drivers); n++) {
		char path[64];
		snprintf(path, sizeof(path), "/sys/module/%s", drivers[n]);
		if (!access(path, F_OK)) {
			snprintf(name, size, "%s", drivers[n]);
			return;
		}
	}
}

static void find_out(struct kvm_found *f)
{
	static const unsigned needed = BIT(KVM_FLAT) | BIT(KVM_PAGED) | BIT(KVM_LONG) | BIT(KVM_LONG_USER) | BIT(KVM_COMPATIBLE);
	int system = open("/dev/kvm", O_RDWR | O_CLOEXEC), version;

	if (system < 0) {
		f->error = -errno;
		return;
	}
	find_driver(f->driver, sizeof(f->driver));
	version = kvm_call(system, KVM_GET_API_VERSION, NULL);
	if (version < 0)
		f->error = version;
	else if (version != KVM_API_VERSION || !kvm_has(system, KVM_CAP_IMMEDIATE_EXIT))
		f->error = -ENOSYS;
	for (unsigned m = 0; m < KVM_MODES && !f->error; m++) {
		f->mips[m] = try_mode(system, m, &f->error);
		if (f->mips[m] >= NATIVE_MIPS)
			f->native |= BIT(m);
	}
	f->keeps_tables = !f->error && (keeps_tables(system, KVM_LONG) || keeps_tables(system, KVM_LONG_USER));
	f->tsc_moves = !f->error && tsc_moves(system);
	f->hardware = !f->error && f->tsc_moves && (f->native & needed) == needed;
	close(system);
}

static struct kvm_found found;

static void once(void)
{
	find_out(&found);
}

const struct kvm_found *kvm_find_out(void)
{
	static pthread_once_t control = PTHREAD_ONCE_INIT;

	pthread_once(&control, once);
	return &found;
}
