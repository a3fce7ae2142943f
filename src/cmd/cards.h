/* SPDX-License-Identifier: MIT */
/* The devices that the command line puts into PCI slots: from its words to what the board takes. */
#pragma once
#include "board/board.h"
#include "device/chips.h"
#include "device/virtio_devices.h"
#include "util/options.h"

#define CARD_EACH OPTION_LIST_MAX /* of one kind */

struct card_options { /* as given */
	struct option_list disk, net, console, share;
	bool rng, balloon;
	const char *vsock;
	const unsigned *offload; /* of the networks, where consoles and networks are silent: for a machine beside another one. NULL: they are not */
};
struct cards { /* what stands behind the cards, for as long as the VM */
	struct image *disk[CARD_EACH];
	struct virtio_blk_config blk[CARD_EACH];
	struct net *net[CARD_EACH];
	struct virtio_net_config net_card[CARD_EACH];
	struct e1000_config e1000[CARD_EACH];
	struct ninep *share[CARD_EACH];
	struct virtio_9p_config share_card[CARD_EACH];
	struct virtio_console_config console;
	struct vsock *vsock;
	struct virtio_vsock_config vsock_card;
	char *console_text[CARD_EACH];
	char name[BOARD_CARDS][16];
};

/* cards.c -- Opens what the options name, and adds it to the board's. `firmware`: disks that say nothing are for a BIOS, so they are on the IDE
 * bus; else they are virtio disks. `machine` is the VM's name. An exit status, after an error. */
int cards_open(struct cards *, const struct card_options *, struct board_options *, const char *machine, bool firmware);
void cards_stop(struct cards *);  /* the VM has ended: nothing of it is written any more */
void cards_close(struct cards *); /* after the VM is gone */
