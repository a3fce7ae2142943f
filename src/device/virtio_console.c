/* SPDX-License-Identifier: MIT */
/* Virtio console: VIRTIO 1.2, section 5.3: several ports, each with a backend of its own. A port with a name is a channel for programs
 * (/dev/virtio-ports/NAME in Linux), one without is a terminal (hvc).
 *
 * What the host says about ports goes out in a fixed order, each message once a driver has a buffer for it; so a set of bits says
 * what is still to be said. */
#include <errno.h>
#include <string.h>
#include "backend/chardev.h"
#include "device/virtio_devices.h"
#include "util/log.h"

#define QUEUE_SIZE 128
#define CLASS 0x078000
#define INPUT_ROOM 4096
#define EVENTS 4                /* kinds of events that a port takes */
enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3 };
enum { F_MULTIPORT = BIT(1), F_EMERG_WRITE = BIT(2) };
enum { DEVICE_READY = 0, PORT_ADD = 1, PORT_READY = 3, CONSOLE_PORT = 4, PORT_OPEN = 6, PORT_NAME = 7 };
enum { SAY_ADD = 1, SAY_CONSOLE = 2, SAY_NAME = 4, SAY_OPEN = 8 };

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct config { /* 5.3.4 */
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
};

struct port {
	uint8_t say;                     /* what the guest was not told yet */
	uint8_t input[INPUT_ROOM];       /* what it did not take yet */
	uint32_t input_size;
	uint64_t out_at;                 /* of `out`: bytes that the backend has */
	struct virtq_chain *out;         /* what the backend had no room for */
	struct chardev *chardev;
	const char *name;                /* NULL: a terminal */
};

struct console {
	struct virtio virtio;
	struct port port[VIRTIO_CONSOLE_PORTS];
	unsigned ports;
	struct config config;
};

static struct console *of(struct virtio *v)
{
	return container_of(v, struct console, virtio);
}

/* Queues 0 and 1 are the first port's, 2 and 3 for control, then come the others'. */
static unsigned in_queue(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

static int port_of_queue(unsigned queue)
{
	return queue < 2 ? 0 : queue < 4 ? -1 : (int)(queue / 2 - 1);
}

/* ---- To the guest ------------------------------------------------------------------------------------------------------- */

static void give_input(struct console *c, unsigned i)
{
	struct port *p = &c->port[i];
	struct virtq *q = &c->virtio.queue[in_queue(i)];
	struct virtq_chain *chain;
	while (p->input_size && (chain = virtq_pop(q))) {
		size_t n = virtq_write(chain, 0, p->input, p->input_size);
		memmove(p->input, p->input + n, p->input_size - n);
		p->input_size -= (uint32_t)n;
		virtq_push(chain, n);
		if (!n)
			break;
	}
	virtq_interrupt(q);
	if (p->chardev)
		p->chardev->ops->accept(p->chardev, INPUT_ROOM - p->input_size);
}

static bool say(struct console *c, unsigned id, uint16_t event, uint16_t value, const char *text)
{
	struct virtq_chain *chain = virtq_pop(&c->virtio.queue[QUEUE_CONTROL_IN]);
	struct control message = { id, event, value };
	if (!chain)
		return false;
	size_t n = virtq_write(chain, 0, &message, sizeof(message));
	if (text)
		n += virtq_write(chain, n, text, strlen(text));
	virtq_push(chain, n);
	return true;
}

static bool say_next(struct console *c, unsigned i)
{
	struct port *p = &c->port[i];
	switch (p->say & -p->say) {
	case SAY_ADD:
		return say(c, i, PORT_ADD, 1, NULL);
	case SAY_CONSOLE:
		return say(c, i, CONSOLE_PORT, 1, NULL);
	case SAY_NAME:
		return say(c, i, PORT_NAME, 1, p->name);
	case SAY_OPEN:
		return say(c, i, PORT_OPEN, 1, NULL);
	}
	return true;
}

static void say_all(struct console *c)
{
	for (unsigned i = 0; i < c->ports; i++)
		while (c->port[i].say && say_next(c, i))
			c->port[i].say &= (uint8_t)(c->port[i].say - 1);
	virtq_interrupt(&c->virtio.queue[QUEUE_CONTROL_IN]);
}

/* ---- From the guest ----------------------------------------------------------------------------------------------------- */

/* False: the backend has no room for the rest, it tells when it has. */
static bool put_out(struct port *p)
{
	struct virtq_chain *chain = p->out;
	uint8_t data[1024];
	while (p->out_at < chain->out_size) {
		size_t n = virtq_read(chain, p->out_at, data, sizeof(data));
		size_t taken = p->chardev ? p->chardev->ops->write(p->chardev, data, n) : n;
		p->out_at += taken;
		if (taken < n)
			return false;
	}
	p->out = NULL;
	p->out_at = 0;
	virtq_push(chain, 0);
	return true;
}

static void take_output(struct console *c, unsigned i)
{
	struct port *p = &c->port[i];
	struct virtq *q = &c->virtio.queue[in_queue(i) + 1];
	bool room = !p->out || put_out(p);
	while (room && (p->out = virtq_pop(q)))
		room = put_out(p);
	virtq_interrupt(q);
}

static void take_control(struct console *c, const struct control *m)
{
	bool known = m->id < c->ports;
	if (m->event == DEVICE_READY && m->value)
		for (unsigned i = 0; i < c->ports; i++)
			c->port[i].say = SAY_ADD;
	else if (m->event == PORT_READY && m->value && known)
		c->port[m->id].say |= SAY_OPEN | (c->port[m->id].name ? SAY_NAME : SAY_CONSOLE);
	say_all(c);
}

static void console_notify(struct virtio *v, unsigned queue)
{
	struct console *c = of(v);
	int port = port_of_queue(queue);
	struct virtq_chain *chain;
	struct control message;
	if (port >= 0 && queue % 2 == 0) {
		give_input(c, (unsigned)port);
	} else if (port >= 0) {
		take_output(c, (unsigned)port);
	} else if (queue == QUEUE_CONTROL_IN) {
		say_all(c);
	} else {
		while ((chain = virtq_pop(&v->queue[queue]))) {
			bool whole = virtq_read(chain, 0, &message, sizeof(message)) == sizeof(message);
			virtq_push(chain, 0);
			if (whole)
				take_control(c, &message);
		}
		virtq_interrupt(&v->queue[queue]);
	}
}

static void console_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct console *c = of(virtio_of(d));
	unsigned i = kind / EVENTS;
	struct port *p = &c->port[i];
	if (i >= c->ports)
		return;
	if (kind % EVENTS == CHARDEV_INPUT) {
		len = MIN(len, (size_t)(INPUT_ROOM - p->input_size));
		memcpy(p->input + p->input_size, data, len);
		p->input_size += (uint32_t)len;
		give_input(c, i);
	} else if (kind % EVENTS == CHARDEV_WRITABLE) {
		take_output(c, i);
	}
}

static void console_forget(struct virtio *v, unsigned queue)
{
	int port = port_of_queue(queue);
	struct port *p = port < 0 || queue % 2 == 0 ? NULL : &of(v)->port[port];
	if (!p || !p->out)
		return;
	virtq_drop(p->out);
	p->out = NULL;
}

/* A port keeps one chain at most. */
static void console_resume(struct virtio *v, struct virtq_chain *chain)
{
	int port = port_of_queue(chain->queue->index);
	struct port *p = port < 0 || chain->queue->index % 2 == 0 ? NULL : &of(v)->port[port];
	if (!p || p->out) {
		virtq_drop(chain);
		return;
	}
	p->out = chain;
	take_output(of(v), (unsigned)port);
}

static void console_model_reset(struct virtio *v)
{
	for (unsigned i = 0; i < of(v)->ports; i++) {
		of(v)->port[i].say = 0;
		of(v)->port[i].out_at = 0;
	}
}

/* ---- Life --------------------------------------------------------------------------------------------------------------- */

static void config_read(struct virtio *v, unsigned offset, void *data, unsigned size)
{
	memcpy(data, (const uint8_t *)&of(v)->config + offset, size);
}

/* A character before anything is set up. */
static void config_write(struct virtio *v, unsigned offset, const void *data, unsigned size)
{
	struct chardev *first = of(v)->port[0].chardev;
	if (offset == offsetof(struct config, emerg_wr) && first)
		first->ops->write(first, data, 1);
}

static const struct virtio_model model = {
	.type = VIRTIO_CONSOLE, .class = CLASS, .features = F_MULTIPORT | F_EMERG_WRITE, .config_read = config_read,
	.config_write = config_write, .notify = console_notify, .reset = console_model_reset, .forget = console_forget,
	.resume = console_resume,
};

static int start_port(struct console *c, unsigned i, const struct virtio_console_port *config)
{
	struct port *p = &c->port[i];
	p->name = config->name;
	p->chardev = config->chardev;
	if (!p->chardev)
		return 0;
	p->chardev->sink = &c->virtio.device;
	p->chardev->event = i * EVENTS;
	p->chardev->room = INPUT_ROOM;
	return p->chardev->ops->start(p->chardev, c->virtio.device.vm);
}

static int console_init(struct device *d)
{
	struct console *c = of(virtio_of(d));
	const struct virtio_console_config *config = d->place->config;
	c->config.max_nr_ports = config->ports;
	c->virtio.model = &model;
	c->virtio.queues = 2 * config->ports + 2;
	c->virtio.config_size = sizeof(struct config);
	int error = virtio_init(&c->virtio, QUEUE_SIZE);
	for (; c->ports < config->ports && !error; c->ports++)
		error = start_port(c, c->ports, &config->port[c->ports]);
	return error;
}

static void console_reset(struct device *d, enum reset_kind kind)
{
	virtio_reset(virtio_of(d));
}

static int console_post_load(struct device *d, uint32_t version)
{
	struct console *c = of(virtio_of(d));
	for (unsigned i = 0; i < VIRTIO_CONSOLE_PORTS; i++)
		if (c->port[i].input_size > INPUT_ROOM)
			return -EPROTO;
	int error = virtio_loaded(&c->virtio);
	for (unsigned i = 0; i < c->ports; i++)
		if (c->port[i].chardev)
			c->port[i].chardev->ops->accept(c->port[i].chardev, INPUT_ROOM - c->port[i].input_size);
	return error;
}

static void console_fini(struct device *d)
{
	struct console *c = of(virtio_of(d));
	for (unsigned i = 0; i < c->ports; i++) {
		if (c->port[i].chardev)
			c->port[i].chardev->ops->stop(c->port[i].chardev);
		if (c->port[i].out)
			virtq_drop(c->port[i].out);
	}
}

static const struct field port_fields[] = {
	FIELD_U8(struct port, say),
	FIELD_BYTES(struct port, input),
	FIELD_U32(struct port, input_size),
	FIELD_U64(struct port, out_at),
	FIELD_END,
};
static const struct field fields[] = {
	VIRTIO_FIELDS(struct console),
	FIELD_STRUCT(struct console, port, port_fields, struct port),
	FIELD_END,
};

const struct device_class virtio_console_class = {
	.name = "virtio-console", .summary = "virtio console and ports", .size = sizeof(struct console), .init = console_init,
	.reset = console_reset, .fini = console_fini, .event = console_event, .fields = fields, .version = 1,
	.post_load = console_post_load,
};
DEVICE_CLASS(virtio_console_class);
