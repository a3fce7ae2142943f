/* SPDX-License-Identifier: MIT */
/* Numbers that C and assembly share: selectors of the GDT. */
#pragma once

#define KCS 0x08 /* ring 0, flat */
#define KDS 0x10
#define UCS 0x1b /* ring 3, flat */
#define UDS 0x23
#define TSS_SEL 0x28
#define FREE_SEL 0x30 /* from here on: for tests */
#define GDT_ENTRIES 64

#define VECTOR_RETURN 0x80 /* ring 3 returns to ring 0 */
#define NONE -1            /* no exception */
