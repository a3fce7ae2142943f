/* SPDX-License-Identifier: MIT */
/* A VNC viewer for tests: connects, does what its arguments say one after the other, and prints a line for each that has something to say.
 *
 *   vnc_client HOST:PORT|/SOCKET [ACTION...]
 *
 *   size            prints WIDTHxHEIGHT
 *   save=FILE       writes the screen as it is now, as PPM
 *   until=WxH       waits until the screen has this size
 *   changes=MS      listens so long; prints how many pixels the server sent
 *   type=TEXT       presses and releases the key of each character
 *   key=KEYSYM      presses and releases the key with this number
 *   press=KEYSYM    presses it only
 *   at=X,Y,BUTTONS  puts the pointer there; BUTTONS is the protocol's mask
 *   wait=MS
 *
 * The password comes from VNC_PASSWORD. Exit status: 0, or 1 when the server refuses or is gone. */
#include <rfb/rfbclient.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define UPDATE_SECONDS 30

static bool complete;      /* an update has come whole */
static uint64_t pixels;    /* that came */

static long now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static char *password(rfbClient *client)
{
	const char *text = getenv("VNC_PASSWORD");
	return strdup(text ? text : "");
}

static void finished(rfbClient *client)
{
	complete = true;
}

static void updated(rfbClient *client, int x, int y, int width, int height)
{
	pixels += (uint64_t)width * (uint64_t)height;
}

static bool listen_for(rfbClient *client, long ms, bool until_complete)
{
	for (long end = now_ms() + ms, left; (left = end - now_ms()) > 0 && !(until_complete && complete);) {
		/* The library may have read more than one message. */
		int found = client->buffered ? 1 : WaitForMessage(client, (unsigned)left * 1000);
		if (found < 0 || (found && !HandleRFBServerMessage(client)))
			return false;
	}
	return true;
}

static bool save(rfbClient *client, const char *path)
{
	/* The answer to a request for all may be the size alone; the rest comes when more is asked for. */
	rfbBool more = FALSE;
	for (pixels = 0; pixels < (uint64_t)client->width * (uint64_t)client->height; more = TRUE) {
		complete = false;
		if (!SendFramebufferUpdateRequest(client, 0, 0, client->width, client->height, more) ||
		    !listen_for(client, UPDATE_SECONDS * 1000, true) || !complete)
			return false;
	}
	FILE *file = fopen(path, "w");
	if (!file)
		return false;
	fprintf(file, "P6\n%d %d\n255\n", client->width, client->height);
	for (int i = 0; i < client->width * client->height; i++) {
		uint32_t pixel = ((uint32_t *)client->frameBuffer)[i];
		putc(pixel >> client->format.redShift & 0xff, file);
		putc(pixel >> client->format.greenShift & 0xff, file);
		putc(pixel >> client->format.blueShift & 0xff, file);
	}
	return !fclose(file);
}

static bool await_size(rfbClient *client, int width, int height)
{
	long end = now_ms() + UPDATE_SECONDS * 1000;
	while (client->width != width || client->height != height)
		if (now_ms() > end || !SendIncrementalFramebufferUpdateRequest(client) || !listen_for(client, 100, false))
			return false;
	return true;
}

static bool changes(rfbClient *client, long ms)
{
	pixels = 0;
	complete = false;
	bool good = SendIncrementalFramebufferUpdateRequest(client) && listen_for(client, ms, false);
	printf("%lu\n", pixels);
	return good;
}

static bool type(rfbClient *client, const char *text)
{
	bool good = true;
	for (; *text && good; text++) {
		bool shift = (*text >= 'A' && *text <= 'Z') || strchr("~!@#$%^&*()_+{}|:\"<>?", *text);
		if (shift)
			good &= SendKeyEvent(client, XK_Shift_L, TRUE);
		good &= SendKeyEvent(client, (uint32_t)*text, TRUE) && SendKeyEvent(client, (uint32_t)*text, FALSE);
		if (shift)
			good &= SendKeyEvent(client, XK_Shift_L, FALSE);
	}
	return good;
}

static bool act(rfbClient *client, const char *action)
{
	const char *value = strchr(action, '=') ? strchr(action, '=') + 1 : "";
	uint32_t number = (uint32_t)strtoul(value, NULL, 0);
	int x, y, buttons;
	if (!strcmp(action, "size"))
		return printf("%dx%d\n", client->width, client->height) > 0;
	if (!strncmp(action, "save=", 5))
		return save(client, value);
	if (!strncmp(action, "changes=", 8))
		return changes(client, (long)number);
	if (!strncmp(action, "type=", 5))
		return type(client, value);
	if (!strncmp(action, "key=", 4))
		return SendKeyEvent(client, number, TRUE) && SendKeyEvent(client, number, FALSE);
	if (!strncmp(action, "press=", 6))
		return SendKeyEvent(client, number, TRUE);
	if (!strncmp(action, "wait=", 5))
		return listen_for(client, (long)number, false);
	if (sscanf(action, "until=%dx%d", &x, &y) == 2)
		return await_size(client, x, y);
	if (sscanf(action, "at=%d,%d,%d", &x, &y, &buttons) == 3)
		return SendPointerEvent(client, x, y, buttons);
	fprintf(stderr, "vnc_client: unknown action %s\n", action);
	exit(2);
}

static void quiet(const char *format, ...)
{
}

int main(int argc, char **argv)
{
	rfbClient *client = rfbGetClient(8, 3, 4);
	if (argc < 2 || !client)
		return 2;
	if (!getenv("VNC_VERBOSE"))
		rfbClientLog = rfbClientErr = quiet;
	client->GetPassword = password;
	client->FinishedFrameBufferUpdate = finished;
	client->GotFrameBufferUpdate = updated;
	client->canHandleNewFBSize = TRUE;
	client->appData.useRemoteCursor = FALSE;
	char *colon = argv[1][0] == '/' ? NULL : strrchr(argv[1], ':');
	client->serverPort = colon ? atoi(colon + 1) : 0;
	if (colon)
		*colon = 0;
	free(client->serverHost);
	client->serverHost = strdup(argv[1]);
	if (!rfbInitClient(client, NULL, NULL))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 2; i < argc; i++)
		if (!act(client, argv[i])) {
			fprintf(stderr, "vnc_client: %s failed\n", argv[i]);
			return 1;
		}
	return 0;
}
