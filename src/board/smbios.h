/* SPDX-License-Identifier: MIT */
/* What the machine is called, for people who ask the guest (dmidecode): SMBIOS structures behind each other, and the entry point that leads to
 * them. Firmware gets both by fw_cfg, puts them where it likes, and adds what it says of itself. */
#pragma once
#include "board/firmware.h"

#define SMBIOS_ROOM 1024

struct smbios {
	uint8_t data[SMBIOS_ROOM];
	uint16_t size, count;
	uint16_t largest;          /* structure, with its strings */
};

struct smbios_entry { /* DSP0134 5.2.1 */
	char anchor[4];            /* "_SM_" */
	uint8_t checksum, length;
	uint8_t major, minor;
	uint16_t largest;
	uint8_t revision, formatted[5];
	char anchor2[5];           /* "_DMI_" */
	uint8_t checksum2;
	uint16_t size;
	uint32_t at;
	uint16_t count;
	uint8_t bcd_revision;
} __attribute__((packed));

/* smbios.c -- DSP0134, version 2.8. */
void smbios_build(struct smbios *, struct vm *);
/* The entry point for structures that lie at `at`. */
struct smbios_entry smbios_entry(const struct smbios *, uint32_t at);
/* Where there is no firmware: into guest memory. */
void smbios_write(struct firmware_area *);
