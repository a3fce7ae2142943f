/* SPDX-License-Identifier: MIT */
/* Networks by their kinds: the words of --net, addresses, checksums. */
#include "backend/net.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

#define KINDS_MAX 8
#define SLOT_MAX 31
#define QUEUES_MAX 16
#define LOCAL_PREFIX 0x52, 0x54, 0x00 /* addresses that are given out by whoever runs machines */

#define AT(member) offsetof(struct net_words, member)
static const struct option_row rows[] = {
	{ "mac", "ADDRESS", "", OPTION_STRING, AT(mac), 0, 0 },
	{ "forward", "RULE", "", OPTION_LIST, AT(forward), 0, NET_FORWARDS },
	{ "model", "virtio|e1000", "", OPTION_CHOICE, AT(model), 0, 0 },
	{ "slot", "N", "", OPTION_NUMBER, AT(slot), 1, SLOT_MAX },
	{ "queues", "N", "", OPTION_NUMBER, AT(queues), 1, QUEUES_MAX },
	{ .type = OPTION_END },
};
#undef AT

static const struct net_kind *find(const char *name)
{
	const char *names[KINDS_MAX];
	unsigned count = 0;
	SET_FOREACH(struct net_kind, k, net_kinds) {
		if (!strcmp(k->name, name))
			return k;
		if (count < KINDS_MAX)
			names[count++] = k->name;
	}
	const char *nearest = option_nearest(name, names, count), *comma = strchr(name, ',');
	if (comma)
		log_error("--net ...,%s: this word is not understood; a network takes mac=ADDRESS, model=virtio|e1000, queues=N and slot=N, "
			  "a user network forward=RULE too", comma + 1);
	else if (!strcmp(name, "user"))
		log_error("--net user: this doppel was built without libslirp; install libslirp-dev and build it again");
	else
		log_error("--net: there is no network \"%s\"%s%s%s", name, nearest ? "; did you mean " : "; there are user, tap=NAME and socket=PATH",
			  nearest ? nearest : "", nearest ? "?" : "");
	return NULL;
}

/* An address of its own for each card, the same in each run. */
static void make_mac(struct net *n, unsigned number)
{
	uint32_t hash = 2166136261u;
	for (const char *c = n->machine; *c; c++)
		hash = (hash ^ (uint8_t)*c) * 16777619u;
	hash = (hash ^ number) * 16777619u;
	memcpy(n->mac, (const uint8_t[]){ LOCAL_PREFIX, (uint8_t)(hash >> 16), (uint8_t)(hash >> 8), (uint8_t)hash }, NET_MAC);
}

static int parse_mac(struct net *n)
{
	unsigned byte[NET_MAC];
	char more;
	if (sscanf(n->words.mac, "%2x:%2x:%2x:%2x:%2x:%2x%c", &byte[0], &byte[1], &byte[2], &byte[3], &byte[4], &byte[5], &more) != NET_MAC ||
	    (byte[0] & 1)) {
		log_error("--net ...,mac=%s: an address is written 52:54:00:12:34:56, and its first byte is even", n->words.mac);
		return -EINVAL;
	}
	for (unsigned i = 0; i < NET_MAC; i++)
		n->mac[i] = (uint8_t)byte[i];
	return 0;
}

static int silent_open(struct net **n)
{
	*n = calloc(1, sizeof(**n));
	return *n ? 0 : -ENOMEM;
}
static int silent_start(struct net *n)
{
	return 0;
}
static void silent_stop(struct net *n)
{
}
static void silent_close(struct net *n)
{
	free(n);
}
static void silent_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
}
static const struct net_kind silent = {
	.name = "silent", .open = silent_open, .prepare = silent_start, .start = silent_start, .stop = silent_stop, .close = silent_close, .send = silent_send,
};

static int open_as(struct net **result, const struct net_kind *as, const char *spec, const char *machine, unsigned number)
{
	struct net_words words = { 0 };
	char *text = strdup(spec);
	struct net *n;
	if (!text)
		return -ENOMEM;
	int error = option_words("--net", rows, &words, text);
	char *argument = strchr(text, '=');
	if (argument)
		*argument++ = 0;
	const struct net_kind *kind = error ? NULL : as ? as : find(text);
	if (!kind) {
		free(text);
		return -EINVAL;
	}
	error = kind->open(&n);
	if (error) {
		free(text);
		return error;
	}
	n->kind = kind;
	n->words = words;
	n->text = text;
	n->argument = argument;
	n->machine = machine;
	make_mac(n, number);
	if (words.mac)
		error = parse_mac(n);
	if (!error && words.forward.count && strcmp(kind->name, "user") && !as) {
		log_error("--net %s: only a user network forwards ports", kind->name);
		error = -EINVAL;
	}
	if (!error && words.queues > 1 && words.model != NET_MODEL_VIRTIO) {
		log_error("--net ...,queues=%lu: only a virtio card has several", words.queues);
		error = -EINVAL;
	}
	if (!error)
		error = kind->prepare(n);
	if (error)
		net_close(n);
	else
		*result = n;
	return error;
}

int net_open(struct net **result, const char *spec, const char *machine, unsigned number)
{
	return open_as(result, NULL, spec, machine, number);
}

int net_open_silent(struct net **result, const char *spec, const char *machine, unsigned number, unsigned offload)
{
	int error = open_as(result, &silent, spec, machine, number);
	if (!error)
		(*result)->offload = offload;
	return error;
}

void net_close(struct net *n)
{
	if (!n)
		return;
	char *text = n->text;
	n->kind->close(n);
	free(text);
}

int net_start(struct net *n, struct device *device, unsigned event)
{
	n->device = device;
	n->event = event;
	int error = n->kind->start(n);
	if (error)
		n->device = NULL;
	return error;
}

void net_stop(struct net *n)
{
	if (n->device)
		n->kind->stop(n);
	n->device = NULL;
}

void net_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
	n->kind->send(n, offload, iov, count, size);
}

void net_resume(struct net *n)
{
	n->full = false;
	if (n->kind->resume)
		n->kind->resume(n);
}

void net_plain(struct net *n)
{
	n->offload = 0;
	if (n->kind->plain)
		n->kind->plain(n);
}

/* A frame is one of the loop's callbacks: none comes while a safe point has them stopped. */
void net_receive(struct net *n, const uint8_t *buffer, size_t size)
{
	loop_pause(n->device->vm);
	event_post(n->device, n->event, buffer, size);
	loop_resume(n->device->vm);
}

/* RFC 1071. */
uint16_t net_sum(const uint8_t *data, size_t size)
{
	uint64_t sum = 0;
	for (; size >= 4; data += 4, size -= 4) {
		uint32_t word;
		memcpy(&word, data, sizeof(word));
		sum += word;
	}
	if (size) {
		uint32_t word = 0;
		memcpy(&word, data, size);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

bool net_checksum(const struct net_offload *o, uint8_t *frame, size_t size)
{
	if (!(o->flags & NET_NEEDS_CSUM))
		return true;
	if (o->csum_start > size || o->csum_offset + 2u > size - o->csum_start)
		return false;
	uint8_t *start = frame + o->csum_start;
	uint16_t sum = (uint16_t)~net_sum(start, size - o->csum_start); /* the field holds the pseudo header's */
	if (!sum)
		sum = 0xffff;
	memcpy(start + o->csum_offset, &sum, sizeof(sum));
	return true;
}
