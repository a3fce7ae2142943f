/* SPDX-License-Identifier: MIT */
/* Fuzz target: a guest that drives the virtio devices with any bytes: registers, configuration space, rings and what is in them. The
 * input is a list of steps; the first byte chooses the device. */
#include <stdlib.h>
#include <unistd.h>
#include "backend/chardev.h"
#include "backend/image.h"
#include "backend/ninep.h"
#include "backend/vsock.h"
#include "net_test.h"
#include "virtio_driver.h"

#define QUEUES 5
#define FUZZ_PORTS 0x8000       /* offsets from here on are those of ports */
#define PORTS 128
#define IMAGE_BYTES (64 * KiB)

static struct image *image;
static struct virtio_blk_config blk_config = { .queues = 2 };
static const struct virtio_net_config net_config = { .net = &net, .pairs = 2 };
static const struct virtio_console_config console_config = { .ports = 1 };
static struct virtio_9p_config share_config;
static struct virtio_vsock_config vsock_config;
static const struct device_place bridge[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
};
static struct device_place kinds[] = {
	{ .class = &virtio_rng_class, .name = "device", .base = DRIVER_AT, .irq = -1 },
	{ .class = &virtio_blk_class, .name = "device", .base = DRIVER_AT, .irq = -1, .config = &blk_config },
	{ .class = &virtio_net_class, .name = "device", .base = DRIVER_AT, .irq = -1, .config = &net_config },
	{ .class = &virtio_console_class, .name = "device", .base = DRIVER_AT, .irq = -1, .config = &console_config },
	{ .class = &virtio_balloon_class, .name = "device", .base = DRIVER_AT, .irq = -1 },
	{ .class = &virtio_9p_class, .name = "device", .base = DRIVER_AT, .irq = -1, .config = &share_config },
	{ .class = &virtio_vsock_class, .name = "device", .base = DRIVER_AT, .irq = -1, .config = &vsock_config },
};
enum { BLK = 1, SHARE = 5, VSOCK = 6 };
static struct vm *machines[ARRAY_SIZE(kinds)];

static void make_image(void)
{
	char path[] = "/tmp/doppel-fuzz.XXXXXX";
	int fd = mkstemp(path);
	(void)!ftruncate(fd, IMAGE_BYTES);
	close(fd);
	image_open(&image, path, 0);
	unlink(path);
	blk_config.image = image;
}

/* A share that nothing is written to (tests/fuzz/ninep.c has the protocol), and sockets where nobody is. */
static void make_folders(void)
{
	char path[] = "/tmp/doppel-fuzz.XXXXXX", spec[64];
	struct ninep *share;
	(void)!mkdtemp(path);
	snprintf(spec, sizeof(spec), "%s,tag=share,readonly", path);
	ninep_open(&share, spec);
	share_config.folder = share;
	snprintf(spec, sizeof(spec), "%s/vsock", path);
	vsock_open(&vsock_config.vsock, spec);
	unlink(spec);
	rmdir(path);
}

static void set_up(void)
{
	static bool done_once;
	if (done_once)
		return;
	done_once = true;
	net.offload = NET_TAKES_CSUM | NET_TAKES_SEGMENTS | NET_GIVES_CSUM | NET_GIVES_SEGMENTS;
	make_image();
	make_folders();
	for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct device_place places[] = { bridge[0], bridge[1], kinds[i] };
		struct device_place *kept = malloc(sizeof(places));
		memcpy(kept, places, sizeof(places));
		machines[i] = machine(1, kept, ARRAY_SIZE(places));
	}
}

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *in, unsigned size)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < size && in->left; i++, in->left--)
		value |= (uint64_t)*in->data++ << 8 * i;
	return value;
}

/* Something happens to a stream, which there may be. */
static void come_to_vsock(unsigned what, unsigned stream, struct input *in)
{
	static uint8_t data[sizeof(struct vsock_news) + 2048];
	struct vsock_news news = { stream % 8 + VSOCK_STREAMS * (1 + stream / 8), (uint32_t)take(in, 1) };
	memcpy(data, &news, sizeof(news));
	event_post(device_find(vm, "device"), what % (VSOCK_GONE + 1), data, sizeof(news) + (size_t)take(in, 1) * 8);
}

static void step(struct input *in)
{
	unsigned queue = 0;
	switch (take(in, 1) % 8) {
	case 0: {
		unsigned at = (unsigned)take(in, 2), size = 1u << take(in, 1) % 3;
		bool port = at >= FUZZ_PORTS;
		bus_write(vm, port ? BUS_PORT : BUS_MEMORY, port ? DRIVER_PORTS + at % PORTS : DRIVER_BAR + at, size, take(in, size));
		break;
	}
	case 1: {
		unsigned at = (unsigned)take(in, 2), size = 1u << take(in, 1) % 3;
		bool port = at >= FUZZ_PORTS;
		bus_read(vm, port ? BUS_PORT : BUS_MEMORY, port ? DRIVER_PORTS + at % PORTS : DRIVER_BAR + at, size);
		break;
	}
	case 2: {
		unsigned at = (unsigned)take(in, 1) & 0xfc;
		if (at >= PCI_OWN) /* BARs stay, or nothing is reached any more */
			pci_write(vm, DRIVER_AT, at, 4, (uint32_t)take(in, 4));
		break;
	}
	case 3: { /* a descriptor whose fields are mostly sensible */
		unsigned i = (unsigned)take(in, 1) % 16;
		queue = (unsigned)take(in, 1) % QUEUES;
		put_desc(queue, i, BUFFERS + take(in, 2), (uint32_t)take(in, 2), (uint16_t)take(in, 1), (uint16_t)(take(in, 1) % 17));
		break;
	}
	case 4: {
		queue = (unsigned)take(in, 1) % QUEUES;
		offer(queue, (uint16_t)(take(in, 1) % 17));
		break;
	}
	case 5:
		kick((unsigned)take(in, 1) % QUEUES);
		break;
	case 6: {
		uint64_t value = take(in, 8);
		guest_write(vm, (take(in, 1) & 1 ? RINGS : BUFFERS) + take(in, 2), &value, sizeof(value));
		break;
	}
	case 7: { /* the disk's and the share's events are their backends' */
		uint8_t input[64] = { (uint8_t)take(in, 1), (uint8_t)take(in, 1), (uint8_t)take(in, 1) };
		clock_step(vm, 1000 * input[0]);
		if (vm == machines[VSOCK])
			come_to_vsock(input[1], input[2], in);
		else if (vm != machines[BLK] && vm != machines[SHARE])
			event_post(device_find(vm, "device"), input[1] % 2 ? CHARDEV_WRITABLE : CHARDEV_INPUT, input, input[1] % 2 ? 0 : sizeof(input));
		break;
	}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	set_up();
	vm = machines[take(&in, 1) % ARRAY_SIZE(kinds)];
	device_reset_all(vm, RESET_COLD);
	driver_find(vm);
	driver_start(offered() & take(&in, 8), MIN(QUEUES, (unsigned)reg(NUM_QUEUES, 2)));
	for (unsigned i = 0; i < QUEUES; i++)
		drv.size[i] = 16;
	while (in.left) {
		step(&in);
		if (sent) /* as a backend does */
			net_checksum(&last_out()->offload, out[(sent - 1) % FRAMES].data, last_out()->size);
	}
	clock_step(vm, MILLISECOND);
	return 0;
}
