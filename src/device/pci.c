/* SPDX-License-Identifier: MIT */
/* The PCI bus: configuration mechanism 1, after the PCI Local Bus Specification 3.0, section 3.2.2.3.2, and the four
 * interrupt wires.
 *
 * A doubleword at CF8h is the address register; smaller accesses pass on to the ISA bus, where CF9h is the reset
 * control register. A configuration access takes the lock of the function's device and no other. There is one bus,
 * number 0; what is not there reads as all ones. */
#include "device/pci.h"
#include <errno.h>
#include "device/chips.h"
#include "util/log.h"

#define ADDRESS_PORT 0xcf8
#define PORTS 8
#define DATA 4              /* offset of CFCh */
#define RESET_CONTROL 1     /* of CF9h */
#define ADDRESS_ENABLE BIT(31)
#define ADDRESS_WRITABLE 0x80fffffcu
#define PIN_A 1

struct pci {
	struct device device;
	_Atomic uint32_t address;            /* CONFIG_ADDRESS, read/write */
	struct device *reset_control;
	struct pci_function *function[PCI_FUNCTIONS];
	pthread_mutex_t lock;                /* guards the wires; between a device's lock and an interrupt chip's */
	struct {
		unsigned asserted;           /* number of functions that hold it */
		struct irq_pin pin;
	} pirq[PCI_PIRQS];
};

static struct pci *of(struct device *d)
{
	return container_of(d, struct pci, device);
}

struct pci *pci_of(struct vm *vm)
{
	for (struct device *d = vm->devices; d; d = d->next)
		if (d->class == &pci_class)
			return of(d);
	return NULL;
}

int pci_add(struct pci *p, struct pci_function *f)
{
	unsigned first = f->devfn & ~7u;
	if (p->function[f->devfn]) {
		log_error("board: PCI slot %u function %u is taken by %s", PCI_SLOT(f->devfn), f->devfn & 7u,
			  p->function[f->devfn]->device->name);
		return -EEXIST;
	}
	p->function[f->devfn] = f;
	for (unsigned i = 1; i < 8; i++)
		if (p->function[first] && p->function[first + i])
			p->function[first]->reset[PCI_HEADER] |= PCI_HEADER_MULTI;
	return 0;
}

struct pci_function *pci_at(struct vm *vm, unsigned devfn)
{
	struct pci *p = pci_of(vm);
	return p ? p->function[devfn % PCI_FUNCTIONS] : NULL;
}

static uint32_t read_locked(struct pci_function *f, unsigned at, unsigned size)
{
	if (!f)
		return UINT32_MAX;
	pthread_mutex_lock(&f->device->lock);
	uint32_t value = pci_config_read(f, at, size);
	pthread_mutex_unlock(&f->device->lock);
	return value;
}

static void write_locked(struct pci_function *f, unsigned at, unsigned size, uint32_t value)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->device->lock);
	pci_config_write(f, at, size, value);
	pthread_mutex_unlock(&f->device->lock);
}

uint32_t pci_read(struct vm *vm, unsigned devfn, unsigned at, unsigned size)
{
	return read_locked(pci_at(vm, devfn), at, size) & (uint32_t)size_mask(size);
}

void pci_write(struct vm *vm, unsigned devfn, unsigned at, unsigned size, uint32_t value)
{
	write_locked(pci_at(vm, devfn), at, size, value);
}

/* Whom CONFIG_ADDRESS names. */
static struct pci_function *addressed(struct pci *p, unsigned *at)
{
	uint32_t address = p->address;
	bool bus0 = !(address & 0xff0000);
	*at = address & 0xfc;
	return (address & ADDRESS_ENABLE) && bus0 ? p->function[address >> 8 & 0xff] : NULL;
}

static uint64_t read_byte_below(struct pci *p, uint64_t offset)
{
	struct device *r = p->reset_control;
	if (offset != RESET_CONTROL || !r)
		return 0xff;
	pthread_mutex_lock(&r->lock);
	uint64_t value = cf9_ops.read(r, 0, 1);
	pthread_mutex_unlock(&r->lock);
	return value;
}

static void write_byte_below(struct pci *p, uint64_t offset, uint64_t value)
{
	struct device *r = p->reset_control;
	if (offset != RESET_CONTROL || !r)
		return;
	pthread_mutex_lock(&r->lock);
	cf9_ops.write(r, 0, 1, value & 0xff);
	pthread_mutex_unlock(&r->lock);
}

static uint64_t pci_port_read(struct device *d, uint64_t offset, unsigned size)
{
	struct pci *p = of(d);
	uint64_t value = 0;
	unsigned at;
	if (!offset && size == 4)
		return p->address;
	if (offset >= DATA) {
		struct pci_function *f = addressed(p, &at);
		return read_locked(f, at + (unsigned)(offset - DATA), size);
	}
	for (unsigned i = 0; i < size; i++) {
		bool below = offset + i < DATA;
		uint64_t byte = below ? read_byte_below(p, offset + i) : pci_port_read(d, offset + i, 1);
		value |= (byte & 0xff) << 8 * i;
	}
	return value;
}

static void pci_port_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct pci *p = of(d);
	unsigned at;
	if (!offset && size == 4) {
		p->address = value & ADDRESS_WRITABLE;
		return;
	}
	if (offset >= DATA) {
		struct pci_function *f = addressed(p, &at);
		write_locked(f, at + (unsigned)(offset - DATA), size, (uint32_t)value);
		return;
	}
	for (unsigned i = 0; i < size; i++) {
		if (offset + i < DATA)
			write_byte_below(p, offset + i, value >> 8 * i);
		else
			pci_port_write(d, offset + i, 1, value >> 8 * i & 0xff);
	}
}

unsigned pci_pirq(unsigned devfn, unsigned pin)
{
	return (PCI_SLOT(devfn) - 1 + pin - PIN_A) % PCI_PIRQS;
}

void pci_pirq_set(struct pci *p, unsigned pirq, bool level)
{
	pthread_mutex_lock(&p->lock);
	p->pirq[pirq].asserted += level ? 1u : -1u;
	irq_set(&p->pirq[pirq].pin, p->pirq[pirq].asserted);
	pthread_mutex_unlock(&p->lock);
}

void pci_pirq_route(struct pci *p, unsigned pirq, unsigned gsi)
{
	struct irq_pin *pin = &p->pirq[pirq].pin;
	pthread_mutex_lock(&p->lock);
	if (pin->gsi != gsi) {
		irq_set(pin, false);
		pin->gsi = gsi;
		irq_set(pin, p->pirq[pirq].asserted);
	}
	pthread_mutex_unlock(&p->lock);
}

static void pci_reset(struct device *d, enum reset_kind kind)
{
	of(d)->address = 0;
}

static int pci_post_load(struct device *d, uint32_t version)
{
	of(d)->address &= ADDRESS_WRITABLE;
	return 0;
}

static int pci_init(struct device *d)
{
	static const struct bus_ops ops = { .read = pci_port_read, .write = pci_port_write, .max_size = 4,
		.unlocked = true };
	const struct pci_config *config = d->place->config;
	struct pci *p = of(d);
	pthread_mutex_init(&p->lock, NULL);
	for (unsigned i = 0; i < PCI_PIRQS; i++)
		irq_pin_init(&p->pirq[i].pin, d->vm, PCI_UNROUTED);
	if (config)
		p->reset_control = device_find(d->vm, config->reset_control);
	return bus_add(d->vm, BUS_PORT, ADDRESS_PORT, PORTS, &ops, d);
}

static void pci_fini(struct device *d)
{
	pthread_mutex_destroy(&of(d)->lock);
}

static const struct field fields[] = {
	FIELD_U32(struct pci, address),
	FIELD_END,
};

const struct device_class pci_class = {
	.name = "pci", .summary = "PCI bus, configuration mechanism 1", .size = sizeof(struct pci), .init = pci_init,
	.reset = pci_reset,
	.fini = pci_fini, .fields = fields, .version = 1, .post_load = pci_post_load,
};
DEVICE_CLASS(pci_class);
