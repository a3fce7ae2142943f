/* SPDX-License-Identifier: MIT */
/* The bus master of an IDE channel: Intel 290550 (PIIX3), section 2.3, and "Programming Interface for Bus Master IDE Controller", revision
 * 1.0. It follows a table of physical regions between the guest's memory and the drive that asks for data. All with the controller's lock
 * held. */
#pragma once
#include "device/ata.h"

#define IDE_DMA_PORTS 8u /* of a channel */

struct ide_dma {
	uint8_t command;       /* start, direction: read/write */
	uint8_t status;        /* active: read only; error, interrupt: cleared by a one; bits 5 and 6: read/write */
	uint32_t table;        /* guest address of the region table: read/write */
	/* While it is active: */
	uint32_t next;         /* guest address of the table's next entry */
	uint32_t at, left;     /* of the region: where it goes on, and for how many bytes */
	bool last;             /* the region is the table's last */
};
extern const struct field ide_dma_fields[];

/* ide_dma.c -- One byte of the registers. Whoever writes calls ide_dma_run then. */
uint8_t ide_dma_read(const struct ide_dma *, unsigned offset);
void ide_dma_write(struct ide_dma *, unsigned offset, uint8_t value);
/* Moves what can be moved now to or from the drive (NULL: there is none). */
void ide_dma_run(struct ide_dma *, struct vm *, struct ata_drive *);
/* The channel's interrupt line went up. */
void ide_dma_interrupt(struct ide_dma *);
