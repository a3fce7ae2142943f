/* SPDX-License-Identifier: MIT */
/* Frames that came for a network card whose driver has no buffer for them: a few wait, then the backend is told to hold back. What waits is
 * lost with a save, as on a wire. With the card's lock held. */
#pragma once
#include "backend/net.h"

struct net_waiting {
	struct net_waiting *next;
	size_t size;
	uint8_t data[];         /* a struct net_offload, and the frame */
};
struct net_backlog {
	struct net_waiting *first, **last;
	unsigned count;
};

/* net_backlog.c -- */
void net_backlog_init(struct net_backlog *);
void net_backlog_keep(struct net_backlog *, struct net *, const uint8_t *data, size_t size);
void net_backlog_drop_first(struct net_backlog *);
/* All; and the backend (NULL: none any more) may go on. */
void net_backlog_drop(struct net_backlog *, struct net *);
/* Some have gone: lets the backend go on when there is room again. */
void net_backlog_eased(struct net_backlog *, struct net *);
