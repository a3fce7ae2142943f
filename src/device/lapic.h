/* SPDX-License-Identifier: MIT */
/* Local APICs: the state of one, and how the files of the device share the work.
 *
 * One lock, the device's, guards them all: any thread may deliver to any processor. Functions below are called
 * with it held. Three things must not happen under it, because they take locks that come first: acknowledging the
 * 8259, telling the IOAPIC of an EOI, and driving lines. */
#pragma once
#include "device/ticks.h"
#include "vm/vcpu.h"
#include "vm/vm.h"

#define LAPIC_MAX 255 /* APIC IDs of 8 bits, less the broadcast */

enum lapic_reg { /* offset in the page >> 4, which is the MSR's number - 800h: SDM 3A tables 10-1 and 10-6 */
	APIC_ID = 0x02, APIC_VERSION = 0x03, APIC_TPR = 0x08, APIC_APR = 0x09, APIC_PPR = 0x0a, APIC_EOI = 0x0b,
	APIC_RRD = 0x0c, APIC_LDR = 0x0d, APIC_DFR = 0x0e, APIC_SVR = 0x0f, APIC_ISR = 0x10, APIC_TMR = 0x18,
	APIC_IRR = 0x20, APIC_ESR = 0x28,
	APIC_ICR = 0x30, APIC_ICR_HIGH = 0x31, APIC_LVT = 0x32, APIC_LVT_LAST = 0x37, APIC_INITIAL_COUNT = 0x38,
	APIC_CURRENT_COUNT = 0x39, APIC_DIVIDE = 0x3e, APIC_SELF_IPI = 0x3f,
};
enum lapic_lvt { LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_VECTOR 0xffu
#define LVT_DELIVERY_SHIFT 8
#define LVT_MASKED BIT(16)
#define LVT_TIMER_SHIFT 17
enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE };

enum lapic_delivery {
	DELIVER_FIXED, DELIVER_LOWEST, DELIVER_SMI, DELIVER_RESERVED, DELIVER_NMI, DELIVER_INIT, DELIVER_SIPI,
	DELIVER_EXTINT,
};

#define SVR_ENABLED BIT(8)
#define SVR_NO_BROADCAST BIT(12) /* EOI-broadcast suppression */

#define ESR_SEND_ILLEGAL_VECTOR BIT(5)
#define ESR_RECEIVE_ILLEGAL_VECTOR BIT(6)
#define ESR_ILLEGAL_REGISTER BIT(7)

struct lapic_cpu {
	uint64_t base;          /* IA32_APIC_BASE, read/write */
	uint64_t icr;           /* ICR, read/write; the destination in bits 63:32 as the mode has it */
	uint64_t timer_start;   /* virtual ns at which the count began to run down from initial_count */
	uint64_t timer_at;      /* virtual ns of the next timer interrupt, TIMER_OFF */
	uint64_t tsc_deadline;  /* IA32_TSC_DEADLINE, read/write; 0: not armed */
	uint32_t irr[8];        /* IRR, read only: vectors that wait */
	uint32_t isr[8];        /* ISR, read only: vectors in service */
	uint32_t tmr[8];        /* TMR, read only: those that were level-triggered */
	uint32_t tpr;           /* TPR, read/write */
	uint32_t ldr;           /* LDR, read/write in xAPIC mode */
	uint32_t dfr;           /* DFR, read/write in xAPIC mode */
	uint32_t svr;           /* spurious-interrupt vector register, read/write */
	uint32_t esr;           /* ESR as the last write of it latched */
	uint32_t errors;        /* errors since then */
	uint32_t lvt[LVT_COUNT]; /* local vector table, read/write */
	uint32_t initial_count; /* timer, read/write */
	uint32_t divide;        /* divide configuration, read/write */
	bool counting;          /* the timer's count is not 0 */
	bool extint;            /* a message with delivery mode ExtINT waits */
};

#define LAPIC_PLACES 8 /* the usual one, and some that programs moved registers to */

struct lapic {
	struct device device;
	struct lapic_cpu cpu[LAPIC_MAX];
	uint8_t last_lowest; /* who got the last lowest-priority interrupt */
	struct {
		struct timer timer[LAPIC_MAX];
		struct ticks ticks[LAPIC_MAX]; /* of the timer in periodic mode: due, and not shown yet */
		uint64_t since[LAPIC_MAX];     /* virtual ns at which the timer was armed last */
		bool told[LAPIC_MAX]; /* what vcpu_interrupt was told last */
		uint64_t place[LAPIC_PLACES]; /* where the registers answer: those of place n are at the handler's offset n pages. 0: nowhere */
		unsigned count;
		bool virtual_wire;
	} host;
};

static inline struct lapic *lapic_of(struct device *d)
{
	return container_of(d, struct lapic, device);
}
static inline bool lapic_enabled(const struct lapic_cpu *c)
{
	return c->base & APIC_BASE_ENABLE;
}
static inline bool lapic_x2apic(const struct lapic_cpu *c)
{
	return (c->base & APIC_BASE_X2APIC) && lapic_enabled(c);
}

/* lapic.c -- IA32_APIC_BASE of a processor may have changed: registers answer where they are now. With the device's lock held. */
void lapic_place(struct lapic *);

/* lapic_irq.c -- what is pending, in service, and told to the processor. */
uint32_t lapic_ppr(const struct lapic_cpu *);
void lapic_update(struct lapic *, unsigned cpu);
void lapic_accept(struct lapic *, unsigned cpu, uint8_t vector, bool level);
void lapic_local(struct lapic *, unsigned cpu, enum lapic_lvt);
void lapic_error(struct lapic *, unsigned cpu, uint32_t bit);
/* Returns the vector to broadcast once the lock is dropped, or -1. */
int lapic_eoi(struct lapic *, unsigned cpu);
/* The 8259's output changed. */
void lapic_lint0(struct lapic *);
enum irq_request lapic_timer_request(const struct lapic_cpu *); /* what became of the timer's last interrupt */
/* Take the lock. */
bool lapic_requested(struct device *, uint8_t vector); /* at any processor */
int lapic_acknowledge(struct device *, struct vcpu *);

/* lapic_ipi.c -- messages between processors, and from devices. */
void lapic_send(struct lapic *, unsigned cpu);
void lapic_self_ipi(struct lapic *, unsigned cpu, uint8_t vector);
/* Takes the lock. */
void lapic_message(struct device *, uint64_t address, uint32_t data);

/* lapic_timer.c -- */
void lapic_timer_init(struct lapic *, unsigned cpu);
unsigned lapic_timer_mode(const struct lapic_cpu *);
uint32_t lapic_current_count(struct lapic *, unsigned cpu);
void lapic_set_initial_count(struct lapic *, unsigned cpu, uint32_t count);
void lapic_set_divide(struct lapic *, unsigned cpu, uint32_t divide);
void lapic_set_deadline(struct lapic *, unsigned cpu, uint64_t tsc);
/* LVT timer was written; `before` is the mode until then. */
void lapic_timer_mode_changed(struct lapic *, unsigned cpu, unsigned before);
void lapic_timer_stop(struct lapic *, unsigned cpu);
/* What is due happens now; then nothing more will, until the timer is armed again. */
void lapic_timer_settle(struct lapic *, unsigned cpu);
/* Timer clock ticks (ns) a count; arms the timer for a count that runs. */
unsigned lapic_divisor(const struct lapic_cpu *);
void lapic_timer_schedule(struct lapic *, unsigned cpu, uint64_t now);
void lapic_timer_restore(struct lapic *, unsigned cpu);

/* lapic_move.c -- take the lock. */
void lapic_take(struct device *, struct irq_chips *);
void lapic_give(struct device *, const struct irq_chips *);

/* lapic_regs.c -- the register file. False: there is no such register, or the value is not allowed in x2APIC mode.
 * *eoi gets a vector to broadcast, or stays as it is. */
bool lapic_read_reg(struct lapic *, unsigned cpu, unsigned reg, uint64_t *value);
bool lapic_write_reg(struct lapic *, unsigned cpu, unsigned reg, uint64_t value, int *eoi);
/* SDM 3A 10.4.7.1 and 10.4.7.3: after power-up or INIT. */
void lapic_reset_cpu(struct lapic *, unsigned cpu);
extern const struct field lapic_cpu_fields[];
bool lapic_cpu_valid(struct lapic_cpu *);
