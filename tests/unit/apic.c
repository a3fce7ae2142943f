/* SPDX-License-Identifier: MIT */
/* Local APICs and the I/O APIC against the SDM (3A chapter 10) and the 82093AA datasheet, with the 8259 behind
 * LINT0. */
#include "device/lapic.h"
#include "machine.h"

#define CPUS 4
#define LAPIC 0xfee00000ULL
#define IOAPIC 0xfec00000ULL
static const struct lapic_config wire = { .virtual_wire = true };
static const struct ioapic_config ioapic_config = { .id = CPUS };
static const struct device_place places[] = {
	{ .class = &i8259_class, .name = "pic", .irq = -1 },
	{ .class = &lapic_class, .name = "lapic", .base = LAPIC, .irq = -1, .config = &wire },
	{ .class = &ioapic_class, .name = "ioapic", .base = IOAPIC, .irq = -1, .config = &ioapic_config },
};
static struct vm *vm;
static struct device *ioapic;

static struct vm *build(void)
{
	return machine(CPUS, places, 3);
}

static void enter(struct vm *v)
{
	vm = v;
	ioapic = device_find(vm, "ioapic");
}

static uint32_t rd(unsigned reg)
{
	return bus_read(vm, BUS_MEMORY, LAPIC + reg * 16, 4);
}

static void wr(unsigned reg, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, LAPIC + reg * 16, 4, value);
}

static bool rdmsr(unsigned cpu, uint32_t index, uint64_t *value)
{
	return vm->irq.controller->rdmsr(vm->irq.controller_device, vm->vcpu[cpu], index, value);
}

static uint64_t msr(unsigned cpu, uint32_t index)
{
	uint64_t value = ~0ULL;
	rdmsr(cpu, index, &value);
	return value;
}

static bool wrmsr(unsigned cpu, uint32_t index, uint64_t value)
{
	return vm->irq.controller->wrmsr(vm->irq.controller_device, vm->vcpu[cpu], index, value);
}

static int take(unsigned cpu)
{
	return vm->irq.controller->acknowledge(vm->irq.controller_device, vm->vcpu[cpu]);
}

static bool asked(unsigned cpu)
{
	return vm->vcpu[cpu]->intr_pending;
}

/* The test's thread is no processor, so it sees the boot processor's registers by MMIO. The others are set up
 * through their state. */
static struct lapic_cpu *state(unsigned cpu)
{
	return &lapic_of(vm->irq.controller_device)->cpu[cpu];
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	enter(build());
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		state(cpu)->svr = 0x1ff;
}

static void eoi(unsigned cpu)
{
	if (cpu)
		state(cpu)->base |= APIC_BASE_X2APIC, wrmsr(cpu, 0x80b, 0), state(cpu)->base &= ~APIC_BASE_X2APIC;
	else
		wr(APIC_EOI, 0);
}

static void message(uint64_t address, uint32_t data)
{
	vm->irq.controller->message(vm->irq.controller_device, LAPIC | address, data);
}

static void io_wr(unsigned index, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x10, 4, value);
}

static uint32_t io_rd(unsigned index)
{
	bus_write(vm, BUS_MEMORY, IOAPIC, 4, index);
	return bus_read(vm, BUS_MEMORY, IOAPIC + 0x10, 4);
}

static void redirect(unsigned pin, uint32_t low, uint32_t high)
{
	io_wr(0x11 + 2 * pin, high);
	io_wr(0x10 + 2 * pin, low);
}

static void registers(void)
{
	if (vm)
		vm_destroy(vm);
	enter(build());
	ok(rd(APIC_ID) == 0 && rd(APIC_VERSION) == 0x01050014, "lapic: ID and version");
	ok(rd(APIC_SVR) == 0x10f && rd(APIC_LVT + LVT_LINT0) == 0x700 && rd(APIC_LVT + LVT_LINT1) == 0x400,
	   "lapic: virtual wire mode");
	ok(state(1)->svr == 0xff && state(1)->lvt[LVT_LINT0] == 0x10000, "lapic: the others are as after power-up");
	ok(rd(APIC_DFR) == 0xffffffff && rd(APIC_LDR) == 0 && rd(APIC_TPR) == 0 && rd(APIC_PPR) == 0,
	   "lapic: registers after reset");
	wr(APIC_LDR, 0x12345678);
	wr(APIC_DFR, 0x0fffffff);
	wr(APIC_TPR, 0x1ab);
	ok(rd(APIC_LDR) == 0x12000000 && rd(APIC_DFR) == 0x0fffffff && rd(APIC_TPR) == 0xab && rd(APIC_PPR) == 0xab,
	   "lapic: LDR, DFR, TPR");
	wr(APIC_SVR, 0xffffffff);
	ok(rd(APIC_SVR) == 0x11ff, "lapic: SVR");
	wr(APIC_LVT + LVT_TIMER, 0xffffffff);
	wr(APIC_LVT + LVT_LINT1, 0xffffffff);
	wr(APIC_LVT + LVT_ERROR, 0xffffffff);
	ok(rd(APIC_LVT) == 0x700ff && rd(APIC_LVT + LVT_LINT1) == 0x1a7ff && rd(APIC_LVT + LVT_ERROR) == 0x100ff,
	   "lapic: LVT bits");
	wr(APIC_LVT + LVT_ERROR, 0xfe);
	wr(APIC_SVR, 0xff);
	ok(rd(APIC_LVT + LVT_ERROR) == 0x100fe, "lapic: disabling it masks the LVT");
	wr(APIC_LVT + LVT_ERROR, 0xfd);
	ok(rd(APIC_LVT + LVT_ERROR) == 0x100fd, "lapic: and the masks cannot be cleared");
	wr(APIC_SVR, 0x1ff);
	wr(APIC_TPR, 0);
	wr(APIC_LVT + LVT_ERROR, 0xfe);
	ok(rd(0x05) == 0 && asked(0) && take(0) == 0xfe, "lapic: an illegal register interrupts");
	ok(rd(APIC_ESR) == 0, "lapic: ESR shows nothing before it is written");
	wr(APIC_ESR, 0);
	ok(rd(APIC_ESR) == 0x80, "lapic: then the error");
	wr(APIC_EOI, 0);
	wr(APIC_ICR, 0x4f | 1 << 18);
	wr(APIC_ICR, 0x0f | 1 << 18);
	wr(APIC_ESR, 0);
	ok(rd(APIC_ESR) == 0x20, "lapic: sending an illegal vector");
	message(0, 0x05);
	wr(APIC_ESR, 0);
	ok(rd(APIC_ESR) == 0x40, "lapic: receiving one");
	wr(APIC_ESR, 0);
	ok(rd(APIC_ESR) == 0, "lapic: ESR is cleared");
}

static void priorities(void)
{
	fresh();
	message(0, 0x31);
	message(0, 0x45);
	message(0, 0x41);
	ok(rd(APIC_IRR + 1) == 0x20000 && rd(APIC_IRR + 2) == 0x22 && asked(0), "lapic: IRR");
	ok(take(0) == 0x45 && rd(APIC_ISR + 2) == 0x20 && rd(APIC_PPR) == 0x40 && !asked(0),
	   "lapic: the highest; its class holds the rest off");
	ok(take(0) == -1, "lapic: nothing for now");
	message(0, 0x51);
	ok(take(0) == 0x51 && rd(APIC_PPR) == 0x50, "lapic: a higher class nests");
	wr(APIC_EOI, 0);
	wr(APIC_EOI, 0);
	ok(asked(0) && take(0) == 0x41, "lapic: after EOI the next");
	wr(APIC_EOI, 0);
	wr(APIC_TPR, 0x30);
	ok(!asked(0) && take(0) == -1, "lapic: TPR holds its class off");
	vm->irq.controller->cr8_write(vm->irq.controller_device, vm->vcpu[0], 2);
	ok(rd(APIC_TPR) == 0x20 && vm->irq.controller->cr8_read(vm->irq.controller_device, vm->vcpu[0]) == 2,
	   "lapic: CR8 is TPR");
	ok(asked(0) && take(0) == 0x31, "lapic: and lets it through");
	wr(APIC_EOI, 0);
	wr(APIC_EOI, 0);
	wr(APIC_TPR, 0);
	message(0, 0x61);
	message(0, 0x61);
	ok(take(0) == 0x61, "lapic: two of the same vector are one");
	message(0, 0x61);
	wr(APIC_EOI, 0);
	ok(take(0) == 0x61, "lapic: but one more while it is in service");
	wr(APIC_EOI, 0);
	message(0, 0x61);
	wr(APIC_SVR, 0xff);
	message(0, 0x62);
	ok(take(0) == 0x61 && take(0) == -1 && rd(APIC_IRR + 3) == 0,
	   "lapic: disabled, it keeps what it has and takes no more");
}

static void destinations(void)
{
	fresh();
	message(2 << 12, 0x50);
	ok(take(2) == 0x50 && !asked(0) && !asked(1) && !asked(3), "lapic: physical");
	eoi(2);
	message(0xff << 12, 0x51);
	ok(take(0) == 0x51 && take(1) == 0x51 && take(2) == 0x51 && take(3) == 0x51, "lapic: broadcast");
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		eoi(cpu);
		state(cpu)->ldr = 1u << (24 + cpu);
	}
	message(0x0a << 12 | 4, 0x52);
	ok(take(1) == 0x52 && take(3) == 0x52 && !asked(0) && !asked(2), "lapic: logical, flat");
	eoi(1), eoi(3);
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		state(cpu)->dfr = 0x0fffffff;
		state(cpu)->ldr = (cpu / 2) << 28 | 1u << (24 + cpu % 2);
	}
	message(0x13 << 12 | 4, 0x53);
	ok(take(2) == 0x53 && take(3) == 0x53 && !asked(0) && !asked(1), "lapic: logical, cluster");
	eoi(2), eoi(3);
	state(0)->tpr = 0x20;
	state(1)->tpr = 0x10;
	state(2)->tpr = 0x30;
	state(3)->tpr = 0x10;
	message(0xff << 12, 0x154);
	message(0xff << 12, 0x155);
	bool first = asked(1) && asked(3) && !asked(0) && !asked(2);
	ok(first && take(1) == 0x54 && take(3) == 0x55, "lapic: lowest priority, in turns among equals");
	eoi(1), eoi(3);
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		state(cpu)->tpr = 0;
	message(0xff << 12 | 8, 0x56);
	ok(asked(0) + asked(1) + asked(2) + asked(3) == 1, "lapic: the redirection hint is lowest priority");
	fresh();
	message(1 << 12, 0x400);
	ok(vm->vcpu[1]->nmi_pending && !vm->vcpu[0]->nmi_pending, "lapic: NMI");
	message(1 << 12, 0x8000 | 0x57);
	ok(!asked(1), "lapic: de-assert of a level is nothing");
}

static void ipis(void)
{
	fresh();
	wr(APIC_ICR_HIGH, 3 << 24);
	wr(APIC_ICR, 0x4040);
	ok(take(3) == 0x40 && rd(APIC_ICR) == 0x4040 && rd(APIC_ICR_HIGH) == 3 << 24, "lapic: IPI");
	wr(APIC_ICR, 0x40041);
	ok(take(0) == 0x41, "lapic: shorthand self");
	wr(APIC_EOI, 0);
	wr(APIC_ICR, 0x80042);
	ok(take(0) == 0x42 && take(1) == 0x42, "lapic: shorthand all");
	wr(APIC_EOI, 0);
	wr(APIC_ICR, 0xc0062);
	ok(!asked(0) && take(1) == 0x62 && take(2) == 0x62 && take(3) == 0x62, "lapic: shorthand all but self");
	state(1)->tpr = 0x55;
	wr(APIC_ICR_HIGH, 1 << 24);
	wr(APIC_ICR, 0x4500);
	ok(vm->vcpu[1]->init_pending && state(1)->svr != 0xff, "lapic: INIT waits for the processor");
	vm->irq.controller->init(vm->irq.controller_device, vm->vcpu[1]);
	ok(state(1)->svr == 0xff && state(1)->tpr == 0 && lapic_enabled(state(1)),
	   "lapic: INIT resets the other's");
	vm->vcpu[1]->init_pending = false;
	wr(APIC_ICR, 0x8500);
	ok(!vm->vcpu[1]->init_pending, "lapic: INIT de-assert is nothing");
	wr(APIC_ICR, 0x4699);
	ok(vm->vcpu[1]->sipi_vector == 0x99, "lapic: startup");
	wr(APIC_ICR, 0xc4400);
	ok(vm->vcpu[2]->nmi_pending && vm->vcpu[3]->nmi_pending && !vm->vcpu[0]->nmi_pending,
	   "lapic: NMI to all others");
}

#define ELSEWHERE 0xfed80000ULL

static uint32_t at_place(uint64_t place, unsigned reg)
{
	return (uint32_t)bus_read(vm, BUS_MEMORY, place + reg * 16, 4);
}

static void moved(void)
{
	fresh();
	wr(APIC_TPR, 0x50);
	ok(wrmsr(0, MSR_APIC_BASE, ELSEWHERE | 0x900) && at_place(ELSEWHERE, APIC_TPR) == 0x50 && rd(APIC_TPR) == 0xffffffff,
	   "base: the registers move");
	bus_write(vm, BUS_MEMORY, ELSEWHERE + APIC_TPR * 16, 4, 0x30);
	ok(at_place(ELSEWHERE, APIC_TPR) == 0x30 && msr(0, MSR_APIC_BASE) == (ELSEWHERE | 0x900), "base: and are written there");
	for (unsigned n = 1; n < 40; n++)
		wrmsr(0, MSR_APIC_BASE, (ELSEWHERE + n * 0x1000) | 0x900);
	ok(at_place(ELSEWHERE + 39 * 0x1000, APIC_TPR) == 0x30 && at_place(ELSEWHERE, APIC_TPR) == 0xffffffff, "base: as often as one likes");
	ok(wrmsr(0, MSR_APIC_BASE, LAPIC | 0x900) && rd(APIC_TPR) == 0x30, "base: and back");
	wrmsr(0, MSR_APIC_BASE, ELSEWHERE | 0x900);
	device_reset_all(vm, RESET_COLD);
	ok(rd(APIC_TPR) == 0 && at_place(ELSEWHERE, APIC_TPR) == 0xffffffff, "base: a reset puts them where they were");
}

static void x2apic(void)
{
	uint64_t value;
	fresh();
	ok(msr(0, MSR_APIC_BASE) == (LAPIC | 0x900) && msr(1, MSR_APIC_BASE) == (LAPIC | 0x800),
	   "x2apic: IA32_APIC_BASE");
	ok(!rdmsr(0, 0x802, &value) && !wrmsr(0, 0x80b, 0), "x2apic: its MSRs do not exist in xAPIC mode");
	ok(!wrmsr(0, MSR_APIC_BASE, LAPIC | 0x500) && !wrmsr(0, MSR_APIC_BASE, LAPIC | 0x901) && !wrmsr(0,
		MSR_APIC_BASE, 1ULL << 62 | 0x900),
	   "x2apic: EXTD without EN, and reserved bits");
	for (unsigned cpu = 0; cpu < CPUS; cpu++)
		ok(wrmsr(cpu, MSR_APIC_BASE, LAPIC | 0xc00 | (cpu ? 0 : 0x100)), "x2apic: cpu%u goes there", cpu);
	ok(msr(3, 0x802) == 3 && msr(3, 0x80d) == 8 && rd(APIC_ID) == 0xffffffff,
	   "x2apic: ID and LDR; MMIO does not answer");
	ok(!wrmsr(0, 0x802, 1) && !wrmsr(0, 0x80d, 1) && !wrmsr(0, 0x80e, 0) && !wrmsr(0, 0x80a, 0) && !wrmsr(0, 0x831,
		0), "x2apic: read only, or none");
	ok(!wrmsr(0, 0x80b, 1) && !wrmsr(0, 0x828, 1) && !wrmsr(0, 0x808, 0x100) && !wrmsr(0, 0x80f, 1 << 9) &&
		!wrmsr(0, 0x832, 1 << 8),
	   "x2apic: reserved bits");
	ok(!rdmsr(0, 0x83f, &value) && !rdmsr(0, 0x80b, &value) && !rdmsr(0, 0x80e, &value) && !rdmsr(0, 0x8ff, &value),
	   "x2apic: write only, or none");
	ok(wrmsr(0, 0x83f, 0x70) && take(0) == 0x70, "x2apic: self IPI");
	ok(wrmsr(0, 0x80b, 0) && wrmsr(0, 0x830, 2ULL << 32 | 0x71) && take(2) == 0x71, "x2apic: IPI, physical");
	ok(msr(0, 0x830) == (2ULL << 32 | 0x71), "x2apic: ICR is one register");
	wrmsr(2, 0x80b, 0);
	ok(wrmsr(0, 0x830, 0xaULL << 32 | 0x872) && take(1) == 0x72 && take(3) == 0x72 && !asked(2),
	   "x2apic: IPI, cluster");
	wrmsr(1, 0x80b, 0), wrmsr(3, 0x80b, 0);
	ok(wrmsr(0, 0x830, 0x1000aULL << 32 | 0x873) && !asked(1) && !asked(3), "x2apic: another cluster");
	ok(wrmsr(0, 0x830, 0xffULL << 32 | 0x74) && !asked(1), "x2apic: FFh is no broadcast");
	ok(wrmsr(0, 0x830, 0xffffffffULL << 32 | 0x75) && take(0) == 0x75 && take(3) == 0x75, "x2apic: FFFFFFFFh is");
	ok(!wrmsr(0, MSR_APIC_BASE, LAPIC | 0x900), "x2apic: no way back to xAPIC mode");
	ok(wrmsr(0, MSR_APIC_BASE, LAPIC | 0x100) && !wrmsr(0, MSR_APIC_BASE, LAPIC | 0xd00) && wrmsr(0, MSR_APIC_BASE,
		LAPIC | 0x900), "x2apic: but through off");
	ok(rd(APIC_SVR) == 0xff && rd(APIC_LVT + LVT_LINT0) == 0x10000, "x2apic: after which it is as after power-up");
}

static void timers(void)
{
	fresh();
	wr(APIC_LVT, 0x80);
	wr(APIC_DIVIDE, 0xb);
	wr(APIC_INITIAL_COUNT, 1000);
	clock_step(vm, 400);
	ok(rd(APIC_CURRENT_COUNT) == 600 && rd(APIC_INITIAL_COUNT) == 1000, "timer: counts at 1 GHz");
	clock_step(vm, 599);
	ok(!asked(0) && rd(APIC_CURRENT_COUNT) == 1, "timer: one before the end");
	clock_step(vm, 1);
	ok(rd(APIC_CURRENT_COUNT) == 0 && take(0) == 0x80, "timer: one-shot");
	wr(APIC_EOI, 0);
	clock_step(vm, 100000);
	ok(!asked(0), "timer: once");
	static const uint8_t divides[8][2] = { { 0xb, 1 }, { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9,
		64 }, { 10, 128 } };
	bool exact = true;
	for (unsigned i = 0; i < 8; i++) {
		wr(APIC_DIVIDE, divides[i][0]);
		wr(APIC_INITIAL_COUNT, 1000);
		clock_step(vm, 1000 * divides[i][1] - 1);
		exact &= !asked(0);
		clock_step(vm, 1);
		exact &= take(0) == 0x80;
		wr(APIC_EOI, 0);
	}
	ok(exact, "timer: all divisors");
	wr(APIC_DIVIDE, 0xb);
	wr(APIC_INITIAL_COUNT, 1000);
	clock_step(vm, 500);
	wr(APIC_DIVIDE, 0);
	clock_step(vm, 999);
	exact = !asked(0);
	clock_step(vm, 1);
	ok(exact && take(0) == 0x80, "timer: the divisor changes under way");
	wr(APIC_EOI, 0);
	wr(APIC_DIVIDE, 0xb);
	wr(APIC_LVT, 0x20081);
	wr(APIC_INITIAL_COUNT, 1000003);
	unsigned taken = 0;
	for (unsigned i = 0; i < 1000; i++) {
		clock_step(vm, 1000003);
		taken += take(0) == 0x81;
		wr(APIC_EOI, 0);
	}
	ok(taken == 1000 && rd(APIC_CURRENT_COUNT) == 1000003, "timer: periodic, without drift");
	wr(APIC_LVT, 0x30081);
	clock_step(vm, 1000003);
	ok(!asked(0), "timer: masked");
	wr(APIC_LVT, 0x20081);
	wr(APIC_INITIAL_COUNT, 0);
	clock_step(vm, 10000000);
	ok(!asked(0), "timer: count 0 stops it");
	wr(APIC_INITIAL_COUNT, 1);
	clock_step(vm, SECOND / 100);
	ok(take(0) == 0x81, "timer: a hostile period is survived");
	wr(APIC_EOI, 0);
	wr(APIC_LVT, 0x40082);
	ok(rd(APIC_CURRENT_COUNT) == 0, "timer: TSC-deadline mode stops the count");
	wr(APIC_INITIAL_COUNT, 100);
	clock_step(vm, 1000);
	ok(!asked(0), "timer: and ignores it");
	uint64_t now = clock_tsc(vm) + vm->vcpu[0]->core.cpu.tsc_offset;
	ok(wrmsr(0, MSR_TSC_DEADLINE, now + 5000) && msr(0, MSR_TSC_DEADLINE) == now + 5000, "timer: TSC deadline");
	clock_step(vm, 4999);
	exact = !asked(0);
	clock_step(vm, 1);
	ok(exact && take(0) == 0x82 && msr(0, MSR_TSC_DEADLINE) == 0, "timer: to the tick");
	wr(APIC_EOI, 0);
	wrmsr(0, MSR_TSC_DEADLINE, 1);
	clock_step(vm, 0);
	ok(take(0) == 0x82, "timer: a deadline that is over");
	wr(APIC_EOI, 0);
	wrmsr(0, MSR_TSC_DEADLINE, now + 50000);
	wrmsr(0, MSR_TSC_DEADLINE, 0);
	clock_step(vm, 100000);
	ok(!asked(0), "timer: a deadline of 0 disarms");
	wr(APIC_LVT, 0x82);
	wrmsr(0, MSR_TSC_DEADLINE, now + 500000);
	ok(msr(0, MSR_TSC_DEADLINE) == 0, "timer: no deadline in another mode");
}

static void start_pic(void)
{
	out8(vm, 0x20, 0x11), out8(vm, 0x21, 0x20), out8(vm, 0x21, 4), out8(vm, 0x21, 1);
	out8(vm, 0xa0, 0x11), out8(vm, 0xa1, 0x28), out8(vm, 0xa1, 2), out8(vm, 0xa1, 1);
}

static void wires(void)
{
	if (vm)
		vm_destroy(vm);
	enter(build());
	struct device *pic = device_find(vm, "pic");
	start_pic();
	i8259_set(pic, 1, true);
	ok(asked(0) && !asked(1) && take(0) == 0x21 && !asked(0), "wire: the 8259's vector through LINT0");
	out8(vm, 0x20, 0x20);
	wr(APIC_LVT + LVT_LINT0, 0x10700);
	i8259_set(pic, 3, true);
	ok(!asked(0) && take(0) == -1, "wire: masked LINT0");
	wr(APIC_LVT + LVT_LINT0, 0x700);
	ok(asked(0), "wire: unmasked");
	message(0, 0xf0);
	ok(take(0) == 0x23 && take(0) == 0xf0, "wire: ExtINT goes first");
	wr(APIC_EOI, 0);
	out8(vm, 0x20, 0x20);
	wrmsr(0, MSR_APIC_BASE, LAPIC | 0x100);
	i8259_set(pic, 4, true);
	ok(asked(0) && !asked(1) && take(0) == 0x24, "wire: an APIC that is off leaves INTR to the 8259");
	ok(rd(APIC_ID) == 0xffffffff, "wire: and does not answer");
	out8(vm, 0x20, 0x20);
	fresh();
	start_pic();
	pic = device_find(vm, "pic");
	wr(APIC_LVT + LVT_LINT0, 0x10700);
	redirect(0, 0x700, 0);
	i8259_set(pic, 5, true);
	ok(!asked(0), "wire: nobody listens");
	ioapic_set(ioapic, 0, true);
	ok(asked(0) && take(0) == 0x25 && !asked(0), "wire: ExtINT through the I/O APIC");
}

static void io_apic(void)
{
	fresh();
	ok(io_rd(0) == CPUS << 24 && io_rd(1) == 0x00170020 && io_rd(2) == CPUS << 24,
	   "ioapic: ID, version, arbitration");
	io_wr(0, 0xffffffff);
	ok(io_rd(0) == 0x0f000000, "ioapic: the ID is four bits");
	ok(io_rd(0x10) == 0x10000 && io_rd(0x3f) == 0 && io_rd(0x40) == 0, "ioapic: masked after reset");
	redirect(5, 0xffffffff, 0xffffffff);
	ok(io_rd(0x1a) == 0x1afff && io_rd(0x1b) == 0xff000000, "ioapic: writable bits");
	redirect(5, 0x10041, 0);
	ioapic_set(ioapic, 5, true);
	redirect(5, 0x41, 0);
	ok(!asked(0), "ioapic: an edge on a masked input is lost");
	ioapic_set(ioapic, 5, false);
	ioapic_set(ioapic, 5, true);
	ok(take(0) == 0x41 && !(io_rd(0x1a) & 0x4000) && rd(APIC_TMR + 2) == 0, "ioapic: edge");
	wr(APIC_EOI, 0);
	ok(!asked(0), "ioapic: one edge, one interrupt");
	ioapic_set(ioapic, 5, false);

	redirect(9, 0x18051, 1u << 24);
	ioapic_set(ioapic, 9, true);
	redirect(9, 0x8051, 1u << 24);
	ok(asked(1) && (io_rd(0x22) & 0x4000) && state(1)->tmr[2] == 1u << 17,
	   "ioapic: level, unmasked while high; remote IRR");
	ok(take(1) == 0x51, "ioapic: to the processor that is meant");
	ioapic_set(ioapic, 9, false);
	ioapic_set(ioapic, 9, true);
	ok(!asked(1), "ioapic: remote IRR holds the next off");
	eoi(1);
	ok(asked(1) && take(1) == 0x51, "ioapic: EOI, and it is still high");
	ioapic_set(ioapic, 9, false);
	eoi(1);
	ok(!asked(1) && !(io_rd(0x22) & 0x4000), "ioapic: EOI, and it is low");

	state(1)->svr |= SVR_NO_BROADCAST;
	ioapic_set(ioapic, 9, true);
	take(1);
	eoi(1);
	ok(!asked(1) && (io_rd(0x22) & 0x4000), "ioapic: EOI-broadcast suppression");
	ioapic_set(ioapic, 9, false);
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x40, 4, 0x50);
	bool still = io_rd(0x22) & 0x4000;
	bus_write(vm, BUS_MEMORY, IOAPIC + 0x40, 4, 0x51);
	ok(still && !(io_rd(0x22) & 0x4000), "ioapic: the EOI register");
	ioapic_set(ioapic, 9, true);
	take(1);
	redirect(9, 0x10051, 1u << 24);
	ok(!(io_rd(0x22) & 0x4000), "ioapic: made an edge, remote IRR is gone");

	redirect(7, 0x400, 2u << 24);
	ioapic_set(ioapic, 7, true);
	ok(vm->vcpu[2]->nmi_pending, "ioapic: NMI");
	state(3)->ldr = 0x08000000;
	redirect(8, 0x861, 0x08000000);
	ioapic_set(ioapic, 8, true);
	ok(take(3) == 0x61, "ioapic: logical destination");
}

static void round_trip(void)
{
	fresh();
	message(0, 0x41), message(0, 0x55), message(1 << 12, 0x66);
	take(0);
	wr(APIC_LVT, 0x20080);
	wr(APIC_DIVIDE, 0xb);
	wr(APIC_INITIAL_COUNT, 1000000);
	wrmsr(2, MSR_APIC_BASE, LAPIC | 0xc00);
	wrmsr(2, 0x832, 0x40090);
	wrmsr(2, MSR_TSC_DEADLINE, clock_tsc(vm) + vm->vcpu[2]->core.cpu.tsc_offset + 700000);
	redirect(9, 0x8051, 0);
	ioapic_set(ioapic, 9, true);
	clock_step(vm, 300000);
	struct vm *one = vm, *two = build();
	ok(copy_state(one, two) && same_state(one, two), "apic: state loads");
	enter(two);
	ok(asked(1) && take(1) == 0x66 && !asked(0), "apic: what was pending is pending");
	clock_step(vm, 399999);
	bool early = asked(2);
	clock_step(vm, 1);
	ok(!early && take(2) == 0x90, "apic: the deadline goes on");
	wr(APIC_EOI, 0);
	ok(take(0) == 0x51, "apic: the level");
	wr(APIC_EOI, 0);
	ok(take(0) == 0x51, "apic: is still high");
	ioapic_set(ioapic, 9, false);
	wr(APIC_EOI, 0);
	ok(take(0) == 0x41, "apic: what waited behind");
	clock_step(vm, 300000);
	ok(take(0) == 0x80, "apic: the period goes on");
	vm_destroy(two);
	enter(one);
}

static void use(struct vm *v)
{
	static const unsigned regs[] = { APIC_TPR, APIC_EOI, APIC_SVR, APIC_ICR, APIC_LVT, APIC_LVT + 3, APIC_DIVIDE,
		APIC_INITIAL_COUNT };
	enter(v);
	for (unsigned reg = 0; reg < 0x40; reg++) {
		uint64_t value;
		rd(reg);
		rdmsr(1, 0x800 + reg, &value);
	}
	message(0xff << 12, 0x41);
	message(0xff << 12 | 4, 0x141);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic_set(ioapic, pin, !(pin & 1));
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		take(cpu);
		wrmsr(cpu, 0x80b, 0);
	}
	for (unsigned i = 0; i < ARRAY_SIZE(regs); i++)
		wr(regs[i], 0xc00ff + i);
	clock_step(vm, MILLISECOND);
}

int main(void)
{
	registers();
	priorities();
	destinations();
	ipis();
	moved();
	x2apic();
	timers();
	wires();
	io_apic();
	round_trip();
	fresh();
	abuse_state(vm, "ioapic", use);
	abuse_state(vm, "lapic", use);
	vm_destroy(vm);
	return done();
}
