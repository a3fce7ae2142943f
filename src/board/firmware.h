/* SPDX-License-Identifier: MIT */
/* What a PC's firmware leaves behind for an operating system, made by the board: tables that describe it. */
#pragma once
#include "board/pc.h"
#include "vm/vm.h"

/* What the tables must say and differs from machine to machine. */
struct firmware_facts {
	uint8_t ioapic_id;
	struct {
		uint16_t port;
		uint8_t irq;
	} uart[4];
	unsigned uarts;
	bool floppy;               /* there is a floppy controller */
	uint16_t pm_base;          /* ports of the ACPI block */
};

/* Tables are laid down one after the other between `at` and `end`. */
struct firmware_area {
	struct vm *vm;
	gpa_t at, end;
	int error;                 /* the first one */
};
/* firmware.c -- Takes `size` bytes at a multiple of `align`; 0 (and the area's error set) when there is no more
 * room. */
gpa_t firmware_take(struct firmware_area *, uint64_t size, uint64_t align);
void firmware_write(struct firmware_area *, gpa_t, const void *data, uint64_t size);
/* The byte that makes all bytes add up to zero. */
uint8_t firmware_checksum(const void *data, size_t size);
/* Writes everything into guest RAM and sets the memory types (MTRRs) of all processors; after a reset, before the
 * loader. *rsdp: where ACPI begins. 0 or -errno, after log_error. */
int firmware_install(struct vm *, const struct firmware_facts *, gpa_t *rsdp);

/* pci_setup.c -- What firmware does with the chip set and the PCI bus: RAM below 1 MiB, interrupt routes,
 * addresses, the ACPI block. */
void pci_setup(struct vm *);
/* First address below 4 GiB that is the PCI bus's, up to PC_IOAPIC. */
uint32_t pci_memory_start(uint64_t ram);
/* mptable.c -- Intel MultiProcessor Specification 1.4, chapter 4. Nothing with more processors than it can name. */
void mptable_write(struct firmware_area *, const struct firmware_facts *);
