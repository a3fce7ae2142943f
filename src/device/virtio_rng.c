/* SPDX-License-Identifier: MIT */
/* Virtio entropy device: VIRTIO 1.2, section 5.4. */
#include <sys/random.h>
#include "device/virtio_devices.h"

#define QUEUE_SIZE 64
#define CLASS 0x00ff00
#define BYTES_MAX (64 * KiB) /* of one request: more than any driver asks for */

struct rng {
	struct virtio virtio;
	uint64_t state;         /* of the generator, where two runs are to be the same; saved */
};

static struct rng *of(struct virtio *v)
{
	return container_of(v, struct rng, virtio);
}

/* SplitMix64: no secret, but every bit of it changes. */
static uint64_t next_counted(struct rng *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ULL;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static uint64_t fill(struct rng *r, uint8_t *data, uint64_t size)
{
	if (r->virtio.device.vm->clock.mode == CLOCK_HOST) {
		ssize_t n = getrandom(data, MIN(size, (uint64_t)256), 0);
		return n < 0 ? 0 : (uint64_t)n;
	}
	uint64_t value = next_counted(r), n = MIN(size, (uint64_t)sizeof(value));
	for (unsigned i = 0; i < n; i++)
		data[i] = (uint8_t)(value >> 8 * i);
	return n;
}

static uint64_t fill_chain(struct rng *r, struct virtq_chain *c)
{
	uint64_t total = 0;
	for (unsigned i = 0; i < c->in && total < BYTES_MAX; i++) {
		const struct iovec *p = &c->iov[c->out + i];
		uint64_t size = MIN((uint64_t)p->iov_len, BYTES_MAX - total), done = 0, n = 1;
		while (done < size && n) {
			n = fill(r, (uint8_t *)p->iov_base + done, size - done);
			done += n;
		}
		total += done;
	}
	return total;
}

static void notify(struct virtio *v, unsigned queue)
{
	struct virtq_chain *c;
	while ((c = virtq_pop(&v->queue[queue])))
		virtq_push(c, fill_chain(of(v), c));
	virtq_interrupt(&v->queue[queue]);
}

static const struct virtio_model model = { .type = VIRTIO_RNG, .class = CLASS, .notify = notify };

static int rng_init(struct device *d)
{
	struct virtio *v = virtio_of(d);
	v->model = &model;
	v->queues = 1;
	return virtio_init(v, QUEUE_SIZE);
}

static void rng_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int rng_post_load(struct device *d, uint32_t version)
{
	return virtio_loaded(virtio_of(d));
}

static const struct field fields[] = {
	VIRTIO_FIELDS(struct rng),
	FIELD_U64(struct rng, state),
	FIELD_END,
};

const struct device_class virtio_rng_class = {
	.name = "virtio-rng", .summary = "virtio random numbers", .size = sizeof(struct rng), .init = rng_init, .reset = rng_reset,
	.fields = fields, .version = 1, .post_load = rng_post_load,
};
DEVICE_CLASS(virtio_rng_class);
