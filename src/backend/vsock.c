/* SPDX-License-Identifier: MIT */
/* See vsock.h.
 *
 * All streams are in an epoll set of their own, which is one descriptor to the event loop: so the device's thread can add one without the
 * loop's locks. Each is armed for one event at a time (EPOLLONESHOT), and anew for what it waits for then; who has no room for input is not
 * armed, and a host that hung up does not keep the loop busy. */
#include "backend/vsock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "util/log.h"
#include "util/options.h"
#include "util/socket.h"
#include "vm/vm.h"

#define CID_DEFAULT 3          /* 0 to 2 mean something else */
#define CID_MOST (UINT32_MAX - 1)
#define SLOT_MAX 31
#define BACKLOG 64
#define REQUEST_MAX 32         /* "CONNECT 4294967295\n" fits */
#define LISTENER 0             /* in place of a stream's number */
#define PORT_TEXT sizeof("_4294967295")
#define EVENTS_AT_ONCE 8

enum phase {
	FREE,
	GREETING,              /* its request is being read */
	ASKED,                 /* the guest has it */
	CONNECTING,            /* the guest asked, the host did not answer yet */
	CONNECTED,
};

struct stream {
	enum phase phase;
	uint32_t number;       /* index, and above it how often the place was used */
	int fd;
	bool refused;          /* CONNECTING: nobody listens there */
	bool ended;            /* there is no more input */
	bool wants_room;       /* vsock_write did not take all */
	uint64_t seen, allowed; /* bytes of input: read, and what may be */
	char request[REQUEST_MAX];
	unsigned request_size;
};

struct words {
	uint64_t cid, slot;
};

struct vsock {
	struct words words;
	char *text;            /* the path */
	int listener, epoll;
	int spare;             /* a descriptor to give up when there are no others: see refuse_one */
	bool made;             /* the socket's file is ours */
	struct loop_fd ready;
	struct device *device;
	pthread_mutex_t lock;  /* guards the streams */
	struct stream stream[VSOCK_STREAMS];
	unsigned turn;         /* where the search for a place begins */
	uint8_t data[sizeof(struct vsock_news) + VSOCK_READ_MAX]; /* loop thread's */
};

/* ---- Streams: the lock is held ------------------------------------------------------------------------------------------ */

static struct stream *find(struct vsock *v, uint32_t number)
{
	struct stream *s = &v->stream[number % VSOCK_STREAMS];
	return s->phase != FREE && s->number == number ? s : NULL;
}

static struct stream *place_in(struct vsock *v, enum phase phase)
{
	for (unsigned i = 0; i < VSOCK_STREAMS; i++) {
		struct stream *s = &v->stream[(v->turn + i) % VSOCK_STREAMS];
		if (s->phase == phase)
			return s;
	}
	return NULL;
}

static void listen_again(struct vsock *v)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = LISTENER };
	epoll_ctl(v->epoll, EPOLL_CTL_MOD, v->listener, &event);
}

static void end(struct vsock *v, struct stream *s)
{
	close(s->fd);
	s->phase = FREE;
	listen_again(v); /* there is room again */
}

/* Who connects and says nothing keeps nobody out: when all places are taken, one of those gives way, each time another. */
static struct stream *make_room(struct vsock *v)
{
	struct stream *place = place_in(v, FREE);
	if (place)
		return place;
	place = place_in(v, GREETING);
	if (place) {
		v->turn = place->number % VSOCK_STREAMS + 1;
		end(v, place);
	}
	return place;
}

/* Asks for what the stream waits for. A stream that may have input, but no room for it, waits for nothing: not even for the host to hang up,
 * for what the host sent before that comes first. */
static void arm(struct vsock *v, struct stream *s, int operation)
{
	bool input = s->phase == GREETING || (s->phase == CONNECTED && !s->ended && s->seen < s->allowed);
	bool output = s->phase == CONNECTING || s->wants_room;
	struct epoll_event event = { .data.u32 = s->number };
	event.events = EPOLLONESHOT | (input ? (uint32_t)EPOLLIN : 0) | (output ? (uint32_t)EPOLLOUT : 0);
	if (input || output || s->ended)
		epoll_ctl(v->epoll, operation, s->fd, &event);
}

static struct stream *begin(struct vsock *v, struct stream *place, enum phase phase, int fd)
{
	uint32_t number = place->number + VSOCK_STREAMS;
	if (number < VSOCK_STREAMS) /* it went round */
		number += VSOCK_STREAMS;
	*place = (struct stream){ .phase = phase, .fd = fd, .number = number };
	arm(v, place, EPOLL_CTL_ADD);
	return place;
}

/* ---- What happens on the host's side: the loop's thread ----------------------------------------------------------------- */

static void tell(struct vsock *v, enum vsock_event what, uint32_t stream, uint32_t port)
{
	struct vsock_news news = { stream, port };
	event_post(v->device, what, &news, sizeof(news));
}

static int spare_descriptor(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* This process has no descriptor left. Who waits is hung up on, rather than left to wait for ever. */
static void refuse_one(struct vsock *v)
{
	if (v->spare >= 0)
		close(v->spare);
	int fd = accept4(v->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	v->spare = spare_descriptor();
}

static void accept_one(struct vsock *v)
{
	struct stream *place = make_room(v);
	int fd = place ? accept4(v->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
	if (fd >= 0)
		begin(v, place, GREETING, fd);
	else if (place && (errno == EMFILE || errno == ENFILE))
		refuse_one(v);
	if (place)
		listen_again(v); /* else when a stream ends */
}

/* "CONNECT 1234", and nothing else. */
static bool understand(const struct stream *s, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	const size_t start = sizeof(word) - 1;
	uint64_t number = 0;
	if (s->request_size <= start || memcmp(s->request, word, start))
		return false;
	for (size_t i = start; i < s->request_size; i++) {
		if (s->request[i] < '0' || s->request[i] > '9')
			return false;
		number = number * 10 + (uint64_t)(s->request[i] - '0');
		if (number > UINT32_MAX)
			return false;
	}
	*port = (uint32_t)number;
	return true;
}

/* True when the request is complete, and makes sense. */
static bool read_request(struct vsock *v, struct stream *s, uint32_t *port)
{
	char byte;
	ssize_t n;
	while ((n = recv(s->fd, &byte, 1, 0)) == 1 && byte != '\n' && s->request_size < REQUEST_MAX - 1)
		s->request[s->request_size++] = byte;
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		arm(v, s, EPOLL_CTL_MOD);
		return false;
	}
	if (n == 1 && byte == '\n' && understand(s, port))
		return true;
	end(v, s);
	return false;
}

static void greeted(struct vsock *v, struct stream *s)
{
	uint32_t port, number = s->number;
	bool asked = read_request(v, s, &port);
	if (asked)
		s->phase = ASKED;
	pthread_mutex_unlock(&v->lock);
	if (asked)
		tell(v, VSOCK_ASKED, number, port);
	pthread_mutex_lock(&v->lock);
}

static void answered(struct vsock *v, struct stream *s)
{
	uint32_t number = s->number;
	enum vsock_event what = s->refused ? VSOCK_GONE : VSOCK_OPEN;
	s->phase = CONNECTED;
	s->ended = s->refused;
	pthread_mutex_unlock(&v->lock);
	tell(v, what, number, 0);
	pthread_mutex_lock(&v->lock);
}

static void moved(struct vsock *v, struct stream *s, uint32_t events)
{
	struct vsock_news news = { s->number, 0 };
	bool was_ended = s->ended, gone = false;
	bool writable = s->wants_room && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR));
	ssize_t n = -1;
	if (!s->ended && s->seen < s->allowed) {
		n = recv(s->fd, v->data + sizeof(news), MIN(s->allowed - s->seen, (uint64_t)VSOCK_READ_MAX), 0);
		gone = n < 0 && errno != EAGAIN && errno != EINTR;
		s->ended = !n || gone;
		s->seen += n > 0 ? (uint64_t)n : 0;
	}
	bool ended = s->ended && !was_ended;
	gone |= s->ended && (events & (EPOLLHUP | EPOLLERR));
	s->wants_room &= !writable;
	if (!gone)
		arm(v, s, EPOLL_CTL_MOD);
	pthread_mutex_unlock(&v->lock);
	if (n > 0) {
		memcpy(v->data, &news, sizeof(news));
		event_post(v->device, VSOCK_INPUT, v->data, sizeof(news) + (size_t)n);
	}
	if (ended)
		tell(v, VSOCK_END, news.stream, 0);
	if (writable)
		tell(v, VSOCK_WRITABLE, news.stream, 0);
	if (gone)
		tell(v, VSOCK_GONE, news.stream, 0);
	pthread_mutex_lock(&v->lock);
}

static void one_event(struct vsock *v, const struct epoll_event *event)
{
	pthread_mutex_lock(&v->lock);
	struct stream *s = find(v, event->data.u32);
	if (event->data.u32 == LISTENER)
		accept_one(v);
	else if (s && s->phase == GREETING)
		greeted(v, s);
	else if (s && s->phase == CONNECTING)
		answered(v, s);
	else if (s && s->phase == CONNECTED)
		moved(v, s, event->events);
	pthread_mutex_unlock(&v->lock);
}

static void set_ready(struct loop_fd *f, uint32_t events)
{
	struct epoll_event event[EVENTS_AT_ONCE];
	struct vsock *v = f->arg;
	int count = epoll_wait(v->epoll, event, EVENTS_AT_ONCE, 0);
	for (int i = 0; i < count; i++)
		one_event(v, &event[i]);
}

/* ---- What the device asks for ------------------------------------------------------------------------------------------- */

/* The answer is known here, but comes as all events do: a new socket is ready at once, connected or not. */
uint32_t vsock_connect(struct vsock *v, uint32_t port)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	uint32_t number = 0;
	snprintf(to.sun_path, sizeof(to.sun_path), "%s_%u", v->text, port);
	pthread_mutex_lock(&v->lock);
	struct stream *place = make_room(v);
	int fd = place ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
	bool refused = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to));
	if (refused)
		trace(net, "vsock: port %u: %s: %s", port, to.sun_path, strerror(errno));
	if (fd >= 0) {
		number = begin(v, place, CONNECTING, fd)->number;
		place->refused = refused;
	}
	pthread_mutex_unlock(&v->lock);
	return number;
}

void vsock_accept(struct vsock *v, uint32_t stream, uint32_t from)
{
	char text[REQUEST_MAX];
	int size = snprintf(text, sizeof(text), "OK %u\n", from);
	pthread_mutex_lock(&v->lock);
	struct stream *s = find(v, stream);
	if (s && s->phase == ASKED) {
		(void)!send(s->fd, text, (size_t)size, MSG_NOSIGNAL); /* a new socket has room; one that hung up is found by reading */
		s->phase = CONNECTED;
	}
	pthread_mutex_unlock(&v->lock);
}

static size_t total(const struct iovec *iov, unsigned count)
{
	size_t size = 0;
	for (unsigned i = 0; i < count; i++)
		size += iov[i].iov_len;
	return size;
}

size_t vsock_write(struct vsock *v, uint32_t stream, const struct iovec *iov, unsigned count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = count };
	size_t size = total(iov, count), taken = size;
	pthread_mutex_lock(&v->lock);
	struct stream *s = find(v, stream);
	ssize_t n = s && s->phase == CONNECTED ? sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) : (ssize_t)size;
	if (n >= 0)
		taken = (size_t)n;
	else if (errno == EAGAIN || errno == EINTR)
		taken = 0;
	if (taken < size) { /* who will read no more takes anything */
		s->wants_room = true;
		arm(v, s, EPOLL_CTL_MOD);
	}
	pthread_mutex_unlock(&v->lock);
	return taken;
}

void vsock_allow(struct vsock *v, uint32_t stream, uint64_t allowed)
{
	pthread_mutex_lock(&v->lock);
	struct stream *s = find(v, stream);
	if (s && allowed > s->allowed) {
		bool waited = s->seen == s->allowed;
		s->allowed = allowed;
		if (waited && !s->ended)
			arm(v, s, EPOLL_CTL_MOD);
	}
	pthread_mutex_unlock(&v->lock);
}

void vsock_finish(struct vsock *v, uint32_t stream, bool output)
{
	pthread_mutex_lock(&v->lock);
	struct stream *s = find(v, stream);
	if (s)
		shutdown(s->fd, output ? SHUT_WR : SHUT_RD);
	pthread_mutex_unlock(&v->lock);
}

void vsock_drop(struct vsock *v, uint32_t stream)
{
	pthread_mutex_lock(&v->lock);
	struct stream *s = find(v, stream);
	if (s)
		end(v, s);
	pthread_mutex_unlock(&v->lock);
}

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

#define AT(member) offsetof(struct words, member)
static const struct option_row rows[] = {
	{ "cid", "N", "", OPTION_NUMBER, AT(cid), CID_DEFAULT, CID_MOST },
	{ "slot", "N", "", OPTION_NUMBER, AT(slot), 1, SLOT_MAX },
	{ .type = OPTION_END },
};
#undef AT

static int prepare(struct vsock *v)
{
	char what[160];
	if (option_words("--vsock", rows, &v->words, v->text))
		return -EINVAL;
	if (!*v->text || strlen(v->text) + PORT_TEXT > sizeof(((struct sockaddr_un *)0)->sun_path)) {
		log_error("--vsock PATH: the path of a socket, of 1 to %zu bytes", sizeof(((struct sockaddr_un *)0)->sun_path) - PORT_TEXT);
		return -EINVAL;
	}
	snprintf(what, sizeof(what), "--vsock %s", v->text);
	v->listener = socket_listen(what, v->text, BACKLOG);
	if (v->listener < 0)
		return v->listener;
	v->made = true;
	v->epoll = epoll_create1(EPOLL_CLOEXEC);
	v->spare = spare_descriptor();
	struct epoll_event event = { .events = EPOLLIN | EPOLLONESHOT, .data.u32 = LISTENER };
	if (fcntl(v->listener, F_SETFL, O_NONBLOCK) || v->epoll < 0 || epoll_ctl(v->epoll, EPOLL_CTL_ADD, v->listener, &event)) {
		log_error("%s: %s", what, strerror(errno));
		return -EIO;
	}
	return 0;
}

int vsock_open(struct vsock **result, const char *spec)
{
	struct vsock *v = calloc(1, sizeof(*v));
	if (!v)
		return -ENOMEM;
	v->words.cid = CID_DEFAULT;
	v->listener = v->epoll = v->spare = -1;
	v->text = strdup(spec);
	pthread_mutex_init(&v->lock, NULL);
	for (unsigned i = 0; i < VSOCK_STREAMS; i++)
		v->stream[i].number = i;
	int error = v->text ? prepare(v) : -ENOMEM;
	if (error)
		vsock_close(v);
	else
		*result = v;
	return error;
}

void vsock_close(struct vsock *v)
{
	if (!v)
		return;
	if (v->made)
		unlink(v->text);
	if (v->listener >= 0)
		close(v->listener);
	if (v->epoll >= 0)
		close(v->epoll);
	if (v->spare >= 0)
		close(v->spare);
	pthread_mutex_destroy(&v->lock);
	free(v->text);
	free(v);
}

uint32_t vsock_cid(const struct vsock *v)
{
	return (uint32_t)v->words.cid;
}

unsigned vsock_slot(const struct vsock *v)
{
	return (unsigned)v->words.slot;
}

int vsock_start(struct vsock *v, struct device *device)
{
	v->device = device;
	v->ready = (struct loop_fd){ .fd = v->epoll, .ready = set_ready, .arg = v };
	int error = loop_add(device->vm, &v->ready, EPOLLIN);
	if (error)
		log_error("--vsock %s: %s", v->text, strerror(-error));
	return error;
}

void vsock_stop(struct vsock *v)
{
	loop_remove(v->device->vm, &v->ready);
	for (unsigned i = 0; i < VSOCK_STREAMS; i++)
		if (v->stream[i].phase != FREE)
			end(v, &v->stream[i]);
}
