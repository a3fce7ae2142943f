/* SPDX-License-Identifier: MIT */
/* 16550A UART, after the National Semiconductor PC16550D datasheet (June 1995); tables and section numbers are its.
 *
 * Modelled: both FIFOs, all four interrupts with their priorities and the character timeout, loopback, break,
 * modem lines (a connected line shows CTS, DSR and DCD). Characters take no time: what is sent goes to the backend
 * at once, and what the backend has arrives as soon as there is room, so a slow guest loses nothing to the cable.
 * Overruns happen in loopback only. As on a PC, OUT2 gates the interrupt output. */
#include "device/chips.h"
#include <errno.h>
#include <string.h>
#include "backend/chardev.h"

/* Registers, table 2. The first two are the divisor latch while LCR.DLAB is set. */
enum { RBR_THR_DLL = 0, IER_DLM = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7, PORTS = 8 };

#define IER_ERBFI 0x01u /* received data available, timeout */
#define IER_ETBEI 0x02u /* transmitter holding register empty */
#define IER_ELSI 0x04u  /* receiver line status */
#define IER_EDSSI 0x08u /* modem status */

#define IIR_NONE 0x01u
#define IIR_MODEM 0x00u
#define IIR_THRE 0x02u
#define IIR_RDA 0x04u
#define IIR_RLS 0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_FIFOS 0xc0u /* FIFOs are enabled */

#define FCR_ENABLE 0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_CLEAR_TX 0x04u
#define FCR_DMA_MODE 0x08u
#define FCR_TRIGGER_SHIFT 6

#define LCR_WLS 0x03u /* word length - 5 */
#define LCR_STB 0x04u /* two stop bits */
#define LCR_PEN 0x08u
#define LCR_BREAK 0x40u
#define LCR_DLAB 0x80u

#define MCR_DTR 0x01u
#define MCR_RTS 0x02u
#define MCR_OUT1 0x04u
#define MCR_OUT2 0x08u
#define MCR_LOOP 0x10u
#define MCR_BITS 0x1fu

#define LSR_DR 0x01u
#define LSR_OE 0x02u
#define LSR_PE 0x04u
#define LSR_FE 0x08u
#define LSR_BI 0x10u
#define LSR_THRE 0x20u
#define LSR_TEMT 0x40u
#define LSR_FIFO_ERROR 0x80u
#define LSR_ERRORS (LSR_OE | LSR_PE | LSR_FE | LSR_BI)

#define MSR_DCTS 0x01u
#define MSR_TERI 0x04u
#define MSR_CTS 0x10u
#define MSR_DSR 0x20u
#define MSR_RI 0x40u
#define MSR_DCD 0x80u
#define MSR_DELTAS 0x0fu

#define CRYSTAL_HZ 1843200u
#define FIFO_SIZE 16
/* What the backend is told it may send at once. It may have as much on its way when it is told again: the wire
 * holds both. */
#define WIRE_ROOM 16
#define WIRE_SIZE (2 * WIRE_ROOM)

struct ns16550_regs {
	uint8_t ier;               /* IER, read/write */
	uint8_t fcr;               /* FCR, write only: the bits that stay (enable, DMA mode, trigger) */
	uint8_t lcr;               /* LCR, read/write */
	uint8_t mcr;               /* MCR, read/write */
	uint8_t errors;            /* LSR bits 1 to 4, cleared by reading LSR */
	uint8_t msr;               /* MSR, deltas cleared by reading */
	uint8_t scr;               /* SCR, read/write */
	uint16_t divisor;          /* DLM:DLL, read/write with DLAB */
	bool thre_interrupt;       /* THR became empty, and IIR has not been read since */
	bool timeout;              /* characters wait for four character times */
	uint8_t rx[FIFO_SIZE];     /* RCVR FIFO; without FIFOs only the first (RBR) */
	uint8_t rx_errors[FIFO_SIZE]; /* LSR bits that come with each character */
	uint8_t rx_count;
	uint8_t tx[FIFO_SIZE];     /* XMIT FIFO or THR: what the backend does not take yet */
	uint8_t tx_count;
	uint8_t wire[WIRE_SIZE];   /* characters on their way to the receiver */
	uint8_t wire_breaks[WIRE_SIZE]; /* nonzero: a break, not a character */
	uint8_t wire_count;
	uint64_t timeout_at;       /* virtual ns of the character timeout, TIMER_OFF */
};

struct ns16550 {
	struct device device;
	struct ns16550_regs r;
	struct {
		struct chardev *chardev;
		struct irq_pin pin;
		struct timer timer;
	} host;
};

static struct ns16550 *of(struct device *d)
{
	return container_of(d, struct ns16550, device);
}

static bool fifos(const struct ns16550 *u)
{
	return u->r.fcr & FCR_ENABLE;
}

static unsigned capacity(const struct ns16550 *u)
{
	return fifos(u) ? FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct ns16550 *u)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };
	return fifos(u) ? levels[u->r.fcr >> FCR_TRIGGER_SHIFT] : 1;
}

/* Section 8.4.2.3: four character times, by line format and divisor. */
static uint64_t timeout_ns(const struct ns16550 *u)
{
	unsigned bits = 1 + 5 + (u->r.lcr & LCR_WLS) + (u->r.lcr & LCR_PEN ? 1 : 0) + (u->r.lcr & LCR_STB ? 2 : 1);
	uint64_t divisor = u->r.divisor ? u->r.divisor : 65536;
	return 4 * bits * 16 * divisor * 1000000000 / CRYSTAL_HZ;
}

/* Table 4: the pending interrupt of the highest priority. */
static unsigned iir(const struct ns16550 *u)
{
	if ((u->r.ier & IER_ELSI) && u->r.errors)
		return IIR_RLS;
	if ((u->r.ier & IER_ERBFI) && u->r.rx_count >= trigger_level(u))
		return IIR_RDA;
	if ((u->r.ier & IER_ERBFI) && u->r.timeout)
		return IIR_TIMEOUT;
	if ((u->r.ier & IER_ETBEI) && u->r.thre_interrupt)
		return IIR_THRE;
	if ((u->r.ier & IER_EDSSI) && (u->r.msr & MSR_DELTAS))
		return IIR_MODEM;
	return IIR_NONE;
}

static bool output(const struct ns16550 *u)
{
	return iir(u) != IIR_NONE && (u->r.mcr & MCR_OUT2) && !(u->r.mcr & MCR_LOOP);
}

static void update(struct ns16550 *u)
{
	irq_set(&u->host.pin, output(u));
}

/* The timeout counts anew from each character that comes or is read; once it has struck, only reading ends it
 * (8.4.2.3). */
static void restart_timeout(struct ns16550 *u)
{
	u->r.timeout = false;
	u->r.timeout_at = TIMER_OFF;
	if (fifos(u) && u->r.rx_count)
		u->r.timeout_at = clock_now(u->device.vm) + timeout_ns(u);
	timer_arm(&u->host.timer, u->r.timeout_at);
}

static void timeout_fired(struct device *d, void *arg)
{
	struct ns16550 *u = of(d);
	u->r.timeout_at = TIMER_OFF;
	u->r.timeout = u->r.rx_count != 0;
	update(u);
}

/* The receiver got a character. An error shows in LSR when its character is at the top of the FIFO (8.6.3). */
static void receive(struct ns16550 *u, uint8_t byte, uint8_t errors)
{
	if (u->r.rx_count == capacity(u)) {
		u->r.errors |= LSR_OE;
		if (!fifos(u)) { /* RBR is overwritten; a FIFO keeps what it has, and the shift register is lost */
			u->r.rx[0] = byte;
			u->r.errors |= errors;
		}
		return;
	}
	u->r.rx[u->r.rx_count] = byte;
	u->r.rx_errors[u->r.rx_count] = errors;
	if (!u->r.rx_count++)
		u->r.errors |= errors;
	if (!u->r.timeout)
		restart_timeout(u);
}

/* Takes from the wire what the receiver has room for. In loopback SIN is disconnected, and the other side waits. */
static void take_wire(struct ns16550 *u)
{
	unsigned taken = 0;
	if (u->r.mcr & MCR_LOOP)
		return;
	while (taken < u->r.wire_count && u->r.rx_count < capacity(u)) {
		receive(u, u->r.wire[taken], u->r.wire_breaks[taken] ? LSR_BI | LSR_FE : 0);
		taken++;
	}
	if (!taken)
		return;
	u->r.wire_count -= taken;
	memmove(u->r.wire, u->r.wire + taken, u->r.wire_count);
	memmove(u->r.wire_breaks, u->r.wire_breaks + taken, u->r.wire_count);
	if (!u->r.wire_count && u->host.chardev)
		u->host.chardev->ops->accept(u->host.chardev, WIRE_ROOM);
}

static void put_wire(struct ns16550 *u, uint8_t byte, bool is_break)
{
	if (u->r.wire_count == WIRE_SIZE) {
		u->r.errors |= LSR_OE;
		return;
	}
	u->r.wire[u->r.wire_count] = byte;
	u->r.wire_breaks[u->r.wire_count++] = is_break;
}

/* Hands the transmitter's bytes to the other side; what the backend does not take stays until CHARDEV_WRITABLE. */
static void transmit(struct ns16550 *u)
{
	size_t taken = u->r.tx_count;
	if (!taken)
		return;
	if (u->r.mcr & MCR_LOOP) {
		for (unsigned i = 0; i < taken; i++)
			receive(u, u->r.tx[i], 0);
	} else if (u->host.chardev) {
		taken = u->host.chardev->ops->write(u->host.chardev, u->r.tx, taken);
		taken = MIN(taken, u->r.tx_count);
	}
	u->r.tx_count -= taken;
	memmove(u->r.tx, u->r.tx + taken, u->r.tx_count);
	if (!u->r.tx_count)
		u->r.thre_interrupt = true;
}

static uint8_t read_rbr(struct ns16550 *u)
{
	uint8_t byte = u->r.rx[0];
	if (!u->r.rx_count)
		return byte;
	u->r.rx_count--;
	memmove(u->r.rx, u->r.rx + 1, u->r.rx_count);
	memmove(u->r.rx_errors, u->r.rx_errors + 1, u->r.rx_count);
	if (u->r.rx_count)
		u->r.errors |= u->r.rx_errors[0];
	restart_timeout(u);
	take_wire(u);
	return byte;
}

static uint8_t read_lsr(struct ns16550 *u)
{
	uint8_t value = u->r.errors;
	if (u->r.rx_count)
		value |= LSR_DR;
	if (!u->r.tx_count)
		value |= LSR_THRE | LSR_TEMT;
	if (fifos(u)) {
		for (unsigned i = 0; i < u->r.rx_count; i++)
			if (u->r.rx_errors[i])
				value |= LSR_FIFO_ERROR;
	}
	u->r.errors = 0;
	if (u->r.rx_count)
		u->r.rx_errors[0] = 0;
	return value;
}

/* 8.6.7: in loopback the four outputs come back as the four inputs; else a cable with a live modem is there, or
 * nothing. */
static void modem_lines(struct ns16550 *u)
{
	uint8_t lines = u->host.chardev ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
	if (u->r.mcr & MCR_LOOP) {
		lines = (u->r.mcr & MCR_RTS ? MSR_CTS : 0) | (u->r.mcr & MCR_DTR ? MSR_DSR : 0) |
			(u->r.mcr & MCR_OUT1 ? MSR_RI : 0) | (u->r.mcr & MCR_OUT2 ? MSR_DCD : 0);
	}
	uint8_t changed = (lines ^ u->r.msr) >> 4;
	if (lines & MSR_RI) /* TERI tells of the trailing edge only */
		changed &= ~MSR_TERI;
	u->r.msr = lines | (u->r.msr & MSR_DELTAS) | changed;
}

static void clear_rx(struct ns16550 *u)
{
	u->r.rx_count = 0;
	restart_timeout(u);
}

static void write_fcr(struct ns16550 *u, uint8_t value)
{
	if ((value ^ u->r.fcr) & FCR_ENABLE)
		value |= FCR_CLEAR_RX | FCR_CLEAR_TX; /* 8.6.2: changing the mode clears both */
	if (!(value & FCR_ENABLE))
		value &= ~(3u << FCR_TRIGGER_SHIFT | FCR_DMA_MODE);
	u->r.fcr = value & ~(FCR_CLEAR_RX | FCR_CLEAR_TX);
	if (value & FCR_CLEAR_RX)
		clear_rx(u);
	if ((value & FCR_CLEAR_TX) && u->r.tx_count) {
		u->r.tx_count = 0;
		u->r.thre_interrupt = true;
	}
	take_wire(u);
}

static void write_thr(struct ns16550 *u, uint8_t byte)
{
	u->r.thre_interrupt = false;
	if (u->r.tx_count == capacity(u)) /* the guest did not look at THRE: the last one is overwritten */
		u->r.tx_count--;
	u->r.tx[u->r.tx_count++] = byte;
	transmit(u);
}

static uint64_t ns16550_read(struct device *d, uint64_t offset, unsigned size)
{
	struct ns16550 *u = of(d);
	bool dlab = u->r.lcr & LCR_DLAB;
	uint8_t value = 0;
	switch (offset) {
	case RBR_THR_DLL:
		value = dlab ? (uint8_t)u->r.divisor : read_rbr(u);
		break;
	case IER_DLM:
		value = dlab ? (uint8_t)(u->r.divisor >> 8) : u->r.ier;
		break;
	case IIR_FCR:
		value = iir(u);
		if (value == IIR_THRE)
			u->r.thre_interrupt = false;
		value |= fifos(u) ? IIR_FIFOS : 0;
		break;
	case LCR:
		value = u->r.lcr;
		break;
	case MCR:
		value = u->r.mcr;
		break;
	case LSR:
		value = read_lsr(u);
		break;
	case MSR:
		value = u->r.msr;
		u->r.msr &= ~MSR_DELTAS;
		break;
	case SCR:
		value = u->r.scr;
		break;
	}
	update(u);
	return value;
}

static void write_ier(struct ns16550 *u, uint8_t value)
{
	value &= IER_ERBFI | IER_ETBEI | IER_ELSI | IER_EDSSI;
	if ((value & ~u->r.ier & IER_ETBEI) && !u->r.tx_count)
		u->r.thre_interrupt = true; /* 8.6.5: enabling it while THR is empty interrupts at once */
	u->r.ier = value;
}

static void write_mcr(struct ns16550 *u, uint8_t value)
{
	u->r.mcr = value & MCR_BITS;
	modem_lines(u);
	transmit(u);
	take_wire(u);
}

static void ns16550_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	struct ns16550 *u = of(d);
	bool dlab = u->r.lcr & LCR_DLAB;
	switch (offset) {
	case RBR_THR_DLL:
		if (dlab)
			u->r.divisor = (u->r.divisor & 0xff00) | (uint8_t)value;
		else
			write_thr(u, value);
		break;
	case IER_DLM:
		if (dlab)
			u->r.divisor = (uint16_t)((u->r.divisor & 0x00ff) | (value & 0xff) << 8);
		else
			write_ier(u, value);
		break;
	case IIR_FCR:
		write_fcr(u, value);
		break;
	case LCR:
		if ((value & ~u->r.lcr & LCR_BREAK) && (u->r.mcr & MCR_LOOP))
			receive(u, 0, LSR_BI | LSR_FE);
		u->r.lcr = value;
		break;
	case MCR:
		write_mcr(u, value);
		break;
	case SCR:
		u->r.scr = value;
		break;
	}
	update(u);
}

static void ns16550_event(struct device *d, unsigned kind, const void *data, size_t len)
{
	struct ns16550 *u = of(d);
	const uint8_t *bytes = data;
	switch (kind) {
	case CHARDEV_INPUT:
		for (size_t i = 0; i < len; i++)
			put_wire(u, bytes[i], false);
		take_wire(u);
		break;
	case CHARDEV_BREAK:
		put_wire(u, 0, true);
		take_wire(u);
		break;
	case CHARDEV_WRITABLE:
		transmit(u);
		break;
	}
	update(u);
}

/* Table 1, master reset. The divisor, SCR and the wire are not touched by the pin; a cold start clears them. */
static void ns16550_reset(struct device *d, enum reset_kind kind)
{
	struct ns16550 *u = of(d);
	struct ns16550_regs old = u->r;
	memset(&u->r, 0, sizeof(u->r));
	if (kind == RESET_WARM) {
		u->r.divisor = old.divisor;
		u->r.scr = old.scr;
		memcpy(u->r.wire, old.wire, sizeof(old.wire));
		memcpy(u->r.wire_breaks, old.wire_breaks, sizeof(old.wire_breaks));
		u->r.wire_count = old.wire_count;
	}
	modem_lines(u);
	u->r.msr &= ~MSR_DELTAS;
	restart_timeout(u);
	take_wire(u);
	if (u->host.chardev && !u->r.wire_count)
		u->host.chardev->ops->accept(u->host.chardev, WIRE_ROOM);
	update(u);
}

static int ns16550_post_load(struct device *d, uint32_t version)
{
	struct ns16550 *u = of(d);
	if (u->r.rx_count > capacity(u) || u->r.tx_count > capacity(u) || u->r.wire_count > WIRE_SIZE)
		return -EINVAL;
	u->r.errors &= LSR_ERRORS;
	for (unsigned i = 0; i < FIFO_SIZE; i++)
		u->r.rx_errors[i] &= LSR_ERRORS;
	u->r.ier &= IER_ERBFI | IER_ETBEI | IER_ELSI | IER_EDSSI;
	u->r.mcr &= MCR_BITS;
	modem_lines(u); /* another backend may be behind it now */
	timer_arm(&u->host.timer, u->r.timeout_at);
	take_wire(u);
	transmit(u);
	irq_pin_restore(&u->host.pin, output(u));
	return 0;
}

static int ns16550_init(struct device *d)
{
	static const struct bus_ops ops = { .read = ns16550_read, .write = ns16550_write, .max_size = 1 };
	struct ns16550 *u = of(d);
	const struct ns16550_config *config = d->place->config;
	irq_pin_init(&u->host.pin, d->vm, d->place->irq);
	timer_init(&u->host.timer, d, d->name, timeout_fired, NULL);
	int error = bus_add(d->vm, BUS_PORT, d->place->base, PORTS, &ops, d);
	if (error || !config || !config->chardev)
		return error;
	u->host.chardev = config->chardev;
	u->host.chardev->sink = d;
	return u->host.chardev->ops->start ? u->host.chardev->ops->start(u->host.chardev, d->vm) : 0;
}

static void ns16550_fini(struct device *d)
{
	struct ns16550 *u = of(d);
	timer_cancel(&u->host.timer);
	if (u->host.chardev && u->host.chardev->ops->stop)
		u->host.chardev->ops->stop(u->host.chardev);
}

static const struct field regs_fields[] = {
	FIELD_U8(struct ns16550_regs, ier),
	FIELD_U8(struct ns16550_regs, fcr),
	FIELD_U8(struct ns16550_regs, lcr),
	FIELD_U8(struct ns16550_regs, mcr),
	FIELD_U8(struct ns16550_regs, errors),
	FIELD_U8(struct ns16550_regs, msr),
	FIELD_U8(struct ns16550_regs, scr),
	FIELD_U16(struct ns16550_regs, divisor),
	FIELD_BOOL(struct ns16550_regs, thre_interrupt),
	FIELD_BOOL(struct ns16550_regs, timeout),
	FIELD_U8(struct ns16550_regs, rx),
	FIELD_U8(struct ns16550_regs, rx_errors),
	FIELD_U8(struct ns16550_regs, rx_count),
	FIELD_U8(struct ns16550_regs, tx),
	FIELD_U8(struct ns16550_regs, tx_count),
	FIELD_U8(struct ns16550_regs, wire),
	FIELD_U8(struct ns16550_regs, wire_breaks),
	FIELD_U8(struct ns16550_regs, wire_count),
	FIELD_U64(struct ns16550_regs, timeout_at),
	FIELD_END,
};

static const struct field fields[] = {
	FIELD_STRUCT(struct ns16550, r, regs_fields, struct ns16550_regs),
	FIELD_END,
};

const struct device_class ns16550_class = {
	.name = "ns16550", .summary = "16550A serial port", .size = sizeof(struct ns16550), .init = ns16550_init,
	.reset = ns16550_reset, .fini = ns16550_fini, .event = ns16550_event, .fields = fields, .version = 1,
	.post_load = ns16550_post_load,
};
DEVICE_CLASS(ns16550_class);
