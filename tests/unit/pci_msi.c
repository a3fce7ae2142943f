/* SPDX-License-Identifier: MIT */
/* MSI and MSI-X of a PCI function: capabilities, masks, pending bits, where messages go. */
#include "device/pci.h"
#include "machine.h"

#define SLOT 3
#define TOY PCI_AT(SLOT, 0)
#define TABLE 0xe0000000ULL
#define PENDING (TABLE + 0x800)
#define VECTORS 5
#define MSI_VECTORS 4
#define LINE 10
enum { BAR_TABLE = 1 };

struct toy {
	struct device device;
	struct pci_function pci;
	struct pci_msix msix;
};

static const struct pci_model model = {
	.vendor = 0x1b36, .device = 0x00ee, .class = 0x0b4001, .pin = 1,
	.bar = { [BAR_TABLE] = { .kind = PCI_BAR_MEMORY, .size = 4096, .ops = &pci_msix_ops } },
};

static int toy_init(struct device *d)
{
	struct toy *t = (struct toy *)d;
	int error = pci_function_init(&t->pci, d, &model);
	if (!error)
		error = pci_msi_init(&t->pci, MSI_VECTORS);
	return error ? error : pci_msix_init(&t->pci, &t->msix, BAR_TABLE, VECTORS);
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
	FIELD_STRUCT(struct toy, msix, pci_msix_fields, struct pci_msix),
	FIELD_END,
};
static const struct device_class toy_class = {
	.name = "toy", .summary = "a function with messages", .size = sizeof(struct toy), .init = toy_init, .reset = toy_reset,
	.fields = toy_fields, .version = 1, .post_load = toy_post_load,
};
static const struct device_place places[] = {
	{ .class = &pci_class, .name = "pci", .irq = -1 },
	{ .class = &piix3_class, .name = "piix3", .base = PCI_AT(1, 0), .irq = -1 },
	{ .class = &toy_class, .name = "toy", .base = TOY, .irq = -1 },
};
static struct vm *vm;

/* What arrived last at the interrupt controller. */
static unsigned messages;
static uint64_t last_address;
static uint32_t last_data;

static void take_message(struct device *d, uint64_t address, uint32_t data)
{
	messages++;
	last_address = address;
	last_data = data;
}

static const struct irq_controller controller = { .message = take_message };

static struct vm *make(void)
{
	struct vm *v = machine(1, places, ARRAY_SIZE(places));
	v->irq.controller = &controller;
	return v;
}

static void fresh(void)
{
	if (vm)
		vm_destroy(vm);
	vm = make();
	messages = 0;
	pci_write(vm, PCI_AT(1, 0), PIIX3_PIRQ_ROUTE + pci_pirq(TOY, 1), 1, LINE);
	pci_write(vm, TOY, PCI_BAR + 4 * BAR_TABLE, 4, TABLE);
	pci_write(vm, TOY, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static struct pci_function *toy(void)
{
	return &((struct toy *)device_find(vm, "toy"))->pci;
}

static unsigned capability(unsigned id)
{
	unsigned at = pci_read(vm, TOY, PCI_CAPABILITIES, 1);
	while (at && pci_read(vm, TOY, at, 1) != id)
		at = pci_read(vm, TOY, at + 1, 1);
	return at;
}

static bool raise(unsigned vector)
{
	pthread_mutex_lock(&toy()->device->lock);
	bool sent = pci_message(toy(), vector);
	pthread_mutex_unlock(&toy()->device->lock);
	return sent;
}

static void table_write(unsigned vector, unsigned word, uint32_t value)
{
	bus_write(vm, BUS_MEMORY, TABLE + 16 * vector + 4 * word, 4, value);
}

static void set_vector(unsigned vector, uint64_t address, uint32_t data, bool masked)
{
	table_write(vector, 0, (uint32_t)address);
	table_write(vector, 1, (uint32_t)(address >> 32));
	table_write(vector, 2, data);
	table_write(vector, 3, masked);
}

static void msi(void)
{
	fresh();
	unsigned at = capability(PCI_CAP_MSI);
	ok(at && (pci_read(vm, TOY, PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES), "msi: in the list");
	ok(pci_read(vm, TOY, at + 2, 2) == 0x0184, "msi: four vectors, 64 bits, masks");
	ok(!raise(0) && !messages, "msi: disabled, nothing is sent");
	pci_write(vm, TOY, at + 4, 4, 0xfee01003);
	pci_write(vm, TOY, at + 12, 2, 0x4143);
	pci_write(vm, TOY, at + 2, 2, 0x0021);
	ok(pci_read(vm, TOY, at + 2, 2) == 0x01a5 && pci_read(vm, TOY, at + 4, 4) == 0xfee01000, "msi: what can be written");
	ok(raise(0) && messages == 1 && last_address == 0xfee01000 && last_data == 0x4140, "msi: the first vector");
	ok(raise(2) && last_data == 0x4142, "msi: a vector is the low bits of the data");
	pci_write(vm, TOY, at + 2, 2, 0x0001);
	ok(raise(2) && last_data == 0x4143, "msi: with one vector enabled all are that one");
	pci_write(vm, TOY, at + 16, 4, 0xffffffff);
	ok(pci_read(vm, TOY, at + 16, 4) == 0xf, "msi: a mask for each vector");
	messages = 0;
	raise(1);
	ok(!messages && pci_read(vm, TOY, at + 20, 4) == 2, "msi: masked is pending");
	pci_write(vm, TOY, at + 20, 4, 0xffffffff);
	ok(pci_read(vm, TOY, at + 20, 4) == 2, "msi: pending bits are read only");
	pci_write(vm, TOY, at + 16, 4, 0xd);
	ok(messages == 1 && !pci_read(vm, TOY, at + 20, 4), "msi: and leaves when it is unmasked");
	pci_write(vm, TOY, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	ok(raise(1) && messages == 1, "msi: not without bus mastering");
	pci_write(vm, TOY, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	uint32_t word = 0;
	pci_write(vm, TOY, at + 4, 4, 0x2000);
	raise(1);
	ok(messages == 1 && !guest_read(vm, 0x2000, &word, 4) && word == 0x4143, "msi: to memory it is a write");
	pci_write(vm, TOY, at + 8, 4, 0x7fffffff);
	ok(raise(1) && messages == 1, "msi: to nowhere it is lost");
}

static void msix(void)
{
	fresh();
	unsigned at = capability(PCI_CAP_MSIX);
	ok(at && pci_read(vm, TOY, at + 2, 2) == VECTORS - 1, "msix: in the list, with its size");
	ok(pci_read(vm, TOY, at + 4, 4) == BAR_TABLE && pci_read(vm, TOY, at + 8, 4) == (0x800 | BAR_TABLE), "msix: where the table is");
	ok(bus_read(vm, BUS_MEMORY, TABLE + 12, 4) == 1 && bus_read(vm, BUS_MEMORY, TABLE + 16 * VECTORS, 4) == 0,
	   "msix: masked after reset, nothing behind the last");
	for (unsigned i = 0; i < VECTORS; i++)
		set_vector(i, 0xfee00000 | i << 12, 0x50 + i, i == 3);
	ok(bus_read(vm, BUS_MEMORY, TABLE + 40, 4) == 0x52, "msix: the table is read back");
	ok(!raise(1), "msix: disabled");
	pci_write(vm, TOY, at + 2, 2, 0xffff);
	ok(pci_read(vm, TOY, at + 2, 2) == (0xc000 | (VECTORS - 1)), "msix: enabled, all masked");
	raise(1);
	raise(3);
	ok(!messages && bus_read(vm, BUS_MEMORY, PENDING, 4) == 0xa, "msix: pending");
	pci_write(vm, TOY, at + 2, 2, 0x8000);
	ok(messages == 1 && last_data == 0x51 && last_address == 0xfee01000, "msix: unmasked by the function");
	table_write(3, 3, 0);
	ok(messages == 2 && last_data == 0x53 && !bus_read(vm, BUS_MEMORY, PENDING, 4), "msix: and by the vector");
	bus_write(vm, BUS_MEMORY, PENDING, 4, 0xff);
	bus_write(vm, BUS_MEMORY, TABLE + 2, 1, 0xff);
	bus_write(vm, BUS_MEMORY, TABLE + 16 * VECTORS, 4, 0xff);
	ok(!bus_read(vm, BUS_MEMORY, PENDING, 4) && messages == 2, "msix: pending bits are read only, bytes are nothing");
	ok(raise(VECTORS) && raise(63) && raise(0xffff) && messages == 2, "msix: a vector that is none");
	pthread_mutex_lock(&toy()->device->lock);
	pci_intx(toy(), true);
	pthread_mutex_unlock(&toy()->device->lock);
	ok(!line_level[LINE], "msix: the pin is silent");
	pci_write(vm, TOY, at + 2, 2, 0);
	ok(line_level[LINE], "msix: disabled, it speaks");
	device_reset_all(vm, RESET_COLD);
	ok(!line_level[LINE] && !pci_read(vm, TOY, PCI_COMMAND, 2), "msix: reset");
}

static void round_trip(void)
{
	fresh();
	unsigned at = capability(PCI_CAP_MSIX);
	set_vector(2, 0xfee02000, 0x62, true);
	pci_write(vm, TOY, at + 2, 2, 0x8000);
	raise(2);
	struct vm *one = vm, *two = make();
	ok(copy_state(one, two) && same_state(one, two), "msix: state loads");
	vm = two;
	messages = 0;
	table_write(2, 3, 0);
	ok(messages == 1 && last_data == 0x62, "msix: and what was pending comes");
	vm = one;
	pci_write(vm, TOY, at + 2, 2, 0);
	at = capability(PCI_CAP_MSI);
	pci_write(vm, TOY, at + 4, 4, 0xfee00000);
	pci_write(vm, TOY, at + 16, 4, 1);
	pci_write(vm, TOY, at + 2, 2, 1);
	raise(0);
	ok(copy_state(one, two) && same_state(one, two), "msi: state loads");
	vm = two;
	messages = 0;
	pci_write(vm, TOY, at + 16, 4, 0);
	ok(messages == 1, "msi: and what was pending comes");
	vm = one;
	vm_destroy(two);
}

static void use(struct vm *v)
{
	vm = v;
	for (unsigned at = 0; at < PCI_CONFIG_SIZE; at += 4)
		pci_write(vm, TOY, at, 4, pci_read(vm, TOY, at, 4));
	for (unsigned i = 0; i < 8; i++)
		raise(i);
	bus_write(vm, BUS_MEMORY, TABLE + 12, 4, 0);
}

int main(void)
{
	msi();
	msix();
	round_trip();
	fresh();
	abuse_state(vm, "toy", use);
	vm_destroy(vm);
	return done();
}
