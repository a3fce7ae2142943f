/* SPDX-License-Identifier: MIT */
/* The 16550A against its datasheet (PC16550D): registers, FIFOs, interrupts and their priorities, loopback, flow
 * to and from the backend. */
#include "backend/chardev.h"
#include "machine.h"

#define BASE 0x3f8
#define IRQ 4
enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR, FCR = IIR };

static struct fake { /* a backend that takes `space` bytes */
	struct chardev chardev;
	uint8_t got[256];
	size_t count, space;
} fake;

static size_t fake_write(struct chardev *c, const uint8_t *data, size_t len)
{
	len = MIN(len, fake.space);
	for (size_t i = 0; i < len; i++)
		fake.got[fake.count++ % sizeof(fake.got)] = data[i];
	fake.space -= len;
	return len;
}

static void fake_accept(struct chardev *c, size_t room)
{
	c->room = room;
}

static const struct chardev_ops fake_ops = { .write = fake_write, .accept = fake_accept };
static const struct ns16550_config config = { .chardev = &fake.chardev };
static const struct device_place places[] = { { .class = &ns16550_class, .name = "uart", .base = BASE, .irq = IRQ,
	.config = &config } };

static struct vm *fresh(void)
{
	fake = (struct fake){ .chardev.ops = &fake_ops, .space = SIZE_MAX };
	return machine(1, places, 1);
}

static uint8_t in(struct vm *vm, unsigned reg)
{
	return in8(vm, BASE + reg);
}

static void out(struct vm *vm, unsigned reg, uint8_t value)
{
	out8(vm, BASE + reg, value);
}

/* As a backend does it: no more than there is room for. */
static void type(struct vm *vm, const char *text)
{
	while (*text && fake.chardev.room) {
		fake.chardev.room--;
		event_post(vm->devices, CHARDEV_INPUT, text++, 1);
	}
}

static void registers(void)
{
	struct vm *vm = fresh();
	ok(in(vm, IER) == 0 && in(vm, IIR) == 0x01 && in(vm, LCR) == 0 && in(vm, MCR) == 0,
	   "uart: table 1, registers after reset");
	ok(in(vm, LSR) == 0x60 && in(vm, MSR) == 0xb0, "uart: the transmitter is empty, the modem is there");
	out(vm, SCR, 0x5a);
	out(vm, IER, 0xff);
	out(vm, MCR, 0xe3);
	ok(in(vm, SCR) == 0x5a && in(vm, IER) == 0x0f && in(vm, MCR) == 0x03,
	   "uart: scratch, and bits that do not exist");
	out(vm, LCR, 0x83);
	out(vm, DATA, 0x0c);
	out(vm, IER, 0x01);
	ok(in(vm, DATA) == 0x0c && in(vm, IER) == 0x01, "uart: divisor latch");
	out(vm, LCR, 0x03);
	ok(in(vm, IER) == 0x0f, "uart: IER is untouched by DLM");
	out(vm, FCR, 0x01);
	ok((in(vm, IIR) & 0xc0) == 0xc0, "uart: IIR tells that the FIFOs are on");
	vm_destroy(vm);
}

static void transmitting(void)
{
	struct vm *vm = fresh();
	out(vm, MCR, 0x08);
	out(vm, IER, 0x02);
	ok(line_level[IRQ] && in(vm, IIR) == 0x02, "uart: enabling THRE with an empty THR interrupts");
	ok(in(vm, IIR) == 0x01 && !line_level[IRQ], "uart: reading IIR ends it");
	out(vm, DATA, 'a');
	ok(fake.count == 1 && fake.got[0] == 'a' && line_level[IRQ],
	   "uart: a byte goes out, and THRE interrupts again");
	out(vm, MCR, 0x00);
	ok(!line_level[IRQ], "uart: OUT2 gates the interrupt");
	out(vm, MCR, 0x08);
	in(vm, IIR);
	out(vm, FCR, 0x01);
	fake.space = 3;
	for (unsigned i = 0; i < 16; i++)
		out(vm, DATA, '0' + i);
	ok(fake.count == 4 && in(vm, LSR) == 0x00 && in(vm, IIR) == 0xc1,
	   "uart: a full backend holds the FIFO, THRE is clear");
	for (unsigned i = 0; i < 100000; i++)
		out(vm, DATA, 'x');
	ok(fake.count == 4, "uart: a flood goes nowhere");
	fake.space = SIZE_MAX;
	event_post(vm->devices, CHARDEV_WRITABLE, NULL, 0);
	ok(fake.count == 20 && in(vm, LSR) == 0x60 && in(vm, IIR) == 0xc2,
	   "uart: goes on when the backend can, one interrupt for the FIFO");
	ok(!memcmp(fake.got, "a0123456789:;<=>?xxx", 20), "uart: in order; the last place was overwritten");
	vm_destroy(vm);
}

static void receiving(void)
{
	struct vm *vm = fresh();
	out(vm, MCR, 0x08);
	out(vm, IER, 0x01);
	ok(fake.chardev.room == 16, "uart: the backend knows its room");
	type(vm, "hello");
	ok(in(vm, IIR) == 0x04 && line_level[IRQ] && in(vm, LSR) == 0x61, "uart: received data available");
	char text[6] = "";
	for (unsigned i = 0; in(vm, LSR) & 1; i++)
		text[i] = in(vm, DATA);
	ok(!strcmp(text, "hello") && in(vm, IIR) == 0x01 && !line_level[IRQ],
	   "uart: without FIFOs all comes, byte by byte");

	out(vm, FCR, 0x81); /* trigger at 8 */
	out(vm, LCR, 0x83);
	out(vm, DATA, 1); /* 115200 baud: a character of 10 bits takes 86.8 us */
	out(vm, LCR, 0x03);
	type(vm, "1234567");
	ok(in(vm, IIR) == 0xc1 && in(vm, LSR) == 0x61, "uart: below the trigger level there is no interrupt");
	clock_step(vm, 347 * MICROSECOND);
	ok(in(vm, IIR) == 0xc1, "uart: no timeout before four character times");
	clock_step(vm, MICROSECOND);
	ok(in(vm, IIR) == 0xcc && line_level[IRQ], "uart: character timeout after four");
	in(vm, DATA);
	ok(in(vm, IIR) == 0xc1, "uart: reading a character ends it");
	clock_step(vm, 348 * MICROSECOND);
	ok(in(vm, IIR) == 0xcc, "uart: and it comes again");
	type(vm, "89");
	ok(in(vm, IIR) == 0xc4, "uart: the trigger level interrupts, before the timeout");
	in(vm, DATA);
	ok(in(vm, IIR) == 0xc1, "uart: below it again, no more");

	fake.chardev.room = 32;
	for (unsigned i = 0; i < 100; i++)
		event_post(vm->devices, CHARDEV_INPUT, "x", 1);
	ok(in(vm, LSR) & 0x02, "uart: a backend that sends too much causes an overrun");
	ok(!(in(vm, LSR) & 0x02), "uart: reading LSR clears it");
	vm_destroy(vm);
}

static void breaks(void)
{
	struct vm *vm = fresh();
	out(vm, FCR, 0x01);
	out(vm, IER, 0x05);
	type(vm, "a");
	event_post(vm->devices, CHARDEV_BREAK, NULL, 0);
	ok(in(vm, LSR) == 0xe1 && in(vm, IIR) == 0xc4, "uart: a break in the FIFO shows in bit 7 only");
	in(vm, DATA);
	ok(in(vm, IIR) == 0xc6, "uart: at the top it is a line status interrupt, before received data");
	ok(in(vm, LSR) == 0xf9 && in(vm, IIR) == 0xc4 && in(vm, LSR) == 0x61, "uart: reading LSR clears BI and FE");
	ok(in(vm, DATA) == 0, "uart: the character of a break is 0");
	vm_destroy(vm);
}

static void loopback(void)
{
	struct vm *vm = fresh();
	out(vm, MCR, 0x10);
	ok(in(vm, MSR) == 0x0b, "uart: loopback takes the modem's lines away");
	ok(in(vm, MSR) == 0x00, "uart: reading MSR clears the deltas");
	out(vm, MCR, 0x1a);
	ok((in(vm, MSR) & 0xf0) == 0x90, "uart: RTS and OUT2 are CTS and DCD (the 8250 driver's probe)");
	out(vm, MCR, 0x14);
	in(vm, MSR);
	out(vm, MCR, 0x10);
	ok(in(vm, MSR) == 0x04, "uart: TERI is the trailing edge of RI");
	out(vm, IER, 0x08);
	out(vm, MCR, 0x11);
	ok(in(vm, IIR) == 0x00 && in(vm, MSR) == 0x22 && in(vm, IIR) == 0x01, "uart: modem status interrupt");
	out(vm, IER, 0x00);
	out(vm, DATA, 'z');
	ok(fake.count == 0 && in(vm, LSR) == 0x61 && in(vm, DATA) == 'z', "uart: a byte comes back");
	out(vm, DATA, '1');
	out(vm, DATA, '2');
	ok(in(vm, LSR) == 0x63 && in(vm, DATA) == '2', "uart: overrun, the newer character stays in RBR");
	out(vm, FCR, 0x01);
	for (unsigned i = 0; i < 17; i++)
		out(vm, DATA, 'a' + i);
	ok(in(vm, LSR) == 0x63 && in(vm, DATA) == 'a', "uart: overrun of the FIFO keeps the sixteen");
	type(vm, "k");
	out(vm, FCR, 0x03);
	ok(in(vm, LSR) == 0x60, "uart: clearing the FIFO; the outside waits");
	out(vm, LCR, 0x43);
	ok(in(vm, LSR) == 0xf9, "uart: break in loopback");
	in(vm, DATA);
	out(vm, MCR, 0x08);
	ok(in(vm, DATA) == 'k', "uart: after loopback the outside goes on");
	vm_destroy(vm);
}

static void round_trip(void)
{
	struct vm *one = fresh();
	out(one, MCR, 0x08);
	out(one, IER, 0x01);
	out(one, FCR, 0xc1);
	out(one, LCR, 0x83);
	out(one, DATA, 1);
	out(one, LCR, 0x03);
	type(one, "abc");
	fake.space = 0;
	out(one, DATA, 'q');
	clock_step(one, 100 * MICROSECOND);
	struct vm *two = machine(1, places, 1);
	fake.space = SIZE_MAX;
	fake.count = 0;
	ok(copy_state(one, two), "uart: state loads");
	ok(fake.count == 1 && fake.got[0] == 'q', "uart: what waited to be sent is sent");
	clock_step(two, 247 * MICROSECOND);
	ok(!line_level[IRQ], "uart: the timeout of the old machine goes on");
	clock_step(two, 2 * MICROSECOND);
	ok(line_level[IRQ] && in(two, IIR) == 0xcc && in(two, DATA) == 'a' && in(two, DATA) == 'b',
	   "uart: and strikes in the new one");
	vm_destroy(one);
	vm_destroy(two);
}

static void use(struct vm *vm)
{
	for (unsigned i = 0; i < 8; i++)
		in(vm, i);
	for (unsigned i = 0; i < 20; i++) {
		in(vm, DATA);
		out(vm, DATA, i);
	}
	type(vm, "xyz");
	out(vm, MCR, 0x1f);
	out(vm, DATA, 1);
	out(vm, MCR, 0x08);
	out(vm, FCR, 0x07);
	clock_step(vm, MILLISECOND);
}

int main(void)
{
	registers();
	transmitting();
	receiving();
	breaks();
	loopback();
	round_trip();
	struct vm *vm = fresh();
	type(vm, "abcdefgh");
	abuse_state(vm, "uart", use);
	vm_destroy(vm);
	return done();
}
