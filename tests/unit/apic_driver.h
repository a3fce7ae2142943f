/* SPDX-License-Identifier: MIT */
/* A machine with local APICs, an I/O APIC, and the 8259 behind LINT0; and how a test reaches their registers. */
#pragma once
#include "device/lapic.h"
#include "machine.h"

#define CPUS 4
#define LAPIC 0xfee00000ULL
#define IOAPIC 0xfec00000ULL
static const struct lapic_config wire = { .virtual_wire = true };
static const struct ioapic_config ioapic_config = { .id = CPUS };
static const struct device_place places[] = {
	{ .class = &i8259_class, .name = "pic", .irq = -1 },
	{ .class = &lapic_class, .name = "lapic", .base = LAPIC, .irq = -1, .config = &wire },
	{ .class = &ioapic_class, .name = "ioapic", .base = IOAPIC, .irq = -1, .config = &ioapic_config },
};
static struct vm *vm;
static struct device *ioapic;

static inline struct vm *build(void)
{
	return machine(CPUS, places, 3);
}

static inline void enter(struct vm *v)
{
	vm = v;
	ioapic = device_find(vm, "ioapic");
}

static inline uint32_t rd(unsigned reg)
{
	return bus_read(vm, BUS_MEMORY, LAPIC + reg * 16, 4);
}

static inline void wr(unsigned reg, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, LAPIC + reg * 16, 4, value);
}

static inline bool rdmsr(unsigned cpu, uint32_t index, uint64_t *value)
{
	return vm->irq.controller->rdmsr(vm->irq.controller_device, vm->vcpu[cpu], index, value);
}

static inline uint64_t msr(unsigned cpu, uint32_t index)
{
	uint64_t value = ~0ULL;
	rdmsr(cpu, index, &value);
	return value;
}

static inline bool wrmsr(unsigned cpu, uint32_t index, uint64_t value)
{
	return vm->irq.controller->wrmsr(vm->irq.controller_device, vm->vcpu[cpu], index, value);
}

static inline int take(unsigned cpu)
{
	return vm->irq.controller->acknowledge(vm->irq.controller_device, vm->vcpu[cpu]);
}

static inline bool asked(unsigned cpu)
{
	return vm->vcpu[cpu]->intr_pending;
}

/* The test's thread is no processor, so it sees the boot processor's registers by MMIO. The others are set up
 * through their state. */
static inline struct lapic_cpu *state(unsigned cpu)
{
	return &lapic_of(vm->irq.controller_device)->cpu[cpu];
}

static inline void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	enter(build());
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		state(cpu)->svr = 0x1ff;
}

static inline void eoi(unsigned cpu)
{
	if (cpu)
		state(cpu)->base |= APIC_BASE_X2APIC, wrmsr(cpu, 0x80b, 0), state(cpu)->base &= ~APIC_BASE_X2APIC;
	else
		wr(APIC_EOI, 0);
}

static inline void message(uint64_t address, uint32_t data)
{
	vm->irq.controller->message(vm->irq.controller_device, LAPIC | address, data);
}

static inline void io_wr(unsigned index, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x10, 4, value);
}

static inline uint32_t io_rd(unsigned index)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	return bus_read(vm, BUS_MEMORY, IOAPIC + 0x10, 4);
}

static inline void redirect(unsigned pin, uint32_t low, uint32_t high)
{
	io_wr(0x11 + 2 * pin, high);
	io_wr(0x10 + 2 * pin, low);
}
