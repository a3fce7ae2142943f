/* SPDX-License-Identifier: MIT */
/* A board: a const table of which device sits where, on which wire, plus how the lines run. */
#pragma once
#include "vm/vm.h"

struct chardev;
struct image;
struct screen;

#define BOARD_FLOPPIES 2
#define BOARD_DRIVES 4 /* disks and CDs together */

#define BOARD_CARDS 28
struct board_card { /* a PCI function that is plugged into a slot */
	const struct device_class *class;
	const char *name;              /* unique; like config it must last as long as the VM */
	const void *config;
	unsigned slot;                 /* 0: the next free one */
};

/* A Linux kernel for firmware to start by the 16-bit boot protocol: its parts, and where each goes. */
struct board_kernel {
	struct board_blob {
		const uint8_t *data;
		size_t size;
		uint32_t at;
	} setup, code, initrd, cmdline;
};

struct board_options { /* what the command line adds to the table */
	struct chardev *serial[4];     /* backends of the four UARTs, NULL: not connected */
	struct chardev *debugcon;      /* backend of port E9h */
	int debug_exit_port;           /* -1: none */
	const uint8_t *bios;           /* ROM image, copied; NULL: none, the board plays the firmware */
	size_t bios_size;              /* 64 KiB to 16 MiB, in steps of 64 KiB */
	const uint8_t *vga_bios;       /* its ROM, copied; NULL: none, and no font where the board plays the firmware */
	size_t vga_bios_size;
	const struct board_kernel *kernel; /* for the BIOS to start, copied; NULL: none */
	struct chardev *bios_log;      /* backend of port 402h, where SeaBIOS writes what it does */
	struct image *floppy[BOARD_FLOPPIES]; /* in drive A, B; no image: no drive */
	struct image *disk[BOARD_DRIVES], *cdrom[BOARD_DRIVES]; /* in this order; BOARD_DRIVES at most */
	struct board_card card[BOARD_CARDS];
	unsigned cards;
	uint16_t boot_order;           /* for firmware, as in struct mc146818_config; 0: its own */
};

struct board {
	const char *name, *summary;
	/* Creates the devices and connects the lines. Set-up time, main thread. 0 or -errno, after log_error. */
	int (*build)(struct vm *, const struct board_options *);
	/* Without a BIOS: leaves memory, chips and processors as one would, for a loader that comes after; once
	 * after each reset. *rsdp: where the ACPI tables begin. 0 or -errno, after log_error. */
	int (*firmware)(struct vm *, gpa_t *rsdp);
	void (*screen)(struct vm *, struct screen *);
};
extern const struct board board_pc;
