/* SPDX-License-Identifier: MIT */
/* The text mode that the board sets where there is no firmware. */
#pragma once
#include "vm/vm.h"

#define TEXT_MODE_COLUMNS 80
#define TEXT_MODE_ROWS 25
#define TEXT_MODE_GLYPH 16 /* lines of a character, a byte each */

/* text_mode.c -- As a BIOS leaves the screen, with the font in the VGA's BIOS; NULL: without one. Holding no device's lock. */
void text_mode_set(struct vm *, const uint8_t *vga_bios, size_t size);
/* The font in it; NULL: it has none. */
const uint8_t *text_mode_font(const uint8_t *vga_bios, size_t size);
