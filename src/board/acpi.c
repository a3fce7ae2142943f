/* SPDX-License-Identifier: MIT */
/* The board's ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, MADT and DSDT, after ACPI 6.4 chapter 5. There is no embedded controller, no
 * sleep state but S5 (off), and no method: every object is constant. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "board/aml.h"
#include "board/firmware.h"
#include "device/chips.h"
#include "vm/vcpu.h"

#define DSDT_ROOM (48 * KiB)
#define OEM_ID "DOPPEL"
#define OEM_TABLE "DOPPELPC"

struct header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator_id[4];
	uint32_t creator_revision;
} __attribute__((packed));

struct address { /* generic address structure, 5.2.3.2 */
	uint8_t space, width, offset, access;
	uint64_t address;
} __attribute__((packed));
enum { SPACE_SYSTEM_IO = 1 };

struct rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));
#define RSDP_V1_SIZE 20 /* what the first checksum covers */

struct fadt { /* 5.2.9, revision 4 */
	struct header header;
	uint32_t facs, dsdt;
	uint8_t reserved1, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length, gpe0_length, gpe1_length, gpe1_base, cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved2;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value, reserved3[3];
	uint64_t x_facs, x_dsdt;
	struct address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer, x_gpe0, x_gpe1;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 244, "FADT revision 4");
enum { /* flags, table 5.10; boot_arch, table 5.11 */
	FADT_WBINVD = BIT(0), FADT_C1 = BIT(2), FADT_NO_SLEEP_BUTTON = BIT(5), FADT_NO_FIXED_RTC = BIT(6),
	FADT_TIMER_32 = BIT(8), FADT_RESET = BIT(10),
	ARCH_LEGACY = BIT(0), ARCH_8042 = BIT(1), ARCH_NO_VGA = BIT(2),
	PROFILE_DESKTOP = 1, NO_C2 = 101, NO_C3 = 1001,
	CMOS_CENTURY = 0x32, RESET_FULL = 0x0e,
	PM1_EVENT_LENGTH = 4, PM1_CONTROL_LENGTH = 2, PM_TIMER_LENGTH = 4,
};

struct facs { /* 5.2.10 */
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, global_lock, flags;
	uint64_t x_waking_vector;
	uint8_t version, reserved[31];
} __attribute__((packed));
_Static_assert(sizeof(struct facs) == 64, "FACS");

struct madt { /* 5.2.12; the entries follow */
	struct header header;
	uint32_t lapic_address, flags;
} __attribute__((packed));
struct madt_lapic { uint8_t type, length, uid, apic_id; uint32_t flags; } __attribute__((packed));
struct madt_ioapic { uint8_t type, length, id, reserved; uint32_t address, gsi_base; } __attribute__((packed));
struct madt_override { uint8_t type, length, bus, irq; uint32_t gsi; uint16_t flags; } __attribute__((packed));
struct madt_lapic_nmi { uint8_t type, length, uid; uint16_t flags; uint8_t lint; } __attribute__((packed));
struct madt_x2apic { uint8_t type, length; uint16_t reserved; uint32_t apic_id, flags, uid; } __attribute__((packed));
struct madt_x2apic_nmi { uint8_t type, length; uint16_t flags; uint32_t uid; uint8_t lint, reserved[3]; } __attribute__((packed));
enum {
	MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4, MADT_X2APIC = 9, MADT_X2APIC_NMI = 10,
	MADT_ENABLED = BIT(0), MADT_PCAT_COMPAT = BIT(0), INTI_ACTIVE_HIGH = 1, INTI_LEVEL = 3 << 2,
	ALL_PROCESSORS = 0xff, LAST_XAPIC_ID = 254,
};

static void finish(struct header *h, const char *signature, uint8_t revision, size_t length)
{
	memcpy(h->signature, signature, sizeof(h->signature));
	memcpy(h->oem_id, OEM_ID, sizeof(h->oem_id));
	memcpy(h->oem_table_id, OEM_TABLE, sizeof(h->oem_table_id));
	memcpy(h->creator_id, OEM_ID, sizeof(h->creator_id));
	h->length = (uint32_t)length;
	h->revision = revision;
	h->oem_revision = h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = firmware_checksum(h, length);
}

static gpa_t place(struct firmware_area *area, struct header *h, const char *signature, uint8_t revision, size_t length)
{
	finish(h, signature, revision, length);
	gpa_t at = firmware_take(area, length, 16);
	firmware_write(area, at, h, length);
	return at;
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
	aml_name_integer(a, "_STA", 0xf); /* present, enabled, shown, working */
	aml_resources(a, "_CRS");
	aml_io(a, facts->uart[index].port, 8);
	aml_irq(a, facts->uart[index].irq);
	aml_resources_close(a);
	aml_close(a);
}

size_t acpi_dsdt(const struct firmware_facts *facts, unsigned cpus, uint8_t *data, size_t room)
{
	struct aml a = { .data = data, .room = room };
	const uint8_t off[] = { ACPI_S5_TYPE, ACPI_S5_TYPE, 0, 0 };
	aml_name_package(&a, "\\_S5", off, ARRAY_SIZE(off));
	aml_scope(&a, "\\_SB");
	for (unsigned i = 0; i < cpus; i++) {
		char name[8];
		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device(&a, name);
		aml_name_string(&a, "_HID", "ACPI0007");
		aml_name_integer(&a, "_UID", i);
		aml_close(&a);
	}
	isa_device(&a, "TIMR", "PNP0100", 0x40, 4, 0);
	isa_device(&a, "RTC", "PNP0B00", 0x70, 2, 8);
	aml_device(&a, "PIC");
	aml_name_eisa(&a, "_HID", "PNP0000");
	aml_resources(&a, "_CRS");
	aml_io(&a, 0x20, 2);
	aml_io(&a, 0xa0, 2);
	aml_io(&a, 0x4d0, 2);
	aml_irq(&a, 2);
	aml_resources_close(&a);
	aml_close(&a);
	aml_device(&a, "KBD");
	aml_name_eisa(&a, "_HID", "PNP0303");
	aml_resources(&a, "_CRS");
	aml_io(&a, 0x60, 1);
	aml_io(&a, 0x64, 1);
	aml_irq(&a, 1);
	aml_resources_close(&a);
	aml_close(&a);
	aml_device(&a, "MOU"); /* its ports are the keyboard's */
	aml_name_eisa(&a, "_HID", "PNP0F13");
	aml_resources(&a, "_CRS");
	aml_irq(&a, 12);
	aml_resources_close(&a);
	aml_close(&a);
	for (unsigned i = 0; i < facts->uarts; i++)
		uart_device(&a, facts, i);
	aml_device(&a, "SYSR"); /* what no driver claims, but nobody may be given */
	aml_name_eisa(&a, "_HID", "PNP0C02");
	aml_resources(&a, "_CRS");
	aml_io(&a, 0x92, 1);
	aml_io(&a, ACPI_SMI_COMMAND, 2);
	aml_io(&a, ACPI_PM_BASE, ACPI_PM_SIZE);
	aml_io(&a, PC_RESET_PORT, 1);
	aml_resources_close(&a);
	aml_close(&a);
	aml_close(&a);
	return a.overflow ? 0 : a.size;
}

static gpa_t write_dsdt(struct firmware_area *area, const struct firmware_facts *facts)
{
	uint8_t *data = malloc(sizeof(struct header) + DSDT_ROOM);
	size_t size = data ? acpi_dsdt(facts, area->vm->config.cpus, data + sizeof(struct header), DSDT_ROOM) : 0;
	gpa_t at = 0;
	if (size)
		at = place(area, (struct header *)data, "DSDT", 2, sizeof(struct header) + size);
	else if (!area->error)
		area->error = data ? -ENOSPC : -ENOMEM;
	free(data);
	return at;
}

static gpa_t write_facs(struct firmware_area *area)
{
	struct facs facs = { .signature = { 'F', 'A', 'C', 'S' }, .length = sizeof(facs), .version = 2 };
	gpa_t at = firmware_take(area, sizeof(facs), 64);
	firmware_write(area, at, &facs, sizeof(facs));
	return at;
}

static struct address port(uint16_t number, uint8_t bytes)
{
	return (struct address){ .space = SPACE_SYSTEM_IO, .width = (uint8_t)(bytes * 8), .access = bytes == 4 ? 3 : bytes, .address = number };
}

static gpa_t write_fadt(struct firmware_area *area, gpa_t facs, gpa_t dsdt)
{
	struct fadt fadt = {
		.facs = (uint32_t)facs,
		.dsdt = (uint32_t)dsdt,
		.profile = PROFILE_DESKTOP,
		.sci = ACPI_SCI_IRQ,
		.smi_command = ACPI_SMI_COMMAND,
		.acpi_enable = ACPI_ENABLE_VALUE,
		.acpi_disable = ACPI_DISABLE_VALUE,
		.pm1a_event = ACPI_PM_BASE + ACPI_PM1_EVENT,
		.pm1a_control = ACPI_PM_BASE + ACPI_PM1_CONTROL,
		.pm_timer = ACPI_PM_BASE + ACPI_PM_TIMER,
		.gpe0 = ACPI_PM_BASE + ACPI_GPE0,
		.gpe0_length = ACPI_GPE0_LENGTH,
		.pm1_event_length = PM1_EVENT_LENGTH,
		.pm1_control_length = PM1_CONTROL_LENGTH,
		.pm_timer_length = PM_TIMER_LENGTH,
		.c2_latency = NO_C2,
		.c3_latency = NO_C3,
		.century = CMOS_CENTURY,
		.boot_arch = ARCH_LEGACY | ARCH_8042 | ARCH_NO_VGA,
		.flags = FADT_WBINVD | FADT_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC | FADT_RESET | FADT_TIMER_32,
		.reset = port(PC_RESET_PORT, 1),
		.reset_value = RESET_FULL,
		/* The 64-bit pointers stay zero where the 32-bit one suffices (5.2.9): both set, an old kernel complains. */
		.x_dsdt = dsdt,
		.x_pm1a_event = port(ACPI_PM_BASE + ACPI_PM1_EVENT, PM1_EVENT_LENGTH),
		.x_pm1a_control = port(ACPI_PM_BASE + ACPI_PM1_CONTROL, PM1_CONTROL_LENGTH),
		.x_pm_timer = port(ACPI_PM_BASE + ACPI_PM_TIMER, PM_TIMER_LENGTH),
		.x_gpe0 = port(ACPI_PM_BASE + ACPI_GPE0, ACPI_GPE0_LENGTH),
	};
	/* Two registers each, status and enable: 4.8.3.1 and 4.8.4.1 have them accessed by half. */
	fadt.x_pm1a_event.access = 2;
	fadt.x_gpe0.access = 1;
	return place(area, &fadt.header, "FACP", 4, sizeof(fadt));
}

static void append(uint8_t *table, size_t *size, const void *entry, size_t entry_size)
{
	memcpy(table + *size, entry, entry_size);
	*size += entry_size;
}

static gpa_t write_madt(struct firmware_area *area, const struct firmware_facts *facts)
{
	struct vm *vm = area->vm;
	unsigned cpus = vm->config.cpus;
	bool wide = false;
	uint8_t *table = calloc(1, sizeof(struct madt) + cpus * sizeof(struct madt_x2apic) + 128);
	if (!table) {
		area->error = area->error ? area->error : -ENOMEM;
		return 0;
	}
	struct madt *madt = (struct madt *)table;
	madt->lapic_address = PC_LAPIC;
	madt->flags = MADT_PCAT_COMPAT;
	size_t size = sizeof(*madt);
	for (unsigned i = 0; i < cpus; i++) {
		uint32_t id = vm->vcpu[i]->core.cpu.apic_id;
		struct madt_lapic lapic = { MADT_LAPIC, sizeof(lapic), (uint8_t)i, (uint8_t)id, MADT_ENABLED };
		struct madt_x2apic x2apic = { MADT_X2APIC, sizeof(x2apic), 0, id, MADT_ENABLED, i };
		if (id <= LAST_XAPIC_ID) {
			append(table, &size, &lapic, sizeof(lapic));
		} else {
			append(table, &size, &x2apic, sizeof(x2apic));
			wide = true;
		}
	}
	struct madt_ioapic ioapic = { MADT_IOAPIC, sizeof(ioapic), facts->ioapic_id, 0, PC_IOAPIC, 0 };
	struct madt_override timer = { MADT_OVERRIDE, sizeof(timer), 0, 0, 2, 0 };
	struct madt_override sci = { MADT_OVERRIDE, sizeof(sci), 0, ACPI_SCI_IRQ, ACPI_SCI_IRQ, INTI_ACTIVE_HIGH | INTI_LEVEL };
	struct madt_lapic_nmi nmi = { MADT_LAPIC_NMI, sizeof(nmi), ALL_PROCESSORS, 0, 1 };
	struct madt_x2apic_nmi wide_nmi = { MADT_X2APIC_NMI, sizeof(wide_nmi), 0, UINT32_MAX, 1, { 0 } };
	append(table, &size, &ioapic, sizeof(ioapic));
	append(table, &size, &timer, sizeof(timer));
	append(table, &size, &sci, sizeof(sci));
	append(table, &size, &nmi, sizeof(nmi));
	if (wide)
		append(table, &size, &wide_nmi, sizeof(wide_nmi));
	gpa_t at = place(area, &madt->header, "APIC", 4, size);
	free(table);
	return at;
}

gpa_t acpi_write(struct firmware_area *area, const struct firmware_facts *facts)
{
	gpa_t dsdt = write_dsdt(area, facts);
	const gpa_t tables[] = { write_fadt(area, write_facs(area), dsdt), write_madt(area, facts) };
	struct {
		struct header header;
		uint32_t table[ARRAY_SIZE(tables)];
	} __attribute__((packed)) rsdt = { 0 };
	struct {
		struct header header;
		uint64_t table[ARRAY_SIZE(tables)];
	} __attribute__((packed)) xsdt = { 0 };
	for (unsigned i = 0; i < ARRAY_SIZE(tables); i++) {
		rsdt.table[i] = (uint32_t)tables[i];
		xsdt.table[i] = tables[i];
	}
	struct rsdp rsdp = { .signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' }, .revision = 2, .length = sizeof(rsdp) };
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.rsdt = (uint32_t)place(area, &rsdt.header, "RSDT", 1, sizeof(rsdt));
	rsdp.xsdt = place(area, &xsdt.header, "XSDT", 1, sizeof(xsdt));
	rsdp.checksum = firmware_checksum(&rsdp, RSDP_V1_SIZE);
	rsdp.extended_checksum = firmware_checksum(&rsdp, sizeof(rsdp));
	gpa_t at = firmware_take(area, sizeof(rsdp), 16);
	firmware_write(area, at, &rsdp, sizeof(rsdp));
	return at;
}
