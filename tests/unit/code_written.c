/* SPDX-License-Identifier: MIT */
/* Code that another processor writes: once the new was read, the old runs no more, whoever was told of it and when; and no instruction is half
 * old, half new. And code that writes itself, where there was none. SDM volume 3, 9.1.1 and 9.1.3. */
#include <pthread.h>
#include <unistd.h>
#include "flat_vm.h"
#include "x86/insn.h"
#include "vm_test.h"
#include "bt_loop.h"

#define CODE 0x20000
#define HANDLER 0x21000
#define DATA 0x22000
#define OLD 1
#define NEW 2
#define SLOT 4

static const uint8_t loop[] = {
	0xb8, OLD, 0, 0, 0, /* 1: mov eax, OLD */
	0x09, 0xc2,         /*    or edx, eax */
	0xeb, 0xf7,         /*    jmp 1b */
};
static struct vm *vm;

/* Some instructions of processor 0: which of OLD and NEW it ran. */
static uint32_t run(uint64_t count, bool step)
{
	struct vcpu *vcpu = vm->vcpu[0];
	vcpu_state(vcpu, X86_GPRS);
	vcpu->core.cpu.gpr[RDX] = 0;
	vcpu_changed(vcpu, X86_GPRS);
	struct run_limit limit = { .icount = vcpu->core.icount + count, .step = step };

	while (vcpu->core.icount < limit.icount && vcpu->core.cpu.activity == X86_RUNNING && vcpu_run_once(vcpu, &limit))
		;
	vcpu_state(vcpu, X86_GPRS);
	return (uint32_t)vcpu->core.cpu.gpr[RDX];
}

static void prepare(void)
{
	loop_prepare(vm, CODE, loop, sizeof(loop));
	vm->vcpu[0]->core.cpu.gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
}

static void store(uint8_t value)
{
	*((uint8_t *)memory_host(vm, CODE, sizeof(loop)) + 1) = value;
}

/* --- processor 1 is held up between its store and the report of it --- */

static void *report(void *unused)
{
	usleep(50000);
	memory_written(vm, CODE + 1, 1);
	__atomic_store_n(&vm->vcpu[1]->core.storing, false, __ATOMIC_RELEASE);
	return NULL;
}

static void held_up(const char *engine)
{
	pthread_t thread;
	uint32_t before, stepped, after;

	if (!loop_possible(engine))
		return;
	vm = test_vm_engine(engine, CLOCK_HOST, 4 * MiB, 2);
	prepare();
	before = run(6000, false);
	vm->vcpu[1]->core.storing = true;
	store(NEW);
	pthread_create(&thread, NULL, report, NULL);
	stepped = run(3, true);
	after = run(5000, false);
	ok(before == OLD && stepped == NEW && after == NEW, "%s: a step reads new code, and the decoded old one runs no more: %u, %u, %u", engine,
	   before, stepped, after);
	pthread_join(thread, NULL);
	vm_destroy(vm);
}

/* --- an engine whose stores nobody is told of --- */

static unsigned elsewhere; /* processors that it does not run: bits */

static bool silent_can_run(const struct vcpu *vcpu)
{
	return !(elsewhere >> vcpu->index & 1);
}

static int silent_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	store(NEW);
	exit->reason = VM_EXIT_LIMIT;
	return 0;
}

static const struct engine silent_engine = {
	.name = "silent", .summary = "stores past everybody", .slot = SLOT, .kick_suffices = true, .writes_unseen = true, .can_run = silent_can_run,
	.run = silent_run,
};

static void silent(void)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };
	struct vcpu *other;
	uint32_t before, after;
	bool counted;

	vm = test_vm_engine("null", CLOCK_HOST, 4 * MiB, 2);
	test_engine(vm, &silent_engine);
	for (unsigned n = 0; n < 2; n++)
		vm->vcpu[n]->engine = &silent_engine;
	elsewhere = BIT(0);
	prepare();
	other = vm->vcpu[1];
	other->core.cpu.activity = X86_RUNNING;
	vcpu_changed(other, X86_ALL_GROUPS);
	before = run(5000, false);
	ok(before == OLD && !vm->unseen && !vm->vcpu[0]->kicked, "decoded code runs while no engine stores unseen");
	vcpu_run_once(other, &no_limit);
	counted = vm->unseen == 1 && vm->vcpu[0]->kicked;
	after = run(5000, false);
	ok(counted && after == NEW, "what another processor stored unseen runs next: %u, then %u", before, after);
	elsewhere = BIT(0) | BIT(1);
	other->core.cpu.gpr[X86_GPR_RIP] = CODE;
	vcpu_changed(other, X86_ALL_GROUPS);
	vcpu_run_once(other, &(struct run_limit){ .icount = 100 });
	ok(!vm->unseen && run(5000, false) == NEW, "it is with the interpreter: code is decoded ahead again");
	vm_destroy(vm);
}

/* --- what was no instruction --- */

/* The handler of #UD makes one of it, with another ModRM byte. */
static void mended(const char *engine)
{
	static const uint8_t code[] = { 0x66, 0xc6, 0x6f, 0x40, 0x12, 0xf4 };        /* C6 /5 with [edi + 40h], 12h; hlt */
	static const uint8_t handler[] = { 0x40, 0xc6, 0x05, 0x02, 0x00, CODE >> 16, 0x00, 0x47, 0xcf }; /* inc eax; mov byte [CODE + 2], 47h: C6 /0, MOV; iret */
	struct flat *f = flat_new("max");

	if (!loop_possible(engine))
		return;
	flat_mode(f, FLAT_PROTECTED32, 0);
	flat_set_gate(f, VECTOR_UD, FLAT_CODE0, HANDLER, SYS_INT, 0, 0);
	memcpy(flat_ram + CODE, code, sizeof(code));
	memcpy(flat_ram + HANDLER, handler, sizeof(handler));
	f->core.cpu.gpr[RAX] = 0;
	f->core.cpu.gpr[RDI] = DATA;
	f->core.cpu.gpr[RSP] = DATA;
	f->core.cpu.gpr[X86_GPR_RIP] = CODE;
	vm = test_vm_engine(engine, CLOCK_HOST, 4 * MiB, 1);
	flat_give(vm, f, 1 * MiB);
	run(1000, false);
	ok(vm->vcpu[0]->core.cpu.gpr[RAX] == 1 && *memory_host(vm, DATA + 0x40, 1) == 0x12, "%s: bytes that were no instruction become one", engine);
	vm_destroy(vm);
}

/* --- halves --- */

static uint64_t line[8] __attribute__((aligned(64)));
static _Atomic bool finish;

static void *flip(void *unused)
{
	for (uint32_t value = 0; !finish; value = ~value)
		__atomic_store_n((uint32_t *)line + 5, value, __ATOMIC_RELAXED); /* bytes 20 to 23 */
	return NULL;
}

static void halves(void)
{
	unsigned torn = 0, seen[2] = { 0 };
	pthread_t thread;

	pthread_create(&thread, NULL, flip, NULL);
	for (unsigned n = 0; n < 3000000; n++) {
		unsigned from = 9 + n % 12;
		uint8_t copy[15];
		uint32_t value;
		torn += x86_code_copy(copy, (uint8_t *)line + from, 40) != 15;
		memcpy(&value, copy + 20 - from, MIN(4u, 15 - (20 - from)));
		if (20 - from + 4 > 15)
			continue;
		torn += value && value != ~0u;
		seen[value & 1]++;
	}
	finish = true;
	pthread_join(thread, NULL);
	ok(!torn, "an aligned store into code is read whole: %u times not, of %u and %u", torn, seen[0], seen[1]);
}

int main(void)
{
	held_up("interp");
	held_up("bt");
	silent();
	mended("interp");
	mended("step");
	mended("bt");
	halves();
	return done();
}
