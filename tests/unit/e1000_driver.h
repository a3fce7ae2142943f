/* SPDX-License-Identifier: MIT */
/* A driver for the tests of the e1000: the machine with the card, its registers, both rings. */
#pragma once
#include "device/e1000.h"
#include "machine.h"
#include "net_test.h"

#define CARD_AT PCI_AT(3, 0)
#define REGS 0xe0000000u
#define PORTS 0xc000u
#define LINE 11
#define RX_RING 0x100000u
#define TX_RING 0x110000u
#define BUFFERS 0x200000u
#define RING 8u
#define CHECK 4

static struct vm *vm;
static const struct e1000_config config = { .net = &net };
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &e1000_class, .name = "net", .base = CARD_AT, .irq = -1, .config = &config },
};

__attribute__((unused)) static uint32_t get(uint32_t at)
{
	return (uint32_t)bus_read(vm, BUS_MEMORY, REGS + at, 4);
}

__attribute__((unused)) static void put(uint32_t at, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, REGS + at, 4, value);
}

__attribute__((unused)) static struct vm *made(void)
{
	struct vm *m = machine(1, places, ARRAY_SIZE(places));
	for (unsigned i = 0; i < 4; i++)
		pci_write(m, PCI_AT(1, 0), PIIX3_PIRQ_ROUTE + i, 1, LINE);
	pci_write(m, CARD_AT, PCI_BAR, 4, REGS);
	pci_write(m, CARD_AT, PCI_BAR + 8, 4, PORTS);
	pci_write(m, CARD_AT, PCI_COMMAND, 2, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	return m;
}

/* What a driver sets up: both rings of RING descriptors, buffers of 2048 bytes at hand. */
__attribute__((unused)) static void fresh(uint32_t rctl)
{
	if (vm)
		vm_destroy(vm);
	net_fresh();
	vm = made();
	put(RDBAL, RX_RING);
	put(RDLEN, RING * 16);
	put(TDBAL, TX_RING);
	put(TDLEN, RING * 16);
	put(RCTL, rctl);
	put(TCTL, TCTL_EN);
	for (unsigned i = 0; i < RING; i++) {
		uint64_t d[2] = { BUFFERS + 0x1000 * i, 0 };
		guest_write(vm, RX_RING + 16 * i, d, sizeof(d));
	}
	put(RDT, RING - 1);
}

struct received {
	uint64_t address;
	uint16_t length, checksum;
	uint8_t status, errors;
	uint16_t special;
};

__attribute__((unused)) static struct received received(unsigned i)
{
	struct received d;
	guest_read(vm, RX_RING + 16 * i, &d, sizeof(d));
	return d;
}

/* One descriptor of the sending ring; the tail is moved by send. */
static unsigned tx;
__attribute__((unused)) static void describe(uint64_t first, uint32_t command, uint32_t rest)
{
	struct {
		uint64_t first;
		uint32_t command, rest;
	} d = { first, command, rest };
	guest_write(vm, TX_RING + 16 * tx, &d, sizeof(d));
	tx = (tx + 1) % RING;
}

__attribute__((unused)) static bool is_done(unsigned i)
{
	uint8_t status;
	guest_read(vm, TX_RING + 16 * i + 12, &status, 1);
	return status & 1;
}

__attribute__((unused)) static void send_to(unsigned tail)
{
	put(TDT, tail);
}
