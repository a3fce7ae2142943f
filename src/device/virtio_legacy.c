/* SPDX-License-Identifier: MIT */
/* The legacy interface of virtio over PCI: VIRTIO 1.2, sections 4.1.4.10, 2.7.2 (rings) and 4.1.2.3 (identity).
 *
 * A device of a kind that is older than version 1 is a transitional one: the old PCI ID, by which drivers of either age know it, the ports of old
 * in BAR 0, and the capabilities of today. Its driver chooses; until a reset it is a legacy one if it told its status or its features by the ports.
 *
 * There, a ring is one piece of memory at a page's number, whose size the device chose, and features are 32 bits that nobody confirms. */
#include "device/virtio.h"

#define DEVICE_BASE 0x1000
#define PAGE 4096u
enum { /* ports */
	DEVICE_FEATURES = 0, DRIVER_FEATURES = 4, QUEUE_ADDRESS = 8, QUEUE_SIZE = 12, QUEUE_SELECT = 14, QUEUE_NOTIFY = 16, STATUS = 18, ISR = 19,
	CONFIG_VECTOR = 20, QUEUE_VECTOR = 22, VECTORS_END = 24,
};
#define DESC_BYTES 16u
#define AVAIL_BYTES(size) (6u + 2u * (size))

/* 4.1.2.1; 0: there was none. */
static uint16_t device_id(enum virtio_type type)
{
	switch (type) {
	case VIRTIO_NET:
		return DEVICE_BASE;
	case VIRTIO_BLK:
		return DEVICE_BASE + 1;
	case VIRTIO_BALLOON:
		return DEVICE_BASE + 2;
	case VIRTIO_CONSOLE:
		return DEVICE_BASE + 3;
	case VIRTIO_RNG:
		return DEVICE_BASE + 5;
	case VIRTIO_9P:
		return DEVICE_BASE + 9;
	case VIRTIO_VSOCK:
		break;
	}
	return 0;
}

bool virtio_legacy_exists(const struct virtio *v)
{
	return device_id(v->model->type) != 0;
}

static uint64_t legacy_features(const struct virtio *v)
{
	return (v->features & UINT32_MAX) | VIRTIO_F_ANY_LAYOUT;
}

uint64_t virtio_offered(const struct virtio *v)
{
	return v->legacy ? legacy_features(v) : v->features;
}

static struct virtq *selected(struct virtio *v)
{
	return v->queue_select < v->queues ? &v->queue[v->queue_select] : NULL;
}

static void set_address(struct virtio *v, struct virtq *q, uint32_t page)
{
	if (q->enabled || !page) {
		uint16_t vector = q->vector;
		virtio_queue_reset(v, q->index);
		q->vector = vector;
	}
	if (!page)
		return;
	q->desc = (uint64_t)page * PAGE;
	q->avail = q->desc + q->size * DESC_BYTES;
	q->used = align_up(q->avail + AVAIL_BYTES(q->size), PAGE);
	virtio_queue_enable(v, q->index);
}

/* The device's own configuration follows what there is of vectors. */
static unsigned config_start(const struct virtio *v)
{
	return pci_messages_enabled(&v->pci) ? VECTORS_END : CONFIG_VECTOR;
}

static uint64_t read_queue(const struct virtq *q, unsigned port)
{
	switch (port) {
	case QUEUE_ADDRESS:
		return q && q->enabled ? q->desc / PAGE : 0;
	case QUEUE_SIZE:
		return q ? q->size : 0;
	}
	return q ? q->vector : VIRTIO_NO_VECTOR;
}

static uint64_t legacy_read(struct device *d, uint64_t offset, unsigned size)
{
	struct virtio *v = virtio_of(d);
	unsigned port = (unsigned)offset, start = config_start(v);
	uint64_t value = 0;
	if (port >= start) {
		if (v->model->config_read && port - start + size <= v->config_size)
			v->model->config_read(v, port - start, &value, size);
		return value;
	}
	switch (port) {
	case DEVICE_FEATURES:
		return legacy_features(v);
	case DRIVER_FEATURES:
		return v->driver_features & UINT32_MAX;
	case QUEUE_SELECT:
		return v->queue_select;
	case STATUS:
		return v->status;
	case ISR:
		return virtio_pci_isr(v);
	case CONFIG_VECTOR:
		return v->config_vector;
	case QUEUE_ADDRESS:
	case QUEUE_SIZE:
	case QUEUE_VECTOR:
		return read_queue(selected(v), port);
	}
	return 0;
}

/* What is agreed on from here on is what this interface has. */
static void take_over(struct virtio *v)
{
	v->legacy = true;
	v->driver_features &= legacy_features(v);
}

static void write_register(struct virtio *v, unsigned port, uint32_t value)
{
	struct virtq *q = selected(v);
	switch (port) {
	case DRIVER_FEATURES:
		take_over(v);
		v->driver_features = value & legacy_features(v);
		break;
	case QUEUE_ADDRESS:
		if (q)
			set_address(v, q, value);
		break;
	case QUEUE_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	case QUEUE_NOTIFY:
		virtio_notified(v, (uint16_t)value);
		break;
	case STATUS:
		take_over(v);
		virtio_set_status(v, (uint8_t)value);
		break;
	case CONFIG_VECTOR:
		v->config_vector = virtio_pci_vector(v, (uint16_t)value);
		break;
	case QUEUE_VECTOR:
		if (q)
			q->vector = virtio_pci_vector(v, (uint16_t)value);
		break;
	}
}

static void legacy_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio *v = virtio_of(d);
	unsigned port = (unsigned)offset, start = config_start(v);
	if (port < start)
		write_register(v, port, (uint32_t)value);
	else if (v->model->config_write && port - start + size <= v->config_size)
		v->model->config_write(v, port - start, &value, size);
}

static const struct bus_ops legacy_ops = { .read = legacy_read, .write = legacy_write, .max_size = 4 };

void virtio_legacy_init(const struct virtio *v, struct pci_model *m)
{
	uint64_t size = 32;
	while (size < VECTORS_END + v->config_size)
		size *= 2;
	m->device = device_id(v->model->type);
	m->subsystem = (uint16_t)v->model->type;
	m->revision = 0;
	m->bar[VIRTIO_LEGACY_BAR] = (struct pci_bar_model){ .kind = PCI_BAR_IO, .size = size, .ops = &legacy_ops };
}
