/* SPDX-License-Identifier: MIT */
/* A packet device on an IDE channel: ATA8-APT, the PACKET command protocol by PIO and DMA, after SFF-8020i for what old drivers expect. What the packets say
 * is in atapi_command.c.
 *
 * The device asks for the packet without an interrupt, and sends data in blocks, whose sizes are in the byte count registers. */
#include "device/ata.h"
#include <string.h>
#include "util/log.h"

#define CHUNK (ATA_BUFFER / CD_BLOCK)
#define FEATURES_DMA 0x01u
#define LIMIT_MOST 0xfffeu
#define SENSE_KEY_SHIFT 4

enum {
	NOP = 0x00, DEVICE_RESET = 0x08, PACKET = 0xa0, IDENTIFY_PACKET = 0xa1, STANDBY_NOW = 0xe0, IDLE_NOW = 0xe1, CHECK_POWER = 0xe5,
	SLEEP = 0xe6, FLUSH = 0xe7, IDENTIFY = 0xec, SET_FEATURES = 0xef,
};
#define TRANSFER_MODE 0x03
#define POWER_ACTIVE 0xff
#define MEDIUM_ERROR 3
#define UNRECOVERED_READ_ERROR 0x11

void atapi_done(struct ata_drive *d)
{
	d->r.key = d->r.asc = d->r.ascq = 0;
	d->r.count[NOW] = ATAPI_IO | ATAPI_COD;
	ata_done(d);
}

void atapi_fail(struct ata_drive *d, uint8_t key, uint8_t asc, uint8_t ascq)
{
	d->r.key = key;
	d->r.asc = asc;
	d->r.ascq = ascq;
	d->r.count[NOW] = ATAPI_IO | ATAPI_COD;
	ata_fail(d, (uint8_t)(key << SENSE_KEY_SHIFT | ATA_ABRT));
}

/* SFF-8020i 5.5: 0 and the odd are not to be asked for; nor can a block be cut in the middle of a word, but at the end of the data. */
static uint32_t block_size(const struct ata_drive *d)
{
	uint32_t limit = d->r.limit, here = d->r.filled - d->r.at;
	if (d->r.command == IDENTIFY_PACKET)
		return ATA_SECTOR;
	if (!limit || limit > LIMIT_MOST)
		limit = LIMIT_MOST;
	return here + d->r.left * (uint64_t)CD_BLOCK <= limit ? here : MAX(limit & ~1u, 2u);
}

/* The byte count of a block goes with its interrupt. */
static void tell_block(struct ata_drive *d, uint32_t bytes)
{
	if (d->r.command == IDENTIFY_PACKET)
		return;
	d->r.count[NOW] = ATAPI_IO;
	d->r.lba_mid[NOW] = (uint8_t)bytes;
	d->r.lba_high[NOW] = (uint8_t)(bytes >> 8);
}

static void send(struct ata_drive *d)
{
	if (d->r.packet_dma)
		ata_dma_in(d);
	else
		ata_block_in(d, true);
}

void atapi_reply(struct ata_drive *d, uint32_t length, uint32_t allocated)
{
	d->r.at = 0;
	d->r.left = 0;
	d->r.filled = MIN(length, allocated);
	if (d->r.filled)
		send(d);
	else
		atapi_done(d);
}

static void ask(struct ata_drive *d)
{
	image_read(d->host.image, ata_wait(d), d->r.next * CD_BLOCK, MIN(d->r.left, CHUNK) * CD_BLOCK);
}

void atapi_read(struct ata_drive *d, uint32_t block, uint32_t count)
{
	d->r.next = block;
	d->r.left = count;
	if (count)
		ask(d);
	else
		atapi_done(d);
}

static void host_done(struct ata_drive *d, const struct image_done *done)
{
	if (done->error) {
		atapi_fail(d, MEDIUM_ERROR, UNRECOVERED_READ_ERROR, 0);
		return;
	}
	uint32_t blocks = MIN(d->r.left, d->r.filled / CD_BLOCK);
	d->r.next += blocks;
	d->r.left -= blocks;
	send(d);
}

static void block_in_done(struct ata_drive *d)
{
	if (d->r.command == IDENTIFY_PACKET) {
		d->r.phase = ATA_IDLE;
		d->r.status = ATA_DRDY | ATA_DSC;
	} else if (d->r.left) {
		ask(d);
	} else {
		atapi_done(d);
	}
}

/* The packet is there. */
static void block_out_done(struct ata_drive *d)
{
	d->r.packet_due = false;
	memcpy(d->r.packet, d->r.buffer, sizeof(d->r.packet));
	d->r.at = d->r.end = 0;
	const uint8_t *p = d->r.packet;
	trace(disk, "%s: drive %u: packet %02x %02x %02x%02x%02x%02x %02x%02x%02x %02x, limit %u", d->host.device->name, d->host.number, p[0], p[1],
	      p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], d->r.limit);
	atapi_packet(d);
}

static void packet(struct ata_drive *d)
{
	d->r.limit = (uint16_t)(d->r.lba_mid[NOW] | d->r.lba_high[NOW] << 8);
	d->r.count[NOW] = ATAPI_COD;
	d->r.packet_due = true;
	d->r.packet_dma = d->r.features[NOW] & FEATURES_DMA;
	ata_block_out(d, ATA_PACKET_SIZE, false);
}

static void identify(struct ata_drive *d)
{
	ata_identify_cdrom(d, d->r.buffer);
	d->r.at = 0;
	d->r.filled = ATA_SECTOR;
	ata_block_in(d, true);
}

static void set_features(struct ata_drive *d)
{
	bool mode = d->r.features[NOW] == TRANSFER_MODE && ata_mode_valid(d->r.count[NOW]);
	if (mode) {
		d->r.mode = d->r.count[NOW];
		ata_done(d);
	} else {
		ata_fail(d, ATA_ABRT);
	}
}

static void command(struct ata_drive *d)
{
	switch (d->r.command) {
	case PACKET:
		packet(d);
		break;
	case IDENTIFY_PACKET:
		identify(d);
		break;
	case DEVICE_RESET: /* without an interrupt */
		ata_reset(d);
		break;
	case IDENTIFY:     /* this is how a host that knows disks only finds out */
		ata_signature(d);
		ata_fail(d, ATA_ABRT);
		break;
	case SET_FEATURES:
		set_features(d);
		break;
	case CHECK_POWER:
		d->r.count[NOW] = POWER_ACTIVE;
		ata_done(d);
		break;
	case STANDBY_NOW:
	case IDLE_NOW:
	case SLEEP:
	case FLUSH:
		ata_done(d);
		break;
	default: /* NOP too */
		ata_fail(d, ATA_ABRT);
	}
}

static void power_on(struct ata_drive *d)
{
	d->r.attention = true;
}

static bool valid(const struct ata_drive *d)
{
	const struct ata_regs *r = &d->r;
	if (r->phase == ATA_HOST && !r->left)
		return false;
	if (r->phase == ATA_DMA_OUT || (r->phase == ATA_DMA_IN && (!r->packet_dma || r->command != PACKET)))
		return false;
	return r->phase != ATA_OUT || (r->packet_due && r->end == ATA_PACKET_SIZE);
}

const struct ata_kind ata_cdrom = {
	.signature_mid = 0x14, .signature_high = 0xeb, .power_on = power_on, .command = command, .block_in_done = block_in_done,
	.block_out_done = block_out_done, .host_done = host_done, .ask_again = ask, .block_size = block_size, .tell_block = tell_block,
	.valid = valid,
};
