/* SPDX-License-Identifier: MIT */
/* Keys by the names that people, scripts and X11 give them. */
#include "backend/keys.h"
#include <errno.h>
#include <string.h>
#include "test.h"

/* Does the text give these scan codes, stroke after stroke, to its end? */
static bool gives(const char *text, const char *codes, size_t length)
{
	uint8_t bytes[1024];
	size_t count = 0;
	int n;
	while ((n = keys_stroke(&text, bytes + count)) > 0)
		count += (size_t)n;
	return !n && count == length && !memcmp(bytes, codes, length);
}
#define GIVES(text, codes) ok(gives(text, codes, sizeof(codes) - 1), "%s", text)

static bool refused(const char *text, const char *where)
{
	uint8_t bytes[KEYS_STROKE_BYTES];
	int n;
	while ((n = keys_stroke(&text, bytes)) > 0)
		;
	return n == -EINVAL && !strcmp(text, where);
}

int main(void)
{
	GIVES("", "");
	GIVES("a", "\x1c\xf0\x1c");
	GIVES("A", "\x12\x1c\xf0\x1c\xf0\x12");
	GIVES("a1", "\x1c\xf0\x1c\x16\xf0\x16");
	GIVES("!", "\x12\x16\xf0\x16\xf0\x12");
	GIVES(" ", "\x29\xf0\x29");
	GIVES("<ret>", "\x5a\xf0\x5a");
	GIVES("<RET>", "\x5a\xf0\x5a");
	GIVES("<lt>", "\x12\x41\xf0\x41\xf0\x12");
	GIVES("<<>", "\x12\x41\xf0\x41\xf0\x12");
	GIVES(">", "\x12\x49\xf0\x49\xf0\x12");
	GIVES("<up>", "\xe0\x75\xe0\xf0\x75");
	GIVES("<f7>", "\x83\xf0\x83");
	GIVES("<c-c>", "\x14\x21\xf0\x21\xf0\x14");
	GIVES("<c-a-del>", "\x14\x11\xe0\x71\xe0\xf0\x71\xf0\x11\xf0\x14");
	GIVES("<s-tab>", "\x12\x0d\xf0\x0d\xf0\x12");
	GIVES("<a-->", "\x11\x4e\xf0\x4e\xf0\x11");
	GIVES("<->", "\x4e\xf0\x4e");
	GIVES("<kp->", "\x7b\xf0\x7b");
	ok(refused("ab<nothing>c", "<nothing>c"), "an unknown name");
	ok(refused("a<ret", "<ret"), "a name without its end");
	ok(refused("<>", "<>") && refused("<c->", "<c->") && refused("<x-a>", "<x-a>"), "no name at all");
	ok(refused("gr\xc3\xbcn", "\xc3\xbcn") && refused("\t", "\t"), "no key of a US keyboard");
	bool all = true;
	for (char c = 32; c < 127; c++) {
		char text[5] = { '<', c, '>', 0 };
		const char *at = text;
		uint8_t bytes[KEYS_STROKE_BYTES];
		all &= (c == '>' || (keys_stroke(&at, bytes) > 0 && !*at)) && keys_from_keysym((uint32_t)c);
	}
	ok(all, "every character of ASCII has a key");
	ok(keys_from_keysym('A') == keys_from_keysym('a') && keys_from_keysym(0xff0d) == 0x5a && keys_from_keysym(0xff52) == (KEY_EXTENDED | 0x75),
	   "keysyms");
	ok(!keys_from_keysym(0) && !keys_from_keysym(0x20ac) && !keys_from_keysym(~0u), "keysyms without a key");
	return done();
}
