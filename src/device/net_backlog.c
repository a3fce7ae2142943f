/* SPDX-License-Identifier: MIT */
/* See net_backlog.h. */
#include "device/net_backlog.h"
#include <stdlib.h>
#include <string.h>

#define FULL 64         /* frames: the backend holds back */
#define MOST 512        /* it has more nevertheless: they are lost */

void net_backlog_init(struct net_backlog *b)
{
	*b = (struct net_backlog){ .last = &b->first };
}

void net_backlog_keep(struct net_backlog *b, struct net *net, const uint8_t *data, size_t size)
{
	struct net_waiting *w = b->count < MOST ? malloc(sizeof(*w) + size) : NULL;
	if (!w)
		return;
	w->next = NULL;
	w->size = size;
	memcpy(w->data, data, size);
	*b->last = w;
	b->last = &w->next;
	b->count++;
	if (b->count >= FULL)
		net->full = true;
}

void net_backlog_drop_first(struct net_backlog *b)
{
	struct net_waiting *w = b->first;
	b->first = w->next;
	if (!b->first)
		b->last = &b->first;
	b->count--;
	free(w);
}

void net_backlog_drop(struct net_backlog *b, struct net *net)
{
	while (b->first)
		net_backlog_drop_first(b);
	if (net)
		net_backlog_eased(b, net);
}

void net_backlog_eased(struct net_backlog *b, struct net *net)
{
	if (net->full && b->count < FULL && net->device)
		net_resume(net);
}
