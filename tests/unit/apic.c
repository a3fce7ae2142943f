/* SPDX-License-Identifier: MIT */
/* Local APICs against the SDM (3A chapter 10): registers, priorities, messages between them, x2APIC mode, timers. */
#include "apic_driver.h"

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

int main(void)
{
	registers();
	priorities();
	destinations();
	ipis();
	moved();
	x2apic();
	timers();
	vm_destroy(vm);
	return done();
}
