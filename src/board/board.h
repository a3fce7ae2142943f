/* SPDX-License-Identifier: MIT */
/* A board: a const table of which device sits where, on which wire, plus how the lines run. */
#pragma once
#include "vm/vm.h"

struct chardev;

struct board_options { /* what the command line adds to the table */
	struct chardev *serial[4];     /* backends of the four UARTs, NULL: not connected */
	struct chardev *debugcon;      /* backend of port E9h */
	int debug_exit_port;           /* -1: none */
};

struct board {
	const char *name, *summary;
	/* Creates the devices and connects the lines. Set-up time, main thread. 0 or -errno, after log_error. */
	int (*build)(struct vm *, const struct board_options *);
	/* Leaves memory and processors as the board's firmware would, for a loader that comes after; once after each reset.
	 * *rsdp: where the ACPI tables begin. 0 or -errno, after log_error. */
	int (*firmware)(struct vm *, gpa_t *rsdp);
};
extern const struct board board_pc;
