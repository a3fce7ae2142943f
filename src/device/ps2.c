/* SPDX-License-Identifier: MIT */
/* What keyboard and mouse have in common: the queues of a PS/2 port (IBM PS/2 hardware interface technical
 * reference, keyboards and auxiliary devices). Bit timing is not modelled. */
#include "device/ps2.h"
#include <string.h>

static int take(uint8_t *bytes, uint8_t *count)
{
	int byte = bytes[0];
	memmove(bytes, bytes + 1, --*count);
	return byte;
}

int ps2_next(struct ps2_port *p)
{
	if (!ps2_pending(p))
		return -1;
	p->last = p->replies ? take(p->reply, &p->replies) : take(p->queue, &p->count);
	return p->last;
}

bool ps2_pending(const struct ps2_port *p)
{
	return p->replies || p->count;
}

/* A guest that sends commands and reads no answers loses the late ones. */
void ps2_reply(struct ps2_port *p, uint8_t byte)
{
	if (p->replies < sizeof(p->reply))
		p->reply[p->replies++] = byte;
}

bool ps2_queue(struct ps2_port *p, const uint8_t *bytes, size_t len)
{
	if (len > (size_t)PS2_QUEUE - p->count)
		return false;
	memcpy(p->queue + p->count, bytes, len);
	p->count += len;
	return true;
}

bool ps2_valid(const struct ps2_port *p)
{
	return p->count <= PS2_QUEUE && p->replies <= sizeof(p->reply);
}

static const struct field port_fields[] = {
	FIELD_U8(struct ps2_port, queue),
	FIELD_U8(struct ps2_port, count),
	FIELD_U8(struct ps2_port, reply),
	FIELD_U8(struct ps2_port, replies),
	FIELD_U8(struct ps2_port, last),
	FIELD_U8(struct ps2_port, command),
	FIELD_END,
};

const struct field ps2_keyboard_fields[] = {
	FIELD_STRUCT(struct ps2_keyboard, port, port_fields, struct ps2_port),
	FIELD_U8(struct ps2_keyboard, scan_set),
	FIELD_U8(struct ps2_keyboard, leds),
	FIELD_U8(struct ps2_keyboard, typematic),
	FIELD_BOOL(struct ps2_keyboard, scanning),
	FIELD_END,
};

const struct field ps2_mouse_fields[] = {
	FIELD_STRUCT(struct ps2_mouse, port, port_fields, struct ps2_port),
	FIELD_U8(struct ps2_mouse, id),
	FIELD_U8(struct ps2_mouse, rate),
	FIELD_U8(struct ps2_mouse, resolution),
	FIELD_U8(struct ps2_mouse, knock),
	FIELD_BOOL(struct ps2_mouse, scaling),
	FIELD_BOOL(struct ps2_mouse, remote),
	FIELD_BOOL(struct ps2_mouse, wrap),
	FIELD_BOOL(struct ps2_mouse, reporting),
	FIELD_U8(struct ps2_mouse, buttons),
	FIELD_U8(struct ps2_mouse, reported),
	FIELD_U32(struct ps2_mouse, dx),
	FIELD_U32(struct ps2_mouse, dy),
	FIELD_U32(struct ps2_mouse, wheel),
	FIELD_END,
};
