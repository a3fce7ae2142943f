/* SPDX-License-Identifier: MIT */
/* The interrupt chips and the interval timer in the kernel: KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2.
 *
 * Their state lives either in the devices or in the kernel, for the whole machine at once: a guest in KVM would reach the kernel's chips, one
 * that is interpreted reaches the devices. So before any processor enters the guest, all chips go in, at a safe point; and when one has to be
 * interpreted, or somebody wants to see the devices, all come out, and every processor is interpreted until they go in again. */
#include "engine/kvm/kvm.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

enum { RTE_DELIVERY = 7 << 8, RTE_LOWEST = 1 << 8, RTE_LEVEL = 1 << 15, RTE_MASKED = 1 << 16 }; /* 82093AA 3.2.4 */
enum { APIC_TPR = 0x08, APIC_INITIAL_COUNT = 0x38 }; /* registers of the local APIC's page, SDM 3A table 10-1 */
#define OUT_NS 200000 /* how long the chips stay outside at least: going in and out costs some ten system calls a processor */

int kvm_chips_create(struct kvm_vm *k)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY }; /* port 61h, too */
	int error;

	if (!kvm_has(k->fd, KVM_CAP_IRQCHIP) || !kvm_has(k->fd, KVM_CAP_PIT2) || !kvm_has(k->fd, KVM_CAP_IRQ_ROUTING)) {
		log_error("this /dev/kvm has no interrupt chips; try --engine kvm,irqchip=user");
		return -ENOTSUP;
	}
	error = kvm_call(k->fd, KVM_CREATE_IRQCHIP, NULL);
	return error < 0 ? error : MIN(kvm_call(k->fd, KVM_CREATE_PIT2, &pit), 0);
}

/* --- the 8259 pair: the kernel's irr holds edges and levels, its last_irr the levels of edge-triggered inputs --- */

static void pic_to_kvm(struct kvm_pic_state *to, const struct state_i8259 *s, bool slave)
{
	*to = (struct kvm_pic_state){
		.last_irr = s->lines, .irr = (s->edge & ~s->elcr) | (s->lines & s->elcr), .imr = s->imr, .isr = s->isr,
		.priority_add = (s->lowest + 1) & 7, .irq_base = s->base, .read_reg_select = s->read_isr, .poll = s->poll,
		.special_mask = s->special_mask, .init_state = s->next_icw ? s->next_icw - 1 : 0, .auto_eoi = (s->icw4 >> 1) & 1,
		.rotate_on_auto_eoi = s->rotate_aeoi, .special_fully_nested_mode = (s->icw4 >> 4) & 1, .init4 = s->want_icw4,
		.elcr = s->elcr, .elcr_mask = slave ? 0xde : 0xf8,
	};
}

static void pic_from_kvm(struct state_i8259 *s, const struct kvm_pic_state *k)
{
	uint8_t lines = (k->last_irr & ~k->elcr) | (k->irr & k->elcr);

	*s = (struct state_i8259){
		.lines = lines, .edge = k->irr & lines & ~k->elcr, .imr = k->imr, .isr = k->isr, .elcr = k->elcr, .base = k->irq_base,
		.icw4 = 1 | k->auto_eoi << 1 | k->special_fully_nested_mode << 4, .next_icw = k->init_state ? k->init_state + 1 : 0,
		.lowest = (k->priority_add - 1) & 7, .want_icw4 = k->init4, .rotate_aeoi = k->rotate_on_auto_eoi,
		.special_mask = k->special_mask, .read_isr = k->read_reg_select, .poll = k->poll,
	};
}

/* --- IOAPIC, 8254, local APICs --- */

/* The kernel's irr is what waits, not what is high: an edge that went out is not in it, and one that is put in goes out, again. So an input that is
 * high and would send is put in as low, and the kernel does not hear that it is high, until it rises anew. */
static bool sends_when_high(uint64_t rte)
{
	return !(rte & RTE_MASKED) && (!(rte & RTE_LEVEL) || (rte & RTE_DELIVERY) > RTE_LOWEST);
}

static void ioapic_to_kvm(struct kvm_ioapic_state *to, const struct state_ioapic *s)
{
	*to = (struct kvm_ioapic_state){ .base_address = 0xfec00000, .ioregsel = s->select, .id = s->id >> 24, .irr = s->lines };
	for (unsigned pin = 0; pin < STATE_IOAPIC_PINS; pin++) {
		to->redirtbl[pin].bits = s->rte[pin];
		if (sends_when_high(s->rte[pin]))
			to->irr &= ~(uint32_t)BIT(pin);
	}
}

static void ioapic_from_kvm(struct state_ioapic *s, const struct kvm_ioapic_state *k, uint32_t lines)
{
	*s = (struct state_ioapic){ .id = (k->id & 0xf) << 24, .lines = lines, .select = (uint8_t)k->ioregsel };
	for (unsigned pin = 0; pin < STATE_IOAPIC_PINS; pin++)
		s->rte[pin] = k->redirtbl[pin].bits;
}

/* A counter that has a control word but no count is one that counts from 65536 to the kernel; one without a control word is silent: 0xff is no mode.
 * The kernel names what the next access is: 1 low, 2 high, 3 the low one of two, 4 the high one. */
static uint8_t access_state(const struct state_i8254_counter *c, bool high)
{
	return c->rw < 3 ? c->rw : high ? 4 : 3;
}

static void pit_to_kvm(struct kvm_pit_state2 *to, const struct state_i8254 *s)
{
	*to = (struct kvm_pit_state2){ .flags = s->speaker ? KVM_PIT_FLAGS_SPEAKER_DATA_ON : 0 };
	for (unsigned i = 0; i < 3; i++) {
		const struct state_i8254_counter *c = &s->counter[i];
		to->channels[i] = (struct kvm_pit_channel_state){
			.count = c->reload, .latched_count = c->latch, .count_latched = c->latched, .status_latched = c->status_latched,
			.status = c->status, .read_state = access_state(c, c->read_high), .write_state = access_state(c, c->write_high),
			.write_latch = c->write_low, .rw_mode = c->rw, .mode = c->rw ? c->mode : 0xff,
			.bcd = c->bcd, .gate = c->gate,
		};
	}
}

static void pit_from_kvm(struct state_i8254 *s, const struct kvm_pit_state2 *k)
{
	s->speaker = k->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	for (unsigned i = 0; i < 3; i++) {
		const struct kvm_pit_channel_state *c = &k->channels[i];
		s->counter[i] = (struct state_i8254_counter){
			.reload = c->rw_mode ? MIN(c->count, c->bcd ? 10000u : 65536u) : 0, .latch = c->latched_count, .mode = c->mode <= 5 ? c->mode : 0,
			.rw = c->rw_mode, .latched = c->count_latched, .status = c->status, .write_low = c->write_latch, .bcd = c->bcd,
			.gate = c->gate, .status_latched = c->status_latched, .write_high = c->write_state == 4, .read_high = c->read_state == 4,
		};
	}
}

static int move_msr(struct kvm_vcpu *k, unsigned long request, uint32_t index, uint64_t *value)
{
	union { struct kvm_msrs of; uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)]; } one = { .of.nmsrs = 1 };
	int done;

	one.of.entries[0] = (struct kvm_msr_entry){ .index = index, .data = *value };
	done = kvm_call(k->fd, request, &one);
	*value = one.of.entries[0].data;
	return done < 0 ? done : 0;
}

/* The base first: it decides what the registers mean. It and the task priority are in the shared page, too, and go from there to the kernel with the
 * segments and control registers. Where the timer's mode becomes another one the kernel clears the count that comes with it: so a count is told twice. */
static int lapic_to_kvm(struct kvm_vcpu *k, struct state_lapic *s)
{
	struct kvm_lapic_state page = { 0 };
	int error = move_msr(k, KVM_SET_MSRS, MSR_APIC_BASE, &s->base);

	k->run->s.regs.sregs.apic_base = s->base;
	k->run->s.regs.sregs.cr8 = s->reg[APIC_TPR] >> 4;
	for (unsigned reg = 0; reg < ARRAY_SIZE(s->reg); reg++)
		memcpy(page.regs + 16 * reg, &s->reg[reg], sizeof(s->reg[reg]));
	if (error >= 0)
		error = kvm_call(k->fd, KVM_SET_LAPIC, &page);
	if (error >= 0 && s->reg[APIC_INITIAL_COUNT])
		error = kvm_call(k->fd, KVM_SET_LAPIC, &page);
	return error < 0 ? error : move_msr(k, KVM_SET_MSRS, MSR_TSC_DEADLINE, &s->tsc_deadline);
}

static int lapic_from_kvm(struct kvm_vcpu *k, struct state_lapic *s)
{
	struct kvm_lapic_state page = { 0 };
	int error = move_msr(k, KVM_GET_MSRS, MSR_APIC_BASE, &s->base);

	if (error >= 0)
		error = move_msr(k, KVM_GET_MSRS, MSR_TSC_DEADLINE, &s->tsc_deadline);
	if (error >= 0)
		error = kvm_call(k->fd, KVM_GET_LAPIC, &page);
	for (unsigned reg = 0; reg < ARRAY_SIZE(s->reg); reg++)
		memcpy(&s->reg[reg], page.regs + 16 * reg, sizeof(s->reg[reg]));
	return error;
}

/* --- all of them --- */

static int move_chip(struct kvm_vm *k, unsigned long request, struct kvm_irqchip *chip, uint32_t id)
{
	chip->chip_id = id;
	return kvm_call(k->fd, request, chip);
}

static int to_kvm(struct vm *vm, struct irq_chips *c)
{
	struct kvm_vm *k = kvm_of(vm);
	struct kvm_irqchip chip = { 0 };
	struct kvm_pit_state2 pit;
	int error = 0;

	for (unsigned i = 0; i < 2 && error >= 0; i++) {
		pic_to_kvm(&chip.chip.pic, &c->i8259[i], i);
		error = move_chip(k, KVM_SET_IRQCHIP, &chip, i ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER);
	}
	for (unsigned i = 0; i < vm->config.cpus && error >= 0; i++)
		error = lapic_to_kvm(kvm_vcpu_of(vm->vcpu[i]), &c->lapic[i]);
	ioapic_to_kvm(&chip.chip.ioapic, &c->ioapic);
	if (error >= 0)
		error = move_chip(k, KVM_SET_IRQCHIP, &chip, KVM_IRQCHIP_IOAPIC);
	pit_to_kvm(&pit, &c->i8254);
	return error < 0 ? error : kvm_call(k->fd, KVM_SET_PIT2, &pit);
}

/* Which input of the IOAPIC a line ends at, or -1. */
static int ioapic_pin(struct vm *vm, unsigned gsi)
{
	const struct irq_line *line = &vm->irq.line[gsi];

	for (unsigned s = 0; s < line->sinks; s++)
		if (line->sink[s].device == vm->irq.mover[IRQ_CHIP_IOAPIC].device)
			return (int)line->sink[s].pin;
	return -1;
}

static uint32_t ioapic_lines(struct vm *vm)
{
	uint32_t lines = 0;

	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++) {
		int pin = ioapic_pin(vm, gsi);
		if (pin >= 0 && vm->irq.line[gsi].asserted)
			lines |= (uint32_t)BIT(pin);
	}
	return lines;
}

static int from_kvm(struct vm *vm, struct irq_chips *c)
{
	struct kvm_vm *k = kvm_of(vm);
	struct kvm_irqchip chip = { 0 };
	struct kvm_pit_state2 pit = { 0 };
	int error = 0;

	for (unsigned i = 0; i < 2 && error >= 0; i++) {
		error = move_chip(k, KVM_GET_IRQCHIP, &chip, i ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER);
		pic_from_kvm(&c->i8259[i], &chip.chip.pic);
	}
	for (unsigned i = 0; i < vm->config.cpus && error >= 0; i++)
		error = lapic_from_kvm(kvm_vcpu_of(vm->vcpu[i]), &c->lapic[i]);
	if (error >= 0)
		error = move_chip(k, KVM_GET_IRQCHIP, &chip, KVM_IRQCHIP_IOAPIC);
	ioapic_from_kvm(&c->ioapic, &chip.chip.ioapic, ioapic_lines(vm));
	if (error >= 0)
		error = kvm_call(k->fd, KVM_GET_PIT2, &pit);
	pit_from_kvm(&c->i8254, &pit);
	return error;
}

/* --- lines and messages --- */

static void set_line(struct vm *vm, unsigned gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	kvm_call(kvm_of(vm)->fd, KVM_IRQ_LINE, &line);
}

static void send_message(struct vm *vm, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = { .address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data };

	kvm_call(kvm_of(vm)->fd, KVM_SIGNAL_MSI, &msi);
}

/* The board's wiring, as the lines have it. */
static int set_routing(struct vm *vm)
{
	struct kvm_irq_routing *table = calloc(1, sizeof(*table) + IRQ_LINES * IRQ_SINKS * sizeof(table->entries[0]));
	int error;

	if (!table)
		return -ENOMEM;
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++) {
		for (unsigned s = 0; s < vm->irq.line[gsi].sinks; s++) {
			const struct irq_sink *sink = &vm->irq.line[gsi].sink[s];
			struct kvm_irq_routing_entry *e = &table->entries[table->nr];
			bool pic = sink->device == vm->irq.mover[IRQ_CHIP_I8259].device;
			if (!pic && sink->device != vm->irq.mover[IRQ_CHIP_IOAPIC].device)
				continue;
			e->gsi = gsi;
			e->type = KVM_IRQ_ROUTING_IRQCHIP;
			e->u.irqchip.irqchip = !pic ? KVM_IRQCHIP_IOAPIC : sink->pin < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
			e->u.irqchip.pin = pic ? sink->pin & 7 : sink->pin;
			table->nr++;
		}
	}
	error = kvm_call(kvm_of(vm)->fd, KVM_SET_GSI_ROUTING, table);
	free(table);
	return error;
}

/* --- in and out --- */

/* The kernel remembers the levels from the last time. */
static void set_lines(struct vm *vm, const struct state_ioapic *s)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++) {
		bool level = vm->irq.line[gsi].asserted;
		int pin = ioapic_pin(vm, gsi);
		if (vm->irq.line[gsi].sinks && !(level && pin >= 0 && sends_when_high(s->rte[pin])))
			set_line(vm, gsi, level);
	}
}

static int put(struct vm *vm, struct irq_chips *chips)
{
	int error = set_routing(vm);

	if (error >= 0)
		error = to_kvm(vm, chips);
	if (error >= 0)
		set_lines(vm, &chips->ioapic);
	return MIN(error, 0);
}

static int fetch(struct vm *vm, struct irq_chips *chips)
{
	return MIN(from_kvm(vm, chips), 0);
}

static void home(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);
	int error;

	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_state(vm->vcpu[i], X86_ALL_GROUPS);
	error = irq_give(vm);
	if (error)
		vm_kill(vm, "the kernel does not give the interrupt chips back: %s", strerror(-error));
	k->chips_inside = false;
	k->chips_out_until = kvm_now() + OUT_NS;
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		vm->vcpu[i]->waits_inside = false;
		vcpu_changed(vm->vcpu[i], X86_EVENTS | X86_SEGMENTS); /* so that the engine is chosen anew */
		vcpu_kick(vm->vcpu[i]);
	}
}

static const struct irq_elsewhere elsewhere = { .put = put, .fetch = fetch, .line = set_line, .message = send_message, .home = home };

static void go_in(struct vm *vm)
{
	struct kvm_vm *k = kvm_of(vm);
	int error = irq_take(vm, &elsewhere);

	if (error)
		vm_kill(vm, "the kernel does not take the interrupt chips: %s", strerror(-error));
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_state(vm->vcpu[i], X86_EVENTS);
	k->chips_inside = true;
	k->chips_moves++;
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		vcpu_changed(vm->vcpu[i], X86_EVENTS);
		vm->vcpu[i]->waits_inside = true;
		vcpu_kick(vm->vcpu[i]);
	}
}

bool kvm_chips_in(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct kvm_vm *k = kvm_of(vm);

	if (k->chips_inside)
		return true;
	if (kvm_now() < k->chips_out_until || !irq_all_movable(vm))
		return false;
	vcpu_stop_all(vm);
	if (!k->chips_inside && !vm->end)
		go_in(vm);
	vcpu_resume_all(vm);
	return k->chips_inside && vm->engine == &kvm_engine; /* another may have come in the meantime */
}

void kvm_chips_out(struct vm *vm)
{
	if (!kvm_of(vm)->chips_inside)
		return;
	vcpu_stop_all(vm);
	irq_home(vm);
	vcpu_resume_all(vm);
}
