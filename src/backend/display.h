/* SPDX-License-Identifier: MIT */
/* Ways to show a machine's screen to people, and to give it their keys and pointer. */
#pragma once
#include "backend/screen.h"
#include "util/set.h"

struct display {
	const struct display_kind *kind;
};
struct display_kind {
	const char *name;
	/* Parses what stands behind "NAME=", takes the address. 0 or -errno, after log_error. */
	int (*open)(struct display **, const char *spec);
	/* Begins to serve. The screen and the title must last until close. 0 or -errno, after log_error. */
	int (*start)(struct display *, const struct screen *, const char *title);
	/* Ends it, started or not. */
	void (*close)(struct display *);
};
SET_DECLARE(struct display_kind, display_kinds);
#define DISPLAY_KIND(object) SET_ADD(struct display_kind, display_kinds, object)

/* display.c -- Parses "none" (gives NULL), or "vnc=ADDRESS". 0; -EINVAL for a wrong word, or another -errno; after log_error. */
int display_open(struct display **, const char *spec);
int display_start(struct display *, const struct screen *, const char *title); /* NULL is fine, for these too */
void display_close(struct display *);

/* Keys that are held down, so that none stays so when who pressed it is gone. */
#define DISPLAY_KEYS 512
struct display_keys {
	uint64_t held[DISPLAY_KEYS / 64];
};
/* Posts a press or release of the key with this X11 keysym; an unknown one is dropped. Holding no device's lock. */
void display_key(struct display_keys *, const struct screen *, uint32_t keysym, bool press);
void display_keys_release(struct display_keys *, const struct screen *);
