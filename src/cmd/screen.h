/* SPDX-License-Identifier: MIT */
/* The machine's screen, to files. */
#pragma once
#include "backend/screen.h"

/* screen.c -- Any thread. What is to be seen now: as a picture, as text; each NULL: not wanted. A file is there whole, or as it was
 * before. 0 or -errno, after log_error. */
int screen_save(const struct screen *, const char *picture, const char *text);
