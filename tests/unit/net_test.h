/* SPDX-License-Identifier: MIT */
/* The network of the tests of cards: keeps what is sent, and gives what the test wants to come. */
#pragma once
#include <string.h>
#include "backend/net.h"

struct frame {
	uint8_t data[NET_FRAME_MAX];
	size_t size;
	struct net_offload offload;
};

#define FRAMES 64
static struct frame out[FRAMES]; /* the nth that was sent is at n % FRAMES */
static unsigned sent, resumed;

static int test_net_start(struct net *n)
{
	return 0;
}

static void test_net_stop(struct net *n)
{
}

/* Each byte is read, so that sanitizers see what is no memory of ours. */
static void test_net_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
	struct frame *f = &out[sent++ % FRAMES];
	f->size = 0;
	f->offload = *offload;
	for (unsigned i = 0; i < count; i++) {
		size_t here = MIN(iov[i].iov_len, sizeof(f->data) - f->size);
		memcpy(f->data + f->size, iov[i].iov_base, here);
		f->size += here;
	}
}

static void test_net_resume(struct net *n)
{
	resumed++;
}

static const struct net_kind test_net_kind = {
	.name = "test", .start = test_net_start, .stop = test_net_stop, .send = test_net_send, .resume = test_net_resume,
};
static struct net net = { .kind = &test_net_kind, .mac = { 0x52, 0x54, 0, 1, 2, 3 } };

/* For the next machine. */
__attribute__((unused)) static void net_fresh(void)
{
	net.full = false;
	sent = resumed = 0;
}

/* What was sent last. */
__attribute__((unused)) static const struct frame *last_out(void)
{
	return &out[(sent - 1) % FRAMES];
}

__attribute__((unused)) static void come_with(const uint8_t *frame, size_t size, struct net_offload offload)
{
	uint8_t buffer[sizeof(offload) + NET_FRAME_MAX];
	memcpy(buffer, &offload, sizeof(offload));
	memcpy(buffer + sizeof(offload), frame, size);
	net_receive(&net, buffer, sizeof(offload) + size);
}

__attribute__((unused)) static void come(const uint8_t *frame, size_t size)
{
	come_with(frame, size, (struct net_offload){ 0 });
}
