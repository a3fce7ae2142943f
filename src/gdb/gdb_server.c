/* SPDX-License-Identifier: MIT */
/* The connection of GDB's remote protocol: a socket, a thread, packets with their checksums. GDB manual, E.1.
 *
 * The thread waits for the client, for a processor that stands still, and for the end. While the machine runs, only an interrupt (the
 * byte 3) means anything. A client that sends nonsense is disconnected; one that goes away leaves the machine running. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "gdb/gdb.h"
#include "util/log.h"
#include "util/socket.h"
#include "util/options.h"

#define INTERRUPT 3
#define SIGNAL_INT 2
#define WAIT_MS 200

struct gdb_server {
	int listener, client, event; /* event: a processor stands still, or we shall end */
	pthread_t thread;
	bool started;
	atomic_bool quit;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of the socket, to be removed */
	char in[GDB_PACKET + 8];
	size_t filled;
};

static void notify(void *arg)
{
	struct gdb_server *s = arg;
	uint64_t one = 1;

	if (write(s->event, &one, sizeof(one)) < 0)
		log_warn("gdb: %s", strerror(errno));
}

static bool send_all(struct gdb_server *s, const char *data, size_t size)
{
	while (size) {
		ssize_t n = send(s->client, data, size, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		data += n;
		size -= (size_t)n;
	}
	return true;
}

/* What may not stand in a packet as it is: "$", "#", "}" and "*" are escaped. */
static bool send_packet(struct gdb_server *s, const struct gdb_text *a)
{
	static char out[2 * GDB_PACKET + 8];
	size_t n = 0;
	uint8_t sum = 0;

	out[n++] = '$';
	for (size_t k = 0; k < a->size; k++) {
		char c = a->data[k];
		if (c == '$' || c == '#' || c == '}' || c == '*') {
			out[n++] = '}';
			c ^= 0x20;
		}
		out[n++] = c;
	}
	for (size_t k = 1; k < n; k++)
		sum += (uint8_t)out[k];
	n += (size_t)snprintf(out + n, 4, "#%02x", sum);
	return send_all(s, out, n);
}

static void disconnect(struct gdb *g)
{
	struct gdb_server *s = g->server;

	close(s->client);
	s->client = -1;
	s->filled = 0;
	gdb_detached(g);
}

static void stopped(struct gdb *g, unsigned signal)
{
	struct gdb_text *a = calloc(1, sizeof(*a));

	vm_pause(g->vm);
	if (a) {
		gdb_stopped(g, signal, a);
		if (!send_packet(g->server, a))
			disconnect(g);
	}
	free(a);
}

/* A whole packet; false: the connection is of no use any more. */
static bool packet(struct gdb *g, char *data, size_t size)
{
	struct gdb_text *a = calloc(1, sizeof(*a));
	bool good = a != NULL, acks = !g->no_ack;

	if (good && acks)
		good = send_all(g->server, "+", 1);
	data[size] = 0;
	if (good && gdb_command(g, data, size, a))
		good = send_packet(g->server, a);
	free(a);
	return good && !g->leaving;
}

/* Takes whole packets off the input. False: the connection is to be closed. */
static bool parse(struct gdb *g)
{
	struct gdb_server *s = g->server;
	size_t at = 0;
	bool good = true;

	while (good && at < s->filled) {
		char *from = s->in + at, *hash;
		if (*from == INTERRUPT && g->running)
			stopped(g, SIGNAL_INT);
		if (s->client < 0)
			return true;
		if (*from != '$') { /* acknowledgements, and noise */
			at++;
			continue;
		}
		hash = memchr(from, '#', s->filled - at);
		if (!hash || s->in + s->filled - hash < 3)
			break;
		size_t size = (size_t)(hash - from) - 1, whole = size + 4;
		uint8_t sum = 0, given;
		for (size_t n = 0; n < size; n++)
			sum += (uint8_t)from[1 + n];
		if (gdb_unhex(hash + 1, &given, 1) != 1 || (given != sum && !g->no_ack))
			good = send_all(s, "-", 1);
		else if (!g->running) /* it may say nothing else while it waits */
			good = packet(g, from + 1, size);
		at += whole;
	}
	memmove(s->in, s->in + at, s->filled - at);
	s->filled -= at;
	return good && s->filled < GDB_PACKET + 4; /* else it is longer than any packet that we allow */
}

static void client_ready(struct gdb *g)
{
	struct gdb_server *s = g->server;
	ssize_t n = recv(s->client, s->in + s->filled, GDB_PACKET + 4 - s->filled, 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n > 0)
		s->filled += (size_t)n;
	if (n <= 0 || !parse(g))
		if (s->client >= 0)
			disconnect(g);
}

static void accept_client(struct gdb *g)
{
	const struct timeval patience = { .tv_sec = 5 };

	g->server->client = accept4(g->server->listener, NULL, NULL, SOCK_CLOEXEC);
	if (g->server->client < 0)
		return;
	setsockopt(g->server->client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)); /* for one that does not read */
	vm_pause(g->vm);
	g->running = false;
	g->selected = g->vm->vcpu[0];
	vcpu_state(g->selected, X86_ALL_GROUPS);
}

static void *serve(void *arg)
{
	struct gdb *g = arg;
	struct gdb_server *s = g->server;

	while (!s->quit) {
		struct pollfd fds[] = { { s->event, POLLIN, 0 }, { s->client < 0 ? s->listener : s->client, POLLIN, 0 } };
		uint64_t count;
		if (poll(fds, 2, WAIT_MS) < 0 && errno != EINTR)
			break;
		if (g->vm->end)
			break;
		if ((fds[0].revents & POLLIN) && read(s->event, &count, sizeof(count)) > 0 && s->client >= 0 && g->running)
			stopped(g, 0);
		if (fds[1].revents && s->client < 0)
			accept_client(g);
		else if (fds[1].revents && s->client >= 0)
			client_ready(g);
	}
	if (s->client >= 0) {
		struct gdb_text *a = calloc(1, sizeof(*a));
		if (a) {
			gdb_print(a, "W%02x", (unsigned)(g->vm->end_value & 0xff)); /* the program, that is the machine, has ended */
			send_packet(s, a);
		}
		free(a);
		close(s->client);
		s->client = -1;
	}
	return NULL;
}

static int listen_tcp(struct gdb_server *s, const char *where)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	uint64_t port;
	int one = 1, error;

	if (option_number(where, &port) || port > 65535) {
		log_error("--gdb %s: a TCP port of this host, as 1234, or unix:PATH", where);
		return -EINVAL;
	}
	address.sin_port = htons((uint16_t)port);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (s->listener >= 0 && !bind(s->listener, (struct sockaddr *)&address, sizeof(address)) && !listen(s->listener, 1))
		return 0;
	error = -errno;
	log_error("--gdb %s: %s%s", where, strerror(-error), error == -EADDRINUSE ? "; give another port" : "");
	return error;
}

static int listen_unix(struct gdb_server *s, const char *where, const char *path)
{
	char what[sizeof(s->path) + 32];
	snprintf(what, sizeof(what), "--gdb %s", where);
	s->listener = socket_listen(what, path, 1);
	if (s->listener < 0)
		return s->listener;
	strcpy(s->path, path);
	return 0;
}

int gdb_open(struct gdb **out, struct vm *vm, const char *where)
{
	struct gdb *g = calloc(1, sizeof(*g));
	struct gdb_server *s = calloc(1, sizeof(*s));
	int error = g && s ? 0 : -ENOMEM;

	*out = g;
	if (error) {
		free(s);
		return error;
	}
	*s = (struct gdb_server){ .listener = -1, .client = -1, .event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	g->vm = vm;
	g->server = s;
	g->selected = vm->vcpu[0];
	g->debugger.notify = notify;
	g->debugger.arg = s;
	error = strncmp(where, "unix:", 5) ? listen_tcp(s, where) : listen_unix(s, where, where + 5);
	if (error)
		return error;
	debugger_attach(vm, &g->debugger);
	error = -pthread_create(&s->thread, NULL, serve, g);
	s->started = !error;
	if (error)
		log_error("--gdb: no thread: %s", strerror(-error));
	return error;
}

void gdb_close(struct gdb *g)
{
	struct gdb_server *s = g ? g->server : NULL;

	if (!g)
		return;
	if (s) {
		s->quit = true;
		notify(s);
		if (s->started)
			pthread_join(s->thread, NULL);
		if (s->listener >= 0)
			close(s->listener);
		if (*s->path)
			unlink(s->path);
		close(s->event);
	}
	if (g->vm)
		g->vm->debugger = NULL;
	free(s);
	free(g);
}
