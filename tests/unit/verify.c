/* SPDX-License-Identifier: MIT */
/* Lockstep: equal machines are found equal, and an engine that goes wrong at one instruction is caught at that instruction; also where it goes wrong
 * because of an input, which comes to both machines, and again, at the same count, when they run again; or because of where it is stopped. */
#include <unistd.h>
#include "cmd/verify.h"
#include "vm_test.h"

#define CODE 0x1000u
#define WRONG_AT 54321u
#define MAILBOX 0x5100u /* where the device puts what it is sent */

static enum { RIGHT, REGISTER, MEMORY, ENDS, FORGETFUL, INPUT, OFTEN, WHOLE, LATE } fault;
static unsigned made;
static unsigned stops; /* of the machine, so far */

#define LATE_AT 393100u /* behind the last meeting */
#define RANG_AT 1000u   /* where both get the inputs: at the first */

/* Is the engine wrong, when it is run to this limit? */
static bool is_wrong(const struct vcpu *vcpu, uint64_t limit)
{
	switch (fault) {
	case RIGHT: return false;
	case FORGETFUL: return made == 1; /* in the first run only */
	case INPUT: return vcpu->vm->memory.host[MAILBOX] == 'i' && *(uint32_t *)(vcpu->vm->memory.host + MAILBOX + 8) == RANG_AT; /* if it came, and then */
	case OFTEN: return stops > 50;    /* if it was stopped so often */
	case WHOLE: return vcpu->core.icount == WRONG_AT / 1000 * 1000 && limit >= vcpu->core.icount + 1000; /* if it runs so far at once */
	default: return true;
	}
}

/* The interpreter, but after WRONG_AT instructions something is different. */
static int wrong_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	uint64_t at = fault == LATE ? LATE_AT : WRONG_AT;
	struct run_limit first = { .icount = at };
	int error;

	stops++;
	if (vcpu->core.icount >= at || limit->icount < at || limit->step || !is_wrong(vcpu, limit->icount))
		return interp_engine.run(vcpu, limit, exit);
	error = interp_engine.run(vcpu, &first, exit);
	if (vcpu->core.icount != at || vcpu->vm->end)
		return error;
	switch (fault) {
	case MEMORY: guest_write(vcpu->vm, 0x5008, "x", 1); break;
	case ENDS: vm_finish(vcpu->vm, VM_POWERED_OFF, 0); break;
	default: vcpu->core.cpu.gpr[RBX] ^= 0x100000;
	}
	return error;
}

static int wrong_probe(struct engine_report *report)
{
	*report = (struct engine_report){ .usable = true, .capabilities = ENGINE_COUNTS | ENGINE_STEPS };
	return 0;
}

static bool anything(const struct vcpu *vcpu)
{
	return true;
}

static int load_state(struct vcpu *vcpu, unsigned groups)
{
	return interp_engine.load_state(vcpu, groups);
}

static int store_state(struct vcpu *vcpu, unsigned groups)
{
	return interp_engine.store_state(vcpu, groups);
}

static void kick(struct vcpu *vcpu)
{
	interp_engine.kick(vcpu);
}

static void code_changed(struct vm *vm, gpa_t gpa, uint64_t len)
{
	interp_engine.code_changed(vm, gpa, len);
}

static const struct engine wrong_engine = {
	.name = "wrong", .summary = "for this test", .slot = 7, .probe = wrong_probe, .can_run = anything, .run = wrong_run, .kick = kick,
	.load_state = load_state, .store_state = store_state, .code_changed = code_changed,
};
ENGINE(wrong_engine);

/* 16-bit code: counts in AX, sums in BX, stores both, and halts after 65536 rounds, or writes to the mailbox's port, which is the machine's end. */
static const char program[] = "\x40\x01\xc3\xa3\x00\x50\x89\x1e\x02\x50\x85\xc0\x75\xf2\xfa\xf4";
static const char ending[] = "\x40\x01\xc3\xa3\x00\x50\x89\x1e\x02\x50\x85\xc0\x75\xf2\xe6\x99";

static void mailed(struct device *d, unsigned kind, const void *data, size_t len)
{
	uint32_t count = (uint32_t)d->vm->vcpu[0]->core.icount;

	guest_write(d->vm, MAILBOX + kind, data, len);
	guest_write(d->vm, MAILBOX + 8, &count, sizeof(count));
}

static void power_off(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	vm_finish(d->vm, VM_POWERED_OFF, 0);
}
static const struct bus_ops end_ops = { .write = power_off, .max_size = 1 };
static const struct device_class mailbox_class = { .name = "mailbox", .summary = "writes to memory", .size = sizeof(struct device), .event = mailed, .version = 1 };
static const struct device_place mailbox_place = { .class = &mailbox_class, .name = "mailbox", .irq = -1 };

static int make(void *arg, struct vm *pair[2], const struct input_taker *taker)
{
	made++;
	stops = 0;
	for (unsigned n = 0; n < 2; n++) {
		struct vm_config config = { .name = "test", .engine = n ? "interp" : "wrong", .memory = 1 * MiB, .cpus = 1, .clock = CLOCK_INSTRUCTIONS };
		if (taker && !n)
			config.taker = *taker;
		if (vm_create(&pair[n], &config))
			return 1;
		struct vm *vm = pair[n];
		struct device *mailbox = device_create(vm, &mailbox_place);
		struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
		if (bus_add(vm, BUS_PORT, 0x99, 1, &end_ops, mailbox))
			return 1;
		guest_write(vm, CODE, fault == LATE ? ending : program, sizeof(program) - 1);
		cpu->seg[SEG_CS].base = cpu->seg[SEG_CS].selector = 0;
		cpu->gpr[X86_GPR_RIP] = CODE;
		vcpu_changed(vm->vcpu[0], X86_ALL_GROUPS);
		if (taker && !n) {
			event_post(mailbox, 0, "i", 1);
			event_post(mailbox, 4, "nput", 4);
		}
	}
	memcpy(arg, pair, 2 * sizeof(pair[0]));
	return 0;
}

static void unmake(void *arg)
{
	struct vm **pair = arg;
	vm_destroy(pair[0]);
	vm_destroy(pair[1]);
}

static enum vm_end run(int what, char text[4096])
{
	struct vm *pair[2];
	const struct verify_maker maker = { .make = make, .unmake = unmake, .arg = pair };
	enum vm_end end = VM_RUNS;
	uint64_t value;

	fault = what;
	made = 0;
	int before = dup(STDERR_FILENO), status;
	FILE *file = tmpfile();
	dup2(fileno(file), STDERR_FILENO);
	status = verify_run(&maker, 1000, &end, &value);
	dup2(before, STDERR_FILENO);
	close(before);
	rewind(file);
	text[fread(text, 1, 4095, file)] = 0;
	fclose(file);
	if (status)
		ok(false, "status %d", status);
	return end;
}

int main(void)
{
	char text[4096];
	char place[100];

	ok(run(RIGHT, text) == VM_STOPPED && strstr(text, "were equal"), "equal machines are equal to the end");
	ok(strstr(text, "inputs: 2,"), "two inputs came in");
	snprintf(place, sizeof(place), "differ after %u instructions, and are equal after %u", WRONG_AT, WRONG_AT - 1);
	ok(run(REGISTER, text) == VM_KILLED && strstr(text, place), "a wrong register is found at its instruction");
	ok(strstr(text, "rbx: ") && !strstr(text, "rcx: "), "and named");
	ok(strstr(text, "what interp ran") && strstr(text, "000000000000100"), "with the instruction, disassembled");
	ok(run(MEMORY, text) == VM_KILLED && strstr(text, place) && strstr(text, "memory 5008: "), "a wrong byte of memory");
	ok(run(ENDS, text) == VM_KILLED && strstr(text, "powered off"), "a machine that ends alone");
	ok(run(INPUT, text) == VM_KILLED && strstr(text, place) && strstr(text, "rbx: "), "what goes wrong because of an input does so again");
	ok(run(FORGETFUL, text) == VM_KILLED && strstr(text, "does not come again"), "what does not come again is said to be so");
	ok(run(OFTEN, text) == VM_KILLED && strstr(text, place) && strstr(text, "rbx: ") && !strstr(text, "not known"),
	   "what goes wrong only if the machines meet as often before, too");
	snprintf(place, sizeof(place), "differ after %u instructions, and are equal after %u", WRONG_AT / 1000 * 1000 + 1000, WRONG_AT / 1000 * 1000);
	ok(run(WHOLE, text) == VM_KILLED && strstr(text, place) && strstr(text, "rbx: ") && strstr(text, "is not known") && !strstr(text, "besides"),
	   "what goes wrong only if they meet nowhere in between: nothing else is blamed");
	snprintf(place, sizeof(place), "differ after %u instructions, and are equal after %u", LATE_AT, LATE_AT - 1);
	ok(run(LATE, text) == VM_KILLED && strstr(text, place), "what goes wrong behind the last meeting, before both end");
	return done();
}
