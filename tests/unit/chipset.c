/* SPDX-License-Identifier: MIT */
/* The 440FX: where accesses below 1 MiB go, by PAM and SMRAM; the PIIX4: where the ports of the ACPI block are;
 * and the gate of A20. */
#include "device/pci.h"
#include "engine/engine.h"
#include "machine.h"

#define BRIDGE PCI_AT(0, 0)
#define PM PCI_AT(1, 3)
#define ROM 0xaa  /* what the BIOS is full of */
#define RAM 0x11  /* what RAM is full of */
#define NONE 0xff
#define SMRAM 0x72

static uint8_t bios[256 * 1024];
static const struct i440fx_config bridge_config = { .bios = bios, .bios_size = sizeof(bios) };
static const struct i440fx_config small_config = { .bios = bios, .bios_size = 64 * 1024 };
static const struct piix4_pm_config pm_config = { .block = "acpi-pm" };
static const struct device_place places[] = {
	{ .class = &acpi_pm_class, .name = "acpi-pm", .irq = ACPI_SCI_IRQ },
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &piix4_pm_class, .name = "piix4-pm", .base = PM, .irq = -1, .config = &pm_config },
	{ .class = &i440fx_class, .name = "i440fx", .base = BRIDGE, .irq = -1, .config = &bridge_config },
};
static const struct device_place small_places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &i440fx_class, .name = "i440fx", .base = BRIDGE, .irq = -1, .config = &small_config },
};
static const struct device_place gate_places[] = {
	{ .class = &a20_class, .name = A20_NAME, .irq = -1 },
	{ .class = &port92_class, .name = "port92", .base = 0x92, .irq = -1 },
	{ .class = &i8042_class, .name = "kbd", .base = 0x60, .irq = 1 },
};
static struct vm *vm;

/* What a processor does, by the same ways as an engine. */
static uint8_t load(gpa_t gpa)
{
	struct x86_core *core = &vm->vcpu[0]->core;
	bool traced;
	const uint8_t *page = vcpu_env.page(core, gpa & X86_PAGE_MASK, ACCESS_READ, &traced);
	return page ? page[gpa & ~X86_PAGE_MASK] : (uint8_t)vcpu_env.io_read(core, SPACE_MEMORY, gpa, 1);
}

static void store(gpa_t gpa, uint8_t value)
{
	struct x86_core *core = &vm->vcpu[0]->core;
	bool traced;
	uint8_t *page = vcpu_env.page(core, gpa & X86_PAGE_MASK, ACCESS_WRITE, &traced);
	if (page)
		page[gpa & ~X86_PAGE_MASK] = value;
	else
		vcpu_env.io_write(core, SPACE_MEMORY, gpa, 1, value);
}

static void pam(unsigned at, uint8_t value)
{
	pci_write(vm, BRIDGE, at, 1, value);
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, ARRAY_SIZE(places));
	memset(vm->memory.host + 0xa0000, RAM, 0x60000);
}

static void after_reset(void)
{
	fresh();
	ok(pci_read(vm, BRIDGE, 0, 4) == 0x12378086 && pci_read(vm, BRIDGE, 8, 4) == 0x06000002, "440fx: IDs");
	ok(load(0x9ffff) == 0 && load(0x100000) == 0, "440fx: RAM on both sides");
	ok(load(0xa0000) == NONE && load(0xbffff) == NONE, "440fx: the video area is the bus's");
	ok(load(0xc0000) == NONE && load(0xdffff) == NONE, "440fx: nothing answers where cards have their ROMs");
	ok(load(0xe0000) == ROM && load(0xfffff) == ROM, "440fx: the last 128 KiB of the BIOS");
	store(0xf0000, 1);
	store(0xc0000, 1);
	store(0xa0000, 1);
	ok(load(0xf0000) == ROM && vm->memory.host[0xf0000] == RAM && vm->memory.host[0xa0000] == RAM,
		"440fx: writes are lost");
	struct vm *big = vm;
	vm = machine(1, small_places, ARRAY_SIZE(small_places));
	ok(load(0xeffff) == NONE && load(0xf0000) == ROM, "440fx: a BIOS of 64 KiB");
	vm_destroy(vm);
	vm = big;
}

static void segments(void)
{
	fresh();
	for (unsigned i = 0; i < 13; i++) {
		gpa_t start = i ? 0xc0000 + (i - 1) * 0x4000 : 0xf0000, last = start + (i ? 0x3fff : 0xffff);
		unsigned at = 0x59 + (i + 1) / 2, shift = i & 1 ? 0 : 4;
		uint8_t bus = start >= 0xe0000 ? ROM : NONE, before = start > 0xc0000 ? load(start - 1) : RAM;
		bool good = load(start) == bus && load(last) == bus;
		pam(at, 1 << shift);
		good &= load(start) == RAM && load(last) == RAM;
		store(start, 2);
		good &= load(start) == RAM;
		ok(good, "pam %u: reads RAM, writes nothing", i);
		pam(at, 2 << shift);
		store(start, 3);
		store(last, 4);
		ok(load(start) == bus && load(last) == bus && vm->memory.host[start] == 3 && vm->memory.host[last] == 4,
			"pam %u: reads the bus, writes RAM", i);
		pam(at, 3 << shift);
		good = load(start) == 3 && load(last) == 4;
		store(start, 5);
		ok(good && load(start) == 5, "pam %u: RAM", i);
		ok((start == 0xc0000 || load(start - 1) == before) &&
			(last == 0xfffff || load(last + 1) == (last + 1 >= 0xe0000 ? ROM : NONE)),
		   "pam %u: the neighbours are as they were", i);
		pam(at, 0);
		ok(load(start) == bus, "pam %u: the bus again", i);
	}
	for (unsigned at = 0x59; at <= 0x5f; at++)
		pam(at, 0xff);
	ok(pci_read(vm, BRIDGE, 0x59, 1) == 0x30 && pci_read(vm, BRIDGE, 0x5f, 1) == 0x33, "pam: reserved bits");
	ok(vm->memory.map->count == 2, "pam: all RAM is two regions, the video area between them");
	ok(load(0xc0000) == 5 && load(0xfffff) == 4, "pam: what was written is still there");
	device_reset_all(vm, RESET_COLD);
	ok(load(0xf0000) == ROM && load(0xc0000) == NONE, "pam: reset");
}

/* Device accesses go the same way. */
static void copies(void)
{
	uint8_t data[0x8000], value = 9;
	fresh();
	ok(!guest_read(vm, 0xdc000, data, sizeof(data)) && data[0] == NONE && data[0x4000] == ROM,
		"dma: reads across two kinds of segment");
	ok(guest_write(vm, 0xf0000, &value, 1), "dma: does not write ROM");
	pam(0x59, 0x20);
	ok(!guest_write(vm, 0xf0000, &value, 1) && load(0xf0000) == ROM && vm->memory.host[0xf0000] == 9,
		"dma: writes to the shadow");
	ok(memory_host(vm, 0xf0000, 1) != vm->memory.host + 0xf0000, "dma: reads the ROM");
	pam(0x59, 0x30);
	ok(memory_host(vm, 0xf0000, 0x10000) == vm->memory.host + 0xf0000, "dma: RAM");
}

static void smram(void)
{
	fresh();
	pci_write(vm, BRIDGE, SMRAM, 1, 0x48);
	ok(pci_read(vm, BRIDGE, SMRAM, 1) == 0x4a && load(0xa0000) == RAM && load(0xbffff) == RAM, "smram: open");
	store(0xa0000, 7);
	pci_write(vm, BRIDGE, SMRAM, 1, 0x08);
	ok(load(0xa0000) == NONE && vm->memory.host[0xa0000] == 7, "smram: closed");
	pci_write(vm, BRIDGE, SMRAM, 1, 0x58);
	ok(pci_read(vm, BRIDGE, SMRAM, 1) == 0x1a && load(0xa0000) == NONE, "smram: locking closes it");
	pci_write(vm, BRIDGE, SMRAM, 1, 0x48);
	ok(pci_read(vm, BRIDGE, SMRAM, 1) == 0x1a && load(0xa0000) == NONE, "smram: locked");
	device_reset_all(vm, RESET_COLD);
	pci_write(vm, BRIDGE, SMRAM, 1, 0x48);
	ok(load(0xa0000) == 7, "smram: a reset unlocks it");
}

static void power(void)
{
	fresh();
	ok(pci_read(vm, PM, 0, 4) == 0x71138086 && pci_read(vm, PM, PIIX4_PM_BASE, 4) == 1, "piix4: IDs, no base");
	pci_write(vm, PM, PIIX4_PM_BASE, 4, 0xffffffff);
	ok(pci_read(vm, PM, PIIX4_PM_BASE, 4) == 0xffc1, "piix4: size of the base");
	pci_write(vm, PM, PIIX4_PM_BASE, 4, 0x600);
	bus_write(vm, BUS_PORT, 0x602, 2, 0x0100);
	ok(bus_read(vm, BUS_PORT, 0x602, 2) == 0xffff && !acpi_pm_base(device_find(vm, "acpi-pm")), "piix4: off");
	pci_write(vm, PM, PIIX4_PM_MISC, 1, 0xff);
	bus_write(vm, BUS_PORT, 0x602, 2, 0x0100);
	ok(bus_read(vm, BUS_PORT, 0x602, 2) == 0x0100 && pci_read(vm, PM, PIIX4_PM_MISC, 1) == 1, "piix4: on");
	pci_write(vm, PM, PIIX4_PM_BASE, 4, 0xb000);
	ok(bus_read(vm, BUS_PORT, 0x602, 2) == 0xffff && bus_read(vm, BUS_PORT, 0xb002, 2) == 0x0100, "piix4: moved");
	ok(bus_read(vm, BUS_PORT, 0xb010, 4) == 0 && bus_read(vm, BUS_PORT, 0xb040, 1) == 0xff,
		"piix4: the rest of the block reads as 0");
	ok((pci_read(vm, PM, 0x5b, 1) & 2) && !(pci_read(vm, PM, 0xd2, 1) & 1),
		"piix4: SMM is somebody else's, and there is no SMBus");
	device_reset_all(vm, RESET_COLD);
	ok(bus_read(vm, BUS_PORT, 0xb002, 2) == 0xffff, "piix4: reset");
}

static void round_trip(void)
{
	fresh();
	pam(0x59, 0x10);
	pam(0x5a, 0x23);
	pci_write(vm, BRIDGE, SMRAM, 1, 0x18);
	pci_write(vm, PM, PIIX4_PM_BASE, 4, 0x600);
	pci_write(vm, PM, PIIX4_PM_MISC, 1, 1);
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	ok(copy_state(one, two) && same_state(one, two), "chipset: state loads");
	vm = two;
	memset(vm->memory.host + 0xa0000, RAM, 0x60000);
	store(0xc4000, 8);
	ok(load(0xf0000) == RAM && load(0xc0000) == RAM && load(0xc4000) == NONE && vm->memory.host[0xc4000] == 8,
		"chipset: PAM is in force");
	pci_write(vm, BRIDGE, SMRAM, 1, 0x48);
	ok(load(0xa0000) == NONE, "chipset: the lock holds");
	ok(bus_read(vm, BUS_PORT, 0x602, 2) == 0, "chipset: the ACPI block is there");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (gpa_t at = 0xa0000; at < 0x100000; at += 0x4000)
		store(at, load(at));
	pci_write(v, BRIDGE, 0x58, 4, 0x33333333);
	bus_read(v, BUS_PORT, 0x600, 4);
}

static void gate(void)
{
	struct vm *two = machine(1, gate_places, ARRAY_SIZE(gate_places));
	vm_destroy(vm);
	vm = machine(1, gate_places, ARRAY_SIZE(gate_places));
	store(0x500, 1);
	store(0x100500, 2);
	ok(load(0x500) == 1 && load(0x100500) == 2 && in8(vm, 0x92) == 2, "a20: open after a reset");
	out8(vm, 0x92, 0);
	ok(load(0x100500) == 1 && load(0x1fffff) == load(0xfffff), "a20: closed, the second MiB is the first");
	store(0x100500, 3);
	ok(load(0x500) == 3 && load(0x200500) == 0, "a20: when written, too; the third is itself");
	guest_write(two, 0x500, "\7", 1);
	ok(copy_state(vm, two) && same_state(vm, two), "a20: state loads");
	struct vm *one = vm;
	vm = two;
	ok(load(0x100500) == 7, "a20: the gate is closed there");
	vm = one;
	out8(vm, 0x64, 0xd1);
	out8(vm, 0x60, 0xdf);
	ok(load(0x500) == 3 && load(0x100500) == 2, "a20: the keyboard controller opens it");
	out8(vm, 0x64, 0xd1);
	out8(vm, 0x60, 0xdd);
	ok(load(0x100500) == 3, "a20: and closes it");
	device_reset_all(vm, RESET_COLD);
	ok(load(0x100500) == 2, "a20: a reset opens it");
	vm_destroy(two);
}

int main(void)
{
	memset(bios, ROM, sizeof(bios));
	after_reset();
	segments();
	copies();
	smram();
	power();
	round_trip();
	gate();
	fresh();
	abuse_state(vm, "i440fx", use);
	fresh();
	abuse_state(vm, "piix4-pm", use);
	vm_destroy(vm);
	return done();
}
