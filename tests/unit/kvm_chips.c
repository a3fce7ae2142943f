/* SPDX-License-Identifier: MIT */
/* The KVM engine's interrupt chips: what a program set up in the devices goes into the kernel and comes back the same; lines and messages that
 * come meanwhile reach the kernel's chips. Skipped where /dev/kvm cannot be used. */
#include "engine/kvm/kvm.h"
#include "device/lapic.h"
#include "machine.h"

#define LAPIC 0xfee00000ULL
#define IOAPIC 0xfec00000ULL
#define CPUS 2

static struct irq_pin serial, disk;

static const struct lapic_config wire = { .virtual_wire = true };
static const struct device_place places[] = {
	{ .class = &i8259_class, .name = "pic", .irq = -1 },
	{ .class = &lapic_class, .name = "lapic", .base = LAPIC, .irq = -1, .config = &wire },
	{ .class = &ioapic_class, .name = "ioapic", .base = IOAPIC, .irq = -1 },
	{ .class = &i8254_class, .name = "pit", .base = 0x40, .irq = 0 },
};

static struct vm *kernel_machine(void)
{
	struct vm_config config = { .name = "test", .engine = "kvm", .engine_options = "irqchip=kernel,modes=all", .memory = 64 * MiB, .cpus = CPUS };
	struct vm *vm;

	config.model = x86_model_find("v2");
	if (vm_create(&vm, &config))
		return NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
		if (!device_create(vm, &places[i]))
			return NULL;
	for (unsigned gsi = 0; gsi < 24; gsi++) {
		if (gsi < 16 && gsi != 2)
			irq_connect(vm, gsi, device_find(vm, "pic"), i8259_set, gsi);
		if (gsi != 2)
			irq_connect(vm, gsi, device_find(vm, "ioapic"), ioapic_set, gsi ? gsi : 2);
	}
	device_reset_all(vm, RESET_COLD);
	irq_pin_init(&serial, vm, 4);
	irq_pin_init(&disk, vm, 11);
	return vm;
}

static uint32_t lapic_reg(struct vm *vm, unsigned reg)
{
	return (uint32_t)bus_read(vm, BUS_MEMORY, LAPIC + 16 * reg, 4);
}

static uint32_t ioapic_reg(struct vm *vm, unsigned index)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	return (uint32_t)bus_read(vm, BUS_MEMORY, IOAPIC + 0x10, 4);
}

static void ioapic_set_reg(struct vm *vm, unsigned index, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x10, 4, value);
}

static void set_up(struct vm *vm)
{
	static const struct { uint16_t port; uint8_t value; } pic[] = {
		{ 0x20, 0x11 }, { 0x21, 0x30 }, { 0x21, 0x04 }, { 0x21, 0x01 }, { 0x21, 0xea }, /* vectors from 30h; 0, 2 and 4 open */
		{ 0xa0, 0x11 }, { 0xa1, 0x38 }, { 0xa1, 0x02 }, { 0xa1, 0x01 }, { 0xa1, 0xf7 }, /* 11 open */
		{ 0x4d1, 0x08 }, /* 11 is level-triggered */
		{ 0x43, 0xb6 }, { 0x42, 0x34 }, { 0x42, 0x12 }, { 0x61, 0x01 }, /* counter 2: square wave of 1234h */
	};

	for (unsigned i = 0; i < ARRAY_SIZE(pic); i++)
		out8(vm, pic[i].port, pic[i].value);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_SVR, 4, SVR_ENABLED | 0xef);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_TPR, 4, 0x20);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_LDR, 4, 0x01000000);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * (APIC_LVT + LVT_ERROR), 4, 0xfe);
	bus_write(vm, BUS_MEMORY, LAPIC + 16 * APIC_DIVIDE, 4, 0x0b);
	ioapic_set_reg(vm, 0x10 + 2 * 10, 0x0001a05a); /* masked, level, vector 5Ah */
	ioapic_set_reg(vm, 0x10 + 2 * 10 + 1, 0x01000000);
	ioapic_set_reg(vm, 0x10 + 2 * 9, 0x00000061);  /* open, edge, vector 61h */
}

static void compare(struct vm *vm, const char *when)
{
	static const struct { unsigned reg; uint32_t value; const char *name; } lapic[] = {
		{ APIC_SVR, SVR_ENABLED | 0xef, "SVR" }, { APIC_TPR, 0x20, "TPR" }, { APIC_LDR, 0x01000000, "LDR" },
		{ APIC_LVT + LVT_ERROR, 0xfe, "LVT error" }, { APIC_DIVIDE, 0x0b, "divide configuration" }, { APIC_DFR, 0xffffffff, "DFR" },
	};

	ok(in8(vm, 0x21) == 0xea && in8(vm, 0xa1) == 0xf7, "%s: the masks of the 8259s", when);
	ok(in8(vm, 0x4d1) == 0x08, "%s: ELCR", when);
	for (unsigned i = 0; i < ARRAY_SIZE(lapic); i++)
		ok(lapic_reg(vm, lapic[i].reg) == lapic[i].value, "%s: the local APIC's %s (%#x)", when, lapic[i].name, lapic_reg(vm, lapic[i].reg));
	ok(ioapic_reg(vm, 0x10 + 2 * 10) == 0x0001a05a && ioapic_reg(vm, 0x11 + 2 * 10) == 0x01000000, "%s: an entry of the IOAPIC", when);
	out8(vm, 0x43, 0xe8); /* read back the status of counter 2 */
	ok((in8(vm, 0x42) & 0x3f) == 0x36, "%s: counter 2 is a square wave", when);
	ok(in8(vm, 0x61) & 1, "%s: its gate is open", when);
}

/* --- random states --- */

#define STATES 300
#define PINS 24
#define RTE_BITS 0xff0000000001afffULL /* 82093AA 3.2.4, but for the status bits */
#define RTE_LEVEL BIT(15)
#define RTE_MASKED BIT(16)
#define RTE_REMOTE_IRR BIT(14)
#define FAR BIT(42)                    /* TSC: longer than this test takes */

static uint64_t random_state;

static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	return random_state ^= random_state << 17;
}

static void any_8259(struct state_i8259 *s, unsigned chip, uint8_t lines)
{
	static const uint8_t elcr[] = { 0xf8, 0xde };
	static const uint8_t icw[] = { 0, 0, 0, 2, 3, 4 };
	uint8_t rest = (uint8_t)any();

	*s = (struct state_i8259){
		.lines = lines, .imr = (uint8_t)any(), .isr = (uint8_t)any(), .elcr = elcr[chip] & (uint8_t)any(),
		.base = (uint8_t)any() & 0xf8, .icw4 = 1 | (any() & 0x12), .next_icw = icw[any() % ARRAY_SIZE(icw)], .lowest = any() & 7,
		.want_icw4 = rest & 1, .rotate_aeoi = rest & 2, .special_mask = rest & 4, .read_isr = rest & 8, .poll = rest & 16,
	};
	s->edge = (uint8_t)any() & lines & ~s->elcr;
}

/* A level-triggered input that asks has been answered: else the IOAPIC would do it now. */
static void any_ioapic(struct state_ioapic *s, uint32_t lines)
{
	*s = (struct state_ioapic){ .id = (any() & 0xf) << 24, .lines = lines, .select = (uint8_t)any() };
	for (unsigned pin = 0; pin < PINS; pin++) {
		uint64_t rte = (any() & RTE_BITS & ~0x700ULL) | (any() & 1 ? RTE_MASKED : 0) | 0x10;
		if ((rte & RTE_LEVEL) && (any() & 1 || (!(rte & RTE_MASKED) && lines >> pin & 1)))
			rte |= RTE_REMOTE_IRR;
		s->rte[pin] = rte;
	}
}

/* The timer is far from its end, in each of its modes. */
static void any_timer(struct vm *vm, struct state_lapic *s)
{
	unsigned mode = any() % 3;

	s->reg[APIC_LVT + LVT_TIMER] = (any() & 0x100ff) | 0x10 | mode << LVT_TIMER_SHIFT;
	s->reg[APIC_DIVIDE] = any() & 0xb;
	if (mode == TIMER_TSC_DEADLINE) {
		s->tsc_deadline = any() & 1 ? clock_tsc(vm) + FAR + (any() & 0xffffff) : 0;
	} else if (any() & 3) {
		s->reg[APIC_INITIAL_COUNT] = (uint32_t)any() | 0xc0000000;
		s->reg[APIC_CURRENT_COUNT] = s->reg[APIC_INITIAL_COUNT] - (any() & 0xfffff);
	}
}

static void any_lapic(struct vm *vm, struct state_lapic *s, unsigned cpu)
{
	static const uint32_t local[] = { 0x000, 0x400, 0x700 }; /* fixed, NMI, ExtINT */
	bool enabled = any() & 7, x2apic = any() & 1;

	*s = (struct state_lapic){ .base = LAPIC | APIC_BASE_ENABLE | (cpu ? 0 : APIC_BASE_BSP) | (x2apic ? APIC_BASE_X2APIC : 0) };
	s->reg[APIC_ID] = cpu << 24;
	s->reg[APIC_TPR] = any() & 0xf0; /* what CR8 has: the kernel drops the rest whenever it takes the control registers */
	s->reg[APIC_LDR] = x2apic ? 1u << cpu : (uint32_t)any() & 0xff000000;
	s->reg[APIC_DFR] = any() & 1 ? 0xffffffff : 0x0fffffff;
	s->reg[APIC_SVR] = (any() & 0xff) | (enabled ? SVR_ENABLED : 0);
	for (unsigned n = 0; n < 8; n++) {
		uint32_t mask = n ? ~0u : 0xffff0000;
		s->reg[APIC_IRR + n] = (uint32_t)(any() & any()) & mask;
		s->reg[APIC_ISR + n] = (uint32_t)(any() & any() & any()) & mask;
		s->reg[APIC_TMR + n] = (uint32_t)any() & mask;
	}
	s->reg[APIC_ESR] = any() & 0xe0;
	s->reg[APIC_ICR] = any() & 0xccfff;
	s->reg[APIC_ICR_HIGH] = x2apic ? (uint32_t)any() : (uint32_t)any() & 0xff000000;
	any_timer(vm, s);
	for (unsigned n = LVT_THERMAL; n <= LVT_ERROR; n++)
		s->reg[APIC_LVT + n] = (any() & 0x100ff) | 0x10;
	for (unsigned n = LVT_LINT0; n <= LVT_LINT1; n++)
		s->reg[APIC_LVT + n] |= local[any() % ARRAY_SIZE(local)] | (any() & 0xa000);
	for (unsigned n = 0; n < LVT_COUNT && !enabled; n++)
		s->reg[APIC_LVT + n] |= LVT_MASKED;
}

/* Counter 0 waits for its gate, which never moves, or for a control word: else it would tick. */
static void any_8254(struct state_i8254 *s)
{
	*s = (struct state_i8254){ .speaker = any() & 1 };
	for (unsigned n = 0; n < 3; n++) {
		bool bcd = any() & 1;
		s->counter[n] = (struct state_i8254_counter){
			.reload = 1 + any() % (bcd ? 10000 : 65536), .mode = n ? any() % 6 : 5, .rw = 1 + any() % 3, .bcd = bcd,
			.latch = (uint16_t)any(), .latched = any() % 3, .status = (uint8_t)any(), .status_latched = any() & 1,
			.write_low = (uint8_t)any(), .gate = n < 2 || any() & 1,
		};
		if (any() % 4 == 0)
			s->counter[n] = (struct state_i8254_counter){ .gate = n != 2 }; /* as it was switched on */
		s->counter[n].write_high = s->counter[n].rw == 3 && any() & 1;
		s->counter[n].read_high = s->counter[n].rw == 3 && any() & 1;
	}
}

static struct irq_pin inputs[PINS];

/* The devices that drive the lines do it first. */
static void any_chips(struct vm *vm, struct irq_chips *c)
{
	uint32_t lines = 0;

	for (unsigned gsi = 0; gsi < PINS; gsi++) {
		bool level = gsi != 2 && any() & 1;
		irq_set(&inputs[gsi], level);
		lines |= level ? BIT(gsi) : 0;
	}
	any_8259(&c->i8259[0], 0, lines & 0xff);
	any_8259(&c->i8259[1], 1, lines >> 8 & 0xff);
	any_ioapic(&c->ioapic, (lines & ~1u) | (lines & 1 ? BIT(2) : 0));
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		any_lapic(vm, &c->lapic[cpu], cpu);
	any_8254(&c->i8254);
}

static void give(struct vm *vm, const struct irq_chips *c)
{
	for (unsigned chip = 0; chip < IRQ_CHIPS; chip++)
		vm->irq.mover[chip].give(vm->irq.mover[chip].device, c);
}

static void take(struct vm *vm, struct irq_chips *c)
{
	for (unsigned chip = 0; chip < IRQ_CHIPS; chip++)
		vm->irq.mover[chip].take(vm->irq.mover[chip].device, c);
}

static unsigned differ;

static void same(uint64_t got, uint64_t want, uint64_t number, const char *what, unsigned index)
{
	if (got != want && differ++ < 20)
		printf("state %#lx: %s %u is %#lx, not %#lx\n", number, what, index, got, want);
}
#define SAME(member, what, index) same(got->member, want->member, number, what, index)

static void same_8259(const struct state_i8259 *got, const struct state_i8259 *want, uint64_t number, unsigned chip)
{
	SAME(lines, "8259: lines of", chip), SAME(edge, "8259: edges of", chip), SAME(imr, "8259: IMR of", chip), SAME(isr, "8259: ISR of", chip);
	SAME(elcr, "8259: ELCR of", chip), SAME(base, "8259: ICW2 of", chip), SAME(icw4, "8259: ICW4 of", chip);
	SAME(next_icw, "8259: next word of", chip), SAME(lowest, "8259: lowest priority of", chip), SAME(want_icw4, "8259: IC4 of", chip);
	SAME(rotate_aeoi, "8259: rotation of", chip), SAME(special_mask, "8259: special mask of", chip);
	SAME(read_isr, "8259: RIS of", chip), SAME(poll, "8259: poll of", chip);
}

static void same_8254(const struct state_i8254_counter *got, const struct state_i8254_counter *want, uint64_t number, unsigned n)
{
	SAME(reload, "8254: count", n), SAME(latch, "8254: latch", n), SAME(mode, "8254: mode", n), SAME(rw, "8254: RW", n), SAME(bcd, "8254: BCD", n);
	SAME(latched, "8254: latched", n), SAME(status, "8254: status", n), SAME(status_latched, "8254: status latched", n);
	SAME(write_low, "8254: byte written", n), SAME(write_high, "8254: high byte due", n), SAME(read_high, "8254: high byte next", n);
	SAME(gate, "8254: gate", n);
}

/* The count of the timer is less by the time that went by. */
static void same_lapic(const struct state_lapic *got, const struct state_lapic *want, uint64_t number, unsigned cpu, uint64_t ns)
{
	uint32_t went = want->reg[APIC_CURRENT_COUNT] - got->reg[APIC_CURRENT_COUNT];

	SAME(base, "IA32_APIC_BASE", cpu), SAME(tsc_deadline, "IA32_TSC_DEADLINE", cpu);
	for (unsigned reg = 0; reg < ARRAY_SIZE(got->reg); reg++)
		if (reg != APIC_CURRENT_COUNT)
			same(got->reg[reg], want->reg[reg], number, cpu ? "second local APIC: register" : "local APIC: register", reg);
	same(went <= ns, true, number, "local APIC: so much time went by", went);
}

static void same_chips(const struct irq_chips *got, const struct irq_chips *want, uint64_t number, uint64_t ns)
{
	for (unsigned n = 0; n < 2; n++)
		same_8259(&got->i8259[n], &want->i8259[n], number, n);
	SAME(ioapic.id, "IOAPIC: ID", 0), SAME(ioapic.lines, "IOAPIC: lines", 0), SAME(ioapic.select, "IOAPIC: IOREGSEL", 0);
	for (unsigned n = 0; n < PINS; n++)
		SAME(ioapic.rte[n], "IOAPIC: entry", n);
	for (unsigned n = 0; n < CPUS; n++)
		same_lapic(&got->lapic[n], &want->lapic[n], number, n, ns);
	for (unsigned n = 0; n < 3; n++)
		same_8254(&got->i8254.counter[n], &want->i8254.counter[n], number, n);
	SAME(i8254.speaker, "port 61h", 0);
}

/* What a processor does between instructions is the kernel's, too, while the chips are there. */
static void hold(struct vm *vm, uint8_t *activity)
{
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		struct vcpu *vcpu = vm->vcpu[cpu];
		vcpu->core.cpu.activity = activity[cpu];
		vcpu->core.cpu.gpr[X86_GPR_RIP] = 0x100; /* at the reset vector the kernel takes a processor for one that runs */
		kvm_engine.load_state(vcpu, X86_ALL_GROUPS);
		kvm_vcpu_of(vcpu)->completion = true; /* an entry that runs nothing: what comes back is the kernel's */
		vcpu->held = X86_ALL_GROUPS;
		vcpu->changed = 0;
		vcpu->core.cpu.activity = X86_SHUTDOWN;
	}
}

static void test_random(struct vm *vm)
{
	static const uint8_t activities[] = { X86_RUNNING, X86_HALTED, X86_WAIT_SIPI };
	struct state_lapic lapic[2][CPUS];
	struct irq_chips before = { .lapic = lapic[0] }, after = { .lapic = lapic[1] };
	unsigned moved = 0;

	random_state = 0x9e3779b97f4a7c15ULL;
	irq_set(&serial, false);
	irq_set(&disk, false);
	for (unsigned gsi = 0; gsi < PINS; gsi++)
		irq_pin_init(&inputs[gsi], vm, gsi);
	for (unsigned n = 0; n < STATES; n++) {
		uint64_t number = random_state, began;
		uint8_t activity[CPUS];
		any_chips(vm, &before);
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			activity[cpu] = activities[any() % ARRAY_SIZE(activities)];
		give(vm, &before);
		began = clock_now(vm);
		take(vm, &before); /* as the devices have it */
		give(vm, &before);
		kvm_of(vm)->chips_out_until = 0;
		moved += kvm_chips_in(vm->vcpu[0]);
		hold(vm, activity);
		kvm_chips_out(vm);
		take(vm, &after);
		same_chips(&after, &before, number, clock_now(vm) - began);
		for (unsigned cpu = 0; cpu < CPUS; cpu++)
			same(vm->vcpu[cpu]->core.cpu.activity, activity[cpu], number, "activity of processor", cpu);
	}
	ok(moved == STATES && !differ, "%u random states of all chips and processors go in and come out the same (%u differences)", moved, differ);
}

int main(void)
{
	struct engine_report report = { 0 };
	struct vm *vm;
	uint64_t base;

	kvm_engine.probe(&report);
	if (!report.usable) {
		skip("kvm - %s", report.why);
		return done();
	}
	vm = kernel_machine();
	if (!vm) {
		ok(false, "a machine with the chips in the kernel");
		return done();
	}
	set_up(vm);
	compare(vm, "set up");
	irq_set(&disk, true);
	ok(kvm_chips_in(vm->vcpu[0]), "the chips go into the kernel");
	ok(vm->irq.elsewhere && vm->vcpu[1]->waits_inside && !vm->vcpu[0]->intr_pending, "the devices stand still");
	irq_set(&serial, true);
	irq_message(vm, 0xfee00000, 0x0072);
	kvm_chips_out(vm);
	ok(!vm->irq.elsewhere && !vm->vcpu[1]->waits_inside, "the chips come out");
	compare(vm, "after the way through the kernel");
	out8(vm, 0x20, 0x0a);
	out8(vm, 0xa0, 0x0a);
	ok((in8(vm, 0x20) & 0x10) && (in8(vm, 0xa0) & 0x08), "a line that rose inside, and one that was high before, are requests of the 8259s");
	ok(lapic_reg(vm, APIC_IRR + 0x72 / 32) & 1u << 0x72 % 32, "a message that was sent inside is a request of the local APIC");
	ok(!(lapic_reg(vm, APIC_IRR + 0x61 / 32) & 1u << 0x61 % 32), "what was not raised is not");
	kvm_of(vm)->chips_out_until = UINT64_MAX;
	ok(!kvm_chips_in(vm->vcpu[0]), "they do not go in again before their time");
	ok(vm->irq.controller->rdmsr(vm->irq.controller_device, vm->vcpu[1], MSR_APIC_BASE, &base) && base == (LAPIC | APIC_BASE_ENABLE),
	   "IA32_APIC_BASE of the second processor");
	ok(vm->vcpu[1]->core.cpu.activity == X86_WAIT_SIPI, "which still waits to be started");
	test_random(vm);
	vm_destroy(vm);
	return done();
}
