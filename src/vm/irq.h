/* SPDX-License-Identifier: MIT */
/* Interrupt lines: from a device's output to the inputs of the interrupt chips, and from those to a processor.
 *
 * A line is one global system interrupt (GSI). Several sources may share it (wired OR); it may reach several sinks (on a PC the 8259
 * pair and the IOAPIC). Levels are atomic: any thread, with or without a device lock, may drive a line. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "util/bits.h"
#include "vm/irq_chips.h"

struct vm;
struct vcpu;
struct device;

#define IRQ_LINES 64
#define IRQ_SINKS 2

enum irq_request { /* what became of the last edge at an input */
	IRQ_UNHEARD, /* the input is masked */
	IRQ_WAITS,   /* a processor has still to take it: another one would be lost */
	IRQ_TAKEN,
};

struct irq_sink {
	struct device *device;
	void (*set)(struct device *, unsigned pin, bool level); /* takes the device's lock itself; order: device, chip, vCPU */
	enum irq_request (*request)(struct device *, unsigned pin); /* takes it, too; NULL: not known, as if taken */
	unsigned pin;
};

struct irq_line {
	_Atomic uint32_t asserted; /* number of sources that hold it high */
	struct irq_sink sink[IRQ_SINKS];
	unsigned sinks;
	pthread_mutex_t lock; /* held across a change and its hand-over to the sinks */
};

/* How a processor's vector is asked for. One per VM: the LAPIC where there is one, else the 8259. */
struct irq_controller {
	/* Takes the highest pending vector for the vCPU (it becomes in service), or -1 if none is left. vCPU thread. */
	int (*acknowledge)(struct device *, struct vcpu *);
	/* Optional: MSI, and x2APIC/APIC-base MSRs, CR8: NULL where there is no LAPIC. */
	void (*message)(struct device *, uint64_t address, uint32_t data);
	bool (*rdmsr)(struct device *, struct vcpu *, uint32_t index, uint64_t *value);
	bool (*wrmsr)(struct device *, struct vcpu *, uint32_t index, uint64_t value);
	uint64_t (*cr8_read)(struct device *, struct vcpu *);
	void (*cr8_write)(struct device *, struct vcpu *, uint64_t value);
	/* Optional. The vCPU takes an INIT, which resets its local APIC too: now, not when it was sent, since the processor may still have
	 * run a little. vCPU thread. */
	void (*init)(struct device *, struct vcpu *);
	/* Optional. Does this vector wait at a local APIC? */
	bool (*requested)(struct device *, uint8_t vector);
	/* irq.extint.level changed. Called with the 8259's lock held. */
	void (*extint)(struct device *);
};

struct irq {
	struct irq_line line[IRQ_LINES];
	const struct irq_controller *controller;
	struct device *controller_device;
	struct { /* the 8259's INTR output, for the LAPIC's LINT0 (ExtINT) */
		struct device *device;
		int (*acknowledge)(struct device *); /* vector, or -1 */
		_Atomic bool level;
	} extint;
	struct { /* the IOAPIC, which hears of each EOI of a level-triggered vector */
		struct device *device;
		void (*broadcast)(struct device *, uint8_t vector); /* NULL: there is none. Takes its lock: the LAPIC's is not held */
	} eoi;
	struct { /* the coprocessor error of a PC; NULL: there is none. See x86_env.fpu_error */
		struct device *device;
		bool (*error)(struct device *, bool pending);
	} fpu;
	_Atomic uint64_t raised[IRQ_LINES];
	struct irq_mover mover[IRQ_CHIPS];
	pthread_mutex_t message_lock; /* while a message is handed over */
	const struct irq_elsewhere *_Atomic elsewhere; /* who runs the chips instead of the devices; NULL: the devices do */
};

/* A device's output pin. Level is kept here, so that setting it twice counts once; saved with the device. */
struct irq_pin {
	struct vm *vm;
	unsigned gsi;
	_Atomic bool level;  /* what the device wants; may be a row of its field table */
	_Atomic bool driven; /* what the line counts: apart from level, so that loading the field disturbs no count */
};

/* irq.c -- vm_create and vm_destroy call these. */
void irq_init(struct vm *);
void irq_fini(struct vm *);
/* Any thread; a gsi beyond IRQ_LINES is a pin that is not wired. */
void irq_pin_init(struct irq_pin *, struct vm *, unsigned gsi);
void irq_set(struct irq_pin *, bool level);
static inline void irq_raise(struct irq_pin *pin) { irq_set(pin, true); }
static inline void irq_lower(struct irq_pin *pin) { irq_set(pin, false); }
static inline void irq_pulse(struct irq_pin *pin) { irq_set(pin, true); irq_set(pin, false); }
/* After a load: drives the lines again as the pins' saved levels say. */
void irq_pin_restore(struct irq_pin *, bool level);
/* Whether the last edge has been taken by a processor, as far as the chips can tell: IRQ_WAITS when it waits at each chip that hears it. Locks
 * as for irq_set. */
enum irq_request irq_request(struct irq_pin *);
/* A message-signaled interrupt: a write of 32 bits by a device. Where no local APIC listens it is a write to memory. Any thread; order of
 * locks as above. */
void irq_message(struct vm *, uint64_t address, uint32_t data);
/* Board set-up. */
void irq_connect(struct vm *, unsigned gsi, struct device *sink, void (*set)(struct device *, unsigned pin, bool level), unsigned pin);
/* For chips that can tell; after irq_connect. */
void irq_connect_request(struct vm *, unsigned gsi, struct device *sink, enum irq_request (*request)(struct device *, unsigned pin));
