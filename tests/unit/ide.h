/* SPDX-License-Identifier: MIT */
/* An IDE controller for tests: a machine with one, and what a driver does with its ports. */
#pragma once
#include "device/ata.h"
#include "device/pci.h"
#include "media.h"

#define PRIMARY 0x1f0
#define SECONDARY 0x170
#define CONTROL_OF(base) ((uint16_t)((base) + 0x206))
#define IDE_LINE(base) ((base) == PRIMARY ? 14u : 15u)
enum { DATA, ERROR, COUNT, LOW, MID, HIGH, DEVICE, STATUS }; /* from the base of a channel */
enum { BSY = 0x80, DRDY = 0x40, DSC = 0x10, DRQ = 0x08, ERR = 0x01, READY = DRDY | DSC };
#define SLAVE 0x10

static struct vm *vm;

/* A machine with these drives; there may be two at once, `vm` is the one that the ports below belong to. */
__attribute__((unused)) static struct vm *ide_machine(const struct ide_config *config)
{
	static const struct pci_config pci_config = { .reset_control = "cf9" };
	static struct device_place room[2][3]; /* they must live as long as their machine: two machines, in turn */
	static unsigned machines;
	struct device_place *places = room[machines++ % 2];
	places[0] = (struct device_place){ .class = &cf9_class, .name = "cf9", .irq = -1 };
	places[1] = (struct device_place){ .class = &pci_class, .name = "pci", .irq = -1, .config = &pci_config };
	places[2] = (struct device_place){ .class = &ide_class, .name = "ide", .base = PCI_AT(1, 1), .irq = -1, .config = config };
	return machine(1, places, 3);
}

__attribute__((unused)) static uint8_t get(unsigned base, unsigned reg)
{
	return in8(vm, (uint16_t)(base + reg));
}

__attribute__((unused)) static void put(unsigned base, unsigned reg, uint8_t value)
{
	out8(vm, (uint16_t)(base + reg), value);
}

__attribute__((unused)) static uint8_t alternate(unsigned base)
{
	return in8(vm, CONTROL_OF(base));
}

/* Waits for what the image does; the status, without taking the interrupt away. */
__attribute__((unused)) static uint8_t settle(unsigned base)
{
	clock_step(vm, REQUEST_NS);
	return alternate(base);
}

__attribute__((unused)) static void take(unsigned base, uint8_t *data, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i += 2) {
		uint16_t word = (uint16_t)bus_read(vm, BUS_PORT, base + DATA, 2);
		memcpy(data + i, &word, 2);
	}
}

__attribute__((unused)) static void give(unsigned base, const uint8_t *data, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i += 2) {
		uint16_t word;
		memcpy(&word, data + i, 2);
		bus_write(vm, BUS_PORT, base + DATA, 2, word);
	}
}
