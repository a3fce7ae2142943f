/* SPDX-License-Identifier: MIT */
/* Character devices over file descriptors, and what stands between them and a terminal. */
#pragma once
#include "backend/chardev.h"

struct chardev_fd;

enum chardev_fd_flags {
	CHARDEV_FD_CLOSE = BIT(0),    /* the descriptors are ours: close them */
	CHARDEV_FD_PTY = BIT(1),      /* the master of a pseudo-terminal: the other side comes and goes */
	CHARDEV_FD_TERMINAL = BIT(2), /* the person's terminal: raw while it runs, with the escape key */
};

/* chardev_fd.c -- in or out may be -1. 0 or -errno, after log_error; the descriptors are then still the caller's. */
int chardev_fd_create(struct chardev **, int in, int out, unsigned flags, const char *name);
void chardev_fd_destroy(struct chardev *);

/* terminal.c -- what a byte from the terminal means. Returns true when it is for the guest. A command (after the escape key) is
 * carried out here, on the reader's thread. */
struct terminal_escape {
	bool escaped; /* the last byte was the escape key */
};
bool terminal_input(struct terminal_escape *, struct chardev *, struct vm *, uint8_t byte);
