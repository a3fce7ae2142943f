/* SPDX-License-Identifier: MIT */
/* The configuration space of a PCI function, type 0 header: PCI Local Bus Specification 3.0, section 6.1, 6.2.
 *
 * Each byte has a mask of the bits that can be written and one of those that a one clears; so sizing a base
 * address register needs no code of its own. What a register maps is registered with the bus while the command
 * register enables it. Where two functions are given one address, the first has it: such a machine does not work,
 * but it does no harm. */
#include "device/pci.h"
#include <errno.h>
#include <string.h>
#include "util/log.h"

#define COMMAND_WRITABLE (PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_NO_INTX)
#define STATUS_CLEAR 0xf900u       /* errors: no device of ours reports one */
#define BAR_IO 1u
#define BAR_64BIT 4u
#define BAR_PREFETCH 8u
#define BAR_ADDRESS (~15ULL)
#define BAR_PORT 0xfffcu
#define ROM_ADDRESS 0xfffff800u
#define HEADER_END PCI_OWN
#define PHYSICAL_BITS 48            /* more than any processor model here has */

static void put(uint8_t *bytes, unsigned at, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size; i++)
		bytes[at + i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *bytes, unsigned at, unsigned size)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++)
		value |= (uint64_t)bytes[at + i] << 8 * i;
	return value;
}

static unsigned bar_at(unsigned index)
{
	return index == PCI_ROM ? PCI_ROM_BAR : PCI_BAR + 4 * index;
}

static void build_bar(struct pci_function *f, unsigned index)
{
	const struct pci_bar_model *b = &f->model->bar[index];
	uint64_t mask = ~(b->size - 1), type = 0;
	unsigned at = bar_at(index), size = b->kind == PCI_BAR_MEMORY64 ? 8 : 4;
	switch (b->kind) {
	case PCI_BAR_NONE:
		return;
	case PCI_BAR_IO:
		type = BAR_IO;
		break;
	case PCI_BAR_ROM:
		mask = (mask & ROM_ADDRESS) | PCI_ROM_ENABLE;
		break;
	case PCI_BAR_MEMORY64:
		type = BAR_64BIT;
		/* fall through */
	case PCI_BAR_MEMORY:
		type |= b->prefetchable ? BAR_PREFETCH : 0;
		break;
	}
	put(f->reset, at, size, type);
	put(f->writable, at, size, mask);
}

static uint16_t command_writable(const struct pci_model *m)
{
	uint16_t writable = COMMAND_WRITABLE | m->decodes;
	for (unsigned i = 0; i <= PCI_BARS; i++) {
		if (m->bar[i].kind == PCI_BAR_IO)
			writable |= PCI_COMMAND_IO;
		else if (m->bar[i].kind != PCI_BAR_NONE)
			writable |= PCI_COMMAND_MEMORY;
	}
	return writable & ~m->command;
}

static void build(struct pci_function *f)
{
	const struct pci_model *m = f->model;
	put(f->reset, PCI_VENDOR, 2, m->vendor);
	put(f->reset, PCI_DEVICE, 2, m->device);
	put(f->reset, PCI_COMMAND, 2, m->command);
	put(f->writable, PCI_COMMAND, 2, command_writable(m));
	put(f->reset, PCI_STATUS, 2, m->status | (m->capabilities ? PCI_STATUS_CAPABILITIES : 0));
	put(f->clear, PCI_STATUS, 2, STATUS_CLEAR);
	put(f->reset, PCI_REVISION, 1, m->revision);
	put(f->reset, PCI_INTERFACE, 3, m->class);
	put(f->writable, PCI_CACHE_LINE, 2, 0xffff); /* and the latency timer: stored, without meaning here */
	put(f->reset, PCI_SUBSYSTEM_VENDOR, 2, m->subsystem_vendor);
	put(f->reset, PCI_SUBSYSTEM, 2, m->subsystem);
	put(f->reset, PCI_CAPABILITIES, 1, m->capabilities);
	put(f->writable, PCI_LINE, 1, m->pin ? 0xff : 0);
	put(f->reset, PCI_PIN, 1, m->pin);
	for (unsigned i = 0; i <= PCI_BARS; i++)
		build_bar(f, i);
	for (unsigned i = 0; i < m->register_count; i++) {
		const struct pci_register *r = &m->registers[i];
		put(f->reset, r->at, r->size, r->reset);
		put(f->writable, r->at, r->size, r->writable);
		put(f->clear, r->at, r->size, r->clear);
	}
}

int pci_function_init(struct pci_function *f, struct device *d, const struct pci_model *model)
{
	f->device = d;
	f->model = model;
	f->devfn = (uint8_t)d->place->base;
	f->pci = pci_of(d->vm);
	if (!f->pci) {
		log_error("board: %s needs a PCI bus", d->name);
		return -ENODEV;
	}
	build(f);
	f->last_capability = model->capabilities;
	f->next_capability = PCI_OWN;
	for (unsigned i = 0; i < model->register_count; i++)
		f->next_capability = MAX(f->next_capability, (uint8_t)align_up(model->registers[i].at + model->registers[i].size, 4));
	memcpy(f->config, f->reset, sizeof(f->config));
	return pci_add(f->pci, f);
}

void pci_config_define(struct pci_function *f, unsigned at, unsigned size, uint32_t reset, uint32_t writable)
{
	put(f->reset, at, size, reset);
	put(f->config, at, size, reset);
	put(f->writable, at, size, writable);
}

void pci_bar_memory(struct pci_function *f, unsigned index, uint64_t offset, enum memory_kind kind)
{
	struct pci_bar *bar = &f->bar[index];
	bar->memory = offset;
	bar->kind = kind;
	bar->window.under = true;
	memory_window_add(f->device->vm, &bar->window);
}

/* Where the registers say that a BAR is; false: nowhere. At address 0 or beyond the end it is being sized, or was
 * never set. */
static bool wanted(const struct pci_function *f, unsigned index, uint64_t *address)
{
	const struct pci_bar_model *m = &f->model->bar[index];
	uint16_t command = (uint16_t)get(f->config, PCI_COMMAND, 2);
	uint64_t value = get(f->config, bar_at(index), m->kind == PCI_BAR_MEMORY64 ? 8 : 4), end;
	switch (m->kind) {
	case PCI_BAR_NONE:
		return false;
	case PCI_BAR_IO:
		*address = value & ~3ULL;
		end = *address + m->size;
		return (command & PCI_COMMAND_IO) && *address && end <= BAR_PORT;
	case PCI_BAR_ROM:
		*address = value & ROM_ADDRESS;
		if (!(value & PCI_ROM_ENABLE))
			return false;
		break;
	default:
		*address = value & BAR_ADDRESS;
	}
	end = *address + (m->size - 1);
	if (!(command & PCI_COMMAND_MEMORY) || !*address || end < *address)
		return false;
	return end < UINT32_MAX || (m->kind == PCI_BAR_MEMORY64 && end < BIT(PHYSICAL_BITS) - 1);
}

static enum bus_space space_of(const struct pci_bar_model *m)
{
	return m->kind == PCI_BAR_IO ? BUS_PORT : BUS_MEMORY;
}

static void unmap(struct pci_function *f, unsigned index)
{
	struct pci_bar *bar = &f->bar[index];
	if (f->model->bar[index].ops)
		bus_remove(f->device->vm, space_of(&f->model->bar[index]), bar->address);
	else
		memory_window_set(f->device->vm, &bar->window, NULL);
	bar->mapped = false;
	if (f->model->bar[index].ops && f->model->placed)
		f->model->placed(f->device, index, false, 0);
}

static void map(struct pci_function *f, unsigned index, uint64_t address)
{
	const struct pci_bar_model *m = &f->model->bar[index];
	struct pci_bar *bar = &f->bar[index];
	struct vm *vm = f->device->vm;
	if (m->ops) {
		bar->mapped = !bus_claim(vm, space_of(m), address, m->size, m->ops, f->device, m->offset);
		if (bar->mapped && f->model->placed)
			f->model->placed(f->device, index, true, address);
	} else {
		struct memory_region region = { .start = address, .size = m->size, .offset = bar->memory,
			.kind = bar->kind,
						.name = f->device->name };
		memory_window_set(vm, &bar->window, &region);
		bar->mapped = true;
	}
	bar->address = address;
}

/* First everything goes that is elsewhere now, then comes what is new: functions may trade places with themselves. */
static void update_bars(struct pci_function *f)
{
	uint64_t address[PCI_BARS + 1];
	bool want[PCI_BARS + 1], memory = false;
	for (unsigned i = 0; i <= PCI_BARS; i++) {
		want[i] = wanted(f, i, &address[i]);
		if (!f->bar[i].mapped || (want[i] && f->bar[i].address == address[i]))
			continue;
		memory |= !f->model->bar[i].ops;
		unmap(f, i);
	}
	for (unsigned i = 0; i <= PCI_BARS; i++) {
		if (!want[i] || f->bar[i].mapped)
			continue;
		memory |= !f->model->bar[i].ops;
		map(f, i, address[i]);
	}
	if (memory)
		memory_commit(f->device->vm);
}

static void update_intx(struct pci_function *f)
{
	bool level = f->intx && f->model->pin && !(get(f->config, PCI_COMMAND, 2) & PCI_COMMAND_NO_INTX) &&
		     !pci_messages_enabled(f);
	if (level == f->asserted)
		return;
	f->asserted = level;
	pci_pirq_set(f->pci, pci_pirq(f->devfn, f->model->pin), level);
}

void pci_intx(struct pci_function *f, bool level)
{
	f->intx = level;
	update_intx(f);
}

uint32_t pci_config_read(struct pci_function *f, unsigned at, unsigned size)
{
	uint32_t value = 0;
	if (f->model->reading)
		f->model->reading(f->device, at, size);
	for (unsigned i = 0; i < size && at + i < PCI_CONFIG_SIZE; i++) {
		uint8_t byte = f->config[at + i];
		if (at + i == PCI_STATUS && f->intx)
			byte |= PCI_STATUS_INTX;
		value |= (uint32_t)byte << 8 * i;
	}
	return value;
}

void pci_config_write(struct pci_function *f, unsigned at, unsigned size, uint32_t value)
{
	if (at + size > PCI_CONFIG_SIZE)
		return;
	for (unsigned i = 0; i < size; i++) {
		uint8_t *byte = &f->config[at + i], new = (uint8_t)(value >> 8 * i), mask = f->writable[at + i];
		*byte = (uint8_t)((*byte & ~mask) | (new & mask)) & (uint8_t)~(new & f->clear[at + i]);
	}
	if (at < HEADER_END)
		update_bars(f);
	pci_messages_written(f);
	update_intx(f);
	if (f->model->written)
		f->model->written(f->device, at, size);
}

void pci_function_reset(struct pci_function *f)
{
	memcpy(f->config, f->reset, sizeof(f->config));
	f->intx = false;
	pci_messages_reset(f);
	update_bars(f);
	update_intx(f);
	if (f->model->written)
		f->model->written(f->device, 0, PCI_CONFIG_SIZE);
}

void pci_function_loaded(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++) {
		uint8_t free_bits = f->writable[i] | f->clear[i];
		f->config[i] = (uint8_t)((f->config[i] & free_bits) | (f->reset[i] & ~free_bits));
	}
	update_bars(f);
	pci_messages_written(f);
	update_intx(f);
	if (f->model->written)
		f->model->written(f->device, 0, PCI_CONFIG_SIZE);
}

const struct field pci_function_fields[] = {
	FIELD_U8(struct pci_function, config),
	FIELD_BOOL(struct pci_function, intx),
	FIELD_U32(struct pci_function, msi_pending),
	FIELD_END,
};
