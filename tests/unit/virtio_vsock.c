/* SPDX-License-Identifier: MIT */
/* Virtio sockets: connections both ways through the Unix sockets of the host, room on either side, answers that wait for buffers, ends, packets
 * that break the rules, state. */
#include <errno.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "backend/vsock.h"
#include "device/virtio_vsock.h"
#include "virtio_driver.h"

enum { RECEIVE, SEND, EVENT, QUEUES };
#define CID 42u
#define PORT 1000u               /* of the host, where the test listens */
#define BUFFER 0x1000u           /* of the guest's */
#define DATA (BUFFERS + 0x100000)
#define PATIENCE 5000            /* ms */

static char folder[] = "/tmp/doppel-vsock.XXXXXX", path[64];
static struct vsock *vsock;
static struct virtio_vsock_config config;
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &virtio_vsock_class, .name = "vsock", .base = DRIVER_AT, .irq = -1, .config = &config },
};
static int listener = -1;
static struct vsock_packet last;   /* what came last */
static uint8_t last_data[BUFFER];

static void sleep_ms(unsigned ms)
{
	usleep(1000 * ms);
}

static int unix_socket(const char *at, bool listens)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = 5 };
	strcpy(a.sun_path, at);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (listens ? bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 64) : connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return -1;
	return fd;
}

static void shut_down(void)
{
	if (vm)
		vm_destroy(vm);
	vsock_close(vsock);
	vm = NULL;
	vsock = NULL;
}

static void give_buffers(unsigned first, unsigned count, uint32_t size)
{
	for (unsigned i = first; i < first + count; i++) {
		put_desc(RECEIVE, i, BUFFERS + i * BUFFER, size, D_WRITE, 0);
		offer(RECEIVE, (uint16_t)i);
	}
	kick(RECEIVE);
}

static void fresh(unsigned buffers)
{
	char spec[80];
	shut_down();
	snprintf(spec, sizeof(spec), "%s,cid=%u", path, CID);
	if (vsock_open(&vsock, spec))
		exit(1);
	config.vsock = vsock;
	driver_find(machine(1, places, ARRAY_SIZE(places)));
	loop_start(vm);
	driver_start(0, QUEUES);
	if (buffers)
		give_buffers(0, buffers, BUFFER);
}

static void put_packet(const struct vsock_packet *p, const void *data, uint32_t size)
{
	guest_write(vm, DATA, p, sizeof(*p));
	guest_write(vm, DATA + sizeof(*p), data, size);
	put_desc(SEND, 0, DATA, sizeof(*p), size ? D_NEXT : 0, 1);
	put_desc(SEND, 1, DATA + sizeof(*p), size, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	take_used(SEND, NULL);
}

static struct vsock_packet packet(uint16_t op, uint32_t guest_port, uint32_t host_port, uint32_t size)
{
	return (struct vsock_packet){ .src_cid = CID, .dst_cid = VSOCK_HOST, .src_port = guest_port, .dst_port = host_port, .len = size, .type = 1,
		.op = op, .buf_alloc = 1 << 20 };
}

static void say(uint16_t op, uint32_t guest_port, uint32_t host_port, const void *data, uint32_t size)
{
	struct vsock_packet p = packet(op, guest_port, host_port, size);
	put_packet(&p, data, size);
}

/* The next packet from the device, whose buffer it gets back at once: its op, 0 when none comes in this time. */
static unsigned next_in(unsigned ms)
{
	uint32_t length;
	int head;
	for (unsigned i = 0; (head = take_used(RECEIVE, &length)) < 0 && i < ms; i++)
		sleep_ms(1);
	if (head < 0)
		return 0;
	guest_read(vm, BUFFERS + (unsigned)head * BUFFER, &last, sizeof(last));
	guest_read(vm, BUFFERS + (unsigned)head * BUFFER + sizeof(last), last_data, MIN((uint32_t)sizeof(last_data), last.len));
	if (length != sizeof(last) + last.len)
		return UINT32_MAX;
	give_buffers((unsigned)head, 1, BUFFER);
	return last.op;
}

static unsigned next(void)
{
	return next_in(PATIENCE);
}

/* A connection from the guest; the host's end. */
static int connection(uint32_t guest_port)
{
	struct timeval limit = { .tv_sec = 5 };
	say(VSOCK_OP_REQUEST, guest_port, PORT, NULL, 0);
	int fd = next() == VSOCK_OP_RESPONSE ? accept(listener, NULL, NULL) : -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}

static void from_guest(void)
{
	char text[16] = "";
	fresh(8);
	ok(pci_read(vm, DRIVER_AT, 0, 4) == 0x10531af4 && pci_read(vm, DRIVER_AT, PCI_REVISION, 1) == 1 && !pci_read(vm, DRIVER_AT, PCI_BAR, 4),
	   "vsock: IDs; it has no legacy interface");
	ok(bus_read(vm, BUS_MEMORY, drv.device, 4) == CID && reg(NUM_QUEUES, 2) == 3 && (offered() & 0xff) == 1, "vsock: configuration");
	say(VSOCK_OP_REQUEST, 5, 7, NULL, 0);
	ok(next() == VSOCK_OP_RST && last.src_port == 7 && last.dst_port == 5 && last.src_cid == VSOCK_HOST && last.dst_cid == CID,
	   "vsock: nobody listens");
	int fd = connection(5);
	ok(fd >= 0 && last.src_port == PORT && last.dst_port == 5 && last.buf_alloc == VSOCK_OUT_ROOM && last.type == 1, "vsock: a connection");
	say(VSOCK_OP_RW, 5, PORT, "hello", 5);
	ok(read(fd, text, sizeof(text)) == 5 && !strcmp(text, "hello"), "vsock: what the guest says");
	ok(write(fd, "world!", 6) == 6 && next() == VSOCK_OP_RW && last.len == 6 && !memcmp(last_data, "world!", 6) && last.fwd_cnt == 5,
	   "vsock: and what the host says; the room is told");
	say(VSOCK_OP_CREDIT_REQUEST, 5, PORT, NULL, 0);
	ok(next() == VSOCK_OP_CREDIT_UPDATE && last.fwd_cnt == 5 && last.buf_alloc == VSOCK_OUT_ROOM, "vsock: and told again");
	struct vsock_packet p = packet(VSOCK_OP_SHUTDOWN, 5, PORT, 0);
	p.flags = VSOCK_SHUT_SEND;
	put_packet(&p, NULL, 0);
	ok(read(fd, text, sizeof(text)) == 0, "vsock: the guest ends its direction");
	ok(write(fd, "more", 4) == 4 && next() == VSOCK_OP_RW, "vsock: the other one goes on");
	shutdown(fd, SHUT_WR);
	ok(next() == VSOCK_OP_SHUTDOWN && (last.flags & VSOCK_SHUT_SEND), "vsock: until that ends, too");
	close(fd);
	if (last.flags != VSOCK_SHUT_BOTH)
		ok(next() == VSOCK_OP_SHUTDOWN && last.flags == VSOCK_SHUT_BOTH, "vsock: nothing goes any more");
	say(VSOCK_OP_RST, 5, PORT, NULL, 0);
	say(VSOCK_OP_RW, 5, PORT, "x", 1);
	ok(next() == VSOCK_OP_RST && next_in(20) == 0, "vsock: then it is gone");
	fd = connection(5);
	p.flags = VSOCK_SHUT_BOTH;
	put_packet(&p, NULL, 0);
	ok(next() == VSOCK_OP_RST && read(fd, text, sizeof(text)) == 0, "vsock: the guest closes a connection");
	close(fd);
}

/* The host says something and is gone before the guest hears that there is somebody. */
static void short_word(void)
{
	fresh(8);
	loop_pause(vm);
	say(VSOCK_OP_REQUEST, 5, PORT, NULL, 0);
	int fd = accept(listener, NULL, NULL);
	dprintf(fd, "hello");
	close(fd);
	loop_resume(vm);
	ok(next() == VSOCK_OP_RESPONSE && next() == VSOCK_OP_RW && last.len == 5, "vsock: what a host says that does not wait");
	ok(next() == VSOCK_OP_SHUTDOWN && (last.flags == VSOCK_SHUT_BOTH || next() == VSOCK_OP_SHUTDOWN), "vsock: and its end");
}

/* The connection is closed: at once, not by our patience's end; what was not read from it makes that a reset. */
static bool is_closed(int fd)
{
	char byte;
	ssize_t n = read(fd, &byte, 1);
	return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void from_host(void)
{
	char text[32] = "";
	fresh(8);
	int fd = unix_socket(path, false);
	ok(write(fd, "CONN", 4) == 4 && next_in(20) == 0 && write(fd, "ECT 77\n", 7) == 7, "vsock: a request in two parts");
	ok(next() == VSOCK_OP_REQUEST && last.dst_port == 77 && last.src_cid == VSOCK_HOST && last.buf_alloc == VSOCK_OUT_ROOM,
	   "vsock: a request of the host's");
	say(VSOCK_OP_RESPONSE, 77, last.src_port, NULL, 0);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	unsigned port = 0;
	ok(n > 0 && sscanf(text, "OK %u", &port) == 1 && port == last.src_port && text[n - 1] == '\n', "vsock: is answered");
	ok(write(fd, "question", 8) == 8 && next() == VSOCK_OP_RW && last.len == 8, "vsock: data");
	say(VSOCK_OP_RW, 77, port, "answer", 6);
	ok(read(fd, text, sizeof(text)) == 6, "vsock: both ways");
	int other = unix_socket(path, false);
	ok(write(other, "CONNECT 77\n", 11) == 11 && next() == VSOCK_OP_REQUEST && last.src_port != port, "vsock: another one has another port");
	say(VSOCK_OP_RST, 77, last.src_port, NULL, 0);
	ok(read(other, text, sizeof(text)) == 0, "vsock: the guest refuses it");
	close(other);
	close(fd);
	static const char *const wrong[] = { "CONNECT", "CONNECT 1 2", "connect 1", "CONNECT 111111111111111111111111111111111", "", "CONNECT ",
		"CONNECT 4294967373", "CONNECT -4294967219", "CONNECT  77", "CONNECT 77 ", "CONNECT 77\r" };
	for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
		fd = unix_socket(path, false);
		ok(dprintf(fd, "%s\n", wrong[i]) > 0 && is_closed(fd), "vsock: no request: %s", wrong[i]);
		close(fd);
	}
	fd = unix_socket(path, false);
	ok(write(fd, "CONNECT 77\0\n", 12) == 12 && is_closed(fd), "vsock: no request: a byte 0");
	close(fd);
	set_reg(STATUS, 1, 0);
	fd = unix_socket(path, false);
	ok(write(fd, "CONNECT 77\n", 11) == 11 && read(fd, text, sizeof(text)) == 0, "vsock: without a driver nobody is there");
	close(fd);
}

/* The guest has room for 100 bytes. */
static void room_of_the_guest(void)
{
	uint8_t data[300];
	fresh(8);
	int fd = connection(5);
	struct vsock_packet p = packet(VSOCK_OP_CREDIT_UPDATE, 5, PORT, 0);
	p.buf_alloc = 100;
	put_packet(&p, NULL, 0);
	memset(data, 7, sizeof(data));
	/* What it was told of before may be read, but not sent. */
	ok(write(fd, data, sizeof(data)) == sizeof(data) && next() == VSOCK_OP_RW && last.len == 100, "vsock: no more than the guest has room for");
	ok(next() == VSOCK_OP_CREDIT_REQUEST && next_in(20) == 0, "vsock: then it is asked");
	p.fwd_cnt = 60;
	put_packet(&p, NULL, 0);
	ok(next() == VSOCK_OP_RW && last.len == 60 && next() == VSOCK_OP_CREDIT_REQUEST, "vsock: and as much more as it took");
	p.buf_alloc = 50;
	put_packet(&p, NULL, 0);
	ok(next_in(20) == 0, "vsock: a guest whose room shrinks");
	p.fwd_cnt = 160;
	p.buf_alloc = 1000;
	put_packet(&p, NULL, 0);
	ok(next() == VSOCK_OP_RW && last.len == 140, "vsock: the rest");
	close(fd);
}

/* The host does not read. */
static void room_of_the_host(void)
{
	static uint8_t data[32 * KiB];
	uint64_t sent = 0, got = 0;
	fresh(8);
	int fd = connection(5);
	uint32_t told = 0;
	for (unsigned i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 3);
	while (sent + sizeof(data) - told <= VSOCK_OUT_ROOM) { /* as a driver that keeps to the rules */
		say(VSOCK_OP_RW, 5, PORT, data, sizeof(data));
		sent += sizeof(data);
		while (next_in(20) == VSOCK_OP_CREDIT_UPDATE)
			told = last.fwd_cnt;
	}
	ok(sent > VSOCK_OUT_ROOM, "vsock: the host's socket takes some");
	static uint8_t back[32 * KiB];
	bool same = true;
	while (got < sent) {
		ssize_t n = read(fd, back, MIN(sizeof(back), sizeof(data) - got % sizeof(data)));
		if (n <= 0)
			break;
		same &= !memcmp(back, data + got % sizeof(data), (size_t)n);
		got += (uint64_t)n;
	}
	ok(got == sent && same, "vsock: a host that reads late gets all");
	ok(next() == VSOCK_OP_CREDIT_UPDATE && last.fwd_cnt > told, "vsock: and the guest hears that there is room");
	sent = 0;
	for (unsigned i = 0; i < 100 && next_in(0) != VSOCK_OP_RST; i++)
		say(VSOCK_OP_RW, 5, PORT, data, sizeof(data));
	ok(last.op == VSOCK_OP_RST, "vsock: a guest that does not heed it is cut off");
	close(fd);
}

/* Answers wait for buffers, and then the guest's packets do. */
static void no_buffers(void)
{
	fresh(0);
	say(VSOCK_OP_REQUEST, 5, PORT, NULL, 0);
	int fd = accept(listener, NULL, NULL);
	ok(write(fd, "early", 5) == 5, "vsock: the host is there first");
	sleep_ms(20);
	ok(!used_count(RECEIVE), "vsock: no buffer, no answer");
	give_buffers(0, 2, BUFFER);
	ok(next() == VSOCK_OP_RESPONSE && next() == VSOCK_OP_RW && last.len == 5, "vsock: the answer comes with the buffer");
	fresh(0);
	drv.used[SEND] = 0;
	unsigned refused = 0, given = 0;
	for (unsigned i = 0; i < VSOCK_REPLIES + 10; i++) { /* each asks for an answer */
		struct vsock_packet p = packet(VSOCK_OP_RW, i, 6, 0);
		gpa_t at = DATA + i % 16 * sizeof(p);
		guest_write(vm, at, &p, sizeof(p));
		put_desc(SEND, i % 16, at, sizeof(p), 0, 0);
		offer(SEND, (uint16_t)(i % 16));
		kick(SEND);
		given += take_used(SEND, NULL) >= 0;
	}
	ok(given == VSOCK_REPLIES, "vsock: no more packets are taken than can be answered");
	give_buffers(0, 8, BUFFER);
	while (next_in(20) == VSOCK_OP_RST && last.dst_port == refused)
		refused++;
	ok(refused == VSOCK_REPLIES + 10 && used_count(SEND) == 10, "vsock: until there are buffers; all are answered, in order");
	close(fd);
}

static void many(void)
{
	enum { COUNT = 100 };
	int fd[COUNT];
	bool good = true;
	char text[16];
	fresh(16);
	for (unsigned i = 0; i < COUNT; i++)
		good &= (fd[i] = connection(i)) >= 0;
	ok(good, "vsock: many connections");
	for (unsigned i = 0; i < COUNT; i++)
		say(VSOCK_OP_RW, i, PORT, &i, sizeof(i));
	for (unsigned i = 0; i < COUNT; i++) {
		unsigned got = 0;
		good &= read(fd[i], &got, sizeof(got)) == sizeof(got) && got == i;
		good &= write(fd[i], &i, sizeof(i)) == sizeof(i);
	}
	bool seen[COUNT] = { false };
	for (unsigned i = 0; i < COUNT; i++) {
		good &= next() == VSOCK_OP_RW && last.dst_port < COUNT && !memcmp(last_data, &last.dst_port, sizeof(last.dst_port));
		if (last.dst_port < COUNT)
			seen[last.dst_port] = true;
	}
	for (unsigned i = 0; i < COUNT; i++)
		good &= seen[i];
	ok(good, "vsock: each has its own data");
	set_reg(STATUS, 1, 0);
	for (unsigned i = 0; i < COUNT; i++)
		good &= read(fd[i], text, sizeof(text)) == 0 && !close(fd[i]);
	ok(good, "vsock: a reset of the device ends all");
}

/* More than there are places for connect, and never say what they want: neither the guest nor the next of the host's programs waits for them. */
static void silent(void)
{
	enum { COUNT = VSOCK_STREAMS + 8 };
	static int fd[COUNT];
	struct rlimit most;
	getrlimit(RLIMIT_NOFILE, &most);
	most.rlim_cur = MIN(most.rlim_max, (rlim_t)3 * COUNT); /* both ends are in this process */
	setrlimit(RLIMIT_NOFILE, &most);
	fresh(8);
	bool good = true;
	for (unsigned i = 0; i < COUNT; i++)
		good &= (fd[i] = unix_socket(path, false)) >= 0;
	ok(good, "vsock: %u programs that say nothing", COUNT);
	int ours = connection(5);
	ok(ours >= 0, "vsock: the guest connects all the same");
	int theirs = unix_socket(path, false);
	ok(write(theirs, "CONNECT 77\n", 11) == 11 && next() == VSOCK_OP_REQUEST, "vsock: and so does who has something to say");
	close(theirs);
	close(ours);
	for (unsigned i = 0; i < COUNT; i++)
		close(fd[i]);
}

/* A process without descriptors hangs up on who connects, and goes on to listen. */
static void no_descriptors(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 5 };
	struct rlimit was, none;
	fresh(8);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), free = dup(fd);
	strcpy(to.sun_path, path);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	close(free);
	getrlimit(RLIMIT_NOFILE, &was);
	none = was;
	none.rlim_cur = (rlim_t)free;
	setrlimit(RLIMIT_NOFILE, &none);
	ok(!connect(fd, (struct sockaddr *)&to, sizeof(to)) && is_closed(fd), "vsock: without descriptors it hangs up");
	setrlimit(RLIMIT_NOFILE, &was);
	close(fd);
	fd = unix_socket(path, false);
	ok(write(fd, "CONNECT 77\n", 11) == 11 && next() == VSOCK_OP_REQUEST, "vsock: with some, it hears the next");
	close(fd);
}

static void hostile(void)
{
	fresh(8);
	struct vsock_packet p = packet(VSOCK_OP_RW, 5, 6, 0);
	p.type = 2;
	put_packet(&p, NULL, 0);
	ok(next() == VSOCK_OP_RST && last.type == 2, "vsock: a type that is none is refused");
	p = packet(VSOCK_OP_REQUEST, 5, PORT, 0);
	p.dst_cid = 99;
	put_packet(&p, NULL, 0);
	ok(next() == VSOCK_OP_RST && last.src_cid == 99, "vsock: so is another guest");
	p = packet(VSOCK_OP_REQUEST, 5, PORT, 0);
	p.src_cid = 43;
	put_packet(&p, NULL, 0);
	ok(next_in(20) == 0, "vsock: who lies about itself is not heard");
	say(VSOCK_OP_RST, 1, 1, NULL, 0);
	ok(next_in(20) == 0, "vsock: nobody answers RST");
	static const uint16_t bad[] = { 0, VSOCK_OP_REQUEST, VSOCK_OP_RESPONSE, 8, 0xffff };
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		int fd = connection(5);
		say(bad[i], 5, PORT, NULL, 0);
		ok(next() == VSOCK_OP_RST, "vsock: op %u in a connection", bad[i]);
		close(fd);
	}
	say(VSOCK_OP_REQUEST, 5, PORT, NULL, 0);
	say(VSOCK_OP_RW, 5, PORT, "x", 1);
	unsigned op = next();
	ok((op == VSOCK_OP_RESPONSE && next_in(50) == 0) || op == VSOCK_OP_RST, "vsock: data before the answer");
	close(accept(listener, NULL, NULL));
	fresh(8);
	put_desc(SEND, 0, DATA, sizeof(p) - 1, 0, 0);
	offer(SEND, 0);
	kick(SEND);
	ok(is_broken(), "vsock: half a header breaks it");
	fresh(8);
	p = packet(VSOCK_OP_RW, 5, PORT, 11);
	put_packet(&p, "0123456789", 10);
	ok(is_broken(), "vsock: so does a length beyond the packet");
	fresh(0);
	give_buffers(0, 1, sizeof(p) - 1);
	say(VSOCK_OP_RW, 5, PORT, NULL, 0);
	ok(is_broken(), "vsock: and a buffer without room for a packet");
	fresh(0);
	give_buffers(0, 1, sizeof(p));
	give_buffers(1, 1, sizeof(p));
	int fd = connection(5);
	ok(write(fd, "x", 1) == 1, "vsock: data for a buffer that has room for the header alone");
	for (unsigned i = 0; i < PATIENCE && !is_broken(); i++)
		sleep_ms(1);
	ok(is_broken(), "vsock: breaks it");
	close(fd);
}

static void round_trip(void)
{
	uint32_t event = 99;
	char text[8];
	fresh(8);
	int fd = connection(5);
	struct buffer state = { 0 };
	struct device *d = device_find(vm, "vsock");
	device_save(d, &state);
	say(VSOCK_OP_RW, 5, PORT, "x", 1);
	ok(read(fd, text, 1) == 1, "vsock: saving disturbs nothing");
	ok(!device_load(d, &state), "vsock: state loads");
	ok(read(fd, text, 1) == 0, "vsock: its connections are gone");
	guest_write(vm, DATA, &event, sizeof(event));
	put_desc(EVENT, 0, DATA, sizeof(event), D_WRITE, 0);
	offer(EVENT, 0);
	kick(EVENT);
	uint32_t length;
	ok(take_used(EVENT, &length) == 0 && length == 4 && !guest_read(vm, DATA, &event, sizeof(event)) && event == 0, "vsock: the guest hears of that");
	close(fd);
	buffer_fini(&state);
	fresh(8);
	fd = connection(5);
	ok(fd >= 0, "vsock: and there are new ones");
	close(fd);
}

static void use(struct vm *v)
{
	vm = v;
	drv.size[0] = drv.size[1] = drv.size[2] = 16;
	say(VSOCK_OP_REQUEST, 5, 7, NULL, 0);
	say(VSOCK_OP_RW, 6, 7, "x", 1);
	give_buffers(1, 1, BUFFER);
}

int main(void)
{
	char at[80];
	if (!mkdtemp(folder))
		return 1;
	snprintf(path, sizeof(path), "%s/guest", folder);
	snprintf(at, sizeof(at), "%s_%u", path, PORT);
	listener = unix_socket(at, true);
	from_guest();
	short_word();
	from_host();
	room_of_the_guest();
	room_of_the_host();
	no_buffers();
	many();
	silent();
	no_descriptors();
	hostile();
	round_trip();
	abuse_state(vm, "vsock", use);
	shut_down();
	close(listener);
	unlink(at);
	rmdir(folder);
	return done();
}
