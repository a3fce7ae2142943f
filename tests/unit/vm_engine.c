/* SPDX-License-Identifier: MIT */
/* A change of engine that cannot be: whatever fails, and wherever, the machine goes on with the old one, and nothing is lost. What works is
 * engine_switch.c's. */
#include <errno.h>
#include "util/log.h"
#include "vm_test.h"

#define CPUS 2
#define SLOT 4

static enum stage { NOTHING, PROBE, SET_UP, PROCESSOR, SECOND, TAKE, LOAD, SECOND_LOAD, STAGES } fails;
static const char *const stages[STAGES] = { "nothing", "probe", "vm_init", "vcpu_init", "vcpu_init of the second processor", "take_over", "load_state",
					    "load_state of the second processor" };
static unsigned capabilities = ENGINE_COUNTS | ENGINE_SMP;
static int vms, vcpus; /* that are set up */
static unsigned taken, handed;

static int broken_probe(struct engine_report *report)
{
	*report = (struct engine_report){ .usable = fails != PROBE, .capabilities = capabilities, .mips = 1, .why = "the test says so" };
	return 0;
}

static int broken_init(struct vm *vm)
{
	if (fails == SET_UP)
		return -EIO;
	vms++;
	return 0;
}

static void broken_fini(struct vm *vm)
{
	vms--;
}

static int broken_vcpu_init(struct vcpu *vcpu)
{
	static int marker;

	if (fails == PROCESSOR || (fails == SECOND && vcpu->index))
		return -ENOMEM;
	vcpu->engine_data[SLOT] = &marker;
	vcpus++;
	return 0;
}

static void broken_vcpu_fini(struct vcpu *vcpu)
{
	if (vcpu->engine_data[SLOT])
		vcpus--;
	vcpu->engine_data[SLOT] = NULL;
}

static int broken_take_over(struct vm *vm)
{
	taken++;
	return fails == TAKE ? -EIO : 0;
}

static int broken_load(struct vcpu *vcpu, unsigned groups)
{
	return fails == LOAD || (fails == SECOND_LOAD && vcpu->index) ? -EINVAL : 0;
}

static int broken_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	vcpu->core.cpu.activity = X86_HALTED;
	exit->reason = VM_EXIT_HALT;
	return 0;
}

static const struct engine broken_engine = {
	.name = "broken", .summary = "fails where the test wants", .slot = SLOT, .kick_suffices = true, .probe = broken_probe,
	.vm_init = broken_init, .vm_fini = broken_fini, .vcpu_init = broken_vcpu_init, .vcpu_fini = broken_vcpu_fini,
	.take_over = broken_take_over, .run = broken_run, .load_state = broken_load,
};
ENGINE(broken_engine);

/* --- the choice: an engine that is faster than all, where it can run the machine --- */

static struct engine_report fast_report;

static int fast_probe(struct engine_report *report)
{
	*report = fast_report;
	return 0;
}

static const struct engine fast_engine = { .name = "fast", .summary = "of the test", .slot = SLOT, .preference = 99, .probe = fast_probe };
ENGINE(fast_engine);

static void test_choice(void)
{
	static const struct { unsigned capabilities, cpus_max, cpus; enum clock_mode clock; const char *why; } rows[] = {
		{ ENGINE_SMP, 0, 1, CLOCK_HOST, NULL }, { ENGINE_SMP, 0, 255, CLOCK_HOST, NULL }, { ENGINE_SMP, 2, 2, CLOCK_HOST, NULL },
		{ ENGINE_SMP, 2, 3, CLOCK_HOST, "not fast: it runs at most 2 processors here" }, { 0, 0, 2, CLOCK_HOST, "not fast: it runs one processor only" },
		{ ENGINE_SMP, 0, 1, CLOCK_INSTRUCTIONS, "not fast: it does not count instructions" }, { ENGINE_COUNTS, 0, 2, CLOCK_INSTRUCTIONS, NULL },
	};
	char why[400];

	for (unsigned n = 0; n < ARRAY_SIZE(rows); n++) {
		const struct engine *chosen;
		fast_report = (struct engine_report){ .usable = true, .mips = UINT32_MAX, .capabilities = rows[n].capabilities, .cpus_max = rows[n].cpus_max };
		chosen = engine_default(rows[n].cpus, rows[n].clock, why, sizeof(why));
		ok(chosen && (chosen == &fast_engine) == !rows[n].why && (!rows[n].why || strstr(why, rows[n].why)), "the default, row %u: %s", n, why);
	}
	fast_report.usable = false;
}

/* The one it is changed from: it holds the state, and may refuse to give it. */
static bool keeps;

static int holder_store(struct vcpu *vcpu, unsigned groups)
{
	if (keeps && vcpu->index)
		return -EIO;
	if (groups & X86_GPRS)
		vcpu->core.cpu.gpr[RBX] = 0x1234 + vcpu->index;
	return 0;
}

static int holder_hand_over(struct vm *vm)
{
	handed++;
	return 0;
}

static int holder_take_over(struct vm *vm)
{
	handed--;
	return 0;
}

static struct engine holder;

static struct vm *holder_vm(enum clock_mode clock)
{
	struct vm *vm = test_vm_engine("null", clock, 16 * MiB, CPUS);

	holder = null_engine;
	holder.name = "holder";
	holder.store_state = holder_store;
	holder.hand_over = holder_hand_over;
	holder.take_over = holder_take_over;
	test_engine(vm, &holder);
	for (unsigned i = 0; i < CPUS; i++) {
		vm->vcpu[i]->engine = &holder;
		vm->vcpu[i]->held = X86_ALL_GROUPS;
		vm->vcpu[i]->changed = 0;
		vm->vcpu[i]->core.cpu.gpr[RBX] = 0xbad;
	}
	taken = handed = 0;
	fails = NOTHING;
	keeps = false;
	return vm;
}

static bool intact(struct vm *vm)
{
	bool good = vm->engine == &holder && !vm->end && !vm->stop_count && !vms && !vcpus && !handed && !vm->engines[SLOT];

	for (unsigned i = 0; i < CPUS; i++)
		good &= vm->vcpu[i]->engine == &holder && !vcpu_state(vm->vcpu[i], X86_ALL_GROUPS) &&
			vm->vcpu[i]->core.cpu.gpr[RBX] == 0x1234 + i;
	return good;
}

static void refused(struct vm *vm, const struct engine *to, int want, const char *words, const char *name)
{
	char why[512];
	uint64_t ns;
	int error;

	log_divert(why, sizeof(why));
	error = vm_engine_switch(vm, to, &ns);
	log_divert(NULL, 0);
	ok(error == want && (words ? strstr(why, words) != NULL : !why[0]), "%s: refused (%d), \"%s\"", name, error, why);
}

int main(void)
{
	struct vm *vm;
	uint64_t ns;

	for (enum stage stage = PROBE; stage < STAGES; stage++) {
		vm = holder_vm(CLOCK_HOST);
		fails = stage;
		refused(vm, &broken_engine, stage == PROBE ? -ENODEV : stage == SET_UP || stage == TAKE ? -EIO : stage >= LOAD ? -EINVAL : -ENOMEM,
			"broken", stages[stage]);
		ok(intact(vm), "%s: the machine has the old engine and all its state", stages[stage]);
		vm_destroy(vm);
	}
	vm = holder_vm(CLOCK_HOST);
	keeps = true;
	refused(vm, &broken_engine, -EIO, "cannot store the state of cpu1", "an engine that does not give up the state");
	keeps = false;
	ok(intact(vm), "it has it still");
	refused(vm, &holder, -EALREADY, NULL, "the present engine");
	refused(vm, &null_engine, -EINVAL, "runs nothing", "the engine that runs nothing");
	capabilities = ENGINE_COUNTS;
	refused(vm, &broken_engine, -EINVAL, "one processor only", "an engine for one processor");
	capabilities = ENGINE_COUNTS | ENGINE_SMP;
	ok(intact(vm), "none of that did anything");
	ok(!vm_engine_switch(vm, &broken_engine, &ns) && vm->engine == &broken_engine && taken == 1 && handed == 1 && vms == 1 && vcpus == CPUS,
	   "it works when nothing fails");
	ok(vm->vcpu[1]->core.cpu.gpr[RBX] == 0x1235 && vm->vcpu[1]->changed == X86_ALL_GROUPS, "the state was stored, and is to be loaded");
	ok(!vm_engine_switch(vm, &holder, &ns) && vm->engine == &holder && vm->engines[SLOT] == &broken_engine && vcpus == CPUS,
	   "and back; what was left stays set up");
	fails = LOAD;
	for (unsigned i = 0; i < CPUS; i++)
		vm->vcpu[i]->held = X86_ALL_GROUPS;
	refused(vm, &broken_engine, -EINVAL, "cannot load", "one that was set up before");
	ok(vm->engine == &holder && vm->engines[SLOT] == &broken_engine && !vm->end, "stays so, and the machine goes on");
	vm_finish(vm, VM_STOPPED, 0);
	fails = NOTHING;
	refused(vm, &broken_engine, -ESHUTDOWN, "has ended", "a machine that has ended");
	vm_destroy(vm);
	ok(!vms && !vcpus, "all is taken down with the machine");
	vm = holder_vm(CLOCK_INSTRUCTIONS);
	capabilities = ENGINE_SMP;
	refused(vm, &broken_engine, -EINVAL, "does not count", "an engine that does not count, where time is the count");
	vm_destroy(vm);
	test_choice();
	return done();
}
