/* SPDX-License-Identifier: MIT */
/* What is to be done when a signal ends the process. Whoever has a handler of its own for such signals, and finds that one is not for it,
 * calls this before it lets the process end. */
#pragma once

/* Async-signal-safe, may be called twice; NULL: nothing. */
extern void (*fatal_hook)(void);
