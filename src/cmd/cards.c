/* SPDX-License-Identifier: MIT */
/* Disks and what else sits in PCI slots, as the command line names them. */
#include "cmd/cards.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backend/chardev.h"
#include "backend/image.h"
#include "backend/net.h"
#include "backend/ninep.h"
#include "backend/vsock.h"
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
	if (words->serial && strlen(words->serial) > VIRTIO_BLK_SERIAL) {
		log_error("--disk ...,serial=%s: a serial number has up to %u characters", words->serial, VIRTIO_BLK_SERIAL);
		return EXIT_USAGE;
	}
	struct board_card *card = add(c, board, &virtio_blk_class, "disk", i);
	if (!card)
		return EXIT_USAGE;
	c->blk[i] = (struct virtio_blk_config){ .image = c->disk[i], .serial = words->serial, .queues = (unsigned)words->queues };
	card->config = &c->blk[i];
	card->slot = (unsigned)words->slot;
	return EXIT_OK;
}

static int add_net(struct cards *c, const struct card_options *o, struct board_options *board, unsigned i, const char *machine)
{
	const char *spec = o->net.item[i];
	int error = o->offload ? net_open_silent(&c->net[i], spec, machine, i, o->offload[i]) : net_open(&c->net[i], spec, machine, i);
	if (error)
		return command_status(error);
	bool e1000 = c->net[i]->words.model == NET_MODEL_E1000;
	struct board_card *card = add(c, board, e1000 ? &e1000_class : &virtio_net_class, "net", i);
	if (!card)
		return EXIT_USAGE;
	c->net_card[i].net = c->e1000[i].net = c->net[i];
	c->net_card[i].pairs = (unsigned)c->net[i]->words.queues;
	card->config = e1000 ? (const void *)&c->e1000[i] : &c->net_card[i];
	card->slot = (unsigned)c->net[i]->words.slot;
	return EXIT_OK;
}

static int add_share(struct cards *c, struct board_options *board, unsigned i, const char *spec)
{
	int error = ninep_open(&c->share[i], spec);
	if (error)
		return command_status(error);
	struct board_card *card = add(c, board, &virtio_9p_class, "share", i);
	if (!card)
		return EXIT_USAGE;
	c->share_card[i].folder = c->share[i];
	card->config = &c->share_card[i];
	card->slot = ninep_slot(c->share[i]);
	return EXIT_OK;
}

static int add_vsock(struct cards *c, struct board_options *board, const char *spec)
{
	int error = vsock_open(&c->vsock, spec);
	if (error)
		return command_status(error);
	struct board_card *card = add(c, board, &virtio_vsock_class, "vsock", 0);
	if (!card)
		return EXIT_USAGE;
	c->vsock_card.vsock = c->vsock;
	card->config = &c->vsock_card;
	card->slot = vsock_slot(c->vsock);
	return EXIT_OK;
}

/* A port for each --console; they are one device. */
static int add_port(struct cards *c, unsigned i, const char *spec, bool silent)
{
	static const struct option_row rows[] = {
		{ "name", "TEXT", "", OPTION_STRING, offsetof(struct virtio_console_port, name), 0, 0 },
		{ .type = OPTION_END },
	};
	struct virtio_console_port *port = &c->console.port[i];
	c->console_text[i] = strdup(spec);
	if (!c->console_text[i] || option_words("--console", rows, port, c->console_text[i]))
		return EXIT_USAGE;
	c->console.ports++;
	return command_status((silent ? chardev_open_silent : chardev_open)(&port->chardev, c->console_text[i]));
}

static int add_consoles(struct cards *c, const struct card_options *o, struct board_options *board)
{
	const struct option_list *list = &o->console;
	int status = EXIT_OK;
	for (unsigned i = 0; i < list->count && !status; i++)
		status = add_port(c, i, list->item[i], o->offload);
	if (status || !list->count)
		return status;
	struct board_card *card = add(c, board, &virtio_console_class, "console", 0);
	if (!card)
		return EXIT_USAGE;
	card->config = &c->console;
	return EXIT_OK;
}

/* What was asked for twice is known before the board finds it out. */
static int check_slots(const struct board_options *board)
{
	for (unsigned i = 0; i < board->cards; i++)
		for (unsigned k = 0; k < i; k++)
			if (board->card[i].slot && board->card[i].slot == board->card[k].slot) {
				log_error("slot=%u was given to both %s and %s", board->card[i].slot, board->card[k].name, board->card[i].name);
				return EXIT_USAGE;
			}
	return EXIT_OK;
}

int cards_open(struct cards *c, const struct card_options *o, struct board_options *board, const char *machine, bool firmware)
{
	int status = EXIT_OK;
	for (unsigned i = 0; i < o->disk.count && !status; i++) {
		int error = image_open(&c->disk[i], o->disk.item[i], IMAGE_WORDS);
		if (error)
			return command_status(error);
		if (image_size(c->disk[i]) < IMAGE_SECTOR) {
			log_error("--disk %s: %lu bytes are no sector of a disk", o->disk.item[i], image_size(c->disk[i]));
			return EXIT_HOST;
		}
		status = add_disk(c, board, i, firmware);
	}
	for (unsigned i = 0; i < o->net.count && !status; i++)
		status = add_net(c, o, board, i, machine);
	for (unsigned i = 0; i < o->share.count && !status; i++)
		status = add_share(c, board, i, o->share.item[i]);
	if (!status)
		status = add_consoles(c, o, board);
	if (!status && o->vsock)
		status = add_vsock(c, board, o->vsock);
	if (!status && o->rng && !add(c, board, &virtio_rng_class, "rng", 0))
		status = EXIT_USAGE;
	if (!status && o->balloon && !add(c, board, &virtio_balloon_class, "balloon", 0))
		status = EXIT_USAGE;
	return status ? status : check_slots(board);
}

void cards_stop(struct cards *c)
{
	for (unsigned i = 0; i < c->console.ports; i++)
		if (c->console.port[i].chardev)
			c->console.port[i].chardev->ops->stop(c->console.port[i].chardev);
}

void cards_close(struct cards *c)
{
	for (unsigned i = 0; i < CARD_EACH; i++) {
		image_close(c->disk[i]);
		net_close(c->net[i]);
		ninep_close(c->share[i]);
		chardev_close(c->console.port[i].chardev);
		free(c->console_text[i]);
	}
	vsock_close(c->vsock);
}
