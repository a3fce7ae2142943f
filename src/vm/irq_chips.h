/* SPDX-License-Identifier: MIT */
/* Interrupt chips that move: an engine whose host has chips of its own (a kernel's) takes the state out of the devices, runs the chips there,
 * and puts it back whenever anybody wants to look at the devices. In between the devices stand still, and interrupt lines and messages
 * go to the engine.
 *
 * The state is what the data sheets name: 8259A (231468), 82093AA (290566), 8254 (231164), local APIC (SDM 3A chapter 10). */
#pragma once
#include "util/bits.h"

struct vm;
struct device;

struct state_i8259 { /* one of the pair */
	uint8_t lines, edge;         /* levels at the inputs; edges that were not acknowledged */
	uint8_t imr, isr, elcr;
	uint8_t base, icw4, next_icw, lowest;
	bool want_icw4, rotate_aeoi, special_mask, read_isr, poll;
};

#define STATE_IOAPIC_PINS 24
struct state_ioapic {
	uint64_t rte[STATE_IOAPIC_PINS];
	uint32_t id, lines;          /* id in bits 27:24 */
	uint8_t select;
};

struct state_lapic { /* of one processor */
	uint32_t reg[64];            /* by offset in the page / 16; the ID in bits 31:24 in either mode; ICR's halves in 30h and 31h */
	uint64_t base, tsc_deadline; /* IA32_APIC_BASE; 0: not armed */
};

struct state_i8254_counter {
	uint32_t reload;             /* 1 to 65536; 0: none written */
	uint16_t latch;
	uint8_t mode, rw, latched, status, write_low; /* rw 0: it has no control word yet */
	bool bcd, gate, status_latched, write_high, read_high;
};

struct state_i8254 {
	struct state_i8254_counter counter[3];
	bool speaker;                /* port 61h bit 1 */
};

struct irq_chips {
	struct state_i8259 i8259[2];
	struct state_ioapic ioapic;
	struct state_i8254 i8254;
	struct state_lapic *lapic;   /* one a processor */
};

enum irq_chip { IRQ_CHIP_I8259, IRQ_CHIP_IOAPIC, IRQ_CHIP_LAPIC, IRQ_CHIP_I8254, IRQ_CHIPS };

/* A device's part. At a safe point; `take` leaves the device silent, `give` sets it going. */
struct irq_mover {
	struct device *device;
	void (*take)(struct device *, struct irq_chips *);
	void (*give)(struct device *, const struct irq_chips *);
};

/* Where the chips run while the devices stand still. `put` and `fetch` move their state and the lines' levels there and back, while no line and no
 * message moves; 0 or -errno. */
struct irq_elsewhere {
	int (*put)(struct vm *, struct irq_chips *);
	int (*fetch)(struct vm *, struct irq_chips *);
	void (*line)(struct vm *, unsigned gsi, bool level);
	void (*message)(struct vm *, uint64_t address, uint32_t data);
	void (*home)(struct vm *); /* at a safe point: calls irq_give, after which irq.elsewhere is NULL */
};

/* irq_chips.c -- The device's init says that it can be moved. */
void irq_movable(struct vm *, enum irq_chip, struct device *, void (*take)(struct device *, struct irq_chips *),
	void (*give)(struct device *, const struct irq_chips *));
/* Are all four there? */
bool irq_all_movable(const struct vm *);
/* At a safe point. From here on the chips are elsewhere / in the devices. 0 or -errno; then what was moved may be lost. */
int irq_take(struct vm *, const struct irq_elsewhere *);
int irq_give(struct vm *);
/* At a safe point, by whoever looks at the devices' state, or changes it: brings it home if it is elsewhere. */
void irq_home(struct vm *);
