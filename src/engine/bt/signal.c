/* SPDX-License-Identifier: MIT */
/* Faults of translated code. The host's processor stops before the instruction has done anything, so the guest's instruction is simply
 * done by its exec function, from the registers as they are: that raises what the guest has to see, or does what the delta table
 * could not. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include "engine/bt/bt.h"
#include "util/fatal.h"

#define AGAIN_MOST 3
#define AGAIN_NS 100000 /* an instruction that stays undefined comes again within it */

static const int taken[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
static struct sigaction before[ARRAY_SIZE(taken)];

static bool is_rsp(const struct bt *bt, greg_t rsp)
{
	for (unsigned kind = 0; kind < BT_KINDS; kind++)
		if (rsp == (greg_t)(uintptr_t)bt->table[kind])
			return true;
	return false;
}

/* Only instructions that this host has are in the cache; a host that is a guest itself may raise #UD for one all the same. It is run again. */
static bool again(struct bt *bt, uint64_t rip)
{
	struct timespec t;
	uint64_t now;

	clock_gettime(CLOCK_MONOTONIC, &t);
	now = (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
	bt->undefined.times = bt->undefined.rip == rip && now - bt->undefined.ns < AGAIN_NS ? bt->undefined.times + 1 : 1;
	bt->undefined.rip = rip;
	bt->undefined.ns = now;
	bt->stat.undefined++;
	return bt->undefined.times <= AGAIN_MOST;
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct vcpu *vcpu = vcpu_current();
	struct bt *bt = vcpu ? bt_of(vcpu) : NULL;
	uint64_t offset = bt ? (uint64_t)regs[REG_RIP] - (uint64_t)(uintptr_t)bt->code : ~0ULL;
	struct bt_insn *rec = offset < BT_CODE_SIZE && is_rsp(bt, regs[REG_RSP]) ? bt_insn_at(bt, (uint32_t)offset) : NULL;

	if (signal == SIGILL && offset < BT_CODE_SIZE && again(bt, (uint64_t)regs[REG_RIP]))
		return;
	if (rec && signal != SIGILL) {
		regs[REG_RCX] = rec - bt->insn;
		regs[REG_RIP] = (greg_t)(uintptr_t)bt_segv_entry;
		return;
	}
	/* Our own fault, or sent by somebody: it comes again, to whom it came before us. */
	if (fatal_hook)
		fatal_hook();
	for (unsigned n = 0; n < ARRAY_SIZE(taken); n++)
		if (taken[n] == signal)
			sigaction(signal, &before[n], NULL);
	raise(signal);
}

static void install(void)
{
	for (unsigned n = 0; n < ARRAY_SIZE(taken); n++) {
		struct sigaction ours = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
		sigaction(taken[n], &ours, &before[n]);
	}
}

void bt_signals_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, install);
}

#define STACK_SIZE (64 * KiB)

void bt_signals_thread(struct bt *bt)
{
	static _Thread_local bool done;
	stack_t stack = { .ss_size = STACK_SIZE };

	if (done)
		return;
	stack.ss_sp = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL)) {
		vm_kill(bt->vcpu->vm, "engine bt has no memory for a signal stack");
		return;
	}
	done = true;
}
