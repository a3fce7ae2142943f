/* SPDX-License-Identifier: MIT */
/* The board's ACPI tables as one block of bytes that does not know yet where it will lie.
 *
 * Who puts it into memory adds its address to each of `pointer`, then computes each of `sum`: the board itself
 * where there is no firmware, else the firmware, by a script that fw_tables.c writes for it. */
#pragma once
#include "board/firmware.h"

#define ACPI_ALIGN 64 /* of the block: what the FACS wants */
#define ACPI_POINTERS_MAX 32
#define ACPI_SUMS_MAX 16

struct acpi_rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum;
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));
#define ACPI_RSDP_V1_SIZE 20 /* what the first checksum covers */

struct acpi_block {
	uint8_t *data;
	uint32_t size;
	struct { uint32_t at; uint8_t size; } pointer[ACPI_POINTERS_MAX]; /* hold an offset into the block now */
	unsigned pointers;
	struct { uint32_t at, start, length; } sum[ACPI_SUMS_MAX];
	unsigned sums;
	struct acpi_rsdp rsdp;     /* lies apart: its rsdt and xsdt are offsets, too, its checksums are 0 */
	int error;
};

/* acpi.c -- ACPI 6.4 chapter 5. 0 or -errno; to be freed in either case. */
int acpi_build(struct acpi_block *, struct vm *, const struct firmware_facts *);
void acpi_free(struct acpi_block *);
/* Into guest memory; returns the address of the RSDP. */
gpa_t acpi_write(struct firmware_area *, const struct firmware_facts *);
/* acpi_dsdt.c -- The DSDT without its header, into room bytes; 0 when they do not suffice. */
size_t acpi_dsdt(const struct firmware_facts *, struct vm *, uint8_t *data, size_t room);
