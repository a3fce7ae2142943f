/* SPDX-License-Identifier: MIT */
/* For a guest of tests/boot/vsock.sh: speaks AF_VSOCK.
 *
 *   vsock connect PORT       to the host: standard input goes there, what comes goes to standard output
 *   vsock listen PORT N      the same with who connects, N times
 *   vsock many PORT N BYTES  N connections to the host's port at once, which sends back what it gets: BYTES each way, compared
 *   vsock cid                prints the number that this machine has */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

#define MANY_MAX 512

static int fail(const char *what)
{
	fprintf(stderr, "vsock: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int dial(unsigned port)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (fd < 0)
		fail("socket");
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
		fail("connect");
	return fd;
}

static void put(int fd, const char *data, ssize_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, (size_t)size);
		if (n <= 0)
			fail("write");
		data += n;
		size -= n;
	}
}

/* Both directions, until both have ended. */
static void relay(int fd, int in)
{
	static char data[65536];
	struct pollfd p[2] = { { fd, POLLIN, 0 }, { in, POLLIN, 0 } };
	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0)
			fail("poll");
		for (int i = 0; i < 2; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			ssize_t n = read(p[i].fd, data, sizeof(data));
			if (n < 0)
				fail("read");
			put(i ? fd : 1, data, n);
			if (!n && i)
				shutdown(fd, SHUT_WR);
			if (!n)
				p[i].fd = -1;
		}
	}
	close(fd);
}

static void serve(unsigned port, int times)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 8))
		fail("listen");
	puts("listening");
	fflush(stdout);
	while (times--) {
		struct sockaddr_vm from;
		socklen_t size = sizeof(from);
		int fd = accept(listener, (struct sockaddr *)&from, &size);
		if (fd < 0)
			fail("accept");
		fprintf(stderr, "from %u\n", from.svm_cid);
		relay(fd, fcntl(0, F_DUPFD, 3));
	}
}

static uint8_t pattern(unsigned i, size_t at)
{
	return (uint8_t)(i * 31 + at * 7 + (at >> 8));
}

/* All send a piece, then all read as much as came. */
static void many(unsigned port, unsigned count, size_t bytes)
{
	static struct { int fd; size_t out, in; } c[MANY_MAX];
	static struct pollfd p[MANY_MAX];
	uint8_t data[8192];
	unsigned left = count;
	for (unsigned i = 0; i < count; i++) {
		c[i].fd = dial(port);
		fcntl(c[i].fd, F_SETFL, O_NONBLOCK);
	}
	while (left) {
		for (unsigned i = 0; i < count; i++)
			p[i] = (struct pollfd){ c[i].in < bytes ? c[i].fd : -1, (short)(POLLIN | (c[i].out < bytes ? POLLOUT : 0)), 0 };
		poll(p, count, -1);
		for (unsigned i = 0; i < count; i++) {
			size_t want = bytes - c[i].out < sizeof(data) ? bytes - c[i].out : sizeof(data);
			for (size_t k = 0; k < want; k++)
				data[k] = pattern(i, c[i].out + k);
			ssize_t n = p[i].revents & POLLOUT ? write(c[i].fd, data, want) : 0;
			if (n < 0 && errno != EAGAIN)
				fail("write");
			c[i].out += n > 0 ? (size_t)n : 0;
			n = p[i].revents & (POLLIN | POLLHUP) ? read(c[i].fd, data, sizeof(data)) : 0;
			if ((n < 0 && errno != EAGAIN) || (!n && (p[i].revents & POLLIN)))
				fail("read");
			for (ssize_t k = 0; k < n; k++)
				if (data[k] != pattern(i, c[i].in++)) {
					printf("connection %u differs at byte %zu\n", i, c[i].in - 1);
					exit(1);
				}
			left -= n > 0 && c[i].in == bytes;
		}
	}
	printf("%u connections, %zu bytes each way\n", count, bytes);
}

int main(int argc, char **argv)
{
	unsigned cid = 0;
	if (argc == 3 && !strcmp(argv[1], "connect"))
		relay(dial((unsigned)atoi(argv[2])), 0);
	else if (argc == 4 && !strcmp(argv[1], "listen"))
		serve((unsigned)atoi(argv[2]), atoi(argv[3]));
	else if (argc == 5 && !strcmp(argv[1], "many") && (unsigned)atoi(argv[3]) <= MANY_MAX)
		many((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]), (size_t)atol(argv[4]));
	else if (argc == 2 && !strcmp(argv[1], "cid") && !ioctl(open("/dev/vsock", O_RDONLY), IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid))
		printf("cid %u\n", cid);
	else
		return 2;
	return 0;
}
