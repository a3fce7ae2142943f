/* SPDX-License-Identifier: MIT */
/* Moving the interrupt chips' state between the devices and whoever runs the chips instead.
 *
 * The processors stand still, but devices may drive lines and send messages all the time. What comes in the middle of a move must not get lost
 * between the two: so all lines are locked meanwhile, and messages wait. The interval timer, which drives a line itself, moves outside of
 * that. Order: device, lines by number, message, chip. */
#include "vm/irq_chips.h"
#include <errno.h>
#include <stdlib.h>
#include "vm/vcpu.h"

void irq_movable(struct vm *vm, enum irq_chip chip, struct device *device, void (*take)(struct device *, struct irq_chips *),
	void (*give)(struct device *, const struct irq_chips *))
{
	vm->irq.mover[chip] = (struct irq_mover){ .device = device, .take = take, .give = give };
}

bool irq_all_movable(const struct vm *vm)
{
	for (unsigned chip = 0; chip < IRQ_CHIPS; chip++)
		if (!vm->irq.mover[chip].device)
			return false;
	return true;
}

static struct irq_chips *chips_new(struct vm *vm)
{
	struct irq_chips *c = calloc(1, sizeof(*c) + vm->config.cpus * sizeof(*c->lapic));

	if (c)
		c->lapic = (struct state_lapic *)(c + 1);
	return c;
}

static void lock(struct irq *irq)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
		pthread_mutex_lock(&irq->line[gsi].lock);
	pthread_mutex_lock(&irq->message_lock);
}

static void unlock(struct irq *irq)
{
	pthread_mutex_unlock(&irq->message_lock);
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
		pthread_mutex_unlock(&irq->line[gsi].lock);
}

static void take(struct vm *vm, enum irq_chip chip, struct irq_chips *chips)
{
	vm->irq.mover[chip].take(vm->irq.mover[chip].device, chips);
}

static void give(struct vm *vm, enum irq_chip chip, const struct irq_chips *chips)
{
	vm->irq.mover[chip].give(vm->irq.mover[chip].device, chips);
}

int irq_take(struct vm *vm, const struct irq_elsewhere *elsewhere)
{
	struct irq *irq = &vm->irq;
	struct irq_chips *chips = chips_new(vm);
	int error;

	if (!chips)
		return -ENOMEM;
	take(vm, IRQ_CHIP_I8254, chips);
	lock(irq);
	for (enum irq_chip chip = 0; chip < IRQ_CHIP_I8254; chip++)
		take(vm, chip, chips);
	error = elsewhere->put(vm, chips);
	irq->elsewhere = elsewhere;
	unlock(irq);
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_interrupt(vm->vcpu[i], false);
	free(chips);
	return error;
}

/* The levels of the lines are the devices' that drive them; the chips see them as they are now. */
static void show_levels(struct irq *irq)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++) {
		struct irq_line *line = &irq->line[gsi];
		for (unsigned s = 0; s < line->sinks; s++)
			line->sink[s].set(line->sink[s].device, line->sink[s].pin, line->asserted != 0);
	}
}

int irq_give(struct vm *vm)
{
	struct irq *irq = &vm->irq;
	struct irq_chips *chips = chips_new(vm);
	int error;

	if (!chips)
		return -ENOMEM;
	lock(irq);
	error = irq->elsewhere->fetch(vm, chips);
	irq->elsewhere = NULL;
	for (enum irq_chip chip = 0; chip < IRQ_CHIP_I8254; chip++)
		give(vm, chip, chips);
	show_levels(irq);
	unlock(irq);
	give(vm, IRQ_CHIP_I8254, chips);
	free(chips);
	return error;
}

void irq_home(struct vm *vm)
{
	const struct irq_elsewhere *elsewhere = vm->irq.elsewhere;

	if (elsewhere)
		elsewhere->home(vm);
}
