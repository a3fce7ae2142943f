/* SPDX-License-Identifier: MIT */
/* Interrupt lines: wired OR, several sinks, pins that are set twice, restored, or driven by several threads at once. */
#include "vm_test.h"

static void sink(struct device *d, unsigned pin, bool level)
{
	struct probe *p = probe_of(d);

	p->registers[pin] = level;
	p->count++;
}

static void *toggle(void *arg)
{
	struct irq_pin *pin = arg;

	for (unsigned i = 0; i < 20000; i++)
		irq_pulse(pin);
	return NULL;
}

static void test_or(struct vm *vm, struct probe *a, struct probe *b)
{
	struct irq_pin one, two, loose;

	irq_pin_init(&one, vm, 5);
	irq_pin_init(&two, vm, 5);
	irq_raise(&one);
	ok(a->registers[1] && b->registers[2] && a->count == 1, "a line reaches both chips");
	irq_raise(&one);
	irq_raise(&two);
	ok(a->count == 1, "high again, or high twice, is no change");
	irq_lower(&one);
	irq_lower(&one);
	ok(a->registers[1] && a->count == 1, "high as long as one source holds it");
	irq_lower(&two);
	ok(!a->registers[1] && !b->registers[2] && a->count == 2, "low when all let go");
	irq_pulse(&one);
	ok(a->count == 4 && !a->registers[1], "a pulse is two changes");
	ok(vm->irq.raised[5] == 2, "rising edges are counted");
	one.level = true; /* as loading the field does */
	irq_pin_restore(&one, one.level);
	ok(a->registers[1] && vm->irq.line[5].asserted == 1, "a restored pin drives its line");
	irq_pin_restore(&one, true);
	ok(vm->irq.line[5].asserted == 1, "restored twice it counts once");
	one.level = false;
	irq_pin_restore(&one, false);
	ok(!a->registers[1] && vm->irq.line[5].asserted == 0, "and lets go");
	irq_pin_init(&loose, vm, ~0u);
	irq_pulse(&loose);
	ok(true, "a pin that is not wired does nothing");
}

static void test_threads(struct vm *vm, struct probe *a)
{
	struct irq_pin pins[4];
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++) {
		irq_pin_init(&pins[i], vm, 5);
		pthread_create(&threads[i], NULL, toggle, &pins[i]);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ok(!a->registers[1] && vm->irq.line[5].asserted == 0, "four threads leave the line low, and the chip knows");
	ok(a->count % 2 == 0, "it saw as many falling as rising edges");
}

int main(void)
{
	struct vm *vm = test_vm();
	struct probe *a = probe_new(vm, &place_a), *b = probe_new(vm, &place_b);

	irq_connect(vm, 5, &a->device, sink, 1);
	irq_connect(vm, 5, &b->device, sink, 2);
	test_or(vm, a, b);
	test_threads(vm, a);
	vm_destroy(vm);
	return done();
}
