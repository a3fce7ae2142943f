/* SPDX-License-Identifier: MIT */
/* What a BIOS does with the chip set and the PCI bus before it boots anything, for guests that are loaded without
 * one: PCI Local Bus Specification 3.0, section 6.2.5.1 (how a base address register is sized). */
#include <string.h>
#include "board/firmware.h"
#include "device/chips.h"
#include "device/pci.h"

#define PAM_FIRST 0x59
#define PAM_LAST 0x5f
#define PAM_ALL_RAM 0x33u           /* reads and writes of both segments go to RAM */
#define PORTS_START 0xc000u         /* above what the chips have */
#define ROUTE_BELOW 0x80000000u     /* memory below is RAM, or left free for it */
#define ELCR_PORT 0x4d0

struct allocation {
	uint32_t port, memory;      /* next free one */
};

uint32_t pci_memory_start(uint64_t ram)
{
	uint64_t end = MIN(ram, RAM_HOLE_START);
	return (uint32_t)MAX(align_up(end, MiB), (uint64_t)ROUTE_BELOW);
}

static void place_bar(struct vm *vm, unsigned devfn, unsigned at, bool wide, struct allocation *free_space)
{
	uint32_t old = pci_read(vm, devfn, at, 4);
	bool ports = old & 1;
	uint32_t flags = ports ? 3 : 15, *next = ports ? &free_space->port : &free_space->memory;
	pci_write(vm, devfn, at, 4, UINT32_MAX);
	uint32_t size = -(pci_read(vm, devfn, at, 4) & ~flags);
	if (size && ports)
		size &= 0xffff;
	if (!size || size & (size - 1))
		return;
	uint64_t place = align_up(*next, size), end = ports ? 0x10000 : PC_IOAPIC;
	if (place + size > end)
		place = 0; /* no room: it stays unset, which is to be off */
	else
		*next = (uint32_t)(place + size);
	pci_write(vm, devfn, at, 4, (uint32_t)place);
	if (wide)
		pci_write(vm, devfn, at + 4, 4, 0);
}

static void set_up_function(struct vm *vm, unsigned devfn, const uint8_t *irqs, struct allocation *free_space)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		unsigned at = PCI_BAR + 4 * i;
		bool wide = (pci_read(vm, devfn, at, 4) & 7) == 4;
		place_bar(vm, devfn, at, wide, free_space);
		i += wide;
	}
	uint8_t pin = (uint8_t)pci_read(vm, devfn, PCI_PIN, 1);
	if (pin)
		pci_write(vm, devfn, PCI_LINE, 1, irqs[pci_pirq(devfn, pin)]);
	uint32_t command = pci_read(vm, devfn, PCI_COMMAND, 2);
	pci_write(vm, devfn, PCI_COMMAND, 2, command | PCI_COMMAND_IO | PCI_COMMAND_MEMORY);
}

/* Two PIRQs to an interrupt, as firmware for this chip set does it; both level-triggered. */
static void route(struct vm *vm, uint8_t irqs[PCI_PIRQS])
{
	static const uint8_t all[] = { PC_PCI_IRQS };
	uint32_t level = 0;
	for (unsigned i = 0; i < PCI_PIRQS; i++) {
		irqs[i] = all[ARRAY_SIZE(all) - 2 + i / 2];
		level |= 1u << irqs[i];
		pci_write(vm, PC_ISA_BRIDGE, PIIX3_PIRQ_ROUTE + i, 1, irqs[i]);
	}
	bus_write(vm, BUS_PORT, ELCR_PORT, 1, level & 0xff);
	bus_write(vm, BUS_PORT, ELCR_PORT + 1, 1, level >> 8);
}

void pci_setup(struct vm *vm)
{
	struct allocation free_space = { PORTS_START, pci_memory_start(vm->memory.ram_size) };
	uint8_t irqs[PCI_PIRQS];
	for (unsigned at = PAM_FIRST; at <= PAM_LAST; at++)
		pci_write(vm, PC_HOST_BRIDGE, at, 1, PAM_ALL_RAM);
	pci_write(vm, PC_PM_FUNCTION, PIIX4_PM_BASE, 4, ACPI_PM_BASE);
	pci_write(vm, PC_PM_FUNCTION, PIIX4_PM_MISC, 1, PIIX4_PM_ENABLE);
	for (unsigned channel = 0; channel < 2 && pci_at(vm, PC_IDE_FUNCTION); channel++)
		pci_write(vm, PC_IDE_FUNCTION, IDE_TIMING + 2 * channel, 2, IDE_TIMING_DECODE);
	route(vm, irqs);
	for (unsigned devfn = 0; devfn < PCI_FUNCTIONS; devfn++)
		if (pci_at(vm, devfn))
			set_up_function(vm, devfn, irqs, &free_space);
	pci_write(vm, PC_PM_FUNCTION, PCI_LINE, 1, ACPI_SCI_IRQ); /* hard-wired */
}
