/* SPDX-License-Identifier: MIT */
/* What a machine can be asked of its screen and keyboard. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backend/keys.h"
#include "backend/screen.h"
#include "board/board.h"
#include "control/control.h"

static int text(struct control *c, const char *arguments, struct control_answer *answer)
{
	struct screen screen;
	board_pc.screen(c->vm, &screen);
	char *characters = screen.text(screen.adapter);
	if (!characters)
		return control_fail(answer, -ENOMEM, "out of memory");
	fputs(characters, answer->out);
	free(characters);
	return 0;
}
static const struct control_command screen_command = { "screen", "", "the text on the screen, UTF-8, one line a row", text };
CONTROL_COMMAND(screen_command);

static int screenshot(struct control *c, const char *format, struct control_answer *answer)
{
	struct screen screen;
	struct picture picture = { 0 };
	char *data = NULL;
	size_t size;
	board_pc.screen(c->vm, &screen);
	int error = screen.draw(screen.adapter, &picture, true);
	if (error)
		control_fail(answer, error, "out of memory");
	else
		error = picture_encode(&picture, format, &data, &size);
	if (!error)
		fwrite(data, 1, size, answer->out);
	free(data);
	picture_free(&picture);
	return error;
}
static const struct control_command screenshot_command = { "screenshot", "FORMAT", "a picture of the screen; FORMAT: .png, .ppm", screenshot };
CONTROL_COMMAND(screenshot_command);

/* All of it or nothing: half a command line would be worse than none. */
static int keys(struct control *c, const char *typed, struct control_answer *answer)
{
	struct screen screen;
	uint8_t *codes = malloc(CONTROL_LINE_LONGEST * KEYS_STROKE_BYTES);
	size_t count = 0;
	int length;
	if (!codes)
		return control_fail(answer, -ENOMEM, "out of memory");
	while ((length = keys_stroke(&typed, codes + count)) > 0)
		count += (size_t)length;
	board_pc.screen(c->vm, &screen);
	if (length < 0)
		length = control_fail(answer, length, "no key is written \"%.16s\": a character of a US keyboard, or a name as <ret>, <f2>, <c-a-del>, <lt>",
				      typed);
	else if (count > screen.type_room(screen.input))
		length = control_fail(answer, -ENOSPC, "too many keys at once: the guest has to take them first");
	else
		event_post(screen.input, INPUT_TYPE, codes, count);
	free(codes);
	return length;
}
static const struct control_command keys_command = { "keys", "TEXT", "types it: characters, and <ret>, <esc>, <f2>, <c-a-del>, ...", keys };
CONTROL_COMMAND(keys_command);
