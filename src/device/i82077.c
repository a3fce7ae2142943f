/* SPDX-License-Identifier: MIT */
/* The floppy controller of a PC, an Intel 82077AA (datasheet 290166) in PC/AT mode: ports 3F0h to 3F5h and 3F7h. Its commands are in i82077_command.c and
 * i82077_data.c.
 *
 * In this mode status registers A and B are not there. Not modelled: the power-down mode, and FIFO thresholds, which change when an
 * interrupt comes but not what is moved. */
#include "device/i82077.h"
#include <errno.h>
#include <string.h>
#include "util/log.h"

enum { DOR = 2, TDR = 3, MSR_DSR = 4, FIFO = 5, DIR_CCR = 7 };
#define MSR_RQM 0x80u
#define MSR_DIO 0x40u           /* to the guest */
#define MSR_NON_DMA 0x20u
#define MSR_CMD_BUSY 0x10u
#define DSR_RESET 0x80u
#define RATE 0x03u
#define DIR_CHANGED 0x80u
#define RATE_RESET 2            /* 250 kb/s */

static struct i82077 *of(struct device *d)
{
	return container_of(d, struct i82077, device);
}

void fdc_update(struct i82077 *f)
{
	irq_set(&f->host.pin, f->r.irq && (f->r.dor & DOR_DMA_GATE));
}

void fdc_result(struct i82077 *f, const uint8_t *bytes, unsigned count, bool interrupt)
{
	memcpy(f->r.bytes, bytes, count);
	f->r.count = (uint8_t)count;
	f->r.got = 0;
	f->r.phase = FDC_RESULT;
	f->r.irq = interrupt;
	fdc_update(f);
}

/* A software reset ends whatever goes on; the heads stay where they are. */
static void abandon(struct i82077 *f)
{
	struct i82077_regs *r = &f->r;
	f->host.tag++;
	r->phase = FDC_COMMAND;
	r->step = FDC_IDLE;
	r->got = r->count = 0;
	r->seeking = r->ended = 0;
	r->irq = false;
	r->due = TIMER_OFF;
	timer_cancel(&f->host.timer);
	for (unsigned i = 0; i < FDC_DRIVES; i++) {
		r->seek_due[i] = TIMER_OFF;
		timer_cancel(&f->host.seek[i]);
	}
	if (!r->lock) {
		r->configure = CONFIGURE_EFIFO;
		r->precompensation = 0;
	}
	r->perpendicular &= ~3u;
	fdc_update(f);
}

/* Out of reset the chip polls the drives, and finds that all have changed state. */
static void start_polling(struct i82077 *f)
{
	if (f->r.configure & CONFIGURE_POLL)
		return;
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		f->r.end_st0[i] = (uint8_t)(ST0_IC_POLLING | i);
	f->r.ended = BIT(FDC_DRIVES) - 1;
	f->r.irq = true;
}

static void write_dor(struct i82077 *f, uint8_t value)
{
	bool was = f->r.dor & DOR_NO_RESET, is = value & DOR_NO_RESET;
	f->r.dor = value;
	if (was && !is)
		abandon(f);
	else if (!was && is)
		start_polling(f);
	fdc_update(f);
}

static uint8_t main_status(const struct i82077 *f)
{
	bool in;
	uint8_t value = f->r.seeking;
	if (!(f->r.dor & DOR_NO_RESET))
		return 0;
	switch (f->r.phase) {
	case FDC_COMMAND:
		return value | MSR_RQM | (f->r.got ? MSR_CMD_BUSY : 0);
	case FDC_RESULT:
		return value | MSR_RQM | MSR_DIO | MSR_CMD_BUSY;
	}
	value |= MSR_CMD_BUSY;
	return fdc_is_pio(f, &in) ? value | MSR_RQM | MSR_NON_DMA | (in ? MSR_DIO : 0) : value;
}

static uint8_t read_fifo(struct i82077 *f)
{
	bool in;
	if (f->r.phase == FDC_EXECUTION)
		return fdc_is_pio(f, &in) && in ? fdc_data_read(f) : 0xff;
	if (f->r.phase != FDC_RESULT)
		return 0xff;
	uint8_t value = f->r.bytes[f->r.got++];
	if (!(f->r.ended && f->r.count == 2)) /* of SENSE INTERRUPT STATUS: it is the next seek's */
		f->r.irq = false;
	if (f->r.got >= f->r.count) {
		f->r.phase = FDC_COMMAND;
		f->r.got = 0;
	}
	fdc_update(f);
	return value;
}

static void write_fifo(struct i82077 *f, uint8_t value)
{
	bool in;
	if (!(f->r.dor & DOR_NO_RESET))
		return;
	if (f->r.phase == FDC_COMMAND)
		fdc_command_byte(f, value);
	else if (fdc_is_pio(f, &in) && !in)
		fdc_data_write(f, value);
}

/* The line of the selected drive, while its motor turns; a drive without a disk always says so. */
static bool disk_changed(const struct i82077 *f)
{
	unsigned drive = f->r.dor & DOR_SELECT;
	return (f->r.dor & DOR_MOTOR << drive) && f->host.media[drive] && (f->r.changed & BIT(drive));
}

static uint64_t i82077_read(struct device *d, uint64_t offset, unsigned size)
{
	struct i82077 *f = of(d);
	switch (offset) {
	case DOR:
		return f->r.dor;
	case TDR:
		return f->r.tdr;
	case MSR_DSR:
		return main_status(f);
	case FIFO:
		return read_fifo(f);
	case DIR_CCR:
		return disk_changed(f) ? DIR_CHANGED : 0;
	}
	return 0xff;
}

static void i82077_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct i82077 *f = of(d);
	switch (offset) {
	case DOR:
		write_dor(f, (uint8_t)value);
		break;
	case TDR:
		f->r.tdr = value & 3;
		break;
	case MSR_DSR:
		f->r.rate = value & RATE;
		if (value & DSR_RESET) {
			abandon(f);
			if (f->r.dor & DOR_NO_RESET)
				start_polling(f);
			fdc_update(f);
		}
		break;
	case FIFO:
		write_fifo(f, (uint8_t)value);
		break;
	case DIR_CCR:
		f->r.rate = value & RATE;
		break;
	}
}

static void i82077_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	fdc_image_done(of(d), data, len);
}

static void i82077_reset(struct device *d, enum reset_kind kind)
{
	struct i82077 *f = of(d);
	memset(&f->r, 0, sizeof(f->r));
	abandon(f);
	f->r.rate = RATE_RESET;
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		f->r.changed |= f->host.media[i] ? 1u << i : 0;
}

static int i82077_post_load(struct device *d, uint32_t version)
{
	struct i82077 *f = of(d);
	struct i82077_regs *r = &f->r;
	const uint8_t drives = BIT(FDC_DRIVES) - 1;
	if (r->phase > FDC_RESULT || r->step >= FDC_STEPS || r->drive >= FDC_DRIVES || r->side > 1)
		return -EINVAL;
	if (r->end > sizeof(r->data) || r->count > sizeof(r->bytes) || (r->phase == FDC_RESULT && r->got >= r->count))
		return -EINVAL;
	if (r->got > (r->phase == FDC_COMMAND ? FDC_COMMAND_BYTES - 1 : FDC_COMMAND_BYTES))
		return -EINVAL;
	if (r->step == FDC_DATA && r->at >= r->end)
		return -EINVAL;
	if (r->phase == FDC_EXECUTION && r->step != FDC_IDLE && !f->host.image[r->drive])
		return -EINVAL;
	if (r->phase != FDC_EXECUTION && r->step != FDC_IDLE)
		return -EINVAL;
	r->seeking &= drives;
	r->ended &= drives;
	r->rate &= RATE;
	f->host.tag++;
	timer_arm(&f->host.timer, r->due);
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		timer_arm(&f->host.seek[i], r->seek_due[i]);
	if (r->step == FDC_HOST)
		fdc_ask_again(f);
	irq_pin_restore(&f->host.pin, r->irq && (r->dor & DOR_DMA_GATE));
	return 0;
}

static int attach(struct i82077 *f, unsigned drive, struct image *image)
{
	if (!image)
		return 0;
	f->host.media[drive] = fdc_media_by_size(image_size(image));
	if (!f->host.media[drive]) {
		log_error("no floppy disk has %lu bytes; the largest has 2880K", image_size(image));
		return -EINVAL;
	}
	f->host.image[drive] = image;
	return image_attach(image, &f->device, 0);
}

static int i82077_init(struct device *d)
{
	static const struct bus_ops ops = { .read = i82077_read, .write = i82077_write, .max_size = 1 };
	const struct i82077_config *config = d->place->config;
	struct i82077 *f = of(d);
	f->host.dma = device_find(d->vm, config->dma);
	if (!f->host.dma) {
		log_error("board: the floppy controller needs a DMA controller");
		return -ENODEV;
	}
	irq_pin_init(&f->host.pin, d->vm, (unsigned)d->place->irq);
	timer_init(&f->host.timer, d, "floppy", fdc_timer_fired, NULL);
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		timer_init(&f->host.seek[i], d, "floppy seek", fdc_seek_fired, (void *)(uintptr_t)i);
	int error = bus_add(d->vm, BUS_PORT, d->place->base, FIFO + 1, &ops, d);
	if (!error) /* the port between them is the hard disk controller's */
		error = bus_add_at(d->vm, BUS_PORT, d->place->base + DIR_CCR, 1, &ops, d, DIR_CCR);
	for (unsigned i = 0; i < ARRAY_SIZE(config->image) && !error; i++)
		error = attach(f, i, config->image[i]);
	return error;
}

static void i82077_fini(struct device *d)
{
	struct i82077 *f = of(d);
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		if (f->host.image[i])
			image_detach(f->host.image[i]);
	if (!f->host.timer.vm)
		return;
	timer_cancel(&f->host.timer);
	for (unsigned i = 0; i < FDC_DRIVES; i++)
		timer_cancel(&f->host.seek[i]);
}

static const struct field regs_fields[] = {
	FIELD_U8(struct i82077_regs, dor),
	FIELD_U8(struct i82077_regs, tdr),
	FIELD_U8(struct i82077_regs, rate),
	FIELD_U8(struct i82077_regs, phase),
	FIELD_U8(struct i82077_regs, bytes),
	FIELD_U8(struct i82077_regs, got),
	FIELD_U8(struct i82077_regs, count),
	FIELD_BOOL(struct i82077_regs, irq),
	FIELD_U8(struct i82077_regs, seeking),
	FIELD_U8(struct i82077_regs, ended),
	FIELD_U8(struct i82077_regs, end_st0),
	FIELD_U8(struct i82077_regs, track),
	FIELD_U8(struct i82077_regs, seek_to),
	FIELD_U64(struct i82077_regs, seek_due),
	FIELD_U8(struct i82077_regs, changed),
	FIELD_U8(struct i82077_regs, specify),
	FIELD_U8(struct i82077_regs, configure),
	FIELD_U8(struct i82077_regs, precompensation),
	FIELD_U8(struct i82077_regs, perpendicular),
	FIELD_BOOL(struct i82077_regs, lock),
	FIELD_U8(struct i82077_regs, eot),
	FIELD_U8(struct i82077_regs, step),
	FIELD_U8(struct i82077_regs, drive),
	FIELD_U8(struct i82077_regs, side),
	FIELD_U8(struct i82077_regs, id),
	FIELD_U8(struct i82077_regs, left),
	FIELD_U8(struct i82077_regs, st1),
	FIELD_U8(struct i82077_regs, st2),
	FIELD_BOOL(struct i82077_regs, terminal_count),
	FIELD_U16(struct i82077_regs, at),
	FIELD_U16(struct i82077_regs, end),
	FIELD_U16(struct i82077_regs, tries),
	FIELD_U64(struct i82077_regs, due),
	FIELD_U8(struct i82077_regs, data),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct i82077, r, regs_fields, struct i82077_regs),
	FIELD_END,
};

const struct device_class i82077_class = {
	.name = "i82077", .summary = "82077AA floppy disk controller", .size = sizeof(struct i82077), .init = i82077_init,
	.reset = i82077_reset, .fini = i82077_fini, .event = i82077_event, .fields = fields, .version = 1,
	.post_load = i82077_post_load,
};
DEVICE_CLASS(i82077_class);
