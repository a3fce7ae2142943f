/* SPDX-License-Identifier: MIT */
/* The board's MP table, for systems from before ACPI: Intel MultiProcessor Specification 1.4, chapter 4 (default
 * wiring of an ISA bus: IRQ n to IOAPIC pin n, the timer to pin 2, the 8259's INTR to pin 0 and to LINT0 as
 * ExtINT, NMI to LINT1), and appendix D.3 for PCI, whose interrupts arrive at the pins of the ISA interrupts that
 * they are routed to. */
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include "board/firmware.h"
#include "device/chips.h"
#include "device/pci.h"
#include "vm/vcpu.h"
#include "x86/cpuid.h"

struct floating { /* 4.1 */
	char signature[4];
	uint32_t table;
	uint8_t length, revision, checksum, feature[5];
} __attribute__((packed));

struct table { /* 4.2 */
	char signature[4];
	uint16_t length;
	uint8_t revision, checksum;
	char oem_id[8], product_id[12];
	uint32_t oem_table;
	uint16_t oem_size, entries;
	uint32_t lapic_address;
	uint16_t extended_length;
	uint8_t extended_checksum, reserved;
} __attribute__((packed));

/* 4.3 */
struct mp_cpu {
	uint8_t type, apic_id, apic_version, flags;
	uint32_t signature, features, reserved[2];
} __attribute__((packed));
struct mp_bus { uint8_t type, id; char name[6]; } __attribute__((packed));
struct mp_ioapic { uint8_t type, id, version, flags; uint32_t address; } __attribute__((packed));
struct mp_interrupt { uint8_t type, kind; uint16_t flags; uint8_t bus, irq, apic, pin; } __attribute__((packed));
enum {
	MP_CPU = 0, MP_BUS = 1, MP_IOAPIC = 2, MP_IO_INTERRUPT = 3, MP_LOCAL_INTERRUPT = 4,
	MP_REVISION_1_4 = 4, CPU_ENABLED = BIT(0), CPU_BOOT = BIT(1), IOAPIC_ENABLED = BIT(0),
	KIND_INT = 0, KIND_NMI = 1, KIND_EXTINT = 3, ACTIVE_HIGH_LEVEL = 1 | 3 << 2,
	PCI_BUS = 0, ISA_BUS = 1, PCI_ENTRIES_MAX = 64, ISA_LINES = 16, CASCADE = 2, TIMER_PIN = 2, ALL_LAPICS = 0xff,
	LAPIC_VERSION = 0x14, IOAPIC_VERSION = 0x20, LAST_APIC_ID = 254, LARGEST_ENTRY = sizeof(struct mp_cpu),
};

static void append(struct table *t, const void *entry, size_t size)
{
	memcpy((uint8_t *)t + t->length, entry, size);
	t->length += size;
	t->entries++;
}

static void add_cpus(struct table *t, struct vm *vm)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct x86_core *core = &vm->vcpu[i]->core;
		struct x86_cpuid_leaf leaf = x86_cpuid(core, 1, 0);
		struct mp_cpu cpu = { MP_CPU, (uint8_t)core->cpu.apic_id, LAPIC_VERSION,
			CPU_ENABLED | (i ? 0 : CPU_BOOT),
				      leaf.eax, leaf.edx, { 0 } };
		append(t, &cpu, sizeof(cpu));
	}
}

/* The pins of all functions, by what firmware wrote into their line registers. Returns a bit for each interrupt
 * that they use. */
static uint32_t add_pci_interrupts(struct table *t, struct vm *vm, uint8_t ioapic)
{
	uint32_t used = 0;
	unsigned count = 0;
	for (unsigned devfn = 0; devfn < PCI_FUNCTIONS; devfn++) {
		uint32_t pin = pci_at(vm, devfn) && devfn != PC_PM_FUNCTION ? pci_read(vm, devfn, PCI_PIN, 1) : 0;
		if (!pin || count++ == PCI_ENTRIES_MAX)
			continue;
		uint8_t irq = (uint8_t)pci_read(vm, devfn, PCI_LINE, 1);
		uint8_t source = (uint8_t)(PCI_SLOT(devfn) << 2 | (pin - 1));
		struct mp_interrupt line = {
			MP_IO_INTERRUPT, KIND_INT, ACTIVE_HIGH_LEVEL, PCI_BUS, source, ioapic, irq,
		};
		append(t, &line, sizeof(line));
		used |= 1u << irq;
	}
	return used;
}

static void add_interrupts(struct table *t, struct vm *vm, const struct firmware_facts *facts)
{
	uint8_t ioapic = facts->ioapic_id;
	uint32_t pci = add_pci_interrupts(t, vm, ioapic);
	for (unsigned irq = 0; irq < ISA_LINES; irq++) {
		struct mp_interrupt line = { MP_IO_INTERRUPT, KIND_INT, irq == ACPI_SCI_IRQ ? ACTIVE_HIGH_LEVEL : 0,
			ISA_BUS, (uint8_t)irq, ioapic,
					     (uint8_t)(irq ? irq : TIMER_PIN) };
		if (irq != CASCADE && !(pci & BIT(irq)))
			append(t, &line, sizeof(line));
	}
	struct mp_interrupt extint = { MP_LOCAL_INTERRUPT, KIND_EXTINT, 0, ISA_BUS, 0, ALL_LAPICS, 0 };
	struct mp_interrupt nmi = { MP_LOCAL_INTERRUPT, KIND_NMI, 0, ISA_BUS, 0, ALL_LAPICS, 1 };
	append(t, &extint, sizeof(extint));
	append(t, &nmi, sizeof(nmi));
}

void mptable_write(struct firmware_area *area, const struct firmware_facts *facts)
{
	struct vm *vm = area->vm;
	if (vm->vcpu[vm->config.cpus - 1]->core.cpu.apic_id > LAST_APIC_ID)
		return;
	struct table *t = calloc(1, sizeof(*t) + (vm->config.cpus + ISA_LINES + PCI_ENTRIES_MAX + 5) * LARGEST_ENTRY);
	if (!t) {
		area->error = area->error ? area->error : -ENOMEM;
		return;
	}
	memcpy(t->signature, "PCMP", 4);
	memcpy(t->oem_id, "DOPPEL  ", 8);
	memcpy(t->product_id, "PC          ", 12);
	t->length = sizeof(*t);
	t->revision = MP_REVISION_1_4;
	t->lapic_address = PC_LAPIC;
	add_cpus(t, vm);
	struct mp_bus pci = { MP_BUS, PCI_BUS, { 'P', 'C', 'I', ' ', ' ', ' ' } };
	struct mp_bus isa = { MP_BUS, ISA_BUS, { 'I', 'S', 'A', ' ', ' ', ' ' } };
	append(t, &pci, sizeof(pci));
	append(t, &isa, sizeof(isa));
	struct mp_ioapic ioapic = { MP_IOAPIC, facts->ioapic_id, IOAPIC_VERSION, IOAPIC_ENABLED, PC_IOAPIC };
	append(t, &ioapic, sizeof(ioapic));
	add_interrupts(t, vm, facts);
	t->checksum = firmware_checksum(t, t->length);

	struct floating floating = { .signature = { '_', 'M', 'P', '_' }, .length = 1, .revision = MP_REVISION_1_4 };
	gpa_t at = firmware_take(area, sizeof(floating), 16), table = firmware_take(area, t->length, 16);
	floating.table = (uint32_t)table;
	floating.checksum = firmware_checksum(&floating, sizeof(floating));
	firmware_write(area, table, t, t->length);
	firmware_write(area, at, &floating, sizeof(floating));
	free(t);
}
