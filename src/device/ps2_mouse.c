/* SPDX-License-Identifier: MIT */
/* The PS/2 mouse, after the IBM PS/2 hardware interface technical reference, auxiliary devices, with the wheel of
 * Microsoft's IntelliMouse, which appears after the sample rates 200, 100, 80 were set. */
#include "device/ps2.h"
#include <string.h>

enum mouse_command {
	SCALING_1 = 0xe6, SCALING_2 = 0xe7, RESOLUTION = 0xe8, STATUS = 0xe9, STREAM_MODE = 0xea, READ_DATA = 0xeb,
	WRAP_OFF = 0xec, WRAP_ON = 0xee, REMOTE_MODE = 0xf0, IDENTIFY = 0xf2, SAMPLE_RATE = 0xf3, ENABLE = 0xf4,
	DISABLE = 0xf5, DEFAULTS = 0xf6, RESEND = 0xfe, RESET = 0xff,
};
#define ID_WHEEL 3

#define REPORT_ALWAYS 0x08u
#define REPORT_X_SIGN 0x10u
#define REPORT_Y_SIGN 0x20u
#define REPORT_MAX 255
#define WHEEL_MAX 7
#define MOVEMENT_MAX 100000 /* what a mouse remembers; keeps the sums from overflowing */

#define STATUS_REMOTE 0x40u
#define STATUS_ENABLED 0x20u
#define STATUS_SCALING 0x10u

static void defaults(struct ps2_mouse *m)
{
	m->rate = 100;
	m->resolution = 2; /* 4 counts a millimetre */
	m->scaling = m->remote = m->reporting = false;
	m->dx = m->dy = m->wheel = 0;
	m->port.count = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
	uint8_t buttons = m->buttons;
	memset(m, 0, sizeof(*m));
	m->buttons = m->reported = buttons;
	defaults(m);
}

static int32_t clamp(int64_t value, int32_t limit)
{
	return value > limit ? limit : value < -limit ? -limit : value;
}

static int32_t step(int32_t *sum, int32_t limit)
{
	int32_t part = clamp(*sum, limit);
	*sum -= part;
	return part;
}

static size_t make_report(struct ps2_mouse *m, uint8_t *bytes)
{
	int32_t dx = step(&m->dx, REPORT_MAX), dy = step(&m->dy, REPORT_MAX), wheel = step(&m->wheel, WHEEL_MAX);
	bytes[0] = REPORT_ALWAYS | m->buttons | (dx < 0 ? REPORT_X_SIGN : 0) | (dy < 0 ? REPORT_Y_SIGN : 0);
	bytes[1] = dx;
	bytes[2] = dy;
	bytes[3] = wheel;
	m->reported = m->buttons;
	return m->id == ID_WHEEL ? 4 : 3;
}

void ps2_mouse_report(struct ps2_mouse *m)
{
	uint8_t report[4];
	bool news = m->dx || m->dy || m->wheel || m->buttons != m->reported;
	if (m->remote || m->wrap || !m->reporting || !news || m->port.count + sizeof(report) > PS2_QUEUE)
		return;
	ps2_queue(&m->port, report, make_report(m, report));
}

void ps2_mouse_input(struct ps2_mouse *m, int32_t dx, int32_t dy, int32_t wheel, uint8_t buttons)
{
	m->buttons = buttons & 7;
	if (!m->reporting && !m->remote)
		return;
	m->dx = clamp((int64_t)m->dx + dx, MOVEMENT_MAX);
	m->dy = clamp((int64_t)m->dy + dy, MOVEMENT_MAX);
	m->wheel = m->id == ID_WHEEL ? clamp((int64_t)m->wheel + wheel, MOVEMENT_MAX) : 0;
	ps2_mouse_report(m);
}

static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
	static const uint8_t knock[] = { 200, 100, 80 };
	m->rate = rate;
	if (rate != knock[m->knock])
		m->knock = 0;
	if (rate == knock[m->knock] && ++m->knock == sizeof(knock)) {
		m->knock = 0;
		m->id = ID_WHEEL;
	}
}

static void status(struct ps2_mouse *m)
{
	/* Left button in bit 2, middle in 1, right in 0: not the order of a report. */
	uint8_t buttons = (m->buttons & 1) << 2 | (m->buttons & 4) >> 1 | (m->buttons & 2) >> 1;
	ps2_reply(&m->port, (m->remote ? STATUS_REMOTE : 0) | (m->reporting ? STATUS_ENABLED : 0) |
		(m->scaling ? STATUS_SCALING : 0) | buttons);
	ps2_reply(&m->port, m->resolution);
	ps2_reply(&m->port, m->rate);
}

static void read_data(struct ps2_mouse *m)
{
	uint8_t report[4];
	size_t len = make_report(m, report);
	for (size_t i = 0; i < len; i++)
		ps2_reply(&m->port, report[i]);
}

/* Commands without an argument, after their acknowledge. */
static void perform(struct ps2_mouse *m, uint8_t command)
{
	switch (command) {
	case SCALING_1:
	case SCALING_2:
		m->scaling = command == SCALING_2;
		break;
	case STATUS:
		status(m);
		break;
	case STREAM_MODE:
	case REMOTE_MODE:
		m->remote = command == REMOTE_MODE;
		break;
	case READ_DATA:
		read_data(m);
		break;
	case WRAP_ON:
	case WRAP_OFF:
		m->wrap = command == WRAP_ON;
		break;
	case IDENTIFY:
		ps2_reply(&m->port, m->id);
		break;
	case ENABLE:
	case DISABLE:
		m->reporting = command == ENABLE;
		break;
	case DEFAULTS:
		defaults(m);
		break;
	case RESOLUTION:
	case SAMPLE_RATE:
		m->port.command = command;
		break;
	}
}

void ps2_mouse_command(struct ps2_mouse *m, uint8_t byte)
{
	uint8_t command = m->port.command;
	m->port.command = 0;
	if (m->wrap && byte != RESET && byte != WRAP_OFF) {
		ps2_reply(&m->port, byte);
	} else if (command == SAMPLE_RATE) {
		set_rate(m, byte);
		ps2_reply(&m->port, PS2_ACK);
	} else if (command == RESOLUTION) {
		m->resolution = byte & 3;
		ps2_reply(&m->port, PS2_ACK);
	} else if (byte == RESET) {
		ps2_mouse_reset(m);
		ps2_reply(&m->port, PS2_ACK);
		ps2_reply(&m->port, PS2_SELF_TEST_PASSED);
		ps2_reply(&m->port, m->id);
	} else if (byte == RESEND) {
		ps2_reply(&m->port, m->port.last);
	} else if ((byte >= SCALING_1 && byte <= WRAP_OFF) || byte == WRAP_ON || byte == REMOTE_MODE ||
		(byte >= IDENTIFY && byte <= DEFAULTS)) {
		ps2_reply(&m->port, PS2_ACK);
		perform(m, byte);
	} else {
		ps2_reply(&m->port, PS2_RESEND);
	}
}

bool ps2_mouse_valid(const struct ps2_mouse *m)
{
	bool sums = m->dx == clamp(m->dx, MOVEMENT_MAX) && m->dy == clamp(m->dy, MOVEMENT_MAX) &&
		m->wheel == clamp(m->wheel, MOVEMENT_MAX);
	return ps2_valid(&m->port) && sums && m->knock < 3 && m->buttons < 8 && (!m->id || m->id == ID_WHEEL);
}
