/* SPDX-License-Identifier: MIT */
/* Where things are on a PC, for the board that puts them there and for the loaders that leave them alone. */
#pragma once

/* Below 1 MiB. */
#define PC_EBDA 0x9fc00ULL          /* extended BIOS data area: the last KiB of conventional memory */
#define PC_VGA_START 0xa0000ULL
#define PC_BIOS_START 0xe0000ULL    /* firmware tables: reserved */
#define PC_BIOS_END 0x100000ULL
/* And below 4 GiB: where the interrupt chips' registers are. */
#define PC_IOAPIC 0xfec00000u
#define PC_LAPIC 0xfee00000u

/* Ports. */
#define PC_RESET_PORT 0xcf9
#define PC_DEBUGCON_PORT 0xe9
