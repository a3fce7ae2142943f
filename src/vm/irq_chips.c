/* SPDX-License-Identifier: MIT */
/* Moving the interrupt chips' state between the devices and whoever runs the chips instead. */
#include "vm/irq_chips.h"
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

void irq_take(struct vm *vm, struct irq_chips *chips, const struct irq_elsewhere *elsewhere)
{
	for (unsigned chip = 0; chip < IRQ_CHIPS; chip++)
		vm->irq.mover[chip].take(vm->irq.mover[chip].device, chips);
	vm->irq.elsewhere = elsewhere;
	for (unsigned i = 0; i < vm->config.cpus; i++)
		vcpu_interrupt(vm->vcpu[i], false);
}

/* The levels of the lines are the devices' that drive them; the chips see them as they are now. */
static void show_levels(struct irq *irq)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++) {
		struct irq_line *line = &irq->line[gsi];
		pthread_mutex_lock(&line->lock);
		for (unsigned s = 0; s < line->sinks; s++)
			line->sink[s].set(line->sink[s].device, line->sink[s].pin, line->asserted != 0);
		pthread_mutex_unlock(&line->lock);
	}
}

void irq_give(struct vm *vm, const struct irq_chips *chips)
{
	vm->irq.elsewhere = NULL;
	for (unsigned chip = 0; chip < IRQ_CHIPS; chip++)
		vm->irq.mover[chip].give(vm->irq.mover[chip].device, chips);
	show_levels(&vm->irq);
}

void irq_home(struct vm *vm)
{
	const struct irq_elsewhere *elsewhere = vm->irq.elsewhere;

	if (elsewhere)
		elsewhere->give_back(vm);
}
