/* SPDX-License-Identifier: MIT */
/* The KVM engine: events that were under way, groups that share a structure of the kernel's, guest memory as slots, options (engine_state.c has whole states).
 * Skipped where /dev/kvm cannot be used. */
#include <errno.h>
#include "engine/kvm/kvm.h"
#include "vm_test.h"
#include "x86/cpuid.h"

/* --- events that were under way --- */

static void events(struct vm *vm)
{
	static const struct { enum x86_event_type type; uint8_t vector; bool error; const char *name; } cases[] = {
		{ EVENT_EXCEPTION, VECTOR_GP, true, "an exception" }, { EVENT_INTERRUPT, 0x41, false, "an interrupt" },
		{ EVENT_NMI, VECTOR_NMI, false, "an NMI" },
	};
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
		vcpu_reset(vcpu, false);
		cpu->event_pending = 1;
		cpu->event_type = (uint8_t)cases[n].type;
		cpu->event_vector = cases[n].vector;
		cpu->event_has_error = cases[n].error;
		cpu->event_error = cases[n].error ? 0x18 : 0;
		kvm_engine.load_state(vcpu, X86_ALL_GROUPS);
		kvm_vcpu_of(vcpu)->completion = true;
		cpu->event_pending = cpu->event_vector = cpu->event_type = 0;
		kvm_engine.store_state(vcpu, X86_EVENTS);
		ok(cpu->event_pending && cpu->event_type == cases[n].type && cpu->event_vector == cases[n].vector &&
			   cpu->event_has_error == cases[n].error && cpu->event_error == (cases[n].error ? 0x18 : 0),
		   "%s that was being delivered comes back", cases[n].name);
	}
}

/* One group changed outside leaves those alone that share the kernel's structure with it. */
static void neighbours(struct vm *vm)
{
	struct vcpu *vcpu = vm->vcpu[0];
	struct x86_cpu *cpu = &vcpu->core.cpu;

	vcpu_reset(vcpu, false);
	cpu->gpr[RBX] = 1;
	cpu->cr2 = 0x1234;
	kvm_engine.load_state(vcpu, X86_ALL_GROUPS);
	vcpu->held = X86_ALL_GROUPS;
	cpu->gpr[RBX] = cpu->cr2 = 0;
	vcpu->held &= ~(unsigned)(X86_FLAGS | X86_SEGMENTS);
	cpu->rflags = FLAG_FIXED | FLAG_CF;
	cpu->seg[SEG_ES].selector = 0x40;
	cpu->seg[SEG_ES].base = 0x400;
	kvm_engine.load_state(vcpu, X86_FLAGS | X86_SEGMENTS);
	kvm_vcpu_of(vcpu)->completion = true;
	kvm_engine.store_state(vcpu, X86_ALL_GROUPS);
	ok(cpu->gpr[RBX] == 1 && cpu->cr2 == 0x1234 && (cpu->rflags & FLAG_CF) && cpu->seg[SEG_ES].selector == 0x40,
	   "loading a group leaves its neighbour alone");
	vcpu->held = 0;
}

static void slots(struct vm *vm)
{
	static const uint8_t rom[0x2000];
	struct kvm_vm *k = kvm_of(vm);
	unsigned used = 0, readonly = 0;
	uint64_t log[64 * MiB / X86_PAGE_SIZE / 64] = { 0 };

	ok(!memory_add_rom(vm, 0xfffe0000, rom, sizeof(rom), "rom"), "a ROM is added");
	for (unsigned n = 0; n < KVM_REGIONS; n++) {
		used += k->slot[n].size != 0;
		readonly += k->slot[n].size && k->slot[n].readonly;
	}
	ok(used == vm->memory.map->count && readonly == 1, "a slot for each region; the ROM's is read only");
	ok(!kvm_engine.dirty_log(vm, &vm->memory.map->region[0], log) && log[0] == ~0ULL, "the first look at the dirty log says that all is dirty");
	ok(!kvm_engine.dirty_log(vm, &vm->memory.map->region[0], log) && !log[0], "the next one says that nothing was written since");
}

/* A machine that comes to the engine while it runs. What it is set up with stays. */
static void options(void)
{
	struct vm_config config = { .name = "test", .engine = "interp", .memory = 64 * MiB, .cpus = 1, .model = x86_model_find("v1") };
	struct vm *vm;
	uint64_t ns;

	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine interp");
		return;
	}
	vm_reset(vm);
	ok(!vm_engine_switch_with(vm, &kvm_engine, "irqchip=kernel", &ns) && kvm_of(vm)->irqchip, "a change to an engine with an option");
	ok(vm_engine_switch_with(vm, &kvm_engine, "irqchip=kernel", &ns) == -EALREADY, "the same again");
	ok(!vm_engine_switch(vm, &interp_engine, &ns) && vm_engine_switch_with(vm, &kvm_engine, "irqchip=user", &ns) == -EBUSY &&
		   vm->engine == &interp_engine, "another option is for another machine");
	ok(!vm_engine_switch(vm, &kvm_engine, &ns) && kvm_of(vm)->irqchip, "without options: as it was set up");
	vm_destroy(vm);
	if (vm_create(&vm, &config))
		return;
	vm_reset(vm);
	ok(vm_engine_switch_with(vm, &kvm_engine, "irqchip=none", &ns) == -EINVAL && !vm->engines[KVM_SLOT] &&
		   !vm_engine_switch_with(vm, &kvm_engine, "irqchip=user", &ns) && !kvm_of(vm)->irqchip, "one that there is not leaves no trace");
	vm_destroy(vm);
}

int main(void)
{
	struct vm_config config = { .name = "test", .engine = "kvm", .engine_options = "modes=all", .memory = 64 * MiB, .cpus = 1 };
	struct engine_report report = { 0 };
	struct vm *vm;

	kvm_engine.probe(&report);
	if (!report.usable) {
		skip("kvm - %s", report.why);
		return done();
	}
	config.model = x86_model_find("v2");
	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine kvm");
		return done();
	}
	events(vm);
	neighbours(vm);
	slots(vm);
	vm_destroy(vm);
	options();
	return done();
}
