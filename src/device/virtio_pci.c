/* SPDX-License-Identifier: MIT */
/* Virtio over PCI: VIRTIO 1.2, section 4.1; the legacy interface is virtio_legacy.c's.
 *
 * One 64-bit BAR holds the four groups of registers, a second one the MSI-X table. Firmware that cannot reach the BAR goes through
 * a window in configuration space (4.1.4.9). */
#include <errno.h>
#include <string.h>
#include "device/virtio.h"

#define VENDOR 0x1af4
#define DEVICE_BASE 0x1040
#define SUBSYSTEM 0x1100
#define REVISION 1
enum { BAR_MSIX = 1, BAR_REGISTERS = 4 };
enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_WINDOW };
#define GROUP 0x1000u
enum { AT_COMMON = 0, AT_ISR = GROUP, AT_DEVICE = 2 * GROUP, AT_NOTIFY = 3 * GROUP, REGISTERS = 4 * GROUP };
#define NOTIFY_STEP 4u           /* bytes between the queues' doorbells */

/* A capability, from its start. */
enum { CAP_LENGTH = 2, CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_SIZE = 12, CAP_MORE = 16, CAP_BYTES = 16 };

struct common { /* 4.1.4.3, as it lies in memory */
	uint32_t device_feature_select, device_feature;
	uint32_t driver_feature_select, driver_feature;
	uint16_t config_vector, queues;
	uint8_t status, generation;
	uint16_t queue_select;
	uint16_t queue_size, queue_vector, queue_enable, queue_notify;
	uint64_t queue_desc, queue_driver, queue_device;
	uint16_t queue_notify_data, queue_reset;
};

/* ---- Common configuration ----------------------------------------------------------------------------------------------- */

static struct virtq *selected(struct virtio *v)
{
	return v->queue_select < v->queues ? &v->queue[v->queue_select] : NULL;
}

static uint32_t half(uint64_t value, uint32_t select)
{
	return select < 2 ? (uint32_t)(value >> 32 * select) : 0;
}

static struct common common(struct virtio *v)
{
	const struct virtq *q = selected(v);
	struct common c = {
		.device_feature_select = v->device_select, .device_feature = half(v->features, v->device_select),
		.driver_feature_select = v->driver_select, .driver_feature = half(v->driver_features, v->driver_select),
		.config_vector = v->config_vector, .queues = (uint16_t)v->queues, .status = v->status, .generation = v->generation,
		.queue_select = v->queue_select, .queue_vector = VIRTIO_NO_VECTOR,
	};
	if (!q)
		return c;
	c.queue_size = q->size;
	c.queue_vector = q->vector;
	c.queue_enable = q->enabled;
	c.queue_notify = q->index;
	c.queue_notify_data = q->index;
	c.queue_desc = q->desc;
	c.queue_driver = q->avail;
	c.queue_device = q->used;
	return c;
}

uint16_t virtio_pci_vector(const struct virtio *v, uint16_t value)
{
	return value < v->msix.count ? value : VIRTIO_NO_VECTOR;
}

static void write_queue(struct virtio *v, struct virtq *q, unsigned offset, const struct common *c)
{
	switch (offset & ~1u) {
	case offsetof(struct common, queue_vector):
		q->vector = virtio_pci_vector(v, c->queue_vector);
		return;
	case offsetof(struct common, queue_reset):
		if (c->queue_reset == 1 && q->enabled && virtio_has(v, VIRTIO_F_RING_RESET))
			virtio_queue_reset(v, q->index);
		return;
	case offsetof(struct common, queue_enable):
		if (c->queue_enable == 1 && !q->enabled)
			virtio_queue_enable(v, q->index);
		return;
	}
	if (q->enabled)
		return; /* what follows stands still then */
	switch (offset & ~7u) {
	case offsetof(struct common, queue_desc):
		q->desc = c->queue_desc;
		break;
	case offsetof(struct common, queue_driver):
		q->avail = c->queue_driver;
		break;
	case offsetof(struct common, queue_device):
		q->used = c->queue_device;
		break;
	case offsetof(struct common, queue_size):
		if ((offset & ~1u) == offsetof(struct common, queue_size) && c->queue_size && c->queue_size <= q->size_max &&
		    !(c->queue_size & (c->queue_size - 1)))
			q->size = c->queue_size;
		break;
	}
}

static void set_driver_feature(struct virtio *v, uint32_t value)
{
	unsigned shift = 32 * v->driver_select;
	if (v->driver_select > 1 || (v->status & VIRTIO_FEATURES_OK) || v->legacy)
		return;
	v->driver_features = (v->driver_features & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
}

/* `c` is what the registers would hold after the access, `offset` where it began. */
static void write_common(struct virtio *v, unsigned offset, const struct common *c)
{
	switch (offset & ~3u) {
	case offsetof(struct common, device_feature_select):
		v->device_select = c->device_feature_select;
		return;
	case offsetof(struct common, driver_feature_select):
		v->driver_select = c->driver_feature_select;
		return;
	case offsetof(struct common, driver_feature):
		set_driver_feature(v, c->driver_feature);
		return;
	}
	if ((offset & ~1u) == offsetof(struct common, config_vector))
		v->config_vector = virtio_pci_vector(v, c->config_vector);
	else if (offset == offsetof(struct common, status))
		virtio_set_status(v, c->status);
	else if ((offset & ~1u) == offsetof(struct common, queue_select))
		v->queue_select = c->queue_select;
	else if (selected(v))
		write_queue(v, selected(v), offset, c);
}

/* ---- The BAR ------------------------------------------------------------------------------------------------------------ */

uint8_t virtio_pci_isr(struct virtio *v)
{
	uint8_t isr = v->isr;
	v->isr = 0;
	pci_intx(&v->pci, false);
	return isr;
}

static uint64_t register_read(struct device *d, uint64_t offset, unsigned size)
{
	struct virtio *v = virtio_of(d);
	unsigned at = (unsigned)offset % GROUP;
	uint64_t value = 0;
	switch (offset - at) {
	case AT_COMMON: {
		struct common c = common(v);
		if (at + size <= sizeof(c))
			memcpy(&value, (const uint8_t *)&c + at, size);
		break;
	}
	case AT_ISR:
		return at ? 0 : virtio_pci_isr(v);
	case AT_DEVICE:
		if (v->model->config_read && at + size <= v->config_size)
			v->model->config_read(v, at, &value, size);
		break;
	}
	return value;
}

static void register_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct virtio *v = virtio_of(d);
	unsigned at = (unsigned)offset % GROUP;
	switch (offset - at) {
	case AT_COMMON: {
		struct common c = common(v);
		if (at + size > sizeof(c))
			break;
		memcpy((uint8_t *)&c + at, &value, size);
		write_common(v, at, &c);
		break;
	}
	case AT_DEVICE:
		if (v->model->config_write && at + size <= v->config_size)
			v->model->config_write(v, at, &value, size);
		break;
	case AT_NOTIFY:
		virtio_notified(v, at / NOTIFY_STEP);
		break;
	}
}

static void ring(struct device *d, unsigned queue)
{
	virtio_notified(virtio_of(d), queue);
}

static void placed(struct device *d, unsigned bar, bool mapped, uint64_t address)
{
	struct virtio *v = virtio_of(d);
	for (unsigned i = 0; i < v->queues && bar == BAR_REGISTERS; i++)
		doorbell_place(v->queue[i].doorbell, mapped, address + AT_NOTIFY + i * NOTIFY_STEP);
}

static const struct bus_ops register_ops = { .read = register_read, .write = register_write, .max_size = 4 };

/* ---- The window in configuration space ---------------------------------------------------------------------------------- */

static uint32_t window_word(const struct virtio *v, unsigned at)
{
	uint32_t value;
	memcpy(&value, &v->pci.config[v->window_at + at], sizeof(value));
	return value;
}

static bool window_used(const struct virtio *v, unsigned at, unsigned size, uint32_t *offset, uint32_t *length)
{
	unsigned data = v->window_at + CAP_MORE;
	*offset = window_word(v, CAP_OFFSET);
	*length = window_word(v, CAP_SIZE);
	if (at < data || at + size > data + 4 || v->pci.config[v->window_at + CAP_BAR] != BAR_REGISTERS)
		return false;
	bool fits = *length == 1 || *length == 2 || *length == 4;
	return fits && !(*offset % *length) && *offset <= REGISTERS - *length;
}

static void config_reading(struct device *d, unsigned at, unsigned size)
{
	struct virtio *v = virtio_of(d);
	uint32_t offset, length;
	if (!window_used(v, at, size, &offset, &length))
		return;
	uint32_t value = (uint32_t)register_read(d, offset, length);
	memcpy(&v->pci.config[v->window_at + CAP_MORE], &value, sizeof(value));
}

static void config_written(struct device *d, unsigned at, unsigned size)
{
	struct virtio *v = virtio_of(d);
	uint32_t offset, length;
	if (window_used(v, at, size, &offset, &length))
		register_write(d, offset, length, window_word(v, CAP_MORE) & (uint32_t)size_mask(length));
}

/* ---- Set-up ------------------------------------------------------------------------------------------------------------- */

static int add_capability(struct virtio *v, uint8_t type, uint32_t offset, uint32_t size, unsigned more)
{
	unsigned at = pci_capability_add(&v->pci, PCI_CAP_VENDOR, CAP_BYTES + more);
	if (!at)
		return -ENOSPC;
	pci_config_define(&v->pci, at + CAP_LENGTH, 1, CAP_BYTES + more, 0);
	pci_config_define(&v->pci, at + CAP_TYPE, 1, type, 0);
	pci_config_define(&v->pci, at + CAP_BAR, 1, BAR_REGISTERS, 0);
	pci_config_define(&v->pci, at + CAP_OFFSET, 4, offset, 0);
	pci_config_define(&v->pci, at + CAP_SIZE, 4, size, 0);
	return (int)at;
}

static int add_window(struct virtio *v)
{
	int at = add_capability(v, CAP_WINDOW, 0, 0, 4);
	if (at < 0)
		return at;
	pci_config_define(&v->pci, (unsigned)at + CAP_BAR, 1, 0, UINT8_MAX);
	pci_config_define(&v->pci, (unsigned)at + CAP_OFFSET, 4, 0, UINT32_MAX);
	pci_config_define(&v->pci, (unsigned)at + CAP_SIZE, 4, 0, UINT32_MAX);
	pci_config_define(&v->pci, (unsigned)at + CAP_MORE, 4, 0, UINT32_MAX);
	v->window_at = (unsigned)at;
	return 0;
}

static int add_capabilities(struct virtio *v)
{
	int at = add_capability(v, CAP_COMMON, AT_COMMON, sizeof(struct common), 0);
	if (at >= 0)
		at = add_capability(v, CAP_ISR, AT_ISR, 1, 0);
	if (at >= 0 && v->config_size)
		at = add_capability(v, CAP_DEVICE, AT_DEVICE, v->config_size, 0);
	if (at >= 0)
		at = add_capability(v, CAP_NOTIFY, AT_NOTIFY, v->queues * NOTIFY_STEP, 4);
	if (at < 0)
		return at;
	pci_config_define(&v->pci, (unsigned)at + CAP_MORE, 4, NOTIFY_STEP, 0);
	return add_window(v);
}

int virtio_pci_init(struct virtio *v)
{
	v->pci_model = (struct pci_model){
		.vendor = VENDOR, .device = (uint16_t)(DEVICE_BASE + v->model->type), .subsystem_vendor = VENDOR, .subsystem = SUBSYSTEM,
		.class = v->model->class, .revision = REVISION, .pin = 1, .written = config_written, .reading = config_reading, .placed = placed,
		.bar = {
			[BAR_MSIX] = { .kind = PCI_BAR_MEMORY, .size = GROUP, .ops = &pci_msix_ops },
			[BAR_REGISTERS] = { .kind = PCI_BAR_MEMORY64, .prefetchable = true, .size = REGISTERS, .ops = &register_ops },
		},
	};
	if (virtio_legacy_exists(v))
		virtio_legacy_init(v, &v->pci_model);
	int error = pci_function_init(&v->pci, &v->device, &v->pci_model);
	if (!error)
		error = pci_msix_init(&v->pci, &v->msix, BAR_MSIX, v->queues + 1);
	for (unsigned i = 0; i < v->queues && v->model->quick && !error; i++)
		v->queue[i].doorbell = doorbell_add(&v->device, BUS_MEMORY, ring, i);
	return error ? error : add_capabilities(v);
}

void virtio_pci_interrupt(struct virtio *v, uint16_t which, uint8_t isr)
{
	if (pci_messages_enabled(&v->pci)) {
		if (which != VIRTIO_NO_VECTOR)
			pci_message(&v->pci, which);
		return;
	}
	v->isr |= isr;
	pci_intx(&v->pci, true);
}
