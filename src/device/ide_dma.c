/* SPDX-License-Identifier: MIT */
/* See ide_dma.h.
 *
 * The drive says how much is moved, the table where: so that a table without an end does no more harm than one that is too long. When it
 * is too short the bus master stops, and the drive waits; when it is too long, it stays active: that is how a driver tells. An entry, or a
 * region, that is not memory is what the bus would answer with an abort. */
#include "device/ide_dma.h"
#include "util/log.h"

enum { COMMAND = 0, STATUS = 2, TABLE = 4, TABLE_LAST = 7 };
enum { START = 0x01, TO_MEMORY = 0x08 };                              /* command */
enum { ACTIVE = 0x01, ERROR = 0x02, INTERRUPT = 0x04, CAPABLE = 0x60 }; /* status */
#define TABLE_SPAN 0xffffu     /* a table does not cross a multiple of 64 KiB: the address of an entry wraps there */
#define REGION_MOST 0x10000u   /* what a count of 0 means */
#define REGION_LAST BIT(31)

struct region { /* an entry of the table */
	uint32_t at, count;
};

uint8_t ide_dma_read(const struct ide_dma *m, unsigned offset)
{
	switch (offset) {
	case COMMAND:
		return m->command;
	case STATUS:
		return m->status;
	case TABLE ... TABLE_LAST:
		return (uint8_t)(m->table >> 8 * (offset - TABLE));
	}
	return 0;
}

static void write_command(struct ide_dma *m, uint8_t value)
{
	bool was = m->command & START, is = value & START;
	m->command = value & (START | TO_MEMORY);
	if (!was && is) {
		m->next = m->table;
		m->left = 0;
		m->last = false;
		m->status |= ACTIVE;
	} else if (!is) {
		m->status &= (uint8_t)~ACTIVE;
	}
}

void ide_dma_write(struct ide_dma *m, unsigned offset, uint8_t value)
{
	switch (offset) {
	case COMMAND:
		write_command(m, value);
		break;
	case STATUS:
		m->status = (uint8_t)((m->status & ~CAPABLE & ~(value & (ERROR | INTERRUPT))) | (value & CAPABLE));
		break;
	case TABLE ... TABLE_LAST:
		m->table &= ~(0xffu << 8 * (offset - TABLE));
		m->table = (m->table | (uint32_t)value << 8 * (offset - TABLE)) & ~3u;
		break;
	}
}

static bool next_region(struct ide_dma *m, struct vm *vm)
{
	struct region r;
	if (guest_read(vm, m->next, &r, sizeof(r)))
		return false;
	m->next = (m->next & ~TABLE_SPAN) | ((m->next + (uint32_t)sizeof(r)) & TABLE_SPAN);
	m->at = r.at & ~1u;
	m->left = r.count & (REGION_MOST - 2);
	m->left = m->left ? m->left : REGION_MOST;
	m->last = r.count & REGION_LAST;
	return true;
}

static void fail(struct ide_dma *m, struct vm *vm, const char *what, uint32_t address)
{
	trace(disk, "bus master: no memory for %s at %#x", what, address);
	m->status = (uint8_t)((m->status & ~ACTIVE) | ERROR);
}

void ide_dma_run(struct ide_dma *m, struct vm *vm, struct ata_drive *drive)
{
	bool in = m->command & TO_MEMORY;
	uint32_t bytes;
	uint8_t *data;
	while (drive && (m->status & ACTIVE) && (data = ata_dma_block(drive, in, &bytes), bytes)) {
		if (!m->left && !next_region(m, vm)) {
			fail(m, vm, "an entry of the table", m->next);
			return;
		}
		bytes = MIN(bytes, m->left);
		if (in ? guest_write(vm, m->at, data, bytes) : guest_read(vm, m->at, data, bytes)) {
			fail(m, vm, "a region", m->at);
			return;
		}
		m->at += bytes;
		m->left -= bytes;
		if (!m->left && m->last)
			m->status &= (uint8_t)~ACTIVE;
		ata_dma_moved(drive, bytes);
	}
}

void ide_dma_interrupt(struct ide_dma *m)
{
	m->status |= INTERRUPT;
}

const struct field ide_dma_fields[] = {
	FIELD_U8(struct ide_dma, command),
	FIELD_U8(struct ide_dma, status),
	FIELD_U32(struct ide_dma, table),
	FIELD_U32(struct ide_dma, next),
	FIELD_U32(struct ide_dma, at),
	FIELD_U32(struct ide_dma, left),
	FIELD_BOOL(struct ide_dma, last),
	FIELD_END,
};
