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

/* A machine that comes to the engine while it runs: with a processor that this kernel can be. What it is set up with stays. */
static void options(const struct x86_model *model)
{
	struct vm_config config = { .name = "test", .engine = "interp", .memory = 64 * MiB, .cpus = 1, .model = model };
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

/* --- page tables that change while the interpreter runs the processor --- */

#define CODE 0x1000
#define HALT 0x1100
#define TABLES 0x10000 /* four levels; the last one has one page, at 4 MiB */
#define PAGE_A 0x20000
#define PAGE_B 0x21000

static void start_at(struct vcpu *vcpu, uint64_t rip)
{
	vcpu_state(vcpu, X86_ALL_GROUPS);
	vcpu->core.cpu.gpr[X86_GPR_RIP] = rip;
	vcpu->core.cpu.activity = X86_RUNNING;
	vcpu_changed(vcpu, X86_ALL_GROUPS);
}

static void long_mode(struct vm *vm)
{
	static const uint8_t code[] = { 0x8b, 0x04, 0x25, 0, 0, 0x40, 0, 0xf4 }; /* mov eax, [400000h]; hlt */
	static const uint64_t entries[][2] = { /* all rights */
		{ TABLES, TABLES + 0x1007 }, { TABLES + 0x1000, TABLES + 0x2007 }, { TABLES + 0x2000, 0x87 }, { TABLES + 0x2010, TABLES + 0x3007 },
		{ TABLES + 0x3000, PAGE_A + 7 }, { PAGE_A, 0x77 }, { PAGE_B, 0x88 },
	};
	const unsigned attr = SEGA_P | SEGA_S | SEGA_ACCESSED | SEGA_G;
	struct x86_cpu *cpu = &vm->vcpu[0]->core.cpu;

	vm_reset(vm);
	for (unsigned n = 0; n < ARRAY_SIZE(entries); n++)
		guest_write(vm, entries[n][0], &entries[n][1], sizeof(entries[n][1]));
	guest_write(vm, CODE, code, sizeof(code));
	guest_write(vm, HALT, code + sizeof(code) - 1, 1);
	for (unsigned s = 0; s < SEG_COUNT; s++)
		cpu->seg[s] = (struct x86_segment){ .limit = 0xffffffff, .selector = 0x10, .attr = attr | SEGA_WRITABLE | SEGA_DB };
	cpu->seg[SEG_CS] = (struct x86_segment){ .limit = 0xffffffff, .selector = 0x08, .attr = attr | SEGA_CODE | SEGA_READABLE | SEGA_L };
	cpu->cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET;
	cpu->cr3 = TABLES;
	cpu->cr4 = CR4_PAE;
	cpu->efer = EFER_LME | EFER_LMA;
}

/* Until it halts; what is in EAX then. */
static uint64_t run(struct vcpu *vcpu, uint64_t rip, uint64_t interp_until)
{
	static const struct run_limit no_limit = { .icount = UINT64_MAX };

	kvm_vcpu_of(vcpu)->interp_until = interp_until;
	start_at(vcpu, rip);
	for (unsigned tries = 0; tries < 10 && vcpu->core.cpu.activity == X86_RUNNING && vcpu_run_once(vcpu, &no_limit); tries++)
		vcpu_state(vcpu, X86_ALL_GROUPS);
	return vcpu->core.cpu.gpr[RAX];
}

/* The kernel takes no such state: outside long mode a processor does not look at the L bit of CS, where the guest has put it; and no processor has reserved
 * bits in MXCSR, but emulated ones that do (and run KVM). */
static void refused(struct vm *vm, const char *what, uint32_t mxcsr, unsigned l)
{
	static const uint8_t code[] = { 0xb8, 0x77, 0, 0, 0, 0xf4 }; /* mov eax, 77h; hlt */
	struct vcpu *vcpu = vm->vcpu[0];
	struct kvm_vcpu *k = kvm_vcpu_of(vcpu);
	uint64_t got, failed = k->stat.failed;

	if (!(kvm_find_out()->mips[KVM_FLAT] > 0)) {
		skip("a state that the kernel refuses - this /dev/kvm has no protected mode");
		return;
	}
	long_mode(vm);
	vcpu->core.cpu.cr0 = CR0_PE | CR0_NE | CR0_ET;
	vcpu->core.cpu.efer = 0;
	vcpu->core.cpu.seg[SEG_CS].attr |= SEGA_DB;
	vcpu->core.cpu.seg[SEG_CS].attr &= ~(unsigned)SEGA_L | l;
	vcpu->core.cpu.xsave.legacy.mxcsr = mxcsr;
	guest_write(vm, CODE, code, sizeof(code));
	got = run(vcpu, CODE, 0);
	ok(got == 0x77 && !vm->end && k->stat.failed == failed + 1 && (vcpu->core.cpu.seg[SEG_CS].attr & SEGA_L) == l &&
		   vcpu->core.cpu.xsave.legacy.mxcsr == mxcsr, "a state that the kernel refuses is left to the interpreter: %s (%#lx)", what, got);
}

static void page_tables(void)
{
	struct vm_config config = { .name = "test", .engine = "kvm", .engine_options = "irqchip=user,modes=all", .memory = 8 * MiB, .cpus = 1,
				    .model = x86_model_find("v1") };
	static const uint64_t other = PAGE_B + 7;
	struct vm *vm;
	struct vcpu *vcpu;
	uint64_t got;

	if (!(kvm_find_out()->mips[KVM_LONG] > 0)) {
		skip("page tables that change - this /dev/kvm has no long mode");
		return;
	}
	if (vm_create(&vm, &config)) {
		ok(false, "a machine with engine kvm");
		return;
	}
	vcpu = vm->vcpu[0];
	long_mode(vm);
	got = run(vcpu, CODE, 0);
	ok(got == 0x77 && kvm_vcpu_of(vcpu)->stat.runs, "KVM reads a page");
	run(vcpu, HALT, UINT64_MAX);
	ok(vcpu->engine == &interp_engine, "the interpreter has the processor");
	guest_write(vm, TABLES + 0x3000, &other, sizeof(other)); /* as one that makes new tables from old pages: no translation is flushed */
	got = run(vcpu, CODE, 0);
	ok(got == 0x88 && vcpu->engine == &kvm_engine, "KVM sees the page that was mapped meanwhile (%#lx)", got);
	refused(vm, "CS", 0x1f80, SEGA_L);
	refused(vm, "MXCSR", 0x10001f80, 0);
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
	options(vm->config.model);
	vm_destroy(vm);
	page_tables();
	return done();
}
