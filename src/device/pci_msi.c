/* SPDX-License-Identifier: MIT */
/* Interrupts by message: MSI and MSI-X of a PCI function, PCI Local Bus Specification 3.0, section 6.8.
 *
 * MSI: one address for all vectors, whose number is the low bits of the data; 64-bit addresses, and a mask for each
 * vector. MSI-X: address, data and mask for each vector in a table behind a BAR. A vector that is raised while it is masked
 * is pending, and leaves when it no longer is. With both disabled the pin is in charge. */
#include <errno.h>
#include <string.h>
#include "device/pci.h"

/* MSI, from the start of its capability. */
enum { MSI_CONTROL = 2, MSI_ADDRESS = 4, MSI_ADDRESS_HIGH = 8, MSI_DATA = 12, MSI_MASK = 16, MSI_PENDING = 20, MSI_SIZE = 24 };
#define MSI_ENABLE BIT(0)
#define MSI_CAPABLE_SHIFT 1
#define MSI_ENABLED_SHIFT 4
#define MSI_ENABLED_MASK (7u << MSI_ENABLED_SHIFT)
#define MSI_WIDE BIT(7)
#define MSI_MASKS BIT(8)
#define MSI_VECTORS_MAX 32
#define ADDRESS_WRITABLE 0xfffffffcu

/* MSI-X. */
enum { MSIX_CONTROL = 2, MSIX_TABLE = 4, MSIX_PENDING = 8, MSIX_SIZE = 12 };
#define MSIX_ENABLE BIT(15)
#define MSIX_MASK_ALL BIT(14)
#define MSIX_MASKED BIT(0)
#define MSIX_ENTRY 16
#define MSIX_PENDING_AT 0x800    /* in the BAR */

static uint32_t get(const struct pci_function *f, unsigned at, unsigned size)
{
	uint32_t value = 0;
	memcpy(&value, &f->config[at], size);
	return value;
}

static void set_msi_pending(struct pci_function *f, uint32_t pending)
{
	f->msi_pending = pending;
	memcpy(&f->config[f->msi_at + MSI_PENDING], &pending, sizeof(pending));
}

static bool msi_enabled(const struct pci_function *f)
{
	return f->msi_at && (get(f, f->msi_at + MSI_CONTROL, 2) & MSI_ENABLE);
}

static bool msix_enabled(const struct pci_function *f)
{
	return f->msix_at && (get(f, f->msix_at + MSIX_CONTROL, 2) & MSIX_ENABLE);
}

bool pci_messages_enabled(const struct pci_function *f)
{
	return msix_enabled(f) || msi_enabled(f);
}

/* A message is a write of the function, which it may make as a bus master only. */
static void send(struct pci_function *f, uint64_t address, uint32_t data)
{
	if (pci_is_master(f))
		irq_message(f->device->vm, address, data);
}

static void send_msi(struct pci_function *f, unsigned vector)
{
	uint32_t low = get(f, f->msi_at + MSI_ADDRESS, 4), high = get(f, f->msi_at + MSI_ADDRESS_HIGH, 4);
	uint32_t data = get(f, f->msi_at + MSI_DATA, 2);
	unsigned enabled = 1u << bits_get(get(f, f->msi_at + MSI_CONTROL, 2), MSI_ENABLED_SHIFT, 3);
	send(f, low | (uint64_t)high << 32, (data & ~(enabled - 1)) | (vector & (enabled - 1)));
}

static void send_msix(struct pci_function *f, unsigned vector)
{
	const struct pci_msix_entry *e = &f->msix->entry[vector];
	send(f, e->address | (uint64_t)e->address_high << 32, e->data);
}

static bool msix_masked(const struct pci_function *f, unsigned vector)
{
	return (get(f, f->msix_at + MSIX_CONTROL, 2) & MSIX_MASK_ALL) || (f->msix->entry[vector].control & MSIX_MASKED);
}

bool pci_message(struct pci_function *f, unsigned vector)
{
	if (msix_enabled(f)) {
		if (vector >= f->msix->count)
			return true;
		if (msix_masked(f, vector))
			f->msix->pending |= BIT(vector);
		else
			send_msix(f, vector);
		return true;
	}
	if (!msi_enabled(f))
		return false;
	vector %= MSI_VECTORS_MAX;
	if (get(f, f->msi_at + MSI_MASK, 4) & BIT(vector))
		set_msi_pending(f, f->msi_pending | (uint32_t)BIT(vector));
	else
		send_msi(f, vector);
	return true;
}

void pci_messages_written(struct pci_function *f)
{
	if (msix_enabled(f)) {
		for (unsigned i = 0; f->msix->pending && i < f->msix->count; i++) {
			if (!(f->msix->pending & BIT(i)) || msix_masked(f, i))
				continue;
			f->msix->pending &= ~BIT(i);
			send_msix(f, i);
		}
	} else if (msi_enabled(f)) {
		uint32_t due = f->msi_pending & ~get(f, f->msi_at + MSI_MASK, 4);
		set_msi_pending(f, f->msi_pending & ~due);
		for (unsigned i = 0; i < MSI_VECTORS_MAX; i++)
			if (due & BIT(i))
				send_msi(f, i);
	}
}

void pci_messages_reset(struct pci_function *f)
{
	f->msi_pending = 0; /* in configuration space it is 0 already */
	if (!f->msix)
		return;
	memset(f->msix->entry, 0, sizeof(f->msix->entry));
	for (unsigned i = 0; i < f->msix->count; i++)
		f->msix->entry[i].control = MSIX_MASKED;
	f->msix->pending = 0;
}

int pci_msi_init(struct pci_function *f, unsigned vectors)
{
	unsigned at = pci_capability_add(f, PCI_CAP_MSI, MSI_SIZE);
	if (!at)
		return -ENOSPC;
	uint32_t capable = (uint32_t)__builtin_ctz(vectors) << MSI_CAPABLE_SHIFT, all = (uint32_t)(BIT(vectors) - 1);
	pci_config_define(f, at + MSI_CONTROL, 2, capable | MSI_WIDE | MSI_MASKS, MSI_ENABLE | MSI_ENABLED_MASK);
	pci_config_define(f, at + MSI_ADDRESS, 4, 0, ADDRESS_WRITABLE);
	pci_config_define(f, at + MSI_ADDRESS_HIGH, 4, 0, UINT32_MAX);
	pci_config_define(f, at + MSI_DATA, 2, 0, UINT16_MAX);
	pci_config_define(f, at + MSI_MASK, 4, 0, all);
	f->msi_at = (uint8_t)at;
	return 0;
}

int pci_msix_init(struct pci_function *f, struct pci_msix *msix, unsigned bar, unsigned vectors)
{
	unsigned at = pci_capability_add(f, PCI_CAP_MSIX, MSIX_SIZE);
	if (!at)
		return -ENOSPC;
	pci_config_define(f, at + MSIX_CONTROL, 2, vectors - 1, MSIX_ENABLE | MSIX_MASK_ALL);
	pci_config_define(f, at + MSIX_TABLE, 4, bar, 0);
	pci_config_define(f, at + MSIX_PENDING, 4, MSIX_PENDING_AT | bar, 0);
	msix->count = vectors;
	f->msix = msix;
	f->msix_at = (uint8_t)at;
	pci_messages_reset(f);
	return 0;
}

/* ---- The table behind the BAR ------------------------------------------------------------------------------------------ */

static uint32_t *table_word(struct pci_function *f, uint64_t offset)
{
	struct pci_msix_entry *e = &f->msix->entry[offset / MSIX_ENTRY];
	uint32_t *words[] = { &e->address, &e->address_high, &e->data, &e->control };
	return words[offset % MSIX_ENTRY / 4];
}

static uint64_t msix_read(struct device *d, uint64_t offset, unsigned size)
{
	struct pci_function *f = pci_at(d->vm, (unsigned)d->place->base);
	if (size != 4 || offset % 4)
		return 0;
	if (offset < f->msix->count * MSIX_ENTRY)
		return *table_word(f, offset);
	if (offset == MSIX_PENDING_AT || offset == MSIX_PENDING_AT + 4)
		return (uint32_t)(f->msix->pending >> 8 * (offset & 4));
	return 0;
}

static void msix_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci_function *f = pci_at(d->vm, (unsigned)d->place->base);
	if (size != 4 || offset % 4 || offset >= f->msix->count * MSIX_ENTRY)
		return;
	*table_word(f, offset) = (uint32_t)value;
	pci_messages_written(f);
}

const struct bus_ops pci_msix_ops = { .read = msix_read, .write = msix_write, .max_size = 4 };

static const struct field entry_fields[] = {
	FIELD_U32(struct pci_msix_entry, address),
	FIELD_U32(struct pci_msix_entry, address_high),
	FIELD_U32(struct pci_msix_entry, data),
	FIELD_U32(struct pci_msix_entry, control),
	FIELD_END,
};
const struct field pci_msix_fields[] = {
	FIELD_STRUCT(struct pci_msix, entry, entry_fields, struct pci_msix_entry),
	FIELD_U64(struct pci_msix, pending),
	FIELD_END,
};
