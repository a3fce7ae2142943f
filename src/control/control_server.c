/* SPDX-License-Identifier: MIT */
/* The machine's side of the control socket: a thread that waits for clients, and does what they ask, one request at a time.
 *
 * No client can hold it up. Sockets do not block; a request is read as it comes, and an answer written as it is taken; as long as an answer
 * is not taken, the client's next request is not read. When there are too many clients, the one that was silent for longest goes. */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "control/control.h"
#include "util/log.h"
#include "util/signals.h"

#define CLIENTS 32
#define LAST_WORDS 1000 /* ms that clients have to take their answers when the machine has ended */

struct client {
	int fd;                /* -1: free */
	uint64_t active;       /* when it was last heard, or listened */
	char in[CONTROL_LINE_LONGEST];
	size_t in_used;
	char *out;             /* an answer, and how much of it was taken */
	size_t out_size, out_at;
	bool at_end;           /* waits for the end of the machine */
};

struct control_server {
	struct control_socket socket;
	pthread_t thread;
	bool running;
	int wake;              /* eventfd: the machine has ended */
	struct client client[CLIENTS];
	struct client *asks;   /* whose command runs */
};

static uint64_t monotonic(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

int control_fail(struct control_answer *answer, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(answer->error, sizeof(answer->error), format, args);
	va_end(args);
	return error;
}

void control_answer_at_end(struct control *c)
{
	c->server->asks->at_end = true;
}

/* --- clients --- */

static void drop(struct client *client)
{
	close(client->fd);
	free(client->out);
	*client = (struct client){ .fd = -1 };
}

/* "ok LENGTH" and the text, or "error WHY". */
static void answer_with(struct client *client, int error, const char *why, const char *text, size_t size)
{
	char head[1200];
	size_t length;

	if (error)
		snprintf(head, sizeof(head), "error %s\n", why);
	else
		snprintf(head, sizeof(head), "ok %zu\n", size);
	length = strlen(head);
	client->out = malloc(length + size);
	if (!client->out) {
		drop(client);
		return;
	}
	memcpy(client->out, head, length);
	if (!error && size)
		memcpy(client->out + length, text, size);
	client->out_size = length + (error ? 0 : size);
	client->out_at = 0;
}

static const struct control_command *find(const char *name, size_t length)
{
	SET_FOREACH(struct control_command, command, control_commands)
		if (strlen(command->name) == length && !strncmp(command->name, name, length))
			return command;
	return NULL;
}

/* An error is one line, whatever is quoted in it. */
static void one_line(char *text)
{
	for (; *text; text++)
		if (iscntrl((unsigned char)*text))
			*text = ' ';
}

static int run_command(struct control *c, char *line, struct control_answer *answer)
{
	size_t length = strcspn(line, " ");
	const struct control_command *command = find(line, length);
	char *arguments = line + length;
	int error;

	if (!command)
		return control_fail(answer, -EINVAL, "there is no command '%.*s'; \"help\" lists them", (int)MIN(length, 64), line);
	arguments += strspn(arguments, " ");
	for (size_t end = strlen(arguments); end && arguments[end - 1] == ' ';)
		arguments[--end] = 0;
	if (!command->usage[0] && arguments[0])
		return control_fail(answer, -EINVAL, "%s takes no arguments", command->name);
	log_divert(answer->error, sizeof(answer->error));
	error = command->run(c, arguments, answer);
	log_divert(NULL, 0);
	if (error && !answer->error[0])
		control_fail(answer, error, "%s: %s", command->name, strerror(-error));
	return error;
}

static void serve_line(struct control *c, struct client *client, char *line)
{
	struct control_answer answer = { .error = "" };
	char *text = NULL;
	size_t size = 0;
	int error;

	answer.out = open_memstream(&text, &size);
	if (!answer.out) {
		answer_with(client, -ENOMEM, "out of memory", NULL, 0);
		return;
	}
	c->server->asks = client;
	error = run_command(c, line, &answer);
	c->server->asks = NULL;
	if (fclose(answer.out) && !error)
		error = control_fail(&answer, -ENOMEM, "out of memory for the answer");
	one_line(answer.error);
	client->active = monotonic();
	if (error)
		client->at_end = false;
	if (!client->at_end)
		answer_with(client, error, answer.error, text, size);
	free(text);
}

static bool sane(const char *line, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			return false;
	return true;
}

/* Does the first whole request of those that have come. A request that cannot be one is answered, and the connection ends: what follows
 * cannot be told apart. False when there was none. */
static bool serve(struct control *c, struct client *client)
{
	char line[CONTROL_LINE_LONGEST];
	char *end = memchr(client->in, '\n', client->in_used);
	size_t length;

	if (client->out || client->at_end || (!end && client->in_used < sizeof(client->in)))
		return false;
	length = end ? (size_t)(end - client->in) : 0;
	memcpy(line, client->in, length);
	if (length && line[length - 1] == '\r')
		length--;
	line[length] = 0;
	if (!end || !sane(line, length)) {
		answer_with(client, -EINVAL, end ? "a request is one line of text" : "the request is too long", NULL, 0);
		shutdown(client->fd, SHUT_RD);
		client->in_used = 0;
		return true;
	}
	client->in_used -= (size_t)(end + 1 - client->in);
	memmove(client->in, end + 1, client->in_used);
	serve_line(c, client, line);
	return true;
}

/* False when it has gone. */
static bool hear(struct client *client)
{
	ssize_t n;

	if (client->in_used == sizeof(client->in)) /* what woke us is that it hung up */
		return false;
	n = recv(client->fd, client->in + client->in_used, sizeof(client->in) - client->in_used, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	client->in_used += (size_t)n;
	client->active = monotonic();
	return n > 0;
}

static bool say(struct client *client)
{
	ssize_t n = send(client->fd, client->out + client->out_at, client->out_size - client->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	client->active = monotonic();
	client->out_at += (size_t)n;
	if (client->out_at == client->out_size) {
		free(client->out);
		client->out = NULL;
	}
	return true;
}

static struct client *place_for(struct control_server *s)
{
	struct client *silent = NULL;

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &s->client[i];
		if (client->fd < 0)
			return client;
		if (!silent || client->at_end < silent->at_end || (client->at_end == silent->at_end && client->active < silent->active))
			silent = client;
	}
	drop(silent);
	return silent;
}

/* The folder is private already; this is the second lock. */
static bool may_ask(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) && (peer.uid == geteuid() || !peer.uid);
}

static int welcome(struct control_server *s)
{
	int fd = accept4(s->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;

	if (fd < 0)
		return -errno;
	if (!may_ask(fd)) {
		close(fd);
		return 0;
	}
	client = place_for(s);
	client->fd = fd;
	client->active = monotonic();
	return 0;
}

/* --- the thread --- */

/* What is to be waited for: the end, new clients, and of each client either a request or that its answer moves on. */
static unsigned watch(struct control_server *s, struct pollfd *polls, struct client **whose)
{
	unsigned count = 0;

	polls[count++] = (struct pollfd){ .fd = s->wake, .events = POLLIN };
	polls[count++] = (struct pollfd){ .fd = s->socket.fd, .events = POLLIN };
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *client = &s->client[i];
		if (client->fd < 0)
			continue;
		bool full = client->in_used == sizeof(client->in);
		whose[count] = client;
		polls[count++] = (struct pollfd){ .fd = client->fd, .events = client->out ? POLLOUT : full ? 0 : POLLIN };
	}
	return count;
}

static void attend(struct control *c, struct client *client)
{
	bool good = true;

	if (client->out)
		good = say(client);
	else
		good = hear(client);
	while (good && client->fd >= 0 && serve(c, client))
		if (client->out)
			good = say(client);
	if (!good && client->fd >= 0)
		drop(client);
}

static void *server_thread(void *arg)
{
	struct control *c = arg;
	struct control_server *s = c->server;
	struct pollfd polls[CLIENTS + 2];
	struct client *whose[CLIENTS + 2];
	static const struct timespec moment = { .tv_nsec = 50 * 1000 * 1000 };

	for (;;) {
		unsigned count = watch(s, polls, whose);

		if (poll(polls, count, -1) < 0 && errno != EINTR)
			nanosleep(&moment, NULL);
		if (polls[0].revents)
			return NULL;
		for (unsigned i = 2; i < count; i++)
			if (polls[i].revents && whose[i]->fd == polls[i].fd)
				attend(c, whose[i]);
		/* With no descriptor left for it, a waiting client would have poll return at once, for ever. */
		if (polls[1].revents && welcome(s))
			nanosleep(&moment, NULL);
	}
}

/* What is still owed to the clients, for a while. */
static void part(struct control *c)
{
	struct control_server *s = c->server;
	static const char *const ends[] = {
		[VM_RUNS] = "not started", [VM_POWERED_OFF] = "powered off", [VM_DEBUG_EXIT] = "ended by the debug-exit port",
		[VM_CRASHED] = "crashed", [VM_KILLED] = "killed", [VM_STOPPED] = "stopped",
	};
	const char *end = ends[c->vm->end];
	uint64_t until = monotonic() + LAST_WORDS * 1000000ULL;
	bool owed = true;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (s->client[i].fd >= 0 && s->client[i].at_end)
			answer_with(&s->client[i], 0, NULL, end, strlen(end));
	while (owed && monotonic() < until) {
		struct pollfd polls[CLIENTS];
		unsigned count = 0;

		owed = false;
		for (unsigned i = 0; i < CLIENTS; i++) {
			struct client *client = &s->client[i];
			if (client->fd >= 0 && client->out && !say(client))
				drop(client);
			if (client->fd < 0 || !client->out)
				continue;
			owed = true;
			polls[count++] = (struct pollfd){ .fd = client->fd, .events = POLLOUT };
		}
		if (owed)
			poll(polls, count, LAST_WORDS / 10);
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		if (s->client[i].fd >= 0)
			drop(&s->client[i]);
}

int control_open(struct control *c, struct vm *vm, const char *name)
{
	struct control_server *s = calloc(1, sizeof(*s));
	sigset_t others, old;
	int error;

	*c = (struct control){ .vm = vm, .name = name, .began = monotonic(), .server = s };
	if (!s) {
		log_error("out of memory for the control socket");
		return -ENOMEM;
	}
	s->wake = -1;
	for (unsigned i = 0; i < CLIENTS; i++)
		s->client[i].fd = -1;
	error = control_listen(&s->socket, name);
	if (error)
		goto fail;
	s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake < 0) {
		error = -errno;
		log_error("the control socket: %s", strerror(-error));
		goto fail;
	}
	signals_of_others(&others);
	pthread_sigmask(SIG_SETMASK, &others, &old);
	error = -pthread_create(&s->thread, NULL, server_thread, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	s->running = !error;
	if (!error) {
		pthread_setname_np(s->thread, "doppel-control");
		return 0;
	}
	log_error("cannot start the control thread: %s", strerror(-error));
fail:
	control_close(c);
	return error;
}

void control_close(struct control *c)
{
	struct control_server *s = c->server;
	uint64_t one = 1;

	if (!s)
		return;
	if (s->running) {
		while (write(s->wake, &one, sizeof(one)) < 0 && errno == EINTR)
			;
		pthread_join(s->thread, NULL);
		part(c);
	}
	control_unlisten(&s->socket);
	if (s->wake >= 0)
		close(s->wake);
	free(s);
	c->server = NULL;
}
