/* SPDX-License-Identifier: MIT */
/* Interrupt lines: wired OR of the pins on a line, handed to the interrupt chips on each change of the OR.
 *
 * Two threads may drive one line at once. Were the count atomic but the hand-over not, the chip could see "high" after "low" although
 * the line is low now; so each line has a lock that is held across both. Order: device, line, chip, vCPU. */
#include "util/log.h"
#include "vm/vm.h"

void irq_init(struct vm *vm)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
		pthread_mutex_init(&vm->irq.line[gsi].lock, NULL);
	pthread_mutex_init(&vm->irq.message_lock, NULL);
}

void irq_fini(struct vm *vm)
{
	for (unsigned gsi = 0; gsi < IRQ_LINES; gsi++)
		pthread_mutex_destroy(&vm->irq.line[gsi].lock);
	pthread_mutex_destroy(&vm->irq.message_lock);
}

void irq_pin_init(struct irq_pin *pin, struct vm *vm, unsigned gsi)
{
	pin->vm = vm;
	pin->gsi = gsi;
	pin->level = false;
	pin->driven = false;
}

static void drive(struct irq_pin *pin, bool level)
{
	struct irq *irq = &pin->vm->irq;
	struct irq_line *line = &irq->line[pin->gsi];
	const struct irq_elsewhere *elsewhere;
	bool was, is;

	pthread_mutex_lock(&line->lock);
	if (pin->driven == level)
		goto out;
	pin->driven = level;
	was = line->asserted != 0;
	line->asserted += level ? 1u : -1u;
	is = line->asserted != 0;
	if (was == is)
		goto out;
	trace(irq, "line %u %s", pin->gsi, is ? "high" : "low");
	if (is)
		atomic_fetch_add_explicit(&irq->raised[pin->gsi], 1, memory_order_relaxed);
	elsewhere = irq->elsewhere;
	if (elsewhere)
		elsewhere->line(pin->vm, pin->gsi, is);
	for (unsigned s = 0; s < line->sinks && !elsewhere; s++)
		line->sink[s].set(line->sink[s].device, line->sink[s].pin, is);
out:
	pthread_mutex_unlock(&line->lock);
}

void irq_set(struct irq_pin *pin, bool level)
{
	if (!pin->vm || pin->gsi >= IRQ_LINES)
		return; /* a pin that is not wired */
	pin->level = level;
	if (pin->driven != level)
		drive(pin, level);
}

void irq_pin_restore(struct irq_pin *pin, bool level)
{
	irq_set(pin, level);
}

enum irq_request irq_request(struct irq_pin *pin)
{
	struct irq *irq = pin->vm ? &pin->vm->irq : NULL;
	struct irq_line *line;
	enum irq_request request = IRQ_UNHEARD;

	if (!irq || pin->gsi >= IRQ_LINES)
		return IRQ_UNHEARD;
	if (irq->elsewhere)
		return IRQ_TAKEN;
	line = &irq->line[pin->gsi];
	pthread_mutex_lock(&line->lock);
	for (unsigned s = 0; s < line->sinks; s++) {
		struct irq_sink *sink = &line->sink[s];
		enum irq_request one = sink->request ? sink->request(sink->device, sink->pin) : IRQ_TAKEN;
		request = MAX(request, one);
	}
	pthread_mutex_unlock(&line->lock);
	return request;
}

#define MESSAGES_START 0xfee00000ULL /* SDM 3A 10.11.1 */
#define MESSAGES_END 0xfef00000ULL

void irq_message(struct vm *vm, uint64_t address, uint32_t data)
{
	struct irq *irq = &vm->irq;
	const struct irq_elsewhere *elsewhere;

	trace(irq, "message %#x to %#lx", data, address);
	if (address < MESSAGES_START || address >= MESSAGES_END) {
		guest_write(vm, address, &data, sizeof(data));
		return;
	}
	pthread_mutex_lock(&irq->message_lock);
	elsewhere = irq->elsewhere;
	if (elsewhere)
		elsewhere->message(vm, address, data);
	else if (irq->controller && irq->controller->message)
		irq->controller->message(irq->controller_device, address, data);
	pthread_mutex_unlock(&irq->message_lock);
}

void irq_connect(struct vm *vm, unsigned gsi, struct device *sink, void (*set)(struct device *, unsigned, bool), unsigned pin)
{
	struct irq_line *line = &vm->irq.line[gsi];

	if (gsi >= IRQ_LINES || line->sinks == IRQ_SINKS) {
		log_error("board: line %u cannot reach one more interrupt chip", gsi);
		return;
	}
	line->sink[line->sinks++] = (struct irq_sink){ .device = sink, .set = set, .pin = pin };
}

void irq_connect_request(struct vm *vm, unsigned gsi, struct device *sink, enum irq_request (*request)(struct device *, unsigned))
{
	struct irq_line *line = &vm->irq.line[gsi];

	for (unsigned s = 0; s < line->sinks; s++)
		if (line->sink[s].device == sink)
			line->sink[s].request = request;
}
