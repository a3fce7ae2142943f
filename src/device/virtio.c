/* SPDX-License-Identifier: MIT */
/* The part of a virtio device that no transport and no kind of device knows of: VIRTIO 1.2, chapters 2 and 3.
 *
 * Offered to every driver: indirect descriptors, event indices, reset of single queues. A driver must accept VERSION_1, unless it comes by the
 * legacy interface. */
#include "device/virtio.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "util/log.h"

#define CORE_FEATURES (VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_RESET)
#define ISR_CONFIG 2

int virtio_init(struct virtio *v, unsigned queue_size)
{
	v->features = (v->features ? v->features : v->model->features) | CORE_FEATURES;
	for (unsigned i = 0; i < v->queues; i++) {
		v->queue[i].virtio = v;
		v->queue[i].index = (uint16_t)i;
		v->queue[i].size_max = (uint16_t)queue_size;
	}
	return virtio_pci_init(v);
}

static void clear_queue(struct virtq *q)
{
	*q = (struct virtq){ .virtio = q->virtio, .index = q->index, .size_max = q->size_max, .size = q->size_max,
		.doorbell = q->doorbell,
		.vector = VIRTIO_NO_VECTOR };
}

static void forget(struct virtio *v, unsigned queue)
{
	if (v->model->forget)
		v->model->forget(v, queue);
}

static void driver_reset(struct virtio *v)
{
	v->status = 0; /* from here on nothing is written to the rings */
	v->legacy = false;
	for (unsigned i = 0; i < v->queues; i++) {
		forget(v, i);
		clear_queue(&v->queue[i]);
	}
	v->device_select = v->driver_select = 0;
	v->driver_features = 0;
	v->config_vector = VIRTIO_NO_VECTOR;
	v->queue_select = 0;
	v->isr = 0;
	pci_intx(&v->pci, false);
	if (v->model->reset)
		v->model->reset(v);
}

void virtio_reset(struct virtio *v)
{
	driver_reset(v);
	v->generation = 0;
	pci_function_reset(&v->pci);
}

void virtio_break(struct virtio *v, const char *why, ...)
{
	char text[160];
	va_list args;
	if (v->status & VIRTIO_NEEDS_RESET)
		return;
	va_start(args, why);
	vsnprintf(text, sizeof(text), why, args);
	va_end(args);
	trace(virtio, "%s: needs a reset: %s", v->device.name, text);
	v->status |= VIRTIO_NEEDS_RESET;
	if (v->status & VIRTIO_DRIVER_OK)
		virtio_pci_interrupt(v, v->config_vector, ISR_CONFIG);
}

void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (virtio_is_ready(v))
		virtio_pci_interrupt(v, v->config_vector, ISR_CONFIG);
}

/* 3.1.1: FEATURES_OK stays clear when the driver asks for what was not offered, or does not know version 1. */
static bool features_fit(const struct virtio *v)
{
	return !(v->driver_features & ~v->features) && virtio_has(v, VIRTIO_F_VERSION_1);
}

void virtio_set_status(struct virtio *v, uint8_t status)
{
	uint8_t old = v->status;
	trace(virtio, "%s: status %#x, features %#lx", v->device.name, status, v->driver_features);
	if (!status) {
		driver_reset(v);
		return;
	}
	if (!(old & VIRTIO_FEATURES_OK) && (status & VIRTIO_FEATURES_OK) && !features_fit(v))
		status &= (uint8_t)~VIRTIO_FEATURES_OK;
	if (!(status & VIRTIO_FEATURES_OK) && !v->legacy)
		status &= (uint8_t)~VIRTIO_DRIVER_OK;
	v->status = (uint8_t)(status & ~VIRTIO_NEEDS_RESET) | (old & VIRTIO_NEEDS_RESET);
	if (!(old & VIRTIO_DRIVER_OK) && (status & VIRTIO_DRIVER_OK) && virtio_is_ready(v)) {
		if (v->model->ready)
			v->model->ready(v);
		for (unsigned i = 0; i < v->queues; i++) /* a driver may have filled them before */
			virtio_notified(v, i);
	}
}

void virtio_queue_enable(struct virtio *v, unsigned queue)
{
	struct virtq *q = &v->queue[queue];
	q->enabled = true;
	q->next = q->put = q->told = 0;
}

void virtio_queue_reset(struct virtio *v, unsigned queue)
{
	v->queue[queue].enabled = false;
	forget(v, queue);
	clear_queue(&v->queue[queue]);
}

void virtio_notified(struct virtio *v, unsigned queue)
{
	if (queue < v->queues && v->queue[queue].enabled && virtio_is_ready(v))
		v->model->notify(v, queue);
}

/* ---- State -------------------------------------------------------------------------------------------------------------- */

static bool queue_sane(const struct virtq *q, unsigned vectors)
{
	if (!q->size || q->size > q->size_max || (q->size & (q->size - 1)))
		return false;
	for (unsigned i = q->size; i < VIRTQ_SIZE_MAX; i++)
		if (q->busy[i / 64] & BIT(i % 64))
			return false;
	return q->vector == VIRTIO_NO_VECTOR || q->vector < vectors;
}

static void resume_queue(struct virtio *v, struct virtq *q)
{
	for (unsigned head = 0; head < q->size; head++) {
		struct virtq_chain *c = virtq_resume(q, (uint16_t)head);
		if (c && v->model->resume)
			v->model->resume(v, c);
		else if (c)
			virtq_drop(c);
		else
			q->busy[head / 64] &= ~BIT(head % 64);
	}
}

/* A driver may write any features; they are looked at when it says that they are all. */
static bool features_sane(const struct virtio *v)
{
	bool agreed = v->legacy || (v->status & VIRTIO_FEATURES_OK);
	return !(agreed && (v->driver_features & ~virtio_offered(v))) && (!v->legacy || virtio_legacy_exists(v));
}

int virtio_loaded(struct virtio *v)
{
	uint64_t busy[VIRTIO_QUEUES_MAX][ARRAY_SIZE(v->queue[0].busy)];
	uint8_t status = v->status;
	v->status = 0;
	for (unsigned i = 0; i < v->queues; i++) { /* the chains of before are no longer ours: only those of the state are */
		memcpy(busy[i], v->queue[i].busy, sizeof(busy[i]));
		forget(v, i);
		memcpy(v->queue[i].busy, busy[i], sizeof(busy[i]));
	}
	v->status = status;
	for (unsigned i = 0; i < v->queues; i++)
		if (!queue_sane(&v->queue[i], v->msix.count))
			goto refuse;
	if (!features_sane(v))
		goto refuse;
	if (v->config_vector != VIRTIO_NO_VECTOR && v->config_vector >= v->msix.count)
		goto refuse;
	pci_function_loaded(&v->pci);
	if (!(v->status & VIRTIO_FEATURES_OK) && !v->legacy)
		v->status &= (uint8_t)~VIRTIO_DRIVER_OK;
	for (unsigned i = 0; i < v->queues; i++)
		resume_queue(v, &v->queue[i]);
	return 0;
refuse:
	for (unsigned i = 0; i < v->queues; i++)
		memset(v->queue[i].busy, 0, sizeof(v->queue[i].busy));
	return -EPROTO;
}

static const struct field queue_fields[] = {
	FIELD_BOOL(struct virtq, enabled),
	FIELD_U16(struct virtq, size),
	FIELD_U16(struct virtq, vector),
	FIELD_U64(struct virtq, desc),
	FIELD_U64(struct virtq, avail),
	FIELD_U64(struct virtq, used),
	FIELD_U16(struct virtq, next),
	FIELD_U16(struct virtq, put),
	FIELD_U16(struct virtq, told),
	FIELD_U64(struct virtq, busy),
	FIELD_END,
};

const struct field virtio_fields[] = {
	FIELD_STRUCT(struct virtio, pci, pci_function_fields, struct pci_function),
	FIELD_STRUCT(struct virtio, msix, pci_msix_fields, struct pci_msix),
	FIELD_U32(struct virtio, device_select),
	FIELD_U32(struct virtio, driver_select),
	FIELD_U64(struct virtio, driver_features),
	FIELD_U16(struct virtio, config_vector),
	FIELD_U16(struct virtio, queue_select),
	FIELD_U8(struct virtio, status),
	FIELD_U8(struct virtio, generation),
	FIELD_U8(struct virtio, isr),
	FIELD_BOOL(struct virtio, legacy),
	FIELD_STRUCT(struct virtio, queue, queue_fields, struct virtq),
	FIELD_END,
};
