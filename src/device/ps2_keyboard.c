/* SPDX-License-Identifier: MIT */
/* The PS/2 keyboard: commands and scan codes, after the IBM PS/2 hardware interface technical reference, keyboards
 * (101 and 102 keys). Scan-code sets 1 and 2; set 3 is refused, as by many keyboards of today. Keys repeat at the
 * host, not here. */
#include "device/ps2.h"
#include <string.h>

enum keyboard_command {
	SET_LEDS = 0xed, ECHO = 0xee, SCAN_SET = 0xf0, IDENTIFY = 0xf2, TYPEMATIC = 0xf3, ENABLE = 0xf4, DISABLE = 0xf5,
	DEFAULTS = 0xf6, KEY_TYPES_FIRST = 0xf7, KEY_TYPES_LAST = 0xfa, KEY_TYPE_FIRST = 0xfb, KEY_TYPE_LAST = 0xfd,
	RESEND = 0xfe, RESET = 0xff,
};
#define ID_FIRST 0xabu
#define ID_SECOND 0x83u
#define BREAK_PREFIX 0xf0u
#define EXTENDED_PREFIX 0xe0u
#define OVERRUN_SET2 0x00u
#define OVERRUN_SET1 0xffu
#define TYPEMATIC_DEFAULT 0x2bu /* 500 ms, 10.9 a second */

static void defaults(struct ps2_keyboard *k)
{
	k->scan_set = 2;
	k->typematic = TYPEMATIC_DEFAULT;
	k->port.count = 0;
}

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
	memset(k, 0, sizeof(*k));
	defaults(k);
	k->scanning = true;
}

static void argument(struct ps2_keyboard *k, uint8_t command, uint8_t byte)
{
	k->port.command = 0;
	switch (command) {
	case SET_LEDS:
		k->leds = byte & 7;
		break;
	case TYPEMATIC:
		k->typematic = byte & 0x7f;
		break;
	case SCAN_SET:
		if (byte > 2) {
			ps2_reply(&k->port, PS2_RESEND);
			return;
		}
		ps2_reply(&k->port, PS2_ACK);
		if (byte)
			k->scan_set = byte;
		else
			ps2_reply(&k->port, k->scan_set);
		return;
	}
	ps2_reply(&k->port, PS2_ACK); /* one key's type, in set 3: taken, without effect */
}

/* A command in place of an argument is a command; that is why arguments are below EDh. */
void ps2_keyboard_command(struct ps2_keyboard *k, uint8_t byte)
{
	uint8_t command = k->port.command;
	if (command && byte < SET_LEDS) {
		argument(k, command, byte);
		return;
	}
	k->port.command = 0;
	switch (byte) {
	case SET_LEDS:
	case TYPEMATIC:
	case SCAN_SET:
	case KEY_TYPE_FIRST ... KEY_TYPE_LAST:
		k->port.command = byte;
		ps2_reply(&k->port, PS2_ACK);
		break;
	case ECHO:
		ps2_reply(&k->port, ECHO);
		break;
	case IDENTIFY:
		ps2_reply(&k->port, PS2_ACK);
		ps2_reply(&k->port, ID_FIRST);
		ps2_reply(&k->port, ID_SECOND);
		break;
	case ENABLE:
		k->port.count = 0;
		k->scanning = true;
		ps2_reply(&k->port, PS2_ACK);
		break;
	case DISABLE:
	case DEFAULTS:
		defaults(k);
		k->scanning = byte == DEFAULTS;
		ps2_reply(&k->port, PS2_ACK);
		break;
	case KEY_TYPES_FIRST ... KEY_TYPES_LAST: /* for all keys, in set 3 only */
		ps2_reply(&k->port, PS2_ACK);
		break;
	case RESEND:
		ps2_reply(&k->port, k->port.last);
		break;
	case RESET:
		ps2_keyboard_reset(k);
		ps2_reply(&k->port, PS2_ACK);
		ps2_reply(&k->port, PS2_SELF_TEST_PASSED);
		break;
	default:
		ps2_reply(&k->port, PS2_RESEND);
	}
}

/* The length of the scan code at the start of `codes`: prefixes and one byte. */
static size_t code_length(const uint8_t *codes, size_t len)
{
	size_t n = 0;
	while (n + 1 < len && (codes[n] == EXTENDED_PREFIX || codes[n] == BREAK_PREFIX))
		n++;
	return n + 1;
}

static size_t to_set1(const uint8_t *from, size_t len, uint8_t *to)
{
	uint8_t release = 0;
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		if (from[i] == BREAK_PREFIX) {
			release = 0x80;
		} else if (from[i] == EXTENDED_PREFIX) {
			to[n++] = from[i];
		} else {
			to[n++] = ps2_translate(from[i]) | release;
			release = 0;
		}
	}
	return n;
}

void ps2_keyboard_input(struct ps2_keyboard *k, const uint8_t *codes, size_t len)
{
	if (!k->scanning)
		return;
	while (len) {
		size_t n = code_length(codes, len), put = n;
		uint8_t code[PS2_QUEUE];
		if (n < sizeof(code)) {
			memcpy(code, codes, n);
			if (k->scan_set == 1)
				put = to_set1(codes, n, code);
			/* One place stays free for the overrun code. */
			if (k->port.count + put >= PS2_QUEUE || !ps2_queue(&k->port, code, put)) {
				code[0] = k->scan_set == 1 ? OVERRUN_SET1 : OVERRUN_SET2;
				ps2_queue(&k->port, code, 1);
			}
		}
		codes += n;
		len -= n;
	}
}

bool ps2_keyboard_valid(const struct ps2_keyboard *k)
{
	return ps2_valid(&k->port) && k->scan_set >= 1 && k->scan_set <= 2;
}

/* The table in the 8042 of an AT, by set-2 code. */
uint8_t ps2_translate(uint8_t code)
{
	static const uint8_t table[128] = {
		0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
		0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
		0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
		0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
		0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
		0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
		0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
		0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
	};
	if (code < sizeof(table))
		return table[code];
	return code == 0x83 ? 0x41 : code == 0x84 ? 0x54 : code;
}
