/* SPDX-License-Identifier: MIT */
/* The packet commands of a CD-ROM drive: MMC-3 (T10/1363-D), SPC-2 for those that all devices have, SFF-8020i for what only ATAPI drives have.
 *
 * A disc has one session with one data track; it counts as a DVD when it is larger than a CD can be. Audio, raw sectors and sub-channels are
 * not there. The tray opens and closes; the disc in it is always the same. */
#include <string.h>
#include "device/ata.h"

enum { /* operation codes */
	TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, INQUIRY = 0x12, MODE_SENSE_6 = 0x1a, START_STOP = 0x1b, PREVENT_ALLOW = 0x1e,
	READ_CAPACITY = 0x25, READ_10 = 0x28, SEEK_10 = 0x2b, SYNCHRONIZE_CACHE = 0x35, READ_SUB_CHANNEL = 0x42, READ_TOC = 0x43,
	GET_CONFIGURATION = 0x46, GET_EVENT_STATUS = 0x4a, READ_DISC_INFORMATION = 0x51, MODE_SENSE_10 = 0x5a, READ_12 = 0xa8, SET_CD_SPEED = 0xbb,
	MECHANISM_STATUS = 0xbd, READ_CD = 0xbe,
};
enum { NOT_READY = 2, ILLEGAL_REQUEST = 5, UNIT_ATTENTION = 6 }; /* sense keys */
enum { /* additional sense codes */
	INVALID_OPCODE = 0x20, BLOCK_OUT_OF_RANGE = 0x21, INVALID_FIELD = 0x24, RESET_OCCURRED = 0x29, SAVING_NOT_SUPPORTED = 0x39,
	MEDIUM_NOT_PRESENT = 0x3a, REMOVAL_PREVENTED = 0x53,
};
#define TRAY_OPEN 0x02      /* ascq of MEDIUM_NOT_PRESENT and REMOVAL_PREVENTED */
#define CD_BLOCKS_MOST 405000 /* 90 minutes: what is larger is a DVD */
#define LEAD_OUT 0xaa
#define DATA_TRACK 0x14     /* ADR 1, control: data */
#define LEAD_IN_BLOCKS 150  /* MSF counts them */
enum { EVENT_NONE = 0, EVENT_NEW_MEDIUM = 2, EVENT_REMOVAL = 3 };

static void illegal(struct ata_drive *d, uint8_t asc)
{
	atapi_fail(d, ILLEGAL_REQUEST, asc, 0);
}

static uint16_t get_16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get_32(const uint8_t *p)
{
	return (uint32_t)get_16(p) << 16 | get_16(p + 2);
}

static void put_16(uint8_t *p, uint32_t value)
{
	p[0] = (uint8_t)(value >> 8);
	p[1] = (uint8_t)value;
}

static void put_32(uint8_t *p, uint32_t value)
{
	put_16(p, value >> 16);
	put_16(p + 2, value);
}

/* An address as replies have it: a block, or minutes, seconds and frames. */
static void put_address(uint8_t *p, uint32_t block, bool msf)
{
	if (!msf) {
		put_32(p, block);
		return;
	}
	block += LEAD_IN_BLOCKS;
	p[0] = 0;
	p[1] = (uint8_t)(block / 75 / 60);
	p[2] = (uint8_t)(block / 75 % 60);
	p[3] = (uint8_t)(block % 75);
}

static uint32_t total(const struct ata_drive *d)
{
	return (uint32_t)d->host.blocks;
}

static bool is_dvd(const struct ata_drive *d)
{
	return d->host.blocks > CD_BLOCKS_MOST;
}

/* ---- Any device ------------------------------------------------------------------------------------------------------- */

static void test_unit_ready(struct ata_drive *d)
{
	atapi_done(d);
}

static void request_sense(struct ata_drive *d)
{
	uint8_t *b = d->r.buffer;
	memset(b, 0, 18);
	b[0] = 0x70;
	b[2] = d->r.key;
	b[7] = 10;
	b[12] = d->r.asc;
	b[13] = d->r.ascq;
	if (d->r.attention && !d->r.key) {
		d->r.attention = false;
		b[2] = UNIT_ATTENTION;
		b[12] = RESET_OCCURRED;
	}
	d->r.key = d->r.asc = d->r.ascq = 0;
	atapi_reply(d, 18, d->r.packet[4]);
}

static void inquiry(struct ata_drive *d)
{
	uint8_t *b = d->r.buffer;
	if (d->r.packet[1] & 1) { /* no vital product data */
		illegal(d, INVALID_FIELD);
		return;
	}
	memset(b, 0, 36);
	b[0] = 0x05;              /* CD-ROM */
	b[1] = 0x80;              /* removable */
	b[3] = 0x21;              /* ATAPI; the format of this reply */
	b[4] = 36 - 5;
	memcpy(b + 8, "DOPPEL  " "DOPPEL DVD-ROM  " "1.0 ", 28);
	atapi_reply(d, 36, d->r.packet[4]);
}

/* ---- Mode pages ------------------------------------------------------------------------------------------------------- */

static const uint8_t error_recovery[] = { 0x01, 6, 0, 5 };
static const uint8_t cd_parameters[] = { 0x0d, 6, 0, 0, 0, 60, 0, 75 };
/* Reads CD-R, CD-RW and DVD-ROM; locks and ejects; a tray; 706 kB/s, four-speed; 512 kB. */
static const uint8_t capabilities[] = { 0x2a, 18, 0x0b, 0, 0, 0x20, 0x29, 0, 0x02, 0xc2, 0, 2, 2, 0, 0x02, 0xc2 };

static uint8_t medium_type(const struct ata_drive *d)
{
	return d->r.open ? 0x71 : 0x01;
}

/* Writes the pages that are wanted behind the header; returns their bytes. */
static unsigned put_pages(struct ata_drive *d, unsigned wanted, bool changeable, uint8_t *to)
{
	static const uint8_t *const pages[] = { error_recovery, cd_parameters, capabilities };
	static const size_t sizes[] = { sizeof(error_recovery), sizeof(cd_parameters), sizeof(capabilities) };
	unsigned done = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(pages); i++) {
		unsigned length = 2u + pages[i][1];
		if (wanted != 0x3f && wanted != pages[i][0])
			continue;
		memset(to + done, 0, length);
		memcpy(to + done, pages[i], changeable ? 2 : sizes[i]);
		if (!changeable && pages[i] == capabilities && d->r.locked)
			to[done + 6] |= 0x02;
		done += length;
	}
	return done;
}

static void mode_sense(struct ata_drive *d)
{
	const uint8_t *p = d->r.packet;
	uint8_t *b = d->r.buffer;
	bool ten = p[0] == MODE_SENSE_10;
	unsigned header = ten ? 8 : 4, control = p[2] >> 6;
	if (control == 3) {
		illegal(d, SAVING_NOT_SUPPORTED);
		return;
	}
	unsigned pages = put_pages(d, p[2] & 0x3f, control == 1, b + header);
	if (!pages) {
		illegal(d, INVALID_FIELD);
		return;
	}
	memset(b, 0, header);
	if (ten) {
		put_16(b, header - 2 + pages);
		b[2] = medium_type(d);
	} else {
		b[0] = (uint8_t)(header - 1 + pages);
		b[1] = medium_type(d);
	}
	atapi_reply(d, header + pages, ten ? get_16(p + 7) : p[4]);
}

/* ---- Tray ------------------------------------------------------------------------------------------------------------- */

static void start_stop(struct ata_drive *d)
{
	bool start = d->r.packet[4] & 1, load = d->r.packet[4] & 2;
	if (load && !start && d->r.locked) {
		atapi_fail(d, ILLEGAL_REQUEST, REMOVAL_PREVENTED, TRAY_OPEN);
		return;
	}
	if (load && d->r.open == start) {
		d->r.open = !start;
		d->r.event = start ? EVENT_NEW_MEDIUM : EVENT_REMOVAL;
	}
	atapi_done(d);
}

static void prevent_allow(struct ata_drive *d)
{
	d->r.locked = d->r.packet[4] & 1;
	atapi_done(d);
}

static void mechanism_status(struct ata_drive *d)
{
	uint8_t *b = d->r.buffer;
	memset(b, 0, 8);
	b[1] = d->r.open ? 0x10 : 0;
	atapi_reply(d, 8, get_16(d->r.packet + 8));
}

static void get_event_status(struct ata_drive *d)
{
	enum { POLLED = 1, MEDIA_CLASS = 4, MEDIA = BIT(MEDIA_CLASS), NOTHING = 0x80, PRESENT = 2, OPEN = 1 };
	const uint8_t *p = d->r.packet;
	uint8_t *b = d->r.buffer;
	if (!(p[1] & POLLED)) {
		illegal(d, INVALID_FIELD);
		return;
	}
	memset(b, 0, 8);
	b[3] = MEDIA;             /* classes that there are */
	if (!(p[4] & MEDIA)) {
		put_16(b, 2);
		b[2] = NOTHING;
		atapi_reply(d, 4, get_16(p + 7));
		return;
	}
	put_16(b, 6);
	b[2] = MEDIA_CLASS;
	b[4] = d->r.event;
	b[5] = d->r.open ? OPEN : PRESENT;
	if (get_16(p + 7) > 4)
		d->r.event = EVENT_NONE;
	atapi_reply(d, 8, get_16(p + 7));
}

static void get_configuration(struct ata_drive *d)
{
	enum { PROFILE_DVD_ROM = 0x10, PROFILE_CD_ROM = 0x08, CURRENT = 1, PERSISTENT = 2, ONE_FEATURE = 2 };
	static const struct {
		uint16_t code;
		uint8_t flags, length;
		uint8_t data[8];
	} features[] = {
		{ 0x0000, 0x03, 8, { 0, PROFILE_DVD_ROM, 0, 0, 0, PROFILE_CD_ROM, 0, 0 } },  /* profile list */
		{ 0x0001, 0x0b, 8, { 0, 0, 0, 2, 1, 0, 0, 0 } },                             /* core: ATAPI */
		{ 0x0003, 0x03, 4, { 0x29, 0, 0, 0 } },                                      /* removable medium: a tray, ejects, locks */
		{ 0x0010, 0x01, 8, { 0, 0, CD_BLOCK >> 8, 0, 0, 1, 0, 0 } },                 /* random readable */
	};
	const uint8_t *p = d->r.packet;
	uint8_t *b = d->r.buffer;
	unsigned first = get_16(p + 2), kind = p[1] & 3, at = 8;
	uint16_t profile = d->r.open ? 0 : is_dvd(d) ? PROFILE_DVD_ROM : PROFILE_CD_ROM;
	memset(b, 0, 8);
	put_16(b + 6, profile);
	for (unsigned i = 0; i < ARRAY_SIZE(features); i++) {
		bool current = !d->r.open || features[i].flags & PERSISTENT;
		if (kind == ONE_FEATURE ? features[i].code != first : features[i].code < first || (kind == CURRENT && !current))
			continue;
		put_16(b + at, features[i].code);
		b[at + 2] = current ? features[i].flags : features[i].flags & ~CURRENT;
		b[at + 3] = features[i].length;
		memcpy(b + at + 4, features[i].data, features[i].length);
		if (!features[i].code) {
			b[at + 6] = profile == PROFILE_DVD_ROM;
			b[at + 10] = profile == PROFILE_CD_ROM;
		}
		at += 4u + features[i].length;
	}
	put_32(b, at - 4);
	atapi_reply(d, at, get_16(p + 7));
}

/* ---- The disc --------------------------------------------------------------------------------------------------------- */

static void read_capacity(struct ata_drive *d)
{
	put_32(d->r.buffer, total(d) - 1);
	put_32(d->r.buffer + 4, CD_BLOCK);
	atapi_reply(d, 8, 8);
}

static void read_blocks(struct ata_drive *d, uint32_t block, uint32_t count)
{
	if (block > total(d) || count > total(d) - block)
		illegal(d, BLOCK_OUT_OF_RANGE);
	else
		atapi_read(d, block, count);
}

static void read_10(struct ata_drive *d)
{
	read_blocks(d, get_32(d->r.packet + 2), get_16(d->r.packet + 7));
}

static void read_12(struct ata_drive *d)
{
	read_blocks(d, get_32(d->r.packet + 2), get_32(d->r.packet + 6));
}

/* User data only: of any type of sector, or of the one that there is. */
static void read_cd(struct ata_drive *d)
{
	enum { USER_DATA = 0x10, MODE_1 = 2 };
	const uint8_t *p = d->r.packet;
	unsigned type = p[1] >> 2 & 7, parts = p[9] & 0xf8;
	uint32_t count = get_16(p + 7) | (uint32_t)p[6] << 16;
	if ((type && type != MODE_1) || (parts && parts != USER_DATA) || p[10] & 7)
		illegal(d, INVALID_FIELD);
	else
		read_blocks(d, get_32(p + 2), parts ? count : 0);
}

static void seek(struct ata_drive *d)
{
	if (get_32(d->r.packet + 2) >= total(d))
		illegal(d, BLOCK_OUT_OF_RANGE);
	else
		atapi_done(d);
}

static unsigned put_track(uint8_t *to, uint8_t number, uint32_t block, bool msf)
{
	memset(to, 0, 8);
	to[1] = DATA_TRACK;
	to[2] = number;
	put_address(to + 4, block, msf);
	return 8;
}

static unsigned put_raw_point(uint8_t *to, uint8_t point, uint8_t m, uint8_t s, uint8_t f)
{
	const uint8_t entry[] = { 1, DATA_TRACK, 0, point, 0, 0, 0, 0, m, s, f };
	memcpy(to, entry, sizeof(entry));
	return sizeof(entry);
}

static unsigned put_raw_toc(struct ata_drive *d, uint8_t *to)
{
	uint8_t end[4];
	put_address(end, total(d), true);
	unsigned at = put_raw_point(to, 0xa0, 1, 0, 0);
	at += put_raw_point(to + at, 0xa1, 1, 0, 0);
	at += put_raw_point(to + at, 0xa2, end[1], end[2], end[3]);
	return at + put_raw_point(to + at, 1, 0, LEAD_IN_BLOCKS / 75, 0);
}

static void read_toc(struct ata_drive *d)
{
	enum { TRACKS = 0, SESSIONS = 1, RAW = 2 };
	const uint8_t *p = d->r.packet;
	uint8_t *b = d->r.buffer;
	bool msf = p[1] & 2;
	/* Older drives have the format in the control byte. */
	unsigned format = p[2] & 7 ? p[2] & 7u : p[9] >> 6, start = p[6], at = 4;
	if (format > RAW || (format == TRACKS && start > 1 && start != LEAD_OUT)) {
		illegal(d, INVALID_FIELD);
		return;
	}
	b[2] = b[3] = 1; /* first and last track, or session */
	if (format == RAW)
		at += put_raw_toc(d, b + at);
	else if (format == SESSIONS || start <= 1)
		at += put_track(b + at, 1, 0, msf);
	if (format == TRACKS)
		at += put_track(b + at, LEAD_OUT, total(d), msf);
	put_16(b, at - 2);
	atapi_reply(d, at, get_16(p + 7));
}

static void read_sub_channel(struct ata_drive *d)
{
	enum { SUB_Q = 0x40, POSITION = 1, NO_AUDIO = 0x15 };
	const uint8_t *p = d->r.packet;
	uint8_t *b = d->r.buffer;
	bool position = p[2] & SUB_Q;
	if (position && p[3] != POSITION) {
		illegal(d, INVALID_FIELD);
		return;
	}
	memset(b, 0, 16);
	b[1] = NO_AUDIO;
	if (position) {
		b[3] = 12;
		b[4] = POSITION;
		b[5] = DATA_TRACK;
		b[6] = b[7] = 1;
		put_address(b + 8, 0, p[1] & 2);
	}
	atapi_reply(d, position ? 16 : 4, get_16(p + 7));
}

static void read_disc_information(struct ata_drive *d)
{
	uint8_t *b = d->r.buffer;
	memset(b, 0, 34);
	put_16(b, 32);
	b[2] = 0x0e;              /* the disc and its last session are complete */
	b[3] = b[4] = b[5] = b[6] = 1;
	b[7] = 0x20;              /* unrestricted use */
	memset(b + 16, 0xff, 8);  /* no further lead-in and lead-out */
	atapi_reply(d, 34, get_16(d->r.packet + 7));
}

enum { NEEDS_DISC = 1, NO_ATTENTION = 2 /* may be given before a reset is reported */ };
static const struct packet_command {
	uint8_t code, flags;
	void (*run)(struct ata_drive *);
} commands[] = {
	{ TEST_UNIT_READY, NEEDS_DISC, test_unit_ready },
	{ REQUEST_SENSE, NO_ATTENTION, request_sense },
	{ INQUIRY, NO_ATTENTION, inquiry },
	{ MODE_SENSE_6, 0, mode_sense },
	{ MODE_SENSE_10, 0, mode_sense },
	{ START_STOP, 0, start_stop },
	{ PREVENT_ALLOW, 0, prevent_allow },
	{ READ_CAPACITY, NEEDS_DISC, read_capacity },
	{ READ_10, NEEDS_DISC, read_10 },
	{ READ_12, NEEDS_DISC, read_12 },
	{ READ_CD, NEEDS_DISC, read_cd },
	{ SEEK_10, NEEDS_DISC, seek },
	{ SYNCHRONIZE_CACHE, 0, test_unit_ready },
	{ READ_SUB_CHANNEL, NEEDS_DISC, read_sub_channel },
	{ READ_TOC, NEEDS_DISC, read_toc },
	{ READ_DISC_INFORMATION, NEEDS_DISC, read_disc_information },
	{ GET_CONFIGURATION, NO_ATTENTION, get_configuration },
	{ GET_EVENT_STATUS, NO_ATTENTION, get_event_status },
	{ MECHANISM_STATUS, 0, mechanism_status },
	{ SET_CD_SPEED, 0, test_unit_ready },
};

void atapi_packet(struct ata_drive *d)
{
	const struct packet_command *c = NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(commands) && !c; i++)
		if (commands[i].code == d->r.packet[0])
			c = &commands[i];
	if (!c) {
		illegal(d, INVALID_OPCODE);
	} else if (d->r.attention && !(c->flags & NO_ATTENTION)) {
		d->r.attention = false;
		atapi_fail(d, UNIT_ATTENTION, RESET_OCCURRED, 0);
	} else if ((c->flags & NEEDS_DISC) && d->r.open) {
		atapi_fail(d, NOT_READY, MEDIUM_NOT_PRESENT, TRAY_OPEN);
	} else {
		c->run(d);
	}
}
