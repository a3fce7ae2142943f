/* SPDX-License-Identifier: MIT */
/* How fast an engine runs guest code here. */
#pragma once
#include "engine/engine.h"

/* measure.c -- Million instructions a second of a loop of everyday instructions in 64-bit code (arithmetic, loads and stores, a call), by
 * processor time; takes about a tenth of a second. 0 when the engine cannot run it. Main thread. */
double engine_measure(const struct engine *, const char *options);
