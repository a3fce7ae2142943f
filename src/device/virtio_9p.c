/* SPDX-License-Identifier: MIT */
/* Virtio 9P transport: a folder of the host, as Linux's 9pnet_virtio expects it (VIRTIO 1.2 reserves device type 9; configuration: the
 * tag, with its length in front).
 *
 * A chain is a message and room for its answer. The files that the guest has open live in the host: after a load from a state they are
 * gone, and it must mount again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backend/ninep.h"
#include "device/virtio_devices.h"
#include "util/log.h"

#define QUEUE_SIZE 128
#define CLASS 0x018000
#define TAG_BYTES 32
#define SLOTS QUEUE_SIZE
#define F_MOUNT_TAG BIT(0)

struct config {
	uint16_t tag_len;
	char tag[TAG_BYTES];
} __attribute__((packed));

struct share {
	struct virtio virtio;
	struct config config;
	struct ninep *folder;
	struct ninep_server *server;
	struct virtq_chain *slot[SLOTS]; /* what is being answered, by its first descriptor */
	uint32_t generation;             /* an answer to what was asked before a reset finds nobody */
};

static struct share *of(struct virtio *v)
{
	return container_of(v, struct share, virtio);
}

static uint32_t tag_of(const struct share *s, unsigned slot)
{
	return s->generation * SLOTS | slot;
}

static void share_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct share *s = of(virtio_of(d));
	uint32_t tag;
	if (len < sizeof(tag))
		return;
	memcpy(&tag, data, sizeof(tag));
	struct virtq_chain *c = s->slot[tag % SLOTS];
	if (!c || tag != tag_of(s, tag % SLOTS))
		return;
	s->slot[tag % SLOTS] = NULL;
	len -= sizeof(tag);
	struct virtq *q = c->queue;
	if (len < NINEP_HEADER || len > c->in_size) {
		virtio_break(&s->virtio, "%s", len < NINEP_HEADER ? "that is no 9P message" : "no room for the answer");
		virtq_drop(c);
		return;
	}
	virtq_write(c, 0, (const uint8_t *)data + sizeof(tag), len);
	virtq_push(c, len);
	virtq_interrupt(q);
}

static void begin(struct share *s, struct virtq_chain *c)
{
	size_t size = MIN(c->out_size, NINEP_MSIZE_MAX);
	uint8_t *message = malloc(size ? size : 1);
	if (!message) {
		vm_kill(s->virtio.device.vm, "out of memory for a request of %s", s->virtio.device.name);
		virtq_drop(c);
		return;
	}
	virtq_read(c, 0, message, size);
	s->slot[c->head] = c;
	ninep_ask(s->server, tag_of(s, c->head), message, size);
	free(message);
}

static void share_notify(struct virtio *v, unsigned queue)
{
	struct virtq_chain *c;
	while ((c = virtq_pop(&v->queue[queue])))
		begin(of(v), c);
}

static void share_resume(struct virtio *v, struct virtq_chain *c)
{
	begin(of(v), c);
}

static void share_forget(struct virtio *v, unsigned queue)
{
	struct share *s = of(v);
	ninep_drain(s->server);
	s->generation++;
	for (unsigned i = 0; i < SLOTS; i++) {
		if (s->slot[i])
			virtq_drop(s->slot[i]);
		s->slot[i] = NULL;
	}
}

static void config_read(struct virtio *v, unsigned offset, void *data, unsigned size)
{
	memcpy(data, (const uint8_t *)&of(v)->config + offset, size);
}

static const struct virtio_model model = {
	.type = VIRTIO_9P, .class = CLASS, .features = F_MOUNT_TAG, .config_read = config_read, .notify = share_notify,
	.forget = share_forget, .resume = share_resume,
};

static int share_init(struct device *d)
{
	struct share *s = of(virtio_of(d));
	const struct virtio_9p_config *config = d->place->config;
	s->folder = config->folder;
	s->config.tag_len = (uint16_t)strlen(ninep_tag(s->folder));
	memcpy(s->config.tag, ninep_tag(s->folder), MIN(s->config.tag_len, TAG_BYTES));
	s->virtio.model = &model;
	s->virtio.queues = 1;
	s->virtio.config_size = sizeof(s->config.tag_len) + s->config.tag_len;
	int error = ninep_start(&s->server, s->folder, d, 0);
	return error ? error : virtio_init(&s->virtio, QUEUE_SIZE);
}

static void share_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int share_post_load(struct device *d, uint32_t version)
{
	return virtio_loaded(virtio_of(d));
}

static void share_fini(struct device *d)
{
	struct share *s = of(virtio_of(d));
	ninep_stop(s->server);
	for (unsigned i = 0; i < SLOTS; i++)
		free(s->slot[i]);
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct share),
	FIELD_END,
};

const struct device_class virtio_9p_class = {
	.name = "virtio-9p", .summary = "virtio shared folder (9P)", .size = sizeof(struct share), .init = share_init, .reset = share_reset,
	.fini = share_fini, .event = share_event, .fields = fields, .version = 1, .post_load = share_post_load,
};
DEVICE_CLASS(virtio_9p_class);
