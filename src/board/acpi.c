/* SPDX-License-Identifier: MIT */
/* The board's ACPI tables: RSDP, RSDT, XSDT, FADT, FACS and MADT, after ACPI 6.4 chapter 5. There is no embedded
 * controller and no sleep state but S5 (off). */
#include "board/acpi.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "device/chips.h"
#include "vm/vcpu.h"

#define DSDT_ROOM (48 * KiB)
#define TABLE_ALIGN 16
#define FACS_ALIGN 64
#define ROOT_TABLES_MAX 8
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

struct fadt { /* 5.2.9, revision 4 */
	struct header header;
	uint32_t facs, dsdt;
	uint8_t reserved1, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_length, pm1_control_length, pm2_control_length, pm_timer_length, gpe0_length, gpe1_length,
		gpe1_base, cst;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved2;
	uint32_t flags;
	struct address reset;
	uint8_t reset_value, reserved3[3];
	uint64_t x_facs, x_dsdt;
	struct address x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer, x_gpe0,
		x_gpe1;
} __attribute__((packed));
_Static_assert(sizeof(struct fadt) == 244, "FADT revision 4");
enum { /* flags, table 5.10; boot_arch, table 5.11 */
	FADT_WBINVD = BIT(0), FADT_C1 = BIT(2), FADT_NO_SLEEP_BUTTON = BIT(5), FADT_NO_FIXED_RTC = BIT(6),
	FADT_TIMER_32 = BIT(8), FADT_RESET = BIT(10),
	ARCH_LEGACY = BIT(0), ARCH_8042 = BIT(1),
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
struct madt_x2apic_nmi {
	uint8_t type, length;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint, reserved[3];
} __attribute__((packed));
enum {
	MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4, MADT_X2APIC = 9, MADT_X2APIC_NMI = 10,
	MADT_ENABLED = BIT(0), MADT_PCAT_COMPAT = BIT(0), INTI_ACTIVE_HIGH = 1, INTI_LEVEL = 3 << 2,
	ALL_PROCESSORS = 0xff, LAST_XAPIC_ID = 254,
};

/* Room in the block, cleared; its offset. */
static uint32_t take(struct acpi_block *b, size_t size, uint32_t align)
{
	uint32_t at = (uint32_t)align_up(b->size, align);
	uint8_t *data = b->error ? NULL : realloc(b->data, at + size);
	if (!data) {
		b->error = b->error ? b->error : -ENOMEM;
		return 0;
	}
	memset(data + b->size, 0, at + size - b->size);
	b->data = data;
	b->size = (uint32_t)(at + size);
	return at;
}

static void add_pointer(struct acpi_block *b, size_t at, uint8_t size)
{
	if (b->pointers == ACPI_POINTERS_MAX) {
		b->error = b->error ? b->error : -ENOSPC;
		return;
	}
	b->pointer[b->pointers].at = (uint32_t)at;
	b->pointer[b->pointers++].size = size;
}

/* Completes the header and puts the table into the block. */
static uint32_t place(struct acpi_block *b, struct header *h, const char *signature, uint8_t revision, size_t length)
{
	memcpy(h->signature, signature, sizeof(h->signature));
	memcpy(h->oem_id, OEM_ID, sizeof(h->oem_id));
	memcpy(h->oem_table_id, OEM_TABLE, sizeof(h->oem_table_id));
	memcpy(h->creator_id, OEM_ID, sizeof(h->creator_id));
	h->length = (uint32_t)length;
	h->revision = revision;
	h->oem_revision = h->creator_revision = 1;
	uint32_t at = take(b, length, TABLE_ALIGN);
	if (b->sums == ACPI_SUMS_MAX)
		b->error = b->error ? b->error : -ENOSPC;
	if (b->error)
		return 0;
	memcpy(b->data + at, h, length);
	b->sum[b->sums].at = at + (uint32_t)offsetof(struct header, checksum);
	b->sum[b->sums].start = at;
	b->sum[b->sums++].length = (uint32_t)length;
	return at;
}

static uint32_t add_dsdt(struct acpi_block *b, struct vm *vm, const struct firmware_facts *facts)
{
	uint8_t *data = calloc(1, sizeof(struct header) + DSDT_ROOM);
	size_t size = data ? acpi_dsdt(facts, vm, data + sizeof(struct header), DSDT_ROOM) : 0;
	uint32_t at = 0;
	if (size)
		at = place(b, (struct header *)data, "DSDT", 2, sizeof(struct header) + size);
	else if (!b->error)
		b->error = data ? -ENOSPC : -ENOMEM;
	free(data);
	return at;
}

static uint32_t add_facs(struct acpi_block *b)
{
	const struct facs facs = { .signature = { 'F', 'A', 'C', 'S' }, .length = sizeof(facs), .version = 2 };
	uint32_t at = take(b, sizeof(facs), FACS_ALIGN);
	if (!b->error)
		memcpy(b->data + at, &facs, sizeof(facs));
	return at;
}

static struct address port(uint16_t number, uint8_t bytes)
{
	return (struct address){ .space = SPACE_SYSTEM_IO, .width = (uint8_t)(bytes * 8),
		.access = bytes == 4 ? 3 : bytes, .address = number };
}

static uint32_t add_fadt(struct acpi_block *b, const struct firmware_facts *facts, uint32_t facs, uint32_t dsdt)
{
	uint16_t pm = facts->pm_base;
	struct fadt fadt = {
		.facs = facs,
		.dsdt = dsdt,
		.profile = PROFILE_DESKTOP,
		.sci = ACPI_SCI_IRQ,
		.smi_command = ACPI_SMI_COMMAND,
		.acpi_enable = ACPI_ENABLE_VALUE,
		.acpi_disable = ACPI_DISABLE_VALUE,
		.pm1a_event = pm + ACPI_PM1_EVENT,
		.pm1a_control = pm + ACPI_PM1_CONTROL,
		.pm_timer = pm + ACPI_PM_TIMER,
		.gpe0 = pm + ACPI_GPE0,
		.gpe0_length = ACPI_GPE0_LENGTH,
		.pm1_event_length = PM1_EVENT_LENGTH,
		.pm1_control_length = PM1_CONTROL_LENGTH,
		.pm_timer_length = PM_TIMER_LENGTH,
		.c2_latency = NO_C2,
		.c3_latency = NO_C3,
		.century = CMOS_CENTURY,
		.boot_arch = ARCH_LEGACY | ARCH_8042,
		.flags = FADT_WBINVD | FADT_C1 | FADT_NO_SLEEP_BUTTON | FADT_NO_FIXED_RTC | FADT_RESET | FADT_TIMER_32,
		.reset = port(PC_RESET_PORT, 1),
		.reset_value = RESET_FULL,
		/* The 64-bit pointers stay zero where the 32-bit one suffices (5.2.9): both set, an old kernel
		 * complains. */
		.x_dsdt = dsdt,
		.x_pm1a_event = port(pm + ACPI_PM1_EVENT, PM1_EVENT_LENGTH),
		.x_pm1a_control = port(pm + ACPI_PM1_CONTROL, PM1_CONTROL_LENGTH),
		.x_pm_timer = port(pm + ACPI_PM_TIMER, PM_TIMER_LENGTH),
		.x_gpe0 = port(pm + ACPI_GPE0, ACPI_GPE0_LENGTH),
	};
	/* Two registers each, status and enable: 4.8.3.1 and 4.8.4.1 have them accessed by half. */
	fadt.x_pm1a_event.access = 2;
	fadt.x_gpe0.access = 1;
	uint32_t at = place(b, &fadt.header, "FACP", 4, sizeof(fadt));
	add_pointer(b, at + offsetof(struct fadt, facs), sizeof(fadt.facs));
	add_pointer(b, at + offsetof(struct fadt, dsdt), sizeof(fadt.dsdt));
	add_pointer(b, at + offsetof(struct fadt, x_dsdt), sizeof(fadt.x_dsdt));
	return at;
}

static void append(uint8_t *table, size_t *size, const void *entry, size_t entry_size)
{
	memcpy(table + *size, entry, entry_size);
	*size += entry_size;
}

static uint32_t add_madt(struct acpi_block *b, struct vm *vm, const struct firmware_facts *facts)
{
	static const uint8_t levels[] = { ACPI_SCI_IRQ, PC_PCI_IRQS };
	unsigned cpus = vm->config.cpus;
	bool wide = false;
	uint8_t *table = calloc(1, sizeof(struct madt) + cpus * sizeof(struct madt_x2apic) + 128);
	if (!table) {
		b->error = b->error ? b->error : -ENOMEM;
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
	struct madt_lapic_nmi nmi = { MADT_LAPIC_NMI, sizeof(nmi), ALL_PROCESSORS, 0, 1 };
	struct madt_x2apic_nmi wide_nmi = { MADT_X2APIC_NMI, sizeof(wide_nmi), 0, UINT32_MAX, 1, { 0 } };
	append(table, &size, &ioapic, sizeof(ioapic));
	append(table, &size, &timer, sizeof(timer));
	for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
		struct madt_override level = { MADT_OVERRIDE, sizeof(level), 0, levels[i], levels[i],
			INTI_ACTIVE_HIGH | INTI_LEVEL };
		append(table, &size, &level, sizeof(level));
	}
	append(table, &size, &nmi, sizeof(nmi));
	if (wide)
		append(table, &size, &wide_nmi, sizeof(wide_nmi));
	uint32_t at = place(b, &madt->header, "APIC", 4, size);
	free(table);
	return at;
}

/* The root tables, 5.2.7 and 5.2.8: a header, and a pointer to each table. */
static uint32_t add_root(struct acpi_block *b, const char *signature, const uint32_t *tables, unsigned count,
	uint8_t pointer_size)
{
	struct {
		struct header header;
		uint8_t pointer[ROOT_TABLES_MAX * sizeof(uint64_t)];
	} __attribute__((packed)) root = { 0 };
	for (unsigned i = 0; i < count; i++)
		memcpy(root.pointer + i * pointer_size, &tables[i], sizeof(tables[i]));
	uint32_t at = place(b, &root.header, signature, 1, sizeof(root.header) + (size_t)count * pointer_size);
	for (unsigned i = 0; i < count; i++)
		add_pointer(b, at + sizeof(root.header) + (size_t)i * pointer_size, pointer_size);
	return at;
}

int acpi_build(struct acpi_block *b, struct vm *vm, const struct firmware_facts *facts)
{
	*b = (struct acpi_block){ .rsdp = { .signature = { 'R', 'S', 'D', ' ', 'P', 'T', 'R', ' ' }, .revision = 2,
					    .length = sizeof(b->rsdp) } };
	/* the FACS first: the block's start is aligned as it must be */
	uint32_t facs = add_facs(b), dsdt = add_dsdt(b, vm, facts);
	const uint32_t tables[] = { add_fadt(b, facts, facs, dsdt), add_madt(b, vm, facts) };
	_Static_assert(ARRAY_SIZE(tables) <= ROOT_TABLES_MAX, "room in the root tables");
	memcpy(b->rsdp.oem_id, OEM_ID, sizeof(b->rsdp.oem_id));
	b->rsdp.rsdt = add_root(b, "RSDT", tables, ARRAY_SIZE(tables), sizeof(uint32_t));
	b->rsdp.xsdt = add_root(b, "XSDT", tables, ARRAY_SIZE(tables), sizeof(uint64_t));
	return b->error;
}

void acpi_free(struct acpi_block *b)
{
	free(b->data);
	b->data = NULL;
}

/* What firmware does with the block once it knows where it goes. */
static void relocate(struct acpi_block *b, gpa_t base)
{
	for (unsigned i = 0; i < b->pointers; i++) {
		uint64_t value = 0;
		memcpy(&value, b->data + b->pointer[i].at, b->pointer[i].size);
		value += base;
		memcpy(b->data + b->pointer[i].at, &value, b->pointer[i].size);
	}
	for (unsigned i = 0; i < b->sums; i++)
		b->data[b->sum[i].at] = firmware_checksum(b->data + b->sum[i].start, b->sum[i].length);
	b->rsdp.rsdt += (uint32_t)base;
	b->rsdp.xsdt += base;
	b->rsdp.checksum = firmware_checksum(&b->rsdp, ACPI_RSDP_V1_SIZE);
	b->rsdp.extended_checksum = firmware_checksum(&b->rsdp, sizeof(b->rsdp));
}

gpa_t acpi_write(struct firmware_area *area, const struct firmware_facts *facts)
{
	struct acpi_block b;
	int error = acpi_build(&b, area->vm, facts);
	gpa_t at = firmware_take(area, b.size, ACPI_ALIGN), rsdp = firmware_take(area, sizeof(b.rsdp), TABLE_ALIGN);
	if (error)
		area->error = area->error ? area->error : error;
	if (!area->error) {
		relocate(&b, at);
		firmware_write(area, at, b.data, b.size);
		firmware_write(area, rsdp, &b.rsdp, sizeof(b.rsdp));
	}
	acpi_free(&b);
	return rsdp;
}
