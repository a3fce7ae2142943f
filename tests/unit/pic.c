/* SPDX-License-Identifier: MIT */
/* The 8259A pair against its datasheet (231468): initialization, priorities, EOI in all forms, the special modes,
 * poll, ELCR, spurious. */
#include "machine.h"

static const struct device_place places[] = { { .class = &i8259_class, .name = "pic", .irq = -1 } };
enum { M0 = 0x20, M1 = 0x21, S0 = 0xa0, S1 = 0xa1, ELCR1 = 0x4d0, ELCR2 = 0x4d1 };

static struct vm *vm;

static void initialize(uint8_t icw4)
{
	static const uint16_t ports[2] = { M0, S0 };
	for (unsigned i = 0; i < 2; i++) {
		out8(vm, ports[i], 0x11);
		out8(vm, ports[i] + 1, i ? 0x28 : 0x20);
		out8(vm, ports[i] + 1, i ? 2 : 4);
		out8(vm, ports[i] + 1, i ? 0x01 : icw4);
	}
}

static void fresh(uint8_t icw4)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, 1);
	initialize(icw4);
}

static void set(unsigned pin, bool level)
{
	i8259_set(vm->devices, pin, level);
}

static void pulse(unsigned pin)
{
	set(pin, false);
	set(pin, true);
}

static int take(void)
{
	return vm->irq.controller->acknowledge(vm->irq.controller_device, vm->vcpu[0]);
}

static uint8_t irr(uint16_t port)
{
	out8(vm, port, 0x0a);
	return in8(vm, port);
}

static uint8_t isr(uint16_t port)
{
	out8(vm, port, 0x0b);
	return in8(vm, port);
}

static void basics(void)
{
	fresh(0x01);
	ok(in8(vm, M1) == 0 && in8(vm, S1) == 0, "pic: ICW1 clears the mask");
	out8(vm, M1, 0xfa);
	ok(in8(vm, M1) == 0xfa, "pic: OCW1 is read back");
	out8(vm, M1, 0);
	ok(take() == -1 && !vm->vcpu[0]->intr_pending, "pic: nothing is pending");
	set(4, true);
	ok(vm->vcpu[0]->intr_pending && irr(M0) == 0x10, "pic: a request reaches the processor");
	set(1, true);
	ok(take() == 0x21 && isr(M0) == 0x02 && irr(M0) == 0x10, "pic: the higher priority is first");
	ok(take() == -1 && !vm->vcpu[0]->intr_pending, "pic: a lower one waits for EOI");
	set(0, true);
	ok(take() == 0x20 && isr(M0) == 0x03, "pic: a higher one nests");
	out8(vm, M0, 0x20);
	ok(isr(M0) == 0x02, "pic: non-specific EOI ends the highest");
	out8(vm, M0, 0x61);
	ok(isr(M0) == 0 && take() == 0x24, "pic: specific EOI");
	out8(vm, M0, 0x20);
	ok(take() == -1, "pic: an edge counts once while the line stays high");
	pulse(4);
	ok(take() == 0x24, "pic: a new edge counts");
	out8(vm, M0, 0x64);
	out8(vm, M1, 0x10);
	pulse(4);
	ok(take() == -1 && irr(M0) == 0x10, "pic: a masked request waits in IRR");
	out8(vm, M1, 0x00);
	ok(take() == 0x24, "pic: unmasked it comes");
}

static void cascade(void)
{
	fresh(0x01);
	set(12, true);
	ok(irr(M0) == 0x04 && irr(S0) == 0x10 && take() == 0x2c, "pic: the slave comes through IRQ 2");
	ok(isr(M0) == 0x04 && isr(S0) == 0x10, "pic: both are in service");
	set(8, true);
	ok(take() == -1, "pic: fully nested: the slave's higher one waits");
	set(3, true);
	out8(vm, S0, 0x20);
	out8(vm, M0, 0x20);
	ok(take() == 0x28, "pic: IRQ 8 is before IRQ 3");
	out8(vm, S0, 0x20);
	out8(vm, M0, 0x20);
	ok(take() == 0x23, "pic: then IRQ 3");

	fresh(0x11);
	set(12, true);
	take();
	set(8, true);
	ok(take() == 0x28 && isr(S0) == 0x11, "pic: special fully nested: the slave's higher one comes");
	out8(vm, S0, 0x20);
	ok(isr(S0) == 0x10, "pic: which is how a handler knows not to end the master");
}

static void spurious(void)
{
	fresh(0x01);
	set(5, true);
	set(5, false);
	ok(take() == -1 && irr(M0) == 0, "pic: a request that falls too early is gone");
	ok(vm->irq.extint.acknowledge(vm->devices) == 0x27 && isr(M0) == 0,
	   "pic: acknowledged all the same, it is IRQ 7, and not in service");
	out8(vm, ELCR1, 0xff);
	out8(vm, ELCR2, 0xff);
	ok(in8(vm, ELCR1) == 0xf8 && in8(vm, ELCR2) == 0xde, "pic: ELCR, with the inputs that must be edges");
	out8(vm, ELCR1, 0x20);
	set(5, true);
	ok(take() == 0x25, "pic: level-triggered");
	out8(vm, M0, 0x20);
	ok(take() == 0x25, "pic: it asks again while it is high");
	set(5, false);
	out8(vm, M0, 0x20);
	ok(take() == -1, "pic: and no more when it is low");
}

static void rotation(void)
{
	fresh(0x01);
	set(4, true);
	take();
	out8(vm, M0, 0xa0);
	set(6, true);
	pulse(4);
	set(5, true);
	ok(take() == 0x25, "pic: rotate on non-specific EOI: 5 is the highest after 4");
	out8(vm, M0, 0xe5);
	ok(take() == 0x26, "pic: rotate on specific EOI");
	out8(vm, M0, 0x20);
	out8(vm, M0, 0xc1);
	set(0, true);
	set(3, true);
	ok(take() == 0x23, "pic: set priority: 1 is the lowest, 2 the highest");
	out8(vm, M0, 0x20);
	ok(take() == 0x24, "pic: then 4, and 0 comes after 7");

	fresh(0x03);
	set(3, true);
	ok(take() == 0x23 && isr(M0) == 0, "pic: automatic EOI");
	out8(vm, M0, 0x80);
	pulse(3);
	take();
	pulse(3);
	set(4, true);
	ok(take() == 0x24, "pic: rotation in automatic EOI mode");
	out8(vm, M0, 0x00);
}

static void special_mask(void)
{
	fresh(0x01);
	set(2 + 1, true);
	take();
	out8(vm, M1, 0x08);
	set(5, true);
	ok(take() == -1, "pic: masking what is in service does not let lower ones through");
	out8(vm, M0, 0x68);
	ok(take() == 0x25, "pic: in special mask mode it does");
	out8(vm, M0, 0x20);
	ok(isr(M0) == 0x08, "pic: non-specific EOI passes over the masked level");
	out8(vm, M0, 0x48);
	set(6, true);
	ok(take() == -1, "pic: special mask mode ends");
}

static void polling(void)
{
	fresh(0x01);
	out8(vm, M0, 0x0c);
	ok(in8(vm, M0) == 0, "pic: poll without a request");
	set(6, true);
	out8(vm, M0, 0x0c);
	ok(in8(vm, M0) == 0x86 && isr(M0) == 0x40, "pic: poll acknowledges");
	set(9, true);
	out8(vm, M0, 0x0c);
	ok(in8(vm, M1) == 0x82, "pic: poll finds the slave");
	out8(vm, S0, 0x0c);
	ok(in8(vm, S0) == 0x81 && isr(S0) == 0x02, "pic: and the slave is polled");
}

static void restart(void)
{
	fresh(0x01);
	set(1, true);
	out8(vm, M1, 0xff);
	out8(vm, M0, 0x11);
	out8(vm, M1, 0x70);
	ok(in8(vm, M1) == 0, "pic: in the middle of initialization the mask is clear");
	out8(vm, M1, 4);
	out8(vm, M1, 1);
	ok(take() == -1, "pic: ICW1 clears the edge latch");
	pulse(1);
	ok(take() == 0x71, "pic: ICW2 gives the new vectors");
	out8(vm, M0, 0x13);
	out8(vm, M1, 0x40);
	out8(vm, M1, 0x01);
	out8(vm, M1, 0xf0);
	ok(in8(vm, M1) == 0xf0, "pic: a single chip has no ICW3");
	device_reset_all(vm, RESET_WARM);
	pulse(0);
	ok(take() == -1 && !vm->vcpu[0]->intr_pending, "pic: reset silences it");
}

static void round_trip(void)
{
	fresh(0x01);
	set(14, true);
	set(5, true);
	take();
	out8(vm, M0, 0xc3);
	out8(vm, S0, 0x11);
	out8(vm, S1, 0x90);
	struct vm *one = vm, *two = machine(1, places, 1);
	ok(copy_state(one, two) && same_state(one, two), "pic: state loads");
	vm = two;
	out8(vm, S1, 2);
	out8(vm, S1, 1);
	pulse(14);
	out8(vm, M0, 0x62);
	ok(take() == 0x25, "pic: rotated priorities go on");
	out8(vm, M0, 0x65);
	ok(take() == 0x96, "pic: initialization that was half done is completed");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned pin = 0; pin < 16; pin++) {
		pulse(pin);
		take();
		vm->irq.extint.acknowledge(vm->devices);
	}
	for (unsigned i = 0; i < 256; i += 3) {
		out8(vm, M0, i);
		out8(vm, S1, i);
		in8(vm, S0);
		in8(vm, M1);
	}
}

int main(void)
{
	basics();
	cascade();
	spurious();
	rotation();
	special_mask();
	polling();
	restart();
	round_trip();
	fresh(0x01);
	abuse_state(vm, "pic", use);
	vm_destroy(vm);
	return done();
}
