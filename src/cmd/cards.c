/* SPDX-License-Identifier: MIT */
/* Disks and what else sits in PCI slots, as the command line names them. */
#include "cmd/cards.h"
#include <stdio.h>
#include "backend/image.h"
#include "cmd/cmd.h"
#include "util/log.h"

static struct board_card *add(struct cards *c, struct board_options *board, const struct device_class *class, const char *kind, unsigned number)
{
	if (board->cards == BOARD_CARDS) {
		log_error("a machine has room for %u devices in PCI slots", BOARD_CARDS);
		return NULL;
	}
	char *name = c->name[board->cards];
	snprintf(name, sizeof(c->name[0]), "%s%u", kind, number);
	struct board_card *card = &board->card[board->cards++];
	*card = (struct board_card){ .class = class, .name = name };
	return card;
}

static int add_ide_disk(struct board_options *board, struct image *image)
{
	unsigned at = 0;
	while (at < BOARD_DRIVES && board->disk[at])
		at++;
	if (at == BOARD_DRIVES) {
		log_error("there is room for %u IDE disks; \",bus=virtio\" has more", BOARD_DRIVES);
		return EXIT_USAGE;
	}
	board->disk[at] = image;
	return EXIT_OK;
}

static int add_disk(struct cards *c, struct board_options *board, unsigned i, bool firmware)
{
	const struct image_words *words = image_words(c->disk[i]);
	if (words->bus == IMAGE_BUS_IDE || (words->bus == IMAGE_BUS_ANY && firmware))
		return add_ide_disk(board, c->disk[i]);
	struct board_card *card = add(c, board, &virtio_blk_class, "disk", i);
	if (!card)
		return EXIT_USAGE;
	c->blk[i] = (struct virtio_blk_config){ .image = c->disk[i], .serial = words->serial, .queues = (unsigned)words->queues };
	card->config = &c->blk[i];
	card->slot = (unsigned)words->slot;
	return EXIT_OK;
}

int cards_open(struct cards *c, const struct card_options *o, struct board_options *board, bool firmware)
{
	int status = EXIT_OK;
	for (unsigned i = 0; i < o->disk.count && !status; i++) {
		if (image_open(&c->disk[i], o->disk.item[i], IMAGE_WORDS))
			return EXIT_HOST;
		status = add_disk(c, board, i, firmware);
	}
	if (!status && o->rng && !add(c, board, &virtio_rng_class, "rng", 0))
		status = EXIT_USAGE;
	return status;
}

void cards_close(struct cards *c)
{
	for (unsigned i = 0; i < CARD_DISKS; i++)
		image_close(c->disk[i]);
}
