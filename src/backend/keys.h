/* SPDX-License-Identifier: MIT */
/* Keys of a PC keyboard (US), by what people and the X window system call them. */
#pragma once
#include "util/bits.h"

#define KEY_NONE 0
#define KEY_EXTENDED 0xe000u /* in a key: its scan code begins with E0h */
typedef uint16_t key_code;   /* of set 2, and KEY_EXTENDED */

#define KEYS_BYTES 3         /* of one press or release */
#define KEYS_STROKE_BYTES 64 /* of one stroke, with all modifiers */

/* keys.c -- Of an X11 keysym, with or without shift; KEY_NONE: no such key. */
key_code keys_from_keysym(uint32_t keysym);
/* The scan code of a press or a release; its length. */
size_t keys_encode(key_code, bool press, uint8_t *bytes);
/* Scan codes for the first stroke of a text, *text then stands behind it: a character, or a name in angle brackets, with modifiers before it
 * ("<ret>", "<c-a-del>", "<lt>" for "<"). The number of bytes; 0 at the end; -EINVAL when it is none: *text then stands at it. */
int keys_stroke(const char **text, uint8_t bytes[KEYS_STROKE_BYTES]);
