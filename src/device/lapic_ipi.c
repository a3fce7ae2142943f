/* SPDX-License-Identifier: MIT */
/* Local APIC: messages from processor to processor and from devices, after the Intel SDM 3A, sections 10.6, 10.11
 * and 10.12.9/10. */
#include "device/lapic.h"

#define ICR_DELIVERY_SHIFT 8
#define ICR_LOGICAL BIT(11)
#define ICR_ASSERT BIT(14)
#define ICR_LEVEL BIT(15)
#define ICR_SHORTHAND_SHIFT 18
enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

#define MSI_DEST_SHIFT 12
#define MSI_HINT BIT(3) /* redirection hint: to the processor of the lowest priority */
#define MSI_LOGICAL BIT(2)
#define MSI_TRIGGER_LEVEL BIT(15)
#define MSI_ASSERT BIT(14)

#define DFR_FLAT 0xfu
#define XAPIC_BROADCAST 0xffu
#define X2APIC_BROADCAST 0xffffffffu
#define FIRST_VECTOR 16

/* Who is meant. */
struct destination {
	uint32_t id;
	bool logical;
	bool all;    /* a broadcast, or a shorthand */
	int except;  /* the sender of "all excluding self"; -1 */
};

struct message {
	struct destination to;
	enum lapic_delivery delivery;
	uint8_t vector;
	bool lowest; /* to one of them */
	bool level;
};

/* 10.6.2.2; 10.12.10.1 for x2APIC mode. */
static bool logical_match(const struct lapic_cpu *c, uint32_t id)
{
	uint32_t ldr = c->ldr >> 24;
	if (lapic_x2apic(c))
		return id >> 16 == c->ldr >> 16 && (id & c->ldr & 0xffff);
	if (id > XAPIC_BROADCAST)
		return false;
	if (c->dfr >> 28 == DFR_FLAT)
		return id & ldr;
	return id >> 4 == ldr >> 4 && (id & ldr & 0xf);
}

static bool match(const struct lapic *p, unsigned cpu, const struct destination *to)
{
	const struct lapic_cpu *c = &p->cpu[cpu];
	if (!lapic_enabled(c) || (int)cpu == to->except)
		return false;
	if (to->all)
		return true;
	return to->logical ? logical_match(c, to->id) : to->id == cpu;
}

static void deliver_one(struct lapic *p, unsigned cpu, const struct message *m)
{
	struct vcpu *vcpu = p->device.vm->vcpu ? p->device.vm->vcpu[cpu] : NULL;
	if (!vcpu)
		return;
	switch (m->delivery) {
	case DELIVER_FIXED:
	case DELIVER_LOWEST:
		lapic_accept(p, cpu, m->vector, m->level);
		break;
	case DELIVER_NMI:
		vcpu_nmi(vcpu);
		break;
	case DELIVER_INIT:
		vcpu_init(vcpu);
		break;
	case DELIVER_SIPI:
		vcpu_sipi(vcpu, m->vector);
		break;
	case DELIVER_EXTINT:
		p->cpu[cpu].extint = true;
		lapic_update(p, cpu);
		break;
	case DELIVER_SMI: /* there is no system management mode */
	case DELIVER_RESERVED:
		break;
	}
}

/* 10.6.2.4: the one with the lowest priority; among equals, who comes after the last one. */
static void deliver_lowest(struct lapic *p, const struct message *m)
{
	int chosen = -1;
	for (unsigned i = 1; i <= p->host.count; i++) {
		unsigned cpu = (p->last_lowest + i) % p->host.count;
		if (!match(p, cpu, &m->to) || !(p->cpu[cpu].svr & SVR_ENABLED))
			continue;
		if (chosen < 0 || lapic_ppr(&p->cpu[cpu]) < lapic_ppr(&p->cpu[chosen]))
			chosen = cpu;
	}
	if (chosen < 0)
		return;
	p->last_lowest = chosen;
	deliver_one(p, chosen, m);
}

static void deliver(struct lapic *p, const struct message *m)
{
	if (m->lowest) {
		deliver_lowest(p, m);
		return;
	}
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		if (match(p, cpu, &m->to))
			deliver_one(p, cpu, m);
}

/* ICR was written. All interrupts between processors are edges (10.6.1, trigger mode: since the Pentium 4); an
 * INIT with level de-assert only synchronized arbitration IDs, on older ones. */
void lapic_send(struct lapic *p, unsigned cpu)
{
	struct lapic_cpu *c = &p->cpu[cpu];
	uint32_t low = c->icr, id = lapic_x2apic(c) ? c->icr >> 32 : c->icr >> 56;
	unsigned shorthand = low >> ICR_SHORTHAND_SHIFT & 3;
	struct message m = { .to = { .id = id, .logical = low & ICR_LOGICAL, .except = -1 }, .vector = low };

	m.delivery = low >> ICR_DELIVERY_SHIFT & 7;
	m.lowest = m.delivery == DELIVER_LOWEST;
	m.to.all = shorthand >= SHORTHAND_ALL || id == (lapic_x2apic(c) ? X2APIC_BROADCAST : XAPIC_BROADCAST);
	if (shorthand == SHORTHAND_OTHERS)
		m.to.except = cpu;
	if (m.delivery == DELIVER_INIT && (low & ICR_LEVEL) && !(low & ICR_ASSERT))
		return;
	if (m.delivery == DELIVER_EXTINT || m.delivery == DELIVER_RESERVED)
		return;
	if (m.delivery <= DELIVER_LOWEST && m.vector < FIRST_VECTOR) {
		lapic_error(p, cpu, ESR_SEND_ILLEGAL_VECTOR);
		return;
	}
	if (shorthand == SHORTHAND_SELF)
		deliver_one(p, cpu, &m);
	else
		deliver(p, &m);
}

void lapic_self_ipi(struct lapic *p, unsigned cpu, uint8_t vector)
{
	if (vector < FIRST_VECTOR)
		lapic_error(p, cpu, ESR_SEND_ILLEGAL_VECTOR);
	else
		lapic_accept(p, cpu, vector, false);
}

/* 10.11: a write by a device, the IOAPIC among them. */
void lapic_message(struct device *d, uint64_t address, uint32_t data)
{
	struct lapic *p = lapic_of(d);
	uint8_t id = address >> MSI_DEST_SHIFT;
	struct message m = { .to = { .id = id, .logical = address & MSI_LOGICAL, .except = -1 }, .vector = data };

	m.to.all = id == XAPIC_BROADCAST;
	m.delivery = data >> ICR_DELIVERY_SHIFT & 7;
	m.level = data & MSI_TRIGGER_LEVEL;
	m.lowest = m.delivery == DELIVER_LOWEST || (m.delivery == DELIVER_FIXED && (address & MSI_HINT));
	if (m.delivery == DELIVER_RESERVED || m.delivery == DELIVER_SIPI || (m.level && !(data & MSI_ASSERT)))
		return;
	pthread_mutex_lock(&d->lock);
	deliver(p, &m);
	pthread_mutex_unlock(&d->lock);
}
