/* SPDX-License-Identifier: MIT */
/* The KVM engine's interrupt chips: what a program set up in the devices goes into the kernel and comes back the same; lines and messages that
 * come meanwhile reach the kernel's chips. Skipped where /dev/kvm cannot be used. */
#include "engine/kvm/kvm.h"
#include "device/lapic.h"
#include "machine.h"

#define LAPIC 0xfee00000ULL
#define IOAPIC 0xfec00000ULL

static struct irq_pin serial, disk;

static const struct lapic_config wire = { .virtual_wire = true };
static const struct device_place places[] = {
	{ .class = &i8259_class, .name = "pic", .irq = -1 },
	{ .class = &lapic_class, .name = "lapic", .base = LAPIC, .irq = -1, .config = &wire },
	{ .class = &ioapic_class, .name = "ioapic", .base = IOAPIC, .irq = -1 },
	{ .class = &i8254_class, .name = "pit", .base = 0x40, .irq = 0 },
};

static struct vm *kernel_machine(void)
{
	struct vm_config config = { .name = "test", .engine = "kvm", .engine_options = "irqchip=kernel,modes=all", .memory = 64 * MiB, .cpus = 2 };
	struct vm *vm;

	config.model = x86_model_find("v2");
	if (vm_create(&vm, &config))
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		if (!device_create(vm, &places[i]))
			return NULL;
	for (unsigned gsi = 0; gsi < 24; gsi++) {
		if (gsi < 16 && gsi != 2)
			irq_connect(vm, gsi, device_find(vm, "pic"), i8259_set, gsi);
		if (gsi != 2)
			irq_connect(vm, gsi, device_find(vm, "ioapic"), ioapic_set, gsi ? gsi : 2);
	}
	device_reset_all(vm, RESET_COLD);
	irq_pin_init(&serial, vm, 4);
	irq_pin_init(&disk, vm, 11);
	return vm;
}

static uint32_t lapic_reg(struct vm *vm, unsigned reg)
{
	return (uint32_t)bus_read(vm, BUS_MEMORY, LAPIC + 16 * reg, 4);
}

static uint32_t ioapic_reg(struct vm *vm, unsigned index)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	return (uint32_t)bus_read(vm, BUS_MEMORY, IOAPIC + 0x10, 4);
}

static void ioapic_set_reg(struct vm *vm, unsigned index, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x10, 4, value);
}

static void set_up(struct vm *vm)
{
	static const struct { uint16_t port; uint8_t value; } pic[] = {
		{ 0x20, 0x11 }, { 0x21, 0x30 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xea }, /* vectors from 30h; 0, 2 and 4 open */
		{ 0xa0, 0x11 }, { 0xa1, 0x38 }, { 0xa1, 0x02 }, { 0xa1, 0x01 }, { 0xa1, 0xf7 }, /* 11 open */
		{ 0x4d1, 0x08 }, /* 11 is level-triggered */
		{ 0x43, 0xb6 }, { 0x42, 0x34 }, { 0x42, 0x12 }, { 0x61, 0x01 }, /* counter 2: square wave of 1234h */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(pic); i++)
		out8(vm, pic[i].port, pic[i].value);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_SVR, 4, SVR_ENABLED | 0xef);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_TPR, 4, 0x20);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_LDR, 4, 0x01000000);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * (APIC_LVT + LVT_ERROR), 4, 0xfe);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_DIVIDE, 4, 0x0b);
	ioapic_set_reg(vm, 0x10 + 2 * 10, 0x0001a05a); /* masked, level, vector 5Ah */
	ioapic_set_reg(vm, 0x10 + 2 * 10 + 1, 0x01000000);
	ioapic_set_reg(vm, 0x10 + 2 * 9, 0x00000061);  /* open, edge, vector 61h */
}

static void compare(struct vm *vm, const char *when)
{
	static const struct { unsigned reg; uint32_t value; const char *name; } lapic[] = {
		{ APIC_SVR, SVR_ENABLED | 0xef, "SVR" }, { APIC_TPR, 0x20, "TPR" }, { APIC_LDR, 0x01000000, "LDR" },
		{ APIC_LVT + LVT_ERROR, 0xfe, "LVT error" }, { APIC_DIVIDE, 0x0b, "divide configuration" }, { APIC_DFR, 0xffffffff, "DFR" },
	};

	ok(in8(vm, 0x21) == 0xea && in8(vm, 0xa1) == 0xf7, "%s: the masks of the 8259s", when);
	ok(in8(vm, 0x4d1) == 0x08, "%s: ELCR", when);
	for (unsigned i = 0; i < ARRAY_SIZE(lapic); i++)
		ok(lapic_reg(vm, lapic[i].reg) == lapic[i].value, "%s: the local APIC's %s (%#x)", when, lapic[i].name, lapic_reg(vm, lapic[i].reg));
	ok(ioapic_reg(vm, 0x10 + 2 * 10) == 0x0001a05a && ioapic_reg(vm, 0x11 + 2 * 10) == 0x01000000, "%s: an entry of the IOAPIC", when);
	out8(vm, 0x43, 0xe8); /* read back the status of counter 2 */
	ok((in8(vm, 0x42) & 0x3f) == 0x36, "%s: counter 2 is a square wave", when);
	ok(in8(vm, 0x61) & 1, "%s: its gate is open", when);
}

int main(void)
{
	struct engine_report report = { 0 };
	struct vm *vm;
	uint64_t base;

	kvm_engine.probe(&report);
	if (!report.usable) {
		skip("kvm - %s", report.why);
		return done();
	}
	vm = kernel_machine();
	if (!vm) {
		ok(false, "a machine with the chips in the kernel");
		return done();
	}
	set_up(vm);
	compare(vm, "set up");
	irq_set(&disk, true);
	ok(kvm_chips_in(vm->vcpu[0]), "the chips go into the kernel");
	ok(vm->irq.elsewhere && vm->vcpu[1]->waits_inside && !vm->vcpu[0]->intr_pending, "the devices stand still");
	irq_set(&serial, true);
	irq_message(vm, 0xfee00000, 0x0072);
	kvm_chips_out(vm);
	ok(!vm->irq.elsewhere && !vm->vcpu[1]->waits_inside, "the chips come out");
	compare(vm, "after the way through the kernel");
	out8(vm, 0x20, 0x0a);
	out8(vm, 0xa0, 0x0a);
	ok((in8(vm, 0x20) & 0x10) && (in8(vm, 0xa0) & 0x08), "a line that rose inside, and one that was high before, are requests of the 8259s");
	ok(lapic_reg(vm, APIC_IRR + 0x72 / 32) & 1u << 0x72 % 32, "a message that was sent inside is a request of the local APIC");
	ok(!(lapic_reg(vm, APIC_IRR + 0x61 / 32) & 1u << 0x61 % 32), "what was not raised is not");
	kvm_of(vm)->chips_out_until = UINT64_MAX;
	ok(!kvm_chips_in(vm->vcpu[0]), "they do not go in again before their time");
	ok(vm->irq.controller->rdmsr(vm->irq.controller_device, vm->vcpu[1], MSR_APIC_BASE, &base) && base == (LAPIC | APIC_BASE_ENABLE),
	   "IA32_APIC_BASE of the second processor");
	ok(vm->vcpu[1]->core.cpu.activity == X86_WAIT_SIPI, "which still waits to be started");
	vm_destroy(vm);
	return done();
}
