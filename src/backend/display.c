/* SPDX-License-Identifier: MIT */
/* Which display it is to be; and the keyboard that all of them share. */
#include "backend/display.h"
#include <errno.h>
#include <string.h>
#include "backend/keys.h"
#include "util/log.h"

int display_open(struct display **display, const char *spec)
{
	size_t length = strcspn(spec, "=");
	*display = NULL;
	if (!strcmp(spec, "none"))
		return 0;
	SET_FOREACH(struct display_kind, kind, display_kinds)
		if (strlen(kind->name) == length && !strncmp(kind->name, spec, length) && spec[length])
			return kind->open(display, spec + length + 1);
	if (!strncmp(spec, "vnc=", 4))
		log_error("--display vnc: this doppel was built without libvncserver; install Debian's package libvncserver-dev and build it anew");
	else
		log_error("--display %s: none, or vnc=ADDRESS, where ADDRESS is :N, HOST:N or the path of a socket", spec);
	return -EINVAL;
}

int display_start(struct display *display, const struct screen *screen, const char *title)
{
	return display ? display->kind->start(display, screen, title) : 0;
}

void display_close(struct display *display)
{
	if (display)
		display->kind->close(display);
}

static unsigned index_of(key_code code)
{
	return (code & 0xff) | (code & KEY_EXTENDED ? 0x100 : 0);
}

static void post(const struct screen *screen, key_code code, bool press)
{
	uint8_t bytes[KEYS_BYTES];
	event_post(screen->input, INPUT_TYPE, bytes, keys_encode(code, press, bytes));
}

void display_key(struct display_keys *keys, const struct screen *screen, uint32_t keysym, bool press)
{
	key_code code = keys_from_keysym(keysym);
	unsigned index = index_of(code);
	if (code == KEY_NONE)
		return;
	keys->held[index / 64] = (keys->held[index / 64] & ~BIT(index % 64)) | (press ? BIT(index % 64) : 0);
	post(screen, code, press);
}

void display_keys_release(struct display_keys *keys, const struct screen *screen)
{
	for (unsigned i = 0; i < DISPLAY_KEYS; i++)
		if (keys->held[i / 64] & BIT(i % 64))
			post(screen, (key_code)((i & 0xff) | (i & 0x100 ? KEY_EXTENDED : 0)), false);
	memset(keys, 0, sizeof(*keys));
}
