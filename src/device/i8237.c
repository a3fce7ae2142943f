/* SPDX-License-Identifier: MIT */
/* The DMA controllers of a PC/AT: two Intel 8237A (datasheet 231466) and the page registers, after the IBM PC/AT technical reference.
 * Channels 0 to 3 move bytes, 5 to 7 words; 4 is the cascade, through which the first chip reaches the bus.
 *
 * Devices ask when they have something to move, so there is no bus timing; the modes single, demand and block are the same here. Not
 * modelled: memory-to-memory transfers, which a PC cannot use, and transfers by software request: no device would take the bytes. */
#include "device/i8237.h"
#include <errno.h>
#include <string.h>
#include "device/chips.h"

#define CHANNELS 4
#define CASCADE 4

enum { /* registers behind the channels' eight */
	COMMAND_STATUS = 8, REQUEST = 9, SINGLE_MASK = 10, MODE = 11, CLEAR_FLIP_FLOP = 12, MASTER_CLEAR = 13, CLEAR_MASK = 14, ALL_MASK = 15,
};
#define COMMAND_DISABLE 0x04u
#define MODE_TYPE 0x0cu
#define MODE_WRITE 0x04u    /* to memory */
#define MODE_READ 0x08u     /* from memory */
#define MODE_AUTO 0x10u     /* initialize again at terminal count */
#define MODE_DOWN 0x20u
#define MODE_KIND 0xc0u
#define MODE_CASCADE 0xc0u
#define SELECT 0x03u        /* channel, in a single mask, request or mode write */
#define SET_BIT 0x04u       /* in a single mask or request write */

struct i8237_channel {
	uint16_t base_address, base_count; /* as written */
	uint16_t address, count;           /* current; count is one less than what is left */
	uint8_t mode;
};

struct i8237_chip {
	struct i8237_channel channel[CHANNELS];
	uint8_t command;
	uint8_t mask;       /* bit n: channel n is closed */
	uint8_t request;    /* software requests: kept, and shown */
	uint8_t waiting;    /* a device asked while the channel was closed */
	uint8_t reached;    /* terminal count, until status is read */
	bool high;          /* flip-flop: the next byte is the upper one */
};

struct i8237 {
	struct device device;
	struct i8237_chip chip[2];
	uint8_t page[16];   /* ports 80h to 8Fh */
};

/* Where the channels' page registers are; the other ports are spare bytes (80h is where a BIOS reports its progress). */
static const uint8_t page_of[2 * CHANNELS] = { 7, 3, 1, 2, 15, 11, 9, 10 };

static struct i8237 *of(struct device *d)
{
	return container_of(d, struct i8237, device);
}

/* ---- Registers -------------------------------------------------------------------------------------------------------- */

static void set_bit(uint8_t *bits, uint8_t value)
{
	uint8_t bit = (uint8_t)(1u << (value & SELECT));
	*bits = value & SET_BIT ? *bits | bit : *bits & ~bit;
}

static void clear(struct i8237_chip *c)
{
	c->command = c->request = c->waiting = c->reached = 0;
	c->mask = 0x0f;
	c->high = false;
}

static void put_half(struct i8237_chip *c, uint16_t *base, uint16_t *current, uint8_t value)
{
	*base = c->high ? (*base & 0x00ff) | value << 8 : (*base & 0xff00) | value;
	*current = c->high ? (*current & 0x00ff) | value << 8 : (*current & 0xff00) | value;
	c->high = !c->high;
}

static void chip_write(struct i8237_chip *c, unsigned at, uint8_t value)
{
	struct i8237_channel *channel = &c->channel[at / 2 % CHANNELS];
	switch (at) {
	case COMMAND_STATUS:
		c->command = value;
		break;
	case REQUEST:
		set_bit(&c->request, value);
		break;
	case SINGLE_MASK:
		set_bit(&c->mask, value);
		break;
	case MODE:
		c->channel[value & SELECT].mode = value & ~SELECT;
		break;
	case CLEAR_FLIP_FLOP:
		c->high = false;
		break;
	case MASTER_CLEAR:
		clear(c);
		break;
	case CLEAR_MASK:
		c->mask = 0;
		break;
	case ALL_MASK:
		c->mask = value & 0x0f;
		break;
	default:
		if (at & 1)
			put_half(c, &channel->base_count, &channel->count, value);
		else
			put_half(c, &channel->base_address, &channel->address, value);
	}
}

static uint8_t chip_read(struct i8237_chip *c, unsigned at)
{
	uint8_t value;
	switch (at) {
	case COMMAND_STATUS:
		value = (uint8_t)((c->waiting | c->request) << 4 | c->reached);
		c->reached = 0;
		return value;
	case MASTER_CLEAR: /* the temporary register, which only memory-to-memory transfers fill */
		return 0;
	case ALL_MASK:     /* as later chips have it */
		return c->mask | 0xf0;
	}
	if (at >= COMMAND_STATUS)
		return 0xff;
	uint16_t whole = at & 1 ? c->channel[at / 2].count : c->channel[at / 2].address;
	value = (uint8_t)(c->high ? whole >> 8 : whole);
	c->high = !c->high;
	return value;
}

static uint64_t byte_chip_read(struct device *d, uint64_t offset, unsigned size)
{
	return chip_read(&of(d)->chip[0], (unsigned)offset);
}

static void byte_chip_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	chip_write(&of(d)->chip[0], (unsigned)offset, (uint8_t)value);
}

static uint64_t word_chip_read(struct device *d, uint64_t offset, unsigned size)
{
	return chip_read(&of(d)->chip[1], (unsigned)offset / 2);
}

static void word_chip_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	chip_write(&of(d)->chip[1], (unsigned)offset / 2, (uint8_t)value);
}

static uint64_t page_read(struct device *d, uint64_t offset, unsigned size)
{
	return of(d)->page[offset];
}

static void page_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	of(d)->page[offset] = (uint8_t)value;
}

/* ---- Transfers -------------------------------------------------------------------------------------------------------- */

static bool chip_reaches_bus(const struct i8237_chip *c, unsigned channel)
{
	return !(c->command & COMMAND_DISABLE) && !(c->mask & BIT(channel));
}

static bool is_open(const struct i8237 *p, unsigned channel)
{
	const struct i8237_chip *second = &p->chip[1];
	if (!chip_reaches_bus(&p->chip[channel / CHANNELS], channel % CHANNELS))
		return false;
	if ((p->chip[channel / CHANNELS].channel[channel % CHANNELS].mode & MODE_KIND) == MODE_CASCADE)
		return false;
	return channel >= CASCADE ||
	       (chip_reaches_bus(second, 0) && (second->channel[0].mode & MODE_KIND) == MODE_CASCADE);
}

/* A piece that does not cross a 64K (of 16-bit channels 128K) boundary. */
static void move(struct vm *vm, gpa_t at, uint8_t *data, size_t size, bool write)
{
	if (write ? !guest_write(vm, at, data, size) : !guest_read(vm, at, data, size))
		return;
	for (size_t i = 0; i < size; i++) {
		if (write)
			(void)guest_write(vm, at + i, data + i, 1);
		else if (guest_read(vm, at + i, data + i, 1))
			data[i] = 0xff;
	}
}

struct job {
	uint8_t *data;      /* changed only when it comes from memory */
	size_t size;
	uint8_t type;       /* MODE_WRITE or MODE_READ: what the device wants */
};

static size_t run_locked(struct i8237 *p, unsigned number, const struct job *job, bool *terminal_count)
{
	struct i8237_chip *chip = &p->chip[number / CHANNELS];
	struct i8237_channel *c = &chip->channel[number % CHANNELS];
	unsigned wide = number >= CASCADE, bit = 1u << number % CHANNELS;
	gpa_t page = (gpa_t)(p->page[page_of[number]] & (wide ? 0xfe : 0xff)) << 16;
	size_t done = 0;
	bool moves = (c->mode & MODE_TYPE) == job->type, down = c->mode & MODE_DOWN;
	while (done < job->size >> wide && !*terminal_count) {
		size_t n = MIN((job->size >> wide) - done, c->count + 1u);
		n = down ? 1 : MIN(n, 0x10000u - c->address);
		uint8_t *data = job->data + (done << wide);
		if (moves)
			move(p->device.vm, page + ((gpa_t)c->address << wide), data, n << wide, job->type == MODE_WRITE);
		else if (job->type == MODE_READ)
			memset(data, 0, n << wide);
		*terminal_count = n == c->count + 1u;
		c->count -= (uint16_t)n;
		c->address = (uint16_t)(down ? c->address - n : c->address + n);
		done += n;
	}
	chip->waiting &= ~bit;
	if (*terminal_count) {
		chip->reached |= bit;
		chip->request &= ~bit;
		if (c->mode & MODE_AUTO) {
			c->address = c->base_address;
			c->count = c->base_count;
		} else {
			chip->mask |= bit;
		}
	}
	return done << wide;
}

static size_t run(struct device *d, unsigned channel, const struct job *job, bool *terminal_count)
{
	struct i8237 *p = of(d);
	size_t done = 0;
	*terminal_count = false;
	pthread_mutex_lock(&d->lock);
	if (is_open(p, channel))
		done = run_locked(p, channel, job, terminal_count);
	else
		p->chip[channel / CHANNELS].waiting |= (uint8_t)BIT(channel % CHANNELS);
	pthread_mutex_unlock(&d->lock);
	return done;
}

size_t i8237_to_memory(struct device *d, unsigned channel, const void *data, size_t size, bool *terminal_count)
{
	const struct job job = { (uint8_t *)data, size, MODE_WRITE };
	return run(d, channel, &job, terminal_count);
}

size_t i8237_from_memory(struct device *d, unsigned channel, void *data, size_t size, bool *terminal_count)
{
	const struct job job = { data, size, MODE_READ };
	return run(d, channel, &job, terminal_count);
}

/* ---- Life cycle ------------------------------------------------------------------------------------------------------- */

/* As a BIOS leaves them: all channels closed, but the cascade open. */
static void i8237_reset(struct device *d, enum reset_kind kind)
{
	struct i8237 *p = of(d);
	memset(p->chip, 0, sizeof(p->chip));
	memset(p->page, 0, sizeof(p->page));
	clear(&p->chip[0]);
	clear(&p->chip[1]);
	p->chip[1].channel[0].mode = MODE_CASCADE;
	p->chip[1].mask &= ~1u;
}

static int i8237_post_load(struct device *d, uint32_t version)
{
	for (unsigned i = 0; i < 2; i++) {
		struct i8237_chip *c = &of(d)->chip[i];
		c->mask &= 0x0f;
		c->request &= 0x0f;
		c->waiting &= 0x0f;
		c->reached &= 0x0f;
	}
	return 0;
}

static int i8237_init(struct device *d)
{
	static const struct bus_ops bytes = { .read = byte_chip_read, .write = byte_chip_write, .max_size = 1 };
	static const struct bus_ops words = { .read = word_chip_read, .write = word_chip_write, .max_size = 1 };
	static const struct bus_ops pages = { .read = page_read, .write = page_write, .max_size = 1 };
	int error = bus_add(d->vm, BUS_PORT, 0x00, 16, &bytes, d);
	if (!error)
		error = bus_add(d->vm, BUS_PORT, 0xc0, 32, &words, d);
	return error ? error : bus_add(d->vm, BUS_PORT, 0x80, 16, &pages, d);
}

static const struct field channel_fields[] = {
	FIELD_U16(struct i8237_channel, base_address),
	FIELD_U16(struct i8237_channel, base_count),
	FIELD_U16(struct i8237_channel, address),
	FIELD_U16(struct i8237_channel, count),
	FIELD_U8(struct i8237_channel, mode),
	FIELD_END,
};

static const struct field chip_fields[] = {
	FIELD_STRUCT(struct i8237_chip, channel, channel_fields, struct i8237_channel),
	FIELD_U8(struct i8237_chip, command),
	FIELD_U8(struct i8237_chip, mask),
	FIELD_U8(struct i8237_chip, request),
	FIELD_U8(struct i8237_chip, waiting),
	FIELD_U8(struct i8237_chip, reached),
	FIELD_BOOL(struct i8237_chip, high),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct i8237, chip, chip_fields, struct i8237_chip),
	FIELD_U8(struct i8237, page),
	FIELD_END,
};

const struct device_class i8237_class = {
	.name = "i8237", .summary = "two 8237 DMA controllers with page registers", .size = sizeof(struct i8237), .init = i8237_init,
	.reset = i8237_reset, .fields = fields, .version = 1, .post_load = i8237_post_load,
};
DEVICE_CLASS(i8237_class);
