/* SPDX-License-Identifier: MIT */
/* Keys of a PC keyboard (US): which scan code of set 2 (IBM PS/2 hardware interface technical reference, keyboards) each has, what X11
 * calls it (keysymdef.h), and how a script writes it. */
#include "backend/keys.h"
#include <errno.h>
#include <string.h>
#include <strings.h>

#define EXTENDED(code) (KEY_EXTENDED | (code))
#define CHARACTER(code, plain, shifted) { code, plain, shifted, NULL }
#define EXTENDED_PREFIX 0xe0
#define BREAK_PREFIX 0xf0
#define NAME_LONGEST 16
#define MODIFIERS 4

enum { /* keysyms; those of characters are the characters */
	SYM_BACKSPACE = 0xff08, SYM_TAB = 0xff09, SYM_RETURN = 0xff0d, SYM_SCROLL = 0xff14, SYM_ESCAPE = 0xff1b, SYM_HOME = 0xff50,
	SYM_LEFT = 0xff51, SYM_UP = 0xff52, SYM_RIGHT = 0xff53, SYM_DOWN = 0xff54, SYM_PAGE_UP = 0xff55, SYM_PAGE_DOWN = 0xff56,
	SYM_END = 0xff57, SYM_PRINT = 0xff61, SYM_INSERT = 0xff63, SYM_MENU = 0xff67, SYM_NUM = 0xff7f, SYM_KP_ENTER = 0xff8d,
	SYM_KP_HOME = 0xff95, SYM_KP_LEFT, SYM_KP_UP, SYM_KP_RIGHT, SYM_KP_DOWN, SYM_KP_PAGE_UP, SYM_KP_PAGE_DOWN, SYM_KP_END,
	SYM_KP_BEGIN, SYM_KP_INSERT, SYM_KP_DELETE, SYM_KP_TIMES = 0xffaa, SYM_KP_PLUS = 0xffab, SYM_KP_MINUS = 0xffad,
	SYM_KP_POINT = 0xffae, SYM_KP_DIVIDE = 0xffaf, SYM_KP_0 = 0xffb0, SYM_F1 = 0xffbe, SYM_SHIFT = 0xffe1, SYM_SHIFT_RIGHT = 0xffe2,
	SYM_CONTROL = 0xffe3, SYM_CONTROL_RIGHT = 0xffe4, SYM_CAPS = 0xffe5, SYM_META = 0xffe7, SYM_META_RIGHT = 0xffe8,
	SYM_ALT = 0xffe9, SYM_ALT_RIGHT = 0xffea, SYM_SUPER = 0xffeb, SYM_SUPER_RIGHT = 0xffec, SYM_DELETE = 0xffff, SYM_ALT_GR = 0xfe03,
	SYM_TAB_BACK = 0xfe20,
};

static const struct {
	key_code code;
	uint32_t plain, shifted;   /* keysyms; 0: none */
	const char *name;          /* in angle brackets; NULL: it is written as itself */
} keys[] = {
	CHARACTER(0x0e, '`', '~'), CHARACTER(0x16, '1', '!'), CHARACTER(0x1e, '2', '@'), CHARACTER(0x26, '3', '#'), CHARACTER(0x25, '4', '$'), CHARACTER(0x2e, '5', '%'),
	CHARACTER(0x36, '6', '^'), CHARACTER(0x3d, '7', '&'), CHARACTER(0x3e, '8', '*'), CHARACTER(0x46, '9', '('), CHARACTER(0x45, '0', ')'), CHARACTER(0x4e, '-', '_'),
	CHARACTER(0x55, '=', '+'), CHARACTER(0x15, 'q', 'Q'), CHARACTER(0x1d, 'w', 'W'), CHARACTER(0x24, 'e', 'E'), CHARACTER(0x2d, 'r', 'R'), CHARACTER(0x2c, 't', 'T'),
	CHARACTER(0x35, 'y', 'Y'), CHARACTER(0x3c, 'u', 'U'), CHARACTER(0x43, 'i', 'I'), CHARACTER(0x44, 'o', 'O'), CHARACTER(0x4d, 'p', 'P'), CHARACTER(0x54, '[', '{'),
	CHARACTER(0x5b, ']', '}'), CHARACTER(0x5d, '\\', '|'), CHARACTER(0x1c, 'a', 'A'), CHARACTER(0x1b, 's', 'S'), CHARACTER(0x23, 'd', 'D'), CHARACTER(0x2b, 'f', 'F'),
	CHARACTER(0x34, 'g', 'G'), CHARACTER(0x33, 'h', 'H'), CHARACTER(0x3b, 'j', 'J'), CHARACTER(0x42, 'k', 'K'), CHARACTER(0x4b, 'l', 'L'), CHARACTER(0x4c, ';', ':'),
	CHARACTER(0x52, '\'', '"'), CHARACTER(0x1a, 'z', 'Z'), CHARACTER(0x22, 'x', 'X'), CHARACTER(0x21, 'c', 'C'), CHARACTER(0x2a, 'v', 'V'), CHARACTER(0x32, 'b', 'B'),
	CHARACTER(0x31, 'n', 'N'), CHARACTER(0x3a, 'm', 'M'), CHARACTER(0x41, ',', '<'), CHARACTER(0x49, '.', '>'), CHARACTER(0x4a, '/', '?'),
	{ 0x29, ' ', 0, "spc" }, { 0x66, SYM_BACKSPACE, 0, "bs" }, { 0x0d, SYM_TAB, SYM_TAB_BACK, "tab" }, { 0x5a, SYM_RETURN, 0, "ret" },
	{ 0x76, SYM_ESCAPE, 0, "esc" }, { 0x12, SYM_SHIFT, 0, "shift" }, { 0x59, SYM_SHIFT_RIGHT, 0, "rshift" },
	{ 0x14, SYM_CONTROL, 0, "ctrl" }, { EXTENDED(0x14), SYM_CONTROL_RIGHT, 0, "rctrl" }, { 0x11, SYM_ALT, SYM_META, "alt" },
	{ EXTENDED(0x11), SYM_ALT_RIGHT, SYM_META_RIGHT, "ralt" }, { EXTENDED(0x11), SYM_ALT_GR, 0, "altgr" }, { EXTENDED(0x1f), SYM_SUPER, 0, "win" },
	{ EXTENDED(0x27), SYM_SUPER_RIGHT, 0, "rwin" }, { EXTENDED(0x2f), SYM_MENU, 0, "menu" }, { 0x58, SYM_CAPS, 0, "caps" },
	{ 0x77, SYM_NUM, 0, "num" }, { 0x7e, SYM_SCROLL, 0, "scroll" }, { EXTENDED(0x7c), SYM_PRINT, 0, "print" },
	{ EXTENDED(0x75), SYM_UP, 0, "up" }, { EXTENDED(0x72), SYM_DOWN, 0, "down" }, { EXTENDED(0x6b), SYM_LEFT, 0, "left" },
	{ EXTENDED(0x74), SYM_RIGHT, 0, "right" }, { EXTENDED(0x6c), SYM_HOME, 0, "home" }, { EXTENDED(0x69), SYM_END, 0, "end" },
	{ EXTENDED(0x7d), SYM_PAGE_UP, 0, "pgup" }, { EXTENDED(0x7a), SYM_PAGE_DOWN, 0, "pgdn" }, { EXTENDED(0x70), SYM_INSERT, 0, "ins" },
	{ EXTENDED(0x71), SYM_DELETE, 0, "del" },
	{ 0x05, SYM_F1, 0, "f1" }, { 0x06, SYM_F1 + 1, 0, "f2" }, { 0x04, SYM_F1 + 2, 0, "f3" }, { 0x0c, SYM_F1 + 3, 0, "f4" },
	{ 0x03, SYM_F1 + 4, 0, "f5" }, { 0x0b, SYM_F1 + 5, 0, "f6" }, { 0x83, SYM_F1 + 6, 0, "f7" }, { 0x0a, SYM_F1 + 7, 0, "f8" },
	{ 0x01, SYM_F1 + 8, 0, "f9" }, { 0x09, SYM_F1 + 9, 0, "f10" }, { 0x78, SYM_F1 + 10, 0, "f11" }, { 0x07, SYM_F1 + 11, 0, "f12" },
	{ 0x70, SYM_KP_0, SYM_KP_INSERT, "kp0" }, { 0x69, SYM_KP_0 + 1, SYM_KP_END, "kp1" }, { 0x72, SYM_KP_0 + 2, SYM_KP_DOWN, "kp2" },
	{ 0x7a, SYM_KP_0 + 3, SYM_KP_PAGE_DOWN, "kp3" }, { 0x6b, SYM_KP_0 + 4, SYM_KP_LEFT, "kp4" }, { 0x73, SYM_KP_0 + 5, SYM_KP_BEGIN, "kp5" },
	{ 0x74, SYM_KP_0 + 6, SYM_KP_RIGHT, "kp6" }, { 0x6c, SYM_KP_0 + 7, SYM_KP_HOME, "kp7" }, { 0x75, SYM_KP_0 + 8, SYM_KP_UP, "kp8" },
	{ 0x7d, SYM_KP_0 + 9, SYM_KP_PAGE_UP, "kp9" }, { 0x71, SYM_KP_POINT, SYM_KP_DELETE, "kp." }, { 0x7c, SYM_KP_TIMES, 0, "kp*" },
	{ 0x79, SYM_KP_PLUS, 0, "kp+" }, { 0x7b, SYM_KP_MINUS, 0, "kp-" }, { EXTENDED(0x4a), SYM_KP_DIVIDE, 0, "kp/" },
	{ EXTENDED(0x5a), SYM_KP_ENTER, 0, "kpret" },
};
#define SHIFT 0x12
static const struct {
	char letter;
	key_code code;
} modifiers[MODIFIERS] = { { 's', SHIFT }, { 'c', 0x14 }, { 'a', 0x11 }, { 'w', EXTENDED(0x1f) } };

key_code keys_from_keysym(uint32_t keysym)
{
	for (unsigned i = 0; keysym && i < ARRAY_SIZE(keys); i++)
		if (keys[i].plain == keysym || keys[i].shifted == keysym)
			return keys[i].code;
	return KEY_NONE;
}

size_t keys_encode(key_code code, bool press, uint8_t *bytes)
{
	size_t n = 0;
	if (code & KEY_EXTENDED)
		bytes[n++] = EXTENDED_PREFIX;
	if (!press)
		bytes[n++] = BREAK_PREFIX;
	bytes[n++] = (uint8_t)code;
	return n;
}

static key_code by_character(char character, bool *shifted)
{
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		*shifted = keys[i].shifted == (uint32_t)character;
		if (*shifted || keys[i].plain == (uint32_t)character)
			return keys[i].code;
	}
	return KEY_NONE;
}

static key_code by_name(const char *name)
{
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
		if (keys[i].name && !strcasecmp(keys[i].name, name))
			return keys[i].code;
	return KEY_NONE;
}

/* "c-a-del": sets bits of `held` by the index of the modifier. */
static key_code by_notation(const char *text, size_t length, unsigned *held)
{
	char name[NAME_LONGEST + 1];
	bool shifted = false, more = true;
	while (more && length > 2 && text[1] == '-') {
		more = false;
		for (unsigned i = 0; i < MODIFIERS && !more; i++) {
			more = (text[0] | 0x20) == modifiers[i].letter;
			*held |= more ? 1u << i : 0;
		}
		text += more ? 2 : 0;
		length -= more ? 2 : 0;
	}
	if (!length || length > NAME_LONGEST)
		return KEY_NONE;
	memcpy(name, text, length);
	name[length] = 0;
	key_code code = length == 1 ? by_character(name[0], &shifted) : !strcasecmp(name, "lt") ? by_character('<', &shifted) : by_name(name);
	*held |= shifted ? 1u : 0;
	return code;
}

int keys_stroke(const char **text, uint8_t bytes[KEYS_STROKE_BYTES])
{
	const char *from = *text, *end = from;
	unsigned held = 0;
	size_t n = 0;
	key_code code;
	if (!*from)
		return 0;
	if (*from == '<') {
		end = strchr(from, '>');
		code = end ? by_notation(from + 1, (size_t)(end - from - 1), &held) : KEY_NONE;
	} else {
		code = by_notation(from, 1, &held);
	}
	if (code == KEY_NONE)
		return -EINVAL;
	*text = end + 1;
	for (unsigned i = 0; i < MODIFIERS; i++)
		if (held & 1u << i)
			n += keys_encode(modifiers[i].code, true, bytes + n);
	n += keys_encode(code, true, bytes + n);
	n += keys_encode(code, false, bytes + n);
	for (unsigned i = MODIFIERS; i-- > 0;)
		if (held & 1u << i)
			n += keys_encode(modifiers[i].code, false, bytes + n);
	return (int)n;
}
