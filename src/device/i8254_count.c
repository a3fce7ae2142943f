/* SPDX-License-Identifier: MIT */
/* The six modes of an 8254 counter as functions of time, after "Mode Definitions" in the Intel 8254 datasheet
 * (231164).
 *
 * A count that is written, or a trigger, takes effect with the next CLK pulse. `elapsed` pulses later CE shows
 * count - elapsed (mode 3 steps by two), and OUT depends on where in the cycle that is. */
#include "device/i8254.h"

#define NS_PER_SECOND 1000000000ULL

enum i8254_mode {
	TERMINAL_COUNT = 0,    /* OUT low, high for good when the count ends */
	ONE_SHOT = 1,          /* GATE's rising edge starts it, OUT is low meanwhile */
	RATE_GENERATOR = 2,    /* OUT low for the last pulse of each cycle */
	SQUARE_WAVE = 3,       /* OUT high for the first half of each cycle */
	SOFTWARE_STROBE = 4,   /* OUT low for one pulse when the count ends */
	HARDWARE_STROBE = 5,   /* the same, started by GATE */
};

uint64_t i8254_ns_to_pulse(uint64_t ns)
{
	return (unsigned __int128)ns * I8254_HZ / NS_PER_SECOND;
}

uint64_t i8254_pulse_to_ns(uint64_t pulse)
{
	unsigned __int128 ns = ((unsigned __int128)pulse * NS_PER_SECOND + I8254_HZ - 1) / I8254_HZ;
	return MIN(ns, UINT64_MAX);
}

static bool periodic(const struct i8254_counter *c)
{
	return c->mode == RATE_GENERATOR || c->mode == SQUARE_WAVE;
}

static bool triggered_by_gate(const struct i8254_counter *c)
{
	return c->mode == ONE_SHOT || c->mode == HARDWARE_STROBE;
}

static uint32_t modulus(const struct i8254_counter *c)
{
	return c->bcd ? 10000 : 65536;
}

/* Pulse numbers are compared by their difference: `start` may lie before pulse 0. */
static bool reached(uint64_t pulse, uint64_t when)
{
	return (int64_t)(pulse - when) >= 0;
}

static uint64_t elapsed(const struct i8254_counter *c, uint64_t pulse)
{
	if (c->stopped)
		return c->held;
	return reached(pulse, c->start) ? pulse - c->start : 0;
}

/* Mode 3: pulses of a cycle with OUT high; an odd count is one longer there. */
static uint32_t high_half(uint32_t count)
{
	return (count + 1) / 2;
}

static uint32_t element(const struct i8254_counter *c, uint64_t pulse)
{
	if (!c->loaded)
		return c->idle;
	uint64_t e = elapsed(c, pulse);
	uint32_t phase = e % c->count, high = high_half(c->count);
	switch (c->mode) {
	case RATE_GENERATOR:
		return c->count - phase;
	case SQUARE_WAVE: /* even numbers only: "the initial count minus one is loaded" when it is odd */
		return (c->count & ~1u) - 2 * (phase < high ? phase : phase - high);
	default: /* goes on from 0 to the highest count */
		return c->count + modulus(c) - e % modulus(c);
	}
}

uint16_t i8254_bcd(uint32_t n)
{
	return n / 1000 % 10 << 12 | n / 100 % 10 << 8 | n / 10 % 10 << 4 | n % 10;
}

uint16_t i8254_count(const struct i8254_counter *c, uint64_t pulse)
{
	uint32_t n = element(c, pulse) % modulus(c);
	return c->bcd ? i8254_bcd(n) : n;
}

bool i8254_out(const struct i8254_counter *c, uint64_t pulse)
{
	if (!c->loaded || (!c->stopped && !reached(pulse, c->start)))
		return c->before;
	uint64_t e = elapsed(c, pulse);
	switch (c->mode) {
	case TERMINAL_COUNT:
	case ONE_SHOT:
		return e >= c->count;
	case RATE_GENERATOR:
		return c->stopped || c->count == 1 || e % c->count != c->count - 1;
	case SQUARE_WAVE:
		return c->stopped || e % c->count < high_half(c->count);
	default:
		return e != c->count;
	}
}

uint64_t i8254_next_edge(const struct i8254_counter *c, uint64_t pulse, uint64_t min_pulses)
{
	if (!c->loaded || c->stopped)
		return I8254_NEVER;
	uint64_t e = elapsed(c, pulse), next;
	switch (c->mode) {
	case TERMINAL_COUNT:
	case ONE_SHOT:
		next = c->start + c->count;
		break;
	case SOFTWARE_STROBE:
	case HARDWARE_STROBE:
		next = c->start + c->count + 1;
		break;
	default:
		if (c->count == 1) /* not allowed; OUT does not move */
			return I8254_NEVER;
		next = c->start + (e + MAX(min_pulses, c->count)) / c->count * c->count;
		if (c->edge != I8254_NEVER && !reached(c->edge, next))
			next = c->edge;
	}
	return reached(pulse, next) ? I8254_NEVER : next;
}

static void start(struct i8254_counter *c, uint64_t at)
{
	c->start = at;
	c->count = c->reload;
	c->edge = I8254_NEVER;
	c->held = 0;
	c->loaded = true;
}

void i8254_sync(struct i8254_counter *c, uint64_t pulse)
{
	if (c->edge != I8254_NEVER && reached(pulse, c->edge)) {
		uint64_t at = c->edge;
		bool low = c->mode == SQUARE_WAVE && (at - c->start) % c->count; /* the end of the first half */
		start(c, at);
		if (low)
			c->start -= high_half(c->count);
		c->null_count = false;
	}
	bool waits = triggered_by_gate(c) || c->edge != I8254_NEVER || (c->stopped && c->count != c->reload);
	if (c->loaded && !waits && reached(pulse, c->start))
		c->null_count = false;
}

void i8254_program(struct i8254_counter *c, unsigned mode, unsigned rw, bool bcd, uint64_t pulse)
{
	c->idle = element(c, pulse);
	c->mode = mode > HARDWARE_STROBE ? mode & 3 : mode; /* the datasheet's X: 6 is 2, 7 is 3 */
	c->rw = rw;
	c->bcd = bcd;
	c->loaded = c->stopped = false;
	c->before = c->mode != TERMINAL_COUNT;
	c->reload = 0;
	c->edge = I8254_NEVER;
	c->null_count = true;
	c->write_high = c->read_high = false;
	c->latched = 0;
	c->status_latched = false;
}

void i8254_first_byte(struct i8254_counter *c, uint64_t pulse)
{
	if (c->mode != TERMINAL_COUNT)
		return;
	c->idle = element(c, pulse);
	c->loaded = c->before = false; /* counting stops, OUT goes low */
}

static uint32_t from_bcd(uint16_t value)
{
	return (value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 + (value & 15);
}

void i8254_load(struct i8254_counter *c, uint16_t count, uint64_t pulse)
{
	c->reload = c->bcd ? from_bcd(count) : count;
	if (!c->reload)
		c->reload = modulus(c);
	c->null_count = true;
	if (triggered_by_gate(c))
		return;
	if (c->loaded && periodic(c)) { /* waits for the end of the cycle, or of the half-cycle, or for GATE */
		if (c->stopped)
			return;
		uint64_t e = elapsed(c, pulse), phase = e % c->count, high = high_half(c->count);
		bool first_half = c->mode == SQUARE_WAVE && phase < high;
		c->edge = (reached(pulse, c->start) ? pulse : c->start) - phase + (first_half ? high : c->count);
		return;
	}
	c->before = c->mode != TERMINAL_COUNT && i8254_out(c, pulse);
	start(c, pulse + 1);
	c->stopped = !c->gate;
}

void i8254_gate(struct i8254_counter *c, bool level, uint64_t pulse)
{
	bool rises = level && !c->gate, falls = !level && c->gate;
	c->gate = level;
	if (triggered_by_gate(c)) {
		if (rises && c->reload) {
			c->before = i8254_out(c, pulse);
			start(c, pulse + 1);
			c->null_count = false;
		}
	} else if (c->loaded && falls) {
		c->held = elapsed(c, pulse);
		c->stopped = true;
		c->edge = I8254_NEVER; /* a count that waits is loaded when GATE rises */
	} else if (c->loaded && rises) {
		c->stopped = false;
		if (periodic(c)) {
			c->before = true;
			start(c, pulse + 1);
		} else {
			c->start = pulse - c->held;
		}
	}
}

bool i8254_periodic(const struct i8254_counter *c)
{
	return periodic(c) && c->loaded && !c->stopped;
}

bool i8254_valid(const struct i8254_counter *c)
{
	if (c->mode > HARDWARE_STROBE || c->rw < I8254_RW_LOW || c->rw > I8254_RW_BOTH || c->latched > 2)
		return false;
	if (c->edge != I8254_NEVER && !(c->loaded && periodic(c)))
		return false;
	return c->count <= 65536 && c->reload <= 65536 && (!c->loaded || (c->count && c->reload));
}

const struct field i8254_counter_fields[] = {
	FIELD_U64(struct i8254_counter, start),
	FIELD_U64(struct i8254_counter, edge),
	FIELD_U64(struct i8254_counter, held),
	FIELD_U32(struct i8254_counter, count),
	FIELD_U32(struct i8254_counter, reload),
	FIELD_U16(struct i8254_counter, idle),
	FIELD_U8(struct i8254_counter, mode),
	FIELD_U8(struct i8254_counter, rw),
	FIELD_BOOL(struct i8254_counter, bcd),
	FIELD_BOOL(struct i8254_counter, gate),
	FIELD_BOOL(struct i8254_counter, loaded),
	FIELD_BOOL(struct i8254_counter, stopped),
	FIELD_BOOL(struct i8254_counter, before),
	FIELD_BOOL(struct i8254_counter, null_count),
	FIELD_BOOL(struct i8254_counter, write_high),
	FIELD_BOOL(struct i8254_counter, read_high),
	FIELD_U8(struct i8254_counter, write_low),
	FIELD_U8(struct i8254_counter, latched),
	FIELD_U16(struct i8254_counter, latch),
	FIELD_BOOL(struct i8254_counter, status_latched),
	FIELD_U8(struct i8254_counter, status),
	FIELD_END,
};
