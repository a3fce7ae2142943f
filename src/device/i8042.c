/* SPDX-License-Identifier: MIT */
/* The 8042 keyboard controller of a PC with an auxiliary (mouse) port, after the IBM PS/2 hardware interface
 * technical reference, keyboard and auxiliary device controller. The devices on it are in ps2_keyboard.c and
 * ps2_mouse.c.
 *
 * A byte from a device takes the time that its 11 bits take, so that the interrupt of the next one is not raised
 * in the same instant in which the last one is read; the controller's own answers take none. */
#include "device/chips.h"
#include <errno.h>
#include <string.h>
#include "backend/screen.h"
#include "device/ps2.h"

#define PORT_DATA 0
#define PORT_COMMAND 4

/* Status register, port 64h */
#define STATUS_OBF 0x01u
#define STATUS_SYS 0x04u     /* as the command byte's */
#define STATUS_CMD 0x08u     /* the last write went to port 64h */
#define STATUS_UNLOCKED 0x10u
#define STATUS_AUX 0x20u     /* the output buffer holds a byte from the auxiliary device */

/* Command byte, RAM byte 0 */
#define CTR_KBD_INT 0x01u
#define CTR_AUX_INT 0x02u
#define CTR_SYS 0x04u        /* self-test passed */
#define CTR_KBD_OFF 0x10u
#define CTR_AUX_OFF 0x20u
#define CTR_XLATE 0x40u      /* scan codes are translated to set 1 */

enum controller_command {
	READ_RAM = 0x20, READ_RAM_LAST = 0x3f, WRITE_RAM = 0x60, WRITE_RAM_LAST = 0x7f, TEST_PASSWORD = 0xa4,
	AUX_DISABLE = 0xa7,
	AUX_ENABLE = 0xa8, AUX_TEST = 0xa9, SELF_TEST = 0xaa, KBD_TEST = 0xab, KBD_DISABLE = 0xad, KBD_ENABLE = 0xae,
	READ_INPUT = 0xc0, READ_OUTPUT = 0xd0, WRITE_OUTPUT = 0xd1, WRITE_KBD_BUFFER = 0xd2, WRITE_AUX_BUFFER = 0xd3,
	WRITE_AUX = 0xd4, READ_TEST = 0xe0, PULSE = 0xf0, PULSE_LAST = 0xff,
};
#define SELF_TEST_OK 0x55u
#define LINE_TEST_OK 0x00u
#define NO_PASSWORD 0xf1u
#define INPUT_UNLOCKED 0x80u

/* Output port */
#define OUTPUT_NO_RESET 0x01u
#define OUTPUT_A20 0x02u
#define OUTPUT_IRQ1 0x10u
#define OUTPUT_IRQ12 0x20u
#define OUTPUT_LINES 0xc0u   /* keyboard clock and data: idle */

#define BREAK_PREFIX 0xf0u
#define BYTE_NS 660000       /* 11 bits at 16.7 kHz */

struct i8042_regs {
	uint8_t ram[32];         /* byte 0 is the command byte; read and written by 20h.., 60h.. */
	uint8_t output;          /* port 60h, read */
	bool full;               /* status: OBF */
	bool output_aux;         /* status: the byte is the auxiliary device's */
	bool wrote_command;      /* status: CMD */
	bool answering;          /* an answer of the controller waits for the output buffer */
	uint8_t answer;
	uint8_t expecting;       /* the command whose data byte comes next to port 60h, or 0 */
	bool a20;                /* output port, bit 1 */
	bool release;            /* translation: F0h was swallowed */
	uint64_t byte_at;        /* virtual ns when the byte under way is here, TIMER_OFF */
};

struct i8042 {
	struct device device;
	struct i8042_regs r;
	struct ps2_keyboard keyboard;
	struct ps2_mouse mouse;
	struct ps2_typed typed;
	struct {
		struct irq_pin keyboard_pin, mouse_pin;
		struct device *a20;
		struct timer timer, type_timer;
	} host;
};

static struct i8042 *of(struct device *d)
{
	return container_of(d, struct i8042, device);
}

static bool keyboard_level(const struct i8042 *k)
{
	return k->r.full && !k->r.output_aux && (k->r.ram[0] & CTR_KBD_INT);
}

static bool mouse_level(const struct i8042 *k)
{
	return k->r.full && k->r.output_aux && (k->r.ram[0] & CTR_AUX_INT);
}

static bool keyboard_sends(const struct i8042 *k)
{
	return !(k->r.ram[0] & CTR_KBD_OFF) && ps2_pending(&k->keyboard.port);
}

static bool mouse_sends(const struct i8042 *k)
{
	return !(k->r.ram[0] & CTR_AUX_OFF) && ps2_pending(&k->mouse.port);
}

static void put_output(struct i8042 *k, uint8_t byte, bool aux)
{
	k->r.output = byte;
	k->r.output_aux = aux;
	k->r.full = true;
}

/* What was typed goes on when the guest has taken all that the keyboard had. */
static void type(struct i8042 *k)
{
	bool idle = k->keyboard.scanning && !ps2_pending(&k->keyboard.port) && !(k->r.full && !k->r.output_aux);
	uint64_t now = clock_now(k->device.vm);
	uint8_t code[PS2_CODE];
	if (idle && k->typed.count && now >= k->typed.next_at) {
		ps2_keyboard_input(&k->keyboard, code, ps2_typed_take(&k->typed, code));
		k->typed.next_at = now + PS2_TYPE_NS;
	}
	timer_arm(&k->host.type_timer, idle && k->typed.count ? MAX(k->typed.next_at, now + 1) : TIMER_OFF);
}

/* After anything has happened: moves on what can move, and sets the lines. */
static void update(struct i8042 *k)
{
	type(k);
	if (!k->r.full && k->r.answering) {
		put_output(k, k->r.answer, false);
		k->r.answering = false;
	}
	if (k->r.full)
		k->r.byte_at = TIMER_OFF;
	else if (k->r.byte_at == TIMER_OFF && (keyboard_sends(k) || mouse_sends(k)))
		k->r.byte_at = clock_now(k->device.vm) + BYTE_NS;
	timer_arm(&k->host.timer, k->r.byte_at);
	irq_set(&k->host.keyboard_pin, keyboard_level(k));
	irq_set(&k->host.mouse_pin, mouse_level(k));
}

/* A byte from the keyboard; -1 if translation swallowed all there was. */
static int keyboard_byte(struct i8042 *k)
{
	int byte = ps2_next(&k->keyboard.port);
	if (!(k->r.ram[0] & CTR_XLATE))
		return byte;
	if (byte == BREAK_PREFIX) {
		k->r.release = true;
		byte = ps2_next(&k->keyboard.port);
	}
	if (byte < 0)
		return byte;
	byte = ps2_translate(byte) | (k->r.release ? 0x80 : 0);
	k->r.release = false;
	return byte;
}

static void byte_arrives(struct device *d, void *arg)
{
	struct i8042 *k = of(d);
	k->r.byte_at = TIMER_OFF;
	if (!k->r.full && keyboard_sends(k)) {
		int byte = keyboard_byte(k);
		if (byte >= 0)
			put_output(k, byte, false);
	} else if (!k->r.full && mouse_sends(k)) {
		put_output(k, ps2_next(&k->mouse.port), true);
		ps2_mouse_report(&k->mouse);
	}
	update(k);
}

static void type_on(struct device *d, void *arg)
{
	update(of(d));
}

static void answer(struct i8042 *k, uint8_t byte)
{
	k->r.answer = byte;
	k->r.answering = true;
}

static uint8_t output_port(const struct i8042 *k)
{
	return OUTPUT_LINES | OUTPUT_NO_RESET | (k->r.a20 ? OUTPUT_A20 : 0) | (keyboard_level(k) ? OUTPUT_IRQ1 : 0) |
	       (mouse_level(k) ? OUTPUT_IRQ12 : 0);
}

static void write_output_port(struct i8042 *k, uint8_t value)
{
	k->r.a20 = value & OUTPUT_A20;
	a20_set(k->host.a20, k->r.a20);
	if (!(value & OUTPUT_NO_RESET))
		vm_reset_request(k->device.vm);
}

static void command(struct i8042 *k, uint8_t value)
{
	uint8_t *ctr = &k->r.ram[0];
	k->r.expecting = 0;
	switch (value) {
	case READ_RAM ... READ_RAM_LAST:
		answer(k, k->r.ram[value - READ_RAM]);
		break;
	case WRITE_RAM ... WRITE_RAM_LAST:
	case WRITE_OUTPUT:
	case WRITE_KBD_BUFFER:
	case WRITE_AUX_BUFFER:
	case WRITE_AUX:
		k->r.expecting = value;
		break;
	case TEST_PASSWORD:
		answer(k, NO_PASSWORD);
		break;
	case AUX_DISABLE:
		*ctr |= CTR_AUX_OFF;
		break;
	case AUX_ENABLE:
		*ctr &= ~CTR_AUX_OFF;
		break;
	case SELF_TEST:
		*ctr |= CTR_SYS;
		answer(k, SELF_TEST_OK);
		break;
	case AUX_TEST:
	case KBD_TEST:
		answer(k, LINE_TEST_OK);
		break;
	case KBD_DISABLE:
		*ctr |= CTR_KBD_OFF;
		break;
	case KBD_ENABLE:
		*ctr &= ~CTR_KBD_OFF;
		break;
	case READ_INPUT:
		answer(k, INPUT_UNLOCKED);
		break;
	case READ_OUTPUT:
		answer(k, output_port(k));
		break;
	case READ_TEST: /* both clock lines are low */
		answer(k, 0);
		break;
	case PULSE ... PULSE_LAST: /* the lines whose bit is 0; line 0 is the processor's reset */
		if (!(value & OUTPUT_NO_RESET))
			vm_reset_request(k->device.vm);
		break;
	}
}

static void data(struct i8042 *k, uint8_t value)
{
	uint8_t to = k->r.expecting;
	k->r.expecting = 0;
	switch (to) {
	case 0: /* to the keyboard, which switches its interface on */
		k->r.ram[0] &= ~CTR_KBD_OFF;
		ps2_keyboard_command(&k->keyboard, value);
		break;
	case WRITE_OUTPUT:
		write_output_port(k, value);
		break;
	case WRITE_KBD_BUFFER:
	case WRITE_AUX_BUFFER:
		put_output(k, value, to == WRITE_AUX_BUFFER);
		break;
	case WRITE_AUX:
		ps2_mouse_command(&k->mouse, value);
		break;
	default:
		k->r.ram[to & (sizeof(k->r.ram) - 1)] = value;
	}
}

static uint64_t i8042_read(struct device *d, uint64_t offset, unsigned size)
{
	struct i8042 *k = of(d);
	if (offset == PORT_COMMAND)
		return STATUS_UNLOCKED | (k->r.full ? STATUS_OBF : 0) | (k->r.ram[0] & CTR_SYS ? STATUS_SYS : 0) |
		       (k->r.wrote_command ? STATUS_CMD : 0) | (k->r.full && k->r.output_aux ? STATUS_AUX : 0);
	uint8_t value = k->r.output; /* an empty buffer shows its last byte */
	k->r.full = false;
	irq_set(&k->host.keyboard_pin, false); /* before the next byte raises it again */
	irq_set(&k->host.mouse_pin, false);
	update(k);
	return value;
}

static void i8042_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct i8042 *k = of(d);
	k->r.wrote_command = offset == PORT_COMMAND;
	if (k->r.wrote_command)
		command(k, value);
	else
		data(k, value);
	update(k);
}

static void i8042_event(struct device *d, unsigned kind, const void *bytes, size_t len)
{
	struct i8042 *k = of(d);
	if (kind == INPUT_KEY) {
		ps2_keyboard_input(&k->keyboard, bytes, len);
	} else if (kind == INPUT_TYPE) {
		ps2_typed_add(&k->typed, bytes, len);
	} else if (kind == INPUT_MOUSE && len == sizeof(struct input_mouse)) {
		struct input_mouse m;
		memcpy(&m, bytes, sizeof(m));
		ps2_mouse_input(&k->mouse, m.dx, m.dy, m.wheel, m.buttons);
	}
	update(k);
}

size_t i8042_type_room(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	size_t room = PS2_TYPED - of(d)->typed.count;
	pthread_mutex_unlock(&d->lock);
	return room;
}

/* As a BIOS leaves it: keyboard with translation and interrupt, mouse off, A20 on. */
static void i8042_reset(struct device *d, enum reset_kind kind)
{
	struct i8042 *k = of(d);
	memset(&k->r, 0, sizeof(k->r));
	k->r.ram[0] = CTR_KBD_INT | CTR_SYS | CTR_XLATE | CTR_AUX_OFF;
	k->r.a20 = true;
	k->r.byte_at = TIMER_OFF;
	ps2_keyboard_reset(&k->keyboard);
	ps2_mouse_reset(&k->mouse);
	memset(&k->typed, 0, sizeof(k->typed));
	update(k);
}

static int i8042_post_load(struct device *d, uint32_t version)
{
	struct i8042 *k = of(d);
	if (!ps2_keyboard_valid(&k->keyboard) || !ps2_mouse_valid(&k->mouse) || !ps2_typed_valid(&k->typed))
		return -EINVAL;
	timer_arm(&k->host.timer, k->r.byte_at);
	timer_arm(&k->host.type_timer, k->typed.count ? k->typed.next_at : TIMER_OFF);
	irq_pin_restore(&k->host.keyboard_pin, keyboard_level(k));
	irq_pin_restore(&k->host.mouse_pin, mouse_level(k));
	return 0;
}

static int i8042_init(struct device *d)
{
	static const struct bus_ops ops = { .read = i8042_read, .write = i8042_write, .max_size = 1 };
	struct i8042 *k = of(d);
	const struct i8042_config *config = d->place->config;
	irq_pin_init(&k->host.keyboard_pin, d->vm, d->place->irq);
	irq_pin_init(&k->host.mouse_pin, d->vm, config ? config->mouse_irq : 12);
	timer_init(&k->host.timer, d, d->name, byte_arrives, NULL);
	timer_init(&k->host.type_timer, d, d->name, type_on, NULL);
	k->host.a20 = device_find(d->vm, A20_NAME);
	int error = bus_add_at(d->vm, BUS_PORT, d->place->base + PORT_DATA, 1, &ops, d, PORT_DATA);
	return error ? error : bus_add_at(d->vm, BUS_PORT, d->place->base + PORT_COMMAND, 1, &ops, d, PORT_COMMAND);
}

static void i8042_fini(struct device *d)
{
	timer_cancel(&of(d)->host.timer);
	timer_cancel(&of(d)->host.type_timer);
}

static const struct field regs_fields[] = {
	FIELD_U8(struct i8042_regs, ram),
	FIELD_U8(struct i8042_regs, output),
	FIELD_BOOL(struct i8042_regs, full),
	FIELD_BOOL(struct i8042_regs, output_aux),
	FIELD_BOOL(struct i8042_regs, wrote_command),
	FIELD_BOOL(struct i8042_regs, answering),
	FIELD_U8(struct i8042_regs, answer),
	FIELD_U8(struct i8042_regs, expecting),
	FIELD_BOOL(struct i8042_regs, a20),
	FIELD_BOOL(struct i8042_regs, release),
	FIELD_U64(struct i8042_regs, byte_at),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct i8042, r, regs_fields, struct i8042_regs),
	FIELD_STRUCT(struct i8042, keyboard, ps2_keyboard_fields, struct ps2_keyboard),
	FIELD_STRUCT(struct i8042, mouse, ps2_mouse_fields, struct ps2_mouse),
	FIELD_STRUCT(struct i8042, typed, ps2_typed_fields, struct ps2_typed),
	FIELD_END,
};

const struct device_class i8042_class = {
	.name = "i8042", .summary = "8042 keyboard controller with keyboard and mouse", .size = sizeof(struct i8042),
	.init = i8042_init, .reset = i8042_reset, .fini = i8042_fini, .event = i8042_event, .fields = fields,
	.version = 1,
	.post_load = i8042_post_load,
};
DEVICE_CLASS(i8042_class);
