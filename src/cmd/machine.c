/* SPDX-License-Identifier: MIT */
/* Sets up the machine of a command line. */
#include "cmd/machine.h"
#include <errno.h>
#include <string.h>
#include "backend/chardev.h"
#include "backend/image.h"
#include "cmd/cmd.h"
#include "device/ata.h"
#include "util/log.h"

static int open_backend(struct chardev **chardev, const struct run_options *o, const char *spec)
{
	return command_status((o->cards.offload ? chardev_open_silent : chardev_open)(chardev, spec));
}

static bool is_stdio(const char *spec)
{
	return spec && !strcmp(spec, "stdio");
}

static int open_backends(struct machine *m, const struct run_options *o)
{
	int status = EXIT_OK;
	if (o->debugcon)
		status = open_backend(&m->board.debugcon, o, o->debugcon);
	for (unsigned i = 0; i < o->serial.count && !status; i++)
		status = open_backend(&m->board.serial[i], o, o->serial.item[i]);
	if (!status && o->bios_log)
		status = open_backend(&m->board.bios_log, o, o->bios_log);
	/* Standard input and output are the console's unless somebody else was given them. */
	if (!status && !o->serial.count && !is_stdio(o->debugcon) && !is_stdio(o->bios_log))
		status = open_backend(&m->board.serial[0], o, "stdio");
	return status;
}

/* "cdrom,disk": into four bits each. */
static int parse_boot_order(const char *list, uint16_t *order)
{
	const char *all = list;
	static const char *const words[] = { "floppy", "disk", "cdrom" }; /* 1, 2, 3: struct mc146818_config */
	char word[16];
	for (unsigned at = 0; option_word(&list, word, sizeof(word)); at++) {
		unsigned i = 0;
		while (i < ARRAY_SIZE(words) && strcmp(words[i], word))
			i++;
		if (i == ARRAY_SIZE(words) || at == ARRAY_SIZE(words)) {
			log_error("--boot %s: a list of up to three of floppy, disk and cdrom, as \"cdrom,disk\"", all);
			return EXIT_USAGE;
		}
		*order |= (uint16_t)((i + 1) << 4 * at);
	}
	return EXIT_OK;
}

static int open_list(struct image **images, const struct option_list *list, unsigned flags)
{
	for (unsigned i = 0; i < list->count; i++) {
		int error = image_open(&images[i], list->item[i], flags);
		if (error)
			return command_status(error);
	}
	return EXIT_OK;
}

static int open_cdroms(struct image **images, const struct option_list *list)
{
	int status = open_list(images, list, IMAGE_READONLY);
	for (unsigned i = 0; i < list->count && !status; i++) {
		if (image_size(images[i]) >= CD_BLOCK)
			continue;
		log_error("--cdrom %s: %lu bytes are no block of a CD", list->item[i], image_size(images[i]));
		status = EXIT_HOST;
	}
	return status;
}

static int open_media(struct machine *m, const struct run_options *o)
{
	int status = o->boot ? parse_boot_order(o->boot, &m->board.boot_order) : EXIT_OK;
	if (!status)
		status = cards_open(&m->cards, &o->cards, &m->board, o->name ? o->name : MACHINE_NAME, o->bios);
	if (!status)
		status = open_cdroms(m->board.cdrom, &o->cdrom);
	if (!status)
		status = open_list(m->board.floppy, &o->floppy, IMAGE_WORDS);
	return status;
}

static void close_list(struct image **images, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		image_close(images[i]);
}

static int read_bios(struct machine *m, const char *name)
{
	if (bios_read(&m->bios, name))
		return EXIT_HOST;
	m->board.bios = m->bios.data;
	m->board.bios_size = m->bios.size;
	if (!m->request.kernel.data)
		return EXIT_OK;
	m->board.kernel = &m->kernel;
	return linux_for_bios(&m->kernel, &m->request, m->config.memory) ? EXIT_HOST : EXIT_OK;
}

/* What firmware starts was copied. */
static void free_images(struct machine *m)
{
	linux_for_bios_free(&m->kernel);
	boot_image_free(&m->request.kernel);
	for (unsigned i = 0; i < m->request.modules; i++)
		boot_module_free(&m->request.module[i]);
	m->request.modules = 0;
}

int machine_read(struct machine *m, const struct run_options *o)
{
	m->request.append = o->append ? o->append : "";
	if (bios_read_vga(&m->vga_bios))
		return EXIT_HOST;
	if (!m->vga_bios.data && (o->screenshot || (o->display && strcmp(o->display, "none"))))
		log_warn("the screen has no font: it is in the VGA BIOS of Debian's package seabios (apt-get install seabios)");
	m->board.vga_bios = m->vga_bios.data;
	m->board.vga_bios_size = m->vga_bios.size;
	int error = o->kernel ? boot_image_read(&m->request.kernel, o->kernel) : 0;
	for (unsigned i = 0; i < o->initrd.count && !error; i++) {
		error = boot_module_read(&m->request.module[i], o->initrd.item[i]);
		m->request.modules += !error;
	}
	if (error)
		return EXIT_HOST;
	bool needs = !o->bios && linux_needs_bios(&m->request.kernel);
	if (needs && o->verbose)
		log_info("%s starts in real mode: --bios %s is chosen", o->kernel, BIOS_SEABIOS);
	return o->bios || needs ? read_bios(m, needs ? BIOS_SEABIOS : o->bios) : EXIT_OK;
}

static int boot(struct vm *vm, void *arg)
{
	struct machine *m = arg;
	int error = boot_images_need(&m->request);
	if (!error)
		error = board_pc.firmware(vm, &m->request.rsdp);
	if (!error)
		error = boot_load(vm, &m->request);
	boot_images_release(&m->request);
	return error;
}

int machine_set_up(struct machine *m, const struct run_options *o)
{
	int status = open_media(m, o);
	if (!status)
		status = open_backends(m, o);
	if (!status && o->display)
		status = command_status(display_open(&m->display, o->display));
	if (status)
		return status;
	if (vm_create(&m->vm, &m->config))
		return EXIT_HOST;
	if (board_pc.build(m->vm, &m->board))
		return EXIT_HOST;
	board_pc.screen(m->vm, &m->screen);
	vm_reset(m->vm);
	if (m->board.bios) { /* the reset vector is in it */
		free_images(m);
		return EXIT_OK;
	}
	if (boot(m->vm, m))
		return EXIT_HOST;
	m->vm->boot = boot; /* from the next reset on */
	m->vm->boot_arg = m;
	return EXIT_OK;
}

void machine_drain(struct machine *m)
{
	for (unsigned i = 0; i < ARRAY_SIZE(m->board.serial); i++)
		if (m->board.serial[i])
			m->board.serial[i]->ops->stop(m->board.serial[i]);
	cards_stop(&m->cards);
	if (m->board.debugcon)
		m->board.debugcon->ops->stop(m->board.debugcon);
	if (m->board.bios_log)
		m->board.bios_log->ops->stop(m->board.bios_log);
}

void machine_tear_down(struct machine *m)
{
	display_close(m->display);
	if (m->vm)
		vm_destroy(m->vm);
	for (unsigned i = 0; i < ARRAY_SIZE(m->board.serial); i++)
		chardev_close(m->board.serial[i]);
	chardev_close(m->board.debugcon);
	chardev_close(m->board.bios_log);
	cards_close(&m->cards);
	close_list(m->board.cdrom, BOARD_DRIVES);
	close_list(m->board.floppy, BOARD_FLOPPIES);
	terminal_restore();
	free_images(m);
	boot_image_free(&m->bios);
	boot_image_free(&m->vga_bios);
}
