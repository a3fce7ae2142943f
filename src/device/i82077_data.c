/* SPDX-License-Identifier: MIT */
/* Commands of the floppy controller that read and write sectors: Intel 82077AA datasheet, section 5.1, and for how they end, tables 5-6 to 5-9.
 *
 * A command goes sector by sector through the steps of enum fdc_step: until the sector is under the head, to or from the image, to
 * or from the guest. The disk turns some twenty times as fast as a real one: software waits for interrupts, with generous limits. Without
 * DMA the chip keeps what it read until the guest takes it; it has no overrun then, and, as on the real one, no terminal count: such a
 * command ends with the error "end of cylinder".
 * An image has sectors of 512 bytes with the numbers of their places, none deleted. */
#include <errno.h>
#include <string.h>
#include "device/i8237.h"
#include "device/i82077.h"

#define DMA_CHANNEL 2
#define SECTOR_NS 400000
#define DMA_RETRY_NS 100000 /* a channel that is masked is asked again so much later */
#define DMA_TRIES 2000
#define FORMAT_BYTES 4      /* C, H, R, N from the guest for each sector */

enum kind { READ, WRITE, VERIFY, FORMAT, READ_ID };

static enum kind kind_of(const struct i82077 *f)
{
	switch (f->r.bytes[0] & 0x1f) {
	case 0x05:
	case 0x09:
		return WRITE;
	case 0x0d:
		return FORMAT;
	case 0x0a:
		return READ_ID;
	case 0x16:
		return VERIFY;
	}
	return READ; /* data, deleted data, track */
}

static bool is_read_deleted(const struct i82077 *f)
{
	return (f->r.bytes[0] & 0x1f) == 0x0c;
}

static bool is_read_track(const struct i82077 *f)
{
	return (f->r.bytes[0] & 0x1f) == 0x02;
}

static bool has_dma(const struct i82077 *f)
{
	return !(f->r.specify[1] & SPECIFY_ND);
}

bool fdc_is_pio(const struct i82077 *f, bool *in)
{
	*in = kind_of(f) == READ;
	return f->r.phase == FDC_EXECUTION && f->r.step == FDC_DATA && !has_dma(f);
}

static void go_on(struct i82077 *f, enum fdc_step step, uint64_t wait)
{
	f->r.step = step;
	f->r.due = wait == TIMER_OFF ? TIMER_OFF : clock_now(f->device.vm) + wait;
	timer_arm(&f->host.timer, f->r.due);
}

static void end(struct i82077 *f, uint8_t st0, uint8_t st1, uint8_t st2)
{
	const struct i82077_regs *r = &f->r;
	const uint8_t result[] = { (uint8_t)(st0 | r->side << 2 | r->drive), st1 | r->st1, st2 | r->st2,
				   r->id[0], r->id[1], r->id[2], r->id[3] };
	go_on(f, FDC_IDLE, TIMER_OFF);
	fdc_result(f, result, sizeof(result), true);
}

static void fail(struct i82077 *f, uint8_t st1, uint8_t st2)
{
	end(f, ST0_IC_ABNORMAL, st1, st2);
}

static void next_turn(struct i82077 *f)
{
	go_on(f, FDC_TURN, SECTOR_NS);
}

/* Table 5-6: what the result says is the sector after the last one. */
static void advance(struct i82077 *f)
{
	uint8_t *id = f->r.id;
	bool multi = f->r.bytes[0] & COMMAND_MT;
	if (id[2] != f->r.eot) {
		id[2]++;
		return;
	}
	id[2] = 1;
	if (multi && !f->r.side) {
		id[1] ^= 1;
		f->r.side = 1;
		return;
	}
	id[0]++;
	if (multi)
		id[1] ^= 1;
}

/* A sector is done. */
static void next_sector(struct i82077 *f)
{
	bool last = f->r.id[2] == f->r.eot && (f->r.side || !(f->r.bytes[0] & COMMAND_MT)), counted = kind_of(f) == VERIFY && f->r.left;
	uint8_t side = f->r.side;
	advance(f);
	if (f->r.terminal_count || (counted && !--f->r.left) || (f->r.st2 & ST2_CM)) {
		f->r.side = side;
		end(f, 0, 0, 0);
	} else if (last && kind_of(f) == VERIFY && !counted) {
		end(f, 0, 0, 0);
	} else if (last) {
		fail(f, ST1_EN, 0);
	} else {
		next_turn(f);
	}
}

static uint64_t sector_offset(const struct i82077 *f, uint8_t sector)
{
	const struct fdc_media *m = f->host.media[f->r.drive];
	return ((f->r.track[f->r.drive] * (uint64_t)m->sides + f->r.side) * m->sectors + sector - 1) * FDC_SECTOR;
}

static bool readable(const struct i82077 *f)
{
	const struct fdc_media *m = f->host.media[f->r.drive];
	return (f->r.bytes[0] & COMMAND_MFM) && f->r.rate == m->rate && f->r.track[f->r.drive] < m->tracks && f->r.side < m->sides;
}

static bool on_track(const struct i82077 *f, uint8_t sector, uint8_t code)
{
	return code == FDC_SECTOR_CODE && sector && sector <= f->host.media[f->r.drive]->sectors;
}

/* Is the sector that the command wants on the track? If not, the command fails. */
static bool find_sector(struct i82077 *f)
{
	const uint8_t *id = f->r.id;
	if (!readable(f))
		fail(f, ST1_MA, 0);
	else if (id[0] != f->r.track[f->r.drive])
		fail(f, ST1_ND, ST2_WC);
	else if (id[1] != f->r.side || !on_track(f, id[2], id[3]))
		fail(f, ST1_ND, 0);
	else
		return true;
	return false;
}

static void ask_host(struct i82077 *f)
{
	struct image *image = f->host.image[f->r.drive];
	go_on(f, FDC_HOST, TIMER_OFF);
	f->host.tag++;
	switch (kind_of(f)) {
	case READ:
	case VERIFY:
		image_read(image, f->host.tag, sector_offset(f, f->r.id[2]), FDC_SECTOR);
		break;
	default:
		image_write(image, f->host.tag, sector_offset(f, f->r.id[2]), f->r.data, FDC_SECTOR);
	}
}

void fdc_ask_again(struct i82077 *f)
{
	if (!f->host.image[f->r.drive] || !readable(f) || !on_track(f, f->r.id[2], f->r.id[3]))
		go_on(f, FDC_IDLE, TIMER_OFF);
	else
		ask_host(f);
}

/* FORMAT: four bytes have come. A sector that has no place in the image is not written. */
static void format_sector(struct i82077 *f)
{
	memcpy(f->r.id, f->r.data, sizeof(f->r.id));
	if (!readable(f)) {
		fail(f, ST1_MA, 0);
	} else if (on_track(f, f->r.id[2], f->r.id[3])) {
		memset(f->r.data, f->r.bytes[5], sizeof(f->r.data));
		ask_host(f);
	} else {
		fail(f, ST1_ND, 0);
	}
}

static void sector_written(struct i82077 *f)
{
	if (kind_of(f) == WRITE)
		next_sector(f);
	else if (--f->r.left)
		next_turn(f);
	else
		end(f, 0, 0, 0);
}

/* What the guest had to give, or to take, has gone; after a terminal count the rest of a sector is zeros. */
static void data_done(struct i82077 *f)
{
	switch (kind_of(f)) {
	case WRITE:
		memset(f->r.data + f->r.at, 0, sizeof(f->r.data) - f->r.at);
		ask_host(f);
		break;
	case FORMAT:
		if (f->r.at < FORMAT_BYTES)
			end(f, 0, 0, 0);
		else
			format_sector(f);
		break;
	default:
		next_sector(f);
	}
}

static void ask_dma(struct i82077 *f)
{
	uint8_t *data = f->r.data + f->r.at;
	size_t left = f->r.end - f->r.at, done = 0;
	bool terminal_count = false;
	if (f->r.dor & DOR_DMA_GATE)
		done = kind_of(f) == READ ? i8237_to_memory(f->host.dma, DMA_CHANNEL, data, left, &terminal_count) :
					    i8237_from_memory(f->host.dma, DMA_CHANNEL, data, left, &terminal_count);
	f->r.at += (uint16_t)done;
	f->r.terminal_count |= terminal_count;
	f->r.tries = done ? 0 : f->r.tries + 1;
	if (terminal_count || f->r.at == f->r.end)
		data_done(f);
	else if (f->r.tries >= DMA_TRIES)
		fail(f, ST1_OR, 0);
	else
		go_on(f, FDC_DATA, DMA_RETRY_NS);
}

static void begin_data(struct i82077 *f, uint16_t bytes)
{
	f->r.at = 0;
	f->r.end = bytes;
	f->r.tries = 0;
	go_on(f, FDC_DATA, TIMER_OFF);
	if (has_dma(f)) {
		ask_dma(f);
		return;
	}
	f->r.irq = true;
	fdc_update(f);
}

uint8_t fdc_data_read(struct i82077 *f)
{
	uint8_t value = f->r.data[f->r.at++];
	f->r.irq = false;
	if (f->r.at >= f->r.end)
		data_done(f);
	fdc_update(f);
	return value;
}

void fdc_data_write(struct i82077 *f, uint8_t value)
{
	f->r.data[f->r.at++] = value;
	f->r.irq = false;
	if (f->r.at >= f->r.end)
		data_done(f);
	fdc_update(f);
}

/* The next sector passes by: its number follows from the time. */
static void read_id(struct i82077 *f)
{
	if (!readable(f)) {
		fail(f, ST1_MA, 0);
		return;
	}
	uint8_t sector = (uint8_t)(clock_now(f->device.vm) / SECTOR_NS % f->host.media[f->r.drive]->sectors + 1);
	const uint8_t id[] = { f->r.track[f->r.drive], f->r.side, sector, FDC_SECTOR_CODE };
	memcpy(f->r.id, id, sizeof(id));
	end(f, 0, 0, 0);
}

static void sector_comes(struct i82077 *f)
{
	enum kind kind = kind_of(f);
	if ((kind == WRITE || kind == FORMAT) && image_is_readonly(f->host.image[f->r.drive]))
		fail(f, ST1_NW, 0);
	else if (kind == READ_ID)
		read_id(f);
	else if (kind == FORMAT)
		begin_data(f, FORMAT_BYTES);
	else if (!find_sector(f))
		return;
	else if (is_read_deleted(f) && (f->r.bytes[0] & COMMAND_SK)) /* skips all that there is */
		fail(f, ST1_ND, ST2_CM);
	else if (kind == WRITE)
		begin_data(f, FDC_SECTOR);
	else
		ask_host(f);
}

void fdc_timer_fired(struct device *d, void *arg)
{
	struct i82077 *f = container_of(d, struct i82077, device);
	f->r.due = TIMER_OFF;
	if (f->r.step == FDC_TURN)
		sector_comes(f);
	else if (f->r.step == FDC_DATA && has_dma(f))
		ask_dma(f);
}

void fdc_image_done(struct i82077 *f, const struct image_done *done, size_t len)
{
	if (f->r.step != FDC_HOST || done->tag != f->host.tag)
		return; /* of a command that a reset ended */
	enum kind kind = kind_of(f);
	if (done->error == -ENOSPC)
		fail(f, ST1_ND, 0);
	else if (done->error)
		fail(f, ST1_DE, ST2_DD);
	else if (kind == WRITE || kind == FORMAT)
		sector_written(f);
	else if (kind == VERIFY)
		next_sector(f);
	else {
		memcpy(f->r.data, done->data, MIN(done->length, sizeof(f->r.data)));
		if (is_read_deleted(f)) /* it is not: the only one that is read */
			f->r.st2 |= ST2_CM;
		begin_data(f, FDC_SECTOR);
	}
}

/* The first sector of a command, once its bytes are there. Where no disk turns no index hole ever comes, and the chip waits until it is reset. */
void fdc_begin(struct i82077 *f)
{
	struct i82077_regs *r = &f->r;
	enum kind kind = kind_of(f);
	r->phase = FDC_EXECUTION;
	r->drive = r->bytes[1] & DOR_SELECT;
	r->side = r->bytes[1] >> 2 & 1;
	r->st1 = r->st2 = 0;
	r->terminal_count = false;
	if (kind == FORMAT) {
		r->eot = r->left = r->bytes[3];
	} else if (kind != READ_ID) {
		memcpy(r->id, r->bytes + 2, sizeof(r->id));
		r->eot = r->bytes[6];
		r->left = kind == VERIFY && (r->bytes[1] & VERIFY_EC) ? r->bytes[8] : 0;
		if (is_read_track(f))
			r->id[2] = 1;
	}
	if (!f->host.image[r->drive] || !(r->dor & DOR_MOTOR << r->drive)) {
		go_on(f, FDC_IDLE, TIMER_OFF);
		return;
	}
	if ((r->configure & CONFIGURE_EIS) && kind != FORMAT && kind != READ_ID) {
		if (r->track[r->drive] != r->id[0])
			r->changed &= ~(1u << r->drive);
		r->track[r->drive] = r->id[0];
	}
	if (kind == FORMAT && !r->left)
		end(f, 0, 0, 0);
	else
		next_turn(f);
}
