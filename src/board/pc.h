/* SPDX-License-Identifier: MIT */
/* Where things are on a PC, for the board that puts them there and for the loaders that leave them alone. */
#pragma once

/* Below 1 MiB. */
#define PC_EBDA 0x9fc00ULL          /* extended BIOS data area: the last KiB of conventional memory */
#define PC_VGA_START 0xa0000ULL
#define PC_TEXT_START 0xb8000ULL    /* video memory in text modes */
#define PC_BIOS_START 0xe0000ULL    /* firmware tables: reserved */
#define PC_BIOS_END 0x100000ULL
/* And below 4 GiB: where the interrupt chips' registers are. */
#define PC_IOAPIC 0xfec00000u
#define PC_LAPIC 0xfee00000u

/* PCI functions, and the ISA interrupts that PIRQ A to D are routed to. */
enum { PC_HOST_BRIDGE = 0 << 3, PC_ISA_BRIDGE = 1 << 3, PC_IDE_FUNCTION = 1 << 3 | 1, PC_PM_FUNCTION = 1 << 3 | 3,
	PC_VGA_FUNCTION = 2 << 3 };
#define PC_PCI_IRQS 5, 10, 11
#define PC_FIRST_SLOT 3             /* of those for cards */
#define PC_SLOTS 32

/* Ports. */
#define PC_RESET_PORT 0xcf9
#define PC_DEBUGCON_PORT 0xe9
#define PC_BIOS_LOG_PORT 0x402 /* where SeaBIOS writes what it does */
#define PC_FW_CFG_PORT 0x510
