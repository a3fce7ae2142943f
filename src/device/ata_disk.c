/* SPDX-License-Identifier: MIT */
/* An ATA hard disk, by PIO and DMA: the commands of ATA8-ACS, and those of ATA-1 to 3 that BIOSes and DOS still give.
 *
 * A command beyond the last sector fails before it moves anything. No queues, SMART, security or host protected area: IDENTIFY DEVICE says so. */
#include "device/ata.h"
#include <errno.h>
#include <string.h>

#define MULTIPLE_MAX 16
#define CHUNK (ATA_BUFFER / ATA_SECTOR) /* sectors that are read ahead of the host at once */
#define DEFAULT_HEADS 16
#define DEFAULT_SECTORS 63
#define COUNT_28 256
#define COUNT_48 65536
#define HEAD 0x0fu                      /* of the device register: bits 27:24 of an LBA, or the head */

enum {
	NOP = 0x00, RECALIBRATE = 0x10, RECALIBRATE_LAST = 0x1f, READ = 0x20, READ_NO_RETRY = 0x21, READ_EXT = 0x24,
	READ_DMA_EXT = 0x25, READ_MAX_EXT = 0x27, READ_MULTIPLE_EXT = 0x29, WRITE = 0x30, WRITE_NO_RETRY = 0x31, WRITE_EXT = 0x34, WRITE_DMA_EXT = 0x35, WRITE_MULTIPLE_EXT = 0x39,
	VERIFY = 0x40, VERIFY_NO_RETRY = 0x41, VERIFY_EXT = 0x42, SEEK = 0x70, SEEK_LAST = 0x7f, SET_GEOMETRY = 0x91,
	STANDBY_NOW_OLD = 0x94, IDLE_NOW_OLD = 0x95, STANDBY_OLD = 0x96, IDLE_OLD = 0x97, CHECK_POWER_OLD = 0x98, SLEEP_OLD = 0x99,
	READ_MULTIPLE = 0xc4, WRITE_MULTIPLE = 0xc5, SET_MULTIPLE = 0xc6, READ_DMA = 0xc8, READ_DMA_NO_RETRY = 0xc9, WRITE_DMA = 0xca,
	WRITE_DMA_NO_RETRY = 0xcb, STANDBY_NOW = 0xe0, IDLE_NOW = 0xe1, STANDBY = 0xe2, IDLE = 0xe3,
	CHECK_POWER = 0xe5, SLEEP = 0xe6, FLUSH = 0xe7, FLUSH_EXT = 0xea, IDENTIFY = 0xec, SET_FEATURES = 0xef, READ_MAX = 0xf8,
};
enum { /* of SET FEATURES */
	WRITE_CACHE_ON = 0x02, TRANSFER_MODE = 0x03, LOOK_AHEAD_OFF = 0x55, KEEP_SETTINGS = 0x66, WRITE_CACHE_OFF = 0x82, LOOK_AHEAD_ON = 0xaa,
	RESTORE_SETTINGS = 0xcc,
};
#define POWER_ACTIVE 0xff

/* ---- Addresses -------------------------------------------------------------------------------------------------------- */

static bool is_ext(uint8_t command)
{
	switch (command) {
	case READ_EXT:
	case READ_DMA_EXT:
	case READ_MULTIPLE_EXT:
	case WRITE_EXT:
	case WRITE_DMA_EXT:
	case WRITE_MULTIPLE_EXT:
	case VERIFY_EXT:
	case READ_MAX_EXT:
		return true;
	}
	return false;
}

static uint32_t low_24(const struct ata_regs *r, unsigned which)
{
	return r->lba_low[which] | r->lba_mid[which] << 8 | (uint32_t)r->lba_high[which] << 16;
}

/* The sector that the registers name; UINT64_MAX: none. */
static uint64_t address(const struct ata_drive *d)
{
	const struct ata_regs *r = &d->r;
	if (is_ext(r->command))
		return low_24(r, NOW) | (uint64_t)low_24(r, BEFORE) << 24;
	if (r->device & ATA_LBA)
		return low_24(r, NOW) | (uint32_t)(r->device & HEAD) << 24;
	unsigned cylinder = r->lba_mid[NOW] | r->lba_high[NOW] << 8, head = r->device & HEAD, sector = r->lba_low[NOW];
	if (!sector || sector > r->sectors || head >= r->heads)
		return UINT64_MAX;
	return ((uint64_t)cylinder * r->heads + head) * r->sectors + sector - 1;
}

/* The other way round: where a command stopped. */
static void set_address(struct ata_drive *d, uint64_t sector)
{
	struct ata_regs *r = &d->r;
	bool ext = is_ext(r->command);
	uint32_t low = (uint32_t)(sector & 0xffffff);
	if (ext) {
		r->lba_low[BEFORE] = (uint8_t)(sector >> 24);
		r->lba_mid[BEFORE] = (uint8_t)(sector >> 32);
		r->lba_high[BEFORE] = (uint8_t)(sector >> 40);
	} else if (r->device & ATA_LBA) {
		r->device = (uint8_t)((r->device & ~HEAD) | (sector >> 24 & HEAD));
	} else {
		uint64_t track = sector / r->sectors;
		r->device = (uint8_t)((r->device & ~HEAD) | track % r->heads);
		low = (uint32_t)((sector % r->sectors + 1) | track / r->heads << 8);
	}
	r->lba_low[NOW] = (uint8_t)low;
	r->lba_mid[NOW] = (uint8_t)(low >> 8);
	r->lba_high[NOW] = (uint8_t)(low >> 16);
}

static uint32_t sector_count(const struct ata_regs *r)
{
	if (is_ext(r->command)) {
		uint32_t count = r->count[NOW] | r->count[BEFORE] << 8;
		return count ? count : COUNT_48;
	}
	return r->count[NOW] ? r->count[NOW] : COUNT_28;
}

/* ---- Transfers -------------------------------------------------------------------------------------------------------- */

enum direction { TO_HOST, FROM_HOST, NOWHERE };

static enum direction direction(uint8_t command)
{
	switch (command) {
	case WRITE:
	case WRITE_NO_RETRY:
	case WRITE_EXT:
	case WRITE_DMA:
	case WRITE_DMA_NO_RETRY:
	case WRITE_DMA_EXT:
	case WRITE_MULTIPLE:
	case WRITE_MULTIPLE_EXT:
		return FROM_HOST;
	case VERIFY:
	case VERIFY_NO_RETRY:
	case VERIFY_EXT:
		return NOWHERE;
	}
	return TO_HOST;
}

static bool is_multiple(uint8_t command)
{
	return command == READ_MULTIPLE || command == READ_MULTIPLE_EXT || command == WRITE_MULTIPLE || command == WRITE_MULTIPLE_EXT;
}

static bool is_dma(uint8_t command)
{
	switch (command) {
	case READ_DMA:
	case READ_DMA_NO_RETRY:
	case READ_DMA_EXT:
	case WRITE_DMA:
	case WRITE_DMA_NO_RETRY:
	case WRITE_DMA_EXT:
		return true;
	}
	return false;
}

static uint32_t block_size(const struct ata_drive *d)
{
	return (is_multiple(d->r.command) ? d->r.multiple : 1) * ATA_SECTOR;
}

static void ask(struct ata_drive *d)
{
	image_read(d->host.image, ata_wait(d), d->r.next * ATA_SECTOR, MIN(d->r.left, CHUNK) * ATA_SECTOR);
}

static void moved(struct ata_drive *d, uint32_t sectors)
{
	d->r.next += sectors;
	d->r.left -= sectors;
}

/* The registers then hold the last sector, and no count. */
static void finish(struct ata_drive *d)
{
	set_address(d, d->r.next - 1);
	d->r.count[NOW] = d->r.count[BEFORE] = 0;
	ata_done(d);
}

static void request_block(struct ata_drive *d, bool interrupt)
{
	if (is_dma(d->r.command))
		ata_dma_out(d, MIN(d->r.left, CHUNK) * ATA_SECTOR);
	else
		ata_block_out(d, MIN(d->r.left * ATA_SECTOR, block_size(d)), interrupt);
}

static void transfer(struct ata_drive *d)
{
	uint64_t first = address(d);
	uint32_t count = sector_count(&d->r);
	if (is_multiple(d->r.command) && !d->r.multiple) {
		ata_fail(d, ATA_ABRT);
	} else if (first >= d->host.blocks || count > d->host.blocks - first) {
		ata_fail(d, ATA_IDNF);
	} else if (direction(d->r.command) == FROM_HOST && image_is_readonly(d->host.image)) {
		ata_fail(d, ATA_ABRT);
	} else {
		d->r.next = first;
		d->r.left = count;
		if (direction(d->r.command) == FROM_HOST)
			request_block(d, false);
		else
			ask(d);
	}
}

static void block_in_done(struct ata_drive *d)
{
	if (d->r.left) {
		ask(d);
		return;
	}
	bool identify = d->r.command == IDENTIFY, interrupt = d->r.intrq;
	if (identify)
		ata_done(d);
	else
		finish(d);
	if (!is_dma(d->r.command))
		d->r.intrq = interrupt; /* data-in ends with the last block, without another interrupt */
}

static void write_block(struct ata_drive *d)
{
	image_write(d->host.image, ata_wait(d), d->r.next * ATA_SECTOR, d->r.buffer, d->r.end);
}

static void host_done(struct ata_drive *d, const struct image_done *done)
{
	bool flush = d->r.command == FLUSH || d->r.command == FLUSH_EXT;
	if (done->error && !flush)
		set_address(d, d->r.next);
	if (done->error) {
		ata_fail(d, flush ? ATA_ABRT : ATA_UNC);
		return;
	}
	if (flush) {
		ata_done(d);
		return;
	}
	switch (direction(d->r.command)) {
	case TO_HOST:
		moved(d, MIN(d->r.left, d->r.filled / ATA_SECTOR));
		if (is_dma(d->r.command))
			ata_dma_in(d);
		else
			ata_block_in(d, true);
		break;
	case FROM_HOST:
		moved(d, MIN(d->r.left, d->r.end / ATA_SECTOR));
		if (d->r.left)
			request_block(d, true);
		else
			finish(d);
		break;
	case NOWHERE:
		moved(d, MIN(d->r.left, d->r.filled / ATA_SECTOR));
		if (d->r.left)
			ask(d);
		else
			finish(d);
		break;
	}
}

static void ask_again(struct ata_drive *d)
{
	if (d->r.command == FLUSH || d->r.command == FLUSH_EXT)
		image_flush(d->host.image, ata_wait(d));
	else if (direction(d->r.command) == FROM_HOST)
		write_block(d);
	else
		ask(d);
}

/* ---- Other commands --------------------------------------------------------------------------------------------------- */

static void identify(struct ata_drive *d)
{
	ata_identify_disk(d, d->r.buffer);
	d->r.at = 0;
	d->r.filled = ATA_SECTOR;
	ata_block_in(d, true);
}

static void seek(struct ata_drive *d)
{
	if (address(d) < d->host.blocks)
		ata_done(d);
	else
		ata_fail(d, ATA_IDNF);
}

/* INITIALIZE DEVICE PARAMETERS */
static void set_geometry(struct ata_drive *d)
{
	unsigned heads = (d->r.device & HEAD) + 1u, sectors = d->r.count[NOW];
	if (!sectors) {
		ata_fail(d, ATA_ABRT);
		return;
	}
	d->r.heads = (uint8_t)heads;
	d->r.sectors = (uint8_t)sectors;
	ata_done(d);
}

static void set_multiple(struct ata_drive *d)
{
	unsigned count = d->r.count[NOW];
	if (count > MULTIPLE_MAX || count & (count - 1)) {
		ata_fail(d, ATA_ABRT);
		return;
	}
	d->r.multiple = (uint8_t)count;
	ata_done(d);
}

static void set_features(struct ata_drive *d)
{
	switch (d->r.features[NOW]) {
	case TRANSFER_MODE:
		if (!ata_mode_valid(d->r.count[NOW])) {
			ata_fail(d, ATA_ABRT);
			return;
		}
		d->r.mode = d->r.count[NOW];
		break;
	case WRITE_CACHE_ON:
	case WRITE_CACHE_OFF:
		d->r.write_cache = d->r.features[NOW] == WRITE_CACHE_ON;
		break;
	case LOOK_AHEAD_ON:
	case LOOK_AHEAD_OFF:
	case KEEP_SETTINGS:
	case RESTORE_SETTINGS:
		break;
	default:
		ata_fail(d, ATA_ABRT);
		return;
	}
	ata_done(d);
}

static void read_max(struct ata_drive *d)
{
	uint64_t last = d->host.blocks - 1;
	if (d->r.command == READ_MAX) {
		d->r.device |= ATA_LBA;
		last = MIN(last, BIT(28) - 1);
	}
	set_address(d, last);
	ata_done(d);
}

static void command(struct ata_drive *d)
{
	switch (d->r.command) {
	case READ:
	case READ_NO_RETRY:
	case READ_EXT:
	case READ_DMA:
	case READ_DMA_NO_RETRY:
	case READ_DMA_EXT:
	case READ_MULTIPLE:
	case READ_MULTIPLE_EXT:
	case WRITE:
	case WRITE_NO_RETRY:
	case WRITE_EXT:
	case WRITE_DMA:
	case WRITE_DMA_NO_RETRY:
	case WRITE_DMA_EXT:
	case WRITE_MULTIPLE:
	case WRITE_MULTIPLE_EXT:
	case VERIFY:
	case VERIFY_NO_RETRY:
	case VERIFY_EXT:
		transfer(d);
		break;
	case IDENTIFY:
		identify(d);
		break;
	case SEEK ... SEEK_LAST:
		seek(d);
		break;
	case SET_GEOMETRY:
		set_geometry(d);
		break;
	case SET_MULTIPLE:
		set_multiple(d);
		break;
	case SET_FEATURES:
		set_features(d);
		break;
	case FLUSH:
	case FLUSH_EXT:
		image_flush(d->host.image, ata_wait(d));
		break;
	case READ_MAX:
	case READ_MAX_EXT:
		read_max(d);
		break;
	case CHECK_POWER:
	case CHECK_POWER_OLD:
		d->r.count[NOW] = POWER_ACTIVE;
		ata_done(d);
		break;
	case RECALIBRATE ... RECALIBRATE_LAST:
	case STANDBY_NOW ... IDLE: /* it is always ready */
	case SLEEP:
	case STANDBY_NOW_OLD ... IDLE_OLD:
	case SLEEP_OLD:
		ata_done(d);
		break;
	default: /* NOP too */
		ata_fail(d, ATA_ABRT);
	}
}

static void power_on(struct ata_drive *d)
{
	d->r.heads = DEFAULT_HEADS;
	d->r.sectors = DEFAULT_SECTORS;
	d->r.write_cache = true;
}

static bool valid(const struct ata_drive *d)
{
	const struct ata_regs *r = &d->r;
	if (!r->heads || r->heads > 16 || !r->sectors || r->multiple > MULTIPLE_MAX || r->multiple & (r->multiple - 1))
		return false;
	if (is_multiple(r->command) && !r->multiple && r->phase != ATA_IDLE)
		return false;
	if ((r->phase == ATA_DMA_IN || r->phase == ATA_DMA_OUT) && !is_dma(r->command))
		return false;
	if ((r->phase == ATA_OUT || r->phase == ATA_DMA_OUT) != (r->phase > ATA_IDLE && r->phase != ATA_HOST && direction(r->command) == FROM_HOST))
		return false;
	bool flush = r->command == FLUSH || r->command == FLUSH_EXT;
	if ((r->phase == ATA_HOST && !flush) || r->phase == ATA_OUT || r->phase == ATA_DMA_OUT) {
		if (!r->left)
			return false;
		if (direction(r->command) == FROM_HOST && (!r->end || r->end % ATA_SECTOR || r->end / ATA_SECTOR > r->left))
			return false;
	}
	return true;
}

const struct ata_kind ata_disk = {
	.ready = ATA_DRDY | ATA_DSC, .power_on = power_on, .command = command, .block_in_done = block_in_done, .block_out_done = write_block,
	.host_done = host_done, .ask_again = ask_again, .block_size = block_size, .valid = valid,
};
