/* SPDX-License-Identifier: MIT */
/* PCI: configuration mechanism 1, the masks of configuration space, base address registers and what they map,
 * interrupt pins. */
#include "device/pci.h"
#include "machine.h"

#define ENABLE 0x80000000u
#define TOY_SLOT 3
#define TOY PCI_AT(TOY_SLOT, 0)
#define LINE_A 10 /* where the tests route the toy's pin */

/* A function with one BAR of each kind; what was accessed last can be asked. */
struct toy {
	struct device device;
	struct pci_function pci;
	unsigned written_at, written_size, writes;
};

static uint64_t last_offset, last_value;

static uint64_t toy_read(struct device *d, uint64_t offset, unsigned size)
{
	last_offset = offset;
	return 0x5a;
}

static void toy_write(struct device *d, uint64_t offset, unsigned size, uint64_t value)
{
	last_offset = offset;
	last_value = value;
}

static void toy_written(struct device *d, unsigned at, unsigned size)
{
	struct toy *t = (struct toy *)d;
	t->written_at = at;
	t->written_size = size;
	t->writes++;
}

static const struct bus_ops toy_ops = { .read = toy_read, .write = toy_write, .max_size = 4 };
static const struct pci_register toy_registers[] = {
	{ .at = 0x40, .size = 4, .reset = 0x12345678, .writable = 0x0000ff00, .clear = 0x000000ff },
	{ .at = 0x80, .size = 2, .reset = 0x0005 },
};
enum { BAR_PORTS = 0, BAR_MEMORY = 1, BAR_WIDE = 2, BAR_RAM = 4 };
static const struct pci_model toy_model = {
	.vendor = 0x1b36, .device = 0x00ee, .subsystem_vendor = 0x1234, .subsystem = 0x5678, .class = 0x0b4001,
	.revision = 9, .pin = 1,
	.status = 0x0200, .capabilities = 0x80,
	.bar = {
		[BAR_PORTS] = { .kind = PCI_BAR_IO, .size = 32, .ops = &toy_ops, .offset = 0x1000 },
		[BAR_MEMORY] = { .kind = PCI_BAR_MEMORY, .size = 4096, .ops = &toy_ops, .offset = 0x2000 },
		[BAR_WIDE] = { .kind = PCI_BAR_MEMORY64, .prefetchable = true, .size = 64 * KiB, .ops = &toy_ops,
			.offset = 0x10000 },
		[BAR_RAM] = { .kind = PCI_BAR_MEMORY, .prefetchable = true, .size = MiB },
		[PCI_ROM] = { .kind = PCI_BAR_ROM, .size = 4096 },
	},
	.registers = toy_registers, .register_count = ARRAY_SIZE(toy_registers), .written = toy_written,
};

static int toy_init(struct device *d)
{
	struct toy *t = (struct toy *)d;
	uint8_t rom[4096];
	uint64_t at;
	int error = pci_function_init(&t->pci, d, &toy_model);
	if (error)
		return error;
	memset(rom, 0xc3, sizeof(rom));
	memory_reserve(d->vm, rom, sizeof(rom), "toy-rom", &at);
	pci_bar_memory(&t->pci, PCI_ROM, at, MEMORY_ROM);
	memory_reserve(d->vm, NULL, MiB, "toy-ram", &at);
	pci_bar_memory(&t->pci, BAR_RAM, at, MEMORY_RAM);
	return 0;
}

static void toy_reset(struct device *d, enum reset_kind kind)
{
	pci_function_reset(&((struct toy *)d)->pci);
}

static int toy_post_load(struct device *d, uint32_t version)
{
	pci_function_loaded(&((struct toy *)d)->pci);
	return 0;
}

static const struct field toy_fields[] = {
	FIELD_STRUCT(struct toy, pci, pci_function_fields, struct pci_function),
	FIELD_END,
};
static const struct device_class toy_class = {
	.name = "toy", .summary = "a PCI function", .size = sizeof(struct toy), .init = toy_init, .reset = toy_reset,
	.fields = toy_fields,
	.version = 1, .post_load = toy_post_load,
};

static const struct pci_config pci_place_config = { .reset_control = "cf9" };
static const struct device_place places[] = {
	{ .class = &cf9_class, .name = "cf9", .irq = -1 },
	{ .class = &debug_exit_class, .name = "other", .base = 0x6000, .irq = -1 },
	{ .class = &pci_class, .name = "pci", .irq = -1, .config = &pci_place_config },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &toy_class, .name = "toy", .base = TOY, .irq = -1 },
	{ .class = &toy_class, .name = "toy1", .base = TOY + 1, .irq = -1 },
};
static struct vm *vm;

static struct toy *toy(const char *name)
{
	return (struct toy *)device_find(vm, name);
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = machine(1, places, ARRAY_SIZE(places));
}

static void select_register(unsigned devfn, unsigned at)
{
	bus_write(vm, BUS_PORT, 0xcf8, 4, ENABLE | devfn << 8 | (at & 0xfc));
}

static uint32_t get(unsigned devfn, unsigned at, unsigned size)
{
	select_register(devfn, at);
	return (uint32_t)bus_read(vm, BUS_PORT, 0xcfc + (at & 3), size);
}

static void put(unsigned devfn, unsigned at, unsigned size, uint32_t value)
{
	select_register(devfn, at);
	bus_write(vm, BUS_PORT, 0xcfc + (at & 3), size, value);
}

static uint8_t peek(gpa_t at)
{
	uint8_t byte = 0;
	return guest_read(vm, at, &byte, 1) ? 0xee : byte;
}

static void mechanism(void)
{
	fresh();
	bus_write(vm, BUS_PORT, 0xcf8, 4, 0xffffffff);
	ok(bus_read(vm, BUS_PORT, 0xcf8, 4) == 0x80fffffc, "pci: reserved bits of the address register");
	bus_write(vm, BUS_PORT, 0xcf8, 4, ENABLE | TOY << 8);
	bus_write(vm, BUS_PORT, 0xcf8, 1, 0x55);
	bus_write(vm, BUS_PORT, 0xcfa, 2, 0x5555);
	ok(bus_read(vm, BUS_PORT, 0xcf8, 4) == (ENABLE | TOY << 8),
		"pci: smaller writes do not reach the address register");
	ok(bus_read(vm, BUS_PORT, 0xcf8, 1) == 0xff && bus_read(vm, BUS_PORT, 0xcfa, 2) == 0xffff,
		"pci: nor do smaller reads");
	out8(vm, 0xcf9, 0x02);
	ok(in8(vm, 0xcf9) == 0x02 && !vm->reset_requested, "pci: the reset control register lies between");
	out8(vm, 0xcf9, 0x06);
	ok(vm->reset_requested, "pci: and resets");
	ok(bus_read(vm, BUS_PORT, 0xcf8, 2) == 0x06ff, "pci: a word over both is two bytes");
	ok(get(TOY, 0, 4) == 0x00ee1b36, "pci: IDs");
	ok(get(TOY, 2, 2) == 0x00ee && get(TOY, 1, 1) == 0x1b && get(TOY, 3, 1) == 0, "pci: words and bytes");
	ok(bus_read(vm, BUS_PORT, 0xcfd, 2) == 0xee1b, "pci: a word across");
	ok(get(PCI_AT(4, 0), 0, 4) == UINT32_MAX && get(PCI_AT(4, 0), 0, 1) == 0xff, "pci: nobody reads as ones");
	put(PCI_AT(4, 0), 4, 4, 7);
	bus_write(vm, BUS_PORT, 0xcf8, 4, TOY << 8);
	ok(bus_read(vm, BUS_PORT, 0xcfc, 4) == UINT32_MAX, "pci: not enabled");
	bus_write(vm, BUS_PORT, 0xcf8, 4, ENABLE | 1 << 16 | TOY << 8);
	ok(bus_read(vm, BUS_PORT, 0xcfc, 4) == UINT32_MAX, "pci: there is no bus 1");
	ok(get(TOY, PCI_HEADER, 1) == 0x80 && get(TOY + 1, PCI_HEADER, 1) == 0 && get(PCI_AT(1, 0), PCI_HEADER, 1) == 0,
	   "pci: the first of several functions says so");
	static const struct device_place again = { .class = &toy_class, .name = "again", .base = TOY, .irq = -1 };
	ok(!device_create(vm, &again), "pci: one function at a place");
}

static void masks(void)
{
	fresh();
	put(TOY, PCI_VENDOR, 4, 0);
	put(TOY, PCI_REVISION, 4, UINT32_MAX);
	ok(get(TOY, PCI_VENDOR, 4) == 0x00ee1b36 && get(TOY, PCI_REVISION, 4) == 0x0b400109,
		"pci: IDs and class are read only");
	put(TOY, PCI_COMMAND, 2, 0xffff);
	ok(get(TOY, PCI_COMMAND, 2) == 0x0547, "pci: command bits");
	ok(get(PCI_AT(1, 0), PCI_COMMAND, 2) == 7, "pci: command bits that are always set");
	put(TOY, PCI_STATUS, 2, 0xffff);
	ok(get(TOY, PCI_STATUS, 2) == 0x0210, "pci: status has a list of capabilities");
	ok(get(TOY, PCI_CAPABILITIES, 1) == 0x80 && get(TOY, 0x80, 2) == 0x0005, "pci: the list");
	ok(get(TOY, 0x2c, 4) == 0x56781234, "pci: subsystem");
	put(TOY, PCI_LINE, 2, 0xffff);
	ok(get(TOY, PCI_LINE, 2) == 0x01ff, "pci: line is written, pin is not");
	put(TOY, 0x40, 4, 0x0000aa0f);
	ok(get(TOY, 0x40, 4) == 0x1234aa70,
		"pci: the device's own register: read only, read/write, write one to clear");
	ok(toy("toy")->written_at == 0x40 && toy("toy")->written_size == 4, "pci: the device hears of it");
	put(TOY, 0x41, 1, 0x77);
	ok(get(TOY, 0x40, 4) == 0x12347770, "pci: one byte");
	device_reset_all(vm, RESET_COLD);
	ok(get(TOY, 0x40, 4) == 0x12345678 && get(TOY, PCI_COMMAND, 2) == 0, "pci: reset");
}

static void sizing(void)
{
	static const struct { unsigned at; uint32_t mask; const char *name; } bars[] = {
		{ 0x10, 0xffffffe1, "ports" }, { 0x14, 0xfffff000, "memory" },
			{ 0x18, 0xffff000c, "64 bits, prefetchable" },
		{ 0x1c, 0xffffffff, "its upper half" }, { 0x20, 0xfff00008, "RAM" }, { 0x24, 0, "none" },
			{ 0x30, 0xfffff001, "ROM" },
	};
	fresh();
	for (unsigned i = 0; i < ARRAY_SIZE(bars); i++) {
		put(TOY, bars[i].at, 4, UINT32_MAX);
		ok(get(TOY, bars[i].at, 4) == bars[i].mask, "bar: size of %s", bars[i].name);
	}
	put(TOY, PCI_COMMAND, 2, 3);
	ok(bus_read(vm, BUS_PORT, 0xffe0, 1) == 0xff, "bar: one that is being sized maps nothing");
}

static void mapping(void)
{
	fresh();
	put(TOY, 0x10, 4, 0xc000);
	put(TOY, 0x14, 4, 0xe0000000);
	put(TOY, 0x18, 4, 0);
	put(TOY, 0x1c, 4, 1);
	ok(in8(vm, 0xc000) == 0xff, "bar: nothing is there before it is enabled");
	put(TOY, PCI_COMMAND, 2, 1);
	ok(in8(vm, 0xc004) == 0x5a && last_offset == 0x1004 && in8(vm, 0xc020) == 0xff, "bar: ports");
	ok(bus_read(vm, BUS_MEMORY, 0xe0000000, 1) == 0xff, "bar: memory not yet");
	put(TOY, PCI_COMMAND, 2, 3);
	ok(bus_read(vm, BUS_MEMORY, 0xe0000ffc, 4) == 0x5a && last_offset == 0x2ffc, "bar: memory");
	bus_write(vm, BUS_MEMORY, 0x100000010, 4, 0x1234);
	ok(last_offset == 0x10010 && last_value == 0x1234, "bar: above 4 GiB");
	put(TOY, 0x10, 4, 0xd000);
	ok(in8(vm, 0xc004) == 0xff && in8(vm, 0xd004) == 0x5a, "bar: moved");
	put(TOY, 0x10, 4, 0x5ff0);
	ok(in8(vm, 0x5fe0) == 0x5a && last_offset == 0x1000, "bar: the low bits do not count");
	put(TOY, 0x10, 4, 0x6000);
	ok(in8(vm, 0x6004) == 0xff && in8(vm, 0x5fe0) == 0xff, "bar: on top of another device it maps nothing");
	put(TOY, 0x10, 4, 0xffff0000);
	ok(in8(vm, 0) == 0xff, "bar: ports beyond the last");
	put(TOY, 0x14, 4, 0x00100000);
	uint32_t value = 0x11223344;
	guest_write(vm, 0x100000, &value, 4);
	ok(peek(0x100000) == 0x44, "bar: RAM hides what is put under it");
	put(TOY, 0x1c, 4, 0xffffffff);
	put(TOY, 0x18, 4, 0xffff0000);
	ok(true, "bar: the end of the address space is nowhere");
	for (unsigned i = 0; i < 1000; i++)
		put(TOY, 0x10, 4, 0xc000 + (i & 1) * 0x20);
	ok(vm->bus.garbage >= BUS_GARBAGE && in8(vm, 0xc020) == 0x5a, "bar: moved a thousand times");
	bus_reclaim(vm);
	put(TOY, PCI_COMMAND, 2, 0);
	ok(in8(vm, 0xc020) == 0xff, "bar: disabled");
}

static void memory_bars(void)
{
	uint8_t byte = 0x77;
	fresh();
	put(TOY, 0x20, 4, 0xd0000000);
	put(TOY, 0x30, 4, 0xd8000000);
	put(TOY, PCI_COMMAND, 2, 2);
	ok(!guest_write(vm, 0xd0000123, &byte, 1) && peek(0xd0000123) == 0x77, "bar: RAM behind it");
	ok(peek(0xd8000000) == 0xee, "bar: the ROM has an enable of its own");
	put(TOY, 0x30, 4, 0xd8000001);
	ok(peek(0xd8000fff) == 0xc3 && guest_write(vm, 0xd8000000, &byte, 1), "bar: a ROM");
	put(TOY, 0x20, 4, 0xd4000000);
	ok(peek(0xd0000123) == 0xee && peek(0xd4000123) == 0x77, "bar: RAM keeps its contents when it moves");
	put(TOY, 0x20, 4, 0x00000000);
	put(TOY, 0x20, 4, 0x03f00000);
	ok(peek(0x03f00123) == 0, "bar: under the machine's RAM it is hidden");
	put(TOY, 0x20, 4, 0xd0000000);
	ok(peek(0xd0000123) == 0x77, "bar: and comes back");
	put(TOY, PCI_COMMAND, 2, 0);
	ok(peek(0xd0000123) == 0xee && peek(0xd8000000) == 0xee, "bar: all off");
}

static void intx(struct toy *t, bool level)
{
	pthread_mutex_lock(&t->device.lock);
	pci_intx(&t->pci, level);
	pthread_mutex_unlock(&t->device.lock);
}

static void interrupts(void)
{
	fresh();
	struct toy *one = toy("toy"), *two = toy("toy1");
	unsigned pirq = PIIX3_PIRQ_ROUTE + pci_pirq(TOY, 1);
	ok(pci_pirq(PCI_AT(1, 0), 1) == 0 && pci_pirq(PCI_AT(1, 0), 4) == 3 && pci_pirq(PCI_AT(3, 0), 1) == 2 &&
		pci_pirq(PCI_AT(5, 0), 2) == 1,
	   "intx: slots are turned against each other");
	intx(one, true);
	ok(!line_level[LINE_A] && (get(TOY, PCI_STATUS, 2) & PCI_STATUS_INTX), "intx: not routed, but in the status");
	put(PCI_AT(1, 0), pirq, 1, LINE_A);
	ok(line_level[LINE_A], "intx: routed");
	put(PCI_AT(1, 0), pirq, 1, 11);
	ok(!line_level[LINE_A] && line_level[11], "intx: routed elsewhere");
	put(PCI_AT(1, 0), pirq, 1, 13);
	ok(!line_level[11] && !line_level[13], "intx: not to the coprocessor's interrupt");
	put(PCI_AT(1, 0), pirq, 1, LINE_A);
	intx(two, true);
	intx(one, false);
	ok(line_level[LINE_A] && !(get(TOY, PCI_STATUS, 2) & PCI_STATUS_INTX), "intx: shared");
	put(TOY + 1, PCI_COMMAND, 2, PCI_COMMAND_NO_INTX);
	ok(!line_level[LINE_A] && (get(TOY + 1, PCI_STATUS, 2) & PCI_STATUS_INTX),
		"intx: disabled by the command register");
	put(TOY + 1, PCI_COMMAND, 2, 0);
	ok(line_level[LINE_A], "intx: and enabled");
	device_reset_all(vm, RESET_COLD);
	ok(!line_level[LINE_A] && get(PCI_AT(1, 0), pirq, 1) == PIIX3_NO_ROUTE, "intx: reset");
}

static void round_trip(void)
{
	fresh();
	put(PCI_AT(1, 0), PIIX3_PIRQ_ROUTE + pci_pirq(TOY, 1), 1, LINE_A);
	put(TOY, 0x10, 4, 0xc000);
	put(TOY, 0x20, 4, 0xd0000000);
	put(TOY, PCI_COMMAND, 2, 3);
	intx(toy("toy"), true);
	struct vm *one = vm, *two = machine(1, places, ARRAY_SIZE(places));
	ok(copy_state(one, two) && same_state(one, two), "pci: state loads");
	vm = two;
	ok(in8(vm, 0xc000) == 0x5a && peek(0xd0000000) == 0 && line_level[LINE_A], "pci: and is in force");
	intx(toy("toy"), false);
	ok(!line_level[LINE_A], "pci: the interrupt can be ended");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned at = 0; at < 0x60; at += 4)
		put(TOY, at, 4, get(TOY, at, 4));
	in8(v, 0xc000);
	intx(toy("toy"), true);
	intx(toy("toy"), false);
}

int main(void)
{
	mechanism();
	masks();
	sizing();
	mapping();
	memory_bars();
	interrupts();
	round_trip();
	fresh();
	abuse_state(vm, "toy", use);
	fresh();
	abuse_state(vm, "piix3", use);
	abuse_state(vm, "pci", use);
	vm_destroy(vm);
	return done();
}
