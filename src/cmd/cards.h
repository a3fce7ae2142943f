/* SPDX-License-Identifier: MIT */
/* The devices that the command line puts into PCI slots: from its words to what the board takes. */
#pragma once
#include "board/board.h"
#include "device/virtio_devices.h"
#include "util/options.h"

#define CARD_DISKS OPTION_LIST_MAX

struct card_options { /* as given */
	struct option_list disk;
	bool rng;
};
struct cards { /* what stands behind the cards, for as long as the VM */
	struct image *disk[CARD_DISKS];
	struct virtio_blk_config blk[CARD_DISKS];
	char name[BOARD_CARDS][16];
};

/* cards.c -- Opens what the options name, and adds it to the board's. `firmware`: disks that say nothing are for a BIOS, so they are on the IDE
 * bus; else they are virtio disks. An exit status, after an error. */
int cards_open(struct cards *, const struct card_options *, struct board_options *, bool firmware);
void cards_close(struct cards *); /* after the VM is gone */
