/* SPDX-License-Identifier: MIT */
/* The coprocessor error: FERR# to IRQ 13, port F0h, IGNNE#; and a processor with CR0.NE clear that waits for it. SDM volume 1, 8.7.2 and
 * appendix D. */
#include "flat.h"
#include "machine.h"

#define IRQ13 13
#define AT 0x4000

static const struct device_place places[] = {
	{ .class = &fpu_error_class, .name = "fpu-error", .base = 0xf0, .irq = IRQ13 },
};
static struct vm *vm;

static bool error(bool pending)
{
	return vm->irq.fpu.error(vm->irq.fpu.device, pending);
}

static void pins(void)
{
	vm = machine(1, places, ARRAY_SIZE(places));
	ok(!line_level[IRQ13], "no interrupt after reset");
	out8(vm, 0xf0, 0);
	ok(!error(true) && line_level[IRQ13], "an error is IRQ 13; port F0h without one does nothing");
	ok(!error(true) && line_edges[IRQ13] == 1, "and stays");
	out8(vm, 0xf0, 0);
	ok(!line_level[IRQ13] && error(true) && !line_level[IRQ13], "port F0h: the interrupt goes, IGNNE# comes");
	error(false);
	ok(!error(true) && line_level[IRQ13], "the next error is one again");
	error(false);
	ok(line_level[IRQ13], "IRQ 13 is latched until port F0h is written");

	struct vm *other = machine(1, places, ARRAY_SIZE(places));
	line_level[IRQ13] = false;
	ok(copy_state(vm, other) && same_state(vm, other) && line_level[IRQ13], "save and load: IRQ 13");
	out8(vm, 0xf0, 0);
	error(true);
	out8(vm, 0xf0, 0);
	ok(copy_state(vm, other) && other->irq.fpu.error(other->irq.fpu.device, true), "save and load: IGNNE#");
	vm_destroy(other);
}

static void use(struct vm *v)
{
	vm = v;
	error(true);
	out8(vm, 0xf0, 0);
	out8(vm, 0xf1, 0);
	in8(vm, 0xf0);
	error(false);
}

/* The processor's side, without a machine. */
static unsigned asserted, gone;
static bool ignore;

static bool note(struct x86_core *core, bool pending)
{
	asserted += pending;
	gone += !pending;
	return ignore;
}

static void processor(void)
{
	struct flat *f = flat_new("v2");
	struct x86_env env = *f->core.env;
	struct x86_cpu *cpu = &f->core.cpu;

	flat_mode(f, FLAT_REAL, 0);
	env.fpu_error = note;
	f->core.env = &env;
	cpu->cr0 &= ~CR0_NE;
	flat_run(f, AT, "\xdb\xe3", 2); /* FNINIT: the registers are not empty after reset */
	cpu->xsave.legacy.fcw = 0x37b; /* ZM clear */
	ok(flat_run(f, AT, "\xd9\xe8", 2) == -1 && flat_run(f, AT, "\xd9\xee", 2) == -1 && flat_run(f, AT, "\xd8\xf9", 2) == -1 && !asserted,
	   "1/0 does not wait yet");
	flat_run(f, AT, "\xd9\xe8", 2);
	ok(asserted == 1 && cpu->activity == X86_HALTED && cpu->gpr[X86_GPR_RIP] == AT, "the next one waits before itself");
	cpu->activity = X86_RUNNING;
	ignore = true;
	ok(flat_run(f, AT, "\xd9\xe8", 2) == -1 && cpu->activity == X86_RUNNING && cpu->gpr[X86_GPR_RIP] == AT + 2, "with IGNNE# it runs");
	gone = 0;
	ok(flat_run(f, AT, "\xdb\xe2", 2) == -1 && gone == 1, "FNCLEX takes FERR# back");
	cpu->cr0 |= CR0_NE;
	asserted = gone = 0;
	ok(flat_run(f, AT, "\xd9\xee", 2) == -1 && flat_run(f, AT, "\xd8\xf9", 2) == -1 && flat_run(f, AT, "\x9b", 1) == VECTOR_MF && !asserted,
	   "with CR0.NE it is #MF");
	cpu->cr0 &= ~CR0_NE;
	gone = 0;
	cpu->cr4 |= CR4_OSFXSR;
	cpu->gpr[RBX] = 0x5000;
	flat_put(0x5000, 2, 0x37f);
	flat_put(0x5018, 4, 0x1f80);
	ok(flat_run(f, AT, "\x0f\xae\x0f", 3) == -1 && gone == 1, "FXRSTOR takes FERR# back with a state in which nothing waits");
	flat_put(0x5000, 2, 0x37b);
	flat_put(0x5002, 2, 0x8084); /* ZE, and its summary */
	ok(flat_run(f, AT, "\x0f\xae\x0f", 3) == -1 && gone == 1, "but not of one in which something does");
}

int main(void)
{
	pins();
	abuse_state(vm, "fpu-error", use);
	vm_destroy(vm);
	processor();
	return done();
}
