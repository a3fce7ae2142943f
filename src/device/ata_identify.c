/* SPDX-License-Identifier: MIT */
/* What drives say of themselves: IDENTIFY DEVICE (ATA8-ACS 7.16) and IDENTIFY PACKET DEVICE (7.17). Words are little-endian, text is in
 * big-endian words. */
#include <stdio.h>
#include <string.h>
#include "device/ata.h"

#define HEADS 16
#define SECTORS 63
#define CYLINDERS_MOST 16383
#define LBA28_MOST 0x0fffffffu
#define MULTIPLE_MAX 16
#define SUPPORTS_PIO_3_4 3
#define PIO_4_NS 120
#define MULTIWORD_2_NS 120
#define MULTIWORD_MODES 0x07 /* 0 to 2 */
#define ULTRA_MODES (BIT(ATA_ULTRA_LAST + 1) - 1)
#define ATA_4_TO_7 0x00f0

static void put(uint8_t *data, unsigned word, uint16_t value)
{
	data[2 * word] = (uint8_t)value;
	data[2 * word + 1] = (uint8_t)(value >> 8);
}

static void put_32(uint8_t *data, unsigned word, uint32_t value)
{
	put(data, word, (uint16_t)value);
	put(data, word + 1, (uint16_t)(value >> 16));
}

static void put_text(uint8_t *data, unsigned word, unsigned words, const char *text)
{
	size_t length = strlen(text);
	for (unsigned i = 0; i < 2 * words; i++)
		data[2 * word + (i ^ 1)] = (uint8_t)(i < length ? text[i] : ' ');
}

static void put_names(uint8_t *data, const struct ata_drive *d, const char *model)
{
	char serial[21];
	snprintf(serial, sizeof(serial), "DP%05u", d->host.number + 1);
	put_text(data, 10, 10, serial);
	put_text(data, 23, 4, "1.0");
	put_text(data, 27, 20, model);
}

uint16_t ata_cylinders(uint64_t total, unsigned heads, unsigned sectors)
{
	uint64_t cylinders = total / (heads * sectors);
	return (uint16_t)(cylinders < 1 ? 1 : MIN(cylinders, CYLINDERS_MOST));
}

/* Of a kind of DMA: the modes there are, and in the upper byte the one that SET FEATURES chose. */
static uint16_t dma_modes(const struct ata_drive *d, unsigned modes, unsigned kind)
{
	return (uint16_t)(modes | (d->r.mode >> 3 == kind ? 0x100u << (d->r.mode & 7) : 0));
}

static void put_modes(uint8_t *data, const struct ata_drive *d)
{
	put(data, 51, 0x0200);         /* PIO mode 2 */
	put(data, 53, 0x0007);         /* words 54 to 58, 64 to 70 and 88 are valid */
	put(data, 63, dma_modes(d, MULTIWORD_MODES, 4));
	put(data, 64, SUPPORTS_PIO_3_4);
	put(data, 65, MULTIWORD_2_NS);
	put(data, 66, MULTIWORD_2_NS);
	put(data, 67, PIO_4_NS);
	put(data, 68, PIO_4_NS);
	put(data, 80, ATA_4_TO_7);
	put(data, 88, dma_modes(d, ULTRA_MODES, 8));
}

void ata_identify_disk(const struct ata_drive *d, uint8_t *data)
{
	uint64_t total = d->host.blocks;
	const struct ata_regs *r = &d->r;
	uint16_t cylinders = ata_cylinders(total, r->heads, r->sectors);
	memset(data, 0, ATA_SECTOR);
	put(data, 0, 0x0040);          /* fixed device */
	put(data, 1, ata_cylinders(total, HEADS, SECTORS));
	put(data, 3, HEADS);
	put(data, 6, SECTORS);
	put_names(data, d, "DOPPEL HARDDISK");
	put(data, 47, 0x8000 | MULTIPLE_MAX);
	put(data, 48, 1);              /* 32-bit accesses to the data register work */
	put(data, 49, 0x0f00);         /* IORDY, may be disabled; LBA; DMA */
	put(data, 50, 0x4000);
	put_modes(data, d);
	put(data, 54, cylinders);
	put(data, 55, r->heads);
	put(data, 56, r->sectors);
	put_32(data, 57, (uint32_t)cylinders * r->heads * r->sectors);
	put(data, 59, r->multiple ? 0x0100 | r->multiple : 0);
	put_32(data, 60, (uint32_t)MIN(total, LBA28_MOST));
	put(data, 82, 0x0060);         /* look-ahead, write cache */
	put(data, 83, 0x7400);         /* FLUSH CACHE, FLUSH CACHE EXT, 48-bit addresses */
	put(data, 84, 0x4000);
	put(data, 85, 0x0040 | (r->write_cache ? 0x0020 : 0));
	put(data, 86, 0x3400);
	put(data, 87, 0x4000);
	put(data, 93, 0x6001 | (d->host.number & 1 ? 0x4a00 : 0));
	put_32(data, 100, (uint32_t)total);
	put_32(data, 102, (uint32_t)(total >> 32));
}

void ata_identify_cdrom(const struct ata_drive *d, uint8_t *data)
{
	memset(data, 0, ATA_SECTOR);
	put(data, 0, 0x85c0);          /* packet device, CD-ROM, removable, DRQ within 50 us, packets of 12 bytes */
	put_names(data, d, "DOPPEL DVD-ROM");
	put(data, 49, 0x0f00);
	put_modes(data, d);
	put(data, 82, 0x0210);         /* DEVICE RESET, PACKET */
	put(data, 83, 0x4000);
	put(data, 84, 0x4000);
	put(data, 85, 0x0210);
	put(data, 87, 0x4000);
}
