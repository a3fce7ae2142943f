/* SPDX-License-Identifier: MIT */
/* The screen for VNC viewers (RFC 6143, the remote framebuffer protocol), by libvncserver. Not built where that is missing.
 *
 * One thread does everything: it accepts viewers, listens to them, and while there is one draws the screen many times a second and sends what
 * differs from the last time. Comparing pictures needs no help of the engines, finds the least there is to send, and costs nothing while nobody
 * looks. Where nothing changes for a while it looks less often. A look takes 0.7 ms for a text screen, 3 ms for 1280 by 1024 pixels. The pages'
 * DIRTY bits would spare some of that, but there is one set of them, and whoever copies the machine's memory reads and clears it. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <rfb/rfb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "backend/display.h"
#include "util/log.h"
#include "util/socket.h"
#include "util/signals.h"

#define PORT_FIRST 5900           /* of display 0 */
#define PORT_LAST 65535
#define LOOPBACK "127.0.0.1"
#define PASSWORD_WORD "password-file="
#define PASSWORD_LONGEST 8        /* what the protocol looks at */
#define BACKLOG 8
#define CLIENTS_MOST 16           /* each has buffers */
#define CLIENT_PATIENCE_MS 5000   /* one that takes nothing for so long goes: the others wait for it */
#define FRAME_MS 33
#define IDLE_FRAME_MS 100
#define IDLE_AFTER_MS 2000        /* without a change */
#define LISTEN_US 10000           /* how long viewers are waited for before the next look at the clock */
#define BYTES 4                   /* of a pixel */

struct vnc {
	struct display display;
	char address[128];        /* for messages */
	int listen, wake;         /* wake: eventfd, to end */
	char unix_path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "": not a Unix socket */
	char password[PASSWORD_LONGEST + 1];
	char *passwords[2];       /* as libvncserver wants them */

	const struct screen *screen;
	rfbScreenInfoPtr rfb;
	pthread_t thread;
	bool running;
	unsigned clients;
	struct picture picture;
	uint32_t *frame;          /* what viewers see: blue and red are the other way round there */
	bool no_memory;           /* said already */
	struct display_keys keys;
	bool pointed;             /* x and y are known */
	int x, y, buttons;        /* of the pointer, as it was last; the buttons as in the protocol */
};

static struct vnc *of(struct display *display)
{
	return container_of(display, struct vnc, display);
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- Addresses -------------------------------------------------------------------------------------------------------- */

static int fail(const struct vnc *v, int error)
{
	log_error("--display vnc=%s: %s%s", v->address, strerror(-error),
		  error == -EADDRINUSE ? "; another number (:N) may be free" : "");
	return error;
}

static int listen_unix(struct vnc *v, const char *path)
{
	char what[sizeof(v->unix_path) + 32];
	snprintf(what, sizeof(what), "--display vnc=%s", path);
	int fd = socket_listen(what, path, BACKLOG);
	if (fd < 0)
		return fd;
	v->listen = fd;
	strcpy(v->unix_path, path);
	return 0;
}

static bool is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET)
		return (ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127;
	return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int listen_address(struct vnc *v, const struct addrinfo *info)
{
	int one = 1;
	v->listen = socket(info->ai_family, info->ai_socktype | SOCK_CLOEXEC, info->ai_protocol);
	if (v->listen < 0)
		return fail(v, -errno);
	setsockopt(v->listen, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (info->ai_family == AF_INET6)
		setsockopt(v->listen, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(v->listen, info->ai_addr, info->ai_addrlen) || listen(v->listen, BACKLOG))
		return fail(v, -errno);
	if (!v->password[0] && !is_loopback(info->ai_addr))
		log_warn("--display vnc=%s: whoever reaches this address has the machine's screen and keyboard; a " PASSWORD_WORD "FILE would ask them "
			 "for a password",
			 v->address);
	return 0;
}

/* HOST:N, [IPv6]:N or :N. */
static int listen_host(struct vnc *v, const char *spec)
{
	const char *colon = strrchr(spec, ':'), *host = spec;
	char *end, name[128], port[8];
	unsigned long number = colon ? strtoul(colon + 1, &end, 10) : 0;
	size_t length = colon ? (size_t)(colon - spec) : 0;
	if (!colon || end == colon + 1 || *end || number > PORT_LAST - PORT_FIRST || length >= sizeof(name)) {
		log_error("--display vnc=%s: an address is :N or HOST:N with N from 0 to %d (port %d + N), or the path of a socket, with a slash", spec,
			  PORT_LAST - PORT_FIRST, PORT_FIRST);
		return -EINVAL;
	}
	if (length > 1 && host[0] == '[' && host[length - 1] == ']') {
		host++;
		length -= 2;
	}
	snprintf(name, sizeof(name), "%.*s", (int)length, host);
	snprintf(port, sizeof(port), "%lu", PORT_FIRST + number);
	const struct addrinfo want = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct addrinfo *found;
	int wrong = getaddrinfo(length ? name : LOOPBACK, port, &want, &found);
	if (wrong) {
		log_error("--display vnc=%s: %s", spec, gai_strerror(wrong));
		return -EADDRNOTAVAIL;
	}
	int error = listen_address(v, found);
	freeaddrinfo(found);
	return error;
}

static int read_password(struct vnc *v, const char *path)
{
	char line[256];
	FILE *file = fopen(path, "re");
	if (!file) {
		int error = -errno;
		log_error("%s: %s", path, strerror(-error));
		return error;
	}
	bool empty = !fgets(line, sizeof(line), file);
	fclose(file);
	line[empty ? 0 : strcspn(line, "\r\n")] = 0;
	if (!line[0] || strlen(line) > PASSWORD_LONGEST) {
		log_error("%s: the first line is to be a password of up to %d characters: a VNC viewer sends no more", path, PASSWORD_LONGEST);
		return -EINVAL;
	}
	strcpy(v->password, line);
	return 0;
}

static void vnc_close(struct display *);
static const struct display_kind vnc_kind;

static int vnc_open(struct display **display, const char *spec)
{
	struct vnc *v = calloc(1, sizeof(*v));
	const char *comma = strstr(spec, "," PASSWORD_WORD);
	if (!v) {
		log_error("--display vnc: out of memory");
		return -ENOMEM;
	}
	v->display.kind = &vnc_kind;
	v->listen = -1;
	v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int error = v->wake < 0 ? -errno : 0;
	char *address = comma ? strndup(spec, (size_t)(comma - spec)) : strdup(spec);
	snprintf(v->address, sizeof(v->address), "%s", address ? address : "");
	if (error || !address)
		error = fail(v, error ? error : -ENOMEM);
	if (!error && comma)
		error = read_password(v, comma + 1 + strlen(PASSWORD_WORD));
	if (!error)
		error = strchr(address, '/') ? listen_unix(v, address) : listen_host(v, address);
	free(address);
	if (error)
		vnc_close(&v->display);
	else
		*display = &v->display;
	return error;
}

/* ---- Input ------------------------------------------------------------------------------------------------------------ */

static void key(rfbBool down, rfbKeySym keysym, rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;
	display_key(&v->keys, v->screen, keysym, down);
}

/* Buttons of the protocol: left, middle, right, and the wheel's two directions, pressed once a notch. */
static void pointer(int buttons, int x, int y, rfbClientPtr client)
{
	enum { LEFT = 1, MIDDLE = 2, RIGHT = 4, WHEEL_UP = 8, WHEEL_DOWN = 16 };
	struct vnc *v = client->screen->screenData;
	int pressed = buttons & ~v->buttons;
	struct input_mouse m = {
		.dx = v->pointed ? x - v->x : 0,
		.dy = v->pointed ? v->y - y : 0,
		.wheel = !!(pressed & WHEEL_DOWN) - !!(pressed & WHEEL_UP),
		.buttons = (buttons & LEFT ? 1 : 0) | (buttons & RIGHT ? 2 : 0) | (buttons & MIDDLE ? 4 : 0),
	};
	v->pointed = true;
	v->x = x;
	v->y = y;
	v->buttons = buttons;
	event_post(v->screen->input, INPUT_MOUSE, &m, sizeof(m));
}

static void gone(rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;
	if (!--v->clients)
		display_keys_release(&v->keys, v->screen);
}

static enum rfbNewClientAction come(rfbClientPtr client)
{
	struct vnc *v = client->screen->screenData;
	v->clients++; /* clientGoneHook is called for a refused one, too */
	client->clientGoneHook = gone;
	return v->clients > CLIENTS_MOST ? RFB_CLIENT_REFUSE : RFB_CLIENT_ACCEPT;
}

/* ---- Output ----------------------------------------------------------------------------------------------------------- */

static uint32_t swapped(uint32_t pixel)
{
	return (pixel & 0xff00) | (pixel & 0xff) << 16 | (pixel >> 16 & 0xff);
}

/* Another size: every viewer gets all of it. */
static bool resize(struct vnc *v)
{
	uint32_t *frame = calloc((size_t)v->picture.width * v->picture.height, BYTES);
	if (!frame)
		return false;
	rfbNewFramebuffer(v->rfb, (char *)frame, (int)v->picture.width, (int)v->picture.height, 8, 3, BYTES);
	free(v->frame);
	v->frame = frame;
	return true;
}

/* Takes over a row; the part that differs, if there is one. */
static bool take_row(struct vnc *v, unsigned y, unsigned *left, unsigned *right)
{
	const uint32_t *from = v->picture.pixels + (size_t)y * v->picture.width;
	uint32_t *to = v->frame + (size_t)y * v->picture.width;
	*left = v->picture.width;
	*right = 0;
	for (unsigned x = 0; x < v->picture.width; x++) {
		uint32_t pixel = swapped(from[x]);
		if (to[x] == pixel)
			continue;
		to[x] = pixel;
		*left = MIN(*left, x);
		*right = x + 1;
	}
	return *right;
}

/* Rows that differ, one below the other, are one rectangle. True when anything differs. */
static bool take_picture(struct vnc *v)
{
	unsigned top = 0, left = v->picture.width, right = 0, row_left, row_right;
	bool open = false, any = false;
	for (unsigned y = 0; y <= v->picture.height; y++) {
		if (y < v->picture.height && take_row(v, y, &row_left, &row_right)) {
			top = open ? top : y;
			left = open ? MIN(left, row_left) : row_left;
			right = open ? MAX(right, row_right) : row_right;
			open = any = true;
		} else if (open) {
			rfbMarkRectAsModified(v->rfb, (int)left, (int)top, (int)right, (int)y);
			open = false;
		}
	}
	return any;
}

static bool refresh(struct vnc *v)
{
	bool drawn = !v->screen->draw(v->screen->adapter, &v->picture, false);
	if (drawn && ((int)v->picture.width != v->rfb->width || (int)v->picture.height != v->rfb->height))
		drawn = resize(v);
	if (!drawn && !v->no_memory)
		log_warn("VNC: no memory for a picture of the screen; it stands still");
	v->no_memory = !drawn;
	return drawn && take_picture(v);
}

/* ---- The thread ------------------------------------------------------------------------------------------------------- */

static void accept_viewer(struct vnc *v)
{
	int fd = accept4(v->listen, NULL, NULL, SOCK_CLOEXEC);
	if (!v->clients)
		refresh(v); /* so that it is not greeted with an old size */
	if (fd >= 0 && fd < FD_SETSIZE)
		rfbNewClient(v->rfb, fd);
	else if (fd >= 0)
		close(fd);
}

static void *serve(void *arg)
{
	struct vnc *v = arg;
	uint64_t drawn_at = 0, changed_at = 0;
	for (;;) {
		struct pollfd fds[] = { { .fd = v->wake, .events = POLLIN }, { .fd = v->listen, .events = POLLIN } };
		poll(fds, ARRAY_SIZE(fds), v->clients ? 0 : -1);
		if (fds[0].revents)
			return NULL;
		if (fds[1].revents & POLLIN)
			accept_viewer(v);
		if (!v->clients)
			continue;
		uint64_t now = now_ms();
		if (now - drawn_at >= (now - changed_at < IDLE_AFTER_MS ? FRAME_MS : IDLE_FRAME_MS)) {
			drawn_at = now;
			if (refresh(v))
				changed_at = now;
		}
		rfbProcessEvents(v->rfb, LISTEN_US);
	}
}

static void say_nothing(const char *format, ...)
{
}

static int make_server(struct vnc *v, const char *title)
{
	int argc = 0;
	struct sigaction before;
	rfbLog = rfbErr = say_nothing;
	if (v->screen->draw(v->screen->adapter, &v->picture, false))
		return -ENOMEM;
	v->frame = calloc((size_t)v->picture.width * v->picture.height, BYTES);
	v->rfb = rfbGetScreen(&argc, NULL, (int)v->picture.width, (int)v->picture.height, 8, 3, BYTES);
	if (!v->frame || !v->rfb)
		return -ENOMEM;
	v->rfb->frameBuffer = (char *)v->frame;
	v->rfb->screenData = v;
	v->rfb->desktopName = title;
	v->rfb->alwaysShared = TRUE;
	v->rfb->maxClientWait = CLIENT_PATIENCE_MS;
	v->rfb->autoPort = FALSE; /* we accept */
	v->rfb->port = v->rfb->ipv6port = 0;
	v->rfb->cursor = NULL;    /* the guest draws its own */
	v->rfb->kbdAddEvent = key;
	v->rfb->ptrAddEvent = pointer;
	v->rfb->newClientHook = come;
	if (v->password[0]) {
		v->passwords[0] = v->password;
		v->rfb->authPasswdData = v->passwords;
		v->rfb->passwordCheck = rfbCheckPasswordByList;
	}
	/* It has SIGPIPE ignored for the whole process; our thread holds it off for itself. */
	sigaction(SIGPIPE, NULL, &before);
	rfbInitServer(v->rfb);
	sigaction(SIGPIPE, &before, NULL);
	return 0;
}

static int vnc_start(struct display *display, const struct screen *screen, const char *title)
{
	struct vnc *v = of(display);
	sigset_t all, before;
	v->screen = screen;
	int error = make_server(v, title);
	if (!error) {
		signals_of_others(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		error = -pthread_create(&v->thread, NULL, serve, v);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		v->running = !error;
	}
	return error ? fail(v, error) : 0;
}

static void vnc_close(struct display *display)
{
	struct vnc *v = of(display);
	if (v->running) {
		eventfd_write(v->wake, 1);
		pthread_join(v->thread, NULL);
	}
	if (v->rfb) {
		rfbShutdownServer(v->rfb, TRUE);
		v->rfb->frameBuffer = NULL;
		rfbScreenCleanup(v->rfb);
	}
	if (v->listen >= 0)
		close(v->listen);
	if (v->unix_path[0])
		unlink(v->unix_path);
	if (v->wake >= 0)
		close(v->wake);
	picture_free(&v->picture);
	free(v->frame);
	free(v);
}

static const struct display_kind vnc_kind = { .name = "vnc", .open = vnc_open, .start = vnc_start, .close = vnc_close };
DISPLAY_KIND(vnc_kind);
