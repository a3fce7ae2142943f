/* SPDX-License-Identifier: MIT */
/* Commands of the floppy controller that move no data, and seeking: Intel 82077AA datasheet, section 5.
 *
 * A step takes a tenth of what a drive needs at best. SCAN commands, which no PC software uses, are invalid here, as on later parts. */
#include <string.h>
#include "device/i82077.h"
#include "util/log.h"

#define STEP_NS 300000
#define RECALIBRATE_STEPS 79
#define VERSION 0x90u
#define ST3_WP 0x40u
#define ST3_T0 0x10u
#define ST3_ONES 0x28u
#define PERPENDICULAR_OW 0x80u
#define PERPENDICULAR_DRIVES 0x3cu
#define LOCK_BIT 0x80u
#define RELATIVE_INWARD 0x40u

static void invalid(struct i82077 *f)
{
	fdc_result(f, (uint8_t[]){ ST0_IC_INVALID }, 1, false);
}

static void over(struct i82077 *f)
{
	f->r.phase = FDC_COMMAND;
	f->r.got = 0;
}

static void specify(struct i82077 *f)
{
	memcpy(f->r.specify, f->r.bytes + 1, sizeof(f->r.specify));
	over(f);
}

static void sense_drive(struct i82077 *f)
{
	unsigned drive = f->r.bytes[1] & DOR_SELECT;
	const struct image *image = f->host.image[drive];
	uint8_t st3 = ST3_ONES | (f->r.bytes[1] & 7);
	if (image)
		st3 |= (image_is_readonly(image) ? ST3_WP : 0) | (f->r.track[drive] ? 0 : ST3_T0);
	fdc_result(f, &st3, 1, false);
}

/* Reports the ends of seeks, one a command; after a reset there is one of each drive. */
static void sense_interrupt(struct i82077 *f)
{
	if (!f->r.ended) {
		invalid(f);
		return;
	}
	unsigned drive = (unsigned)__builtin_ctz(f->r.ended), more = f->r.ended & (f->r.ended - 1u);
	f->r.ended = (uint8_t)more;
	f->r.irq = false;
	fdc_update(f);
	for (; more; more &= more - 1)
		f->r.irq |= (f->r.end_st0[__builtin_ctz(more)] & ST0_IC_POLLING) != ST0_IC_POLLING;
	fdc_result(f, (uint8_t[]){ f->r.end_st0[drive], f->r.track[drive] }, 2, f->r.irq);
}

static void start_seek(struct i82077 *f, unsigned drive, uint8_t to, uint8_t st0)
{
	unsigned from = f->r.track[drive], steps = to > from ? to - from : from - to;
	f->r.seeking |= 1u << drive;
	f->r.seek_to[drive] = to;
	f->r.end_st0[drive] = (uint8_t)(st0 | drive);
	f->r.seek_due[drive] = clock_now(f->device.vm) + (steps + 1ULL) * STEP_NS;
	timer_arm(&f->host.seek[drive], f->r.seek_due[drive]);
	over(f);
}

void fdc_seek_fired(struct device *d, void *arg)
{
	struct i82077 *f = container_of(d, struct i82077, device);
	unsigned drive = (unsigned)(uintptr_t)arg;
	if (f->r.seek_to[drive] != f->r.track[drive]) /* a step pulse resets the line, if there is a disk */
		f->r.changed &= ~(1u << drive);
	f->r.track[drive] = f->r.seek_to[drive];
	f->r.seek_due[drive] = TIMER_OFF;
	f->r.seeking &= ~(1u << drive);
	f->r.ended |= 1u << drive;
	f->r.irq = true;
	fdc_update(f);
}

static void seek(struct i82077 *f)
{
	start_seek(f, f->r.bytes[1] & DOR_SELECT, f->r.bytes[2], ST0_SE | (f->r.bytes[1] & 4));
}

static void relative_seek(struct i82077 *f)
{
	unsigned drive = f->r.bytes[1] & DOR_SELECT, from = f->r.track[drive], by = f->r.bytes[2];
	unsigned to = f->r.bytes[0] & RELATIVE_INWARD ? MIN(from + by, 255) : from - MIN(from, by);
	start_seek(f, drive, (uint8_t)to, ST0_SE | (f->r.bytes[1] & 4));
}

/* Steps outwards until the drive says that this is track 0: one that is not there never does. */
static void recalibrate(struct i82077 *f)
{
	unsigned drive = f->r.bytes[1] & DOR_SELECT, from = f->r.track[drive], to = from - MIN(from, RECALIBRATE_STEPS);
	bool found = f->host.media[drive] && !to;
	start_seek(f, drive, (uint8_t)to, found ? ST0_SE : ST0_SE | ST0_EC | ST0_IC_ABNORMAL);
}

static void configure(struct i82077 *f)
{
	f->r.configure = f->r.bytes[2] & 0x7f;
	f->r.precompensation = f->r.bytes[3];
	over(f);
}

static void dump_registers(struct i82077 *f)
{
	const struct i82077_regs *r = &f->r;
	const uint8_t all[] = { r->track[0], r->track[1], r->track[2], r->track[3], r->specify[0], r->specify[1], r->eot,
				(uint8_t)((r->lock ? LOCK_BIT : 0) | r->perpendicular), r->configure, r->precompensation };
	fdc_result(f, all, sizeof(all), false);
}

static void version(struct i82077 *f)
{
	fdc_result(f, (uint8_t[]){ VERSION }, 1, false);
}

static void perpendicular(struct i82077 *f)
{
	uint8_t mask = 3 | (f->r.bytes[1] & PERPENDICULAR_OW ? PERPENDICULAR_DRIVES : 0);
	f->r.perpendicular = (uint8_t)((f->r.perpendicular & ~mask) | (f->r.bytes[1] & mask));
	over(f);
}

static void lock(struct i82077 *f)
{
	f->r.lock = f->r.bytes[0] & LOCK_BIT;
	fdc_result(f, (uint8_t[]){ f->r.lock ? 0x10 : 0 }, 1, false);
}

static const struct command {
	uint8_t mask, code; /* which bits of the first byte make it this one */
	uint8_t length;
	void (*run)(struct i82077 *);
	const char *name;
} commands[] = {
	{ 0x1f, 0x06, 9, fdc_begin, "read data" },
	{ 0x3f, 0x05, 9, fdc_begin, "write data" },
	{ 0x1f, 0x0c, 9, fdc_begin, "read deleted data" },
	{ 0x3f, 0x09, 9, fdc_begin, "write deleted data" },
	{ 0xbf, 0x02, 9, fdc_begin, "read track" },
	{ 0x1f, 0x16, 9, fdc_begin, "verify" },
	{ 0xbf, 0x0d, 6, fdc_begin, "format track" },
	{ 0xbf, 0x0a, 2, fdc_begin, "read id" },
	{ 0xff, 0x03, 3, specify, "specify" },
	{ 0xff, 0x04, 2, sense_drive, "sense drive status" },
	{ 0xff, 0x07, 2, recalibrate, "recalibrate" },
	{ 0xff, 0x08, 1, sense_interrupt, "sense interrupt status" },
	{ 0xff, 0x0f, 3, seek, "seek" },
	{ 0xbf, 0x8f, 3, relative_seek, "relative seek" },
	{ 0xff, 0x0e, 1, dump_registers, "dumpreg" },
	{ 0xff, 0x10, 1, version, "version" },
	{ 0xff, 0x12, 2, perpendicular, "perpendicular mode" },
	{ 0xff, 0x13, 4, configure, "configure" },
	{ 0x7f, 0x14, 1, lock, "lock" },
};

void fdc_command_byte(struct i82077 *f, uint8_t value)
{
	const struct command *c = NULL;
	f->r.bytes[f->r.got++] = value;
	for (unsigned i = 0; i < ARRAY_SIZE(commands) && !c; i++)
		if ((f->r.bytes[0] & commands[i].mask) == commands[i].code)
			c = &commands[i];
	if (!c) {
		trace(disk, "%s: invalid command %02x", f->device.name, value);
		invalid(f);
	} else if (f->r.got >= c->length) {
		const uint8_t *b = f->r.bytes;
		trace(disk, "%s: %s %02x %02x, cylinder %u head %u sector %u", f->device.name, c->name, b[0], c->length > 1 ? b[1] : 0,
		      c->length > 2 ? b[2] : 0, c->length > 3 ? b[3] : 0, c->length > 4 ? b[4] : 0);
		c->run(f);
	}
}
