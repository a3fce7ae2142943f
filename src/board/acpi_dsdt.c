/* SPDX-License-Identifier: MIT */
/* The board's DSDT: processors, the PCI root with the windows and interrupts of its bus, and the chips that no bus
 * finds. ACPI 6.4 chapter 6; the interrupt links after section 6.2.13 and the PIIX3's route registers. */
#include <stdio.h>
#include "board/acpi.h"
#include "board/aml.h"
#include "device/chips.h"
#include "device/pci.h"

#define STA_ALL 0xf            /* _STA: present, enabled, shown, working */
#define STA_LINK_ON 0xb
#define STA_LINK_OFF 0x9
#define ISA "\\_SB.PCI0.ISA"
#define CONFIG_PORTS 0xcf8     /* and the seven after it */
#define PRT_ANY_FUNCTION 0xffff
#define SLOTS 32

static const char *const links[PCI_PIRQS] = { "LNKA", "LNKB", "LNKC", "LNKD" };
static const char *const routes[PCI_PIRQS] = { "PRQA", "PRQB", "PRQC", "PRQD" };

static void cpus(struct aml *a, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		char name[8];
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device(a, name);
		aml_name_string(a, "_HID", "ACPI0007");
		aml_name_integer(a, "_UID", i);
		aml_close(a);
	}
}

static void isa_device(struct aml *a, const char *name, const char *id, uint16_t port, uint8_t ports, int irq)
{
	aml_device(a, name);
	aml_name_eisa(a, "_HID", id);
	aml_resources(a, "_CRS");
	aml_io(a, port, ports);
	if (irq >= 0)
		aml_irq(a, (unsigned)irq);
	aml_resources_close(a);
	aml_close(a);
}

static void uart_device(struct aml *a, const struct firmware_facts *facts, unsigned index)
{
	char name[] = { 'C', 'O', 'M', (char)('1' + index), 0 };
	aml_device(a, name);
	aml_name_eisa(a, "_HID", "PNP0501");
	aml_name_integer(a, "_UID", index + 1);
	aml_name_integer(a, "_STA", STA_ALL);
	aml_resources(a, "_CRS");
	aml_io(a, facts->uart[index].port, 8);
	aml_irq(a, facts->uart[index].irq);
	aml_resources_close(a);
	aml_close(a);
}

static void dma_devices(struct aml *a, const struct firmware_facts *facts)
{
	aml_device(a, "DMAC");
	aml_name_eisa(a, "_HID", "PNP0200");
	aml_resources(a, "_CRS");
	aml_io(a, 0x00, 16);
	aml_io(a, 0x80, 16);
	aml_io(a, 0xc0, 32);
	aml_dma(a, 4);
	aml_resources_close(a);
	aml_close(a);
	if (!facts->floppy)
		return;
	aml_device(a, "FDC0");
	aml_name_eisa(a, "_HID", "PNP0700");
	aml_resources(a, "_CRS");
	aml_io(a, 0x3f0, 6);
	aml_io(a, 0x3f7, 1);
	aml_irq(a, 6);
	aml_dma(a, 2);
	aml_resources_close(a);
	aml_close(a);
}

static void isa_devices(struct aml *a, const struct firmware_facts *facts)
{
	isa_device(a, "TIMR", "PNP0100", 0x40, 4, 0);
	isa_device(a, "RTC", "PNP0B00", 0x70, 2, 8);
	aml_device(a, "PIC");
	aml_name_eisa(a, "_HID", "PNP0000");
	aml_resources(a, "_CRS");
	aml_io(a, 0x20, 2);
	aml_io(a, 0xa0, 2);
	aml_io(a, 0x4d0, 2);
	aml_irq(a, 2);
	aml_resources_close(a);
	aml_close(a);
	aml_device(a, "KBD");
	aml_name_eisa(a, "_HID", "PNP0303");
	aml_resources(a, "_CRS");
	aml_io(a, 0x60, 1);
	aml_io(a, 0x64, 1);
	aml_irq(a, 1);
	aml_resources_close(a);
	aml_close(a);
	aml_device(a, "MOU"); /* its ports are the keyboard's */
	aml_name_eisa(a, "_HID", "PNP0F13");
	aml_resources(a, "_CRS");
	aml_irq(a, 12);
	aml_resources_close(a);
	aml_close(a);
	dma_devices(a, facts);
	for (unsigned i = 0; i < facts->uarts; i++)
		uart_device(a, facts, i);
	aml_device(a, "SYSR"); /* what no driver claims, but nobody may be given */
	aml_name_eisa(a, "_HID", "PNP0C02");
	aml_resources(a, "_CRS");
	aml_io(a, 0x92, 1);
	aml_io(a, ACPI_SMI_COMMAND, 2);
	aml_io(a, facts->pm_base, ACPI_PM_SIZE);
	aml_resources_close(a);
	aml_close(a);
}

/* Pin n of each slot is wired to the PIRQ that pci_pirq says. */
static void routing_table(struct aml *a)
{
	enum { ENTRY = 4 };
	aml_package(a, "_PRT", (SLOTS - 1) * PCI_PIRQS);
	for (unsigned slot = 1; slot < SLOTS; slot++) {
		for (unsigned pin = 0; pin < PCI_PIRQS; pin++) {
			aml_package_element(a, ENTRY);
			aml_integer(a, slot << 16 | PRT_ANY_FUNCTION);
			aml_integer(a, pin);
			aml_reference(a, links[pci_pirq(PCI_AT(slot, 0), pin + 1)]);
			aml_integer(a, 0);
			aml_close(a);
		}
	}
	aml_close(a);
}

static void root_resources(struct aml *a, uint64_t ram)
{
	aml_resources(a, "_CRS");
	aml_bus_range(a, 0, 0);
	aml_io(a, CONFIG_PORTS, 8);
	aml_io_range(a, 0, CONFIG_PORTS - 1);
	aml_io_range(a, CONFIG_PORTS + 8, 0xffff);
	aml_memory_range(a, PC_VGA_START, 0xbffff, true);
	aml_memory_range(a, pci_memory_start(ram), PC_IOAPIC - 1, false);
	aml_resources_close(a);
}

/* A link is one PIRQ; its setting is the PIIX3's route register. */
static void link_device(struct aml *a, unsigned index)
{
	static const uint8_t possible[] = { PC_PCI_IRQS }, none[] = { 0 };
	aml_device(a, links[index]);
	aml_name_eisa(a, "_HID", "PNP0C0F");
	aml_name_integer(a, "_UID", index + 1);
	aml_resources(a, "_PRS");
	aml_irq_shared(a, possible, ARRAY_SIZE(possible));
	aml_resources_close(a);

	aml_method(a, "_STA", 0);
	aml_if(a);
	aml_term(a, AML_AND), aml_reference(a, routes[index]), aml_integer(a, PIIX3_NO_ROUTE), aml_term(a, AML_NOWHERE);
	aml_term(a, AML_RETURN), aml_integer(a, STA_LINK_OFF);
	aml_close(a);
	aml_term(a, AML_RETURN), aml_integer(a, STA_LINK_ON);
	aml_close(a);

	aml_method(a, "_DIS", 0);
	aml_term(a, AML_OR), aml_reference(a, routes[index]), aml_integer(a, PIIX3_NO_ROUTE),
		aml_reference(a, routes[index]);
	aml_close(a);

	aml_method(a, "_CRS", 0);
	aml_resources(a, "NOW");
	aml_irq_shared(a, none, ARRAY_SIZE(none));
	aml_resources_close(a);
	aml_term(a, AML_DWORD_FIELD), aml_reference(a, "NOW"), aml_integer(a, AML_SHARED_IRQ_AT),
		aml_reference(a, "IRQ");
	aml_if(a);
	aml_term(a, AML_LESS), aml_reference(a, routes[index]), aml_integer(a, PIIX3_NO_ROUTE);
	aml_term(a, AML_STORE), aml_reference(a, routes[index]), aml_reference(a, "IRQ");
	aml_close(a);
	aml_term(a, AML_RETURN), aml_reference(a, "NOW");
	aml_close(a);

	aml_method(a, "_SRS", 1);
	aml_term(a, AML_DWORD_FIELD), aml_term(a, AML_ARG0), aml_integer(a, AML_SHARED_IRQ_AT), aml_reference(a, "IRQ");
	aml_term(a, AML_STORE), aml_reference(a, "IRQ"), aml_reference(a, routes[index]);
	aml_close(a);
	aml_close(a);
}

static void pci_root(struct aml *a, const struct firmware_facts *facts, uint64_t ram)
{
	aml_device(a, "PCI0");
	aml_name_eisa(a, "_HID", "PNP0A03");
	aml_name_integer(a, "_UID", 0);
	root_resources(a, ram);
	aml_device(a, "ISA");
	aml_name_integer(a, "_ADR", PCI_SLOT(PC_ISA_BRIDGE) << 16);
	aml_pci_region(a, "PIRQ", PIIX3_PIRQ_ROUTE, PCI_PIRQS);
	isa_devices(a, facts);
	aml_close(a);
	routing_table(a);
	aml_close(a);
	aml_byte_fields(a, ISA ".PIRQ", routes, ARRAY_SIZE(routes));
	for (unsigned i = 0; i < PCI_PIRQS; i++)
		link_device(a, i);
}

size_t acpi_dsdt(const struct firmware_facts *facts, struct vm *vm, uint8_t *data, size_t room)
{
	static const uint8_t off[] = { ACPI_S5_TYPE, ACPI_S5_TYPE, 0, 0 };
	struct aml a = { .data = data, .room = room };
	aml_name_package(&a, "\\_S5", off, ARRAY_SIZE(off));
	aml_scope(&a, "\\_SB");
	cpus(&a, vm->config.cpus);
	pci_root(&a, facts, vm->memory.ram_size);
	aml_close(&a);
	return a.overflow ? 0 : a.size;
}
