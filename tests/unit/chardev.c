/* SPDX-License-Identifier: MIT */
/* Character backends: nothing is lost or blocks, input waits for room, a pseudo-terminal survives its other side. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>
#include "backend/chardev.h"
#include "backend/chardev_fd.h"
#include "test.h"

/* A device that only listens. */
struct listener {
	struct device device;
	struct chardev *chardev;
	uint8_t got[4096];
	_Atomic size_t count;
	_Atomic unsigned writable;
};

static void heard(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct listener *l = (struct listener *)d;
	if (kind == CHARDEV_WRITABLE)
		l->writable++;
	if (kind == CHARDEV_INPUT && l->count + len <= sizeof(l->got)) {
		memcpy(l->got + l->count, data, len);
		l->count += len;
	}
}

static const struct device_class listener_class = { .name = "listener", .size = sizeof(struct listener), .event = heard };
static struct vm vm = { .clock.mode = CLOCK_STEPPED };

static void listen_to(struct listener *l, struct chardev *chardev)
{
	memset(l, 0, sizeof(*l));
	l->device = (struct device){ .class = &listener_class, .name = "listener", .vm = &vm };
	pthread_mutex_init(&l->device.lock, NULL);
	l->chardev = chardev;
	chardev->sink = &l->device;
}

static void pause_ms(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000L }, NULL);
}

/* Waits up to two seconds. */
#define EVENTUALLY(condition)                                                                                          \
	({                                                                                                             \
		unsigned tries_ = 0;                                                                                   \
		while (!(condition) && tries_++ < 400)                                                                 \
			pause_ms(5);                                                                                   \
		(condition);                                                                                           \
	})

static size_t write_all(struct chardev *c, const uint8_t *data, size_t size)
{
	size_t done = 0;
	for (unsigned idle = 0; done < size && idle < 2000; idle++) {
		size_t taken = c->ops->write(c, data + done, size - done);
		done += taken;
		if (taken)
			idle = 0;
		else
			pause_ms(1);
	}
	return done;
}

static void to_file(void)
{
	enum { SIZE = 1 << 20 };
	char path[] = "/tmp/doppel-chardev-XXXXXX", spec[64];
	uint8_t *data = malloc(SIZE), *back = malloc(SIZE);
	struct listener l;
	struct chardev *c = NULL;
	int fd = mkstemp(path);
	snprintf(spec, sizeof(spec), "file:%s", path);
	for (unsigned i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 31 + (i >> 8));
	if (ok(fd >= 0 && !chardev_open(&c, spec), "a file opens")) {
		listen_to(&l, c);
		ok(write_all(c, data, SIZE) == SIZE, "a MiB is taken");
		chardev_close(c);
		ok(read(fd, back, SIZE) == SIZE && !memcmp(data, back, SIZE), "and is in the file after the close");
	}
	close(fd);
	unlink(path);
	free(data);
	free(back);
}

static void slow_reader(void)
{
	enum { SIZE = 300000 };
	static uint8_t data[SIZE], back[SIZE];
	int pipe_fd[2];
	struct listener l;
	struct chardev *c = NULL;
	for (unsigned i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i ^ i >> 7);
	if (!ok(!pipe(pipe_fd) && !chardev_fd_create(&c, -1, pipe_fd[1], CHARDEV_FD_CLOSE, "pipe"), "a pipe opens"))
		return;
	listen_to(&l, c);
	/* Nobody reads: it fills up, without blocking. */
	size_t done = 0, taken;
	for (unsigned idle = 0; idle < 20; idle++) {
		taken = c->ops->write(c, data + done, SIZE - done);
		done += taken;
		if (taken)
			idle = 0;
		pause_ms(1);
	}
	ok(done >= 65536 && done < SIZE, "it takes what fits, and no more (%zu)", done);
	l.writable = 0;
	pause_ms(20);
	ok(!c->ops->write(c, data, 1) && !l.writable, "and says nothing while it is full");
	size_t got = (size_t)read(pipe_fd[0], back, 65536);
	got += (size_t)read(pipe_fd[0], back + got, 65536);
	ok(EVENTUALLY(l.writable != 0), "when there is room again, the device hears of it");
	struct pollfd p = { .fd = pipe_fd[0], .events = POLLIN };
	while (got < SIZE) {
		done += c->ops->write(c, data + done, SIZE - done);
		if (poll(&p, 1, 100) <= 0 && done == SIZE)
			break;
		if (p.revents & POLLIN)
			got += (size_t)read(pipe_fd[0], back + got, SIZE - got);
	}
	ok(got == SIZE && !memcmp(data, back, SIZE), "every byte arrives, in order");
	chardev_close(c);
	close(pipe_fd[0]);
}

static void *read_late(void *arg)
{
	static uint8_t back[300000];
	size_t got = 0;
	ssize_t n;
	pause_ms(50);
	while ((n = read(*(int *)arg, back + got, sizeof(back) - got)) > 0)
		got += (size_t)n;
	return (void *)got;
}

/* Where the clock counts instructions, the machine waits for the host: what it does must not depend on how fast that reads. */
static void counted(void)
{
	enum { SIZE = 300000 };
	static uint8_t data[SIZE];
	int pipe_fd[2];
	struct listener l;
	struct chardev *c = NULL;
	pthread_t thread;
	void *got = NULL;
	vm.clock.mode = CLOCK_INSTRUCTIONS;
	if (pipe(pipe_fd) || chardev_fd_create(&c, -1, pipe_fd[1], CHARDEV_FD_CLOSE, "pipe") || pthread_create(&thread, NULL, read_late, &pipe_fd[0]))
		return;
	listen_to(&l, c);
	ok(c->ops->write(c, data, SIZE) == SIZE && !l.writable, "where instructions are counted, all is taken at once");
	chardev_close(c);
	pthread_join(thread, &got);
	ok((size_t)got == SIZE, "and arrives");
	close(pipe_fd[0]);
	vm.clock.mode = CLOCK_STEPPED;
}

static void gone_reader(void)
{
	int pipe_fd[2];
	struct listener l;
	struct chardev *c = NULL;
	uint8_t data[1000] = { 0 };
	signal(SIGPIPE, SIG_IGN);
	if (pipe(pipe_fd) || chardev_fd_create(&c, -1, pipe_fd[1], CHARDEV_FD_CLOSE, "pipe"))
		return;
	listen_to(&l, c);
	close(pipe_fd[0]);
	size_t done = 0;
	for (unsigned i = 0; i < 1000; i++)
		done += write_all(c, data, sizeof(data));
	ok(done == 1000 * sizeof(data), "a reader that went away holds nothing up");
	chardev_close(c);
}

static void input(void)
{
	int pipe_fd[2];
	struct listener l;
	struct chardev *c = NULL;
	if (!ok(!pipe(pipe_fd) && !chardev_fd_create(&c, pipe_fd[0], -1, CHARDEV_FD_CLOSE, "pipe"), "a pipe opens for input"))
		return;
	listen_to(&l, c);
	ok(!c->ops->start(c, &vm), "it starts");
	ok(write(pipe_fd[1], "0123456789", 10) == 10, "ten bytes come");
	pause_ms(30);
	ok(!l.count, "without room none is delivered");
	c->ops->accept(c, 4);
	ok(EVENTUALLY(l.count == 4), "room for four: four");
	pause_ms(30);
	ok(l.count == 4, "and not more");
	c->ops->accept(c, 100);
	ok(EVENTUALLY(l.count == 10) && !memcmp(l.got, "0123456789", 10), "then the others");
	close(pipe_fd[1]);
	pause_ms(30);
	ok(l.count == 10, "the end of the input is no event");
	chardev_close(c);
}

/* Attaches to the pty, expects `text` and answers with one byte. The x are what was on its way before we came. */
static bool talk(struct chardev *c, struct listener *l, const char *name, const char *text)
{
	char back[64] = "";
	size_t length = strlen(text), got = 0, before = l->count;
	int fd = open(name, O_RDWR | O_NOCTTY);
	if (fd < 0)
		return false;
	pause_ms(150); /* the writer looks ten times a second whether somebody came */
	write_all(c, (const uint8_t *)text, length);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	while (got < length && poll(&p, 1, 2000) > 0) {
		if (read(fd, back + got, 1) != 1)
			break;
		got += back[got] != 'x';
	}
	back[got] = 0;
	bool good = write(fd, "!", 1) == 1 && EVENTUALLY(l->count == before + 1);
	close(fd);
	return good && !strcmp(back, text);
}

static void pty(void)
{
	struct listener l;
	struct chardev *c = NULL;
	uint8_t data[1000];
	char name[64] = "";
	memset(data, 'x', sizeof(data));
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0) {
		skip("pseudo-terminals: this host has none");
		return;
	}
	close(master);

	fflush(stderr);
	int file = memfd_create("stderr", 0), before = dup(STDERR_FILENO);
	dup2(file, STDERR_FILENO);
	int error = chardev_open(&c, "pty");
	fflush(stderr);
	dup2(before, STDERR_FILENO);
	char said[256] = "";
	if (pread(file, said, sizeof(said) - 1, 0) > 0 && strstr(said, "/dev/"))
		sscanf(strstr(said, "/dev/"), "%63[^\r\n]", name);
	close(file);
	close(before);
	if (!ok(!error && name[0], "a pty opens and says its name"))
		return;
	listen_to(&l, c);
	ok(!c->ops->start(c, &vm), "it starts");
	c->ops->accept(c, 100);
	size_t done = 0;
	for (unsigned i = 0; i < 200; i++)
		done += write_all(c, data, sizeof(data));
	ok(done == 200 * sizeof(data), "while nobody is there, output falls off the open end");
	ok(talk(c, &l, name, "hello\n"), "somebody attaches: bytes go both ways, raw");
	done = write_all(c, data, sizeof(data));
	ok(done == sizeof(data), "he leaves: output goes on");
	pause_ms(50);
	ok(talk(c, &l, name, "again\n"), "another one comes, and finds it working");
	chardev_close(c);
}

static void specs(void)
{
	struct chardev *c = (struct chardev *)1;
	ok(!chardev_open(&c, "none") && !c, "none is nothing");
	ok(freopen("/dev/null", "w", stderr) != NULL, "errors are expected from here on");
	ok(chardev_open(&c, "stdoi") < 0 && !c, "an unknown backend");
	ok(chardev_open(&c, "file:") < 0, "a file without a name");
	ok(chardev_open(&c, "file:/nonexistent/folder/x") < 0, "a file that cannot be");
}

int main(void)
{
	to_file();
	slow_reader();
	counted();
	gone_reader();
	input();
	pty();
	specs();
	return done();
}
