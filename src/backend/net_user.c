/* SPDX-License-Identifier: MIT */
/* A user-mode network: libslirp plays a router with NAT, DHCP and DNS, and needs no rights on the host.
 *
 * Guest 10.0.2.15, host 10.0.2.2, name server 10.0.2.3. A thread of its own runs libslirp, which knows no locks: frames of the guest wait in
 * a queue for it. Checksums are filled in here; a TCP segment that is larger than the link is as good as several, since only its bytes
 * go on. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "backend/net.h"
#include "util/log.h"
#include "util/signals.h"

#define NETWORK "10.0.2.0"
#define NETMASK "255.255.255.0"
#define ROUTER "10.0.2.2"
#define GUEST "10.0.2.15"
#define NAME_SERVER "10.0.2.3"
#define PREFIX6 "fec0::"
#define PREFIX6_LENGTH 64
#define ROUTER6 "fec0::2"
#define NAME_SERVER6 "fec0::3"
#define QUEUE_MAX 512
#define POLLS_START 16
#define IDLE_MS 10000
#define NS_IN_MS 1000000

struct frame {
	struct frame *next;
	size_t size;
	uint8_t data[];
};

struct slirp_timer {
	struct slirp_timer *next;
	SlirpTimerCb fire;
	void *arg;
	int64_t due;            /* ms; INT64_MAX: off */
};

struct user {
	struct net net;
	Slirp *slirp;
	int wake;               /* eventfd: frames, room, or the end */
	pthread_t thread;
	bool running;
	struct slirp_timer *timers;
	struct pollfd *polls;   /* the first is `wake` */
	unsigned poll_count, poll_room;
	pthread_mutex_t lock;   /* guards what follows */
	struct frame *first, **last;
	unsigned queued;
	bool quit, woken;
};

static struct user *of(struct net *n)
{
	return container_of(n, struct user, net);
}

/* ---- What libslirp calls ------------------------------------------------------------------------------------------------ */

static ssize_t send_packet(const void *data, size_t size, void *opaque)
{
	struct user *u = opaque;
	uint8_t buffer[sizeof(struct net_offload) + NET_FRAME_MAX];
	struct net_offload offload = { .flags = NET_DATA_VALID };
	if (!u->net.device || size > NET_FRAME_MAX)
		return (ssize_t)size;
	memcpy(buffer, &offload, sizeof(offload));
	memcpy(buffer + sizeof(offload), data, size);
	net_receive(&u->net, buffer, sizeof(offload) + size);
	return (ssize_t)size;
}

static void guest_error(const char *message, void *opaque)
{
	trace(net, "user network: %s", message);
}

static int64_t clock_ns(void *opaque)
{
	struct user *u = opaque;
	return u->net.device ? (int64_t)clock_now(u->net.device->vm) : 0;
}

static void *timer_new(SlirpTimerCb fire, void *arg, void *opaque)
{
	struct user *u = opaque;
	struct slirp_timer *t = malloc(sizeof(*t));
	if (!t)
		return NULL;
	*t = (struct slirp_timer){ .next = u->timers, .fire = fire, .arg = arg, .due = INT64_MAX };
	u->timers = t;
	return t;
}

static void timer_free(void *timer, void *opaque)
{
	struct user *u = opaque;
	for (struct slirp_timer **at = &u->timers; *at; at = &(*at)->next) {
		if (*at != timer)
			continue;
		*at = (*at)->next;
		free(timer);
		return;
	}
}

static void timer_mod(void *timer, int64_t due, void *opaque)
{
	if (timer)
		((struct slirp_timer *)timer)->due = due;
}

static void ignore_fd(int fd, void *opaque)
{
}

static void wake(struct user *u)
{
	uint64_t one = 1;
	(void)!write(u->wake, &one, sizeof(one));
}

static void notify(void *opaque)
{
	wake(opaque);
}

static const SlirpCb callbacks = {
	.send_packet = send_packet, .guest_error = guest_error, .clock_get_ns = clock_ns, .timer_new = timer_new, .timer_free = timer_free,
	.timer_mod = timer_mod, .register_poll_fd = ignore_fd, .unregister_poll_fd = ignore_fd, .notify = notify,
};

/* ---- The thread --------------------------------------------------------------------------------------------------------- */

static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	if (u->poll_count == u->poll_room) {
		struct pollfd *more = realloc(u->polls, 2 * u->poll_room * sizeof(*more));
		if (!more)
			return -1;
		u->polls = more;
		u->poll_room *= 2;
	}
	short wanted = 0;
	wanted |= events & SLIRP_POLL_IN ? POLLIN : 0;
	wanted |= events & SLIRP_POLL_OUT ? POLLOUT : 0;
	wanted |= events & SLIRP_POLL_PRI ? POLLPRI : 0;
	u->polls[u->poll_count] = (struct pollfd){ .fd = fd, .events = wanted };
	return (int)u->poll_count++;
}

static int poll_result(int index, void *opaque)
{
	struct user *u = opaque;
	if (index < 0 || (unsigned)index >= u->poll_count)
		return 0;
	short got = u->polls[index].revents;
	return (got & POLLIN ? SLIRP_POLL_IN : 0) | (got & POLLOUT ? SLIRP_POLL_OUT : 0) | (got & POLLPRI ? SLIRP_POLL_PRI : 0) |
	       (got & POLLERR ? SLIRP_POLL_ERR : 0) | (got & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* Returns in how many ms the next is due. */
static uint32_t run_timers(struct user *u)
{
	int64_t now = clock_ns(u) / NS_IN_MS, wait = IDLE_MS;
	for (struct slirp_timer *t = u->timers, *next; t; t = next) {
		next = t->next;
		if (t->due <= now) {
			t->due = INT64_MAX;
			t->fire(t->arg);
		} else if (t->due - now < wait) {
			wait = t->due - now;
		}
	}
	return (uint32_t)wait;
}

static bool take_frames(struct user *u)
{
	pthread_mutex_lock(&u->lock);
	struct frame *list = u->first;
	bool quit = u->quit;
	u->first = NULL;
	u->last = &u->first;
	u->queued = 0;
	u->woken = false;
	pthread_mutex_unlock(&u->lock);
	while (list) {
		struct frame *f = list;
		list = f->next;
		if (!quit)
			slirp_input(u->slirp, f->data, (int)f->size);
		free(f);
	}
	return !quit;
}

static void *user_thread(void *arg)
{
	struct user *u = arg;
	while (take_frames(u)) {
		uint32_t timeout = run_timers(u);
		bool full = u->net.full;
		uint64_t count;
		u->poll_count = 1;
		u->polls[0] = (struct pollfd){ .fd = u->wake, .events = POLLIN };
		if (!full)
			slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
		int n = poll(u->polls, u->poll_count, (int)timeout);
		if (u->polls[0].revents)
			(void)!read(u->wake, &count, sizeof(count));
		if (!full)
			slirp_pollfds_poll(u->slirp, n < 0, poll_result, u);
	}
	return NULL;
}

static void user_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
	struct user *u = of(n);
	struct frame *f = u->queued < QUEUE_MAX && size <= NET_FRAME_MAX ? malloc(sizeof(*f) + size) : NULL;
	size_t at = 0;
	if (!f)
		return; /* as a busy wire loses it */
	for (unsigned i = 0; i < count; at += iov[i++].iov_len)
		memcpy(f->data + at, iov[i].iov_base, iov[i].iov_len);
	f->next = NULL;
	f->size = size;
	if (!net_checksum(offload, f->data, size)) {
		free(f);
		return;
	}
	pthread_mutex_lock(&u->lock);
	*u->last = f;
	u->last = &f->next;
	u->queued++;
	bool tell = !u->woken;
	u->woken = true;
	pthread_mutex_unlock(&u->lock);
	if (tell)
		wake(u);
}

static void user_resume(struct net *n)
{
	wake(of(n));
}

/* ---- Set-up ------------------------------------------------------------------------------------------------------------- */

struct forward {
	bool udp;
	char host[64];
	unsigned host_port, guest_port;
};

/* "tcp:2222:22" or "tcp:ADDRESS:2222:22". */
static int parse_forward(const char *rule, struct forward *f)
{
	char protocol[4], more;
	*f = (struct forward){ .host = "127.0.0.1" };
	bool good = sscanf(rule, "%3[a-z]:%u:%u%c", protocol, &f->host_port, &f->guest_port, &more) == 3 ||
		    sscanf(rule, "%3[a-z]:%63[0-9.]:%u:%u%c", protocol, f->host, &f->host_port, &f->guest_port, &more) == 4;
	f->udp = good && !strcmp(protocol, "udp");
	if (good && (f->udp || !strcmp(protocol, "tcp")) && f->host_port && f->host_port < 65536 && f->guest_port && f->guest_port < 65536)
		return 0;
	log_error("--net user,forward=%s: a rule is tcp:HOSTPORT:GUESTPORT, as tcp:2222:22; udp likewise, and an address of the host may stand "
		  "before its port", rule);
	return -EINVAL;
}

static int add_forward(struct user *u, const char *rule)
{
	struct forward f;
	struct in_addr host, guest = { inet_addr(GUEST) };
	int error = parse_forward(rule, &f);
	if (error)
		return error;
	if (!inet_aton(f.host, &host)) {
		log_error("--net user,forward=%s: %s is no address", rule, f.host);
		return -EINVAL;
	}
	if (slirp_add_hostfwd(u->slirp, f.udp, host, (int)f.host_port, guest, (int)f.guest_port)) {
		error = -errno;
		log_error("cannot listen on %s port %u: %s; choose another port for forward=%s", f.host, f.host_port, strerror(errno), rule);
		return error ? error : -EADDRINUSE;
	}
	log_info("port %u of the guest is %s:%u on the host (%s)", f.guest_port, f.host, f.host_port, f.udp ? "UDP" : "TCP");
	return 0;
}

static int user_prepare(struct net *n)
{
	struct user *u = of(n);
	SlirpConfig config = {
		.version = 1, .in_enabled = true, .vnetwork.s_addr = inet_addr(NETWORK), .vnetmask.s_addr = inet_addr(NETMASK),
		.vhost.s_addr = inet_addr(ROUTER), .vdhcp_start.s_addr = inet_addr(GUEST), .vnameserver.s_addr = inet_addr(NAME_SERVER),
		.in6_enabled = true, .vprefix_len = PREFIX6_LENGTH, .vhostname = n->machine,
	};
	inet_pton(AF_INET6, PREFIX6, &config.vprefix_addr6);
	inet_pton(AF_INET6, ROUTER6, &config.vhost6);
	inet_pton(AF_INET6, NAME_SERVER6, &config.vnameserver6);
	if (n->argument) {
		log_error("--net user=%s: a user network takes no name", n->argument);
		return -EINVAL;
	}
	u->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	u->polls = malloc(POLLS_START * sizeof(u->polls[0]));
	u->poll_room = POLLS_START;
	u->slirp = slirp_new(&config, &callbacks, u);
	if (u->wake < 0 || !u->polls || !u->slirp) {
		log_error("cannot set up a user network: %s", strerror(errno));
		return -ENOMEM;
	}
	int error = 0;
	for (unsigned i = 0; i < n->words.forward.count && !error; i++)
		error = add_forward(u, n->words.forward.item[i]);
	return error;
}

static int user_start(struct net *n)
{
	struct user *u = of(n);
	sigset_t all, old;
	signals_of_others(&all); /* signals are for the main thread */
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int error = pthread_create(&u->thread, NULL, user_thread, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error) {
		log_error("no thread for the user network: %s", strerror(error));
		return -error;
	}
	pthread_setname_np(u->thread, "doppel-net");
	u->running = true;
	return 0;
}

static void user_stop(struct net *n)
{
	struct user *u = of(n);
	pthread_mutex_lock(&u->lock);
	u->quit = true;
	pthread_mutex_unlock(&u->lock);
	wake(u);
	if (u->running)
		pthread_join(u->thread, NULL);
	u->running = false;
}

static int user_open(struct net **n)
{
	struct user *u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->wake = -1;
	u->last = &u->first;
	u->net.offload = NET_TAKES_CSUM | NET_TAKES_SEGMENTS | NET_GIVES_CSUM;
	pthread_mutex_init(&u->lock, NULL);
	*n = &u->net;
	return 0;
}

static void user_close(struct net *n)
{
	struct user *u = of(n);
	if (u->slirp)
		slirp_cleanup(u->slirp);
	while (u->timers)
		timer_free(u->timers, u);
	for (struct frame *f = u->first, *next; f; f = next) {
		next = f->next;
		free(f);
	}
	if (u->wake >= 0)
		close(u->wake);
	free(u->polls);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static const struct net_kind user_kind = {
	.name = "user", .help = "user", .open = user_open, .prepare = user_prepare, .start = user_start, .stop = user_stop,
	.close = user_close, .send = user_send, .resume = user_resume,
};
NET_KIND(user_kind);
