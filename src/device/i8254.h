/* SPDX-License-Identifier: MIT */
/* The counters of the 8254: their state, and what follows from it at a given CLK pulse (i8254_count.c). */
#pragma once
#include "util/bits.h"
#include "vm/field.h"

#define I8254_HZ 1193182ULL
#define I8254_COUNTERS 3
#define I8254_NEVER UINT64_MAX

enum { I8254_RW_LOW = 1, I8254_RW_HIGH = 2, I8254_RW_BOTH = 3 };

struct i8254_counter {
	uint64_t start;      /* CLK pulse at which CE (counting element) was loaded; counts from there */
	uint64_t edge;       /* CLK pulse at which CR is loaded into CE at the end of a cycle, or I8254_NEVER */
	uint64_t held;       /* pulses counted so far, while GATE stops it */
	uint32_t count;      /* what CE was loaded with, 1 to 65536 */
	uint32_t reload;     /* CR (count register) as a number, 1 to 65536; 0: none written */
	uint16_t idle;       /* what CE shows while nothing is loaded */
	uint8_t mode;        /* 0 to 5, control word */
	uint8_t rw;          /* I8254_RW_*, control word */
	bool bcd;            /* control word */
	bool gate;           /* level of the GATE input */
	bool loaded;         /* CE was, or with pulse `start` will be, loaded */
	bool stopped;        /* GATE holds the count */
	bool before;         /* OUT until pulse `start` */
	bool null_count;     /* CR is not in CE yet; status bit 6 */
	bool write_high;     /* the next write is the high byte */
	bool read_high;      /* the next read is the high byte */
	uint8_t write_low;   /* the low byte that waits for the high one */
	uint8_t latched;     /* bytes left of the latched count */
	uint16_t latch;      /* OL (output latch) */
	bool status_latched; /* the next read gives status */
	uint8_t status;      /* latched status */
};
extern const struct field i8254_counter_fields[];

/* i8254_count.c -- A pulse is a number since virtual time 0; pulse n is at the first ns at which n of them have
 * passed. */
uint64_t i8254_ns_to_pulse(uint64_t ns);
uint64_t i8254_pulse_to_ns(uint64_t pulse);
/* Catches up with what happened to the registers until `pulse`; call it before all others. */
void i8254_sync(struct i8254_counter *, uint64_t pulse);
/* What the counter shows: CE as it is read (BCD if so programmed), and OUT. */
uint16_t i8254_bcd(uint32_t);
uint16_t i8254_count(const struct i8254_counter *, uint64_t pulse);
bool i8254_out(const struct i8254_counter *, uint64_t pulse);
/* It counts in cycles (modes 2 and 3), and does count. */
bool i8254_periodic(const struct i8254_counter *);
/* The next rising edge of OUT after `pulse`; those closer together than min_pulses are left out. */
uint64_t i8254_next_edge(const struct i8254_counter *, uint64_t pulse, uint64_t min_pulses);
/* What is done to it. */
void i8254_program(struct i8254_counter *, unsigned mode, unsigned rw, bool bcd, uint64_t pulse);
void i8254_first_byte(struct i8254_counter *, uint64_t pulse);
void i8254_load(struct i8254_counter *, uint16_t count, uint64_t pulse);
void i8254_gate(struct i8254_counter *, bool level, uint64_t pulse);
/* Checks what a stream brought. */
bool i8254_valid(const struct i8254_counter *);
