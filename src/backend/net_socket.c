/* SPDX-License-Identifier: MIT */
/* A cable from machine to machine: a Unix stream socket, on which each frame has its length in front (32 bits, big-endian). QEMU
 * ("-netdev stream") and passt speak the same. Who comes first listens, who comes second connects; when one end goes, the other waits for
 * the next. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "backend/net.h"
#include "util/log.h"

#define PREFIX sizeof(uint32_t)
#define FRAMES_AT_ONCE 64

struct cable {
	struct net net;
	int listener;              /* -1: we connected */
	bool made;                 /* the socket's file is ours */
	struct loop_fd accept, ready;
	uint8_t in[2 * (PREFIX + NET_FRAME_MAX)];
	size_t in_size;            /* loop thread's, like `in` */
	pthread_mutex_t lock;      /* guards what follows */
	int fd;                    /* the connection; -1: nobody is there */
	uint8_t out[PREFIX + NET_FRAME_MAX]; /* the rest of a frame that the socket did not take */
	size_t out_at, out_size;
};

static struct cable *of(struct net *n)
{
	return container_of(n, struct cable, net);
}

static uint32_t wanted(struct cable *c)
{
	return (c->net.full ? 0u : (uint32_t)EPOLLIN) | (c->out_at < c->out_size ? (uint32_t)EPOLLOUT : 0u);
}

static void hang_up(struct cable *c)
{
	loop_remove(c->net.device->vm, &c->ready);
	pthread_mutex_lock(&c->lock);
	close(c->fd);
	c->fd = -1;
	c->out_at = c->out_size = 0;
	pthread_mutex_unlock(&c->lock);
	c->in_size = 0;
}

/* With the lock held. */
static void write_rest(struct cable *c)
{
	while (c->out_at < c->out_size) {
		ssize_t n = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n <= 0)
			return; /* a broken connection is found by reading */
		c->out_at += (size_t)n;
	}
}

/* Hands over what is complete; false: this is no cable. */
static bool deliver(struct cable *c)
{
	size_t at = 0;
	while (c->in_size - at >= PREFIX) {
		uint8_t buffer[sizeof(struct net_offload) + NET_FRAME_MAX];
		uint32_t size;
		memcpy(&size, c->in + at, sizeof(size));
		size = ntohl(size);
		if (size > NET_FRAME_MAX)
			return false;
		if (c->in_size - at - PREFIX < size)
			break;
		memset(buffer, 0, sizeof(struct net_offload));
		memcpy(buffer + sizeof(struct net_offload), c->in + at + PREFIX, size);
		net_receive(&c->net, buffer, sizeof(struct net_offload) + size);
		at += PREFIX + size;
	}
	memmove(c->in, c->in + at, c->in_size - at);
	c->in_size -= at;
	return true;
}

static void cable_ready(struct loop_fd *f, uint32_t events)
{
	struct cable *c = f->arg;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = recv(c->fd, c->in + c->in_size, sizeof(c->in) - c->in_size, MSG_DONTWAIT);
		if (n > 0)
			c->in_size += (size_t)n;
		if (!n || (n < 0 && errno != EAGAIN && errno != EINTR) || !deliver(c)) {
			hang_up(c);
			return;
		}
	}
	pthread_mutex_lock(&c->lock);
	write_rest(c);
	loop_change(c->net.device->vm, f, wanted(c));
	if (!c->net.full)
		loop_change(c->net.device->vm, f, wanted(c));
	pthread_mutex_unlock(&c->lock);
}

static int connected(struct cable *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->fd = fd;
	pthread_mutex_unlock(&c->lock);
	c->ready = (struct loop_fd){ .fd = fd, .ready = cable_ready, .arg = c };
	return loop_add(c->net.device->vm, &c->ready, EPOLLIN);
}

static void cable_accept(struct loop_fd *f, uint32_t events)
{
	struct cable *c = f->arg;
	int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (c->fd >= 0 || connected(c, fd)) /* a cable has two ends */
		close(fd);
}

static int listen_at(struct cable *c, const struct sockaddr_un *address)
{
	unlink(address->sun_path); /* nobody answers there any more */
	if (bind(c->fd, (const struct sockaddr *)address, sizeof(*address)))
		return -errno;
	c->made = true;
	if (listen(c->fd, 1))
		return -errno;
	c->listener = c->fd;
	c->fd = -1;
	return 0;
}

static bool is_socket(const char *path)
{
	struct stat status;
	return stat(path, &status) || S_ISSOCK(status.st_mode);
}

static int cable_prepare(struct net *n)
{
	struct cable *c = of(n);
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	if (!n->argument || !*n->argument || strlen(n->argument) >= sizeof(address.sun_path)) {
		log_error("--net socket=PATH: a path of up to %zu characters", sizeof(address.sun_path) - 1);
		return -EINVAL;
	}
	strcpy(address.sun_path, n->argument);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = c->fd < 0 ? -errno : 0;
	if (!error && connect(c->fd, (struct sockaddr *)&address, sizeof(address)))
		error = errno == ENOENT || (errno == ECONNREFUSED && is_socket(n->argument)) ? listen_at(c, &address) : -errno;
	else if (!error && !n->words.mac)
		n->mac[NET_MAC - 1] ^= 1; /* both ends may have one name */
	if (error == -ECONNREFUSED)
		log_error("--net socket=%s: there is a file of that name, which is no socket: take it away, or give another name", n->argument);
	else if (error)
		log_error("--net socket=%s: %s", n->argument, strerror(-error));
	return error;
}

static int cable_start(struct net *n)
{
	struct cable *c = of(n);
	if (c->listener < 0)
		return connected(c, c->fd);
	c->accept = (struct loop_fd){ .fd = c->listener, .ready = cable_accept, .arg = c };
	return loop_add(n->device->vm, &c->accept, EPOLLIN);
}

static void cable_stop(struct net *n)
{
	struct cable *c = of(n);
	if (c->listener >= 0)
		loop_remove(n->device->vm, &c->accept);
	if (c->fd >= 0)
		hang_up(c);
}

static void cable_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
	struct cable *c = of(n);
	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0 && c->out_at == c->out_size && size <= NET_FRAME_MAX) {
		uint32_t prefix = htonl((uint32_t)size);
		memcpy(c->out, &prefix, PREFIX);
		c->out_at = 0;
		c->out_size = PREFIX;
		for (unsigned i = 0; i < count; c->out_size += iov[i++].iov_len)
			memcpy(c->out + c->out_size, iov[i].iov_base, iov[i].iov_len);
		write_rest(c);
		if (!c->out_at)
			c->out_size = 0; /* nothing of it went: it is lost, as on a busy wire */
		else if (c->out_at < c->out_size)
			loop_change(n->device->vm, &c->ready, wanted(c));
	}
	pthread_mutex_unlock(&c->lock);
}

static void cable_resume(struct net *n)
{
	struct cable *c = of(n);
	pthread_mutex_lock(&c->lock);
	if (c->fd >= 0)
		loop_change(n->device->vm, &c->ready, wanted(c));
	pthread_mutex_unlock(&c->lock);
}

static int cable_open(struct net **n)
{
	struct cable *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->fd = c->listener = -1;
	pthread_mutex_init(&c->lock, NULL);
	*n = &c->net;
	return 0;
}

static void cable_close(struct net *n)
{
	struct cable *c = of(n);
	if (c->made)
		unlink(n->argument);
	if (c->fd >= 0)
		close(c->fd);
	if (c->listener >= 0)
		close(c->listener);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct net_kind socket_kind = {
	.name = "socket", .help = "socket=PATH", .open = cable_open, .prepare = cable_prepare, .start = cable_start, .stop = cable_stop,
	.close = cable_close, .send = cable_send, .resume = cable_resume,
};
NET_KIND(socket_kind);
