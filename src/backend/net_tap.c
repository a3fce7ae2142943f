/* SPDX-License-Identifier: MIT */
/* A network through a tap interface of the host, which the host's bridge or router takes further. Checksums and segments are left to
 * the host, which does them best. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "backend/net.h"
#include "util/log.h"

#define FRAMES_AT_ONCE 64

struct tap {
	struct net net;
	int fd;
	struct loop_fd ready;
};

static struct tap *of(struct net *n)
{
	return container_of(n, struct tap, net);
}

static int refuse(const char *name, int error)
{
	if (error == -EPERM || error == -EACCES)
		log_error("tap interface %s: %s; make one that is yours, as root: ip tuntap add dev %s mode tap user $USER; ip link set %s up", name,
			  strerror(-error), name, name);
	else if (error == -ENOENT)
		log_error("there is no /dev/net/tun on this host (modprobe tun); \"--net user\" needs none");
	else
		log_error("tap interface %s: %s", name, strerror(-error));
	return error;
}

static int tap_prepare(struct net *n)
{
	struct tap *t = of(n);
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int header = sizeof(struct net_offload);
	if (!n->argument || !*n->argument || strlen(n->argument) >= IFNAMSIZ) {
		log_error("--net tap=NAME: an interface has a name of up to %d characters", IFNAMSIZ - 1);
		return -EINVAL;
	}
	t->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (t->fd < 0)
		return refuse(n->argument, -errno);
	strcpy(request.ifr_name, n->argument);
	if (ioctl(t->fd, TUNSETIFF, &request) || ioctl(t->fd, TUNSETVNETHDRSZ, &header))
		return refuse(n->argument, -errno);
	n->offload = NET_TAKES_CSUM | NET_GIVES_CSUM;
	if (!ioctl(t->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		n->offload |= NET_TAKES_SEGMENTS | NET_GIVES_SEGMENTS;
	return 0;
}

static void tap_ready(struct loop_fd *f, uint32_t events)
{
	struct tap *t = f->arg;
	uint8_t buffer[sizeof(struct net_offload) + NET_FRAME_MAX];
	for (unsigned i = 0; i < FRAMES_AT_ONCE && !t->net.full; i++) {
		ssize_t size = read(t->fd, buffer, sizeof(buffer));
		if (size < (ssize_t)sizeof(struct net_offload))
			break;
		net_receive(&t->net, buffer, (size_t)size);
	}
	if (t->net.full)
		loop_change(t->net.device->vm, f, 0);
	if (!t->net.full)
		loop_change(t->net.device->vm, f, EPOLLIN);
}

static void tap_resume(struct net *n)
{
	loop_change(n->device->vm, &of(n)->ready, EPOLLIN);
}

/* What the interface does not take now is lost, as on a busy wire. */
static void tap_send(struct net *n, const struct net_offload *offload, const struct iovec *iov, unsigned count, size_t size)
{
	struct iovec all[count + 1];
	all[0] = (struct iovec){ (void *)offload, sizeof(*offload) };
	memcpy(all + 1, iov, count * sizeof(*iov));
	(void)!writev(of(n)->fd, all, (int)count + 1);
}

static void tap_plain(struct net *n)
{
	(void)ioctl(of(n)->fd, TUNSETOFFLOAD, 0);
}

static int tap_start(struct net *n)
{
	struct tap *t = of(n);
	t->ready = (struct loop_fd){ .fd = t->fd, .ready = tap_ready, .arg = t };
	int error = loop_add(n->device->vm, &t->ready, EPOLLIN);
	return error ? refuse(n->argument, error) : 0;
}

static void tap_stop(struct net *n)
{
	loop_remove(n->device->vm, &of(n)->ready);
}

static int tap_open(struct net **n)
{
	struct tap *t = calloc(1, sizeof(*t));
	if (!t)
		return -ENOMEM;
	t->fd = -1;
	*n = &t->net;
	return 0;
}

static void tap_close(struct net *n)
{
	if (of(n)->fd >= 0)
		close(of(n)->fd);
	free(of(n));
}

static const struct net_kind tap_kind = {
	.name = "tap", .help = "tap=NAME", .open = tap_open, .prepare = tap_prepare, .start = tap_start, .stop = tap_stop, .close = tap_close,
	.send = tap_send, .resume = tap_resume, .plain = tap_plain,
};
NET_KIND(tap_kind);
