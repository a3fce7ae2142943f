/* SPDX-License-Identifier: MIT */
/* See fatal.h. */
#include <stddef.h>
#include "util/fatal.h"

void (*fatal_hook)(void);
