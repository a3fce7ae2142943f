/* SPDX-License-Identifier: MIT */
/* The machine of a command line: chosen, set up and torn down. doppel run makes one, or a pair of them (run_pair.c). */
#pragma once
#include "backend/display.h"
#include "board/board.h"
#include "boot/boot.h"
#include "cmd/cards.h"
#include "util/options.h"
#include "vm/vm.h"
#include "x86/cpuid.h"

#define MACHINE_NAME "doppel" /* for guests, of a machine that was not given one: the same in each run */

struct run_options {
	const char *engine, *cpu, *kernel, *append, *bios, *bios_log, *boot, *debugcon, *name, *trace, *display, *screenshot, *screen_text;
	uint64_t memory, cpus, debug_exit;
	struct option_list initrd, serial, floppy, cdrom;
	struct card_options cards;
	const char *verify, *gdb;
	uint64_t verify_every;
	int clock; /* enum clock_mode: the words of --clock come in its order */
	bool stats, hash, no_reboot, paused, verbose;
};

struct machine {
	struct vm_config config;
	struct board_options board;
	struct cards cards;
	struct boot_request request;
	struct board_kernel kernel;
	struct boot_image bios, vga_bios;
	struct display *display;
	struct screen screen;
	struct vm *vm;
	struct x86_model model;
};

/* These return an exit status, and have said what is wrong. Main thread. */

/* machine_choice.c -- Fills config's engine and model. `--cpu help` prints the models and leaves config.model NULL. */
int machine_choose_engine(struct machine *, const struct run_options *);
int machine_choose_model(struct machine *, const struct run_options *);

/* Reads kernel, modules and firmware. A file may be a pipe that is slow to come. */
int machine_read(struct machine *, const struct run_options *);
/* Opens what the devices have on the host, then makes the VM, whose first instruction is next to run. After an error, too, machine_tear_down
 * gives everything back. */
int machine_set_up(struct machine *, const struct run_options *);
/* Writes out what the guest has sent to its serial lines and cards. */
void machine_drain(struct machine *);
void machine_tear_down(struct machine *);
