/* SPDX-License-Identifier: MIT */
/* I/O APIC with 24 inputs, after the 82093AA datasheet (Intel 290566), with the EOI register of version 20h (82801
 * ICH datasheets).
 *
 * An interrupt leaves as a message, the same that a device would write for an MSI (SDM 3A 10.11). Input polarity
 * is the board's business: a line that is asserted is asserted. An edge on a masked input is lost, as the
 * datasheet says. */
#include "device/chips.h"
#include <errno.h>
#include <string.h>

enum { IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40, IOAPIC_SIZE = 0x1000 };
enum { IOAPIC_ID = 0, IOAPIC_VER = 1, IOAPIC_ARB = 2, IOREDTBL = 0x10 };
#define VERSION (0x20u | (IOAPIC_PINS - 1) << 16)
#define ID_SHIFT 24
#define ID_MASK 0x0f000000u

/* IOREDTBL */
#define RTE_VECTOR 0xffULL
#define RTE_DELIVERY (7ULL << 8)
#define RTE_LOWEST (1ULL << 8) /* 0 is fixed */
#define RTE_LOGICAL BIT(11)
#define RTE_POLARITY BIT(13)
#define RTE_REMOTE_IRR BIT(14) /* read only */
#define RTE_LEVEL BIT(15)
#define RTE_MASKED BIT(16)
#define RTE_DEST_SHIFT 56
#define RTE_WRITABLE (RTE_VECTOR | RTE_DELIVERY | RTE_LOGICAL | RTE_POLARITY | RTE_LEVEL | RTE_MASKED | \
	0xffULL << RTE_DEST_SHIFT)

/* SDM 3A 10.11 */
#define MSI_ADDRESS 0xfee00000ULL
#define MSI_DEST_SHIFT 12
#define MSI_LOGICAL BIT(2)
#define MSI_ASSERT BIT(14)
#define MSI_LEVEL BIT(15)

struct ioapic {
	struct device device;
	uint64_t rte[IOAPIC_PINS]; /* IOREDTBL, read/write but for delivery status and remote IRR */
	uint32_t id;               /* IOAPICID, bits 27:24, read/write */
	uint32_t lines;            /* levels at the inputs */
	uint8_t select;            /* IOREGSEL, read/write */
};

static struct ioapic *of(struct device *d)
{
	return container_of(d, struct ioapic, device);
}

/* Only fixed and lowest priority can be; SMI, NMI, INIT and ExtINT are edges, whatever is programmed. */
static bool is_level(uint64_t rte)
{
	return (rte & RTE_LEVEL) && (rte & RTE_DELIVERY) <= RTE_LOWEST;
}

static void send(struct ioapic *p, unsigned pin)
{
	struct irq *irq = &p->device.vm->irq;
	uint64_t rte = p->rte[pin];
	uint64_t address = MSI_ADDRESS | (rte >> RTE_DEST_SHIFT) << MSI_DEST_SHIFT |
		(rte & RTE_LOGICAL ? MSI_LOGICAL : 0);
	uint32_t data = (rte & (RTE_VECTOR | RTE_DELIVERY)) | (is_level(rte) ? MSI_LEVEL : 0) | MSI_ASSERT;
	if (is_level(rte))
		p->rte[pin] |= RTE_REMOTE_IRR;
	if (irq->controller && irq->controller->message) /* not by irq_message: while the chips move, that waits, and we do not send */
		irq->controller->message(irq->controller_device, address, data);
}

/* A level-triggered input asks again as long as it is high and the last one was ended. */
static void service_level(struct ioapic *p, unsigned pin)
{
	uint64_t rte = p->rte[pin];
	if ((p->lines & BIT(pin)) && is_level(rte) && !(rte & (RTE_MASKED | RTE_REMOTE_IRR)))
		send(p, pin);
}

void ioapic_set(struct device *d, unsigned pin, bool level)
{
	struct ioapic *p = of(d);
	if (pin >= IOAPIC_PINS)
		return;
	pthread_mutex_lock(&d->lock);
	bool rises = level && !(p->lines & BIT(pin));
	p->lines = level ? p->lines | BIT(pin) : p->lines & ~BIT(pin);
	if (rises && !is_level(p->rte[pin]) && !(p->rte[pin] & RTE_MASKED))
		send(p, pin);
	service_level(p, pin);
	pthread_mutex_unlock(&d->lock);
}

enum irq_request ioapic_request(struct device *d, unsigned pin)
{
	struct ioapic *p = of(d);
	struct irq *irq = &d->vm->irq;
	enum irq_request request = IRQ_TAKEN;

	pthread_mutex_lock(&d->lock);
	if (pin >= IOAPIC_PINS || (p->rte[pin] & RTE_MASKED))
		request = IRQ_UNHEARD;
	else if ((p->rte[pin] & RTE_DELIVERY) <= RTE_LOWEST && irq->controller && irq->controller->requested &&
		 irq->controller->requested(irq->controller_device, p->rte[pin] & RTE_VECTOR))
		request = IRQ_WAITS;
	pthread_mutex_unlock(&d->lock);
	return request;
}

static void end_of_interrupt(struct ioapic *p, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((p->rte[pin] & RTE_VECTOR) != vector || !(p->rte[pin] & RTE_REMOTE_IRR))
			continue;
		p->rte[pin] &= ~RTE_REMOTE_IRR;
		service_level(p, pin);
	}
}

static void broadcast(struct device *d, uint8_t vector)
{
	pthread_mutex_lock(&d->lock);
	end_of_interrupt(of(d), vector);
	pthread_mutex_unlock(&d->lock);
}

/* Remote IRR has no meaning for an edge-triggered input: programming it so clears the bit, which is how systems end an
 * interrupt whose EOI was lost. */
static void write_rte(struct ioapic *p, unsigned pin, unsigned shift, uint32_t value)
{
	uint64_t *rte = &p->rte[pin], mask = RTE_WRITABLE & 0xffffffffULL << shift;
	*rte = (*rte & ~mask) | ((uint64_t)value << shift & mask);
	if (!(*rte & RTE_LEVEL))
		*rte &= ~RTE_REMOTE_IRR;
	service_level(p, pin);
}

static uint32_t read_window(const struct ioapic *p)
{
	unsigned index = p->select - IOREDTBL;
	if (p->select == IOAPIC_ID || p->select == IOAPIC_ARB)
		return p->id;
	if (p->select == IOAPIC_VER)
		return VERSION;
	return p->select >= IOREDTBL && index < 2 * IOAPIC_PINS ? p->rte[index >> 1] >> 32 * (index & 1) : 0;
}

static void write_window(struct ioapic *p, uint32_t value)
{
	unsigned index = p->select - IOREDTBL;
	if (p->select == IOAPIC_ID)
		p->id = value & ID_MASK;
	else if (p->select >= IOREDTBL && index < 2 * IOAPIC_PINS)
		write_rte(p, index >> 1, 32 * (index & 1), value);
}

/* "All registers are accessed using 32-bit loads and stores"; IOREGSEL also takes a byte. */
static uint64_t ioapic_read(struct device *d, uint64_t offset, unsigned size)
{
	struct ioapic *p = of(d);
	if (offset == IOREGSEL)
		return p->select;
	return offset == IOWIN ? read_window(p) : 0;
}

static void ioapic_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct ioapic *p = of(d);
	if (offset == IOREGSEL)
		p->select = value;
	else if (offset == IOWIN && size == 4)
		write_window(p, value);
	else if (offset == IOEOI && size == 4)
		end_of_interrupt(p, value);
}

static void ioapic_reset(struct device *d, enum reset_kind kind)
{
	struct ioapic *p = of(d);
	const struct ioapic_config *config = d->place->config;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		p->rte[pin] = RTE_MASKED;
	p->id = config ? (uint32_t)config->id << ID_SHIFT & ID_MASK : 0;
	p->select = 0;
}

/* Nothing is sent: what was sent before the save is in the LAPICs' state. */
static int ioapic_post_load(struct device *d, uint32_t version)
{
	struct ioapic *p = of(d);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		p->rte[pin] &= RTE_WRITABLE | RTE_REMOTE_IRR;
		if (!(p->rte[pin] & RTE_LEVEL))
			p->rte[pin] &= ~RTE_REMOTE_IRR;
	}
	p->id &= ID_MASK;
	p->lines &= BIT(IOAPIC_PINS) - 1;
	return 0;
}

static void take(struct device *d, struct irq_chips *chips)
{
	const struct ioapic *p = of(d);

	chips->ioapic = (struct state_ioapic){ .id = p->id, .lines = p->lines, .select = p->select };
	memcpy(chips->ioapic.rte, p->rte, sizeof(p->rte));
}

static void give(struct device *d, const struct irq_chips *chips)
{
	struct ioapic *p = of(d);

	pthread_mutex_lock(&d->lock);
	memcpy(p->rte, chips->ioapic.rte, sizeof(p->rte));
	p->id = chips->ioapic.id;
	p->lines = chips->ioapic.lines;
	p->select = chips->ioapic.select;
	ioapic_post_load(d, 1);
	pthread_mutex_unlock(&d->lock);
}

static int ioapic_init(struct device *d)
{
	static const struct bus_ops ops = { .read = ioapic_read, .write = ioapic_write, .max_size = 4 };
	int error = bus_add(d->vm, BUS_MEMORY, d->place->base, IOAPIC_SIZE, &ops, d);
	if (error)
		return error;
	irq_movable(d->vm, IRQ_CHIP_IOAPIC, d, take, give);
	d->vm->irq.eoi.device = d;
	d->vm->irq.eoi.broadcast = broadcast;
	return 0;
}

static const struct field fields[] = {
	FIELD_U64(struct ioapic, rte),
	FIELD_U32(struct ioapic, id),
	FIELD_U32(struct ioapic, lines),
	FIELD_U8(struct ioapic, select),
	FIELD_END,
};

const struct device_class ioapic_class = {
	.name = "ioapic", .summary = "I/O APIC with 24 inputs", .size = sizeof(struct ioapic), .init = ioapic_init,
	.reset = ioapic_reset, .fields = fields, .version = 1, .post_load = ioapic_post_load,
};
DEVICE_CLASS(ioapic_class);
