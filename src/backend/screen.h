/* SPDX-License-Identifier: MIT */
/* What a machine offers to those who look at it from the host, or sit at its keyboard: a display, a command. */
#pragma once
#include "backend/picture.h"
#include "vm/vm.h"

enum input_event { /* kinds of events of the device that the keyboard and the mouse are attached to */
	INPUT_KEY = 0,   /* data: one or more whole scan codes of set 2, with their E0h and F0h prefixes; what is too much is lost */
	INPUT_MOUSE = 1, /* data: struct input_mouse */
	INPUT_TYPE = 2,  /* as INPUT_KEY, but they wait: each goes to the keyboard a moment after the guest has taken the one before */
};
struct input_mouse {
	int32_t dx, dy, wheel; /* moved by; dy counts up, wheel counts towards the user */
	uint32_t buttons;      /* held now: bit 0 left, 1 right, 2 middle */
};

/* Filled by the board. Any thread may call, which holds no lock of a device; while the VM exists. */
struct screen {
	struct device *adapter, *input;
	/* Draws what is to be seen now. `steady`: what blinks is on, so that equal screens give equal pictures. 0 or -ENOMEM. */
	int (*draw)(struct device *adapter, struct picture *, bool steady);
	/* The characters of a text screen: UTF-8, a line each row, without trailing spaces. In a graphics mode one line that says so,
	 * in parentheses. To be freed; NULL: no memory. */
	char *(*text)(struct device *adapter);
	/* Bytes of INPUT_TYPE that there is room for; what does not fit as a whole is lost. */
	size_t (*type_room)(struct device *input);
};
