/* SPDX-License-Identifier: MIT */
/* Loaders: put a guest's first program into memory and the boot processor in front of it. Chosen by content. */
#pragma once
#include "board/board.h"
#include "util/set.h"
#include "vm/vcpu.h"

struct boot_image {
	const char *path;
	const uint8_t *data; /* read whole; NULL: given back meanwhile */
	size_t size;
	bool regular;        /* a file that can be read again */
};

#define BOOT_MODULES 8
struct boot_module { /* what a kernel finds in memory beside itself; Linux calls it initrd */
	struct boot_image file;
	char *text;                       /* its words, as "root=/dev/ram0"; NULL: none */
};

struct boot_request {
	struct boot_image kernel;
	struct boot_module module[BOOT_MODULES];
	unsigned modules;
	const char *append;               /* command line, never NULL */
	gpa_t rsdp;                       /* of the ACPI tables that the board wrote; 0: none */
};

struct loader {
	const char *name, *summary;
	/* Does the content look like mine? Reads only image->data[0..size). */
	bool (*probe)(const struct boot_image *);
	/* Loads it; 0 or -errno after an error that says what is wrong. Every length and offset in the file is
	 * hostile. Called after each machine reset too. */
	int (*load)(struct vm *, const struct boot_request *);
};
SET_DECLARE(struct loader, loaders);
#define LOADER(object) SET_ADD(struct loader, loaders, object)

/* linux.c -- Takes a Linux bzImage (and what calls itself one: iPXE, memdisk) and its modules apart for a BIOS, in a machine with `ram` bytes of
 * RAM. 0 or -errno, after an error; to be freed in either case. */
int linux_for_bios(struct board_kernel *, const struct boot_request *, uint64_t ram);
void linux_for_bios_free(struct board_kernel *);
/* Does it need a BIOS: is it too old to be entered in protected mode, or no Linux at all? */
bool linux_needs_bios(const struct boot_image *);
/* boot.c -- Finds the loader by content and loads; when none fits, says what the file is as far as it can tell. */
int boot_load(struct vm *, const struct boot_request *);
/* bios.c -- Reads and checks a ROM image; the name BIOS_SEABIOS stands for SeaBIOS, wherever this host has it. 0
 * or -errno, after an error that says what is wrong and which package helps. */
#define BIOS_SEABIOS "seabios"
int bios_read(struct boot_image *, const char *name);
/* Reads the BIOS of the VGA adapter where this host has it; without it the image stays empty. 0 or -errno after an error. */
int bios_read_vga(struct boot_image *);
/* boot.c -- */
int boot_image_read(struct boot_image *, const char *path);
void boot_image_free(struct boot_image *);
/* Between a load and the next reset the files need not lie in the host's memory: gives back those that can be read again, and reads them
 * again; 0 or -errno after an error. */
void boot_images_release(struct boot_request *);
int boot_images_need(struct boot_request *);
/* "FILE" or "FILE WORDS": the first space ends the name, unless there is a file of the whole name. */
int boot_module_read(struct boot_module *, const char *spec);
void boot_module_free(struct boot_module *);
/* The name of a file without its folder. */
const char *boot_base_name(const char *path);
