/* SPDX-License-Identifier: MIT */
/* The local APICs of all processors: ways in (MMIO, MSRs, CR8), IA32_APIC_BASE and the device's life, after the Intel
 * SDM 3A, chapter 10. lapic_regs.c has the registers, lapic_irq.c the priorities, lapic_ipi.c the messages,
 * lapic_timer.c the timer.
 *
 * A processor's APIC ID is its index, and read only. The registers move with IA32_APIC_BASE, but not to where memory or another device
 * is: there nothing answers. */
#include "device/lapic.h"
#include <errno.h>
#include <string.h>
#include "device/chips.h"
#include "util/log.h"
#include "x86/features.h"

#define PAGE 0x1000
#define MSR_TO_REG(index) ((index) - MSR_X2APIC_FIRST)
/* Virtual wire mode, MP specification 1.4, appendix A.3: software enabled with vector 0Fh, LINT0 ExtINT, LINT1 NMI */
#define WIRE_SVR (SVR_ENABLED | 0x0f)
#define WIRE_LINT0 (DELIVER_EXTINT << LVT_DELIVERY_SHIFT)
#define WIRE_LINT1 (DELIVER_NMI << LVT_DELIVERY_SHIFT)

static void broadcast(struct device *d, int vector)
{
	struct irq *irq = &d->vm->irq;
	if (vector >= 0 && irq->eoi.broadcast)
		irq->eoi.broadcast(irq->eoi.device, vector);
}

/* Each processor sees its own APIC. A thread that is none (a debugger, a test) sees the boot processor's. */
static unsigned accessor(void)
{
	struct vcpu *vcpu = vcpu_current();
	return vcpu ? vcpu->index : 0;
}

static bool answers(struct lapic *p, const struct lapic_cpu *c, uint64_t offset)
{
	return lapic_enabled(c) && !lapic_x2apic(c) && (c->base & ~0xfffULL) == p->host.place[offset / PAGE];
}

/* 10.4.1: registers are 32 bits on 128-bit boundaries. What lies between does not exist. */
static uint64_t lapic_read(struct device *d, uint64_t offset, unsigned size)
{
	struct lapic *p = lapic_of(d);
	unsigned cpu = accessor();
	uint64_t value = ~0ULL;
	pthread_mutex_lock(&d->lock);
	if (answers(p, &p->cpu[cpu], offset)) {
		if (!lapic_read_reg(p, cpu, offset % PAGE >> 4, &value))
			lapic_error(p, cpu, ESR_ILLEGAL_REGISTER);
		value = (offset & 0xf) < 4 ? value >> 8 * (offset & 3) : 0;
	}
	pthread_mutex_unlock(&d->lock);
	return value;
}

static void lapic_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct lapic *p = lapic_of(d);
	unsigned cpu = accessor();
	int eoi = -1;
	pthread_mutex_lock(&d->lock);
	if (answers(p, &p->cpu[cpu], offset) && !(offset & 0xf)) {
		if (!lapic_write_reg(p, cpu, offset % PAGE >> 4, value & size_mask(size), &eoi))
			lapic_error(p, cpu, ESR_ILLEGAL_REGISTER);
	}
	pthread_mutex_unlock(&d->lock);
	broadcast(d, eoi);
}

static const struct bus_ops registers = { .read = lapic_read, .write = lapic_write, .max_size = 4, .unlocked = true };

static bool is_used(const struct lapic *p, uint64_t address)
{
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		if (lapic_enabled(&p->cpu[cpu]) && (p->cpu[cpu].base & ~0xfffULL) == address)
			return true;
	return false;
}

static void place_one(struct lapic *p, uint64_t address)
{
	unsigned free = 0;
	for (unsigned n = 0; n < LAPIC_PLACES; n++) {
		if (p->host.place[n] == address)
			return;
		free = p->host.place[n] ? free : n;
	}
	if (free && !bus_claim(p->device.vm, BUS_MEMORY, address, PAGE, &registers, &p->device, free * PAGE))
		p->host.place[free] = address;
}

/* 10.4.5. The usual place, which is the first, is never given up. */
void lapic_place(struct lapic *p)
{
	for (unsigned n = 1; n < LAPIC_PLACES; n++)
		if (p->host.place[n] && !is_used(p, p->host.place[n])) {
			bus_remove(p->device.vm, BUS_MEMORY, p->host.place[n]);
			p->host.place[n] = 0;
		}
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		if (lapic_enabled(&p->cpu[cpu]))
			place_one(p, p->cpu[cpu].base & ~0xfffULL);
}

/* 10.12.5: off, xAPIC, x2APIC; back from x2APIC leads only through off. */
static bool write_base(struct lapic *p, struct vcpu *vcpu, uint64_t value)
{
	struct lapic_cpu *c = &p->cpu[vcpu->index];
	const struct x86_model *model = vcpu->core.model;
	uint64_t address = (1ULL << (model ? model->physical_bits : 36)) - PAGE;
	uint64_t allowed = address | APIC_BASE_BSP | APIC_BASE_ENABLE;
	const uint64_t x2apic = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
	uint64_t before = c->base & x2apic, after = value & x2apic;

	if (model && x86_has(&vcpu->core, FEATURE_X2APIC))
		allowed |= APIC_BASE_X2APIC;
	if ((value & ~allowed) || after == APIC_BASE_X2APIC)
		return false;
	if ((after == x2apic && !before) || (before == x2apic && after == APIC_BASE_ENABLE))
		return false;
	c->base = value;
	lapic_place(p);
	if (before && !after) {
		lapic_reset_cpu(p, vcpu->index);
	} else if (after != before && (after & APIC_BASE_X2APIC)) {
		c->ldr = (vcpu->index & ~0xfu) << 12 | 1u << (vcpu->index & 0xf);
		c->icr = (uint32_t)c->icr;
	}
	lapic_update(p, vcpu->index);
	return true;
}

static bool rdmsr(struct device *d, struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct lapic *p = lapic_of(d);
	struct lapic_cpu *c = &p->cpu[vcpu->index];
	bool known = false;
	pthread_mutex_lock(&d->lock);
	if (index == MSR_APIC_BASE) {
		*value = c->base;
		known = true;
	} else if (index == MSR_TSC_DEADLINE) {
		*value = c->tsc_deadline;
		known = x86_has(&vcpu->core, FEATURE_TSC_DEADLINE);
	} else if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) {
		known = lapic_x2apic(c) && lapic_read_reg(p, vcpu->index, MSR_TO_REG(index), value);
	}
	pthread_mutex_unlock(&d->lock);
	return known;
}

static bool wrmsr(struct device *d, struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct lapic *p = lapic_of(d);
	struct lapic_cpu *c = &p->cpu[vcpu->index];
	bool known = false;
	int eoi = -1;
	pthread_mutex_lock(&d->lock);
	if (index == MSR_APIC_BASE) {
		known = write_base(p, vcpu, value);
	} else if (index == MSR_TSC_DEADLINE) {
		known = x86_has(&vcpu->core, FEATURE_TSC_DEADLINE);
		if (known)
			lapic_set_deadline(p, vcpu->index, value);
	} else if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST) {
		known = lapic_x2apic(c) && lapic_write_reg(p, vcpu->index, MSR_TO_REG(index), value, &eoi);
	}
	pthread_mutex_unlock(&d->lock);
	broadcast(d, eoi);
	return known;
}

/* 10.8.6: CR8 is TPR bits 7:4. */
static uint64_t cr8_read(struct device *d, struct vcpu *vcpu)
{
	pthread_mutex_lock(&d->lock);
	uint64_t value = lapic_of(d)->cpu[vcpu->index].tpr >> 4;
	pthread_mutex_unlock(&d->lock);
	return value;
}

static void cr8_write(struct device *d, struct vcpu *vcpu, uint64_t value)
{
	struct lapic *p = lapic_of(d);
	pthread_mutex_lock(&d->lock);
	p->cpu[vcpu->index].tpr = (value & 0xf) << 4;
	lapic_update(p, vcpu->index);
	pthread_mutex_unlock(&d->lock);
}

static void extint(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	lapic_lint0(lapic_of(d));
	pthread_mutex_unlock(&d->lock);
}

static void lapic_reset(struct device *d, enum reset_kind kind)
{
	struct lapic *p = lapic_of(d);
	p->last_lowest = 0;
	for (unsigned cpu = 0; cpu < p->host.count; cpu++) {
		struct lapic_cpu *c = &p->cpu[cpu];
		c->base = d->place->base | APIC_BASE_ENABLE | (cpu ? 0 : APIC_BASE_BSP);
		p->host.told[cpu] = true; /* the processor is reset too: tell it in any case */
		lapic_reset_cpu(p, cpu);
	}
	lapic_place(p);
	if (p->host.virtual_wire) {
		p->cpu[0].svr = WIRE_SVR;
		p->cpu[0].lvt[LVT_LINT0] = WIRE_LINT0;
		p->cpu[0].lvt[LVT_LINT1] = WIRE_LINT1;
		lapic_update(p, 0);
	}
}

static int lapic_post_load(struct device *d, uint32_t version)
{
	struct lapic *p = lapic_of(d);
	if (p->last_lowest >= p->host.count)
		return -EINVAL;
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		if (!lapic_cpu_valid(&p->cpu[cpu]))
			return -EINVAL;
	lapic_place(p);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++) {
		lapic_timer_restore(p, cpu);
		p->host.told[cpu] = false;
		if (d->vm->vcpu && d->vm->vcpu[cpu])
			vcpu_interrupt(d->vm->vcpu[cpu], false);
		lapic_update(p, cpu);
	}
	return 0;
}

static void init_taken(struct device *d, struct vcpu *vcpu)
{
	pthread_mutex_lock(&d->lock);
	lapic_reset_cpu(lapic_of(d), vcpu->index);
	pthread_mutex_unlock(&d->lock);
}

static const struct irq_controller controller = {
	.acknowledge = lapic_acknowledge, .message = lapic_message, .rdmsr = rdmsr, .wrmsr = wrmsr,
	.cr8_read = cr8_read,
	.cr8_write = cr8_write, .requested = lapic_requested, .extint = extint, .init = init_taken,
};

static int lapic_init(struct device *d)
{
	struct lapic *p = lapic_of(d);
	const struct lapic_config *config = d->place->config;
	p->host.count = MAX(d->vm->config.cpus, 1);
	p->host.virtual_wire = config && config->virtual_wire;
	if (p->host.count > LAPIC_MAX) {
		log_error("there are APIC IDs for %d processors only: use --cpus with less", LAPIC_MAX);
		return -EINVAL;
	}
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		lapic_timer_init(p, cpu);
	irq_movable(d->vm, IRQ_CHIP_LAPIC, d, lapic_take, lapic_give);
	d->vm->irq.controller = &controller;
	d->vm->irq.controller_device = d;
	p->host.place[0] = d->place->base;
	return bus_add(d->vm, BUS_MEMORY, d->place->base, PAGE, &registers, d);
}

static void lapic_fini(struct device *d)
{
	struct lapic *p = lapic_of(d);
	for (unsigned cpu = 0; cpu < p->host.count; cpu++)
		timer_cancel(&p->host.timer[cpu]);
}

static const struct field fields[] = {
	FIELD_STRUCT(struct lapic, cpu, lapic_cpu_fields, struct lapic_cpu),
	FIELD_U8(struct lapic, last_lowest),
	FIELD_END,
};

const struct device_class lapic_class = {
	.name = "lapic", .summary = "local APICs", .size = sizeof(struct lapic), .init = lapic_init,
	.reset = lapic_reset,
	.fini = lapic_fini, .fields = fields, .version = 1, .post_load = lapic_post_load,
};
DEVICE_CLASS(lapic_class);
