/* SPDX-License-Identifier: MIT */
/* The host side of a character device: standard input and output, a file, a pseudo-terminal, or nothing. */
#pragma once
#include "vm/vm.h"

struct chardev;
struct chardev_ops {
	/* Writes up to len bytes without blocking for long; returns how many were taken (0: full, try later; the backend calls the
	 * writable hook), the rest is the caller's to keep. Where the clock counts instructions it takes all, and the machine waits: it must not
	 * depend on how fast the host reads. Any thread. */
	size_t (*write)(struct chardev *, const uint8_t *, size_t len);
	/* Begins to deliver input to chardev->sink by event_post(sink, CHARDEV_INPUT, ...). */
	int (*start)(struct chardev *, struct vm *);
	void (*stop)(struct chardev *);
	/* The sink has room again for `room` more bytes: the backend holds back what does not fit, nothing is lost. */
	void (*accept)(struct chardev *, size_t room);
};
enum chardev_event { CHARDEV_INPUT = 0 /* data: bytes */, CHARDEV_WRITABLE = 1, CHARDEV_BREAK = 2 };

struct chardev {
	const struct chardev_ops *ops;
	struct device *sink;
	unsigned event;      /* added to the kinds of its events, for a sink that has several */
	_Atomic size_t room; /* bytes the sink can take now */
};

/* chardev.c -- Parses "stdio", "file:PATH", "pty", "none" (gives NULL); 0, or -errno after log_error. */
int chardev_open(struct chardev **, const char *spec);
/* The same for a machine that nobody hears or speaks to: to the guest all looks as with `spec`. */
int chardev_open_silent(struct chardev **, const char *spec);
void chardev_close(struct chardev *);
/* terminal.c -- Raw mode for stdin, restored at exit, on fatal signals and by terminal_restore; escape Ctrl-A. */
int terminal_raw(void);
void terminal_restore(void);
/* Around a stop of the whole process (SIGTSTP, SIGCONT): nothing where the terminal is not raw. */
void terminal_suspend(void);
void terminal_resume(void);
