/* SPDX-License-Identifier: MIT */
/* The two PS/2 devices behind the 8042: a keyboard and a mouse, each a queue of bytes towards the controller. */
#pragma once
#include "util/bits.h"
#include "vm/field.h"

#define PS2_QUEUE 16

/* Bytes on their way out. Answers to commands overtake scan codes and movements. */
struct ps2_port {
	uint8_t queue[PS2_QUEUE]; /* oldest first */
	uint8_t count;
	uint8_t reply[8];         /* oldest first */
	uint8_t replies;
	uint8_t last;             /* the byte sent last, for Resend */
	uint8_t command;          /* the command that waits for its argument, or 0 */
};

struct ps2_keyboard {
	struct ps2_port port;
	uint8_t scan_set;  /* 1 or 2 */
	uint8_t leds;      /* scroll, num, caps lock */
	uint8_t typematic; /* delay and rate */
	bool scanning;     /* enabled by F4h */
};

struct ps2_mouse {
	struct ps2_port port;
	uint8_t id;          /* 0: standard, 3: IntelliMouse (wheel) */
	uint8_t rate;        /* samples a second, as set: reports are sent when there is room */
	uint8_t resolution;  /* 0 to 3 */
	uint8_t knock;       /* how many of the sample rates 200, 100, 80 came in a row */
	bool scaling;        /* 2:1 */
	bool remote;         /* reports on request only */
	bool wrap;           /* echoes what it gets */
	bool reporting;      /* enabled by F4h */
	uint8_t buttons;     /* held now */
	uint8_t reported;    /* buttons of the last report */
	int32_t dx, dy, wheel; /* movement that was not reported yet */
};

/* What somebody typed at the host and the guest has not been given yet: a person waits for the machine, a script cannot see it. */
#define PS2_TYPED 8192
#define PS2_CODE 8             /* bytes of a scan code, at most */
#define PS2_TYPE_NS 10000000ULL /* from one code to the next: a BIOS keeps 15 keys, and throws away what comes then */
struct ps2_typed {
	uint8_t code[PS2_TYPED]; /* scan codes of set 2; a ring */
	uint16_t first, count;
	uint64_t next_at;        /* virtual ns: not before */
};
extern const struct field ps2_keyboard_fields[], ps2_mouse_fields[], ps2_typed_fields[];

/* ps2.c -- The next byte to the controller; -1 if there is none. */
int ps2_next(struct ps2_port *);
bool ps2_pending(const struct ps2_port *);
bool ps2_valid(const struct ps2_port *);

/* ps2_keyboard.c -- */
void ps2_keyboard_reset(struct ps2_keyboard *);
void ps2_keyboard_command(struct ps2_keyboard *, uint8_t byte);
/* One or more whole scan codes of set 2. What does not fit is lost, and the guest is told. */
void ps2_keyboard_input(struct ps2_keyboard *, const uint8_t *codes, size_t len);
bool ps2_keyboard_valid(const struct ps2_keyboard *);
/* Set 2 to set 1, as the controller and the keyboard do it; without E0h and F0h, which are the caller's. */
uint8_t ps2_translate(uint8_t code);

/* ps2_mouse.c -- */
void ps2_mouse_reset(struct ps2_mouse *);
void ps2_mouse_command(struct ps2_mouse *, uint8_t byte);
void ps2_mouse_input(struct ps2_mouse *, int32_t dx, int32_t dy, int32_t wheel, uint8_t buttons);
/* Reports what has accumulated, if there is room now. */
void ps2_mouse_report(struct ps2_mouse *);
bool ps2_mouse_valid(const struct ps2_mouse *);

/* ps2_typed.c -- All of it, or, where that does not fit, nothing. */
void ps2_typed_add(struct ps2_typed *, const uint8_t *codes, size_t len);
/* Takes the first code: its length. There must be one. */
size_t ps2_typed_take(struct ps2_typed *, uint8_t code[PS2_CODE]);
bool ps2_typed_valid(const struct ps2_typed *);

/* ps2.c -- for the two devices */
void ps2_reply(struct ps2_port *, uint8_t byte);
bool ps2_queue(struct ps2_port *, const uint8_t *bytes, size_t len); /* all of it, or nothing */
#define PS2_ACK 0xfau
#define PS2_RESEND 0xfeu
#define PS2_SELF_TEST_PASSED 0xaau
