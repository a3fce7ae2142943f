/* SPDX-License-Identifier: MIT */
/* What comes to local APICs by wire: from the 8259 behind LINT0, and from the I/O APIC (the 82093AA's datasheet). And the state of all. */
#include "apic_driver.h"

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
	wires();
	io_apic();
	round_trip();
	fresh();
	abuse_state(vm, "ioapic", use);
	abuse_state(vm, "lapic", use);
	vm_destroy(vm);
	return done();
}
