/* SPDX-License-Identifier: MIT */
/* What a disk and a CD-ROM drive on an IDE channel have in common: ATA8-APT, the PIO data-in, PIO data-out, DMA and non-data protocols, and resets. */
#include "device/ata.h"
#include <errno.h>
#include <string.h>
#include "util/log.h"

#define COMMAND_DIAGNOSTIC 0x90

static void set_status(struct ata_drive *d, enum ata_phase phase, uint8_t status, bool interrupt)
{
	d->r.phase = (uint8_t)phase;
	d->r.status = status;
	d->r.intrq |= interrupt;
}

void ata_done(struct ata_drive *d)
{
	set_status(d, ATA_IDLE, ATA_DRDY | ATA_DSC, true);
}

void ata_fail(struct ata_drive *d, uint8_t error)
{
	d->r.error = error;
	set_status(d, ATA_IDLE, ATA_DRDY | ATA_DSC | ATA_ERR, true);
}

void ata_block_in(struct ata_drive *d, bool interrupt)
{
	uint32_t bytes = MIN(d->host.kind->block_size(d), d->r.filled - d->r.at);
	d->r.end = d->r.at + bytes;
	if (d->host.kind->tell_block)
		d->host.kind->tell_block(d, bytes);
	set_status(d, ATA_IN, ATA_DRDY | ATA_DSC | ATA_DRQ, interrupt);
}

void ata_block_out(struct ata_drive *d, uint32_t bytes, bool interrupt)
{
	d->r.at = 0;
	d->r.end = bytes;
	set_status(d, ATA_OUT, ATA_DRDY | ATA_DSC | ATA_DRQ, interrupt);
}

void ata_dma_in(struct ata_drive *d)
{
	d->r.end = d->r.filled;
	set_status(d, ATA_DMA_IN, ATA_DRDY | ATA_DSC | ATA_DRQ, false);
}

void ata_dma_out(struct ata_drive *d, uint32_t bytes)
{
	d->r.at = 0;
	d->r.end = bytes;
	set_status(d, ATA_DMA_OUT, ATA_DRDY | ATA_DSC | ATA_DRQ, false);
}

uint32_t ata_wait(struct ata_drive *d)
{
	set_status(d, ATA_HOST, ATA_DRDY | ATA_DSC | ATA_BSY, false);
	return ++d->host.tag;
}

uint32_t ata_data_read(struct ata_drive *d, unsigned size)
{
	uint32_t value = 0;
	if (d->r.phase != ATA_IN)
		return UINT32_MAX;
	for (unsigned i = 0; i < MAX(size, 2) && d->r.at < d->r.end; i++)
		value |= (uint32_t)d->r.buffer[d->r.at++] << 8 * i;
	if (d->r.at < d->r.end)
		return value;
	if (d->r.at < d->r.filled)
		ata_block_in(d, true);
	else
		d->host.kind->block_in_done(d);
	return value;
}

void ata_data_write(struct ata_drive *d, uint32_t value, unsigned size)
{
	if (d->r.phase != ATA_OUT)
		return;
	for (unsigned i = 0; i < MAX(size, 2) && d->r.at < d->r.end; i++)
		d->r.buffer[d->r.at++] = (uint8_t)(value >> 8 * i);
	if (d->r.at == d->r.end)
		d->host.kind->block_out_done(d);
}

uint8_t *ata_dma_block(struct ata_drive *d, bool in, uint32_t *bytes)
{
	*bytes = d->r.phase == (in ? ATA_DMA_IN : ATA_DMA_OUT) ? d->r.end - d->r.at : 0;
	return d->r.buffer + d->r.at;
}

void ata_dma_moved(struct ata_drive *d, uint32_t bytes)
{
	d->r.at += bytes;
	if (d->r.at < d->r.end)
		return;
	if (d->r.phase == ATA_DMA_IN)
		d->host.kind->block_in_done(d);
	else
		d->host.kind->block_out_done(d);
}

bool ata_mode_valid(uint8_t mode)
{
	enum { PIO_FLOW_CONTROL = 1, MULTIWORD = 4, ULTRA = 8 }; /* bits 7:3; the mode proper is below */
	static const uint8_t last[] = { [0] = 1, [PIO_FLOW_CONTROL] = 4, [MULTIWORD] = 2, [ULTRA] = ATA_ULTRA_LAST };
	unsigned kind = mode >> 3, number = mode & 7;
	return kind < ARRAY_SIZE(last) && (!kind || last[kind]) && number <= last[kind];
}

void ata_signature(struct ata_drive *d)
{
	d->r.count[NOW] = d->r.lba_low[NOW] = 1;
	d->r.lba_mid[NOW] = d->host.kind->signature_mid;
	d->r.lba_high[NOW] = d->host.kind->signature_high;
	d->r.device &= ATA_DEV;
}

static void stop(struct ata_drive *d)
{
	d->host.tag++;
	d->r.phase = ATA_IDLE;
	d->r.intrq = d->r.packet_due = d->r.packet_dma = false;
	d->r.at = d->r.end = d->r.filled = d->r.left = 0;
}

void ata_reset(struct ata_drive *d)
{
	stop(d);
	ata_signature(d);
	d->r.error = ATA_DIAGNOSTIC_PASSED;
	d->r.status = d->host.kind->ready;
}

void ata_power_on(struct ata_drive *d)
{
	memset(&d->r, 0, sizeof(d->r));
	d->host.kind->power_on(d);
	ata_reset(d);
}

void ata_command(struct ata_drive *d, uint8_t command)
{
	trace(disk, "%s: drive %u: command %02x, features %02x, count %02x, address %02x %02x %02x, device %02x", d->host.device->name,
	      d->host.number, command, d->r.features[NOW], d->r.count[NOW], d->r.lba_high[NOW], d->r.lba_mid[NOW], d->r.lba_low[NOW],
	      d->r.device);
	stop(d);
	d->r.command = command;
	d->r.error = 0;
	if (command == COMMAND_DIAGNOSTIC) {
		ata_reset(d);
		d->r.intrq = true;
		return;
	}
	d->host.kind->command(d);
}

void ata_host_done(struct ata_drive *d, const struct image_done *done, size_t len)
{
	if (d->r.phase != ATA_HOST || done->tag != d->host.tag)
		return; /* of a command that a reset ended */
	if (done->length) {
		d->r.at = 0;
		d->r.filled = MIN(done->length, ATA_BUFFER);
		memcpy(d->r.buffer, done->data, d->r.filled);
	}
	d->host.kind->host_done(d, done);
}

int ata_loaded(struct ata_drive *d)
{
	const struct ata_regs *r = &d->r;
	d->host.tag++;
	if (!d->host.kind)
		return 0;
	if (r->phase >= ATA_PHASES || r->filled > ATA_BUFFER || r->end > ATA_BUFFER || r->at > r->end)
		return -EINVAL;
	if ((r->phase == ATA_IN || r->phase == ATA_DMA_IN) && (r->end > r->filled || r->at == r->end))
		return -EINVAL;
	if ((r->phase == ATA_OUT || r->phase == ATA_DMA_OUT) && (r->at == r->end || r->end % 2 || r->at % 2))
		return -EINVAL;
	if (r->next > d->host.blocks || r->left > d->host.blocks - r->next || !d->host.kind->valid(d))
		return -EINVAL;
	if (r->phase == ATA_HOST)
		d->host.kind->ask_again(d);
	return 0;
}

const struct field ata_fields[] = {
	FIELD_U8(struct ata_regs, features),
	FIELD_U8(struct ata_regs, count),
	FIELD_U8(struct ata_regs, lba_low),
	FIELD_U8(struct ata_regs, lba_mid),
	FIELD_U8(struct ata_regs, lba_high),
	FIELD_U8(struct ata_regs, device),
	FIELD_U8(struct ata_regs, error),
	FIELD_U8(struct ata_regs, status),
	FIELD_U8(struct ata_regs, command),
	FIELD_BOOL(struct ata_regs, intrq),
	FIELD_U8(struct ata_regs, phase),
	FIELD_U32(struct ata_regs, at),
	FIELD_U32(struct ata_regs, end),
	FIELD_U32(struct ata_regs, filled),
	FIELD_U64(struct ata_regs, next),
	FIELD_U32(struct ata_regs, left),
	FIELD_U8(struct ata_regs, multiple),
	FIELD_U8(struct ata_regs, heads),
	FIELD_U8(struct ata_regs, sectors),
	FIELD_U8(struct ata_regs, mode),
	FIELD_BOOL(struct ata_regs, write_cache),
	FIELD_BOOL(struct ata_regs, packet_due),
	FIELD_BOOL(struct ata_regs, packet_dma),
	FIELD_U8(struct ata_regs, packet),
	FIELD_U16(struct ata_regs, limit),
	FIELD_U8(struct ata_regs, key),
	FIELD_U8(struct ata_regs, asc),
	FIELD_U8(struct ata_regs, ascq),
	FIELD_BOOL(struct ata_regs, attention),
	FIELD_BOOL(struct ata_regs, open),
	FIELD_BOOL(struct ata_regs, locked),
	FIELD_U8(struct ata_regs, event),
	FIELD_BYTES(struct ata_regs, buffer),
	FIELD_END,
};
