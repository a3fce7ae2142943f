/* SPDX-License-Identifier: MIT */
/* Virtio memory balloon: VIRTIO 1.2, section 5.5: the guest gives pages back to the host when it is asked to, and, with free page reporting,
 * of its own accord those that it does not use.
 *
 * What is given back reads as zeros when it is touched again. */
#include <errno.h>
#include <string.h>
#include "device/virtio_devices.h"

#define QUEUE_SIZE 128
#define CLASS 0x00ff00
#define PAGE 4096u               /* of this device, whatever the processor's are */
#define PAGES_AT_ONCE 256
enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_REPORT, QUEUES };
enum { F_MUST_TELL_HOST = BIT(0), F_DEFLATE_ON_OOM = BIT(2), F_REPORTING = BIT(5) };

struct config {
	uint32_t num_pages;      /* what the host wants the balloon to be */
	uint32_t actual;         /* what the guest says it is */
};

struct balloon {
	struct virtio virtio;
	uint32_t num_pages, actual;
};

static struct balloon *of(struct virtio *v)
{
	return container_of(v, struct balloon, virtio);
}

static struct vm *vm_of(struct balloon *b)
{
	return b->virtio.device.vm;
}

/* Page frame numbers, in runs as they come. */
static void give_back(struct balloon *b, struct virtq_chain *chain)
{
	uint32_t frame[PAGES_AT_ONCE];
	for (uint64_t at = 0; at < chain->out_size; at += sizeof(frame)) {
		size_t count = virtq_read(chain, at, frame, sizeof(frame)) / sizeof(frame[0]);
		for (size_t i = 0, run; i < count; i += run) {
			run = 1;
			while (i + run < count && frame[i + run] == frame[i] + run)
				run++;
			memory_discard(vm_of(b), (gpa_t)frame[i] * PAGE, run * PAGE);
		}
	}
}

static void report(struct balloon *b, struct virtq_chain *chain)
{
	for (unsigned i = 0; i < chain->in; i++)
		memory_discard(vm_of(b), chain->in_at[i], chain->iov[chain->out + i].iov_len);
}

static void balloon_notify(struct virtio *v, unsigned queue)
{
	struct virtq_chain *chain;
	while ((chain = virtq_pop(&v->queue[queue]))) {
		if (queue == QUEUE_INFLATE)
			give_back(of(v), chain);
		else if (queue == QUEUE_REPORT)
			report(of(v), chain);
		virtq_push(chain, 0);
	}
	virtq_interrupt(&v->queue[queue]);
}

static void balloon_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct balloon *b = of(virtio_of(d));
	uint64_t bytes;
	if (kind != VIRTIO_BALLOON_TARGET || len != sizeof(bytes))
		return;
	memcpy(&bytes, data, sizeof(bytes));
	b->num_pages = (uint32_t)(MIN(bytes, d->vm->config.memory) / PAGE);
	virtio_config_changed(&b->virtio);
}

uint64_t virtio_balloon_size(struct device *d)
{
	struct balloon *b = of(virtio_of(d));
	pthread_mutex_lock(&d->lock);
	uint64_t size = (uint64_t)b->actual * PAGE;
	pthread_mutex_unlock(&d->lock);
	return size;
}

static void config_read(struct virtio *v, unsigned offset, void *data, unsigned size)
{
	struct config config = { of(v)->num_pages, of(v)->actual };
	memcpy(data, (const uint8_t *)&config + offset, size);
}

static void config_write(struct virtio *v, unsigned offset, const void *data, unsigned size)
{
	unsigned at = offset - offsetof(struct config, actual); /* the legacy interface writes bytes */
	if (offset >= offsetof(struct config, actual) && at + size <= sizeof(of(v)->actual))
		memcpy((uint8_t *)&of(v)->actual + at, data, size);
}

/* The balloon is the driver's; what the host wants stays. */
static void balloon_model_reset(struct virtio *v)
{
	of(v)->actual = 0;
}

static const struct virtio_model model = {
	.type = VIRTIO_BALLOON, .class = CLASS, .features = F_MUST_TELL_HOST | F_DEFLATE_ON_OOM | F_REPORTING, .config_read = config_read,
	.config_write = config_write, .notify = balloon_notify, .reset = balloon_model_reset,
};

static int balloon_init(struct device *d)
{
	struct virtio *v = virtio_of(d);
	v->model = &model;
	v->queues = QUEUES;
	v->config_size = sizeof(struct config);
	return virtio_init(v, QUEUE_SIZE);
}

static void balloon_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int balloon_post_load(struct device *d, uint32_t version)
{
	return virtio_loaded(virtio_of(d));
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct balloon),
	FIELD_U32(struct balloon, num_pages),
	FIELD_U32(struct balloon, actual),
	FIELD_END,
};

const struct device_class virtio_balloon_class = {
	.name = "virtio-balloon", .summary = "virtio memory balloon", .size = sizeof(struct balloon), .init = balloon_init,
	.reset = balloon_reset, .event = balloon_event, .fields = fields, .version = 1, .post_load = balloon_post_load,
};
DEVICE_CLASS(virtio_balloon_class);
