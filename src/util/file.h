/* SPDX-License-Identifier: MIT */
/* Files that others read while we write them. */
#pragma once
#include <stddef.h>

/* file.c -- Makes the file hold these bytes: whoever opens it sees all of them, or what was there before. 0 or -errno, after log_error. */
int file_replace(const char *path, const void *data, size_t size);
/* Whether that will work, as far as can be told now. Likewise. */
int file_can_replace(const char *path);
