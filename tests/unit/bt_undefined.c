/* SPDX-License-Identifier: MIT */
/* A #UD that the host raises in translated code without a reason costs nothing but the time to run the instruction again: at random moments the
 * translator's handler is called as it would be then. One that stays ends the process, as ever. */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include "engine/bt/bt.h"
#include "vm_test.h"
#include "x86/cpuid.h"
#include "bt_loop.h"

#define CODE 0x1000
#define TURNS 200000000u
#define PAUSE_US 200

static const uint8_t loop[] = {
	0x83, 0xc0, 0x05, /* 1: add eax, 5 */
	0x01, 0xc2,       /*    add edx, eax */
	0x49,             /*    dec ecx */
	0x75, 0xf8,       /*    jnz 1b */
	0xf4,             /*    hlt */
};
static struct vm *vm;
static struct sigaction undefined;
static volatile sig_atomic_t hits;
static _Atomic bool over;

static void on_moment(int signal, siginfo_t *info, void *context)
{
	uint64_t rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	const struct bt *bt = bt_of(vm->vcpu[0]);

	if (rip - (uint64_t)(uintptr_t)bt->code >= BT_CODE_SIZE)
		return;
	hits++;
	undefined.sa_sigaction(SIGILL, info, context);
}

static void *disturb(void *arg)
{
	pthread_t *whom = arg;

	while (!over) {
		usleep(PAUSE_US);
		pthread_kill(*whom, SIGUSR1);
	}
	return NULL;
}

static void prepare(void)
{
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;

	loop_prepare(vm, CODE, loop, sizeof(loop));
	cpu->gpr[RAX] = cpu->gpr[RDX] = 0;
	cpu->gpr[RCX] = TURNS;
	cpu->gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
}

static void test_disturbed(void)
{
	struct sigaction action = { .sa_sigaction = on_moment, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	const struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
	pthread_t self = pthread_self(), thread;
	uint32_t sum;

	prepare();
	loop_run(vm->vcpu[0]);
	sum = (uint32_t)cpu->gpr[RDX];
	sigaction(SIGILL, NULL, &undefined);
	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&thread, NULL, disturb, &self);
	for (unsigned n = 0; n < 100 && !hits; n++) { /* a busy host may let the other thread wait */
		prepare();
		loop_run(vm->vcpu[0]);
	}
	over = true;
	pthread_join(thread, NULL);
	ok(hits > 0 && bt_of(vm->vcpu[0])->stat.undefined == (uint64_t)hits, "translated code was told of %d undefined instructions", (int)hits);
	ok((uint32_t)cpu->gpr[RAX] == 5u * TURNS && (uint32_t)cpu->gpr[RDX] == sum && !cpu->gpr[RCX], "and computed the same");
}

/* At one and the same instruction, again and again. */
static void on_stays(int signal, siginfo_t *info, void *context)
{
	uint64_t rip = (uint64_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	if (rip - (uint64_t)(uintptr_t)bt_of(vm->vcpu[0])->code >= BT_CODE_SIZE)
		return;
	for (unsigned n = 0; n < 100; n++)
		undefined.sa_sigaction(SIGILL, info, context);
}

static void test_stays(void)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid) {
		struct sigaction action = { .sa_sigaction = on_stays, .sa_flags = SA_SIGINFO | SA_ONSTACK };
		pthread_t self = pthread_self(), thread;
		over = false;
		prepare();
		sigaction(SIGUSR1, &action, NULL);
		pthread_create(&thread, NULL, disturb, &self);
		loop_run(vm->vcpu[0]);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL, "one that stays ends the process");
}

int main(void)
{
	if (!loop_possible("bt"))
		return done();
	vm = test_vm_engine("bt", CLOCK_HOST, 4 * MiB, 1);
	test_disturbed();
	test_stays();
	vm_destroy(vm);
	return done();
}
