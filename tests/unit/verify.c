/* SPDX-License-Identifier: MIT */
/* Lockstep: equal machines are found equal, and an engine that goes wrong at one instruction is caught at that instruction; also where it goes wrong
 * because of an input, which comes to both machines, and again when they run again. */
#include <unistd.h>
#include "cmd/verify.h"
#include "vm_test.h"

#define CODE 0x1000u
#define WRONG_AT 54321u
#define MAILBOX 0x5100u /* where the device puts what it is sent */

static enum { RIGHT, REGISTER, MEMORY, ENDS, FORGETFUL, INPUT } fault;
static unsigned made;

/* The interpreter, but after WRONG_AT instructions something is different. */
static int wrong_run(struct vcpu *vcpu, const struct run_limit *limit, struct vm_exit *exit)
{
	struct run_limit first = *limit;
	int error;

	if (vcpu->core.icount >= WRONG_AT || limit->icount < WRONG_AT)
		return interp_engine.run(vcpu, limit, exit);
	first.icount = WRONG_AT;
	error = interp_engine.run(vcpu, &first, exit);
	if (vcpu->core.icount != WRONG_AT || vcpu->vm->end)
		return error;
	switch (fault) {
	case REGISTER: vcpu->core.cpu.gpr[RBX] ^= 0x100000; break;
	case MEMORY: guest_write(vcpu->vm, 0x5008, "x", 1); break;
	case ENDS: vm_finish(vcpu->vm, VM_POWERED_OFF, 0); break;
	case FORGETFUL: /* only in the first run */
		if (made == 1)
			vcpu->core.cpu.gpr[RBX] ^= 1;
		break;
	case INPUT: /* if it came */
		vcpu->core.cpu.gpr[RBX] ^= vcpu->vm->memory.host[MAILBOX] == 'i' ? 0x100000 : 0;
		break;
	case RIGHT: break;
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

/* 16-bit code: counts in AX, sums in BX, stores both, and halts after 65536 rounds. */
static const char program[] = "\x40\x01\xc3\xa3\x00\x50\x89\x1e\x02\x50\x85\xc0\x75\xf2\xfa\xf4";

static void mailed(struct device *d, unsigned kind, const void *data, size_t len)
{
	guest_write(d->vm, MAILBOX + kind, data, len);
}
static const struct device_class mailbox_class = { .name = "mailbox", .summary = "writes to memory", .size = sizeof(struct device), .event = mailed, .version = 1 };
static const struct device_place mailbox_place = { .class = &mailbox_class, .name = "mailbox", .irq = -1 };

static int make(void *arg, struct vm *pair[2], const struct input_taker *taker)
{
	made++;
	for (unsigned n = 0; n < 2; n++) {
		struct vm_config config = { .name = "test", .engine = n ? "interp" : "wrong", .memory = 1 * MiB, .cpus = 1, .clock = CLOCK_INSTRUCTIONS };
		if (taker && !n)
			config.taker = *taker;
		if (vm_create(&pair[n], &config))
			return 1;
		struct vm *vm = pair[n];
		struct device *mailbox = device_create(vm, &mailbox_place);
		struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;
		guest_write(vm, CODE, program, sizeof(program) - 1);
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
	return done();
}
